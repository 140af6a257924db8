from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes_agent import Agent
from hermes_agent.errors import ConfigurationError, HermesError, RunError
from hermes_agent.journal import Journal
from hermes_agent.limits import Limits, Usage
from hermes_agent.messages import ToolCall, ToolMessage
from hermes_agent.record import CallBegan, CallEnded, PartWritten, Record, RunBegan, TurnBegan, TurnWritten
from hermes_agent.testing import ScriptedModel
from hermes_agent.trace import Trace
from hermes_agent.trace.timeline import axis, bars
from hermes_agent.trace.words import duration
from hermes_agent.turn import Turn
from tests.traced_runs import START, call, killed_run, ran, refused, settled_run, turn, waiting_run, whole_run

ALL = [("run-1", whole_run()), ("run-2", waiting_run()), ("run-2", settled_run()), ("run-3", killed_run())]


def wire(name: str, arguments: str = "{}") -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


# Records made by hand


def test_a_whole_run() -> None:
    trace = Trace.of("run-1", whole_run())
    assert (trace.outcome, trace.answer, trace.error) == ("answered", "yes", "")
    assert (trace.agent, trace.model, trace.prompt) == ("clerk", "hf:Qwen/Qwen3-4B", "Do I need a coat in Oslo?")
    assert (trace.promised, trace.guarantee) == ("token", "checked")
    assert trace.seconds == pytest.approx(6.91)
    assert [step.number for step in trace.steps] == [1, 2, 3, 4]
    assert [call.state for call in trace.steps[0].calls] == ["ran", "ran", "refused"]
    first = trace.steps[0]
    assert first.thinking == "The user asks about the weather.\nTwo tools help."
    assert (first.finish, first.guarantee) == ("stop", "token")
    assert first.model_seconds == pytest.approx(1.29)
    assert first.calls[0].result == '{"temperature": -3, "sky": "clear"}'
    assert first.calls[0].arguments == {"city": "Oslo", "unit": "celsius"}
    assert [step.grammar_is_new for step in trace.steps] == [True, False, False, True]
    assert trace.steps[1].grammar == first.grammar
    failed = trace.steps[1].calls[0]
    assert (failed.state, failed.error) == ("failed", "TimeoutError: no answer from archive.example")
    assert trace.steps[1].guarantee == "checked"
    assert "yes or no" in trace.steps[2].rejected
    assert [item.before_step for item in trace.shortenings] == [1]


def test_an_agent_inside_of_a_tool_is_a_trace_inside_of_its_call() -> None:
    trace = Trace.of("run-1", whole_run())
    (inner,) = trace.nested
    assert inner is trace.steps[0].calls[1].run
    assert (inner.run_id, inner.agent, inner.answer) == ("run-1/call_1_1", "researcher", "No rain is expected.")
    assert [name.run_id for name in trace.walk()] == ["run-1", "run-1/call_1_1"]
    assert set(inner.records) == {"run-1/call_1_1"}
    assert trace.usage == Usage(5002, 247, 6, 4)
    assert inner.usage == trace.steps[0].calls[1].usage


def test_a_run_that_waits_says_for_what() -> None:
    trace = Trace.of("run-2", waiting_run())
    assert trace.outcome == "waiting"
    waits, ran = trace.steps[0].calls
    assert (waits.state, waits.waits_for) == ("waiting", "approval")
    assert ran.state == "ran"
    settled = Trace.of("run-2", settled_run())
    assert settled.outcome == "answered"
    denied = settled.steps[0].calls[0]
    assert (denied.state, denied.decision, denied.result, denied.waits_for) == ("denied", "denied", "not this week", "")


def test_a_word_that_was_given_is_shown_before_the_run_goes_on() -> None:
    runs = {"run-2": settled_run()["run-2"][:7]}
    trace = Trace.of("run-2", runs)
    assert trace.outcome == "waiting"
    assert (trace.steps[0].calls[0].state, trace.steps[0].calls[0].decision) == ("waiting", "denied")
    assert "waiting · denied · for approval" in trace.tree()


