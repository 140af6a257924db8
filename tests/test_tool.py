from __future__ import annotations

import contextvars
import functools
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes_agent.context import Retry, RunContext
from hermes_agent.errors import ToolDefinitionError
from hermes_agent.tool import Tool, ToolArgumentsError, tool


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def add(a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "minLength": 1}, "days": {"type": "integer", "maximum": 5}},
    "required": ["city"],
}


# Making


def test_the_decorator_bare_and_with_settings() -> None:
    @tool
    def bare(n: int) -> int:
        return n

    @tool(name="renamed", description="Said here.", timeout=2.5)
    def full(n: int) -> int:
        return n

    assert (bare.name, bare.description, bare.timeout) == ("bare", "", None)
    assert (full.name, full.description, full.timeout) == ("renamed", "Said here.", 2.5)
    assert Tool.of(full) is full


def test_a_tool_is_a_value() -> None:
    one, other = Tool.of(add), Tool.of(add)
    assert one == other
    assert hash(one) == hash(other)
    assert one != tool(name="plus")(add)
    with pytest.raises(AttributeError):
        one.name = "x"  # type: ignore[misc]  # what is tested


@pytest.mark.parametrize("name", ["", "a b", "a\n", "<tool_call>", 'a"', "é", "-a", "x" * 129])
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(ToolDefinitionError, match="cannot be the name of a tool") as caught:
        tool(name=name)(add)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("name", ["a", "math.factorial", "ns/tool:v1-b", "_x", "9", "x" * 128])
def test_names_in_use_are_taken(name: str) -> None:
    assert tool(name=name)(add).name == name


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_that_allows_nothing_is_refused(timeout: float) -> None:
    with pytest.raises(ToolDefinitionError, match=f"timeout={timeout!r}"):
        tool(timeout=timeout)(add)


# Arguments


def test_problems_are_listed_for_the_model() -> None:
    with pytest.raises(ToolArgumentsError) as caught:
        Tool.of(add).validate({"b": "two", "c": 3})
    assert str(caught.value) == (
        "The arguments of 'add' do not fit its schema:\n"
        "- a: is required, and missing\n"
        "- b: input should be a valid integer, unable to parse string as an integer, got 'two'\n"
        "- c: there is no such name"
    )
    assert len(caught.value.problems) == 3


def test_values_are_shown_short_and_problems_bounded() -> None:
    def take(numbers: list[int]) -> None: ...

    with pytest.raises(ToolArgumentsError) as caught:
        Tool.of(take).validate({"numbers": ["x" * 10_000] * 1_000})
    assert len(str(caught.value)) < 4_000
    assert caught.value.problems[-1] == "- and 990 more"
    assert "numbers[0]: " in caught.value.problems[0]


@pytest.mark.parametrize(
    "arguments",
    [{"a": float("nan")}, {"a": object()}, {"a": 10**5000}, {"a": {1, 2}}, {"a": b"x"}],
    ids=["nan", "object", "long", "set", "bytes"],
)
def test_arguments_that_are_not_json_are_refused(arguments: dict[str, Any]) -> None:
    for made in (Tool.of(add), Tool.from_schema(name="t", parameters={})):
        with pytest.raises(ToolArgumentsError, match="not JSON"):
            made.validate(arguments)


def test_arguments_nested_without_end_are_refused() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    for made in (Tool.of(add), Tool.from_schema(name="t", parameters=SCHEMA)):
        with pytest.raises(ToolArgumentsError):
            made.validate({"a": deep, "city": deep})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)  # the first use imports or compiles
@given(st.dictionaries(st.sampled_from(["a", "b", "city", "days", ""]), JSON))
def test_any_arguments_are_read_or_refused(arguments: dict[str, Any]) -> None:
    for made in (Tool.of(add), Tool.from_schema(name="t", parameters=SCHEMA)):
        try:
            read = made.validate(arguments)
        except ToolArgumentsError:
            continue
        assert read.keys() <= arguments.keys()


@settings(deadline=None)  # the first use imports or compiles
@given(st.integers(), st.integers())
def test_numbers_are_exact(a: int, b: int) -> None:
    assert Tool.of(add).validate({"a": a, "b": str(b)}) == {"a": a, "b": b}


# Known by schema only


def test_from_schema_coerces_nothing() -> None:
    made = Tool.from_schema(name="weather", description="Weather.", parameters=SCHEMA)
    assert made.validate({"city": "Paris", "extra": [1]}) == {"city": "Paris", "extra": [1]}
    with pytest.raises(ToolArgumentsError) as caught:
        made.validate({"city": "", "days": "3"})
    assert caught.value.problems == ("- city: '' should be non-empty", "- days: '3' is not of type 'integer'")


