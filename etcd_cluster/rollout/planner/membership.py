"""Decides who belongs to the cluster: removes members that leave or have no data, and adds members that join."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from etcd_cluster.member.lines import Apply, ApplyAction, Membership, MembershipChange, Until
from etcd_cluster.member.render import Security, Transport
from etcd_cluster.rollout.observed import CORRUPT, Host, MemberEntry
from etcd_cluster.rollout.planner import alarms, ca_trust, corruption, data, forming, quorum, rolling_restart
from etcd_cluster.rollout.planner.actions import (
    CHANGE_SECONDS,
    SYNC_SECONDS,
    Action,
    ActionKind,
    Blocked,
    HostStep,
    Refusal,
    WaitFor,
)
from etcd_cluster.rollout.planner.cluster_view import ClusterView
from etcd_cluster.rollout.planner.refusals import RefusedError


def go_on(view: ClusterView) -> Action | WaitFor | None:
    """Returns the next change of the membership that cannot wait for all voters to be healthy; None if there is none.

    One change at a time: a running learner is promoted, a dead member is removed, and a join that has begun goes on.
    All other changes wait until every voter is healthy: see `change`.
    """
    if alarms.of_kind(view, CORRUPT):
        # Without a hash, a dead member that is to leave would block the end of the alarm for good.
        leaving = _remove_unlisted_members_that_are_down(view) if corruption.majority_agrees(view) else None
        return _remove_lost(view) or leaving or _replace_differing(view)
    return (
        _promote_running(view)
        or _remove_lost(view)
        or _remove_unlisted_members_that_are_down(view)
        or _go_on_joining(view)
    )


def _remove(
    view: ClusterView, listed: MemberEntry, kind: ActionKind, name: str, *, asked: bool = False
) -> Action | WaitFor:
    """Returns the action that removes a member, or a wait.

    Preconditions, checked here: the member does not run, whatever its disk looks like, unless its removal was asked
    for; and a majority of the remaining voters takes part. A leader hands leadership over first.

    Args:
        view: The cluster.
        listed: The member.
        kind: The kind of the action.
        name: Name of the member in texts for people.
        asked: The stack asks for the removal, so the member may run.

    Raises:
        RefusedError: The member runs, and its removal was not asked for.
    """
    if not asked and data.runs(view, listed):
        raise RefusedError(Refusal.RUNS_WITH_OTHER_DATA, {"member": listed.name or listed.peer_url})
    line = Membership(MembershipChange.REMOVE, CHANGE_SECONDS, id=listed.id)
    return data.await_majority_without(view, listed) or rolling_restart.change_members(
        view, kind, line, {"member": name}
    )


def _remove_lost(view: ClusterView) -> Action | WaitFor | None:
    """Removes a member whose data are gone, and that does not run."""
    for name, host in view.hosts.items():
        listed = view.listed(name)
        if listed is None:
            continue
        if listed.learner and not listed.started and not host.pid:
            if name in view.context.added:
                continue  # about to be started
            # Added by another run: the member may have run since, and must not start again without data.
            return _remove(view, listed, ActionKind.REMOVE_CUT_SHORT, name)
        if _is_its_data(host, listed):
            continue
        if not host.data and not listed.started and forming.may_form(view, name):
            continue  # about to be started
        return _remove(view, listed, ActionKind.REMOVE_LOST, name)
    return None


def _replace_differing(view: ClusterView) -> Action | WaitFor:
    """Removes a member whose data differ from the majority's, although it runs, and then ends the alarm CORRUPT.

    It joins again as every member without data does, and its data are archived then. Until the alarm has ended, no
    member joins, restarts or leaves but one that differs.

    Preconditions, checked here and in corruption.py: every member has answered, a majority holds the same data, and a
    majority of the others takes part. A leader hands over first, to a member that does not differ.

    Raises:
        RefusedError: No majority holds the same data.
    """
    waiting = corruption.await_hashes(view)
    if waiting:
        return waiting
    differing = corruption.differing(view)
    if not differing:
        return alarms.disarm(view, ActionKind.DISARM_CORRUPT)
    if view.leader_id() in {member.id for member in differing}:
        return rolling_restart.hand_over(view, {member.id for member in differing})
    name = differing[0].name or differing[0].peer_url
    return _remove(view, differing[0], ActionKind.REMOVE_DIFFERING, name, asked=True)


def replace_ended(view: ClusterView) -> Action | WaitFor | None:
    """Removes a member that ends after its start, as its data differ from the majority's; None if there is none.

    It joins again as every member without data does, and its data are archived then. If they do not differ, or nobody
    can tell, it is started once more, and the run ends with what its log says.

    Preconditions, checked in corruption.py: it does not run, this run has started it, all other voters are healthy, and
    a majority of all voters holds the same other keys, up to its own last revision.
    """
    for name in view.hosts:
        listed = corruption.ended(view, name)
        if listed is None:
            continue
        asking = corruption.ask(view, name)
        if asking is not None:
            return asking
        if corruption.differs_from_majority(view, name):
            return _remove(view, listed, ActionKind.REMOVE_DIFFERING, name)
    return None


def _is_its_data(host: Host, listed: MemberEntry) -> bool:
    known = host.live.id if host.live else host.history.id
    return host.data and known in ("", listed.id)


def _remove_unlisted_members_that_are_down(view: ClusterView) -> Action | WaitFor | None:
    for member in view.unlisted_members():
        if member.id not in view.observation.healthy | view.observation.unknown:
            who = member.name or member.peer_url
            return _remove(view, member, ActionKind.REMOVE_UNANSWERING, who, asked=True)
    return None


def _promote_running(view: ClusterView) -> Action | None:
    """Promotes a running learner before another member is removed: the cluster then has one more voter.

    Precondition: every running member reaches every other one, the learner included.
    """
    if view.observation.broken_pairs:
        return None
    for name, host in view.hosts.items():
        listed = view.listed(name)
        if listed is not None and listed.learner and host.pid and _is_its_data(host, listed):
            line = Membership(MembershipChange.PROMOTE, SYNC_SECONDS, id=listed.id)
            return rolling_restart.change_members(view, ActionKind.PROMOTE, line, {"member": name})
    return None


def _go_on_joining(view: ClusterView) -> Action | None:
    """Starts a learner that is already in the member list, before anything else."""
    for name, host in view.hosts.items():
        listed = view.listed(name)
        if listed is None or not listed.learner or host.pid or not _may_join(view):
            continue
        change = rolling_restart.update_peer_url(
            view, name, rolling_restart.version_of_others(view, name), _join_security(view, name)
        )
        return change or Action(ActionKind.JOIN, [_join_step(view, name)])
    return None


def _may_join(view: ClusterView) -> bool:
    """Returns whether a member may join: every other member trusts the certificates that it brings. See security.py.

    Members that are to leave get no new trust.

    Raises:
        RefusedError: A member that is to leave does not trust those certificates.
    """
    if not view.desired.tls:
        return True
    leaving = _leaving_with_tls(view)
    if all(ca_trust.pair_that_all_trust(view, transport, leaving) for transport in Transport):
        return True
    for name in leaving:
        trusts = (set(view.desired.issuers[each]) <= set(ca_trust.active_trust(view, name, each)) for each in Transport)
        if not all(trusts):
            raise RefusedError(Refusal.LEAVING_MEMBER_DISTRUSTS, {"member": name})
    return False


def _leaving_with_tls(view: ClusterView) -> list[str]:
    return [
        name
        for name, host in view.observation.hosts.items()
        if name not in view.hosts and host.pid and host.security not in (None, Security.of(False))
    ]


def _join_security(view: ClusterView, name: str) -> Security:
    """Returns how a member that joins is to speak: as the least advanced other member does.

    Without TLS it joins in plaintext.

    Raises:
        RefusedError: The member is to have no certificates, and the others still use TLS.
    """
    if view.desired.tls:
        return ca_trust.least_security(view)
    if any(member.peer_url.startswith("https:") for member in view.observation.voters):
        raise RefusedError(Refusal.JOINING_WITHOUT_CERTIFICATES, {"member": name})
    return view.desired.security


def _join_step(view: ClusterView, name: str) -> HostStep:
    """Returns the step that starts a learner, with the version that the others run."""
    desired, version = view.desired, rolling_restart.version_of_others(view, name)
    security = _join_security(view, name)
    spec = view.spec(name, version, security)
    peer_urls = {member.name: member.peer_url for member in view.observation.members if member.name}
    return HostStep(
        name,
        replace(
            rolling_restart.apply_line(view, name, ApplyAction.START, version, Until.LISTENING),
            archive_old_data=True,
        ),
        [
            *ca_trust.certificates_now(view, name, _leaving_with_tls(view)),
            *desired.other_files(name, spec),
            desired.bootstrap_file(name, spec, "existing", {**peer_urls, name: spec.peer_url}),
            *desired.start_files(name, spec, ca_trust.joint_trusts(view)),
        ],
    )


def change(view: ClusterView) -> Action | WaitFor | None:
    """Returns the action that removes or adds one member, or a wait; None if nothing is to change yet.

    Preconditions: every voter is healthy, and no member is joining.
    """
    unlisted_members = view.unlisted_members()
    missing = [name for name in view.hosts if view.listed(name) is None]
    if not unlisted_members and not missing:
        return None
    waiting = rolling_restart.await_voters(view, Blocked.MEMBERSHIP)
    if waiting:
        return waiting
    is_full = len(view.observation.members) >= len(view.desired.members) and bool(view.voting())
    if unlisted_members and (is_full or not missing):
        return remove_unlisted_member(view, unlisted_members)
    if not _may_join(view):
        return None
    name = missing[0]
    _require_own_machine(view, name)
    if _runs_on(view, name):
        return _stop(view, name)
    url = view.spec(name, rolling_restart.version_of_others(view, name), _join_security(view, name)).peer_url
    line = Membership(MembershipChange.ADD, CHANGE_SECONDS, name=name, url=url)
    return rolling_restart.change_members(view, ActionKind.ADD_LEARNER, line, {"member": name})


def _require_own_machine(view: ClusterView, name: str) -> None:
    """Raises `RefusedError` where a member is to join on a machine that another member is on, or on a clone of it."""
    for other in view.desired.members:
        if other != name and other in view.hosts and view.hosts[other].machine == view.hosts[name].machine:
            details = {"member": name, "other": other, "machine": view.hosts[name].machine}
            raise RefusedError(Refusal.SAME_MACHINE, details)


def _runs_on(view: ClusterView, name: str) -> bool:
    """Returns whether a member still runs although the cluster has removed it.

    No other member could tell it about the removal, because its peers trust other CAs by now. It has no leader.
    """
    host, status_source = view.hosts[name], view.observation.hosts[quorum.known(view, view.observation.status_source)]
    is_of_this_cluster = bool(host.data_of) and host.data_of == status_source.data_of
    return is_of_this_cluster and bool(host.pid and host.live) and not host.may_serve and view.was_removed(name)


def _stop(view: ClusterView, name: str) -> Action:
    """Returns the action that stops etcd on the machine of a removed member. Its data are archived when it joins again.

    Raises:
        RefusedError: The removed members that still run might form a majority of their own. Then this member list may
            be the wrong one.
    """
    left = [each for each in view.hosts if _runs_on(view, each)]
    noted = min(len(view.hosts[each].history.members.split(",")) for each in left)
    if len(left) > noted // 2:
        details = {"members": left, "source": view.observation.status_source}
        raise RefusedError(Refusal.REMOVED_MAJORITY_RUNS, details)
    return Action(ActionKind.STOP_REMOVED, [HostStep(name, Apply(ApplyAction.STOP))])


def remove_unlisted_member(view: ClusterView, unlisted_members: Sequence[MemberEntry]) -> Action | WaitFor:
    """Removes a member that the stack does not list: followers first. A leader hands over to a member that stays."""
    leader = view.leader_id()
    followers = [member for member in unlisted_members if member.id != leader and not view.may_lead(member.name)]
    if not leader and not followers:
        return rolling_restart.await_leader_known(view, unlisted_members[0].name, Blocked.REMOVAL)
    if followers:
        return _remove(view, followers[0], ActionKind.REMOVE_UNLISTED, followers[0].name, asked=True)
    return rolling_restart.hand_over(view, {member.id for member in unlisted_members})
