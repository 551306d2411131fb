"""Packages that a machine lacks, while its own upgrades run: real apt, with a repository on the host itself."""

from __future__ import annotations

import re
from pathlib import Path

from tests.lab.clusters import Cluster
from tests.lab.hosts import Lab
from tests.lab.stack import Stack, host_config

REPOSITORY = r"""
set -eu
mkdir -p /repo/other/DEBIAN
for name in curl xfsprogs nginx; do
  mkdir -p /repo/$name/DEBIAN
  more=$([ $name != nginx ] || echo nginx-common)
  dpkg -L $name $more | while read -r file; do [ ! -f "$file" ] || echo "$file"; done >/repo/files
  tar -cf - -T /repo/files 2>/dev/null | tar -xf - -C /repo/$name
done
# As Debian's: it enables its service, and starts it.
printf '#!/bin/sh\nsystemctl enable nginx; deb-systemd-invoke start nginx.service\n' >/repo/nginx/DEBIAN/postinst
chmod 755 /repo/nginx/DEBIAN/postinst
for name in curl xfsprogs nginx other; do
  {
    printf 'Package: %s\nVersion: 99\nArchitecture: all\n' $name
    printf 'Maintainer: lab <lab@lab>\nDescription: lab\n'
  } >/repo/$name/DEBIAN/control
  dpkg-deb --root-owner-group --build /repo/$name /repo/$name.deb >/dev/null
  cat /repo/$name/DEBIAN/control
  printf 'Filename: ./%s.deb\nSize: %s\n' $name "$(stat -c %s /repo/$name.deb)"
  printf 'SHA256: %s\n\n' "$(sha256sum </repo/$name.deb | cut -d ' ' -f 1)"
done >/repo/Packages
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*
echo 'deb [trusted=yes] file:/repo ./' >/etc/apt/sources.list
apt-get -qq update
dpkg --purge --force-depends curl xfsprogs nginx nginx-common >/dev/null
"""
UPDATES = "systemd-run --quiet --unit upgrades-lists apt-get -o APT::Update::Pre-Invoke::='sleep 15' update"
UPGRADES = (
    "systemd-run --quiet --unit upgrades-packages apt-get -y -o DPkg::Pre-Invoke::='sleep 25' install /repo/other.deb"
)


def test_a_machine_s_own_upgrades_are_waited_for(lab: Lab, mirror_url: str, tmp_path: Path) -> None:
    """One has apt's lists, the other dpkg's database, as at the first boot of a cloud's images."""
    (host,) = lab.hosts(1)
    stack = Stack(lab, tmp_path, host_config([host], mirror_url, allowUndersized=True, monitoring={}))
    host.run(REPOSITORY)
    host.run(f"{UPDATES}; {UPGRADES}")
    cluster = Cluster(lab, [host], stack)
    run = cluster.up()
    assert cluster.healthy()
    waited = re.findall(rf"{host.name}: waiting: apt-get, process \d+ \((.*), in (\S+)\), holds (\S+)", run.output)
    assert waited, run.output
    assert {unit for _, unit, _ in waited} <= {"upgrades-lists.service", "upgrades-packages.service"}
    assert host.run("dpkg-query -W -f '${Version}' curl xfsprogs nginx other").stdout == "99999999"
    assert host.run("findmnt -no FSTYPE /data/etcd").stdout == "xfs\n"
    # nginx serves metrics, and nothing else: its own service was not started, and does not start on boot.
    assert host.run("systemctl is-active etcd-cluster-monitoring").stdout == "active\n"
    assert host.run("systemctl is-enabled nginx", check=False).stdout == "disabled\n"
    assert host.run("ss -Hltn 'sport = :80'").stdout == ""
