from __future__ import annotations

import datetime
import decimal
import enum
import functools
import math
import pathlib
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypedDict

import pytest
import typing_extensions
from pydantic import BaseModel, Field

from hermes_agent.context import RunContext
from hermes_agent.errors import ToolDefinitionError
from hermes_agent.tool import Tool, tool
from tests.naming import label

if TYPE_CHECKING:
    from somewhere import Database  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports]  # not at run time


class Unit(enum.Enum):
    CELSIUS = "celsius"
    KELVIN = "kelvin"


class Tree(BaseModel):
    """A node."""

    label: str
    children: list[Tree] = []


@dataclass
class Point:
    x: int
    y: int = 0


class Box(typing_extensions.TypedDict):
    width: int
    height: typing_extensions.NotRequired[int]


class Pair(NamedTuple):
    left: int
    right: str


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


def described(city: str, unit: Literal["celsius", "fahrenheit"] = "celsius", *, days: int = 1) -> str:
    """Current weather.

    Args:
        city: City name, such as "Paris".
        unit: Unit of the temperature.
    """
    return f"{city} {unit} {days}"


def parameters_of(function: Callable[..., object]) -> dict[str, Any]:
    return Tool.of(function).parameters


def test_a_function_as_a_whole() -> None:
    made = Tool.of(described)
    assert (made.name, made.description) == ("described", "Current weather.")
    assert made.parameters == {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": 'City name, such as "Paris".'},
            "unit": {
                "type": "string",
                "enum": ["celsius", "fahrenheit"],
                "default": "celsius",
                "description": "Unit of the temperature.",
            },
            "days": {"type": "integer", "default": 1},
        },
        "required": ["city"],
        "additionalProperties": False,
    }


def test_no_parameters() -> None:
    def now() -> str:
        return "now"

    assert parameters_of(now) == {"type": "object", "properties": {}, "additionalProperties": False}
    assert Tool.of(now).validate({}) == {}


TYPES: list[tuple[Any, dict[str, Any], object, object]] = [
    (int, {"type": "integer"}, "5", 5),
    (float, {"type": "number"}, 5, 5.0),
    (bool, {"type": "boolean"}, True, True),
    (str | None, {"anyOf": [{"type": "string"}, {"type": "null"}]}, None, None),
    (Literal["a", 1], {"enum": ["a", 1]}, 1, 1),
    (Unit, {"enum": ["celsius", "kelvin"], "type": "string"}, "kelvin", Unit.KELVIN),
    (list[int], {"type": "array", "items": {"type": "integer"}}, [1], [1]),
    (set[int], {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, [1, 1], {1}),
    (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}, {"a": 1}, {"a": 1}),
    (dict[str, Any], {"type": "object", "additionalProperties": True}, {"a": [1]}, {"a": [1]}),
    (Annotated[int, Field(ge=1, lt=9)], {"type": "integer", "minimum": 1, "exclusiveMaximum": 9}, 3, 3),
    (Annotated[str, Field(pattern="^a")], {"type": "string", "pattern": "^a"}, "ab", "ab"),
    (datetime.date, {"type": "string", "format": "date"}, "2024-02-29", datetime.date(2024, 2, 29)),
    (uuid.UUID, {"type": "string", "format": "uuid"}, str(uuid.UUID(int=7)), uuid.UUID(int=7)),
    (pathlib.Path, {"type": "string", "format": "path"}, "/a", pathlib.Path("/a")),
    (object, {}, {"a": 1}, {"a": 1}),
]


@pytest.mark.parametrize(("kind", "schema", "given", "got"), TYPES, ids=[str(case[0]) for case in TYPES])
def test_types(kind: Any, schema: dict[str, Any], given: object, got: object) -> None:
    def take(it: object) -> object:
        return it

    take.__annotations__["it"] = kind
    made = Tool.of(take)
    assert resolved(made.parameters, "it") == schema
    assert made.validate({"it": given}) == {"it": got}


def resolved(parameters: dict[str, Any], name: str) -> dict[str, Any]:
    part: dict[str, Any] = parameters["properties"][name]
    return parameters["$defs"][part["$ref"].removeprefix("#/$defs/")] if "$ref" in part else part


def test_times_and_decimals() -> None:
    def take(at: datetime.datetime, time: datetime.time, span: datetime.timedelta, price: decimal.Decimal) -> None: ...

    arguments = {"at": "2024-01-01T00:00:00", "time": "12:00:00", "span": "PT1H5S", "price": "1.10"}
    assert Tool.of(take).validate(arguments) == {
        "at": datetime.datetime(2024, 1, 1),  # what was written has no offset
        "time": datetime.time(12),
        "span": datetime.timedelta(hours=1, seconds=5),
        "price": decimal.Decimal("1.10"),
    }


