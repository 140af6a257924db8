"""Clients over event loops, and what may be told to whom: keys, passwords, headers from the environment."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import httpx2
import openai
import pytest

from hermes_agent import Agent
from hermes_agent.errors import ConfigurationError, ModelUnavailableError
from hermes_agent.models.connection import Key
from hermes_agent.models.endpoint import Endpoint
from hermes_agent.testing import Recorder
from tests.loopback import Asked, Client, Loopback
from tests.scripted_server import ScriptedServer

KEY = "my-explicit-key-123"


class Echoing(Loopback):
    """Refuses every key, and repeats it; behind ``padding``, so that a cut may go through it."""

    def __init__(self, padding: int = 0, *, in_stream: bool = False) -> None:
        super().__init__()
        self.padding, self.in_stream = padding, in_stream

    async def answer(self, asked: Asked, client: Client) -> None:
        said = "x" * self.padding + f"Incorrect API key provided: {asked.headers['authorization']}"
        body = json.dumps({"error": {"message": said, "code": 401}})
        if self.in_stream:
            await client.whole(200, {"content-type": "text/event-stream"}, f"data: {body}\n\n".encode())
        else:
            await client.whole(401, {"content-type": "application/json"}, body.encode())


def hello() -> ScriptedServer:
    return ScriptedServer(lambda body: ["hello"])


def own_client(url: str) -> dict[str, Any]:
    return {"client": openai.AsyncOpenAI(base_url=url, api_key="k")}


def own_http_client(url: str) -> dict[str, Any]:
    return {"base_url": url, "http_client": httpx2.AsyncClient()}


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HERMES_SDK_BASE_URL", "HERMES_SDK_API_KEY", "VLLM_API_KEY", "NOUS_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def borrowed(model: Endpoint, settings: dict[str, Any]) -> None:
    """Closes what was passed in."""

    async def close() -> None:
        await model.aclose()
        if "client" in settings:
            await settings["client"].close()
        else:
            await settings["http_client"].aclose()

    asyncio.run(close())


@pytest.mark.parametrize("make", [own_client, own_http_client])
def test_a_client_that_was_passed_in_serves_one_loop_after_the_other(make: Callable[[str], dict[str, Any]]) -> None:
    with hello() as server:
        settings = make(server.url)
        model = Endpoint("m", server="ollama", max_retries=0, **settings)
        assert [Agent(model).run_sync("x").output for _ in range(3)] == ["hello"] * 3
        borrowed(model, settings)


@pytest.mark.parametrize("make", [own_client, own_http_client])
def test_a_client_that_was_passed_in_serves_threads(make: Callable[[str], dict[str, Any]]) -> None:
    came: list[object] = []
    with hello() as server:
        settings = make(server.url)
        model = Endpoint("m", server="ollama", **settings)

        def run() -> None:
            came.append(Agent(model).run_sync("x").output)

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        borrowed(model, settings)
    assert came == ["hello"] * 4


def test_a_client_that_was_closed_is_told_in_our_words() -> None:
    async def closed() -> openai.AsyncOpenAI:
        async with openai.AsyncOpenAI(base_url="http://127.0.0.1:9/v1", api_key="k") as client:
            return client

    model = Endpoint("m", server="ollama", client=asyncio.run(closed()), max_retries=0)
    with pytest.raises(ModelUnavailableError, match=r"over the client that was passed in(?s:.*)event loop"):
        Agent(model).run_sync("x")


def clients_alive() -> int:
    gc.collect()
    return sum(type(item) is openai.AsyncOpenAI for item in gc.get_objects())


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("borrow", [False, True])
def test_nothing_is_kept_of_an_event_loop_that_has_ended(backend: str, borrow: bool) -> None:
    with hello() as server:
        settings: dict[str, Any] = own_http_client(server.url) if borrow else {"base_url": server.url}
        model = Endpoint("m", server="ollama", **settings)
        before = clients_alive()
        for _ in range(3):
            assert anyio.run(Agent(model).run, "x", backend=backend).output == "hello"
        assert clients_alive() <= before  # those of other tests may go at any time
        if borrow:
            borrowed(model, settings)


# Keys.


@pytest.mark.parametrize("bad", ["secretkey-123\n", "secretkey 123", "secret“key”-123", "  secretkey-123"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_told(bad: str) -> None:
    with pytest.raises(ConfigurationError, match="api_key=") as caught:
        Endpoint("m", server="vllm", api_key=bad)
    assert "secret" not in str(caught.value)


def test_a_key_of_the_environment_is_stripped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", " abc-123\n")
    assert Key(None, ("VLLM_API_KEY",)).value == "abc-123"
    monkeypatch.setenv("VLLM_API_KEY", " \n")
    assert Key(None, ("VLLM_API_KEY",)).value is None
    monkeypatch.setenv("VLLM_API_KEY", "secret key")
    with pytest.raises(ConfigurationError, match="VLLM_API_KEY") as caught:
        _ = Key(None, ("VLLM_API_KEY",)).value
    assert "secret" not in str(caught.value)


def test_a_key_is_looked_for_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    with hello() as server:
        model = Endpoint("m", server="nous", base_url=server.url)
        with pytest.raises(ModelUnavailableError, match="NOUS_API_KEY"):
            Agent(model).run_sync("x")
        monkeypatch.setenv("NOUS_API_KEY", "set-later")
        assert Agent(model).run_sync("x").output == "hello"
    assert server.requests[-1].headers["authorization"] == "Bearer set-later"


@pytest.mark.parametrize("in_stream", [False, True], ids=["refused", "in the stream"])
@pytest.mark.parametrize("padding", [0, 560, 590])
def test_a_key_that_the_server_repeats_is_not_told(padding: int, in_stream: bool, tmp_path: Path) -> None:
    import traceback

    tape = tmp_path / "tape.jsonl"
    with Echoing(padding, in_stream=in_stream) as server:
        model = Recorder(Endpoint("m", server="ollama", base_url=server.url, api_key=KEY, max_retries=0), tape)
        with pytest.raises(ModelUnavailableError, match="401") as caught:
            Agent(model).run_sync("x")
    told = "".join(traceback.format_exception(caught.value)) + caught.value.raw + tape.read_text()
    assert "my-explicit" not in told
    assert "***" in caught.value.raw


def test_name_and_password_in_the_address_go_over_the_wire_and_nowhere_else(tmp_path: Path) -> None:
    tape = tmp_path / "tape.jsonl"
    with Echoing() as server:
        url = server.url.replace("//", "//bob:hunter2pw@")
        inner = Endpoint("m", server="ollama", base_url=url, max_retries=0)
        model = Recorder(inner, tape)
        with pytest.raises(ModelUnavailableError) as caught:
            Agent(model).run_sync("x")
        assert server.requests[-1].headers["authorization"].startswith("Basic ")
    told = f"{inner!r} {inner.name} {inner.base_url} {caught.value} {caught.value.raw} {tape.read_text()}"
    assert "hunter2pw" not in told
    assert "bob" not in told
    assert "//***@127.0.0.1" in told
    with pytest.raises(ConfigurationError) as refused:
        Endpoint("m", base_url="ftp://bob:hunter2pw@host/v1")
    assert "hunter2pw" not in str(refused.value)


# The environment of OpenAI's client.


@pytest.mark.parametrize("server_name", ["generic", "vllm", "openrouter", "openai"])
def test_what_the_environment_says_for_openai_goes_to_openai_alone(
    server_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Secret: s3cr3t\nAuthorization: Bearer another")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    own = None if server_name in ("generic", "openai") else "own-key"
    with hello() as server:
        model = Endpoint("m", server=server_name, base_url=server.url, wire="chat", api_key=own)
        assert Agent(model).run_sync("x").output == "hello"
    for asked in server.requests:
        told = json.dumps(dict(asked.headers))
        shared = server_name == "openai"
        assert ("org-1" in told, "proj-1" in told, "s3cr3t" in told) == (shared, shared, shared)
        if not shared:
            assert "another" not in told
            assert "sk-openai" not in told


def test_a_generic_server_has_a_key_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERMES_SDK_API_KEY", "mine-123")
    with hello() as server:
        assert Agent(Endpoint("m", base_url=server.url)).run_sync("x").output == "hello"
    assert server.requests[-1].headers["authorization"] == "Bearer mine-123"
