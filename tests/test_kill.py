"""kill -9 at any point: the run goes on from its records in another process, and nothing is done twice unasked.

HERMES_SDK_TEST_SEED sets the seed, and HERMES_SDK_TEST_KILLS how often the first test kills.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from hermes_agent import Conversation, RunResult
from hermes_agent.formats.prompt import render
from hermes_agent.journal import Journal
from hermes_agent.messages import AssistantMessage, ToolMessage
from hermes_agent.record import CallBegan, CallEnded, CallSettled, Record, RunEnded, dump_runs, load_runs
from hermes_agent.trace import Trace

if sys.platform == "win32":
    pytest.skip("Windows has neither fork nor SIGKILL", allow_module_level=True)

from tests import kill_program
from tests.kill_program import (
    AGAIN,
    EFFECTS,
    ENDED,
    ERRORS,
    FORBIDDEN,
    ONCE,
    POINTS,
    REFUSED,
    RUNS,
    WAITS,
    Order,
    Place,
    effect_of,
)

ROOT = Path(__file__).parent.parent
SEED = int(os.environ.get("HERMES_SDK_TEST_SEED", "4"))
KILLS = int(os.environ.get("HERMES_SDK_TEST_KILLS", "120"))
KILLED = -signal.SIGKILL
MOST_KILLS_A_ROUND = 24
IDEMPOTENT = ("look", "measure", "clerk", "transfer_to_closer")


class Nursery:
    """What forks the processes that are killed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.told: list[str] = []

    def carry_out(self, order: Order) -> list[int]:
        """The exit statuses of the processes."""
        assert self._process.stdin
        assert self._process.stdout
        points = Path(order.folder) / POINTS
        points.unlink(missing_ok=True)
        self._process.stdin.write(kill_program.as_line(order))
        self._process.stdin.flush()
        statuses: list[int] = json.loads(self._process.stdout.readline())
        sys.stdout.write(f"{order} -> {statuses} at {last_point(points)!r}\n")  # shown when the test fails
        allowed = {ENDED, WAITS, REFUSED, KILLED}
        assert set(statuses) <= allowed
        return statuses


def last_point(points: Path) -> str:
    """Where a process was when it died."""
    lines = points.read_text().splitlines() if points.exists() else []
    return lines[-1] if lines else "before anything"


@contextmanager
def running() -> Iterator[Nursery]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.kill_program"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin
        try:
            yield Nursery(process)
        finally:
            process.stdin.close()


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with running() as made:
        yield made


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> RunResult[Any]:
    """The run when nothing happens to it."""
    place = Place(Order(str(tmp_path_factory.mktemp("undisturbed")), []), lambda: None)
    return anyio.run(kill_program.undisturbed, "run", place)


# What must hold when a run has come to its end.


def check(order: Order, run_id: str, expected: RunResult[Any]) -> None:
    folder = Path(order.folder)
    file = Path(order.journal or folder / RUNS)
    effects = (folder / EFFECTS).read_text()
    check_effects(effects.splitlines(), run_id)
    check_rows(file, run_id)
    with Journal(file) as journal:
        assert run_id in {run.run_id for run in journal.runs() if run.state == "ended"}
        place = Place(order, lambda: None)
        # All of it stands in the records: nobody writes, nothing is run.
        result = anyio.run(partial(kill_program.agent(place, journal).resume, run_id, deps=place))
        assert not place.passed
        runs = {name: journal.records(name) for name in (run_id, *journal.nested(run_id))}
    assert (folder / EFFECTS).read_text() == effects
    assert result.output == expected.output
    assert result.messages == expected.messages
    assert (result.usage.steps, result.usage.output_tokens) == (expected.usage.steps, expected.usage.output_tokens)
    check_messages(result.messages)
    assert set(runs) == {name.replace("run", run_id, 1) for name in expected.records}
    for records in runs.values():
        check_records(records)
    assert load_runs(dump_runs(run_id, runs)) == (run_id, runs)
    assert "closer" in str(Trace.of(run_id, runs))


def check_effects(effects: Sequence[str], run_id: str) -> None:
    """What must happen once has happened once, what may happen again at least once, and nothing else."""
    own = Counter(line for line in effects if line.split()[0] == run_id)
    for name in ONCE:
        assert own.pop(f"{run_id} {name}", 0) == 1, name
    for name in AGAIN:
        assert own.pop(f"{run_id} {name}", 0) >= 1, name
    assert f"{run_id} {FORBIDDEN}" not in own
    assert not own


def check_rows(file: Path, run_id: str) -> None:
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        places: dict[str, list[int]] = {}
        for name, at in connection.execute("SELECT run_id, at FROM records ORDER BY run_id, at"):
            places.setdefault(name, []).append(at)
    assert run_id in places
    for found in places.values():
        assert found == list(range(len(found)))


