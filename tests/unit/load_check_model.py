"""Load checks that were never run: what `benchmark` would report, and what members would have done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from etcd_cluster.etcd.sizes import MIB, SIZES
from etcd_cluster.load_check.generator import Requests, Second
from etcd_cluster.load_check.load import Load
from etcd_cluster.load_check.samples import (
    COMMIT,
    DATABASE,
    DATABASE_IN_USE,
    FSYNC,
    IS_LEADER,
    LEADER_CHANGES,
    MEMORY,
    PUT,
    QUOTA,
    RANGE,
    REQUESTS,
    ROUND_TRIP,
    Histogram,
    Sample,
)
from etcd_cluster.load_check.verdict import Measured

BEGAN = 1_795_750_000.0
EDGES = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, float("inf"))
STEP = 5
"""Seconds between two samples."""


def histogram(fast: int, slow: int, slow_edge: float = 0.032) -> Histogram:
    """Buckets of that many events of at most 2 ms, and of at most `slow_edge`."""
    return {edge: float((fast if edge >= 0.002 else 0) + (slow if edge >= slow_edge else 0)) for edge in EDGES}


def sample(at: float, **changes: Any) -> Sample:
    """What a member had done that many seconds after the begin."""
    done = max(0, int(at + STEP))
    numbers = {
        LEADER_CHANGES: 1.0,
        IS_LEADER: 0.0,
        DATABASE: 20.0 * MIB + done * 150_000,
        DATABASE_IN_USE: 1.0 * MIB,
        QUOTA: 2048.0 * MIB,
        MEMORY: 80.0 * MIB,
        **changes.pop("numbers", {}),
    }
    values: dict[str, Any] = {
        "seconds": BEGAN + at,
        "clock": BEGAN + at,
        "numbers": numbers,
        "histograms": {
            FSYNC: histogram(100 * done, 0),
            COMMIT: histogram(10 * done, 0),
            ROUND_TRIP: histogram(2 * done, 0),
        },
        "cpu_busy": 60.0 * done,
        "cpu_total": 200.0 * done,
        "processors": 2,
        "reads": 0.0,
        "bytes_read": 0.0,
        "writes": 200.0 * done,
        "bytes_written": 700_000.0 * done,
        "disk_busy": 0.2 * done,
        "free_mib": 7_000.0,
        "version": "3.6.16",
        **changes,
    }
    return Sample(**values)


def requests(rate: int, seconds: int = 60, **changes: Any) -> Requests:
    """A report of requests that were all answered in time."""
    by_second = [Second(int(BEGAN) + at, 0.002, 0.004 + 0.001 * (at % 7), rate) for at in range(seconds)]
    values: dict[str, Any] = {
        "wanted": rate * seconds,
        "ended": True,
        "done": rate * seconds,
        "total_seconds": float(seconds),
        "slowest": 0.08,
        "percentiles": {50.0: 0.0018, 90.0: 0.003, 99.0: 0.009, 99.9: 0.02},
        "by_second": by_second,
        "errors": {},
        **changes,
    }
    return Requests(**values)


def measured(size: str = "small", slow: Mapping[str, int] | None = None, **changes: Any) -> Measured:
    """A load check of three members.

    Args:
        size: Name of the row.
        slow: Member name -> seconds after the begin from which its log is slow.
        changes: Other fields.
    """
    load = Load.of(SIZES[size])
    samples: dict[str, list[Sample]] = {}
    for name in ("etcd-1", "etcd-2", "etcd-3"):
        begins = (slow or {}).get(name)
        samples[name] = []
        for at in range(-STEP, load.seconds + STEP, STEP):
            slow_events = 0 if begins is None else max(0, at - begins) * 20
            histograms = {
                f"{REQUESTS[0]} {PUT}": histogram(30 * (at + STEP), slow_events),
                f"{REQUESTS[0]} {RANGE}": histogram(30 * (at + STEP), 0),
                FSYNC: histogram(100 * (at + STEP), slow_events),
                COMMIT: histogram(10 * (at + STEP), 0),
                ROUND_TRIP: histogram(2 * (at + STEP), 0),
            }
            samples[name].append(sample(at, histograms=histograms))
    values: dict[str, Any] = {
        "load": load,
        "generator": "etcd-1",
        "began": BEGAN,
        "ended": BEGAN + load.seconds,
        "writes": requests(load.writes),
        "reads": requests(load.reads),
        "clock_ahead": 0.0,
        "samples": samples,
        **changes,
    }
    return Measured(**values)
