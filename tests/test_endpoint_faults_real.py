"""Faults between client and a real server; a grammar leaves each turn one call or one answer."""

from __future__ import annotations

from typing import Any, Literal

import anyio
import anyio.to_thread
import pytest

from hermes_agent import Agent, Limits
from hermes_agent.errors import HermesError, ModelError, ModelUnavailableError, ToolFailedError
from hermes_agent.models.endpoint import Endpoint, Timeouts
from hermes_agent.models.servers import Wire
from hermes_agent.run import RunResult
from tests.faulty_proxy import Fault, FaultyProxy
from tests.faulty_runs import HTML, JSON, PAGE, REFUSED, Came, until
from tests.llama_server import LlamaServer

pytestmark = pytest.mark.anyio

REAL_ANSWER = "Größe „七“ 🙂"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class NotedError(Exception):
    """Ends a run behind its call."""


async def call_really(llama: LlamaServer, fault: Fault, wire: Wire) -> Came:
    runs: list[int] = []

    async def note(n: Literal[7]) -> str:
        """Note a number."""
        runs.append(n)
        raise NotedError

    options = {"tools": [note], "tool_choice": "note", "parallel": False, "on_tool_error": "raise"}
    return await ask_really(llama, fault, wire, runs, **options)


async def answer_really(llama: LlamaServer, fault: Fault, wire: Wire) -> Came:
    return await ask_really(llama, fault, wire, [], output=Literal["Größe „七“ 🙂"])


async def ask_really(llama: LlamaServer, fault: Fault, wire: Wire, runs: list[int], **options: Any) -> Came:
    timeouts = Timeouts(connect=10.0, first_token=60.0, between_tokens=3.0 if fault.kind == "stall" else 60.0)
    with FaultyProxy(llama.url, fault) as proxy, anyio.fail_after(120):
        model = Endpoint("smollm2", server="llamacpp", base_url=proxy.url, wire=wire, timeouts=timeouts)
        result: RunResult[Any] | HermesError
        try:
            result = await Agent(model, limits=Limits(turn_tokens=80), **options).run("Note 7.")
        except HermesError as error:
            result = error
        finally:
            await model.aclose()
        await until(lambda: not proxy.in_flight and not proxy.connections)
        while await anyio.to_thread.run_sync(llama.busy):  # noqa: ASYNC110  # the server has no event of this loop
            await anyio.sleep(0.02)
    return Came(result, runs, proxy)


@pytest.mark.parametrize(
    ("fault", "call", "answer"),
    [
        pytest.param(Fault(), "completions", "native", id="none"),
        pytest.param(Fault("single_bytes"), "chat", "completions", id="one byte a chunk"),
        pytest.param(Fault("split_characters"), None, "chat", id="characters split"),
        pytest.param(Fault("merged"), "completions", "native", id="events split and merged"),
        pytest.param(Fault("empty_deltas"), "chat", "completions", id="empty deltas"),
        pytest.param(Fault("no_usage"), "completions", "chat", id="no usage"),
        pytest.param(Fault("no_done"), "chat", "native", id="no [DONE]"),
        pytest.param(Fault("reset_after_finish"), "completions", "chat", id="reset behind the finish reason"),
        pytest.param(Fault("finish_reason", value="tool_calls"), "chat", "completions", id="finish reason tool_calls"),
        pytest.param(
            Fault("answer_with", status=429, headers=JSON, value=REFUSED, times=1), "chat", "native", id="429"
        ),
        pytest.param(
            Fault("answer_with", status=500, headers=JSON, value="{}", times=1), "completions", "chat", id="500"
        ),
        pytest.param(Fault("reset_before_headers", times=1), "chat", "completions", id="reset before the headers"),
        pytest.param(Fault("reset_mid_chunk", at=0, times=1), "completions", "native", id="reset in the first event"),
    ],
)
async def test_a_real_server_through_what_does_no_harm(
    llama: LlamaServer, fault: Fault, call: Wire | None, answer: Wire
) -> None:
    came = await answer_really(llama, fault, answer)
    assert came.output == REAL_ANSWER
    assert came.proxy.struck or fault.kind == "none"
    assert len(came.proxy.turns) == (2 if fault.times else 1)
    if call is not None:
        came = await call_really(llama, fault, call)
        assert isinstance(came.result, ToolFailedError), came.result
        assert came.runs == [7]
        assert came.proxy.struck or fault.kind == "none"


@pytest.mark.parametrize(
    ("fault", "kind", "word", "call", "answer"),
    [
        pytest.param(Fault("reset_mid_chunk"), ModelError, "broke", "completions", "chat", id="reset"),
        pytest.param(Fault("reset_in_character", at=1), ModelError, "broke", None, "completions", id="in a character"),
        pytest.param(Fault("no_end"), ModelError, "ended before its end", "chat", "native", id="closed between events"),
        pytest.param(Fault("duplicate_deltas", at=0), ModelError, "twice", "chat", "completions", id="deltas twice"),
        pytest.param(Fault("stall"), ModelUnavailableError, "between_tokens=3.0", "completions", "chat", id="stall"),
        pytest.param(
            Fault("answer_with", headers=HTML, value=PAGE), ModelUnavailableError, "text/html", "chat", "native",
            id="a page",
        ),
    ],
)  # fmt: skip
async def test_a_real_server_through_what_breaks_a_turn(
    llama: LlamaServer, fault: Fault, kind: type[HermesError], word: str, call: Wire | None, answer: Wire
) -> None:
    for came in (
        await answer_really(llama, fault, answer),
        *([] if call is None else [await call_really(llama, fault, call)]),
    ):
        came.failed(kind, word)
        assert came.proxy.struck == len(came.proxy.turns) == 1
        assert came.runs == []


@pytest.mark.parametrize("wire", ["completions", "chat"])
async def test_a_real_call_that_is_cut_off_and_called_whole_is_never_run(llama: LlamaServer, wire: Wire) -> None:
    came = await call_really(llama, Fault("cut_with", value="stop", at=9, times=1), wire)
    assert isinstance(came.result, ToolFailedError), came.result
    assert len(came.proxy.turns) == 2
    assert came.runs == [7], "the call of the second turn alone"
