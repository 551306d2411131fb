"""Reads what members and machines had done at one time, and says what they did between two of those. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

SECTOR_BYTES = 512
FSYNC = "etcd_disk_wal_fsync_duration_seconds"
COMMIT = "etcd_disk_backend_commit_duration_seconds"
ROUND_TRIP = "etcd_network_peer_round_trip_time_seconds"
HISTOGRAMS = (FSYNC, COMMIT, ROUND_TRIP)
REQUESTS = ("etcd_server_request_duration_seconds", "grpc_server_handling_seconds")
"""How long members took for requests: the first one since etcd 3.7, the second where etcd has `metrics: extensive`.
The histogram of one kind of requests is "METRIC KIND"."""
PUT, RANGE = "Put", "Range"
LEADER_CHANGES = "etcd_server_leader_changes_seen_total"
IS_LEADER = "etcd_server_is_leader"
DATABASE = "etcd_mvcc_db_total_size_in_bytes"
DATABASE_IN_USE = "etcd_mvcc_db_total_size_in_use_in_bytes"
QUOTA = "etcd_server_quota_backend_bytes"
MEMORY = "process_resident_memory_bytes"
NUMBERS = (LEADER_CHANGES, IS_LEADER, DATABASE, DATABASE_IN_USE, QUOTA, MEMORY)
"""Every metric that is read. All four minors have all of them but REQUESTS; ROUND_TRIP only where there is another
member."""

_METRIC = re.compile(r"([a-z_]+)(?:\{(.*)\})? (\S+)")
_LE = re.compile(r'le="([^"]+)"')
_REQUEST = re.compile(r'(?:type|grpc_method)="([^"]+)"')
_VERSION = re.compile(r'server_version="([^"]+)"')

Histogram = Mapping[float, float]
"""Upper bound of a bucket, in seconds -> how many were not slower, ever."""


@dataclass(frozen=True)
class Sample:
    """What one member, and its machine, had done at one time.

    Args:
        seconds: The time, by the clock of this machine.
        clock: The time, by the clock of the member's machine.
        numbers: Metric -> value.
        histograms: Metric -> its buckets, those of all label values together; of REQUESTS, those of each kind.
        cpu_busy: Time that the machine's processors worked, in the kernel's ticks.
        cpu_total: All of their time.
        processors: Number of them.
        reads: Requests of reads to the data's disk, that have ended.
        bytes_read: What they read.
        writes: Likewise.
        bytes_written: Likewise.
        disk_busy: Seconds that this disk was at work. All of the disk are None where the kernel does not count it.
        free_mib: Free space on it.
        version: Version of etcd.
    """

    seconds: float
    clock: float
    numbers: Mapping[str, float]
    histograms: Mapping[str, Histogram] = field(repr=False)
    cpu_busy: float
    cpu_total: float
    processors: int
    reads: float | None
    bytes_read: float | None
    writes: float | None
    bytes_written: float | None
    disk_busy: float | None
    free_mib: float
    version: str

    @staticmethod
    def parse(text: str, seconds: float) -> Sample:
        """Reads what the step `load_sample` printed."""
        numbers: dict[str, float] = {}
        histograms: dict[str, dict[float, float]] = {}
        machine: dict[str, list[str]] = {}
        version = ""
        for line in text.splitlines():
            found = _METRIC.fullmatch(line)
            name = found[1] if found else ""
            if found and name.startswith(("etcd_", "grpc_", "process_")):
                labels, value = found[2] or "", float(found[3])
                bound = _LE.search(labels)
                if bound and name.endswith("_bucket"):
                    metric = name.removesuffix("_bucket")
                    kind = _REQUEST.search(labels) if metric in REQUESTS else None
                    buckets = histograms.setdefault(f"{metric} {kind[1]}" if kind else metric, {})
                    edge = float(bound[1].replace("+Inf", "inf"))
                    buckets[edge] = buckets.get(edge, 0.0) + value
                elif name == "etcd_server_version":
                    release = _VERSION.search(labels)
                    version = release[1] if release else ""
                else:
                    numbers[name] = value
            elif line:
                key, *words = line.split()
                machine[key] = words
        ticks = [float(word) for word in machine["cpu"]]
        # User and nice have those of guests in them; idle and iowait are the fourth and the fifth.
        total = sum(ticks[:8])
        disk: list[float | None] = [float(word) for word in machine.get("disk", ())] or [None] * 5
        return Sample(
            seconds=seconds,
            clock=int(machine["clock"][0]) / 1000,
            numbers=numbers,
            histograms=histograms,
            cpu_busy=total - ticks[3] - ticks[4],
            cpu_total=total,
            processors=int(machine["processors"][0]),
            reads=disk[0],
            bytes_read=_bytes(disk[1]),
            writes=disk[2],
            bytes_written=_bytes(disk[3]),
            disk_busy=None if disk[4] is None else disk[4] / 1000,
            free_mib=float(machine["free_mib"][0]),
            version=version,
        )


def _bytes(sectors: float | None) -> float | None:
    return None if sectors is None else sectors * SECTOR_BYTES


@dataclass(frozen=True)
class Interval:
    """What a member, and its machine, did between two samples.

    Args:
        begin: Sample at its begin.
        end: Sample at its end.
    """

    begin: Sample
    end: Sample

    def quantile(self, metric: str, quantile: float) -> float | None:
        """Returns the seconds that this part of the events did not exceed; None if there were none."""
        return quantile_of([self], metric, quantile)

    def count(self, metric: str) -> float:
        """Returns the number of events of a histogram."""
        last = float("inf")
        before, after = self.begin.histograms.get(metric, {}), self.end.histograms.get(metric, {})
        return after.get(last, 0.0) - before.get(last, 0.0)

    @property
    def cpu_share(self) -> float:
        """Part of the processors' time in which they worked: 0 to 1."""
        total = self.end.cpu_total - self.begin.cpu_total
        return (self.end.cpu_busy - self.begin.cpu_busy) / total if total > 0 else 0.0

    @property
    def disk_share(self) -> float | None:
        """Part of the time in which the disk was at work: 0 to 1."""
        return self._rate(self.begin.disk_busy, self.end.disk_busy)

    @property
    def writes_per_second(self) -> float | None:
        """Requests of writes to the disk."""
        return self._rate(self.begin.writes, self.end.writes)

    @property
    def bytes_written_per_second(self) -> float | None:
        """What was written to the disk."""
        return self._rate(self.begin.bytes_written, self.end.bytes_written)

    def growth(self, metric: str) -> float:
        """Returns by how much a number grew."""
        return self.end.numbers.get(metric, 0.0) - self.begin.numbers.get(metric, 0.0)

    def _rate(self, before: float | None, after: float | None) -> float | None:
        seconds = self.end.seconds - self.begin.seconds
        return None if before is None or after is None or seconds <= 0 else (after - before) / seconds


def quantile_of(intervals: Sequence[Interval], metric: str, quantile: float) -> float | None:
    """Returns the seconds that this part of the events of all these did not exceed; None if there were none.

    Inside a bucket, events are taken to be spread evenly, as Prometheus does; inf beyond the last bucket.
    """
    together: dict[float, float] = {}
    for each in intervals:
        before = each.begin.histograms.get(metric, {})
        for edge, count in each.end.histograms.get(metric, {}).items():
            together[edge] = together.get(edge, 0.0) + count - before.get(edge, 0.0)
    counts = sorted(together.items())
    total = counts[-1][1] if counts else 0.0
    if total <= 0:
        return None
    lower, passed = 0.0, 0.0
    for edge, count in counts:
        if count >= quantile * total:
            if edge == float("inf"):
                return edge
            return lower + (edge - lower) * (quantile * total - passed) / (count - passed)
        lower, passed = edge, count
    return None
