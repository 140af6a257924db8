"""The file below a journal, where two processes meet."""

from __future__ import annotations

import sqlite3
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hermes_agent.journal import Journal
from hermes_agent.journal_file import JournalFile


def test_a_file_that_another_process_makes_a_journal_just_now_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other's transaction falls between what the first one looks at."""
    first = JournalFile(tmp_path / "made.db", sync="normal", busy_seconds=30)
    first.connection()
    first.close()
    with sqlite3.connect(tmp_path / "made.db") as made:
        script = ";".join(sql for (sql,) in made.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL"))
        (application,) = made.execute("PRAGMA application_id").fetchone()
        (version,) = made.execute("PRAGMA user_version").fetchone()
    others: list[threading.Thread] = []

    def other() -> None:
        with sqlite3.connect(tmp_path / "runs.db", timeout=30) as connection:
            connection.executescript(
                f"BEGIN IMMEDIATE; {script}; PRAGMA application_id = {application}; "
                f"PRAGMA user_version = {version}; COMMIT"
            )
        connection.close()

    class Watched(sqlite3.Connection):
        def execute(self, sql: str, *given: Any) -> sqlite3.Cursor:
            if sql == "PRAGMA user_version" and not others:  # the id has been read
                others.append(threading.Thread(target=other))
                others[0].start()
                others[0].join(0.5)
            return super().execute(sql, *given)

    connect: Any = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", partial(connect, factory=Watched))
    file = JournalFile(tmp_path / "runs.db", sync="normal", busy_seconds=30)
    with file.lock:
        file.connection()
    file.close()
    others[0].join()
    monkeypatch.undo()
    assert Journal(tmp_path / "runs.db").runs() == []
