"""What is settled of a job, durable: one SQLite file that a killed process leaves whole."""

from __future__ import annotations

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TypeVar, cast
from weakref import WeakSet

from hermes_agent.errors import JobError
from hermes_agent.extract.row import Settled
from hermes_agent.extract.state_file import Hold, create, explain, is_state, open_file
from hermes_agent.json_text import sound

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Counts", "JobState"]

T = TypeVar("T")

COLUMNS = "id, line -> '$.output' AS output, line -> '$.error' AS error, line -> '$.evidence' AS evidence"
"""A row's line taken apart, in SQL: all but ``id`` are JSON text, or NULL where the line has no such key."""

_SCHEMA = (
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    # `failure` is the type of the error, and NULL in a row that has its value.
    "CREATE TABLE settled (position INTEGER PRIMARY KEY, digest BLOB NOT NULL, id TEXT NOT NULL, failure TEXT, "
    "line TEXT NOT NULL)",
    # Lines that others have taken the place of; an output may hold them still.
    "CREATE TABLE replaced (position INTEGER NOT NULL, line TEXT NOT NULL)",
    "CREATE INDEX replaced_position ON replaced (position)",
    f"CREATE VIEW rows AS SELECT position, {COLUMNS} FROM settled",
)

_INSERT = "INSERT OR IGNORE INTO settled (position, digest, id, failure, line) VALUES (?, ?, ?, ?, ?)"
_PAGE = 1000
_DECODER = json.JSONDecoder()

_FACTS = {
    "fingerprint": "another schema, prompt, thinking, sampling or evidence",
}
"""How to say that a fact is another one, where its value tells a reader nothing."""

_SqlRow = tuple[int, bytes, str, str | None, str]


@dataclass(frozen=True, slots=True)
class Counts:
    """A job so far.

    Attributes:
        rows: Rows settled, the failed ones among them.
        failed: Rows without a valid value.
        input_tokens: Tokens read, those for failed rows that were asked again included.
        output_tokens: Tokens written, likewise.
        failures: How many rows have failed, by the type of the error.
        changes: How often something was added.
    """

    rows: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    failures: Mapping[str, int] = field(default_factory=dict[str, int])
    changes: int = 0


