"""Defines what one run remembers from one observation to the next."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from enum import Enum

from etcd_cluster.member.lines import (
    Apply,
    BackUp,
    HashData,
    HashKeys,
    Membership,
    MembershipChange,
    PrepareAgain,
    PrepareRestore,
    PutRestored,
    RaftPosition,
    SetUsers,
    Snapshot,
    UsersAsked,
    UsersChange,
    V2Store,
)
from etcd_cluster.rollout.desired import DesiredCluster
from etcd_cluster.rollout.observed import Authentication, KeyHash, Observation
from etcd_cluster.rollout.planner.actions import HostStep, Limit, Refusal
from etcd_cluster.rollout.planner.refusals import RefusedError
from etcd_cluster.rollout.reports import parse_authentication, parse_hash
from etcd_cluster.users import Users


class V2Data(Enum):
    """What data of etcd's v2 API a member holds."""

    CLEAN = "clean"
    LOG = "log"
    STORE = "store"


@dataclass
class RunContext:
    """What one run knows that machines do not report.

    Args:
        forming: The stack's state has no rollout that ended well, so the cluster may still have to be formed.
        run: Id of the run.
        waited: Limit -> seconds that the run has waited so far.
        prepared: Members whose machines the run has prepared again.
        added: Members that the run has added to the member list.
        snapshot_taken: The run has taken a snapshot.
        v2store: Member -> what data of the v2 API it holds, and the index of raft's log at that time.
        permitted: Members whose certificates may change the cluster; None if that is not checked.
        restoring: The stack asks for a restore in the place of a cluster's data, and no run that did it ended well.
        latest: The keys of stack config that say `latest` in place of a backup's name.
        given_up: Ids of the clusters whose data a restore took the place of.
        prepared_restores: Members beside whose data the run has made restored ones.
        users_of_data: Such a member -> the users and roles in those data, where the stack names users.
        backed_up: The run has backed up what that restore takes the place of.
        positions: Member -> the revision of its keys, and the index up to which it has applied entries of raft's log.
        may_have_ended: Members that the run has started, and that may have ended since.
        hashes_of_data: Such a member -> the hash of what its data hold; None if nobody can tell.
        hashes: Another member, revision -> the hash of its keys up to that revision; None if it gave none.
        users_before: The users and roles that the stack named in its last rollout that ended well; None for none.
        authentication: etcd's users and roles since they were changed last; None if they are to be asked for.
    """

    forming: bool = False
    run: str = field(default_factory=lambda: secrets.token_hex(8))
    waited: dict[Limit, float] = field(default_factory=dict[Limit, float])
    prepared: set[str] = field(default_factory=set[str])
    added: set[str] = field(default_factory=set[str])
    snapshot_taken: bool = False
    v2store: dict[str, tuple[V2Data, int]] = field(default_factory=dict[str, tuple[V2Data, int]])
    permitted: set[str] | None = None
    restoring: bool = False
    latest: frozenset[str] = frozenset()
    given_up: frozenset[str] = frozenset()
    prepared_restores: set[str] = field(default_factory=set[str])
    users_of_data: dict[str, Authentication] = field(default_factory=dict[str, Authentication])
    backed_up: bool = False
    positions: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    may_have_ended: set[str] = field(default_factory=set[str])
    hashes_of_data: dict[str, KeyHash | None] = field(default_factory=dict[str, KeyHash | None])
    hashes: dict[tuple[str, int], KeyHash | None] = field(default_factory=dict[tuple[str, int], KeyHash | None])
    users_before: Users | None = None
    authentication: Authentication | None = None

    def learn(self, observation: Observation) -> None:
        """Notes which members may change the cluster, and etcd's users and roles."""
        if self.permitted is not None:
            self.permitted |= {name for name, host in observation.hosts.items() if host.may_administer}
        self.authentication = observation.authentication or self.authentication

    def key_of_latest(self, key: str) -> str:
        """Returns a key of stack config if it says `latest`; "" if it names what is restored."""
        return key if key in self.latest else ""

    def lacks_rights(self, observation: Observation) -> bool:
        """Returns whether it is unknown of a running member if it may change the cluster."""
        return any(host.pid and name not in (self.permitted or ()) for name, host in observation.hosts.items())

    def users_to_ask(self, desired: DesiredCluster) -> UsersAsked | None:
        """Returns what is to be asked for of etcd's users and roles; None if it is known."""
        if self.authentication is not None:
            return None
        return UsersAsked.ALL if self.users_before is not None or desired.users is not None else UsersAsked.OWN

    def note(self, step: HostStep, printed: str, *, index: int) -> None:
        """Notes what a step did.

        Args:
            step: The step, which has succeeded.
            printed: Its output.
            index: The end of raft's log when the step began.
        """
        match step.line:
            case PrepareAgain():
                self.prepared.add(step.member)
            case Membership(change=MembershipChange.ADD, name=name):
                self.added.add(name)
            case Apply(may_end=True):
                self.may_have_ended.add(step.member)
            case HashData():
                self.hashes_of_data[step.member] = _hash_of_data(printed)
            case HashKeys(revision=int(revision)):
                answer = parse_hash(printed)
                self.hashes[step.member, revision] = answer[1] if answer else None
            case Snapshot():
                self.snapshot_taken = self.backed_up = True
            case BackUp():
                self.backed_up = True
            case PutRestored():
                self.authentication = None  # from now on, users are as in those data
                self.permitted = None if self.permitted is None else set()
            case PrepareRestore(users=asked):
                found = parse_authentication(printed) if asked else None
                if found is not None:
                    self.users_of_data[step.member] = found
                if found is not None or not asked:  # without an answer, it is not prepared
                    self.prepared_restores.add(step.member)
            case RaftPosition():
                self.positions[step.member] = _position(printed)
            case SetUsers(change=UsersChange.READ):
                self.authentication = parse_authentication(printed)
            case SetUsers(change=change):
                self.authentication = None
                if change is UsersChange.ENABLE and self.permitted is not None:
                    self.permitted = set()  # until now, everybody might do everything
            case V2Store():
                self.v2store[step.member] = _v2_data(step.member, printed), index
            case _:
                pass


def _position(printed: str) -> tuple[int, int]:
    """Reads REVISION INDEX; the least there is, where a member did not say."""
    words = (printed.split() or [""])[-2:]
    return (int(words[0]), int(words[1])) if len(words) == 2 and all(word.isdigit() for word in words) else (0, 0)


def _hash_of_data(printed: str) -> KeyHash | None:
    """Reads HASH COMPACTED REVISION; None, where a machine could not tell."""
    words = printed.split()
    if len(words) != 3 or not all(re.fullmatch(r"-?\d+", word) for word in words):
        return None
    hash_, compacted, revision = map(int, words)
    return KeyHash(revision, compacted, hash_)


def _v2_data(member: str, printed: str) -> V2Data:
    answer = (printed.split() or [""])[-1]
    found = next((each for each in V2Data if each.value == answer), None)
    if found is None:
        raise RefusedError(Refusal.V2_CHECK_UNREADABLE, {"member": member, "printed": printed.strip()[-200:]})
    return found
