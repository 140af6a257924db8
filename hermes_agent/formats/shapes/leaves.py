"""What the shapes of numbers, strings and fixed values know of themselves, without any other shape."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, TypeVar

from hermes_agent.formats.shapes.nodes import (
    EVERY_TYPE,
    Array,
    Number,
    Object,
    Shape,
    String,
    is_list,
    is_object,
    kind_of,
    literal,
    matches,
    number,
    string,
)
from hermes_agent.string_formats import FORMATS

__all__ = [
    "arrange_number",
    "holds_string",
    "least_of",
    "meet_numbers",
    "meet_strings",
    "negate_counts",
    "negate_literal",
    "negate_number",
    "negate_string",
    "other_types",
    "same",
    "within",
    "without_negative_zero",
]

T = TypeVar("T")


def same(a: Any, b: Any) -> bool:
    """Equality as JSON Schema has it: 1 is 1.0, but ``true`` is not 1, and the order of keys is nothing."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if is_list(a) and is_list(b):
        return len(a) == len(b) and all(map(same, a, b))
    if is_object(a) and is_object(b):
        return a.keys() == b.keys() and all(same(item, b[key]) for key, item in a.items())
    return bool(a == b)


def least_of(a: int | None, b: int | None) -> int | None:
    """The smaller of two upper bounds, of which ``None`` is none."""
    return b if a is None else a if b is None else min(a, b)


def within(count: int, least: int, most: int | None) -> bool:
    """Whether a count lies between two bounds."""
    return least <= count and (most is None or count <= most)


def meet_numbers(a: Number, b: Number) -> Shape:
    """The numbers that both shapes hold."""
    low, low_open = a.low, a.low_open
    if low is None or (b.low is not None and (b.low, b.low_open) > (low, low_open)):
        low, low_open = b.low, b.low_open
    high, high_open = a.high, a.high_open
    if high is None or (b.high is not None and (-b.high, b.high_open) > (-high, high_open)):
        high, high_open = b.high, b.high_open
    multiples = tuple(dict.fromkeys((*a.multiples, *b.multiples)))
    return number(Number(a.integer or b.integer, low, low_open, high, high_open, multiples))


def meet_strings(a: String, b: String) -> Shape:
    """The strings that both shapes hold."""
    return string(
        String(
            max(a.least, b.least),
            least_of(a.most, b.most),
            tuple(dict.fromkeys((*a.patterns, *b.patterns))),
            tuple(dict.fromkeys((*a.formats, *b.formats))),
            a.excluded | b.excluded,
        )
    )


def arrange_number(shape: Number, value: Any, default: T) -> Any | T:
    """See ``Algebra.arrange``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return default
    if isinstance(value, float) and (not value or (shape.integer and value.is_integer())):
        value = int(value)  # the engine writes integers without a point, and knows no negative zero
    if shape.integer and not isinstance(value, int):
        return default
    if shape.low is not None and (value < shape.low or (shape.low_open and value == shape.low)):
        return default
    if shape.high is not None and (value > shape.high or (shape.high_open and value == shape.high)):
        return default
    return value if all(_divides(factor, value) for factor in shape.multiples) else default


def _divides(factor: float, value: float) -> bool:
    return math.isfinite(value) and _exactly(value) % _exactly(factor) == 0


def _exactly(value: float) -> Fraction:
    """The number as it is written in JSON: 0.1 is a tenth."""
    return Fraction(value) if isinstance(value, int) else Fraction(repr(value))


def without_negative_zero(value: Any) -> Any:
    """The value with 0 for -0.0, which the engine does not know."""
    if is_list(value):
        return [without_negative_zero(item) for item in value]
    if is_object(value):
        return {key: without_negative_zero(item) for key, item in value.items()}
    return value or 0 if isinstance(value, float) else value


def holds_string(shape: String, value: Any) -> bool:
    """Whether a value is one of the strings."""
    return (
        isinstance(value, str)
        and within(len(value), shape.least, shape.most)
        and value not in shape.excluded
        and all(matches(pattern, value) for pattern in shape.patterns)
        and all(FORMATS[name](value) for name in shape.formats if name in FORMATS)
    )


def other_types(shape: Shape) -> list[Shape]:
    """Every value of every other type than the shape's own."""
    mine = kind_of(shape)
    return [at for kind, shapes in EVERY_TYPE.items() if kind != mine for at in shapes]


def negate_literal(value: Any) -> Sequence[Shape] | None:
    """The other values of a fixed value's type; ``None`` where no shape says that."""
    if value is None:
        return ()
    if isinstance(value, bool):
        return (literal(not value),)
    if isinstance(value, str):
        return (String(excluded=frozenset((value,))),)
    if isinstance(value, (int, float)):
        return (Number(high=value, high_open=True), Number(low=value, low_open=True))
    if not value:
        return (Array(least=1),) if isinstance(value, list) else (Object(least=1),)
    return None


def negate_number(shape: Number) -> Sequence[Shape] | None:
    """The other numbers; ``None`` where no shape says that."""
    if shape.integer or shape.multiples:
        return None
    parts: list[Shape] = []
    if shape.low is not None:
        parts.append(Number(high=shape.low, high_open=not shape.low_open))
    if shape.high is not None:
        parts.append(Number(low=shape.high, low_open=not shape.high_open))
    return parts


def negate_string(shape: String) -> Sequence[Shape] | None:
    """The other strings; ``None`` where no shape says that."""
    if shape.patterns or shape.formats:
        return None
    kept: list[Shape] = [literal(text) for text in sorted(shape.excluded)]
    return [*kept, *negate_counts(shape.least, shape.most, lambda least, most: String(least, most))]


def negate_counts(least: int, most: int | None, make: Callable[[int, int | None], Shape]) -> list[Shape]:
    """Counts below one bound and above the other."""
    parts: list[Shape] = []
    if least > 0:
        parts.append(make(0, least - 1))
    if most is not None:
        parts.append(make(most + 1, None))
    return parts
