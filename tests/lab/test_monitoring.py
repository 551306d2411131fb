"""A real Prometheus scrapes three members over mutual TLS, and every alert fires by the fault that it is for."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from etcd_cluster.monitoring.rules import Thresholds, rules_yaml
from tests.lab.changes import assert_converged
from tests.lab.clusters import Cluster, eventually
from tests.lab.faults import clock_ahead, full_disk, kill_etcd, leader
from tests.lab.hosts import Host, Lab, LabError
from tests.lab.object_store import ObjectStore
from tests.lab.observed import on_all
from tests.lab.prometheus import PROMETHEUS, Prometheus
from tests.lab.stack import Stack, host_config
from tests.lab.test_backup import backup_config

pytestmark = pytest.mark.skipif(PROMETHEUS is None, reason="no Prometheus (Debian package prometheus)")

OLDER, NEWER = "3.6.14", "3.6.16"
MIRROR_VERSIONS = [OLDER, NEWER]
PORT = 2382
FOLDER = "/etc/etcd/monitoring"
SERVICES = "etcd-cluster-monitoring.service etcd-cluster-metrics.timer"
REPORT = "systemctl start etcd-cluster-metrics.service"
QUOTA = 48 * 1024**2

# What would take hours, days or a slow disk is made to fire at once: by limits that a healthy cluster is beyond.
EASY = Thresholds(
    leader_changes=2,
    failing_share=0.001,
    request_seconds=0.00001,
    peer_seconds=0.00001,
    failed_proposals=0,
    fsync_seconds=0.00001,
    commit_seconds=0.00001,
    quota_share=0.9,
    fragmented_mib=0.001,
    backup_intervals=0.0001,
    certificate_days=8000,  # certificates are valid for 1,825 days, of which a quarter of this is more
    learner_minutes=0,
    report_minutes=0.05,
)
BY_LIMITS = (
    "EtcdRequestsSlow",
    "EtcdPeersSlow",
    "EtcdFsyncSlow",
    "EtcdFsyncVerySlow",
    "EtcdCommitSlow",
    "EtcdCertificateExpires",
    "EtcdCertificateEndsNow",
    "EtcdCAExpires",
)
"""Alerts whose limits a healthy cluster is beyond in these tests."""


@pytest.fixture(scope="module")
def store(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> ObjectStore:
    store = ObjectStore(lab, tmp_path_factory.mktemp("store") / "objects")
    store.start()
    return store


@pytest.fixture(scope="module")
def cluster(lab: Lab, store: ObjectStore, mirror_url: str, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    hosts = lab.hosts(3, disk_gib=1)
    on_all(hosts, lambda host: host.run("mkdir -p /var/lib/node-exporter"))
    config = host_config(
        hosts,
        mirror_url,
        allowUndersized=True,
        version=OLDER,
        etcd={"quota-backend-bytes": QUOTA, "metrics": "extensive"},
        backup=backup_config(store, every="24h"),
        monitoring={"textfileFolder": "/var/lib/node-exporter", "onFailure": 'echo "$1 $2" >> /var/log/etcd-failures'},
    )
    cluster = Cluster(lab, hosts, Stack(lab, tmp_path_factory.mktemp("monitoring"), config))
    cluster.up()
    return cluster


@pytest.fixture(scope="module")
def files(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a team gives to its Prometheus: the stack's outputs, in a folder."""
    folder = tmp_path_factory.mktemp("prometheus")
    given = cluster.outputs["monitoring"]
    for key, name in (("caCertificate", "ca.crt"), ("clientCertificate", "client.crt"), ("clientKey", "client.key")):
        (folder / name).write_text(given[key])
    (folder / "scrape.yml").write_text(given["scrapeConfig"].replace("/etc/prometheus/etcd-cluster", str(folder)))
    return folder


@pytest.fixture(scope="module")
def prometheus(cluster: Cluster, files: Path) -> Prometheus:
    text = rules_yaml("3.6", is_extensive=True, thresholds=EASY, hold_at_most_seconds=0)
    return Prometheus(cluster.lab, files, text)


