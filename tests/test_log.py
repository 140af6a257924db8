"""What cannot be recorded does not happen, and no cancellation leaves a gap."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from hermes_agent import Agent, Limits
from hermes_agent.journal import JournalError
from hermes_agent.log import RunLog
from hermes_agent.messages import AssistantMessage, ToolCall
from hermes_agent.record import CallEnded, Record, RunBegan, RunEnded, TurnBegan
from hermes_agent.testing import ScriptedModel

pytestmark = pytest.mark.anyio


class Full:
    """Keeps everything but one record."""

    def __init__(self, run_id: str, kind: str) -> None:
        self.refused, self.kept = (run_id, kind), list[tuple[str, int, Record]]()

    async def append(self, run_id: str, at: int, record: Record) -> None:
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
    agent = Agent(model, tools=[inner.as_tool()], journal=full)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # a keeper
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

    async def append(self, run_id: str, at: int, record: Record) -> None:
        await anyio.sleep(0.004)
        self.kept.append((at, record))


async def test_a_time_limit_leaves_no_gap() -> None:
    """Wherever the time is up, the run can still write its last turn and its end."""
    for index in range(8):
        slow = Slow()
        agent = Agent(
            ScriptedModel([calls("unknown", {"n": n}) for n in range(index)] + ["Bye."] * 9),
            journal=slow,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # a keeper
            limits=Limits(seconds=0.006 + 0.004 * index, corrections=9),
            on_limit="answer",
        )
        result = await agent.run("?")
        assert result.output == "Bye."
        assert [at for at, _ in slow.kept] == list(range(len(slow.kept)))
        assert [record for _, record in slow.kept] == list(result.records[result.run_id])