def test_a_run_that_broke_off_is_shown_as_far_as_it_came() -> None:
    trace = Trace.of("run-3", killed_run())
    assert trace.outcome == "unfinished"
    assert [(step.number, step.turn is None) for step in trace.steps] == [(1, True), (1, False), (2, True)]
    assert (trace.steps[1].calls[0].state, trace.steps[1].calls[0].times_begun) == ("ran", 2)
    last = trace.steps[2]
    assert (last.raw, last.ended, last.finish) == ("<think>\nI look.\n(look)", None, None)
    assert [(call.state, call.inline) for call in last.calls] == [("unfinished", True)]
    assert trace.usage.output_tokens == 29
    assert trace.guarantee == "checked"


def test_the_model_is_not_charged_for_tools_inside_its_thinking() -> None:
    look = call("look", "call_1_0_0", key="a")
    runs: dict[str, Sequence[Record]] = {
        "r": [
            *killed_run()["run-3"][:1],
            *killed_run()["run-3"][-3:],
            ran(look, "found", 65, 3.0),
            refused(call("other", "call_1_0_1"), "no such tool", 65.5),
            TurnWritten(2, turn("done", thought="I look."), at=START + 67),
        ]
    }
    (step,) = Trace.of("r", runs).steps
    assert step.model_seconds == pytest.approx(67 - 61 - 3.5)
    assert [(call.name, call.state, call.inline) for call in step.calls] == [
        ("look", "unfinished", True),
        ("look", "ran", True),
        ("other", "refused", True),
    ]
    assert step.calls[2].arguments is None


def test_calls_of_one_name_are_told_apart_in_whatever_order_they_are_recorded() -> None:
    calls = [call("add", "", n=n) for n in range(12)]
    named = [call("add", f"call_7_{n}", n=n) for n in range(12)]
    records: list[Record] = [RunBegan("x", at=START), TurnBegan(1, at=START), TurnWritten(1, turn(*calls), at=START)]
    for made in reversed(named):
        records += [CallBegan(made, START + 1)] if made.arguments["n"] % 2 else []
        records += [ran(made, f"result {made.arguments['n']}", 2, 1.0)]
    (step,) = Trace.of("r", {"r": records}).steps
    assert [(c.id, c.result) for c in step.calls] == [(f"call_7_{n}", f"result {n}") for n in range(12)]


@pytest.mark.parametrize(("run_id", "runs"), ALL)
def test_any_beginning_of_a_run_has_a_tree_a_page_and_a_file(run_id: str, runs: Mapping[str, Sequence[Record]]) -> None:
    """A process may die behind any record."""
    for length in range(1, len(runs[run_id]) + 1):
        cut = {**runs, run_id: runs[run_id][:length]}
        trace = Trace.of(run_id, cut)
        assert Trace.from_json(trace.to_json()) == trace
        assert trace.tree().count("\n") >= 1
        assert trace.to_html().endswith("</html>\n")
        assert trace.to_dict()["outcome"] == trace.outcome
        if length < len(runs[run_id]):
            assert trace.outcome in ("unfinished", "waiting")


