"""The Rollout resource: what a preview decides without looking, what an `up` looks for, and how actions are run."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import pytest
from pulumi.output import Unknown
from pulumi.runtime.rpc import UNKNOWN

from etcd_cluster.errors import EtcdClusterError
from etcd_cluster.machines.machine import Ports
from etcd_cluster.member.line import Line
from etcd_cluster.member.lines import Apply, ApplyAction, Log, PeerLog, Probe, Remove
from etcd_cluster.member.machines import Place, StepFailedError, say
from etcd_cluster.rollout import changes, lifecycle
from etcd_cluster.rollout.desired import DesiredCluster, File
from etcd_cluster.rollout.lifecycle import INPUTS, NotRemovedError, RolloutLifecycle
from etcd_cluster.rollout.observed import History, HostBackups, Observation, Question
from etcd_cluster.rollout.planner.actions import Action, ActionKind, HostStep, Refusal, WaitReason
from etcd_cluster.rollout.planner.refusals import RefusedError
from etcd_cluster.rollout.planner.run_context import RunContext, V2Data
from etcd_cluster.rollout.reports import PeerTest, with_peer_tests
from etcd_cluster.ssh.connection import (
    SshAuthenticationError,
    SshConfigurationError,
    SshConnectionLostError,
    SshHostKeyError,
    SshNoAnswerError,
    SshUnreachableError,
)
from etcd_cluster.ssh.processes import CommandTimeoutError
from tests.unit.rollout_model import CONFIGURATION, LAYOUT, Goal, Model, usual_address

GOAL = Goal()
SETTINGS = replace(GOAL, user_options={"heartbeat-interval": 200, "election-timeout": 2000})


def desired_text(desired: DesiredCluster) -> str:
    """As the resource keeps it: the inverse of `DesiredCluster.parse`."""
    properties = {
        **{key: getattr(desired, key) for key in ("cluster", "token", "version", "tls", "options", "delete_data")},
        "user_options": desired.user_options,
        "quota_bytes": desired.quota_bytes,
        "trusted": "".join(desired.trusted),
        "peer_trusted": "".join(desired.peer_trusted),
        "order": list(desired.members),
        "members": {name: vars(member) for name, member in desired.members.items()},
    }
    return json.dumps(properties, default=vars, sort_keys=True)


def inputs(goal: Goal, **changes: Any) -> dict[str, Any]:
    return {
        "version": goal.version,
        "tls": goal.tls,
        "size": "small",
        "etcd": dict(goal.user_options),
        "members": {name: goal.address(name) for name in goal.names},
        "places": {name: {"device": "/dev/data", "ports": "2379,2380,2381"} for name in goal.names},
        "ca_fingerprints": [str(number) for number in goal.trusted] if goal.tls else [],
        "peer_ca_fingerprints": [f"of peers {number}" for number in goal.peer_trusted or ()] if goal.tls else [],
        "allow_plaintext": False,
        "users": {},
        "roles": {},
        "restore_from": "",
        "names": {"etcd.example.com": "all members"},
        "restoration": None,
        "defragment": None,
        "delete_data": False,
        "desired": desired_text(goal.desired),
        "connections": {name: {"host": goal.address(name)} for name in goal.names},
        "record": "the-record",
        "former": {},
        "backups": None,
        **changes,
    }


@dataclass
class Machines:
    """In place of ClusterMachines: a model does what it is asked. gone: members whose machines raise instead."""

    model: Model
    goal: Goal
    opened: list[tuple[set[str], set[str], set[str]]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    claims: list[str] = field(default_factory=list)
    taken: dict[str, str] = field(default_factory=dict)
    gone: dict[str, EtcdClusterError] = field(default_factory=dict)
    gone_at: dict[tuple[str, str], EtcdClusterError] = field(default_factory=dict)
    log: str = "its log"
    probes: list[tuple[str, Probe, dict[str, str]]] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)
    passing: bool = False
    before: dict[str, Any] = field(default_factory=dict)
    answering: frozenset[str] = frozenset()
    dropping: frozenset[str] = frozenset()
    """Members to which no new connection can be made, which etcd itself has not noticed."""

    def __call__(
        self,
        members: Mapping[str, Place],
        connections: Mapping[str, Any],
        leaving: Collection[str] = (),
        *,
        passing: bool = False,
        before: Mapping[str, Any] | None = None,
        token: str = "",
    ) -> Machines:
        assert token in ("", self.goal.desired.token)
        self.before = dict(before or {})
        self.opened.append((set(members), set(connections), set(leaving)))
        self.passing = passing
        return self

    def __enter__(self) -> Machines:
        return self

    def __exit__(self, *_: object) -> None:
        self.opened.append((set(), set(), set()))

    def observe(
        self, *, claim: str = "", rights: bool = False, users: bool = False, restarted: Collection[str] = ()
    ) -> Observation:
        self.claims.append(claim)
        run = next((each for each in reversed(self.claims) if each), "")
        observation = self.model.observe(sorted(self.opened[-1][0]))
        # A machine that is being claimed tells that very claim; another run's comes right after.
        taken = self.taken if not claim else {}
        claimed = {name: replace(host, claim=taken.get(name, run)) for name, host in observation.hosts.items()}
        urls = {each.peer_url for each in observation.members if each.name in self.dropping.intersection(restarted)}
        tests = {name: PeerTest(frozenset(), frozenset(urls)) for name in claimed}
        return with_peer_tests(replace(observation, hosts=claimed, answering=self.answering), tests)

    def on_all(self, names: list[str], do: Callable[[str], str]) -> dict[str, Any]:
        answers: dict[str, Any] = {}
        for name in names:
            try:
                answers[name] = do(name)
            except EtcdClusterError as error:
                answers[name] = error
        return answers

    def run(
        self,
        name: str,
        line: Line,
        variables: Mapping[str, str] | None = None,
        *,
        timeout_seconds: int,
        run: str = "",
        progress: str = "",
        say: Callable[[str], None] | None = None,
    ) -> str:
        assert timeout_seconds
        self.lines.append(line.text(name, run, progress))
        gone = self.gone.get(name) or self.gone_at.get((line.step, name))
        if gone:
            raise gone
        if isinstance(line, Log):
            return self.log
        if isinstance(line, PeerLog):
            return f"a line on {line.name} ({line.peer})\n"
        assert len(run) == 16
        if isinstance(line, Remove):
            self.model.stop(name)
            return ""
        given = dict(variables or {})
        if isinstance(line, Probe):
            self.probes.append((name, line, given))
            return self.answers.get(name, f"{int('c1', 16)}\n")
        step = HostStep(name, line, files(given.get("manifest", "")), history(given.get("history", "")))
        context = RunContext()
        self.model.carry_out(Action(ActionKind.RESTART, [step]), self.goal, context)
        found, _ = context.v2store.get(name, (V2Data.CLEAN, 0))
        return found.value


def files(manifest: str) -> list[File]:
    found: list[File] = []
    for line in manifest.splitlines():
        mode, owner, content, path = line.split(" ", 3)
        found.append(File(path, mode, owner, base64.b64decode(content).decode()))
    return found


def history(encoded: str) -> History | None:
    if not encoded:
        return None
    facts = dict(line.split("=", 1) for line in base64.b64decode(encoded).decode().splitlines())
    series_index, members_index = (int(facts.pop(name)) for name in ("series_index", "members_index"))
    return History(**facts, series_index=series_index, members_index=members_index)


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Machines:
    """Those of a healthy cluster that is as GOAL asks."""
    found = Machines(Model.running(), GOAL)
    monkeypatch.setattr(lifecycle, "ClusterMachines", found)
    return found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Time passes only while somebody sleeps."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(lifecycle.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(lifecycle.time, "sleep", sleep)
    return now


def check(olds: dict[str, Any], news: dict[str, Any], *, looks: bool) -> dict[str, Any]:
    result = RolloutLifecycle().check(olds, {**news, "looks": looks})
    assert not result.failures
    return dict(result.inputs)


# --- what it keeps ---


@pytest.mark.parametrize("goal", [GOAL, replace(GOAL, tls=False), replace(SETTINGS, trusted=(1, 0))], ids=str)
def test_the_desired_state_survives_being_kept(goal: Goal) -> None:
    assert DesiredCluster.parse(desired_text(goal.desired)) == goal.desired


def test_only_keys_hold_keys_and_nothing_that_is_printed_does() -> None:
    desired = GOAL.desired
    spec = desired.spec("a", desired.security, desired.version)
    all_files = [
        *desired.certificate_files("a"),
        *desired.other_files("a", spec),
        *desired.start_files("a", spec, desired.trust),
        desired.bootstrap_file("a", spec, "new", {"a": "https://10.0.0.1:2380"}),
    ]
    holders = {file.path: (file.mode, file.owner) for file in all_files if "PRIVATE KEY" in file.content}
    assert holders == {f"/etc/etcd/pki/{name}.key": ("400", "member") for name in ("server", "peer")}
    assert "PRIVATE KEY" not in f"{desired!r} {all_files!r} {HostStep('a', Apply(ApplyAction.FILES), all_files)!r}"


def test_for_another_version_a_member_gets_those_of_the_users_settings_that_it_knows() -> None:
    goal = replace(GOAL, user_options={"corrupt-check-time": "1h", "heartbeat-interval": 200, "election-timeout": 2000})
    known = goal.desired.server_options("3.5.35")
    assert known["heartbeat-interval"] == 200
    assert "corrupt-check-time" not in known
    assert "corrupt-check-time" in goal.desired.server_options("3.6.16")


def test_a_run_that_ends_as_members_do_not_reach_one_another_shows_what_both_logs_say(
    machines: Machines, clock: list[float]
) -> None:
    machines.model.machines["c"].peer_port_closed = True
    with pytest.raises(RefusedError) as error:
        RolloutLifecycle().update("", inputs(GOAL), check(inputs(GOAL), inputs(SETTINGS), looks=False))
    assert error.value.kind is WaitReason.BROKEN_PAIRS
    ids = {each.name: each.id for each in machines.model.members}
    assert str(error.value).splitlines()[-4:] == [
        f"a, on c: a line on c ({ids['c']})",
        f"c, on a: a line on a ({ids['a']})",
        f"b, on c: a line on c ({ids['c']})",
        f"c, on b: a line on b ({ids['b']})",
    ]
    assert machines.model.log == []


# --- in a preview ---


@pytest.fixture
def nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: object) -> None:
        raise AssertionError("a preview asks no machine")

    monkeypatch.setattr(lifecycle, "ClusterMachines", opened)


@pytest.mark.usefixtures("nobody_is_asked")
def test_a_preview_asks_no_machine_and_tells_the_steps() -> None:
    assert check({}, inputs(GOAL), looks=False)["steps"] == ["a new cluster of etcd 3.6.16 is formed: a, b, c"]
    before = check({}, inputs(GOAL), looks=False)
    (step,) = check(before, inputs(SETTINGS), looks=False)["steps"]
    assert step.startswith("a, b, c: restarted for election-timeout, heartbeat-interval")
    assert check(before, inputs(GOAL), looks=False) == before


@pytest.mark.usefixtures("nobody_is_asked")
@pytest.mark.parametrize("unknown", [Unknown(), UNKNOWN])
def test_a_preview_works_with_everything_unknown(unknown: object) -> None:
    later = {
        "members": {name: unknown for name in GOAL.names},
        "ca_fingerprints": unknown,
        "peer_ca_fingerprints": unknown,
        "desired": unknown,
    }
    first = check({}, {**inputs(GOAL), **later}, looks=False)
    assert first["steps"] == ["a new cluster of etcd 3.6.16 is formed: a, b, c"]
    before = check({}, inputs(GOAL), looks=False)
    after = check(before, {**inputs(GOAL), **later}, looks=False)
    assert len(after["steps"]) == 4, "each address, and the CA"
    assert RolloutLifecycle().diff("id", before, after).changes


@pytest.mark.usefixtures("nobody_is_asked")
def test_what_is_refused_fails_the_preview_and_names_no_property() -> None:
    """The engine would print the property's value."""
    result = RolloutLifecycle().check(inputs(GOAL), {**inputs(replace(GOAL, version="3.5.35")), "looks": True})
    assert [failure.property for failure in result.failures] == [""]
    assert "going back to 3.5 is not supported" in result.failures[0].reason


