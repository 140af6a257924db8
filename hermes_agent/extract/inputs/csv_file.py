"""CSV as it comes: a record that cannot be read costs itself alone, whatever quote it has left open.

Python's reader would take everything behind such a quote for one field, and has one limit for the whole process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hermes_agent.errors import ConfigurationError
from hermes_agent.extract.inputs.columns import GLIMPSE, Columns, decoded, printable, too_long
from hermes_agent.extract.inputs.lines import Line, bounded_lines, opened
from hermes_agent.extract.row import Row

__all__ = ["CsvFile"]

_PATIENCE = 16  # so many rows of full length may be read twice; then a quote must close on its own line


@dataclass(frozen=True, slots=True)
class CsvFile:
    """A CSV or TSV file, whose first record names the columns. Blank lines are no rows."""

    path: Path
    columns: Columns

    def __iter__(self) -> Iterator[Row]:
        with opened(self.path) as file:
            records = _Records(bounded_lines(file, self.columns.most), self.columns.most)
            header = self._header(records)
            if not header:
                return
            text, id_ = self.columns.places(header, str(self.path))
            for position, record in enumerate(records):
                yield self._row(position, record, header, text, id_)

    def count(self) -> int | None:
        """How many rows there are; a packed file or a pipe does not tell."""
        if self.path.suffix.lower() == ".gz" or not self.path.is_file():
            return None
        with opened(self.path) as file:
            records = _Records(bounded_lines(file, self.columns.most), self.columns.most)
            self._header(records)
            return sum(1 for _ in records)

    def _header(self, records: _Records) -> list[str]:
        """The names of the columns; none in an empty file."""
        suffixes = [suffix.lower() for suffix in self.path.suffixes]
        record = records.begin(b"\t" if ".tsv" in suffixes[-2:] else None)
        if record is None:
            return []
        names = [decoded(field, "the header") for field in record.fields]
        problem = record.problem or next((problem for _, problem in names if problem), "")
        if problem:
            raise ConfigurationError(
                f"{str(self.path)!r} has no header that can be read: {problem}",
                hint="begin the file with a line that names the columns, in UTF-8",
            )
        return [name for name, _ in names]

    def _row(self, position: int, record: _Record, header: list[str], text: int, id_: int | None) -> Row:
        fields, problem = record.fields, record.problem
        if not problem and len(fields) != len(header):
            count = f"more than {len(header)}" if len(fields) > len(header) else str(len(fields))
            problem = f"the row has {count} columns, where the header has {len(header)}"
        if problem:
            glimpse = decoded(record.first.raw.rstrip(b"\r\n"), "")[0][:GLIMPSE]
            return Row(position, position, glimpse, f"{problem} ({record.where})")
        called: str | int = position
        if id_ is not None:
            name, bad = decoded(fields[id_], f"column {header[id_]!r}")
            called, problem = printable(name) or called, bad
        value, bad = decoded(fields[text], f"column {header[text]!r}")
        if bad or problem:
            return Row(position, called, value[:GLIMPSE], f"{bad or problem} ({record.where})")
        return self.columns.of(position, called, value)


@dataclass(frozen=True, slots=True)
class _Record:
    """The fields of a record, one more than wanted if there are too many; or what is wrong with it."""

    fields: list[bytes]
    problem: str
    first: Line
    last: int

    @property
    def where(self) -> str:
        first = self.first.number
        return f"line {first}" if self.last == first else f"lines {first} to {self.last}"


class _NoRecordError(Exception):
    """The line does not begin a record that can be read."""


class _Records:
    """Records out of lines: each line is read once, or twice if the record before it had to be given up."""

    def __init__(self, lines: Iterable[Line], most: int) -> None:
        self._lines = iter(lines)
        self._again: deque[Line] = deque()
        self._taken: list[Line] = []
        self._size = 0  # of the lines of the record under way
        self._most = most
        self._patience = _PATIENCE * most
        self._comma = b","
        self._width = most  # of the header, no bound is known

    def begin(self, comma: bytes | None) -> _Record | None:
        """The header, which settles the separator and how many columns there are."""
        while (first := self._next()) is not None and _is_blank(first):
            pass
        if first is None:
            return None
        self._again.append(first)
        semicolons = b";" in first.raw and b"," not in first.raw
        self._comma = comma or (b";" if semicolons else b",")
        header = next(iter(self))
        self._width = len(header.fields)
        return header

    def __iter__(self) -> Iterator[_Record]:
        while (first := self._next()) is not None:
            if not _is_blank(first):
                yield self._record(first)

    def _next(self) -> Line | None:
        return self._again.popleft() if self._again else next(self._lines, None)

    def _record(self, first: Line) -> _Record:
        if not first.is_whole:
            return _Record([], too_long(first.size, self._most, "bytes"), first, first.number)
        if b'"' not in first.raw:
            return _Record(_unended(first.raw).split(self._comma, self._width), "", first, first.number)
        self._taken, self._size = [], first.size
        try:
            fields = self._fields(first.raw)
        except _NoRecordError as error:
            # A quote that should not be there took these lines in: each may begin a record of its own.
            self._patience -= self._size
            self._again.extendleft(reversed(self._taken))
            return _Record([], str(error), first, first.number)
        return _Record(fields, "", first, self._taken[-1].number if self._taken else first.number)

    def _fields(self, raw: bytes) -> list[bytes]:
        """The fields of the record that begins with a line, with those of the lines behind it that it needs.

        Raises:
            _NoRecordError: It is none; the message says why.
        """
        fields: list[bytes] = []
        at = 0
        while len(fields) <= self._width:
            if raw.startswith(b'"', at):
                field, raw, at = self._quoted(raw, at + 1, len(fields) + 1)
                fields.append(field)
                if not raw.startswith(self._comma, at):
                    if raw[at : at + 3] in (b"", b"\n", b"\r", b"\r\n"):
                        return fields
                    raise _NoRecordError(f"text behind the closing quote of column {len(fields)}")
            else:
                end = raw.find(self._comma, at)
                if end < 0:
                    fields.append(_unended(raw[at:]))
                    return fields
                fields.append(raw[at:end])
                at = end
            at += 1
        if self._taken:
            raise _NoRecordError(f"a quote that is not closed, or more than {self._width} columns")
        return fields

    def _quoted(self, raw: bytes, at: int, column: int) -> tuple[bytes, bytes, int]:
        """A quoted field, the line it ends on, and where the rest of that line begins."""
        parts: list[bytes] = []
        while (end := _closing(raw, at)) < 0:
            parts.append(raw[at:])
            raw, at = self._more(column), 0
        parts.append(raw[at:end])
        return b"".join(parts).replace(b'""', b'"'), raw, end + 1

    def _more(self, column: int) -> bytes:
        """The line behind, for a quoted field that goes on."""
        open_ = f"the quote that opens column {column} is not closed"
        if self._patience < 0:
            raise _NoRecordError(f"{open_} on its line")
        line = self._next()
        if line is None:
            raise _NoRecordError(open_)
        self._taken.append(line)
        self._size += line.size
        if not line.is_whole or self._size > self._most:
            raise _NoRecordError(f"{open_} within {self._most:,} bytes")
        return line.raw


def _is_blank(line: Line) -> bool:
    return line.is_whole and not line.raw.strip(b"\r\n")  # a space could be a column


def _closing(raw: bytes, at: int) -> int:
    """Where the quote stands that closes a field; -1 if it does not on this line. Doubled ones are text."""
    while (end := raw.find(b'"', at)) >= 0:
        if not raw.startswith(b'"', end + 1):
            return end
        at = end + 2
    return -1


def _unended(raw: bytes) -> bytes:
    return raw.removesuffix(b"\n").removesuffix(b"\r")
