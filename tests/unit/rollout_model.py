"""A cluster in memory, and machines that do what a planner's actions say. No etcd, no files, no clock.

It keeps what a wrong order would break: who listens where and speaks what, which CAs a process has loaded,
whose certificate covers which address, which log a version can start from, and where a quorum is. What would break a
real cluster raises `BrokenError`, whoever asked for it.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from functools import cache, partial
from hashlib import sha256
from itertools import permutations
from typing import Any

import yaml

from etcd_cluster.etcd import options
from etcd_cluster.etcd.versions import Version
from etcd_cluster.machines.machine import Ports
from etcd_cluster.member.layout import FOUNDING, Layout
from etcd_cluster.member.lines import (
    Apply,
    ApplyAction,
    BackUp,
    Compact,
    HashData,
    HashKeys,
    Membership,
    MembershipChange,
    PrepareAgain,
    PrepareRestore,
    PutRestored,
    RaftPosition,
    SetUsers,
    Snapshot,
    Until,
    UsersChange,
    V2Store,
)
from etcd_cluster.member.machines import StepFailedError
from etcd_cluster.member.render import CertificatePair, PeerSecurity, Security
from etcd_cluster.pki import x509
from etcd_cluster.rollout.desired import (
    UNIT_PATH,
    DesiredCluster,
    DesiredDefragmentation,
    DesiredMember,
    File,
    Restoration,
    series,
)
from etcd_cluster.rollout.observed import (
    CORRUPT,
    Alarm,
    Authentication,
    Defragmented,
    History,
    Host,
    KeyHash,
    KeyRange,
    Live,
    MemberEntry,
    Missing,
    Observation,
    ObservedFile,
    Question,
)
from etcd_cluster.rollout.planner import messages, next_action
from etcd_cluster.rollout.planner.actions import Action, ActionKind, HostStep, UsersRequest, WaitFor
from etcd_cluster.rollout.planner.refusals import RefusedError
from etcd_cluster.rollout.planner.run_context import RunContext
from etcd_cluster.rollout.repetitions import MOST_REPETITIONS, Repetitions
from etcd_cluster.rollout.reports import unanswered, with_announced, with_answers
from etcd_cluster.users import ROOT, Users

NOW = datetime(2030, 1, 1, tzinfo=timezone.utc)
LONG_AGO = NOW - timedelta(days=30)
CAS = tuple(x509.create_ca(f"CA {n}", key_algorithm="ECDSA-P256", now=LONG_AGO) for n in range(6))
OF_CLIENTS, OF_PEERS = CAS[:3], CAS[3:]
TOKEN = "the-token"
LAYOUT = Layout.system()
CONFIGURATION, BOOTSTRAP = f"{LAYOUT.configuration}/etcd.yaml", f"{LAYOUT.configuration}/bootstrap.yaml"
CA, PEER_CA, SERVER, PEER = (f"{LAYOUT.pki}/{name}.crt" for name in ("ca", "peer-ca", "server", "peer"))
SERVER_KEY = f"{LAYOUT.pki}/server.key"
MIB, GIB = 1024**2, 1024**3
MOST_ACTS = 150
"""More than any change of a few members takes."""
TRUSTING = (ActionKind.RESTART_TO_TRUST_ONE_CA, ActionKind.RESTART_TO_TRUST_CAS)
MOST_STEPS = 1000


class BrokenError(Exception):
    """What was done would have broken a real cluster, or a rule of safety."""


# --- the desired state ---


@dataclass(frozen=True)
class Goal:
    """What a stack asks for. trusted, signer: CAs of clients by number, newest first. peer_trusted,
    peer_signer: those of members; None where they have none of their own, as it was once. renewals: member -> how often
    its certificates were renewed. founders: as recorded: members, or member -> its machine. token: etcd's."""

    names: tuple[str, ...] = ("a", "b", "c")
    version: str = "3.6.16"
    tls: bool = True
    trusted: tuple[int, ...] = (0,)
    signer: int = 0
    peer_trusted: tuple[int, ...] | None = (0,)
    peer_signer: int = 0
    addresses: Mapping[str, str] = field(default_factory=dict[str, str])
    renewals: Mapping[str, int] = field(default_factory=dict[str, int])
    user_options: Mapping[str, object] = field(default_factory=dict[str, object])
    founders: tuple[str, ...] | Mapping[str, str] = ("a", "b", "c")
    token: str = TOKEN
    restoration: Restoration | None = None
    users: Users | None = None
    defragment: DesiredDefragmentation | None = None

    def address(self, name: str) -> str:
        return self.addresses.get(name, usual_address(name))

    @property
    def desired(self) -> DesiredCluster:
        user_options = options.validate_options(self.user_options, self.version)
        quota = 2 * GIB
        trusted = [OF_CLIENTS[number].certificate_pem for number in self.trusted]
        peer_trusted = [OF_PEERS[number].certificate_pem for number in self.peer_trusted or ()]
        server_options = {**options.defaults(self.version), "quota-backend-bytes": quota, **user_options}
        return DesiredCluster(
            cluster="project/stack/etcd",
            token=self.token,
            version=self.version,
            tls=self.tls,
            options=dict(sorted(server_options.items())),  # as a stack keeps them
            user_options=user_options,
            quota_bytes=quota,
            trusted=trusted if self.tls else (),
            peer_trusted=(peer_trusted or trusted) if self.tls else (),
            members={name: self._member(name) for name in self.names},
            delete_data=False,
            restoration=self.restoration,
            users=self.users,
            root=CertificatePair("of root", "its key") if self.users else None,
            defragment=self.defragment,
        )

    def _member(self, name: str) -> DesiredMember:
        address = self.address(name)
        signed = (name, address, self.renewals.get(name, 0))
        of_clients = OF_CLIENTS[self.signer].certificate_pem
        of_peers = of_clients if self.peer_trusted is None else OF_PEERS[self.peer_signer].certificate_pem
        return DesiredMember(
            name=name,
            address=address,
            ports=Ports(),
            layout=LAYOUT,
            device="/dev/data",
            founder=self._founder(name),
            prepare_line=f"prepare member={name} version={self.version}",
            prepare_variables={},
            server=certificate_pair("server", of_clients, *signed) if self.tls else None,
            peer=certificate_pair("peer", of_peers, *signed) if self.tls else None,
            outlives_destroy=True,
        )

    def _founder(self, name: str) -> str:
        if isinstance(self.founders, Mapping):
            return self.founders.get(name, "")
        return f"machine-of-{name}" if name in self.founders else ""


def usual_address(name: str) -> str:
    return f"10.0.0.{ord(name) - ord('a') + 1}"


@cache
def certificate_pair(profile: x509.Profile, signer: str, name: str, address: str, _renewed: int) -> CertificatePair:
    hosts = [name, address, "localhost", "127.0.0.1"]
    ca = next(each for each in CAS if each.certificate_pem == signer)
    pair = x509.issue_certificate(ca, common_name=name, profile=profile, hosts=hosts, now=NOW)
    return CertificatePair(pair.certificate_pem, pair.private_key_pem)


@cache
def expired_pair(profile: x509.Profile, signer: int, name: str, address: str) -> CertificatePair:
    """Of a CA's first day."""
    hosts = [name, address, "localhost", "127.0.0.1"]
    pair = x509.issue_certificate(
        CAS[signer], common_name=name, profile=profile, hosts=hosts, now=LONG_AGO, validity_hours=24
    )
    return CertificatePair(pair.certificate_pem, pair.private_key_pem)


