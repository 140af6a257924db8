"""Many runs at once, most of which go wrong in one way or another: nothing may be lost, mixed up or left behind.

The model is scripted; tools succeed, raise, ask for another try, hang in tasks and in threads, return megabytes, report
progress, want approval; runs are cancelled, left, paused and resumed, run into limits, and break. Each has to end in
just the way that its script says, with one result for each call, in order, and no text of another run in it. Half of
them write a journal, which must hold what the run says of itself.

The runs are done in four quarters. After each there is nothing under way: then no task may be left, no thread busy and
no file open, and memory must not have grown from the third quarter to the fourth. Objects of this package are counted
one by one, all of Python's by tracemalloc, and at last the memory of the process, which its allocator may keep. Threads
and files of before the first run do not count, as somebody else may let go of them in the meantime.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import threading
import time
import tracemalloc
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path

import anyio

from benchmarks.report import figure, machine, save, table
from benchmarks.soak_agents import SoakModel, agents_of
from benchmarks.soak_drive import Driver
from benchmarks.soak_kinds import one_of_each, script_of
from benchmarks.soak_scripts import Script
from benchmarks.soak_watch import (
    File,
    Left,
    Workers,
    complaints,
    files_open,
    files_since,
    left,
    objects,
    return_freed_memory,
    threads_since,
)
from hermes_agent.journal import Journal

BACKENDS = ("asyncio", "trio")
QUARTERS = 4
IDLE_SECONDS = 0.3  # in place of the 30 and 10 that threads wait for work
PATIENCE = 20.0  # seconds that threads have to come to their end
LATE_GATES = 20  # runs whose hanging threads are kept for so many runs more

TRACED_A_RUN = 20.0  # bytes: below anything that could be kept of a run; caches and counters move by about a kB
TRACED = 32_000  # bytes, however few the runs
RSS = 6_000_000  # bytes: threads that come and go leave some of their heaps; one huge result would be 10 MB


@dataclass(slots=True)
class Soaked:
    """What came of the runs on one event loop.

    Attributes:
        expected: How runs had to end.
        ended: How they did.
        seconds: Wall clock.
        calls: Calls of tools that were run.
        quarters: What was there at the start, and after each quarter.
        threads: Before, the most, and at the end.
        most_busy: The most functions that ran in threads at once.
        files: Open before, and those of the end that were not.
        kept: Objects that were made in the last quarter and are still there, by type.
        problems: What must not be.
    """

    expected: Counter[str] = field(default_factory=Counter[str])
    ended: Counter[str] = field(default_factory=Counter[str])
    seconds: float = 0.0
    calls: int = 0
    quarters: list[Left] = field(default_factory=list[Left])
    threads: tuple[int, int, int] = (0, 0, 0)
    most_busy: int = 0
    files: tuple[int, int] = (0, 0)
    kept: Counter[str] = field(default_factory=Counter[str])
    problems: list[str] = field(default_factory=list[str])

    def figures(self) -> dict[str, object]:
        """All of it as JSON values."""
        counts = {name: dict(getattr(self, name)) for name in ("expected", "ended", "kept")}
        return (
            {each.name: getattr(self, each.name) for each in fields(self)}
            | counts
            | {"quarters": [asdict(quarter) for quarter in self.quarters]}
        )


def soak(backend: str, runs: int, at_once: int, journal: Path, seed: int, *, traced: bool = True) -> Soaked:
    """Do so many runs on one event loop, and look at what is left.

    Args:
        backend: ``asyncio`` or ``trio``.
        runs: How many.
        at_once: How many of them at the same time.
        journal: A file for the journal, in a folder of its own.
        seed: Other runs for another seed.
        traced: Count bytes with tracemalloc, which takes about as much time again.
    """
    soaked, workers = Soaked(), Workers()
    return_freed_memory()
    gc.collect()  # what others have left may complain before somebody listens
    if backend == "trio":
        import trio  # noqa: F401  # its threads are watched as well
    with ExitStack() as stack:
        found = stack.enter_context(complaints())
        stack.enter_context(workers.watched(IDLE_SECONDS))
        before, files_before = frozenset(threading.enumerate()), files_open()
        if traced:
            tracemalloc.start()
            stack.callback(tracemalloc.stop)
        started = time.monotonic()
        anyio.run(partial(_soak, soaked, workers, runs, at_once, journal, seed, before, files_before), backend=backend)
        soaked.seconds = time.monotonic() - started
        until = time.monotonic() + PATIENCE
        while threads_since(before) and time.monotonic() < until:
            time.sleep(0.05)
        gc.collect()
    new = threads_since(before)
    soaked.threads = (len(before), workers.most_threads, len(before) + len(new))
    soaked.files = (len(files_before), len(files_since(files_before)))
    soaked.most_busy = workers.most
    soaked.problems += _judged(soaked, runs, workers, new, found)
    return soaked


def _judged(
    soaked: Soaked, runs: int, workers: Workers, new: Sequence[threading.Thread], found: list[str]
) -> list[str]:
    """What must not be, as lines."""
    threads_before, most_threads, _ = soaked.threads
    third, last = soaked.quarters[-2:]
    traced, rss = last.traced - third.traced, last.rss - third.rss
    bound = max(TRACED, TRACED_A_RUN * runs / QUARTERS)
    tasks, files = ([getattr(quarter, what) for quarter in soaked.quarters] for what in ("tasks", "files"))
    # A thread whose function has ended takes a moment until it can be had for the next one, or has gone.
    room = threads_before + workers.most * 1.25 + 4
    checks = {
        f"runs ended as {dict(soaked.ended)}, and had to as {dict(soaked.expected)}": soaked.ended == soaked.expected,
        f"threads are left: {new}": not new,
        f"{workers.busy} functions are still running in threads": workers.busy == 0,
        f"{most_threads} threads for at most {workers.most} functions at once": most_threads <= room,
        f"files open before, and others after: {soaked.files}": soaked.files[1] == 0,
        f"the collector gave up on {gc.garbage[:5]!r}": not gc.garbage,
        f"tasks at the start and after each quarter: {tasks}": max(tasks) == tasks[0],
        f"files at the start and after each quarter: {files}": max(files) == files[0],
        f"objects are kept, {third.ours} and then {last.ours}: {soaked.kept}": last.ours <= third.ours,
        f"{traced} more bytes are traced after the last quarter; allowed: {bound:.0f}": traced <= bound,
        f"the process has {rss} more bytes after the last quarter; allowed: {RSS}": rss <= RSS,
        f"the journal grew from {third.disk} to {last.disk} bytes": last.disk <= 2 * third.disk,
    }
    return [f"complaint: {line}" for line in found] + [line for line, holds in checks.items() if not holds]


async def _soak(
    soaked: Soaked,
    workers: Workers,
    runs: int,
    at_once: int,
    path: Path,
    seed: int,
    before: frozenset[threading.Thread],
    files_before: frozenset[File],
) -> None:
    model = SoakModel()
    async with Journal(path, sync="normal") as journal:
        agents = {False: agents_of(model, None), True: agents_of(model, journal)}
        driver = Driver(model, agents, journal)
        late: deque[threading.Event] = deque()

        async def measured(scripts: Iterator[Script]) -> None:
            await _quarter(soaked, driver, scripts, at_once, late)
            while late:
                late.popleft().set()
            with anyio.move_on_after(PATIENCE):
                while workers.busy or threads_since(before):  # noqa: ASYNC110  # threads set no event
                    await anyio.sleep(0.01)
            soaked.quarters.append(left(path, files_before))

        await measured(iter(one_of_each(seed)))
        soaked.expected.clear()
        soaked.ended.clear()
        soaked.calls = 0
        kinds = objects()
        for quarter in range(QUARTERS):
            begin, end = runs * quarter // QUARTERS, runs * (quarter + 1) // QUARTERS
            await measured(script_of(number, seed) for number in range(begin, end))
            kinds_before, kinds = kinds, objects()
            soaked.kept = kinds - kinds_before
            print(f"{end:,} runs, {len(soaked.problems)} problems", file=sys.stderr, flush=True)
        if model.scripts:
            soaked.problems.append(f"runs {sorted(model.scripts)} were lost")


async def _quarter(
    soaked: Soaked, driver: Driver, scripts: Iterator[Script], at_once: int, late: deque[threading.Event]
) -> None:
    """Do these runs, so many at a time."""

    async def work() -> None:
        for script in scripts:
            soaked.expected[script.ends] += 1
            ended = await driver.drive(script)
            soaked.ended[ended] += 1
            soaked.calls += sum(script.ran.values())
            soaked.problems += [f"run {script.number} ({script.kind}, {script.drive}) {line}" for line in script.wrong]
            late.append(script.gate)
            if script.number % 2 or len(late) > LATE_GATES:
                late.popleft().set()

    async with anyio.create_task_group() as group:
        for _ in range(at_once):
            group.start_soon(work)


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    options.add_argument("--runs", type=int, default=10_000, help="how many on each event loop (default: 10000)")
    options.add_argument("--at-once", type=int, default=64, help="how many at the same time (default: 64)")
    options.add_argument("--backend", choices=[*BACKENDS, "both"], default="both", help="the event loop")
    options.add_argument("--journal", type=Path, metavar="FILE", help="keep the journal here (default: nowhere)")
    options.add_argument("--seed", type=int, default=0, help="other runs (default: 0)")
    options.add_argument("--quick", action="store_true", help="a short run, to see that it works")
    options.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")
    given = options.parse_args()
    runs = min(given.runs, 100) if given.quick else given.runs
    backends = BACKENDS if given.backend == "both" else (given.backend,)
    results: dict[str, Soaked] = {}
    with tempfile.TemporaryDirectory() as folder:
        for backend in backends:
            print(f"{backend}: {runs:,} runs, {given.at_once} at once", file=sys.stderr, flush=True)
            journal = Path(folder, f"{backend}.db") if given.journal is None else given.journal
            results[backend] = soak(backend, runs, given.at_once, journal, given.seed)
    show(results, runs, given.at_once)
    save(given.json, {name: soaked.figures() for name, soaked in results.items()})
    failed = [f"{name}: {line}" for name, soaked in results.items() for line in soaked.problems]
    for line in failed[:40]:
        print(line[:600], file=sys.stderr)
    if failed:
        sys.exit(f"{len(failed)} problems")


def show(results: dict[str, Soaked], runs: int, at_once: int) -> None:
    """Print the tables."""
    names = list(results)
    ways = sorted({way for soaked in results.values() for way in (*soaked.expected, *soaked.ended)})
    rows = [[way, *(f"{r.ended[way]:,} of {r.expected[way]:,}" for r in results.values())] for way in ways]
    print(table(f"Soak: how {runs:,} runs ended, {at_once} at once", ["Runs that", *names], rows, machine()))

    def line(what: str, *cells: str) -> list[str]:
        return [what, *cells]

    def quarters(what: str, digits: int = 0, unit: float = 1.0) -> list[list[str]]:
        return [
            line(
                f"{what}, start, quarters",
                *(
                    " ".join(figure(getattr(quarter, what) / unit, digits) for quarter in r.quarters)
                    for r in results.values()
                ),
            )
        ]

    every = list(results.values())
    rows = [
        line("problems", *(str(len(r.problems)) for r in every)),
        line("runs a second", *(figure(runs / r.seconds, 0) for r in every)),
        line("calls of tools", *(f"{r.calls:,}" for r in every)),
        line("most functions in threads at once", *(str(r.most_busy) for r in every)),
        line("threads before, most, after", *(" ".join(map(str, r.threads)) for r in every)),
        line("files before, others after", *(" ".join(map(str, r.files)) for r in every)),
        *quarters("tasks"),
        *quarters("ours"),
        *quarters("objects"),
        *([[cell.replace("traced", "traced kB") for cell in row] for row in quarters("traced", 1, 1e3)]),
        *([[cell.replace("rss", "RSS MB") for cell in row] for row in quarters("rss", 1, 1e6)]),
        *([[cell.replace("disk", "journal MB") for cell in row] for row in quarters("disk", 1, 1e6)]),
    ]
    print(table("Soak: what is left behind", ["Figure", *names], rows))


if __name__ == "__main__":
    main()
