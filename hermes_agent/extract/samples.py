"""A schema made from a few sample objects, for those who have examples and no type."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from hermes_agent.errors import ConfigurationError
from hermes_agent.output import JsonSchema

if TYPE_CHECKING:
    from hermes_agent.messages import JsonValue

__all__ = ["infer"]

_ORDER = ("object", "array", "string", "integer", "number", "boolean", "null")

_HINT = "give JSON objects, such as json.loads makes of the lines you want to get"


def infer(samples: Iterable[Mapping[str, JsonValue]]) -> JsonSchema:
    """The schema of objects like these.

    A field is required if every sample has it; it may be null, or of several types, if it is so in a sample. Objects in
    arrays are read as samples of one kind. No field is allowed that no sample has. Values are never taken for the only
    ones: name those yourself, with ``Literal`` in a type or ``enum`` in a schema. A list that is empty everywhere may
    hold anything, and a field that is null everywhere can only be null, so give each field a value at least once.

    Args:
        samples: At least one JSON object. More samples only ever allow more.

    Raises:
        ConfigurationError: There is no sample, or one is no object, or holds what JSON cannot.

    Example:
        >>> schema = infer([{"name": "A", "price": 1}, {"name": "B", "price": 2.5, "tags": []}]).schema
        >>> schema["properties"]["price"], schema["required"]
        ({'type': 'number'}, ['name', 'price'])
    """
    if not _many(samples):
        raise ConfigurationError(f"samples={_shown(samples)} is no list of objects", hint="put the sample into a list")
    read = list(samples)
    if not read:
        raise ConfigurationError("there is no sample to infer fields from", hint="give at least one object")
    for number, sample in enumerate(cast("list[object]", read)):
        if not isinstance(sample, Mapping):
            raise ConfigurationError(f"samples[{number}] is no object: {_shown(sample)}", hint=_HINT)
    try:
        schema = _of([(f"samples[{number}]", sample) for number, sample in enumerate(read)])
    except RecursionError as error:
        raise ConfigurationError("the samples are nested too deeply", hint=_HINT) from error
    return JsonSchema(schema, name="the inferred schema")


def _many(samples: object) -> bool:
    return isinstance(samples, Iterable) and not isinstance(samples, (Mapping, str, bytes))


_Placed = Sequence[tuple[str, object]]
"""Values, each with where it stands in the samples."""


def _of(values: _Placed) -> dict[str, JsonValue]:
    """One schema for all of these values."""
    kinds = {_kind(value, place) for place, value in values}
    if "number" in kinds:
        kinds.discard("integer")
    named: list[JsonValue] = [kind for kind in _ORDER if kind in kinds]
    schema: dict[str, JsonValue] = {"type": named[0] if len(named) == 1 else named}
    if "object" in kinds:
        schema |= _fields(
            [(place, cast("Mapping[object, object]", v)) for place, v in values if isinstance(v, Mapping)]
        )
    if "array" in kinds:
        arrays = [(place, cast("list[object]", v)) for place, v in values if isinstance(v, list)]
        if items := [(f"{place}[{at}]", item) for place, array in arrays for at, item in enumerate(array)]:
            schema["items"] = _of(items)
    return schema


def _fields(objects: Sequence[tuple[str, Mapping[object, object]]]) -> dict[str, JsonValue]:
    """The keywords of an object: its fields in the order they first appear."""
    found: dict[str, list[tuple[str, object]]] = {}
    for place, fields in objects:
        for name, value in fields.items():
            if not isinstance(name, str):
                raise ConfigurationError(f"{place} has the field {name!r}, which is no string", hint=_HINT)
            found.setdefault(name, []).append((f"{place}.{name}", value))
    required: list[JsonValue] = [name for name, values in found.items() if len(values) == len(objects)]
    properties: dict[str, JsonValue] = {name: _of(values) for name, values in found.items()}
    return {"properties": properties, "required": required, "additionalProperties": False}


def _kind(value: object, place: str) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float() if math.isfinite(value):
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case Mapping():
            return "object"
        case _:
            raise ConfigurationError(f"{place} is not JSON: {_shown(value)}", hint=_HINT)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
