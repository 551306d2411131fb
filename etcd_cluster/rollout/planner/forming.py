"""Decides which machines may form the cluster.

Data, histories and notes on all machines decide, together with the record of forming. A cluster is never formed just
because a resource is created again.
"""

from __future__ import annotations

from dataclasses import replace

from etcd_cluster.member.layout import FOUNDING
from etcd_cluster.rollout.observed import History, Host
from etcd_cluster.rollout.planner.actions import Refusal
from etcd_cluster.rollout.planner.cluster_view import ClusterView
from etcd_cluster.rollout.planner.refusals import RefusedError


def may_form(view: ClusterView, name: str) -> bool:
    """Returns whether the machine of `name`, which has no data, may start as one of the members that form the cluster.

    Preconditions: no rollout of this stack ended well; the record names founders; every machine was observed, including
    machines that were listed before. In addition, one of these:
    - Nothing of a member is left on any of them.
    - Forming was cut short. All members with data are still founding; this machine is in the record, and etcd was never
      told to start on it; and the members with data agree: they list this member as one that never started, or have
      never had a leader. A reinstalled machine may have its old id, so its own report is not enough.
    """
    if not view.context.forming or view.observation.unreachable or not _has_founders(view):
        return False
    hosts, host = view.observation.hosts.values(), view.hosts[name]
    if not any(was_used(view, each) for each in hosts):
        return True
    having = [each for each in hosts if each.data]
    if host.machine != view.desired.members[name].founder or host.forming or host.history != History():
        return False
    if was_used(view, host):
        return False
    if not having or any(each.history.members != FOUNDING for each in having):
        return False
    if view.observation.status_source is None:
        return all(_never_had_a_leader(view, each) for each in having)
    listed = view.listed(name)
    return listed is not None and not listed.started and not listed.learner


def _never_had_a_leader(view: ClusterView, host: Host) -> bool:
    """Returns whether a member's own log shows that it never had a leader.

    Forming leaves one entry for each founder in the log, and every leader adds one.
    """
    founders = sum(bool(member.founder) for member in view.desired.members.values())
    return host.live is not None and 0 < max(host.live.applied, host.live.committed) <= founders


def was_used(view: ClusterView, host: Host) -> bool:
    """Returns whether a member had data on a machine, even if the data are gone.

    A history written before the first start is no sign of that: the start may never have happened.
    """
    has_history = host.history not in (History(), replace(host.history, members=FOUNDING))
    return host.data or bool(host.pid) or has_history or host.formed == view.desired.token


def require_possible(view: ClusterView) -> None:
    """Raises `RefusedError` if the cluster is still to be formed, and must not be."""
    hosts = view.observation.hosts
    if not view.context.forming or any(host.data or host.pid for host in hosts.values()):
        return
    if view.observation.unreachable:
        raise RefusedError(Refusal.FORMING_UNREACHABLE, {"unreachable": view.observation.unreachable})
    lost = [name for name, host in hosts.items() if was_used(view, host)]
    if lost:
        raise RefusedError(Refusal.FORMING_WITH_LOST_DATA, {"lost": lost})
    if not _has_founders(view):
        raise RefusedError(Refusal.FORMING_WITHOUT_FOUNDERS)


def _has_founders(view: ClusterView) -> bool:
    return any(member.founder for member in view.desired.members.values())
