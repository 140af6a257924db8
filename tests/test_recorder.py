from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_agent import Agent
from hermes_agent.errors import ConfigurationError, GuaranteeError, ModelUnavailableError
from hermes_agent.formats import TurnGrammar, dialect
from hermes_agent.messages import UserMessage
from hermes_agent.models.base import Chunk, Guarantee, Model, Request
from hermes_agent.models.fallback import Fallback
from hermes_agent.redaction import REMOVED, Redaction
from hermes_agent.testing import Recorder, Replay, ScriptedModel

KEY = "sk-proj-0123456789abcdef"


class Chunks:
    """Writes exactly these chunks; an error among them is raised."""

    name = "chunks"
    dialect = dialect("chatml")

    def __init__(self, *chunks: Chunk | Exception) -> None:
        self.chunks = chunks

    async def guarantee(self, grammar: TurnGrammar, *, prove: bool = False) -> Guarantee:
        return "server"

    async def generate(self, request: Request) -> AsyncGenerator[Chunk, None]:
        for chunk in self.chunks:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def of_kind(path: Path, kind: str) -> list[dict[str, Any]]:
    return [line for line in lines(path) if next(iter(line)) == kind]


async def collect(model: Model, request: Request | None = None) -> list[Chunk]:
    async with aclosing(model.generate(request or Request([UserMessage("Hi")]))) as chunks:
        return [chunk async for chunk in chunks]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tapes" / "one.jsonl"


def test_it_is_a_model_and_passes_everything_through(path: Path) -> None:
    written = [Chunk("a"), Chunk(""), Chunk("b", "length", 7, 2, 1, thought_cut=True, guarantee="checked")]
    recorder = Recorder(Chunks(*written), path)
    assert isinstance(recorder, Model)
    assert (recorder.name, recorder.dialect) == ("chunks", dialect("chatml"))
    assert anyio.run(collect, recorder) == written


def test_a_tape_can_be_read_by_people(path: Path) -> None:
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    turns = ['<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>', "3"]
    Agent(Recorder(ScriptedModel(turns), path), tools=[add], output=int).run_sync("1 + 2?")
    kinds = [next(iter(line)) for line in lines(path)]
    answer = ["chunk", "chunk", "end"]
    assert kinds == ["tape", "grammar", "guarantee", "request", "dialect", *answer, "request", *answer]
    first, second = of_kind(path, "request")
    assert first["messages"] == [{"role": "user", "text": "1 + 2?"}]
    assert first["tools"][0]["name"] == "add"
    assert first["output"]["schema"] == {"type": "integer"}
    assert first["grammar"] == of_kind(path, "grammar")[0]["grammar"]
    assert any("start" in line for line in of_kind(path, "grammar")[0]["lark"])
    assert second["messages"][-1] == {"role": "tool", "content": "3", "name": "add", "call_id": "call_1_0"}
    assert of_kind(path, "chunk")[0]["text"] == turns[0]
    last = of_kind(path, "chunk")[1]
    assert last.pop("after") >= 0
    assert last == {"chunk": 1, "text": "", "finish_reason": "stop", "output_tokens": 7}


def test_times_are_seconds_since_the_request(path: Path) -> None:
    anyio.run(collect, Recorder(ScriptedModel(["abc def"], chunk_size=1), path))
    times = [line["after"] for line in lines(path) if "after" in line]
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] < 60


def test_an_old_tape_is_not_overwritten_by_accident(path: Path) -> None:
    anyio.run(collect, Recorder(ScriptedModel(["a"]), path))
    with pytest.raises(ConfigurationError, match="there is a file"):
        Recorder(ScriptedModel(["b"]), path)
    anyio.run(collect, Recorder(ScriptedModel(["b"]), path, overwrite=True))
    assert [line["text"] for line in of_kind(path, "chunk")] == ["b", ""]


def test_errors_are_recorded_and_raised(path: Path) -> None:
    recorder = Recorder(Chunks(Chunk("He"), ModelUnavailableError("gone", hint="come back", raw="x")), path)
    with pytest.raises(ModelUnavailableError):
        anyio.run(collect, recorder)
    (error,) = of_kind(path, "error")
    assert {**error, "after": 0} == {
        "error": 1, "after": 0, "type": "ModelUnavailableError", "message": "gone", "hint": "come back", "raw": "x",
    }  # fmt: skip
    assert of_kind(path, "chunk")[0]["text"] == "He"


def test_a_refusal_is_recorded(path: Path) -> None:
    recorder = Recorder(ScriptedModel([]), path)
    with pytest.raises(GuaranteeError):
        anyio.run(lambda: recorder.guarantee(TurnGrammar(), prove=True))
    (line,) = of_kind(path, "guarantee")
    assert (line["prove"], line["type"]) == (True, "GuaranteeError")


def test_a_reader_that_leaves_is_recorded(path: Path) -> None:
    async def leave() -> None:
        async with aclosing(Recorder(ScriptedModel(["abc"], chunk_size=1), path).generate(Request([]))) as chunks:
            async for _ in chunks:
                break

    anyio.run(leave)
    assert [next(iter(line)) for line in lines(path)] == ["tape", "request", "dialect", "chunk", "left"]


