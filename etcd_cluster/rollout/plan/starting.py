"""What does not run: members that form the cluster, or that stopped."""

from __future__ import annotations

from etcd_cluster.rollout.observed import FOUNDING, History
from etcd_cluster.rollout.plan import forming, quorum, turns
from etcd_cluster.rollout.plan.acts import LEADER_SECONDS, Act, Call, RefusedError, Wait
from etcd_cluster.rollout.plan.situation import Situation
from etcd_cluster.rollout.wanted import series

A_LEADER = "a leader"
"""Topic of all waits for one, whatever else is found meanwhile."""


def start(now: Situation) -> Act | None:
    """Members that do not run, all at once: starting them takes nothing from a quorum.

    Precondition of a start with data: the cluster has not ended that membership; where it cannot be asked, nobody
    leads, by what those say that run: it is no loss to a majority of others, and may be what is missing from one.
    Precondition of a start without data: see forming.py.
    """
    calls: list[Call] = []
    nobody_leads = not now.following() and not quorum.may_be_held(now, by_those_asked=True)
    for name, host in now.hosts.items():
        if host.pid:
            continue
        if host.data and not now.was_removed(name) and (now.seen.teller or nobody_leads):
            calls.append(_start_call(now, name))
        elif not host.data and forming.may_form(now, name):
            calls.append(_form_call(now, name))
    return Act("starting", calls) if calls else None


def _form_call(now: Situation, name: str) -> Call:
    wanted, version = now.wanted, now.wanted.version
    spec = now.spec(name, version, wanted.security)
    urls = {each: now.spec(each, version, wanted.security).peer_url for each in wanted.members}
    return Call(
        name,
        "apply",
        turns.apply_line(now, name, "start", version, "listening", "starting"),
        [
            *wanted.leaf_files(name),
            *wanted.other_files(name, spec),
            wanted.bootstrap_file(name, spec, "new", urls),
            *wanted.start_files(name, spec, wanted.trust),
        ],
        History(series(version), 0, FOUNDING, 0),
    )


def _start_call(now: Situation, name: str) -> Call:
    target = turns.target_now(now, name)
    _require_own_series(now, name, target.version)
    line = turns.apply_line(now, name, "start", target.version, "listening", "starting")
    return Call(name, "apply", line, turns.files_for(now, name, target))


def _require_own_series(now: Situation, name: str, version: str) -> None:
    """Data is only taken to another minor version by an upgrade of a running cluster."""
    host = now.hosts[name]
    before = host.history.series
    if before and series(version) != before and not host.programs:
        raise RefusedError(
            f"{name} holds the data of etcd {before}, and a stopped cluster cannot be taken to {version}: set "
            f"version to a {before} release, run `pulumi up`, then upgrade"
        )


def await_leader(now: Situation) -> Act | Wait | None:
    """Nothing is decided without a leader that can answer. What runs with files that are not its own is restarted, all
    at once. Precondition of that: by their own word so many members have no leader, or do not run, that there is no
    quorum to take from. No answer is not such a word."""
    if now.seen.teller is not None:
        return None
    if refusal := forming.refusal(now):
        raise RefusedError(refusal)
    problem = quorum.why_none(now)
    if quorum.is_gone(now):
        return Wait(problem, LEADER_SECONDS, topic=A_LEADER)
    waited = now.memory.waited.get(A_LEADER, 0.0)
    if waited < LEADER_SECONDS or quorum.may_be_held(now):
        return Wait(problem, 2 * LEADER_SECONDS, topic=A_LEADER)
    stale = [
        name for name, host in now.hosts.items() if host.pid and turns.is_stale(now, name, turns.target_now(now, name))
    ]
    if stale:
        calls = [turns.restart_call(now, name, "listening", "restarting") for name in stale]
        return Act("restarting as it should be", calls)
    return Wait(problem, 2 * LEADER_SECONDS, topic=A_LEADER)
