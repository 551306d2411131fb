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
        authorized_key: Public half of the key that the new machine lets in.
        additional: User data of the caller's for the new machine (secret); None for none.
        opts: Pulumi's resource options.

    Attributes:
        authorized_key, additional: As they were when the request was made: what the new machine was made of. "" for no
            user data of the caller's.
    """

    authorized_key: pulumi.Output[str]
    additional: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        *,
        member: str | None,
        authorized_key: pulumi.Input[str],
        additional: pulumi.Input[str] | None,
        opts: pulumi.ResourceOptions,
    ) -> None:
        properties = {
            "member": member,
            "authorized_key": authorized_key,
            "additional": "" if additional is None else pulumi.Output.secret(additional),
        }
        secret = pulumi.ResourceOptions(additional_secret_outputs=["additional"])
        super().__init__(ReplacementRequestProvider(), name, properties, pulumi.ResourceOptions.merge(opts, secret))
