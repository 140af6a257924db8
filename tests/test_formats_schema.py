from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes_agent.errors import ConfigurationError, GrammarError
from hermes_agent.formats.engine import compiled
from hermes_agent.formats.schema import Bounds, in_schema_order, prepare
from hermes_agent.formats.shapes.string_patterns import PATTERNS
from hermes_agent.formats.shapes.to_schema import all_but
from hermes_agent.formats.wire import dump_json
from hermes_agent.json_schema import compile_schema
from hermes_agent.string_formats import FORMATS
from tests.naming import label

DRAFT = "http://json-schema.org/draft"
TWO = {"properties": {"v": {}, "k": {"const": "two"}}}
A_OR_B = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
    "additionalProperties": False,
}


def allows(schema: Any, text: str, bounds: Bounds | None = None) -> bool:
    matcher = compiled("%llguidance {}\nstart: %json " + prepare(schema, bounds=bounds).text).deep_copy()
    data = text.encode()
    return matcher.try_consume_tokens(list(data)) == len(data) and matcher.is_accepting()


KEYWORDS: list[tuple[dict[str, Any], list[str], list[str]]] = [
    ({"type": "object", "properties": {"a": {}, "b": {}}, "required": ["b"]}, ['{"b": 1}'], ['{"a": 1}']),
    (A_OR_B | {"dependentRequired": {"a": ["b"]}}, ['{"a": 1, "b": 2}', '{"b": 2}'], ['{"a": 1}']),
    (
        A_OR_B | {"oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
        ['{"a": 1}', '{"b": 1}'],
        ['{"a": 1, "b": 2}', "{}"],
    ),
    (A_OR_B | {"anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, ['{"a": 1}', '{"a": 1, "b": 2}'], ["{}"]),
    (A_OR_B | {"minProperties": 1}, ['{"a": 1}', '{"a": 1, "b": 2}'], ["{}"]),
    (A_OR_B | {"maxProperties": 1}, ["{}", '{"b": 1}'], ['{"a": 1, "b": 2}']),
    (A_OR_B | {"not": {"required": ["a"]}}, ["{}", '{"b": 1}'], ['{"a": 1}']),
    (
        A_OR_B | {"if": {"properties": {"a": {"const": 1}}, "required": ["a"]}, "then": {"required": ["b"]}},
        ['{"a": 2}', '{"a": 1, "b": 0}', "{}"],
        ['{"a": 1}'],
    ),
    ({"type": "string", "not": {"enum": ["x", "xy"]}}, ['""', '"xyz"', '"y"'], ['"x"', '"xy"']),
    ({"type": "integer", "not": {"const": 3}}, ["2", "4"], ["3"]),
    ({"type": "number", "minimum": 1, "maximum": 1}, ["1"], ["0", "1.5"]),
    ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, ["0.5", "1"], ["0", "1.5"]),
    ({"type": ["string", "null"], "enum": ["a", None, 1]}, ['"a"', "null"], ["1"]),
    ({"oneOf": [{"maximum": 5}, {"type": "number", "minimum": 3}]}, ["2", "6", '"x"'], ["3", "4.5"]),
    ({"allOf": [{"minimum": 1, "type": "integer"}, {"maximum": 3}]}, ["1", "3"], ["0", "4"]),
    ({"type": "object", "propertyNames": {"enum": ["x", "y"]}}, ['{"x": 1}', "{}"], ['{"z": 1}']),
    ({"type": "object", "propertyNames": {"pattern": "^x"}}, ['{"xa": 1}'], ['{"z": 1}']),
    ({"type": "object", "patternProperties": {"^x": {"type": "null"}}}, ['{"x": null}', '{"y": 1}'], ['{"x": 1}']),
    (
        {"type": "object", "unevaluatedProperties": False, "allOf": [{"properties": {"a": {}}}]},
        ['{"a": 1}'],
        ['{"b": 1}'],
    ),
    (
        {"$schema": f"{DRAFT}-07/schema#", "items": [{"type": "null"}], "additionalItems": False},
        ["[]", "[null]"],
        ["[1]", "[null, null]"],
    ),
    (
        {"$schema": f"{DRAFT}-04/schema#", "type": "number", "minimum": 1, "exclusiveMinimum": True},
        ["1.5"],
        ["1"],
    ),
    ({"type": "array", "items": {"$ref": "#"}}, ["[[], [[]]]"], ["[1]"]),
    ({"type": "array", "items": {"$ref": "#", "maxItems": 1}}, ["[[], [[]]]"], ["[[[], []]]"]),
    ({"type": "string", "format": "date"}, ['"2024-02-29"'], ['"2023-02-29"', '"2024-2-1"']),
    ({"type": "string", "pattern": "^\\d+$"}, ['"12"'], ['"1a"', f'"{chr(0x661)}"']),
    ({"type": "string", "pattern": "^\\p{Lu}"}, ['"Éa"'], ['"éa"']),
]


@pytest.mark.parametrize(("schema", "good", "bad"), KEYWORDS, ids=label)
def test_keywords_are_enforced_exactly(schema: Any, good: list[str], bad: list[str]) -> None:
    assert prepare(schema).warnings == ()
    problems = compile_schema(schema)
    for text in good:
        assert not problems(json.loads(text))
        assert allows(schema, text), text
    for text in bad:
        assert problems(json.loads(text))
        assert not allows(schema, text), text


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        (False, "`false`"),
        ({"enum": []}, "none of no options"),
        ({"type": "object", "properties": {"a": False}, "required": ["a"]}, "'a'"),
        ({"type": "integer", "minimum": 5, "maximum": 4}, "at least 5"),
        ({"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2}, "no integer"),
        ({"type": "string", "minLength": 3, "maxLength": 2}, "at least 3"),
        ({"type": "array", "minItems": 2, "maxItems": 1}, "at least 2"),
        ({"type": "string", "const": 1}, "1"),
        ({"allOf": [{"type": "string"}, {"type": "null"}]}, ""),
        ({"not": {}}, "forbidden"),
        ({"$ref": "#"}, "without end"),
        ({"type": "string", "allOf": [{"pattern": "^a$"}, {"pattern": "^b$"}]}, ""),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "without end"),
    ],
    ids=label,
)
def test_a_schema_that_nothing_satisfies_is_an_error(schema: Any, why: str) -> None:
    with pytest.raises(GrammarError, match="nothing satisfies the schema") as caught:
        prepare(schema)
    assert why in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("schema", [{"const": {1, 2}}, {"minimum": float("nan")}, {"const": b"x"}], ids=label)
def test_a_schema_that_is_not_json_is_an_error(schema: Any) -> None:
    with pytest.raises(GrammarError, match="not JSON"):
        prepare(schema)


@pytest.mark.parametrize(
    ("schema", "warning"),
    [
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 0.5}, "open bound"),
        ({"type": "array", "contains": {"type": "null"}}, "contains"),
        ({"type": "string", "pattern": "^(?!x)"}, "'^(?!x)'"),
        ({"type": "string", "format": "iri"}, "'iri'"),
        ({"const": 2**60}, str(2**60)),
        ({"type": "integer", "maximum": 10**30}, str(10**30)),
        ({"type": "number", "minimum": 5e-324}, "5e-324"),
        ({"not": {"pattern": "x"}}, "not"),
        ({"oneOf": [{"pattern": "x"}, {"pattern": "y"}]}, "oneOf"),
    ],
    ids=label,
)
def test_what_cannot_be_enforced_is_said(schema: Any, warning: str) -> None:
    assert any(warning in line for line in prepare(schema).warnings)


