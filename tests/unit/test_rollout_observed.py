"""What machines print, read into types: recorded answers of observe.sh and etcdctl, old and new, whole and broken."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from etcd_cluster.member.layout import FOUNDING
from etcd_cluster.member.render import PeerSecurity, Security
from etcd_cluster.rollout.observed import (
    Alarm,
    History,
    HostBackups,
    Live,
    MemberEntry,
    Missing,
    MissingKind,
    ObservedFile,
    Question,
)
from etcd_cluster.rollout.planner.run_context import RunContext
from etcd_cluster.rollout.reports import (
    combine,
    connected_without_report,
    parse_answers,
    parse_health,
    parse_host,
    parse_members,
    unanswered,
    with_answers,
)
from tests.unit.rollout_model import Goal, Model

CONFIGURATION = (
    "# etcd-cluster: p/s/etcd\nname: host-1\nadvertise-client-urls: https://10.0.0.1:2379\n"
    "initial-advertise-peer-urls: https://10.0.0.1:2380\npeer-transport-security:\n  cert-file: /x\n"
)
# `etcdctl member list --write-out json`, of 3.4.9: numbers beyond 2^53, one member that has not started, one learner.
MEMBERS = (
    '{"header":{"cluster_id":8036268532161740266,"member_id":10798702569113003990,"raft_term":2},"members":['
    '{"ID":9817080783850354901,"name":"host-3","peerURLs":["https://10.0.0.3:2380"]},'
    '{"ID":10798702569113003990,"name":"host-1","peerURLs":["https://10.0.0.1:2380"],'
    '"clientURLs":["https://10.0.0.1:2379"]},'
    '{"ID":17789605537731990822,"name":"host-2","peerURLs":["https://10.0.0.2:2380"],'
    '"clientURLs":["https://10.0.0.2:2379"]},'
    '{"ID":255,"peerURLs":["https://10.0.0.4:2380"],"isLearner":true}]}'
)
# `etcdctl endpoint health --cluster --write-out json`, of 3.6.16.
HEALTH = (
    '[{"endpoint":"https://10.0.0.1:2379","health":true,"took":"4.1ms"},'
    '{"endpoint":"https://10.0.0.2:2379","health":false,"took":"2s","error":"context deadline exceeded"}]'
)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


KEY_SUM = sha256(b"key").hexdigest()
LEADER = f"""\
machine=0a1b2c
token=ea8cfe2b
owner=host-1
mounted_over=tmpfs at /data/etcd
data=yes
versions=3.5.35 3.6.16
programs=3.6.16
running=3.5.35
pid=812
on_boot=yes
pending=yes
snapshot=90010
history_series=3.5
history_series_index=12
history_members=founding
history_members_index=0
history_id=95dcb2c5cb1427d6
missing=mount-on-boot
missing=user
file:/etc/etcd/etcd.yaml=640 etcd {encoded(CONFIGURATION)}
file:/etc/etcd/pki/ca.crt=444 etcd {encoded("CA")}
key:/etc/etcd/pki/server.key=400 etcd {KEY_SUM}
id=95dcb2c5cb1427d6
is_leader=1
is_learner=0
has_leader=1
version=3.5.35
proposals_applied_total=1.2345678e+07
proposals_committed_total=12345680
cluster_version=3.5
database_bytes=2.147483648e+09
used_bytes=1.073741824e+09
active_peers=
members={encoded(MEMBERS)}
health={encoded(HEALTH)}
clock=1900000000
device_bytes=10737418240
filesystem_bytes=10737418240
"""
BLANK = "machine=0a1b2c\nclock=1900000000\n"


def without(*names: str, text: str = LEADER) -> str:
    return "\n".join(line for line in text.splitlines() if line.partition("=")[0] not in names)


def test_all_that_a_machine_tells_is_read() -> None:
    host, report = parse_host(LEADER)
    assert (host.machine, host.token, host.data) == ("0a1b2c", "ea8cfe2b", True)
    assert (host.versions, host.programs, host.running) == (["3.5.35", "3.6.16"], "3.6.16", "3.5.35")
    assert (host.pid, host.failed, host.on_boot, host.pending) == ("812", False, True, True)
    assert host.snapshot_index == 90010
    assert (host.owner, host.mounted_over) == ("host-1", "tmpfs at /data/etcd")
    assert host.history == History("3.5", 12, FOUNDING, 0, "95dcb2c5cb1427d6")
    assert host.missing == [Missing(MissingKind.MOUNT_ON_BOOT), Missing(MissingKind.USER)]
    assert host.files["/etc/etcd/pki/ca.crt"] == ObservedFile("444", "etcd", "CA")
    assert host.files["/etc/etcd/pki/server.key"] == ObservedFile("400", "etcd", KEY_SUM)
    assert (host.clock, host.device_bytes, host.filesystem_bytes) == (1_900_000_000, 10 * 1024**3, 10 * 1024**3)
    assert host.live == Live(
        id="95dcb2c5cb1427d6",
        leads=True,
        learner=False,
        has_leader=True,
        version="3.5.35",
        cluster_version="3.5",
        applied=12_345_678,
        committed=12_345_680,
        database_bytes=2 * 1024**3,
        used_bytes=1024**3,
        active_peers=frozenset(),
    )
    assert report["members"] == MEMBERS
    assert report["health"] == HEALTH


@pytest.mark.parametrize(("told", "read"), [("3.6.0", "3.6"), ("0.0.0", "0.0"), ("3.6", ""), ("x", "")])
def test_the_version_in_data_is_read(told: str, read: str) -> None:
    assert parse_host(f"{BLANK}data=yes\ndata_version={told}\n")[0].data_version == read
    assert parse_host(f"{BLANK}data=yes\n")[0].data_version == ""


def test_what_a_machine_tells_of_its_backups_is_read() -> None:
    assert parse_host(BLANK)[0].backups is None
    assert parse_host(f"{BLANK}backup=yes\n")[0].backups == HostBackups()
    newest, tested = "20261127T100000Z-7-etcd-1", "20261126T100000Z-5-etcd-2"
    noted = f"backup_attempt=1900000000\nbackup_newest={newest}\nbackup_tested={tested}\n"
    timer = "backup_timer=yes\nbackup_next=1900003600\n"
    found, _ = parse_host(f"{BLANK}backup=yes\n{noted}backup_result=success\n{timer}")
    assert found.backups == HostBackups(1_900_000_000, "", newest, tested, True, 1_900_003_600)
    failed, _ = parse_host(f"{BLANK}backup=yes\n{noted}backup_result=failed\nbackup_failure=a=b: the store is full\n")
    assert failed.backups == HostBackups(1_900_000_000, "a=b: the store is full", newest, tested)
    killed, _ = parse_host(f"{BLANK}backup=yes\nbackup_result=failed\n")
    assert killed.backups is not None
    assert "journalctl" in killed.backups.failure


def test_a_blank_machine_tells_of_nothing() -> None:
    host, report = parse_host(BLANK)
    assert not report
    assert (host.data, host.pid, host.running, host.programs, host.token) == (False, "", "", "", "")
    assert host.live is None
    assert host.security is None
    assert host.history == History()
    assert (host.versions, host.snapshot_index, dict(host.files)) == ([], 0, {})


def test_a_record_is_read_as_it_was_written() -> None:
    history = History("3.6", 1234, "1a,2b", 99, "1a")
    printed = "".join(f"history_{line}\n" for line in history.text().splitlines())
    assert parse_host(BLANK + printed)[0].history == history


def test_an_empty_file_and_one_that_is_no_text_are_files() -> None:
    bytes_ = base64.b64encode(b"\xff\xfe").decode()
    host, _ = parse_host(f"file:/etc/etcd/etcd.yaml=640 etcd \nfile:/etc/etcd/pki/ca.crt=444 etcd {bytes_}\n")
    assert host.files["/etc/etcd/etcd.yaml"].content == ""
    assert host.files["/etc/etcd/pki/ca.crt"].content
    assert host.security is None


@pytest.mark.parametrize("content", ["", "- a list", "a: [", "just text", "advertise-client-urls:"])
def test_a_configuration_that_was_spoilt_says_nothing(content: str) -> None:
    host, _ = parse_host(f"file:/etc/etcd/etcd.yaml=640 etcd {encoded(content)}\n")
    assert host.security in (None, Security(False, PeerSecurity.PLAINTEXT))


@pytest.mark.parametrize(
    ("changes", "security"),
    [
        ({}, Security.of(True)),
        ({"advertise-client-urls: https": "advertise-client-urls: http"}, Security(False, PeerSecurity.TLS)),
        ({"https:": "http:"}, Security(False, PeerSecurity.READY)),
        ({"https:": "http:", "peer-transport-security": "other"}, Security.of(False)),
    ],
)
def test_how_a_member_speaks_is_read_from_its_configuration(changes: dict[str, str], security: Security) -> None:
    text = CONFIGURATION
    for old, new in changes.items():
        text = text.replace(old, new)
    assert parse_host(f"file:/etc/etcd/etcd.yaml=640 etcd {encoded(text)}\n")[0].security == security


def test_members_are_read_with_their_ids_in_hexadecimal() -> None:
    members = parse_members(MEMBERS)
    assert members == [
        MemberEntry("883d46f5b4b6b8d5", "host-3", "https://10.0.0.3:2380", "", False),
        MemberEntry("95dcb2c5cb1427d6", "host-1", "https://10.0.0.1:2380", "https://10.0.0.1:2379", False),
        MemberEntry("f6e15ffbb2d65526", "host-2", "https://10.0.0.2:2380", "https://10.0.0.2:2379", False),
        MemberEntry("ff", "", "https://10.0.0.4:2380", "", True),
    ]
    assert [member.started for member in members] == [False, True, True, False]


def test_a_member_with_several_peer_urls_has_none_that_is_ours() -> None:
    text = json.dumps({"members": [{"ID": 1, "name": "a", "peerURLs": ["http://x:1", "http://y:1"], "clientURLs": []}]})
    assert parse_members(text) == [MemberEntry("1", "a", "", "", False)]


@pytest.mark.parametrize(
    ("text", "healthy"),
    [
        (HEALTH, {"95dcb2c5cb1427d6"}),
        ("", set()),
        ("Error: unhealthy cluster", set()),
        ("[]", set()),
        (
            HEALTH.replace("context deadline exceeded", "Active Alarm(s): NOSPACE "),
            {"95dcb2c5cb1427d6", "f6e15ffbb2d65526"},
        ),
        (
            HEALTH.replace("context deadline exceeded", "Active Alarm(s): NOSPACE CORRUPT "),
            {"95dcb2c5cb1427d6", "f6e15ffbb2d65526"},
        ),
    ],
)
def test_health_is_by_member_and_alarms_are_told_of_by_themselves(text: str, healthy: set[str]) -> None:
    assert parse_health(text, parse_members(MEMBERS)) == healthy


def observe(**texts: str) -> Any:
    hosts, reports = {}, {}
    for name, text in texts.items():
        hosts[name], reports[name] = parse_host(text)
    return combine(hosts, reports, {"host-9": "no route"})


def health(answer: str) -> str:
    """What one machine tells of its own member."""
    return f'[{{"endpoint":"https://10.0.0.9:2379","health":{answer},"took":"1ms"}}]'


FOLLOWER = without("members", "health", "is_leader", "id") + "\nid=f6e15ffbb2d65526\nis_leader=0\n"
SICK = f"health={encoded(health('false'))}\n"
WELL = f"health={encoded(health('true'))}\n"


def test_the_leader_tells_of_the_cluster_and_each_machine_of_its_own_member() -> None:
    observation = observe(a=FOLLOWER + SICK, b=LEADER)
    assert (observation.status_source, observation.leader) == ("b", "b")
    assert observation.is_healthy("host-1")
    assert not observation.is_healthy("host-2")
    assert not observation.is_healthy("host-3")
    assert observation.index == 12_345_680
    assert [member.name for member in observation.voters] == ["host-3", "host-1", "host-2"]
    assert observation.member_ids == "883d46f5b4b6b8d5,95dcb2c5cb1427d6,f6e15ffbb2d65526,ff"
    assert observation.unreachable == {"host-9": "no route"}
    assert observe(a=FOLLOWER + WELL, b=LEADER).is_healthy("host-2")


def test_a_member_of_another_cluster_is_none_of_this_one_however_well_it_is() -> None:
    other = FOLLOWER.replace("f6e15ffbb2d65526", "abc") + WELL
    assert observe(a=other, b=LEADER).healthy == {"95dcb2c5cb1427d6"}


def test_a_follower_that_was_asked_tells_as_well_and_nobody_is_known_to_lead() -> None:
    telling = f"{LEADER.replace('is_leader=1', 'is_leader=0')}"
    observation = observe(a=without("members", "health"), b=telling)
    assert (observation.status_source, observation.leader) == ("b", None)


@pytest.mark.parametrize(
    "text",
    [
        without("members"),
        without("health"),
        # It believes that it leads, but no majority answers: a consistent read fails at itself.
        without("health") + f"\n{SICK}",
        without("id"),
        BLANK,
    ],
)
def test_nothing_is_believed_of_a_machine_that_cannot_agree_with_a_majority(text: str) -> None:
    observation = observe(a=text)
    assert (observation.status_source, observation.members, observation.healthy) == (None, (), frozenset())


def test_of_two_that_lead_the_one_is_believed_that_can_answer() -> None:
    stale = without("health", "id") + f"\nid=f6e15ffbb2d65526\n{SICK}"
    assert observe(a=stale, b=LEADER).status_source == "b"


def test_who_was_not_well_by_its_own_machine_is_asked_for_on_the_status_sources() -> None:
    """A machine without a report, one whose own look failed; not one where no etcd runs."""
    observation = observe(b=LEADER)
    assert [member.name for member in unanswered(observation)] == ["host-2"]
    assert [member.name for member in unanswered(observe(a=FOLLOWER + SICK, b=LEADER))] == ["host-2"]
    assert not unanswered(observe(a=FOLLOWER + WELL, b=LEADER))
    assert not unanswered(observe(**{"host-2": BLANK}, b=LEADER))
    answers = HEALTH.replace("false", "true")
    assert with_answers(observation, answers).is_healthy("host-2")


@pytest.mark.parametrize("text", ["", HEALTH])
def test_no_answer_at_the_client_port_of_one_that_is_connected_means_that_nothing_is_known(text: str) -> None:
    """README's firewall opens 2379 for clients only; what members have open to one another says who runs."""
    connected = observe(b=f"{LEADER}\nactive_peers=883d46f5b4b6b8d5,f6e15ffbb2d65526\n")
    observation = with_answers(connected, text)
    assert not observation.is_healthy("host-2")
    assert observation.unknown == {"f6e15ffbb2d65526"}
    assert with_answers(observe(b=LEADER), text).unknown == frozenset(), "nobody has a connection with it"
    unread = with_answers(observe(b=without("active_peers")), text)
    assert unread.unknown == {"f6e15ffbb2d65526"}, "the leader did not say with whom it has one"
    assert (observation.connected, unread.connected) == ({"f6e15ffbb2d65526"}, frozenset())
    # etcd may count one for good that is dead: at a leader, nothing comes from it.
    assert with_answers(connected, text, frozenset()).unknown == frozenset()
    assert with_answers(connected, text, frozenset({"f6e15ffbb2d65526"})).connected == {"f6e15ffbb2d65526"}
    own = observe(a=FOLLOWER + SICK, b=f"{LEADER}\nactive_peers=f6e15ffbb2d65526\n")
    assert with_answers(own, text).unknown == frozenset(), "its own machine has said how it is"


