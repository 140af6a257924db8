from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes_agent.json_schema import compile_schema


def valid(schema: dict[str, Any], instance: object) -> bool:
    return compile_schema(schema)(instance) == []


DRAFTS = {
    "http://json-schema.org/draft-04/schema#": "draft4",
    "http://json-schema.org/draft-04/schema": "draft4",
    "http://json-schema.org/draft-06/schema#": "draft6",
    "http://json-schema.org/draft-07/schema#": "draft7",
    "https://json-schema.org/draft/2019-09/schema": "2019",
    "https://json-schema.org/draft/2020-12/schema": "2020",
}


@pytest.mark.parametrize(("uri", "draft"), DRAFTS.items())
def test_each_draft_reads_its_own_words(uri: str, draft: str) -> None:
    old = draft in ("draft4", "draft6", "draft7")
    exclusive: Any = True if draft == "draft4" else 3
    assert not valid({"$schema": uri, "minimum": 3, "exclusiveMinimum": exclusive}, 3)
    assert valid({"$schema": uri, "type": "integer"}, 1.0) == (draft != "draft4")
    assert valid({"$schema": uri, "const": 1}, 2) == (draft == "draft4")
    assert valid({"$schema": uri, "prefixItems": [{"type": "string"}]}, [1]) == (draft != "2020")
    assert valid({"$schema": uri, "dependentRequired": {"a": ["b"]}}, {"a": 1}) == old
    assert not valid({"$schema": uri, "definitions": {"n": {"type": "null"}}, "$ref": "#/definitions/n"}, 1)


def test_without_a_name_it_is_the_newest_draft() -> None:
    for schema in (
        {"prefixItems": [{"type": "string"}]},
        {"$schema": "urn:unknown", "prefixItems": [{"type": "string"}]},
    ):
        assert not valid(schema, [1])


def test_formats_are_checked_and_unknown_ones_are_not() -> None:
    assert not valid({"format": "date"}, "2023-02-29")
    assert not valid({"format": "regex"}, "(")
    assert valid({"format": "date"}, 3)
    assert valid({"format": "colour"}, "anything")


def test_patterns_are_ecma() -> None:
    assert valid({"pattern": "^a$"}, "a")
    assert not valid({"pattern": "^a$"}, "a\n")
    assert compile_schema({"pattern": r"^\p{L}+$"})("é1") == [r"- 'é1' does not match '^\\p{L}+$'"]
    named = {"patternProperties": {r"^\p{Lu}": {"type": "integer"}, r"^\d$": {"minimum": 2}, "^[0-9]$": {"maximum": 3}}}
    closed = {**named, "additionalProperties": False}
    assert valid(named, {"É": 1, "x": "free", "2": 2})
    assert not valid(named, {"É": "1"})
    assert not valid(named, {"1": 1})
    assert not valid(named, {"4": 4})
    assert not valid(closed, {"x": 1})
    assert valid(closed, {"É": 1})
    assert not valid({**named, "unevaluatedProperties": False}, {"x": 1})


def test_a_property_may_be_named_like_a_keyword() -> None:
    schema = {"properties": {"pattern": {"type": "integer"}, "patternProperties": {"type": "object"}}}
    assert valid(schema, {"pattern": 1, "patternProperties": {}})
    assert not valid(schema, {"pattern": "("})
    assert valid({"enum": [{"pattern": "("}]}, {"pattern": "("})


@settings(deadline=None)  # the first use imports or compiles
@given(st.integers(-(10**30), 10**30), st.integers(1, 10**6), st.integers(0, 6))
def test_multiples_are_exact(factor: int, step: int, places: int) -> None:
    assert valid({"multipleOf": step}, factor * step)
    assert valid({"multipleOf": step}, factor * step + 1) == (step == 1)


def test_a_tenth_divides_what_is_written_in_tenths() -> None:
    assert all(valid({"multipleOf": 0.1}, n) for n in (0.3, 0.7, 1.1, 4, 1e20, 10**400))
    assert not valid({"multipleOf": 0.1}, 0.35)


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "dict"}, "type: 'dict' is not valid"),
        ({"properties": {"a": {"minLength": -1}}}, r"properties\.a\.minLength: -1"),
        ({"required": "a"}, "required: 'a' is not of type 'array'"),
        ({"properties": {"a": {"pattern": "["}}}, r"'\[' is not a pattern"),
        ({"patternProperties": {"(": {}}}, r"'\(' is not a pattern"),
        ({"$defs": {"a": {"items": {"$ref": "#/$defs/b"}}}}, "'#/\\$defs/b' refers to nothing"),
        ({"$ref": "https://example.com/other.json"}, "nothing is fetched"),
    ],
)
def test_a_bad_schema_is_refused(schema: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        compile_schema(schema)


def test_references() -> None:
    tree = {"$id": "https://example.com/t", "properties": {"next": {"$ref": "#"}, "n": {"$ref": "n"}}, "$defs": {}}
    tree["$defs"] = {"n": {"$id": "n", "type": "integer"}}
    assert valid(tree, {"next": {"next": {"n": 1}}})
    assert not valid(tree, {"next": {"next": {"n": "1"}}})
    assert valid({"$ref": "http://json-schema.org/draft-07/schema#"}, {"type": "object"})
    assert not valid({"$ref": "http://json-schema.org/draft-07/schema#"}, {"type": "dict"})


def test_endless_recursion_is_a_problem_not_a_crash() -> None:
    assert compile_schema({"$ref": "#"})(1) == ["- nested too deeply to be checked"]
    deep: Any = 1
    for _ in range(5_000):
        deep = [deep]
    circle = compile_schema({"type": "integer", "if": {"not": {"type": "array"}}, "then": {"$ref": "#"}})

    def within(calls: int) -> list[str]:
        return circle(7) if calls == 0 else within(calls - 1)

    for calls in range(40):  # whatever is on top of the stack where it ends
        assert within(calls) == ["- nested too deeply to be checked"]
    assert compile_schema({"items": {"$ref": "#"}})(deep) == ["- nested too deeply to be checked"]


def test_messages_stay_short() -> None:
    problems = compile_schema({"items": {"anyOf": [{"type": "integer"}, {"enum": ["x" * 1000]}]}})(["y" * 5000] * 40)
    assert len(problems) == 11
    assert problems[-1] == "- and more"
    assert len("\n".join(problems)) < 7_000
    assert "nearest: " in problems[0]
