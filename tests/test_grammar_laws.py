"""What the grammar allows the parser reads and the validation passes; what the validation passes it allows."""

from __future__ import annotations

import json
import re
from functools import cache
from random import Random
from typing import Annotated, Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer
from pydantic import Field

from hermes_agent.errors import GrammarError
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.formats.parser import parse
from hermes_agent.formats.schema import Bounds, in_schema_order
from hermes_agent.formats.tags import FORBIDDEN_IN_TEXT, any_of
from hermes_agent.formats.wire import dump_json, serialise_calls
from hermes_agent.json_schema import compile_schema
from hermes_agent.output import JsonSchema, Output
from hermes_agent.tool import Tool
from tests.naming import label

# Made-up schemas, each with values that are likely to be valid.

Case = tuple[dict[str, Any], st.SearchStrategy[Any]]
"""A schema, and a strategy for values most of which it allows."""

_NAMES: tuple[str, ...] = ("a", "b", "ab", "x-1", "größe", "with space", 'q"uote', "B")
_PATTERNS = ("^[a-z]{2,4}$", "[0-9]", "^(?:red|green)$", "^x-", "b+c?", r"^\w+@\w+$", r"^[^<>]*$", r"é|\.")
_FORMATS = ("date", "time", "date-time", "ipv4", "ipv6", "uuid", "email", "hostname", "uri", "duration")
_TREE = {
    "type": "object",
    "properties": {"value": {"type": "integer"}, "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
    "required": ["value"],
    "additionalProperties": False,
}

names: st.SearchStrategy[str] = st.sampled_from(_NAMES)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8)
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=6
)


def _bounded(draw: st.DrawFn, low_key: str, high_key: str, span: st.SearchStrategy[Any]) -> dict[str, Any]:
    low, high = sorted((draw(span), draw(span)))
    keys = draw(st.sets(st.sampled_from((low_key, high_key))))
    return {key: value for key, value in ((low_key, low), (high_key, high)) if key in keys}


@st.composite
def numeric(draw: st.DrawFn) -> Case:
    kind = draw(st.sampled_from(("integer", "number")))
    bounds = st.integers(-1000, 1000)
    schema: dict[str, Any] = {"type": kind}
    if draw(st.booleans()):
        schema |= _bounded(draw, "minimum", "maximum", bounds)
    else:
        schema |= _bounded(draw, "exclusiveMinimum", "exclusiveMaximum", bounds)
    if kind == "integer" and draw(st.booleans()):
        schema["multipleOf"] = draw(st.sampled_from((1, 2, 3, 5, 7)))
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    whole = st.integers(low, high)
    if kind == "integer":
        return schema, whole | whole.filter(lambda value: abs(value) < 2**53).map(float)
    return schema, whole | st.floats(low, high, allow_nan=False, allow_infinity=False)


@st.composite
def textual(draw: st.DrawFn) -> Case:
    schema: dict[str, Any] = {"type": "string"}
    match draw(st.sampled_from(("plain", "length", "pattern", "format"))):
        case "length":
            schema |= _bounded(draw, "minLength", "maxLength", st.integers(0, 6))
        case "pattern":
            schema["pattern"] = draw(st.sampled_from(_PATTERNS))
            return schema, st.from_regex(schema["pattern"]).filter(lambda text: not text.endswith("\n"))
        case "format":
            schema["format"] = draw(st.sampled_from(_FORMATS))
            return schema, _of_format(schema["format"])
        case _:
            pass
    return schema, st.text(min_size=schema.get("minLength", 0), max_size=schema.get("maxLength"))


def _of_format(name: str) -> st.SearchStrategy[str]:
    return {
        "date": st.dates().map(str),
        "time": st.times().map(lambda time: time.isoformat() + "Z"),
        "date-time": st.datetimes().map(lambda time: time.isoformat() + "+02:00"),
        "ipv4": st.ip_addresses(v=4).map(str),
        "ipv6": st.ip_addresses(v=6).map(str),
        "uuid": st.uuids().map(str),
        "email": st.emails(),
        "hostname": st.just("a.example") | st.from_regex(r"\A[a-z]{1,5}(\.[a-z]{1,5})?\Z"),
        "uri": st.sampled_from(("https://example.org/a?b=c#d", "urn:x:y", "mailto:a@b.c", "http://[::1]:80/")),
        "duration": st.sampled_from(("P1D", "PT1H2M", "P2W", "P1Y2M3DT4H5M6S")),
    }[name]


