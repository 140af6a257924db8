"""One JSON schema or one regular expression for the turns that can be said so."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import BaseModel

from hermes_agent.errors import GrammarError
from hermes_agent.formats.grammar import Form, TurnGrammar
from hermes_agent.formats.parser import parse
from hermes_agent.formats.plain_forms import wire_text
from hermes_agent.formats.repair import ALL_REPAIRS
from hermes_agent.formats.schema import Bounds, in_schema_order
from hermes_agent.formats.wire import call_json, dump_json
from hermes_agent.json_schema import compile_schema
from hermes_agent.output import JsonSchema, Output, Regex
from hermes_agent.tool import Tool
from tests.naming import label
from tests.test_grammar_laws import Case, cases, law, object_cases
from tests.xgrammar_engine import xgrammar


class Tree(BaseModel):
    value: int
    children: list[Tree] = []


def plant(tree: Tree, where: str = "") -> str:
    """Plant.

    Args:
        tree: What.
        where: Where.
    """
    return where


def now() -> str:
    """The time."""
    return ""


TREE = {"value": 1, "children": [{"value": 2}]}


# JSON schema.


TURNS: list[tuple[dict[str, Any], list[Any], list[Any]]] = [
    ({"output": Tree}, [TREE], [{}, {"name": "now", "arguments": {}}]),
    ({"output": bool, "place": "after"}, [True], [1]),
    (
        {"tools": (plant,), "tool_choice": "required"},
        [{"name": "plant", "arguments": {"tree": TREE}}],
        [{"name": "now", "arguments": {}}, {"name": "plant", "arguments": {"tree": {"value": ""}}}, TREE],
    ),
    (
        {"tools": (plant, now), "output": Tree},
        [TREE, {"name": "now", "arguments": {}}, {"name": "plant", "arguments": {"tree": TREE, "where": "x"}}],
        [{"name": "now", "arguments": {"x": 1}}, {"name": "plant", "arguments": {"tree": {"children": []}}}, {}],
    ),
    ({"tools": (plant, now), "tool_choice": "now"}, [{"name": "now", "arguments": {}}], [{"name": "plant"}]),
]


@pytest.mark.parametrize(("settings", "valid", "invalid"), TURNS, ids=label)
def test_the_schema_of_a_turn(settings: dict[str, Any], valid: list[Any], invalid: list[Any]) -> None:
    place = settings.pop("place", "")
    grammar = TurnGrammar(**settings)
    schema = (grammar.after_thought() if place else grammar).json_schema()
    assert schema is not None
    assert grammar.cannot_say("json_schema") == ""
    problems = compile_schema(schema)
    assert [value for value in valid if problems(value)] == []
    assert [value for value in invalid if not problems(value)] == []
    xgrammar.Grammar.from_json_schema(json.dumps(schema))


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({}, "in words"),
        ({"tools": (now,)}, "in words"),
        ({"output": Regex("a")}, "pattern"),
        ({"output": bool, "reasoning": "auto"}, "thought"),
        ({"tools": (now,), "output": JsonSchema({})}, "taken for a call"),
        ({"tools": (now,), "output": JsonSchema({"type": "object"})}, "taken for a call"),
        (
            {"tools": (now,), "output": JsonSchema({"type": "object", "propertyNames": {"pattern": "^[a-z]"}})},
            "for a call",
        ),
        ({"tools": (now,), "output": JsonSchema({"$id": "x", "type": "integer"})}, "'$id'"),
    ],
    ids=label,
)
def test_what_a_schema_cannot_say(settings: dict[str, Any], why: str) -> None:
    grammar = TurnGrammar(**settings)
    assert grammar.json_schema() is None
    assert why in grammar.cannot_say("json_schema")


@law
@given(object_cases, st.data())
def test_what_validates_as_arguments_does_as_a_call_and_is_read(case: Case, data: st.DataObject) -> None:
    tool = Tool.from_schema(name="f", parameters=case[0])
    value = data.draw(case[1])
    try:
        schema = TurnGrammar([tool, now], tool_choice="required").json_schema()
    except GrammarError:  # nobody can call it
        return
    assert schema is not None
    assert bool(compile_schema(schema)({"name": "f", "arguments": value})) == bool(compile_schema(case[0])(value))
    assume(not compile_schema(case[0])(value))
    for text in (call_json("f", value), wire_text(call_json("f", value), ["f"])):
        turn = parse(text, tools=[tool, now], repairs=ALL_REPAIRS)
        assert [(call.name, call.arguments) for call in turn.tool_calls] == [("f", value)]
        assert not turn.faults


@law
@given(cases, st.data())
def test_an_answer_beside_calls_means_what_it_means_alone(case: Case, data: st.DataObject) -> None:
    value = data.draw(case[1])
    try:
        grammar = TurnGrammar([plant], JsonSchema(case[0]))
    except GrammarError:  # nothing is such an answer
        return
    if (schema := grammar.json_schema()) is None:
        assert "taken for a call" in grammar.cannot_say("json_schema")
        return
    problems = compile_schema(schema)
    assert bool(problems(value)) == bool(compile_schema(case[0])(value))
    assert not problems({"name": "plant", "arguments": {"tree": TREE}})
    assert problems({"name": "plant", "arguments": {}})


def test_wire_text_makes_calls_of_calls_only() -> None:
    call = '{"name": "now", "arguments": {}}'
    assert wire_text(call, ["now"]) == f"<tool_call>\n{call}\n</tool_call>"
    for other in ("", "now", "[1", "[]", '{"name": "later", "arguments": {}}', '{"name": "now", "arguments": []}'):
        assert wire_text(other, ["now"]) == other


# Regular expressions.


@pytest.mark.parametrize(
    ("output", "matching", "others"),
    [
        (Regex(r"\d{2}/[a-z]+|(?s:.)x"), ["12/ab", "\nx", "٣٣/a"], ["1/a", "x"]),
        (bool, ["true", "false"], ["True", "", "truefalse"]),
        (Literal["yes", "a.b", 1], ['"yes"', '"a.b"', "1"], ['"axb"', "yes"]),
        (int, ["0", "-1", "999"], ["00", "-0", "1.5", "", "1e5", "9" * 30]),
        (float, ["0", "-1.5", "0.25"], [".5", "1.", "-0", "1e5"]),
        (JsonSchema({"type": "integer", "minimum": -3, "maximum": 120}), ["-3", "0", "120"], ["-4", "121", "12.0"]),
        (
            JsonSchema({"type": "number", "multipleOf": 5, "minimum": 0, "maximum": 500}),
            ["0", "5", "45.0"],
            ["8", "-5", "505"],
        ),
    ],
    ids=label,
)
def test_the_pattern_of_a_turn(output: Any, matching: list[str], others: list[str]) -> None:
    grammar = TurnGrammar((), output)
    pattern = grammar.regex()
    assert pattern is not None
    assert grammar.cannot_say("regex") == ""
    compiled = re.compile(pattern)
    assert [text for text in matching if not compiled.fullmatch(text)] == []
    assert [text for text in others if compiled.fullmatch(text)] == []
    engine = xgrammar.Grammar.from_regex(pattern)
    assert engine is not None


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({}, "in words"),
        ({"tools": (now,), "output": bool}, "calls"),
        ({"output": bool, "reasoning": "on"}, "thought"),
        ({"output": list[int]}, "only fixed values"),
        ({"output": JsonSchema({"type": "integer", "multipleOf": 9973})}, "too many"),
    ],
    ids=label,
)
def test_what_a_pattern_cannot_say(settings: dict[str, Any], why: str) -> None:
    grammar = TurnGrammar(**settings)
    assert grammar.regex() is None
    assert why in grammar.cannot_say("regex")


@law
@given(st.integers(-2000, 2000), st.integers(0, 3000), st.booleans(), st.data())
def test_bounded_numbers(low: int, span: int, whole: bool, data: st.DataObject) -> None:
    schema = {"type": "integer" if whole else "number", "minimum": low, "maximum": low + span}
    pattern = TurnGrammar((), JsonSchema(schema), bounds=Bounds(number=None)).regex()
    assert pattern is not None
    value = data.draw(st.integers(low - 5, low + span + 5) | st.floats(low - 1, low + span + 1))
    valid = not compile_schema(schema)(value)
    text = dump_json(in_schema_order(value, schema))
    assert bool(re.fullmatch(pattern, text)) == valid
    if valid:
        Output.of(JsonSchema(schema)).validate(text)


@pytest.mark.parametrize("form", ["lark", "gbnf", "structural_tag"])
def test_the_forms_that_can_say_every_turn(form: Form) -> None:
    assert TurnGrammar([now], Regex("a"), reasoning="on", inline=True).cannot_say(form) == ""
