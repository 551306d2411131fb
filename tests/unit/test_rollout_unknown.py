"""No answer is not a "no": what is done while members cannot be asked, or only in part.

Clusters are those of rollout_model.py: members a, b and c run, and a leads, unless a test says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from etcd_cluster.rollout.desired import UNIT_PATH
from etcd_cluster.rollout.observed import MemberEntry, Observation, Question
from etcd_cluster.rollout.planner import differences, next_action, quorum
from etcd_cluster.rollout.planner.actions import LEADER_SECONDS, Action, Blocked, Limit, WaitFor, WaitReason
from etcd_cluster.rollout.planner.cluster_view import ClusterView
from etcd_cluster.rollout.planner.messages import describe
from etcd_cluster.rollout.planner.refusals import RefusedError
from etcd_cluster.rollout.planner.run_context import RunContext
from tests.unit.rollout_model import CA, CAS, CONFIGURATION, PEER, SERVER, SERVER_KEY, Goal, Model

GOAL = Goal()
FIVE = Goal(names=("a", "b", "c", "d", "e"), founders=("a", "b", "c", "d", "e"))
SETTINGS = replace(GOAL, user_options={"heartbeat-interval": 200, "election-timeout": 2000})
FOR_EVER = 1000


def refusal(model: Model, goal: Goal) -> RefusedError:
    with pytest.raises(RefusedError) as error:
        model.run(goal)
    return error.value


def purge(model: Model, *paths: str) -> None:
    for machine in model.machines.values():
        for path in paths:
            machine.files.pop(path)


def reformat(model: Model) -> None:
    """As an editor or another tool does: the same settings, quoted."""
    for name in model.machines:
        model.edit(name, CONFIGURATION, '"log-level": "info"\n')


CHANGED_ON_ALL: dict[str, Callable[[Model], None]] = {
    "quoted": reformat,
    "no configuration": lambda model: purge(model, CONFIGURATION),
    "no configuration and no unit": lambda model: purge(model, CONFIGURATION, UNIT_PATH),
}


@pytest.mark.parametrize("change", CHANGED_ON_ALL.values(), ids=CHANGED_ON_ALL)
@pytest.mark.parametrize("tls", [True, False], ids=["TLS", "plaintext"])
def test_files_that_all_members_lost_come_back_one_member_at_a_time(change: Callable[[Model], None], tls: bool) -> None:
    goal = replace(GOAL, tls=tls)
    model = Model.running(goal)
    change(model)
    model.run(goal)
    assert sorted(model.restarts) == ["a", "b", "c"]
    assert [text for text in model.log if "," in text.partition(":")[0]] == []


@pytest.mark.parametrize("change", CHANGED_ON_ALL.values(), ids=CHANGED_ON_ALL)
def test_nothing_moves_while_no_member_can_tell_and_all_are_named(change: Callable[[Model], None]) -> None:
    model = Model.running()
    change(model)
    for machine in model.machines.values():
        machine.mute = FOR_EVER
    found = refusal(model, GOAL)
    unknown = {"a": "no answer", "b": "no answer", "c": "no answer"}
    assert (found.kind, found.details) == (WaitReason.MAJORITY_UNKNOWN, {"unknown": unknown})
    assert (model.log, model.restarts) == ([], [])


def test_what_answers_again_in_time_goes_on_one_member_at_a_time() -> None:
    model = Model.running()
    for machine in model.machines.values():
        machine.mute = 3
    model.run(SETTINGS)
    assert model.log == ["b: restarting", "c: restarting", "a: handing leadership over to b", "a: restarting"]


def test_a_member_that_tells_nothing_and_is_healthy_has_its_turn() -> None:
    model = Model.running()
    model.machines["c"].mute = FOR_EVER
    model.run(SETTINGS)
    assert model.log == ["b: restarting", "c: restarting", "a: handing leadership over to b", "a: restarting"]


def test_a_member_that_may_lead_is_not_restarted() -> None:
    """Nobody else is known to; so it would not hand over first."""
    model = Model.running()
    model.machines["a"].mute = FOR_EVER
    found = refusal(model, SETTINGS)
    assert (found.kind, found.details["blocked"]) == (WaitReason.LEADER_UNKNOWN, Blocked.RESTART)
    assert model.restarts == ["b", "c"]


def test_a_member_that_is_to_leave_and_may_lead_is_not_removed() -> None:
    model = Model.running()
    model.machines["a"].mute = FOR_EVER
    found = refusal(model, replace(GOAL, names=("b",)))
    assert (found.kind, found.details["blocked"]) == (WaitReason.LEADER_UNKNOWN, Blocked.REMOVAL)
    assert model.log == ["b: removing c"]


def test_of_two_members_the_one_that_serves_unseen_is_not_restarted() -> None:
    """README's firewall lets nobody but clients ask it. The other one is healthy only because it serves."""
    model = Model.running(replace(GOAL, names=("a", "b"), founders=("a", "b")))
    model.clients_only = True
    model.machines["b"].mute = FOR_EVER
    model.edit("b", CONFIGURATION)
    found = refusal(model, replace(GOAL, names=("a", "b")))
    assert (found.kind, found.details) == (WaitReason.MEMBER_UNHEALTHY, {"name": "b"})
    assert model.restarts == []


