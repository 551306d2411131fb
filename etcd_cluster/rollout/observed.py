"""Defines what is known of machines and of the cluster. reports.py makes it of what machines print."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any, cast
from urllib.parse import urlsplit

import yaml

from etcd_cluster.member.render import LOCAL_ADDRESS_GATE, PeerSecurity, Security, Transport

FULL, CORRUPT = "NOSPACE", "CORRUPT"
"""Kinds of alarms, in etcd's own words: a database has reached its quota; members hold different data."""
VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")
"""A version of etcd, as folders of programs are named. Folders that people put beside them may have any name."""


@dataclass(frozen=True)
class ObservedFile:
    """A file on a machine.

    Args:
        mode: Its mode, octal.
        owner: Name of its owner.
        content: Its text; for a private key, its SHA-256 sum.
    """

    mode: str
    owner: str
    content: str = field(repr=False)


class MissingKind(Enum):
    """What a machine can lack that only preparing it again brings back. The first four are words of observe.sh."""

    USER = "user"
    DISK = "disk"
    MOUNT_ON_BOOT = "mount-on-boot"
    FILE_SYSTEM = "file-system"
    DISK_SPACE = "disk-space"
    PROGRAMS = "programs"
    MARKER = "marker"


@dataclass(frozen=True)
class Missing:
    """Something that a machine lacks.

    Args:
        kind: What is missing.
        detail: Its path or version; "" for none.
    """

    kind: MissingKind
    detail: str = ""

    @staticmethod
    def parse(text: str) -> Missing:
        """Reads KIND or KIND DETAIL."""
        kind, _, detail = text.partition(" ")
        return Missing(MissingKind(kind), detail)


class Question(Enum):
    """What a running member is asked about itself. A missing answer does not mean "no"."""

    METRICS = "metrics"
    MEMBERS = "members"


@dataclass(frozen=True)
class History:
    """The index up to which a member's log may hold what the next minor version cannot start from.

    Args:
        series: The minor version that runs since `series_index`.
        series_index: Index of raft's log.
        members: Ids of the members, comma-separated, unchanged since `members_index`.
        members_index: Index of raft's log.
        id: Id of the member itself.
    """

    series: str = ""
    series_index: int = 0
    members: str = ""
    members_index: int = 0
    id: str = ""

    def text(self) -> str:
        """Returns the text of the file, one NAME=VALUE a line."""
        return "".join(f"{name}={value}\n" for name, value in vars(self).items())


@dataclass(frozen=True)
class Live:
    """What a running member reports about itself.

    Args:
        id: Its id, hexadecimal.
        leads: It is the leader.
        learner: It is a learner.
        has_leader: It knows a leader.
        version: Its version of etcd.
        cluster_version: The version that the whole cluster has reached; "" if it does not report that.
        applied: Index of raft's log up to which it has applied entries.
        committed: Index of raft's log up to which entries are committed.
        database_bytes: Size of its database.
        used_bytes: The part of it that is in use; the rest is free pages. 0 if it does not report that. After a
            compaction, it may be too much until the next write, or the next start.
        revision: The last revision of its keys; 0 if it does not report that.
        compacted: The revision up to which the history is compacted; 0 for none.
        active_peers: Ids of the members that it has a connection with; None if it does not report them.
    """

    id: str
    leads: bool
    learner: bool
    has_leader: bool
    version: str
    cluster_version: str
    applied: int
    committed: int
    database_bytes: int
    used_bytes: int = 0
    revision: int = 0
    compacted: int = 0
    active_peers: frozenset[str] | None = None


@dataclass(frozen=True)
class Defragmented:
    """What a member noted of its database after it was defragmented.

    Args:
        free_bytes: What was free even then. No defragmentation gets that back.
        revision: The last revision of the keys at that time.
        compacted: The revision up to which the history was compacted.
    """

    free_bytes: int
    revision: int
    compacted: int

    @staticmethod
    def parse(text: str) -> Defragmented | None:
        """Reads three numbers; returns None for anything else."""
        numbers = text.split()
        return Defragmented(*map(int, numbers)) if len(numbers) == 3 and all(map(str.isdigit, numbers)) else None


@dataclass(frozen=True)
class HostBackups:
    """What a machine reports of the backups that are set up there.

    Args:
        attempt: When its last run ended, in seconds since 1970; 0 for none.
        failure: Why that run failed; "" if it did not.
        newest: Name of the newest backup that it has seen in the store; "" for none.
        tested: Name of the newest that has passed a restore; "" for none.
        has_timer: Its timer runs.
        next_run: When that makes a backup next, in seconds since 1970; 0 if it does not say.
    """

    attempt: int = 0
    failure: str = ""
    newest: str = ""
    tested: str = ""
    has_timer: bool = False
    next_run: int = 0


