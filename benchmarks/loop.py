"""What the loop itself costs: CPU time per tool turn with a fake model, beside other libraries.

A turn is: ask the model, read its call, validate the arguments, run ``add(a, b)``, put the result into the
conversation. The first table is the CPU time of a whole run, start and end included, divided by its turns; the
second, from the longest runs of each library, the time from one request to the next up to a place in the run,
which shows whether a turn grows dearer as the conversation grows. CPU time is that of the process, all threads;
runs of the libraries take turns, so that noise on the machine falls on all of them. The third table is from runs of
their own, under tracemalloc: how much memory a turn takes at its peak, beyond what was there when it began. Whoever
copies the history takes more the longer it is.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import logging
import time
import tracemalloc
import warnings
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.libraries import ANSWER, LIBRARIES, Prepare, Script, sums
from benchmarks.report import figure, machine, save, table

OURS = "hermes_agent"
TARGET = 0.3  # ms of CPU per tool turn
LENGTHS = [10, 100, 1000]
PATIENCE = 15.0  # CPU seconds for one library at one length, repeats included
ONCE = 120.0  # CPU seconds for a run that is done only once
TRACED = 8.0  # about how much slower a run is while its memory is traced


@dataclass(frozen=True, slots=True)
class Measured:
    """Runs of one length.

    Attributes:
        per_turn: ms of CPU of a whole run, divided by its turns.
        places: The same of one turn, by its place in the run: the mean of the fifth of the run up to there.
    """

    per_turn: float
    places: dict[int, float]


def run_once(prepare: Prepare, turns: int) -> Measured:
    """Run an agent through a script of so many turns.

    Raises:
        RuntimeError: The library did not run every call, or answered something else.
    """
    script = Script(turns)
    go = prepare(script)
    sums.clear()
    gc.collect()
    started = time.process_time()
    answer = go()
    spent = time.process_time() - started
    if answer != ANSWER or len(sums) != turns:
        raise RuntimeError(f"expected {turns} calls and {ANSWER!r}, got {len(sums)} calls and {answer!r}")
    places = {
        place: (script.stamps[place] - script.stamps[place - fifth(place)]) / fifth(place) * 1e3
        for place in places_of(turns)
    }
    return Measured(spent / turns * 1e3, places)


def memory(prepare: Prepare, turns: int) -> dict[int, float]:
    """What a turn takes at its peak, in kB, by its place in a run: the median of the fifth of the run up to there."""
    script = Script(turns)
    go = prepare(script)
    sums.clear()
    gc.collect()
    tracemalloc.start()
    try:
        go()
    finally:
        tracemalloc.stop()
    # The peak before request n is that of turn n - 1.
    return {place: median(script.peaks[place + 1 - fifth(place) : place + 1]) / 1e3 for place in places_of(turns)}


def places_of(turns: int) -> list[int]:
    """The places that are shown of a run."""
    return sorted({length for length in (*LENGTHS, turns) if length <= turns})


def fifth(place: int) -> int:
    """How many turns up to a place stand for it."""
    return max(place // 5, 5)


def installed(distribution: str) -> str | None:
    """The version of a distribution; ``None`` when it is not here. Ours always is, if only as this checkout."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "(checkout)" if distribution == "hermes-agent-sdk" else None


def measure(libraries: dict[str, Prepare], lengths: list[int], repeats: int) -> dict[str, dict[int, Measured]]:
    """Median of each library at each length; a length that would take too long is missing."""
    for prepare in libraries.values():
        run_once(prepare, 10)  # imports, and whatever is built on first use
    gc.collect()
    gc.freeze()  # nobody is charged for walking through what the others have imported
    results: dict[str, dict[int, Measured]] = {name: {} for name in libraries}
    for length in lengths:
        times = {name: affordable(results[name], length, repeats) for name in libraries}
        runs: dict[str, list[Measured]] = defaultdict(list)
        for turn in range(max(times.values())):
            for name in (name for name in libraries if turn < times[name]):
                runs[name].append(run_once(libraries[name], length))
        for name, measured in runs.items():
            results[name][length] = Measured(
                median(m.per_turn for m in measured),
                {place: median(m.places[place] for m in measured) for place in sorted(measured[0].places)},
            )
    return results


