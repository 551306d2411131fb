"""Checks that members' certificates may change the cluster: with etcd's authentication on, few users may."""

from __future__ import annotations

from collections.abc import Sequence

from etcd_cluster.rollout.desired import DesiredCluster
from etcd_cluster.rollout.observed import Observation
from etcd_cluster.rollout.planner.actions import LEADER_SECONDS, Action, ActionKind, Refusal, WaitFor, WaitReason
from etcd_cluster.rollout.planner.cluster_view import ClusterView
from etcd_cluster.rollout.planner.refusals import RefusedError

OF_USERS = (ActionKind.SET_USERS, ActionKind.ENABLE_AUTHENTICATION, ActionKind.DISABLE_AUTHENTICATION)
"""Actions that give members their users, or that need none any more."""


def require(view: ClusterView, action: Action | WaitFor) -> WaitFor | None:
    """Returns a wait while it is unknown whether a member may change the cluster; None if every member may.

    This is a precondition of every change, for members that are to join or to leave as well. Actions that restore what
    a member needs in order to answer are exempt from the wait; starts, and those that are about users, from all of it.
    With TLS, all goes on until a leader answers: nothing that is done before asks etcd, and nobody can change users.

    Raises:
        RefusedError: A member may not change the cluster.
    """
    if isinstance(action, Action) and action.kind in (*OF_USERS, ActionKind.START):
        return None
    if found := denied(view.desired, view.observation):
        if view.desired.tls and view.observation.status_source is None:
            return None
        raise refusal(view.desired, found)
    return None if isinstance(action, Action) and action.only_restores else await_answers(view)


def denied(desired: DesiredCluster, observation: Observation) -> Sequence[str]:
    """Returns the members whose certificates may not change the cluster, also such as are yet to join."""
    found = [name for name, host in observation.hosts.items() if host.may_administer is False]
    if observation.users is not None:
        found += [name for name in desired.members if name not in {*observation.users, *found}]
    return found


def refusal(desired: DesiredCluster, members: Sequence[str]) -> RefusedError:
    """Returns why nothing goes on: the certificates of these members may not change the cluster."""
    commands = "; ".join(
        f"etcdctl user add {name} --no-password; etcdctl user grant-role {name} root" for name in members
    )
    kind = Refusal.NO_ROOT_USER if desired.tls else Refusal.AUTHENTICATION_WITHOUT_TLS
    return RefusedError(kind, {"members": members, "commands": commands})


def await_answers(view: ClusterView) -> WaitFor | None:
    """Returns a wait while it is unknown of a healthy member whether it may change the cluster; None if it is known."""
    if view.context.permitted is None:
        return None
    unknown = [name for name in view.hosts if view.observation.is_healthy(name) and name not in view.context.permitted]
    if not unknown:
        return None
    return WaitFor(WaitReason.RIGHTS_UNKNOWN, LEADER_SECONDS, unknown[0], {"names": unknown})


def required_in_data(desired: DesiredCluster) -> str:
    """Returns NAME,... of the members that have to be users of role root in data that are restored; "" if none has to.

    Where the stack names users, the certificate of the user root gives members theirs: see `users.restore_rights`.
    """
    return ",".join(desired.members) if desired.users is None else ""
