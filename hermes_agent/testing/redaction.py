"""Keys and tokens are taken out of whatever is written down."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence

__all__ = ["REMOVED", "Redaction"]

REMOVED = "[removed]"
"""Stands where a secret stood."""

_NAMES = re.compile(r"API_?KEY|(?:^|_)KEY$|TOKEN(?!I[SZ])|SECRET|PASSWORD", re.IGNORECASE)
"""Environment variables that hold secrets. ``TOKENIZERS_PARALLELISM`` is none."""
_HARMLESS = re.compile(r"true|false|[\d.,]*", re.IGNORECASE)
_SHORTEST = 6
"""Shorter values are no keys, and taking out every "on" would spoil the tape."""

_HEADER = r"authorization[\"'\\]*\s{0,4}[:=]\s{0,4}[\"'\\]*"
# The first group of each is what has to go.
_SHAPES = (
    re.compile(r"(?<![A-Za-z0-9])(sk-[A-Za-z0-9_-]{8,})"),
    re.compile(r"(?<![A-Za-z0-9])(hf_[A-Za-z0-9]{16,})"),
    re.compile(_HEADER + r"(?:bearer|basic)\s{1,4}([^\s\"',;\\<>{}]+)", re.IGNORECASE),
    # In prose "bearer" is a word like any other; what follows is a token if there is a digit in it.
    re.compile(r"(?<![A-Za-z0-9])bearer\s{1,4}(?=[A-Za-z0-9._~+/=-]*\d)([A-Za-z0-9._~+/=-]{8,})", re.IGNORECASE),
)
_TOKEN_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.~+/="
_BEFORE_TOKEN = re.compile(
    r"(?:authorization[\"'\\]*\s{0,4}[:=]?\s{0,4}[\"'\\]*)?(?:(?:bearer|basic)\s{0,4})?\Z", re.IGNORECASE
)
_LONGEST = 4096
"""Characters of a secret, at most: what may be the beginning of one is not held back for ever."""


class Redaction:
    """Finds secrets: by their shape, and by their value where the environment holds it.

    Args:
        environment: Where values come from; by default that of the process, as it is now.

    Example:
        >>> Redaction({"NOUS_API_KEY": "abc-123-xyz"}).text("the key abc-123-xyz and sk-0123456789abcdef")
        'the key [removed] and [removed]'
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        variables = os.environ if environment is None else environment
        values = {value.strip() for name, value in variables.items() if _NAMES.search(name)}
        secret = {v for v in values if len(v) >= _SHORTEST and not _HARMLESS.fullmatch(v)}
        # As they are spelled inside JSON too: calls and schemas are JSON in a text.
        spelled = secret | {
            json.dumps(v, ensure_ascii=ascii_only)[1:-1] for v in secret for ascii_only in (True, False)
        }
        self._odd = [v for v in spelled if v.strip(_TOKEN_CHARACTERS)]
        longest_first = "|".join(re.escape(v) for v in sorted(spelled, key=len, reverse=True))
        self._shapes = (re.compile(f"({longest_first})"), *_SHAPES) if spelled else _SHAPES

    def text(self, text: str) -> str:
        """The text without its secrets."""
        return self.pieces([text])[0]

    def pieces(self, texts: Sequence[str]) -> list[str]:
        """The pieces of one text, without its secrets; what stands for one is in the piece where it began."""
        pieces = list(texts)
        # Again, until there is nothing more: what stood behind a secret may look like one now.
        while (cleaned := self._cleaned(pieces)) != pieces:
            pieces = cleaned
        return pieces

    def _cleaned(self, texts: Sequence[str]) -> list[str]:
        whole = "".join(texts)
        spans = self._spans(whole)
        kept: list[str] = []
        begin = 0
        for text in texts:
            at, end, piece = begin, begin + len(text), ""
            for first, last in spans:
                if first < end and last > begin:
                    piece += whole[at : max(first, at)] + (REMOVED if first >= begin else "")
                    at = min(last, end)
            kept.append(piece + whole[at:end])
            begin = end
        return kept

    def settled(self, text: str) -> int:
        """How much of a text that is still growing can be judged: no secret reaches over this place."""
        place, end = len(text), -1
        while place != end:  # what stands before a token may end one itself
            end = place
            token = len(text[:end].rstrip(_TOKEN_CHARACTERS))
            before = _BEFORE_TOKEN.search(text, max(token - 64, 0), token)
            place = before.start() if before else token
        for value in self._odd:
            length = next((n for n in range(min(len(value), len(text)), 0, -1) if text.endswith(value[:n])), 0)
            place = min(place, len(text) - length)
        for first, last in self._spans(text):
            if last > place or last == len(text):
                place = min(place, first)
        return max(place, len(text) - _LONGEST)

    def _spans(self, text: str) -> list[tuple[int, int]]:
        """Where secrets are, in order, none touching another."""
        found = sorted(match.span(1) for shape in self._shapes for match in shape.finditer(text))
        merged: list[tuple[int, int]] = []
        for first, last in found:
            if merged and first <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
            else:
                merged.append((first, last))
        return merged
