"""Reads a JSON schema, of any draft that jsonschema knows, as a shape."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

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
    array,
    finder,
    is_list,
    literal,
    matches,
    number,
    object_,
    string,
    union,
)
from hermes_agent.formats.shapes.unevaluated import close, unclosable

__all__ = ["read"]

Schema = Any
"""An object or a boolean, as ``json.loads`` gives it."""

_LEFT = {
    "uniqueItems": "uniqueItems is checked only afterwards",
    "contains": "contains is checked only afterwards",
    "unevaluatedItems": "unevaluatedItems is checked only afterwards",
    "$dynamicRef": "$dynamicRef is checked only afterwards",
    "$recursiveRef": "$recursiveRef is checked only afterwards",
}
_DEEPEST = 30
"""Definitions read within one another; Python's stack is not deep, and a chain of references may be."""
_OVERLAP = "oneOf with overlapping branches is taken as anyOf, and checked afterwards"
_TOGETHER = {"contains": ("contains", "minContains", "maxContains")}
_OLD = ("draft-03", "draft-04", "draft-06", "draft-07")
_PER_TYPE = {
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "array": ("items", "prefixItems", "additionalItems", "minItems", "maxItems"),
    "object": (
        "properties", "patternProperties", "additionalProperties", "required", "propertyNames", "minProperties",
        "maxProperties",
    ),
}  # fmt: skip


def read(schema: Schema, algebra: Algebra) -> Shape:
    """What a schema allows.

    References that leave the schema, and are not to a published metaschema, are left to the validation.

    Args:
        schema: The schema.
        algebra: Takes the definitions and the warnings.
    """
    reader = _Reader(schema, algebra)
    shape = reader.root()
    algebra.settle()
    return shape