def check_records(records: Sequence[Record]) -> None:
    """One result a call; what may not be run twice was begun again only behind somebody's word."""
    results = Counter(record.call_id for record in records if isinstance(record, CallEnded))
    assert set(results.values()) == {1}
    begun: set[str] = set()
    for record in records:
        if isinstance(record, CallSettled):
            begun.discard(record.call_id)
        elif isinstance(record, CallBegan) and record.call.name not in IDEMPOTENT:
            assert record.call.id not in begun, f"{record.call} was begun twice"
            begun.add(record.call.id)
    assert isinstance(records[-1], RunEnded)
    assert sum(isinstance(record, RunEnded) for record in records) == 1


def check_messages(messages: Conversation) -> None:
    """It can be shown to a model, saved and loaded, and each call has its result."""
    calls = [call.id for m in messages if isinstance(m, AssistantMessage) for call in m.tool_calls]
    assert [m.call_id for m in messages if isinstance(m, ToolMessage) if m.call_id] == calls
    assert Conversation.from_json(messages.to_json()) == messages
    assert render(messages, dialect="hermes-4-14b")


def finish(nursery: Nursery, order: Order) -> None:
    """Go on until the runs have ended, undisturbed."""
    calm = Order(order.folder, order.runs, order.backend, journal=order.journal)
    for _ in range(8):
        if nursery.carry_out(calm) == [ENDED]:
            return
    raise AssertionError(f"{order.runs} do not come to an end")


# Killing


@dataclass
class Tally:
    """What was killed where.

    Attributes:
        kills: By the point that the process had come to.
        points: How often a process came by a point at most.
        seconds: How long an undisturbed process lives.
    """

    kills: Counter[str] = field(default_factory=Counter[str])
    points: Counter[str] = field(default_factory=Counter[str])
    seconds: float = 0.5
    by_itself: int = 0

    def note(self, folder: Path, status: int, order: Order) -> None:
        points = folder / POINTS
        passed = Counter(points.read_text().splitlines()) if points.exists() else Counter[str]()
        self.points |= passed
        if status == KILLED:
            self.kills[last_point(points)] += 1
            self.by_itself += bool(order.phase)

    def choose(self, order: Order, luck: random.Random) -> Order:
        """How the next process dies: at the point where fewest have died, or at any moment."""
        if luck.random() < 0.5:
            return replace(order, after=luck.uniform(0, 1) ** 2 * self.seconds)
        fewest = min(self.kills[point] for point in self.points)
        phase = luck.choice([point for point in sorted(self.points) if self.kills[point] == fewest])
        return replace(order, phase=phase, nth=luck.randint(1, self.points[phase]))


def test_killed_a_hundred_times_everything_is_done_once(
    nursery: Nursery, expected: RunResult[Any], tmp_path: Path
) -> None:
    luck, tally, began = random.Random(SEED), Tally(), time.perf_counter()
    rounds = 0
    orders: list[Order] = []
    while tally.kills.total() < KILLS:
        names = [f"run-{rounds}-{letter}" for letter in "ab"]
        order = Order(str(tmp_path), names, ("asyncio", "trio")[rounds % 2])
        orders.append(order)
        one_round(nursery, order, tally, luck, 0 if rounds == 0 else MOST_KILLS_A_ROUND)
        for name in names:
            check(order, name, expected)
        rounds += 1
    with Journal(tmp_path / RUNS) as journal:  # none is lost
        assert {run.run_id for run in journal.runs()} == {name for order in orders for name in order.runs}
    sys.stdout.write(
        f"seed {SEED}: {tally.kills.total()} kills in {rounds} rounds of two runs, {tally.by_itself} of them at a "
        f"point that was chosen, {time.perf_counter() - began:.1f} s\n"
        f"{len(tally.kills)} of {len(tally.points)} points: {dict(tally.kills.most_common())}\n"
    )
    assert len(tally.kills) > len(tally.points) / 2


def one_round(nursery: Nursery, order: Order, tally: Tally, luck: random.Random, kills: int) -> None:
    """Two runs, begun, killed and gone on with until they have ended."""
    for _ in range(4 * MOST_KILLS_A_ROUND):
        chosen = tally.choose(order, luck) if kills > 0 else order
        began = time.perf_counter()
        (status,) = nursery.carry_out(chosen)
        if chosen is order:
            tally.seconds = max(min(tally.seconds, time.perf_counter() - began), 0.05)
        tally.note(Path(order.folder), status, chosen)
        assert status != REFUSED, (Path(order.folder) / ERRORS).read_text()
        kills -= status == KILLED
        if status == ENDED:
            return
    raise AssertionError(f"seed {SEED}: {order.runs} do not come to an end")