def test_a_machine_that_reports_is_not_listened_for() -> None:
    """Its etcd may be starting: that is a matter of a look or two, not of six seconds each."""
    report = f"{LEADER}\nactive_peers=f6e15ffbb2d65526\n"
    assert connected_without_report(observe(b=report)) == {"f6e15ffbb2d65526"}
    starting = observe(b=report, **{"host-2": "machine=m\npid=7\nclock=1\n"})
    assert connected_without_report(starting) == frozenset()
    assert with_answers(starting, "", frozenset()).connected == {"f6e15ffbb2d65526"}


def test_nothing_that_came_at_a_follower_is_no_sign_that_another_follower_is_dead() -> None:
    report = f"{LEADER}\nactive_peers=f6e15ffbb2d65526\n".replace("is_leader=1", "is_leader=0")
    observation = with_answers(observe(b=report), "", frozenset())
    assert observation.connected == {"f6e15ffbb2d65526"}


def test_the_answer_of_who_is_healthy_and_who_sends_bytes() -> None:
    assert parse_answers(f"health={encoded(HEALTH)}\n") == (HEALTH, None)
    assert parse_answers(f"health={encoded(HEALTH)}\nsending=\n") == (HEALTH, frozenset())
    assert parse_answers(f"health={encoded(HEALTH)}\nsending=a,b\n") == (HEALTH, {"a", "b"})
    assert parse_answers("") == ("", None)


