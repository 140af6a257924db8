"""Who may go now: one at a time, so many at once, so many a minute."""

from __future__ import annotations

import threading
import time
from collections import deque

import anyio
from anyio.lowlevel import RunVar

__all__ = ["Gate", "LoopLock", "Pace"]


class LoopLock:
    """Lets one task of an event loop through at a time: what is asked once is not asked by all that want to know."""

    def __init__(self) -> None:
        self._locks: RunVar[anyio.Lock | None] = RunVar("lock", None)

    def lock(self) -> anyio.Lock:
        """That of the running loop."""
        found = self._locks.get()
        if found is None:
            found = anyio.Lock()
            self._locks.set(found)
        return found


class Gate:
    """Lets so many tasks of an event loop through at once, first come, first served."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._gates: RunVar[anyio.Semaphore | None] = RunVar("gate", None)

    def slot(self) -> anyio.Semaphore:
        """That of the running loop: a semaphore, as another task may close a generator."""
        gate = self._gates.get()
        if gate is None:
            gate = anyio.Semaphore(self._most)
            self._gates.set(gate)
        return gate


class Pace:
    """Lets at most ``most`` begin within any 60 seconds; each takes its place in the row, whatever loop it is in."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._begun: deque[float] = deque(maxlen=most)
        self._lock = threading.Lock()

    async def wait(self) -> None:
        """Wait for the next place."""
        with self._lock:
            now = time.monotonic()
            at = max(now, self._begun[0] + 60) if len(self._begun) == self._most else now
            self._begun.append(at)
        await anyio.sleep(at - now)
