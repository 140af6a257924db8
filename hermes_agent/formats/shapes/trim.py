"""Shapes made small enough for the engine: what would cost it too much is widened, and said so.

The engine's time and memory grow with sizes that a schema can make as large as it likes: fixed values, optional
properties that may all come next, remainders of a division, chains of definitions. A shape is only ever widened, so
every value that the schema allows stays allowed, and the validation afterwards refuses the rest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction

from hermes_agent.formats.shapes.algebra import Algebra
from hermes_agent.formats.shapes.nodes import (
    ANYTHING,
    EVERY_TYPE,
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
    union,
)

__all__ = ["ROOMY", "TIGHT", "Caps", "trimmed"]

_LARGEST_COUNT = 2**31 - 1
"""Counts in a grammar are smaller than this."""


_NESTING = ("properties", "items", "prefixItems", "additionalProperties")
_MEANS_SOMETHING = re.compile(r"[\\^$.*+?()\[\]{}|/-]")


@dataclass(frozen=True, slots=True)
class Caps:
    """How large the parts of a schema may be before they are widened.

    Attributes:
        literals: Fixed values in one place.
        characters: JSON text of the fixed values in one place.
        literal: JSON text of one fixed value.
        options: Alternatives in one place.
        optional: Properties of one object that need not be there: all of them may come next.
        names: Declared properties of an object that allows others too, whose names must then be told apart.
        steps: Least common multiple of the numbers that must divide a value.
        excluded: Strings that are forbidden in one place.
        counted: Optional properties of which at least one must be there.
        depth: Objects and arrays within one another, references included.
        patterned: Whether patterns, formats and divisors are kept.
    """

    literals: int
    characters: int
    literal: int
    options: int
    optional: int
    names: int
    steps: int
    excluded: int
    counted: int
    depth: int
    patterned: bool = True


ROOMY = Caps(20_000, 600_000, 20_000, 1_500, 400, 500, 10_000, 2_000, 60, 120)
"""What the engine masks and compiles in a fraction of a second."""

TIGHT = Caps(200, 4_000, 1_000, 60, 60, 60, 100, 100, 8, 6, patterned=False)
"""For schemas of which no single part is too large, but the whole is."""


def trimmed(shape: Shape, algebra: Algebra, caps: Caps) -> tuple[Shape, Algebra]:
    """The shape within the caps, with definitions and warnings of its own."""
    work = _Trimming(algebra, caps)
    return work.trim(shape, 0), work.algebra


class _Trimming:
    def __init__(self, algebra: Algebra, caps: Caps) -> None:
        self.source = algebra
        self.caps = caps
        self.algebra = algebra.copy()
        self.seen: set[str] = set()

    def widen(self, why: str, *keywords: str) -> None:
        self.algebra.warn(f"{why} and is checked only afterwards", *keywords)

    def trim(self, shape: Shape, depth: int) -> Shape:
        if isinstance(shape, Ref):
            return self.ref(shape, depth)
        if isinstance(shape, Union):
            return self.union(shape, depth)
        if isinstance(shape, Literal):
            return union(self.fixed([shape]))
        if isinstance(shape, Number):
            return self.number(shape)
        if isinstance(shape, String):
            return self.string(shape)
        if not isinstance(shape, (Array, Object)):
            return shape
        if depth >= self.caps.depth:
            self.widen(f"what is nested more than {self.caps.depth} deep is any {kind_of(shape)}", *_NESTING)
            return EVERY_TYPE[kind_of(shape)][0]
        return self.array(shape, depth + 1) if isinstance(shape, Array) else self.object(shape, depth + 1)

    def ref(self, shape: Ref, depth: int) -> Shape:
        """The engine follows references on its stack, so a chain of them counts as nesting."""
        if shape.name not in self.seen:
            if depth >= self.caps.depth:
                self.widen(f"what is nested more than {self.caps.depth} deep is anything", "$ref")
                return ANYTHING
            self.seen.add(shape.name)
            behind = self.source.resolve(shape)
            # At once, not later: a definition is as deep as the first way to it, which is the engine's too.
            self.algebra.definitions[shape.name] = ANYTHING if isinstance(behind, Ref) else self.trim(behind, depth)
        return shape

    def union(self, shape: Union, depth: int) -> Shape:
        literals = [option for option in shape.options if isinstance(option, Literal)]
        rest: list[Shape] = [option for option in shape.options if not isinstance(option, Literal)]
        if len(rest) > self.caps.options:
            self.widen(f"which of {len(rest)} alternatives it is costs too much", "anyOf", "oneOf", "allOf")
            kinds = {kind_of(behind) for at in rest for behind in self.behind(at)}
            rest = [at for kind in sorted(kinds) for at in EVERY_TYPE.get(kind, (ANYTHING,))]
            return union((*self.fixed(literals), *rest))
        return union((*self.fixed(literals), *(self.trim(option, depth) for option in rest)))

    def behind(self, shape: Shape) -> Iterable[Shape]:
        """The shapes of one type each that a shape stands for."""
        shape = self.source.resolve(shape)
        if isinstance(shape, Union):
            for option in shape.options:
                yield from self.behind(option)
        elif not isinstance(shape, Nothing):
            yield shape

    def fixed(self, literals: list[Literal]) -> list[Shape]:
        size = sum(len(at.text) for at in literals)
        if len(literals) > self.caps.literals or size > self.caps.characters:
            self.widen(f"which of {len(literals)} values it is costs too much", "enum", "const")
            return _types(literals)
        kept: list[Shape] = []
        for at in literals:
            if len(at.text) > self.caps.literal:
                self.widen(f"a value of {len(at.text)} characters costs too much", "enum", "const")
                kept += _types([at])
            else:
                kept.append(at)
        return kept

    def number(self, shape: Number) -> Number:
        kept: list[float] = []
        least = 1
        for factor in shape.multiples:
            common = math.lcm(least, Fraction(repr(factor)).numerator)
            if common > self.caps.steps or not self.caps.patterned:
                self.widen(f"that {factor!r} divides it costs too much", "multipleOf")
            else:
                kept.append(factor)
                least = common
        return replace(shape, multiples=tuple(kept)) if len(kept) < len(shape.multiples) else shape

    def string(self, shape: String) -> String:
        if len(shape.excluded) > self.caps.excluded or sum(map(len, shape.excluded)) > self.caps.characters:
            self.widen(f"that it is none of {len(shape.excluded)} strings costs too much", "not", "oneOf", "if")
            shape = replace(shape, excluded=frozenset())
        if not self.caps.patterned and (shape.patterns or shape.formats):
            self.widen("what a string looks like costs too much", "pattern", "format")
            shape = replace(shape, patterns=(), formats=())
        least, most = self.counts(shape, "minLength", "maxLength")
        return replace(shape, least=least, most=most)

    def counts(self, shape: String | Array | Object, low: str, high: str) -> tuple[int, int | None]:
        least, most = shape.least, shape.most
        if least > _LARGEST_COUNT:
            self.widen(f"{low} is beyond the engine's counts", low)
            least = 0
        if most is not None and most > _LARGEST_COUNT:
            self.widen(f"{high} is beyond the engine's counts", high)
            most = None
        return least, most

    def array(self, shape: Array, depth: int) -> Array:
        prefix = tuple(self.trim(at, depth) for at in shape.prefix[: self.caps.options])
        rest = self.trim(shape.rest, depth)
        if len(shape.prefix) > self.caps.options:
            self.widen(f"items behind the first {self.caps.options} may be anything", "prefixItems", "items")
            rest = ANYTHING
        least, most = self.counts(shape, "minItems", "maxItems")
        return Array(prefix, rest, least, most)

    def object(self, shape: Object, depth: int) -> Object:
        needed = set(shape.required)
        optional = sum(name not in needed and not isinstance(at, Nothing) for name, at in shape.properties)
        closed = isinstance(shape.rest, Nothing) and not shape.patterns
        if not closed and len(shape.properties) > self.caps.names:
            self.widen(f"which of {len(shape.properties)} names are declared costs too much", "properties")
            kept = tuple(item for item in shape.properties if item[0] in needed)[: self.caps.names]
            shape = Object(kept, (), ANYTHING, tuple(name for name, _ in kept), shape.least, shape.most)
        elif optional > self.caps.optional:
            shape = self.grouped(shape)
        elif optional > self.caps.counted and shape.least > len(needed):
            self.widen(f"how many of {optional} properties there are costs too much", "minProperties")
            shape = replace(shape, least=0)
        properties = tuple((name, self.trim(at, depth)) for name, at in shape.properties)
        patterns = tuple((pattern, self.trim(at, depth)) for pattern, at in shape.patterns)
        least, most = self.counts(shape, "minProperties", "maxProperties")
        return Object(properties, patterns, self.trim(shape.rest, depth), shape.required, least, most)

    def grouped(self, shape: Object) -> Object:
        """Optional properties in any order and number, by what they may be: the engine need not count them off."""
        self.widen(f"the order of {len(shape.properties)} properties, and that none stands twice, costs too much")
        needed = set(shape.required)
        names: dict[Shape, list[str]] = {}
        for name, at in shape.properties:
            if name not in needed and not isinstance(at, Nothing):
                names.setdefault(at, []).append(name)
        if len(names) > self.caps.optional // 4:
            self.widen(f"what each of {len(shape.properties)} properties may be costs too much", "properties")
            names = {ANYTHING: [name for group in names.values() for name in group]}
        patterns = tuple((f"^(?:{'|'.join(map(_escaped, group))})$", at) for at, group in names.items())
        required = tuple(item for item in shape.properties if item[0] in needed)
        return Object(required, (*shape.patterns, *patterns), shape.rest, shape.required, 0, None)


def _escaped(name: str) -> str:
    """A name as a pattern of ECMA's."""
    return _MEANS_SOMETHING.sub(lambda found: "\\x2d" if found[0] == "-" else f"\\{found[0]}", name)


def _types(literals: list[Literal]) -> list[Shape]:
    """All values of the types of these; strings as long as the longest, whatever the bounds of an answer are."""
    kinds = sorted({kind_of(at) for at in literals})
    shapes: list[Shape] = [at for kind in kinds if kind != "string" for at in EVERY_TYPE[kind]]
    lengths = [len(at.value) for at in literals if kind_of(at) == "string"]
    return [*shapes, String(most=max(lengths))] if lengths else shapes
