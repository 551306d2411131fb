"""What is there: the facts that machines and the leader tell, in types. Nothing is decided here."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from typing import Any, cast

import yaml

from etcd_cluster.member.render import PeerSecurity, Security, Transport

VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")
"""Of etcd, as folders of programs are called; what people put beside them may have any name."""


@dataclass(frozen=True)
class ObservedFile:
    """A file on a machine. content: of a private key, its SHA-256 sum."""

    mode: str
    owner: str
    content: str = field(repr=False)


class MissingKind(Enum):
    """What only preparing a machine again brings back. The first four are words of observe.sh."""

    USER = "user"
    DISK = "disk"
    MOUNT_ON_BOOT = "mount-on-boot"
    FILE_SYSTEM = "file-system"
    DISK_SPACE = "disk-space"
    PROGRAMS = "programs"
    MARKER = "marker"


@dataclass(frozen=True)
class Missing:
    """Something that a machine does not have. detail: its path, or version; "" for none."""

    kind: MissingKind
    detail: str = ""

    @staticmethod
    def parse(text: str) -> Missing:
        """Reads KIND or KIND DETAIL."""
        kind, _, detail = text.partition(" ")
        return Missing(MissingKind(kind), detail)


class Question(Enum):
    """What a running member is asked of itself. The answer may be missing: that is no answer, not a "no"."""

    METRICS = "metrics"
    MEMBERS = "members"


@dataclass(frozen=True)
class History:
    """Up to where a member's log may hold what the next minor version cannot start from.

    series: minor version that runs since `series_index`. members: ids, comma-separated, unchanged since
    `members_index`. id: the member's own.
    """

    series: str = ""
    series_index: int = 0
    members: str = ""
    members_index: int = 0
    id: str = ""

    def text(self) -> str:
        return "".join(f"{name}={value}\n" for name, value in vars(self).items())


@dataclass(frozen=True)
class Live:
    """What a running member measures of itself. Indices are of raft's log. active_peers: ids of the members that it has
    a connection with; None where it did not say."""

    id: str
    leads: bool
    learner: bool
    has_leader: bool
    version: str
    cluster_version: str
    applied: int
    committed: int
    database_bytes: int
    active_peers: frozenset[str] | None = None


@dataclass(frozen=True)
class Host:
    """One machine and the member on it. running, programs: version that runs, and that would be started; "" if none.

    missing: what only preparing the machine again can bring back. pending: its files may be newer than its process.
    owner: the member whose data the marker beside them says they are; "" without a marker.
    mounted_over: what is mounted where the data belong and is not their file system, "SOURCE at PATH"; "" for nothing.
    live: None where nothing runs, and where what runs could not be asked: then `unknown` says why.
    unknown: what could not be told of a process that runs -> why.
    announced: how the member speaks by what it has told the cluster of itself; None where nobody could be asked.
    disk_bytes, disk_free_bytes: of the file system of its data, where that was asked for.
    database_bytes: of a member that does not run, of its file; of one that does, see `live`.
    forming, formed: token of the note on its own disk that etcd was told to start without data here, and that it then
    had data; "" without one.
    quota_bytes: with which it runs. may_administer: whether its certificate may change the cluster; None where that was
    not asked, or not answered.
    claim: id of the run that took the machine over last.
    data_of: of which cluster the data are, by etcd's own log; "" where that could not be read.
    foreign: the database of somebody else's etcd that runs there; "" for none. Nothing that one says is asked for, and
    `pid` is "", as no member of ours runs.
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
    unknown: Mapping[Question, str] = field(default_factory=dict[Question, str])
    announced: Security | None = None

    @property
    def quota_before(self) -> int:
        """With which it runs, or would start as it is; 0 where neither tells."""
        configured = self.configuration.get("quota-backend-bytes")
        return self.quota_bytes or (configured if isinstance(configured, int) else 0)

    @property
    def may_serve(self) -> bool:
        """False only on its own word: nothing runs there, or it has no leader."""
        return bool(self.pid) and (self.live is None or self.live.has_leader)

    @cached_property
    def configuration(self) -> Mapping[str, Any]:
        """etcd's configuration file; empty where there is none that can be read."""
        file = next((file for path, file in self.files.items() if path.endswith("/etcd.yaml")), None)
        try:
            found: Any = yaml.safe_load(file.content) if file else {}
        except yaml.YAMLError:
            return {}
        return cast("dict[str, Any]", found) if isinstance(found, dict) else {}

    @cached_property
    def security(self) -> Security | None:
        """How the member speaks, by its configuration file; as it has announced where that is lost, or says plaintext
        of peers that speak TLS, which only somebody's hand does. None where neither tells."""
        configuration = self.configuration
        if not isinstance(configuration.get("advertise-client-urls"), str):
            return self.announced
        peers = PeerSecurity.READY if "peer-transport-security" in configuration else PeerSecurity.PLAINTEXT
        if str(configuration.get("initial-advertise-peer-urls", "")).startswith("https:"):
            peers = PeerSecurity.TLS
        if peers is PeerSecurity.PLAINTEXT and self.announced and self.announced.peers is PeerSecurity.TLS:
            return self.announced
        return Security(str(configuration["advertise-client-urls"]).startswith("https:"), peers)

    def trusted_path(self, transport: Transport) -> str | None:
        """Where its configuration file says that the authorities are which it trusts; None where it does not say."""
        section = self.configuration.get(f"{transport.value}-transport-security")
        named = cast("dict[str, Any]", section).get("trusted-ca-file") if isinstance(section, dict) else None
        return None if named is None else str(named)

    def trusted_file(self, transport: Transport) -> ObservedFile | None:
        """The file of the authorities that the member trusts: the one that its configuration file names. Where that
        names none, the one by its usual name; members without one of their own trust what clients are trusted by."""
        named = self.trusted_path(transport)
        if named is not None:
            return self.files.get(named)
        usual = dict.fromkeys((transport.trusted_file, Transport.CLIENT.trusted_file))
        found = (file for name in usual for path, file in self.files.items() if path.endswith(f"/{name}"))
        return next(found, None)


