"""Writes a shape as the JSON schema that llguidance compiles to exactly that shape."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

from hermes_agent.ecma import compile_pattern
from hermes_agent.errors import ConfigurationError
from hermes_agent.formats.engine import refusal
from hermes_agent.formats.shapes.algebra import Algebra, TooComplexError
from hermes_agent.formats.shapes.nodes import (
    ANYTHING,
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
    is_list,
    is_object,
    kind_of,
    matches,
    object_,
    union,
)
from hermes_agent.formats.shapes.numbers import bounded
from hermes_agent.formats.shapes.string_patterns import PATTERNS
from hermes_agent.formats.wire import dump_json

__all__ = ["SAY_NOTHING", "Bounds", "keeps_numbers", "write"]

_LONGEST_HOST = 253
SAY_NOTHING = frozenset(("binary", "byte", "password", "int32", "int64", "float", "double", "textarea"))
"""Formats that tell how a value is used or stored, and that no validator checks."""
_MOST_DIGITS = 15
_MOST_FRACTION = 9
_ANY = "any"
_OPEN = ("exclusiveMinimum", "exclusiveMaximum")
_MOST_PATTERNS = 4
"""Patterns, formats and exclusions of one string; the engine's states multiply with each."""
_MOST_COUNTED = 8
"""Optional properties whose number can be bounded; each doubles the alternatives."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long an answer may grow where the schema does not say. ``None`` lifts a bound.

    Without one, a small model that falls into a loop inside a string or a list runs to its token limit.

    Attributes:
        string: Characters in a string that has neither ``maxLength`` nor a pattern, a format or fixed values.
        array: Items in an array without ``maxItems``.
        number: Magnitude of a number without ``minimum`` or ``maximum``.
        thought: Characters in a thinking block; behind them its closing tag is forced.
        fraction: Digits behind the point of a number without ``multipleOf``, from 1 to 9. Not bounded by default: the
            engine counts no further than nine, and floats such as 0.30000000000000004 have more.

    Raises:
        ConfigurationError: ``fraction`` is none that the engine can count to.
    """

    string: int | None = 10_000
    array: int | None = 1_000
    number: int | None = 10**18
    thought: int | None = None
    fraction: int | None = None

    def __post_init__(self) -> None:
        if self.fraction is not None and not 1 <= self.fraction <= _MOST_FRACTION:
            raise ConfigurationError(
                f"fraction={self.fraction!r} is no number of digits that the engine can count",
                hint=f"give 1 to {_MOST_FRACTION}, or None for no bound; for whole numbers use an integer type",
            )


def write(shape: Shape, algebra: Algebra, bounds: Bounds) -> dict[str, Any]:
    """The schema of a shape, with the definitions it needs under ``$defs``."""
    writer = _Writer(algebra, bounds)
    schema: Any = writer.write(shape)
    definitions: dict[str, Any] = {}
    algebra.definitions[_ANY] = union(at for shapes in EVERY_TYPE.values() for at in shapes)
    while missing := [name for name in writer.needed if name not in definitions]:
        for name in missing:
            definitions[name] = writer.write(algebra.resolve(Ref(name)))
    if writer.loose and bounds.number is not None:  # a fixed value is held to its type only: let its numbers through
        return write(shape, algebra, replace(bounds, number=None))
    written: dict[str, Any] = schema if is_object(schema) else {} if schema else {"not": {}}
    return {**written, "$defs": definitions} if definitions else written


