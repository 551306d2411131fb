"""DNS names on a running cluster: found by SRV, over TLS, and never a restart for any of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.lab import binaries
from tests.lab.changes import change, configure, started
from tests.lab.clusters import CLIENT_VERSION, Cluster, changes_nothing, eventually
from tests.lab.hosts import Lab
from tests.lab.name_server import NameServer
from tests.lab.stack import Run, Stack, host_config

NAME = "etcd.lab.test"


@pytest.fixture(scope="module")
def cluster(lab: Lab, mirror_url: str, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """Three members without names. Tests go on from one another."""
    hosts = lab.hosts(3, disk_gib=1)
    config = host_config(hosts, mirror_url, allowUndersized=True)
    cluster = Cluster(lab, hosts, Stack(lab, tmp_path_factory.mktemp("names"), config))
    cluster.up()
    return cluster


@pytest.fixture(scope="module")
def names(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> NameServer:
    return NameServer(lab, tmp_path_factory.mktemp("dns"))


class Etcdctl:
    """With the exported certificate, and the lab's name server."""

    def __init__(self, cluster: Cluster, names: NameServer) -> None:
        self._cluster, self._names = cluster, names

    def __call__(self, *arguments: str) -> Any:
        """What it prints, as JSON; its error as a text."""
        command: list[str | Path] = [binaries.ensure(CLIENT_VERSION) / "etcdctl", "--command-timeout", "5s"]
        for flag, output in (("cacert", "caCertificate"), ("cert", "clientCertificate"), ("key", "clientKey")):
            command += [f"--{flag}", self._cluster.file(output)]
        asked = self._names.asked_by([*command, "--write-out", "json", *arguments])
        done = self._cluster.lab.run(asked, check=False, timeout=120)
        return json.loads(done.stdout) if done.returncode == 0 else done.stdout + done.stderr

    def finds(self, name: str) -> bool:
        """Whether it finds the cluster by SRV, and writes; and all members, which that cluster tells of.

        `endpoint health` alone does not look for SRV records.
        """
        at = ("--discovery-srv", name)
        return isinstance(self(*at, "put", "found", "by SRV"), dict) and len(self.healthy(*at, "--cluster")) == 3

    def healthy(self, *access: str) -> list[str]:
        """The endpoints that serve."""
        found = self("endpoint", "health", *access)
        return sorted(each["endpoint"] for each in found if each["health"]) if isinstance(found, list) else []


@pytest.fixture(scope="module")
def etcdctl(cluster: Cluster, names: NameServer) -> Etcdctl:
    return Etcdctl(cluster, names)


def by_name(host: str) -> str:
    return f"https://{host}.{NAME}:2379"


def test_names_are_added_without_a_restart_and_found_by_srv(
    cluster: Cluster, names: NameServer, etcdctl: Etcdctl
) -> None:
    done = change(cluster, restarts=(), dns={"name": NAME})
    assert "renewing certificates, without a restart" in done.run.output
    names.serve(cluster.outputs["dnsRecords"])
    eventually(lambda: etcdctl.finds(NAME), "etcdctl finds the members")
    assert etcdctl.healthy("--endpoints", f"https://{NAME}:2379") == [f"https://{NAME}:2379"]
    for host in cluster.hosts:
        assert etcdctl.healthy("--endpoints", by_name(host.name)) == [by_name(host.name)]


def test_an_up_warns_of_records_that_nobody_has_made(cluster: Cluster, names: NameServer) -> None:
    """As the machine resolves names on which it runs. A warning fails nothing, and is no change."""

    def up() -> str:
        run = cluster.stack.popen(names.asked_by(cluster.stack.up_command()))
        output, _ = run.communicate()
        assert run.returncode == 0, output
        return output

    records = cluster.outputs["dnsRecords"]
    names.serve([each for each in records if each["name"] != f"host-1.{NAME}"])
    warned = up()
    assert f"names do not lead to their members: host-1.{NAME} (no address, not {cluster.hosts[0].address})" in warned
    assert changes_nothing(Run(0, warned, 0))
    names.serve(records)
    assert "do not lead to their members" not in up()


def test_endpoints_by_name_outlive_an_address(cluster: Cluster, names: NameServer, etcdctl: Etcdctl) -> None:
    configure(cluster, dns={"name": NAME, "endpoints": "name"})
    before = started(cluster)
    cluster.up()
    assert started(cluster) == before
    endpoints = cluster.outputs["endpoints"]
    assert endpoints == [by_name(host.name) for host in cluster.hosts]
    moved = cluster.hosts[-1]
    moved.renumber("10.77.0.113")
    listed = {**cluster.stack.config["hosts"], moved.name: {**cluster.stack.config["hosts"][moved.name]}}
    listed[moved.name]["address"] = moved.address
    configure(cluster, hosts=listed)
    cluster.up()
    assert cluster.outputs["endpoints"] == endpoints
    assert etcdctl.healthy("--endpoints", ",".join(endpoints)) != endpoints  # the record is of before
    names.serve(cluster.outputs["dnsRecords"])
    assert etcdctl.healthy("--endpoints", ",".join(endpoints)) == endpoints
    configure(cluster, dns={"name": NAME})
    cluster.up()
    assert cluster.outputs["endpoints"] == [f"https://{host.address}:2379" for host in cluster.hosts]


def test_a_name_that_is_kept_works_beside_its_successor_and_one_that_is_taken_out_does_not(
    cluster: Cluster, names: NameServer, etcdctl: Etcdctl
) -> None:
    other = "etcd.new.test"
    change(cluster, restarts=(), dns={"name": other, "otherNames": [NAME]})
    names.serve(cluster.outputs["dnsRecords"])
    assert etcdctl.finds(NAME)
    assert etcdctl.finds(other)
    records = cluster.outputs["dnsRecords"]
    configure(cluster, dns={"name": other})
    dropped = f"{NAME}, host-1.{NAME}, host-2.{NAME}, host-3.{NAME}: taken out of members' certificates"
    assert dropped in cluster.stack.preview().output
    change(cluster, restarts=())
    names.serve(records)
    refused = etcdctl("--endpoints", f"https://{NAME}:2379", "endpoint", "health")
    assert "certificate is valid for" in refused
    assert etcdctl.finds(other)
    change(cluster, restarts=(), dns=None)
    assert "dnsRecords" not in cluster.outputs
