"""Defines machines that members can run on, and what a platform offers. Nothing here knows etcd's settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, cast, runtime_checkable

import pulumi
from pulumi_command.remote import ConnectionArgs

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.etcd.sizes import Size
from etcd_cluster.names import require_devices, require_directory, require_host
from etcd_cluster.typed import Port, require_types

DEFAULT_MEMBERS = 3
MEMBER_COUNTS = (1, 3, 5, 7)
MONITORING_PORT = 2382
"""TCP port of a member's metrics for other machines, over TLS, if they are exposed."""


class Later(str):
    """Stands for a value that is not known, in texts. No known value is of this type."""

    __slots__ = ()


LATER = Later("?")


@dataclass(frozen=True)
class Ports:
    """TCP ports of one member."""

    client: Port = 2379
    """For clients, default 2379."""
    peer: Port = 2380
    """For the other members, default 2380."""
    metrics: Port = 2381
    """For Prometheus, on loopback only, without TLS; default 2381."""

    @staticmethod
    def parse(stored: Mapping[str, float]) -> Ports:
        """Reads ports from state, where Pulumi keeps floats. A missing port has its default; others are ignored."""
        known = {field.name for field in fields(Ports)}
        return Ports(**{name: int(port) for name, port in stored.items() if name in known})


@dataclass(frozen=True)
class Machine:
    """A reachable place for one member."""

    name: str
    """The member's name, stable for its whole life."""
    address: pulumi.Input[str]
    """IP address or DNS name at which clients and the other members reach it."""
    connection: ConnectionArgs | None
    """How remote Commands get there; None is this machine."""
    ports: Ports = Ports()
    """Default 2379, 2380 and 2381."""
    device: pulumi.Input[str] | None = None
    """Block device for etcd's data alone, such as `/dev/nvme1n1`; several with commas between mean whichever is there;
    None keeps the data on the root file system.
    """
    directory: str | None = None
    """Holds everything of the member, which then runs as the caller; None is the system's standard places, with
    systemd.
    """
    first_boot: bool = False
    """The machine may be booting for the first time: SSH, cloud-init and the device are waited for; default False."""
    deleted_with: pulumi.Resource | None = None
    """The resource whose deletion takes the whole machine away, so that nothing is run there on destroy."""
    depends_on: Sequence[pulumi.Resource] = ()
    """What must exist before the machine can be reached."""
    size: pulumi.Input[str] | None = None
    """Name of the size that the machine is large enough for: smaller than the cluster's while `size` has grown and
    the machine was not replaced yet; "" for an unknown one. Default None: the cluster's.
    """


@runtime_checkable
class Machines(Protocol):
    """A platform: describes machines, and provisions them as children of the component.

    Implement it to run members anywhere else; everything after "here is a reachable machine" is shared.
    """

    @property
    def platform(self) -> str:
        """The platform's name, as stack config has it."""
        ...

    def member_names(self, members: int | None) -> Sequence[str]:
        """Returns names for that many members (None: the platform's own number), known without asking any provider.

        Raises:
            ConfigurationError: A description that cannot work.
        """
        ...

    def provision(self, cluster: str, names: Sequence[str], size: Size, parent: pulumi.Resource) -> Sequence[Machine]:
        """Registers what the machines need, with `parent` as the parent, and returns one machine a name, in order."""
        ...


@runtime_checkable
class ProvisionedMachines(Protocol):
    """A platform that makes machines and disks, and checks them before anything is registered."""

    def require_usable(self, size: Size, *, allow_undersized: bool, delete_data: bool) -> None:
        """Checks machines and disks before anything is registered.

        Raises:
            ConfigurationError: They are below `size` and that is not allowed, or data is to be deleted with its member
                but is kept by the platform.
            MissingExtraError: The platform's SDK is not installed.
        """
        ...


@runtime_checkable
class FirewalledMachines(Protocol):
    """A platform that makes firewall rules."""

    @property
    def monitoring_sources(self) -> Mapping[str, int]:
        """Key of the stack's config -> how many ranges or groups in it may reach the metrics."""
        ...


class Guard(Protocol):
    """Returns what a machine to be replaced depends on (`depends_on`): it is there once the machine may be replaced."""

    def __call__(
        self,
        replace_member: str | None,
        connections: Mapping[str, ConnectionArgs],
        *,
        is_dead: bool = False,
        after: Sequence[pulumi.Resource] = (),
    ) -> pulumi.Input[pulumi.Resource]:
        """Registers the guard.

        Args:
            replace_member: The member whose machine is to be replaced; None for none.
            connections: Member name -> how its machine is reached.
            is_dead: The machine is known to be dead, and is replaced even if nobody can be asked.
            after: What else the replacement waits for, such as disks that grow: an answer from before may be old.
        """
        ...


def require_one_to_replace(
    platform: str, replace_member: str | None, replace_dead_member: str | None, names: Sequence[str]
) -> None:
    """Raises `ConfigurationError` unless one of `replace_member` and `replace_dead_member`, or neither, is a member."""
    for key, name in (("replaceMember", replace_member), ("replaceDeadMember", replace_dead_member)):
        if name is not None and name not in names:
            raise ConfigurationError(f"{platform}.{key}", name, "no such member", f"choose one of {', '.join(names)}")
    if replace_member is not None and replace_dead_member is not None:
        raise ConfigurationError(
            f"{platform}.replaceDeadMember",
            replace_dead_member,
            f"{platform}.replaceMember is given as well ({replace_member}), and one machine is replaced at a time",
            "take one of the two out",
        )


@runtime_checkable
class ReplaceableMachines(Machines, Protocol):
    """A platform that replaces the machine of the member in `replace_member`, and asks a guard first."""

    replace_member: str | None

    def provision(
        self, cluster: str, names: Sequence[str], size: Size, parent: pulumi.Resource, guard: Guard | None = None
    ) -> Sequence[Machine]:
        """Does as `Machines.provision`. Without a guard (None), a machine is replaced without asking."""
        ...


def numbered_names(members: int | None) -> tuple[str, ...]:
    """Returns the names of members whose machines a platform makes: etcd-1, etcd-2 and so on."""
    return tuple(f"etcd-{number}" for number in range(1, (members or DEFAULT_MEMBERS) + 1))


def checked_machines(machines: Sequence[Machine], names: Sequence[str]) -> list[Machine]:
    """Returns the machines of a platform, one a name, once they are checked.

    A value that is known only later is checked as soon as it is known.
    """
    for machine in machines:
        require_types(machine, "machine.")
    found = [machine.name for machine in machines]
    if found != list(names):
        raise ConfigurationError(
            "machines", found, f"not the machines of {', '.join(names)}", "yield one machine a name, in that order"
        )
    return [_checked(machine) for machine in machines]


def _checked(machine: Machine) -> Machine:
    address = when_known(f"{machine.name}.address", machine.address, require_host)
    device = None if machine.device is None else when_known(f"{machine.name}.device", machine.device, require_devices)
    if machine.directory is not None:
        require_directory(f"{machine.name}.directory", machine.directory)
    return replace(machine, address=address, device=device)


def when_known(key: str, value: pulumi.Input[str], require: Callable[[str, str], str]) -> pulumi.Input[str]:
    """Returns the value, checked: at once, or as soon as it is known.

    A provider that gives none (Pulumi's mocks in a test do not) has `LATER` in its place, which no step takes.
    """
    if isinstance(value, str):
        return require(key, value)
    later = cast("pulumi.Output[str | None]", pulumi.Output.from_input(cast(Any, value)))
    return later.apply(lambda known: LATER if known is None else require(key, known))
