"""A run that goes on from its records: wherever it was cut, it comes to the same end, and nothing is done twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from hermes_agent import Agent, Limits, RunContext, RunResult, tool
from hermes_agent.errors import ConfigurationError, ModelError, RunPaused
from hermes_agent.journal import Journal, JournalError
from hermes_agent.messages import AssistantMessage, Message, ToolCall, UserMessage
from hermes_agent.models.base import Request
from hermes_agent.pause import PausedRun
from hermes_agent.record import CallBegan, CallEnded, Record, RunEnded
from hermes_agent.testing import ScriptedModel
from hermes_agent.testing.scripted import ScriptedTurn

pytestmark = pytest.mark.anyio


class Total(BaseModel):
    total: int


done: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def _clean() -> None:
    done.clear()


def book(place: str) -> str:
    """Book."""
    done[place] += 1
    return f"booked {place}"


@tool(idempotent=True)
def price(place: str) -> int:
    """Price."""
    done[f"price {place}"] += 1
    return len(place)


def calls(*wanted: tuple[str, dict[str, Any]]) -> AssistantMessage:
    return AssistantMessage(tool_calls=tuple(ToolCall(name, arguments) for name, arguments in wanted))


SCRIPT: list[str | AssistantMessage] = [
    calls(("book", {"place": "Oslo"}), ("price", {"place": "Oslo"})),
    calls(("book", {"city": "Rome"})),  # refused, and corrected
    calls(("book", {"place": "Rome"})),
    '{"total": "much"}',  # rejected, and corrected
    '{"total": 8}',
]


def behind(messages: Sequence[object]) -> int:
    """How many turns the model has written: the place in the script."""
    return sum(isinstance(message, AssistantMessage) for message in messages) - 1  # the history has one


class FromScript(ScriptedModel):
    """Writes the turn that belongs behind the conversation it is shown, in whatever process that is."""

    def __init__(self) -> None:
        super().__init__([self.write] * 20)

    def write(self, request: Request) -> str | AssistantMessage:
        return SCRIPT[behind(request.messages)]


HISTORY: list[Message] = [UserMessage("Hello"), AssistantMessage("Hello.")]


def agent(**more: Any) -> Agent[None, Total]:
    return Agent(FromScript(), tools=[book, price], output=Total, **more)


async def whole() -> tuple[RunResult[Total], list[Record]]:
    result = await agent().run("Book it", history=HISTORY, run_id="trip")
    records = list(result.records["trip"])
    assert done == {"Oslo": 1, "Rome": 1, "price Oslo": 1}
    assert isinstance(records[-1], RunEnded)
    return result, records


def unknown(records: Sequence[Record]) -> set[str]:
    """Calls that were begun, have no result, and may not be run again unasked."""
    begun = {record.call.id for record in records if isinstance(record, CallBegan) if record.call.name == "book"}
    return begun - {record.call_id for record in records if isinstance(record, CallEnded)}


async def test_from_any_record_a_run_comes_to_the_same_end() -> None:
    expected, records = await whole()
    for cut in range(1, len(records) + 1):
        done.clear()
        kept = PausedRun("trip", {"trip": records[:cut]})
        again = agent()
        if waiting := unknown(kept.runs["trip"]):
            with pytest.raises(RunPaused) as caught:
                await again.resume(kept)
            paused = PausedRun.from_json(caught.value.run.to_json())
            assert {(item.call.id, item.reason) for item in paused.pending} == {(i, "interrupted") for i in waiting}
            for item in paused.pending:
                paused = paused.supply(item, f"booked {item.call.arguments['place']}")
            kept = paused
        result = await again.resume(kept)
        assert (result.output, result.guarantee) == (expected.output, expected.guarantee)
        assert [m for m in result.messages if m.role != "assistant"] == [
            m for m in expected.messages if m.role != "assistant"
        ]
        assert result.messages == expected.messages
        assert result.usage.steps == expected.usage.steps
        ended = {r.call_id for r in records[:cut] if isinstance(r, CallEnded)}
        assert all(done[place] <= 1 for place in done)
        assert not ("call_3_0" in ended and done["Oslo"])  # what has its result is not run again


async def test_a_run_that_has_ended_asks_and_runs_nothing() -> None:
    expected, records = await whole()
    done.clear()
    model = ScriptedModel([])
    result = await Agent(model, tools=[book, price], output=Total).resume(PausedRun("trip", {"trip": records}))
    assert (result.output, result.usage) == (expected.output, expected.usage)
    assert not model.requests
    assert not done


async def test_resuming_by_id_out_of_a_journal(tmp_path: Path) -> None:
    went_away: list[ScriptedTurn] = [SCRIPT[0], ModelError("the server went away")]
    with Journal(tmp_path / "runs.db") as journal:
        first = Agent(
            ScriptedModel(went_away),
            tools=[book, price],
            output=Total,
            journal=journal,
        )
        with pytest.raises(ModelError, match="went away"):
            await first.run("Book it", history=HISTORY, run_id="trip")
    with Journal(tmp_path / "runs.db") as journal:  # in another process, as it might be
        result = await agent(journal=journal).resume("trip")
        assert result.output == Total(total=8)
        assert done == {"Oslo": 1, "Rome": 1, "price Oslo": 1}
        assert journal.records("trip") == list(result.records["trip"])
        with pytest.raises(JournalError, match="'trup'"):
            await agent(journal=journal).resume("trup")
        with pytest.raises(JournalError, match="'trip'"):
            await agent(journal=journal).run("again", run_id="trip")


async def test_without_a_journal_an_id_says_nothing() -> None:
    with pytest.raises(ConfigurationError, match="no journal to find run 'x'"):
        await agent().resume("x")


async def test_a_run_that_met_a_limit_goes_on_under_another() -> None:
    from hermes_agent.errors import LimitExceededError

    with pytest.raises(LimitExceededError) as caught:
        await agent(limits=Limits(steps=2)).run("Book it", history=HISTORY)
    error = caught.value
    result = await agent().resume(PausedRun(error.run_id, error.records))
    assert result.output == Total(total=8)
    assert done["Oslo"] == 1


async def test_deps_are_given_anew() -> None:
    seen: list[str] = []

    @tool(approval=True)
    def who(context: RunContext[str]) -> str:
        """Who."""
        seen.append(context.deps)
        return context.deps

    asker = Agent(ScriptedModel([calls(("who", {})), "Ada"]), tools=[who], deps_type=str)
    with pytest.raises(RunPaused) as caught:
        await asker.run("?", deps="Bo")
    paused = caught.value.run
    assert (await asker.resume(paused.approve(paused.pending[0]), deps="Ada")).output == "Ada"
    assert seen == ["Ada"]


async def test_agents_inside_go_on_inside() -> None:
    """Cut at any record of either run, the agent that is asked does not start anew."""
    inner_calls: list[str | AssistantMessage] = [
        calls(("book", {"place": "Oslo"})),
        calls(("book", {"place": "Rome"})),
        "Booked.",
    ]

    def inner_turn(request: Request) -> str | AssistantMessage:
        return inner_calls[sum(isinstance(m, AssistantMessage) for m in request.messages)]

    def outer_turn(request: Request) -> str | AssistantMessage:
        asked = sum(isinstance(m, AssistantMessage) for m in request.messages)
        turns: list[str | AssistantMessage] = [calls(("booker", {"prompt": "book"})), "Done."]
        return turns[asked]

    def make() -> Agent[None, str]:
        inner = Agent(ScriptedModel([inner_turn] * 9), tools=[book], name="booker")
        return Agent(ScriptedModel([outer_turn] * 9), tools=[inner.as_tool()])

    expected = await make().run("?", run_id="r")
    inside = next(name for name in expected.records if name != "r")
    outer, inner = list(expected.records["r"]), list(expected.records[inside])
    at = next(i for i, record in enumerate(outer) if isinstance(record, CallBegan))
    for cut in range(len(inner) + 1):
        done.clear()
        kept = PausedRun("r", {"r": outer[: at + 1], inside: inner[:cut]} if cut else {"r": outer[: at + 1]})
        if unknown(inner[:cut]):
            with pytest.raises(RunPaused) as caught:
                await make().resume(kept)
            (item,) = caught.value.run.pending
            kept = caught.value.run.supply(item.id, f"booked {item.call.arguments['place']}")
        result = await make().resume(kept)
        assert result.output == "Done."
        assert result.messages == expected.messages
        assert result.usage.steps == expected.usage.steps == 5
        assert all(count == 1 for count in done.values())


async def test_a_hand_over_that_was_cut_off_is_made_again_unasked() -> None:
    def make() -> Agent[None, str]:
        other = Agent(ScriptedModel(["I am the other."]), name="other")
        return Agent(ScriptedModel([calls(("transfer_to_other", {}))]), handoffs=[other])

    expected = await make().run("?", run_id="r")
    records = list(expected.records["r"])
    at = next(i for i, record in enumerate(records) if isinstance(record, CallBegan))
    result = await make().resume(PausedRun("r", {"r": records[: at + 1]}))
    assert (result.output, result.messages) == ("I am the other.", expected.messages)
