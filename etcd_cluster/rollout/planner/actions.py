"""Defines the planner's answers: the kinds of actions, waits, refusals and drift. Their texts are in messages.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from etcd_cluster.member.line import Line
from etcd_cluster.member.lines import Apply, ApplyAction, PrepareAgain
from etcd_cluster.rollout.desired import File
from etcd_cluster.rollout.observed import BrokenPair, History

MEMBER_SECONDS = 180
"""Limit for a member from its start until it serves and has caught up. A large database takes its time."""
CHANGE_SECONDS = 60
"""Limit for a change of the membership. etcd refuses a change for 5 s after the one before."""
SYNC_SECONDS = 900
"""Limit for a learner to get all data."""
LEADER_SECONDS = 30
HEALTH_SECONDS = 120
HASH_SECONDS = 120
"""Limit for the hash of a member's keys: etcd reads its whole database for it."""

Details = Mapping[str, object]
"""Name -> value that the text of a record contains: members, versions, reasons."""


class ActionKind(Enum):
    """The kinds of actions."""

    PREPARE_AGAIN = auto()
    RESTORE_CAS = auto()
    REPAIR_CERTIFICATES = auto()
    RENEW_CERTIFICATES = auto()
    WRITE_PENDING_FILES = auto()
    NOTE_LOG_POSITION = auto()
    RESTORE = auto()
    PREPARE_RESTORE = auto()
    BACK_UP = auto()
    PUT_AWAY_DATA = auto()
    PUT_RESTORED = auto()
    START_ALONE = auto()
    ASK_POSITION = auto()
    ASK_HASH_OF_DATA = auto()
    ASK_HASHES = auto()
    START = auto()
    JOIN = auto()
    PROMOTE = auto()
    ADD_LEARNER = auto()
    REMOVE_LOST = auto()
    REMOVE_CUT_SHORT = auto()
    REMOVE_UNANSWERING = auto()
    REMOVE_UNLISTED = auto()
    REMOVE_DIFFERING = auto()
    STOP_REMOVED = auto()
    UPDATE_PEER_URL = auto()
    MOVE_LEADER = auto()
    DISARM_CORRUPT = auto()
    DISARM_NOSPACE = auto()
    COMPACT = auto()
    COMPACT_ALL = auto()
    DEFRAGMENT = auto()
    DEFRAGMENT_FREE = auto()
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
    READ_USERS = auto()
    SET_USERS = auto()
    ENABLE_AUTHENTICATION = auto()
    DISABLE_AUTHENTICATION = auto()


class TrustScope(Enum):
    """Whose certificates a changed list of trusted CAs concerns."""

    ALL = auto()
    CLIENTS = auto()
    PEERS = auto()


class WaitReason(Enum):
    """Why a run waits: a condition that may pass by itself."""

    NO_LEADER = auto()
    NO_LEADER_AND_BROKEN_PAIRS = auto()
    NO_ANSWER_FROM_FOLLOWERS = auto()
    FOLLOWERS_UNKNOWN = auto()
    MAJORITY_UNKNOWN = auto()
    LEAVING_MEMBER_DOWN = auto()
    QUORUM_LOST = auto()
    TWO_CLUSTERS = auto()
    MEMBER_UNHEALTHY = auto()
    BROKEN_PAIRS = auto()
    VOTERS_UNHEALTHY = auto()
    VOTERS_NOT_ASKED = auto()
    LEADER_UNKNOWN = auto()
    DATA_HIDDEN = auto()
    DATA_DELETED = auto()
    NO_MAJORITY_WITHOUT = auto()
    LAST_VOTER = auto()
    ALARMS_UNKNOWN = auto()
    DATABASES_UNKNOWN = auto()
    HASHES_UNKNOWN = auto()
    HASHES_OF_OTHER_REVISIONS = auto()
    RIGHTS_UNKNOWN = auto()
    USERS_UNKNOWN = auto()
    VERSION_MAY_RISE = auto()


