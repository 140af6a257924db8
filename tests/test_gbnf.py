"""The GBNF form says what the Lark form says, read by xgrammar as EBNF and by llama.cpp."""

from __future__ import annotations

from random import Random
from typing import Any, Literal

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from hermes_agent.errors import GrammarError
from hermes_agent.formats.grammar import Form, TurnGrammar
from hermes_agent.formats.parser import parse
from hermes_agent.formats.schema import Bounds, in_schema_order
from hermes_agent.formats.wire import dump_json, serialise_calls
from hermes_agent.json_schema import compile_schema
from hermes_agent.output import JsonSchema, Output, Regex
from hermes_agent.tool import Tool
from tests.naming import label
from tests.test_grammar_laws import (
    UNBOUNDED,
    Case,
    cases,
    law,
    object_cases,
    pieced,
    repeats_a_key,
    turns,
)
from tests.xgrammar_engine import accepts, compiled, walk

fewer = settings(law, max_examples=25)


def get_weather(city: str, unit: Literal["celsius", "fahrenheit"] = "celsius") -> str:
    """Current weather.

    Args:
        city: City name.
        unit: Unit of the temperature.
    """
    return f"{city} {unit}"


def now() -> str:
    """The time."""
    return ""


class Report(BaseModel):
    coat: bool
    why: str = ""


PARIS = serialise_calls([("get_weather", {"city": 'P"\\\n\x01\x7fé😀<think>'})])
NOW = serialise_calls([("now", {})])
TOOLS = (get_weather, now)
SETTINGS: list[dict[str, Any]] = [
    {},
    {"tool_choice": "required", "parallel": 2},
    {"tool_choice": "now", "reasoning": "auto"},
    {"tool_choice": "none", "reasoning": "on"},
    {"parallel": False, "reasoning": "auto", "inline": True},
    {"output": Report, "reasoning": "auto"},
    {"output": list[int], "reasoning": "on", "inline": True},
    {"output": Regex(r"\d{2}/[a-z]+| x")},
    {"output": Regex(r"\d{2}/[a-z]+| x"), "reasoning": "auto"},
]
ANSWERS = ["hi", " \n", "", "a < b [c]", "12/ab", " x", "[1, -2]", "[1,2]", '{"coat": true}', '{"coat": true, "x": 1}']
CALLS = [PARIS, NOW, f"{NOW}\n{NOW}", f"{NOW}\n{NOW}\n{PARIS}", f"well\n{NOW}", f"{NOW}\nwell", NOW.replace("now", "x")]
MARKUP = ["a <Tool_Call> b", "<tool_calls>", f"{NOW}<|im_end|>", "a</think>b", "</tool_call>", "<function>\n<name>"]
BEGINNINGS = ["", "\n", "<think>hm\n</think>\n", "<think>a <b> <tool_call></think>\n\n", "<think>\nx\n", "hm</think>\n"]


@pytest.mark.parametrize("settings_", SETTINGS, ids=label)
def test_gbnf_and_lark_allow_the_same_turns(settings_: dict[str, Any]) -> None:
    whole = TurnGrammar(TOOLS, **settings_)
    for grammar in (whole, whole.in_thought(), whole.after_thought()):
        engine = compiled(grammar.gbnf())
        for text in (begin + rest for begin in BEGINNINGS for rest in (*ANSWERS, *CALLS, *MARKUP)):
            assert accepts(engine, text) == grammar.accepts(text), text


@fewer
@given(cases, st.data())
def test_a_valid_value_is_accepted(case: Case, data: st.DataObject) -> None:
    schema, values = case
    value = data.draw(values)
    assume(not compile_schema(schema)(value))
    grammar = TurnGrammar((), JsonSchema(schema), bounds=UNBOUNDED)
    assert accepts(compiled(grammar.gbnf()), dump_json(in_schema_order(value, schema)))


@fewer
@given(cases, st.randoms(use_true_random=False))
def test_an_accepted_answer_is_valid(case: Case, random: Random) -> None:
    output = Output.of(JsonSchema(case[0]))
    try:
        grammar = TurnGrammar((), output, bounds=UNBOUNDED)
    except GrammarError:
        return
    text = walk(compiled(grammar.gbnf()), random)
    assume(text is not None)
    assert text is not None
    turn = parse(text, output=output)
    assert not turn.faults
    assert turn.text == text
    if not grammar.left_to_validation("gbnf") and not repeats_a_key(text):
        output.validate(text)