@dataclass(frozen=True)
class Host:
    """One machine and the member on it.

    Args:
        machine: Its machine-id.
        token: Token in the marker beside the data; "" without a marker.
        data: The data directory holds data.
        programs: Version that would be started; "" for none.
        running: Version that runs; "" for none.
        pid: Process id of etcd; "" if no member of this package runs.
        failed: The service has failed.
        on_boot: The service starts on boot.
        masked: etcd.service, the name of packages' services, is masked; True also where systemd does not run etcd.
        foreign_unit_files: Paths of files besides ours that systemd makes the member's service of.
        other_service: Which other etcd.service is set up there, in words; "" for none.
        pending: The files may be newer than the process.
        snapshot_index: Index of raft's log at the newest snapshot.
        history: The recorded history of the log.
        versions: Versions of etcd that are installed.
        missing: What only preparing the machine again can bring back.
        files: Path -> file.
        live: What the member reports about itself; None if nothing runs, and if what runs could not be asked: then
            `unknown` says why.
        clock: Its clock, in seconds since 1970.
        device_bytes: Size of the data's device.
        filesystem_bytes: Size of the file system on that device.
        disk_bytes: Size of the file system with the data, if that was asked for; else 0.
        disk_free_bytes: Free space of the file system with the data, if that was asked for; else 0.
        database_bytes: Size of the database file of a member that does not run; for a running one, see `live`.
        quota_bytes: Quota that the member runs with.
        may_administer: The member's certificate may change the cluster; None if that was not asked, or not answered.
        owner: The member whose data these are, by the marker beside them; "" without a marker.
        mounted_over: What is mounted in the place of the data but is not their file system, "SOURCE at PATH"; "" for
            nothing.
        forming: Token in the note on the machine's own disk that etcd was told to start without data here; "" without
            one.
        formed: Token in the note on the machine's own disk that etcd then had data here; "" without one.
        data_of: Id of the cluster that the data belong to, by etcd's own log; "" if that is unreadable.
        data_version: Minor version that the cluster was raised to, by the database of a member that does not run; "0.0"
            if it was to none yet, "" if that is unreadable. For a running one, see `live`.
        foreign: Database of another etcd that runs there and is not of this package; "" for none. That etcd is not
            asked anything, and `pid` is "".
        claim: Id of the run that took the machine over last.
        unknown: What a running process could not be asked -> why.
        announced: How the member speaks, by what it has told the cluster about itself; None if nobody could be asked.
        backups: What it reports of backups; None if none are set up there.
        restored: The backup, TOKEN/NAME, that was restored there before etcd's first start; "" for none.
        replaced: Id of the cluster whose data restored data took, or take, the place of there; "" for none.
        restoring: Id of the cluster for whose data restored data are ready beside the data; "" for none.
        restoring_source: What those were made of: TOKEN/NAME, the sum of a file, or that it is its own snapshot.
        defragmented: What it noted after its database was defragmented; None if that never was.
    """

    machine: str
    token: str
    data: bool
    programs: str
    running: str
    pid: str
    failed: bool
    on_boot: bool
    pending: bool
    snapshot_index: int
    history: History
    versions: Sequence[str]
    missing: Sequence[Missing]
    files: Mapping[str, ObservedFile]
    live: Live | None
    clock: int
    device_bytes: int
    filesystem_bytes: int
    disk_bytes: int = 0
    disk_free_bytes: int = 0
    database_bytes: int = 0
    quota_bytes: int = 0
    may_administer: bool | None = None
    owner: str = ""
    mounted_over: str = ""
    forming: str = ""
    formed: str = ""
    data_of: str = ""
    data_version: str = ""
    foreign: str = ""
    claim: str = ""
    masked: bool = True
    foreign_unit_files: Sequence[str] = ()
    other_service: str = ""
    unknown: Mapping[Question, str] = field(default_factory=dict[Question, str])
    announced: Security | None = None
    backups: HostBackups | None = None
    restored: str = ""
    replaced: str = ""
    restoring: str = ""
    restoring_source: str = ""
    defragmented: Defragmented | None = None

    @property
    def quota_before(self) -> int:
        """Quota that the member runs with, or would start with; 0 if neither is known."""
        configured = self.configuration.get("quota-backend-bytes")
        return self.quota_bytes or (configured if isinstance(configured, int) else 0)

    @property
    def may_serve(self) -> bool:
        """False only if nothing runs there, or if the member itself reports no leader."""
        return bool(self.pid) and (self.live is None or self.live.has_leader)

    @cached_property
    def configuration(self) -> Mapping[str, Any]:
        """Settings in etcd's configuration file; empty if it is missing or unreadable."""
        file = next((file for path, file in self.files.items() if path.endswith("/etcd.yaml")), None)
        return settings_in(file.content) if file else {}

    @cached_property
    def security(self) -> Security | None:
        """How the member speaks, by its configuration file; None if that is unknown.

        Without that file, it is as the member has announced. The announcement also counts if the file says plaintext
        for peers that speak TLS: only an edit by hand does that.
        """
        configuration = self.configuration
        if not isinstance(configuration.get("advertise-client-urls"), str):
            return self.announced
        peers = PeerSecurity.READY if "peer-transport-security" in configuration else PeerSecurity.PLAINTEXT
        if str(configuration.get("initial-advertise-peer-urls", "")).startswith("https:"):
            peers = PeerSecurity.TLS
        if peers is PeerSecurity.PLAINTEXT and self.announced and self.announced.peers is PeerSecurity.TLS:
            return self.announced
        return Security(str(configuration["advertise-client-urls"]).startswith("https:"), peers)

    @property
    def source_address(self) -> str:
        """Address from which the member connects to others, by its configuration file; "" if the route decides."""
        configuration = self.configuration
        if f"{LOCAL_ADDRESS_GATE}=true" not in str(configuration.get("feature-gates", "")).split(","):
            return ""
        return urlsplit(str(configuration.get("initial-advertise-peer-urls", ""))).hostname or ""

    def trusted_path(self, transport: Transport) -> str | None:
        """Returns the path of the CA file that the configuration file names; None if it names none."""
        section = self.configuration.get(f"{transport.value}-transport-security")
        named = cast("dict[str, Any]", section).get("trusted-ca-file") if isinstance(section, dict) else None
        return None if named is None else str(named)

    def trusted_file(self, transport: Transport) -> ObservedFile | None:
        """Returns the CA file that the member trusts; None if it is missing.

        It is the file that the configuration file names, else the file with the usual name. A member without a peer CA
        file trusts the CA file for clients.
        """
        named = self.trusted_path(transport)
        if named is not None:
            return self.files.get(named)
        usual = dict.fromkeys((transport.trusted_file, Transport.CLIENT.trusted_file))
        found = (file for name in usual for path, file in self.files.items() if path.endswith(f"/{name}"))
        return next(found, None)


