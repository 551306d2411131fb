"""No member starts with an etcd of an older minor version than its data, whatever else is due.

As after an upgrade that was cut off right at its end, when people put the version before it back. Once the stack names
a version that fits, `up` gets out of that by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from etcd_cluster.member.lines import Apply
from etcd_cluster.rollout.planner import next_action
from etcd_cluster.rollout.planner.actions import Action, Refusal, WaitFor, WaitReason
from etcd_cluster.rollout.planner.refusals import RefusedError
from etcd_cluster.rollout.planner.run_context import RunContext
from tests.unit.rollout_model import GIB, TOKEN, Goal, Model
from tests.unit.test_restoration import IN_PLACE, OLD, RECOVER, serve

OLDER, NEWER = "3.5.35", "3.6.16"
ALONE = Goal(("a",), version=OLDER, founders=("a",))


def prepare(model: Model, goal: Goal) -> None:
    for name in goal.names:
        if name not in model.machines:
            model.add_machine(name, goal.address(name), goal.version)
        model.prepare(model.machines[name], goal.version, TOKEN)
        model.machines[name].address = goal.address(name)


def upgraded(before: Goal) -> Model:
    """All members have moved, and the run ended before it told the stack so."""
    model, newer = Model.running(before), replace(before, version=NEWER)
    prepare(model, newer)
    model.run(newer)
    model.log.clear()
    return model


def stop(model: Model, names: str = "abc") -> None:
    for name in names:
        model.stop(name)
    model.elect()


def downed_by_the_older(model: Model, names: str) -> None:
    """Earlier releases of this package started members so, and they ended."""
    stop(model, names)
    for name in names:
        model.machines[name].programs = OLDER


def nothing(_: Model) -> None:
    pass


def full(model: Model) -> None:
    model.fill(int(2.1 * GIB), GIB)


DUE: dict[str, tuple[Callable[[Model], None], dict[str, Any]]] = {
    "nothing else": (nothing, {}),
    "a setting": (nothing, {"user_options": {"log-level": "debug"}}),
    "TLS": (nothing, {"tls": True}),
    "no TLS": (nothing, {"tls": False}),
    "another CA": (nothing, {"trusted": (1, 0)}),
    "a full database": (full, {}),
    "another address": (nothing, {"addresses": {"b": "10.0.0.9"}}),
    "another member": (nothing, {"names": ("a", "b", "c", "d", "e")}),
    "another member for one": (nothing, {"names": ("a", "b", "d")}),
    "a member less": (nothing, {"names": ("a",)}),
    "a member down": (lambda model: stop(model, "b"), {}),
    "a member that leaves down": (lambda model: stop(model, "c"), {"names": ("a", "b")}),
    "a member without its data": (lambda model: model.lose_data("c"), {}),
    "two members down": (lambda model: stop(model, "bc"), {}),
    "all members down": (stop, {}),
    "a member down by the older one": (lambda model: downed_by_the_older(model, "b"), {}),
    "all members down by the older one": (lambda model: downed_by_the_older(model, "abc"), {}),
}


@pytest.mark.parametrize("due", DUE)
def test_whatever_else_is_due_it_is_refused_first_and_the_version_that_is_named_gets_out(due: str) -> None:
    happens, asked = DUE[due]
    before = Goal(version=OLDER, tls=due != "TLS")
    model = upgraded(before)
    happens(model)
    goal = replace(before, **asked)
    prepare(model, goal)
    with pytest.raises(RefusedError) as refused:
        model.run(goal)
    assert refused.value.kind is Refusal.CLUSTER_VERSION_RAISED
    assert model.log == []
    named = replace(goal, version=str(refused.value.details["running"]))
    assert named.version == NEWER
    prepare(model, named)
    assert model.run(named)


@pytest.mark.parametrize("due", ["nothing else", "a setting", "TLS", "no TLS", "another CA", "a full database"])
@pytest.mark.parametrize("happens", [nothing, lambda model: stop(model, "a"), lambda m: downed_by_the_older(m, "a")])
def test_the_only_member_is_kept_from_it_as_well(due: str, happens: Callable[[Model], None]) -> None:
    also, asked = DUE[due]
    before = replace(ALONE, tls=due != "TLS")
    model, goal = upgraded(before), replace(before, **asked)
    also(model)
    happens(model)
    with pytest.raises(RefusedError) as refused:
        model.run(goal)
    assert (refused.value.kind, model.log) == (Refusal.CLUSTER_VERSION_RAISED, [])
    assert model.run(replace(goal, version=NEWER))


@pytest.mark.parametrize("names", ["b", "bc", "abc"])
def test_members_that_were_started_with_the_older_one_start_with_the_newer_one_by_themselves(names: str) -> None:
    model = upgraded(Goal(version=OLDER))
    downed_by_the_older(model, names)
    assert model.run(Goal(version=NEWER))
    assert ", ".join(names) + ": starting" == model.log[0]


def test_without_the_programs_of_its_data_a_member_starts_with_the_desired_ones_if_these_fit() -> None:
    """Its machine was reinstalled, and its disk stayed; the note beside the data is from before the upgrade."""
    model = upgraded(ALONE)
    machine = model.machines["a"]
    machine.process, machine.programs, machine.versions = None, "", {NEWER}
    machine.history = replace(machine.history, series="3.5")
    machine.files.clear()
    assert model.run(replace(ALONE, version=NEWER))


@pytest.mark.parametrize("down", ["", "a", "b", "abc"])
def test_an_older_patch_of_the_same_minor_starts(down: str) -> None:
    model = upgraded(Goal(version="3.6.14"))
    stop(model, down)
    assert model.run(Goal(version="3.6.14"))
    assert all(machine.process and machine.process.version == "3.6.14" for machine in model.machines.values())


@pytest.mark.parametrize("moved", [1, 2])
@pytest.mark.parametrize("down", ["", "b", "c", "abc"])
def test_until_the_last_has_moved_all_go_back(moved: int, down: str) -> None:
    """A member that does not start with the newer version is the reason to."""
    before = Goal(version=OLDER)
    model, newer = Model.running(before), Goal(version=NEWER)
    prepare(model, newer)
    model.run(newer, stop_after=1 + moved)
    stop(model, down)
    assert model.run(before)
    assert all(machine.process and machine.process.version == OLDER for machine in model.machines.values())


def test_the_only_member_that_never_came_up_with_the_newer_version_goes_back() -> None:
    model = Model.running(ALONE)
    prepare(model, replace(ALONE, version=NEWER))
    stop(model, "a")
    model.machines["a"].programs = NEWER
    assert model.run(ALONE)


def test_without_an_answer_about_the_data_no_older_version_starts() -> None:
    model = upgraded(ALONE)
    stop(model, "a")
    model.machines["a"].unreadable = True
    with pytest.raises(RefusedError) as refused:
        model.run(ALONE)
    assert (refused.value.kind, model.log) == (Refusal.CLUSTER_VERSION_UNKNOWN, [])
    model.machines["a"].unreadable = False
    assert model.run(replace(ALONE, version=NEWER))


def test_without_an_answer_of_members_none_joins_with_an_older_version() -> None:
    """Its machine has no other programs."""
    model, goal = upgraded(Goal(version=OLDER)), Goal(("a", "b", "c", "d", "e"), version=OLDER)
    prepare(model, goal)
    model.cluster_version = ""
    model.run(goal, stop_after=1)
    assert [line for line in model.log if line.endswith(": adding d as a learner")]
    model.cluster_version = ""
    with pytest.raises(RefusedError) as refused:
        next_action(goal.desired, model.observe("abcde"), RunContext(added={"d"}))
    assert refused.value.kind is Refusal.CLUSTER_VERSION_UNKNOWN


def test_right_after_the_last_has_moved_it_is_awaited_what_etcd_makes_of_it() -> None:
    model = upgraded(Goal(version=OLDER))
    model.cluster_version = "3.5"
    decided = next_action(Goal(version=OLDER).desired, model.observe("abc"), RunContext())
    assert isinstance(decided, WaitFor)
    assert decided.reason is WaitReason.VERSION_MAY_RISE
    model.cluster_version = "3.6"
    with pytest.raises(RefusedError):
        model.run(Goal(version=OLDER))
    assert model.log == []


def test_a_downgrade_that_people_have_enabled_goes_on() -> None:
    """etcd has set the version of the cluster back, and does not raise it."""
    model = upgraded(Goal(version=OLDER))
    model.cluster_version = "3.5"
    assert model.run(Goal(version=OLDER))
    assert all(machine.process and machine.process.version == OLDER for machine in model.machines.values())


def test_nobody_waits_for_a_version_that_cannot_rise() -> None:
    model = upgraded(Goal(version=OLDER))
    model.cluster_version = model.machines["b"].raised = "3.5"
    stop(model, "b")
    decided = next_action(Goal(version=OLDER).desired, model.observe("abc"), RunContext())
    assert isinstance(decided, Action)
    (step,) = decided.steps
    assert isinstance(step.line, Apply)
    assert (step.member, step.line.version) == ("b", OLDER)


def test_the_backup_from_before_the_upgrade_is_restored_with_the_version_of_then() -> None:
    model = upgraded(Goal(version=OLDER))
    model.cluster = OLD
    for machine in model.machines.values():
        machine.data_of = OLD
    goal = replace(IN_PLACE, version=OLDER)
    assert serve(model, goal)
    assert model.run(replace(Goal(), version=OLDER), context=RunContext(given_up=frozenset({OLD})))
    assert all(machine.process and machine.process.version == OLDER for machine in model.machines.values())


@pytest.mark.parametrize("is_stopped", [True, False])
def test_a_member_s_own_data_are_not_recovered_with_an_older_version(is_stopped: bool) -> None:
    model = upgraded(Goal(version=OLDER))
    model.cluster = OLD
    for machine in model.machines.values():
        machine.data_of = OLD
    for name in "bc":
        model.lose_data(name)
        model.prepare(model.machines[name], OLDER, TOKEN)
    if is_stopped:
        downed_by_the_older(model, "a")
    with pytest.raises(RefusedError) as refused:
        serve(model, replace(RECOVER, version=OLDER))
    assert refused.value.kind is Refusal.CLUSTER_VERSION_RAISED
    assert model.machines["a"].data_of == OLD
    prepare(model, Goal(version=NEWER))
    assert serve(model, replace(RECOVER, version=NEWER))
