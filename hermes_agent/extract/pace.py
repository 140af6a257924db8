"""How many rows are asked for at once: as many as the model gains from."""

from __future__ import annotations

from statistics import median

__all__ = ["Pace"]

_SLOWER = 1.5
"""So many times the least latency is a queue, if no more rows come of it."""

_GAIN = 1.05
_HOLD = 8


class Pace:
    """A bound on rows at once that follows the model.

    It grows by one a window while that brings more rows a second, halves when the server turns requests away
    (HTTP 429 or 503: additive increase, multiplicative decrease, as TCP does it), and goes back a step when rows only
    wait longer.

    Args:
        most: The bound is never above this.
        start: What it begins with.

    Attributes:
        bound: Rows that may be asked for at once now.
    """

    def __init__(self, most: int, *, start: int = 4) -> None:
        self.most = most
        self.bound = min(start, most)
        self._latencies: list[float] = []
        self._least = float("inf")
        self._rate, self._hold = 0.0, 0
        self._began: float | None = None
        self._turned_away = 0
        self._grown = False

    def settled(self, seconds: float, now: float, turned_away: int) -> None:
        """Note a row that was answered.

        Args:
            seconds: What it took.
            now: The time, of a clock that only grows.
            turned_away: Requests that the server has turned away so far.
        """
        if self._began is None:
            self._began = now
        self._latencies.append(seconds)
        if turned_away > self._turned_away:
            self._turned_away = turned_away
            self.bound = max(1, self.bound // 2)
            self._next(now, grown=False)
            self._hold = _HOLD
        elif len(self._latencies) >= max(2 * self.bound, 4):
            self._judge(now)

    def _judge(self, now: float) -> None:
        assert self._began is not None
        latency, rate = median(self._latencies), len(self._latencies) / max(now - self._began, 1e-9)
        self._least = min(self._least, latency)
        if self._grown and rate < self._rate * _GAIN and latency > self._least * _SLOWER:
            self.bound = max(1, self.bound - max(1, self.bound // 4))
            self._hold = _HOLD
            grown = False
        else:
            if self._hold:
                self._hold -= 1
            grown = not self._hold and self.bound < self.most
            self.bound += grown
        self._rate = rate
        self._next(now, grown=grown)

    def _next(self, now: float, *, grown: bool) -> None:
        self._latencies.clear()
        self._began, self._grown = now, grown
