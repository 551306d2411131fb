"""Settings and versions of a running cluster: who restarts, in which order, and never a lost write on the way.

Most of it is one story of one cluster: a single data directory goes from etcd 3.4.9 to 3.7.3, past every trap on that
road, and each test goes on where the one before ended.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from tests.lab import binaries
from tests.lab.changes import Changed, change, changing, configure, started
from tests.lab.clusters import Cluster, changes_nothing, eventually
from tests.lab.faults import leader
from tests.lab.hosts import Host, Lab
from tests.lab.operator import Operator
from tests.lab.stack import Run, Stack, host_config

MIRROR_VERSIONS = ["3.4.9", "3.5.35", "3.6.14", "3.6.16", "3.7.3"]

DATA = "/data/etcd/data"
CHECK_V2STORE = f"/opt/etcd/bin/etcdutl check v2store --data-dir {DATA} 2>&1"
NEWEST_SNAPSHOT = f"find {DATA}/member/snap -name '*-*.snap' -printf '%f\\n' | sort | tail -n 1"
FLUSH = "so that [0-9.]+ can start from its log"
TURN = re.compile(rf"(host-\d): restarting(?P<flush> once, {FLUSH})? with etcd (?P<version>\S+)")


@pytest.fixture(scope="module")
def cluster(lab: Lab, mirror_url: str, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """Three members with TLS, formed with etcd 3.4.9."""
    hosts = lab.hosts(3)
    config = host_config(hosts, mirror_url, version="3.4.9", allowUndersized=True)
    cluster = Cluster(lab, hosts, Stack(lab, tmp_path_factory.mktemp("story"), config))
    cluster.up()
    return cluster


def assert_rolled(said: Sequence[str], rolls: Sequence[tuple[str, bool]], members: int = 3) -> None:
    """The run restarted all members once for each of `rolls`, (version, whether to flush), and each time the last one
    was the leader, which handed over first. A flush leaves out members that writes have flushed meanwhile."""
    turns = [(index, match) for index, line in enumerate(said) if (match := TURN.fullmatch(line))]
    found = [(match["version"], bool(match["flush"])) for _, match in turns]
    assert list(dict.fromkeys(found)) == list(rolls), said
    handed_over = 0
    for version, flush in rolls:
        roll = [
            (index, match[1]) for index, match in turns if (match["version"], bool(match["flush"])) == (version, flush)
        ]
        names = [name for _, name in roll]
        assert len(set(names)) == len(names), said
        assert len(names) == members or flush, said
        index, last = roll[-1]
        moved = said[index - 1].startswith(f"{last}: handing leadership over to ")
        assert moved or len(names) < members, said
        handed_over += moved
    assert sum("handing leadership" in line for line in said) == handed_over, said


def assert_refused(cluster: Cluster, version: str, message: str) -> None:
    """By a preview, and nothing is touched."""
    before, kept = started(cluster), cluster.stack.config
    configure(cluster, version=version)
    run = cluster.stack.preview(check=False)
    cluster.stack.config = kept
    assert run.returncode != 0
    assert re.search(message, run.output), run.output
    assert started(cluster) == before


def snapshot(cluster: Cluster, file: str, version: str) -> str:
    """What etcdutl of that version says of a snapshot that one of the hosts holds."""
    look = f"[ ! -e {file} ] || /opt/etcd/versions/{version}/etcdutl snapshot status {file} --write-out json"
    (said,) = [printed for printed in cluster.each_host(look).values() if printed]
    return said


# --- the way from 3.4.9 to 3.7.3 ---


def test_a_preview_says_what_an_upgrade_does_and_does_nothing(cluster: Cluster) -> None:
    before, kept = started(cluster), cluster.stack.config
    configure(cluster, version="3.5.35")
    run = cluster.stack.preview()
    cluster.stack.config = kept
    assert "host-1, host-2, host-3: 3.4.9 -> 3.5.35, one at a time, followers first, the leader last" in run.output
    assert "a snapshot is taken and checked before the first member moves" in run.output
    assert started(cluster) == before


def test_3_4_to_3_5(cluster: Cluster) -> None:
    """On 3.4, whoever looks at /health writes an entry to the log that 3.6 cannot start from."""
    assert_refused(
        cluster, "3.6.16", r"version: 3\.6\.16: .* runs 3\.4\.9, .*Set version to 3\.5\.35 \(in later runs: 3\.6\.16\)"
    )
    assert_refused(
        cluster, "3.7.3", r"version: 3\.7\.3: .*Set version to 3\.5\.35 \(in later runs: 3\.6\.16, then 3\.7\.3\)"
    )
    looks = cluster.each_host("for i in 1 2 3; do curl -fsS http://127.0.0.1:2381/health; done")
    assert set(looks.values()) == {'{"health":"true"}' * 3}
    done = change(cluster, version="3.5.35")
    assert_upgraded(cluster, done, "3.4.9", "3.5.35")
    assert all(
        "detected custom v2 content in WAL" in said for said in cluster.each_host(f"{CHECK_V2STORE}; true").values()
    )


def assert_upgraded(cluster: Cluster, done: Changed, before: str, after: str, *, flushed: bool = False) -> None:
    assert cluster.versions() == {f'"{after}"'}
    assert_rolled(done.steps, [*([(before, True)] if flushed else []), (after, False)])
    taken = next(index for index, line in enumerate(done.steps) if "taking a snapshot" in line)
    moved = next(index for index, line in enumerate(done.steps) if f"with etcd {after}" in line)
    assert taken < moved
    assert '"totalKey"' in snapshot(cluster, f"/data/etcd/snapshots/{before}-to-{after}.db", after)


def test_an_upgrade_may_be_given_up_until_the_last_member_has_moved(cluster: Cluster) -> None:
    with changing(cluster):
        configure(cluster, version="3.6.14")
        run = kill_at(cluster.stack, r"restarting with etcd 3\.6\.14", 2)
        configure(cluster, version="3.5.35")
        back = cluster.up()
    assert len(re.findall(FLUSH, run.output)) == 3
    assert "restarting with etcd 3.5.35" in back.output
    assert cluster.versions() == {'"3.5.35"'}


def kill_at(stack: Stack, line: str, count: int = 1) -> Run:
    """An `up` that is killed at the `count`th such line."""
    operator = Operator(stack)
    operator.wait_for(line, count)
    operator.kill()
    return Run(-9, operator.output, 0.0)


def test_a_member_that_lost_its_data_on_3_5_joins_anew(cluster: Cluster) -> None:
    """Its snapshots of before are what 3.6 would start from, one restart after the upgrade."""
    assert all(cluster.each_host(NEWEST_SNAPSHOT).values())
    host = cluster.hosts[2]
    with changing(cluster, restarts=[host.name]):
        host.run(f"systemctl stop etcd-cluster && rm -r {DATA}")
        cluster.up()


def test_3_5_to_3_6(cluster: Cluster) -> None:
    assert_refused(
        cluster, "3.7.3", r"version: 3\.7\.3: .* runs 3\.5\.35, .*Set version to 3\.6\.16 \(in later runs: 3\.7\.3\)"
    )
    assert_refused(cluster, "3.4.9", r"version: 3\.4\.9: .*Set version to 3\.5\.35, or to a newer patch of 3\.5")
    before = cluster.each_host(NEWEST_SNAPSHOT)
    done = change(cluster, version="3.6.14")
    assert_upgraded(cluster, done, "3.5.35", "3.6.14", flushed=True)
    after = cluster.each_host(NEWEST_SNAPSHOT)
    assert all(before[name] < after[name] for name in before)


def test_settings_restart_followers_first_and_the_leader_last(cluster: Cluster) -> None:
    """It is also the second restart on 3.6, which loses the quorum of a cluster that was upgraded carelessly."""
    leads = leader(cluster).name
    done = change(cluster, etcd={"max-txn-ops": 300, "election-timeout": 1500})
    assert_rolled(done.steps, [("3.6.14", False)])
    followers = [host.name for host in cluster.hosts if host.name != leads]
    assert done.restarted == [*followers, leads]
    assert set(cluster.each_host("grep max-txn-ops /etc/etcd/etcd.yaml").values()) == {"max-txn-ops: 300\n"}


def test_a_patch_needs_one_restart(cluster: Cluster) -> None:
    leads = leader(cluster).name
    done = change(cluster, version="3.6.16")
    assert_upgraded(cluster, done, "3.6.14", "3.6.16")
    assert done.restarted[-1] == leads


def test_3_6_to_3_7(cluster: Cluster) -> None:
    """Its log still holds entries that 3.5 wrote, which 3.7 cannot read."""
    assert_refused(cluster, "3.5.35", r"version: 3\.5\.35: .*Set version to 3\.6\.16, or to a newer patch of 3\.6")
    assert_refused(cluster, "3.6.14", r"version: 3\.6\.14: .*no way back to an older patch")
    done = change(cluster, version="3.7.3")
    assert_upgraded(cluster, done, "3.6.16", "3.7.3", flushed=True)


def test_after_the_last_member_there_is_no_way_back(cluster: Cluster) -> None:
    assert_refused(cluster, "3.6.16", r"version: 3\.6\.16: .*Set version to 3\.7\.3, or to a newer patch of 3\.7")
    assert_refused(cluster, "3.4.9", r"version: 3\.4\.9: .*Set version to 3\.7\.3, or to a newer patch of 3\.7")
    assert_refused(cluster, "3.8.0", r"version: .*3\.8\.0")


SETTINGS = {
    "unknown": ({"no-such-setting": 1}, r"etcd\.no-such-setting: 1: etcd 3\.7\.3 has no such setting"),
    "removed": ({"experimental-corrupt-check-time": "1h"}, r"does not read it\. Use corrupt-check-time"),
    "reserved": ({"data-dir": "/elsewhere"}, r"etcd\.data-dir: .*both are on the data volume"),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_that_cannot_be_is_refused_by_a_preview(cluster: Cluster, setting: str) -> None:
    values, message = SETTINGS[setting]
    kept = cluster.stack.config
    configure(cluster, etcd=values)
    run = cluster.stack.preview(check=False)
    cluster.stack.config = kept
    assert run.returncode != 0
    assert re.search(message, run.output), run.output


# --- other roads ---


@pytest.mark.exhaustive
def test_one_member_formed_on_3_6_needs_no_flush_and_comes_from_archives(
    lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> None:
    host = lab.host("only")
    archives = {
        version: {"from": "archive", "archive": str(binaries.archive(version))} for version in ("3.6.16", "3.7.3")
    }
    config = host_config([host], "", version="3.6.16", install=archives["3.6.16"], allowUndersized=True)
    cluster = Cluster(lab, [host], Stack(lab, tmp_path_factory.mktemp("archive"), config))
    cluster.up()
    done = change(cluster, expect_downtime=True, version="3.7.3", install=archives["3.7.3"])
    assert cluster.versions() == {'"3.7.3"'}
    assert re.findall("only: restarting.*", done.run.output) == ["only: restarting with etcd 3.7.3"]
    assert '"totalKey"' in snapshot(cluster, "/data/etcd/snapshots/3.6.16-to-3.7.3.db", "3.7.3")
    # As of a machine that was installed anew, and keeps its SSH host key and its data disk.
    host.run("systemctl stop etcd-cluster && rm -r /opt/etcd /etc/etcd")
    cluster.up()
    assert cluster.versions() == {'"3.7.3"'}
    assert changes_nothing(cluster.stack.up())


V2_KEYS = "curl -fsS -X PUT http://127.0.0.1:2379/v2/keys/precious -d value=kept"
NO_V2_KEYS = "ETCDCTL_API=2 /opt/etcd/bin/etcdctl --endpoints http://127.0.0.1:2379 rm /precious"


def with_v2(host: Host, command: str) -> None:
    """What is done by hand, until the next `up` puts the file back."""
    host.run("echo 'enable-v2: true' >> /etc/etcd/etcd.yaml && systemctl restart etcd-cluster")
    eventually(lambda: host.run(command, check=False).returncode == 0, command)


@pytest.mark.exhaustive
def test_keys_of_the_v2_api_stop_the_way_to_3_6_until_they_are_gone(
    lab: Lab, mirror_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    host = lab.host("old")
    config = host_config([host], mirror_url, version="3.4.9", tls=False, allowUndersized=True)
    cluster = Cluster(lab, [host], Stack(lab, tmp_path_factory.mktemp("v2"), config))
    cluster.up()
    with_v2(host, V2_KEYS)
    change(cluster, expect_downtime=True, version="3.5.35")

    configure(cluster, version="3.6.16")
    refusal = r"old holds keys of etcd's old v2 API, and etcd 3\.6 does not start with them.*add `enable-v2: true`"
    first = cluster.stack.up(check=False)
    after = started(cluster)
    second = cluster.stack.up(check=False)
    for run in first, second:
        assert run.returncode != 0
        assert re.search(refusal, run.output), run.output
    assert started(cluster) == after  # only the first one had a log to flush
    assert cluster.versions() == {'"3.5.35"'}

    with_v2(host, NO_V2_KEYS)
    change(cluster, expect_downtime=True, version="3.6.16")
    assert cluster.versions() == {'"3.6.16"'}
