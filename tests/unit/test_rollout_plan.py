"""What is done next to a cluster, for each situation: the order, its preconditions, and what is refused.

Clusters are those of rollout_model.py: members a, b and c run, and a leads, unless a test says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import yaml

from etcd_cluster.etcd.versions import UnsupportedChange
from etcd_cluster.member.layout import FOUNDING
from etcd_cluster.member.lines import (
    Apply,
    ApplyAction,
    HashData,
    HashKeys,
    Membership,
    MembershipChange,
    Restore,
    Snapshot,
    Until,
    V2Store,
)
from etcd_cluster.member.machines import StepFailedError
from etcd_cluster.member.render import PeerSecurity, Security, Transport
from etcd_cluster.rollout.desired import (
    PROFILE_PATH,
    UNIT_PATH,
    DesiredCluster,
    DesiredDefragmentation,
    RestoredBackup,
)
from etcd_cluster.rollout.observed import Alarm, Defragmented, History, KeyHash, Missing, MissingKind, Observation
from etcd_cluster.rollout.planner import data, differences, messages, next_action
from etcd_cluster.rollout.planner.actions import (
    CHANGE_SECONDS,
    HEALTH_SECONDS,
    LEADER_SECONDS,
    SYNC_SECONDS,
    Action,
    ActionKind,
    HostStep,
    Refusal,
    WaitFor,
    WaitReason,
)
from etcd_cluster.rollout.planner.cluster_view import ClusterView
from etcd_cluster.rollout.planner.messages import describe
from etcd_cluster.rollout.planner.refusals import RefusedError
from etcd_cluster.rollout.planner.run_context import RunContext, V2Data
from tests.unit.rollout_model import (
    BOOTSTRAP,
    CA,
    CONFIGURATION,
    GIB,
    MIB,
    OF_CLIENTS,
    OF_PEERS,
    PEER,
    PEER_CA,
    SERVER,
    SERVER_KEY,
    Goal,
    Model,
    certificate_pair,
    issuer,
    usual_address,
)

GOAL = Goal()
SETTINGS = replace(GOAL, user_options={"heartbeat-interval": 200, "election-timeout": 2000})
FIVE = replace(GOAL, names=("a", "b", "c", "d", "e"))
CLUSTERS = [
    GOAL,
    replace(GOAL, tls=False),
    replace(GOAL, trusted=(1, 0)),
    replace(GOAL, names=("a",), founders=("a",)),
    replace(FIVE, founders=FIVE.names, version="3.4.9"),
]


def decide(model: Model, goal: Goal, context: RunContext | None = None) -> Action | WaitFor | None:
    return next_action(goal.desired, model.observe(list(model.machines)), context or RunContext())


def action(model: Model, goal: Goal, context: RunContext | None = None) -> Action:
    decided = decide(model, goal, context)
    assert isinstance(decided, Action), decided
    return decided


def wait(model: Model, goal: Goal, context: RunContext | None = None) -> WaitFor:
    decided = decide(model, goal, context)
    assert isinstance(decided, WaitFor), decided
    return decided


def refused(model: Model, goal: Goal, context: RunContext | None = None) -> RefusedError:
    with pytest.raises(RefusedError) as error:
        decide(model, goal, context)
    return error.value


def is_refused(reason: messages.Reason, desired: DesiredCluster, observation: Observation, **context: Any) -> None:
    with pytest.raises(RefusedError) as error:
        next_action(desired, observation, RunContext(**context))
    assert error.value.kind is reason


def log(model: Model, goal: Goal, **run: Any) -> list[str]:
    """All that is done, until nothing is left to do."""
    for name in goal.names:
        if name not in model.machines:
            model.add_machine(name, goal.address(name), goal.version)
        model.prepare(model.machines[name], goal.version)
        model.machines[name].address = goal.address(name)
    model.run(goal, **run)
    return model.log


def applied(step: HostStep) -> Apply:
    assert isinstance(step.line, Apply)
    return step.line


def written(step: HostStep) -> set[str]:
    return {file.path for file in step.files}


def configuration(step: HostStep, path: str = CONFIGURATION) -> dict[str, Any]:
    content = next(file.content for file in step.files if file.path == path)
    settings: dict[str, Any] = yaml.safe_load(content)
    return settings


# --- nothing to do ---


@pytest.mark.parametrize("goal", CLUSTERS, ids=str)
def test_nothing_is_done_to_a_cluster_that_is_as_it_should_be(goal: Goal) -> None:
    model = Model.running(goal)
    assert decide(model, goal) is None
    assert all(differences(goal.desired, model.observe(goal.names), name) == [] for name in goal.names)


def test_how_hosts_are_reached_and_what_the_next_destroy_does_change_nothing_on_them() -> None:
    desired = replace(GOAL.desired, delete_data=True)
    assert next_action(desired, Model.running().observe(GOAL.names), RunContext()) is None


# --- one member at a time ---


def test_followers_are_restarted_in_order_and_the_leader_last_after_it_has_handed_over() -> None:
    model = Model.running()
    assert log(model, SETTINGS) == [
        "b: restarting",
        "c: restarting",
        "a: handing leadership over to b",
        "a: restarting",
    ]


def test_a_restart_waits_until_the_member_serves_and_has_caught_up_and_brings_all_it_reads_at_its_start() -> None:
    model = Model.running()
    (step,) = action(model, SETTINGS).steps
    line = applied(step)
    assert (line.action, line.until) == (ApplyAction.RESTART, Until.SERVING)
    assert line.index == model.observe(GOAL.names).index
    assert written(step) >= {CONFIGURATION, UNIT_PATH, CA}
    assert configuration(step)["heartbeat-interval"] == 200


def test_a_lone_member_is_restarted_without_a_hand_over() -> None:
    alone = replace(GOAL, names=("a",), founders=("a",))
    assert log(Model.running(alone), replace(alone, user_options={"log-level": "debug"})) == ["a: restarting"]


def test_leadership_goes_to_the_member_that_has_applied_most_among_those_that_are_level_to_the_first() -> None:
    model = Model.running()
    log(model, SETTINGS, stop_after=2)
    observation = model.observe(GOAL.names)
    behind = observation.hosts["b"]
    assert behind.live
    slow = replace(behind, live=replace(behind.live, applied=observation.index - 500))
    decided = next_action(SETTINGS.desired, replace(observation, hosts={**observation.hosts, "b": slow}), RunContext())
    assert isinstance(decided, Action)
    assert messages.summary(decided) == "handing leadership over to c"


def test_the_unhealthy_member_comes_first_if_a_restart_is_due_for_it() -> None:
    model = Model.running()
    model.machines["c"].cut_off = True
    (step,) = action(model, SETTINGS).steps
    assert (step.member, applied(step).action) == ("c", ApplyAction.RESTART)


def test_an_unhealthy_member_that_is_as_it_should_be_is_waited_for_and_nothing_else_is_done() -> None:
    model = Model.running()
    model.machines["c"].cut_off = True
    decided = wait(model, GOAL)
    assert (decided.member, decided.seconds) == ("c", HEALTH_SECONDS)
    assert decided.reason is WaitReason.BROKEN_PAIRS


@pytest.mark.parametrize(
    "change",
    [
        {"user_options": SETTINGS.user_options},
        {"names": ("a", "b", "c", "e", "f")},
        {"trusted": (1, 0)},
        {"tls": False},
        {"version": "3.6.17"},
    ],
    ids=str,
)
def test_nothing_is_done_while_two_members_are_unhealthy(change: dict[str, Any]) -> None:
    five = replace(FIVE, founders=FIVE.names)
    model = Model.running(five)
    model.machines["b"].cut_off = model.machines["c"].cut_off = True
    goal = replace(five, **change)
    for name in goal.names:
        model.prepare(model.machines.get(name) or model.add_machine(name, usual_address(name), ""), goal.version)
    assert wait(model, goal).member == "b"


def test_a_process_that_may_be_older_than_its_files_is_restarted() -> None:
    model = Model.running()
    model.machines["b"].pending = True
    assert [*map(describe, differences(GOAL.desired, model.observe(GOAL.names), "b"))] == [
        "its files may be newer than its process"
    ]
    assert log(model, GOAL) == ["b: restarting"]


# --- machines ---


def test_machines_that_cannot_be_asked_stop_everything_and_are_named_with_the_reason() -> None:
    model = Model.running()
    model.machines["b"].reachable = False
    refusal = refused(model, SETTINGS)
    assert (refusal.kind, refusal.details) == (Refusal.UNREACHABLE, {"unreachable": {"b": "cannot be reached"}})


def test_a_member_that_is_to_leave_may_be_out_of_reach() -> None:
    model = Model.running()
    model.machines["c"].reachable = False
    model.stop("c")
    log(model, replace(GOAL, names=("a", "b", "d")))
    assert model.log[0] == "a: removing c, which does not answer"


def test_a_disk_of_another_cluster_is_refused() -> None:
    model = Model.running()
    model.machines["b"].token = "of another"
    refusal = refused(model, GOAL)
    assert refusal.kind is Refusal.DATA_OF_ANOTHER_CLUSTER
    assert refusal.details == {"member": "b", "token": "of another", "own": GOAL.token}


@pytest.mark.parametrize(("ahead", "text"), [(5.5, "the clock of b is 6 s ahead of"), (-300.0, "300 s behind")])
def test_clocks_apart_stop_a_change_but_are_no_change_by_themselves(ahead: float, text: str) -> None:
    model = Model.running()
    model.machines["b"].clock_ahead = ahead
    refusal = refused(model, SETTINGS)
    assert refusal.kind is Refusal.CLOCKS_APART
    assert text in str(refusal)
    assert decide(model, GOAL) is None


def misses_a_user(model: Model) -> None:
    model.machines["b"].missing.append(Missing(MissingKind.USER))


def misses_the_version(model: Model) -> None:
    model.machines["b"].versions.clear()


def has_a_larger_disk(model: Model) -> None:
    model.machines["b"].device_bytes *= 2


def misses_the_marker(model: Model) -> None:
    model.machines["b"].token = ""


@pytest.mark.parametrize(
    ("lack", "text"),
    [
        (misses_a_user, "user etcd"),
        (misses_the_version, "etcd 3.6.16"),
        (has_a_larger_disk, "the rest of its data disk (its file system is smaller than its device)"),
        (misses_the_marker, "the marker beside its data"),
    ],
)
def test_a_machine_that_lost_what_preparing_brings_is_prepared_again_without_a_restart(
    lack: Callable[[Model], None], text: str
) -> None:
    model = Model.running()
    lack(model)
    decided = action(model, GOAL)
    assert describe(decided) == f"b: preparing again, for {text}"
    assert decided.steps[0].line.text("b") == "prepare member=b version=3.6.16"
    model.run(GOAL)
    assert (model.log, model.restarts) == ([describe(decided)], [])


def test_preparing_that_does_not_help_is_not_tried_twice() -> None:
    model = Model.running()
    misses_a_user(model)
    refusal = refused(model, GOAL, RunContext(prepared={"b"}))
    assert (refusal.kind, refusal.details["member"]) == (Refusal.STILL_MISSING, "b")


# --- forming ---


def test_a_cluster_is_formed_by_all_at_once_and_its_history_begins() -> None:
    model = Model.blank(GOAL)
    decided = action(model, GOAL, RunContext(forming=True))
    assert describe(decided) == "a, b, c: starting"
    for step in decided.steps:
        assert (applied(step).action, applied(step).until) == (ApplyAction.START, Until.LISTENING)
        bootstrap = configuration(step, BOOTSTRAP)
        assert bootstrap["initial-cluster-state"] == "new"
        assert bootstrap["initial-cluster"].count("https://") == 3
        assert step.history == History("3.6", 0, FOUNDING, 0)
    model.run(GOAL, context=RunContext(forming=True))
    assert model.restarts == []
    for machine in model.machines.values():
        assert machine.history == History("3.6", 0, "1,2,3", 0, machine.data_id)
        assert BOOTSTRAP not in machine.files


def test_nothing_is_formed_but_by_the_run_that_records_it() -> None:
    model = Model.blank(GOAL)
    assert "quorum is lost" in describe(wait(model, GOAL))


def founding(*names: str) -> Model:
    """A forming that was cut short when these had started."""
    model = Model.blank(GOAL)
    starting = action(model, GOAL, RunContext(forming=True))
    model.carry_out(
        replace(starting, steps=[step for step in starting.steps if step.member in names]), GOAL, RunContext()
    )
    return model


def test_machines_that_were_reinstalled_since_the_record_form_where_nothing_is_left_of_a_member_on_any() -> None:
    model = Model.blank(GOAL)
    model.machines["c"].identity = "another machine"
    assert describe(action(model, GOAL, RunContext(forming=True))) == "a, b, c: starting"


def forget_the_founders(model: Model) -> Goal:
    return replace(GOAL, founders=())


def lose_a_note(model: Model) -> Goal:
    model.machines["b"].formed = GOAL.token
    return GOAL


def lose_history(model: Model) -> Goal:
    model.machines["b"].history = History("3.6", 0, "1,2,3", 0, "2")
    return GOAL


def leave_unreachable(model: Model) -> Goal:
    model.add_machine("d", usual_address("d"), GOAL.version).reachable = False
    return GOAL


def leave_used(model: Model) -> Goal:
    model.add_machine("d", usual_address("d"), GOAL.version).formed = GOAL.token
    return GOAL


@pytest.mark.parametrize(
    ("change", "refusal", "details"),
    [
        (lose_a_note, Refusal.FORMING_WITH_LOST_DATA, {"lost": ["b"]}),
        (lose_history, Refusal.FORMING_WITH_LOST_DATA, {"lost": ["b"]}),
        (leave_used, Refusal.FORMING_WITH_LOST_DATA, {"lost": ["d"]}),
        (leave_unreachable, Refusal.FORMING_UNREACHABLE, {"unreachable": {"d": "cannot be reached"}}),
        (forget_the_founders, Refusal.FORMING_WITHOUT_FOUNDERS, {}),
    ],
)
def test_a_cluster_is_not_formed_where_data_may_have_been(
    change: Callable[[Model], Goal], refusal: Refusal, details: Mapping[str, Any]
) -> None:
    model = Model.blank(GOAL)
    found = refused(model, change(model), RunContext(forming=True))
    assert (found.kind, found.details) == (refusal, details)


@pytest.mark.parametrize("running", [True, False])
def test_no_second_cluster_is_formed_on_other_machines_of_the_same_members(running: bool) -> None:
    """A first `up` was cut short once members served, and then they were given other machines or folders."""
    was = founding("a", "b", "c") if running else Model.blank(GOAL)
    observation = was.observe(GOAL.names)
    before = {f"{name}-before-1": replace(host, data=True, owner=name) for name, host in observation.hosts.items()}
    blank = {
        name: replace(host, machine=f"new-{name}") for name, host in Model.blank(GOAL).observe(GOAL.names).hosts.items()
    }
    moved = replace(observation, hosts={**blank, **before})
    is_refused(Refusal.DATA_ON_FORMER_MACHINE, GOAL.desired, moved, forming=True)


def test_what_was_noted_before_a_start_that_never_came_does_not_keep_machines_without_data_from_forming() -> None:
    model = Model.blank(GOAL)
    model.machines["a"].forming = GOAL.token
    model.machines["b"].history = History("3.6", 0, FOUNDING, 0)
    assert describe(action(model, GOAL, RunContext(forming=True))) == "a, b, c: starting"


@pytest.mark.parametrize(
    ("note", "forms"),
    [
        ({}, True),
        ({"identity": "another machine"}, False),
        ({"forming": GOAL.token}, False),
        ({"formed": GOAL.token}, False),
        ({"history": History("3.6", 0, FOUNDING, 0)}, False),
        ({"history": History("3.6", 0, "1,2,3", 0, "2")}, False),
    ],
)
@pytest.mark.parametrize("started", ["a", "ac"])
def test_beside_founding_members_a_founder_starts_only_if_it_was_never_told_to(
    started: str, note: dict[str, Any], forms: bool
) -> None:
    model = founding(*started)
    for name, value in note.items():
        setattr(model.machines["b"], name, value)
    decided = decide(model, GOAL, RunContext(forming=True))
    text = describe(decided) if isinstance(decided, Action) else ""
    assert ("b" in text and "starting" in text) is forms


def test_founding_members_that_are_a_majority_are_asked_before_another_one_starts() -> None:
    model = founding("a", "c")
    model.stop("a")
    model.machines["c"].cut_off = True
    assert describe(action(model, GOAL, RunContext(forming=True))) == "a: starting"
    model.machines["a"].cut_off = True
    model.carry_out(action(model, GOAL, RunContext(forming=True)), GOAL, RunContext())
    assert "no member leads" in describe(wait(model, GOAL, RunContext(forming=True)))


def test_a_restored_member_is_started_alone_and_the_others_join_it() -> None:
    """After `destroy`, as docs/recover.md says: nobody is recorded to form."""
    model = Model.running()
    model.destroy()
    (listing, *_) = model.members
    model.members[:] = [listing]
    model.machines["a"].history = History()
    for name in ("b", "c"):
        model.lose_folder(name)
    said = log(model, replace(GOAL, founders=()), context=RunContext(forming=True))
    assert said[:3] == ["a: starting", "a: adding b as a learner", "b: joining as a learner"]
    assert {each.name for each in model.members} == set(GOAL.names)


def test_a_forming_that_was_cut_short_goes_on_with_the_founder_that_has_not_started() -> None:
    """etcd knows the names of founders before they start: a name alone is no sign of a member that has run."""
    model = Model.blank(GOAL)
    third_of_starting = action(model, GOAL, RunContext(forming=True))
    started = replace(third_of_starting, steps=third_of_starting.steps[:2])
    model.carry_out(started, GOAL, RunContext())
    decided = action(model, GOAL, RunContext(forming=True))
    assert describe(decided) == "c: starting"
    assert configuration(decided.steps[0], BOOTSTRAP)["initial-cluster-state"] == "new"


def test_a_founder_that_lost_its_data_while_the_cluster_was_formed_joins_anew() -> None:
    model = Model.running()
    model.lose_data("c")
    model.prepare(model.machines["c"], GOAL.version)
    decided = action(model, GOAL, RunContext(forming=True))
    assert describe(decided) == "a: removing the old membership of c, whose data are gone"


def test_members_that_bring_their_data_are_started_together() -> None:
    """As after `destroy`, or after a power cut."""
    model = Model.running()
    for name in GOAL.names:
        model.stop(name)
    assert log(model, GOAL) == ["a, b, c: starting"]


def test_data_of_an_older_minor_version_without_its_program_is_not_started() -> None:
    model = Model.running(replace(GOAL, version="3.5.35"))
    for machine in model.machines.values():
        machine.process, machine.programs, machine.versions = None, "", {"3.6.16"}
        machine.files.clear()
    assert refused(model, GOAL).kind is Refusal.STOPPED_AT_ANOTHER_MINOR


# --- lost members ---


def lost(name: str) -> list[str]:
    helper = "b" if name == "a" else "a"
    return [
        f"{helper}: removing the old membership of {name}, whose data are gone",
        f"{helper}: adding {name} as a learner",
        f"{name}: joining as a learner",
        f"{helper}: promoting {name}, once it has all data",
        "a, b, c: putting files in place, without a restart",
    ]


@pytest.mark.parametrize("name", ["a", "b", "c"])
@pytest.mark.parametrize("machine_too", [False, True])
def test_a_lost_member_leaves_and_joins_again_and_no_other_restarts(name: str, machine_too: bool) -> None:
    model = Model.running()
    model.reinstall(name) if machine_too else model.lose_data(name)
    assert log(model, GOAL) == lost(name)
    assert model.restarts == []
    assert model.formed


def test_a_joiner_is_told_of_all_members_and_what_an_earlier_membership_left_is_put_aside() -> None:
    model = Model.running()
    model.lose_data("c")
    log(model, GOAL, stop_after=2)
    (step,) = action(model, GOAL, RunContext(added={"c"})).steps
    bootstrap = configuration(step, BOOTSTRAP)
    assert bootstrap["initial-cluster-state"] == "existing"
    assert bootstrap["initial-cluster"] == "a=https://10.0.0.1:2380,b=https://10.0.0.2:2380,c=https://10.0.0.3:2380"
    assert (applied(step).archive_old_data, step.history) == (True, None)


def test_a_joining_that_another_run_began_is_begun_anew_unless_the_learner_runs() -> None:
    """It may have acknowledged what its empty data would not hold, which stops raft."""
    model = Model.running()
    model.lose_data("c")
    log(model, GOAL, stop_after=2)
    assert log(model, GOAL)[2:5] == [
        "a: ending the joining of c that was cut short",
        "a: adding c as a learner",
        "c: joining as a learner",
    ]


def test_a_member_that_was_removed_behind_our_back_joins_anew_and_its_data_are_kept() -> None:
    model = Model.running()
    model._remove_member(Membership(MembershipChange.REMOVE, CHANGE_SECONDS, id="3"))
    assert log(model, GOAL)[:2] == ["a: adding c as a learner", "c: joining as a learner"]
    assert model.machines["c"].archived == 1


def test_two_lost_of_three_are_refused_with_the_way_to_recover() -> None:
    model = Model.running()
    model.lose_data("b")
    model.lose_data("c")
    with pytest.raises(RefusedError) as error:
        log(model, GOAL)
    assert error.value.kind is WaitReason.QUORUM_LOST
    assert error.value.details == {"lost": ["b", "c"], "count": 2, "all": 3}
    assert model.log == []


def test_without_a_quorum_members_that_run_with_foreign_files_are_restarted_after_a_while() -> None:
    """As after an edited file and a reboot of all: there is no quorum to take from."""
    model = Model.running()
    for name in GOAL.names:
        model.machines[name].cut_off = True
    model.edit("b", CONFIGURATION)
    context = RunContext()
    context.waited[wait(model, GOAL, context).limit] = 31
    assert describe(action(model, GOAL, context)) == "b: restarting into the desired state"


def test_a_quorum_that_cannot_be_asked_is_never_restarted() -> None:
    model = Model.running()
    blind = replace(model.observe(GOAL.names), status_source=None, members=(), healthy=frozenset())
    context = RunContext()
    decided = next_action(SETTINGS.desired, blind, context)
    assert isinstance(decided, WaitFor)
    assert decided.reason is WaitReason.NO_ANSWER_FROM_FOLLOWERS
    context.waited[decided.limit] = 59
    assert isinstance(next_action(SETTINGS.desired, blind, context), WaitFor)


def test_a_removed_member_is_not_started_while_the_cluster_cannot_be_asked() -> None:
    model = Model.running(replace(GOAL, names=("a",), founders=("a",)))
    log(model, replace(GOAL, founders=("a",)))
    log(model, replace(GOAL, names=("a",), founders=("a",)))
    model.log.clear()
    moved = replace(GOAL, founders=("a",), addresses={"a": "10.0.9.1"})
    log(model, moved)
    assert model.log[0] == "a: restarting into the desired state"
    assert "b: joining as a learner" in model.log


# --- data that are not to be seen ---


def test_a_member_that_runs_is_never_removed_because_something_hides_its_data() -> None:
    model = Model.running()
    model.mount_over("b")
    refusal = refused(model, SETTINGS)
    details = {"name": "b", "path": "/data/etcd/data", "mounted_over": "tmpfs at /data/etcd"}
    assert (refusal.kind, refusal.details) == (WaitReason.DATA_HIDDEN, details)
    assert "tmpfs at /data/etcd is mounted where its data belong" in map(
        describe, differences(GOAL.desired, model.observe("b"), "b")
    )
    model.unmount_all()
    assert log(model, GOAL) == []


def test_nor_are_all_of_them() -> None:
    """As when a disk was mounted over the data of every host at once."""
    model = Model.running()
    for name in GOAL.names:
        model.mount_over(name)
    assert refused(model, GOAL).kind is WaitReason.DATA_HIDDEN
    assert len(model.members) == 3


def test_nor_because_its_data_were_deleted_below_it_until_it_has_been_stopped() -> None:
    observation = Model.running().observe(GOAL.names)
    emptied = replace(
        observation, hosts={**observation.hosts, "b": replace(observation.hosts["b"], data=False, token="", owner="")}
    )
    is_refused(WaitReason.DATA_DELETED, GOAL.desired, emptied)
    model = Model.running()
    model.lose_data("b")
    assert log(model, GOAL) == lost("b")


def test_a_process_that_does_not_answer_yet_may_be_about_to_make_its_data() -> None:
    observation = Model.running().observe(GOAL.names)
    starting = replace(observation.hosts["b"], data=False, live=None)
    decided = next_action(GOAL.desired, replace(observation, hosts={**observation.hosts, "b": starting}), RunContext())
    assert isinstance(decided, WaitFor)
    assert (decided.member, decided.seconds) == ("b", LEADER_SECONDS)


def test_a_member_that_does_not_run_is_not_removed_while_something_is_mounted_where_its_data_belong() -> None:
    model = Model.running()
    model.mount_over("c")
    model.reboot("c")
    refusal = refused(model, GOAL)
    assert refusal.kind is Refusal.MOUNTED_OVER
    assert (refusal.details["member"], refusal.details["mounted_over"]) == ("c", "tmpfs at /data/etcd")


def test_a_disk_that_was_unmounted_below_a_member_that_runs_is_mounted_again() -> None:
    observation = Model.running().observe(GOAL.names)
    bare = replace(
        observation.hosts["b"], data=False, token="", owner="", missing=[Missing(MissingKind.DISK, "/data/etcd")]
    )
    unmounted = replace(observation, hosts={**observation.hosts, "b": bare})
    decided = next_action(GOAL.desired, unmounted, RunContext())
    assert isinstance(decided, Action)
    assert describe(decided).startswith("b: preparing again, for the data disk at /data/etcd")
    is_refused(WaitReason.DATA_DELETED, GOAL.desired, unmounted, prepared={"b"})


def test_disks_that_changed_places_are_refused() -> None:
    observation = Model.running().observe(GOAL.names)
    swapped = replace(observation, hosts={**observation.hosts, "b": replace(observation.hosts["b"], owner="c")})
    is_refused(Refusal.DATA_OF_ANOTHER_MEMBER, GOAL.desired, swapped)


def test_a_process_that_does_not_say_who_it_is_is_not_taken_for_another_member() -> None:
    model = Model.running()
    observation = model.observe(GOAL.names)
    mute = replace(observation.hosts["b"], live=None, history=replace(observation.hosts["b"].history, id="ff"))
    blind = replace(
        observation, hosts={**observation.hosts, "b": mute}, healthy=observation.healthy - {model.machines["b"].data_id}
    )
    is_refused(Refusal.RUNS_WITH_OTHER_DATA, GOAL.desired, blind)


def test_no_member_is_removed_without_which_no_majority_takes_part() -> None:
    """etcd refuses that, too, unless it is not sure."""
    model = Model.running()
    model.stop("c")
    observation = model.observe([*GOAL.names])
    b = model.machines["b"].data_id
    unreachable = replace(observation.hosts["b"], live=None)
    unsure = replace(observation, hosts={**observation.hosts, "b": unreachable}, healthy=observation.healthy - {b})
    goal = replace(GOAL, names=("a", "b"))
    decided = next_action(goal.desired, unsure, RunContext())
    assert isinstance(decided, WaitFor)
    assert (decided.reason, decided.details) == (WaitReason.NO_MAJORITY_WITHOUT, {"name": "c", "down": ["b"]})
    assert decided.seconds == HEALTH_SECONDS


def test_a_learner_that_runs_is_promoted_before_another_membership_ends() -> None:
    five = replace(FIVE, founders=FIVE.names)
    model = Model.running(five)
    model.lose_data("d")
    log(model, five, stop_after=3)
    model.lose_data("e")
    assert log(model, five)[3:6] == [
        "a: promoting d, once it has all data",
        "a: removing the old membership of e, whose data are gone",
        "a: adding e as a learner",
    ]


# --- members come and go ---


def joins(name: str) -> list[str]:
    return [
        f"a: adding {name} as a learner",
        f"{name}: joining as a learner",
        f"a: promoting {name}, once it has all data",
    ]


def files_in_place(*names: str) -> str:
    return f"{', '.join(names)}: putting files in place, without a restart"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("a", "abc", [*joins("b"), *joins("c"), files_in_place(*"abc")]),
        ("abc", "abcde", [*joins("d"), *joins("e"), files_in_place(*"abcde")]),
        ("abcde", "abc", ["a: removing d", "a: removing e", files_in_place(*"abc")]),
        ("abc", "a", ["a: removing b", "a: removing c", files_in_place("a")]),
        # The leader goes last, and hands over to one that stays.
        ("abc", "c", ["a: removing b", "a: handing leadership over to c", "c: removing a", files_in_place("c")]),
        # One leaves before one joins.
        ("abc", "abd", ["a: removing c", *joins("d"), files_in_place(*"abd")]),
        ("abc", "ade", ["a: removing b", *joins("d"), "a: removing c", *joins("e"), files_in_place(*"ade")]),
    ],
)
def test_members_come_one_by_one_and_leave_one_by_one(before: str, after: str, expected: list[str]) -> None:
    goal = replace(GOAL, names=tuple(before), founders=tuple(before))
    model = Model.running(goal)
    assert log(model, replace(goal, names=tuple(after))) == expected
    assert model.restarts == []


def test_a_learner_that_is_there_already_is_finished_before_anything_else() -> None:
    model = Model.running()
    log(model, FIVE, stop_after=2)
    assert log(model, replace(SETTINGS, names=("a", "b", "c", "d")))[2:4] == [
        "a: promoting d, once it has all data",
        "b: restarting",
    ]


def test_a_member_that_left_and_is_down_is_removed_first() -> None:
    model = Model.running(replace(FIVE, founders=FIVE.names))
    model.stop("e")
    assert log(model, replace(GOAL, names=("a", "b", "c"), founders=FIVE.names))[:2] == [
        "a: removing e, which does not answer",
        "a: removing d",
    ]


def test_the_last_members_that_hold_data_do_not_leave_before_one_has_joined() -> None:
    model = Model.running()
    model.lose_data("c")
    assert log(model, replace(GOAL, names=("c",)))[:6] == [
        "a: removing the old membership of c, whose data are gone",
        "a: adding c as a learner",
        "c: joining as a learner",
        "a: promoting c, once it has all data",
        "a: removing b",
        "a: handing leadership over to c",
    ]


@pytest.mark.parametrize("clients_only", [False, True], ids=["open", "2379 for clients only"])
def test_a_member_that_nobody_asked_is_down_only_if_nobody_is_connected_with_it(clients_only: bool) -> None:
    """It is to leave, and its machine is not asked. With others down, removing one that serves may take the quorum."""
    model, smaller = Model.running(FIVE), replace(FIVE, names=("a", "b", "c"))
    model.clients_only = clients_only
    model.stop("e")
    decided = next_action(smaller.desired, model.observe(smaller.names), RunContext())
    assert isinstance(decided, Action)
    assert describe(decided) == "a: removing e, which does not answer"
    model.run(smaller, stop_after=1)
    decided = next_action(smaller.desired, model.observe(smaller.names), RunContext())
    if not clients_only:
        assert isinstance(decided, Action)
        assert describe(decided) == "a: removing d"
        return
    assert isinstance(decided, WaitFor)
    assert (decided.reason, decided.details["down"]) == (WaitReason.VOTERS_NOT_ASKED, ["d"])
    model.stop("d")
    decided = next_action(smaller.desired, model.observe(smaller.names), RunContext())
    assert isinstance(decided, Action)
    assert describe(decided) == "a: removing d, which does not answer"


def test_a_dead_leader_leaves_though_those_that_joined_under_it_count_it_as_connected_for_good() -> None:
    """etcd's own metric: what a member that joins connects before it knows the cluster is never taken off."""
    model = Model.running(replace(GOAL, names=("a",)))
    log(model, GOAL)
    swapped = replace(GOAL, names=("d", "b", "c"))
    model.stop("a")
    observation = model.observe(swapped.names)
    live = observation.hosts["b"].live
    assert live is not None
    assert live.active_peers is not None
    assert model.machines["a"].data_id in live.active_peers
    assert observation.connected == frozenset()
    model.log.clear()
    assert log(model, swapped)[0].endswith(": removing a, which does not answer"), model.log


