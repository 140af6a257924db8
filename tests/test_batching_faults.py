"""What may go wrong where turns are written together, and whom it concerns: never a turn that waits for ever."""

# transformers, peft and torch leave parts of their signatures untyped; what we pass on has a type again.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# What is private of the batch is where its faults are played.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from hermes_agent.errors import ModelError
from hermes_agent.extract.engine import by_length
from hermes_agent.extract.row import Row
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.messages import UserMessage
from hermes_agent.models.base import Request
from hermes_agent.models.embedded import EmbeddedModel
from hermes_agent.reasoning import Reasoning
from hermes_agent.sampling import Sampling

torch = pytest.importorskip("torch", reason="the extra `local` is not installed")

from tests.test_batching import together  # noqa: E402  # it needs torch
from tests.test_local import LONG, tiny, turn, weights  # noqa: E402

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def loaded(**options: Any) -> tuple[Any, Any]:
    """A model, and its batch."""
    model = tiny(model=weights("qwen3"), **options)
    model.load()
    assert model._loaded is not None
    return model, model._loaded.batch


async def outcomes(model: Any, count: int) -> list[str]:
    """What comes of several turns at once: their text, or their error."""
    found: list[str] = []

    async def one() -> None:
        try:
            found.append((await turn(model, grammar=LONG, max_tokens=12))[0])
        except ModelError as error:
            found.append(str(error))

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for _ in range(count):
                tasks.start_soon(one)
    return found


async def test_what_a_budget_forces_is_read_alike_alone_and_among_others() -> None:
    model, thinking = EmbeddedModel(), Reasoning("on", max_tokens=8)
    requests = [
        Request(
            [UserMessage(text)], reasoning=thinking, grammar=TurnGrammar(output=str, reasoning=thinking),
            sampling=Sampling(temperature=0.0), max_tokens=30,
        )
        for text in ("What is the capital of France?", "Name a big river in Brazil, please.")
    ]  # fmt: skip
    alone = [(await together(model, [request]))[0] for request in requests]
    assert all("</think>" in text for text in alone)
    assert await together(model, requests) == alone


async def test_a_turn_for_which_there_is_no_room_fails_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = loaded(batch_size=4)
    (expected,) = await outcomes(model, 1)

    def join(cache: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(batch._slots, "join", join)
    found = await outcomes(model, 3)
    assert expected in found
    assert all(text == expected or "no room" in text for text in found)
    monkeypatch.undo()
    assert await outcomes(model, 3) == [expected] * 3


async def test_an_engine_that_panics_fails_its_own_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    from hermes_agent.models.writer import Writer

    class Panic(BaseException):  # as those of engines written in Rust, which are no Exception
        pass

    model, _ = loaded(batch_size=4)
    (expected,) = await outcomes(model, 1)
    write, calls = Writer.write, iter(range(10**6))

    def panicking(self: Writer, logits: Any) -> Any:
        if next(calls) == 5:
            raise Panic("index out of bounds")
        return write(self, logits)

    monkeypatch.setattr(Writer, "write", panicking)
    assert sorted(text == expected for text in await outcomes(model, 3)) == [False, True, True]


async def test_without_a_thread_there_is_an_error_and_later_there_are_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = loaded()
    (expected,) = await outcomes(model, 1)
    with anyio.fail_after(60):
        while batch._thread is not None:  # noqa: ASYNC110  # it may still look whether something has come
            await anyio.sleep(0.001)
    start = threading.Thread.start

    def refused(self: threading.Thread) -> None:
        if self.name == "hermes_agent model":
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refused)
    assert "can't start new thread" in (await outcomes(model, 1))[0]
    monkeypatch.undo()
    assert await outcomes(model, 1) == [expected]


async def test_the_cause_of_a_failure_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = loaded()

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(batch._decoder._model, "forward", broken)
    with pytest.raises(ModelError) as caught:
        await turn(model)
    assert isinstance(caught.value.__cause__, RuntimeError)


