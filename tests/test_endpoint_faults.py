"""One thing goes wrong between client and server: the right answer or the right error, and nothing run twice.

The server is a scripted one, so that every word is known; test_endpoint_faults_real.py does it with a real one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import anyio
import pytest

from hermes_agent import Agent, Limits
from hermes_agent.errors import (
    HermesError,
    InvalidTurnError,
    LimitExceededError,
    ModelError,
    ModelUnavailableError,
)
from hermes_agent.events import TextDelta
from hermes_agent.models.base import Constrain
from hermes_agent.models.endpoint import Endpoint, Timeouts
from hermes_agent.models.servers import Wire
from hermes_agent.run import RunResult
from tests.faulty_proxy import Fault, FaultyProxy
from tests.faulty_runs import HTML, JSON, PAGE, REFUSED, Came, until
from tests.scripted_server import ScriptedServer

pytestmark = pytest.mark.anyio

WIRES: tuple[Wire, ...] = ("completions", "chat", "native")
ASKED = "Wie heißt die Sieben auf Japanisch?"
MARK = "noted: 7"
CALL = "Ich höre: 日本.\n" + '<tool_call>\n{"name": "note", "arguments": {"n": 7}}\n</tool_call>'
IN_CALL: dict[Wire, int] = {"completions": 12, "chat": 12, "native": 3}
"""So many pieces of it end amid the call."""
ANSWER = "Sie heißt 七, „nana“ 🙂, und nicht anders."
PATIENT = Timeouts(connect=20.0, first_token=20.0, between_tokens=20.0)
TO_START = Timeouts(connect=20.0, first_token=1.0, between_tokens=20.0)
TO_GO_ON = Timeouts(connect=20.0, first_token=20.0, between_tokens=1.0)


def pieces(turn: str) -> list[str]:
    return [turn[i : i + 3] for i in range(0, len(turn), 3)]


def script(body: dict[str, Any]) -> Sequence[str]:
    """Call the tool, then answer; a turn that was begun is gone on with."""
    said = body.get("prompt") or json.dumps(body["messages"], ensure_ascii=False)
    turn = ANSWER if MARK in said else CALL
    begun = ""
    if "prompt" in body:
        begun = said.rpartition("<|im_start|>assistant\n")[2]
    elif body["messages"][-1]["role"] == "assistant":
        begun = body["messages"][-1]["content"]
    assert turn.startswith(begun), begun
    return pieces(turn[len(begun) :])


@pytest.fixture(scope="module")
def scripted() -> Iterator[ScriptedServer]:
    with ScriptedServer(script) as server:
        yield server


@pytest.fixture(scope="module")
def hello() -> Iterator[ScriptedServer]:
    with ScriptedServer(lambda body: ["Hello."]) as server:
        yield server


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(getattr(request, "param", "asyncio"))


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without a `Retry-After` wait for as good as no time."""
    monkeypatch.setattr("hermes_agent.models.transport._FIRST_DELAY", 0.02)


async def ask(
    upstream: str,
    fault: Fault,
    wire: Wire,
    *,
    output: Any = str,
    constrain: Constrain = "auto",
    corrections: int = 3,
    max_retries: int = 2,
    timeouts: Timeouts = PATIENT,
) -> Came:
    """A run through a proxy with a fault, after which nothing is left over."""
    runs: list[int] = []

    async def note(n: int) -> str:
        """Note a number."""
        runs.append(n)
        return f"noted: {n}"

    limits = Limits(corrections=corrections)
    with FaultyProxy(upstream, fault) as proxy, anyio.fail_after(60):
        model = Endpoint(
            "scripted", base_url=proxy.url, wire=wire, dialect="chatml", timeouts=timeouts, max_retries=max_retries
        )
        agent = Agent(model, tools=[note], output=output, constrain=constrain, limits=limits)
        result: RunResult[Any] | HermesError
        try:
            result = await agent.run(ASKED)
        except HermesError as error:
            result = error
        finally:
            await model.aclose()
        await until(lambda: not proxy.in_flight and not proxy.connections)
    return Came(result, runs, proxy)


