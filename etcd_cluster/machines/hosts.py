"""Provides hosts that you already own, reached over SSH."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import pulumi

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.etcd.sizes import Size
from etcd_cluster.machines.machine import Machine, when_known
from etcd_cluster.names import Devices, HostAddress, MachineAddress, require_address, same_host
from etcd_cluster.secrecy import as_input
from etcd_cluster.ssh.key_texts import HostKey, host_key_blob
from etcd_cluster.ssh.login import Bastion, Ssh, require_one_way

HOSTS_MEMBER_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def require_name(key: str, name: str) -> None:
    """Raises `ConfigurationError` for a name that no host may have."""
    if not HOSTS_MEMBER_NAME.fullmatch(name):
        raise ConfigurationError(
            key, name, "not usable as a member's name", "use up to 63 lower-case letters, digits and hyphens"
        )


@dataclass(frozen=True)
class Host:
    """One host."""

    address: pulumi.Input[MachineAddress]
    """IP address or DNS name at which clients and the other members reach it."""
    host_key: pulumi.Input[HostKey]
    """Its public SSH host key (ed25519 or ECDSA), pinned: /etc/ssh/ssh_host_ed25519_key.pub."""
    ssh_address: pulumi.Input[HostAddress] | None = None
    """Where SSH reaches it; default its address."""
    device: pulumi.Input[Devices] | None = None
    """Block device for etcd's data alone (a logical volume will do), which is blank or already this member's; default
    the root file system.
    """


@dataclass(frozen=True)
class HostMachines:
    """Members on your own hosts."""

    hosts: Mapping[Annotated[str, require_name], Host]
    """Member name -> host. One member runs on every host listed: 1, 3, 5 or 7. A name has lower-case letters, digits
    and hyphens, and stays the member's for its whole life.
    """
    ssh: Ssh = field(default_factory=Ssh)
    """How to log in, the same on every host; default root with the SSH agent's keys."""

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
        self._refuse_shared()
        require_one_way(self.ssh.bastion, self.ssh.proxy_command)
        return tuple(self.hosts)

    def provision(self, cluster: str, names: Sequence[str], size: Size, parent: pulumi.Resource) -> Sequence[Machine]:
        """Registers nothing: the hosts are there. See `Machines.provision`."""
        return [self._machine(name, self.hosts[name], number) for number, name in enumerate(names)]

    def _machine(self, name: str, host: Host, number: int) -> Machine:
        return Machine(
            name=name,
            address=when_known(f"hosts.{name}.address", as_input(host.address), require_address),
            connection=self.ssh.connection(as_input(host.ssh_address or host.address), host.host_key, number),
            device=as_input(host.device),
        )

    def _refuse_shared(self) -> None:
        """Refuses two members on one machine, which would lose quorum together, and a member as the bastion."""
        owners: dict[str | bytes | None, str] = {}
        for name, host in self.hosts.items():
            found = {key: _identity(key, value) for key, value in _identities(host)}
            for key, identity in found.items():
                if identity in owners:
                    raise ConfigurationError(
                        f"hosts.{name}.{key}",
                        getattr(host, _FIELDS[key]),
                        f"host {owners[identity]} has the same",
                        "make new keys on one of the two (rm /etc/ssh/ssh_host_*; ssh-keygen -A), and give its own"
                        if key == "hostKey"
                        else "give every member a host of its own",
                    )
            owners |= dict.fromkeys(found.values(), name)
        bastion = self.ssh.bastion
        for key, value in _identities(bastion) if bastion else ():
            if _identity(key, value) in owners:
                raise ConfigurationError(
                    f"ssh.bastion.{key}",
                    value,
                    f"host {owners[_identity(key, value)]} has the same, and a member is no bastion",
                    "give a machine that runs no member, or leave the bastion out",
                )


_FIELDS = {"address": "address", "sshAddress": "ssh_address", "hostKey": "host_key"}


def _identities(host: Host | Bastion) -> list[tuple[str, str]]:
    """Returns what tells a machine from others, by key, as far as it is known."""
    found = [(key, getattr(host, field, None)) for key, field in _FIELDS.items()]
    return [(key, value) for key, value in found if isinstance(value, str)]


def _identity(key: str, value: str) -> str | bytes | None:
    return host_key_blob(value) if key == "hostKey" else same_host(value)