@st.composite
def fixed(draw: st.DrawFn) -> Case:
    choices = draw(st.lists(values, min_size=1, max_size=4))
    if draw(st.booleans()):
        return {"enum": choices}, st.sampled_from(choices)
    return {"const": choices[0]}, st.just(choices[0])


leaves = st.one_of(
    numeric(),
    textual(),
    fixed(),
    st.sampled_from([({"type": "boolean"}, st.booleans()), ({"type": "null"}, st.none())]),
)


@st.composite
def arrays(draw: st.DrawFn, inner: st.SearchStrategy[Case]) -> Case:
    schema, items = draw(inner)
    full: dict[str, Any] = {"type": "array", "items": schema}
    full |= _bounded(draw, "minItems", "maxItems", st.integers(0, 4))
    value: st.SearchStrategy[Any] = st.lists(items, min_size=full.get("minItems", 0), max_size=full.get("maxItems", 4))
    if draw(st.booleans()):
        first, firsts = draw(inner)
        full["prefixItems"] = [first]
        value = st.tuples(firsts, value).map(lambda pair: [pair[0], *pair[1]])
    return full, value


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy[Case]) -> Case:
    parts: dict[str, Case] = draw(st.dictionaries(names, inner, max_size=4))
    required = [name for name in parts if draw(st.booleans())]
    schema: dict[str, Any] = {"type": "object", "properties": {name: part for name, (part, _) in parts.items()}}
    if required:
        schema["required"] = draw(st.permutations(required))
    extras: st.SearchStrategy[dict[str, Any]] = st.just({})
    match draw(st.sampled_from(("closed", "open", "typed", "patterns", "names", "counted", "dependent"))):
        case "closed":
            schema["additionalProperties"] = False
        case "typed":
            rest, rests = draw(inner)
            schema["additionalProperties"] = rest
            extras = st.dictionaries(names, rests, max_size=2)
        case "patterns":
            rest, rests = draw(inner)
            schema["patternProperties"] = {"^x-": rest}
            schema["additionalProperties"] = False
            extras = st.dictionaries(st.sampled_from(("x-2", "x-3")), rests, max_size=2)
        case "names":
            schema["propertyNames"] = {"pattern": draw(st.sampled_from(("^[a-z]", "^.{1,3}$")))}
        case "counted":
            schema |= _bounded(draw, "minProperties", "maxProperties", st.integers(0, 4))
        case "dependent":
            schema["dependentRequired"] = {draw(names): [draw(names)]}
        case _:
            extras = st.dictionaries(names, scalars, max_size=2)
    known = st.fixed_dictionaries(
        {name: parts[name][1] for name in required},
        optional={name: at for name, (_, at) in parts.items() if name not in required},
    )
    return schema, st.tuples(extras, known).map(lambda pair: {**pair[0], **pair[1]})


@st.composite
def combined(draw: st.DrawFn, inner: st.SearchStrategy[Case]) -> Case:
    (one, ones), (two, twos) = draw(inner), draw(inner)
    match draw(st.sampled_from(("anyOf", "oneOf", "allOf", "not", "if", "either"))):
        case "not":
            return {"allOf": [one], "not": two}, ones
        case "if":
            return {"if": one, "then": two, "else": {"type": ["string", "integer"]}}, twos | st.integers() | st.text()
        case "either":
            return {"type": ["null", "object", "integer"], **one}, ones
        case keyword:
            return {keyword: [one, two]}, ones | twos


def _compound(inner: st.SearchStrategy[Case]) -> st.SearchStrategy[Case]:
    return objects(inner) | arrays(inner) | combined(inner)


def _tree(value: int, children: list[Any]) -> dict[str, Any]:
    return {"value": value, "children": children} if children else {"value": value}


_trees: st.SearchStrategy[Any] = st.recursive(
    st.builds(_tree, st.integers(), st.just([])),
    lambda inner: st.builds(_tree, st.integers(), st.lists(inner, max_size=2)),
    max_leaves=4,
)
recursive: st.SearchStrategy[Case] = st.just(({"$ref": "#/$defs/tree"}, _trees))


def _with_definitions(case: Case) -> Case:
    return {**case[0], "$defs": {"tree": _TREE}}, case[1]


cases: st.SearchStrategy[Case] = st.recursive(leaves | recursive, _compound, max_leaves=6).map(_with_definitions)
"""Any schema."""

object_cases: st.SearchStrategy[Case] = objects(st.recursive(leaves | recursive, _compound, max_leaves=4)).map(
    _with_definitions
)
"""Schemas of objects, such as the arguments of tools."""


