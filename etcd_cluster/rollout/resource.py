"""The Rollout resource, as a program declares it. lifecycle.py brings it about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
from pulumi.dynamic import Resource
from pulumi_command.remote import ConnectionArgs

from etcd_cluster.providers import RolloutProvider


class Rollout(Resource, module="cluster", name="Rollout"):
    """Brings a cluster to its desired state.

    Args:
        name: Name of the resource.
        version: Version of etcd, as the user set it.
        tls: Whether clients and members speak TLS, as the user set it.
        size: The size whose quota holds: the one that the user set, once all machines are large enough for it.
        etcd: etcd's settings, as the user set them.
        members: Member name -> address.
        places: Member name -> "device" and "directory", if it has them, and "ports" (client, peer, metrics).
        ca_fingerprints: Fingerprints of the CAs that sign clients.
        peer_ca_fingerprints: Fingerprints of the CAs that sign members.
        allow_plaintext: TLS may be given up.
        users: etcd's users -> their roles; {} for none.
        roles: Role -> its permissions.
        restore_from: The backup that a new cluster starts with, as the user set it; "" for none.
        names: DNS name for clients, in certificates -> the member that it stands for, or `ALL`; None for none.
        restoration: "key", "cluster", "from" and "lost" of a restore in the place of a cluster's data; None for none.
        defragment: From which free space on databases are defragmented, as the user set it; None for never.
        delete_data: `destroy` deletes etcd's data as well.
        desired: The whole desired state with every file and key, the JSON text that `DesiredCluster.parse` reads
            (secret).
        connections: Member name -> SSH connection (secret; none for members on this machine).
        record: Id of the HostRecord; None without one.
        former: The HostRecord's hosts that are no longer listed (secret); None without a record.
        backups: "every" and "test", for warnings of late ones; None without backups.
        opts: Pulumi's resource options.

    Attributes:
        given_up: Ids of the clusters whose data restores took the place of.
        steps: What a change does, one sentence a step. The provider sets it, and `drift`: what was found changed, one
            line a member.
    """

    steps: pulumi.Output[list[str]]

    def __init__(
        self,
        name: str,
        *,
        version: str,
        tls: bool,
        size: pulumi.Input[str],
        etcd: pulumi.Input[dict[str, Any]],
        members: Mapping[str, pulumi.Input[str]],
        places: Mapping[str, Mapping[str, pulumi.Input[str]]],
        ca_fingerprints: pulumi.Input[list[str]],
        peer_ca_fingerprints: pulumi.Input[list[str]],
        allow_plaintext: bool,
        users: Mapping[str, Sequence[str]],
        roles: Mapping[str, Sequence[Mapping[str, str]]],
        restore_from: str,
        names: Mapping[str, str] | None,
        restoration: Mapping[str, Any] | None,
        defragment: Mapping[str, float] | None,
        delete_data: bool,
        desired: pulumi.Input[str],
        connections: Mapping[str, ConnectionArgs],
        record: pulumi.Input[str] | None,
        former: pulumi.Input[Mapping[str, Any]] | None,
        backups: Mapping[str, str] | None,
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__(
            RolloutProvider(),
            name,
            {
                "version": version,
                "tls": tls,
                "size": size,
                "etcd": etcd,
                "members": members,
                "places": places,
                "ca_fingerprints": ca_fingerprints,
                "peer_ca_fingerprints": peer_ca_fingerprints,
                "allow_plaintext": allow_plaintext,
                "users": users,
                "roles": roles,
                "restore_from": restore_from,
                "names": names,
                "restoration": restoration,
                "defragment": defragment,
                "delete_data": delete_data,
                "desired": pulumi.Output.secret(desired),
                "connections": pulumi.Output.secret(connections),
                "record": record,
                "former": None if former is None else pulumi.Output.secret(former),
                "looks": not pulumi.runtime.is_dry_run(),
                "backups": backups,
                "given_up": None,
                "steps": None,
                "drift": None,
            },
            opts,
        )
