"""Questions to an SQLite database that can neither change it nor reach past it, bounded in time, rows and bytes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hermes_agent.errors import ConfigurationError
from hermes_agent.toolbox.sqlite_guard import Guard

if TYPE_CHECKING:
    import sqlite3

__all__ = ["Database"]

_Value = str | int | float | bytes | None

MAX_SQL_CHARS: Final = 10_000
_BUSY_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Database:
    """Read-only questions to one SQLite file; ``query`` and ``schema`` are the tools.

    The file is opened read-only, and on top of that SQLite asks an authorizer about every part of a statement: only
    reading is allowed. No ``ATTACH``, no extension, no PRAGMA that sets anything. R*Tree tables cannot be asked,
    since SQLite prepares to write to them before it reads.

    ``seconds`` is looked at between SQLite's steps and before each call of a function that can run long. A large sort
    may use temporary disk space until the time is up.

    Attributes:
        path: The database file; must exist.
        max_rows: Most rows one query gives back.
        max_chars: Characters given back by one call.
        max_cell_chars: Characters shown of one value; what is cut is said.
        max_value_bytes: Largest value SQLite may read or make; a query that needs a larger one fails.
        seconds: Wall clock of one query, about.
    """

    path: str | os.PathLike[str]
    max_rows: int = field(default=200, kw_only=True)
    max_chars: int = field(default=16_000, kw_only=True)
    max_cell_chars: int = field(default=1_000, kw_only=True)
    max_value_bytes: int = field(default=200_000, kw_only=True)
    seconds: float = field(default=5.0, kw_only=True)
    _file: Path = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        file = Path(self.path)
        if not file.is_file():
            raise ConfigurationError(f"Database({str(file)!r}): there is no such file", hint="give the path of a file")
        for name in ("max_rows", "max_chars", "max_cell_chars", "max_value_bytes", "seconds"):
            if getattr(self, name) <= 0:
                raise ConfigurationError(
                    f"Database({name}={getattr(self, name)!r}) allows nothing", hint="use more than 0"
                )
        object.__setattr__(self, "_file", file.resolve())

    def query(self, sql: str, limit: int = 50) -> str:
        """Run one SELECT on the database and return the rows.

        The first line is a JSON array of the column names, each further line one row.

        Args:
            sql: One SELECT statement in SQLite's dialect.
            limit: Most rows to return.
        """
        if limit < 1:
            raise ValueError(f"limit={limit!r}: ask for at least 1 row")
        if any("\ud800" <= char <= "\udfff" for char in sql):
            raise ValueError(f"the SQL {sql[:200]!r} is not text")
        if len(sql) > MAX_SQL_CHARS:
            raise ValueError(f"the SQL has {len(sql)} characters, and {MAX_SQL_CHARS} is the most")
        with self._opened(sql) as connection:
            cursor = connection.execute(sql)
            if cursor.description is None:
                raise ValueError(f"{sql!r} asks nothing: write one SELECT statement")
            columns = _json([str(column[0]) for column in cursor.description])
            return self._table(columns, cursor, min(limit, self.max_rows))

    def schema(self) -> str:
        """Show the tables, views and indexes of the database, as the SQL that made them."""
        wanted = (
            "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' "
            "ORDER BY CASE type WHEN 'table' THEN 0 WHEN 'view' THEN 1 ELSE 2 END, name"
        )
        shown: list[str] = []
        used = 0
        with self._opened(wanted) as connection:
            for (statement,) in connection.execute(wanted):
                used += len(statement) + 2
                if used > self.max_chars:
                    shown.append("[cut: there is more; ask sqlite_master for the rest]")
                    break
                shown.append(f"{statement};")
        return "\n".join(shown) if shown else "the database has no tables"

    def _table(self, columns: str, rows: Iterator[tuple[_Value, ...]], most: int) -> str:
        lines, used = [columns[: self.max_chars]], len(columns)
        for row in rows:
            if len(lines) > most:
                lines.append(f"[cut: only the first {most} rows are shown; narrow the query, or use LIMIT and OFFSET]")
                return "\n".join(lines)
            line = _json([self._cell(value) for value in row])
            used += len(line) + 1
            if used > self.max_chars:
                lines.append(f"[cut: only {len(lines) - 1} rows fit; ask for fewer columns, or use LIMIT and OFFSET]")
                return "\n".join(lines)
            lines.append(line)
        return "\n".join([*lines, "[no rows]"] if len(lines) == 1 else lines)

    def _cell(self, value: _Value) -> str | int | float | None:
        if isinstance(value, bytes):
            return f"[blob of {len(value)} bytes, {value[:16].hex()}{'...' if len(value) > 16 else ''}]"
        if isinstance(value, str) and len(value) > self.max_cell_chars:
            return f"{value[: self.max_cell_chars]}[cut: {len(value)} characters]"
        if isinstance(value, float) and value in {float("inf"), float("-inf")}:
            return str(value)  # JSON has no infinity
        return value

    @contextmanager
    def _opened(self, sql: str) -> Generator[sqlite3.Connection, None, None]:
        """A connection for one statement, guarded, with SQLite's errors in plain words."""
        import sqlite3

        guard = Guard(self.seconds)
        connection: sqlite3.Connection | None = None
        try:
            connection = self._connect()
            guard.watch(connection, self._limits())
            yield connection
        except (sqlite3.Error, sqlite3.Warning) as error:
            if guard.out_of_time:
                raise TimeoutError(f"{sql!r} was stopped after {self.seconds:g} seconds; ask for less") from None
            if guard.refused is not None:
                raise PermissionError(f"{sql!r} is refused: {guard.refused}") from None
            raise ValueError(f"{sql!r} failed: {error}{self._advice(str(error))}") from None
        finally:
            if connection is not None:
                connection.close()
            guard.close()

    def _connect(self) -> sqlite3.Connection:
        import sqlite3

        address = f"{self._file.as_uri()}?mode=ro"
        # A database in WAL mode cannot be opened read-only where its helper files can neither be found nor
        # made. Without a log to read, nobody is writing, and the file itself is the whole truth.
        log = self._file.with_name(f"{self._file.name}-wal")
        try:
            try:
                return self._open(address)
            except sqlite3.OperationalError:
                if log.exists() and log.stat().st_size:
                    raise
                return self._open(f"{address}&immutable=1")
        except sqlite3.OperationalError as error:
            raise ValueError(f"cannot open the database {str(self._file)!r}: {error}") from None

    def _open(self, address: str) -> sqlite3.Connection:
        import sqlite3

        connection = sqlite3.connect(address, uri=True, isolation_level=None, timeout=_BUSY_SECONDS)
        try:
            connection.text_factory = _text
            connection.execute("PRAGMA query_only = ON")
            connection.execute("PRAGMA schema_version")  # the first look into the file, which opening alone is not
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _limits(self) -> dict[int, int]:
        import sqlite3

        return {
            sqlite3.SQLITE_LIMIT_LENGTH: self.max_value_bytes,
            sqlite3.SQLITE_LIMIT_SQL_LENGTH: 1_000_000,  # the schema's own SQL counts too
            sqlite3.SQLITE_LIMIT_ATTACHED: 0,
            sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100,
            sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 50,
            sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 200,
            sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
        }

    def _advice(self, message: str) -> str:
        if "too big" in message:
            return f" (a value has more than {self.max_value_bytes} bytes)"
        if re.match(r"no such (table|column)", message):
            return "; schema shows what there is"
        return ""


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _json(values: object) -> str:
    return json.dumps(values, ensure_ascii=False)
