"""What a user holds: a model, its tools, and the type of the answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, Generic, TypedDict, cast, get_args, overload

import anyio
from typing_extensions import TypeForm, TypeVar, Unpack

from hermes_agent.calls import OnToolError
from hermes_agent.context import DepsT
from hermes_agent.errors import ConfigurationError
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.formats.wire import dump_json
from hermes_agent.limits import Limits
from hermes_agent.messages import Example, Message, SystemMessage
from hermes_agent.models import resolve
from hermes_agent.models.base import Constrain, Model, ModelLike
from hermes_agent.output import JsonSchema, Output, OutputError, Regex
from hermes_agent.plan import Plan
from hermes_agent.reasoning import Mode, Reasoning
from hermes_agent.run import Run, RunResult
from hermes_agent.sampling import Sampling
from hermes_agent.stream import RunStream, watch
from hermes_agent.tool import Tool, ToolArgumentsError

__all__ = ["Agent", "RunStream"]

OutputT = TypeVar("OutputT", default=str)
AnyDepsT = TypeVar("AnyDepsT")
AnyOutputT = TypeVar("AnyOutputT")

ToolLike = Tool | Callable[..., Any]
Text = type[str] | Regex | re.Pattern[str]


class Settings(TypedDict, total=False):
    """Keyword arguments that every form of ``Agent(...)`` takes; `Agent` explains them."""

    tools: Iterable[ToolLike]
    instructions: str | None
    examples: Iterable[Example]
    tool_choice: str
    parallel: bool | int
    reasoning: Reasoning | Mode | bool
    sampling: Sampling
    limits: Limits
    constrain: Constrain
    on_tool_error: OnToolError


class Agent(Generic[DepsT, OutputT]):
    """A model with tools and a typed answer.

    Building one touches no network and loads no weights; definitions that cannot work raise here.

    Args:
        model: ``"embedded"``, ``"hf:<hub id or folder>"``, a `Model`, or a model object of Outlines as it is.
            ``None`` means the environment's ``HERMES_SDK_MODEL``, else the embedded model.
        tools: Typed functions, or `Tool` objects.
        output: The type of the answer: ``str``, anything pydantic knows, ``JsonSchema({...})`` or
            ``Regex("...")``.
        instructions: What the model is told before every conversation.
        examples: Worked questions, shown before every conversation; small models need a few.
        deps_type: The type of ``deps=`` in runs, for type checkers only.
        tool_choice: ``"auto"``; ``"required"`` or a tool's name, which force calls until the first tool has
            answered; ``"none"``, which shows the tools but allows no call.
        parallel: Whether one turn may hold several calls, or at most how many.
        reasoning: ``"off"``, ``"on"``, ``"auto"``, or a `Reasoning`.
        sampling: How tokens are drawn; gaps are filled by the model's own defaults.
        limits: What a run may cost.
        constrain: ``"auto"`` enforces what the model can; ``"strict"`` refuses to run unless the turn grammar
            is enforced; ``"off"`` only validates afterwards.
        on_tool_error: ``"feedback"`` tells the model the type and message of what a tool raised; ``"raise"``
            ends the run with `ToolFailedError`.

    Raises:
        ConfigurationError: Tools of one name, a forced choice without tools, a type that cannot be an
            output, a schema nothing satisfies. The message names the value and the way out.

    Example:
        >>> from hermes_agent import Agent
        >>> def add(a: int, b: int) -> int:
        ...     '''Add two numbers.'''
        ...     return a + b
        >>> agent = Agent(tools=[add], output=int)
    """

    @overload
    def __init__(
        self: Agent[None, str],
        model: ModelLike | None = None,
        *,
        output: Text = ...,
        **settings: Unpack[Settings],
    ) -> None: ...
    @overload
    def __init__(
        self: Agent[None, Any],
        model: ModelLike | None = None,
        *,
        output: JsonSchema,
        **settings: Unpack[Settings],
    ) -> None: ...
    @overload
    def __init__(
        self: Agent[None, AnyOutputT],
        model: ModelLike | None = None,
        *,
        output: TypeForm[AnyOutputT],
        **settings: Unpack[Settings],
    ) -> None: ...
    @overload
    def __init__(
        self: Agent[AnyDepsT, str],
        model: ModelLike | None = None,
        *,
        output: Text = ...,
        deps_type: type[AnyDepsT],
        **settings: Unpack[Settings],
    ) -> None: ...
    @overload
    def __init__(
        self: Agent[AnyDepsT, Any],
        model: ModelLike | None = None,
        *,
        output: JsonSchema,
        deps_type: type[AnyDepsT],
        **settings: Unpack[Settings],
    ) -> None: ...
    @overload
    def __init__(
        self: Agent[AnyDepsT, AnyOutputT],
        model: ModelLike | None = None,
        *,
        output: TypeForm[AnyOutputT],
        deps_type: type[AnyDepsT],
        **settings: Unpack[Settings],
    ) -> None: ...
    def __init__(
        self,
        model: ModelLike | None = None,
        *,
        tools: Iterable[ToolLike] = (),
        output: Any = str,
        instructions: str | None = None,
        examples: Iterable[Example] = (),
        deps_type: type[Any] = type(None),
        tool_choice: str = "auto",
        parallel: bool | int = True,
        reasoning: Reasoning | Mode | bool = "off",
        sampling: Sampling = Sampling(),
        limits: Limits = Limits(),
        constrain: Constrain = "auto",
        on_tool_error: OnToolError = "feedback",
    ) -> None:
        _one_of("constrain", constrain, get_args(Constrain))
        _one_of("on_tool_error", on_tool_error, get_args(OnToolError))
        if not isinstance(cast("object", tools), Iterable):
            raise ConfigurationError(f"tools={tools!r} is not a list", hint="pass tools=[...], even for one")
        given = tuple(Tool.of(tool) for tool in tools)
        answer, thinking = Output.of(output), Reasoning.of(reasoning)
        _check_room(thinking, limits)

        def turn(choice: str) -> TurnGrammar:
            inline = thinking.mode != "off" and thinking.calls == "inline"
            return TurnGrammar(given, answer, choice, parallel, thinking, inline=inline)

        grammar = turn(tool_choice)
        forced = tool_choice not in ("auto", "none")
        system = (SystemMessage(instructions),) if instructions else ()
        worked = tuple(message for example in examples for message in _worked(example, given, answer))
        self._model = model
        self._plan = Plan(
            tools={tool.name: tool for tool in given},
            output=answer,
            opening=(*system, *worked),
            grammar=grammar,
            later_grammar=turn("auto") if forced else grammar,
            reasoning=thinking,
            sampling=sampling,
            limits=limits,
            constrain=constrain,
            on_tool_error=on_tool_error,
        )

    @property
    def model(self) -> Model:
        """The model that runs use; named models are looked up on first use."""
        self._model = resolve(self._model)
        return self._model

    @property
    def grammar(self) -> TurnGrammar:
        """What the first turn of a run may be; its ``warnings`` say what only validation holds."""
        return self._plan.grammar

    async def run(
        self, prompt: str, *, history: Sequence[Message] = (), deps: DepsT | None = None
    ) -> RunResult[OutputT]:
        """Ask, and wait for the validated answer.

        Args:
            prompt: What the user says.
            history: Earlier messages, such as ``result.messages`` of another run.
            deps: Handed to tools that take a `RunContext`.

        Raises:
            RunError: There is no valid answer, or a limit was reached; the error carries the conversation.
            ModelError: The model could not write.
        """
        return await Run(self._plan, self.model, prompt, history=history, deps=deps, emit=None).go()

    def run_sync(
        self, prompt: str, *, history: Sequence[Message] = (), deps: DepsT | None = None
    ) -> RunResult[OutputT]:
        """`run`, for code that is not async. Arguments and errors are the same.

        Raises:
            ConfigurationError: Called where an event loop runs already, such as a notebook.
        """
        _refuse_inside_loop()

        # Kept out of the task's own result: asyncio's runner formats that on Python 3.11, whole history and all.
        results: list[RunResult[OutputT]] = []

        async def go() -> None:
            results.append(await self.run(prompt, history=history, deps=deps))

        anyio.run(go)
        return results[0]

    def stream(
        self, prompt: str, *, history: Sequence[Message] = (), deps: DepsT | None = None
    ) -> AbstractAsyncContextManager[RunStream[OutputT]]:
        """`run`, watched: a context manager whose target yields events as things happen.

        Leaving the block early cancels the model and the tools. Arguments and errors are those of `run`;
        errors come out of the iteration.

        Example:
            >>> async def show(agent):
            ...     async with agent.stream("What is 2 + 3?") as events:
            ...         async for event in events:
            ...             print(event)
            ...     print(events.result.output)
        """
        run = Run(self._plan, self.model, prompt, history=history, deps=deps, emit=None)  # may refuse to run
        return watch(run, self._plan.output)


def _check_room(thinking: Reasoning, limits: Limits) -> None:
    """A thought may not take all that a turn may have.

    Raises:
        ConfigurationError: No answer would fit behind it.
    """
    if thinking.max_tokens is not None and limits.turn_tokens is not None and thinking.max_tokens >= limits.turn_tokens:
        raise ConfigurationError(
            f"Reasoning(max_tokens={thinking.max_tokens!r}) leaves no room for an answer in "
            f"Limits(turn_tokens={limits.turn_tokens!r})",
            hint="raise turn_tokens above max_tokens, or lower max_tokens",
        )


def _worked(example: Example, tools: Sequence[Tool], output: Output[Any]) -> Sequence[Message]:
    """An example as messages: checked, and spelled as the grammar lets the model spell it.

    Raises:
        ConfigurationError: It shows the model something that it could not do itself.
    """
    from hermes_agent.formats.schema import in_schema_order

    known = {tool.name: tool for tool in tools}
    hint = "worked examples must be what the model is to write itself"
    calls: list[tuple[str, Mapping[str, Any], str]] = []
    for name, arguments, result in example.calls:
        if name not in known:
            raise ConfigurationError(
                f"the example {example.question!r} calls {name!r}, which is not among the tools", hint=hint
            )
        try:
            known[name].validate(arguments)
        except ToolArgumentsError as error:
            raise ConfigurationError(f"the example {example.question!r} is wrong: {error}", hint=hint) from error
        calls.append((name, in_schema_order(arguments, known[name].parameters), result))
    answer = example.answer
    if answer and output.kind != "text":
        try:
            output.validate(answer)
        except OutputError as error:
            raise ConfigurationError(f"the example {example.question!r} is wrong: {error}", hint=hint) from error
        if output.schema is not None:
            answer = dump_json(in_schema_order(json.loads(answer), output.schema))
    return replace(example, calls=calls, answer=answer).messages()


def _one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ConfigurationError(f"{name}={value!r} is not known", hint=f"use one of {', '.join(map(repr, allowed))}")


def _refuse_inside_loop() -> None:
    import sniffio

    try:
        sniffio.current_async_library()
    except sniffio.AsyncLibraryNotFoundError:
        return
    raise ConfigurationError(
        "run_sync() was called where an event loop is running", hint="use `await agent.run(...)` here"
    )
