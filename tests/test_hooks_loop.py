"""Hooks in real runs: what they may do, and what they do wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from hermes_agent import Agent, Limits, Retry, RunContext, RunResult, tool
from hermes_agent.errors import ConfigurationError, HookError, LimitExceededError, RunPaused
from hermes_agent.hooks import Hooks, blocked
from hermes_agent.messages import AssistantMessage, ToolCall, ToolMessage
from hermes_agent.models.base import Request
from hermes_agent.record import CallEnded, TurnWritten
from hermes_agent.testing import ScriptedModel

pytestmark = pytest.mark.anyio

Turn = Callable[[Request], Awaitable[TurnWritten]]
Call = Callable[[ToolCall], Awaitable[CallEnded]]
Whole = Callable[[], Awaitable[RunResult[Any]]]


def say(text: str) -> str:
    """Say."""
    return text


def calls(*texts: str) -> AssistantMessage:
    return AssistantMessage(tool_calls=tuple(ToolCall("say", {"text": text}) for text in texts))


def told(result: RunResult[Any]) -> list[str]:
    return [m.content for m in result.messages if isinstance(m, ToolMessage)]


class Named(Hooks):
    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    async def around_run(self, context: RunContext[Any], proceed: Whole) -> RunResult[Any]:
        self.log.append(f"{self.name} run")
        result = await proceed()
        self.log.append(f"{self.name} ran")
        return result

    # Names of a hook's own: nothing is handed over by name.
    async def around_turn(self, c: RunContext[Any], r: Request, p: Turn) -> TurnWritten:  # pyright: ignore[reportIncompatibleMethodOverride]  # names are the point
        self.log.append(f"{self.name} turn {c.step}")
        return await p(r)

    async def around_call(self, c: RunContext[Any], what: ToolCall, p: Call) -> CallEnded:  # pyright: ignore[reportIncompatibleMethodOverride]  # likewise
        self.log.append(f"{self.name} call {c.call_id}")
        return await p(what)


async def test_the_first_hook_is_the_outermost() -> None:
    log: list[str] = []
    hooks = [Named("a", log), Named("b", log)]
    await Agent(ScriptedModel([calls("x"), "ok"]), tools=[say], hooks=hooks).run("?")
    assert log == [
        *("a run", "b run", "a turn 1", "b turn 1", "a call call_1_0", "b call call_1_0"),
        *("a turn 2", "b turn 2", "b ran", "a ran"),
    ]


class Changes(Hooks):
    async def around_call(self, context: RunContext[Any], call: ToolCall, proceed: Call) -> CallEnded:
        if call.arguments["text"] == "secret":
            return blocked(call, "You may not say that.")
        if call.arguments["text"] == "wrong":
            raise Retry("Say it otherwise.")
        ended = await proceed(replace(call, arguments={"text": call.arguments["text"].upper()}))
        return replace(ended, message=replace(ended.message, content=ended.message.content + "!"))


async def test_calls_are_changed_blocked_and_sent_back() -> None:
    ran: list[str] = []

    def shout(text: str) -> str:
        """Shout."""
        ran.append(text)
        return text

    turn = AssistantMessage(tool_calls=tuple(ToolCall("shout", {"text": t}) for t in ("hi", "secret", "wrong")))
    result = await Agent(ScriptedModel([turn, "ok"]), tools=[shout], hooks=[Changes()]).run("?")
    assert told(result) == ["HI!", "You may not say that.", "Say it otherwise."]
    assert ran == ["HI"]
    assert result.usage.tool_calls == 1


class Strict(Hooks):
    async def around_turn(self, context: RunContext[Any], request: Request, proceed: Turn) -> TurnWritten:
        written = await proceed(request)
        if "promise" in written.turn.text:
            raise Retry("Promise nothing.")
        return written


async def test_a_turn_is_sent_back_and_its_calls_are_not_run() -> None:
    promising = AssistantMessage("I promise.", tool_calls=calls("x").tool_calls)
    result = await Agent(ScriptedModel([promising, "Maybe."]), tools=[say], hooks=[Strict()]).run("?")
    assert result.output == "Maybe."
    assert told(result) == ["Promise nothing.\nPlease answer again."]


class Again(Hooks):
    """Asks for every turn twice."""

    async def around_turn(self, context: RunContext[Any], request: Request, proceed: Turn) -> TurnWritten:
        await proceed(request)
        return await proceed(request)


async def test_a_turn_that_is_asked_for_again_is_paid_for_twice() -> None:
    result = await Agent(ScriptedModel(["one two", "one two three"]), hooks=[Again()]).run("?")
    assert result.output == "one two three"
    assert (result.usage.output_tokens, result.usage.steps) == (5, 2)
    with pytest.raises(LimitExceededError):
        await Agent(ScriptedModel([calls("x")] * 9), tools=[say], hooks=[Again()], limits=Limits(output_tokens=15)).run(
            "?"
        )


def wrong(method: str, returned: object) -> Hooks:
    async def around(self: Hooks, *_: object) -> object:
        return returned

    return type("Wrong", (Hooks,), {method: around})()  # type: ignore[no-any-return]  # a hook


@pytest.mark.parametrize(
    ("method", "says"),
    [
        ("around_run", "around the run returned"),
        ("around_turn", "around a turn returned"),
        ("around_call", "around 'say' returned"),
    ],
)
@pytest.mark.parametrize("returned", [None, "text"])
async def test_a_hook_that_returns_something_else_is_told_so(method: str, says: str, returned: object) -> None:
    for turn in (calls("x"), calls("x", "y")):
        with pytest.raises(HookError, match=f"{says} {returned!r}"):
            await Agent(ScriptedModel([turn, "ok"]), tools=[say], hooks=[wrong(method, returned)]).run("?")


class Raises(Hooks):
    async def around_call(self, context: RunContext[Any], call: ToolCall, proceed: Call) -> CallEnded:
        await proceed(call)
        raise LookupError("no such thing")


async def test_what_a_hook_raises_ends_the_run_and_what_the_model_raises_is_its_own() -> None:
    for turn in (calls("x"), calls("x", "y")):
        with pytest.raises(HookError, match="no such thing") as caught:
            await Agent(ScriptedModel([turn, "ok"]), tools=[say], hooks=[Raises()]).run("?")
        assert isinstance(caught.value.__cause__, LookupError)
        assert caught.value.records
    with pytest.raises(OSError, match="network"):
        await Agent(ScriptedModel([OSError("network")]), hooks=[Hooks()]).run("?")


class Twice(Hooks):
    async def around_run(self, context: RunContext[Any], proceed: Whole) -> RunResult[Any]:
        await proceed()
        return await proceed()


async def test_a_run_happens_once() -> None:
    with pytest.raises(HookError, match="a run happens once"):
        await Agent(ScriptedModel(["ok", "ok"]), hooks=[Twice()]).run("?")


class Moody(Hooks):
    """Makes other arguments each time."""

    def __init__(self) -> None:
        self.amount = 0

    async def around_call(self, context: RunContext[Any], call: ToolCall, proceed: Call) -> CallEnded:
        self.amount += 10
        return await proceed(replace(call, arguments={"amount": self.amount}))


async def test_only_what_was_approved_is_run() -> None:
    paid: list[int] = []

    @tool(approval=True)
    def pay(amount: int) -> str:
        """Pay."""
        paid.append(amount)
        return "paid"

    turn = AssistantMessage(tool_calls=(ToolCall("pay", {"amount": 1}),))
    agent = Agent(ScriptedModel([turn, "ok"]), tools=[pay], hooks=[Moody()])
    with pytest.raises(RunPaused) as caught:
        await agent.run("?")
    (pending,) = caught.value.run.pending
    assert pending.call.arguments == {"amount": 10}
    with pytest.raises(RunPaused) as again:
        await agent.resume(caught.value.run.approve(pending))
    assert [item.call.arguments for item in again.value.run.pending] == [{"amount": 20}]
    assert not paid


def test_what_is_no_hook_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="hooks"):
        Agent(hooks=[print])  # type: ignore[list-item]  # that is what is tested