everywhere = pytest.mark.parametrize(("wire", "skip"), [("completions", 0), ("chat", 1), ("native", 0)])
"""On every wire; the fault strikes the turn that calls, or behind ``skip`` the one that answers."""
all_wires = pytest.mark.parametrize("wire", WIRES)


@everywhere
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault("reset_before_headers"), id="reset before the headers"),
        pytest.param(Fault("answer_with", status=429, headers=JSON, value=REFUSED), id="429"),
        pytest.param(Fault("answer_with", status=500, headers=JSON, value="{}"), id="500"),
        pytest.param(Fault("answer_with", status=502, headers=HTML, value=PAGE), id="502, as a page"),
        pytest.param(Fault("reset_mid_chunk", at=0), id="reset in the first event"),
        pytest.param(Fault("close_mid_chunk", at=0), id="closed in the first event"),
        pytest.param(Fault("no_end", at=0), id="no text and no end"),
        pytest.param(Fault("done_without_finish", at=0), id="[DONE] at once"),
        pytest.param(Fault("strange_event", at=0, value='{"error": {"message": "crashed"}}'), id="error at once"),
        pytest.param(Fault("strange_event", at=0, value='{"choices": [{'), id="no JSON at first"),
    ],
)
async def test_what_fails_before_its_first_text_is_sent_again(
    scripted: ScriptedServer, fault: Fault, wire: Wire, skip: int
) -> None:
    came = await ask(scripted.url, replace(fault, skip=skip, times=2), wire)
    assert came.output == ANSWER
    assert came.runs == [7]
    assert came.proxy.struck == 2
    assert len(came.proxy.turns) == 4


@everywhere
@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        pytest.param(
            Fault("reset_before_headers"), ModelUnavailableError, ("cannot be reached", "start the server"), id="reset"
        ),
        pytest.param(
            Fault("answer_with", status=429, headers=JSON, value=REFUSED),
            ModelUnavailableError,
            ("answered 429: slow down", "try again later"),
            id="429",
        ),
        pytest.param(
            Fault("answer_with", status=500, headers=JSON, value='{"error": "out of memory"}'),
            ModelUnavailableError,
            ("answered 500: out of memory", "log"),
            id="500",
        ),
        pytest.param(Fault("reset_mid_chunk", at=0), ModelError, ("broke", "log"), id="reset in the first event"),
    ],
)
async def test_what_fails_for_good_is_told(
    scripted: ScriptedServer, fault: Fault, kind: type[HermesError], words: Sequence[str], wire: Wire, skip: int
) -> None:
    came = await ask(scripted.url, replace(fault, skip=skip), wire, max_retries=1)
    came.failed(kind, "'scripted' at", came.proxy.url, *words)
    assert len(came.proxy.turns) == skip + 2, "a retry, and no more"
    assert came.runs == [7] * skip


