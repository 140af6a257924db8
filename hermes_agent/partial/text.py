"""JSON that is still being written: which of its brackets are open, and what in them is whole."""

from __future__ import annotations

import re
from bisect import bisect_right
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from hermes_agent.output import strict_json

__all__ = ["GrowingJson", "Hidden", "Invalid", "Level"]

_PLAIN = re.compile(r'[^"\\]*+')
_BLANK = re.compile(r"[ \t\r\n]*+")
_SCALAR = re.compile(r'[^ \t\r\n,:"{}\[\]]*+')
_WHOLE_CHARACTERS = re.compile(r'(?:[^"\\]|\\u[0-9a-fA-F]{4}|\\[^u])*+', re.DOTALL)
_HALF_PAIR = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\Z")
_MARKS = ',:"{}[]'
_CLOSER = {"{": "}", "[": "]"}


class Hidden(Exception):  # noqa: N818  # no failure: there is nothing to show yet
    """What is being written here cannot be shown before it is whole."""


class Invalid(Exception):  # noqa: N818  # no failure of the program: the model wrote it
    """Whatever follows, this will not be valid."""


@dataclass(slots=True)
class Level:
    """A bracket that is open.

    Attributes:
        bracket: ``"{"`` or ``"["``.
        start: Where it stands.
        whole: The end of its last whole member; just behind the bracket while there is none.
        key: The span of the name of the member being written, quotes and all; ``None`` where none is whole.
        members: How many whole members it has.
        decoded: What `GrowingJson.plain` last made of it, behind the end up to which it was read.
    """

    bracket: str
    start: int
    whole: int
    key: tuple[int, int] | None = None
    members: int = 0
    decoded: tuple[int, Any] | None = field(default=None, compare=False, repr=False)


