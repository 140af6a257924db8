"""What must hold of runs whose processes were killed."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from hermes_agent import Conversation, RunResult
from hermes_agent.formats.prompt import render
from hermes_agent.journal import Journal
from hermes_agent.messages import AssistantMessage, ToolMessage
from hermes_agent.record import CallBegan, CallEnded, CallSettled, Record, RunEnded, dump_runs, load_runs
from hermes_agent.trace import Trace
from tests.killed_runs import AGAIN, EFFECTS, ERRORS, FORBIDDEN, ONCE, RUNS, Order, Place, agent, effect_of

IDEMPOTENT = ("look", "measure", "clerk", "transfer_to_closer")


def check(order: Order, run_id: str, expected: RunResult[Any]) -> None:
    """What must hold when a run has come to its end."""
    folder = Path(order.folder)
    file = Path(order.journal or folder / RUNS)
    effects = (folder / EFFECTS).read_text()
    check_effects(effects.splitlines(), run_id)
    check_rows(file, run_id)
    with Journal(file) as journal:
        assert run_id in {run.run_id for run in journal.runs() if run.state == "ended"}
        place = Place(order, lambda: None)
        # All of it stands in the records: nobody writes, nothing is run.
        result = anyio.run(partial(agent(place, journal).resume, run_id, deps=place))
        assert not place.passed
        runs = {name: journal.records(name) for name in (run_id, *journal.nested(run_id))}
    assert (folder / EFFECTS).read_text() == effects
    assert result.output == expected.output
    assert result.messages == expected.messages
    assert (result.usage.steps, result.usage.output_tokens) == (expected.usage.steps, expected.usage.output_tokens)
    check_messages(result.messages)
    assert set(runs) == {name.replace("run", run_id, 1) for name in expected.records}
    for records in runs.values():
        check_records(records)
    assert load_runs(dump_runs(run_id, runs)) == (run_id, runs)
    assert "closer" in str(Trace.of(run_id, runs))


def check_effects(effects: Sequence[str], run_id: str) -> None:
    """What must happen once has happened once, what may happen again at least once, and nothing else."""
    own = Counter(line for line in effects if line.split()[0] == run_id)
    for name in ONCE:
        assert own.pop(f"{run_id} {name}", 0) == 1, name
    for name in AGAIN:
        assert own.pop(f"{run_id} {name}", 0) >= 1, name
    assert f"{run_id} {FORBIDDEN}" not in own
    assert not own


def check_rows(file: Path, run_id: str) -> None:
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        places: dict[str, list[int]] = {}
        for name, at in connection.execute("SELECT run_id, at FROM records ORDER BY run_id, at"):
            places.setdefault(name, []).append(at)
    assert run_id in places
    for found in places.values():
        assert found == list(range(len(found)))


def check_records(records: Sequence[Record]) -> None:
    """One result a call; what may not be run twice was begun again only behind somebody's word."""
    results = Counter(record.call_id for record in records if isinstance(record, CallEnded))
    assert set(results.values()) == {1}
    begun: set[str] = set()
    for record in records:
        if isinstance(record, CallSettled):
            begun.discard(record.call_id)
        elif isinstance(record, CallBegan) and record.call.name not in IDEMPOTENT:
            assert record.call.id not in begun, f"{record.call} was begun twice"
            begun.add(record.call.id)
    assert isinstance(records[-1], RunEnded)
    assert sum(isinstance(record, RunEnded) for record in records) == 1


def check_messages(messages: Conversation) -> None:
    """It can be shown to a model, saved and loaded, and each call has its result."""
    calls = [call.id for m in messages if isinstance(m, AssistantMessage) for call in m.tool_calls]
    assert [m.call_id for m in messages if isinstance(m, ToolMessage) if m.call_id] == calls
    assert Conversation.from_json(messages.to_json()) == messages
    assert render(messages, dialect="hermes-4-14b")


def check_starts(order: Order, run_id: str) -> None:
    """Nothing was run whose beginning is not in the journal."""
    folder = Path(order.folder)
    effects = (folder / EFFECTS).read_text().splitlines() if (folder / EFFECTS).exists() else []
    begun: set[str] = set()
    with Journal(order.journal or folder / RUNS) as journal:
        if journal.count(run_id):
            for name in (run_id, *journal.nested(run_id)):
                begun |= {
                    effect_of(name, record.call.name, value)
                    for record in journal.records(name)
                    if isinstance(record, CallBegan)
                    for value in record.call.arguments.values()
                }
    assert set(effects) <= begun


def check_refusal(order: Order, file: str) -> None:
    (error,) = (json.loads(line) for line in (Path(order.folder) / ERRORS).read_text().splitlines())
    assert f"the journal {file!r} cannot be written" in error
    assert "make room" in error
