"""The numbers of the calculator: exact fractions where possible, floats where not, and a bound on both."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Final

__all__ = ["CONSTANTS", "FUNCTIONS", "INFIX", "Number", "plain", "within_bounds"]

MAX_BITS: Final = 4096
MAX_DIGITS: Final = int(MAX_BITS * math.log10(2))  # below Python's own limit for printing an integer
_TOO_LONG: Final = f"it gives a whole number of more than {MAX_DIGITS} digits"
_VANISHED: Final = "a value on the way is too close to zero to be told from it"

Number = Fraction | float


def within_bounds(value: Number) -> Number:
    """Keep a value in bounds: whole numbers have a largest size, long fractions become floats.

    Raises:
        ValueError: The value is too large, not finite, or vanishes when it is rounded to a float.
    """
    if not isinstance(value, Fraction):
        if not math.isfinite(value):
            raise ValueError(f"it gives {value}, which is not a finite number")
        return value
    if _bits(value) <= MAX_BITS:
        return value
    if value.denominator == 1:
        raise ValueError(_TOO_LONG)
    return _rounded(value)


def plain(value: Number) -> int | float:
    """The number as Python has it: whole numbers as ``int``, everything else as ``float``."""
    if isinstance(value, Fraction):
        return value.numerator if value.denominator == 1 else _rounded(value)
    whole = int(value)
    return whole if whole == value and abs(whole) < 2**53 else value


def _rounded(value: Fraction) -> float:
    result = float(value)
    if result == 0 and value != 0:
        raise ValueError(_VANISHED)
    return result


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _add(left: Number, right: Number) -> Number:
    return left + right


def _subtract(left: Number, right: Number) -> Number:
    return left - right


def _multiply(left: Number, right: Number) -> Number:
    return left * right


def _divide(left: Number, right: Number) -> Number:
    return left / right


def _floor_divide(left: Number, right: Number) -> Number:
    return Fraction(left // right)


def _remainder(left: Number, right: Number) -> Number:
    if isinstance(left, Fraction) and isinstance(right, Fraction):
        return left % right
    return float(left) % float(right)


def _power(base: Number, exponent: Number) -> Number:
    whole = isinstance(exponent, Fraction) and exponent.denominator == 1
    if isinstance(base, Fraction) and isinstance(exponent, Fraction) and exponent.denominator == 1:
        # A base of b bits raised to n has at least (b - 1) * n bits: known before it is worked out.
        if (_bits(base) - 1) * abs(exponent.numerator) <= MAX_BITS:
            return Fraction(base**exponent.numerator)
        if base.denominator == 1 and exponent > 0:
            raise ValueError(_TOO_LONG)
    if base == 0 and exponent < 0:
        raise ZeroDivisionError
    if base < 0 and not whole:
        raise ValueError("a negative number to a broken power has no real value")
    result = math.pow(float(base), float(exponent))
    if result == 0 and base != 0:
        raise ValueError(_VANISHED)
    return result


INFIX: Final[dict[str, Callable[[Number, Number], Number]]] = {
    "+": _add,
    "-": _subtract,
    "*": _multiply,
    "x": _multiply,
    "of": _multiply,
    "/": _divide,
    "//": _floor_divide,
    "%": _remainder,
    "mod": _remainder,
    "**": _power,
    "^": _power,
}


def _integer(value: Number, what: str) -> int:
    if value != math.floor(value):
        raise ValueError(f"{what} takes whole numbers, not {float(value)!r}")
    return math.floor(value)


def _absolute(value: Number) -> Number:
    return -value if value < 0 else value


def _ceil(value: Number) -> Number:
    return Fraction(math.ceil(value))


def _floor(value: Number) -> Number:
    return Fraction(math.floor(value))


def _largest(*values: Number) -> Number:
    return max(values)


def _smallest(*values: Number) -> Number:
    return min(values)


def _sqrt(value: Number) -> Number:
    if value < 0:
        raise ValueError(f"sqrt of the negative number {plain(value)!r} has no real value")
    if isinstance(value, Fraction):
        top, bottom = math.isqrt(value.numerator), math.isqrt(value.denominator)
        if top * top == value.numerator and bottom * bottom == value.denominator:
            return Fraction(top, bottom)
    return math.sqrt(value)


def _round(value: Number, digits: Number = Fraction(0)) -> Number:
    """Round a half to the even neighbour, as Python and IEEE 754 do; decimals are exact, so 2.675 gives 2.68."""
    places = _integer(digits, "round")
    if abs(places) > 100:
        raise ValueError(f"round takes at most 100 digits, not {places!r}")
    return Fraction(round(Fraction(value), places))


def _factorial(value: Number) -> Number:
    number = _integer(value, "factorial")
    if not 0 <= number <= 500:
        raise ValueError(f"factorial takes 0 to 500, not {number!r}")
    return Fraction(math.factorial(number))


def _of_floats(name: str, function: Callable[[float], float]) -> Callable[[Number], Number]:
    def call(value: Number) -> Number:
        try:
            return function(float(value))
        except ValueError:
            raise ValueError(f"{name}({plain(value)!r}) has no real value") from None

    return call


def _log(value: Number, base: Number = math.e) -> Number:
    if value <= 0 or base <= 0 or base == 1:
        raise ValueError(f"the logarithm of {plain(value)!r} to the base {plain(base)!r} has no real value")
    number = plain(value)
    if base == 10:
        return math.log10(number)
    if base == 2:
        return math.log2(number)
    return math.log(number) / math.log(plain(base))


def _log10(value: Number) -> Number:
    return _log(value, Fraction(10))


def _log2(value: Number) -> Number:
    return _log(value, Fraction(2))


def _common_divisor(*values: Number) -> Number:
    return Fraction(math.gcd(*(_integer(value, "gcd") for value in values)))


def _common_multiple(*values: Number) -> Number:
    return Fraction(math.lcm(*(_integer(value, "lcm") for value in values)))


# Name: the fewest and the most arguments, and the function.
FUNCTIONS: Final[dict[str, tuple[int, int, Callable[..., Number]]]] = {
    "abs": (1, 1, _absolute),
    "ceil": (1, 1, _ceil),
    "factorial": (1, 1, _factorial),
    "floor": (1, 1, _floor),
    "gcd": (1, 99, _common_divisor),
    "lcm": (1, 99, _common_multiple),
    "ln": (1, 1, _log),
    "log": (1, 2, _log),
    "log10": (1, 1, _log10),
    "log2": (1, 1, _log2),
    "max": (1, 99, _largest),
    "min": (1, 99, _smallest),
    "round": (1, 2, _round),
    "sqrt": (1, 1, _sqrt),
    "acos": (1, 1, _of_floats("acos", math.acos)),
    "asin": (1, 1, _of_floats("asin", math.asin)),
    "atan": (1, 1, _of_floats("atan", math.atan)),
    "cbrt": (1, 1, _of_floats("cbrt", math.cbrt)),
    "cos": (1, 1, _of_floats("cos", math.cos)),
    "cosh": (1, 1, _of_floats("cosh", math.cosh)),
    "degrees": (1, 1, _of_floats("degrees", math.degrees)),
    "exp": (1, 1, _of_floats("exp", math.exp)),
    "radians": (1, 1, _of_floats("radians", math.radians)),
    "sin": (1, 1, _of_floats("sin", math.sin)),
    "sinh": (1, 1, _of_floats("sinh", math.sinh)),
    "tan": (1, 1, _of_floats("tan", math.tan)),
    "tanh": (1, 1, _of_floats("tanh", math.tanh)),
}

CONSTANTS: Final[dict[str, float]] = {"pi": math.pi, "e": math.e, "tau": math.tau}
