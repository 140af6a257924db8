"""Texts that a grammar allows, made by walking over its masks at random, one byte at a time."""

from __future__ import annotations

from functools import cache
from random import Random

from llguidance import LLMatcher, LLTokenizer

__all__ = ["walk"]

_CLOSERS = frozenset(b'"]}0> e\n')


@cache
def _tokenizer() -> LLTokenizer:
    return LLTokenizer("byte")


def walk(lark: str, random: Random, *, steps: int = 600) -> str | None:
    """A text that the grammar accepts; ``None`` if the walk has not ended after so many bytes."""
    matcher = LLMatcher(_tokenizer(), lark, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    written = bytearray()
    while len(written) < steps:
        mask = matcher.compute_bitmask()
        allowed = [byte for byte in range(256) if mask[byte >> 3] >> (byte & 7) & 1]
        if matcher.is_accepting() and (not allowed or random.random() < 0.3):
            return written.decode()
        closing = [byte for byte in allowed if byte in _CLOSERS]
        eager = random.random() < 0.5 + len(written) / steps
        byte = random.choice(closing if closing and eager else allowed)
        assert matcher.consume_token(byte)
        written.append(byte)
    return None
