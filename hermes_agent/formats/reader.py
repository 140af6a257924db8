"""The states of the parser. Each reads as far as it can and says whether there is more to do right now.

The text not yet dealt with begins at ``_buf[_pos]``, and ``_buf[0]`` stands at ``_base`` in the turn. The
buffer holds one piece as it came, plus the few characters before it that may begin a tag, so that reading
is linear for every size of pieces. What a state has to give back whole, it keeps as a list of pieces.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from hermes_agent.formats.assembly import TurnBuilder
from hermes_agent.formats.blocks import Block, Reader, read_block
from hermes_agent.formats.body import CallBody
from hermes_agent.formats.functions import read_function
from hermes_agent.formats.markup import Kind, Markup
from hermes_agent.formats.repair import DECODER, UnreadableCallError
from hermes_agent.formats.scan import ValueScanner, within_depth
from hermes_agent.formats.tags import TOOL_CALL_CLOSE, TOOL_CALL_OPEN
from hermes_agent.messages import ToolCall
from hermes_agent.turn import CallPart, Fault, Part, TextPart

__all__ = ["FinishReason", "TurnReader"]

FinishReason = Literal["stop", "length"]

_OPEN = re.compile(r"[ \t\r\n]*+(<tool_call>)[ \t\r\n]*+(?=\{)")
_CLOSE = re.compile(r"[ \t\r\n]*+</tool_call>")
_JSON = re.compile(r"[ \t\r\n]*+(?=[\[{\"])")
_NEAR_TAIL = 40

_FAST_FAILURES = 8
"""How often a call may be tried whole before its end is known. Each try may read on to the end of the text,
so that their number must be bounded; the scanner reads nothing twice."""


class TurnReader:
    """Reads one turn into its `TurnBuilder`; see `TurnParser` for what it does."""

    def __init__(self, using: Reader, markup: Markup, *, typed: bool, use_intentions: bool) -> None:
        self.builder = TurnBuilder()
        self._using = using
        self._markup = markup
        self._typed = typed
        self._use_intentions = use_intentions
        self._thinks = True
        self._buf, self._pos, self._base = "", 0, 0
        self._final = False
        self._reason: FinishReason | None = None
        self._state: Callable[[], bool] = self._text
        # The construct under way: where it began in the turn, and its text so far.
        self._at = 0
        self._from: int | None = None
        self._kept: list[str] = []
        self._body = CallBody(markup.ends)
        self._scanner = ValueScanner()
        self._near = ""
        self._objects_from = 0
        self._fast = _FAST_FAILURES
        self._thinking = ""
        self._thought_end = 0
        self._intent: list[str] | None = None
        self._held: list[str] | None = None
        self._intent_at = self._intent_end = self._held_at = 0
        self._intentions: list[tuple[CallPart, str]] = []

    def read(self, chunk: str) -> None:
        """Read on."""
        if self._from is not None:
            self._kept.append(self._buf[self._from : self._pos])
            self._from = 0
        self._base += self._pos
        self._buf = self._buf[self._pos :] + chunk
        self._pos = 0
        while self._state():
            pass

    def end(self, reason: FinishReason | None) -> None:
        """The turn ends here."""
        if self._state != self._over:
            self._reason = reason
        self._final = True
        self.read("")
        if self._thinking:
            self._end_thought()
        self.builder.end_text()
        if self._use_intentions and all(isinstance(part, TextPart) for part in self.builder.parts):
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
                return self._break_off(hold)
            self._say(len(buf))
        return False

    def _break_off(self, start: int) -> bool:
        """The turn ends inside an opening tag."""
        self.builder.mark()
        span = (self._base + start, self._base + len(self._buf))
        self.builder.fault(Fault("truncated", span, self._buf[start:], "the turn ended inside this call"))
        self._pos = len(self._buf)
        return True

    def _kind(self, match: re.Match[str]) -> Kind | None:
        """What was found; ``None`` for what is text where it stands."""
        literal = match[0].lower()
        kind = "object" if literal[0] == "{" and literal not in self._markup.kinds else self._markup.kinds[literal]
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
        if kind in ("call", "close") and end == len(self._buf) and not self._final:
            return False
        if kind == "call" and end == len(self._buf):
            return self._break_off(start)
        if kind == "object":
            self._begin(start, CallBody(self._markup.ends, bare=True), self._bare)
        elif kind == "stop":
            self._cut("stop_string")
        elif kind == "think":
            self._pos = end
            self.open_thought(self._markup.thinks[match[0].lower()])
        elif kind == "unthink":
            if not self.builder.marked and not self.builder.saying:
                self.builder.open_thought()
            self.builder.repair("orphan_think_close")
            self._skip(end)
        elif kind == "response":
            self.builder.mark()
            self._cut("tool_response")
        elif kind == "call" and self._buf.startswith(TOOL_CALL_OPEN, start):
            self._open_call(start)
        elif kind == "close" and self._buf.startswith(TOOL_CALL_CLOSE, start):
            self._stray(start)
        else:
            self._near = match[0].lower()
            self.builder.mark()
            self._begin(start, self._body, self._other)
            self._pos = end
        return True

    def _begin(self, start: int, body: CallBody, state: Callable[[], bool]) -> None:
        """Something begins at ``_buf[start]`` whose text is kept."""
        self._at = self._base + start
        self._from = start
        self._kept = []
        self._body = body
        self._state = state

    def _whole(self) -> str:
        """The text that is kept, up to here; the construct ends."""
        start = self._from or 0
        text = self._buf[start : self._pos]
        if self._kept:
            text = "".join(self._kept) + text
        self._from = None
        self._state = self._text
        return text

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
        self._begin(start, CallBody(self._markup.ends), self._block)
        self._pos = start + len(TOOL_CALL_OPEN)

    def _quick(self, opening: re.Match[str]) -> bool:
        """Read a call that is here whole and needs no repair."""
        buf, begin = self._buf, opening.end()
        try:
            value, end = DECODER.raw_decode(buf, begin)
        except (ValueError, RecursionError):
            self._fast -= 1
            return False
        close = _CLOSE.match(buf, end)
        if close is None or len(value) != 2:
            return False
        raw, name, arguments = buf[begin:end], value.get("name"), value.get("arguments")
        if type(arguments) is not dict or type(name) is not str or not name or "\\u" in raw or not within_depth(raw):
            return False
        self._pos = close.end()
        span = (self._base + opening.start(1), self._base + self._pos)
        part = CallPart(ToolCall(name, arguments, "", raw), span)
        self._add(part, buf[opening.start(1) : self._pos])
        return True

    def _block(self) -> bool:
        body, before = self._body, self._pos
        self._pos = body.feed(self._buf, before, self._base, self._final)
        to = body.end_at - self._base if body.end else self._pos
        self.builder.grow_block(self._buf[before:to])
        if not body.end:
            return False
        block = Block(self._whole(), self._at, self._at + len(TOOL_CALL_OPEN), body, self._reason == "length")
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
        span = (self._at, self._at + len(raw))
        self.builder.line_start = True
        if self._near == "<function=" and "function_tag" in self._using.repairs:
            try:
                part = CallPart(read_function(raw, self._using.schemas), span)
            except UnreadableCallError as error:
                self.builder.fault(Fault("malformed", span, raw, str(error), error.name))
                return True
            self._add(part, raw)
            return True
        detail = f"{self._near!r} is not how a call is written; write <tool_call>, a JSON object, </tool_call>"
        self.builder.fault(Fault("unrecognised_tag", span, raw, detail))
        return True

    # Objects without an opening tag

    def _bare(self) -> bool:
        body = self._body
        self._pos = body.feed(self._buf, self._pos, self._base, self._final)
        if not body.end:
            return False
        wanted = self._wanted()
        raw = self._whole()
        parts = self._recover(Block(raw, self._at, self._at, body), wanted) if wanted else []
        if parts:
            for part in parts:
                self.builder.call(part)
            self.builder.line_start = True
            return True
        self._release(raw)
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

    def _recover(self, block: Block, repair: str) -> list[CallPart]:
        names, repairs = self._using.names, self._using.repairs
        if repair not in repairs or names is None:
            return []
        block.body.used[repair] = None
        block.body.end = "close"
        parts = read_block(block, self._using)
        calls = [part for part in parts if isinstance(part, CallPart)]
        known = len(calls) == len(parts) and all(part.call.name in names for part in calls)
        return calls if known else []

    def _release(self, raw: str) -> None:
        """The objects are text. Complete ones are said as they are, the rest is read again as text."""
        body = self._body
        end = body.values[-1][1] if body.values else self._at
        self._buf = raw + self._buf[self._pos :] if self._kept else self._buf
        if self._kept:
            self._base, self._pos, self._kept = self._at, 0, []
        else:
            self._pos = self._at - self._base
        self._objects_from = max(body.end_at, self._at + 1)
        self._say(end - self._base)

    # Thinking

    def open_thought(self, closing: str) -> None:
        """A thinking block begins, which ``closing`` will end."""
        self.builder.mark()
        self.builder.open_thought()
        self._at = self._base + self._pos
        self._thinking = closing
        self._intent = self._held = None
        self._state = self._thought

    def _thought(self) -> bool:
        buf, at = self._buf, self._pos
        search = self._markup.thoughts[self._thinking].search
        while match := search(buf, at):
            literal, start = match[0], match.start()
            if literal == self._thinking:
                self._ponder(start)
                self._pos = match.end()
                self._close_thought()
                return True
            if literal == TOOL_CALL_OPEN:
                self._intend(start)
            elif literal == TOOL_CALL_CLOSE:
                self._intent_end = self._base + match.end()
            elif literal != "<tool_response" or self._answers_itself(start):
                self._ponder(start)
                self._cut("tool_response" if literal == "<tool_response" else "stop_string")
                return True
            at = match.end()
        self._ponder(len(buf) if self._final else self._markup.hold(buf, self._pos))
        return False

    def _answers_itself(self, start: int) -> bool:
        """Whether a made-up result for a call in the thinking begins at ``_buf[start]``."""
        return self._intent is not None and (self._base + start == self._intent_end or self._line_initial(start))

    def _ponder(self, to: int) -> None:
        """What stands up to ``_buf[to]`` is reasoning, or kept because it may be calls."""
        text = self._buf[self._pos : to]
        self._pos = to
        self._thought_end = self._base + to
        if not text:
            return
        if self._intent is not None:
            self._intent.append(text)
        if self._held is not None:
            self._held.append(text)
            self.builder.note_line(text)
        else:
            self.builder.think(text)

    def _intend(self, start: int) -> None:
        """A call begins inside of the thinking."""
        first = self._held is None and self._line_initial(start)
        if self._intent is None or first:
            self._ponder(start)
        if self._intent is None:
            self._intent, self._intent_at = [], self._base + start
        if first:
            self._held = []
            self._held_at = self._base + start

    def _close_thought(self, *, cut: bool = False) -> None:
        if self._held is not None:
            self.builder.think("".join(self._held))
        self.builder.close_thought(cut=cut)
        if self._intent is not None:
            self._note_intentions("".join(self._intent))
        self._thinking = ""
        self._state = self._text

    def _note_intentions(self, text: str) -> None:
        """Keep the calls in ``text``, which stands in a thinking block."""
        at = self._intent_at
        for part in self._inner(text):
            if isinstance(part, CallPart):
                start, end = part.span
                self._intentions.append((CallPart(part.call, (at + start, at + end)), text[start:end]))
                self.builder.reasoning_calls.append(part.call)

    def _inner(self, text: str) -> list[Part]:
        """What a part of the thinking holds, read as if it stood outside."""
        reader = TurnReader(replace(self._using, names=None), self._markup, typed=False, use_intentions=False)
        reader._thinks = False
        reader._objects_from = len(text)
        reader.read(text)
        reader.end(self._reason)
        return reader.builder.parts

    def _end_thought(self) -> None:
        """The turn ends inside a thinking block."""
        held = "".join(self._held or ())
        if held and not any(isinstance(part, TextPart) for part in self._inner(held)):
            self.builder.close_thought()
            self.builder.repair("unclosed_think")
            if self._intent is not None and self._intent_at < self._held_at:
                self._note_intentions("".join(self._intent)[: self._held_at - self._intent_at])
            self._thinking, self._thinks, self._state = "", False, self._text
            self._buf, self._pos, self._base = held, 0, self._held_at
            while self._state():
                pass
            return
        self._close_thought(cut=True)
        end = self._thought_end
        self.builder.fault(Fault("truncated", (end, end), "", "the turn ended inside the thinking block"))
