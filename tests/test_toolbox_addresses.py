from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_agent.toolbox.addresses import normal_host, why_refused


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.255",
        "168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1",
        "192.168.0.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1",
        "255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:127.0.0.1",
        "64:ff9b::10.0.0.1", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "5f00::1",
        "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "2606:4700::1%1", "fec0::1", "ff02::1", "4000::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert why_refused(address)


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1", "8.8.8.8", "93.184.215.14", "100.63.255.255", "172.32.0.1", "192.0.1.1", "223.255.255.255",
        "2606:4700:4700::1111", "2a00:1450::1", "2001:4860:4860::8888",
    ],
)  # fmt: skip
def test_addresses_that_are_public(address: str) -> None:
    assert why_refused(address) is None


@given(st.ip_addresses(v=4) | st.ip_addresses(v=6))
def test_whatever_python_calls_private_is_refused(address: IPv4Address | IPv6Address) -> None:
    if not address.is_global or address.is_multicast or address.is_reserved:
        assert why_refused(str(address)) is not None


@given(st.ip_addresses(v=4))
def test_no_ipv4_address_hides_in_an_ipv6_one(address: IPv4Address) -> None:
    number = int(address)
    for hidden in (number, 0xFFFF << 32 | number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80):
        assert why_refused(str(IPv6Address(hidden))) is not None


@given(st.text(max_size=30) | st.from_regex(r"[0-9a-fx.:]{1,20}"))
def test_a_normal_host_stays_as_it_is(text: str) -> None:
    try:
        host = normal_host(text)
    except ValueError:
        return
    assert normal_host(host) == host
    assert host.isascii()
    if host[-1].isdigit() and host.rpartition(".")[2].isdigit():
        ip_address(host)  # what a C library would read as an address is written as one


def test_what_is_no_address_is_refused() -> None:
    assert why_refused("localhost") == "is not an internet address"
