"""The loss of one zone: when it is the loss of the cluster."""

from __future__ import annotations

import pytest

from etcd_cluster.machines.placement import zone_warnings


@pytest.mark.parametrize(
    ("zones", "lost_with"),
    [
        ("a", []),
        ("aaa", ["a"]),
        ("aba", ["a"]),
        ("abc", []),
        ("ababa", ["a"]),
        ("abcab", []),
        ("aabbc", []),
        ("abababa", ["a"]),
    ],
)
def test_a_zone_that_holds_the_quorum_is_named(zones: str, lost_with: list[str]) -> None:
    placed = {f"etcd-{number}": f"zone-{zone}" for number, zone in enumerate(zones, 1)}
    warnings = zone_warnings(placed, "Give subnets of three zones")
    assert [f"zone-{zone}," in text for zone, text in zip(lost_with, warnings, strict=True)] == [True] * len(lost_with)
