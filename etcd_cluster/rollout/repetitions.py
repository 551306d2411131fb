"""Tells when an act is planned again though nothing has changed since it was done: it does not help."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256

from etcd_cluster.rollout.observed import History, Host, Observation
from etcd_cluster.rollout.planner.actions import Action, HostStep

MOST_REPETITIONS = 2
"""A second time, because the first one may have been cut off."""
MOVES_BY_ITSELF = ("index", "database-mib")
"""In the line of a call."""


class Repetitions:
    """Of one run."""

    def __init__(self) -> None:
        self._done: Counter[str] = Counter()

    def is_futile(self, act: Action, seen: Observation) -> bool:
        """Notes that `act` is about to be done in the situation that was `seen`. Whether that was done often enough."""
        names = {member.id: member.name or member.peer_url for member in seen.members}
        key = f"{[_call(call, names) for call in act.calls]!r} {_situation(seen, names)!r}"
        digest = sha256(key.encode()).hexdigest()  # contents of files are among it
        self._done[digest] += 1
        return self._done[digest] > MOST_REPETITIONS


def _call(call: HostStep, names: Mapping[str, str]) -> object:
    """Without what differs each time: indices, and ids of members that are made anew."""
    spec = sorted((key, names.get(value, value)) for key, value in call.spec.items() if key not in MOVES_BY_ITSELF)
    files = [(file.path, file.mode, file.owner, file.content) for file in call.files]
    return call.member, call.step, spec, files, call.history and _history(call.history, names)


def _situation(seen: Observation, names: Mapping[str, str]) -> object:
    """Without clocks, indices, sizes, process ids and ids of members."""
    return (
        [(name, _host(host, names)) for name, host in sorted(seen.hosts.items())],
        sorted(seen.silent),
        seen.status_source,
        sorted((each.name, each.peer_url, each.client_url, each.learner) for each in seen.members),
        [sorted(names.get(id_, id_) for id_ in ids) for ids in (seen.healthy, seen.connected, seen.unknown)],
        None if seen.alarms is None else sorted((alarm.kind, names.get(alarm.id, "")) for alarm in seen.alarms),
    )


def _host(host: Host, names: Mapping[str, str]) -> object:
    live = host.live and replace(
        host.live,
        id=names.get(host.live.id, ""),
        applied=0,
        committed=0,
        database_bytes=0,
        active_peers=frozenset(),
    )
    still = replace(
        host,
        files={},
        live=live,
        history=History(),
        pid="running" if host.pid else "",
        clock=0,
        snapshot_index=0,
        disk_free_bytes=0,
        database_bytes=0,
        may_administer=None,
    )
    files = sorted((path, file.mode, file.owner, file.content) for path, file in host.files.items())
    return still, _history(host.history, names), files


def _history(history: History, names: Mapping[str, str]) -> object:
    members = sorted(names.get(id_, id_) for id_ in history.members.split(","))
    return history.series, members, names.get(history.id, history.id)
