"""As much of a broken JSON text as can be read, for people to compare; never for acting on it."""

from __future__ import annotations

import json
import re
from typing import Any

from hermes_agent.formats.scan import MAX_DEPTH

__all__ = ["read_leniently"]

_BLANK = re.compile(r"(?:\s+|//[^\n]*|/\*.*?(?:\*/|\Z)|#[^\n]*)*", re.DOTALL)
_BARE = re.compile(r"[^,:\[\]{}\"\n]*")
_WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,300})(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?\Z")
# A quote ends a string only where something can follow it: models forget to escape those inside.
_ENDS = {quote: re.compile(rf"(?<!\\)(?:\\\\)*{quote}(?=\s*(?:[,:\]}}]|\Z)|\s+[\"'])") for quote in "\"'"}


def read_leniently(text: str) -> Any:
    r"""The value that a text seems to hold: brackets may be open, commas missing, names without quotes.

    Example:
        >>> read_leniently("Here it is: {name: 'Ann', \"tags\": [1 2,")
        {'name': 'Ann', 'tags': [1, 2]}
    """
    found = re.search(r"[{\[]", text)
    return _Reader(text, found.start() if found else 0).value(0)


class _Reader:
    def __init__(self, text: str, at: int) -> None:
        self._text, self._at = text, at

    def value(self, depth: int) -> Any:
        """The value from here on; something is read in any case, or the text has ended."""
        self._skip()
        char = self._here()
        if char in ("{", "[") and depth < MAX_DEPTH:
            self._at += 1
            return self._object(depth + 1) if char == "{" else self._array(depth + 1)
        if char in ('"', "'"):
            return self._string(char)
        return self._bare()

    def _object(self, depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        while self._goes_on("}"):
            name = self._string(self._here()) if self._here() in ('"', "'") else str(self._bare(name=True))
            self._skip()
            if self._here() == ":":
                self._at += 1
                self._skip()
                made[name] = None if self._here() in (",", "}", "") else self.value(depth)
            elif name:
                made[name] = None
        return made

    def _array(self, depth: int) -> list[Any]:
        made: list[Any] = []
        while self._goes_on("]"):
            made.append(self.value(depth))
        return made

    def _goes_on(self, closer: str) -> bool:
        """Whether there is another member; else this bracket is closed."""
        while True:
            self._skip()
            char = self._here()
            if char == closer:
                self._at += 1
                return False
            if char == "" or char in "]}":  # of a bracket around this one, which was never closed
                return False
            if char not in ",:":
                return True
            self._at += 1

    def _string(self, quote: str) -> str:
        start = self._at + 1
        found = _ENDS[quote].search(self._text, start)
        end = found.end() - 1 if found else len(self._text)
        self._at = end + 1
        body = self._text[start:end]
        try:
            return str(json.loads(f'"{body}"' if quote == '"' else json.dumps(body), strict=False))
        except ValueError:
            return body

    def _bare(self, *, name: bool = False) -> Any:
        """A word or a number without quotes."""
        found = _BARE.match(self._text, self._at)
        end = found.end() if found else self._at
        word = self._text[self._at : end].strip()
        first = word.split(maxsplit=1)[0] if word and not name else word
        if first in _WORDS or _NUMBER.match(first):
            end = self._at + len(first)  # what is behind it has lost its comma
            word = first
        self._at = max(end, self._at + 1)
        if name or not _NUMBER.match(word):
            return word if name else _WORDS.get(word, word)
        return json.loads(word)

    def _skip(self) -> None:
        if found := _BLANK.match(self._text, self._at):
            self._at = found.end()

    def _here(self) -> str:
        return self._text[self._at : self._at + 1]
