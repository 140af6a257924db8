"""Turns of several requests, and what a server counts, over real sockets.

The numbers are those of the failure catalogue in docs/servers.md.
"""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from hermes_agent import Agent
from hermes_agent.formats import TurnGrammar
from hermes_agent.messages import UserMessage
from hermes_agent.models.base import Request
from hermes_agent.models.endpoint import Endpoint
from hermes_agent.models.servers import Wire
from hermes_agent.reasoning import Mode, Reasoning
from tests.told import ADD, CALL, Told, add, deltas, say, texts

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """asyncio; under trio, httpx2 leaves a generator of its own to the collector when a stream is left early."""
    return str(getattr(request, "param", "asyncio"))


async def test_57_a_schema_waits_for_the_end_of_the_thought() -> None:
    grammar = TurnGrammar((), list[int], reasoning="on")
    came = await say(
        texts("hm", tokens=1),
        texts("[1]", tokens=3),
        wire="completions",
        grammar=grammar,
        output=grammar.output,
        reasoning=Reasoning("on", max_tokens=50),
    )
    think, answer = came.asked
    assert think["stop"][-1] == "</think>"
    assert think["prompt"].endswith("<think>\n")
    assert think["max_tokens"] == 50
    assert "structured_outputs" not in think
    assert answer["prompt"].endswith("<think>\nhm\n</think>\n")
    assert answer["structured_outputs"]
    assert came.text == "<think>\nhm\n</think>\n[1]"
    assert (came.last.thinking_tokens, came.last.output_tokens, came.last.thought_cut) == (1, 4, False)


async def test_57_where_a_reasoning_parser_may_be_at_work_no_grammar_meets_a_thought() -> None:
    grammar = TurnGrammar([ADD], list[int], reasoning="on")
    asked: dict[str, Any] = {"grammar": grammar, "output": grammar.output, "tools": [ADD]}
    came = await say(deltas({"reasoning": "hm"}), deltas({"content": "[1]"}), **asked, reasoning=Reasoning("on"))
    think, answer = came.asked
    assert "structured_outputs" not in think
    assert answer["structured_outputs"]
    assert answer["messages"][-1]["content"].endswith("<think>\nhm\n</think>\n")
    assert came.text == "<think>\nhm\n</think>\n[1]"
    assert grammar.accepts(came.text)


async def test_57_a_turn_that_does_not_begin_with_a_thought_is_begun_again_under_the_grammar() -> None:
    grammar = TurnGrammar((), list[int], reasoning="auto")
    asked: dict[str, Any] = {"grammar": grammar, "output": grammar.output, "reasoning": Reasoning("auto")}
    came = await say(texts("Well", ", let me see"), texts("[1]", tokens=3), wire="completions", **asked)
    assert [("structured_outputs" in body) for body in came.asked] == [False, True]
    assert came.text == "[1]"
    came = await say(texts("<thi", "nk>\nhm\n"), texts("[1]", tokens=3), wire="completions", **asked)
    assert came.asked[1]["prompt"].endswith("<think>\nhm\n</think>\n")
    assert came.text == "<think>\nhm\n</think>\n[1]"


async def test_a_budget_ends_a_thought_and_says_so() -> None:
    came = await say(
        texts("a", "b", finish="length", tokens=2),
        texts("Yes.", tokens=1),
        wire="completions",
        reasoning=Reasoning("on", max_tokens=2),
        max_tokens=10,
    )
    assert came.text == "<think>\nab\n</think>\nYes."
    assert came.last.thought_cut
    assert (came.last.thinking_tokens, came.last.output_tokens, came.last.finish_reason) == (2, 3, "stop")
    assert came.asked[1]["max_tokens"] == 8


async def test_a_budget_ends_a_thought_that_the_model_chose() -> None:
    came = await say(
        texts("<think>", "\n", "a", "b", "c", "d"),
        texts("Yes.", tokens=1),
        wire="completions",
        reasoning=Reasoning("auto", max_tokens=3),
    )
    assert came.turn.text == "Yes."
    assert came.last.thought_cut
    assert came.turn.reasoning is not None
    assert len(came.turn.reasoning) < 4


async def test_a_thought_of_its_own_end_is_not_cut() -> None:
    came = await say(
        texts("<think>\nab\n</think>\nYes.", tokens=9), wire="completions", reasoning=Reasoning("auto", max_tokens=30)
    )
    assert (came.turn.text, came.last.thought_cut, len(came.asked)) == ("Yes.", False, 1)


