"""What a user holds: construction refuses what cannot work, three verbs do the same, types are what they should be."""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator, Callable
from typing import Any, Literal, assert_type

import anyio
import pytest
from pydantic import BaseModel

from hermes_agent import (
    Agent,
    ConfigurationError,
    Example,
    HermesError,
    InvalidTurnError,
    JsonSchema,
    Limits,
    Reasoning,
    Regex,
    RunContext,
    RunResult,
    RunStream,
    Tool,
)
from hermes_agent.events import (
    CallCompleted,
    Event,
    Final,
    StepFinished,
    StepStarted,
    TextDelta,
    ToolFinished,
    ToolStarted,
)
from hermes_agent.messages import AssistantMessage, ToolCall
from hermes_agent.models.base import Chunk, Model, Request
from hermes_agent.testing import ScriptedModel


class Report(BaseModel):
    city: str
    coat: bool


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


CALL = AssistantMessage(tool_calls=(ToolCall("add", {"a": 1, "b": 2}),))


untyped: Any = eval("lambda x: x")  # a lambda, without its unknown types
# What a type checker would not let through.
make_agent: Any = Agent
make_reasoning: Any = Reasoning


@pytest.mark.parametrize(
    ("make", "named", "way_out"),
    [
        (lambda: make_agent(tool_choice="required"), "'required'", "pass tools"),
        (lambda: make_agent(tools=[add], tool_choice="subtract"), "'subtract'", "add"),
        (lambda: make_agent(tools=[add, add]), "'add'", "another name"),
        (lambda: make_agent(tools=[add], parallel=0), "parallel=0", "number"),
        (lambda: make_agent(tools=[add], parallel=-3), "parallel=-3", "number"),
        (lambda: make_agent(tools=[untyped]), "lambda", ""),
        (lambda: make_agent(tools=[print]), "print", ""),
        (lambda: make_agent(tools=add), "add", "[...]"),
        (lambda: make_agent(tools=[Tool.from_schema(name="none", parameters={})]), "'none'", "rename"),
        (lambda: make_agent(3.5).model, "3.5", "embedded"),
        (lambda: make_agent(tools=["add"]), "'add'", ""),
        (lambda: make_agent(output=Callable[[int], int]), "Callable", ""),
        (lambda: make_agent(output={"type": "object"}), "{'type': 'object'}", "JsonSchema"),
        (lambda: make_agent(output=JsonSchema({"type": "nothing"})), "nothing", ""),
        (lambda: make_agent(output=JsonSchema({"enum": []})), "", ""),
        (lambda: make_agent(output=JsonSchema({"type": "integer", "minimum": 3, "maximum": 2})), "", ""),
        (lambda: make_agent(output=Regex("(")), "'('", ""),
        (lambda: make_agent(reasoning="maybe"), "'maybe'", "'auto'"),
        (lambda: make_agent(reasoning=make_reasoning("on", "some")), "'some'", "'last'"),
        (lambda: make_agent(constrain="hard"), "'hard'", "'strict'"),
        (lambda: make_agent(on_tool_error="ignore"), "'ignore'", "'raise'"),
        (lambda: make_agent(tools=[add], examples=[Example("q", [("sub", {}, "")])]), "'sub'", "examples"),
        (
            lambda: make_agent(tools=[add], examples=[Example("q", [("add", {"a": "x", "b": 1}, "")])]),
            "'x'",
            "examples",
        ),
        (lambda: make_agent(output=Report, examples=[Example("q", answer="Paris")]), "Paris", "examples"),
        (lambda: make_agent(limits=Limits(steps=0)), "steps=0", "None"),
        (lambda: make_agent(limits=Limits(corrections=-1)), "corrections=-1", ""),
        (lambda: make_agent("gpt-5").model, "'gpt-5'", "hf:"),
        (lambda: make_agent("hf:").model, "'hf:'", "hf:"),
    ],
)
def test_what_cannot_work_is_refused_by_name_with_a_way_out(make: Callable[[], Any], named: str, way_out: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert named in caught.value.message
    assert caught.value.hint
    assert way_out in str(caught.value)


def test_the_three_verbs_do_the_same() -> None:
    def agent() -> Agent[None, str]:
        return Agent(ScriptedModel([CALL, "It is 3."], chunk_size=3), tools=[add])

    async def streamed() -> RunResult[str]:
        async with agent().stream("?") as stream:
            async for _ in stream:
                pass
        return stream.result

    async def awaited() -> RunResult[str]:
        return await agent().run("?")

    assert agent().run_sync("?") == anyio.run(awaited) == anyio.run(streamed)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_stream_tells_what_happens_in_order(backend: str) -> None:
    async def go() -> list[Event]:
        agent = Agent(ScriptedModel([CALL, "It is 3."], chunk_size=4), tools=[add])
        async with agent.stream("?") as stream:
            return [event async for event in stream]

    events = anyio.run(go, backend=backend)
    kinds = [type(event) for event in events]
    order = [StepStarted, CallCompleted, StepFinished, ToolStarted, ToolFinished, StepStarted, StepFinished, Final]
    assert [kind for kind in kinds if kind in order] == order
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "It is 3."
    assert events[-1] == Final("It is 3.")


def test_a_word_comes_out_with_the_chunk_that_brought_it() -> None:
    """The reader sees text while the model still writes: the model waits until the first word was read."""

    class Waiting(ScriptedModel):
        read = False

        async def generate(self, request: Request) -> AsyncGenerator[Chunk, None]:
            yield Chunk("Hello ")
            yield Chunk("there")
            while not self.read:
                await anyio.lowlevel.checkpoint()
            yield Chunk(".", "stop")

    async def go() -> str:
        model = Waiting([])
        async with Agent(model).stream("?") as stream:
            async for event in stream:
                model.read = model.read or isinstance(event, TextDelta)
        return stream.result.output

    assert anyio.run(go) == "Hello there."


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_leaving_a_stream_cancels_the_model_and_the_tools(backend: str) -> None:
    stopped: list[str] = []

    async def wait() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            stopped.append("tool")

    class Watched(ScriptedModel):
        async def generate(self, request: Request) -> AsyncGenerator[Chunk, None]:
            try:
                async for chunk in super().generate(request):
                    yield chunk
            finally:
                stopped.append("model")

    async def go() -> None:
        agent = Agent(
            Watched([AssistantMessage(tool_calls=(ToolCall("wait", {}),))]),
            tools=[wait],
            limits=Limits(tool_seconds=None),
        )
        async with agent.stream("?") as stream:
            async for event in stream:
                if isinstance(event, ToolStarted):
                    await anyio.wait_all_tasks_blocked()
                    break

    anyio.run(go, backend=backend)
    gc.collect()
    assert stopped == ["model", "tool"]


def test_the_error_of_a_stream_comes_out_bare() -> None:
    async def go() -> None:
        async with Agent(ScriptedModel(["<tool_call>x</tool_call>"] * 9), tools=[add]).stream("?") as stream:
            with pytest.raises(InvalidTurnError):
                async for _ in stream:
                    pass
            with pytest.raises(InvalidTurnError):
                _ = stream.result

    anyio.run(go)


def test_what_the_reader_raises_comes_out_bare() -> None:
    async def go() -> None:
        async with Agent(ScriptedModel(["x"])).stream("?") as stream:
            async for _ in stream:
                raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        anyio.run(go)


def test_a_result_needs_a_stream_read_to_its_end() -> None:
    async def go() -> None:
        async with Agent(ScriptedModel(["x"])).stream("?") as stream:
            with pytest.raises(ConfigurationError, match="no result yet"):
                _ = stream.result

    anyio.run(go)


def test_run_sync_inside_a_loop_says_what_to_do() -> None:
    async def go() -> None:
        with pytest.raises(ConfigurationError, match=r"await agent\.run"):
            Agent(ScriptedModel(["x"])).run_sync("?")

    anyio.run(go)


def test_the_environment_names_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERMES_SDK_MODEL", "no-such-provider:x")
    with pytest.raises(ConfigurationError, match="no-such-provider:x"):
        _ = Agent().model


def test_errors_print_their_hint() -> None:
    error = HermesError("broken 'x'", hint="mend it", raw="x")
    assert str(error) == "broken 'x'\n  hint: mend it"


def test_types_are_inferred() -> None:
    def context_tool(ctx: RunContext[float], x: int) -> str:
        return str(ctx.deps * x)

    model: Model = ScriptedModel(['{"city": "Paris", "coat": true}'])
    result = Agent(model, tools=[add], output=Report).run_sync("?")
    assert_type(result.output, Report)
    assert_type(Agent(), Agent[None, str])
    assert_type(Agent(tools=[add]), Agent[None, str])
    assert_type(Agent(output=list[Report]), Agent[None, list[Report]])
    assert_type(Agent(output=Report | None), Agent[None, Report | None])
    assert_type(Agent(output=Literal["yes", "no"]), Agent[None, Literal["yes", "no"]])
    assert_type(Agent(output=Regex("[a-z]+")), Agent[None, str])
    assert_type(Agent(tools=[context_tool], output=int, deps_type=float), Agent[float, int])
    assert_type(Agent(output=int, examples=[Example("1+1?", answer="2")]), Agent[None, int])


async def stream_types(agent: Agent[None, Report]) -> None:
    async with agent.stream("?") as stream:
        assert_type(stream, RunStream[Report])
        assert_type(stream.result.output, Report)
