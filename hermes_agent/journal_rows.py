"""What stands in a journal: how a record becomes a row, and how a run at a glance is read from its rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from hermes_agent.errors import ConfigurationError, HermesError
from hermes_agent.record import (
    Record,
    RunBegan,
    RunEnded,
    dump_record,
    load_record,
)

if TYPE_CHECKING:
    import sqlite3

__all__ = ["SCHEMA", "Entry", "JournalError", "RunState", "RunSummary", "delete", "insert", "read", "read_nested"]

SCHEMA = (
    "CREATE TABLE runs (run_id TEXT PRIMARY KEY, nested INTEGER NOT NULL, began REAL NOT NULL, about TEXT NOT NULL)",
    "CREATE INDEX runs_began ON runs (began)",
    "CREATE TABLE records (run_id TEXT NOT NULL, at INTEGER NOT NULL, kind TEXT NOT NULL, time REAL NOT NULL, "
    "body TEXT NOT NULL, PRIMARY KEY (run_id, at))",
)

_PROMPT_CHARS = 200
_INSIDE = "run_id > ?1 || '/' AND run_id < ?1 || '0'"  # 0 is the character behind the slash

RunState = Literal["open", "waiting", "ended", "failed"]
"""What a journal knows of a run. ``open``: it is running, or its process died. ``waiting``: calls wait for somebody's
word, or have it and the run was not resumed yet. ``ended``: it has an answer. ``failed``:
it ended with an error."""

_STATES: dict[str, RunState] = {
    "run_ended": "ended",
    "run_failed": "failed",
    "run_waited": "waiting",
    "call_settled": "waiting",
}
"""By the kind of the last record."""


class JournalError(HermesError):
    """A journal cannot be opened, read or written, does not hold a run, or holds another history of it."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run in a journal, at a glance.

    Attributes:
        run_id: Its id; that of an agent inside of a tool is ``<run id>/<call id>``.
        agent: The name of the agent that began it.
        prompt: The first 200 characters of what the user said.
        began: When it began, in seconds since 1970.
        last: When its last record was made, in seconds since 1970.
        records: How many records there are.
        state: How it stands.
    """

    run_id: str
    agent: str
    prompt: str
    began: float
    last: float
    records: int
    state: RunState


@dataclass(slots=True, eq=False)
class Entry:
    """A record on its way to the disk.

    Attributes:
        kind: That of the record, or ``run_failed``.
        body: The record as JSON.
        about: Agent and prompt as JSON, where it begins a run.
        writer: Who brought it, if he said so.
        written: It is on disk.
        error: Why it is not.
    """

    run_id: str
    at: int
    kind: str
    time: float
    body: str
    about: str | None
    writer: object | None = None
    written: bool = False
    error: JournalError | None = None

    @classmethod
    def of(cls, run_id: str, at: int, record: Record, writer: object | None = None) -> Entry:
        """A record as a row.

        Raises:
            ConfigurationError: It is not JSON, stands in the wrong place, or the id is none.
        """
        if not run_id or not run_id.isprintable():
            raise ConfigurationError(f"{run_id!r} cannot be the id of a run", hint="use printable characters")
        if (at == 0) != isinstance(record, RunBegan):
            raise ConfigurationError(
                f"record {at!r} of run {run_id!r} is a {type(record).__name__}", hint="a run begins with one RunBegan"
            )
        try:
            body = json.dumps(dump_record(record), allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigurationError(
                f"record {at} of run {run_id!r} cannot be written as JSON: {error}",
                hint="call arguments must be None, bool, int, float, str, list or dict with str keys",
            ) from error
        about = None
        if isinstance(record, RunBegan):
            # As JSON, because SQLite's text cannot hold half a surrogate pair, and a prompt can.
            about = json.dumps({"agent": record.agent, "prompt": record.prompt[:_PROMPT_CHARS]})
        # So that listing runs need not read their last records, which may hold long answers.
        kind = "run_failed" if isinstance(record, RunEnded) and record.error else record.kind
        return cls(run_id, at, kind, record.at, body, about, writer)


def insert(connection: sqlite3.Connection, entry: Entry) -> int | None:
    """Write a record if it is its run's turn; else the number of records that the run has."""
    done = connection.execute(
        "INSERT INTO records (run_id, at, kind, time, body) SELECT ?1, ?2, ?3, ?4, ?5 "
        "WHERE ?2 = (SELECT coalesce(max(at), -1) + 1 FROM records WHERE run_id = ?1)",
        (entry.run_id, entry.at, entry.kind, entry.time, entry.body),
    )
    if done.rowcount != 1:
        question = "SELECT coalesce(max(at), -1) + 1 FROM records WHERE run_id = ?"
        return int(connection.execute(question, (entry.run_id,)).fetchone()[0])
    if entry.about is not None:
        connection.execute(
            "INSERT INTO runs (run_id, nested, began, about) VALUES (?, ?, ?, ?)",
            (entry.run_id, "/" in entry.run_id, entry.time, entry.about),
        )
    return None


def read(connection: sqlite3.Connection, run_id: str) -> Iterator[Record]:
    """The records of a run, oldest first."""
    rows = connection.execute("SELECT at, body FROM records WHERE run_id = ? ORDER BY at", (run_id,))
    return (_record(run_id, at, body) for at, body in rows)


def _record(run_id: str, at: int, body: str) -> Record:
    from pydantic import ValidationError

    try:
        return load_record(json.loads(body))
    except (ValueError, TypeError, ValidationError, RecursionError) as error:
        raise JournalError(
            f"record {at} of run {run_id!r} cannot be read: {type(error).__name__}: {error}",
            hint="it was written by another version of hermes_agent, or the file is damaged",
            raw=body[:2000],
        ) from error


def count(connection: sqlite3.Connection, run_id: str) -> int:
    """How many records a run has."""
    (number,) = connection.execute("SELECT count(*) FROM records WHERE run_id = ?", (run_id,)).fetchone()
    return int(number)


def read_nested(connection: sqlite3.Connection, run_id: str) -> list[str]:
    """The ids of the runs inside of a run."""
    rows = connection.execute(f"SELECT run_id FROM runs WHERE {_INSIDE} ORDER BY rowid", (run_id,))
    return [name for (name,) in rows]


def summaries(connection: sqlite3.Connection, *, nested: bool, limit: int | None) -> list[RunSummary]:
    """The runs, the latest first."""
    rows = connection.execute(
        "SELECT runs.run_id, runs.about, runs.began, records.time, records.at, records.kind "
        "FROM runs JOIN records ON records.run_id = runs.run_id "
        "AND records.at = (SELECT max(at) FROM records WHERE run_id = runs.run_id) "
        "WHERE runs.nested <= ? ORDER BY runs.began DESC, runs.rowid DESC LIMIT ?",
        (nested, -1 if limit is None else limit),
    ).fetchall()
    found: list[RunSummary] = []
    for run_id, about, began, last, at, kind in cast("Sequence[tuple[str, str, float, float, int, str]]", rows):
        told = json.loads(about)
        found.append(RunSummary(run_id, told["agent"], told["prompt"], began, last, at + 1, _STATES.get(kind, "open")))
    return found


def delete(connection: sqlite3.Connection, run_id: str) -> int:
    """Remove a run and those inside of it; how many that were."""
    connection.execute(f"DELETE FROM records WHERE run_id = ?1 OR {_INSIDE}", (run_id,))
    return connection.execute(f"DELETE FROM runs WHERE run_id = ?1 OR {_INSIDE}", (run_id,)).rowcount