class JobState:
    """The rows of a job that are settled. `open` opens it; one process has it at a time, and one thread uses it.

    What `add` has added is there after the death of the process. A power cut may take the last batches.

    Attributes:
        path: The file.
        anew: It was begun just now, or begun again because of ``on_change="restart"`` or ``resume=False``.
        may_overwrite: ``on_change="restart"`` was given.
    """

    def __init__(self, path: Path, hold: Hold, connection: sqlite3.Connection, *, may_overwrite: bool) -> None:
        self.path = path
        self.anew = False
        self.may_overwrite = may_overwrite
        self._hold = hold
        self._connection: sqlite3.Connection | None = connection
        self._counts = self._uncommitted = Counts()
        self._made = self._withdrawn = False
        _states.add(self)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        facts: Mapping[str, str],
        on_change: Literal["refuse", "restart"] = "refuse",
        resume: bool = True,
    ) -> JobState:
        """Open the state of a job, or begin one.

        Args:
            path: The file; its folder exists.
            facts: What the rows depend on besides their texts, by name.
            on_change: What to do when another value of a fact is recorded: refuse, or forget every row and begin anew.
            resume: ``False`` begins anew in any case.

        Raises:
            JobError: Another process runs the job; the file is something else; a fact has changed; or the file cannot
                be written.
        """
        path = path.resolve()
        is_state(path)  # before anything is made beside a file of somebody else's
        hold = Hold(path)
        try:
            made = not is_state(path)
            if made:
                _explained(path, lambda: create(path, _SCHEMA))
            connection = _explained(path, lambda: open_file(path))
        except BaseException:
            hold.release()
            raise
        state = cls(path, hold, connection, may_overwrite=on_change == "restart" or not resume)
        state._made = made
        try:
            state._begin({name: sound(value) for name, value in facts.items()}, on_change, resume=resume)
        except BaseException:
            state.close()
            raise
        return state

    def _begin(self, facts: Mapping[str, str], on_change: Literal["refuse", "restart"], *, resume: bool) -> None:
        def begin(connection: sqlite3.Connection) -> None:
            recorded = dict(connection.execute("SELECT name, value FROM facts").fetchall())
            changed = sorted(name for name in recorded.keys() | facts if recorded.get(name) != facts.get(name))
            (begun,) = connection.execute("SELECT EXISTS (SELECT 1 FROM settled)").fetchone()
            unknown = not recorded and not begun  # made just now, or by a process that died then
            self.anew = unknown or not resume or (bool(changed) and on_change == "restart")
            if changed and begun and not self.anew:
                raise self._another_job(changed, recorded, facts)
            for table in ("settled", "replaced", "notes") if self.anew else ():
                connection.execute(f"DELETE FROM {table}")
            if self.anew or changed:  # where nothing is settled, nothing depends on what the facts were
                connection.execute("DELETE FROM facts")
                connection.executemany("INSERT INTO facts (name, value) VALUES (?, ?)", facts.items())

        self._write(begin)
        counted = self.note("counts")
        if counted:
            self._counts = Counts(**json.loads(counted))

    def _another_job(self, changed: Sequence[str], recorded: Mapping[str, str], facts: Mapping[str, str]) -> JobError:
        told = [
            _FACTS.get(name, f"{name} {recorded.get(name)!r}, which is now {facts.get(name)!r}") for name in changed
        ]
        return JobError(
            f"the job in {str(self.path)!r} was begun with {', and with '.join(told)}",
            hint='go on as it was begun, name another output, or forget its rows: on_change="restart", --restart',
        )

    # What is settled

    def settled_positions(self) -> Iterator[tuple[int, bytes, bool]]:
        """Position, digest, and whether it failed, of what is settled now, by position; rows may be added meanwhile."""
        (last,) = self._read("SELECT coalesce(max(position), -1) FROM settled").fetchone()
        at = -1
        while at < last:
            page = self._read(
                "SELECT position, digest, failure IS NOT NULL FROM settled WHERE position > ? AND position <= ? "
                "ORDER BY position LIMIT ?",
                (at, last, _PAGE),
            ).fetchall()
            if not page:
                return
            for position, digest, failed in page:
                yield position, digest, bool(failed)
            at = page[-1][0]

    def lines(self, start: int = 0) -> Iterator[tuple[int, str, bool]]:
        """Position, line, and whether it failed, by position from ``start``; one line is held at a time."""
        question = "SELECT position, line, failure IS NOT NULL FROM settled WHERE position >= ? ORDER BY position"
        rows = cast("Iterator[tuple[int, str, int]]", self.select(question, (start,)))
        return ((position, line, bool(failed)) for position, line, failed in rows)

    def replaced_lines(self, position: int) -> list[str]:
        """The lines that a row had before it was asked again, while an output may hold one of them."""
        return [line for (line,) in self._read("SELECT line FROM replaced WHERE position = ?", (position,))]

    def replaced_from(self) -> int | None:
        """The first position that `replaced_lines` knows of."""
        (first,) = self._read("SELECT min(position) FROM replaced").fetchone()
        return first if first is None else int(first)

    def select(self, question: str, parameters: Sequence[int] = ()) -> Iterator[tuple[object, ...]]:
        """What a question in SQL gives, row by row.

        Raises:
            JobError: The file cannot be read.
        """
        with closing(self._read(question, parameters)) as cursor:
            while True:
                row = _explained(self.path, cursor.fetchone)
                if row is None:
                    return
                yield row

    def counts(self) -> Counts:
        """How far the job is."""
        return self._counts

    def add(self, rows: Sequence[Settled]) -> None:
        """Settle rows, all of them or none.

        A row that is settled already stays as it is, unless it had failed: then the new one takes its place.

        Raises:
            JobError: They cannot be written; what was added before is there.
        """
        if not rows:
            return
        self._write(lambda connection: self._add(connection, rows))

    def _add(self, connection: sqlite3.Connection, rows: Sequence[Settled]) -> None:
        new = [_sql_row(row) for row in rows]
        failures = Counter(self._counts.failures)
        try:
            added = connection.executemany(_INSERT, new).rowcount
        except UnicodeEncodeError:
            connection.execute("ROLLBACK")
            connection.execute("BEGIN IMMEDIATE")
            new = [_encodable(row) for row in new]
            added = connection.executemany(_INSERT, new).rowcount
        if added != len(new):
            # Which ones were there cannot be told any more. It is the way of rows that are asked again, and slower.
            connection.execute("ROLLBACK")
            connection.execute("BEGIN IMMEDIATE")
            added = sum(_settle(connection, row, failures) for row in new)
        else:
            failures.update(row[3] for row in new if row[3] is not None)
        before = self._counts
        counts = Counts(
            before.rows + added,
            failures.total(),
            before.input_tokens + sum(row.input_tokens for row in rows),
            before.output_tokens + sum(row.output_tokens for row in rows),
            {kind: number for kind, number in sorted(failures.items()) if number},
            before.changes + 1,
        )
        _write_note(connection, "counts", json.dumps(_as_dict(counts)))
        self._uncommitted = counts

    # What an output is remembered by

    def note(self, name: str) -> str:
        """Something that was noted of this job; empty if it was not."""
        found = self._read("SELECT value FROM notes WHERE name = ?", (name,)).fetchone()
        return found[0] if found else ""

    def write_note(self, name: str, value: str, *, forget_replaced: bool = False) -> None:
        """Note something, and forget lines that no output holds any more, in one transaction."""

        def write(connection: sqlite3.Connection) -> None:
            if forget_replaced:
                connection.execute("DELETE FROM replaced")
            _write_note(connection, name, value)

        self._write(write)

    def checkpoint(self) -> None:
        """Bring everything into the one file, as far as readers let it."""
        _explained(self.path, lambda: self._open().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone())

    # The file

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise JobError(f"the state of the job, {str(self.path)!r}, is closed", hint="open it again")
        return self._connection

    def _read(self, question: str, parameters: Sequence[int | str] = ()) -> sqlite3.Cursor:
        return _explained(self.path, lambda: self._open().execute(question, parameters))

    def _write(self, action: Callable[[sqlite3.Connection], None]) -> None:
        connection = self._open()
        self._uncommitted = self._counts
        try:
            connection.execute("BEGIN IMMEDIATE")
            action(connection)
            connection.execute("COMMIT")
        except BaseException as error:
            if connection.in_transaction:  # a full disk has ended it already
                connection.execute("ROLLBACK")
            if isinstance(error, (sqlite3.Error, OverflowError)):
                raise explain(self.path, error) from error
            raise
        self._counts = self._uncommitted

    def withdraw(self) -> None:
        """Leave no file behind if this object has made it and nothing was settled: the job has not begun."""
        self._withdrawn = self._made and not self._counts.rows

    def close(self) -> None:
        """Close the file and let others have it. Closing twice does nothing."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        connection.close()
        if self._withdrawn:
            self.path.unlink(missing_ok=True)
        self._hold.release()

    def after_fork(self) -> None:
        """Give it up in a forked process, where an inherited connection must neither be used nor closed."""
        _inherited.append(self._connection)
        self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _explained(path: Path, action: Callable[[], T]) -> T:
    try:
        return action()
    except (sqlite3.Error, OSError) as error:
        raise explain(path, error) from error


def _sql_row(row: Settled) -> _SqlRow:
    line = row.line
    if "\n" in line or "\r" in line:
        raise ValueError(f"row {row.position} has more than one line: {line[:200]!r}")
    return row.position, row.digest, _id_of(line), _failure_of(line) if row.failed else None, line


def _id_of(line: str) -> str:
    """The id in a line, which stands first in those that this package writes."""
    name = str(_DECODER.raw_decode(line, 7)[0] if line.startswith('{"id": ') else json.loads(line)["id"])
    return name if name.isascii() else sound(name)


def _failure_of(line: str) -> str:
    return str(json.loads(line)["error"]["type"])


def _encodable(row: _SqlRow) -> _SqlRow:
    """Half surrogate pairs as JSON's escapes: UTF-8 has none for them, and they stand in strings alone."""
    position, digest, name, failure, line = row
    return (
        position,
        digest,
        name,
        failure,
        "".join(f"\\u{ord(char):04x}" if "\ud800" <= char <= "\udfff" else char for char in line),
    )


