"""The BackupSource resource: the backup that a new cluster starts with, found and checked before any member starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi.dynamic import Resource
from pulumi_command.remote import ConnectionArgs

from etcd_cluster.backup.arguments import Backup
from etcd_cluster.backup.schedule import credentials_of, rclone_of
from etcd_cluster.machines.machine import Machine
from etcd_cluster.member.commands import layout
from etcd_cluster.providers import BackupSourceProvider


class BackupSource(Resource, module="cluster", name="BackupSource"):
    """A backup in a store.

    Args:
        name: Name of the resource.
        cluster: PROJECT/STACK/NAME: `latest` is the newest backup of a cluster of this name.
        token: Token of the new cluster.
        backup: latest, NAME or TOKEN/NAME.
        version: Version of etcd that is to read it.
        to: The store.
        member: Name of the member that the backup is restored to.
        place: "layout" and "ports" of that member.
        credentials: What rclone is configured with besides (secret).
        rclone: Where rclone comes from: the fields of `RcloneInstall`.
        connection: SSH connection to the member's machine (secret); None for this machine.
        opts: Pulumi's resource options.

    Attributes:
        restored: JSON of "backup", as TOKEN/NAME, "member", and "variables" of the script that restores it (secret).
    """

    restored: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        *,
        cluster: str,
        token: pulumi.Input[str],
        backup: str,
        version: str,
        to: pulumi.Input[str],
        member: str,
        place: Mapping[str, Any],
        credentials: Mapping[str, pulumi.Input[str]],
        rclone: Mapping[str, Any],
        connection: ConnectionArgs | None,
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__(
            BackupSourceProvider(),
            name,
            {
                "cluster": cluster,
                "token": token,
                "backup": backup,
                "version": version,
                "to": to,
                "member": member,
                "place": place,
                "credentials": pulumi.Output.secret(credentials),
                "rclone": rclone,
                "connection": None if connection is None else pulumi.Output.secret(connection),
                "restored": None,
            },
            pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(additional_secret_outputs=["restored"])),
        )


def find_backup(
    name: str,
    wanted: str,
    backup: Backup,
    *,
    cluster: str,
    token: pulumi.Input[str],
    version: str,
    machine: Machine,
    opts: pulumi.ResourceOptions,
) -> BackupSource:
    """Registers the backup that a new cluster starts with.

    Args:
        name: The component's name.
        wanted: latest, NAME or TOKEN/NAME.
        backup: The arguments that name the store.
        cluster: PROJECT/STACK/NAME.
        token: Token of the new cluster.
        version: Version of etcd.
        machine: Where the member runs that the backup is restored to.
        opts: Pulumi's resource options.
    """
    return BackupSource(
        f"{name}-restore",
        cluster=cluster,
        token=token,
        backup=wanted,
        version=version,
        to=backup.to,
        member=machine.name,
        place={"layout": dict(vars(layout(machine))), "ports": dict(vars(machine.ports))},
        credentials=credentials_of(backup),
        rclone=rclone_of(backup),
        connection=machine.connection,
        opts=opts,
    )
