from __future__ import annotations

import datetime
import decimal
import enum
import re
import uuid
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

import pytest
import typing_extensions
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel, Field, NaiveDatetime, field_serializer, field_validator

from hermes_agent.errors import OutputTypeError
from hermes_agent.json_schema import compile_schema
from hermes_agent.output import JsonSchema, Output, OutputError, Regex, strict_json
from tests.naming import label


class Unit(enum.Enum):
    CELSIUS = "celsius"
    KELVIN = "kelvin"


class Tree(BaseModel):
    label: str
    children: list[Tree] = []


@dataclass
class Point:
    x: int
    y: float = 0.0
    tags: set[str] = field(default_factory=set[str])


class Box(typing_extensions.TypedDict):
    width: int
    depth: typing_extensions.NotRequired[int]


class Pair(NamedTuple):
    left: int
    right: str


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: Annotated[int, Field(ge=1, le=9)]


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    good: bool


class Renamed(BaseModel):
    from_: str = Field(alias="from")


class Open(BaseModel, extra="allow"):
    n: int


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]

# Times with an offset of whole minutes: no other is written in ISO 8601.
_ZONES = st.integers(-1439, 1439).map(lambda minutes: datetime.timezone(datetime.timedelta(minutes=minutes)))
_TEXT = st.text(max_size=8)
_FLOATS = st.floats(allow_nan=False, allow_infinity=False)
_DECIMALS = st.decimals(allow_nan=False, allow_infinity=False)
_TREES = st.recursive(
    st.builds(Tree, label=_TEXT), lambda inner: st.builds(Tree, label=_TEXT, children=st.lists(inner, max_size=3))
)
_PETS = st.builds(Cat, lives=st.integers(1, 9)) | st.builds(Dog, good=st.booleans())

TYPES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, st.integers()),
    (float, _FLOATS),
    (bool, st.booleans()),
    (None, st.none()),
    (int | str | None, st.none() | st.integers() | _TEXT),
    (Literal["a", 1, True], st.sampled_from(["a", 1])),
    (Unit, st.sampled_from(Unit)),
    (list[int], st.lists(st.integers(), max_size=4)),
    (set[int], st.sets(st.integers(), max_size=4)),
    (tuple[int, str], st.tuples(st.integers(), _TEXT)),
    (dict[str, list[float]], st.dictionaries(_TEXT, st.lists(_FLOATS, max_size=2), max_size=3)),
    (dict[int, bool], st.dictionaries(st.integers(), st.booleans(), max_size=3)),
    (datetime.datetime, st.datetimes() | st.datetimes(timezones=_ZONES)),
    (NaiveDatetime, st.datetimes()),
    (AwareDatetime, st.datetimes(timezones=_ZONES)),
    (datetime.date, st.dates()),
    (datetime.time, st.times() | st.times(timezones=_ZONES)),
    (datetime.timedelta, st.timedeltas()),
    (decimal.Decimal, _DECIMALS),
    (uuid.UUID, st.uuids()),
    (Point, st.builds(Point, x=st.integers(), y=_FLOATS, tags=st.sets(_TEXT, max_size=2))),
    (Box, st.fixed_dictionaries({"width": st.integers()}, optional={"depth": st.integers()})),
    (Pair, st.builds(Pair, st.integers(), _TEXT)),
    (Tree, _TREES),
    (Pet, _PETS),
    (list[Pet], st.lists(_PETS, max_size=3)),
    (Renamed, _TEXT.map(lambda text: Renamed(**{"from": text}))),
    (Open, st.builds(Open, n=st.integers(), more=_TEXT)),
    (object, st.lists(st.none() | st.integers() | _TEXT)),
]
OUTPUTS: list[tuple[Output[Any], st.SearchStrategy[Any]]] = [(Output.of(kind), values) for kind, values in TYPES]


@settings(max_examples=25 * len(OUTPUTS), deadline=None)
@given(st.data())
def test_what_is_dumped_is_read_back_and_fits_its_schema(data: st.DataObject) -> None:
    output, values = data.draw(st.sampled_from(OUTPUTS))
    value = data.draw(values)
    text = output.dump(value)
    assert output.validate(text) == value
    assert type(output.validate(text)) is type(value)
    assert output.schema is not None
    assert compile_schema(output.schema)(strict_json(text)) == []


@settings(deadline=None)
@given(st.sampled_from(OUTPUTS), st.text(max_size=30) | st.text(alphabet='[]{}",:0123456789.eE-ntf \\u', max_size=30))
def test_any_text_is_read_or_refused(pair: tuple[Output[Any], object], text: str) -> None:
    output, _ = pair
    try:
        value = output.validate(text)
    except OutputError as error:
        assert error.problems  # noqa: PT017  # both ends are allowed
    else:
        assert output.validate(output.dump(value)) == value


def test_text() -> None:
    output = Output.of(str)
    assert (output.kind, output.schema, output.pattern) == ("text", None, None)
    assert output is Output.text()
    assert Output.of(output) is output
    assert output.validate("\n two words \n") == "two words"
    for blank in ("", " \n\t"):
        with pytest.raises(OutputError, match="an answer in words is missing"):
            output.validate(blank)


