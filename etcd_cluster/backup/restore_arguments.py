"""Defines the typed arguments of a restore where a cluster is, or was. What they name is found in restore_source.py."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from etcd_cluster.backup.arguments import BACKUP_NAME
from etcd_cluster.errors import ConfigurationError
from etcd_cluster.names import Line, Word, require_file

CLUSTER_ID = re.compile(r"[0-9a-f]{1,16}")
PATHS = ("/", "./", "../", "~")
"""Begins of a path: what begins with none of them is a name."""
LATEST = "latest"


def require_cluster_id(key: str, text: str) -> None:
    """Raises `ConfigurationError` for a text that is no id of a cluster."""
    if not CLUSTER_ID.fullmatch(text):
        fix = "write the id that `etcd-cluster status` shows, such as 8211f1d0f64f3269, as a text in quotes"
        raise ConfigurationError(key, text, "not the id of a cluster", fix)


ClusterId = Annotated[str, require_cluster_id]


class SourceKind(Enum):
    """Where restored data come from."""

    STORE = "store"
    FILE = "file"
    MEMBER = "member"


@dataclass(frozen=True)
class RestoreInPlace:
    """A restore that takes the place of all data of a running cluster. All members stop for it."""

    source: Line
    """A backup in `backup.to` (`latest`, its name, or TOKEN/NAME), or the path of a file here: a snapshot, or a copy of
    a member's `member/snap/db`.
    """
    cluster: ClusterId
    """Id of the cluster whose data are given up, as `etcd-cluster status` shows it. A restore that is done has given
    the cluster another id, so it is not done twice.
    """


@dataclass(frozen=True)
class Recover:
    """The way out of a lost quorum: a new cluster of the same members, with the data of one that is left."""

    cluster: ClusterId
    """Id of the cluster that has lost its quorum, as `etcd-cluster status` shows it. Its members cannot join the new
    one.
    """
    source: Line | None = None
    """Whose data it goes on with: a member, or what `restore_in_place` takes; default the member that is left and
    has the highest revision.
    """
    lost: Sequence[Word] = ()
    """Members whose machines give no answer, and are gone for good; default none. Their disks must be wiped before they
    come back.
    """


def parse_source(key: str, text: str, members: Collection[str] = ()) -> SourceKind:
    """Returns what kind of source a text names.

    Args:
        key: The key, for errors.
        text: The text.
        members: Names of members that may be meant.

    Raises:
        ConfigurationError: It names none.
    """
    if text in members:
        return SourceKind.MEMBER
    if text == LATEST or BACKUP_NAME.fullmatch(text):
        return SourceKind.STORE
    if text.startswith(PATHS):
        require_file(key, text)
        return SourceKind.FILE
    named = "the name of a member, " if members else ""
    raise ConfigurationError(
        key,
        text,
        "not the name of a backup",
        f"write {named}latest, a name that `etcd-cluster backup list` shows, TOKEN/NAME, or a path such as ./backup.db",
    )


def require_store(key: str, text: str, kind: SourceKind, *, has_store: bool) -> None:
    """Raises `ConfigurationError` for a backup in a store that is not named."""
    if kind is SourceKind.STORE and not has_store:
        fix = "give backup.to, which holds it, or the path of a file, such as ./backup.db"
        raise ConfigurationError(key, text, "there is no store to take it from", fix)
