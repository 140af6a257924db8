"""How a trace says things: the same words in the tree and on the page."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hermes_agent.turn import CallPart

if TYPE_CHECKING:
    from hermes_agent.limits import Usage
    from hermes_agent.trace.values import CallState, Outcome, TracedCall, TracedStep
    from hermes_agent.turn import Part

__all__ = [
    "CALL_STATES", "GUARANTEES", "OUTCOMES", "count", "duration", "notes", "spelled", "thinking_note",
    "tokens", "written",
]  # fmt: skip

OUTCOMES: dict[Outcome, str] = {
    "answered": "answered",
    "failed": "failed",
    "waiting": "waiting for a word on its calls",
    "unfinished": "unfinished: it still runs, or its process ended",
}

CALL_STATES: dict[CallState, str] = {
    "ran": "ran",
    "failed": "failed",
    "refused": "refused, not run",
    "denied": "denied, not run",
    "supplied": "result supplied, not run",
    "waiting": "waiting",
    "not_begun": "not begun",
    "unfinished": "begun, no result recorded",
}

GUARANTEES = {
    "token": "every token was held to the grammar by a mask",
    "server": "the server took the grammar, and a probe saw it enforced",
    "checked": "nothing was enforced; what was written was validated afterwards",
}


_WAITS = {
    "approval": "for approval",
    "external": "for a result from elsewhere",
    "interrupted": "for a word whether it may run again: the process that began it died",
}


def duration(seconds: float) -> str:
    """A time span in the largest unit that leaves a figure to read."""
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.00095 or seconds <= 0 else f"{seconds * 1000:.1f} ms"
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86400:,} d {whole % 86400 // 3600} h"


def count(number: int, noun: str) -> str:
    """A number with its noun."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def tokens(usage: Usage) -> str:
    """Tokens in and out, those of the thinking among them."""
    thought = usage.thinking_tokens
    return f"{usage.input_tokens:,} in, {usage.output_tokens:,} out" + (f" ({thought:,} thinking)" if thought else "")


def spelled(value: Any) -> str:
    """A value as JSON, readable; as Python spells it where it is not JSON."""
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return repr(value)


def thinking_note(step: TracedStep) -> str:
    """What is to be said of a thinking block that did not end by itself."""
    state = "none" if step.turn is None else step.turn.thinking
    return {
        "overlong": "ended by its budget",
        "truncated": "the turn ended inside it",
        "never_opened": "its opening tag is missing",
    }.get(state, "")


def notes(call: TracedCall) -> list[str]:
    """What is out of the ordinary about a call."""
    said = {
        "inside the thinking": call.inline,
        f"repaired: {', '.join(call.repairs)}": call.repairs,
        call.decision: call.decision == "approved" or (call.decision and call.result is None),
        f"begun {call.times_begun} times": call.times_begun > 1,
        _WAITS.get(call.waits_for, call.waits_for): call.waits_for,
        f"hands over to {call.hand_off}": call.hand_off,
    }
    return [words for words, holds in said.items() if holds]


def written(step: TracedStep) -> list[tuple[Part | None, TracedCall | None]]:
    """What a turn holds behind its thinking, in the order written: text and faults as parts, calls as they went."""
    calls = [call for call in step.calls if not call.inline]
    parts: tuple[Part, ...] = () if step.turn is None else step.turn.parts
    held: list[tuple[Part | None, TracedCall | None]] = []
    for part in parts:
        if not isinstance(part, CallPart):
            held.append((part, None))
        elif calls:
            held.append((None, calls.pop(0)))
    return [*held, *((None, call) for call in calls)]
