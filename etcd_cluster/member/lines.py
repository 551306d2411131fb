"""Defines the line that runs each step's script on a member's machine: one class a step, one field a KEY=VALUE word.

A script reads a word as `spec[KEY]`; KEY is the name of the field, with hyphens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from etcd_cluster.member.line import Check, Line, Prepare

OWN_SNAPSHOT = "snapshot"
"""What restore.sh notes where it restores a snapshot of the member itself."""


@dataclass(frozen=True)
class PrepareAgain(Line):
    """Prepares a machine again, by the line that prepared it before.

    Args:
        line: That line.
    """

    step = "prepare"
    line: str

    def text(self, member: str, run: str = "", say: str = "") -> str:
        """Returns the line as it was."""
        return self.line


class UsersAsked(Enum):
    """What is asked for of etcd's users and roles.

    Attributes:
        OWN: Whether authentication is on; and all users and roles, where this package has made some.
        ALL: Whether authentication is on, and all users and roles.
    """

    OWN = "own"
    ALL = "all"


@dataclass(frozen=True)
class Observe(Line):
    """Reports what is on the machine.

    Args:
        scheme: Scheme in which clients are expected to be served.
        device: Block device of the data.
        rights: Also asks whether the member's certificate may change the cluster.
        disk: Also asks for the space on the disk.
        users: Also asks for etcd's users and roles, where the member reports on the cluster; None not to ask.
        as_status_source: Reports on the cluster, even if the member does not lead.
        claim: Id of the run that takes the machine over; "" for none.
        token: Token of the cluster: a machine with data of another cluster is not claimed.
    """

    step = "observe"
    scheme: str = ""
    device: str = ""
    rights: bool = False
    disk: bool = False
    users: UsersAsked | None = None
    as_status_source: bool = False
    claim: str = ""
    token: str = ""


@dataclass(frozen=True)
class Health(Line):
    """Asks for the health of members that cannot be asked on their own machines.

    Args:
        urls: Client URLs of these members, comma-separated.
        peers: Ids, comma-separated, of members of which it is measured whether they send anything.
    """

    step = "health"
    urls: str
    peers: str = ""


@dataclass(frozen=True)
class Reach(Line):
    """Tests, from a member's machine, whether other members can be reached at their peer ports.

    Args:
        urls: Peer URLs of these members, comma-separated.
        source: Address that the member connects from; "" if the route decides.
    """

    step = "reach"
    urls: str
    source: str = ""


@dataclass(frozen=True)
class HashKeys(Line):
    """Asks the member for the hash of its keys.

    Args:
        timeout_seconds: Limit for the answer.
        revision: Up to which revision keys count; None for the last one.
    """

    step = "hash_keys"
    timeout_seconds: int
    revision: int | None = None


@dataclass(frozen=True)
class HashData(Line):
    """Stops a member that does not stay up, and tells the hash of its keys: a copy of its database starts apart."""

    step = "hash_data"
    needs_run = True
    has_progress_text = True


class ApplyAction(Enum):
    """What happens to the process once the files are written."""

    FILES = "files"
    START = "start"
    RESTART = "restart"
    STOP = "stop"


class Until(Enum):
    """What a start or restart waits for."""

    LISTENING = "listening"
    SERVING = "serving"
    FLUSHED = "flushed"


@dataclass(frozen=True)
class Apply(Line):
    """Writes files; starts, restarts or stops the member.

    Args:
        action: What happens to the process.
        version: Version of etcd that is started.
        until: What the script waits for.
        timeout_seconds: Limit for that wait.
        index: Index of raft's log that the member has to reach.
        peer_port: Port that it has to listen on.
        archive_old_data: Keeps the data of an earlier membership in another folder, where etcd does not find them.
        pending: Marks that the process may be older than the files from now on.
        defragment_mib: Defragments the database while the member is stopped, which takes this space; None leaves it.
        may_end: If etcd ends again and again, the member is stopped, and that is no failure of the step.
    """

    step = "apply"
    needs_run = True
    has_progress_text = True
    action: ApplyAction
    version: str = ""
    until: Until | None = None
    timeout_seconds: int | None = None
    index: int | None = None
    peer_port: int | None = None
    archive_old_data: bool = False
    pending: bool = False
    defragment_mib: int | None = None
    may_end: bool = False


class MembershipChange(Enum):
    """One request to the cluster."""

    ADD = "add"
    PROMOTE = "promote"
    REMOVE = "remove"
    UPDATE = "update"
    MOVE_LEADER = "move-leader"
    DISARM = "disarm"


@dataclass(frozen=True)
class Membership(Line):
    """Changes the membership, the leader or the alarms.

    Args:
        change: The request.
        timeout_seconds: Limit until the request is accepted.
        id: Id of the member concerned; for MOVE_LEADER, of the next leader.
        name: Name of the member that is added.
        url: Its peer URL.
    """

    step = "membership"
    needs_run = True
    has_progress_text = True
    change: MembershipChange
    timeout_seconds: int
    id: str = ""
    name: str = ""
    url: str = ""


class UsersChange(Enum):
    """What is done about etcd's users."""

    READ = "read"
    SET = "set"
    ENABLE = "enable"
    DISABLE = "disable"


