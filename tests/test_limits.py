"""What a run may cost: it ends there, or answers with what it has."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncGenerator
from dataclasses import fields
from pathlib import Path
from typing import Any

import anyio
import pytest

from hermes_agent import Agent, Limits, Reasoning
from hermes_agent.errors import ConfigurationError, LimitExceededError
from hermes_agent.events import ToolFinished, ToolStarted
from hermes_agent.formats import TurnGrammar
from hermes_agent.journal import Journal
from hermes_agent.messages import AssistantMessage, ToolCall, ToolMessage
from hermes_agent.models.base import Chunk, Request
from hermes_agent.record import RunEnded
from hermes_agent.testing import ScriptedModel
from hermes_agent.testing.scripted import ScriptedTurn

pytestmark = pytest.mark.anyio


def add(a: int, b: int) -> int:
    """Add."""
    return a + b


def call(a: int, b: int = 0, times: int = 1) -> AssistantMessage:
    return AssistantMessage(tool_calls=tuple(ToolCall("add", {"a": a, "b": b}) for _ in range(times)))


CALLS = [call(n) for n in range(50)]


class Counting(ScriptedModel):
    """Says what its prompts cost: 100 tokens and 10 more each turn, of which 5 are thought."""

    async def generate(self, request: Request) -> AsyncGenerator[Chunk, None]:
        async for chunk in super().generate(request):
            if chunk.finish_reason is None:
                yield chunk
            else:
                prompt = 100 + 10 * (len(self.requests) - 1)
                yield Chunk("", "stop", input_tokens=prompt, output_tokens=10, thinking_tokens=5)


@pytest.mark.parametrize(
    ("limits", "says", "turns"),
    [
        (Limits(steps=3), "steps=3", 3),
        (Limits(tool_calls=3), "tool_calls=3", 4),
        (Limits(output_tokens=25), "output_tokens=25", 3),
        (Limits(input_tokens=340), "input_tokens=340", 3),  # 100 + 110 + 120; another 120 would be too much
        (Limits(thinking_tokens=12), "thinking_tokens=12", 3),
    ],
)
async def test_a_limit_ends_the_run_with_all_it_has_come_to(limits: Limits, says: str, turns: int) -> None:
    model = Counting(CALLS)
    agent = Agent(model, tools=[add], limits=limits, reasoning="on" if limits.thinking_tokens else "off")
    with pytest.raises(LimitExceededError, match=says) as caught:
        await agent.run("?")
    error = caught.value
    assert len(model.requests) == turns
    assert isinstance(error.records[error.run_id][-1], RunEnded)
    made = [c.id for m in error.messages if isinstance(m, AssistantMessage) for c in m.tool_calls]
    assert made == [m.call_id for m in error.messages if isinstance(m, ToolMessage)]


@pytest.mark.parametrize(
    "limits",
    [
        Limits(steps=3),
        Limits(tool_calls=2),
        Limits(output_tokens=25),
        Limits(input_tokens=340),
        Limits(thinking_tokens=12),
        Limits(repeats=2),
    ],
)
async def test_or_it_answers_with_what_it_has(limits: Limits) -> None:
    def write(request: Request) -> str | AssistantMessage:
        if request.tool_choice == "none":
            assert isinstance(request.grammar, TurnGrammar)
            assert not request.grammar.accepts(
                '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 0}}\n</tool_call>'
            )
            return "As far as I know, 1."
        return call(1)

    model = Counting([write] * 50)
    agent = Agent(
        model,
        tools=[add],
        limits=limits,
        on_limit="answer",
        reasoning="auto" if limits.thinking_tokens else "off",
    )
    result = await agent.run("?")
    assert result.output == "As far as I know, 1."
    assert result.limit is not None
    (name,) = [
        n
        for n in ("steps", "tool_calls", "output_tokens", "input_tokens", "thinking_tokens", "repeats")
        if n in result.limit
    ]
    assert getattr(limits, name) is not None
    assert result.usage.steps <= (limits.steps or 99)
    assert result.usage.tool_calls <= (limits.tool_calls or 99)
    told = [m.content for m in result.messages if isinstance(m, ToolMessage)]
    assert "answer now" in told[-1] or told[-1].startswith("Not run: ")


async def test_the_only_turn_answers_at_once() -> None:
    model = ScriptedModel(["4"])
    result = await Agent(model, tools=[add], output=int, limits=Limits(steps=1), on_limit="answer").run("2 + 2?")
    assert result.output == 4
    assert model.requests[0].tool_choice == "none"
    assert len(result.messages) == 2  # nothing was told that the user did not say


async def test_a_last_turn_that_does_not_answer_is_the_limits_error() -> None:
    for last, says in ((call(9), "steps=2"), ("not a number", "was not valid")):
        with pytest.raises(LimitExceededError, match=says) as caught:
            await Agent(
                ScriptedModel([call(1), last]), tools=[add], output=int, limits=Limits(steps=2), on_limit="answer"
            ).run("?")
        made = [c.id for m in caught.value.messages if isinstance(m, AssistantMessage) for c in m.tool_calls]
        assert made == [m.call_id for m in caught.value.messages if isinstance(m, ToolMessage) if m.call_id]


async def test_time_that_is_up_leaves_one_last_turn() -> None:
    async def forever() -> str:
        """Wait."""
        await anyio.sleep_forever()
        return "never"

    turns: list[ScriptedTurn] = [AssistantMessage(tool_calls=(ToolCall("forever", {}),)), "It takes too long."]
    limits = Limits(seconds=1, tool_seconds=None)
    with anyio.fail_after(20):
        result = await Agent(ScriptedModel(turns), tools=[forever], limits=limits, on_limit="answer").run("?")
        assert result.output == "It takes too long."
        assert "seconds=1" in (result.limit or "")
        with pytest.raises(LimitExceededError, match="seconds=1"):
            await Agent(ScriptedModel(turns), tools=[forever], limits=limits).run("?")


async def test_the_same_call_again_and_again() -> None:
    with pytest.raises(LimitExceededError, match=r"'add' was called again and again.*repeats=2") as caught:
        await Agent(ScriptedModel([call(1)] * 9), tools=[add], limits=Limits(repeats=2)).run("?")
    assert sum(m.role == "tool" and not m.is_error for m in caught.value.messages) == 2
    # Other arguments, or another call between, is no repetition.
    turns: list[ScriptedTurn] = [call(1), call(1), call(2), call(1), call(1), "Done."]
    assert (await Agent(ScriptedModel(turns), tools=[add], limits=Limits(repeats=2)).run("?")).output == "Done."
    # In one turn it is one.
    with pytest.raises(LimitExceededError, match="repeats=2"):
        await Agent(ScriptedModel([call(1, times=3)]), tools=[add], limits=Limits(repeats=2)).run("?")


async def test_what_is_left_to_think_is_the_budget_of_the_next_turn() -> None:
    model = Counting([*CALLS[:2], "Done."])
    agent = Agent(model, tools=[add], limits=Limits(thinking_tokens=12), reasoning=Reasoning("on", max_tokens=11))
    await agent.run("?")
    assert [request.reasoning.max_tokens for request in model.requests] == [11, 7, 2]


async def test_several_limits_at_once_leave_one_last_turn() -> None:
    limits = Limits(tool_calls=1, output_tokens=15, steps=9)
    result = await Agent(Counting([call(1), call(2), "Done."]), tools=[add], limits=limits, on_limit="answer").run("?")
    assert result.output == "Done."
    assert result.usage.tool_calls == 1


async def test_calls_inside_a_thought_are_refused_and_the_turn_goes_on() -> None:
    wish = '<think>\n<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'
    model = ScriptedModel([wish, " well.\n</think>\nI do not know."], dialect="hermes-4-14b")
    agent = Agent(
        model,
        tools=[add],
        limits=Limits(tool_calls=0),
        on_limit="answer",
        reasoning=Reasoning("on", calls="inline"),
    )
    result = await agent.run("?")
    assert result.output == "I do not know."
    assert "tool_calls=0" in (result.limit or "")
    assert "Not run" in (result.reasoning or "")


async def test_a_last_turn_that_hangs_ends_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging(ScriptedModel):
        async def generate(self, request: Request) -> AsyncGenerator[Chunk, None]:
            await anyio.sleep_forever()
            yield Chunk("")

    monkeypatch.setattr("hermes_agent.run._LAST_SECONDS", 0.05)
    with anyio.fail_after(20), pytest.raises(LimitExceededError, match="its last turn took too long"):
        await Agent(Hanging([]), limits=Limits(seconds=0.05), on_limit="answer").run("?")


def test_limits_that_mean_nothing_are_refused() -> None:
    for wrong in ({"repeats": 0}, {"concurrency": 0}, {"input_tokens": -1}, {"thinking_tokens": True}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            Limits(**wrong)
    with pytest.raises(ConfigurationError, match="on_limit='stop'"):
        Agent(on_limit="stop")  # type: ignore[call-overload]  # that is what is tested


async def test_a_call_that_has_its_result_keeps_it_when_time_is_up_beside_it() -> None:
    async def stay() -> str:
        """Stay."""
        await anyio.sleep_forever()
        return "late"

    turn = AssistantMessage(tool_calls=(ToolCall("add", {"a": 1, "b": 2}), ToolCall("stay", {})))
    limits = Limits(seconds=2, tool_seconds=None)
    with pytest.raises(LimitExceededError) as caught:
        await Agent(ScriptedModel([turn]), tools=[add, stay], limits=limits).run("?")
    assert [m.content[:22] for m in caught.value.messages if isinstance(m, ToolMessage)] == [
        "3",
        "The run ended before t",
    ]
    agent = Agent(ScriptedModel([turn, "3."]), tools=[add, stay], limits=limits, on_limit="answer")
    result = await agent.run("?")
    assert [m.content[:10] for m in result.messages if isinstance(m, ToolMessage)] == ["3", "The run en", "Time is up"]
    assert result.usage.tool_calls == 2


async def test_a_run_that_answered_because_time_was_up_is_the_same_once_more(tmp_path: Path) -> None:
    began: list[str] = []

    async def stay() -> str:
        """Stay."""
        began.append("stay")
        await anyio.sleep_forever()
        return "late"

    turn = AssistantMessage(tool_calls=(ToolCall("add", {"a": 1, "b": 2}), ToolCall("stay", {})))
    async with Journal(tmp_path / "runs.db") as journal:
        agent = Agent(
            ScriptedModel([turn, "3."]),
            tools=[add, stay],
            limits=Limits(seconds=2, tool_seconds=None),
            on_limit="answer",
            journal=journal,
        )
        async with agent.stream("?", run_id="run") as events:
            told = [event async for event in events]
        started = [event.call.id for event in told if isinstance(event, ToolStarted)]
        assert sorted(started) == sorted(event.call.id for event in told if isinstance(event, ToolFinished))
        result = events.result
        again = await agent.resume("run")
        assert (again.output, again.limit, again.usage) == (result.output, result.limit, result.usage)
        assert list(again.messages) == list(result.messages)
        assert began == ["stay"]
        before = journal.records("run")[:-2]  # its process died while the last turn was written
        for at, record in enumerate(before):
            await journal.append("cut", at, record)
        agent = Agent(ScriptedModel(["Three."]), tools=[add, stay], on_limit="answer", journal=journal)
        cut = await agent.resume("cut")
        assert (cut.output, cut.limit) == ("Three.", result.limit)
        assert began == ["stay"]


async def test_arguments_in_another_order_are_the_same_call() -> None:
    turns: list[ScriptedTurn] = [
        AssistantMessage(tool_calls=(ToolCall("add", arguments),)) for arguments in ({"a": 1, "b": 2}, {"b": 2, "a": 1})
    ]
    with pytest.raises(LimitExceededError, match="repeats=1"):
        await Agent(ScriptedModel([*turns, "Done."]), tools=[add], limits=Limits(repeats=1)).run("?")


WHOLE = (
    "steps", "tool_calls", "input_tokens", "output_tokens", "thinking_tokens", "turn_tokens", "concurrency", "repeats",
    "corrections", "tool_result_chars",
)  # fmt: skip
make_limits: Any = Limits


@pytest.mark.parametrize("name", [field.name for field in fields(Limits)])
@pytest.mark.parametrize("value", [-1, math.nan, True, "3", [3], -math.inf])
async def test_a_limit_that_is_no_number_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(f"{name}={value!r}")) as caught:
        make_limits(**{name: value})
    assert caught.value.hint


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("value", [2.5, 3.0, math.inf])
async def test_what_is_counted_is_limited_by_whole_numbers(name: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(f"Limits({name}={value!r}) is not a whole number")):
        make_limits(**{name: value})


async def test_every_limit_but_that_of_corrections_can_be_lifted() -> None:
    make_limits(**{field.name: None for field in fields(Limits) if field.name != "corrections"})
    with pytest.raises(ConfigurationError, match="corrections=None"):
        make_limits(corrections=None)
    Limits(seconds=0.5, tool_seconds=math.inf, tool_calls=0, corrections=0)