def test_a_leader_whose_list_cannot_be_read_still_hands_over_first() -> None:
    """Another one told of the cluster then."""
    model = Model.running()
    observation = model.observe(GOAL.names)
    assert replace(observation, status_source="b").leader == "a"
    stale = replace(observation, status_source="b", healthy=observation.healthy - {model.machines["a"].data_id})
    assert stale.leader is None


def evidence(model: Model, goal: Goal) -> bool:
    observation = model.observe(goal.names)
    return quorum.may_be_held(ClusterView(goal.desired, replace(observation, status_source=None), RunContext()))


@pytest.mark.parametrize(
    ("goal", "down", "frozen", "without_leader", "may_be_held"),
    [
        (GOAL, "", "abc", "", True),
        (GOAL, "", "ab", "c", True),
        (GOAL, "", "a", "bc", False),
        (GOAL, "a", "b", "c", False),
        (GOAL, "ab", "c", "", False),
        (GOAL, "a", "bc", "", True),
        (FIVE, "", "abc", "de", True),
        (FIVE, "ab", "cd", "e", False),
        (FIVE, "a", "bcd", "e", True),
        (FIVE, "abc", "de", "", False),
    ],
)
def test_only_members_own_words_say_that_no_majority_serves(
    goal: Goal, down: str, frozen: str, without_leader: str, may_be_held: bool
) -> None:
    model = Model.running(goal)
    for name in down:
        model.stop(name)
    for name in frozen:
        model.machines[name].frozen = True
    for name in without_leader:
        model.machines[name].cut_off = True
    assert evidence(model, goal) is may_be_held


def test_members_that_were_not_asked_count_as_serving() -> None:
    """The stack knows two of three: the third one and one of these may serve."""
    model = Model.running()
    two = replace(GOAL, names=("a", "b"))
    model.machines["a"].cut_off = True
    assert evidence(model, two)
    model.machines["b"].cut_off = True
    assert not evidence(model, two)


def test_members_that_have_yet_to_join_are_not_taken_for_some_that_serve() -> None:
    """One becomes five, and the run ends once the second votes: a new member has no note of the others yet."""
    one = Goal(names=("a",), founders=("a",))
    model = Model.running(one)
    five = replace(one, names=("a", "b", "c", "d", "e"))
    for name in "bcde":
        model.add_machine(name, five.address(name), five.version)
    model.run(five, stop_after=3)
    model.stop("b")
    assert not evidence(model, five)
    model.run(five)
    assert "b: starting" in model.log
    assert {member.name for member in model.voters()} == set(five.names)


@pytest.mark.parametrize("unlisted", ["wiped", "unreachable"])
def test_the_last_one_is_started_though_its_notes_tell_of_those_that_have_left(unlisted: str) -> None:
    """Three become one, and the run ends before that is noted; then the two are taken away, and that one stops."""
    model = Model.running()
    one = replace(GOAL, names=("a",))
    model.run(one, stop_after=2)
    assert [member.name for member in model.members] == ["a"]
    for name in ("b", "c"):
        model.lose_data(name)
        model.machines[name].reachable = unlisted == "wiped"
    model.stop("a")
    model.run(one)
    assert model.log[-2:] == ["a: starting", "a: putting files in place, without a restart"]


