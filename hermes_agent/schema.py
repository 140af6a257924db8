"""The JSON schema of a Python type, made exact, and what pydantic finds wrong, in lines for the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from hermes_agent.ecma import foreign_part

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError
    from pydantic.json_schema import GenerateJsonSchema

__all__ = [
    "LINES",
    "SHOWN",
    "PatternMeaningError",
    "describe",
    "first_line",
    "problem",
    "pydantic_problems",
    "python_schema",
]

SHOWN = 80
"""Characters of an offending value that are shown; a model needs to recognise it, not to read it again."""

LINES = 10
"""Problems that are listed; a model corrects a few at a time."""

_ONE = ("items", "additionalItems", "additionalProperties", "unevaluatedItems", "contains", "propertyNames")
_MANY = ("anyOf", "oneOf", "prefixItems")
_NAMED = ("properties", "patternProperties", "$defs", "definitions")

_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?"
_OFFSET = r"(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
_DAY = r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_Y, _D, _H, _M, _S = (f"[0-9]{{1,7}}{unit}" for unit in ("Y", "D", "H", "M", r"(\.[0-9]{1,6})?S"))
_DELTA = f"^-?P(({_Y})?{_D}|{_Y}|({_Y})?({_D})?T(({_H})?({_M})?{_S}|({_H})?{_M}|{_H}))$"
_DECIMAL = r"^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,4})?$"


class PatternMeaningError(TypeError):
    """A pattern that pydantic reads in one way and a JSON schema in another."""


def python_schema(adapter: TypeAdapter[Any]) -> dict[str, Any]:
    """The JSON schema of what a pydantic adapter reads: no titles, and every object closed.

    pydantic itself writes no ``additionalProperties: false``, and a grammar made from such a schema lets a
    model add keys for ever. It also gives dates without an offset, durations and decimals schemas that do
    not fit the text it writes for them; those are corrected here.

    Raises:
        PatternMeaningError: A pattern would mean something else in the schema.
    """
    return _closed(adapter.json_schema(mode="validation", schema_generator=_generator()))


@cache
def _generator() -> type[GenerateJsonSchema]:
    from pydantic.json_schema import GenerateJsonSchema

    class Generator(GenerateJsonSchema):
        """pydantic's generator, with the text forms that pydantic really reads and writes."""

        ignored_warning_kinds = {"non-serializable-default"}  # noqa: RUF012  # as the base class declares it

        def datetime_schema(self, schema: Any) -> dict[str, Any]:
            return _zoned(f"^{_DAY}T{_CLOCK}", "date-time", schema)

        def time_schema(self, schema: Any) -> dict[str, Any]:
            return _zoned(f"^{_CLOCK}", "time", schema)

        def str_schema(self, schema: Any) -> dict[str, Any]:
            pattern: object = schema.get("pattern")
            if isinstance(pattern, str) and (part := foreign_part(pattern)):
                raise PatternMeaningError(
                    f"the pattern {pattern!r} holds {part!r}, which means something else in JSON schemas; "
                    "write it without, with the ends as '^' and '$' and every set spelled out"
                )
            return super().str_schema(schema)

        def timedelta_schema(self, schema: Any) -> dict[str, Any]:
            return {"type": "string", "pattern": _DELTA}

        def decimal_schema(self, schema: Any) -> dict[str, Any]:
            number, _ = super().decimal_schema(schema)["anyOf"]
            return {"anyOf": [number, {"type": "string", "pattern": _DECIMAL}]}

    return Generator


def _zoned(pattern: str, format_: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """RFC 3339 demands an offset from UTC; a Python date or time may or must be without."""
    match schema.get("tz_constraint"):
        case "naive":
            return {"type": "string", "pattern": f"{pattern}$"}
        case None:
            return {"type": "string", "pattern": f"{pattern}{_OFFSET}?$"}
        case _:
            return {"type": "string", "format": format_}


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    """A copy without ``title`` and ``discriminator``, each object closed unless it says otherwise."""
    out: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("title", "discriminator") or (key == "default" and not _is_json(value)):
            continue
        if key in _NAMED:
            out[key] = {name: _closed_part(part) for name, part in value.items()}
        elif key in _MANY:
            out[key] = [_closed_part(part) for part in value]
        else:
            out[key] = _closed_part(value) if key in _ONE else value
    if out.get("type") == "object" and ("properties" in out or "patternProperties" in out):
        out.setdefault("additionalProperties", False)
    return out


def _closed_part(part: Any) -> Any:
    return _closed(cast("dict[str, Any]", part)) if isinstance(part, dict) else part


def _is_json(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def describe(value: object) -> str:
    """``repr`` of a value, cut so that a message stays readable."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an int of more digits than Python prints, a value nested too deeply
        return f"a value of type {type(value).__name__!r}"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text)} characters)"


def first_line(error: Exception) -> str:
    """What an exception says, without pydantic's advice to its own users and the address of its pages."""
    return str(error).partition("\n")[0].partition(". Set `arbitrary_types_allowed")[0]


def problem(path: tuple[int | str, ...], what: str) -> str:
    """One line of a message: where, and what is wrong there."""
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
    return f"- {where}: {what}" if where else f"- {what}"


def pydantic_problems(error: ValidationError, value: object) -> list[str]:
    """One line for each thing pydantic found wrong.

    Args:
        error: What pydantic raised.
        value: The decoded JSON that was validated, to tell keys from the names of union members.
    """
    lines: list[str] = []
    for item in error.errors(include_url=False, include_context=False):
        what = item["msg"][:1].lower() + item["msg"][1:]
        if item["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            what = "there is no such name"
        elif item["type"] in ("missing", "missing_argument"):
            what = "is required, and missing"
        elif item["type"] != "json_invalid":
            what = f"{what}, got {describe(item['input'])}"
        path, member = _placed(item["loc"], value, missing=item["type"] == "missing")
        lines.append(problem(path, f"{what} (read as {member})" if member else what))
    more = len(lines) - LINES
    return [*lines[:LINES], f"- and {more} more"] if more > 0 else lines


def _placed(loc: tuple[int | str, ...], value: object, *, missing: bool) -> tuple[tuple[int | str, ...], str]:
    """Pydantic's location as a path in the data, and the last union member it went through."""
    path: list[int | str] = []
    member = ""
    here: Any = value
    for index, part in enumerate(loc):
        try:
            here = here[part]
            path.append(part)
        except (KeyError, IndexError, TypeError):
            if missing and index == len(loc) - 1:
                path.append(part)
            else:
                member = str(part)
    return tuple(path), member
