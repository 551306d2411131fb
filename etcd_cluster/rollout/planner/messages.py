"""Makes the texts of actions, waits, refusals, warnings and drift, last. No decision depends on a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum
from typing import cast

from etcd_cluster.errors import Explanation
from etcd_cluster.etcd.versions import UnsupportedChange
from etcd_cluster.rollout.observed import BrokenPair, Missing, MissingKind
from etcd_cluster.rollout.planner.actions import (
    Action,
    ActionKind,
    Blocked,
    Details,
    Drift,
    DriftKind,
    Refusal,
    TrustScope,
    WaitFor,
    WaitReason,
    WarningKind,
)

TEXTS: dict[Enum, str] = {
    ActionKind.PREPARE_AGAIN: "preparing again, for {missing}",
    ActionKind.RESTORE_CAS: "restoring the CA file, without a restart",
    ActionKind.REPAIR_CERTIFICATES: "repairing certificates, without a restart",
    ActionKind.RENEW_CERTIFICATES: "renewing certificates, without a restart",
    ActionKind.WRITE_PENDING_FILES: "putting files in place, without a restart",
    ActionKind.NOTE_LOG_POSITION: "noting where its log stands",
    ActionKind.RESTORE: "restoring backup {backup}",
    ActionKind.PREPARE_RESTORE: "testing a restore of {source}; nothing is stopped for that",
    ActionKind.BACK_UP: "backing up what is there",
    ActionKind.PUT_AWAY_DATA: "stopping, and putting the data of cluster {cluster} away under another name",
    ActionKind.PUT_RESTORED: "putting the restored data in the place of those of cluster {cluster}",
    ActionKind.START_ALONE: "starting, to see what its data hold",
    ActionKind.ASK_POSITION: "asking how far its data go",
    ActionKind.ASK_HASH_OF_DATA: "asking what its data hold, by a copy that starts apart: with them, etcd ends "
    "after each start",
    ActionKind.ASK_HASHES: "asking for the hash of its keys, to compare the data of {member}",
    ActionKind.START: "starting",
    ActionKind.JOIN: "joining as a learner",
    ActionKind.PROMOTE: "promoting {member}, once it has all data",
    ActionKind.ADD_LEARNER: "adding {member} as a learner",
    ActionKind.REMOVE_LOST: "removing the old membership of {member}, whose data are gone",
    ActionKind.REMOVE_CUT_SHORT: "ending the joining of {member} that was cut short",
    ActionKind.REMOVE_UNANSWERING: "removing {member}, which does not answer",
    ActionKind.REMOVE_UNLISTED: "removing {member}",
    ActionKind.REMOVE_DIFFERING: "removing {member}, whose data differ from the majority's (it joins again without "
    "them, and they stay on its disk under another name)",
    ActionKind.STOP_REMOVED: "stopping etcd, which was removed from the cluster and has not heard of it",
    ActionKind.UPDATE_PEER_URL: "telling the cluster that {member} is at {url}",
    ActionKind.MOVE_LEADER: "handing leadership over to {successor}",
    ActionKind.DISARM_CORRUPT: "ending the alarm CORRUPT, as all members hold the same data",
    ActionKind.DISARM_NOSPACE: "ending the alarm NOSPACE, as every database has room again",
    ActionKind.COMPACT: "compacting the history to its newest {kept} revisions, as the alarm NOSPACE stands ({member}: "
    "a database of {database}, quota {quota}): every key stays, older values of keys go, and a "
    "watch or read that asks for one of those has to start anew",
    ActionKind.COMPACT_ALL: "compacting the whole history, as the database of {member} has {database} without its free "
    "pages, and a quota of {quota}: every key stays, older values of keys go, and a watch or read that asks for one of "
    "those has to start anew",
    ActionKind.DEFRAGMENT: "restarting, to defragment its database of {database}",
    ActionKind.DEFRAGMENT_FREE: "restarting, to defragment its database of {database}, of which {free} are free",
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
    ActionKind.READ_USERS: "reading etcd's users and roles as the user root",
    ActionKind.SET_USERS: "setting etcd's users and roles: {names}",
    ActionKind.ENABLE_AUTHENTICATION: "turning etcd's authentication on",
    ActionKind.DISABLE_AUTHENTICATION: "turning etcd's authentication off",
    TrustScope.ALL: "",
    TrustScope.CLIENTS: " for clients",
    TrustScope.PEERS: " among members",
    Blocked.RESTART: "restarted",
    Blocked.REMOVAL: "removed",
    Blocked.ANY_RESTART: "no member is restarted",
    Blocked.MEMBERSHIP: "the membership is not changed",
    Blocked.SECURITY: "the security of members is not changed",
    Blocked.SPACE: "no room is made in the databases",
    Blocked.UPGRADE: "etcd is not taken to {version}",
    Blocked.USERS: "etcd's users and roles are not changed",
    DriftKind.UNREACHABLE: "{why}",
    DriftKind.MISSING: "{missing} is missing",
    DriftKind.MOUNTED_OVER: "{mounted_over} is mounted where its data belong",
    DriftKind.DATA_HIDDEN: "runs, but its data are not visible",
    DriftKind.NO_DATA: "has no data",
    DriftKind.DOWN: "does not run",
    DriftKind.NOT_LISTED: "is no member of the cluster",
    DriftKind.LEARNER: "is a learner",
    DriftKind.UNHEALTHY: "is not healthy",
    DriftKind.BROKEN_PAIR: "does not reach {peers}",
    DriftKind.OTHER_VERSION: "runs {running}, not {version}",
    DriftKind.PENDING: "its files may be newer than its process",
    DriftKind.FILE_MISSING: "{path} is missing",
    DriftKind.FILES_MISSING: "{count} of its files are missing",
    DriftKind.FILE_DIFFERS: "{path} differs",
    DriftKind.FILE_EXPIRED: "{path} has expired",
    DriftKind.FILE_MODE: "{path} is {mode}, not {expected}",
    DriftKind.NOT_ON_BOOT: "it does not start on boot",
    DriftKind.NOT_MASKED: "etcd.service is not masked, so a package may start another etcd beside it",
    DriftKind.OTHER_SERVICE: "{service}",
    DriftKind.UNIT_CHANGED: "{paths} changes its unit",
    WarningKind.DATABASE_NEARLY_FULL: "warning: {member}: its database has {database} of a quota of {quota}; once it "
    "is full, etcd refuses every write (docs/space.md)",
    WarningKind.UNLISTED_USERS: "warning: etcd has users that this stack does not name: {names}. They stay; remove "
    "them with etcdctl user delete, or name them in users",
    WarningKind.AUTHENTICATION_OF_OTHERS: "warning: etcd's authentication is on, and this stack names no users: "
    "somebody else turned it on, or a run that was cut off did, or it came with the data of a backup. It stays on, and "
    "the exported client certificate may do what its user may; name users, or turn it off with etcdctl auth disable "
    "(docs/users.md)",
    WarningKind.MEMBERS_LOCKED_OUT: "warning: {problem}: any change is refused, and backups by {members} fail. To end "
    "this, {fix}",
    MissingKind.USER: "user etcd",
    MissingKind.DISK: "the data disk at {detail}",
    MissingKind.MOUNT_ON_BOOT: "the mount of the data disk on boot",
    MissingKind.FILE_SYSTEM: "the file system of its data at {detail}",
    MissingKind.DISK_SPACE: "the rest of its data disk (its file system is smaller than its device)",
    MissingKind.PROGRAMS: "etcd {detail}",
    MissingKind.MARKER: "the marker beside its data",
}
"""Kind -> text. A name in braces stands for a value of the record's details."""

