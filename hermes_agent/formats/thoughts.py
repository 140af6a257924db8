"""The states of the parser inside a thinking block."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace

from hermes_agent.formats.assembly import TurnBuilder
from hermes_agent.formats.blocks import Block, ReadingRules, read_block
from hermes_agent.formats.body import CallBody
from hermes_agent.formats.markup import Markup
from hermes_agent.formats.pieces import Pieces, Thought
from hermes_agent.formats.tags import TOOL_CALL_CLOSE, TOOL_CALL_OPEN, fold
from hermes_agent.reasoning import ReasoningCalls
from hermes_agent.turn import CallPart, Fault, FinishReason, Part, TextPart

__all__ = ["ThoughtStates"]


class ThoughtStates(Pieces):
    """Reads thinking blocks; `TurnReader` adds everything else.

    Attributes:
        dropped: Characters of the last piece that stood behind a call inside the thinking, and were not read.
    """

    def __init__(self, using: ReadingRules, markup: Markup, intentions: ReasoningCalls) -> None:
        super().__init__()
        self.builder = TurnBuilder()
        self.dropped = 0
        self._using = using
        self._markup = markup
        self._intended = intentions
        self._thinks = True
        self._reason: FinishReason | None = None
        self._state: Callable[[], bool] = self._text
        self._body = CallBody(markup.ends)
        self._thought: Thought | None = None
        self._talk = False
        self._intentions: list[tuple[CallPart, str]] = []

    @abstractmethod
    def _text(self) -> bool: ...

    @abstractmethod
    def _cut(self, repair: str) -> None: ...

    @abstractmethod
    def _line_initial(self, index: int) -> bool: ...

    @abstractmethod
    def _inner(self, text: str) -> list[Part]: ...

    def open_thought(self, closing: str) -> None:
        """A thinking block begins, which ``closing`` will end, in any letter case."""
        self.builder.mark()
        self.builder.open_thought()
        self._thought = Thought(fold(closing))
        self._state = self._think

    def _think(self) -> bool:
        buf, at, thought = self._buf, self._pos, self._thought
        if thought is None:  # the state and the block come and go together
            return False
        search = self._markup.thoughts[thought.closing].search
        while match := search(buf, at):
            literal, start = match[0], match.start()
            if fold(literal) == thought.closing:
                self._ponder(thought, start)
                self._pos = match.end()
                self._close_thought(thought)
                return True
            if self._intended == "inline" and literal not in self._markup.stops:
                if literal == TOOL_CALL_OPEN:
                    self._begin_inline(thought, match.end())
                    return True
            elif literal == TOOL_CALL_OPEN:
                self._intend(thought, start)
            elif literal == TOOL_CALL_CLOSE:
                if thought.held_at is not None:
                    self._ponder(thought, start)
                thought.answer_at = self._base + match.end()
            elif literal != "<tool_response" or self._answers_itself(thought, start):
                self._ponder(thought, start)
                self._cut("tool_response" if literal == "<tool_response" else "stop_string")
                return True
            at = match.end()
        self._ponder(thought, len(buf) if self._final else self._markup.hold(buf, self._pos))
        return False

    def _answers_itself(self, thought: Thought, start: int) -> bool:
        """Whether a made-up result for a call in the thinking begins at ``_buf[start]``."""
        behind = self._base + start == thought.answer_at or self._line_initial(start)
        return thought.calls_at is not None and behind

    def _ponder(self, thought: Thought, to: int) -> None:
        """What stands up to ``_buf[to]`` is in the thinking block."""
        behind = self._buf[max(self._pos, thought.answer_at - self._base) : to]
        thought.add(self._buf[self._pos : to], self.builder)
        if thought.held_at is not None and thought.answer_at > thought.held_at and behind and not behind.isspace():
            self._release(thought, len(behind))
        thought.end = self._base + to
        self._pos = to

    def _release(self, thought: Thought, behind: int) -> None:
        """Text follows a call in the thinking: so the call did not end it, and nothing need be held back."""
        if not thought.tries or thought.tried_at == thought.answer_at:
            return
        thought.tries, thought.tried_at = thought.tries - 1, thought.answer_at
        held = thought.held
        if all(isinstance(part, CallPart) for part in self._inner(held[: len(held) - behind])):
            self.builder.think(held)
            thought.held_at = None

    def _intend(self, thought: Thought, start: int) -> None:
        """A call begins inside of the thinking."""
        if thought.held_at is not None:
            self._ponder(thought, start)
        held = thought.held_at is None and self._line_initial(start)
        if thought.calls_at is None or held:
            self._ponder(thought, start)
            if thought.calls_at is None:
                thought.calls_at = self._base + start
            if held:
                thought.held_at = self._base + start

    def _begin_inline(self, thought: Thought, end: int) -> None:
        """A call that wants its result in the thinking begins; its tag ends at ``_buf[end]``."""
        self._talk = not self._line_initial(end - len(TOOL_CALL_OPEN))
        self._keep(end - len(TOOL_CALL_OPEN))
        self._ponder(thought, end)
        self._body = CallBody(self._markup.inline_ends[thought.closing])
        self._state = self._inline

    def _inline(self) -> bool:
        """A call inside the thinking. Its end follows from its JSON, as outside; nothing behind it is read."""
        body, thought = self._body, self._thought
        if thought is None:
            return False
        to = body.feed(self._buf, self._pos, self._base, self._final)
        self._ponder(thought, body.end_at - self._base if body.end in ("open", "cut") else to)
        if self._talk and body.error and not body.values and body.value_at is None:
            self._whole()  # the tag stands in the middle of a line, and no call follows: it is only spoken of
            self._state = self._think
            return not self._final
        if not body.end:
            return False
        block = Block(self._whole(), self._at, self._at + len(TOOL_CALL_OPEN), body, self._reason == "length")
        self._state = self._think
        if body.end != "eof":
            self.builder.inline(read_block(block, replace(self._using, names=None)))
            self.dropped = len(self._buf) - self._pos
            self._buf = self._buf[: self._pos]
        return False

    def _close_thought(self, thought: Thought, *, cut: bool = False) -> None:
        self.builder.think(thought.held)
        self.builder.close_thought(cut=cut)
        self._note_intentions(thought.calls, thought.calls_at or 0)
        self._thought = None
        self._state = self._text

    def _note_intentions(self, text: str, at: int) -> None:
        """Keep the calls in ``text``, which stands at ``at`` in the turn, in a thinking block."""
        for part in self._inner(text) if text else ():
            if isinstance(part, CallPart):
                start, end = part.span
                self._intentions.append((CallPart(part.call, (at + start, at + end)), text[start:end]))
                self.builder.reasoning_calls.append(part.call)

    def _end_thought(self, thought: Thought) -> None:
        """The turn ends inside a thinking block."""
        held = thought.held
        if thought.held_at is None or any(isinstance(part, TextPart) for part in self._inner(held)):
            self._close_thought(thought, cut=True)
            end = thought.end
            self.builder.fault(Fault("truncated", (end, end), "", "the turn ended inside the thinking block"))
            return
        self.builder.close_thought()
        self.builder.repair("unclosed_think")
        self._note_intentions(thought.calls[: len(thought.calls) - len(held)], thought.calls_at or 0)
        self._thought, self._thinks, self._state = None, False, self._text
        self._replace(held, thought.held_at)
        while self._state():
            pass
