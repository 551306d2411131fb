"""Defines what Google Cloud has and allows: images, devices, names, labels, regions."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated

from etcd_cluster.errors import ConfigurationError

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


# Labels: https://cloud.google.com/resource-manager/docs/labels-overview
OWN_LABELS = ("pulumi-project", "pulumi-stack", "etcd-cluster", "etcd-member")
LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
MOST_LABELS = 64
MOST_DISK_GB = 65_536
"""Of a pd-ssd: https://cloud.google.com/compute/docs/disks"""


def require_zone(key: str, zone: str) -> None:
    """Raises `ConfigurationError` for a text that is no zone."""
    if not re.fullmatch(r"[a-z]+-[a-z]+\d+-[a-z]", zone):
        raise ConfigurationError(key, zone, "not a zone", "write it like europe-west1-b")


def require_tag(key: str, tag: str) -> None:
    """Raises `ConfigurationError` for a text that is no network tag."""
    if len(tag) > LONGEST_NAME or not NAME.fullmatch(tag):
        raise ConfigurationError(
            key, tag, "not a network tag", f"use lower-case letters, digits and -, at most {LONGEST_NAME} of them"
        )


def require_kms_key(key: str, value: str) -> None:
    """Raises `ConfigurationError` for a text that is not the full name of a key."""
    if not re.fullmatch(r"projects/[^/\s]+/locations/[^/\s]+/keyRings/[^/\s]+/cryptoKeys/[^/\s]+", value):
        raise ConfigurationError(
            key,
            value,
            "not the full name of a key",
            "write it like projects/P/locations/L/keyRings/R/cryptoKeys/K",
        )


def require_machine_type(key: str, value: str) -> None:
    """Raises `ConfigurationError` for a text that is no machine type."""
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", value):
        raise ConfigurationError(key, value, "not a machine type", "write it like n2-standard-4")


def require_label_key(key: str, name: str) -> None:
    """Raises `ConfigurationError` for the name of a label that Google does not take, or that is taken."""
    if name in OWN_LABELS or name.startswith("goog-"):
        raise ConfigurationError(key, name, "this label is set by the cluster or by Google", "choose another name")
    _require_label(key, name, LABEL_KEY)


def require_label_value(key: str, value: str) -> None:
    """Raises `ConfigurationError` for the value of a label that Google does not take."""
    _require_label(key, value, LABEL_VALUE)


def _require_label(key: str, text: str, pattern: re.Pattern[str]) -> None:
    if not pattern.fullmatch(text):
        raise ConfigurationError(
            key,
            text,
            "not a label",
            "use lower-case letters, digits, _ and -, at most 63 of them, and a letter first in its key",
        )


Zone = Annotated[str, require_zone]
NetworkTag = Annotated[str, require_tag]


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