def test_a_typed_output() -> None:
    output = Output.of(Point)
    assert (output.kind, output.name, output.pattern) == ("json", "Point", None)
    assert output.schema is not None
    assert output.schema["additionalProperties"] is False
    assert output.validate(' {"x": "3", "tags": ["a", "a"]}\n') == Point(3, 0.0, {"a"})
    assert hash(output) == hash(Output.of(Point))
    assert output == Output.of(Point)


def test_an_open_model_stays_open() -> None:
    schema = Output.of(Open).schema
    assert schema is not None
    assert schema["additionalProperties"] is True


def test_problems_are_listed_for_the_model() -> None:
    with pytest.raises(OutputError) as caught:
        Output.of(list[Pet]).validate('[{"kind": "cat", "lives": 12}, {"kind": "cow"}, {"kind": "dog"}]')
    assert str(caught.value) == (
        "The answer does not fit:\n"
        "- [0].lives: input should be less than or equal to 9, got 12 (read as cat)\n"
        "- [1]: input tag 'cow' found using 'kind' does not match any of the expected tags: 'cat', 'dog', "
        "got {'kind': 'cow'}\n"
        "- [2].good: is required, and missing (read as dog)"
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a": 1, "b": 2, "a": 3}', "the name 'a' stands twice"),
        ("[NaN]", "NaN is not JSON"),
        ("-Infinity", "-Infinity is not JSON"),
        ("1e999", "1e999 is too large"),
        ("1" * 5000, "Exceeds the limit"),
        ("[" * 100_000, "nested too deeply"),
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ('"\\ud800"', "half of a surrogate pair"),
        ("", "not JSON: .*; the answer begins ''"),
        ("{'a': 1}", "not JSON"),
        ("[1,]", "not JSON"),
        ("[1] [2]", "not JSON: Extra data"),
        ("Sure! {}", "the answer begins 'Sure! {}'"),
        ("\ufeff1", "not JSON"),
        ('"a\nb"', "not JSON: Invalid control character"),
        ("٣", "not JSON"),
        ("01", "not JSON"),
    ],
    ids=lambda text: repr(text)[:30],
)
def test_json_is_read_strictly(text: str, why: str) -> None:
    for spec in (Output.of(object), Output.of(JsonSchema({}))):
        with pytest.raises(OutputError, match=why) as caught:
            spec.validate(text)
        assert len(str(caught.value)) < 500


def test_depth_that_json_allows_and_a_type_does_not_is_refused() -> None:
    text = '{"label": "", "children": [' * 400 + "]}" * 400
    with pytest.raises(OutputError):
        Output.of(Tree).validate(text)


@settings(deadline=None)
@given(st.integers())
def test_integers_are_exact(number: int) -> None:
    assert Output.of(int).validate(str(number)) == number
    assert Output.of(JsonSchema({"type": "integer"})).validate(str(number)) == number


def test_a_json_schema_means_what_it_says() -> None:
    output = Output.of(JsonSchema({"type": "object", "properties": {"a": {"type": "integer"}}}, name="Answer"))
    assert (output.kind, output.name) == ("json", "Answer")
    assert output.schema == {"type": "object", "properties": {"a": {"type": "integer"}}}
    assert output.validate('{"a": 1, "b": [null]}') == {"a": 1, "b": [None]}
    with pytest.raises(OutputError, match="- a: '1' is not of type 'integer'"):
        output.validate('{"a": "1"}')
    assert output.dump({"é": [1.5, None]}) == '{"é": [1.5, null]}'


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        (float, float("nan")),
        (object, object()),
        (JsonSchema({}), float("inf")),
        (JsonSchema({}), {1}),
        (JsonSchema({}), {"a": b""}),
    ],
    ids=label,
)
def test_what_is_not_json_is_not_dumped(spec: Any, value: object) -> None:
    with pytest.raises(OutputError):
        Output.of(spec).dump(value)


def test_a_value_of_another_type_is_not_dumped() -> None:
    with pytest.raises(OutputError, match="'x' is not of type int"):
        Output.of(int).dump("x")


class Crossed(BaseModel):
    n: int = Field(validation_alias="read", serialization_alias="written")


def test_what_cannot_be_read_back_is_not_dumped() -> None:
    with pytest.raises(OutputError, match=r"cannot be read back:\n- read: is required, and missing"):
        Output.of(Crossed).dump(Crossed.model_validate({"read": 1}))


class Cents(BaseModel):
    total: float

    @field_validator("total")
    @classmethod
    def _in_whole(cls, value: float) -> float:
        return value / 100


class Printed(BaseModel):
    due: datetime.date

    @field_serializer("due")
    def _as_printed(self, value: datetime.date) -> str:
        return value.strftime("%d/%m/%Y")


