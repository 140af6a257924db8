"""A calculator without ``eval``: its own tokens, its own precedence climbing, exact fractions, bounded work."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

from hermes_agent.toolbox.exact import CONSTANTS, FUNCTIONS, INFIX, Number, plain, within_bounds

__all__ = ["calculator"]

MAX_CHARS: Final = 500
MAX_DEPTH: Final = 50
MAX_EXPONENT: Final = 1000
_Kind = Literal["number", "name", "op", "end"]

# Signs that people and models write in place of the ASCII ones.
# ruff: noqa: RUF001 - the table exists for the characters this rule warns of
_SPELLINGS: Final = str.maketrans(
    dict.fromkeys("×∙⋅·∗＊", "*")
    | dict.fromkeys("÷∕／", "/")
    | dict.fromkeys("−–－", "-")
    | {
        "＋": "+",
        "（": "(",
        "）": ")",
        "，": ",",
        "％": "%",
        "²": "^2",
        "³": "^3",
        "π": " pi ",
        "\N{NO-BREAK SPACE}": " ",
    }
)
_TOKEN: Final = re.compile(
    r"\s*(?:(?P<number>[0-9.][0-9_.]*(?:[eE][+-]?[0-9]+)?)|(?P<name>[A-Za-z_]\w*)|(?P<op>//|\*\*|\S))"
)
_THOUSANDS: Final = re.compile(r"\s*([0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?)(?![0-9,.\w])")
_NUMBER: Final = re.compile(r"(?:[0-9]+(?:_[0-9]+)*)?(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?")

# How tightly each infix operator binds; ``of`` is the one in "15% of 80", and "x" is read as a times sign.
_BINDS: Final = {"+": 1, "-": 1, "*": 2, "/": 2, "//": 2, "%": 2, "x": 2, "mod": 2, "of": 3, "**": 4, "^": 4}
_SIGN: Final = 3


def calculator(expression: str) -> int | float:
    """Work out an arithmetic expression exactly.

    Use it for every sum, product, percentage or power instead of doing it in your head.

    Args:
        expression: The sum to work out, such as "17 * 23", "2^10", "15% of 80" or "sqrt(2) / 3".
    """
    if len(expression) > MAX_CHARS:
        raise ValueError(f"the expression has {len(expression)} characters, and {MAX_CHARS} is the most")
    try:
        return plain(_Parser(expression, _tokens(expression.translate(_SPELLINGS))).whole())
    except ZeroDivisionError:
        raise ValueError(f"{expression!r} divides by zero") from None
    except OverflowError:
        raise ValueError(f"{expression!r} is too large to work out") from None
    except ValueError as error:
        raise ValueError(f"cannot work out {expression!r}: {error}") from None


@dataclass(frozen=True, slots=True)
class _Token:
    kind: _Kind
    text: str


def _tokens(text: str) -> list[_Token]:
    """Cut the expression up; a comma joins thousands except among the arguments of a function."""
    tokens: list[_Token] = []
    calls: list[bool] = []  # for each open parenthesis: does it hold the arguments of a function?
    at, end = 0, len(text.rstrip())
    while at < end:
        grouped = None if calls and calls[-1] else _THOUSANDS.match(text, at)
        if grouped is not None:
            tokens.append(_Token("number", grouped[1].replace(",", "")))
            at = grouped.end()
            continue
        match = _TOKEN.match(text, at)
        if match is None:  # cannot happen: the last alternative takes any character
            raise ValueError(f"unreadable text {text[at:]!r}")
        at = match.end()
        if match["number"]:
            tokens.append(_Token("number", match["number"]))
        elif match["name"]:
            tokens.append(_Token("name", match["name"].lower()))
        else:
            if match["op"] == "(":
                calls.append(bool(tokens) and tokens[-1].kind == "name" and tokens[-1].text not in _BINDS)
            elif match["op"] == ")" and calls:
                calls.pop()
            tokens.append(_Token("op", match["op"]))
    return [*tokens, _Token("end", "")]


class _Parser:
    """Precedence climbing that works the value out as it reads, so no tree is ever built."""

    def __init__(self, source: str, tokens: list[_Token]) -> None:
        self._source = source
        self._tokens = tokens
        self._at = 0
        self._depth = 0
        self._percent = False  # was the value just read a bare percentage?

    def whole(self) -> Number:
        value = self._expression(0)
        rest = self._tokens[self._at]
        if rest.kind == "end":
            return value
        if rest.text == ",":
            raise ValueError("a comma must group thousands, as in 1,234; write 1.5 with a point")
        if rest.text == ")":
            raise ValueError("there is a ')' too many")
        if rest.text in {"=", "<", ">", "!"}:
            raise ValueError(f"{rest.text!r} is not arithmetic: write only what is to be worked out")
        raise ValueError(f"an operator is missing before {rest.text!r}; write 2 * (3 + 4), not 2(3 + 4)")

    def _next(self) -> _Token:
        token = self._tokens[self._at]
        if token.kind != "end":
            self._at += 1
        return token

    def _expression(self, floor: int) -> Number:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
        value = self._operand()
        while self._tokens[self._at].text == "%" and self._is_percent():
            self._at += 1
            value, self._percent = within_bounds(value / Fraction(100)), True
        while True:
            operator = self._tokens[self._at].text
            binds = _BINDS.get(operator, -1)
            if binds <= floor and not (binds == floor == _BINDS["**"]):
                break
            self._at += 1
            if operator == "of" and not self._percent:
                raise ValueError("'of' takes a percentage before it, as in 15% of 80")
            shares = self._percent
            right = self._expression(binds)
            if self._percent and not shares and operator in {"+", "-"}:
                raise ValueError(
                    "adding or taking off a percentage can mean two things; write 200 * (1 + 10/100) or 200 + 10/100"
                )
            value = within_bounds(INFIX[operator](value, right))
            self._percent = self._percent and shares and operator in {"+", "-", "of"}
        self._depth -= 1
        return value

    def _is_percent(self) -> bool:
        """After a ``%``: is it a percent sign (15% of 80), or the remainder operator (17 % 5)?"""
        following = self._tokens[self._at + 1]
        if following.text == "-":
            raise ValueError("'%' before '-' can mean two things; write 10/100 for 10 percent, or 10 mod (-3)")
        operand = following.kind in {"number", "name"} or following.text == "("
        return following.text in _BINDS or not operand

    def _operand(self) -> Number:
        token = self._next()
        self._percent = False
        if token.kind == "number":
            return _number(token.text)
        if token.text in {"+", "-"}:
            value = self._expression(_SIGN)
            return -value if token.text == "-" else value
        if token.text == "(":
            value = self._expression(0)
            self._close()
            self._percent = False
            return value
        if token.kind == "name":
            return self._named(token.text)
        if token.kind == "end":
            raise ValueError("it stops where a number should follow" if self._at else "it is empty")
        raise ValueError(f"a number was expected where {token.text!r} stands")

    def _close(self) -> None:
        token = self._next()
        if token.text != ")":
            wrong = "the expression ends" if token.kind == "end" else f"{token.text!r} stands"
            raise ValueError(f"a ')' is missing where {wrong}")

    def _named(self, name: str) -> Number:
        called = self._tokens[self._at].text == "("
        if name in CONSTANTS and not called:
            return CONSTANTS[name]
        if name not in FUNCTIONS:
            known = ", ".join(sorted([*FUNCTIONS, *CONSTANTS]))
            raise ValueError(f"unknown name {name!r}; known are {known}")
        if not called:
            raise ValueError(f"{name!r} is a function: write {name}(...)")
        self._at += 1
        arguments: list[Number] = []
        if self._tokens[self._at].text != ")":
            arguments.append(self._expression(0))
            while self._tokens[self._at].text == ",":
                self._at += 1
                arguments.append(self._expression(0))
        self._close()
        self._percent = False
        least, most, function = FUNCTIONS[name]
        if not least <= len(arguments) <= most:
            takes = str(least) if least == most else f"{least} or more" if most > 9 else f"{least} to {most}"
            raise ValueError(f"{name} takes {takes} arguments, not {len(arguments)}")
        return within_bounds(function(*arguments))


def _number(text: str) -> Number:
    if not _NUMBER.fullmatch(text) or not any(char.isdigit() for char in text):
        raise ValueError(f"{text!r} is not a number")
    _, _, exponent = text.lower().partition("e")
    if exponent and abs(int(exponent)) > MAX_EXPONENT:
        raise ValueError(f"the exponent of {text!r} is beyond {MAX_EXPONENT}")
    return within_bounds(Fraction(text))
