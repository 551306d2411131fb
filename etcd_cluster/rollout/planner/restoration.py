"""Restores a backup, a file or a member's own snapshot in the place of a cluster's data. See docs/recover.md.

The steps, of which any may be cut off: the snapshot is proven on the member that is to have it, beside its data, and
nothing is stopped if that fails; what is there is backed up, if it still answers; all other members stop, and their
data get another name, so that no start, and no reboot, makes the old cluster go on; right after, that member stops, its
data get another name, and the restored data their place. It then is a cluster of one, with an id that the old cluster's
members do not know, and the others join it as learners: see membership.py.

The request names the old cluster by its id. What machines hold tells how far it is: data of that cluster, restored data
beside them, or data of another cluster and the note whose place they have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from etcd_cluster.etcd.sizes import MIB
from etcd_cluster.member.layout import FOUNDING
from etcd_cluster.member.lines import (
    Apply,
    ApplyAction,
    BackUp,
    Membership,
    MembershipChange,
    PrepareRestore,
    PutRestored,
    RaftPosition,
    Snapshot,
    Until,
)
from etcd_cluster.rollout.desired import Restoration
from etcd_cluster.rollout.former_machines import member_of
from etcd_cluster.rollout.observed import Host, MemberEntry
from etcd_cluster.rollout.planner import data, quorum, repair, rights, rolling_restart, users
from etcd_cluster.rollout.planner.actions import (
    CHANGE_SECONDS,
    SYNC_SECONDS,
    Action,
    ActionKind,
    HostStep,
    Refusal,
    WaitFor,
)
from etcd_cluster.rollout.planner.cluster_view import ClusterView
from etcd_cluster.rollout.planner.refusals import RefusedError


def act(view: ClusterView) -> Action | WaitFor | None:
    """Returns the next step of a restore that takes the place of a cluster's data; None if there is none.

    Raises:
        RefusedError: It must not be done: the request names another cluster than the one that is there, or a lost
            quorum that is not lost.
    """
    request = _pending(view)
    if request is None:
        _require_none_cut_short(view)
        return _put_away_old_data(view)
    return data.require_visible(view) or _restore(view, request)


def may_be_missing(view: ClusterView) -> frozenset[str]:
    """Returns the machines that a run goes on without, while it serves a request that names their members as lost.

    What answers in any way is not lost.
    """
    request = view.desired.restoration if view.context.restoring else None
    if request is None or not request.quorum_lost:
        return frozenset()
    silent = view.observation.unreachable.keys() - view.observation.answering
    return frozenset(name for name in silent if member_of(name) in request.lost)


def require_the_rest(view: ClusterView) -> Action | None:
    """Returns None; raises `RefusedError` once all is done that can be done without the members that are lost."""
    missing = may_be_missing(view) & view.desired.members.keys()
    if missing:
        details = {"members": [*view.hosts], "missing": sorted(missing)}
        raise RefusedError(Refusal.RECOVERED_WITHOUT, details)
    return None


def _pending(view: ClusterView) -> Restoration | None:
    """Returns the request, unless it was served: by an earlier run that ended well, or as the machines show."""
    request = view.desired.restoration if view.context.restoring else None
    if request is None or any(_has_replaced(host, request.cluster) for host in view.observation.hosts.values()):
        return None
    return request


def _has_replaced(host: Host, cluster: str) -> bool:
    return host.data and host.replaced == cluster and host.data_of not in ("", cluster)


def _put_away_old_data(view: ClusterView) -> Action | None:
    """Stops members with data of a cluster that restored data took the place of, as where a lost machine is back.

    Precondition: another member has data of another cluster, which is none of those.

    Raises:
        RefusedError: Those serve, and no member with restored data does.
    """
    hosts = view.observation.hosts
    replaced = {host.replaced for host in hosts.values() if host.replaced and _has_replaced(host, host.replaced)}
    given_up = replaced | view.context.given_up
    old = [name for name, host in hosts.items() if host.data and host.data_of in given_up]
    restored = [name for name, host in view.hosts.items() if host.data and host.data_of not in {*given_up, ""}]
    if not old or not restored:
        return None
    if any(_has_leader(hosts[name]) for name in old) and not any(_has_leader(hosts[name]) for name in restored):
        clusters = sorted({hosts[name].data_of for name in old})
        raise RefusedError(Refusal.RESTORE_BESIDE_SERVING, {"cluster": clusters, "restored": restored})
    return _put_away(old, view)


def _has_leader(host: Host) -> bool:
    """Returns whether the member on that machine has a leader."""
    return host.live is not None and host.live.has_leader


def _put_away(names: Sequence[str], view: ClusterView) -> Action:
    line = Apply(ApplyAction.STOP, archive_old_data=True)
    clusters = sorted({view.observation.hosts[name].data_of for name in names})
    return Action(ActionKind.PUT_AWAY_DATA, [HostStep(name, line) for name in names], {"cluster": clusters})


def _require_none_cut_short(view: ClusterView) -> None:
    """Raises `RefusedError` if a restore was cut off where the member has no data, and nobody asks for it any more.

    Where the old cluster serves again, as members that had been lost do, it gets the member back as any without data.
    """
    cut = [name for name, host in view.hosts.items() if _is_cut_short(host)]
    if cut and view.observation.status_source is None:
        raise RefusedError(Refusal.RESTORE_CUT_SHORT, {"members": cut, "cluster": view.hosts[cut[0]].restoring})


def _is_cut_short(host: Host) -> bool:
    """Returns whether restored data were about to take the place of those that are no longer there.

    Restored data alone do not say so: they may be of a run that ended before anything was stopped, and another member
    may be the one that gets them since.
    """
    return bool(host.restoring) and host.restoring == host.replaced and not host.data and not host.pid


def _go_on(view: ClusterView, request: Restoration, name: str) -> Action:
    """Goes on where data were renamed already, and restored ones are ready to take their place.

    Raises:
        RefusedError: They are of another source than the request names. Or the quorum is there again.
    """
    if view.hosts[name].restoring_source != request.label or request.member not in ("", name):
        raise RefusedError(Refusal.RESTORE_CUT_SHORT, {"members": [name], "cluster": request.cluster})
    others = [each for each, host in view.observation.hosts.items() if host.data or host.pid]
    if others:
        _require_that_cluster(view, request)
    if request.quorum_lost:
        _require_lost_quorum(view, request)
    return _put_away(others, view) if others else _put_restored(view, request, name)


def _restore(view: ClusterView, request: Restoration) -> Action | WaitFor:
    cut = [name for name, host in view.hosts.items() if host.restoring == request.cluster and _is_cut_short(host)]
    if cut:
        return _go_on(view, request, cut[0])
    _require_that_cluster(view, request)
    if request.quorum_lost:
        _require_lost_quorum(view, request)
        _require_survivor(view, request)
    else:
        _require_all_listed(view)
    if (preparing := repair.prepare(view)) is not None:
        return preparing
    if request.of_a_member:
        found = _survivor(view, request)
        if not isinstance(found, str):
            return found
        name = found
    else:
        name = _target(view, request)
    if name not in view.context.prepared_restores:
        return _prepare(view, request, name)
    users.require_own_in_data(view, name)
    others = [each for each, host in view.observation.hosts.items() if each != name and (host.data or host.pid)]
    if not others:
        return _back_up(view, request, name) or _put_restored(view, request, name)
    return _back_up(view, request, name) or _lead(view, name) or _put_away_others(view, request, name, others)


def _put_away_others(view: ClusterView, request: Restoration, name: str, others: Sequence[str]) -> Action:
    """Puts the others' data away; once that is done on each machine, the restored data take their place.

    Nobody looks at the member in between: without the others it serves nobody, and does not answer for seconds. After a
    lost quorum it is asked once more: a leader that it has would show that the quorum is back.
    """
    action = _put_away(others, view)
    return action if request.quorum_lost else replace(action, then=_put_restored(view, request, name))


def _lead(view: ClusterView, name: str) -> Action | None:
    """Moves the leadership to the member that stops last, if it can lead.

    A leader hands over when it stops, and waits 7 s for a member that has stopped meanwhile.
    """
    leader, listed = view.observation.leader, view.observation.of(name)
    if listed is None or leader in (None, name) or quorum.successor(view.observation, [name], ()) is None:
        return None
    line = Membership(MembershipChange.MOVE_LEADER, CHANGE_SECONDS, id=listed.id)
    return Action(ActionKind.MOVE_LEADER, [HostStep(quorum.known(view, leader), line)], {"successor": name})


def _require_that_cluster(view: ClusterView, request: Restoration) -> None:
    """Raises `RefusedError` unless all data that are there are of the cluster that the request names."""
    found = {name: host.data_of for name, host in view.observation.hosts.items() if host.data}
    if set(found.values()) - {request.cluster}:
        ids = sorted(set(found.values()))
        if len(ids) > 1:
            raise RefusedError(Refusal.DATA_OF_DIFFERENT_CLUSTERS, {"found": found})
        details = {"key": _key(request), "cluster": request.cluster, "found": ids[0] or "unknown"}
        raise RefusedError(Refusal.RESTORE_OF_ANOTHER_CLUSTER, details)
    if not found and not request.quorum_lost:
        raise RefusedError(Refusal.RESTORE_WITHOUT_DATA, {"cluster": request.cluster})


def _key(request: Restoration) -> str:
    return "recover" if request.quorum_lost else "restoreInPlace"


def _require_all_listed(view: ClusterView) -> None:
    """Raises `RefusedError` if a member may go on, on a machine that gives no answer or that nobody asks."""
    if view.observation.unreachable:
        raise RefusedError(Refusal.UNREACHABLE, {"unreachable": view.observation.unreachable})
    others = [
        f"{each.name} ({each.peer_url})"
        for each in view.observation.members
        if each.started and not _is_asked(view, each)
    ]
    if others:
        raise RefusedError(Refusal.RESTORE_WITH_UNLISTED, {"members": others})


def _is_asked(view: ClusterView, listed: MemberEntry) -> bool:
    """Returns whether the machine of a member was asked: that with its data, or that at its address without any."""
    hosts = view.observation.hosts
    if any(listed.id in (host.history.id, host.live and host.live.id) for host in hosts.values()):
        return True
    return listed.name in view.hosts and listed.peer_url.partition("://")[2] == view.address(listed.name)


def _require_lost_quorum(view: ClusterView, request: Restoration) -> None:
    """Raises `RefusedError` unless a majority of the members is lost, with their data or their machines.

    Silence is not lost: a machine that gives no answer counts as a member that serves, unless the request names it, and
    nothing answers at its address.
    """
    hosts = view.observation.hosts
    former = (hosts.keys() | view.observation.unreachable.keys()) - view.desired.members.keys()
    moved = {member_of(name) for name in former}
    # A member whose machine has changed is lost on its former one. The new one answers, and has no data yet.
    empty = {name for name, host in hosts.items() if name in moved and not host.data}
    wrong = [name for name in {*hosts, *view.observation.answering} - empty if member_of(name) in request.lost]
    if wrong:
        raise RefusedError(Refusal.RECOVER_OF_ANSWERING, {"members": sorted(wrong)})
    leading = [name for name, host in hosts.items() if _has_leader(host)]
    having = [name for name, host in hosts.items() if host.data or host.pid]
    noted = max((_members_noted(view, hosts[name]) for name in having), default=len(view.desired.members))
    missing = may_be_missing(view)
    # Of machines that leave, too: a note of how many members there are may be older than they.
    members = {member_of(name) for name in hosts.keys() | missing}
    unasked = max(noted - len(members), len(view.observation.unreachable.keys() - missing))
    if leading or len(having) + unasked > noted // 2:
        quorum_there = {"having": leading or having, "count": len(having), "all": noted}
        raise RefusedError(Refusal.RECOVER_WITH_QUORUM, quorum_there)


def _require_survivor(view: ClusterView, request: Restoration) -> None:
    """Raises `RefusedError` if the member that it is to go on with has no data, or leaves."""
    having = [name for name, host in view.hosts.items() if host.data]
    if request.of_a_member and not any(request.member in ("", name) for name in having):
        details = {"member": request.member or "any member", "left": having or ["none"]}
        raise RefusedError(Refusal.RECOVER_OF_NONE, details)


def _members_noted(view: ClusterView, host: Host) -> int:
    noted = host.history.members
    return len(view.desired.members) if noted in ("", FOUNDING) else len(noted.split(","))


def _target(view: ClusterView, request: Restoration) -> str:
    """Returns the member that a backup or file is restored to: where it is ready, else a follower.

    Raises:
        RefusedError: None of the machines that answer can read it.
    """
    able = [name for name in view.hosts if name in request.variables]
    if not able:
        raise RefusedError(Refusal.RESTORE_NOWHERE, {"members": [*view.hosts]})

    def rank(name: str) -> tuple[bool, bool, bool]:
        """One that has data first: it knows which revisions clients have seen. Of those, the leader last."""
        host = view.hosts[name]
        return name not in view.context.prepared_restores, not host.data, name == view.observation.leader

    return min(able, key=rank)


def _survivor(view: ClusterView, request: Restoration) -> str | Action:
    """Returns the member whose data the cluster goes on with, or what has to be done before that is known.

    Of several, it is the one with the highest revision: what any of them has applied is the same log, up to another
    index. A high term of raft says nothing of that: a member that was cut off may have campaigned again and again.
    """
    left = [name for name, host in view.hosts.items() if host.data]
    chosen = [name for name in left if request.member in ("", name)]
    stopped = [name for name in chosen if not view.hosts[name].pid]
    if stopped:
        return Action(ActionKind.START_ALONE, [_start(view, name) for name in stopped])
    unknown = [name for name in chosen if name not in view.context.positions]
    if len(chosen) > 1 and unknown:
        return Action(ActionKind.ASK_POSITION, [HostStep(name, RaftPosition()) for name in unknown])
    return max(chosen, key=lambda name: view.context.positions.get(name, (0, 0)))


def _start(view: ClusterView, name: str) -> HostStep:
    target = rolling_restart.target_now(view, name)
    line = rolling_restart.apply_line(view, name, ApplyAction.START, target.version, Until.LISTENING)
    return HostStep(name, line, rolling_restart.files_for(view, name, target))


def _prepare(view: ClusterView, request: Restoration, name: str) -> Action:
    version = view.desired.version
    line = PrepareRestore(
        request.backup,
        view.spec(name, version, rolling_restart.target_now(view, name).security).peer_url,
        version,
        members=rights.required_in_data(view.desired),
        latest=view.context.key_of_latest(f"{_key(request)}.from"),
        cluster=request.cluster,
        snapshot=request.of_a_member,
        users=view.desired.users is not None,
    )
    file = request.file
    if file is not None:
        path = file.place(view.desired.members[name].layout.volume)
        line = replace(line, file=path, sha256=file.sha256, bare=file.bare)
    source = request.backup or (file.path if file else f"the data of {name}")
    return Action(ActionKind.PREPARE_RESTORE, [HostStep(name, line)], {"source": source})


def _back_up(view: ClusterView, request: Restoration, name: str) -> Action | None:
    """Backs up what is there, before it is put away, if a member answers: into the store, else beside its data.

    Without a leader, nothing is written any more, and a member that has started since answers nobody: that is no reason
    to end there, for its data stay.
    """
    running = {each: host.live for each, host in view.hosts.items() if host.live}
    if view.context.backed_up or request.of_a_member or not running:
        return None
    following = [each for each, live in running.items() if live.has_leader]
    with_store = [each for each in following if view.hosts[each].backups is not None]
    with_store.sort(key=lambda each: each != name)
    if request.has_store and with_store:
        backup = BackUp(now=True, before_restore_of=request.cluster)
        return Action(ActionKind.BACK_UP, [HostStep(with_store[0], backup)])
    source = min(following or running, key=lambda each: each != name)
    line = Snapshot(
        file=f"before-restore-of-{request.cluster}.db",
        version=view.desired.version,
        database_mib=running[source].database_bytes // MIB + 1,
        timeout_seconds=SYNC_SECONDS,
        may_be_silent=not following,
    )
    return Action(ActionKind.SNAPSHOT, [HostStep(source, line)])


def _put_restored(view: ClusterView, request: Restoration, name: str) -> Action:
    line = PutRestored(request.cluster, view.desired.version, snapshot=request.of_a_member)
    return Action(ActionKind.PUT_RESTORED, [HostStep(name, line)], {"cluster": request.cluster})
