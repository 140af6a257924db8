from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes_agent import Agent, Limits, Sampling
from hermes_agent.errors import ConfigurationError, GuaranteeError, ModelError, ModelUnavailableError
from hermes_agent.formats import TurnGrammar
from hermes_agent.messages import UserMessage
from hermes_agent.models.base import Chunk, Model, Request
from hermes_agent.testing import Recorder, Replay, ScriptedModel, TapeMismatchError
from hermes_agent.testing.tape import VERSION
from tests.test_recorder import Chunks, collect

ROOT = Path(__file__).parent.parent


def ask(text: str) -> Request:
    return Request([UserMessage(text)])


def record(path: Path, turns: dict[str, str], *, chunk_size: int | None = 2) -> None:
    """A tape with one request a question."""
    recorder = Recorder(ScriptedModel(list(turns.values()), chunk_size=chunk_size), path)

    async def go() -> None:
        for question in turns:
            await collect(recorder, ask(question))

    anyio.run(go)


def text_of(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tape.jsonl"


def test_it_is_a_model_with_the_recorded_name_and_dialect(path: Path) -> None:
    anyio.run(collect, Recorder(ScriptedModel(["a"], dialect="qwen3"), path))
    replay = Replay(path)
    assert isinstance(replay, Model)
    assert replay.name == "scripted"
    assert replay.dialect.name == "qwen3"
    assert replay.dialect == ScriptedModel([], dialect="qwen3").dialect


chunk_texts = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(
    ["\n", "\r", "\u2028", "\x85", "\ud83d"]
)


@given(st.lists(chunk_texts, max_size=8))
def test_the_same_chunks_byte_for_byte(texts: list[str]) -> None:
    chunks = [*map(Chunk, texts), Chunk("", "length", 12, 3, 2, thought_cut=True, guarantee="server")]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.jsonl"
        anyio.run(collect, Recorder(Chunks(*chunks), path))
        assert anyio.run(collect, Replay(path)) == chunks


def test_equal_runs(path: Path) -> None:
    def weather(city: str) -> str:
        return f"rain in {city}"

    turns = [
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome", "unit": 1}}\n</tool_call>',
        "{}",
        '["a", "b"]',
    ]
    model = ScriptedModel(turns, chunk_size=3, guarantee="token")
    recorded = Agent(Recorder(model, path), tools=[weather], output=list[str]).run_sync("Coat?")
    replay = Replay(path)
    replayed = Agent(replay, tools=[weather], output=list[str]).run_sync("Coat?")
    assert replayed == recorded
    assert replayed.guarantee == "token"
    assert replayed.usage == recorded.usage
    replay.assert_complete()


def test_a_difference_is_shown(path: Path) -> None:
    record(path, {"What is the weather in Paris?": "Rain.", "And in Rome?": "Sun."})
    with pytest.raises(TapeMismatchError) as caught:
        anyio.run(collect, Replay(path), ask("What is the weather in Berlin?"))
    message = str(caught.value)
    assert f"--- {path}:2 (request 1)" in message
    assert "+++ this run" in message
    assert '-      "text": "What is the weather in Paris?"' in message
    assert '+      "text": "What is the weather in Berlin?"' in message


def test_a_difference_in_a_long_text_is_one_line(path: Path) -> None:
    record(path, {"\n".join(f"line {i}" for i in range(100)): "ok"})
    with pytest.raises(TapeMismatchError) as caught:
        anyio.run(collect, Replay(path), ask("\n".join(f"line {i if i != 50 else 'fifty'}" for i in range(100))))
    changed = [line for line in str(caught.value).split("\n") if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    assert [line.split('"')[1] for line in changed] == ["line 50", "line fifty"]


@pytest.mark.parametrize("change", ["output", "tools", "sampling", "limits", "reasoning", "instructions", "prefix"])
def test_every_part_of_a_request_counts(path: Path, change: str) -> None:
    def f(a: int) -> int:
        return a

    Agent(Recorder(ScriptedModel(["1"]), path), constrain="off").run_sync("Hi")
    if change == "prefix":
        request = Request([UserMessage("Hi")], max_tokens=Limits().turn_tokens, prefix="Hel")
        with pytest.raises(TapeMismatchError, match='"prefix": "Hel"'):
            anyio.run(collect, Replay(path), request)
        return
    agent = Agent(
        Replay(path),
        constrain="off",
        output=int if change == "output" else str,
        tools=[f] if change == "tools" else [],
        sampling=Sampling(temperature=1.0 if change == "sampling" else None),
        limits=Limits(turn_tokens=7) if change == "limits" else Limits(),
        reasoning="auto" if change == "reasoning" else "off",
        instructions="Be brief." if change == "instructions" else None,
    )
    with pytest.raises(TapeMismatchError, match=r"\+\+\+ this run"):
        agent.run_sync("Hi")


def test_the_grammar_counts_and_its_text_is_compared(path: Path) -> None:
    ask_int = Request([UserMessage("Hi")], grammar=TurnGrammar((), int))
    anyio.run(collect, Recorder(ScriptedModel(["1", "2"]), path), ask_int)
    renamed = path.read_text(encoding="utf-8").replace(TurnGrammar((), int).key[:16], "of an older release")
    path.write_text(renamed, encoding="utf-8")
    assert text_of(anyio.run(collect, Replay(path), ask_int)) == "1"
    with pytest.raises(TapeMismatchError, match="this run"):
        anyio.run(collect, Replay(path), Request([UserMessage("Hi")], grammar=TurnGrammar((), bool)))


def test_more_requests_than_the_tape_has(path: Path) -> None:
    record(path, {"Hi": "Hello."})
    replay = Replay(path)
    anyio.run(collect, replay, ask("Hi"))
    replay.assert_complete()
    with pytest.raises(TapeMismatchError, match=r"the tape has 1 requests, and this is one more.*\"Hi\""):
        anyio.run(collect, replay, ask("Hi"))
    with pytest.raises(AssertionError, match="one more"):
        replay.assert_complete()


def test_fewer_requests_than_the_tape_has(path: Path) -> None:
    record(path, {"a": "1", "b": "2", "c": "3"})
    replay = Replay(path)
    anyio.run(collect, replay, ask("a"))
    with pytest.raises(AssertionError, match=r"2 of 3 requests.*not asked for.*\"b\""):
        replay.assert_complete()


def test_a_difference_that_somebody_swallowed_still_fails_the_test(path: Path) -> None:
    record(path, {"a": "1"})
    replay = Replay(path)
    with pytest.raises(TapeMismatchError):
        anyio.run(collect, replay, ask("b"))
    anyio.run(collect, replay, ask("a"))
    with pytest.raises(AssertionError, match="this run"):
        replay.assert_complete()


@given(st.permutations(["a", "a", "b", "c", "c", "c"]))
@settings(max_examples=20, deadline=None)
def test_side_by_side_requests_are_matched_by_content(order: list[str]) -> None:
    recorded = ["a", "b", "c", "a", "c", "c"]
    answers: dict[str, list[str]] = {question: [] for question in recorded}

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.jsonl"
        recorder = Recorder(ScriptedModel([f"{question}{i}" for i, question in enumerate(recorded)]), path)

        async def one_after_another() -> None:
            for question in recorded:
                await collect(recorder, ask(question))

        anyio.run(one_after_another)
        replay = Replay(path)

        async def one(question: str) -> None:
            answers[question].append(text_of(await collect(replay, ask(question))))

        async def side_by_side() -> None:
            async with anyio.create_task_group() as group:
                for question in order:
                    group.start_soon(one, question)

        anyio.run(side_by_side)
        replay.assert_complete()
    # Equal requests get the answers in the order of the tape; others do not get in their way.
    assert answers == {"a": ["a0", "a3"], "b": ["b1"], "c": ["c2", "c4", "c5"]}


def test_recorded_side_by_side_and_replayed_side_by_side(path: Path) -> None:
    class Echo(Chunks):
        async def generate(self, request: Request) -> AsyncGenerator[Chunk, None]:
            said = request.messages[-1]
            text = said.text if isinstance(said, UserMessage) else ""
            for word in (text, " ", text):
                await anyio.lowlevel.checkpoint()
                yield Chunk(word)
            yield Chunk("", "stop", output_tokens=3)

    async def ask_all(model: Model) -> dict[str, str]:
        answers: dict[str, str] = {}

        async def one(question: str) -> None:
            answers[question] = (await Agent(model).run(question)).output

        async with anyio.create_task_group() as group:
            for i in range(20):
                group.start_soon(one, f"q{i}")
        return answers

    recorded = anyio.run(ask_all, Recorder(Echo(), path))
    replay = Replay(path)
    assert anyio.run(ask_all, replay) == recorded == {f"q{i}": f"q{i} q{i}" for i in range(20)}
    replay.assert_complete()


class OwnError(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ModelUnavailableError("gone", hint="wait", raw="x"), ModelUnavailableError),
        (ModelError("no"), ModelError),
        (TimeoutError("slow"), TimeoutError),
        (OwnError("mine"), ModelError),
    ],
)
def test_errors_are_raised_again(path: Path, error: Exception, kind: type[Exception]) -> None:
    with pytest.raises(type(error)):
        anyio.run(collect, Recorder(Chunks(Chunk("He"), error), path))
    seen: list[str] = []

    async def read() -> None:
        async with aclosing(Replay(path).generate(ask("Hi"))) as chunks:
            async for chunk in chunks:
                seen.append(chunk.text)  # noqa: PERF401  # what came before the error is to be kept

    with pytest.raises(kind) as caught:
        anyio.run(read)
    assert seen == ["He"]
    assert str(error).split("\n")[0] in str(caught.value)
    if isinstance(error, ModelUnavailableError):
        assert isinstance(caught.value, ModelUnavailableError)
        assert (caught.value.hint, caught.value.raw) == ("wait", "x")


