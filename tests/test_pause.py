"""A run that waits for somebody's word, and goes on in this process or another."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hermes_agent import Agent, Conversation, Reasoning, RunContext, Tool, tool
from hermes_agent.errors import ConfigurationError, HookError, RunPaused
from hermes_agent.journal import Journal, JournalError
from hermes_agent.messages import AssistantMessage, ToolCall, ToolMessage
from hermes_agent.pause import PausedRun
from hermes_agent.record import CallBegan, RunWaited
from hermes_agent.testing import ScriptedModel

pytestmark = pytest.mark.anyio

deleted: list[str] = []


@pytest.fixture(autouse=True)
def _clean() -> None:
    deleted.clear()


@tool(approval=True)
def delete(path: str) -> str:
    """Delete a file."""
    deleted.append(path)
    return f"deleted {path}"


def look(path: str) -> str:
    """Look at a file."""
    return f"{path} is old"


REMOTE = Tool.from_schema(name="remote", parameters={"properties": {"n": {"type": "integer"}}, "required": ["n"]})


def calls(*wanted: tuple[str, dict[str, Any]]) -> AssistantMessage:
    return AssistantMessage(tool_calls=tuple(ToolCall(name, arguments) for name, arguments in wanted))


TWO = calls(("delete", {"path": "a"}), ("look", {"path": "b"}), ("delete", {"path": "c"}))


async def paused_at(agent: Agent[Any, Any], question: str = "Clean up") -> PausedRun:
    with pytest.raises(RunPaused) as caught:
        await agent.run(question)
    return caught.value.run


def results(messages: Conversation) -> list[str]:
    return [message.content for message in messages if isinstance(message, ToolMessage)]


async def test_a_call_that_wants_approval_waits_and_the_others_run() -> None:
    agent = Agent(ScriptedModel([TWO, "Done."]), tools=[delete, look])
    paused = await paused_at(agent)
    assert deleted == []
    assert [(p.call.arguments, p.reason) for p in paused.pending] == [
        ({"path": "a"}, "approval"),
        ({"path": "c"}, "approval"),
    ]
    assert paused.prompt == "Clean up"
    first, second = paused.pending
    result = await agent.resume(paused.approve(first).deny(second, "it is needed"))
    assert deleted == ["a"]
    assert result.output == "Done."
    assert results(result.messages) == ["deleted a", "b is old", "Not run: it is needed"]
    assert [m.is_error for m in result.messages if isinstance(m, ToolMessage)] == [False, False, True]
    assert result.usage.tool_calls == 2
    assert result.usage.steps == 2


async def test_resuming_asks_the_model_for_nothing_it_has_written() -> None:
    model = ScriptedModel([TWO, "Done."])
    agent = Agent(model, tools=[delete, look])
    paused = await paused_at(agent)
    assert len(model.requests) == 1
    await agent.resume(paused.approve(paused.pending[0]).approve(paused.pending[1]))
    assert len(model.requests) == 2


async def test_a_pause_survives_json_exactly() -> None:
    agent = Agent(ScriptedModel([TWO, "Done."]), tools=[delete, look])
    paused = await paused_at(agent, "Räum auf \N{BROOM}")
    again = PausedRun.from_json(paused.to_json())
    assert again.pending == paused.pending
    assert again.to_json() == paused.to_json()
    for pending in again.pending:
        again = again.deny(pending)
    result = await agent.resume(PausedRun.from_json(again.to_json()))
    assert results(result.messages)[0] == "Not run: The user did not allow it."
    assert Conversation.from_json(result.messages.to_json()) == result.messages


async def test_what_is_not_settled_waits_again() -> None:
    agent = Agent(ScriptedModel([TWO, "Done."]), tools=[delete, look])
    paused = await paused_at(agent)
    with pytest.raises(RunPaused) as caught:
        await agent.resume(paused.approve("call_1_0"))
    assert deleted == ["a"]
    assert [p.call.arguments["path"] for p in caught.value.run.pending] == ["c"]
    result = await agent.resume(caught.value.run.supply("call_1_2", {"freed": 3}))
    assert deleted == ["a"]  # nothing is run twice
    assert results(result.messages)[2] == '{"freed": 3}'


async def test_a_tool_that_is_only_a_schema_waits_for_its_result() -> None:
    agent = Agent(ScriptedModel([calls(("remote", {"n": 1})), "Thanks."]), tools=[REMOTE])
    paused = await paused_at(agent)
    (pending,) = paused.pending
    assert (pending.reason, pending.call.arguments) == ("external", {"n": 1})
    with pytest.raises(ConfigurationError, match="only a schema"):
        paused.approve(pending)
    result = await agent.resume(paused.supply(pending, [1, 2]))
    assert results(result.messages) == ["[1, 2]"]


async def test_wrong_arguments_never_reach_anybody_who_has_to_approve() -> None:
    agent = Agent(ScriptedModel([calls(("delete", {"file": "a"})), "Sorry."]), tools=[delete])
    result = await agent.run("?")
    assert "does not fit" in results(result.messages)[0] or "do not fit" in results(result.messages)[0]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_predicate_says_who_needs_approval(asynchronous: bool) -> None:
    seen: list[tuple[int, object]] = []

    def dear(context: RunContext[int], arguments: dict[str, Any]) -> bool:
        seen.append((context.deps, arguments["amount"]))
        return bool(arguments["amount"] > context.deps)

    async def later(context: RunContext[int], arguments: dict[str, Any]) -> bool:
        return dear(context, arguments)

    def pay(amount: int) -> str:
        return f"paid {amount}"

    paying = tool(approval=later if asynchronous else dear)(pay)
    turn = calls(("pay", {"amount": "5"}), ("pay", {"amount": 500}))
    agent = Agent(ScriptedModel([turn, "Done."]), tools=[paying], deps_type=int)
    with pytest.raises(RunPaused) as caught:
        await agent.run("?", deps=100)
    assert sorted(seen) == [(100, 5), (100, 500)]  # the arguments are those that the function would get
    (pending,) = caught.value.run.pending
    result = await agent.resume(caught.value.run.approve(pending), deps=100)
    assert results(result.messages) == ["paid 5", "paid 500"]


async def test_a_predicate_that_raises_runs_nothing() -> None:
    def broken(context: RunContext[None], arguments: dict[str, Any]) -> bool:
        raise KeyError("no such table")

    careful = tool(approval=broken)(look)
    with pytest.raises(HookError, match=r"approval= of tool 'look'.*no such table"):
        await Agent(ScriptedModel([calls(("look", {"path": "x"}))]), tools=[careful]).run("?")


async def test_a_wrong_id_is_refused_with_those_that_wait() -> None:
    paused = await paused_at(Agent(ScriptedModel([TWO]), tools=[delete, look]))
    with pytest.raises(ConfigurationError, match=r"no call 'call_9_9'[\s\S]*'call_1_0' \(delete\), 'call_1_2'"):
        paused.approve("call_9_9")
    with pytest.raises(ConfigurationError, match="no call 'call_1_0'"):
        paused.approve("call_1_0").deny("call_1_0")  # one word a call


async def test_a_stream_pauses_by_the_same_error_and_goes_on_watched() -> None:
    agent = Agent(ScriptedModel([TWO, "Done."]), tools=[delete, look])

    async def watched() -> None:
        async with agent.stream("?") as events:
            async for _ in events:
                pass

    with pytest.raises(RunPaused) as caught:
        await watched()
    paused = caught.value.run
    for pending in paused.pending:
        paused = paused.approve(pending)
    async with agent.resume_stream(paused) as events:
        kinds = [type(event).__name__ async for event in events]
    assert events.result.output == "Done."
    assert kinds.count("ToolStarted") == 2  # what ran before is not told again
    assert kinds[-1] == "Final"


async def test_a_pause_inside_of_a_thought_goes_on_in_that_thought() -> None:
    thought = '<think>\n<tool_call>\n{"name": "delete", "arguments": {"path": "a"}}\n</tool_call>'
    model = ScriptedModel([thought, " so.\n</think>\nDone."], dialect="hermes-4-14b")
    agent = Agent(model, tools=[delete], reasoning=Reasoning("on", calls="inline"))
    paused = await paused_at(agent)
    assert deleted == []
    result = await agent.resume(PausedRun.from_json(paused.approve(paused.pending[0]).to_json()))
    assert deleted == ["a"]
    assert result.output == "Done."
    assert "deleted a" in (result.reasoning or "")


async def test_a_call_of_an_agent_inside_waits_and_goes_on_inside() -> None:
    inner = Agent(ScriptedModel([calls(("delete", {"path": "a"})), "Gone."]), tools=[delete], name="cleaner")
    outer = Agent(ScriptedModel([calls(("cleaner", {"prompt": "clean"})), "All done."]), tools=[inner.as_tool()])
    paused = await paused_at(outer)
    (pending,) = paused.pending
    assert pending.id == "call_1_0/call_1_0"
    paused = PausedRun.from_json(paused.approve(pending.id).to_json())
    result = await outer.resume(paused)
    assert deleted == ["a"]
    assert results(result.messages) == ["Gone."]
    assert result.usage.steps == 4
    assert result.usage.tool_calls == 2


async def test_with_a_journal_the_word_is_kept_before_anything_runs(tmp_path: Path) -> None:
    with Journal(tmp_path / "runs.db") as journal:
        agent = Agent(ScriptedModel([TWO, "Done."]), tools=[delete, look], journal=journal)
        with pytest.raises(RunPaused):
            await agent.run("?", run_id="job-1")
        assert journal.runs()[0].state == "waiting"
        paused = PausedRun.load(journal, "job-1")
        for pending in paused.pending:
            paused = paused.approve(pending)
        await paused.store(journal)  # such as by the handler of a web form
        result = await agent.resume("job-1")
        assert deleted == ["a", "c"] or deleted == ["c", "a"]
        assert result.output == "Done."
        assert (await agent.resume("job-1")).output == "Done."  # once more, from the records alone
        assert len(deleted) == 2


async def test_a_run_that_went_on_takes_no_word_that_came_too_late(tmp_path: Path) -> None:
    with Journal(tmp_path / "runs.db") as journal:
        agent = Agent(ScriptedModel([TWO, "Done."]), tools=[delete, look], journal=journal)
        with pytest.raises(RunPaused) as caught:
            await agent.run("?", run_id="job-1")
        late = caught.value.run
        await late.approve("call_1_0").store(journal)
        for word in (late.deny("call_1_0"), late.deny("call_1_2")):  # as many records, and other ones
            with pytest.raises(JournalError, match="run 'job-1' went on since it was loaded"):
                await word.store(journal)
            with pytest.raises(JournalError, match="went on since"):
                await agent.resume(word)
        assert deleted == []
        await PausedRun.load(journal, "job-1").deny("call_1_2").store(journal)
        assert (await agent.resume("job-1")).output == "Done."
        assert deleted == ["a"]
        with pytest.raises(JournalError, match="went on since"):
            await late.store(journal)  # nothing new, and still not what is there


async def test_what_waits_inside_is_told_as_the_run_inside_left_it() -> None:
    """It was approved, begun and cut off; its process died before the run around it could say so."""
    inner = Agent(ScriptedModel([calls(("delete", {"path": "a"}))]), tools=[delete], name="cleaner")
    outer = Agent(ScriptedModel([calls(("cleaner", {"prompt": "clean"}))]), tools=[inner.as_tool()])
    paused = await paused_at(outer)
    (pending,) = paused.pending
    assert pending.reason == "approval"
    approved = paused.approve(pending)
    inside = [*approved.runs[pending.run_id], CallBegan(pending.call)]
    cut_off = PausedRun(paused.run_id, {**approved.runs, pending.run_id: inside})
    assert not cut_off.pending
    inside.append(RunWaited((replace(pending, reason="interrupted"),)))
    assert [item.reason for item in cut_off.pending] == ["interrupted"]
    inside.append(RunWaited((replace(pending, call=ToolCall("delete", {"path": "b"}, "call_5_0")),)))
    assert not cut_off.pending  # it is another call by now, which the run around it asks for when it goes on


SCRIPT = """
import sys
from pathlib import Path
from hermes_agent import Agent, tool
from hermes_agent.errors import RunPaused
from hermes_agent.messages import AssistantMessage, ToolCall
from hermes_agent.pause import PausedRun
from hermes_agent.testing import ScriptedModel

