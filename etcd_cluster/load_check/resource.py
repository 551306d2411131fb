"""The LoadCheck resource, as the component declares it. lifecycle.py brings it about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
from pulumi.dynamic import Resource
from pulumi_command.remote import ConnectionArgs

from etcd_cluster.load_check.load import LoadCheckMode
from etcd_cluster.load_generator import LoadGenerator
from etcd_cluster.machines.machine import Machine
from etcd_cluster.member.commands import layout
from etcd_cluster.providers import LoadCheckProvider


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
    urls: pulumi.Input[Sequence[str]],
    machines: Sequence[Machine],
    opts: pulumi.ResourceOptions,
) -> LoadCheck:
    """Registers the load check of a cluster.

    Args:
        name: The component's name.
        mode: report or require.
        generator: Where `benchmark` comes from.
        cluster: PROJECT/STACK/NAME.
        size: Name of the row.
        urls: Client URLs of all members.
        machines: Where they run.
        opts: Pulumi's resource options.
    """
    return LoadCheck(
        f"{name}-load-check",
        cluster=cluster,
        mode=mode,
        size=size,
        members={each.name: {"layout": dict(vars(layout(each))), "ports": dict(vars(each.ports))} for each in machines},
        urls=urls,
        generator={key: value for key, value in vars(generator).items() if value is not None},
        connections={each.name: each.connection for each in machines if each.connection},
        opts=opts,
    )
