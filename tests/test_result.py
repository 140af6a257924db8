from __future__ import annotations

import datetime
import enum
import json
import subprocess
import sys
import time
import traceback
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from hermes_agent import Agent
from hermes_agent.messages import AssistantMessage, ToolCall, ToolMessage
from hermes_agent.result import ToolResultError, cut, error_text, result_text
from hermes_agent.testing import ScriptedModel
from tests.naming import label


class Colour(enum.Enum):
    RED = "red"


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Place:
    name: str
    at: Point


class Report(BaseModel):
    place: Place
    day: datetime.date


PLACE = Place("Zürich", Point(1, 2))


SHOWN: list[tuple[object, str]] = [
    ("as it is <b>\n", "as it is <b>\n"),
    ("", ""),
    (None, "null"),
    (True, "true"),
    (3, "3"),
    (10**400, "1" + "0" * 400),
    (0.1, "0.1"),
    (Colour.RED, "red"),
    (datetime.date(2024, 2, 29), "2024-02-29"),
    (Decimal("1.10"), "1.10"),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (PurePosixPath("/a/b"), "/a/b"),
    ([1, "é", None], '[1, "é", null]'),
    ((1, 2), "[1, 2]"),
    ({7}, "[7]"),
    (frozenset({Colour.RED}), '["red"]'),
    ({"a": {1: Colour.RED}}, '{"a": {"1": "red"}}'),
    (OrderedDict([("b", 1), ("a", 2)]), '{"b": 1, "a": 2}'),
    ([float("nan"), float("inf"), -float("inf")], '["NaN", "Infinity", "-Infinity"]'),
    (float("nan"), '"NaN"'),
    (PLACE, '{"name": "Zürich", "at": [1, 2]}'),
    (
        Report(place=PLACE, day=datetime.date(2024, 1, 1)),
        '{"place": {"name": "Zürich", "at": [1, 2]}, "day": "2024-01-01"}',
    ),
    ([PLACE], '[{"name": "Zürich", "at": [1, 2]}]'),
    ("half a pair: \ud800", "half a pair: \ufffd"),
    ({"a": "\ud83d\ude00"}, '{"a": "😀"}'),
]


@pytest.mark.parametrize(("value", "text"), SHOWN, ids=label)
def test_text_of(value: object, text: str) -> None:
    assert result_text(value) == text
    result_text(value).encode()


@pytest.mark.parametrize(
    "value", [b"\xff\x00", bytearray(b"x"), memoryview(b"x"), [b"x"], {"a": (b"x",)}, {b"k": 1}, {b"x"}]
)
def test_bytes_are_refused_with_the_way_out(value: object) -> None:
    with pytest.raises(ToolResultError, match=r"'(bytes|bytearray|memoryview)' is not text: decode it"):
        result_text(value)


@pytest.mark.parametrize("value", [object(), [object()], {"a": test_text_of}, lambda: 1, type], ids=label)
def test_what_has_no_json_form_is_refused_by_type(value: object) -> None:
    with pytest.raises(ToolResultError, match=r"'(object|function|type)' has no JSON form: return text"):
        result_text(value)


def test_endless_values_are_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    for value in (loop, deep):
        with pytest.raises(ToolResultError, match="'list' has no JSON form"):
            result_text(value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)  # the first use imports or compiles
@given(JSON.filter(lambda value: not isinstance(value, str)))
def test_json_survives(value: object) -> None:
    assert json.loads(result_text(value)) == value


@settings(deadline=None)  # the first use imports or compiles
@given(st.text(), st.integers(1, 50))
def test_a_cut_keeps_the_head_and_counts_the_rest(text: str, limit: int) -> None:
    shown = cut(text, limit)
    assert cut(text, None) == text
    if len(text) <= limit:
        assert shown == text
    else:
        assert shown == f"{text[:limit]}\n[… {len(text) - limit} more characters were left out]"


def test_ten_megabytes_are_cut() -> None:
    assert len(cut(result_text("x" * 10_000_000), 20_000)) < 20_100


def raised(error: BaseException) -> str:
    """A traceback as it is printed."""
    try:
        try:
            raise LookupError("first")
        except LookupError:
            raise error  # noqa: B904  # a chain is wanted
    except BaseException as caught:  # noqa: BLE001  # the one that was raised
        return "".join(traceback.format_exception(caught))