def test_nothing_is_done_while_two_clusters_serve() -> None:
    """A snapshot was restored on one host beside the cluster, which serves on: none of it is asked to join that."""
    model = Model.running()
    observation = model.observe(GOAL.names)
    alone = replace(observation.of("a") or MemberEntry("", "", "", "", False), id="ff")
    host = observation.hosts["a"]
    assert host.live
    apart = replace(host, live=replace(host.live, id="ff", active_peers=frozenset()))
    two = replace(observation, hosts={**observation.hosts, "a": apart}, members=[alone], healthy=frozenset({"ff"}))
    decided = next_action(GOAL.desired, two, RunContext())
    assert isinstance(decided, WaitFor)
    assert (decided.reason, decided.details) == (WaitReason.TWO_CLUSTERS, {"apart": ["b", "c"], "source": "a"})


def test_after_all_have_said_that_they_have_no_leader_what_is_stale_is_restarted_together() -> None:
    model = Model.running()
    for machine in model.machines.values():
        machine.cut_off = True
    reformat(model)
    decided = decide_after(model, GOAL, LEADER_SECONDS)
    assert isinstance(decided, Action)
    assert describe(decided) == "a, b, c: restarting into the desired state"


def test_members_that_hang_are_never_restarted_together_and_it_is_said_how_they_are_stopped() -> None:
    model = Model.running()
    for name in ("a", "b"):
        model.machines[name].frozen = True
    reformat(model)
    found = refusal(model, GOAL)
    unknown = {"a": "no answer", "b": "no answer"}
    assert (found.kind, found.details) == (WaitReason.MAJORITY_UNKNOWN, {"unknown": unknown})
    assert model.restarts == []
    for name in ("a", "b"):
        model.stop(name)
    model.run(GOAL)
    assert model.log[0] == "a, b: starting"
    assert model.restarts == ["c"]


def test_a_wait_has_an_end_though_what_is_found_differs_from_look_to_look() -> None:
    """As of processes that end and are started again: each look finds other ones."""
    observation, context = Model.running().observe(GOAL.names), RunContext()
    limits: set[Limit] = set()
    for pid in range(3):
        why = {Question.METRICS: f"process {pid} does not tell its metrics"}
        hosts = {name: replace(host, live=None, unknown=why) for name, host in observation.hosts.items()}
        decided = next_action(
            GOAL.desired,
            replace(observation, hosts=hosts, status_source=None, members=(), healthy=frozenset()),
            context,
        )
        assert isinstance(decided, WaitFor)
        assert f"process {pid} " in describe(decided)
        limits.add(decided.limit)
    assert len(limits) == 1


def decide_after(model: Model, goal: Goal, seconds: float) -> Action | WaitFor | None:
    """What is done once its problem has stood for so long."""
    context, observation = RunContext(), model.observe(list(model.machines))
    decided = next_action(goal.desired, observation, context)
    assert isinstance(decided, WaitFor)
    context.waited[decided.limit] = seconds
    return next_action(goal.desired, observation, context)


# --- what members are looked at by ---


def expire(model: Model) -> None:
    for name in model.machines:
        model.expire(name)


def spoil(path: str) -> Callable[[Model], None]:
    def spoilt(model: Model) -> None:
        for machine in model.machines.values():
            machine.files[path] = replace(machine.files[path], content="spoilt\n")

    return spoilt


def restart_by_hand(model: Model) -> None:
    """As a reboot of all machines does: no connection of before is left."""
    for name in model.machines:
        model.reboot(name)


WITHOUT_A_RESTART: dict[str, Callable[[Model], None]] = {
    "certificates expired": expire,
    "certificates and keys gone": lambda model: purge(model, SERVER, SERVER_KEY, PEER, PEER.replace(".crt", ".key")),
    "certificates spoilt": spoil(SERVER),
    "keys gone": lambda model: purge(model, SERVER_KEY),
}
BY_A_RESTART_IN_TURN: dict[str, Callable[[Model], None]] = {
    "no CAs": lambda model: purge(model, CA),
    "CAs spoilt": spoil(CA),
    "CAs of somebody else": lambda model: spoil_with(model, CAS[2].certificate_pem),
    "all of etcd's files gone": lambda model: purge(model, CA, CONFIGURATION, UNIT_PATH, SERVER, SERVER_KEY),
}


def spoil_with(model: Model, ca: str) -> None:
    for machine in model.machines.values():
        machine.files[CA] = replace(machine.files[CA], content=ca)


