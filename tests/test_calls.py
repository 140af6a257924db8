"""How the calls of a turn are run: side by side, bounded, in order, alone; and what becomes of those that go wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from hermes_agent import Agent, Limits, Retry, Tool, tool
from hermes_agent.errors import InvalidTurnError, ToolDefinitionError
from hermes_agent.messages import AssistantMessage, ToolCall, ToolMessage
from hermes_agent.testing import ScriptedModel
from hermes_agent.testing.scripted import ScriptedTurn

pytestmark = pytest.mark.anyio


def calls(*wanted: tuple[str, dict[str, Any]]) -> AssistantMessage:
    return AssistantMessage(tool_calls=tuple(ToolCall(name, arguments) for name, arguments in wanted))


class Room:
    """Counts who is inside."""

    def __init__(self) -> None:
        self.inside = self.most = 0
        self.log: list[str] = []

    async def work(self, name: str) -> str:
        """Work."""
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.log.append(f"+{name}")
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        self.inside -= 1
        self.log.append(f"-{name}")
        return name


def turn_of(count: int) -> AssistantMessage:
    return calls(*(("work", {"name": str(n)}) for n in range(count)))


@pytest.mark.parametrize(("bound", "most"), [(1, 1), (3, 3), (None, 40), (100, 40)])
async def test_calls_run_side_by_side_up_to_a_bound(bound: int | None, most: int) -> None:
    room = Room()
    limits = Limits(concurrency=bound)
    result = await Agent(ScriptedModel([turn_of(40), "Done."]), tools=[room.work], limits=limits).run("?")
    assert room.most == most
    assert [m.content for m in result.messages if isinstance(m, ToolMessage)] == [str(n) for n in range(40)]


async def test_an_agent_that_is_sequential_runs_one_after_the_other() -> None:
    room = Room()
    await Agent(ScriptedModel([turn_of(3), "Done."]), tools=[room.work], sequential=True).run("?")
    assert room.log == ["+0", "-0", "+1", "-1", "+2", "-2"]


async def test_a_tool_that_is_sequential_runs_alone_in_its_place() -> None:
    room = Room()

    async def alone(name: str) -> str:
        """Alone."""
        assert room.inside == 0
        return await room.work(name)

    turn = calls(*((("alone" if n == 2 else "work"), {"name": str(n)}) for n in range(5)))
    result = await Agent(ScriptedModel([turn, "Done."]), tools=[room.work, tool(sequential=True)(alone)]).run("?")
    place = room.log.index("+2")
    assert room.log[place : place + 2] == ["+2", "-2"]
    assert set(room.log[:place]) == {"+0", "-0", "+1", "-1"}
    assert [m.content for m in result.messages if isinstance(m, ToolMessage)] == list("01234")


async def test_a_thread_that_overruns_is_left_behind_and_said_to_be() -> None:
    go_on = threading.Event()

    def hang() -> str:
        """Hang."""
        go_on.wait()
        return "late"

    async def sleep() -> str:
        """Sleep."""
        await anyio.sleep_forever()
        return "late"

    turn = calls(("hang", {}), ("sleep", {}), ("work", {"name": "quick"}))
    agent = Agent(ScriptedModel([turn, "Done."]), tools=[hang, sleep, Room().work], limits=Limits(tool_seconds=2))
    try:
        with anyio.fail_after(20):
            result = await agent.run("?")
    finally:
        go_on.set()
    hung, slept, quick = [m.content for m in result.messages if isinstance(m, ToolMessage)]
    assert hung == (
        "Error: TimeoutError: hang did not finish within 2 seconds; it cannot be stopped, and may still be running"
    )
    assert slept == "Error: TimeoutError: sleep did not finish within 2 seconds"
    assert quick == "quick"


async def test_cancelling_a_run_cancels_its_tools_and_nothing_else() -> None:
    ended: list[str] = []
    started = anyio.Event()

    async def mine() -> str:
        """Mine."""
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("mine")
        return ""

    other = Room()

    async def another() -> None:
        await started.wait()
        with anyio.CancelScope(shield=True):
            await Agent(ScriptedModel([turn_of(2), "Done."]), tools=[other.work]).run("?")
        ended.append("another")

    async with anyio.create_task_group() as outer:
        outer.start_soon(another)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(Agent(ScriptedModel([calls(("mine", {}), ("mine", {}))]), tools=[mine]).run, "?")
                await started.wait()
                scope.cancel()
    assert sorted(ended) == ["another", "mine", "mine"]


async def test_retries_bound_what_goes_wrong_with_one_tool() -> None:
    def picky(n: int) -> str:
        """Picky."""
        if n < 3:
            raise Retry(f"{n} is too small")
        return "fine"

    def turns(*numbers: int) -> list[AssistantMessage | str]:
        return [*(calls(("picky", {"n": n})) for n in numbers), "Done."]

    once: Callable[[list[Any]], Agent[None, str]] = lambda script: Agent(  # noqa: E731
        ScriptedModel(script), tools=[tool(retries=1)(picky)], limits=Limits(corrections=9)
    )
    assert (await once(turns(1, 5, 1, 5)).run("?")).output == "Done."
    with pytest.raises(InvalidTurnError, match=r"'picky' went wrong in 2 turns.*last: 2 is too small"):
        await once(turns(1, 2, 5)).run("?")


@pytest.mark.parametrize(("bound", "kept"), [(5_000, 5_000), (10, 2_000), (None, 1_000_000)])
async def test_what_the_model_is_told_of_a_mistake_is_bounded_as_results_are(bound: int | None, kept: int) -> None:
    """A document that does not fit may be all of what a tool or a validator has to say of it."""

    def picky() -> str:
        """Picky."""
        raise Retry("x" * 1_000_000)

    def checked(answer: str) -> None:
        if answer == "Wrong.":
            raise ValueError("x" * 1_000_000)

    model = ScriptedModel([calls(("picky", {})), "Wrong.", "Right."])
    agent = Agent(model, tools=[picky], validators=[checked], limits=Limits(tool_result_chars=bound))
    for message in (m for m in (await agent.run("?")).messages if isinstance(m, ToolMessage)):
        assert message.content.count("x") == kept
        assert ("more characters were left out" in message.content) == (bound is not None)


async def test_what_goes_wrong_in_one_turn_counts_once() -> None:
    turns: list[ScriptedTurn] = [calls(*(("picky", {"n": n}) for n in (1, 2, 3))), "Done."]

    def picky(n: str) -> str:
        """Picky."""
        return n

    agent = Agent(ScriptedModel(turns), tools=[tool(retries=1)(picky)])
    assert (await agent.run("?")).output == "Done."


async def test_what_a_tool_raises_is_told_without_secrets_and_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_API_KEY", "tr0ub4dor&3")

    def fail() -> str:
        """Fail."""
        try:
            raise OSError("inner")
        except OSError as error:
            raise ConnectionError("no answer from amqp://app:hunter2@queue with tr0ub4dor&3") from error

    result = await Agent(ScriptedModel([calls(("fail", {})), "Sorry."]), tools=[fail]).run("?")
    (told,) = [m.content for m in result.messages if isinstance(m, ToolMessage)]
    assert told.startswith("Error: ConnectionError: no answer from amqp://app:")
    for secret in ("hunter2", "tr0ub4dor", "Traceback", "inner", __file__):
        assert secret not in told


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"approval": "yes"}, "approval='yes'"), ({"retries": -1}, "retries=-1"), ({"timeout": 0}, "timeout=0")],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ToolDefinitionError, match=says):
        Tool.from_schema(name="x", parameters={}, **settings)
