"""One look at a cluster beside what it should be, and what follows from the two. Decides nothing."""

from __future__ import annotations

from etcd_cluster.member.layout import FOUNDING
from etcd_cluster.member.render import MemberSpec, Security
from etcd_cluster.rollout.observed import History, Host, MemberEntry, Observation
from etcd_cluster.rollout.planner.actions import RunContext
from etcd_cluster.rollout.wanted import DesiredCluster, File, series


class ClusterView:
    """wanted: the desired cluster. observation: what its machines reported. context: what this run knows besides.
    hosts: member name -> machine, of the desired members whose machines could be asked."""

    def __init__(self, wanted: DesiredCluster, observation: Observation, context: RunContext) -> None:
        self.wanted = wanted
        self.observation = observation
        self.context = context
        self.hosts: dict[str, Host] = {
            name: observation.hosts[name] for name in wanted.members if name in observation.hosts
        }

    def listed(self, name: str) -> MemberEntry | None:
        """A member of the list that is meant to be `name`: one that has not started yet is known by its address."""
        found = self.observation.of(name)
        if found is not None:
            return found
        host = self.address(name)
        unnamed = [member for member in self.observation.members if not member.name]
        return next((member for member in unnamed if member.peer_url.partition("://")[2] == host), None)

    def voting(self) -> list[str]:
        """Those of the wanted members that are voters."""
        return [name for name in self.hosts if (listed := self.listed(name)) and not listed.learner]

    def address(self, name: str) -> str:
        """Of its peer port, with or without TLS."""
        return self.wanted.members[name].member.peer_url(tls=True).partition("://")[2]

    def unlisted_members(self) -> list[MemberEntry]:
        """Members of the list that are to leave."""
        ours = {listed.id for name in self.wanted.members if (listed := self.listed(name))}
        return [member for member in self.observation.members if member.id not in ours]

    def was_removed(self, name: str) -> bool:
        """The data are those of a membership that the cluster has ended. Another cluster has nobody to remove."""
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
        """Members that have a leader, by what they say themselves."""
        return [name for name, host in self.hosts.items() if host.live and host.live.has_leader]

    def unknown(self) -> dict[str, str]:
        """Members that run and could not tell all of themselves -> what, and why."""
        return {name: ", ".join(host.unknown.values()) for name, host in self.observation.hosts.items() if host.unknown}

    def may_lead(self, name: str) -> bool:
        """Nobody is known to lead, and it could not be asked."""
        host = self.observation.hosts.get(name)
        return self.observation.leader is None and host is not None and bool(host.pid) and host.live is None

    def leader_id(self) -> str:
        """ "" where its machine cannot be asked."""
        leader = self.observation.leader
        live = self.observation.hosts[leader].live if leader else None
        return live.id if live else ""

    def spec(self, name: str, version: str, security: Security, **overrides: object) -> MemberSpec:
        return self.wanted.spec(name, security, version, **overrides)

    @staticmethod
    def content(host: Host, file: File) -> str | None:
        """What that file holds on a machine; None where there is none."""
        found = host.files.get(file.path)
        return found.content if found else None

    def recorded(self, name: str) -> History:
        """The history of a member that is as it should be."""
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
