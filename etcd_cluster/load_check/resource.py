"""The LoadCheck resource, as the component declares it. lifecycle.py brings it about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import pulumi
from pulumi.dynamic import Resource
from pulumi_command.remote import ConnectionArgs

from etcd_cluster.certificates import ClusterCertificates
from etcd_cluster.load_check.load import LoadCheckMode
from etcd_cluster.load_generator import ClientMachine, LoadGenerator
from etcd_cluster.machines.machine import Machine
from etcd_cluster.member.commands import layout
from etcd_cluster.providers import LoadCheckProvider
from etcd_cluster.users import CLIENT, ROOT


class LoadCheck(Resource, module="cluster", name="LoadCheck"):
    """Loads a cluster that has just been formed as its size promises, once.

    Args:
        name: Name of the resource.
        cluster: PROJECT/STACK/NAME.
        mode: report or require.
        size: Name of the row.
        members: Member name -> "layout" and "ports".
        urls: Client URLs of all members.
        generator: Where `benchmark` comes from: the fields of `LoadGenerator`.
        connections: Member name -> SSH connection (secret; none for members on this machine).
        client: The machine that loads the cluster in a member's place: its SSH "connection", and "issuer", who signs
            its certificate (secret; None for none).
        opts: Pulumi's resource options.

    Attributes:
        result: "passed", and the main figures.
    """

    result: pulumi.Output[dict[str, Any]]

    def __init__(
        self,
        name: str,
        *,
        cluster: str,
        mode: LoadCheckMode,
        size: str,
        members: Mapping[str, Mapping[str, Any]],
        urls: pulumi.Input[Sequence[str]],
        generator: Mapping[str, Any],
        connections: Mapping[str, ConnectionArgs],
        client: Mapping[str, Any] | None = None,
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__(
            LoadCheckProvider(),
            name,
            {
                "cluster": cluster,
                "mode": mode,
                "size": size,
                "members": members,
                "urls": urls,
                "generator": generator,
                "connections": pulumi.Output.secret(connections),
                **({"client": pulumi.Output.secret(client)} if client else {}),
                "result": None,
            },
            opts,
        )


def check_load(
    name: str,
    mode: LoadCheckMode,
    generator: LoadGenerator,
    *,
    cluster: str,
    size: str,
    version: pulumi.Input[str],
    urls: pulumi.Input[Sequence[str]],
    machines: Sequence[Machine],
    certificates: ClusterCertificates | None,
    opts: pulumi.ResourceOptions,
) -> LoadCheck:
    """Registers the load check of a cluster.

    Args:
        name: The component's name.
        mode: report or require.
        generator: Where `benchmark` comes from, and runs.
        cluster: PROJECT/STACK/NAME.
        size: Name of the row.
        version: Version of etcd.
        urls: Client URLs of all members, as the machine reaches them that loads the cluster.
        machines: Where they run.
        certificates: The cluster's certificates; None without TLS.
        opts: Pulumi's resource options.
    """
    fields = {key: value for key, value in vars(generator).items() if key != "client" and value is not None}
    return LoadCheck(
        f"{name}-load-check",
        cluster=cluster,
        mode=mode,
        size=size,
        members={each.name: {"layout": dict(vars(layout(each))), "ports": dict(vars(each.ports))} for each in machines},
        urls=urls,
        generator=fields,
        connections={each.name: each.connection for each in machines if each.connection},
        client=_client(generator.client, machines, certificates, version) if generator.client else None,
        opts=opts,
    )


def _client(
    given: ClientMachine,
    machines: Sequence[Machine],
    certificates: ClusterCertificates | None,
    version: pulumi.Input[str],
) -> dict[str, Any]:
    connection = copy(machines[0].connection) or ConnectionArgs(host=given.address)
    connection.host, connection.port, connection.host_key = given.address, given.port, given.host_key
    connection.user = given.user or connection.user or "root"
    connection.private_key = given.private_key or connection.private_key
    return {
        "connection": connection,
        "version": version,
        "issuer": _issuer(certificates) if certificates else None,
    }


def _issuer(certificates: ClusterCertificates) -> dict[str, Any]:
    ca = certificates.ca.for_clients
    return {
        "certificate_pem": ca.certificate_pem,
        "private_key_pem": ca.private_key_pem,
        "common_name": ROOT if certificates.root else CLIENT,
        "trusted": certificates.trusted_pem,
    }
