from __future__ import annotations

import datetime
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, field_validator

from hermes_agent import Agent, JsonSchema, Reasoning, Regex, Retry, Tool
from hermes_agent.errors import ConfigurationError, ModelError
from hermes_agent.formats import TurnGrammar, dialect
from hermes_agent.formats.schema import prepare
from hermes_agent.formats.wire import dump_json
from hermes_agent.json_schema import compile_schema
from hermes_agent.messages import AssistantMessage, ToolCall, ToolMessage, UserMessage
from hermes_agent.models.base import Model, Request
from hermes_agent.output import Output
from hermes_agent.testing import FillingModel
from hermes_agent.testing.suggestions import narrowed, suggestions
from hermes_agent.testing.texts import text_matching
from hermes_agent.testing.values import UnfillableError, proposals
from hermes_agent.testing.whim import Whim

SEEDS = [None, 0, 1, 2]


def weather(city: str, unit: Literal["celsius", "fahrenheit"] = "celsius") -> str:
    """The weather.

    Args:
        city: The city.
        unit: The unit.
    """
    return f"21 {unit} in {city}"


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Report(BaseModel):
    name: str = Field(min_length=3, max_length=5)
    address: str = Field(pattern=r"^\d{1,3}(\.\d{1,3}){3}$")
    day: datetime.date
    share: float = Field(gt=0, lt=1)
    kind: Literal["a", "b"]
    tags: set[str] = Field(min_length=2)
    nested: list[Report] = []


@dataclass
class Tree:
    left: Tree | None
    right: Tree | None


def written(model: Model, request: Request) -> str:
    async def go() -> str:
        async with aclosing(model.generate(request)) as chunks:
            return "".join([chunk.text async for chunk in chunks])

    return anyio.run(go)


def request(grammar: TurnGrammar, **fields: Any) -> Request:
    fields = {"messages": [UserMessage("Hi")], "tools": grammar.tools, "output": grammar.output, **fields}
    return Request(grammar=grammar, **fields)


def calls(messages: Sequence[object]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(c.name, c.arguments) for m in messages if isinstance(m, AssistantMessage) for c in m.tool_calls]


# The model


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_each_tool_is_called_once_and_then_there_is_an_answer(backend: str) -> None:
    async def go() -> None:
        result = await Agent(FillingModel(), tools=[weather, add], output=Report).run("Hi")
        assert calls(result.messages) == [("weather", {"city": "a"}), ("add", {"a": 0, "b": 0})]
        assert [m.content for m in result.messages if isinstance(m, ToolMessage)] == ["21 celsius in a", "0"]
        assert result.output.share == 0.1
        assert result.usage.steps == 2
        assert result.guarantee == "token"

    anyio.run(go, backend=backend)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("reasoning", ["off", "on", "auto"])
@pytest.mark.parametrize(
    "output", [str, int, Report, Tree, list[Report], Regex(r"[A-Z]{2}-\d{4}"), Regex("(?i)yes|no")]
)
def test_every_turn_is_one_of_its_grammar(seed: int | None, reasoning: Any, output: Any) -> None:
    agent = Agent[None, Any](
        FillingModel(seed=seed, chunk_size=3),
        tools=[weather, add],
        output=output,
        reasoning=reasoning,
        constrain="strict",
    )
    result = agent.run_sync("Hi")
    assert {name for name, _ in calls(result.messages)} == {"weather", "add"}
    assert (result.reasoning is not None) == (reasoning == "on")


def test_the_same_seed_writes_the_same_and_another_one_something_else() -> None:
    def run(seed: int | None) -> object:
        result = Agent(FillingModel(seed=seed), tools=[weather, add], output=Report).run_sync("Hi")
        return calls(result.messages), result.output

    assert all(run(seed) == run(seed) for seed in SEEDS)
    assert len({str(run(seed)) for seed in SEEDS}) == len(SEEDS)


@pytest.mark.parametrize(("parallel", "steps"), [(True, 2), (2, 2), (1, 3), (False, 3)])
def test_it_keeps_to_the_number_of_calls_a_turn(parallel: bool | int, steps: int) -> None:
    model = FillingModel()
    result = Agent(model, tools=[weather, add], parallel=parallel).run_sync("Hi")
    assert len(calls(result.messages)) == 2
    assert len(model.requests) == steps


def test_tools_can_be_chosen() -> None:
    agent = Agent(FillingModel(call_tools=["add"]), tools=[weather, add])
    assert [name for name, _ in calls(agent.run_sync("Hi").messages)] == ["add"]
    with agent.override(model=FillingModel(call_tools="none")):
        assert not calls(agent.run_sync("Hi").messages)
    with agent.override(model=FillingModel(call_tools=["subtract"])), pytest.raises(ModelError, match="subtract"):
        agent.run_sync("Hi")
    with pytest.raises(ConfigurationError, match="neither"):
        FillingModel(call_tools="add")  # a slip that the types let pass: a str is a sequence of str