def test_a_quorum_that_lacks_a_stopped_member_that_is_to_leave_says_so() -> None:
    model = Model.running()
    model.stop("b")
    model.lose_data("a")
    model.prepare(model.machines["a"], GOAL.version)
    waiting = wait(model, replace(GOAL, names=("a", "c", "d")))
    assert (waiting.reason, waiting.details) == (WaitReason.LEAVING_MEMBER_DOWN, {"leaving": ["b"]})


def test_changes_of_the_membership_are_bounded_in_time() -> None:
    model, bounded = Model.running(), list[str]()
    for name in "de":
        model.add_machine(name, usual_address(name), GOAL.version)
    context = RunContext()
    for goal in (FIVE, replace(GOAL, names=("a", "b", "c"))):
        while isinstance(decided := decide(model, goal, context), Action):
            for step in decided.steps:
                if isinstance(step.line, Membership):
                    bounded.append(step.line.change.value)
                    assert CHANGE_SECONDS <= step.line.timeout_seconds <= SYNC_SECONDS
            model.carry_out(decided, goal, context)
    assert set(bounded) == {"add", "promote", "remove"}


# --- addresses ---


def test_the_cluster_is_told_of_an_address_before_the_member_moves_there() -> None:
    model = Model.running()
    moved = replace(GOAL, addresses={"c": "10.0.9.3"})
    assert log(model, moved) == ["a: telling the cluster that c is at https://10.0.9.3:2380", "c: restarting"]


