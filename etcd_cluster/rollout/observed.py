"""Turns the reports of machines and of the cluster into types. Nothing is decided here."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    """etcd's users and roles.

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


def parse_host(text: str) -> tuple[Host, Mapping[str, Any]]:
    """Reads what observe.sh printed.

    Returns:
        The machine, and further reports: on its own member ("health"), on the cluster ("members", "alarms", "users",
            "authentication"),
            and the scheme that the member answered in ("scheme").
    """
    facts: dict[str, str] = {}
    missing: list[Missing] = []
    unknown: dict[Question, str] = {}
    files: dict[str, ObservedFile] = {}
    foreign_unit_files: list[str] = []
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name == "missing":
            missing.append(Missing.parse(value))
        elif name == "unknown":
            question, _, why = value.partition(" ")
            unknown[Question(question)] = why
        elif name == "unit_file":
            foreign_unit_files.append(value)
        elif name.startswith(("file:", "key:")):
            kind, path, file = _observed_file(line)
            files[path] = replace(file, content=_decoded(file.content)) if kind == "file" else file
        else:
            facts[name] = value
    history = History(
        series=facts.get("history_series", ""),
        series_index=_integer(facts.get("history_series_index")),
        members=facts.get("history_members", ""),
        members_index=_integer(facts.get("history_members_index")),
        id=facts.get("history_id", ""),
    )
    if facts.get("foreign"):
        facts = {name: value for name, value in facts.items() if name not in ("pid", "running")}
    live = _live(facts)
    running = facts.get("running", "")
    if not VERSION.fullmatch(running):  # not a program of this package
        own_word = VERSION.match(live.version) if live else None
        running = own_word[0] if own_word and running else ""
    pid = facts.get("pid", "")
    if pid and live is None:
        unknown.setdefault(Question.METRICS, "its metrics could not be understood")
    host = Host(
        machine=facts.get("machine", ""),
        token=facts.get("token", ""),
        data="data" in facts,
        programs=_version(facts.get("programs", "")),
        running=running,
        pid=pid,
        failed="failed" in facts,
        on_boot="on_boot" in facts,
        pending="pending" in facts,
        snapshot_index=_integer(facts.get("snapshot")),
        history=history,
        versions=[each for each in facts.get("versions", "").split() if _version(each)],
        missing=missing,
        files={} if facts.get("foreign") else files,
        live=live,
        clock=_integer(facts.get("clock")),
        device_bytes=_integer(facts.get("device_bytes")),
        filesystem_bytes=_integer(facts.get("filesystem_bytes")),
        disk_bytes=_integer(facts.get("disk_bytes")),
        disk_free_bytes=_integer(facts.get("disk_free_bytes")),
        database_bytes=_integer(facts.get("database_bytes")) if not pid else 0,
        owner=facts.get("owner", ""),
        mounted_over=facts.get("mounted_over", ""),
        unknown=unknown,
        forming=facts.get("forming", ""),
        restored=facts.get("restored", ""),
        replaced=facts.get("replaced", ""),
        restoring=facts.get("restoring", ""),
        restoring_source=facts.get("restoring_source", ""),
        formed=facts.get("formed", ""),
        quota_bytes=_integer(facts.get("quota_bytes")),
        may_administer={"yes": True, "no": False}.get(facts.get("rights", "")),
        data_of=_cluster_id(facts.get("data_of", "")),
        foreign=facts.get("foreign", ""),
        masked=facts.get("masked", "yes") == "yes",
        foreign_unit_files=foreign_unit_files,
        other_service=facts.get("other_service", ""),
        claim=facts.get("claim", ""),
        defragmented=Defragmented.parse(facts.get("defragmented", "")),
        backups=_backups(facts) if "backup" in facts else None,
    )
    encoded = ("members", "health", "alarms", "authentication")
    reports: dict[str, str] = {name: _decoded(facts[name]) for name in encoded if name in facts}
    reports |= {name: facts[name] for name in ("scheme", "users") if name in facts}
    return host, reports


def _backups(facts: Mapping[str, str]) -> HostBackups:
    failure = "" if facts.get("backup_result") == "success" else facts.get("backup_failure", "")
    if facts.get("backup_result") == "failed" and not failure:
        failure = "its last run ended before it could say why; see journalctl -u etcd-cluster-backup"
    return HostBackups(
        attempt=_integer(facts.get("backup_attempt")),
        failure=failure,
        newest=facts.get("backup_newest", ""),
        tested=facts.get("backup_tested", ""),
        has_timer="backup_timer" in facts,
        next_run=_integer(facts.get("backup_next")),
    )


