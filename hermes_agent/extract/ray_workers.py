"""What runs in the processes of Ray: the windows of rows on their way out, and the workers that settle them.

No module of Ray is imported before the engine does it.
"""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from itertools import count
from typing import TYPE_CHECKING, Any, cast

from hermes_agent.errors import ConfigurationError, HermesError
from hermes_agent.extract.row import Row, Settled

if TYPE_CHECKING:
    from hermes_agent.extract.extractor import Extractor

__all__ = ["Answer", "Feed", "Worker", "portable", "window_source"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker makes of a window.

    Attributes:
        settled: Its rows; not all of them if there is an ``error``.
        seconds: How long the worker had it.
        error: What ends the job.
        deaths: So many workers have died with it, and this one has not touched it.
    """

    settled: list[Settled]
    seconds: float = 0.0
    error: Exception | None = None
    deaths: int = 0


class Feed:
    """An actor that hands windows out by their numbers, as often as they are asked for until they are settled."""

    def __init__(self) -> None:
        self._windows: dict[int, bytes | None] = {}
        self._begun: Counter[int] = Counter()
        self._low = 0
        self._end: int | None = None
        self._changed = asyncio.Event()

    async def put(self, number: int, window: bytes) -> None:
        """A window."""
        self._windows[number] = window
        self._wake()

    async def begin(self, number: int) -> int:
        """How often a worker has begun with a window before."""
        self._begun[number] += 1
        return self._begun[number] - 1

    async def drop(self, number: int) -> None:
        """Forget a window: it is settled."""
        self._begun.pop(number, None)
        self._windows[number] = None
        while self._windows.get(self._low, b"") is None:
            del self._windows[self._low]
            self._low += 1

    async def close(self, end: int) -> None:
        """There are so many windows."""
        self._end = end
        self._wake()

    async def get(self, number: int) -> bytes | None:
        """A window, waited for: empty if it is settled already, ``None`` behind the last."""
        while number >= self._low and number not in self._windows and number != self._end:
            await self._changed.wait()
        return None if number == self._end else self._windows.get(number) or b""

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def window_source(feed: Any) -> Any:
    """A source for ``ray.data.read_datasource``: each block is a window of the feed.

    One task reads it from beginning to end. Ray may run that task again: the blocks are the same then, except for those
    that nobody needs any more.
    """
    # By name: neither has types that would say anything here.
    pa: Any = import_module("pyarrow")
    ray: Any = import_module("ray")
    data: Any = import_module("ray.data")
    block: Any = import_module("ray.data.block")
    schema = pa.schema([("number", pa.int64()), ("window", pa.binary())])

    def read() -> Iterator[Any]:
        for number in count():
            window: bytes | None = ray.get(feed.get.remote(number))
            if window is None:
                return
            yield pa.table({"number": [number], "window": [window]}, schema=schema)

    def name(_source: object) -> str:
        return "Rows"

    def size(_source: object) -> None:
        return None

    def tasks(_source: object, _parallelism: int, *_: object, **__: object) -> list[Any]:
        metadata = block.BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [data.ReadTask(read, metadata)]

    named = {"get_name": name, "estimate_inmemory_data_size": size, "get_read_tasks": tasks}
    return type("Windows", (data.Datasource,), named)()


class Worker:
    """Settles windows, several at a time, with one model that it loads once.

    Args:
        packed: The extractor, by Ray's pickle.
        feed: The actor that the windows come from.
        tries: A window that so many workers have begun with is given back.
    """

    def __init__(self, packed: bytes, feed: Any, tries: int) -> None:
        self._packed, self._feed, self._tries = packed, feed, tries
        self._loop = asyncio.new_event_loop()
        self._bench: _Bench | None = None
        # A daemon: a process that Ray ends waits for no row.
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Settle the windows of a batch, which comes from one of several threads."""
        numbers = [int(number) for number in batch["number"]]
        answers = [
            self._window(number, window) for number, window in zip(numbers, batch["window"], strict=True) if window
        ]
        return {"number": numbers[: len(answers)], "answer": [pickle.dumps(answer) for answer in answers]}

    def _window(self, number: int, window: bytes) -> Answer:
        ray: Any = import_module("ray")
        deaths: int = ray.get(self._feed.begin.remote(number))
        if deaths >= self._tries:
            return Answer([], deaths=deaths)
        return asyncio.run_coroutine_threadsafe(self._answer(pickle.loads(window)), self._loop).result()

    async def _answer(self, rows: list[Row]) -> Answer:
        began = time.monotonic()
        try:
            if self._bench is None:
                self._bench = _Bench(_unpacked(self._packed))
            window = await self._bench.settle(rows)
        except Exception as error:  # noqa: BLE001  # it travels, and is raised by the engine
            return Answer([], time.monotonic() - began, portable(error))
        ended = None if window.error is None else portable(window.error)
        return Answer(window.settled, time.monotonic() - began, ended)


@dataclass(slots=True)
class _Window:
    """A window that is being settled."""

    open: int
    settled: list[Settled] = field(default_factory=list[Settled])
    error: Exception | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)


class _Bench:
    """Rows of several windows, side by side as in a local job, so that none waits for the last row of another."""

    def __init__(self, extractor: Extractor[Any]) -> None:
        from hermes_agent.extract.engine import LocalEngine

        self._extractor, self._engine = extractor, LocalEngine()
        self._rows: deque[Row] = deque()
        self._windows: dict[int, _Window] = {}
        self._going: asyncio.Task[None] | None = None

    async def settle(self, rows: list[Row]) -> _Window:
        window = _Window(len(rows))
        self._windows.update((row.position, window) for row in rows)
        self._rows.extend(rows)
        if self._going is None:
            self._going = asyncio.create_task(self._go())
        await window.done.wait()
        return window

    async def _go(self) -> None:
        error: Exception | None = None
        try:
            while self._rows:
                await self._engine.run(self._extractor, _Shared(self._rows), self._settled)
        except Exception as failure:  # noqa: BLE001  # every window that is open tells it
            error = failure
        self._going = None
        self._rows.clear()
        left, self._windows = self._windows, {}
        for window in left.values():
            window.error = error
            window.done.set()

    def _settled(self, row: Settled) -> None:
        window = self._windows.pop(row.position)
        window.settled.append(row)
        window.open -= 1
        if not window.open:
            window.done.set()


class _Shared(Iterator[Row]):
    """The rows that wait; it may go on after it has ended."""

    def __init__(self, rows: deque[Row]) -> None:
        self._rows = rows

    def __next__(self) -> Row:
        if not self._rows:
            raise StopIteration
        return self._rows.popleft()


def _unpacked(packed: bytes) -> Extractor[Any]:
    try:
        extractor: Extractor[Any] = pickle.loads(packed)  # the engine wrote it
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"a worker cannot load the extractor: {type(error).__name__}: {error}",
            hint="install the same packages on every machine, or bring your code along with "
            'ray.init(runtime_env={"working_dir": "."}) before the job',
        ) from error
    return extractor


def portable(error: Exception) -> Exception:
    """The same error without what may not be able to travel."""
    inner: BaseException = error
    while isinstance(inner, BaseExceptionGroup):
        inner = cast("BaseExceptionGroup[BaseException]", inner).exceptions[0]
    if isinstance(inner, HermesError):
        return _made_again(type(inner), inner)
    return HermesError(f"a worker failed: {type(inner).__name__}: {inner}", hint='see whether engine="local" does')


def _made_again(kind: Callable[..., Exception], error: HermesError) -> Exception:
    return kind(error.message, hint=error.hint, raw=error.raw)