@cache
def issuer(certificate_pem: str) -> str:
    """The certificate of the CA that signed it."""
    return next(each.certificate_pem for each in CAS if x509.signed_by(certificate_pem, each.certificate_pem))


# --- what is there ---


@dataclass
class Listing:
    """One member, as the cluster has it. has_run: it has acknowledged entries, which it must not lose."""

    id: str
    name: str
    peer_url: str
    client_url: str = ""
    learner: bool = False
    has_run: bool = False

    @property
    def listed(self) -> MemberEntry:
        return MemberEntry(self.id, self.name, self.peer_url, self.client_url, self.learner)


@dataclass(frozen=True)
class Process:
    """A running etcd: what it read at its start. trusted, peer_trusted: who is let in as a client, and as a member.
    counted_for_good: ids in its metric of active peers that never leave it, be they there or not.
    """

    version: str
    security: Security
    peer_url: str
    client_url: str
    trusted: Sequence[str]
    peer_trusted: Sequence[str]
    configuration: str
    snapshot_count: int
    quota_bytes: int
    counted_for_good: frozenset[str] = frozenset()


@dataclass
class Machine:
    """One host.

    ran: version that last ran on its data, since `ran_since` of the log. raised: version of the
    cluster that is in them. v2_until: where the log has a v2 request.
    mounted_over: what is mounted over its data, which are there all the same; nobody but a process that had them open
    sees them.
    forming, formed: tokens of the notes on its own disk. has_served: its log has more than the founders' entries.
    files: path -> as they are there, keys in full. mute: looks for which its process answers nobody here, and serves
    all the same. frozen: its process is there, and does nothing. second_address: one that it has besides; connections
    that name no address of their own come from the first one. peer_port_closed: a firewall lets nobody in there.
    database_bytes: its own database's, since it was defragmented; 0 before. differs: what its data hold beside those of
    the others; 0 for nothing: with such data, etcd does not start beside others. broken: nor with these files.
    unreadable: nor does any program read its database.
    """

    name: str
    address: str
    identity: str
    token: str = TOKEN
    versions: set[str] = field(default_factory=set[str])
    programs: str = ""
    files: dict[str, File] = field(default_factory=dict[str, File])
    data: bool = False
    data_id: str = ""
    history: History = field(default_factory=History)
    forming: str = ""
    formed: str = ""
    has_served: bool = False
    pending: bool = False
    on_boot: bool = True
    masked: bool = True
    failed: bool = False
    missing: list[Missing] = field(default_factory=list[Missing])
    device_bytes: int = GIB
    filesystem_bytes: int = GIB
    process: Process | None = None
    starts: int = 0
    snapshot_index: int = 0
    ran: str = ""
    raised: str = ""
    ran_since: int = 0
    v2_until: int = 0
    v2_keys: bool = False
    archived: int = 0
    reachable: bool = True
    cut_off: bool = False
    database_bytes: int = 0
    defragmented: Defragmented | None = None
    differs: int = 0
    broken: bool = False
    unreadable: bool = False
    second_address: str = ""
    peer_port_closed: bool = False
    mute: int = 0
    frozen: bool = False
    clock_ahead: float = 0.0
    mounted_over: str = ""
    restored: str = ""
    data_of: str = ""
    replaced: str = ""
    restoring: str = ""
    restoring_source: str = ""
    restored_url: str = ""
    ahead: int = 0

    @property
    def source(self) -> str:
        """The address that its connections to other members come from."""
        is_set = self.process and "SetMemberLocalAddr=true" in self.process.configuration
        return _host(self.process.peer_url) if self.process and is_set else self.address

    @property
    def seen_files(self) -> dict[str, ObservedFile]:
        return {
            path: ObservedFile(
                file.mode,
                "etcd" if file.owner == "member" else file.owner,
                sha256(file.content.encode()).hexdigest() if path.endswith(".key") else file.content,
            )
            for path, file in self.files.items()
        }

    def shown(self, certificate: str) -> str:
        """What etcd shows to others: "" where it cannot read the certificate or the key, or nobody takes it any
        more."""
        pair = [self.files.get(path) for path in (certificate, certificate.replace(".crt", ".key"))]
        is_readable = all(file and (file.owner == "member" or file.mode == "444") for file in pair)
        return self.content(certificate) if is_readable and _is_valid(self.content(certificate)) else ""

    def content(self, path: str) -> str:
        return self.files[path].content if path in self.files else ""


