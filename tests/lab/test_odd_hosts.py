"""Hosts with what nobody thinks of: a user of another source than /etc/passwd, full /tmp, small /run, limits, links."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest

from tests.lab.changes import assert_converged, change, configure, started
from tests.lab.clusters import Cluster
from tests.lab.hosts import Host, Lab
from tests.lab.stack import Stack, host_config
from tests.lab.test_preflight import says

NSS = Path("/usr/lib/x86_64-linux-gnu/libnss_systemd.so.2")
GROUP = {"groupName": "etcd", "gid": 913, "disposition": "system"}
USER = {"userName": "etcd", "uid": 913, "gid": 913, "disposition": "system"}
OF_ANOTHER_SOURCE = f"""
mkdir -p /etc/userdb && cd /etc/userdb
echo '{json.dumps(USER)}' > etcd.user && ln -s etcd.user 913.user
echo '{json.dumps(GROUP)}' > etcd.group && ln -s etcd.group 913.group
sed -i 's/^passwd:.*/passwd: files systemd/; s/^group:.*/group: files systemd/' /etc/nsswitch.conf
"""
FULL = """
mount -t tmpfs -o size=4k,mode=1777 tmpfs /tmp && ! head -c 1M /dev/zero > /tmp/full 2> /dev/null
printf '%s soft fsize 1024\\n' '*' root > /etc/security/limits.d/small.conf
"""
OTHER = """
unit=/etc/systemd/system/etcd@.service
printf '%s\\n' '[Service]' ExecStart=/usr/bin/etcd '[Install]' WantedBy=multi-user.target > $unit
systemctl enable etcd@other
mount -o remount,size=$(($(df --output=used -k /run | tail -n 1) + 17 * 1024))k /run
"""
LEFT = (OF_ANOTHER_SOURCE, FULL, OTHER)


@pytest.fixture(scope="module")
def cluster(lab: Lab, mirror_url: str, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    if not NSS.exists():
        pytest.skip(f"{NSS} is not here (Debian package libnss-systemd)")
    hosts = lab.hosts(3, disk_gib=1)
    hosts[0].run(f"base64 -d > {NSS}", stdin=base64.b64encode(NSS.read_bytes()).decode())
    for host, command in zip(hosts, LEFT, strict=True):
        host.run(command)
    config = host_config(hosts, mirror_url, allowUndersized=True)
    return Cluster(lab, hosts, Stack(lab, tmp_path_factory.mktemp("odd"), config))


def test_a_cluster_is_formed_and_changed_on_them(cluster: Cluster) -> None:
    cluster.up()
    assert cluster.hosts[0].run("stat -c %u /data/etcd/data; grep -c ^etcd: /etc/passwd; true").stdout == "913\n0\n"
    change(cluster, etcd={"max-txn-ops": 300})
    assert_converged(cluster)


@pytest.mark.exhaustive
def test_a_step_of_a_killed_run_is_waited_for_beyond_the_limit_of_an_observation(cluster: Cluster) -> None:
    cluster.hosts[2].run("setsid flock /var/lib/etcd-cluster/lock sleep 75 > /dev/null 2>&1 < /dev/null &")
    configure(cluster, etcd={"max-txn-ops": 400})
    run = cluster.up()
    says(run, "host-3: waits for another step, which still runs on this machine")
    assert cluster.healthy()
    assert_converged(cluster)


def move_log(host: Host, target: str) -> None:
    wal = "/data/etcd/data/member/wal"
    host.run(f"systemctl stop etcd-cluster; mkdir -p {target} && mv {wal} {target}/ && ln -s {target}/wal {wal}")


def put_log_back(host: Host, target: str) -> None:
    wal = "/data/etcd/data/member/wal"
    host.run(f"systemctl stop etcd-cluster; rm {wal} && mv {target}/wal {wal}")


def test_a_log_where_the_unit_lets_etcd_not_write_is_named(cluster: Cluster) -> None:
    host = cluster.hosts[1]
    move_log(host, "/data/etcd/fast")
    run = cluster.stack.up(check=False)
    says(run, r"host-2: /data/etcd/data/member/wal is a link to /data/etcd/fast/wal, and etcd's unit lets")
    put_log_back(host, "/data/etcd/fast")
    cluster.up()
    assert cluster.healthy()


def test_a_log_behind_a_link_to_nothing_is_not_taken_for_lost(cluster: Cluster) -> None:
    """Its disk is not mounted; it would be removed, and join anew."""
    host = cluster.hosts[1]
    ids = cluster.cluster_ids()
    move_log(host, "/data/etcd/fast")
    host.run("mv /data/etcd/fast /data/etcd/fast.away")
    before = started(cluster)
    run = cluster.stack.up(check=False)
    assert run.returncode != 0
    says(run, r"host-2: data of this member are behind a link to /data/etcd/fast/wal, which is not there")
    assert not re.search("removing|joining|archived", run.output)
    assert started(cluster) == before
    host.run("mv /data/etcd/fast.away /data/etcd/fast")
    put_log_back(host, "/data/etcd/fast")
    cluster.up()
    assert cluster.cluster_ids() == ids
    assert_converged(cluster)