def curl(cluster: Cluster, host: Host, path: str, *arguments: str | Path, port: int = PORT) -> str:
    """The status and what is answered."""
    argv = ["curl", "--silent", "--show-error", "--max-time", "20", "--write-out", "%{http_code}", *arguments]
    done = cluster.lab.run([*argv, f"https://{host.address}:{port}{path}"], check=False)
    return done.stdout + done.stderr


def credentials(folder: Path) -> list[str | Path]:
    return ["--cacert", folder / "ca.crt", "--cert", folder / "client.crt", "--key", folder / "client.key"]


def test_a_prometheus_with_the_exported_files_sees_every_member_and_its_host(
    cluster: Cluster, prometheus: Prometheus
) -> None:
    eventually(lambda: len(prometheus.up()) == 6 and all(prometheus.up().values()), "all targets are scraped")
    names = {host.name for host in cluster.hosts}
    assert {each["metric"]["member"] for each in prometheus.query("etcd_server_has_leader == 1")} == names
    for host in cluster.hosts:
        host.run(REPORT)
        assert "etcd_cluster_alarms_answered" in host.run("cat /var/lib/node-exporter/etcd-cluster.prom").stdout
    assert {each["metric"]["member"] for each in prometheus.wait_for("etcd_cluster_alarms_answered == 1")} == names


def test_the_certificate_for_metrics_opens_nothing_else(cluster: Cluster, files: Path) -> None:
    """Not the client port, nor the peer port; and no certificate of the cluster opens the metrics."""
    host = cluster.hosts[0]
    assert curl(cluster, host, "/metrics", *credentials(files)).endswith("200")
    for path in ("/v3/kv/range", "/", "/version", "/debug/vars", "/health"):
        assert curl(cluster, host, path, *credentials(files)).endswith("404"), path
    for port in (2379, 2380):
        said = curl(cluster, host, "/metrics", "--insecure", *credentials(files)[2:], port=port)
        assert said.startswith("000"), (port, said)
        assert "etcd_" not in said
    own = ["--cacert", cluster.file("caCertificate"), "--cert", cluster.file("clientCertificate")]
    assert curl(cluster, host, "/metrics", *own, "--key", cluster.file("clientKey"), port=2379).endswith("200")
    without = curl(cluster, host, "/metrics", "--cacert", files / "ca.crt")
    assert without.endswith("400"), "no certificate, no metrics"
    assert "etcd_" not in without
    pair = ["--cert", cluster.file("clientCertificate"), "--key", cluster.file("clientKey")]
    said = curl(cluster, host, "/metrics", "--cacert", files / "ca.crt", *pair)
    assert said.endswith("400")
    assert "etcd_" not in said


def test_keys_are_roots_and_workers_are_nobodys(cluster: Cluster) -> None:
    for host in cluster.hosts:
        assert host.run(f"stat -c '%a %U' {FOLDER} {FOLDER}/server.key").stdout == "700 root\n400 root\n"
        workers = host.run("ps -o user= -C nginx").stdout.split()
        assert sorted(workers) == ["nobody", "root"]
        assert host.run("ss -Hltn 'sport = :80'").stdout == "", "the package's own service does not run"


def test_nothing_changed_means_nothing_is_done_and_what_was_changed_comes_back(cluster: Cluster) -> None:
    before = on_all(cluster.hosts, lambda host: host.run("pgrep -x etcd; pgrep -o nginx").stdout)
    assert_converged(cluster)
    assert on_all(cluster.hosts, lambda host: host.run("pgrep -x etcd; pgrep -o nginx").stdout) == before
    host = cluster.hosts[0]
    host.run(f"systemctl stop {SERVICES}; echo spoilt > {FOLDER}/nginx.conf")
    run = cluster.up()
    assert f"{host.name}: metrics: {FOLDER}/nginx.conf differs" in run.output
    assert host.run(f"systemctl is-active {SERVICES}").stdout == "active\nactive\n"


