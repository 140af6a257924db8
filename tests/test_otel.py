"""Spans and metrics of real runs, as OpenTelemetry's own in-memory exporters see them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from hermes_agent import Agent, LimitExceededError, Limits, ModelError, Retry, RunContext, Sampling, tool
from hermes_agent.errors import ConfigurationError, RunPaused, ToolFailedError
from hermes_agent.formats.parser import parse
from hermes_agent.formats.wire import serialise_call
from hermes_agent.integrations.otel import CAPTURE, OpenTelemetry
from hermes_agent.integrations.otel_content import dumped, input_messages, output_messages
from hermes_agent.messages import AssistantMessage, Message, SystemMessage, ToolCall, ToolMessage, UserMessage
from hermes_agent.testing import ScriptedModel

SECRET = "a secret about Paris"


@dataclass
class Seen:
    """Where a test's spans and metrics go."""

    spans: InMemorySpanExporter
    metrics: InMemoryMetricReader
    tracers: TracerProvider
    meters: MeterProvider

    def hook(self, *, content: bool | None = None) -> OpenTelemetry:
        return OpenTelemetry(content=content, tracer_provider=self.tracers, meter_provider=self.meters)

    def named(self, start: str) -> list[ReadableSpan]:
        return [span for span in self.spans.get_finished_spans() if span.name.startswith(start)]

    def one(self, start: str) -> ReadableSpan:
        (span,) = self.named(start)
        return span

    def points(self, metric: str) -> list[HistogramDataPoint]:
        data = self.metrics.get_metrics_data()
        assert data is not None
        found = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics if m.name == metric]
        return [point for m in found for point in m.data.data_points if isinstance(point, HistogramDataPoint)]


@pytest.fixture
def seen() -> Iterator[Seen]:
    spans, metrics = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(), MeterProvider(metric_readers=[metrics])
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    yield Seen(spans, metrics, tracers, meters)
    tracers.shutdown()
    meters.shutdown()


def attributes(span: ReadableSpan) -> Mapping[str, Any]:
    return dict(span.attributes or {})