def test_a_leader_that_moves_hands_over_first_where_it_can_be_asked() -> None:
    model = Model.running()
    moved = replace(GOAL, addresses={"a": "10.0.9.1"})
    names = [*GOAL.names]
    decided = next_action(moved.desired, model.observe(names), RunContext())
    assert isinstance(decided, Action)
    assert describe(decided) == "a: handing leadership over to b"


def test_a_member_that_came_back_where_it_was_after_the_cluster_was_told_of_another_url_is_found_again() -> None:
    """A run was killed between the telling and the restart, and then the machine rebooted."""
    observation = Model.running().observe(GOAL.names)
    b = replace(observation.members[1], peer_url="http://10.0.0.2:2380")
    lost = replace(
        observation, members=[observation.members[0], b, observation.members[2]], healthy=observation.healthy - {b.id}
    )
    decided = next_action(GOAL.desired, lost, RunContext())
    assert isinstance(decided, Action)
    assert describe(decided) == "a: telling the cluster that b is at https://10.0.0.2:2380"


# --- security ---


def security(model: Model) -> set[tuple[bool, PeerSecurity]]:
    found = {machine.process.security for machine in model.machines.values() if machine.process}
    return {(each.clients_tls, each.peers) for each in found}


def a_pass(what: str, leader: str, *, scheme: str = "") -> list[str]:
    """Through all three: followers first."""
    helper = "b" if leader == "a" else "a"
    followers = [name for name in "abc" if name != leader]
    found: list[str] = []
    for name in [*followers, leader]:
        status_source = leader if name != leader else helper
        found += [f"{leader}: handing leadership over to {helper}"] if name == leader else []
        found += (
            [f"{status_source}: telling the cluster that {name} is at {scheme}://{usual_address(name)}:2380"]
            if scheme
            else []
        )
        found += [f"{name}: restarting {what}"]
    return found


