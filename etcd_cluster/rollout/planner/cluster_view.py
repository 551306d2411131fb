"""Puts an observation of a cluster beside its desired state, and derives facts from the two. Decides nothing."""

from __future__ import annotations

from etcd_cluster.member.layout import FOUNDING
from etcd_cluster.member.render import MemberSpec, Security
from etcd_cluster.rollout.desired import DesiredCluster, File, series
from etcd_cluster.rollout.observed import History, Host, MemberEntry, Observation
from etcd_cluster.rollout.planner.run_context import RunContext


class ClusterView:
    """The cluster as one run sees it.

    Args:
        desired: The desired state.
        observation: What the machines and the cluster report.
        context: What this run knows besides.

    Attributes:
        hosts: Member name -> machine, of the desired members whose machines answered.
    """

    def __init__(self, desired: DesiredCluster, observation: Observation, context: RunContext) -> None:
        self.desired = desired
        self.observation = observation
        self.context = context
        self.hosts: dict[str, Host] = {
            name: observation.hosts[name] for name in desired.members if name in observation.hosts
        }

    def listed(self, name: str) -> MemberEntry | None:
        """Returns the entry of `name` in the member list; None if there is none.

        A member that has not started yet has no name in the list: it is known by its address.
        """
        found = self.observation.of(name)
        if found is not None:
            return found
        host = self.address(name)
        unnamed = [member for member in self.observation.members if not member.name]
        return next((member for member in unnamed if member.peer_url.partition("://")[2] == host), None)

    def voting(self) -> list[str]:
        """Returns the desired members that are voters."""
        return [name for name in self.hosts if (listed := self.listed(name)) and not listed.learner]

    def address(self, name: str) -> str:
        """Returns HOST:PORT of a member's peer port, which is the same with and without TLS."""
        return self.desired.members[name].member.peer_url(tls=True).partition("://")[2]

    def unlisted_members(self) -> list[MemberEntry]:
        """Returns the members of the cluster that are to leave, because the stack does not list them."""
        ours = {listed.id for name in self.desired.members if (listed := self.listed(name))}
        return [member for member in self.observation.members if member.id not in ours]

    def was_removed(self, name: str) -> bool:
        """Returns whether the data on a machine are of a member that the cluster has removed.

        False if no member can answer for the cluster, and for data of another cluster, which has removed nobody from
        this one.
        """
        known = self.observation.hosts[name].history.id
        if self.observation.status_source is None:
            return False
        clusters = {self.observation.hosts[each].data_of for each in (name, self.observation.status_source)} - {""}
        if len(clusters) > 1:
            return False
        if known:
            return known not in {member.id for member in self.observation.members}
        listed = self.listed(name) if name in self.hosts else self.observation.of(name)
        return listed is None or (listed.learner and not listed.started)

    def following(self) -> list[str]:
        """Returns the members that report a leader."""
        return [name for name, host in self.hosts.items() if host.live and host.live.has_leader]

    def unknown(self) -> dict[str, str]:
        """Returns member -> what it could not report and why, of running members."""
        return {name: ", ".join(host.unknown.values()) for name, host in self.observation.hosts.items() if host.unknown}

    def may_lead(self, name: str) -> bool:
        """Returns whether a running member gives no answer while no leader is known, so that it may be the leader."""
        host = self.observation.hosts.get(name)
        return self.observation.leader is None and host is not None and bool(host.pid) and host.live is None

    def leader_id(self) -> str:
        """Returns the id of the leader; "" if the leader's machine gives no answer."""
        leader = self.observation.leader
        live = self.observation.hosts[leader].live if leader else None
        return live.id if live else ""

    def spec(self, name: str, version: str, security: Security, **overrides: object) -> MemberSpec:
        """Returns what a member's configuration is made of. See `DesiredCluster.spec`."""
        return self.desired.spec(name, security, version, **overrides)

    @staticmethod
    def content(host: Host, file: File) -> str | None:
        """Returns what a file holds on a machine; None if it is missing."""
        found = host.files.get(file.path)
        return found.content if found else None

    def recorded(self, name: str) -> History:
        """Returns the history that belongs on the disk of a member in the desired state."""
        host, listed = self.hosts[name], self.observation.of(name)
        history, ids, index = host.history, self.observation.member_ids, self.observation.index
        running = series(host.running)
        return History(
            series=running,
            series_index=history.series_index if history.series == running else index,
            members=ids,
            members_index=history.members_index if history.members in (FOUNDING, ids) else index,
            id=listed.id if listed else "",
        )
