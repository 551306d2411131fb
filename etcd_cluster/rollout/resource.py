"""The Rollout resource, as a program declares it. What becomes of it is in lifecycle.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi.dynamic import Resource
from pulumi_command.remote import ConnectionArgs

from etcd_cluster.providers import RolloutProvider


class Rollout(Resource, module="cluster", name="Rollout"):
    """Brings a cluster to what it should be.

    version, tls, size, etcd (settings of the user's): as asked. members: member name -> address.
    places: member name -> "device" and "directory", where it has them, and "ports" (client, peer, metrics).
    authorities, peer_authorities: fingerprints of the authorities that clients and members are signed by.
    allow_plaintext: TLS may be given up. delete_data: `destroy` deletes etcd's data as well.
    wanted: all of it with every file and key, the JSON text that `DesiredCluster.parse` reads (secret).
    connections: member name -> SSH connection (secret; none here on this machine).
    record, former: id of the HostRecord, and the hosts that it says are no longer listed (secret); None without one.
    Set by the provider: steps (what a change does, a sentence a step), drift (what was found changed, a line a member).
    """

    steps: pulumi.Output[list[str]]

    def __init__(
        self,
        name: str,
        *,
        version: str,
        tls: bool,
        size: str,
        etcd: pulumi.Input[dict[str, Any]],
        members: Mapping[str, pulumi.Input[str]],
        places: Mapping[str, Mapping[str, pulumi.Input[str]]],
        authorities: pulumi.Input[list[str]],
        peer_authorities: pulumi.Input[list[str]],
        allow_plaintext: bool,
        delete_data: bool,
        wanted: pulumi.Input[str],
        connections: Mapping[str, ConnectionArgs],
        record: pulumi.Input[str] | None,
        former: pulumi.Input[Mapping[str, Any]] | None,
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
                "authorities": authorities,
                "peer_authorities": peer_authorities,
                "allow_plaintext": allow_plaintext,
                "delete_data": delete_data,
                "wanted": pulumi.Output.secret(wanted),
                "connections": pulumi.Output.secret(connections),
                "record": record,
                "former": None if former is None else pulumi.Output.secret(former),
                "looks": not pulumi.runtime.is_dry_run(),
                "steps": None,
                "drift": None,
            },
            opts,
        )
