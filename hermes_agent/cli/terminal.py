"""What may reach a terminal, and how it is written there."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import TYPE_CHECKING, TextIO, cast

from hermes_agent.cli.interrupts import noticed_while_reading
from hermes_agent.visible import UNSAFE
from hermes_agent.visible import visible as safe

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["console", "json_line", "read_text", "safe", "standard_input", "stdout_kept"]


def json_line(value: object) -> str:
    """A value as one line of JSON, readable, and safe on a terminal."""
    import json

    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    # What is unsafe can stand in strings only, where JSON's own escape means the same.
    return UNSAFE.sub(lambda match: _json_escape(match[0]), text)


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))


def console(file: TextIO | None = None, *, quiet: bool = False) -> Console:
    """A console that prints text as it is: no markup, no emoji codes, no wrapping of its own.

    Args:
        file: Where it prints; standard output by default. Colours are used on terminals only.
        quiet: Print nothing.
    """
    from rich.console import Console

    out = sys.stdout if file is None else file
    return Console(file=out, quiet=quiet, markup=False, emoji=False, highlight=False, soft_wrap=True)


@contextmanager
def stdout_kept() -> Generator[TextIO]:
    """Standard output for the caller alone: whatever else prints inside lands on standard error.

    That holds for Python and, in a real process, for C libraries and child processes of tools too.
    """
    ours = sys.stdout
    ours.flush()
    with ExitStack() as undo:
        try:
            descriptor, errors = ours.fileno(), sys.stderr.fileno()
        except (OSError, ValueError):  # captured in memory, as by a test runner
            out = ours
        else:
            kept = os.dup(descriptor)
            out = undo.enter_context(os.fdopen(kept, "w", encoding=ours.encoding, errors=ours.errors))
            undo.callback(os.dup2, kept, descriptor)
            os.dup2(errors, descriptor)
        with redirect_stdout(sys.stderr):
            yield out


def standard_input() -> TextIO:
    """Where a user's text comes from, if a command is told to read it from there.

    Raises:
        ConfigurationError: It was closed before we began.
    """
    if cast("TextIO | None", sys.stdin) is None:
        from hermes_agent.errors import ConfigurationError

        raise ConfigurationError("standard input is closed", hint="pipe something into it, or name a file")
    return sys.stdin


def read_text(source: str) -> str:
    """The text of a file; ``"-"`` is standard input.

    Raises:
        ConfigurationError: It cannot be read, or is not UTF-8.
    """
    from hermes_agent.errors import ConfigurationError

    try:
        if source == "-":
            given = standard_input()
            if given.isatty():
                print("reading from the terminal; end with Ctrl-D", file=sys.stderr)
            with noticed_while_reading():
                return given.read()
        with open(source, encoding="utf-8") as file:  # noqa: PTH123  # a name such as "a//b" is shown as given
            return file.read()
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {source!r}: {error.strerror or error}",
            hint="give the name of a text file, or - for standard input",
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{source!r} is not UTF-8 text: {error}", hint="convert it to UTF-8") from error
