"""What does not run: members that form the cluster, or that stopped."""

from __future__ import annotations

from etcd_cluster.rollout.observed import FOUNDING, History
from etcd_cluster.rollout.planner import forming, quorum, rolling_restart
from etcd_cluster.rollout.planner.actions import LEADER_SECONDS, Action, HostStep, RefusedError, WaitFor
from etcd_cluster.rollout.planner.cluster_view import ClusterView
from etcd_cluster.rollout.wanted import series

A_LEADER = "a leader"
"""Topic of all waits for one, whatever else is found meanwhile."""


def start(view: ClusterView) -> Action | None:
    """Members that do not run, all at once: starting them takes nothing from a quorum.

    Precondition of a start with data: the cluster has not ended that membership; where it cannot be asked, nobody
    leads, by what those say that run: it is no loss to a majority of others, and may be what is missing from one.
    Precondition of a start without data: see forming.py.
    """
    calls: list[HostStep] = []
    nobody_leads = not view.following() and not quorum.may_be_held(view, by_those_asked=True)
    for name, host in view.hosts.items():
        if host.pid:
            continue
        if host.data and not view.was_removed(name) and (view.seen.status_source or nobody_leads):
            calls.append(_start_call(view, name))
        elif not host.data and forming.may_form(view, name):
            calls.append(_form_call(view, name))
    return Action("starting", calls) if calls else None


def _form_call(view: ClusterView, name: str) -> HostStep:
    wanted, version = view.wanted, view.wanted.version
    spec = view.spec(name, version, wanted.security)
    urls = {each: view.spec(each, version, wanted.security).peer_url for each in wanted.members}
    return HostStep(
        name,
        "apply",
        rolling_restart.apply_line(view, name, "start", version, "listening", "starting"),
        [
            *wanted.leaf_files(name),
            *wanted.other_files(name, spec),
            wanted.bootstrap_file(name, spec, "new", urls),
            *wanted.start_files(name, spec, wanted.trust),
        ],
        History(series(version), 0, FOUNDING, 0),
    )


def _start_call(view: ClusterView, name: str) -> HostStep:
    target = rolling_restart.target_now(view, name)
    _require_own_series(view, name, target.version)
    line = rolling_restart.apply_line(view, name, "start", target.version, "listening", "starting")
    return HostStep(name, "apply", line, rolling_restart.files_for(view, name, target))


def _require_own_series(view: ClusterView, name: str, version: str) -> None:
    """Data is only taken to another minor version by an upgrade of a running cluster."""
    host = view.hosts[name]
    before = host.history.series
    if before and series(version) != before and not host.programs:
        raise RefusedError(
            f"{name} holds the data of etcd {before}, and a stopped cluster cannot be taken to {version}: set "
            f"version to a {before} release, run `pulumi up`, then upgrade"
        )


def await_leader(view: ClusterView) -> Action | WaitFor | None:
    """Nothing is decided without a leader that can answer. What runs with files that are not its own is restarted, all
    at once. Precondition of that: by their own word so many members have no leader, or do not run, that there is no
    quorum to take from. No answer is not such a word."""
    if view.seen.status_source is not None:
        return None
    if refusal := forming.refusal(view):
        raise RefusedError(refusal)
    problem = quorum.why_none(view)
    if quorum.is_gone(view):
        return WaitFor(problem, LEADER_SECONDS, topic=A_LEADER)
    waited = view.memory.waited.get(A_LEADER, 0.0)
    if waited < LEADER_SECONDS or quorum.may_be_held(view):
        return WaitFor(problem, 2 * LEADER_SECONDS, topic=A_LEADER)
    stale = [
        name
        for name, host in view.hosts.items()
        if host.pid and rolling_restart.is_stale(view, name, rolling_restart.target_now(view, name))
    ]
    if stale:
        calls = [rolling_restart.restart_call(view, name, "listening", "restarting") for name in stale]
        return Action("restarting as it should be", calls)
    return WaitFor(problem, 2 * LEADER_SECONDS, topic=A_LEADER)
