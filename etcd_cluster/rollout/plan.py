"""Decides the next thing to do to a cluster, from what it should be and what was seen. Pure: no effects, no clock.

Rules that every decision keeps (each function names its own preconditions):
- One member at a time, unhealthy ones first, the leader last after it has handed over. Before each, every other voter
  is healthy; after each, the member serves and has caught up, or the run ends there.
- A member is removed before another is added; new ones join as learners and are promoted once in sync.
- Nothing is formed but by the run that records the forming, on the machines of that record.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256

from etcd_cluster.errors import EtcdClusterError
from etcd_cluster.member.render import MemberSpec, PeerSecurity, Security
from etcd_cluster.pki import x509
from etcd_cluster.rollout.observed import FOUNDING, History, Host, Listed, Observation
from etcd_cluster.rollout.wanted import File, Wanted, series
from etcd_cluster.versions import Version, change_refusal

MEMBER_SECONDS = 180
"""How long a member may take from its start until it serves and has caught up; a large database takes its time."""
CHANGE_SECONDS = 60
"""For a change of the membership; etcd refuses one for 5 s after the one before."""
SYNC_SECONDS = 900
"""For a learner to get all data."""
LEADER_SECONDS = 30
CLOCK_TOLERANCE_SECONDS = 30.0
"""Far more than an answer takes, and far less than what a certificate is dated back by."""
HEALTH_SECONDS = 120
UNGROWN_BYTES = 64 * 1024**2
"""A file system that is this much smaller than its device can grow."""
FLUSHED_EVERY = 1
"""etcd's snapshot-count while its log is flushed: a snapshot as soon as anything is applied."""


class RefusedError(EtcdClusterError):
    """The cluster cannot be brought to what is asked from here. Says why, and what to do."""


@dataclass(frozen=True)
class Call:
    """One script to run on one member's machine. spec: its line. files, history: what it is to write there."""

    member: str
    step: str
    spec: Mapping[str, str]
    files: Sequence[File] = ()
    history: History | None = None


@dataclass(frozen=True)
class Act:
    """What to do next: calls, all at once; then look again. why: one line for people, without the members' names."""

    why: str
    calls: Sequence[Call]

    @property
    def text(self) -> str:
        return f"{', '.join(call.member for call in self.calls)}: {self.why}"


@dataclass(frozen=True)
class Wait:
    """Nothing to do but look again. problem: what is said if it has not passed after that long, about `member`."""

    problem: str
    seconds: int
    member: str | None = None


@dataclass
class Memory:
    """What one run knows that machines do not tell. run: its id. added: members that it has added to the list. waited:
    problem -> seconds so far. v2store: member -> answer."""

    forming: bool = False
    run: str = field(default_factory=lambda: secrets.token_hex(8))
    waited: dict[str, float] = field(default_factory=dict[str, float])
    prepared: set[str] = field(default_factory=set[str])
    added: set[str] = field(default_factory=set[str])
    snapshot_taken: bool = False
    v2store: dict[str, str] = field(default_factory=dict[str, str])

    def note(self, call: Call, printed: str, *, index: int) -> None:
        """Takes in what a call did."""
        if call.step == "prepare":
            self.prepared.add(call.member)
        elif call.step == "membership" and call.spec["do"] == "add":
            self.added.add(call.spec["name"])
        elif call.step == "snapshot":
            self.snapshot_taken = True
        elif call.step == "v2store":
            self.v2store[call.member] = f"log {index}" if printed.strip() == "log" else printed.strip()


def next_act(wanted: Wanted, seen: Observation, memory: Memory) -> Act | Wait | None:
    """What to do next; None when all is as it should be. Raises `RefusedError`."""
    return _Planner(wanted, seen, memory).next()


def differences(wanted: Wanted, seen: Observation, name: str) -> list[str]:
    """How one member is not what it should be, in words; for people."""
    return _Planner(wanted, seen, Memory()).differences(name)


@dataclass(frozen=True)
class _Target:
    """What a member is to be next. trusted: PEM of authorities."""

    version: str
    security: Security
    trusted: Sequence[str]
    leaves: bool