@pytest.mark.usefixtures("nobody_is_asked")
def test_certificates_alone_restart_nobody_and_that_is_told() -> None:
    before = check({}, inputs(GOAL), looks=False)
    renewed = inputs(replace(GOAL, renewals={"a": 1}))
    for news in (renewed, {**renewed, "desired": UNKNOWN}, {**inputs(GOAL), "connections": {}}):
        assert check(before, news, looks=False)["steps"] == [changes.NOTHING_RESTARTS]


@pytest.mark.parametrize("looks", [True, False])
def test_inputs_are_those_that_are_kept_and_never_whether_this_is_a_preview(looks: bool, machines: Machines) -> None:
    assert set(check({}, inputs(GOAL), looks=looks)) == set(INPUTS)
    before = check({}, inputs(GOAL), looks=looks)
    assert set(check(before, inputs(GOAL), looks=looks)) == set(INPUTS)
    assert check(before, inputs(GOAL), looks=not looks) == before


# --- what is a change ---


@pytest.mark.parametrize(
    ("change", "changes"),
    [
        ({}, False),
        ({"steps": ["another"]}, False),
        ({"etcd": None}, False),
        ({"delete_data": None}, False),
        ({"delete_data": True}, True),
        ({"etcd": {"log-level": "debug"}}, True),
        ({"members": {"a": usual_address("a"), "b": usual_address("b"), "c": UNKNOWN}}, True),
        ({"members": {"a": usual_address("a"), "b": usual_address("b")}}, True),
        ({"ca_fingerprints": ["0", "1"]}, True),
        ({"ca_fingerprints": [UNKNOWN]}, True),
        ({"peer_ca_fingerprints": ["of peers 1"]}, True),
        ({"names": {}}, True),
        ({"desired": Unknown()}, True),
        ({"connections": {}}, True),
        ({"drift": ["b: found: does not run"]}, True),
    ],
)
def test_whatever_is_asked_for_or_found_is_a_change(change: dict[str, Any], changes: bool) -> None:
    olds = {**inputs(GOAL), "steps": ["one"], "drift": []}
    diff = RolloutLifecycle().diff("id", olds, {**olds, **change})
    assert (diff.changes, diff.replaces) == (changes, [])


