"""Defines data volumes that outlived their machine, or their stack, and chooses the one to take up. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class KeptVolume:
    """A data volume that carries the names of this project, stack, cluster and member.

    Args:
        id: As the cloud's import takes it, and as state holds it.
        zone: Where it is, and where alone a machine can use it.
        size: In the unit of the platform's arguments (GiB, GB); from state a float.
        address: The member's address, which is in the data; "" if the volume names none.
        owner: Id of the `DataVolumes` that it was made or taken up by; "" from before there were any.
        in_use: A machine has it.
    """

    id: str
    zone: str
    size: float
    address: str = ""
    owner: str = ""
    in_use: bool = False


def to_take_up(found: Mapping[str, Sequence[KeptVolume]]) -> dict[str, KeptVolume]:
    """Returns the volume of each member that has exactly one, which no machine has.

    It is the stack's own (its machine is gone), or is left from before. `DataVolumes`, which knows the state, refuses
    one of before if the stack has one already.
    """
    return {name: volumes[0] for name, volumes in found.items() if len(volumes) == 1 and not volumes[0].in_use}
