"""Tells what is left after a change of `size` or of the machines' type: they are replaced one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pulumi

from etcd_cluster.etcd.sizes import SIZES, Size

UNKNOWN_SIZE = ""
"""Of a machine whose type is in no table: the preflight measured it when it was made."""

Sufficiency = Callable[[str, Size], bool | None]
"""Returns whether a type has the vCPUs and the memory of a row; None if that is unknown."""


def type_after_run(machine_type: pulumi.Output[str], wanted: str) -> pulumi.Output[str]:
    """Returns the type of a machine, known in a preview too: one that is yet to be made gets the wanted type."""

    def known_or_wanted(found: object) -> str:
        return found if isinstance(found, str) and found else wanted

    return machine_type.apply(known_or_wanted, run_with_unknowns=pulumi.runtime.is_dry_run())


def fitting_size(machine_type: str, wanted: str, size: Size, is_sufficient: Sufficiency) -> str:
    """Returns the name of the largest row, up to `size`, that a standing machine is large enough for.

    Args:
        machine_type: The machine's type.
        wanted: The type that new machines get; it is large enough for `size`, or was allowed to be smaller.
        size: The row that is asked for.
        is_sufficient: Tells whether a type is large enough for a row; None if that is unknown.

    Returns:
        The row's name, or `UNKNOWN_SIZE`. The smallest row for a type below it.
    """
    if machine_type == wanted:
        return size.name
    rows = list(SIZES.values())
    for row in reversed(rows[: rows.index(size) + 1]):
        is_enough = is_sufficient(machine_type, row)
        if is_enough is None:
            return UNKNOWN_SIZE
        if is_enough:
            return row.name
    return rows[0].name


def smallest_size(names: Sequence[str], size: Size) -> Size:
    """Returns the smallest of these rows; `size` if none of them is known."""
    known = [SIZES[name] for name in names if name != UNKNOWN_SIZE]
    return min(known, key=lambda row: [*SIZES].index(row.name), default=size)


def runs_left(types: Mapping[str, str], wanted: str, reason: str, key: str, given: str | None = None) -> str | None:
    """Returns which machines are of another type than new ones get, and what to do; None if all are alike.

    Args:
        types: Member name -> type of its machine once this run has ended.
        wanted: The type that new machines get.
        reason: What asks for that type, such as "size large".
        key: The key that names the member to replace.
        given: The member that the key names now. If its machine is left, an earlier run has served that request.
    """
    left = [name for name, machine_type in types.items() if machine_type != wanted]
    if not left:
        return None
    by_type = {each: [name for name in types if types[name] == each] for each in dict.fromkeys(types.values())}
    found = "; ".join(f"{', '.join(names)} on {machine_type}" for machine_type, names in by_type.items())
    runs = f"{len(left)} runs are left: followers first, the leader last (the end of `up` names it)"
    following = next((name for name in left if name != given), None)
    fix = (
        f"Set {key}: {following} and run `pulumi up`"
        if following
        else f"{key}: {given} was served before: take it out, run `pulumi up`, set it again and run `pulumi up`"
    )
    return (
        f"members after this run: {found}. Expected is {wanted} for all, for {reason}. {fix}; "
        f"{runs if len(left) > 1 else '1 run is left'}"
    )
