"""Defines the planner's answers (actions, waits, refusals) and what a run remembers. Their texts are in messages.py."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from etcd_cluster.errors import EtcdClusterError
from etcd_cluster.member.lines import (
    Apply,
    ApplyAction,
    Line,
    Membership,
    MembershipChange,
    PrepareAgain,
    Snapshot,
    V2Store,
)
from etcd_cluster.rollout.desired import File
from etcd_cluster.rollout.observed import History, Observation

MEMBER_SECONDS = 180
"""Limit for a member from its start until it serves and has caught up. A large database takes its time."""
CHANGE_SECONDS = 60
"""Limit for a change of the membership. etcd refuses a change for 5 s after the one before."""
SYNC_SECONDS = 900
"""Limit for a learner to get all data."""
LEADER_SECONDS = 30
HEALTH_SECONDS = 120

Details = Mapping[str, object]
"""Name -> value that the text of a record contains: members, versions, reasons."""


class RefusedError(EtcdClusterError):
    """The cluster cannot be brought to the desired state from here. The text says why, and what to do."""


class ActionKind(Enum):
    """The kinds of actions."""

    PREPARE_AGAIN = auto()
    RESTORE_CAS = auto()
    REPAIR_CERTIFICATES = auto()
    RENEW_CERTIFICATES = auto()
    WRITE_PENDING_FILES = auto()
    NOTE_LOG_POSITION = auto()
    START = auto()
    JOIN = auto()
    PROMOTE = auto()
    ADD_LEARNER = auto()
    REMOVE_LOST = auto()
    REMOVE_CUT_SHORT = auto()
    REMOVE_UNANSWERING = auto()
    REMOVE_UNLISTED = auto()
    STOP_REMOVED = auto()
    UPDATE_PEER_URL = auto()
    MOVE_LEADER = auto()
    DISARM_CORRUPT = auto()
    DISARM_NOSPACE = auto()
    RESTART = auto()
    RESTART_STALE = auto()
    RESTART_WITH_CERTIFICATES = auto()
    RESTART_WITHOUT_CERTIFICATES = auto()
    RESTART_WITH_PEER_TLS = auto()
    RESTART_WITH_CLIENT_TLS = auto()
    RESTART_WITHOUT_CLIENT_TLS = auto()
    RESTART_TO_TRUST_ONE_CA = auto()
    RESTART_TO_TRUST_CAS = auto()
    RESTART_TO_FLUSH_LOG = auto()
    SNAPSHOT = auto()
    CHECK_V2STORE = auto()


class TrustScope(Enum):
    """Whose certificates a changed list of trusted CAs concerns."""

    ALL = auto()
    CLIENTS = auto()
    PEERS = auto()


class WaitReason(Enum):
    """Why a run waits: a condition that may pass by itself."""

    NO_LEADER = auto()
    NO_ANSWER_FROM_FOLLOWERS = auto()
    FOLLOWERS_UNKNOWN = auto()
    MAJORITY_UNKNOWN = auto()
    LEAVING_MEMBER_DOWN = auto()
    QUORUM_LOST = auto()
    TWO_CLUSTERS = auto()
    MEMBER_UNHEALTHY = auto()
    VOTERS_UNHEALTHY = auto()
    VOTERS_NOT_ASKED = auto()
    LEADER_UNKNOWN = auto()
    DATA_HIDDEN = auto()
    DATA_DELETED = auto()
    NO_MAJORITY_WITHOUT = auto()
    ALARMS_UNKNOWN = auto()
    RIGHTS_UNKNOWN = auto()


NO_LEADER_REASONS = frozenset(
    {
        WaitReason.NO_LEADER,
        WaitReason.NO_ANSWER_FROM_FOLLOWERS,
        WaitReason.FOLLOWERS_UNKNOWN,
        WaitReason.MAJORITY_UNKNOWN,
        WaitReason.LEAVING_MEMBER_DOWN,
        WaitReason.QUORUM_LOST,
    }
)
"""The reasons of all waits for a leader. They count towards one limit, whatever else is found meanwhile."""


class Blocked(Enum):
    """What a run does not do while it waits."""

    RESTART = auto()
    REMOVAL = auto()
    ANY_RESTART = auto()
    MEMBERSHIP = auto()
    SECURITY = auto()
    UPGRADE = auto()


class DriftKind(Enum):
    """The ways in which a member can differ from the desired state."""

    UNREACHABLE = auto()
    MISSING = auto()
    MOUNTED_OVER = auto()
    DATA_HIDDEN = auto()
    NO_DATA = auto()
    DOWN = auto()
    NOT_LISTED = auto()
    LEARNER = auto()
    UNHEALTHY = auto()
    OTHER_VERSION = auto()
    PENDING = auto()
    FILE_MISSING = auto()
    FILES_MISSING = auto()
    FILE_DIFFERS = auto()
    FILE_EXPIRED = auto()
    FILE_MODE = auto()
    NOT_ON_BOOT = auto()


@dataclass(frozen=True)
class Drift:
    """One difference between a member and the desired state."""

    kind: DriftKind
    details: Details = field(default_factory=dict[str, object])


@dataclass(frozen=True)
class HostStep:
    """One script to run on one member's machine.

    Args:
        member: Name of the member.
        line: The line that runs the script.
        files: The files that the script writes.
        history: The history that the script writes; None if it writes none.
    """

    member: str
    line: Line
    files: Sequence[File] = ()
    history: History | None = None

    @property
    def only_restores(self) -> bool:
        """True if the step prepares a machine or writes files: nothing restarts, and the cluster does not change."""
        return isinstance(self.line, PrepareAgain) or (
            isinstance(self.line, Apply) and self.line.action is ApplyAction.FILES
        )


@dataclass(frozen=True)
class Action:
    """What to do next: all steps run at once; then the run observes again."""

    kind: ActionKind
    steps: Sequence[HostStep]
    details: Details = field(default_factory=dict[str, object])

    @property
    def only_restores(self) -> bool:
        """True if every step prepares a machine or writes files: nothing restarts, and the cluster does not change."""
        return all(step.only_restores for step in self.steps)


Limit = tuple[WaitReason, str | None]
"""What the seconds of waits count towards: the reason, and the member that the reason is about."""


@dataclass(frozen=True)
class WaitFor:
    """A wait: there is nothing to do but observe again.

    Args:
        reason: Why the run waits.
        seconds: Limit, after which the run ends.
        member: The member whose log is shown when the run ends; None to show no log.
        details: Name -> value in the text.
    """

    reason: WaitReason
    seconds: int
    member: str | None = None
    details: Details = field(default_factory=dict[str, object])

    @property
    def limit(self) -> Limit:
        """The key in `RunContext.waited`."""
        return (WaitReason.NO_LEADER, None) if self.reason in NO_LEADER_REASONS else (self.reason, self.member)


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
    """

    forming: bool = False
    run: str = field(default_factory=lambda: secrets.token_hex(8))
    waited: dict[Limit, float] = field(default_factory=dict[Limit, float])
    prepared: set[str] = field(default_factory=set[str])
    added: set[str] = field(default_factory=set[str])
    snapshot_taken: bool = False
    v2store: dict[str, tuple[V2Data, int]] = field(default_factory=dict[str, tuple[V2Data, int]])
    permitted: set[str] | None = None

    def learn_rights(self, observation: Observation) -> bool:
        """Notes which members may change the cluster; returns True while that is unknown of a running member."""
        permitted = self.permitted if self.permitted is not None else set[str]()
        permitted |= {name for name, host in observation.hosts.items() if host.may_administer}
        return any(host.pid and name not in permitted for name, host in observation.hosts.items())

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
            case Snapshot():
                self.snapshot_taken = True
            case V2Store():
                self.v2store[step.member] = _v2_data(step.member, printed), index
            case _:
                pass


def _v2_data(member: str, printed: str) -> V2Data:
    answer = (printed.split() or [""])[-1]
    found = next((each for each in V2Data if each.value == answer), None)
    if found is None:
        raise RefusedError(
            f"{member}: the check for data of the v2 API printed {printed.strip()[-200:]!r} instead of its result. See "
            "what else prints there, such as a login file of root, then run `pulumi up` again"
        )
    return found
