"""Whatever models, tools, hooks and the world do, and in whatever order: what must hold at the end of every run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import takewhile
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from hermes_agent import Agent, Conversation, RunResult
from hermes_agent.errors import ModelError, RunError, RunPaused
from hermes_agent.events import Event, Final, StepFinished, StepStarted, TextDelta, ToolFinished, ToolStarted
from hermes_agent.formats import DIALECTS, from_sharegpt, render, to_sharegpt
from hermes_agent.json_text import dump_json
from hermes_agent.limits import Limits, Usage
from hermes_agent.messages import AssistantMessage, Message, ToolCall, ToolMessage, UserMessage
from hermes_agent.pause import PausedRun
from hermes_agent.reasoning import Reasoning
from hermes_agent.record import (
    AnswerRejected,
    CallBegan,
    CallEnded,
    CallSettled,
    Record,
    RunBegan,
    RunEnded,
    RunWaited,
    TurnBegan,
    TurnWritten,
    dump_record,
    dump_runs,
    load_record,
    load_runs,
)
from hermes_agent.testing import ScriptedModel
from hermes_agent.trace import Trace
from hermes_agent.turn import CallPart, Fault
from tests.staged_plots import PLOTS, RUN_SECONDS, TOOL_SECONDS, Disturbance, Plot, Written
from tests.staged_runs import IDEMPOTENT, NEEDS_WORD, Came, Stage, on_stage

Runs = Mapping[str, Sequence[Record]]

# How it is played

_LIVES = 4


async def _play(plot: Plot, jump: Callable[[float], None]) -> None:
    """Let a run live until it has ended: what waits is settled, what was cut off is gone on with."""
    stage = Stage(plot, jump)
    paused: PausedRun | None = None
    for life in range(_LIVES):
        came = await stage.live(paused)
        await _check(stage, came)
        runs = stage.keeper.runs()
        if isinstance(came.end, RunResult) or "r" not in runs:
            return
        if isinstance(came.end, RunPaused):
            paused = _settled(stage, PausedRun.from_json(came.end.run.to_json()))
        else:
            stage.forget(plot.forgotten[life] if life < len(plot.forgotten) else 0)
            paused = PausedRun(*load_runs(dump_runs("r", stage.keeper.runs())))


def _settled(stage: Stage, paused: PausedRun) -> PausedRun:
    for item in paused.pending:
        word = next(stage.words, "approve")
        if word == "approve" and item.reason != "external":
            paused = paused.approve(item)
        elif word == "deny":
            paused = paused.deny(item, "The user says no.")
        elif word != "leave":
            paused = paused.supply(item, {"from": "elsewhere"})
    # What was said is kept before anything else happens.
    for run_id, records in paused.runs.items():
        for at in range(stage.keeper.count(run_id), len(records)):
            stage.keeper.kept.append((run_id, records[at]))
    return PausedRun.from_json(paused.to_json())


# What must hold


async def _check(stage: Stage, came: Came) -> None:
    assert not stage.wrong, stage.wrong
    runs = stage.keeper.runs()
    _check_all_records(stage.plot, runs)
    if "r" in runs:
        _check_saved("r", runs)
    _check_events(stage, came, runs.get("r", ()))
    end = came.end
    if end is None:
        return
    if isinstance(end, RunPaused):
        _check_messages(end.messages, paused=True)
        assert end.run.pending
        _check_pause(end.run)
        assert {name: list(records) for name, records in end.run.runs.items()} == runs
        return
    assert isinstance(end, RunResult | RunError | ModelError), end
    assert list(end.messages[: len(stage.plot.history) + 1]) == [*stage.plot.history, UserMessage("Begin")]
    if isinstance(end, RunResult | RunError):
        assert end.run_id == "r"
        assert {name: list(records) for name, records in end.records.items() if records} == runs
    _check_messages(end.messages)
    exact = _is_told_exactly(stage, end.messages)
    if exact:
        _check_calls(stage.plot, end.messages, runs.get("r", ()))
    await _check_history(end.messages)
    if "r" in runs:
        assert isinstance(runs["r"][-1], RunEnded)
    if isinstance(end, RunResult):
        assert end.usage == _used(runs["r"]) == end.trace().usage
        if exact:
            await _check_again(stage, end)


def _is_told_exactly(stage: Stage, messages: Sequence[Message]) -> bool:
    """What is told of a fault when time is up beside it is not recorded: it is told otherwise when resumed."""
    return not stage.was_late or not any(isinstance(m, AssistantMessage) and m.raw for m in messages)


def _check_all_records(plot: Plot, runs: Runs) -> None:
    for run_id, records in runs.items():
        _check_records(run_id, records)
        _check_limits(plot, records)
        for record in records:
            if isinstance(record, CallEnded) and record.ran and (inside := runs.get(f"{run_id}/{record.call_id}")):
                assert record.usage == _used(inside)


def _check_messages(messages: Sequence[Message], *, paused: bool = False) -> None:
    """Each call has one result, behind its turn, in the order of the calls; only while it waits has it none."""
    ids = [call.id for message in messages if isinstance(message, AssistantMessage) for call in message.tool_calls]
    assert len(set(ids)) == len(ids)
    wanted: list[ToolCall] = []
    for message in messages:
        if isinstance(message, ToolMessage):
            if message.call_id:
                assert wanted, f"a result with no call: {message}"
                call = wanted.pop(0)
                assert (message.call_id, message.name) == (call.id, call.name)
        else:
            assert not wanted, f"no result: {wanted}"
            wanted = list(message.tool_calls) if isinstance(message, AssistantMessage) else []
    assert paused or not wanted, f"no result: {wanted}"


def _check_calls(plot: Plot, messages: Sequence[Message], records: Sequence[Record]) -> None:
    """The results are those that were recorded, no longer than allowed, and no call was repeated too often."""
    ended = {record.call_id: record for record in records if isinstance(record, CallEnded)}
    begun = {record.call.id for record in records if isinstance(record, CallBegan)}
    in_a_row: Counter[str] = Counter()
    for message in messages:
        if isinstance(message, ToolMessage) and message.call_id in ended:
            assert message == ended[message.call_id].message
        if (
            isinstance(message, AssistantMessage)
            and (message.tool_calls or message.raw)
            and plot.reasoning.calls != "inline"
        ):
            keys = Counter(f"{call.name} {dump_json(call.arguments)}" for call in message.tool_calls)
            in_a_row = Counter({key: in_a_row[key] + count for key, count in keys.items()})
            if plot.limits.repeats is not None and max(in_a_row.values(), default=0) > plot.limits.repeats:
                assert not begun & {call.id for call in message.tool_calls}


def _check_records(run_id: str, records: Sequence[Record]) -> None:
    """A call is run once, or again by the user's word; not what was denied or is behind a fault; it ends once."""
    assert isinstance(records[0], RunBegan), run_id
    assert sum(isinstance(record, RunBegan) for record in records) == 1
    words: dict[str, str] = {}
    begun: Counter[str] = Counter()
    ended: set[str] = set()
    sound: int | None = None  # calls of the turn that stand before a fault; None in a thought, whose calls come first
    for record in records:
        match record:
            case TurnBegan():
                sound = None
            case TurnWritten(turn=turn):
                parts = takewhile(lambda part: not isinstance(part, Fault) or part.kind == "unknown_tool", turn.parts)
                sound = sum(isinstance(part, CallPart) for part in parts)
            case CallSettled(call_id, decision):
                assert call_id not in ended
                words[call_id] = decision
            case CallBegan(call):
                word = words.pop(call.id, None)
                assert call.id not in ended
                assert word in (None, "approved")
                assert sound is None or int(call.id.rpartition("_")[2]) < sound
                if call.name in NEEDS_WORD or (begun[call.id] and call.name not in IDEMPOTENT):
                    assert word == "approved", f"{call} was run with nobody's word"
                begun[call.id] += 1
            case CallEnded(call_id):
                assert call_id not in ended
                assert begun[call_id] or not record.ran
                assert record.message.call_id == call_id
                ended.add(call_id)
            case RunWaited(pending):
                for item in pending:
                    assert item.run_id != run_id or item.call.id not in ended
            case _:
                pass


