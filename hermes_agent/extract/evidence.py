"""Where in a text the values taken out of it stand.

A text value is looked for as it is, then without regard to case, white space, typographic quotes and dashes, and
spellings that Unicode holds for compatible (NFKC). Words of scripts that have cases are only found whole. A number is
found however it is usually written, and a date written out where day and month cannot be mistaken for each other.
"""

from __future__ import annotations

import json
import re
import unicodedata
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from functools import cached_property, lru_cache
from typing import Any, TypeVar, cast

from hermes_agent.extract.result import Extraction, Span
from hermes_agent.json_text import pointer
from hermes_agent.output import Output, OutputError

__all__ = ["dates_of", "evidence_of", "normalise", "numbers_of", "with_evidence"]

T = TypeVar("T")

_TYPOGRAPHIC = {
    **dict.fromkeys(map(ord, "\u2018\u2019\u201a\u201b\u02bc"), "'"),
    **dict.fromkeys(map(ord, "\u201c\u201d\u201e\u201f"), '"'),
    **dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2212"), "-"),
}
_SPACES = re.compile(r"\s+")

_ASCII = re.compile(r"[!-~]+(?![^\x00-\x7f])|\s+|.", re.DOTALL)
"""A run that is normalised letter by letter, white space, or one character to be looked at."""

_NUMBER = re.compile(
    r"(?<![0-9.,'\u2019])"
    r"(?:(?<![0-9A-Za-z\u2212-])[\u2212-])?"
    r"(?:[0-9]{1,3}(?:([.,'\u2019 \u00a0\u2009\u202f])[0-9]{3})(?:\1[0-9]{3})*(?![0-9])(?:[.,][0-9]+)?"
    r"|[0-9]+(?:[.,][0-9]+)?)"
    r"(?:[eE][+-]?[0-9]{1,3})?(?![0-9]|[.,'\u2019][0-9])"
)
_PART = re.compile(r"[0-9]+(?:[.,][0-9]+)?")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?\Z")
_MOST_DIGITS = 60
_MISSES = 2000
"""So often in a row a text may stand inside of words before nobody looks on: the time must not grow without bound."""

_MONTHS = {
    name: month
    for month, names in enumerate(
        (
            "january jan", "february feb", "march mar", "april apr", "may", "june jun", "july jul", "august aug",
            "september sept sep", "october oct", "november nov", "december dec",
        ), 1
    )
    for name in names.split()
}  # fmt: skip
_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_DATE = re.compile(
    rf"(?<![0-9A-Za-z])(?:"
    rf"(?P<d1>[0-9]{{1,2}})(?:st|nd|rd|th)?(?:\s+of)?[\s.-]+(?P<m1>{_MONTH})\b\.?,?[\s-]+(?P<y1>[0-9]{{4}})"
    rf"|(?P<m2>{_MONTH})\b\.?\s+(?P<d2>[0-9]{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<y2>[0-9]{{4}})"
    r"|(?P<y3>[0-9]{4})([./-])(?P<m3>[0-9]{1,2})\8(?P<d3>[0-9]{1,2})"
    r"|(?P<a>[0-9]{1,2})([./-])(?P<b>[0-9]{1,2})\12(?P<y4>[0-9]{4})"
    r")(?![0-9A-Za-z])",
    re.IGNORECASE,
)
_ISO = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})\Z")


def with_evidence(extraction: Extraction[T], output: Output[T], text: str) -> Extraction[T]:
    """The same extraction, and where in the text its values stand.

    Args:
        extraction: One that has a value.
        output: Of which type.
        text: What it was taken out of.
    """
    try:
        value = json.loads(output.serialise(extraction.output))
    except OutputError:  # a validator of the user made something else of it
        return extraction
    return replace(extraction, evidence=evidence_of(value, text))


def evidence_of(value: Any, text: str) -> dict[str, Span]:
    """Where the values stand, by JSON pointer; what stands nowhere is left out, and so are ``true`` and ``null``.

    For a span of a text value, ``normalise(text[start:end]) == normalise(value)``; for one of a number or a date,
    what stands there can be read as that number or date. Equal items of a list are given one place after the other,
    as long as there are any.

    Args:
        value: The value as JSON.
        text: Where to look.

    Example:
        >>> evidence_of({"total": 1234.5, "buyers": ["Ann", "Ann"]}, "Ann and  ann paid 1,234.50 EUR")
        {'/total': (18, 26), '/buyers/0': (0, 3), '/buyers/1': (9, 12)}
    """
    where = _Where(text)
    found: dict[str, Span] = {}
    for path, leaf in _leaves(value, ()):
        span = where.next(leaf, tuple("*" if isinstance(part, int) else part for part in path))
        if span is not None:
            found[pointer(path)] = span
    return found


