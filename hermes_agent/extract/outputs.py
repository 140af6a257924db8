"""Where a job's results go: JSONL, Parquet and SQLite, written from its state in the order of the input.

The state is the truth, and an output can be written from it again at any time. So an output that lacks something is
completed; but one that holds something else than the state would have written there is somebody else's, and is left
alone.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from hermes_agent.errors import ConfigurationError, JobError

if TYPE_CHECKING:
    from hermes_agent.extract.state import JobState

__all__ = ["Writer", "open_output", "state_path"]

_JSONL = (".jsonl", ".ndjson")
_PARQUET = (".parquet", ".pq")
_SQLITE = (".sqlite", ".sqlite3", ".db")


class Writer(ABC):
    """Writes an output from the state of its job. It holds nothing open between its calls."""

    def __init__(self, out: Path, state: JobState) -> None:
        self.out, self.state = out, state

    @abstractmethod
    def check(self) -> None:
        """See that what is there is this job's, and mend what a killed process has left unfinished.

        Raises:
            JobError: Somebody else has written there, or it cannot be read or written.
        """

    @abstractmethod
    def advance(self) -> None:
        """Write what can be written by now.

        Raises:
            JobError: Somebody else has written there, or it cannot be written. The rows are safe in the state.
        """

    @abstractmethod
    def finish(self, complete: bool) -> None:
        """Write what is left.

        Args:
            complete: Every row of the input is settled. Otherwise the job will be gone on with.

        Raises:
            JobError: Somebody else has written there, or it cannot be written. The rows are safe in the state.
        """


class SqliteWriter(Writer):
    """The state itself, where ``rows`` is what the other outputs hold."""

    def check(self) -> None:
        """There is nothing to see: `JobState.open` has."""

    def advance(self) -> None:
        """What is settled is written."""

    def finish(self, complete: bool) -> None:
        """Leave one file, if nobody reads it just now."""
        self.state.checkpoint()


def _kind(out: Path) -> str:
    suffix = out.suffix.lower()
    if suffix in (*_JSONL, *_PARQUET, *_SQLITE):
        return suffix
    known = ", ".join((*_JSONL, *_PARQUET, *_SQLITE))
    raise ConfigurationError(f"{str(out)!r} is no kind of output that is known", hint=f"use one of {known}")


def state_path(out: Path) -> Path:
    """Where the state of a job with such an output is: beside it, or in it.

    Raises:
        ConfigurationError: The suffix of ``out`` is not known, or what it needs is not installed.
    """
    out = out.resolve()
    kind = _kind(out)
    if kind in _PARQUET:
        from hermes_agent.extract.output_parquet import pyarrow

        pyarrow()
    return out if kind in _SQLITE else out.with_name(out.name + ".job")


def open_output(out: Path, state: JobState) -> Writer:
    """The output of a job, by its suffix, checked.

    Args:
        out: The file. What it links to is written.
        state: The state of the job, at `state_path`.

    Raises:
        ConfigurationError: The suffix is not known, or what it needs is not installed.
        JobError: There is something that this job has not written, or it cannot be written.
    """
    out = out.resolve()
    kind = _kind(out)
    writer: Writer
    if kind in _SQLITE:
        writer = SqliteWriter(out, state)
    elif kind in _PARQUET:
        from hermes_agent.extract.output_parquet import ParquetWriter

        writer = ParquetWriter(out, state)
    else:
        from hermes_agent.extract.output_jsonl import JsonlWriter

        writer = JsonlWriter(out, state)
    try:
        if out.exists() and not out.is_file():
            raise JobError(f"{str(out)!r} is {'a folder' if out.is_dir() else 'no file'}", hint="name a file")
        writer.check()
    except BaseException:
        state.withdraw()
        raise
    return writer


def foreign(out: Path, state: JobState) -> JobError:
    """There is an output that was not written, or not only written, by the job."""
    if state.counts().rows:
        return JobError(
            f"{str(out)!r} was changed by somebody else since this job wrote it; it was left as it is",
            hint=f"nothing is lost: move it away and run again, and it is written anew from {str(state.path)!r}",
        )
    return JobError(
        f"{str(out)!r} is there already, and was not written by this job; it was left as it is",
        hint='move it away, name another output, or have it overwritten: on_change="restart", --restart',
    )


def unwritten(out: Path, state: JobState, error: OSError) -> JobError:
    """The output cannot be written."""
    return JobError(
        f"{str(out)!r} cannot be written: {error}",
        hint=f"what is settled is safe in {str(state.path)!r}; put that right and run again",
    )


def replace_with(part: Path, out: Path) -> None:
    """Put a finished file in the place of the output, with its permissions."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    if out.exists():
        part.chmod(out.stat().st_mode & 0o7777)
    part.replace(out)


def part_of(out: Path) -> Path:
    """Where a new version of the output is written."""
    return out.with_name(out.name + ".job-new")
