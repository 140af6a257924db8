"""The input of a job: files, folders and iterables as rows, one after the other.

What is wrong with a row is said in its ``problem``; it costs that row and no other. What is wrong with the whole input,
such as a file that is not there, is raised.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Protocol

from hermes_agent.errors import ConfigurationError
from hermes_agent.extract.inputs.columns import Columns
from hermes_agent.extract.inputs.csv_file import CsvFile
from hermes_agent.extract.inputs.folder import Folder, TextFile
from hermes_agent.extract.inputs.items import Items, checked
from hermes_agent.extract.inputs.jsonl import JsonLines
from hermes_agent.extract.inputs.parquet import ParquetFile
from hermes_agent.extract.inputs.pipe import Pipe
from hermes_agent.extract.row import Row

__all__ = ["MOST", "RowSource", "Rows", "is_text_file", "piped_rows", "read_rows"]

RowSource = Path | str | Iterable[str | Mapping[str, Any] | Row]
"""A path, or an iterable of texts, mappings or rows."""

MOST = 10_000_000
"""The longest row, unless said otherwise: bytes where a file is read, characters where texts are given."""


class _Source(Protocol):
    def __iter__(self) -> Iterator[Row]: ...
    def count(self) -> int | None: ...


_TEXTS = (".txt", ".text", ".md", ".markdown", ".rst", ".html", ".htm", ".xml", ".eml", ".log", ".tex")
_TABLES: Mapping[str, Callable[[Path, Columns], _Source]] = {
    ".jsonl": JsonLines,
    ".ndjson": JsonLines,
    ".json": JsonLines,
    ".csv": CsvFile,
    ".tsv": CsvFile,
    ".parquet": ParquetFile,
    ".pq": ParquetFile,
}
_FORMATS = (
    "give JSON lines (.jsonl), CSV (.csv, .tsv), Parquet (.parquet), a text file (.txt, .md, …) or a folder of them"
)


class Rows:
    """The rows of an input, read as they are iterated over.

    Those of a path can be iterated over again, those of an iterator or a pipe once.

    Attributes:
        ready: Waits until the next row can be had at once; ``None`` where it always can.
    """

    def __init__(
        self, source: _Source, *, once: bool = False, ready: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self._source = source
        self._once = once
        self.ready = ready
        self._begun = False

    def __iter__(self) -> Iterator[Row]:
        if self._once and self._begun:
            raise ConfigurationError(
                "these rows have been read, and their source gives them once", hint="give a path, or a list"
            )
        self._begun = True
        return iter(self._source)

    @cached_property
    def total(self) -> int | None:
        """How many rows there are; ``None`` where only reading tells.

        A file is read through for it: about a second for a gigabyte of JSON lines, fifteen for one of CSV.
        """
        return self._source.count()


def read_rows(source: RowSource, *, text: str | None = None, id: str | None = None, max_size: int = MOST) -> Rows:  # noqa: A002  # what users call it
    """The rows of an input.

    Args:
        source: A path: JSON lines (``.jsonl``, ``.ndjson``; an object or a string a line), ``.csv``, ``.tsv``, each
            also with ``.gz``; ``.parquet``; a text file, which is one row; or a folder, each file in it a row. Or an
            iterable of texts, mappings or rows.
        text: The column that holds the text, by default ``"text"``.
        id: The column that names the row, by default ``"id"`` where there is one. Rows without are called by their
            position from 0, files of a folder by their path in it.
        max_size: The longest row that is taken: bytes where a file is read, characters where texts are given.

    Raises:
        ConfigurationError: There is no such file, or none of a format that is known.

    Example:
        >>> [(row.id, row.problem or row.text) for row in read_rows(["Total: 5 EUR", {"id": "b", "txt": "Total: 7"}])]
        [(0, 'Total: 5 EUR'), ('b', "there is no column 'text'; there are 'id', 'txt'")]
    """
    if isinstance(source, Rows):
        return source
    columns = Columns(text, id, max_size)
    if not isinstance(source, str | Path):
        items = checked(source)
        return Rows(Items(items, columns), once=isinstance(items, Iterator))
    return _of_path(Path(source), str(source), columns)


def piped_rows(pipe: IO[bytes], *, text: str | None = None, id: str | None = None, max_size: int = MOST) -> Rows:  # noqa: A002  # as above
    """The rows of JSON lines that a pipe brings, such as standard input."""
    source = Pipe(pipe)
    return Rows(JsonLines(source, Columns(text, id, max_size)), once=True, ready=source.ready)


def is_text_file(path: str) -> bool:
    """Whether a path names a single text, and no rows."""
    return Path(path).suffix.lower() in _TEXTS


def _of_path(path: Path, shown: str, columns: Columns) -> Rows:
    try:
        path.stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError(f"cannot read {shown!r}: {why}", hint="check the path") from error
    if path.is_dir():
        return Rows(Folder(path, columns))
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = suffixes[-1:] == [".gz"]
    suffix = "".join(suffixes[-2:-1] if packed else suffixes[-1:])
    if suffix in _TEXTS and not packed:
        return Rows(TextFile(path, columns))
    if suffix not in _TABLES or (packed and _TABLES[suffix] is ParquetFile):
        raise ConfigurationError(f"{shown!r} is of no format that is known", hint=_FORMATS)
    if suffix == ".json" and not packed:
        _check_lines(path, shown)
    return Rows(_TABLES[suffix](path, columns), once=not path.is_file())


def _check_lines(path: Path, shown: str) -> None:
    """Files of JSON lines may be called ``.json``; a list is none.

    Raises:
        ConfigurationError: It is a list.
    """
    try:
        with path.open("rb") as file:
            begin = file.read(4096)
    except OSError as error:
        raise ConfigurationError(f"cannot read {shown!r}: {error.strerror}", hint="check the path") from error
    if begin.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
        raise ConfigurationError(
            f"{shown!r} holds one JSON list, not an object a line",
            hint=f"jq -c '.[]' {shown} > rows.jsonl, and give that; in Python, give the list itself",
        )
