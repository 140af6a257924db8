"""A journal: on disk when it says so, one history a run, and clear words for what is wrong with the file."""

from __future__ import annotations

import asyncio
import copy
import gc
import os
import pickle
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Literal

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes_agent import Agent, tool
from hermes_agent.errors import ConfigurationError, HermesError, ModelError, RunPaused
from hermes_agent.journal import Journal, JournalError, RunState
from hermes_agent.messages import AssistantMessage, ToolCall, ToolMessage, UserMessage
from hermes_agent.record import (
    CallBegan,
    CallEnded,
    CallSettled,
    PartWritten,
    PendingCall,
    Record,
    RunBegan,
    RunEnded,
    RunWaited,
    TurnBegan,
    TurnWritten,
)
from hermes_agent.testing import ScriptedModel
from hermes_agent.turn import CallPart, Turn
from tests.journal_writer import RUNS

ROOT = Path(__file__).parent.parent


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def journal(file: Path) -> Iterator[Journal]:
    with Journal(file) as made:
        yield made


def part(at: int) -> PartWritten:
    return PartWritten(at, f"text {at}")


async def fill(journal: Journal, run_id: str, *records: Record) -> None:
    for at, record in enumerate(records):
        await journal.append(run_id, at, record)


def turn_of(*call_ids: str) -> TurnWritten:
    return TurnWritten(1, Turn(tuple(CallPart(ToolCall("f", {"a": 1}, name), (0, 1)) for name in call_ids)))


ODD = "\ud800 half a pair, NUL \x00, \u2028, 'quotes\"; -- and 🧵"
EVERY_KIND: tuple[Record, ...] = (
    RunBegan(ODD, (UserMessage(ODD),), "agent", "model", "token", 1.5),
    TurnBegan(1, "agent", "model", 'start: "x"', 2.0),
    part(2),
    turn_of("x", "y"),
    CallBegan(ToolCall("f", {"a": [1, 2.0, None, True, ODD, 10**40]}, "x"), 3.0),
    CallEnded("x", ToolMessage(ODD, "f", "x", is_error=True), 0.5, ran=True, error="ValueError: no"),
    CallSettled("y", "denied", ODD),
    RunEnded("done", at=9.0),
)


# What is written is there


@pytest.mark.anyio
async def test_records_come_back_as_they_were(journal: Journal, file: Path) -> None:
    await fill(journal, "run", *EVERY_KIND)
    assert journal.records("run") == list(EVERY_KIND)
    with Journal(file) as other:
        assert other.records("run") == list(EVERY_KIND)


@pytest.mark.anyio
async def test_it_is_on_disk_when_append_returns(journal: Journal, file: Path) -> None:
    for at in range(5):
        await journal.append("run", at, RunBegan("q") if at == 0 else part(at))
        with closing(sqlite3.connect(file)) as other:
            assert other.execute("SELECT count(*) FROM records").fetchone() == (at + 1,)


