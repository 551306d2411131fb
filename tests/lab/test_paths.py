"""Where data are, changed below members that run: disks given and taken away, something mounted over the data. Under
continuous writes, on one cluster of three whose data are on the root file system at first, with a blank disk beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from tests.lab.changes import changing, configure, steps
from tests.lab.clusters import Cluster, changes_nothing
from tests.lab.faults import followers, frozen, leader
from tests.lab.hosts import DEVICE, Host, Lab
from tests.lab.stack import Run, Stack, host_config
from tests.lab.writes import Access, writing

ON_DISK = """
cat /proc/mounts | grep -E ' /data|xvdf'
findmnt /data/etcd > /dev/null || head -c 2097152 /dev/xvdf | sha256sum  # of a disk that nobody writes to
find /data /var/lib/etcd-cluster /etc/systemd/system /opt/etcd -xdev \
    ! -path '*/member/*' ! -path '*/run' ! -path '*/lock' -printf '%p %m %u\\n' | sort
"""


@pytest.fixture(scope="module")
def cluster(lab: Lab, mirror_url: str, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """Three members without a device. Tests leave it healthy."""
    hosts = lab.hosts(3, disk_gib=1)
    config = host_config(hosts, mirror_url, allowUndersized=True)
    config["hosts"] = {name: without_device(block) for name, block in config["hosts"].items()}
    cluster = Cluster(lab, hosts, Stack(lab, tmp_path_factory.mktemp("paths"), config))
    cluster.up()
    return cluster


def without_device(block: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in block.items() if key != "device"}


@contextmanager
def devices(cluster: Cluster, hosts: Sequence[Host], device: str = DEVICE) -> Iterator[None]:
    """Config in which these hosts, and no others, have a device; as it was before, afterwards."""
    before = cluster.stack.config
    blocks: dict[str, Any] = {name: without_device(block) for name, block in before["hosts"].items()}
    configure(cluster, hosts=blocks | {host.name: {**blocks[host.name], "device": device} for host in hosts})
    try:
        yield
    finally:
        cluster.stack.config = before


@contextmanager
def untouched(cluster: Cluster) -> Iterator[None]:
    """Nobody restarts, no write is lost or fails, no disk or mount changes, and the members are the same."""
    before, members = cluster.each_host(ON_DISK), cluster.etcdctl("member", "list")
    with changing(cluster, restarts=()):
        yield
        assert cluster.each_host(ON_DISK) == before
        assert cluster.etcdctl("member", "list") == members


def refused(run: Run, *texts: str) -> None:
    assert run.returncode != 0, run.output
    for text in texts:
        assert re.search(text, run.output), f"{text}\n{run.output}"


def forget_places(cluster: Cluster) -> None:
    """The state as a release wrote it that did not show them."""
    (file,) = cluster.stack.state.glob("*/lab.json")
    document = json.loads(file.read_text())
    (rollout,) = (each for each in document["resources"] if each["urn"].endswith("::etcd-rollout"))
    for properties in (rollout["inputs"], rollout["outputs"]):
        assert properties.pop("places")
    file.write_text(json.dumps(document))


# --- a disk is given to members that run ---


def test_a_device_for_all_members_that_run_is_refused_in_the_preview_and_by_every_host(cluster: Cluster) -> None:
    everybody = "host-1, host-2, host-3"
    with untouched(cluster):
        with devices(cluster, cluster.hosts):
            refused(
                cluster.stack.preview(check=False), f"device: {everybody}: added to, or removed from, more than one"
            )
            forget_places(cluster)
            refused(
                cluster.stack.preview(check=False), f"device: {everybody}: added to, or removed from, more than one"
            )
            run = cluster.stack.up(check=False)
        for host in cluster.hosts:
            refused(run, rf"{host.name}: /data/etcd holds etcd's files \(data history\), and device /dev/xvdf would be")
        assert "formatting" not in run.output
        cluster.up()


def test_a_device_for_one_member_is_told_in_the_preview_and_refused_by_its_host_while_data_are_there(
    cluster: Cluster,
) -> None:
    host = leader(cluster)
    with untouched(cluster), devices(cluster, [host]):
        assert f"{host.name}: its data move to its device: it joins anew" in cluster.stack.preview().output
        run = cluster.stack.up(check=False)
        refused(run, f"{host.name}: /data/etcd holds etcd's files", "docs/move-data-to-a-device.md")


# --- something is mounted over the data ---


def test_a_member_that_runs_below_a_mount_is_not_removed(cluster: Cluster) -> None:
    """etcd ends by itself within half a minute, as it cannot read its folders any more; one that is frozen cannot."""
    host = followers(cluster)[0]
    with untouched(cluster), frozen(host):
        host.run("mount -t tmpfs photos /data/etcd")
        run = cluster.stack.up(check=False)
        refused(run, f"{host.name} runs, but its data are not at /data/etcd/data: photos at /data/etcd is mounted over")
        host.run("umount /data/etcd")


def test_nor_is_a_leader_whether_it_still_runs_or_has_ended_by_itself(cluster: Cluster) -> None:
    host, members = leader(cluster), cluster.etcdctl("member", "list")
    with writing(cluster.lab, Access.of(cluster.outputs)) as writes:
        host.run("mount -t tmpfs photos /data")
        for _ in range(2):
            refused(cluster.stack.up(check=False), f"{host.name}.*: photos at /data is mounted")
        assert cluster.etcdctl("member", "list") == members
        assert host.run("ls -A /data").stdout == "", "nothing was put into it"
        host.run("umount /data")
        cluster.up()
    writes.assert_nothing_lost()
    assert cluster.etcdctl("member", "list") == members
    cluster.await_health()


def test_a_member_that_was_stopped_below_a_mount_is_not_begun_anew_in_it(cluster: Cluster) -> None:
    host = followers(cluster)[0]
    with changing(cluster, restarts=[host.name]):
        host.run("systemctl stop etcd-cluster && mount -t tmpfs photos /data/etcd")
        run = cluster.stack.up(check=False)
        refused(run, f"{host.name}: photos at /data/etcd is mounted where its data belong, and may hide them")
        assert host.run("ls -A /data/etcd; pgrep -x etcd", check=False).stdout == ""
        host.run("umount /data/etcd")
        assert f"{host.name}: starting with etcd" in cluster.up().output


# --- data are moved to a disk, and off it: as docs/move-data-to-a-device.md says ---


def test_data_move_to_a_disk_one_member_at_a_time(cluster: Cluster) -> None:
    for host in [*followers(cluster)[:1], leader(cluster)]:
        blocks = cluster.stack.config["hosts"]
        configure(cluster, hosts={**blocks, host.name: {**blocks[host.name], "device": DEVICE}})
        assert f"{host.name}: its data move to its device" in cluster.stack.preview().output
        with changing(cluster, restarts=[host.name]):
            host.run("systemctl stop etcd-cluster && mv /data/etcd /data/etcd.before")
            run = cluster.up()
        assert f"{host.name}: formatting {DEVICE} (blank) with XFS" in steps(run)
        assert host.run("findmnt -no SOURCE,FSTYPE /data/etcd").stdout.split() == [DEVICE, "xfs"]
        assert "AssertPathIsMountPoint=/data/etcd" in host.read("/etc/systemd/system/etcd-cluster.service")
        host.run("rm -r /data/etcd.before")


def test_a_disk_that_holds_the_data_is_not_left_out_and_not_another_one(cluster: Cluster) -> None:
    on_disks = [host for host in cluster.hosts if "device" in cluster.stack.config["hosts"][host.name]]
    assert len(on_disks) == 2
    with untouched(cluster), devices(cluster, []):
        refused(cluster.stack.preview(check=False), f"device: {on_disks[0].name}, {on_disks[1].name}: added to, or")
    with untouched(cluster), devices(cluster, on_disks[:1]):
        run = cluster.stack.up(check=False)
        refused(run, rf"{on_disks[1].name}: no device is given, but the data of this member are on a disk .*/dev/xvdf")
    on_disks[0].run("ln -s /dev/xvdf /dev/disk-for-etcd")
    blocks = cluster.stack.config["hosts"]
    renamed = {**blocks[on_disks[0].name], "device": "/dev/disk-for-etcd"}
    configure(cluster, hosts={**blocks, on_disks[0].name: renamed})
    with changing(cluster, restarts=()):
        assert not changes_nothing(cluster.up())


def test_a_mount_over_the_disk_of_a_member_is_named_and_nothing_is_done(cluster: Cluster) -> None:
    host = next(host for host in cluster.hosts if "device" in cluster.stack.config["hosts"][host.name])
    members = cluster.etcdctl("member", "list")
    with changing(cluster, restarts=[host.name]):
        host.run("systemctl stop etcd-cluster && mount -t tmpfs photos /data/etcd")
        refused(cluster.stack.up(check=False), f"{host.name}: photos at /data/etcd is mounted where its data belong")
        host.run("umount /data/etcd")
        cluster.up()
    assert cluster.etcdctl("member", "list") == members


def test_data_move_off_a_disk(cluster: Cluster) -> None:
    blocks = cluster.stack.config["hosts"]
    host = next(host for host in cluster.hosts if "device" in blocks[host.name])
    configure(cluster, hosts={**blocks, host.name: without_device(blocks[host.name])})
    with changing(cluster, restarts=[host.name]):
        assert f"{host.name}: its data move off its device" in cluster.stack.preview().output
        host.run("systemctl disable --now etcd-cluster data-etcd.mount && rm /etc/systemd/system/data-etcd.mount")
        run = cluster.up()
    assert f"{host.name}: joining as a learner with etcd 3.6.16" in steps(run)
    host.run("! findmnt /data/etcd && test -d /data/etcd/data/member/wal")
