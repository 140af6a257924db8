"""The SQLite file below a job: held by one process at a time, told apart from other files, its troubles in words."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from weakref import WeakSet

from hermes_agent.errors import JobError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["Hold", "create", "explain", "is_state", "open_file"]

_APPLICATION = 0x48535831
"""SQLite's application id: what makes a database the state of a job."""

_VERSION = 1
_BUSY_SECONDS = 30.0


class Hold:
    """What keeps other processes from running the same job, until it is released or the process is dead.

    It is a lock of the operating system on a file beside, not on the database: there, SQLite's own locks would meet
    it. The file goes with the lock; one that a killed process left behind holds nobody up.

    Raises:
        JobError: Another process runs the job, or the file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(path.name + "-lock")
        try:
            self._handle = self._taken()
        except FileNotFoundError as error:
            raise JobError(
                f"{str(path)!r} cannot be made: its folder does not exist", hint=f"make the folder {str(path.parent)!r}"
            ) from error
        except OSError as error:
            raise JobError(
                f"{str(path)!r} cannot be written: {error}",
                hint="name a file in a folder on a local disk that may be written",
            ) from error
        _holds.add(self)

    def _taken(self) -> int:
        while True:
            handle = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o666)
            try:
                self._lock(handle)
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(handle), self._path.stat()):
                        os.ftruncate(handle, 0)
                        os.pwrite(handle, str(os.getpid()).encode(), 0) if hasattr(os, "pwrite") else None
                        return handle
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)  # its holder has removed it meanwhile

    def _lock(self, handle: int) -> None:
        try:
            if sys.platform == "win32":
                msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            pid = os.read(handle, 20).decode("ascii", "replace") if sys.platform != "win32" else ""
            raise JobError(
                f"another process{f' (pid {pid})' if pid else ''} is running this job: it holds {str(self._path)!r}",
                hint="let it finish, or end it; then this one goes on from where it was",
            ) from error

    def release(self) -> None:
        """Let others run the job. Releasing twice does nothing."""
        handle, self._handle = self._handle, -1
        if handle < 0:
            return
        if sys.platform != "win32":  # first, else the next holder's file could be the one that goes
            self._path.unlink(missing_ok=True)
        os.close(handle)

    def drop(self) -> None:
        """In a forked process: what it inherited must not outlive the process that holds the job."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)


_holds: WeakSet[Hold] = WeakSet()


def _after_fork_in_child() -> None:
    for hold in list(_holds):
        hold.drop()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork_in_child)


def is_state(path: Path) -> bool:
    """Whether a file is the state of a job, where one that is not there or empty is not one yet.

    The file is read as bytes: SQLite would tidy up a database that somebody else's process has left behind.

    Raises:
        JobError: It is something else, or of a later version.
    """
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except FileNotFoundError:
        return False
    except IsADirectoryError as error:
        raise JobError(f"{str(path)!r} is a folder", hint="name a file") from error
    except OSError as error:
        raise JobError(
            f"{str(path)!r} cannot be read: {error}", hint="name a file that may be read and written"
        ) from error
    if not head:
        return False
    application, version = int.from_bytes(head[68:72], "big"), int.from_bytes(head[60:64], "big")
    if not head.startswith(b"SQLite format 3\0") or application != _APPLICATION:
        raise JobError(
            f"{str(path)!r} is not the state of a job; it was left as it is",
            hint="move it away, or give the output another name",
        )
    if version > _VERSION:
        raise JobError(
            f"{str(path)!r} has version {version!r}, and this hermes_agent reads up to {_VERSION!r}",
            hint="use the hermes_agent that wrote it, or a newer one",
        )
    return True


def create(path: Path, schema: Sequence[str]) -> None:
    """Make a new file; it is there as a whole or not at all."""
    part = path.with_name(path.name + "-part")
    for left in (part, *_beside(part)):
        left.unlink(missing_ok=True)
    connection = sqlite3.connect(part, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("BEGIN")
        for statement in (*schema, f"PRAGMA application_id = {_APPLICATION}", f"PRAGMA user_version = {_VERSION}"):
            connection.execute(statement)
        connection.execute("COMMIT")
    finally:
        connection.close()
    for left in _beside(path):  # of a file that somebody removed; they would be read as part of the new one
        left.unlink(missing_ok=True)
    part.replace(path)


def _beside(path: Path) -> tuple[Path, ...]:
    return tuple(path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal"))


def open_file(path: Path) -> sqlite3.Connection:
    """Open a file that is there, to be read by others while it is written."""
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL").fetchone()
        # What is handed to the operating system outlives this process; a row is not worth a wait for the disk.
        connection.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        connection.close()
        raise
    return connection


def explain(path: Path, error: BaseException) -> JobError:
    """What an error of SQLite or of the operating system means for a job."""
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    name = repr(str(path))
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR) or (isinstance(error, OSError) and not code):
        problem = JobError(
            f"{name} cannot be written: {error}",
            hint="make room on its disk and run again: what was settled before is safe, and is not asked again",
        )
    elif code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        problem = JobError(f"{name} is damaged: {error}", hint="restore it from a copy, or begin anew")
    elif code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
        problem = JobError(f"{name} cannot be written: {error}", hint="name a file and a folder that may be written")
    elif code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        problem = JobError(
            f"{name} was locked by another process for more than {_BUSY_SECONDS:g} seconds",
            hint="others may read it while the job runs, but not write to it",
        )
    else:
        problem = JobError(f"{name} cannot be used: {type(error).__name__}: {error}", hint="look at the file")
    problem.__cause__ = error
    return problem
