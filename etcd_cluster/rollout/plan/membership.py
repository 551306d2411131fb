"""Who belongs to the cluster: members whose data are gone, that leave, and that join."""

from __future__ import annotations

from collections.abc import Sequence

from etcd_cluster.member.render import Security, Transport
from etcd_cluster.rollout.observed import Host, Listed
from etcd_cluster.rollout.plan import alarms, data, forming, quorum, trust, turns
from etcd_cluster.rollout.plan.acts import SYNC_SECONDS, Act, Call, RefusedError, Wait
from etcd_cluster.rollout.plan.situation import Situation


def go_on(now: Situation) -> Act | Wait | None:
    """One change at a time: a learner that runs is promoted, what is dead leaves, and what has begun to join goes on.
    What else is to leave or join has to wait until every voter is healthy: see `change`."""
    if alarms.of_kind(now, alarms.CORRUPT):
        return _remove_lost(now) or alarms.corruption(now)
    return _promote_running(now) or _remove_lost(now) or _remove_strangers_that_are_down(now) or _go_on_joining(now)


def _remove(now: Situation, listed: Listed, say: str, *, asked: bool = False) -> Act | Wait:
    """Ends a membership. asked: by the stack, for a member that may run.

    Preconditions, checked here: unless that was asked for, the member does not run, whatever its disk looks like; a
    majority of those that are left takes part. One that leads hands over first.
    """
    if not asked and data.runs(now, listed):
        raise RefusedError(
            f"{listed.name or listed.peer_url} runs, but what its machine shows is not the data of that member. It is "
            "not removed for that, and nothing more was changed; if its data are to go, stop etcd there, then run again"
        )
    return data.await_majority_without(now, listed) or turns.change_members(now, "remove", listed, say, id=listed.id)


def _remove_lost(now: Situation) -> Act | Wait | None:
    """A member whose data are gone, and that does not run."""
    for name, host in now.hosts.items():
        listed = now.listed(name)
        if listed is None:
            continue
        if listed.learner and not listed.started and not host.pid:
            if name in now.memory.added:
                continue  # about to be started
            # By another run: it may have run since, and then it must not start anew from nothing.
            return _remove(now, listed, f"ending the joining of {name} that was cut short")
        if _is_its_data(host, listed):
            continue
        if not host.data and not listed.started and forming.may_form(now, name):
            continue  # about to be started
        return _remove(now, listed, f"removing the old membership of {name}, whose data are gone")
    return None


def _is_its_data(host: Host, listed: Listed) -> bool:
    known = host.live.id if host.live else host.history.id
    return host.data and known in ("", listed.id)


def _remove_strangers_that_are_down(now: Situation) -> Act | Wait | None:
    for member in now.strangers():
        if member.id not in now.seen.healthy | now.seen.unknown:
            who = member.name or member.peer_url
            return _remove(now, member, f"removing {who}, which does not answer", asked=True)
    return None


def _promote_running(now: Situation) -> Act | None:
    """Before another membership ends: the cluster then has one more to go on with."""
    for name, host in now.hosts.items():
        listed = now.listed(name)
        if listed is not None and listed.learner and host.pid and _is_its_data(host, listed):
            say = f"promoting {name}, once it has all data"
            return turns.change_members(now, "promote", listed, say, id=listed.id, timeout=str(SYNC_SECONDS))
    return None


def _go_on_joining(now: Situation) -> Act | None:
    """A learner that is on the list already is started before anything else."""
    for name, host in now.hosts.items():
        listed = now.listed(name)
        if listed is None or not listed.learner or host.pid or not _may_join(now):
            continue
        told = turns.tell_peer_url(now, name, turns.version_of_others(now, name), _join_security(now, name))
        return told or Act("joining as a learner", [_join_call(now, name)])
    return None


def _may_join(now: Situation) -> bool:
    """Not before the others trust the certificates that it brings: see security.py. Those that are to leave get no
    new trust."""
    if not now.wanted.tls:
        return True
    leaving = _leaving_with_tls(now)
    if all(trust.pair_that_all_trust(now, transport, leaving) for transport in Transport):
        return True
    for name in leaving:
        trusts = (set(now.wanted.issuers[each]) <= set(trust.active_trust(now, name, each)) for each in Transport)
        if not all(trusts):
            raise RefusedError(
                f"{name} is to leave, but does not trust the certificates of those that are to join; put it back "
                "into the stack, run `pulumi up`, then take it out"
            )
    return False


