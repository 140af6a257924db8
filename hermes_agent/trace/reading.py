"""Records made into steps and calls. Records that break off anywhere are read as far as they go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, assert_never

from hermes_agent.errors import ConfigurationError
from hermes_agent.limits import Usage
from hermes_agent.messages import ToolCall
from hermes_agent.record import (
    AnswerRejected,
    CallBegan,
    CallEnded,
    CallSettled,
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
from hermes_agent.trace.values import CallState, Outcome, TracedCall, TracedShortening, TracedStep

if TYPE_CHECKING:
    from hermes_agent.trace.run import Trace

__all__ = ["Reading", "read"]

_STRENGTH = ("checked", "server", "token")


@dataclass(slots=True)
class _Call:
    """A call while its records are read."""

    call: ToolCall | None  # None for one inside the thinking that was refused: nothing but its result is recorded
    id: str
    inline: bool = False
    began: CallBegan | None = None
    times_begun: int = 0
    ended: CallEnded | None = None
    settled: CallSettled | None = None
    waits: PendingCall | None = None


@dataclass(slots=True)
class _Step:
    """A turn while its records are read."""

    began: TurnBegan
    grammar: str
    grammar_is_new: bool
    parts: list[PartWritten] = field(default_factory=list[PartWritten])
    written: TurnWritten | None = None
    calls: list[_Call] = field(default_factory=list[_Call])
    rejected: str = ""
    tools_from: float = 0.0  # when calls inside the thinking began to be run
    tool_seconds: float = 0.0


@dataclass(slots=True)
class Reading:
    """What the records of one run say.

    Attributes:
        began: Its first record.
        ended: Its last one, if it is over.
        last: When the last record was written.
        waited: The last record but for the user's words, if the run waits for them.
    """

    began: RunBegan
    inner: Callable[[str], Trace | None]
    last: float = 0.0
    ended: RunEnded | None = None
    waited: RunWaited | None = None
    steps: list[_Step] = field(default_factory=list[_Step])
    shortenings: list[TracedShortening] = field(default_factory=list[TracedShortening])
    _grammar: str = ""

    def take(self, record: Record) -> None:
        """Go on with the next record.

        Raises:
            ConfigurationError: No run writes it in this place.
        """
        self.last = max(self.last, record.at)
        if not isinstance(record, CallSettled):
            self.waited = record if isinstance(record, RunWaited) else None
        match record:
            case RunBegan():
                raise ConfigurationError("it begins twice", hint="records of one run stand in the order written")
            case RunEnded():
                self.ended = record
            case TurnBegan():
                is_new = record.grammar not in ("", self._grammar)
                self._grammar = record.grammar or self._grammar
                self.steps.append(_Step(record, self._grammar, is_new))
            case HistoryShortened():
                before = next(
                    (i for i, step in enumerate(self.steps) if step.began.step >= record.step), len(self.steps)
                )
                self.shortenings.append(TracedShortening(before, tuple(record.shown), record.usage, record.at))
            case _:
                if not self.steps:
                    raise ConfigurationError(
                        f"{record.kind!r} stands before any turn", hint="records of one run stand in the order written"
                    )
                self._in_step(self.steps[-1], record)

    def _in_step(
        self,
        step: _Step,
        record: PartWritten | TurnWritten | CallBegan | CallEnded | CallSettled | AnswerRejected | RunWaited,
    ) -> None:
        match record:
            case PartWritten():
                step.parts.append(record)
                step.tools_from = record.at
            case TurnWritten():
                step.written = record
                step.calls += [_Call(call, call.id) for call in record.turn.tool_calls]
            case AnswerRejected():
                step.rejected = record.text
            case RunWaited():
                for item in record.calls:
                    if "/" not in item.id:  # the others are calls of agents inside of this one's tools
                        self._call(step, item.call.id, item.call).waits = item
            case _:
                self._of_call(step, record)

    def _of_call(self, step: _Step, record: CallBegan | CallEnded | CallSettled) -> None:
        match record:
            case CallBegan():
                found = self._call(step, record.call.id, record.call)
                found.began = found.began or record
                found.call, found.times_begun = record.call, found.times_begun + 1
            case CallEnded():
                self._call(step, record.call_id, None, record.message.name).ended = record
                if step.written is None and step.parts:  # they run side by side, until the last has its result
                    step.tool_seconds += max(0.0, record.at - step.tools_from)
                    step.tools_from = max(step.tools_from, record.at)
            case CallSettled():
                self._call(step, record.call_id, None).settled = record
            case _:
                assert_never(record)

    def _call(self, step: _Step, call_id: str, call: ToolCall | None, name: str = "") -> _Call:
        """The call with an id.

        Those of a turn have none before they are taken up. An id ends in the place of its call in the turn, so that
        calls of one name are told apart in whatever order they are recorded.
        """
        wanted = call.name if call is not None else name
        for known in step.calls:
            if known.id == call_id:
                return known
        unnamed = [known for known in step.calls if not known.id and not known.inline]
        of_the_turn = [known for known in step.calls if not known.inline]
        place = call_id.rpartition("_")[2]
        if place.isdecimal() and place.isascii() and len(place) < 6 and int(place) < len(of_the_turn):
            unnamed.sort(key=lambda known: known is not of_the_turn[int(place)])
        for known in unnamed:
            if known.call is not None and wanted in ("", known.call.name):
                known.id = call_id
                return known
        made = _Call(call or (ToolCall(name, {}, call_id) if step.written else None), call_id, step.written is None)
        step.calls.append(made)
        return made

    # What was read, as values

    def outcome(self) -> Outcome:
        """What became of the run."""
        if self.ended is not None:
            return "failed" if self.ended.error or self.ended.answer is None else "answered"
        return "waiting" if self.waited is not None else "unfinished"

    def guarantee(self) -> str:
        """The weakest enforcement of any turn."""
        kept = [step.written.guarantee for step in self.steps if step.written is not None and step.written.guarantee]
        known = [word for word in [self.began.guarantee, *kept] if word in _STRENGTH]
        return min(known, key=_STRENGTH.index, default="checked")

    def values(self) -> tuple[TracedStep, ...]:
        """The steps."""
        # A turn that was broken off and taken up again counts once: what was written before is in its usage.
        last = {step.began.step: step for step in self.steps}
        return tuple(self._values_of(step, counts=step is last[step.began.step]) for step in self.steps)

    def _values_of(self, step: _Step, *, counts: bool) -> TracedStep:
        written, began = step.written, step.began
        parts = [part for each in self.steps if each.began.step == began.step for part in each.parts] if counts else []
        parts_usage = sum((part.usage for part in parts), Usage())
        return TracedStep(
            number=began.step,
            agent=began.agent or self.began.agent,
            model=began.model or self.began.model,
            began=began.at,
            ended=None if written is None else written.at,
            model_seconds=0.0 if written is None else max(0.0, written.at - began.at - step.tool_seconds),
            turn=None if written is None else written.turn,
            raw=written.turn.raw if written is not None else step.parts[-1].raw if step.parts else "",
            finish=None if written is None else written.finish,
            usage=parts_usage if written is None else written.usage,
            guarantee=(written.guarantee if written is not None else "") or self.began.guarantee,
            grammar=step.grammar,
            grammar_is_new=step.grammar_is_new,
            calls=tuple(self._call_values(call) for call in step.calls),
            rejected=step.rejected,
        )

    def _call_values(self, read: _Call) -> TracedCall:
        ended, settled = read.ended, read.settled
        nested = self.inner(read.id) if read.id else None
        state = _state(read, nested, waited=self.waited is not None)
        return TracedCall(
            id=read.id,
            name=read.call.name if read.call is not None else ended.message.name if ended is not None else "",
            arguments=None if read.call is None else read.call.arguments,
            state=state,
            began=None if read.began is None else read.began.at,
            ended=None if ended is None else ended.at,
            seconds=0.0 if ended is None else ended.seconds,
            result=None if ended is None else ended.message.content,
            error="" if ended is None else ended.error,
            decision="" if settled is None else settled.decision,
            hand_off="" if ended is None else ended.hand_off,
            usage=ended.usage if ended is not None else Usage() if nested is None else nested.usage,
            repairs=() if read.call is None else read.call.repairs,
            waits_for=read.waits.reason if read.waits is not None and state == "waiting" else "",
            inline=read.inline,
            times_begun=read.times_begun,
            run=nested,
        )


def _state(read: _Call, nested: Trace | None, *, waited: bool) -> CallState:
    ended, settled = read.ended, read.settled
    if ended is None:
        if waited and (read.waits is not None or (nested is not None and nested.outcome == "waiting")):
            return "waiting"
        return "not_begun" if read.began is None else "unfinished"
    if ended.ran:
        return "failed" if ended.error or ended.message.is_error else "ran"
    if settled is not None and settled.decision == "supplied":
        return "supplied"
    return "denied" if settled is not None and settled.decision == "denied" else "refused"


def read(run_id: str, records: Sequence[Record], inner: Callable[[str], Trace | None]) -> Reading:
    """Read the records of one run.

    Args:
        run_id: Its id, for messages.
        records: In the order written.
        inner: The trace of the agent that a call of this run used as a tool, by the call's id.

    Raises:
        ConfigurationError: They are in no order that a run writes.
    """
    if not records or not isinstance(records[0], RunBegan):
        raise ConfigurationError(
            f"the records of run {run_id!r} do not begin with 'run_began'", hint="give all of them, in order"
        )
    reading = Reading(records[0], inner, last=records[0].at)
    for index, record in enumerate(records[1:], 1):
        try:
            reading.take(record)
        except ConfigurationError as error:
            raise ConfigurationError(f"record {index} of run {run_id!r}: {error.message}", hint=error.hint) from error
    return reading
