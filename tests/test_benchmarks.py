"""The cheap benchmarks run, and say what they measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_loop_measures_every_library_it_finds(tmp_path: Path) -> None:
    figures = tmp_path / "loop.json"
    shown = run("benchmarks.loop", "--quick", "--json", str(figures))
    assert "| hermes_agent " in shown
    measured = json.loads(figures.read_text())["figures"]
    installed = {name for name, version in measured["versions"].items() if version is not None}
    for table in ("ms_cpu_per_tool_turn", "ms_cpu_at_turn"):
        assert set(measured[table]) == installed
        assert all(ms >= 0 for costs in measured[table].values() for ms in costs.values())
    assert set(measured["ms_cpu_per_tool_turn"]["hermes_agent"]) == {"10", "20"}
    assert measured["kb_at_turn"]["hermes_agent"]["10"] > 0


def test_many_tools_compiles_one_grammar(tmp_path: Path) -> None:
    figures = tmp_path / "many_tools.json"
    shown = run("benchmarks.many_tools", "--quick", "--json", str(figures))
    assert "| embedded model, 20 tools " in shown
    measured = json.loads(figures.read_text())["figures"]
    assert [costs["compiled"] for costs in measured["embedded model"].values()] == [1, 1]
    assert all(costs["warm_ms"] > 0 for costs in measured["scripted model"].values())


def test_our_import_loads_nothing_heavy(tmp_path: Path) -> None:
    figures = tmp_path / "imports.json"
    shown = run("benchmarks.imports", "--quick", "--json", str(figures))
    assert "| `from hermes_agent import Agent` |" in shown
    (loaded,) = json.loads(figures.read_text())["figures"]["loaded"].values()
    assert loaded["heavy"] == []


def test_soak_loses_nothing(tmp_path: Path) -> None:
    figures = tmp_path / "soak.json"
    shown = run("benchmarks.soak", "--quick", "--json", str(figures))
    assert "| problems " in shown
    measured = json.loads(figures.read_text())["figures"]
    assert list(measured) == ["asyncio", "trio"]
    for soaked in measured.values():
        assert soaked["ended"] == soaked["expected"]
        assert soaked["problems"] == []


def test_gold_names_what_the_grammar_does_not_allow(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {}}, "additionalProperties": False}
    right = [{"b": "x", "a": 1}, {}]
    rows = [{"id": f"r{at}", "schema": schema, "gold": gold} for at, gold in enumerate([*right, {"a": "one"}])]
    (tmp_path / "set.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:2]))
    assert "| set |    2 |        2 |     2 |" in run("benchmarks.gold", "--data", str(tmp_path))
    (tmp_path / "set.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [sys.executable, "-m", "benchmarks.gold", "--data", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 1
    assert done.stderr == 'set r2: accepted=False valid=False: {"a": "one"}\n'


def test_runner_runs_the_chosen_ones() -> None:
    shown = run("benchmarks", "--quick", "--peers", sys.executable, "--only", "imports", "parser")
    assert "(imports: " in shown
    assert "(loop: " not in shown
    assert "(parser: " not in shown, "a long one ran in --quick"
    assert "left out" in run("benchmarks", "--only", "bfcl"), "without --data"


@pytest.mark.skipif(os.name != "posix", reason="the stand-in for an interpreter is a shell script")
def test_runner_goes_on_after_a_failure_and_names_it(tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--peers", str(broken), "--only", "loop", "imports"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "failed: loop, imports\n"
