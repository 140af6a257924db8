"""Schemas inferred from samples: laws over drawn samples, and what is refused."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes_agent.errors import ConfigurationError
from hermes_agent.extract.samples import infer
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.formats.schema import in_schema_order
from hermes_agent.json_text import dump_json
from hermes_agent.output import Output

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**15), 10**15)
    | st.integers(-(10**6), 10**6).map(lambda n: n / 64)
    | st.text(st.characters(codec="utf-8"), max_size=8)
)
NAMES = st.sampled_from(["a", "b", "name", "größe", 'q"', ""])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
SAMPLES = st.lists(st.dictionaries(NAMES, VALUES, max_size=4), min_size=1, max_size=4)


@settings(max_examples=80, deadline=None)
@given(SAMPLES)
def test_every_sample_is_valid_and_accepted(samples: list[dict[str, Any]]) -> None:
    output = Output.of(infer(samples))
    grammar = TurnGrammar((), output)
    assert output.schema is not None
    for sample in samples:
        text = dump_json(in_schema_order(sample, output.schema))
        assert output.validate(text) == sample
        assert grammar.accepts(text), (text, output.schema)


@settings(max_examples=60, deadline=None)
@given(SAMPLES, SAMPLES)
def test_more_samples_only_allow_more(some: list[dict[str, Any]], more: list[dict[str, Any]]) -> None:
    wider = Output.of(infer([*some, *more]))
    for sample in some:
        assert wider.validate(dump_json(sample)) == sample


@given(SAMPLES)
def test_a_field_is_required_if_every_sample_has_it(samples: list[dict[str, Any]]) -> None:
    schema = infer(samples).schema
    assert set(schema["required"]) == {name for name in samples[0] if all(name in sample for sample in samples)}
    assert list(schema["properties"]) == list(dict.fromkeys(name for sample in samples for name in sample))
    assert schema["additionalProperties"] is False


def test_fields_of_each_kind() -> None:
    schema = infer(
        [
            {"id": 1, "price": 1, "paid": True, "note": None, "tags": ["x"], "lines": [{"sku": "a", "n": 1}]},
            {"id": 2, "price": 0.5, "note": "late", "tags": [], "lines": [{"sku": "b"}, {"sku": None, "n": 2}]},
        ]
    ).schema
    assert schema == {
        "type": "object",
        "properties": {
            "id": {"type": "integer"},
            "price": {"type": "number"},
            "paid": {"type": "boolean"},
            "note": {"type": ["string", "null"]},
            "tags": {"type": "array", "items": {"type": "string"}},
            "lines": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"sku": {"type": ["string", "null"]}, "n": {"type": "integer"}},
                    "required": ["sku"],
                    "additionalProperties": False,
                },
            },
        },
        "required": ["id", "price", "note", "tags", "lines"],
        "additionalProperties": False,
    }


def test_a_nullable_object_or_list_keeps_its_fields() -> None:
    fields = infer([{"a": {"b": 1}, "c": None}, {"a": None, "c": [1]}, {"a": [True], "c": [2.5]}]).schema["properties"]
    assert fields["a"]["type"] == ["object", "array", "null"]
    assert fields["a"]["properties"] == {"b": {"type": "integer"}}
    assert fields["a"]["items"] == {"type": "boolean"}
    assert fields["c"] == {"type": ["array", "null"], "items": {"type": "number"}}


def test_samples_may_come_from_a_generator() -> None:
    assert infer({"n": n} for n in range(3)).schema["required"] == ["n"]


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ([], "no sample"),
        (iter(()), "no sample"),
        ([{"a": 1}, 3], r"samples\[1\] is no object: 3"),
        ([None], r"samples\[0\] is no object: None"),
        ({"a": 1}, "is no list of objects"),
        ("text", "is no list of objects"),
        (3, "is no list of objects"),
        ([{"a": [{"b": datetime.date(2026, 1, 2)}]}], r"samples\[0\].a\[0\].b is not JSON: datetime.date"),
        ([{"a": float("nan")}], r"samples\[0\].a is not JSON: nan"),
        ([{"a": (1, 2)}], r"samples\[0\].a is not JSON"),
        ([{1: 2}], r"samples\[0\] has the field 1, which is no string"),
    ],
)
def test_what_is_no_sample_is_refused_by_name(samples: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        infer(samples)
    assert caught.value.hint


def test_samples_without_end_are_refused() -> None:
    endless: dict[str, Any] = {}
    endless["again"] = endless
    with pytest.raises(ConfigurationError, match="too deeply"):
        infer([endless])
