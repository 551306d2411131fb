"""etcd's users: what they are made of, how the planner brings them about, and what previews say and refuse."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from etcd_cluster.cli import env
from etcd_cluster.cli.command import CommandError
from etcd_cluster.member.lines import SetUsers, UsersChange
from etcd_cluster.rollout import changes
from etcd_cluster.rollout.inputs import shown_roles
from etcd_cluster.rollout.observed import KeyRange
from etcd_cluster.rollout.planner import next_action, users
from etcd_cluster.rollout.planner.actions import (
    Action,
    ActionKind,
    Refusal,
    UsersRequest,
    WaitFor,
    WaitReason,
    WarningKind,
)
from etcd_cluster.rollout.planner.refusals import RefusedError
from etcd_cluster.rollout.planner.run_context import RunContext
from etcd_cluster.rollout.planner.users_requests import range_of, requests
from etcd_cluster.rollout.reports import parse_authentication
from etcd_cluster.users import OURS, Permission, Users
from tests.unit.rollout_model import Goal, Model

GOAL = Goal()
NAMED = Users({"client": ["root"], "app": ["app"]}, {"app": [Permission("readwrite", "/app/")]})
WITH_USERS = replace(GOAL, users=NAMED)


def log(model: Model, goal: Goal, **known: Any) -> list[str]:
    model.log.clear()
    model.run(goal, context=RunContext(**known))
    return model.log


def decide(model: Model, goal: Goal, context: RunContext | None = None) -> Action | WaitFor | None:
    return next_action(goal.desired, model.observe(list(model.machines)), context or RunContext())


# --- the planner ---


def test_users_come_before_authentication_which_nothing_is_restarted_for() -> None:
    model = Model.running()
    assert log(model, WITH_USERS) == [
        "a: setting etcd's users and roles: a, app, b, c, client, etcd-cluster, root",
        "a: turning etcd's authentication on",
    ]
    assert not model.restarts
    assert model.users["app"] == {"app", OURS}
    assert model.users["b"] == model.users["root"] == {"root", OURS}
    assert model.roles == {OURS: {}, "root": {}, "app": {KeyRange(b"/app/", b"/app0"): "readwrite"}}
    assert log(model, WITH_USERS) == []


def test_a_cluster_is_formed_with_users() -> None:
    model = Model.blank(WITH_USERS)
    assert "a: turning etcd's authentication on" in log(model, WITH_USERS, forming=True)
    assert model.is_guarded


def test_users_that_go_go_with_their_roles_and_those_of_others_stay() -> None:
    model = Model.running(WITH_USERS)
    model.users |= {"theirs": {"of-theirs", "app"}}
    model.roles |= {"of-theirs": {}}
    assert log(model, GOAL, users_before=NAMED) == [
        "a: turning etcd's authentication off",
        "a: setting etcd's users and roles: a, app, b, c, client, etcd-cluster, root",
    ]
    assert model.users == {"theirs": {"of-theirs", "app"}}
    assert model.roles.keys() == {"of-theirs", "app"}
    assert log(model, GOAL, users_before=NAMED) == []


def test_a_user_root_that_somebody_made_before_stays_when_users_go() -> None:
    model = Model.running()
    model.users["root"] = {"root"}
    model.roles["root"] = {}
    log(model, WITH_USERS)
    assert model.users["root"] == {"root"}
    log(model, GOAL, users_before=NAMED)
    assert model.users == {"root": {"root"}}


def test_a_member_has_its_user_before_it_joins_and_loses_it_after_it_left() -> None:
    model = Model.running(WITH_USERS)
    goal = replace(WITH_USERS, names=("a", "b", "d"))
    model.add_machine("d", goal.address("d"), goal.version)
    done = log(model, goal)
    assert done[0] == "a: setting etcd's users and roles: d"
    assert done.index("a: removing c") < done.index("a: setting etcd's users and roles: c") < done.index(
        "a: adding d as a learner"
    )  # fmt: skip


@pytest.mark.parametrize("lacking", [["b"], ["a"], ["a", "b", "c"]])
def test_members_that_lost_their_users_get_them_back_before_anything_else(lacking: list[str]) -> None:
    """As in a backup, in whose cluster members had other names. Only the user root is there for sure."""
    model = Model.running(WITH_USERS)
    for name in lacking:
        del model.users[name]
    goal = replace(WITH_USERS, user_options={"heartbeat-interval": 200, "election-timeout": 2000})
    action = decide(model, goal)
    assert isinstance(action, Action)
    (step,) = action.steps
    if "a" in lacking:
        assert step.line == SetUsers(UsersChange.READ, 60, as_root=True)
    else:
        assert step.line == SetUsers(UsersChange.SET, 60)
    done = log(model, goal)
    asked = ["a: reading etcd's users and roles as the user root"] if "a" in lacking else []
    assert done[: len(asked) + 1] == [*asked, f"a: setting etcd's users and roles: {', '.join(lacking)}"]
    assert all(model.users[name] == {"root", OURS} for name in "abc")


@pytest.mark.parametrize("down", ["", "c"])
def test_a_leader_is_waited_for_before_members_get_their_users_back(down: str) -> None:
    """As after a restore: a member answers that its certificate may do nothing before it is elected."""
    model = Model.running(WITH_USERS)
    for name in "abc":
        del model.users[name]
    if down:
        model.machines[down].process = None
    seen = model.observe(list(model.machines))
    without_leader = {
        name: replace(host, live=host.live and replace(host.live, leads=False, has_leader=False))
        for name, host in seen.hosts.items()
    }
    observation = replace(seen, hosts=without_leader, status_source=None, members=(), healthy=frozenset())
    observation = replace(observation, users=None, authentication=None)
    found = next_action(WITH_USERS.desired, observation, RunContext())
    if down:
        assert isinstance(found, Action)
        assert found.kind is ActionKind.START
    else:
        assert isinstance(found, WaitFor)
        assert found.reason is WaitReason.NO_LEADER
    assert next_action(GOAL.desired, observation, RunContext()) == found, "nobody can change users before"
    if not down:
        with pytest.raises(RefusedError, match="etcdctl --user root auth disable"):
            next_action(replace(GOAL, tls=False).desired, observation, RunContext())


def test_permissions_are_exact_whoever_changed_them() -> None:
    model = Model.running(WITH_USERS)
    model.roles["app"] |= {
        KeyRange(b"\0", b"\0"): "read",
        KeyRange(b"a", b""): "read",
        KeyRange(b"a", b"c"): "read",
        KeyRange(b"a", b"\0"): "read",
        KeyRange(b"/b/", b"/b0"): "read",
    }
    log(model, WITH_USERS)
    assert model.roles["app"] == {KeyRange(b"/app/", b"/app0"): "readwrite"}


@pytest.mark.parametrize(
    "range_", [KeyRange(b"a\0", b""), KeyRange(b"\xff", b""), KeyRange(b"a", b"\xff"), KeyRange(b"a\n", b"")]
)
def test_a_role_whose_keys_no_words_can_name_is_made_anew(range_: KeyRange) -> None:
    model = Model.running(WITH_USERS)
    model.roles["app"][range_] = "read"
    log(model, WITH_USERS)
    assert model.roles["app"] == {KeyRange(b"/app/", b"/app0"): "readwrite"}
    assert "app" in model.users["app"]


def test_users_wait_for_a_patch_upgrade_and_a_member_that_joins_meanwhile_has_its_own() -> None:
    goal = replace(WITH_USERS, version="3.6.14")
    model = Model.running(goal)
    newer = replace(WITH_USERS, names=("a", "b", "d"), users=replace(NAMED, users={"client": ["root"]}, roles={}))
    for name in "abd":
        if name == "d":
            model.add_machine("d", newer.address("d"), newer.version)
        model.machines[name].versions.add(newer.version)
    done = log(model, newer)
    assert done[0] == "a: setting etcd's users and roles: d"
    assert done[-2].endswith(": setting etcd's users and roles: app, c")


def test_while_an_upgrade_to_another_minor_is_half_done_no_member_joins_that_has_no_user() -> None:
    model = Model.running(replace(WITH_USERS, version="3.5.35"))
    newer, context = replace(WITH_USERS, version="3.6.16"), RunContext()
    for machine in model.machines.values():
        machine.versions.add(newer.version)
    while {each.process.version for each in model.machines.values() if each.process} != {"3.5.35", "3.6.16"}:
        model.run(newer, context=context, stop_after=1)
    larger = replace(newer, names=("a", "b", "c", "d", "e"))
    for name in "de":
        model.add_machine(name, larger.address(name), larger.version)
    with pytest.raises(RefusedError) as refused:
        model.run(larger)
    assert (refused.value.kind, refused.value.details["members"]) == (Refusal.USERS_OF_MIXED_VERSIONS, ["d", "e"])
    model.run(newer)


def test_no_answer_which_users_there_are_is_waited_for() -> None:
    model = Model.running(WITH_USERS)
    observation = replace(model.observe(GOAL.names), authentication=None)
    waiting = next_action(WITH_USERS.desired, observation, RunContext())
    assert isinstance(waiting, WaitFor)
    assert (waiting.reason, waiting.member) == (WaitReason.USERS_UNKNOWN, "a")
    context = RunContext()
    context.learn(model.observe(GOAL.names))
    assert next_action(WITH_USERS.desired, observation, context) is None


def test_once_authentication_is_on_every_member_is_asked_again_whether_it_may_change_the_cluster() -> None:
    model, context = Model.running(), RunContext(permitted={"a", "b", "c"})
    model.run(WITH_USERS, context=context, stop_after=2)
    assert model.is_guarded
    assert context.permitted == set()
    waiting = decide(model, WITH_USERS, context)
    assert isinstance(waiting, WaitFor)
    assert (waiting.reason, waiting.details) == (WaitReason.RIGHTS_UNKNOWN, {"names": ["a", "b", "c"]})


def test_users_of_others_are_told() -> None:
    model = Model.running(WITH_USERS)
    model.users["theirs"] = set()
    told = users.user_warnings(WITH_USERS.desired, model.observe("abc"), model.authentication("a"))
    assert told == [(WarningKind.UNLISTED_USERS, {"names": ["theirs"]})]


# --- what others made, and what a run that was cut off left ---


def test_authentication_that_somebody_else_turned_on_stays_on_and_is_told() -> None:
    model = Model.running()
    model.root = {"a", "b", "c"}
    assert log(model, GOAL) == []
    assert model.is_guarded
    told = users.user_warnings(GOAL.desired, model.observe("abc"), model.authentication("a"))
    assert [kind for kind, _ in told] == [WarningKind.AUTHENTICATION_OF_OTHERS]


@pytest.mark.parametrize("named", [("a", "b"), ("b",), ()])
def test_authentication_that_locks_a_member_out_is_told_and_refused_once_anything_is_due(named: Sequence[str]) -> None:
    """An `up` without changes fails nobody's deployment for what somebody did to etcd by hand."""
    model = Model.running()
    model.root = {*named}
    locked_out = [name for name in "abc" if name not in named]
    assert decide(model, GOAL) is None
    told = users.user_warnings(GOAL.desired, model.observe("abc"), model.authentication("a"))
    assert [(kind, details["members"]) for kind, details in told] == [(WarningKind.MEMBERS_LOCKED_OUT, locked_out)]
    with pytest.raises(RefusedError) as refused:
        decide(model, replace(GOAL, version="3.6.17"))
    assert (refused.value.kind, refused.value.details["members"]) == (Refusal.NO_ROOT_USER, locked_out)


