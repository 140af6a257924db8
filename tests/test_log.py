"""What cannot be recorded does not happen, and no cancellation leaves a gap."""

from __future__ import annotations

import re
from typing import cast

import anyio
import anyio.lowlevel
import pytest

from hermes_agent import Agent, ConfigurationError, Limits
from hermes_agent.journal import Journal, JournalError
from hermes_agent.log import RunLog, check_run_id
from hermes_agent.messages import AssistantMessage, ToolCall
from hermes_agent.models.base import Request
from hermes_agent.record import CallBegan, CallEnded, Record, RunBegan, RunEnded, TurnBegan
from hermes_agent.testing import ScriptedModel

pytestmark = pytest.mark.anyio


class Full:
    """Keeps everything but one record."""

    def __init__(self, run_id: str, kind: str) -> None:
        self.refused, self.kept = (run_id, kind), list[tuple[str, int, Record]]()

    async def append(self, run_id: str, at: int, record: Record, *, writer: object | None = None) -> None:
        await anyio.lowlevel.checkpoint()
        if (run_id, record.kind) == self.refused:
            raise JournalError("the disk is full")
        self.kept.append((run_id, at, record))


def calls(name: str, arguments: dict[str, object]) -> AssistantMessage:
    return AssistantMessage(tool_calls=(ToolCall(name, arguments),))


@pytest.mark.parametrize("kind", ["run_began", "turn_written", "call_began", "call_ended", "run_ended"])
async def test_a_run_ends_when_an_agent_inside_of_it_cannot_be_recorded(kind: str) -> None:
    """It is no failure of the tool, which a model could be told of."""
    done: list[int] = []

    def act() -> str:
        done.append(1)
        return "done"

    inner = Agent(ScriptedModel([calls("act", {}), "Inside."]), tools=[act], name="inner")
    model = ScriptedModel([calls("inner", {"prompt": "?"}), "Outside."])
    full = Full("r/call_1_0", kind)
    agent = Agent(model, tools=[inner.as_tool()], journal=cast("Journal", full))
    with pytest.raises(JournalError, match="the disk is full"):
        await agent.run("?", run_id="r")
    assert len(model.requests) == 1
    assert bool(done) == (kind in ("call_ended", "run_ended"))
    outside = [record for run_id, _, record in full.kept if run_id == "r"]
    assert not any(isinstance(record, CallEnded | RunEnded) for record in outside)


async def test_once_a_record_is_lost_no_other_is_taken() -> None:
    full = Full("r", "turn_began")
    log = RunLog("r", {}, full)
    inside = log.inside("c")
    await log.write(RunBegan("?"))
    with pytest.raises(JournalError):
        await log.write(TurnBegan(1))
    for each in (log, inside, inside.inside("d")):
        with pytest.raises(JournalError, match="the disk is full"):
            await each.write(RunEnded("!"))
    assert full.kept == [("r", 0, RunBegan("?"))]


class Slow:
    """Takes its time, and notes what came to its end."""

    def __init__(self) -> None:
        self.kept: list[tuple[int, Record]] = []

    async def append(self, run_id: str, at: int, record: Record, *, writer: object | None = None) -> None:
        await anyio.sleep(0.004)
        self.kept.append((at, record))


def until_the_last(request: Request) -> str | AssistantMessage:
    return "Bye." if request.tool_choice == "none" else calls("unknown", {})


async def test_a_time_limit_leaves_no_gap() -> None:
    """Wherever the time is up, the run can still write its last turn and its end."""
    for index in range(8):
        slow = Slow()
        agent = Agent(
            ScriptedModel([until_the_last] * 9),
            journal=cast("Journal", slow),
            limits=Limits(seconds=0.006 + 0.004 * index, corrections=9),
            on_limit="answer",
        )
        result = await agent.run("?")
        assert result.output == "Bye."
        assert [at for at, _ in slow.kept] == list(range(len(slow.kept)))
        assert [record for _, record in slow.kept] == list(result.records[result.run_id])


async def test_nothing_begins_behind_a_record_of_a_run_that_was_cancelled_meanwhile() -> None:
    done: list[int] = []

    def act() -> None:
        done.append(1)

    class Cancelling:
        async def append(self, run_id: str, at: int, record: Record, *, writer: object | None = None) -> None:
            if isinstance(record, CallBegan):
                scope.cancel()
            await anyio.lowlevel.checkpoint()

    model = ScriptedModel([calls("act", {}), "Done."])
    agent = Agent(model, tools=[act], journal=cast("Journal", Cancelling()))
    with anyio.CancelScope() as scope:
        await agent.run("?")
    assert scope.cancelled_caught
    assert not done


async def test_a_run_whose_answer_is_recorded_is_not_late() -> None:
    class SlowAtTheEnd:
        async def append(self, run_id: str, at: int, record: Record, *, writer: object | None = None) -> None:
            if isinstance(record, RunEnded):
                await anyio.sleep(1.1)  # beyond the limit, which is itself far beyond the rest of the run

    model = ScriptedModel(["Done.", "Done twice."])
    agent = Agent(model, journal=cast("Journal", SlowAtTheEnd()), limits=Limits(seconds=1), on_limit="answer")
    result = await agent.run("?")
    assert (result.output, result.limit) == ("Done.", None)
    assert [type(r) for r in result.records[result.run_id]].count(RunEnded) == 1


@pytest.mark.parametrize("wrong", ["", "tenant/42", "/", "a\nb", "\ud800", 7, b"run"])
async def test_what_cannot_be_the_id_of_a_run_is_refused_by_name(wrong: object) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(f"run_id={wrong!r}")):
        check_run_id(wrong)


@pytest.mark.parametrize("run_id", ["run", "newsletter-7", "tenant:42", "Ünï 🧵"])
async def test_other_ids_are_taken(run_id: str) -> None:
    check_run_id(run_id)
