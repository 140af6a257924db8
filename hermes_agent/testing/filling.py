"""A model that fills whatever schema it is asked to fill."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal, TypeVar

from hermes_agent.errors import ConfigurationError, GrammarError, ModelError
from hermes_agent.formats.dialects import Dialect
from hermes_agent.formats.dialects import dialect as named_dialect
from hermes_agent.formats.grammar import Tags, TurnGrammar
from hermes_agent.formats.schema import in_schema_order
from hermes_agent.formats.shapes.nodes import is_object
from hermes_agent.formats.tags import THINK_CLOSE, THINK_OPEN
from hermes_agent.formats.wire import dump_json, serialise_call
from hermes_agent.messages import AssistantMessage, Message, UserMessage
from hermes_agent.models.base import Chunk, Guarantee, Request
from hermes_agent.output import Output, OutputError
from hermes_agent.testing.scripted import pieces
from hermes_agent.testing.texts import text_matching
from hermes_agent.testing.values import UnfillableError, proposals
from hermes_agent.testing.whim import Whim
from hermes_agent.tool import Tool, ToolArgumentsError

__all__ = ["FillingModel"]

T = TypeVar("T")

_THOUGHT: Final = "I fill what is asked for."
_WORDS: Final = ("Done.", "All right.", "Fertig: ümlaut.", "It is done,\nin two lines.", "Yes", "42")
_TRIES: Final = 60
_UNSET: Final = object()
_NOTHING: Final[Mapping[str, Mapping[str, object]]] = MappingProxyType({})


class FillingModel:
    """Calls each tool once, with arguments that its schema allows, and then answers as the output type wants it.

    It needs no script, so it tests how an agent is put together: that its tools take what their schemas promise, that
    they run, and that the answer's type can be filled. What it writes is allowed by the grammar of the request, the
    tool choice and the bound on parallel calls included, and is validated before it is written. An answer that the
    agent's own validators refuse is not written again, but another one is, as far as there are others.

    Args:
        call_tools: ``"all"``, ``"none"`` or the names of the tools to call. A tool choice of the request that demands
            a call overrules it.
        seed: Varies what is written, the same for the same seed. ``None`` writes the plainest values there are:
            examples and defaults of the schema, ``"a"`` and 0, and nothing that is optional.
        arguments: By tool, arguments that have to have these values; the others are filled.
        answer: The answer's value, where the type alone is not enough.
        dialect: A dialect or its name.
        chunk_size: Characters a chunk; ``None`` writes each turn in one piece.

    Attributes:
        requests: Every request so far. ``messages`` is live: it shows the conversation as it is now.

    Example:
        >>> from hermes_agent import Agent
        >>> def add(a: int, b: int) -> int:
        ...     "Add two numbers."
        ...     return a + b
        >>> result = Agent(FillingModel(), tools=[add], output=list[bool]).run_sync("Go on")
        >>> result.output, [message.content for message in result.messages if message.role == "tool"]
        ([], ['0'])
    """

    name = "filling"
    for_tests = True

    def __init__(
        self,
        *,
        call_tools: Literal["all", "none"] | Sequence[str] = "all",
        seed: int | None = None,
        arguments: Mapping[str, Mapping[str, object]] = _NOTHING,
        answer: object = _UNSET,
        dialect: str | Dialect = "chatml",
        chunk_size: int | None = None,
    ) -> None:
        if isinstance(call_tools, str) and call_tools not in ("all", "none"):
            raise ConfigurationError(
                f"call_tools={call_tools!r} is neither 'all' nor 'none'", hint=f"for one tool use [{call_tools!r}]"
            )
        self.dialect = named_dialect(dialect)
        self.requests: list[Request] = []
        self._call_tools = call_tools
        self._seed = seed
        self._arguments = arguments
        self._answer = answer
        self._chunk_size = chunk_size

    async def guarantee(self, grammar: TurnGrammar, *, prove: bool = False) -> Guarantee:
        """``"token"``: no turn is written that the grammar does not allow."""
        del grammar, prove
        return "token"

    async def generate(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Write calls or an answer; a word counts as a token.

        Raises:
            ModelError: Nothing was found that the grammar and the validation allow; the message says for which part,
                and why.
        """
        self.requests.append(request)
        turn = _Turn(request, self.dialect)
        todo = self._todo(turn)
        behind = "\n".join(self._call(turn, tool) for tool in todo) if todo else self._answered(turn)
        text = turn.opening + behind
        if not turn.allows(behind):
            raise ModelError(
                "the grammar allows each part of this turn, but not the whole of it",
                hint="this is a fault of the SDK: please report it",
                raw=text,
            )
        for piece in pieces(text, self._chunk_size):
            yield Chunk(piece)
        thought = turn.opening.split()
        yield Chunk("", "stop", output_tokens=len(text.split()) or 1, thinking_tokens=len(thought))

    def _todo(self, turn: _Turn) -> Sequence[Tool]:
        """The tools to call in this turn; none when it is time to answer."""
        offered = [tool.name for tool in turn.request.tools]
        named = {*self._arguments, *(() if isinstance(self._call_tools, str) else self._call_tools)}
        if unknown := sorted(named.difference(offered)):
            raise ModelError(
                f"FillingModel was given the tools {unknown!r}, and the agent has {offered!r}",
                hint="name tools of the agent in call_tools and arguments",
            )
        done = Counter(call.name for message in turn.written for call in message.tool_calls)
        wanted = [tool for tool in turn.tools if self._call_tools == "all" or tool.name in self._call_tools]
        todo = [tool for tool in wanted if not done[tool.name]]
        if not todo and turn.must_call:
            todo = sorted(wanted or turn.tools, key=lambda tool: done[tool.name])[:1]
        return todo[: turn.most_calls]

    def _call(self, turn: _Turn, tool: Tool) -> str:
        """A call of one tool, as it is written."""
        given = dict(self._arguments.get(tool.name, {}))

        def refused(value: Any) -> str:
            if not is_object(value):
                return f"arguments are an object, not {dump_json(value)}"
            try:
                tool.validate(value)
            except ToolArgumentsError as error:
                return "\n".join(error.problems)
            return turn.refusal(serialise_call(tool.name, value))

        def completed(value: Any) -> Any:
            return in_schema_order({**value, **given}, tool.parameters) if is_object(value) else value

        values = map(completed, proposals(tool.parameters, self._seed_for(tool.name)))
        found = _first(values, refused, f"the arguments of tool {tool.name!r}", tool.parameters)
        return serialise_call(tool.name, found)

    def _answered(self, turn: _Turn) -> str:
        """The answer, as it is written."""
        output = turn.request.output if turn.grammar is None else turn.grammar.output
        seed = self._seed_for("")
        said = [said for message in turn.written for said in (message.text, message.raw)]

        def refused(text: str) -> str:
            try:
                output.validate(text)
            except OutputError as error:
                return "\n".join(error.problems)
            if text in said and self._answer is _UNSET:
                return "the agent refused it, and no other was found"
            return turn.refusal(text)

        texts: Iterator[str | UnfillableError]
        if self._answer is not _UNSET:
            texts = _dumped(output, self._answer)
        elif output.schema is not None:
            values = proposals(output.schema, seed)
            texts = (value if isinstance(value, UnfillableError) else dump_json(value) for value in values)
        elif output.pattern is not None:
            texts = _matching(output.pattern, seed)
        else:
            texts = _plain(seed)
        return _first(texts, refused, f"an answer of type {output.name}", output.schema or output.pattern)

    def _seed_for(self, what: str) -> str | None:
        return None if self._seed is None else f"{self._seed}/{what}"


