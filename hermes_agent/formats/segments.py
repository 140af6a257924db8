"""The pieces of a prompt: markup that we write, and data that other people wrote and that must not become markup."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from hermes_agent.formats.dialects import Dialect

__all__ = ["Segment", "neutralise"]

_BREAK = "\u200b"


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a prompt. Special tokens count as such only in a trusted one."""

    text: str
    trusted: bool = True


def neutralise(text: str, dialect: Dialect, special: Iterable[str] = ()) -> str:
    """Break every tag and special token in ``text`` with a zero-width space, so that it reads as text.

    Args:
        text: What other people wrote.
        dialect: Its own markup is broken, besides the tags and special tokens that models share.
        special: Further strings to break.
    """
    return _markup(dialect, frozenset(special)).sub(rf"\g<0>{_BREAK}", text)


# Tags of the format, and how special tokens are spelled across the families of models that serve it.
_SHARED = (
    r"</?(?:tool_call|tool_response|tools|think|scratch_pad|schema|seed:[a-z_]+|s|start_of_turn|end_of_turn)>",
    r"<[|\uff5c][^<>\s]{1,40}[|\uff5c]>",
    r"\[/?INST\]",
)


@lru_cache(maxsize=64)
def _markup(dialect: Dialect, special: frozenset[str]) -> re.Pattern[str]:
    """Matches the first character of everything that must not arise from data."""
    own = {dialect.bos, *dialect.stops, dialect.think_open, dialect.think_close, dialect.turn_close, *special}
    for opening in (dialect.turn_open, dialect.system_open):
        own.update(opening.split("{role}"))
    literal = (re.escape(mark.strip()) for mark in sorted(own) if len(mark.strip()) > 1)
    return re.compile(rf"(?=(?:{'|'.join((*literal, *_SHARED))})).", re.IGNORECASE | re.ASCII | re.DOTALL)
