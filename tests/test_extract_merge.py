"""Merging what pieces hold: a rule for each field, and nothing that a piece has to make up."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from hermes_agent.errors import ConfigurationError
from hermes_agent.extract.merge import Merging, Rule
from hermes_agent.output import JsonSchema, Output, OutputError


class Buyer(BaseModel):
    name: str
    city: str


class Line(BaseModel):
    name: str
    price: float


class Tree(BaseModel):
    value: int
    left: Tree | None = None


class Order(BaseModel):
    number: str
    day: date
    buyer: Buyer
    lines: list[Line]
    note: str | None
    kind: Literal["a", "b"] = "a"
    ship_to: Buyer | None = None
    prices: dict[str, float] = {}


def merged(spec: Any, values: list[Any], rules: Mapping[str, Rule] | None = None) -> Any:
    return Merging.of(Output.of(spec), rules or {}).merged(values)


def asked(spec: Any, rules: Mapping[str, Rule] | None = None) -> Output[Any]:
    return Merging.of(Output.of(spec), rules or {}).output


def second(values: list[Any]) -> Any:
    return values[1]


def joined(lists: list[Any]) -> Any:
    return [item for one in lists for item in one]


def broken(values: list[Any]) -> Any:
    raise ZeroDivisionError


def test_a_piece_may_say_nothing() -> None:
    output = asked(Order)
    for text in ('{"lines": []}', '{"lines": [], "number": null, "buyer": null, "note": null, "day": null}'):
        output.validate(text)
    output.validate('{"lines": [], "buyer": {"city": "Bonn"}}')


def test_what_a_piece_does_say_is_held_to_the_type() -> None:
    for text in ('{"lines": [], "day": "soon"}', '{"lines": [{"name": "tea"}]}', '{"lines": [], "more": 1}', "[]"):
        with pytest.raises(OutputError):
            asked(Order).validate(text)


def test_fields_lists_and_objects_by_default() -> None:
    tea, milk = {"name": "tea", "price": 1}, {"name": "milk", "price": 2}
    pieces: list[Any] = [
        {"number": "", "lines": [tea], "buyer": {"name": "Ann"}, "prices": {"tea": 1}},
        {"number": "A", "lines": [{"price": 1.0, "name": "tea"}, milk], "buyer": None, "day": "2026-01-02"},
        {"number": "B", "lines": [], "buyer": {"name": "Bob", "city": "Bonn"}, "prices": {"tea": 3, "milk": 2}},
    ]
    value = merged(Order, pieces)
    assert value == {
        "number": "A",
        "day": "2026-01-02",
        "buyer": {"name": "Ann", "city": "Bonn"},
        "lines": [tea, milk],
        "note": None,  # required, and may be null
        "prices": {"tea": 1, "milk": 2},
    }


@pytest.mark.parametrize(
    ("rule", "value"),
    [("first", "b"), ("last", "ccc"), ("longest", "ccc"), ("vote", "b"), (min, "a"), (second, "a")],
)
def test_each_rule(rule: Rule, value: str) -> None:
    schema = JsonSchema({"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]})
    pieces = [{"x": None}, {"x": "b"}, {}, {"x": "a"}, {"x": "b"}, {"x": " "}, {"x": "ccc"}]
    assert merged(schema, pieces, {"x": rule}) == {"x": value}
    assert merged(schema, pieces, {"/x": rule}) == {"x": value}


def test_no_and_nought_are_values() -> None:
    schema = JsonSchema({"type": "object", "properties": {"x": {"type": "boolean"}, "y": {"type": "integer"}}})
    assert merged(schema, [{"x": False, "y": 0}, {"x": True, "y": 7}]) == {"x": False, "y": 0}


def test_a_vote_goes_to_the_first_of_the_most() -> None:
    schema = JsonSchema({"type": "object", "properties": {"x": {"type": "integer"}}})
    assert merged(schema, [{"x": n} for n in (3, 1, 1.0, 3, 2)], {"x": "vote"}) == {"x": 3}


def test_an_object_with_a_rule_is_asked_for_whole() -> None:
    rules: dict[str, Rule] = {"buyer": "last"}
    with pytest.raises(OutputError, match=r"city|name"):
        asked(Order, rules).validate('{"lines": [], "buyer": {"name": "Ann"}}')
    ann, bob = {"name": "Ann", "city": "Bonn"}, {"name": "Bob", "city": "Ulm"}
    assert (
        merged(Order, [{"buyer": ann, "lines": []}, {"buyer": bob, "lines": []}, {"lines": []}], rules)["buyer"] == bob
    )


def test_a_field_of_an_inner_object_has_a_rule_by_its_path() -> None:
    pieces = [{"buyer": {"name": "A", "city": "Bonn"}}, {"buyer": {"name": "Ann"}}]
    for path in ("buyer.name", "/buyer/name"):
        assert merged(Order, pieces, {path: "longest"})["buyer"] == {"name": "Ann", "city": "Bonn"}


def test_a_list_must_not_be_filled_for_its_least_length() -> None:
    schema = JsonSchema({"type": "array", "items": {"type": "integer"}, "minItems": 2})
    assert asked(schema).validate("[]") == []
    assert merged(schema, [[], [1], [2, 1]]) == [1, 2]


def test_a_list_with_a_rule_is_taken_whole() -> None:
    assert merged(list[int], [[], [1, 1], [2, 3, 4]], {"": "first"}) == [1, 1]
    assert merged(list[int], [[1, 1], [2]], {"": joined}) == [1, 1, 2]


def test_a_value_that_is_no_object_may_be_missing_in_a_piece() -> None:
    assert asked(Literal["a", "b"]).validate("null") is None
    assert merged(Literal["a", "b"], [None, "b", "a", "a"]) == "b"
    assert merged(Literal["a", "b"], [None, "b", "a", "a"], {"": "vote"}) == "a"
    with pytest.raises(OutputError, match="no piece"):
        merged(Literal["a", "b"], [None, None])


def test_a_type_in_itself_is_merged_once_and_then_taken_whole() -> None:
    assert merged(Tree, [{"value": None}, {"value": 1, "left": {"value": 2}}, {"left": {"value": 3}}]) == {
        "value": 1,
        "left": {"value": 2},
    }


def test_a_schema_that_says_more_is_taken_whole() -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"a": {}, "b": {}},
        "required": ["a"],
        "dependentRequired": {"a": ["b"]},
    }
    with pytest.raises(OutputError):
        asked(JsonSchema(schema)).validate("{}")
    assert asked(JsonSchema(schema)).validate("null") is None
    assert merged(JsonSchema(schema), [None, {"a": 1, "b": 2}, {"a": 3, "b": 4}]) == {"a": 1, "b": 2}


def test_a_broken_function_is_told_with_its_field() -> None:
    with pytest.raises(OutputError, match="number: the function that merges it raised ZeroDivisionError"):
        merged(Order, [{"number": "A"}], {"number": broken})


@pytest.mark.parametrize("path", ["nothing", "lines.name", "/lines/0", "buyer.street"])
def test_a_rule_for_what_is_no_field_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match="no field that is merged"):
        asked(Order, {path: "first"})


def test_a_union_of_what_is_no_list_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'number': 'union'"):
        asked(Order, {"number": "union"})


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3))


@given(st.lists(st.lists(JSON, max_size=4), max_size=4))
def test_a_union_holds_each_item_once_in_order(lists: list[list[Any]]) -> None:
    value: list[Any] = merged(JsonSchema({"type": "array", "items": {}}), lists) if lists else []
    distinct: list[str] = list(dict.fromkeys(repr(item) for one in lists for item in one))
    assert [repr(item) for item in value] == distinct
