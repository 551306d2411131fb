"""Text never decides: with every text empty, a rollout decides the same, and waits as long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import Enum

import pytest

from etcd_cluster.rollout.observed import Missing, MissingKind, Question
from etcd_cluster.rollout.planner import actions, differences, messages, next_action
from etcd_cluster.rollout.planner.actions import Action, RefusedError, RunContext, WaitFor
from etcd_cluster.rollout.repetitions import Repetitions
from tests.unit.rollout_model import CONFIGURATION, Goal, Model

GOAL = Goal()
KINDS: list[type[Enum]] = [
    actions.ActionKind,
    actions.WaitReason,
    actions.DriftKind,
    actions.Blocked,
    actions.TrustScope,
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


def muted(model: Model) -> None:
    for machine in model.machines.values():
        machine.mute = 1000


STORIES: dict[str, tuple[Goal, Callable[[Model], None]]] = {
    "settings": (replace(GOAL, user_options={"heartbeat-interval": 200, "election-timeout": 2000}), stopped()),
    "CA": (replace(GOAL, trusted=(1, 0)), stopped()),
    "plaintext": (replace(GOAL, tls=False), stopped()),
    "a member fewer": (replace(GOAL, names=("a", "b")), stopped("c")),
    "spoilt": (GOAL, spoilt),
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
    except RefusedError:
        found.append(RefusedError)
    return found


@pytest.mark.parametrize("story", STORIES)
def test_without_texts_everything_is_decided_as_with_them(story: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = decisions(*STORIES[story])
    assert len(expected) > 2
    monkeypatch.setattr(messages, "TEXTS", dict.fromkeys(messages.TEXTS, ""))
    assert decisions(*STORIES[story]) == expected


def test_every_kind_has_a_text() -> None:
    assert messages.TEXTS.keys() == {each for kind in KINDS for each in kind}


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