async def test_numbers_that_are_none_stay_in_their_own_turn() -> None:
    _, batch = loaded(batch_size=2)
    slots, decoder = batch._slots, batch._decoder
    with torch.inference_mode():
        for ids in ([1, 2, 3, 4, 5, 6], [7, 8]):
            for _ in decoder.read(ids):
                pass
            slots.join(decoder.cache)
        expected = slots.forward([3, 3])[1]
        slots.leave(0)
        for _ in decoder.read([1, 2, 3, 4, 5, 6]):
            pass
        for layer in decoder.cache.layers:
            layer.keys.fill_(float("nan"))
            layer.values.fill_(float("nan"))
        slots.join(decoder.cache)
        slots.leave(1)
        for _ in decoder.read([7, 8]):
            pass
        slots.join(decoder.cache)
        slots.forward([9, 3])
        assert torch.isfinite(slots.forward([9, 9])).all()
        assert torch.isfinite(expected).all()
        slots.clear()


async def test_what_a_long_turn_needed_is_given_back() -> None:
    _, batch = loaded(batch_size=2)
    slots, decoder = batch._slots, batch._decoder
    with torch.inference_mode():
        for length in (2000, 5, 6):
            for _ in decoder.read([1 + number % 90 for number in range(length)]):
                pass
            slots.join(decoder.cache)
        slots.leave(0)
        assert all(layer.keys.shape[2] < 400 for layer in slots._layers)
        slots.forward([4, 4])
        slots.clear()


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0},
        {
            "rope_type": "longrope", "rope_theta": 10000.0, "factor": 2.0, "original_max_position_embeddings": 64,
            "short_factor": [1.0] * 4, "long_factor": [2.0] * 4,
        },
    ],
)  # fmt: skip
def test_rows_that_would_change_each_other_are_written_one_by_one(rope: dict[str, Any]) -> None:
    model = tiny(model=weights("qwen3", rope_parameters=rope), batch_size=4)
    assert model.batch_size == 4
    model.load()
    assert model.batch_size == 1


def test_nobody_elses_share_of_threads_is_touched() -> None:
    shares: list[int] = []
    running = threading.Event()

    async def main() -> None:
        await turn(model, grammar=LONG, max_tokens=4)
        running.set()

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        model, batch = loaded()
        batch._writing_threads = 1
        worker = threading.Thread(target=lambda: anyio.run(main))
        worker.start()
        worker.join()
        other = threading.Thread(target=lambda: shares.append(torch.get_num_threads()))
        other.start()
        other.join()
        assert running.is_set()
        assert (shares, torch.get_num_threads()) == ([3], 3)
    finally:
        torch.set_num_threads(before)


def test_rows_before_a_fault_of_the_input_are_given_out() -> None:
    def rows() -> Iterator[Row]:
        yield Row(0, "a", "x")
        yield Row(1, "b", "xx")
        raise OSError("the disk is gone")

    found: list[int] = []
    with pytest.raises(OSError, match="disk"):
        found.extend(row.position for row in by_length(rows(), 10))
    assert found == [1, 0]


FORKED = """
import os
import anyio
from tests.test_batching import LONG, Request, UserMessage, together, tiny, weights

model = tiny(model=weights("qwen3"))
request = Request([UserMessage("Hi")], grammar=LONG, max_tokens=4)

async def main():
    writing = model.generate(Request([UserMessage("Hi")], grammar=LONG))
    await anext(writing)
    if (child := os.fork()) == 0:
        anyio.run(lambda: together(model, [request]))
        os._exit(5)
    await writing.aclose()
    with anyio.fail_after(60):
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            await anyio.sleep(0.05)
    print("child ended")

anyio.run(main)
"""

LATE = """
import atexit

def late():  # registered first, so run last
    import anyio
    from tests.test_batching import LONG, Request, UserMessage, together
    try:
        anyio.run(lambda: together(model, [Request([UserMessage("Hi")], grammar=LONG, max_tokens=4)]))
    except BaseExceptionGroup as errors:
        print(errors.exceptions[0])

atexit.register(late)
from tests.test_batching import tiny, weights
model = tiny(model=weights("qwen3"))
model.load()
"""


@pytest.mark.parametrize(
    ("program", "said"),
    [
        pytest.param(FORKED, "child ended", marks=pytest.mark.skipif(sys.platform == "win32", reason="no fork")),
        (LATE, "the process is about to end"),
    ],
)
def test_no_turn_waits_for_a_thread_that_is_gone(program: str, said: str, qwen3_folder: Path) -> None:
    left = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert said in left.stdout, left.stderr