class _Writer:
    def __init__(self, algebra: Algebra, bounds: Bounds) -> None:
        self.algebra = algebra
        self.bounds = bounds
        self.needed: dict[str, None] = {}
        self.loose = False

    def write(self, shape: Shape) -> Any:
        if isinstance(shape, Nothing):
            return False
        if isinstance(shape, Anything):
            return self.anything()
        if isinstance(shape, Literal):
            return self.literal(shape)
        if isinstance(shape, Ref):
            behind = self.algebra.resolve(shape)
            if isinstance(behind, (Nothing, Anything, Literal, Number, String)):
                return self.write(behind)
            self.needed[shape.name] = None
            return {"$ref": f"#/$defs/{shape.name}"}
        if isinstance(shape, Number):
            return self.number(shape)
        if isinstance(shape, String):
            return self.string(shape)
        if isinstance(shape, Array):
            return self.array(shape)
        if isinstance(shape, Object):
            options = [self.object(counted) for counted in self.counted(shape)]
            return options[0] if len(options) == 1 else {"anyOf": options}
        return self.union(shape)

    def anything(self) -> Any:
        """Every value, spelled out: the engine's own has numbers like 1e999, and strings and arrays without bound."""
        self.needed[_ANY] = None
        return {"$ref": f"#/$defs/{_ANY}"}

    def literal(self, shape: Literal) -> Any:
        value = shape.value
        if keeps_numbers(value):
            return {"const": value}
        self.algebra.warn(
            f"{shape.text} is beyond the engine's numbers and is checked only afterwards", "enum", "const"
        )
        self.loose = True
        return self.write(union(EVERY_TYPE[kind_of(shape)]))

    def union(self, shape: Union) -> Any:
        literals = [o.value for o in shape.options if isinstance(o, Literal) and keeps_numbers(o.value)]
        options = [self.write(o) for o in shape.options if not (isinstance(o, Literal) and keeps_numbers(o.value))]
        if literals:
            options.append({"enum": literals})
        return options[0] if len(options) == 1 else {"anyOf": options}

    def number(self, shape: Number) -> dict[str, Any]:
        if not shape.integer and shape.low is None and shape.high is None:
            # Only a bounded number has no exponent, and so cannot be too large to be read.
            return {"anyOf": [self.number(replace(shape, low=0)), self.number(replace(shape, high=0, high_open=True))]}
        shape = bounded(shape, self.bounds.number)
        close = shape.low is not None and shape.high is not None and shape.high - shape.low < 1
        if close and not shape.integer and (shape.low_open or shape.high_open):
            # The engine lets "0" pass for a number that is more than 0 and at most 0.5.
            self.algebra.warn("an open bound less than 1 away from the other is checked only afterwards", *_OPEN)
        schema: dict[str, Any] = {"type": "integer" if shape.integer else "number"}
        for bound in (shape.low, shape.high):
            if bound is not None and not self._keeps(bound):
                self.algebra.warn(
                    f"the bound {bound!r} is beyond the engine's numbers and is checked only afterwards",
                    *("minimum", "maximum", *_OPEN),
                    value=bound,
                )
        if shape.low is not None and self._keeps(shape.low):
            schema["exclusiveMinimum" if shape.low_open else "minimum"] = shape.low
        if shape.high is not None and self._keeps(shape.high):
            schema["exclusiveMaximum" if shape.high_open else "maximum"] = shape.high
        return _all(schema, [{"multipleOf": factor} for factor in shape.multiples or self._fraction(shape)])

    def _fraction(self, shape: Number) -> tuple[float, ...]:
        """The step between numbers of so many digits behind the point, where several lie between the bounds."""
        digits, low, high = self.bounds.fraction, shape.low, shape.high
        if digits is None or shape.integer:
            return ()
        if low is not None and high is not None and Fraction(high) - Fraction(low) < Fraction(3, 10**digits):
            return ()
        return (float(f"1e-{digits}"),)

    def _keeps(self, bound: float) -> bool:
        """Whether the engine keeps a bound. It does keep ours: a power of ten below 2**62 is exact in its floats."""
        return keeps_numbers(bound) or abs(bound) == self.bounds.number

    def string(self, shape: String) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "string"}
        parts = [{"pattern": pattern} for pattern in self.string_patterns(shape)]
        most = shape.most
        if "hostname" in shape.formats:
            most = _LONGEST_HOST if most is None else min(most, _LONGEST_HOST)
        if most is None and not parts and self.bounds.string is not None:
            most = max(self.bounds.string, shape.least)
        if shape.least:
            schema["minLength"] = shape.least
        if most is not None:
            schema["maxLength"] = most
        written = _all(schema, parts)
        while parts and (len(parts) > 1 or len(schema) > 1):
            why = "there are too many" if len(parts) > _MOST_PATTERNS else _refused(json.dumps(written))
            if not why:
                break
            self.algebra.warn(
                f"what a string looks like is not all enforced: {why}",
                *("pattern", "format", "minLength", "maxLength", "not"),
            )
            if len(parts) > 1:
                parts.pop()
                written = _all(schema, parts)
            else:
                return {"type": "string", **parts[0]}
        return written

    def string_patterns(self, shape: String) -> Iterator[str]:
        """Patterns, formats and exclusions, each as a pattern that the engine reads."""
        for pattern in shape.patterns:
            spelled, why = _for_engine(pattern)
            if why:
                self.algebra.warn(
                    f"the pattern {pattern!r} is checked only afterwards: {why}", "pattern", value=pattern
                )
            else:
                yield spelled
        for name in shape.formats:
            if name in PATTERNS:
                yield PATTERNS[name]
            elif name not in SAY_NOTHING:
                self.algebra.warn(f"the format {name!r} is checked only afterwards", "format", value=name)
        if shape.excluded:
            yield all_but(shape.excluded)

    def array(self, shape: Array) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "array"}
        if shape.prefix:
            schema["prefixItems"] = [self.write(item) for item in shape.prefix]
        schema["items"] = self.write(shape.rest)
        if shape.least:
            schema["minItems"] = shape.least
        most = shape.most
        if most is None and self.bounds.array is not None:
            most = max(self.bounds.array, shape.least, len(shape.prefix))
        if most is not None:
            schema["maxItems"] = most
        return schema

    def object(self, shape: Object) -> dict[str, Any]:
        names = [name for name, _ in shape.properties]
        schema: dict[str, Any] = {"type": "object"}
        if names:
            schema["properties"] = {name: self.write(at) for name, at in shape.properties}
        patterns, rest = self.patterns(shape), self.write(shape.rest)
        if patterns is None:
            patterns, rest = {}, True
        if names and not patterns and rest is not False:
            # As additionalProperties, the engine would let "\u0061" pass for a name other than a declared "a".
            patterns, rest = {all_but(names): rest}, False
        if patterns:
            schema["patternProperties"] = patterns
        schema["additionalProperties"] = rest
        if shape.required:
            schema["required"] = list(shape.required)
        if shape.least > len(shape.required):
            schema["minProperties"] = shape.least
        if shape.most is not None:
            schema["maxProperties"] = shape.most
        return schema

    def patterns(self, shape: Object) -> dict[str, Any] | None:
        """The schemas of names by pattern; ``None`` if the engine cannot read a pattern."""
        patterns: dict[str, Any] = {}
        for pattern, at in shape.patterns:
            if isinstance(at, Nothing) and isinstance(shape.rest, Nothing):
                continue  # no name but those declared, with it or without it
            spelled, why = _for_engine(pattern)
            if why:
                self.algebra.warn(
                    f"names matching {pattern!r} are checked only afterwards: {why}",
                    *("patternProperties", "propertyNames"),
                )
                return None
            # The engine meets a declared property with the patterns of its name once more. That must change nothing.
            declared = [own for name, own in shape.properties if matches(pattern, name)]
            if not all(self.within(own, at) for own in declared):
                self.algebra.warn(
                    f"names matching {pattern!r} that are not declared are checked only afterwards",
                    *("patternProperties", "propertyNames", "additionalProperties"),
                )
                at = ANYTHING
            patterns[spelled] = True if declared and isinstance(at, Anything) else self.write(at)
        return patterns

    def within(self, part: Shape, whole: Shape) -> bool:
        """Whether a shape is seen to allow nothing that another does not."""
        if isinstance(part, Nothing) or isinstance(whole, Anything) or part == whole:
            return True
        try:
            with self.algebra.slice():
                return self.algebra.meet(part, whole) == part
        except TooComplexError:
            return False

    def counted(self, shape: Object) -> Iterable[Object]:
        """Object shapes that together say the same, and count properties only where all declared are required."""
        optional = [name for name, at in shape.properties if name not in shape.required and at != Nothing()]
        if shape.least <= len(shape.required):
            shape = replace(shape, least=0)
        if not optional or (shape.least == 0 and shape.most is None):
            return [shape]
        if shape.most is None and shape.least == len(shape.required) + 1:
            return _at_least_one(shape, optional)
        closed = shape.rest == Nothing() and not shape.patterns
        if shape.most is not None and closed and shape.most >= len(shape.properties):
            return self.counted(replace(shape, most=None))
        if len(optional) > _MOST_COUNTED:
            self.algebra.warn(
                "minProperties and maxProperties are checked only afterwards", "minProperties", "maxProperties"
            )
            return [replace(shape, least=0, most=None)]
        return list(_chosen(shape, optional))


