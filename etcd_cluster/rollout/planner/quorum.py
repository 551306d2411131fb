"""Whether the cluster can agree on anything, and what to say where it cannot."""

from __future__ import annotations

from collections.abc import Iterable

from etcd_cluster.rollout.observed import FOUNDING, Host, MemberEntry, Observation
from etcd_cluster.rollout.planner.actions import LEADER_SECONDS, RefusedError, WaitFor
from etcd_cluster.rollout.planner.cluster_view import ClusterView

CAUGHT_UP_ENTRIES = 100
"""A member this close behind the newest one is as good as level with it."""


def is_gone(view: ClusterView) -> bool:
    """By what was noted of the members, a majority has no data any more. Restarting the others does not help."""
    noted = _members_noted(view, [host for host in view.seen.hosts.values() if host.data])
    may_hold = sum(host.data for host in view.seen.hosts.values()) + len(view.seen.silent)
    return may_hold <= max(noted, default=0) // 2


def may_be_held(view: ClusterView, *, by_those_asked: bool = False) -> bool:
    """Whether a majority may be serving, for all that is known. Only a member's own word, or that nothing runs there,
    says that it does not serve: one that could not tell, or was not asked, counts as serving. One alone may be
    restarted: either it has no majority, or it is the only member.

    by_those_asked: whether they alone may hold it. Notes may be older than the last changes of the membership, so of
    those that have left by now, none can be asked.
    """
    hosts = [host for host in view.seen.hosts.values() if host.data or host.pid]
    counts = _members_noted(view, hosts)
    fewest, most = min(counts, default=0), max(counts, default=0)
    not_asked = 0 if by_those_asked else max(most - len(hosts), len(view.seen.silent))
    return sum(host.may_serve for host in hosts) + not_asked > max(fewest // 2, 1)


def _members_noted(view: ClusterView, hosts: Iterable[Host]) -> list[int]:
    """How many members the cluster had, by each note of them. One that has joined and has none yet says nothing."""
    notes = [host.history.members for host in hosts if host.history.members]
    return [len(view.wanted.members) if noted == FOUNDING else len(noted.split(",")) for noted in notes]


def await_one_cluster(view: ClusterView) -> WaitFor | None:
    """No member of the stack serves in another cluster than the one that is told of; one that was just removed ends by
    itself. Which of two clusters has what clients wrote, only people can tell."""
    listed = {member.id for member in view.seen.members}
    apart = [
        name for name, host in view.hosts.items() if host.live and host.live.has_leader and host.live.id not in listed
    ]
    if view.seen.status_source is None or not apart:
        return None
    problem = (
        f"two clusters serve: {', '.join(apart)} and {view.seen.status_source} are not members of the same one. "
        "Nothing more was changed. Find out which of them clients write to, stop etcd on the others (systemctl stop "
        "etcd) and move their data away, then run again"
    )
    return WaitFor(problem, LEADER_SECONDS)


def why_none(view: ClusterView) -> str:
    following, unknown = view.following(), view.unknown()
    if following:
        reasons = f" ({'; '.join(f'{name}: {why}' for name, why in unknown.items())})" if unknown else ""
        return (
            f"{', '.join(following)} have a leader, but `etcdctl member list` and `etcdctl endpoint health` get no "
            f"answer on their machines{reasons}. Look at their logs (journalctl -u etcd), then run `pulumi up` again"
        )
    if unknown and may_be_held(view):
        return (
            "it cannot be told whether a majority of the members serves, so none is restarted: "
            + "; ".join(f"{name}: {why}" for name, why in unknown.items())
            + ". Wait until they answer, then run again; stop etcd where it hangs (systemctl kill -s KILL etcd), and "
            "it is started again"
        )
    leaving = [name for name, host in view.seen.hosts.items() if name not in view.hosts and host.data and not host.pid]
    if leaving:
        return (
            f"no quorum: {', '.join(leaving)} is to leave, and does not run. Start it (systemctl start etcd), or "
            "put it back into the stack, and run again"
        )
    lost = [name for name, host in view.hosts.items() if not host.data]
    if not lost or not is_gone(view):
        return (
            "no member leads: a majority of them cannot reach one another. Look at their logs (journalctl -u etcd) "
            "and at the network between their peer ports, then run again"
        )
    return (
        f"quorum is lost: the data of {', '.join(lost)} are gone ({len(lost)} of {len(view.hosts)} members), so "
        "the others cannot agree on anything. Nothing was changed. Bring a lost disk back, and run again; or "
        "restore a snapshot into a new cluster: docs/recover.md has the steps"
    )


def known(view: ClusterView, name: str | None) -> str:
    """The status source, or the leader: after `start.await_leader`, whoever asks for it knows that it is there."""
    if name is None:
        raise RefusedError(why_none(view))
    return name


def successor(seen: Observation, names: Iterable[str], not_to: Iterable[str]) -> MemberEntry | None:
    """Who leads next: of the voters of these names that are healthy, the one that has applied most; of equals, the
    first. not_to: ids. None where there is nobody."""
    avoided = set(not_to)
    candidates = [
        listed
        for name in names
        if (listed := seen.of(name)) and not listed.learner and listed.id in seen.healthy - avoided
    ]

    def applied(candidate: MemberEntry) -> int:
        host = seen.hosts.get(candidate.name)
        return host.live.applied if host and host.live else 0

    newest = max(map(applied, candidates), default=0)
    return next((each for each in candidates if applied(each) >= newest - CAUGHT_UP_ENTRIES), None)
