"""The Formation resource: the record that a cluster was formed, once, by which machines, under which token."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi.dynamic import Resource
from pulumi_command.remote import ConnectionArgs

from etcd_cluster.providers import FormationProvider


def machine_identity(report: str) -> str:
    """Of the machine that a preflight's report is of."""
    return str(json.loads(report)["machine"])


class Formation(Resource, module="cluster", name="Formation"):
    """Records the forming of one cluster.

    cluster: PROJECT/STACK/NAME.
    reports: member name -> what its preflight printed. preflights: member name -> the command and script that do so.
    connections: member name -> SSH connection (secret; empty here on this machine).
    Outputs: token (etcd's initial-cluster-token), founders (member name -> machine id).
    """

    token: pulumi.Output[str]
    founders: pulumi.Output[dict[str, str]]

    def __init__(
        self,
        name: str,
        *,
        cluster: str,
        reports: Mapping[str, pulumi.Input[str]],
        preflights: Mapping[str, Mapping[str, pulumi.Input[Any]]],
        connections: Mapping[str, ConnectionArgs],
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__(
            FormationProvider(),
            name,
            {
                "cluster": cluster,
                "reports": reports,
                "preflights": preflights,
                "connections": pulumi.Output.secret(connections),
                "token": None,
                "founders": None,
            },
            opts,
        )
