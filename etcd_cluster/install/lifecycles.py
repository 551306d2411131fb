"""Installs etcd's binaries on this machine, or sends them to a host.

In a preview, nothing here uses a network, or decides by what is on the disk.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, get_args

from pulumi.dynamic import CheckFailure, CheckResult, CreateResult, DiffResult, UpdateResult
from pulumi.runtime.rpc import UNKNOWN

from etcd_cluster.errors import ConfigurationError, EtcdClusterError, SecretText
from etcd_cluster.etcd.releases import ETCD, parse_release, release_name
from etcd_cluster.install.archives import verify_archive
from etcd_cluster.install.delivery import Destination
from etcd_cluster.install.demo import DEMO_VERSION
from etcd_cluster.install.go_build import build, go_packages
from etcd_cluster.install.sources import archive_path, local_binaries, pinned_here
from etcd_cluster.lifecycle import Lifecycle, Properties
from etcd_cluster.releases import Architecture, InstallSource
from etcd_cluster.ssh.client import OpenSsh
from etcd_cluster.ssh.connection import SshError, parse_connection
from etcd_cluster.ssh.processes import CommandTimeoutError

# Inputs that identify an archive. If the state has the same ones, a preview may run without the file.
_PROMISED = ("version", "source", "archive", "sha256")


def _say(line: str) -> None:
    """Writes a line to standard error, which the engine shows."""
    print(line, file=sys.stderr, flush=True)


class _BinariesLifecycle(Lifecycle):
    """What both kinds share. `sources`: the values of `source`. `compared`: the inputs that an update compares."""

    sources: ClassVar[tuple[str, ...]]
    compared: ClassVar[tuple[str, ...]]

    def check(self, olds: Properties, news: Properties) -> CheckResult:
        failures: list[CheckFailure] = []
        checks: dict[str, Callable[[Any], object]] = {
            "version": parse_release,
            "source": self._require_source,
            "sha256": lambda pins: ETCD.require_pins(pins, news["version"]),
        }
        if news.get("source") in ("release", "auto"):
            checks["mirror"] = lambda mirror: ETCD.require_mirror(SecretText(mirror), news.get("sha256"))
        for key, check in checks.items():
            _collect(failures, key, check, news.get(key))
        if news.get("source") == "archive" and not _same(olds, news, _PROMISED):
            _collect(failures, "archive", partial(archive_path, ETCD), news.get("archive") or "")
        if news.get("source") == "build" and not failures:
            _collect(failures, "version", go_packages, news.get("version"))
        return CheckResult(news, failures)

    def diff(self, id_: str, olds: Properties, news: Properties) -> DiffResult:
        return DiffResult(changes=not _same(olds, news, self.compared), replaces=[])

    def _require_source(self, source: str) -> None:
        if source not in self.sources:
            raise ConfigurationError("install.from", source, "not a source", f"use one of {', '.join(self.sources)}")


class LocalBinariesLifecycle(_BinariesLifecycle):
    """Installs etcd's programs on this machine, into the cache."""

    sources = get_args(InstallSource)
    compared = ("version", "source", "mirror", "archive", "sha256")

    def create(self, props: Properties) -> CreateResult:
        """Installs the programs; a demo may fall back to another version."""
        return CreateResult("local-binaries", self._install(props, demo_fallback=True))

    def update(self, id_: str, olds: Properties, news: Properties) -> UpdateResult:
        # Existing members must not fall back to an older release than their data.
        """Installs again; only what is a demo already may fall back to another version."""
        return UpdateResult(self._install(news, demo_fallback=olds.get("installed_version") == DEMO_VERSION))

    def _install(self, props: Properties, demo_fallback: bool) -> Properties:
        binaries = local_binaries(
            props["version"],
            props["source"],
            mirror=props["mirror"],
            sha256=props.get("sha256"),
            archive=props.get("archive"),
            go_proxy=props.get("go_proxy"),
            say=_say,
            demo_fallback=demo_fallback,
        )
        return {**props, "directory": str(binaries.directory), "installed_version": binaries.version}


class DeliveredBinariesLifecycle(_BinariesLifecycle):
    """Sends a tarball of etcd to a host."""

    sources = ("archive", "build")
    compared = ("version", "source", "archive", "sha256", "machine")

    def check(self, olds: Properties, news: Properties) -> CheckResult:
        """Checks the inputs, and, in an `up` that changes none, whether the host still has the file.

        The host may have been reinstalled.
        """
        looks = news.pop("looks", False)
        result = super().check(olds, news)
        is_unchanged = bool(olds) and not result.failures and _same(olds, news, self.compared)
        news["gone"] = looks and is_unchanged and not _has_tarball(news)
        return result

    def diff(self, id_: str, olds: Properties, news: Properties) -> DiffResult:
        """Reports a change if the inputs differ, or if the host no longer has the file."""
        found = super().diff(id_, olds, news)
        return DiffResult(changes=found.changes or bool(news.get("gone")), replaces=[])

    def create(self, props: Properties) -> CreateResult:
        """Sends the tarball."""
        return CreateResult("delivered-binaries", self._deliver(props))

    def update(self, id_: str, olds: Properties, news: Properties) -> UpdateResult:
        """Sends the desired tarball."""
        return UpdateResult(self._deliver(news))

    def _deliver(self, props: Properties) -> Properties:
        with OpenSsh.for_one_task() as ssh:
            host = Destination(ssh, parse_connection(props["connection"]))
            architecture = host.inspect()
            tarball = self._tarball(props, architecture)
            digest = verify_archive(
                tarball,
                props["version"],
                architecture,
                pinned_here(ETCD, props.get("sha256"), props["version"], architecture),
                key=f"install.{props['source']}",
            )
            path = host.send(tarball, release_name(props["version"], architecture), digest)
        return {**props, "path": path, "delivered_sha256": digest}

    def _tarball(self, props: Properties, architecture: Architecture) -> Path:
        if props["source"] == "archive":
            return archive_path(ETCD, props.get("archive"))
        return build(props["version"], architecture, props.get("go_proxy"), _say)


def _has_tarball(props: Mapping[str, Any]) -> bool:
    """Returns whether the host has the tarball; True if the host cannot be asked: a later step there reports why."""
    try:
        with OpenSsh.for_one_task() as ssh:
            return Destination(ssh, parse_connection(props["connection"])).has_tarball(props["version"])
    except (SshError, CommandTimeoutError):
        return True


def _same(olds: Mapping[str, Any], news: Mapping[str, Any], keys: tuple[str, ...]) -> bool:
    return all(olds.get(key) == news.get(key) for key in keys)


def _collect(failures: list[CheckFailure], key: str, check: Callable[[Any], object], value: Any) -> None:
    if value is None or value == UNKNOWN:
        return
    try:
        check(value)
    except EtcdClusterError as error:
        failures.append(CheckFailure(key, str(error)))
