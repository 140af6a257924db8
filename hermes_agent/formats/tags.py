"""The tags of the Hermes format, everything else that free text may not hold, and what counts as the same tag.

The parser reads these literals as markup, or reports them; the turn grammar forbids exactly them in free
text. Both take them from here. Inside the JSON of a call or of a typed answer they are ordinary characters.
"""

from __future__ import annotations

import string
from collections.abc import Iterable

__all__ = [
    "DEFAULT_STOPS",
    "FORBIDDEN_IN_TEXT",
    "FORBIDDEN_IN_THOUGHTS",
    "NEAR_MISSES",
    "THINK_CLOSE",
    "THINK_OPEN",
    "TOOL_CALL_CLOSE",
    "TOOL_CALL_OPEN",
    "TOOL_RESPONSE_CLOSE",
    "TOOL_RESPONSE_OPEN",
    "any_of",
    "fold",
]

TOOL_CALL_OPEN = "<tool_call>"
TOOL_CALL_CLOSE = "</tool_call>"
TOOL_RESPONSE_OPEN = "<tool_response>"
TOOL_RESPONSE_CLOSE = "</tool_response>"
THINK_OPEN = "<think>"
THINK_CLOSE = "</think>"

DEFAULT_STOPS = ("<|im_end|>", "<|eot_id|>", "<|end_of_text|>")
"""What ends a turn when no dialect says it."""

NEAR_MISSES: dict[str, str] = {
    "<tool_call": "</tool_call",
    "<toolcall": "</toolcall",
    "<function=": "</function",
    "<function><name>": "</function",
    "<function>\n<name>": "</function",
    "<function_call": "</function_call",
    "<functioncall": "</functioncall",
    "[tool_call]": "[/tool_call",
}
"""What opens a call in some other format, in lower case, and how the tag that closes it begins."""

FORBIDDEN_IN_TEXT: tuple[str, ...] = (
    *NEAR_MISSES,
    "</tool_call",
    "<tool_response",
    THINK_OPEN,
    THINK_CLOSE,
)
"""Literals that free text may not hold, in lower case; they count in any case of the letters A to Z.

They are prefixes: ``"<tool_call"`` stands for ``<tool_call>``, ``<tool_calls>`` and ``<tool_call id="1">``
alike. A dialect's own stops and thinking tags come on top. The parser is a little milder than this list:
a thinking tag in the middle of a line is text to it.
"""

FORBIDDEN_IN_THOUGHTS: tuple[str, ...] = ("<tool_call", "</tool_call", "<tool_response")
"""The same for thoughts in which calls are run; their closing tag and the stops come on top."""

_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_SPECIAL = frozenset("[]\\.*+?(){}|^$/")


def fold(text: str) -> str:
    """``text`` with A to Z in lower case; no other letter is folded, so lengths are kept.

    Example:
        >>> fold("<THINK>"), fold("É")
        ('<think>', 'É')
    """
    return text.translate(_LOWER)


def any_of(folding: Iterable[str] = (), exact: Iterable[str] = ()) -> str:
    """A regular expression for any of these texts, for Python and for llguidance alike.

    Letter case is spelled out: what ``(?i:...)`` takes for the same letter beyond A to Z differs between the two.
    First characters stand alone, since searching for them is what makes it fast.

    Args:
        folding: Texts that count in any case of the letters A to Z.
        exact: Texts that count as they are.

    Example:
        >>> any_of(["<b>", "<i>"], ["END"])
        '<(?:[bB]>|[iI]>)|E(?:ND)'
    """
    spelled = {text: [_letter(char) for char in text] for text in folding}
    spelled |= {text: [_character(char) for char in text] for text in exact}
    tails: dict[str, list[str]] = {}
    for text in sorted(spelled, key=len, reverse=True):
        first, *rest = spelled[text]
        tails.setdefault(first, []).append("".join(rest))
    return "|".join(first if rests == [""] else f"{first}(?:{'|'.join(rests)})" for first, rests in tails.items())


def _letter(char: str) -> str:
    return f"[{char.lower()}{char.upper()}]" if char in string.ascii_letters else _character(char)


def _character(char: str) -> str:
    return r"\n" if char == "\n" else f"\\{char}" if char in _SPECIAL else char
