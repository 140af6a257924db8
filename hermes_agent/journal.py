"""A file that runs are written to as they go, so that one whose process died goes on where it was.

It is an SQLite database: a table of runs, and one of their records. A record is on disk when `Journal.append` returns,
and the records of a run are there without gaps, in order, whatever happened to the process that wrote them.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TypeVar
from weakref import WeakKeyDictionary, WeakSet, finalize

from hermes_agent import journal_rows
from hermes_agent.errors import ConfigurationError, HermesError
from hermes_agent.journal_file import JournalFile
from hermes_agent.journal_rows import Entry, JournalError, RunState, RunSummary
from hermes_agent.record import Record
from hermes_agent.threads import in_thread

if TYPE_CHECKING:
    import sqlite3
    from typing import Self

__all__ = ["Journal", "JournalError", "RunState", "RunSummary"]

T = TypeVar("T")

_RECENT = 5


class Journal:
    """Records of runs, in one file, written by any number of tasks, event loops and processes.

    Everything a run is made of stands in it as it is: prompts, histories, thoughts, arguments and results, secrets
    included. The file is created readable by its owner alone; keep it so. Beside it stand ``-wal`` and ``-shm`` files
    while it is open. It belongs on a local disk: SQLite's locks do not hold on most network drives.

    Nothing is opened before the journal is used. It may be pickled, and used on in a forked process: each process
    opens the file for itself.

    Args:
        path: The file; it is created when the first record is written. Its folder must exist.
        sync: ``"full"`` waits with every record until the disk has it, power cuts included. ``"normal"`` leaves that
            to the operating system: the death of the process loses nothing, a power cut may lose the last records.
        busy_seconds: How long to wait for another process that is writing.

    Example:
        >>> import tempfile, anyio
        >>> from hermes_agent.record import RunBegan
        >>> async def main(file):
        ...     async with Journal(file) as journal:
        ...         await journal.append("run-1", 0, RunBegan("Hello"))
        ...         return journal.runs()[0].state
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     anyio.run(main, f"{folder}/runs.db")
        'open'
    """

    def __init__(
        self, path: str | os.PathLike[str], *, sync: Literal["full", "normal"] = "full", busy_seconds: float = 30.0
    ) -> None:
        if sync not in ("full", "normal"):
            raise ConfigurationError(f"sync={sync!r} is no way to write", hint='use "full" or "normal"')
        if not busy_seconds >= 0:
            raise ConfigurationError(f"busy_seconds={busy_seconds!r} is no time", hint="use 0 or more")
        # What follows chdir is the same file, and a file called ":memory:" is a file.
        self.path = Path(path).absolute()
        self._sync: Literal["full", "normal"] = sync
        self._busy_seconds = busy_seconds
        self._waiting: deque[Entry] = deque()
        self._refused: WeakKeyDictionary[object, JournalError] = WeakKeyDictionary()
        """Writers of whom a record was refused, and why: what they have under way belongs behind that record."""
        self._closed = False
        self._file, self._finalizer = self._unopened()
        _journals.add(self)

    def __repr__(self) -> str:
        return f"Journal({str(self.path)!r})"

    def __reduce__(self) -> tuple[Callable[..., Journal], tuple[str]]:
        return partial(Journal, sync=self._sync, busy_seconds=self._busy_seconds), (str(self.path),)

    def _unopened(self) -> tuple[JournalFile, finalize[[], Self]]:
        file = JournalFile(self.path, sync=self._sync, busy_seconds=self._busy_seconds)
        return file, finalize(self, file.close)

    def after_fork(self) -> None:
        """Start anew in a child process, where an inherited connection must neither be used nor closed."""
        self._finalizer.detach()
        _inherited.append(self._file)
        self._waiting.clear()  # the parent writes these
        self._file, self._finalizer = self._unopened()

    # Writing

    async def append(self, run_id: str, at: int, record: Record, *, writer: object | None = None) -> None:
        """Write the next record of a run. It is on disk when this returns.

        Records are written in the order of the calls, also when several tasks append at once. Where the caller is
        cancelled, the record is there or it is not.

        Args:
            run_id: The run.
            at: The index of the record in its run: how many there are before it.
            record: The record.
            writer: Who goes on with the run, where several of its records are under way at once: when one is refused,
                so are all that the same object brings behind it. Any object that can be weakly referenced.

        Raises:
            JournalError: The file cannot be written; or the run has another number of records, because another
                process goes on with it.
            ConfigurationError: The record holds something that is not JSON, or ``run_id`` is no id.
        """
        entry = Entry.of(run_id, at, record, writer)
        self._check_open()
        self._waiting.append(entry)
        try:
            await in_thread(self._write_waiting)
        except BaseException:
            with suppress(ValueError):  # somebody is writing it
                self._waiting.remove(entry)
            raise
        if entry.error is not None:
            raise entry.error
        if not entry.written:
            raise JournalError(
                f"record {at} of run {run_id!r} may not have reached {str(self.path)!r}: its writer was interrupted",
                hint="resume the run",
            )

    def _write_waiting(self) -> None:
        """Write everything that waits, in one transaction; whoever comes second finds his record written."""
        with self._file.lock:
            entries: list[Entry] = []
            with suppress(IndexError):
                while True:
                    entries.append(self._waiting.popleft())
            if not entries:
                return
            try:
                self._file.write(partial(self._insert, entries))
                for entry in entries:
                    entry.written = True
            except BaseException as error:
                for entry in entries:
                    # One each: an exception that several tasks raise collects the tracebacks of all.
                    self._refuse(entry, entry.error or self._problem(error))
                if not isinstance(error, Exception):
                    raise

    def _insert(self, entries: Sequence[Entry], connection: sqlite3.Connection) -> None:
        import sqlite3

        for entry in entries:
            if entry.writer is not None and (refused := self._refused.get(entry.writer)) is not None:
                entry.error = copy(refused)
                continue
            try:
                there = journal_rows.insert(connection, entry)
            except (sqlite3.DataError, OverflowError) as error:  # too long for SQLite: a matter of this one alone
                self._refuse(entry, self._problem(error))
                continue
            if there is not None:
                self._refuse(entry, self._out_of_turn(entry, there))

    def _refuse(self, entry: Entry, error: JournalError) -> None:
        entry.error = error
        if entry.writer is not None:
            # A copy that nobody raises: a traceback would hold the writer, and with it its place in here.
            self._refused.setdefault(entry.writer, copy(error))

    def _out_of_turn(self, entry: Entry, there: int) -> JournalError:
        if entry.at < there:
            return JournalError(
                f"another process goes on with run {entry.run_id!r}: its record {entry.at} is in {str(self.path)!r} "
                "already",
                hint="let that process finish; a run has one history",
            )
        return JournalError(
            f"record {entry.at} of run {entry.run_id!r} cannot be written to {str(self.path)!r}, which holds {there} "
            "of those before it",
            hint="somebody deleted the run, or an earlier record could not be written",
        )

    # Reading

    def records(self, run_id: str) -> list[Record]:
        """What was written of a run, oldest first.

        Raises:
            JournalError: There is no such run, or the file cannot be read.
        """
        nothing: list[Record] = []
        found = self._in_turn(lambda connection: list(journal_rows.read(connection, run_id)), nothing)
        if not found:
            raise self._unknown(run_id)
        return found

    def count(self, run_id: str) -> int:
        """How many records a run has; 0 if there is no such run.

        Raises:
            JournalError: The file cannot be read.
        """
        return self._in_turn(partial(journal_rows.count, run_id=run_id), 0)

    def nested(self, run_id: str) -> list[str]:
        """The ids of the runs inside of a run, at any depth, in the order in which they began.

        Raises:
            JournalError: The file cannot be read.
        """
        nothing: list[str] = []
        return self._in_turn(lambda connection: journal_rows.read_nested(connection, run_id), nothing)

    def runs(self, *, nested: bool = False, limit: int | None = None) -> list[RunSummary]:
        """What runs there are, the latest first.

        Args:
            nested: Tell runs of agents inside of tools as well.
            limit: How many at most.

        Raises:
            JournalError: The file cannot be read.
        """
        nothing: list[RunSummary] = []
        return self._in_turn(partial(journal_rows.summaries, nested=nested, limit=limit), nothing)

    def delete(self, run_id: str) -> None:
        """Remove a run and those inside of it; their texts are overwritten in the file.

        Raises:
            JournalError: There is no such run, or the file cannot be written.
        """
        removed = self._in_turn(lambda connection: journal_rows.delete(connection, run_id), 0, writing=True)
        if not removed:
            raise self._unknown(run_id)

    def _in_turn(self, action: Callable[[sqlite3.Connection], T], nothing: T, *, writing: bool = False) -> T:
        self._check_open()
        self._write_waiting()  # what was appended before is there
        with self._file.lock:
            if not self.path.exists():  # asking does not make a file
                return nothing
            try:
                return self._file.write(action) if writing else action(self._file.connection())
            except HermesError:
                raise
            except Exception as error:
                raise self._problem(error) from error

    def _unknown(self, run_id: str) -> JournalError:
        recent = ", ".join(repr(run.run_id) for run in self.runs(limit=_RECENT))
        return JournalError(
            f"there is no run {run_id!r} in {str(self.path)!r}",
            hint=f"the latest runs are {recent}" if recent else "there is no run in it",
        )

    def _problem(self, error: BaseException) -> JournalError:
        """What went wrong with the file, in words, with its path."""
        what = self._file.explain(error)
        problem = JournalError(f"the journal {str(self.path)!r} {what.what}", hint=what.hint)
        problem.__cause__ = error
        return problem

    # The end

    def _check_open(self) -> None:
        if self._closed:
            raise JournalError(f"the journal {str(self.path)!r} is closed", hint="open another Journal of that path")

    def close(self) -> None:
        """Write what waits, and close the file. A closed journal cannot be used again; closing twice does nothing."""
        if self._closed:
            return
        self._write_waiting()
        self._closed = True
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        from anyio import CancelScope

        with CancelScope(shield=True):
            await in_thread(self.close)


_journals: WeakSet[Journal] = WeakSet()
_inherited: list[JournalFile] = []
"""Connections of the parent process: closing one here could end what the parent has under way."""


def _after_fork_in_child() -> None:
    for journal in list(_journals):
        journal.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork_in_child)
