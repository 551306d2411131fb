"""The BackupSchedule resource, as the component declares it. schedule_lifecycle.py brings it about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi.dynamic import Resource
from pulumi_command.remote import ConnectionArgs

from etcd_cluster.backup.arguments import Backup
from etcd_cluster.machines.machine import Machine
from etcd_cluster.member.commands import layout
from etcd_cluster.providers import BackupScheduleProvider

CREDENTIALS = (
    *("access_key", "secret_key", "private_key", "host_key", "ca", "endpoint", "region"),
    "encryption_password",
)


class BackupSchedule(Resource, module="cluster", name="BackupSchedule"):
    """Sets up, on every member's machine, what makes the backups of a cluster.

    Args:
        name: Name of the resource.
        cluster: PROJECT/STACK/NAME, for people.
        token: The token by which the cluster is known on its machines, and in the store.
        to: The store.
        every: Time between two backups, such as 1h.
        keep: "last", "daily" and "weekly": how many backups are kept.
        test: daily, weekly or never.
        append_only: Nothing is deleted in the store.
        make_bucket: The stack makes the bucket and the role, which may take a minute to count.
        members: Member name -> "layout", "ports", and "machine", the id of its machine.
        credentials: What rclone is configured with besides (secret).
        rclone: Where rclone comes from: the fields of `RcloneInstall`.
        connections: Member name -> SSH connection (secret; none for members on this machine).
        opts: Pulumi's resource options.

    Attributes:
        drift: What the last `up` found changed on machines, one line each.
    """

    def __init__(
        self,
        name: str,
        *,
        cluster: str,
        token: pulumi.Input[str],
        to: pulumi.Input[str],
        every: str,
        keep: Mapping[str, int],
        test: str,
        append_only: bool,
        make_bucket: bool,
        members: Mapping[str, Mapping[str, Any]],
        credentials: Mapping[str, pulumi.Input[str]],
        rclone: Mapping[str, Any],
        connections: Mapping[str, ConnectionArgs],
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__(
            BackupScheduleProvider(),
            name,
            {
                "cluster": cluster,
                "token": token,
                "to": to,
                "every": every,
                "keep": keep,
                "test": test,
                "append_only": append_only,
                "make_bucket": make_bucket,
                "members": members,
                "credentials": pulumi.Output.secret(credentials),
                "rclone": rclone,
                "connections": pulumi.Output.secret(connections),
                "looks": not pulumi.runtime.is_dry_run(),
                "drift": None,
            },
            opts,
        )


def schedule_backups(
    name: str,
    backup: Backup,
    *,
    cluster: str,
    token: pulumi.Input[str],
    machines: Mapping[str, Machine],
    identities: Mapping[str, pulumi.Input[str]],
    opts: pulumi.ResourceOptions,
) -> BackupSchedule:
    """Registers the backups of a cluster.

    Args:
        name: The component's name.
        backup: The arguments.
        cluster: PROJECT/STACK/NAME.
        token: Token of the cluster.
        machines: Member name -> where it runs.
        identities: Member name -> id of its machine: another machine has nothing set up.
        opts: Pulumi's resource options.
    """
    return BackupSchedule(
        f"{name}-backups",
        cluster=cluster,
        token=token,
        to=backup.to,
        every=backup.every,
        keep=dict(vars(backup.keep)),
        test=backup.test,
        append_only=backup.append_only,
        make_bucket=backup.make_bucket,
        members={
            member: {
                "layout": dict(vars(layout(machine))),
                "ports": dict(vars(machine.ports)),
                "machine": identities[member],
            }
            for member, machine in machines.items()
        },
        credentials=credentials_of(backup),
        rclone=rclone_of(backup),
        connections={member: machine.connection for member, machine in machines.items() if machine.connection},
        opts=opts,
    )


def credentials_of(backup: Backup) -> dict[str, pulumi.Input[str]]:
    """Returns what rclone is configured with, besides the store."""
    return {key: value for key in CREDENTIALS if (value := getattr(backup, key)) is not None}


def rclone_of(backup: Backup) -> dict[str, Any]:
    """Returns the fields of `RcloneInstall` that are given."""
    return {key: value for key, value in vars(backup.rclone).items() if value is not None}