@fewer
@given(object_cases, turns, st.randoms(use_true_random=False))
def test_an_accepted_turn_is_read_without_a_fault(case: Case, settings_: dict[str, Any], random: Random) -> None:
    tool = Tool.from_schema(name="f", parameters=case[0])
    try:
        grammar = TurnGrammar([tool], **settings_, bounds=UNBOUNDED)
    except GrammarError:
        return
    text = walk(compiled(grammar.gbnf()), random)
    assume(text is not None)
    assert text is not None
    turn = parse(text, tools=[tool], output=grammar.output)
    repeated = any(repeats_a_key(call.raw) for call in turn.tool_calls) or "twice" in str(turn.faults)
    assume(not repeated)
    assert not turn.faults
    assert not turn.repairs
    for call in turn.tool_calls:
        assert not call.repairs
        if not grammar.left_to_validation("gbnf"):
            tool.validate(call.arguments)
    if not turn.tool_calls and not grammar.left_to_validation("gbnf"):
        grammar.output.validate(turn.text)


@fewer
@given(object_cases, st.data())
def test_valid_calls_are_accepted(case: Case, data: st.DataObject) -> None:
    tool = Tool.from_schema(name="f", parameters=case[0])
    values = data.draw(st.lists(case[1], min_size=1, max_size=3))
    assume(all(not compile_schema(tool.parameters)(value) for value in values))
    text = serialise_calls([("f", in_schema_order(value, tool.parameters)) for value in values])
    assert accepts(compiled(TurnGrammar([tool], bounds=UNBOUNDED).gbnf()), text)


_PLAIN, _THINKS, _CALLS = TurnGrammar(), TurnGrammar(reasoning="on"), TurnGrammar([now], reasoning="on", inline=True)
_ENGINES: dict[str, Any] = {}


@settings(law, max_examples=200)
@given(
    pieced, st.sampled_from((_PLAIN, _THINKS, _CALLS)), st.sampled_from(("{}", "<think>{}</think>\nb", f"{{}}{NOW}"))
)
def test_text_and_thoughts_are_the_same_in_both_forms(text: str, grammar: TurnGrammar, around: str) -> None:
    if grammar.key not in _ENGINES:
        _ENGINES[grammar.key] = compiled(grammar.gbnf())
    whole = around.replace("{}", text, 1)
    assert accepts(_ENGINES[grammar.key], whole) == grammar.accepts(whole)


def test_bounds_hold() -> None:
    grammar = TurnGrammar((), list[str], bounds=Bounds(string=300, array=400))
    engine = compiled(grammar.gbnf())
    for count in (0, 1, 2, 128, 129, 255, 256, 399, 400, 401, 900):
        text = dump_json(["a"] * count)
        assert accepts(engine, text) == (count <= 400) == grammar.accepts(text), count
        assert accepts(engine, dump_json(["é" * count])) == (count <= 300)
    number = compiled(TurnGrammar((), float).gbnf())
    integer = compiled(TurnGrammar((), int).gbnf())
    for value, kept in (
        (10**18, True),
        (-(10**18), True),
        (10**18 + 1, False),
        (999, True),
        (-1, True),
        (10**19, False),
    ):
        assert accepts(integer, dump_json(value)) == accepts(number, dump_json(value)) == kept
    for text, kept in (("0", True), ("-0", False), ("00", False), ("1.50", True), ("-0.0", False), ("-0.01", True)):
        assert accepts(number, text) == kept