def without_member(host: Host) -> Host:
    """Returns a machine without its member, as it belongs to another cluster by now.

    What it holds, runs and trusts is of no member of this cluster.
    """
    gone = replace(host, data=False, pid="", running="", live=None, history=History(), unknown={}, pending=False)
    return replace(gone, files={}, owner="", data_of="", formed="", forming="", claim="")


def _observed_file(line: str) -> tuple[str, str, ObservedFile]:
    """Reads a line KIND:PATH=MODE OWNER CONTENT. A path may hold any character, content holds no space."""
    named, owner, content = line.rsplit(" ", 2)
    name, _, mode = named.rpartition("=")
    kind, _, path = name.partition(":")
    return kind, path, ObservedFile(mode, owner, content)


def combine(
    hosts: Mapping[str, Host], reports: Mapping[str, Mapping[str, str]], unreachable: Mapping[str, str]
) -> Observation:
    """Returns one observation made from the reports of all machines.

    If several machines report on the cluster, the first one counts whose member can answer for it.

    Args:
        hosts: Member name -> machine.
        reports: Member name -> the reports of `parse_host`.
        unreachable: Member name -> why its machine could not be asked.
    """
    nothing = Observation(hosts, unreachable, None, (), frozenset())
    serving = {
        live.id for name, said in reports.items() if (live := hosts[name].live) and serves(said.get("health", ""))
    }
    for name, said in reports.items():
        members = parse_members(said.get("members", ""))
        live = hosts[name].live
        if members and live is not None and live.id in serving:
            return replace(
                nothing,
                hosts=with_announced(hosts, members),
                status_source=name,
                members=members,
                healthy=frozenset(member.id for member in members if member.id in serving),
                users=frozenset(said["users"].split(",")) if "users" in said else None,
                authentication=parse_authentication(said.get("authentication", "")),
                alarms=parse_alarms(said["alarms"]) if "alarms" in said else (),
                cluster_id=f"{_json(said['members']).get('header', {}).get('cluster_id', 0):x}",
            )
    return nothing


def unanswered(observation: Observation) -> Sequence[MemberEntry]:
    """Returns the members that may serve clients, although their own machines do not show that they do.

    A learner that runs does not: it refuses every read that is asked for to tell.
    """
    down = {
        member.id
        for member in observation.members
        if (host := observation.hosts.get(member.name)) and (not host.pid or (host.live and host.live.learner))
    }
    return [member for member in observation.members if member.started and member.id not in observation.healthy | down]


def connected_without_report(observation: Observation) -> frozenset[str]:
    """Returns ids of members whose machines gave no report and that the status source's member counts as connected.

    etcd's count may stay too high for good: a connection that a member had before the cluster told it of the peer (as a
    new member, or by a snapshot) is never subtracted. The leader gets an answer from each running member at every
    heartbeat, so there the received bytes show who runs.
    """
    reported = {member.id for member in observation.members if member.name in observation.hosts}
    return _counted_as_connected(observation) - reported


def _counted_as_connected(observation: Observation) -> frozenset[str]:
    live = observation.hosts[observation.status_source].live if observation.status_source else None
    return _unasked(observation) & (live.active_peers or frozenset()) if live else frozenset()


def _unasked(observation: Observation) -> frozenset[str]:
    asked = {host.live.id for host in observation.hosts.values() if host.live}
    return frozenset(member.id for member in unanswered(observation)) - asked


def parse_answers(text: str) -> tuple[str, frozenset[str] | None]:
    """Reads the output of the step `health`.

    Returns:
        The JSON of `etcdctl endpoint health`, and the ids of the members that something was received from; None if
        those are not reported.
    """
    facts = {name: value for name, _, value in (line.partition("=") for line in text.splitlines())}
    sending = frozenset(facts["sending"].split(",")) - {""} if "sending" in facts else None
    return _decoded(facts.get("health", "")), sending


def with_answers(observation: Observation, text: str, sending: frozenset[str] | None = None) -> Observation:
    """Returns an observation with what the status source's machine learned about the `unanswered` members.

    No answer is not a "no": port 2379 may be open to clients only. A member runs if its machine gave no report and it
    has a connection with the status source's member. If that one does not report its connections, all such members may
    run.

    Args:
        observation: The observation so far.
        text: The JSON of `etcdctl endpoint health`.
        sending: Ids of the members `connected_without_report` that send bytes to it; None if unknown.
    """
    live = observation.hosts[observation.status_source].live if observation.status_source else None
    healthy = parse_health(text, unanswered(observation))
    unasked = _unasked(observation) - healthy
    connected = _counted_as_connected(observation) - healthy
    if live and live.leads and sending is not None:
        connected -= connected_without_report(observation) - sending
    unknown = unasked if live is None or live.active_peers is None else connected
    return replace(observation, healthy=observation.healthy | healthy, connected=connected, unknown=unknown)


