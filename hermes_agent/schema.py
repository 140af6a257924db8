"""JSON Schema, once for tools and outputs: what pydantic generates, tidied, and validation by jsonschema."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

__all__ = ["closed", "compile_schema", "describe", "problem", "pydantic_problems", "python_schema"]

_SHOWN = 80
"""Characters of an offending value that are shown; a model needs to recognise it, not to read it again."""

_ONE = ("items", "additionalItems", "additionalProperties", "unevaluatedItems", "contains", "propertyNames")
_MANY = ("anyOf", "oneOf", "prefixItems")
_NAMED = ("properties", "patternProperties", "$defs", "definitions")


def python_schema(adapter: TypeAdapter[Any]) -> dict[str, Any]:
    """The JSON schema of what a pydantic adapter reads: no titles, and every object closed.

    pydantic itself writes no ``additionalProperties: false``, and a grammar made from such a schema lets a
    model add keys for ever.
    """
    return closed(adapter.json_schema(mode="validation"))


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """A copy without ``title`` and ``discriminator``, each object closed unless it says otherwise."""
    out: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("title", "discriminator"):
            continue
        if key in _NAMED and isinstance(value, dict):
            out[key] = {name: _closed(part) for name, part in value.items()}
        elif key in _MANY and isinstance(value, list):
            out[key] = [_closed(part) for part in value]
        elif key in _ONE:
            out[key] = _closed(value)
        else:
            out[key] = value
    if out.get("type") == "object" and ("properties" in out or "patternProperties" in out):
        out.setdefault("additionalProperties", False)
    return out


def _closed(part: Any) -> Any:
    return closed(part) if isinstance(part, dict) else part


def describe(value: object) -> str:
    """``repr`` of a value, cut so that a message stays readable."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters)"


def problem(path: tuple[int | str, ...], what: str) -> str:
    """One line of a message: where, and what is wrong there."""
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
    return f"- {where}: {what}" if where else f"- {what}"


def pydantic_problems(error: ValidationError) -> list[str]:
    """One line for each thing pydantic found wrong."""
    lines: list[str] = []
    for item in error.errors(include_url=False, include_context=False):
        what = item["msg"][:1].lower() + item["msg"][1:]
        if item["type"] == "extra_forbidden":
            what = "no such name is known"
        if item["type"] not in ("missing", "json_invalid"):
            what = f"{what}, got {describe(item['input'])}"
        lines.append(problem(item["loc"], what))
    return lines


def compile_schema(schema: Mapping[str, Any]) -> Callable[[object], list[str]]:
    """A validator of the schema: a function from an instance to the lines of what is wrong with it.

    The draft is the one ``$schema`` names, else 2020-12.

    Raises:
        ValueError: The schema is not a valid schema of its draft; the message says where.
    """
    from jsonschema import SchemaError
    from jsonschema.validators import Draft202012Validator, validator_for
    from referencing import Registry

    cls = validator_for(schema, default=Draft202012Validator)
    try:
        cls.check_schema(schema)
    except SchemaError as error:
        raise ValueError(problem(tuple(error.absolute_path), error.message).removeprefix("- ")) from error
    validator = cls(dict(schema), format_checker=cls.FORMAT_CHECKER, registry=Registry())

    def problems(instance: object) -> list[str]:
        return [problem(tuple(e.absolute_path), e.message) for e in validator.iter_errors(instance)]

    return problems


def to_json(value: object) -> str:
    """JSON as the Hermes wire writes it.

    Raises:
        ValueError, TypeError, RecursionError: The value is not JSON.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
