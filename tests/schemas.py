"""Made-up JSON schemas for the laws of the grammar, each with values that are likely to be valid."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

__all__ = ["cases", "object_cases"]

Case = tuple[dict[str, Any], st.SearchStrategy[Any]]
"""A schema, and a strategy for values most of which it allows."""

_NAMES = ("a", "b", "ab", "x-1", "größe", "with space", 'q"uote', "B")
_PATTERNS = ("^[a-z]{2,4}$", "[0-9]", "^(?:red|green)$", "^x-", "b+c?", r"^\w+@\w+$", r"^[^<>]*$", r"é|\.")
_FORMATS = ("date", "time", "date-time", "ipv4", "ipv6", "uuid", "email", "hostname", "uri", "duration")
_TREE = {
    "type": "object",
    "properties": {"value": {"type": "integer"}, "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
    "required": ["value"],
    "additionalProperties": False,
}

names = st.sampled_from(_NAMES)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8)
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=6
)


def _bounded(draw: st.DrawFn, low_key: str, high_key: str, span: st.SearchStrategy[Any]) -> dict[str, Any]:
    low, high = sorted((draw(span), draw(span)))
    keys = draw(st.sets(st.sampled_from((low_key, high_key))))
    return {key: value for key, value in ((low_key, low), (high_key, high)) if key in keys}


@st.composite
def numeric(draw: st.DrawFn) -> Case:
    kind = draw(st.sampled_from(("integer", "number")))
    bounds = st.integers(-1000, 1000)
    schema: dict[str, Any] = {"type": kind}
    if draw(st.booleans()):
        schema |= _bounded(draw, "minimum", "maximum", bounds)
    else:
        schema |= _bounded(draw, "exclusiveMinimum", "exclusiveMaximum", bounds)
    if kind == "integer" and draw(st.booleans()):
        schema["multipleOf"] = draw(st.sampled_from((1, 2, 3, 5, 7)))
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    whole = st.integers(low, high)
    if kind == "integer":
        return schema, whole | whole.filter(lambda value: abs(value) < 2**53).map(float)
    return schema, whole | st.floats(low, high, allow_nan=False, allow_infinity=False)


@st.composite
def textual(draw: st.DrawFn) -> Case:
    schema: dict[str, Any] = {"type": "string"}
    match draw(st.sampled_from(("plain", "length", "pattern", "format"))):
        case "length":
            schema |= _bounded(draw, "minLength", "maxLength", st.integers(0, 6))
        case "pattern":
            schema["pattern"] = draw(st.sampled_from(_PATTERNS))
            return schema, st.from_regex(schema["pattern"]).filter(lambda text: not text.endswith("\n"))
        case "format":
            schema["format"] = draw(st.sampled_from(_FORMATS))
            return schema, _of_format(schema["format"])
        case _:
            pass
    return schema, st.text(min_size=schema.get("minLength", 0), max_size=schema.get("maxLength"))


def _of_format(name: str) -> st.SearchStrategy[str]:
    return {
        "date": st.dates().map(str),
        "time": st.times().map(lambda time: time.isoformat() + "Z"),
        "date-time": st.datetimes().map(lambda time: time.isoformat() + "+02:00"),
        "ipv4": st.ip_addresses(v=4).map(str),
        "ipv6": st.ip_addresses(v=6).map(str),
        "uuid": st.uuids().map(str),
        "email": st.emails(),
        "hostname": st.just("a.example") | st.from_regex(r"\A[a-z]{1,5}(\.[a-z]{1,5})?\Z"),
        "uri": st.sampled_from(("https://example.org/a?b=c#d", "urn:x:y", "mailto:a@b.c", "http://[::1]:80/")),
        "duration": st.sampled_from(("P1D", "PT1H2M", "P2W", "P1Y2M3DT4H5M6S")),
    }[name]


@st.composite
def fixed(draw: st.DrawFn) -> Case:
    choices = draw(st.lists(values, min_size=1, max_size=4))
    if draw(st.booleans()):
        return {"enum": choices}, st.sampled_from(choices)
    return {"const": choices[0]}, st.just(choices[0])


leaves = st.one_of(
    numeric(), textual(), fixed(), st.sampled_from([({"type": "boolean"}, st.booleans()), ({"type": "null"}, st.none())])
)


@st.composite
def arrays(draw: st.DrawFn, inner: st.SearchStrategy[Case]) -> Case:
    schema, items = draw(inner)
    full: dict[str, Any] = {"type": "array", "items": schema}
    full |= _bounded(draw, "minItems", "maxItems", st.integers(0, 4))
    value: st.SearchStrategy[Any] = st.lists(items, min_size=full.get("minItems", 0), max_size=full.get("maxItems", 4))
    if draw(st.booleans()):
        first, firsts = draw(inner)
        full["prefixItems"] = [first]
        value = st.tuples(firsts, value).map(lambda pair: [pair[0], *pair[1]])
    return full, value


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy[Case]) -> Case:
    parts = draw(st.dictionaries(names, inner, max_size=4))
    required = [name for name in parts if draw(st.booleans())]
    schema: dict[str, Any] = {"type": "object", "properties": {name: part for name, (part, _) in parts.items()}}
    if required:
        schema["required"] = draw(st.permutations(required))
    extras: st.SearchStrategy[dict[str, Any]] = st.just({})
    match draw(st.sampled_from(("closed", "open", "typed", "patterns", "names", "counted", "dependent"))):
        case "closed":
            schema["additionalProperties"] = False
        case "typed":
            rest, rests = draw(inner)
            schema["additionalProperties"] = rest
            extras = st.dictionaries(names, rests, max_size=2)
        case "patterns":
            rest, rests = draw(inner)
            schema["patternProperties"] = {"^x-": rest}
            schema["additionalProperties"] = False
            extras = st.dictionaries(st.sampled_from(("x-2", "x-3")), rests, max_size=2)
        case "names":
            schema["propertyNames"] = {"pattern": draw(st.sampled_from(("^[a-z]", "^.{1,3}$")))}
        case "counted":
            schema |= _bounded(draw, "minProperties", "maxProperties", st.integers(0, 4))
        case "dependent":
            schema["dependentRequired"] = {draw(names): [draw(names)]}
        case _:
            extras = st.dictionaries(names, scalars, max_size=2)
    known = st.fixed_dictionaries(
        {name: parts[name][1] for name in required},
        optional={name: at for name, (_, at) in parts.items() if name not in required},
    )
    return schema, st.tuples(extras, known).map(lambda pair: {**pair[0], **pair[1]})


@st.composite
def combined(draw: st.DrawFn, inner: st.SearchStrategy[Case]) -> Case:
    (one, ones), (two, twos) = draw(inner), draw(inner)
    match draw(st.sampled_from(("anyOf", "oneOf", "allOf", "not", "if", "either"))):
        case "not":
            return {"allOf": [one], "not": two}, ones
        case "if":
            return {"if": one, "then": two, "else": {"type": ["string", "integer"]}}, twos | st.integers() | st.text()
        case "either":
            return {"type": ["null", "object", "integer"], **one}, ones
        case keyword:
            return {keyword: [one, two]}, ones | twos


def _compound(inner: st.SearchStrategy[Case]) -> st.SearchStrategy[Case]:
    return objects(inner) | arrays(inner) | combined(inner)


_trees = st.recursive(
    st.integers().map(lambda value: {"value": value}),
    lambda inner: st.builds(lambda v, c: {"value": v, "children": c}, st.integers(), st.lists(inner, max_size=2)),
    max_leaves=4,
)
recursive: st.SearchStrategy[Case] = st.just(({"$ref": "#/$defs/tree"}, _trees))


def _with_definitions(case: Case) -> Case:
    return {**case[0], "$defs": {"tree": _TREE}}, case[1]


cases: st.SearchStrategy[Case] = st.recursive(leaves | recursive, _compound, max_leaves=6).map(_with_definitions)
"""Any schema."""

object_cases: st.SearchStrategy[Case] = objects(st.recursive(leaves | recursive, _compound, max_leaves=4)).map(
    _with_definitions
)
"""Schemas of objects, such as the arguments of tools."""
