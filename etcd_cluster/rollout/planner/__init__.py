"""Decides the next action for a cluster from its desired state and an observation. Pure: no effects, no clock.

Rules that every decision keeps (each function names its own preconditions):
- One member at a time: unhealthy members first, the leader last, after it has handed leadership over. Before each
  member, every other voter is healthy; after each member, that member serves and has caught up, or the run ends there.
- Before and after every step, each pair of running members is active both ways. Only a step that may reconnect members
  is taken otherwise, and leadership goes only to a member that all others reach.
- A running member is removed only if it is to leave the cluster. No member is removed unless a majority of the
  remaining voters takes part.
- A member is removed before another one is added; new members join as learners and are promoted once in sync.
- A restore that takes the place of a cluster's data is done once, for the cluster that the stack names by its id: see
  restoration.py. It deletes nothing.
- Users and roles of etcd change while all members run one version; each member has a user of its own, before it joins.
- No member starts with an etcd of an older minor version than its data, and the cluster: see data_version.py.
- A cluster is formed only where no machine holds anything of a member, or where forming was cut short: see forming.py.
"""

from __future__ import annotations

from etcd_cluster.clocks import CLOCK_TOLERANCE_SECONDS, are_apart, describe, rfc3339
from etcd_cluster.member.render import Transport
from etcd_cluster.pki import x509
from etcd_cluster.rollout.desired import DesiredCluster
from etcd_cluster.rollout.observed import History, Observation
from etcd_cluster.rollout.planner import (
    alarms,
    data,
    data_version,
    membership,
    peers,
    quorum,
    reconnect,
    repair,
    restoration,
    rights,
    rolling_restart,
    security,
    space,
    start,
    upgrade,
    users,
)
from etcd_cluster.rollout.planner.actions import Action, ActionKind, Drift, Refusal, WaitFor
from etcd_cluster.rollout.planner.cluster_view import ClusterView
from etcd_cluster.rollout.planner.refusals import RefusedError
from etcd_cluster.rollout.planner.run_context import RunContext

_ASK_ETCD = (ActionKind.BACK_UP, ActionKind.SNAPSHOT, ActionKind.MOVE_LEADER)
"""The steps of a restore in which etcd's users have a say."""


def next_action(desired: DesiredCluster, observation: Observation, context: RunContext) -> Action | WaitFor | None:
    """Returns the next action or wait; None if the cluster is in the desired state.

    Args:
        desired: The desired state.
        observation: What the machines and the cluster report now.
        context: What this run knows besides.

    Raises:
        RefusedError: The desired state cannot be reached safely from here.
    """
    view = ClusterView(desired, observation, context)
    _require_answers(view)
    data.require_in_place(view)
    restoring = restoration.act(view)
    if restoring is None:
        data.require_one_cluster(view)
        users.require_own(view)
    action = restoring or _next(view)
    if action is not None:
        _require_clocks_together(view)
        _require_valid_certificates(view)
        alarms.require_room(view)
        if isinstance(action, Action):
            data_version.require_fitting(view, action)
        if restoring is not None:
            asks_etcd = isinstance(restoring, Action) and restoring.kind in _ASK_ETCD
            has_leader = view.observation.leader is not None
            return (users.restore_rights(view, restoring) if asks_etcd and has_leader else None) or restoring
        return users.restore_rights(view, action) or rights.require(view, action) or action
    return None


def differences(desired: DesiredCluster, observation: Observation, name: str) -> list[Drift]:
    """Returns how one member differs from the desired state."""
    return repair.differences(ClusterView(desired, observation, RunContext()), name)


def _next(view: ClusterView) -> Action | WaitFor | None:
    return (
        data.require_visible(view)
        or quorum.await_one_cluster(view)
        or data_version.require_desired(view)
        or repair.prepare(view)
        or repair.repair_certificates(view)
        or membership.replace_ended(view)
        or start.start(view)
        or start.await_leader(view)
        or membership.go_on(view)
        or rolling_restart.unhealthy_first(view)
        or reconnect.reconnect(view)
        or peers.await_every_pair(view)
        or users.change(view)
        or membership.change(view)
        or restoration.require_the_rest(view)
        or space.make_room(view)
        or security.change(view)
        or upgrade.before_another_version(view)
        or space.while_restarting(view, rolling_restart.roll(view))
        or space.defragment_as_desired(view)
        or repair.write_pending_files(view)
        or alarms.standing(view)
    )


def _require_answers(view: ClusterView) -> None:
    missing = restoration.may_be_missing(view)
    unreachable = {
        name: why
        for name, why in view.observation.unreachable.items()
        if name in view.desired.members and name not in missing
    }
    if unreachable:
        raise RefusedError(Refusal.UNREACHABLE, {"unreachable": unreachable})
    for name, host in view.hosts.items():
        if host.foreign:
            raise RefusedError(Refusal.FOREIGN_ETCD, {"member": name, "database": host.foreign})
        if host.other_service:
            raise RefusedError(Refusal.OTHER_SERVICE, {"member": name, "service": host.other_service})
        if host.foreign_unit_files:
            raise RefusedError(Refusal.UNIT_CHANGED, {"member": name, "paths": host.foreign_unit_files})
        if host.token not in ("", view.desired.token) and (host.data or host.history != History()):
            details = {"member": name, "token": host.token, "own": view.desired.token}
            raise RefusedError(Refusal.DATA_OF_ANOTHER_CLUSTER, details)


def _require_clocks_together(view: ClusterView) -> None:
    """Raises `RefusedError` if the clock of a machine is too far from the clock of this one.

    With clocks apart, a certificate that is not valid yet cuts a member off, and leases end when they should not.
    """
    for name, ahead in view.observation.clocks.items():
        if name in view.hosts and are_apart(ahead):
            details = {"member": name, "clock": describe(name, ahead), "tolerance": CLOCK_TOLERANCE_SECONDS}
            raise RefusedError(Refusal.CLOCKS_APART, details)


def _require_valid_certificates(view: ClusterView) -> None:
    """Raises `RefusedError` if a new certificate is not valid yet by the clock of its machine.

    Such a certificate would cut the member off until it becomes valid.
    """
    for name, host in view.hosts.items():
        for transport in Transport:
            pair = view.desired.members[name].pair(transport)
            starts = x509.validity_of(pair.certificate).not_before if pair else None
            if starts and starts.timestamp() > host.clock:
                details = {"member": name, "starts": rfc3339(starts)}
                raise RefusedError(Refusal.CERTIFICATE_NOT_VALID_YET, details)
