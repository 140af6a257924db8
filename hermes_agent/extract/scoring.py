"""How good is a job's output: exact match, and precision, recall and F1 by field, against rows with the right answer.

`hermes_agent.extract.agreement` says when two values agree.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

from hermes_agent.errors import ConfigurationError
from hermes_agent.extract.agreement import Comparison, Path, compare, field_name
from hermes_agent.extract.estimate import Counts, Estimate, share
from hermes_agent.extract.pairing import Rows, pairs

__all__ = ["Estimate", "Measure", "RowScore", "Score", "score"]

_IDS = 5


@dataclass(frozen=True, slots=True)
class Measure:
    """How well a field was found, or all of them together.

    Attributes:
        hits: Values that are right.
        gold: Values that there were to find.
        said: Values that were said.
        precision: ``hits / said``; 1 where nothing was said and nothing was to be found.
        recall: ``hits / gold``, likewise.
        f1: Their harmonic mean.
    """

    hits: int
    gold: int
    said: int
    precision: Estimate
    recall: Estimate
    f1: Estimate


@dataclass(frozen=True, slots=True)
class RowScore:
    """A row that was not quite right.

    Attributes:
        id: Its id.
        f1: Its F1, over its values.
        missed: Field and value of what it should have said, as compared.
        extra: Field and value of what it should not have said.
    """

    id: str
    f1: float
    missed: tuple[tuple[str, Any], ...]
    extra: tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Score:
    """How good an output is.

    Attributes:
        rows: Rows with a right answer.
        exact: The share of them that was answered rightly in every field.
        missing: Rows the output does not have; all their values are missed.
        failed: Rows whose output is an error; likewise.
        unknown: Rows of the output without a right answer; they count nowhere else.
        overall: All values of all fields together (micro average).
        macro_f1: The mean of the fields' F1, each counting the same.
        fields: By field, those with most values to find first.
        worst: Answered rows, the lowest F1 first, those with most mistakes first among equals.
        ids: The first few ids of rows ``"missing"``, ``"failed"`` and ``"unknown"``.
        confidence: Of all intervals.
    """

    rows: int
    exact: Estimate
    missing: int
    failed: int
    unknown: int
    overall: Measure
    macro_f1: float
    fields: Mapping[str, Measure]
    worst: tuple[RowScore, ...]
    ids: Mapping[str, tuple[str, ...]]
    confidence: float


def score(
    gold: Rows,
    out: Rows,
    *,
    gold_field: str | None = None,
    casefold: bool = False,
    worst: int = 5,
    confidence: float = 0.95,
) -> Score:
    """Score the output of a job.

    Rows are paired by id, the n-th of an id with the n-th; the order of rows says nothing. Strings are compared
    without the whitespace around them and with single spaces inside, numbers by value, lists in any order; what is
    empty or ``null`` is the same as what is not there. Files are read in step, so that memory grows only with the
    disorder between them.

    Args:
        gold: Rows ``{"id", "gold"}``, or a JSONL file of them. Without an id a row goes by its number, from 0.
        out: Rows ``{"id", "output"}`` or ``{"id", "error"}``, as jobs write them, or a JSONL file of them.
        gold_field: Where the right answer stands in a row; by default ``"gold"``, else ``"output"``.
        casefold: Upper and lower case are the same.
        worst: How many rows to show.
        confidence: Of the intervals, which are for other rows of the same kind.

    Raises:
        ConfigurationError: A file cannot be read or holds something else; the message says where.

    Example:
        >>> gold = [{"id": 1, "gold": {"total": 3, "tags": ["a"]}}, {"id": 2, "gold": {"total": 5, "tags": []}}]
        >>> out = [{"id": 2, "output": {"total": 5.0}}, {"id": 1, "output": {"total": 3, "tags": ["b"]}}]
        >>> found = score(gold, out)
        >>> found.exact.value, round(found.overall.f1.value, 3), found.fields["tags"].recall.value
        (0.5, 0.667, 0.0)
    """
    if not 0 < confidence < 1:
        raise ConfigurationError(f"confidence={confidence!r} is no share", hint="give a number such as 0.95")
    tally = _Tally(worst)
    found = pairs(gold, out, lambda row, where: _right(row, where, gold_field), _made)
    for id_, right, made in found:
        try:
            tally.add(id_, right, made, casefold)
        except RecursionError as error:
            raise ConfigurationError(
                f"the row {id_!r} is nested too deep to be compared", hint="take it out of both files"
            ) from error
    if not tally.rows:
        shown = str(gold) if isinstance(gold, (str, PathLike)) else gold
        raise ConfigurationError(f"{shown!r:.200} holds no rows", hint="give rows with id and gold")
    return tally.score(confidence)


@dataclass(frozen=True, slots=True)
class _Value:
    """A value; its box tells it from the absence of one, as it may be ``None``."""

    value: Any


_FAILED = _Value(None)


def _right(row: Mapping[str, Any], where: str, field: str | None) -> _Value:
    names = ("gold", "output") if field is None else (field,)
    for name in names:
        if name in row:
            return _Value(row[name])
    raise ConfigurationError(
        f"{where} has no {' and no '.join(map(repr, names))}, but {', '.join(map(repr, row)) or 'nothing'}",
        hint="say where the right answer stands: --gold-field NAME, or gold_field=",
    )


def _made(row: Mapping[str, Any], where: str) -> _Value:
    if "output" in row:
        return _Value(row["output"])
    if "error" in row:
        return _FAILED
    raise ConfigurationError(
        f"{where} has no 'output' and no 'error', but {', '.join(map(repr, row)) or 'nothing'}",
        hint="give what an extraction job wrote",
    )


class _Tally:
    """Everything that is counted while the rows pass."""

    def __init__(self, worst: int) -> None:
        self.rows = self._exact = 0
        self._missing, self._failed, self._unknown = _Ids(), _Ids(), _Ids()
        self._all = Counts()
        self._fields: dict[Path, Counts] = {}
        self._worst = worst
        self._bad: list[tuple[float, int, int, RowScore]] = []

    def add(self, id_: str, right: _Value | None, made: _Value | None, casefold: bool) -> None:
        """Count a row of either side, or of both."""
        if right is None:
            self._unknown.add(id_)
            return
        self.rows += 1
        answered = made is not None and made is not _FAILED
        if not answered:
            (self._missing if made is None else self._failed).add(id_)
        found = compare(right.value, made.value if made is not None else None, casefold=casefold)
        self._exact += answered and found.exact
        self._count(found)
        if answered and not found.exact:
            self._consider(id_, found)

    def _count(self, found: Comparison) -> None:
        self._all.add(found.hits.total(), found.gold.total(), found.said.total())
        by_field: dict[Path, list[int]] = {}
        for place, leaves in enumerate((found.hits, found.gold, found.said)):
            for (path, *_), count in leaves.items():
                by_field.setdefault(path, [0, 0, 0])[place] += count
        for path, counts in by_field.items():
            self._fields.setdefault(path, Counts()).add(*counts)

    def _consider(self, id_: str, found: Comparison) -> None:
        """Keep a row if it is one of the worst so far; earlier ones win among equals."""
        hits, both = found.hits.total(), found.gold.total() + found.said.total()
        f1, wrong = 2 * hits / both, both - 2 * hits
        place = (-f1, wrong, -self.rows)
        if len(self._bad) >= self._worst and (not self._bad or place < self._bad[0][:3]):
            return
        row = RowScore(id_, f1, _listed(found.gold - found.hits), _listed(found.said - found.hits))
        heapq.heappush(self._bad, (*place, row))
        if len(self._bad) > self._worst:
            heapq.heappop(self._bad)

    def score(self, confidence: float) -> Score:
        ordered = sorted(self._fields.items(), key=lambda item: (-item[1].gold, -item[1].said, item[0]))
        fields = {field_name(path): _measure(counts, confidence) for path, counts in ordered}
        f1s = [measure.f1.value for measure in fields.values()]
        return Score(
            rows=self.rows,
            exact=share(self._exact, self.rows, confidence),
            missing=self._missing.count,
            failed=self._failed.count,
            unknown=self._unknown.count,
            overall=_measure(self._all, confidence),
            macro_f1=sum(f1s) / len(f1s) if f1s else 1.0,
            fields=fields,
            worst=tuple(row for *_, row in sorted(self._bad, key=lambda bad: bad[:3], reverse=True)),
            ids={
                "missing": tuple(self._missing.first),
                "failed": tuple(self._failed.first),
                "unknown": tuple(self._unknown.first),
            },
            confidence=confidence,
        )


class _Ids:
    """How many, and the first few."""

    def __init__(self) -> None:
        self.count, self.first = 0, list[str]()

    def add(self, id_: str) -> None:
        self.count += 1
        if len(self.first) < _IDS:
            self.first.append(id_)


def _listed(leaves: Counter[Any]) -> tuple[tuple[str, Any], ...]:
    return tuple((field_name(path), value) for path, _, value in leaves.elements())


def _measure(counts: Counts, confidence: float) -> Measure:
    return Measure(
        counts.hits,
        counts.gold,
        counts.said,
        counts.precision(confidence),
        counts.recall(confidence),
        counts.f1(confidence),
    )
