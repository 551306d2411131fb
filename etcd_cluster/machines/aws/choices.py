"""Registers what a cluster on AWS has only if it was chosen: a placement group, alarms, keys by alias."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_aws as aws

from etcd_cluster.machines.machine import LATER


def placement_group(
    cluster: str, spread: bool | None, tags: Mapping[str, pulumi.Input[str]], opts: pulumi.ResourceOptions
) -> pulumi.Output[str] | None:
    """Returns the name of the group that new machines are made in, which keeps each on a rack of its own.

    A group that still has machines cannot be deleted. So with `spread` False there is one, and no new machine in it.
    """
    if spread is None:
        return None
    group = aws.ec2.PlacementGroup(f"{cluster}-spread", strategy="spread", tags=tags, opts=opts)
    return group.name if spread else None


def recovery_alarm(
    name: str, instance: aws.ec2.Instance, tags: Mapping[str, pulumi.Input[str]], opts: pulumi.ResourceOptions
) -> None:
    """Registers an alarm that has AWS recover the instance: on other hardware, with its id, disks and address.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/cloudwatch-recovery.html
    """
    aws.cloudwatch.MetricAlarm(
        f"{name}-recovery",
        namespace="AWS/EC2",
        metric_name="StatusCheckFailed_System",
        dimensions={"InstanceId": instance.id},
        statistic="Minimum",
        comparison_operator="GreaterThanThreshold",
        threshold=0,
        period=60,
        evaluation_periods=2,
        alarm_actions=[instance.arn.apply(_recover)],
        alarm_description="Recovers a machine whose hardware fails",
        tags=tags,
        opts=opts,
    )


def _recover(instance_arn: str | None) -> str:
    """Returns the action for an instance's partition and region: arn:PARTITION:ec2:REGION:... Mocks give no ARN."""
    if instance_arn is None:
        return LATER
    _, partition, _, region, *_ = instance_arn.split(":")
    return f"arn:{partition}:automate:{region}:ec2:recover"


def key_arn(given: pulumi.Input[str] | None, lookup: pulumi.InvokeOptions) -> pulumi.Input[str] | None:
    """Returns the ARN of the key itself, for an alias as well.

    AWS answers the key's ARN, so the alias would differ from it for ever, and that difference is a replacement.
    """
    if given is None or (isinstance(given, str) and ":alias/" not in given):
        return given

    def resolved(known: str | None) -> Any:  # None: mocks of a cloud give no ARN
        return aws.kms.get_key_output(key_id=known, opts=lookup).arn if known and ":alias/" in known else known

    return pulumi.Output.from_input(given).apply(resolved)