@everywhere
@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        pytest.param(Fault("reset_mid_chunk"), ModelError, ("broke",), id="reset"),
        pytest.param(Fault("reset_in_character"), ModelError, ("broke",), id="reset in a character"),
        pytest.param(Fault("close_mid_chunk"), ModelError, ("broke",), id="closed in an event"),
        pytest.param(Fault("no_end"), ModelError, ("ended before its end",), id="closed between events"),
        pytest.param(Fault("done_without_finish"), ModelError, ("no finish_reason",), id="[DONE] too early"),
        pytest.param(
            Fault("strange_event", value='{"error": {"message": "out of memory", "code": 503}}'),
            ModelUnavailableError,
            ("answered 503: out of memory",),
            id="an error in the stream",
        ),
        pytest.param(
            Fault("strange_event", value='{"choices": [{'), ModelError, ("not JSON", "'{\"choices"), id="no JSON"
        ),
        pytest.param(Fault("strange_event", value='"hello"'), ModelError, ("'\"hello\"'",), id="no object"),
        pytest.param(
            Fault("finish_reason", value="content_filter"), ModelError, ("'content_filter'",), id="content filter"
        ),
        pytest.param(
            Fault("stall"), ModelUnavailableError, ("between_tokens=1.0", "raise Timeouts(between_tokens"), id="stall"
        ),
    ],
)
async def test_what_fails_after_text_was_seen_is_told_and_never_sent_again(
    scripted: ScriptedServer, fault: Fault, kind: type[HermesError], words: Sequence[str], wire: Wire, skip: int
) -> None:
    if fault.kind == "reset_in_character" and wire == "native" and not skip:
        fault = replace(fault, at=0)  # all its letters are in the first piece
        words = ("broke",)
    timeouts = TO_GO_ON if fault.kind == "stall" else PATIENT
    came = await ask(
        scripted.url, replace(fault, skip=skip), wire, max_retries=0 if fault.at == 0 else 2, timeouts=timeouts
    )
    came.failed(kind, *words)
    assert came.proxy.struck == 1
    assert len(came.proxy.turns) == skip + 1
    assert came.runs == [7] * skip, "a call that was not seen to its end was run"


@everywhere
@pytest.mark.parametrize("fault", [Fault("stall_before_headers"), Fault("stall", at=0)], ids=["headers", "first token"])
async def test_silence_before_the_first_token_is_timed_and_the_server_is_left(
    scripted: ScriptedServer, fault: Fault, wire: Wire, skip: int
) -> None:
    came = await ask(scripted.url, replace(fault, skip=skip), wire, timeouts=TO_START)
    came.failed(ModelUnavailableError, "silent", "first_token=1.0", "raise Timeouts(first_token")
    assert len(came.proxy.turns) == skip + 1
    assert came.proxy.abandoned == 1, "the request goes on without anybody waiting for it"
    assert came.runs == [7] * skip


@everywhere
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault("single_bytes"), id="one byte a chunk"),
        pytest.param(Fault("split_characters"), id="characters split"),
        pytest.param(Fault("merged"), id="events split and merged"),
        pytest.param(Fault("empty_deltas"), id="empty deltas"),
        pytest.param(Fault("no_usage"), id="no usage"),
        pytest.param(Fault("no_done"), id="no [DONE]"),
        pytest.param(Fault("stall_after_done"), id="left open behind [DONE]"),
        pytest.param(Fault("reset_after_done"), id="reset behind [DONE]"),
        pytest.param(Fault("reset_after_finish"), id="reset behind the finish reason"),
        pytest.param(Fault("finish_reason", value="tool_calls"), id="finish reason tool_calls"),
        pytest.param(Fault("finish_reason", value="eos"), id="finish reason nobody knows"),
        pytest.param(Fault("strange_event", value='{"object": "ping"}'), id="an event of another kind"),
    ],
)
async def test_what_does_no_harm_is_not_noticed(scripted: ScriptedServer, fault: Fault, wire: Wire, skip: int) -> None:
    came = await ask(scripted.url, replace(fault, skip=skip), wire)
    assert came.output == ANSWER
    assert came.runs == [7]
    assert came.proxy.struck
    assert len(came.proxy.turns) == 2
    assert isinstance(came.result, RunResult)
    assert came.result.usage.output_tokens >= 10


@all_wires
async def test_a_page_instead_of_a_stream_is_told_for_what_it_is(scripted: ScriptedServer, wire: Wire) -> None:
    came = await ask(scripted.url, Fault("answer_with", headers=HTML, value="<html>Sign in, please</html>"), wire)
    came.failed(ModelUnavailableError, "text/html", "Sign in, please", came.proxy.url, "check the base URL")
    assert len(came.proxy.turns) == 1
    assert came.runs == []


