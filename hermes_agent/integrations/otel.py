"""Spans and metrics of a run, by OpenTelemetry's semantic conventions for generative AI; needs the extra ``otel``.

The conventions are in development: names are those of opentelemetry-semantic-conventions 0.66b2 and of the repository
open-telemetry/semantic-conventions-genai, where they are kept since. Nothing but OpenTelemetry's API is needed here;
where spans and metrics go is settled by the SDK of the program.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from logging import getLogger
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import anyio

from hermes_agent.calls import Waits  # a call that waits has not failed
from hermes_agent.context import RunContext
from hermes_agent.errors import ConfigurationError, RunPaused
from hermes_agent.hooks import Hooks
from hermes_agent.integrations.otel_content import (
    dumped,
    input_messages,
    output_messages,
    readable,
    system_instructions,
    tool_definitions,
)
from hermes_agent.limits import Usage
from hermes_agent.messages import ToolCall, UserMessage
from hermes_agent.models.address import masked
from hermes_agent.models.base import Request
from hermes_agent.models.servers import SERVERS
from hermes_agent.record import CallEnded, TurnWritten
from hermes_agent.tool import Tool

try:
    from opentelemetry.metrics import Meter, MeterProvider, get_meter
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider, get_tracer, use_span
except ImportError as error:
    raise ImportError(
        "hermes_agent.integrations.otel needs OpenTelemetry: pip install 'hermes-agent-sdk[otel]'"
    ) from error

if TYPE_CHECKING:
    from hermes_agent.run import RunResult

__all__ = ["OpenTelemetry"]

Attributes = dict[str, "str | bool | int | float | list[str]"]

CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
"""The variable that OpenTelemetry's own instrumentations read."""

_SECONDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
_RUN_SECONDS = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6]
_TOKENS = [4**power for power in range(14)]

_logger = getLogger("hermes_agent.otel")


class OpenTelemetry(Hooks[Any]):
    """Watches an agent: ``Agent(hooks=[OpenTelemetry()])``.

    A run is a span ``invoke_agent <name>``, in it each turn of the model is a span ``chat <model>`` and each call a
    span ``execute_tool <name>``. Each is the current span while the thing goes on, also in the thread of a ``def``
    tool, so that what happens inside hangs below it: an HTTP request, an agent that is a tool. Durations and tokens
    are metrics too.

    Put it first in ``hooks`` to see what the other hooks do, and last to see what they make of it.

    Args:
        content: Record what was said: instructions, messages, tool definitions, arguments, results and the text of
            errors. ``None`` asks the environment's ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT``, which is
            ``SPAN_ONLY`` or ``SPAN_AND_EVENT`` to record it; else it is not.
        tracer_provider: Where spans go; ``None`` is the one that is set globally.
        meter_provider: Where metrics go; likewise.

    Example:
        >>> from hermes_agent import Agent
        >>> agent = Agent(hooks=[OpenTelemetry()])
    """

    def __init__(
        self,
        *,
        content: bool | None = None,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        if not isinstance(cast("object", content), bool | None):
            raise ConfigurationError(f"content={content!r}", hint="give True, False, or None to ask the environment")
        self._content = _asked_for_content() if content is None else content
        ours = _version()
        self._tracer = get_tracer("hermes_agent", ours, tracer_provider)
        self._metrics = _Metrics(get_meter("hermes_agent", ours, meter_provider))
        self._runs: dict[str, _Seen] = {}

    async def around_run(
        self, context: RunContext[Any], proceed: Callable[[], Awaitable[RunResult[Any]]]
    ) -> RunResult[Any]:
        """The span of a run, which has what its turns used even if it fails."""
        about = {"gen_ai.operation.name": "invoke_agent", **_of_agent(context)}
        model = _of_model(context.model)
        seen = self._runs[context.run_id] = _Seen()
        with self._span(f"invoke_agent {context.agent}".strip(), SpanKind.INTERNAL, {**about, **model}) as opened:
            opened.ending = lambda: self._metrics.run(opened, _chosen(about, "gen_ai.agent.name"))
            try:
                result = await proceed()
            except BaseException:
                opened.note(_of_usage(seen.usage))
                raise
            finally:
                self._runs.pop(context.run_id, None)
            opened.note(_of_usage(result.usage), {"hermes_agent.guarantee": result.guarantee})
            if self._content:
                opened.note(_of_result(result))
            return result

    async def around_turn(
        self, context: RunContext[Any], request: Request, proceed: Callable[[Request], Awaitable[TurnWritten]]
    ) -> TurnWritten:
        """The span of a turn."""
        seen = self._runs.get(context.run_id) or _Seen()
        seen.look_at(request.tools)
        model = _of_model(context.model)
        about = {"gen_ai.operation.name": "chat", **model, **_of_agent(context), **_of_request(request)}
        kind = SpanKind.CLIENT if model["gen_ai.provider.name"] in SERVERS else SpanKind.INTERNAL
        about["hermes_agent.step"] = context.step
        if self._content:
            about |= {
                "gen_ai.input.messages": dumped(input_messages(request.messages)),
                "gen_ai.system_instructions": dumped(system_instructions(request.messages)),
                "gen_ai.tool.definitions": seen.definitions(),
            }
        with self._span(f"chat {model['gen_ai.request.model']}", kind, about) as opened:
            opened.ending = lambda: self._metrics.turn(opened, {"gen_ai.operation.name": "chat", **model})
            written = await proceed(request)
            seen.usage += written.usage
            opened.usage = written.usage
            opened.note(_of_usage(written.usage), _of_turn(written))
            if self._content:
                opened.note({"gen_ai.output.messages": dumped(output_messages(written.turn, _finish(written)))})
            return written

    async def around_call(
        self, context: RunContext[Any], call: ToolCall, proceed: Callable[[ToolCall], Awaitable[CallEnded]]
    ) -> CallEnded:
        """The span of a call."""
        name = readable(call.name)
        about: Attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": name,
            "gen_ai.tool.call.id": call.id,
            "gen_ai.tool.type": "function",
            **_of_agent(context),
            "hermes_agent.step": context.step,
        }
        if described := self._runs.get(context.run_id, _Seen()).described(call.name):
            about["gen_ai.tool.description"] = described
        if self._content:
            about["gen_ai.tool.call.arguments"] = dumped(call.arguments)
        with self._span(f"execute_tool {name}", SpanKind.INTERNAL, about) as opened:
            measured = _chosen(about, "gen_ai.tool.name", "gen_ai.tool.type", "gen_ai.agent.name")
            opened.ending = lambda: self._metrics.call(opened, measured)
            ended = await proceed(call)
            # The name of a tool that there is not was made up by the model: there is no end of such names.
            measured = measured if ended.ran else _chosen(measured, "gen_ai.tool.type", "gen_ai.agent.name")
            if ended.message.is_error:
                opened.fail(_kind_of(ended), ended.error if self._content else "")
            if self._content:
                opened.note({"gen_ai.tool.call.result": readable(ended.message.content)})
            return ended

    @contextmanager
    def _span(self, name: str, kind: SpanKind, attributes: Mapping[str, Any]) -> Generator[_Opened]:
        """A span that is current inside of the block, and ends with it as the block did."""
        opened = _Opened(self._tracer.start_span(name, kind=kind, attributes=attributes))
        try:
            with use_span(opened.span, record_exception=False, set_status_on_exception=False):
                try:
                    yield opened
                except (RunPaused, Waits):
                    opened.note({"hermes_agent.paused": True})
                    raise
                except BaseException as error:
                    opened.fail(_type_of(error), str(error) if self._content else "")
                    raise
                finally:
                    opened.ending()  # inside of the span, so that the metric can point at it
        finally:
            opened.span.end()