@pytest.mark.parametrize(
    ("report", "alarms"),
    [
        ("", ()),  # since 3.5, a healthy member has asked for them by itself
        ("alarms=\n", None),
        (f"alarms={encoded('asked')}\n", []),
        (f"alarms={encoded('memberID:255 alarm:NOSPACE ')}\n", None),
        (f"alarms={encoded('memberID:255 alarm:NOSPACE ' + chr(10) + 'asked')}\n", [Alarm("NOSPACE", "ff")]),
        (f"alarms={encoded('memberID:255  alarm:NOSPACE' + chr(10) + 'asked')}\n", [Alarm("NOSPACE", "ff")]),
        (f"alarms={encoded('memberID:0 alarm:CORRUPT ' + chr(10) + 'asked')}\n", [Alarm("CORRUPT", "")]),
    ],
)
def test_alarms_are_read_of_every_release_and_no_answer_is_not_none(report: str, alarms: Any) -> None:
    assert observe(b=LEADER + report).alarms == alarms


# `etcdctl endpoint status --write-out json`, of 3.6.16.
STATUS = (
    '[{"Endpoint":"https://127.0.0.1:2379","Status":{"header":{"cluster_id":8036268532161740266,'
    '"member_id":10798702569113003990,"revision":1,"raft_term":2},"version":"3.6.16","dbSize":20480,'
    '"leader":10798702569113003990,"raftIndex":44,"raftTerm":2,"raftAppliedIndex":43,"dbSizeInUse":16384}}]'
)
MEASURED = ("id", "is_leader", "is_learner", "has_leader", "version", "cluster_version", "database_bytes")
MUTE = without(*MEASURED) + "\nunknown=metrics process 812 does not tell its metrics (listens on 2379)\n"


