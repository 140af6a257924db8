"""Shapes: sets of JSON values as frozen trees.

A JSON schema says *which constraints hold*; a grammar says *what may be written next*. A shape is the step between:
every shape but `Union` and `Ref` holds values of one JSON type only, so constraints that meet can be merged and
what is empty can be seen to be empty. The functions below are the constructors to use: they keep a shape in its
simplest form, and an empty one is always `Nothing`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias, TypeGuard

from hermes_agent.ecma import compile_pattern

__all__ = [
    "ANYTHING",
    "EVERY_TYPE",
    "Anything",
    "Array",
    "Literal",
    "Nothing",
    "Number",
    "Object",
    "Ref",
    "Shape",
    "String",
    "Union",
    "array",
    "finder",
    "is_list",
    "is_object",
    "kind_of",
    "literal",
    "lookup",
    "matches",
    "number",
    "object_",
    "string",
    "undeclared",
    "union",
]


@dataclass(frozen=True, slots=True)
class Nothing:
    """No value. ``reason`` says why, for people."""

    reason: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Anything:
    """Every value."""


@dataclass(frozen=True, slots=True)
class Literal:
    """One value, kept as its JSON text."""

    text: str

    @property
    def value(self) -> Any:
        """The value itself, a new one each time."""
        return json.loads(self.text)


@dataclass(frozen=True, slots=True)
class Number:
    """Numbers between two bounds; ``integer`` wants whole ones. Multiples must all divide."""

    integer: bool = False
    low: float | None = None
    low_open: bool = False
    high: float | None = None
    high_open: bool = False
    multiples: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class String:
    """Strings by length in characters, by patterns found anywhere in them, by format, and by exclusion."""

    least: int = 0
    most: int | None = None
    patterns: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    excluded: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Array:
    """Arrays: the first items each by their own shape, the rest by one."""

    prefix: tuple[Shape, ...] = ()
    rest: Shape = Anything()
    least: int = 0
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Object:
    """Objects: declared properties in the order they are written, then keys by pattern, then the rest.

    A declared property's shape already includes what the patterns that match its name want. Its being
    `Nothing` forbids the name.
    """

    properties: tuple[tuple[str, Shape], ...] = ()
    patterns: tuple[tuple[str, Shape], ...] = ()
    rest: Shape = Anything()
    required: tuple[str, ...] = ()
    least: int = 0
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Union:
    """Any of several shapes, which may overlap."""

    options: tuple[Shape, ...]


@dataclass(frozen=True, slots=True)
class Ref:
    """A named shape, so that shapes can be recursive; names are looked up in an `Algebra`."""

    name: str


Shape: TypeAlias = "Nothing | Anything | Literal | Number | String | Array | Object | Union | Ref"

ANYTHING = Anything()


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Whether a JSON value is an array."""
    return isinstance(value, list)


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether a JSON value is an object."""
    return isinstance(value, dict)


def literal(value: Any) -> Literal:
    """One value. A whole float is the integer: JSON Schema calls the two equal."""
    return Literal(json.dumps(_whole(value)))


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if is_list(value):
        return [_whole(item) for item in value]
    if is_object(value):
        return {key: _whole(item) for key, item in value.items()}
    return value


NULL, TRUE, FALSE = literal(None), literal(True), literal(False)
EVERY_TYPE: dict[str, tuple[Shape, ...]] = {
    "null": (NULL,),
    "boolean": (TRUE, FALSE),
    "number": (Number(),),
    "string": (String(),),
    "array": (Array(),),
    "object": (Object(),),
}


def union(options: Iterable[Shape]) -> Shape:
    """What any of the options holds."""
    kept: dict[Shape, None] = {}
    why = Nothing("none of no options")
    for option in options:
        if isinstance(option, Anything):
            return option
        if isinstance(option, Nothing):
            why = option
        else:
            kept.update(dict.fromkeys(option.options if isinstance(option, Union) else (option,)))
    return next(iter(kept)) if len(kept) == 1 else Union(tuple(kept)) if kept else why


def number(shape: Number) -> Shape:
    """A number shape, or nothing if no number lies between its bounds."""
    low, high = shape.low, shape.high
    if low is None or high is None:
        return shape
    if low > high or (low == high and (shape.low_open or shape.high_open)):
        return Nothing(f"no number is at least {low} and at most {high}")
    if shape.integer:
        first = math.floor(low) + 1 if shape.low_open else math.ceil(low)
        last = math.ceil(high) - 1 if shape.high_open else math.floor(high)
        if first > last:
            return Nothing(f"no integer lies between {low} and {high}")
    return literal(low) if low == high and not shape.multiples else shape


def string(shape: String) -> Shape:
    """A string shape, or nothing if its lengths contradict each other."""
    if shape.most is not None and shape.least > shape.most:
        return Nothing(f"no string has at least {shape.least} and at most {shape.most} characters")
    return shape


def array(shape: Array) -> Shape:
    """An array shape, cut where an item cannot be, or nothing."""
    prefix, most = shape.prefix, shape.most
    for index, item in enumerate((*prefix, shape.rest)):
        if isinstance(item, Nothing):
            most = index if most is None else min(most, index)
            break
    if most is not None and shape.least > most:
        return Nothing(f"no array has at least {shape.least} and at most {most} items")
    if most is not None:
        prefix = prefix[:most]
    return Array(prefix, shape.rest, shape.least, most)


def object_(shape: Object) -> Shape:
    """An object shape with every required property declared, or nothing."""
    properties = dict(shape.properties)
    for name in shape.required:
        if name not in properties:
            properties[name] = undeclared(shape, name)
        if isinstance(at := properties[name], Nothing):
            return Nothing(f"the required property {name!r} can have no value: {at.reason}".removesuffix(": "))
    needed = set(shape.required)
    required = tuple(name for name in properties if name in needed)
    if shape.most is not None and max(len(required), shape.least) > shape.most:
        return Nothing(f"an object with {shape.most} properties at most cannot have {max(len(required), shape.least)}")
    closed = isinstance(shape.rest, Nothing) and all(isinstance(at, Nothing) for _, at in shape.patterns)
    if closed and shape.least > sum(not isinstance(at, Nothing) for at in properties.values()):
        return Nothing(f"fewer than {shape.least} properties are allowed")
    return Object(tuple(properties.items()), shape.patterns, shape.rest, required, shape.least, shape.most)


def kind_of(shape: Shape) -> str:
    """The JSON type of the values of a shape that has only one."""
    if isinstance(shape, Literal):
        kinds = {"N": "null", "t": "boolean", "f": "boolean", '"': "string", "[": "array", "{": "object"}
        return kinds.get(shape.text[0].replace("n", "N"), "number")
    return type(shape).__name__.lower()


def lookup(shape: Object, name: str) -> Shape:
    """What a property may be that is declared, or falls under a pattern, or under the rest."""
    for known, at in shape.properties:
        if known == name:
            return at
    return undeclared(shape, name)


def finder(shape: Object) -> Callable[[str], Shape]:
    """`lookup` in a shape, for many names."""
    declared = dict(shape.properties)
    return lambda name: declared[name] if name in declared else undeclared(shape, name)


def undeclared(shape: Object, name: str) -> Shape:
    """What a property may be that is not declared.

    Patterns are kept disjoint, so the first that matches is the only one.
    """
    for pattern, at in shape.patterns:
        if matches(pattern, name):
            return at
    return shape.rest


@lru_cache(maxsize=4096)
def matches(pattern: str, text: str) -> bool:
    """Whether an ECMA-262 pattern is found in a text; one that cannot be read is found nowhere."""
    try:
        return compile_pattern(pattern).search(text) is not None
    except ValueError:
        return False
