"""How the status of a cluster reads. The command is in test_cli.py; real clusters are in tests/local and tests/lab."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from typing import Any

import pytest

from etcd_cluster.etcd import options
from etcd_cluster.machines.machine import Ports
from etcd_cluster.member.layout import Layout
from etcd_cluster.member.render import Transport
from etcd_cluster.pki import x509
from etcd_cluster.rollout.backup_status import DesiredBackups, warnings
from etcd_cluster.rollout.desired import DesiredCluster
from etcd_cluster.rollout.observed import (
    Alarm,
    Authentication,
    History,
    Host,
    HostBackups,
    Live,
    MemberEntry,
    Missing,
    MissingKind,
    Observation,
    ObservedFile,
)
from etcd_cluster.rollout.reports import combine, parse_host
from etcd_cluster.rollout.status import (
    WIDTH,
    CASchedule,
    Schedules,
    State,
    as_json,
    as_text,
    cluster_status,
)
from etcd_cluster.rollout.status_page import as_html

NOW = datetime(2030, 1, 1, tzinfo=timezone.utc)
VERSION = "3.6.16"
NAMES = ("etcd-1", "etcd-2", "etcd-3")
GIB = 1024**3
SCHEDULES = {
    Transport.CLIENT: CASchedule(rotate_after="2036-09-01T00:00:00Z"),
    Transport.PEER: CASchedule(rotate_after="2036-09-02T00:00:00Z"),
}
CA, PEER_CA = (
    x509.create_ca(name, key_algorithm="ECDSA-P256", validity_hours=hours, now=NOW)
    for name, hours in (("etcd", 87_600), ("etcd peer CA", 87_624))
)


def desired_json(names: Sequence[str] = NAMES, **changes: Any) -> dict[str, Any]:
    """What the Rollout resource keeps, as a stack's state has it."""
    transports: list[tuple[x509.Profile, x509.KeyPair]] = [("server", CA), ("peer", PEER_CA)]
    certificates = {
        (name, profile): x509.issue_certificate(
            ca, common_name=name, profile=profile, hosts=["192.0.2.1"], validity_hours=43_800, now=NOW
        )
        for name in names
        for profile, ca in transports
    }
    members = {
        name: {
            "address": f"192.0.2.{number}",
            "ports": vars(Ports()),
            "layout": vars(Layout.system()),
            "device": "",
            "founder": "",
            "prepare_line": "",
            "prepare_variables": {},
            "outlives_destroy": True,
            **{
                profile: {
                    "certificate": certificates[name, profile].certificate_pem,
                    "key": certificates[name, profile].private_key_pem,
                }
                for profile in ("server", "peer")
            },
        }
        for number, name in enumerate(names, 1)
    }
    return {
        "cluster": "etcd-cluster/prod/etcd",
        "token": "token",
        "version": VERSION,
        "tls": True,
        "options": {**options.defaults(VERSION), "quota-backend-bytes": 2 * GIB},
        "user_options": {},
        "quota_bytes": 2 * GIB,
        "trusted": CA.certificate_pem,
        "peer_trusted": PEER_CA.certificate_pem,
        "order": list(names),
        "members": members,
        "delete_data": False,
        **changes,
    }


INPUTS = json.dumps(desired_json())
DESIRED = DesiredCluster.parse(INPUTS)
NO_USERS = Authentication(False, {}, {})


def host(name: str, number: int, **changes: Any) -> Host:
    """A machine that is as it should be."""
    spec = DESIRED.spec(name, DESIRED.security, VERSION)
    files = [
        *DESIRED.certificate_files(name),
        *DESIRED.other_files(name, spec),
        *DESIRED.start_files(name, spec, DESIRED.trust),
    ]
    observed = {
        file.path: ObservedFile(
            file.mode,
            "etcd" if file.owner == "member" else file.owner,
            sha256(file.content.encode()).hexdigest() if file.path.endswith(".key") else file.content,
        )
        for file in files
    }
    live = Live(f"{number:x}", number == 2, False, True, VERSION, "3.6.0", 1000, 1000, 400 * 1024**2)
    healthy = Host(
        machine=name,
        token="token",
        data=True,
        programs=VERSION,
        running=VERSION,
        pid="7",
        failed=False,
        on_boot=True,
        pending=False,
        snapshot_index=900,
        history=History("3.6", 0, "1,2,3", 0, f"{number:x}"),
        versions=[VERSION],
        missing=[],
        files=observed,
        live=live,
        clock=int(NOW.timestamp()),
        device_bytes=0,
        filesystem_bytes=0,
        disk_bytes=20 * GIB,
        disk_free_bytes=15 * GIB,
    )
    return replace(healthy, **changes)