@pytest.mark.parametrize("named", [("a", "b"), ("b",), ("client",), ()])
def test_who_names_users_then_gets_out_of_it_by_the_certificate_of_root(named: Sequence[str]) -> None:
    model = Model.running()
    model.root = {*named}
    log(model, WITH_USERS)
    assert all(model.users[name] == {"root", OURS} for name in ("a", "b", "c", "client"))
    assert (model.users["root"], model.users["app"]) == ({"root"}, {"app", OURS})
    assert log(model, WITH_USERS, users_before=NAMED) == []


@pytest.mark.parametrize("named", [("a", "b"), ("client",), ()])
@pytest.mark.parametrize("theirs", ["a", "c", "app"])
def test_and_a_user_of_somebody_elses_is_refused_there_before_anything_is_changed(
    theirs: str, named: Sequence[str]
) -> None:
    model = Model.running()
    model.root = {*named}
    model.users[theirs], model.roles["x"] = {"x"}, {KeyRange(b"k", b""): "read"}
    before = deepcopy(model.users)
    with pytest.raises(RefusedError) as refused:
        log(model, WITH_USERS)
    assert (refused.value.kind, refused.value.details["users"]) == (Refusal.USERS_OF_OTHERS, [f"{theirs} (roles: x)"])
    assert (model.users, [*model.roles]) == (before, ["root", "x"])
    assert not [line for line in model.log if "reading" not in line]


