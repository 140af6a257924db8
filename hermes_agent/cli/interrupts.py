"""Making a Ctrl-C take effect whenever it comes.

Python only notes that a signal came, and acts on it between two of its own instructions. Who blocks in the C library
meanwhile is woken if the signal comes while he blocks; one that comes an instant before is noted, and then nothing
wakes him. So something has to.
"""

from __future__ import annotations

import signal
import socket
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

__all__ = ["noticed_by_loop", "noticed_while_reading"]

_TICK_SECONDS = 0.1


@contextmanager
def noticed_while_reading() -> Generator[None]:
    """Inside, a signal is acted on within a tenth of a second, though ``input`` or a ``read`` blocks.

    A timer interrupts the blocking call again and again: there is no call that unblocks a signal and reads in one
    step. The alarm signal is ours meanwhile, and afterwards whose it was.
    """
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield  # the console of Windows waits for both; other threads get no signals
        return
    handler = signal.signal(signal.SIGALRM, _ignore)
    timer = signal.setitimer(signal.ITIMER_REAL, _TICK_SECONDS, _TICK_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler)


@contextmanager
def noticed_by_loop() -> Generator[None]:
    """Inside, a signal wakes the running event loop of asyncio, which else sleeps on until something else happens."""
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield  # asyncio does it itself on Windows; other threads get no signals
        return
    import asyncio

    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        there.setblocking(False)
        loop.add_reader(here, here.recv, 4096)
        earlier = signal.set_wakeup_fd(there.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(earlier)
            loop.remove_reader(here)


def _ignore(signum: int, frame: FrameType | None) -> None:
    """Being called at all is what the signal is for."""
