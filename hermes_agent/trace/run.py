"""A run as a trace: read from its records, saved, loaded, printed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hermes_agent.errors import ConfigurationError
from hermes_agent.limits import Usage
from hermes_agent.messages import Message
from hermes_agent.record import Record, dump_runs, load_runs
from hermes_agent.trace.reading import read
from hermes_agent.trace.values import Outcome, TracedShortening, TracedStep

if TYPE_CHECKING:
    from hermes_agent.journal import Journal

__all__ = ["Trace"]


@dataclass(frozen=True, slots=True)
class Trace:
    """What happened in a run.

    Attributes:
        run_id: Of the run.
        prompt: What the user said.
        history: Earlier messages.
        agent: Name of the agent that began.
        model: Name of its model.
        promised: What the model promised: ``token``, ``server`` or ``checked``.
        guarantee: The weakest enforcement that any turn had.
        began: Seconds since 1970.
        ended: When the last record was written.
        outcome: What became of the run.
        answer: The text of the answer, as the model wrote it; ``None`` when there is none.
        error: Type and message of what ended the run; empty when nothing did.
        steps: Turns of the model with their calls, in order.
        shortenings: Where the model was shown less of the conversation.
        usage: Of all steps, summaries and agents inside of tools.
        records: What it was read from: records by run id, those of agents inside of tools too.
    """

    run_id: str
    prompt: str
    history: tuple[Message, ...]
    agent: str
    model: str
    promised: str
    guarantee: str
    began: float
    ended: float
    outcome: Outcome
    answer: str | None
    error: str
    steps: tuple[TracedStep, ...]
    shortenings: tuple[TracedShortening, ...]
    usage: Usage
    records: Mapping[str, Sequence[Record]] = field(repr=False)

    @property
    def seconds(self) -> float:
        """From the first record to the last, pauses included."""
        return self.ended - self.began

    @property
    def nested(self) -> tuple[Trace, ...]:
        """The runs of agents that were used as tools, in the order of their calls."""
        return tuple(call.run for step in self.steps for call in step.calls if call.run is not None)

    @classmethod
    def of(cls, run_id: str, runs: Mapping[str, Sequence[Record]]) -> Trace:
        """Read the records of a run.

        Args:
            run_id: The run.
            runs: Records by run id; that of an agent inside of a tool is ``<run id>/<call id>``.

        Raises:
            ConfigurationError: There is no such run, or its records are in no order that a run writes.
        """
        if run_id not in runs:
            raise _no_such_run(run_id, list(runs))
        reading = read(run_id, runs[run_id], lambda call_id: cls._inside(f"{run_id}/{call_id}", runs))
        steps = reading.values()
        ended = reading.ended
        return cls(
            run_id=run_id,
            prompt=reading.began.prompt,
            history=tuple(reading.began.history),
            agent=reading.began.agent,
            model=reading.began.model,
            promised=reading.began.guarantee,
            guarantee=reading.guarantee(),
            began=reading.began.at,
            ended=reading.last,
            outcome=reading.outcome(),
            answer=None if ended is None else ended.answer,
            error="" if ended is None else ended.error,
            steps=steps,
            shortenings=tuple(reading.shortenings),
            usage=_total(steps, reading.shortenings),
            records={name: tuple(runs[name]) for name in runs if name == run_id or name.startswith(f"{run_id}/")},
        )

    @classmethod
    def _inside(cls, run_id: str, runs: Mapping[str, Sequence[Record]]) -> Trace | None:
        return cls.of(run_id, runs) if run_id in runs else None

    def to_json(self) -> str:
        """The run as one JSON text, as `PausedRun.to_json` writes it too."""
        return dump_runs(self.run_id, self.records)

    @classmethod
    def from_json(cls, text: str | bytes, run_id: str | None = None) -> Trace:
        """Read what ``to_json`` wrote.

        Args:
            text: The saved run.
            run_id: One of the runs in it; the outermost by default.

        Raises:
            ConfigurationError: The text is not a saved run, or there is no such run in it.
        """
        outermost, runs = load_runs(text)
        return cls.of(outermost if run_id is None else run_id, runs)

    def save(self, file: str | Path) -> None:
        """Write the run into a file.

        Raises:
            OSError: It cannot be written.
        """
        Path(file).write_text(self.to_json(), encoding="utf-8", newline="\n")

    @classmethod
    def load(cls, file: str | Path, run_id: str | None = None) -> Trace:
        """Read a run from what ``save`` wrote, from a saved pause, or from the file of a `Journal`.

        Args:
            file: The file.
            run_id: Which of the runs in it; only a journal of several runs needs one.

        Raises:
            ConfigurationError: It is neither, or it is not clear which run is meant; the message lists them.
            OSError: It cannot be read.
        """
        with Path(file).open("rb") as opened:
            is_journal = opened.read(len(_SQLITE)) == _SQLITE
        if is_journal:
            from hermes_agent.journal import Journal

            with Journal(file) as journal:
                return _from_journal(journal, run_id)
        return cls.from_json(Path(file).read_bytes(), run_id)

    def tree(self, *, chars: int | None = 400, ascii_only: bool = False) -> str:
        """The run as a tree of lines, safe to print: what could steer a terminal is shown as an escape.

        Args:
            chars: How much of a value is shown; what is left out is said. ``None`` shows all.
            ascii_only: Draw the tree in ASCII.
        """
        from hermes_agent.trace.tree import tree

        return tree(self, chars=chars, ascii_only=ascii_only)

    def to_html(self) -> str:
        """The run as one HTML page that needs nothing else, runs nothing, and escapes all that it shows."""
        from hermes_agent.trace.page import page

        return page(self)

    def to_dict(self) -> dict[str, Any]:
        """The run as JSON values, worked out: steps with times, calls with states, totals."""
        from hermes_agent.trace.plain import run_values

        return run_values(self)

    def walk(self) -> Iterator[Trace]:
        """This run and all that are nested in it, outermost first."""
        yield self
        for inner in self.nested:
            yield from inner.walk()

    def __str__(self) -> str:
        return self.tree()


_SQLITE = b"SQLite format 3\x00"
"""How every SQLite file begins: https://www.sqlite.org/fileformat.html, section 1.3."""


def _from_journal(journal: Journal, run_id: str | None) -> Trace:
    if run_id is None:
        known = [summary.run_id for summary in journal.runs()]
        if len(known) != 1:
            raise ConfigurationError(
                f"{str(journal.path)!r} is a journal of {len(known)} runs", hint=f"name one of them: {_listed(known)}"
            )
        run_id = known[0]
    return Trace.of(run_id, {name: journal.records(name) for name in [run_id, *journal.nested(run_id)]})


def _total(steps: Sequence[TracedStep], shortenings: Sequence[TracedShortening]) -> Usage:
    spent = [step.usage for step in steps] + [shortening.usage for shortening in shortenings]
    # A call that was cut off inside a thought, and run again when that was taken up, stands in both.
    calls = {(step.number, call.id): call for step in steps for call in step.calls}
    for call in calls.values():
        spent += [call.usage, Usage(tool_calls=call.state in ("ran", "failed"))]
    return sum(spent, Usage())


def _no_such_run(run_id: str, known: Sequence[str]) -> ConfigurationError:
    return ConfigurationError(f"there is no run {run_id!r}", hint=f"the runs there are: {_listed(known)}")


def _listed(run_ids: Sequence[str], most: int = 20) -> str:
    named = ", ".join(map(repr, run_ids[:most])) or "none"
    return f"{named} and {len(run_ids) - most:,} more" if len(run_ids) > most else named