@pytest.mark.parametrize("down", ["c", "bc"])
@pytest.mark.parametrize("named", [("a", "b"), ()])
def test_a_member_that_is_down_is_started_whoever_is_locked_out(named: Sequence[str], down: str) -> None:
    """Without a majority, nobody can give a member its user."""
    model = Model.running()
    model.root = {*named}
    for name in down:
        model.machines[name].process = None
    assert log(model, GOAL) == [f"{', '.join(down)}: starting"]


def test_a_member_that_could_not_be_asked_and_has_no_user_is_told_as_well() -> None:
    model = Model.running()
    model.root = {"a", "b"}
    seen = model.observe("abc")
    hosts = {name: replace(host, may_administer=None) for name, host in seen.hosts.items()}
    ((kind, details),) = users.user_warnings(GOAL.desired, replace(seen, hosts=hosts), model.authentication("a"))
    assert (kind, details["members"]) == (WarningKind.MEMBERS_LOCKED_OUT, ["c"])


def cuts(goal: Goal) -> Iterator[Model]:
    """Yields a cluster without users after each request of each action that leads to `goal`."""
    formed = Model.running()
    for actions in range(1, 10):
        for most in range(60):
            model, count = deepcopy(formed), 0

            def cut(steps: int, most: int = most) -> int:
                nonlocal count
                count = steps
                return most

            if model.run(goal, stop_after=actions, cut=cut):
                return
            if most >= count:
                break
            yield model