def fill(cluster: Cluster) -> None:
    """Writes until the quota is reached."""
    value = "v" * 100_000

    def write() -> None:
        for number in range(1000):
            cluster.etcdctl("put", f"fill-{number}", value)

    with pytest.raises(LabError, match="space exceeded"):
        write()


def empty(cluster: Cluster) -> None:
    """What docs/troubleshooting.md says: delete, compact, defragment, disarm."""
    cluster.etcdctl("del", "--prefix", "fill-")
    status = cluster.etcdctl("endpoint", "status", "--write-out", "json")
    revision = max(map(int, re.findall(r'"revision":(\d+)', status)))
    cluster.etcdctl("compact", str(revision), "--physical")


def raise_corrupt(cluster: Cluster, host: Host) -> None:
    """By the API, as a member does that has found itself to hold other keys."""
    number = int(member_id(cluster, host), 16)
    body = f'{{"action": "ACTIVATE", "alarm": "CORRUPT", "memberID": "{number}"}}'
    own = ["--cacert", cluster.file("caCertificate"), "--cert", cluster.file("clientCertificate")]
    own += ["--key", cluster.file("clientKey"), "--data", body]
    assert curl(cluster, host, "/v3/maintenance/alarm", *own, port=2379).endswith("200")


@pytest.mark.exhaustive
def test_alerts_of_space_disk_backups_and_hosts_fire(
    cluster: Cluster, prometheus: Prometheus, store: ObjectStore
) -> None:
    one, two, three = cluster.hosts
    quiet = {"EtcdMemberDown", "EtcdQuorumLost", "EtcdNoLeader", "EtcdNoSpaceAlarm", "EtcdCorruptAlarm", "EtcdDiskFull"}
    assert not quiet & prometheus.firing()

    fill(cluster)
    for _ in range(10):
        cluster.etcdctl("put", "refused", "value", check=False)
    one.run(REPORT)
    prometheus.wait_for_alert(*BY_LIMITS)
    prometheus.wait_for_alert("EtcdDatabaseNearQuota", "EtcdDatabaseGrows", "EtcdNoSpaceAlarm", "EtcdRequestsFail")
    prometheus.wait_for_alert("EtcdManyRequestsFail")
    empty(cluster)
    prometheus.wait_for_alert("EtcdDatabaseFragmented")
    cluster.etcdctl("defrag", "--cluster")
    cluster.etcdctl("alarm", "disarm")
    raise_corrupt(cluster, two)
    one.run(REPORT)
    prometheus.wait_for_alert("EtcdCorruptAlarm")
    cluster.etcdctl("alarm", "disarm")
    one.run(REPORT)

    # A host's disk fills, and its report stops.
    two.run(REPORT)
    with full_disk(two):
        two.run(REPORT)
        prometheus.wait_for_alert("EtcdDiskFull", "EtcdDiskWillFill")
    two.run(REPORT)
    prometheus.wait_for_alert("EtcdHostMetricsOld", "EtcdClockUnsynchronized")
    with clock_ahead(three, minutes=10):
        three.run(REPORT)
        prometheus.wait_for_alert("EtcdClockDrift")
    three.run(REPORT)

    # The store is away: the backup fails, and the one before, if any, gets old.
    store.stop()
    assert three.run("systemctl start etcd-cluster-backup.service", check=False, timeout=900).returncode != 0
    three.run(REPORT)
    prometheus.wait_for_alert("EtcdBackupFailed", "EtcdBackupTooOld", "EtcdBackupUntested")
    store.start()
    # What a backup leaves when it has compared the members.
    three.run(f"echo 'members differ' > /var/lib/etcd-cluster/members-differ; {REPORT}")
    prometheus.wait_for_alert("EtcdMembersDiffer")
    three.run(f"rm /var/lib/etcd-cluster/members-differ; {REPORT}")
    assert "etcd-cluster-backup.service exit-code" in three.run("cat /var/log/etcd-failures").stdout