@pytest.mark.parametrize(
    ("spec", "answer", "written"),
    [
        (Cents, '{"total": 1250}', '{"total": 12.5}'),
        (Printed, '{"due": "2026-03-15"}', '{"due": "15/03/2026"}'),
        (Crossed, '{"read": 1}', '{"written": 1}'),
    ],
    ids=label,
)
def test_a_value_is_written_as_pydantic_writes_it_whatever_reading_does(spec: Any, answer: str, written: str) -> None:
    output = Output.of(spec)
    assert output.serialise(output.validate(answer)) == written
    assert Output.of(Cents).dump(Cents.model_construct(total=12.5)) == '{"total": 12.5}'


def test_sets_are_written_in_an_order_of_their_own() -> None:
    """Their own order is another in each process."""
    value = {"b": ({"yellow", "green", "blue", "red"}, 1), "a": (set[str](), 2)}
    output = Output.of(dict[str, tuple[set[str], int]])
    for write in (output.dump, output.serialise):
        assert write(value) == '{"b": [["blue", "green", "red", "yellow"], 1], "a": [[], 2]}'


def test_keys_are_dumped_in_the_order_of_the_schema() -> None:
    assert Output.of(Box).dump({"depth": 1, "width": 2}) == '{"width": 2, "depth": 1}'


@pytest.mark.parametrize("spec", [Regex(r"[A-Z]{2}\d+"), re.compile(r"[A-Z]{2}\d+")], ids=["Regex", "re"])
def test_a_pattern(spec: Regex | re.Pattern[str]) -> None:
    output = Output.of(spec)
    assert (output.kind, output.pattern, output.schema) == ("regex", r"[A-Z]{2}\d+", None)
    assert output.validate("AB1") == "AB1"
    assert output.validate(" AB12\n") == "AB12"
    assert output.dump("AB1") == "AB1"
    for text in ("ab1", "AB1x", "", "AB1 AB1"):
        with pytest.raises(OutputError, match="the whole answer must match") as caught:
            output.validate(text)
        assert repr(text) in str(caught.value)


def test_a_text_that_does_not_match_is_not_dumped() -> None:
    for value in ("ab", " AB1", 3):
        with pytest.raises(OutputError, match="does not match"):
            Output.of(Regex(r"[A-Z]{2}\d+")).dump(value)


def test_white_space_a_pattern_asks_for_is_kept() -> None:
    assert Output.of(Regex(r"\s*a\s")).validate(" a\n") == " a\n"


def test_flags_become_part_of_the_pattern() -> None:
    output = Output.of(re.compile("a.b", re.IGNORECASE | re.DOTALL))
    assert output.pattern == "(?is)a.b"
    assert output.validate("A\nB") == "A\nB"
    assert re.fullmatch(output.pattern, "A\nB")


class Thing:
    """Not known to pydantic."""


def gives_int() -> int:
    return 1


REFUSED: list[tuple[Any, str, str]] = [
    (Thing, "Thing'> cannot be an output: pydantic says: Unable to generate", "a type that JSON can carry"),
    (list[Thing], "pydantic says: Unable to generate", "a type that JSON can carry"),
    (Thing(), "Thing object at .* cannot be an output", "a type that JSON can carry"),
    (3, "3 cannot be an output", "a type that JSON can carry"),
    (gives_int, "gives_int at .* cannot be an output: it is a function", "the type it returns"),
    (len, "it is a function", "the type it returns"),
    (type, "<class 'type'> cannot be an output", "a type that JSON can carry"),
    ({"type": "object"}, "{'type': 'object'} cannot be an output: it is a dict", r"JsonSchema\("),
    ("int", "'int' cannot be an output: it is a string", "the type itself"),
    ([int], "cannot be an output", "a type that JSON can carry"),
    (Regex("("), r"'\(' cannot be an output: it is no regular expression", "correct the pattern"),
    (re.compile(b"a"), "it is no text", "a pattern as str"),
    (Annotated[str, Field(pattern="[a&&b]")], "the pattern '.*' holds '&&', which means something else", "spelled out"),
    (Annotated[str, Field(pattern="a(?=b)")], "pydantic says: .*look-around", "correct the constraint"),
    (JsonSchema({"type": "dict"}), "it is no JSON schema: type: 'dict' is not valid", "correct the schema"),
    (JsonSchema({"$ref": "#/nowhere"}), "'#/nowhere' refers to nothing in it", "correct the schema"),
    (JsonSchema({"$schema": 3}), r"\$schema: 3 is not a string", "correct the schema"),
    (JsonSchema({"pattern": r"\p{Script=Greek}"}), "not a pattern that can be checked", "correct the schema"),
]


@pytest.mark.parametrize(("spec", "why", "way_out"), REFUSED, ids=lambda case: label(case)[:40])
def test_what_cannot_be_an_output_says_why(spec: Any, why: str, way_out: str) -> None:
    with pytest.raises(OutputTypeError, match=why) as caught:
        Output.of(spec)
    assert caught.match(f"hint: .*{way_out}")
    assert "errors.pydantic.dev" not in str(caught.value)