# --- what an `up` looks for ---


def test_an_up_of_the_same_stack_looks_once_and_finds_nothing(machines: Machines) -> None:
    before = check({}, inputs(GOAL), looks=True)
    assert machines.opened == [], "there is nothing to look at yet"
    after = check(before, inputs(GOAL), looks=True)
    assert (after, machines.claims) == (before, [""])
    assert not RolloutLifecycle().diff("id", before, after).changes


def test_what_was_changed_by_hand_is_found_and_told_by_member(machines: Machines) -> None:
    machines.model.stop("b")
    machines.model.edit("c", CONFIGURATION)
    before = check({}, inputs(GOAL), looks=True)
    after = check(before, inputs(GOAL), looks=True)
    assert after["drift"] == ["b: found: does not run", f"c: found: {CONFIGURATION} differs"]
    assert RolloutLifecycle().diff("id", before, after).changes


def test_every_up_warns_of_backups_that_are_late_or_failed(
    machines: Machines, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is no drift: there is nothing that an update would do."""
    observe = machines.observe
    failed = HostBackups(newest="20200101T000000Z-7-b", failure="the store is full. Expected: room")

    def with_failure(**asked: Any) -> Observation:
        observation = observe(**asked)
        return replace(observation, hosts={**observation.hosts, "b": replace(observation.hosts["b"], backups=failed)})

    monkeypatch.setattr(machines, "observe", with_failure)
    backups = {"every": "1h", "test": "daily"}
    before = check({}, inputs(GOAL, backups=backups), looks=True)
    assert check(before, inputs(GOAL, backups=backups), looks=True)["drift"] == []
    warning = (
        "warning: backups: b: its last backup failed: the store is full. Expected: room\n"
        "warning: backups: late: the newest is "
    )
    assert capsys.readouterr().err.startswith(warning)
    assert check(before, inputs(GOAL), looks=True)["drift"] == []
    assert capsys.readouterr().err == "", "without backups, none is missed"
    RolloutLifecycle().update("id", inputs(GOAL), {**inputs(SETTINGS, backups=backups), "steps": [], "drift": []})
    assert warning in capsys.readouterr().err


def test_a_stack_of_an_earlier_release_shows_no_difference_for_the_warnings(machines: Machines) -> None:
    before = check({}, inputs(GOAL), looks=True)
    after = check(before, inputs(GOAL, backups={"every": "1h", "test": "daily"}), looks=True)
    assert not RolloutLifecycle().diff("id", before, after).changes


def test_a_change_of_the_stack_is_not_looked_for_twice(machines: Machines) -> None:
    before = check({}, inputs(GOAL), looks=True)
    assert check(before, inputs(SETTINGS), looks=True)["drift"] == []
    assert machines.opened == []


def test_a_machine_that_cannot_be_asked_is_drift_too_and_the_update_says_why(machines: Machines) -> None:
    machines.model.machines["b"].reachable = False
    before = check({}, inputs(GOAL), looks=True)
    assert check(before, inputs(GOAL), looks=True)["drift"][0].startswith(
        "no answer from the machines of these members: b: cannot be"
    )


# --- carrying it out ---


def test_creating_forms_the_cluster_and_keeps_the_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    machines = Machines(Model.blank(GOAL), GOAL)
    monkeypatch.setattr(lifecycle, "ClusterMachines", machines)
    news = check({}, inputs(GOAL), looks=True)
    created = RolloutLifecycle().create(news)
    assert created.id == GOAL.desired.token
    assert created.outs == news
    assert machines.model.formed
    assert [member.name for member in machines.model.members] == ["a", "b", "c"]


def test_an_update_takes_the_cluster_there_claims_it_once_and_says_what_was_found(
    machines: Machines, capfd: pytest.CaptureFixture[str]
) -> None:
    news = {**inputs(SETTINGS), "steps": [], "drift": ["b: found: does not run"], "given_up": None}
    updated = RolloutLifecycle().update("id", inputs(GOAL), news)
    assert updated.outs == news
    assert sorted(machines.model.restarts) == ["a", "b", "c"]
    assert len(machines.claims[0]) == 16, "of several runs at work, the last one that began goes on"
    assert set(machines.claims[1:]) == {""}
    assert capfd.readouterr().err.splitlines()[0] == "b: found: does not run"


def test_a_run_that_does_not_hold_all_machines_does_nothing(machines: Machines) -> None:
    """Another one began at the same time, and claimed the others last. Each would go on with its own part."""
    machines.taken["b"] = "another-run"
    with pytest.raises(RefusedError) as refused:
        RolloutLifecycle().update("id", inputs(GOAL), {**inputs(SETTINGS), "steps": [], "drift": []})
    assert (refused.value.kind, refused.value.details) == (Refusal.TAKEN_OVER, {"members": ["b"]})
    assert machines.model.restarts == []


def test_members_that_leave_are_stopped_after_the_cluster_let_them_go(machines: Machines) -> None:
    after = replace(GOAL, names=("a",))
    machines.goal = after
    RolloutLifecycle().update("id", inputs(GOAL), {**inputs(after), "drift": []})
    assert machines.opened[0] == ({"a", "b", "c"}, {"a", "b", "c"}, {"b", "c"})
    assert [line.split()[3] for line in machines.lines[-4:]] == ["apply", "probe", "remove", "remove"]
    assert "members=3 record=" in machines.lines[-1]


def left(name: str, mark: str = "first") -> dict[str, Any]:
    """What the record of hosts keeps of one that is no longer listed."""
    host = {"layout": vars(LAYOUT), "ports": vars(Ports()), "tls": True}
    return {**host, "connection": {"host": usual_address(name)}, "mark": mark}


@pytest.mark.parametrize(
    ("before", "removed"), [({}, ["d"]), ({"d": left("d")}, []), ({"d": left("d", "earlier")}, ["d"])]
)
def test_hosts_that_left_while_runs_were_cut_short_are_cleaned_once(
    before: dict[str, Any], removed: list[str], machines: Machines
) -> None:
    """A run that was cut short does not record that it put anything there."""
    machines.model.add_machine("d", usual_address("d"), GOAL.version)
    RolloutLifecycle().update("id", inputs(GOAL, former=before), {**inputs(GOAL, former={"d": left("d")}), "drift": []})
    assert machines.opened[0] == (
        {*GOAL.names, *removed},
        {*GOAL.names, *removed},
        set(removed),
    )
    said = [line for line in machines.lines if " remove " in line]
    assert [line.split()[4] for line in said] == [f"member={name}" for name in removed]
    assert all(line.endswith(" record=the-record") for line in said)


@pytest.mark.parametrize(
    ("error", "forgotten", "fails"),
    [
        (SshNoAnswerError("no route to host"), "", False),
        (SshUnreachableError("port closed"), "", True),
        (SshUnreachableError("port closed"), "d", False),
        (SshAuthenticationError("refused the key"), "", True),
        (SshAuthenticationError("refused the key"), "d", False),
        (SshHostKeyError("another host key"), "d", False),
        (CommandTimeoutError("hung"), "", True),
        (CommandTimeoutError("hung"), "d", False),
        (StepFailedError("sudo refused"), "d", False),
    ],
)
def test_a_host_that_left_is_taken_for_gone_if_nothing_answers_or_once_it_is_named(
    error: EtcdClusterError, forgotten: str, fails: bool, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETCD_CLUSTER_FORGET", forgotten)
    machines.model.add_machine("d", usual_address("d"), GOAL.version)
    machines.gone["d"] = error
    news = {**inputs(GOAL, former={"d": left("d")}), "drift": []}
    if fails:
        text = rf"d: .*etcd was (not )?stopped: {error}\. Expected: .*ETCD_CLUSTER_FORGET=d\.$"
        with pytest.raises(NotRemovedError, match=text):
            RolloutLifecycle().update("id", inputs(GOAL), news)
    else:
        RolloutLifecycle().update("id", inputs(GOAL), news)
    assert len(machines.probes) == len(GOAL.names), "the cluster comes first"


def test_a_host_that_is_listed_again_is_not_cleaned(machines: Machines) -> None:
    RolloutLifecycle().update("id", inputs(GOAL), {**inputs(GOAL, former={"a": left("a")}), "drift": []})
    assert not any(" remove " in line for line in machines.lines)


def test_the_machine_of_a_member_is_not_cleaned_under_the_name_it_had(machines: Machines) -> None:
    """Renamed after a first `up` that was cut short, or once its data were moved away."""
    machine = machines.model.add_machine("d", usual_address("d"), GOAL.version)
    machine.identity, machine.token = "machine-of-b", ""  # the marker of a model's machine always names that one
    RolloutLifecycle().update("id", inputs(GOAL), {**inputs(GOAL, former={"d": left("d")}), "drift": []})
    assert not any(" remove " in line for line in machines.lines)


def test_a_machine_that_was_cloned_from_a_members_is_cleaned(machines: Machines) -> None:
    machine = machines.model.add_machine("d", usual_address("d"), GOAL.version)
    machine.identity, machine.token = "machine-of-b", machines.model.machines["b"].token
    RolloutLifecycle().update("id", inputs(GOAL), {**inputs(GOAL, former={"d": left("d")}), "drift": []})
    assert [line.split()[4] for line in machines.lines if " remove " in line] == ["member=d"]


@pytest.mark.parametrize("forming", [True, False])
def test_where_a_member_was_before_is_of_interest_while_the_cluster_is_formed(
    forming: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines = Machines(Model.blank(GOAL) if forming else Model.running(), GOAL)
    machines.model.add_machine("a-before-1", usual_address("d"), GOAL.version)
    monkeypatch.setattr(lifecycle, "ClusterMachines", machines)
    news = inputs(GOAL, former={"a-before-1": {**left("d"), "moved": True}})
    if forming:
        RolloutLifecycle().create(news)
    else:
        RolloutLifecycle().update("id", inputs(GOAL), {**news, "drift": []})
    assert machines.opened[0][2] == ({"a-before-1"} if forming else set())


def test_where_members_were_before_is_asked_while_other_data_take_the_place_of_theirs(machines: Machines) -> None:
    """Members may go on there, with the data that are given up."""
    former = "a-before-0a1b2c3d"
    machines.model.add_machine(former, usual_address("d"), GOAL.version)
    asked = {"key": "recover", "cluster": "c1", "from": "", "lost": []}
    news = inputs(GOAL, former={former: {**left("d"), "moved": True}}, restoration=asked)
    RolloutLifecycle().update("id", inputs(GOAL), {**news, "drift": []})
    assert machines.opened[0][2] == {former}
    assert not [line for line in machines.lines if " remove " in line], "its host record does that"


def test_creating_looks_at_former_hosts_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    machines = Machines(Model.blank(GOAL), GOAL)
    machines.model.add_machine("d", usual_address("d"), GOAL.version).reachable = False
    monkeypatch.setattr(lifecycle, "ClusterMachines", machines)
    with pytest.raises(RefusedError) as refused:
        RolloutLifecycle().create(inputs(GOAL, former={"d": left("d")}))
    assert refused.value.kind is Refusal.FORMING_UNREACHABLE
    assert not machines.model.formed


def test_a_step_that_fails_ends_the_run_with_what_it_said_and_whose_turn_is_next(machines: Machines) -> None:
    machines.gone["b"] = StepFailedError("b: etcd does not start; the last lines of its log: no space left")
    with pytest.raises(StepFailedError) as failed:
        RolloutLifecycle().update("id", inputs(GOAL), {**inputs(SETTINGS), "drift": []})
    assert str(failed.value).splitlines() == [
        "b: etcd does not start; the last lines of its log: no space left",
        "The run stopped there; the next `up` starts with b",
    ]
    assert machines.model.restarts == []


def test_all_calls_of_an_act_are_made_before_the_first_failure_is_told(machines: Machines) -> None:
    for name in GOAL.names:
        machines.model.stop(name)
    machines.gone["a"] = SshUnreachableError("a: no route to host")
    with pytest.raises(SshUnreachableError):
        RolloutLifecycle().update("id", inputs(GOAL), {**inputs(GOAL), "drift": []})
    assert [name for name in GOAL.names if machines.model.machines[name].process] == ["b", "c"]


def test_what_does_not_pass_ends_the_run_after_its_time_with_the_members_log(
    machines: Machines, clock: list[float]
) -> None:
    machines.model.machines["c"].frozen = True
    with pytest.raises(RefusedError) as refused:
        RolloutLifecycle().update("id", inputs(GOAL), {**inputs(GOAL), "drift": []})
    assert (refused.value.kind, refused.value.details) == (WaitReason.MEMBER_UNHEALTHY, {"name": "c"})
    assert str(refused.value).splitlines()[1:] == ["This run waited 120 seconds.", "its log"]
    assert 60 <= clock[0] <= 121


def test_what_passes_by_itself_ends_the_waiting(machines: Machines, clock: list[float]) -> None:
    machines.model.machines["c"].cut_off = True
    observe = machines.observe

    def repaired(**asked: Any) -> Observation:
        machines.model.machines["c"].cut_off = clock[0] < 5
        return observe(**asked)

    machines.observe = repaired  # type: ignore[method-assign]
    RolloutLifecycle().update("id", inputs(GOAL), {**inputs(GOAL), "drift": []})
    assert clock[0] < 6


def test_a_roll_ends_at_the_first_member_that_the_others_reach_only_by_connections_from_before(
    machines: Machines, clock: list[float]
) -> None:
    """etcd itself goes on counting it for seconds."""
    machines.dropping = frozenset("abc")
    with pytest.raises(RefusedError) as refused:
        RolloutLifecycle().update("id", inputs(GOAL), {**inputs(SETTINGS), "steps": [], "drift": []})
    assert refused.value.kind is WaitReason.BROKEN_PAIRS
    restarted = {line.split("member=")[1].split()[0] for line in machines.lines if "action=restart" in line}
    assert len(restarted) == 1, machines.lines


def test_a_problem_whose_words_change_at_every_look_is_not_waited_for_for_ever(
    machines: Machines, clock: list[float]
) -> None:
    """Members that die and are started again, over and over: the process is another one each time."""
    for name in ("b", "c"):
        machines.model.machines[name].frozen = True
    observe, looks = machines.observe, count()

    def crash_looping(**asked: Any) -> Observation:
        observation = observe(**asked)
        unknown = {Question.METRICS: f"process {next(looks)} does not tell"}
        hosts = {
            name: replace(host, unknown=unknown) if host.unknown else host for name, host in observation.hosts.items()
        }
        return replace(observation, hosts=hosts)

    machines.observe = crash_looping  # type: ignore[method-assign]
    with pytest.raises(RefusedError) as refused:
        RolloutLifecycle().update("id", inputs(GOAL), {**inputs(GOAL), "drift": []})
    assert refused.value.kind is WaitReason.MAJORITY_UNKNOWN
    assert clock[0] <= 61


def test_what_does_not_help_is_not_done_for_ever(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines.model, "carry_out", lambda *_: None)
    with pytest.raises(RefusedError) as refused:
        RolloutLifecycle().update("id", inputs(GOAL), {**inputs(SETTINGS), "drift": []})
    assert refused.value.kind is Refusal.FUTILE
    assert str(refused.value).startswith("b: restarting: done 2 times")
    assert len(machines.lines) == 2


# --- what is proven at the end ---


def test_an_update_ends_with_a_write_at_every_member_as_clients_do_it(machines: Machines) -> None:
    client = GOAL.desired.members["a"].server  # any pair will do
    desired = json.loads(desired_text(GOAL.desired)) | {"client": vars(client)}
    RolloutLifecycle().update("id", inputs(GOAL), inputs(GOAL, desired=json.dumps(desired), drift=[]))
    assert [name for name, _, _ in machines.probes] == ["a", "b", "c"]
    for name, line, variables in machines.probes:
        assert (line.tls, line.url) == (True, f"https://{usual_address(name)}:2379")
        assert base64.b64decode(variables["file_client_key"]).decode() == client.key  # type: ignore[union-attr]
        assert base64.b64decode(variables["file_ca"]).decode() == "".join(GOAL.desired.trusted)
    assert not any("PRIVATE KEY" in line for line in machines.lines)


def test_what_an_older_release_recorded_names_no_client() -> None:
    assert DesiredCluster.parse(desired_text(GOAL.desired)).client is None


def test_a_member_at_which_no_write_works_fails_the_update_by_its_name(machines: Machines) -> None:
    machines.gone_at["probe", "b"] = StepFailedError("b: no write works at https://10.0.0.2:2379")
    with pytest.raises(StepFailedError, match="b: no write works"):
        RolloutLifecycle().update("id", inputs(GOAL), {**inputs(GOAL), "drift": []})


def test_client_urls_that_lead_to_another_cluster_are_named(machines: Machines) -> None:
    machines.answers["b"] = f"{int('beef', 16)}\n"
    with pytest.raises(RefusedError) as refused:
        RolloutLifecycle().update("id", inputs(GOAL), {**inputs(GOAL), "drift": []})
    assert refused.value.kind is Refusal.ENDPOINTS_OF_DIFFERENT_CLUSTERS
    assert refused.value.details == {"found": {"a": "c1", "b": "beef", "c": "c1"}, "cluster": "c1"}
    machines.answers["b"] = ""
    with pytest.raises(StepFailedError, match=r"b: .*no cluster"):
        RolloutLifecycle().update("id", inputs(GOAL), {**inputs(GOAL), "drift": []})


# --- taking it down, where an earlier release made the stack: else see test_host_record.py ---


@pytest.mark.usefixtures("nobody_is_asked")
def test_a_rollout_that_is_deleted_or_replaced_touches_no_host_where_hosts_are_recorded() -> None:
    desired = replace(GOAL.desired, delete_data=True)
    RolloutLifecycle().delete("id", inputs(GOAL, desired=desired_text(desired)))


@pytest.mark.parametrize("delete_data", [False, True])
def test_destroying_stops_every_member_and_keeps_data_unless_it_was_given_up(
    delete_data: bool, machines: Machines
) -> None:
    desired = replace(GOAL.desired, delete_data=delete_data)
    RolloutLifecycle().delete("id", inputs(GOAL, record="", desired=desired_text(desired)))
    assert [machine.process for machine in machines.model.machines.values()] == [None, None, None]
    assert all(" members=3" in line and ("delete-data=yes" in line) is delete_data for line in machines.lines)


def test_nothing_is_done_on_machines_that_go_away_with_their_members(machines: Machines) -> None:
    members = {name: replace(member, outlives_destroy=False) for name, member in GOAL.desired.members.items()}
    RolloutLifecycle().delete(
        "id", inputs(GOAL, record="", desired=desired_text(replace(GOAL.desired, members=members)))
    )
    assert machines.lines == []


@pytest.mark.usefixtures("nobody_is_asked")
def test_the_state_of_a_development_version_is_refused_in_the_preview_with_the_way_out() -> None:
    olds = {**inputs(GOAL), "wanted": "{}"}
    del olds["desired"]
    (failure,) = RolloutLifecycle().check(olds, {**inputs(GOAL), "looks": True}).failures
    assert "destroy it with the version that made it, which keeps the data" in failure.reason.lower()


NOT_GONE: list[EtcdClusterError] = [
    SshAuthenticationError("refused the key"),
    SshHostKeyError("another host key"),
    SshConfigurationError("no host key is pinned"),
    SshUnreachableError("port closed, or no bastion"),
    SshConnectionLostError("lost"),
    CommandTimeoutError("hung"),
    StepFailedError("a: etcd did not stop within 30 seconds"),
]


@pytest.mark.parametrize("forgotten", ["", "a"])
@pytest.mark.parametrize("error", NOT_GONE, ids=lambda error: type(error).__name__)
def test_a_member_whose_machine_answers_fails_the_destroy_whoever_calls_it_gone(
    error: EtcdClusterError, forgotten: str, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETCD_CLUSTER_FORGET", forgotten)
    machines.gone["a"] = error
    with pytest.raises(NotRemovedError, match=str(error)) as raised:
        RolloutLifecycle().delete("id", inputs(GOAL, record=""))
    assert "(ETCD_CLUSTER_FORGET is only for machines that do not answer)" in str(raised.value)
    is_unknown = isinstance(error, SshConnectionLostError | CommandTimeoutError)
    assert ("it is unknown whether its etcd was stopped" in str(raised.value)) == is_unknown
    assert [name for name in GOAL.names if machines.model.machines[name].process] == ["a"]


@pytest.mark.parametrize("forgotten", ["", "b", "aa"])
def test_a_machine_that_nothing_answers_on_fails_the_destroy_until_it_is_named(
    forgotten: str, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETCD_CLUSTER_FORGET", forgotten)
    machines.gone["a"] = SshNoAnswerError("no route to host")
    with pytest.raises(NotRemovedError, match=r"a: its etcd was not .*no route.*good, set ETCD_CLUSTER_FORGET=a\.$"):
        RolloutLifecycle().delete("id", inputs(GOAL, record=""))
    assert [name for name in GOAL.names if machines.model.machines[name].process] == ["a"]


@pytest.mark.parametrize("forgotten", ["a", "b,a", "b a"])
def test_a_machine_that_is_named_as_gone_is_a_warning(
    forgotten: str, machines: Machines, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ETCD_CLUSTER_FORGET", forgotten)
    machines.gone["a"] = SshNoAnswerError("no route to host")
    RolloutLifecycle().delete("id", inputs(GOAL, record=""))
    assert [name for name in GOAL.names if machines.model.machines[name].process] == ["a"]
    assert capfd.readouterr().err.startswith("warning: a: its etcd was not stopped, and nothing was removed")


def test_every_member_that_was_not_stopped_is_named(machines: Machines) -> None:
    machines.gone = {"a": SshNoAnswerError("no route to host"), "c": SshAuthenticationError("refused the key")}
    with pytest.raises(NotRemovedError) as raised:
        RolloutLifecycle().delete("id", inputs(GOAL, record=""))
    assert [line.partition(":")[0] for line in str(raised.value).splitlines()] == ["a", "c"]


# --- what is said ---


def test_work_goes_on_when_nobody_listens_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        def write(self, _: str) -> int:
            raise BrokenPipeError

        def flush(self) -> None:
            raise BrokenPipeError

    monkeypatch.setattr("sys.stderr", Gone())
    say("b: restarting")


def test_a_line_is_written_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    class Terminal:
        def write(self, text: str) -> int:
            written.append(text)
            return len(text)

        def flush(self) -> None:
            pass

    monkeypatch.setattr("sys.stderr", Terminal())
    say("b: restarting")
    assert written == ["b: restarting\n"]
