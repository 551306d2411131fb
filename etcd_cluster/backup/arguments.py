"""Defines the typed arguments of a cluster's backups."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, get_args

import pulumi

from etcd_cluster.backup.store import (
    StoreUrl,
    require_ca,
    require_encryption_password,
    require_endpoint,
    require_store,
)
from etcd_cluster.errors import HIDDEN, ConfigurationError
from etcd_cluster.names import Word
from etcd_cluster.rclone import RcloneInstall, validate_rclone
from etcd_cluster.secrecy import as_input
from etcd_cluster.ssh.key_texts import HostKey, PrivateKey
from etcd_cluster.typed import Between

Interval = Literal["5m", "10m", "15m", "20m", "30m", "1h", "2h", "3h", "4h", "6h", "8h", "12h", "24h"]
"""All of them divide a day, so that backups are made at the same times each day."""
TestInterval = Literal["daily", "weekly", "never"]

BACKUP_NAME = re.compile(r"([0-9a-f]{32}/)?[0-9]{8}T[0-9]{6}Z-[0-9]+-[A-Za-z0-9._-]+")
"""SLOT-REVISION-MEMBER, with the token of its cluster before it or not."""
SECRET = (
    *("to", "endpoint", "region", "ca", "access_key", "secret_key", "private_key", "host_key"),
    "encryption_password",
)
"""Arguments that may be secrets of the stack's config."""
SECONDS = {"m": 60, "h": 3600}
TEST_SECONDS = {"daily": 86_400, "weekly": 7 * 86_400}
"""Interval of tests -> seconds; never has none."""


@dataclass(frozen=True)
class Keep:
    """How many backups are kept. The newest, the newest that passed a restore, and marked ones are always kept."""

    last: Annotated[int, Between(1, 10_000)] = 24
    """The newest backups, default 24."""
    daily: Annotated[int, Between(0, 10_000)] = 14
    """Days of which the newest backup is kept, default 14."""
    weekly: Annotated[int, Between(0, 10_000)] = 8
    """Weeks of which the newest backup is kept, default 8."""


@dataclass(frozen=True)
class Backup:
    """Backups of a cluster into a store outside of it. Only `to` is required."""

    to: pulumi.Input[Annotated[str, require_store]]
    """The store: `s3://BUCKET/PREFIX` (Amazon S3, or any store that speaks its protocol at `endpoint`),
    `gs://BUCKET/PREFIX`, `azure://ACCOUNT/CONTAINER/PREFIX`, `sftp://USER@HOST:PORT/FOLDER`, or the absolute path of
    a folder that is on all machines, such as a network file system.
    """
    make_bucket: bool = False
    """Make that bucket, on AWS and Google Cloud: private, encrypted, versioned, and with a role for machines that have
    none; default False. It outlives the stack, and the next `up` takes it up again.
    """
    every: Interval = "1h"
    """Time between two backups: 5m, 10m, 15m, 20m, 30m, 1h (default), 2h, 3h, 4h, 6h, 8h, 12h or 24h."""
    keep: Keep = field(default_factory=Keep)
    """How many are kept; default 24, and the newest of 14 days and of 8 weeks."""
    test: TestInterval = "daily"
    """How often a backup is fetched from the store and restored to prove it: daily (default), weekly or never."""
    endpoint: pulumi.Input[Annotated[str, require_endpoint]] | None = None
    """URL of a store that speaks the protocol of S3, of Google Cloud Storage (`https://HOST/storage/v1/`) or of Azure;
    default Amazon's, Google's or Microsoft's.
    """
    region: pulumi.Input[Word] | None = None
    """Region of the bucket; default the machine's, and us-east-1 with `endpoint`."""
    ca: pulumi.Input[Annotated[str, require_ca]] | None = None
    """PEM of the CA that signs the store's certificate; default the CAs that the machine trusts."""
    access_key: pulumi.Input[Word] | None = None
    """Id of the key for S3; default the role of the machine."""
    secret_key: pulumi.Input[str] | None = None
    """The secret of `access_key`; for Google Cloud the JSON of a service account's key, for Azure the account's key.
    Default the role of the machine. Kept secret.
    """
    private_key: pulumi.Input[PrivateKey] | None = None
    """Text of an unencrypted SSH private key for sftp. Kept secret."""
    host_key: pulumi.Input[HostKey] | None = None
    """Public SSH host key of an sftp server, pinned."""
    encryption_password: pulumi.Input[Annotated[str, require_encryption_password]] | None = None
    """Encrypts the content of backups on the machine, by rclone's crypt; default none. Their
    names stay readable. Without this password nobody can read them: keep it where the cluster is not. Kept secret.
    """
    rclone: RcloneInstall = field(default_factory=RcloneInstall)
    """Where rclone comes from, the program that carries backups."""
    append_only: bool = False
    """The credentials may not delete: the store itself expires old backups. Default False."""


