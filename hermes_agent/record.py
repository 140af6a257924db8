"""What is written down of a run as it goes: enough to go on from, and to draw.

A run is a function of its records: given the same ones, the loop comes to the same place without asking the model or
running a tool again. A `Journal` keeps them on disk, a pause hands them to another process, a trace shows them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from hermes_agent.errors import ConfigurationError
from hermes_agent.limits import NOTHING, Usage
from hermes_agent.messages import Message, ToolCall, ToolMessage, dump_messages, load_messages
from hermes_agent.turn import FinishReason, Turn

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = [
    "AnswerRejected",
    "CallBegan",
    "CallEnded",
    "CallSettled",
    "HistoryShortened",
    "PartWritten",
    "PendingCall",
    "Record",
    "RunBegan",
    "RunEnded",
    "RunWaited",
    "TurnBegan",
    "TurnWritten",
    "dump_record",
    "dump_runs",
    "load_record",
    "load_runs",
]

_VERSION = 1


@dataclass(frozen=True, slots=True)
class RunBegan:
    """The first record of a run.

    Attributes:
        prompt: What the user said.
        history: Earlier messages.
        agent: The agent's name.
        model: The model's name.
        guarantee: What the model promised: ``token``, ``server`` or ``checked``.
        at: Seconds since 1970.
    """

    prompt: str
    history: tuple[Message, ...] = ()
    agent: str = ""
    model: str = ""
    guarantee: str = "checked"
    at: float = 0.0
    kind: Literal["run_began"] = field(default="run_began", init=False, repr=False)


@dataclass(frozen=True, slots=True)
class TurnBegan:
    """The model is asked for a turn.

    Attributes:
        step: Counts from 1.
        agent: The agent's name; it changes at a hand-off.
        model: The model's name; likewise.
        grammar: What the turn may be, as Lark text, where that is another than the turn before was held to; empty
            where it is the same, or nothing is enforced.
        limit: The limit that the run has come to, where the turn has to answer for it (``on_limit="answer"``); else
            empty.
    """

    step: int
    agent: str = ""
    model: str = ""
    grammar: str = ""
    limit: str = field(default="", kw_only=True)
    at: float = 0.0
    kind: Literal["turn_began"] = field(default="turn_began", init=False, repr=False)


@dataclass(frozen=True, slots=True)
class PartWritten:
    """A turn was written up to calls inside its thinking, which are run before it goes on.

    Attributes:
        step: The turn.
        raw: Its text so far, results of earlier calls included.
        usage: Tokens of this part.
    """

    step: int
    raw: str
    usage: Usage = NOTHING
    at: float = 0.0
    kind: Literal["part_written"] = field(default="part_written", init=False, repr=False)


@dataclass(frozen=True, slots=True)
class TurnWritten:
    """The model wrote a turn.

    Attributes:
        step: Counts from 1.
        turn: The turn as read, after hooks.
        finish: Why it ended.
        usage: Of this turn alone.
        guarantee: How it was enforced, where that is less than the model promised; else empty.
        at: When it ended, in seconds since 1970; it began at the `TurnBegan` before.
    """

    step: int
    turn: Turn
    finish: FinishReason = "stop"
    usage: Usage = NOTHING
    guarantee: str = ""
    at: float = 0.0
    kind: Literal["turn_written"] = field(default="turn_written", init=False, repr=False)


@dataclass(frozen=True, slots=True)
class CallBegan:
    """A validated call is about to be run. Without a `CallEnded` behind it, nobody knows how far it came."""

    call: ToolCall
    at: float = 0.0
    kind: Literal["call_began"] = field(default="call_began", init=False, repr=False)


@dataclass(frozen=True, slots=True)
class CallEnded:
    """A call has its result, or its refusal.

    Attributes:
        call_id: The call.
        message: What the model is told.
        seconds: Wall clock of the tool; 0 when it was not run.
        ran: The tool was run, whatever came of it.
        invalid: The call itself was wrong: it counts as a correction.
        error: Type and message of what the tool raised; empty when it raised nothing.
        usage: What agents inside of the tool used.
        hand_off: Name of the agent that goes on with the conversation; empty for an ordinary tool.
        at: When, in seconds since 1970.
    """

    call_id: str
    message: ToolMessage
    seconds: float = 0.0
    ran: bool = False
    invalid: bool = False
    error: str = ""
    usage: Usage = NOTHING
    hand_off: str = ""
    at: float = 0.0
    kind: Literal["call_ended"] = field(default="call_ended", init=False, repr=False)


@dataclass(frozen=True, slots=True)
class CallSettled:
    """The user's word on a call that the run waited for.

    Attributes:
        call_id: The call.
        decision: ``approved`` runs it, ``denied`` tells the model ``text``, ``supplied`` gives ``text`` as its result.
        text: The reason, or the result.
    """

    call_id: str
    decision: Literal["approved", "denied", "supplied"]
    text: str = ""
    at: float = 0.0
    kind: Literal["call_settled"] = field(default="call_settled", init=False, repr=False)


@dataclass(frozen=True, slots=True)
class AnswerRejected:
    """A turn was not accepted as the answer; the model was told why."""

    step: int
    text: str
    at: float = 0.0
    kind: Literal["answer_rejected"] = field(default="answer_rejected", init=False, repr=False)


@dataclass(frozen=True, slots=True)
class HistoryShortened:
    """From here on the model is shown less of the conversation.

    Attributes:
        step: The turn that comes next.
        shown: What it is shown in place of everything up to here.
        usage: What it cost to write a summary.
    """

    step: int
    shown: tuple[Message, ...] = ()
    usage: Usage = NOTHING
    at: float = 0.0
    kind: Literal["history_shortened"] = field(default="history_shortened", init=False, repr=False)


@dataclass(frozen=True, slots=True)
class PendingCall:
    """A call that waits for somebody's word.

    Attributes:
        call: The call, its arguments as the model wrote them.
        reason: ``approval``, its tool wants to be allowed; ``external``, its result comes from elsewhere;
            ``interrupted``, it was begun by a process that died, and may have been run or not.
        run_id: The run that made it: the one that paused, or that of an agent inside of it.
    """

    call: ToolCall
    reason: Literal["approval", "external", "interrupted"]
    run_id: str = ""

    @property
    def id(self) -> str:
        """What it is called by in ``PausedRun.approve`` and the like."""
        _, _, inner = self.run_id.partition("/")
        return f"{inner}/{self.call.id}" if inner else self.call.id


@dataclass(frozen=True, slots=True)
class RunWaited:
    """The run paused; every other call of the turn has its result."""

    calls: tuple[PendingCall, ...]
    at: float = 0.0
    kind: Literal["run_waited"] = field(default="run_waited", init=False, repr=False)


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The last record of a run that is over; one that waits, or whose process died, has none.

    Attributes:
        answer: The text of the answer, as the model wrote it; ``None`` when there is none.
        error: Type and message of what ended the run; empty when it has an answer.
        guarantee: The weakest enforcement any turn had; empty when there is no answer.
    """

    answer: str | None = None
    error: str = ""
    at: float = 0.0
    guarantee: str = ""
    kind: Literal["run_ended"] = field(default="run_ended", init=False, repr=False)


