"""The MachineReplacement resource: a running machine is replaced only while every other member is healthy."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

import pulumi
from pulumi.dynamic import Resource
from pulumi_command.remote import ConnectionArgs

from etcd_cluster.providers import MachineReplacementProvider


class MachineReplacement(Resource, module="cluster", name="MachineReplacement"):
    """A resource that a machine to be replaced depends on. See `machines.machine.Guard`.

    Args:
        name: Name of the resource.
        replace_member: The member whose machine is to be replaced; None for none.
        is_dead: The machine is known to be dead: it is replaced although nobody can report on it.
        connections: Member name -> SSH connection (secret).
        quota_bytes: The quota of the size: members get it in this run or, while `size` grows, with the last machine.
        opts: Pulumi's resource options.

    Attributes:
        run: Token of the run that asked last; "" if nothing was to be replaced.
    """

    run: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        *,
        replace_member: str | None,
        is_dead: bool = False,
        connections: Mapping[str, ConnectionArgs],
        quota_bytes: int,
        opts: pulumi.ResourceOptions,
    ) -> None:
        self._token = secrets.token_hex(8) if replace_member and not pulumi.runtime.is_dry_run() else None
        properties = {
            "replace_member": replace_member,
            "is_dead": is_dead or None,
            "connections": pulumi.Output.secret(connections),
            "quota_bytes": quota_bytes if replace_member else None,
            "run": self._token,
        }
        super().__init__(MachineReplacementProvider(), name, properties, opts)

    def once_asked(self) -> pulumi.Input[pulumi.Resource]:
        """Returns this resource for `depends_on`, once it has asked in this very run.

        `pulumi up --target` may leave it as an earlier run left it: then what depends on it is not touched.
        """
        if self._token is None:
            return self

        def require_asked(run: str) -> pulumi.Resource:
            if run != self._token:
                from etcd_cluster.rollout.planner.actions import Refusal  # lazily: a program needs no planner
                from etcd_cluster.rollout.planner.refusals import RefusedError

                raise RefusedError(Refusal.REPLACEMENT_WITHOUT_ASKING)
            return self

        return self.run.apply(require_asked)
