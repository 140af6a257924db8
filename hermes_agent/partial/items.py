"""The items of a list, each as soon as it is closed, while the answer around them is still being written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from hermes_agent.json_schema import Problems, compile_schema
from hermes_agent.output import Output
from hermes_agent.partial.text import GrowingJson, Hidden, Invalid, Level

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from hermes_agent.partial.types import TypeGrowth

__all__ = ["Items", "at_path"]

_NOTES = {"$schema", "$defs", "definitions", "title", "description", "default", "examples", "$comment", "deprecated"}
_CLOSING = re.compile(r"(?=\])")
_SHARED = ("$schema", "$defs", "definitions")


class Items:
    """Follows one list of the answers of a run.

    Args:
        output: What is answered.
        path: The names that lead to the list, as JSON has them.
    """

    def __init__(self, output: Output[Any], path: Sequence[str]) -> None:
        self._output, self._path = output, tuple(path)
        self._growth: TypeGrowth | None = None
        self._problems: Problems | None = None
        source: object = output.source
        if isinstance(source, Mapping):
            self._problems = _of_items(cast("Mapping[str, Any]", source), self._path)
        else:
            from hermes_agent.partial.types import TypeGrowth

            self._growth = TypeGrowth(cast("TypeAdapter[Any]", source))
        self.begin()

    def begin(self) -> None:
        """A new turn begins, and with it perhaps a new answer."""
        self._text = GrowingJson()
        self._level: Level | None = None
        self._told = self._end = 0
        self._over = False

    def stop(self) -> None:
        """This turn turns out to be no answer, or has told all that it can before it is whole."""
        self._over = True

    def feed(self, text: str) -> list[Any]:
        """More of the visible text; returns the items that it closes, validated."""
        found: list[Any] = []
        for part in _CLOSING.split(text):  # what ends the list must not end it before its last item is looked at
            if not self._over:
                self._text.feed(part)
                found += self._new()
        return found

    def _new(self) -> list[Any]:
        level = self._open_list()
        if level is None:
            self._over = self._level is not None  # the list is closed: what it closed with comes with the whole answer
            return []
        self._level = level
        if level.whole <= max(self._end, level.start + 1):
            return []
        try:
            return self._closed(level)
        except Hidden:
            return []
        except Invalid:
            self._over = True
            return []

    def _open_list(self) -> Level | None:
        """The list, if it is open and the only one of its place so far."""
        levels, text = self._text.levels, self._text
        if len(levels) <= len(self._path) or levels[len(self._path)].bracket != "[":
            return None
        try:
            for depth, name in enumerate(self._path):
                if levels[depth].bracket != "{" or text.key(depth) != name:
                    return None
        except (Hidden, Invalid):
            return None
        level = levels[len(self._path)]
        return level if self._level is None or level is self._level else None

    def _closed(self, level: Level) -> list[Any]:
        depth = len(self._path)
        if self._growth is not None:
            # All but the item being written is whole.
            found = at_path(self._growth.value(self._text), self._path)
            if not isinstance(found, list):
                raise Hidden
            whole = cast("list[object]", found)[: level.members]
            items: list[Any] = whole[self._told :]
            self._told = len(whole)
        elif self._problems is not None:
            items = json.loads(self._text.members_since(depth, self._end or level.start + 1))
            if any(map(self._problems, items)):
                raise Invalid
        else:
            raise Invalid
        self._end = level.whole
        return items


def at_path(value: Any, path: Sequence[str]) -> Any:
    """What a value has under the names of its JSON; ``None`` where it has none.

    Args:
        value: A value of the output's type, or plain JSON.
        path: The names.
    """
    for name in path:
        value = _member(value, name)
    if isinstance(value, list | Mapping):
        return cast("object", value)
    return getattr(value, "root", value)


def _member(value: object, name: str) -> Any:
    if isinstance(value, Mapping):
        return cast("Mapping[str, Any]", value).get(name)
    cls = type(value)
    fields: Mapping[str, Any] = getattr(cls, "model_fields", {})
    named = (own for own, field in fields.items() if own != name and name in (field.validation_alias, field.alias))
    return getattr(value, next(named, name), None)


def _of_items(schema: Mapping[str, Any], path: Sequence[str]) -> Problems | None:
    """What is wrong with an item of the list at ``path``; ``None`` where only the whole answer can tell."""
    here: Any = _plain(schema, schema)
    for name in path:
        here = _plain(schema, here.get("properties", {}).get(name)) if here is not None else None
    if here is None or here.get("type") != "array" or "items" not in here or set(here) & {"prefixItems", "$ref"}:
        return None
    items = here["items"]
    if not isinstance(items, Mapping) or '"$ref": "#"' in json.dumps(items):
        return None
    try:
        return compile_schema({**{name: schema[name] for name in _SHARED if name in schema}, **items})
    except ValueError:
        return None


def _plain(root: Mapping[str, Any], schema: Any) -> Mapping[str, Any] | None:
    """What stands behind references and beside ``null``."""
    for _ in range(100):
        if not isinstance(schema, Mapping):
            return None
        asked = cast("Mapping[str, Any]", schema)
        keywords = set(asked) - _NOTES
        reference = asked.get("$ref")
        if keywords == {"$ref"} and isinstance(reference, str):
            _, place, *rest = [*reference.split("/", 2), ""]
            schema = root.get(place, {}).get(rest[0]) if place in _SHARED and reference.startswith("#/") else None
        elif keywords == {"anyOf"}:
            others = [one for one in asked["anyOf"] if one != {"type": "null"}]
            schema = others[0] if len(others) == 1 else None
        else:
            return asked
    return None
