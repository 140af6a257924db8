"""Fields of pydantic's core schemas, changed so that an object can be read of which some are not there yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

__all__ = ["ANY", "OMITTED", "Schema", "absentable", "extra_behaviour", "is_as_written", "json_names", "looking_back"]

Schema = Mapping[str, Any]

ANY: Schema = {"type": "any"}
_NEVER: Schema = {"type": "literal", "expected": [object()]}
OMITTED: Schema = {"type": "default", "schema": _NEVER, "on_error": "omit"}


def _optional(schema: Schema) -> Schema:
    """A field that need not be there; what stands for it is not validated, whatever the configuration says."""
    if schema["type"] == "default":
        return schema
    return {"type": "default", "schema": schema, "default": None, "validate_default": False}


def absentable(name: str, field: Schema, early: frozenset[str] | None) -> Schema:
    """A field that need not be there; one that is ``early`` is read as if it were not, whatever is written."""
    absent = _optional(field["schema"])
    if early is not None:
        absent = {**absent, "validate_default": False}
        if name in early:
            absent = {**absent, "schema": _NEVER, "on_error": "default"}
    return {**field, "schema": absent}


def looking_back(fields: Mapping[str, Schema], config: Schema, keys: set[str]) -> frozenset[str]:
    """The fields whose validators may look at one before them that is not there yet."""
    found: set[str] = set()
    missing = False
    for name, field in fields.items():
        if missing and _sees_others(field["schema"]):
            found.add(name)
        missing = missing or not keys & json_names(name, field, config)
    return frozenset(found)


def _sees_others(schema: object) -> bool:
    """Whether a validator is called that may look at the fields before; an object in it looks at its own."""
    if isinstance(schema, Mapping):
        one = cast("Schema", schema)
        if one.get("type") in ("model", "dataclass", "typed-dict", "definition-ref"):
            return False
        if one.get("type") == "with-info":
            return True
        return any(_sees_others(part) for name, part in one.items() if name != "metadata")
    return isinstance(schema, (list, tuple)) and any(map(_sees_others, cast("list[object]", schema)))


def is_as_written(schema: Schema, config: Schema) -> bool:
    """Whether a string is always valid, and read just as it stands."""
    plain = schema["type"] in ("str", "any") and not set(schema) - {"type", "strict", "metadata", "ref"}
    return plain and not any(name.startswith("str_") for name in config)


def extra_behaviour(fields: Schema, config: Schema) -> object:
    """What becomes of names that are none of a type's."""
    return fields.get("extra_behavior") or config.get("extra_fields_behavior")


def json_names(name: str, field: Schema, config: Schema) -> set[str]:
    """The names in JSON that are surely those of a field; longer paths are not looked into."""
    alias = field.get("validation_alias")
    if alias is None:
        return {name}
    by_name = config.get("validate_by_name") or config.get("populate_by_name")
    return ({alias} if isinstance(alias, str) else set[str]()) | ({name} if by_name else set[str]())
