"""Defines what one run remembers from one observation to the next."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from enum import Enum

from etcd_cluster.member.lines import Membership, MembershipChange, PrepareAgain, Snapshot, V2Store
from etcd_cluster.rollout.observed import Observation
from etcd_cluster.rollout.planner.actions import HostStep, Limit, Refusal
from etcd_cluster.rollout.planner.refusals import RefusedError


class V2Data(Enum):
    """What data of etcd's v2 API a member holds."""

    CLEAN = "clean"
    LOG = "log"
    STORE = "store"


@dataclass
class RunContext:
    """What one run knows that machines do not report.

    Args:
        forming: The stack's state has no rollout that ended well, so the cluster may still have to be formed.
        run: Id of the run.
        waited: Limit -> seconds that the run has waited so far.
        prepared: Members whose machines the run has prepared again.
        added: Members that the run has added to the member list.
        snapshot_taken: The run has taken a snapshot.
        v2store: Member -> what data of the v2 API it holds, and the index of raft's log at that time.
        permitted: Members whose certificates may change the cluster; None if that is not checked.
    """

    forming: bool = False
    run: str = field(default_factory=lambda: secrets.token_hex(8))
    waited: dict[Limit, float] = field(default_factory=dict[Limit, float])
    prepared: set[str] = field(default_factory=set[str])
    added: set[str] = field(default_factory=set[str])
    snapshot_taken: bool = False
    v2store: dict[str, tuple[V2Data, int]] = field(default_factory=dict[str, tuple[V2Data, int]])
    permitted: set[str] | None = None

    def learn_rights(self, observation: Observation) -> bool:
        """Notes which members may change the cluster; returns True while that is unknown of a running member."""
        permitted = self.permitted if self.permitted is not None else set[str]()
        permitted |= {name for name, host in observation.hosts.items() if host.may_administer}
        return any(host.pid and name not in permitted for name, host in observation.hosts.items())

    def note(self, step: HostStep, printed: str, *, index: int) -> None:
        """Notes what a step did.

        Args:
            step: The step, which has succeeded.
            printed: Its output.
            index: The end of raft's log when the step began.
        """
        match step.line:
            case PrepareAgain():
                self.prepared.add(step.member)
            case Membership(change=MembershipChange.ADD, name=name):
                self.added.add(name)
            case Snapshot():
                self.snapshot_taken = True
            case V2Store():
                self.v2store[step.member] = _v2_data(step.member, printed), index
            case _:
                pass


def _v2_data(member: str, printed: str) -> V2Data:
    answer = (printed.split() or [""])[-1]
    found = next((each for each in V2Data if each.value == answer), None)
    if found is None:
        raise RefusedError(Refusal.V2_CHECK_UNREADABLE, {"member": member, "printed": printed.strip()[-200:]})
    return found