class Refusal(Enum):
    """Why a change or a run is refused: a condition that does not pass by itself."""

    # Found in the preview.
    NO_MEMBER_STAYS = auto()
    TLS_TURNED_OFF = auto()
    TLS_TURNED_OFF_AND_MEMBERS_CHANGED = auto()
    CA_REPLACED_AND_MEMBERS_CHANGED = auto()
    SEVERAL_DEVICES_CHANGED = auto()
    DIRECTORY_CHANGED = auto()
    DIRECTORY_CHANGED_WITH_STACK = auto()
    DIRECTORY_CHANGED_WITH_CLUSTER = auto()
    PORT_OF_ANOTHER_MEMBER = auto()
    RESTORE_OF_RUNNING_CLUSTER = auto()
    RESTORE_WITH_OTHER_CHANGES = auto()
    RESTORE_DONE = auto()
    RESTORE_OF_NEW_CLUSTER = auto()
    USERS_AND_VERSION_CHANGED = auto()
    USERS_AND_TLS_CHANGED = auto()
    USERS_AND_CA_CHANGED = auto()
    USER_NAMED_AS_MEMBER = auto()
    # Found on the machines.
    UNREACHABLE = auto()
    TAKEN_OVER = auto()
    FOREIGN_ETCD = auto()
    OTHER_SERVICE = auto()
    UNIT_CHANGED = auto()
    DATA_OF_ANOTHER_CLUSTER = auto()
    DATA_OF_ANOTHER_MEMBER = auto()
    DATA_OF_DIFFERENT_CLUSTERS = auto()
    DATA_ON_FORMER_MACHINE = auto()
    MOUNTED_OVER = auto()
    STILL_MISSING = auto()
    SAME_MACHINE = auto()
    CLOCKS_APART = auto()
    CERTIFICATE_NOT_VALID_YET = auto()
    # Of forming and starting.
    FORMING_UNREACHABLE = auto()
    FORMING_WITH_LOST_DATA = auto()
    FORMING_WITHOUT_FOUNDERS = auto()
    RESTORING_WITH_DATA = auto()
    # Of restores in the place of a cluster's data.
    RESTORE_OF_ANOTHER_CLUSTER = auto()
    RESTORE_WITHOUT_DATA = auto()
    RESTORE_WITH_UNLISTED = auto()
    RESTORE_BESIDE_SERVING = auto()
    RESTORE_NOWHERE = auto()
    RESTORE_CUT_SHORT = auto()
    RECOVER_WITH_QUORUM = auto()
    RECOVER_OF_ANSWERING = auto()
    RECOVER_OF_NONE = auto()
    RECOVERED_WITHOUT = auto()
    STOPPED_AT_ANOTHER_MINOR = auto()
    # Of the membership and the leadership.
    RUNS_WITH_OTHER_DATA = auto()
    LEAVING_MEMBER_DISTRUSTS = auto()
    JOINING_WITHOUT_CERTIFICATES = auto()
    REMOVED_MAJORITY_RUNS = auto()
    NO_SUCCESSOR = auto()
    # Of upgrades.
    CLUSTER_VERSION_UNKNOWN = auto()
    CLUSTER_VERSION_RAISED = auto()
    V2_KEYS = auto()
    V2_CHECK_UNREADABLE = auto()
    # Of alarms, the quota and authentication.
    QUOTA_TOO_SMALL = auto()
    ALARM_CORRUPT_WITHOUT_MAJORITY = auto()
    ALARM_NOSPACE = auto()
    ALARM_NOSPACE_AT_LIMIT = auto()
    ALARM_OTHER = auto()
    NO_ROOT_USER = auto()
    AUTHENTICATION_WITHOUT_TLS = auto()
    USERS_OF_OTHERS = auto()
    ROLES_OF_OTHERS = auto()
    ROLE_OURS_WITH_KEYS = auto()
    USERS_OF_MIXED_VERSIONS = auto()
    # Of a run.
    FUTILE = auto()
    ENDPOINTS_OF_DIFFERENT_CLUSTERS = auto()
    # Of the replacement of a machine.
    REPLACEMENT_IN_FIRST_UP = auto()
    REPLACEMENT_WITHOUT_LEADER = auto()
    REPLACEMENT_MAJORITY_UNKNOWN = auto()
    REPLACEMENT_UNREACHABLE = auto()
    REPLACEMENT_OF_ANSWERING_MACHINE = auto()
    REPLACEMENT_UNDER_ALARM = auto()
    REPLACEMENT_OTHERS_UNHEALTHY = auto()
    REPLACEMENT_OTHERS_APART = auto()
    REPLACEMENT_WITHOUT_MAJORITY = auto()
    REPLACEMENT_IN_TWO_CLUSTERS = auto()
    REPLACEMENT_ALARMS_UNKNOWN = auto()
    REPLACEMENT_OF_FOREIGN_ETCD = auto()
    REPLACEMENT_WITHOUT_ASKING = auto()