def test_parameters_without_a_type_are_an_object() -> None:
    assert Tool.from_schema(name="t", parameters={}).parameters == {"type": "object"}


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({"type": "array"}, "parameters of type 'array'"),
        ({"properties": {"a": {"type": "dict"}}}, r"properties\.a\.type: 'dict' is not valid"),
        ({"properties": {"a": {"pattern": "("}}}, r"'\('"),
        ({"properties": {"a": {"$ref": "#/$defs/None"}}}, "'#/\\$defs/None' refers to nothing"),
        ({"$ref": "http://127.0.0.1:1/schema.json"}, "nothing is fetched"),
    ],
)
def test_a_bad_schema_is_refused(parameters: dict[str, Any], why: str) -> None:
    with pytest.raises(ToolDefinitionError, match=why) as caught:
        Tool.from_schema(name="t", parameters=parameters)
    assert "'t'" in str(caught.value)
    assert "hint: " in str(caught.value)


def test_a_call_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(ToolDefinitionError, match="cannot call 3"):
        Tool.from_schema(name="t", parameters={}, call=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # what is tested


@pytest.mark.anyio
async def test_a_tool_without_a_function_cannot_be_run_here() -> None:
    with pytest.raises(ToolDefinitionError, match=r"(?s)'t' has only a schema.*from_schema\(call="):
        await Tool.from_schema(name="t", parameters={}).call({})


@pytest.mark.anyio
async def test_from_schema_with_a_call() -> None:
    async def run(ctx: RunContext[str], **arguments: object) -> object:
        return ctx.deps, arguments

    made = Tool.from_schema(name="t", parameters=SCHEMA, call=run)
    assert made.takes_context
    assert await made.call(made.validate({"city": "x"}), RunContext("deps")) == ("deps", {"city": "x"})


# Running


class Counter:
    async def __call__(self, n: int) -> int:
        return threading.get_ident() if n else 0


async def on_loop(n: int) -> int:
    return threading.get_ident()


def in_thread(n: int) -> int:
    return threading.get_ident()


def gives_awaitable(n: int) -> Awaitable[int]:
    return on_loop(n)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "function",
    [on_loop, functools.partial(on_loop), Counter(), gives_awaitable, Counter().__call__],
    ids=["function", "partial", "object", "awaitable", "method"],
)
async def test_async_functions_run_on_the_loop(function: Callable[..., object]) -> None:
    assert await Tool.of(function).call({"n": 1}) == threading.get_ident()


@pytest.mark.anyio
@pytest.mark.parametrize("function", [in_thread, functools.partial(in_thread)])
async def test_plain_functions_run_in_a_thread(function: Callable[..., object]) -> None:
    assert await Tool.of(function).call({"n": 1}) != threading.get_ident()


@pytest.mark.anyio
async def test_the_context_is_handed_over() -> None:
    def read(ctx: RunContext[dict[str, int]], key: str) -> int:
        return ctx.deps[key]

    made = Tool.of(read)
    assert await made.call({"key": "a"}, RunContext({"a": 7})) == 7
    with pytest.raises(ToolDefinitionError, match="'read' takes a RunContext"):
        await made.call({"key": "a"})


@pytest.mark.anyio
async def test_exceptions_pass_through() -> None:
    def retry() -> None:
        raise Retry("again")

    async def fail() -> None:
        raise KeyError("k")

    with pytest.raises(Retry, match="again"):
        await Tool.of(retry).call({})
    with pytest.raises(KeyError):
        await Tool.of(fail).call({})


@pytest.mark.anyio
async def test_context_variables_reach_the_thread() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("seen")

    def read() -> str:
        return variable.get()

    assert await Tool.of(read).call({}) == "seen"


@pytest.mark.anyio
async def test_a_hanging_thread_is_left_behind() -> None:
    release = threading.Event()
    started = anyio.Event()
    token = anyio.lowlevel.current_token()

    def hang() -> None:
        anyio.from_thread.run_sync(started.set, token=token)
        release.wait(60)

    try:
        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                group.start_soon(Tool.of(hang).call, dict[str, object]())
                await started.wait()
                group.cancel_scope.cancel()
        assert not release.is_set()
    finally:
        release.set()


def test_importing_tool_and_output_is_light() -> None:
    code = (
        "import sys, hermes_agent.tool, hermes_agent.output; "
        "heavy = {'pydantic', 'jsonschema', 'anyio', 'docstring_parser', 'asyncio'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
