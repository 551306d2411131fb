"""Detects an action that is planned again although nothing has changed since it was done: it does not help."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256

from etcd_cluster.rollout.observed import Authentication, History, Host, Observation
from etcd_cluster.rollout.planner.actions import Action, HostStep

MOST_REPETITIONS = 2
"""An action is done a second time, because the first one may have been cut off."""
MOVES_BY_ITSELF = frozenset({"index", "database_mib", "defragment_mib"})
"""Fields of a line that differ each time."""


class Repetitions:
    """Counts the actions of one run."""

    def __init__(self) -> None:
        self._done: Counter[str] = Counter()

    def is_futile(self, action: Action, observation: Observation) -> bool:
        """Notes that `action` follows `observation`; returns whether that happened `MOST_REPETITIONS` times before."""
        names = {member.id: member.name or member.peer_url for member in observation.members}
        key = f"{[_step(step, names) for step in action.steps]!r} {_state(observation, names)!r}"
        digest = sha256(key.encode()).hexdigest()  # the key contains contents of files
        self._done[digest] += 1
        return self._done[digest] > MOST_REPETITIONS


def _step(step: HostStep, names: Mapping[str, str]) -> object:
    """Returns a step without what differs each time: indices, and ids of members that are added again."""
    line = [(key, names.get(value, value)) for key, value in vars(step.line).items() if key not in MOVES_BY_ITSELF]
    files = [(file.path, file.mode, file.owner, file.content) for file in step.files]
    return step.member, step.line.step, line, files, step.requests, step.history and _history(step.history, names)


def _state(observation: Observation, names: Mapping[str, str]) -> object:
    """Returns an observation without clocks, indices, sizes, process ids and ids of members."""
    return (
        [(name, _host(host, names)) for name, host in sorted(observation.hosts.items())],
        sorted(observation.unreachable),
        observation.status_source,
        sorted((each.name, each.peer_url, each.client_url, each.learner) for each in observation.members),
        [
            sorted(names.get(id_, id_) for id_ in ids)
            for ids in (observation.healthy, observation.connected, observation.unknown)
        ],
        None
        if observation.alarms is None
        else sorted((alarm.kind, names.get(alarm.id, "")) for alarm in observation.alarms),
        observation.authentication and _authentication(observation.authentication),
    )


def _authentication(found: Authentication) -> object:
    roles = [(name, sorted((range_.start, range_.end, access) for range_, access in each.items()))
             for name, each in sorted(found.roles.items())]  # fmt: skip
    return found.enabled, sorted((name, sorted(each)) for name, each in found.users.items()), roles


def _host(host: Host, names: Mapping[str, str]) -> object:
    live = host.live and replace(
        host.live,
        id=names.get(host.live.id, ""),
        applied=0,
        committed=0,
        database_bytes=0,
        used_bytes=0,
        revision=0,
        compacted=0,
        active_peers=frozenset(),
    )
    still = replace(
        host,
        unknown=dict.fromkeys(host.unknown, ""),
        files={},
        live=live,
        history=History(),
        pid="running" if host.pid else "",
        clock=0,
        snapshot_index=0,
        disk_free_bytes=0,
        defragmented=None,
        database_bytes=0,
        may_administer=None,
    )
    files = sorted((path, file.mode, file.owner, file.content) for path, file in host.files.items())
    return still, _history(host.history, names), files


def _history(history: History, names: Mapping[str, str]) -> object:
    members = sorted(names.get(id_, id_) for id_ in history.members.split(","))
    return history.series, members, names.get(history.id, history.id)
