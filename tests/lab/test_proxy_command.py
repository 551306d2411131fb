"""A cluster whose machines are reached through a command alone, as through a cloud's tunnel: tunnel.py stands in."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

from tests.lab import tunnel
from tests.lab.clusters import Cluster, changes_nothing
from tests.lab.hosts import Host, Lab
from tests.lab.stack import Engine, Stack, host_config
from tests.lab.test_status import status


def tunnelled(
    lab: Lab, mirror_url: str, tmp_path: Path, engine: Engine = Engine.EMBEDDED
) -> tuple[Cluster, list[Host], Path]:
    """A cluster that is not up yet. No address of SSH that its config names is one in the lab's network."""
    hosts = lab.hosts(3)
    names = tmp_path / "names.json"
    names.write_text(json.dumps({f"i-{host.name}": host.address for host in hosts}))
    config = host_config(hosts, mirror_url, allowUndersized=True)
    for host in hosts:
        config["hosts"][host.name]["sshAddress"] = f"i-{host.name}"
    command = f"{sys.executable} -I {shlex.quote(str(Path(tunnel.__file__)))} %h %p {shlex.quote(str(names))}"
    config["ssh"]["proxyCommand"] = {"command": command, "localPort": 21_790}
    return Cluster(lab, hosts, Stack(lab, tmp_path, config, engine), engine), hosts, names


def lives_through_its_tunnel(cluster: Cluster, hosts: list[Host], names: Path) -> None:
    assert "i-host-1" not in cluster.stack.preview().output, "no connection is shown"
    cluster.up()
    assert cluster.healthy()
    assert status(cluster).returncode == 0, "the command line goes the same way"
    assert changes_nothing(cluster.stack.up())
    pids = cluster.pids()
    cluster.stack.config["etcd"] = {"heartbeat-interval": 200}
    cluster.stack.up()
    assert all(cluster.pids()[name] != pid for name, pid in pids.items())
    known = names.read_text()
    names.write_text("{}")
    cluster.stack.config["etcd"] = {"heartbeat-interval": 150}
    run = cluster.stack.up(check=False)
    assert run.returncode != 0
    assert "there is no target i-host-" in run.output, run.output[-3000:]
    names.write_text(known)
    cluster.stack.up()
    cluster.stack.destroy()
    for host in hosts:
        host.run("! systemctl is-active etcd-cluster")


def test_a_cluster_lives_behind_a_command(lab: Lab, mirror_url: str, tmp_path: Path) -> None:
    lives_through_its_tunnel(*tunnelled(lab, mirror_url, tmp_path))
