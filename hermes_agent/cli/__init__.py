"""The command ``hermes-sdk``."""

from __future__ import annotations

import sys
from io import TextIOWrapper
from typing import Annotated, NoReturn

import typer

from hermes_agent.cli import chat, extract, grammar, mcp, models, parse, run, score, trace_file
from hermes_agent.cli.exits import leave

__all__ = ["app", "main"]

_HELP = """Trustworthy tools and structured output for open-weight models that speak the Hermes format.

\b
Start here:
  hermes-sdk run "What is 17 * 23?" --tools calculator
  hermes-sdk chat --tools calculator --tools clock
  hermes-sdk extract schema.py:Invoice in.jsonl -o out.jsonl
  hermes-sdk models
"""

app = typer.Typer(
    help=_HELP,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run", help=run.HELP)(run.run)
app.command("chat", help=chat.HELP)(chat.chat)
app.command("extract", help=extract.HELP)(extract.extract)
app.command("parse", help=parse.HELP)(parse.parse)
app.command("grammar", help=grammar.HELP)(grammar.grammar)
app.command("score", help=score.HELP)(score.score)
app.command("trace", help=trace_file.HELP)(trace_file.trace)
app.add_typer(models.app, name="models")
app.add_typer(mcp.app, name="mcp")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"hermes-sdk {version('hermes-agent-sdk')}")
        except PackageNotFoundError:
            print("hermes-sdk, run from a source folder that is not installed")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None: ...


def main() -> NoReturn:
    """Run the command and end the process."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal in an old encoding shows an escape for what it cannot show, instead of an error.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    leave(lambda: app(prog_name="hermes-sdk"))
