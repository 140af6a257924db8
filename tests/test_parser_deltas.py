"""Calls that a server streams as deltas: what is complete, what was cut off, and which repairs it took."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_agent.errors import ConfigurationError
from hermes_agent.formats.deltas import CallDeltas
from hermes_agent.formats.repair import ALL_REPAIRS
from hermes_agent.formats.wire import dump_json
from hermes_agent.messages import ToolCall
from hermes_agent.turn import Fault

REASONS = ("stop", "length", None)


def one(arguments: str | None, reason: Any = "stop", name: str | None = "f", **options: Any) -> ToolCall | Fault:
    """What a stream of one call gives."""
    deltas = CallDeltas(["f"], **options)
    deltas.add(0, id="c", name=name)
    deltas.add(0, arguments=arguments)
    (found,) = deltas.finish(reason)
    return found


def fault(arguments: str | None, reason: Any = "stop", **options: Any) -> tuple[str, str, str | None]:
    """Kind, raw text and name of the fault that a stream of one call gives."""
    found = one(arguments, reason, **options)
    assert isinstance(found, Fault)
    assert found.span == (0, len(found.raw))
    assert found.detail
    return found.kind, found.raw, found.name


@pytest.mark.parametrize("reason", REASONS)
def test_complete_arguments_are_a_call_however_the_turn_ended(reason: Any) -> None:
    assert one('{"x": 1}', reason) == ToolCall("f", {"x": 1}, "c", '{"x": 1}')
    assert one("{}", reason) == ToolCall("f", {}, "c", "{}")


@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize("arguments", ['{"x": "unfin', "{", '{"x": [1, 2]', '"{'])
def test_arguments_that_broke_off_are_truncated(arguments: str, reason: Any) -> None:
    assert fault(arguments, reason) == ("truncated", arguments, "f")


@pytest.mark.parametrize("arguments", [None, "", " \n"])
def test_arguments_that_never_came(arguments: str | None) -> None:
    assert one(arguments) == ToolCall("f", {}, "c", arguments or "", ("missing_arguments",))
    assert fault(arguments, repairs=ALL_REPAIRS - {"missing_arguments"}) == ("malformed", arguments or "", "f")
    for reason in ("length", None):
        assert fault(arguments, reason) == ("truncated", arguments or "", "f")


@pytest.mark.parametrize("arguments", ["[1]", "nul", "1", '{"x": 1}}', '{"x" "y"}', '{"x": 1}{"x": 2}', '"x"'])
def test_arguments_that_are_no_object_are_malformed(arguments: str) -> None:
    for reason in REASONS:
        assert fault(arguments, reason) == ("malformed", arguments, "f")


def test_a_call_without_a_name() -> None:
    assert fault("{}", name=None) == ("malformed", "{}", None)
    assert fault(None, "length", name="") == ("truncated", "", None)


@pytest.mark.parametrize(
    ("arguments", "value", "repair"),
    [
        ("null", {}, "null_arguments"),
        ('""', {}, "null_arguments"),
        ('"{\\"x\\": 1}"', {"x": 1}, "arguments_as_string"),
        ("{'x': True}", {"x": True}, "python_literal"),
        ('{"x": 1}{"x": 1}', {"x": 1}, "repeated_delta"),
        ("{}{}", {}, "repeated_delta"),
    ],
)
def test_repairs_are_recorded_and_can_be_switched_off(arguments: str, value: dict[str, Any], repair: str) -> None:
    assert repair in ALL_REPAIRS
    assert one(arguments) == ToolCall("f", value, "c", arguments, (repair,))
    assert fault(arguments, repairs=ALL_REPAIRS - {repair}) == ("malformed", arguments, "f")


def test_a_name_said_twice_over() -> None:
    assert one("{}", name="ff") == ToolCall("f", {}, "c", "{}", ("repeated_delta",))
    assert one("{}", name="ff", repairs=()) == ToolCall("ff", {}, "c", "{}")
    with pytest.raises(ConfigurationError, match="no_such"):
        CallDeltas(repairs=["no_such"])


def test_a_fault_spoils_its_own_call_only() -> None:
    deltas = CallDeltas(["f"])
    deltas.add(0, name="f", arguments='{"x": 1}')
    deltas.add(1, name="f", arguments='{"x": ')
    first, second = deltas.finish("length")
    assert first == ToolCall("f", {"x": 1}, "", '{"x": 1}')
    assert isinstance(second, Fault)


values = st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=6), max_size=3)


@given(values, st.data())
def test_no_beginning_of_arguments_is_a_call(value: dict[str, Any], data: st.DataObject) -> None:
    text = dump_json(value)
    cut = data.draw(st.integers(0, len(text)))
    for reason in ("length", None):
        found = one(text[:cut], reason)
        assert found == ToolCall("f", value, "c", text) if cut == len(text) else isinstance(found, Fault)