Reason = Refusal | WaitReason | UnsupportedChange
"""Why a change or a run is refused, or why a run waits."""

IN_RESTORED_DATA = (
    "That is in the data that are to be restored; nothing was stopped for them. To change it there: if etcd's "
    "authentication is off in them, restore them without users in the stack first; else restore them into another "
    "stack (restoreFrom), and back them up there"
)
"""What follows a refusal that is about users and roles of data that have not taken the place of others yet."""

LOG = "journalctl -u etcd-cluster"
EXPLANATIONS: dict[Reason, Explanation] = {
    # --- what a run waits for ---
    WaitReason.NO_LEADER: Explanation(
        "no member leads: a majority of the members cannot reach one another",
        "a leader, elected by a majority of the members",
        f"find the cause in the members' logs ({LOG}) and in the network between their peer ports, and fix it",
    ),
    WaitReason.NO_LEADER_AND_BROKEN_PAIRS: Explanation(
        "no member leads: {pairs}",
        "a leader, elected by a majority of the members, which reach one another",
        f"find the cause in the logs of these members ({LOG}), often a firewall before a peer port, or connections "
        "from an address that the member's certificate does not name, and fix it",
    ),
    WaitReason.NO_ANSWER_FROM_FOLLOWERS: Explanation(
        "{following}: has a leader, but `etcdctl member list` and `etcdctl endpoint health` get no answer there",
        "an answer to both commands on the machine of a member that has a leader",
        f"find the cause in etcd's log on that machine ({LOG}), and fix it",
    ),
    WaitReason.FOLLOWERS_UNKNOWN: Explanation(
        "{following}: has a leader, but `etcdctl member list` and `etcdctl endpoint health` get no answer there "
        "({unknown})",
        "an answer to both commands on the machine of a member that has a leader",
        f"find the cause in etcd's log on that machine ({LOG}), and fix it",
    ),
    WaitReason.MAJORITY_UNKNOWN: Explanation(
        "it is unknown whether a majority of the members serves, so none is restarted: {unknown}",
        "an answer from a majority of the members",
        "wait until these members answer, or stop etcd where it hangs (systemctl kill -s KILL etcd-cluster; the next "
        "run starts it)",
    ),
    WaitReason.LEAVING_MEMBER_DOWN: Explanation(
        "no quorum: {leaving} is to leave the cluster, and does not run",
        "a running majority until each leaving member is removed",
        "start etcd on the machine of that member (systemctl start etcd-cluster), or put the member back into the "
        "stack",
    ),
    WaitReason.QUORUM_LOST: Explanation(
        "quorum is lost: the data of {lost} are gone ({count} of {all} members)",
        "the data of a majority of the members",
        "bring a lost disk back, or set `recover` as docs/recover.md describes",
    ),
    WaitReason.TWO_CLUSTERS: Explanation(
        "two clusters serve: {apart} and {source} are not members of the same one",
        "one cluster of all members",
        "find out to which of the two clients write, stop etcd on the members of the other one (systemctl stop "
        "etcd-cluster), and move their data away as docs/recover.md describes",
    ),
    WaitReason.MEMBER_UNHEALTHY: Explanation(
        "{name} is not healthy, and nothing else is changed until it is",
        "all voting members healthy",
        f"find the cause in its log ({LOG}), and fix it",
    ),
    WaitReason.BROKEN_PAIRS: Explanation(
        "{pairs}, and nothing else is changed until every member reaches every other one",
        "each pair of running members connected both ways (metric etcd_network_active_peers: 1)",
        f"find the cause in the logs of these members ({LOG}), often a firewall before a peer port, or connections "
        "from an address that the member's certificate does not name, and fix it",
    ),
    WaitReason.VOTERS_UNHEALTHY: Explanation(
        "{blocked} while {down} is not healthy",
        "all voting members healthy",
        f"find the cause in the log of that member ({LOG}), and fix it",
    ),
    WaitReason.VOTERS_NOT_ASKED: Explanation(
        "{blocked} while it is unknown whether {down} is healthy: its machine is not in the stack or gives no answer, "
        "and its client port gives no answer to the machine of {source}",
        "an answer from every voting member",
        "stop etcd on its machine if the member is to leave (systemctl stop etcd-cluster), or bring the machine back",
    ),
    WaitReason.LEADER_UNKNOWN: Explanation(
        "it is unknown whether {name} leads, so it is not {blocked} ({unknown})",
        "an answer from {name} whether it leads, because a leader hands over first",
        f"find the cause in its log ({LOG}), and fix it",
    ),
    WaitReason.DATA_HIDDEN: Explanation(
        "{name} runs, but its data are not at {path}: {mounted_over} is mounted over them",
        "its data at {path} (a member that runs is never removed)",
        "unmount what is mounted over the data (umount)",
    ),
    WaitReason.DATA_DELETED: Explanation(
        "{name} runs, but its data are not at {path}: they were deleted, or something is mounted over them",
        "its data at {path} (a member that runs is never removed)",
        "unmount what is mounted over the data (umount), or, if they were deleted, stop etcd on that machine "
        "(systemctl stop etcd-cluster; the member then joins anew)",
    ),
    WaitReason.NO_MAJORITY_WITHOUT: Explanation(
        "{name} is not removed: without it no majority would be left ({down} does not answer)",
        "a majority of the remaining voting members before one is removed",
        f"find the cause in the log of the members that do not answer ({LOG}), and fix it",
    ),
    WaitReason.LAST_VOTER: Explanation(
        "{name} is not removed: it is the only voting member",
        "another voting member before this one is removed",
        "keep {name} and its data in the stack until another member has joined",
    ),
    WaitReason.ALARMS_UNKNOWN: Explanation(
        "{source}: `etcdctl alarm list` gets no answer, so it is unknown whether the cluster takes writes",
        "an answer to that command",
        f"find the cause in the log of {{source}} ({LOG}), and fix it",
    ),
    WaitReason.DATABASES_UNKNOWN: Explanation(
        "etcd's alarm NOSPACE stands, and {names}: it is unknown how large the database of this member is",
        "the size of every voting member's database",
        f"find the cause in the log of that member ({LOG}), and fix it",
    ),
    WaitReason.HASHES_UNKNOWN: Explanation(
        "etcd's alarm CORRUPT stands, and {names} gives no hash of its keys, so no member is judged",
        "an answer to `etcdctl endpoint hashkv` from every member",
        f"find the cause in the log of that member ({LOG}), and fix it",
    ),
    WaitReason.HASHES_OF_OTHER_REVISIONS: Explanation(
        "etcd's alarm CORRUPT stands, and the members' hashes cannot be compared, as they are at different revisions "
        "(revision, compacted: {found})",
        "the same revisions on every member, as nothing is written under the alarm",
        f"find the cause in the logs of the members that are behind ({LOG}), and fix it",
    ),
    WaitReason.RIGHTS_UNKNOWN: Explanation(
        "{names}: it is unknown whether the certificate of this member may change the cluster",
        "an answer from every healthy member",
        f"find the cause in the log of that member ({LOG}), and fix it",
    ),
    WaitReason.USERS_UNKNOWN: Explanation(
        "{source}: `etcdctl user list`, `user get`, `role list` or `role get` gets no answer, so it is unknown which "
        "users etcd has",
        "an answer to these commands",
        f"find the cause in the log of {{source}} ({LOG}), and fix it",
    ),
    WaitReason.VERSION_MAY_RISE: Explanation(
        "version: {desired}: every member runs a newer minor version, and etcd may raise the version of the cluster to "
        "it at any moment",
        "the version that members run, or a newer one",
        "set version to what members run",
    ),
    # --- what a preview refuses ---
    Refusal.NO_MEMBER_STAYS: Explanation(
        "members: {new}: none of {old} would be left, so this would be another cluster",
        "at least one member that stays",
        "keep at least one member, or make a new stack",
    ),
    Refusal.TLS_TURNED_OFF: Explanation(
        "tls: false: this cluster uses TLS, and without it anyone who reaches its ports can read and change everything",
        "tls: true",
        "set tls back to true, or set allowPlaintext: true as well",
    ),
    Refusal.TLS_TURNED_OFF_AND_MEMBERS_CHANGED: Explanation(
        "tls: false: {members} would need a certificate until no member uses TLS",
        "unchanged members and addresses while TLS is turned off",
        "undo the change of members and addresses, run `pulumi up`, make the change again",
    ),
    Refusal.CA_REPLACED_AND_MEMBERS_CHANGED: Explanation(
        "{members}: needs a certificate of the new CA, which no other member trusts yet",
        "unchanged members and addresses while the CA is replaced",
        "undo the change of members and addresses, run `pulumi up`, make the change again",
    ),
    Refusal.SEVERAL_DEVICES_CHANGED: Explanation(
        "device: {members}: added to, or removed from, more than one running member at once",
        "one such member in each `pulumi up`, because its data have to be moved by hand first",
        "change the device of one member, and move its data as docs/move-data-to-a-device.md describes",
    ),
    Refusal.DIRECTORY_CHANGED: Explanation(
        "directory: {members}: etcd's data is in {old}, and {new} is empty",
        "the directory that holds the data",
        "undo the change, or move the data while the cluster is down as docs/move-data-to-a-device.md describes",
    ),
    Refusal.DIRECTORY_CHANGED_WITH_STACK: Explanation(
        "directory: {members}: etcd's data is in {old}, and {new} is empty",
        "the directory that holds the data; its default has the name of the stack, so a renamed stack changes it",
        "set `etcd-cluster:local: {{directory: {directory}}}`, or move the data while the cluster is down as "
        "docs/move-data-to-a-device.md describes",
    ),
    Refusal.DIRECTORY_CHANGED_WITH_CLUSTER: Explanation(
        "directory: {members}: etcd's data is in {old}, and {new} is empty",
        "the directory that holds the data; the name of the component is part of it on this machine",
        "name the component {cluster} again instead of {renamed}, or move the data while the cluster is down as "
        "docs/move-data-to-a-device.md describes",
    ),
    Refusal.PORT_OF_ANOTHER_MEMBER: Explanation(
        "ports: {member}: {ports} at {address} is in use by {other}, which gets its new ports later",
        "ports that no member has now, because members change one at a time",
        "choose other ports (local.basePort: 100 more)",
    ),
    Refusal.USERS_AND_VERSION_CHANGED: Explanation(
        "users: changed together with version ({old} -> {new}): etcd's users are never changed while members run "
        "different minor versions",
        "one of the two changes in each `pulumi up`",
        "undo the change of users and roles, run `pulumi up`, make the change again",
    ),
    Refusal.USERS_AND_TLS_CHANGED: Explanation(
        "users: changed together with tls: a user is known by its certificate",
        "one of the two changes in each `pulumi up`, so that users are there with TLS alone",
        "undo one of the two changes (that of tls, where users are to go), run `pulumi up`, make the change again",
    ),
    Refusal.USERS_AND_CA_CHANGED: Explanation(
        "users: changed together with the CA of clients, which signs the users' certificates",
        "one of the two changes in each `pulumi up`",
        "undo the change of users and roles, run `pulumi up`, make the change again",
    ),
    Refusal.USER_NAMED_AS_MEMBER: Explanation(
        "users and members: {names}: a user and a leaving or joining member of one name, and a certificate of a "
        "member's name may do everything",
        "names of users that no member had before this `pulumi up`, and names of members that no user had",
        "choose another name for the user or for the member",
    ),
    # --- versions ---
    UnsupportedChange.OLDER_PATCH: Explanation(
        "version: {desired}: this cluster runs {running}, and etcd supports no way back to an older patch, which lacks "
        "what {running} fixed",
        "the same or a newer version",
        "set version to {running}, or to a newer patch of {series}",
    ),
    UnsupportedChange.OLDER_MINOR: Explanation(
        "version: {desired}: this cluster runs {running}, and going back to {desired_series} is not supported: its "
        "data may be in the format of {series} already, which etcd {desired_series} does not start with",
        "the same or a newer version",
        "set version to {running}, or to a newer patch of {series}",
    ),
    UnsupportedChange.MINOR_SKIPPED: Explanation(
        "version: {desired}: this cluster runs {running}, and etcd is upgraded one minor at a time",
        "a version that may follow {running}",
        "set version to {first} (in later runs: {later})",
    ),
    UnsupportedChange.PATCH_TOO_OLD: Explanation(
        "version: {desired}: this cluster runs {running}, and {desired_series} may follow {floor} or later only, "
        "because {why} ({source})",
        "a version that may follow {running}",
        "set version to {first} (in later runs: {later})",
    ),
    Refusal.CLUSTER_VERSION_UNKNOWN: Explanation(
        "{member} has run {running}, and it is unknown whether it may go back to {desired} ({unknown})",
        "an answer from {member} about the version of the cluster",
        f"set version to {{running}}, or find the cause in its log ({LOG}) and fix it",
    ),
    Refusal.CLUSTER_VERSION_RAISED: Explanation(
        "version: {desired}: every member has run {cluster_version} already, and etcd {series} does not start with the "
        "data of {cluster_version}",
        "a version of {cluster_version}, or a newer one that may follow it",
        "set version to {running}",
    ),
    Refusal.V2_KEYS: Explanation(
        "{member} holds keys of etcd's old v2 API, and etcd 3.6 does not start with them",
        "no keys of the v2 API before the upgrade to 3.6",
        "on one machine, add `enable-v2: true` to etcd.yaml (the next run removes that line), restart etcd, and delete "
        "the keys (ETCDCTL_API=2 etcdctl ls, then ETCDCTL_API=2 etcdctl rm)",
    ),
    Refusal.V2_CHECK_UNREADABLE: Explanation(
        "{member}: the check for data of the v2 API printed {printed!r} instead of its result",
        "clean, log or store",
        "find what else prints on that machine, such as a login file of root, and remove it",
    ),
    # --- what is on the machines ---
    Refusal.RESTORE_OF_RUNNING_CLUSTER: Explanation(
        "restoreFrom is {backup}, and this cluster runs, with data of its own",
        "a new cluster, which starts with the backup",
        "take restoreFrom out (restoreInPlace restores into a cluster that runs: docs/recover.md)",
    ),
    Refusal.RESTORE_WITH_OTHER_CHANGES: Explanation(
        "{key}: {changed} changes in the same `pulumi up`",
        "no other change of the cluster while its data are restored",
        "undo that change, run `pulumi up`, make the change again (or make it first, in a `pulumi up` without {key})",
    ),
    Refusal.RESTORE_DONE: Explanation(
        "{key}.cluster is {cluster}, whose data were given up already: the cluster has had another id since then",
        "the id that the cluster has now",
        "set {key}.cluster to the id that `etcd-cluster status` shows, or take {key} out",
    ),
    Refusal.RESTORE_OF_NEW_CLUSTER: Explanation(
        "{key}: this stack has no cluster yet",
        "a cluster whose data are given up",
        "take {key} out (restoreFrom restores into a new cluster)",
    ),
    Refusal.RESTORE_OF_ANOTHER_CLUSTER: Explanation(
        "{key}.cluster is {cluster}, and the cluster here has the id {found}",
        "the id of the cluster whose data are given up",
        "if the data of cluster {found} are to go, set {key}.cluster to {found}, else take {key} out",
    ),
    Refusal.RESTORE_WITHOUT_DATA: Explanation(
        "restoreInPlace.cluster is {cluster}, and no machine holds data of any cluster",
        "data that are given up",
        "set recover instead of restoreInPlace",
    ),
    Refusal.RESTORE_WITH_UNLISTED: Explanation(
        "the cluster has members on machines that the stack does not name, where they would go on with the data that "
        "are given up: {members}",
        "members on the machines of the stack alone",
        "remove them (etcdctl member remove), or put them into the stack, with these addresses",
    ),
    Refusal.RESTORE_BESIDE_SERVING: Explanation(
        "members serve with the data of cluster {cluster}, which restored data took the place of, and those with the "
        "restored data ({restored}) have no leader",
        "one cluster",
        "decide whose data are right: if those that serve, put the data of {restored} out of the way "
        "(docs/recover.md); else stop the members that serve",
    ),
    Refusal.RESTORE_NOWHERE: Explanation(
        "none of {members} answered when the store was asked, so none of them can fetch the backup",
        "a machine that can read the store",
        "take the key out, run `pulumi up`, set it again",
    ),
    Refusal.RESTORE_CUT_SHORT: Explanation(
        "{members}: a restore in the place of the data of cluster {cluster} was cut short here, and the stack does not "
        "ask for it any more",
        "the restore done to its end",
        "set restoreInPlace or recover again as it was (the earlier data are kept beside, under another name)",
    ),
    Refusal.RECOVER_WITH_QUORUM: Explanation(
        "recover: the quorum is not known to be lost: {having} may serve ({count} of {all} members are there)",
        "the data of a majority of the members gone, or their machines gone for good and named in recover.lost",
        "take recover out and run `pulumi up`, which says what is missing (to go on with other data, set "
        "restoreInPlace), or, if machines that give no answer are gone for good, power them off and name them in "
        "recover.lost",
    ),
    Refusal.RECOVER_OF_ANSWERING: Explanation(
        "recover.lost: something answers at the addresses of {members}",
        "machines that are gone for good, at whose addresses nothing answers",
        "take these members out of recover.lost, or power their machines off",
    ),
    Refusal.RECOVER_OF_NONE: Explanation(
        "recover: there are no data of {member} (members of the stack with data: {left})",
        "a member of the stack whose data are there",
        "set recover.from to a member whose data are there, or to a backup; a member that is to leave leaves in a "
        "later `pulumi up`",
    ),
    Refusal.RECOVERED_WITHOUT: Explanation(
        "the cluster serves again, with {members}; these members give no answer, and hold data of the cluster that was "
        "given up: {missing}",
        "an answer from the machines of all members",
        "give them other machines (docs/replace-a-member.md), and keep the old ones off until their disks are wiped",
    ),
    Refusal.UNREACHABLE: Explanation(
        "no answer from the machines of these members: {unreachable}",
        "an answer from the machines of all members",
        "bring the machine back, or, if it is gone for good, give the member another one (docs/replace-a-member.md)",
    ),
    Refusal.TAKEN_OVER: Explanation(
        "{members}: another run has taken this cluster over, so this one ends here",
        "one run at a time",
        "wait until the other run has ended",
    ),
    Refusal.FOREIGN_ETCD: Explanation(
        "{member}: the etcd that runs on its machine does not belong to this cluster: its database is {database}",
        "etcd of this cluster, or none",
        "stop that etcd (systemctl disable --now etcd), or give the member another machine",
    ),
    Refusal.OTHER_SERVICE: Explanation(
        "{member}: {service}",
        "no other etcd on the machine of a member",
        "stop and disable that service (systemctl disable --now etcd), and remove its package or file, or give the "
        "member another machine",
    ),
    Refusal.UNIT_CHANGED: Explanation(
        "{member}: {paths} changes the unit of the member, etcd-cluster.service",
        "the unit as etcd-cluster wrote it",
        "remove that file on its machine and reload (systemctl daemon-reload), or hide a package's file (ln -s "
        "/dev/null /etc/systemd/system/service.d/NAME)",
    ),
    Refusal.DATA_OF_ANOTHER_CLUSTER: Explanation(
        "{member}: its disk holds the data of another cluster (token {token})",
        "a blank disk, or the data of this cluster (token {own})",
        "give the member its own disk back, or another disk or machine",
    ),
    Refusal.DATA_OF_ANOTHER_MEMBER: Explanation(
        "{member}: its disk holds the data of member {owner}",
        "the data of {member}, or none",
        "give each member its own disk back",
    ),
    Refusal.DATA_OF_DIFFERENT_CLUSTERS: Explanation(
        "the data of these members are of different clusters, by etcd's own logs ({found}), as after a snapshot was "
        "restored beside older data",
        "the data of one cluster",
        "move the data of all clusters but one away as docs/recover.md describes",
    ),
    Refusal.DATA_ON_FORMER_MACHINE: Explanation(
        "{members}: has another machine or folder now, and the former one holds data of this cluster, whose first `up` "
        "failed",
        "the machines of the first `up`, because a second cluster beside these data is never formed",
        "put the former machine or folder back, or run `pulumi destroy`",
    ),
    Refusal.MOUNTED_OVER: Explanation(
        "{member}: {mounted_over} is mounted where its data belong, and may hide them",
        "the member's own file system, or none",
        "unmount it (umount) and remove it from /etc/fstab, or, if it is the member's new file system, delete "
        "{state}/mounted-at on that machine",
    ),
    Refusal.STILL_MISSING: Explanation(
        "{member}: still missing after its machine was prepared again: {missing}",
        "a machine that keeps what was installed on it",
        "find out on that machine what removes it, and stop that",
    ),
    Refusal.SAME_MACHINE: Explanation(
        "{member} and {other} are on the same machine, or on clones of one (machine-id {machine})",
        "a machine of its own for each member",
        "give {member} another machine, or give the clone an id of its own (rm /etc/machine-id; "
        "systemd-machine-id-setup)",
    ),
    Refusal.CLOCKS_APART: Explanation(
        "{clock}",
        "clocks that are at most {tolerance:.0f} s apart",
        "set the wrong clock (chronyc makestep), on that machine or on this one",
    ),
    Refusal.CERTIFICATE_NOT_VALID_YET: Explanation(
        "{member}: its new certificate is not valid before {starts}, because the clock of the machine that issued it "
        "was ahead",
        "a certificate that is valid by the clock of its machine",
        "set the clock of the machine that ran `pulumi up` (chronyc makestep), and wait until {starts}",
    ),
    # --- forming and starting ---
    Refusal.FORMING_UNREACHABLE: Explanation(
        "the cluster is not formed while a machine that was listed before gives no answer and may hold data: "
        "{unreachable}",
        "an answer from every machine that was ever listed",
        "bring the machine back, or, if it is gone for good, run `pulumi destroy`",
    ),
    Refusal.FORMING_WITH_LOST_DATA: Explanation(
        "the data of {lost} are gone: members of this cluster had data there, so it is not formed anew",
        "the data that these members had",
        "bring the data back, or restore a snapshot (docs/recover.md), or, to start empty, run `pulumi destroy` and "
        'remove the notes about the data (docs/destroy.md, "Start empty")',
    ),
    Refusal.FORMING_WITHOUT_FOUNDERS: Explanation(
        "no machine holds the data that this cluster was to start with",
        "the data that the machines held in the first `up`",
        "bring the data back, or, to start empty, run `pulumi destroy`",
    ),
    Refusal.RESTORING_WITH_DATA: Explanation(
        "restoreFrom is set, and {members} already hold other data",
        "machines without data, where a new cluster starts with a backup",
        "take restoreFrom out to go on with that data, or run `pulumi destroy` and move the data away "
        '(docs/destroy.md, "Start empty")',
    ),
    Refusal.STOPPED_AT_ANOTHER_MINOR: Explanation(
        "{member} holds the data of etcd {series}, and a stopped cluster cannot be upgraded to {version}",
        "a version of {series}",
        "set version to a release of {series}, run `pulumi up`, set version to {version}",
    ),
    # --- membership and leadership ---
    Refusal.RUNS_WITH_OTHER_DATA: Explanation(
        "{member} runs, but its machine does not show the data of that member",
        "its own data (a member that runs is never removed)",
        "unmount what hides the data (umount), or, if they are to go, stop etcd on that machine (systemctl stop "
        "etcd-cluster)",
    ),
    Refusal.LEAVING_MEMBER_DISTRUSTS: Explanation(
        "{member} is to leave, but does not trust the certificates of the members that are to join",
        "members that trust one another until the change is over",
        "put {member} back into the stack, run `pulumi up`, remove {member} from the stack",
    ),
    Refusal.JOINING_WITHOUT_CERTIFICATES: Explanation(
        "{member} cannot join: the other members use TLS, and with tls: false it gets no certificates",
        "no new member until the others use plaintext",
        "set tls to true, run `pulumi up`, set tls to false",
    ),
    Refusal.REMOVED_MAJORITY_RUNS: Explanation(
        "{members}: not in the member list of {source}, but running, and a majority of the members in their own list",
        "one member list",
        "find out which of the two groups clients write to, stop etcd on the other one (systemctl stop etcd-cluster), "
        "and move its data away as docs/recover.md describes",
    ),
    Refusal.NO_SUCCESSOR: Explanation(
        "{leader} leads, and no other member is healthy to take over the leadership and reached by all others",
        "another healthy voting member, which all members reach at its peer port",
        f"find the cause in the logs of the other members ({LOG}), and fix it",
    ),
    # --- alarms, quota, authentication ---
    Refusal.QUOTA_TOO_SMALL: Explanation(
        "quota-backend-bytes: {quota_bytes} ({quota}): the database of {member} has {database}, and etcd takes no "
        "writes once a database has reached its quota",
        "a quota of at least {least}",
        "set a larger etcd.quota-backend-bytes or size, or make the database smaller: compact, and defragment each "
        "member (docs/space.md)",
    ),
    Refusal.ALARM_CORRUPT_WITHOUT_MAJORITY: Explanation(
        "etcd's alarm CORRUPT stands, etcd refuses every write, and no majority of the members holds the same data "
        "(hashes: {found})",
        "the same data on a majority of at least two members",
        "restore a backup, or, if you know which member is right, start anew from its data (docs/recover.md)",
    ),
    Refusal.ALARM_NOSPACE: Explanation(
        "etcd's alarm NOSPACE stands, and etcd refuses every write: with all history compacted, the keys alone take "
        "{used} of a quota of {quota} on {member}",
        "keys that take less than 90 % of the quota",
        "set etcd.quota-backend-bytes to {larger_bytes} ({larger}), or delete keys (etcdctl del works while the alarm "
        "stands)",
    ),
    Refusal.ALARM_NOSPACE_AT_LIMIT: Explanation(
        "etcd's alarm NOSPACE stands, and etcd refuses every write: with all history compacted, the keys alone take "
        "{used} of a quota of {quota} on {member}",
        "keys that take less than 90 % of {limit}, the largest quota that etcd suggests",
        "delete keys (etcdctl del works while the alarm stands)",
    ),
    Refusal.ALARM_OTHER: Explanation(
        "etcd's alarm {alarms} stands, and etcd refuses every write",
        "no alarm",
        f"find the cause in the members' logs ({LOG}), fix it, end the alarm (etcdctl alarm disarm)",
    ),
    Refusal.NO_ROOT_USER: Explanation(
        "etcd's authentication is on, and {members} may not change the cluster",
        "a user of role root by the name of every member, as in its certificate",
        "as a user of role root, run `{commands}`; or, in a stack without users, name them (docs/users.md)",
    ),
    Refusal.AUTHENTICATION_WITHOUT_TLS: Explanation(
        "etcd's authentication is on, and {members} may not change the cluster: without TLS, members have no "
        "certificates",
        "no authentication without TLS",
        "turn the authentication off (etcdctl --user root auth disable)",
    ),
    Refusal.USERS_OF_OTHERS: Explanation(
        "users: etcd has users of these names already, and this stack did not make them: {users}",
        "names that no user of etcd has",
        "choose other names, or delete these users (etcdctl user delete), or hand them over to this stack, which then "
        "sets their roles, and deletes them once it does not name them: {rights}run `{commands}` (docs/users.md)",
    ),
    Refusal.ROLES_OF_OTHERS: Explanation(
        "roles: etcd has roles of these names already, and this stack did not make them: {roles}",
        "names that no role of etcd has",
        "choose other names, or, if nobody needs these roles any more, delete them (etcdctl role delete)",
    ),
    Refusal.ROLE_OURS_WITH_KEYS: Explanation(
        "etcd's role {role} has keys (permissions: {count}), so this package did not make it: its role of that name "
        "marks its users, and has none",
        "no role of that name, or one without keys",
        "give its users another role, and delete it (etcdctl role delete {role}), or take its keys away (etcdctl role "
        "revoke-permission)",
    ),
    Refusal.USERS_OF_MIXED_VERSIONS: Explanation(
        "{members}: has to be a user of etcd before it joins, and etcd's users are never changed while members run "
        "different minor versions ({versions})",
        "no other members while an upgrade to another minor version is under way",
        "undo the change of members, run `pulumi up`, which completes the upgrade, make the change again",
    ),
    # --- a run ---
    Refusal.FUTILE: Explanation(
        "{action}: done {times} times, and nothing has changed",
        "a change on that machine",
        f"find the cause on that machine ({LOG}), and fix it",
    ),
    Refusal.ENDPOINTS_OF_DIFFERENT_CLUSTERS: Explanation(
        "the members' client URLs lead to different clusters ({found}; the members form {cluster})",
        "the members' own cluster at each client URL",
        "find out what answers at these addresses, and correct the addresses",
    ),
    # --- the replacement of a machine ---
    Refusal.REPLACEMENT_IN_FIRST_UP: Explanation(
        "replaceMember: {member}: this run creates the resource that asks the other members before a replacement",
        "no replaceMember in the run that creates this resource",
        "remove replaceMember, run `pulumi up`, set replaceMember again",
    ),
    Refusal.REPLACEMENT_WITHOUT_LEADER: Explanation(
        "the machine of {member} is not replaced while it runs, but no member leads",
        "a leader, elected by a majority of the members",
        "remove replaceMember, or, if the machine of another member is dead, set replaceMember to that member",
    ),
    Refusal.REPLACEMENT_MAJORITY_UNKNOWN: Explanation(
        "the machine of {member} is not replaced while it runs and it is unknown whether a majority serves ({unknown})",
        "an answer from a majority of the members",
        f"remove replaceMember, find the cause in the members' logs ({LOG}), and fix it",
    ),
    Refusal.REPLACEMENT_UNREACHABLE: Explanation(
        "the machine of {member} is not replaced while it is unknown whether it serves: {unreachable}",
        "an answer from the machine of a member that runs",
        "restore the connection to the machines (SSH key, bastion, VPN), or, if the machine is dead, set "
        "`replaceDeadMember` instead of `replaceMember`",
    ),
    Refusal.REPLACEMENT_OF_ANSWERING_MACHINE: Explanation(
        "the machine of {member} is not known to be dead: {why}",
        "no answer at the address of a dead machine",
        "restore the log-in (SSH key, bastion) and set `replaceMember` instead, or power the machine off",
    ),
    Refusal.REPLACEMENT_UNDER_ALARM: Explanation(
        "the machine of {member} is not replaced while etcd's alarm CORRUPT stands",
        "the same data on every member",
        "remove replaceMember, and end the alarm as that `pulumi up` describes",
    ),
    Refusal.REPLACEMENT_OTHERS_APART: Explanation(
        "the machine of {member} is not replaced while other members do not reach one another: {pairs}",
        "each pair of the other members connected both ways",
        f"remove replaceMember, find the cause in the members' logs ({LOG}), and fix it",
    ),
    Refusal.REPLACEMENT_WITHOUT_MAJORITY: Explanation(
        "the machine of {member} is not replaced while {others} alone would be no majority of {count} voting members",
        "a majority of the voting members without it",
        "remove replaceMember, and run `pulumi up`, which completes the members",
    ),
    Refusal.REPLACEMENT_IN_TWO_CLUSTERS: Explanation(
        "the machine of {member} is not replaced while {apart} serve in another cluster than {source}",
        "one cluster",
        "remove replaceMember, and run `pulumi up`, which says what to do (docs/recover.md)",
    ),
    Refusal.REPLACEMENT_ALARMS_UNKNOWN: Explanation(
        "the machine of {member} is not replaced while it is unknown whether an alarm stands: {source} gave no answer",
        "the list of alarms (etcdctl alarm list)",
        f"remove replaceMember, find the cause in the log of {{source}} ({LOG}), and fix it",
    ),
    Refusal.REPLACEMENT_OF_FOREIGN_ETCD: Explanation(
        "the machine of {member} is not replaced while another etcd runs there, whose database is {database}",
        "no etcd but the member's own, as the replacement deletes the machine's own disk",
        "stop that etcd, and move its data away",
    ),
    Refusal.REPLACEMENT_WITHOUT_ASKING: Explanation(
        "replaceMember: this run leaves out the resource that asks the other members (--target, --exclude)",
        "NAME-machine-replacement among the targets",
        "run it without --target, or name that resource as well",
    ),
    Refusal.REPLACEMENT_OTHERS_UNHEALTHY: Explanation(
        "the machine of {member} is not replaced while {down} is not healthy",
        "all other voting members healthy",
        "remove replaceMember (the run repairs what it can), or, if the other machine is dead, replace that one first",
    ),
}
"""Reason -> what is wrong, what was expected, and what to do before `pulumi up` is run again."""


