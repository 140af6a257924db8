"""Validation against a JSON schema that someone else wrote, meaning exactly what it says."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from hermes_agent.ecma import compile_pattern
from hermes_agent.plain_schema import DRAFTS, is_plain
from hermes_agent.schema import LINES, SHOWN, describe, problem
from hermes_agent.string_formats import FORMATS

if TYPE_CHECKING:
    from jsonschema import FormatChecker, ValidationError
    from jsonschema.protocols import Validator

__all__ = ["Problems", "compile_schema"]

Problems = Callable[[object], list[str]]
"""From an instance to one line for each thing that is wrong with it; none when it is valid."""

_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
"""Keywords whose value has schemas under names that are free to choose."""

_DATA = ("enum", "const", "default", "examples")
"""Keywords whose value is data, whatever it looks like."""


def compile_schema(schema: Mapping[str, Any]) -> Problems:
    """A validator of the schema, exact where jsonschema alone is not: formats, patterns, ``multipleOf``.

    The draft is the one ``$schema`` names, else 2020-12. References are resolved within the schema and the
    published meta-schemas; nothing is ever fetched.

    Raises:
        ValueError: The schema is not a valid schema of its draft; the message says where.
    """
    from jsonschema import FormatChecker, SchemaError
    from jsonschema.validators import Draft202012Validator, validator_for

    if not isinstance(schema.get("$schema", ""), str):
        raise ValueError(f"$schema: {schema['$schema']!r} is not a string")  # noqa: TRY004  # a bad value in a schema
    base: Any = validator_for(schema, default=Draft202012Validator)
    try:
        draft: str = base.META_SCHEMA["$schema"]
        if draft not in DRAFTS or not is_plain(schema):
            base.check_schema(schema, format_checker=FormatChecker(formats=()))  # patterns are judged below, as ECMA's
        _check_references(schema, draft)
        validator = _exact(base)(_python_patterns(schema), format_checker=_format_checker(), registry=_registry())
    except SchemaError as error:
        raise ValueError(problem(tuple(error.absolute_path), _message(error)).removeprefix("- ")) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error

    def problems(instance: object) -> list[str]:
        try:
            found: list[Any] = list(islice(validator.iter_errors(instance), LINES + 1))
            lines = [problem(tuple(e.absolute_path), _message(e)) for e in found[:LINES]]
        except BaseException as error:
            # Where the stack ends inside of jsonschema's maps, which are written in Rust, that is no RecursionError.
            if not isinstance(error, RecursionError) and type(error).__name__ != "PanicException":
                raise
            return [problem((), "nested too deeply to be checked")]
        return [*lines, "- and more"] if len(found) > LINES else lines

    return problems


def _message(error: Any) -> str:
    """What jsonschema says, with the value cut; for a union, what the nearest member says too."""
    from jsonschema import exceptions

    shown = repr(error.instance)
    text = str(error.message)
    if len(shown) > SHOWN:
        text = text.replace(shown, describe(error.instance))
    if len(text) > 4 * SHOWN:
        text = f"{text[: 4 * SHOWN]}…"
    if not error.context:
        return text
    nearest: Any = cast("Any", exceptions).best_match(error.context)
    return f"{text}; nearest: {problem(tuple(nearest.path), nearest.message)[2:][: 2 * SHOWN]}"


def _python_patterns(schema: Any) -> Any:
    """A copy whose ``patternProperties`` are Python's; every other pattern is only compiled, to refuse it now."""
    if isinstance(schema, list):
        return [_python_patterns(part) for part in cast("list[object]", schema)]
    if not isinstance(schema, Mapping):
        return schema
    out: dict[str, Any] = {}
    for key, part in cast("Mapping[str, Any]", schema).items():
        if key == "pattern" and isinstance(part, str):
            compile_pattern(part)
            out[key] = part
        elif key in _NAMED and isinstance(part, Mapping):
            named = {name: _python_patterns(sub) for name, sub in cast("Mapping[str, Any]", part).items()}
            out[key] = _translated(named) if key == "patternProperties" else named
        else:
            out[key] = part if key in _DATA else _python_patterns(part)
    return out


def _translated(named: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for pattern, part in named.items():
        text = compile_pattern(pattern).pattern
        while text in out:  # two spellings of one pattern keep both their schemas
            text += "(?:)"
        out[text] = part
    return out


def _registry() -> Any:
    """The published meta-schemas, and no way to fetch anything else."""
    from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]  # has none

    return REGISTRY


def _is_object(resource: Any) -> bool:
    return isinstance(resource.contents, Mapping)


def _check_references(schema: Any, draft: str) -> None:
    from referencing import Resource
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import specification_with

    root: Resource[Any] = Resource.from_contents(schema, default_specification=specification_with(draft))
    uri = root.id() or ""
    todo: list[tuple[Resource[Any], Any]] = [(root, _registry().with_resource(uri, root).resolver(uri))]
    while todo:
        resource, resolver = todo.pop()
        reference = cast("Mapping[str, object]", resource.contents).get("$ref") if _is_object(resource) else None
        if isinstance(reference, str):
            try:
                resolver.lookup(reference)
            except Unresolvable as error:
                raise ValueError(f"{reference!r} refers to nothing in it, and nothing is fetched") from error
        todo.extend((part, resolver.in_subresource(part)) for part in resource.subresources())


@cache
def _format_checker() -> FormatChecker:
    from jsonschema import FormatChecker

    checker = FormatChecker(formats=())

    def add(name: str, check: Callable[[str], object]) -> None:
        def holds(value: object) -> bool:
            return not isinstance(value, str) or bool(check(value))

        checker.checks(name, raises=ValueError)(holds)

    for name, check in FORMATS.items():
        add(name, check)
    add("regex", compile_pattern)
    return checker


@cache
def _exact(base: Any) -> Any:
    """The draft's validator with ECMA patterns and exact division."""
    from jsonschema import ValidationError, validators

    def pattern(_: Validator, pattern: str, instance: object, __: object) -> Iterator[ValidationError]:
        if isinstance(instance, str) and not compile_pattern(pattern).search(instance):
            yield ValidationError(f"{instance!r} does not match {pattern!r}")

    def multiple_of(validator: Validator, step: float, instance: Any, _: object) -> Iterator[ValidationError]:
        if validator.is_type(instance, "number") and _exactly(instance) % _exactly(step):
            yield ValidationError(f"{instance!r} is not a multiple of {step!r}")

    return cast("Any", validators).extend(base, {"pattern": pattern, "multipleOf": multiple_of})


def _exactly(number: Any) -> Fraction:
    """The number as it is written in JSON: 0.1 is a tenth. NaN and the infinities, which are not, count as 0."""
    if isinstance(number, float):
        return Fraction(repr(number)) if math.isfinite(number) else Fraction(0)
    return Fraction(number)