def parent(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


def identity(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def calls(*made: tuple[str, dict[str, Any]]) -> str:
    return "\n".join(serialise_call(name, arguments) for name, arguments in made)


def weather(city: str) -> str:
    """The weather of a city.

    Args:
        city: Its name.
    """
    with trace.get_tracer("test", tracer_provider=PROVIDERS[-1]).start_as_current_span("GET in a thread"):
        return f"It rains in {city}: {SECRET}."


async def clock(city: str) -> str:
    """The time in a city."""
    with trace.get_tracer("test", tracer_provider=PROVIDERS[-1]).start_as_current_span("GET on the loop"):
        await anyio.lowlevel.checkpoint()
        return f"Noon in {city}."


PROVIDERS: list[TracerProvider] = []


@pytest.fixture(autouse=True)
def provider(seen: Seen) -> Iterator[None]:
    PROVIDERS.append(seen.tracers)
    yield
    PROVIDERS.pop()


def agent(seen: Seen, turns: Sequence[str], *, content: bool | None = None, **settings: Any) -> Agent[None, str]:
    made: Agent[None, str] = Agent(
        ScriptedModel(turns), name="helper", hooks=[seen.hook(content=content)], tools=[weather, clock], **settings
    )
    return made


@pytest.mark.anyio
async def test_a_run_is_a_tree_of_spans(seen: Seen) -> None:
    asked = [("weather", {"city": "Paris"}), ("clock", {"city": "Rome"})]
    sampling = Sampling(temperature=0.5, top_p=0.9, top_k=40, seed=7)
    helper = agent(seen, [calls(*asked), "It rains."], sampling=sampling, instructions=f"Keep {SECRET}.")
    result = await helper.run(f"Tell {SECRET}")
    run = seen.one("invoke_agent helper")
    assert parent(run) is None
    assert run.kind is SpanKind.INTERNAL
    assert run.status.status_code is StatusCode.UNSET
    first, second = seen.named("chat scripted")
    tools = {span.name: span for span in seen.named("execute_tool")}
    assert set(tools) == {"execute_tool weather", "execute_tool clock"}
    assert {parent(span) for span in (first, second, *tools.values())} == {identity(run)}
    assert parent(seen.one("GET in a thread")) == identity(tools["execute_tool weather"])
    assert parent(seen.one("GET on the loop")) == identity(tools["execute_tool clock"])

    about = attributes(first)
    assert about["gen_ai.operation.name"] == "chat"
    assert about["gen_ai.provider.name"] == "hermes_agent"
    assert about["gen_ai.request.model"] == "scripted"
    assert about["gen_ai.request.temperature"] == 0.5
    assert about["gen_ai.request.top_p"] == 0.9
    assert about["gen_ai.request.top_k"] == 40
    assert about["gen_ai.request.seed"] == 7
    assert about["gen_ai.request.max_tokens"] == 4096
    assert about["gen_ai.output.type"] == "text"
    assert about["gen_ai.agent.name"] == "helper"
    assert about["gen_ai.conversation.id"] == result.run_id != ""
    assert about["gen_ai.response.finish_reasons"] == ("tool_call",)
    assert about["hermes_agent.step"] == 1
    assert attributes(second)["gen_ai.response.finish_reasons"] == ("stop",)
    assert about["gen_ai.usage.output_tokens"] > 0
    assert attributes(run)["gen_ai.usage.output_tokens"] == result.usage.output_tokens
    assert attributes(run)["hermes_agent.guarantee"] == "checked"

    call = attributes(tools["execute_tool weather"])
    assert call["gen_ai.tool.name"] == "weather"
    assert call["gen_ai.tool.type"] == "function"
    assert call["gen_ai.tool.description"].startswith("The weather of a city.")
    (message,) = [m for m in result.messages if isinstance(m, ToolMessage) and m.name == "weather"]
    assert call["gen_ai.tool.call.id"] == message.call_id
    assert SECRET not in repr([attributes(span) for span in seen.spans.get_finished_spans()])


@pytest.mark.anyio
async def test_metrics_have_the_bounds_and_attributes_of_the_conventions(seen: Seen) -> None:
    await agent(seen, [calls(("weather", {"city": "Paris"})), "It rains."]).run("Hi")
    (turns,) = seen.points("gen_ai.client.operation.duration")
    assert turns.count == 2
    assert turns.explicit_bounds[:3] == (0.01, 0.02, 0.04)
    assert turns.explicit_bounds[-1] == 81.92
    model = {"gen_ai.provider.name": "hermes_agent", "gen_ai.request.model": "scripted"}
    assert dict(turns.attributes or {}) == {"gen_ai.operation.name": "chat", **model}
    (written,) = seen.points("gen_ai.client.token.usage")  # the scripted model counts no prompts
    assert dict(written.attributes or {})["gen_ai.token.type"] == "output"
    assert written.explicit_bounds == tuple(4**power for power in range(14))
    (run,) = seen.points("gen_ai.invoke_agent.duration")
    assert dict(run.attributes or {}) == {"gen_ai.agent.name": "helper"}
    (call,) = seen.points("gen_ai.execute_tool.duration")
    assert dict(call.attributes or {})["gen_ai.tool.name"] == "weather"


@pytest.mark.anyio
async def test_content_is_recorded_where_it_is_asked_for(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CAPTURE, "span_only")
    turns = [
        f"<think>\nHm.\n</think>\nI look.\n{calls(('weather', {'city': 'Paris'}))}",
        "<think>\nOk.\n</think>\nRain.",
    ]
    await agent(seen, turns, instructions="Be kind.", reasoning="on").run("Weather?")
    run, (first, second) = attributes(seen.one("invoke_agent")), map(attributes, seen.named("chat"))
    question = {"role": "user", "parts": [{"type": "text", "content": "Weather?"}]}
    assert json.loads(run["gen_ai.input.messages"]) == [question]
    (answer,) = json.loads(run["gen_ai.output.messages"])
    assert answer["parts"][-1] == {"type": "text", "content": "Rain."}
    assert json.loads(first["gen_ai.system_instructions"]) == [{"type": "text", "content": "Be kind."}]
    assert json.loads(first["gen_ai.input.messages"]) == [question]
    (spoken,) = json.loads(first["gen_ai.output.messages"])
    assert [part["type"] for part in spoken["parts"]] == ["reasoning", "text", "tool_call"]
    assert spoken["parts"][2]["arguments"] == {"city": "Paris"}
    assert spoken["finish_reason"] == "tool_call"
    later = json.loads(second["gen_ai.input.messages"])
    assert later[2]["parts"][0]["type"] == "tool_call_response"
    assert later[2]["parts"][0]["id"] == later[1]["parts"][-1]["id"] != ""
    definitions = json.loads(first["gen_ai.tool.definitions"])
    assert [definition["name"] for definition in definitions] == ["weather", "clock"]
    call = attributes(seen.one("execute_tool"))
    assert json.loads(call["gen_ai.tool.call.arguments"]) == {"city": "Paris"}
    assert call["gen_ai.tool.call.result"] == f"It rains in Paris: {SECRET}."


@pytest.mark.parametrize("content", ["no", 0, []])
def test_content_is_a_bool(content: Any) -> None:
    with pytest.raises(ConfigurationError, match="content="):
        OpenTelemetry(content=content)


def test_an_unknown_word_in_the_environment_is_said_and_records_nothing(
    seen: Seen, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(CAPTURE, "everything")
    agent(seen, ["Hello."]).run_sync(SECRET)
    assert SECRET not in repr([attributes(span) for span in seen.spans.get_finished_spans()])
    assert "'EVERYTHING' is not known" in caplog.text


@pytest.mark.anyio
async def test_what_a_tool_raises_fails_its_span_alone(seen: Seen) -> None:
    @tool
    def breaks() -> str:
        """It breaks."""
        raise ValueError(SECRET)

    @tool
    def refuses() -> str:
        """It refuses."""
        raise Retry(SECRET)

    made: Agent[None, str] = Agent(
        ScriptedModel([calls(("breaks", {}), ("refuses", {}), ("missing", {})), "Sorry."]),
        tools=[breaks, refuses],
        hooks=[seen.hook()],
    )
    await made.run("Hi")
    failed = {span.name: span for span in seen.named("execute_tool")}
    assert {name: attributes(span)["error.type"] for name, span in failed.items()} == {
        "execute_tool breaks": "ValueError",
        "execute_tool refuses": "invalid_call",
        "execute_tool missing": "invalid_call",
    }
    assert {span.status.status_code for span in failed.values()} == {StatusCode.ERROR}
    assert seen.one("invoke_agent").status.status_code is StatusCode.UNSET
    assert SECRET not in repr([(span.attributes, span.status.description, span.events) for span in failed.values()])
    points = seen.points("gen_ai.execute_tool.duration")
    names = [dict(point.attributes or {}).get("gen_ai.tool.name") for point in points]
    assert sorted(map(str, names)) == ["None", "breaks", "refuses"], (
        "a name that the model made up is no attribute of a metric"
    )


@pytest.mark.anyio
async def test_an_error_ends_every_span_it_passes(seen: Seen) -> None:
    @tool
    def breaks() -> str:
        """It breaks."""
        raise ValueError(SECRET)

    made: Agent[None, str] = Agent(
        ScriptedModel([calls(("breaks", {}))]), tools=[breaks], hooks=[seen.hook(content=True)], on_tool_error="raise"
    )
    with pytest.raises(ToolFailedError):
        await made.run("Hi")
    run = seen.one("invoke_agent")
    assert run.status.status_code is StatusCode.ERROR
    assert attributes(run)["error.type"] == "ToolFailedError"
    assert attributes(run)["gen_ai.usage.output_tokens"] > 0, "what was used until then"
    assert SECRET in (seen.one("execute_tool").status.description or "")


@pytest.mark.anyio
async def test_a_model_that_fails_is_an_error_of_the_turn_and_its_metric(seen: Seen) -> None:
    with pytest.raises(ModelError):
        await agent(seen, []).run("Hi")
    turn = seen.one("chat")
    assert (turn.status.status_code, turn.status.description) == (StatusCode.ERROR, None)
    assert attributes(turn)["error.type"] == "ModelError"
    (point,) = seen.points("gen_ai.client.operation.duration")
    assert dict(point.attributes or {})["error.type"] == "ModelError"


@pytest.mark.anyio
async def test_cancelling_ends_every_span(seen: Seen) -> None:
    started = anyio.Event()

    @tool
    async def hangs() -> str:
        """It hangs."""
        started.set()
        await anyio.sleep_forever()
        return ""

    made: Agent[None, str] = Agent(ScriptedModel([calls(("hangs", {}))]), tools=[hangs], hooks=[seen.hook()])

    async def run() -> None:
        await made.run("Hi")

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await started.wait()
        group.cancel_scope.cancel()
    for name in ("execute_tool", "invoke_agent"):
        assert attributes(seen.one(name))["error.type"] == "cancelled"
        assert seen.one(name).status.status_code is StatusCode.ERROR
    assert trace.get_current_span() is trace.INVALID_SPAN


@pytest.mark.anyio
async def test_a_run_out_of_time_says_so(seen: Seen) -> None:
    @tool
    async def hangs() -> str:
        """It hangs."""
        await anyio.sleep_forever()
        return ""

    made: Agent[None, str] = Agent(
        ScriptedModel([calls(("hangs", {}))]), tools=[hangs], hooks=[seen.hook()], limits=Limits(seconds=1)
    )
    with pytest.raises(LimitExceededError):
        await made.run("Hi")
    assert attributes(seen.one("execute_tool"))["error.type"] == "cancelled"
    assert attributes(seen.one("invoke_agent"))["error.type"] == "LimitExceededError"


@pytest.mark.anyio
async def test_a_run_that_waits_has_not_failed(seen: Seen) -> None:
    @tool(approval=True)
    def pay() -> str:
        """Pay."""
        return "paid"

    made: Agent[None, str] = Agent(ScriptedModel([calls(("pay", {})), "Done."]), tools=[pay], hooks=[seen.hook()])
    with pytest.raises(RunPaused) as paused:
        await made.run("Hi")
    assert attributes(seen.one("invoke_agent"))["hermes_agent.paused"] is True
    assert {span.status.status_code for span in seen.spans.get_finished_spans()} == {StatusCode.UNSET}
    seen.spans.clear()
    (pending,) = paused.value.run.pending
    assert (await made.resume(paused.value.run.approve(pending))).output == "Done."
    assert seen.one("execute_tool pay").status.status_code is StatusCode.UNSET
    assert parent(seen.one("execute_tool pay")) == identity(seen.one("invoke_agent"))


@pytest.mark.anyio
async def test_agents_inside_of_agents_nest(seen: Seen) -> None:
    hook = seen.hook()
    inner: Agent[None, str] = Agent(ScriptedModel(["Noon."]), name="inner", hooks=[hook])
    outer: Agent[None, str] = Agent(
        ScriptedModel([calls(("inner", {"prompt": "Time?"})), "It is noon."]),
        name="outer",
        tools=[inner.as_tool(description="Knows the time.")],
        hooks=[hook],
    )
    await outer.run("Time?")
    assert parent(seen.one("invoke_agent inner")) == identity(seen.one("execute_tool inner"))
    assert parent(seen.one("execute_tool inner")) == identity(seen.one("invoke_agent outer"))
    assert len({span.context.trace_id for span in seen.spans.get_finished_spans() if span.context}) == 1


@pytest.mark.anyio
async def test_runs_side_by_side_do_not_mix(seen: Seen) -> None:
    hook = seen.hook()

    async def one(number: int) -> None:
        turns = [calls(("clock", {"city": str(number)}), ("weather", {"city": str(number)})), "Done."]
        made: Agent[None, str] = Agent(ScriptedModel(turns), name=f"a{number}", tools=[weather, clock], hooks=[hook])
        await made.run("Hi")

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(one, number)
    runs = {identity(span): span for span in seen.named("invoke_agent")}
    assert len(runs) == 20
    for span in (*seen.named("chat"), *seen.named("execute_tool")):
        above = runs[parent(span) or 0]
        for shared in ("gen_ai.agent.name", "gen_ai.conversation.id"):
            assert attributes(span)[shared] == attributes(above)[shared]
    assert not hook._runs, "nothing is kept of a run that is over"  # pyright: ignore[reportPrivateUsage]


def test_a_stream_that_is_left_ends_its_spans(seen: Seen) -> None:
    async def leave() -> None:
        async with agent(seen, [calls(("clock", {"city": "Rome"})), "Done."]).stream("Hi") as stream:
            async for _ in stream:
                break

    asyncio.run(leave())
    assert attributes(seen.one("invoke_agent"))["error.type"] == "cancelled"


@pytest.mark.parametrize(
    ("name", "provider", "model", "server"),
    [
        ("vllm:org/Hermes-4@https://me:word@gpu.example/v1", "vllm", "org/Hermes-4", ("gpu.example", 443)),
        ("vllm+native:m@http://gpu:8123/v1", "vllm", "m", ("gpu", 8123)),
        ("ollama:hermes3:8b", "ollama", "hermes3:8b", ("localhost", 11434)),
        ("hf:org/model", "hf", "org/model", None),
        ("embedded", "hermes_agent", "embedded", None),
        ("my: own", "hermes_agent", "my: own", None),
        ("fallback(a@http://me:word@x/v1)", "hermes_agent", "fallback(a@http://***@x/v1)", None),
    ],
)
def test_names_of_models_are_taken_apart(
    seen: Seen, name: str, provider: str, model: str, server: tuple[str, int] | None
) -> None:
    class Named(ScriptedModel):
        pass

    Named.name = name
    made: Agent[None, str] = Agent(Named(["Hello."]), hooks=[seen.hook()])
    made.run_sync("Hi")
    span = seen.one(f"chat {model}")
    about = attributes(span)
    assert (about["gen_ai.provider.name"], about["gen_ai.request.model"]) == (provider, model)
    assert span.kind is (SpanKind.INTERNAL if server is None else SpanKind.CLIENT)
    assert (about.get("server.address"), about.get("server.port")) == (server or (None, None))
    assert "word" not in repr(about)


@pytest.mark.anyio
async def test_faults_and_repairs_of_a_turn_are_named(seen: Seen) -> None:
    broken = '<tool_call>\n{"name": "weather", "arguments": }\n</tool_call>'
    await agent(seen, [broken, "Never mind."]).run("Hi")
    assert attributes(seen.named("chat")[0])["hermes_agent.faults"] == ("malformed",)


def test_content_can_be_written_by_any_exporter() -> None:
    spoken = parse('x <tool_call>{"name": "f", "arguments": {"a": "\u00e9"}}</tool_call> y <tool_call>{', tools=["f"])
    (message,) = output_messages(spoken, "stop")
    assert [part["type"] for part in message["parts"]] == ["text", "tool_call", "text", "text"]
    told: list[Message] = [
        SystemMessage("no"),
        UserMessage("\ud800"),
        AssistantMessage("a", "b", (ToolCall("f", {"a": 1}),)),
        ToolMessage("r", "f", "call_1"),
    ]
    for value in ([message], input_messages(told)):
        assert json.loads(dumped(value)) == value
        dumped(value).encode("ascii")
    assert [m["role"] for m in input_messages(told)] == ["user", "assistant", "tool"]


def importing(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_opentelemetry_is_imported_by_its_module_alone() -> None:
    show = "import sys; {}; print({!r} in sys.modules)"
    assert importing(show.format("from hermes_agent import Agent", "opentelemetry")) == "False\n"
    assert importing(show.format("import hermes_agent.integrations.otel", "opentelemetry.sdk")) == "False\n"


def test_without_opentelemetry_the_import_says_what_to_install() -> None:
    code = """
import sys
sys.modules["opentelemetry"] = None
try:
    import hermes_agent.integrations.otel
except ImportError as error:
    print(error)
"""
    assert "pip install 'hermes-agent-sdk[otel]'" in importing(code)


def test_the_api_without_an_sdk_is_enough() -> None:
    made: Agent[None, str] = Agent(ScriptedModel(["Hello."]), hooks=[OpenTelemetry(content=True)])
    assert made.run_sync("Hi").output == "Hello."


@pytest.mark.anyio
async def test_the_context_says_which_run_it_is(seen: Seen) -> None:
    told: list[str] = []

    @tool
    async def which(ctx: RunContext[None]) -> str:
        """Which run."""
        told.append(ctx.run_id)
        return "this"

    turns = [calls(("which", {})), "Done."]
    made: Agent[None, str] = Agent(ScriptedModel(turns), tools=[which], hooks=[seen.hook()])
    await made.run("Hi")
    assert attributes(seen.one("execute_tool"))["gen_ai.conversation.id"] == told[0]
