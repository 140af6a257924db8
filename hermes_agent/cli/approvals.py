"""Asking the user about calls that wait for a word."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from hermes_agent.cli.interrupts import noticed_while_reading
from hermes_agent.cli.terminal import safe

if TYPE_CHECKING:
    from rich.console import Console

    from hermes_agent.pause import PausedRun, PendingCall

__all__ = ["can_ask", "settled"]

_QUESTIONS = {
    "approval": "run it? [y/N, or why not] ",
    "external": "its result: ",
    "interrupted": "it was cut off and may have been run. Run it again? [y/N, or its result] ",
}
_WORDS = {
    "approval": "y runs it; n, or nothing, does not; anything else does not either, and is told to the model",
    "interrupted": "y runs it again; n, or nothing, does not; anything else is given to the model as its result",
}


def can_ask() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty()


def settled(paused: PausedRun, out: Console) -> PausedRun:
    """Ask about each call that waits.

    Raises:
        KeyboardInterrupt: Ctrl-C, or the end of the input; nothing was run.
    """
    for pending in paused.pending:
        shown = f"{pending.call.name} {json.dumps(pending.call.arguments, ensure_ascii=False)}"
        out.print(safe(shown), style="yellow", markup=False, highlight=False)
        while (word := _ask(_QUESTIONS[pending.reason])) == "?" and pending.reason in _WORDS:
            out.print(_WORDS[pending.reason], markup=False, highlight=False)
        paused = _word(paused, pending, word)
    return paused


def _ask(question: str) -> str:
    try:
        with noticed_while_reading():
            return input(question).strip()
    except EOFError:
        raise KeyboardInterrupt from None


def _word(paused: PausedRun, pending: PendingCall, word: str) -> PausedRun:
    if pending.reason == "external":
        return paused.supply(pending, word)
    if word.lower() in ("y", "yes"):
        return paused.approve(pending)
    if pending.reason == "interrupted" and word.lower() not in ("", "n", "no"):
        return paused.supply(pending, word)
    return paused.deny(pending) if word.lower() in ("", "n", "no") else paused.deny(pending, word)