@dataclass(frozen=True)
class MemberEntry:
    """One member in the cluster's member list.

    Args:
        id: Its id, hexadecimal.
        name: Its name; "" for a member that was added and has not started.
        peer_url: Its peer URL; "" if there are several.
        client_url: Its client URL; "" until it has started once.
        learner: It is a learner.
    """

    id: str
    name: str
    peer_url: str
    client_url: str
    learner: bool

    @property
    def started(self) -> bool:
        """True if the member has started once.

        It does not show by the name: etcd knows the names of founders before they start.
        """
        return bool(self.client_url)

    @property
    def security(self) -> Security | None:
        """How the others and clients speak to the member; None before it has started.

        Whether it has certificates while it speaks plaintext is not visible here.
        """
        if not self.started:
            return None
        peers = PeerSecurity.TLS if self.peer_url.startswith("https:") else PeerSecurity.PLAINTEXT
        return Security(self.client_url.startswith("https:"), peers)


@dataclass(frozen=True)
class BrokenPair:
    """A running member that has no connection with another running one, by its own report (etcd_network_active_peers).

    Args:
        member: Name of the member that does not reach the other one.
        peer: Name of the member that is not reached.
    """

    member: str
    peer: str


@dataclass(frozen=True)
class Alarm:
    """A standing alarm.

    Args:
        kind: etcd's own word, such as "NOSPACE".
        id: Id of the member that raised it; "" if etcd does not say.
    """

    kind: str
    id: str


@dataclass(frozen=True)
class KeyRange:
    """Keys that a role may reach, as etcd has them: from `start` to before `end`; one key, if `end` is empty."""

    start: bytes
    end: bytes


@dataclass(frozen=True)
class Authentication:
    """etcd's users and roles. Both are empty where only this package's were asked for, and there are none.

    Args:
        enabled: etcd's authentication is on.
        users: User -> its roles.
        roles: Role -> its keys, each with the access: read, write or readwrite.
    """

    enabled: bool
    users: Mapping[str, frozenset[str]]
    roles: Mapping[str, Mapping[KeyRange, str]]


