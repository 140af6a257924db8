"""Where a JSON value ends, found piece by piece and in one pass.

The scanner knows strings, escapes and brackets, of JSON and of Python literals alike, and no more: whether
the value is well formed is for the decoder to say. It stops at the first character that cannot belong to
a value, so a broken call does not swallow the calls behind it.
"""

from __future__ import annotations

import re
from typing import Literal

__all__ = ["MAX_DEPTH", "ScanStatus", "ValueScanner", "split_array", "within_depth"]

MAX_DEPTH = 200
"""Brackets that may be open at once; deeper values are malformed."""

ScanStatus = Literal["more", "done", "stop", "deep"]
"""The input ended inside the value; the value is complete; a character cannot belong to it; too deep."""

# Everything between brackets: separators, numbers and words, and strings whose end is beyond doubt because
# a separator follows them. Possessive throughout, so a failure costs no second look. _FLAT also takes arrays
# and objects that hold no others. What is repeated possessively is atomic as well, which says nothing new: but
# before 3.11.5 Python does not step back over what it had read of a last round that fails.
_STRING = "|".join(rf"{q}(?:(?>[^{q}\\]++|\\.))*+{q}(?=[ \t\r\n]*+[,:}}\]<])" for q in "\"'")
_WORDS = rf"[ \t\r\n,:\w.+-]++|{_STRING}"
_PLAIN = re.compile(rf"(?:(?>{_WORDS}))*+", re.DOTALL)
_FLAT = re.compile(rf"(?:(?>{_WORDS}|\[(?:(?>{_WORDS}))*+\]|\{{(?:(?>{_WORDS}))*+\}}))*+", re.DOTALL)
_INSIDE = {quote: re.compile(rf"(?:(?>[^{quote}\\]++|\\.))*+", re.DOTALL) for quote in ('"', "'")}
_BLANK = re.compile(r"[ \t\r\n]*+")
_CLOSER = {"{": "}", "[": "]"}


class ValueScanner:
    """Finds the end of one value that begins with a bracket or a quote; fed in pieces of any size.

    Attributes:
        open: The closing brackets that are still owed, outermost first.
    """

    __slots__ = ("_after_string", "_quote", "open")

    def __init__(self) -> None:
        self.open: list[str] = []
        self._quote = ""
        self._after_string = False

    def feed(self, text: str, pos: int) -> tuple[int, ScanStatus]:
        """Read on from ``text[pos]``.

        Returns:
            How far the value was read, and why no further. After ``"more"`` the next call goes on with the
            characters from there.
        """
        while True:
            pos, status = self._string(text, pos)
            if status:
                return pos, status
            if self.open:
                pos = _after(_FLAT if len(self.open) < MAX_DEPTH else _PLAIN, text, pos)
            if pos == len(text):
                return pos, "more"
            status = self._step(text[pos])
            if status in ("stop", "deep"):
                return pos, status
            pos += 1
            if status == "done":
                return pos, "done"

    def _string(self, text: str, pos: int) -> tuple[int, ScanStatus | None]:
        """Read the rest of a string, if one is open, and make sure that something may follow it."""
        if self._quote:
            pos = _after(_INSIDE[self._quote], text, pos)
            if pos == len(text) or text[pos] != self._quote:
                return pos, "more"
            pos += 1
            self._quote = ""
            if not self.open:
                return pos, "done"
            self._after_string = True
        if self._after_string:
            pos = _after(_BLANK, text, pos)
            if pos == len(text):
                return pos, "more"
            if text[pos] not in ",:}]<":
                return pos, "stop"
            self._after_string = False
        return pos, None

    def _step(self, char: str) -> ScanStatus:
        """Take one bracket or quote."""
        if char in "\"'":
            self._quote = char
        elif char in "{[":
            if len(self.open) == MAX_DEPTH:
                return "deep"
            self.open.append(_CLOSER[char])
        elif self.open and char == self.open[-1]:
            self.open.pop()
            if not self.open:
                return "done"
        else:
            return "stop"
        return "more"


def within_depth(text: str) -> bool:
    """Whether the value that ``text`` is nests no deeper than `MAX_DEPTH`."""
    if len(text) <= MAX_DEPTH or text.count("{") + text.count("[") <= MAX_DEPTH:
        return True
    return ValueScanner().feed(text, 0)[1] != "deep"


def split_array(text: str) -> list[tuple[int, int]]:
    """Spans of the objects that stand directly in the array ``text``."""
    spans: list[tuple[int, int]] = []
    pos = 1
    while (start := text.find("{", pos)) >= 0:
        pos, status = ValueScanner().feed(text, start)
        if status != "done":
            break
        spans.append((start, pos))
    return spans


def _after(pattern: re.Pattern[str], text: str, pos: int) -> int:
    """Where ``pattern``, which also matches nothing, ends when it begins at ``pos``."""
    match = pattern.match(text, pos)
    return match.end() if match else pos
