"""Provides hosts that you already own, reached over SSH."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulumi

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.etcd.sizes import Size
from etcd_cluster.machines.machine import Machine
from etcd_cluster.names import require_address, require_devices
from etcd_cluster.secrecy import as_input
from etcd_cluster.ssh.login import Ssh, require_pinnable_host_key
from etcd_cluster.typed import camel_case

HOSTS_MEMBER_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class Host:
    """One host.

    Args:
        address: IP address or DNS name at which clients and the other members reach it.
        host_key: Its public SSH host key (ed25519 or ECDSA), pinned.
        ssh_address: Where SSH reaches it; default `address`.
        device: Block device for etcd's data alone; default None keeps the data on the root file system.
    """

    address: pulumi.Input[str]
    host_key: pulumi.Input[str]
    ssh_address: pulumi.Input[str] | None = None
    device: pulumi.Input[str] | None = None


@dataclass(frozen=True)
class HostMachines:
    """Members on your own hosts.

    Args:
        hosts: Member name -> host. One member runs on every host listed: 1, 3, 5 or 7. A name has lower-case letters,
            digits and hyphens, and stays the member's for its whole life.
        ssh: How to log in, the same on every host; default root with the SSH agent's keys.
    """

    hosts: Mapping[str, Host]
    ssh: Ssh = field(default_factory=Ssh)

    @property
    def platform(self) -> str:
        """Platform of the same name in stack config."""
        return "hosts"

    def member_names(self, members: int | None) -> Sequence[str]:
        """Checks the hosts, and names the members; see `Machines.member_names`."""
        if not self.hosts:
            raise ConfigurationError("hosts", dict(self.hosts), "no host is listed", "list 1, 3, 5 or 7 hosts")
        if members is not None and members != len(self.hosts):
            raise ConfigurationError(
                "members", members, f"{len(self.hosts)} hosts are listed", "leave `members` out, or list as many hosts"
            )
        for name, host in self.hosts.items():
            _check_host(name, host)
        for what in ("address", "ssh_address"):
            self._refuse_shared(what)
        return tuple(self.hosts)

    def provision(self, cluster: str, names: Sequence[str], size: Size, parent: pulumi.Resource) -> Sequence[Machine]:
        """Registers nothing: the hosts are there. See `Machines.provision`."""
        return [self._machine(name, self.hosts[name]) for name in names]

    def _machine(self, name: str, host: Host) -> Machine:
        return Machine(
            name=name,
            address=as_input(host.address),
            connection=self.ssh.connection(as_input(host.ssh_address or host.address), host.host_key),
            device=as_input(host.device),
        )

    def _refuse_shared(self, what: str) -> None:
        """Refuses two members on one machine: they would lose quorum together."""
        owners: dict[str, str] = {}
        for name, host in self.hosts.items():
            value = getattr(host, what)
            if not isinstance(value, str):
                continue
            if value in owners:
                raise ConfigurationError(
                    f"hosts.{name}.{camel_case(what)}",
                    value,
                    f"host {owners[value]} has the same",
                    "give every member a host of its own",
                )
            owners[value] = name


def _check_host(name: str, host: Host) -> None:
    if not HOSTS_MEMBER_NAME.fullmatch(name):
        raise ConfigurationError(
            f"hosts.{name}", name, "not usable as a member's name", "use lower-case letters, digits and hyphens"
        )
    if isinstance(host.address, str):
        require_address(f"hosts.{name}.address", host.address)
    if isinstance(host.device, str):
        require_devices(f"hosts.{name}.device", host.device)
    require_pinnable_host_key(f"hosts.{name}.hostKey", host.host_key)
