"""A mirror that means harm, on a real host: nothing that its tarball brings is followed, kept or run as root."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from pathlib import Path

import pytest

from tests.lab import binaries
from tests.lab.clusters import Cluster
from tests.lab.hosts import Host, Lab
from tests.lab.stack import Stack, host_config

VERSION = "3.6.16"
TOP = f"etcd-v{VERSION}-linux-{binaries.architecture()}"
TELLS_WHO_RUNS_IT = b'#!/bin/sh\ntouch "/tmp/ran-as-$(id -u)"\necho "etcd Version: 0.0.0"\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the mirror serves."""
    return binaries.mirror(tmp_path_factory.mktemp("mirror"), [VERSION])


@pytest.fixture(scope="module")
def cluster(lab: Lab, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    host = lab.host("lonely")
    config = host_config([host], lab.mirror(folder), allowUndersized=True)
    return Cluster(lab, [host], Stack(lab, tmp_path_factory.mktemp("one"), config))


def serve(folder: Path, entries: list[tuple[tarfile.TarInfo, bytes]]) -> str:
    """Puts another tarball in the place of the release, and answers its sum."""
    path = folder / f"v{VERSION}" / f"{TOP}.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for info, content in entries:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def entry(name: str, kind: bytes = tarfile.REGTYPE, to: str = "", mode: int = 0o6777) -> tarfile.TarInfo:
    info = tarfile.TarInfo(f"{TOP}/{name}")
    info.type, info.linkname, info.mode, info.uid, info.gid = kind, to, mode, 12345, 12345
    return info


def refused(cluster: Cluster, **install: str) -> str:
    before = dict(cluster.stack.config["install"])
    cluster.stack.config["install"] = {"mirror": before["mirror"], **install}
    try:
        run = cluster.stack.up(check=False)
    finally:
        cluster.stack.config["install"] = before
    assert run.returncode != 0, run.output
    return run.output


def installed(host: Host) -> str:
    return host.run("find /opt/etcd -type f -o -type l; pgrep -x etcd; ls /tmp | grep ran-as", check=False).stdout


def test_http_without_a_sum_is_refused_before_anything_is_touched(cluster: Cluster) -> None:
    assert re.search(r"install\.mirror: .*Pin the tarball with install\.sha256", refused(cluster))
    assert cluster.hosts[0].run("ls -d /opt/etcd /var/lib/etcd-cluster", check=False).stdout == ""


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE], ids=["symbolic", "hard"])
def test_a_link_in_the_tarball_is_not_followed(kind: bytes, cluster: Cluster, folder: Path) -> None:
    host = cluster.hosts[0]
    host.run("echo secret > /etc/precious; chmod 600 /etc/precious")
    state = "cat /etc/precious; stat -c '%a %U %G %h' /etc/precious /etc/shadow"
    before = host.run(state).stdout
    digest = serve(
        folder,
        [
            (entry("etcd", kind, "/etc/precious" if kind == tarfile.SYMTYPE else "etc/precious"), b""),
            (entry("etcdctl", kind, "../../../../../etc/shadow"), b""),
            (entry("etcdutl"), b"x"),
        ],
    )
    assert "one that is a link" in refused(cluster, sha256=digest)
    assert host.run(state).stdout == before
    assert installed(host) == ""


def test_a_program_is_asked_for_its_version_by_nobody_who_matters(cluster: Cluster, folder: Path) -> None:
    """And one whose sum is another is not asked at all."""
    host = cluster.hosts[0]
    digest = serve(folder, [(entry(name), TELLS_WHO_RUNS_IT) for name in ("etcd", "etcdctl", "etcdutl")])
    assert "has SHA-256" in refused(cluster, sha256="0" * 64)
    assert installed(host) == ""
    assert f"what was installed is etcd Version: 0.0.0, not etcd {VERSION}" in refused(cluster, sha256=digest)
    etcd = host.run("id -u etcd").stdout.strip()
    assert installed(host) == f"ran-as-{etcd}\n"


def test_what_is_right_is_installed_as_root_s_own(cluster: Cluster, folder: Path) -> None:
    binaries.mirror(folder, [VERSION])
    cluster.up()
    assert cluster.healthy()
    listed = cluster.hosts[0].run(f"cd /opt/etcd/versions/{VERSION} && stat -c '%n %a %U %G %F' *").stdout
    assert listed.splitlines() == [f"{name} 755 root root regular file" for name in ("etcd", "etcdctl", "etcdutl")]