def text(kind: Enum, details: Details) -> str:
    """Returns the text of one kind, with its details filled in."""
    return _filled(TEXTS[kind], details)


def explain(reason: Reason, details: Details) -> Explanation:
    """Returns the three sentences of a refusal or a wait, with the details filled in."""
    found = EXPLANATIONS[reason]
    return Explanation(
        _filled(found.problem, details),
        _filled(found.expected, details),
        f"{_filled(found.fix, details)}, then run `pulumi up` again",
    )


def refused(explanation: Explanation) -> str:
    """Returns the text of a run that ends with a refusal, which may have changed something before."""
    return str(replace(explanation, expected=f"{explanation.expected}. Nothing more was changed"))


def _filled(template: str, details: Details) -> str:
    return template.format(**{name: _plain(value, details) for name, value in details.items()})


def _plain(value: object, details: Details) -> object:
    if isinstance(value, Missing):
        return text(value.kind, {"detail": value.detail})
    if isinstance(value, BrokenPair):
        return f"{value.member} does not reach {value.peer}"
    if isinstance(value, Action):
        return describe(value)
    if isinstance(value, Enum):
        return text(value, {name: each for name, each in details.items() if each is not value})
    if isinstance(value, Mapping):
        reasons = cast("Mapping[str, object]", value)
        return "; ".join(f"{name}: {str(each).rstrip('.')}" for name, each in reasons.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(str(_plain(each, details)) for each in cast("Sequence[object]", value))
    return value


def summary(action: Action) -> str:
    """Returns what an action does, without the members' names: the script on each machine prints the name itself."""
    return text(action.kind, action.details)


def describe(record: Action | WaitFor | Drift) -> str:
    """Returns the text of a record, for people."""
    if isinstance(record, Action):
        return f"{', '.join(step.member for step in record.steps)}: {summary(record)}"
    if isinstance(record, WaitFor):
        return str(explain(record.reason, record.details))
    return text(record.kind, record.details)