def test_tls_comes_in_three_passes_and_plaintext_and_tls_never_fail_to_meet() -> None:
    model = Model.running(replace(GOAL, tls=False))
    assert log(model, GOAL) == [
        *a_pass("(TLS certificates installed, peers still plaintext)", "a"),
        *a_pass("with TLS among members", "b", scheme="https"),
        *a_pass("with TLS for clients", "a"),
    ]
    assert security(model) == {(True, PeerSecurity.TLS)}


def test_tls_goes_in_the_reverse_order() -> None:
    model = Model.running()
    assert log(model, replace(GOAL, tls=False)) == [
        *a_pass("without TLS for clients", "a"),
        *a_pass("(TLS certificates installed, peers still plaintext)", "b", scheme="http"),
        *a_pass("without certificates", "a"),
    ]
    assert security(model) == {(False, PeerSecurity.PLAINTEXT)}


@pytest.mark.parametrize("actions", range(1, 18))
def test_tls_that_was_cut_short_goes_on_where_it_was_and_turns_back_when_it_is_told_to(actions: int) -> None:
    plaintext = replace(GOAL, tls=False)
    for goal in (GOAL, plaintext):
        model = Model.running(plaintext)
        model.run(GOAL, stop_after=actions, cut=lambda steps: steps // 2)
        log(model, goal)
        assert security(model) == {(goal.tls, PeerSecurity.TLS if goal.tls else PeerSecurity.PLAINTEXT)}


def rotation(*transports: Transport, trusted: tuple[int, ...], signer: int) -> dict[str, Any]:
    """Of a goal: what its stack asks for of these CAs."""
    names = {Transport.CLIENT: ("trusted", "signer"), Transport.PEER: ("peer_trusted", "peer_signer")}
    return {name: value for each in transports for name, value in zip(names[each], (trusted, signer), strict=True)}


SIDES = pytest.mark.parametrize(
    ("transports", "where"),
    [
        ((Transport.CLIENT,), " for clients"),
        ((Transport.PEER,), " among members"),
        ((Transport.CLIENT, Transport.PEER), ""),
    ],
    ids=["clients", "members", "both"],
)


@SIDES
def test_in_an_overlap_every_member_trusts_both_and_shows_what_it_showed(
    transports: tuple[Transport, ...], where: str
) -> None:
    model, overlap = Model.running(), rotation(*transports, trusted=(1, 0), signer=0)
    shown = {name: machine.shown(PEER) for name, machine in model.machines.items()}
    assert log(model, replace(GOAL, **overlap)) == a_pass(f"to trust 2 CAs{where}", "a")
    assert {name: machine.shown(PEER) for name, machine in model.machines.items()} == shown


@SIDES
def test_after_an_overlap_new_certificates_come_without_a_restart_and_then_the_old_ca_goes(
    transports: tuple[Transport, ...], where: str
) -> None:
    model = Model.running(replace(GOAL, **rotation(*transports, trusted=(1, 0), signer=0)))
    assert log(model, replace(GOAL, **rotation(*transports, trusted=(1,), signer=1))) == [
        "a, b, c: renewing certificates, without a restart",
        *a_pass(f"to trust the new CA alone{where}", "a"),
    ]


@SIDES
def test_without_an_overlap_all_of_it_is_done_at_once_in_the_same_order(
    transports: tuple[Transport, ...], where: str
) -> None:
    model = Model.running()
    assert log(model, replace(GOAL, **rotation(*transports, trusted=(1,), signer=1))) == [
        *a_pass(f"to trust 2 CAs{where}", "a"),
        "a, b, c: renewing certificates, without a restart",
        *a_pass(f"to trust the new CA alone{where}", "b"),
    ]


# --- clusters of earlier releases, whose members let in whoever has a certificate by the CA of clients ---

SHARED = replace(GOAL, peer_trusted=None)


def formed_without_peer_ca(goal: Goal = SHARED) -> Model:
    return Model.running(goal).without_peer_ca()


def is_let_in(model: Model, certificate: str) -> set[str]:
    """Members whose peer port takes that certificate."""
    processes = {name: machine.process for name, machine in model.machines.items()}
    return {name for name, process in processes.items() if process and issuer(certificate) in process.peer_trusted}


def test_the_peer_port_is_closed_to_what_clients_have_in_three_steps_and_no_client_notices() -> None:
    model, of_clients = (
        formed_without_peer_ca(),
        certificate_pair("server", OF_CLIENTS[0].certificate_pem, "x", "::1", 0),
    )
    shown = {name: machine.shown(SERVER) for name, machine in model.machines.items()}
    assert is_let_in(model, of_clients.certificate) == {"a", "b", "c"}
    assert log(model, GOAL) == [
        *a_pass("to trust 2 CAs among members", "a"),
        "a, b, c: renewing certificates, without a restart",
        *a_pass("to trust the new CA alone among members", "b"),
    ]
    assert is_let_in(model, of_clients.certificate) == set()
    assert is_let_in(model, model.machines["a"].shown(PEER)) == {"a", "b", "c"}
    assert {name: machine.shown(SERVER) for name, machine in model.machines.items()} == shown


@pytest.mark.parametrize("actions", [1, 3, 5, 7])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"tls": False},
        {"version": "3.6.17"},
        {"names": ("a", "b", "d")},
        {"names": ("a", "b", "c", "d", "e")},
        {"addresses": {"c": "10.0.9.3"}},
        {"trusted": (1, 0)},
    ],
    ids=str,
)
def test_the_way_to_a_peer_ca_goes_on_wherever_it_was_cut_short_beside_any_other_change(
    change: dict[str, Any], actions: int
) -> None:
    changed = replace(GOAL, **change)
    for first, then in ((GOAL, changed), (changed, changed if "addresses" in change else GOAL)):
        model = formed_without_peer_ca()
        log(model, first, stop_after=actions, cut=lambda steps: steps // 2)
        log(model, then)
        if then.tls:
            assert is_let_in(model, model.machines["a"].shown(SERVER)) == set()


@pytest.mark.parametrize("name", ["a", "c"])
def test_until_all_trust_the_peer_ca_a_lost_member_joins_with_what_all_trust_and_no_quorum_is_risked(
    name: str,
) -> None:
    model = formed_without_peer_ca()
    model.reinstall(name)
    other = min({"a", "b", "c"} - {name})
    assert log(model, GOAL)[:2] == [
        f"{other}: removing the old membership of {name}, whose data are gone",
        f"{other}: adding {name} as a learner",
    ]
    assert {issuer(machine.shown(PEER)) for machine in model.machines.values()} == {OF_PEERS[0].certificate_pem}


def test_until_all_trust_the_peer_ca_a_broken_certificate_is_replaced_by_what_all_trust() -> None:
    model = formed_without_peer_ca()
    del model.machines["b"].files[PEER]
    repair = action(model, GOAL)
    assert describe(repair) == "b: repairing certificates, without a restart"
    model.carry_out(repair, GOAL, RunContext())
    assert model.machines["b"].shown(PEER) == model.machines["b"].shown(SERVER)
    assert action(model, GOAL).kind is not ActionKind.REPAIR_CERTIFICATES


def test_what_a_member_that_is_to_leave_cannot_trust_is_not_shown_by_one_that_joins() -> None:
    """c was not restarted any more before it was taken out: it still trusts the CA of clients alone."""
    model, names = formed_without_peer_ca(), ("a", "b", "d", "e", "f")
    model.run(GOAL, stop_after=1)
    model.run(GOAL, stop_after=2)
    log(model, replace(GOAL, names=names))
    assert {each.name for each in model.members} == set(names)


def test_certificates_that_are_due_are_renewed_without_a_restart() -> None:
    model = Model.running()
    assert log(model, replace(GOAL, renewals={"b": 1, "c": 1})) == ["b, c: renewing certificates, without a restart"]
    assert model.restarts == []


@SIDES
def test_a_member_joins_only_once_the_others_trust_its_certificate(
    transports: tuple[Transport, ...], where: str
) -> None:
    model = Model.running()
    model.lose_data("c")
    assert log(model, replace(GOAL, **rotation(*transports, trusted=(1,), signer=1)))[:5] == [
        "a: removing the old membership of c, whose data are gone",
        f"b: restarting to trust 2 CAs{where}",
        "a: handing leadership over to b",
        f"a: restarting to trust 2 CAs{where}",
        "b: adding c as a learner",
    ]


def test_a_member_without_certificates_cannot_join_those_that_speak_tls() -> None:
    model = Model.running()
    model.lose_data("c")
    with pytest.raises(RefusedError) as error:
        log(model, replace(GOAL, tls=False))
    assert error.value.kind is Refusal.JOINING_WITHOUT_CERTIFICATES


# --- versions ---


def upgrade(before: str, after: str) -> tuple[Model, Goal]:
    model = Model.running(replace(GOAL, version=before))
    goal = replace(GOAL, version=after)
    for machine in model.machines.values():
        model.prepare(machine, after)
    return model, goal


def test_a_patch_takes_a_snapshot_and_a_roll() -> None:
    model, goal = upgrade("3.6.14", "3.6.16")
    assert log(model, goal) == [
        "b: taking and checking a snapshot",
        "b: restarting",
        "c: restarting",
        "a: handing leadership over to b",
        "a: restarting",
    ]


def test_the_snapshot_is_a_followers_and_named_for_the_upgrade() -> None:
    model, goal = upgrade("3.5.35", "3.6.16")
    (step,) = action(model, goal).steps
    assert isinstance(step.line, Snapshot)
    assert (step.member, step.line.file) == ("b", "3.5.35-to-3.6.16.db")


def test_the_next_minor_starts_from_logs_that_are_of_the_running_minor_only() -> None:
    """A cluster that was formed by this minor, with these members, has nothing to flush."""
    model, goal = upgrade("3.6.16", "3.7.3")
    assert "restarting once" not in "".join(log(model, goal))


@pytest.mark.parametrize(("before", "after"), [("3.4.9", "3.5.35"), ("3.5.35", "3.6.16"), ("3.6.16", "3.7.3")])
def test_a_member_that_joined_since_its_newest_snapshot_is_flushed_first(before: str, after: str) -> None:
    model = Model.running(replace(GOAL, version=before))
    model.lose_data("c")
    log(model, replace(GOAL, version=before))
    model.log.clear()
    flush = f"restarting once, so that {after.rpartition('.')[0]} can start from its log"
    done = log(model, replace(GOAL, version=after))
    assert [line for line in done if flush in line] == [f"{name}: {flush}" for name in ("b", "c", "a")]
    assert done[0] == "b: taking and checking a snapshot"


def test_a_flush_is_a_restart_with_a_snapshot_at_every_entry_and_awaits_one_beyond_all_that_is_old() -> None:
    model, goal = upgrade("3.5.35", "3.6.16")
    for machine in model.machines.values():
        machine.history = replace(machine.history, members="other")
    context = RunContext(snapshot_taken=True)
    noted = action(model, goal, context)
    assert describe(noted) == "a, b, c: noting where its log stands"
    assert all(step.history and step.history.members_index == model.observe("abc").index for step in noted.steps)
    model.carry_out(noted, goal, context)
    (step,) = action(model, goal, context).steps
    line = applied(step)
    assert (line.action, line.until, line.version) == (ApplyAction.RESTART, Until.FLUSHED, "3.5.35")
    assert (line.index or 0) >= model.machines["b"].history.members_index
    assert configuration(step)["snapshot-count"] == 1


def test_the_v2_api_holds_an_upgrade_to_3_6_up_until_it_is_flushed_out_of_the_log() -> None:
    model, goal = upgrade("3.5.35", "3.6.16")
    model.machines["b"].v2_until = model.index
    done = log(model, goal)
    assert done[:4] == [
        "b: taking and checking a snapshot",
        "a, b, c: checking for data of the v2 API",
        "b: restarting once, so that 3.6 can start from its log",
        "b: checking for data of the v2 API",
    ]


def test_keys_of_the_v2_api_refuse_an_upgrade_to_3_6() -> None:
    model, goal = upgrade("3.5.35", "3.6.16")
    model.machines["c"].v2_keys = True
    with pytest.raises(RefusedError) as error:
        log(model, goal)
    assert (error.value.kind, error.value.details) == (Refusal.V2_KEYS, {"member": "c"})
    assert model.restarts == []


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("3.4.9", "3.6.16", UnsupportedChange.MINOR_SKIPPED),
        ("3.5.31", "3.6.16", UnsupportedChange.PATCH_TOO_OLD),
        ("3.6.16", "3.5.35", Refusal.CLUSTER_VERSION_RAISED),
    ],
)
def test_a_pair_of_versions_that_etcd_does_not_support_is_refused_whatever_the_stack_was_before(
    before: str, after: str, reason: messages.Reason
) -> None:
    model, goal = upgrade(before, after)
    assert refused(model, goal).kind is reason