def test_what_a_run_that_was_cut_off_began_ends_when_users_are_taken_out_again() -> None:
    """No rollout with users has ended well, so only what etcd has tells of it. Authentication that is on stays on."""
    models = [*cuts(WITH_USERS)]
    assert {model.is_guarded for model in models} == {True, False}
    for model in models:
        before = deepcopy(model.users), deepcopy(model.roles)
        if model.is_guarded:
            assert log(model, GOAL) == []
            assert (model.users, model.roles) == before
            told = users.user_warnings(GOAL.desired, model.observe("abc"), model.authentication("a"))
            assert [kind for kind, _ in told] == [WarningKind.AUTHENTICATION_OF_OTHERS]
            log(model, WITH_USERS)
            log(model, GOAL, users_before=NAMED)
        else:
            log(model, GOAL)
        assert not model.is_guarded
        assert (model.users, model.roles) == ({}, {})
        assert log(model, GOAL) == []


def test_what_a_run_that_was_cut_off_had_just_made_goes_although_no_stack_names_it() -> None:
    """And what somebody else made stays, with or without the name of something of this stack's."""
    others = {"theirs": set[str](), "etcd-cluster": set[str]()}
    for model in cuts(WITH_USERS):
        if model.is_guarded:
            continue
        model.users |= deepcopy(others)
        model.roles["empty"] = {}
        assert log(model, replace(GOAL, users=Users({"client": ["root"]}, {}))) != []
        assert model.users.keys() == {"a", "b", "c", "client", "root", *others}
        assert model.roles.keys() == {OURS, "root", "empty"}


def test_authentication_that_came_with_data_stays_on_in_a_stack_without_users() -> None:
    """As after a restore of a cluster with users: it would be open to everybody, and nobody would notice."""
    model = Model.running(WITH_USERS)
    before = deepcopy(model.users)
    assert log(model, GOAL) == []
    assert (model.is_guarded, model.users) == (True, before)


def in_words(roles: set[str]) -> str:
    return " ".join(sorted(roles)) or "none"


@pytest.mark.parametrize("name", ["a", "b", "client", "root", "app"])
@pytest.mark.parametrize("roles", [{"x"}, {"root", "x"}, {"root"}, {OURS}, {"root", OURS, "x"}, set()], ids=in_words)
def test_what_was_changed_by_hand_is_set_back(name: str, roles: set[str]) -> None:
    if name == "root" and "root" not in roles:
        pytest.skip("etcd does not let go of it while authentication is on")
    model, whole = Model.running(WITH_USERS), Model.running(WITH_USERS)
    model.roles["x"] = {KeyRange(b"k", b""): "read"}
    model.users[name] = {*roles}
    log(model, WITH_USERS, users_before=NAMED)
    assert {each: has for each, has in model.users.items() if each != "root"} == {
        each: has for each, has in whole.users.items() if each != "root"
    }
    assert model.is_guarded


def test_a_member_that_is_down_is_started_whatever_somebody_changed() -> None:
    model = Model.running(WITH_USERS)
    model.machines["c"].process = None
    model.roles["x"] = {}
    model.users["b"] = {"root", "x"}
    log(model, WITH_USERS, users_before=NAMED)
    assert model.machines["c"].process is not None
    assert model.users["b"] == {"root", OURS}


def test_keys_that_somebody_gave_to_our_role_are_taken_away_again() -> None:
    model = Model.running(WITH_USERS)
    model.roles[OURS][KeyRange(b"k", b"")] = "read"
    log(model, WITH_USERS, users_before=NAMED)
    assert model.roles[OURS] == {}
    assert model.users == Model.running(WITH_USERS).users