class _Reader:
    def __init__(self, schema: Schema, algebra: Algebra) -> None:
        from jsonschema.validators import Draft202012Validator, validator_for
        from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]  # has none
        from referencing.jsonschema import DRAFT202012, specification_with

        self.algebra = algebra
        cls = validator_for(schema, default=Draft202012Validator)
        dialect = str(cls.META_SCHEMA.get("$schema", ""))
        self.old = any(draft in dialect for draft in _OLD)
        self.specification = specification_with(dialect.rstrip("#"), default=DRAFT202012)
        self.keywords = cls.VALIDATORS
        resource = self.specification.create_resource(schema)
        uri = (resource.id() if isinstance(schema, Mapping) else None) or ""
        self.resolver = REGISTRY.with_resource(uri, resource).resolver(uri)
        self.schema: Schema = schema
        self.names: dict[int, str] = {}
        self.lossy: set[str] = set()
        self.depth = 0
        self.hidden = False
        self.later: list[tuple[str, Schema, Any]] = []

    def root(self) -> Shape:
        shape = self.named(self.schema, self.resolver)
        while self.later:
            self.define(*self.later.pop())
        return shape

    def named(self, schema: Schema, resolver: Any) -> Shape:
        """A schema that can be referred to; a `Ref` if it refers to itself."""
        if isinstance(schema, bool):
            return self.read(schema, resolver)
        if (name := self.names.get(id(schema))) is None:
            name = self.names[id(schema)] = self.algebra.new_name()
            if self.depth >= _DEEPEST:
                self.later.append((name, schema, resolver))
            else:
                self.define(name, schema, resolver)
        elif name in self.lossy:
            self.algebra.losses += 1
        return Ref(name)

    def define(self, name: str, schema: Mapping[str, Any], resolver: Any) -> None:
        before, place = self.algebra.losses, self.algebra.place
        self.depth += 1
        try:
            self.algebra.definitions[name] = self.read(schema, resolver, at_root=True)
        except TooComplexError:
            self.algebra.definitions[name] = self.only_type(schema)
            self.algebra.warn("it is too complex to be worked out: only its type is enforced", *schema)
        self.depth -= 1
        self.algebra.place = place
        if self.algebra.losses > before:
            self.lossy.add(name)

    def only_type(self, schema: Mapping[str, Any]) -> Shape:
        kinds = schema.get("type", ())
        kinds = [kinds] if isinstance(kinds, str) else kinds
        return union(at for kind in kinds for at in self.of_type(kind, {}, None)) if kinds else ANYTHING

    def inverse(self, schema: Schema, resolver: Any) -> tuple[Shape, Shape | None]:
        """A schema, and all that it forbids where that is known exactly."""
        before = self.algebra.losses
        shape = self.read(schema, resolver)
        return shape, self.algebra.negate(shape) if self.algebra.losses == before else None

    def read(self, schema: Schema, resolver: Any, *, at_root: bool = False) -> Shape:
        if isinstance(schema, bool):
            return ANYTHING if schema else Nothing("the schema is `false`")
        if not at_root and isinstance(schema.get("$id" if "$ref" not in schema or not self.old else ""), str):
            resolver = resolver.in_subresource(self.specification.create_resource(schema))
        if "$ref" in schema and self.old:
            return self.reference(schema["$ref"], resolver)
        place, self.algebra.place = self.algebra.place, id(schema)
        shape = self.by_type(schema, resolver)
        for keyword, value in schema.items():
            if keyword in self.keywords or keyword == "dependencies":
                shape = self.with_keyword(shape, keyword, schema, resolver)
                if keyword in _LEFT and not (keyword == "uniqueItems" and not value):
                    self.algebra.warn(_LEFT[keyword], *_TOGETHER.get(keyword, (keyword,)))
        if "unevaluatedProperties" in schema:
            shape = self.close(shape, schema, resolver)
        self.algebra.place = place
        return shape

    def with_keyword(self, shape: Shape, keyword: str, schema: Mapping[str, Any], resolver: Any) -> Shape:
        """A shape with what a keyword wants besides; without it, where that would take too many steps."""
        place = self.algebra.place
        try:
            with self.algebra.slice():
                if (extra := self.applicator(keyword, schema[keyword], schema, resolver)) is not None:
                    return self.algebra.meet(shape, extra)
        except TooComplexError:
            self.algebra.place = place
            self.algebra.warn(f"{keyword} is too complex to be worked out and is checked only afterwards", keyword)
        return shape

    def applicator(self, keyword: str, value: Any, schema: Mapping[str, Any], resolver: Any) -> Shape | None:
        """What a keyword adds that applies to a value of any type; ``None`` for every other keyword."""
        if keyword not in _APPLICATORS:
            return None
        return _APPLICATORS[keyword](self, value, schema, resolver)

    def all_of(self, value: list[Schema], _: Any, resolver: Any) -> Shape:
        shape: Shape = ANYTHING
        place = self.algebra.place
        for part in value:
            try:
                with self.algebra.slice():
                    shape = self.algebra.meet(shape, self.read(part, resolver))
            except TooComplexError:
                self.algebra.place = id(part)
                self.algebra.warn(
                    "a part of allOf is too complex to be worked out and is checked only afterwards", *part
                )
                self.algebra.place = place
        return shape

    def any_of(self, value: list[Schema], _: Any, resolver: Any) -> Shape:
        return self.either([self.read(part, resolver) for part in value])

    def either(self, options: list[Shape]) -> Shape:
        """What any of the branches allows."""
        # One that allows anything hides what the others evaluate.
        self.hidden |= any(isinstance(self.algebra.resolve(option), Anything) for option in options)
        return union(options)

    def one_of(self, value: list[Schema], __: Any, resolver: Any) -> Shape:
        """Exact where the branches are disjoint, or can be made so by taking the others out of each."""
        options: list[Shape] = []
        exact: list[bool] = []
        for part in value:
            before = self.algebra.losses
            options.append(self.read(part, resolver))
            exact.append(self.algebra.losses == before)
        self.either(options)
        behind = [self.algebra.resolve(option) for option in options]
        if any(isinstance(at, Ref) for at in behind):
            self.algebra.warn("a recursive oneOf is taken as anyOf, and checked afterwards", "oneOf")
            return union(options)
        if _told_apart(behind):
            return union(options)
        result = list(options)
        try:
            with self.algebra.slice():
                for (i, a), (j, b) in itertools.permutations(enumerate(options), 2):
                    if isinstance(self.algebra.meet(a, b), Nothing):
                        continue
                    if (inverse := self.algebra.negate(b) if exact[j] else None) is None:
                        self.algebra.warn(_OVERLAP, "oneOf")
                    else:
                        result[i] = self.algebra.meet(result[i], inverse)
        except TooComplexError:
            self.algebra.warn(_OVERLAP, "oneOf")
            return union(options)
        return union(result)

    def exclusion(self, value: Schema, _: Any, resolver: Any) -> Shape:
        _, inverse = self.inverse(value, resolver)
        if inverse is None:
            self.algebra.warn("this `not` is checked only afterwards", "not")
            return ANYTHING
        return inverse

    def condition(self, value: Schema, schema: Mapping[str, Any], resolver: Any) -> Shape:
        then, other = self.read(schema.get("then", True), resolver), self.read(schema.get("else", True), resolver)
        condition, inverse = self.inverse(value, resolver)
        if inverse is not None:
            return union((self.algebra.meet(condition, then), self.algebra.meet(inverse, other)))
        if isinstance(then, Anything):  # (c) or (not c and e) is (c or e)
            return union((condition, other))
        self.algebra.warn("this if/then/else is checked only afterwards", "if", "then", "else")
        return union((then, other))

    def reference(self, value: str, *context: Any) -> Shape:
        from referencing.exceptions import Unresolvable

        try:
            found = context[-1].lookup(value)
        except Unresolvable:
            self.algebra.warn(f"the reference {value!r} is not in the schema and is checked only afterwards", "$ref")
            return ANYTHING
        return self.named(found.contents, found.resolver)

    def dependencies(self, value: Mapping[str, Any], _: Any, resolver: Any) -> Shape:
        shape: Shape = ANYTHING
        for name, needed in value.items():
            if isinstance(needed, str) or is_list(needed):
                names: list[str] = [needed] if isinstance(needed, str) else needed
                then = union((Object(required=(name, *names)), *_not_objects()))
            else:
                then = self.algebra.meet(Object(required=(name,)), self.read(needed, resolver))
                then = union((then, *_not_objects()))
            without = object_(Object(((name, Nothing(f"{name!r} is absent")),)))
            shape = self.algebra.meet(shape, union((without, _settled(then))))
        return shape

    def close(self, shape: Shape, schema: Mapping[str, Any], resolver: Any) -> Shape:
        """``unevaluatedProperties``, where its meaning can be told."""
        if "additionalProperties" in schema:  # which has evaluated them all
            return shape
        why = "where a branch allows anything" if self.hidden else unclosable(self.schema, schema)
        if not why:
            try:
                with self.algebra.slice():
                    return close(shape, self.read(schema["unevaluatedProperties"], resolver), self.algebra)
            except TooComplexError:
                why = "with so many branches"
        self.algebra.warn(f"unevaluatedProperties {why} is checked only afterwards", "unevaluatedProperties")
        return shape

    # Keywords of one type

    def by_type(self, schema: Mapping[str, Any], resolver: Any) -> Shape:
        kinds = schema.get("type")
        if kinds is None and not any(key in schema for keys in _PER_TYPE.values() for key in keys):
            return ANYTHING
        kinds = list(EVERY_TYPE) if kinds is None else [kinds] if isinstance(kinds, str) else kinds
        return union(itertools.chain.from_iterable(self.of_type(kind, schema, resolver) for kind in kinds))

    def of_type(self, kind: Any, schema: Mapping[str, Any], resolver: Any) -> Iterable[Shape]:
        if kind == "any":
            return (ANYTHING,)
        if kind in ("number", "integer"):
            return (_numbers(schema, integer=kind == "integer"),)
        if kind == "string":
            return (self.strings(schema),)
        if kind == "array":
            return (self.arrays(schema, resolver),)
        if kind == "object":
            return (self.objects(schema, resolver),)
        return EVERY_TYPE.get(kind, (Nothing(f"{kind!r} is no type"),))

    def strings(self, schema: Mapping[str, Any]) -> Shape:
        patterns = (schema["pattern"],) if "pattern" in schema else ()
        formats = (schema["format"],) if "format" in schema else ()
        return string(String(int(schema.get("minLength", 0)), _count(schema.get("maxLength")), patterns, formats))

    def arrays(self, schema: Mapping[str, Any], resolver: Any) -> Shape:
        items = schema.get("items", True)
        prefix: list[Schema] = [] if self.old else schema.get("prefixItems", [])
        if is_list(items):
            prefix, items = items, schema.get("additionalItems", True)
        return array(
            Array(
                tuple(self.read(item, resolver) for item in prefix),
                self.read(items, resolver),
                int(schema.get("minItems", 0)),
                _count(schema.get("maxItems")),
            )
        )

    def objects(self, schema: Mapping[str, Any], resolver: Any) -> Shape:
        patterns = {key: self.read(at, resolver) for key, at in schema.get("patternProperties", {}).items()}
        properties: dict[str, Shape] = {}
        for name, part in schema.get("properties", {}).items():
            at = self.read(part, resolver)
            for pattern, more in patterns.items():
                if matches(pattern, name):
                    at = self.algebra.meet(at, more)
            properties[name] = at
        rest = self.read(schema.get("additionalProperties", True), resolver)
        required = schema.get("required", ())
        shape: Shape = object_(
            Object(
                tuple(properties.items()),
                self.algebra.disjoint(tuple(patterns.items())),
                rest,
                tuple(required) if is_list(required) else (),
                int(schema.get("minProperties", 0)),
                _count(schema.get("maxProperties")),
            )
        )
        if "propertyNames" in schema and isinstance(shape, Object):
            shape = self.names_only(shape, self.read(schema["propertyNames"], resolver))
        return shape

    def names_only(self, shape: Object, names: Shape) -> Shape:
        """An object shape whose every property name is among ``names``."""
        names = self.algebra.resolve(self.algebra.meet(String(), names))
        properties = dict(shape.properties)
        for name in properties:
            if not self.algebra.holds(names, name):
                properties[name] = Nothing(f"{name!r} is not among the allowed names")
        options = names.options if isinstance(names, Union) else (names,)
        if isinstance(names, Nothing) or all(isinstance(option, Literal) for option in options):
            at = finder(shape)
            for option in options:
                if isinstance(option, Literal):
                    properties.setdefault(option.value, at(option.value))
            return object_(replace(shape, properties=tuple(properties.items()), patterns=(), rest=Nothing()))
        pattern = _as_pattern(names) if isinstance(names, String) else None
        if pattern == "" or (isinstance(shape.rest, Nothing) and not shape.patterns):  # all names are declared
            return object_(replace(shape, properties=tuple(properties.items())))
        if pattern is None or shape.patterns:
            self.algebra.warn("these propertyNames are checked only afterwards", "propertyNames")
            return object_(replace(shape, properties=tuple(properties.items())))
        only = ((pattern, shape.rest),)
        return object_(replace(shape, properties=tuple(properties.items()), patterns=only, rest=Nothing()))


