"""Regular expressions as JSON Schema means them (ECMA-262, with the ``u`` flag's spirit), for Python's ``re``."""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import lru_cache

__all__ = ["compile_pattern"]

_SPACE = r"\t\n\v\f\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
_CLASSES = {"d": "0-9", "w": "A-Za-z0-9_", "s": _SPACE}
_CATEGORY = re.compile(r"\{(?:General_Category=|gc=)?([A-Z][a-z]?)\}")
_HEX = re.compile(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|u\{([0-9a-fA-F]{1,6})\}")
_CONTROL = re.compile(r"c([A-Za-z])")
_PLAIN = "tnrfv"


@lru_cache(maxsize=1024)
def compile_pattern(pattern: str) -> re.Pattern[str]:
    r"""Compile an ECMA-262 pattern; ``search`` with it, as JSON Schema's ``pattern`` does.

    Where the two languages differ, ECMA's meaning is kept: ``$`` is the very end, ``\d`` and ``\w`` are
    ASCII, ``.`` stops at every line terminator, ``\p{Lu}`` is a Unicode category.

    Raises:
        ValueError: The pattern is not one, or uses something ``re`` has no equal for, such as a script name.
    """
    try:
        return re.compile(_translate(pattern))
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{pattern!r} is not a pattern that can be checked: {error}") from error


def _translate(pattern: str) -> str:
    out: list[str] = []
    at = 0
    inside = False
    while at < len(pattern):
        char = pattern[at]
        if char == "\\":
            text, at = _escape(pattern, at + 1, inside=inside)
            out.append(text)
            continue
        at += 1
        if inside:
            inside = char != "]"
            out.append("\\" + char if char in "[&|~" else char)
        elif char == "[":
            text, at, inside = _open(pattern, at)
            out.append(text)
        elif char == "(" and pattern.startswith("?<", at) and pattern[at + 2 : at + 3] not in ("=", "!"):
            out.append("(?P<")
            at += 2
        else:
            out.append({"$": r"\Z", ".": r"[^\n\r\u2028\u2029]"}.get(char, char))
    return "".join(out)


def _open(pattern: str, at: int) -> tuple[str, int, bool]:
    """The start of a class; the empty class matches nothing, its complement everything."""
    if pattern.startswith("]", at):
        return "(?!)", at + 1, False
    if pattern.startswith("^]", at):
        return r"[\s\S]", at + 2, False
    return ("[^", at + 1, True) if pattern.startswith("^", at) else ("[", at, True)


def _escape(pattern: str, at: int, *, inside: bool) -> tuple[str, int]:
    """What follows a backslash, in Python's spelling, and where the pattern goes on."""
    char = pattern[at : at + 1]
    if char.lower() in _CLASSES:
        return _class(_CLASSES[char.lower()], negated=char.isupper(), inside=inside), at + 1
    if char in ("p", "P") and (category := _CATEGORY.match(pattern, at + 1)):
        return _class(_category(category[1]), negated=char == "P", inside=inside), category.end()
    if code := _HEX.match(pattern, at):
        return _literal(chr(int(next(filter(None, code.groups())), 16))), code.end()
    if control := _CONTROL.match(pattern, at):
        return _literal(chr(ord(control[1]) % 32)), control.end()
    if char == "b" and inside:
        return r"\x08", at + 1
    if char == "k" and (name := re.compile(r"k<(\w+)>").match(pattern, at)):
        return f"(?P={name[1]})", name.end()
    if char == "0":
        return r"\x00", at + 1
    if char in ("b", "B") or char in _PLAIN or char.isdigit() or not char:
        return "\\" + char, at + 1
    if char in ("p", "P"):
        raise re.error(f"no equal for \\{pattern[at : at + 20]}")
    return _literal(char), at + 1


def _literal(char: str) -> str:
    return f"\\U{ord(char):08x}"


def _class(ranges: str, *, negated: bool, inside: bool) -> str:
    if not inside:
        return f"[{'^' if negated else ''}{ranges}]"
    return _complement(ranges) if negated else ranges


@lru_cache(maxsize=16)
def _complement(ranges: str) -> str:
    member = re.compile(f"[{ranges}]")
    return _ranges([code for code in range(sys.maxunicode + 1) if not member.match(chr(code))])


@lru_cache(maxsize=64)
def _category(name: str) -> str:
    """The ranges of a general category; a whole walk over Unicode, so kept."""
    codes = [code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)).startswith(name)]
    if not codes:
        raise re.error(f"no Unicode category is called {name!r}")
    return _ranges(codes)


def _ranges(codes: list[int]) -> str:
    out: list[str] = []
    start = last = codes[0]
    for code in [*codes[1:], -1]:
        if code != last + 1:
            out.append(f"\\U{start:08x}-\\U{last:08x}")
            start = code
        last = code
    return "".join(out)
