"""What a stream yields, in the order things happen.

The parser makes the first group from text alone; the loop adds the second. Joined in order, the text of
all ``TextDelta`` of a turn is ``Turn.text``, and that of all ``ReasoningDelta`` is ``Turn.reasoning``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hermes_agent.messages import ToolCall, ToolMessage
from hermes_agent.turn import Fault, Turn

if TYPE_CHECKING:
    from hermes_agent.limits import Usage

__all__ = [
    "ArgumentsDelta",
    "CallCompleted",
    "CallStarted",
    "Event",
    "FaultFound",
    "Final",
    "InlineCall",
    "ParserEvent",
    "PartialOutput",
    "ReasoningDelta",
    "StepFinished",
    "StepStarted",
    "TextDelta",
    "ToolFinished",
    "ToolProgress",
    "ToolStarted",
]


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More visible text; it can no longer turn out to be markup."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More of the thinking block."""

    text: str


@dataclass(frozen=True, slots=True)
class CallStarted:
    """A call was opened. It may still turn out to be broken, so nothing may be run on it.

    Attributes:
        index: Counts the calls opened in this turn from 0.
        name: The tool's name, where it stands before the arguments; else ``None``.
    """

    index: int
    name: str | None = None


@dataclass(frozen=True, slots=True)
class ArgumentsDelta:
    """More raw text of the call opened last."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class CallCompleted:
    """A call was read whole. ``index`` is that of its ``CallStarted``; a repaired call may have had none."""

    index: int
    call: ToolCall


@dataclass(frozen=True, slots=True)
class InlineCall:
    """A call inside the thinking block was read whole, or as a fault: ``Reasoning(calls="inline")``.

    Its result belongs behind it, in the same thought.
    """

    call: ToolCall | Fault


@dataclass(frozen=True, slots=True)
class FaultFound:
    """Something in the turn could not be read."""

    fault: Fault


ParserEvent = TextDelta | ReasoningDelta | CallStarted | ArgumentsDelta | CallCompleted | InlineCall | FaultFound


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A model turn begins; ``step`` counts from 1."""

    step: int


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """A validated call is being run."""

    call: ToolCall


@dataclass(frozen=True, slots=True)
class ToolProgress:
    """What a tool under way says of itself through ``RunContext.progress``.

    Attributes:
        call: The call that is being run.
        message: For people.
        done: How much is done, in any unit.
        total: How much there is to do, in the same unit.
    """

    call: ToolCall
    message: str
    done: float | None = None
    total: float | None = None


@dataclass(frozen=True, slots=True)
class ToolFinished:
    """A call has its result, or its refusal. ``seconds`` is wall clock; 0 for a call that was not run."""

    call: ToolCall
    result: ToolMessage
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class StepFinished:
    """A model turn was read to its end, before its calls run. ``usage`` is that of this turn alone."""

    step: int
    turn: Turn
    usage: Usage


@dataclass(frozen=True, slots=True)
class PartialOutput:
    """A typed answer as far as it is written; the last one of a run is the answer itself.

    Required fields that are not there yet are ``None``; what is there has passed its validators.
    """

    output: Any


@dataclass(frozen=True, slots=True)
class Final:
    """The validated answer; the last event of a run that succeeds."""

    output: Any


Event = ParserEvent | StepStarted | StepFinished | ToolStarted | ToolProgress | ToolFinished | PartialOutput | Final
