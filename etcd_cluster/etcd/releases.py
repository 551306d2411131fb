"""Describes etcd's official releases: names and contents of their files."""

from __future__ import annotations

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.etcd.versions import Version
from etcd_cluster.releases import Architecture, Project

DEFAULT_MIRROR = "https://github.com/etcd-io/etcd/releases/download"
ETCD = Project("etcd", "install", DEFAULT_MIRROR, ".tar.gz", "tarball")
OLDEST_WITH_ETCDUTL = Version(3, 5, 0)


def release_name(version: str, architecture: Architecture) -> str:
    """Returns the file name of the official release, such as `etcd-v3.6.16-linux-amd64.tar.gz`."""
    return ETCD.file(str(parse_release(version)), architecture)


def release_directory(version: str, architecture: Architecture) -> str:
    """Returns the one directory at the top of that file."""
    return ETCD.folder(str(parse_release(version)), architecture)


def parse_release(version: str) -> Version:
    """Returns a version as releases are named, such as "3.6.16". Raises `ConfigurationError` for anything else."""
    try:
        parsed = Version.parse(version)
    except ValueError:
        parsed = None
    if parsed is None or str(parsed) != version:
        raise ConfigurationError("version", version, "not a version of etcd", "write it like 3.6.16, without a v")
    return parsed


def binary_names(version: str) -> tuple[str, ...]:
    """Returns the names of the programs in a release."""
    return ("etcd", "etcdctl") if parse_release(version) < OLDEST_WITH_ETCDUTL else ("etcd", "etcdctl", "etcdutl")
