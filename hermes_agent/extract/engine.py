"""What works through the rows of a job: here, side by side on one event loop."""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Literal, Protocol

import anyio

from hermes_agent.errors import (
    ConfigurationError,
    ContextLengthError,
    GuaranteeError,
    HermesError,
    ModelError,
    ModelUnavailableError,
)
from hermes_agent.extract.extractor import Extractor
from hermes_agent.extract.pace import Pace
from hermes_agent.extract.result import Extraction
from hermes_agent.extract.row import Row, Settled, Upcoming
from hermes_agent.limits import NOTHING
from hermes_agent.output import OutputError

__all__ = ["Engine", "LocalEngine", "by_length", "engine_of", "settle", "unreadable"]

_logger = logging.getLogger("hermes_agent.extract")

_DEFAULT_MOST = 64
_FAILURES_IN_A_ROW = 50
_RESTS = (1.0, 30.0)
"""Seconds before a row is asked again that a server was too busy for: at first, and at most."""
_DOUBTS = 3
"""Rows that may go unanswered before any was answered; then it is not for them that the model does not answer."""
_PATIENCE = 600.0
"""Seconds that a server may be too busy for any row; quotas are mostly of a minute."""
_SORTED_BATCHES = 4
"""Batches of rows that are read ahead and sorted."""


class Engine(Protocol):
    """What works through rows."""

    async def run(self, extractor: Extractor[Any], rows: Iterator[Row], settled: Callable[[Settled], None]) -> None:
        """Settle every row, in any order; a row with a ``problem`` is settled without asking the model.

        Raises:
            ModelUnavailableError: No row can be settled any more.
        """
        ...


class LocalEngine:
    """Rows side by side in this process.

    Args:
        concurrency: Rows at once; ``None`` follows the model, see `hermes_agent.extract.pace.Pace`.
    """

    def __init__(self, concurrency: int | None = None) -> None:
        self.concurrency = concurrency

    async def run(self, extractor: Extractor[Any], rows: Iterator[Row], settled: Callable[[Settled], None]) -> None:
        """Settle every row."""
        await _Going(extractor, rows, settled, self.concurrency).run()


def engine_of(engine: Literal["local", "ray"] | Engine, concurrency: int | None) -> Engine:
    """The engine that a user has named.

    Raises:
        ConfigurationError: There is no such engine, or ``concurrency`` allows nothing.
    """
    if concurrency is not None and concurrency < 1:
        raise ConfigurationError(f"concurrency={concurrency!r} allows no row", hint="use 1 or more, or None")
    if engine == "local":
        return LocalEngine(concurrency)
    if engine == "ray":
        from hermes_agent.extract.ray_engine import RayEngine

        return RayEngine(concurrency)
    if isinstance(engine, str):
        raise ConfigurationError(f"engine={engine!r} is not known", hint='use "local" or "ray"')
    return engine


def by_length(rows: Iterator[Row], window: int) -> Iterator[Row]:
    """Rows in windows, in each the longest text first: those that are written together are about as long."""
    fault: Exception | None = None
    while fault is None:
        ahead: list[Row] = []
        try:
            ahead.extend(islice(rows, window))  # what was read before a fault of the input stays in it
        except Exception as error:  # noqa: BLE001  # raised again behind the rows that came before it
            fault = error
        if not ahead:
            break
        yield from sorted(ahead, key=lambda row: len(row.text), reverse=True)
    if fault is not None:
        raise fault


