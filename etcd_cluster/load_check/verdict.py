"""Judges a load check: against what the row promises, and against what etcd needs of a disk. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Any

from etcd_cluster.load_check.generator import Requests
from etcd_cluster.load_check.load import Load
from etcd_cluster.load_check.samples import (
    COMMIT,
    FSYNC,
    LEADER_CHANGES,
    PUT,
    RANGE,
    REQUESTS,
    ROUND_TRIP,
    Interval,
    Sample,
    quantile_of,
)

WARM_UP_SECONDS = 5
"""In which clients connect: slow single requests do not count, all others do."""
WINDOW_SECONDS = 5
"""Over which requests a second are averaged to see when they fell behind."""
BUSY = 0.9
"""Part of the time from which on processors, or a disk, are called busy."""


class Quantity(Enum):
    """What has a limit."""

    WRITES = "writes a second"
    READS = "reads a second"
    ERRORS = "failed requests"
    WRITE_LATENCY = "99 % of the writes"
    READ_LATENCY = "99 % of the reads"
    SLOWEST = "slowest request"
    FSYNC = "99 % of the log's syncs"
    COMMIT = "99 % of the database's commits"
    LEADER_CHANGES = "changes of the leader"


@dataclass(frozen=True)
class Limits:
    """What a cluster has to keep.

    Args:
        rate_share: Part of the row's requests a second that has to be answered, default 0.95.
        latency_seconds: What 99 % of the requests may take, default 0.15: slower ones raise one of etcd's own alerts.
        slowest_seconds: What each may take, default 0.5, as in etcd's `check perf`.
        fsync_seconds: What 99 % of the syncs of the write-ahead log may take, default 0.01 (etcd's FAQ).
        commit_seconds: What 99 % of the database's commits may take, default 0.025 (etcd's FAQ).
    """

    rate_share: float = 0.95
    latency_seconds: float = 0.15
    slowest_seconds: float = 0.5
    fsync_seconds: float = 0.01
    commit_seconds: float = 0.025


@dataclass(frozen=True)
class Judgement:
    """One limit, and what was measured.

    Args:
        quantity: What was measured.
        member: The member, for what each member has; else "".
        limit: The limit.
        measured: What was measured; None if nothing was.
        kept: Whether the limit was kept.
        first_broken: Seconds after the begin at which it was not kept for the first time; None if it was, or if that is
            unknown.
    """

    quantity: Quantity
    member: str
    limit: float
    measured: float | None
    kept: bool
    first_broken: float | None = None


@dataclass(frozen=True)
class CheckPerf:
    """What etcd's own `check perf` said, for comparison: it decides nothing.

    Args:
        load: Its workload: s, m, l or xl.
        passed: Whether it ended as one that was passed.
        lines: Its verdict, as it printed it.
    """

    load: str
    passed: bool
    lines: Sequence[str]


@dataclass(frozen=True)
class Measured:
    """All that a load check measured.

    Args:
        load: The load.
        generator: Member on whose machine it was generated, or client HOST.
        began: Unix time, by the clock of that machine.
        ended: Likewise.
        writes: What the writing clients saw.
        reads: What the reading clients saw.
        clock_ahead: Seconds by which that clock is ahead of the clock of the samples, which is this machine's.
        samples: Member name -> its samples, in order: the first one just before the load, the last one just after it.
        check_perf: What etcd's own check said afterwards; None if it was not asked for.
        of_client: Samples of the client's machine, likewise; empty if a member's generated the load.
    """

    load: Load
    generator: str
    began: float
    ended: float
    writes: Requests
    reads: Requests
    clock_ahead: float
    samples: Mapping[str, Sequence[Sample]]
    check_perf: CheckPerf | None = None
    of_client: Sequence[Sample] = ()

    @property
    def machines(self) -> Mapping[str, Sequence[Sample]]:
        """Name -> samples, of all members and then of the client."""
        return {**self.samples, self.generator: self.of_client} if self.of_client else self.samples

    def whole(self, name: str) -> Interval:
        """Returns what a member, or the client, did over all."""
        return Interval(self.machines[name][0], self.machines[name][-1])

    def intervals(self, name: str) -> list[tuple[float, Interval]]:
        """Returns what it did between two samples, each with the seconds from the load's begin to its end."""
        samples = self.machines[name]
        return [(self.seconds_of(after), Interval(before, after)) for before, after in pairwise(samples)]

    def served(self, kind: str, quantile: float) -> list[tuple[float, float]]:
        """Returns the seconds that this part of the requests took at most, as all members served them, over time.

        Each with the seconds from the load's begin to the end of its slice. Empty if etcd does not count that.

        Args:
            kind: PUT or RANGE.
            quantile: 0 to 1.
        """
        ends = [each.histograms for samples in self.samples.values() for each in samples[-1:]]
        metrics = (f"{metric} {kind}" for metric in REQUESTS)
        metric = next((metric for metric in metrics if any(metric in each for each in ends)), None)
        if metric is None:
            return []
        found: list[tuple[float, float]] = []
        for at, slice_ in self._slices():
            seconds = quantile_of(slice_, metric, quantile)
            if seconds is not None:
                found.append((at, seconds))
        return found

    def _slices(self) -> list[tuple[float, list[Interval]]]:
        """Returns what all members did between two rounds of samples; a member without one is taken at its nearest."""
        rounds = next(iter(self.samples.values()))
        return [
            (
                self.seconds_of(after),
                [Interval(_nearest(each, before), _nearest(each, after)) for each in self.samples.values()],
            )
            for before, after in pairwise(rounds)
        ]

    def seconds_of(self, sample: Sample) -> float:
        """Returns the seconds from the load's begin to a sample; 0 for one before it."""
        return max(0.0, sample.seconds - (self.began - self.clock_ahead))