class _Planner:
    def __init__(self, wanted: Wanted, seen: Observation, memory: Memory) -> None:
        self._wanted = wanted
        self._seen = seen
        self._memory = memory
        self._hosts = {name: seen.hosts[name] for name in wanted.members if name in seen.hosts}

    def next(self) -> Act | Wait | None:
        self._require_answers()
        act = self._next()
        if act is not None:
            self._require_clocks_together()
        return act

    def _next(self) -> Act | Wait | None:
        return (
            self._prepare()
            or self._mend_leaves()
            or self._start()
            or self._await_leader()
            or self._go_on_with_membership()
            or self._unhealthy_first()
            or self._change_membership()
            or self._security()
            or self._before_another_version()
            or self._roll()
            or self._settle()
        )

    # --- machines ---

    def _require_answers(self) -> None:
        silent = {name: why for name, why in self._seen.silent.items() if name in self._wanted.members}
        if silent:
            raise RefusedError(
                "; ".join(f"{name}: {why}" for name, why in silent.items())
                + ". Nothing more was changed. Bring the machine back; if it is gone for good, give the member another "
                "one: its old membership is then removed, and it joins anew"
            )
        for name, host in self._hosts.items():
            if host.token not in ("", self._wanted.token):
                raise RefusedError(f"{name}: its disk holds the data of another cluster (token {host.token})")

    def _require_clocks_together(self) -> None:
        """A certificate that is not valid yet cuts a member off, and leases end when they should not."""
        for name, ahead in self._seen.clocks.items():
            if name in self._hosts and abs(ahead) > CLOCK_TOLERANCE_SECONDS:
                apart = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'}"
                raise RefusedError(
                    f"the clock of {name} is {apart} this machine's. "
                    "Nothing more was changed; set it right (chronyc makestep), here or there, then run again"
                )

    def _prepare(self) -> Act | None:
        """Machines that lack what only preparing brings. That starts and restarts nothing, so all at once."""
        lacking = {name: lacks for name in self._hosts if (lacks := self._lacks(name))}
        again = sorted(lacking.keys() & self._memory.prepared)
        if again:
            name = again[0]
            raise RefusedError(f"{name}: still lacks {', '.join(lacking[name])} after it was prepared; look at it")
        if not lacking:
            return None
        members = self._wanted.members
        return Act(
            "preparing again, for " + ", ".join(sorted({each for lacks in lacking.values() for each in lacks})),
            [Call(name, "prepare", {"line": members[name].prepare_line}) for name in lacking],
        )

    def _lacks(self, name: str) -> list[str]:
        host, lacks = self._hosts[name], list(self._hosts[name].lacks)
        if self._wanted.version not in host.versions:
            lacks.append(f"etcd {self._wanted.version}")
        if host.filesystem_bytes and host.device_bytes > host.filesystem_bytes + UNGROWN_BYTES:
            lacks.append("the size that its disk has grown to")
        if not host.token:
            lacks.append("the marker beside its data")
        return lacks

    def _mend_leaves(self) -> Act | None:
        """Certificates and keys that etcd cannot use: it reads them for every handshake, so that nothing restarts and
        the member is not healthy before. A valid one that is due for another is not among them: see `_put_leaves`."""
        why = "mending certificates, without a restart"
        calls = [
            Call(name, "apply", {"action": "files", "why": why}, files)
            for name, host in self._hosts.items()
            if host.data and self._speaks_tls(name) and (files := self._broken_leaves(name))
        ]
        return Act(why, calls) if calls else None

    def _broken_leaves(self, name: str) -> list[File]:
        host, trusted = self._hosts[name], self._active_trust(name)
        unsettled, wanted = [file for file, _ in self._unsettled(name)], self._wanted.leaf_files(name)
        broken: list[File] = []
        for key, certificate in zip(wanted[::2], wanted[1::2], strict=True):
            seen = self._content(host, certificate) or ""
            is_half = self._content(host, key) in (None, _as_seen(key))  # a kill came between the two
            is_another = seen != certificate.content and _is_by_one_of(seen, trusted) and not is_half
            if not is_another or self._wrong_mode(name, key) or self._wrong_mode(name, certificate):
                broken += [file for file in (key, certificate) if file in unsettled]
        return broken

    # --- what does not run ---

    def _start(self) -> Act | None:
        """Members that do not run, all at once: starting them takes nothing from a quorum.

        Precondition of a start with data: the cluster has not ended that membership; where it cannot be asked, nobody
        leads. Precondition of a start without data: this run forms the cluster, on the machine of the record, and the
        cluster does not know the member as one that has started.
        """
        calls: list[Call] = []
        for name, host in self._hosts.items():
            if host.pid:
                continue
            if host.data and not self._was_removed(name) and (self._seen.teller or not self._following()):
                calls.append(self._start_call(name))
            elif not host.data and self._memory.forming and self._may_form(name):
                calls.append(self._form_call(name))
        return Act("starting", calls) if calls else None

    def _was_removed(self, name: str) -> bool:
        """The data are those of a membership that the cluster has ended."""
        known = self._seen.hosts[name].history.id
        if self._seen.teller is None:
            return False
        if known:
            return known not in {member.id for member in self._seen.members}
        listed = self._listed(name) if name in self._hosts else self._seen.of(name)
        return listed is None or (listed.learner and not listed.started)

    def _may_form(self, name: str) -> bool:
        if self._hosts[name].machine != self._wanted.members[name].founder:
            return False
        if self._seen.teller is None:
            return True
        url = self._spec(name, self._wanted.version, self._wanted.security).peer_url
        return any(
            member.peer_url == url and not member.started and not member.learner for member in self._seen.members
        )

    def _form_call(self, name: str) -> Call:
        wanted, version = self._wanted, self._wanted.version
        spec = self._spec(name, version, wanted.security)
        urls = {each: self._spec(each, version, wanted.security).peer_url for each in wanted.members}
        return Call(
            name,
            "apply",
            self._apply_line(name, "start", version, "listening", "starting"),
            [
                *wanted.leaf_files(name),
                *wanted.other_files(name, spec),
                wanted.bootstrap_file(name, spec, "new", urls),
                *wanted.start_files(name, spec, wanted.trusted),
            ],
            History(series(version), 0, FOUNDING, 0),
        )

    def _start_call(self, name: str) -> Call:
        target = self._target_now(name)
        self._require_own_series(name, target.version)
        line = self._apply_line(name, "start", target.version, "listening", "starting")
        return Call(name, "apply", line, self._files(name, target))

    def _require_own_series(self, name: str, version: str) -> None:
        """Data is only taken to another minor version by an upgrade of a running cluster."""
        host = self._hosts[name]
        before = host.history.series
        if before and series(version) != before and not host.programs:
            raise RefusedError(
                f"{name} holds the data of etcd {before}, and a stopped cluster cannot be taken to {version}: set "
                f"version to a {before} release, run `pulumi up`, then upgrade"
            )

    def _await_leader(self) -> Act | Wait | None:
        """Nothing is decided without a leader that can answer. What runs with files that are not its own is restarted.
        Precondition of that: no two members have a leader, so that there is no quorum to take from."""
        if self._seen.teller is not None:
            return None
        problem = self._no_quorum()
        if self._quorum_is_gone():
            return Wait(problem, LEADER_SECONDS)
        waited = self._memory.waited.get(problem, 0.0)
        if waited < LEADER_SECONDS or len(self._following()) > 1:
            return Wait(problem, 2 * LEADER_SECONDS)
        stale = [name for name, host in self._hosts.items() if host.pid and self._stale(name, self._target_now(name))]
        if stale:
            calls = [self._restart_call(name, "listening", "restarting") for name in stale]
            return Act("restarting as it should be", calls)
        return Wait(problem, 2 * LEADER_SECONDS)

    def _quorum_is_gone(self) -> bool:
        """By what was noted of the members, a majority has no data any more. Restarting the others does not help."""
        noted = [len(host.history.members.split(",")) for host in self._seen.hosts.values() if host.data]
        may_hold = sum(host.data for host in self._seen.hosts.values()) + len(self._seen.silent)
        return may_hold <= max(noted, default=0) // 2

    def _following(self) -> list[str]:
        """Members that have a leader, by what they say themselves."""
        return [name for name, host in self._hosts.items() if host.live and host.live.has_leader]

    def _no_quorum(self) -> str:
        following = self._following()
        if following:
            return (
                f"{', '.join(following)} have a leader, but `etcdctl member list` and `etcdctl endpoint health` get no "
                "answer on their machines. Look there, and at their logs (journalctl -u etcd), then run again"
            )
        leaving = [
            name for name, host in self._seen.hosts.items() if name not in self._hosts and host.data and not host.pid
        ]
        if leaving:
            return (
                f"no quorum: {', '.join(leaving)} is to leave, and does not run. Start it (systemctl start etcd), or "
                "put it back into the stack, and run again"
            )
        lost = [name for name, host in self._hosts.items() if not host.data]
        if not lost:
            return (
                "no member leads: a majority of them cannot reach one another. Look at their logs (journalctl -u etcd) "
                "and at the network between their peer ports, then run again"
            )
        return (
            f"quorum is lost: the data of {', '.join(lost)} are gone ({len(lost)} of {len(self._hosts)} members), so "
            "the others cannot agree on anything. Nothing was changed. Bring a lost disk back, and run again; or "
            "restore a snapshot into a new cluster: docs/recover.md has the steps"
        )

    # --- membership ---

    def _go_on_with_membership(self) -> Act | Wait | None:
        """One change at a time: what is dead leaves, and what has begun to join goes on. What else is to leave or join
        has to wait until every voter is healthy: see `_change_membership`."""
        return self._remove_lost() or self._remove_strangers_that_are_down() or self._go_on_joining()

    def _listed(self, name: str) -> Listed | None:
        """A member of the list that is meant to be `name`: one that has not started yet is known by its address."""
        found = self._seen.of(name)
        if found is not None:
            return found
        host = self._address(name)
        unnamed = [member for member in self._seen.members if not member.name]
        return next((member for member in unnamed if member.peer_url.partition("://")[2] == host), None)

    def _voting(self) -> list[str]:
        """Those of the wanted members that are voters."""
        return [name for name in self._hosts if (listed := self._listed(name)) and not listed.learner]

    def _address(self, name: str) -> str:
        return self._wanted.members[name].member.peer_url(tls=True).partition("://")[2]

    def _remove_lost(self) -> Act | None:
        """A member whose data are gone. Preconditions: the others hold a quorum (there is a leader that answers)."""
        for name, host in self._hosts.items():
            listed = self._listed(name)
            if listed is None:
                continue
            if listed.learner and not listed.started and not host.pid:
                if name in self._memory.added:
                    continue  # about to be started
                # By another run: it may have run since, and then it must not start anew from nothing.
                return self._membership_act(
                    "remove", listed, f"ending the joining of {name} that was cut short", id=listed.id
                )
            if self._is_its_data(host, listed):
                continue
            if not host.data and not listed.started and self._memory.forming and self._may_form(name):
                continue  # about to be started
            return self._membership_act(
                "remove", listed, f"removing the old membership of {name}, whose data are gone", id=listed.id
            )
        return None

    @staticmethod
    def _is_its_data(host: Host, listed: Listed) -> bool:
        known = host.live.id if host.live else host.history.id
        return host.data and known in ("", listed.id)

    def _strangers(self) -> list[Listed]:
        ours = {listed.id for name in self._wanted.members if (listed := self._listed(name))}
        return [member for member in self._seen.members if member.id not in ours]

    def _remove_strangers_that_are_down(self) -> Act | None:
        for member in self._strangers():
            if member.id not in self._seen.healthy:
                who = member.name or member.peer_url
                return self._membership_act("remove", member, f"removing {who}, which does not answer", id=member.id)
        return None

    def _go_on_joining(self) -> Act | Wait | None:
        """A learner that is there already: started, then promoted, before anything else."""
        for name, host in self._hosts.items():
            listed = self._listed(name)
            if listed is None or not listed.learner:
                continue
            if not host.pid:
                if not self._may_join():
                    continue
                told = self._tell_peer_url(name, self._version_of_others(name), self._join_security(name))
                return told or Act("joining as a learner", [self._join_call(name)])
            return self._membership_act(
                "promote", listed, f"promoting {name}, once it has all data", id=listed.id, timeout=str(SYNC_SECONDS)
            )
        return None

    def _may_join(self) -> bool:
        """Not before the others trust the certificates that it brings: see `_security`. Those that are to leave get no
        new trust."""
        if not self._wanted.tls:
            return True
        for name, host in self._seen.hosts.items():
            is_stranger = name not in self._hosts and host.pid and host.security not in (None, Security.of(False))
            if is_stranger and not set(self._wanted.issuers) <= set(self._active_trust(name)):
                raise RefusedError(
                    f"{name} is to leave, but does not trust the certificates of those that are to join; put it back "
                    "into the stack, run `pulumi up`, then take it out"
                )
        return self._all_trust_new_leaves()

    def _join_security(self, name: str) -> Security:
        """As the least advanced of the others speaks. Without certificates, in plaintext: then they have to, too."""
        if self._wanted.tls:
            return self._least_security()
        if any(member.peer_url.startswith("https:") for member in self._seen.voters):
            raise RefusedError(
                f"{name} cannot join: the others still speak TLS, and with tls: false it gets no certificates. Set tls "
                "back to true, run `pulumi up`, then set it to false"
            )
        return self._wanted.security

    def _join_call(self, name: str) -> Call:
        """Starts a learner. It runs what the others run."""
        wanted, version = self._wanted, self._version_of_others(name)
        security = self._join_security(name)
        spec = self._spec(name, version, security)
        peer_urls = {member.name: member.peer_url for member in self._seen.members if member.name}
        return Call(
            name,
            "apply",
            {**self._apply_line(name, "start", version, "listening", "joining as a learner"), "aside": "yes"},
            [
                *wanted.leaf_files(name),
                *wanted.other_files(name, spec),
                wanted.bootstrap_file(name, spec, "existing", {**peer_urls, name: spec.peer_url}),
                *wanted.start_files(name, spec, self._joint_trust()),
            ],
        )

    def _change_membership(self) -> Act | Wait | None:
        """One leaves, or one joins. Preconditions: every voter is healthy, nobody is joining."""
        strangers = self._strangers()
        missing = [name for name in self._wanted.members if self._listed(name) is None]
        if not strangers and not missing:
            return None
        waiting = self._await_voters("the membership is not changed while")
        if waiting:
            return waiting
        is_full = len(self._seen.members) >= len(self._wanted.members) and bool(self._voting())
        if strangers and (is_full or not missing):
            return self._remove_stranger(strangers)
        if not self._may_join():
            return None
        name = missing[0]
        url = self._spec(name, self._version_of_others(name), self._join_security(name)).peer_url
        return self._membership_act("add", None, f"adding {name} as a learner", name=name, url=url)

    def _remove_stranger(self, strangers: Sequence[Listed]) -> Act:
        """Followers first. One that leads hands over to a member that stays."""
        leader = self._leader_id()
        followers = [member for member in strangers if member.id != leader]
        if followers:
            return self._membership_act("remove", followers[0], f"removing {followers[0].name}", id=followers[0].id)
        return self._hand_over({member.id for member in strangers})

    def _membership_act(self, change: str, member: Listed | None, say: str, **line: str) -> Act:
        if change == "remove" and member is not None and member.id == self._leader_id() and len(self._seen.voters) > 1:
            return self._hand_over({member.id})
        timeout = {"timeout": str(CHANGE_SECONDS)}
        return Act(
            say, [Call(self._known(self._seen.teller), "membership", {"do": change, **timeout, **line, "say": say})]
        )

    def _known(self, name: str | None) -> str:
        """The teller, or the leader: after `_await_leader`, whoever asks for it knows that it is there."""
        if name is None:
            raise RefusedError(self._no_quorum())
        return name

    def _leader_id(self) -> str:
        leader = self._seen.leader
        live = self._seen.hosts[leader].live if leader else None
        return live.id if live else ""

    def _hand_over(self, not_to: Iterable[str]) -> Act:
        """Leadership goes to the healthy voter that has applied most; of equals, to the first."""
        leader = self._known(self._seen.leader)
        avoided = set(not_to)
        candidates = [
            (name, listed)
            for name in self._wanted.members
            if (listed := self._seen.of(name)) and not listed.learner and listed.id in self._seen.healthy - avoided
        ]
        if not candidates:
            raise RefusedError(f"{leader} leads, and no other member is healthy to take over; mend one, then run again")

        def applied(candidate: tuple[str, Listed]) -> int:
            live = self._hosts[candidate[0]].live
            return live.applied if live else 0

        newest = max(map(applied, candidates))
        name, listed = next(each for each in candidates if applied(each) >= newest - CAUGHT_UP_ENTRIES)
        say = f"handing leadership over to {name}"
        line = {"do": "lead", "id": listed.id, "timeout": str(CHANGE_SECONDS), "say": say}
        return Act(say, [Call(leader, "membership", line)])

    # --- one member's turn ---

    def _unhealthy_first(self) -> Act | Wait | None:
        """A member that is not healthy is restarted as it should be, if it is not; else waited for, and then the run
        stops there. Precondition of the restart: every other voter is healthy."""
        unhealthy = [name for name in self._voting() if not self._seen.is_healthy(name)]
        if not unhealthy:
            return None
        name = unhealthy[0]
        target = self._target_now(name)
        if len(unhealthy) == 1 and self._hosts[name].data and self._stale(name, target):
            return self._turn(name, target)
        problem = f"{name} is not healthy, and nothing else is changed until it is; mend it, then run again"
        return Wait(problem, HEALTH_SECONDS, member=name)

    def _await_voters(self, what: str) -> Wait | None:
        down = [member.name for member in self._seen.voters if member.id not in self._seen.healthy]
        if not down:
            return None
        problem = f"{what} {', '.join(down)} is not healthy; mend it, then run again"
        return Wait(problem, HEALTH_SECONDS, member=down[0] if down[0] in self._hosts else None)

    def _turn(self, name: str, target: _Target, why: str = "restarting", **overrides: object) -> Act:
        """A restart into `target`. A leader hands over first, and the cluster learns of a new peer URL.

        Preconditions (the caller's): every other voter is healthy.
        """
        if name == self._seen.leader and len(self._seen.voters) > 1:
            return self._hand_over({self._leader_id()})
        told = self._tell_peer_url(name, target.version, target.security)
        return told or Act(why, [self._restart_call(name, "serving", why, target, **overrides)])

    def _tell_peer_url(self, name: str, version: str, security: Security) -> Act | None:
        """Before a member starts at another one."""
        listed, url = self._listed(name), self._spec(name, version, security).peer_url
        if listed is None or listed.peer_url == url:
            return None
        say = f"telling the cluster that {name} is at {url}"
        return self._membership_act("update", None, say, id=listed.id, url=url)

    def _restart_call(
        self, name: str, until: str, why: str, target: _Target | None = None, **overrides: object
    ) -> Call:
        chosen = target or self._target_now(name)
        line = self._apply_line(name, "restart", chosen.version, until, why)
        return Call(name, "apply", line, self._files(name, chosen, **overrides))

    def _apply_line(self, name: str, action: str, version: str, until: str, why: str) -> dict[str, str]:
        return {
            "why": why,
            "action": action,
            "version": version,
            "await": until,
            "timeout": str(MEMBER_SECONDS),
            "index": str(self._seen.index),
            "peer-port": str(self._wanted.members[name].ports.peer),
        }

    def _spec(self, name: str, version: str, security: Security, **overrides: object) -> MemberSpec:
        return self._wanted.spec(name, security, version, **overrides)

    def _files(self, name: str, target: _Target, **overrides: object) -> list[File]:
        spec = self._spec(name, target.version, target.security, **overrides)
        leaves = self._wanted.leaf_files(name) if target.leaves else []
        return [*leaves, *self._wanted.other_files(name, spec), *self._wanted.start_files(name, spec, target.trusted)]

    def _stale(self, name: str, target: _Target) -> bool:
        """Whether what runs is not `target`: by its files, its program, or as its process may be older than they."""
        host = self._hosts[name]
        spec = self._spec(name, target.version, target.security)
        files = self._wanted.start_files(name, spec, target.trusted)
        return (
            host.pending
            or host.programs != target.version
            or (bool(host.running) and host.running != target.version)
            or any(self._content(host, file) != file.content for file in files)
        )

    @staticmethod
    def _content(host: Host, file: File) -> str | None:
        seen = host.files.get(file.path)
        return seen.content if seen else None

    # --- what a member is to be next ---

    def _target_now(self, name: str) -> _Target:
        """As it should be, but at the version and in the security that it has: what a restart in between brings."""
        host = self._hosts[name]
        return _Target(
            self._version_now(name),
            host.security or self._least_security(),
            self._trust_now(name),
            leaves=self._may_show_new_leaves(name),
        )

    def _version_now(self, name: str) -> str:
        """What it runs or would run; the wanted one where it has nothing yet, or where an upgrade was given up."""
        host, wanted = self._hosts[name], self._wanted.version
        current = host.running or host.programs
        if not current or current not in host.versions or Version.parse(wanted) < Version.parse(current):
            return wanted
        return current

    def _version_of_others(self, name: str) -> str:
        """The oldest that runs beside it."""
        running = [host.running for other, host in self._seen.hosts.items() if other != name and host.running]
        oldest = min(running, key=Version.parse, default=self._wanted.version)
        return oldest if oldest in self._hosts[name].versions else self._wanted.version

    def _securities(self) -> list[Security]:
        """How members speak now, those as well that are to leave."""
        return [
            host.security
            for name, host in self._seen.hosts.items()
            if host.security is not None and host.data and not self._was_removed(name)
        ]

    def _least_security(self) -> Security:
        """How the least advanced of the members speaks, on the way to what is wanted."""
        found = self._securities()
        if not found:
            return self._wanted.security
        order = list(PeerSecurity) if self._wanted.tls else list(reversed(PeerSecurity))
        peers = min((each.peers for each in found), key=order.index)
        clients = (all if self._wanted.tls else any)(each.clients_tls for each in found)
        return Security(clients, peers)

    def _next_security(self, name: str) -> Security:
        """To TLS: certificates at hand everywhere, then members among themselves, then clients; and back in reverse."""
        now = self._hosts[name].security or self._least_security()
        found = self._securities()
        peers = {each.peers for each in found}
        if self._wanted.tls:
            if PeerSecurity.PLAINTEXT in peers:
                ready = PeerSecurity.READY if now.peers is PeerSecurity.PLAINTEXT else now.peers
                return Security(now.clients_tls, ready)
            if PeerSecurity.READY in peers:
                return Security(now.clients_tls, PeerSecurity.TLS)
            return self._wanted.security
        if any(each.clients_tls for each in found):
            return Security(False, now.peers)
        if PeerSecurity.TLS in peers:
            return Security(False, PeerSecurity.READY)
        return self._wanted.security

    def _active_trust(self, name: str) -> list[str]:
        seen = next((file for path, file in self._seen.hosts[name].files.items() if path.endswith("/ca.crt")), None)
        try:
            return x509.split_bundle(seen.content) if seen else []
        except x509.PkiError:
            return []  # spoilt by hand

    def _speaks_tls(self, name: str) -> bool:
        host = self._hosts[name]
        is_ours = host.data and not self._was_removed(name)
        return is_ours and host.security is not None and host.security != Security.of(False)

    def _all_trust_new_leaves(self) -> bool:
        """Only then may any member show a certificate by the authority that is wanted. Of a process that may be older
        than its files, it is not known, unless the certificates of all are by that authority already."""
        return all(
            set(self._wanted.issuers) <= set(self._active_trust(name))
            and (not self._hosts[name].pending or self._is_in_use())
            for name in self._hosts
            if self._speaks_tls(name)
        )

    def _is_in_use(self) -> bool:
        """The authority that is wanted is the one by which members know one another now."""
        return set(self._shown_authorities()) <= set(self._wanted.issuers)

    def _may_show_new_leaves(self, name: str) -> bool:
        """All trust them; or nobody needs to yet; or they are signed as those are that it shows now."""
        if self._all_trust_new_leaves() or not self._speaks_tls(name):
            return True
        found = [
            (self._content(self._hosts[name], file) or "", file.content)
            for file in self._wanted.leaf_files(name)
            if file.path.endswith(".crt")
        ]
        return all(
            any(_is_by_one_of(before, [issuer]) and _is_by_one_of(after, [issuer]) for issuer in self._wanted.issuers)
            for before, after in found
        )

    def _all_have_new_leaves(self) -> bool:
        return all(not self._differing_leaves(name) for name in self._hosts if self._speaks_tls(name))

    def _differing_leaves(self, name: str) -> list[File]:
        host = self._hosts[name]
        return [file for file in self._wanted.leaf_files(name) if self._content(host, file) != _as_seen(file)]

    def _trust_now(self, name: str) -> Sequence[str]:
        """What it is to trust until the next step: the old authority beside the new one while both are in use."""
        wanted, active = self._wanted.trusted, self._active_trust(name)
        if not wanted:
            return (active or self._joint_trust()) if self._speaks_tls(name) else ()
        if self._all_trust_new_leaves() and self._all_have_new_leaves():
            return wanted
        is_enough = self._speaks_tls(name) and {*self._wanted.issuers, *self._shown_authorities()} <= set(active)
        return active if is_enough else self._joint_trust()

    def _shown_authorities(self) -> list[str]:
        """Those that signed what members show to one another now."""
        shown = [
            self._content(self._hosts[name], file) or ""
            for name in self._hosts
            for file in self._wanted.leaf_files(name)
            if self._speaks_tls(name) and file.path.endswith(".crt")
        ]
        return [each for each in self._joint_trust() if any(_is_by_one_of(leaf, [each]) for leaf in shown)]

    def _joint_trust(self) -> list[str]:
        """All that is wanted, and all that any member trusts now, one that is to leave as well."""
        joint = list(self._wanted.trusted)
        for name in self._seen.hosts:
            joint += [authority for authority in self._active_trust(name) if authority not in joint]
        return joint

    # --- security ---

    def _security(self) -> Act | Wait | None:
        """From plaintext to TLS, from one authority to the next: pass after pass, each through all members. While one
        waits to join, only what it waits for is done: see `_may_join`."""
        targets = {name: self._target_now(name) for name in self._voting()}
        if len(targets) == len(self._wanted.members):
            targets = {name: replace(target, security=self._next_security(name)) for name, target in targets.items()}
        moving = {
            name: target
            for name, target in targets.items()
            if self._hosts[name].security != target.security
            or (self._speaks_tls(name) and self._active_trust(name) != list(target.trusted))
            or (self._hosts[name].pending and not self._is_in_use())
        }
        if moving:
            moving |= {name: target for name, target in targets.items() if self._hosts[name].pending}
            return self._one_of(moving, "the security of members is not changed while", self._why_secured(moving))
        if not self._all_have_new_leaves() and self._all_trust_new_leaves():
            return self._put_leaves()
        return None

    def _why_secured(self, moving: Mapping[str, _Target]) -> str:
        """What this pass through the members is for; the same for all of them."""
        name, target = next(iter(moving.items()))
        now = self._hosts[name].security
        if now is None or now.peers != target.security.peers:
            return {
                PeerSecurity.READY: "restarting with certificates at hand",
                PeerSecurity.TLS: "restarting with TLS among members",
                PeerSecurity.PLAINTEXT: "restarting without certificates",
            }[target.security.peers]
        if now.clients_tls != target.security.clients_tls:
            return f"restarting with{'' if target.security.clients_tls else 'out'} TLS for clients"
        if self._active_trust(name) == list(target.trusted):
            return "restarting"
        trusted = len(target.trusted)
        return "restarting to trust " + ("the new authority alone" if trusted == 1 else f"{trusted} authorities")

    def _put_leaves(self) -> Act | None:
        """All at once, without a restart: etcd reads them for every handshake. Not where the address changes as well:
        there, the new one comes with the restart."""
        why = "renewing certificates, without a restart"
        calls = [
            Call(name, "apply", {"action": "files", "why": why}, self._wanted.leaf_files(name))
            for name in self._hosts
            if self._differing_leaves(name) and self._speaks_tls(name) and self._covers_its_address(name)
        ]
        return Act(why, calls) if calls else None

    def _covers_its_address(self, name: str) -> bool:
        listed, server = self._seen.of(name), self._wanted.members[name].server
        if listed is None or server is None:
            return True
        host = listed.client_url.partition("://")[2].rpartition(":")[0].strip("[]")
        return not host or x509.covers_host(server.certificate, host)

    def _one_of(
        self, targets: Mapping[str, _Target], what: str, why: str = "restarting", **overrides: object
    ) -> Act | Wait:
        """Followers in order, those first whose process may be older than their files; the leader last. Precondition,
        checked here: every voter is healthy."""
        waiting = self._await_voters(what)
        if waiting:
            return waiting
        order = sorted(targets, key=lambda name: (name == self._seen.leader, not self._hosts[name].pending))
        name = order[0]
        return self._turn(name, targets[name], why, **overrides)

    # --- versions ---

    def _before_another_version(self) -> Act | Wait | None:
        """What has to be true before the first member moves to another version, step by step.

        Preconditions of an upgrade: every voter healthy; a pair of versions that etcd supports; a snapshot taken and
        checked; and, to another minor, on every member a log that the new one can start from.
        """
        wanted = self._wanted.version
        behind = [name for name, host in self._hosts.items() if host.running and host.running != wanted]
        if not behind:
            return None
        self._require_a_supported_step(behind)
        waiting = self._await_voters(f"etcd is not taken to {wanted} while")
        if waiting:
            return waiting
        # One that has just joined, and had nothing else to run, has not moved.
        none_moved = all(name in behind or not host.history.id for name, host in self._hosts.items())
        if none_moved and not self._memory.snapshot_taken and self._is_upgrade(behind):
            return self._snapshot()
        if not self._is_upgrade(behind) or series(wanted) in {series(self._hosts[name].running) for name in behind}:
            return None
        return self._know_history(behind) or self._flush(behind) or self._check_v2store(behind)

    def _is_upgrade(self, behind: Sequence[str]) -> bool:
        return all(Version.parse(self._hosts[name].running) < Version.parse(self._wanted.version) for name in behind)

    def _require_a_supported_step(self, behind: Sequence[str]) -> None:
        """Going back is for an upgrade that was given up before all members had moved: etcd refuses it later."""
        for name in behind:
            host, wanted = self._hosts[name], self._wanted.version
            if Version.parse(host.running) < Version.parse(wanted):
                refusal = change_refusal(host.running, wanted)
                if refusal:
                    raise RefusedError(refusal)
            elif host.live and host.live.cluster_version > series(wanted) and series(host.running) != series(wanted):
                raise RefusedError(
                    f"version: {wanted}: every member has moved to {host.running} already, and its data are "
                    f"{host.live.cluster_version}'s now; set version to {host.running}"
                )

    def _snapshot(self) -> Act:
        """Of a follower, so that the leader goes on undisturbed."""
        names = [name for name in self._hosts if name != self._seen.leader] or list(self._hosts)
        live = self._hosts[names[0]].live
        line = {
            "file": f"{self._hosts[names[0]].running}-to-{self._wanted.version}.db",
            "version": self._wanted.version,
            "database-mib": str((live.database_bytes if live else 0) // 1024**2 + 1),
            "timeout": str(SYNC_SECONDS),
        }
        return Act("taking and checking a snapshot", [Call(names[0], "snapshot", line)])

    def _know_history(self, behind: Sequence[str]) -> Act | None:
        """Where it is not known since when a member's log is what it is, the log counts as old up to here."""
        unknown = [name for name in behind if self._recorded(name) != self._hosts[name].history]
        calls = [Call(name, "apply", {"action": "files"}, history=self._recorded(name)) for name in unknown]
        return Act("noting where its log stands", calls) if calls else None

    def _recorded(self, name: str) -> History:
        """The history of a member that is as it should be."""
        host, listed = self._hosts[name], self._seen.of(name)
        history, ids, index = host.history, self._seen.member_ids, self._seen.index
        running = series(host.running)
        return History(
            series=running,
            series_index=history.series_index if history.series == running else index,
            members=ids,
            members_index=history.members_index if history.members in (FOUNDING, ids) else index,
            id=listed.id if listed else "",
        )

    def _flush(self, behind: Sequence[str]) -> Act | Wait | None:
        """Members whose newest snapshot is older than the last change of the membership, or than the running minor:
        restarted once with a snapshot due at every entry, one at a time."""
        target_version = self._wanted.version
        targets = {
            name: self._target_now(name) for name in behind if self._hosts[name].snapshot_index < self._flushed_at(name)
        }
        if not targets:
            return None
        act = self._one_of(
            targets,
            f"etcd is not taken to {target_version} while",
            f"restarting once, so that {series(target_version)} can start from its log",
            snapshot_count=FLUSHED_EVERY,
        )
        if isinstance(act, Wait) or act.calls[0].step != "apply":
            return act
        call = act.calls[0]
        line = {**call.spec, "await": "flushed", "index": str(max(self._flushed_at(call.member), self._seen.index))}
        return replace(act, calls=[replace(call, spec=line)])

    def _flushed_at(self, name: str) -> int:
        history = self._hosts[name].history
        word, _, index = self._memory.v2store.get(name, "").partition(" ")
        return max(history.series_index, history.members_index, int(index) if word == "log" else 0)

    def _check_v2store(self, behind: Sequence[str]) -> Act | None:
        """Only 3.5 can hold what 3.6 refuses to start from. Precondition of asking: the log is flushed."""
        if {series(self._hosts[name].running) for name in behind} != {"3.5"}:
            return None
        answers = self._memory.v2store
        for name in behind:
            if answers.get(name) == "store":
                raise RefusedError(
                    f"{name}: version 3.6 does not start with keys of etcd's old v2 API, and this cluster holds some. "
                    "Nothing was upgraded. On one host, add `enable-v2: true` to etcd.yaml, restart etcd, delete them "
                    "(ETCDCTL_API=2 etcdctl ls, rm); then run again, which also puts that file back"
                )
        line = {"timeout": str(MEMBER_SECONDS)}
        calls = [Call(name, "v2store", line) for name in behind if answers.get(name) != "clean"]
        return Act("checking for data of the v2 API", calls) if calls else None

    def _roll(self) -> Act | Wait | None:
        """All that a restart brings: settings, unit, program."""
        targets = {
            name: replace(self._target_now(name), version=self._wanted.version, security=self._wanted.security)
            for name in self._voting()
        }
        stale = {name: target for name, target in targets.items() if self._stale(name, target)}
        return self._one_of(stale, "no member is restarted while") if stale else None

    # --- what needs no restart ---

    def _settle(self) -> Act | None:
        """Files of the wrong mode or owner, certificates, what starts on boot, and the history. Restarts nothing."""
        why, calls = "putting files in place, without a restart", list[Call]()
        for name, host in self._hosts.items():
            files = [file for file, _ in self._unsettled(name)]
            history = self._recorded(name)
            if files or history != host.history or self._bootstrap_is_left(name):
                changed = None if history == host.history else history
                line = {"action": "files", **({"why": why} if files else {})}
                calls.append(Call(name, "apply", line, files, changed))
        return Act(why, calls) if calls else None

    def _bootstrap_is_left(self, name: str) -> bool:
        return f"{self._wanted.members[name].layout.configuration}/bootstrap.yaml" in self._hosts[name].files

    def _all_files(self, name: str) -> list[File]:
        spec = self._spec(name, self._wanted.version, self._wanted.security)
        return [
            *self._wanted.leaf_files(name),
            *self._wanted.other_files(name, spec),
            *self._wanted.start_files(name, spec, self._wanted.trusted),
        ]

    def _unsettled(self, name: str) -> list[tuple[File, str]]:
        """Files that are not as they should be, and how."""
        host = self._hosts[name]
        found: list[tuple[File, str]] = []
        for file in self._all_files(name):
            seen = host.files.get(file.path)
            if seen is None:
                found.append((file, f"{file.path} is missing"))
            elif seen.content != _as_seen(file):
                found.append((file, f"{file.path} differs"))
            elif wrong := self._wrong_mode(name, file):
                found.append((file, f"{file.path} is {wrong}"))
            elif file.path.startswith("/etc/systemd/") and not host.on_boot:
                found.append((file, "it does not start on boot"))
        return found

    def _wrong_mode(self, name: str, file: File) -> str:
        """What mode and owner it has, and should have; "" where they are right, or the file is missing."""
        seen, systemd = (
            self._hosts[name].files.get(file.path),
            self._wanted.members[name].layout.supervisor == "systemd",
        )
        if seen is None:
            return ""
        owner = {"member": "etcd"}.get(file.owner, file.owner) if systemd else seen.owner
        is_, should = f"{seen.mode} {seen.owner}", f"{file.mode} {owner}"
        return "" if is_ == should else f"{is_}, not {should}"

    # --- for people ---

    def differences(self, name: str) -> list[str]:
        if name not in self._hosts:
            return [self._seen.silent.get(name, "not asked")]
        host, listed, version = self._hosts[name], self._seen.of(name), self._wanted.version
        found = [f"lacks {each}" for each in self._lacks(name)]
        if not host.data:
            found.append("has no data")
        elif not host.pid:
            found.append("does not run")
        elif listed is None and self._seen.teller:
            found.append("is no member of the cluster")
        elif listed is not None and listed.learner:
            found.append("is a learner")
        elif self._seen.teller and not self._seen.is_healthy(name):
            found.append("is not healthy")
        if host.running and host.running != version:
            found.append(f"runs {host.running}, not {version}")
        if host.pending:
            found.append("its files may be newer than its process")
        return [*found, *_in_short([how for _, how in self._unsettled(name)])]


MOST_MISSING = 3
"""More are not named: the machine was emptied."""


def _in_short(found: Sequence[str]) -> list[str]:
    missing = [how for how in found if how.endswith(" is missing")]
    if len(missing) <= MOST_MISSING:
        return list(found)
    return [f"{len(missing)} of its files are missing", *(how for how in found if how not in missing)]


CAUGHT_UP_ENTRIES = 100
"""A member this close behind the newest one is as good as level with it."""


def _is_by_one_of(certificate: str, authorities: Iterable[str]) -> bool:
    try:
        return any(x509.signed_by(certificate, authority) for authority in authorities)
    except x509.PkiError:
        return False


def _as_seen(file: File) -> str:
    """What observation shows of a file as it should be: of a private key, its sum."""
    return sha256(file.content.encode()).hexdigest() if file.path.endswith(".key") else file.content
