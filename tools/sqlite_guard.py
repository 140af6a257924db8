"""What watches an SQLite connection while a statement from a model is compiled and runs."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3

__all__ = ["Guard"]

_Value = str | int | float | bytes | None

_STEPS_PER_LOOK: Final = 100  # SQLite's own steps between two looks at the clock
_MAX_PRODUCT: Final = 20_000_000  # of two arguments' lengths: some 20 ms
# Functions whose time grows with the product of two arguments' lengths, or with a number in a format. SQLite
# cannot be interrupted inside a function, so these are measured before they run. Name: number of arguments.
_SLOW: Final = {"instr": 2, "replace": 3, "trim": 2, "ltrim": 2, "rtrim": 2, "printf": -1, "format": -1}
_WIDE_FORMAT: Final = re.compile(r"%[^A-Za-z%]*?(?:\*|[0-9]{4})")
_DENIED_FUNCTIONS: Final = frozenset({"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit"})
_PRAGMAS: Final = frozenset(
    {"table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo", "foreign_key_list"}
    | {"database_list", "collation_list", "function_list", "compile_options", "data_version", "page_size"}
)
# SQLite's action codes, https://sqlite.org/c3ref/c_alter_table.html
_ACTIONS: Final = {
    9: "DELETE", 18: "INSERT", 22: "a transaction", 23: "UPDATE", 24: "ATTACH", 25: "DETACH",
    26: "ALTER TABLE", 27: "REINDEX", 28: "ANALYZE", 32: "SAVEPOINT",
} | dict.fromkeys(range(1, 9), "CREATE") | dict.fromkeys(range(10, 18), "DROP")  # fmt: skip


class _RefusedError(Exception):
    """Stops the statement from inside a function; SQLite drops the message, so ``Guard`` keeps it."""


class Guard:
    """Lets one connection read for so many seconds, and remembers why it stopped a statement.

    Attributes:
        refused: Why the statement was stopped; ``None`` when it was not.
        out_of_time: Whether the time was up.
    """

    def __init__(self, seconds: float) -> None:
        self.refused: str | None = None
        self.out_of_time = False
        self._end = time.monotonic() + seconds
        self._twin: sqlite3.Connection | None = None

    def watch(self, connection: sqlite3.Connection, limits: dict[int, int]) -> None:
        """Put the limits, the authorizer, the clock and the measured functions on a connection."""
        import sqlite3

        # The built-in functions live on in a second, empty connection, which the measured ones ask.
        self._twin = sqlite3.connect(":memory:", isolation_level=None)
        self._twin.text_factory = connection.text_factory
        for each in (connection, self._twin):
            for limit, most in limits.items():
                each.setlimit(limit, most)
        for name, arguments in _SLOW.items():
            connection.create_function(name, arguments, self._measured(name), deterministic=True)
        connection.set_progress_handler(self._look_at_clock, _STEPS_PER_LOOK)
        connection.set_authorizer(self._authorize)

    def close(self) -> None:
        """Close what ``watch`` opened."""
        if self._twin is not None:
            self._twin.close()

    def _look_at_clock(self) -> int:
        self.out_of_time = self.out_of_time or time.monotonic() > self._end
        return int(self.out_of_time)

    def _authorize(
        self, action: int, first: str | None, second: str | None, database: str | None, trigger: str | None
    ) -> int:
        """Asked by SQLite about every part of a statement while it is compiled."""
        import sqlite3

        refused: str | None = None
        if action == sqlite3.SQLITE_FUNCTION:
            if (second or "").lower() in _DENIED_FUNCTIONS:
                refused = f"function {second!r} may not be used"
        elif action == sqlite3.SQLITE_PRAGMA:
            if (first or "").lower() not in _PRAGMAS:
                refused = f"PRAGMA {first} may not be used"
        elif action == sqlite3.SQLITE_UPDATE and first == "sqlite_master":
            # SQLite asks this when it declares a virtual table or json_each. A real UPDATE of this table needs
            # PRAGMA writable_schema, which is refused, and a file that can be written, which it is not.
            pass
        elif action not in {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE}:
            refused = f"it would do more than read ({_ACTIONS.get(action, f'SQLite action {action}')})"
        self.refused = self.refused or refused
        return sqlite3.SQLITE_OK if refused is None else sqlite3.SQLITE_DENY

    def _measured(self, name: str) -> Callable[..., _Value]:
        def call(*values: _Value) -> _Value:
            import sqlite3

            if self._look_at_clock():
                raise _RefusedError
            self._measure(name, values)
            marks = ", ".join("?" * len(values))
            assert self._twin is not None
            try:
                row: tuple[_Value] = self._twin.execute(f"SELECT {name}({marks})", values).fetchone()
            except sqlite3.Error as error:
                self.refused = self.refused or f"{name} failed: {error}"
                raise
            return row[0]

        return call

    def _measure(self, name: str, values: tuple[_Value, ...]) -> None:
        """Refuse a call that would run long.

        Raises:
            _RefusedError: Its arguments are too long, or its format too wide.
        """
        if name in {"printf", "format"}:
            if values and isinstance(values[0], str) and _WIDE_FORMAT.search(values[0]):
                self.refused = f"a width in {name} must be written out, with at most 3 digits"
                raise _RefusedError
            return
        lengths = [len(value) for value in values[:2] if isinstance(value, str | bytes)]
        if len(lengths) == 2 and lengths[0] * lengths[1] > _MAX_PRODUCT:
            self.refused = f"{name} would compare {lengths[0]} by {lengths[1]} characters, which takes too long"
            raise _RefusedError
