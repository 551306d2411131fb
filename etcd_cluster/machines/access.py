"""Defines who may reach a cloud machine's ports: named groups and ranges of addresses, never the world."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Hashable, Mapping, Sequence, Sized
from typing import Annotated, TypeVar

import pulumi

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.machines.machine import when_known

NamedRanges = Sequence[str] | Mapping[str, pulumi.Input[str]]
"""Ranges; or ranges by names of the caller's, for those that are known only later."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
T = TypeVar("T")

PRIVATE = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
)
MOST_PUBLIC = {4: 2**24, 6: 2**112}
"""Public addresses that all ranges of a list may hold: as many as one /8 has, and one /16 of IPv6."""


def parse_range(key: str, text: str) -> Network:
    """Returns a range of addresses; raises `ConfigurationError` for a text that is none, or no machine's."""
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError:
        interface = None
    if interface is None or interface.is_multicast or getattr(interface, "ipv4_mapped", None):
        raise ConfigurationError(key, text, "not a range of addresses of machines", "write it like 10.0.0.0/16")
    if interface.ip != interface.network[0]:
        raise ConfigurationError(
            key, text, "it has host bits set", "write the range with its first address, like 10.0.0.0/16"
        )
    return interface.network


def require_ipv4(key: str, text: str) -> None:
    """Raises `ConfigurationError` for a text that is no IPv4 address."""
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        raise ConfigurationError(key, text, "not an IPv4 address", "write it like 10.0.0.5") from None


Ipv4Address = Annotated[str, require_ipv4]


def require_private(key: str, ranges: Sequence[pulumi.Input[str]] | Mapping[str, pulumi.Input[str]]) -> None:
    """Refuses ranges that are malformed or listed twice, or that together hold a large part of the world.

    A range that is known only later is checked by itself, with `range_when_known`.
    """
    given = list(ranges.values() if isinstance(ranges, Mapping) else ranges)
    known = [each for each in given if isinstance(each, str)]
    networks = {text: parse_range(key, text) for text in known}
    require_distinct(key, known, networks.get)
    public = {text: network for text, network in networks.items() if not _is_private(network)}
    for text, network in public.items():
        if network.num_addresses > MOST_PUBLIC[network.version]:
            raise ConfigurationError(
                key, text, "the whole world, or much of it", "name the ranges or groups that need it"
            )
    for version, most in MOST_PUBLIC.items():
        if sum(network.num_addresses for network in public.values() if network.version == version) > most:
            raise ConfigurationError(
                key,
                known,
                "together they are the whole world, or much of it",
                "name the ranges or groups that need it",
            )


def require_unused_access(switch: str, given: Mapping[str, Sized], fix: str) -> None:
    """Refuses what lets somebody in by rules of ours where `switch` says that none are made."""
    for key, value in given.items():
        if value:
            raise ConfigurationError(
                key,
                f"{len(value)} listed",
                f"nothing uses it, since {switch} is false",
                f"{fix}, or leave {switch} out",
            )


def range_when_known(key: str, value: pulumi.Input[str]) -> pulumi.Input[str]:
    """Returns a range, checked: at once, or as soon as it is known."""
    return when_known(key, value, _private)


def _private(key: str, text: str) -> str:
    require_private(key, [text])
    return text


def _is_private(network: Network) -> bool:
    return any(network[0] in private and network[-1] in private for private in PRIVATE)


def require_distinct(key: str, values: Sequence[T], identity: Callable[[T], Hashable] = str) -> None:
    """Raises `ConfigurationError` for a value that is listed twice, in whatever spelling. Outputs are left out."""
    known = [value for value in values if isinstance(value, str)]
    if len({identity(value) for value in known}) != len(known):
        raise ConfigurationError(key, list(known), "one is listed twice", "list each once")


def require_members(key: str, given: Mapping[str, pulumi.Input[str]], names: Sequence[str]) -> None:
    """Raises `ConfigurationError` if something is given for a member that does not exist, or one thing for two."""
    for name in given:
        if name not in names:
            raise ConfigurationError(
                key, name, "no such member", f"choose one of {', '.join(names)}, or remove the entry"
            )
    require_distinct(key, list(given.values()))