def observation(hosts: Mapping[str, Host] | None = None, **changes: Any) -> Observation:
    members = [
        MemberEntry(f"{number:x}", name, f"https://192.0.2.{number}:2380", f"https://192.0.2.{number}:2379", False)
        for number, name in enumerate(NAMES, 1)
    ]
    all_hosts = {name: host(name, number) for number, name in enumerate(NAMES, 1)} | dict(hosts or {})
    healthy = Observation(
        all_hosts, {}, "etcd-2", members, frozenset("123"), authentication=NO_USERS, cluster_id="cdf818194e3a8c32"
    )
    return replace(healthy, **changes)


def text(observed: Observation, now: datetime = NOW, schedules: Schedules = SCHEDULES) -> str:
    return as_text(cluster_status(DESIRED, observed, schedules, now))


def row(observed: Observation, name: str, now: datetime = NOW) -> list[str]:
    """The cells of a member, and what stands below its drift."""
    lines = text(observed, now).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(name))
    below = [line.strip() for line in lines[start + 1 : lines.index("", start)] if line.startswith(" ")]
    return [*(cell.strip() for cell in lines[start].split("  ") if cell), *below]


def test_a_healthy_cluster_reads_at_a_glance() -> None:
    assert (
        text(observation())
        == """\
etcd-cluster/prod/etcd: etcd 3.6.16, 3 members, all healthy, no drift

MEMBER  STATE     ETCD         DATABASE   LAG  DISK  CERTIFICATES            DRIFT
etcd-1  follower  3.6.16  400 MiB (20%)  none   25%  2034-12-30 (1824 days)  none
etcd-2  leader    3.6.16  400 MiB (20%)  none   25%  2034-12-30 (1824 days)  none
etcd-3  follower  3.6.16  400 MiB (20%)  none   25%  2034-12-30 (1824 days)  none

cluster id  cdf818194e3a8c32
endpoints   https://192.0.2.1:2379  https://192.0.2.2:2379  https://192.0.2.3:2379
quota       2 GiB for the database; once it is full, etcd takes no more writes
alarms      none
CA          until 2039-12-29 (3649 days); rotated by the first `up` after 2036-09-01
peer CA     until 2039-12-30 (3650 days); rotated by the first `up` after 2036-09-02
backups     none: wherever the data is, it can be lost; set backup.to
next up     nothing to do"""
    )
    assert cluster_status(DESIRED, observation(), SCHEDULES, NOW).ok


def test_members_that_do_not_reach_one_another_are_not_healthy() -> None:
    names = {str(number): name for number, name in enumerate(NAMES, 1)}
    hosts = {name: host(name, int(number)) for number, name in names.items()}
    for number, reached in (("1", "2"), ("2", "13"), ("3", "12")):
        live = hosts[names[number]].live
        assert live is not None
        hosts[names[number]] = replace(hosts[names[number]], live=replace(live, active_peers=frozenset(reached)))
    found = cluster_status(DESIRED, observation(hosts), SCHEDULES, NOW)
    assert not found.ok
    assert as_json(found)["brokenPairs"] == [{"member": "etcd-1", "peer": "etcd-3"}]
    lines = as_text(found).splitlines()
    assert lines[0].endswith("3 members, not all reach one another, no drift")
    assert "peers       etcd-1 does not reach etcd-3 at its peer port" in lines


