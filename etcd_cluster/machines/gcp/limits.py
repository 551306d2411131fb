"""Defines what Google Cloud has and allows: images, devices, names, labels, regions."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
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
ADDRESS_LABEL = "etcd-address"
"""Of a data disk: its member's address, which is in the data, with - for each dot."""
OWNER_LABEL = "etcd-owner"
"""Of a data disk: the id of the `DataVolumes` that it was made or taken up by."""
OWN_LABELS = ("pulumi-project", "pulumi-stack", "etcd-cluster", "etcd-member", ADDRESS_LABEL, OWNER_LABEL)
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


def require_service_account(key: str, value: str) -> None:
    """Raises `ConfigurationError` for a text that is no e-mail address of a service account."""
    if not re.fullmatch(r"[a-z0-9.-]+@[a-z0-9.-]+\.gserviceaccount\.com", value):
        raise ConfigurationError(
            key,
            value,
            "not the e-mail address of a service account",
            "write it like etcd@PROJECT.iam.gserviceaccount.com",
        )


def require_scope(key: str, value: str) -> None:
    """Raises `ConfigurationError` for a text that is no OAuth scope of Google's."""
    if not re.fullmatch(r"https://www\.googleapis\.com/auth/[a-z0-9._-]+", value):
        raise ConfigurationError(key, value, "not a scope", f"write it like {CLOUD_PLATFORM}")


CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"

NETWORK_LINK = re.compile(r"(?:https://[^/]+/compute/\w+/)?projects/([^/]+)/global/networks/[^/]+")
SUBNETWORK_LINK = re.compile(r"(?:https://[^/]+/compute/\w+/)?projects/([^/]+)/regions/([^/]+)/subnetworks/[^/]+")


def project_of_network(network: str | None) -> str | None:
    """Returns the project that a link to a network names; None for a name, which is of the provider's own project.

    Mocks of a cloud may give no network.
    A firewall's rules are made in the project of their network: https://cloud.google.com/vpc/docs/shared-vpc
    """
    linked = NETWORK_LINK.fullmatch(network or "")
    return linked[1] if linked else None


def require_same_place(network: object, subnetwork: object, zones: Sequence[str]) -> None:
    """Refuses a subnetwork of another project than its network, or of another region than the zones.

    Values that are known only later, and names, are left to Google.
    """
    linked = SUBNETWORK_LINK.fullmatch(subnetwork) if isinstance(subnetwork, str) else None
    if linked is None:
        return
    project = project_of_network(network) if isinstance(network, str) else None
    if project is not None and linked[1] != project:
        raise ConfigurationError(
            "gcp.subnetwork",
            subnetwork,
            f"it is of project {linked[1]}, and the network is of {project}",
            "give a subnetwork of that network",
        )
    if zones and linked[2] != region_of(zones[0]):
        raise ConfigurationError(
            "gcp.subnetwork",
            subnetwork,
            f"it is in region {linked[2]}, and the zones are in {region_of(zones[0])}",
            "give the subnetwork of that region",
        )


ServiceAccount = Annotated[str, require_service_account]
Scope = Annotated[str, require_scope]

DISK_ID = re.compile(
    r"(?:https://www\.googleapis\.com/compute/v1/)?"
    r"projects/(?P<project>[^/\s]+)/zones/(?P<zone>[^/\s]+)/disks/(?P<name>[^/\s]+)"
)


def require_disk(key: str, value: str) -> None:
    """Raises `ConfigurationError` for a text that is not the full name of a disk."""
    if not DISK_ID.fullmatch(value):
        raise ConfigurationError(
            key, value, "not the full name of a disk", "write it like projects/P/zones/europe-west1-b/disks/NAME"
        )


MANAGED_ZONE = re.compile(r"(?:projects/(?P<project>[^/\s]+)/managedZones/)?(?P<name>[a-z]([a-z0-9-]{0,61}[a-z0-9])?)")


def require_managed_zone(key: str, value: str) -> None:
    """Raises `ConfigurationError` for a text that is no name of a managed zone."""
    if not MANAGED_ZONE.fullmatch(value):
        raise ConfigurationError(
            key,
            value,
            "not the name of a managed zone",
            "write it like ZONE, or projects/P/managedZones/ZONE",
        )


def managed_zone(zone: str) -> tuple[str | None, str]:
    """Returns project, if it is named, and name of a managed zone."""
    parts = MANAGED_ZONE.fullmatch(zone)
    return (parts["project"], parts["name"]) if parts else (None, zone)


ManagedZone = Annotated[str, require_managed_zone]
DiskId = Annotated[str, require_disk]
Zone = Annotated[str, require_zone]
NetworkTag = Annotated[str, require_tag]


def zones_of_region(zones: Sequence[str]) -> list[str]:
    """Returns the given zones, then the others that their region may have."""
    others = [f"{region_of(zones[0])}-{letter}" for letter in "abcdef"]
    return list(dict.fromkeys([*zones, *others]))


def region_of(zone: str) -> str:
    """Returns the region that a zone is in."""
    return zone.rpartition("-")[0]


def disk_name(project: str, stack: str, cluster: str, member: str) -> str:
    """Returns the name of a member's data disk: Google makes no second one of it in a zone."""
    return f"{cluster}-{member}-data-{_unique(project, stack, cluster)}"


def _unique(project: str, stack: str, cluster: str) -> str:
    return hashlib.sha256(f"{project}/{stack}/{cluster}".encode()).hexdigest()[:8]


def network_tag(project: str, stack: str, cluster: str) -> str:
    """Returns the tag that the firewall's rules are for: no other cluster on the same network has it."""
    unique = _unique(project, stack, cluster)
    readable = re.sub("[^a-z0-9]+", "-", f"etcd-{stack}-{cluster}".lower())
    return f"{readable[: LONGEST_NAME - len(unique) - 1].rstrip('-')}-{unique}"


def service_account_id(project: str, stack: str, cluster: str) -> str:
    """Returns the id of the cluster's service account: 6 to 30 characters, and one of it in a project."""
    return f"etcd-cluster-{_unique(project, stack, cluster)}"


def label(text: str) -> str:
    """Returns `text` as the value of a label."""
    return re.sub("[^a-z0-9_-]", "-", text.lower())[:LONGEST_NAME]
