"""Keys, tokens and passwords are taken out of whatever is written down, or shown to a model unasked."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

__all__ = ["REMOVED", "Redaction"]

REMOVED = "[removed]"
"""Stands where a secret stood."""

_NAMES = re.compile(r"API_?KEY|(?:^|_)KEY$|TOKEN(?!I[SZ])|SECRET|PASSWORD", re.IGNORECASE)
"""Environment variables that hold secrets. ``TOKENIZERS_PARALLELISM`` is none."""
_HARMLESS = re.compile(r"true|false|[\d.,]*", re.IGNORECASE)
_SHORTEST = 6
"""Shorter values are no keys, and taking out every "on" would spoil the tape."""

_QUOTE = r"[\"'\\]"
_HEADER = rf"authorization{_QUOTE}*\s{{0,4}}[:=]\s{{0,4}}{_QUOTE}*"
_OPAQUE = r"(?=[A-Za-z0-9._~+/=-]*\d)([A-Za-z0-9._~+/=-]{8,})"
# The last words of names like DB_PASSWORD, X-Api-Key, aws_secret_access_key and SharedAccessKey.
_SECRET = (
    r"(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key|auth[_-]?key|(?:access|account|private|secret|signing)"
    r"[_-]?key|(?<![A-Za-z])sig(?:nature)?)"
)
# In prose a colon says nothing; between quotes, as in JSON and in the repr of a dict, it does.
_IS = rf"(?:{_QUOTE}{{0,4}}\s{{0,4}}=|{_QUOTE}{{1,4}}\s{{0,4}}:(?=\s{{0,4}}{_QUOTE}))\s{{0,4}}{_QUOTE}{{0,4}}"
# Nothing, a small number, a placeholder, a folder (PWD=/home), or what has been removed before.
_NO_VALUE = r"(?!(?:none|null|nil|true|false|\d{1,5})\b|\[removed\]|(?:x{3,}|\*{2,}|\.{3})(?!\w)|[/<{$%])"
_VALUE = (
    r"(?<=\")[^\"\\\n]{1,256}(?=\\{0,3}\")|(?<=')[^'\\\n]{1,256}(?=\\{0,3}')"  # all there is between two quotes
    r"|[^\s\"'\\&;,<>]*[^\s\"'\\&;,<>)\]}.:]"  # or up to a blank, a quote, or what separates settings
)
# The first group of each is what has to go.
_SHAPES = (
    re.compile(r"(?<![A-Za-z0-9])(sk-[A-Za-z0-9_-]{8,})"),
    re.compile(r"(?<![A-Za-z0-9])(hf_[A-Za-z0-9]{16,})"),
    re.compile(_HEADER + r"(?:bearer|basic)\s{1,4}([^\s\"',;\\<>{}]+)", re.IGNORECASE),
    # In prose "bearer" is a word like any other; what follows is a token if there is a digit in it.
    re.compile(rf"(?<![A-Za-z0-9])bearer\s{{1,4}}{_OPAQUE}", re.IGNORECASE),
    re.compile(rf"(?<![A-Za-z0-9])(?:x-)?(?:api-key|auth-token):\s{{0,4}}{_OPAQUE}", re.IGNORECASE),
    # Keys of AWS, GitHub, GitLab, Slack, Google and Stripe.
    re.compile(r"(?<![A-Za-z0-9])((?:AKIA|ASIA)[A-Z0-9]{16,})"),
    re.compile(
        r"(?<![A-Za-z0-9])((?:gh[pousr]_|github_pat_|glpat-|xox[a-z]-|AIza|[sr]k_live_|[sr]k_test_)[A-Za-z0-9_-]{10,})"
    ),
    # JSON Web Tokens: '{"' in base64, and two parts more.
    re.compile(r"(?<![A-Za-z0-9])(eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{2,}\.[A-Za-z0-9_-]*)"),
    re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(.+?)(?=-----END|\Z)", re.DOTALL),
    # The password in user:password@host.
    re.compile(r"://[^\s:/?#@\"'<>]{0,256}:([^\s/?#\"'<>]{1,256})@"),
    re.compile(rf"{_SECRET}{_IS}{_NO_VALUE}({_VALUE})", re.IGNORECASE),
)
_TOKEN_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.~+/="
_BEFORE_TOKEN = re.compile(
    r"(?:authorization[\"'\\]*\s{0,4}[:=]?\s{0,4}[\"'\\]*)?(?:(?:bearer|basic)\s{0,4})?\Z", re.IGNORECASE
)
# What may become one of the others when more text comes: begun at the end, or named a little before it.
_BEGUN = re.compile(
    r"-----BEGIN [A-Z ]{0,40}-{0,5}\Z|:(?:/(?:/[^\s/?#\"'<>]{0,514})?)?\Z|(?:api-key|auth-token):\s{0,4}\Z",
    re.IGNORECASE,
)
_NAMED = re.compile(_SECRET, re.IGNORECASE)
_WINDOW = 512
_BOUNDARY = re.compile(r"[\s\"'\\&;,<>]")
_LONGEST = 4096
"""Characters of a secret, at most: what may be the beginning of one is not held back for ever."""


class Redaction:
    """Finds secrets: by their shape, and by their value where the environment holds it.

    Making one costs next to nothing while the environment stays as it is, so make one where it is needed.

    Args:
        environment: Where values come from; by default that of the process, as it is now.

    Example:
        >>> Redaction({"NOUS_API_KEY": "abc-123-xyz"}).text("the key abc-123-xyz and sk-0123456789abcdef")
        'the key [removed] and [removed]'
        >>> Redaction({}).text("cannot reach postgresql://app:hunter2@db:5432/main?password=hunter2&ssl=on")
        'cannot reach postgresql://app:[removed]@db:5432/main?password=[removed]&ssl=on'
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        variables = os.environ if environment is None else environment
        values = {value.strip() for name, value in variables.items() if _NAMES.search(name)}
        self._shapes, self._odd = _shapes(
            frozenset(v for v in values if len(v) >= _SHORTEST and not _HARMLESS.fullmatch(v))
        )

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
        for pattern in (_BEGUN, _NAMED):
            begun = pattern.search(text, max(len(text) - _WINDOW - 64, 0))
            place = min(place, begun.start()) if begun else place
        for value in self._odd:
            length = next((n for n in range(min(len(value), len(text)), 0, -1) if text.endswith(value[:n])), 0)
            place = min(place, len(text) - length)
        for first, last in self._spans(text):
            if last > place or not _BOUNDARY.search(text, last):
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


@lru_cache(maxsize=8)
def _shapes(secret: frozenset[str]) -> tuple[tuple[re.Pattern[str], ...], tuple[str, ...]]:
    """What to look for where these values are secret, and those of them that are more than one token."""
    # As they are spelled inside JSON too: calls and schemas are JSON in a text.
    spelled = secret | {json.dumps(v, ensure_ascii=ascii_only)[1:-1] for v in secret for ascii_only in (True, False)}
    if not spelled:
        return _SHAPES, ()
    longest_first = "|".join(re.escape(v) for v in sorted(spelled, key=len, reverse=True))
    return (re.compile(f"({longest_first})"), *_SHAPES), tuple(v for v in spelled if v.strip(_TOKEN_CHARACTERS))