def test_records_that_no_run_writes_are_refused() -> None:
    records = whole_run()["run-1"]
    for wrong, message in (
        (records[1:], "do not begin with 'run_began'"),
        ([], "do not begin"),
        ([records[0], *records], "begins twice"),
        ([records[0], records[4]], "'call_began' stands before any turn"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            Trace.of("r", {"r": wrong})
    with pytest.raises(ConfigurationError, match="no run 'other'") as caught:
        Trace.of("other", whole_run())
    assert "'run-1'" in caught.value.hint


# The tree


def test_a_line_cannot_be_forged_and_nothing_steers_the_terminal() -> None:
    bad = "x\n└─ answer: forged\x1b[2J\u202e"
    made = call(bad, "c", **{bad: bad})
    records: list[Record] = [
        RunBegan("x", agent=bad, model=bad, guarantee=bad, at=START),
        TurnBegan(1, bad, bad, at=START),
        TurnWritten(1, turn(made), guarantee=bad, at=START),
        ran(made, bad, 1, 1.0, error=bad, hand_off=bad),
    ]
    tree = Trace.of(bad, {bad: records}).tree()
    assert not any(line.startswith("└─ answer") for line in tree.split("\n"))
    assert "\x1b" not in tree
    assert "\u202e" not in tree
    assert "\\x1b[2J" in tree


def test_what_is_left_out_is_said_and_can_be_had() -> None:
    trace = Trace.of("r", {"r": [RunBegan("p" * 1000, at=START)]})
    assert "[600 more characters]" in trace.tree()
    assert "p" * 1000 in trace.tree(chars=None)
    assert Trace.of("run-1", whole_run()).tree(ascii_only=True).isascii()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 ms"), (0.0004, "0.4 ms"), (0.05, "50 ms"), (0.0999, "0.10 s"), (9.99, "9.99 s"), (59.96, "60.0 s"),
     (60, "1 min 00 s"), (3599.6, "1 h 00 min"), (90000, "1 d 1 h")],
)  # fmt: skip
def test_times_are_told_in_their_unit(seconds: float, words: str) -> None:
    assert duration(seconds) == words


# The axis of the time line


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 50)), min_size=1, max_size=12))
def test_time_runs_forward_on_the_axis(times: list[tuple[float, float]]) -> None:
    records: list[Record] = [RunBegan("x", at=START)]
    for number, (at, took) in enumerate(sorted(times), 1):
        records += [TurnBegan(number, at=START + at), TurnWritten(number, turn("x"), at=START + at + took)]
    drawn = bars(Trace.of("r", {"r": records}))
    scale = axis(drawn)
    points = sorted(point for bar in drawn for point in (bar.began, bar.ended))
    places = [scale.place(point) for point in points]
    assert places == sorted(places)
    assert all(0 <= place <= 1.000001 for place in places)


# Real runs


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def fails() -> str:
    """Fail."""
    raise ValueError("no such thing")


@pytest.mark.anyio
async def test_a_real_run_with_everything_in_it() -> None:
    inner = Agent(ScriptedModel([wire("add", '{"a": 3, "b": 4}'), "seven"]), tools=[add], name="inner")
    turns = [
        "<think>\nHm.\n</think>\n"
        + "\n".join([wire("add", '{"a": "x"}'), wire("nope"), wire("add", '{"a": 1, "b": 2}'), wire("fails")]),
        "<tool_call>{oops}</tool_call>",
        wire("inner", '{"prompt": "Add."}'),
        "done",
    ]
    agent = Agent(ScriptedModel(turns), tools=[add, fails, inner.as_tool(description="Adds.")], name="outer")
    result = await agent.run("Go.")
    trace = result.trace()
    assert (trace.outcome, trace.answer, trace.agent, trace.guarantee) == (
        "answered",
        "done",
        "outer",
        result.guarantee,
    )
    assert trace.usage == result.usage
    assert [[call.state for call in step.calls] for step in trace.steps] == [
        ["refused", "refused", "ran", "failed"], [], ["ran"], [],
    ]  # fmt: skip
    assert trace.steps[0].calls[2].result == "3"
    assert trace.steps[0].thinking == "Hm."
    assert trace.steps[1].turn is not None
    assert trace.steps[1].turn.faults
    assert [run.agent for run in trace.walk()] == ["outer", "inner"]
    assert trace.seconds > 0
    assert all(step.grammar for step in trace.steps)
    assert Trace.from_json(trace.to_json()) == trace


@pytest.mark.anyio
async def test_an_error_carries_its_run() -> None:
    agent = Agent(ScriptedModel([wire("fails")] * 3), tools=[fails], limits=Limits(steps=2))
    with pytest.raises(RunError) as caught:
        await agent.run("Go.")
    trace = Trace.of(caught.value.run_id, caught.value.records)
    assert trace.outcome == "failed"
    assert "steps=2" in trace.error
    assert len(trace.steps) == 2


