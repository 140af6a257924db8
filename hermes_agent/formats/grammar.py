"""One grammar for a whole assistant turn: thinking, calls, and the final answer.

The grammar says what may be written, token by token: ``think? ( text | text? calls | typed answer )``. Its text is
put together from the pieces in ``grammars/turn.lark`` and handed to llguidance.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

from hermes_agent.errors import ConfigurationError, GrammarError
from hermes_agent.formats.engine import compiled
from hermes_agent.formats.lark import Parts, Place, Tags, compose
from hermes_agent.formats.tags import THINK_CLOSE, THINK_OPEN
from hermes_agent.output import Output
from hermes_agent.reasoning import Mode, Reasoning
from hermes_agent.tool import Tool

if TYPE_CHECKING:
    from hermes_agent.formats.schema import Bounds, Prepared
    from hermes_agent.formats.structural_tag import Style

__all__ = ["Form", "Tags", "TurnGrammar"]

Form = Literal["lark", "gbnf", "structural_tag", "json_schema", "regex"]
"""The languages a turn's grammar can be written in; the last two can say only some turns."""


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
        bounds: How long strings and arrays may grow where a schema does not say.
        inline: A thought may end with one whole call, and the turn with it. Whoever runs the call writes its
            result into the thought, and the turn goes on under `in_thought`.

    Raises:
        ConfigurationError: The combination makes no sense, such as ``"required"`` without tools.
        GrammarError: Nothing satisfies a schema, so no turn could be written.

    Example:
        >>> grammar = TurnGrammar((), bool)
        >>> grammar.accepts("true"), grammar.accepts("yes")
        (True, False)
    """

    __slots__ = (
        "_derived", "_parts", "_texts", "inline", "key", "output", "parallel", "reasoning", "tool_choice", "tools",
    )  # fmt: skip

    tools: tuple[Tool, ...]
    """The tools that may be called."""
    output: Output[Any]
    tool_choice: str
    parallel: bool | int
    reasoning: Mode
    key: str
    """A hash of everything that shapes the grammar: equal for equal grammars, in every process."""
    inline: bool
    """Whether a thought may end with a call, and the turn with it."""
    _parts: Parts
    _derived: dict[Place, TurnGrammar]
    _texts: dict[Tags, str]

    def __init__(
        self,
        tools: Iterable[Tool | Callable[..., object]] = (),
        output: object = str,
        tool_choice: str = "auto",
        parallel: bool | int = True,
        reasoning: Reasoning | Mode | bool = "off",
        *,
        bounds: Bounds | None = None,
        inline: bool = False,
    ) -> None:
        offered = tuple(Tool.of(tool) for tool in tools)
        _check_names(offered)
        put = partial(object.__setattr__, self)
        put("tools", _chosen(offered, tool_choice))
        put("output", Output.of(cast("Any", output)))
        put("tool_choice", tool_choice)
        put("parallel", _checked_parallel(parallel))
        put("reasoning", Reasoning.of(reasoning).mode)
        put("inline", inline)
        put("_derived", {})
        put("_texts", {})
        put("_parts", self._read(bounds))
        if self.output.kind == "regex" and not self.must_call:
            self._check_pattern()
        put("key", _key(self._parts))

    @property
    def must_call(self) -> bool:
        """No final answer is allowed, only calls."""
        return self.tool_choice not in ("auto", "none")

    def _read(self, bounds: Bounds | None) -> Parts:
        from hermes_agent.formats.schema import prepare  # the algebra of schemas, which an import need not pay for

        calls = tuple(
            (tool.name, prepare(tool.parameters, what=f"the parameters of tool {tool.name!r}", bounds=bounds))
            for tool in self.tools
        )
        final = not self.must_call
        answer: Prepared | str | None = self.output.pattern
        if final and self.output.schema is not None:
            answer = prepare(self.output.schema, what="the schema of the output", bounds=bounds)
        most = None if self.parallel is True else max(int(self.parallel), 1)
        thought = None if bounds is None else bounds.thought
        inline = self.inline and bool(calls)
        return Parts(calls, answer if final else None, final, most, self.reasoning, thought, inline=inline)

    @property
    def place(self) -> Place:
        """Where in a turn this grammar begins."""
        return self._parts.place

    def in_thought(self) -> TurnGrammar:
        r"""The rest of a turn whose thinking block is open: thoughts, the closing tag, and what follows it.

        Whether the turn would have to begin with a block, or must not, no longer matters.

        Example:
            >>> TurnGrammar((), bool).in_thought().accepts("hm\n</think>\ntrue")
            True
        """
        return self._taken_up("in_thought")

    def after_thought(self) -> TurnGrammar:
        r"""The rest of a turn behind the closing tag of its thinking block: a few newlines at most, and the turn.

        Example:
            >>> TurnGrammar((), bool).after_thought().accepts("\ntrue")
            True
        """
        return self._taken_up("after_thought")

    def _taken_up(self, place: Place) -> TurnGrammar:
        if self.place == place:
            return self
        if self.place == "after_thought":
            raise ConfigurationError(
                "a grammar that begins behind the thoughts has none to go back to",
                hint="derive it from the grammar of the whole turn",
            )
        if place not in self._derived:
            rest = object.__new__(TurnGrammar)
            put = partial(object.__setattr__, rest)
            for name in ("tools", "output", "tool_choice", "parallel", "reasoning", "inline"):
                put(name, getattr(self, name))
            put("_derived", {})
            put("_texts", {})
            put("_parts", self._parts.taken_up(place))
            put("key", _key(rest._parts))
            self._derived[place] = rest
        return self._derived[place]

    def _check_pattern(self) -> None:
        """Say now what else the first turn would run into: a pattern too large for the engine, or without a text.

        Raises:
            GrammarError: The engine does not read the pattern, or no answer matches it.
        """
        matcher = compiled(compose(replace(self._parts, calls=(), inline=False), Tags.text())).deep_copy()
        if self.reasoning != "off":  # up to the answer's first character
            matcher.try_consume_tokens(list(f"{THINK_OPEN}{THINK_CLOSE}\n\n\n\n".encode()))
        if not matcher.is_accepting() and not any(matcher.compute_bitmask()[:32]):  # no byte
            begin = " without beginning with white space, which none does after thinking"
            raise GrammarError(
                f"no answer matches the pattern {self.output.pattern!r}{'' if self.reasoning == 'off' else begin}",
                hint="correct the pattern; tags such as '<think>' cannot be part of an answer",
                raw=self.output.pattern or "",
            )

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"TurnGrammar is frozen; make a new one to change {name!r}")

    def __eq__(self, other: object) -> bool:
        return self.key == other.key if isinstance(other, TurnGrammar) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        names = ", ".join(tool.name for tool in self.tools)
        return (
            f"TurnGrammar([{names}], output={self.output.kind}, tool_choice={self.tool_choice!r}, "
            f"parallel={self.parallel!r}, reasoning={self.reasoning!r}, place={self.place!r})"
        )

    def lark(self, tags: Tags | None = None) -> str:
        """The grammar in llguidance's Lark dialect.

        Args:
            tags: How the tokenizer that the mask is made for spells the tags; without, as ordinary text.
        """
        spelled = Tags.text() if tags is None else tags
        if spelled not in self._texts:  # with many tools it is long, and every turn asks for it
            self._texts[spelled] = compose(self._parts, spelled)
        return self._texts[spelled]

    def accepts(self, text: str, tags: Tags | None = None) -> bool:
        """Whether ``text`` is a whole turn that this grammar allows. Needs no model.

        Args:
            text: The turn as it reads.
            tags: ``Tags.text(dialect)`` for a dialect with tags of its own; without, the usual ones.

        Raises:
            GrammarError: The engine cannot compile the grammar.
        """
        try:
            data = text.encode()
        except UnicodeEncodeError:  # a lone surrogate is in no token's bytes, so no model can write it
            return False
        matcher = compiled(self.lark(tags)).deep_copy()
        return matcher.try_consume_tokens(list(data)) == len(data) and matcher.is_accepting()

    def gbnf(self, tags: Tags | None = None) -> str:
        """The grammar as GBNF, start rule ``root``: for llama.cpp, and as EBNF for xgrammar.

        Args:
            tags: Names the thinking tags and the stops; tags are always written as text.
        """
        from hermes_agent.formats import gbnf

        return gbnf.compose(self._parts, Tags.text() if tags is None else tags)[0]

    def structural_tag(
        self, tags: Tags | None = None, *, style: Style = "own", thought_tokens: int | None = None
    ) -> dict[str, Any]:
        """The grammar as a structural tag of xgrammar: ``{"type": "structural_tag", "format": {...}}``.

        Args:
            tags: Names the thinking tags and the stops; tags are always written as text.
            style: ``"qwen_3"`` is what xgrammar itself makes for Qwen 3, which is wider, see
                `hermes_agent.formats.structural_tag.like_qwen_3`.
            thought_tokens: Most tokens of a thought, which the server counts; its closing tag is then forced.

        Raises:
            GrammarError: The turn is not of the qwen_3 form.
        """
        from hermes_agent.formats import structural_tag

        if style == "qwen_3":
            schemas = {tool.name: dict(tool.parameters) for tool in self.tools}
            named = self.must_call and self.tool_choice != "required"
            return structural_tag.like_qwen_3(self._parts, schemas, named=named)
        spelled = Tags.text() if tags is None else tags
        return structural_tag.compose(self._parts, spelled, thought_tokens=thought_tokens)[0]

    def json_schema(self) -> dict[str, Any] | None:
        """The turn as one JSON schema; ``None`` if it is not always JSON, see `cannot_say`.

        Schemas stand in it as they were declared. A call is ``{"name": …, "arguments": {…}}``, one a turn: the
        parser's ``bare_json`` repair reads it where the answer is text or none, and
        `hermes_agent.formats.plain_forms.wire_text` makes wire text of it everywhere.
        """
        return self._plain_schema[0]

    def regex(self) -> str | None:
        """The turn as one regular expression for the whole text; ``None`` if there is none, see `cannot_say`."""
        return self._plain_pattern[0]

    @property
    def _plain_schema(self) -> tuple[dict[str, Any] | None, str]:
        from hermes_agent.formats import plain_forms

        calls = [(tool.name, tool.parameters) for tool in self.tools]
        return plain_forms.json_schema(self._parts, self.output.schema, calls)

    @property
    def _plain_pattern(self) -> tuple[str | None, str]:
        from hermes_agent.formats import plain_forms

        return plain_forms.pattern(self._parts)

    def cannot_say(self, form: Form) -> str:
        """Why there is no such form of this grammar, as a sentence; empty if there is one."""
        if form == "json_schema":
            return self._plain_schema[1]
        return self._plain_pattern[1] if form == "regex" else ""

    def left_to_validation(self, form: Form) -> tuple[str, ...]:
        """What a form does not enforce, so that only the validation afterwards holds it."""
        from hermes_agent.formats import gbnf, structural_tag

        if form == "gbnf":
            return gbnf.compose(self._parts, Tags.text())[1]
        if form == "structural_tag":
            return structural_tag.compose(self._parts, Tags.text())[1]
        if form == "regex":
            markup = "that an answer holds no markup is checked only afterwards"
            return (markup,) if self.output.kind == "regex" else ()
        if form == "json_schema":
            return ()
        return self.warnings

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the mask does not enforce, so that only the validation afterwards holds it.

        Raises:
            GrammarError: The engine cannot compile the grammar.
        """
        schemas = [schema for _, schema in self._parts.calls]
        if self._parts.answer is not None and not isinstance(self._parts.answer, str):
            schemas.append(self._parts.answer)
        ours = dict.fromkeys(warning for schema in schemas for warning in schema.warnings)
        return (*ours, *compiled(self.lark()).get_grammar_warnings())


def _key(parts: Parts) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _check_names(tools: tuple[Tool, ...]) -> None:
    seen: set[str] = set()
    for tool in tools:
        if tool.name in ("auto", "required", "none"):
            raise ConfigurationError(
                f"a tool cannot be called {tool.name!r}, which is a tool_choice", hint="rename it, with @tool(name=...)"
            )
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
    if isinstance(parallel, bool) or parallel >= 1:
        return parallel
    raise ConfigurationError(
        f"parallel={parallel!r} allows no call",
        hint='use True, False or a number from 1 on; tool_choice="none" forbids',
    )
