"""Gives every machine etcd's programs: by release (each downloads for itself), sent from here, or found on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pulumi

from etcd_cluster.install.resources import DeliveredBinaries, LocalBinaries
from etcd_cluster.machines import Machine
from etcd_cluster.settings import Install

Variables = Mapping[str, pulumi.Input[str]]
"""What prepare.sh reads: `version` that is really installed, and where its programs come from."""


def provide_binaries(
    cluster: str,
    machines: Sequence[Machine],
    install: Install,
    version: str,
    *,
    founders: pulumi.Output[dict[str, str]],
    opts: pulumi.ResourceOptions,
) -> Mapping[str, Variables]:
    """Member name -> variables. Nothing is sent to a machine before `founders`, the result of preflight, is known."""
    on_this_machine: Variables | None = None
    provided: dict[str, Variables] = {}
    for machine in machines:
        if machine.connection is None:
            on_this_machine = on_this_machine or _local(cluster, install, version, opts)
            provided[machine.name] = on_this_machine
        elif install.source == "release":
            provided[machine.name] = {"version": version, "pinned_sha256": install.sha256 or ""}
        else:
            provided[machine.name] = _delivered(cluster, machine, install, version, founders, opts)
    return provided


def _local(cluster: str, install: Install, version: str, opts: pulumi.ResourceOptions) -> Variables:
    binaries = LocalBinaries(
        f"{cluster}-binaries",
        version=version,
        source=install.source or "auto",
        mirror=install.mirror,
        sha256=install.sha256,
        archive=install.archive,
        go_proxy=install.go_proxy,
        opts=opts,
    )
    return {"version": binaries.installed_version, "local_binaries": binaries.directory}


def _delivered(
    cluster: str,
    machine: Machine,
    install: Install,
    version: str,
    founders: pulumi.Output[dict[str, str]],
    opts: pulumi.ResourceOptions,
) -> Variables:
    assert machine.connection is not None and install.source is not None
    delivered = DeliveredBinaries(
        f"{cluster}-{machine.name}-binaries",
        version=version,
        source=install.source,
        connection=machine.connection,
        machine=founders.apply(lambda identities: identities[machine.name]),
        sha256=install.sha256,
        archive=install.archive,
        go_proxy=install.go_proxy,
        opts=pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(deleted_with=machine.deleted_with)),
    )
    return {
        "version": version,
        "delivered_archive": delivered.path,
        "delivered_sha256": delivered.delivered_sha256,
    }
