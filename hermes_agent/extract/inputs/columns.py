"""From what a row holds to a `Row`: which column is the text, which the id, and what is wrong with either."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hermes_agent.errors import ConfigurationError
from hermes_agent.extract.row import Row
from hermes_agent.json_text import dump_json

__all__ = ["GLIMPSE", "Columns", "decoded", "kind", "listed", "named", "printable", "too_long"]

GLIMPSE = 1000
"""How many characters of a row that cannot be used are kept."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns are read, and how long a row may be.

    Attributes:
        text: The column of the text; ``None`` stands for ``"text"``.
        id: The column of the id, which then has to be there; ``None`` stands for ``"id"``, where it is.
        most: The longest row: bytes where a file is read, characters where texts are given.
    """

    text: str | None
    id: str | None
    most: int

    def row(self, position: int, item: Mapping[str, object], glimpse: str | None = None) -> Row:
        """The row that an object is.

        Args:
            position: Which row of the input it is, from 0.
            item: Its columns.
            glimpse: What to keep of a row that cannot be used; by default the object is shown.
        """
        name = self.text or "text"
        text = item.get(name)
        id_ = item.get(self.id or "id")
        if id_ is None and self.id is not None:
            problem = f"there is no id in column {self.id!r}; there are {listed(item)}"
        elif name not in item:
            problem = f"there is no column {name!r}; there are {listed(item)}"
        elif not isinstance(text, str):
            problem = f"column {name!r} holds no text but {kind(text)}"
        else:
            return self.of(position, named(id_, position), text)
        return Row(position, named(id_, position), _glimpse(item) if glimpse is None else glimpse, problem)

    def of(self, position: int, called: str | int, text: str) -> Row:
        """The row of a text, which may be too long, or say nothing."""
        if len(text) > self.most:
            return Row(position, called, text[:GLIMPSE], too_long(len(text), self.most, "characters"))
        if not text or text.isspace():
            return Row(position, called, text[:GLIMPSE], "the text is blank" if text else "the text is empty")
        return Row(position, called, text)

    def places(self, names: list[str], source: str) -> tuple[int, int | None]:
        """Where the columns of text and id stand in a table.

        Raises:
            ConfigurationError: One is not there, or there twice.
        """
        id_name = self.id or "id"
        place = _place(self.text or "text", names, source, "text=…")
        return place, _place(id_name, names, source, "id=…") if self.id or id_name in names else None


def _place(name: str, names: list[str], source: str, option: str) -> int:
    if names.count(name) == 1:
        return names.index(name)
    found = "two columns" if name in names else "no column"
    raise ConfigurationError(
        f"{source!r} has {found} {name!r}; it has {listed(names)}", hint=f"name a column of it with {option}"
    )


def listed(names: Iterable[str]) -> str:
    """Names of columns for a message, the first ones."""
    known = list(names)
    shown = ", ".join(f"{name!r:.60}" for name in known[:12])
    return f"{shown}, …" if len(known) > 12 else shown or "none"


def kind(value: object) -> str:
    """What a value is, in words of JSON."""
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, bool | int | float):
        return f"{value!r:.40}"
    return "a list" if isinstance(value, list | tuple) else type(value).__name__


def named(value: object, position: int) -> str | int:
    """What a row is called whose id column holds a value: its position if that is nothing."""
    if isinstance(value, str):
        return printable(value) or position
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return position if value is None else value
    try:
        return dump_json(value)
    except (TypeError, ValueError):
        return printable(str(value)) or position


def printable(text: str) -> str:
    """An id that every encoding of Unicode can carry: names of files may hold bytes that are none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def too_long(size: int, most: int, unit: str) -> str:
    """What to say of a row that is longer than allowed."""
    return f"the row is too long: {size:,} {unit}, where {most:,} are allowed"


def decoded(raw: bytes, what: str) -> tuple[str, str]:
    """The text that bytes of a file are, and what is wrong with them: then as much as can be read of it."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        problem = f"{what} is not UTF-8: byte 0x{raw[error.start]:02x} at offset {error.start}"
        return raw[: 4 * GLIMPSE].decode("utf-8", "replace")[:GLIMPSE], problem
    if (at := text.find("\0")) >= 0:
        problem = f"{what} is not plain text: NUL at character {at}"
        return text[:GLIMPSE], problem
    return text, ""


def _glimpse(item: Mapping[str, object]) -> str:
    """As much of an object as may be kept, the same each time."""
    parts: list[str] = []
    for name, value in item.items():
        shown = f"{value[:GLIMPSE]!r}" if isinstance(value, str) else kind(value)
        parts.append(f"{name!r}: {shown}")
        if sum(map(len, parts)) > GLIMPSE:
            break
    return "{" + ", ".join(parts)[: GLIMPSE - 2] + "}"
