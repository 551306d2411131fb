"""Observes a cluster on the machines of its members."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import permutations
from typing import Any

from etcd_cluster.clocks import offset
from etcd_cluster.errors import EtcdClusterError
from etcd_cluster.member.lines import HashKeys, Health, Observe, Reach, UsersAsked
from etcd_cluster.member.machines import MemberMachines, Place, StepFailedError, say
from etcd_cluster.rollout.observed import CORRUPT, BrokenPair, Host, KeyHash, Observation
from etcd_cluster.rollout.planner.actions import HASH_SECONDS
from etcd_cluster.rollout.reports import (
    PeerTest,
    combine,
    connected_without_report,
    parse_answers,
    parse_hash,
    parse_host,
    unanswered,
    with_answers,
    with_peer_tests,
    without_member,
)
from etcd_cluster.ssh.connection import SshError, SshNoAnswerError
from etcd_cluster.ssh.processes import CommandTimeoutError

OBSERVATION_SECONDS = 60


class ClusterMachines(MemberMachines):
    """The machines of a cluster's members, which tell what is there.

    Args:
        members: Member name -> where it is.
        connections: As for `MemberMachines`.
        leaving: Names of members that may be gone: an unreachable one is not tried again.
        passing: As for `MemberMachines`.
        before: As for `MemberMachines`.
        token: Token of the cluster. A leaving machine that belongs to another cluster by now has no member of this one.
    """

    def __init__(
        self,
        members: Mapping[str, Place],
        connections: Mapping[str, Mapping[str, Any]],
        leaving: Collection[str] = (),
        *,
        passing: bool = False,
        before: Mapping[str, Mapping[str, Any]] | None = None,
        token: str = "",
    ) -> None:
        super().__init__(members, connections, leaving, passing=passing, before=before)
        self._token = token
        self._schemes: dict[str, str] = {}

    def observe(
        self,
        *,
        claim: str = "",
        rights: bool = False,
        disk: bool = False,
        users: UsersAsked | None = None,
        restarted: Collection[str] = (),
    ) -> Observation:
        """Returns what is there now.

        Args:
            claim: Id of the run that takes all machines over; "" for none.
            rights: Also asks whether members' certificates may change the cluster.
            disk: Also asks for the space on the disks.
            users: Also asks for etcd's users and roles; None not to ask.
            restarted: Members of which is tested whether they and the others reach one another.
        """
        asked = Observe(claim=claim, rights=rights, disk=disk, users=users)
        hosts: dict[str, Host] = {}
        reports: dict[str, Mapping[str, str]] = {}
        unreachable: dict[str, str] = {}
        answering: set[str] = set()
        clocks: dict[str, float] = {}
        began = time.time()

        def note(answers: Mapping[str, Any]) -> None:
            for name, answer in answers.items():
                if isinstance(answer, SshError | StepFailedError | CommandTimeoutError):
                    unreachable[name] = str(answer)
                    if not isinstance(answer, SshNoAnswerError):
                        answering.add(name)
                elif isinstance(answer, EtcdClusterError):
                    raise answer
                else:
                    said: Mapping[str, str]
                    hosts[name], said = parse_host(answer)
                    if name in self._leaving and self._is_anothers(hosts[name]):
                        hosts[name], said = without_member(hosts[name]), dict[str, str]()
                    self._schemes[name] = said.get("scheme") or self._schemes.get(name, "")
                    clocks[name] = offset(hosts[name].clock, began, time.time(), resolution=1.0)
                    reports[name] = said

        note(self.on_all(list(self._members), lambda name: self._observe(name, asked)))
        observation = combine(hosts, reports, unreachable)
        following = [name for name, host in hosts.items() if host.live and host.live.has_leader]
        others = [name for name in following if not reports[name].get("members")]
        if observation.status_source is None and others:
            # The leader's machine is not one of `hosts`, is unreachable, or gets no answer itself.
            note(self.on_all(others, lambda name: self._observe(name, replace(asked, as_status_source=True))))
            observation = combine(hosts, reports, unreachable)
        observation = self._ask_for_hashes(self._test_peers(self._ask_for_others(observation), restarted))
        return replace(observation, clocks=clocks, answering=frozenset(answering))

    def _is_anothers(self, host: Host) -> bool:
        return bool(self._token) and host.token not in ("", self._token)

    def _ask_for_others(self, observation: Observation) -> Observation:
        """Asks the status source's machine for members that do not show on their own machines that they serve."""
        left = unanswered(observation)
        if observation.status_source is None or not left:
            return observation
        peers = ",".join(sorted(connected_without_report(observation)))
        line = Health(",".join(member.client_url for member in left), peers)
        try:
            text = self.run(observation.status_source, line, timeout_seconds=OBSERVATION_SECONDS)
        except (SshError, StepFailedError, CommandTimeoutError):
            text = ""
        return with_answers(observation, *parse_answers(text))

    def _test_peers(self, observation: Observation, restarted: Collection[str]) -> Observation:
        """Tests the pairs of healthy members of which etcd's own count may be wrong, from each one's machine.

        These are the ones that it calls broken, and those with a member that was restarted. Not where the member may
        have been started before its files were written: it may not reach what they reach.
        """
        healthy = [member for member in observation.members if observation.is_healthy(member.name)]
        urls: dict[str, list[str]] = {}
        for member, peer in permutations(healthy, 2):
            host = observation.hosts.get(member.name)
            is_broken = BrokenPair(member.name, peer.name) in observation.broken_pairs
            is_doubtful = is_broken or member.name in restarted or peer.name in restarted
            if is_doubtful and peer.peer_url and host and host.live and not host.pending:
                urls.setdefault(member.name, []).append(peer.peer_url)
        if not urls:
            return observation

        def test(name: str) -> PeerTest:
            line = Reach(",".join(urls[name]), observation.hosts[name].source_address)
            return PeerTest.parse(self.run(name, line, timeout_seconds=OBSERVATION_SECONDS))

        answers = self.on_all(list(urls), test)
        tests = {name: answer for name, answer in answers.items() if not isinstance(answer, EtcdClusterError)}
        return with_peer_tests(observation, tests)

    def _ask_for_hashes(self, observation: Observation) -> Observation:
        """Asks every member for the hash of its keys while the alarm CORRUPT stands: nothing is written then."""
        if not any(alarm.kind == CORRUPT for alarm in observation.alarms or ()):
            return observation
        names = [name for name, host in observation.hosts.items() if host.live]

        def ask(name: str) -> tuple[str, KeyHash] | None:
            return parse_hash(
                self.run(name, HashKeys(HASH_SECONDS), timeout_seconds=HASH_SECONDS + OBSERVATION_SECONDS)
            )

        answers: list[tuple[str, KeyHash] | EtcdClusterError | None] = [*self.on_all(names, ask).values()]
        return replace(observation, hashes=dict(answer for answer in answers if isinstance(answer, tuple)))

    def _observe(self, name: str, asked: Observe) -> str:
        member = self._members[name]
        scheme = self._schemes.get(name) or ("https" if member.tls else "http")
        token = self._token if asked.claim else ""
        line = replace(asked, scheme=scheme, device=member.device, token=token)
        # Only a claim has progress to tell: it may have to wait.
        return self.run(name, line, timeout_seconds=OBSERVATION_SECONDS, say=say if asked.claim else None)
