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
from typing import TypeVar, cast

import sniffio

__all__ = ["in_thread", "loop_caller"]

T = TypeVar("T")

_IDLE_SECONDS = 30.0


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
    loop = asyncio.get_running_loop()
    done: asyncio.Future[tuple[T | None, BaseException | None]] = loop.create_future()
    context = contextvars.copy_context()
    context.run(sniffio.current_async_library_cvar.set, None)  # no event loop runs over there

    def work() -> Callable[[], None]:
        value, error = None, None
        try:
            value = context.run(function)
        except BaseException as raised:  # noqa: BLE001  # raised again where it is awaited
            error = raised

        def tell() -> None:
            if not done.done():
                done.set_result((value, error))

        def post() -> None:
            try:
                loop.call_soon_threadsafe(tell)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return

        return post

    worker = _idle.pop() if _idle else _Worker()
    worker.jobs.put(work)
    value, error = await done
    if error is not None:
        try:
            raise error
        finally:
            del error  # else its traceback, which holds this frame, would keep itself alive
    return cast("T", value)


def loop_caller() -> Callable[[Callable[[], None]], None]:
    """What calls a function on the running loop from any thread, soon; it does nothing once the loop has ended."""
    if sniffio.current_async_library() == "trio":
        import trio

        token = trio.lowlevel.current_trio_token()

        def trio_soon(function: Callable[[], None]) -> None:
            try:
                token.run_sync_soon(function)
            except trio.RunFinishedError:
                return

        return trio_soon

    loop = asyncio.get_running_loop()

    def asyncio_soon(function: Callable[[], None]) -> None:
        try:
            loop.call_soon_threadsafe(function)
        except RuntimeError:  # the loop is closed
            return

    return asyncio_soon


class _Worker:
    """A thread that runs one job after the other and ends when none has come for a while."""

    def __init__(self) -> None:
        self.jobs: queue.SimpleQueue[Callable[[], Callable[[], None]]] = queue.SimpleQueue()
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
            post = job()
            del job  # a thread that waits must not keep the last call's objects alive
            _idle.append(self)  # before the news of the result, so that the next call finds it
            post()
            del post


_idle: list[_Worker] = []
if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_idle.clear)  # threads do not survive one
