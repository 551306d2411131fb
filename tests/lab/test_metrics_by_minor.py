"""What metrics a cluster of each minor version has: the records that alerts and dashboards are checked against."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.lab import binaries
from tests.lab.clusters import eventually
from tests.lab.hosts import Lab

RECORDS = Path(__file__).parents[1] / "unit" / "golden" / "metrics"
VERSIONS = ("3.4.9", "3.5.35", "3.6.16", "3.7.3")
IGNORED = ("go_", "promhttp_", "etcd_debugging_store_", "etcd_grpc_proxy_")


@pytest.mark.parametrize("version", VERSIONS)
def test_the_record_of_a_minor_is_what_it_has(version: str, lab: Lab, tmp_path: Path) -> None:
    programs = binaries.ensure(version)
    first = 21000 + 100 * VERSIONS.index(version)
    peers = {f"m{number}": f"http://127.0.0.1:{first + number}" for number in (1, 2)}
    clients = {name: f"http://127.0.0.1:{first + 10 + number}" for number, name in enumerate(peers)}
    running = []
    for name, peer in peers.items():
        argv = [programs / "etcd", "--name", name, "--data-dir", tmp_path / name, "--metrics", "extensive"]
        argv += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        argv += ["--listen-client-urls", clients[name], "--advertise-client-urls", clients[name]]
        argv += ["--initial-cluster", ",".join(f"{each}={url}" for each, url in peers.items())]
        with (tmp_path / f"{name}.log").open("w") as log:
            running.append(lab.popen(argv, stdout=log, stderr=log))

    def families() -> set[str]:
        done = lab.run(["curl", "--silent", f"{clients['m1']}/metrics"], check=False)
        found = set(re.findall(r"^# TYPE (\S+)", done.stdout, re.MULTILINE))
        return {name for name in found if not name.startswith(IGNORED)}

    def put() -> bool:
        argv = ["env", "ETCDCTL_API=3", programs / "etcdctl", "--endpoints", clients["m1"], "put", "a", "b"]
        return lab.run(argv, check=False).returncode == 0

    record = RECORDS / f"{version.rpartition('.')[0]}.txt"
    try:
        eventually(put, "it takes a write")
        eventually(lambda: "etcd_network_peer_round_trip_time_seconds" in families(), "peers were measured")
        if os.environ.get("UPDATE_GOLDEN"):
            record.write_text("".join(f"{name}\n" for name in sorted(families())))
        eventually(lambda: set(record.read_text().split()) <= families(), "all of the record is there")
    finally:
        for process in running:
            process.terminate()