def normalise(text: str) -> str:
    """What two spellings of the same words have in common."""
    return _SPACES.sub(" ", _folded(text)).strip(" ")


def numbers_of(text: str) -> set[Decimal]:
    """The numbers that a text, and nothing less, may be: ``"1,234"`` is 1234 or 1.234."""
    found = _NUMBER.fullmatch(text)
    return set(_readings(found[0])) if found else set()


def dates_of(text: str) -> set[str]:
    """The date that a text, and nothing less, is, as ISO 8601 writes it; none where day and month may be mistaken."""
    found = _DATE.fullmatch(text)
    return {day} if found and (day := _iso(found)) else set()


class _Where:
    """Looks for values in one text. What a kind of value needs is found out when there is one."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._taken: dict[tuple[tuple[str, ...], str], Iterator[Span]] = {}
        self._last: dict[tuple[tuple[str, ...], str], Span | None] = {}

    def next(self, value: object, path: tuple[str, ...]) -> Span | None:
        """The next place of a value; the last one again if there are no more."""
        if value is None or isinstance(value, bool) or (isinstance(value, str) and not value.strip()):
            return None
        key = (path, repr(value))
        if key not in self._taken:
            self._taken[key], self._last[key] = self._places(value), None
        self._last[key] = next(self._taken[key], self._last[key])
        return self._last[key]

    def _places(self, value: object) -> Iterator[Span]:
        if isinstance(value, int | float):
            yield from self._numbers.get(Decimal(repr(value)), ())
            return
        wanted = cast("str", value)
        some = False
        for span in self._exact(wanted):
            some = True
            yield span
        if some and len(normalise(wanted)) < 2:
            return
        # Other spellings come behind those that are exact, each place once.
        exact = set(self._exact(wanted)) if some else set[Span]()
        for span in self._words.places(wanted):
            some = True
            if span not in exact:
                yield span
        if some:
            return
        if _ISO.match(wanted):
            yield from self._dates.get(wanted, ())
        elif _DECIMAL.match(wanted) and len(wanted) <= _MOST_DIGITS:
            yield from self._numbers.get(Decimal(wanted), ())

    def _exact(self, wanted: str) -> Iterator[Span]:
        at, missed = self._text.find(wanted), 0
        while at >= 0 and missed < _MISSES:
            end = at + len(wanted)
            if _stands_alone(self._text, at, end):
                missed = 0
                yield at, end
                at = self._text.find(wanted, end)
            else:
                missed += 1
                at = self._text.find(wanted, at + 1)

    @cached_property
    def _words(self) -> _Words:
        return _Words(self._text)

    @cached_property
    def _numbers(self) -> Mapping[Decimal, list[Span]]:
        alone: dict[Decimal, list[Span]] = {}
        glued: dict[Decimal, list[Span]] = {}
        for match in _NUMBER.finditer(self._text):
            if match[1] and match[1].isspace():  # thousands, or numbers side by side
                for part in _PART.finditer(self._text, *match.span()):
                    for number in _readings(part[0]):
                        glued.setdefault(number, []).append(part.span())
            if match.end() - match.start() > _MOST_DIGITS:
                continue
            before, behind = self._text[: match.start()][-1:], self._text[match.end() : match.end() + 1]
            kept = glued if before.isalpha() or behind.isalpha() else alone
            for number in _readings(match[0]):
                kept.setdefault(number, []).append(match.span())
        for number, spans in glued.items():
            alone.setdefault(number, []).extend(spans)
        return alone

    @cached_property
    def _dates(self) -> Mapping[str, list[Span]]:
        found: dict[str, list[Span]] = {}
        for match in _DATE.finditer(self._text):
            if day := _iso(match):
                found.setdefault(day, []).append(match.span())
        return found


class _Words:
    """A text as `normalise` spells it, and where each of its characters comes from."""

    def __init__(self, text: str) -> None:
        self._text = text
        made: list[str] = []
        # Runs of the spelling, and the runs of the text they come from; those of equal length match letter by letter.
        self._starts, self._from = array("q"), array("q")
        length, at = 0, 0
        while at < len(text):
            match = _ASCII.match(text, at)
            end = match.end() if match else at + 1
            if text[at].isspace():
                piece = " "
            elif end - at > 1 or (text[at] < "\x7f" and not text[end : end + 1] > "\x7f"):
                piece = text[at:end].lower()
            else:
                while end < len(text) and _continues(text[end]):
                    end += 1
                piece = _folded(text[at:end])
            self._starts.append(length)
            self._from.append(at)
            made.append(piece)
            length += len(piece)
            at = end
        self._starts.append(length)
        self._from.append(len(text))
        self._spelt = "".join(made)

    def places(self, wanted: str) -> Iterator[Span]:
        """Where a text stands, in whatever spelling."""
        needle = normalise(wanted)
        at, missed = self._spelt.find(needle) if needle else -1, 0
        while at >= 0 and missed < _MISSES:
            start, end = self._origin(at, last=False), self._origin(at + len(needle), last=True)
            if start < end and _stands_alone(self._text, start, end) and normalise(self._text[start:end]) == needle:
                missed = 0
                yield start, end
                at = self._spelt.find(needle, at + len(needle))
            else:
                missed += 1
                at = self._spelt.find(needle, at + 1)

    def _origin(self, at: int, *, last: bool) -> int:
        """The place in the text of one in the spelling: of the character before it if it is the last."""
        run = (bisect_left(self._starts, at) if last else bisect_right(self._starts, at)) - 1
        run = max(0, min(run, len(self._starts) - 2))
        begins, ends = self._starts[run], self._starts[run + 1]
        first, behind = self._from[run], self._from[run + 1]
        if ends - begins == behind - first:
            return first + at - begins
        return behind if last else first


def _continues(char: str) -> bool:
    """Whether a character belongs to the one before it, in one way or another."""
    return char > "\x7f" and (unicodedata.combining(char) != 0 or unicodedata.category(char) in ("Mc", "Me"))


@lru_cache(maxsize=4096)
def _folded_short(text: str) -> str:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return unicodedata.normalize("NFKC", folded.translate(_TYPOGRAPHIC))


def _folded(text: str) -> str:
    if text.isascii():
        return text.lower()
    return _folded_short(text) if len(text) <= 64 else _folded_short.__wrapped__(text)


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Whether no word is cut at either end; scripts without cases do not always put spaces between words."""
    return not (
        (start > 0 and _of_word(text[start]) and _of_word(text[start - 1]))
        or (end < len(text) and _of_word(text[end - 1]) and _of_word(text[end]))
    )