@dataclass(frozen=True)
class SetUsers(Line):
    """Changes etcd's users and roles, or turns its authentication on or off, or only reads users and roles.

    Args:
        change: What is done.
        timeout_seconds: Limit until each request is accepted.
        as_root: Uses the certificate of the user root, where that of the member may not do it.
    """

    step = "users"
    needs_run = True
    has_progress_text = True
    change: UsersChange
    timeout_seconds: int
    as_root: bool = False


@dataclass(frozen=True)
class Compact(Line):
    """Deletes history: what keys held before the newest revisions. No key goes.

    Args:
        kept: The number of the newest revisions that are kept.
        timeout_seconds: Limit until that history is deleted on this member.
    """

    step = "compact"
    needs_run = True
    has_progress_text = True
    kept: int
    timeout_seconds: int


@dataclass(frozen=True)
class Snapshot(Line):
    """Takes a copy of the data and checks it.

    Args:
        file: Name of the snapshot.
        version: Version of etcd whose tool checks it.
        database_mib: Space that the snapshot takes at most.
        timeout_seconds: Limit for taking, and for checking.
        may_be_silent: Without an answer of the member to clients, there is none, and that is no failure.
    """

    step = "snapshot"
    needs_run = True
    file: str
    version: str
    database_mib: int
    timeout_seconds: int
    may_be_silent: bool = False


@dataclass(frozen=True)
class V2Store(Line):
    """Checks for data of etcd's v2 API.

    Args:
        timeout_seconds: Limit for the check.
    """

    step = "v2store"
    timeout_seconds: int


@dataclass(frozen=True)
class Record(Line):
    """Records on the machine which HostRecord it belongs to.

    Args:
        record: Id of the HostRecord.
    """

    step = "record"
    record: str


@dataclass(frozen=True)
class Remove(Line):
    """Removes a member from its machine.

    Args:
        members: Number of members of the cluster.
        delete_data: Deletes the member's data as well.
        record: Id of the HostRecord; "" for none.
    """

    step = "remove"
    needs_run = True
    members: int
    delete_data: bool = False
    record: str = ""


@dataclass(frozen=True)
class Log(Line):
    """Prints the end of the member's log."""

    step = "log"


@dataclass(frozen=True)
class PeerLog(Line):
    """Prints the last line of the member's log on its connection with another member.

    Args:
        peer: Id of the other member, hexadecimal.
        name: Name of the other member, which is in its certificate.
    """

    step = "peer_log"
    peer: str
    name: str


@dataclass(frozen=True)
class Probe(Line):
    """Writes as a client does.

    Args:
        url: The client URL.
        timeout_seconds: Limit until a write works.
        tls: Uses the client's certificate.
    """

    step = "probe"
    needs_run = True
    url: str
    timeout_seconds: int
    tls: bool = False


@dataclass(frozen=True)
class BackUp(Line):
    """Makes a backup, or tests one.

    Args:
        now: At once, also if this slot has a backup; False is the member's turn.
        test: Restores it to test it, also if none is due.
        prove: Makes none, and restores the backup of this name to test it; "" for none.
        before_restore_of: Id of the cluster whose data are put away next: the backup is made of them, also if members
            differ; "" for none.
    """

    step = "backup"
    now: bool = False
    test: bool = False
    prove: str = ""
    before_restore_of: str = ""


@dataclass(frozen=True)
class SetUpBackups(Line):
    """Sets backups up on a machine.

    Args:
        look: Only reports what differs.
        remove: Ends the backups.
    """

    step = "backup_setup"
    look: bool = False
    remove: bool = False


@dataclass(frozen=True)
class FindBackup(Line):
    """Finds the backup to restore, and checks its manifest.

    Args:
        backup: latest, NAME, or TOKEN/NAME.
        series: Minor version of etcd that is to read it.
        key: The key of stack config that asks for it, for texts.
    """

    step = "find_backup"
    backup: str
    series: str
    key: str = ""


