"""The load of a size: how many clients ask how much, and what that leaves behind. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from etcd_cluster.errors import Explanation
from etcd_cluster.etcd.sizes import MIB, Size, size_text

LoadCheckMode = Literal["off", "report", "require"]

SECONDS = 60
"""As long as etcd's own `check perf`."""
WRITE_SHARE = 0.5
"""Of the requests. The guide's table does not say; Kubernetes writes less than that."""
VALUE_BYTES = 1024
"""As `check perf` writes."""
BYTES_PER_WRITE = 4096
"""By which the database grows with each write, at most. Measured: 1.5 KiB; 2.4 KiB for the keys of `check perf`."""
LOG_BYTES = 256 * MIB
"""For segments of the write-ahead log, 64 MiB each, that etcd may begin meanwhile."""
QUOTA_SHARE = 0.8
"""Of the quota: what the database may take once the load has been. etcd stops writes at the whole."""
CHECK_PERF = {"small": ("s", 150), "medium": ("m", 1_000), "large": ("l", 8_000), "xlarge": ("xl", 15_000)}
"""Row -> workload of etcd's own `check perf` of that name, and its writes a second."""
CHECK_PERF_SECONDS = 60
"""Its length, which cannot be chosen."""
REPORT_BYTES = 4096
"""Of a second, that `benchmark` reports for writes and reads, at most. Measured: 2.8 KiB, nearly all of it progress."""
LIMIT_FACTOR = 4
"""A load that takes that many times as long is ended."""


@dataclass(frozen=True)
class Load:
    """What the cluster is asked for.

    Args:
        size: Name of the row.
        clients: Clients, each with a connection of its own.
        writes: Writes a second.
        reads: Linearizable reads a second.
        seconds: Length.
        value_bytes: Size of a value.
        check_perf: Workload of etcd's own `check perf`, which follows; "" for none.
    """

    size: str
    clients: int
    writes: int
    reads: int
    seconds: int
    value_bytes: int
    check_perf: str = ""

    @staticmethod
    def of(size: Size, seconds: int | None = None, *, with_check_perf: bool = False) -> Load:
        """Returns the load of a row: all of its clients and requests; for xlarge, the lower bound.

        Args:
            size: The row.
            seconds: Length; default 60.
            with_check_perf: etcd's own `check perf` follows, with the workload of that row.
        """
        writes, reads = (round(size.requests_per_second * share) for share in (WRITE_SHARE, 1 - WRITE_SHARE))
        check_perf = CHECK_PERF[size.name][0] if with_check_perf else ""
        return Load(size.name, size.clients, writes, reads, seconds or SECONDS, VALUE_BYTES, check_perf)

    @property
    def requests(self) -> int:
        """Requests a second."""
        return self.writes + self.reads

    @property
    def limit_seconds(self) -> int:
        """Length after which it is ended."""
        return LIMIT_FACTOR * self.seconds

    @property
    def growth_bytes(self) -> int:
        """What the database grows by, at most."""
        check_perf = CHECK_PERF[self.size][1] * CHECK_PERF_SECONDS if self.check_perf else 0
        return (self.writes * self.seconds + check_perf) * BYTES_PER_WRITE

    @property
    def text(self) -> str:
        """What it is, in a few words."""
        return (
            f"{self.clients:,} clients, {self.writes:,} writes and {self.reads:,} reads a second, values of "
            f"{size_text(self.value_bytes)}, for {self.seconds} seconds"
        )


def quota_problem(load: Load, database_bytes: float, quota_bytes: float) -> Explanation | None:
    """Returns why the quota does not bear the load; None if it does.

    Args:
        load: The load.
        database_bytes: Size of the largest database, with its free pages: etcd counts those.
        quota_bytes: etcd's quota.
    """
    allowed = quota_bytes * QUOTA_SHARE
    less = "check a smaller --size, or without --check-perf" if load.check_perf else "check a smaller --size"
    if database_bytes + load.growth_bytes <= allowed:
        return None
    return Explanation(
        f"the load of {load.size} could leave {size_text(load.growth_bytes)} in a database of "
        f"{size_text(int(database_bytes))}, and etcd's quota is {size_text(int(quota_bytes))}",
        f"{size_text(int(allowed))} at most afterwards: etcd stops all writes at its quota",
        f"defragment the members (docs/load-check.md), raise etcd.quota-backend-bytes, or {less}",
    )


def disk_problem(load: Load, member: str, free_mib: float) -> Explanation | None:
    """Returns why a member's disk does not bear the load; None if it does."""
    needed = (load.growth_bytes + LOG_BYTES) // MIB
    if free_mib >= needed:
        return None
    return Explanation(
        f"{member} has {free_mib:.0f} MiB free for its data",
        f"{needed} MiB, which database and log could take meanwhile",
        "enlarge the disk (docs/grow-a-disk.md), or check a smaller --size",
    )


def client_problem(load: Load, client: str, free_mib: float) -> Explanation | None:
    """Returns why a client's machine does not bear the load; None if it does."""
    needed = load.limit_seconds * REPORT_BYTES // MIB + 1
    if free_mib >= needed:
        return None
    return Explanation(
        f"{client} has {free_mib:.0f} MiB free in /run",
        f"{needed} MiB, for its certificate and what `benchmark` reports: both are kept in memory there",
        "make room there, or load from another machine",
    )
