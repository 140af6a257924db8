"""``hermes-sdk trace``: a saved run, as a tree or as a page."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from hermes_agent.cli.exits import reported
from hermes_agent.cli.options import DebugOption
from hermes_agent.cli.terminal import json_line

if TYPE_CHECKING:
    from hermes_agent.trace import Trace

__all__ = ["HELP", "kept", "trace"]

HELP = """Show a saved run: its steps with times, calls with arguments and results, tokens, errors.

FILE is what `run --trace` or `Trace.save` wrote, a saved pause, or a journal.

\b
Examples:
  hermes-sdk trace run.json
  hermes-sdk trace run.json --html run.html
  hermes-sdk trace runs.db --run 4f0c --all
  hermes-sdk trace run.json --json | jq '.steps[].calls[].name'
"""


def trace(
    file: Annotated[str, typer.Argument(help="The saved run, or a journal.")],
    html: Annotated[
        str | None, typer.Option("--html", metavar="FILE", help="Write the run there as one page for a browser.")
    ] = None,
    run: Annotated[
        str | None, typer.Option("--run", metavar="ID", help="Which run, where there are several; `<run>/<call>` too.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object: steps, times, totals.")] = False,
    whole: Annotated[bool, typer.Option("--all", help="Print values whole, however long.")] = False,
    debug: DebugOption = False,
) -> None:
    """Show a saved run."""
    with reported(debug):
        from hermes_agent.cli.history import check_page, write

        check_page(html, file)
        loaded = _load(file, run)
        if html is not None:
            write(loaded.to_html(), html)
        if as_json:
            print(json_line(loaded.to_dict()))
        elif html is None:
            unicode = (sys.stdout.encoding or "").lower().startswith("utf")
            print(loaded.tree(chars=None if whole else 400, ascii_only=not unicode))


def _load(file: str, run: str | None) -> Trace:
    """The run in a file.

    Raises:
        ConfigurationError: The file cannot be read, holds something else, or more than one run.
    """
    from hermes_agent.errors import ConfigurationError, HermesError
    from hermes_agent.trace import Trace

    try:
        return Trace.load(file, run)
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {file!r}: {error.strerror or error}",
            hint="give a file that `run --trace` wrote, or a journal",
        ) from error
    except HermesError as error:
        if not error.message.startswith("not a saved run"):
            raise
        raise ConfigurationError(
            f"{file!r} is {error.message}", hint="give a file that `run --trace` wrote, a saved pause, or a journal"
        ) from error


@contextmanager
def kept(file: str | None) -> Generator[None]:
    """Save the run that fails inside, or waits, before the error goes on.

    Args:
        file: Where; ``None`` saves nothing.
    """
    from hermes_agent.cli.history import write
    from hermes_agent.errors import HermesError, RunPaused
    from hermes_agent.trace import Trace

    try:
        yield
    except HermesError as error:
        run_id, records = error.run_id, error.records
        if isinstance(error, RunPaused):
            run_id, records = error.run.run_id, error.run.runs
        if file is not None and run_id in records:
            write(Trace.of(run_id, records).to_json(), file)
        raise
