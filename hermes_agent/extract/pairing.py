"""Rows of two sources, paired by id: a right answer, and what a job made of the same text."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack
from itertools import zip_longest
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeAlias, TypeVar, cast

from hermes_agent.errors import ConfigurationError
from hermes_agent.extract.inputs.columns import named

__all__ = ["Paired", "Rows", "pairs"]

RowT = TypeVar("RowT")

Rows: TypeAlias = "str | PathLike[str] | Iterable[Mapping[str, Any]]"
"""A JSONL file, or the rows themselves."""

Read = Callable[[Mapping[str, Any], str], RowT]
"""Makes something of a row; the second argument says where it stands, for errors."""

Paired: TypeAlias = "tuple[str, Any, Any]"
"""An id, the row of the first source, the row of the other; ``None`` where one has none."""


def pairs(first: Rows, other: Rows, read_first: Read[Any], read_other: Read[Any]) -> Generator[Paired]:
    """All rows of both; the n-th row of an id in one source belongs to the n-th in the other.

    Both are read side by side. What has not met its partner yet is remembered by id and place, and read again when it
    does: memory grows with the disorder between the two files, not with their length.

    Raises:
        ConfigurationError: A file cannot be read, or holds something else.
    """
    with ExitStack() as closing:
        left, right = _Source(first, read_first, closing), _Source(other, read_other, closing)
        for mine, theirs in zip_longest(left, right):
            if mine and theirs and mine[0] == theirs[0] and not (left.waits(mine[0]) or right.waits(mine[0])):
                yield mine[0], mine[2], theirs[2]  # neither is read twice
                continue
            if mine:
                yield from _met(mine, left, right)
            if theirs:
                yield from ((id_, row, partner) for id_, partner, row in _met(theirs, right, left))
        yield from ((id_, row, None) for id_, row in left.rest())
        yield from ((id_, None, row) for id_, row in right.rest())


def _met(entry: tuple[str, Any, Any], own: _Source[Any], other: _Source[Any]) -> Iterator[Paired]:
    """The row with its partner, if that one waits; else the row waits."""
    id_, place, row = entry
    if other.waits(id_):
        yield id_, row, other.take(id_)
    else:
        own.keep(id_, place)


class _Source(Generic[RowT]):
    """One side. A row is known by its place: its offset in a file, or itself."""

    def __init__(self, rows: Rows, read: Read[RowT], closing: ExitStack) -> None:
        self.waiting: dict[str, deque[Any]] = {}
        self._read = read
        self._file: str | None = None
        self._rows: Iterable[Mapping[str, Any]] = ()
        if isinstance(rows, (str, PathLike)):
            self._file = str(Path(rows))
            self._lines, self._again = (closing.enter_context(_opened(self._file)) for _ in range(2))
        else:
            self._rows = rows

    def __iter__(self) -> Iterator[tuple[str, Any, RowT]]:
        """Ids, places and rows, in order."""
        if self._file is None:
            for number, given in enumerate(cast("Iterable[object]", self._rows)):
                row = _object(given, f"row {number}")
                yield _id(row, number), (row, number), self._read(row, f"row {number}")
            return
        offset, number = 0, 0
        for at, line in enumerate(self._lines, start=1):
            if line.strip(b" \t\r\n\xef\xbb\xbf" if at == 1 else None):
                row = self._parsed(line, at)
                yield _id(row, number), (offset, at), self._read(row, self._where(at))
                number += 1
            offset += len(line)

    def _where(self, line: int) -> str:
        return f"line {line} of {self._file!r}"

    def _parsed(self, line: bytes, number: int) -> Mapping[str, Any]:
        if number == 1 and (line.startswith((b"SQLite format 3", b"PAR1"))):
            raise ConfigurationError(
                f"{self._file!r} is {'SQLite' if line.startswith(b'SQL') else 'Parquet'}, not JSON lines",
                hint="write the output of the job to a .jsonl file",
            )
        try:
            row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except (ValueError, RecursionError) as error:
            torn = not line.endswith(b"\n")
            raise ConfigurationError(
                f"{self._where(number)} is not JSON: {error}; it begins with {line[:60].decode('utf-8', 'replace')!r}",
                hint="its last line is cut off: wait until what writes it is done" if torn else "give a JSONL file",
            ) from error
        return _object(row, self._where(number))

    def waits(self, id_: str) -> bool:
        """Whether a row of that id has not met its partner."""
        return id_ in self.waiting

    def keep(self, id_: str, place: Any) -> None:
        """Remember a row that has not met its partner."""
        self.waiting.setdefault(id_, deque()).append(place)

    def take(self, id_: str) -> RowT:
        """The first row of an id that still waits."""
        places = self.waiting[id_]
        place, number = places.popleft()
        if not places:
            del self.waiting[id_]
        if self._file is None:
            return self._read(place, f"row {number}")
        self._again.seek(place)
        return self._read(self._parsed(self._again.readline(), number), self._where(number))

    def rest(self) -> Iterator[tuple[str, RowT]]:
        """Ids and rows that have not met a partner, and will not."""
        for id_ in list(self.waiting):
            while self.waits(id_):
                yield id_, self.take(id_)


def _object(row: object, where: str) -> Mapping[str, Any]:
    if not isinstance(row, Mapping):
        raise ConfigurationError(
            f"{where} is no object but {row!r:.80}", hint="each row is an object with id and value"
        )
    return cast("Mapping[str, Any]", row)


def _opened(file: str) -> BinaryIO:
    try:
        return Path(file).open("rb")
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {file!r}: {error.strerror or error}", hint="give a JSONL file"
        ) from error


def _id(row: Mapping[str, Any], number: int) -> str:
    """What a job calls the row in its output: its id as text, else its number."""
    return str(named(row.get("id"), number))
