from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from hermes_agent.extract import JobSummary
from hermes_agent.extract.inputs import read_rows
from hermes_agent.extract.progress import Bar, Lines, Progress, Tally, progress_of, shown_rate
from hermes_agent.limits import Usage


class Clock:
    """Time that passes when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_tally_says_how_fast_rows_come_and_how_long_the_rest_takes() -> None:
    clock = Clock()
    tally = Tally(1000, clock)
    assert tally.line() == "0/1,000 rows · 0 failed"
    tally.begin(400)
    assert tally.line() == "400/1,000 rows · 0 failed"
    clock.now = 10.0
    tally.advance(100, 3, 2000, 500)
    assert tally.line() == "500/1,000 rows · 10.0 rows/s · 250 tokens/s · 3 failed · 50 s left"
    clock.now = 12.0
    tally.advance(500, 0, 0, 0)
    assert tally.line() == "1,000/1,000 rows · 50.0 rows/s · 208 tokens/s · 3 failed"


def test_what_is_long_past_does_not_count_for_the_speed() -> None:
    clock = Clock()
    tally = Tally(None, clock)
    for second in range(200):
        clock.now = float(second)
        tally.advance(1000 if second < 100 else 2, 0, 0, 0)
    assert tally.line().split(" · ")[1] in ("2.0 rows/s", "2.1 rows/s")


@pytest.mark.parametrize(
    ("left", "said"), [(45, "45 s left"), (600, "10 min left"), (7200, "2.0 h left"), (100_000, "27.8 h left")]
)
def test_time_left(left: int, said: str) -> None:
    clock = Clock()
    tally = Tally(left + 1, clock)
    clock.now = 1.0
    tally.advance(1, 0, 0, 0)
    assert tally.line().endswith(said)


@pytest.mark.parametrize(("speed", "said"), [(12345.6, "12,346"), (16.44, "16.4"), (1, "1.0"), (0.0288, "0.029")])
def test_a_speed_tells_something_however_slow(speed: float, said: str) -> None:
    assert shown_rate(speed) == said
    summary = JobSummary(Path("out.jsonl"), 1, 0, 0, 1 / speed, Usage())
    assert f"({said} rows/s)" in str(summary)


def test_lines_come_every_ten_seconds_and_at_the_end() -> None:
    clock, out = Clock(), io.StringIO()
    lines: Progress = Lines(Tally(None, clock), out, clock)
    lines.begin(0)
    for second in range(25):
        clock.now = float(second)
        lines.advance(1, 0, 0, 0)
    lines.close()
    assert [line.split(" · ")[0] for line in out.getvalue().splitlines()] == ["11 rows", "21 rows", "25 rows"]


def test_a_bar_shows_the_tally_and_ends_on_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    out = Terminal()
    bar: Progress = Bar(Tally(10), out)
    bar.begin(4)
    bar.advance(6, 1, 100, 10)
    bar.close()
    assert "4/10 rows" in out.getvalue()
    last = out.getvalue().rstrip("\x1b[?25h\n").splitlines()[-1]
    assert "10/10 rows" in last
    assert "1 failed" in last


def test_what_is_shown_where(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = read_rows(["a", "b"])
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert progress_of(None, rows=rows) is None
    assert progress_of(False, rows=rows) is None
    assert isinstance(progress_of(True, rows=rows), Lines)
    mine = Lines(Tally(None), io.StringIO())
    assert progress_of(mine, rows=rows) is mine
    monkeypatch.setattr(sys, "stderr", Terminal())
    for choice in (None, True):
        bar = progress_of(choice, rows=rows)
        assert isinstance(bar, Bar)
        bar.close()
