"""The pieces of a trace: steps, calls, and where the history was shortened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from hermes_agent.limits import NOTHING, Usage
from hermes_agent.messages import Message
from hermes_agent.turn import FinishReason, Turn

if TYPE_CHECKING:
    from hermes_agent.trace.run import Trace

__all__ = ["CallState", "Outcome", "TracedCall", "TracedShortening", "TracedStep"]

Outcome = Literal["answered", "failed", "waiting", "unfinished"]
"""What became of a run: it has an answer; an error ended it; it waits for the user's word on calls; its records break
off, because it still runs or its process died."""

CallState = Literal["ran", "failed", "refused", "denied", "supplied", "waiting", "not_begun", "unfinished"]
"""What became of a call: the tool gave a result; the tool failed; the call was wrong or blocked, and never run; the
user denied it, or gave its result; the run waits for the user's word; the run ended or broke off before it; it was
begun, and nobody knows how far it came."""


@dataclass(frozen=True, slots=True)
class TracedCall:
    """One call of a step.

    Attributes:
        id: Unique within the run; empty where the call was never taken up.
        name: The tool.
        arguments: As they were run, or as the model wrote them; ``None`` where they are not recorded, as those of a
            call inside the thinking that was refused.
        state: What became of it.
        began: Seconds since 1970; ``None`` where it was not begun.
        ended: Likewise, when its result was recorded.
        seconds: Wall clock of the tool; 0 when it was not run.
        result: What the model was told; ``None`` without one.
        error: Type and message of what the tool raised; empty when it raised nothing.
        waits_for: Why the run waits: ``approval``, ``external`` (its result comes from elsewhere) or ``interrupted``
            (it was begun by a process that died); empty where it does not.
        decision: The user's word on it: ``approved``, ``denied`` or ``supplied``; empty where none was needed.
        hand_off: The agent that goes on with the conversation; empty for an ordinary tool.
        usage: What agents inside of the tool used.
        repairs: Names of the repairs that were needed to read it.
        inline: It stood inside the thinking.
        times_begun: How often it was begun; more than once after a resumption.
        run: The run of the agent that was used as the tool.
    """

    id: str
    name: str
    arguments: Mapping[str, Any] | None
    state: CallState
    began: float | None = None
    ended: float | None = None
    seconds: float = 0.0
    result: str | None = None
    error: str = ""
    waits_for: str = ""
    decision: str = ""
    hand_off: str = ""
    usage: Usage = NOTHING
    repairs: tuple[str, ...] = ()
    inline: bool = False
    times_begun: int = 0
    run: Trace | None = None


@dataclass(frozen=True, slots=True)
class TracedStep:
    """One turn of the model, and its calls.

    Attributes:
        number: Counts from 1. Two steps have the same number where a run went on after the first was broken off.
        agent: The agent's name; it changes at a hand-off.
        model: The model's name.
        began: When the model was asked, in seconds since 1970.
        ended: When its turn was written; ``None`` for one that was broken off.
        model_seconds: How long the model took, without the tools that were run inside its thinking.
        turn: The turn as read; ``None`` for one that was broken off.
        raw: What the model wrote, as far as it is recorded.
        finish: Why the turn ended; ``None`` for one that was broken off.
        usage: Of this turn alone.
        guarantee: How the turn was enforced: ``token``, ``server`` or ``checked``.
        grammar: What the turn was held to, as Lark text; empty where nothing was enforced.
        grammar_is_new: It is another than that of the step before.
        calls: Its calls, those inside the thinking first, then in the order written.
        rejected: What the model was told where the turn was not accepted as the answer.
    """

    number: int
    agent: str
    model: str
    began: float
    ended: float | None = None
    model_seconds: float = 0.0
    turn: Turn | None = None
    raw: str = ""
    finish: FinishReason | None = None
    usage: Usage = NOTHING
    guarantee: str = "checked"
    grammar: str = ""
    grammar_is_new: bool = False
    calls: tuple[TracedCall, ...] = ()
    rejected: str = ""

    @property
    def thinking(self) -> str | None:
        """The inside of the thinking block; ``None`` when there was none, or the turn was broken off."""
        return None if self.turn is None else self.turn.reasoning


@dataclass(frozen=True, slots=True)
class TracedShortening:
    """From here on the model was shown less of the conversation.

    Attributes:
        before_step: How many of ``Trace.steps`` stand before it.
        shown: What it was shown in place of everything up to here.
        usage: What a summary cost.
        at: When, in seconds since 1970.
    """

    before_step: int
    shown: tuple[Message, ...]
    usage: Usage
    at: float
