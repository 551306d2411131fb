"""`etcd-cluster dns`: prints the DNS records of a cluster's names, from the stack's state alone."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from etcd_cluster.cli.clusters import selected_cluster
from etcd_cluster.cli.command import Command, CommandError, ExitCode, Option
from etcd_cluster.cli.stacks import HIDDEN

DESCRIPTION = """\
Prints the DNS records that the names of a cluster need, as lines for a zone file, by the last `up`. In a zone of
Route 53 or Cloud DNS that the stack names, they have been made; otherwise they are yours to make. No machine and
no name server is asked."""


def run(options: argparse.Namespace) -> ExitCode:
    """Prints the records.

    Args:
        options: The global ones, and `output`.
    """
    cluster = selected_cluster(options, secrets=False)
    records: Sequence[Any] | str | None = cluster.outputs.get("dnsRecords")
    if records is None:
        raise CommandError(f"cluster {cluster.name} has no DNS names. Give it one as dns.name, and run `pulumi up`")
    if isinstance(records, str) or HIDDEN in records:
        raise CommandError(
            f"the records of cluster {cluster.name} are secret in stack {cluster.stack.name}, since an address is. "
            "`pulumi stack output dnsRecords --show-secrets` shows them"
        )
    print(json.dumps(records, indent=2) if options.output == "json" else "\n".join(map(zone_lines, records)))
    return ExitCode.SUCCESS


def zone_lines(record: Mapping[str, Any]) -> str:
    """Returns a record as lines of a zone file, one a value."""
    return "\n".join(f"{record['name']}. {record['ttl']:.0f} IN {record['type']} {value}" for value in record["values"])


COMMAND = Command(
    name="dns",
    summary="the DNS records of the cluster's names",
    description=DESCRIPTION,
    examples=(
        ("etcd-cluster dns --stack prod", "lines for a zone file"),
        ("etcd-cluster dns --output json", "for programs"),
    ),
    options=(
        Option(
            "--output",
            "lines for a zone file, or JSON for programs (default: zone)",
            {"choices": ("zone", "json"), "default": "zone"},
        ),
    ),
    run=run,
)
