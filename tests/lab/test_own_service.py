"""What runs is the service that we wrote, whatever else a host has: an etcd of its distribution, drop-ins, proxies."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.lab.changes import assert_converged, change, changing, started
from tests.lab.clusters import Cluster
from tests.lab.hosts import Host, Lab
from tests.lab.stack import Stack, host_config
from tests.lab.test_preflight import refused_up, says

# As Debian's package etcd-server has them. Its etcd is a program that listens where etcd does.
PACKAGE = r"""
set -e
rm -rf /root/package && mkdir -p /root/package/{DEBIAN,usr/bin,usr/lib/systemd/system} && cd /root/package
cp /usr/sbin/sshd usr/bin/etcd
printf '%s\n' '[Unit]' 'Description=theirs' '[Service]' \
    'ExecStart=/usr/bin/etcd -D -p 2379 -o ListenAddress=127.0.0.1 -o PidFile=none' 'Restart=on-failure' \
    '[Install]' 'WantedBy=multi-user.target' > usr/lib/systemd/system/etcd.service
printf '%s\n' 'Package: etcd-server' 'Version: 1' 'Architecture: all' 'Maintainer: them <them@example.net>' \
    'Description: theirs' > DEBIAN/control
printf '%s\n' '#!/bin/sh' 'deb-systemd-helper unmask etcd.service >/dev/null || true' \
    'if deb-systemd-helper --quiet was-enabled etcd.service; then deb-systemd-helper enable etcd.service >/dev/null' \
    'else deb-systemd-helper update-state etcd.service >/dev/null; fi' \
    'systemctl --system daemon-reload; deb-systemd-invoke restart etcd.service || true' > DEBIAN/postinst
printf '%s\n' '#!/bin/sh' 'deb-systemd-invoke stop etcd.service || true' > DEBIAN/prerm
printf '%s\n' '#!/bin/sh' 'systemctl --system daemon-reload' \
    'if [ "$1" = purge ]; then deb-systemd-helper purge etcd.service; fi' > DEBIAN/postrm
