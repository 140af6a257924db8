"""A server that answers what it was told to, over real sockets, and one turn against it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from hermes_agent.formats import parse
from hermes_agent.messages import UserMessage
from hermes_agent.models.base import Chunk, Request
from hermes_agent.models.endpoint import Endpoint
from hermes_agent.models.servers import Wire
from hermes_agent.tool import Tool
from hermes_agent.turn import Turn
from tests.loopback import Asked, Client, Loopback

__all__ = [
    "ADD",
    "CALL",
    "Came",
    "Reply",
    "Told",
    "add",
    "call_deltas",
    "deltas",
    "native",
    "say",
    "texts",
    "with_prefix",
]

Reply = Sequence[Any] | tuple[int, str]
"""Events of a stream, or its bytes; or a status and a body."""


@dataclass
class Told(Loopback):
    """Answers one request after the other with what it was told; the last answer stays."""

    replies: list[Reply] = field(default_factory=list[Reply])

    def __post_init__(self) -> None:
        super().__init__()

    async def answer(self, asked: Asked, client: Client) -> None:
        if not asked.path.endswith("completions"):
            await client.whole(404, {"content-type": "application/json"}, b'{"error": {"message": "no such path"}}')
            return
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, tuple):
            await client.whole(reply[0], {"content-type": "application/json"}, reply[1].encode())
            return
        await client.head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})
        for event in reply:
            await client.chunk(event if isinstance(event, bytes) else f"data: {json.dumps(event)}\n\n".encode())
        await client.chunk(b"data: [DONE]\n\n")
        await client.chunk(b"")


def deltas(*found: dict[str, Any], finish: str = "stop") -> list[Any]:
    return [
        *({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in found),
        {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]},
    ]


def texts(*found: str, finish: str = "stop", tokens: int | None = None) -> list[Any]:
    events: list[Any] = [{"choices": [{"index": 0, "text": text, "finish_reason": None}]} for text in found]
    events.append({"choices": [{"index": 0, "text": "", "finish_reason": finish}]})
    if tokens is not None:
        events.append({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": tokens}})
    return events


def add(a: int, b: int = 0) -> int:
    """Add."""
    return a + b


ADD = Tool.of(add)
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'


@dataclass(frozen=True, slots=True)
class Came:
    text: str
    last: Chunk
    asked: list[dict[str, Any]]

    @property
    def turn(self) -> Turn:
        return parse(self.text, tools=[ADD], finish_reason=self.last.finish_reason)


async def say(
    *replies: Reply,
    server: str = "vllm",
    wire: Wire | Literal["auto"] = "chat",
    make: Callable[[Request], Request] = lambda request: request,
    **request: Any,
) -> Came:
    """One turn against a server that answers so."""
    request.setdefault("messages", [UserMessage("Hi")])
    with Told([*replies]) as told:
        endpoint = Endpoint("m", server=server, base_url=told.url, wire=wire, api_key="k", max_retries=0)
        chunks = [chunk async for chunk in endpoint.generate(make(Request(**request)))]
        await endpoint.aclose()
        asked = [a.json for a in told.requests if a.path.endswith("completions")]
    assert all(chunk.finish_reason is None for chunk in chunks[:-1])
    return Came("".join(chunk.text for chunk in chunks), chunks[-1], asked)


def call_deltas(*functions: dict[str, Any], index: int | None = 0, call_id: str | None = "c1") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for place, function in enumerate(functions):
        call: dict[str, Any] = {"id": call_id if place == 0 else None, "function": function}
        found.append({"tool_calls": [call if index is None else {"index": index, **call}]})
    return found


async def native(*found: dict[str, Any], finish: str = "tool_calls") -> Came:
    return await say(deltas(*found, finish=finish), wire="native", tools=[ADD])


def with_prefix(request: Request, prefix: str) -> Request:
    return replace(request, prefix=prefix)
