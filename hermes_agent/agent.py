"""What a user holds: a model, its tools, and the type of the answer."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypedDict, cast, overload

from typing_extensions import TypeForm, TypeVar, Unpack

from hermes_agent.agents import asking, new_run_id, transfer
from hermes_agent.blocking import waited_for
from hermes_agent.calls import OnToolError
from hermes_agent.context import DepsT
from hermes_agent.errors import ConfigurationError
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.hooks import Hooks
from hermes_agent.limits import Limits
from hermes_agent.log import RunLog, check_run_id
from hermes_agent.messages import Example, Message
from hermes_agent.models import resolve
from hermes_agent.models.base import Constrain, Model, ModelLike
from hermes_agent.output import JsonSchema, Output, Regex
from hermes_agent.pause import PausedRun
from hermes_agent.plan import OnLimit, Plan
from hermes_agent.reasoning import Mode, Reasoning
from hermes_agent.run import Run, RunResult
from hermes_agent.sampling import Sampling
from hermes_agent.settle import ToolLike, check_list, settle
from hermes_agent.stream import RunStream, watch
from hermes_agent.tool import Tool
from hermes_agent.validators import OutputValidator

if TYPE_CHECKING:
    from hermes_agent.history import HistoryPolicy
    from hermes_agent.journal import Journal

__all__ = ["Agent", "RunStream"]

OutputT = TypeVar("OutputT", default=str)
T = TypeVar("T")
AnyDepsT = TypeVar("AnyDepsT")
AnyOutputT = TypeVar("AnyOutputT")

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
    on_limit: OnLimit
    name: str
    description: str
    validators: Iterable[OutputValidator]
    hooks: Iterable[Hooks[Any]]
    sequential: bool
    handoffs: Iterable[Agent[Any, Any]]
    journal: Journal | None
    history_policy: HistoryPolicy | None


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
        on_limit: ``"raise"`` ends a run that has come to a limit with `LimitExceededError`; ``"answer"`` has it write
            one last turn, which must answer. Of ``steps`` one is kept for that; tokens may go beyond by that turn.
        name: What the agent is called in traces, and by agents that hand over to it.
        description: What it is for, shown to models that may hand over to it or ask it.
        validators: Functions that check the answer, one after the other: they take it, behind a `RunContext` if the
            first parameter is annotated as one, and return it, changed or not. `Retry` and ``ValueError`` tell the
            model what is wrong.
        hooks: `hermes_agent.hooks.Hooks`, the first outermost.
        sequential: Run the calls of a turn one after the other.
        handoffs: Agents that the model may hand the conversation over to; their answers are of the same type.
        journal: A `hermes_agent.journal.Journal` that each step is written to before the next, for `resume`.
        history_policy: Chooses what the model is shown of a long conversation; see `hermes_agent.history`.

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
        on_limit: OnLimit = "raise",
        name: str = "agent",
        description: str = "",
        validators: Iterable[OutputValidator] = (),
        hooks: Iterable[Hooks[Any]] = (),
        sequential: bool = False,
        handoffs: Iterable[Agent[Any, Any]] = (),
        journal: Journal | None = None,
        history_policy: HistoryPolicy | None = None,
    ) -> None:
        if journal is not None and not hasattr(journal, "append"):
            raise ConfigurationError(f"journal={journal!r} is not a Journal", hint="pass journal=Journal(path)")
        answer = Output.of(output)
        others = _distinct(handoffs, answer)
        self._model, self._journal, self._description = model, journal, description
        self._plan = settle(
            tools=tools,
            transfers=[transfer(agent.name, agent.description) for agent in others],
            output=answer,
            instructions=instructions,
            examples=examples,
            tool_choice=tool_choice,
            parallel=parallel,
            reasoning=Reasoning.of(reasoning),
            sampling=sampling,
            limits=limits,
            constrain=constrain,
            on_tool_error=on_tool_error,
            on_limit=on_limit,
            name=name,
            validators=validators,
            hooks=hooks,
            sequential=sequential,
            history_policy=history_policy,
            hand_offs={agent.name: agent.party for agent in others},
        )

    @property
    def name(self) -> str:
        """What the agent is called."""
        return self._plan.name

    @property
    def model(self) -> Model:
        """The model that runs use; named models are looked up on first use."""
        if (instead := _overrides.get().get(id(self))) is not None:
            return resolve(instead)
        self._model = resolve(self._model)
        return self._model

    @contextmanager
    def override(self, *, model: ModelLike) -> Generator[None]:
        """Use another model in this block, as tests do; elsewhere, such as in other tasks, nothing changes.

        Example:
            >>> from hermes_agent import Agent
            >>> from hermes_agent.testing import ScriptedModel
            >>> agent = Agent("hf:NousResearch/Hermes-4-14B")
            >>> with agent.override(model=ScriptedModel(["Hello."])):
            ...     agent.run_sync("Hi").output
            'Hello.'
        """
        token = _overrides.set({**_overrides.get(), id(self): resolve(model)})
        try:
            yield
        finally:
            _overrides.reset(token)

    def party(self) -> tuple[Plan, Model]:
        """What a run needs to go on as this agent."""
        return self._plan, self.model

    @property
    def description(self) -> str:
        """What it is for, as models are told."""
        return self._description

    def as_tool(self, *, name: str | None = None, description: str | None = None) -> Tool:
        """A tool that asks this agent, in a conversation of its own.

        What it uses counts for the run around it, whose ``deps`` it is given; a call of its own that needs somebody's
        word pauses that run. It has its own limits, and no time limit as a tool.

        Args:
            name: Instead of the agent's name.
            description: Instead of the agent's description.
        """
        described = self._description if description is None else description
        return asking(self.party, name=self.name if name is None else name, description=described)

    @classmethod
    def router(
        cls: type[Agent[Any, Any]],
        agents: Iterable[Agent[AnyDepsT, AnyOutputT]],
        model: ModelLike | None = None,
        *,
        instructions: str | None = "Hand the conversation over to the agent that can help.",
        name: str = "router",
    ) -> Agent[AnyDepsT, AnyOutputT]:
        """An agent whose only turn chooses which of several others goes on with the conversation.

        Args:
            agents: The others, whose ``name`` and ``description`` the model is shown.
            model: Chooses; a small one will do.
            instructions: What it is told.
            name: What the router is called in traces.

        Raises:
            ConfigurationError: There is none, two have the same name, or their answers are of different types.
        """
        others = list(agents)
        if not others:
            raise ConfigurationError("a router has nobody to hand over to", hint="pass at least one agent")
        make = cast("Callable[..., Agent[Any, Any]]", cls)
        return make(
            model,
            output=others[0].output,
            instructions=instructions,
            name=name,
            handoffs=others,
            tool_choice="required",
            parallel=False,
        )

    @property
    def output(self) -> Output[Any]:
        """What it answers with."""
        return self._plan.output

    @property
    def grammar(self) -> TurnGrammar:
        """What the first turn of a run may be; its ``warnings`` say what only validation holds."""
        return self._plan.grammar

    async def run(
        self, prompt: str, *, history: Sequence[Message] = (), deps: DepsT | None = None, run_id: str | None = None
    ) -> RunResult[OutputT]:
        """Ask, and wait for the validated answer.

        Args:
            prompt: What the user says.
            history: Earlier messages, such as ``result.messages`` of another run.
            deps: Handed to tools that take a `RunContext`.
            run_id: What the run is called in the journal and in traces; by default something new.

        Raises:
            RunError: There is no valid answer, or a limit was reached; the error carries the conversation.
            RunPaused: Calls wait for somebody's word.
            ModelError: The model could not write.
        """
        return await self._new_run(prompt, history, deps, run_id).go()

    def run_sync(
        self, prompt: str, *, history: Sequence[Message] = (), deps: DepsT | None = None, run_id: str | None = None
    ) -> RunResult[OutputT]:
        """`run`, for code that is not async. Arguments and errors are the same.

        Raises:
            ConfigurationError: Called where an event loop runs already, such as a notebook.
        """
        run = partial(self.run, prompt, history=history, deps=deps, run_id=run_id)
        return waited_for(run, called="run_sync()", instead="agent.run(...)")

    def stream(
        self, prompt: str, *, history: Sequence[Message] = (), deps: DepsT | None = None, run_id: str | None = None
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
        return watch(self._new_run(prompt, history, deps, run_id), self._plan.output)

    async def resume(self, run: PausedRun | str, *, deps: DepsT | None = None) -> RunResult[OutputT]:
        """Go on with a run that was paused, or whose process ended: nothing that is recorded is done again.

        A call that was cut off is run again if its tool is ``idempotent``; any other pauses the run with
        ``reason="interrupted"``, since nobody knows how far it came. A run that has ended gives its result once more.

        Args:
            run: What `RunPaused` carried, its pending calls settled; or the id of a run in the agent's journal.
            deps: As in `run`; they are not recorded.

        Raises:
            ConfigurationError: The agent has no journal to find a run id in.
            JournalError: There is no such run, or another process goes on with it.
            RunError: As in `run`.
            RunPaused: Calls wait for somebody's word still, or again.
            ModelError: The model could not write.
        """
        return await (await self._old_run(run, deps)).go()

    def resume_sync(self, run: PausedRun | str, *, deps: DepsT | None = None) -> RunResult[OutputT]:
        """`resume`, for code that is not async. Arguments and errors are the same."""
        going_on = partial(self.resume, run, deps=deps)
        return waited_for(going_on, called="resume_sync()", instead="agent.resume(...)")

    @asynccontextmanager
    async def resume_stream(
        self, run: PausedRun | str, *, deps: DepsT | None = None
    ) -> AsyncGenerator[RunStream[OutputT]]:
        """`resume`, watched like `stream`: events begin where the records end."""
        async with watch(await self._old_run(run, deps), self._plan.output) as events:
            yield events

    def _new_run(self, prompt: str, history: Sequence[Message], deps: DepsT | None, run_id: str | None) -> Run:
        if run_id is not None:
            check_run_id(run_id)
        log = RunLog(new_run_id() if run_id is None else run_id, {}, self._journal)
        return Run(self._plan, self.model, prompt, history=history, deps=deps, log=log)

    async def _old_run(self, run: PausedRun | str, deps: DepsT | None) -> Run:
        if isinstance(run, str):
            if self._journal is None:
                raise ConfigurationError(
                    f"there is no journal to find run {run!r} in", hint="give the agent journal=Journal(path)"
                )
            run = PausedRun.load(self._journal, run)
        elif self._journal is not None:
            await run.store(self._journal)
        log = RunLog(run.run_id, {name: list(records) for name, records in run.runs.items()}, self._journal)
        if log.began is None:
            raise ConfigurationError(f"run {run.run_id!r} has no beginning", hint="resume what was saved, whole")
        return Run(self._plan, self.model, log.began.prompt, history=log.began.history, deps=deps, log=log)


_overrides: ContextVar[Mapping[int, Model]] = ContextVar("hermes_agent models of agents", default={})  # noqa: B039


def _distinct(agents: Iterable[Agent[Any, Any]], output: Output[Any]) -> Sequence[Agent[Any, Any]]:
    """Agents that can be handed over to.

    Raises:
        ConfigurationError: Two have the same name, or one answers with another type.
    """
    check_list("handoffs", agents)
    given = list(agents)
    names = [agent.name for agent in given]
    for agent in given:
        if names.count(agent.name) > 1:
            raise ConfigurationError(
                f"two agents to hand over to are called {agent.name!r}", hint="give each a name= of its own"
            )
        theirs = agent.output
        if theirs != output:
            raise ConfigurationError(
                f"agent {agent.name!r} answers with {theirs.name!r}, not with {output.name!r}",
                hint="give agents that hand over to each other the same output=",
            )
    return given