def interval_seconds(interval: str) -> int:
    """Returns the length of an interval such as 15m or 1h."""
    return int(interval[:-1]) * SECONDS[interval[-1]]


def validate_backup(backup: Backup) -> Backup:
    """Returns the arguments, with secret ones as secret Outputs; refuses what does not go together.

    Raises:
        ConfigurationError: It names the key, and what to do.
    """
    _require_choice("every", backup.every, get_args(Interval))
    _require_choice("test", backup.test, get_args(TestInterval))
    scheme = StoreUrl.parse(backup.to).scheme if isinstance(backup.to, str) else None
    given: dict[str, tuple[object, Sequence[str]]] = {
        "endpoint": (backup.endpoint, ("s3", "gs", "azure")),
        "region": (backup.region, ("s3",)),
        "accessKey": (backup.access_key, ("s3",)),
    }
    for key, (argument, schemes) in given.items():
        if argument is not None and scheme not in (None, *schemes):
            raise ConfigurationError(f"backup.{key}", HIDDEN, f"nothing uses it with {scheme}://", "leave it out")
    # Of a store that is not known yet, `secretKey` alone may be that of Google Cloud or Azure.
    lacks_access_key = scheme == "s3" and backup.access_key is None and backup.secret_key is not None
    if lacks_access_key or (scheme in (None, "s3") and backup.access_key is not None and backup.secret_key is None):
        raise ConfigurationError(
            "backup.secretKey" if backup.secret_key is None else "backup.accessKey",
            None,
            "missing, and the other half of the credentials is given",
            "give accessKey and secretKey, or neither for the machine's role",
        )
    if scheme == "sftp" and (backup.private_key is None or backup.host_key is None):
        raise ConfigurationError(
            "backup.privateKey" if backup.private_key is None else "backup.hostKey",
            None,
            "missing, and sftp needs a private key and the server's pinned host key",
            "give both: ssh-keyscan -t ed25519 HOST prints the host key",
        )
    unused: dict[str, object] = {
        "secretKey": backup.secret_key if scheme in ("file", "sftp") else None,
        "privateKey": backup.private_key if scheme not in (None, "sftp") else None,
        "hostKey": backup.host_key if scheme not in (None, "sftp") else None,
    }
    for key, unwanted in unused.items():
        if unwanted is not None:
            raise ConfigurationError(f"backup.{key}", HIDDEN, f"nothing uses it with {scheme}://", "leave it out")
    return replace(as_inputs(backup), rclone=validate_rclone(backup.rclone))


def as_inputs(backup: Backup) -> Backup:
    """Returns the arguments, with every text that is a secret of the stack's config as a secret Output."""
    secret = {name: as_input(getattr(backup, name)) for name in SECRET}
    return replace(backup, **secret)


def _require_choice(key: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ConfigurationError(f"backup.{key}", value, "not one of these", f"choose one of {', '.join(choices)}")
