"""The DiskSizes resource: no data disk is replaced by a smaller one."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi
from pulumi.dynamic import Resource

from etcd_cluster.providers import DiskSizesProvider


class DiskSizes(Resource, module="cluster", name="DiskSizes"):
    """Remembers how large each member's disk is, since a program cannot read its own state.

    Args:
        name: Name of the resource.
        members: Names of the members.
        size_gb: Size in GB of a new disk, and of that of the member to replace.
        replace_member: The member whose disk takes up the size; None for none.
        opts: Pulumi's resource options.
    """

    def __init__(
        self,
        name: str,
        *,
        members: Sequence[str],
        size_gb: int,
        replace_member: str | None,
        opts: pulumi.ResourceOptions,
    ) -> None:
        properties = {"members": list(members), "size_gb": size_gb, "replace_member": replace_member}
        super().__init__(DiskSizesProvider(), name, properties, opts)
