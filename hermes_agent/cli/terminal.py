"""What may reach a terminal, and how it is written there."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import TYPE_CHECKING, TextIO

from hermes_agent.cli.interrupts import noticed_while_reading

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["console", "json_line", "read_text", "safe", "stdout_kept"]

# Control characters of C0 and C1 but newline and tab, which could steer the terminal; marks that turn the
# reading direction around; halves of surrogate pairs, which no terminal's encoding can carry.
_UNSAFE = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]"
)


def safe(text: str) -> str:
    r"""A text that steers nothing: what a terminal would obey is shown as an escape such as ``\x1b``.

    Newlines and tabs stay; carriage returns go, as they would let a line write over itself.
    """
    return _UNSAFE.sub(_escaped, text.replace("\r", ""))


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def json_line(value: object) -> str:
    """A value as one line of JSON, readable, and safe on a terminal."""
    import json

    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    # What is unsafe can stand in strings only, where JSON's own escape means the same.
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


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


def read_text(source: str) -> str:
    """The text of a file; ``"-"`` is standard input.

    Raises:
        ConfigurationError: It cannot be read, or is not UTF-8.
    """
    from hermes_agent.errors import ConfigurationError

    try:
        if source == "-":
            if sys.stdin.isatty():
                print("reading from the terminal; end with Ctrl-D", file=sys.stderr)
            with noticed_while_reading():
                return sys.stdin.read()
        with open(source, encoding="utf-8") as file:  # noqa: PTH123  # a name such as "a//b" is shown as given
            return file.read()
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {source!r}: {error.strerror or error}",
            hint="give the name of a text file, or - for standard input",
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{source!r} is not UTF-8 text: {error}", hint="convert it to UTF-8") from error
