"""Backups into a real S3 server, by the timers of real hosts, while clients write."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.lab.changes import assert_converged, configure
from tests.lab.clusters import Cluster, changes_nothing, eventually
from tests.lab.hosts import Host, Lab
from tests.lab.object_store import ACCESS_KEY, SECRET_KEY, ObjectStore
from tests.lab.observed import on_all
from tests.lab.stack import Stack, host_config
from tests.lab.writes import Access, writing

SERVICE, TIMER = "etcd-cluster-backup.service", "etcd-cluster-backup.timer"
BACK_UP_NOW = "bash -s -- backup member=host-1 now=yes < /etc/etcd/backup/program"


def backup_config(store: ObjectStore, **changes: Any) -> dict[str, Any]:
    return {
        "to": f"s3://{store.bucket}/etcd",
        "endpoint": store.url,
        "accessKey": ACCESS_KEY,
        "secretKey": SECRET_KEY,
        **changes,
    }


@pytest.fixture(scope="module")
def store(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> ObjectStore:
    store = ObjectStore(lab, tmp_path_factory.mktemp("store") / "objects")
    store.start()
    return store


@pytest.fixture(scope="module")
def cluster(lab: Lab, store: ObjectStore, mirror_url: str, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    hosts = lab.hosts(3, disk_gib=2)
    config = host_config(hosts, mirror_url, allowUndersized=True, backup=backup_config(store, every="24h"))
    cluster = Cluster(lab, hosts, Stack(lab, tmp_path_factory.mktemp("backup"), config))
    cluster.up()
    return cluster


def manifests(store: ObjectStore) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in store.objects(".json")]


def result(host: Host) -> dict[str, str]:
    """What the last run noted on a machine."""
    lines = host.run("cat /var/lib/etcd-cluster/backup").stdout.splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_a_new_cluster_has_its_timers_and_the_next_up_changes_nothing(cluster: Cluster, store: ObjectStore) -> None:
    for host in cluster.hosts:
        assert host.run(f"systemctl is-active {TIMER}; systemctl is-enabled {TIMER}").stdout == "active\nenabled\n"
    assert store.objects() == [], "the trial leaves nothing behind"
    assert changes_nothing(cluster.up())


def test_keys_of_the_store_are_in_one_file_that_only_root_reads(cluster: Cluster) -> None:
    for host in cluster.hosts:
        places = "/etc /opt /var/lib /run /var/log /tmp /proc/*/cmdline /proc/*/environ"
        found = host.run(f"grep -rlF -f - {places}", check=False, stdin=SECRET_KEY)
        assert found.stdout == "/etc/etcd/backup/rclone.conf\n"
        assert host.run("stat -c '%a %U' /etc/etcd/backup/rclone.conf").stdout == "400 root\n"
    assert not [path for path in cluster.state_files() if SECRET_KEY.encode() in path.read_bytes()]


def test_of_all_timers_one_makes_the_backup_and_it_restores(
    cluster: Cluster, store: ObjectStore, tmp_path: Path
) -> None:
    with writing(cluster.lab, Access.of(cluster.outputs)) as writes:
        cluster.etcdctl("put", "kept", "value")
        on_all(cluster.hosts, lambda host: host.run(f"systemctl start --no-block {SERVICE}"))
        eventually(lambda: store.objects(".tested"), "a backup is made and proven")
    writes.assert_nothing_lost(expect_downtime=False)
    tested = {path.stem for path in store.objects(".tested")}
    manifest = next(each for each in manifests(store) if each["name"] in tested)
    assert manifest["hash"]["members"].count(",") >= 1, "the members that answered held the same"
    (path,) = store.objects(f"{manifest['name']}.db")
    data = path.read_bytes()
    assert hashlib.sha256(data).hexdigest() == manifest["sha256"]
    assert len(data) == manifest["bytes"]
    for host in cluster.hosts:
        host.run(f"systemctl stop {SERVICE}")
    made = next(host for host in cluster.hosts if host.name == manifest["member"])
    noted = result(made)
    assert noted["result"] == "success"
    assert noted["tested"] == manifest["name"]
    assert made.run("ls /data/etcd/backups").stdout == "", "the local copy goes once the store has it"


def test_the_others_find_it_made(cluster: Cluster, store: ObjectStore) -> None:
    """One a slot, also if the next slot begins meanwhile, at midnight."""
    before = manifests(store)
    for host in cluster.hosts:
        host.run(f"systemctl start {SERVICE}", timeout=600)
    after = manifests(store)
    assert [each for each in before if each not in after] == []
    slots = [each["name"].partition("-")[0] for each in after]
    assert sorted(slots) == sorted(set(slots))


def test_a_store_that_is_down_is_named_and_the_local_copy_stays(cluster: Cluster, store: ObjectStore) -> None:
    host = cluster.hosts[0]
    store.stop()
    run = host.run(f"systemctl start {SERVICE}", check=False, timeout=900)
    assert run.returncode != 0
    assert "the store does not answer" in result(host)["failure"]
    store.start()


def test_a_wrong_key_fails_the_up_that_sets_it_and_touches_no_member(cluster: Cluster, store: ObjectStore) -> None:
    before = on_all(cluster.hosts, lambda host: host.run("pgrep -x etcd").stdout)
    configure(cluster, backup=backup_config(store, every="24h", secretKey="wrong-secret-key"))
    run = cluster.stack.up(check=False)
    assert run.returncode != 0
    assert "the store refuses the secret key" in run.output
    assert "wrong-secret-key" not in run.output
    configure(cluster, backup=backup_config(store, every="24h"))
    cluster.up()
    assert on_all(cluster.hosts, lambda host: host.run("pgrep -x etcd").stdout) == before


def test_a_timer_that_was_removed_comes_back(cluster: Cluster) -> None:
    host = cluster.hosts[1]
    host.run(f"systemctl disable --now {TIMER}; rm /etc/systemd/system/{TIMER}; systemctl daemon-reload")
    run = cluster.up()
    assert f"{host.name}: backups: /etc/systemd/system/{TIMER} differs" in run.output
    assert host.run(f"systemctl is-active {TIMER}").stdout == "active\n"
    assert_converged(cluster)


def test_after_everything_is_destroyed_the_newest_backup_brings_all_keys_back(
    cluster: Cluster, store: ObjectStore
) -> None:
    ids = cluster.cluster_ids()
    for number in range(20):
        cluster.etcdctl("put", f"key-{number}", "value")
    cluster.hosts[0].run(BACK_UP_NOW, timeout=300)
    newest = max(each["name"] for each in manifests(store))
    configure(cluster, deleteData=True)
    cluster.up()
    cluster.stack.destroy()
    for host in cluster.hosts:
        assert host.run("ls /data/etcd").stdout.split() == []
    configure(cluster, deleteData=None, restoreFrom="latest")
    run = cluster.up()
    assert f"host-1: restored {newest}" in run.output
    assert len(cluster.etcdctl("get", "key-", "--prefix", "--keys-only").split()) == 20
    assert cluster.cluster_ids() != ids
    assert_converged(cluster)
    refused = cluster.stack.preview(check=False) if configure(cluster, restoreFrom=newest) is None else None
    assert refused is not None
    assert "this cluster runs, with data of its own" in refused.output
    configure(cluster, restoreFrom=None)
    cluster.up()


@pytest.mark.exhaustive
def test_a_backup_takes_the_place_of_the_data_once_these_are_in_the_store_as_well(
    cluster: Cluster, store: ObjectStore
) -> None:
    (old,) = cluster.cluster_ids()
    cluster.etcdctl("put", "before", "value")
    cluster.hosts[0].run(BACK_UP_NOW, timeout=300)
    known = {each["name"]: each["token"] for each in manifests(store)}
    newest = max(known)
    cluster.etcdctl("put", "since", "value")
    configure(cluster, restoreInPlace={"from": "latest", "cluster": f"{int(old):x}"})
    with writing(cluster.lab, Access.of(cluster.outputs)) as writes:
        run = cluster.up()
        writes.await_more()
    assert f"testing a restore of {known[newest]}/{newest}" in run.output
    assert len([each for each in manifests(store) if each["name"] not in known]) == 1, "with the key `since`"
    assert cluster.etcdctl("get", "before", "--keys-only").split() == ["before"]
    assert cluster.etcdctl("get", "since", "--keys-only").split() == []
    assert old not in cluster.cluster_ids()
    assert_converged(cluster)
    configure(cluster, restoreInPlace=None)
    cluster.up()
    assert_converged(cluster)


def test_without_backups_timers_and_keys_go_and_the_store_keeps_what_it_has(
    cluster: Cluster, store: ObjectStore
) -> None:
    before = store.objects()
    configure(cluster, backup=None)
    run = cluster.up()
    assert "this cluster has no backups" in run.output
    for host in cluster.hosts:
        assert host.run(f"ls /etc/etcd/backup /etc/systemd/system/{TIMER}", check=False).stdout == ""
    assert store.objects() == before
    shutil.rmtree(store.folder, ignore_errors=True)
