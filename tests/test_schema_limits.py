"""Hostile schemas: compiled in time and memory, masked without a fault, and never tighter than they say."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from hermes_agent.formats.engine import compiled
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.formats.schema import prepare
from hermes_agent.json_text import dump_json
from hermes_agent.output import JsonSchema, Output, OutputError

SECONDS = 10.0
"""Of CPU for one schema here; two are the aim on a quiet machine, and what it holds against takes minutes."""


def named(count: int) -> dict[str, Any]:
    return {f"property_{number}": {"type": "string"} for number in range(count)}


def kinds(count: int) -> list[Any]:
    return [{"type": "object", "properties": {"k": {"const": f"k{n}"}}, "required": ["k"]} for n in range(count)]


def choices(count: int) -> list[Any]:
    return [{"anyOf": [{"required": [f"p{n}"]}, {"required": [f"q{n}"]}]} for n in range(count)]


def chain(count: int) -> dict[str, Any]:
    links = {
        f"n{n}": {"type": "object", "properties": {"next": {"$ref": f"#/$defs/n{(n + 1) % count}"}}}
        for n in range(count)
    }
    return {"$defs": links, "$ref": "#/$defs/n0"}


def web(count: int) -> dict[str, Any]:
    names = range(count)
    return {
        "$defs": {f"n{n}": {"properties": {f"p{m}": {"$ref": f"#/$defs/n{m}"} for m in names}} for n in names},
        "$ref": "#/$defs/n0",
    }


def within(depth: int) -> dict[str, Any]:
    """Alternatives within alternatives: three times as many parts with each level."""
    part: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        part = {"anyOf": [{"type": "array", "items": part}, {"type": "object", "properties": {"a": part, "b": part}}]}
    return part


HOSTILE: dict[str, tuple[dict[str, Any], Any, Any]] = {
    # A schema, a value it allows, and one it forbids that the mask need not see.
    "100,000 values": ({"enum": [f"value {n * 7919 % 1000003}" for n in range(100_000)]}, "value 0", "value x"),
    "a value of 1 MB": ({"const": "abcdefghij" * 100_000}, "abcdefghij" * 100_000, "abc"),
    "4,000 optional properties": (
        {"type": "object", "properties": named(4_000), "additionalProperties": False},
        {"property_7": "a", "property_3999": "b"},
        {"property_7": 1},
    ),
    "4,000 declared among others": ({"properties": named(4_000)}, {"property_7": "a", "other": 1}, {"property_7": 1}),
    "10,000 required": ({"type": "object", "required": [f"r{n}" for n in range(10_000)]}, None, {"r0": 1}),
    "at least one of 1,000": (
        {"type": "object", "properties": named(1_000), "minProperties": 1, "additionalProperties": False},
        {"property_9": ""},
        {},
    ),
    "a ring of 1,500 references": (chain(1_500), {"next": {"next": {}}}, {"next": 1}),
    "60 definitions that name each other": (web(60), {"p3": {"p4": {}}}, None),
    "a oneOf of 2,000": ({"oneOf": kinds(2_000)}, {"k": "k1999"}, {"k": "x"}),
    "200 choices": (
        {"type": "object", "allOf": choices(200)},
        {f"{'pq'[n % 2]}{n}": 1 for n in range(200)},
        {"p0": 1},
    ),
    "a large divisor": ({"type": "integer", "multipleOf": 9_999_991}, 9_999_991, 5),
    "divisors that multiply": (
        {"allOf": [{"type": "integer", "multipleOf": n} for n in (9973, 9967, 9949)]},
        0,
        9973,
    ),
    "30 patterns": ({"type": "string", "allOf": [{"pattern": f"{n}.*x"} for n in range(30)]}, None, "y"),
    "a pattern of nested repeats": ({"type": "string", "pattern": "^(a{1,1000}b{1,1000}){1,1000}$"}, "abaab", "b"),
    "counts beyond all counting": (
        {"type": "array", "maxItems": 10**30, "items": {"type": "string", "maxLength": 10**30}},
        ["a"],
        None,
    ),
    "20,000 forbidden strings": (
        {"type": "string", "not": {"enum": [f"forbidden {n}" for n in range(20_000)]}},
        "allowed",
        "forbidden 7",
    ),
    "5,000 names": (
        {"type": "object", "propertyNames": {"enum": [f"n{n}" for n in range(5_000)]}},
        {"n4": 1},
        {"x": 1},
    ),
    "a ring of dependencies": (
        {"type": "object", "dependentRequired": {f"p{n}": [f"p{(n + 1) % 60}"] for n in range(60)}},
        {"z": 1},
        {"p0": 1},
    ),
    "alternatives 7 deep": (within(7), {"a": [], "b": {}}, {"a": "x"}),
    "alternatives 8 deep": (within(8), {"a": [], "b": {}}, {"a": "x"}),
    "alternatives 10 deep": (within(10), {"a": [], "b": {}}, {"a": "x"}),
    "40,000 properties": ({"properties": named(40_001)}, {"property_7": "a"}, {"property_7": 1}),
    "100 conditions": (
        {
            "type": "object",
            "allOf": [
                {"if": {"properties": {f"p{n}": {"const": "a"}}, "required": [f"p{n}"]}, "then": {"required": ["q"]}}
                for n in range(100)
            ],
        },
        {"p0": "a", "q": 1},
        {"p0": "a"},
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_schema_is_compiled_and_still_means_what_it_says(name: str) -> None:
    schema, valid, invalid = HOSTILE[name]
    begin = time.process_time()
    output = Output.of(JsonSchema(schema))
    grammar = TurnGrammar((), output)
    matcher = compiled(grammar.lark()).deep_copy()
    mask = matcher.compute_bitmask()
    assert time.process_time() - begin < SECONDS
    assert not matcher.is_error()
    assert any(mask)
    if valid is not None:
        text = dump_json(prepare(schema).arrange(valid))
        assert output.validate(text) == valid
        assert grammar.accepts(text)
    if invalid is not None:
        if grammar.accepts(dump_json(invalid)):  # looser than the schema: that is said, and the validation holds
            assert grammar.warnings
        with pytest.raises(OutputError):
            output.validate(dump_json(invalid))


def test_a_part_that_costs_too_much_leaves_the_others_enforced() -> None:
    schema = {
        "type": "object",
        "properties": {"id": {"type": "integer"}, "code": {"enum": [str(n) for n in range(50_000)]}},
        "required": ["id", "code"],
        "additionalProperties": False,
    }
    grammar = TurnGrammar((), Output.of(JsonSchema(schema)))
    assert grammar.accepts('{"id": 1, "code": "x"}')
    assert not grammar.accepts('{"id": "1", "code": "2"}')
    assert not grammar.accepts('{"id": 1, "code": 2}')
    assert grammar.warnings == ("which of 50000 values it is costs too much and is checked only afterwards",)


@pytest.mark.parametrize(
    "schema",
    [
        {"not": {"type": "array", "uniqueItems": True}},
        {"not": {"contains": {"type": "integer"}, "type": "array"}},
        {"oneOf": [{"type": "array", "uniqueItems": True}, {"type": "array", "maxItems": 2}]},
        {"if": {"type": "array", "uniqueItems": True}, "then": {"maxItems": 1}, "else": {"minItems": 2}},
    ],
)
def test_the_opposite_of_what_is_only_partly_known_is_not_taken_for_known(schema: dict[str, Any]) -> None:
    output = Output.of(JsonSchema(schema))
    grammar = TurnGrammar((), output)
    for value in ([], [1], [1, 1], [1, 2], ["a", "a"], [1, 1, 1], [1, 2, 3], ["a", "a", "a"]):
        text = json.dumps(value)
        try:
            output.validate(text)
        except OutputError:
            continue
        assert grammar.accepts(text), (schema, text)


DRAFTS = {
    4: "http://json-schema.org/draft-04/schema#",
    6: "http://json-schema.org/draft-06/schema#",
    7: "http://json-schema.org/draft-07/schema#",
    2019: "https://json-schema.org/draft/2019-09/schema",
    2020: "https://json-schema.org/draft/2020-12/schema",
}


OF_DRAFTS: list[tuple[tuple[int, ...], dict[str, Any], list[Any], list[Any]]] = [
    ((4,), {"type": "integer", "minimum": 1, "exclusiveMinimum": True}, [2], [1]),
    ((6, 7, 2019, 2020), {"type": "integer", "exclusiveMinimum": 1}, [2], [1]),
    (
        (4,),
        {"id": "http://x.test/a", "definitions": {"n": {"type": "null"}}, "$ref": "#/definitions/n"},
        [None],
        [1],
    ),
    (
        (4, 6, 7),
        {"definitions": {"n": {"type": "null"}}, "$ref": "#/definitions/n", "type": "string"},
        [None],
        ["a"],
    ),
    ((2019, 2020), {"$defs": {"n": {"minLength": 2}}, "$ref": "#/$defs/n", "type": "string"}, ["ab"], ["a", None]),
    (
        (4, 6, 7, 2019),
        {"type": "array", "items": [{"type": "null"}], "additionalItems": False},
        [[None], []],
        [[1]],
    ),
    ((2020,), {"type": "array", "prefixItems": [{"type": "null"}], "items": False}, [[None], []], [[1]]),
    ((4, 6, 7), {"type": "object", "dependencies": {"a": ["b"]}}, [{"a": 1, "b": 1}, {"b": 1}, {}], [{"a": 1}]),
    ((2019, 2020), {"type": "object", "dependentRequired": {"a": ["b"]}}, [{"a": 1, "b": 1}, {}], [{"a": 1}]),
    ((6, 7, 2019, 2020), {"const": 1}, [1], [2]),
    ((4,), {"const": 1}, [1, 2, "a"], []),
    ((7, 2019, 2020), {"if": {"type": "string"}, "then": {"minLength": 1}}, ["a", 1], [""]),
    ((4, 6), {"if": {"type": "string"}, "then": {"minLength": 1}}, ["a", 1, ""], []),
    ((7, 2019, 2020), {"type": "string", "contentEncoding": "base64"}, ["!"], [1]),
    ((2019,), {"$recursiveAnchor": True, "properties": {"a": {"$recursiveRef": "#"}}}, [{"a": {}}, 1], []),
    ((2020,), {"$dynamicAnchor": "n", "properties": {"a": {"$dynamicRef": "#n"}}}, [{"a": {}}, 1], []),
    ((2019, 2020), {"type": "array", "contains": {"type": "null"}, "maxContains": 1}, [[None]], [[None, None]]),
]


@pytest.mark.parametrize(("drafts", "schema", "valid", "invalid"), OF_DRAFTS)
def test_every_draft_is_read_by_its_own_rules(
    drafts: tuple[int, ...], schema: dict[str, Any], valid: list[Any], invalid: list[Any]
) -> None:
    for draft in drafts:
        whole = {"$schema": DRAFTS[draft], **schema}
        output = Output.of(JsonSchema(whole))
        grammar = TurnGrammar((), output)
        for value in valid:
            text = dump_json(value)
            assert output.validate(text) == value, draft
            assert grammar.accepts(text), (draft, text)
        for value in invalid:
            text = dump_json(value)
            with pytest.raises(OutputError):
                output.validate(text)
            assert not grammar.accepts(text) or grammar.warnings, (draft, text)
