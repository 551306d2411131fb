"""The Renewal resource: when a member's machine may be replaced, and when nobody is asked."""

from __future__ import annotations

from typing import Any

import pytest

from etcd_cluster.rollout import renewal
from etcd_cluster.rollout.plan.acts import RefusedError
from etcd_cluster.rollout.renewal import RenewalProvider
from tests.unit.rollout_model import Model
from tests.unit.test_rollout_resource import GOAL, Machines


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Machines:
    """Those of a healthy cluster; its members are a, b and c."""
    found = Machines(Model.running(), GOAL)
    monkeypatch.setattr(renewal, "MemberMachines", found)
    monkeypatch.setattr(renewal, "PATIENCE_SECONDS", -1)
    return found


def inputs(renew: str | None = None, **changes: Any) -> dict[str, Any]:
    connections = {name: {"host": GOAL.address(name)} for name in GOAL.names}
    return {**({"renew": renew} if renew else {}), "connections": connections, **changes}


def update(news: dict[str, Any], olds: dict[str, Any] | None = None) -> None:
    olds = olds or inputs()
    assert RenewalProvider().diff("", olds, news).changes
    assert RenewalProvider().update("", olds, news).outs == news


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
    assert [" do=lead " in line for line in machines.lines] == [True]
    assert machines.model.leader != leader


def test_none_goes_while_another_is_down_and_the_other_one_is_named(machines: Machines) -> None:
    name = machines.model.leader
    machines.model.stop(other_than(name))
    with pytest.raises(RefusedError, match=f"machine of {name} is not replaced while {other_than(name)} is not health"):
        update(inputs(name))
    assert machines.lines == []


def test_none_goes_while_another_machine_is_cut_off(machines: Machines) -> None:
    name = machines.model.leader
    machines.model.machines[other_than(name)].cut_off = True
    with pytest.raises(RefusedError, match="is not replaced while"):
        update(inputs(name))


def test_none_goes_that_runs_though_its_machine_and_its_client_port_give_no_answer(machines: Machines) -> None:
    name = other_than(machines.model.leader)
    third = next(each for each in GOAL.names if each not in (name, machines.model.leader))
    machines.model.machines[name].reachable = False
    machines.model.clients_only = True
    machines.model.stop(third)
    with pytest.raises(RefusedError, match=f"is not replaced while {third} is not healthy"):
        update(inputs(name))


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


def test_one_that_runs_may_not_go_where_no_member_leads(machines: Machines) -> None:
    name, *others = GOAL.names
    for other in others:
        machines.model.stop(other)
    with pytest.raises(RefusedError, match="is not replaced while it runs, but no member leads"):
        update(inputs(name))


def test_a_healthy_one_that_cannot_be_reached_from_here_may_not_go_while_another_is_down(machines: Machines) -> None:
    first, second = [name for name in GOAL.names if name != machines.model.leader]
    machines.model.machines[first].reachable = False
    machines.model.stop(second)
    with pytest.raises(RefusedError, match=f"is not replaced while {second} is not healthy"):
        update(inputs(first))


def test_what_is_about_to_become_healthy_is_waited_for(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    name = machines.model.leader
    cut_off = machines.model.machines[other_than(name)]
    cut_off.cut_off = True
    monkeypatch.setattr(renewal, "PATIENCE_SECONDS", 20)
    monkeypatch.setattr(renewal.time, "sleep", lambda _: setattr(cut_off, "cut_off", False))
    update(inputs(name))


def test_nobody_is_asked_when_there_is_nothing_to_replace(machines: Machines) -> None:
    provider = RenewalProvider()
    assert provider.create(inputs("a")).outs == inputs("a")  # the machines are made then, too
    assert not provider.diff("", inputs(), inputs()).changes
    update(inputs(), inputs("a"))
    update(inputs(connections={}))
    assert machines.opened == []


def test_what_was_let_go_is_asked_about_again_as_the_run_may_have_been_killed_before(machines: Machines) -> None:
    first, second = [name for name in GOAL.names if name != machines.model.leader]
    update(inputs(first))
    machines.model.stop(second)
    with pytest.raises(RefusedError, match=f"{first} is not replaced while {second} is not healthy"):
        update(inputs(first), inputs(first))
