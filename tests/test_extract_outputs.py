"""Outputs are written from the state of a job, whole and in order, and never over what somebody else has written."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import pytest

from hermes_agent.errors import ConfigurationError, JobError
from hermes_agent.extract import output_jsonl, output_parquet
from hermes_agent.extract.outputs import Writer, open_output, state_path
from hermes_agent.extract.state import JobState
from tests.settled_rows import failure, value

KINDS = ["jsonl", "parquet", "sqlite"]


def job(out: Path, on_change: Literal["refuse", "restart"] = "refuse", model: str = "m") -> JobState:
    return JobState.open(state_path(out), facts={"model": model}, on_change=on_change)


def rows_of(out: Path) -> list[tuple[str, Any]]:
    """Id, and the value or the type of the error."""
    if out.suffix == ".jsonl":
        found = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
        return [(row["id"], row["output"] if "output" in row else row["error"]["type"]) for row in found]
    if out.suffix == ".parquet":
        table = import_module("pyarrow.parquet").read_table(out)
        assert table.column_names == ["id", "output", "error", "evidence"]
        rows = table.to_pylist()
    else:
        with closing(sqlite3.connect(out)) as connection:
            connection.row_factory = sqlite3.Row
            rows = list(map(dict, connection.execute("SELECT * FROM rows ORDER BY position")))
    return [
        (row["id"], json.loads(row["error"])["type"] if row["output"] is None else json.loads(row["output"]))
        for row in rows
    ]


def fill(state: JobState, writer: Writer, positions: list[int]) -> None:
    for at in range(0, len(positions), 7):
        state.add([failure(p) if p % 5 == 3 else value(p, p) for p in positions[at : at + 7]])
        writer.advance()


def expected(count: int, *, retried: bool = False) -> list[tuple[str, Any]]:
    return [(str(p), "InvalidOutputError" if p % 5 == 3 and not retried else p) for p in range(count)]


# What is written


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_written_once_in_the_order_of_the_input(tmp_path: Path, kind: str) -> None:
    out, luck = tmp_path / f"out.{kind}", random.Random(4)
    first, second = list(range(60)), list(range(40, 100))
    luck.shuffle(first)
    luck.shuffle(second)
    with job(out) as state:
        writer = open_output(out, state)
        fill(state, writer, first)
        writer.finish(False)
    assert rows_of(out) == expected(60)
    with job(out) as state:
        writer = open_output(out, state)
        fill(state, writer, second)
        writer.finish(True)
    assert rows_of(out) == expected(100)
    with job(out) as state:
        writer = open_output(out, state)
        state.add([value(p, p) for p in range(3, 100, 5)])
        writer.advance()
        writer.finish(True)
    assert rows_of(out) == expected(100, retried=True)
    assert {file.name for file in tmp_path.iterdir()} == {out.name, state_path(out).name}


def test_lines_are_written_as_soon_as_those_before_are(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with job(out) as state:
        writer = open_output(out, state)
        lengths: list[int] = []
        for position in (1, 2, 0, 4, 3, 6):
            state.add([value(position, position)])
            writer.advance()
            lengths.append(len(rows_of(out)))
        assert lengths == [0, 0, 3, 3, 5, 5]
        writer.finish(False)
        assert len(rows_of(out)) == 5
        writer.finish(True)
        assert len(rows_of(out)) == 6


@pytest.mark.parametrize("kind", KINDS)
def test_odd_texts_and_evidence(tmp_path: Path, kind: str) -> None:
    out = tmp_path / f"out.{kind}"
    odd = "\ud800 half a pair, NUL \x00, \u2028, 'quotes\"; -- and 🧵"
    with job(out) as state:
        writer = open_output(out, state)
        whole = value(1, {"a": odd})
        line = whole.line[:-1] + ', "evidence": {"/a": [0, 4]}}'
        state.add([value(0, [odd, 1e30, None, 10**40], name="a\udc00"), type(whole)(1, b"", line, False)])
        writer.advance()
        writer.finish(True)
    if kind == "jsonl":
        found = [json.loads(text) for text in out.read_text("utf-8").split("\n")[:-1]]
        assert [row["output"] for row in found] == [[odd, 1e30, None, 10**40], {"a": odd}]
        assert found[1]["evidence"] == {"/a": [0, 4]}
    else:
        assert rows_of(out) == [("a\ufffd", [odd, 1e30, None, 10**40]), ("1", {"a": odd})]


def test_nulls_are_values(tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    with job(out) as state:
        writer = open_output(out, state)
        state.add([value(0, None)])
        writer.finish(True)
    (row,) = import_module("pyarrow.parquet").read_table(out).to_pylist()
    assert row == {"id": "0", "output": "null", "error": None, "evidence": None}


def test_parquet_is_written_in_groups(tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    with patch.object(output_parquet, "_ROWS", 100), job(out) as state:
        writer = open_output(out, state)
        state.add([value(p, p) for p in range(1050)])
        writer.finish(True)
    assert import_module("pyarrow.parquet").ParquetFile(out).num_row_groups == 11
    assert rows_of(out) == [(str(p), p) for p in range(1050)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_without_rows(tmp_path: Path, kind: str) -> None:
    out = tmp_path / f"out.{kind}"
    with job(out) as state:
        open_output(out, state).finish(True)
    assert rows_of(out) == []


def test_what_is_a_link_stays_one(tmp_path: Path) -> None:
    out, real = tmp_path / "link.jsonl", tmp_path / "real.jsonl"
    out.symlink_to(real)
    for retried in (False, True):
        with job(out) as state:
            writer = open_output(out, state)
            state.add([value(0) if retried else failure(0)])
            writer.finish(True)
    assert out.is_symlink()
    assert rows_of(real) == [("0", 1)]


# What a killed process has left


@pytest.mark.parametrize("retried", [False, True])
def test_a_piece_of_a_line_is_completed(tmp_path: Path, retried: bool) -> None:
    """At every byte that the process can have come to."""
    out = tmp_path / "out.jsonl"
    with job(out) as state:
        writer = open_output(out, state)
        state.add([value(0, "é"), failure(1)])
        writer.advance()
        written = out.read_bytes()
        if retried:
            state.add([value(1)])
    for length in range(len(written)):
        out.write_bytes(written[:length])
        with job(out) as state:
            writer = open_output(out, state)
            writer.advance()
            ids = [row[0] for row in rows_of(out)]
            assert ids == ["0", "1"]
    with job(out) as state:
        open_output(out, state).finish(True)
    assert rows_of(out) == [("0", "é"), ("1", 1 if retried else "InvalidOutputError")]


# What others do


def append(out: Path) -> None:
    with out.open("ab") as file:
        file.write(b'{"id": "mine"}\n')


def change(out: Path) -> None:
    content = bytearray(out.read_bytes())
    content[len(content) // 2] ^= 1
    out.write_bytes(content)


def put_another(out: Path) -> None:
    another = out.with_name("another")
    another.write_bytes(b"something else")
    another.replace(out)


def cut(out: Path) -> None:
    os.truncate(out, 30)


def copy(out: Path) -> None:
    another = out.with_name("another")
    another.write_bytes(out.read_bytes())
    another.replace(out)


SPOILED: list[Callable[[Path], None]] = [append, change, put_another]
MENDED: list[Callable[[Path], None]] = [cut, copy, Path.unlink, Path.touch]


@pytest.mark.parametrize("meanwhile", [False, True], ids=["between", "meanwhile"])
@pytest.mark.parametrize("spoil", SPOILED)
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_what_somebody_else_wrote_is_left_alone(
    tmp_path: Path, kind: str, spoil: Callable[[Path], None], meanwhile: bool
) -> None:
    out, spoiled = tmp_path / f"out.{kind}", b""
    with job(out) as state:
        writer = open_output(out, state)
        fill(state, writer, list(range(20)))
        writer.finish(False)
        if meanwhile:
            spoil(out)
            spoiled = out.read_bytes()
            with pytest.raises(JobError, match="was changed by somebody else"):  # noqa: PT012  # which of them notices
                fill(state, writer, list(range(20, 40)))
                writer.finish(True)
    if not meanwhile:
        spoil(out)
        spoiled = out.read_bytes()
    with job(out) as state, pytest.raises(JobError, match="was changed by somebody else") as refused:
        open_output(out, state)
    assert repr(str(out)) in str(refused.value)
    assert "move it away and run again" in refused.value.hint
    assert out.read_bytes() == spoiled
    out.rename(tmp_path / "away")  # the way out
    with job(out) as state:
        writer = open_output(out, state)
        fill(state, writer, list(range(40)))
        writer.finish(True)
    assert rows_of(out) == expected(40)


@pytest.mark.parametrize("meanwhile", [False, True], ids=["between", "meanwhile"])
@pytest.mark.parametrize("spoil", MENDED)
def test_what_is_missing_is_written_again(tmp_path: Path, spoil: Callable[[Path], None], meanwhile: bool) -> None:
    out = tmp_path / "out.jsonl"
    with job(out) as state:
        writer = open_output(out, state)
        fill(state, writer, list(range(20)))
        if meanwhile:
            spoil(out)
            fill(state, writer, list(range(20, 40)))
        writer.finish(False)
    if not meanwhile:
        spoil(out)
    with job(out) as state:
        writer = open_output(out, state)
        fill(state, writer, list(range(20, 40)))
        writer.finish(True)
    assert rows_of(out) == expected(40)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_file_that_was_there_before_is_not_overwritten(tmp_path: Path, kind: str) -> None:
    out = tmp_path / f"out.{kind}"
    out.write_bytes(b"mine")
    with job(out) as state, pytest.raises(JobError, match="was not written by this job"):
        open_output(out, state)
    assert out.read_bytes() == b"mine"
    assert [file.name for file in tmp_path.iterdir()] == [out.name]
    with job(out, "restart") as state:
        writer = open_output(out, state)
        fill(state, writer, list(range(10)))
        writer.finish(True)
    assert rows_of(out) == expected(10)


@pytest.mark.parametrize("kind", KINDS)
def test_begun_anew_the_output_is_another(tmp_path: Path, kind: str) -> None:
    out = tmp_path / f"out.{kind}"
    for model, count in (("one", 20), ("two", 10)):
        with job(out, "restart", model) as state:
            writer = open_output(out, state)
            fill(state, writer, list(range(count)))
            writer.finish(True)
    assert rows_of(out) == expected(10)


def test_it_is_not_read_again_where_nobody_touched_it(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with job(out) as state:
        writer = open_output(out, state)
        fill(state, writer, list(range(20)))
        writer.finish(True)
    with job(out) as state, patch.object(output_jsonl.JsonlWriter, "_compare", side_effect=AssertionError):
        open_output(out, state).finish(True)


# What cannot be written


@pytest.mark.parametrize("kind", ["txt", "csv", ""])
def test_an_unknown_kind_names_those_that_are_known(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ConfigurationError, match="no kind of output that is known") as refused:
        state_path(tmp_path / f"out.{kind}")
    assert ".jsonl" in refused.value.hint
    assert ".parquet" in refused.value.hint


def test_parquet_without_pyarrow(tmp_path: Path) -> None:
    with patch.dict(sys.modules, {"pyarrow": None}), pytest.raises(ConfigurationError, match="needs pyarrow") as told:
        state_path(tmp_path / "out.parquet")
    assert "pip install" in told.value.hint


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_is_no_output(tmp_path: Path, kind: str) -> None:
    out = tmp_path / f"out.{kind}"
    out.mkdir()
    with pytest.raises(JobError, match="is a folder"), job(out) as state:
        open_output(out, state)
    assert [file.name for file in tmp_path.iterdir()] == [out.name]


def mounted(folder: Path, options: str) -> None:
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("file systems can only be mounted by root, on Linux")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    mounted(folder, "size=2m")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("kind", KINDS)
def test_in_a_folder_that_must_not_be_written(small_disk: Path, kind: str) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(JobError, match="cannot be written") as refused:
        job(small_disk / f"out.{kind}")
    assert "may be written" in refused.value.hint


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_loses_nothing(small_disk: Path, kind: str) -> None:
    luck = random.Random(4)
    out, done, ballast = small_disk / f"out.{kind}", 0, small_disk / "ballast"
    told: list[str] = []
    for free in (60, 120, 200, 300, 500):  # KiB
        ballast.unlink(missing_ok=True)
        used = sum(file.stat().st_blocks // 2 for file in small_disk.iterdir())
        ballast.write_bytes(b"x" * max(0, 2048 - used - free) * 1024)
        try:
            with job(out) as state:
                writer = open_output(out, state)
                done = state.counts().rows
                for _ in range(60):
                    state.add([value(done, [luck.random() for _ in range(100)])])
                    done += 1
                    writer.advance()
                writer.finish(False)
        except JobError as error:
            told.append(error.message)
    assert len(told) >= 2
    assert all("cannot be written" in message for message in told)
    ballast.unlink()
    with job(out) as state:
        assert state.counts().rows == done
        writer = open_output(out, state)
        writer.finish(True)
    assert [row[0] for row in rows_of(out)] == [str(p) for p in range(done)]


def test_a_write_that_fails_half_way_is_taken_back(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"

    def half(handle: int, content: bytes) -> None:
        os.write(handle, content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    with job(out) as state:
        writer = open_output(out, state)
        fill(state, writer, list(range(10)))
        before = out.read_bytes()
        with patch.object(output_jsonl, "_write_all", half), pytest.raises(JobError, match="No space left"):
            fill(state, writer, list(range(10, 17)))
        assert out.read_bytes() == before
        writer.advance()
        assert rows_of(out) == expected(17)
