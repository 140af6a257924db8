"""What the runs do that are killed: an agent with every kind of tool, a model that goes on in any process, a user."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import anyio
import anyio.lowlevel
from pydantic import BaseModel

from hermes_agent import Agent, Limits, Reasoning, RunContext, RunResult, tool
from hermes_agent.errors import RunPaused
from hermes_agent.journal import Journal
from hermes_agent.messages import AssistantMessage, Message, ToolCall, UserMessage
from hermes_agent.models.base import Chunk, Request
from hermes_agent.pause import PausedRun
from hermes_agent.record import PendingCall
from hermes_agent.testing import ScriptedModel

PROMPT = "Book the trip."
HISTORY: list[Message] = [UserMessage("Hello"), AssistantMessage("Hello.")]
RUNS, EFFECTS, POINTS, ERRORS = "runs.db", "effects", "points", "errors"


@dataclass(frozen=True)
class Order:
    """What to do.

    Attributes:
        folder: Where.
        runs: The runs to begin or to go on with, side by side.
        backend: The event loop.
        phase: Kill yourself at this point,
        nth: when you come by for that time.
        after: Kill the process after so many seconds.
        settle: Give the word that waiting calls need first.
        processes: So many processes do the same; each waits with its first record until all are so far.
        most_bytes: No file may become longer.
        journal: The file, where it is not in the folder.
        sync: How the journal is written. What is handed to the operating system outlives the process.
    """

    folder: str
    runs: Sequence[str]
    backend: str = "asyncio"
    phase: str = ""
    nth: int = 1
    after: float | None = None
    settle: bool = True
    processes: int = 1
    most_bytes: int | None = None
    journal: str = ""
    sync: Literal["full", "normal"] = "normal"


class Total(BaseModel):
    total: int


class Place:
    """Where a process is at work, and how far it has come; what tools are given as ``deps``."""

    def __init__(self, order: Order, meet: Callable[[], None]) -> None:
        self.order, self.folder, self.meet = order, Path(order.folder), meet
        self.passed: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._points = os.open(self.folder / POINTS, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)

    def point(self, name: str) -> None:
        """Say where we are; the order may be to die here."""
        with self._lock:
            if self.order.most_bytes is None:
                os.write(self._points, f"{name}\n".encode())
            self.passed[name] += 1
            if name == self.order.phase and self.passed[name] == self.order.nth:
                os.kill(os.getpid(), signal.SIGKILL)

    def effect(self, context: RunContext[Place], name: str, value: object) -> str:
        """Do something to the world that must not be done twice; what the tool then says."""
        self.point(f"tool {name}")
        file = os.open(self.folder / EFFECTS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(file, f"{effect_of(context.run_id, name, value)}\n".encode())
        os.fsync(file)
        os.close(file)
        self.point(f"effect {name}")
        return said(name, value)


def effect_of(run_id: str, name: str, value: object) -> str:
    return f"{run_id.partition('/')[0]} {name} {value}"


def said(name: str, value: object) -> str:
    """What a tool says when it is done."""
    return f"{name} {value}: done"


# Tools. All but two must not be run twice.


def pay(context: RunContext[Place], amount: int) -> str:
    """Pay."""
    return context.deps.effect(context, "pay", amount)


async def mail(context: RunContext[Place], to: str) -> str:
    """Write to somebody."""
    await anyio.lowlevel.checkpoint()
    text = context.deps.effect(context, "mail", to)
    await anyio.lowlevel.checkpoint()
    return text


@tool(idempotent=True)
def look(context: RunContext[Place], at: str) -> str:
    """Look."""
    return context.deps.effect(context, "look", at)


@tool(idempotent=True)
async def measure(context: RunContext[Place], at: str) -> str:
    """Measure."""
    return context.deps.effect(context, "measure", at)


@tool(approval=True)
async def wipe(context: RunContext[Place], path: str) -> str:
    """Delete a file."""
    return context.deps.effect(context, "wipe", path)


@tool(approval=True)
def stamp(context: RunContext[Place], paper: str) -> str:
    """Stamp a paper."""
    return context.deps.effect(context, "stamp", paper)


@tool(sequential=True)
def file(context: RunContext[Place], paper: str) -> str:
    """File a paper."""
    return context.deps.effect(context, "file", paper)


ONCE = ["pay 1", "pay 4", "pay 5", "mail Ada", "mail Bo", "wipe a", "file f", "stamp s", "pay 7"]
AGAIN = ["look Oslo", "measure Rome", "look Rome"]
FORBIDDEN = "wipe b"


# What the models write.


def calls(*wanted: tuple[str, dict[str, Any]], text: str = "") -> AssistantMessage:
    return AssistantMessage(text, tool_calls=tuple(ToolCall(name, arguments) for name, arguments in wanted))


TRIP: list[str | AssistantMessage] = [
    calls(
        ("pay", {"amount": 1}),
        ("look", {"at": "Oslo"}),
        ("mail", {"to": "Ada"}),
        ("clerk", {"prompt": "File it."}),
        ("measure", {"at": "Rome"}),
        text="I begin.",
    ),
    calls(("pay", {"sum": 3}), ("look", {"at": "Rome"})),  # one is refused
    calls(("wipe", {"path": "a"}), ("pay", {"amount": 4}), ("wipe", {"path": "b"})),
    '{"total": "much"}',  # rejected
    calls(("pay", {"amount": 5})),
    calls(("transfer_to_closer", {})),
    calls(("mail", {"to": "Bo"})),
    '{"total": 8}',
]

CLERK = [
    '<think>\nFirst I file it.\n<tool_call>\n{"name": "file", "arguments": {"paper": "f"}}\n</tool_call>',
    '\nFiled.\n</think>\n<tool_call>\n{"name": "stamp", "arguments": {"paper": "s"}}\n</tool_call>\n'
    '<tool_call>\n{"name": "pay", "arguments": {"amount": 7}}\n</tool_call>',
    "<think>\nThat is all.\n</think>\nFiled and stamped.",
]


class Writer(ScriptedModel):
    """Writes what belongs behind the conversation it is shown, in whatever process that is."""

    def __init__(self, turn: Callable[[Request], str | AssistantMessage], place: Place) -> None:
        super().__init__([turn] * 20, dialect="hermes-4-14b", chunk_size=9)
        self._place = place

    async def generate(self, request: Request) -> AsyncGenerator[Chunk, None]:
        async for chunk in super().generate(request):
            self._place.point("chunk")
            await anyio.lowlevel.checkpoint()
            yield chunk


def written(request: Request) -> int:
    return sum(isinstance(message, AssistantMessage) for message in request.messages)


def trip_turn(request: Request) -> str | AssistantMessage:
    return TRIP[written(request) - 1]  # the history has one


def clerk_turn(request: Request) -> str | AssistantMessage:
    return CLERK[1] if request.prefix else CLERK[2 * written(request)]


def agent(place: Place, journal: Journal | None = None) -> Agent[Place, Total]:
    clerk = Agent(
        Writer(clerk_turn, place),
        tools=[file, stamp, pay],
        reasoning=Reasoning("on", calls="inline"),
        name="clerk",
        description="Files papers.",
        deps_type=Place,
    )
    closer = Agent(Writer(trip_turn, place), tools=[mail], output=Total, name="closer", deps_type=Place)
    return Agent(
        Writer(trip_turn, place),
        tools=[pay, mail, look, measure, wipe, clerk.as_tool()],
        output=Total,
        handoffs=[closer],
        journal=journal,
        limits=Limits(seconds=120),
        deps_type=Place,
    )


# The user.


def word(paused: PausedRun, item: PendingCall, effects: str) -> PausedRun:
    """What the user says of a call, who can see what has happened.

    Raises:
        AssertionError: The user is asked whether something may be done that was done already.
    """
    (value,) = item.call.arguments.values()
    happened = effect_of(paused.run_id, item.call.name, value) in effects.splitlines()
    if item.reason == "interrupted":
        return paused.supply(item, said(item.call.name, value)) if happened else paused.approve(item)
    assert item.reason == "approval"
    assert not happened, f"{item} was run, and is asked for as if it was not"
    return paused.deny(item, "It is needed.") if value == "b" else paused.approve(item)


def settled(paused: PausedRun, folder: Path) -> PausedRun:
    effects = (folder / EFFECTS).read_text() if (folder / EFFECTS).exists() else ""
    for item in paused.pending:
        paused = word(paused, item, effects)
    return paused


async def undisturbed(run_id: str, place: Place) -> RunResult[Total]:
    """The run as it goes when nothing happens, without a journal."""
    doing = agent(place)
    try:
        return await doing.run(PROMPT, history=HISTORY, deps=place, run_id=run_id)
    except RunPaused as paused:
        waiting = paused.run
    while True:
        try:
            return await doing.resume(settled(waiting, place.folder), deps=place)
        except RunPaused as paused:
            waiting = paused.run
