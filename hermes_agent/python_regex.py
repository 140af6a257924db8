r"""Patterns of Python's ``re``, spelled so that the engine that masks tokens reads exactly the same set of texts.

The engine's dialect is another one: its ``\w``, ``\d`` and letter cases go by other tables, ``[a&&b]`` and
``[[a]b]`` are set operations there, and it knows no flags of Python's, no verbose mode and no ``\Z``. So every part of
a pattern that matches one character is asked for at ``re`` itself, code point by code point, and written as plain
ranges; what remains are groups, alternatives and repeats, which mean the same everywhere.

The meaning is that of ``fullmatch``: where an anchor stands at an end of the pattern it says nothing and is left
out, and whether a repeat is greedy makes no difference.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TypeAlias

__all__ = ["PatternError", "compile_quietly", "spell_for_engine"]


class PatternError(ValueError):
    """A pattern that says more than which texts match, by a construct that the engine has no equal for.

    Attributes:
        hint: What to write instead.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def compile_quietly(pattern: str | re.Pattern[str], flags: int = 0) -> re.Pattern[str]:
    """``re.compile``, without its warning that ``[[`` or ``&&`` may mean something else one day.

    Raises:
        re.error, OverflowError, RecursionError: The pattern is none.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return re.compile(pattern, flags)


@lru_cache(maxsize=256)
def spell_for_engine(pattern: str) -> str:
    """A pattern of ``re`` as a regular expression of Rust's, without flags, anchors and shorthand classes.

    Raises:
        PatternError: It holds something that cannot be said so; the message names it.
        re.error: It is no pattern.

    Example:
        >>> spell_for_engine(r"(?i)^v[0-9]{,3}$")
        '[Vv][0-9]{0,3}'
    """
    flags = compile_quietly(pattern).flags
    return _Reader(pattern).alternatives(flags).spell(head=True, tail=True)


# What a pattern is made of.


@dataclass(frozen=True, slots=True)
class _Char:
    """One character of a set, spelled for the engine."""

    text: str
    empty = False

    def spell(self, *, head: bool, tail: bool) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class _Anchor:
    text: str
    empty = True

    def spell(self, *, head: bool, tail: bool) -> str:
        if (head and self.text in ("^", r"\A")) or (tail and self.text in ("$", r"\Z", r"\z")):
            return ""
        if self.text in (r"\b", r"\B"):
            raise PatternError(
                f"{self.text!r}, which looks at the characters around it",
                "leave it out at the ends, since the whole answer must match, and spell out what stands beside it",
            )
        raise PatternError(f"{self.text!r} elsewhere than at an end", "leave it out: the whole answer must match")


@dataclass(frozen=True, slots=True)
class _Sequence:
    items: Sequence[_Node]

    @property
    def empty(self) -> bool:
        return all(item.empty for item in self.items)

    def spell(self, *, head: bool, tail: bool) -> str:
        first = next((at for at, item in enumerate(self.items) if not item.empty), len(self.items))
        last = next((at for at, item in reversed([*enumerate(self.items)]) if not item.empty), -1)
        return "".join(
            item.spell(head=head and at <= first, tail=tail and at >= last) for at, item in enumerate(self.items)
        )


@dataclass(frozen=True, slots=True)
class _Choice:
    options: Sequence[_Node]

    @property
    def empty(self) -> bool:
        return all(option.empty for option in self.options)

    def spell(self, *, head: bool, tail: bool) -> str:
        return "|".join(option.spell(head=head, tail=tail) for option in self.options)


@dataclass(frozen=True, slots=True)
class _Group:
    inner: _Node

    @property
    def empty(self) -> bool:
        return self.inner.empty

    def spell(self, *, head: bool, tail: bool) -> str:
        return f"(?:{self.inner.spell(head=head, tail=tail)})"


@dataclass(frozen=True, slots=True)
class _Repeat:
    inner: _Node
    times: str
    once: bool

    @property
    def empty(self) -> bool:
        return self.inner.empty

    def spell(self, *, head: bool, tail: bool) -> str:
        inner = self.inner.spell(head=head and self.once, tail=tail and self.once)
        return f"(?:{inner}){self.times}" if isinstance(self.inner, _Repeat) else inner + self.times


_Node: TypeAlias = "_Char | _Anchor | _Sequence | _Choice | _Group | _Repeat"


# Reading.

_SPACE = re.compile(r"[ \t\n\r\v\f]+|#[^\n]*")
_COMMENT = re.compile(r"\(\?#[^)]*\)")
_FLAGS = re.compile(r"\(\?([aiLmsux]*)(?:-([imsx]+))?([:)])")
_PLAIN_GROUP = re.compile(r"\((?!\?)|\(\?P<\w+>")
_REFUSED = re.compile(r"\(\?(?:=|!|<=|<!|>|\(|P=)")
_SET = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:x..|u.{4}|U.{8}|N\{[^}]*\}|0[0-7]{0,2}|[0-7]{3}|.)", re.DOTALL)
_TIMES = re.compile(r"[*+?]|\{([0-9]*)(,?)([0-9]*)\}")

_LOOKS = "spell out the texts that may match"
_WHY = {
    "(?=": ("a lookahead, '(?=…)'", _LOOKS),
    "(?!": ("a negative lookahead, '(?!…)'", _LOOKS),
    "(?<=": ("a lookbehind, '(?<=…)'", _LOOKS),
    "(?<!": ("a negative lookbehind, '(?<!…)'", _LOOKS),
    "(?>": ("an atomic group, '(?>…)'", "use '(?:…)'"),
    "(?(": ("a condition on a group, '(?(…)…)'", "write the two cases as alternatives"),
    "(?P=": ("a backreference, '(?P=…)'", "a mask cannot compare what was written; spell out the texts that may match"),
}


class _Reader:
    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0

    def take(self, found: re.Match[str]) -> re.Match[str]:
        self.at = found.end()
        return found

    def alternatives(self, flags: int) -> _Node:
        """Up to the closing bracket, or the end."""
        options = [self.sequence(flags)]
        while self.pattern.startswith("|", self.at):
            self.at += 1
            options.append(self.sequence(flags))
        return options[0] if len(options) == 1 else _Group(_Choice(options))

    def sequence(self, flags: int) -> _Node:
        items: list[_Node] = []
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            if self.skipped(flags):
                continue
            if items and (times := _TIMES.match(self.pattern, self.at)) and times[0] != "{}":
                self.take(times)
                items[-1] = self.repeated(items[-1], times)
            else:
                items.append(self.item(flags))
        return _Sequence(items)

    def skipped(self, flags: int) -> bool:
        """Whether there was something without a meaning of its own: a comment, or flags, which are known."""
        if flags & re.VERBOSE and (space := _SPACE.match(self.pattern, self.at)):
            return bool(self.take(space))
        if comment := _COMMENT.match(self.pattern, self.at):
            return bool(self.take(comment))
        scope = _FLAGS.match(self.pattern, self.at)
        return bool(scope and scope[3] == ")" and self.take(scope))

    def repeated(self, item: _Node, times: re.Match[str]) -> _Node:
        """A repeat; its being lazy changes nothing for a whole text."""
        mark = self.pattern[self.at : self.at + 1]
        if mark == "+":
            raise PatternError(f"a possessive repeat, '{times[0]}+'", f"use {times[0]!r}")
        self.at += mark == "?"
        if times[0] in "*+?":
            return _Repeat(item, times[0], times[0] == "?")
        least, comma, most = times.groups()
        spelled = f"{int(least or 0)}{comma}{int(most) if most else ''}"
        return _Repeat(item, f"{{{spelled}}}", int(most or (least if not comma else 2)) <= 1)

    def item(self, flags: int) -> _Node:
        pattern, at = self.pattern, self.at
        char = pattern[at]
        if char == "(":
            return self.group(flags)
        if char == "[":
            found = _SET.match(pattern, at)
            assert found is not None, "re has compiled it"
            return _Char(_spell_set(_points(self.take(found)[0], flags & _MATTER)))
        if char == "\\":
            return self.escape(flags)
        self.at += 1
        if char in "^$":
            return _Anchor(char)
        if char == ".":
            return _Char("(?s:.)" if flags & re.DOTALL else r"[^\n]")
        return _character(char, flags)

    def escape(self, flags: int) -> _Node:
        found = _ESCAPE.match(self.pattern, self.at)
        assert found is not None, "re has compiled it"
        text = self.take(found)[0]
        if text[1] in "AbBZz":
            return _Anchor(text)
        if text[1] in "123456789" and len(text) < 4:
            raise PatternError(f"a backreference, {text!r}", _WHY["(?P="][1])
        if len(text) == 2 and not text[1].isalnum():
            return _character(text[1], flags)
        return _Char(_spell_set(_points(text, flags & _MATTER)))

    def group(self, flags: int) -> _Node:
        if refused := _REFUSED.match(self.pattern, self.at):
            raise PatternError(*_WHY[refused[0]])
        if plain := _PLAIN_GROUP.match(self.pattern, self.at):
            self.take(plain)
        else:
            scope = _FLAGS.match(self.pattern, self.at)
            assert scope is not None, "re has compiled it"
            self.take(scope)
            flags = _changed(flags, scope[1], scope[2] or "")
        inner = self.alternatives(flags)
        self.at += 1
        return inner if isinstance(inner, _Group) else _Group(inner)


def _changed(flags: int, on: str, off: str) -> int:
    for letter in on:
        flag = re.RegexFlag[letter.upper()]
        flags = flags & ~(re.ASCII | re.UNICODE) | flag if flag in (re.ASCII, re.UNICODE) else flags | flag
    for letter in off:
        flags &= ~re.RegexFlag[letter.upper()]
    return flags


# Characters, which re itself is asked for.

_MATTER = re.ASCII | re.IGNORECASE
_SURROGATES = range(0xD800, 0xE000)
_NONE = r"[^\x{0}-\x{10ffff}]"


def _character(char: str, flags: int) -> _Char:
    if flags & re.IGNORECASE or ord(char) in _SURROGATES:
        return _Char(_spell_set(_points(re.escape(char), flags & _MATTER)))
    return _Char(_spell(char))


@cache
def _everything() -> str:
    """Every character that a text may hold, in order."""
    return "".join(chr(code) for code in range(sys.maxunicode + 1) if code not in _SURROGATES)


@lru_cache(maxsize=1024)
def _points(atom: str, flags: int) -> tuple[tuple[str, str], ...]:
    """The first and last character of every run that a pattern for one character matches."""
    found = compile_quietly(f"(?:{atom})+", flags).finditer(_everything())
    return tuple((run[0][0], run[0][-1]) for run in found)


def _spell_set(points: tuple[tuple[str, str], ...]) -> str:
    if not points:
        return _NONE
    if len(points) == 1 and points[0][0] == points[0][1]:
        return _spell(points[0][0])
    spelled = (
        _spell(first) if first == last else f"{_spell(first)}{'' if ord(last) - ord(first) == 1 else '-'}{_spell(last)}"
        for first, last in points
    )
    return f"[{''.join(spelled)}]"


def _spell(char: str) -> str:
    """One character, inside or outside a set."""
    if char.isascii() and (char.isalnum() or char in " _\"'%,:;<=>@!`"):
        return char
    return f"\\x{{{ord(char):x}}}"
