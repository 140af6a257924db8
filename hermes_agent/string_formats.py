"""The string formats of JSON Schema that are checked, each as the standard it names defines it.

Formats that are not listed here are annotations and check nothing.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Callable
from ipaddress import AddressValueError, IPv6Address
from types import MappingProxyType

__all__ = ["DURATION", "FORMATS", "HOST", "IPV4", "JSON_POINTER", "LOCAL_PART", "UUID", "uri_patterns"]

_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
HOST = rf"{_LABEL}(?:\.{_LABEL})*"
"""RFC 1123, section 2.1, but for the length of the whole."""

_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
IPV4 = rf"{_BYTE}(?:\.{_BYTE}){{3}}"
UUID = "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
LOCAL_PART = rf'(?:{_ATOM}(?:\.{_ATOM})*|"(?:[ !#-\[\]-~]|\\[ -~])*")'
"""RFC 5321, section 4.1.2: what stands before the ``@`` of an address."""

_N = "[0-9]+"
_CLOCK = f"(?:{_N}H(?:{_N}M(?:{_N}S)?)?|{_N}M(?:{_N}S)?|{_N}S)"
_DAYS = f"(?:{_N}Y(?:{_N}M(?:{_N}D)?)?|{_N}M(?:{_N}D)?|{_N}D)"
DURATION = f"P(?:{_DAYS}(?:T{_CLOCK})?|T{_CLOCK}|{_N}W)"
"""RFC 3339, appendix A."""

JSON_POINTER = "(?:/(?:[^~/]|~[01])*)*"
"""RFC 6901."""


def uri_patterns(ipv6: str) -> tuple[str, str]:
    """Regular expressions for a URI and for a reference relative to one, RFC 3986.

    Args:
        ipv6: The pattern of an IPv6 address that names the host, without its brackets.
    """
    char = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
    user = r"(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})*"
    later_address = r"v[0-9A-Fa-f]+\.[A-Za-z0-9._~!$&'()*+,;=:-]+"
    name = r"(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*"
    host = rf"(?:\[{ipv6}\]|\[{later_address}\]|{name})"
    authority = rf"//(?:{user}@)?{host}(?::[0-9]*)?(?:/{char}*)*"
    segments = rf"{char}+(?:/{char}*)*"
    first = r"(?:[A-Za-z0-9._~!$&'()*+,;=@-]|%[0-9A-Fa-f]{2})+"  # a colon here would make it a scheme
    tail = rf"(?:\?(?:{char}|[/?])*)?(?:#(?:{char}|[/?])*)?"
    uri = rf"[A-Za-z][A-Za-z0-9+.-]*:(?:{authority}|/(?:{segments})?|{segments}|){tail}"
    relative = rf"(?:{authority}|/(?:{segments})?|{first}(?:/{char}*)*|){tail}"
    return uri, relative


_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_TIME = re.compile(r"([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.[0-9]+)?(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))")
_HOST, _IPV4, _LOCAL_PART = re.compile(HOST), re.compile(IPV4), re.compile(LOCAL_PART)
_URI, _RELATIVE = map(re.compile, uri_patterns("([0-9A-Fa-f:.]+)"))


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
    if not at or not _LOCAL_PART.fullmatch(local):
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


def _matches(pattern: str) -> Callable[[str], bool]:
    whole = re.compile(pattern).fullmatch
    return lambda text: whole(text) is not None


FORMATS: MappingProxyType[str, Callable[[str], bool]] = MappingProxyType(
    {
        "date": _is_date,
        "time": _is_time,
        "date-time": _is_date_time,
        "duration": _matches(DURATION),
        "email": _is_email,
        "hostname": _is_host,
        "ipv4": _matches(IPV4),
        "ipv6": _is_ipv6,
        "uuid": _matches(UUID),
        "uri": _is_uri,
        "uri-reference": _is_uri_reference,
        "json-pointer": _matches(JSON_POINTER),
    }
)
