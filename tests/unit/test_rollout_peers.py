"""Healthy means that members reach one another: what a run does, and does not do, while some do not."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from etcd_cluster.rollout.observed import BrokenPair, Observation
from etcd_cluster.rollout.planner import differences, next_action, quorum
from etcd_cluster.rollout.planner.actions import Action, ActionKind, DriftKind, WaitFor, WaitReason
from etcd_cluster.rollout.planner.messages import describe
from etcd_cluster.rollout.planner.refusals import RefusedError
from etcd_cluster.rollout.planner.run_context import RunContext
from etcd_cluster.rollout.reports import PeerTest, with_peer_tests
from tests.unit.rollout_model import CONFIGURATION, Goal, Model, usual_address

GOAL = Goal()
OLD = Goal(version="3.5.35")
"""A version that cannot be told from which address to connect."""
FIVE = ("a", "b", "c", "d", "e")
SETTINGS: dict[str, object] = {"heartbeat-interval": 200, "election-timeout": 2000}
SECOND = {name: f"10.0.9.{number}" for number, name in enumerate(FIVE, 1)}


@cache
def formed(version: str, names: tuple[str, ...]) -> Model:
    return Model.running(Goal(names, version, founders=names))


def running(goal: Goal) -> Model:
    return copy.deepcopy(formed(goal.version, goal.names))


def observe(model: Model) -> Observation:
    return model.observe(list(model.machines))


def refused(model: Model, goal: Goal, **run: Any) -> RefusedError:
    """Nothing is done before that."""
    before = len(model.log)
    with pytest.raises(RefusedError) as error:
        model.run(goal, **run)
    assert model.log[before:] == []
    return error.value


def up(model: Model, goal: Goal, **run: Any) -> list[str]:
    before = len(model.log)
    for name in goal.names:
        machine = model.machines.get(name) or model.add_machine(name, goal.address(name), "")
        model.prepare(machine, goal.version)
    model.run(goal, **run)
    return model.log[before:]


def with_second_addresses(model: Model) -> Model:
    for name, machine in model.machines.items():
        machine.second_address = SECOND[name]
    return model


def with_routes_from_them(model: Model) -> Model:
    for machine in model.machines.values():
        machine.address, machine.second_address = machine.second_address, machine.address
    return model


def moved(goal: Goal, *names: str) -> Goal:
    return replace(goal, addresses={name: SECOND[name] for name in names})


# --- what is observed ---


def test_a_pair_is_broken_if_one_of_the_two_does_not_reach_the_other() -> None:
    model = running(GOAL)
    assert observe(model).broken_pairs == []
    model.machines["c"].peer_port_closed = True
    assert observe(model).broken_pairs == [BrokenPair("a", "c"), BrokenPair("b", "c")]
    assert all(observe(model).is_healthy(name) for name in GOAL.names), "clients see nothing of that"


def test_a_count_that_stays_too_high_hides_no_member_that_others_do_not_reach() -> None:
    """A member that has joined counts its peers for good, until it restarts."""
    model, goal = running(GOAL), replace(GOAL, names=("a", "b", "c", "d"))
    up(model, goal)
    model.machines["a"].peer_port_closed = True
    assert not model.reaches(model.machines["d"], model.machines["a"])
    assert observe(model).broken_pairs == [BrokenPair("b", "a"), BrokenPair("c", "a")]


def test_a_count_that_stays_too_low_breaks_no_pair_whose_port_answers() -> None:
    model = running(GOAL)
    model.machines["c"].peer_port_closed = True
    seen = observe(model)
    urls = {member.name: member.peer_url for member in seen.members}
    tests = {name: PeerTest(frozenset([urls[peer]]), frozenset()) for name, peer in (("a", "c"), ("b", "a"))}
    assert with_peer_tests(seen, tests).broken_pairs == [BrokenPair("b", "c")]


def test_members_that_do_not_run_or_were_removed_are_in_no_pair() -> None:
    model = running(GOAL)
    model.stop("c")
    assert observe(model).broken_pairs == []
    model.members = [each for each in model.members if each.name != "c"]
    assert observe(model).broken_pairs == []


def test_without_a_leader_all_that_report_are_in_pairs() -> None:
    model = running(OLD)
    for machine in model.machines.values():
        machine.peer_port_closed = True
    assert len(observe(model).broken_pairs) == 6


# --- nothing moves ---

CHANGES = {
    "nothing": GOAL,
    "settings": replace(GOAL, user_options=SETTINGS),
    "version": replace(GOAL, version="3.6.17"),
    "a member more": replace(GOAL, names=FIVE),
    "a member fewer": replace(GOAL, names=("a", "b")),
    "CA": replace(GOAL, trusted=(1, 0)),
    "an address": replace(GOAL, addresses={"b": SECOND["b"]}),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("closed", GOAL.names)
def test_nothing_moves_while_a_firewall_closes_a_peer_port(change: str, closed: str) -> None:
    model, goal = with_second_addresses(running(GOAL)), CHANGES[change]
    leaves = change == "a member fewer" and closed == "c"
    model.machines[closed].peer_port_closed = True
    for name in goal.names:
        model.prepare(model.machines.get(name) or model.add_machine(name, usual_address(name), ""), goal.version)
    if leaves or (change == "an address" and closed == "b"):
        return  # changes that may reconnect them: see below
    error = refused(model, goal)
    assert error.kind is WaitReason.BROKEN_PAIRS
    assert {pair.peer for pair in error.details["pairs"]} == {closed}  # type: ignore[attr-defined]
    model.machines[closed].peer_port_closed = False
    up(model, goal)
    assert next_action(goal.desired, observe(model), RunContext()) is None


def test_a_wait_names_each_pair_and_differs_from_the_desired_state() -> None:
    model = running(GOAL)
    model.machines["c"].peer_port_closed = True
    observation = observe(model)
    decided = next_action(GOAL.desired, observation, RunContext())
    assert isinstance(decided, WaitFor)
    assert decided.pairs == [BrokenPair("a", "c"), BrokenPair("b", "c")]
    assert "a does not reach c, b does not reach c" in describe(decided)
    (drift,) = differences(GOAL.desired, observation, "a")
    assert (drift.kind, describe(drift)) == (DriftKind.BROKEN_PAIR, "does not reach c")
    assert differences(GOAL.desired, observation, "c") == []


def test_a_firewall_that_is_closed_in_the_middle_of_a_roll_stops_it_there() -> None:
    model, goal = running(GOAL), replace(GOAL, user_options=SETTINGS)
    model.run(goal, stop_after=1)
    model.machines["b"].peer_port_closed = True
    assert refused(model, goal).kind is WaitReason.BROKEN_PAIRS


# --- leadership ---


def test_leadership_goes_only_to_a_member_that_all_others_reach() -> None:
    model = running(GOAL)
    observation = observe(model)
    leader, first, second = "a", "b", "c"
    assert observation.leader == leader
    own = {observation.hosts[leader].live.id}  # type: ignore[union-attr]

    def next_leader(*pairs: tuple[str, str]) -> str | None:
        apart = copy.copy(observation)
        apart.__dict__["broken_pairs"] = [BrokenPair(*pair) for pair in pairs]
        found = quorum.successor(apart, GOAL.names, own)
        return found.name if found else None

    assert next_leader() == first
    assert next_leader((leader, first)) == second
    assert next_leader((first, leader)) == second
    assert next_leader((first, leader), (second, leader)) == first, "the leader itself is not reached"
    assert next_leader((first, second)) is None
    assert next_leader((second, first)) is None


# --- what may reconnect them ---


@pytest.mark.parametrize("names", [("c",), ("c", "b"), ("c", "b", "a")])
def test_addresses_are_changed_one_after_the_other_where_etcd_can_choose_its_own(names: tuple[str, ...]) -> None:
    model = with_second_addresses(running(GOAL))
    for count in range(1, len(names) + 1):
        goal = moved(GOAL, *names[:count])
        assert up(model, goal)
        assert model.broken_pairs() == []
        assert up(model, goal) == []


def test_where_etcd_cannot_the_run_stops_at_the_first_and_goes_on_once_the_route_is_right() -> None:
    model = with_second_addresses(running(OLD))
    goal = moved(OLD, "c")
    with pytest.raises(RefusedError) as error:
        up(model, goal)
    assert error.value.kind is WaitReason.BROKEN_PAIRS
    assert model.log[-1] == "c: restarting"
    assert refused(model, moved(OLD, "c", "b")).kind is WaitReason.BROKEN_PAIRS
    with_routes_from_them(model)
    up(model, moved(OLD, "a", "b", "c"))
    assert model.broken_pairs() == []


@pytest.mark.parametrize("at_first", [("c",), ("c", "b"), ("c", "a")])
def test_the_way_back_to_the_old_addresses_repairs_them(at_first: tuple[str, ...]) -> None:
    """As an earlier release left a cluster that was moved: some of its members reject one another."""
    model = with_second_addresses(running(OLD))
    leave_moved(model, at_first)
    assert model.broken_pairs()
    up(model, OLD)
    assert model.broken_pairs() == []


@pytest.mark.parametrize("at_first", [("c",), ("c", "b"), ("c", "a"), ("a", "b", "c")])
def test_an_update_of_the_package_repairs_a_cluster_that_an_earlier_release_has_moved(
    at_first: tuple[str, ...],
) -> None:
    model = with_second_addresses(running(GOAL))
    leave_moved(model, at_first)
    assert model.broken_pairs()
    up(model, moved(GOAL, *at_first))
    assert model.broken_pairs() == []


def leave_moved(model: Model, names: tuple[str, ...]) -> None:
    """Without the choice of an address, which earlier releases did not make."""
    version = model.machines["a"].programs
    for name in names:
        model.log.append(f"-- {name} was moved")
        machine, goal = model.machines[name], moved(Goal(version=version), *names)
        spec = goal.desired.spec(name, goal.desired.security, version)
        for file in [*goal.desired.certificate_files(name), *goal.desired.start_files(name, spec, goal.desired.trust)]:
            model._put(machine, file)
        model._listing(machine.data_id).peer_url = spec.peer_url
        model.stop(name)
    for machine in model.machines.values():
        file = machine.files[CONFIGURATION]
        machine.files[CONFIGURATION] = replace(file, content=file.content.replace(",SetMemberLocalAddr=true", ""))
        assert "SetMemberLocalAddr" not in machine.content(CONFIGURATION)
        machine.process = None
        model.start(machine)
    model.elect()


def test_a_member_that_is_cut_off_from_others_may_leave() -> None:
    model, goal = running(GOAL), replace(GOAL, names=("a", "b"))
    model.machines["c"].peer_port_closed = True
    assert up(model, goal)[0] == "a: removing c"


def test_two_that_are_cut_off_may_leave_one_after_the_other() -> None:
    goal = Goal(names=FIVE, founders=FIVE)
    model = running(goal)
    for name in ("d", "e"):
        model.machines[name].peer_port_closed = True
    assert up(model, replace(goal, names=("a", "b", "c")))[:2] == ["a: removing d", "a: removing e"]


def test_a_dead_member_is_replaced_before_the_others_are_reconnected() -> None:
    """Without a quorum to spare, no running member restarts; one that people have stopped is started as is desired."""
    model = with_second_addresses(running(GOAL))
    leave_moved(model, ("b",))
    model.reinstall("c")
    with pytest.raises(RefusedError) as error:
        up(model, moved(GOAL, "b"))
    assert error.value.kind is WaitReason.BROKEN_PAIRS
    assert model.log[-1] == "a: removing the old membership of c, whose data are gone"
    model.stop("b")
    lines = up(model, moved(GOAL, "b"))
    assert lines[:2] == ["b: starting", "a: adding c as a learner"]
    assert model.broken_pairs() == []


def test_a_learner_is_promoted_only_once_all_reach_it() -> None:
    model, goal = running(GOAL), replace(GOAL, names=("a", "b", "c", "d"))
    for name in ("d",):
        model.prepare(model.add_machine(name, usual_address(name), ""), goal.version)
    model.machines["d"].peer_port_closed = True
    with pytest.raises(RefusedError) as error:
        model.run(goal)
    assert error.value.kind is WaitReason.BROKEN_PAIRS
    assert [each.name for each in model.members if each.learner] == ["d"]
    model.machines["d"].peer_port_closed = False
    up(model, goal)
    assert not [each for each in model.members if each.learner]


# --- forming ---


def test_forming_on_second_addresses_succeeds_where_etcd_can_choose_its_own() -> None:
    goal = moved(GOAL, *GOAL.names)
    model = blank_at_first_addresses(goal)
    model.run(goal, context=RunContext(forming=True))
    assert model.broken_pairs() == []


def test_forming_on_second_addresses_names_the_pairs_where_etcd_cannot() -> None:
    goal = moved(OLD, *OLD.names)
    model = blank_at_first_addresses(goal)
    with pytest.raises(RefusedError) as error:
        model.run(goal, context=RunContext(forming=True))
    assert error.value.kind is WaitReason.NO_LEADER_AND_BROKEN_PAIRS
    assert "a does not reach b" in str(error.value)


def blank_at_first_addresses(goal: Goal) -> Model:
    model = Model.blank(goal)
    for name, machine in model.machines.items():
        machine.address, machine.second_address = usual_address(name), goal.address(name)
    return model


def test_forming_ends_only_once_all_reach_one_another() -> None:
    model = Model.blank(GOAL)
    model.machines["c"].peer_port_closed = True
    with pytest.raises(RefusedError) as error:
        model.run(GOAL, context=RunContext(forming=True))
    assert error.value.kind is WaitReason.BROKEN_PAIRS


def test_certificates_come_before_restarts() -> None:
    model, goal = running(GOAL), replace(GOAL, renewals={"c": 1})
    model.machines["c"].peer_port_closed = True
    decided = next_action(goal.desired, observe(model), RunContext())
    assert isinstance(decided, Action)
    assert decided.kind is ActionKind.RENEW_CERTIFICATES
