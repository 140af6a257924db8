"""Turns of the model, and hooks around them and around runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import anyio
import pytest

from hermes_agent import Agent, Limits, Reasoning, Retry, RunContext, RunResult
from hermes_agent.errors import HookError, LimitExceededError
from hermes_agent.events import Final
from hermes_agent.hooks import Hooks, blocked
from hermes_agent.messages import AssistantMessage, ToolCall, ToolMessage
from hermes_agent.models.base import Request
from hermes_agent.pause import PausedRun
from hermes_agent.record import CallEnded, RunEnded, TurnWritten
from hermes_agent.testing import ScriptedModel
from hermes_agent.turn import TextPart, Turn

pytestmark = pytest.mark.anyio


class Canned(Hooks[Any]):
    """Writes turns itself, and lets the model write where it has none left."""

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)

    async def around_turn(
        self, context: RunContext[Any], request: Request, proceed: Callable[[Request], Awaitable[TurnWritten]]
    ) -> TurnWritten:
        if not self.texts:
            return await proceed(request)
        text = self.texts.pop(0)
        return TurnWritten(99, Turn((TextPart(text, (0, len(text))),), raw=text))


async def test_a_turn_that_a_hook_wrote_is_a_step_like_any_other() -> None:
    agent = Agent(ScriptedModel(["4"]), output=int, hooks=[Canned("four")])
    result = await agent.run("2 + 2?", run_id="r")
    assert (result.output, result.usage.steps) == (4, 2)
    assert [r.step for r in result.records["r"] if isinstance(r, TurnWritten)] == [1, 2]
    # Were both turns the first, the answer would be taken for the one that was rejected.
    again = await Agent(ScriptedModel([]), output=int).resume(PausedRun("r", result.records))
    assert (again.output, again.messages) == (4, result.messages)


async def test_turns_of_hooks_are_limited_too() -> None:
    agent = Agent(ScriptedModel(["4"]), output=int, hooks=[Canned("four")], limits=Limits(steps=1))
    with pytest.raises(LimitExceededError, match="steps=1"):
        await agent.run("2 + 2?")


async def test_calls_inside_of_a_thought_are_counted_again_when_a_run_goes_on() -> None:
    def look(path: str) -> str:
        """Look."""
        return "old"

    thought = '<think>\n<tool_call>\n{"name": "look", "arguments": {"path": "a"}}\n</tool_call>'
    model = ScriptedModel([thought, "\nOld.\n</think>\nIt is old."], dialect="hermes-4-14b")
    agent = Agent(model, tools=[look], reasoning=Reasoning("on", calls="inline"))
    result = await agent.run("?", run_id="r")
    assert result.usage.tool_calls == 1
    again = await agent.resume(PausedRun("r", result.records))
    assert again.usage == result.usage
    assert len(model.requests) == 2


class Never(Hooks[Any]):
    """Is not content with any answer."""

    async def around_run(
        self, context: RunContext[Any], proceed: Callable[[], Awaitable[RunResult[Any]]]
    ) -> RunResult[Any]:
        await proceed()
        raise RuntimeError("not good enough")


async def test_a_run_whose_answer_a_hook_refuses_has_failed_and_nothing_else() -> None:
    told: list[object] = []

    async def watch() -> None:
        async with Agent(ScriptedModel(["4"]), hooks=[Never()]).stream("2 + 2?", run_id="r") as events:
            async for event in events:
                told.append(event)  # noqa: PERF401  # what comes before the error counts

    with pytest.raises(HookError, match="not good enough") as caught:
        await watch()
    assert told
    assert not any(isinstance(event, Final) for event in told)
    (end,) = [record for record in caught.value.records["r"] if isinstance(record, RunEnded)]
    assert (end.answer, "not good enough" in end.error) == (None, True)


class Changing(Hooks[Any]):
    """Improves the answer."""

    async def around_run(
        self, context: RunContext[Any], proceed: Callable[[], Awaitable[RunResult[Any]]]
    ) -> RunResult[Any]:
        return replace(await proceed(), output="four")


async def test_the_last_event_holds_the_answer_that_hooks_leave() -> None:
    async with Agent(ScriptedModel(["4"]), hooks=[Changing()]).stream("2 + 2?") as events:
        told = [event async for event in events]
    assert told[-1] == Final("four")
    assert events.result.output == "four"


class Breaking(Hooks[Any]):
    """Breaks behind the second call."""

    async def around_call(
        self, context: RunContext[Any], call: ToolCall, proceed: Callable[[ToolCall], Awaitable[CallEnded]]
    ) -> CallEnded:
        ended = await proceed(call)
        if call.arguments["n"] == 2:
            raise RuntimeError("the guard is broken")
        return ended


async def test_a_result_that_is_recorded_is_in_the_conversation_of_a_run_that_failed_beside_it() -> None:
    def book(n: int) -> str:
        """Book."""
        return f"booked {n}"

    turn = AssistantMessage(tool_calls=tuple(ToolCall("book", {"n": n}) for n in (1, 2)))
    agent = Agent(ScriptedModel([turn]), tools=[book], hooks=[Breaking()], sequential=True)
    with pytest.raises(HookError, match="the guard is broken") as caught:
        await agent.run("?")
    told = [message.content for message in caught.value.messages if isinstance(message, ToolMessage)]
    assert told[0] == "booked 1"
    assert told[1].startswith("The run ended before")


async def test_an_answer_that_time_overtakes_is_no_answer_then_or_when_the_run_is_resumed() -> None:
    async def ponder(answer: str) -> str:
        if answer == "First.":
            await anyio.sleep(60)
        return answer

    agent = Agent(ScriptedModel(["First.", "Last."]), validators=[ponder], limits=Limits(seconds=1), on_limit="answer")
    result = await agent.run("?", run_id="r")
    assert (result.output, result.usage.steps) == ("Last.", 2)
    again = await Agent(ScriptedModel([]), limits=Limits(seconds=1), on_limit="answer").resume(
        PausedRun("r", result.records)
    )
    assert (again.output, again.messages, again.usage) == ("Last.", result.messages, result.usage)


class Hiding(Hooks[Any]):
    """Keeps results from the model."""

    def __init__(self, retry: bool) -> None:
        self.retry = retry

    async def around_call(
        self, context: RunContext[Any], call: ToolCall, proceed: Callable[[ToolCall], Awaitable[CallEnded]]
    ) -> CallEnded:
        await proceed(call)
        if self.retry:
            raise Retry("That was not good.")
        return blocked(call, "Nobody may see this.")


@pytest.mark.parametrize("retry", [False, True])
async def test_a_call_that_was_run_counts_whatever_a_hook_makes_of_its_result(retry: bool) -> None:
    inner = Agent(ScriptedModel(["secret"]), name="inner")
    turn = AssistantMessage(tool_calls=(ToolCall("inner", {"prompt": "?"}),))
    agent = Agent(ScriptedModel([turn, "Done."]), tools=[inner.as_tool()], hooks=[Hiding(retry)])
    result = await agent.run("?")
    assert (result.usage.tool_calls, result.usage.steps) == (1, 3)
    (ended,) = [record for record in result.records[result.run_id] if isinstance(record, CallEnded)]
    assert ended.ran
    assert ended.invalid == retry
    assert "secret" not in ended.message.content


async def test_what_an_agent_inside_used_counts_though_time_was_up_for_it() -> None:
    async def wait() -> None:
        """Wait."""
        await anyio.sleep(60)

    waiting = AssistantMessage(tool_calls=(ToolCall("wait", {}),))
    inner = Agent(ScriptedModel([waiting]), tools=[wait], name="inner")
    asking = AssistantMessage(tool_calls=(ToolCall("inner", {"prompt": "?"}),))
    agent = Agent(
        ScriptedModel([asking, "Done."]), tools=[inner.as_tool()], limits=Limits(seconds=1), on_limit="answer"
    )
    result = await agent.run("?")
    assert (result.usage.steps, result.usage.tool_calls) == (3, 1)


async def test_what_is_repeated_inside_of_thoughts_is_counted_again_when_a_run_goes_on() -> None:
    def look(path: str) -> str:
        """Look."""
        return "old"

    call = '<tool_call>\n{"name": "look", "arguments": {"path": "a"}}\n</tool_call>'

    def agent(*turns: str) -> Agent[None, str]:
        return Agent(
            ScriptedModel(turns, dialect="hermes-4-14b"),
            tools=[look],
            reasoning=Reasoning("on", calls="inline"),
            limits=Limits(repeats=1),
            on_limit="answer",
        )

    result = await agent(f"<think>\n{call}", f"\nHm.\n</think>\n{call}", "It is old.").run("?", run_id="r")
    again = await agent().resume(PausedRun("r", result.records))
    assert result.limit is not None
    assert "repeats=1" in result.limit
    assert (again.messages, again.usage, again.limit) == (result.messages, result.usage, result.limit)
