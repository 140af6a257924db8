"""What the loop itself costs: CPU time per tool turn with a fake model, beside other libraries.

A turn is: ask the model, read its call, validate the arguments, run ``add(a, b)``, put the result into the
conversation. The first table is the CPU time of a whole run, start and end included, divided by its turns; the
second, from the longest runs of each library, the time from one request to the next up to a place in the run,
which shows whether a turn grows dearer as the conversation grows. CPU time is that of the process, all threads;
runs of the libraries take turns, so that noise on the machine falls on all of them.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import logging
import time
import warnings
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.libraries import ANSWER, LIBRARIES, Prepare, Script, sums
from benchmarks.report import figure, machine, save, table

OURS = "hermes_agent"
TARGET = 0.3  # ms of CPU per tool turn
LENGTHS = [10, 50, 200, 1000]
PATIENCE = 15.0  # CPU seconds for one library at one length, repeats included


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
    places = {}
    for place in {*LENGTHS, turns}:
        if place <= turns:
            width = max(place // 5, 5)
            places[place] = (script.stamps[place] - script.stamps[place - width]) / width * 1e3
    return Measured(spent / turns * 1e3, places)


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
    seconds = so_far[longest].places[longest] * length / longest * length / 1e3
    return min(repeats, int(PATIENCE / seconds))


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
    show(results, lengths, versions)
    save(
        given.json,
        {
            "ms_cpu_per_tool_turn": {n: {k: m.per_turn for k, m in r.items()} for n, r in results.items()},
            "ms_cpu_at_turn": {n: by_place(r) for n, r in results.items()},
            "versions": versions,
        },
    )


def show(results: dict[str, dict[int, Measured]], lengths: list[int], versions: dict[str, str | None]) -> None:
    ours = results[OURS]
    missing = [name for name, version in versions.items() if version is None]
    notes = [
        f"Median CPU time of the process; {machine()}. "
        + ", ".join(f"{name} {version}" for name, version in versions.items() if version and "," not in name)
        + ".",
        f'"-": one run would take more than {PATIENCE:.0f} s of CPU.',
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


def by_place(result: dict[int, Measured]) -> dict[int, float]:
    """The cost of a turn by its place, from the longest runs."""
    return result[max(result)].places


if __name__ == "__main__":
    main()