FIRST_STEPS = ("before anything", "open", "sql PRAGMA", "sql BEGIN", "sql CREATE", "sql COMMIT", "sql INSERT")


@pytest.mark.parametrize("phase", FIRST_STEPS[1:])
def test_killed_while_the_journal_is_made(
    nursery: Nursery, expected: RunResult[Any], tmp_path: Path, phase: str
) -> None:
    """Each process dies one step later, until one comes by."""
    order = Order(str(tmp_path), ["run"])
    steps = {"open": 2, "sql PRAGMA": 8, "sql CREATE": 3}.get(phase, 3)
    for nth in range(1, steps + 1):
        nursery.carry_out(replace(order, phase=phase, nth=nth))
    finish(nursery, order)
    check(order, "run", expected)


# Two processes


def test_of_two_processes_that_go_on_with_a_run_one_is_refused(
    nursery: Nursery, expected: RunResult[Any], tmp_path: Path
) -> None:
    """Both have read the same records when they begin."""
    luck = random.Random(SEED)
    cuts = ["", "wrote turn_began", "effect look", "wrote call_ended", "wrote call_began inside", "effect file", "paused"]
    for index, phase in enumerate(cuts):
        order = Order(str(tmp_path), [f"run-{index}"], luck.choice(["asyncio", "trio"]))
        if phase:
            nursery.carry_out(replace(order, phase=phase))
        both = nursery.carry_out(replace(order, processes=2, settle=False))
        won, lost = sorted(both)
        assert lost == REFUSED
        assert won in (ENDED, WAITS)
        finish(nursery, order)
        check(order, f"run-{index}", expected)
    errors = [json.loads(line) for line in (tmp_path / ERRORS).read_text().splitlines()]
    assert len(errors) == len(cuts)
    for index, error in enumerate(errors):
        assert f"another process goes on with run 'run-{index}" in error


# A full disk


def check_starts(order: Order, run_id: str) -> None:
    """Nothing was run whose beginning is not in the journal."""
    folder = Path(order.folder)
    effects = (folder / EFFECTS).read_text().splitlines() if (folder / EFFECTS).exists() else []
    begun: set[str] = set()
    with Journal(order.journal or folder / RUNS) as journal:
        if journal.count(run_id):
            for name in (run_id, *journal.nested(run_id)):
                begun |= {
                    effect_of(name, record.call.name, value)
                    for record in journal.records(name)
                    if isinstance(record, CallBegan)
                    for value in record.call.arguments.values()
                }
    assert set(effects) <= begun


def fill(nursery: Nursery, order: Order) -> bool:
    """Go on until the journal is full; whether it was."""
    for _ in range(8):
        (status,) = nursery.carry_out(order)
        if status in (ENDED, REFUSED):
            return status == REFUSED
    raise AssertionError(f"{order.runs} do not come to an end")


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files the Linux way")
def test_on_a_full_disk_nothing_is_run_that_is_not_recorded(
    nursery: Nursery, expected: RunResult[Any], tmp_path: Path
) -> None:
    luck, full = random.Random(SEED), 0
    limits = [0, 4096, *(luck.randrange(20_000, 250_000) for _ in range(12))]
    for index, most_bytes in enumerate(limits):
        run_id = f"run-{index}"
        (tmp_path / run_id).mkdir()
        order = Order(str(tmp_path / run_id), [run_id], ("asyncio", "trio")[index % 2])
        if fill(nursery, replace(order, most_bytes=most_bytes)):
            full += 1
            check_refusal(order, str(tmp_path / run_id / RUNS))
        check_starts(order, run_id)
        finish(nursery, order)
        check(order, run_id, expected)
    assert full > len(limits) / 2


def check_refusal(order: Order, file: str) -> None:
    (error,) = (json.loads(line) for line in (Path(order.folder) / ERRORS).read_text().splitlines())
    assert f"the journal {file!r} cannot be written" in error
    assert "make room" in error


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system can only be mounted by root, on Linux")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_on_a_disk_that_is_really_full(
    nursery: Nursery, expected: RunResult[Any], tmp_path: Path, small_disk: Path
) -> None:
    ballast, full = small_disk / "ballast", 0
    order = Order(str(tmp_path), ["run"], journal=str(small_disk / RUNS))
    for free in (8, 40, 70, 100, 130, 160, 190):  # KiB
        ballast.write_bytes(b"x" * (2048 - free) * 1024)
        (tmp_path / ERRORS).unlink(missing_ok=True)
        if fill(nursery, order):
            full += 1
            check_refusal(order, order.journal)
        ballast.unlink()
        check_starts(order, "run")
    assert full >= 3
    finish(nursery, order)
    check(order, "run", expected)