class _Going:
    """One pass over the rows."""

    def __init__(
        self,
        extractor: Extractor[Any],
        rows: Iterator[Row],
        settled: Callable[[Settled], None],
        concurrency: int | None,
    ) -> None:
        self._extractor, self._settled = extractor, settled
        self._model = model = extractor.model
        size = int(getattr(model, "batch_size", 0))
        self._ready = rows.ready if isinstance(rows, Upcoming) else None
        self._turn = anyio.Lock()
        # What may have to be waited for is not waited for in windows.
        self._rows = by_length(rows, _SORTED_BATCHES * size) if size > 1 and self._ready is None else rows
        most, start = int(getattr(model, "max_in_flight", _DEFAULT_MOST)), 4
        if size:  # a model on this machine: as many rows as it writes together, and as many that are ready to follow
            most = start = 2 * size
        if concurrency is not None:
            most = start = concurrency
        self._pace = Pace(most, start=start)
        self._workers = 0
        self._failures = 0
        self._answered = time.monotonic()
        self._good: str | None = None
        """A text that the model has answered."""
        self._doubtful: list[Row] = []
        """Rows that were not answered before any was."""
        self._doubts = 0

    async def run(self) -> None:
        # What ends a job is carried past the task group, which would wrap it.
        ended: list[Exception] = []

        async def work() -> None:
            try:
                await self._work(lambda: group.start_soon(work))
            except Exception as error:  # noqa: BLE001  # raised again below
                ended.append(error)
                group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            self._workers = 1
            group.start_soon(work)
        if ended:
            raise ended[0]

    async def _work(self, start: Callable[[], object]) -> None:
        """One worker; it starts another while there is room, and leaves when there are too many."""
        while self._workers <= self._pace.bound:
            row = await self._next()
            if row is None and self._doubtful:
                row = self._doubtful.pop()
            if row is None:
                break
            if self._workers < self._pace.bound:
                self._workers += 1
                start()
            await self._one(row)
        self._workers -= 1

    async def _next(self) -> Row | None:
        if self._ready is not None:
            async with self._turn:  # one waits, or two would be told of the same row
                await self._ready()
                return next(self._rows, None)
        return next(self._rows, None)

    async def _one(self, row: Row) -> None:
        if row.problem:
            self._settled(unreadable(row))
            return
        rest, most = _RESTS
        while True:
            began, before = time.monotonic(), self._turned_away()
            found = await self._extracted(row.text)
            now = time.monotonic()
            self._pace.settled(now - began, now, self._turned_away())
            if not (isinstance(found.error, ModelUnavailableError) and self._turned_away() > before):
                break
            if now - self._answered > _PATIENCE:
                break
            _logger.info("row %r is asked again in %.0f s: %s", row.id, rest, found.error.message)
            await anyio.sleep(rest * random.uniform(0.5, 1))
            rest = min(2 * rest, most)
        self._answered = now
        if found.error is None:
            self._good = row.text
        if isinstance(found.error, ModelUnavailableError) and not await self._is_for(row, found.error):
            return
        self._check(found)
        self._settled(settle(self._extractor, row, found))

    async def _is_for(self, row: Row, error: ModelUnavailableError) -> bool:
        """Whether it is for this row that the model does not answer, as with a server that fails over some text.

        Raises:
            ModelUnavailableError: It answers nothing any more.
        """
        if self._good is not None:
            again = await self._extracted(self._good)
            if not isinstance(again.error, ModelUnavailableError):
                return True
        elif error.raw and self._doubts < _DOUBTS - 1:  # a server's words: it is there
            self._doubts += 1
            self._doubtful.append(row)  # asked again when others were
            return False
        raise error

    def _turned_away(self) -> int:
        return int(getattr(self._model, "turned_away", 0))

    async def _extracted(self, text: str) -> Extraction[Any]:
        try:
            return await self._extractor.extract_async(text, on_error="return")
        except HermesError:
            raise
        except Exception as error:  # noqa: BLE001  # such as a validator's own: it costs this row
            unexpected = HermesError(f"{type(error).__name__}: {error}")
            unexpected.__cause__ = error
            return Extraction(None, unexpected, NOTHING, None, 0)

    def _check(self, found: Extraction[Any]) -> None:
        """Whether it is worth going on.

        Raises:
            ModelError: It is not: the row is left for the next try.
        """
        error = found.error
        if isinstance(error, GuaranteeError):
            raise error
        broken = type(error) is HermesError or isinstance(error, ModelError)
        self._failures = self._failures + 1 if broken and not isinstance(error, ContextLengthError) else 0
        if self._failures >= _FAILURES_IN_A_ROW:
            raise ModelError(
                f"{self._failures} rows in a row have failed for another reason than their answers; last: {error}",
                hint="mend that, and run the same job again with retry=True (--retry)",
            ) from error


def settle(extractor: Extractor[Any], row: Row, found: Extraction[Any]) -> Settled:
    """What stands in the output for a row."""
    used = found.usage.input_tokens, found.usage.output_tokens
    error = found.error
    if error is not None:
        kind = type(error if type(error) is not HermesError else error.__cause__ or error).__name__
        line = _error_line(row.id, kind, error.message, error.raw, error.attempts)
        return Settled(row.position, row.digest, line, True, *used)
    try:
        written = extractor.output.serialise(found.output)
    except OutputError as failed:  # such as a float that is no number, which pydantic reads out of a string
        line = _error_line(row.id, "OutputError", str(failed), repr(found.output), ())
        return Settled(row.position, row.digest, line, True, *used)
    evidence = f', "evidence": {json.dumps(found.evidence)}' if found.evidence else ""
    line = f'{{"id": {_dumps(row.id)}, "output": {written}{evidence}}}'
    return Settled(row.position, row.digest, _writable(line), False, *used)


def unreadable(row: Row) -> Settled:
    """What stands in the output for a row that holds no text."""
    return Settled(row.position, row.digest, _error_line(row.id, "InputError", row.problem, row.text, ()), True)


def _error_line(name: str | int, kind: str, message: str, raw: str, attempts: Iterable[str]) -> str:
    error = {"type": kind, "message": message, "raw": raw, "attempts": [*attempts]}
    return _writable(f'{{"id": {_dumps(name)}, "error": {_dumps(error)}}}')


_dumps = json.JSONEncoder(ensure_ascii=False).encode  # made once: dumps() would make one for each row


def _writable(line: str) -> str:
    """The same JSON as it can stand in a UTF-8 file: a half of a surrogate pair has to be escaped."""
    try:
        line.encode()
    except UnicodeEncodeError:
        return json.dumps(json.loads(line))
    return line
