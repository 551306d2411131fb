"""Compares the clocks of two machines: one comparison, one tolerance. Writes times, and lengths of time."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

_RFC_3339 = "%Y-%m-%dT%H:%M:%SZ"
CLOCK_TOLERANCE_SECONDS = 5.0
"""Chosen between two limits. Below it: a loaded machine delays an answer by seconds. Above it: leases and certificates
(which are dated back by 5 minutes) suffer from clocks that are minutes apart. Machines with time synchronisation are
within 0.1 s of each other."""


def current_time() -> datetime:
    """Returns the time of this machine, in UTC."""
    return datetime.now(timezone.utc)


def offset(clock: float, before: float, after: float, resolution: float = 0.0) -> float:
    """Returns the seconds by which another machine's clock is surely ahead of this one's; negative if it is behind.

    Args:
        clock: What the other one showed, in seconds since 1970.
        before: This machine's time before the other one was asked.
        after: This machine's time after it has answered.
        resolution: How much later than `clock` its time may have been, as it was cut to whole seconds.
    """
    return max(clock - after, 0.0) + min(clock + resolution - before, 0.0)


def are_apart(seconds: float) -> bool:
    """Returns whether an offset is more than the tolerance."""
    return abs(seconds) > CLOCK_TOLERANCE_SECONDS


def describe(name: str, seconds: float) -> str:
    """Returns the text of an offset, for people."""
    return f"the clock of {name} is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} this machine's"


def length_text(passed: timedelta) -> str:
    """Returns a length of time in the unit that suits, for people: 40 min, 3 h, 12 days."""
    minutes = int(passed.total_seconds() // 60)
    if minutes < 120:
        return f"{max(minutes, 0)} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // 1440} days"


def rfc3339(moment: datetime) -> str:
    """Returns a time in UTC as RFC 3339 writes it, to the second."""
    return moment.strftime(_RFC_3339)


def from_rfc3339(text: str) -> datetime:
    """Reads a time that `rfc3339` wrote."""
    return datetime.strptime(text, _RFC_3339).replace(tzinfo=timezone.utc)