def test_a_role_of_the_same_name_as_ours_with_keys_is_no_mark() -> None:
    model = Model.running()
    model.roles, model.users = {OURS: {KeyRange(b"a", b""): "read"}}, {"theirs": {OURS}}
    assert log(model, GOAL) == []
    assert model.users == {"theirs": {OURS}}
    with pytest.raises(RefusedError) as refused:
        log(model, WITH_USERS)
    assert refused.value.kind is Refusal.ROLE_OURS_WITH_KEYS
    assert model.users == {"theirs": {OURS}}


@pytest.mark.parametrize(
    ("theirs", "kind"),
    [
        ({"app": {"x"}}, Refusal.USERS_OF_OTHERS),
        ({"app": {"root"}}, Refusal.USERS_OF_OTHERS),
        ({"client": {"root", "x"}}, Refusal.USERS_OF_OTHERS),
        ({"b": {"x"}}, Refusal.USERS_OF_OTHERS),
        ({"x": {"app"}}, Refusal.ROLES_OF_OTHERS),
    ],
)
def test_a_user_and_a_role_of_somebody_else_are_not_taken_over(theirs: dict[str, set[str]], kind: Refusal) -> None:
    model = Model.running()
    model.users |= theirs
    model.roles |= {role: {KeyRange(b"k", b""): "read"} for roles in theirs.values() for role in roles}
    model.add_machine("d", GOAL.address("d"), GOAL.version)
    with pytest.raises(RefusedError) as refused:
        log(model, replace(WITH_USERS, names=("a", "b", "c", "d")))
    assert refused.value.kind is kind
    assert ", ".join(theirs) in str(refused.value)
    assert (model.users, model.log) == (theirs, [])


def test_a_role_that_nobody_has_is_somebody_elses_if_it_has_keys() -> None:
    model = Model.running()
    model.roles["app"] = {KeyRange(b"/other/", b"/other0"): "read"}
    with pytest.raises(RefusedError, match=r"did not make them: app \(of no user\)"):
        log(model, WITH_USERS)


def test_users_that_were_handed_over_are_the_stacks_and_leave_with_it() -> None:
    model = Model.running()
    model.users = {"app": {"x", OURS}, "App": {"x"}}
    model.roles = {"x": {KeyRange(b"k", b""): "read"}, OURS: {}}
    log(model, WITH_USERS)
    assert model.users["app"] == {"app", OURS}
    log(model, GOAL, users_before=NAMED)
    assert (model.users, [*model.roles]) == ({"App": {"x"}}, ["x"])


def test_a_user_without_roles_is_made_anew_as_it_may_have_a_password() -> None:
    model = Model.running()
    model.users["app"] = set()
    action = decide(model, WITH_USERS)
    assert isinstance(action, Action)
    of_app = [each.command for each in action.steps[0].requests if each.arguments[0] == "app"]
    assert of_app[:2] == ["user delete", "user add"]


@pytest.mark.parametrize("name", ["d", "b"])
def test_so_is_that_of_a_member_before_others_run_the_same_patch(name: str) -> None:
    """Of one that joins, and of one that lost its roles: it gets the role root."""
    model = Model.running(replace(WITH_USERS, version="3.6.14"))
    goal = replace(WITH_USERS, names=tuple(sorted({"a", "b", "c", name})))
    if name == "d":
        model.add_machine("d", goal.address("d"), goal.version)
    for machine in model.machines.values():
        machine.versions.add(goal.version)
    model.users[name] = set()
    action = decide(model, goal)
    assert isinstance(action, Action)
    of_it = [each.command for each in action.steps[0].requests if each.arguments[0] == name]
    assert of_it[:2] == ["user delete", "user add"]


def test_users_of_role_root_with_names_of_the_clusters_certificates_are_taken_as_they_are() -> None:
    """As the page on settings asks for them where authentication is turned on by hand."""
    model = Model.running()
    model.root = {"a", "b", "c", "client"}
    log(model, WITH_USERS)
    assert model.users["a"] == model.users["client"] == {"root", OURS}
    assert model.users["root"] == {"root"}


def test_what_the_stack_named_before_is_its_own_whatever_was_changed_by_hand() -> None:
    model = Model.running(WITH_USERS)
    model.users["app"] = {"x"}
    assert log(model, WITH_USERS, users_before=NAMED) != []
    assert model.users["app"] == {"app", OURS}
    model.users["app"] = {OURS}
    assert log(model, WITH_USERS, users_before=NAMED) != []
    assert model.users["app"] == {"app", OURS}


