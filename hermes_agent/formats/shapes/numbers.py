"""Numbers by their digits: bounds and divisors as sets of texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

from hermes_agent.formats.automata import Automaton
from hermes_agent.formats.patterns import whole
from hermes_agent.formats.shapes.nodes import Number

__all__ = ["INTEGER", "bounded", "divisible", "magnitudes"]

INTEGER = "(?:0|[1-9][0-9]*)"
_FRACTION = r"(?:\.[0-9]+)?"
_MOST_REMAINDERS = 1_000


def bounded(shape: Number, most: float | None) -> Number:
    """The shape with a bound where it has none, unless its own bound lies beyond."""
    if most is None:
        return shape
    if shape.low is None and (shape.high is None or shape.high > -most):
        shape = replace(shape, low=-most)
    if shape.high is None and shape.low is not None and shape.low < most:
        shape = replace(shape, high=most)
    return shape


def magnitudes(shape: Number, *, negative: bool) -> Automaton | None:
    """The numbers of a shape that are negative, without their sign, or those that are not; ``None`` if there are none.

    Divisors are not looked at. No number has an exponent, and none is written ``-0``.
    """
    low, low_open, high, high_open = shape.low, shape.low_open, shape.high, shape.high_open
    if negative:
        low, low_open, high, high_open = high, high_open, low, low_open
        low, high = None if low is None else -low, None if high is None else -high
        if low is None or low < 0:
            low, low_open = 0, True
        low_open = low_open or low == 0
    if high is not None and (high < 0 or (high == 0 and high_open)):
        return None
    found = whole(INTEGER if shape.integer else INTEGER + _FRACTION)
    if low is not None and (low > 0 or (low == 0 and low_open)):
        found &= whole("|".join(_at_least(low, low_open)))
    if high is not None:
        found &= whole("|".join(_at_most(high, high_open)))
    return found if found.ends and (found.moves[0] or 0 in found.ends) else None


def _digits(bound: float) -> tuple[str, str]:
    """What stands before and behind the point, without needless zeros."""
    before, _, behind = format(abs(Decimal(repr(bound))), "f").partition(".")
    return before, behind.rstrip("0")


def _some(first: int, last: int) -> str:
    return f"[{first}-{last}]"


def _at_least(bound: float, strict: bool) -> Iterator[str]:
    before, behind = _digits(bound)
    size = len(before)
    yield f"[1-9][0-9]{{{size},}}{_FRACTION}"
    for at, digit in enumerate(before):
        if digit != "9":
            yield f"{before[:at]}{_some(int(digit) + 1, 9)}[0-9]{{{size - at - 1}}}{_FRACTION}"
    for at, digit in enumerate(behind):
        if digit != "9":
            yield rf"{before}\.{behind[:at]}{_some(int(digit) + 1, 9)}[0-9]*"
    if strict:
        yield rf"{before}\.{behind}[0-9]*[1-9][0-9]*"
    else:
        yield rf"{before}\.{behind}[0-9]*" if behind else f"{before}{_FRACTION}"


def _at_most(bound: float, strict: bool) -> Iterator[str]:
    before, behind = _digits(bound)
    size = len(before)
    if size > 1:
        yield f"(?:0|[1-9][0-9]{{0,{size - 2}}}){_FRACTION}"
    for at, digit in enumerate(before):
        least = int(at == 0 and size > 1)
        if int(digit) > least:
            yield f"{before[:at]}{_some(least, int(digit) - 1)}[0-9]{{{size - at - 1}}}{_FRACTION}"
    if behind:
        yield before
    for at, digit in enumerate(behind):
        if at:
            yield rf"{before}\.{behind[:at]}"
        if digit != "0":
            yield rf"{before}\.{behind[:at]}{_some(0, int(digit) - 1)}[0-9]*"
    if not strict:
        yield rf"{before}\.{behind}0*" if behind else rf"{before}(?:\.0+)?"


def divisible(factor: float) -> Automaton | None:
    """The texts of numbers that a factor divides; ``None`` where that would take too many states."""
    before, behind = _digits(factor)
    if before == "0" and behind == "0" * (len(behind) - 1) + "1":
        return whole(rf"{INTEGER}(?:\.[0-9]{{1,{len(behind)}}}0*)?")
    if behind or int(before) > _MOST_REMAINDERS:
        return None
    return _without_remainder(int(before)) & whole(rf"{INTEGER}(?:\.0+)?")


def _without_remainder(factor: int) -> Automaton:
    """Digits by their remainder; behind a point, nothing is counted any more."""

    def digit(value: int) -> tuple[tuple[int, int], ...]:
        return ((0x30 + value, 0x30 + value),)

    point, tail = factor, factor + 1
    moves = [tuple((digit(value), (rest * 10 + value) % factor) for value in range(10)) for rest in range(factor)]
    moves[0] = (*moves[0], (((0x2E, 0x2E),), point))
    zeros = ((digit(0), tail),)
    return Automaton((*moves, zeros, zeros), frozenset((0, tail)))