SAID: list[tuple[dict[str, Any], list[Any], list[Any]]] = [
    ({"type": "number", "minimum": -0.0, "maximum": 1.5}, [0, 1.5, 0.25], [-0.5, 1.51]),
    ({"type": "number", "exclusiveMinimum": 0, "maximum": 0.5}, [0.5, 0.01], [0, 0.51, -1]),
    ({"type": "number", "exclusiveMinimum": -1, "exclusiveMaximum": 1}, [0, -0.99, 0.99], [-1, 1, -1.0]),
    ({"type": "integer", "minimum": -120, "maximum": -7}, [-120, -7, -99], [-121, -6, 0, 7]),
    ({"type": "number", "multipleOf": 0.01}, [0.25, -3, 1.1], [0.255]),
    ({"type": "integer", "multipleOf": 12}, [0, 12, -1200], [13]),
    ({"type": "string", "pattern": "^[a\\[\\]^-]+$"}, ["a", "[]", "^-"], ["b", ""]),
    (
        {"type": "string", "pattern": "[\u4e00-\u9fff]{2}", "maxLength": 3},
        ["\u4e2d\u6587", "a\u4e2d\u6587"],
        ["\u4e2d"],
    ),
    ({"type": "string", "minLength": 300, "maxLength": 700}, ["a" * 300, "\n" * 700], ["a" * 299, "a" * 701]),
    ({"type": "object", "minProperties": 2, "maxProperties": 3}, [{"a": 1, "b": {}}], [{"a": 1}, {}]),
    (
        {
            "properties": {"a": {}, "b": {}, "c": {}},
            "additionalProperties": False,
            "minProperties": 2,
            "type": "object",
        },
        [{"a": 1, "c": 1}, {"a": 1, "b": 1, "c": 1}, {"b": 1, "c": 1}],
        [{"a": 1}, {}, {"d": 1, "e": 1}],
    ),
    ({"type": "object", "properties": {f"property {n}": {"type": "null"} for n in range(300)}}, [{"x": 1}], []),
    (
        {"prefixItems": [{"type": "null"}, {"type": "boolean"}], "type": "array"},
        [[], [None], [None, True, 1]],
        [[1]],
    ),
]


@pytest.mark.parametrize(("schema", "valid", "invalid"), SAID, ids=label)
def test_what_schemas_say_is_said(schema: dict[str, Any], valid: list[Any], invalid: list[Any]) -> None:
    grammar = TurnGrammar((), JsonSchema(schema))
    engine = compiled(grammar.gbnf())
    assert grammar.left_to_validation("gbnf") == ()
    assert [value for value in valid if not accepts(engine, dump_json(value))] == []
    assert [value for value in invalid if accepts(engine, dump_json(value))] == []


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"type": "string", "format": "iri"}, "'iri'"),
        ({"type": "string", "pattern": "a(?=b)"}, "a(?=b)"),
        ({"type": "number", "multipleOf": 0.3}, "0.3"),
        ({"type": "string", "pattern": "a", "maxLength": 10_000}, "10000"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "number", "minimum": 2.859893543599951e88}, "2.859893543599951e+88"),
    ],
    ids=label,
)
def test_what_is_left_to_the_validation_is_named(schema: dict[str, Any], named: str) -> None:
    (warning,) = TurnGrammar((), JsonSchema(schema)).left_to_validation("gbnf")
    assert named in warning
    assert "afterwards" in warning


UNREAD = {
    "type": "object",
    "properties": {"x-1": {"type": "object"}},
    "patternProperties": {"^x-": {"$ref": "#/$defs/t"}},
    "$defs": {"t": {"type": "object", "properties": {"t": {"$ref": "#/$defs/t"}}, "additionalProperties": False}},
}
"""A schema that the engine which masks tokens refuses to read."""


@pytest.mark.parametrize("form", ["gbnf", "structural_tag"])
def test_what_our_own_engine_refuses_is_held_by_others(form: Form) -> None:
    tool = Tool.from_schema(name="f", parameters=UNREAD)
    call = TurnGrammar([tool], tool_choice="f")
    answer = TurnGrammar((), JsonSchema(UNREAD))
    engines = [compiled(g.gbnf() if form == "gbnf" else g.structural_tag()) for g in (call, answer)]
    for text, kept in (
        ('{"x-1": {}}', True),
        ("{}", True),
        ("0", False),
        ('"{}"', False),
        ("[]", False),
        ("null", False),
        ('{"x-1": {"t": {"t": {}}}}', True),
        ('{"x-1": {"z": 1}}', False),
        ('{"x-2": 3}', False),
    ):
        arguments = f'<tool_call>\n{{"name": "f", "arguments": {text}}}\n</tool_call>'
        assert [accepts(engines[0], arguments), accepts(engines[1], text)] == [kept, kept], text
    for grammar in (call, answer):
        assert grammar.warnings
        assert not grammar.left_to_validation(form)
