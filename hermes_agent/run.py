"""The loop: a turn of the model, its calls, their results, the next turn, until there is a validated answer.

Whatever happens is told to ``emit``; a blocking run passes none. The conversation only grows, nothing in it
is copied or read again, so a turn costs the same at any length of history. What happens is recorded, too, and a run
that finds records of itself goes through them instead of asking the model and running tools again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, cast

import anyio
from typing_extensions import TypeVar

from hermes_agent.budget import Budget, Reached
from hermes_agent.calls import Calls, Outcome, fault_feedback, no_result, refuse, refuse_behind_fault
from hermes_agent.context import Inside, Retry, RunContext
from hermes_agent.errors import (
    ConfigurationError,
    GuaranteeError,
    HermesError,
    HookError,
    InvalidOutputError,
    InvalidTurnError,
    LimitExceededError,
    RunError,
    RunPaused,
    ToolFailedError,
)
from hermes_agent.events import Event, Final, StepFinished, StepStarted, ToolFinished, ToolStarted
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.generation import Emit, generate_turn
from hermes_agent.limits import Usage
from hermes_agent.log import RunLog
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
from hermes_agent.pause import PausedRun
from hermes_agent.plan import Plan
from hermes_agent.record import (
    AnswerRejected,
    CallEnded,
    HistoryShortened,
    PartWritten,
    PendingCall,
    Record,
    RunBegan,
    RunEnded,
    RunWaited,
    TurnBegan,
    TurnWritten,
)
from hermes_agent.turn import CallPart, Fault, Thinking, Turn

if TYPE_CHECKING:
    from hermes_agent.trace import Trace

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
        usage: Tokens and rounds of this run, those of agents inside of it included.
        guarantee: The weakest enforcement any turn of the run had.
        turns: Every model turn as read, rejected ones included.
        limit: The limit that the run had come to, so that its last turn had to answer (``on_limit="answer"``);
            else ``None``.
        run_id: The run.
        records: What was recorded, by run id: that of an agent inside of a tool is ``<run id>/<call id>``.
    """

    output: OutputT_co
    messages: Conversation
    usage: Usage
    guarantee: Guarantee
    turns: tuple[Turn, ...]
    limit: str | None = None
    run_id: str = field(default="", compare=False)
    records: Mapping[str, Sequence[Record]] = field(
        default_factory=dict[str, Sequence[Record]], repr=False, compare=False
    )

    @property
    def reasoning(self) -> str | None:
        """The thought behind the answer; ``None`` when the last turn had no thinking block."""
        return self.turns[-1].reasoning

    @property
    def thinking(self) -> Thinking:
        """What became of that thought: whether it ended by itself, by its budget, too late or never began."""
        return self.turns[-1].thinking

    def trace(self) -> Trace:
        """The run step by step, with times; ``print`` it, ``save`` it, or make a page of it."""
        from hermes_agent.trace import Trace

        return Trace.of(self.run_id, self.records)


