"""Writes the page about a stack that Pulumi Cloud shows: its cluster, as the last change left it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

from etcd_cluster.backup.arguments import Backup
from etcd_cluster.certificates import ClusterCertificates

_NO_BACKUPS = (
    "None are scheduled. Wherever the data is, it can be lost: set `backup.to`; of members on this machine, run "
    "`scripts/backup now`."
)
_PAGE = """\
# etcd {version}

Every member was healthy and took a write when the last change ended. `scripts/status STACK` shows how they are now.

{members}

## Certificates

{certificates}

## Backups

{backups}

## To see more

| To see | Run |
|---|---|
| health, leader, versions, drift, age of the last backup and of its last proof | `scripts/status STACK` |
| the backups in the store, and which of them passed a restore | `scripts/backup list --stack STACK` |
| what etcdctl needs | `eval "$(scripts/env STACK)"`, then `etcdctl endpoint health --cluster` |
"""


def stack_readme(
    version: pulumi.Input[str],
    members: pulumi.Input[Mapping[str, Mapping[str, str]]],
    certificates: ClusterCertificates | None,
    backup: Backup | None,
) -> pulumi.Output[str]:
    """Returns the page, Markdown.

    Args:
        version: The version of etcd.
        members: Member name -> its "clientUrl" and "peerUrl".
        certificates: The certificates of the cluster; None without TLS.
        backup: Where scheduled backups go, and how often; None without.
    """
    ends = (
        {
            "issued": [[each.not_after, each.renew_after] for each in certificates.all],
            "authorities": {
                purpose: [each.not_after, each.rotate_after, each.drop_after]
                for purpose, each in certificates.authorities.items()
            },
        }
        if certificates
        else None
    )
    known = pulumi.Output.all(version=version, members=members, ends=ends, to=backup.to if backup else "")
    return known.apply(
        lambda found: _PAGE.format(
            version=found["version"],
            members=_table(
                ("Member", "URL for clients", "URL for members"),
                [[name, each["clientUrl"], each["peerUrl"]] for name, each in found["members"].items()],
            ),
            certificates=_certificates(found["ends"]),
            backups=_backups(found["to"], backup) if backup else _NO_BACKUPS,
        )
    )


def _certificates(ends: Mapping[str, Any] | None) -> str:
    if ends is None:
        return "None: clients and members speak without TLS."
    rows = [
        [f"CA of {purpose}", _day(end), f"rotated by the first `up` after {_day(due)}{_overlap(drop)}"]
        for purpose, (end, due, drop) in ends["authorities"].items()
    ]
    issued = [(end or "", due or "") for end, due in ends["issued"]]
    first_due = min(due for _, due in issued)
    first_end = min(end for end, _ in issued)
    rows.append(["first of the others", _day(first_end), f"renewed by the first `up` after {_day(first_due)}"])
    return _table(("Certificate", "Ends", "Is"), rows)


def _overlap(drop: str | None) -> str:
    return f"; the one before it is trusted until {_day(drop)}" if drop else ""


def _backups(to: str, backup: Backup) -> str:
    keep = backup.keep
    tested = "never tested" if backup.test == "never" else f"tested {backup.test} by a restore"
    return (
        f"Every {backup.every} into {to}, {tested}. Kept: the newest {keep.last}, and the newest of {keep.daily} days "
        f"and of {keep.weekly} weeks. An `up` warns of backups that are missing, late, failed or untested."
    )


def _day(moment: str | None) -> str:
    """Returns the day of a moment in RFC 3339."""
    return (moment or "")[:10] or "unknown"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
