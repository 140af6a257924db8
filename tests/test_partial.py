"""Partial outputs: never invalid, never against the end, and at a cost that grows with the length alone."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from datetime import date
from enum import Enum
from itertools import pairwise
from typing import Annotated, Any, Literal, NotRequired, assert_type, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PrivateAttr,
    RootModel,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

from hermes_agent.output import JsonSchema, Output
from hermes_agent.partial import GROWTH, Partials
from hermes_agent.partial.text import GrowingJson
from tests.naming import label

# What pydantic reads has to stand at the module's top, where annotations are looked up.


class Colour(Enum):
    RED = "red"
    REDDISH = "reddish"


class Item(BaseModel):
    name: str
    count: int
    tags: list[str] = []


class Order(BaseModel):
    model_config = ConfigDict(frozen=True)

    number: Annotated[str, Field(pattern=r"^[A-Z]-[0-9]+$")]
    kind: Literal["pick", "pickup"]
    day: date | None
    note: str = "none"
    best: Item | None = None
    items: list[Item]
    prices: dict[str, float]
    _seen: list[int] = PrivateAttr(default_factory=list[int])


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    x: int
    label: str
    near: list[Point] = dataclasses.field(default_factory=list["Point"])
    length: float = dataclasses.field(default=0.0, init=False)


@pydantic_dataclass
class Span:
    start: int
    end: int


class Row(TypedDict):
    title: str
    cells: list[int]
    colour: NotRequired[Colour]


class Cat(BaseModel):
    kind: Literal["cat"]
    name: str


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str


class Tree(BaseModel):
    value: int | str
    branches: list[Tree] = []


class Names(RootModel[list[str]]):
    pass


def watched(spec: Any, text: str, size: int = 1) -> list[Any]:
    """The partial values of an answer that comes in chunks of ``size``."""
    partials: Partials[Any] = Partials(Output.of(spec))
    seen: list[Any] = []
    written: list[str] = []
    for at in range(0, len(text), size):
        partials.feed(text[at : at + size])
        if (value := partials.read()) is not None:
            seen.append(value[0])
            written.append(repr(value[0]))
    assert [repr(value) for value in seen] == written, "a value was changed by a later one"
    return seen


def agrees(part: Any, whole: Any) -> bool:
    """Whether ``part`` is the beginning of ``whole``."""
    if isinstance(whole, str):
        return isinstance(part, str) and whole.startswith(part)
    if whole.__class__ is list:
        last = len(part) - 1
        return part == [] or (last < len(whole) and part[:-1] == whole[:last] and agrees(part[-1], whole[last]))
    if isinstance(whole, Mapping):
        return part.keys() <= whole.keys() and all(agrees(part[key], whole[key]) for key in part)
    if isinstance(whole, BaseModel):
        return type(part) is type(whole) and all(
            agrees(getattr(part, name), getattr(whole, name))
            if name in part.model_fields_set
            else getattr(part, name) in (None, type(part).model_fields[name].get_default(call_default_factory=True))
            for name in type(whole).model_fields
        )
    if dataclasses.is_dataclass(whole):
        return type(part) is type(whole) and all(
            getattr(part, field.name) in (None, []) or agrees(getattr(part, field.name), getattr(whole, field.name))
            for field in dataclasses.fields(whole)
        )
    return bool(part == whole and type(part) is type(whole))


words = st.text(st.characters(codec="utf-8"), max_size=12)
ints = st.integers(-(10**6), 10**6)
items = st.fixed_dictionaries({"name": words, "count": ints}, optional={"tags": st.lists(words, max_size=3)})
days = st.none() | st.dates().map(date.isoformat)
orders = st.fixed_dictionaries(
    {
        "number": st.from_regex(r"\A[A-Z]-[0-9]{1,5}\Z"),
        "kind": st.sampled_from(["pick", "pickup"]),
        "day": days,
        "items": st.lists(items, max_size=3),
        "prices": st.dictionaries(words, st.floats(-1e6, 1e6), max_size=3),
    },
    optional={"note": words, "best": st.none() | items},
)
points: st.SearchStrategy[Any] = st.deferred(
    lambda: st.fixed_dictionaries({"x": ints, "label": words}, optional={"near": st.lists(points, max_size=2)})
)
rows = st.fixed_dictionaries(
    {"title": words, "cells": st.lists(ints, max_size=3)}, optional={"colour": st.sampled_from(["red", "reddish"])}
)
pets = st.fixed_dictionaries({"kind": st.sampled_from(["cat", "dog"]), "name": words})
trees: st.SearchStrategy[Any] = st.deferred(
    lambda: st.fixed_dictionaries({"value": ints | words}, optional={"branches": st.lists(trees, max_size=2)})
)
plain: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | ints | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
ORDER_SCHEMA = Output.of(Order).schema
assert ORDER_SCHEMA is not None
SCHEMA = JsonSchema(
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 2},
            "size": {"enum": ["s", "sm"]},
            "parts": {
                "type": "array",
                "items": {"anyOf": [{"$ref": "#/$defs/part"}, {"type": "string"}]},
                "minItems": 1,
            },
        },
        "required": ["name", "parts"],
        "additionalProperties": False,
        "$defs": {
            "part": {
                "type": "object",
                "properties": {"n": {"type": "integer"}, "of": {"type": "array", "items": {"$ref": "#/$defs/part"}}},
                "required": ["n"],
            }
        },
    }
)
ROOTED = JsonSchema(
    {
        "type": "object",
        "properties": {
            "n": {"type": "integer"},
            "enum": {"anyOf": [{"$ref": "#"}, {"enum": [{"$ref": "#"}]}]},
            "of": {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
        },
        "required": ["n"],
    }
)
parts: st.SearchStrategy[Any] = st.deferred(
    lambda: st.fixed_dictionaries({"n": ints}, optional={"of": st.lists(parts, max_size=2)})
)
rooted: st.SearchStrategy[Any] = st.deferred(
    lambda: st.fixed_dictionaries(
        {"n": ints},
        optional={"of": st.lists(rooted, min_size=1, max_size=2), "enum": rooted | st.just({"$ref": "#"})},
    )
)
things = st.fixed_dictionaries(
    {"name": st.text(st.characters(codec="utf-8"), min_size=2, max_size=9)},
    optional={"size": st.sampled_from(["s", "sm"])},
).flatmap(
    lambda head: st.fixed_dictionaries({"parts": st.lists(parts | words, min_size=1, max_size=3)}).map(head.__or__)
)

ANSWERS = [
    (Order, orders),
    (JsonSchema(ORDER_SCHEMA, "Order"), orders),
    (list[Item], st.lists(items, max_size=4)),
    (Point, points),
    (list[Row], st.lists(rows, max_size=3)),
    (Annotated[Cat | Dog, Field(discriminator="kind")], pets),
    (list[Cat | Dog], st.lists(pets, max_size=3)),
    (Item | Point, items | points),
    (list[int] | list[str], st.lists(ints, max_size=4) | st.lists(words, max_size=4)),
    (Tree, trees),
    (Names, st.lists(words, max_size=4)),
    (dict[str, list[int]], st.dictionaries(words, st.lists(ints, max_size=3), max_size=3)),
    (object, plain),
    (JsonValue, plain),
    (set[str], st.lists(words, unique=True, max_size=4)),
    (tuple[int, str], st.tuples(ints, words)),
    (Literal["a", "ab"], st.sampled_from(["a", "ab"])),
    (int, ints),
    (SCHEMA, things),
    (ROOTED, rooted),
    (JsonSchema({}), plain),
]


@pytest.mark.parametrize(("spec", "values"), ANSWERS, ids=lambda value: label(value)[:40])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_what_is_shown_is_the_beginning_of_the_answer(
    spec: Any, values: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    value = data.draw(values)
    ascii_only, size = data.draw(st.booleans()), data.draw(st.integers(1, 9))
    text = json.dumps(value, ensure_ascii=ascii_only, indent=data.draw(st.sampled_from([None, 1])))
    whole = Output.of(spec).validate(text)
    before: Any = None
    for part in watched(spec, text, size):
        assert agrees(part, whole), (part, whole)
        assert before is None or agrees(before, part), (before, part)
        before = part


@settings(max_examples=200, deadline=None)
@given(
    text=plain.map(json.dumps) | st.text(st.sampled_from('{}[]",: 12\\nu\n')),
    cuts=st.lists(st.integers(0, 60)),
    end=st.integers(0),
)
def test_what_is_found_does_not_depend_on_the_chunks(text: str, cuts: list[int], end: int) -> None:
    text = text[: end % (len(text) + 1)]
    whole, pieces = GrowingJson(), GrowingJson()
    whole.feed(text)
    at = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    for start, stop in pairwise(at):
        pieces.feed(text[start:stop])
    assert (whole.levels, whole.string, whole.over, whole.text) == (
        pieces.levels,
        pieces.string,
        pieces.over,
        pieces.text,
    )


def test_a_model_fills_up() -> None:
    text = (
        '{"number": "A-12", "kind": "pickup", "day": "2026-01-31",'
        ' "items": [{"name": "nut", "count": 12}], "prices": {}}'
    )
    seen = watched(Order, text)
    assert all(type(order) is Order for order in seen)
    assert {order.number for order in seen} == {None, "A-12"}
    assert {order.kind for order in seen} == {None, "pickup"}
    assert {order.day for order in seen} == {None, date(2026, 1, 31)}
    assert {order.note for order in seen} == {"none"}
    counts = [order.items[0].count for order in seen if order.items]
    assert set(counts) == {None, 12}
    assert seen[0].model_fields_set == set()
    assert seen[-1].items == Output.of(Order).validate(text).items
    assert "name='nut'" in repr(seen[-1])
    assert seen[-1].model_copy(update={"note": "x"}).note == "x"


def test_a_string_is_followed_letter_by_letter_and_never_in_halves() -> None:
    text = json.dumps(["\u00e9\U0001f600\\", "b"])
    assert len(text) == 29
    seen = watched(list[str], text)[:6]
    assert seen == [[], [""], ["\u00e9"], ["\u00e9\U0001f600"], ["\u00e9\U0001f600\\"], ["\u00e9\U0001f600\\", ""]]
    assert watched(list[str], '["abc"]') == [[], [""], ["a"], ["ab"], ["abc"]]


def test_numbers_words_and_literals_appear_whole() -> None:
    assert watched(list[int], "[12, 345, 6]") == [[], [12], [12, 345]]
    assert watched(list[bool | None], "[true, null ]") == [[], [True], [True, None]]
    assert watched(list[Colour], '["reddish", "red"]') == [[], [Colour.REDDISH], [Colour.REDDISH, Colour.RED]]
    assert watched(int, "1234") == []


def test_a_short_string_waits_for_its_least_length() -> None:
    class Long(BaseModel):
        text: Annotated[str, Field(min_length=3, max_length=5)]

    assert [part.text for part in watched(Long, '{"text": "abcd"}')] == [None, "abc", "abcd"]


WRONG: list[tuple[Any, str, list[Any]]] = [
    (list[int], '[1, "x", 2]', [[], [1]]),
    (list[int], "[1, 2, 2 3]", [[], [1], [1, 2], [1, 2, 2]]),
    (Item, '{"count": "many", "name": "abc"}', [Item.model_construct(name=None, count=None)]),
    (list[str], '["a", "b\nc", "d"]', [[], [""], ["a"], ["a", ""], ["a", "b"]]),
    (dict[str, int], '{"a": 1, "a": 2, "b": 3}', [{}, {"a": 1}]),
    (object, '{"a": 1, "a": [2, 3]}', [{}, {"a": 1}]),
    (list[int], "[1, NaN, 3]", [[], [1]]),
    (JsonSchema({"type": "array", "items": {"type": "integer"}, "maxItems": 2}), "[1, 2, 3, 4]", [[], [1], [1, 2]]),
    (SCHEMA, '{"name": "ab", "size": "x", "parts": []}', [{}, {"name": "ab"}]),
    (SCHEMA, '{"name": "ab", "other": "x"}', [{}, {"name": "ab"}]),
    (SCHEMA, '{"name": "ab", "parts": [3, "x"]}', [{}, {"name": "ab"}, {"name": "ab", "parts": []}]),
    (SCHEMA, '{"name": ["ab"', [{}]),
    (
        ROOTED,
        '{"n": 1, "of": [{"n": 2}, {}], "m": "x"}',
        [
            {},
            {"n": 1},
            {"n": 1, "of": []},
            {"n": 1, "of": [{}]},
            {"n": 1, "of": [{"n": 2}]},
            {"n": 1, "of": [{"n": 2}, {}]},
        ],
    ),
    (JsonSchema({"$defs": {"a": {"$ref": "#"}}, "$ref": "#/$defs/a"}), '{"a": 1}', []),
    (Item, 'Here it is: {"name": "x"}', []),
    (Item, "[1, 2]", []),
    (Item, '"text"', []),
    (list[Item], '["x", 1]', [[]]),
    (list[int], "[1}, 2]", [[]]),
    (list[Cat], '[{"kind": "dog", "name": "x"}]', [[], [Cat.model_construct(kind=None, name=None)]]),
]


@pytest.mark.parametrize(("spec", "text", "shown"), WRONG)
def test_nothing_invalid_is_shown(spec: Any, text: str, shown: list[Any]) -> None:
    """From the first thing that is not valid on, nothing more comes."""
    assert watched(spec, text) == shown


def test_items_with_no_comma_between_them_end_it() -> None:
    seen = watched(list[Cat], '[{"kind": "cat", "name": "x"} {"kind": "cat", "name": "y"}, {"kind": "cat"}]')
    assert max(map(len, seen)) == 2
    assert seen[-1][0] == Cat(kind="cat", name="x")


def test_validators_of_what_is_whole_have_run() -> None:
    class Checked(BaseModel):
        low: int
        high: int
        names: list[str] = []
        rest: str = ""

        @field_validator("high")
        @classmethod
        def above(cls, value: int, info: Any) -> int:
            if value <= info.data["low"]:
                raise ValueError("high is not above low")
            return value * 10

        @field_validator("names")
        @classmethod
        def upper(cls, names: list[str]) -> list[str]:
            return [name.upper() for name in names]

    seen = watched(Checked, '{"low": 1, "high": 2, "names": ["a", "b"], "rest": "xy"}')
    assert {part.high for part in seen} == {None, 20}
    assert [part.names for part in seen if part.names] == [["A", "B"]] * sum(bool(part.names) for part in seen)
    assert {part.high for part in watched(Checked, '{"low": 3, "high": 2, "names": ["a"], "rest": "x"}')} == {None}
    # A validator that breaks for want of another field hides its own, until the other is there.
    seen = watched(Checked, '{"high": 2, "rest": "ab", "low": 1, "names": ["a"]}')
    assert {(part.low, part.high, part.rest) for part in seen} == {(None, None, ""), (None, None, "ab"), (1, 20, "ab")}
    assert seen[-1].model_fields_set >= {"low", "high", "rest"}
    assert all("high" not in part.model_fields_set for part in seen if part.high is None)


def below(value: int, info: ValidationInfo) -> int:
    if info.data["a"] is None or value <= info.data["a"]:
        raise ValueError("b is not above a")
    return value


class Above(TypedDict):
    a: int
    b: Annotated[int, AfterValidator(below)]
    c: str


@pydantic_dataclass
class AboveData:
    a: int
    b: Annotated[int, AfterValidator(below)]
    c: str


class AboveModel(BaseModel):
    a: int
    b: Annotated[int, AfterValidator(below)]
    c: str


class AboveDefault(BaseModel):
    a: int = 9
    b: Annotated[int, AfterValidator(below)] = 8
    c: str


@pytest.mark.parametrize("spec", [Above, AboveData, AboveModel, AboveDefault])
def test_a_validator_that_fails_over_what_is_not_there_yet_hides_its_field(spec: Any) -> None:
    def field(part: Any, name: str) -> Any:
        return cast("dict[str, Any]", part).get(name) if isinstance(part, dict) else getattr(part, name)

    seen = watched(spec, '{"b": 5, "c": "x", "a": 3, "d": 1}')
    unwritten = 8 if spec is AboveDefault else None
    assert {field(part, "b") for part in seen if not field(part, "c")} <= {unwritten}
    assert (field(seen[-1], "a"), field(seen[-1], "b"), field(seen[-1], "c")) == (3, 5, "x")
    # What is there and is not valid ends it, as before.
    assert field(watched(spec, '{"a": 5, "b": 3, "c": "x"}')[-1], "c") is None
    assert field(watched(spec, '{"b": "five", "a": 3, "c": "x"}')[-1], "c") is None


def test_defaults_that_are_validated_are_not_while_they_stand_for_what_is_missing() -> None:
    class Strict(BaseModel):
        model_config = ConfigDict(validate_default=True)

        number: int
        few: Annotated[int, Field(gt=5)] = 1
        text: str

    seen = watched(Strict, '{"number": 1, "text": "ab", "few": 7}')
    assert seen[0] == Strict.model_construct(number=None, text=None)
    assert (seen[-1].number, seen[-1].few, seen[-1].text) == (1, 1, "ab")


def test_a_validator_of_the_whole_object_waits_for_it() -> None:
    calls: list[object] = []

    class Pair(BaseModel):
        one: int
        two: int

        @model_validator(mode="after")
        def ordered(self) -> Pair:
            calls.append(self)
            if self.one > self.two:
                raise ValueError("not in order")
            return self

    Pair.model_rebuild(_types_namespace={"Pair": Pair})
    seen = watched(list[Pair], '[{"one": 1, "two": 2}, {"one": 4, "two": 3}, {"one": 5, "two": 6}]')
    assert [(pair.one, pair.two) for pair in seen[-1]] == [(1, 2), (4, None)]
    assert all(pair.two is not None for pair in calls if isinstance(pair, Pair))
    assert watched(Pair, '{"one": 4, "two": 3, ')[-1].one == 4


def test_what_may_be_rewritten_as_a_whole_appears_whole() -> None:
    class Swapped(BaseModel):
        one: int
        two: list[int]

        @model_validator(mode="before")
        @classmethod
        def swap(cls, data: Any) -> Any:
            return data

    class Built(BaseModel):
        one: list[int]

        def __init__(self, **data: Any) -> None:
            super().__init__(**data)

    assert watched(Swapped, '{"one": 1, "two": [1, 2]}') == []
    assert watched(Built, '{"one": [1, 2]}') == []


def test_a_union_is_shown_when_it_is_decided() -> None:
    seen = watched(Cat | Dog, '{"kind": "dog", "name": "Rex"}')
    assert seen[0] == Dog.model_construct(kind="dog", name=None)
    assert all(type(pet) is Dog for pet in seen)
    assert [part.name for part in watched(Item | Cat, '{"name": "a"')] == []
    assert type(watched(Item | Cat, '{"name": "a", "count": ')[-1]) is Item
    assert watched(list[int] | None, "[1, 2]") == [[], [1]]
    assert watched(int | str, '"abc"') == []


def test_aliases_extra_names_and_private_attributes() -> None:
    class Open(BaseModel):
        model_config = ConfigDict(extra="allow", validate_by_name=True, validate_by_alias=True)

        number: int = Field(alias="no")
        text: str = Field(alias="txt")
        _made: list[int] = PrivateAttr(default_factory=list[int])

    part = watched(Open, '{"no": 12, "more": [1], "text": "abc", "x": "y"}')[-1]
    assert (part.number, part.text, part.more, part._made) == (12, "abc", [1], [])


def test_dataclasses_and_typed_dicts() -> None:
    seen = watched(Point, '{"x": 3, "label": "ab", "near": [{"x": 4, "label": ""}]}')
    assert seen[0] == dataclasses.replace(Point(0, ""), x=None, label=None)  # type: ignore[arg-type]  # as it is while it grows
    assert seen[-1] == Point(3, "ab", [Point(4, "")])
    assert watched(Span, '{"start": 1, "end": 20}')[-1].start == 1
    assert watched(Row, '{"title": "ab", "cells": [1, 20]}')[-1] == {"title": "ab", "cells": [1, 20]}


def test_a_tag_and_an_earlier_answer_do_not_confuse_it() -> None:
    partials = Partials(Output.of(list[str]))
    partials.feed('["<tool_call>", "a')
    assert partials.read() == (["<tool_call>", "a"],)
    partials.begin()
    partials.feed("[")
    assert partials.read() == ([],)
    partials.stop()
    partials.feed('"a')
    assert partials.read() is None
    text = Partials(Output.of(str))
    text.feed("[1, 2")
    assert text.read() is None


def parsed(spec: Any, text: str, size: int) -> int:
    partials: Partials[Any] = Partials(Output.of(spec))
    shown = read_at = 0
    for at in range(0, len(text), size):
        partials.feed(text[at : at + size])
        if partials.read() is not None:
            shown, read_at = shown + 1, at + size
    assert shown > GROWTH
    assert read_at > 0.9 * len(text)
    return partials.parsed


def joined(n: int, one: Callable[[int], object]) -> str:
    return json.dumps([one(i) for i in range(n)])


LONG: list[tuple[Any, Callable[[int], str]]] = [
    (list[Item], lambda n: joined(n, lambda i: {"name": f"item {i}", "count": i, "tags": ["a", "b"]})),
    (list[str], lambda n: json.dumps(["long " * n * 8])),
    (list[int], lambda n: joined(n * 8, int)),
    (dict[str, int], lambda n: json.dumps({f"key {i}": i for i in range(n * 4)})),
    (Tree, lambda n: f'{{"value": "x", "branches": {joined(n, lambda i: {"value": i, "branches": []})}}}'),
    (list[Cat | Dog], lambda n: joined(n, lambda i: {"kind": "dog", "name": "Rex" * 8})),
    (SCHEMA, lambda n: f'{{"name": "ab", "parts": {joined(n, lambda i: {"n": i, "of": [{"n": 1}]})}}}'),
    (object, lambda n: joined(n, lambda i: [[i, "x"]])),
]


@pytest.mark.parametrize(("spec", "make"), LONG, ids=lambda value: label(value)[:30])
@pytest.mark.parametrize("size", [1, 7])
def test_the_work_grows_with_the_length_and_no_faster(spec: Any, make: Callable[[int], str], size: int) -> None:
    """Counted in characters that any JSON reader was given, not in time."""
    short, long = make(80), make(320)
    assert parsed(spec, long, size) <= 5 * GROWTH * len(long)
    assert parsed(spec, long, size) / len(long) <= 1.3 * parsed(spec, short, size) / len(short) + 2


class Box(BaseModel):
    note: str
    items: list[Item]
    tail: str = ""


class Boxes(RootModel[list[Item | Point]]):
    pass


def broken(value: str) -> str:
    raise TypeError(value)


MANY = [{"name": f"item {i}", "count": i, "tags": ["a", "}"]} for i in range(200)]
ITEMWISE: list[tuple[Any, dict[str, Any] | list[Any], Callable[[Any], list[Any] | None]]] = [
    (list[Item], MANY, lambda value: value),
    (Annotated[list[Item], Field(min_length=1, max_length=200)], MANY, lambda value: value),
    (Boxes, MANY, lambda value: value.root),
    (Box, {"note": "n" * 3000, "items": MANY, "tail": "t" * 100}, lambda value: value.items),
    (dict[str, list[Item]], {"n" * 3000: [], "items": MANY}, lambda value: value.get("items")),
    (list[Item] | dict[str, int], MANY, lambda value: value),
]


@pytest.mark.parametrize(("spec", "answer", "get"), ITEMWISE, ids=lambda value: label(value)[:30])
@pytest.mark.parametrize("size", [1, 40])
def test_an_item_of_the_outermost_list_is_shown_when_it_is_finished(
    spec: Any, answer: Any, get: Callable[[Any], list[Any] | None], size: int
) -> None:
    text = json.dumps(answer)
    whole = get(Output.of(spec).validate(text))
    assert whole is not None
    partials: Partials[Any] = Partials(Output.of(spec))
    ends = iter([at for at in range(len(text)) if text.startswith(('"]}, ', '"]}]'), at)])
    finished, end = 0, next(ends) + 3
    shown: list[Any] = []
    for at in range(0, len(text), size):
        partials.feed(text[at : at + size])
        if (value := partials.read()) is not None:
            shown = get(value[0]) or []
        while end <= at + size and finished < len(MANY) - 1:
            finished, end = finished + 1, next(ends, len(text)) + 3
            assert shown[finished - 1] == whole[finished - 1]
    assert finished == len(MANY) - 1
    assert partials.parsed <= 3 * GROWTH * len(text)


@pytest.mark.parametrize(
    "spec", [list[Annotated[str, AfterValidator(broken)]], Annotated[list[int], Field(max_length=2)]]
)
def test_a_list_that_cannot_be_shown_costs_no_more(spec: Any) -> None:
    text = json.dumps([str(i) if spec.__origin__ is list and "int" not in str(spec) else i for i in range(2000)])
    partials: Partials[Any] = Partials(Output.of(spec))
    shown: list[Any] = []
    for character in text:
        partials.feed(character)
        shown += partials.read() or ()
    assert shown == ([[]] if "int" not in str(spec) else [[], [0], [0, 1]])
    assert partials.parsed <= 2 * GROWTH * len(text)


def test_the_types() -> None:
    assert_type(Partials(Output.of(list[Item])).read(), tuple[list[Item]] | None)
    assert_type(Partials(Output.of(Order)), Partials[Order])
