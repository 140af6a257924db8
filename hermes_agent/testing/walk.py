"""A JSON text of a grammar, found by asking the engine for each byte which ones may come next."""

from __future__ import annotations

from typing import Final

from hermes_agent.formats.engine import compiled
from hermes_agent.testing.whim import Whim

__all__ = ["walk"]

_LETTERS: Final = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_./@"
_OUTSIDE: Final = b'}]",: ' + _LETTERS + b"[{"
"""Outside of strings, what ends something first, and what begins the longest last."""
_INSIDE: Final = bytes(dict.fromkeys(b'"' + _LETTERS + bytes(range(256))))
_QUOTE: Final = ord('"')
_BACKSLASH: Final = ord("\\")
_MOST: Final = 5_000


def walk(lark: str, whim: Whim) -> str | None:
    """A JSON text that a grammar allows, mostly a short one; ``None`` if none came to an end.

    Args:
        lark: The grammar, in llguidance's Lark dialect.
        whim: Strays from the way that ends soonest, where it has a seed.

    Raises:
        GrammarError: The engine cannot compile the grammar.
    """
    matcher = compiled(lark).deep_copy()
    written = bytearray()
    inside = escaped = False
    while len(written) < _MOST:
        if matcher.is_accepting() and not whim.chance(0.1):
            return written.decode(errors="replace")
        mask = matcher.compute_bitmask()
        allowed = [byte for byte in (_INSIDE if inside else _OUTSIDE) if mask[byte >> 3] >> (byte & 7) & 1]
        if not allowed:
            return written.decode(errors="replace") if matcher.is_accepting() else None
        byte = whim.one_of(allowed[:40]) if whim.chance(0.3) else allowed[0]
        inside ^= byte == _QUOTE and not escaped
        escaped = byte == _BACKSLASH and not escaped
        matcher.try_consume_tokens([byte])
        written.append(byte)
    return None
