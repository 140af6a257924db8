"""What stands between ``<tool_call>`` and ``</tool_call>``: found piece by piece.

A block's end follows from its JSON, not from the closing tag, which may stand inside a string. Only where
the JSON breaks does the next tag end the block: from there on no string is known to be open.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from hermes_agent.formats.scan import ValueScanner
from hermes_agent.formats.tags import TOOL_CALL_CLOSE, TOOL_CALL_OPEN
from hermes_agent.turn import Span

__all__ = ["BlockEnds", "CallBody"]

End = Literal["", "close", "open", "cut", "eof", "release"]

_BLANK = re.compile(r"[ \t\r\n]*+")
_FENCE = re.compile(r"```[A-Za-z]{0,10}[ \t]{0,8}(?=[\r\n{\[])")
_FENCE_BEGINS = re.compile(r"`{1,3}\Z|```[A-Za-z]{0,10}[ \t]{0,8}\Z")
_IDLE = ValueScanner()
_FUNCTION = re.compile(r"<function\b[=>]")


@dataclass(frozen=True, slots=True)
class BlockEnds:
    """What ends a block of calls besides its JSON.

    Attributes:
        pattern: Finds any of them.
        literals: All of them.
        longest: Length of the longest.
    """

    pattern: re.Pattern[str]
    literals: tuple[str, ...]
    longest: int

    @classmethod
    def of(cls, stops: tuple[str, ...]) -> BlockEnds:
        """The tags, and these stop strings."""
        literals = (TOOL_CALL_CLOSE, TOOL_CALL_OPEN, "<tool_response", *stops)
        pattern = re.compile("|".join(re.escape(literal) for literal in literals))
        return cls(pattern, literals, max(map(len, literals)))


class CallBody:
    """Finds the values and the end of one block. All positions it keeps are offsets in the turn.

    Attributes:
        values: Spans of the values found so far; of the last one too if only closing brackets lack.
        end: What ended the block: its closing tag, the next opening tag, something that ends the turn, the
            end of the text; ``"release"`` if objects without an opening tag turn out to be text.
        end_at: Where that stands.
        error: Why the block cannot be read; empty if nothing spoke against it so far.
        used: Repairs needed so far.
        owed: Closing brackets that lack at the end of the last value.
        function: Whether the body is ``<function=...>`` instead of JSON.
        value_at: Where the value begins that is being read; ``None`` between values.
    """

    __slots__ = (
        "_bare", "_ends", "_fence", "_scanner",
        "end", "end_at", "error", "function", "owed", "used", "value_at", "values",
    )  # fmt: skip

    def __init__(self, ends: BlockEnds, *, bare: bool = False) -> None:
        self._ends = ends
        self._bare = bare
        self._scanner = _IDLE
        self._fence = False
        self.values: list[Span] = []
        self.end: End = ""
        self.end_at = 0
        self.error = ""
        self.used: dict[str, None] = {}
        self.owed = ""
        self.function = False
        self.value_at: int | None = None

    def feed(self, text: str, pos: int, base: int, final: bool) -> int:
        """Read on from ``text[pos]``, which stands at ``base + pos`` in the turn.

        Returns:
            How far the block is read: behind its closing tag, or where the next thing begins, or where to go
            on once there is more text.
        """
        while not self.end:
            if self.error or self.function:
                pos, more = self._resync(text, pos, base)
            elif self.value_at is not None:
                pos, more = self._value(text, pos, base)
            else:
                pos, more = self._between(text, pos, base)
            if more:
                if final:
                    self.end, self.end_at = "eof", base + len(text)
                    return len(text)
                break
        return pos

    def _between(self, text: str, pos: int, base: int) -> tuple[int, bool]:
        """Read what is not part of a value."""
        pos = _skip(text, pos)
        if pos == len(text):
            return pos, True
        char = text[pos]
        if char in "{[":
            self.value_at = base + pos
            self._scanner = ValueScanner()
            if self.values:
                self.used["several_calls"] = None
        elif char == "<":
            return self._tag(text, pos, base)
        elif char == "}" and self.values and not self._bare:
            self.used["extra_brace"] = None
            pos += 1
        elif char == "`" and not self._bare and (not self.values or self._fence):
            return self._code_fence(text, pos)
        else:
            self._fail("there is text between the tags that is not JSON", base + pos)
        return pos, False

    def _value(self, text: str, pos: int, base: int) -> tuple[int, bool]:
        pos, status = self._scanner.feed(text, pos)
        if status == "more":
            return pos, True
        if status == "done" and self.value_at is not None:
            self.values.append((self.value_at, base + pos))
            self.value_at = None
        elif status == "deep":
            self._fail("the JSON is nested too deeply", base + pos)
        elif text[pos] == "<":
            return self._tag(text, pos, base)
        else:
            self._fail(f"not JSON: a {text[pos]!r} where none can stand", base + pos)
        return pos, False

    def _tag(self, text: str, pos: int, base: int) -> tuple[int, bool]:
        """Read a ``<`` outside of strings."""
        if match := self._ends.pattern.match(text, pos):
            if self.value_at is not None:
                self._owe(match[0], base + pos)
            return (pos, False) if self.end else (self._finish(match, base), False)
        rest = text[pos : pos + self._ends.longest]
        if pos + len(rest) == len(text) and any(literal.startswith(rest) for literal in self._ends.literals):
            return pos, True
        if not self.values and self.value_at is None and not self._bare:
            if _FUNCTION.match(text, pos):
                self.function = True
                return pos, False
            if pos + len(rest) == len(text) and "<function=".startswith(rest):
                return pos, True
        self._fail("not JSON: a '<' where none can stand", base + pos)
        return pos, False

    def _owe(self, tag: str, at: int) -> None:
        """A tag came while brackets were open."""
        if tag == TOOL_CALL_CLOSE and not self._bare and self.value_at is not None:
            self.used["missing_brace"] = None
            self.owed = "".join(reversed(self._scanner.open))
            self.values.append((self.value_at, at))
            self.value_at = None
        elif tag == TOOL_CALL_OPEN or self._bare:
            self._fail("the JSON is not complete", at)

    def _code_fence(self, text: str, pos: int) -> tuple[int, bool]:
        if self._fence and text.startswith("```", pos):
            self._fence = False
            return pos + 3, False
        if not self._fence and (match := _FENCE.match(text, pos)):
            self._fence = True
            self.used["code_fence"] = None
            return match.end(), False
        if _FENCE_BEGINS.match(text, pos):
            return pos, True
        self._fail("there is text between the tags that is not JSON", 0)
        return pos, False

    def _resync(self, text: str, pos: int, base: int) -> tuple[int, bool]:
        """Look for the tag that ends a block whose JSON broke.

        Where it broke inside of a value, a string may still have been open: what looks like the opening of
        another call may be part of it, and is not believed.
        """
        at = pos
        while match := self._ends.pattern.search(text, at):
            if match[0] != TOOL_CALL_OPEN or self.value_at is None:
                return self._finish(match, base), False
            at = match.end()
        return max(pos, len(text) - self._ends.longest + 1), True

    def _finish(self, match: re.Match[str], base: int) -> int:
        tag = match[0]
        self.end = "close" if tag == TOOL_CALL_CLOSE else "open" if tag == TOOL_CALL_OPEN else "cut"
        self.end_at = base + match.start()
        return match.end() if self.end == "close" else match.start()

    def _fail(self, problem: str, at: int) -> None:
        self.error = problem
        if self._bare:
            self.end, self.end_at = "release", at


def _skip(text: str, pos: int) -> int:
    match = _BLANK.match(text, pos)
    return match.end() if match else pos
