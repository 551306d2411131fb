"""What can go wrong on the way to etcd's binaries, and how its text is kept short and free of passwords."""

from __future__ import annotations

import re

from etcd_cluster.errors import EtcdClusterError


class InstallError(EtcdClusterError):
    """etcd's binaries are unavailable, or not what was asked for."""


class ChecksumMismatch(InstallError):
    """A file is not the one that its checksum promises. No other source is tried instead."""


def without_credentials(text: str) -> str:
    """The text with no user name and password in its URLs."""
    return re.sub(r"://[^/@\s]+@", "://", text)


def excerpt(text: str) -> str:
    """The end of what a program wrote, in one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return without_credentials("; ".join(lines[-3:]))[-500:] or "no output"
