"""Runs an agent until it is killed: ``python -m tests.kill_program``, told what to do by lines of JSON on its stdin.

For each `Order` it forks processes, which spares them the imports, and answers with their exit statuses. What such a
process does is left in a folder: the journal, the side effects of the tools, and the points it came by.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sqlite3
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import anyio

from hermes_agent.errors import RunPaused
from hermes_agent.journal import Journal, JournalError
from hermes_agent.pause import PausedRun
from hermes_agent.record import Record, RunBegan, dump_record
from tests.killed_runs import ERRORS, HISTORY, PROMPT, RUNS, Order, Place, agent, settled

ENDED, WAITS, FAILED, REFUSED = 0, 3, 1, 4
"""What a process exits with: its runs have ended; some wait for a word; something else; the journal said no."""


class Watched(Journal):
    """A journal that says what it is about to do, and what it has done."""

    def __init__(self, place: Place) -> None:
        super().__init__(place.order.journal or place.folder / RUNS, sync=place.order.sync)
        self._place, self._met = place, False

    async def append(self, run_id: str, at: int, record: Record, *, writer: object | None = None) -> None:
        what = f"{record.kind}{' inside' if '/' in run_id else ''}"
        self._place.point(f"write {what}")
        if not self._met:
            self._met = True
            self._place.meet()
        await super().append(run_id, at, record, writer=writer)
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
            traceback.print_exc()
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
    for backend in ("_asyncio", "_trio"):
        importlib.import_module(f"anyio._backends.{backend}")
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