def _check_limits(plot: Plot, records: Sequence[Record]) -> None:
    limits, last = plot.limits, plot.on_limit == "answer"
    assert isinstance(records[0], RunBegan)
    if records[0].agent == "helper":  # it has limits of its own
        return
    turns = [record for record in records if isinstance(record, TurnWritten)]
    assert len({turn.step for turn in turns}) == len(turns)
    assert limits.steps is None or len(turns) <= limits.steps
    begun = {record.call.id for record in records if isinstance(record, CallBegan)}
    assert limits.tool_calls is None or len(begun) <= limits.tool_calls
    # With on_limit="answer" tokens may go beyond by the last turn.
    bounded = turns[:-1] if last else turns
    written = sum(turn.usage.output_tokens for turn in bounded)
    assert limits.output_tokens is None or written <= limits.output_tokens
    thought = sum(turn.usage.thinking_tokens for turn in bounded)
    assert limits.thinking_tokens is None or thought <= limits.thinking_tokens or plot.reasoning.mode == "off"
    for turn in bounded:
        assert limits.turn_tokens is None or turn.usage.output_tokens <= limits.turn_tokens
    if limits.input_tokens is not None:
        told = [turn.usage.input_tokens for turn in bounded]
        for at, prompt in enumerate(told):
            assert not at or sum(told[:at]) + told[at - 1] <= limits.input_tokens, prompt
    rejected = 0
    for record in records:
        rejected = rejected + 1 if isinstance(record, AnswerRejected) else rejected
        rejected = 0 if isinstance(record, CallEnded) and not record.invalid else rejected
        assert rejected <= limits.corrections + 1
    for record in records:
        if isinstance(record, CallEnded) and limits.tool_result_chars is not None and record.ran:
            assert len(record.message.content) <= max(limits.tool_result_chars + 60, 2100)


