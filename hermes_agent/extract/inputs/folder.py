"""Text files: a folder of them, or a single one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hermes_agent.errors import ConfigurationError
from hermes_agent.extract.inputs.columns import GLIMPSE, Columns, decoded, printable, too_long
from hermes_agent.extract.inputs.lines import unreadable
from hermes_agent.extract.row import Row

__all__ = ["DATA", "Folder", "TextFile"]

DATA = re.compile(
    r"\.(jsonl|ndjson|csv|tsv|parquet|pq|sqlite3?|db|job)(-wal|-shm|-journal|-lock|-part|-new|\.gz|\.tmp|\.part)*\Z",
    re.IGNORECASE,
)
"""Names of files that hold rows, or belong to a job, and are no texts."""


@dataclass(frozen=True, slots=True)
class TextFile:
    """One file, which is one row."""

    path: Path
    columns: Columns

    def __iter__(self) -> Iterator[Row]:
        yield _row(0, printable(self.path.name), self.path, self.columns)

    def count(self) -> int:
        """One."""
        return 1


@dataclass(frozen=True, slots=True)
class Folder:
    """The files of a folder and of those in it, in the order of their names; the name from there on is the id.

    Hidden ones and files of data are left out. A file that is no text is a row with a problem.
    """

    path: Path
    columns: Columns

    def __iter__(self) -> Iterator[Row]:
        for position, name in enumerate(self._names()):
            yield _row(position, printable(name.replace(os.sep, "/")), self.path / name, self.columns)

    def count(self) -> int:
        """How many files there are."""
        return sum(1 for _ in self._names())

    def _names(self) -> Iterator[str]:
        found = left_out = False
        for name in _below(str(self.path)):
            if DATA.search(name):
                left_out = True
            else:
                found = True
                yield name
        if left_out and not found:
            raise ConfigurationError(
                f"there are no texts in {str(self.path)!r}, only files of data", hint="give one of those files"
            )


def _below(folder: str, within: str = "") -> Iterator[str]:
    """Names of files, relative to the folder it began with. Only those of one folder a level are held."""
    try:
        with os.scandir(folder) as entries:
            shown = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries if entry.name[0] != "."]
    except OSError as error:
        raise unreadable(folder, error) from error
    for name, is_folder in sorted(shown):
        if is_folder:
            yield from _below(os.path.join(folder, name), os.path.join(within, name))  # noqa: PTH118  # a million names
        else:
            yield os.path.join(within, name)  # noqa: PTH118


def _row(position: int, called: str, path: Path, columns: Columns) -> Row:
    try:
        if not path.is_file():
            return Row(position, called, "", "this is no file" if path.exists() else "the link leads nowhere")
        with path.open("rb") as file:
            raw = file.read(columns.most + 1)
    except OSError as error:
        return Row(position, called, "", f"the file cannot be read: {error.strerror or error}")
    text, problem = decoded(raw.removeprefix(b"\xef\xbb\xbf"), "the file")
    if len(raw) > columns.most:
        problem = too_long(path.stat().st_size, columns.most, "bytes")
    return Row(position, called, text[:GLIMPSE], problem) if problem else columns.of(position, called, text)