def test_what_was_promised_is_promised_again(path: Path) -> None:
    recorder = Recorder(ScriptedModel([]), path)
    grammar, other = TurnGrammar((), int), TurnGrammar((), bool)

    async def asked(model: Model) -> None:
        assert await model.guarantee(grammar) == "checked"
        with pytest.raises(GuaranteeError, match="enforces nothing"):
            await model.guarantee(grammar, prove=True)

    anyio.run(asked, recorder)
    replay = Replay(path)
    anyio.run(asked, replay)
    anyio.run(asked, replay)  # as often as one likes
    with pytest.raises(TapeMismatchError, match="nobody asked for the guarantee"):
        anyio.run(replay.guarantee, other)


def test_a_reader_that_left_may_leave_again_but_not_go_on(path: Path) -> None:
    async def two(model: Model) -> list[str]:
        seen: list[str] = []
        async with aclosing(model.generate(ask("Hi"))) as chunks:
            async for chunk in chunks:
                seen.append(chunk.text)
                if len(seen) == 2:
                    break
        return seen

    anyio.run(two, Recorder(ScriptedModel(["a b c"], chunk_size=2), path))
    replay = Replay(path)
    assert anyio.run(two, replay) == ["a ", "b "]
    replay.assert_complete()
    with pytest.raises(TapeMismatchError, match="its reader left there"):
        anyio.run(collect, Replay(path), ask("Hi"))


