"""Ratios over rows, with confidence intervals, from running sums: one pass, and memory does not grow with the rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

__all__ = ["Counts", "Estimate", "share"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share between 0 and 1, and the interval in which it is expected for other rows of the same kind."""

    value: float
    low: float
    high: float


def share(hits: int, of: int, confidence: float) -> Estimate:
    """A share of independent yes-or-no outcomes, with Wilson's interval."""
    if not of:
        return Estimate(1.0, 0.0, 1.0)
    return _wilson(hits / of, of, confidence)


def _wilson(value: float, count: float, confidence: float) -> Estimate:
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    middle = (value + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(value * (1 - value) / count + z * z / (4 * count * count))
    return Estimate(value, min(value, max(0.0, middle - half)), max(value, min(1.0, middle + half)))


@dataclass(slots=True)
class Counts:
    """What was found, over rows: the sums and the sums of products that ratios and their spread are made of.

    Attributes:
        rows: Rows in which there was anything to find, or anything was said.
        hits: Leaves that are right.
        gold: Leaves that there were to find.
        said: Leaves that were said.
    """

    rows: int = 0
    hits: int = 0
    gold: int = 0
    said: int = 0
    _hh: int = 0
    _hg: int = 0
    _hs: int = 0
    _gg: int = 0
    _gs: int = 0
    _ss: int = 0

    def add(self, hits: int, gold: int, said: int) -> None:
        """Count one row."""
        if not (gold or said):
            return
        self.rows += 1
        self.hits, self.gold, self.said = self.hits + hits, self.gold + gold, self.said + said
        self._hh, self._hg, self._hs = self._hh + hits * hits, self._hg + hits * gold, self._hs + hits * said
        self._gg, self._gs, self._ss = self._gg + gold * gold, self._gs + gold * said, self._ss + said * said

    def precision(self, confidence: float) -> Estimate:
        """The share of what was said that is right."""
        return self._ratio(self.hits, self.said, (self._hh, self._hs, self._ss), confidence)

    def recall(self, confidence: float) -> Estimate:
        """The share of what there was to find that was found."""
        return self._ratio(self.hits, self.gold, (self._hh, self._hg, self._gg), confidence)

    def f1(self, confidence: float) -> Estimate:
        """The harmonic mean of both: twice the hits, of all that was said and all there was to find."""
        both = (4 * self._hh, 2 * (self._hg + self._hs), self._gg + 2 * self._gs + self._ss)
        return self._ratio(2 * self.hits, self.gold + self.said, both, confidence)

    def _ratio(self, top: int, bottom: int, squares: tuple[int, int, int], confidence: float) -> Estimate:
        """A ratio of two sums over rows.

        Leaves of a row are not independent, rows are. The variance is that of a ratio of means (linearised by Taylor,
        as survey statistics does it); the interval is Wilson's for as many independent leaves as would have that
        variance, so that it stays within 0 and 1 and does not shrink to a point where everything was right.
        """
        if not bottom:
            return Estimate(0.0, 0.0, 1.0) if self.rows else Estimate(1.0, 0.0, 1.0)
        value = top / bottom
        xx, xy, yy = squares
        spread = max(0.0, xx - 2 * value * xy + value * value * yy)
        if not spread:  # each row has the same ratio: no row says how far another may be away
            return _wilson(value, self.rows, confidence)
        variance = spread / bottom**2 * (self.rows / (self.rows - 1) if self.rows > 1 else 1)
        return _wilson(value, min(max(value * (1 - value) / variance, 1.0), float(bottom)), confidence)