class Run:
    """The state of one run; made, awaited once with `go`, thrown away."""

    def __init__(
        self, plan: Plan, model: Model, prompt: str, *, history: Sequence[Message], deps: Any, log: RunLog
    ) -> None:
        self.plan, self.model, self.deps, self.log = plan, model, deps, log
        self.emit: Emit | None = None
        self.report: Report | None = None
        if not isinstance(cast("object", prompt), str):
            raise ConfigurationError(f"the prompt is {prompt!r}, which is not a str", hint="pass what the user says")
        for item in cast("Sequence[object]", history):
            if not isinstance(item, Message):
                raise ConfigurationError(
                    f"history holds {item!r}, which is not a message",
                    hint="pass result.messages, a Conversation, or messages of hermes_agent.messages",
                )
        self.prompt = prompt
        self.messages = Conversation([*history, UserMessage(prompt)])
        # The opening is not part of the result: it belongs to the agent, and the next agent has its own.
        self._shown = Conversation([*plan.before(history), UserMessage(prompt)])
        self._visible = list(self.messages) if plan.history_policy is not None else None
        self._budget = Budget(plan.limits)
        self._calls = self._calls_of(plan)
        self._usage = Usage()
        self._size = sum(map(len, map(str, history))) // 4
        self._turns: list[Turn] = []
        self._attempts: list[str] = []
        self._corrections = 0
        self._gone_wrong: Counter[str] = Counter()
        self._answered_calls = False
        self._inline_calls = self._step = 0
        self._guarantee: Guarantee = "checked"
        self._grammar_told: TurnGrammar | None = None
        self._last: Reached | None = None

    @property
    def usage(self) -> Usage:
        """What was used so far."""
        return self._usage

    async def go(self) -> RunResult[Any]:
        """Run to the end.

        Raises:
            RunError: No answer; the error carries the conversation so far.
            RunPaused: Somebody's word is needed.
            ModelError: The model could not write.
        """
        try:
            if not self.plan.hooks:
                return await self._go()
            return await self._hooked()
        except RunPaused:
            raise
        except HermesError as error:
            self._close_calls()
            error.messages = error.messages or self.messages
            error.attempts = error.attempts or tuple(self._attempts)
            if isinstance(error, RunError):
                error.run_id, error.records = self.log.run_id, self.log.runs
            await self._write_end(RunEnded(error=f"{type(error).__name__}: {error.message}", at=time.time()), error)
            raise

    async def _write_end(self, record: RunEnded, error: HermesError) -> None:
        if not self.log.records:  # it failed before it began
            return
        try:
            await self.log.write(record)
        except HermesError as lost:  # such as a full disk, which may be what ended the run
            error.add_note(f"nor could the end of the run be recorded: {lost.message}")

    async def _hooked(self) -> RunResult[Any]:
        proceed: Callable[[], Awaitable[RunResult[Any]]] = self._go
        context = self.context()
        for hook in reversed(self.plan.hooks):
            proceed = partial(hook.around_run, context, proceed)
        try:
            return await proceed()
        except (HermesError, ExceptionGroup):
            raise
        except Exception as error:
            raise self._error(HookError, f"a hook around the run raised {error!r}", "mend the hook") from error

    async def _go(self) -> RunResult[Any]:
        if self.log.answer is None:
            self._guarantee = await self._promised()
        elif self.log.began is not None:  # all of it is in the records: the model is not even asked what it can do
            self._guarantee = cast("Guarantee", self.log.began.guarantee)
        if self.log.began is None:
            began = RunBegan(
                self.prompt, tuple(self.messages[:-1]), self.plan.name, self.model.name, self._guarantee, time.time()
            )
            await self.log.write(began)
        with anyio.move_on_after(self.plan.limits.seconds):
            return await self._loop()
        self._close_calls()
        self._reach(
            Reached(f"the run took more than seconds={self.plan.limits.seconds!r}", "raise the limit"), "Time is up"
        )
        return await self._loop()

    async def _loop(self) -> RunResult[Any]:
        while True:
            written, rejection = await self._turn()
            turn, finish = written.turn, written.finish
            if rejection is not None:
                self._reject(turn, finish, rejection)
            elif self._last is not None and (turn.tool_calls or turn.faults):
                raise self._limit_error(self._last, raw=turn.raw)
            elif turn.tool_calls or turn.faults:
                await self._answer(turn, finish)
            elif (done := await self._accept(turn, finish)) is not None:
                if self.log.answer is None:
                    await self.log.write(RunEnded(turn.text, at=time.time()))
                await self._tell(Final(done.output))
                return done

    # -- a turn ------------------------------------------------------------------------------------------------------

    async def _turn(self) -> tuple[TurnWritten, str | None]:
        """The next turn, and why a hook or an earlier process does not accept it, if so."""
        # A rejected answer of the last turn has no turn left to be corrected in.
        if (reached := self._budget.before_turn(self._usage, reserve=self._reserve)) is not None:
            if self._last is not None:
                raise self._limit_error(self._last)
            self._reach(reached, "This is your last turn")
        self._step = step = self._usage.steps + 1
        self._inline_calls = 0
        if self.plan.history_policy is not None:
            await self._shorten(step)
        rejection = None
        if (written := self.log.turns.get(step)) is None:
            written, rejection = await self._write_turn(step)
        elif (rejected := self.log.rejections.get(step)) is not None:
            rejection = rejected.text
        self._turns.append(written.turn)
        self._usage += written.usage
        self._budget.prompt_tokens = written.usage.input_tokens
        self._size = written.usage.input_tokens + written.usage.output_tokens
        if written.guarantee:
            self._weaken(cast("Guarantee", written.guarantee))
        return written, rejection

    @property
    def _reserve(self) -> bool:
        return self.plan.on_limit == "answer" and self._last is None

    async def _write_turn(self, step: int) -> tuple[TurnWritten, str | None]:
        await self.log.write(TurnBegan(step, self.plan.name, self.model.name, self._grammar_text(), time.time()))
        await self._tell(StepStarted(step))
        self._written: TurnWritten | None = None
        proceed: Callable[[Request], Awaitable[TurnWritten]] = self._generate
        rejection = None
        if self.plan.hooks:
            context = self.context()
            for hook in reversed(self.plan.hooks):
                proceed = partial(hook.around_turn, context, proceed=proceed)
        try:
            written = await proceed(self._request())
        except Retry as retry:
            if self._written is None:
                raise self._error(HookError, "a hook raised Retry before there was a turn", "call proceed()") from retry
            written, rejection = self._written, str(retry)
        except HermesError as error:
            self._keep_unfinished(error.raw)
            raise
        except Exception as error:
            if not self.plan.hooks:
                raise
            raise self._error(HookError, f"a hook around a turn raised {error!r}", "mend the hook") from error
        await self.log.write(written)
        if rejection is not None:
            await self.log.write(AnswerRejected(step, rejection, time.time()))
        await self._tell(StepFinished(step, written.turn, written.usage))
        return written, rejection

    async def _generate(self, request: Request) -> TurnWritten:
        made = await generate_turn(
            self.model,
            request,
            emit=self.emit,
            answer_inline=self._answer_inline,
            grammar=self._grammar,
            earlier=self.log.parts.get(self._step, ()),
        )
        self._written = TurnWritten(self._step, made.turn, made.finish, made.usage, made.guarantee or "", time.time())
        return self._written

    def _keep_unfinished(self, raw: str) -> None:
        """Put a turn into the conversation that broke off behind calls that were run inside its thought."""
        if self._inline_calls:
            thought, _, text = raw.partition(self.model.dialect.think_close)
            thought = thought.partition(self.model.dialect.think_open)[2]
            self._append(AssistantMessage(text.strip(), thought.strip("\n"), raw=raw))

    def _grammar(self) -> TurnGrammar | None:
        return self.plan.turn_grammar(forced=not self._answered_calls, last=self._last is not None)

    def _grammar_text(self) -> str:
        """The grammar as text, where it is another than that of the turn before."""
        grammar = self._grammar()
        if grammar is self._grammar_told:
            return ""
        self._grammar_told = grammar
        return "" if grammar is None else grammar.lark()

    def _request(self) -> Request:
        return self.plan.request(
            self._shown,
            tokens=None if self._last is not None else self._budget.tokens_left(self._usage),
            thinking=self._budget.thinking_left(self._usage),
            forced=not self._answered_calls,
            last=self._last is not None,
        )

    async def _shorten(self, step: int) -> None:
        """Let the history policy choose what the model is shown from here on."""
        policy, visible = self.plan.history_policy, self._visible
        assert policy is not None
        assert visible is not None
        if (known := self.log.shortened.get(step)) is None:
            if self.log.turns.get(step) is not None:
                return
            shortened = await policy.shorten(tuple(visible), self._size)
            if shortened is None:
                return
            known = HistoryShortened(step, shortened.messages, shortened.usage, time.time())
            await self.log.write(known)
        self._usage += known.usage
        self._visible = list(known.shown)
        self._shown = Conversation(self.plan.before(known.shown))

    # -- calls -------------------------------------------------------------------------------------------------------

    async def _answer(self, turn: Turn, finish: FinishReason) -> None:
        """Run the calls of a turn, and answer each call and each fault in the order they stand."""
        at = len(self.messages)
        calls = [replace(call, id=f"call_{at}_{i}") for i, call in enumerate(turn.tool_calls)]
        broken = any(fault.kind != "unknown_tool" for fault in turn.faults)
        self._append(
            AssistantMessage(turn.text, turn.reasoning, tuple(calls), raw=turn.raw if broken else ""),
        )
        if (reached := self._budget.before_calls(self._usage, calls)) is not None:
            self._reach(reached, "Not run")
            self._close_calls(f"Not run: {reached.message}.")
            return
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
                self._append(_ended(next(answers)).message)
            elif isinstance(part, Fault) and part.kind != "unknown_tool":
                self._append(fault_feedback(part, cut_off=finish == "length"))
        self._raise_failures(outcomes)
        if broken or any(_ended(outcome).invalid for outcome in outcomes):
            self._correct(InvalidTurnError, turn, finish, "the model kept making calls that cannot be run")
        else:
            self._corrections = 0
        self._hand_over(outcomes)

    async def _answer_inline(self, found: Sequence[ToolCall | Fault], part: PartWritten) -> Sequence[ToolMessage]:
        """Run calls that stand inside the thinking; their results, in order."""
        at = f"{len(self.messages)}_{self._inline_calls}"
        if self._inline_calls >= len(self.log.parts.get(self._step, ())):
            await self.log.write(replace(part, step=self._step, at=time.time()))
        self._inline_calls += 1
        calls = [replace(item, id=f"call_{at}_{i}") for i, item in enumerate(found) if isinstance(item, ToolCall)]
        if (reached := self._budget.before_calls(self._usage, calls)) is not None:
            raise self._limit_error(reached)
        outcomes = await self._run_calls(calls)
        self._raise_failures(outcomes)
        wrong = len(calls) < len(found) or any(_ended(outcome).invalid for outcome in outcomes)
        self._corrections = self._corrections + 1 if wrong else 0
        if self._corrections > self.plan.limits.corrections:
            raise self._error(
                InvalidTurnError,
                "the model kept making calls that cannot be run inside its thinking "
                f"(corrections={self.plan.limits.corrections!r} were used up)",
                "look at .raw; a larger model or worked examples= help, or Reasoning(calls='ignore')",
            )
        answers = iter(outcomes)
        return [_ended(next(answers)).message if isinstance(item, ToolCall) else fault_feedback(item) for item in found]

    async def _run_calls(self, calls: Sequence[ToolCall]) -> list[Outcome]:
        """What became of each call.

        Raises:
            RunPaused: Some of them wait for somebody's word.
        """
        if not calls:
            return []
        outcomes = await self._calls.run(calls)
        for outcome in outcomes:
            if outcome.ended is not None:
                self._note(outcome.call, outcome.ended.ran, outcome.ended.invalid, outcome.ended.usage)
        if pending := [item for outcome in outcomes for item in outcome.pending]:
            await self._pause(pending)
        return outcomes

    def _note(self, call: ToolCall, ran: bool, invalid: bool, inside: Usage) -> None:
        self._usage += replace(inside, tool_calls=inside.tool_calls + ran)
        self._answered_calls = self._answered_calls or not invalid
        self._gone_wrong[call.name] = self._gone_wrong[call.name] + 1 if invalid else 0

    async def _pause(self, pending: Sequence[PendingCall]) -> None:
        await self.log.write(RunWaited(tuple(pending), time.time()))
        names = ", ".join(f"{item.call.name!r} ({item.reason})" for item in pending)
        raise RunPaused(
            f"the run waits for somebody's word on {names}",
            run=PausedRun(self.log.run_id, {name: tuple(records) for name, records in self.log.runs.items()}),
            hint="settle .run.pending with .run.approve(…), deny(…) or supply(…), and go on with agent.resume(…)",
            messages=self.messages,
        )

    def _hand_over(self, outcomes: Sequence[Outcome]) -> None:
        """Let another agent go on, if a call says so."""
        name = next((o.ended.hand_off for o in outcomes if o.ended is not None and o.ended.hand_off), "")
        if not name:
            return
        self.plan, self.model = self.plan.hand_offs[name]()
        self._calls = self._calls_of(self.plan)
        self._answered_calls = False
        visible = self._visible if self._visible is not None else self.messages
        self._visible = list(visible) if self.plan.history_policy is not None else None
        self._shown = Conversation(self.plan.before(visible))

    def _calls_of(self, plan: Plan) -> Calls:
        return Calls(
            plan.tools,
            plan.limits,
            self.log,
            self.context,
            hooks=plan.hooks,
            sequential=plan.sequential,
            told=self._tell_call,
        )

    def context(self, call: ToolCall | None = None) -> RunContext[Any]:
        """The run as a call, a hook or a validator sees it at this moment."""
        return RunContext(
            deps=self.deps,
            usage=self._usage,
            step=self._step,
            messages=self.messages.up_to_now(),
            call_id="" if call is None else call.id,
            run_id=self.log.run_id,
            agent=self.plan.name,
            model=self.model.name,
            inside=None if call is None else Inside(self.log),
            _report=None if self.report is None or call is None else partial(self.report, call),
        )

    def _raise_failures(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            tool, ended = self.plan.tools.get(outcome.call.name), _ended(outcome)
            if self.plan.on_tool_error == "raise" and ended.error:
                raise ToolFailedError(
                    f"tool {outcome.call.name!r} raised {outcome.error!r}"
                    if outcome.error is not None
                    else f"tool {outcome.call.name!r} raised {ended.error}",
                    hint='mend the tool, or use on_tool_error="feedback" to tell the model instead',
                    messages=self.messages,
                ) from outcome.error
            wrong = self._gone_wrong[outcome.call.name]
            if tool is not None and tool.retries is not None and wrong > tool.retries:
                raise self._error(
                    InvalidTurnError,
                    f"{wrong} calls of {tool.name!r} in a row went wrong, and it has retries={tool.retries!r}; "
                    f"last: {ended.message.content}",
                    "look at .messages; raise tool(retries=…), or mend its description",
                )

    # -- the answer --------------------------------------------------------------------------------------------------

    async def _accept(self, turn: Turn, finish: FinishReason) -> RunResult[Any] | None:
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
            for validator in self.plan.validators:
                output = await validator.check(output, self.context())
        except (ValueError, Retry) as error:
            if not isinstance(error, OutputError | Retry) and not self.plan.validators:
                raise
            await self.log.write(AnswerRejected(self._step, str(error), time.time()))
            self._reject(turn, finish, str(error))
            return None
        except HermesError:
            raise
        except Exception as error:
            raise self._error(
                InvalidOutputError,
                f"a validator of the output raised {error!r}",
                "a validator says no with ValueError, or with Retry to tell the model what to do",
                raw=turn.text,
            ) from error
        self._append(AssistantMessage(turn.text, turn.reasoning))
        return RunResult(
            output,
            self.messages,
            self._usage,
            self._guarantee,
            tuple(self._turns),
            None if self._last is None else self._last.message,
            self.log.run_id,
            self.log.runs,
        )

    def _reject(self, turn: Turn, finish: FinishReason, why: str) -> None:
        self._append(AssistantMessage(turn.text, turn.reasoning))
        self._append(ToolMessage(f"{why}\nPlease answer again.", is_error=True))
        if self._last is not None:
            raise self._limit_error(
                replace(self._last, message=f"{self._last.message}, and the last answer was not valid: {why}"),
                raw=turn.raw,
            )
        self._correct(InvalidOutputError, turn, finish, f"the answer kept failing validation; last: {why}")

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

    def _reach(self, reached: Reached, why: str) -> None:
        """A limit is reached: the run ends, or its next turn has to answer.

        Raises:
            LimitExceededError: It ends.
        """
        if self.plan.on_limit != "answer" or self._last is not None:
            raise self._limit_error(reached)
        self._last = reached
        if self._step and why != "Not run":  # a refused call has been told already
            self._append(ToolMessage(f"{why}: answer now with what you have, without calling a function."))

    def _limit_error(self, reached: Reached, *, raw: str = "") -> RunError:
        return self._error(LimitExceededError, reached.message, reached.hint, raw=raw)

    def _close_calls(self, why: str = "") -> None:
        """Give a result to each call of the last turn that has none, so that the conversation can go on."""
        answered: set[str] = set()
        for message in reversed(self.messages):
            if isinstance(message, AssistantMessage):
                for call in message.tool_calls:
                    if call.id in answered:
                        continue
                    known = self.log.ended.get(call.id)
                    self._append(
                        known.message if known is not None else refuse(call, why).message if why else no_result(call)
                    )
            if not isinstance(message, ToolMessage):
                return
            answered.add(message.call_id)

    def _append(self, message: Message) -> None:
        self.messages.append(message)
        self._shown.append(message)
        if self._visible is not None:
            self._visible.append(message)

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
        if self.emit is None:
            return
        if isinstance(news, Outcome):
            ended = _ended(news)
            await self.emit(ToolFinished(news.call, ended.message, ended.seconds))
        else:
            await self.emit(ToolStarted(news))


def _ended(outcome: Outcome) -> CallEnded:
    """The result of a call that does not wait."""
    assert outcome.ended is not None
    return outcome.ended


def _calls_before_faults(turn: Turn) -> int:
    """How many calls stand before the first thing that could not be read."""
    count = 0
    for part in turn.parts:
        if isinstance(part, CallPart):
            count += 1
        elif isinstance(part, Fault) and part.kind != "unknown_tool":
            break
    return count