def test_a_declared_name_cannot_come_back_in_disguise() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    assert allows(schema, '{"a": 1, "b": 2}')
    assert not allows(schema, '{"a": 1, "a": "x"}')
    assert not allows(schema, '{"\\u0061": "x"}')


def test_numbers_too_large_to_read_are_not_allowed() -> None:
    assert not allows({"type": "number"}, "1e999")
    assert not allows({}, "1e999")
    assert allows({}, str(10**18))
    assert not allows({}, "1" * 40)  # a bound of ours, which Bounds(number=None) lifts
    assert allows({"const": 10**20}, str(10**20))
    assert allows({"minimum": 10**19, "type": "integer"}, str(10**19 + 10**5))


def test_a_fixed_value_with_numbers_beyond_the_engine_is_held_to_its_type() -> None:
    schema = {"enum": [{"a": [5e-143]}, "x"]}
    assert allows(schema, dump_json({"a": [5e-143]}))
    assert allows(schema, '"x"')
    assert not allows(schema, '"y"')


def test_declared_names_may_match_a_pattern() -> None:
    schema = {"type": "object", "properties": {"ab": {"type": "integer"}}, "propertyNames": {"pattern": "^a"}}
    assert prepare(schema).warnings == ()
    assert allows(schema, '{"ab": 1, "ac": [{"b": 1}]}')
    assert not allows(schema, '{"ab": "x"}')