@pytest.mark.parametrize(("choice", "expected"), [("required", "weather"), ("add", "add"), ("none", None)])
@pytest.mark.parametrize("constrain", ["auto", "off"])
def test_a_tool_choice_overrules_it(choice: str, expected: str | None, constrain: Any) -> None:
    agent = Agent(FillingModel(call_tools="none"), tools=[weather, add], tool_choice=choice, constrain=constrain)
    assert [name for name, _ in calls(agent.run_sync("Hi").messages)] == ([expected] if expected else [])


def test_a_turn_that_must_call_again_calls_again() -> None:
    grammar = TurnGrammar([add], tool_choice="required")
    before = [UserMessage("Hi"), AssistantMessage(tool_calls=(ToolCall("add", {"a": 0, "b": 0}),)), ToolMessage("0")]
    assert '"add"' in written(FillingModel(), request(grammar, messages=before))


def test_what_was_called_for_an_earlier_question_is_called_again() -> None:
    agent = Agent(FillingModel(), tools=[add])
    first = agent.run_sync("Hi")
    assert len(calls(agent.run_sync("Again", history=first.messages).messages)) == 2


def test_without_a_grammar_it_keeps_to_the_request() -> None:
    asked = Request(
        [UserMessage("Hi")], tools=[Tool.of(weather), Tool.of(add)], reasoning=Reasoning("on"), parallel=False
    )
    text = written(FillingModel(), asked)
    assert TurnGrammar([weather, add], reasoning="on", parallel=False).accepts(text)
    assert text.count("<tool_call>") == 1


@pytest.mark.parametrize("constrained", [True, False])
def test_a_turn_is_taken_up_where_it_stands(constrained: bool) -> None:
    whole = TurnGrammar([add], bool, reasoning="on")
    for prefix, rest in (("<think>\nHm", whole.in_thought()), ("<think>\nHm\n</think>\n", whole.after_thought())):
        asked = request(rest, prefix=prefix, reasoning=Reasoning("on"))
        if not constrained:
            asked = Request(asked.messages, asked.tools, asked.output, prefix=prefix, reasoning=Reasoning("on"))
        text = written(FillingModel(), asked)
        assert rest.accepts(text)
        assert whole.accepts(prefix + text)


def test_tags_are_those_of_the_dialect() -> None:
    model = FillingModel(dialect=dialect("chatml", think_open="<reason>", think_close="</reason>"))
    result = Agent(model, output=bool, reasoning="on").run_sync("Hi")
    assert result.reasoning
    assert result.output is True


def test_an_answer_that_a_validator_refuses_is_not_written_again() -> None:
    seen: list[int] = []

    def picky(value: int) -> int:
        seen.append(value)
        if len(seen) < 3:
            raise Retry("another one")
        return value

    result = Agent(FillingModel(), tools=[add], output=int, validators=[picky]).run_sync("Hi")
    assert result.output == seen[-1]
    assert len(set(seen)) == 3
    assert len(calls(result.messages)) == 1


def test_a_refused_answer_without_another_one_is_told() -> None:
    def never(value: object) -> object:
        raise Retry("no")

    with pytest.raises(ModelError, match="the agent refused it, and no other was found"):
        Agent(FillingModel(), output=Literal["only"], validators=[never]).run_sync("Hi")


def test_what_only_the_type_refuses_is_searched_for() -> None:
    class Even(BaseModel):
        number: int

        @field_validator("number")
        @classmethod
        def is_even(cls, value: int) -> int:
            if value % 7 or not value:
                raise ValueError("not a multiple of seven")
            return value

    assert Agent(FillingModel(), output=Even).run_sync("Hi").output.number % 7 == 0

    def take(even: Even) -> int:
        """Take it."""
        return even.number

    result = Agent(FillingModel(), tools=[take]).run_sync("Hi")
    assert calls(result.messages)[0][1]["even"]["number"] % 7 == 0


def test_values_can_be_given() -> None:
    model = FillingModel(
        arguments={"weather": {"unit": "fahrenheit", "city": "Paris"}}, answer=Tree(None, Tree(None, None))
    )
    result = Agent(model, tools=[weather, add], output=Tree).run_sync("Hi")
    assert calls(result.messages)[0] == ("weather", {"city": "Paris", "unit": "fahrenheit"})
    assert result.output == Tree(None, Tree(None, None))
    assert Agent(FillingModel(answer="Hello.")).run_sync("Hi").output == "Hello."