@pytest.mark.parametrize("moved", [1, 2])
def test_an_upgrade_may_be_given_up_until_the_last_member_has_moved(moved: int) -> None:
    model, goal = upgrade("3.5.35", "3.6.16")
    model.run(goal, stop_after=2 + moved)
    back = log(model, replace(GOAL, version="3.5.35"))[2 + moved :]
    assert [line for line in back if "restarting" in line] == [f"{name}: restarting" for name in "bc"[:moved]]
    assert {machine.programs for machine in model.machines.values()} == {"3.5.35"}


def test_an_upgrade_that_was_cut_short_goes_on_without_another_snapshot() -> None:
    model, goal = upgrade("3.6.14", "3.6.16")
    model.run(goal, stop_after=2)
    model.log.clear()
    assert log(model, goal)[0] == "c: restarting"


def test_settings_and_version_come_with_the_same_restart() -> None:
    model, goal = upgrade("3.6.14", "3.6.16")
    log(model, replace(goal, user_options={"log-level": "debug"}))
    assert sorted(model.restarts) == ["a", "b", "c"]


def test_a_member_that_joins_in_the_middle_of_an_upgrade_runs_what_the_others_run() -> None:
    model, goal = upgrade("3.5.35", "3.6.16")
    model.lose_data("c")
    model.machines["c"].versions.add("3.5.35")
    model.machines["c"].token = "the-token"
    model.run(goal, stop_after=2)
    (step,) = action(model, goal, RunContext(added={"c"})).steps
    assert (step.member, applied(step).version) == ("c", "3.5.35")


def test_one_that_joined_with_the_new_version_is_no_reason_to_go_without_a_snapshot() -> None:
    """On a machine that is new, there is no other."""
    model, goal = upgrade("3.6.14", "3.6.16")
    model.reinstall("c")
    done = log(model, goal)
    assert done[3:6] == ["a: promoting c, once it has all data", "b: taking and checking a snapshot", "b: restarting"]


# --- what was changed by hand ---


def edit(path: str) -> Callable[[Model], None]:
    return lambda model: model.edit("b", path)


def spoil_mode(path: str, mode: str, owner: str) -> Callable[[Model], None]:
    return lambda model: model.chmod("b", path, mode, owner)


def delete(path: str) -> Callable[[Model], None]:
    return lambda model: model.machines["b"].files.pop(path) and None


def starts_on_no_boot(model: Model) -> None:
    model.machines["b"].on_boot = False


def is_not_masked(model: Model) -> None:
    model.machines["b"].masked = False


def does_not_run(model: Model) -> None:
    model.stop("b")


RESTART, FILES, MENDED, RESTORED = (
    "b: restarting",
    "b: putting files in place, without a restart",
    "b: repairing certificates, without a restart",
    "b: restoring the CA file, without a restart",
)


@pytest.mark.parametrize(
    ("tamper", "found", "done"),
    [
        (edit(CONFIGURATION), "/etc/etcd/etcd.yaml differs", RESTART),
        (edit(UNIT_PATH), f"{UNIT_PATH} differs", RESTART),
        (delete(UNIT_PATH), f"{UNIT_PATH} is missing", RESTART),
        (delete(CA), f"{CA} is missing", [RESTORED, RESTART]),
        (delete(PEER_CA), f"{PEER_CA} is missing", [RESTORED, RESTART]),
        (edit(PEER_CA), f"{PEER_CA} differs", RESTART),
        (edit(PROFILE_PATH), f"{PROFILE_PATH} differs", FILES),
        (spoil_mode(CONFIGURATION, "666", "root"), "/etc/etcd/etcd.yaml is 666 root, not 640 etcd", FILES),
        (spoil_mode(SERVER_KEY, "644", "root"), f"{SERVER_KEY} is 644 root, not 400 etcd", MENDED),
        (delete(SERVER_KEY), f"{SERVER_KEY} is missing", MENDED),
        (delete(PEER), f"{PEER} is missing", MENDED),
        (starts_on_no_boot, "it does not start on boot", FILES),
        (is_not_masked, "etcd.service is not masked, so a package may start another etcd beside it", FILES),
        (does_not_run, "does not run", "b: starting"),
    ],
)
def test_what_was_changed_by_hand_is_found_and_put_back(
    tamper: Callable[[Model], None], found: str, done: str | list[str]
) -> None:
    model = Model.running()
    tamper(model)
    assert found in map(describe, differences(GOAL.desired, model.observe(GOAL.names), "b"))
    assert log(model, GOAL) == ([done] if isinstance(done, str) else done)
    assert differences(GOAL.desired, model.observe(GOAL.names), "b") == []


def test_a_private_key_is_compared_by_its_sum_alone() -> None:
    observation = Model.running().observe(GOAL.names)
    assert "PRIVATE KEY" not in repr(observation.hosts)
    assert all("PRIVATE KEY" not in file.content for file in observation.hosts["a"].files.values())


# --- the record of where logs stand ---


def test_the_record_follows_the_members_and_the_minor_version() -> None:
    model = Model.running(replace(GOAL, version="3.5.35"))
    formed = model.machines["a"].history
    assert (formed.series, formed.series_index, formed.members_index) == ("3.5", 0, 0)
    log(model, replace(GOAL, version="3.5.35", names=("a", "b", "c", "d", "e")))
    grown = model.machines["a"].history
    assert grown.members == "1,2,3,4,5"
    assert grown.members_index >= model.changed_members_at
    assert grown.series_index == 0
    log(model, replace(GOAL, names=("a", "b", "c", "d", "e")))
    upgraded = model.machines["a"].history
    assert upgraded.series == "3.6"
    assert upgraded.series_index >= model.machines["a"].ran_since > 0
    assert upgraded.members_index == grown.members_index


def test_a_member_that_is_unknown_to_the_record_counts_as_new() -> None:
    model = Model.running()
    model.machines["b"].history = History()
    log(model, GOAL)
    now = model.machines["b"].history
    assert (now.series, now.members, now.id) == ("3.6", "1,2,3", "2")
    assert now.series_index > 0
    assert now.members_index > 0


def test_security_is_read_from_the_file_that_is_there() -> None:
    host = Model.running().observe(["a"]).hosts["a"]
    assert host.security == Security.of(True)
    assert replace(host, files={}, announced=None).security is None


# --- the quota, and alarms ---


def quota(gib: int) -> Goal:
    return replace(GOAL, user_options={"quota-backend-bytes": gib * GIB})


@pytest.mark.parametrize("stopped", [False, True], ids=["all run", "one is to be started"])
def test_a_quota_that_a_database_has_passed_is_refused_before_the_first_step(stopped: bool) -> None:
    model = Model.running()
    model.database_bytes = GIB + 1
    if stopped:
        model.stop("b")
    refusal = refused(model, quota(1))
    assert refusal.kind is Refusal.QUOTA_TOO_SMALL
    sizes = {"database": "1025 MiB", "quota_bytes": GIB, "quota": "1024 MiB", "least": "1138 MiB"}
    assert {**refusal.details, **sizes} == refusal.details


def test_the_database_of_a_member_that_does_not_run_counts_as_well() -> None:
    model = Model.running()
    model.database_bytes = GIB + 1
    for name in GOAL.names:
        model.stop(name)
    assert refused(model, quota(1)).kind is Refusal.QUOTA_TOO_SMALL


def test_a_quota_without_room_is_refused_as_well_but_only_where_it_is_made_smaller() -> None:
    model = Model.running()
    model.database_bytes = GIB - 1
    assert refused(model, quota(1)).kind is Refusal.QUOTA_TOO_SMALL
    model.database_bytes = 2 * GIB - 1
    assert isinstance(decide(model, SETTINGS), Action), "the quota stays as it is"
    assert isinstance(decide(model, quota(4)), Action)


LEADER_LAST = ["a: handing leadership over to b", "a: restarting"]
FULL_BYTES = 2 * GIB + 1


def in_short(done: Sequence[str]) -> list[str]:
    """Without sizes, and what a compaction means."""
    return [re.sub(r", as .*| of \d.*", "", each) for each in done]


COMPACTED = "a: compacting the history to its newest {} revisions"
DEFRAGMENTED = [
    "b: restarting, to defragment its database",
    "c: restarting, to defragment its database",
    "a: handing leadership over to b",
    "a: restarting, to defragment its database",
]
ENDED = ["b: ending the alarm NOSPACE"]


def test_a_full_database_is_compacted_and_defragmented_and_the_alarm_ended() -> None:
    model = Model.running()
    model.fill(FULL_BYTES, used_after={10_000: GIB})
    done = log(model, GOAL)
    assert in_short(done) == [COMPACTED.format("10,000"), *DEFRAGMENTED, *ENDED]
    assert "a database of 2049 MiB, quota 2048 MiB" in done[0]
    assert "every key stays" in done[0]
    assert "defragment its database of 2049 MiB" in done[1]
    assert not model.alarms
    assert decide(model, GOAL) is None


def test_the_restarts_that_make_room_bring_new_settings_as_well() -> None:
    model = Model.running()
    model.fill(FULL_BYTES, used_after={10_000: GIB})
    assert in_short(log(model, SETTINGS)) == [COMPACTED.format("10,000"), *DEFRAGMENTED, *ENDED]


def test_another_version_waits_until_writes_work() -> None:
    model = Model.running(version="3.6.15")
    model.fill(FULL_BYTES, used_after={10_000: GIB})
    model.machines["a"].versions.add("3.6.16")
    done = in_short(log(model, GOAL))
    assert done.index(ENDED[0]) < next(n for n, each in enumerate(done) if "snapshot" in each)


def test_the_whole_history_goes_only_where_a_part_leaves_no_room() -> None:
    model = Model.running()
    model.fill(FULL_BYTES, used_after={0: GIB})
    tried = [COMPACTED.format("10,000"), "b: restarting, to defragment its database", "a: compacting the whole history"]
    assert in_short(log(model, GOAL)) == [*tried, *DEFRAGMENTED, *ENDED]


def test_members_that_have_room_already_are_not_restarted() -> None:
    model = Model.running()
    model.fill(FULL_BYTES, used_after={10_000: GIB})
    for name in "ab":
        model.machines[name].database_bytes = GIB
    done = in_short(log(model, GOAL))
    assert done == [
        COMPACTED.format("10,000"),
        "c: restarting, to defragment its database",
        "a: ending the alarm NOSPACE",
    ]