def affordable(so_far: dict[int, Measured], length: int, repeats: int) -> int:
    """How often to run at this length, if the cost of a turn goes on growing as it did: 0 when once is too much."""
    if not so_far:
        return repeats * 2  # short runs are cheap and noisy
    *_, longest = so_far
    seconds = foreseen(so_far[longest].places, length)
    return max(min(repeats, int(PATIENCE / seconds)), 1 if seconds < ONCE else 0)


def foreseen(places: dict[int, float], length: int) -> float:
    """Seconds that a run of this length would take, on the line through the first and the last place known."""
    (first, low), (last, high) = min(places.items()), max(places.items())
    growth = max(high - low, 0) / (last - first) if last > first else high / last
    return (low + growth * length / 2) * length / 1e3


def traceable(results: dict[str, dict[int, Measured]], lengths: list[int]) -> dict[str, int]:
    """The longest run of each library that is affordable with its memory traced."""
    return {
        name: max(n for n in lengths if n == lengths[0] or (n in runs and runs[n].per_turn * n * TRACED < ONCE * 1e3))
        for name, runs in results.items()
    }


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m benchmarks.loop", description=__doc__)
    options.add_argument("--quick", action="store_true", help="a short run, to see that it works")
    options.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")
    given = options.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")

    versions = {name: installed(distribution) for name, (distribution, _) in LIBRARIES.items()}
    libraries = {name: prepare for name, (_, prepare) in LIBRARIES.items() if versions[name]}
    lengths = [10, 20] if given.quick else LENGTHS
    results = measure(libraries, lengths, repeats=1 if given.quick else 11)
    taken = {name: memory(libraries[name], length) for name, length in traceable(results, lengths).items()}
    show(results, taken, lengths, versions)
    save(
        given.json,
        {
            "ms_cpu_per_tool_turn": {n: {k: m.per_turn for k, m in r.items()} for n, r in results.items()},
            "ms_cpu_at_turn": {n: by_place(r) for n, r in results.items()},
            "kb_at_turn": taken,
            "versions": versions,
        },
    )


def show(
    results: dict[str, dict[int, Measured]],
    taken: dict[str, dict[int, float]],
    lengths: list[int],
    versions: dict[str, str | None],
) -> None:
    ours = results[OURS]
    missing = [name for name, version in versions.items() if version is None]
    notes = [
        f"Median CPU time of the process; {machine()}. "
        + ", ".join(f"{name} {version}" for name, version in versions.items() if version and "," not in name)
        + ".",
        f'"-": one run would take more than {ONCE:.0f} s of CPU, by how the shorter ones grew.',
    ]
    if missing:
        notes.append(f"Not installed here: {', '.join(missing)}; `make bench` installs them.")
    headers = ["Library", *(f"{n:,} turns" for n in lengths), *(f"x ours at {n:,}" for n in lengths)]
    rows = []
    for name, result in results.items():
        cost = {n: result[n].per_turn if n in result else None for n in lengths}
        ratios = [None if (c := cost[n]) is None else c / ours[n].per_turn for n in lengths]
        rows.append([name, *(figure(cost[n]) for n in lengths), *(figure(ratio, 1) for ratio in ratios)])
    print(table("Loop: ms of CPU per tool turn, whole run", headers, rows, *notes))
    places = {name: by_place(result) for name, result in results.items()}
    rows = [[name, *(figure(at.get(n)) for n in lengths)] for name, at in places.items()]
    worst = max(places[OURS].values())
    print(
        table(
            "Loop: ms of CPU of one tool turn, by its place in the run",
            ["Library", *(f"turn {n:,}" for n in lengths)],
            rows,
            f"Our target, at most {TARGET} ms at any turn, is {'met' if worst <= TARGET else 'missed'} "
            f"({figure(worst, 3)} ms); a tool declared `def` runs in a worker thread.",
        )
    )
    turns = [f"turn {n:,}" for n in lengths]
    rows = [[name, *(figure(at.get(n), 1) for n in lengths)] for name, at in taken.items()]
    print(
        table(
            "Loop: kB that one tool turn takes at its peak, by its place in the run",
            ["Library", *turns],
            rows,
            f'"-": a traced run would take more than {ONCE:.0f} s of CPU.',
        )
    )


def by_place(result: dict[int, Measured]) -> dict[int, float]:
    """The cost of a turn by its place, from the longest runs."""
    return result[max(result)].places


if __name__ == "__main__":
    main()
