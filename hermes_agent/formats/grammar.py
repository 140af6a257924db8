"""One grammar for a whole assistant turn: thinking, calls, and the final answer.

The grammar says what may be written, token by token: ``think? ( text | text? calls | typed answer )``. Its text is
put together from the pieces in ``grammars/turn.lark`` and handed to llguidance.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from hermes_agent.errors import ConfigurationError, GrammarError
from hermes_agent.formats.schema import Prepared, prepare
from hermes_agent.formats.tags import (
    DEFAULT_STOPS,
    FORBIDDEN_IN_TEXT,
    THINK_CLOSE,
    THINK_OPEN,
    TOOL_CALL_CLOSE,
    TOOL_CALL_OPEN,
)
from hermes_agent.formats.wire import dump_json
from hermes_agent.output import Output
from hermes_agent.reasoning import Mode, Reasoning
from hermes_agent.tool import Tool

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

    from hermes_agent.formats.dialects import Dialect

__all__ = ["Tags", "TurnGrammar"]

Tag = str | int
"""A tag as ordinary text, or the id of the one token it is."""


@dataclass(frozen=True, slots=True)
class Tags:
    """How a tokenizer spells the tags of a turn: each as text, or as the id of a token of its own.

    Ask the tokenizer, never the model's name: Qwen3 has a token for every tag, Qwen2.5 only for calls,
    Llama 3 for none.

    Attributes:
        forbidden: Literals that neither free text nor thoughts may hold besides the tags, such as the stop
            strings of the model.
        thought_end: The closing tag of the thinking block as text, whatever ``think_close`` is.
    """

    call_open: Tag = TOOL_CALL_OPEN
    call_close: Tag = TOOL_CALL_CLOSE
    think_open: Tag = THINK_OPEN
    think_close: Tag = THINK_CLOSE
    forbidden: tuple[str, ...] = DEFAULT_STOPS
    thought_end: str = THINK_CLOSE

    @classmethod
    def text(cls, dialect: Dialect | None = None) -> Tags:
        """Every tag as ordinary text, which is how a decoded turn reads.

        Args:
            dialect: Names the thinking tags and the stops; without, the usual ones.
        """
        if dialect is None:
            return cls()
        opened, closed = dialect.think_open or THINK_OPEN, dialect.think_close or THINK_CLOSE
        forbidden = dict.fromkeys((*dialect.stops, opened, closed))
        return cls(think_open=opened, think_close=closed, forbidden=tuple(forbidden), thought_end=closed)

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


class TurnGrammar:
    """What an assistant turn may be. A value: equal when it allows the same turns.

    Args:
        tools: The tools that may be called; plain functions are taken as tools.
        output: The type of the final answer, as in ``Agent(output=...)``; ``str`` is free text.
        tool_choice: ``"auto"`` leaves calls to the model, ``"required"`` wants at least one, ``"none"``
            forbids them; any other string names the one tool that must be called.
        parallel: Several calls in one turn: without bound, not at all, or at most so many.
        reasoning: Whether a ``<think>`` block stands first: ``"on"`` (it must), ``"off"`` (it must not) or
            ``"auto"`` (it may).

    Raises:
        ConfigurationError: The combination makes no sense, such as ``"required"`` without tools.
        GrammarError: Nothing satisfies a schema, so no turn could be written.

    Example:
        >>> grammar = TurnGrammar((), bool)
        >>> grammar.accepts("true"), grammar.accepts("yes")
        (True, False)
    """

    __slots__ = ("_key", "_prepared", "output", "parallel", "reasoning", "tool_choice", "tools")

    tools: tuple[Tool, ...]
    output: Output
    tool_choice: str
    parallel: bool | int
    reasoning: Mode

    def __init__(
        self,
        tools: Iterable[Tool | Callable[..., object]] = (),
        output: object = str,
        tool_choice: str = "auto",
        parallel: bool | int = True,
        reasoning: Reasoning | Mode | bool = "off",
    ) -> None:
        offered = tuple(Tool.of(tool) for tool in tools)
        _check_names(offered)
        put = object.__setattr__
        put(self, "tools", _chosen(offered, tool_choice))
        put(self, "output", Output.of(output))
        put(self, "tool_choice", tool_choice)
        put(self, "parallel", _checked_parallel(parallel))
        put(self, "reasoning", Reasoning.of(reasoning).mode)
        prepared = [prepare(tool.parameters, what=f"the parameters of tool {tool.name!r}") for tool in self.tools]
        if self.output.kind == "json" and not self.must_call:
            assert self.output.schema is not None
            prepared.append(prepare(self.output.schema, what="the schema of the output"))
        put(self, "_prepared", tuple(prepared))
        put(self, "_key", self._content())

    @property
    def must_call(self) -> bool:
        """No final answer is allowed, only calls."""
        return self.tool_choice not in ("auto", "none")

    @property
    def key(self) -> str:
        """A hash of everything that shapes the grammar: equal for equal grammars, in every process."""
        return self._key

    def _content(self) -> str:
        content = (
            [tool.name for tool in self.tools],
            [part.text for part in self._prepared],
            [self.output.kind, self.output.pattern],
            "calls" if self.must_call else "",
            int(self.parallel) if self.parallel is not True else -1,
            self.reasoning,
        )
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"TurnGrammar is frozen; make a new one to change {name!r}")

    def __eq__(self, other: object) -> bool:
        return self._key == other._key if isinstance(other, TurnGrammar) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        names = ", ".join(tool.name for tool in self.tools)
        return (
            f"TurnGrammar([{names}], output={self.output.kind}, tool_choice={self.tool_choice!r}, "
            f"parallel={self.parallel!r}, reasoning={self.reasoning!r})"
        )

    def lark(self, tags: Tags | None = None) -> str:
        """The grammar in llguidance's Lark dialect.

        Args:
            tags: How the tokenizer that the mask is made for spells the tags; without, as ordinary text.
        """
        return _compose(self, Tags.text() if tags is None else tags)

    def accepts(self, text: str) -> bool:
        """Whether ``text`` is a whole turn that this grammar allows. Needs no model.

        Raises:
            GrammarError: The engine cannot compile the grammar.
        """
        try:
            data = text.encode()
        except UnicodeEncodeError:  # a lone surrogate is in no token's bytes, so no model can write it
            return False
        matcher = _compiled(self.lark()).deep_copy()
        return matcher.try_consume_tokens(list(data)) == len(data) and matcher.is_accepting()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the mask does not enforce, so that only the validation afterwards holds it.

        Raises:
            GrammarError: The engine cannot compile the grammar.
        """
        ours = dict.fromkeys(warning for part in self._prepared for warning in part.warnings)
        return (*ours, *_compiled(self.lark()).get_grammar_warnings())