def test_a_user_with_the_name_of_a_leaving_member_is_refused() -> None:
    """Wherever the run that lets the member leave is cut off, and before it."""
    goal = replace(WITH_USERS, names=("a", "b"), users=Users({**NAMED.users, "c": ["app"]}, NAMED.roles))
    model = Model.running(WITH_USERS)
    with pytest.raises(RefusedError) as refused:
        log(model, goal)
    assert (refused.value.kind, refused.value.details["names"]) == (Refusal.USER_NAMED_AS_MEMBER, ["c"])
    assert model.log == []
    log(model, replace(WITH_USERS, names=("a", "b")))
    log(model, goal)
    assert model.users["c"] == {"app", OURS}


def test_a_joining_member_with_the_name_of_a_user_is_refused() -> None:
    named = replace(WITH_USERS, users=Users({**NAMED.users, "d": ["app"]}, NAMED.roles))
    model = Model.running(named)
    goal = replace(WITH_USERS, names=("a", "b", "c", "d"))
    model.add_machine("d", goal.address("d"), goal.version)
    with pytest.raises(RefusedError) as refused:
        log(model, goal, users_before=named.users)
    assert (refused.value.kind, model.log) == (Refusal.USER_NAMED_AS_MEMBER, [])


def test_a_joining_member_does_not_take_over_somebody_elses_user() -> None:
    """It would get the role root, and whoever made it may have given it a password."""
    model = Model.running(WITH_USERS)
    model.users["d"], model.roles["x"] = {"x"}, {}
    goal = replace(WITH_USERS, names=("a", "b", "c", "d"))
    model.add_machine("d", goal.address("d"), goal.version)
    with pytest.raises(
        RefusedError, match=r"did not make them: d \(roles: x\).*: as root, run `etcdctl user grant-role d"
    ):
        log(model, goal, users_before=NAMED)
    assert model.users["d"] == {"x"}


def test_what_a_joining_members_user_was_given_by_hand_is_taken_back() -> None:
    """It was a member before. Nobody has a certificate of that name but the member itself."""
    model = Model.running(WITH_USERS)
    model.users["d"] = {"root", "etcd-cluster", "app"}
    goal = replace(WITH_USERS, names=("a", "b", "c", "d"))
    model.add_machine("d", goal.address("d"), goal.version)
    log(model, goal, users_before=NAMED)
    assert model.users["d"] == {"root", "etcd-cluster"}


# --- what users may do while users and roles change ---

A, B, C = "/a/", "/b/", "/c/"
KEYS = [b"/a/", b"/a/1", b"/a/own/1", b"/b/1", b"/c/1", b"one", b"z"]


def may(model: Model) -> dict[str, frozenset[tuple[bytes, str]]]:
    """User -> the keys, of some, that it may read, and those that it may write."""
    found: dict[str, frozenset[tuple[bytes, str]]] = {}
    for name, roles in model.users.items():
        allowed = [(keys, each) for role in roles for keys, each in model.roles.get(role, {}).items()]
        allowed += [(KeyRange(b"\0", b"\0"), "readwrite")] if "root" in roles else []
        found[name] = frozenset(
            (key, way)
            for key in KEYS
            for way in ("read", "write")
            for keys, access in allowed
            if way in access
            and keys.start <= key
            and (key < keys.end or keys.end == b"\0" if keys.end else key == keys.start)
        )
    return found


def named(users: dict[str, list[str]], roles: dict[str, list[tuple[str, str]]]) -> Users:
    return Users(
        {"client": ["root"], **users},
        {role: [Permission(*each) for each in permissions] for role, permissions in roles.items()},  # type: ignore[arg-type]
    )


