"""Decoding, and each repair: on, off, and where it must not be used."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes_agent.formats.functions import read_function
from hermes_agent.formats.parser import parse
from hermes_agent.formats.repair import (
    ALL_REPAIRS,
    DEFAULT_REPAIRS,
    UnreadableCallError,
    decode,
    guess_name,
    read_call,
)
from hermes_agent.formats.scan import ValueScanner, split_array

TRIGGERS = {
    "control_characters": '<tool_call>{"name": "f", "arguments": {"x": "a\nb"}}</tool_call>',
    "python_literal": "<tool_call>{'name': 'f', 'arguments': {'x': 'y'}}</tool_call>",
    "trailing_comma": '<tool_call>{"name": "f", "arguments": {"x": 1},}</tool_call>',
    "missing_brace": '<tool_call>{"name": "f", "arguments": {"x": 1}</tool_call>',
    "extra_brace": '<tool_call>{"name": "f", "arguments": {"x": 1}}}</tool_call>',
    "missing_close": '<tool_call>{"name": "f", "arguments": {"x": 1}}',
    "missing_closer_between": '<tool_call>{"name": "f", "arguments": {"x": 1}}<tool_call>',
    "several_calls": '<tool_call>{"name": "f", "arguments": {}} {"name": "f", "arguments": {}}</tool_call>',
    "call_array": '<tool_call>[{"name": "f", "arguments": {}}]</tool_call>',
    "code_fence": '<tool_call>```\n{"name": "f", "arguments": {}}\n```</tool_call>',
    "openai_envelope": '<tool_call>{"function": {"name": "f", "arguments": {}}}</tool_call>',
    "parameters_key": '<tool_call>{"name": "f", "parameters": {}}</tool_call>',
    "args_key": '<tool_call>{"name": "f", "args": {}}</tool_call>',
    "arguments_as_string": '<tool_call>{"name": "f", "arguments": "{}"}</tool_call>',
    "null_arguments": '<tool_call>{"name": "f", "arguments": null}</tool_call>',
    "missing_arguments": '<tool_call>{"name": "f"}</tool_call>',
    "orphan_close": '{"name": "f", "arguments": {}}</tool_call>',
    "bare_json": '{"name": "f", "arguments": {}}',
    "function_tag": "<function=f></function>",
}


@pytest.mark.parametrize("name", TRIGGERS)
def test_each_repair_is_recorded_and_can_be_switched_off(name: str) -> None:
    turn = parse(TRIGGERS[name], tools=["f"], repairs=ALL_REPAIRS)
    assert turn.tool_calls[0].repairs == (name,)
    turn = parse(TRIGGERS[name], tools=["f"], repairs=ALL_REPAIRS - {name})
    assert turn.tool_calls == ()
    assert turn.faults or name == "bare_json"


def test_every_repair_of_a_text_is_tested() -> None:
    assert set(TRIGGERS) | {"repeated_delta"} == ALL_REPAIRS  # that one is for deltas, see below


def test_the_defaults() -> None:
    assert ALL_REPAIRS.difference(DEFAULT_REPAIRS) == {"bare_json", "function_tag"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(
        st.characters(exclude_categories=["Cs"])
    ),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(json_values)
def test_json_needs_no_repair(value: Any) -> None:
    for ascii_only in (True, False):
        assert decode(json.dumps(value, ensure_ascii=ascii_only)) == (value, ())


@settings(max_examples=150, deadline=None)
@given(json_values)
def test_python_writes_what_we_read(value: Any) -> None:
    """``repr`` of a value decodes to that value, or is refused, never to another one."""
    try:
        decoded, used = decode(repr(value))
    except UnreadableCallError:
        return
    assert decoded == value
    assert set(used) <= {"python_literal", "control_characters"}


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "Z"]), max_size=20))
def test_single_quoted_strings_are_read(text: str) -> None:
    assert decode(repr({"k": text, "t": True}))[0] == {"k": text, "t": True}


@pytest.mark.parametrize(
    "text",
    [
        "", "{", '{"a" 1}', "{a: 1}", "{'a': b'x'}", "{'a': {1, 2}}", "{'a': 1 + 1}", "{'a': __import__('os')}",
        '{"a": 01}', "{'a': '\\d'}", '{"a": 1} x', "{'a': f'x'}", "[,]", "{,}", '{"a":,}', "{'a': 'x' 'y'}",
        '{"a": "\\ud800"}', '{"a": Infinity}', "{'a': 'x\\",
    ],
)  # fmt: skip
def test_what_is_no_value_is_refused(text: str) -> None:
    with pytest.raises(UnreadableCallError):
        decode(text, ALL_REPAIRS)


def test_deep_values_are_refused_without_recursion() -> None:
    with pytest.raises(UnreadableCallError, match="deep"):
        decode("[" * 100_000 + "]" * 100_000)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[]", "object"),
        ('{"arguments": {}}', "name"),
        ('{"name": "", "arguments": {}}', "name"),
        ('{"name": 3, "arguments": {}}', "name"),
        ('{"name": "f", "arguments": []}', "arguments"),
        ('{"name": "f", "arguments": 0}', "arguments"),
        ('{"name": "f", "arguments": {}, "args": {}}', "args"),
        ('{"name": "f", "arguments": {}, "city": "Rome"}', "city"),
        ('{"name": "f", "city": "Rome"}', "city"),
        ('{"type": "tool", "function": {"name": "f", "arguments": {}}}', "tool"),
        ('{"name": "f", "arguments": "{\\"x\\": "}', "string"),
        ('{"name": "f", "arguments": "[1]"}', "arguments"),
    ],
)
def test_what_is_no_call_is_refused(text: str, says: str) -> None:
    with pytest.raises(UnreadableCallError, match=says):
        read_call(text, ALL_REPAIRS)


def test_repairs_are_recorded_in_the_order_used() -> None:
    call = read_call("{'name': 'f', 'parameters': '{\"x\": [1,],}',}")
    assert call.arguments == {"x": [1]}
    assert call.repairs == ("python_literal", "trailing_comma", "parameters_key", "arguments_as_string")


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ('{"name": "f", "arguments": {', "f"),
        ("{'name': 'f'", "f"),
        ('[{"name": "f"', "f"),
        ('{"arguments": {"name": "Bob"', None),
        ('{"name": "f', None),
        ("", None),
    ],
)
def test_the_name_of_a_broken_call(raw: str, name: str | None) -> None:
    assert guess_name(raw) == name


@settings(max_examples=100, deadline=None)
@given(json_values.filter(lambda v: isinstance(v, list | dict)), st.integers(1, 9))
def test_the_scanner_finds_the_end_in_any_pieces(value: Any, size: int) -> None:
    text = json.dumps(value, indent=1) + "</tool_call> tail"
    scanner, pending, at = ValueScanner(), "", 0
    for start in range(0, len(text), size):
        pending += text[start : start + size]
        pos, status = scanner.feed(pending, 0)
        at += pos
        pending = pending[pos:]
        if status != "more":
            assert status == "done"
            break
    assert json.loads(text[:at]) == value


def test_objects_of_an_array() -> None:
    text = '[{"a": "}"}, {"b": [{}]}]'
    assert [text[i:j] for i, j in split_array(text)] == ['{"a": "}"}', '{"b": [{}]}']


@pytest.mark.parametrize(
    "raw",
    [
        "<function=f>",
        "<function=f><parameter=x>1</function>",
        "<function=f><parameter=x>1</parameter><parameter=x>2</parameter></function>",
        "<function=f>text</function>",
    ],
)
def test_broken_function_tags_are_refused(raw: str) -> None:
    with pytest.raises(UnreadableCallError):
        read_function(raw, {})
