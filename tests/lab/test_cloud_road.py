"""The way of a cloud, to its real end: instances that are booting, their user data run by the real cloud-init, reached
through a bastion as the user that it made, and at the end three healthy members. Only the cloud itself is the lab's.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from etcd_cluster.machines.cloud_init import OPERATOR
from tests.lab import binaries
from tests.lab.cloud import Cloud
from tests.lab.clusters import Cluster, changes_nothing, private_keys
from tests.lab.faults import leader
from tests.lab.hosts import Host, Lab
from tests.lab.stack import Run, Stack
from tests.lab.writes import continuous_writes

PROGRAM = Path(__file__).with_name("cloud_program.py")
OTHER_HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDuzmC2YbFYbJYr4QEBIQzmDQVwTjH8EGYUpDGmNFqTS"
DEAD_MACHINE_SECONDS = 300
GIB = 1024**3


@dataclass
class Road:
    """A cluster on instances, and how it came to be."""

    cluster: Cluster
    cloud: Cloud
    bastion: Host
    formed: Run

    @property
    def stack(self) -> Stack:
        return self.cluster.stack

    @property
    def settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = self.stack.config["lab"]
        return settings


@pytest.fixture(scope="module")
def road(lab: Lab, mirror_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    bastion = lab.host("bastion", disk_gib=None)
    folder = tmp_path_factory.mktemp("cloud")
    through = {
        "address": bastion.address,
        "hostKey": bastion.host_key,
        "privateKeyFile": str(bastion.private_key_file),
    }
    config = {
        "platform": "lab",
        "lab": {"folder": str(folder), "mirror": mirror_url, "sha256": binaries.release_sums(), "bastion": through},
    }
    stack = Stack(lab, tmp_path_factory.mktemp("road"), config, program=PROGRAM)
    with Cloud(lab, folder).open() as cloud:
        cluster = Cluster(lab, [], stack)
        formed = cluster.up()
        cluster.hosts = [cloud.instances[name] for name in sorted(cloud.instances)]
        yield Road(cluster, cloud, bastion, formed)


@pytest.fixture
def instance(road: Road) -> Host:
    return road.cloud.instances["etcd-2"]


# --- the members ---


def test_booting_instances_become_healthy_members(road: Road) -> None:
    health = json.loads(road.cluster.etcdctl("endpoint", "health", "--write-out", "json"))
    assert [endpoint["health"] for endpoint in health] == [True] * 3
    assert road.cluster.outputs["endpoints"] == [f"https://10.77.0.{number}:2379" for number in (41, 42, 43)]


def test_the_data_is_on_the_device_that_the_instance_has(instance: Host) -> None:
    assert instance.run("findmnt -no FSTYPE,OPTIONS /data/etcd").stdout.startswith("xfs")
    assert instance.run("awk '$2 == \"/data/etcd\" { print $1 }' /proc/mounts").stdout == "/dev/xvdf\n"


def test_first_boot_was_over_before_anything_was_installed(instance: Host) -> None:
    journal = instance.run("journalctl --boot --output cat").stdout
    assert 0 < journal.index("Reached target cloud-init.target") < journal.index("new user: name=etcd,")


def test_every_connection_came_through_the_bastion_as_the_operator(road: Road) -> None:
    for host in road.cloud.instances.values():
        journal = host.run("journalctl --output cat _COMM=sshd").stdout
        logins = set(re.findall(r"Accepted publickey for (\S+) from (\S+)", journal))
        assert (OPERATOR, road.bastion.address) in logins
        assert {login for login in logins if login[0] != "root"} == {(OPERATOR, road.bastion.address)}


# --- the user data ---


def test_cloud_init_took_the_user_data_without_a_complaint(instance: Host) -> None:
    assert instance.run("cloud-init status --wait").stdout.strip().endswith("status: done")
    result = json.loads(instance.read("/run/cloud-init/result.json"))["v1"]
    assert "DataSourceNoCloud" in result["datasource"]
    assert result["errors"] == []
    assert "Valid cloud-config" in instance.run("cloud-init schema --system").stdout
    assert "WARNING" not in instance.read("/var/log/cloud-init.log")


def test_the_host_key_is_the_pinned_one_and_the_only_one(road: Road) -> None:
    pinned = {host.host_key for host in road.cloud.instances.values()}
    assert len(pinned) == 3
    for host in road.cloud.instances.values():
        assert host.run("ls /etc/ssh/ssh_host_*_key").stdout == "/etc/ssh/ssh_host_ed25519_key\n"
        assert host.run("ssh-keygen -y -f /etc/ssh/ssh_host_ed25519_key").stdout.strip() == host.host_key


def test_the_operator_has_sudo_a_key_and_no_password(instance: Host) -> None:
    assert instance.run(f"sudo -u {OPERATOR} sudo -n id -u").stdout == "0\n"
    assert instance.run(f"passwd --status {OPERATOR} | cut -d ' ' -f 2").stdout == "L\n"
    assert instance.run(f"wc -l < ~{OPERATOR}/.ssh/authorized_keys").stdout == "1\n"
    assert "passwordauthentication no" in instance.run("sshd -T").stdout


def test_google_s_agent_is_told_to_leave_host_keys_alone(instance: Host) -> None:
    assert "set_host_keys = false" in instance.read("/etc/default/instance_configs.cfg")


def test_private_keys_of_instances_are_for_root_and_encrypted_in_the_state(road: Road, instance: Host) -> None:
    readable = "grep -rlE 'PRIVATE KEY-----' /etc /var /run /tmp /opt --exclude-dir=seed 2> /dev/null"
    assert instance.run(f"sudo -u nobody {readable}", check=False).stdout == ""
    for file in road.cluster.state_files():
        assert private_keys(file.read_text(errors="replace")) == set()
    assert "PRIVATE KEY" not in road.formed.output


def test_etcd_may_not_ask_the_metadata_service(instance: Host) -> None:
    """Enforced where systemd has cgroups of version 2, as clouds' images do. Here, it may just be no harm."""
    assert instance.run("systemctl show -P IPAddressDeny etcd-cluster").stdout == "169.254.169.254/32\n"
    assert instance.run("systemctl is-active etcd-cluster").stdout == "active\n"