RW = "readwrite"
CHANGES = {
    "a prefix goes to another role": (
        named({"u": ["r", "s"], "v": ["r"]}, {"r": [(RW, A), (RW, C)], "s": [(RW, B)]}),
        named({"u": ["r", "s"], "v": ["r"]}, {"r": [(RW, C)], "s": [(RW, B), (RW, A)]}),
    ),
    "two roles change their prefixes": (
        named({"u": ["r", "s"], "v": ["r"], "w": ["s"]}, {"r": [(RW, A)], "s": [(RW, B)]}),
        named({"u": ["r", "s"], "v": ["r"], "w": ["s"]}, {"r": [(RW, B)], "s": [(RW, A)]}),
    ),
    "a user gets another role": (
        named({"u": ["r"], "v": ["r"]}, {"r": [(RW, A), (RW, B)]}),
        named({"u": ["s"], "v": ["r"]}, {"r": [(RW, A), (RW, B)], "s": [(RW, A), (RW, C)]}),
    ),
    "a role is renamed": (
        named({"u": ["r"], "v": ["r"]}, {"r": [("read", A), ("write", B)]}),
        named({"u": ["s"], "v": ["s"]}, {"s": [(RW, A), ("read", B)]}),
    ),
    "a wider prefix": (
        named({"u": ["r"]}, {"r": [(RW, A)]}),
        named({"u": ["r"]}, {"r": [("read", ""), (RW, "/a/own/")]}),
    ),
    "a narrower prefix": (
        named({"u": ["r"]}, {"r": [("read", ""), ("write", A)]}),
        named({"u": ["r"]}, {"r": [(RW, "/a/own/"), (RW, B)]}),
    ),
    "read becomes write": (
        named({"u": ["r"], "v": ["r", "s"]}, {"r": [("read", A)], "s": [(RW, A)]}),
        named({"u": ["r"], "v": ["r", "s"]}, {"r": [("write", A)], "s": [("read", A)]}),
    ),
    "root becomes a role": (
        named({"client": ["root"], "u": ["r"]}, {"r": [(RW, A)]}),
        named({"client": ["r"], "u": ["root"]}, {"r": [(RW, A), (RW, B)]}),
    ),
    "a user comes and one goes": (
        named({"u": ["r"]}, {"r": [(RW, A)]}),
        named({"v": ["r"]}, {"r": [(RW, A), (RW, B)]}),
    ),
}


def due(model: Model, named: Users) -> Sequence[UsersRequest]:
    found = model.authentication("")
    assert found
    ours = {"root": frozenset({"root", OURS})}
    wanted = {name: frozenset({*roles, OURS}) for name, roles in named.users.items()}
    keys = {role: {range_of(each): each.access for each in permissions} for role, permissions in named.roles.items()}
    return requests(found, {**wanted, **ours}, {OURS: {}, "root": {}, **keys})


def made(named: Users, start: Model | None = None) -> Iterator[Model]:
    """Yields the users of a cluster after each request that leads to these."""
    model = deepcopy(start) if start else Model()
    for request in due(model, named):
        model.request(request)
        yield deepcopy(model)
    assert due(model, named) == []


@pytest.mark.parametrize("change", CHANGES)
def test_no_user_ever_lacks_what_it_may_before_and_after_or_may_more_than_either(change: str) -> None:
    old, new = CHANGES[change]
    *_, first = made(old)
    *_, last = made(new)
    before, after = may(first), may(last)
    end = first
    for model in made(new, first):
        require_between(before, after, model)
        end = model
        for again in made(new, model):  # it was cut off there; the next one may be as well
            require_between(before, after, again)
            end = again
        assert (end.users, end.roles) == (last.users, last.roles)


def require_between(
    before: Mapping[str, frozenset[tuple[bytes, str]]], after: Mapping[str, frozenset[tuple[bytes, str]]], model: Model
) -> None:
    nothing = frozenset[tuple[bytes, str]]()
    now = may(model)
    for name in before.keys() | after.keys() | now.keys():
        then, later, has = (each.get(name, nothing) for each in (before, after, now))
        assert has >= then & later, (name, sorted((then & later) - has), model.users, model.roles)
        assert has <= then or has <= later, (name, sorted(has), model.users, model.roles)


def test_a_role_that_is_made_anew_leaves_nobody_without_it() -> None:
    """It has keys that no words of etcdctl can name, so it has to be deleted."""
    (named, _) = CHANGES["a user comes and one goes"]
    *_, model = made(named)
    before = may(model)
    model.roles["r"][KeyRange(b"a\0", b"")] = "read"
    model.users["theirs"] = {"r"}
    end = model
    for end in made(named, model):
        assert may(end)["u"] == before["u"]
    assert end.users["theirs"] == {"r"}
    assert end.roles["r"] == {KeyRange(b"/a/", b"/a0"): "readwrite"}


# --- what etcd answers ---


def answer(state: str, *lines: tuple[str, str, Any], asked: bool = True) -> str:
    return "\n".join(
        [state, *("\t".join([kind, json.dumps(name), json.dumps(it)]) for kind, name, it in lines), "asked"][
            : None if asked else -1
        ]
    )