@dataclass(frozen=True)
class MemberEntry:
    """One member as the cluster lists it. name: "" for one that was added and has not started. client_url: "" until it
    has started once. peer_url: "" if there are several."""

    id: str
    name: str
    peer_url: str
    client_url: str
    learner: bool

    @property
    def started(self) -> bool:
        """Of members that form a cluster, etcd knows the names before they start."""
        return bool(self.client_url)

    @property
    def security(self) -> Security | None:
        """As the others speak to it, and clients are to; None before it has started. With certificates at hand or
        not, does not show."""
        if not self.started:
            return None
        peers = PeerSecurity.TLS if self.peer_url.startswith("https:") else PeerSecurity.PLAINTEXT
        return Security(self.client_url.startswith("https:"), peers)


@dataclass(frozen=True)
class Alarm:
    """An alarm that stands. kind: etcd's own word, such as "NOSPACE". id: of the member that raised it; "" where etcd
    does not say."""

    kind: str
    id: str


@dataclass(frozen=True)
class Observation:
    """The whole cluster at one time. hosts: member name -> machine; one that could not be asked is in `silent`, with
    the reason. status_source: whose machine told of the members: the leader's, if that can be asked; None, and nothing
    told, where no member can agree with a majority.
    healthy: ids of the members that serve, each asked on its own machine; where that does not say so, from the
    status source's. connected: ids of those that gave no answer there but have a connection with it: they run, and
    nothing more is known. unknown: these, and those of which nobody can say whether they have one.
    alarms: None where nobody could be asked for them. users: etcd's, where its authentication is
    known to be on.
    clocks: member name -> seconds by which its machine's clock is surely ahead of this one's. cluster_id: hexadecimal.
    """

    hosts: Mapping[str, Host]
    unreachable: Mapping[str, str]
    status_source: str | None
    members: Sequence[MemberEntry]
    healthy: frozenset[str]
    alarms: Sequence[Alarm] | None = ()
    connected: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()
    users: frozenset[str] | None = None
    cluster_id: str = ""
    clocks: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def leader(self) -> str | None:
        """The member that leads; None also where its machine cannot be asked, or two say that they do."""
        leading = [name for name, host in self.hosts.items() if host.live and host.live.leads]
        if self.status_source in leading:
            return self.status_source
        leading = [name for name in leading if self.is_healthy(name)]
        return leading[0] if len(leading) == 1 else None

    @property
    def voters(self) -> Sequence[MemberEntry]:
        return [member for member in self.members if not member.learner]

    @property
    def index(self) -> int:
        """The end of the log, as far as any member knows."""
        return max((host.live.committed for host in self.hosts.values() if host.live), default=0)

    @property
    def member_ids(self) -> str:
        return ",".join(sorted(member.id for member in self.members))

    def of(self, name: str) -> MemberEntry | None:
        """The member of that name, as the cluster lists it."""
        return next((member for member in self.members if member.name == name), None)

    def is_healthy(self, name: str) -> bool:
        listed = self.of(name)
        return listed is not None and listed.id in self.healthy


