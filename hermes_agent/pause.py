"""A run that waits for somebody's word, as a value: it can be saved, settled in another process, and gone on with."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from hermes_agent.errors import ConfigurationError
from hermes_agent.journal_rows import JournalError
from hermes_agent.record import (
    CallBegan,
    CallEnded,
    CallSettled,
    PendingCall,
    Record,
    RunBegan,
    RunWaited,
    dump_runs,
    load_runs,
)
from hermes_agent.result import result_text

if TYPE_CHECKING:
    from hermes_agent.journal import Journal

__all__ = ["PausedRun", "PendingCall"]


@dataclass(frozen=True, slots=True)
class PausedRun:
    """A run that waits. ``Agent.resume`` goes on with it; calls that are still pending then make it wait again.

    Attributes:
        run_id: The run.
        runs: What was recorded of it and of the agents inside of it, by run id.

    Example:
        >>> def settle(agent, paused):
        ...     for pending in paused.pending:
        ...         paused = paused.deny(pending, "Ask your manager first.")
        ...     return agent.resume_sync(paused)
    """

    run_id: str
    runs: Mapping[str, Sequence[Record]] = field(repr=False)

    @property
    def pending(self) -> tuple[PendingCall, ...]:
        """The calls that nobody has settled yet, in the order the model made them."""
        waiting = map(self._as_it_stands, self._waiting(self.run_id))
        return tuple(item for item in waiting if item is not None and not self._settled(item))

    @property
    def prompt(self) -> str:
        """What the user said."""
        return next((r.prompt for r in self.runs[self.run_id] if isinstance(r, RunBegan)), "")

    def approve(self, pending: PendingCall | str) -> PausedRun:
        """Let a call be run. One that was cut off is run again.

        Args:
            pending: The call, or its ``id``.

        Raises:
            ConfigurationError: No such call is pending, or nothing here can run it.
        """
        item = self._find(pending)
        if item.reason == "external":
            raise ConfigurationError(
                f"call {item.id!r} of {item.call.name!r} cannot be run here: its tool is only a schema",
                hint="give its result with supply(...), or deny it",
            )
        return self._with(item, CallSettled(item.call.id, "approved", at=time.time()))

    def deny(self, pending: PendingCall | str, reason: str = "The user did not allow it.") -> PausedRun:
        """Do not run a call; the model is told the reason.

        Raises:
            ConfigurationError: No such call is pending, or the reason is no text.
        """
        if not isinstance(cast("object", reason), str):
            raise ConfigurationError(f"reason={reason!r} is no text", hint="say in words why, or leave it out")
        item = self._find(pending)
        return self._with(item, CallSettled(item.call.id, "denied", reason, at=time.time()))

    def supply(self, pending: PendingCall | str, result: object) -> PausedRun:
        """Give the result of a call that was made elsewhere, or that ended before a crash.

        Args:
            pending: The call, or its ``id``.
            result: What a tool may return: text, or anything JSON can carry.

        Raises:
            ConfigurationError: No such call is pending.
            ToolResultError: The result cannot be written as text.
        """
        item = self._find(pending)
        return self._with(item, CallSettled(item.call.id, "supplied", result_text(result), at=time.time()))

    def to_json(self) -> str:
        """The whole of it, for another process; deps are not part of it."""
        return dump_runs(self.run_id, self.runs)

    @classmethod
    def from_json(cls, text: str | bytes) -> PausedRun:
        """What ``to_json`` wrote.

        Raises:
            ConfigurationError: It is not a saved run; the message says where it breaks.
        """
        return cls(*load_runs(text))

    @classmethod
    def load(cls, journal: Journal, run_id: str) -> PausedRun:
        """A run as it stands in a journal, so that its pending calls can be looked at and settled.

        Raises:
            JournalError: There is no such run, or the file cannot be read.
        """
        runs = {run_id: journal.records(run_id)}
        return cls(run_id, runs | {name: journal.records(name) for name in journal.nested(run_id)})

    async def store(self, journal: Journal) -> None:
        """Write what a journal does not have yet of it; that is what the user said about its calls.

        Raises:
            JournalError: The journal has more or other records, because the run went on; or it cannot be written.
        """
        known = {name: journal.count(name) for name in self.runs}
        for name, records in self.runs.items():
            there = journal.records(name) if known[name] else []
            # As text, because a list in JSON may be a tuple in what a hook made.
            if dump_runs(name, {name: there}) != dump_runs(name, {name: records[: len(there)]}):
                raise JournalError(
                    f"run {name!r} went on since it was loaded: it has {len(there)} records in {str(journal.path)!r}",
                    hint="load it again with PausedRun.load(journal, run_id), and see what is still pending",
                )
        for name, records in self.runs.items():
            for at in range(known[name], len(records)):
                await journal.append(name, at, records[at])

    def _waiting(self, run_id: str) -> Sequence[PendingCall]:
        """What a run waited for when it last paused."""
        return next((r.calls for r in reversed(self.runs.get(run_id, ())) if isinstance(r, RunWaited)), ())

    def _as_it_stands(self, item: PendingCall) -> PendingCall | None:
        """What the run of a call says of it: if that is one inside, it may have paused anew before its process died."""
        return next((own for own in self._waiting(item.run_id) if own.id == item.id), None)

    def _settled(self, item: PendingCall) -> bool:
        for record in reversed(self.runs[item.run_id]):
            if isinstance(record, RunWaited):  # a word given before it waited was about something else
                return False
            if isinstance(record, CallSettled | CallEnded) and record.call_id == item.call.id:
                return True
            if isinstance(record, CallBegan) and record.call.id == item.call.id:
                return True
        return False

    def _find(self, pending: PendingCall | str) -> PendingCall:
        wanted = pending if isinstance(pending, str) else pending.id
        for item in self.pending:
            if item.id == wanted:
                return item
        waiting = ", ".join(f"{item.id!r} ({item.call.name})" for item in self.pending) or "none"
        raise ConfigurationError(f"no call {wanted!r} is pending in run {self.run_id!r}", hint=f"pending: {waiting}")

    def _with(self, item: PendingCall, record: CallSettled) -> PausedRun:
        return PausedRun(self.run_id, {**self.runs, item.run_id: [*self.runs[item.run_id], record]})
