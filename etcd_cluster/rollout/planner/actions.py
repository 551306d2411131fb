"""What the planner answers: actions, waits, refusals; and what one run remembers. Their texts are in messages.py."""

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
from etcd_cluster.rollout.observed import History, Observation
from etcd_cluster.rollout.wanted import File

MEMBER_SECONDS = 180
"""How long a member may take from its start until it serves and has caught up; a large database takes its time."""
CHANGE_SECONDS = 60
"""For a change of the membership; etcd refuses one for 5 s after the one before."""
SYNC_SECONDS = 900
"""For a learner to get all data."""
LEADER_SECONDS = 30
HEALTH_SECONDS = 120

Details = Mapping[str, object]
"""What the text of a record names: members, versions, reasons."""


class RefusedError(EtcdClusterError):
    """The cluster cannot be brought to what is asked from here. Says why, and what to do."""


class ActionKind(Enum):
    """What is done next."""

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
    """Whose certificates a changed trust is about."""

    ALL = auto()
    CLIENTS = auto()
    PEERS = auto()


class WaitReason(Enum):
    """What a run waits for to pass."""

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
"""All waits for a leader, whatever else is found meanwhile: they count towards one limit."""


class Blocked(Enum):
    """What is not done while a run waits."""

    RESTART = auto()
    REMOVAL = auto()
    ANY_RESTART = auto()
    MEMBERSHIP = auto()
    SECURITY = auto()
    UPGRADE = auto()


class DriftKind(Enum):
    """How a member is not in the desired state."""

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
    """One way in which a member is not in the desired state."""

    kind: DriftKind
    details: Details = field(default_factory=dict[str, object])


@dataclass(frozen=True)
class HostStep:
    """One script to run on one member's machine. files, history: what it is to write there."""

    member: str
    line: Line
    files: Sequence[File] = ()
    history: History | None = None

    @property
    def only_restores(self) -> bool:
        """It prepares a machine or puts files in place: nothing restarts, and the cluster is not changed."""
        return isinstance(self.line, PrepareAgain) or (
            isinstance(self.line, Apply) and self.line.action is ApplyAction.FILES
        )


@dataclass(frozen=True)
class Action:
    """What to do next: steps, all at once; then observe again."""

    kind: ActionKind
    steps: Sequence[HostStep]
    details: Details = field(default_factory=dict[str, object])

    @property
    def only_restores(self) -> bool:
        return all(step.only_restores for step in self.steps)


Limit = tuple[WaitReason, str | None]
"""What waits count towards: the reason, and the member that it is about."""


@dataclass(frozen=True)
class WaitFor:
    """Nothing to do but observe again. seconds: after that long the run ends. member: whose log is shown then."""

    reason: WaitReason
    seconds: int
    member: str | None = None
    details: Details = field(default_factory=dict[str, object])

    @property
    def limit(self) -> Limit:
        """Its key in `RunContext.waited`."""
        return (WaitReason.NO_LEADER, None) if self.reason in NO_LEADER_REASONS else (self.reason, self.member)


class V2Data(Enum):
    """What a member holds of etcd's v2 API."""

    CLEAN = "clean"
    LOG = "log"
    STORE = "store"


@dataclass
class RunContext:
    """What one run knows that machines do not report. forming: the stack's state has no rollout that ended well, so
    that the cluster may still have to be formed. run: its id. added: members that it has added to the list. waited:
    limit -> seconds so far. v2store: member -> answer, and the index of the log then. permitted: members whose
    certificates may change the cluster; None where that is not asked."""

    forming: bool = False
    run: str = field(default_factory=lambda: secrets.token_hex(8))
    waited: dict[Limit, float] = field(default_factory=dict[Limit, float])
    prepared: set[str] = field(default_factory=set[str])
    added: set[str] = field(default_factory=set[str])
    snapshot_taken: bool = False
    v2store: dict[str, tuple[V2Data, int]] = field(default_factory=dict[str, tuple[V2Data, int]])
    permitted: set[str] | None = None

    def learn_rights(self, observation: Observation) -> bool:
        """Takes in who may change the cluster. Whether that is not known of all that run."""
        permitted = self.permitted if self.permitted is not None else set[str]()
        permitted |= {name for name, host in observation.hosts.items() if host.may_administer}
        return any(host.pid and name not in permitted for name, host in observation.hosts.items())

    def note(self, step: HostStep, printed: str, *, index: int) -> None:
        """Takes in what a step did."""
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
