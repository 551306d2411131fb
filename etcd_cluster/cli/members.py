"""`etcd-cluster members`: prints names, addresses and URLs, from the stack's state alone. No machine is asked."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from etcd_cluster.cli.clusters import selected_cluster
from etcd_cluster.cli.command import OUTPUT, Command, CommandError, ExitCode
from etcd_cluster.cli.stacks import HIDDEN

HEADINGS = ("MEMBER", "ADDRESS", "CLIENT URL", "PEER URL")

DESCRIPTION = """\
Lists the members of a cluster as the last `up` left them: names, addresses, and URLs for clients and for other members.
No machine is asked, and no secret is decrypted: what the program marked as secret shows as [secret]."""


def run(options: argparse.Namespace) -> ExitCode:
    """Prints the members.

    Args:
        options: The global ones, and `output`.
    """
    cluster = selected_cluster(options, secrets=False)
    members: Mapping[str, Any] | str = cluster.outputs.get("members", HIDDEN)
    if isinstance(members, str):
        raise CommandError(
            f"the members of cluster {cluster.name} are secret in stack {cluster.stack.name}, since an address is. "
            "`etcd-cluster status` shows them"
        )
    rows = [_row(name, member) for name, member in members.items()]
    if options.output == "json":
        keys = ("name", "address", "clientUrl", "peerUrl")
        document = {"cluster": cluster.name, "members": [dict(zip(keys, row, strict=True)) for row in rows]}
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        print(table((HEADINGS, *rows)))
    return ExitCode.SUCCESS


def _row(name: str, member: Mapping[str, str] | str) -> tuple[str, ...]:
    if isinstance(member, str):
        return (name, HIDDEN, HIDDEN, HIDDEN)
    return (name, member["address"], member["clientUrl"], member["peerUrl"])


def table(rows: Sequence[Sequence[str]]) -> str:
    """Returns columns as wide as their widest cell, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


COMMAND = Command(
    name="members",
    summary="names, addresses and URLs of the members",
    description=DESCRIPTION,
    examples=(
        ("etcd-cluster members --stack prod", "a table"),
        ("etcd-cluster members --output json", "for programs"),
    ),
    options=(OUTPUT,),
    run=run,
)
