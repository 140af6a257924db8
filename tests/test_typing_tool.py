"""What the type checkers must conclude; mypy and pyright check this file, pytest only runs it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, assert_type

from hermes_agent.context import RunContext
from hermes_agent.output import JsonSchema, Output, Regex
from hermes_agent.tool import Tool, tool


@dataclass
class Report:
    title: str


def plain(n: int) -> int:
    return n


async def waited(ctx: RunContext[str], n: int) -> str:
    return assert_type(ctx.deps, str) * n


def test_tools() -> None:
    assert_type(Tool.of(plain), Tool)
    assert_type(tool(plain), Tool)
    assert_type(tool(waited), Tool)
    assert_type(tool(name="other", timeout=1.0)(plain), Tool)
    assert_type(Tool.from_schema(name="t", parameters={}), Tool)
    assert_type(Tool.of(plain).validate({"n": 1}), dict[str, Any])


def test_outputs() -> None:
    assert_type(Output.of(str), Output[str])
    assert_type(Output.text(), Output[str])
    assert_type(Output.of(Report), Output[Report])
    assert_type(Output.of(Report).validate('{"title": "x"}'), Report)
    assert_type(Output.of(list[int]), Output[list[int]])
    assert_type(Output.of(int | None), Output[int | None])
    assert_type(Output.of(Literal["a", "b"]), Output[Literal["a", "b"]])
    assert_type(Output.of(Report | int).validate("1"), Report | int)
    assert_type(Output.of(Regex("a+")), Output[str])
    assert_type(Output.of(re.compile("a+")), Output[str])
    assert_type(Output.of(JsonSchema({})), Output[Any])
    assert_type(Output.of(Output.of(Report)), Output[Report])


def test_contexts() -> None:
    assert_type(RunContext(3), RunContext[int])
    assert_type(RunContext(3).deps, int)