TEXT = {"type": "string"}
WHOLE = {"type": "integer"}
CLOSED_AB = {"properties": {"ab": TEXT}, "additionalProperties": False}


DECLARED: list[tuple[dict[str, Any], list[str], list[str], list[str]]] = [
    ({**CLOSED_AB, "propertyNames": {"pattern": "^a"}}, ['{"ab": "x"}', "{}"], ['{"ac": "x"}', '{"ab": 1}'], []),
    ({**CLOSED_AB, "propertyNames": {"maxLength": 1}}, ["{}"], ['{"ab": "x"}'], []),
    ({**CLOSED_AB, "required": ["ab"], "propertyNames": {"pattern": "^[a-z]+$"}}, ['{"ab": "x"}'], ["{}"], []),
    ({"allOf": [CLOSED_AB, {"patternProperties": {"^a": {}}}], "required": ["ab"]}, ['{"ab": "x"}'], ["{}"], []),
    (
        {**CLOSED_AB, "allOf": [{"patternProperties": {"^a": {"maxLength": 5}}}]},
        ['{"ab": "x"}'],
        ['{"ac": ""}'],
        [],
    ),
    (
        {"properties": {"ab": TEXT}, "additionalProperties": WHOLE, "propertyNames": {"pattern": "^a"}},
        ['{"ab": "x"}', '{"ab": "x", "ac": 1}'],
        ['{"ab": 1}', '{"b": 1}'],
        ["names matching '^a'"],  # others than "ab" may be anything
    ),
]


@pytest.mark.parametrize(("schema", "allowed", "forbidden", "left"), DECLARED)
def test_a_declared_name_that_a_pattern_matches_is_as_it_was_declared(
    schema: dict[str, Any], allowed: list[str], forbidden: list[str], left: list[str]
) -> None:
    schema = {"type": "object", **schema}
    assert [text for text in allowed if not allows(schema, text)] == []
    assert [text for text in forbidden if allows(schema, text)] == []
    assert [warning.partition(" that are")[0] for warning in prepare(schema).warnings] == left


A, B = {"properties": {"a": TEXT}}, {"properties": {"b": TEXT}}
NEED_A, NEED_B = {**A, "required": ["a"]}, {**B, "required": ["b"]}


@pytest.mark.parametrize(
    ("schema", "allowed", "forbidden"),
    [
        ({"anyOf": [NEED_A, NEED_B]}, ['{"a": "1"}', '{"a": "1", "b": "2"}'], ['{"a": "1", "c": 1}', "{}"]),
        ({"anyOf": [A, B], "properties": {"n": WHOLE}}, ['{"n": 1, "a": "x", "b": "y"}', "{}"], ['{"c": 1}']),
        ({"oneOf": [NEED_A, NEED_B]}, ['{"a": "1"}', '{"b": "2"}'], ['{"a": "1", "c": 1}']),
        ({"additionalProperties": True}, ['{"z": 1}'], []),
        ({"additionalProperties": WHOLE}, ['{"z": 1}'], ['{"z": "x"}']),
        ({"allOf": [{"additionalProperties": WHOLE}]}, ['{"z": 1}'], ['{"z": "x"}']),
    ],
)
def test_what_any_branch_evaluates_is_evaluated(
    schema: dict[str, Any], allowed: list[str], forbidden: list[str]
) -> None:
    schema = {"type": "object", "unevaluatedProperties": False, **schema}
    assert prepare(schema).warnings == ()
    assert [text for text in allowed if not allows(schema, text)] == []
    assert [text for text in forbidden if allows(schema, text)] == []


@pytest.mark.parametrize(
    "schema",
    [
        {"unevaluatedProperties": False, "allOf": [{"additionalProperties": True}]},
        {"unevaluatedProperties": False, "$ref": "#/$defs/open", "$defs": {"open": {"additionalProperties": {}}}},
        {"unevaluatedProperties": False, "if": {"properties": {"z": True}}},
        {"unevaluatedProperties": False, "anyOf": [{"properties": {"z": True}, "required": ["z"]}, True]},
        {"unevaluatedProperties": False, "anyOf": [{"properties": {f"z{i}": True}} for i in range(9)]},
    ],
)
def test_what_cannot_be_told_of_unevaluated_properties_is_left_to_the_validation(schema: dict[str, Any]) -> None:
    assert allows({"type": "object", **schema}, '{"z": 1}')
    assert any("unevaluatedProperties" in warning for warning in prepare({"type": "object", **schema}).warnings)