def _check_names(tools: tuple[Tool, ...]) -> None:
    seen: set[str] = set()
    for tool in tools:
        if tool.name in seen:
            raise ConfigurationError(
                f"two tools are called {tool.name!r}", hint="give one another name, with @tool(name=...)"
            )
        seen.add(tool.name)


def _chosen(tools: tuple[Tool, ...], choice: str) -> tuple[Tool, ...]:
    """The tools that may be called under a tool choice."""
    if choice == "none":
        return ()
    if choice == "auto":
        return tools
    if not tools:
        raise ConfigurationError(
            f"tool_choice={choice!r} needs a tool, and there are no tools",
            hint='pass tools, or use tool_choice="auto" or "none"',
        )
    if choice == "required":
        return tools
    named = tuple(tool for tool in tools if tool.name == choice)
    if not named:
        raise ConfigurationError(
            f"tool_choice={choice!r} names no tool; there are {', '.join(repr(tool.name) for tool in tools)}",
            hint='use "auto", "required", "none" or the name of a tool',
        )
    return named


def _checked_parallel(parallel: bool | int) -> bool | int:
    if isinstance(parallel, bool) or (isinstance(parallel, int) and parallel >= 1):
        return parallel
    raise ConfigurationError(
        f"parallel={parallel!r} allows no call", hint='use True, False or a number from 1 on; tool_choice="none" forbids'
    )


