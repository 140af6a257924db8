"""Combining shapes: intersection, complement, and whether a value belongs to one."""

from __future__ import annotations

import itertools
import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from hermes_agent.formats.shapes.leaves import (
    arrange_number,
    holds_string,
    least_of,
    meet_numbers,
    meet_strings,
    negate_counts,
    negate_literal,
    negate_number,
    negate_string,
    other_types,
    same,
    within,
    without_negative_zero,
)
from hermes_agent.formats.shapes.nodes import (
    ANYTHING,
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
    array,
    finder,
    is_list,
    is_object,
    kind_of,
    literal,
    object_,
    union,
)

__all__ = ["Algebra", "Note", "TooComplexError"]

T = TypeVar("T")

_OVERLAPPING = "patternProperties that can match the same name are checked only afterwards"


_LEAST_SLICE = 200
"""Intersections that every keyword may take, however much others took before it."""

_MOST_PENDING = 3_000
"""Intersections that may be taken of recursive definitions; each may lead to another."""

_MOST_OPTIONS = 1_000
"""Alternatives that a combination may come to."""


class TooComplexError(Exception):
    """Combining the parts of a schema takes more steps than it is worth."""


class Note(NamedTuple):
    """Something left to the validation.

    Attributes:
        warning: What, as a sentence.
        keywords: The keywords it is about.
        place: ``id`` of the schema object it stands in; ``None`` where only the keyword is known.
        value: The keyword's value where only that is known; ``None`` says nothing.
    """

    warning: str
    keywords: tuple[str, ...]
    place: int | None
    value: Any


