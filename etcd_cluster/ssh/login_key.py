"""The LoginKey resource: another key to log in with reaches the machines that stand, over the one before."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
from pulumi.dynamic import Resource
from pulumi_command.remote import ConnectionArgs

from etcd_cluster.providers import LoginKeyProvider


class LoginKey(Resource, module="ssh", name="LoginKey"):
    """The key that machines let in. Another one is let in beside the one before; no machine is replaced for it.

    Args:
        name: Name of the resource.
        public_key: Public half of the key, one line as in authorized_keys.
        connections: Member name -> SSH connection (secret).
        replace_member: The member whose machine is to be replaced, and which has the key from its start; None for none.
        opts: Pulumi's resource options.
    """

    def __init__(
        self,
        name: str,
        *,
        public_key: pulumi.Input[str],
        connections: Mapping[str, ConnectionArgs],
        replace_member: str | None,
        opts: pulumi.ResourceOptions,
    ) -> None:
        properties = {
            "public_key": public_key,
            "connections": pulumi.Output.secret(connections),
            "replace_member": replace_member,
        }
        super().__init__(LoginKeyProvider(), name, properties, opts)