def is_whole(text: str) -> bool:
    """Whether it is all that observe.sh prints: the clock comes last. What is missing from one that is cut would look
    like a "no"."""
    return re.search(r"(^|\n)clock=[0-9]+\n$", text) is not None


def parse_host(text: str) -> tuple[Host, Mapping[str, Any]]:
    """What observe.sh printed, and what is said besides: of its own member ("health"), and of the cluster ("members",
    "alarms", "users")."""
    facts: dict[str, str] = {}
    missing: list[Missing] = []
    unknown: dict[Question, str] = {}
    files: dict[str, ObservedFile] = {}
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name == "missing":
            missing.append(Missing.parse(value))
        elif name == "unknown":
            question, _, why = value.partition(" ")
            unknown[Question(question)] = why
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
    if not VERSION.fullmatch(running):  # a program of somebody else's
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
        formed=facts.get("formed", ""),
        quota_bytes=_integer(facts.get("quota_bytes")),
        may_administer={"yes": True, "no": False}.get(facts.get("rights", "")),
        data_of=facts.get("data_of", ""),
        foreign=facts.get("foreign", ""),
        claim=facts.get("claim", ""),
    )
    reports: dict[str, str] = {name: _decoded(facts[name]) for name in ("members", "health", "alarms") if name in facts}
    reports |= {name: facts[name] for name in ("scheme", "users") if name in facts}
    return host, reports


def without_member(host: Host) -> Host:
    """The machine of another cluster by now: what it holds, runs and trusts is no member's of this one."""
    gone = replace(host, data=False, pid="", running="", live=None, history=History(), unknown={}, pending=False)
    return replace(gone, files={}, owner="", data_of="", formed="", forming="", claim="")


def _observed_file(line: str) -> tuple[str, str, ObservedFile]:
    """A line KIND:PATH=MODE OWNER CONTENT. Anything may be in a path; in content there is no space."""
    named, owner, content = line.rsplit(" ", 2)
    name, _, mode = named.rpartition("=")
    kind, _, path = name.partition(":")
    return kind, path, ObservedFile(mode, owner, content)


def combine(
    hosts: Mapping[str, Host], reports: Mapping[str, Mapping[str, str]], unreachable: Mapping[str, str]
) -> Observation:
    """One observation of what each machine said. Of several that told of the cluster, one counts that can answer."""
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
                alarms=parse_alarms(said["alarms"]) if "alarms" in said else (),
                cluster_id=f"{_json(said['members']).get('header', {}).get('cluster_id', 0):x}",
            )
    return nothing


def unanswered(observation: Observation) -> Sequence[MemberEntry]:
    """Members that may serve clients, though nothing says so yet: by their own machines none is known to."""
    down = {
        member.id for member in observation.members if (host := observation.hosts.get(member.name)) and not host.pid
    }
    return [member for member in observation.members if member.started and member.id not in observation.healthy | down]


def counted_as_connected(observation: Observation) -> frozenset[str]:
    """Ids of the `unanswered` ones whose machines said nothing and that the status source's member counts as connected.

    etcd's count may be too high for good: a connection that a member had before it was told of the cluster (as a new
    one, or by a snapshot) is never taken off. Whoever leads gets an answer from each member that runs at every
    heartbeat, so there the bytes that come tell.
    """
    live = observation.hosts[observation.status_source].live if observation.status_source else None
    return _unasked(observation) & (live.active_peers or frozenset()) if live else frozenset()


