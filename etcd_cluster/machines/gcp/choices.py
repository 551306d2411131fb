"""Registers what a cluster on Google Cloud has only if it was chosen: a placement policy, a shared VPC's firewall."""

from __future__ import annotations

from typing import Any, cast

import pulumi
from pulumi_gcp import compute

from etcd_cluster.machines.gcp.limits import project_of_network

DOMAINS = 8
"""The most that a policy takes. Another number for more members would be another policy."""


def placement_policy(
    cluster: str, spread: bool | None, region: str, opts: pulumi.ResourceOptions
) -> pulumi.Output[str] | None:
    """Returns the policy that new machines are made under, which keeps them on different hardware.

    A policy that is in use cannot be deleted. So with `spread` False there is one, and no new machine is under it.
    """
    if spread is None:
        return None
    policy = compute.ResourcePolicy(
        f"{cluster}-spread",
        region=region,
        group_placement_policy=compute.ResourcePolicyGroupPlacementPolicyArgs(availability_domain_count=DOMAINS),
        description=f"Spreads the members of etcd cluster {cluster}",
        opts=opts,
    )
    return policy.self_link if spread else None


def network_project(network: pulumi.Input[str]) -> pulumi.Input[str] | None:
    """Returns the project that the firewall's rules are made in, if the network's link names one."""
    if isinstance(network, str):
        return project_of_network(network)
    later = cast("pulumi.Output[str]", pulumi.Output.from_input(cast(Any, network)))
    return cast("pulumi.Output[str]", later.apply(project_of_network))