def test_what_a_process_could_not_tell_is_known_as_such_with_the_reason() -> None:
    host, _ = parse_host(MUTE + "unknown=members context deadline exceeded\n")
    assert host.live is None
    assert host.may_serve
    assert host.unknown == {
        Question.METRICS: "process 812 does not tell its metrics (listens on 2379)",
        Question.MEMBERS: "context deadline exceeded",
    }


@pytest.mark.parametrize("folder", ["3.6.16-hotfix", "bin", "mine", "3.6"])
def test_programs_of_somebody_else_s_are_none_of_ours_and_what_runs_tells_its_version(folder: str) -> None:
    report = LEADER.replace("running=3.5.35", f"running={folder}").replace("programs=3.6.16", f"programs={folder}")
    host, _ = parse_host(report.replace("versions=", f"versions={folder} "))
    assert (host.running, host.programs, host.versions) == ("3.5.35", "", ["3.5.35", "3.6.16"])


@pytest.mark.parametrize(
    ("change", "may_serve"),
    [({}, True), ({"has_leader=1": "has_leader=0"}, False), ({"pid=812": ""}, False), ({"1.2345678e+07": "N/A"}, True)],
)
def test_only_a_member_s_own_word_says_that_it_does_not_serve(change: dict[str, str], may_serve: bool) -> None:
    text = LEADER
    for old, new in change.items():
        text = text.replace(old, new)
    host, _ = parse_host(text)
    assert host.may_serve is may_serve
    assert not host.unknown or host.unknown == {Question.METRICS: "its metrics could not be understood"}


