"""Regular expressions as JSON Schema means them (ECMA-262, with the ``u`` flag's spirit), for Python's ``re``."""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import lru_cache
from typing import Literal

__all__ = ["compile_pattern", "foreign_part"]

Ranges = tuple[tuple[int, int], ...]
"""First and last code point of each run, in order and apart."""

_DIGIT: Ranges = ((0x30, 0x39),)
_WORD: Ranges = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
_SPACE: Ranges = (
    (0x09, 0x0D), (0x20, 0x20), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029),
    (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF),
)  # fmt: skip
_CLASSES = {"d": _DIGIT, "w": _WORD, "s": _SPACE}
_CATEGORY = re.compile(r"\{(?:General_Category=|gc=)?([A-Z][a-z]?)\}")
_HEX = re.compile(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|u\{([0-9a-fA-F]{1,6})\}")
_CONTROL = re.compile(r"c([A-Za-z])")
_PLAIN = "tnrfv"
_FOREIGN_ESCAPES = re.compile(r"\\(?:[AzZa<>UQE]|x\{|b\{)")
_FOREIGN_FLAGS = re.compile(r"\(\?[a-zA-Z]*[sm][a-zA-Z-]*[:)]")
_SET_OPERATIONS = ("[", "&&", "--", "~~")


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


def foreign_part(pattern: str) -> str:
    r"""What a pattern of Rust's or Python's holds that ECMA-262 would take for something else; empty if nothing.

    Such are set operations, ``\A`` and ``\z``, and flags that change ``.`` and ``$``. That ``.`` and the shorthand
    classes go by other tables beyond ASCII is not looked at.
    """
    at, inside = 0, False
    while at < len(pattern):
        if pattern[at] == "\\":
            if foreign := _FOREIGN_ESCAPES.match(pattern, at):
                return foreign[0]
            at += 2
        elif inside:
            if operation := next((mark for mark in _SET_OPERATIONS if pattern.startswith(mark, at)), ""):
                return operation
            inside = pattern[at] != "]"
            at += 1
        elif opened := re.compile(r"\[\^?\]?").match(pattern, at):
            inside, at = True, opened.end()
        elif flags := _FOREIGN_FLAGS.match(pattern, at):
            return flags[0]
        else:
            at += 1
    return ""


def _translate(pattern: str) -> str:
    out: list[str] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "\\":
            text, at, _ = _escape(pattern, at, inside=False)
        elif char == "[":
            text, at = _set(pattern, at)
        elif char == "(" and pattern.startswith("?<", at) and pattern[at + 2 : at + 3] not in ("=", "!"):
            text, at = "(?P<", at + 2
        else:
            text = {"$": r"\Z", ".": r"[^\n\r\u2028\u2029]"}.get(char, char)
        out.append(text)
    return "".join(out)


def _set(pattern: str, at: int) -> tuple[str, int]:
    """A set, from behind its bracket. The empty one matches nothing, its complement everything."""
    if pattern.startswith("]", at):
        return "(?!)", at + 1
    if pattern.startswith("^]", at):
        return r"[\s\S]", at + 2
    out = ["["]
    if pattern.startswith("^", at):
        out.append("^")
        at += 1
    place: Literal["first", "behind", "last"] = "first"  # of a range, which "-" is part of only behind a first
    while at < len(pattern) and pattern[at] != "]":
        char = pattern[at]
        at += 1
        if char == "-" and place == "behind":
            out.append("-")
            place = "last"
            continue
        many = False
        if char == "\\":
            text, at, many = _escape(pattern, at, inside=True)
        else:
            text = "\\" + char if char in "[&|~-" else char
        out.append(text)
        place = "first" if many or place == "last" else "behind"
    return "".join([*out, pattern[at : at + 1]]), at + 1


def _escape(pattern: str, at: int, *, inside: bool) -> tuple[str, int, bool]:
    """What follows a backslash, in Python's spelling; where the pattern goes on; whether it is a whole class."""
    char = pattern[at : at + 1]
    if char.lower() in _CLASSES:
        return _class(_CLASSES[char.lower()], negated=char.isupper(), inside=inside), at + 1, True
    if char in ("p", "P") and (category := _CATEGORY.match(pattern, at + 1)):
        return _class(_category(category[1]), negated=char == "P", inside=inside), category.end(), True
    if code := _HEX.match(pattern, at):
        return _literal(chr(int(next(filter(None, code.groups())), 16))), code.end(), False
    if control := _CONTROL.match(pattern, at):
        return _literal(chr(ord(control[1]) % 32)), control.end(), False
    if char == "b" and inside:
        return r"\x08", at + 1, False
    if char == "k" and (name := re.compile(r"k<(\w+)>").match(pattern, at)):
        return f"(?P={name[1]})", name.end(), False
    if char == "0":
        return r"\x00", at + 1, False
    if char in ("b", "B") or char in _PLAIN or char.isdigit() or not char:
        return "\\" + char, at + 1, False
    if char in ("p", "P"):
        raise re.error(f"no equal for \\{pattern[at : at + 20]}")
    return _literal(char), at + 1, False


def _literal(char: str) -> str:
    return f"\\U{ord(char):08x}"


def _class(ranges: Ranges, *, negated: bool, inside: bool) -> str:
    text = "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in (_complement(ranges) if negated else ranges))
    return text if inside else f"[{text}]"


def _complement(ranges: Ranges) -> Ranges:
    edges = [-1, *(edge for pair in ranges for edge in pair), sys.maxunicode + 1]
    gaps = zip(edges[::2], edges[1::2], strict=True)
    return tuple((end + 1, start - 1) for end, start in gaps if end + 1 < start)


@lru_cache(maxsize=64)
def _category(name: str) -> Ranges:
    """The code points of a general category; a whole walk over Unicode, so kept."""
    runs: list[tuple[int, int]] = []
    for code in range(sys.maxunicode + 1):
        if unicodedata.category(chr(code)).startswith(name):
            if runs and runs[-1][1] == code - 1:
                runs[-1] = (runs[-1][0], code)
            else:
                runs.append((code, code))
    if not runs:
        raise re.error(f"no Unicode category is called {name!r}")
    return tuple(runs)
