"""Checks that members' certificates may change the cluster: with etcd's authentication on, few users may."""

from __future__ import annotations

from etcd_cluster.rollout.planner.actions import LEADER_SECONDS, Action, RefusedError, WaitFor, WaitReason
from etcd_cluster.rollout.planner.cluster_view import ClusterView


def require(view: ClusterView, action: Action | WaitFor) -> WaitFor | None:
    """Returns a wait while it is unknown whether a member may change the cluster; None if every member may.

    This is a precondition of every change, for members that are to join or to leave as well. Actions that restore what
    a member needs in order to answer are exempt from the wait.

    Raises:
        RefusedError: A member may not change the cluster.
    """
    denied = [name for name, host in view.observation.hosts.items() if host.may_administer is False]
    if view.observation.users is not None:
        denied += [name for name in view.desired.members if name not in {*view.observation.users, *denied}]
    if denied:
        commands = "; ".join(
            f"etcdctl user add {name} --no-password; etcdctl user grant-role {name} root" for name in denied
        )
        remedy = f"As root, run: {commands}" if view.desired.tls else "Turn it off (etcdctl auth disable)"
        raise RefusedError(
            f"etcd's authentication is on, and {', '.join(denied)} may not change the cluster. Expected is a user of "
            "role root by the name of every member, as its certificate has it: handing leadership over, snapshots and "
            f"changes of the membership need that. Nothing more was changed. {remedy}; then run `pulumi up` again"
        )
    if view.context.permitted is None or (isinstance(action, Action) and action.only_restores):
        return None
    unknown = [name for name in view.hosts if view.observation.is_healthy(name) and name not in view.context.permitted]
    if not unknown:
        return None
    return WaitFor(WaitReason.RIGHTS_UNKNOWN, LEADER_SECONDS, unknown[0], {"names": unknown})