@pytest.mark.parametrize("renewed", [False, True], ids=["as before", "renewed"])
@pytest.mark.parametrize("broken", WITHOUT_A_RESTART.values(), ids=WITHOUT_A_RESTART)
def test_credentials_that_all_members_lost_are_put_in_place_without_a_restart(
    broken: Callable[[Model], None], renewed: bool
) -> None:
    model = Model.running()
    broken(model)
    model.run(replace(GOAL, renewals=dict.fromkeys("abc", 1)) if renewed else GOAL)
    assert model.log[0] == "a, b, c: repairing certificates, without a restart"
    assert model.restarts == []


def test_certificates_that_expired_and_a_reboot_of_all_leave_nothing_that_is_not_mended() -> None:
    model = Model.running()
    expire(model)
    restart_by_hand(model)
    assert not model.elect()
    model.run(replace(GOAL, renewals=dict.fromkeys("abc", 1)))
    assert model.restarts == []


@pytest.mark.parametrize("broken", BY_A_RESTART_IN_TURN.values(), ids=BY_A_RESTART_IN_TURN)
def test_cas_that_all_members_lost_are_put_in_place_first_and_loaded_one_member_at_a_time(
    broken: Callable[[Model], None],
) -> None:
    model = Model.running()
    broken(model)
    model.run(GOAL)
    assert model.log[0] == "a, b, c: restoring the CA file, without a restart"
    assert sorted(model.restarts) == ["a", "b", "c"]
    for machine in model.machines.values():
        assert machine.process
        assert list(machine.process.trusted) == GOAL.desired.trusted


def test_a_rotation_goes_its_way_though_all_cas_files_are_gone() -> None:
    model = Model.running()
    purge(model, CA)
    model.run(replace(GOAL, trusted=(1, 0)))
    model.run(replace(GOAL, trusted=(1,), signer=1))


def test_a_certificate_that_works_is_not_replaced_by_one_that_running_members_do_not_trust() -> None:
    """Another CA, at once, and the file that says whom they trust is gone: that is found out by waiting."""
    model = Model.running()
    purge(model, CA)
    found = refusal(model, replace(GOAL, trusted=(1,), signer=1))
    assert found.kind is WaitReason.NO_ANSWER_FROM_FOLLOWERS
    assert model.restarts == []
    assert model.elect()


def test_what_expired_is_judged_by_the_machine_s_own_clock() -> None:
    model = Model.running()
    observation = model.observe(GOAL.names)
    later = {name: replace(host, clock=host.clock + 6 * 365 * 86400) for name, host in observation.hosts.items()}
    renewed = replace(GOAL, renewals=dict.fromkeys("abc", 1))
    decided = next_action(
        renewed.desired, replace(observation, hosts={**observation.hosts, "b": later["b"]}), RunContext()
    )
    assert isinstance(decided, Action)
    assert describe(decided) == "b: repairing certificates, without a restart"
    found = differences(renewed.desired, replace(observation, hosts=later), "b")
    assert "/etc/etcd/pki/server.crt has expired" in map(describe, found)


# --- how members speak ---


def unreadable(observation: Observation, name: str) -> Observation:
    files = {path: file for path, file in observation.hosts[name].files.items() if path != CONFIGURATION}
    return replace(observation, hosts={**observation.hosts, name: replace(observation.hosts[name], files=files)})


@pytest.mark.parametrize("tls", [True, False])
def test_how_a_member_speaks_is_what_it_announced_where_its_configuration_is_lost(tls: bool) -> None:
    model = Model.running(replace(GOAL, tls=tls))
    observation = unreadable(model.observe(GOAL.names), "a")
    assert observation.hosts["a"].security == observation.hosts["b"].security


def test_a_configuration_edited_to_plaintext_does_not_make_plaintext_of_peers_that_speak_tls() -> None:
    model = Model.running()
    for machine in model.machines.values():
        lines = machine.files[CONFIGURATION].content.replace("https:", "http:").splitlines()
        kept = [line for line in lines if not line.startswith((" ", "peer-transport-security"))]
        machine.files[CONFIGURATION] = replace(machine.files[CONFIGURATION], content="\n".join(kept))
    model.run(GOAL)
    assert sorted(model.restarts) == ["a", "b", "c"]


@pytest.mark.parametrize(("before", "after"), [(True, False), (False, True)])
def test_a_change_of_tls_goes_its_way_though_all_configurations_are_lost(before: bool, after: bool) -> None:
    model = Model.running(replace(GOAL, tls=before))
    purge(model, CONFIGURATION)
    model.run(replace(GOAL, tls=after))
    assert all(machine.process for machine in model.machines.values())
