"""Makes the texts of actions, waits and drift from their types, last. No decision depends on a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import cast

from etcd_cluster.rollout.observed import Missing, MissingKind
from etcd_cluster.rollout.planner.actions import (
    Action,
    ActionKind,
    Blocked,
    Details,
    Drift,
    DriftKind,
    TrustScope,
    WaitFor,
    WaitReason,
)

TEXTS: dict[Enum, str] = {
    ActionKind.PREPARE_AGAIN: "preparing again, for {missing}",
    ActionKind.RESTORE_CAS: "restoring the CA file, without a restart",
    ActionKind.REPAIR_CERTIFICATES: "repairing certificates, without a restart",
    ActionKind.RENEW_CERTIFICATES: "renewing certificates, without a restart",
    ActionKind.WRITE_PENDING_FILES: "putting files in place, without a restart",
    ActionKind.NOTE_LOG_POSITION: "noting where its log stands",
    ActionKind.START: "starting",
    ActionKind.JOIN: "joining as a learner",
    ActionKind.PROMOTE: "promoting {member}, once it has all data",
    ActionKind.ADD_LEARNER: "adding {member} as a learner",
    ActionKind.REMOVE_LOST: "removing the old membership of {member}, whose data are gone",
    ActionKind.REMOVE_CUT_SHORT: "ending the joining of {member} that was cut short",
    ActionKind.REMOVE_UNANSWERING: "removing {member}, which does not answer",
    ActionKind.REMOVE_UNLISTED: "removing {member}",
    ActionKind.STOP_REMOVED: "stopping etcd, which was removed from the cluster and has not heard of it",
    ActionKind.UPDATE_PEER_URL: "telling the cluster that {member} is at {url}",
    ActionKind.MOVE_LEADER: "handing leadership over to {successor}",
    ActionKind.DISARM_CORRUPT: "ending the alarm CORRUPT of a member that has been removed",
    ActionKind.DISARM_NOSPACE: "ending the alarm NOSPACE, as every database has room again",
    ActionKind.RESTART: "restarting",
    ActionKind.RESTART_STALE: "restarting into the desired state",
    ActionKind.RESTART_WITH_CERTIFICATES: "restarting (TLS certificates installed, peers still plaintext)",
    ActionKind.RESTART_WITHOUT_CERTIFICATES: "restarting without certificates",
    ActionKind.RESTART_WITH_PEER_TLS: "restarting with TLS among members",
    ActionKind.RESTART_WITH_CLIENT_TLS: "restarting with TLS for clients",
    ActionKind.RESTART_WITHOUT_CLIENT_TLS: "restarting without TLS for clients",
    ActionKind.RESTART_TO_TRUST_ONE_CA: "restarting to trust the new CA alone{scope}",
    ActionKind.RESTART_TO_TRUST_CAS: "restarting to trust {count} CAs{scope}",
    ActionKind.RESTART_TO_FLUSH_LOG: "restarting once, so that {series} can start from its log",
    ActionKind.SNAPSHOT: "taking and checking a snapshot",
    ActionKind.CHECK_V2STORE: "checking for data of the v2 API",
    TrustScope.ALL: "",
    TrustScope.CLIENTS: " for clients",
    TrustScope.PEERS: " among members",
    Blocked.RESTART: "restarted",
    Blocked.REMOVAL: "removed",
    Blocked.ANY_RESTART: "no member is restarted",
    Blocked.MEMBERSHIP: "the membership is not changed",
    Blocked.SECURITY: "the security of members is not changed",
    Blocked.UPGRADE: "etcd is not taken to {version}",
    WaitReason.NO_LEADER: (
        "no member leads: a majority of them cannot reach one another. Look at their logs (journalctl -u etcd) and at "
        "the network between their peer ports, then run `pulumi up` again"
    ),
    WaitReason.NO_ANSWER_FROM_FOLLOWERS: (
        "{following} have a leader, but `etcdctl member list` and `etcdctl endpoint health` get no answer on their "
        "machines. Look at their logs (journalctl -u etcd), then run `pulumi up` again"
    ),
    WaitReason.FOLLOWERS_UNKNOWN: (
        "{following} have a leader, but `etcdctl member list` and `etcdctl endpoint health` get no answer on their "
        "machines ({unknown}). Look at their logs (journalctl -u etcd), then run `pulumi up` again"
    ),
    WaitReason.MAJORITY_UNKNOWN: (
        "it is unknown whether a majority of the members serves, so none is restarted: {unknown}. Wait until they "
        "answer, then run `pulumi up` again; stop etcd where it hangs (systemctl kill -s KILL etcd), and the next "
        "`up` starts it"
    ),
    WaitReason.LEAVING_MEMBER_DOWN: (
        "no quorum: {leaving} is to leave, and does not run. Start it (systemctl start etcd), or put it back into the "
        "stack, and run `pulumi up` again"
    ),
    WaitReason.QUORUM_LOST: (
        "quorum is lost: the data of {lost} are gone ({count} of {all} members), so the others cannot agree on "
        "anything. Nothing was changed. Bring a lost disk back, and run `pulumi up` again; or restore a snapshot into "
        "a new cluster: docs/recover.md has the steps"
    ),
    WaitReason.TWO_CLUSTERS: (
        "two clusters serve: {apart} and {source} are not members of the same one. Nothing more was changed. Find out "
        "which of them clients write to, stop etcd on the others (systemctl stop etcd) and move their data away, then "
        "run `pulumi up` again"
    ),
    WaitReason.MEMBER_UNHEALTHY: (
        "{name} is not healthy, and nothing else is changed until it is; fix it, then run `pulumi up` again"
    ),
    WaitReason.VOTERS_UNHEALTHY: "{blocked} while {down} is not healthy; fix it, then run `pulumi up` again",
    WaitReason.VOTERS_NOT_ASKED: (
        "{blocked} while nothing is known of {down} but that it runs: its machine is not asked or does not answer, and "
        "{source}'s machine gets no answer at its client port. Stop etcd on it if it is to leave; else bring its "
        "machine back, then run `pulumi up` again"
    ),
    WaitReason.LEADER_UNKNOWN: (
        "it is unknown whether {name} leads, so it is not {blocked} ({unknown}); look at its log (journalctl -u etcd), "
        "then run `pulumi up` again"
    ),
    WaitReason.DATA_HIDDEN: (
        "{name} runs, but its data are not at {path}: {mounted_over} is mounted over them. A member that runs is never "
        "removed for that, and nothing more was changed. Unmount it, then run `pulumi up` again"
    ),
    WaitReason.DATA_DELETED: (
        "{name} runs, but its data are not at {path}: they were deleted, or something hides them. A member that runs "
        "is never removed for that, and nothing more was changed. If something is mounted over the data, unmount it; "
        "if they were deleted, stop etcd there, and the next `pulumi up` lets the member join anew"
    ),
    WaitReason.NO_MAJORITY_WITHOUT: (
        "{name} is not removed: without it no majority would be left ({down} does not answer); fix that first, then "
        "run `pulumi up` again"
    ),
    WaitReason.ALARMS_UNKNOWN: (
        "{source}: `etcdctl alarm list` gets no answer, so it is unknown whether writes work. Look at its log "
        "(journalctl -u etcd), then run `pulumi up` again"
    ),
    WaitReason.RIGHTS_UNKNOWN: (
        "{names}: no answer whether its certificate may change the cluster, nothing was changed. Look at its log "
        "(journalctl -u etcd), then run `pulumi up` again"
    ),
    DriftKind.UNREACHABLE: "{why}",
    DriftKind.MISSING: "{missing} is missing",
    DriftKind.MOUNTED_OVER: "{mounted_over} is mounted where its data belong",
    DriftKind.DATA_HIDDEN: "runs, but its data are not visible",
    DriftKind.NO_DATA: "has no data",
    DriftKind.DOWN: "does not run",
    DriftKind.NOT_LISTED: "is no member of the cluster",
    DriftKind.LEARNER: "is a learner",
    DriftKind.UNHEALTHY: "is not healthy",
    DriftKind.OTHER_VERSION: "runs {running}, not {version}",
    DriftKind.PENDING: "its files may be newer than its process",
    DriftKind.FILE_MISSING: "{path} is missing",
    DriftKind.FILES_MISSING: "{count} of its files are missing",
    DriftKind.FILE_DIFFERS: "{path} differs",
    DriftKind.FILE_EXPIRED: "{path} has expired",
    DriftKind.FILE_MODE: "{path} is {mode}, not {expected}",
    DriftKind.NOT_ON_BOOT: "it does not start on boot",
    MissingKind.USER: "user etcd",
    MissingKind.DISK: "the data disk at {detail}",
    MissingKind.MOUNT_ON_BOOT: "the mount of the data disk on boot",
    MissingKind.FILE_SYSTEM: "the file system of its data at {detail}",
    MissingKind.DISK_SPACE: "the rest of its data disk (its file system is smaller than its device)",
    MissingKind.PROGRAMS: "etcd {detail}",
    MissingKind.MARKER: "the marker beside its data",
}
"""Kind -> text. A name in braces stands for a value of the record's details."""


def text(kind: Enum, details: Details) -> str:
    """Returns the text of one kind, with its details filled in."""
    return TEXTS[kind].format(**{name: _plain(value, details) for name, value in details.items()})


def _plain(value: object, details: Details) -> str:
    if isinstance(value, Missing):
        return text(value.kind, {"detail": value.detail})
    if isinstance(value, Enum):
        return text(value, {name: each for name, each in details.items() if each is not value})
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {each}" for name, each in cast("Mapping[str, object]", value).items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_plain(each, details) for each in cast("Sequence[object]", value))
    return str(value)


def summary(action: Action) -> str:
    """Returns what an action does, without the members' names: the script on each machine prints the name itself."""
    return text(action.kind, action.details)


def describe(record: Action | WaitFor | Drift) -> str:
    """Returns the text of a record, for people."""
    if isinstance(record, Action):
        return f"{', '.join(step.member for step in record.steps)}: {summary(record)}"
    return text(record.kind if isinstance(record, Drift) else record.reason, record.details)
