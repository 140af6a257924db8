"""What a run of the soak is: what the model writes, how it is driven, and what has to come of it.

Everything follows from the number of a run. Every text that goes through one carries that number, so that what got
into the wrong run is seen.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

import anyio

from hermes_agent.messages import AssistantMessage, ToolCall

__all__ = ["CUT", "HANG", "HUGE", "LOOP", "Drive", "Fails", "Script", "Turn"]

HUGE = 10_000_000
"""Characters that a huge tool returns."""

CUT = 20_000
"""Characters of them that the model is shown."""

LOOP = "*"
"""A result that is the loop's own text: it only has to be there."""

HANG = object()
"""A turn in which the model writes a little, and then nothing for ever."""

Drive = Literal["run", "stream", "leave", "cancel", "anywhere", "pause", "resume", "override"]
"""How a run is driven: awaited; read as a stream; a stream left early; cancelled when the script says so; cancelled at
any moment, and gone on with where there is a journal; settled at each pause; cancelled when the script says so, and
gone on with from the journal; awaited with another model."""


@dataclass(frozen=True, slots=True)
class Fails:
    """A turn in which the model writes a little and then raises."""

    error: Exception


Turn = str | AssistantMessage | Fails | object


@dataclass(slots=True)
class Script:
    """One run.

    Attributes:
        number: Which one.
        kind: The name of its kind.
        random: Chooses what is left open.
        journalled: Its agent has a journal.
        ends: What has to come of it: ``answered``, ``cancelled``, ``left``, ``either`` (answered or cancelled), or the
            name of an error.
        turns: What the model writes.
        inner: What the model of the agent inside of it writes.
        agent: Which agent it is a run of.
        drive: How it is driven.
        results: What its calls have to give, in order; ``None`` where that depends on the moment it was ended at.
        pauses: How often it has to pause.
        progress: How often its tools tell of their progress.
        limited: It has to come to a limit, and to answer all the same.
        gate: What its hanging threads wait for.
        reached: Set at the point where the run is to be cancelled.
        token: The event loop, for threads.
        ran: How often each call was run.
        wrong: What was seen that must not be.
    """

    number: int
    kind: str
    random: Random
    journalled: bool
    ends: str = "answered"
    turns: list[Turn] = field(default_factory=list[Turn])
    inner: list[Turn] = field(default_factory=list[Turn])
    agent: str = "all"
    drive: Drive = "run"
    results: list[str] | None = field(default_factory=list[str])
    pauses: int = 0
    progress: int = 0
    limited: bool = False
    gate: threading.Event = field(default_factory=threading.Event)
    reached: anyio.Event = field(default_factory=anyio.Event)
    token: Any = None
    ran: Counter[str] = field(default_factory=Counter[str])
    wrong: list[str] = field(default_factory=list[str])

    @property
    def run_id(self) -> str:
        """What the run is called."""
        return f"soak-{self.number}"

    @property
    def prompt(self) -> str:
        """What the user says."""
        return f"run {self.number}: go"

    @property
    def answer(self) -> str:
        """What it has to answer."""
        return str(self.number) if self.agent == "typed" else f"run {self.number} done"

    def says(self, text: str) -> str:
        """A text that carries the number."""
        return f"run {self.number} {text}"

    def call(self, tool: str, result: str, **arguments: Any) -> ToolCall:
        """A call, whose result is expected next."""
        if self.results is not None:
            self.results.append(result)
        return ToolCall(tool, {"n": self.number, **arguments})

    def adds(self) -> ToolCall:
        """A call of a tool that works."""
        a, b = self.random.randrange(1000), self.random.randrange(1000)
        return self.call(self.random.choice(["add", "add_async"]), self.says(f"gives {a + b}"), a=a, b=b)

    def some(self, most: int = 4) -> list[ToolCall]:
        """Calls of tools that work."""
        return [self.adds() for _ in range(self.random.randrange(1, most + 1))]

    def writes(self, *calls: ToolCall) -> None:
        """The model writes a turn with these calls."""
        self.turns.append(AssistantMessage(self.says("calls"), tool_calls=calls))

    def ends_well(self) -> None:
        """The model answers."""
        self.turns.append(self.answer)

    def one_of(self, *choices: Any) -> Any:
        """One of several."""
        return self.random.choice(choices)
