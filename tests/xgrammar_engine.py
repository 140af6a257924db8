"""xgrammar over single bytes, so that a text can be matched, and written at random, without a vocabulary."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Any

import pytest

xgrammar: Any = pytest.importorskip("xgrammar", reason="xgrammar is not installed: `make test` installs it")

_STOP = 256
_CLOSERS = frozenset(b'"]}0> e\n')


@cache
def _compiler() -> Any:
    vocabulary = [*(bytes([code]) for code in range(256)), b"<stop>"]
    info = xgrammar.TokenizerInfo(vocabulary, vocab_type=xgrammar.VocabType.RAW, stop_token_ids=[_STOP])
    return xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)


def compiled(form: str | dict[str, Any]) -> Any:
    """An EBNF text or a structural tag, compiled.

    Raises:
        RuntimeError: xgrammar does not read it.
    """
    if isinstance(form, str):
        return _compiler().compile_grammar(xgrammar.Grammar.from_ebnf(form))
    return _compiler().compile_structural_tag(form)


def accepts(grammar: Any, text: str) -> bool:
    """Whether a whole text is allowed."""
    matcher = xgrammar.GrammarMatcher(grammar)
    return bool(all(matcher.accept_token(byte) for byte in text.encode()) and matcher.accept_token(_STOP))


def walk(grammar: Any, random: Random, *, steps: int = 600, errors: str = "strict") -> str | None:
    """A text that the grammar allows; ``None`` if the walk has not ended after so many bytes, or is no UTF-8.

    xgrammar's character classes hold halves of surrogate pairs as bytes, which no reply of a server can hold as text.

    Args:
        grammar: As `compiled` gives it.
        random: Chooses among the bytes allowed.
        steps: How many bytes may be written.
        errors: What becomes of bytes that are no UTF-8, as in ``bytes.decode``.
    """
    matcher = xgrammar.GrammarMatcher(grammar)
    mask = xgrammar.allocate_token_bitmask(1, _STOP + 1)
    written = bytearray()
    while len(written) < steps:
        matcher.fill_next_token_bitmask(mask)
        words = [int(word) & 0xFFFFFFFF for word in mask[0]]
        allowed = [code for code in range(_STOP) if words[code >> 5] >> (code & 31) & 1]
        ending = words[_STOP >> 5] >> (_STOP & 31) & 1
        if ending and (not allowed or random.random() < 0.3):
            try:
                return written.decode(errors=errors)
            except UnicodeDecodeError:
                return None
        assert allowed, f"the grammar goes nowhere behind {bytes(written)!r}"
        closing = [byte for byte in allowed if byte in _CLOSERS]
        eager = random.random() < 0.5 + len(written) / steps
        byte = random.choice(closing if closing and eager else allowed)
        assert matcher.accept_token(byte)
        written.append(byte)
    return None