@pytest.mark.parametrize(
    ("goal", "used", "refusal", "larger"),
    [
        (GOAL, 2 * GIB, Refusal.ALARM_NOSPACE, 4 * GIB),
        (replace(GOAL, user_options={"quota-backend-bytes": 64 * MIB}), 64 * MIB, Refusal.ALARM_NOSPACE, 128 * MIB),
        (replace(GOAL, user_options={"quota-backend-bytes": 6 * GIB}), 6 * GIB, Refusal.ALARM_NOSPACE, 8 * GIB),
        (replace(GOAL, user_options={"quota-backend-bytes": 8 * GIB}), 8 * GIB, Refusal.ALARM_NOSPACE_AT_LIMIT, None),
        (
            replace(GOAL, user_options={"quota-backend-bytes": 7 * GIB}),
            15 * GIB // 2,
            Refusal.ALARM_NOSPACE_AT_LIMIT,
            None,
        ),
    ],
)
def test_keys_that_fill_the_quota_are_refused_with_the_next_larger_one(
    goal: Goal, used: int, refusal: Refusal, larger: int | None
) -> None:
    model = Model.running(goal)
    model.fill(used + 1)
    with pytest.raises(RefusedError) as error:
        model.run(goal)
    assert error.value.kind is refusal
    if larger:
        assert error.value.details["larger_bytes"] == larger
        assert f"Set etcd.quota-backend-bytes to {larger} ({larger // MIB} MiB)" in str(error.value)
    assert model.alarms, "it was not ended without room"
    assert set(model.restarts) == {"b"}, "to measure it"
    model.restarts.clear()
    assert refused(model, goal).kind is refusal
    assert not model.restarts, "it was measured"


def test_no_member_restarts_for_room_while_another_one_is_not_healthy() -> None:
    model = Model.running()
    model.fill(FULL_BYTES, used_after={10_000: GIB})
    model.machines["c"].mute = 99
    decided = decide(model, GOAL)
    assert isinstance(decided, WaitFor)


def test_the_alarm_is_not_ended_while_the_size_of_a_database_is_unknown() -> None:
    model = Model.running()
    model.fill(FULL_BYTES)
    model.database_bytes = GIB
    observation = model.observe(GOAL.names)
    host = observation.hosts["c"]
    assert host.live
    unknown = replace(host, live=replace(host.live, database_bytes=0))
    decided = next_action(GOAL.desired, replace(observation, hosts={**observation.hosts, "c": unknown}), RunContext())
    assert isinstance(decided, WaitFor)
    assert (decided.reason, decided.details) == (WaitReason.DATABASES_UNKNOWN, {"names": ["c"]})


def test_a_larger_quota_is_rolled_out_under_the_alarm_and_ends_it_once_all_have_room() -> None:
    """No history goes for a quota that gives enough room."""
    model = Model.running()
    model.fill(FULL_BYTES, used_after={10_000: GIB})
    assert in_short(log(model, quota(4))) == ["b: restarting", "c: restarting", *LEADER_LAST, *ENDED]
    assert not model.alarms
    assert decide(model, quota(4)) is None


def test_a_larger_quota_that_alone_gives_no_room_gets_what_it_lacks_from_the_history() -> None:
    model = Model.running()
    model.fill(4 * GIB, used_after={10_000: 3 * GIB})
    assert in_short(log(model, quota(4))) == [COMPACTED.format("10,000"), *DEFRAGMENTED, *ENDED]


def test_a_larger_quota_that_gives_no_room_is_refused_before_all_restart_for_it() -> None:
    model = Model.running()
    model.fill(4 * GIB)
    with pytest.raises(RefusedError) as error:
        model.run(quota(4))
    assert (error.value.kind, error.value.details["larger_bytes"]) == (Refusal.ALARM_NOSPACE, 8 * GIB)
    assert set(model.restarts) == {"b"}, "to measure it"


def test_a_database_that_was_made_smaller_ends_the_alarm() -> None:
    model = Model.running()
    model.fill(FULL_BYTES)
    model.database_bytes = GIB
    assert log(model, GOAL) == ["a: ending the alarm NOSPACE, as every database has room again"]


def test_the_only_member_is_defragmented_as_well() -> None:
    goal = replace(GOAL, names=("a",), founders=("a",))
    model = Model.running(goal)
    model.fill(FULL_BYTES, used_after={10_000: GIB})
    defragmented = "a: restarting, to defragment its database"
    assert in_short(log(model, goal)) == [COMPACTED.format("10,000"), defragmented, "a: ending the alarm NOSPACE"]


def test_killed_at_every_piece_of_every_step_room_is_made_by_the_next_run() -> None:
    """One that lacks a compaction does it again; one that is stopped starts first."""
    running = Model.running()
    for action, pieces in ((1, 2), (2, 12), (4, 2), (5, 12), (6, 2)):  # compact, b, hand over, a, disarm
        for piece in range(pieces):
            model = deepcopy(running)
            model.fill(FULL_BYTES, used_after={10_000: GIB})
            assert not model.run(GOAL, stop_after=action, cut=lambda _, piece=piece: piece)
            log(model, GOAL)
            assert not model.alarms
            assert max(map(model.size_of, model.machines.values())) == GIB


# --- databases that are free for the most part ---

FREE = replace(GOAL, defragment=DesiredDefragmentation(free=0.5, at_least_bytes=256 * MIB))
GIVEN_BACK = [each.replace("database", "database of 1024 MiB, of which 600 MiB are free") for each in DEFRAGMENTED]


def fragmented(goal: Goal = FREE, *, free_mib: int = 600, **changes: Any) -> Model:
    model = Model.running(goal, **changes)
    model.fill(GIB, used_bytes=GIB - free_mib * MIB)
    return model


def test_databases_are_defragmented_once_as_much_is_free_as_the_stack_says() -> None:
    model = fragmented()
    assert log(model, GOAL) == [], "it does not say so"
    assert log(model, FREE) == GIVEN_BACK
    assert decide(model, FREE) is None


@pytest.mark.parametrize(("free_mib", "at_least_mib", "due"), [(511, 256, False), (512, 256, True), (600, 601, False)])
def test_both_the_share_and_the_space_have_to_be_free(free_mib: int, at_least_mib: int, due: bool) -> None:
    goal = replace(FREE, defragment=DesiredDefragmentation(free=0.5, at_least_bytes=at_least_mib * MIB))
    assert (decide(fragmented(free_mib=free_mib), goal) is not None) is due


def test_a_database_that_stays_as_it_is_is_not_defragmented_in_each_up() -> None:
    """Its pages are free again at once, or etcd does not give them back."""
    model = fragmented()
    log(model, FREE)
    for machine in model.machines.values():
        machine.database_bytes = 0
        machine.defragmented = Defragmented(600 * MIB, 1, 1)
    assert decide(model, FREE) is None


def test_the_only_member_is_defragmented_when_it_restarts_for_something_else() -> None:
    goal = replace(FREE, names=("a",), founders=("a",))
    model = fragmented(goal)
    assert decide(model, goal) is None
    other = replace(goal, user_options=SETTINGS.user_options)
    decided = decide(model, other)
    assert isinstance(decided, Action)
    assert isinstance(decided.steps[0].line, Apply)
    assert decided.steps[0].line.defragment_mib


def test_a_roll_defragments_as_well_but_not_one_to_another_version() -> None:
    settings = replace(FREE, user_options=SETTINGS.user_options)
    model = fragmented()
    assert log(model, settings) == ["b: restarting", "c: restarting", *LEADER_LAST]
    assert all(model.size_of(machine) < GIB for machine in model.machines.values())
    model = fragmented(version="3.6.15")
    for machine in model.machines.values():
        machine.versions.add("3.6.16")
    done = log(model, FREE)
    restarts = [each for each in done if "restarting" in each]
    assert ["free" in each for each in restarts] == [False] * 3 + [True] * 3


@pytest.mark.parametrize("alarm", ["OTHER", None])
def test_nothing_is_defragmented_while_an_alarm_stands_or_may_stand(alarm: str | None) -> None:
    model = fragmented()
    observation = model.observe(FREE.names)
    alarms = None if alarm is None else [Alarm(alarm, "")]
    context = RunContext()
    with pytest.raises(RefusedError) if alarm else nullcontext():
        assert isinstance(next_action(FREE.desired, replace(observation, alarms=alarms), context), WaitFor)


def test_nobody_is_defragmented_while_another_member_is_not_healthy() -> None:
    model = fragmented()
    model.machines["c"].frozen = True
    assert isinstance(decide(model, FREE), WaitFor)


def test_alarms_that_nobody_tells_are_waited_for() -> None:
    observation = replace(Model.running().observe(GOAL.names), alarms=None)
    decided = next_action(GOAL.desired, observation, RunContext())
    assert isinstance(decided, WaitFor)
    assert (decided.reason, decided.member) == (WaitReason.ALARMS_UNKNOWN, "a")


def corrupt(*names: str, of: Sequence[str] = ("a", "b", "c"), alarm: str = "") -> Model:
    """A cluster in which these members hold other data, each its own, and whose alarm names the member `alarm`."""
    model = Model.running(replace(GOAL, names=tuple(of), founders=tuple(of)))
    for number, name in enumerate(names, 1):
        model.machines[name].differs = number
    model.alarms.add(("CORRUPT", model.machines[alarm].data_id if alarm else ""))
    return model


REPLACED = [
    "a: removing {0}, whose data differ from the majority's",
    "a: ending the alarm CORRUPT, as all members hold the same data",
    "a: adding {0} as a learner",
    "{0}: joining as a learner",
    "a: promoting {0}, once it has all data",
]


@pytest.mark.parametrize("alarm", ["", "c", "b"], ids=["3.4 and 3.5 name none", "named", "wrongly named"])
def test_the_member_that_differs_from_the_majority_is_replaced_and_its_data_archived(alarm: str) -> None:
    model = corrupt("c", alarm=alarm)
    done = [each.partition(" (")[0] for each in log(model, GOAL)]
    assert done[:5] == [each.format("c") for each in REPLACED]
    assert len(done) == 6, "the history of the new membership is noted"
    assert model.machines["c"].archived == 1
    assert not model.alarms
    assert {each.name for each in model.voters()} == {"a", "b", "c"}
    assert decide(model, GOAL) is None


def test_a_leader_that_differs_hands_over_to_a_member_that_does_not() -> None:
    names = ("a", "b", "c", "d", "e")
    goal = replace(GOAL, names=names, founders=names)
    model = corrupt("a", "b", of=names)
    done = log(model, goal)
    assert done[0] == "a: handing leadership over to c"
    assert [each.partition(",")[0] for each in done[1:4]] == [
        "c: removing a",
        "c: removing b",
        "c: ending the alarm CORRUPT",
    ]
    assert {each.name for each in model.voters()} == {*names}


def test_nothing_else_moves_before_the_member_that_differs_is_out() -> None:
    for goal in (SETTINGS, replace(GOAL, names=("a", "b", "d"))):
        model = corrupt("c")
        if "d" in goal.names:
            model.add_machine("d", goal.address("d"), goal.version)
        done = log(model, goal)
        first = [each for each in done if "preparing" not in each][:2]
        assert ["removing c" in first[0], "ending the alarm CORRUPT" in first[1]] == [True, True], done


@pytest.mark.parametrize(
    ("differing", "of"),
    [(["c", "b"], "abc"), (["b"], "ab"), ([], "a"), (["a"], "a")],
    ids=["three sorts", "one of two", "one member", "one member that differs"],
)
def test_without_a_majority_nothing_is_replaced_or_ended(differing: Sequence[str], of: str) -> None:
    model = corrupt(*differing, of=of)
    goal = replace(GOAL, names=tuple(of), founders=tuple(of))
    refusal = refused(model, goal)
    assert refusal.kind is Refusal.ALARM_CORRUPT_WITHOUT_MAJORITY
    assert "docs/recover.md" in str(refusal)