@dataclass(slots=True)
class _Seen:
    """What the turns of a run told, for its calls and for its end."""

    usage: Usage = field(default_factory=Usage)
    _tools: tuple[Tool, ...] = ()
    _descriptions: dict[str, str] = field(default_factory=dict[str, str])
    _definitions: str | None = None

    def look_at(self, tools: Iterable[Tool]) -> None:
        """Take note of the tools, unless they are those that it knows."""
        offered = tuple(tools)
        if offered != self._tools:
            self._tools, self._definitions = offered, None
            self._descriptions = {tool.name: tool.description for tool in offered}

    def described(self, tool: str) -> str | None:
        return self._descriptions.get(tool)

    def definitions(self) -> str:
        if self._definitions is None:
            self._definitions = dumped(tool_definitions(self._tools))
        return self._definitions


@dataclass(slots=True)
class _Opened:
    """A span that is open."""

    span: Span
    usage: Usage = field(default_factory=Usage)
    failure: Attributes = field(default_factory=dict[str, Any])
    ending: Callable[[], None] = lambda: None
    _began: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began

    def note(self, *attributes: Mapping[str, Any]) -> None:
        for some in attributes:
            self.span.set_attributes(some)

    def fail(self, kind: str, message: str) -> None:
        self.failure = {"error.type": kind}
        self.note(self.failure)
        self.span.set_status(Status(StatusCode.ERROR, readable(message) or None))


class _Metrics:
    """The histograms, with the bounds that the conventions recommend."""

    def __init__(self, meter: Meter) -> None:
        def seconds(name: str, about: str, bounds: list[float]) -> Callable[..., None]:
            return meter.create_histogram(name, "s", about, explicit_bucket_boundaries_advisory=bounds).record

        self._turns = seconds("gen_ai.client.operation.duration", "GenAI operation duration.", _SECONDS)
        self._runs = seconds("gen_ai.invoke_agent.duration", "Duration of an agent invocation.", _RUN_SECONDS)
        self._calls = seconds("gen_ai.execute_tool.duration", "Duration of a tool execution.", _SECONDS)
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )

    def turn(self, opened: _Opened, about: Attributes) -> None:
        self._turns(opened.seconds, {**about, **opened.failure})
        for kind, tokens in (("input", opened.usage.input_tokens), ("output", opened.usage.output_tokens)):
            if tokens:  # 0 stands for a model that does not count
                self._tokens.record(tokens, {**about, "gen_ai.token.type": kind})

    def run(self, opened: _Opened, about: Attributes) -> None:
        self._runs(opened.seconds, {**about, **opened.failure})

    def call(self, opened: _Opened, about: Attributes) -> None:
        self._calls(opened.seconds, {**about, **opened.failure})