def test_nested_types_are_closed_and_read() -> None:
    def take(
        tree: Tree, point: Point, box: Box, pair: Pair, pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    ) -> None:
        """Take.

        Args:
            tree: The root.
        """

    made = Tool.of(take)
    definitions = made.parameters["$defs"]
    assert {
        name: part["additionalProperties"] for name, part in definitions.items() if part["type"] == "object"
    } == dict.fromkeys(["Tree", "Point", "Box", "Cat", "Dog"], False)
    assert made.parameters["properties"]["tree"] == {"$ref": "#/$defs/Tree", "description": "The root."}
    assert "title" not in repr(made.parameters)
    assert made.validate(
        {
            "tree": {"label": "a", "children": [{"label": "b"}]},
            "point": {"x": 1},
            "box": {"width": 2},
            "pair": [1, "r"],
            "pet": {"kind": "dog"},
        }
    ) == {
        "tree": Tree(label="a", children=[Tree(label="b")]),
        "point": Point(1),
        "box": {"width": 2},
        "pair": Pair(1, "r"),
        "pet": Dog(kind="dog"),
    }


def test_a_parameter_named_title_stays() -> None:
    def make(title: str, default: str, properties: str) -> None: ...

    assert list(parameters_of(make)["properties"]) == ["title", "default", "properties"]


def test_field_beats_docstring_and_aliases_are_the_wire_names() -> None:
    def take(
        from_: Annotated[str, Field(alias="from", description="Said by Field.")],
        n: int = Field(4, ge=2),
        made: list[int] = Field(default_factory=list),  # noqa: B008  # as pydantic's users write it
    ) -> None:
        """Take.

        Args:
            from_: Said by the docstring.
            n: How many.
        """

    made = Tool.of(take)
    assert made.parameters["properties"]["from"]["description"] == "Said by Field."
    assert made.parameters["properties"]["n"] == {
        "type": "integer",
        "minimum": 2,
        "default": 4,
        "description": "How many.",
    }
    assert made.parameters["required"] == ["from"]
    assert made.validate({"from": "x"}) == {"from_": "x", "n": 4, "made": []}


def test_defaults_are_the_functions_own() -> None:
    marker = object()

    def take(
        a: int = 1,
        b: Unit = Unit.KELVIN,
        c: float = math.inf,
        d: object = marker,
        e: int | None = None,
        f: datetime.date = datetime.date(2024, 1, 1),
    ) -> None: ...

    made = Tool.of(take)
    shown = {name: part.get("default", "none shown") for name, part in made.parameters["properties"].items()}
    assert shown == {"a": 1, "b": "kelvin", "c": "none shown", "d": "none shown", "e": "none shown", "f": "2024-01-01"}
    assert "required" not in made.parameters
    assert made.validate({}) == {}


def test_awkward_parameter_names() -> None:
    def take(_private: int, model_config: int, self_: int, json: int, copy: int) -> None: ...

    arguments = {"_private": 1, "model_config": 2, "self_": 3, "json": 4, "copy": 5}
    assert Tool.of(take).validate(arguments) == arguments


def test_names_of_the_defining_scope_are_found() -> None:
    class Local(BaseModel):
        n: int

    def take(it: Local, more: list[Local]) -> None: ...

    assert Tool.of(take).validate({"it": {"n": 1}, "more": []}) == {"it": Local(n=1), "more": []}


def test_names_of_a_scope_that_has_ended_are_found_in_the_closure() -> None:
    def build() -> Callable[..., object]:
        class Local(BaseModel):
            n: int

        def take(it: Local) -> Local:
            return Local(n=it.n)

        return take

    assert set(parameters_of(build())["$defs"]) == {"Local"}


def test_the_context_is_not_shown() -> None:
    def first(ctx: RunContext[int], n: int) -> None: ...
    def bare(ctx: RunContext, n: int) -> None: ...
    def annotated(ctx: Annotated[RunContext[int], "the run"], n: int) -> None: ...
    def unresolved(ctx: RunContext[Database], n: int) -> None: ...  # pyright: ignore[reportUnknownParameterType]

    functions: list[Any] = [first, bare, annotated, unresolved]
    for function in functions:
        made = Tool.of(function)
        assert made.takes_context
        assert list(made.parameters["properties"]) == ["n"]
    assert not Tool.of(described).takes_context


class Station:
    """A weather station."""

    def __init__(self, name: str) -> None:
        self.name = name

    def measure(self, unit: str = "K") -> str:
        """Measure.

        Args:
            unit: The unit.
        """
        return f"{self.name} {unit}"

    def __call__(self, hour: int) -> str:
        """Called.

        Args:
            hour: The hour.
        """
        return f"{self.name} {hour}"

    @classmethod
    def build(cls, name: str) -> str:
        return cls(name).name

    @staticmethod
    def add(a: int, b: int) -> int:
        return a + b

    @tool
    @staticmethod
    def double(a: int) -> int:
        return 2 * a