def member_id(cluster: Cluster, host: Host) -> str:
    """As etcdctl takes it."""
    lines = cluster.etcdctl("member", "list").splitlines()
    return next(line.partition(",")[0] for line in lines if f", {host.name}, " in line)


@pytest.mark.exhaustive
def test_alerts_of_members_fire(cluster: Cluster, prometheus: Prometheus) -> None:
    one, two, three = cluster.hosts
    for _ in range(4):
        following = next(host for host in cluster.hosts if host is not leader(cluster))
        cluster.etcdctl("move-leader", member_id(cluster, following))
    prometheus.wait_for_alert("EtcdLeaderChangesOften")

    kill_etcd(two)
    failures = f"{REPORT}; cat /var/log/etcd-failures"
    eventually(lambda: "etcd-cluster.service restarted" in two.run(failures, check=False).stdout, "it is told")

    one.run("systemctl stop etcd-cluster.service")
    prometheus.wait_for_alert("EtcdMemberDown")
    two.run("systemctl stop etcd-cluster.service")
    for _ in range(3):
        cluster.etcdctl("put", "a", "b", check=False)
    prometheus.wait_for_alert("EtcdQuorumLost", "EtcdNoLeader", "EtcdProposalsFail")
    three.run("systemctl stop etcd-cluster.service")
    on_all(cluster.hosts, lambda host: host.run(REPORT))
    prometheus.wait_for_alert("EtcdAlarmsUnknown")
    on_all(cluster.hosts, lambda host: host.run("systemctl start --no-block etcd-cluster.service"))
    cluster.up()


@pytest.mark.exhaustive
def test_a_learner_is_told_of_until_the_next_up(cluster: Cluster, prometheus: Prometheus) -> None:
    three = cluster.hosts[2]
    three.run("systemctl stop etcd-cluster.service; rm -r /data/etcd/data/member")
    cluster.etcdctl("member", "remove", member_id(cluster, three))
    url = f"https://{three.address}:2380"

    def added() -> bool:
        """etcd refuses it until the two that are left have been connected for a while."""
        cluster.etcdctl("member", "add", three.name, "--learner", "--peer-urls", url, check=False)
        return url in cluster.etcdctl("member", "list")

    eventually(added, "etcd takes a learner")
    urls = ",".join(f"{host.name}=https://{host.address}:2380" for host in cluster.hosts)
    three.run(
        f"cd /etc/etcd; cp -p etcd.yaml bootstrap.yaml; echo 'initial-cluster: {urls}' >> bootstrap.yaml; "
        "systemctl start --no-block etcd-cluster.service"
    )
    prometheus.wait_for_alert("EtcdLearnerForLong")
    cluster.up()
    assert_converged(cluster)


@pytest.mark.exhaustive
def test_an_upgrade_that_was_cut_short_is_told_of_until_the_next_up(cluster: Cluster, prometheus: Prometheus) -> None:
    cluster.stack.config["version"] = NEWER
    run = cluster.stack.popen(cluster.stack.up_command())
    prometheus.wait_for(f'etcd_server_version{{server_version="{NEWER}"}}')
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    prometheus.wait_for_alert("EtcdVersionsDiffer")
    cluster.up()
    eventually(lambda: "EtcdVersionsDiffer" not in prometheus.firing(), "the alert ends")
    assert_converged(cluster)


def test_taken_out_of_the_config_nothing_of_it_is_left(cluster: Cluster) -> None:
    cluster.await_health()
    before = cluster.pids()
    cluster.stack.config.pop("monitoring")
    run = cluster.stack.up()
    assert run.returncode == 0
    assert cluster.pids() == before
    for host in cluster.hosts:
        assert host.run("pgrep -x nginx", check=False).stdout == ""
        found = host.run("ls /etc/etcd/monitoring /etc/systemd/system/etcd-cluster-m* /run/etcd-cluster", check=False)
        assert found.stdout == ""
        assert host.run("ls /var/lib/node-exporter").stdout == ""
