"""The MachineReplacement resource: when a member's machine may be replaced, and when nobody is asked."""

from __future__ import annotations

from typing import Any

import pytest

from etcd_cluster.rollout import machine_replacement_lifecycle
from etcd_cluster.rollout.machine_replacement_lifecycle import MachineReplacementLifecycle
from etcd_cluster.rollout.planner.actions import Refusal
from etcd_cluster.rollout.planner.refusals import RefusedError
from tests.unit.rollout_model import Model
from tests.unit.test_rollout_resource import GOAL, Machines


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Machines:
    """Those of a healthy cluster; its members are a, b and c."""
    found = Machines(Model.running(), GOAL)
    monkeypatch.setattr(machine_replacement_lifecycle, "MemberMachines", found)
    monkeypatch.setattr(machine_replacement_lifecycle, "PATIENCE_SECONDS", -1)
    return found


def inputs(replace_member: str | None = None, **changes: Any) -> dict[str, Any]:
    connections = {name: {"host": GOAL.address(name)} for name in GOAL.names}
    return {**({"replace_member": replace_member} if replace_member else {}), "connections": connections, **changes}


def update(news: dict[str, Any], olds: dict[str, Any] | None = None) -> None:
    olds = olds or inputs()
    assert MachineReplacementLifecycle().diff("", olds, news).changes
    assert MachineReplacementLifecycle().update("", olds, news).outs == news


def is_refused(reason: Refusal, news: dict[str, Any], **details: object) -> None:
    """Also compares the given details."""
    with pytest.raises(RefusedError) as error:
        update(news)
    found = error.value
    assert (found.kind, {**found.details, **details}) == (reason, found.details)


def other_than(name: str) -> str:
    return next(each for each in GOAL.names if each != name)


def test_a_follower_of_a_healthy_cluster_may_go(machines: Machines) -> None:
    leader = machines.model.leader
    update(inputs(other_than(leader)))
    assert machines.opened[0] == (set(GOAL.names), set(GOAL.names), set())
    assert machines.passing
    assert machines.lines == []
    assert machines.model.leader == leader


def test_a_leader_hands_over_first(machines: Machines) -> None:
    leader = machines.model.leader
    update(inputs(leader))
    assert [" change=move-leader " in line for line in machines.lines] == [True]
    assert machines.model.leader != leader


def test_none_goes_while_another_is_down_and_the_other_one_is_named(machines: Machines) -> None:
    name = machines.model.leader
    machines.model.stop(other_than(name))
    is_refused(Refusal.REPLACEMENT_OTHERS_UNHEALTHY, inputs(name), member=name, down=[other_than(name)])
    assert machines.lines == []


def test_none_goes_while_another_machine_is_cut_off(machines: Machines) -> None:
    name = machines.model.leader
    machines.model.machines[other_than(name)].cut_off = True
    is_refused(Refusal.REPLACEMENT_OTHERS_UNHEALTHY, inputs(name))


def test_none_goes_that_runs_though_its_machine_and_its_client_port_give_no_answer(machines: Machines) -> None:
    name = other_than(machines.model.leader)
    third = next(each for each in GOAL.names if each not in (name, machines.model.leader))
    machines.model.machines[name].reachable = False
    machines.model.clients_only = True
    machines.model.stop(third)
    is_refused(Refusal.REPLACEMENT_OTHERS_UNHEALTHY, inputs(name), down=[third])


@pytest.mark.parametrize("others_down", [0, 1, 2])
def test_one_that_is_down_already_may_go_whatever_the_others_are(machines: Machines, others_down: int) -> None:
    name, *others = GOAL.names
    for down in [name, *others[:others_down]]:
        machines.model.stop(down)
    update(inputs(name))


def test_one_whose_machine_is_dead_may_go(machines: Machines) -> None:
    name = other_than(machines.model.leader)
    machines.model.stop(name)
    machines.model.machines[name].reachable = False
    update(inputs(name))


def out_of_reach(machines: Machines, names: tuple[str, ...] = GOAL.names) -> None:
    for name in names:
        machines.model.machines[name].reachable = False


@pytest.mark.parametrize("which", ["leader", "follower"])
def test_none_goes_where_no_machine_can_be_reached(machines: Machines, which: str) -> None:
    """VPN or bastion down, wrong key: nothing was asked, and the leader may be the one."""
    leader = machines.model.leader
    name = leader if which == "leader" else other_than(leader)
    out_of_reach(machines)
    unreachable = dict.fromkeys(GOAL.names, "cannot be reached")
    is_refused(Refusal.REPLACEMENT_UNREACHABLE, inputs(name), member=name, unreachable=unreachable)
    assert machines.lines == []


def test_one_that_cannot_be_reached_is_not_down_where_the_others_have_no_leader_to_ask(machines: Machines) -> None:
    """Two of three are looked at, and are cut off: it may be on the other side."""
    name, *others = GOAL.names
    out_of_reach(machines, (name,))
    for other in others:
        machines.model.machines[other].cut_off = True
    is_refused(Refusal.REPLACEMENT_UNREACHABLE, inputs(name))
    update(inputs(name, is_dead=True))


