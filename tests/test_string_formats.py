from __future__ import annotations

import datetime
import ipaddress
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes_agent.string_formats import FORMATS

CASES: dict[str, tuple[list[str], list[str]]] = {
    "date": (
        ["2024-02-29", "2000-02-29", "0000-02-29"],
        ["2023-02-29", "1900-02-29", "2024-13-01", "2024-1-1", "2024-00-01", "\u0662024-01-01"],
    ),
    "time": (
        ["12:00:00Z", "12:00:00z", "12:00:00.5+01:00", "23:59:60Z", "00:59:60+01:00", "22:59:60-01:00"],
        ["12:00:00", "24:00:00Z", "12:60:00Z", "12:00:61Z", "10:00:60Z", "12:00:00-24:00", "12:00:00+01:60", "12:00Z"],
    ),
    "date-time": (
        ["2024-01-01T00:00:00Z", "2024-01-01t00:00:00z", "2024-01-01T00:00:00.123456789+05:30", "2016-12-31T23:59:60Z"],
        ["2024-01-01 00:00:00Z", "2024-01-01T00:00:00", "2024-02-30T00:00:00Z", "2024-01-01T", "2024-01-01"],
    ),
    "duration": (
        ["P1Y", "P1Y2M3DT4H5M6S", "PT36H", "P1W", "P1M", "PT1M"],
        ["P", "PT", "P1DT", "P1Y1W", "PT1.5S", "-P1D", "P1Y3D", "PT1H5S", "1D"],
    ),
    "email": (
        ["a@b.c", "a+b@c", "a.b@c-d.e", '"a b"@c.d', "a@[1.2.3.4]", "a@[IPv6:::1]"],
        [
            "a",
            "@b",
            "a@",
            "a..b@c",
            ".a@b",
            "a@-b.c",
            "a@b_c.d",
            "a b@c.d",
            "é@b.c",
            "a@[1.2.3]",
            "a@[IPv6:x]",
            "a@b.c.",
        ],
    ),
    "hostname": (
        ["a", "a.b-c.1", "xn--bcher-kva", "a" * 63],
        ["", "-a", "a-", "a_b", "a.", "a..b", "a" * 64, ".".join(["a" * 60] * 5), "é"],
    ),
    "ipv4": (["0.0.0.0", "255.255.255.255"], ["256.0.0.0", "01.2.3.4", "1.2.3", "1.2.3.4.5", "1.2.3.4 "]),
    "ipv6": (
        ["::", "::1", "1:2:3:4:5:6:7:8", "::ffff:1.2.3.4", "ABCD::"],
        ["", ":", "1::2::3", "12345::", "fe80::1%eth0", "1.2.3.4"],
    ),
    "uuid": (
        ["2EB8AA08-AA98-11EA-B4AA-73B441D16380"],
        ["2eb8aa08aa9811eab4aa73b441d16380", "2eb8aa08-aa98-11ea-b4aa-73b441d1638g"],
    ),
    "uri": (
        ["http://a.b/c?d#e", "urn:isbn:1", "mailto:a@b", "http://u:p@[::1]:80/", "file:///a", "a:", "http://a/%7E"],
        [
            "",
            "/x",
            "//a/b",
            "http://a b",
            "http://é",
            "http://a/%zz",
            "http://a/{x}",
            "http://[::g]/",
            "http://a/[x]",
            "1a:b",
            "http://a:b:c/",
        ],
    ),
    "uri-reference": (
        ["", "/x", "a/b", "//a/b", "?q", "#f", "a:b", "../c"],
        ["a b", "\\x", "é", "1a:b", "//[x]/", "a#b#c"],
    ),
    "json-pointer": (["", "/", "/a/0", "/a~0b~1c"], ["a", "/a~", "/a~2"]),
}


@pytest.mark.parametrize("name", FORMATS)
def test_format(name: str) -> None:
    valid, invalid = CASES[name]
    assert [text for text in valid if not FORMATS[name](text)] == []
    if name != "json-pointer":  # which may hold line breaks
        invalid = [*invalid, *(f"{text}\n" for text in valid)]
    assert [text for text in invalid if FORMATS[name](text)] == []


@settings(deadline=None)  # the first use imports or compiles
@given(st.datetimes(timezones=st.just(datetime.UTC)))
def test_every_aware_datetime_is_one(moment: datetime.datetime) -> None:
    assert FORMATS["date-time"](moment.isoformat())
    assert FORMATS["date"](moment.date().isoformat())
    assert FORMATS["time"](moment.timetz().isoformat())


@settings(deadline=None)  # the first use imports or compiles
@given(st.ip_addresses(v=4), st.ip_addresses(v=6), st.uuids(), st.emails())
def test_what_python_writes_is_valid(
    v4: ipaddress.IPv4Address, v6: ipaddress.IPv6Address, identity: uuid.UUID, email: str
) -> None:
    assert FORMATS["ipv4"](str(v4))
    assert FORMATS["ipv6"](str(v6))
    assert FORMATS["uuid"](str(identity))
    assert FORMATS["email"](email)


@settings(deadline=None)  # the first use imports or compiles
@given(st.sampled_from(sorted(FORMATS)), st.text(max_size=30))
def test_any_text_can_be_judged(name: str, text: str) -> None:
    assert FORMATS[name](text) in (True, False)
