"""Schemas that are plainly well-formed: never one that its meta-schema refuses, and large ones without asking it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import FormatChecker, SchemaError
from jsonschema.validators import Draft7Validator, Draft201909Validator, Draft202012Validator

from hermes_agent.json_schema import compile_schema
from hermes_agent.output import JsonSchema, Output
from hermes_agent.plain_schema import DRAFTS, is_plain

VALIDATORS: list[Any] = [Draft7Validator, Draft201909Validator, Draft202012Validator]
KEYWORDS = sorted(set(Draft202012Validator.VALIDATORS) | set(Draft7Validator.VALIDATORS) | {
    "$id", "$schema", "$anchor", "$comment", "$defs", "definitions", "title", "description", "default", "examples",
    "deprecated", "readOnly", "writeOnly", "contentEncoding", "contentMediaType", "contentSchema", "minContains",
    "maxContains", "then", "else", "x-own",
})  # fmt: skip

NONE: dict[str, Any] = {}
SMALL: list[Any] = [0, 1, -1, 2.0, 2.5, 0.0, "", "a", "string", "object", "#", "a#b"]
ITEMS: list[Any] = ["a", "b", "string", "object", 1, True, NONE]
NAMED: list[Any] = [["a"], ["a", "a"], [], 1, "x", True, NONE]
values: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(SMALL),
    st.lists(st.sampled_from(ITEMS), max_size=3),
    st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from(NAMED), max_size=2),
)
schemas: st.SearchStrategy[Any] = st.recursive(
    st.one_of(values, st.dictionaries(st.sampled_from(KEYWORDS), values, max_size=3)),
    lambda parts: st.dictionaries(
        st.sampled_from(KEYWORDS),
        st.one_of(parts, st.lists(parts, max_size=2), st.dictionaries(st.sampled_from(["a", "b"]), parts, max_size=2)),
        max_size=4,
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("validator", VALIDATORS)
@given(schema=schemas)
def test_what_is_plain_is_well_formed(validator: Any, schema: Any) -> None:
    assert validator.META_SCHEMA["$schema"] in DRAFTS
    if not is_plain(schema):
        return
    try:
        validator.check_schema(schema, format_checker=FormatChecker(formats=()))
    except SchemaError as error:
        pytest.fail(f"{schema!r}: {error.message}")


def test_every_keyword_with_a_right_value_is_plain() -> None:
    of = {"type": ["object", "null"], "required": ["a"], "enum": [1], "minLength": 1, "multipleOf": 0.5, "maximum": -1}
    parts = {"not": of, "anyOf": [of, True], "properties": {"a": of}, "items": False, "$defs": {"x": {"$ref": "#"}}}
    assert is_plain(
        {**of, **parts, "x-own": 3, "default": None, "uniqueItems": True, "dependentRequired": {"a": ["b"]}}
    )


def test_a_large_schema_is_not_held_against_its_meta_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """That takes six seconds for this one, and a schema may take two."""

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("the meta-schema was asked")

    monkeypatch.setattr(Draft202012Validator, "check_schema", refused)
    names = [f"property {at}" for at in range(30_000)]
    output = Output.of(JsonSchema({"type": "object", "properties": {name: {"type": "string"} for name in names}}))
    assert output.validate('{"property 7": "a"}') == {"property 7": "a"}


def test_what_is_wrong_is_said_as_before() -> None:
    with pytest.raises(ValueError, match=r"properties\.a\.minLength"):
        compile_schema({"properties": {"a": {"minLength": "1"}}})
