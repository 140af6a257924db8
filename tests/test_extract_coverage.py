"""Which keywords a mask enforces, and which are left to the validation, by place."""

from __future__ import annotations

from typing import Any

import pytest

from hermes_agent.extract import Extractor
from hermes_agent.extract.coverage import Coverage, Left, coverage
from hermes_agent.testing import ScriptedModel


def left(schema: dict[str, Any]) -> set[tuple[str, str]]:
    """Pointer and keyword of all that is left."""
    return {(at.pointer, at.keyword) for at in coverage(schema).left}


def test_a_plain_schema_is_enforced_whole() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}, "required": ["a"]}
    found = coverage(schema)
    assert found.complete
    assert set(found.enforced) == {"/type", "/properties", "/required", "/properties/a/type", "/properties/a/minimum"}
    assert str(found).endswith("left to validation: nothing")


@pytest.mark.parametrize(
    ("part", "keywords"),
    [
        ({"type": "array", "uniqueItems": True}, {"uniqueItems"}),
        ({"type": "array", "contains": {"type": "null"}, "minContains": 2}, {"contains", "minContains"}),
        ({"type": "string", "format": "idn-email"}, {"format"}),
        ({"type": "string", "pattern": "^(?=a)b"}, {"pattern"}),
        ({"type": "integer", "multipleOf": 9999991}, {"multipleOf"}),
        ({"type": "string", "not": {"pattern": "a"}}, {"not"}),
        ({"enum": [str(number) for number in range(30_000)]}, {"enum"}),
        ({"type": "string", "minLength": 10**12}, {"minLength"}),
        ({"not": {"type": "array", "uniqueItems": True}}, {"not"}),
    ],
)
def test_what_is_left_is_told_by_its_place(part: dict[str, Any], keywords: set[str]) -> None:
    schema = {"type": "object", "properties": {"a/b": part, "c": {"type": "integer"}}, "required": ["c"]}
    found = coverage(schema)
    pointer = "/properties/a~1b"
    assert {(pointer, keyword) for keyword in keywords} <= {(at.pointer, at.keyword) for at in found.left}
    assert not any(at.pointer == "/properties/c" for at in found.left)
    assert "/properties/c/type" in found.enforced
    assert not found.complete
    assert all(at.reason for at in found.left)


def test_nothing_is_both_enforced_and_left() -> None:
    schema = {"type": "array", "uniqueItems": True, "items": {"type": "string", "format": "regex", "minLength": 1}}
    found = coverage(schema)
    assert not {f"{at.pointer}/{at.keyword}" for at in found.left} & set(found.enforced)
    assert "/items/minLength" in found.enforced


def test_an_extractor_tells_its_coverage() -> None:
    schema = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}
    found = Extractor(schema, ScriptedModel([])).coverage
    assert isinstance(found, Coverage)
    assert found.left == (Left("", "uniqueItems", "uniqueItems is checked only afterwards"),)
    assert "(whole schema) uniqueItems" in str(found)
