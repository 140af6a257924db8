"""The Hermes wire format, pure: dialects, prompts, the parser, the turn grammar, training data. No I/O, no model."""

from hermes_agent.formats.dialects import DIALECTS, Dialect, dialect, guess_dialect
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.formats.parser import TurnParser, parse
from hermes_agent.formats.prompt import render
from hermes_agent.formats.sharegpt import from_sharegpt, to_sharegpt

__all__ = [
    "DIALECTS",
    "Dialect",
    "TurnGrammar",
    "TurnParser",
    "dialect",
    "from_sharegpt",
    "guess_dialect",
    "parse",
    "render",
    "to_sharegpt",
]