# Texts that a grammar allows, made by walking over its masks at random, one byte at a time.

_CLOSERS = frozenset(b'"]}0> e\n')


@cache
def _tokenizer() -> LLTokenizer:
    return LLTokenizer("byte")


def walk(lark: str, random: Random, *, steps: int = 600) -> str | None:
    """A text that the grammar accepts; ``None`` if the walk has not ended after so many bytes."""
    matcher = LLMatcher(_tokenizer(), lark, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    written = bytearray()
    while len(written) < steps:
        mask = matcher.compute_bitmask()
        allowed = [byte for byte in range(256) if mask[byte >> 3] >> (byte & 7) & 1]
        if matcher.is_accepting() and (not allowed or random.random() < 0.3):
            return written.decode()
        closing = [byte for byte in allowed if byte in _CLOSERS]
        eager = random.random() < 0.5 + len(written) / steps
        byte = random.choice(closing if closing and eager else allowed)
        assert matcher.consume_token(byte)
        written.append(byte)
    return None


# The laws.

law = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


def _tool(case: Case) -> Tool:
    return Tool.from_schema(name="f", parameters=case[0])


@law
@given(cases, st.data())
def test_a_valid_value_is_accepted(case: Case, data: st.DataObject) -> None:
    schema, values = case
    value = data.draw(values)
    assume(not compile_schema(schema)(value))
    grammar = TurnGrammar((), JsonSchema(schema), bounds=UNBOUNDED)
    assert grammar.accepts(dump_json(in_schema_order(value, schema)))


@law
@given(cases, st.data())
def test_ordering_a_value_keeps_it(case: Case, data: st.DataObject) -> None:
    schema, values = case
    value = data.draw(values)
    try:
        arranged = in_schema_order(value, schema)
    except GrammarError:
        assert compile_schema(schema)(value)
        return
    assert arranged == value


@law
@given(cases, st.randoms(use_true_random=False))
def test_an_accepted_answer_is_valid(case: Case, random: Random) -> None:
    output = Output.of(JsonSchema(case[0]))
    try:
        grammar = TurnGrammar((), output, bounds=UNBOUNDED)
    except GrammarError:
        return
    text = walk(grammar.lark(), random)
    assume(text is not None)
    assert text is not None
    assert grammar.accepts(text)
    turn = parse(text, output=output)
    assert not turn.faults
    assert turn.text == text
    if not grammar.warnings and not repeats_a_key(text):
        output.validate(text)


_NUMBERS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (Annotated[float, Field(ge=-1, lt=1)], st.floats(-1, 1, exclude_max=True)),
    (list[float | None], st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.none(), max_size=3)),
    (object, st.dictionaries(names, st.floats(allow_nan=False, allow_infinity=False), max_size=2)),
    (JsonSchema({"type": "number"}), st.floats(allow_nan=False, allow_infinity=False)),
]


@settings(law, max_examples=150)
@given(st.data())
def test_a_dumped_float_is_accepted_and_read_back(data: st.DataObject) -> None:
    spec, floats = data.draw(st.sampled_from(_NUMBERS))
    output: Output[Any] = Output.of(spec)
    value = data.draw(floats)
    text = output.dump(value)
    assert TurnGrammar((), output, bounds=UNBOUNDED).accepts(text)
    assert output.validate(text) == value


@pytest.mark.parametrize("value", [-0.0, 1e-10, 5e-324, -2.2250738585072014e-308, 1e16, 1e22, 1.7976931348623157e308])
@pytest.mark.parametrize("spec", [float, object, JsonSchema({})], ids=label)
def test_a_float_has_one_spelling(spec: Any, value: float) -> None:
    text = Output.of(spec).dump(value)
    assert text == dump_json(value)
    assert not re.search("e|^-0.0$", text)
    assert TurnGrammar((), spec, bounds=UNBOUNDED).accepts(text)


def repeats_a_key(text: str) -> bool:
    """Whether an object has one key twice: the one thing the mask cannot see."""
    found = False

    def look(pairs: list[tuple[str, Any]]) -> None:
        nonlocal found
        found = found or len({key for key, _ in pairs}) != len(pairs)

    json.loads(text, object_pairs_hook=look)
    return found


turns = st.fixed_dictionaries(
    {
        "tool_choice": st.sampled_from(("auto", "required", "none", "f")),
        "parallel": st.sampled_from((True, False, 2)),
        "reasoning": st.sampled_from(("on", "off", "auto")),
        "output": st.sampled_from((str, bool, list[int])),
    }
)


