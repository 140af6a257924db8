"""The tags of the Hermes format, and everything else that free text may not hold.

The parser reads these literals as markup, or reports them; the turn grammar forbids exactly them in free
text. Both take them from here. Inside the JSON of a call or of a typed answer they are ordinary characters.
"""

from __future__ import annotations

__all__ = [
    "DEFAULT_STOPS",
    "FORBIDDEN_IN_TEXT",
    "NEAR_MISSES",
    "THINK_CLOSE",
    "THINK_OPEN",
    "TOOL_CALL_CLOSE",
    "TOOL_CALL_OPEN",
    "TOOL_RESPONSE_CLOSE",
    "TOOL_RESPONSE_OPEN",
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
"""Literals that free text may not hold, in lower case; they count in any letter case.

They are prefixes: ``"<tool_call"`` stands for ``<tool_call>``, ``<tool_calls>`` and ``<tool_call id="1">``
alike. A dialect's own stops and thinking tags come on top. The parser is a little milder than this list:
a thinking tag in the middle of a line is text to it.
"""
