"""The resources that find what is restored, and check it before any member stops or starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
from pulumi.dynamic import Resource
from pulumi_command.remote import ConnectionArgs

from etcd_cluster.backup.arguments import Backup
from etcd_cluster.backup.restore_arguments import SourceKind
from etcd_cluster.backup.schedule import credentials_of, rclone_of
from etcd_cluster.machines.machine import Machine
from etcd_cluster.member.commands import layout
from etcd_cluster.providers import BackupSourceProvider, RestoreSourceProvider


class RestoreSource(Resource, module="cluster", name="RestoreSource"):
    """What is restored: a backup in a store, or a file on this machine.

    Args:
        name: Name of the resource.
        cluster: PROJECT/STACK/NAME: `latest` is the newest backup of a cluster of this name.
        token: Token of the cluster.
        key: The key of stack config that asks for it.
        request: What tells one restore from another: the same is not looked for again.
        kind: "store" or "file".
        wanted: latest, NAME or TOKEN/NAME; the path of a file.
        version: Version of etcd that is to read it.
        to: The store; "" for none.
        credentials: What rclone is configured with besides (secret).
        rclone: Where rclone comes from: the fields of `RcloneInstall`.
        places: Member name -> "layout" and "ports", of the members that it may be restored to.
        connections: Member name -> SSH connection (secret; none for members on this machine).
        opts: Pulumi's resource options.

    Attributes:
        found: JSON of "backup", as TOKEN/NAME, or of "file", "sha256" and "bare"; and of "variables": member name ->
            variables of the script that restores it, of the members whose machines answered (secret).
    """

    found: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        *,
        cluster: str,
        token: pulumi.Input[str],
        key: str,
        request: str,
        kind: str,
        wanted: str,
        version: str,
        to: pulumi.Input[str],
        credentials: Mapping[str, pulumi.Input[str]],
        rclone: Mapping[str, Any],
        places: Mapping[str, Any],
        connections: Mapping[str, ConnectionArgs],
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__(
            RestoreSourceProvider(),
            name,
            {
                "cluster": cluster,
                "token": token,
                "key": key,
                "request": request,
                "kind": kind,
                "wanted": wanted,
                "version": version,
                "to": to,
                "credentials": pulumi.Output.secret(credentials),
                "rclone": rclone,
                "places": places,
                "connections": pulumi.Output.secret(connections),
                "found": None,
            },
            pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(additional_secret_outputs=["found"])),
        )


class BackupSource(Resource, module="cluster", name="BackupSource"):
    """The backup that a new cluster starts with: a RestoreSource of one member, in the form that state had first.

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


def find_source(
    name: str,
    kind: SourceKind,
    wanted: str,
    backup: Backup | None,
    *,
    key: str,
    request: str,
    cluster: str,
    token: pulumi.Input[str],
    version: str,
    machines: Sequence[Machine],
    opts: pulumi.ResourceOptions,
) -> RestoreSource:
    """Registers what is restored.

    Args:
        name: Name of the resource.
        kind: What `wanted` names.
        wanted: As the user set it.
        backup: The arguments that name the store; None for none.
        key: The key of stack config that asks for it.
        request: What tells one restore from another.
        cluster: PROJECT/STACK/NAME.
        token: Token of the cluster.
        version: Version of etcd.
        machines: Where it may be restored.
        opts: Pulumi's resource options.
    """
    store = backup if kind is SourceKind.STORE else None
    return RestoreSource(
        name,
        cluster=cluster,
        token=token,
        key=key,
        request=request,
        kind=kind.value,
        wanted=wanted,
        version=version,
        to=store.to if store else "",
        credentials=credentials_of(store) if store else {},
        rclone=rclone_of(store) if store else {},
        places={machine.name: _place(machine) for machine in machines},
        connections={machine.name: machine.connection for machine in machines if machine.connection},
        opts=opts,
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
        place=_place(machine),
        credentials=credentials_of(backup),
        rclone=rclone_of(backup),
        connection=machine.connection,
        opts=opts,
    )


def _place(machine: Machine) -> dict[str, Any]:
    return {"layout": dict(vars(layout(machine))), "ports": dict(vars(machine.ports))}
