"""Puts the text of a turn's grammar together from the pieces in ``grammars/turn.lark``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from itertools import starmap
from typing import TYPE_CHECKING, Any, Final, Literal

from hermes_agent.errors import GrammarError
from hermes_agent.formats.tags import (
    DEFAULT_STOPS,
    FORBIDDEN_IN_TEXT,
    FORBIDDEN_IN_THOUGHTS,
    THINK_CLOSE,
    THINK_OPEN,
    TOOL_CALL_CLOSE,
    TOOL_CALL_OPEN,
    any_of,
)
from hermes_agent.formats.wire import dump_json
from hermes_agent.python_regex import PatternError, spell_for_engine
from hermes_agent.reasoning import Mode

if TYPE_CHECKING:
    from hermes_agent.formats.dialects import Dialect
    from hermes_agent.formats.schema import Prepared

__all__ = ["Parts", "Place", "Tag", "Tags", "compose", "thought_end"]

Tag = str | int
"""A tag as ordinary text, or the id of the one token it is."""

Place = Literal["start", "in_thought", "after_thought"]
"""Where in a turn a grammar begins."""


@dataclass(frozen=True, slots=True)
class Tags:
    """How a tokenizer spells the tags of a turn: each as text, or as the id of a token of its own.

    Ask the tokenizer, never the model's name: Qwen3 has a token for every tag, Qwen2.5 only for calls,
    Llama 3 for none.

    Attributes:
        stops: What ends the turn of the model; neither free text nor thoughts may hold it.
        thinking: The tags of the thinking block as text, whatever ``think_open`` and ``think_close`` are.
    """

    call_open: Tag = TOOL_CALL_OPEN
    call_close: Tag = TOOL_CALL_CLOSE
    think_open: Tag = THINK_OPEN
    think_close: Tag = THINK_CLOSE
    stops: tuple[str, ...] = DEFAULT_STOPS
    thinking: tuple[str, str] = (THINK_OPEN, THINK_CLOSE)

    @classmethod
    def text(cls, dialect: Dialect | None = None) -> Tags:
        """Every tag as ordinary text, which is how a decoded turn reads.

        Args:
            dialect: Names the thinking tags and the stops; without, the usual ones.
        """
        if dialect is None:
            return cls()
        opened, closed = dialect.think_open or THINK_OPEN, dialect.think_close or THINK_CLOSE
        return cls(think_open=opened, think_close=closed, stops=tuple(dialect.stops), thinking=(opened, closed))

    @classmethod
    def of(cls, tokenizer: Any, dialect: Dialect | None = None) -> Tags:
        """The tags as a Hugging Face tokenizer spells them.

        Args:
            tokenizer: Anything with ``encode(text, add_special_tokens=False)`` and ``added_tokens_decoder``.
            dialect: Names the thinking tags and the stops; without, the usual ones.
        """
        added = {token.content: index for index, token in tokenizer.added_tokens_decoder.items()}

        def spelled(tag: Tag) -> Tag:
            index = added.get(tag)
            if index is None or list(tokenizer.encode(tag, add_special_tokens=False)) != [index]:
                return tag
            return int(index)

        plain = cls.text(dialect)
        return replace(
            plain,
            call_open=spelled(plain.call_open),
            call_close=spelled(plain.call_close),
            think_open=spelled(plain.think_open),
            think_close=spelled(plain.think_close),
        )


_PLACEHOLDER: Final = re.compile(r"\{\{([A-Z_]+)\}\}")


@cache
def _pieces() -> Mapping[str, str]:
    text = files("hermes_agent.grammars").joinpath("turn.lark").read_text(encoding="utf-8")
    _, *blocks = re.split(r"(?m)^// @([\w-]+)\n", text)
    return dict(zip(blocks[::2], blocks[1::2], strict=True))


def _quoted(text: str) -> str:
    """A Lark string literal."""
    return json.dumps(text, ensure_ascii=False)


def _spelled(tag: Tag) -> str:
    return f"<[{tag}]>" if isinstance(tag, int) else _quoted(tag)


def _form(tag: Tag) -> str:
    return "token" if isinstance(tag, int) else "text"


@dataclass(frozen=True, slots=True)
class Parts:
    """What a turn is composed of.

    Attributes:
        calls: Name and parameters of each tool that may be called.
        answer: The schema of a JSON answer, the pattern of another, ``None`` for text.
        final: Whether an answer may be given instead of calls.
        most_calls: Calls in one turn; ``None`` is without bound.
        reasoning: Whether a thinking block comes first.
        thought: Most characters in it; ``None`` is without bound.
        place: Where the turn is taken up; what lies before is not part of it.
        inline: Whether a thought may end with a call, and the turn with it.
    """

    calls: tuple[tuple[str, Prepared], ...]
    answer: Prepared | str | None
    final: bool
    most_calls: int | None
    reasoning: Mode
    thought: int | None = None
    place: Place = "start"
    inline: bool = False

    @property
    def thinks(self) -> bool:
        """Whether there may be thoughts in what is written."""
        return self.place == "in_thought" or (self.place == "start" and self.reasoning != "off")

    @property
    def follows_thought(self) -> bool:
        """Whether what is written behind thoughts may follow some, and newlines with them."""
        return self.thinks or self.place == "after_thought"

    def taken_up(self, place: Place) -> Parts:
        """The rest of the turn from a place on. Equal for all turns that go on alike from there."""
        if place == "start":
            return self
        forgotten = replace(self, place=place, reasoning="off")
        return forgotten if place == "in_thought" else replace(forgotten, thought=None, inline=False)


def compose(turn: Parts, tags: Tags) -> str:
    """The grammar of a turn in llguidance's Lark dialect."""
    names, turns = _choose(turn, tags)
    gap = "GAP?" if turn.follows_thought else ""
    values = {
        "THINK": "thought"
        if turn.place == "in_thought"
        else {"on": "think", "auto": "think?", "off": ""}[turn.reasoning],
        "TURN": " | ".join(turns),
        "FORBIDDEN": any_of((*FORBIDDEN_IN_TEXT, *tags.thinking), tags.stops),
        "INLINE": _inline(turn, tags),
        "THOUGHT_END": thought_end(turn, tags),
        "LENGTH": "*" if turn.thought is None else f"{{0,{turn.thought}}}",
        "GAP": gap,
        "MORE": "*" if turn.most_calls is None else f"{{0,{turn.most_calls - 1}}}",
        "CALLS": " | ".join(starmap(_call, turn.calls)),
        "SCHEMA": "" if turn.answer is None or isinstance(turn.answer, str) else turn.answer.text,
        "PATTERN": _pattern(turn.answer) if isinstance(turn.answer, str) else "",
        "START": r" & /([^ \t\r\n](?s:.*))?/" if gap else "",
        "THINK_OPEN": _spelled(tags.think_open),
        "THINK_CLOSE": _spelled(tags.think_close),
        "CALL_OPEN": _spelled(tags.call_open),
        "CALL_CLOSE": _spelled(tags.call_close),
    }
    return "".join(_PLACEHOLDER.sub(lambda found: values[found[1]], _pieces()[name]) for name in names)