def test_what_was_changed_by_hand_is_named_where_it_is() -> None:
    files = dict(host("etcd-1", 1).files)
    files["/etc/etcd/etcd.yaml"] = replace(files["/etc/etcd/etcd.yaml"], content="name: other\n")
    files["/etc/etcd/pki/server.key"] = replace(files["/etc/etcd/pki/server.key"], mode="644", owner="root")
    del files["/etc/etcd/pki/peer.crt"]
    observed = observation({"etcd-1": host("etcd-1", 1, files=files)})
    assert row(observed, "etcd-1")[-3:] == [
        "server.key is 644 root, not 400 etcd",
        "peer.crt is missing",
        "etcd.yaml differs",
    ]
    status = cluster_status(DESIRED, observed, SCHEDULES, NOW)
    assert not status.ok
    assert "all healthy, drift on etcd-1\n" in as_text(status)
    assert "next up     etcd-1: repairing certificates, without a restart" in as_text(status)
    assert as_json(status)["members"]["etcd-1"]["drift"][0].startswith("/etc/etcd/pki/server.key is 644")


_live = host("etcd-3", 3).live
assert _live
LIVE = _live
STATES = {
    "stopped": ({"pid": "", "running": "", "live": None}, State.DOWN),
    "cut off from the others": ({"live": replace(LIVE, has_leader=False)}, State.LEADERLESS),
    "not answering": ({"live": None}, State.UNKNOWN),
    "joining": ({"live": replace(LIVE, learner=True)}, State.LEARNER),
}


@pytest.mark.parametrize("case", STATES)
def test_a_member_that_is_not_well_says_how(case: str) -> None:
    changes, state = STATES[case]
    observed = observation({"etcd-3": host("etcd-3", 3, **changes)}, healthy=frozenset("12"))
    status = cluster_status(DESIRED, observed, SCHEDULES, NOW)
    assert not status.ok
    assert row(observed, "etcd-3")[1] == state.value
    assert "3 members, 2 of them healthy" in as_text(status)
    assert "drift" not in as_text(status).splitlines()[0].replace("no drift", ""), "down is not drift"


def test_a_machine_that_does_not_answer_says_why_and_the_rest_is_shown() -> None:
    why = "cannot reach 192.0.2.3:22 after 2 attempt(s): ssh: connect to host 192.0.2.3 port 22: No route to host. " * 2
    hosts = {name: host(name, number) for number, name in enumerate(NAMES[:2], 1)}
    observed = replace(observation(), hosts=hosts, unreachable={"etcd-3": why}, healthy=frozenset("12"))
    status = cluster_status(DESIRED, observed, SCHEDULES, NOW)
    assert row(observed, "etcd-3") == ["etcd-3", "unreachable", "-", "-", "-", "-", "-", "unknown"]
    assert "unreachable etcd-3: cannot reach 192.0.2.3:22" in as_text(status)
    assert row(observed, "etcd-2")[1] == "leader"
    assert as_json(status)["members"]["etcd-3"]["unreachable"] == why
    assert not status.ok


def test_without_a_majority_nothing_is_claimed_of_the_cluster() -> None:
    lone = host("etcd-1", 1, live=replace(LIVE, id="1", has_leader=False))
    down = {name: host(name, number, pid="", running="", live=None) for number, name in ((2, "etcd-2"), (3, "etcd-3"))}
    observed = combine({"etcd-1": lone, **down}, {}, {})
    said = text(observed)
    assert "3 members, 0 of them healthy" in said
    assert "cluster id  unknown: no member leads" in said
    assert "alarms      unknown" in said
    assert "next up     etcd-2, etcd-3: starting" in said


@pytest.mark.parametrize(
    ("data_of", "shown", "told"),
    [
        (["c1", "c1", "c1"], "c1, by the data that are there: no member leads", "c1"),
        (["c1", "", ""], "c1, by the data that are there: no member leads", "c1"),
        (["c1", "c2", "c2"], "unknown: no member leads, so none can answer for the cluster", ""),
        (["", "", ""], "unknown: no member leads, so none can answer for the cluster", ""),
    ],
    ids=["all", "two lost their disks", "of two clusters", "unreadable"],
)
def test_where_no_member_leads_the_data_tell_the_id_that_recover_has_to_name(
    data_of: Sequence[str], shown: str, told: str
) -> None:
    """Members without an id lost their data, but for the last row, whose logs say nothing."""
    some = any(data_of)
    hosts = {
        name: host(name, number, pid="", running="", live=None, data=bool(of) or not some, data_of=of)
        for number, (name, of) in enumerate(zip(NAMES, data_of, strict=True), 1)
    }
    observed = combine(hosts, {}, {})
    status = cluster_status(DESIRED, observed, SCHEDULES, NOW)
    assert f"cluster id  {shown}" in as_text(status)
    assert (as_json(status)["id"], as_json(status)["dataOf"], status.ok) == ("", told, False)


