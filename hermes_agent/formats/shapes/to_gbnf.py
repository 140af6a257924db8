"""Writes a shape as GBNF rules for its values, as `hermes_agent.formats.wire.dump_json` spells them."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable
from functools import cached_property, lru_cache

from hermes_agent.ecma import compile_pattern
from hermes_agent.formats.automata import Automaton, TooLargeError
from hermes_agent.formats.patterns import searched, whole
from hermes_agent.formats.rules import Rules, quoted
from hermes_agent.formats.shapes.algebra import Algebra
from hermes_agent.formats.shapes.nodes import (
    EVERY_TYPE,
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
    union,
)
from hermes_agent.formats.shapes.numbers import bounded, divisible, magnitudes
from hermes_agent.formats.shapes.string_patterns import PATTERNS
from hermes_agent.formats.shapes.to_schema import SAY_NOTHING, Bounds
from hermes_agent.formats.wire import dump_json

__all__ = ["ShapeRules"]

_LONGEST_HOST = 253
_MOST_COUNTED = 2_000
"""Rules that counting the properties of one object may take."""

_EVERYTHING = "(?s:.*)"


class ShapeRules:
    """Writes shapes of one algebra.

    Args:
        rules: Where the rules go.
        algebra: What references lead into.
        bounds: How long a value may grow where its shape does not say.
        warnings: Takes what the rules do not say.
    """

    def __init__(self, rules: Rules, algebra: Algebra, bounds: Bounds, warnings: dict[str, None]) -> None:
        self._rules = rules
        self._algebra = algebra
        self._bounds = bounds
        self._warnings = warnings
        self._written: dict[Shape, str] = {}
        self._refs: dict[str, str] = {}
        self._possible: dict[Shape, bool] = {}

    def warn(self, warning: str) -> None:
        """Note something that is left to the validation."""
        self._warnings[warning] = None

    def write(self, shape: Shape) -> str:
        """What stands for a value of a shape in a rule: a name, a literal, or something in brackets."""
        if isinstance(shape, Ref):
            return self._ref(shape)
        if shape not in self._written:
            self._written[shape] = self._write(shape)
        return self._written[shape]

    def _ref(self, ref: Ref) -> str:
        behind = self._algebra.resolve(ref)
        if isinstance(behind, (Anything, Literal, Number, String)):
            return self.write(behind)
        if ref.name not in self._refs:
            self._refs[ref.name] = name = self._rules.new_name("value")
            self._rules.bodies[name] = self.write(behind)
        return self._refs[ref.name]

    def _write(self, shape: Shape) -> str:
        if isinstance(shape, Literal):
            return quoted(dump_json(shape.value))
        if isinstance(shape, Number):
            plain = not shape.multiples and shape.low is None and shape.high is None
            digits = self._most_digits()
            if plain and digits is not None:
                return self._plain_number(digits, integer=shape.integer)
            return self._number(bounded(shape, self._bounds.number))
        if isinstance(shape, String):
            return self._string(shape)
        if isinstance(shape, Array):
            return self._rules.add("array", self._array(shape))
        if isinstance(shape, Object):
            return _Properties(self, shape).written
        if isinstance(shape, Anything):
            return self._anything
        assert not isinstance(shape, (Nothing, Ref)), "there is no value to write"
        return self._rules.add(
            "value", " | ".join(self.write(option) for option in shape.options if self.can_be(option))
        )

    @cached_property
    def _anything(self) -> str:
        name = self._written[Anything()] = self._rules.new_name("value")
        every = union(at for shapes in EVERY_TYPE.values() for at in shapes)
        self._rules.bodies[name] = self.write(every)
        return name

    # Numbers

    def _most_digits(self) -> str | None:
        """How many digits may follow the first one of any number, as a repeat; ``None`` for an unusual bound."""
        if (most := self._bounds.number) is None:
            return "*"
        digits = str(most)
        return f"{{0,{len(digits) - 2}}}" if digits == f"1{'0' * (len(digits) - 1)}" and len(digits) > 1 else None

    def _plain_number(self, digits: str, *, integer: bool) -> str:
        """A number without bounds of its own, in a few rules: as automata they would take one per digit."""
        add = self._rules.add
        end = "" if integer else ' ( "." [0-9]+ )?'
        most = self._bounds.number
        most_itself = f' | "-"? "{most}"' + ("" if integer else ' ( "." "0"+ )?') if most is not None else ""
        whole_part = add("natural", f'( "0" | [1-9] [0-9]{digits} )')
        below = f"[1-9] [0-9]{digits}{end}" + ("" if integer else ' | "0." "0"* [1-9] [0-9]*')
        return add("integer" if integer else "number", f'{whole_part}{end} | "-" ( {below} ){most_itself}')

    def _number(self, shape: Number) -> str:
        factors: list[Automaton] = []
        for factor in shape.multiples:
            divides = divisible(factor)
            if divides is None:
                self.warn(f"multiples of {factor!r} are checked only afterwards")
            else:
                factors.append(divides)
        options = list(self._signed(shape, factors))
        if not options:
            self.warn(f"no number is a multiple of {shape.multiples}, which is found only afterwards")
            options = list(self._signed(shape, []))
        return self._rules.add("number", " | ".join(options))

    def _signed(self, shape: Number, factors: list[Automaton]) -> Iterable[str]:
        for negative in (False, True):
            try:
                found = magnitudes(shape, negative=negative)
                for factor in factors if found is not None else ():
                    found = found & factor if found is not None else None
            except TooLargeError:
                self.warn(f"numbers from {shape.low!r} to {shape.high!r} are bounded only afterwards: so many digits")
                found = magnitudes(Number(shape.integer), negative=negative)
            if found is not None and found.moves[0]:
                yield '"-" ' * negative + self._rules.automaton("number", found)

    # Strings

    def _string(self, shape: String) -> str:
        parts = [*self._patterns(shape)]
        if shape.excluded:
            parts.append(self.all_but(shape.excluded))
        most = shape.most
        if not parts:
            if most is None and self._bounds.string is not None:
                most = max(self._bounds.string, shape.least)
            return self._rules.add("string", f'"\\"" {self._rules.repeat("char", shape.least, most)} "\\""')
        if "hostname" in shape.formats and most is None:
            self.warn(f"that a host name has {_LONGEST_HOST} characters at most is checked only afterwards")
        if shape.least or most is not None:
            parts.append(self.counted(shape.least, most))
        return self._rules.add("string", f'"\\"" {self.texts("text", parts)} "\\""')

    def counted(self, least: int, most: int | None) -> Automaton:
        """Texts by their length; those of any length if that takes too much."""
        try:
            return Automaton.counting(least, most)
        except TooLargeError:
            self.warn(f"a length from {least} to {most} of a string with a pattern is checked only afterwards")
            return whole(_EVERYTHING)

    def all_but(self, texts: Collection[str]) -> Automaton:
        """Every text but these; every text at all if that takes too much."""
        try:
            return Automaton.all_but(texts)
        except TooLargeError:
            self.warn(f"that a string is none of {len(texts)} is checked only afterwards")
            return whole(_EVERYTHING)

    def _patterns(self, shape: String) -> Iterable[Automaton]:
        for pattern in shape.patterns:
            if (found := self.pattern(pattern, "the pattern")) is not None:
                yield found
        for name in shape.formats:
            if name in PATTERNS:
                yield searched(PATTERNS[name])
            elif name not in SAY_NOTHING:
                self.warn(f"the format {name!r} is checked only afterwards")

    def pattern(self, pattern: str, what: str) -> Automaton | None:
        """The texts that an ECMA-262 pattern is found in; ``None`` where no automaton says that."""
        found, why = _automaton(pattern)
        if found is None:
            self.warn(f"{what} {pattern!r} is checked only afterwards: {why}")
        return found

    def texts(self, kind: str, parts: list[Automaton]) -> str:
        """The name of a rule for the insides of JSON strings that all parts hold, or as many of them as is possible."""
        found = parts[0]
        for part in parts[1:]:
            try:
                found &= part
            except TooLargeError as error:
                self.warn(f"what else a string must be is checked only afterwards: {error}")
        if not found.ends:
            self.warn("no string is all that a string must be, which is found only afterwards")
            found = whole(_EVERYTHING)
        return self._rules.automaton(kind, found, in_json=True)

    # Arrays

    def _array(self, shape: Array) -> str:
        least, most = shape.least, shape.most
        if most is None and self._bounds.array is not None:
            most = max(self._bounds.array, least, len(shape.prefix))
        items = [self.write(item) for item in itertools.takewhile(self.can_be, shape.prefix[:most])]
        whole_prefix = len(items) == len(shape.prefix)
        if whole_prefix and (most is None or most > len(items)) and self.can_be(shape.rest):
            rest = self.write(shape.rest)
            start = max(len(items), 1)
            more = self._rules.repeat(f'( ", " {rest} )', max(least - start, 0), None if most is None else most - start)
            if not items:
                first = f"{rest} {more}".rstrip()
                return f'"[" {first} "]"' if least else f'"[" ( {first} )? "]"'
        else:
            more = ""
        return '"[" ' + f"{self._prefixed(items, least, more)} ".lstrip() + '"]"'

    def _prefixed(self, items: list[str], least: int, more: str) -> str:
        """Items of their own shapes, from the last on: each is followed by the next, which may be left out."""
        tail = more
        for index in reversed(range(len(items))):
            comma = '", " ' if index else ""
            tail = f"{comma}{items[index]} {tail}".rstrip()
            if index >= least:
                tail = f"( {tail} )?"
        return tail

    # Objects: see _Properties

    @property
    def rules(self) -> Rules:
        """Where the rules go."""
        return self._rules

    def can_be(self, shape: Shape) -> bool:
        """Whether a shape has any value. A reference may turn out to have none only when all is known."""
        shape = self._algebra.resolve(shape)
        if shape not in self._possible:
            self._possible[shape] = True  # met again inside of itself: that it ends somewhere is known
            self._possible[shape] = self._can_be(shape)
        return self._possible[shape]

    def _can_be(self, shape: Shape) -> bool:
        if isinstance(shape, Union):
            return any(map(self.can_be, shape.options))
        if isinstance(shape, Array):
            items = (*shape.prefix, shape.rest) if shape.least > len(shape.prefix) else shape.prefix[: shape.least]
            return all(map(self.can_be, items))
        if isinstance(shape, Object):
            required = frozenset(shape.required)
            return all(self.can_be(at) for name, at in shape.properties if name in required)
        return not isinstance(shape, Nothing)


class _Properties:
    """The rules of one object: one for each place behind a number of declared properties."""

    def __init__(self, writer: ShapeRules, shape: Object) -> None:
        self._writer = writer
        self._rules = writer.rules
        self._required = frozenset(shape.required)
        self._least, self._most = shape.least, shape.most
        if shape.least <= len(shape.required):
            self._least = 0
        self._items = [(name, at) for name, at in shape.properties if writer.can_be(at)]
        self._extra = self._extras(shape)
        if not self._extra and self._most is not None and self._most >= len(self._items):
            self._most = None
        highest = self._least if self._most is None else self._most
        if highest * (len(self._items) + 1) > _MOST_COUNTED:
            writer.warn("minProperties and maxProperties are checked only afterwards")
            self._least, self._most, highest = 0, None, 0
        self._highest = max(highest, 1)
        self._rests: dict[tuple[int, int], str | None] = {}
        rest = self._rest(0, 0)
        if rest is None:
            writer.warn("no object is all that an object must be, which is found only afterwards")
        self.written = self._rules.add("object", '"{" ' + f"{rest or ''} ".lstrip() + '"}"')

    def _rest(self, at: int, count: int) -> str | None:
        """What may follow from the property ``at`` on, behind ``count`` others; the highest count stands for more.

        Empty for nothing; ``None`` if so few or so many properties cannot be.
        """
        if (at, count) not in self._rests:
            self._rests[at, count] = self._options(at, count) if at < len(self._items) else self._tail(count)
        return self._rests[at, count]

    def _options(self, at: int, count: int) -> str | None:
        options: dict[str, None] = {}
        (name, shape), after = self._items[at], None
        if self._most is None or count < self._most:
            after = self._rest(at + 1, min(count + 1, self._highest))
        if after is not None:
            text = quoted(f"{', ' * bool(count)}{dump_json(name)}: ")
            options[f"{text} {self._writer.write(shape)} {after}".rstrip()] = None
        if name not in self._required and (without := self._rest(at + 1, count)) is not None:
            options[without or '""'] = None
        return self._rules.add("rest", " | ".join(options)) if options else None

    def _tail(self, count: int) -> str | None:
        """Properties that are not declared."""
        least = max(self._least - count, 0)
        most = None if self._most is None else self._most - count
        if not self._extra or most == 0:
            return None if least else ""
        item = f'( ", " {self._extra} )'
        if count:
            return self._rules.add("more", self._rules.repeat(item, least, most))
        following = self._rules.repeat(item, max(least - 1, 0), None if most is None else most - 1)
        first = f"{self._extra} {following}".rstrip()
        return self._rules.add("more", first if least else f"( {first} )?")

    def _extras(self, shape: Object) -> str:
        """The name of a rule for one property that is not declared; empty if there are none."""
        declared = [name for name, _ in shape.properties]
        undeclared = self._writer.all_but(declared)
        others, options = [undeclared], list[str]()
        for pattern, at in shape.patterns:
            found = self._writer.pattern(pattern, "names matching")
            if found is None:
                return self._option(others, Anything())
            if self._writer.can_be(at):
                options.append(self._option([found, undeclared], at))
            try:
                others.append(whole(_EVERYTHING) - found)
            except TooLargeError:
                self._writer.warn(f"that other names do not match {pattern!r} is checked only afterwards")
        if self._writer.can_be(shape.rest):
            options.append(self._option(others, shape.rest))
        return self._rules.add("extra", " | ".join(options)) if options else ""

    def _option(self, names: list[Automaton], at: Shape) -> str:
        return f'"\\"" {self._writer.texts("name", names)} "\\": " {self._writer.write(at)}'


@lru_cache(maxsize=512)
def _automaton(pattern: str) -> tuple[Automaton | None, str]:
    try:
        return searched(compile_pattern(pattern).pattern), ""
    except ValueError as error:
        return None, str(error)