@pytest.mark.parametrize("change", ["no hash", "another revision", "another compaction"])
def test_no_member_is_judged_by_hashes_that_cannot_be_compared(change: str) -> None:
    model = corrupt("c")
    observation = model.observe(GOAL.names)
    hashes = dict(observation.hashes)
    own = hashes[model.machines["b"].data_id]
    hashes[model.machines["b"].data_id] = {
        "no hash": own,
        "another revision": replace(own, revision=own.revision - 1),
        "another compaction": replace(own, compact_revision=0),
    }[change]
    if change == "no hash":
        del hashes[model.machines["b"].data_id]
    decided = next_action(GOAL.desired, replace(observation, hashes=hashes), RunContext())
    assert isinstance(decided, WaitFor)
    assert decided.reason in (WaitReason.HASHES_UNKNOWN, WaitReason.HASHES_OF_OTHER_REVISIONS)


def test_the_alarm_of_a_member_whose_data_are_gone_is_ended_once_the_others_agree() -> None:
    model = corrupt("c", alarm="c")
    model.lose_data("c")
    done = log(model, GOAL)
    assert done[:2] == [
        "a: removing the old membership of c, whose data are gone",
        "a: ending the alarm CORRUPT, as all members hold the same data",
    ]
    assert {each.name for each in model.voters()} == {"a", "b", "c"}


def test_a_dead_member_that_is_to_leave_does_not_block_the_end_of_the_alarm() -> None:
    """It would never tell its hash, and no member could leave or join before all had."""
    names = ("a", "b", "c", "d", "e")
    goal = replace(GOAL, names=names[:4], founders=names)
    model = corrupt("d", of=names)
    model.stop("e")
    done = [each.partition(" (")[0] for each in log(model, goal)]
    assert [each.partition(",")[0] for each in done[:3]] == [
        "a: removing e",
        "a: removing d",
        "a: ending the alarm CORRUPT",
    ]
    assert {each.name for each in model.voters()} == {*goal.names}


def test_a_dead_member_that_may_be_the_one_that_is_right_stays_a_member() -> None:
    model = corrupt("b")
    model.stop("c")
    with pytest.raises(RefusedError, match="c gives no hash of its keys"):
        log(model, replace(GOAL, names=("a", "b"), founders=GOAL.names))
    assert {each.name for each in model.voters()} == {"a", "b", "c"}


def test_killed_at_every_piece_of_every_step_the_next_run_replaces_the_member_that_differs() -> None:
    started = corrupt("a")
    for action, pieces in ((1, 2), (2, 2), (3, 2), (4, 2), (5, 14), (6, 2)):
        for piece in range(pieces):
            model = deepcopy(started)
            model.run(GOAL, stop_after=action, cut=lambda _, piece=piece: piece)
            log(model, GOAL)
            assert not model.alarms
            assert not any(machine.differs for machine in model.machines.values())
            assert model.machines["a"].archived == 1
            assert {each.name for each in model.voters()} == {"a", "b", "c"}


def ended(*names: str, of: Sequence[str] = ("a", "b", "c"), **changes: Any) -> Model:
    """A cluster in which these members do not run; each has data of its own, if nothing else is said."""
    model = Model.running(replace(GOAL, names=tuple(of), founders=tuple(of)))
    for number, name in enumerate(names, 1):
        model.stop(name)
        for key, value in (changes or {"differs": number}).items():
            setattr(model.machines[name], key, value)
    return model


@pytest.mark.parametrize("name", ["a", "c"])
@pytest.mark.parametrize("alarm", [False, True])
def test_a_member_that_ends_at_start_as_its_data_differ_is_replaced_and_they_are_archived(
    name: str, alarm: bool
) -> None:
    model = ended(name)
    if alarm:
        model.alarms.add(("CORRUPT", ""))
    before = model.machines[name].data_id
    done = [each.partition(" (")[0] for each in log(model, GOAL)]
    assert done[0] == f"{name}: starting"
    assert done[1].startswith(f"{name}: asking what its data hold")
    assert done[2].startswith(", ".join(sorted({*GOAL.names} - {name})) + ": asking for the hash of its keys")
    assert f"removing {name}, whose data differ" in done[3], done
    assert any(f"{name}: joining as a learner" in each for each in done[4:])
    assert model.machines[name].archived == 1
    assert model.machines[name].data_id != before
    assert {each.name for each in model.voters()} == {"a", "b", "c"}
    assert not model.alarms
    assert decide(model, GOAL) is None


@pytest.mark.parametrize("change", ["broken", "unreadable"])
def test_a_member_that_ends_at_start_for_another_reason_is_not_removed_and_the_run_says_what_its_log_says(
    change: str,
) -> None:
    model = ended("c", differs=0)
    setattr(model.machines["c"], change, True)
    with pytest.raises(StepFailedError):
        log(model, GOAL)
    assert not [each for each in model.log if "removing" in each]
    assert model.machines["c"].archived == 0
    assert model.log[-1].startswith("c: starting")


def test_a_member_that_starts_again_is_not_asked_what_its_data_hold() -> None:
    model = ended("c", differs=0)
    assert log(model, GOAL) == ["c: starting"]


@pytest.mark.parametrize(
    ("differing", "of"),
    [("bc", "abc"), ("b", "ab"), ("bc", "abcde")],
    ids=["two of three", "one of two", "two of five"],
)
def test_without_all_others_and_at_least_two_nobody_that_ends_at_start_is_removed(differing: str, of: str) -> None:
    model = ended(*differing, of=of)
    with suppress(StepFailedError):  # where others lead
        log(model, replace(GOAL, names=tuple(of), founders=tuple(of)))
    assert not [each for each in model.log if "removing" in each]


@pytest.mark.parametrize("change", ["the others differ", "one gives none", "another compaction", "the same"])
def test_nobody_is_removed_by_hashes_that_tell_nothing(change: str) -> None:
    model, context = ended("c"), RunContext(may_have_ended={"c"})
    own, other = KeyHash(9, 1, 7), KeyHash(12, 1, 8)
    context.hashes_of_data["c"] = own
    one = {"the others differ": replace(other, hash=9), "one gives none": None}.get(change, other)
    context.hashes = {("a", 9): other, ("b", 9): one}
    if change == "another compaction":
        context.hashes = {name: replace(other, compact_revision=2) for name in context.hashes}
    if change == "the same":
        context.hashes = {name: replace(other, hash=7) for name in context.hashes}
    decided = action(model, GOAL, context)
    assert (decided.kind, applied(decided.steps[0]).may_end) == (ActionKind.START, False)
    context.hashes = {("a", 9): other, ("b", 9): other}
    assert action(model, GOAL, context).kind is ActionKind.REMOVE_DIFFERING


def test_data_of_another_member_or_cluster_are_not_compared() -> None:
    for key, value in (("data_of", "other"), ("data_id", "f00"), ("history", History())):
        model, context = ended("c"), RunContext(may_have_ended={"c"})
        assert action(model, GOAL, context).kind is ActionKind.ASK_HASH_OF_DATA
        setattr(model.machines["c"], key, value)
        if key == "data_id":
            model.machines["c"].history = replace(model.machines["c"].history, id="f00")
        decided = decide(model, GOAL, context)
        assert not isinstance(decided, Action) or decided.kind is not ActionKind.ASK_HASH_OF_DATA


def test_data_are_not_compared_while_members_run_several_versions() -> None:
    for versions in (("3.6.14", GOAL.version), ("3.6.14", "3.6.14")):
        model, context = ended("c"), RunContext(may_have_ended={"c"})
        for name, version in zip("ab", versions, strict=True):
            machine = model.machines[name]
            assert machine.process is not None
            machine.process = replace(machine.process, version=version)
            machine.versions.add(version)
        decided = action(model, GOAL, context)
        assert (decided.kind, applied(decided.steps[0]).may_end) == (ActionKind.START, False)


def test_what_is_no_hash_tells_nothing() -> None:
    context = RunContext()
    for printed in ("", "\n", "1 2\n", "1 x 3\n", " 1 3\n"):
        context.note(HostStep("c", HashData()), printed, index=0)
        assert context.hashes_of_data["c"] is None
        context.note(HostStep("a", HashKeys(120, 3)), printed, index=0)
        assert context.hashes["a", 3] is None
    context.note(HostStep("c", HashData()), "4120 -1 3\n", index=0)
    assert context.hashes_of_data["c"] == KeyHash(3, -1, 4120)


def test_killed_at_every_piece_of_every_step_the_next_run_replaces_the_member_that_ended() -> None:
    started = ended("a")
    for action, pieces in ((1, 14), (2, 3), (3, 4), (4, 2), (5, 2), (6, 14), (7, 2)):
        for piece in range(pieces):
            model = deepcopy(started)
            model.run(GOAL, stop_after=action, cut=lambda _, piece=piece: piece)
            log(model, GOAL)
            assert not any(machine.differs for machine in model.machines.values())
            assert model.machines["a"].archived == 1
            assert {each.name for each in model.voters()} == {"a", "b", "c"}


def test_an_alarm_of_another_kind_is_not_passed_over() -> None:
    model = Model.running()
    model.alarms.add(("OTHER", model.machines["c"].data_id))
    refusal = refused(model, GOAL)
    assert (refusal.kind, refusal.details) == (Refusal.ALARM_OTHER, {"alarms": ["OTHER"]})


# --- etcd's authentication ---


def test_authentication_is_found_before_the_first_step_with_the_commands_that_help() -> None:
    model = Model.running()
    model.root = {"a"}
    for goal, lacking in ((SETTINGS, ["b", "c"]), (replace(GOAL, names=("a", "b", "d")), ["b", "c", "d"])):
        refusal = refused(model, goal)
        assert (refusal.kind, refusal.details["members"]) == (Refusal.NO_ROOT_USER, lacking)
        assert "etcdctl user add b --no-password; etcdctl user grant-role b root; etcdctl user add c" in str(refusal)
    model.root = {"a", "b", "c"}
    assert log(model, SETTINGS) == ["b: restarting", "c: restarting", *LEADER_LAST]


def test_a_member_that_is_to_join_needs_a_user_before_it_does() -> None:
    model, larger = Model.running(), replace(GOAL, names=("a", "b", "c", "d", "e"))
    for name in "de":
        model.add_machine(name, larger.address(name), larger.version)
    observation = replace(model.observe(list(model.machines)), users=frozenset({"root", "a", "b", "c", "d"}))
    with pytest.raises(RefusedError) as error:
        next_action(larger.desired, observation, RunContext())
    assert (error.value.kind, error.value.details["members"]) == (Refusal.NO_ROOT_USER, ["e"])


def test_without_certificates_authentication_has_to_be_turned_off() -> None:
    goal = replace(GOAL, tls=False)
    model = Model.running(goal)
    model.root = set()
    refusal = refused(model, replace(goal, user_options=SETTINGS.user_options))
    assert refusal.kind is Refusal.AUTHENTICATION_WITHOUT_TLS


def test_no_answer_whether_a_member_may_change_the_cluster_is_not_a_yes() -> None:
    model, context = Model.running(), RunContext(permitted={"a", "b"})
    waiting = wait(model, SETTINGS, context)
    assert (waiting.reason, waiting.details) == (WaitReason.RIGHTS_UNKNOWN, {"names": ["c"]})
    observation = model.observe(GOAL.names)
    assert context.lacks_rights(observation)
    context.learn(observation)
    assert not context.lacks_rights(observation)
    assert context.permitted == {"a", "b", "c"}
    assert isinstance(decide(model, SETTINGS, context), Action)


def test_what_a_member_needs_in_order_to_answer_is_restored_before_it_is_asked() -> None:
    """Without its programs nothing can ask it, and without its key the others cannot reach it."""
    model, context = Model.running(), RunContext(permitted={"a", "b"})
    model.machines["c"].versions = set()
    action = decide(model, SETTINGS, context)
    assert isinstance(action, Action)
    assert [step.line.step for step in action.steps] == ["prepare"]