class GrowingJson:
    """Reads JSON in pieces of any size, every character once.

    It only finds where things end; whether they are JSON is said when a part is read. A number or a word is
    whole when the character behind it is there.

    Attributes:
        levels: The open brackets, outermost first.
        string: Where the string value begins that is being written, its quote; ``None`` where there is none.
        steps: Counts what could be shown anew: brackets opened, names and values completed,
            strings grown.
        parsed: Characters that were given to a JSON reader so far, for judging the cost.
    """

    def __init__(self) -> None:
        self.levels: list[Level] = []
        self.string: int | None = None
        self.steps = 0
        self.parsed = 0
        self.over = False
        self._pieces: list[str] = []
        self._starts: list[int] = []
        self._length = 0
        self._in_string = False
        self._key_at: int | None = None
        self._escaped = False
        self._scalar = False

    def __len__(self) -> int:
        return self._length

    @property
    def text(self) -> str:
        """All of it so far."""
        return "".join(self._pieces)

    def _slice(self, start: int, stop: int) -> str:
        """What stands from ``start`` to ``stop``, at a cost that the rest does not add to."""
        first = max(0, bisect_right(self._starts, start) - 1)
        base = self._starts[first]
        pieces = self._pieces[first : bisect_right(self._starts, stop)]
        return "".join(pieces)[start - base : stop - base]

    def feed(self, piece: str) -> None:
        """Read on."""
        base, pos = self._length, 0
        self._pieces.append(piece)
        self._starts.append(base)
        self._length += len(piece)
        while pos < len(piece) and not self.over:
            pos = self._inside(piece, pos, base) if self._in_string else self._between(piece, pos, base)

    def _inside(self, piece: str, pos: int, base: int) -> int:
        """Read on in a string; returns how far."""
        if self.string is not None:
            self.steps += 1
        if self._escaped:
            self._escaped = False
            return pos + 1
        match = _PLAIN.match(piece, pos)
        pos = match.end() if match else pos
        if pos == len(piece):
            return pos
        if piece[pos] == "\\":
            self._escaped = True
        else:
            self._in_string = False
            if self._key_at is None:
                self.string = None
                self._whole(base + pos + 1)
            else:
                self.levels[-1].key = (self._key_at, base + pos + 1)
                self._key_at = None
                self.steps += 1
        return pos + 1

    def _between(self, piece: str, pos: int, base: int) -> int:
        """Read on outside of strings; returns how far."""
        if match := _BLANK.match(piece, pos):
            if match.end() > pos:
                self._end_scalar(base + pos)
            pos = match.end()
        if match := _SCALAR.match(piece, pos):
            self._scalar = self._scalar or match.end() > pos
            pos = match.end()
        if pos < len(piece) and piece[pos] in _MARKS:
            self._end_scalar(base + pos)
            if not self.over:
                self._mark(piece[pos], base + pos)
            pos += 1
        return pos

    def _end_scalar(self, at: int) -> None:
        """Whatever number or word was being written ends at ``at``."""
        if self._scalar:
            self._scalar = False
            self._whole(at)

    def _mark(self, char: str, at: int) -> None:
        """Take one bracket, quote, comma or colon."""
        level = self.levels[-1] if self.levels else None
        if char in "{[":
            self.levels.append(Level(char, at, at + 1))
            self.steps += 1
        elif char in "}]":
            if level is None or char != _CLOSER[level.bracket]:
                self.over = True
                return
            self.levels.pop()
            self._whole(at + 1)
        elif char == '"':
            self._in_string = True
            if level is not None and level.bracket == "{" and level.key is None:
                self._key_at = at
            else:
                self.string = at
                self.steps += 1

    def _whole(self, end: int) -> None:
        """A value ends at ``end``."""
        self.steps += 1
        if not self.levels:
            self.over = True
            return
        level = self.levels[-1]
        level.whole, level.key = end, None
        level.members += 1

    def members(self, depth: int) -> str:
        """The container at ``depth`` as if it ended behind its last whole member."""
        level = self.levels[depth]
        text = self._slice(level.start, level.whole) + _CLOSER[level.bracket]
        self.parsed += len(text)
        return text

    def members_since(self, depth: int, end: int) -> str:
        """The array at ``depth`` with only those whole members that begin behind ``end``, the end of another.

        Raises:
            Invalid: There is no comma between them.
        """
        level = self.levels[depth]
        text = self._slice(end, level.whole).lstrip(" \t\r\n")
        if end > level.start + 1:
            if not text.startswith(","):
                raise Invalid
            text = text[1:]
        self.parsed += len(text)
        return f"[{text}]"

    def outermost_list(self) -> Level | None:
        """The first open array."""
        return next((level for level in self.levels if level.bracket == "["), None)

    def plain(self, depth: int) -> Any:
        """The decoded value of `members`, for the caller to add to.

        Raises:
            Invalid: It is not JSON.
        """
        level = self.levels[depth]
        if level.decoded is None or level.decoded[0] != level.whole:
            level.decoded = (level.whole, self._read(self.members(depth)))
        return copy(level.decoded[1])

    def key(self, depth: int) -> str:
        """The name of the member being written in the object at ``depth``.

        Raises:
            Hidden: There is none, or it is not whole.
            Invalid: It is not JSON.
        """
        if (span := self.levels[depth].key) is None:
            raise Hidden
        self.parsed += span[1] - span[0]
        key: str = self._read(self._slice(*span))
        return key

    def grown(self) -> str:
        """The string being written, less the half of a character at its end.

        Raises:
            Hidden: None is being written.
            Invalid: It is not JSON.
        """
        if self.string is None:
            raise Hidden
        match = _WHOLE_CHARACTERS.match(self._slice(self.string + 1, self._length))
        body = match[0] if match else ""
        if half := _HALF_PAIR.search(body, max(0, len(body) - 6)):
            # Only if it is an escape: the backslashes before it pair up otherwise.
            before = body[: half.start()]
            if (len(before) - len(before.rstrip("\\"))) % 2 == 0:
                body = before
        self.parsed += len(body)
        text: str = self._read(f'"{body}"')
        return text

    def is_open(self, depth: int) -> bool:
        """Whether a bracket is open at ``depth``."""
        return depth < len(self.levels)

    def _read(self, text: str) -> Any:
        try:
            return strict_json(text)
        except ValueError as error:
            raise Invalid from error