class Model:
    """A whole cluster. `machines` are all that exist; which of them are asked is the caller's. clients_only: between
    machines of members, a firewall opens the peer port alone. database_bytes: of every member's. used_bytes: what is in
    use of that. used_after: revisions that a compaction keeps -> what is in use then. alarms: (kind, id).
    restored_from: what took the place of its data, and on which machine. restored_users: the users and roles in
    that; None where they are as in its data.
    is_guarded, users, roles: etcd's authentication."""

    def __init__(self) -> None:
        self.machines: dict[str, Machine] = {}
        self.members: list[Listing] = []
        self.formed = False
        self.leader = ""
        self.index = 100
        self.changed_members_at = 0
        self.cluster_version = ""
        self.snapshots: list[str] = []
        self.log: list[str] = []
        self.restarts: list[str] = []
        self.clients_only = False
        self.database_bytes = MIB
        self.used_bytes = 0
        self.used_after: dict[int, int] = {}
        self.revision = 20_000
        self.compacted = 0
        self.alarms: set[tuple[str, str]] = set()
        self.cluster = ""
        self.restored_from = ""
        self.restored_users: Authentication | None = None
        self.is_guarded = False
        self.users: dict[str, set[str]] = {}
        self.roles: dict[str, dict[KeyRange, str]] = {}
        self._ids = 0
        self._connections: dict[tuple[str, str], list[tuple[str, str, int]]] = {}

    @staticmethod
    def blank(goal: Goal) -> Model:
        """New machines, prepared."""
        model = Model()
        for name in goal.names:
            model.add_machine(name, goal.address(name), goal.version)
        return model

    @staticmethod
    def running(goal: Goal | None = None, **changes: Any) -> Model:
        """A healthy cluster that is as `goal` asks, formed by the planner itself."""
        chosen = replace(goal or Goal(), **changes)
        model = Model.blank(chosen)
        model.run(chosen, context=RunContext(forming=True))
        model.log.clear()
        model.restarts.clear()
        return model

    def add_machine(self, name: str, address: str, version: str, *, identity: str = "") -> Machine:
        machine = Machine(name, address, identity or f"machine-of-{name}", versions={version})
        self.machines[name] = machine
        return machine

    # --- etcd's authentication ---

    @property
    def root(self) -> set[str] | None:
        """Whose certificates may change the cluster; None where everybody's may."""
        return {name for name, roles in self.users.items() if ROOT in roles} if self.is_guarded else None

    @root.setter
    def root(self, names: Collection[str]) -> None:
        """As somebody turns it on by hand."""
        self.is_guarded, self.roles = True, {ROOT: {}}
        self.users = {name: {ROOT} for name in (ROOT, *names)}

    def authentication(self, source: str) -> Authentication | None:
        if self.root is not None and source not in self.root:
            return None
        return Authentication(
            self.is_guarded,
            {name: frozenset(roles) for name, roles in self.users.items()},
            {name: dict(ranges) for name, ranges in self.roles.items()},
        )

    def _read_users(self, machine: Machine, line: SetUsers) -> str:
        if self.root is not None and not line.as_root and machine.name not in self.root:
            raise BrokenError(f"{machine.name}: users: permission denied")
        return users_answer("on" if self.is_guarded else "off", self.users, self.roles)

    def _set_users(self, machine: Machine, step: HostStep, line: SetUsers) -> Iterator[Callable[[], None]]:
        running = {series(each.process.version) for each in map(self.machine_of, self.members) if each and each.process}

        def permitted(do: Callable[[], None]) -> Callable[[], None]:
            def attempt() -> None:
                if self.root is not None and not line.as_root and machine.name not in self.root:
                    raise BrokenError(f"{machine.name}: users: permission denied")
                if len(running) > 1 and not line.as_root:
                    raise BrokenError(f"users are changed while members run {sorted(running)}")
                do()

            return attempt

        if line.change is UsersChange.ENABLE:
            yield permitted(self._enable)
        elif line.change is UsersChange.DISABLE:
            yield permitted(lambda: setattr(self, "is_guarded", False))
        for request in step.requests:
            yield permitted(partial(self.request, request))

    def _enable(self) -> None:
        lacking = {ROOT, *(each.name for each in self.members)} - {
            n for n, roles in self.users.items() if ROOT in roles
        }
        if lacking:
            raise BrokenError(f"authentication is turned on, and {sorted(lacking)} may do nothing")
        self.is_guarded = True

    def request(self, request: UsersRequest) -> None:
        """What is done already counts as done; what cannot be is an error."""
        arguments = request.arguments
        match request.command.split():
            case ["role", "add"]:
                self.roles.setdefault(arguments[0], {})
            case ["role", "delete"]:
                self.roles.pop(arguments[0], None)
                for roles in self.users.values():
                    roles.discard(arguments[0])
            case ["role", "grant-permission"]:
                role, access, *keys = arguments
                self.roles[role][_key_range(keys, request.flags)] = access
            case ["role", "revoke-permission"]:
                self.roles[arguments[0]].pop(_key_range(arguments[1:], request.flags), None)
            case ["user", "add"]:
                self.users.setdefault(arguments[0], set())
            case ["user", "delete"]:
                if arguments[0] == ROOT and self.is_guarded:
                    raise BrokenError("root cannot go while authentication is on")
                self.users.pop(arguments[0], None)
            case ["user", "grant-role"]:
                user, role = arguments
                if role not in self.roles and role != ROOT:  # etcdctl adds that one
                    raise BrokenError(f"there is no role {role}")
                self.users[user].add(role)
            case ["user", "revoke-role"]:
                self.users[arguments[0]].discard(arguments[1])
            case _:
                raise BrokenError(f"{request} is no request of etcdctl")

    # --- who reaches whom ---

    def member(self, name: str) -> Listing | None:
        """The member whose data that machine has."""
        machine = self.machines.get(name)
        return next((each for each in self.members if machine and machine.data and each.id == machine.data_id), None)

    def _dials(self, one: Machine, other: Machine) -> bool:
        """`one` opens a connection to `other`'s peer port, and both accept the certificate of the other one."""
        listed = self.member(other.name)
        here, there = one.process, other.process
        if here is None or there is None or listed is None or self.member(one.name) is None:
            return False
        is_open = self._listens(other, listed.peer_url, there.peer_url) and not other.peer_port_closed
        if is_apart(one) or is_apart(other) or not is_open:
            return False
        if listed.peer_url.startswith("http:"):
            return True
        return (
            here.security.peers is not PeerSecurity.PLAINTEXT
            and self._trusts(here.peer_trusted, other.shown(PEER), _host(listed.peer_url))
            and self._trusts(there.peer_trusted, one.shown(PEER), one.source)
        )

    @staticmethod
    def _listens(machine: Machine, asked: str, listening: str) -> bool:
        return asked == listening and _host(asked) in (machine.address, machine.second_address)

    @staticmethod
    def _trusts(trusted: Sequence[str], certificate: str, host: str) -> bool:
        return bool(certificate) and issuer(certificate) in trusted and _covers(certificate, host)

    def connected(self, one: Machine, other: Machine) -> bool:
        """One connection is enough: etcd's members send over those that others opened, too. One that is there lasts as
        long as both processes do, whatever the cluster is told of them."""
        if one is other:
            return one.process is not None and not one.frozen and self.member(one.name) is not None
        return self.reaches(one, other) or self.reaches(other, one)

    def reaches(self, one: Machine, other: Machine) -> bool:
        """`one` has a connection with `other` that it has opened itself, which is what its metric counts."""
        if self._dials(one, other):
            return True
        is_closed = is_apart(one) or is_apart(other) or other.peer_port_closed
        return not is_closed and self._connections.get((one.name, other.name)) == _ends(one, other)

    def _keep_connections(self) -> None:
        for one, other in permutations(self.machines.values(), 2):
            is_member = self.member(one.name) and self.member(other.name)
            if is_member and self.reaches(one, other):
                self._connections[one.name, other.name] = _ends(one, other)
            else:
                self._connections.pop((one.name, other.name), None)

    def broken_pairs(self, without: Machine | None = None) -> list[tuple[str, str]]:
        """Running members that do not reach one another, but for those of one machine; and for what no count shows."""
        running = [each for each in map(self.machine_of, self.members) if each and each.process and not each.frozen]
        return [
            (one.name, other.name)
            for one, other in permutations(running, 2)
            if without not in (one, other)
            and not self.reaches(one, other)
            and not (one.process and other.data_id in one.process.counted_for_good)
        ]

    def voters(self) -> list[Listing]:
        return [each for each in self.members if not each.learner]

    def machine_of(self, listed: Listing) -> Machine | None:
        return next((each for each in self.machines.values() if each.data and each.data_id == listed.id), None)

    def _leads_a_majority(self, machine: Machine, without: str = "") -> bool:
        if without == machine.name:
            return False
        others = [self.machine_of(voter) for voter in self.voters()]
        reached = [each for each in others if each and each.name != without and self.connected(machine, each)]
        return machine.process is not None and len(reached) > len(self.voters()) // 2

    def elect(self, without: str = "") -> str:
        """Who leads, from now on; "" where nobody can."""
        candidates = [each for voter in self.voters() if (each := self.machine_of(voter))]
        candidates.sort(key=lambda machine: machine.name != self.leader)
        found = next((each.name for each in candidates if self._leads_a_majority(each, without)), "")
        if not without:
            self.leader = found
            self._keep_connections()
            self._publish()
            for machine in self.machines.values():
                machine.has_served |= machine.process is not None and self.serves(machine)
        return found

    def _publish(self) -> None:
        """Members that serve tell the others their names and client URLs."""
        for listed in self.members:
            machine = self.machine_of(listed)
            if machine and machine.process and self.leader and self.serves(machine):
                listed.name, listed.client_url = machine.name, machine.process.client_url

    def serves(self, machine: Machine) -> bool:
        """It follows or leads."""
        return bool(self.leader) and self.connected(self.machines[self.leader], machine)

    def _asks(self, status_source: Machine, machine: Machine, url: str) -> bool:
        """etcdctl on `status_source` gets an answer at `url`, which `machine` is to serve."""
        process = machine.process
        if process is None or machine.frozen or url.partition(":")[0] != process.client_url.partition(":")[0]:
            return False
        if url.startswith("http:"):
            return True
        client = status_source.content(SERVER) if SERVER_KEY in status_source.files else ""
        return (
            bool(client)
            and _is_valid(client)
            and issuer(client) in process.trusted
            and self._trusts(_cas(status_source.content(CA)), machine.shown(SERVER), _host(url))
        )

    def _answers(self, status_source: Machine, listed: Listing) -> bool:
        """A consistent read works there; never at a learner."""
        machine = self.machine_of(listed)
        if listed.learner or machine is None or machine.process is None or machine.cut_off:
            return False
        asked = self._asks(status_source, machine, listed.client_url)
        return asked and self._listens(machine, listed.client_url, machine.process.client_url) and self.serves(machine)

    def _can_tell(self, machine: Machine) -> bool:
        scheme = machine.process.client_url.partition(":")[0] if machine.process else ""
        return self._asks(machine, machine, f"{scheme}://127.0.0.1:2379") and self.serves(machine)

    def _is_well(self, machine: Machine) -> bool:
        """By its own machine: a consistent read works where clients are told to find it; never at a learner."""
        listed = self.member(machine.name)
        if listed is None or listed.learner or machine.process is None:
            return False
        url = machine.process.client_url
        asked = self._asks(machine, machine, url) and self._listens(machine, url, machine.process.client_url)
        return asked and self.serves(machine)

    def healthy(self, name: str) -> bool:
        """As the leader's machine sees it."""
        listed = self.member(name)
        leader = self.machines.get(self.leader)
        return bool(listed and leader and self._answers(leader, listed))

    # --- what is observed ---

    def observe(self, names: Sequence[str]) -> Observation:
        self.elect()
        asked = {name: self.machines[name] for name in names if name in self.machines}
        hosts = {name: self._host(machine) for name, machine in asked.items() if machine.reachable}
        unreachable = {name: "cannot be reached" for name in names if name not in hosts}
        clocks = {name: asked[name].clock_ahead for name in hosts}
        nothing = Observation(hosts, unreachable, None, (), frozenset(), clocks=clocks)
        having = [name for name, host in hosts.items() if host.live and host.live.has_leader]
        serving = {name: asked[name].data_id for name in having if self._is_well(asked[name])}
        for name in sorted(having, key=lambda name: name != self.leader):
            if name in serving and self._can_tell(self.machines[name]):
                listed = [each.listed for each in self.members]
                healthy = frozenset(each.id for each in listed if each.id in serving.values())
                hosts = dict(with_announced(hosts, listed))
                observation = replace(
                    nothing,
                    hosts=hosts,
                    status_source=name,
                    members=listed,
                    healthy=healthy,
                    cluster_id=self.cluster or "c1",
                )
                alarms = [Alarm(*each) for each in sorted(self.alarms)]
                observation = replace(observation, alarms=alarms, authentication=self.authentication(name))
                if self.is_guarded and name in (self.root or ()):
                    observation = replace(observation, users=frozenset(self.users))
                if any(kind == CORRUPT for kind, _ in self.alarms):
                    asked_ones = [each for each in asked.values() if each.name in hosts and hosts[each.name].live]
                    found = {each.data_id: KeyHash(self.revision, 1, each.differs) for each in asked_ones}
                    observation = replace(observation, hashes=found)
                left = {each.id for each in unanswered(observation)}
                answering = [each for each in self.members if each.id in left and self._answers_to(name, each)]
                answers = json.dumps([{"endpoint": e.client_url, "health": True} for e in answering])
                return with_answers(observation, answers, self._peers_of(self.machines[name]))
        return nothing

    def _peers_of(self, machine: Machine) -> frozenset[str]:
        others = (each for each in self.machines.values() if each is not machine)
        return frozenset(each.data_id for each in others if self.reaches(machine, each))

    def _answers_to(self, status_source: str, listed: Listing) -> bool:
        return not self.clients_only and self._answers(self.machines[status_source], listed)

    def _host(self, machine: Machine) -> Host:
        process, live = machine.process, self._live(machine)
        machine.mute = max(machine.mute - 1, 0)
        return Host(
            machine=machine.identity,
            token="" if machine.mounted_over else machine.token,
            data=machine.data and not machine.mounted_over,
            programs=machine.programs,
            running=process.version if process else "",
            pid="1" if process else "",
            failed=machine.failed,
            on_boot=machine.on_boot,
            masked=machine.masked,
            pending=machine.pending,
            snapshot_index=0 if machine.mounted_over else machine.snapshot_index,
            history=History() if machine.mounted_over else machine.history,
            versions=sorted(machine.versions),
            missing=tuple(machine.missing),
            files=machine.seen_files,
            live=live,
            unknown={Question.METRICS: "no answer"} if process and live is None else {},
            clock=int(NOW.timestamp()),
            device_bytes=machine.device_bytes,
            filesystem_bytes=machine.filesystem_bytes,
            owner="" if machine.mounted_over or not machine.token else machine.name,
            mounted_over=machine.mounted_over,
            forming=machine.forming,
            restored=machine.restored,
            data_of=machine.data_of if machine.data else "",
            data_version=(machine.raised or "0.0") if machine.data and not process and not machine.unreadable else "",
            replaced=machine.replaced,
            restoring=machine.restoring,
            restoring_source=machine.restoring_source if machine.restoring else "",
            defragmented=machine.defragmented,
            formed=machine.formed,
            quota_bytes=process.quota_bytes if process else 0,
            database_bytes=self.size_of(machine) if machine.data and not process else 0,
            may_administer=self._may_administer(machine),
        )

    def _may_administer(self, machine: Machine) -> bool | None:
        if machine.process is None or self.member(machine.name) is None:
            return None
        return self.root is None or machine.name in self.root

    def _live(self, machine: Machine) -> Live | None:
        listed = self.member(machine.name)
        if machine.process is None or listed is None or machine.mute or machine.frozen:
            return None
        serves = self.serves(machine)
        index = self.index if serves else self.index - 5 if machine.has_served else len(self.members)
        return Live(
            id=machine.data_id,
            leads=machine.name == self.leader,
            learner=listed.learner,
            has_leader=serves,
            version=machine.process.version,
            cluster_version=self.cluster_version,
            applied=index,
            committed=index,
            database_bytes=self.size_of(machine),
            # While nothing is written, etcd counts freed pages in.
            used_bytes=self.size_of(machine) if self.alarms else self.used_of(machine),
            revision=self.revision,
            compacted=self.compacted,
            # etcd never takes off the connections that a member had before it knew the cluster.
            active_peers=self._peers_of(machine) | machine.process.counted_for_good,
        )

    # --- what actions do ---

    def run(
        self,
        goal: Goal,
        *,
        context: RunContext | None = None,
        stop_after: int = MOST_ACTS,
        cut: Callable[[int], int] | None = None,
    ) -> bool:
        """As a rollout does: looks, does the next thing, looks again. False if it was cut short.

        stop_after: actions until the run is killed, in the middle of the last one: `cut` says after how many steps.
        """
        desired, context, repetitions = goal.desired, context or RunContext(), Repetitions()
        everywhere = [*desired.members, *(name for name in self.machines if name not in desired.members)]
        for done in range(stop_after):
            observation = self.observe(everywhere)
            action = next_action(desired, observation, context)
            assert action is None or messages.describe(action), "every text has its details"
            if action is None:
                self._retire(desired)
                return True
            if isinstance(action, WaitFor):
                context.waited[action.limit] = context.waited.get(action.limit, 0.0) + action.seconds / 3
                if context.waited[action.limit] > action.seconds:
                    raise RefusedError(action.reason, action.details)
                continue
            context.waited.clear()
            if repetitions.is_futile(action, observation):
                raise BrokenError(f"{messages.describe(action)}: done {MOST_REPETITIONS} times without a change")
            self.carry_out(action, goal, context, cut if done == stop_after - 1 else None)
        if stop_after == MOST_ACTS:
            raise BrokenError("no end:\n" + "\n".join(self.log[-20:]))
        return False

    def carry_out(
        self, action: Action, goal: Goal, context: RunContext, cut: Callable[[int], int] | None = None
    ) -> None:
        self.log.append(messages.describe(action))
        self.elect()
        restarts = [
            step for step in action.steps if isinstance(step.line, Apply) and step.line.action is ApplyAction.RESTART
        ]
        if len(action.steps) > 1 and restarts and self.leader:
            raise BrokenError(f"several at once: {messages.describe(action)}")
        steps = [list(self._effects(step, action.kind, goal, context)) for step in action.steps]
        left = cut(sum(map(len, steps))) if cut else MOST_STEPS
        failed: StepFailedError | None = None
        for effects in steps:
            try:
                for effect in effects[:left]:
                    effect()
                    self.index += 3
            except StepFailedError as error:
                failed = error  # the others go on
            left = max(left - len(effects), 0)
        self.elect()
        self._tick()
        if failed:
            raise failed
        if action.then is not None and left > 0:
            self.carry_out(action.then, goal, context, (lambda _: left) if cut else None)

    def _tick(self) -> None:
        """Time passes, in which clients write."""
        if not self.leader:
            return
        self.index += 7
        self.raise_alarms()
        for machine in self.machines.values():
            due = machine.process and self.index - machine.snapshot_index >= machine.process.snapshot_count
            if due and self.serves(machine):
                machine.snapshot_index = self.index
        voters = [each.process for each in map(self.machine_of, self.voters()) if each and self.serves(each)]
        lowest = min((series(each.version) for each in voters if each), default="", key=lambda text: text)
        if lowest and len(voters) == len(self.voters()):
            self.cluster_version = max(self.cluster_version, lowest)
        for machine in self.machines.values():
            if machine.process and self.serves(machine):
                machine.raised = self.cluster_version

    def raise_alarms(self) -> None:
        for machine in self.machines.values():
            if machine.process and self.serves(machine) and self.size_of(machine) > machine.process.quota_bytes:
                self.alarms.add(("NOSPACE", machine.data_id))

    def _effects(
        self, step: HostStep, kind: ActionKind, goal: Goal, context: RunContext
    ) -> Iterator[Callable[[], str | None]]:
        """What a script does, piece by piece: it may be cut off after any."""
        machine = self.machines[step.member]
        if machine.mounted_over and step.line.step in ("prepare", "apply") and machine.name in goal.names:
            raise BrokenError(f"{step.line.step} on {machine.name}, whose data {machine.mounted_over} hides")
        printed: list[str] = []
        match step.line:
            case PrepareAgain():
                yield lambda: self.prepare(machine, goal.version, goal.token)
            case Membership() as line:
                yield lambda: self._change_membership(machine, line, goal)
            case SetUsers(change=UsersChange.READ) as line:
                yield lambda: printed.append(self._read_users(machine, line))
            case SetUsers() as line:
                yield from self._set_users(machine, step, line)
            case Compact(kept=kept):
                yield lambda: self._compact(machine, kept)
            case Snapshot() as line:
                yield lambda: self._take_snapshot(machine, line)
            case V2Store():
                yield lambda: printed.append(self._v2store(machine))
            case Apply() as line:
                yield from self._apply(machine, step, line, kind)
            case PrepareRestore() as line:
                yield lambda: printed.append(self._prepare_restore(machine, line))
            case PutRestored() as line:
                yield from self._put_restored(machine, line)
            case RaftPosition():
                yield lambda: printed.append(f"2 {self.index + machine.ahead}\n")
            case HashData():
                yield lambda: self.stop(machine.name)
                yield lambda: printed.append("" if machine.unreadable else f"{machine.differs} 1 {self.revision}\n")
            case HashKeys():
                yield lambda: printed.append(self._hash_keys(machine))
            case BackUp():
                yield lambda: self.snapshots.append("backup")
            case _:
                raise BrokenError(f"{step.line} is no step of a rollout")
        yield lambda: context.note(step, "".join(printed), index=self.index)

    def prepare(self, machine: Machine, version: str, token: str = TOKEN) -> None:
        machine.versions = {
            version,
            *({machine.programs} - {""}),
            *({machine.process.version} if machine.process else set[str]()),
        }
        machine.missing.clear()
        if machine.token not in ("", token) and (machine.data or machine.history != History()):
            raise StepFailedError(f"{machine.name} holds the data of another cluster")
        machine.token = token
        machine.filesystem_bytes = machine.device_bytes
        self._note_data(machine)

    @staticmethod
    def _note_data(machine: Machine) -> None:
        if machine.data:
            machine.formed, machine.forming = machine.token, ""

    def size_of(self, machine: Machine) -> int:
        return machine.database_bytes or self.database_bytes

    def used_of(self, machine: Machine) -> int:
        return min(self.used_bytes or self.database_bytes, self.size_of(machine))

    def fill(self, database_bytes: int, used_bytes: int = 0, used_after: Mapping[int, int] | None = None) -> None:
        """Every member's database grows to that size; the alarm is raised if that passes its quota."""
        self.database_bytes, self.used_bytes, self.used_after = database_bytes, used_bytes, dict(used_after or {})
        self.revision += 20_000
        for machine in self.machines.values():
            machine.database_bytes = 0
        self.elect()
        self.raise_alarms()

    def _compact(self, machine: Machine, kept: int) -> None:
        if not self.serves(machine):
            raise BrokenError(f"a compaction on {machine.name}, which does not serve")
        self.compacted = max(self.compacted, self.revision - kept)
        self.used_bytes = self.used_after.get(kept, self.used_bytes)

    def _defragment(self, machine: Machine, space_mib: int) -> None:
        if machine.process:
            raise BrokenError(f"{machine.name} is defragmented while it runs")
        if space_mib * MIB < self.used_of(machine):
            raise BrokenError(f"{machine.name}: no room was asked for the copy of its database")
        machine.database_bytes = self.used_of(machine)
        machine.defragmented = Defragmented(0, self.revision, self.compacted)

    def _take_snapshot(self, machine: Machine, line: Snapshot) -> None:
        if not self.serves(machine) and not line.may_be_silent:
            raise BrokenError(f"a snapshot of {machine.name}, which does not serve")
        if self.root is not None and machine.name not in self.root:
            raise BrokenError(f"{machine.name}: snapshot: permission denied")
        self.snapshots.append(line.version)

    def _hash_keys(self, machine: Machine) -> str:
        if not self.serves(machine):
            raise BrokenError(f"the hash of the keys of {machine.name}, which does not serve")
        header = {"member_id": 1, "revision": self.revision + 7}  # writes go on
        return json.dumps([{"HashKV": {"header": header, "hash": machine.differs, "compact_revision": 1}}])

    def _v2store(self, machine: Machine) -> str:
        if series(machine.programs) != "3.5":
            raise BrokenError("only etcdutl of 3.5 knows `check v2store`")
        if machine.v2_until > machine.snapshot_index:
            return "log"
        return "store" if machine.v2_keys else "clean"

    def _apply(self, machine: Machine, step: HostStep, line: Apply, kind: ActionKind) -> Iterator[Callable[[], Any]]:
        if line.action is ApplyAction.RESTART:
            self.restarts.append(step.member)
            yield lambda: self._stop(machine, kind)
        if line.action is ApplyAction.STOP:
            yield lambda: self.stop(machine.name)
            if line.archive_old_data:
                yield lambda: self._put_away(machine)
            return
        if line.action is ApplyAction.START and machine.process:
            raise BrokenError(f"{machine.name} runs already")
        if line.archive_old_data:
            yield lambda: self._set_aside(machine)
        if line.action is ApplyAction.START:
            yield lambda: setattr(machine, "restoring", "")
        if line.action is not ApplyAction.FILES or line.pending:
            yield lambda: setattr(machine, "pending", True)
        for file in step.files:
            yield lambda file=file: self._put(machine, file)
        if line.defragment_mib is not None:
            yield lambda: self._defragment(machine, line.defragment_mib or 0)
        if line.action is not ApplyAction.FILES:
            yield lambda: setattr(machine, "programs", line.version)
            yield lambda: setattr(machine, "history", step.history) if step.history and not machine.data else None
            yield lambda: None if machine.data else setattr(machine, "forming", machine.token)
            yield lambda: self.start(machine)
            yield lambda: setattr(machine, "pending", False)
            yield lambda: self._await(machine, line)
        if step.history:
            yield lambda: setattr(machine, "history", step.history)
        yield lambda: self._note_data(machine)
        yield lambda: machine.files.pop(BOOTSTRAP, None) if machine.data else None

    def _put(self, machine: Machine, file: File) -> None:
        machine.files[file.path] = file
        if file.path == UNIT_PATH:
            machine.on_boot = machine.masked = True

    def _set_aside(self, machine: Machine) -> None:
        listed = self.member(machine.name)
        if machine.data and listed:
            raise BrokenError(f"the data of {machine.name}, which is a member, archived")
        machine.archived += machine.data
        machine.differs, machine.unreadable = 0, False
        machine.data, machine.data_id, machine.history = False, "", History()
        machine.snapshot_index = machine.ran_since = machine.v2_until = 0
        machine.ran = machine.raised = ""

    def _put_away(self, machine: Machine) -> None:
        machine.archived += machine.data
        machine.data, machine.data_id, machine.history, machine.data_of = False, "", History(), ""
        machine.snapshot_index = machine.ran_since = machine.v2_until = 0
        machine.ran = machine.raised = ""

    def _prepare_restore(self, machine: Machine, line: PrepareRestore) -> str:
        if line.snapshot and machine.process is None:
            raise BrokenError(f"a snapshot of {machine.name}, which does not run")
        machine.restoring, machine.restored_url = line.cluster, line.url
        machine.restoring_source = line.source
        if (found := self.restored_users) is not None:
            return users_answer("on" if found.enabled else "off", found.users, found.roles)
        return users_answer("on" if self.is_guarded else "off", self.users, self.roles)

    def _put_restored(self, machine: Machine, line: PutRestored) -> Iterator[Callable[[], Any]]:
        if machine.restoring != line.cluster:
            raise BrokenError(f"{machine.name} holds no restored data")
        others = [each.name for each in self.machines.values() if each is not machine and each.data and each.reachable]
        if others:
            raise BrokenError(f"{others} would go on as a second cluster")
        yield lambda: self.stop(machine.name)
        yield lambda: setattr(machine, "replaced", line.cluster)
        yield lambda: self._put_away(machine)
        yield lambda: self._become(machine, line.version)
        yield lambda: setattr(machine, "restoring", "")

    def _become(self, machine: Machine, version: str) -> None:
        self.cluster = f"{self.cluster}-restored"
        self.restored_from = f"{machine.restoring_source} on {machine.name}"
        self.members = [Listing(self._new_id(), machine.name, machine.restored_url)]
        self.leader = self.cluster_version = ""
        if (found := self.restored_users) is not None:
            self.is_guarded = found.enabled
            self.users = {name: {*roles} for name, roles in found.users.items()}
            self.roles = {name: dict(ranges) for name, ranges in found.roles.items()}
        self.alarms.clear()
        machine.data, machine.data_id, machine.data_of = True, self.members[0].id, self.cluster
        machine.programs = version

    def _stop(self, machine: Machine, kind: ActionKind) -> None:
        """On purpose, by the planner: rule 3 holds."""
        if self.leader and kind is not ActionKind.RESTART_STALE:  # those are stopped at once, without a leader
            voters = self.voters()
            if machine.name == self.leader and len(voters) > 1 and self.healthy(machine.name):
                raise BrokenError(f"the leader {machine.name} stopped before it handed over")
            unhealthy = [each.name for each in voters if each.id != machine.data_id and not self._healthy(each)]
            if unhealthy:
                raise BrokenError(f"{machine.name} stopped while {unhealthy} are not healthy")
            # Where the others do not trust what a new member brings, the last two have to learn it first.
            may_pause = len(voters) == 1 or (len(voters) == 2 and (kind in TRUSTING or machine.pending))
            if not may_pause and not self.elect(without=machine.name):
                raise BrokenError(f"no quorum without {machine.name}")
        machine.process, machine.frozen = None, False

    def _healthy(self, listed: Listing) -> bool:
        """As members are asked: on its own machine, or from the leader's."""
        machine = self.machine_of(listed)
        asked = [self.machines[self.leader], *([machine] if machine else [])]
        return any(self._answers(each, listed) for each in asked)

    def start(self, machine: Machine) -> None:
        """etcd starts from the files that are there, or does not."""
        if machine.mounted_over:
            return self._fail(machine, f"{machine.mounted_over} hides its data")
        if not machine.data and BOOTSTRAP not in machine.files:
            return self._fail(machine, "its data is lost, and it was not told to join")
        configuration = machine.content(CONFIGURATION if machine.data else BOOTSTRAP)
        settings: dict[str, Any] = yaml.safe_load(configuration)
        if not machine.programs or machine.programs not in machine.versions:
            return self._fail(machine, f"etcd {machine.programs} is not there")
        if machine.data and self.member(machine.name) is None:
            machine.process = None
            return None  # removed: it ends by itself
        if machine.data and (machine.broken or machine.unreadable or (machine.differs and self.leader)):
            machine.process = None
            return None
        peers = PeerSecurity.READY if "peer-transport-security" in settings else PeerSecurity.PLAINTEXT
        if settings["initial-advertise-peer-urls"].startswith("https:"):
            peers = PeerSecurity.TLS
        security = Security(settings["advertise-client-urls"].startswith("https:"), peers)
        trusted, peer_trusted = (self._trusted(machine, settings, transport) for transport in ("client", "peer"))
        joins = not machine.data
        if joins:
            self._bootstrap(machine, settings)
        self._require_version(machine)
        if self.size_of(machine) > int(settings["quota-backend-bytes"]) and not self.alarms:
            self._fail(machine, "it starts, and ends the writes of all: its quota is below its database")
        machine.starts += 1
        machine.process = Process(
            version=machine.programs,
            security=security,
            peer_url=settings["initial-advertise-peer-urls"],
            client_url=settings["advertise-client-urls"],
            trusted=trusted,
            peer_trusted=peer_trusted,
            configuration=configuration if machine.content(CONFIGURATION) == "" else machine.content(CONFIGURATION),
            snapshot_count=int(settings.get("snapshot-count", 10_000)),
            quota_bytes=int(settings["quota-backend-bytes"]),
        )
        if joins and settings["initial-cluster-state"] == "existing":
            machine.process = replace(machine.process, counted_for_good=self._peers_of(machine))
        self.elect()
        return None

    def _trusted(self, machine: Machine, settings: Mapping[str, Any], transport: str) -> Sequence[str]:
        section = settings.get(f"{transport}-transport-security")
        if section is None:
            return ()
        if not machine.content(section["trusted-ca-file"]):
            self._fail(machine, f"{section['trusted-ca-file']} is missing")
        return x509.split_bundle(machine.content(section["trusted-ca-file"]))

    def _fail(self, machine: Machine, why: str) -> None:
        raise BrokenError(f"{machine.name} does not start: {why}")

    def _bootstrap(self, machine: Machine, settings: Mapping[str, Any]) -> None:
        listed = {url for _, _, url in (each.partition("=") for each in settings["initial-cluster"].split(","))}
        if settings["initial-cluster-state"] == "new" and self._is_new(settings["initial-cluster"]):
            self.formed = True
            self.members.clear()
            self.cluster_version = ""
            for each in settings["initial-cluster"].split(","):
                name, _, url = each.partition("=")
                self.members.append(Listing(self._new_id(), name, url))
        own = next((each for each in self.members if each.peer_url == settings["initial-advertise-peer-urls"]), None)
        if own is None or own.client_url:
            return self._fail(machine, "it would form a second cluster, or take another's place")
        if {each.peer_url for each in self.members} != listed:
            return self._fail(machine, "it was told of other members than there are")
        if own.has_run:
            return self._fail(machine, "raft would panic: the log is lost that it has acknowledged")
        machine.data, machine.data_id, own.has_run = True, own.id, True
        machine.data_of = self.cluster
        if self.leader:  # which sends its own, with the room that is free in it
            machine.database_bytes = self.size_of(self.machines[self.leader])
        machine.ran_since = 0 if own.learner else machine.ran_since
        return None

    def _is_new(self, initial_cluster: str) -> bool:
        """None of those that are to form has data. Then none may have lost any, either."""
        listed = [self.machines[each.partition("=")[0]] for each in initial_cluster.split(",")]
        if any(each.data for each in listed):
            return not self.formed
        lost = [each.name for each in listed if each.formed or each.history.members not in ("", FOUNDING)]
        if lost:
            raise BrokenError(f"a cluster is formed although {lost} have lost their data")
        return True

    def _require_version(self, machine: Machine) -> None:
        """What facts/upgrades.md calls traps, and what etcd refuses by itself."""
        now, before = series(machine.programs), series(machine.ran)
        if self.cluster_version and now < self.cluster_version:
            self._fail(machine, f"etcd {machine.programs} is older than the cluster's {self.cluster_version}")
        if self.cluster_version and _minor(now) > _minor(self.cluster_version) + 1:
            self._fail(machine, "it skips a minor version")
        if before and now > before:
            if machine.snapshot_index < max(machine.ran_since, self.changed_members_at):
                self._fail(machine, "its log is from before the version or the members that it has now")
            if now == "3.6" and (machine.v2_until > machine.snapshot_index or machine.v2_keys):
                self._fail(machine, "detected disallowed v2 WAL")
        if machine.ran and Version.parse(machine.ran) < Version.parse(machine.programs):
            others = {each.ran for each in map(self.machine_of, self.voters()) if each}
            if machine.programs not in others and machine.programs not in self.snapshots:
                raise BrokenError(f"no snapshot was taken before {machine.programs}")
        if before != now:
            machine.ran_since = self.index if before else 0
        machine.ran = machine.programs

    def _await(self, machine: Machine, line: Apply) -> None:
        if machine.process is None:
            if line.may_end:
                return
            raise StepFailedError(f"{machine.name}: etcd ended at once")
        if line.until is Until.SERVING and not self.serves(machine):
            if any(each.peer_port_closed or each.second_address for each in self.machines.values()):
                raise StepFailedError(f"{machine.name}: not in the cluster: the network is wrong, not the order")
            raise BrokenError(f"{machine.name} does not serve after its restart")
        if line.until is Until.FLUSHED:
            self._tick()
            if machine.snapshot_index < (line.index or 0):
                raise BrokenError(f"{machine.name}: no snapshot beyond {line.index}")

    def _change_membership(self, machine: Machine, line: Membership, goal: Goal) -> None:
        if not self.serves(machine):
            raise BrokenError(f"{machine.name} is asked to change the membership, but has no leader")
        change = line.change
        if self.root is not None and machine.name not in self.root:
            raise BrokenError(f"{machine.name}: {change.value}: permission denied")
        if change is MembershipChange.REMOVE:
            self._require_removable(self._listing(line.id), goal)
        if change is MembershipChange.MOVE_LEADER:
            return self._hand_over(line.id)
        if change is MembershipChange.DISARM:
            self.alarms.clear()
            return self.raise_alarms()
        getattr(self, f"_{change.value}_member")(line)
        if change is not MembershipChange.UPDATE:
            self.changed_members_at = self.index
        self.elect()
        if not self.leader:
            raise BrokenError(f"no quorum after {line}")
        return None

    def _listing(self, id_: str) -> Listing:
        return next(each for each in self.members if each.id == id_)

    def _hand_over(self, id_: str) -> None:
        listed = self._listing(id_)
        machine = self.machine_of(listed)
        if listed.learner or machine is None or not self._healthy(listed) or machine.differs:
            raise BrokenError(f"leadership goes to {listed.name}, which cannot lead")
        apart = [pair for pair in self.broken_pairs(without=self.machines[self.leader]) if machine.name in pair]
        if apart:
            raise BrokenError(f"leadership goes to {listed.name}, which not all reach: {apart}")
        self.leader = machine.name

    def _add_member(self, line: Membership) -> None:
        if any(each.learner for each in self.members):
            raise BrokenError("a second learner")
        if apart := self.broken_pairs():
            raise BrokenError(f"a member is added while members do not reach one another: {apart}")
        if unhealthy := [each.name for each in self.voters() if not self._healthy(each)]:
            raise BrokenError(f"a member is added while {unhealthy} are not healthy")
        if self.root is not None and line.name not in self.root:
            raise BrokenError(f"{line.name} is added, and its certificate may do nothing")
        if any(each.peer_url == line.url for each in self.members):
            raise BrokenError(f"{line.url} is there already")
        self.members.append(Listing(self._new_id(), "", line.url, learner=True))

    def _promote_member(self, line: Membership) -> None:
        listed = self._listing(line.id)
        machine = self.machine_of(listed)
        if (apart := self.broken_pairs()) and not (machine and machine.cut_off):
            raise BrokenError(f"a member is promoted while members do not reach one another: {apart}")
        if machine and machine.cut_off:
            raise StepFailedError(f"promoting {machine.name}: not accepted: it is not in sync")
        if machine is None or not self.serves(machine) or not listed.client_url:
            raise BrokenError(f"{listed.name or listed.peer_url} is promoted, but is not in sync")
        listed.learner = False

    def _remove_member(self, line: Membership) -> None:
        listed = self._listing(line.id)
        machine = self.machine_of(listed)
        if machine and machine.name == self.leader and self._healthy(listed):
            raise BrokenError("the leader removed before it handed over")
        if machine and self._healthy(listed):
            left = [each for each in self.voters() if each is not listed]
            if not listed.learner and sum(self._healthy(each) for each in left) <= len(left) // 2:
                raise BrokenError(f"no quorum without {listed.name}")
        self.members.remove(listed)
        if machine:
            machine.process = None  # it ends by itself

    def _require_removable(self, listed: Listing, goal: Goal) -> None:
        """Who stays by the stack is not removed while it runs; the last one that has the data never is."""
        machine = self.machine_of(listed)
        is_corrupt = machine and machine.differs and any(kind == CORRUPT for kind, _ in self.alarms)
        if machine and machine.process and machine.name in goal.names and not is_corrupt:
            raise BrokenError(f"{machine.name} removed, which runs and is to stay")
        if not any(self.machine_of(each) for each in self.members if each is not listed):
            raise BrokenError(f"{listed.name} removed, and nobody else has the data")

    def _update_member(self, line: Membership) -> None:
        self._listing(line.id).peer_url = line.url

    def _new_id(self) -> str:
        self._ids += 1
        return f"{self._ids:x}"

    def _retire(self, desired: DesiredCluster) -> None:
        """What the rollout does at its end: members that left are taken off their machines."""
        for name in self.machines.keys() - desired.members.keys():
            if self.member(name):
                raise BrokenError(f"{name} is still a member")
            machine = self.machines[name]
            machine.process, machine.programs, machine.pending = None, "", False
            machine.files.clear()
            machine.versions.clear()

    def destroy(self) -> None:
        """All members are stopped; their data stay, and what was noted of them."""
        for machine in self.machines.values():
            machine.process, machine.programs, machine.pending = None, "", False
            machine.files.clear()
            machine.versions.clear()
        self.leader = ""

    # --- what other versions of this package left ---

    def without_peer_ca(self) -> Model:
        """As clusters were formed once: one file for both says whom a member trusts."""
        for machine in self.machines.values():
            if CONFIGURATION in machine.files and "peer-transport-security" in machine.content(CONFIGURATION):
                file = machine.files[CONFIGURATION]
                machine.files[CONFIGURATION] = replace(file, content=file.content.replace(PEER_CA, CA))
            machine.files.pop(PEER_CA, None)
            if machine.process:
                configuration = machine.process.configuration.replace(PEER_CA, CA)
                machine.process = replace(machine.process, configuration=configuration)
        return self

    # --- what goes wrong by itself ---

    def stop(self, name: str) -> None:
        machine = self.machines[name]
        machine.process, machine.frozen = None, False

    def edit(self, name: str, path: str, content: str = "# by hand\n") -> None:
        machine = self.machines[name]
        machine.files[path] = replace(machine.files[path], content=machine.files[path].content + content)

    def expire(self, name: str) -> None:
        """Its certificates are of before: their time is over."""
        machine = self.machines[name]
        for profile, path in (("server", SERVER), ("peer", PEER)):
            shown, key = machine.content(path), path.replace(".crt", ".key")
            if not _is_valid(shown) or key not in machine.files:
                continue
            signer = next(n for n, each in enumerate(CAS) if each.certificate_pem == issuer(shown))
            old = expired_pair(profile, signer, name, machine.address)
            machine.files[path] = replace(machine.files[path], content=old.certificate)
            machine.files[key] = replace(machine.files[key], content=old.key)

    def chmod(self, name: str, path: str, mode: str = "777", owner: str = "root") -> None:
        machine = self.machines[name]
        machine.files[path] = replace(machine.files[path], mode=mode, owner=owner)

    def lose_folder(self, name: str) -> None:
        """The data alone: marker and history are beside them."""
        machine = self.machines[name]
        history, token = machine.history, machine.token
        self.lose_data(name)
        machine.history, machine.token = history, token

    def lose_data(self, name: str) -> None:
        """Its disk is new."""
        machine = self.machines[name]
        machine.process, machine.data, machine.data_id, machine.history = None, False, "", History()
        machine.frozen, machine.token, machine.mounted_over, machine.has_served = False, "", "", False
        machine.replaced = machine.restoring = ""
        machine.differs = 0
        machine.snapshot_index = machine.ran_since = machine.v2_until = 0
        machine.ran = machine.raised = ""

    def mount_over(self, name: str) -> None:
        """Something is mounted over its data; a process goes on in them."""
        self.machines[name].mounted_over = "tmpfs at /data/etcd"

    def unmount_all(self) -> None:
        for machine in self.machines.values():
            machine.mounted_over = ""

    def reinstall(self, name: str) -> None:
        """Its machine is new, disk and all. The stack has prepared it, as it does with every machine."""
        old = self.machines[name]
        self.add_machine(name, old.address, "", identity=f"another-for-{name}").versions = set()

    def reboot(self, name: str) -> None:
        """It comes back with what its files say, if it starts on boot."""
        machine = self.machines[name]
        machine.process, machine.frozen = None, False
        if machine.on_boot and machine.data and not machine.mounted_over and self._could_start(machine):
            self.start(machine)

    def _could_start(self, machine: Machine) -> bool:
        """Without its configuration, or the CAs that it names, etcd ends at once."""
        configuration = machine.content(CONFIGURATION)
        return bool(configuration) and (CA not in configuration or bool(_cas(machine.content(CA))))