def test_one_that_stays_shows_nothing_that_one_does_not_trust_which_is_yet_to_leave() -> None:
    """On the way to a peer CA, three become one; the run is killed when two are left, and the one that stays stops. The
    other one is needed until it has left, and is never told of the new CA."""
    model = Model.running(replace(GOAL, peer_trusted=None)).without_peer_ca()
    one = replace(GOAL, names=("c",))
    model.stop("c")
    model.run(one, stop_after=4, cut=lambda _: 0)
    assert len(model.members) == 2
    model.stop("c")
    model.run(one)
    assert [member.name for member in model.members] == ["c"]


def test_restored_data_beside_those_from_before_start_on_no_machine() -> None:
    model = Model.running()
    for name in GOAL.names:
        model.stop(name)
    observation = model.observe(list(GOAL.names))
    one = {name: replace(host, data_of="92ddb8") for name, host in observation.hosts.items()}
    assert next_action(GOAL.desired, replace(observation, hosts=one), RunContext()) is not None
    two = {**one, "a": replace(one["a"], data_of="ef87cc", history=History())}
    is_refused(Refusal.DATA_OF_DIFFERENT_CLUSTERS, GOAL.desired, replace(observation, hosts=two))


def test_members_that_stopped_are_not_removed_by_the_list_of_another_cluster() -> None:
    """A snapshot was restored on one and started by hand, beside a majority that holds everything written since."""
    stopped, restored = Model.running(), Model.running(replace(GOAL, names=("a",)))
    for name in GOAL.names:
        stopped.stop(name)
    hosts = {name: replace(host, data_of="92ddb8") for name, host in stopped.observe(list(GOAL.names)).hosts.items()}
    observation = restored.observe(["a"])
    hosts["a"] = replace(observation.hosts["a"], data_of="ef87cc")
    is_refused(Refusal.DATA_OF_DIFFERENT_CLUSTERS, GOAL.desired, replace(observation, hosts=hosts))


def test_another_etcd_on_the_machine_of_a_member_is_refused_and_on_one_that_left_is_of_no_interest() -> None:
    model = Model.running()
    model.stop("c")
    observation = model.observe(list(GOAL.names))
    foreign = replace(observation.hosts["c"], foreign="/var/lib/etcd/default")
    observation = replace(observation, hosts={**observation.hosts, "c": foreign})
    is_refused(Refusal.FOREIGN_ETCD, GOAL.desired, observation)
    two = replace(GOAL, names=("a", "b"))
    action = next_action(two.desired, observation, RunContext())
    assert isinstance(action, Action)
    assert describe(action) == "a: removing c, which does not answer"


@pytest.mark.parametrize(
    ("found", "refusal", "drift"),
    [
        ({"foreign_unit_files": ["/a.conf", "/b.conf"]}, Refusal.UNIT_CHANGED, "/a.conf, /b.conf changes its unit"),
        ({"other_service": "etcd.service is theirs"}, Refusal.OTHER_SERVICE, "etcd.service is theirs"),
    ],
)
def test_a_unit_that_is_not_ours_alone_is_drift_and_refused(
    found: dict[str, Any], refusal: Refusal, drift: str
) -> None:
    observation = Model.running().observe(list(GOAL.names))
    changed = replace(observation.hosts["c"], **found)
    observation = replace(observation, hosts={**observation.hosts, "c": changed})
    is_refused(refusal, GOAL.desired, observation)
    assert [describe(each) for each in differences(GOAL.desired, observation, "c")] == [drift]
    assert not differences(GOAL.desired, observation, "a")


def test_a_member_that_waits_in_another_cluster_for_a_leader_is_not_added_to_this_one() -> None:
    """A snapshot was restored on one and started, and another one still runs with the data from before."""
    before, restored = Model.running(), Model.running(replace(GOAL, names=("a",)))
    for name in "ac":
        before.stop(name)
    hosts = {name: replace(host, data_of="92ddb8") for name, host in before.observe(list(GOAL.names)).hosts.items()}
    assert hosts["b"].live
    assert not hosts["b"].live.has_leader
    observation = restored.observe(["a"])
    hosts |= {"a": replace(observation.hosts["a"], data_of="ef87cc"), "c": replace(hosts["c"], data=False, data_of="")}
    is_refused(Refusal.DATA_OF_DIFFERENT_CLUSTERS, GOAL.desired, replace(observation, hosts=hosts))


def test_a_member_that_is_connected_is_not_removed_for_what_the_machine_in_its_place_shows() -> None:
    """The machine of c was given another address, while the one before runs, and 2379 is open to clients only."""
    model = Model.running()
    observation = model.observe(list(GOAL.names))
    (c,) = (member.id for member in observation.members if member.name == "c")
    blank = replace(observation.hosts["c"], pid="", live=None, data=False, history=History(), token=GOAL.desired.token)
    observation = replace(
        observation, hosts={**observation.hosts, "c": blank}, healthy=observation.healthy - {c}, unknown=frozenset({c})
    )
    is_refused(Refusal.RUNS_WITH_OTHER_DATA, GOAL.desired, observation, permitted=set(GOAL.names))


@pytest.mark.parametrize(("noted", "stops"), [("1,2,3", True), ("1", False)])
def test_a_member_that_runs_on_though_it_was_removed_is_stopped_before_it_joins_anew(noted: str, stops: bool) -> None:
    """It was out of reach when it was removed, and its peers trust others by now."""
    model = Model.running(replace(GOAL, names=("a", "b")))
    before = Model.running()
    for name in "ab":
        before.stop(name)
    hosts = {name: replace(host, data_of="92ddb8") for name, host in model.observe(["a", "b"]).hosts.items()}
    left = before.observe(["c"]).hosts["c"]
    assert left.live
    history = replace(left.history, id="gone", members=noted)
    hosts["c"] = replace(left, data_of="92ddb8", history=history, live=replace(left.live, id="gone"))
    observation = replace(model.observe(["a", "b"]), hosts=hosts)
    context = RunContext(permitted=set(GOAL.names))
    if stops:
        action = next_action(GOAL.desired, observation, context)
        assert isinstance(action, Action)
        assert [(step.member, applied(step).action) for step in action.steps] == [("c", ApplyAction.STOP)]
    else:
        with pytest.raises(RefusedError) as error:
            next_action(GOAL.desired, observation, context)
        assert error.value.kind is Refusal.REMOVED_MAJORITY_RUNS
        assert error.value.details == {"members": ["c"], "source": "a"}


def test_no_certificate_is_put_that_is_not_valid_yet_by_the_clock_of_its_machine() -> None:
    """A clock that was years ahead issued it, and is right by now."""
    model = Model.running()
    observation = model.observe(list(GOAL.names))
    before = {
        **observation.hosts,
        "b": replace(observation.hosts["b"], clock=observation.hosts["b"].clock - 4 * 365 * 24 * 3600),
    }
    desired = replace(GOAL, renewals={"b": 1}).desired
    is_refused(Refusal.CERTIFICATE_NOT_VALID_YET, desired, replace(observation, hosts=before))


def test_a_member_does_not_join_on_a_clone_of_another_ones_machine() -> None:
    model, larger = Model.running(), replace(GOAL, names=("a", "b", "c", "d", "e"))
    for name in "de":
        model.add_machine(name, larger.address(name), larger.version)
    model.machines["d"].identity = model.machines["b"].identity
    refusal = refused(model, larger)
    assert refusal.kind is Refusal.SAME_MACHINE
    assert refusal.details == {"member": "d", "other": "b", "machine": "machine-of-b"}
    assert [member.name for member in model.members] == ["a", "b", "c"]
    model.machines["d"].identity = "another"
    assert describe(action(model, larger)).endswith(": adding d as a learner")


def test_a_removal_counts_only_members_that_are_known_to_take_part() -> None:
    """Where the leader does not say with whom it is connected, the others may run, and may not."""
    observation = Model.running().observe(list(GOAL.names))
    a, b, c = observation.members
    hosts = {"a": observation.hosts["a"]}
    observation = replace(observation, hosts=hosts, healthy=frozenset({a.id}), unknown=frozenset({b.id, c.id}))
    view = ClusterView(GOAL.desired, observation, RunContext())
    assert isinstance(data.await_majority_without(view, c), WaitFor)
    connected = replace(observation, connected=frozenset({b.id}))
    assert data.await_majority_without(ClusterView(GOAL.desired, connected, RunContext()), c) is None


def test_a_check_of_the_v2_api_that_prints_something_else_is_no_result() -> None:
    context, step = RunContext(), HostStep("b", V2Store(60))
    context.note(step, "hello from a login file\nlog\n", index=5)
    assert context.v2store == {"b": (V2Data.LOG, 5)}
    with pytest.raises(RefusedError) as error:
        context.note(step, "hello\n", index=5)
    assert error.value.details == {"member": "b", "printed": "hello"}


# --- a new cluster that starts with a backup ---

BACKUP = RestoredBackup("0a/20261127T100000Z-7-a", "a", {"rclone_placed": "rclone"})


def restoring(model: Model, goal: Goal = GOAL, *, forming: bool = True) -> Action | WaitFor | None:
    desired = replace(goal.desired, restored=BACKUP)
    return next_action(desired, model.observe(list(model.machines)), RunContext(forming=forming))


def test_the_first_member_is_restored_before_any_is_formed() -> None:
    decided = restoring(Model.blank(GOAL))
    assert isinstance(decided, Action)
    assert decided.kind is ActionKind.RESTORE
    ((member, line),) = [(step.member, step.line) for step in decided.steps]
    assert (member, line) == ("a", Restore(BACKUP.backup, "https://10.0.0.1:2380", GOAL.version, members="a,b,c"))


def test_what_latest_meant_is_asked_again_before_a_new_cluster_starts_with_it() -> None:
    context = RunContext(forming=True, latest=frozenset({"restoreFrom"}))
    observation = Model.blank(GOAL).observe(list(GOAL.names))
    decided = next_action(replace(GOAL.desired, restored=BACKUP), observation, context)
    assert isinstance(decided, Action)
    (step,) = decided.steps
    assert isinstance(step.line, Restore)
    assert step.line.latest == "restoreFrom"


def restored_model() -> Model:
    """The first machine holds restored data, which have no history, and nothing runs."""
    model = Model.blank(GOAL)
    model.machines["a"].data, model.machines["a"].data_id = True, "restored"
    return model


def test_once_restored_that_member_alone_starts_and_the_others_are_not_formed() -> None:
    decided = restoring(restored_model())
    assert isinstance(decided, Action)
    assert (decided.kind, [step.member for step in decided.steps]) == (ActionKind.START, ["a"])


def test_no_restore_goes_beside_data_of_a_forming_that_was_cut_short() -> None:
    model = Model.blank(GOAL)
    model.machines["b"].data, model.machines["b"].history = True, History("3.6", 0, FOUNDING, 0)
    with pytest.raises(RefusedError) as refusal:
        restoring(model)
    assert (refusal.value.kind, refusal.value.details["members"]) == (Refusal.RESTORING_WITH_DATA, ["b"])


def test_a_restore_that_was_cut_short_does_not_go_on_with_another_backup() -> None:
    model = restored_model()
    model.machines["a"].restored = BACKUP.backup
    assert isinstance(restoring(model), Action)
    model.machines["a"].restored = "0a/20261126T100000Z-5-a"
    with pytest.raises(RefusedError) as refusal:
        restoring(model)
    assert refusal.value.kind is Refusal.RESTORING_WITH_DATA


def test_no_restore_goes_where_machines_held_data_before() -> None:
    model = Model.blank(GOAL)
    with pytest.raises(RefusedError) as refusal:
        restoring(model, forget_the_founders(model))
    assert refusal.value.kind is Refusal.RESTORING_WITH_DATA


def test_a_cluster_that_runs_is_never_restored() -> None:
    assert restoring(Model.running(), forming=False) is None
