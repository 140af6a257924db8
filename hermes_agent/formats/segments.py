"""The pieces of a prompt: markup that we write, and data that other people wrote and that must not become markup."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from hermes_agent.formats.dialects import Dialect
from hermes_agent.json_text import sound

__all__ = ["Segment", "forged", "instructed", "neutralise", "spelled", "wire_text"]

_BREAK = "\u200b"


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a prompt. Special tokens count as such only in a trusted one."""

    text: str
    trusted: bool = True


def neutralise(text: str, dialect: Dialect, special: Iterable[str] = ()) -> str:
    """Break every tag and special token in ``text`` with a zero-width space, so that it reads as text.

    Lone surrogates, which no tokenizer and no wire takes, become U+FFFD.

    Args:
        text: What other people wrote.
        dialect: Its own markup is broken, besides the tags and special tokens that models share.
        special: Further strings to break.
    """
    return _broken(text, _markup(dialect, "all", frozenset(special)))


def instructed(text: str, dialect: Dialect) -> str:
    """Instructions, or the beginning of a turn: tags of the format count in them, but they open and close no turn.

    People write documents into instructions, and a model may repeat what it read.
    """
    return _broken(text, _markup(dialect, "turns"))


def spelled(text: str, dialect: Dialect, tokens: frozenset[str]) -> str:
    """What other people wrote, for a tokenizer at hand: broken is only what it has no token of its own for.

    A tag that is a token is never made of this text (`hermes_agent.models.tokens.encode_segments`). Where tags are
    spelled out, as in the vocabulary of Llama 3, ours and other people's would be the same tokens.

    Args:
        text: What other people wrote.
        dialect: How the model is spoken to.
        tokens: The added tokens of the vocabulary.
    """
    return _broken(text, _markup(dialect, "spelled", tokens))


def forged(text: str, dialect: Dialect) -> str | None:
    """The first tag or special token in a text, as it stands there; ``None`` where there is none."""
    markup = _markup(dialect, "all")
    found = None if markup is None else markup.search(text)
    return None if found is None else re.split(r"(?<=[>\])])", text[found.start() : found.start() + 48], maxsplit=1)[0]


def wire_text(segments: Iterable[Segment], dialect: Dialect) -> str:
    """The segments as one string, for whoever reads special tokens wherever they stand."""
    return "".join(segment.text if segment.trusted else neutralise(segment.text, dialect) for segment in segments)


def _broken(text: str, markup: re.Pattern[str] | None) -> str:
    text = sound(text)
    return text if markup is None else markup.sub(rf"\g<0>{_BREAK}", text)


_TAGS = ("tool_call", "tool_response", "tools", "think", "scratch_pad", "schema")
# How turns and special tokens are spelled across the families of models that serve the format, or that servers with
# tools of their own serve; behind the character that each begins with.
_TURNS = {
    "<": (
        r"[|\uff5c][^<>\s]{1,40}>|[^<>\s|\uff5c]{1,40}[|\uff5c]>|</?SYS>>"
        r"|/?(?:seed:[a-z_]+|s|(?:bos|eos|pad|unk)(?:_token)?|sop|eop|start_of_turn|end_of_turn)>"
    ),
    "[": (r"/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|ARGS|CALL_ID|THINK|gMASK)\]"),
}


@lru_cache(maxsize=64)
def _markup(
    dialect: Dialect, which: Literal["all", "turns", "spelled"], strings: frozenset[str] = frozenset()
) -> re.Pattern[str] | None:
    """Matches the first character of everything that must not arise."""
    own = {dialect.bos, *dialect.stops, dialect.turn_close}
    for opening in (dialect.turn_open, dialect.system_open):
        own.update(opening.split("{role}"))
    tags = [] if which == "turns" else [f"<{slash}{name}" for name in _TAGS for slash in ("", "/")]
    if which != "turns":
        own |= {dialect.think_open, dialect.think_close}
    own = {mark.strip() for mark in own}
    if which == "spelled":
        own -= strings
        tags = [tag for tag in tags if f"{tag}>" not in strings]
    else:
        own |= strings
    found = [(mark[0], re.escape(mark[1:])) for mark in sorted(own) if len(mark) > 1]
    found += [(tag[0], rf"{tag[1:]}[\s/>]") for tag in tags]
    found += () if which == "spelled" else _TURNS.items()
    # What they begin with stands alone, since searching for that is what makes it fast.
    rests: dict[str, list[str]] = {}
    for first, rest in found:
        rests.setdefault(first, []).append(rest)
    pattern = "|".join(rf"{re.escape(first)}(?={'|'.join(behind)})" for first, behind in rests.items())
    return re.compile(pattern, re.IGNORECASE | re.ASCII) if pattern else None