def test_an_alarm_is_named_with_its_member_and_is_not_well() -> None:
    observed = observation(alarms=[Alarm("NOSPACE", "3")])
    assert "alarms      NOSPACE on etcd-3" in text(observed)
    assert not cluster_status(DESIRED, observed, SCHEDULES, NOW).ok


def test_a_member_that_lags_says_by_how_many_entries_but_a_moment_is_no_lag() -> None:
    behind = host("etcd-3", 3, live=replace(LIVE, applied=300))
    assert row(observation({"etcd-3": behind}), "etcd-3")[4] == "700"
    level = host("etcd-3", 3, live=replace(LIVE, applied=996))
    assert row(observation({"etcd-3": level}), "etcd-3")[4] == "none"


@pytest.mark.parametrize(
    ("days", "left", "next_up"),
    [
        (1200, "2034-12-30 (624 days)", "nothing to do"),
        (1300, "2034-12-30 (524 days, due)", "renewing certificates, without a restart"),
        (1900, "2034-12-30 (expired)", "renewing certificates, without a restart"),
    ],
)
def test_certificates_that_are_due_are_what_the_next_up_renews(days: int, left: str, next_up: str) -> None:
    now = NOW + timedelta(days=days)
    assert row(observation(), "etcd-1", now)[6] == left
    status = cluster_status(DESIRED, observation(), SCHEDULES, now)
    assert next_up in as_text(status)
    assert status.ok == (next_up == "nothing to do")


@pytest.mark.parametrize(("transport", "which"), [(Transport.CLIENT, "CA"), (Transport.PEER, "peer CA")])
def test_a_rotated_ca_says_until_when_the_old_one_is_trusted_and_when_it_is_over(
    transport: Transport, which: str
) -> None:
    overlap = {**SCHEDULES, transport: CASchedule("2036-09-01T00:00:00Z", "2030-01-31T00:00:00Z")}
    (line,) = [each for each in text(observation(), schedules=overlap).splitlines() if each.startswith(which)]
    assert "the one before it is trusted until the first `up` after 2030-01-31T00:00:00Z" in line
    over = text(observation(), NOW + timedelta(days=31), overlap)
    assert f"next up     etcd-1, etcd-2, etcd-3: dropping the old {which}" in over
    due = text(observation(), NOW + timedelta(days=2500))
    assert f"rotating the {which}: one third of its validity is left" in due


def test_both_cas_are_told_to_programs() -> None:
    found = as_json(cluster_status(DESIRED, observation(), {}, NOW))
    assert found["casUntil"] == ["2039-12-29T23:55:00Z"]
    assert found["peerCasUntil"] == ["2039-12-30T23:55:00Z"]
    assert found["peerCaRotatesAfter"] is None


def test_a_state_of_an_earlier_release_is_read() -> None:
    """There, what clients are trusted by let members in as well."""
    old = desired_json()
    del old["peer_trusted"]
    status = cluster_status(DesiredCluster.parse(json.dumps(old)), observation(), {}, NOW)
    assert status.cas_until[Transport.PEER] == status.cas_until[Transport.CLIENT]


def test_no_line_is_wider_than_a_page_whatever_is_wrong() -> None:
    files = {path: replace(file, content="differs") for path, file in host("etcd-1", 1).files.items()}
    worst = host("etcd-1", 1, files=files, versions=[], running="3.5.35", missing=[Missing(MissingKind.MOUNT_ON_BOOT)])
    said = text(observation({"etcd-1": worst}, alarms=[Alarm("NOSPACE", "1")] * 3))
    assert max(map(len, said.splitlines())) <= WIDTH


def test_colours_are_for_what_is_wrong_alone() -> None:
    healthy = cluster_status(DESIRED, observation(), SCHEDULES, NOW)
    assert "\x1b" not in as_text(healthy, colours=True)
    observed = observation(
        {"etcd-3": host("etcd-3", 3, pid="", live=None, missing=[Missing(MissingKind.USER)])}, healthy=frozenset("12")
    )
    coloured = as_text(cluster_status(DESIRED, observed, SCHEDULES, NOW), colours=True)
    assert "\x1b[31mdown" in coloured
    assert "\x1b[33muser etcd is missing\x1b[0m" in coloured


