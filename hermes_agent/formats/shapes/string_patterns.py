r"""String formats as regular expressions that the engine reads: no lookaround, no backreference.

They allow what `hermes_agent.string_formats` allows, which checks values afterwards, but for two things: a leap second
is written in UTC only, and that a host name has at most 253 characters is left to the check where it is part of an
address. Only what the check does by arithmetic, dates, times and IPv6, is spelled out here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from hermes_agent.string_formats import DURATION, HOST, IPV4, JSON_POINTER, LOCAL_PART, UUID, uri_patterns

__all__ = ["PATTERNS"]

_LEAP_CENTURY = "(?:[02468][048]|[13579][26])00"
_LEAP_YEAR = f"(?:[0-9][0-9](?:0[48]|[2468][048]|[13579][26])|{_LEAP_CENTURY})"
_DATE = (
    "(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    f"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP_YEAR}-02-29)"
)
_HOUR, _MINUTE = "(?:[01][0-9]|2[0-3])", "[0-5][0-9]"
_FRACTION = r"(?:\.[0-9]+)?"
_TIME = (
    rf"(?:{_HOUR}:{_MINUTE}:[0-5][0-9]{_FRACTION}(?:[Zz]|[+-]{_HOUR}:{_MINUTE})"
    rf"|23:59:60{_FRACTION}(?:[Zz]|[+-]00:00))"
)

_H16 = "[0-9A-Fa-f]{1,4}"
_LAST_32 = f"(?:{_H16}:{_H16}|{IPV4})"


def _ipv6() -> str:
    """RFC 3986, section 3.2.2: up to eight groups, of which one run may be left out."""
    forms = [f"(?:{_H16}:){{6}}{_LAST_32}"]
    for before in range(8):
        head = f"(?:(?:{_H16}:){{0,{before - 1}}}{_H16})?" if before else ""
        after = 5 - before  # groups between "::" and the last 32 bits
        if after >= 0:
            forms.append(f"{head}::(?:{_H16}:){{{0},{after}}}{_LAST_32}")
        if before < 7:
            forms.append(f"{head}::{_H16}")
        forms.append(f"{head}::")
    return f"(?:{'|'.join(forms)})"


_IPV6 = _ipv6()
_URI, _RELATIVE = uri_patterns(_IPV6)

PATTERNS: Mapping[str, str] = MappingProxyType(
    {
        name: f"^(?:{pattern})$"
        for name, pattern in {
            "date": _DATE,
            "time": _TIME,
            "date-time": f"{_DATE}[Tt]{_TIME}",
            "duration": DURATION,
            "email": rf"{LOCAL_PART}@(?:{HOST}|\[{IPV4}\]|\[IPv6:{_IPV6}\])",
            "hostname": HOST,
            "ipv4": IPV4,
            "ipv6": _IPV6,
            "uuid": UUID,
            "uri": _URI,
            "uri-reference": f"(?:{_URI}|{_RELATIVE})",
            "json-pointer": JSON_POINTER,
        }.items()
    }
)
"""Format → pattern for the whole string."""
