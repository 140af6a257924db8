"""Parquet, read piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from hermes_agent.errors import ConfigurationError
from hermes_agent.extract.inputs.columns import GLIMPSE, Columns, decoded, kind, named, printable
from hermes_agent.extract.inputs.lines import unreadable
from hermes_agent.extract.row import Row

__all__ = ["ParquetFile"]

_BATCH = 256  # rows in memory at once


@dataclass(frozen=True, slots=True)
class ParquetFile:
    """A Parquet file with a column of strings."""

    path: Path
    columns: Columns

    def __iter__(self) -> Iterator[Row]:
        with _opened(self.path) as file:
            schema = file.schema_arrow
            text, id_ = self.columns.places(list(schema.names), str(self.path))
            self._check(schema.field(text))
            wanted = [schema.names[text]] if id_ in (None, text) else [schema.names[text], schema.names[id_]]
            position = 0
            for batch in self._batches(file, wanted):
                texts = _values(batch.column(wanted[0]))
                ids = texts if id_ == text else _values(batch.column(wanted[1])) if id_ is not None else None
                for index, value in enumerate(texts):
                    yield self._row(position, wanted[0], value, None if ids is None else ids[index])
                    position += 1

    def count(self) -> int:
        """How many rows there are."""
        with _opened(self.path) as file:
            rows: int = file.metadata.num_rows
            return rows

    def _check(self, field: Any) -> None:
        types = _pyarrow("types")
        of = field.type.value_type if types.is_dictionary(field.type) else field.type
        if not any(is_kind(of) for is_kind in (types.is_string, types.is_large_string, types.is_string_view)):
            raise ConfigurationError(
                f"column {field.name!r} of {str(self.path)!r} holds no strings but {of}",
                hint="name a column of strings with text=…",
            )

    def _batches(self, file: Any, wanted: list[str]) -> Iterator[Any]:
        broken = _pyarrow("lib").ArrowException
        try:
            yield from file.iter_batches(batch_size=_BATCH, columns=wanted, use_threads=False)
        except (broken, OSError) as error:
            raise _damaged(self.path, error) from error

    def _row(self, position: int, name: str, value: object, id_: object) -> Row:
        called: str | int = position
        if isinstance(id_, bytes):
            called = printable(decoded(id_, "")[0]) or position
        elif id_ is not None:
            called = named(id_, position)
        elif self.columns.id is not None:
            return Row(position, called, "", f"there is no id in column {self.columns.id!r}")
        if not isinstance(value, bytes):
            return Row(position, called, "", f"column {name!r} holds no text but {kind(value)}")
        try:
            return self.columns.of(position, called, value.decode())
        except UnicodeDecodeError:
            text, problem = decoded(value, f"column {name!r}")
            return Row(position, called, text[:GLIMPSE], problem)


def _pyarrow(part: str) -> Any:
    """A module of pyarrow, which says nothing about its types."""
    return import_module(f"pyarrow.{part}")


def _opened(path: Path) -> Any:
    """The file.

    Raises:
        ConfigurationError: pyarrow is not installed, or this is no Parquet file.
    """
    try:
        parquet, broken = _pyarrow("parquet"), _pyarrow("lib").ArrowException
    except ImportError as error:
        raise ConfigurationError(
            f"reading {str(path)!r} needs pyarrow: {error}", hint="pip install pyarrow; or give the rows as JSON lines"
        ) from error
    try:
        return parquet.ParquetFile(path)
    except broken as error:
        raise _damaged(path, error) from error
    except OSError as error:
        raise unreadable(str(path), error) from error


def _damaged(path: Path, error: Exception) -> ConfigurationError:
    why = str(error).splitlines()[0] if str(error) else type(error).__name__
    return ConfigurationError(
        f"{str(path)!r} is damaged, or no Parquet file: {why}",
        hint="write or fetch it again; what a job has done by then is kept",
    )


def _values(column: Any) -> list[object]:
    """The values of a column; strings as bytes, since one that is not UTF-8 would else cost all of them."""
    types, pa = _pyarrow("types"), _pyarrow("lib")
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if types.is_string_view(column.type):
        column = column.cast(pa.binary_view())
    elif types.is_string(column.type) or types.is_large_string(column.type):
        column = column.cast(pa.binary() if types.is_string(column.type) else pa.large_binary())
    values: list[object] = column.to_pylist()
    return values