# --- afterwards ---


def test_another_up_changes_nothing(road: Road) -> None:
    before = road.cluster.pids()
    assert changes_nothing(road.stack.up())
    assert road.cluster.pids() == before


def with_settings(road: Road, **changes: Any) -> Run:
    """An `up` that fails, with other settings of the program for this once."""
    before = road.settings
    road.stack.config["lab"] = {**before, **changes}
    try:
        run = road.stack.up(check=False)
    finally:
        road.stack.config["lab"] = before
    assert run.returncode != 0, run.output
    return run


def test_a_bastion_that_is_not_the_pinned_one_is_refused(road: Road) -> None:
    run = with_settings(road, bastion={**road.settings["bastion"], "hostKey": OTHER_HOST_KEY})
    assert f"host key of {road.bastion.address} is not the pinned one" in run.output
    assert "PRIVATE KEY" not in run.output


def test_a_machine_behind_the_bastion_that_is_not_the_pinned_one_is_refused(road: Road, instance: Host) -> None:
    run = with_settings(road, pinned={"etcd-2": OTHER_HOST_KEY})
    assert f"host key of {instance.address} is not the pinned one" in run.output
    road.stack.up()
    assert road.cluster.healthy()


def take_replacement_out(road: Road) -> None:
    """As users do afterwards; then there is nothing left to do."""
    road.settings.pop("replaceMember", None)
    road.stack.up()
    assert changes_nothing(road.stack.up())


def test_a_dead_machine_is_replaced_and_its_successor_goes_on_with_the_data(road: Road, instance: Host) -> None:
    """By the member's own disk, which may have grown, and address. Nothing waits for the dead one, and no other member
    restarts."""
    cluster = road.cluster
    cluster.etcdctl("put", "written-before", "the-death")
    ids, pids = cluster.cluster_ids(), cluster.pids()
    instance.kill()
    assert instance.disk is not None
    os.truncate(instance.disk, 12 * GIB)
    road.stack.config["lab"] = {**road.settings, "replaceMember": "etcd-2", "images": {"etcd-2": "second"}}
    run = road.stack.up()
    assert run.seconds < DEAD_MACHINE_SECONDS, run.output
    cluster.hosts = [road.cloud.instances[name] for name in sorted(road.cloud.instances)]
    assert road.cloud.instances["etcd-2"] is not instance
    assert cluster.healthy()
    assert cluster.cluster_ids() == ids
    after = cluster.pids()
    assert {name: after[name] for name in ("etcd-1", "etcd-3")} == {name: pids[name] for name in ("etcd-1", "etcd-3")}
    own = ". /etc/profile.d/etcd.sh && etcdctl get --consistency=s --print-value-only written-before"
    assert road.cloud.instances["etcd-2"].run(own).stdout == "the-death\n"
    size = road.cloud.instances["etcd-2"].run("df --output=size --block-size=1G /data/etcd | tail -n 1").stdout
    assert int(size) == 12
    take_replacement_out(road)