# From here on: putting the text together.

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


def _literals(texts: Iterable[str]) -> str:
    """A regular expression for any of several texts, in any letter case."""
    escaped = (re.sub(r"([][\\.*+?(){}|^$/])", r"\\\1", text).replace("\n", r"\n") for text in dict.fromkeys(texts))
    return f"(?i:{'|'.join(escaped)})"


def _form(tag: Tag) -> str:
    return "token" if isinstance(tag, int) else "text"


def _compose(grammar: TurnGrammar, tags: Tags) -> str:
    thinks = grammar.reasoning != "off"
    pieces, turns = ["turn", "free"], []
    if thinks:
        pieces += ["think", f"thought-{_form(tags.think_close)}"]
    if not grammar.must_call:
        if grammar.output.kind == "text":
            pieces.append("text")
            turns.append("text")
        else:
            pieces.append(f"typed-{grammar.output.kind}")
            turns.append("typed")
    if grammar.tools:
        pieces += ["call", "one-call" if grammar.parallel in (False, 1) and grammar.parallel is not True else "several-calls"]
        if grammar.output.kind == "text" and not grammar.must_call:
            pieces.append(f"text-then-calls-{_form(tags.call_open)}")
            turns.append("text_then_calls")
        else:
            pieces.append("calls-only")
            turns.append("calls_only")
    values = {
        "THINK": {"on": "think", "auto": "think?", "off": ""}[grammar.reasoning],
        "TURN": " | ".join(turns),
        "FORBIDDEN": _literals((*FORBIDDEN_IN_TEXT, *tags.forbidden)),
        "THOUGHT_END": _literals((tags.thought_end, *tags.forbidden)),
        "GAP": "GAP?" if thinks else "",
        "MORE": _more(grammar.parallel),
        "CALLS": _calls(grammar),
        "SCHEMA": grammar._prepared[-1].text if grammar._prepared else "",
        "PATTERN": _pattern(grammar.output.pattern) if grammar.output.kind == "regex" else "",
        "THINK_OPEN": _spelled(tags.think_open),
        "THINK_CLOSE": _spelled(tags.think_close),
        "CALL_OPEN": _spelled(tags.call_open),
        "CALL_CLOSE": _spelled(tags.call_close),
    }
    return "".join(_PLACEHOLDER.sub(lambda m: values[m[1]], _pieces()[piece]) for piece in pieces)


def _more(parallel: bool | int) -> str:
    """How many calls may follow the first."""
    return "*" if parallel is True else f"{{0,{int(parallel) - 1}}}"


def _calls(grammar: TurnGrammar) -> str:
    """One alternative per tool, from the name's opening quote to the end of the arguments."""

    def call(name: str, arguments: str) -> str:
        head = f'{dump_json(name)}, "arguments": '
        return f"{_quoted(head)} %json {arguments}"

    parts = zip(grammar.tools, grammar._prepared, strict=False)  # behind the tools stands the output's schema
    return " | ".join(call(tool.name, part.text) for tool, part in parts)


def _pattern(pattern: str) -> str:
    """A Python regular expression, spelled for the engine, which knows no anchors and matches whole answers."""
    from llguidance import regex_to_lark

    bare = re.sub(r"\\(.)", lambda m: "" if m[1] in "AZ" else m[0], pattern, flags=re.DOTALL)
    return str(regex_to_lark(bare, ""))


# From here on: the engine. It is imported when it is first needed.


@cache
def _byte_tokenizer() -> LLTokenizer:
    """One token per byte, so that a text can be matched without a vocabulary."""
    from llguidance import LLTokenizer

    return LLTokenizer("byte")


@lru_cache(maxsize=64)
def _compiled(lark: str) -> LLMatcher:
    from llguidance import LLMatcher

    matcher = LLMatcher(_byte_tokenizer(), lark, log_level=0)
    if matcher.is_error():
        raise GrammarError(
            f"the engine cannot compile the turn: {matcher.get_error().splitlines()[0]}",
            hint="simplify the schema or the pattern that it names",
            raw=lark,
        )
    return matcher
