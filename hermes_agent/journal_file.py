"""The SQLite file below a journal: its transactions, and in words what can be wrong with it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

from hermes_agent.journal_rows import SCHEMA

if TYPE_CHECKING:
    import sqlite3

__all__ = ["Explanation", "JournalFile"]

T = TypeVar("T")

_APPLICATION = 0x48534A31
"""SQLite's application id: what makes a database a journal of ours."""

_VERSION = 1

_CLOSE_SECONDS = 5.0

_creating = threading.Lock()


class Explanation(NamedTuple):
    """What is wrong with a file, as the rest of a sentence that begins with its name, and what to do."""

    what: str
    hint: str


class _UnfitError(Exception):
    """The file cannot be used, for a reason of ours."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.explanation = Explanation(what, hint)


class JournalFile:
    """One connection, opened when it is first needed. Everything but ``close`` is called by the holder of ``lock``."""

    def __init__(self, path: Path, *, sync: Literal["full", "normal"], busy_seconds: float) -> None:
        self.lock = threading.Lock()
        self._path, self._sync, self._busy_seconds = path, sync, busy_seconds
        self._connection: sqlite3.Connection | None = None
        self._inode = (0, 0)

    def connection(self) -> sqlite3.Connection:
        """The open connection.

        Raises:
            sqlite3.Error, OSError, _UnfitError: It cannot be opened; see `explain`.
        """
        if self._connection is None:
            with _creating:
                self._connection = self._open()
        try:
            found = os.stat(self._path)  # noqa: PTH116  # a microsecond for each record matters
        except FileNotFoundError:
            found = None
        if found is None or (found.st_dev, found.st_ino) != self._inode:
            raise _UnfitError("was removed or replaced while it was open", "leave the file in its place")
        return self._connection

    def write(self, action: Callable[[sqlite3.Connection], T]) -> T:
        """Do something in one transaction, which is on disk when this returns, or not there at all when it raises."""
        connection = self.connection()
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = action(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # a full disk has ended it already
                connection.execute("ROLLBACK")
            raise
        return result

    def close(self) -> None:
        """Close the connection, if there is one and nobody is stuck in it."""
        if not self.lock.acquire(timeout=_CLOSE_SECONDS):
            return
        try:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()
        finally:
            self.lock.release()

    def _open(self) -> sqlite3.Connection:
        import sqlite3

        if self._path.is_dir():
            raise _UnfitError("is a folder", "name a file")
        with suppress(FileExistsError):
            # Only where there is no file yet: closing a second handle of an open database drops this process's locks.
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        connection = sqlite3.connect(
            self._path, timeout=self._busy_seconds, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        found = self._path.stat()
        self._inode = (found.st_dev, found.st_ino)
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN")  # one look: another process may be making it a journal just now
        try:
            made = self._is_journal(connection)
        finally:
            if connection.in_transaction:  # as below
                connection.execute("ROLLBACK")
        if not made:
            connection.execute("BEGIN IMMEDIATE")
            try:
                if not self._is_journal(connection):  # nobody was faster
                    for statement in (
                        *SCHEMA,
                        f"PRAGMA application_id = {_APPLICATION}",
                        f"PRAGMA user_version = {_VERSION}",
                    ):
                        connection.execute(statement)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        self._to_wal(connection)
        connection.execute(f"PRAGMA synchronous = {self._sync}")
        connection.execute("PRAGMA secure_delete = ON")

    @staticmethod
    def _is_journal(connection: sqlite3.Connection) -> bool:
        """Whether it is one, where an empty file is not one yet.

        Raises:
            _UnfitError: It is something else, or of a version that we do not know.
        """
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application == _APPLICATION:
            if version > _VERSION:
                raise _UnfitError(
                    f"has version {version!r}, and this hermes_agent reads up to {_VERSION!r}",
                    "use the hermes_agent that wrote it, or a newer one",
                )
            return True
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application or version or tables:
            raise _UnfitError("is a database of something else", "name a file that is a journal, or that is not there")
        return False

    def _to_wal(self, connection: sqlite3.Connection) -> None:
        """One file write and one flush a record, and readers beside the writer."""
        import sqlite3

        until = time.monotonic() + self._busy_seconds
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL").fetchone()
            except sqlite3.OperationalError as error:
                # The one statement that does not wait for others by itself.
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                time.sleep(0.005)
            else:
                return

    def explain(self, error: BaseException) -> Explanation:
        """What an error of this file means."""
        import sqlite3

        if isinstance(error, _UnfitError):
            return error.explanation
        if isinstance(error, PermissionError):
            return Explanation(f"cannot be written: {error}", "name a file and a folder that may be written")
        folder = self._path.parent
        if not folder.is_dir():
            return Explanation("cannot be opened: its folder does not exist", f"make the folder {str(folder)!r}")
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if code == sqlite3.SQLITE_NOTADB:
            return Explanation("is not a database", "name a file that is a journal, or that is not there")
        if code == sqlite3.SQLITE_CORRUPT:
            return Explanation(f"is damaged: {error}", "restore it from a copy, or begin a new one")
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
            return Explanation(f"cannot be written: {error}", "name a file and a folder that may be written")
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return Explanation(
                f"was locked by another process for more than {self._busy_seconds:g} seconds",
                "end what holds it, or raise busy_seconds",
            )
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            return Explanation(
                f"cannot be written: {error}",
                "make room on its disk; what was written before is safe, and the run may be resumed",
            )
        return Explanation(f"cannot be used: {type(error).__name__}: {error}", "look at the file")


def _after_fork_in_child() -> None:
    global _creating  # whoever held it is not in this process
    _creating = threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork_in_child)