def test_given_values_that_do_not_fit_are_told() -> None:
    with pytest.raises(ModelError, match="unit"):
        Agent(FillingModel(arguments={"weather": {"unit": "kelvin"}}), tools=[weather]).run_sync("Hi")
    with pytest.raises(ModelError, match="answer of type int") as caught:
        Agent(FillingModel(answer="no number"), output=int).run_sync("Hi")
    assert "'no number' is not of type int: it must be of type int" in caught.value.message
    assert "ydantic" not in str(caught.value)


def test_what_cannot_be_filled_is_named() -> None:
    never = {
        "type": "object",
        "properties": {
            "deep": {"type": "array", "minItems": 1, "items": {"type": "string", "pattern": "^(?=.*a)(?=.*b)[c]+$"}}
        },
        "required": ["deep"],
    }
    with pytest.raises(ModelError, match=r"arguments of tool 'impossible': .*deep") as caught:
        Agent(FillingModel(), tools=[Tool.from_schema(name="impossible", parameters=never)]).run_sync("Hi")
    assert "ScriptedModel" in caught.value.hint


@pytest.mark.parametrize("seed", SEEDS)
def test_arguments_are_an_object_where_the_schema_lets_them_be_more(seed: int | None) -> None:
    """In draft 4 nothing counts beside ``$ref``, the type least of all."""
    schema: dict[str, object] = {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "$ref": "#/definitions/a",
        "definitions": {"a": {}},
    }
    tool = Tool.from_schema(name="take", parameters=schema, call=lambda: "taken")
    model = FillingModel(seed=seed, arguments={"take": {}})
    assert '{"name": "take", "arguments": {' in written(model, request(TurnGrammar([tool])))


# The values


SCHEMAS: dict[str, dict[str, Any]] = {
    "const": {"const": {"a": [1, None]}},
    "enum": {"enum": [[1], "x"]},
    "bounds": {"type": "number", "exclusiveMinimum": 0.1, "maximum": 0.25},
    "open bounds": {"type": "integer", "exclusiveMinimum": -7, "exclusiveMaximum": -5},
    "old bounds": {"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 3, "exclusiveMinimum": True,
        "type": "integer"},
    "multiples": {"type": "number", "multipleOf": 0.05, "minimum": 0.12},
    "two multiples": {"allOf": [{"multipleOf": 6}, {"multipleOf": 4}], "type": "integer", "minimum": 1},
    "lengths": {"type": "string", "minLength": 12, "maxLength": 12},
    "pattern": {"type": "string", "pattern": "^[A-Z]{3}-\\d+$"},
    "pattern anywhere": {"type": "string", "pattern": "b+c"},
    "pattern and length": {"type": "string", "pattern": "^(ab)+$", "minLength": 5},
    "lookahead": {"type": "string", "pattern": "^(?=.*[A-Z])(?=.*\\d)(?!.*x)[A-Za-z\\d]{8,}$"},
    "lookahead within": {"type": "string", "pattern": "^a(?!b)[ab]c$"},
    "pattern and format": {"type": "string", "format": "date", "pattern": "^20[3-9]"},
    **{name: {"type": "string", "format": name} for name in ("date", "time", "date-time", "duration", "email",
        "hostname", "ipv4", "ipv6", "uuid", "uri", "uri-reference", "json-pointer", "regex")},
    "excluded": {"type": "string", "not": {"enum": ["a", "b"]}},
    "unique": {"type": "array", "minItems": 3, "uniqueItems": True, "items": {"enum": [1, 2, 3]}},
    "contains": {"type": "array", "contains": {"const": "x"}, "minContains": 2},
    "old contains": {"$schema": "http://json-schema.org/draft-07/schema#", "type": "array", "contains": {"const": 5},
        "items": {"type": "integer"}},
    "prefix": {"type": "array", "prefixItems": [{"const": 1}, {"type": "string"}], "items": False, "minItems": 2},
    "patterns": {"type": "object", "patternProperties": {"^x-": {"type": "integer"}}, "additionalProperties": False,
        "minProperties": 2},
    "additional": {"type": "object", "additionalProperties": {"type": "boolean"}, "minProperties": 3},
    "dependent": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"],
        "dependentRequired": {"a": ["b"]}},
    "if": {"type": "object", "properties": {"kind": {"enum": ["a", "b"]}}, "required": ["kind"],
        "if": {"properties": {"kind": {"const": "a"}}}, "then": {"required": ["x"]}, "else": {"required": ["y"]}},
    "one of": {"oneOf": [{"type": "integer"}, {"type": "number", "minimum": 2}]},
    "list": {"$defs": {"node": {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"},
        {"type": "null"}]}}, "required": ["next"], "additionalProperties": False}}, "$ref": "#/$defs/node"},
    "forest": {"type": "object", "properties": {"trees": {"type": "array", "minItems": 1, "items": {"anyOf": [
        {"$ref": "#"}, {"type": "integer"}]}}}, "required": ["trees"]},
    "untyped": {"properties": {"a": {"type": "integer"}}, "required": ["a"]},
}  # fmt: skip