def _at_least_one(shape: Object, optional: list[str]) -> list[Object]:
    """One more than the required: by which optional property is the first there, or none of them."""
    options: list[Object] = []
    for index in range(len(optional) + 1):
        forbidden, needed = optional[:index], optional[index : index + 1]
        option = _settled(shape, forbidden, needed, 0 if needed else shape.least, None)
        options += [option] if option is not None else []
    return options


def _chosen(shape: Object, optional: list[str]) -> Iterator[Object]:
    for flags in itertools.product((True, False), repeat=len(optional)):
        needed = [name for name, flag in zip(optional, flags, strict=True) if flag]
        forbidden = [name for name, flag in zip(optional, flags, strict=True) if not flag]
        option = _settled(shape, forbidden, needed, shape.least, shape.most)
        if option is not None:
            yield option


def _settled(shape: Object, forbidden: list[str], needed: list[str], least: int, most: int | None) -> Object | None:
    properties = tuple((name, Nothing() if name in forbidden else at) for name, at in shape.properties)
    settled = object_(Object(properties, shape.patterns, shape.rest, (*shape.required, *needed), least, most))
    if not isinstance(settled, Object):
        return None
    if settled.rest == Nothing() and not settled.patterns:
        settled = replace(settled, most=None)
    return replace(settled, least=0) if settled.least <= len(settled.required) else settled


