"""Runs an agent until it is killed: ``python -m tests.kill_program``, told what to do by lines of JSON on its stdin.

For each `Order` it forks processes, which spares them the imports, and answers with their exit statuses. What such a
process does is left in a folder: the journal, the side effects of the tools, and the points it came by.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import anyio
import anyio._backends._asyncio
import anyio._backends._trio
import anyio.lowlevel
from pydantic import BaseModel

from hermes_agent import Agent, Limits, Reasoning, RunContext, RunResult, tool
from hermes_agent.errors import RunPaused
from hermes_agent.journal import Journal, JournalError
from hermes_agent.messages import AssistantMessage, ToolCall, UserMessage
from hermes_agent.models.base import Chunk, Request
from hermes_agent.pause import PausedRun
from hermes_agent.record import PendingCall, Record, RunBegan, dump_record
from hermes_agent.testing import ScriptedModel

ENDED, WAITS, FAILED, REFUSED = 0, 3, 1, 4
"""What a process exits with: its runs have ended; some wait for a word; something else; the journal said no."""

PROMPT = "Book the trip."
HISTORY = [UserMessage("Hello"), AssistantMessage("Hello.")]
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


TRIP = [
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


# A process.


class Watched(Journal):
    """A journal that says what it is about to do, and what it has done."""

    def __init__(self, place: Place) -> None:
        super().__init__(place.order.journal or place.folder / RUNS)
        self._place, self._met = place, False

    async def append(self, run_id: str, at: int, record: Record) -> None:
        what = f"{record.kind}{' inside' if '/' in run_id else ''}"
        self._place.point(f"write {what}")
        if not self._met:
            self._met = True
            self._place.meet()
        await super().append(run_id, at, record)
        self._place.point(f"wrote {what}")


async def do(place: Place) -> int:
    """Begin or go on with every run; what the process exits with."""
    ends: list[int] = []

    async def go(journal: Journal, run_id: str) -> None:
        doing = agent(place, journal)
        try:
            if journal.count(run_id) == 0:
                place.point("run")
                await doing.run(PROMPT, history=HISTORY, deps=place, run_id=run_id)
            else:
                place.point("resume")
                paused = PausedRun.load(journal, run_id)
                if place.order.settle and paused.pending:
                    await settled(paused, place.folder).store(journal)
                    place.point("stored")
                await doing.resume(run_id, deps=place)
            place.point("ended")
            ends.append(ENDED)
        except RunPaused:
            place.point("paused")
            ends.append(WAITS)
        except JournalError as error:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            with (place.folder / ERRORS).open("a") as errors:
                errors.write(json.dumps(str(error)) + "\n")
            ends.append(REFUSED)

    async with Watched(place) as journal, anyio.create_task_group() as group:
        for run_id in place.order.runs:
            group.start_soon(go, journal, run_id)
    return max(ends)


def watched_connect(place: Place, connect: Callable[..., sqlite3.Connection]) -> Callable[..., sqlite3.Connection]:
    def connect_watched(*arguments: Any, **settings: Any) -> sqlite3.Connection:
        place.point("open")
        connection = connect(*arguments, **settings)
        connection.set_trace_callback(lambda statement: place.point(f"sql {statement.split(maxsplit=1)[0]}"))
        return connection

    return connect_watched


def process(order: Order, meet: Callable[[], None]) -> None:
    """What a forked process does; it does not return."""
    status: int = FAILED
    try:
        place = Place(order, meet)
        place.point("start")
        if order.most_bytes is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (order.most_bytes, resource.RLIM_INFINITY))
        with patch("sqlite3.connect", watched_connect(place, sqlite3.connect)):
            status = anyio.run(do, place, backend=order.backend)
        place.point("closed")
    finally:
        if status == FAILED:
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]  # there is one
        sys.stderr.flush()
        os._exit(status)


def meeting(ready: tuple[int, int], go: tuple[int, int]) -> None:
    """Wait until everybody is here."""
    os.write(ready[1], b".")
    os.close(go[1])
    os.read(go[0], 1)


def carry_out(order: Order) -> list[int]:
    """Fork, kill, and wait; the exit statuses."""
    ready, go = os.pipe(), os.pipe()
    meet = partial(meeting, ready, go) if order.processes > 1 else lambda: None
    pids: list[int] = []
    for _ in range(order.processes):
        pid = os.fork()
        if pid == 0:
            process(order, meet)
        pids.append(pid)
    os.close(ready[1])
    if order.processes > 1:
        for _ in pids:
            os.read(ready[0], 1)
    for end in (ready[0], *go):
        os.close(end)
    if order.after is not None:
        time.sleep(order.after)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def main() -> None:
    # What is made once is made before there are children.
    dump_record(RunBegan("x"))
    with TemporaryDirectory() as folder:
        agent(Place(Order(folder, []), lambda: None)).grammar.lark()
    for line in sys.stdin:
        answer = carry_out(Order(**json.loads(line)))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def as_line(order: Order) -> str:
    return json.dumps(asdict(order)) + "\n"


if __name__ == "__main__":
    main()