class Algebra:
    """Operations on shapes that share one set of named, possibly recursive definitions.

    Args:
        budget: How many intersections may be taken before `TooComplexError` is raised.

    Attributes:
        definitions: Named shapes; ``None`` while one is being worked out.
        warnings: What could not be expressed, as sentences.
        notes: The same, with the keywords and the place where they are known.
        place: ``id`` of the schema object that is being read.
        losses: How often something could not be expressed. A shape that was made meanwhile is too wide, and its
            complement would be too narrow.
    """

    def __init__(self, budget: int = 50_000) -> None:
        self.definitions: dict[str, Shape | None] = {}
        self.warnings: dict[str, None] = {}
        self.notes: list[Note] = []
        self.place: int | None = None
        self.losses = 0
        self._budget = budget
        self._met: dict[tuple[str, Shape], str] = {}
        self._used: set[str] = set()
        self._pending: list[tuple[str, str, Shape]] = []

    def copy(self) -> Algebra:
        """The same definitions and warnings, to go on with apart."""
        other = Algebra()
        other.definitions = dict(self.definitions)
        other.warnings = dict(self.warnings)
        other.notes = list(self.notes)
        return other

    def warn(self, warning: str, *keywords: str, value: Any = None) -> None:
        """Note something that is left to the validation; see `Note`."""
        self.warnings[warning] = None
        self.notes.append(Note(warning, keywords, self.place, value))
        self.losses += 1

    def spend(self, steps: int) -> None:
        """Account for work.

        Raises:
            TooComplexError: It is more than there is budget for.
        """
        self._budget -= steps
        if self._budget < 0:
            raise TooComplexError

    @contextmanager
    def slice(self) -> Generator[None]:
        """Work that may take half of the budget, so that its failing leaves something for the rest."""
        before = self._budget
        mine = self._budget = max(before // 2, _LEAST_SLICE)
        try:
            yield
        finally:
            self._budget = before - (mine - max(self._budget, 0))

    def new_name(self) -> str:
        """A name no definition has."""
        name = f"d{len(self.definitions)}"
        self.definitions[name] = None
        return name

    def resolve(self, shape: Shape) -> Shape:
        """The shape behind a reference; the reference itself while that is being worked out."""
        seen: set[str] = set()
        while isinstance(shape, Ref):
            if shape.name in seen:
                return Nothing("a reference leads back to itself")
            seen.add(shape.name)
            behind = self.definitions[shape.name]
            if behind is None:
                return shape
            shape = behind
        return shape

    def settle(self) -> None:
        """Work out the intersections that had to wait for a definition."""
        self._budget = min(self._budget, _MOST_PENDING)
        while self._pending:
            name, ref, other = self._pending.pop()
            behind = self.definitions[name] = self.resolve(Ref(ref))  # too wide, where there is no budget for more
            try:
                self.definitions[name] = self.meet(behind, other)
            except TooComplexError:
                self.warn("parts of a recursive schema are too complex and are checked only afterwards")
        if len(self.definitions) > _MOST_PENDING:
            raise TooComplexError
        ends: set[str] = set()
        while more := {
            name for name, at in self.definitions.items() if name not in ends and at is not None and _ends(at, ends)
        }:
            ends |= more
        for name in self.definitions.keys() - ends:
            if not isinstance(self.definitions[name], Nothing):
                self.definitions[name] = Nothing("it would have to contain itself without end")

    # Intersection

    def meet(self, a: Shape, b: Shape) -> Shape:
        """What both shapes hold."""
        self.spend(1)
        if isinstance(a, Anything) or a == b or isinstance(b, Nothing):
            return b
        if isinstance(b, Anything) or isinstance(a, Nothing):
            return a
        if isinstance(a, Ref) or isinstance(b, Ref):
            return self._meet_ref(a, b)
        if isinstance(a, Union) or isinstance(b, Union):
            return self._meet_unions(_options(a), _options(b))
        if isinstance(a, Literal):
            return a if self.holds(b, a.value) else Nothing(f"{a.text} is not allowed here")
        if isinstance(b, Literal):
            return b if self.holds(a, b.value) else Nothing(f"{b.text} is not allowed here")
        return self._meet_same(a, b)

    def _meet_unions(self, a: tuple[Shape, ...], b: tuple[Shape, ...]) -> Shape:
        """Fixed values one by one, the rest pair by pair."""
        self.spend(len(a) * len(b) // 50)
        fixed = [option for option in a if isinstance(option, Literal) and self.holds(Union(b), option.value)]
        wide = [option for option in a if not isinstance(option, Literal)]
        others = [option for option in b if not isinstance(option, Literal)]
        if wide:
            fixed += [
                option for option in b if isinstance(option, Literal) and self.holds(Union(tuple(wide)), option.value)
            ]
        result = union((*fixed, *(self.meet(one, other) for one in wide for other in others)))
        if wide and isinstance(result, Union) and len(result.options) > max(_MOST_OPTIONS, len(a), len(b)):
            raise TooComplexError
        return result

    def _meet_same(self, a: Shape, b: Shape) -> Shape:
        if isinstance(a, Number) and isinstance(b, Number):
            return meet_numbers(a, b)
        if isinstance(a, String) and isinstance(b, String):
            return meet_strings(a, b)
        if isinstance(a, Array) and isinstance(b, Array):
            return self._meet_arrays(a, b)
        if isinstance(a, Object) and isinstance(b, Object):
            return self._meet_objects(a, b)
        return Nothing("two types contradict each other")

    def _meet_ref(self, a: Shape, b: Shape) -> Shape:
        ref, other = (a, b) if isinstance(a, Ref) else (b, a)
        assert isinstance(ref, Ref)
        behind = self.resolve(ref)
        if isinstance(behind, Ref):  # being worked out right now: come back to it
            name = self.new_name()
            self._pending.append((name, behind.name, other))
            return Ref(name)
        key = (ref.name, other)
        if key in self._met:  # met before, or being met right now: a recursive intersection
            self._used.add(self._met[key])
            return Ref(self._met[key])
        name = self._met[key] = self.new_name()
        try:
            met = self.meet(behind, other) if ref is a else self.meet(other, behind)
        except TooComplexError:
            self.definitions[name] = behind  # where it was used already, it is too wide
            del self._met[key]
            raise
        if met == behind:
            met = ref
        self.definitions[name] = met
        return Ref(name) if name in self._used and not isinstance(met, Nothing) else met

    def _meet_arrays(self, a: Array, b: Array) -> Shape:
        pairs = itertools.zip_longest(a.prefix, b.prefix)
        prefix = tuple(self.meet(a.rest if x is None else x, b.rest if y is None else y) for x, y in pairs)
        return array(Array(prefix, self.meet(a.rest, b.rest), max(a.least, b.least), least_of(a.most, b.most)))

    def _meet_objects(self, a: Object, b: Object) -> Shape:
        names = dict.fromkeys([name for name, _ in (*a.properties, *b.properties)])
        self.spend(len(names) // 10)
        mine, theirs = finder(a), finder(b)
        properties = tuple((name, self.meet(mine(name), theirs(name))) for name in names)
        return object_(
            Object(
                properties,
                self._meet_patterns(a, b),
                self.meet(a.rest, b.rest),
                tuple(dict.fromkeys((*a.required, *b.required))),
                max(a.least, b.least),
                least_of(a.most, b.most),
            )
        )

    def _meet_patterns(self, a: Object, b: Object) -> tuple[tuple[str, Shape], ...]:
        mine, theirs = dict(a.patterns), dict(b.patterns)
        met: dict[str, Shape] = {}
        for pattern in dict.fromkeys((*mine, *theirs)):
            met[pattern] = self.meet(mine.get(pattern, a.rest), theirs.get(pattern, b.rest))
        if mine and theirs and mine.keys() != theirs.keys():
            return self.disjoint(tuple(met.items()))
        return tuple(met.items())

    def disjoint(self, patterns: tuple[tuple[str, Shape], ...]) -> tuple[tuple[str, Shape], ...]:
        """Patterns that surely never match the same name; those that might are put together."""
        if len(patterns) < 2 or _surely_disjoint([pattern for pattern, _ in patterns]):
            return patterns
        self.warn(_OVERLAPPING, "patternProperties")
        joined = "|".join(f"(?:{pattern})" for pattern, _ in patterns)
        return ((joined, union(at for _, at in patterns)),)

    # Complement

    def negate(self, shape: Shape, depth: int = 0) -> Shape | None:
        """Every value that the shape does not hold; ``None`` where no shape says that."""
        shape = self.resolve(shape)
        if depth > 8 or isinstance(shape, Ref):
            return None
        if isinstance(shape, Union):
            self.spend(len(shape.options) // 50)
            texts = [o.value for o in shape.options if isinstance(o, Literal) and isinstance(o.value, str)]
            result = union((*other_types(String()), String(excluded=frozenset(texts)))) if texts else ANYTHING
            for option in shape.options:
                if isinstance(option, Literal) and kind_of(option) == "string":
                    continue
                inverse = self.negate(option, depth + 1)
                if inverse is None:
                    return None
                result = self.meet(result, inverse)
            return result
        if isinstance(shape, Anything):
            return Nothing("everything is forbidden")
        if isinstance(shape, Nothing):
            return ANYTHING
        within = self._negate_within(shape, depth)
        return None if within is None else union((*other_types(shape), *within))

    def _negate_within(self, shape: Shape, depth: int) -> Sequence[Shape] | None:
        """The values of the shape's own type that it does not hold."""
        if isinstance(shape, Literal):
            return negate_literal(shape.value)
        if isinstance(shape, Number):
            return negate_number(shape)
        if isinstance(shape, String):
            return negate_string(shape)
        if isinstance(shape, Array):
            if shape.prefix or not isinstance(shape.rest, Anything):
                return None
            return negate_counts(shape.least, shape.most, lambda least, most: Array(least=least, most=most))
        assert isinstance(shape, Object)
        return self._negate_object(shape, depth)

    def _negate_object(self, shape: Object, depth: int) -> Sequence[Shape] | None:
        if shape.patterns or not isinstance(shape.rest, Anything):
            return None
        parts: list[Shape] = [object_(Object(((name, Nothing("forbidden")),))) for name in shape.required]
        for name, at in shape.properties:
            inverse = self.negate(at, depth + 1)
            if inverse is None:
                return None
            parts.append(object_(Object(((name, inverse),), required=(name,))))
        return [*parts, *negate_counts(shape.least, shape.most, lambda least, most: Object(least=least, most=most))]

    # Membership

    def holds(self, shape: Shape, value: Any) -> bool:
        """Whether a value belongs to a shape."""
        return self.arrange(shape, value, _MISSING) is not _MISSING

    def arrange(self, shape: Shape, value: Any, default: T) -> Any | T:
        """The value as the shape would have it written: keys in order, whole floats as integers.

        Returns:
            An equal value, or ``default`` if the shape does not hold it.
        """
        shape = self.resolve(shape)
        if isinstance(shape, Union):
            return self._arrange_union(shape, value, default)
        if isinstance(shape, (Anything, Ref)):  # a reference still being worked out: give it the benefit
            return without_negative_zero(value)
        if isinstance(shape, Literal):
            return shape.value if literal(value) == shape or same(value, shape.value) else default
        if isinstance(shape, Number):
            return arrange_number(shape, value, default)
        if isinstance(shape, String):
            return value if holds_string(shape, value) else default
        if isinstance(shape, Array):
            return self._arrange_array(shape, value, default)
        return self._arrange_object(shape, value, default) if isinstance(shape, Object) else default

    def _arrange_union(self, shape: Union, value: Any, default: T) -> Any | T:
        scalar = not isinstance(value, (list, dict))
        if scalar and (fixed := literal(value)) in shape.options:
            return fixed.value
        for option in shape.options:
            if scalar and isinstance(option, Literal):
                continue
            if (found := self.arrange(option, value, _MISSING)) is not _MISSING:
                return found
        return default

    def _arrange_array(self, shape: Array, value: Any, default: T) -> Any | T:
        if not is_list(value) or not within(len(value), shape.least, shape.most):
            return default
        shapes = itertools.chain(shape.prefix, itertools.repeat(shape.rest))
        items = [self.arrange(at, item, _MISSING) for at, item in zip(shapes, value, strict=False)]
        return default if any(item is _MISSING for item in items) else items

    def _arrange_object(self, shape: Object, value: Any, default: T) -> Any | T:
        if not is_object(value) or not within(len(value), shape.least, shape.most):
            return default
        if any(name not in value for name in shape.required):
            return default
        order = [name for name, _ in shape.properties if name in value]
        declared = set(order)
        order += [name for name in value if name not in declared]
        at = finder(shape)
        arranged = {name: self.arrange(at(name), value[name], _MISSING) for name in order}
        return default if any(item is _MISSING for item in arranged.values()) else arranged


_MISSING = object()


def _ends(shape: Shape, ends: set[str]) -> bool:
    """Whether a shape has a finite value, if the named shapes have."""
    if isinstance(shape, Ref):
        return shape.name in ends
    if isinstance(shape, Union):
        return any(_ends(option, ends) for option in shape.options)
    if isinstance(shape, Array):
        items = itertools.chain(shape.prefix, itertools.repeat(shape.rest))
        return all(_ends(item, ends) for item in itertools.islice(items, min(shape.least, len(shape.prefix) + 1)))
    if isinstance(shape, Object):
        required = set(shape.required)
        return all(_ends(at, ends) for name, at in shape.properties if name in required)
    return not isinstance(shape, Nothing)


def _options(shape: Shape) -> tuple[Shape, ...]:
    return shape.options if isinstance(shape, Union) else (shape,)


def _surely_disjoint(patterns: list[str]) -> bool:
    """Whether each pattern is anchored to a plain beginning that no other shares."""
    heads = [re.match(r"\^((?:[A-Za-z0-9_ :/@#-]|\\[.$/-])+)(?![*?{+|])", pattern) for pattern in patterns]
    starts = [head[1] for head in heads if head and "|" not in re.sub(r"\\.|\(.*\)", "", head.string)]
    return len(starts) == len(patterns) and not any(
        a.startswith(b) or b.startswith(a) for a, b in itertools.combinations(starts, 2)
    )
