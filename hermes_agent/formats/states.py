"""The states of the parser. Each reads as far as it can and says whether there is more to do right now."""

from __future__ import annotations

import re
from dataclasses import replace

from hermes_agent.formats.blocks import Block, ReadingRules, quick_call, read_block, read_near, recover
from hermes_agent.formats.body import CallBody
from hermes_agent.formats.markup import Kind, Markup
from hermes_agent.formats.scan import ValueScanner
from hermes_agent.formats.tags import TOOL_CALL_CLOSE, TOOL_CALL_OPEN, fold
from hermes_agent.formats.thoughts import ThoughtStates
from hermes_agent.reasoning import ReasoningCalls
from hermes_agent.turn import CallPart, Fault, FinishReason, Part, TextPart

__all__ = ["FinishReason", "TurnReader"]


_OPEN = re.compile(r"[ \t\r\n]*+(<tool_call>)[ \t\r\n]*+(?=\{)")
_JSON = re.compile(r"[ \t\r\n]*+(?=[\[{\"])")
_NEAR_TAIL = 40

_FAST_FAILURES = 8
"""How often a call may be tried whole before its end is known. Each try may read on to the end of the text,
so that their number must be bounded; the scanner reads nothing twice."""


class TurnReader(ThoughtStates):
    """Reads one turn into its `TurnBuilder`; see `TurnParser` for what it does."""

    def __init__(self, using: ReadingRules, markup: Markup, *, typed: bool, intentions: ReasoningCalls) -> None:
        super().__init__(using, markup, intentions)
        self._typed = typed
        self._scanner = ValueScanner()
        self._near = ""
        self._objects_from = 0
        self._fast = _FAST_FAILURES

    def read(self, chunk: str) -> None:
        """Read on."""
        self.dropped = 0
        self._take(chunk)
        while self._state():
            pass

    def end(self, reason: FinishReason | None) -> None:
        """The turn ends here."""
        if self._state != self._over:
            self._reason = reason
        self._final = True
        self.read("")
        if self._thought:
            self._end_thought(self._thought)
        self.builder.end_text()
        if self._intended == "use" and all(isinstance(part, TextPart) for part in self.builder.parts):
            for part, raw in self._intentions:
                self._add(part, raw)

    def _add(self, part: CallPart, raw: str) -> None:
        """Add a call that was read at one go, and its fault if nobody offered the tool."""
        self.builder.call(part)
        if fault := self._using.unknown(part, raw):
            self.builder.fault(fault)

    # Text

    def _text(self) -> bool:
        buf, at = self._buf, self._pos
        if self._typed and not self.builder.saying and (match := _JSON.match(buf, at)):
            self._say(match.end())
            self._scanner = ValueScanner()
            self._state = self._json
            return True
        search = self._markup.pattern.search
        while match := search(buf, at):
            kind = self._kind(match)
            if kind is not None:
                return self._meet(kind, match)
            at = match.start() + 1
        hold = self._markup.hold(buf, self._pos)
        self._say(hold)
        if self._final and hold < len(buf):
            tag = buf[hold:]
            if self._reason == "length" and TOOL_CALL_OPEN.startswith(tag) and len(tag) > len("<tool"):
                self._break_off(hold)
            else:
                self._say(len(buf))
        return False

    def _break_off(self, start: int) -> None:
        """The turn ends inside an opening tag."""
        self.builder.mark()
        span = (self._base + start, self._base + len(self._buf))
        self.builder.fault(Fault("truncated", span, self._buf[start:], "the turn ended inside this call"))
        self._pos = len(self._buf)

    def _kind(self, match: re.Match[str]) -> Kind | None:
        """What was found; ``None`` for what is text where it stands."""
        kind = self._markup.kinds.get(fold(match[0]), "object")
        if kind in ("think", "unthink"):
            return kind if self._thinks and self._line_initial(match.start()) else None
        if kind == "object" and (
            self._base + match.start() < self._objects_from or not self._line_initial(match.start())
        ):
            return None
        return kind

    def _line_initial(self, index: int) -> bool:
        """Whether nothing but blanks stands between ``_buf[index]`` and the beginning of its line."""
        buf, before = self._buf, index - 1
        while before >= self._pos and buf[before] in " \t":
            before -= 1
        return self.builder.line_start if before < self._pos else buf[before] in "\r\n"

    def _say(self, to: int) -> None:
        self.builder.say(self._buf[self._pos : to], self._base + self._pos)
        self._pos = to

    def _meet(self, kind: Kind, match: re.Match[str]) -> bool:
        """Deal with the markup that ``match`` is."""
        start, end = match.span()
        self._say(start)
        at_end = end == len(self._buf)
        if kind in ("call", "close") and at_end and not self._final:
            return False
        if kind == "object":
            self._keep(start)
            self._body = CallBody(self._markup.ends, bare=True)
            self._state = self._bare
        elif kind == "stop":
            self._cut("stop_string")
        elif kind == "think":
            self._pos = end
            self.open_thought(self._markup.thinks[fold(match[0])])
        elif kind == "unthink":
            self._unthink(end)
        elif kind == "response":
            self.builder.mark()
            self._cut("tool_response")
        elif kind == "call" and at_end:
            self._break_off(start)
        elif kind == "call" and self._buf.startswith(TOOL_CALL_OPEN, start):
            self._open_call(start)
        elif kind == "close" and self._buf.startswith(TOOL_CALL_CLOSE, start):
            self._stray(start)
        else:
            self._begin_other(start, end)
        return True

    def _begin_other(self, start: int, end: int) -> None:
        """Markup of some other format stands at ``_buf[start:end]``."""
        self._near = fold(self._buf[start:end])
        self.builder.mark()
        self._keep(start)
        self._pos = end
        self._state = self._other

    def _unthink(self, end: int) -> None:
        """A thinking block ends that never began."""
        self.builder.never_opened()
        self.builder.repair("orphan_think_close")
        self._skip(end)

    def _skip(self, to: int) -> None:
        """Drop markup."""
        self.builder.mark()
        self._pos = to

    def _cut(self, repair: str) -> None:
        """The turn is over, whatever follows."""
        self.builder.repair(repair)
        self._reason = "stop"
        self._state = self._over

    def _over(self) -> bool:
        self._pos = len(self._buf)
        return False

    def _json(self) -> bool:
        """A typed answer: JSON, in which nothing is markup."""
        pos, status = self._scanner.feed(self._buf, self._pos)
        self._say(pos)
        if status == "more":
            return False
        self._state = self._text
        return True

    # Calls

    def _open_call(self, start: int) -> None:
        """Calls begin here: those that are whole are read at one go, the first other one opens a block."""
        opening = _OPEN.match(self._buf, start)
        while opening and self._fast and self._quick(opening):
            opening = _OPEN.match(self._buf, self._pos)
            if opening is None:
                return
            start = opening.start(1)
        self.builder.open_block()
        self._keep(start)
        self._pos = start + len(TOOL_CALL_OPEN)
        self._body = CallBody(self._markup.ends)
        self._state = self._block

    def _quick(self, opening: re.Match[str]) -> bool:
        """Read a call that is here whole and needs no repair."""
        try:
            found = quick_call(self._buf, opening.end())
        except (ValueError, RecursionError):
            self._fast -= 1
            return False
        if found is None:
            return False
        call, self._pos = found
        start = opening.start(1)
        part = CallPart(call, (self._base + start, self._base + self._pos))
        self._add(part, self._buf[start : self._pos])
        return True

    def _block(self) -> bool:
        body, before = self._body, self._pos
        self._pos = body.feed(self._buf, before, self._base, self._final)
        to = body.end_at - self._base if body.end else self._pos
        self.builder.grow_block(self._buf[before:to])
        if not body.end:
            return False
        block = Block(self._whole(), self._at, self._at + len(TOOL_CALL_OPEN), body, self._reason == "length")
        self._state = self._text
        self.builder.close_block(read_block(block, self._using))
        if body.end == "open":
            self._open_call(self._pos)
        return True

    def _stray(self, start: int) -> None:
        """A closing tag that closes nothing."""
        end = start + len(TOOL_CALL_CLOSE)
        clean = not self.builder.saying
        self._skip(end)
        if clean and "orphan_close" in self._using.repairs:
            self.builder.repair("orphan_close")
            return
        span = (self._base + start, self._base + end)
        self.builder.fault(Fault("malformed", span, TOOL_CALL_CLOSE, "a </tool_call> without a <tool_call>"))

    def _other(self) -> bool:
        """A call in some other format: all of it is one fault."""
        match = self._markup.near[self._near].search(self._buf, self._pos)
        if match is None and not self._final:
            self._pos = max(self._pos, len(self._buf) - _NEAR_TAIL)
            return False
        self._pos = match.end() if match else len(self._buf)
        raw = self._whole()
        self._state = self._text
        part = read_near(raw, self._at, self._near, self._using)
        if isinstance(part, CallPart):
            self._add(part, raw)
        else:
            self.builder.fault(part)
        self.builder.line_start = True
        return True

    def _bare(self) -> bool:
        body = self._body
        self._pos = body.feed(self._buf, self._pos, self._base, self._final)
        if not body.end:
            return False
        raw, wanted = self._whole(), self._wanted()
        self._state = self._text
        parts = recover(Block(raw, self._at, self._at, body), self._using, wanted) if wanted else []
        for part in parts:
            self.builder.call(part)
        if parts:
            return True
        # They are text. Complete objects are said as they are, the rest is read again as text.
        self._objects_from = max(body.end_at, self._at + 1)
        self._rewind(raw)
        self._say((body.values[-1][1] if body.values else self._at) - self._base)
        return True

    def _wanted(self) -> str:
        """The repair that would make calls of the objects found; none if they are text."""
        body, builder = self._body, self.builder
        if body.value_at is not None or not body.values or body.error:
            return ""
        if body.end == "close":
            return "orphan_close"
        alone = not builder.parts and not builder.saying
        return "bare_json" if body.end == "eof" and alone and self._reason != "length" else ""

    def _inner(self, text: str) -> list[Part]:
        """What a part of the thinking holds, read as if it stood outside."""
        reader = TurnReader(replace(self._using, names=None), self._markup, typed=False, intentions="ignore")
        reader._thinks = False
        reader._objects_from = len(text)
        reader.builder.heard = False
        reader.read(text)
        reader.end(self._reason)
        return reader.builder.parts
