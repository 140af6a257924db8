"""Two hundred runs at once against a real server: none lost, none mixed up, nothing left over."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from hermes_agent import Agent, Limits
from hermes_agent.models.endpoint import Endpoint
from hermes_agent.output import Regex
from hermes_agent.run import RunResult
from tests.faulty_proxy import FaultyProxy
from tests.llama_server import LlamaServer
from tests.scripted_server import ScriptedServer

RUNS, IN_FLIGHT = 200, 8
pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def roomy() -> LlamaServer:
    """One place on the server for each request in flight."""
    pytest.importorskip("xllamacpp", reason="xllamacpp is not installed: it has no wheel for this platform")
    return LlamaServer(slots=IN_FLIGHT, tokens=512)


@pytest.fixture
def traced() -> Iterator[Callable[[], int]]:
    """Tells how many bytes Python's own objects hold."""

    def held() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    yield held
    tracemalloc.stop()


def files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def ask(model: Endpoint, number: int) -> RunResult[str]:
    """A run that can only answer with its own number, which stands in its prompt."""
    agent = Agent(model, output=Regex(f"{number}"), limits=Limits(turn_tokens=8, corrections=0))
    return await agent.run(f"Say {number}")


@dataclass(frozen=True, slots=True)
class Burst:
    """What many runs at once came to.

    Attributes:
        answers: By number.
        steps: Turns that each run took.
        memory: Bytes held by Python's objects, by how many runs were through.
        asked: Requests for text that the server saw.
        most_in_flight: The most requests it ever saw at once.
    """

    answers: dict[int, str]
    steps: list[int]
    memory: dict[int, int]
    asked: int
    most_in_flight: int


async def burst(upstream: str, numbers: range, traced: Callable[[], int]) -> Burst:
    """Many runs at once through one model, and everything closed behind them."""
    answers: dict[int, str] = {}
    steps: list[int] = []
    memory: dict[int, int] = {}

    with FaultyProxy(upstream) as proxy:
        model = Endpoint("smollm2", server="llamacpp", base_url=proxy.url, wire="completions", max_in_flight=IN_FLIGHT)

        async def run(number: int) -> None:
            result = await ask(model, number)
            answers[number] = result.output
            steps.append(result.usage.steps)
            if len(answers) % 50 == 0:
                memory[len(answers)] = traced()

        async with anyio.create_task_group() as group:
            for number in numbers:
                group.start_soon(run, number)
        await model.aclose()
        await until(lambda: not proxy.connections)
    return Burst(answers, steps, memory, len(proxy.turns), proxy.most_in_flight)


def threads() -> set[int]:
    """Threads at work; those that wait for another function to run, whoever had them, end by themselves."""
    idle = ("hermes_agent tool", "Trio thread", "AnyIO worker thread")
    return {thread.ident or 0 for thread in threading.enumerate() if not thread.name.startswith(idle)}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are counted in /proc, which is not here")
async def test_two_hundred_runs_at_once(roomy: LlamaServer, traced: Callable[[], int]) -> None:
    with anyio.fail_after(900):
        await burst(roomy.url, range(1), traced)  # what is imported and learned on first use is no leak
        before = files(), threads(), len(asyncio.all_tasks()), traced()
        came = await burst(roomy.url, range(RUNS), traced)
        await until(lambda: files() <= before[0])
        after = files(), threads(), len(asyncio.all_tasks()), traced()

    assert came.answers == {number: f"{number}" for number in range(RUNS)}, "lost, or mixed up"
    assert came.steps == [1] * RUNS, "an answer of another run came first"
    assert came.asked == RUNS, "something was asked twice"
    assert came.most_in_flight == IN_FLIGHT
    sys.stdout.write(f"Bytes of Python's memory: {before[3]}, {came.memory}, {after[3]}\n")
    assert came.memory[RUNS] - came.memory[50] < 500_000, "it grows with the runs"
    assert after[3] - before[3] < 500_000, "something is kept"
    assert after[1] <= before[1], "threads are left"
    assert after[2] == before[2], "tasks are left"  # files were waited for above


async def test_what_a_server_tells_is_asked_once_however_many_runs_begin() -> None:
    with ScriptedServer(lambda body: ["Hello."]) as server, anyio.fail_after(60):
        model = Endpoint("scripted", base_url=server.url, wire="chat", max_in_flight=IN_FLIGHT)
        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(Agent(model).run, "Hello!")
        await model.aclose()
    asked = [request.path for request in server.requests]
    assert asked.count("/v1/chat/completions") == 50
    assert asked.count("/v1/models") <= 2, "each run asked for itself"
    assert server.most_in_flight <= IN_FLIGHT


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that other threads bring about."""
    while not holds():  # noqa: ASYNC110  # another thread's state has no event of this loop
        await anyio.sleep(0.01)