def _check_saved(run_id: str, runs: Runs) -> None:
    """Records load equal, and show as a trace."""
    for records in runs.values():
        for record in records:
            assert load_record(json.loads(json.dumps(dump_record(record)))) == record
    assert load_runs(dump_runs(run_id, runs)) == (run_id, {name: list(records) for name, records in runs.items()})
    trace = Trace.of(run_id, runs)
    assert str(trace)
    assert trace.to_html()


def _check_pause(paused: PausedRun) -> None:
    """Every other call of the turn has its result."""
    again = PausedRun.from_json(paused.to_json())
    assert again.pending == paused.pending
    for item in paused.pending:
        records = paused.runs[item.run_id]
        ended = {record.call_id for record in records if isinstance(record, CallEnded)}
        begun = {record.call.id for record in records if isinstance(record, CallBegan)}
        assert item.call.id not in ended
        assert (item.call.id in begun) == (item.reason == "interrupted")


def _used(records: Iterable[Record]) -> Usage:
    used = Usage()
    for record in records:
        if isinstance(record, TurnWritten):
            used += record.usage
        elif isinstance(record, CallEnded):
            used = used + record.usage + Usage(tool_calls=int(record.ran))
    return used


async def _check_history(messages: Sequence[Message]) -> None:
    """A conversation renders, loads, and goes on."""
    conversation = Conversation(messages)
    assert Conversation.from_json(conversation.to_json()) == conversation
    record = json.loads(json.dumps(to_sharegpt(messages)))
    assert from_sharegpt(record).conversation == conversation
    for name in DIALECTS:
        assert render(messages, dialect=name)
    result = await Agent(ScriptedModel(["Fine."])).run("And now?", history=messages)
    assert list(result.messages) == [*messages, UserMessage("And now?"), AssistantMessage("Fine.")]
    _check_messages(result.messages)


async def _check_again(stage: Stage, result: RunResult[Any]) -> None:
    """A run that has ended gives its result once more, and nothing is asked or run for it."""
    stage.calm = True
    again = await stage.agent().resume(PausedRun("r", result.records), deps=stage)
    assert not stage.wrong, stage.wrong
    assert (again.output, again.messages, again.usage) == (result.output, result.messages, result.usage)
    assert (again.limit, again.guarantee, again.turns) == (result.limit, result.guarantee, result.turns)


