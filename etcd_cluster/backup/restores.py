"""Registers what is restored: the data that a new cluster starts with, and those that take the place of a cluster's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

from etcd_cluster.backup.arguments import Backup
from etcd_cluster.backup.restore_arguments import Recover, RestoreInPlace, SourceKind
from etcd_cluster.backup.restore_source import find_backup, find_source
from etcd_cluster.machines.machine import Machine
from etcd_cluster.settings import Settings


def shown_restoration(asked: RestoreInPlace | Recover | None) -> dict[str, Any] | None:
    """Returns a restore in the place of a cluster's data as reviewers see it; None for none."""
    if asked is None:
        return None
    lost = list(asked.lost) if isinstance(asked, Recover) else []
    key = "recover" if isinstance(asked, Recover) else "restoreInPlace"
    return {"key": key, "cluster": asked.cluster, "from": asked.source or "", "lost": lost}


def restored_at_start(
    name: str,
    settings: Settings,
    *,
    cluster: str,
    token: pulumi.Input[str],
    machine: Machine,
    opts: pulumi.ResourceOptions,
) -> pulumi.Output[Any] | None:
    """Finds what a new cluster starts with; None for nothing.

    Args:
        name: The component's name.
        settings: The cluster's settings.
        cluster: PROJECT/STACK/NAME.
        token: Token of the cluster.
        machine: Where it is restored; the other members join.
        opts: Pulumi's resource options.
    """
    named, version = settings.restore_from, settings.version
    if named and settings.restore_kind is SourceKind.FILE:
        source = find_source(
            f"{name}-restore-file",
            SourceKind.FILE,
            named,
            None,
            key="restoreFrom",
            request=named,
            cluster=cluster,
            token=token,
            version=version,
            machines=[machine],
            opts=opts,
        )
        return _restored_file(source.found, machine.name)
    if not named or settings.restore_store is None:
        return None
    return find_backup(
        name,
        named,
        settings.restore_store,
        cluster=cluster,
        token=token,
        version=version,
        machine=machine,
        opts=opts,
    ).restored.apply(json.loads)


def restored_in_place(
    name: str,
    settings: Settings,
    *,
    cluster: str,
    token: pulumi.Input[str],
    machines: Sequence[Machine],
    opts: pulumi.ResourceOptions,
) -> pulumi.Output[Any] | None:
    """Finds what takes the place of a cluster's data; None for nothing.

    Args:
        name: The component's name.
        settings: The cluster's settings.
        cluster: PROJECT/STACK/NAME.
        token: Token of the cluster.
        machines: Where it may be restored.
        opts: Pulumi's resource options.
    """
    shown = shown_restoration(settings.restoration)
    if settings.restoration is None or shown is None:
        return None
    found: pulumi.Input[Any] = None
    if settings.restoration_kind is not SourceKind.MEMBER and settings.restoration.source is not None:
        found = find_source(
            f"{name}-restore-source",
            settings.restoration_kind,
            settings.restoration.source,
            settings.restore_store,
            key=f"{shown['key']}.from",
            request=f"{shown['key']} {settings.restoration.cluster}",
            cluster=cluster,
            token=token,
            version=settings.version,
            machines=machines,
            opts=opts,
        ).found.apply(json.loads)
    return _restoration(shown, found, settings.backup, of_a_member=settings.restoration_kind is SourceKind.MEMBER)


def _restored_file(found: pulumi.Output[str], member: str) -> pulumi.Output[dict[str, Any]]:
    """Returns a file that a new cluster starts with, as `DesiredCluster.parse` reads it."""

    def restored(text: str) -> dict[str, Any]:
        known = json.loads(text)
        file = {key: known[key] for key in ("file", "sha256", "bare")}
        return {**file, "member": member, "variables": known["variables"][member]}

    return found.apply(restored)


def _restoration(
    shown: Mapping[str, Any], found: pulumi.Input[Any], backup: Backup | None, *, of_a_member: bool
) -> pulumi.Output[dict[str, Any]]:
    """Returns a restore in the place of a cluster's data, as `DesiredCluster.parse` reads it."""
    schedule = backup and {
        "to": backup.to,
        "every": backup.every,
        "keep": dict(vars(backup.keep)),
        "test": backup.test,
        "append_only": True,  # what the restore may go back to stays
        "encrypted": backup.encryption_password is not None,
    }
    return pulumi.Output.all(found=found, schedule=schedule).apply(
        lambda known: {
            "cluster": shown["cluster"],
            "quorum_lost": shown["key"] == "recover",
            "member": shown["from"] if of_a_member else "",
            "lost": shown["lost"],
            **known,
        }
    )
