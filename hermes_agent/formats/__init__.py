"""The Hermes wire format, pure: dialects, prompts, the parser and the turn grammar. No I/O, no model."""

from hermes_agent.formats.dialects import DIALECTS, Dialect, dialect, guess_dialect
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.formats.parser import TurnParser, parse
from hermes_agent.formats.prompt import render

__all__ = ["DIALECTS", "Dialect", "TurnGrammar", "TurnParser", "dialect", "guess_dialect", "parse", "render"]