def _check_events(stage: Stage, came: Came, records: Sequence[Record]) -> None:
    """What is told is what is recorded."""
    if not stage.plot.streamed:
        return
    events, new = came.events, records[came.began_at :]
    complete = came.end is not None and not stage.was_late
    steps = [event.step for event in events if isinstance(event, StepStarted)]
    _same(steps, [record.step for record in new if isinstance(record, TurnBegan)], complete)
    turns = [(event.turn, event.usage) for event in events if isinstance(event, StepFinished)]
    _same(turns, [(record.turn, record.usage) for record in new if isinstance(record, TurnWritten)], complete)
    begun = Counter(record.call.id for record in new if isinstance(record, CallBegan))
    started = Counter(event.call.id for event in events if isinstance(event, ToolStarted))
    assert started <= begun
    results = {record.call_id: record.message for record in new if isinstance(record, CallEnded)}
    finished = [event for event in events if isinstance(event, ToolFinished)]
    assert len({event.call.id for event in finished}) == len(finished)
    for event in finished:
        if event.call.id in results:
            assert event.result == results[event.call.id]
        else:
            assert event.result.content.startswith("Not run, because")
    if isinstance(came.end, RunResult):
        assert stage.was_late or started == begun
        assert stage.was_late or results.keys() <= {event.call.id for event in finished} | {
            record.call_id for record in new if isinstance(record, CallEnded) and not record.ran
        }
    assert not any(isinstance(event, Final) for event in events[:-1])
    if came.end is not None:
        assert isinstance(events[-1] if events else None, Final) == isinstance(came.end, RunResult)
    if not stage.changed_turns:
        for text, turn in _texts_of(events):
            assert text == turn.turn.text


def _same(told: Sequence[object], recorded: Sequence[object], complete: bool) -> None:
    """What was told is what was recorded, in that order; where a run was cut off, something may not have been told."""
    left = iter(recorded)
    assert all(item in left for item in told)
    assert not complete or len(told) == len(recorded)


def _texts_of(events: Sequence[Event]) -> Iterable[tuple[str, StepFinished]]:
    text = ""
    for event in events:
        if isinstance(event, StepStarted):
            text = ""
        elif isinstance(event, TextDelta):
            text += event.text
        elif isinstance(event, StepFinished):
            yield text, event


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=250, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(plot=PLOTS)
def test_whatever_happens(backend: str, plot: Plot) -> None:
    on_stage(backend, partial(_play, plot))


def _calls(*calls: tuple[str, dict[str, Any]]) -> str:
    return "\n".join(
        f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>" for name, arguments in calls
    )


_GOOD: tuple[str, dict[str, Any]] = ("work", {"n": 0})


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(
    "text",
    [
        _calls(_GOOD, ("work", {})),
        _calls(_GOOD, ("transfer_to_other", {})),
        _calls(("helper", {"prompt": "help"}), ("work", {})),
        _calls(_GOOD) + "\n<tool_call>\n{not json}\n</tool_call>",
    ],
    ids=["wrong", "handed over", "asked inside", "unreadable"],
)
def test_time_may_be_up_at_any_point_of_a_turn(text: str, backend: str) -> None:
    """Also in a second life, where one was cancelled before; and the run, once more, is the same."""
    for corrections, doings in ((0, ()), (3, ("raise", "raise"))):
        for cancelled in (None, 8, 10):
            for late in range(1, 14):
                first = [] if cancelled is None else [Disturbance("cancel", cancelled)]
                plot = Plot(
                    turns=(Written(text),),
                    doings=doings,
                    cuts=(*first, Disturbance("late", late)),
                    limits=Limits(seconds=RUN_SECONDS, tool_seconds=TOOL_SECONDS, corrections=corrections),
                    on_limit="answer",
                    on_tool_error="raise" if doings else "feedback",
                    reasoning=Reasoning("off"),
                )
                on_stage(backend, partial(_play, plot))
