"""The MachineReplacement resource: when a member's machine may be replaced, and when nobody is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pulumi
import pytest

from etcd_cluster.rollout import MachineReplacement, machine_replacement_lifecycle
from etcd_cluster.rollout.machine_replacement_lifecycle import MachineReplacementLifecycle
from etcd_cluster.rollout.observed import Host, Observation
from etcd_cluster.rollout.planner import quorum
from etcd_cluster.rollout.planner.actions import Refusal
from etcd_cluster.rollout.planner.refusals import RefusedError
from tests.unit.recording import Recorded, Recording, record
from tests.unit.rollout_model import GIB, Model
from tests.unit.test_rollout_resource import GOAL, Machines


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Machines:
    """Those of a healthy cluster; its members are a, b and c."""
    found = Machines(Model.running(), GOAL)
    monkeypatch.setattr(machine_replacement_lifecycle, "ClusterMachines", found)
    monkeypatch.setattr(machine_replacement_lifecycle, "PATIENCE_SECONDS", -1)
    return found


def inputs(replace_member: str | None = None, **changes: Any) -> dict[str, Any]:
    connections = {name: {"host": GOAL.address(name)} for name in GOAL.names}
    asked = {"replace_member": replace_member, "run": "this run"} if replace_member else {"run": ""}
    return {**asked, "connections": connections, **changes}


def update(news: dict[str, Any], olds: dict[str, Any] | None = None) -> None:
    olds = olds or inputs()
    assert MachineReplacementLifecycle().diff("", olds, news).changes
    assert MachineReplacementLifecycle().update("", olds, news).outs == {"run": "", **news}


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
    assert provider.create(inputs()).outs == {**inputs(), "run": ""}  # the machines are made then, too
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


def see(machines: Machines, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """What is looked at has these changes."""
    observe = machines.observe
    monkeypatch.setattr(machines, "observe", lambda **how: replace(observe(**how), **changes))


def see_host(machines: Machines, monkeypatch: pytest.MonkeyPatch, name: str, change: Callable[[Host], Host]) -> None:
    observe = machines.observe

    def changed(**how: Any) -> Observation:
        found = observe(**how)
        return replace(found, hosts={**found.hosts, name: change(found.hosts[name])})

    monkeypatch.setattr(machines, "observe", changed)


def test_unknown_alarms_are_not_no_alarms(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    name = other_than(machines.model.leader)
    see(machines, monkeypatch, alarms=None)
    is_refused(Refusal.REPLACEMENT_ALARMS_UNKNOWN, inputs(name), source=machines.model.leader)
    machines.model.stop(name)
    update(inputs(name))


def test_one_of_two_voters_does_not_go(machines: Machines) -> None:
    """As after an `up` that ended between two members: the other one alone is no majority."""
    leader = machines.model.leader
    name, gone = [each for each in GOAL.names if each != leader]
    machines.model.members = [each for each in machines.model.members if each.name != gone]
    is_refused(Refusal.REPLACEMENT_WITHOUT_MAJORITY, inputs(name), others=[leader], count=2)


def test_the_only_member_may_go(machines: Machines) -> None:
    name = machines.model.leader
    machines.model.members = [each for each in machines.model.members if each.name == name]
    for other in GOAL.names:
        if other != name:
            machines.model.stop(other)
    update(inputs(name))


def test_none_goes_while_one_serves_in_another_cluster(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    name = other_than(machines.model.leader)
    see_host(machines, monkeypatch, name, lambda host: replace(host, live=host.live and replace(host.live, id="99")))
    is_refused(Refusal.REPLACEMENT_IN_TWO_CLUSTERS, inputs(name), apart=[name])
    is_refused(Refusal.REPLACEMENT_IN_TWO_CLUSTERS, inputs(machines.model.leader), apart=[name])


def test_a_leader_whose_followers_machines_are_out_of_reach_hands_over_all_the_same(machines: Machines) -> None:
    leader = machines.model.leader
    out_of_reach(machines, tuple(name for name in GOAL.names if name != leader))
    update(inputs(leader))
    assert machines.model.leader != leader


def test_a_leader_that_nobody_can_follow_does_not_go(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    leader = machines.model.leader
    monkeypatch.setattr(quorum, "successor", lambda *_: None)
    is_refused(Refusal.NO_SUCCESSOR, inputs(leader), leader=leader)


def test_one_where_another_etcd_runs_does_not_go(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own disk, which goes with it, may hold that one's data."""
    see_host(machines, monkeypatch, "b", lambda host: replace(host, foreign="/var/lib/etcd", pid="", live=None))
    is_refused(Refusal.REPLACEMENT_OF_FOREIGN_ETCD, inputs("b"), database="/var/lib/etcd")


def test_one_that_is_named_as_dead_does_not_go_while_another_follows_a_leader(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its machine does not answer from here; it may lead, and the majority may need it."""
    leader = machines.model.leader
    out_of_reach(machines, (leader,))
    see(machines, monkeypatch, status_source=None, members=(), healthy=frozenset())
    is_refused(Refusal.REPLACEMENT_MAJORITY_UNKNOWN, inputs(leader, is_dead=True), member=leader)


def test_none_goes_in_a_run_whose_quota_the_data_do_not_fit_in(machines: Machines) -> None:
    """The rollout refuses that quota, and the member would not come back."""
    name = other_than(machines.model.leader)
    machines.model.database_bytes = GIB
    update(inputs(name, quota_bytes=2 * GIB))
    is_refused(Refusal.QUOTA_TOO_SMALL, inputs(name, quota_bytes=GIB))
    assert MachineReplacementLifecycle().diff("", inputs(), inputs(quota_bytes=GIB)).changes is False


def test_a_run_that_leaves_the_resource_out_replaces_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """`pulumi up --target`: the engine answers with what an earlier run left."""

    def registered(*, asks: bool) -> Recording:
        def program() -> None:
            guard = MachineReplacement(
                "guard", replace_member="b", connections={}, quota_bytes=GIB, opts=pulumi.ResourceOptions()
            )
            pulumi.ComponentResource(
                "test:index:Machine", "machine", {}, pulumi.ResourceOptions(depends_on=[guard.once_asked()])
            )

        def results(resource: Recorded) -> dict[str, Any]:
            return {**resource.inputs, **({} if asks else {"run": ""})}

        return record(program, results=results)

    assert "machine" in registered(asks=True).resources
    with pytest.raises(RefusedError) as error:
        registered(asks=False)
    assert error.value.kind is Refusal.REPLACEMENT_WITHOUT_ASKING


def test_a_prepared_replacement_is_checked_again_as_the_run_may_have_been_killed_before(machines: Machines) -> None:
    first, second = [name for name in GOAL.names if name != machines.model.leader]
    update(inputs(first))
    machines.model.stop(second)
    with pytest.raises(RefusedError) as error:
        update(inputs(first), inputs(first))
    assert error.value.kind is Refusal.REPLACEMENT_OTHERS_UNHEALTHY