def _choose(turn: Parts, tags: Tags) -> tuple[list[str], list[str]]:
    """The pieces that a turn needs, and the rules it may be."""
    pieces, turns = ["turn", "free"], list[str]()
    if turn.follows_thought:
        pieces.append("gap")
    if turn.thinks:
        pieces += ["think"] * (turn.place == "start") + [f"thought-{_form(tags.think_close)}"]
        pieces += [f"inline-{_form(tags.call_open)}"] * turn.inline
    if turn.final:
        kind = "text" if turn.answer is None else "typed-regex" if isinstance(turn.answer, str) else "typed-json"
        pieces.append(kind)
        turns.append(kind.partition("-")[0])
    if turn.calls:
        pieces += ["call", "one-call" if turn.most_calls == 1 else "several-calls"]
        with_text = turn.final and turn.answer is None
        pieces.append(f"text-then-calls-{_form(tags.call_open)}" if with_text else "calls-only")
        turns.append("text_then_calls" if with_text else "calls_only")
    return pieces, turns


def _inline(turn: Parts, tags: Tags) -> str:
    """The alternative of a turn that ends with a call inside of its thought."""
    if not (turn.inline and turn.thinks):
        return ""
    return " | inline_call" if turn.place == "in_thought" else f" | {_spelled(tags.think_open)} inline_call"


def thought_end(turn: Parts, tags: Tags) -> str:
    """What no thought may hold. Where a call inside of it is run, nothing else may look like one."""
    if turn.inline:
        return any_of((*FORBIDDEN_IN_THOUGHTS, tags.thinking[1]), tags.stops)
    return any_of([tags.thinking[1]], tags.stops) + "|<tool_call>(?s:.*)<tool_response"


def _call(name: str, arguments: Prepared) -> str:
    """A tool's alternative, from its name's opening quote to the end of the arguments."""
    head = f'{dump_json(name)}, "arguments": '
    return f"{_quoted(head)} %json {arguments.text}"


def _pattern(pattern: str) -> str:
    """A Python regular expression, spelled for the engine and between slashes."""
    try:
        return spell_for_engine(pattern)
    except PatternError as error:
        raise GrammarError(
            f"no mask can hold an answer to the pattern {pattern!r}, which has {error}", hint=error.hint, raw=pattern
        ) from error