def _unasked(observation: Observation) -> frozenset[str]:
    asked = {host.live.id for host in observation.hosts.values() if host.live}
    return frozenset(member.id for member in unanswered(observation)) - asked


def parse_answers(text: str) -> tuple[str, frozenset[str] | None]:
    """Of the step `health`: the JSON of `etcdctl endpoint health`, and the ids of those that something came from; None
    where that was not told."""
    facts = {name: value for name, _, value in (line.partition("=") for line in text.splitlines())}
    heard = frozenset(facts["heard"].split(",")) - {""} if "heard" in facts else None
    return _decoded(facts.get("health", "")), heard


def with_answers(observation: Observation, text: str, heard: frozenset[str] | None = None) -> Observation:
    """What the status source's machine got to hear of the `unanswered` ones: the JSON of `etcdctl endpoint health`, and
    the ids of the `counted_as_connected` that it received anything from, None where that is not known.

    No answer is not a no: 2379 may be open to clients only. One whose machine said nothing, and that has a connection
    with that machine's member, runs. Where that one does not say with whom it has one, so may all.
    """
    live = observation.hosts[observation.status_source].live if observation.status_source else None
    healthy = parse_health(text, unanswered(observation))
    unasked = _unasked(observation) - healthy
    connected = counted_as_connected(observation) - healthy
    if live and live.leads and heard is not None:
        connected &= heard
    unknown = unasked if live is None or live.active_peers is None else connected
    return replace(observation, healthy=observation.healthy | healthy, connected=connected, unknown=unknown)


def with_announced(hosts: Mapping[str, Host], members: Sequence[MemberEntry]) -> Mapping[str, Host]:
    """Every machine beside what the cluster's list says of its member."""
    announced = {member.name: member.security for member in members}
    return {name: replace(host, announced=announced.get(name)) for name, host in hosts.items()}


def parse_members(text: str) -> list[MemberEntry]:
    """`etcdctl member list --write-out json`; nothing where there was no answer, or one that is cut."""
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
    """Whether the one member that `etcdctl endpoint health --write-out json` asked answers a consistent read."""
    return bool(_serving_endpoints(text))


def parse_health(text: str, members: Sequence[MemberEntry]) -> frozenset[str]:
    """`etcdctl endpoint health --write-out json` -> ids of the members that answer a consistent read."""
    return frozenset(member.id for member in members if member.client_url in _serving_endpoints(text))


def _serving_endpoints(text: str) -> set[str]:
    """While an alarm stands, etcdctl calls every member unhealthy that has answered: alarms are told of by themselves,
    and what helps against them is a change of these members."""
    found: Any = _json(text)
    answers = cast("list[dict[str, Any]]", found) if isinstance(found, list) else []
    return {
        each["endpoint"] for each in answers if each["health"] or each.get("error", "").startswith("Active Alarm(s):")
    }


def parse_alarms(text: str) -> Sequence[Alarm] | None:
    """`etcdctl alarm list`, whose lines read `memberID:10501334649042878790 alarm:NOSPACE`, and then "asked"; None
    without that: there was no answer."""
    *lines, last = text.splitlines() or [""]
    if last != "asked":
        return None
    found = [re.fullmatch(r"memberID:(\d+) +alarm:(\w+) *", line) for line in lines]
    return [Alarm(each[2], f"{int(each[1]):x}" if int(each[1]) else "") for each in found if each]


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
            active_peers=frozenset(facts["active_peers"].split(",")) - {""} if "active_peers" in facts else None,
        )
    except (ValueError, OverflowError):  # not the numbers that etcd writes
        return None


def _live_by_status(text: str) -> Live | None:
    """`etcdctl endpoint status --write-out json` of one member: asked where its metrics cannot be read. It does not
    tell the cluster's version."""
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
        )
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def _json(text: str) -> Any:
    """None where it is cut or none."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def _decoded(encoded: str) -> str:
    return base64.b64decode(encoded).decode(errors="replace")


def _version(folder: str) -> str:
    """The version that programs in a folder of that name are of; "" where the folder is none of ours."""
    return folder if VERSION.fullmatch(folder) else ""


def _integer(text: str | None) -> int:
    """Metrics come as floats, such as 1.234567e+06."""
    return int(float(text)) if text else 0
