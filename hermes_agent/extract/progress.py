"""How a job tells what it has done: a bar on a terminal, a line now and then elsewhere, or whatever you like."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from hermes_agent.extract.inputs import Rows

__all__ = ["Bar", "Lines", "Progress", "Tally", "progress_of", "shown_rate"]

_LINE_SECONDS, _DRAWN_SECONDS, _WINDOW_SECONDS = 10.0, 0.1, 30.0


class Progress(Protocol):
    """What is told of a job: `begin` once, `advance` for each batch of rows, `close` at the end, whatever it is."""

    def begin(self, already: int) -> None:
        """So many rows were settled before, and are not asked again."""
        ...

    def advance(self, settled: int, failed: int, input_tokens: int, output_tokens: int) -> None:
        """So many more rows are settled, some of which failed, for so many tokens."""
        ...

    def close(self) -> None:
        """The job ends."""
        ...


class Tally:
    """Rows, failures and tokens so far, and how fast they come at present.

    Args:
        total: Rows of the input; ``None`` if it is not known.
        clock: Seconds from any point on.
    """

    def __init__(self, total: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.total, self.done, self.failed, self.tokens = total, 0, 0, 0
        self._clock = clock
        self._marks = deque([(clock(), 0, 0)])  # (time, rows, tokens), the first about a window ago

    def begin(self, already: int) -> None:
        """Rows that were settled before count as done, and not for how fast rows come."""
        self.done = already
        self._marks = deque([(self._clock(), already, 0)])

    def advance(self, settled: int, failed: int, input_tokens: int, output_tokens: int) -> None:
        """More rows are settled."""
        self.done += settled
        self.failed += failed
        self.tokens += input_tokens + output_tokens
        now = self._clock()
        if now - self._marks[-1][0] >= 1.0 or len(self._marks) == 1:
            self._marks.append((now, self.done, self.tokens))
        while len(self._marks) > 2 and now - self._marks[1][0] > _WINDOW_SECONDS:
            self._marks.popleft()

    def line(self) -> str:
        """All of it, as a person reads it."""
        since, rows, tokens = self._marks[0]
        seconds = max(self._clock() - since, 1e-9)
        speed = (self.done - rows) / seconds
        parts = [f"{self.done:,} rows" if self.total is None else f"{self.done:,}/{self.total:,} rows"]
        if speed:
            parts += [f"{shown_rate(speed)} rows/s", f"{(self.tokens - tokens) / seconds:,.0f} tokens/s"]
        parts.append(f"{self.failed:,} failed")
        if self.total is not None and speed and self.done < self.total:
            parts.append(f"{_duration((self.total - self.done) / speed)} left")
        return " · ".join(parts)


class Lines:
    """A line every ten seconds, and one at the end; for logs.

    Args:
        tally: Counts.
        file: Where they go.
        clock: Seconds from any point on.
    """

    def __init__(self, tally: Tally, file: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._tally, self._file, self._clock = tally, file, clock
        self._told = clock()

    def begin(self, already: int) -> None:
        """Count them."""
        self._tally.begin(already)
        self._told = self._clock()

    def advance(self, settled: int, failed: int, input_tokens: int, output_tokens: int) -> None:
        """Count them, and tell if it is time."""
        self._tally.advance(settled, failed, input_tokens, output_tokens)
        if self._clock() - self._told >= _LINE_SECONDS:
            self._told = self._clock()
            self.close()

    def close(self) -> None:
        """Tell how it stands."""
        print(self._tally.line(), file=self._file, flush=True)


class Bar:
    """A bar on a terminal.

    Args:
        tally: Counts.
        file: The terminal.
    """

    def __init__(self, tally: Tally, file: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        self._tally = tally
        told = TextColumn("{task.description}", markup=False)
        # Drawn when there is news: no thread of its own.
        self._bar = RichProgress(BarColumn(20), told, console=Console(file=file), auto_refresh=False)
        self._task = self._bar.add_task(tally.line(), total=tally.total)
        self._drawn = 0.0
        self._bar.start()

    def begin(self, already: int) -> None:
        """Count them, and draw."""
        self._tally.begin(already)
        self._draw()

    def advance(self, settled: int, failed: int, input_tokens: int, output_tokens: int) -> None:
        """Count them, and draw if the last time is not just past."""
        self._tally.advance(settled, failed, input_tokens, output_tokens)
        if time.monotonic() - self._drawn >= _DRAWN_SECONDS:
            self._draw()

    def close(self) -> None:
        """Draw a last time, and leave the terminal as it was."""
        self._draw()
        self._bar.stop()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        self._bar.update(self._task, completed=self._tally.done, description=self._tally.line(), refresh=True)


def progress_of(progress: bool | Progress | None, *, rows: Rows) -> Progress | None:
    """What is told of a job that is given ``progress``.

    Args:
        progress: ``True`` for a bar on standard error, or lines where that is no terminal; ``None`` for the bar alone,
            ``False`` for nothing; or something of your own.
        rows: The input, which is counted if anything is shown.
    """
    if not isinstance(progress, bool) and progress is not None:
        return progress
    is_terminal = sys.stderr.isatty()
    if progress is False or (progress is None and not is_terminal):
        return None
    tally = Tally(rows.total)
    return Bar(tally, sys.stderr) if is_terminal else Lines(tally, sys.stderr)


def shown_rate(speed: float) -> str:
    """A speed with the digits that tell something, however slow it is."""
    return f"{speed:,.0f}" if speed >= 100 else f"{speed:.1f}" if speed >= 1 else f"{speed:.2g}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"