def _all(schema: dict[str, Any], parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Constraints of which one schema object can hold only one of a kind."""
    if len(parts) <= 1:
        return {**schema, **(parts[0] if parts else {})}
    return {**schema, "allOf": [{"type": schema["type"], **part} for part in parts]}


@lru_cache(maxsize=2048)
def _for_engine(pattern: str) -> tuple[str, str]:
    """An ECMA-262 pattern as the engine reads it, and why it cannot be; one of the two is empty."""
    try:
        python = compile_pattern(pattern).pattern
    except ValueError as error:
        return "", str(error)
    spelled = re.sub(r"\\(.)", lambda found: "$" if found[1] == "Z" else found[0], python, flags=re.DOTALL)
    why = refusal(json.dumps({"type": "string", "pattern": spelled}))
    return ("", why) if why and "Unsatisfiable" not in why else (spelled, "")


@lru_cache(maxsize=2048)
def _refused(schema: str) -> str:
    """Why the engine does not read a schema of strings; empty if it does, or finds that there is no such string."""
    why = refusal(schema)
    return "" if "Unsatisfiable" in why else why


def keeps_numbers(value: Any) -> bool:
    """Whether the engine keeps every number in a value.

    It reads them as 64-bit floats, wrong by one in the last place at 16 digits and more, and crashes on some that
    are hundreds of digits long.
    """
    if is_object(value):
        return all(map(keeps_numbers, value.values()))
    if is_list(value):
        return all(map(keeps_numbers, value))
    if isinstance(value, float):
        return sum(map(str.isdigit, dump_json(value))) <= _MOST_DIGITS
    return not isinstance(value, int) or abs(value) < 2**53


def all_but(texts: Iterable[str]) -> str:
    """A regular expression for every text except those given, without lookaround: their prefix tree, turned over."""
    tree: dict[str, Any] = {}
    for text in texts:
        node = tree
        for character in text:
            node = node.setdefault(character, {})
        node[""] = {}
    return f"^(?:{_turned(tree)})$"


def _turned(node: dict[str, Any]) -> str:
    following = sorted(character for character in node if character)
    if not following:
        return "(?s:.+)"  # the end of a forbidden text: something must follow
    others = "".join(_in_class(character) for character in following)
    options = [f"[^{others}](?s:.*)"]
    options += [f"{re.escape(character)}(?:{_turned(node[character])})" for character in following]
    tail = "|".join(options)
    return tail if "" in node else f"|{tail}"


def _in_class(character: str) -> str:
    return f"\\{character}" if character in r"\]^-[&~" else character