def test_its_status_tells_what_its_metrics_do_not() -> None:
    host, report = parse_host(f"{MUTE}status={encoded(STATUS)}\nscheme=https\n")
    assert host.live == Live("95dcb2c5cb1427d6", True, False, True, "3.6.16", "", 43, 44, 20480, 16384)
    assert report["scheme"] == "https"
    leaderless = STATUS.replace('"leader":10798702569113003990,', "")
    live = parse_host(f"{MUTE}status={encoded(leaderless)}\n")[0].live
    assert live
    assert (live.leads, live.has_leader) == (False, False)


@pytest.mark.parametrize("text", ["", "[]", STATUS[:80], "context deadline exceeded", '[{"Status":{}}]'])
def test_a_status_that_is_cut_is_no_answer(text: str) -> None:
    assert parse_host(f"{MUTE}status={encoded(text)}\n")[0].live is None


@pytest.mark.parametrize("name", ["members", "health"])
def test_an_answer_that_is_cut_is_none_and_does_not_end_the_run(name: str) -> None:
    cut = {"members": MEMBERS, "health": HEALTH}[name][:90]
    assert observe(a=without(name) + f"\n{name}={encoded(cut)}\n").status_source is None


def test_no_content_shows_when_what_was_seen_is_printed() -> None:
    host, _ = parse_host(LEADER)
    assert "advertise-client-urls" not in repr(replace(host, live=None))


def test_somebody_elses_etcd_is_no_process_of_ours() -> None:
    host, _ = parse_host("machine=m\npid=7\nrunning=3.6.16\nforeign=/srv/other/member/snap/db\nclock=1\n")
    assert (host.foreign, host.pid, host.running, host.live) == ("/srv/other/member/snap/db", "", "", None)
    assert not host.may_serve
    assert not host.unknown


def test_of_a_learner_that_runs_nobody_asks_for_its_health() -> None:
    """It refuses every read that tells it, and etcdctl would ask again until its limit."""
    model = Model.running()
    model.add_machine("d", "10.0.0.4", "3.6.16")
    goal = Goal(names=("a", "b", "c", "d"))
    context = RunContext()
    while not any(each.learner and each.client_url for each in model.members):
        model.run(goal, context=context, stop_after=1)
    (learner,) = (each for each in model.members if each.learner)
    observation = model.observe(goal.names)
    assert observation.hosts["d"].live is not None
    assert learner.id not in {each.id for each in unanswered(observation)}
    without_report = replace(observation, hosts={name: observation.hosts[name] for name in "abc"})
    assert learner.id in {each.id for each in unanswered(without_report)}
