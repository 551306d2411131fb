"""Tells whether the loss of one zone is the loss of the cluster. Pure."""

from __future__ import annotations

from collections.abc import Mapping


def zone_warnings(zones: Mapping[str, str], fix: str) -> list[str]:
    """Returns a warning for each zone whose loss takes the quorum. A single member has none to lose.

    Args:
        zones: Member name -> zone.
        fix: What to do, as an instruction.
    """
    tolerated = (len(zones) - 1) // 2
    members = {zone: [name for name in zones if zones[name] == zone] for zone in dict.fromkeys(zones.values())}
    return [
        f"{', '.join(names)} are in zone {zone}, {len(names)} of {len(zones)} members: the cluster loses its quorum "
        f"with that zone. Expected are no more than {tolerated} in a zone. {fix}. A member that stands stays where "
        "it is"
        for zone, names in members.items()
        if zone and tolerated and len(names) > tolerated  # mocks of a cloud may know no zones
    ]