async def test_retry_after_is_honoured(scripted: ScriptedServer) -> None:
    headers = (*JSON, ("retry-after", "1"))
    came = await ask(scripted.url, Fault("answer_with", status=429, headers=headers, times=1), "completions")
    assert came.output == ANSWER
    first, second, _ = came.proxy.turns
    assert second.when - first.when >= 1.0


async def test_retry_after_that_is_too_long_ends_the_run_at_once(scripted: ScriptedServer) -> None:
    headers = (*JSON, ("retry-after", "3600"))
    came = await ask(
        scripted.url, Fault("answer_with", status=429, headers=headers, value=REFUSED, times=1), "completions"
    )
    came.failed(ModelUnavailableError, "answered 429: slow down", "try again later")
    assert len(came.proxy.turns) == 1


# A lying finish reason.


@all_wires
async def test_a_whole_call_that_is_called_cut_off_is_run_once(scripted: ScriptedServer, wire: Wire) -> None:
    came = await ask(scripted.url, Fault("finish_reason", value="length", times=1), wire)
    assert came.output == ANSWER
    assert came.runs == [7]


@all_wires
async def test_a_whole_answer_that_is_called_cut_off_is_told_and_kept(scripted: ScriptedServer, wire: Wire) -> None:
    """Nobody can know that it was whole."""
    came = await ask(scripted.url, Fault("finish_reason", value="length", skip=1), wire)
    came.failed(LimitExceededError, "cut off", "the text so far is on .raw")
    assert isinstance(came.result, HermesError)
    assert came.result.raw == ANSWER
    assert came.runs == [7]


@all_wires
async def test_a_cut_call_that_is_called_whole_is_never_run(scripted: ScriptedServer, wire: Wire) -> None:
    came = await ask(scripted.url, Fault("cut_with", value="stop", at=IN_CALL[wire], times=1), wire)
    assert came.output == ANSWER, "the model was told, and called again"
    assert came.runs == [7]
    assert isinstance(came.result, RunResult)
    assert not came.result.turns[0].tool_calls
    assert [fault.kind for fault in came.result.turns[0].faults] in (["truncated"], ["malformed"])


@all_wires
async def test_calls_that_are_always_cut_off_end_the_run(scripted: ScriptedServer, wire: Wire) -> None:
    came = await ask(scripted.url, Fault("cut_with", value="stop", at=IN_CALL[wire]), wire, corrections=1)
    came.failed(InvalidTurnError, "corrections=1")
    assert came.runs == []


@all_wires
async def test_a_cut_answer_that_is_called_whole_is_caught_by_its_type(wire: Wire) -> None:
    """Of free text nobody can tell; a typed answer is validated, and the model asked again."""
    with ScriptedServer(lambda body: pieces('["sieben", "acht"]')) as server:
        came = await ask(server.url, Fault("cut_with", value="stop", at=3, times=1), wire, output=list[str])
    assert came.output == ["sieben", "acht"]
    assert len(came.proxy.turns) == 2


@pytest.mark.parametrize("skip", [0, 1], ids=["call", "answer"])
async def test_a_turn_that_the_server_cuts_off_is_gone_on_with_where_that_can_be(
    scripted: ScriptedServer, skip: int
) -> None:
    fault = Fault("cut_with", value="length", at=4, skip=skip, times=1)
    came = await ask(scripted.url, fault, "completions", constrain="off")
    assert came.output == ANSWER
    assert came.runs == [7]
    assert len(came.proxy.turns) == 3
    begun = came.proxy.turns[skip].json["prompt"]
    taken_up = came.proxy.turns[skip + 1].json["prompt"]
    assert taken_up == begun + "".join(pieces((CALL, ANSWER)[skip])[:4])


async def test_a_whole_call_that_is_called_cut_off_is_not_written_twice_by_going_on(scripted: ScriptedServer) -> None:
    came = await ask(scripted.url, Fault("finish_reason", value="length", times=1), "completions", constrain="off")
    assert came.output == ANSWER
    assert came.runs == [7]
    assert len(came.proxy.turns) == 3, "the call, what might follow it, the answer"