def test_one_that_is_named_as_dead_goes_unasked(machines: Machines) -> None:
    out_of_reach(machines)
    update(inputs("b", is_dead=True))


def test_one_whose_machine_answers_is_not_dead_whoever_says_so(machines: Machines) -> None:
    """Refused is not gone: it may run and serve."""
    out_of_reach(machines)
    machines.answering = frozenset("b")
    is_refused(Refusal.REPLACEMENT_OF_ANSWERING_MACHINE, inputs("b", is_dead=True), member="b")
    machines.answering = frozenset("ac")
    update(inputs("b", is_dead=True))


@pytest.mark.parametrize("reachable", [True, False])
def test_one_that_is_named_as_dead_and_serves_is_held_to_the_rules_of_one_that_runs(
    machines: Machines, reachable: bool
) -> None:
    name = machines.model.leader
    second, third = [each for each in GOAL.names if each != name]
    machines.model.machines[name].reachable = reachable
    machines.model.stop(third)
    is_refused(Refusal.REPLACEMENT_OTHERS_UNHEALTHY, inputs(name, is_dead=True), down=[third])
    for each in (second, third):
        machines.model.stop(each)
    if reachable:
        is_refused(Refusal.REPLACEMENT_WITHOUT_LEADER, inputs(name, is_dead=True))


def test_one_that_runs_and_does_not_answer_is_not_down(machines: Machines) -> None:
    name, second, _ = GOAL.names
    for machine in machines.model.machines.values():
        machine.mute = 1000
    is_refused(Refusal.REPLACEMENT_MAJORITY_UNKNOWN, inputs(name), unknown=["no answer"])
    for machine in machines.model.machines.values():
        machine.mute = 0
    machines.model.machines[name].frozen = True
    update(inputs(name))
    machines.model.machines[name].frozen = False
    machines.model.stop(second)
    is_refused(Refusal.REPLACEMENT_OTHERS_UNHEALTHY, inputs(name), down=[second])


def test_it_looks_by_the_connections_that_worked_before_as_well(machines: Machines) -> None:
    olds = inputs(connections={name: {"host": "by the old bastion"} for name in GOAL.names})
    update(inputs(other_than(machines.model.leader)), olds)
    assert machines.before == olds["connections"]


def test_states_from_before_a_machine_could_be_named_as_dead_see_no_change() -> None:
    assert not MachineReplacementLifecycle().diff("", inputs(), inputs(is_dead=None)).changes


def test_one_that_runs_may_not_go_where_no_member_leads(machines: Machines) -> None:
    name, *others = GOAL.names
    for other in others:
        machines.model.stop(other)
    is_refused(Refusal.REPLACEMENT_WITHOUT_LEADER, inputs(name))


def test_a_healthy_one_that_cannot_be_reached_from_here_may_not_go_while_another_is_down(machines: Machines) -> None:
    first, second = [name for name in GOAL.names if name != machines.model.leader]
    machines.model.machines[first].reachable = False
    machines.model.stop(second)
    is_refused(Refusal.REPLACEMENT_OTHERS_UNHEALTHY, inputs(first), down=[second])


def test_what_is_about_to_become_healthy_is_waited_for(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    name = machines.model.leader
    cut_off = machines.model.machines[other_than(name)]
    cut_off.cut_off = True
    monkeypatch.setattr(machine_replacement_lifecycle, "PATIENCE_SECONDS", 20)
    monkeypatch.setattr(machine_replacement_lifecycle.time, "sleep", lambda _: setattr(cut_off, "cut_off", False))
    update(inputs(name))


def test_nobody_is_asked_when_there_is_nothing_to_replace(machines: Machines) -> None:
    provider = MachineReplacementLifecycle()
    assert provider.check({}, inputs()).failures == []
    assert provider.create(inputs()).outs == inputs()  # the machines are made then, too
    assert not provider.diff("", inputs(), inputs()).changes
    update(inputs(), inputs("a"))
    update(inputs(connections={}))
    assert machines.opened == []


def test_no_machine_is_replaced_where_the_resource_that_asks_the_others_is_only_being_created(
    machines: Machines,
) -> None:
    """After `pulumi state delete`, or by `pulumi up --replace`, the machines are there already."""
    provider = MachineReplacementLifecycle()
    assert provider.check({}, inputs("a")).failures[0].reason.startswith("replaceMember: a: this run creates")
    assert provider.check(inputs(), inputs("a")).failures == []
    with pytest.raises(RefusedError) as error:
        provider.create(inputs("a"))
    assert error.value.kind is Refusal.REPLACEMENT_IN_FIRST_UP
    assert machines.opened == []


def test_a_prepared_replacement_is_checked_again_as_the_run_may_have_been_killed_before(machines: Machines) -> None:
    first, second = [name for name in GOAL.names if name != machines.model.leader]
    update(inputs(first))
    machines.model.stop(second)
    with pytest.raises(RefusedError) as error:
        update(inputs(first), inputs(first))
    assert error.value.kind is Refusal.REPLACEMENT_OTHERS_UNHEALTHY