def test_unevaluated_items_are_left_to_the_validation() -> None:
    schema = {"type": "array", "prefixItems": [WHOLE], "unevaluatedItems": False}
    assert prepare(schema).warnings == ("unevaluatedItems is checked only afterwards",)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(-(10**20), 10**20), st.sampled_from(({}, {"type": "number"}, {"minimum": -3})))
def test_digits_behind_the_point_can_be_bounded(digits: int, value: int, schema: dict[str, Any]) -> None:
    bounds = Bounds(number=None, fraction=digits)
    text = f"{Decimal(10 * value + 1).scaleb(-digits):f}"  # which does not end in 0
    assert allows(schema, text, bounds) == (float(text) >= schema.get("minimum", -math.inf))
    longer = f"{Decimal(10 * value + 1).scaleb(-digits - 1):f}"
    assert not allows(schema, longer, bounds)


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0, 1))
def test_bounded_digits_leave_numbers_between_close_bounds(one: float, two: float) -> None:
    low, high = sorted((one, two))
    assert prepare({"type": "number", "minimum": low, "maximum": high}, bounds=Bounds(fraction=2)).text


@pytest.mark.parametrize("fraction", [0, 10, -1])
def test_more_digits_than_the_engine_counts_are_refused(fraction: int) -> None:
    with pytest.raises(ConfigurationError, match=f"fraction={fraction} is no number") as caught:
        Bounds(fraction=fraction)
    assert caught.match("give 1 to 9, or None")


def test_bounds_hold_where_the_schema_says_nothing() -> None:
    text = prepare({"properties": {"a": {"type": "string"}, "b": {"maxLength": 3}}}, bounds=Bounds(7, 8)).text
    assert '"maxLength": 7' in text
    assert '"maxLength": 3' in text
    assert '"maxItems": 8' in text


@pytest.mark.parametrize(
    ("value", "schema", "ordered"),
    [
        ({"b": 1, "a": 2}, {"properties": {"a": {}, "b": {}}}, '{"a": 2, "b": 1}'),
        ({"x": 0, "b": 1, "a": 2}, {"properties": {"a": {}, "b": {}}}, '{"a": 2, "b": 1, "x": 0}'),
        ({"a": 2.0}, {"properties": {"a": {"type": "integer"}}}, '{"a": 2}'),
        ({"a": -0.0}, {"properties": {"a": {"type": "number"}}}, '{"a": 0}'),
        ([{"b": 1, "a": 2}], {"items": {"properties": {"a": {}, "b": {}}}}, '[{"a": 2, "b": 1}]'),
        (
            {"v": 1, "k": "two"},
            {"anyOf": [{"properties": {"k": {"const": "one"}, "v": {}}}, TWO]},
            '{"v": 1, "k": "two"}',
        ),
    ],
    ids=label,
)  # fmt: skip
def test_values_are_written_in_the_order_of_the_schema(value: Any, schema: Any, ordered: str) -> None:
    assert dump_json(in_schema_order(value, schema)) == ordered
    assert allows(schema, ordered)


def test_the_same_schema_is_prepared_once() -> None:
    schema = {"type": "object", "properties": {"only here": {"type": "string"}}}
    assert prepare(schema) is prepare(json.loads(json.dumps(schema)))


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(PATTERNS)), st.data())
def test_format_patterns_allow_only_the_format(name: str, data: st.DataObject) -> None:
    text = data.draw(st.from_regex(PATTERNS[name], fullmatch=True).filter(lambda text: not text.endswith("\n")))
    assert FORMATS[name](text)


def test_every_format_that_is_checked_is_enforced() -> None:
    assert PATTERNS.keys() == FORMATS.keys()


@settings(max_examples=60, deadline=None)
@given(st.sets(st.text(alphabet="ab]^-é", max_size=4), min_size=1, max_size=4), st.text(alphabet="ab]^-éc", max_size=5))
def test_all_but_some_texts(texts: set[str], text: str) -> None:
    assert allows({"type": "string", "pattern": all_but(texts)}, dump_json(text)) == (text not in texts)