@dataclass(frozen=True)
class PeerTest:
    """What came of a test of peer ports, from one member's machine.

    Args:
        reached: Peer URLs at which a member answered, as it answers the machine's own member.
        unreached: Peer URLs to which not even a connection could be made.
    """

    reached: frozenset[str]
    unreached: frozenset[str]

    @classmethod
    def parse(cls, text: str) -> PeerTest:
        """Reads the output of the step `reach`."""
        found = [line.partition("=") for line in text.splitlines()]
        return cls(*(frozenset(url for name, _, url in found if name == kind) for kind in ("reached", "unreached")))


def with_peer_tests(observation: Observation, tests: Mapping[str, PeerTest]) -> Observation:
    """Returns an observation in which members are connected with those that their machines reach, and no others.

    etcd's count of active peers may be wrong. It stays at 0, although the members are connected, if a request that was
    sent before the connection was made fails after it; that lasts as long as the connection does. It stays at 1,
    although a firewall drops every attempt, from a member's restart until the first attempt ends: for 1 s and the
    election timeout.

    Args:
        observation: The observation so far.
        tests: Member name -> what its machine reaches of the peers that were tested.
    """
    hosts = dict(observation.hosts)
    for name, test in tests.items():
        host = hosts[name]
        if host.live and host.live.active_peers is not None:
            reached = {member.id for member in observation.members if member.peer_url in test.reached}
            unreached = {member.id for member in observation.members if member.peer_url in test.unreached}
            active = (host.live.active_peers | reached) - unreached
            hosts[name] = replace(host, live=replace(host.live, active_peers=active))
    return replace(observation, hosts=hosts)


def with_announced(hosts: Mapping[str, Host], members: Sequence[MemberEntry]) -> Mapping[str, Host]:
    """Returns every machine with its member's security according to the cluster's member list."""
    announced = {member.name: member.security for member in members}
    return {name: replace(host, announced=announced.get(name)) for name, host in hosts.items()}


def parse_members(text: str) -> list[MemberEntry]:
    """Reads `etcdctl member list --write-out json`; returns nothing if there was no answer, or a cut one."""
    answer: Any = _json(text)
    if not isinstance(answer, dict):
        return []
    listed: Sequence[Mapping[str, Any]] = cast("dict[str, Any]", answer).get("members", [])
    return [
        MemberEntry(
            id=f"{each['ID']:x}",
            name=each.get("name", ""),
            peer_url=each["peerURLs"][0] if len(each.get("peerURLs", [])) == 1 else "",
            client_url=(each.get("clientURLs") or [""])[0],
            learner=bool(each.get("isLearner")),
        )
        for each in listed
    ]


def serves(text: str) -> bool:
    """Returns whether the only member that `etcdctl endpoint health --write-out json` asked serves consistent reads."""
    return bool(_serving_endpoints(text))


def parse_health(text: str, members: Sequence[MemberEntry]) -> frozenset[str]:
    """Reads `etcdctl endpoint health --write-out json`; returns the ids of members that answer a consistent read."""
    return frozenset(member.id for member in members if member.client_url in _serving_endpoints(text))


def _serving_endpoints(text: str) -> set[str]:
    """Returns the endpoints that answered.

    While an alarm stands, etcdctl calls every member unhealthy that has answered. These count as serving: alarms are
    reported separately, and fixing them takes a change of these members.
    """
    found: Any = _json(text)
    answers = cast("list[dict[str, Any]]", found) if isinstance(found, list) else []
    return {
        each["endpoint"] for each in answers if each["health"] or each.get("error", "").startswith("Active Alarm(s):")
    }


def parse_alarms(text: str) -> Sequence[Alarm] | None:
    """Reads the output of `etcdctl alarm list`; returns None if there was no answer.

    Its lines read `memberID:10501334649042878790 alarm:NOSPACE`. The last line is "asked"; without it there was no
    answer.
    """
    *lines, last = text.splitlines() or [""]
    if last != "asked":
        return None
    found = [re.fullmatch(r"memberID:(\d+) +alarm:(\w+) *", line) for line in lines]
    return [Alarm(each[2], f"{int(each[1]):x}" if int(each[1]) else "") for each in found if each]


