"""When things happened in a run, as bars on one axis. Long waits are folded, so that what happened can be seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from hermes_agent.trace.run import Trace

__all__ = ["Axis", "Bar", "axis", "bars"]

_Kind = Literal["model", "tool", "failed", "open"]


@dataclass(frozen=True, slots=True)
class Bar:
    """Something that took time.

    Attributes:
        kind: What it is; ``open`` is something of which no end is recorded.
        label: The step, or the tool's name.
        depth: 0 for steps of the run, 1 for their calls, 2 for steps of agents inside of them, and so on.
        path: Position of the step, then of the call in it, then of the step inside of that, and so on.
        began: Seconds since 1970.
        ended: Likewise.
    """

    kind: _Kind
    label: str
    depth: int
    path: tuple[int, ...]
    began: float
    ended: float


def bars(trace: Trace) -> list[Bar]:
    """One bar for each turn and each call that was begun, in the order of the trace."""
    return list(_bars(trace, (), trace.ended))


def _bars(trace: Trace, path: tuple[int, ...], last: float) -> Iterator[Bar]:
    for index, step in enumerate(trace.steps):
        at = (*path, index)
        until = step.ended
        if until is None:  # what came next shows that it was over by then
            until = trace.steps[index + 1].began if index + 1 < len(trace.steps) else last
        label = f"step {step.number}"
        yield Bar("open" if step.ended is None else "model", label, len(path), at, step.began, max(step.began, until))
        for place, call in enumerate(step.calls):
            if call.began is None and call.ended is None:
                continue
            ended = last if call.ended is None else call.ended
            began = ended - call.seconds if call.began is None else call.began
            kind: _Kind = "open" if call.ended is None else "failed" if call.state == "failed" else "tool"
            yield Bar(kind, call.name, len(path) + 1, (*at, place), began, max(began, ended))
            if call.run is not None:
                yield from _bars(call.run, (*at, place), last)


@dataclass(frozen=True, slots=True)
class Axis:
    """Time, mapped to 0 … 1.

    Attributes:
        spans: Spans of time that are drawn, in order: begin and end in seconds since 1970, begin and end on the axis.
            What lies between two of them is folded.
    """

    spans: tuple[tuple[float, float, float, float], ...]

    def place(self, at: float) -> float:
        """Where a time lies."""
        for began, ended, left, right in self.spans:
            if at <= ended:
                share = (at - began) / (ended - began) if ended > began else 0.0
                return left + min(max(share, 0.0), 1.0) * (right - left)
        return 1.0

    @property
    def folds(self) -> list[tuple[float, float]]:
        """Where waits are folded, on the axis, and how long they were, in seconds."""
        between = zip(self.spans, self.spans[1:], strict=False)
        return [((before[3] + after[2]) / 2, after[0] - before[1]) for before, after in between]


_FOLD = 0.03  # width of a folded wait, as a share of the axis
_IDLE = 0.25  # waits longer than this share of the time in which something happened are folded


def axis(drawn: Sequence[Bar]) -> Axis:
    """An axis on which all these bars are seen."""
    busy: list[list[float]] = []
    for bar in sorted(drawn, key=lambda bar: bar.began):
        if busy and bar.began <= busy[-1][1]:
            busy[-1][1] = max(busy[-1][1], bar.ended)
        else:
            busy.append([bar.began, bar.ended])
    worked = sum(ended - began for began, ended in busy)
    kept: list[list[float]] = []
    for began, ended in busy:
        if kept and began - kept[-1][1] <= max(worked * _IDLE, 0.05):
            kept[-1][1] = ended
        else:
            kept.append([began, ended])
    fold = min(_FOLD, 0.3 / len(kept)) if kept else 0.0
    width = 1.0 - fold * max(len(kept) - 1, 0)
    total = sum(ended - began for began, ended in kept)
    spans: list[tuple[float, float, float, float]] = []
    left = 0.0
    for began, ended in kept:
        right = left + width * ((ended - began) / total if total else 1 / len(kept))
        spans.append((began, ended, left, right))
        left = right + fold
    return Axis(tuple(spans))