def _nearest(samples: Sequence[Sample], to: Sample) -> Sample:
    return min(samples, key=lambda each: abs(each.seconds - to.seconds))


@dataclass(frozen=True)
class Verdict:
    """What the cluster kept, and what it did not.

    Args:
        judgements: Every limit.
        busy: Member name, or the client's -> what of its machine was busy nearly all of the time: "processors", "disk".
    """

    judgements: Sequence[Judgement]
    busy: Mapping[str, Sequence[str]]

    @property
    def passed(self) -> bool:
        """Whether all limits were kept."""
        return all(each.kept for each in self.judgements)

    @property
    def broken(self) -> list[Judgement]:
        """The limits that were not kept: in the order of time, as far as it is known. At the same time, disks first."""
        found = [each for each in self.judgements if not each.kept]
        return sorted(found, key=lambda each: (_time(each), each.quantity not in (Quantity.FSYNC, Quantity.COMMIT)))

    @property
    def kept(self) -> list[Judgement]:
        """The limits that were kept."""
        return [each for each in self.judgements if each.kept]


def _time(each: Judgement) -> float:
    return float("inf") if each.first_broken is None else each.first_broken


def judge(measured: Measured, limits: Limits) -> Verdict:
    """Returns the verdict."""
    judgements = [
        *_requests(measured, limits),
        *(each for member in measured.samples for each in _member(measured, member, limits)),
        _leader_changes(measured),
    ]
    return Verdict(judgements, {name: found for name in measured.machines if (found := _busy(measured.whole(name)))})


def _requests(measured: Measured, limits: Limits) -> Iterator[Judgement]:
    load = measured.load
    kinds = (
        (measured.writes, load.writes, Quantity.WRITES, Quantity.WRITE_LATENCY),
        (measured.reads, load.reads, Quantity.READS, Quantity.READ_LATENCY),
    )
    for requests, rate, quantity, latency in kinds:
        least = rate * limits.rate_share
        answered = requests.per_second if requests.ended else None
        kept = answered is not None and answered >= least
        at = None if kept else _fell_behind(measured, requests, least)
        yield Judgement(quantity, "", least, answered, kept, at)
        slow = requests.percentiles.get(99.0)
        kept = slow is not None and slow <= limits.latency_seconds
        at = None if kept else _first_slow(measured, requests, limits.latency_seconds)
        yield Judgement(latency, "", limits.latency_seconds, slow, kept, at)
    errors = measured.writes.error_count + measured.reads.error_count
    yield Judgement(Quantity.ERRORS, "", 0, errors, errors == 0)
    later = [
        each.slowest
        for requests in (measured.writes, measured.reads)
        for each in requests.by_second
        if each.at - measured.began > WARM_UP_SECONDS
    ]
    slowest = max(later, default=None)
    kept = slowest is not None and slowest <= limits.slowest_seconds
    broken = [
        at
        for requests in (measured.writes, measured.reads)
        if (at := _first_slow(measured, requests, limits.slowest_seconds)) is not None
    ]
    yield Judgement(
        Quantity.SLOWEST, "", limits.slowest_seconds, slowest, kept, None if kept else min(broken, default=None)
    )


def _fell_behind(measured: Measured, requests: Requests, least: float) -> float | None:
    """Returns when fewer requests than that were answered for the first time, averaged; None if that is unknown."""
    seconds = requests.by_second
    for end in range(WINDOW_SECONDS, len(seconds)):  # the last second is not a whole one
        window = seconds[end - WINDOW_SECONDS : end]
        if sum(each.count for each in window) < least * WINDOW_SECONDS:
            return max(0.0, window[-1].at + 1 - measured.began)
    return None


