"""What the planner answers: actions, waits, refusals; and what one run remembers."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from etcd_cluster.errors import EtcdClusterError
from etcd_cluster.rollout.observed import History, Observation
from etcd_cluster.rollout.wanted import File

MEMBER_SECONDS = 180
"""How long a member may take from its start until it serves and has caught up; a large database takes its time."""
CHANGE_SECONDS = 60
"""For a change of the membership; etcd refuses one for 5 s after the one before."""
SYNC_SECONDS = 900
"""For a learner to get all data."""
LEADER_SECONDS = 30
HEALTH_SECONDS = 120


class RefusedError(EtcdClusterError):
    """The cluster cannot be brought to what is asked from here. Says why, and what to do."""


@dataclass(frozen=True)
class HostStep:
    """One script to run on one member's machine. spec: its line. files, history: what it is to write there."""

    member: str
    step: str
    spec: Mapping[str, str]
    files: Sequence[File] = ()
    history: History | None = None


@dataclass(frozen=True)
class Action:
    """What to do next: calls, all at once; then look again. why: one line for people, without the members' names."""

    why: str
    calls: Sequence[HostStep]

    @property
    def text(self) -> str:
        return f"{', '.join(call.member for call in self.calls)}: {self.why}"

    @property
    def only_restores(self) -> bool:
        """It prepares machines or puts files in place: nothing restarts, and the cluster is not changed."""
        return all(call.step == "prepare" or call.spec.get("action") == "files" for call in self.calls)


@dataclass(frozen=True)
class WaitFor:
    """Nothing to do but look again. problem: what is said if it has not passed after that long, about `member`.
    topic: names the limit that it counts towards, where the problem's text differs from look to look, as by ids of
    processes; default the problem."""

    problem: str
    seconds: int
    member: str | None = None
    topic: str = ""

    @property
    def limit(self) -> str:
        """Its key in `RunContext.waited`."""
        return self.topic or self.problem


@dataclass
class RunContext:
    """What one run knows that machines do not tell. forming: the stack's state has no rollout that ended well, so that
    the cluster may still have to be formed. run: its id. added: members that it has added to the list. waited:
    limit -> seconds so far. v2store: member -> answer. permitted: members whose certificates may change the cluster;
    None where that is not asked."""

    forming: bool = False
    run: str = field(default_factory=lambda: secrets.token_hex(8))
    waited: dict[str, float] = field(default_factory=dict[str, float])
    prepared: set[str] = field(default_factory=set[str])
    added: set[str] = field(default_factory=set[str])
    snapshot_taken: bool = False
    v2store: dict[str, str] = field(default_factory=dict[str, str])
    permitted: set[str] | None = None

    def learn_rights(self, seen: Observation) -> bool:
        """Takes in who may change the cluster. Whether that is not known of all that run."""
        permitted = self.permitted if self.permitted is not None else set[str]()
        permitted |= {name for name, host in seen.hosts.items() if host.may_administer}
        return any(host.pid and name not in permitted for name, host in seen.hosts.items())

    def note(self, call: HostStep, printed: str, *, index: int) -> None:
        """Takes in what a call did."""
        if call.step == "prepare":
            self.prepared.add(call.member)
        elif call.step == "membership" and call.spec["do"] == "add":
            self.added.add(call.spec["name"])
        elif call.step == "snapshot":
            self.snapshot_taken = True
        elif call.step == "v2store":
            self.v2store[call.member] = f"log {index}" if printed.strip() == "log" else printed.strip()