def _leaving_with_tls(now: Situation) -> list[str]:
    return [
        name
        for name, host in now.seen.hosts.items()
        if name not in now.hosts and host.pid and host.security not in (None, Security.of(False))
    ]


def _join_security(now: Situation, name: str) -> Security:
    """As the least advanced of the others speaks. Without certificates, in plaintext: then they have to, too."""
    if now.wanted.tls:
        return trust.least_security(now)
    if any(member.peer_url.startswith("https:") for member in now.seen.voters):
        raise RefusedError(
            f"{name} cannot join: the others still speak TLS, and with tls: false it gets no certificates. Set tls "
            "back to true, run `pulumi up`, then set it to false"
        )
    return now.wanted.security


def _join_call(now: Situation, name: str) -> Call:
    """Starts a learner. It runs what the others run."""
    wanted, version = now.wanted, turns.version_of_others(now, name)
    security = _join_security(now, name)
    spec = now.spec(name, version, security)
    peer_urls = {member.name: member.peer_url for member in now.seen.members if member.name}
    return Call(
        name,
        "apply",
        {**turns.apply_line(now, name, "start", version, "listening", "joining as a learner"), "aside": "yes"},
        [
            *trust.leaves_now(now, name, _leaving_with_tls(now)),
            *wanted.other_files(name, spec),
            wanted.bootstrap_file(name, spec, "existing", {**peer_urls, name: spec.peer_url}),
            *wanted.start_files(name, spec, trust.joint_trusts(now)),
        ],
    )


def change(now: Situation) -> Act | Wait | None:
    """One leaves, or one joins. Preconditions: every voter is healthy, nobody is joining."""
    strangers = now.strangers()
    missing = [name for name in now.wanted.members if now.listed(name) is None]
    if not strangers and not missing:
        return None
    waiting = turns.await_voters(now, "the membership is not changed while")
    if waiting:
        return waiting
    is_full = len(now.seen.members) >= len(now.wanted.members) and bool(now.voting())
    if strangers and (is_full or not missing):
        return _remove_stranger(now, strangers)
    if not _may_join(now):
        return None
    name = missing[0]
    if _runs_on(now, name):
        return _stop(now, name)
    url = now.spec(name, turns.version_of_others(now, name), _join_security(now, name)).peer_url
    return turns.change_members(now, "add", None, f"adding {name} as a learner", name=name, url=url)


def _runs_on(now: Situation, name: str) -> bool:
    """A member that was removed while nobody could tell it so, as its peers trust others by now. It has no leader."""
    host, teller = now.hosts[name], now.seen.hosts[quorum.known(now, now.seen.teller)]
    is_of_this_cluster = bool(host.data_of) and host.data_of == teller.data_of
    return is_of_this_cluster and bool(host.pid and host.live) and not host.may_serve and now.was_removed(name)


def _stop(now: Situation, name: str) -> Act:
    """Its data are put aside when it joins. Raises `RefusedError` where those that run on might agree with one another:
    then it is this list that may be somebody's mistake."""
    left = [each for each in now.hosts if _runs_on(now, each)]
    noted = min(len(now.hosts[each].history.members.split(",")) for each in left)
    if len(left) > noted // 2:
        raise RefusedError(
            f"{', '.join(left)} run, and are no members by the list that {now.seen.teller} has; but they are a "
            "majority of the members that they know of. Nothing more was changed. Find out which of them have what "
            "clients wrote, stop etcd on the others and move their data away (docs/recover.md), then run again"
        )
    why = "stopping etcd, which was removed from the cluster and has not heard of it"
    return Act(why, [Call(name, "apply", {"action": "stop", "why": why})])


def _remove_stranger(now: Situation, strangers: Sequence[Listed]) -> Act | Wait:
    """Followers first. One that leads hands over to a member that stays."""
    leader = now.leader_id()
    followers = [member for member in strangers if member.id != leader and not now.may_lead(member.name)]
    if not leader and not followers:
        return turns.await_leader_known(now, strangers[0].name, "removed")
    if followers:
        return _remove(now, followers[0], f"removing {followers[0].name}", asked=True)
    return turns.hand_over(now, {member.id for member in strangers})
