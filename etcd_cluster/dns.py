"""Defines the DNS names of a cluster and its members: arguments, checks, and the records that make them work. Pure.

Members themselves use addresses alone (docs/decisions/0008-names-are-for-clients.md). Who makes the records is the
platform's matter: machines/records.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.machines.records import AddressRecord, ServiceRecord
from etcd_cluster.names import HOST_LABEL, LONGEST_DNS_NAME, DnsName, require_dns_name
from etcd_cluster.typed import Between

EndpointsBy = Literal["address", "name"]
MOST_SECONDS = 86_400
ALL = "all members"
"""Whom a name of the cluster stands for; no member's name has a space."""


@dataclass(frozen=True)
class Dns:
    """DNS names for clients. Server certificates hold them; members themselves go on to use addresses."""

    name: DnsName
    """The cluster's name, in full. It stands for every member's address, and below it are the SRV records by which
    `etcdctl --discovery-srv` finds the members.
    """
    member_names: Mapping[str, DnsName] = field(default_factory=dict[str, str])
    """Names of members that are not MEMBER.NAME, by member: {"etcd-a": "db-1.example.com"}; default none."""
    other_names: Sequence[DnsName] = ()
    """Further names of the cluster, such as the one before while clients still use it: certificates hold them, and
    records are made, as for `name`; default none.
    """
    endpoints: EndpointsBy = "address"
    """Whether the exported endpoints have members' names or addresses: `name` or `address` (default)."""
    ttl_seconds: Annotated[int, Between(1, MOST_SECONDS)] = 60
    """How long a resolver may keep an answer, in seconds; default 60."""


@dataclass(frozen=True)
class ClusterNames:
    """The checked names of one cluster, in lower case.

    Args:
        cluster: Name of the cluster -> member -> the member's name below it, or its own.
        endpoints: Whether exported endpoints have names or addresses.
        ttl_seconds: How long a resolver may keep an answer.
    """

    cluster: Mapping[str, Mapping[str, str]]
    endpoints: EndpointsBy
    ttl_seconds: int

    def of(self, member: str) -> list[str]:
        """Returns the names that a member's server certificate holds."""
        return [*self.cluster, *dict.fromkeys(members[member] for members in self.cluster.values())]

    def endpoint(self, member: str) -> str | None:
        """Returns the name in the member's exported URL; None for its address."""
        return next(iter(self.cluster.values()))[member] if self.endpoints == "name" else None

    @property
    def owners(self) -> Mapping[str, str]:
        """Every name -> the member that it stands for, or `ALL`."""
        members = {name: member for below in self.cluster.values() for member, name in below.items()}
        return {**members, **dict.fromkeys(self.cluster, ALL)}

    def address_records(self) -> list[AddressRecord]:
        """Returns which name stands for the addresses of which members."""
        members = list(next(iter(self.cluster.values())))
        return [
            AddressRecord(name, members if member == ALL else [member], self.ttl_seconds)
            for name, member in self.owners.items()
        ]

    def service_records(self, ports: Mapping[str, int], *, tls: bool) -> list[ServiceRecord]:
        """Returns the SRV records by which clients find the members.

        Args:
            ports: Member name -> port for clients.
            tls: Whether clients speak TLS: etcd looks for another name then.
        """
        return [
            ServiceRecord(
                f"{_service(tls)}.{name}", [(below[member], port) for member, port in ports.items()], self.ttl_seconds
            )
            for name, below in self.cluster.items()
        ]


def _service(tls: bool) -> str:
    """Returns the name that etcd looks for: https://etcd.io/docs/v3.6/op-guide/clustering/#dns-discovery."""
    return "_etcd-client-ssl._tcp" if tls else "_etcd-client._tcp"


def validate_dns(dns: Dns, members: Sequence[str], platform: str) -> ClusterNames:
    """Checks names against each other and against members; raises `ConfigurationError` naming key, value and fix."""
    if platform == "local":
        raise ConfigurationError(
            "dns.name", dns.name, "members on this machine are at loopback alone", "leave dns out on platform local"
        )
    if dns.endpoints not in ("address", "name"):
        raise ConfigurationError("dns.endpoints", dns.endpoints, "unknown", "choose address or name")
    for member in dns.member_names:
        if member not in members:
            raise ConfigurationError(
                f"dns.memberNames.{member}",
                dns.member_names[member],
                "no such member",
                f"choose of {', '.join(members)}",
            )
    owned = {member: name.lower() for member, name in dns.member_names.items()}
    names = [dns.name.lower(), *(name.lower() for name in dns.other_names)]
    cluster = {names[0]: {member: owned.get(member) or _below(member, names[0], "dns.name") for member in members}}
    for number, name in enumerate(names[1:]):
        key = f"dns.otherNames[{number}]"
        if name in cluster:
            raise ConfigurationError(key, name, "the cluster has this name already", "list each name once")
        usual = [member for member in members if HOST_LABEL.fullmatch(member)]
        cluster[name] = {**cluster[names[0]], **{member: _below(member, name, key) for member in usual}}
    found = ClusterNames(cluster, dns.endpoints, dns.ttl_seconds)
    _require_distinct(found, members)
    return found


def _below(member: str, name: str, key: str) -> str:
    """Returns MEMBER.NAME, if that is a name."""
    if not HOST_LABEL.fullmatch(member):
        raise ConfigurationError(
            f"dns.memberNames.{member}",
            None,
            "missing, and the member's own name is no label of a DNS name",
            f"give it: a name such as etcd-1.{name}",
        )
    longest = max(f"{member}.{name}", f"{_service(tls=True)}.{name}", key=len)
    if len(longest) > LONGEST_DNS_NAME:
        raise ConfigurationError(
            key, name, f"{longest.removesuffix(name)}NAME is longer than {LONGEST_DNS_NAME} characters", "shorten it"
        )
    return require_dns_name(key, f"{member}.{name}")


def _require_distinct(names: ClusterNames, members: Sequence[str]) -> None:
    """Refuses a name that stands for two members, or for a member and the cluster."""
    owner: dict[str, str] = dict.fromkeys(names.cluster, "the cluster")
    for below in names.cluster.values():
        for member in members:
            other = owner.setdefault(below[member], member)
            if other != member:
                raise ConfigurationError(
                    f"dns.memberNames.{member}",
                    below[member],
                    f"{other} has this name as well",
                    "give each member a name of its own",
                )