chmod 755 DEBIAN/p* && dpkg-deb --build . /root/etcd-server.deb && rm -r /root/package
"""
INSTALL, PURGE = "dpkg --install /root/etcd-server.deb", "dpkg --purge etcd-server"
THEIRS = (
    r"host-1: etcd\.service here is not of this cluster: it is from \S*/lib/systemd/system/etcd\.service, of package "
)
PROXIES = {
    name: "http://127.0.0.1:9" for each in ("http_proxy", "https_proxy", "all_proxy") for name in (each, each.upper())
} | {"ETCD_NAME": "theirs", "ETCDCTL_ENDPOINTS": "http://127.0.0.1:9", "GODEBUG": "gctrace=1"}
ENVIRON = (
    "tr '\\0' '\\n' < /proc/$(systemctl show -P MainPID etcd-cluster)/environ | sed 's/=.*//' | sort | paste -sd ' '"
)
DROP_IN = "/etc/systemd/system/etcd-cluster.service.d/override.conf"


@pytest.fixture(scope="module")
def hosts(lab: Lab) -> list[Host]:
    """Three hosts; the first one has a package of etcd beside it, not installed."""
    hosts = lab.hosts(3, disk_gib=1)
    hosts[0].run(PACKAGE)
    hosts[0].run("sudo -n true", user="admin")  # the first time, sudo leaves a note
    return hosts


@pytest.mark.parametrize(
    ("command", "state"),
    [("systemctl stop etcd", "starts on boot"), ("true", r"runs, process \d+ \(/usr/bin/etcd, of package etcd-server")],
)
def test_the_etcd_of_a_package_is_named(lab: Lab, hosts: list[Host], tmp_path: Path, command: str, state: str) -> None:
    host = hosts[0]
    host.run(f"{INSTALL} && {command}")
    try:
        config = host_config([host], "http://10.77.0.1:1", allowUndersized=True)
        run = refused_up(lab, tmp_path, config, host)
    finally:
        host.run(f"{PURGE}; systemctl reset-failed")
    says(run, f"{THEIRS}etcd-server and {state}", r"systemctl disable --now etcd")


@pytest.fixture(scope="module")
def cluster(lab: Lab, hosts: list[Host], mirror_url: str, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """Three members, one of them beside a package whose service is stopped and disabled."""
    hosts[0].run(f"{INSTALL} && systemctl disable --now etcd")
    stack = Stack(lab, tmp_path_factory.mktemp("own"), host_config(hosts, mirror_url, allowUndersized=True))
    cluster = Cluster(lab, hosts, stack)
    cluster.up()
    return cluster


def test_what_a_package_does_to_its_service_does_nothing_to_the_member(cluster: Cluster) -> None:
    host, before = cluster.hosts[0], started(cluster)
    for command in (PURGE, INSTALL, "deb-systemd-invoke start etcd.service; true", PURGE):
        host.run(command)
        assert host.run("systemctl is-active etcd", check=False).stdout == "inactive\n", command
        assert started(cluster) == before, command
    assert host.run("readlink -f /proc/$(pgrep -x etcd)/exe").stdout == "/opt/etcd/versions/3.6.16/etcd\n"
    assert_converged(cluster)


def test_a_lifted_mask_is_put_back(cluster: Cluster) -> None:
    cluster.hosts[0].run("systemctl unmask etcd")
    with changing(cluster, restarts=()):
        run = cluster.up()
    assert "host-1: found: etcd.service is not masked" in run.output


@pytest.mark.parametrize(
    ("path", "setting"),
    [
        (DROP_IN, "Restart=no"),
        (DROP_IN, "ProtectSystem=no"),
        ("/run/systemd/system.control/etcd-cluster.service.d/50-MemoryMax.conf", "MemoryMax=1G"),
        ("/etc/systemd/system/service.d/limits.conf", "LimitNOFILE=64"),
    ],
)
@pytest.mark.parametrize("load", ["systemctl daemon-reload", "true"])
def test_what_changes_the_unit_is_named(cluster: Cluster, path: str, setting: str, load: str) -> None:
    host, before = cluster.hosts[1], started(cluster)
    host.run(f"mkdir -p {Path(path).parent} && printf '[Service]\\n{setting}\\n' > {path} && {load}")
    try:
        run = cluster.stack.up(check=False)
    finally:
        host.run(f"rm -r {Path(path).parent} && systemctl daemon-reload")
    assert run.returncode != 0
    says(run, f"host-2: {re.escape(path)} changes the unit of the member")
    assert started(cluster) == before
    assert_converged(cluster)


def test_a_drop_in_of_the_distribution_for_all_services_changes_nothing(cluster: Cluster) -> None:
    folder = "/usr/lib/systemd/system/service.d"
    content = "[Service]\\nTimeoutStopFailureMode=abort\\n"
    cluster.hosts[1].run(
        f"mkdir -p {folder} && printf '{content}' > {folder}/10-timeout-abort.conf; systemctl daemon-reload"
    )
    assert_converged(cluster)


def test_proxies_of_a_log_in_reach_nothing(cluster: Cluster) -> None:
    lines = "".join(f"{name}={value}\\n" for name, value in PROXIES.items())
    cluster.each_host(f"printf '{lines}' >> /etc/environment; sed -i '1i set -a; . /etc/environment' ~admin/.bashrc")
    assert_converged(cluster)
    cluster.each_host("sed -i '/127.0.0.1:9\\|theirs\\|gctrace/d' /etc/environment; sed -i 1d ~admin/.bashrc")


def test_proxies_of_systemd_reach_no_member(cluster: Cluster) -> None:
    folder = "/etc/systemd/system.conf.d"
    variables = " ".join(f"{name}={value}" for name, value in PROXIES.items())
    cluster.each_host(
        f"mkdir -p {folder} && printf '[Manager]\\nDefaultEnvironment={variables}\\n' > {folder}/proxy.conf;"
        " systemctl daemon-reexec; systemctl show-environment | grep -c proxy"
    )
    change(cluster, etcd={"max-txn-ops": 300})
    assert set(cluster.each_host(ENVIRON).values()) == {"GOMAXPROCS NOTIFY_SOCKET PATH PWD\n"}
    cluster.each_host(f"rm -r {folder}; systemctl daemon-reexec")
    change(cluster, etcd={"max-txn-ops": 200})


FORMERLY = """
systemctl disable --quiet --now etcd-cluster && rm -f /etc/systemd/system/etcd.service /var/lib/etcd-cluster/masked
mv /etc/systemd/system/etcd-cluster.service /etc/systemd/system/etcd.service
systemctl daemon-reload && systemctl enable --quiet etcd && systemctl start --no-block etcd
"""


def test_members_that_run_as_etcd_service_get_the_name_one_at_a_time(cluster: Cluster) -> None:
    cluster.each_host(FORMERLY)
    cluster.await_health()
    before = cluster.each_host("pgrep -x etcd")
    ids = cluster.cluster_ids()
    run = cluster.up()
    after = cluster.each_host("pgrep -x etcd")
    assert all(before[name] != after[name] for name in before)
    assert len(re.findall(": restarting", run.output)) == 3, run.output
    assert cluster.cluster_ids() == ids
    masked = (
        "systemctl is-active etcd-cluster; systemctl is-enabled etcd-cluster; readlink /etc/systemd/system/etcd.service"
    )
    assert set(cluster.each_host(masked).values()) == {"active\nenabled\n/dev/null\n"}
    assert_converged(cluster)


def test_destroy_leaves_no_service_and_no_mask(cluster: Cluster) -> None:
    cluster.stack.destroy()
    assert set(cluster.each_host("find /etc/systemd/system -name 'etcd*'; pgrep -x etcd; true").values()) == {""}