@pytest.mark.exhaustive
def test_a_running_machine_is_not_replaced_while_another_member_is_down(road: Road) -> None:
    """Nothing was touched; once that one runs, the leader's machine is replaced, which hands over first."""
    cluster = road.cluster
    leading = leader(cluster)
    follower = next(host for host in cluster.hosts if host is not leading)
    cluster.await_health()
    pids = cluster.pids()
    follower.run("systemctl stop etcd-cluster")
    # No machine lets in by the connections of this run: what the others are is seen by those of before.
    pinned = dict.fromkeys(road.cloud.instances, OTHER_HOST_KEY)
    run = with_settings(road, replaceMember=leading.name, images={leading.name: "third"}, pinned=pinned)
    assert f"the machine of {leading.name} is not replaced while {follower.name} is not healthy" in run.output
    assert road.cloud.instances[leading.name] is leading
    assert cluster.pids()[leading.name] == pids[leading.name]
    take_replacement_out(road)
    cluster.await_health()
    leading = leader(cluster)
    road.stack.config["lab"] = {**road.settings, "replaceMember": leading.name, "images": {leading.name: "third"}}
    with continuous_writes(cluster) as writes:
        run = road.stack.up()
        cluster.hosts = [road.cloud.instances[name] for name in sorted(road.cloud.instances)]
        writes.await_more()
    assert not writes.result.lost
    assert f"{leading.name}: handing leadership over to " in run.output
    assert road.cloud.instances[leading.name] is not leading
    take_replacement_out(road)


@pytest.mark.exhaustive
def test_no_machine_is_replaced_while_nobody_can_be_asked(road: Road) -> None:
    """The bastion is down: nothing tells a machine that serves from a dead one. Nothing of the cluster was touched."""
    cluster = road.cluster
    leading, pids = leader(cluster), cluster.pids()
    with continuous_writes(cluster) as writes:
        road.bastion.stop()
        try:
            run = with_settings(road, replaceMember=leading.name, images={leading.name: "fourth"})
        finally:
            road.bastion.start()
        writes.await_more()
    assert not writes.result.lost
    assert f"the machine of {leading.name} is not replaced while it is unknown whether it serves" in run.output
    assert "`replaceDeadMember` instead of `replaceMember`" in run.output
    assert road.cloud.instances[leading.name] is leading
    assert cluster.pids() == pids


def test_destroyed_with_its_machines_and_up_again_it_goes_on_with_the_disks_that_are_left(road: Road) -> None:
    """Other machines, another record of forming, other certificates: the data and addresses are those of before."""
    cluster = road.cluster
    cluster.etcdctl("put", "written-before", "the-destroy")
    ids, machines = cluster.cluster_ids(), {host.run("cat /etc/machine-id").stdout for host in cluster.hosts}
    road.stack.destroy()
    assert road.cloud.instances == {}
    cluster.up()
    cluster.hosts = [road.cloud.instances[name] for name in sorted(road.cloud.instances)]
    assert not machines & {host.run("cat /etc/machine-id").stdout for host in cluster.hosts}
    assert cluster.healthy()
    assert cluster.cluster_ids() == ids
    assert cluster.etcdctl("get", "--print-value-only", "written-before").strip() == "the-destroy"
    assert changes_nothing(road.stack.up())


def test_destroying_does_not_wait_for_machines_that_are_gone(road: Road) -> None:
    for host in list(road.cloud.instances.values()):
        host.kill()
    run = road.stack.destroy()
    assert run.seconds < DEAD_MACHINE_SECONDS, run.output
    assert road.cloud.instances == {}