def _settle(connection: sqlite3.Connection, row: _SqlRow, failures: Counter[str]) -> bool:
    """Settle one row if it is not yet or had failed; whether there is a row more now."""
    position, digest, name, failure, line = row
    found = connection.execute("SELECT failure, line FROM settled WHERE position = ?", (position,)).fetchone()
    if found is None:
        connection.execute(_INSERT, row)
    elif found[0] is None:
        return False
    else:
        connection.execute("INSERT INTO replaced (position, line) VALUES (?, ?)", (position, found[1]))
        connection.execute(
            "UPDATE settled SET digest = ?, id = ?, failure = ?, line = ? WHERE position = ?",
            (digest, name, failure, line, position),
        )
        failures[found[0]] -= 1
    if failure is not None:
        failures[failure] += 1
    return found is None


def _write_note(connection: sqlite3.Connection, name: str, value: str) -> None:
    connection.execute("INSERT OR REPLACE INTO notes (name, value) VALUES (?, ?)", (name, value))


def _as_dict(counts: Counts) -> dict[str, object]:
    return {name: getattr(counts, name) for name in counts.__slots__}


_states: WeakSet[JobState] = WeakSet()
_inherited: list[sqlite3.Connection | None] = []
"""Connections of the parent process: closing one here could end what the parent has under way."""


def _after_fork_in_child() -> None:
    for state in list(_states):
        state.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork_in_child)