@dataclass(frozen=True)
class KeyHash:
    """The hash of everything that a member holds of keys, by itself.

    Hashes of two members can be compared if both revisions are equal.

    Args:
        revision: The member's last revision.
        compact_revision: The revision up to which its history is compacted.
        hash: The hash.
    """

    revision: int
    compact_revision: int
    hash: int


@dataclass(frozen=True)
class Observation:
    """The whole cluster at one time.

    Args:
        hosts: Member name -> machine.
        unreachable: Member name -> why its machine could not be asked.
        status_source: The member whose machine reports on the cluster: the leader's, if it can be asked. None if no
            member can agree with a majority; then there is no report.
        members: The member list.
        healthy: Ids of the members that serve. Each was asked on its own machine, else on the status source's.
        alarms: Standing alarms; None if nobody could be asked for them.
        hashes: Id of a member -> the hash of its keys. Members are asked only while the alarm CORRUPT stands.
        connected: Ids of the members that gave no answer there but have a connection with the status source: they run,
            and nothing more is known.
        unknown: `connected`, and ids of the members of which nobody can say whether they have a connection.
        users: etcd's users, if its authentication is known to be on; else None.
        authentication: etcd's users and roles; None if they were not asked for, or not told.
        cluster_id: Hexadecimal.
        clocks: Member name -> seconds by which its machine's clock is surely ahead of this machine's.
        answering: Those of `unreachable` that are not taken for dead: something answers at their address (a log-in is
            refused, a step hangs), or nothing is known of them (bastion down).
    """

    hosts: Mapping[str, Host]
    unreachable: Mapping[str, str]
    status_source: str | None
    members: Sequence[MemberEntry]
    healthy: frozenset[str]
    alarms: Sequence[Alarm] | None = ()
    hashes: Mapping[str, KeyHash] = field(default_factory=dict[str, KeyHash])
    connected: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()
    users: frozenset[str] | None = None
    authentication: Authentication | None = None
    cluster_id: str = ""
    clocks: Mapping[str, float] = field(default_factory=dict[str, float])
    answering: frozenset[str] = frozenset()

    @property
    def leader(self) -> str | None:
        """The member that leads; None also if its machine gives no answer, or if two members claim to lead."""
        leading = [name for name, host in self.hosts.items() if host.live and host.live.leads]
        if self.status_source in leading:
            return self.status_source
        leading = [name for name in leading if self.is_healthy(name)]
        return leading[0] if len(leading) == 1 else None

    @cached_property
    def broken_pairs(self) -> Sequence[BrokenPair]:
        """The running members that do not reach one another, each way for itself.

        etcd's count of active peers may stay too high for good (see `connected_without_report`), and also too low (see
        `with_peer_tests`). While nobody can answer for the cluster, all members that report count as members.
        """
        ids = {member.id: member.name for member in self.members}
        reporting = {
            name: host.live
            for name, host in self.hosts.items()
            if host.pid and host.live and (self.status_source is None or host.live.id in ids)
        }
        running = {live.id: name for name, live in reporting.items()}
        running |= {id_: name for id_, name in ids.items() if id_ in self.healthy - running.keys()}
        return [
            BrokenPair(name, peer)
            for name, live in reporting.items()
            for id_, peer in running.items()
            if live.active_peers is not None and id_ not in {live.id, *live.active_peers}
        ]

    @property
    def connected_both_ways(self) -> frozenset[str]:
        """Names of the healthy members that every other running member reaches, and that reach every one."""
        broken = {name for pair in self.broken_pairs for name in (pair.member, pair.peer)}
        return frozenset(member.name for member in self.members if self.is_healthy(member.name)) - broken

    @property
    def voters(self) -> Sequence[MemberEntry]:
        """The members that are no learners."""
        return [member for member in self.members if not member.learner]

    @property
    def index(self) -> int:
        """The end of raft's log, as far as any member knows."""
        return max((host.live.committed for host in self.hosts.values() if host.live), default=0)

    @property
    def member_ids(self) -> str:
        """Ids of all members, sorted, comma-separated."""
        return ",".join(sorted(member.id for member in self.members))

    def of(self, name: str) -> MemberEntry | None:
        """Returns the entry of a name in the member list; None if there is none."""
        return next((member for member in self.members if member.name == name), None)

    def is_healthy(self, name: str) -> bool:
        """Returns whether the member of that name serves."""
        listed = self.of(name)
        return listed is not None and listed.id in self.healthy


def settings_in(configuration: str) -> Mapping[str, Any]:
    """Returns the settings in the text of a configuration file; none if it is unreadable."""
    try:
        found: Any = yaml.safe_load(configuration)
    except yaml.YAMLError:
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
