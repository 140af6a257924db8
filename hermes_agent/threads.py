"""Where ``def`` tools run, worker threads that are kept for the next call; and the way back from there to the loop.

anyio's own hand-over waits twice for a round of the event loop before the function starts, which cost more than all
the rest of a turn. On trio, whose threads are cheap already, it is used as it is.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import os
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

import sniffio

__all__ = ["in_thread", "loop_caller"]

T = TypeVar("T")

_IDLE_SECONDS = 30.0
_GLANCE_SECONDS = 50e-6
"""How long the event loop may stand still to see whether a quick function has ended: no longer than one callback of its
own takes. It spares such a function two rounds of the loop, a third of what the hand-over costs."""

_here = threading.local()
"""Of a worker thread: whether the function that it runs has spoken to the loop, which its result must not overtake."""


async def in_thread(function: Callable[[], T]) -> T:
    """What a function returns, or raises, when it is called in a worker thread with the caller's context variables.

    When the caller is cancelled it goes on at once: the thread is left to finish, what comes of it is dropped, and
    the process may end before it does.
    """
    if sniffio.current_async_library() != "asyncio":
        from anyio import CapacityLimiter
        from anyio.to_thread import run_sync

        # One that bounds nothing: forty threads that hang would keep every other function from being run at all.
        limiter = CapacityLimiter(math.inf)
        # Boxed, because trio refuses to carry a bare coroutine out of a thread.
        (result,) = await run_sync(lambda: (function(),), abandon_on_cancel=True, limiter=limiter)
        return result
    job = _Job(function)
    try:
        worker = _idle.pop()
    except IndexError:  # looking first would be too early: event loops in other threads take from there too
        worker = _Worker()
    worker.jobs.put(job)
    value, error = await job.result()
    if error is not None:
        try:
            raise error
        finally:
            del error  # else its traceback, which holds this frame, would keep itself alive
    return cast("T", value)


class _Job:
    """A function on its way through a thread.

    The caller looks for the result, then says that it waits, and looks again; the thread puts the result there, and
    then looks whether somebody waits. So one of the two always sees the other.
    """

    __slots__ = ("_context", "_done", "_ended", "_function", "_loop", "_spoke", "_waiting")

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._context.run(sniffio.current_async_library_cvar.set, None)  # no event loop runs over there
        self._ended = threading.Lock()
        self._ended.acquire()
        self._spoke = False
        self._done: tuple[Any, BaseException | None] | None = None
        self._waiting: asyncio.Future[None] | None = None

    def run(self) -> None:
        """Run the function; its result is there when this returns."""
        value, error = None, None
        _here.spoke = False
        try:
            value = self._context.run(self._function)
        except BaseException as raised:  # noqa: BLE001  # raised again where it is awaited
            error = raised
        self._spoke = _here.spoke
        self._done = value, error

    def tell(self) -> None:
        """Tell whoever waits that the result is there."""
        self._ended.release()
        if self._waiting is not None:
            try:
                self._loop.call_soon_threadsafe(_wake, self._waiting)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return

    async def result(self) -> tuple[Any, BaseException | None]:
        """What the function returned, or raised."""
        if not self._ended.acquire(timeout=_GLANCE_SECONDS):
            self._waiting = self._loop.create_future()
            if self._done is None:
                await self._waiting
                return self._result()
        await asyncio.sleep(0)  # whatever the function has put on the loop comes first
        if self._spoke:
            await asyncio.sleep(0)  # and whoever that has woken
        return self._result()

    def _result(self) -> tuple[Any, BaseException | None]:
        assert self._done is not None  # it has ended
        return self._done


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


def loop_caller() -> Callable[[Callable[[], None]], bool]:
    """What calls a function on the running loop from any thread, soon; ``False`` once the loop has ended."""
    if sniffio.current_async_library() == "trio":
        import trio

        token = trio.lowlevel.current_trio_token()

        def trio_soon(function: Callable[[], None]) -> bool:
            try:
                token.run_sync_soon(function)
            except trio.RunFinishedError:
                return False
            return True

        return trio_soon

    loop = asyncio.get_running_loop()

    def asyncio_soon(function: Callable[[], None]) -> bool:
        _here.spoke = True
        try:
            loop.call_soon_threadsafe(function)
        except RuntimeError:  # the loop is closed
            return False
        return True

    return asyncio_soon


class _Worker:
    """A thread that runs one job after the other and ends when none has come for a while."""

    def __init__(self) -> None:
        self.jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="hermes_agent tool", daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                job = self.jobs.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                try:
                    _idle.remove(self)
                except ValueError:  # somebody has just taken it, and is about to bring a job
                    continue
                return
            job.run()
            _idle.append(self)  # before the news of the result, so that the next call finds it
            job.tell()
            del job  # a thread that waits must not keep the last call's objects alive


_idle: list[_Worker] = []
if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_idle.clear)  # threads do not survive one
