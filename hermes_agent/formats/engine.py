"""llguidance, which compiles grammars and computes masks. It is imported when it is first needed."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING

from hermes_agent.errors import GrammarError

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer

__all__ = ["byte_tokenizer", "compiled", "engine_warnings", "limits", "refusal"]


@cache
def byte_tokenizer() -> LLTokenizer:
    """One token per byte, so that a text can be matched without a vocabulary."""
    from llguidance import LLTokenizer

    return LLTokenizer("byte")


_LEXER_FUEL = 50_000_000
"""Fifty times the engine's own: bounded numbers in hundreds of tools need some of it, and 0.3 s to compile."""


_ITEMS_IN_ROW = 10_000
"""Five times the engine's own: what may come next where hundreds of optional properties or alternatives begin."""


def limits() -> LLParserLimits:
    """How much a grammar may cost to compile."""
    from llguidance import LLParserLimits

    return LLParserLimits(
        initial_lexer_fuel=_LEXER_FUEL, max_items_in_row=_ITEMS_IN_ROW, step_max_items=10 * _ITEMS_IN_ROW
    )


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


_TRIAL_FUEL = 4_000_000
"""What one schema may take: about half a second."""

_LONGEST_TRIED = 2_000_000
"""Characters of a schema that is worth a try."""

_MOST_TRIED = 8_000
"""Objects in a schema that is worth a try: more may take more than a second and a half, whatever the fuel."""


def refusal(schema: str) -> str:
    """Why the engine does not compile a JSON schema with its options; empty if it does."""
    from llguidance import LLMatcher, LLParserLimits

    if len(schema) > _LONGEST_TRIED or schema.count("{") > _MOST_TRIED:
        return "schema too large"
    matcher = LLMatcher(
        byte_tokenizer(),
        LLMatcher.grammar_from_json_schema(schema),
        log_level=0,
        limits=LLParserLimits(initial_lexer_fuel=_TRIAL_FUEL),
    )
    if not matcher.is_error():
        return ""
    lines = matcher.get_error().splitlines()
    reasons = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return reasons[0] if reasons else lines[0]


def engine_warnings(schema: str) -> tuple[str, ...]:
    """What the engine says it does not enforce of a JSON schema that it compiles."""
    from llguidance import LLMatcher

    matcher = LLMatcher(byte_tokenizer(), LLMatcher.grammar_from_json_schema(schema), log_level=0, limits=limits())
    return tuple(matcher.get_grammar_warnings())
