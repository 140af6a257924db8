"""Values that a JSON schema allows, made of the shape that its grammar is made of."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from hermes_agent.formats.schema import Prepared, prepare
from hermes_agent.formats.shapes.algebra import Algebra, TooComplexError
from hermes_agent.formats.shapes.from_schema import read
from hermes_agent.formats.shapes.leaves import arrange_number, same, within
from hermes_agent.formats.shapes.nodes import (
    Anything,
    Array,
    Literal,
    Nothing,
    Number,
    Object,
    Ref,
    Shape,
    String,
    Union,
    kind_of,
    lookup,
)
from hermes_agent.json_text import dump_json
from hermes_agent.testing.suggestions import Path, narrowed, suggestions
from hermes_agent.testing.texts import text_for
from hermes_agent.testing.walk import walk
from hermes_agent.testing.whim import Whim

__all__ = ["UnfillableError", "proposals"]

_DEEP: Final = 5
"""Levels of objects and arrays below which only what must be is written."""
_WIDE: Final = 200
"""Values behind which only what must be is written."""
_TRIES: Final = 8
_EVERY: Final = frozenset(("null", "boolean", "number", "string", "array", "object"))


class UnfillableError(ValueError):
    """No value was found for a part of a schema; the text names it."""

    def __init__(self, path: Path, why: str) -> None:
        place = "".join(f"[{name}]" if name == "*" else f".{name}" for name in path)
        super().__init__(f"${place}: {why}")


def proposals(schema: Mapping[str, Any], seed: str | None) -> Iterator[Any | UnfillableError]:
    """Values for a schema without end, the likeliest first; what is no value says which part has none.

    They have what the grammar for the schema enforces. What is left to the validation they may lack: whoever takes one
    has to validate it, and to ask for the next if need be.

    Args:
        schema: The schema.
        seed: Varies the values; ``None`` begins with the plainest one.

    Raises:
        GrammarError: Nothing satisfies the schema.
    """
    prepared = prepare(schema)  # says why where nothing satisfies it
    filling = _filling(schema)
    for number in itertools.count(0 if seed is not None else -1):
        whim = Whim() if number < 0 else Whim(f"{seed}/{number}")
        try:
            yield _walked(prepared, whim) if filling is None else filling.value(whim)
        except UnfillableError as error:
            yield error


def _filling(schema: Mapping[str, Any]) -> _Filling | None:
    """What fills a schema by its shape, whatever the engine makes of that; ``None`` where it is too complex."""
    for said in (narrowed(schema), schema):
        algebra = Algebra()
        try:
            shape = read(said, algebra)
        except (TooComplexError, RecursionError):
            return None
        if not isinstance(algebra.resolve(shape), Nothing):
            return _Filling(shape, algebra, suggestions(schema))
    return None


def _walked(prepared: Prepared, whim: Whim) -> Any:
    """A value of a schema that only the engine has read."""
    text = walk(f"%llguidance {{}}\nstart: %json {prepared.text}", whim)
    if text is None:
        raise UnfillableError((), "the grammar was not brought to an end")
    return json.loads(text)


class _Filling:
    """Fills one shape, again and again.

    Args:
        shape: The shape.
        algebra: What references lead into.
        known: Values that the schema itself suggests, by path.
    """

    def __init__(self, shape: Shape, algebra: Algebra, known: Mapping[Path, list[Any]]) -> None:
        self._shape = shape
        self._algebra = algebra
        self._known = known
        self._heights: dict[str, float] = {}
        self._find_heights()

    def value(self, whim: Whim) -> Any:
        """A value of the shape.

        Raises:
            UnfillableError: None was found.
        """
        value = _Attempt(self, whim).fill(self._shape, (), frozenset())
        return self._algebra.arrange(self._shape, value, value)

    def resolve(self, shape: Shape) -> Shape:
        """What a reference stands for."""
        return self._algebra.resolve(shape)

    def suggested(self, shape: Shape, path: Path) -> list[Any]:
        """What the schema suggests at a path, as far as the shape holds it."""
        return [value for value in self._known.get(path, ()) if self._algebra.holds(shape, value)]

    def height(self, shape: Shape) -> float:
        """Levels of objects and arrays that a value has at least; infinite if there is no value."""
        if isinstance(shape, Ref):
            return self._heights.get(shape.name, math.inf)
        if isinstance(shape, Union):
            return min(map(self.height, shape.options))
        if isinstance(shape, Array):
            needed = [*shape.prefix[: shape.least], *([shape.rest] if shape.least > len(shape.prefix) else [])]
            return 1 + max(map(self.height, needed), default=0)
        if isinstance(shape, Object):
            required = frozenset(shape.required)
            return 1 + max((self.height(at) for name, at in shape.properties if name in required), default=0)
        return math.inf if isinstance(shape, Nothing) else 0

    def _find_heights(self) -> None:
        """From references that need no other on: each round settles those that rest on settled ones."""
        while True:
            found = {name: self.height(at) for name, at in self._algebra.definitions.items() if at is not None}
            if found == self._heights:
                return
            self._heights = found


class _Attempt:
    """One value in the making."""

    def __init__(self, filling: _Filling, whim: Whim) -> None:
        self._filling = filling
        self._whim = whim
        self._count = 0

    def fill(self, shape: Shape, path: Path, above: frozenset[int], *, short: bool = False) -> Any:
        """A value of a shape.

        Args:
            shape: The shape.
            path: Where in the whole value it stands.
            above: The shapes with a name that it lies within, by ``id``.
            short: Whether to write only what must be.
        """
        self._count += 1
        short = short or len(path) > _DEEP or self._count > _WIDE
        behind = self._filling.resolve(shape)
        if isinstance(shape, Ref):
            # Met within itself it takes the shortest way out, at the latest where the value gets deep.
            short = short or (id(behind) in above and self._whim.plain)
            above |= {id(behind)}
        shape = behind
        known = self._filling.suggested(shape, path)
        if known and (self._whim.plain or self._whim.chance(0.5)):
            return self._whim.one_of(known)
        if isinstance(shape, Union):
            return self._union(shape, path, above, short=short)
        if isinstance(shape, Array):
            return self._array(shape, path, above, short=short)
        if isinstance(shape, Object):
            return _Members(self, self._filling, self._whim, shape, path).fill(above, short=short)
        return self._scalar(shape, path)

    def _scalar(self, shape: Shape, path: Path) -> Any:
        if isinstance(shape, Anything):
            return self._whim.one_of(("a", 1, True, None, 0.5, ["a"], {"a": 1}))
        if isinstance(shape, Literal):
            return shape.value
        if isinstance(shape, String):
            if (text := text_for(shape, self._whim)) is None:
                raise UnfillableError(path, f"no string was found for {_told(shape)}")
            return text
        if isinstance(shape, Number):
            if (number := number_for(shape, self._whim)) is None:
                raise UnfillableError(path, f"no number was found for {_told(shape)}")
            return number
        assert isinstance(shape, Nothing | Ref)
        raise UnfillableError(path, getattr(shape, "reason", "") or "there is no value")

    def _union(self, shape: Union, path: Path, above: frozenset[int], *, short: bool) -> Any:
        height = self._filling.height
        options = [option for option in shape.options if height(option) < math.inf]
        if short:
            options.sort(key=height)
        elif self._whim.plain:
            options.sort(key=_plainness(options, self._filling))
        else:
            first = self._whim.one_of(options) if options else None
            options.sort(key=lambda option: option is not first)
        why = UnfillableError(path, "none of several possibilities has a value")
        for option in options:
            try:
                return self.fill(option, path, above, short=short)
            except UnfillableError as error:
                why = error
        raise why

    def _array(self, shape: Array, path: Path, above: frozenset[int], *, short: bool) -> list[Any]:
        more = 0 if short else self._whim.up_to(3)
        count = shape.least + more if shape.most is None else min(shape.least + more, shape.most)
        items: list[Any] = []
        for at in itertools.islice(itertools.chain(shape.prefix, itertools.repeat(shape.rest)), count):
            try:
                items.append(self._another(at, (*path, "*"), above, items, short=short))
            except UnfillableError:
                if len(items) < shape.least:
                    raise
                break
        return items

    def _another(self, shape: Shape, path: Path, above: frozenset[int], others: list[Any], *, short: bool) -> Any:
        """A value that is none of the others, if that can be: items may have to be unique."""
        value = self.fill(shape, path, above, short=short)
        whim = self._whim
        for attempt in range(_TRIES * bool(others)):
            if not any(same(value, other) for other in others):
                break
            self._whim = Whim(f"{len(others)}/{attempt}")
            value = self.fill(shape, path, above, short=short)
        self._whim = whim
        return value


class _Members:
    """The properties of one object."""

    def __init__(self, attempt: _Attempt, filling: _Filling, whim: Whim, shape: Object, path: Path) -> None:
        self._attempt, self._filling, self._whim = attempt, filling, whim
        self._shape, self._path = shape, path

    def fill(self, above: frozenset[int], *, short: bool) -> dict[str, Any]:
        """An object of the shape."""
        shape = self._shape

        def filled(name: str) -> Any:
            return self._attempt.fill(lookup(shape, name), (*self._path, name), above, short=short)

        value = {name: filled(name) for name in shape.required}
        wanted = shape.least if short else shape.least + self._whim.up_to(len(shape.properties) + self._maps())
        for name in self._optional(short=short):
            if len(value) >= max(wanted, shape.least) or not within(len(value) + 1, 0, shape.most):
                break
            if name in value:
                continue
            try:
                value[name] = filled(name)
            except UnfillableError:
                continue
        if len(value) < shape.least:
            raise UnfillableError(self._path, f"no {shape.least} properties were found")
        return value

    def _maps(self) -> int:
        """Two for an object that maps names which are not declared to values of some kind, else none."""
        named = any(not isinstance(at, Nothing) for _, at in self._shape.patterns)
        return 2 * (named or not isinstance(self._filling.resolve(self._shape.rest), Anything | Nothing))

    def _optional(self, *, short: bool) -> Iterator[str]:
        """Names that may be added, the likeliest first."""
        declared = [name for name, at in self._shape.properties if self._filling.height(at) < math.inf]
        if not self._whim.plain and not short:
            declared.sort(key=lambda name: self._whim.up_to(1_000_000))
        yield from declared
        for pattern, at in self._shape.patterns:
            if self._filling.height(at) < math.inf:
                for number in range(-1, max(self._shape.least, _TRIES)):
                    name = text_for(String(1, patterns=(pattern,)), self._whim if number < 0 else Whim(f"{number}"))
                    yield from () if name is None else (name,)
        if self._filling.height(self._shape.rest) < math.inf:
            for number in range(self._shape.least + _TRIES):
                name = f"key{number + 1}"
                if lookup(self._shape, name) is self._shape.rest:
                    yield name


def _plainness(options: list[Shape], filling: _Filling) -> Any:
    """How plain a possibility is: ``null`` is none if there is another, and a schema without a type means more."""
    behind = {id(option): filling.resolve(option) for option in options}
    untyped = {kind_of(at) for at in behind.values()} >= _EVERY

    def key(option: Shape) -> tuple[bool, bool]:
        at = behind[id(option)]
        bare = at in (Number(), String(), Array(), Object()) or kind_of(at) in ("null", "boolean")
        return kind_of(at) == "null", untyped and bare

    return key


def _told(shape: String | Number) -> str:
    """What is wanted of a value, for people."""
    names = [name for name in shape.__slots__ if getattr(shape, name) not in (None, (), 0, False, frozenset())]
    return f"{kind_of(shape)}({', '.join(f'{name}={getattr(shape, name)!r}' for name in names)})"


# Numbers


def number_for(shape: Number, whim: Whim) -> int | float | None:
    """A number of a shape, with as few digits and as near to 0 as may be; ``None`` if none was found."""
    steps = list(_steps(shape))
    for step in steps[whim.up_to(min(3, len(steps) - 1)) :]:
        first = None if shape.low is None else math.ceil(_exactly(shape.low) / step)
        last = None if shape.high is None else math.floor(_exactly(shape.high) / step)
        if first is not None and shape.low_open and first * step == _exactly(shape.low or 0):
            first += 1
        if last is not None and shape.high_open and last * step == _exactly(shape.high or 0):
            last -= 1
        if first is not None and last is not None and first > last:
            continue
        nearest = first if first is not None and first > 0 else last if last is not None and last < 0 else 0
        spread = whim.up_to(200) - 100 if not whim.plain else 0
        for times in (_clipped(nearest + spread, first, last), nearest):
            number = _number(times * step, shape)
            found: int | float | None = arrange_number(shape, number, None)
            if found is not None:
                return found
    return None


def _clipped(value: int, first: int | None, last: int | None) -> int:
    value = value if first is None else max(value, first)
    return value if last is None else min(value, last)


def _steps(shape: Number) -> Iterator[Fraction]:
    """What numbers of the shape may be multiples of, the roundest first."""
    factors = [_exactly(factor) for factor in shape.multiples] + [Fraction(1)] * shape.integer
    if factors:
        over = math.lcm(*(factor.denominator for factor in factors))
        yield Fraction(math.lcm(*(int(factor * over) for factor in factors)), over)
        return
    for digits in range(18):
        yield Fraction(1, 10**digits)


def _number(value: Fraction, shape: Number) -> int | float:
    return int(value) if shape.integer or value.denominator == 1 else float(value)


def _exactly(number: float) -> Fraction:
    """The number as it is written in JSON: 0.1 is a tenth."""
    return Fraction(number) if isinstance(number, int) else Fraction(Decimal(dump_json(number)))
