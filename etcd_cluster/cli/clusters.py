"""Finds the etcd clusters of a stack in its state, by their type: whatever the program exports, and under any names."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from etcd_cluster.cli.command import CommandError
from etcd_cluster.cli.stacks import Stack, StackResource, read_stack

if TYPE_CHECKING:
    from etcd_cluster.rollout.desired import DesiredCluster

DIAL_ATTEMPTS = 2
"""Attempts to connect. An `up` makes more, but the user of a command waits for the answer."""
CLUSTER_TYPE = "etcd-cluster:index:EtcdCluster"
ROLLOUT_TYPE = "pulumi-python:dynamic/cluster:Rollout"
BACKUPS_TYPE = "pulumi-python:dynamic/cluster:BackupSchedule"
METRICS_TYPE = "pulumi-python:dynamic/cluster:MetricsEndpoints"
CA_TYPE = "pulumi-python:dynamic/pki:CertificateAuthority"
CERTIFICATE_TYPE = "pulumi-python:dynamic/pki:Certificate"


@dataclass(frozen=True)
class Cluster:
    """One running cluster, as recorded by the last `up` that ended well.

    Attributes:
        name: The name by which the program registered the component.
        stack: The stack that it belongs to.
        outputs: Outputs of the component: endpoints, members, caCertificate, clientCertificate, clientKey, version.
        rollout: The inputs of its rollout.
        cas: Name -> inputs, of the CAs that Pulumi made and that belong to no other cluster.
        certificates: Inputs of its certificates.
    """

    name: str
    stack: Stack = field(repr=False)
    outputs: Mapping[str, Any] = field(repr=False)
    rollout: Mapping[str, Any] = field(repr=False)
    cas: Mapping[str, Mapping[str, Any]] = field(repr=False)
    certificates: Sequence[Mapping[str, Any]] = field(repr=False)

    def desired(self) -> DesiredCluster:
        """Returns the desired state. The stack must have been read with its secrets."""
        from etcd_cluster.rollout.desired import DesiredCluster

        return DesiredCluster.parse(self._read()["desired"])

    @property
    def connections(self) -> Mapping[str, Mapping[str, Any]]:
        """Member name -> SSH connection; members on this machine have none."""
        return self._read().get("connections") or {}

    def _read(self) -> Mapping[str, Any]:
        """Returns the rollout's inputs as of the current schema.

        An older release may have written the state; the state of a newer release is refused.
        """
        from etcd_cluster.rollout.lifecycle import RolloutLifecycle

        return RolloutLifecycle.schema.read(self.rollout)


def selected_cluster(options: argparse.Namespace, *, secrets: bool) -> Cluster:
    """Returns the cluster that the global options name.

    Args:
        options: With `stack`, `cluster` and `cwd`.
        secrets: Whether the stack's secrets are decrypted.

    Raises:
        CommandError: There is no such cluster, or there are several and none was named.
    """
    return select(read_stack(options.stack, options.cwd, secrets=secrets), options.cluster)


def select(stack: Stack, name: str | None) -> Cluster:
    """Returns the cluster of that name; without a name, the only one.

    Raises:
        CommandError: There is no such cluster, or there are several and none was named.
    """
    components = [each for each in stack.resources if each.type == CLUSTER_TYPE]
    names = ", ".join(sorted(each.name for each in components))
    if not components:
        raise CommandError(f"stack {stack.name} has no cluster that is up. Run `pulumi up`, or scripts/up, first")
    if name is None and len(components) > 1:
        raise CommandError(
            f"stack {stack.name} has {len(components)} clusters: {names}. Choose one with --cluster NAME"
        )
    component = next((each for each in components if name in (None, each.name)), None)
    if component is None:
        raise CommandError(f"--cluster {name}: stack {stack.name} has no cluster of that name. It has: {names}")
    return _cluster(stack, component, components)


def every(stack: Stack) -> list[Cluster]:
    """Returns all clusters of a stack.

    Raises:
        CommandError: There is none, or one of them is not up.
    """
    names = [each.name for each in stack.resources if each.type == CLUSTER_TYPE]
    return [select(stack, name) for name in sorted(names)] or [select(stack, None)]


def _cluster(stack: Stack, component: StackResource, components: Sequence[StackResource]) -> Cluster:
    children = [each for each in stack.resources if each.parent == component.urn]
    rollout = next((each for each in children if each.type == ROLLOUT_TYPE and each.inputs.get("desired")), None)
    if rollout is None or "endpoints" not in component.outputs:
        raise CommandError(
            f"stack {stack.name}: cluster {component.name} is not up: no `up` has ended well yet. Run `pulumi up`, or "
            "scripts/up, first"
        )
    others = {each.urn for each in components} - {component.urn}
    cas = {each.name: each.inputs for each in stack.resources if each.type == CA_TYPE and each.parent not in others}
    certificates = [each.inputs for each in children if each.type == CERTIFICATE_TYPE]
    return Cluster(component.name, stack, component.outputs, rollout.inputs, cas, certificates)


def with_few_attempts(connections: Mapping[str, Any]) -> dict[str, Any]:
    """Returns member name -> SSH connection, for somebody who waits: a machine that is away is given up soon."""
    return {name: {**each, "dialErrorLimit": DIAL_ATTEMPTS} for name, each in connections.items()}


def recorded_backups(stack: Stack, cluster: str | None) -> Mapping[str, Any] | None:
    """Returns the inputs of a cluster's backups, as of the current schema; None if it has none.

    A cluster on this machine whose config has no `backup` has those that people make on demand, in the default folder.

    Args:
        stack: The stack, read with its secrets.
        cluster: Name of the cluster; None for the only one that has backups.

    Raises:
        CommandError: Several clusters have backups, and none was named.
    """
    from etcd_cluster.backup.schedule_lifecycle import BackupScheduleLifecycle

    owners = {each.urn: each.name for each in stack.resources if each.type == CLUSTER_TYPE}
    found = {
        owners.get(each.parent, each.name.removesuffix("-backups")): each.inputs
        for each in stack.resources
        if each.type == BACKUPS_TYPE
    }
    if cluster is not None:
        found = {name: inputs for name, inputs in found.items() if name == cluster}
    if len(found) > 1:
        raise CommandError(
            f"stack {stack.name} has backups of {len(found)} clusters: {', '.join(sorted(found))}. Choose one with "
            "--cluster NAME"
        )
    if not found:
        return _backups_on_this_machine(stack, cluster)
    return next(BackupScheduleLifecycle.schema.read(each) for each in found.values())


def _backups_on_this_machine(stack: Stack, name: str | None) -> Mapping[str, Any] | None:
    from etcd_cluster.backup.arguments import Backup
    from etcd_cluster.state_folder import backup_folder

    if not any(each.type == CLUSTER_TYPE and name in (None, each.name) for each in stack.resources):
        return None
    desired = select(stack, name).desired()
    if any(member.layout.supervisor != "process" for member in desired.members.values()):
        return None
    backup = Backup(to=str(backup_folder(os.environ)))
    return {
        "cluster": desired.cluster,
        "token": desired.token,
        "to": backup.to,
        "every": backup.every,
        "keep": dict(vars(backup.keep)),
        "test": backup.test,
        "append_only": backup.append_only,
        "members": {
            member.name: {"layout": dict(vars(member.layout)), "ports": dict(vars(member.ports))}
            for member in desired.members.values()
        },
        "credentials": {},
        "rclone": {},
        "connections": {},
    }


def recorded_metrics(stack: Stack, cluster: str) -> Mapping[str, Any]:
    """Returns the inputs of what exposes a cluster's metrics, as of the current schema.

    Raises:
        CommandError: They are not exposed.
    """
    from etcd_cluster.monitoring.endpoints_lifecycle import MetricsEndpointsLifecycle

    owners = {each.urn: each.name for each in stack.resources if each.type == CLUSTER_TYPE}
    for each in stack.resources:
        if each.type == METRICS_TYPE and owners.get(each.parent) == cluster:
            return MetricsEndpointsLifecycle.schema.read(each.inputs)
    raise CommandError(f"cluster {cluster} exposes no metrics. Set `monitoring: {{}}`, then run `pulumi up`")