def _version() -> str:
    try:
        return version("hermes-agent-sdk")
    except PackageNotFoundError:  # a checkout on the path
        return ""


def _asked_for_content() -> bool:
    asked = os.environ.get(CAPTURE, "").strip().upper()
    if asked not in ("", "NO_CONTENT", "SPAN_ONLY", "EVENT_ONLY", "SPAN_AND_EVENT", "TRUE", "FALSE"):
        _logger.warning("%s=%r is not known: no content is recorded; SPAN_ONLY records it", CAPTURE, asked)
    return asked in ("SPAN_ONLY", "SPAN_AND_EVENT", "TRUE")  # true is what older instrumentations take


def _of_agent(context: RunContext[Any]) -> Attributes:
    return {"gen_ai.agent.name": context.agent, "gen_ai.conversation.id": context.run_id}


def _of_model(name: str) -> Attributes:
    """Provider, model and server out of a model's name, such as ``vllm:hermes@http://host:8000/v1``."""
    provider, colon, model = name.partition(":")
    provider = provider.partition("+")[0]
    if not colon or not (provider in SERVERS or provider == "hf"):
        return {"gen_ai.provider.name": "hermes_agent", "gen_ai.request.model": masked(name)}
    model, found, url = model.partition("@http")
    about: Attributes = {"gen_ai.provider.name": provider, "gen_ai.request.model": model}
    if found:
        about |= _of_server(f"http{url}")
    elif provider in SERVERS and (usual := SERVERS[provider].base_url):
        about |= _of_server(usual)
    return about


def _of_server(url: str) -> Attributes:
    parts = urlsplit(url)
    if not parts.hostname:
        return {}
    return {"server.address": parts.hostname, "server.port": parts.port or (80 if parts.scheme == "http" else 443)}


def _of_result(result: RunResult[Any]) -> Attributes:
    """What was asked, and what was answered."""
    asked = next((message for message in reversed(result.messages) if isinstance(message, UserMessage)), None)
    about: Attributes = {"gen_ai.input.messages": dumped(input_messages([asked]))} if asked else {}
    if result.turns:
        about["gen_ai.output.messages"] = dumped(output_messages(result.turns[-1], "stop"))
    return about


def _of_request(request: Request) -> Attributes:
    asked = request.sampling
    given = {
        "gen_ai.request.max_tokens": request.max_tokens,
        "gen_ai.request.temperature": asked.temperature,
        "gen_ai.request.top_p": asked.top_p,
        "gen_ai.request.top_k": asked.top_k,
        "gen_ai.request.seed": asked.seed,
        "hermes_agent.request.repetition_penalty": asked.repetition_penalty,
    }
    about: Attributes = {name: value for name, value in given.items() if value is not None}
    about["gen_ai.output.type"] = "json" if request.output.kind == "json" else "text"
    return about


def _of_usage(usage: Usage) -> Attributes:
    about: Attributes = {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage.thinking_tokens,
    }
    return {name: tokens for name, tokens in about.items() if tokens}


def _of_turn(written: TurnWritten) -> Attributes:
    turn = written.turn
    repairs = dict.fromkeys((*turn.repairs, *(repair for call in turn.tool_calls for repair in call.repairs)))
    about: Attributes = {
        "gen_ai.response.finish_reasons": [_finish(written)],
        "hermes_agent.thinking": turn.thinking,
        "hermes_agent.guarantee": written.guarantee,
        "hermes_agent.faults": [fault.kind for fault in turn.faults],
        "hermes_agent.repairs": list(repairs),
    }
    return {name: value for name, value in about.items() if value}


def _finish(written: TurnWritten) -> str:
    """Why the turn ended, in the words of the conventions, which tell a turn with calls from an answer."""
    return "tool_call" if written.finish == "stop" and written.turn.tool_calls else written.finish


def _kind_of(ended: CallEnded) -> str:
    """The class of error of a call; what a tool raised is written as ``Type: message``."""
    if ended.error:
        return ended.error.partition(":")[0].partition("(")[0].strip()
    return "invalid_call" if ended.invalid else "_OTHER" if ended.ran else "refused"


def _type_of(error: BaseException) -> str:
    if isinstance(error, anyio.get_cancelled_exc_class() | GeneratorExit):
        return "cancelled"
    kind = type(error)
    return kind.__qualname__ if kind.__module__ in ("builtins", "hermes_agent.errors") else (
        f"{kind.__module__}.{kind.__qualname__}"
    )  # fmt: skip


def _chosen(attributes: Attributes, *names: str) -> Attributes:
    return {name: attributes[name] for name in names if name in attributes}
