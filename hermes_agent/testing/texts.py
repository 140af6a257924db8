"""Strings of a shape: short and readable ones, whatever pattern, format and length want of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from hermes_agent.ecma import compile_pattern
from hermes_agent.formats.automata import Automaton, Ranges, TooLargeError
from hermes_agent.formats.patterns import searched, whole
from hermes_agent.formats.shapes.leaves import holds_string
from hermes_agent.formats.shapes.nodes import String
from hermes_agent.formats.shapes.string_patterns import PATTERNS
from hermes_agent.python_regex import PatternError, compile_quietly, spell_for_engine
from hermes_agent.testing.whim import Whim

__all__ = ["spell", "text_for", "text_matching"]

SAMPLES: Final = MappingProxyType(
    {
        "date": ("2024-01-01", "1999-12-31", "2000-02-29"),
        "time": ("12:00:00Z", "23:59:59+02:00", "00:00:00.5Z"),
        "date-time": ("2024-01-01T12:00:00Z", "1999-12-31T23:59:59.25+02:00"),
        "duration": ("P1D", "PT1H30M", "P2W"),
        "email": ("a@example.com", "first.last+tag@mail.example.org"),
        "idn-email": ("a@example.com",),
        "hostname": ("example.com", "a", "mail-1.example.org"),
        "idn-hostname": ("example.com",),
        "ipv4": ("127.0.0.1", "10.0.0.255"),
        "ipv6": ("::1", "2001:db8::8a2e:370:7334"),
        "uuid": ("00000000-0000-4000-8000-000000000000", "123e4567-e89b-12d3-a456-426614174000"),
        "uri": ("https://example.com", "https://example.com/a/b?c=d#e", "mailto:a@example.com"),
        "url": ("https://example.com",),
        "iri": ("https://example.com",),
        "uri-reference": ("https://example.com", "/a/b", "a"),
        "iri-reference": ("https://example.com", "a"),
        "uri-template": ("https://example.com/{id}", "a"),
        "json-pointer": ("/a", "/a/0", ""),
        "relative-json-pointer": ("0", "1/a"),
        "regex": ("a", "^[a-z]+$"),
    }
)
"""Format → texts that have it, the plainest first."""

WORDS: Final = ("alpha", "beta gamma", 'a "quoted" word', "Grüße", "東京", "two\nlines", "x")
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_READABLE: Final = f"{_LETTERS}{_LETTERS.upper()}0123456789-_. ,:;/@+#()[]{{}}<>=*!?$%&'\"|~^`\\"
_TRIES = 20
_SPREAD = 12
"""Lengths beyond the shortest that a seed may choose."""


def text_for(shape: String, whim: Whim) -> str | None:
    """A string of a shape; ``None`` if none was found."""
    for text in _proposals(shape, whim):
        if holds_string(shape, text):
            return text
    return None


def text_matching(pattern: str, whim: Whim) -> str | None:
    """A text that a pattern of ``re`` matches as a whole; ``None`` if none was found."""
    matching = compile_quietly(pattern)
    try:
        found = whole(spell_for_engine(_without_lookaround(pattern)))
    except (PatternError, TooLargeError, re.error):
        return None
    for attempt in range(_TRIES):
        text = spell(found, 0, None, whim if not attempt else Whim(f"{attempt}"))
        if text is not None and matching.fullmatch(text):
            return text
    return None


def _proposals(shape: String, whim: Whim) -> Iterator[str]:
    """What may be such a string, the likeliest first."""
    known = [text for name in shape.formats for text in SAMPLES.get(name, ()) if holds_string(shape, text)]
    if known:
        yield whim.one_of(known)
        yield known[0]
    if not shape.patterns and not any(name in PATTERNS for name in shape.formats):
        yield from _free(shape, whim)
    found = _automaton(shape)
    for attempt in range(_TRIES):
        text = spell(found, shape.least, shape.most, whim if not attempt else Whim(f"{attempt}"))
        if text is None:
            return
        yield text


def _free(shape: String, whim: Whim) -> Iterator[str]:
    """Strings of which only the length matters."""
    for text in (whim.one_of(("a", *WORDS)), *_LETTERS):
        padded = text + "a" * (shape.least - len(text))
        yield padded if shape.most is None else padded[: shape.most]


@lru_cache(maxsize=256)
def _automaton(shape: String) -> Automaton:
    """As much as an automaton can say of a shape's patterns, formats and exclusions."""
    found: Automaton | None = None
    for part in _parts(shape):
        try:
            met = part if found is None else found & part
        except TooLargeError:
            continue
        if met.ends:
            found = met
    return whole("(?s:.*)") if found is None else found


