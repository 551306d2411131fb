"""Reads what etcd's `benchmark` reports. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_SUMMARY = re.compile(r"^\s+(Total|Slowest|Average|Requests/sec):\s+([0-9.e+-]+)", re.MULTILINE)
_PERCENTILE = re.compile(r"^\s+([0-9.]+)% in ([0-9.e+-]+) secs", re.MULTILINE)
_SECOND = re.compile(r"^([0-9]{9,}),([^,]+),([^,]+),([^,]+),([0-9]+)$", re.MULTILINE)
_ERROR = re.compile(r"^\s+\[([0-9]+)\]\t(.*)$", re.MULTILINE)
_LENGTH = re.compile(r"([0-9.]+)(h|ms|m|s|µs|us|ns)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "µs": 1e-6, "us": 1e-6, "ns": 1e-9}
PERCENTILES = (50.0, 90.0, 99.0, 99.9)


@dataclass(frozen=True)
class Second:
    """The requests of one second.

    Args:
        at: Unix time, by the clock of the machine that sent them.
        average: Their average latency, in seconds.
        slowest: The slowest one's latency.
        count: How many they were.
    """

    at: int
    average: float
    slowest: float
    count: int


@dataclass(frozen=True)
class Requests:
    """What `benchmark` reports of one kind of requests.

    Args:
        wanted: Requests that it was to send.
        ended: False if it was ended before it had sent all of them: then nothing else is known.
        done: Requests that were answered.
        total_seconds: Time that they took.
        slowest: The slowest one's latency, in seconds, with the time to connect.
        percentiles: Percentage -> seconds that this part did not exceed.
        by_second: Each second.
        errors: Text -> how often.
    """

    wanted: int
    ended: bool
    done: int
    total_seconds: float
    slowest: float
    percentiles: Mapping[float, float]
    by_second: Sequence[Second]
    errors: Mapping[str, int]

    @property
    def per_second(self) -> float:
        """Requests that were answered in a second."""
        return self.done / self.total_seconds if self.total_seconds > 0 else 0.0

    @property
    def error_count(self) -> int:
        """Requests that failed."""
        return sum(self.errors.values())

    @staticmethod
    def parse(report: str, wanted: int, *, ended: bool) -> Requests:
        """Reads a report.

        Args:
            report: What `benchmark` printed with --precise and --sample.
            wanted: Requests that it was to send.
            ended: Whether it ended by itself.
        """
        summary = {name: float(value) for name, value in _SUMMARY.findall(report)}
        seconds = [
            Second(int(at), _seconds(average), _seconds(slowest), int(count))
            for at, _, average, slowest, count in _SECOND.findall(report)
        ]
        _, _, errors = report.partition("Error distribution:")
        return Requests(
            wanted=wanted,
            ended=ended,
            done=sum(each.count for each in seconds),
            total_seconds=summary.get("Total", 0.0),
            slowest=summary.get("Slowest", 0.0),
            percentiles={float(name): float(value) for name, value in _PERCENTILE.findall(report)},
            by_second=seconds,
            errors={text: int(count) for count, text in _ERROR.findall(errors)},
        )

    def as_json(self) -> dict[str, Any]:
        """Returns the figures for programs, in seconds."""
        return {
            "wanted": self.wanted,
            "answered": self.done,
            "failed": self.error_count,
            "ended": self.ended,
            "perSecond": round(self.per_second, 2),
            "slowest": self.slowest,
            "percentiles": {f"{name:g}": value for name, value in self.percentiles.items()},
            "errors": dict(self.errors),
            "bySecond": [[each.at, each.average, each.slowest, each.count] for each in self.by_second],
        }


def _seconds(length: str) -> float:
    """Returns a length of time that Go wrote, such as 1m2.5s or 624.059µs."""
    return round(sum(float(number) * _UNITS[unit] for number, unit in _LENGTH.findall(length)), 9)