Record = (
    RunBegan
    | TurnBegan
    | PartWritten
    | TurnWritten
    | CallBegan
    | CallEnded
    | CallSettled
    | AnswerRejected
    | HistoryShortened
    | RunWaited
    | RunEnded
)


_MESSAGES = {"run_began": "history", "history_shortened": "shown"}
"""Fields that hold messages, which know how to be written themselves."""


def dump_record(record: Record) -> dict[str, Any]:
    """A record as JSON values."""
    values: dict[str, Any] = _adapter().dump_python(record, exclude=set(_MESSAGES.values()))
    if (field_name := _MESSAGES.get(record.kind)) is not None:
        values[field_name] = dump_messages(getattr(record, field_name))
    return values


def load_record(values: Mapping[str, Any]) -> Record:
    """What ``dump_record`` wrote, equal to what it was written of.

    Raises:
        pydantic.ValidationError: It is no record.
    """
    plain = dict(values)
    field_name = _MESSAGES.get(str(plain.get("kind")))
    messages = tuple(load_messages(plain.pop(field_name, ()))) if field_name else ()
    record = _adapter().validate_python(plain)
    if isinstance(record, RunBegan):
        return replace(record, history=messages)
    return replace(record, shown=messages) if isinstance(record, HistoryShortened) else record


def dump_runs(run_id: str, runs: Mapping[str, Sequence[Record]]) -> str:
    """A run, and those of the agents inside of it, as one JSON text: how pauses and traces are saved.

    Args:
        run_id: The outermost run.
        runs: Records by run id. That of an agent inside of a tool is ``<run id>/<call id>``.

    Raises:
        ConfigurationError: Something in it is not JSON.
    """
    written = {name: [dump_record(record) for record in records] for name, records in runs.items()}
    try:
        return json.dumps({"version": _VERSION, "run": run_id, "runs": written}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"run {run_id!r} cannot be written as JSON: {error}",
            hint="call arguments must be None, bool, int, float, str, list or dict with str keys",
        ) from error


def load_runs(text: str | bytes) -> tuple[str, dict[str, list[Record]]]:
    """What ``dump_runs`` wrote.

    Raises:
        ConfigurationError: The text is not a saved run; the message says where it breaks.
    """
    from pydantic import ValidationError

    try:
        data: Any = json.loads(text)
        if not isinstance(data, dict) or data.get("version") != _VERSION:  # pyright: ignore[reportUnknownMemberType]  # JSON
            raise ValueError(f"expected an object with version {_VERSION}")
        saved = cast("dict[str, Any]", data)
        runs = {str(name): [load_record(values) for values in records] for name, records in saved["runs"].items()}
        if saved["run"] not in runs:
            raise ValueError(f"run {saved['run']!r} is not in it")
        return str(saved["run"]), runs
    except (ValueError, KeyError, TypeError, AttributeError, ValidationError, RecursionError) as error:
        raise ConfigurationError(
            f"not a saved run: {type(error).__name__}: {error}", hint="give what was saved, whole", raw=str(text)[:2000]
        ) from error


@cache
def _adapter() -> TypeAdapter[Record]:
    from pydantic import Field, TypeAdapter

    return TypeAdapter(Annotated[Record, Field(discriminator="kind")])
