"""Partial values of an answer that a JSON schema describes: plain JSON, checked as far as it is whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from hermes_agent.json_schema import Problems, compile_schema
from hermes_agent.partial.text import GrowingJson, Hidden, Invalid, Level

__all__ = ["SchemaGrowth", "any_value"]

_NOTES = {"$schema", "$defs", "definitions", "title", "description", "default", "examples", "$comment", "deprecated"}
_LATER = {"required", "minItems", "minProperties"}
"""What only the whole value has to satisfy."""
_OBJECT = {"properties", "additionalProperties", "maxProperties"}
_ARRAY = {"items", "maxItems", "uniqueItems"}
_CHOICE = {"anyOf", "oneOf"}
_ELSEWHERE = {"$id", "id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor"}
_NAMED = {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"}
_DATA = {"enum", "const", "default", "examples"}
_BRACKET = {"{": "object", "[": "array"}


class SchemaGrowth:
    """Reads what a `GrowingJson` holds by a JSON schema.

    Objects and arrays grow by whole members, and strings that nothing is asked of but a length grow by
    characters. Where a schema asks for more than that (``enum``, ``pattern``, ``allOf``, ``if`` …), the value
    appears when it is whole.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._root = schema
        self._local = not any(_leads_away(name, value) for name, value in _walk(schema))
        self._compiled: dict[int, tuple[object, Problems]] = {}

    def value(self, text: GrowingJson) -> Any:
        """The partial value.

        Raises:
            Hidden: There is nothing to show yet.
            Invalid: The answer cannot become valid.
        """
        if not self._local:
            raise Hidden
        try:
            return self._value(self._root, text, 0)
        except RecursionError:  # references that lead back to themselves
            raise Hidden from None

    def follows(self, level: Level) -> bool:  # what a `TypeGrowth` is asked
        """Whether another reading of this outermost list reads only what is new: never, as all of it is checked."""
        return False

    def _value(self, schema: object, text: GrowingJson, depth: int) -> Any:
        if schema is True or schema == {}:
            return any_value(text, depth)
        if schema is False:
            raise Invalid
        if not isinstance(schema, Mapping):
            raise Hidden
        asked = cast("Mapping[str, Any]", schema)
        keywords = set(asked) - _NOTES
        if keywords == {"$ref"}:
            return self._value(_resolve(self._root, asked["$ref"]), text, depth)
        if len(keywords & _CHOICE) == 1 and len(keywords) == 1:
            return self._choice(asked[keywords.pop()], text, depth)
        return self._typed(asked, keywords, text, depth)

    def _choice(self, choices: list[object], text: GrowingJson, depth: int) -> Any:
        """The value by the first choice that shows it; the value itself is the same by any."""
        hidden = False
        for choice in choices:
            try:
                return self._value(choice, text, depth)
            except Hidden:
                hidden = True
            except Invalid:
                continue
        raise Hidden if hidden else Invalid

    def _typed(self, schema: Mapping[str, Any], keywords: set[str], text: GrowingJson, depth: int) -> Any:
        types = schema.get("type", ["object", "array", "string"])
        allowed: list[str] = [types] if isinstance(types, str) else types
        if not text.is_open(depth):
            if text.string is not None and "string" not in allowed:
                raise Invalid
            if "string" not in allowed or keywords - {"type", "minLength", "maxLength"}:
                raise Hidden
            grown = text.grown()
            # What is too short yet may still grow; what is too long never fits.
            if len(grown) > schema.get("maxLength", len(grown)):
                raise Invalid
            if len(grown) < schema.get("minLength", 0):
                raise Hidden
            return grown
        kind = _BRACKET[text.levels[depth].bracket]
        if kind not in allowed:
            raise Invalid
        if keywords - {"type"} - _LATER - _OBJECT - _ARRAY:
            raise Hidden
        return self._container(schema, kind, text, depth)

    def _container(self, schema: Mapping[str, Any], kind: str, text: GrowingJson, depth: int) -> Any:
        value = text.plain(depth)
        if self._problems(schema)(value):
            raise Invalid
        try:
            if kind == "array":
                value.append(self._value(schema.get("items", True), text, depth + 1))
            else:
                key = text.key(depth)
                if key in value:
                    raise Invalid
                properties: Mapping[str, object] = schema.get("properties", {})
                member = properties.get(key, schema.get("additionalProperties", True))
                value[key] = self._value(member, text, depth + 1)
        except Hidden:
            pass
        return value

    def _problems(self, schema: Mapping[str, Any]) -> Problems:
        """What is wrong with the whole members of a container."""
        known = self._compiled.get(id(schema))
        if known is None:
            shared = {name: self._root[name] for name in ("$schema", "$defs", "definitions") if name in self._root}
            now = {name: value for name, value in schema.items() if name not in _LATER and name not in _NOTES}
            here: dict[str, Any] = {**now, **shared}
            if any(name == "$ref" and value == "#" for name, value in _walk(self._root)):
                here = _with_root(here, self._root)
            known = self._compiled[id(schema)] = (schema, compile_schema(here))
        return known[1]


def any_value(text: GrowingJson, depth: int) -> Any:
    """Any JSON: whole members, and strings as far as they are written.

    Raises:
        Hidden: There is nothing to show yet.
        Invalid: It is not JSON.
    """
    if not text.is_open(depth):
        return text.grown()
    value = text.plain(depth)
    try:
        if text.levels[depth].bracket == "[":
            value.append(any_value(text, depth + 1))
        else:
            key = text.key(depth)
            if key in value:
                raise Invalid
            value[key] = any_value(text, depth + 1)
    except Hidden:
        pass
    return value


def _with_root(schema: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    """``schema`` as a document of its own, in which ``#`` still means ``root``."""
    name = "root"
    while name in schema.get("$defs", {}):
        name += "_"
    here, whole = (cast("dict[str, Any]", _redirected(one, f"#/$defs/{name}")) for one in (schema, root))
    return {**here, "$defs": {**here.get("$defs", {}), name: whole}}


def _redirected(schema: object, root: str, *, names: bool = False) -> object:
    """The schema with ``root`` for each reference to ``#``; with ``names``, a mapping from names to schemas."""
    if isinstance(schema, list):
        return [_redirected(item, root) for item in cast("list[object]", schema)]
    if not isinstance(schema, Mapping):
        return schema
    found: dict[str, object] = {}
    for name, value in cast("Mapping[str, object]", schema).items():
        if names or name not in _DATA:
            found[name] = _redirected(value, root, names=not names and name in _NAMED)
        else:
            found[name] = value
    if not names and found.get("$ref") == "#":
        found["$ref"] = root
    return found


def _resolve(root: Mapping[str, Any], reference: str) -> object:
    target: Any = root
    if reference == "#":
        return target
    for part in reference.removeprefix("#/").split("/"):
        target = target[part.replace("~1", "/").replace("~0", "~")]
    return target


def _leads_away(name: str, value: object) -> bool:
    """Whether a reference leads to somewhere but the root and the named definitions, or could be led somewhere else."""
    if name == "$ref" and isinstance(value, str):
        return value != "#" and (not value.startswith(("#/$defs/", "#/definitions/")) or "%" in value)
    return name in _ELSEWHERE and isinstance(value, str)


def _walk(schema: object) -> Iterator[tuple[str, object]]:
    todo = [schema]
    while todo:
        item = todo.pop()
        if isinstance(item, Mapping):
            for name, value in cast("Mapping[str, object]", item).items():
                yield name, value
                todo.append(value)
        elif isinstance(item, list):
            todo += cast("list[object]", item)