@tool(approval=True)
def pay(amount: int) -> str:
    '''Pay.'''
    with open("paid.txt", "a") as file:
        file.write(f"{amount}\\n")
    return f"paid {amount}"

CALLS = AssistantMessage(tool_calls=tuple(ToolCall("pay", {"amount": n}) for n in (1, 2)))
file = Path("paused.json")
match sys.argv[1]:
    case "ask":
        try:
            Agent(ScriptedModel([CALLS]), tools=[pay]).run_sync("Pay the bills")
        except RunPaused as paused:
            file.write_text(paused.run.to_json())
    case "settle":
        paused = PausedRun.from_json(file.read_text())
        one, two = paused.pending
        file.write_text(paused.approve(one).deny(two, "too dear").to_json())
    case "finish":
        agent = Agent(ScriptedModel(["Paid what was allowed."]), tools=[pay])
        result = agent.resume_sync(PausedRun.from_json(file.read_text()))
        print(result.output, [m.content for m in result.messages if m.role == "tool"])
"""


def test_three_processes_ask_settle_and_finish(tmp_path: Path) -> None:
    for part in ("ask", "settle"):
        subprocess.run([sys.executable, "-c", SCRIPT, part], cwd=tmp_path, check=True)
        assert not (tmp_path / "paid.txt").exists()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "finish"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "Paid what was allowed. ['paid 1', 'Not run: too dear']"
    assert (tmp_path / "paid.txt").read_text() == "1\n"


def test_what_is_no_pause_is_refused() -> None:
    for text in ("", "{}", '{"version": 1, "run": "x", "runs": {}}', '{"version": 9}', "[1]"):
        with pytest.raises(ConfigurationError, match="not a saved run"):
            PausedRun.from_json(text)


@pytest.mark.parametrize("reason", [None, 7, ["no"]])
async def test_a_reason_that_is_no_text_is_refused(reason: Any) -> None:
    paused = await paused_at(Agent(ScriptedModel([TWO]), tools=[delete, look]))
    with pytest.raises(ConfigurationError, match=re.escape(f"reason={reason!r} is no text")):
        paused.deny(paused.pending[0], reason)


async def test_a_pause_crosses_processes_like_any_error() -> None:
    with pytest.raises(RunPaused) as caught:
        await Agent(ScriptedModel([TWO]), tools=[delete, look]).run("?")
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert again.run.to_json() == caught.value.run.to_json()
