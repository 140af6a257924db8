"""``hermes-sdk grammar``: what a turn may be, as text, and whether a given one is."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from hermes_agent.cli.exits import reported
from hermes_agent.cli.options import (
    DebugOption,
    OutputOption,
    ParallelOption,
    SchemaOption,
    Thinking,
    ThinkingOption,
    ToolChoiceOption,
    ToolsOption,
    output_type,
    parallel,
    tools,
)
from hermes_agent.cli.terminal import console, read_text, safe

__all__ = ["HELP", "grammar"]

HELP = """Print the grammar of a turn in Lark, as llguidance takes it.

What the mask cannot enforce, so that only the validation afterwards holds it, is said on standard error.

\b
Examples:
  hermes-sdk grammar --tools calculator --tool-choice required
  hermes-sdk grammar --tools day.py --output day.py:Plan --thinking auto
  hermes-sdk grammar --tools calculator --check turn.txt
"""


def grammar(
    specs: ToolsOption = None,
    output: OutputOption = None,
    schema: SchemaOption = None,
    tool_choice: ToolChoiceOption = "auto",
    parallel_calls: ParallelOption = "on",
    thinking: ThinkingOption = Thinking.off,
    check: Annotated[
        str | None,
        typer.Option(
            "--check",
            metavar="FILE",
            help="Say whether the grammar accepts the turn in this file (- is standard input) instead: "
            "exit code 0 or 1. One newline at the end of the file does not count.",
        ),
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Print the grammar of a turn, or check a turn against it."""
    with reported(debug):
        from hermes_agent.formats.grammar import TurnGrammar

        turns = TurnGrammar(
            tools(specs), output_type(output, schema), tool_choice, parallel(parallel_calls), thinking.value
        )
        if check is not None:
            text = read_text(check)
            accepted = turns.accepts(text) or (text.endswith("\n") and turns.accepts(text[:-1]))
            print("accepted" if accepted else "not accepted")
            raise typer.Exit(0 if accepted else 1)
        warnings = console(sys.stderr)
        for warning in turns.warnings:
            warnings.print(f"warning: {safe(warning)}", style="yellow")
        print(safe(turns.lark()), end="")
