"""Checks that members' certificates may change the cluster: with etcd's authentication on, few users may."""

from __future__ import annotations

from etcd_cluster.rollout.planner.actions import LEADER_SECONDS, Action, Refusal, WaitFor, WaitReason
from etcd_cluster.rollout.planner.cluster_view import ClusterView
from etcd_cluster.rollout.planner.refusals import RefusedError


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
        refusal = Refusal.NO_ROOT_USER if view.desired.tls else Refusal.AUTHENTICATION_WITHOUT_TLS
        raise RefusedError(refusal, {"members": denied, "commands": commands})
    if view.context.permitted is None or (isinstance(action, Action) and action.only_restores):
        return None
    unknown = [name for name in view.hosts if view.observation.is_healthy(name) and name not in view.context.permitted]
    if not unknown:
        return None
    return WaitFor(WaitReason.RIGHTS_UNKNOWN, LEADER_SECONDS, unknown[0], {"names": unknown})
