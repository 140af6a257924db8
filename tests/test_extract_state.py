"""The state of a job: durable, held by one process, told apart from other files; nothing is lost to a full disk."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes_agent.errors import JobError
from hermes_agent.extract.row import Settled
from hermes_agent.extract.state import JobState
from tests.settled_rows import failure, value

FACTS = {"fingerprint": "f", "model": "a-model", "output": "Invoice"}
ROOT = Path(__file__).parent.parent


def open_state(path: Path, facts: Mapping[str, str] = FACTS) -> JobState:
    return JobState.open(path, facts=facts, on_change="refuse")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl.job"


@pytest.fixture
def state(path: Path) -> Iterator[JobState]:
    with open_state(path) as made:
        yield made


# What is added is there


def test_rows_come_back_in_the_order_of_the_input(state: JobState, path: Path) -> None:
    rows = [value(3), failure(0), value(1)]
    state.add(rows)
    state.close()
    with open_state(path) as again:
        assert list(again.lines()) == [(row.position, row.line, row.failed) for row in (rows[1], rows[2], rows[0])]
        assert list(again.lines(1)) == [(row.position, row.line, row.failed) for row in (rows[2], rows[0])]
        found = [(row.position, row.digest, row.failed) for row in (rows[1], rows[2], rows[0])]
        assert list(again.settled_positions()) == found
        counts = again.counts()
        assert (counts.rows, counts.failed, counts.failures) == (3, 1, {"InvalidOutputError": 1})
        assert (counts.input_tokens, counts.output_tokens) == (40, 4)


def test_only_what_failed_is_replaced(state: JobState) -> None:
    state.add([value(0, "first"), failure(1, "A"), failure(2, "A")])
    state.add([value(0, "second"), value(1, "now"), failure(2, "B"), value(3)])
    assert [line for _, line, _ in state.lines()] == [
        value(0, "first").line, value(1, "now").line, failure(2, "B").line, value(3).line
    ]  # fmt: skip
    counts = state.counts()
    assert (counts.rows, counts.failed, counts.failures) == (4, 1, {"B": 1})


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["", "A", "B"])), max_size=6), max_size=6))
def test_the_counts_are_those_of_the_rows(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[tuple[int, str]]]
) -> None:
    model: dict[int, str] = {}
    with open_state(tmp_path_factory.mktemp("state") / "x.job") as state:
        for batch in batches:
            state.add([failure(at, kind) if kind else value(at) for at, kind in batch])
            for at, kind in batch:
                if model.get(at, "new"):
                    model[at] = kind
        counts = state.counts()
        assert [(at, failed) for at, _, failed in state.lines()] == [(at, bool(model[at])) for at in sorted(model)]
    assert (counts.rows, counts.failed) == (len(model), sum(map(bool, model.values())))
    assert sum(counts.failures.values()) == counts.failed


def test_positions_are_read_while_rows_are_added(state: JobState) -> None:
    state.add([value(at) for at in range(0, 5000, 2)])
    read: list[int] = []
    for position, _, _ in state.settled_positions():
        read.append(position)
        if position % 100 == 0:
            state.add([value(position + 1), value(position + 100_001)])
    assert [at for at in read if at % 2 == 0] == list(range(0, 5000, 2))
    assert read == sorted(read)
    assert max(read) < 5000


def test_memory_does_not_grow_with_the_rows(state: JobState) -> None:
    for start in range(0, 20_000, 500):
        state.add([value(at, "x" * 100) for at in range(start, start + 500)])
    tracemalloc.start()
    try:
        assert sum(1 for _ in state.settled_positions()) == sum(1 for _ in state.lines()) == 20_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 700_000  # bytes; the lines alone have four times as many


def test_texts_that_no_database_likes(state: JobState) -> None:
    odd = "\ud800 half a pair, NUL \x00, \u2028, 'quotes\"; -- and 🧵"
    state.add([value(0, odd, name=odd), value(1, odd), failure(2, raw=odd)])
    lines = [json.loads(line) for _, line, _ in state.lines()]
    assert [lines[0]["id"], lines[0]["output"], lines[1]["output"], lines[2]["error"]["raw"]] == [odd] * 4
    assert state.counts().rows == 3
    ((shown, output),) = state.select("SELECT id, output FROM rows WHERE position = 0")
    assert shown == odd.replace("\ud800", "\ufffd")
    assert json.loads(str(output)) == odd


def test_a_batch_is_added_as_a_whole_or_not_at_all(state: JobState) -> None:
    state.add([failure(0)])
    before = state.counts()
    with pytest.raises(ValueError, match="row 3 has more than one line"):
        state.add([value(0), value(2), Settled(3, b"", '{"id": "3",\n"output": 1}', False)])
    assert [at for at, _, _ in state.lines()] == [0]
    assert state.counts() == before


# The same job


@pytest.mark.parametrize(
    ("fact", "told"),
    [
        ("model", "model 'a-model', which is now 'other'"),
        ("fingerprint", "another schema, prompt"),
        ("output", "now 'other'"),
    ],
)
def test_another_job_is_refused_and_told_what_has_changed(path: Path, fact: str, told: str) -> None:
    with open_state(path) as state:
        state.add([value(0)])
    with pytest.raises(JobError, match=told) as refused:
        open_state(path, {**FACTS, fact: "other"})
    assert "--restart" in refused.value.hint
    with open_state(path) as state:
        assert (state.anew, state.counts().rows) == (False, 1)


def test_it_is_begun_anew_where_that_is_wanted(path: Path) -> None:
    with open_state(path) as state:
        state.add([value(0), failure(1)])
    with JobState.open(path, facts=FACTS, on_change="restart") as state:
        assert (state.anew, state.counts().rows) == (False, 2)
    with JobState.open(path, facts={**FACTS, "model": "other"}, on_change="restart") as state:
        assert (state.anew, state.counts().rows, list(state.lines())) == (True, 0, [])
        state.add([value(0)])
    with JobState.open(path, facts={**FACTS, "model": "other"}, on_change="refuse", resume=False) as state:
        assert (state.anew, state.counts().rows) == (True, 0)


# One process at a time

CHILD = """
import sys, pathlib
from hermes_agent.extract.state import JobState
from hermes_agent.extract.row import Settled
state = JobState.open(pathlib.Path(sys.argv[1]), facts={}, on_change="refuse")
state.add([Settled(0, b"", '{"id": "0", "output": 1}', False)])
print("there", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_second_process_is_refused_until_the_first_is_dead(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout
        assert process.stdout.readline() == "there\n"
        with pytest.raises(JobError, match=rf"another process \(pid {process.pid}\) is running this job"):
            open_state(path, {})
        process.send_signal(signal.SIGKILL)
        process.wait()
    with open_state(path, {}) as state:
        assert state.counts().rows == 1
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_same_process_is_refused_as_well(state: JobState, path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.job"
    link.symlink_to(path)
    for name in (path, link):
        with pytest.raises(JobError, match="is running this job"):
            open_state(name)
    state.add([value(0)])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_a_forked_process_does_not_hold_the_job(path: Path) -> None:
    state = open_state(path)
    state.add([value(0)])
    ready, end = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(ready[1], b".")
        os.read(end[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    state.close()
    with open_state(path) as again:
        assert again.counts().rows == 1
    os.write(end[1], b".")
    assert os.waitpid(pid, 0)[1] == 0
    for handle in (*ready, *end):
        os.close(handle)


def test_it_is_read_by_others_while_it_is_written(state: JobState, path: Path) -> None:
    state.add([value(0)])
    with closing(sqlite3.connect(path)) as reader:
        reader.execute("BEGIN")
        question = "SELECT position, id, output, error, evidence FROM rows"
        assert reader.execute(question).fetchall() == [(0, "0", "1", None, None)]
        state.add([failure(1)])
        state.checkpoint()
        assert len(reader.execute(question).fetchall()) == 1  # it looks at one moment
        reader.execute("ROLLBACK")
        assert [row[0] for row in reader.execute(question)] == [0, 1]


# Other files


@pytest.mark.parametrize("kind", ["garbage", "text", "database", "wal", "newer"])
def test_what_is_no_state_is_left_as_it_is(path: Path, kind: str) -> None:
    if kind in ("garbage", "text"):
        path.write_bytes(os.urandom(5000) if kind == "garbage" else b"my notes")
    elif kind == "newer":
        open_state(path).close()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA user_version = 99")
    else:
        with closing(sqlite3.connect(path)) as connection:
            if kind == "wal":
                connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("CREATE TABLE mine (a)")
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    for on_change in ("refuse", "restart"):
        with pytest.raises(JobError, match="has version 99" if kind == "newer" else "is not the state of a job"):
            JobState.open(path, facts=FACTS, on_change=on_change)
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


def test_an_empty_file_becomes_a_state(path: Path) -> None:
    path.touch()
    with open_state(path) as state:
        state.add([value(0)])


def test_folders(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="is a folder"):
        open_state(tmp_path)
    with pytest.raises(JobError, match="its folder does not exist") as refused:
        open_state(tmp_path / "none" / "x.job")
    assert "make the folder" in refused.value.hint


def test_a_closed_state_says_so(path: Path) -> None:
    state = open_state(path)
    state.close()
    state.close()
    with pytest.raises(JobError, match="is closed"):
        state.add([value(0)])


def test_a_damaged_state_says_so(path: Path) -> None:
    with open_state(path) as state:
        state.add([value(at, "x" * 1000) for at in range(100)])
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))
    with pytest.raises(JobError, match="is damaged"), open_state(path) as state:
        list(state.lines())


# Full disks

LIMITED = """
import sys, pathlib, resource, signal
from hermes_agent.errors import JobError
from hermes_agent.extract.state import JobState
from hermes_agent.extract.row import Settled
def row(at):
    return Settled(at, b"", '{"id": "%d", "output": "%s"}' % (at, "x" * 1000), False)
with JobState.open(pathlib.Path(sys.argv[1]), facts={}, on_change="refuse") as state:
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
    try:
        for at in range(1000):
            state.add([row(at)])
    except JobError as error:
        print(error)
    assert [found[0] for found in state.lines()] == list(range(at)), at
    assert state.counts().rows == at > 10
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    state.add([row(at)])
    print(state.counts().rows == at + 1)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limits of a process's files")
def test_a_file_that_must_not_grow_loses_nothing(path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert "cannot be written" in told
    assert "make room on its disk" in told
    assert told.splitlines()[-1] == "True"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system can only be mounted by root, on Linux")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_on_a_disk_that_is_really_full(small_disk: Path) -> None:
    with open_state(small_disk / "x.job") as state:
        at = 0
        with pytest.raises(JobError, match="cannot be written"):  # noqa: PT012  # until it is full
            while True:
                state.add([value(at, "x" * 1000)])
                at += 1
        assert at > 50
    with open_state(small_disk / "x.job") as state:
        assert [found[0] for found in state.lines()] == list(range(at))
        assert state.counts().rows == at