NO_LEADER_REASONS = frozenset(
    {
        WaitReason.NO_LEADER,
        WaitReason.NO_LEADER_AND_BROKEN_PAIRS,
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
    USERS = auto()
    SPACE = auto()


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
    BROKEN_PAIR = auto()
    OTHER_VERSION = auto()
    PENDING = auto()
    FILE_MISSING = auto()
    FILES_MISSING = auto()
    FILE_DIFFERS = auto()
    FILE_EXPIRED = auto()
    FILE_MODE = auto()
    NOT_ON_BOOT = auto()
    NOT_MASKED = auto()
    OTHER_SERVICE = auto()
    UNIT_CHANGED = auto()


class WarningKind(Enum):
    """What an `up` warns of, as it neither fixes nor refuses it."""

    DATABASE_NEARLY_FULL = auto()
    UNLISTED_USERS = auto()
    AUTHENTICATION_OF_OTHERS = auto()
    MEMBERS_LOCKED_OUT = auto()


@dataclass(frozen=True)
class Drift:
    """One difference between a member and the desired state."""

    kind: DriftKind
    details: Details = field(default_factory=dict[str, object])


@dataclass(frozen=True)
class UsersRequest:
    """One request about users and roles, in the words of etcdctl.

    Args:
        command: Such as "role grant-permission".
        arguments: Its arguments.
        flags: Its options.
    """

    command: str
    arguments: Sequence[str]
    flags: Sequence[str] = ()

    @property
    def words(self) -> Sequence[str]:
        """All words; an argument may begin as an option does."""
        return [*self.command.split(), *self.flags, "--", *self.arguments]


@dataclass(frozen=True)
class HostStep:
    """One script to run on one member's machine.

    Args:
        member: Name of the member.
        line: The line that runs the script.
        files: The files that the script writes.
        history: The history that the script writes; None if it writes none.
        requests: What the script asks of etcd about users and roles.
    """

    member: str
    line: Line
    files: Sequence[File] = ()
    history: History | None = None
    requests: Sequence[UsersRequest] = ()

    @property
    def only_restores(self) -> bool:
        """True if the step prepares a machine or writes files: nothing restarts, and the cluster does not change."""
        return isinstance(self.line, PrepareAgain) or (
            isinstance(self.line, Apply) and self.line.action is ApplyAction.FILES
        )


@dataclass(frozen=True)
class Action:
    """What to do next: all steps run at once; then the run observes again.

    Args:
        kind: Its kind.
        steps: What runs on machines.
        details: Name -> value in the text.
        then: What follows without a look in between, if each step has succeeded; None for nothing.
    """

    kind: ActionKind
    steps: Sequence[HostStep]
    details: Details = field(default_factory=dict[str, object])
    then: Action | None = None

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
        pairs: Members that do not reach one another: what their logs say of that is shown when the run ends.
    """

    reason: WaitReason
    seconds: int
    member: str | None = None
    details: Details = field(default_factory=dict[str, object])
    pairs: Sequence[BrokenPair] = ()

    @property
    def limit(self) -> Limit:
        """The key in `RunContext.waited`."""
        return (WaitReason.NO_LEADER, None) if self.reason in NO_LEADER_REASONS else (self.reason, self.member)
