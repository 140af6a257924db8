"""Turns written together are the turns that would have been written alone."""

# transformers, peft and torch leave parts of their signatures untyped; what we pass on has a type again.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest

from hermes_agent.errors import ConfigurationError, ContextLengthError, ModelError
from hermes_agent.extract.engine import by_length
from hermes_agent.extract.extractor import Extractor
from hermes_agent.extract.row import Row
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.limits import Limits
from hermes_agent.messages import SystemMessage, UserMessage
from hermes_agent.models.base import Request
from hermes_agent.models.embedded import EmbeddedModel
from hermes_agent.models.local import LocalModel
from hermes_agent.output import JsonSchema, Output
from hermes_agent.sampling import Sampling

torch = pytest.importorskip("torch", reason="the extra `local` is not installed")

from tests.test_local import LONG, on_two_loops, tiny, turn, weights  # noqa: E402  # it needs torch

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


both_loops = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])

PERSON = Output.of(
    JsonSchema(
        {
            "type": "object",
            "properties": {"name": {"type": "string", "maxLength": 20}, "city": {"enum": ["Oslo", "Rome", "none"]}},
            "required": ["name", "city"],
            "additionalProperties": False,
        }
    )
)
TEXTS = [
    "Anna Berg has moved to Oslo.",
    "In Rome, Marco Rossi opened a small bakery behind the station, and it is always full in the morning.",
    "Nobody was there.",
    "Write to Jean-Luc.",
]


def extraction(text: str, **options: Any) -> Request:
    return Request(
        [SystemMessage("Take the answer out of the text that the user gives."), UserMessage(text)],
        output=PERSON, grammar=TurnGrammar(output=PERSON), sampling=Sampling(temperature=0.0), max_tokens=12, **options,
    )  # fmt: skip


async def together(model: LocalModel, requests: list[Request]) -> list[str]:
    found = [""] * len(requests)

    async def one(at: int) -> None:
        found[at] = "".join([chunk.text async for chunk in model.generate(requests[at])])

    async with anyio.create_task_group() as tasks:
        for at in range(len(requests)):
            tasks.start_soon(one, at)
    return found


async def test_rows_of_the_embedded_model_are_the_same_alone_and_in_a_batch() -> None:
    model = EmbeddedModel()
    requests = [extraction(text) for text in TEXTS]
    alone = [(await together(model, [request]))[0] for request in requests]
    assert await together(model, requests) == alone
    assert await together(model, requests[::-1]) == alone[::-1]


@both_loops
async def test_every_turn_has_its_own_grammar_and_limits() -> None:
    own = weights("qwen3")
    alone, batch = tiny(model=own), tiny(model=own, batch_size=3)
    requests = [
        Request(
            [UserMessage("Hello " * (1 + 7 * number))],
            grammar=None if number == 2 else TurnGrammar(output=Literal["abcdefgh" * 9, "zyx"]),
            sampling=Sampling(temperature=1.0 if number % 2 else 0.0, seed=number),
            max_tokens=3 + 2 * number,
        )
        for number in range(6)
    ]
    expected = [(await together(alone, [request]))[0] for request in requests]
    assert await together(batch, requests) == expected
    assert batch.batch_size == 3
    assert batch.decoded_tokens == alone.decoded_tokens
    assert batch.compiled_grammars == 1


@both_loops
async def test_one_that_leaves_or_fails_harms_no_other() -> None:
    own = weights("qwen3")
    batch = tiny(model=own, batch_size=4)
    expected, _ = await turn(batch, UserMessage("Stay"), grammar=LONG, max_tokens=40)
    stayed: list[str] = []

    async def stay() -> None:
        stayed.append((await turn(batch, UserMessage("Stay"), grammar=LONG, max_tokens=40))[0])

    async def leave() -> None:
        leaving = batch.generate(Request([UserMessage("Leave")], grammar=LONG))
        await anext(leaving)
        await leaving.aclose()

    async def fail() -> None:
        with pytest.raises(ContextLengthError):
            await turn(batch, UserMessage("word " * 5000))

    async with anyio.create_task_group() as tasks:
        for each in (stay, leave, fail, stay):
            tasks.start_soon(each)
    assert stayed == [expected] * 2


@both_loops
async def test_a_batch_that_fails_fails_all_its_turns_and_the_next_goes_on() -> None:
    own = weights("qwen3")
    batch = tiny(model=own, batch_size=4)
    batch.load()
    expected, _ = await turn(batch, max_tokens=4)
    head = own.lm_head
    failed: list[ModelError] = []

    class Broken(torch.nn.Module):  # type: ignore[misc,name-defined]  # torch is whatever importorskip returns
        def forward(self, x: Any) -> Any:
            if x.shape[0] > 1:
                raise RuntimeError("out of memory")
            return head(x)

    async def one() -> None:
        with pytest.raises(ModelError, match="out of memory") as caught:
            await turn(batch, grammar=LONG)
        failed.append(caught.value)

    own.lm_head = Broken()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one)
        tasks.start_soon(one)
    assert len({id(error) for error in failed}) == 2
    assert (await turn(batch, max_tokens=4))[0] == expected


def test_event_loops_share_a_batch() -> None:
    batch = tiny(batch_size=4)
    batch.load()
    done: list[str] = []

    async def main() -> None:
        done.extend(await together(batch, [Request([UserMessage("Hi")], grammar=LONG, max_tokens=4)] * 2))

    on_two_loops(main)
    assert len(done) == 4
    assert len(set(done)) == 1


def test_a_batch_of_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="batch_size=0"):
        LocalModel("any/model", batch_size=0)


def test_a_job_writes_the_same_rows_together_and_one_after_the_other(tmp_path: Path) -> None:
    model = EmbeddedModel()
    extractor = Extractor(JsonSchema(PERSON.schema or {}), model, limits=Limits(turn_tokens=24, corrections=0))
    rows = [{"id": name, "text": text} for name, text in zip("abcd", TEXTS, strict=True)]
    extractor.map(rows, out=tmp_path / "alone.jsonl", concurrency=1, progress=False)
    extractor.map(rows, out=tmp_path / "together.jsonl", progress=False)
    assert (tmp_path / "together.jsonl").read_text() == (tmp_path / "alone.jsonl").read_text()


def test_rows_that_are_written_together_are_about_as_long() -> None:
    rows = [Row(number, str(number), "x" * length) for number, length in enumerate([3, 9, 1, 7, 2, 8])]
    assert [len(row.text) for row in by_length(iter(rows), 4)] == [9, 7, 3, 1, 8, 2]


LEFT = """
import anyio
from tests.test_batching import LONG, Request, UserMessage, tiny, weights

model = tiny(model=weights("qwen3", num_hidden_layers=12))

async def main():
    async for chunk in model.generate(Request([UserMessage("Hi")], grammar=LONG)):
        raise SystemExit(7)

anyio.run(main)
"""


def test_a_process_may_end_in_the_middle_of_a_turn(qwen3_folder: Path) -> None:
    for _ in range(3):
        left = subprocess.run([sys.executable, "-c", LEFT], capture_output=True, text=True, timeout=300)
        assert (left.returncode, left.stderr) == (7, "")
