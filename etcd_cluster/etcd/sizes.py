"""Defines the hardware table: what each size is for, what it runs on, and the quota that goes with it.

Source of every figure but the quota and the minimum disk: "Example hardware configurations" in etcd's operations guide
(https://etcd.io/docs/latest/op-guide/hardware/). Those two are this project's; `Size` says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from etcd_cluster.errors import ConfigurationError

SizeName = Literal["small", "medium", "large", "xlarge"]

MIB: Final = 1024**2
GIB: Final = 1024**3


def size_text(number: int) -> str:
    """Returns a size in the unit that suits, without a meaningless fraction: 20 KiB, 1.5 GiB."""
    amount, units = float(number), ["bytes", "KiB", "MiB", "GiB"]
    while amount >= 1024 and len(units) > 1:
        amount, units = amount / 1024, units[1:]
    return f"{amount:.0f} {units[0]}" if amount >= 100 or amount.is_integer() else f"{amount:.1f} {units[0]}"


@dataclass(frozen=True)
class AwsHardware:
    """An EC2 instance type, with the disk performance that etcd may expect there."""

    instance_type: str
    vcpus: int
    memory_gb: float
    iops: int
    mb_per_second: float


@dataclass(frozen=True)
class GceHardware:
    """A Compute Engine machine type with its persistent SSD; IOPS and throughput there follow from the disk's size."""

    machine_type: str
    disk_gb: int
    vcpus: int
    memory_gb: float
    iops: int
    mb_per_second: float


@dataclass(frozen=True)
class Size:
    """One row of the table."""

    name: SizeName
    """`small`, `medium`, `large` or `xlarge`."""
    clients: int
    """The load that the row is for: upper bounds, but lower bounds for xlarge."""
    requests_per_second: int
    """The load that the row is for: upper bounds, but lower bounds for xlarge."""
    data_mb: int
    """The load that the row is for: upper bounds, but lower bounds for xlarge."""
    kubernetes_nodes: int
    """Nodes of a Kubernetes cluster with about that load."""
    aws: AwsHardware
    """What it runs on in either cloud."""
    gce: GceHardware
    """What it runs on in either cloud."""
    quota_gib: int
    """etcd's backend quota: never over 8 GiB, the largest that etcd's maintenance guide suggests, and never over the
    machine's memory, since etcd maps the whole database.
    """

    @property
    def quota_bytes(self) -> int:
        """Value of etcd's `quota-backend-bytes`."""
        return self.quota_gib * GIB

    @property
    def minimum_vcpus(self) -> int:
        """Processors that a host of yours needs."""
        return min(self.aws.vcpus, self.gce.vcpus)

    @property
    def minimum_memory_mib(self) -> int:
        """Memory that a host of yours needs: nine tenths of the smaller cloud's, as firmware and kernel keep some."""
        return int(min(self.aws.memory_gb, self.gce.memory_gb) * 0.9 * 1024)

    @property
    def minimum_disk_gib(self) -> int:
        """Data disk that a host of yours needs.

        The database twice, as defragmentation writes a second copy, and 4 GiB for the write-ahead log and the snapshots
        that etcd keeps.
        """
        return 2 * self.quota_gib + 4


SIZES: Final[dict[str, Size]] = {
    size.name: size
    for size in (
        # name, clients, requests/s, MB of data, Kubernetes nodes
        Size(
            *("small", 100, 200, 100, 50),
            aws=AwsHardware("m4.large", vcpus=2, memory_gb=8, iops=3_600, mb_per_second=56.25),
            gce=GceHardware("n1-standard-2", disk_gb=50, vcpus=2, memory_gb=7.5, iops=1_500, mb_per_second=25),
            quota_gib=2,
        ),
        Size(
            *("medium", 500, 1_000, 500, 250),
            aws=AwsHardware("m4.xlarge", vcpus=4, memory_gb=16, iops=6_000, mb_per_second=93.75),
            gce=GceHardware("n1-standard-4", disk_gb=150, vcpus=4, memory_gb=15, iops=4_500, mb_per_second=75),
            quota_gib=4,
        ),
        Size(
            *("large", 1_500, 10_000, 1_000, 1_000),
            aws=AwsHardware("m4.2xlarge", vcpus=8, memory_gb=32, iops=8_000, mb_per_second=125),
            gce=GceHardware("n1-standard-8", disk_gb=250, vcpus=8, memory_gb=30, iops=7_500, mb_per_second=125),
            quota_gib=8,
        ),
        Size(
            *("xlarge", 1_500, 10_000, 1_000, 3_000),
            aws=AwsHardware("m4.4xlarge", vcpus=16, memory_gb=64, iops=16_000, mb_per_second=250),
            gce=GceHardware("n1-standard-16", disk_gb=500, vcpus=16, memory_gb=60, iops=15_000, mb_per_second=250),
            quota_gib=8,
        ),
    )
}


def size_named(name: str) -> Size:
    """Returns the row called `name`; raises `ConfigurationError` for any other name."""
    if name not in SIZES:
        raise ConfigurationError("size", name, "unknown size", f"choose one of {', '.join(SIZES)}")
    return SIZES[name]
