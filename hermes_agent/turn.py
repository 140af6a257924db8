"""One assistant turn as read: its parts in order, and what was wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from hermes_agent.messages import ToolCall

__all__ = ["CallPart", "Fault", "FaultKind", "FinishReason", "Part", "Span", "TextPart", "Thinking", "Turn"]

Span = tuple[int, int]
"""Start and end offset in characters of the raw turn; the end is exclusive."""

FinishReason = Literal["stop", "length"]
"""Why a turn ended: by itself, or because it was cut off."""

Thinking = Literal["none", "whole", "overlong", "truncated", "never_opened"]
"""What became of a turn's thinking block: there was none; it was opened and closed; its budget ended it; the turn
ended inside it; it was closed without having been opened, or asked for and never opened."""

FaultKind = Literal["malformed", "truncated", "unknown_tool", "unrecognised_tag"]


@dataclass(frozen=True, slots=True)
class TextPart:
    """A run of visible text, without the whitespace that touches markup."""

    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class CallPart:
    """A call that could be read, in its place; a call of an unknown tool is one, with a fault behind it."""

    call: ToolCall
    span: Span


@dataclass(frozen=True, slots=True)
class Fault:
    """Something in the turn that is neither text nor a call that may be run.

    Attributes:
        kind: ``malformed`` (a call that cannot be read), ``truncated`` (the turn ended inside it),
            ``unknown_tool`` (read, but no such tool was offered), ``unrecognised_tag`` (markup that looks
            like a call in some other format).
        span: Where, in the raw turn.
        raw: The raw text of that span.
        detail: Why, as one sentence that can be shown to the model.
        name: The tool the model meant, where that much could be read.
    """

    kind: FaultKind
    span: Span
    raw: str
    detail: str
    name: str | None = None


Part = TextPart | CallPart | Fault


@dataclass(frozen=True)
class Turn:
    """A whole assistant turn.

    Attributes:
        parts: Text, calls and faults in the order written.
        reasoning: What stood inside the thinking block, without the newlines that touch its tags; ``None``
            when there was no block, ``""`` when it was empty.
        reasoning_calls: Calls that stood inside the thinking block: intentions, which are not in
            ``tool_calls`` unless the policy says so.
        repairs: Names of the repairs made to the turn as a whole; those of one call are on the call.
        raw: The text that was read, all of it.
        thinking: What became of the thinking block. The text alone cannot tell that a budget ended it, or that
            it was asked for; the loop adds that.
    """

    parts: tuple[Part, ...]
    reasoning: str | None = None
    reasoning_calls: tuple[ToolCall, ...] = ()
    repairs: tuple[str, ...] = ()
    raw: str = ""
    thinking: Thinking = "none"

    @cached_property
    def text(self) -> str:
        """The visible text; pieces that calls stood between are joined by a newline."""
        return "\n".join(part.text for part in self.parts if isinstance(part, TextPart))

    @cached_property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """Every call that could be read, in order, those of unknown tools included."""
        return tuple(part.call for part in self.parts if isinstance(part, CallPart))

    @cached_property
    def faults(self) -> tuple[Fault, ...]:
        """Everything that was wrong, in order; empty for a clean turn."""
        return tuple(part for part in self.parts if isinstance(part, Fault))