class Better(Station):
    def measure(self, unit: str = "C") -> str:
        return unit


def test_methods_and_callable_objects() -> None:
    station = Station("S")
    assert (Tool.of(station.measure).name, Tool.of(station.measure).description) == ("measure", "Measure.")
    assert Tool.of(Better("B").measure).parameters["properties"]["unit"]["description"] == "The unit."
    assert parameters_of(Station.build)["required"] == ["name"]
    assert parameters_of(Station.add)["required"] == ["a", "b"]
    assert Station.double.name == "double"
    made = Tool.of(station)
    assert (made.name, made.description) == ("Station", "A weather station.")
    assert made.parameters["properties"]["hour"] == {"type": "integer", "description": "The hour."}


def test_what_a_partial_binds_is_not_shown() -> None:
    made = Tool.of(functools.partial(described, unit="fahrenheit"))
    assert made.name == "described"
    assert list(made.parameters["properties"]) == ["city", "days"]
    assert list(parameters_of(functools.partial(described, "Paris"))["properties"]) == ["unit", "days"]


def test_wrapped_and_cached_functions_keep_their_face() -> None:
    @functools.wraps(described)
    def wrapper(*args: Any, **kwargs: Any) -> str:
        return described(*args, **kwargs)

    assert parameters_of(wrapper) == parameters_of(described)
    assert parameters_of(functools.lru_cache(described)) == parameters_of(described)


def positional(a: int, /) -> None: ...
def many(*numbers: int) -> None: ...
def named(**options: int) -> None: ...
def unannotated(a, b: int) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001  # pyright: ignore  # what is tested
def late(n: int, ctx: RunContext[None]) -> None: ...
def unreadable(it: Callable[[], None]) -> None: ...
def arbitrary(it: Station) -> None: ...
def missing(it: Database) -> None: ...  # pyright: ignore[reportUnknownParameterType]  # not at run time
def broken(it: "1 +") -> None: ...  # type: ignore[valid-type]  # noqa: F722  # pyright: ignore  # what is tested
def gone(it: enum.Nothing) -> None: ...  # type: ignore[name-defined]  # pyright: ignore  # what is tested
def größe(it: int) -> None: ...  # what is tested


def generate() -> Iterator[int]:
    yield 1


async def agenerate() -> AsyncIterator[int]:
    yield 1


REFUSED: list[tuple[Any, str, str]] = [
    (positional, r"'positional' cannot be a tool: it takes 'a' by position only", "drop the '/'"),
    (many, r"takes any number of arguments \(\*numbers\)", "one list parameter 'numbers'"),
    (named, r"takes arguments of any name \(\*\*options\)", "one dict parameter 'options'"),
    (unannotated, "does not say what type its parameter 'a' has", "annotate it, such as a: str"),
    (late, "takes the context second or later, as 'ctx'", "put that parameter first"),
    (unreadable, "has a parameter 'it' that pydantic cannot read from JSON", "a type that JSON can carry"),
    (arbitrary, "parameter 'it' .* pydantic-core schema for <class '.*Station'>\n", "a type that JSON can carry"),
    (missing, "annotates 'it' as 'Database', where name 'Database' is not defined", "outside of TYPE_CHECKING"),
    (broken, "annotates 'it' as ", "give it a type"),
    (gone, "annotates 'it' as 'enum.Nothing': module 'enum' has no attribute", "give it a type"),
    (größe, "'größe' cannot be the name of a tool", r"tool\(name="),
    (generate, "is a generator function", "return a list"),
    (agenerate, "is a generator function", "return a list"),
    (lambda: 1, "is a lambda", "write it as a def"),
    (Station, "'Station' cannot be a tool: it is a class", "write a function"),
    (Station.measure, "parameter 'self'", "the bound method"),
    (len, "takes 'obj' by position only", "drop the '/'"),
    (min, "has no signature that can be read", "wrap it in a function"),
    (3, "is not callable: 3", "give a function"),
    ("name", "is not callable: 'name'", "give a function"),
]


@pytest.mark.parametrize(("bad", "why", "way_out"), REFUSED, ids=label)
def test_what_cannot_be_a_tool_says_why(bad: Any, why: str, way_out: str) -> None:
    with pytest.raises(ToolDefinitionError, match=why) as caught:
        Tool.of(bad)
    assert caught.match(f"hint: .*{way_out}")
    assert "errors.pydantic.dev" not in str(caught.value)


def test_a_typing_typed_dict_follows_pydantic() -> None:
    class Old(TypedDict):
        a: int

    def take(it: Old) -> None: ...

    try:
        assert Tool.of(take).validate({"it": {"a": 1}}) == {"it": {"a": 1}}
    except ToolDefinitionError as error:  # pydantic wants typing_extensions' below Python 3.12, and says so
        assert "typing_extensions" in str(error)  # noqa: PT017
