"""Defines what can go wrong with etcd's binaries, and keeps those texts short and free of passwords."""

from __future__ import annotations

import re

from etcd_cluster.errors import EtcdClusterError


class InstallError(EtcdClusterError):
    """etcd's binaries are unavailable, or not what was asked for."""


class ChecksumMismatch(InstallError):
    """A file is not the one that its checksum promises. No other source is tried instead."""


def without_credentials(text: str) -> str:
    """Returns the text without user names and passwords in its URLs."""
    return re.sub(r"://[^/@\s]+@", "://", text)


def excerpt(text: str) -> str:
    """Returns the end of a program's output, in one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return without_credentials("; ".join(lines[-3:]))[-500:] or "no output"
