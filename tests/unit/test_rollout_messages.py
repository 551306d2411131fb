"""Text never decides: with every text empty, a rollout decides the same, and waits as long."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from pathlib import Path

import pytest

from etcd_cluster import clocks
from etcd_cluster.errors import Explanation
from etcd_cluster.etcd.versions import UnsupportedChange, unsupported_change
from etcd_cluster.member.lines import Apply, ApplyAction
from etcd_cluster.rollout.observed import BrokenPair, Missing, MissingKind, Question
from etcd_cluster.rollout.planner import actions, differences, messages, next_action
from etcd_cluster.rollout.planner.actions import Action, WaitFor
from etcd_cluster.rollout.planner.refusals import RefusedError
from etcd_cluster.rollout.planner.run_context import RunContext
from etcd_cluster.rollout.repetitions import Repetitions
from tests.unit.rollout_model import CONFIGURATION, Goal, Model

GOAL = Goal()
KINDS: list[type[Enum]] = [
    actions.ActionKind,
    actions.DriftKind,
    actions.Blocked,
    actions.TrustScope,
    actions.WarningKind,
    MissingKind,
]


def spoilt(model: Model) -> None:
    model.edit("b", CONFIGURATION)
    model.machines["c"].missing.append(Missing(MissingKind.DISK, "/data/etcd"))


def stopped(*names: str) -> Callable[[Model], None]:
    def stop(model: Model) -> None:
        for name in names:
            model.stop(name)

    return stop


def closed(model: Model) -> None:
    model.machines["c"].peer_port_closed = True


def muted(model: Model) -> None:
    for machine in model.machines.values():
        machine.mute = 1000


STORIES: dict[str, tuple[Goal, Callable[[Model], None]]] = {
    "settings": (replace(GOAL, user_options={"heartbeat-interval": 200, "election-timeout": 2000}), stopped()),
    "CA": (replace(GOAL, trusted=(1, 0)), stopped()),
    "plaintext": (replace(GOAL, tls=False), stopped()),
    "a member fewer": (replace(GOAL, names=("a", "b")), stopped("c")),
    "spoilt": (GOAL, spoilt),
    "a firewall": (replace(GOAL, version="3.6.17"), closed),
    "two stopped": (GOAL, stopped("b", "c")),
    "muted": (GOAL, muted),
}


def decisions(goal: Goal, happens: Callable[[Model], None]) -> list[object]:
    """What is decided, one after the other, until nothing is left to do or the run ends."""
    model, context, repetitions = Model.running(), RunContext(), Repetitions()
    happens(model)
    found: list[object] = [
        [each.kind for each in differences(goal.desired, model.observe("abc"), name)] for name in "ab"
    ]
    try:
        for _ in range(100):
            observation = model.observe(list(model.machines))
            decided = next_action(goal.desired, observation, context)
            if decided is None:
                break
            if isinstance(decided, WaitFor):
                waited = context.waited.get(decided.limit, 0.0) + decided.seconds / 3
                context.waited[decided.limit] = waited
                found.append((decided.reason, decided.limit, decided.seconds, decided.member))
                if waited > decided.seconds:
                    break
                continue
            context.waited.clear()
            futile = repetitions.is_futile(decided, observation)
            found.append((decided.kind, [(step.member, step.line) for step in decided.steps], futile))
            if futile:
                break
            model.carry_out(decided, goal, context)
    except RefusedError as error:
        found.append(error.kind)
    return found


@pytest.mark.parametrize("story", STORIES)
def test_without_texts_everything_is_decided_as_with_them(story: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = decisions(*STORIES[story])
    assert len(expected) > 2
    monkeypatch.setattr(messages, "TEXTS", dict.fromkeys(messages.TEXTS, ""))
    monkeypatch.setattr(messages, "EXPLANATIONS", dict.fromkeys(messages.EXPLANATIONS, Explanation("", "", "")))
    assert decisions(*STORIES[story]) == expected


def test_every_kind_has_a_text() -> None:
    assert messages.TEXTS.keys() == {each for kind in KINDS for each in kind}
    assert messages.EXPLANATIONS.keys() == {*actions.Refusal, *actions.WaitReason, *UnsupportedChange}


DETAILS: dict[str, object] = {
    "action": Action(actions.ActionKind.RESTART, [actions.HostStep("etcd-2", Apply(ApplyAction.RESTART))]),
    "address": "127.0.0.1",
    "alarms": ["OTHER"],
    "all": 3,
    "apart": ["etcd-2"],
    "blocked": actions.Blocked.ANY_RESTART,
    "clock": clocks.describe("etcd-2", 61.0),
    "cluster": "c1",
    "cluster_version": "3.6",
    "commands": "etcdctl user add etcd-2 --no-password; etcdctl user grant-role etcd-2 root",
    "count": 2,
    "database": "/var/lib/etcd/default",
    "directory": "/srv/dev",
    "down": ["etcd-3"],
    "free": "1200 MiB",
    "found": {"etcd-1": "cdf8", "etcd-2": "ef87"},
    "following": ["etcd-1", "etcd-2"],
    "having": ["etcd-1"],
    "key": "recover",
    "changed": ["version"],
    "left": ["etcd-1"],
    "leader": "etcd-1",
    "larger": "4096 MiB",
    "larger_bytes": 4096 * 1024**2,
    "least": "2139 MiB",
    "leaving": ["etcd-3"],
    "limit": "8192 MiB",
    "lost": ["etcd-2", "etcd-3"],
    "backup": "20261127T100000Z-5102-etcd-1",
    "machine": "8a1b",
    "member": "etcd-2",
    "members": ["etcd-2", "etcd-3"],
    "missing": [Missing(MissingKind.USER), Missing(MissingKind.DISK, "/data/etcd")],
    "mounted_over": "tmpfs at /data/etcd",
    "name": "etcd-2",
    "names": ["etcd-2"],
    "new": "/srv/production/etcd/etcd-1",
    "old": "/srv/dev/etcd/etcd-1",
    "other": "etcd-3",
    "others": ["etcd-1"],
    "own": "11aa",
    "owner": "etcd-3",
    "pairs": [BrokenPair("etcd-1", "etcd-2"), BrokenPair("etcd-3", "etcd-2")],
    "path": "/data/etcd/data",
    "paths": ["/etc/systemd/system/etcd-cluster.service.d/override.conf"],
    "ports": ["2389", "2390"],
    "printed": "hello",
    "quota": "2048 MiB",
    "quota_bytes": 2048 * 1024**2,
    "renamed": "database",
    "restored": ["etcd-1"],
    "running": "3.6.16",
    "series": "3.5",
    "service": "etcd.service here is not of this cluster: it is from /usr/lib/systemd/system/etcd.service and runs",
    "source": "etcd-1",
    "starts": "2026-11-26T12:00:00Z",
    "state": "/var/lib/etcd-cluster",
    "times": 2,
    "token": "22bb",
    "tolerance": clocks.CLOCK_TOLERANCE_SECONDS,
    "unknown": {"etcd-2": "no answer"},
    "unreachable": {"etcd-3": "cannot reach 10.0.0.3:22 after 3 attempt(s): No route to host"},
    "used": "1925 MiB",
    "version": "3.6.16",
    "versions": ["3.5", "3.6"],
    "desired": "3.5.35",
}
OF_ONE_REASON: dict[messages.Reason, dict[str, object]] = {
    actions.Refusal.REPLACEMENT_OF_ANSWERING_MACHINE: {"why": "10.0.0.2 refused the key for user admin"},
    actions.Refusal.QUOTA_TOO_SMALL: {"database": "1925 MiB"},
    actions.WaitReason.DATABASES_UNKNOWN: {"names": ["etcd-2"]},
    actions.WaitReason.LEADER_UNKNOWN: {"blocked": actions.Blocked.RESTART, "unknown": ["no answer"]},
    actions.Refusal.CLUSTER_VERSION_UNKNOWN: {"unknown": ["no answer"]},
    actions.Refusal.RESTORE_OF_ANOTHER_CLUSTER: {"found": "8211f1d0f64f3269", "key": "restoreInPlace"},
    actions.Refusal.RECOVERED_WITHOUT: {"members": ["etcd-1"], "missing": ["etcd-2", "etcd-3"]},
    actions.WaitReason.HASHES_UNKNOWN: {"names": ["etcd-2"]},
    actions.WaitReason.HASHES_OF_OTHER_REVISIONS: {"found": {"etcd-1": "5102, 4000", "etcd-2": "5100, 4000"}},
    actions.Refusal.NO_MEMBER_STAYS: {"old": ["etcd-1"], "new": ["etcd-4"]},
    actions.Refusal.USERS_AND_VERSION_CHANGED: {"old": "3.5.35", "new": "3.6.16"},
    actions.Refusal.USER_NAMED_AS_MEMBER: {"names": ["etcd-3"]},
    actions.Refusal.USERS_OF_OTHERS: {
        "users": ["app (roles: x)"],
        "rights": "as root, ",
        "commands": "etcdctl role add etcd-cluster; etcdctl user grant-role app etcd-cluster",
    },
    actions.Refusal.ROLES_OF_OTHERS: {"roles": ["app (of other)"]},
    actions.Refusal.ROLE_OURS_WITH_KEYS: {"role": "etcd-cluster", "count": 1},
    actions.Refusal.DIRECTORY_CHANGED_WITH_CLUSTER: {"cluster": "etcd"},
    **{
        unsupported[0]: {**unsupported[1]}
        for pair in (("3.4.9", "3.7.3"), ("3.5.9", "3.6.16"), ("3.6.16", "3.5.35"), ("3.6.16", "3.6.11"))
        if (unsupported := unsupported_change(*pair))
    },
}


def test_every_explanation_reads_as_reviewed() -> None:
    """`UPDATE_GOLDEN=1 scripts/test tests/unit` writes the golden copy, which is what users see."""
    found = {
        reason: RefusedError(reason, {**DETAILS, **OF_ONE_REASON.get(reason, {})}) for reason in messages.EXPLANATIONS
    }
    text = "\n\n".join(f"{type(reason).__name__}.{reason.name}\n{error}" for reason, error in found.items()) + "\n"
    golden = Path(__file__).with_name("golden") / "explanations.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("reason", messages.EXPLANATIONS, ids=lambda reason: reason.name)
def test_every_explanation_is_one_sentence_each(reason: messages.Reason) -> None:
    parts = vars(messages.EXPLANATIONS[reason]).values()
    assert all(part and not part.endswith(".") and ". " not in part for part in parts)
    assert "run again" not in messages.EXPLANATIONS[reason].fix, "the end of every text says it"


def test_another_reason_for_no_answer_is_no_progress() -> None:
    """What a process says of itself, such as its id, differs from one observation to the next."""
    model, repetitions = Model.running(), Repetitions()
    action = next_action(STORIES["settings"][0].desired, model.observe("abc"), RunContext())
    assert isinstance(action, Action)
    observation = model.observe("abc")
    for text in ("one", "two", "three"):
        host = replace(observation.hosts["b"], live=None, unknown={Question.METRICS: text})
        futile = repetitions.is_futile(action, replace(observation, hosts={**observation.hosts, "b": host}))
    assert futile