def _parts(shape: String) -> Iterator[Automaton]:
    for pattern in shape.patterns:
        try:
            python = compile_pattern(pattern).pattern
        except ValueError:  # matches nothing, see `matches`
            continue
        rest, ahead = _leading_lookahead(python)
        for wanted, inner in ahead:
            if (found := _searched(f"^(?:{inner})")) is not None:
                yield found if wanted else whole("(?s:.*)") - found
        if (found := _searched(_without_lookaround(rest))) is not None:
            yield found
    for name in shape.formats:
        if name in PATTERNS and (found := _searched(PATTERNS[name])) is not None:
            yield found
    if shape.excluded:
        try:
            yield Automaton.all_but(shape.excluded)
        except TooLargeError:
            return


def _searched(pattern: str) -> Automaton | None:
    try:
        return searched(pattern)
    except (TooLargeError, re.error):
        return None


# Lookaround, of which automata know nothing


def _leading_lookahead(pattern: str) -> tuple[str, list[tuple[bool, str]]]:
    """The pattern without what it looks ahead for at its beginning, and that: whether it is wanted, and its pattern."""
    ahead: list[tuple[bool, str]] = []
    while (found := re.match(r"\^\(\?([=!])", pattern)) and (end := _closing(pattern, 1)):
        ahead.append((found[1] == "=", pattern[4 : end - 1]))
        pattern = "^" + pattern[end:]
    return pattern, ahead


def _without_lookaround(pattern: str) -> str:
    """The pattern without lookaround and word boundaries: it matches more, and what it matches has to be checked."""
    kept, at, inside = "", 0, False
    while at < len(pattern):
        if pattern[at] == "\\":
            kept += "" if not inside and pattern[at + 1] in "bB" else pattern[at : at + 2]
            at += 2
            continue
        if not inside and re.compile(r"\(\?<?[=!]").match(pattern, at) and (end := _closing(pattern, at)):
            at = end
            continue
        inside = pattern[at] == "[" or (inside and pattern[at] != "]")
        kept += pattern[at]
        at += 1
    return kept


def _closing(pattern: str, at: int) -> int:
    """The place behind the bracket that closes the one at a place; 0 if there is none."""
    depth, inside = 0, False
    while at < len(pattern):
        char = pattern[at]
        if char == "\\":
            at += 1
        elif inside or char == "[":
            inside = char != "]"
        else:
            depth += (char == "(") - (char == ")")
            if not depth:
                return at + 1
        at += 1
    return 0


# From an automaton to a text


def spell(automaton: Automaton, least: int, most: int | None, whim: Whim) -> str | None:
    """A text of an automaton, of so many characters: a short one, but not empty if another one is as short as allowed.

    Returns:
        ``None`` if there is none.
    """
    ways = _endings(automaton, least, most)
    lengths = [length for length, states in enumerate(ways) if 0 in states and length >= least]
    lengths = [length for length in lengths if length] or lengths
    if not lengths:
        return None
    left, state, text = whim.one_of(lengths), 0, ""
    while left:
        left -= 1
        options = [(_characters(ranges), to) for ranges, to in automaton.moves[state] if to in ways[left]]
        if whim.plain:
            options.sort(key=lambda option: _rank(option[0][0]))
        characters, state = whim.one_of(options)
        text += whim.one_of(characters)
    return text


def _endings(automaton: Automaton, least: int, most: int | None) -> list[frozenset[int]]:
    """For each number of characters, up to a few more than are needed, the states that may end behind so many."""
    back: dict[int, set[int]] = {}
    for state, moves in enumerate(automaton.moves):
        for _, to in moves:
            back.setdefault(to, set()).add(state)
    ways = [frozenset(automaton.ends)]
    last = max(least, 1) + len(automaton.moves)  # a shorter text than this there is, or none at all
    while len(ways) <= (last if most is None else min(last, most)):
        ways.append(frozenset(before for state in ways[-1] for before in back.get(state, ())))
        if 0 in ways[-1] and len(ways) > max(least, 1):
            last = min(last, len(ways) + _SPREAD)
    return ways


def _characters(ranges: Ranges) -> str:
    """Some characters of a set, the most readable first."""
    readable = "".join(c for c in _READABLE if any(low <= ord(c) <= high for low, high in ranges))
    return readable or "".join(chr(low) for low, _ in ranges[:8])


def _rank(char: str) -> int:
    return _READABLE.find(char) % 0x110000