def test_users_and_roles_are_read_as_etcd_tells_them() -> None:
    found = parse_authentication(
        answer(
            "on",
            ("user", "app", {"header": {}, "roles": ["app"]}),
            ("user", "nobody", {"header": {}}),
            ("role", "empty", {"header": {}}),
            (
                "role",
                "app",
                {
                    "perm": [
                        {"permType": 2, "key": "AA==", "range_end": "AA=="},
                        {"key": base64.b64encode(b"k").decode()},
                    ]
                },
            ),
        )
    )
    assert found
    assert (found.enabled, found.users) == (True, {"app": frozenset({"app"}), "nobody": frozenset()})
    assert found.roles == {"empty": {}, "app": {KeyRange(b"\0", b"\0"): "readwrite", KeyRange(b"k", b""): "read"}}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "on",
        answer("on", asked=False),
        'on\nuser\t"app"\nasked',
        'on\nuser\t"app"\t{\nasked',
        "on\nuser\tapp\t{}\nasked",
    ],
)
def test_a_part_of_an_answer_is_none(text: str) -> None:
    assert parse_authentication(text) is None


# --- previews ---


def inputs(goal: Goal, **other: Any) -> dict[str, Any]:
    named = goal.users.users if goal.users else {}
    return {
        "members": {name: goal.address(name) for name in goal.names},
        **{"tls": goal.tls, "version": goal.version, "ca_fingerprints": ["1"], "users": named},
        **{"roles": shown_roles(goal.users), **other},
    }


def test_a_preview_says_who_may_do_what_from_then_on() -> None:
    before = {key: value for key, value in inputs(GOAL).items() if key not in ("users", "roles")}
    first = changes.steps(before, inputs(WITH_USERS))
    assert first[:2] == ["user app: added, with app", "user client: added, with root"]
    assert "the exported clientCertificate is that of user client, with root" in first[2]
    other = Users({"client": ["app"]}, {"app": [Permission("read", "/app/")]})
    assert changes.steps(inputs(WITH_USERS), inputs(replace(GOAL, users=other))) == [
        "user client: with app",
        "role app: its keys change",
        "user app is removed: its certificate may do nothing from then on",
    ]
    (off,) = changes.steps(inputs(WITH_USERS), inputs(GOAL))
    assert off.startswith("etcd's authentication is turned off, without a restart")
    assert "authentication is turned on" in changes.first_steps(inputs(WITH_USERS))[-1]


@pytest.mark.parametrize(
    ("other", "kind"),
    [
        ({"version": "3.7.3"}, Refusal.USERS_AND_VERSION_CHANGED),
        ({"tls": False, "allow_plaintext": True}, Refusal.USERS_AND_TLS_CHANGED),
        ({"ca_fingerprints": ["2", "1"]}, Refusal.USERS_AND_CA_CHANGED),
    ],
)
def test_users_change_alone(other: dict[str, Any], kind: Refusal) -> None:
    assert [each.kind for each in changes.refusals(inputs(GOAL), inputs(WITH_USERS, **other))] == [kind]
    assert [each.kind for each in changes.refusals(inputs(WITH_USERS), inputs(GOAL, **other))] == [kind]
    assert changes.refusals(inputs(WITH_USERS), inputs(WITH_USERS, **{**other, "tls": True})) == []
    assert changes.refusals(inputs(GOAL), inputs(WITH_USERS, version="3.6.17")) == []


def test_a_user_does_not_get_the_name_of_a_member_that_leaves_nor_a_member_that_of_a_user() -> None:
    of_user = replace(WITH_USERS, users=Users({**NAMED.users, "c": ["app"]}, NAMED.roles))
    fewer, of_d = inputs(replace(of_user, names=("a", "b"))), Users({**NAMED.users, "d": ["app"]}, NAMED.roles)
    for before in (inputs(WITH_USERS), inputs(GOAL)):
        assert [each.kind for each in changes.refusals(before, fewer)] == [Refusal.USER_NAMED_AS_MEMBER]
    more = replace(WITH_USERS, names=("a", "b", "c", "d"))
    (refused,) = changes.refusals(inputs(replace(GOAL, users=of_d)), inputs(more))
    assert (refused.kind, refused.details["names"]) == (Refusal.USER_NAMED_AS_MEMBER, ["d"])
    assert changes.refusals(inputs(WITH_USERS), inputs(more)) == []


# --- etcd-cluster env --user ---


def test_a_user_is_exported_by_name() -> None:
    outputs = {"clientCertificate": "c", "clientKey": "k", "users": {"app": {"certificate": "a", "key": "b"}}}
    assert env.outputs_for(outputs, None) == outputs
    assert env.outputs_for(outputs, "app") == {**outputs, "clientCertificate": "a", "clientKey": "b"}
    with pytest.raises(CommandError, match=r"no user of that name.* It has: app"):
        env.outputs_for(outputs, "other")
    with pytest.raises(CommandError, match="It has none: name them in `users`"):
        env.outputs_for({}, "app")
