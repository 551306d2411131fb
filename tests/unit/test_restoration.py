"""Restores in the place of a cluster's data: in what order, from where a run was killed, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from etcd_cluster.member.layout import FOUNDING
from etcd_cluster.member.lines import BackUp, PrepareRestore, PutRestored, RaftPosition, Snapshot
from etcd_cluster.rollout.desired import Restoration, RestoredFile
from etcd_cluster.rollout.observed import Authentication, History, HostBackups
from etcd_cluster.rollout.planner import next_action
from etcd_cluster.rollout.planner.actions import Action, ActionKind, HostStep, Refusal
from etcd_cluster.rollout.planner.messages import IN_RESTORED_DATA
from etcd_cluster.rollout.planner.refusals import RefusedError
from etcd_cluster.rollout.planner.run_context import RunContext
from etcd_cluster.users import OURS, Permission, Users
from tests.unit.rollout_model import TOKEN, Goal, Model

OLD = "c1"
NAMES = ("a", "b", "c")
VARIABLES = {name: {"token": "t"} for name in NAMES}
BACKUP = "0a/20261127T100000Z-7-a"
IN_PLACE = Goal(restoration=Restoration(OLD, quorum_lost=False, backup=BACKUP, variables=VARIABLES))
RECOVER = Goal(restoration=Restoration(OLD, quorum_lost=True))


def running() -> Model:
    model = Model.running()
    model.cluster = OLD
    for machine in model.machines.values():
        machine.data_of = OLD
    return model


def asked(goal: Goal, **changes: Any) -> Goal:
    assert goal.restoration is not None
    return replace(goal, restoration=replace(goal.restoration, **changes))


def serve(model: Model, goal: Goal, **cut_short: Any) -> bool:
    return model.run(goal, context=RunContext(restoring=True), **cut_short)


def assert_restored(model: Model, *, archived: int = 3) -> None:
    assert model.cluster == f"{OLD}-restored", "restored once"
    assert {each.name for each in model.members} == set(NAMES)
    assert all(model.healthy(name) for name in NAMES)
    assert sum(machine.archived for machine in model.machines.values()) == archived, "renamed, and none deleted"
    assert serve(model, IN_PLACE), "the key may stay"
    assert model.cluster == f"{OLD}-restored"


def refusal(model: Model, goal: Goal) -> RefusedError:
    before = list(model.log)
    with pytest.raises(RefusedError) as refused:
        serve(model, goal)
    assert model.log == before, "nothing was done"
    return refused.value


def test_a_backup_is_tested_first_then_all_stop_and_the_others_join_the_restored_member() -> None:
    model = running()
    leader = model.leader
    assert serve(model, IN_PLACE)
    target = model.log[0].partition(":")[0]
    assert target != leader, "tested on a follower"
    others = [name for name in NAMES if name != target]
    assert model.log[:6] == [
        f"{target}: testing a restore of {BACKUP}; nothing is stopped for that",
        f"{target}: taking and checking a snapshot",
        f"{leader}: handing leadership over to {target}",
        f"{', '.join(others)}: stopping, and putting the data of cluster c1 away under another name",
        f"{target}: putting the restored data in the place of those of cluster c1",
        f"{target}: starting",
    ]
    assert f"{target}: adding {others[0]} as a learner" in model.log
    assert_restored(model)


def test_what_is_there_goes_into_the_store_if_there_is_one() -> None:
    goal = asked(IN_PLACE, schedule={"to": "/mnt/a"})
    observation = running().observe(NAMES)
    hosts = {name: replace(host, backups=HostBackups()) for name, host in observation.hosts.items()}
    context = RunContext(restoring=True, prepared_restores={"b"})
    action = next_action(goal.desired, replace(observation, hosts=hosts), context)
    assert isinstance(action, Action)
    assert (action.kind, action.steps[0].member) == (ActionKind.BACK_UP, "b")
    assert action.steps[0].line == BackUp(now=True, before_restore_of=OLD), "kept also if members differ"


@pytest.mark.parametrize("stopped", [(), ("a", "b")])
def test_of_members_without_a_leader_a_snapshot_is_only_tried(stopped: tuple[str, ...]) -> None:
    """One that has started without a leader answers nobody. Its data stay in any case."""
    model = running()
    for name in stopped:
        model.stop(name)
    model.elect()
    context = RunContext(restoring=True, prepared_restores={"c"})
    action = next_action(asked(IN_PLACE, schedule={"to": "/mnt/a"}).desired, model.observe(NAMES), context)
    assert isinstance(action, Action)
    (step,) = action.steps
    assert isinstance(step.line, Snapshot)
    assert (step.member, step.line.may_be_silent) == ("c", bool(stopped))


def test_members_without_users_get_them_before_what_is_there_is_backed_up_and_before_they_join() -> None:
    """In the restored data, too, only the user root is there for sure."""
    goal = replace(IN_PLACE, users=Users({"client": ["root"]}, {}))
    model = Model.running(replace(goal, restoration=None))
    model.cluster = OLD
    for name, machine in model.machines.items():
        machine.data_of = OLD
        del model.users[name]
    context = RunContext(restoring=True)
    while model.cluster == OLD:
        model.run(goal, context=context, stop_after=1)
    for name in NAMES:  # as the backup has it
        model.users.pop(name, None)
    assert model.run(goal, context=context)
    said = [line.partition(": ")[2] for line in model.log if "users" in line or "a snapshot" in line]
    snapshot = said.index("taking and checking a snapshot")
    assert all("users and roles" in line for line in (*said[:snapshot], *said[snapshot + 1 :]))
    assert snapshot > 0
    assert len(said) > snapshot + 1
    assert all(model.users[name] == {"root", OURS} for name in NAMES)
    assert {each.name for each in model.members} == set(NAMES)


@pytest.mark.parametrize(
    ("goal", "key"), [(IN_PLACE, "restoreInPlace.from"), (asked(IN_PLACE, quorum_lost=True), "recover.from")]
)
def test_what_latest_meant_is_asked_again_before_it_is_restored(goal: Goal, key: str) -> None:
    """An `up` that ended before anything began may have found it, days ago."""
    model = lost("a", "b") if key == "recover.from" else running()
    for latest in (frozenset[str](), frozenset({key}), frozenset({"restoreFrom"})):
        action = next_action(goal.desired, model.observe(NAMES), RunContext(restoring=True, latest=latest))
        assert isinstance(action, Action)
        (step,) = action.steps
        assert isinstance(step.line, PrepareRestore)
        assert step.line.latest == (key if key in latest else "")


def test_a_restore_whose_data_are_in_their_place_or_about_to_be_is_not_asked_about_again() -> None:
    """All members have stopped: nobody has gone on with others."""
    model = running()
    serve(model, IN_PLACE, stop_after=4, cut=lambda _: 9)  # the others put away; then stopped, noted, renamed
    context = RunContext(restoring=True, latest=frozenset({"restoreInPlace.from"}))
    action = next_action(IN_PLACE.desired, model.observe(NAMES), context)
    assert isinstance(action, Action)
    assert action.kind is ActionKind.PUT_RESTORED


APP = Users({"client": ["root"], "app": ["app"]}, {"app": [Permission("readwrite", "/app/")]})


@pytest.mark.parametrize("how", ["in place", "recover"])
@pytest.mark.parametrize(
    ("held", "kind"),
    [
        ({"app": {"apps"}}, Refusal.USERS_OF_OTHERS),
        ({"x": {"app"}}, Refusal.ROLES_OF_OTHERS),
        ({"app": {OURS, "app"}, "x": {"apps"}}, None),
    ],
    ids=["a user", "a role", "its own"],
)
@pytest.mark.parametrize("is_on", [False, True], ids=["off", "on"])
def test_users_and_roles_of_others_in_the_data_are_refused_before_anything_stops(
    is_on: bool, held: dict[str, set[str]], kind: Refusal | None, how: str
) -> None:
    """They were found once all data had been replaced, and one member was left, which served alone."""
    model, goal = (running(), IN_PLACE) if how == "in place" else (lost("a", "b"), RECOVER)
    users = {"root": {"root"}, **{name: {"root"} for name in NAMES}, **held}
    names = {"root", "app", "apps", *([OURS] if kind is None else [])}
    model.restored_users = Authentication(
        is_on, {name: frozenset(each) for name, each in users.items()}, {name: {} for name in names}
    )
    if kind is None:
        assert serve(model, replace(goal, users=APP))
        assert model.is_guarded
        return
    with pytest.raises(RefusedError) as refused:
        serve(model, replace(goal, users=APP))
    assert refused.value.kind is kind
    assert str(refused.value).endswith(f"\n{IN_RESTORED_DATA}")
    assert (model.cluster, len(model.log)) == (OLD, 1), "its restore was tested, and no more"


def test_without_an_answer_about_its_users_no_backup_takes_the_place_of_data() -> None:
    context = RunContext(restoring=True)
    context.note(HostStep("b", PrepareRestore("x", "u", "3.6.16", users=True)), "on\n", index=1)
    assert not context.prepared_restores
    context.note(HostStep("b", PrepareRestore("x", "u", "3.6.16")), "", index=1)
    assert context.prepared_restores == {"b"}


def test_once_other_data_are_in_place_members_are_asked_again_what_they_may_do() -> None:
    context = RunContext(permitted={"a", "b", "c"})
    context.note(HostStep("a", PutRestored(OLD, "3.6.16")), "", index=1)
    assert context.permitted == set()


@pytest.mark.parametrize(("users", "required"), [(None, "a,b,c"), (Users({"client": ["root"]}, {}), "")])
def test_without_users_in_the_stack_the_data_have_to_have_those_of_members(users: Users | None, required: str) -> None:
    action = next_action(replace(IN_PLACE, users=users).desired, running().observe(NAMES), RunContext(restoring=True))
    assert isinstance(action, Action)
    (step,) = action.steps
    assert isinstance(step.line, PrepareRestore)
    assert step.line.members == required


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("actions", range(1, 14))
def test_a_restore_goes_on_where_it_was_killed(actions: int, share: float) -> None:
    model = running()
    serve(model, IN_PLACE, stop_after=actions, cut=lambda steps: round(steps * share))
    assert serve(model, IN_PLACE)
    assert_restored(model)


HOW_FAR = [*product(range(3), range(3), [0]), *product([3], [3], range(6))]
"""How far the steps of three members got: two that stop and rename their data, and then the one that is restored."""


@pytest.mark.parametrize("boots", [False, True])
@pytest.mark.parametrize("done", HOW_FAR, ids=str)
def test_a_restore_goes_on_however_far_each_member_had_got(done: tuple[int, ...], boots: bool) -> None:
    """They stop at once, on machines of their own. Those that have data start again where a machine boots."""
    model = running()
    context = RunContext(restoring=True)
    model.run(IN_PLACE, context=context, stop_after=3)
    action = next_action(IN_PLACE.desired, model.observe(NAMES), context)
    assert isinstance(action, Action)
    assert action.then is not None
    assert [each.kind for each in (action, action.then)] == [ActionKind.PUT_AWAY_DATA, ActionKind.PUT_RESTORED]
    steps = [*action.steps, *action.then.steps]
    for step, pieces in zip(steps, done, strict=True):
        if pieces:
            one = Action(action.kind, [step], action.details)
            model.carry_out(one, IN_PLACE, context, cut=lambda _, left=pieces: left)
    if boots:
        for name in NAMES:
            model.reboot(name)
        model.elect()
    assert serve(model, IN_PLACE)
    assert_restored(model)


def test_after_a_lost_quorum_the_member_that_is_left_runs_until_the_restored_data_are_ready() -> None:
    """It would be the one to tell that the quorum is there again."""
    model = of_five()
    goal = replace(RECOVER, names=tuple("abcde"), founders=tuple("abcde"))
    assert serve(model, asked(goal, member="d"))
    assert "e: stopping, and putting the data of cluster c1 away under another name" in model.log


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("actions", range(1, 12))
def test_a_recovery_goes_on_where_it_was_killed(actions: int, share: float) -> None:
    model = running()
    for name in ("a", "c"):
        model.stop(name)
        model.lose_data(name)
    model.stop("b")
    serve(model, RECOVER, stop_after=actions, cut=lambda steps: round(steps * share))
    assert serve(model, RECOVER)
    assert_restored(model, archived=1)


def test_a_served_request_is_not_looked_at_again() -> None:
    model = running()
    assert model.run(IN_PLACE, context=RunContext())
    assert (model.cluster, model.log) == (OLD, [])


def test_another_id_is_refused_and_the_live_one_named() -> None:
    refused = refusal(running(), asked(IN_PLACE, cluster="c9"))
    assert refused.kind is Refusal.RESTORE_OF_ANOTHER_CLUSTER
    assert "restoreInPlace.cluster is c9, and the cluster here has the id c1" in str(refused)


def test_a_restore_that_was_cut_short_is_named_where_nobody_asks_for_it_any_more() -> None:
    model = running()
    serve(model, IN_PLACE, stop_after=4, cut=lambda _: 9)  # the others put away; then stopped, noted, renamed
    with pytest.raises(RefusedError) as refused:
        model.run(Goal(), context=RunContext())
    assert refused.value.kind is Refusal.RESTORE_CUT_SHORT
    assert serve(model, IN_PLACE)
    assert_restored(model)


def test_what_an_abandoned_restore_has_made_is_not_taken_for_another_backup() -> None:
    model = running()
    serve(model, IN_PLACE, stop_after=1)  # proven, and nothing stopped
    other = "0a/20261127T110000Z-9-a"
    assert serve(model, asked(IN_PLACE, backup=other))
    assert model.restored_from.startswith(f"{other} on ")


def test_what_an_abandoned_recovery_has_made_does_not_count_for_another_member() -> None:
    goal = replace(RECOVER, names=tuple("abcde"), founders=tuple("abcde"))
    model = of_five()
    serve(model, asked(goal, member="d"), stop_after=2)
    assert model.machines["d"].restoring
    assert serve(model, asked(goal, member="e"))
    assert model.restored_from == "snapshot on e"


def test_a_restore_that_was_cut_short_goes_on_with_what_it_has_made_alone() -> None:
    model = running()
    serve(model, IN_PLACE, stop_after=4, cut=lambda _: 9)  # the others put away; then stopped, noted, renamed
    refused = refusal(model, asked(IN_PLACE, backup="0a/20261127T110000Z-9-a"))
    assert refused.kind is Refusal.RESTORE_CUT_SHORT


def test_members_that_come_back_with_their_quorum_are_not_put_away_by_a_recovery_that_was_cut_short() -> None:
    model = running()
    for name in "bc":
        model.machines[name].reachable = False
    goal = asked(RECOVER, lost=["b", "c"])
    for name in "bc":
        model.machines[name].cut_off = True
    model.elect()
    serve(model, goal, stop_after=2, cut=lambda _: 3)
    assert (model.machines["a"].data, model.machines["a"].replaced) == (False, OLD)
    for name in "bc":
        model.machines[name].reachable, model.machines[name].cut_off = True, False
    assert refusal(model, RECOVER).kind is Refusal.RECOVER_WITH_QUORUM
    assert model.run(Goal(), context=RunContext()), "the member joins the old cluster again"
    assert model.cluster == OLD
    assert not model.machines["a"].restoring
    assert all(model.healthy(name) for name in NAMES)


def test_the_restored_member_itself_does_not_come_back_with_the_data_before() -> None:
    """The note is beside its data alone, and so the stack keeps the id as well."""
    model = running()
    assert serve(model, IN_PLACE)
    (target,) = (machine for machine in model.machines.values() if machine.replaced)
    target.process, target.data_of, target.data_id = None, OLD, "of-old"
    assert model.run(Goal(), context=RunContext(given_up=frozenset({OLD})))
    assert f"{target.name}: stopping, and putting the data of cluster c1 away under another name" in model.log
    assert all(model.healthy(name) for name in NAMES)


def test_a_machine_that_gives_no_answer_is_no_reason_to_restore_beside_it() -> None:
    model = running()
    model.machines["a"].reachable = False
    assert refusal(model, IN_PLACE).kind is Refusal.UNREACHABLE


def test_a_file_is_read_where_it_was_sent_to() -> None:
    file = RestoredFile("/home/me/backup.db", "5" * 64, bare=True)
    goal = asked(IN_PLACE, backup="", file=file)
    action = next_action(goal.desired, running().observe(NAMES), RunContext(restoring=True))
    assert isinstance(action, Action)
    line = action.steps[0].line
    assert isinstance(line, PrepareRestore)
    assert (line.file, line.sha256, line.bare) == (f"/data/etcd/incoming/{'5' * 64}.db", "5" * 64, True)
    assert (line.backup, line.snapshot) == ("", False)


# --- nobody goes on with the data that are given up ---


def prepare(model: Model, goal: Goal) -> None:
    """As the steps before the rollout do."""
    for name in goal.names:
        if name not in model.machines:
            model.add_machine(name, goal.address(name), goal.version)
        if model.machines[name].reachable:
            model.prepare(model.machines[name], goal.version, goal.token)


def test_a_member_that_runs_on_another_machine_than_the_one_asked_is_found_by_the_member_list() -> None:
    """An `up` before that was cut off, or somebody by hand, moved it."""
    model = running()
    observation = model.observe(NAMES)
    empty = Model.running(Goal(names=("b",), founders=("b",))).observe(["b"]).hosts["b"]
    hosts = {**observation.hosts, "b": replace(empty, data=False, pid="", live=None, history=History(), data_of="")}
    members = [
        replace(each, peer_url="https://10.9.0.2:2380") if each.name == "b" else each for each in observation.members
    ]
    moved = replace(observation, hosts=hosts, members=members)
    with pytest.raises(RefusedError) as refused:
        next_action(IN_PLACE.desired, moved, RunContext(restoring=True))
    assert refused.value.kind is Refusal.RESTORE_WITH_UNLISTED
    assert refused.value.details["members"] == ["b (https://10.9.0.2:2380)"]
    lost_disk = replace(moved, members=observation.members)
    action = next_action(IN_PLACE.desired, lost_disk, RunContext(restoring=True))
    assert isinstance(action, Action), "at its own address, without data, it cannot go on"


@pytest.mark.parametrize("names", [("a",), ("a", "d", "e")], ids=str)
def test_no_machine_of_a_leaving_member_may_be_silent(names: tuple[str, ...]) -> None:
    model = running()
    for name in "bc":
        model.machines[name].reachable = False
    model.machines["a"].cut_off = True
    model.elect()
    assert model.leader in {"b", "c"}, "they serve"
    goal = asked(replace(IN_PLACE, names=names), variables={name: {} for name in names})
    prepare(model, goal)
    refused = refusal(model, goal)
    unreachable = refused.details["unreachable"]
    assert isinstance(unreachable, dict)
    assert (refused.kind, unreachable.keys()) == (Refusal.UNREACHABLE, {"b", "c"})


def test_members_that_serve_are_not_put_away_for_one_that_does_not() -> None:
    """By hand, the earlier data are back on two of three."""
    observation = running().observe(NAMES)
    hosts, third = dict(observation.hosts), next(name for name in NAMES if name != observation.leader)
    live = hosts[third].live
    assert live
    context = RunContext(given_up=frozenset({OLD}))
    for serves in (False, True):
        hosts[third] = replace(hosts[third], data_of="c2", replaced=OLD, live=replace(live, has_leader=serves))
        found = replace(observation, hosts=hosts)
        if serves:
            action = next_action(Goal().desired, found, context)
            assert isinstance(action, Action)
            assert action.kind is ActionKind.PUT_AWAY_DATA
        else:
            with pytest.raises(RefusedError) as refused:
                next_action(Goal().desired, found, context)
            assert refused.value.kind is Refusal.RESTORE_BESIDE_SERVING
            assert refused.value.details == {"cluster": [OLD], "restored": [third]}


def test_a_backup_goes_where_it_is_known_which_revisions_clients_have_seen() -> None:
    """Even where that is the leader: revisions would be used twice."""
    goal = replace(IN_PLACE, founders=("a",))
    model = Model.running(replace(goal, names=("a",), restoration=None))
    model.cluster = model.machines["a"].data_of = OLD
    prepare(model, goal)
    assert serve(model, goal)
    assert model.restored_from == f"{BACKUP} on a"


# --- a lost quorum ---


def lost(*names: str) -> Model:
    """A cluster whose members of these names lost their data."""
    model = running()
    for name in names:
        model.stop(name)
        model.lose_data(name)
        model.machines[name].token = TOKEN  # the disk was prepared
    return model


def test_the_cluster_goes_on_with_the_data_of_the_member_that_is_left() -> None:
    model = lost("a", "b")
    assert serve(model, RECOVER)
    assert model.log[:3] == [
        "c: testing a restore of the data of c; nothing is stopped for that",
        "c: putting the restored data in the place of those of cluster c1",
        "c: starting",
    ]
    assert_restored(model, archived=1)


def test_a_member_that_is_down_is_started_first() -> None:
    model = lost("a", "b")
    model.stop("c")
    assert serve(model, RECOVER)
    assert model.log[0] == "c: starting, to see what its data hold"
    assert_restored(model, archived=1)


def of_five() -> Model:
    goal = Goal(tuple("abcde"), founders=tuple("abcde"))
    model = Model.running(goal)
    model.cluster = OLD
    for name, machine in model.machines.items():
        machine.data_of = OLD
        if name in "abc":
            model.stop(name)
            model.lose_data(name)
    return model


@pytest.mark.parametrize(("asked_for", "goes_on"), [("", "e"), ("d", "d")])
def test_of_several_the_one_that_has_most_counts_unless_one_is_named(asked_for: str, goes_on: str) -> None:
    model = of_five()
    model.machines["e"].ahead = 7
    goal = replace(RECOVER, names=tuple("abcde"), founders=tuple("abcde"))
    assert serve(model, asked(goal, member=asked_for))
    (put,) = (line for line in model.log if "putting the restored data" in line)
    assert put.startswith(f"{goes_on}: ")
    assert all(model.healthy(name) for name in "abcde")


def test_to_ask_how_far_data_go_is_no_snapshot_of_them() -> None:
    context = RunContext()
    context.note(HostStep("a", RaftPosition()), "3 17", index=0)
    assert context.positions == {"a": (3, 17)}
    assert not context.snapshot_taken


def test_a_machine_that_leaves_and_gives_no_answer_is_not_lost_either() -> None:
    """Nobody noted how many members there were: the cluster was formed, and has not changed since."""
    model = of_five()
    for name in "de":
        model.machines[name].reachable = False
    model.machines["c"].data, model.machines["c"].data_of = True, OLD
    model.machines["c"].history = History("3.6", 0, FOUNDING, 0)
    assert refusal(model, RECOVER).kind is Refusal.RECOVER_WITH_QUORUM


def test_a_backup_is_restored_where_no_data_are_left() -> None:
    model = lost("a", "b", "c")
    assert serve(model, asked(RECOVER, backup=BACKUP, variables=VARIABLES))
    assert_restored(model, archived=0)


@pytest.mark.parametrize("names", [(), ("a",)])
def test_a_quorum_that_is_there_is_not_lost(names: tuple[str, ...]) -> None:
    assert refusal(lost(*names), RECOVER).kind is Refusal.RECOVER_WITH_QUORUM


def test_members_that_only_stopped_have_lost_nothing() -> None:
    model = running()
    for name in NAMES:
        model.stop(name)
    assert refusal(model, RECOVER).kind is Refusal.RECOVER_WITH_QUORUM


def test_silence_is_not_lost() -> None:
    model = lost("a")
    model.machines["b"].reachable = False
    assert refusal(model, RECOVER).kind is Refusal.UNREACHABLE


def test_a_machine_that_answers_is_not_lost() -> None:
    assert refusal(lost("a", "b"), asked(RECOVER, lost=["a"])).kind is Refusal.RECOVER_OF_ANSWERING


def test_a_lost_machine_is_named_at_the_end_and_its_old_data_are_put_away_when_it_is_back() -> None:
    model = running()
    away = model.machines["b"]
    away.reachable, away.cut_off = False, True
    model.stop("a")
    model.lose_data("a")
    goal = asked(RECOVER, lost=["b"])
    with pytest.raises(RefusedError) as refused:
        serve(model, goal)
    assert refused.value.kind is Refusal.RECOVERED_WITHOUT
    assert refused.value.details["missing"] == ["b"]
    assert {each.name for each in model.members} == {"a", "c"}
    away.reachable, away.cut_off = True, False
    assert away.data_of == OLD
    assert model.run(Goal(), context=RunContext()), "whether the key is still there or not"
    assert "b: stopping, and putting the data of cluster c1 away under another name" in model.log
    assert_restored(model, archived=2)


FORMER = {name: f"{name}-before-0a1b2c3d" for name in NAMES}
"""As a host record names the machines that members had before."""


def moved(*names: str, **changes: Any) -> tuple[Model, Goal]:
    """a is left without a quorum; members of these names have other machines, and their former ones changed so."""
    model = running()
    goal = replace(RECOVER, addresses={name: f"10.9.0.{number}" for number, name in enumerate(names)})
    for name in names:
        model.machines[FORMER[name]] = former = model.machines.pop(name)
        for key, value in {"cut_off": True, **changes}.items():
            setattr(former, key, value)
        model.add_machine(name, goal.address(name), goal.version, identity=f"another for {name}")
    model.elect()
    prepare(model, goal)
    return model, goal


def test_after_a_lost_quorum_a_former_machine_that_is_silent_may_serve_unless_its_member_is_named_as_lost() -> None:
    model, goal = moved("b", "c", reachable=False)
    assert refusal(model, goal).kind is Refusal.RECOVER_WITH_QUORUM
    assert refusal(model, asked(goal, lost=["b"])).kind is Refusal.RECOVER_WITH_QUORUM
    assert serve(model, asked(goal, lost=["b", "c"])), "the road of docs/replace-a-member.md, with new addresses"
    assert {each.name for each in model.members} == set(NAMES)
    assert all(model.healthy(name) for name in NAMES)


def test_after_a_lost_quorum_a_former_machine_with_data_is_not_lost() -> None:
    model, goal = moved("b", "c")
    assert refusal(model, goal).kind is Refusal.RECOVER_WITH_QUORUM
    assert refusal(model, asked(goal, lost=["b", "c"])).kind is Refusal.RECOVER_OF_ANSWERING
    for name in "bc":
        model.stop(FORMER[name])
    assert refusal(model, goal).kind is Refusal.RECOVER_WITH_QUORUM, "they could start"
    for name in "bc":
        model.lose_data(FORMER[name])
    assert serve(model, goal)
    assert all(model.healthy(name) for name in NAMES)


def test_the_survivor_of_a_lost_quorum_does_not_leave() -> None:
    model, goal = lost("b", "c"), replace(RECOVER, names=("b", "c", "d"))
    prepare(model, goal)
    assert refusal(model, goal).kind is Refusal.RECOVER_OF_NONE


def test_whose_data_are_gone_is_not_gone_on_with() -> None:
    assert refusal(lost("a", "b"), asked(RECOVER, member="a")).kind is Refusal.RECOVER_OF_NONE