def first_valid(schema: dict[str, Any], seed: str | None) -> Any:
    problems = compile_schema(schema)
    grammar = TurnGrammar((), JsonSchema(schema))
    for value in itertools.islice(proposals(schema, seed), 60):
        if not isinstance(value, UnfillableError) and not problems(value) and grammar.accepts(dump_json(value)):
            return value
    raise AssertionError(f"nothing was found for {schema!r}")


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_value_is_found_for(name: str) -> None:
    assert first_valid(SCHEMAS[name], None) == first_valid(SCHEMAS[name], None)
    for seed in "abc":
        first_valid(SCHEMAS[name], seed)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "a"),
        ({"type": ["null", "string"]}, "a"),
        ({"type": "object", "properties": {"a": {"type": "integer"}, "b": {}}, "required": ["a"]}, {"a": 0}),
        ({"type": "string", "default": "x", "examples": [3, "y"]}, "y"),
        ({"type": "integer", "minimum": 3, "default": 1}, 3),
        ({"type": "array", "items": {"type": "string"}}, []),
        (SCHEMAS["list"], {"next": {"next": None}}),  # the first possibility once, and then the way out
        (SCHEMAS["untyped"], {"a": 0}),
        (SCHEMAS["bounds"], 0.2),
        (SCHEMAS["pattern"], "AAA-0"),
    ],
)
def test_the_plainest_value_comes_first(schema: dict[str, Any], value: Any) -> None:
    assert next(proposals(schema, None)) == value


def test_a_seed_writes_what_is_optional_too() -> None:
    schema = {
        "type": "object",
        "properties": {name: {"type": "integer"} for name in "abc"},
        "additionalProperties": False,
    }
    found = {tuple(first_valid(schema, str(seed))) for seed in range(30)}
    assert {(), ("a", "b", "c")} <= found


def test_suggestions_are_found_behind_references() -> None:
    schema = {"properties": {"a": {"items": {"$ref": "#/$defs/b"}}}, "$defs": {"b": {"examples": [1]}}}
    assert suggestions(schema) == {("a", "*"): [1]}


def test_data_that_looks_like_a_schema_is_not_narrowed() -> None:
    schema = {"const": {"contains": {"type": "string"}}, "properties": {"contains": {"type": "string"}}}
    assert narrowed(schema) == schema


@given(st.from_regex(r"[a-c(|)?*+\[\]^{},0-9.]{1,12}", fullmatch=True), st.integers(0, 3))
@settings(max_examples=150, deadline=None)
def test_texts_match_their_pattern(pattern: str, seed: int) -> None:
    try:
        Output.of(Regex(pattern))
    except ConfigurationError:
        return
    text = text_matching(pattern, Whim(str(seed)))
    assert text is None or re.fullmatch(pattern, text)


LEAVES: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {"type": "string", "maxLength": 3},
        {"type": "integer", "minimum": -3, "multipleOf": 2},
        {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        {"enum": ["x", 1, None]},
        {"type": "string", "format": "date"},
        {"type": "string", "pattern": "^[a-z]+\\d?$"},
        {},
    ]
)


Schema = dict[str, Any]


def _object(properties: dict[str, Schema], required: set[str], least: int) -> Schema:
    return {"type": "object", "properties": properties, "required": sorted(required), "minProperties": least}


def _array(items: Schema, least: int) -> Schema:
    return {"type": "array", "items": items, "minItems": least}


def _any_of(options: list[Schema]) -> Schema:
    return {"anyOf": options}


def _around(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    names = st.sampled_from(["a", "b", "c"])
    few = st.integers(0, 3)
    return st.one_of(
        st.builds(_object, st.dictionaries(names, inner, max_size=3), st.sets(names, max_size=2), few),
        st.builds(_array, inner, few),
        st.builds(_any_of, st.lists(inner, min_size=1, max_size=3)),
    )


@given(st.recursive(LEAVES, _around, max_leaves=6), st.none() | st.integers(0, 99).map(str))
@settings(max_examples=100, deadline=None)
def test_the_first_value_already_has_what_a_grammar_enforces(schema: dict[str, Any], seed: str | None) -> None:
    value = next(proposals(schema, seed))
    assert not isinstance(value, UnfillableError)
    assert not compile_schema(schema)(value)
    assert json.loads(dump_json(value)) == value
    assert prepare(schema).arrange(value) == value
