"""Defines what Google Cloud has and allows: images, devices, names, labels, regions."""

from __future__ import annotations

import hashlib
import re

UBUNTU = "ubuntu-os-cloud/ubuntu-2404-lts-amd64"
"""An image family that has cloud-init, which Google's own Debian images lack."""

DISK_TYPE = "pd-ssd"
DISK_NAME = "etcd-data"
DEVICE = f"/dev/disk/by-id/google-{DISK_NAME}"
"""Where Google's udev rules show a disk that is attached under DISK_NAME, over SCSI and over NVMe."""

# Names as Compute Engine takes them: https://cloud.google.com/compute/docs/naming-resources
NAME = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
LONGEST_NAME = 63
LONGEST_CLUSTER_NAME = 40
"""It leaves room for the longest name of a resource (-etcd-7-host-key) and for what Pulumi adds to make it unique."""


def region_of(zone: str) -> str:
    """Returns the region that a zone is in."""
    return zone.rpartition("-")[0]


def network_tag(project: str, stack: str, cluster: str) -> str:
    """Returns the tag that the firewall's rules are for: no other cluster on the same network has it."""
    identity = f"{project}/{stack}/{cluster}"
    unique = hashlib.sha256(identity.encode()).hexdigest()[:8]
    readable = re.sub("[^a-z0-9]+", "-", f"etcd-{stack}-{cluster}".lower())
    return f"{readable[: LONGEST_NAME - len(unique) - 1].rstrip('-')}-{unique}"


def label(text: str) -> str:
    """Returns `text` as the value of a label."""
    return re.sub("[^a-z0-9_-]", "-", text.lower())[:LONGEST_NAME]
