"""Parquet: written as a whole when the job ends or is interrupted, row group by row group, from the state."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from hermes_agent.errors import ConfigurationError
from hermes_agent.extract.outputs import Writer, foreign, part_of, replace_with, unwritten
from hermes_agent.extract.state import COLUMNS

__all__ = ["ParquetWriter", "pyarrow"]

_NAMES = ("id", "output", "error", "evidence")
_ROWS, _CHARS = 50_000, 32 << 20
"""How long a row group gets: this many rows, or this many characters."""

_NOTE = "parquet"

_Columns = tuple[list[str], list[str | None], list[str | None], list[str | None]]


def pyarrow(name: str = "pyarrow") -> Any:
    """The module, which is a second's work to import and not everybody has.

    Raises:
        ConfigurationError: It is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigurationError(
            f"writing Parquet needs pyarrow: {error}", hint="pip install pyarrow, or name an output that ends in .jsonl"
        ) from error


class ParquetWriter(Writer):
    """Columns ``id``, and as JSON text or null ``output``, ``error`` and ``evidence``."""

    def check(self) -> None:
        """See that a file that is there was written by this job."""
        try:
            part_of(self.out).unlink(missing_ok=True)  # of a process that was killed
            if self.out.exists() and not (self.state.anew and self.state.may_overwrite) and not self._ours():
                raise foreign(self.out, self.state)
        except OSError as error:
            raise unwritten(self.out, self.state, error) from error

    def advance(self) -> None:
        """A Parquet file cannot grow."""

    def finish(self, complete: bool) -> None:
        """Write everything that is settled, unless it is written."""
        note = self._note()
        try:
            if self.out.exists() and note["changes"] == self.state.counts().changes and self._ours():
                return
            part = part_of(self.out)
            try:
                self._write(part)
                self._put(part, note["files"])
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            raise unwritten(self.out, self.state, error) from error

    def _put(self, part: Path, known: list[str]) -> None:
        """Put the new file in its place; what is there is known as ours, whenever the process is killed."""
        new, changes = _hash_of(part), self.state.counts().changes
        if self.out.exists() and not (self.state.anew and self.state.may_overwrite) and not self._ours():
            raise foreign(self.out, self.state)
        self.state.write_note(_NOTE, json.dumps({"files": [*known, new], "changes": -1}))
        replace_with(part, self.out)
        self.state.write_note(_NOTE, json.dumps({"files": [new], "changes": changes}), forget_replaced=True)

    def _note(self) -> dict[str, Any]:
        return cast("dict[str, Any]", json.loads(self.state.note(_NOTE) or '{"files": [], "changes": -1}'))

    def _ours(self) -> bool:
        return _hash_of(self.out) in self._note()["files"]

    def _write(self, part: Path) -> None:
        arrow, parquet = pyarrow(), pyarrow("pyarrow.parquet")
        schema = arrow.schema([(name, arrow.string()) for name in _NAMES])
        with parquet.ParquetWriter(str(part), schema, compression="zstd") as writer:
            for columns in self._groups():
                arrays = [arrow.array(column, arrow.string()) for column in columns]
                writer.write_batch(arrow.record_batch(arrays, schema=schema))

    def _groups(self) -> Iterator[_Columns]:
        group, length = _empty(), 0
        for row in self.state.select(f"SELECT {COLUMNS} FROM settled ORDER BY position"):
            for column, value in zip(group, cast("tuple[str, ...]", row), strict=True):
                cast("list[str | None]", column).append(value)
                length += len(value or "")
            if len(group[0]) >= _ROWS or length >= _CHARS:
                yield group
                group, length = _empty(), 0
        if group[0]:
            yield group


def _empty() -> _Columns:
    return [], [], [], []


def _hash_of(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
