"""The loop: a turn of the model, its calls, their results, the next turn, until there is a validated answer.

Whatever happens is told to ``emit``; a blocking run passes none. The conversation only grows, nothing in it
is copied or read again, so a turn costs the same at any length of history.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, cast

import anyio
from typing_extensions import TypeVar

from hermes_agent.calls import Outcome, fault_feedback, no_result, refuse_behind_fault, run_calls
from hermes_agent.context import Retry, RunContext
from hermes_agent.errors import (
    ConfigurationError,
    GuaranteeError,
    HermesError,
    InvalidOutputError,
    InvalidTurnError,
    LimitExceededError,
    RunError,
    ToolFailedError,
)
from hermes_agent.events import Event, Final, StepFinished, StepStarted, ToolFinished, ToolStarted
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.generation import Emit, generate_turn
from hermes_agent.limits import Usage
from hermes_agent.messages import (
    AssistantMessage,
    Conversation,
    Message,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from hermes_agent.models.base import FinishReason, Guarantee, Model, Request, weakest
from hermes_agent.output import OutputError
from hermes_agent.plan import Plan
from hermes_agent.turn import CallPart, Fault, Thinking, Turn

__all__ = ["Report", "Run", "RunResult"]

OutputT_co = TypeVar("OutputT_co", covariant=True, default=str)

Report = Callable[[ToolCall, str, float | None, float | None], None]
"""Takes what a tool says of its progress, from any thread: the call, a message, how much is done, and of what."""


@dataclass(frozen=True)
class RunResult(Generic[OutputT_co]):
    """What a run came to.

    Attributes:
        output: The validated answer.
        messages: The whole conversation, earlier history included; pass it on as ``history=``.
        usage: Tokens and rounds of this run.
        guarantee: The weakest enforcement any turn of the run had.
        turns: Every model turn as read, rejected ones included.
    """

    output: OutputT_co
    messages: Conversation
    usage: Usage
    guarantee: Guarantee
    turns: tuple[Turn, ...]

    @property
    def reasoning(self) -> str | None:
        """The thought behind the answer; ``None`` when the last turn had no thinking block."""
        return self.turns[-1].reasoning

    @property
    def thinking(self) -> Thinking:
        """What became of that thought: whether it ended by itself, by its budget, too late or never began."""
        return self.turns[-1].thinking


class Run:
    """The state of one run; made, awaited once with `go`, thrown away."""

    def __init__(
        self, plan: Plan, model: Model, prompt: str, *, history: Sequence[Message], deps: Any, emit: Emit | None
    ) -> None:
        self.plan, self.model, self.deps, self.emit = plan, model, deps, emit
        self.report: Report | None = None
        if not isinstance(cast("object", prompt), str):
            raise ConfigurationError(f"the prompt is {prompt!r}, which is not a str", hint="pass what the user says")
        for item in cast("Sequence[object]", history):
            if not isinstance(item, Message):
                raise ConfigurationError(
                    f"history holds {item!r}, which is not a message",
                    hint="pass result.messages, a Conversation, or messages of hermes_agent.messages",
                )
        self.messages = Conversation([*history, UserMessage(prompt)])
        # The opening is not part of the result: it belongs to the agent, and the next agent has its own.
        self._shown = Conversation([*plan.before(history), UserMessage(prompt)])
        self._usage = Usage()
        self._turns: list[Turn] = []
        self._attempts: list[str] = []
        self._corrections = 0
        self._answered_calls = False
        self._inline_calls = self._step = 0
        self._guarantee: Guarantee = "checked"

    async def go(self) -> RunResult[Any]:
        """Run to the end.

        Raises:
            RunError: No answer; the error carries the conversation so far.
            ModelError: The model could not write.
        """
        try:
            with anyio.move_on_after(self.plan.limits.seconds):
                self._guarantee = await self._promised()
                return await self._loop()
        except HermesError as error:
            self._close_calls()
            error.messages = error.messages or self.messages
            error.attempts = error.attempts or tuple(self._attempts)
            raise
        self._close_calls()
        raise self._error(
            LimitExceededError, f"the run took more than seconds={self.plan.limits.seconds!r}", "raise the limit"
        )

    async def _loop(self) -> RunResult[Any]:
        while True:
            turn, finish = await self._write_turn()
            if turn.tool_calls or turn.faults:
                await self._answer(turn, finish)
            elif (done := self._accept(turn, finish)) is not None:
                await self._tell(Final(done.output))
                return done

    async def _write_turn(self) -> tuple[Turn, FinishReason]:
        self._step = step = self._usage.steps + 1
        limits = self.plan.limits
        if limits.steps is not None and step > limits.steps:
            raise self._error(
                LimitExceededError, f"no answer after steps={limits.steps!r} model turns", "raise Limits(steps=…)"
            )
        await self._tell(StepStarted(step))
        self._inline_calls = 0
        request = self._request()
        try:
            made = await generate_turn(
                self.model, request, emit=self.emit, answer_inline=self._answer_inline, grammar=self._grammar
            )
        except HermesError as error:
            self._keep_unfinished(error.raw)
            raise
        self._turns.append(made.turn)
        self._usage += made.usage
        if made.guarantee is not None:
            self._weaken(made.guarantee)
        await self._tell(StepFinished(step, made.turn, made.usage))
        return made.turn, made.finish

    def _keep_unfinished(self, raw: str) -> None:
        """Put a turn into the conversation that broke off behind calls that were run inside its thought."""
        if self._inline_calls:
            thought, _, text = raw.partition(self.model.dialect.think_close)
            thought = thought.partition(self.model.dialect.think_open)[2]
            self._append(AssistantMessage(text.strip(), thought.strip("\n"), raw=raw))

    def _grammar(self) -> TurnGrammar | None:
        return self.plan.turn_grammar(forced=not self._answered_calls)

    def _request(self) -> Request:
        left = self.plan.limits.output_tokens
        if left is not None:
            left -= self._usage.output_tokens
            if left <= 0:
                raise self._error(
                    LimitExceededError,
                    f"output_tokens={self.plan.limits.output_tokens!r} are used up",
                    "raise Limits(output_tokens=…)",
                )
        return self.plan.request(self._shown, left=left, forced=not self._answered_calls)

    async def _answer(self, turn: Turn, finish: FinishReason) -> None:
        """Run the calls of a turn, and answer each call and each fault in the order they stand."""
        at = len(self.messages)
        calls = [replace(call, id=f"call_{at}_{i}") for i, call in enumerate(turn.tool_calls)]
        broken = any(fault.kind != "unknown_tool" for fault in turn.faults)
        self._append(
            AssistantMessage(turn.text, turn.reasoning, tuple(calls), raw=turn.raw if broken else ""),
        )
        self._check_calls(calls)
        # What follows a call that could not be read may be the inside of its strings: other people's text.
        sound = _calls_before_faults(turn)
        outcomes = await self._run_calls(calls[:sound])
        for outcome in map(refuse_behind_fault, calls[sound:]):
            outcomes.append(outcome)
            if self.emit is not None:
                await self._tell_call(outcome)
        answers = iter(outcomes)
        for part in turn.parts:
            if isinstance(part, CallPart):
                self._append(next(answers).message)
            elif isinstance(part, Fault) and part.kind != "unknown_tool":
                self._append(fault_feedback(part, cut_off=finish == "length"))
        self._raise_failures(outcomes)
        if broken or any(outcome.invalid for outcome in outcomes):
            self._correct(InvalidTurnError, turn, finish, "the model kept making calls that cannot be run")
        else:
            self._corrections = 0

    def _check_calls(self, calls: Sequence[ToolCall]) -> None:
        """Whether calls may be run at all.

        Raises:
            LimitExceededError: There were too many.
            ConfigurationError: One of them is known by its schema only.
        """
        limit = self.plan.limits.tool_calls
        if limit is not None and self._usage.tool_calls + len(calls) > limit:
            raise self._error(LimitExceededError, f"more than tool_calls={limit!r} calls", "raise Limits(tool_calls=…)")
        for call in calls:
            if (tool := self.plan.tools.get(call.name)) is not None and tool.function is None:
                raise ConfigurationError(
                    f"tool {call.name!r} has only a schema and cannot be run here", hint="give Tool.from_schema(call=…)"
                )

    async def _answer_inline(self, found: Sequence[ToolCall | Fault]) -> Sequence[ToolMessage]:
        """Run calls that stand inside the thinking; their results, in order."""
        at = f"{len(self.messages)}_{self._inline_calls}"
        self._inline_calls += 1
        calls = [replace(item, id=f"call_{at}_{i}") for i, item in enumerate(found) if isinstance(item, ToolCall)]
        self._check_calls(calls)
        outcomes = await self._run_calls(calls)
        self._raise_failures(outcomes)
        wrong = len(calls) < len(found) or any(outcome.invalid for outcome in outcomes)
        self._corrections = self._corrections + 1 if wrong else 0
        if self._corrections > self.plan.limits.corrections:
            raise self._error(
                InvalidTurnError,
                "the model kept making calls that cannot be run inside its thinking "
                f"(corrections={self.plan.limits.corrections!r} were used up)",
                "look at .raw; a larger model or worked examples= help, or Reasoning(calls='ignore')",
            )
        answers = iter(outcomes)
        return [next(answers).message if isinstance(item, ToolCall) else fault_feedback(item) for item in found]

    async def _run_calls(self, calls: Sequence[ToolCall]) -> list[Outcome]:
        if not calls:
            return []
        outcomes = await run_calls(
            calls,
            tools=self.plan.tools,
            limits=self.plan.limits,
            context_for=self._context,
            told=None if self.emit is None else self._tell_call,
        )
        self._usage += Usage(tool_calls=sum(outcome.ran for outcome in outcomes))
        self._answered_calls = self._answered_calls or any(not outcome.invalid for outcome in outcomes)
        return outcomes

    def _context(self, call: ToolCall) -> RunContext[Any]:
        return RunContext(
            deps=self.deps,
            usage=self._usage,
            step=self._step,
            messages=self.messages,
            call_id=call.id,
            _report=None if self.report is None else partial(self.report, call),
        )

    def _raise_failures(self, outcomes: Sequence[Outcome]) -> None:
        if self.plan.on_tool_error != "raise":
            return
        for outcome in outcomes:
            if outcome.error is not None:
                raise ToolFailedError(
                    f"tool {outcome.call.name!r} raised {outcome.error!r}",
                    hint='mend the tool, or use on_tool_error="feedback" to tell the model instead',
                    messages=self.messages,
                ) from outcome.error

    def _accept(self, turn: Turn, finish: FinishReason) -> RunResult[Any] | None:
        """The result if the turn is a valid answer; else ``None``, with the correction appended."""
        if finish == "length" and self.plan.output.kind == "text" and turn.text.strip():
            self._append(AssistantMessage(turn.text, turn.reasoning))
            raise self._error(
                LimitExceededError,
                f"the answer was cut off after {self._usage.output_tokens} tokens",
                "raise Limits(turn_tokens=…) or the model's context; the text so far is on .raw",
                raw=turn.text,
            )
        try:
            if finish == "length":  # what was cut may still look like an answer: "12" of 1200
                raise OutputError(["it was cut off before its end, because it was too long"])
            output = self.plan.output.validate(turn.text)
        except (OutputError, Retry) as error:
            self._append(AssistantMessage(turn.text, turn.reasoning))
            self._append(ToolMessage(f"{error}\nPlease answer again.", is_error=True))
            self._correct(InvalidOutputError, turn, finish, f"the answer kept failing validation; last: {error}")
            return None
        except Exception as error:
            raise self._error(
                InvalidOutputError,
                f"a validator of the output raised {error!r}",
                "a validator says no with ValueError, or with Retry to tell the model what to do",
                raw=turn.text,
            ) from error
        self._append(AssistantMessage(turn.text, turn.reasoning))
        return RunResult(output, self.messages, self._usage, self._guarantee, tuple(self._turns))

    def _correct(self, kind: type[RunError], turn: Turn, finish: FinishReason, message: str) -> None:
        self._attempts.append(turn.raw)
        self._corrections += 1
        if self._corrections > self.plan.limits.corrections:
            if finish == "length":
                raise self._error(
                    LimitExceededError,
                    f"the model's turns were cut off before their end (turn_tokens={self.plan.limits.turn_tokens!r})",
                    "raise Limits(turn_tokens=…), or ask for less in one turn",
                    raw=turn.raw,
                )
            raise self._error(
                kind,
                f"{message} (corrections={self.plan.limits.corrections!r} were used up)",
                "look at .attempts; a larger model, worked examples= or constrain='auto' help",
                raw=turn.raw,
            )

    def _close_calls(self) -> None:
        """Give a result to each call of the last turn that has none, so that the conversation can go on."""
        answered: set[str] = set()
        for message in reversed(self.messages):
            if isinstance(message, AssistantMessage):
                for call in message.tool_calls:
                    if call.id not in answered:
                        self._append(no_result(call))
            if not isinstance(message, ToolMessage):
                return
            answered.add(message.call_id)

    def _append(self, message: Message) -> None:
        self.messages.append(message)
        self._shown.append(message)

    async def _promised(self) -> Guarantee:
        """The weakest enforcement of the turns to come, as far as the model can promise it.

        Raises:
            GuaranteeError: ``constrain="strict"`` asks for more.
        """
        if self.plan.constrain == "off":
            return "checked"
        strict = self.plan.constrain == "strict"
        grammars = {self.plan.grammar, self.plan.later_grammar}
        return weakest([await self.model.guarantee(grammar, prove=strict) for grammar in grammars])

    def _weaken(self, guarantee: Guarantee) -> None:
        """Note what a turn was held to.

        Raises:
            GuaranteeError: ``constrain="strict"``, and the turn was less than enforced.
        """
        self._guarantee = weakest([self._guarantee, guarantee])
        if self._guarantee == "checked" and self.plan.constrain == "strict":
            raise GuaranteeError(
                f"constrain='strict', but model {self.model.name!r} wrote a turn without enforcing it",
                hint="use constrain='auto' to have such turns validated afterwards only",
            )

    def _error(self, kind: type[RunError], message: str, hint: str, *, raw: str = "") -> RunError:
        return kind(message, hint=hint, raw=raw, messages=self.messages, attempts=self._attempts)

    async def _tell(self, event: Event) -> None:
        if self.emit is not None:
            await self.emit(event)

    async def _tell_call(self, news: ToolCall | Outcome) -> None:
        if isinstance(news, Outcome):
            await self._tell(ToolFinished(news.call, news.message, news.seconds))
        else:
            await self._tell(ToolStarted(news))


def _calls_before_faults(turn: Turn) -> int:
    """How many calls stand before the first thing that could not be read."""
    count = 0
    for part in turn.parts:
        if isinstance(part, CallPart):
            count += 1
        elif isinstance(part, Fault) and part.kind != "unknown_tool":
            break
    return count