# Repeated deltas. Free text alone cannot tell a repeated delta from a repeated word; what the server says it cost can.


@everywhere
async def test_deltas_that_come_twice_are_told(scripted: ScriptedServer, wire: Wire, skip: int) -> None:
    came = await ask(scripted.url, Fault("duplicate_deltas", at=0, skip=skip), wire)
    came.failed(ModelError, "twice")
    assert came.runs == [7] * skip
    assert len(came.proxy.turns) == skip + 1


async def test_words_that_the_model_repeats_are_no_fault() -> None:
    with ScriptedServer(lambda body: ["ha ", "ha ", "ha ", "ha", "!", "!"]) as server:
        came = await ask(server.url, Fault(), "chat")
    assert came.output == "ha ha ha ha!!"


async def test_deltas_that_come_twice_from_a_server_that_does_not_count_are_caught_by_the_type() -> None:
    with (
        ScriptedServer(lambda body: pieces('["sieben", "acht"]')) as server,
        FaultyProxy(server.url, Fault("no_usage")) as uncounted,
    ):
        came = await ask(uncounted.url, Fault("duplicate_deltas", at=0, times=1), "chat", output=list[str])
    assert came.output == ["sieben", "acht"]
    assert len(came.proxy.turns) == 2


# Events in shapes that nobody expects.


@pytest.mark.parametrize(
    "event",
    [
        '{"choices": [null]}', '{"choices": {"delta": {"content": "x"}}}', '{"choices": "x"}', '{"choices": [[1]]}',
        '{"choices": [{"index": 0, "delta": "x"}]}', '{"choices": [{"index": 0, "delta": [1]}]}',
        '{"choices": [{"index": 0, "delta": {"content": 5}}]}', '{"choices": [{"index": 0, "text": {"a": 1}}]}',
        '{"choices": [{"index": 0, "delta": {"tool_calls": [null]}}]}', '{"choices": [], "usage": "much"}',
        '{"choices": [{"index": 0, "delta": {"tool_calls": {"a": 1}}}]}', '{"choices": [{"finish_reason": 5}]}',
        '{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 9, "function": "x"}]}}]}', '{"error": 5}',
        '{"choices": [], "usage": {"prompt_tokens": "x", "completion_tokens": [1]}}', '{"choices": [], "model": 5}',
        '{"choices": [{"index": [], "delta": {}}]}', "null", "[]", "5", "NaN", '{"choices": [{"text": "\\ud800"}]}',
    ],
)  # fmt: skip
async def test_events_of_odd_shape_are_passed_over_or_told(scripted: ScriptedServer, event: str) -> None:
    came = await ask(scripted.url, Fault("strange_event", value=event, times=1), "native")
    if isinstance(came.result, HermesError):
        assert isinstance(came.result, ModelError), came.result
        assert came.result.hint
        assert came.runs == []
    else:
        assert came.runs == [7]


@pytest.mark.parametrize("wire", ["completions", "chat"])
async def test_halves_of_a_character_are_joined_and_a_lone_one_replaced(wire: Wire) -> None:
    with ScriptedServer(lambda body: ["a\ud83d", "\ude42b", "\ud83d", "c", "\ude42", "d\ud83d"]) as server:
        came = await ask(server.url, Fault(), wire)
    assert came.output == "a🙂b\ufffdc\ufffdd\ufffd"