def _of_word(char: str) -> bool:
    return char.isdigit() or (char.isalpha() and char.lower() != char.upper())


def _readings(written: str) -> list[Decimal]:
    """The numbers that digits, with whatever stands between them, may be."""
    sign = "-" if written[0] in "-\u2212" else ""
    body = written.lstrip("-\u2212")
    marks = [char for char in body if not char.isascii() or char in ".,' "]
    readings: list[str] = []
    if not marks:
        readings = [body]
    else:
        last = marks[-1]
        bare = re.sub(r"[.,'\u2019 \u00a0\u2009\u202f]", "", body)
        if len(marks) > 1 and len(set(marks)) == 1:
            readings = [bare]  # groups of thousands
        elif last in ".,":
            head, _, tail = body.rpartition(last)
            readings = [re.sub(r"[^0-9]", "", head) + "." + tail]
            digits = re.match(r"[0-9]*", tail)
            if len(marks) == 1 and digits and len(digits[0]) == 3 and len(head) <= 3 and head[0] != "0":
                readings.append(bare)
        else:
            readings = [bare]
    found: list[Decimal] = []
    for reading in readings:
        try:
            found.append(Decimal(sign + reading))
        except InvalidOperation:
            continue
    return found


def _iso(match: re.Match[str]) -> str | None:
    """The date that was matched, if it is one and cannot be another."""
    part = match.groupdict()
    year = int(part["y1"] or part["y2"] or part["y3"] or part["y4"])
    if part["a"]:
        one, two = int(part["a"]), int(part["b"])
        if one <= 12 and two <= 12 and one != two:
            return None
        day, month = (two, one) if two > 12 else (one, two)
    else:
        name = part["m1"] or part["m2"]
        month = _MONTHS[name.lower()] if name else int(part["m3"])
        day = int(part["d1"] or part["d2"] or part["d3"])
    return f"{year:04}-{month:02}-{day:02}" if 1 <= month <= 12 and 1 <= day <= 31 else None


def _leaves(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], object]]:
    if isinstance(value, dict):
        for name, inner in cast("dict[str, object]", value).items():
            yield from _leaves(inner, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(cast("list[object]", value)):
            yield from _leaves(inner, (*path, index))
    else:
        yield path, cast("object", value)
