"""The loop: a turn of the model, its calls, their results, the next turn, until there is a validated answer.

Whatever happens is told to ``emit``; a blocking run passes none. The conversation only grows, nothing in it
is copied or read again, so a turn costs the same at any length of history. What happens is recorded, too, and a run
that finds records of itself goes through them instead of asking the model and running tools again.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, cast

import anyio
from typing_extensions import TypeVar

from hermes_agent.answers import Answers
from hermes_agent.budget import Reached
from hermes_agent.context import Retry, RunContext
from hermes_agent.errors import (
    HermesError,
    HookError,
    InvalidOutputError,
    LimitExceededError,
    RunPaused,
)
from hermes_agent.events import Final, ToolFinished
from hermes_agent.limits import Usage
from hermes_agent.log import RunLog
from hermes_agent.messages import (
    AssistantMessage,
    Conversation,
    Message,
)
from hermes_agent.models.base import FinishReason, Guarantee, Model
from hermes_agent.output import OutputError
from hermes_agent.plan import Plan
from hermes_agent.record import (
    AnswerRejected,
    CallBegan,
    CallEnded,
    Record,
    RunBegan,
    RunEnded,
    TurnWritten,
)
from hermes_agent.redaction import Redaction
from hermes_agent.state import Report, RunState
from hermes_agent.turn import Thinking, Turn
from hermes_agent.turns import Turns
from hermes_agent.validators import Validator

if TYPE_CHECKING:
    from hermes_agent.trace import Trace

__all__ = ["Report", "Run", "RunResult"]

_LAST_SECONDS = 10.0
"""What the last turn of a run whose time is up may take at least."""

OutputT_co = TypeVar("OutputT_co", covariant=True, default=str)


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
    """One run; made, awaited once with `go`, thrown away.

    Args:
        plan: What the agent settled.
        model: Writes.
        prompt: What the user says.
        history: Earlier messages.
        deps: Handed to whatever takes a `RunContext`.
        log: Where it is recorded; what it holds already is not done again.
    """

    def __init__(
        self, plan: Plan, model: Model, prompt: str, *, history: Sequence[Message], deps: Any, log: RunLog
    ) -> None:
        self.state = RunState(plan, model, prompt, history=history, deps=deps, log=log)
        self._answers = Answers(self.state)
        self._turns = Turns(self.state, self._answers.answer_inline)
        self._gone = False
        self._raised: Exception | None = None

    async def go(self) -> RunResult[Any]:
        """Run to the end.

        Raises:
            RunError: No answer; the error carries the conversation so far.
            RunPaused: Somebody's word is needed.
            ModelError: The model could not write.
        """
        state = self.state
        try:
            return await self._to_its_end()
        except RunPaused as paused:
            paused.run_id, paused.records = state.log.run_id, paused.run.runs
            raise
        except HermesError as error:
            state.close_calls()
            error.messages = error.messages or state.messages
            error.attempts = error.attempts or tuple(state.attempts)
            if not error.run_id:  # one of an agent inside, raised by a tool, keeps its own
                error.run_id, error.records = state.log.run_id, state.log.runs
            await self._write_end(RunEnded(error=f"{type(error).__name__}: {error.message}", at=time.time()), error)
            raise

    async def _to_its_end(self) -> RunResult[Any]:
        state = self.state
        done = await (self._hooked() if state.plan.hooks else self._go())
        # Behind the time limit and the hooks: a run whose answer is recorded has ended well.
        if state.log.answer is None and state.turns:
            await state.log.write(RunEnded(state.turns[-1].text, at=time.time(), guarantee=done.guarantee))
        await state.tell(Final(done.output))
        return done

    async def _write_end(self, record: RunEnded, error: HermesError) -> None:
        state = self.state
        if not state.log.records or state.log.lost:  # it failed before it began, or because nothing can be recorded
            return
        try:
            await state.log.write(record)
        except HermesError as lost:  # such as a full disk, which may be what ended the run
            error.add_note(f"nor could the end of the run be recorded: {lost.message}")

    async def _hooked(self) -> RunResult[Any]:
        state = self.state
        proceed: Callable[[], Awaitable[RunResult[Any]]] = self._once
        context = state.context()
        for hook in reversed(state.plan.hooks):
            proceed = partial(hook.around_run, context, proceed)
        try:
            done = await proceed()
        except (HermesError, ExceptionGroup):
            raise
        except Exception as error:
            if error is self._raised:  # the model's own
                raise
            raise state.error(HookError, f"a hook around the run raised {error!r}", "mend the hook") from error
        if not isinstance(cast("object", done), RunResult):
            raise state.error(HookError, f"a hook around the run returned {done!r}", "return what proceed() gave")
        return done

    async def _once(self) -> RunResult[Any]:
        """The run, as hooks around it may have it done.

        Raises:
            HookError: It was done before.
        """
        if self._gone:
            raise self.state.error(HookError, "a hook called proceed() of a run twice", "a run happens once")
        self._gone = True
        try:
            return await self._go()
        except Exception as error:
            self._raised = error
            raise

    async def _go(self) -> RunResult[Any]:
        state = self.state
        if state.log.answer is None:
            state.guarantee = await state.promised()
        elif state.log.began is not None:  # all of it is in the records: the model is not even asked what it can do
            state.guarantee = cast("Guarantee", state.log.answer.guarantee or state.log.began.guarantee)
        if state.log.began is None:
            began = RunBegan(
                state.prompt,
                tuple(state.messages[:-1]),
                state.plan.name,
                state.model.name,
                state.guarantee,
                time.time(),
            )
            await state.log.write(began)
        done: RunResult[Any] | None = None
        seconds = state.budget.limits.seconds
        with anyio.move_on_after(seconds):
            done = await self._loop()
        if done is None:
            await self._time_is_up()
            # What hangs must end nonetheless: the last turn may take as long again.
            with anyio.move_on_after(max(seconds or 0.0, _LAST_SECONDS)):
                done = await self._loop()
        if done is None:
            assert state.last is not None  # time was up once before
            late = replace(state.last, message=f"{state.last.message}, and its last turn took too long")
            raise state.limit_error(late)
        return done

    async def _time_is_up(self) -> None:
        """Close the turn that was under way, so that the next one can answer.

        Raises:
            LimitExceededError: There is to be no other.
        """
        state = self.state
        if state.unread is not None and state.plan.on_limit == "answer" and state.last is None:
            await self._reject_late(state.unread)
        closed = state.close_calls()
        seconds = state.budget.limits.seconds
        state.reach(Reached(f"the run took more than seconds={seconds!r}", "raise the limit"), "Time is up")
        state.step = len(state.turns)  # the last one takes the place of one that was not finished
        begun = {record.call.id for record in state.log.records if isinstance(record, CallBegan)}
        for call, message in closed:  # recorded, or whoever resumes the run would be asked about calls long over
            used = state.log.used_inside(call.id)
            ended = CallEnded(call.id, message, ran=call.id in begun, usage=used, at=time.time())
            state.note(call.name, ended)
            await state.log.write(ended)
            await state.tell(ToolFinished(call, message, 0.0))

    async def _reject_late(self, written: TurnWritten) -> None:
        """A turn that nobody has come to look at is not the answer, now or when the run is resumed."""
        state = self.state
        known = state.log.records[-1]
        if isinstance(known, AnswerRejected):
            why = known.text
        else:
            why = "This came too late."
            await state.log.write(AnswerRejected(written.step, why, time.time()))
        state.reject(written.turn, written.finish, why)

    async def _loop(self) -> RunResult[Any]:
        state = self.state
        while True:
            written, rejection = await self._turns.next()
            turn, finish = written.turn, written.finish
            if rejection is not None:
                state.reject(turn, finish, rejection)
            elif state.last is not None and (turn.tool_calls or turn.faults):
                self._answers.refuse(turn, state.last)
                raise state.limit_error(state.last, raw=turn.raw)
            elif turn.tool_calls or turn.faults:
                await self._answers.answer(turn, finish)
            elif (done := await self._accept(turn, finish)) is not None:
                return done

    async def _accept(self, turn: Turn, finish: FinishReason) -> RunResult[Any] | None:
        """The result if the turn is a valid answer; else ``None``, with the correction appended."""
        state = self.state
        if finish == "length" and state.plan.output.kind == "text" and turn.text.strip():
            state.append(AssistantMessage(turn.text, turn.reasoning))
            raise state.error(
                LimitExceededError,
                f"the answer was cut off after {state.usage.output_tokens} tokens",
                "raise Limits(turn_tokens=…) or the model's context; the text so far is on .raw",
                raw=turn.text,
            )
        try:
            if finish == "length":  # what was cut may still look like an answer: "12" of 1200
                raise OutputError(["it was cut off before its end, because it was too long"])
            output = state.plan.output.validate(turn.text)
            for validator in state.plan.validators:
                output = await _checked(validator, output, state.context())
        except (OutputError, Retry) as error:
            if state.log.answer is not None:
                raise state.error(
                    InvalidOutputError,
                    f"the answer that the run ended with is not accepted any more: {error}",
                    "look at .messages; its validators, or what they ask, have changed since",
                    raw=turn.text,
                ) from error
            await state.log.write(AnswerRejected(state.step, str(error), time.time()))
            state.reject(turn, finish, str(error))
            return None
        except HermesError:
            raise
        except Exception as error:
            raise state.error(
                InvalidOutputError,
                f"a validator of the output raised {error!r}",
                "a validator says no with ValueError, or with Retry to tell the model what to do",
                raw=turn.text,
            ) from error
        state.append(AssistantMessage(turn.text, turn.reasoning))
        return RunResult(
            output,
            state.messages,
            state.usage,
            state.guarantee,
            tuple(state.turns),
            None if state.last is None else state.last.message,
            state.log.run_id,
            state.log.runs,
        )


async def _checked(validator: Validator, output: Any, context: RunContext[Any]) -> Any:
    try:
        return await validator.check(output, context)
    except ValueError as error:
        raise Retry(Redaction().text(str(error))) from error
