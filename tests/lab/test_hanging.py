"""A machine that takes log-ins and then hangs is named, while a cluster is formed and when it is changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab import faults
from tests.lab.changes import configure, started
from tests.lab.clusters import Cluster
from tests.lab.hosts import Lab
from tests.lab.stack import Stack, host_config


@pytest.mark.exhaustive
def test_forming_and_changing_a_cluster_end_with_the_name_of_the_machine_that_hangs(
    lab: Lab, mirror_url: str, tmp_path: Path
) -> None:
    hosts = lab.hosts(3, disk_gib=1)
    cluster = Cluster(lab, hosts, Stack(lab, tmp_path, host_config(hosts, mirror_url, allowUndersized=True)))
    with faults.clock_ahead(hosts[0], 7):  # its preflight is recorded, and forming is refused
        assert "clocks apart" in cluster.stack.up(check=False).output
    with faults.hanging(hosts[1]):
        run = cluster.stack.up(check=False)
        assert run.returncode != 0
        assert f"{hosts[1].name}: its machine did not answer the preflight within" in run.output
        assert "nothing was changed on any machine" in run.output
    cluster.up()
    before = started(cluster)
    configure(cluster, etcd={"max-txn-ops": 200})
    with faults.hanging(hosts[2]):
        run = cluster.stack.up(check=False)
        assert run.returncode != 0
        assert f"{hosts[2].name}: observe did not end within" in run.output
    assert started(cluster) == before
    cluster.up()
