"""llguidance, which compiles grammars and computes masks. It is imported when it is first needed."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING

from hermes_agent.errors import GrammarError

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer

__all__ = ["byte_tokenizer", "compiled", "limits", "refusal"]


@cache
def byte_tokenizer() -> LLTokenizer:
    """One token per byte, so that a text can be matched without a vocabulary."""
    from llguidance import LLTokenizer

    return LLTokenizer("byte")


_LEXER_FUEL = 50_000_000
"""Fifty times the engine's own: bounded numbers in hundreds of tools need some of it, and 0.3 s to compile."""


def limits() -> LLParserLimits:
    """How much a grammar may cost to compile."""
    from llguidance import LLParserLimits

    return LLParserLimits(initial_lexer_fuel=_LEXER_FUEL)


@lru_cache(maxsize=64)
def compiled(lark: str) -> LLMatcher:
    """A matcher at the start of a grammar, over bytes. It is shared: use a ``deep_copy()`` of it.

    Raises:
        GrammarError: The engine cannot compile the grammar.
    """
    from llguidance import LLMatcher

    matcher = LLMatcher(byte_tokenizer(), lark, log_level=0, limits=limits())
    if matcher.is_error():
        reasons = [line for line in matcher.get_error().splitlines() if line.startswith("error: ")]
        raise GrammarError(
            f"the engine cannot compile the turn: {(reasons or matcher.get_error().splitlines())[0]}",
            hint="simplify the schema or the pattern; regular expressions have no lookaround and no backreferences",
            raw=lark,
        )
    return matcher


def refusal(schema: str) -> str:
    """Why the engine does not compile a JSON schema with its options; empty if it does."""
    from llguidance import LLMatcher

    failed, messages = LLMatcher.validate_grammar_with_warnings(LLMatcher.grammar_from_json_schema(schema))
    if not failed:
        return ""
    reasons = [line.removeprefix("error: ") for line in messages[0].splitlines() if line.startswith("error: ")]
    return reasons[0] if reasons else messages[0].splitlines()[0]
