"""Progress of a tool, told at once from any thread, sent in order by the loop."""

from __future__ import annotations

import math
import threading
from collections.abc import Awaitable
from typing import Protocol

import anyio

from hermes_agent.threads import loop_caller

__all__ = ["Reports"]

_BUFFER = 1000


class _Send(Protocol):
    def __call__(self, progress: float, total: float | None, message: str | None) -> Awaitable[None]: ...


class Reports:
    """Takes reports of one call, and sends them while `send` runs.

    The protocol wants every number to be above the one before; a tool that gives none, or the same one again, has
    its reports counted on in steps that do not matter.

    Args:
        send: Sends one of them.
    """

    def __init__(self, send: _Send) -> None:
        self._send = send
        self._put, self._take = anyio.create_memory_object_stream[tuple[str, float | None, float | None]](_BUFFER)
        self._thread = threading.get_ident()
        self._soon = loop_caller()
        self._last = 0.0

    def report(self, message: str, done: float | None = None, total: float | None = None) -> None:
        """Take a report, from the loop or from a thread, without waiting."""
        if threading.get_ident() == self._thread:
            self._keep(message, done, total)
        else:
            self._soon(lambda: self._keep(message, done, total))

    def _keep(self, message: str, done: float | None, total: float | None) -> None:
        try:
            self._put.send_nowait((message, done, total))
        except (anyio.WouldBlock, anyio.ClosedResourceError, anyio.BrokenResourceError):
            return  # a client that does not read, or the call is over: nobody misses it

    def end(self) -> None:
        """Let `send` come to its end once all is sent; what is reported from here on is dropped."""
        self._put.close()

    async def send(self) -> None:
        """Send what comes, until `end`."""
        with self._put, self._take:
            async for message, done, total in self._take:
                await self._send(self._number(done), total, message)

    def _number(self, done: float | None) -> float:
        wanted = math.floor(self._last) + 1.0 if done is None else float(done)
        self._last = wanted if wanted > self._last else math.nextafter(self._last, math.inf)
        return self._last
