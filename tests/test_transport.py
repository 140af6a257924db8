"""Streams as they come: timed by their text, known by their look, and a place that is free while nobody uses it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

from hermes_agent.errors import ModelUnavailableError
from hermes_agent.messages import UserMessage
from hermes_agent.models.base import Request
from hermes_agent.models.endpoint import Endpoint, Timeouts
from tests.llama_server import LlamaServer
from tests.loopback import Asked, Client, Loopback

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def event(*, finish: str | None = None, **delta: object) -> bytes:
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': delta, 'finish_reason': finish}]})}\n\n".encode()


WHOLE = event(content="hello") + event(finish="stop") + b"data: [DONE]\n\n"


@dataclass
class Played(Loopback):
    """Answers turns as a test says, and knows of nothing else."""

    play: Callable[[int, Client], Awaitable[None]]
    models: Callable[[Client], Awaitable[None]] | None = None
    turns: list[Asked] = field(default_factory=list[Asked])

    def __post_init__(self) -> None:
        super().__init__()

    async def answer(self, asked: Asked, client: Client) -> None:
        if asked.path.endswith("completions"):
            self.turns.append(asked)
            await self.play(len(self.turns), client)
        elif self.models is not None:
            await self.models(client)
        else:
            await client.whole(404, {"content-type": "application/json"}, b"{}")


async def say(model: Endpoint) -> str:
    return "".join([chunk.text async for chunk in model.generate(Request([UserMessage("Hi")]))])


async def stream(client: Client) -> None:
    await client.head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})


@pytest.mark.parametrize("filler", [b": ping\n\n", event(content=""), event(role="assistant")])
async def test_pings_and_empty_pieces_are_silence(filler: bytes) -> None:
    async def play(_: int, client: Client) -> None:
        await stream(client)
        await client.chunk(event(content="hi"))
        while True:
            await client.chunk(filler)
            await asyncio.sleep(0.02)

    with Played(play) as server:
        model = Endpoint("m", server="ollama", base_url=server.url, timeouts=Timeouts(between_tokens=0.3))
        with anyio.fail_after(20), pytest.raises(ModelUnavailableError, match=r"between_tokens=0\.3"):
            await say(model)
        await model.aclose()
    assert len(server.turns) == 1


async def test_a_reader_who_takes_time_takes_none_of_the_servers() -> None:
    async def play(_: int, client: Client) -> None:
        await stream(client)
        await client.chunk(event(content="a"))
        await client.chunk(event(content="b"))
        await client.chunk(event(finish="stop") + b"data: [DONE]\n\n")
        await client.chunk(b"")

    with Played(play) as server:
        model = Endpoint("m", server="ollama", base_url=server.url, timeouts=Timeouts(between_tokens=0.2))
        read = ""
        async for chunk in model.generate(Request([UserMessage("Hi")])):
            read += chunk.text
            await anyio.sleep(0.3)  # the time itself is under test
        await model.aclose()
    assert read == "ab"


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", "", "text/event-stream"])
@pytest.mark.parametrize("lead", [b"", b": hello\n\n", b"\n\n", b"event: message\n"])
async def test_a_stream_is_known_by_its_look(kind: str, lead: bytes) -> None:
    async def play(_: int, client: Client) -> None:
        headers = {"content-type": kind} if kind else {}
        await client.head(200, {**headers, "transfer-encoding": "chunked"})
        body = lead + WHOLE
        for i in range(0, len(body), 7):
            await client.chunk(body[i : i + 7])
        await client.chunk(b"")

    with Played(play) as server:
        model = Endpoint("m", server="ollama", base_url=server.url)
        assert await say(model) == "hello"
        await model.aclose()


@pytest.mark.parametrize("body", [b"data centre is closed", b"", b"no", b"<html>data: x</html>"])
async def test_what_does_not_look_like_a_stream_is_none(body: bytes) -> None:
    async def play(_: int, client: Client) -> None:
        await client.whole(200, {"content-type": "text/plain"}, body)

    with Played(play) as server:
        model = Endpoint("m", server="ollama", base_url=server.url, max_retries=0)
        with pytest.raises(ModelUnavailableError, match="text/plain instead of a stream"):
            await say(model)
        await model.aclose()


async def test_a_stream_of_another_api_asks_for_the_v1() -> None:
    async def play(_: int, client: Client) -> None:
        other = b'data: {"content": "hel", "stop": false}\n\ndata: {"content": "lo", "stop": true}\n\n'
        await client.whole(200, {"content-type": "text/event-stream"}, other)

    with Played(play) as server:
        model = Endpoint("m", server="ollama", base_url=server.root)
        with pytest.raises(ModelUnavailableError, match=r"no event has 'choices'(?s:.*)end in /v1\?"):
            await say(model)
        await model.aclose()
    assert len(server.turns) == 1


async def test_llama_cpp_without_its_v1_says_so(llama: LlamaServer) -> None:
    model = Endpoint("m", server="llamacpp", base_url=llama.root, max_retries=0)
    with pytest.raises(ModelUnavailableError, match=r"end in /v1\?"):
        async for _ in model.generate(Request([UserMessage("Hi")], max_tokens=2)):
            pass


async def test_a_request_that_waits_to_be_sent_again_leaves_its_place() -> None:
    async def play(turn: int, client: Client) -> None:
        if turn == 1:
            await client.whole(429, {"content-type": "application/json", "retry-after": "2"}, b"{}")
        else:
            await client.whole(200, {"content-type": "text/event-stream"}, WHOLE)

    done: list[str] = []
    with Played(play) as server:
        model = Endpoint("m", server="ollama", base_url=server.url, max_in_flight=1)

        async def one(name: str) -> None:
            await say(model)
            done.append(name)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one, "refused")
            while not server.turns:  # noqa: ASYNC110  # another thread's state has no event here
                await anyio.sleep(0.01)
            tasks.start_soon(one, "second")
        await model.aclose()
    assert done == ["second", "refused"]


async def test_a_server_that_keeps_its_models_to_itself_is_asked_once() -> None:
    asked = 0

    async def hang(client: Client) -> None:
        nonlocal asked
        asked += 1
        await asyncio.Event().wait()

    async def play(_: int, client: Client) -> None:
        await client.whole(200, {"content-type": "text/event-stream"}, WHOLE)

    with Played(play, hang) as server:
        model = Endpoint("m", server="vllm", base_url=server.url, wire="chat", timeouts=Timeouts(first_token=5))
        for _ in range(3):
            assert await say(model) == "hello"
        await model.aclose()
    assert asked == 1


def models(*entries: dict[str, Any]) -> Callable[[Client], Awaitable[None]]:
    async def tell(client: Client) -> None:
        await client.whole(200, {"content-type": "application/json"}, json.dumps({"data": entries}).encode())

    return tell


HERMES_3 = {"id": "NousResearch/Hermes-3-Llama-3.1-8B", "max_model_len": 100}
HERMES_4 = {"id": "NousResearch/Hermes-4-14B", "max_model_len": 40960}


@pytest.mark.parametrize(
    ("model_id", "entries", "length", "dialect"),
    [
        pytest.param("NousResearch/Hermes-4-14B", [HERMES_3, HERMES_4], 40960, "hermes-4-14b", id="by its name"),
        pytest.param("house-model", [HERMES_3, HERMES_4], None, "chatml", id="not among them"),
        pytest.param("house-model", [HERMES_4], 40960, "hermes-4-14b", id="the only one"),
        pytest.param(
            "house-model",
            [HERMES_3, {"id": "house-model", "root": "NousResearch/Hermes-4-14B", "max_model_len": 7}],
            7,
            "hermes-4-14b",
            id="an alias",
        ),
        pytest.param(
            "/models/x", [HERMES_3, {"id": "x", "root": "/models/x", "max_model_len": 7}], 7, "chatml", id="by its root"
        ),
        pytest.param("house-model", [], None, "chatml", id="none"),
    ],
)
async def test_the_entry_of_the_model_itself_counts(
    model_id: str, entries: list[dict[str, Any]], length: int | None, dialect: str
) -> None:
    async def play(_: int, client: Client) -> None:
        await client.whole(200, {"content-type": "text/event-stream"}, WHOLE)

    with Played(play, models(*entries)) as server:
        model = Endpoint(model_id, server="vllm", base_url=server.url, wire="chat")
        await say(model)
        await model.aclose()
    assert (model.context_length, model.dialect.name) == (length, dialect)