@pytest.mark.anyio
@pytest.mark.parametrize(("sync", "value"), [("full", 2), ("normal", 1)])
async def test_the_file_is_written_as_was_asked(file: Path, sync: Literal["full", "normal"], value: int) -> None:
    with Journal(file, sync=sync) as made:
        await made.append("run", 0, RunBegan("q"))
        connection = made._file.connection()  # pyright: ignore[reportPrivateUsage]  # nothing else shows it
        assert connection.execute("PRAGMA synchronous").fetchone() == (value,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.anyio
async def test_many_tasks_write_side_by_side(journal: Journal) -> None:
    async def run(name: str) -> None:
        await fill(journal, name, RunBegan(name), *map(part, range(1, 20)))

    async with anyio.create_task_group() as group:
        for index in range(32):
            group.start_soon(run, f"run-{index}")
    for index in range(32):
        assert journal.records(f"run-{index}") == [RunBegan(f"run-{index}"), *map(part, range(1, 20))]


def test_event_loops_share_a_journal(journal: Journal) -> None:
    """Four threads, each with an event loop of its own, of both kinds."""

    def loop(index: int) -> None:
        backend = "trio" if index % 2 else "asyncio"
        anyio.run(fill, journal, f"run-{index}", RunBegan("q"), *map(part, range(1, 30)), backend=backend)

    threads = [threading.Thread(target=loop, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {run.run_id: run.records for run in journal.runs()} == {f"run-{index}": 30 for index in range(4)}


def test_the_event_loop_goes_on_while_the_disk_is_slow(journal: Journal, file: Path) -> None:
    """Another process holds the file; the loop turns all the same."""

    async def main() -> int:
        await journal.append("run", 0, RunBegan("q"))
        rounds = 0
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            async with anyio.create_task_group() as group:
                group.start_soon(journal.append, "run", 1, part(1))
                for _ in range(100):
                    await anyio.lowlevel.checkpoint()
                    rounds += 1
                assert other.execute("SELECT count(*) FROM records").fetchone() == (1,)
                other.execute("ROLLBACK")
        return rounds

    assert anyio.run(main) == 100
    assert len(journal.records("run")) == 2


# One history a run


class Writer:
    """Somebody who goes on with a run."""


@pytest.mark.anyio
async def test_a_second_process_that_goes_on_with_a_run_is_refused(journal: Journal, file: Path) -> None:
    await fill(journal, "run", RunBegan("q"), part(1))
    with Journal(file) as other:
        await other.append("run", 2, part(2))
        with pytest.raises(JournalError, match="another process goes on with run 'run'"):
            await journal.append("run", 2, PartWritten(2, "another"))
    assert journal.records("run")[2] == part(2)


@pytest.mark.anyio
async def test_nothing_follows_a_record_that_was_refused(journal: Journal, file: Path) -> None:
    """Else the loser's next record, such as the end of its run, would stand in the winner's history."""
    await fill(journal, "run", RunBegan("q"))
    loser, winner = Writer(), Writer()
    with Journal(file) as other:
        await other.append("run", 1, part(1))
        for at in (1, 2, 3):
            with pytest.raises(JournalError, match="another process goes on with run 'run'"):
                await journal.append("run", at, RunEnded(error="refused"), writer=loser)
        assert other.records("run") == [RunBegan("q"), part(1)]
        assert journal.records("run") == [RunBegan("q"), part(1)]
        await journal.append("run", 2, part(2), writer=winner)
        await journal.append("run", 3, part(3))


@pytest.mark.anyio
async def test_a_run_begins_once(journal: Journal) -> None:
    await journal.append("run", 0, RunBegan("q"))
    with pytest.raises(JournalError, match="another process"):
        await journal.append("run", 0, RunBegan("again"))
    with pytest.raises(ConfigurationError, match="begins with one RunBegan"):
        await journal.append("other", 0, part(0))
    with pytest.raises(ConfigurationError, match="begins with one RunBegan"):
        await journal.append("run", 1, RunBegan("q"))


@pytest.mark.anyio
async def test_there_are_no_gaps(journal: Journal) -> None:
    await journal.append("run", 0, RunBegan("q"))
    with pytest.raises(JournalError, match="which holds 1 of those before it"):
        await journal.append("run", 2, part(2))
    assert journal.records("run") == [RunBegan("q")]


@pytest.mark.anyio
async def test_behind_a_record_that_found_no_room_the_want_of_room_is_what_is_told(journal: Journal) -> None:
    """Several calls of a run end at once; whichever is heard first must name the disk, not the gap."""
    await fill(journal, "run", RunBegan("q"))
    lost, other = Writer(), Writer()
    connection = journal._file.connection()  # pyright: ignore[reportPrivateUsage]  # the limit is one of a connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(JournalError, match="cannot be written: database or disk is full"):
        await journal.append("run", 1, PartWritten(1, "x" * 100_000), writer=lost)
    with pytest.raises(JournalError, match="cannot be written: database or disk is full"):
        await journal.append("run", 2, part(2), writer=lost)
    with pytest.raises(JournalError, match="which holds 1 of those before it"):
        await journal.append("run", 2, part(2), writer=other)
    await journal.append("run", 1, part(1))


@pytest.mark.anyio
async def test_what_one_task_does_wrong_is_no_matter_of_the_others(journal: Journal, file: Path) -> None:
    """They are written in one transaction: the file is held until all of them wait."""
    await fill(journal, "good", RunBegan("q"))
    failed: list[JournalError] = []

    async def wrong() -> None:
        try:
            await journal.append("bad", 7, part(7))
        except JournalError as error:
            failed.append(error)

    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        async with anyio.create_task_group() as group:
            group.start_soon(journal.append, "good", 1, part(1))
            group.start_soon(wrong)
            group.start_soon(journal.append, "new", 0, RunBegan("q"))
            await anyio.wait_all_tasks_blocked()
            other.execute("ROLLBACK")
    assert len(failed) == 1
    assert [run.records for run in journal.runs()] == [1, 2]


@pytest.mark.anyio
@pytest.mark.parametrize("wrong", ["", "a\nb", "\ud800", "\x00"])
async def test_what_cannot_be_an_id_is_refused(journal: Journal, wrong: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be the id of a run"):
        await journal.append(wrong, 0, RunBegan("q"))


@pytest.mark.anyio
@pytest.mark.parametrize("value", [float("nan"), {1}, object()])
async def test_what_is_not_json_is_refused_before_anything_is_written(journal: Journal, value: object) -> None:
    await journal.append("run", 0, RunBegan("q"))
    with pytest.raises(ConfigurationError, match="cannot be written as JSON"):
        await journal.append("run", 1, CallBegan(ToolCall("f", {"a": value}, "x")))
    await journal.append("run", 1, part(1))
    assert len(journal.records("run")) == 2


# Cancellation


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=12), st.sampled_from(["asyncio", "trio"])
)
def test_cancelling_leaves_whole_records_in_order(rounds: list[tuple[int, bool]], backend: str) -> None:
    """Two runs append and are cancelled after some rounds of the loop; what is there is a prefix, and one can go on."""

    async def main(folder: str) -> None:
        async with Journal(f"{folder}/runs.db", sync="normal") as journal:
            at = {"a": 1, "b": 1}
            for run in at:
                await journal.append(run, 0, RunBegan("q"))

            async def write(run: str) -> None:
                for ahead in range(2):
                    await journal.append(run, at[run] + ahead, part(at[run] + ahead))

            for turns, cancelled in rounds:
                async with anyio.create_task_group() as group:
                    for run in at:
                        group.start_soon(write, run)
                    for _ in range(turns):
                        await anyio.lowlevel.checkpoint()
                    if cancelled:
                        group.cancel_scope.cancel()
                for run, before in at.items():
                    found = journal.records(run)
                    assert found == [RunBegan("q"), *map(part, range(1, len(found)))]
                    assert before <= len(found) <= before + 2
                    at[run] = len(found)

    with tempfile.TemporaryDirectory() as folder:
        anyio.run(main, folder, backend=backend)


def test_a_cancelled_asyncio_task_leaves_no_half_record(journal: Journal) -> None:
    """Cancelled the way asyncio does it, which knows no shields."""

    async def main() -> None:
        await journal.append("run", 0, RunBegan("q"))
        at = 1
        for index in range(40):
            task = asyncio.create_task(journal.append("run", at, part(at)))
            for _ in range(index % 4):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            found = journal.records("run")
            assert found == [RunBegan("q"), *map(part, range(1, len(found)))]
            at = len(found)

    asyncio.run(main())


# Killing

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither fork nor SIGKILL")


@posix
def test_nothing_acknowledged_is_lost_when_the_process_is_killed(file: Path) -> None:
    """Forty times kill -9, each time at another moment; the next process goes on with the same runs."""
    luck = random.Random(4)  # reproducible as far as processes are
    acknowledged = dict.fromkeys(RUNS, 0)
    nursery = subprocess.Popen(
        [sys.executable, "-m", "tests.journal_writer", str(file)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with nursery:
        assert nursery.stdin
        assert nursery.stdout
        for index in range(40):
            nursery.stdin.write(("asyncio", "trio")[index % 2] + "\n")
            nursery.stdin.flush()
            pid, patience = 0, luck.randrange(0, 60)
            while True:
                name, number = nursery.stdout.readline().split()
                if name == "gone":
                    assert int(number) == -signal.SIGKILL
                    break
                if name == "pid":
                    pid = int(number)
                else:
                    assert int(number) == acknowledged[name]  # no gap, nothing twice
                    acknowledged[name] += 1
                    patience -= 1
                if pid and patience <= 0:
                    os.kill(pid, signal.SIGKILL)
                    pid = 0
            with Journal(file) as journal:
                lengths = {run.run_id: run.records for run in journal.runs(nested=True)}
            for run in RUNS:
                assert acknowledged[run] <= lengths.get(run, 0) <= acknowledged[run] + 1
                acknowledged[run] = lengths.get(run, 0)  # one may be on disk that nobody was told of
        nursery.stdin.close()
    with Journal(file) as journal:
        for run, length in acknowledged.items():
            assert length > 40
            assert journal.records(run) == [
                RunBegan(f"{run} 0"), *(PartWritten(at, f"{run} {at}") for at in range(1, length))
            ]  # fmt: skip
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


# Looking


@pytest.mark.anyio
async def test_runs_are_listed_the_latest_first(journal: Journal) -> None:
    await fill(journal, "old", RunBegan("first", agent="a", at=10.0), RunEnded("yes", at=12.5))
    await fill(journal, "new", RunBegan("x" * 1000, agent="b", at=20.0), RunEnded(error="ValueError: no", at=21.0))
    await fill(journal, "old/call_1_0", RunBegan("inner", at=11.0))
    assert [(r.run_id, r.agent, r.prompt, r.began, r.last, r.records, r.state) for r in journal.runs()] == [
        ("new", "b", "x" * 200, 20.0, 21.0, 2, "failed"),
        ("old", "a", "first", 10.0, 12.5, 2, "ended"),
    ]
    assert [run.run_id for run in journal.runs(nested=True)] == ["new", "old/call_1_0", "old"]
    assert [run.run_id for run in journal.runs(limit=1)] == ["new"]
    assert journal.nested("old") == ["old/call_1_0"]
    assert journal.nested("new") == []


CALL_X, CALL_Y = (CallBegan(ToolCall("f", {}, name)) for name in "xy")
ENDED_X, ENDED_Y = (CallEnded(name, ToolMessage("r", "f", name)) for name in "xy")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("records", "state"),
    [
        ([], "open"),
        ([TurnBegan(1)], "open"),
        ([TurnBegan(1), part(1)], "open"),
        ([turn_of()], "open"),
        ([turn_of("x"), RunWaited((PendingCall(ToolCall("x", {}, id="x"), "approval"),))], "waiting"),
        ([turn_of("x"), RunWaited(()), CallSettled("x", "approved")], "waiting"),
        ([turn_of("x"), RunWaited(()), CallSettled("x", "approved"), CALL_X], "open"),
        ([turn_of("x", "y"), CALL_X, CALL_Y, ENDED_X, ENDED_Y], "open"),
        ([turn_of("x", "y"), CALL_X, CALL_Y, ENDED_X, ENDED_Y, TurnBegan(2)], "open"),
        ([RunEnded("x")], "ended"),
        ([RunEnded(error="x")], "failed"),
    ],
)
async def test_the_state_of_a_run(journal: Journal, records: list[Record], state: RunState) -> None:
    await fill(journal, "run", RunBegan("q"), *records)
    assert [run.state for run in journal.runs()] == [state]


@pytest.mark.anyio
async def test_an_unknown_run_is_answered_with_known_ones(journal: Journal) -> None:
    with pytest.raises(JournalError, match=r"there is no run 'x'.*\n.*there is no run in it"):
        journal.records("x")
    for index in range(7):
        await journal.append(f"run-{index}", 0, RunBegan("q", at=float(index)))
    with pytest.raises(JournalError, match=r"'run-6', 'run-5', 'run-4', 'run-3', 'run-2'$"):
        journal.records("x")


@pytest.mark.anyio
async def test_deleting_takes_what_is_inside_and_nothing_else(journal: Journal, file: Path) -> None:
    for name in ("run", "run/a", "run/a/b", "run0", "run-2", "ru"):
        await fill(journal, name, RunBegan("a secret" if name.startswith("run/") or name == "run" else "q"), part(1))
    journal.delete("run")
    assert {run.run_id for run in journal.runs(nested=True)} == {"run0", "run-2", "ru"}
    with pytest.raises(JournalError, match="there is no run 'run'"):
        journal.delete("run")
    await journal.append("run", 0, RunBegan("again"))
    assert journal.records("run") == [RunBegan("again")]
    journal.close()
    assert b"a secret" not in contents(file.parent)[file.name]


def test_asking_makes_no_file(journal: Journal, file: Path) -> None:
    assert journal.runs() == []
    with pytest.raises(JournalError, match="there is no run"):
        journal.records("x")
    assert not file.exists()


# The file


@pytest.mark.anyio
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
async def test_nobody_else_may_read_it(journal: Journal, file: Path) -> None:
    before = os.umask(0)
    try:
        await journal.append("run", 0, RunBegan("q"))
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in file.parent.iterdir()}
    assert modes == {"runs.db": 0o600, "runs.db-wal": 0o600, "runs.db-shm": 0o600}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


async def refused(path: Path, match: str) -> None:
    with Journal(path, busy_seconds=0.1) as journal:
        with pytest.raises(JournalError, match=match) as caught:
            await journal.append("run", 0, RunBegan("q"))
        assert str(path) in str(caught.value)
        assert caught.value.hint


@pytest.mark.anyio
async def test_what_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("These are not the records you are looking for.\n" * 100)
    (tmp_path / "folder").mkdir()
    with closing(sqlite3.connect(tmp_path / "foreign")) as other:
        other.execute("CREATE TABLE runs (x)")
    before = contents(tmp_path)
    await refused(tmp_path / "text", "is not a database")
    await refused(tmp_path / "folder", "is a folder")
    await refused(tmp_path / "foreign", "is a database of something else")
    await refused(tmp_path / "nowhere" / "runs.db", "its folder does not exist")
    await refused(tmp_path / "text" / "runs.db", "its folder does not exist")
    assert contents(tmp_path) == before
    with Journal(tmp_path / "text") as journal, pytest.raises(JournalError, match="is not a database"):
        journal.runs()


@pytest.mark.anyio
async def test_a_newer_journal_is_refused(journal: Journal, file: Path) -> None:
    await journal.append("run", 0, RunBegan("q"))
    journal.close()
    with closing(sqlite3.connect(file)) as other:
        other.execute("PRAGMA user_version = 2")
    await refused(file, "has version 2, and this hermes_agent reads up to 1")


@pytest.mark.anyio
async def test_a_record_of_another_kind_is_said_to_be_unreadable(journal: Journal, file: Path) -> None:
    await journal.append("run", 0, RunBegan("q"))
    with closing(sqlite3.connect(file)) as other, other:
        other.execute("INSERT INTO records VALUES ('run', 1, 'new', 0, '{\"kind\": \"new\"}')")
    with pytest.raises(JournalError, match="record 1 of run 'run' cannot be read"):
        journal.records("run")


@pytest.mark.anyio
async def test_a_file_taken_away_is_noticed(journal: Journal, file: Path) -> None:
    await journal.append("run", 0, RunBegan("q"))
    os.rename(file, f"{file}.elsewhere")  # noqa: PTH104  # quicker than a thread
    with pytest.raises(JournalError, match="was removed or replaced"):
        await journal.append("run", 1, part(1))


@pytest.mark.anyio
async def test_a_busy_file_is_waited_for_and_then_said_to_be_busy(file: Path) -> None:
    with Journal(file, busy_seconds=0.05) as journal:
        await journal.append("run", 0, RunBegan("q"))
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(JournalError, match=r"locked by another process for more than 0\.05 seconds"):
                await journal.append("run", 1, part(1))
            other.execute("ROLLBACK")
        await journal.append("run", 1, part(1))


READ_ONLY = """
import sys, os, sqlite3, anyio, anyio._backends._asyncio
from hermes_agent.journal import Journal, JournalError
from hermes_agent.record import RunBegan, dump_record
dump_record(RunBegan("q"))
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)  # root may write everything
async def main():
    await Journal(sys.argv[1]).append("new", 0, RunBegan("q"))
try:
    anyio.run(main)
except JournalError as error:
    print(error)
"""


@posix
def test_a_read_only_file_is_said_to_be_one(journal: Journal, file: Path) -> None:
    anyio.run(journal.append, "run", 0, RunBegan("q"))
    journal.close()
    file.chmod(0o444)
    for folder in file.parents:  # pytest's own, which nobody else may enter
        if folder == Path(tempfile.gettempdir()):
            break
        folder.chmod(0o755)
    told = child(READ_ONLY, str(file))
    assert f"the journal {str(file)!r} cannot be written" in told


FULL_DISK = """
import sys, resource, signal, anyio
from hermes_agent.journal import Journal, JournalError
from hermes_agent.record import RunBegan, PartWritten
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
async def main():
    async with Journal(sys.argv[1]) as journal:
        await journal.append("run", 0, RunBegan("q"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
        try:
            for at in range(1, 100):
                await journal.append("run", at, PartWritten(at, "x" * 10_000))
        except JournalError as error:
            print(error)
        found = len(journal.records("run"))
        assert found == at, (found, at)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await journal.append("run", at, PartWritten(at, "x" * 10_000))
        print(len(journal.records("run")) == at + 1)
anyio.run(main, backend=sys.argv[2])
"""


@pytest.mark.anyio
@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files the Linux way")
async def test_a_full_disk_is_said_and_can_be_mended(file: Path, anyio_backend: str) -> None:
    told = child(FULL_DISK, str(file), anyio_backend)
    assert f"the journal {str(file)!r} cannot be written" in told
    assert "make room" in told
    assert told.strip().endswith("True")


def child(script: str, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# The object


@pytest.mark.anyio
async def test_a_closed_journal_says_so(file: Path) -> None:
    async with Journal(file) as journal:
        await journal.append("run", 0, RunBegan("q"))
    journal.close()
    with pytest.raises(JournalError, match="is closed"):
        await journal.append("run", 1, part(1))
    with pytest.raises(JournalError, match="is closed"):
        journal.runs()
    assert [path.name for path in file.parent.iterdir()] == ["runs.db"]


@pytest.mark.anyio
async def test_one_that_nobody_holds_closes_itself(file: Path) -> None:
    journal = Journal(file)
    await journal.append("run", 0, RunBegan("q"))
    del journal
    with anyio.fail_after(10):
        while [path.name for path in file.parent.iterdir()] != ["runs.db"]:  # the thread that wrote lets go of it
            await anyio.sleep(0.01)
            gc.collect()


def pickled(journal: Journal) -> Journal:
    clone: Journal = pickle.loads(pickle.dumps(journal))
    return clone


@pytest.mark.anyio
@pytest.mark.parametrize("clone", [pickled, copy.copy, copy.deepcopy])
async def test_a_copy_is_another_journal_of_the_same_file(
    journal: Journal, clone: Callable[[Journal], Journal]
) -> None:
    await journal.append("run", 0, RunBegan("q"))
    with clone(journal) as other:
        await other.append("run", 1, part(1))
    assert journal.records("run") == [RunBegan("q"), part(1)]
    assert repr(journal) == f"Journal({str(journal.path)!r})"


FORK = """
import os, sys, threading, anyio
from hermes_agent.journal import Journal
from hermes_agent.record import RunBegan, PartWritten
journal = Journal(sys.argv[1])
async def write(run, start):
    for at in range(start, start + 20):
        await journal.append(run, at, PartWritten(at, "x") if at else RunBegan("q"))
anyio.run(write, "parent", 0)
lock = journal._file.lock
lock.acquire()  # as if a thread were writing at this moment
pid = os.fork()
if pid == 0:
    anyio.run(write, "child", 0)
    assert len(journal.records("parent")) >= 20
    sys.exit(0)
lock.release()
anyio.run(write, "parent", 20)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
anyio.run(write, "parent", 40)
print([(run.run_id, run.records) for run in sorted(journal.runs(), key=lambda run: run.run_id)])
"""


@posix
def test_a_forked_process_opens_the_file_for_itself(file: Path) -> None:
    assert child(FORK, str(file)).strip() == "[('child', 20), ('parent', 60)]"


@pytest.mark.parametrize("settings", [{"sync": "never"}, {"busy_seconds": -1.0}, {"busy_seconds": float("nan")}])
def test_what_cannot_be_set_is_refused(file: Path, settings: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        Journal(file, **settings)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_names_are_not_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (":memory:", "a?mode=memory", "file:x%20y"):
        with Journal(name) as journal:
            anyio.run(journal.append, "run", 0, RunBegan("q"))
        assert (tmp_path / name).is_file()


def test_importing_it_loads_no_database() -> None:
    told = child("import sys, hermes_agent.journal; print('sqlite3' in sys.modules, 'pydantic' in sys.modules)")
    assert told.split() == ["False", "False"]


def test_its_errors_are_of_our_tree() -> None:
    assert issubclass(JournalError, HermesError)


# Runs


@pytest.mark.anyio
async def test_two_that_resume_one_run_do_not_both_run_its_tool(journal: Journal, file: Path) -> None:
    """Whoever is slower finds a record in his place before he runs a tool, and says so."""
    sent: list[str] = []

    def send(to: str) -> str:
        """Send it."""
        sent.append(to)
        return "sent"

    script = ['<tool_call>\n{"name": "send", "arguments": {"to": "Ada"}}\n</tool_call>', "It is sent."]
    with pytest.raises(ModelError):
        await Agent(ScriptedModel([]), tools=[send], journal=journal).run("Send it.", run_id="run")
    came: list[str] = []

    async def resume(own: Journal) -> None:
        try:
            came.append((await Agent(ScriptedModel(script), tools=[send], journal=own).resume("run")).output)
        except JournalError as error:
            came.append(error.message.partition(":")[0])

    with Journal(file) as other:
        async with anyio.create_task_group() as group:
            group.start_soon(resume, journal)
            group.start_soon(resume, other)
    assert sent == ["Ada"]
    # One that comes when the other is through gets its answer once more.
    assert sorted(came) in (["It is sent.", "another process goes on with run 'run'"], ["It is sent."] * 2)


@pytest.mark.anyio
@pytest.mark.parametrize("shared", [True, False])
async def test_of_two_that_resume_one_pause_one_wins_and_finishes(journal: Journal, file: Path, shared: bool) -> None:
    paid: list[int] = []

    @tool(approval=True)
    async def pay(amount: int) -> str:
        """Pay."""
        paid.append(amount)
        await came_to_nothing.wait()  # the loser's records are refused while the winner's tool runs
        return "paid"

    came_to_nothing = anyio.Event()
    script = AssistantMessage(tool_calls=(ToolCall("pay", {"amount": 1}),))
    with pytest.raises(RunPaused) as caught:
        await Agent(ScriptedModel([script]), tools=[pay], journal=journal).run("Pay.", run_id="run")
    pause = caught.value.run.approve(caught.value.run.pending[0])
    came: list[str] = []

    async def resume(own: Journal) -> None:
        try:
            came.append((await Agent(ScriptedModel(["Done."]), tools=[pay], journal=own).resume(pause)).output)
        except JournalError as error:
            came.append(type(error).__name__)
            came_to_nothing.set()

    with Journal(file) as other:
        async with anyio.create_task_group() as group:
            group.start_soon(resume, journal)
            group.start_soon(resume, journal if shared else other)
    assert came == ["JournalError", "Done."]
    assert paid == [1]
    assert journal.runs()[0].state == "ended"
    assert [r.message.content for r in journal.records("run") if isinstance(r, CallEnded)] == ["paid"]


@pytest.mark.anyio
async def test_what_a_loser_has_under_way_is_refused_and_what_a_winner_has_is_not(journal: Journal, file: Path) -> None:
    """The file is held until all of them wait, so that they are written in one transaction."""
    await fill(journal, "run", RunBegan("q"), part(1))
    loser, winner = Writer(), Writer()
    refused: list[int] = []

    async def write(at: int, writer: Writer) -> None:
        try:
            await journal.append("run", at, PartWritten(at, "won" if writer is winner else "lost"), writer=writer)
        except JournalError:
            assert writer is loser
            refused.append(at)

    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        async with anyio.create_task_group() as group:
            for at, writer in ((2, winner), (2, loser), (3, loser), (3, winner), (4, loser)):
                group.start_soon(write, at, writer)
                await anyio.wait_all_tasks_blocked()
            other.execute("ROLLBACK")
    assert sorted(refused) == [2, 3, 4]
    assert journal.records("run")[2:] == [PartWritten(2, "won"), PartWritten(3, "won")]
