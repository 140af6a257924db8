"""A job: every row of an input, once, whatever happens to the process meanwhile."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import anyio

from hermes_agent.errors import ConfigurationError, JobError
from hermes_agent.extract.engine import Engine, LocalEngine
from hermes_agent.extract.outputs import Writer, open_output, state_path
from hermes_agent.extract.progress import shown_rate
from hermes_agent.extract.row import Row, Settled, Upcoming
from hermes_agent.extract.state import JobState
from hermes_agent.limits import Usage

if TYPE_CHECKING:
    from hermes_agent.extract.extractor import Extractor
    from hermes_agent.extract.progress import Progress

__all__ = ["Job", "JobSummary"]

_BATCH = 500
_SECONDS = 0.05
"""A row is on disk so long after it was settled at most; where rows are slower than that, it is there at once."""

_ANEW = "begin anew with resume=False (--restart)"


@dataclass(frozen=True, slots=True)
class JobSummary:
    """What a job came to.

    Attributes:
        out: Where the rows are.
        rows: Rows settled, over all runs of the job.
        failed: Those of them without a valid value.
        already: Those that were settled before this run began, and were not asked again.
        seconds: What this run took.
        usage: Tokens of this run.
        causes: Failed rows by the type of their error, over all runs.
    """

    out: Path
    rows: int
    failed: int
    already: int
    seconds: float
    usage: Usage
    causes: Mapping[str, int] = field(default_factory=dict[str, int])

    def __str__(self) -> str:
        done = self.rows - self.already
        rate = done / self.seconds if self.seconds else 0.0
        causes = ", ".join(f"{count} {name}" for name, count in self.causes.items())
        return (
            f"{self.rows} rows in {str(self.out)!r}, {self.failed} failed{f' ({causes})' if causes else ''}; "
            f"{done} of them now, in {self.seconds:.1f} s ({shown_rate(rate)} rows/s), "
            f"{self.usage.input_tokens} tokens read and {self.usage.output_tokens} written"
        )


def _another_row(row: Row, failed: bool) -> JobError:
    then = "failed" if failed else "was settled"
    anew = "have it asked again as it is now with retry=True (--retry)" if failed else _ANEW
    return JobError(
        f"row {row.position} of the input, {row.id!r}, is another one than when it {then}",
        hint=f"bring the input back as it was, or {anew}",
    )


class Job:
    """One run of a job.

    Args:
        extractor: Takes the values out of the texts.
        rows: The input, in an order that is the same each time.
        out: The output.
        engine: Works through the rows.
        resume: Go on where an earlier run was left; ``False`` begins anew and forgets it.
        on_change: What to do when schema, prompt or model are others than those of the earlier run.
        retry: Ask for failed rows of earlier runs again.
        progress: Is told of settled rows.
    """

    def __init__(
        self,
        extractor: Extractor[Any],
        rows: Iterable[Row],
        out: Path,
        *,
        engine: Engine | None = None,
        resume: bool = True,
        on_change: Literal["refuse", "restart"] = "refuse",
        retry: bool = False,
        progress: Progress | None = None,
    ) -> None:
        if on_change not in ("refuse", "restart"):
            raise ConfigurationError(f"on_change={on_change!r} is not known", hint='use "refuse" or "restart"')
        self._extractor, self._rows, self._out = extractor, rows, out
        self._engine = LocalEngine() if engine is None else engine
        self._resume, self._retry = resume, retry
        self._on_change: Literal["refuse", "restart"] = on_change
        self._progress = progress
        self._ready: list[Settled] = []
        self._flushed = 0.0
        self._usage = Usage()
        self._broken = False
        self._asked_again = 0

    async def run(self) -> JobSummary:
        """Settle every row that is not settled yet.

        Raises:
            JobError: Schema, prompt, model or input have changed; the output is somebody else's; another process
                runs the job; the disk is full. What is settled is kept.
            ModelError: The model cannot be had, or fails for row after row. What is settled is kept.
            ConfigurationError: The output's suffix is not known.
        """
        began = time.monotonic()
        facts = {
            "fingerprint": self._extractor.fingerprint,
            "model": self._extractor.model.name,
            "output": self._extractor.output.name,
        }
        path = state_path(self._out)
        with JobState.open(path, facts=facts, on_change=self._on_change, resume=self._resume) as state:
            self._state, self._writer = state, open_output(self._out, state)
            already = state.counts().rows
            if self._progress is not None:
                self._progress.begin(already - (state.counts().failed if self._retry else 0))
            complete = False
            try:
                await self._work()
                complete = True
            finally:  # a Ctrl-C or an error leaves everything in order as well
                self._end(self._writer, complete=complete)
            counts = state.counts()
        return JobSummary(
            self._out,
            counts.rows,
            counts.failed,
            min(already, counts.rows) - self._asked_again,
            time.monotonic() - began,
            self._usage,
            dict(counts.failures),
        )

    async def _work(self) -> None:
        self._flushed = time.monotonic()
        errors: list[Exception] = []

        async def carried(work: Callable[[], Awaitable[None]]) -> None:
            try:
                await work()
            except Exception as error:  # noqa: BLE001  # raised again, past the task group that would wrap it
                errors.append(error)
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(carried, self._keep_flushing)
            await carried(lambda: self._engine.run(self._extractor, self._upcoming(), self._settled))
        if errors:
            raise errors[0]

    def _upcoming(self) -> Iterator[Row]:
        ready: Callable[[], Awaitable[None]] | None = getattr(self._rows, "ready", None)
        return self._unsettled() if ready is None else Upcoming(self._unsettled(), ready)

    def _unsettled(self) -> Iterator[Row]:
        """The rows that are to be asked for; what is settled comes in the same order, so nothing is kept of it.

        Raises:
            JobError: A row is another one than when it was settled, or is gone.
        """
        known = self._state.settled_positions()
        last: tuple[int, bytes, bool] | None = next(known, None)
        row: Row | None = None
        for row in self._rows:
            while last is not None and last[0] < row.position:
                last = next(known, None)
            if last is None or last[0] != row.position:
                yield row
                continue
            _, digest, failed = last
            if failed and self._retry:  # as it is now: it may have been put right
                self._asked_again += 1
                yield row
            elif digest != row.digest:
                raise _another_row(row, failed)
        end = -1 if row is None else row.position
        while last is not None and last[0] <= end:
            last = next(known, None)
        if last is not None:
            raise JobError(
                f"the input has {end + 1} rows, and row {last[0]} is settled already",
                hint=f"bring the input back as it was, or {_ANEW}",
            )

    def _settled(self, row: Settled) -> None:
        self._ready.append(row)
        if len(self._ready) >= _BATCH or time.monotonic() - self._flushed >= _SECONDS:
            self._flush()

    async def _keep_flushing(self) -> None:
        """Rows that came soon after others are not kept waiting for the next ones."""
        while True:
            await anyio.sleep(_SECONDS)
            if self._ready and time.monotonic() - self._flushed >= _SECONDS:
                self._flush()

    def _flush(self) -> None:
        ready, self._ready = self._ready, []
        try:
            self._state.add(ready)
            self._writer.advance()
        except JobError:
            self._broken = True
            raise
        self._flushed = time.monotonic()
        read, written = sum(row.input_tokens for row in ready), sum(row.output_tokens for row in ready)
        self._usage += Usage(read, written)
        if self._progress is not None:
            self._progress.advance(len(ready), sum(row.failed for row in ready), read, written)

    def _end(self, writer: Writer, *, complete: bool) -> None:
        """Write what is left; after an error of the disk there is nothing more to try."""
        try:
            if not self._broken:
                if self._ready:
                    self._flush()
                writer.finish(complete)
        finally:
            if self._progress is not None:
                self._progress.close()