class _Turn:
    """One turn to write: what it may be, and what was written before it in answer to the same question."""

    def __init__(self, request: Request, dialect: Dialect) -> None:
        self.request = request
        self.grammar = grammar = request.grammar
        choice = request.tool_choice if grammar is None else grammar.tool_choice
        self.must_call = choice not in ("auto", "none")
        offered = request.tools if grammar is None else grammar.tools
        self.tools = [tool for tool in offered if choice in ("auto", "required", tool.name)]
        parallel = request.parallel if grammar is None else grammar.parallel
        self.most_calls = None if parallel is True else max(int(parallel), 1)
        self.written = _since_the_question(request.messages)
        self.opening = _opening(request, dialect)
        self._tags = Tags.text(dialect)

    def allows(self, behind: str) -> bool:
        """Whether the grammar allows this turn."""
        return self.grammar is None or self.grammar.accepts(self.opening + behind, self._tags)

    def refusal(self, behind: str) -> str:
        """What to say where the grammar does not allow a turn of just this; else nothing."""
        return "" if self.allows(behind) else f"the grammar does not allow it: {behind[:200]!r}"


def _since_the_question(messages: Sequence[Message]) -> list[AssistantMessage]:
    """The model's turns behind the last thing that the user said."""
    found: list[AssistantMessage] = []
    for message in reversed(messages):
        if isinstance(message, UserMessage):
            break
        if isinstance(message, AssistantMessage):
            found.append(message)
    return found


def _opening(request: Request, dialect: Dialect) -> str:
    """The thinking block that the turn begins with, or what is left of it."""
    opened, closed = dialect.think_open or THINK_OPEN, dialect.think_close or THINK_CLOSE
    rest = f"{_THOUGHT}\n{closed}{dialect.think_separator or chr(10)}"
    if request.grammar is not None:
        place, mode = request.grammar.place, request.grammar.reasoning
    else:
        mode = request.reasoning.mode
        prefix = request.prefix
        place = "start" if not prefix else "after_thought" if closed in prefix or opened not in prefix else "in_thought"
    if place == "in_thought":
        return rest
    return f"{opened}\n{rest}" if place == "start" and mode == "on" else ""


def _dumped(output: Output[Any], value: object) -> Iterator[str | UnfillableError]:
    """The text of an answer that was given."""
    try:
        yield output.dump(value)
    except OutputError as error:
        yield UnfillableError((), "\n".join(error.problems))


def _plain(seed: str | None) -> Iterator[str]:
    """Answers in words."""
    for number in itertools.count():
        word = Whim(None if seed is None else f"{seed}/{number}").one_of(_WORDS)
        yield f"{word} ({number + 1})" if number else word


def _matching(pattern: str, seed: str | None) -> Iterator[str | UnfillableError]:
    """Answers that match a pattern."""
    for number in itertools.count(-1 if seed is None else 0):
        text = text_matching(pattern, Whim(f"{seed}/{number}" if number >= 0 else None))
        yield UnfillableError((), "no text was found that it matches") if text is None else text


def _first(values: Iterator[T | UnfillableError], refused: Callable[[T], str], what: str, wanted: object) -> T:
    """The first value that is not refused."""
    why = ""
    try:
        for value in itertools.islice(values, _TRIES):
            if isinstance(value, UnfillableError):
                why = str(value)
            elif not (why := refused(value)):
                return value
    except GrammarError as error:
        why = error.message
    raise ModelError(
        f"found nothing for {what}: {why}",
        hint="give FillingModel the value, as arguments={tool: {name: value}} or answer=..., or write a ScriptedModel",
        raw=str(wanted),
    )