@dataclass(frozen=True)
class Restore(Line):
    """Restores a snapshot as the data of the first member of a new cluster.

    Args:
        backup: TOKEN/NAME; "" for a file.
        url: Peer URL of the member.
        version: Version of etcd that restores it.
        file: Path of the file on the machine; "" for a backup in the store.
        sha256: Its sum.
        bare: It is a copy of a member's database, without etcd's own sum at its end.
        members: NAME,... of all members, each of whom has to be a user of role root in a snapshot with etcd's
            authentication on; "" if the stack names users, and gives members theirs.
        latest: The key of stack config that says `latest`: if the newest backup is another one by now, nothing is
            restored; "" if a backup is named.
    """

    step = "restore"
    needs_run = True
    has_progress_text = True
    backup: str
    url: str
    version: str
    file: str = ""
    sha256: str = ""
    bare: bool = False
    members: str = ""
    latest: str = ""


@dataclass(frozen=True)
class PrepareRestore(Restore):
    """Proves a snapshot, and makes the data of it that take the place of a cluster's. Nothing is stopped.

    Args:
        cluster: Id of that cluster.
        snapshot: The snapshot is taken of the member itself.
        users: Also asks for the users and roles in it.
    """

    step = "prepare_restore"
    cluster: str = ""
    snapshot: bool = False
    users: bool = False

    @property
    def source(self) -> str:
        """What the machine notes of it, as `Restoration.label` has it."""
        return self.backup or self.sha256 or OWN_SNAPSHOT


@dataclass(frozen=True)
class TryRestore(Line):
    """Proves a snapshot apart from any cluster.

    Args:
        file: Its path.
        version: Version of etcd that restores it.
        bare: It is a copy of a member's database, without etcd's own sum at its end.
    """

    step = "try_restore"
    file: str
    version: str
    bare: bool = False


@dataclass(frozen=True)
class PutRestored(Line):
    """Stops the member, and puts restored data in the place of its data, which get another name.

    Args:
        cluster: Id of the cluster whose data these are.
        version: Version of etcd that starts next.
        snapshot: The restored data are of the member's own snapshot: it must have no leader.
    """

    step = "put_restored"
    needs_run = True
    has_progress_text = True
    cluster: str
    version: str
    snapshot: bool = False


@dataclass(frozen=True)
class RaftPosition(Line):
    """Prints the revision of a member's keys, and the index up to which it has applied entries of raft's log."""

    step = "raft_position"


@dataclass(frozen=True)
class RunLoad(Line):
    """Loads the cluster, and removes what was written for that.

    Args:
        clean: Only removes what an earlier one left, which was killed. Then no other word counts but
            `only_without_keys`.
        urls: Client URLs that are loaded, comma-separated.
        program: Path of etcd's `benchmark` on the machine.
        writes: Writes a second.
        reads: Reads a second.
        clients: Clients, each with a connection of its own.
        seconds: Length of the load.
        limit_seconds: Length after which it is ended.
        value_bytes: Size of a value.
        only_without_keys: Loads nothing if the cluster holds keys, but prints how many.
        compact: Drops the keys' history at the end.
        check_perf: Workload of etcd's own `check perf`, which then runs as well: s, m, l or xl; "" for none.
        client: The machine runs no member: it acts as a client, with the certificate in the script's variables.
        clock: By how much the client's clock is off, for its errors; "" if it is not.
    """

    step = "load_check"
    clean: bool = False
    urls: str = ""
    program: str = ""
    writes: int | None = None
    reads: int | None = None
    clients: int | None = None
    seconds: int | None = None
    limit_seconds: int | None = None
    value_bytes: int | None = None
    only_without_keys: bool = False
    compact: bool = False
    check_perf: str = ""
    client: bool = False
    clock: str = ""


@dataclass(frozen=True)
class SampleLoad(Line):
    """Prints what a member, and its machine's processor and disk, have done so far.

    Args:
        client: The machine runs no member: only what the machine has done.
    """

    step = "load_sample"
    client: bool = False


@dataclass(frozen=True)
class SetUpMonitoring(Line):
    """Exposes the metrics of a machine.

    Args:
        no_proxy: Hosts and domains that are reached past the proxy, comma-separated; "" for none.
        look: Only reports what differs.
        remove: Ends it.
    """

    step = "monitoring_setup"
    no_proxy: str = ""
    look: bool = False
    remove: bool = False


@dataclass(frozen=True)
class MetricsFile(Line):
    """Writes what etcd has no metric for; a timer on the machine runs it."""

    step = "metrics_file"


LINES: Mapping[str, type[Line]] = {
    each.step: each
    for each in (
        Check,
        Prepare,
        Observe,
        Health,
        Reach,
        HashKeys,
        HashData,
        Apply,
        Membership,
        SetUsers,
        Compact,
        Snapshot,
        V2Store,
        Record,
        Remove,
        Log,
        PeerLog,
        Probe,
        BackUp,
        SetUpBackups,
        FindBackup,
        Restore,
        PrepareRestore,
        TryRestore,
        PutRestored,
        RaftPosition,
        RunLoad,
        SampleLoad,
        SetUpMonitoring,
        MetricsFile,
    )
}
"""Step -> class of its line."""
