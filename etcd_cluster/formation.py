"""The Formation resource: the record that a cluster was formed, once, by which machines and under which token."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi.dynamic import Resource
from pulumi_command.remote import ConnectionArgs

from etcd_cluster.member.answers import NoAnswerError, framed_answer
from etcd_cluster.providers import FormationProvider


def preflight_report(output: str | None) -> str:
    """Returns the report (JSON) in a preflight's output; "" if it holds none: then forming asks the machine again."""
    try:
        return framed_answer(output or "", "check").strip()
    except NoAnswerError:
        return ""


def machine_identity(report: str) -> str:
    """Returns the id of the machine in a preflight's report; "" if there is none."""
    return str(json.loads(report)["machine"]) if report else ""


class Formation(Resource, module="cluster", name="Formation"):
    """Records the forming of one cluster.

    Args:
        name: Name of the resource.
        cluster: PROJECT/STACK/NAME.
        reports: Member name -> report of its preflight; "" for none.
        preflights: Member name -> command and script of its preflight.
        connections: Member name -> SSH connection (secret; none for members on this machine).
        moved_from: PROJECT/STACK/NAME that the data may name in place of `cluster`; None for none.
        opts: Pulumi's resource options.

    Attributes:
        token: etcd's initial-cluster-token.
        founders: Member name -> machine id, of the members that formed the cluster.
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
        moved_from: str | None = None,
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
                "moved_from": moved_from,
                "token": None,
                "founders": None,
            },
            opts,
        )
