"""Decides the next thing to do to a cluster, from what it should be and what was seen. Pure: no effects, no clock.

Rules that every decision keeps (each function names its own preconditions):
- One member at a time, unhealthy ones first, the leader last after it has handed over. Before each, every other voter
  is healthy; after each, the member serves and has caught up, or the run ends there.
- No member is removed that runs, unless it is to leave, and none without which no majority of those left takes part.
- A member is removed before another is added; new ones join as learners and are promoted once in sync.
- Nothing is formed but where no machine holds anything of a member, or a forming was cut short: see forming.py.
"""

from __future__ import annotations

from etcd_cluster.member.render import Transport
from etcd_cluster.pki import x509
from etcd_cluster.rollout.observed import History, Observation
from etcd_cluster.rollout.plan import (
    alarms,
    data,
    membership,
    quorum,
    rights,
    security,
    starting,
    turns,
    upgrade,
    upkeep,
)
from etcd_cluster.rollout.plan.acts import Act, Memory, RefusedError, Wait
from etcd_cluster.rollout.plan.situation import Situation
from etcd_cluster.rollout.wanted import Wanted

CLOCK_TOLERANCE_SECONDS = 30.0
"""Far more than an answer takes, and far less than what a certificate is dated back by."""


def next_act(wanted: Wanted, seen: Observation, memory: Memory) -> Act | Wait | None:
    """What to do next; None when all is as it should be. Raises `RefusedError`."""
    now = Situation(wanted, seen, memory)
    _require_answers(now)
    data.require_in_place(now)
    data.require_one_cluster(now)
    act = _next(now)
    if act is not None:
        _require_clocks_together(now)
        _require_valid_certificates(now)
        alarms.require_room(now)
        return rights.require(now, act) or act
    return None


def differences(wanted: Wanted, seen: Observation, name: str) -> list[str]:
    """How one member is not what it should be, in words; for people."""
    return upkeep.differences(Situation(wanted, seen, Memory()), name)


def _next(now: Situation) -> Act | Wait | None:
    return (
        data.require_visible(now)
        or quorum.await_one_cluster(now)
        or upkeep.prepare(now)
        or upkeep.mend_leaves(now)
        or starting.start(now)
        or starting.await_leader(now)
        or membership.go_on(now)
        or turns.unhealthy_first(now)
        or membership.change(now)
        or security.change(now)
        or upgrade.before_another_version(now)
        or turns.roll(now)
        or upkeep.settle(now)
        or alarms.standing(now)
    )


def _require_answers(now: Situation) -> None:
    silent = {name: why for name, why in now.seen.silent.items() if name in now.wanted.members}
    if silent:
        raise RefusedError(
            "; ".join(f"{name}: {why}" for name, why in silent.items())
            + ". Nothing more was changed. Bring the machine back; if it is gone for good, give the member another "
            "one: its old membership is then removed, and it joins anew"
        )
    for name, host in now.hosts.items():
        if host.foreign:
            raise RefusedError(
                f"{name}: the etcd that runs there is somebody else's, as its database is {host.foreign}. Expected is "
                "this cluster's or none; nothing more was changed. Stop it (systemctl disable --now etcd), or give the "
                "member another machine, then run again"
            )
        if host.token not in ("", now.wanted.token) and (host.data or host.history != History()):
            raise RefusedError(f"{name}: its disk holds the data of another cluster (token {host.token})")


def _require_clocks_together(now: Situation) -> None:
    """A certificate that is not valid yet cuts a member off, and leases end when they should not."""
    for name, ahead in now.seen.clocks.items():
        if name in now.hosts and abs(ahead) > CLOCK_TOLERANCE_SECONDS:
            apart = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'}"
            raise RefusedError(
                f"the clock of {name} is {apart} this machine's. "
                "Nothing more was changed; set it right (chronyc makestep), here or there, then run again"
            )


def _require_valid_certificates(now: Situation) -> None:
    """One that is not valid yet, by the clock of its machine, would cut the member off until it is."""
    for name, host in now.hosts.items():
        for transport in Transport:
            leaf = now.wanted.members[name].leaf(transport)
            starts = x509.validity_of(leaf.certificate).not_before if leaf else None
            if starts and starts.timestamp() > host.clock:
                raise RefusedError(
                    f"{name}: its new certificate is not valid before {x509.rfc3339(starts)}, as the clock of the "
                    "machine that issued it was ahead. Nothing more was changed; set that clock right, then run again"
                )
