"""kill -9 at any point: the run goes on from its records in another process, and nothing is done twice unasked.

HERMES_SDK_TEST_SEED sets the seed, and HERMES_SDK_TEST_KILLS how often the first test kills.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

import anyio
import pytest

from hermes_agent import RunResult
from hermes_agent.journal import Journal

if sys.platform == "win32":
    pytest.skip("Windows has neither fork nor SIGKILL", allow_module_level=True)

from tests import kill_program
from tests.kill_laws import check, check_refusal, check_starts
from tests.kill_program import ENDED, REFUSED, WAITS
from tests.killed_runs import ERRORS, POINTS, RUNS, Order, Place, undisturbed

ROOT = Path(__file__).parent.parent
SEED = int(os.environ.get("HERMES_SDK_TEST_SEED", "4"))
KILLS = int(os.environ.get("HERMES_SDK_TEST_KILLS", "100"))
KILLED = -signal.SIGKILL
MOST_KILLS_A_ROUND = 24


class Nursery:
    """What forks the processes that are killed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

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
def running() -> Generator[Nursery]:
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
    return anyio.run(undisturbed, "run", place)


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
        lives: How long processes live that are not killed, in seconds.
        aims: How often a point was chosen.
        aim: The point at which one of the next processes is to die.
        by_itself: How many have died at a point that was chosen.
    """

    kills: Counter[str] = field(default_factory=Counter[str])
    points: Counter[str] = field(default_factory=Counter[str])
    lives: list[float] = field(default_factory=list[float])
    aims: Counter[str] = field(default_factory=Counter[str])
    aim: str = ""
    by_itself: int = 0

    def note(self, folder: Path, status: int, order: Order) -> None:
        points = folder / POINTS
        passed = Counter(points.read_text().splitlines()) if points.exists() else Counter[str]()
        self.points |= passed
        if status == KILLED:
            self.kills[last_point(points)] += 1
            if order.phase:
                self.by_itself += 1
                self.aim = ""

    def choose(self, order: Order, luck: random.Random) -> Order:
        """How the next process dies: at the point where fewest have died, or at any moment."""
        if luck.random() < 0.4:
            return replace(order, after=luck.uniform(0.01, 0.7 * median(self.lives)))
        if not self.aim:
            fewest = min(self.aims[point] for point in self.points)
            self.aim = luck.choice([point for point in sorted(self.points) if self.aims[point] == fewest])
            self.aims[self.aim] += 1
        return replace(order, phase=self.aim, nth=luck.choice([1, luck.randint(1, self.points[self.aim])]))


def test_killed_a_hundred_times_everything_is_done_once(
    nursery: Nursery, expected: RunResult[Any], tmp_path: Path
) -> None:
    luck, tally, began = random.Random(SEED), Tally(), time.perf_counter()
    rounds = 0
    orders: list[Order] = []
    while tally.kills.total() < KILLS:
        names = [f"run-{rounds}-{letter}" for letter in "ab"]
        sync: Literal["full", "normal"] = "normal" if rounds % 4 else "full"  # the slow one, and the default
        order = Order(str(tmp_path), names, ("asyncio", "trio")[rounds % 2], sync=sync)
        orders.append(order)
        one_round(nursery, order, tally, luck, 0 if rounds == 0 else MOST_KILLS_A_ROUND)
        for name in names:
            check(order, name, expected)
        rounds, tally.aim = rounds + 1, ""  # what was not met in a round may never be met again
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
        if status != KILLED and chosen.after is None:
            tally.lives.append(time.perf_counter() - began)
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
    cuts = [
        "",
        "wrote turn_began",
        "effect look",
        "wrote call_ended",
        "wrote call_began inside",
        "effect file",
        "paused",
    ]
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
    limits = [0, 4096, *(luck.randrange(20_000, 250_000) for _ in range(8))]
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