def test_no_key_is_shown_in_any_form() -> None:
    observed = observation({"etcd-3": host("etcd-3", 3, pid="", live=None)})
    status = cluster_status(DESIRED, observed, SCHEDULES, NOW)
    said = as_text(status) + json.dumps(as_json(status)) + repr(status)
    assert "PRIVATE" not in said
    assert "BEGIN" not in said


BACKUPS = DesiredBackups("s3://bucket/etcd", "1h", 3600, "daily")


def name_of(hours: float) -> str:
    """A backup that was made that many hours ago."""
    return f"{NOW - timedelta(hours=hours):%Y%m%dT%H%M%SZ}-7-etcd-1"


def with_backups(**changes: Any) -> Observation:
    """All timers run, etcd-1 reports so, and the others have nothing to tell."""
    usual = {
        "attempt": int(NOW.timestamp()) - 600,
        "newest": name_of(0.5),
        "tested": name_of(9),
        "has_timer": True,
        "next_run": int(NOW.timestamp()) + 1860,
    }
    told = HostBackups(**{**usual, **changes})
    others = HostBackups(has_timer=True)
    reports = {"etcd-1": told, "etcd-2": others, "etcd-3": others}
    return observation({name: host(name, n, backups=reports[name]) for n, name in enumerate(NAMES, 1)})


def backups_of(observed: Observation, desired: DesiredBackups = BACKUPS) -> tuple[bool, list[str]]:
    """Whether all is well, and the lines on backups."""
    status = cluster_status(DESIRED, observed, SCHEDULES, NOW, desired)
    assert as_json(status)["backups"]["ok"] == status.ok
    lines = as_text(status).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("backups "))
    end = next(number for number, line in enumerate(lines) if line.startswith("next up"))
    return status.ok, [line[12:] for line in lines[start:end]]


def test_backups_that_are_in_order_take_one_line() -> None:
    assert backups_of(with_backups()) == (
        True,
        ["s3://bucket/etcd, every 1h; newest 30 min ago; tested 9 h ago; next in 31 min"],
    )
    found = as_json(cluster_status(DESIRED, with_backups(), SCHEDULES, NOW, BACKUPS))["backups"]
    assert found == {
        "to": "s3://bucket/etcd",
        "every": "1h",
        "newest": name_of(0.5),
        "newestTime": "2029-12-31T23:30:00Z",
        "testedTime": "2029-12-31T15:00:00Z",
        "nextRun": "2030-01-01T00:31:00Z",
        "ok": True,
        "problems": [],
    }
    assert as_json(cluster_status(DESIRED, observation(), SCHEDULES, NOW))["backups"] is None


@pytest.mark.parametrize(
    ("changes", "desired", "line"),
    [
        ({"newest": name_of(1.9)}, BACKUPS, ""),
        ({"newest": name_of(2.1)}, BACKUPS, "late: the newest is 2 h old, and one is made every 1h"),
        ({"newest": ""}, BACKUPS, "none was made yet, though a timer ran"),
        ({"newest": "", "tested": "", "attempt": 0}, BACKUPS, ""),
        ({"tested": name_of(47)}, BACKUPS, ""),
        ({"tested": name_of(49)}, BACKUPS, "the last test is 2 days old, and one is tested daily"),
        ({"tested": name_of(49)}, replace(BACKUPS, test="weekly"), ""),
        ({"tested": ""}, BACKUPS, "none was tested, and one is tested daily"),
        ({"tested": ""}, replace(BACKUPS, test="never"), ""),
        (
            {"failure": "the store is full. Expected: room"},
            BACKUPS,
            "etcd-1: its last backup failed: the store is full",
        ),
        ({"has_timer": False}, BACKUPS, "etcd-1: no timer makes backups there; the next `up` sets it up"),
    ],
)
def test_backups_that_are_not_in_order_say_how(changes: dict[str, Any], desired: DesiredBackups, line: str) -> None:
    ok, (_, *problems) = backups_of(with_backups(**changes), desired)
    assert ok == (not line)
    assert len(problems) == (1 if line else 0), problems
    assert line in "".join(problems)