def _first_slow(measured: Measured, requests: Requests, limit: float) -> float | None:
    """Returns when a request was slower than that for the first time, once all clients were connected."""
    times = (each.at - measured.began for each in requests.by_second if each.slowest > limit)
    return next((at for at in times if at > WARM_UP_SECONDS), None)


def _member(measured: Measured, member: str, limits: Limits) -> Iterator[Judgement]:
    whole = measured.whole(member)
    metrics = (
        (Quantity.FSYNC, FSYNC, limits.fsync_seconds),
        (Quantity.COMMIT, COMMIT, limits.commit_seconds),
    )
    for quantity, metric, limit in metrics:
        slow = whole.quantile(metric, 0.99)
        kept = slow is not None and slow < limit
        at = None if kept else _first_broken(measured, member, metric, limit)
        yield Judgement(quantity, member, limit, slow, kept, at)


def _first_broken(measured: Measured, member: str, metric: str, limit: float) -> float | None:
    for _, interval in measured.intervals(member):
        slow = interval.quantile(metric, 0.99)
        if slow is not None and slow >= limit:
            return measured.seconds_of(interval.begin)
    return None


def _leader_changes(measured: Measured) -> Judgement:
    """Judges changes of the leader, as the member that saw most of them counts."""
    members = measured.samples
    seen = max(measured.whole(member).growth(LEADER_CHANGES) for member in members)
    times = [
        measured.seconds_of(interval.begin)
        for member in members
        for _, interval in measured.intervals(member)
        if interval.growth(LEADER_CHANGES) > 0
    ]
    return Judgement(Quantity.LEADER_CHANGES, "", 0, seen, seen == 0, min(times, default=None))


def _busy(whole: Interval) -> list[str]:
    disk = whole.disk_share
    return [
        *(["processors"] if whole.cpu_share >= BUSY else []),
        *(["disk"] if disk is not None and disk >= BUSY else []),
    ]


def as_json(measured: Measured, verdict: Verdict) -> dict[str, Any]:
    """Returns everything for programs. Times are in seconds."""
    load = measured.load
    return {
        "passed": verdict.passed,
        "load": {
            "size": load.size,
            "clients": load.clients,
            "writesPerSecond": load.writes,
            "readsPerSecond": load.reads,
            "seconds": load.seconds,
            "valueBytes": load.value_bytes,
        },
        "generatedOn": measured.generator,
        "began": measured.began,
        "ended": measured.ended,
        "limits": [
            {
                "quantity": each.quantity.name.lower(),
                "member": each.member or None,
                "limit": each.limit,
                "measured": _number(each.measured),
                "kept": each.kept,
                "firstBroken": each.first_broken,
            }
            for each in verdict.judgements
        ],
        "busy": {name: list(found) for name, found in verdict.busy.items()},
        "checkPerf": None if measured.check_perf is None else {**vars(measured.check_perf)},
        "writes": {**measured.writes.as_json(), "served": _served_json(measured, PUT)},
        "reads": {**measured.reads.as_json(), "served": _served_json(measured, RANGE)},
        "members": {name: _member_json(measured, name) for name in measured.samples},
        "client": _client_json(measured) if measured.of_client else None,
    }


SERVED = (50.0, 90.0, 99.0)
"""Percentages of requests whose latencies are told over time."""


def _served_json(measured: Measured, kind: str) -> dict[str, list[list[float | None]]]:
    return {
        f"{percentage:g}": [[round(at, 1), _number(seconds)] for at, seconds in measured.served(kind, percentage / 100)]
        for percentage in SERVED
    }


def _member_json(measured: Measured, name: str) -> dict[str, Any]:
    whole = measured.whole(name)
    return {
        "version": whole.end.version,
        "processors": whole.end.processors,
        **_figures(whole),
        "over": [{"until": round(at, 1), **_figures(each)} for at, each in measured.intervals(name)],
    }


def _client_json(measured: Measured) -> dict[str, Any]:
    whole = measured.whole(measured.generator)
    over = [
        {"until": round(at, 1), "cpu": round(each.cpu_share, 3)} for at, each in measured.intervals(measured.generator)
    ]
    return {"processors": whole.end.processors, "cpu": round(whole.cpu_share, 3), "over": over}


def _figures(interval: Interval) -> dict[str, Any]:
    return {
        "fsync99": _number(interval.quantile(FSYNC, 0.99)),
        "commit99": _number(interval.quantile(COMMIT, 0.99)),
        "roundTrip99": _number(interval.quantile(ROUND_TRIP, 0.99)),
        "cpu": round(interval.cpu_share, 3),
        "disk": _number(interval.disk_share),
        "diskWritesPerSecond": _number(interval.writes_per_second),
        "diskBytesWrittenPerSecond": _number(interval.bytes_written_per_second),
    }


def _number(value: float | None) -> float | None:
    """Returns a number that JSON has: no infinity."""
    return None if value is None or value == float("inf") else value