@law
@given(object_cases, turns, st.randoms(use_true_random=False))
def test_an_accepted_turn_is_read_without_a_fault(case: Case, settings_: dict[str, Any], random: Random) -> None:
    tool = _tool(case)
    try:
        grammar = TurnGrammar([tool], **settings_, bounds=UNBOUNDED)
    except GrammarError:
        return
    text = walk(grammar.lark(), random)
    assume(text is not None)
    assert text is not None
    turn = parse(text, tools=[tool], output=grammar.output)
    repeated = any(repeats_a_key(call.raw) for call in turn.tool_calls) or "twice" in str(turn.faults)
    assume(not repeated)
    assert not turn.faults
    assert not turn.repairs
    for call in turn.tool_calls:
        assert not call.repairs
        if not grammar.warnings:
            tool.validate(call.arguments)
    if not turn.tool_calls:
        grammar.output.validate(turn.text)
    assert (turn.reasoning is not None) in {"on": (True,), "off": (False,), "auto": (True, False)}[grammar.reasoning]
    limit = {True: 99, False: 1, 2: 2}[settings_["parallel"]]
    assert len(turn.tool_calls) <= limit


@law
@given(object_cases, st.data())
def test_valid_calls_are_accepted_and_read_back(case: Case, data: st.DataObject) -> None:
    tool = _tool(case)
    values = data.draw(st.lists(case[1], min_size=1, max_size=3))
    assume(all(not compile_schema(tool.parameters)(value) for value in values))
    ordered = [in_schema_order(value, tool.parameters) for value in values]
    text = serialise_calls([("f", value) for value in ordered])
    assert TurnGrammar([tool], bounds=UNBOUNDED).accepts(text)
    turn = parse(text, tools=[tool])
    assert not turn.faults
    assert [call.arguments for call in turn.tool_calls] == values


# Which letters are markup: the grammar of free text and the parser go by the same.

_SWAPS = {"i": "\u0131", "s": "\u017f", "k": "\u212a", "I": "\u0130"}
"""Letters that are other cases of ASCII letters in Unicode, or in some regular expressions, and not here."""


@st.composite
def tags(draw: st.DrawFn) -> str:
    """A tag in some letter case, perhaps with letters that only look as if they belonged to it."""
    tag = draw(st.sampled_from((*FORBIDDEN_IN_TEXT, "<|im_end|>", "<tool_call>", "</tool_call>", "<b>")))
    spelled = "".join(draw(st.sampled_from((char, char.upper()))) for char in tag)
    swapped = draw(st.sampled_from(["", *_SWAPS]))
    return spelled.replace(swapped, _SWAPS[swapped]) if swapped else spelled


pieces = tags() | st.sampled_from(("\n", " ", "word", ">", "<", "/", *_SWAPS.values()))
pieced: st.SearchStrategy[str] = st.lists(pieces, min_size=1, max_size=6).map("".join)
_THINKING = re.compile(any_of(["<think>", "</think>"]))
UNBOUNDED = Bounds(number=None)  # laws are about any number; the default bound has a test of its own
_PLAIN = TurnGrammar()
_THINKS = TurnGrammar(reasoning="on")


@settings(law, max_examples=300)
@given(pieced)
@example("<th\u0131nk>")
@example("<|IM_END|>")
def test_free_text_is_what_the_parser_takes_for_text(text: str) -> None:
    turn = parse(text)
    plain = (turn.text, turn.reasoning, turn.faults, turn.repairs) == (text, None, (), ())
    if _PLAIN.accepts(text):
        assert plain
    else:
        # A thinking tag within a line is text to the parser; the grammar wants none at all.
        assert not plain or not text.strip() or _THINKING.search(text)


@settings(law, max_examples=300)
@given(pieced)
@example("<thin\u212a></th\u0131nk>")
@example('\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call><tool_response>x')
def test_a_thought_is_what_the_parser_takes_for_a_thought(thought: str) -> None:
    text = f"<think>{thought}</think>\nb"
    turn = parse(text)
    whole = (turn.reasoning, turn.text, turn.faults, turn.repairs) == (thought.strip("\n"), "b", (), ())
    if _THINKS.accepts(text):
        assert whole
    else:
        # A made-up result within a line is a thought to the parser, if it does not stand right behind a call.
        assert not whole or re.search("<tool_call>(?s:.*)<tool_response", thought)
