"""Which internet addresses a fetch may go to: only those the whole internet can reach."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

__all__ = ["is_address", "normal_host", "why_refused"]

# Written out, not left to ``ipaddress.is_global``, whose tables differ between Python versions.
# Sources: the IANA special-purpose address registries, and the metadata addresses of the large clouds.
_NOT_PUBLIC_V4: Final = tuple(
    (IPv4Network(network), reason)
    for network, reason in (
        ("0.0.0.0/8", "means this host"),
        ("10.0.0.0/8", "is private"),
        ("100.64.0.0/10", "is inside a provider's network (CGNAT)"),
        ("127.0.0.0/8", "is loopback"),
        ("168.63.129.16/32", "is a cloud's metadata service"),
        ("169.254.0.0/16", "is link-local, where clouds keep their metadata service"),
        ("172.16.0.0/12", "is private"),
        ("192.0.0.0/24", "is reserved"),
        ("192.0.2.0/24", "is reserved for documentation"),
        ("192.31.196.0/24", "is reserved"),
        ("192.52.193.0/24", "is reserved"),
        ("192.88.99.0/24", "is reserved"),
        ("192.168.0.0/16", "is private"),
        ("192.175.48.0/24", "is reserved"),
        ("198.18.0.0/15", "is reserved for benchmarks"),
        ("198.51.100.0/24", "is reserved for documentation"),
        ("203.0.113.0/24", "is reserved for documentation"),
        ("224.0.0.0/4", "is multicast"),
        ("240.0.0.0/4", "is reserved or broadcast"),
    )
)
# Everything public in IPv6 is in 2000::/3, less these.
_GLOBAL_V6: Final = IPv6Network("2000::/3")
_NOT_PUBLIC_V6: Final = tuple(
    (IPv6Network(network), reason)
    for network, reason in (
        ("2001::/23", "is reserved, or tunnels to another address (Teredo)"),
        ("2001:db8::/32", "is reserved for documentation"),
        ("2002::/16", "tunnels to an IPv4 address (6to4)"),
        ("2620:4f:8000::/48", "is reserved"),
        ("3fff::/20", "is reserved for documentation"),
    )
)
_OUTSIDE_V6: Final = tuple(
    (IPv6Network(network), reason)
    for network, reason in (
        ("::/128", "means this host"),
        ("::1/128", "is loopback"),
        ("::ffff:0:0/96", "hides an IPv4 address"),
        ("64:ff9b::/96", "translates to an IPv4 address (NAT64)"),
        ("64:ff9b:1::/48", "translates to an IPv4 address (NAT64)"),
        ("fc00::/7", "is private"),
        ("fe80::/10", "is link-local"),
        ("fec0::/10", "is private"),
        ("ff00::/8", "is multicast"),
    )
)
_NAME: Final = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}")
_ENDS_IN_NUMBER: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)", re.DOTALL)


def why_refused(address: str) -> str | None:
    """Say why an address is not public, or ``None`` when it is.

    Example:
        >>> why_refused("169.254.169.254")
        'is link-local, where clouds keep their metadata service'
        >>> why_refused("::ffff:127.0.0.1")
        'hides an IPv4 address'
        >>> why_refused("1.1.1.1") is None
        True

    Args:
        address: An IPv4 or IPv6 address in its usual writing.

    Returns:
        The end of a sentence that starts with the address; ``None`` for a public address.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return "is not an internet address"
    if isinstance(parsed, IPv4Address):
        return next((reason for network, reason in _NOT_PUBLIC_V4 if parsed in network), None)
    return _why_refused_v6(parsed)


def _why_refused_v6(address: IPv6Address) -> str | None:
    if address.scope_id is not None:
        return "belongs to one network link"
    if address not in _GLOBAL_V6:
        return next((reason for network, reason in _OUTSIDE_V6 if address in network), "is reserved")
    return next((reason for network, reason in _NOT_PUBLIC_V6 if address in network), None)


def is_address(host: str) -> bool:
    """Whether a host, as ``normal_host`` writes it, is an address and no name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def normal_host(host: str) -> str:
    """Write a host name or address in one way: lower case, no trailing dot, addresses in full.

    Raises:
        ValueError: The host is empty, no name at all, or a disguised address such as ``2130706433``, ``0x7f.1`` or
            ``127.1``, which browsers and C libraries read as an IPv4 address.
    """
    name = host.lower().removesuffix(".")
    if not name:
        raise ValueError("it names no host")
    if is_address(name):
        return ip_address(name).compressed
    if ":" in name or _ENDS_IN_NUMBER.fullmatch(name):
        raise ValueError(f"{host!r} is a disguised address; write all four numbers, as in 1.1.1.1")
    if len(name) > 253 or not _NAME.fullmatch(name):
        raise ValueError(f"{host!r} is not a host name")
    return name
