"""Rows out of a program: texts, mappings or rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, replace
from typing import cast

from hermes_agent.errors import ConfigurationError
from hermes_agent.extract.inputs.columns import Columns, kind
from hermes_agent.extract.row import Row

__all__ = ["Items", "checked"]


@dataclass(frozen=True, slots=True)
class Items:
    """Whatever a program can iterate over; an iterator only once."""

    source: Iterable[object]
    columns: Columns

    def __iter__(self) -> Iterator[Row]:
        for position, item in enumerate(self.source):
            yield self._row(position, item)

    def count(self) -> int | None:
        """How many rows there are, if that is known before they are made."""
        return len(self.source) if isinstance(self.source, Sized) else None

    def _row(self, position: int, item: object) -> Row:
        if isinstance(item, str):
            return self.columns.of(position, position, item)
        if isinstance(item, Mapping):
            return self.columns.row(position, cast("Mapping[str, object]", item))
        if isinstance(item, Row):
            return item if item.position == position else replace(item, position=position)
        return Row(position, position, "", f"the row is neither text nor mapping but {kind(item)}")


def checked(source: object) -> Iterable[object]:
    """What can be iterated over, row by row.

    Raises:
        ConfigurationError: It cannot be, or what it iterates over is not its rows.
    """
    if hasattr(source, "columns") and hasattr(source, "dtypes"):
        raise ConfigurationError(
            f"a {type(source).__name__} does not iterate over its rows",
            hint='give frame.to_dict("records") of pandas, frame.iter_rows(named=True) of polars, or a Parquet file',
        )
    if isinstance(source, set | frozenset):
        raise ConfigurationError(
            "a set has no order, and rows are known by their position",
            hint="give sorted(...) of it",
        )
    if isinstance(source, bytes | bytearray | Mapping) or not isinstance(source, Iterable):
        raise ConfigurationError(
            f"rows={source!r:.80} is neither a path nor an iterable of rows",
            hint="give a path, or an iterable of texts or mappings; one text alone goes to extract",
        )
    return cast("Iterable[object]", source)