async def test_half_a_character_in_an_argument_does_not_keep_the_run_from_going_on() -> None:
    """A model may write one as an escape, which is JSON; the next request cannot hold it, as UTF-8 has none."""
    heard: list[str] = []

    def script(body: dict[str, Any]) -> Sequence[str]:
        if any(message["content"].startswith("<tool_response>") for message in body["messages"][-1:]):
            return ["Done."]
        return ['<tool_call>\n{"name": "say", "arguments": {"text": "\\ud83d!"}}\n</tool_call>']

    async def say(text: str) -> str:
        """Say something."""
        heard.append(text)
        return text

    with ScriptedServer(script) as server, anyio.fail_after(60):
        model = Endpoint("scripted", base_url=server.url, wire="chat", dialect="chatml")
        result = await Agent(model, tools=[say]).run("Say something.")
        await model.aclose()
    assert result.output == "Done."
    assert heard == [], "it is no text, and the model was told so"


# What is asked beside the turns is good to know, and no more.


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault("reset_before_headers", path="/v1/models"), id="reset"),
        pytest.param(Fault("answer_with", status=500, headers=JSON, value="{}", path="/v1/models"), id="500"),
        pytest.param(Fault("answer_with", headers=HTML, value=PAGE, path="/v1/models"), id="a page"),
        pytest.param(Fault("answer_with", headers=JSON, value="5", path="/v1/models"), id="a number"),
        pytest.param(Fault("answer_with", headers=JSON, value='{"data": {"id": []}}', path="/v1/models"), id="odd"),
    ],
)
async def test_a_server_that_does_not_tell_what_it_is_writes_turns_all_the_same(
    scripted: ScriptedServer, fault: Fault
) -> None:
    came = await ask(scripted.url, fault, "chat")
    assert came.output == ANSWER
    assert came.proxy.struck


async def test_a_server_that_is_silent_about_itself_is_not_waited_for_again_and_again(hello: ScriptedServer) -> None:
    """Each of many runs would wait for its own answer, and each for several."""
    fault = Fault("stall_before_headers", path="/v1/models")
    with FaultyProxy(hello.url, fault) as proxy, anyio.fail_after(60):
        timeouts = Timeouts(connect=20.0, first_token=5.0, between_tokens=20.0)  # of the eight turns as well
        model = Endpoint("scripted", base_url=proxy.url, wire="chat", dialect="chatml", timeouts=timeouts)
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(Agent(model).run, ASKED)
        await model.aclose()
    assert proxy.struck == 1


async def test_a_server_that_comes_up_late_is_asked_again(hello: ScriptedServer) -> None:
    with FaultyProxy(hello.url, Fault("reset_before_headers", path="/v1/models", times=1)) as proxy:
        model = Endpoint("scripted", base_url=proxy.url, wire="chat", dialect="chatml", timeouts=PATIENT)
        for _ in range(3):
            await Agent(model).run(ASKED)
        await model.aclose()
    asked = [request.path for request in proxy.requests]
    assert proxy.struck == 1
    assert asked.index("/v1/models", 1) > asked.index("/v1/chat/completions"), "the next run asked"
    assert asked[-2:] == ["/v1/chat/completions"] * 2, "and the third knew"


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"], indirect=True)
async def test_leaving_a_stream_leaves_the_server(scripted: ScriptedServer) -> None:
    with FaultyProxy(scripted.url, Fault("stall", at=1)) as proxy, anyio.fail_after(60):
        model = Endpoint("scripted", base_url=proxy.url, wire="chat", dialect="chatml")
        async with Agent(model).stream(ASKED) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    break
            assert proxy.in_flight == 1
        await until(lambda: not proxy.in_flight)
        assert proxy.abandoned == 1
        await model.aclose()
        await until(lambda: not proxy.connections)


@pytest.mark.parametrize("anyio_backend", ["trio"], indirect=True)
@pytest.mark.parametrize(
    "fault",
    [Fault("reset_mid_chunk", at=0, times=1), Fault("stall_after_done"), Fault("merged")],
    ids=["reset", "left open", "merged"],
)
async def test_trio_fares_as_well(scripted: ScriptedServer, fault: Fault) -> None:
    came = await ask(scripted.url, fault, "chat")
    assert came.output == ANSWER
    assert came.runs == [7]
