"""How a command ends: one readable message, the right exit code, no traceback.

0 is success, 1 an error that says what to do, 2 wrong usage, 130 a Ctrl-C.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from hermes_agent.errors import HermesError

__all__ = ["INTERRUPTED", "hint_of", "leave", "report", "reported"]

INTERRUPTED = 130  # what shells give a command that SIGINT ended: 128 + 2


def report(error: HermesError) -> None:
    """Print an error and its hint on standard error; the text of neither can steer the terminal."""
    from hermes_agent.cli.terminal import console, safe

    out = console(sys.stderr)
    out.print("error: ", style="bold red", end="")
    out.print(safe(error.message))
    if hint := hint_of(error):
        out.print("hint:  ", style="bold", end="")
        out.print(safe(hint))


def hint_of(error: HermesError) -> str:
    """The hint of an error, which is written for programs, in the words of this command."""
    from hermes_agent.errors import RunPaused

    if isinstance(error, RunPaused):
        return _PAUSED
    hint = error.hint
    for python, option in _OPTIONS.items():
        hint = hint.replace(python, option)
    return hint


_PAUSED = (
    "run it on a terminal, where you are asked; or keep the run with --trace FILE, and go on in a program with "
    "PausedRun.from_json"
)
_OPTIONS = {
    "Limits(steps=…)": "--max-steps",
    "Limits(turn_tokens=…)": "--max-tokens",
    "constrain='auto'": "--constrain auto",
    'tool_choice="auto" or "none"': "--tool-choice auto or none",
    "worked examples=": "--examples",
    "with text=…": "with --text",
    "with id=…": "with --id",
    "resume=False (--restart)": "--restart",
    'on_change="restart", --restart': "--restart",
}


@contextmanager
def reported(debug: bool = False) -> Generator[None]:
    """Turn what goes wrong inside into a message and an exit code.

    Args:
        debug: Let errors through as they are, traceback and all.

    Raises:
        typer.Exit: Something went wrong, and the user was told.
    """
    from hermes_agent.errors import HermesError

    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except HermesError as error:
        if debug:
            raise
        report(error)
        raise typer.Exit(1) from None


def leave(run: Callable[[], object]) -> NoReturn:
    """Run a program and end the process with its exit code.

    The process does not wait for threads of tools that were given up on: a thread cannot be stopped, and
    Python would wait for it for as long as it likes. A reader that closed our output is no error.
    """
    code = 0
    try:
        run()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1 if ended.code else 0
    except KeyboardInterrupt:
        code = INTERRUPTED
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        # The interpreter flushes again at its end, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = code or 1
    waiting = (thread for thread in threading.enumerate() if thread is not threading.main_thread())
    if any(not thread.daemon for thread in waiting):
        os._exit(code)
    sys.exit(code)