def slowed(path: Path, seconds: float) -> None:
    """Move the times of a tape: chunk ``i`` comes after ``i * seconds``."""
    count = 0
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    for line in lines:
        if "chunk" in line:
            count += 1
            line["after"] = count * seconds
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def test_speed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(path, {"Hi": "abcd"})
    slowed(path, 10.0)
    now, slept = [0.0], list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr("hermes_agent.testing.replay.anyio.sleep", sleep)
    monkeypatch.setattr("hermes_agent.testing.replay.time.perf_counter", lambda: now[0])
    anyio.run(collect, Replay(path), ask("Hi"))
    assert slept == []
    anyio.run(collect, Replay(path, speed=1.0), ask("Hi"))
    assert slept == [10.0, 10.0, 10.0]
    slept.clear()
    anyio.run(collect, Replay(path, speed=4.0), ask("Hi"))
    assert slept == [2.5, 2.5, 2.5]
    with pytest.raises(ConfigurationError, match="speed=0"):
        Replay(path, speed=0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "tape.jsonl:1 is not"),
        ("nonsense\n", "tape.jsonl:1 is not"),
        ('{"tape": 99}\n', "tape.jsonl:1 is not"),
        (f'{{"tape": {VERSION}, "model": "x"}}\n[1]\n', "tape.jsonl:2 is not"),
        (f'{{"tape": {VERSION}, "model": "x"}}\n{{"chunk": 1, "after": 0, "text": ""}}\n', "tape.jsonl:2 is not"),
        (f'{{"tape": {VERSION}, "model": "x"}}\n{{"dialect": 1}}\n', "tape.jsonl:2 is not"),
        (f'{{"tape": {VERSION}, "model": "x"}}\n{{}}\n', "tape.jsonl:2 is not"),
    ],
)
def test_what_is_no_tape(path: Path, text: str, message: str) -> None:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=message):
        Replay(path)


def test_no_tape_there(path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no tape can be read"):
        Replay(path)


def test_lines_of_later_releases_are_left_alone(path: Path) -> None:
    record(path, {"Hi": "Hello."})
    text = path.read_text(encoding="utf-8").replace('"finish_reason"', '"new_field": 1, "finish_reason"')
    path.write_text(text + '{"weather": "sunny"}\n', encoding="utf-8")
    assert text_of(anyio.run(collect, Replay(path), ask("Hi"))) == "Hello."


REPLAYED = """
import sys
from hermes_agent import Agent
from hermes_agent.testing import Replay
from questions import ask

replay = Replay(sys.argv[1])
print(ask(replay))
replay.assert_complete()
assert not {"torch", "transformers", "outlines"} & set(sys.modules)
"""
QUESTIONS = '''
from hermes_agent import Agent, Example

def calculator(expression: str) -> str:
    """Calculate.

    Args:
        expression: Such as "2 + 3".
    """
    return "391"

def ask(model):
    agent = Agent(
        model,
        tools=[calculator],
        output=int,
        tool_choice="required",
        examples=[Example("What is 2 + 3?", calls=[("calculator", {"expression": "2 + 3"}, "5")], answer="5")],
    )
    result = agent.run_sync("What is 17 * 23?")
    return repr((result.output, list(result.messages), result.usage, result.guarantee, result.turns))
'''
RECORDED = """
import sys
from hermes_agent.testing import Recorder
from questions import ask

print(ask(Recorder("embedded", sys.argv[1])))
"""


def test_the_embedded_model_is_replayed_without_it(path: Path, tmp_path: Path) -> None:
    (tmp_path / "questions.py").write_text(QUESTIONS, encoding="utf-8")

    def run(code: str) -> str:
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}", "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    recorded = run(RECORDED)
    assert "guarantee='token'" in recorded or "'token'" in recorded
    assert run(REPLAYED) == recorded