_ACCESSES = {0: "read", 1: "write", 2: "readwrite"}


def parse_authentication(text: str) -> Authentication | None:
    """Reads what observe.sh reports of users and roles; returns None if a question was not answered."""
    state, *lines = text.rstrip("\n").split("\n")
    if not lines or lines.pop() != "asked":
        return None
    users: dict[str, frozenset[str]] = {}
    roles: dict[str, Mapping[KeyRange, str]] = {}
    try:
        for line in lines:
            kind, name, answer = line.split("\t", 2)
            found: Mapping[str, Any] = json.loads(answer)
            if kind == "user":
                users[name] = frozenset(found.get("roles") or ())
            else:
                roles[name] = dict(_permission(each) for each in found.get("perm") or ())
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return Authentication(state == "on", users, roles)


def _permission(found: Mapping[str, Any]) -> tuple[KeyRange, str]:
    start, end = (base64.b64decode(found.get(name) or "") for name in ("key", "range_end"))
    return KeyRange(start, end), _ACCESSES[int(found.get("permType") or 0)]


def parse_hash(text: str) -> tuple[str, KeyHash] | None:
    """Reads `etcdctl endpoint hashkv --write-out json` of one member.

    Returns:
        The member's id, hexadecimal, and the hash; None if there was no answer, or a cut one.
    """
    answers: Any = _json(text)
    try:
        found: Mapping[str, Any] = answers[0]["HashKV"]
        header: Mapping[str, Any] = found["header"]
        key_hash = KeyHash(int(header["revision"]), int(found.get("compact_revision", 0)), int(found["hash"]))
        return f"{int(header['member_id']):x}", key_hash
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def _live(facts: Mapping[str, str]) -> Live | None:
    if facts.get("status"):
        return _live_by_status(_decoded(facts["status"]))
    if not facts.get("id"):
        return None
    try:
        return Live(
            id=facts["id"],
            leads=facts.get("is_leader") == "1",
            learner=facts.get("is_learner") == "1",
            has_leader=facts.get("has_leader") == "1",
            version=facts.get("version", ""),
            cluster_version=facts.get("cluster_version", ""),
            applied=_integer(facts.get("proposals_applied_total")),
            committed=_integer(facts.get("proposals_committed_total")),
            database_bytes=_integer(facts.get("database_bytes")),
            used_bytes=_integer(facts.get("used_bytes")),
            revision=_integer(facts.get("revision")),
            compacted=max(_integer(facts.get("compacted")), 0),
            active_peers=frozenset(facts["active_peers"].split(",")) - {""} if "active_peers" in facts else None,
        )
    except (ValueError, OverflowError):  # not the numbers that etcd writes
        return None


def _live_by_status(text: str) -> Live | None:
    """Reads `etcdctl endpoint status --write-out json` of one member, which is asked if its metrics are unreadable.

    It does not report the cluster's version.
    """
    answers: Any = _json(text)
    try:
        status: Mapping[str, Any] = answers[0]["Status"]
        own, leader = int(status["header"]["member_id"]), int(status.get("leader", 0))
        return Live(
            id=f"{own:x}",
            leads=leader == own,
            learner=bool(status.get("isLearner")),
            has_leader=leader != 0,
            version=str(status["version"]),
            cluster_version="",
            applied=int(status["raftAppliedIndex"]),
            committed=int(status["raftIndex"]),
            database_bytes=int(status["dbSize"]),
            used_bytes=int(status.get("dbSizeInUse", 0)),
        )
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def _json(text: str) -> Any:
    """Returns the value of a JSON text; None if it is cut or no JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def _decoded(encoded: str) -> str:
    return base64.b64decode(encoded).decode(errors="replace")


def _cluster_id(text: str) -> str:
    """Reads the id in the begin of etcd's log, a number in groups of 7 bits, as etcd itself writes ids."""
    try:
        groups = bytes.fromhex(text)
    except ValueError:
        return text
    number = sum((group & 0x7F) << (7 * place) for place, group in enumerate(groups))
    return f"{number:x}" if groups else ""


def _version(folder: str) -> str:
    """Returns the version of the programs in a folder of that name; "" if the folder is not one of this package."""
    return folder if VERSION.fullmatch(folder) else ""


def _integer(text: str | None) -> int:
    """Reads a number. Metrics are floats, such as 1.234567e+06."""
    return int(float(text)) if text else 0