def test_a_cancelled_run_is_recorded(path: Path) -> None:
    class Stalls(Chunks):
        async def generate(self, request: Request) -> AsyncGenerator[Chunk, None]:
            yield Chunk("a. ")
            await anyio.sleep_forever()

    async def cancel() -> None:
        with anyio.CancelScope() as scope:
            async with aclosing(Recorder(Stalls(), path).generate(Request([]))) as chunks:
                async for _ in chunks:
                    scope.cancel()

    anyio.run(cancel)
    assert [next(iter(line)) for line in lines(path)][-2:] == ["chunk", "left"]


KILLED = """
import sys, anyio
from hermes_agent.messages import UserMessage
from hermes_agent.models.base import Request
from hermes_agent.testing import Recorder, ScriptedModel

async def go():
    recorder = Recorder(ScriptedModel(["One. Two. Three. "], chunk_size=5), sys.argv[1])
    async for chunk in recorder.generate(Request([UserMessage("Hi")])):
        print(chunk.text, flush=True)
        sys.stdin.readline()

anyio.run(go)
"""


def test_a_killed_run_leaves_a_tape_up_to_there(path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "One. \n"
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "Two. \n"
        process.send_signal(signal.SIGKILL)
    assert [line["text"] for line in of_kind(path, "chunk")] == ["One. ", "Two. "]
    with pytest.raises(AssertionError, match="the recording was broken off there"):
        anyio.run(collect, Replay(path))


def test_half_a_line_at_the_end_is_no_harm(path: Path) -> None:
    anyio.run(collect, Recorder(ScriptedModel(["Hello."]), path))
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole + '{"request": 2, "mess', encoding="utf-8")
    assert anyio.run(collect, Replay(path))[0].text == "Hello."


def test_two_dialects_on_one_tape(path: Path) -> None:
    pad = ScriptedModel(["<scratch_pad>\nGoal\n</scratch_pad>\nHi."], dialect="hermes-3-scratch-pad")
    model = Fallback(Chunks(ModelUnavailableError("no")), pad)
    recorded = Agent(Recorder(model, path), reasoning="auto").run_sync("Hi")
    assert recorded.reasoning == "Goal"
    assert Agent(Replay(path), reasoning="auto").run_sync("Hi") == recorded


@pytest.mark.parametrize("size", [1, 2, 3, 7, None])
def test_keys_never_land_on_a_tape(path: Path, monkeypatch: pytest.MonkeyPatch, size: int | None) -> None:
    secret = 'odd "key" \\ value'
    monkeypatch.setenv("MY_API_KEY", secret)

    def look_up(what: str) -> str:
        return f"Authorization: Bearer {KEY} and {secret} for {what}"

    look_up.__doc__ = f"Look things up with {KEY}."
    arguments = json.dumps({"what": f"{KEY} or {secret}"})
    turns = [f'<tool_call>\n{{"name": "look_up", "arguments": {arguments}}}\n</tool_call>', f"It is {secret}, {KEY}!"]
    model = ScriptedModel(turns, chunk_size=size)
    result = Agent(Recorder(model, path), tools=[look_up], instructions=f"The key is {secret}").run_sync(f"Use {KEY}.")
    assert result.output == f"It is {secret}, {KEY}!"
    tape = path.read_text(encoding="utf-8")
    assert "sk-" not in tape
    assert "odd" not in tape
    assert len(of_kind(path, "chunk")) == sum(-(-len(turn) // (size or len(turn))) + 1 for turn in turns)
    # What was removed is removed from what is asked too, so that the tape can be replayed.
    replay = Replay(path)
    replayed = Agent(replay, tools=[look_up], instructions=f"The key is {secret}").run_sync(f"Use {KEY}.")
    replay.assert_complete()
    assert replayed.output == f"It is {REMOVED}, {REMOVED}!"


def test_keys_in_errors_and_names(path: Path) -> None:
    model = Chunks(ModelUnavailableError(f"401 for {KEY}", hint=f"try {KEY}", raw=KEY))
    model.name = f"openai:{KEY}"
    recorder = Recorder(model, path)
    with pytest.raises(ModelUnavailableError, match=KEY):
        anyio.run(collect, recorder)
    assert KEY not in path.read_text(encoding="utf-8")


@given(
    st.lists(st.sampled_from(["sk-", "0123", "abcdef", " ", "x", "", "Bearer ", "é", "\ud800", "\u2028"]), max_size=12)
)
def test_what_is_held_back_comes_in_order_and_whole(texts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.jsonl"
        chunks = [Chunk(text) for text in texts]
        assert anyio.run(collect, Recorder(Chunks(*chunks, Chunk("", "stop")), path)) == [*chunks, Chunk("", "stop")]
        replayed = anyio.run(collect, Replay(path))
    assert len(replayed) == len(texts) + 1
    whole = "".join(texts)
    clean = Redaction().text(whole)
    assert "".join(chunk.text for chunk in replayed) == clean
    if clean == whole:
        assert replayed[:-1] == chunks
    assert replayed[-1] == Chunk("", "stop")
