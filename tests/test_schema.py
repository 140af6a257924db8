from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from hermes_agent.schema import describe, first_line, problem, pydantic_problems, python_schema


class Inner(BaseModel):
    """Said of the class."""

    title: str = Field(title="A title", description="Said of the field.")


class Outer(BaseModel):
    inner: Inner
    free: dict[str, Inner] = {}
    default: float = float("inf")


def test_titles_go_objects_close_and_words_stay() -> None:
    assert python_schema(TypeAdapter(Outer)) == {
        "$defs": {
            "Inner": {
                "type": "object",
                "description": "Said of the class.",
                "properties": {"title": {"type": "string", "description": "Said of the field."}},
                "required": ["title"],
                "additionalProperties": False,
            }
        },
        "type": "object",
        "properties": {
            "inner": {"$ref": "#/$defs/Inner"},
            "free": {"type": "object", "additionalProperties": {"$ref": "#/$defs/Inner"}, "default": {}},
            "default": {"type": "number"},
        },
        "required": ["inner"],
        "additionalProperties": False,
    }


def test_data_that_looks_like_a_schema_stays() -> None:
    class Sample(BaseModel):
        it: dict[str, Any] = Field(default={"title": "x", "type": "object", "properties": {}}, examples=[{"title": 1}])

    part = python_schema(TypeAdapter(Sample))["properties"]["it"]
    assert part["default"] == {"title": "x", "type": "object", "properties": {}}
    assert part["examples"] == [{"title": 1}]


def problems_of(kind: Any, value: object) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(value)
    return pydantic_problems(caught.value, value)


def test_a_path_is_one_in_the_data() -> None:
    assert problems_of(dict[str, list[int | bool]], {"a": [1, None]}) == [
        "- a[1]: input should be a valid integer, got None (read as int)",
        "- a[1]: input should be a valid boolean, got None (read as bool)",
    ]
    assert problems_of(Outer, {"inner": {}}) == ["- inner.title: is required, and missing"]
    assert problems_of(int, "x") == ["- input should be a valid integer, unable to parse string as an integer, got 'x'"]


def test_long_lists_of_problems_are_cut() -> None:
    lines = problems_of(list[int], ["x"] * 30)
    assert len(lines) == 11
    assert lines[-1] == "- and 20 more"


def test_lines() -> None:
    assert problem((), "what") == "- what"
    assert problem(("a", 0, "b"), "what") == "- a[0].b: what"
    assert problem((0,), "what") == "- [0]: what"
    assert first_line(ValueError("one\ntwo")) == "one"


def test_values_are_described_short() -> None:
    assert describe("a" * 10) == repr("a" * 10)
    assert describe("a" * 1000) == repr("a" * 1000)[:80] + "… (1002 characters)"
    assert describe(10**5000) == "a value of type 'int'"
