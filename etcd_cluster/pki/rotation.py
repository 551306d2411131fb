"""Decides when a CA is rotated, and when the one before it is dropped. No Pulumi, no clock here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from etcd_cluster.clocks import from_rfc3339, rfc3339
from etcd_cluster.pki import x509
from etcd_cluster.pki.limits import PkiError


@dataclass(frozen=True)
class Schedule:
    """The state of a CA's rotation. Times are RFC 3339, as in the stack's state.

    Args:
        rotation: The number that was asked for last.
        rotate_after: When the newest CA is due to be rotated: a third of its life is left.
        rotated_at: When the newest CA took over; empty for the first.
        drop_after: The overlap's end, after which the CA before the newest is dropped; empty without an overlap.
        previous_not_after: When the CA before the newest expires; empty without an overlap.
    """

    rotation: int
    rotate_after: str
    rotated_at: str = ""
    drop_after: str = ""
    previous_not_after: str = ""

    @property
    def in_overlap(self) -> bool:
        """True if two CAs are trusted."""
        return bool(self.drop_after)


def first(rotation: int, validity_hours: int, now: datetime) -> Schedule:
    """Returns the state of a CA made now. It counts as the rotation that is asked for."""
    return Schedule(rotation, _renewal(validity_hours, now))


def of_unknown_age(validity_hours: int, now: datetime) -> Schedule:
    """Returns the state of a CA from before there were rotations, whose age is unknown: early rather than late."""
    return Schedule(0, rfc3339(now + timedelta(hours=validity_hours) / 3))


def following(before: Schedule, *, rotation: int, overlap_hours: int, validity_hours: int, now: datetime) -> Schedule:
    """Returns the state after `before`, which is `before` itself while nothing is due.

    A rotation begins when a higher number is asked for, or by age; then both CAs are trusted for overlap_hours, or for
    half of the old one's remaining life. During an overlap, no rotation begins.

    Raises:
        PkiError: A lower number, or another one during an overlap.
    """
    if before.in_overlap:
        if rotation != before.rotation:
            raise _under_way(before, rotation)
        drop_after = _end_of_overlap(before.rotated_at, overlap_hours, before.previous_not_after)
        over = rfc3339(now) >= drop_after
        return replace(before, drop_after="", previous_not_after="") if over else replace(before, drop_after=drop_after)
    if rotation < before.rotation:
        raise PkiError(
            f"rotation (caRotation) is {rotation}, and was {before.rotation}: a CA that was dropped "
            f"does not come back; put {before.rotation} back, or raise it to rotate again"
        )
    if rotation == before.rotation and rfc3339(now) < before.rotate_after:
        return before
    started = rfc3339(now)
    expires = rfc3339(from_rfc3339(before.rotate_after) + timedelta(hours=validity_hours) / 3)
    drop_after = _end_of_overlap(started, overlap_hours, expires)
    overlaps = started < drop_after
    return Schedule(
        rotation,
        _renewal(validity_hours, now),
        started,
        drop_after if overlaps else "",
        expires if overlaps else "",
    )


def _renewal(validity_hours: int, now: datetime) -> str:
    return rfc3339(x509.ca_validity(validity_hours, now).renewal)


def _end_of_overlap(started: str, overlap_hours: int, expires: str) -> str:
    """Returns the end of an overlap, well before the old CA and its certificates expire.

    Only an `up` ends an overlap.
    """
    start = from_rfc3339(started)
    left = from_rfc3339(expires) - start
    return rfc3339(start + min(timedelta(hours=overlap_hours), left / 2))


def _under_way(before: Schedule, rotation: int) -> PkiError:
    return PkiError(
        f"rotation (caRotation) is {rotation}, and was {before.rotation}: the last rotation is not over, and "
        f"the CA before it is trusted until the first `up` after {before.drop_after}; put {before.rotation} "
        "back until then, or run `up` with it and overlap_hours (caOverlapHours) 0, which ends that at once"
    )
