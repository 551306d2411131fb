"""Makes types of what machines print of themselves and of the cluster. Nothing is decided here."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from etcd_cluster.rollout.observed import (
    VERSION,
    Alarm,
    Authentication,
    Defragmented,
    History,
    Host,
    HostBackups,
    KeyHash,
    KeyRange,
    Live,
    MemberEntry,
    Missing,
    Observation,
    ObservedFile,
    Question,
)


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
    for line in text.split("\n"):  # a name of a user may hold what `splitlines` takes for the end of a line
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
        data_version=_version(facts.get("data_version", "")).rpartition(".")[0],
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
                users=parse_users(said.get("users", "")),
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


def parse_users(text: str) -> frozenset[str] | None:
    """Reads `etcdctl user list --write-out json`; returns None if there was no answer."""
    answer: Any = _json(text)
    return frozenset(cast("dict[str, Any]", answer).get("users", ())) if isinstance(answer, dict) else None


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
            kind, *texts = line.split("\t")
            name, found = map(json.loads, texts)
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
