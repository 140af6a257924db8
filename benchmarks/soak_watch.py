"""What is left behind: threads, files, tasks, memory, objects, and whatever complains."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import sys
import threading
import tracemalloc
import types
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import sniffio

from hermes_agent import journal, threads

__all__ = [
    "File",
    "Left",
    "Workers",
    "complaints",
    "files_open",
    "files_since",
    "left",
    "objects",
    "resident",
    "return_freed_memory",
    "tasks_alive",
    "threads_since",
]

T = TypeVar("T")

_M_MMAP_THRESHOLD = -3  # of malloc.h


@dataclass(frozen=True, slots=True)
class Left:
    """What there is while no run is under way.

    Attributes:
        rss: Bytes of the process in memory; 0 where the system does not say.
        traced: Bytes of Python objects, as tracemalloc counts them; 0 where it is off.
        objects: Objects that the garbage collector knows.
        ours: Those of them that are instances of this package's classes, generators, coroutines or frames.
        tasks: Tasks of the event loop.
        files: Open file descriptors that were not there before; 0 where the system does not say.
        disk: Bytes of the journal's files.
    """

    rss: int
    traced: int
    objects: int
    ours: int
    tasks: int
    files: int
    disk: int


def left(journal_path: Path, files_before: Collection[File] = ()) -> Left:
    """Look at it now, after a full collection."""
    for _ in range(3):
        gc.collect()
    kinds = objects()
    return Left(
        resident(),
        tracemalloc.get_traced_memory()[0] if tracemalloc.is_tracing() else 0,
        len(gc.get_objects()),
        sum(kinds.values()),
        tasks_alive(),
        len(files_since(files_before)),
        sum(path.stat().st_size for path in journal_path.parent.glob(f"{journal_path.name}*")),
    )


_RUNNING = (types.CoroutineType, types.AsyncGeneratorType, types.GeneratorType)


def objects() -> Counter[str]:
    """Objects of this package's classes, and whatever can be running, by type."""
    counts: Counter[str] = Counter()
    for item in gc.get_objects():
        kind = type(item)  # not isinstance: a mock or a proxy may say anything of itself
        if kind in _RUNNING:
            counts[f"{kind.__name__} {item.__qualname__}"] += 1
        elif str(module := kind.__module__).startswith("hermes_agent") and module != "hermes_agent.threads":  # idle
            counts[f"{module}.{kind.__qualname__}"] += 1
    return counts


def return_freed_memory() -> None:
    """Have glibc give large blocks back as they are freed.

    Else it raises the size from which it does so to that of what is freed, and then the heap of every thread keeps a
    huge result or two: bounded, but by far more than what this is to show.
    """
    with suppress(OSError, AttributeError, TypeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1 << 20)


def resident() -> int:
    """Bytes of the process in memory; 0 where the system does not say."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):  # not Linux
        return 0


File = tuple[int, int, int]
"""An open file: its descriptor, and the device and number of what is behind it, as a descriptor is given out again."""


def files_open() -> frozenset[File]:
    """Open files of this process."""
    found: set[File] = set()
    with suppress(OSError):  # Windows has no such folder
        for name in os.listdir("/dev/fd"):  # noqa: PTH208  # names, which are numbers
            with suppress(OSError):  # the folder itself was open while it was listed
                behind = os.fstat(int(name))
                found.add((int(name), behind.st_dev, behind.st_ino))
    return frozenset(found)


def files_since(before: Collection[File]) -> list[File]:
    """Open files of this process that were not there before; those that were may be closed at any time."""
    return sorted(files_open().difference(before))


def tasks_alive() -> int:
    """Tasks of the running event loop, ours and its own; 0 where none runs."""
    try:
        library = sniffio.current_async_library()
    except sniffio.AsyncLibraryNotFoundError:
        return 0
    if library == "trio":
        import trio

        return trio.lowlevel.current_statistics().tasks_living
    return len(asyncio.all_tasks())


def threads_since(before: Collection[threading.Thread]) -> list[threading.Thread]:
    """Threads of this process that were not there before; those that were may end at any time."""
    return [thread for thread in threading.enumerate() if thread not in before]


class Workers:
    """Counts what is handed to worker threads, and the threads.

    Attributes:
        busy: Functions that run, those included whose callers have left.
        most: The most there ever were, those included that were about to begin.
        most_threads: The most threads that there were when a function began.
    """

    def __init__(self) -> None:
        self.busy = self.most = self.most_threads = 0
        self._lock = threading.Lock()

    async def run(self, hand_over: Callable[[Callable[[], T]], Any], function: Callable[[], T]) -> T:
        """Hand a function over, and count it until it has ended or is known never to begin."""
        begun = counted_out = False

        def counted() -> T:
            nonlocal begun
            with self._lock:
                begun = True
                self.busy += counted_out
                self.most_threads = max(self.most_threads, threading.active_count())
            try:
                return function()
            finally:
                self._count(-1)

        self._count(1)
        try:
            result: T = await hand_over(counted)
        except BaseException:
            with self._lock:
                if not begun:  # and, on trio, perhaps it never will
                    counted_out = True
                    self.busy -= 1
            raise
        return result

    def _count(self, change: int) -> None:
        with self._lock:
            self.busy += change
            self.most = max(self.most, self.busy)

    @contextmanager
    def watched(self, idle_seconds: float) -> Generator[None]:
        """Count while this is open; idle threads end sooner than they would."""
        counted = partial(self.run, threads.in_thread)
        with ExitStack() as stack:
            for module in (threads, journal):  # whoever else needs it takes it from there as it is called
                stack.enter_context(patch.object(module, "in_thread", counted))
            stack.enter_context(patch.object(threads, "_IDLE_SECONDS", idle_seconds))
            if (cache := sys.modules.get("trio._core._thread_cache")) is not None:
                stack.enter_context(patch.object(cache, "IDLE_TIMEOUT", idle_seconds))
            yield


@contextmanager
def complaints() -> Generator[list[str]]:
    """What Python, the event loops and the log have to complain of while this is open: each as a line."""
    found: list[str] = []
    log = logging.Handler(logging.WARNING)
    log.emit = lambda record: found.append(f"log of {record.name}: {record.getMessage()}")  # type: ignore[method-assign]  # one line

    def unraisable(what: Any) -> None:
        found.append(f"unraisable: {what.exc_value!r} in {what.object!r}")

    def in_thread(what: Any) -> None:
        found.append(f"in thread {what.thread}: {what.exc_value!r}")

    with (
        warnings.catch_warnings(record=True) as warned,
        patch.object(sys, "unraisablehook", unraisable),
        patch.object(threading, "excepthook", in_thread),
    ):
        warnings.simplefilter("always")
        names = ("asyncio", "trio", "hermes_agent")
        for name in names:
            logging.getLogger(name).addHandler(log)
        try:
            yield found
        finally:
            for name in names:
                logging.getLogger(name).removeHandler(log)
            found += [f"{warning.category.__name__}: {warning.message}" for warning in warned]