@pytest.mark.parametrize("wire", ["chat", "native"])
@pytest.mark.parametrize("mode", ["on", "auto"])
async def test_where_no_turn_can_be_taken_up_the_answer_behind_a_budget_is_asked_for_anew(
    wire: Wire, mode: Mode
) -> None:
    thinks = deltas(*[{"reasoning": "hm "}] * 40, {"content": "Late."})
    answers = deltas({"content": "Yes."})
    came = await say(thinks, answers, server="ollama", wire=wire, reasoning=Reasoning(mode, max_tokens=5))
    assert came.turn.text == "Yes."
    assert came.turn.reasoning is not None
    assert came.turn.reasoning.count("hm") == 5
    assert came.last.thought_cut
    first, second = came.asked
    assert second["messages"][-1]["role"] == "user"
    assert second["reasoning_effort"] == "none" != first.get("reasoning_effort")


async def test_a_turn_that_the_server_cut_off_is_continued() -> None:
    came = await say(
        texts("one ", finish="length", tokens=1), texts("two", tokens=1), wire="completions", max_tokens=50
    )
    assert (came.text, came.last.finish_reason, came.last.output_tokens) == ("one two", "stop", 2)
    assert came.asked[1]["prompt"].endswith("one ")
    assert came.asked[1]["max_tokens"] == 49


async def test_a_turn_that_our_own_limit_cut_off_is_not() -> None:
    came = await say(texts("one", "two", finish="length", tokens=2), wire="completions", max_tokens=2)
    assert (len(came.asked), came.last.finish_reason) == (1, "length")


async def test_calls_inside_a_thought_are_answered_there() -> None:
    replies = [
        texts("I add.\n", CALL, "\nand then"),
        texts("It is 1.\n", tokens=3),
        texts("[1]", tokens=3),
    ]
    with Told([*replies]) as told:
        endpoint = Endpoint("m", server="vllm", base_url=told.url)
        agent = Agent(endpoint, tools=[add], output=list[int], reasoning=Reasoning("on", calls="inline"))
        result = await agent.run("1 + 0?")
        await endpoint.aclose()
        prompts = [asked.json["prompt"] for asked in told.requests if asked.path.endswith("completions")]
    assert result.output == [1]
    assert result.usage.tool_calls == 1
    inside = "<think>\nI add.\n" + CALL
    assert inside in prompts[1]
    assert "<tool_response>\n1\n</tool_response>" in prompts[1].partition(inside)[2]
    assert prompts[2].endswith("It is 1.\n</think>\n")


async def test_no_more_requests_are_begun_in_a_minute_than_allowed() -> None:
    with Told([deltas({"content": "x"})]) as told:
        endpoint = Endpoint("m", server="ollama", base_url=told.url, requests_per_minute=2)
        request = Request([UserMessage("Hi")])
        for _ in range(2):
            assert [chunk async for chunk in endpoint.generate(request)]
        with anyio.move_on_after(0.3) as scope:
            async for _ in endpoint.generate(request):
                pass
        assert scope.cancelled_caught
        assert len(told.requests) == 2
        await endpoint.aclose()


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"], indirect=True)
async def test_usage_may_be_missing() -> None:
    came = await say(deltas({"content": "a"}, {"content": "b"}))
    assert (came.text, came.last.input_tokens, came.last.output_tokens) == ("ab", 0, 2)


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"prompt_tokens": 3.0, "completion_tokens": 1.0}, (3, 1)),
        ({"prompt_tokens": "3", "completion_tokens": True}, (0, 2)),
        ({"prompt_tokens": -1, "completion_tokens": float("nan")}, (0, 2)),
        ({"prompt_tokens": 3, "completion_tokens": 2, "completion_tokens_details": [1]}, (3, 2)),
        ({"completion_tokens_details": {"reasoning_tokens": "many"}}, (0, 2)),
        (["?"], (0, 2)),
        ("?", (0, 2)),
    ],
)
async def test_no_turn_fails_over_its_usage(usage: object, counted: tuple[int, int]) -> None:
    came = await say([*deltas({"content": "a"}, {"content": "b"}), {"choices": [], "usage": usage}])
    assert (came.text, (came.last.input_tokens, came.last.output_tokens)) == ("ab", counted)


async def test_events_without_data_keep_the_connection_alive_and_say_nothing() -> None:
    events = [b"data:\n\n", b"data: \n\n", *deltas({"content": "a"}), b"data: \ndata:\n\n"]
    assert (await say(events)).text == "a"