def users_answer(state: str, users: Mapping[str, Collection[str]], roles: Mapping[str, Mapping[KeyRange, str]]) -> str:
    """What machines print of etcd's users and roles."""
    lines: list[tuple[str, str, object]] = [("user", name, {"roles": sorted(of_it)}) for name, of_it in users.items()]
    for name, keys in roles.items():
        found = [
            {
                "permType": ["read", "write", "readwrite"].index(access),
                "key": b64encode(each.start).decode(),
                "range_end": b64encode(each.end).decode(),
            }
            for each, access in keys.items()
        ]
        lines.append(("role", name, {"perm": found}))
    told = ["\t".join([kind, json.dumps(name), json.dumps(found)]) for kind, name, found in lines]
    return "\n".join([state, *told, "asked", ""])


def _key_range(keys: Sequence[str], flags: Sequence[str]) -> KeyRange:
    """As etcdctl makes it of its words."""
    start = keys[0].encode()
    if "--prefix" in flags and not start:
        return KeyRange(b"\0", b"\0")
    if "--prefix" in flags:
        return KeyRange(start, start[:-1] + bytes([start[-1] + 1]))
    return KeyRange(start, b"\0" if "--from-key" in flags else keys[1].encode() if keys[1:] else b"")


def is_apart(machine: Machine) -> bool:
    """Nothing comes from it or reaches it."""
    return machine.cut_off or machine.frozen


def _ends(one: Machine, other: Machine) -> list[tuple[str, str, int]]:
    return sorted((each.name, each.address, each.starts if each.process else 0) for each in (one, other))


def _minor(text: str) -> int:
    return int(text.partition(".")[2])


def _host(url: str) -> str:
    return url.partition("://")[2].rpartition(":")[0]


@cache
def _cas(bundle: str) -> Sequence[str]:
    """None where the file is missing or spoilt."""
    try:
        return x509.split_bundle(bundle)
    except x509.PkiError:
        return ()


@cache
def _is_valid(certificate: str) -> bool:
    try:
        validity = x509.validity_of(certificate)
    except x509.PkiError:
        return False
    return validity.not_before <= NOW < validity.not_after


@cache
def _covers(certificate: str, host: str) -> bool:
    return x509.covers_host(certificate, host)
