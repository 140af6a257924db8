"""JSON lines: an object a line, or a string a line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hermes_agent.extract.inputs.columns import GLIMPSE, Columns, decoded, kind, too_long
from hermes_agent.extract.inputs.lines import Line, Readable, bounded_lines, counted_lines, opened
from hermes_agent.extract.row import Row

__all__ = ["JsonLines"]


@dataclass(frozen=True, slots=True)
class JsonLines:
    """A file of JSON lines, or a pipe. Blank lines are no rows."""

    source: Path | Readable
    columns: Columns

    def __iter__(self) -> Iterator[Row]:
        with self._open() as file:
            position = 0
            for line in bounded_lines(file, self.columns.most):
                if not line.is_blank:
                    yield self._row(position, line)
                    position += 1

    def count(self) -> int | None:
        """How many rows there are; a pipe or a packed file does not tell."""
        if not isinstance(self.source, Path) or self.source.suffix.lower() == ".gz" or not self.source.is_file():
            return None
        with opened(self.source) as file:
            return counted_lines(file)

    def _open(self) -> AbstractContextManager[Readable]:
        return opened(self.source) if isinstance(self.source, Path) else nullcontext(self.source)

    def _row(self, position: int, line: Line) -> Row:
        text, problem = decoded(line.raw.rstrip(b"\r\n"), "the line")
        if not line.is_whole:
            problem = too_long(line.size, self.columns.most, "bytes")
        if problem:
            return _unusable(position, text, problem, line)
        try:
            value: Any = json.loads(text)
        except RecursionError:
            return _unusable(position, text, "the line is not JSON that can be read: nested too deeply", line)
        except ValueError as error:
            why = f"{error.msg} at character {error.pos}" if isinstance(error, json.JSONDecodeError) else str(error)
            return _unusable(position, text, f"the line is not JSON: {why}", line)
        if isinstance(value, str):
            return self.columns.of(position, position, value)
        if isinstance(value, Mapping):
            return self.columns.row(position, cast("Mapping[str, object]", value), text[:GLIMPSE])
        return _unusable(position, text, f"the line is no object but {kind(value)}", line)


def _unusable(position: int, text: str, problem: str, line: Line) -> Row:
    return Row(position, position, text[:GLIMPSE], f"{problem} (line {line.number})")
