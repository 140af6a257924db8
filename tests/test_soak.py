"""A small soak: runs that fail, hang, are cancelled or return megabytes lose nothing and leave nothing behind."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from benchmarks.soak import QUARTERS, soak
from benchmarks.soak_kinds import KINDS, one_of_each, script_of
from benchmarks.soak_watch import files_open, files_since
from hermes_agent.run import Run, RunResult

RUNS = 160


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_nothing_is_lost_and_nothing_is_left_behind(backend: str, tmp_path: Path) -> None:
    soaked = soak(backend, RUNS, 64, tmp_path / "runs.db", seed=1)
    assert soaked.problems == []
    assert sum(soaked.ended.values()) == RUNS
    assert len(soaked.quarters) == 1 + QUARTERS
    assert soaked.most_busy >= 10, "threads were put to use"


def test_every_kind_of_run_is_in_it() -> None:
    assert {script.kind for script in one_of_each(1)} == set(KINDS)
    kinds = [script_of(number, 1).kind for number in range(RUNS)]
    assert kinds == [script_of(number, 1).kind for number in range(RUNS)]
    assert set(kinds) == set(KINDS)


def test_what_is_left_behind_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Run] = []
    go = Run.go

    with ExitStack() as stack:
        over = threading.Event()

        async def leaking(run: Run) -> RunResult[Any]:
            kept.append(run)
            stack.enter_context((tmp_path / "open").open("w"))
            if len(kept) == 1:
                thread = threading.Thread(target=over.wait, name="left")
                thread.start()
                stack.callback(thread.join)
                stack.callback(over.set)
            return await go(run)

        monkeypatch.setattr(Run, "go", leaking)
        monkeypatch.setattr("benchmarks.soak.PATIENCE", 0.5)
        soaked = soak("asyncio", 40, 8, tmp_path / "runs.db", seed=2)
    seen = "\n".join(soaked.problems)
    assert soaked.ended == soaked.expected
    for problem in ("objects are kept", "files at the start", "files open", "threads are left", "bytes are traced"):
        assert problem in seen


def test_files_that_others_close_meanwhile_hide_none(tmp_path: Path) -> None:
    others = (tmp_path / "of others").open("w")
    before = files_open()
    number = others.fileno()
    others.close()
    assert files_since(before) == []
    with (tmp_path / "left").open("w") as left:
        os.dup2(left.fileno(), number)  # unless it is there already
        try:
            assert number in {file for file, _, _ in files_since(before)}
        finally:
            if number != left.fileno():
                os.close(number)
