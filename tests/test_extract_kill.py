"""kill -9 at any moment of a job: run again, it has each row once, and has asked for none that was settled.

HERMES_SDK_TEST_SEED sets the seed, and HERMES_SDK_TEST_KILLS how often jobs are killed, over the kinds of output.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

if sys.platform == "win32":
    pytest.skip("Windows has neither fork nor SIGKILL", allow_module_level=True)

from hermes_agent.extract.outputs import state_path
from tests.extract_program import ASKED, Life, as_line, fails

ROOT = Path(__file__).parent.parent
SEED = int(os.environ.get("HERMES_SDK_TEST_SEED", "4"))
KILLS = int(os.environ.get("HERMES_SDK_TEST_KILLS", "102"))
ROWS = 120


class Nursery:
    """What forks the processes that are killed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def carry_out(self, life: Life) -> int:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(as_line(life))
        self._process.stdin.flush()
        status = int(self._process.stdout.readline())
        sys.stdout.write(f"{life} -> {status}\n")  # shown when the test fails
        return status


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.extract_program"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin
        try:
            yield Nursery(process)
        finally:
            process.stdin.close()


def settled(out: Path, aside: Path) -> dict[int, bool]:
    """Whether they failed, by position. A copy is read, as a reader tidies up what the process has left."""
    path = state_path(out)
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    for end in ("", "-wal"):
        if (found := path.with_name(path.name + end)).exists():
            shutil.copy(found, aside / ("copy" + end))
    if not (aside / "copy").exists():
        return {}
    with closing(sqlite3.connect(aside / "copy")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return dict(connection.execute("SELECT position, failure IS NOT NULL FROM settled").fetchall())


def rows_of(out: Path) -> list[dict[str, Any]]:
    if out.suffix == ".jsonl":
        return [json.loads(line) for line in out.read_text().splitlines()]
    if out.suffix == ".parquet":
        table = import_module("pyarrow.parquet").read_table(out).to_pylist()
    else:
        with closing(sqlite3.connect(out)) as connection:
            connection.row_factory = sqlite3.Row
            table = list(map(dict, connection.execute("SELECT * FROM rows ORDER BY position")))
    names = ("output", "error")
    return [{"id": row["id"]} | {name: json.loads(row[name]) for name in names if row[name]} for row in table]


def check_output(out: Path, *, retried: bool) -> None:
    found = rows_of(out)
    assert [int(row["id"]) for row in found] == list(range(ROWS))
    for position, row in enumerate(found):
        if fails(position) and not retried:
            assert row["error"]["type"] == "InvalidOutputError"
        else:
            assert row["output"] == {"number": position}


def check_prefix(out: Path) -> None:
    """What a reader finds while nobody writes: whole rows from the first on, and perhaps a piece of the next."""
    if out.suffix == ".jsonl" and out.exists():
        *lines, _ = out.read_text().split("\n")
        assert [int(json.loads(line)["id"]) for line in lines] == list(range(len(lines)))


@pytest.mark.parametrize("suffix", ["jsonl", "sqlite", "parquet"])
def test_killed_at_any_moment_each_row_is_there_once(nursery: Nursery, tmp_path: Path, suffix: str) -> None:
    luck = random.Random(f"{SEED} {suffix}")
    kills = jobs = 0
    while kills < round(KILLS / 3):
        jobs += 1
        folder = tmp_path / str(jobs)
        folder.mkdir()
        out = folder / f"out.{suffix}"
        for retry in (False, True):
            life = Life(str(folder), str(out), ROWS, retry=retry)
            patience = min(8, round(KILLS / 3) - kills)
            while True:
                before = settled(out, folder / "aside")
                (folder / ASKED).unlink(missing_ok=True)
                if patience <= 0:
                    chosen = life
                elif luck.random() < 0.5:
                    chosen = replace(life, after=luck.uniform(0.005, 0.15))
                else:
                    chosen = replace(life, at=luck.choice([luck.randint(1, 12), luck.randint(1, 60)]))
                status = nursery.carry_out(chosen)
                assert status in (0, -signal.SIGKILL)
                asked = (folder / ASKED).read_text().splitlines() if (folder / ASKED).exists() else []
                assert len(asked) == len(set(asked))
                again = {int(line) for line in asked} & before.keys()
                assert all(retry and before[position] for position in again)
                after = settled(out, folder / "aside")
                assert before.keys() <= after.keys()
                assert all(not after[position] for position, failed in before.items() if not failed)
                if status == 0:
                    break
                kills += 1
                patience -= 1
                check_prefix(out)
            assert len(after) == ROWS
            check_output(out, retried=retry)
            left = {path.name for path in folder.iterdir()} - {ASKED, "aside"}
            assert left == {out.name, state_path(out).name}
    print(f"{kills} kills in {jobs} jobs")  # noqa: T201  # shown when the test fails
