"""What is recorded of a run: what was recorded before comes back first, what is new is written down."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from copy import copy
from typing import Protocol

from anyio import CancelScope
from anyio.lowlevel import checkpoint_if_cancelled

from hermes_agent.errors import ConfigurationError
from hermes_agent.limits import NOTHING, Usage
from hermes_agent.messages import ToolCall
from hermes_agent.record import (
    AnswerRejected,
    CallBegan,
    CallEnded,
    CallSettled,
    HistoryShortened,
    PartWritten,
    Record,
    RunBegan,
    RunEnded,
    RunWaited,
    TurnBegan,
    TurnWritten,
)

__all__ = ["Keeper", "RunLog", "check_run_id"]

_logger = logging.getLogger("hermes_agent.run")


class Keeper(Protocol):
    """What keeps records where they outlive the process; a `Journal` is one."""

    async def append(self, run_id: str, at: int, record: Record, *, writer: object | None = None) -> None:
        """Keep the record that is number ``at`` of its run, counted from 0; it is kept when this returns.

        When it refuses one it refuses all that the same ``writer`` has brought behind it.
        """
        ...


class RunLog:
    """The records of one run, and those of the agents inside of it.

    Args:
        run_id: The run.
        runs: Records by run id, those of earlier processes first; grows as the run goes.
        keeper: Where new records are kept besides.

    Attributes:
        records: Those of this run.
        lost: Why a record could not be kept, if one could not; shared with the runs around and inside.
        last_step: The last step that an earlier process began: whatever came before it did not end the run.
        agents: Which agent it was then, by step.
    """

    def __init__(self, run_id: str, runs: dict[str, list[Record]], keeper: Keeper | None = None) -> None:
        self.run_id, self.runs, self.keeper = run_id, runs, keeper
        self.records = runs.get(run_id, [])  # a run of which nothing is recorded is not among them
        self.lost: list[Exception] = []
        self.last_step = 0
        self.agents: dict[int, str] = {}
        self.began: RunBegan | None = None
        self.answer: RunEnded | None = None
        self.turns: dict[int, TurnWritten] = {}
        self.parts: defaultdict[int, list[PartWritten]] = defaultdict(list)
        self.rejections: dict[int, AnswerRejected] = {}
        self.shortened: dict[int, HistoryShortened] = {}
        self.ended: dict[str, CallEnded] = {}
        self.settled: dict[str, CallSettled] = {}
        self.waited: dict[str, ToolCall] = {}
        """Calls as they stood when somebody was asked about them."""
        self.inline = _inside_of_thoughts(self.records)
        self.cut_off: set[str] = set()
        """Calls that were begun and have no result."""
        for record in self.records:
            self._read(record)

    def _read(self, record: Record) -> None:  # noqa: C901  # one case a kind of record
        match record:
            case RunBegan():
                self.began = record
            case RunEnded(answer) if answer is not None:
                self.answer = record
            case TurnBegan(step, agent):
                self.last_step, self.agents[step] = step, agent
            case TurnWritten(step):
                self.turns[step] = record
                self.rejections.pop(step, None)  # of a turn that time ran out for, before this one took its place
            case PartWritten(step):
                self.parts[step].append(record)
            case AnswerRejected(step):
                self.rejections[step] = record
            case HistoryShortened(step):
                self.shortened[step] = record
            case CallBegan(call):
                # A word that was given before the call was run says nothing about running it once more.
                self.settled.pop(call.id, None)
                self.cut_off.add(call.id)
            case CallEnded(call_id):
                self.ended[call_id] = record
                self.cut_off.discard(call_id)
            case RunWaited(calls):
                self.waited.update((item.call.id, item.call) for item in calls if item.run_id == self.run_id)
            case CallSettled(call_id):
                self.settled[call_id] = record
            case _:
                pass

    async def write(self, record: Record) -> None:
        """Write a record down; where there is a keeper, it has it when this returns.

        Raises:
            Exception: What the keeper raises. From then on no record is taken, of this run or of those around and
                inside of it: a tool that asks an agent must not make a result of an agent that could not be recorded.
        """
        if self.lost:
            raise copy(self.lost[0])
        self.records.append(record)
        self.runs[self.run_id] = self.records
        if isinstance(record, CallEnded):  # should the run end before this is put into the conversation
            self.ended[record.call_id] = record
        if _logger.isEnabledFor(logging.INFO):
            _log(self.run_id, record)
        if self.keeper is None:
            return
        try:
            with CancelScope(shield=True):  # else a time limit could leave a gap that the next record does not fit
                await self.keeper.append(self.run_id, len(self.records) - 1, record, writer=self)
        except Exception as error:
            self.lost.append(error)
            raise
        await checkpoint_if_cancelled()  # nothing begins behind a record that was written behind the end

    def used_inside(self, call_id: str) -> Usage:
        """What the agent that a call asks has used so far."""
        used = NOTHING
        for record in self.runs.get(f"{self.run_id}/{call_id}", ()):
            if isinstance(record, TurnWritten | HistoryShortened | CallEnded):
                used += record.usage
            if isinstance(record, CallEnded):
                used += Usage(tool_calls=int(record.ran))
        return used

    def inside(self, call_id: str) -> RunLog:
        """The log of an agent that a tool of this run asks."""
        log = RunLog(f"{self.run_id}/{call_id}", self.runs, self.keeper)
        log.lost = self.lost
        return log


def check_run_id(run_id: object) -> None:
    """Whether a user may call a run so; ``<run id>/<call id>`` names the run of an agent inside of another.

    Raises:
        ConfigurationError: It is no id.
    """
    if not isinstance(run_id, str) or not run_id or not run_id.isprintable() or "/" in run_id:
        raise ConfigurationError(
            f"run_id={run_id!r} cannot be the id of a run",
            hint="use printable characters without '/', which names the runs inside of a run; None makes an id",
        )


def _inside_of_thoughts(records: Sequence[Record]) -> dict[int, list[CallEnded]]:
    """Results of calls that a turn made while it was still being written, by its step."""
    found: dict[int, list[CallEnded]] = {}
    writing: list[CallEnded] | None = None
    for record in records:
        if isinstance(record, TurnBegan):
            writing = found.setdefault(record.step, [])
        elif isinstance(record, TurnWritten):
            writing = None
        elif isinstance(record, CallEnded) and writing is not None:
            writing.append(record)
    return found


def _log(run_id: str, record: Record) -> None:
    """Tell the log what happened; nothing that was said."""
    match record:
        case RunBegan():
            _logger.info("run %s of %r began", run_id, record.agent)
        case RunEnded():
            _logger.info("run %s ended: %s", run_id, record.error.partition(":")[0] or "answered")
        case RunWaited():
            _logger.info("run %s waits for a word on %d calls", run_id, len(record.calls))
        case TurnWritten():
            tokens = record.usage.output_tokens
            _logger.debug("run %s: turn %d, %d tokens, %s", run_id, record.step, tokens, record.finish)
        case CallEnded():
            name = record.message.name
            _logger.debug("run %s: call %s of %r took %.3f s", run_id, record.call_id, name, record.seconds)
        case AnswerRejected():
            _logger.debug("run %s: turn %d was rejected", run_id, record.step)
        case _:
            pass