def test_a_backup_of_a_clock_that_was_ahead_hides_no_late_one() -> None:
    told = with_backups(newest=name_of(9))
    ahead = HostBackups(newest=name_of(-9000), tested=name_of(-9000), has_timer=True)
    hosts = {**told.hosts, "etcd-2": replace(told.hosts["etcd-2"], backups=ahead)}
    ok, (_, *problems) = backups_of(replace(told, hosts=hosts))
    assert not ok
    assert any("late: the newest is 9 h" in line for line in problems)


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({}, ""),
        ({"newest": name_of(2.1)}, "late: the newest is 2 h old, and one is made every 1h"),
        ({"tested": name_of(49)}, "the last test is 2 days old, and one is tested daily"),
        ({"failure": "members differ: at revision 7"}, "etcd-1: its last backup failed: members differ"),
        ({"has_timer": False}, ""),  # what the `up` itself sets up
    ],
    ids=["fine", "late", "untested", "failed", "no timer"],
)
def test_an_up_that_looks_at_the_machines_warns_of_what_it_does_not_fix(changes: dict[str, Any], warning: str) -> None:
    said = warnings(BACKUPS, with_backups(**changes), by_timer=True, now=NOW)
    assert len(said) == bool(warning)
    assert not warning or said[0].startswith(f"warning: backups: {warning}")
    assert "run `etcd-cluster backup" in said[0] if changes.keys() & {"newest", "tested"} else True


def test_a_late_backup_is_red() -> None:
    late = cluster_status(DESIRED, with_backups(newest=name_of(9)), SCHEDULES, NOW, BACKUPS)
    assert "\x1b[31mbackups     s3://bucket/etcd" in as_text(late, colours=True)
    fine = cluster_status(DESIRED, with_backups(), SCHEDULES, NOW, BACKUPS)
    assert "\x1b" not in as_text(fine, colours=True)


def test_where_people_make_the_backups_none_is_late() -> None:
    """On this machine there are no timers."""
    here = desired_json()
    for name, member in here["members"].items():
        member["layout"] = vars(Layout.below(f"/here/{name}"))
    told = with_backups(newest=name_of(900), tested="", has_timer=False, next_run=0)
    status = cluster_status(DesiredCluster.parse(json.dumps(here)), told, SCHEDULES, NOW, BACKUPS)
    assert status.backups is not None
    assert not status.backups.problems
    assert "backups     s3://bucket/etcd, by hand; newest 37 days ago; next: `etcd-cluster backup now`" in as_text(
        status
    )


def test_what_a_machine_says_of_its_disk_is_read() -> None:
    observed, _ = parse_host("machine=one\ndisk_bytes=21474836480\ndisk_free_bytes=16106127360\n")
    assert (observed.disk_bytes, observed.disk_free_bytes) == (20 * GIB, 15 * GIB)


def test_authentication_that_somebody_else_turned_on_is_told_by_those_who_look() -> None:
    theirs = replace(observation(), authentication=Authentication(True, {}, {}))
    status = cluster_status(DESIRED, theirs, SCHEDULES, NOW)
    assert status.ok
    assert "users       etcd's authentication is on, and this stack names no users" in as_text(status)
    assert as_json(status)["userWarnings"][0].startswith("warning: etcd's authentication is on")
    assert as_json(cluster_status(DESIRED, observation(), SCHEDULES, NOW))["userWarnings"] == []


def test_members_that_it_locks_out_are_named_and_no_status_that_is_well() -> None:
    hosts = {name: replace(host, may_administer=name == "etcd-1") for name, host in observation().hosts.items()}
    status = cluster_status(DESIRED, replace(observation(), hosts=hosts), SCHEDULES, NOW)
    assert not status.ok
    assert (as_json(status)["lockedOut"], as_json(status)["next"]) == (["etcd-2", "etcd-3"], [])
    text = " ".join(as_text(status).split())
    assert "users etcd's authentication is on, and etcd-2, etcd-3 may not change the cluster: any change" in text
    assert "\x1b[31musers" in as_text(status, colours=True)
    assert '<dt>users</dt><dd><p class="bad">' in as_html(status)
