"""The clock: the time now, in any zone of the IANA database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import cache
from typing import Final

__all__ = ["Clock", "clock"]

MAX_CHARS: Final = 100
_UTC_NAMES: Final = frozenset({"", "utc", "gmt", "z", "zulu", "etc/utc"})


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Clock:
    """A clock whose time comes from where you say, for tests and for replays.

    Example:
        >>> from datetime import UTC, datetime
        >>> Clock(lambda: datetime(2026, 11, 23, 12, 0, tzinfo=UTC)).clock("Europe/Paris")
        '2026-11-23T13:00:00+01:00 Monday'

    Attributes:
        now: Gives the time now, with its zone.
    """

    now: Callable[[], datetime] = _now

    def clock(self, timezone: str = "UTC") -> str:
        """Tell the current date, time and weekday.

        Args:
            timezone: IANA name of a time zone, such as "UTC", "Europe/Paris" or "Asia/Tokyo".
        """
        moment = self.now()
        if moment.tzinfo is None:
            raise ValueError(f"the clock's time {moment!r} has no time zone; give it one, such as tzinfo=UTC")
        local = moment.astimezone(_zone(timezone))
        return f"{local.isoformat(timespec='seconds')} {_WEEKDAYS[local.weekday()]}"


def clock(timezone: str = "UTC") -> str:
    """Tell the current date, time and weekday.

    Args:
        timezone: IANA name of a time zone, such as "UTC", "Europe/Paris" or "Asia/Tokyo".
    """
    return _SYSTEM.clock(timezone)


_SYSTEM: Final = Clock()
# Not strftime("%A"), which speaks the language of the process.
_WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def _zone(name: str) -> tzinfo:
    """The zone of an IANA name, or of a city that only one zone is named after.

    Raises:
        ValueError: No zone, or more than one, goes by that name.
    """
    from zoneinfo import ZoneInfo

    wanted = name[:MAX_CHARS].strip().replace(" ", "_").casefold()
    if wanted in _UTC_NAMES:
        return UTC  # needs no zone files
    zones = _zones()
    if not zones:
        raise ValueError(f"cannot look up {name!r}: this system has no time zone files; pip install tzdata")
    if wanted in zones:
        return ZoneInfo(zones[wanted])
    cities = sorted(key for folded, key in zones.items() if folded.rpartition("/")[2] == wanted)
    if len(cities) == 1:
        return ZoneInfo(cities[0])
    near = cities or _near(wanted, zones)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "use an IANA name such as 'Europe/Paris'"
    raise ValueError(f"unknown time zone {name[:MAX_CHARS]!r}: {hint}")


def _near(wanted: str, zones: dict[str, str]) -> list[str]:
    from difflib import get_close_matches

    by_city = {folded.rpartition("/")[2]: key for folded, key in zones.items()}
    found = [zones[match] for match in get_close_matches(wanted, zones, n=3)]
    found += [by_city[match] for match in get_close_matches(wanted.rpartition("/")[2], by_city, n=3)]
    return list(dict.fromkeys(found))[:3]


@cache
def _zones() -> dict[str, str]:
    """Every IANA name, by its case-folded form; only names from this list ever reach the file system."""
    from zoneinfo import available_timezones

    return {key.casefold(): key for key in sorted(available_timezones())}