# Files


def journal_of(file: Path, runs: Mapping[str, Sequence[Record]]) -> None:
    async def write() -> None:
        async with Journal(file) as journal:
            for run_id, records in runs.items():
                for at, record in enumerate(records):
                    await journal.append(run_id, at, record)

    anyio.run(write)


def test_a_trace_is_loaded_from_what_it_saved(tmp_path: Path) -> None:
    trace = Trace.of("run-1", whole_run())
    trace.save(tmp_path / "run.json")
    assert Trace.load(tmp_path / "run.json") == trace
    assert Trace.load(tmp_path / "run.json", "run-1/call_1_1") == trace.nested[0]


def test_a_trace_is_loaded_from_a_journal(tmp_path: Path) -> None:
    file = tmp_path / "runs.db"
    journal_of(file, whole_run())
    assert Trace.load(file) == Trace.of("run-1", whole_run())
    journal_of(file, waiting_run())
    with pytest.raises(ConfigurationError, match="a journal of 2 runs") as caught:
        Trace.load(file)
    assert "'run-1'" in caught.value.hint
    assert "'run-2'" in caught.value.hint
    assert "call_1_1" not in caught.value.hint
    assert Trace.load(file, "run-2").outcome == "waiting"
    assert Trace.load(file, "run-1/call_1_1").agent == "researcher"
    with pytest.raises(HermesError, match="no run 'x'"):
        Trace.load(file, "x")


def test_other_files_are_refused(tmp_path: Path) -> None:
    import sqlite3

    (tmp_path / "a.json").write_text('{"version": 1, "messages": []}')
    with pytest.raises(ConfigurationError, match="not a saved run"):
        Trace.load(tmp_path / "a.json")
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(HermesError, match=r"other\.db"):
        Trace.load(tmp_path / "other.db")
    with pytest.raises(FileNotFoundError):
        Trace.load(tmp_path / "none")


def test_ended_calls_without_a_turn_call_are_kept() -> None:
    """A hook may make up a call that the turn does not hold: it is shown, not lost."""
    records: list[Any] = [
        *whole_run()["run-1"][:3],
        CallEnded("elsewhere", refused(call("new", "elsewhere"), "no", 1).message),
    ]
    assert [c.name for c in Trace.of("r", {"r": records}).steps[0].calls][-1] in ("new", "wether")


def test_a_turn_that_was_broken_off_and_taken_up_again_is_counted_once() -> None:
    part = PartWritten(1, "<think>\n", Usage(10, 4))
    whole = TurnWritten(1, Turn((), raw="<think>\n</think>"), usage=Usage(21, 9, steps=1))
    records: list[Record] = [RunBegan("?"), TurnBegan(1), part, TurnBegan(1)]
    assert Trace.of("r", {"r": records}).usage == Usage(10, 4)
    assert Trace.of("r", {"r": [*records, whole]}).usage == Usage(21, 9, steps=1)


def test_a_call_that_was_cut_off_in_a_thought_and_run_again_is_counted_once() -> None:
    began = CallBegan(ToolCall("ask", {}, "call_1_0_0"))
    ended = CallEnded("call_1_0_0", ToolMessage("4", "ask", "call_1_0_0"), ran=True, usage=Usage(6, 1, steps=1))
    inner: list[Record] = [RunBegan("?"), TurnBegan(1), TurnWritten(1, Turn((), raw="4"), usage=Usage(6, 1, steps=1))]
    part, whole = PartWritten(1, "<think>\n", Usage(10, 4)), TurnWritten(1, Turn(()), usage=Usage(21, 9, steps=1))
    outer: list[Record] = [RunBegan("?"), TurnBegan(1), part, began, TurnBegan(1), began, ended, whole]
    assert Trace.of("r", {"r": outer, "r/call_1_0_0": inner}).usage == Usage(27, 10, steps=2, tool_calls=1)
