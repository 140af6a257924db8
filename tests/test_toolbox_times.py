from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from hermes_agent.toolbox import Clock, clock

NOON = Clock(lambda: datetime(2026, 11, 23, 12, 0, 5, 999, tzinfo=UTC))


@pytest.mark.parametrize(
    ("zone", "says"),
    [
        ("UTC", "2026-11-23T12:00:05+00:00 Monday"),
        ("Z", "2026-11-23T12:00:05+00:00 Monday"),
        ("Europe/Paris", "2026-11-23T13:00:05+01:00 Monday"),
        ("europe/paris", "2026-11-23T13:00:05+01:00 Monday"),
        ("Paris", "2026-11-23T13:00:05+01:00 Monday"),
        ("New York", "2026-11-23T07:00:05-05:00 Monday"),
        ("Pacific/Kiritimati", "2026-11-24T02:00:05+14:00 Tuesday"),
        ("Asia/Kolkata", "2026-11-23T17:30:05+05:30 Monday"),
    ],
)
def test_the_time_in_a_zone(zone: str, says: str) -> None:
    assert NOON.clock(zone) == says


@pytest.mark.parametrize(
    ("zone", "says"),
    [
        ("Europe/Pariss", "did you mean 'Europe/Paris'"),
        ("Berln", "did you mean 'Europe/Berlin'"),
        ("Eastern", "did you mean 'Canada/Eastern' or 'US/Eastern'?"),
        ("Middle-earth", "unknown time zone 'Middle-earth'"),
        ("Europe", "unknown time zone 'Europe'"),
        ("../../../etc/passwd", "unknown time zone '../../../etc/passwd'"),
        ("/etc/localtime", "unknown time zone '/etc/localtime'"),
        ("UTC\0", "unknown time zone 'UTC\\x00'"),
        ("x" * 100_000, "unknown time zone"),
        ("\ud800", "unknown time zone '\\ud800'"),
    ],
)
def test_an_unknown_zone_is_an_error_that_names_what_is_near(zone: str, says: str) -> None:
    with pytest.raises(ValueError, match="unknown time zone") as caught:
        NOON.clock(zone)
    assert says in str(caught.value)
    assert len(str(caught.value)) < 400


def test_without_zone_files_utc_still_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hermes_agent.toolbox.times._zones", dict)
    assert NOON.clock() == "2026-11-23T12:00:05+00:00 Monday"
    with pytest.raises(ValueError, match="pip install tzdata"):
        NOON.clock("Europe/Paris")


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="has no time zone"):
        Clock(lambda: datetime(2026, 1, 1)).clock()


def test_the_ready_made_clock_tells_the_time_now() -> None:
    told = datetime.fromisoformat(clock("Asia/Tokyo").split()[0])
    assert told.utcoffset() == timedelta(hours=9)
    assert abs(told - datetime.now(UTC)) < timedelta(minutes=1)
