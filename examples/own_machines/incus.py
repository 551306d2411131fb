"""A third place for members: virtual machines of Incus, made by its own command line client.

All that a place has to do is to answer two questions: which members there are (`member_names`, before anything is
asked of anybody), and how each is reached (`provision`, which registers what makes the machines). Disks, certificates,
etcd and every later change are the component's own business.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pulumi
from pulumi_command import local

from etcd_cluster import ConfigurationError, Machine, Size, Ssh

OPERATOR = "etcd-operator"
# Incus names a disk in the machine by its device's name, which incus.sh says is `etcd`.
DEVICE = "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_incus_etcd"
SCRIPT = Path(__file__).with_name("incus.sh").read_text()


@dataclass(frozen=True)
class IncusMachines:
    """Members on virtual machines of Incus.

    addresses: member name -> IPv4 address of its own, in the range of Incus' bridge, outside its DHCP range.
    public_key, private_key: SSH key to log in with: one line as in authorized_keys, and unencrypted OpenSSH or PEM.
    image: has cloud-init; default Debian 12.
    pool: storage pool of the data volumes; default `default`.
    """

    addresses: Mapping[str, str]
    public_key: pulumi.Input[str]
    private_key: pulumi.Input[str]
    image: str = "images:debian/12/cloud"
    pool: str = "default"

    @property
    def platform(self) -> str:
        return "incus"

    def member_names(self, members: int | None) -> Sequence[str]:
        if members is not None and members != len(self.addresses):
            raise ConfigurationError("members", members, f"{len(self.addresses)} addresses are given", "leave it out")
        return tuple(self.addresses)

    def provision(self, cluster: str, names: Sequence[str], size: Size, parent: pulumi.Resource) -> Sequence[Machine]:
        return [self._machine(f"{cluster}-{name}", name, size, parent) for name in names]

    def _machine(self, instance: str, name: str, size: Size, parent: pulumi.Resource) -> Machine:
        # Without a `delete`: data outlives everything, and the next `up` finds it again.
        volume = local.Command(
            f"{instance}-volume",
            local.CommandArgs(
                create=_line("volume", instance, f"pool={self.pool}", f"gib={size.minimum_disk_gib}"), stdin=SCRIPT
            ),
            pulumi.ResourceOptions(parent=parent, hide_diffs=["stdin"]),
        )
        machine = local.Command(
            f"{instance}-machine",
            local.CommandArgs(
                create=_line(
                    "machine",
                    instance,
                    f"image={self.image}",
                    f"address={self.addresses[name]}",
                    f"pool={self.pool}",
                    f"vcpus={size.minimum_vcpus}",
                    f"mib={size.aws.memory_gb * 1024:.0f}",
                ),
                delete=_line("remove", instance),
                environment={"OPERATOR": OPERATOR, "PUBLIC_KEY": self.public_key},
                stdin=SCRIPT,
            ),
            pulumi.ResourceOptions(parent=parent, hide_diffs=["stdin"], depends_on=[volume]),
        )
        # Asked of Incus, not of the network: so that nobody can answer in the machine's place, and it can be pinned.
        host_key = local.Command(
            f"{instance}-host-key",
            local.CommandArgs(create=_line("host-key", instance), stdin=SCRIPT),
            pulumi.ResourceOptions(parent=parent, hide_diffs=["stdin"], depends_on=[machine], deleted_with=machine),
        ).stdout
        ssh = Ssh(user=OPERATOR, private_key=self.private_key, dial_attempts=100, dial_timeout_seconds=10)
        return Machine(
            name=name,
            address=self.addresses[name],
            connection=ssh.connection(self.addresses[name], host_key),
            device=DEVICE,
            first_boot=True,
            deleted_with=machine,
            depends_on=[machine],
        )


def _line(*words: str) -> str:
    """What a shell runs: every word quoted where it needs it."""
    return f"bash -s -- {shlex.join(words)}"
