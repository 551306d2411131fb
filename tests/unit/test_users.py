"""etcd's users: what they are made of, how the planner brings them about, and what previews say and refuse."""

from __future__ import annotations

import base64
import json
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
from etcd_cluster.rollout.planner.actions import Action, ActionKind, Refusal, WaitFor, WaitReason
from etcd_cluster.rollout.planner.refusals import RefusedError
from etcd_cluster.rollout.planner.run_context import RunContext
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
    assert log(model, GOAL, had_users=True) == [
        "a: turning etcd's authentication off",
        "a: setting etcd's users and roles: a, app, b, c, client, etcd-cluster, root",
    ]
    assert model.users == {"theirs": {"of-theirs", "app"}}
    assert model.roles.keys() == {"of-theirs", "app"}
    assert log(model, GOAL, had_users=True) == []


def test_without_users_in_the_stack_those_of_somebody_else_are_not_looked_at() -> None:
    model = Model.running()
    model.root = {"a", "b", "c"}
    assert log(model, GOAL) == []
    assert users.unlisted(GOAL.desired, model.authentication("a")) == ()


def test_a_user_root_that_somebody_made_before_stays_when_users_go() -> None:
    model = Model.running()
    model.users["root"] = {"root"}
    model.roles["root"] = {}
    log(model, WITH_USERS)
    assert model.users["root"] == {"root"}
    log(model, GOAL, had_users=True)
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
    action = decide(model, replace(WITH_USERS, user_options={"heartbeat-interval": 200, "election-timeout": 2000}))
    assert isinstance(action, Action)
    assert action.kind is ActionKind.SET_USERS
    (step,) = action.steps
    assert step.line == SetUsers(UsersChange.SET, 60, as_root="a" in lacking)
    log(model, WITH_USERS)
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
    with pytest.raises(RefusedError, match=r"\ba, b may not" if down else "a, b, c may not"):
        next_action(GOAL.desired, observation, RunContext())


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
    assert users.unlisted(WITH_USERS.desired, model.authentication("a")) == ["theirs"]


# --- what etcd answers ---


def answer(state: str, *lines: tuple[str, str, Any], asked: bool = True) -> str:
    return "\n".join(
        [state, *("\t".join([kind, name, json.dumps(it)]) for kind, name, it in lines), "asked"][
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
    "text", ["", "on", answer("on", asked=False), "on\nuser\tapp\nasked", "on\nuser\tapp\t{\nasked"]
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


# --- etcd-cluster env --user ---


def test_a_user_is_exported_by_name() -> None:
    outputs = {"clientCertificate": "c", "clientKey": "k", "users": {"app": {"certificate": "a", "key": "b"}}}
    assert env.outputs_for(outputs, None) == outputs
    assert env.outputs_for(outputs, "app") == {**outputs, "clientCertificate": "a", "clientKey": "b"}
    with pytest.raises(CommandError, match=r"no user of that name.* It has: app"):
        env.outputs_for(outputs, "other")
    with pytest.raises(CommandError, match="It has none: name them in `users`"):
        env.outputs_for({}, "app")
