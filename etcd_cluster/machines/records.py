"""Defines DNS records as a platform makes them in a zone of the caller's. Nothing here knows what the names are for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast, runtime_checkable

import pulumi

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.names import ip_address

RecordType = Literal["A", "AAAA", "CNAME", "SRV"]


@dataclass(frozen=True)
class AddressRecord:
    """A name for the addresses of some members."""

    name: str
    """In full, without a dot at its end, in lower case."""
    members: Sequence[str]
    """Names of the members."""
    ttl_seconds: int
    """How long a resolver may keep it."""


@dataclass(frozen=True)
class ServiceRecord:
    """An SRV record: where a service of a name is."""

    name: str
    """In full, such as _etcd-client-ssl._tcp.etcd.example.com."""
    targets: Sequence[tuple[str, int]]
    """Name and port of each member, all of the same priority and weight."""
    ttl_seconds: int
    """How long a resolver may keep it."""

    @property
    def values(self) -> list[str]:
        """The values as zone files have them: priority, weight, port and name, with a dot at its end."""
        return [f"0 0 {port} {name}." for name, port in self.targets]


@runtime_checkable
class RecordingMachines(Protocol):
    """A platform that makes DNS records in a zone, if one was given."""

    @property
    def zone_key(self) -> str | None:
        """Key of the zone in stack config; None if no zone was given, so that the records are the caller's own."""
        ...

    def publish(
        self,
        cluster: str,
        addresses: Mapping[str, pulumi.Input[str]],
        address_records: Sequence[AddressRecord],
        service_records: Sequence[ServiceRecord],
        opts: pulumi.ResourceOptions,
    ) -> None:
        """Registers the records.

        Args:
            cluster: The component's name.
            addresses: Member name -> IPv4 address.
            address_records: Names of members.
            service_records: SRV records.
            opts: Pulumi's resource options of every record.
        """
        ...


def documents(
    addresses: Mapping[str, str], address_records: Sequence[AddressRecord], service_records: Sequence[ServiceRecord]
) -> list[dict[str, Any]]:
    """Returns every record as the stack exports it: name, type, ttl and values, in the order of their names.

    A member whose address is a DNS name has a CNAME record; a name for several members lists their IP addresses alone.
    """
    found = [_document(each.name, "SRV", each.ttl_seconds, each.values) for each in service_records]
    for record in address_records:
        by_type: dict[RecordType, list[str]] = {}
        for member in record.members:
            address = addresses[member]
            if address != record.name:
                kind: RecordType = {4: "A", 6: "AAAA"}[ip.version] if (ip := ip_address(address)) else "CNAME"  # type: ignore[assignment]
                by_type.setdefault(kind, []).append(f"{address}." if kind == "CNAME" else address)
        if len(record.members) > 1:
            by_type.pop("CNAME", None)
        found += [_document(record.name, kind, record.ttl_seconds, by_type[kind]) for kind in by_type]
    return sorted(found, key=lambda each: (each["name"].split(".")[::-1], each["type"]))


def _document(name: str, kind: RecordType, ttl_seconds: int, values: Sequence[str]) -> dict[str, Any]:
    return {"name": name, "type": kind, "ttl": ttl_seconds, "values": list(values)}


def in_zone(key: str, names: Sequence[str]) -> Callable[[Sequence[Any]], str]:
    """Returns a function of zone and zone's name that returns the zone, once every name is known to be in it.

    The providers would make a name outside of the zone one inside of it: etcd.example.com.example.org. Mocks give no
    zone's name.
    """

    def checked(known: Sequence[Any]) -> str:
        zone, found = known
        domain = cast("str | None", found)
        if domain is not None:
            domain = domain.rstrip(".").lower()
            for name in names:
                if name != domain and not name.endswith(f".{domain}"):
                    raise ConfigurationError(
                        key, name, f"not in the zone, which is {domain}", "give the zone of that name"
                    )
        return str(zone)

    return checked