class UnreadableError(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError("inside")


ERRORS: list[tuple[BaseException, str]] = [
    (ValueError("no such city"), "ValueError: no such city"),
    (KeyError("x"), "KeyError: 'x'"),
    (TimeoutError(), "TimeoutError"),
    (SystemExit(3), "SystemExit: 3"),
    (UnreadableError(), "UnreadableError: its message cannot be read (ZeroDivisionError)"),
    (OSError("https://me:pw@host/x?api_key=abc"), "OSError: https://me:[removed]@host/x?api_key=[removed]"),
    (ValueError("half a pair \ud800"), "ValueError: half a pair \ufffd"),
    (
        ExceptionGroup("all", [ValueError("a"), ExceptionGroup("in", [KeyError("b"), OSError("token=abc")])]),
        "ValueError: a; KeyError: 'b'; OSError: token=[removed]",
    ),
    (RuntimeError(f"worker failed:\n{raised(ValueError('bad'))}"), "RuntimeError: worker failed:\nValueError: bad"),
    (RuntimeError(raised(ValueError("bad\nindeed"))), "RuntimeError: ValueError: bad\nindeed"),
    (RuntimeError(f"stderr {raised(ValueError('bad'))!r}"), "RuntimeError: stderr 'ValueError: bad\\n'"),
    (RuntimeError(raised(ExceptionGroup("g", [ValueError("bad")]))), "RuntimeError: ValueError: bad"),
    (RuntimeError("Traceback (most recent call last):\n  File 'x', line 1\n    secret("), "RuntimeError"),
]


@pytest.mark.parametrize(("error", "text"), ERRORS, ids=[text[:24] for _, text in ERRORS])
def test_what_is_told_of_an_error(error: BaseException, text: str) -> None:
    assert error_text(error) == text


def test_what_a_real_program_wrote_is_cut_to_its_last_line() -> None:
    code = "def f(password): raise PermissionError('not for you')\nf('hunter2')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert error_text(RuntimeError(done.stderr)) == "RuntimeError: PermissionError: not for you"


@given(
    st.lists(st.text() | st.sampled_from(["Traceback (most recent call last):", "\n", "  File ", "\\n"])).map("".join)
)
def test_errors_are_told_in_one_bounded_piece_that_can_be_sent(message: str) -> None:
    for error in (ValueError(message), ExceptionGroup("g", [ValueError(message)] * 50)):
        told = error_text(error)
        assert len(told) <= 2000
        told.encode()
        assert "Traceback (most recent call last)" not in told


def test_megabytes_of_errors_cost_next_to_nothing() -> None:
    secret = "password=" + "x7" * 15_000
    deep: list[Any] = [ValueError("leaf")]
    for _ in range(5_000):
        deep = [ExceptionGroup("g", deep)]
    started = time.process_time()
    assert error_text(deep[0]) == "ValueError: leaf"
    assert "x7" not in error_text(ValueError("y" * 1_900 + secret))
    assert "x7" not in error_text(ValueError("z" * 19_995 + secret))
    assert len(error_text(ExceptionGroup("g", [ValueError("m" * 10**6)] * 1000))) == 2000
    assert len(error_text(ValueError("Traceback (most recent call last):\n  x\n" * 30_000 + "end"))) < 2000
    assert time.process_time() - started < 2


def stops() -> str:
    raise StopIteration("the well is dry")


async def stops_later() -> str:
    raise StopIteration("the well is dry")


async def ends_later() -> str:
    raise StopAsyncIteration


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("function", "text"),
    [
        (stops, "StopIteration: the well is dry"),
        (stops_later, "StopIteration: the well is dry"),
        (ends_later, "StopAsyncIteration"),
    ],
)
async def test_a_tool_that_stops_an_iteration_is_told_as_just_that(function: Callable[[], Any], text: str) -> None:
    call = AssistantMessage(tool_calls=(ToolCall(function.__name__, {}),))
    result = await Agent(ScriptedModel([call, "Done."]), tools=[function]).run("?")
    assert [message.content for message in result.messages if isinstance(message, ToolMessage)] == [f"Error: {text}"]


def test_another_error_that_came_of_one_is_told_as_it_is() -> None:
    error = RuntimeError("no water")
    error.__cause__ = StopIteration("the well is dry")
    assert error_text(error) == "RuntimeError: no water"
