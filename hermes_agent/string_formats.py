"""The string formats of JSON Schema that are checked, each as the standard it names defines it.

Formats that are not listed here are annotations and check nothing.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Callable
from ipaddress import AddressValueError, IPv6Address
from types import MappingProxyType

__all__ = ["FORMATS"]

_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_TIME = re.compile(r"([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.[0-9]+)?(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))")
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_BYTE}(?:\.{_BYTE}){{3}}")
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LOCAL = re.compile(rf'{_ATOM}(?:\.{_ATOM})*|"(?:[ !#-\[\]-~]|\\[ -~])*"')
_D = "[0-9]+"
_CLOCK = f"(?:{_D}H(?:{_D}M(?:{_D}S)?)?|{_D}M(?:{_D}S)?|{_D}S)"
_DAYS = f"(?:{_D}Y(?:{_D}M(?:{_D}D)?)?|{_D}M(?:{_D}D)?|{_D}D)"
_DURATION = re.compile(f"P(?:{_DAYS}(?:T{_CLOCK})?|T{_CLOCK}|{_D}W)")
_PCHAR = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
_USER = r"(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})*"
_NAME = (
    r"(?:\[([0-9A-Fa-f:.]+)\]|\[v[0-9A-Fa-f]+\.[A-Za-z0-9._~!$&'()*+,;=:-]+\]"
    r"|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)"
)
_TAIL = rf"(?:\?(?:{_PCHAR}|[/?])*)?(?:#(?:{_PCHAR}|[/?])*)?"
_AUTHORITY = rf"//(?:{_USER}@)?{_NAME}(?::[0-9]*)?(?:/{_PCHAR}*)*"
_SEGMENTS = rf"{_PCHAR}+(?:/{_PCHAR}*)*"
_URI = re.compile(rf"[A-Za-z][A-Za-z0-9+.-]*:(?:{_AUTHORITY}|/(?:{_SEGMENTS})?|{_SEGMENTS}|){_TAIL}")
_FIRST = r"(?:[A-Za-z0-9._~!$&'()*+,;=@-]|%[0-9A-Fa-f]{2})+"  # a colon here would make it a scheme
_RELATIVE = re.compile(rf"(?:{_AUTHORITY}|/(?:{_SEGMENTS})?|{_FIRST}(?:/{_PCHAR}*)*|){_TAIL}")
_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)*")


def _is_date(text: str) -> bool:
    """RFC 3339, full-date."""
    match = _DATE.fullmatch(text)
    if match is None:
        return False
    year, month, day = map(int, match.groups())
    return 1 <= month <= 12 and 1 <= day <= monthrange(year or 400, month)[1]  # year 0 is a leap year, as 400 is


def _is_time(text: str) -> bool:
    """RFC 3339, full-time: the offset is required, a leap second ends a UTC day."""
    match = _TIME.fullmatch(text)
    if match is None:
        return False
    hour, minute, second = (int(part) for part in match.group(1, 2, 3))
    ahead, behind = int(match[5] or 0), int(match[6] or 0)
    if hour > 23 or minute > 59 or second > 60 or ahead > 23 or behind > 59:
        return False
    offset = (ahead * 60 + behind) * (-1 if match[4] == "-" else 1)
    return second < 60 or (hour * 60 + minute - offset) % 1440 == 1439


def _is_date_time(text: str) -> bool:
    """RFC 3339, date-time; its ``T`` may be written small."""
    return len(text) > 11 and text[10] in "Tt" and _is_date(text[:10]) and _is_time(text[11:])


def _is_host(text: str) -> bool:
    """RFC 1123, section 2.1."""
    return len(text) <= 253 and _HOST.fullmatch(text) is not None


def _is_ipv6(text: str) -> bool:
    """RFC 4291, section 2.2; a zone is no part of the address."""
    if "%" in text:
        return False
    try:
        IPv6Address(text)
    except AddressValueError:
        return False
    return True


def _is_email(text: str) -> bool:
    """RFC 5321, section 4.1.2, Mailbox."""
    local, at, domain = text.rpartition("@")
    if not at or not _LOCAL.fullmatch(local):
        return False
    if domain.startswith("[") and domain.endswith("]"):
        inner = domain[1:-1]
        return _is_ipv6(inner[5:]) if inner.startswith("IPv6:") else _IPV4.fullmatch(inner) is not None
    return _is_host(domain)


def _is_uri(text: str) -> bool:
    """RFC 3986, URI: with a scheme."""
    return _has_good_host(_URI.fullmatch(text))


def _is_uri_reference(text: str) -> bool:
    """RFC 3986, URI-reference: a URI, or relative to one."""
    return _is_uri(text) or _has_good_host(_RELATIVE.fullmatch(text))


def _has_good_host(match: re.Match[str] | None) -> bool:
    return match is not None and (match[1] is None or _is_ipv6(match[1]))


def _matches(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: pattern.fullmatch(text) is not None


FORMATS: MappingProxyType[str, Callable[[str], bool]] = MappingProxyType(
    {
        "date": _is_date,
        "time": _is_time,
        "date-time": _is_date_time,
        "duration": _matches(_DURATION),  # RFC 3339, appendix A
        "email": _is_email,
        "hostname": _is_host,
        "ipv4": _matches(_IPV4),
        "ipv6": _is_ipv6,
        "uuid": _matches(_UUID),
        "uri": _is_uri,
        "uri-reference": _is_uri_reference,
        "json-pointer": _matches(_POINTER),  # RFC 6901
    }
)
