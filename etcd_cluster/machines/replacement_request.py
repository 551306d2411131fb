"""The ReplacementRequest resource: its id changes whenever another machine is to be replaced, and only then."""

from __future__ import annotations

import pulumi
from pulumi.dynamic import Resource

from etcd_cluster.providers import ReplacementRequestProvider


class ReplacementRequest(Resource, module="cluster", name="ReplacementRequest"):
    """A request to replace a member's machine. It is served once, however long it stays in the program.

    Args:
        name: Name of the resource.
        member: The member whose machine is to be replaced; None for none.
        opts: Pulumi's resource options.
    """

    def __init__(self, name: str, *, member: str | None, opts: pulumi.ResourceOptions) -> None:
        super().__init__(ReplacementRequestProvider(), name, {"member": member}, opts)
