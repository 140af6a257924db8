from __future__ import annotations

import io
from pathlib import Path

import anyio
import pytest
from rich.console import Console

from hermes_agent import Agent, ModelError, RunContext
from hermes_agent.cli.trace import Trace, trace
from hermes_agent.testing import ScriptedModel
from tests.command import hermes, tools_file


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return tools_file(tmp_path)


def traced(mine: Path, model: str, *tools: str) -> list[str]:
    options = [option for name in tools for option in ("-t", f"{mine}:{name}")]
    ran = hermes("run", "q", "-m", f"{mine}:{model}", *options)
    assert ran.code == 0, ran
    return [line for line in ran.err.splitlines() if line != "add was called"]


def test_thinking_text_call_result_and_answer_stand_on_lines_of_their_own(mine: Path) -> None:
    lines = traced(mine, "thinks", "add")
    assert lines[:-1] == ["thinking: One and two.", "I will add.", "→ add(a=1, b=2)", "← 3", "3 it is."]


def test_results_of_several_calls_carry_their_names(mine: Path) -> None:
    lines = traced(mine, "several", "add")
    assert lines[:2] == ["→ add(a=1, b=2)", "→ add(a=3, b=4)"]
    assert set(lines[2:4]) == {"← add: 3", "← add: 7"}


def test_what_models_and_tools_write_is_neither_markup_nor_obeyed(mine: Path) -> None:
    lines = traced(mine, "meets_hostility", "hostile")
    assert lines[1:4] == [
        "← \\x1b[2J[red]red[/] [/nope] \\x9b31m \\u202eabc",
        "  second line",
        "\\x1b]0;title\\x07 [bold]done[/bold] [/x]",
    ]


def test_long_results_are_cut_and_say_so(mine: Path) -> None:
    lines = traced(mine, "reads_long", "long")
    assert lines[1] == "← line 0"
    assert lines[12] == "  line 11"
    assert lines[13].startswith("  [… 8")
    assert lines[13].endswith(" more lines]")
    assert lines[14] == "Long."


def test_errors_of_tools_and_faults_of_turns_are_shown(mine: Path) -> None:
    assert traced(mine, "meets_failure", "fails")[1].startswith("← Error: ValueError: no such thing")
    lines = traced(mine, "mistaken", "add")
    assert any(line.startswith("! unknown tool: ") for line in lines)
    assert any(line.startswith("! malformed: ") for line in lines)
    assert lines[-2] == "I give up."


def test_a_scripts_own_console_and_result() -> None:
    out = Console(file=io.StringIO(), width=40, force_terminal=False)

    async def go() -> str:
        async with Agent(ScriptedModel(["<think>\nHm.\n</think>\nA [bold]word[/bold] :smile: " + "long " * 30])).stream(
            "q"
        ) as events:
            return (await trace(events, out)).output

    assert anyio.run(go).startswith("A [bold]word[/bold]")
    assert isinstance(out.file, io.StringIO)
    # A console of any settings shows the text as it is: no markup, no emoji, no wrapping.
    assert out.file.getvalue().splitlines()[1].startswith("A [bold]word[/bold] :smile: long long")
    assert len(out.file.getvalue().splitlines()) == 3


def test_a_run_that_fails_ends_its_line_and_its_usage_stays() -> None:
    out = Console(file=io.StringIO(), width=80)
    view = Trace(out)

    async def go() -> None:
        async with Agent(ScriptedModel(["<tool_call>{</tool_call>"])).stream("q") as events:
            await trace(events, view)

    with pytest.raises(ModelError):
        anyio.run(go)
    assert isinstance(out.file, io.StringIO)
    assert out.file.getvalue().endswith("\n")
    assert view.usage.steps == 1


def test_what_a_tool_says_of_its_progress_is_a_line() -> None:
    def copy(context: RunContext[None]) -> str:
        """Copy."""
        context.progress("begun \x1b[2J")
        context.progress("files", 3, 1000)
        context.progress("lines", 0.5)
        return "done"

    out = Console(file=io.StringIO(), width=80)

    async def go() -> None:
        script = ['<tool_call>\n{"name": "copy", "arguments": {}}\n</tool_call>', '{"n": 1}']
        async with Agent(ScriptedModel(script), tools=[copy], output=dict[str, int]).stream("q") as events:
            await trace(events, out)

    anyio.run(go)
    assert isinstance(out.file, io.StringIO)
    assert [line for line in out.file.getvalue().splitlines() if line.startswith("· ")] == [
        "· copy: begun \\x1b[2J",
        "· copy: files (3 of 1,000)",
        "· copy: lines (0.5)",
    ]
    assert out.file.getvalue().count('{"n": 1}') == 1


def test_ascii_consoles_get_ascii_signs() -> None:
    raw = io.BytesIO()
    out = Console(file=io.TextIOWrapper(raw, encoding="ascii"), width=80)

    def now() -> str:
        """Tell the time."""
        return "noon"

    async def go() -> None:
        script = ['<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>', "Noon."]
        async with Agent(ScriptedModel(script), tools=[now]).stream("q") as events:
            await trace(events, out)

    anyio.run(go)
    out.file.flush()
    assert raw.getvalue().decode("ascii").splitlines()[:2] == ["-> now()", "<- noon"]
