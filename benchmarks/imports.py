"""What importing costs: CPU time of the first import line in a fresh interpreter, beside other libraries."""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from statistics import median

from benchmarks.report import figure, machine, save, table

OURS = "from hermes_agent import Agent"
TARGET = 250  # ms of CPU

STATEMENTS = {
    OURS: "hermes_agent",
    "import llm": "llm",
    "from smolagents import ToolCallingAgent": "smolagents",
    "from pydantic_ai import Agent": "pydantic_ai",
    "from agents import Agent, Runner": "agents",
    "import openai": "openai",
    "import outlines": "outlines",
    "import pydantic": "pydantic",
}
"""Import line → the package it needs. The last three are what several of the others stand on."""

HEAVY = ("torch", "transformers", "outlines", "llguidance", "openai", "mcp")
"""Modules that our import must leave alone."""

# The clock of the whole process, so that what the interpreter itself took is in both figures and falls out.
_CHILD = """
{statement}
import json, sys, time
print(json.dumps([time.process_time(), [name for name in {heavy!r} if name in sys.modules], len(sys.modules)]))
"""


def run_once(statement: str) -> tuple[float, list[str], int]:
    """A fresh interpreter that does nothing but the import.

    Returns:
        CPU seconds of the process, the heavy modules it loaded, and how many modules it loaded in all.
    """
    code = _CHILD.format(statement=statement, heavy=HEAVY)
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, heavy, modules = json.loads(child.stdout)
    return seconds, heavy, modules


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m benchmarks.imports", description=__doc__)
    options.add_argument("--quick", action="store_true", help="our own import only, once")
    options.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")
    given = options.parse_args()
    present = [s for s, package in STATEMENTS.items() if importlib.util.find_spec(package) is not None]
    statements = [OURS] if given.quick else present
    repeats = 1 if given.quick else 9

    for statement in statements:
        run_once(statement)  # writes the byte code
    bare: list[float] = []
    runs: dict[str, list[float]] = {statement: [] for statement in statements}
    loaded: dict[str, tuple[list[str], int]] = {}
    for _ in range(repeats):
        bare.append(run_once("pass")[0])
        for statement in statements:
            seconds, heavy, modules = run_once(statement)
            runs[statement].append(seconds)
            loaded[statement] = heavy, modules

    cost = {statement: (median(seconds) - median(bare)) * 1e3 for statement, seconds in runs.items()}
    rows = [
        [
            f"`{s}`",
            figure(ms, 0),
            figure(ms / cost[OURS], 1),
            figure(loaded[s][1], 0),
            ", ".join(loaded[s][0]) or "none",
        ]
        for s, ms in cost.items()
    ]
    headers = ["Import", "ms CPU", "x ours", "modules", f"of {', '.join(HEAVY)}"]
    missing = [] if given.quick else [s for s in STATEMENTS if s not in statements]
    print(
        table(
            "Import: ms of CPU in a fresh interpreter",
            headers,
            rows,
            f"Median of {repeats}, less a bare interpreter ({figure(median(bare) * 1e3, 0)} ms); {machine()}. "
            f"Our target, at most {TARGET} ms, is {'met' if cost[OURS] <= TARGET else 'missed'}.",
            *([f"Not installed here: {', '.join(f'`{s}`' for s in missing)}."] if missing else []),
        )
    )
    save(given.json, {"ms_cpu": cost, "loaded": {s: {"heavy": h, "modules": m} for s, (h, m) in loaded.items()}})
    if loaded[OURS][0]:
        sys.exit(f"{OURS!r} loads {', '.join(loaded[OURS][0])}, which it must not")


if __name__ == "__main__":
    main()
