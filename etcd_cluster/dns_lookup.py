"""Looks up names that are the user's to make, and says which of them do not lead to their members."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from etcd_cluster.errors import Explanation

LOOKUP_SECONDS = 10.0
"""For all names together: nobody waits for a resolver that does not answer."""

Addresses = frozenset[IPv4Address | IPv6Address]
NONE: Addresses = frozenset()


async def wrong_names(records: Sequence[Mapping[str, Any]]) -> Explanation | None:
    """Returns which names lead elsewhere, or nowhere, as this machine resolves them; None if all are right.

    SRV records are not asked for: no resolver of an operating system does.

    Args:
        records: As `documents` of machines/records.py returns them.
    """
    targets: dict[str, list[str]] = {}
    for record in records:
        if record["type"] != "SRV":
            targets.setdefault(record["name"], []).extend(value.rstrip(".") for value in record["values"])
    found = await _look_up({*targets, *(value for values in targets.values() for value in values)})
    return compared(targets, found)


def compared(targets: Mapping[str, Sequence[str]], found: Mapping[str, Addresses]) -> Explanation | None:
    """Returns which names have other addresses than they are to have; None for none.

    Args:
        targets: Name -> addresses, or names of hosts.
        found: Each of all of those -> what it resolves to; an address is its own.
    """
    expected = {name: frozenset[Any]().union(*(found[value] for value in values)) for name, values in targets.items()}
    members = frozenset[Any]().union(*expected.values())
    wrong = [
        f"{name} ({_text(found[name])}, not {', '.join(targets[name])})"
        for name, addresses in expected.items()
        if not found[name] or addresses - found[name] or found[name] - members
    ]
    if not wrong:
        return None
    return Explanation(
        f"dns: as this machine resolves them, names do not lead to their members: {', '.join(wrong)}",
        "the addresses of the members, for clients that use these names",
        "make the records that `etcd-cluster dns` prints (docs/names.md)",
    )


def _text(addresses: Addresses) -> str:
    return ", ".join(sorted(map(str, addresses))) or "no address"


async def _look_up(names: set[str]) -> Mapping[str, Addresses]:
    """Returns the addresses of each name; none for one that has none, or of which there is no answer in time."""
    lookups = {name: asyncio.ensure_future(addresses_of(name)) for name in names}
    await asyncio.wait(lookups.values(), timeout=LOOKUP_SECONDS)
    return {name: lookup.result() if lookup.done() else NONE for name, lookup in lookups.items()}


async def addresses_of(name: str) -> Addresses:
    """Returns what a name resolves to here; none if there is no such name, or no answer."""
    try:
        answers = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return NONE
    return frozenset(ip_address(str(address[0]).partition("%")[0]) for *_, address in answers)
