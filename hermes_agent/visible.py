"""Text of other people made visible: what steers a terminal, or hides from a reader, is shown as an escape."""

from __future__ import annotations

import re

__all__ = ["UNSAFE", "escape", "visible"]

UNSAFE = re.compile(
    "["
    "\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f"  # controls of C0 and C1 but newline and tab
    "\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069"  # ends of lines, and marks that turn the reading direction
    "\\u200b\\u2060-\\u2064\\ufeff\\U000e0000-\\U000e007f"  # of no width: text that a model reads and a person does not
    "\\ud800-\\udfff"  # halves of surrogate pairs, which no encoding can carry
    "]"
)
"""Characters that are never shown as they are. A zero-width joiner is not among them: scripts and emoji need it."""


def visible(text: str) -> str:
    r"""A text that steers nothing and hides nothing: such characters become escapes, as ``\x1b``.

    Newlines and tabs stay; carriage returns go, as they would let a line write over itself.
    """
    return UNSAFE.sub(lambda match: escape(match[0]), text.replace("\r", ""))


def escape(character: str) -> str:
    r"""A character as Python writes it in a string literal: ``\x1b``, ``\u202e``, ``\U000e0041``."""
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
