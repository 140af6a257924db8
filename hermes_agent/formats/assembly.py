"""A turn in the making: parts and events, put together from pieces that can no longer change."""

from __future__ import annotations

import re
from collections.abc import Iterable

from hermes_agent.events import (
    ArgumentsDelta,
    CallCompleted,
    CallStarted,
    FaultFound,
    InlineCall,
    ParserEvent,
    ReasoningDelta,
    TextDelta,
)
from hermes_agent.messages import ToolCall
from hermes_agent.turn import CallPart, Fault, Part, TextPart, Thinking, Turn

__all__ = ["BLANK", "TurnBuilder"]

BLANK = " \t\r\n"
_NEWLINES = "\r\n"

_HEAD = re.compile(r'\{\s*"name"\s*:\s*"([^"\\]{1,200})"')
_HEAD_BEGINS = re.compile(
    r'\{\s*(?:"(?:n(?:a(?:m(?:e(?:"\s*(?::\s*(?:"[^"\\]{0,200})?)?)?)?)?)?)?)?\Z'
)  # fmt: skip
_LONGEST_HEAD = 280


class TurnBuilder:
    """Collects what a turn holds, and tells it as events.

    Attributes:
        heard: Whether anyone wants events.
        events: What was found since the caller last emptied it.
        parts: Text, calls and faults so far.
        marked: Whether there was any markup so far.
        line_start: Whether what comes next begins a line, or follows markup.
        reasoning_calls: Calls that stood in thinking blocks.
    """

    def __init__(self) -> None:
        self.heard = True
        self.events: list[ParserEvent] = []
        self.parts: list[Part] = []
        self.marked = False
        self.line_start = True
        self.reasoning_calls: list[ToolCall] = []
        self._repairs: dict[str, None] = {}
        self._said: list[str] = []
        self._said_span = (0, 0)
        self._blank: list[str] = []
        self._any_text = False
        self._reasoning: list[str] | None = None
        self._thought_begun = False
        self._newlines: list[str] = []
        self._thinking: Thinking = "none"
        self._opened = 0
        self._started = False
        self._head = ""
        self._gap: list[str] = []

    @property
    def saying(self) -> bool:
        """Whether a run of text is under way."""
        return bool(self._said)

    def take_events(self) -> list[ParserEvent]:
        """What was found since the last time."""
        events, self.events = self.events, []
        return events

    def repair(self, name: str) -> None:
        """Note a repair of the turn as a whole."""
        self._repairs[name] = None

    # Text. White space is kept back until it is known whether markup follows, in which case it is dropped.

    def say(self, text: str, at: int) -> None:
        """Add visible text that stands at ``at`` in the turn."""
        if not text:
            return
        body = text.rstrip(BLANK)
        self.note_line(text)
        if not body:
            self._blank.append(text)
            return
        told = "".join(self._blank) + body
        end = at + len(body)
        if self._said:
            delta = told
            self._said_span = (self._said_span[0], end)
        else:
            if self.marked:
                told = body.lstrip(BLANK)
            self._said_span = (end - len(told), end)
            delta = "\n" + told if self._any_text else told
            self._any_text = True
        self._blank = [text[len(body) :]] if len(body) < len(text) else []
        self._said.append(told)
        if self.heard:
            self.events.append(TextDelta(delta))

    def mark(self) -> None:
        """There is markup here: it ends the run of text."""
        if self._said:
            self.parts.append(TextPart("".join(self._said), self._said_span))
            self._said = []
        if self._blank:
            self._blank = []
        self.marked = True
        self.line_start = True

    def end_text(self) -> None:
        """The turn ends here: white space before it stays, unless it follows markup."""
        rest = "".join(self._blank)
        if rest and (self._said or not self.marked):
            start, end = self._said_span
            self._said.append(rest)
            self._said_span = (start, end + len(rest))
            if self.heard:
                self.events.append(TextDelta(rest))
        self._blank = []
        if self._said:
            self.parts.append(TextPart("".join(self._said), self._said_span))
            self._said = []

    def note_line(self, text: str) -> None:
        """Keep track of whether what follows ``text``, which is not empty, begins a line."""
        last = text[-1]
        if last in _NEWLINES:
            self.line_start = True
        elif last not in " \t":
            self.line_start = False
        elif rest := text.rstrip(" \t"):
            self.line_start = rest[-1] in _NEWLINES

    # Thinking. Newlines that touch the tags are dropped; blocks are joined by a newline.

    def open_thought(self) -> None:
        """A thinking block begins."""
        if self._reasoning is None:
            self._reasoning = []
        self._thinking = "truncated"
        self._thought_begun = False
        self._newlines = []
        self.line_start = True

    def think(self, text: str) -> None:
        """Add to the thinking block."""
        if not text:
            return
        self.note_line(text)
        body = text.rstrip(_NEWLINES)
        tail = text[len(body) :]
        if not self._thought_begun:
            body = body.lstrip(_NEWLINES)
        if body:
            told = "".join(self._newlines) + body
            if not self._thought_begun and self._reasoning:
                told = "\n" + told
            self._thought_begun = True
            self._newlines = []
            self._reason(told)
        if tail and self._thought_begun:
            self._newlines.append(tail)

    def _reason(self, text: str) -> None:
        if self._reasoning is not None:
            self._reasoning.append(text)
        if self.heard:
            self.events.append(ReasoningDelta(text))

    def close_thought(self, *, cut: bool = False) -> None:
        """The thinking block ends; ``cut`` if no tag ends it."""
        self._thinking = "truncated" if cut else "whole"
        if cut and self._newlines:
            self._reason("".join(self._newlines))
        self._newlines = []
        self.mark()

    def never_opened(self) -> None:
        """A tag closes a thinking block that never began."""
        if not self.marked and not self.saying:
            self._reasoning = []
        if self._thinking == "none":
            self._thinking = "never_opened"

    def inline(self, parts: Iterable[CallPart | Fault]) -> None:
        """Calls inside the thinking block are whole, and want their results there."""
        for part in parts:
            if isinstance(part, CallPart):
                self.reasoning_calls.append(part.call)
            if self.heard:
                self.events.append(InlineCall(part.call if isinstance(part, CallPart) else part))

    # Calls. A block's text is told as it grows, less the white space at its ends.

    def open_block(self) -> None:
        """A block of calls begins."""
        self.mark()
        self._started = False
        self._head = ""
        self._gap = []

    def grow_block(self, text: str) -> None:
        """More of the block's body."""
        if not self.heard:
            return
        body = text.rstrip(BLANK)
        if not body:
            if self._started or self._head:
                self._gap.append(text)
            return
        told = "".join(self._gap) + body if self._started or self._head else body.lstrip(BLANK)
        self._gap = [text[len(body) :]]
        if not self._started:
            self._head += told
            found = _HEAD.match(self._head)
            if found is None and len(self._head) < _LONGEST_HEAD and _HEAD_BEGINS.match(self._head):
                return
            told = self._start(found[1] if found else None)
        self._grow(told)

    def _grow(self, text: str) -> None:
        if text and self.heard:
            self.events.append(ArgumentsDelta(self._opened - 1, text))

    def close_block(self, parts: list[CallPart | Fault]) -> None:
        """The block was read: these are its calls and faults."""
        if not self._started:
            self._grow(self._start(None))
        self.line_start = True
        index = self._opened - 1
        for part in parts:
            if isinstance(part, CallPart):
                if self.heard:
                    self.events.append(CallCompleted(index, part.call))
                self._opened = index + 1
                index += 1
            else:
                if self.heard:
                    self.events.append(FaultFound(part))
            self.parts.append(part)

    def call(self, part: CallPart) -> None:
        """Add a call that was read at one go."""
        self.mark()
        call, index = part.call, self._opened
        self._opened += 1
        if self.heard:
            self.events += (CallStarted(index, call.name), ArgumentsDelta(index, call.raw), CallCompleted(index, call))
        self.parts.append(part)

    def fault(self, fault: Fault) -> None:
        """Add a fault."""
        self.parts.append(fault)
        if self.heard:
            self.events.append(FaultFound(fault))

    def _start(self, name: str | None) -> str:
        if self.heard:
            self.events.append(CallStarted(self._opened, name))
        self._opened += 1
        self._started = True
        head, self._head = self._head, ""
        return head

    def turn(self, raw: str) -> Turn:
        """The turn as collected."""
        reasoning = None if self._reasoning is None else "".join(self._reasoning)
        return Turn(
            tuple(self.parts), reasoning, tuple(self.reasoning_calls), tuple(self._repairs), raw, self._thinking
        )
