"""Gives every machine etcd's programs: downloaded there, sent there, or found on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pulumi
from pulumi_command.remote import ConnectionArgs

from etcd_cluster.etcd.releases import ETCD
from etcd_cluster.formation import Formation
from etcd_cluster.install.resources import DeliveredBinaries, LocalBinaries
from etcd_cluster.machines.machine import Machine
from etcd_cluster.releases import ARCHITECTURES
from etcd_cluster.secrecy import as_input
from etcd_cluster.settings import Settings

Variables = Mapping[str, pulumi.Input[str]]
"""Variables of prepare.sh: the installed `version`, and where its programs come from."""


def provide_binaries(
    cluster: str,
    machines: Sequence[Machine],
    identities: Mapping[str, pulumi.Output[str]],
    settings: Settings,
    formation: Formation,
    parent: pulumi.Resource,
) -> Mapping[str, Variables]:
    """Gives every machine etcd's programs, and returns member name -> variables of prepare.sh.

    Args:
        cluster: The component's name.
        machines: Where members run.
        identities: Member name -> id of its machine, to which a tarball is sent once.
        settings: What to install, from where.
        formation: Nothing is built or sent before this resource exists: the preflight of all machines has passed then.
        parent: The component.
    """
    opts = pulumi.ResourceOptions(parent=parent, depends_on=[formation])
    provided: dict[str, Variables] = {}
    here = [machine for machine in machines if machine.connection is None]
    if here:
        provided |= dict.fromkeys((machine.name for machine in here), _on_this_machine(cluster, settings, opts))
    for machine in machines:
        if machine.connection is None:
            continue
        if settings.install_source == "release":
            provided[machine.name] = {"version": settings.version, **_pins(settings)}
        else:
            identity = identities[machine.name]
            provided[machine.name] = _sent(cluster, machine, machine.connection, identity, settings, opts)
    return provided


def _pins(settings: Settings) -> dict[str, pulumi.Input[str]]:
    pins, version = settings.install.sha256, settings.version
    return {f"pinned_{each}": ETCD.pinned_sum(pins, version, each) or "" for each in ARCHITECTURES}


def _on_this_machine(cluster: str, settings: Settings, opts: pulumi.ResourceOptions) -> Variables:
    install = settings.install
    binaries = LocalBinaries(
        f"{cluster}-binaries",
        version=settings.version,
        source=settings.install_source,
        mirror=install.mirror,
        sha256=as_input(install.sha256),
        archive=as_input(install.archive),
        go_proxy=install.go_proxy,
        opts=opts,
    )
    return {"version": binaries.installed_version, "local_binaries": binaries.directory}


def _sent(
    cluster: str,
    machine: Machine,
    connection: ConnectionArgs,
    identity: pulumi.Output[str],
    settings: Settings,
    opts: pulumi.ResourceOptions,
) -> Variables:
    install = settings.install
    delivered = DeliveredBinaries(
        f"{cluster}-{machine.name}-binaries",
        version=settings.version,
        source=settings.install_source,
        connection=connection,
        machine=identity,
        sha256=as_input(install.sha256),
        archive=as_input(install.archive),
        go_proxy=install.go_proxy,
        opts=pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(deleted_with=machine.deleted_with)),
    )
    return {
        "version": settings.version,
        "delivered_archive": delivered.path,
        "delivered_sha256": delivered.delivered_sha256,
    }