_APPLICATORS: dict[str, Callable[[_Reader, Any, Mapping[str, Any], Any], Shape]] = {
    "enum": lambda _, value, __, ___: union(literal(item) for item in value),
    "const": lambda _, value, __, ___: literal(value),
    "$ref": _Reader.reference,
    "allOf": _Reader.all_of,
    "anyOf": _Reader.any_of,
    "oneOf": _Reader.one_of,
    "not": _Reader.exclusion,
    "if": _Reader.condition,
    "dependencies": _Reader.dependencies,
    "dependentRequired": _Reader.dependencies,
    "dependentSchemas": _Reader.dependencies,
}


def _told_apart(options: list[Shape]) -> bool:
    """Whether one required property of objects is fixed to another value in each: no two have any in common."""
    fixed: list[dict[str, str]] = []
    for shape in options:
        if not isinstance(shape, Object):
            return False
        needed = set(shape.required)
        fixed.append({name: at.text for name, at in shape.properties if name in needed and isinstance(at, Literal)})
    return any(
        len({known.get(name) for known in fixed} - {None}) == len(options) for name in (fixed[0] if fixed else ())
    )


def _count(value: Any) -> int | None:
    return None if value is None else int(value)


def _not_objects() -> list[Shape]:
    return [at for kind, shapes in EVERY_TYPE.items() if kind != "object" for at in shapes]


def _settled(shape: Shape) -> Shape:
    """The same, with objects in their simplest form."""
    if isinstance(shape, Union):
        return union(map(_settled, shape.options))
    return object_(shape) if isinstance(shape, Object) else shape


def _numbers(schema: Mapping[str, Any], *, integer: bool) -> Shape:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    low_open, high_open = above is True, below is True  # as draft 4 writes it
    if not isinstance(above, bool) and above is not None and (low is None or above >= low):
        low, low_open = above, True
    if not isinstance(below, bool) and below is not None and (high is None or below <= high):
        high, high_open = below, True
    factor = schema.get("multipleOf")
    return number(Number(integer, low, low_open, high, high_open, () if factor is None else (factor,)))


def _as_pattern(names: String) -> str | None:
    """One pattern that says what a string shape says; ``""`` if it says nothing, ``None`` if there is none."""
    counted = names.least > 0 or names.most is not None
    if names.formats or names.excluded or len(names.patterns) + counted > 1:
        return None
    if counted:
        return f"^(?s:.{{{names.least},{'' if names.most is None else names.most}}})$"
    return names.patterns[0] if names.patterns else ""
