"""What changes without a change of the stack, or below it: hand-made edits, grown disks, other addresses, reboots; and
what `destroy` leaves. One cluster of three goes through all of it, under continuous writes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from tests.lab.changes import assert_converged, changing, configure, started, steps
from tests.lab.clusters import Cluster, changes_nothing, eventually
from tests.lab.faults import followers, leader
from tests.lab.hosts import NETWORK, Host, Lab
from tests.lab.stack import Run, Stack, host_config
from tests.lab.writes import Access

GIB = 1024**3


@pytest.fixture(scope="module")
def cluster(lab: Lab, mirror_url: str, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """Three members with a disk each. Tests leave it healthy."""
    hosts = lab.hosts(3, disk_gib=1)
    config = host_config(hosts, mirror_url, allowUndersized=True)
    cluster = Cluster(lab, hosts, Stack(lab, tmp_path_factory.mktemp("drift"), config))
    cluster.up()
    return cluster


# --- hand-made changes ---


@dataclass(frozen=True)
class Edit:
    """What somebody does on a host; what the next `up` says that it found; what shows on the host that it is right."""

    command: str
    found: str
    right: str
    prints: str


PKI = "/etc/etcd/pki"
UNIT = "/etc/systemd/system/etcd-cluster.service"

MENDED_IN_PLACE = {
    "disabled unit": Edit(
        "systemctl disable --quiet etcd-cluster",
        "it does not start on boot",
        "systemctl is-enabled etcd-cluster",
        "enabled",
    ),
    "readable key": Edit(
        f"chmod 644 {PKI}/server.key",
        f"{PKI}/server.key is 644 etcd, not 400 etcd",
        f"stat -c %a {PKI}/server.key",
        "400",
    ),
    "key of another owner": Edit(
        f"chown root {PKI}/peer.key", f"{PKI}/peer.key is 400 root, not 400 etcd", f"stat -c %U {PKI}/peer.key", "etcd"
    ),
    "deleted certificate": Edit(
        f"rm {PKI}/server.crt", f"{PKI}/server.crt is missing", f"stat -c %a {PKI}/server.crt", "444"
    ),
    "spoilt certificate": Edit(
        f"echo spoilt > {PKI}/peer.crt", f"{PKI}/peer.crt differs", f"grep -c BEGIN {PKI}/peer.crt", "1"
    ),
    "readable configuration": Edit(
        "chmod 666 /etc/etcd/etcd.yaml",
        "/etc/etcd/etcd.yaml is 666 etcd, not 640 etcd",
        "stat -c %a /etc/etcd/etcd.yaml",
        "640",
    ),
    "another key": Edit(
        f"cp {PKI}/server.key {PKI}/peer.key", f"{PKI}/peer.key differs", f"cmp -s {PKI}/*.key; echo $?", "1"
    ),
    "deleted profile": Edit(
        "rm /etc/profile.d/etcd.sh",
        "/etc/profile.d/etcd.sh is missing",
        "bash -lc 'etcdctl endpoint health' 2>&1 | grep -c 'is healthy'",
        "1",
    ),
    "deleted programs": Edit(
        "rm -r /opt/etcd/versions/3.6.16",
        "etcd 3.6.16 is missing",
        "/opt/etcd/bin/etcdutl version | head -n 1",
        "etcdutl version: 3.6.16",
    ),
    "disk not mounted on boot": Edit(
        "systemctl disable --quiet data-etcd.mount",
        "the mount of the data disk on boot is missing",
        "systemctl is-enabled data-etcd.mount",
        "enabled",
    ),
}

MENDED_BY_A_RESTART = {
    "edited configuration": Edit(
        "echo 'max-txn-ops: 999' >> /etc/etcd/etcd.yaml",
        "/etc/etcd/etcd.yaml differs",
        "grep -c max-txn-ops /etc/etcd/etcd.yaml",
        "0",
    ),
    "edited unit": Edit(
        f"sed -i s/OOMScoreAdjust=.*/OOMScoreAdjust=0/ {UNIT}",
        f"{UNIT} differs",
        "systemctl show -P OOMScoreAdjust etcd-cluster",
        "-900",
    ),
    "spoilt CA": Edit(f"echo spoilt > {PKI}/ca.crt", f"{PKI}/ca.crt differs", f"grep -c BEGIN {PKI}/ca.crt", "1"),
    "another program": Edit(
        "ln -sfn /usr/bin /opt/etcd/bin", "", "readlink /opt/etcd/bin", "/opt/etcd/versions/3.6.16"
    ),
}

MENDED_BY_A_START = {
    "stopped service": Edit(
        "systemctl stop etcd-cluster", "does not run", "systemctl is-active etcd-cluster", "active"
    ),
    "unmounted disk": Edit(
        "systemctl stop etcd-cluster data-etcd.mount",
        "the data disk at /data/etcd is missing",
        "findmnt -no FSTYPE /data/etcd",
        "xfs",
    ),
}


def edit_and_mend(cluster: Cluster, edits: Sequence[tuple[Host, Edit]], restarts: Sequence[str]) -> Run:
    """A preview sees nothing of it, since it asks no host; the next `up` finds it all, says so, and repairs it."""
    with changing(cluster, restarts=restarts):
        for host, edit in edits:
            host.run(edit.command)
        assert changes_nothing(cluster.stack.preview())
        run = cluster.up()
    said = steps(run)
    for host, edit in edits:
        assert any(step.startswith(f"{host.name}: found: ") and edit.found in step for step in said), (edit, said)
        assert host.run(edit.right, check=False).stdout.strip() == edit.prints, edit
    return run


def one_each(cluster: Cluster, edits: Sequence[Edit]) -> list[tuple[Host, Edit]]:
    return [(cluster.hosts[number % len(cluster.hosts)], edit) for number, edit in enumerate(edits)]


def test_files_modes_programs_and_what_starts_on_boot_are_put_back_without_a_restart(cluster: Cluster) -> None:
    edit_and_mend(cluster, one_each(cluster, list(MENDED_IN_PLACE.values())), restarts=[])


def test_what_only_a_start_reads_is_put_back_by_a_rolling_restart(cluster: Cluster) -> None:
    *first, last = MENDED_BY_A_RESTART.values()
    run = edit_and_mend(cluster, [*one_each(cluster, first), (cluster.hosts[0], last)], restarts=[*cluster.pids()])
    restarting = [step for step in steps(run) if ": restarting" in step]
    assert len(restarting) == 3, restarting


@pytest.mark.parametrize("what", MENDED_BY_A_START)
def test_a_member_that_was_stopped_is_started(cluster: Cluster, what: str) -> None:
    host = followers(cluster)[0]
    edit_and_mend(cluster, [(host, MENDED_BY_A_START[what])], restarts=[host.name])


def test_a_member_that_was_removed_by_hand_joins_again(cluster: Cluster) -> None:
    host = leader(cluster)
    with changing(cluster, restarts=[host.name]):
        members = cluster.etcdctl("member", "list")
        (id_,) = re.findall(rf"^(\w+), started, {host.name},", members, re.MULTILINE)

        def is_removed() -> bool:
            """etcd refuses it for 5 s after a member has come back; and a leader that leaves may not get to answer."""
            cluster.etcdctl("member", "remove", id_, check=False)
            listed = cluster.etcdctl("member", "list", check=False)
            return "started" in listed and id_ not in listed

        eventually(is_removed, "removed by hand")
        assert changes_nothing(cluster.stack.preview())
        run = cluster.up()
    said = steps(run)
    assert f"{host.name}: joining as a learner with etcd 3.6.16" in said
    assert f"{host.name}: archived the data of its earlier membership as /data/etcd/data.removed-" in run.output


# --- below and around it ---


def size_of_data(host: Host) -> int:
    return int(host.run("df --output=size --block-size=1 /data/etcd | tail -n 1").stdout)


def test_file_systems_grow_with_their_disks_without_a_restart(cluster: Cluster) -> None:
    with changing(cluster, restarts=()):
        for host in cluster.hosts:
            assert host.disk is not None
            os.truncate(host.disk, 2 * GIB)
            host.run("losetup --set-capacity /dev/xvdf")
            assert size_of_data(host) < 1.1 * GIB
        run = cluster.up()
    for host in cluster.hosts:
        assert (
            f"{host.name}: found: the rest of its data disk (its file system is smaller than its device) is missing"
            in steps(run)
        )
        assert size_of_data(host) > 1.8 * GIB


def with_address(cluster: Cluster, host: Host, **block: str) -> None:
    hosts: dict[str, Any] = cluster.stack.config["hosts"]
    configure(cluster, hosts={**hosts, host.name: {**hosts[host.name], **block}})


def peer_urls(cluster: Cluster) -> dict[str, str]:
    printed = cluster.etcdctl("member", "list").splitlines()
    return {line.split(", ")[2]: line.split(", ")[3] for line in printed}


def test_a_member_moves_to_another_address_of_its_machine(cluster: Cluster) -> None:
    """Its peer URL is updated in the cluster first; only that member is restarted."""
    host, address = followers(cluster)[0], "10.77.0.112"
    staying = Access.of(cluster.outputs)
    host.run(f"ip address add {address}/24 dev host0 && echo Address={address}/24 >> {NETWORK}")
    with_address(cluster, host, address=address, sshAddress=host.address)
    assert f"{host.name} moves to another address" in cluster.stack.preview().output
    with changing(cluster, restarts=[host.name], access=staying) as judged:
        run = cluster.up()
        judged.writes.use(Access.of(cluster.outputs))
    assert f"telling the cluster that {host.name} is at https://{address}:2380" in run.output
    assert re.findall(r"restarting|telling", run.output) == ["telling", "restarting"]
    assert peer_urls(cluster)[host.name] == f"https://{address}:2380"


def test_a_machine_that_was_renumbered_comes_back_at_its_new_address(cluster: Cluster) -> None:
    """Its old address is gone, and the leader is the one that has it."""
    host, address = leader(cluster), "10.77.0.113"
    with changing(cluster, restarts=[host.name]) as judged:
        host.renumber(address)
        with_address(cluster, host, address=address)
        cluster.up()
        judged.writes.use(Access.of(cluster.outputs))
    assert peer_urls(cluster)[host.name] == f"https://{address}:2380"


def test_after_a_reboot_of_all_machines_there_is_nothing_to_do(cluster: Cluster) -> None:
    before = cluster.cluster_ids()
    cluster.etcdctl("put", "before", "the reboot")
    with ThreadPoolExecutor(len(cluster.hosts)) as pool:
        list(pool.map(Host.reboot, cluster.hosts))
    cluster.await_health()
    assert_converged(cluster)
    assert cluster.cluster_ids() == before
    assert cluster.etcdctl("get", "--print-value-only", "before") == "the reboot\n"


def test_a_login_file_that_prints_is_no_drift(cluster: Cluster) -> None:
    cluster.each_host("sed -i '1i echo hello from a login file' ~admin/.bashrc")
    assert_converged(cluster)
    cluster.each_host("sed -i 1d ~admin/.bashrc")


# --- destroy ---


def test_destroy_deletes_data_when_asked_by_name(cluster: Cluster) -> None:
    before = started(cluster)
    configure(cluster, deleteData=True)
    cluster.up()
    assert started(cluster) == before
    cluster.stack.destroy()
    assert set(cluster.each_host("pgrep -x etcd; ls -A /data/etcd; true").values()) == {""}
