"""The rules of AWS and Google Cloud that decide over a machine's life, as their providers and their APIs publish them.

What moto and Pulumi's mocks let pass, a cloud refuses or replaces. Each entry names where it is from, in the providers'
sources (github.com/hashicorp/terraform-provider-aws and terraform-provider-google, which Pulumi's providers are made
of: `ForceNew`, `RequiresReplace`, `CustomizeDiff`) or in the API's own documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Inputs = Mapping[str, Any]


@dataclass(frozen=True)
class Rules:
    """Of one type of resource.

    replaces: inputs whose change makes another resource. replaces_if: the same, if old and new value say so.
    refuses_in_place: input -> the provider's error when it changes without a replacement.
    """

    replaces: frozenset[str] = frozenset()
    replaces_if: Mapping[str, Callable[[Any, Any], bool]] = field(default_factory=dict[str, Any])
    refuses_in_place: Mapping[str, str] = field(default_factory=dict[str, str])


def rules(*replaces: str, **more: Any) -> Rules:
    return Rules(frozenset(replaces), **more)


def _within(*keys: str) -> Callable[[Any, Any], bool]:
    """One of these keys of a block differs."""
    return lambda old, new: any((old or {}).get(key) != (new or {}).get(key) for key in keys)


def _another_address_in_the_same_subnet(old: list[Any], new: list[Any]) -> bool:
    if len(old) != len(new):
        return True
    pairs = zip(old, new, strict=True)
    return any(
        a.get("networkIp") != b.get("networkIp") and a.get("subnetwork") == b.get("subnetwork") for a, b in pairs
    )


def _is_another(old: Any, new: Any) -> bool:
    """Of an input that the provider computes if it is not given."""
    return old is not None and new != old


def _another_primary_address(old: list[str] | None, new: list[str] | None) -> bool:
    """Addresses that are no longer given stay as they are: they are computed as well."""
    return bool(new and (not old or old[0] not in new))


def _another_boot_disk(old: Any, new: Any) -> bool:
    """All of it is ForceNew but these."""

    def forcing(disk: Any) -> Any:
        params = disk.get("initializeParams") or {}
        rest = {key: value for key, value in params.items() if key not in ("labels", "size")}
        return rest, {key: disk[key] for key in disk if key not in ("autoDelete", "initializeParams", "interface")}

    return bool(forcing(old or {}) != forcing(new or {}))


def _comes_or_goes(old: Any, new: Any) -> bool:
    return old is None or new is None


SOURCES = ("cidrIpv4", "cidrIpv6", "referencedSecurityGroupId")
SHRINKS = "InvalidParameterValue: New size cannot be smaller than existing size"
STOP_FIRST = "Changing the machine_type on a started instance requires stopping it: allow_stopping_for_update"

RULES: Mapping[str, Rules] = {
    # internal/service/ec2/ec2_instance.go. User data and type stop and start the instance, in place.
    "aws:ec2/instance:Instance": rules(
        *("ami", "availabilityZone", "ebsOptimized", "keyName", "subnetId", "primaryNetworkInterface"),
        "placementGroup",
        replaces_if={"rootBlockDevice": _within("encrypted", "kmsKeyId")},
    ),
    # internal/service/ec2/ebs_volume.go. It never shrinks: docs.aws.amazon.com, API_ModifyVolume
    "aws:ebs/volume:Volume": rules(
        *("availabilityZone", "encrypted", "kmsKeyId", "multiAttachEnabled", "outpostArn", "snapshotId")
    ),
    # internal/service/ec2/ebs_volume_attachment.go
    "aws:ec2/volumeAttachment:VolumeAttachment": rules("deviceName", "instanceId", "volumeId"),
    # internal/service/ec2/vpc_network_interface.go (CustomizeDiff: another primary address)
    "aws:ec2/networkInterface:NetworkInterface": rules(
        *("interfaceType", "subnetId"), replaces_if={"privateIps": _another_primary_address}
    ),
    # internal/service/ec2/vpc_security_group.go
    "aws:ec2/securityGroup:SecurityGroup": rules("description", "name", "vpcId"),
    # internal/service/ec2/vpc_security_group_ingress_rule.go. Another source of the same kind: in place.
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": rules(
        "securityGroupId", replaces_if=dict.fromkeys(SOURCES, _comes_or_goes)
    ),
    "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule": rules("securityGroupId"),
    # google/services/compute/resource_compute_instance.go
    "gcp:compute/instance:Instance": rules(
        *("confidentialInstanceConfig", "guestAccelerators", "hostname", "metadataStartupScript", "name", "params"),
        *("project", "scratchDisks", "zone"),
        replaces_if={
            "bootDisk": _another_boot_disk,
            "networkInterfaces": _another_address_in_the_same_subnet,
        },
        # needToStopInstanceBeforeUpdating
        refuses_in_place={
            "machineType": STOP_FIRST,
            "serviceAccount": STOP_FIRST.replace("machine_type", "service_account"),
            "shieldedInstanceConfig": STOP_FIRST.replace("machine_type", "shielded_instance_config"),
            "advancedMachineFeatures": STOP_FIRST.replace("machine_type", "advanced_machine_features"),
            # A machine can leave its policy only while it is stopped: cloud.google.com/compute/docs/instances,
            # use-spread-placement-policies.
            "resourcePolicies": "the resource policy of a running instance cannot change",
        },
    ),
    # google/services/compute/resource_compute_disk.go (IsDiskShrinkage)
    "gcp:compute/disk:Disk": rules(
        *("description", "diskEncryptionKey", "image", "name", "physicalBlockSizeBytes", "project", "snapshot", "type"),
        "zone",
        replaces_if={"size": lambda old, new: new < old},
    ),
    # google/services/compute/resource_compute_address.go: all but labels
    "gcp:compute/address:Address": rules(
        *("address", "addressType", "description", "ipVersion", "name", "network", "networkTier", "prefixLength"),
        *("project", "purpose", "region", "subnetwork"),
    ),
    # google/services/compute/resource_compute_firewall.go. The provider sends another network in place; Google refuses.
    "gcp:compute/firewall:Firewall": rules(
        *("direction", "name", "params"),
        replaces_if={"project": _is_another},
        refuses_in_place={"network": "Invalid value for field 'resource.network': it cannot be changed"},
    ),
    # google/services/compute/resource_compute_resource_policy.go
    "gcp:compute/resourcePolicy:ResourcePolicy": rules("groupPlacementPolicy", "name", "region"),
    # internal/service/ec2/ec2_placement_group.go: all but tags
    "aws:ec2/placementGroup:PlacementGroup": rules("name", "spreadLevel", "strategy"),
    # internal/service/s3/bucket.go, bucket_versioning.go, bucket_policy.go and so on: of another bucket, another one
    "aws:s3/bucket:Bucket": rules("bucket", "bucketPrefix", "objectLockEnabled"),
    **{
        f"aws:s3/{kind[0].lower()}{kind[1:]}:{kind}": rules("bucket", "expectedBucketOwner")
        for kind in (
            *("BucketPublicAccessBlock", "BucketVersioning", "BucketServerSideEncryptionConfiguration"),
            *("BucketLifecycleConfiguration", "BucketPolicy"),
        )
    },
    # internal/service/iam/role.go, role_policy.go, instance_profile.go
    "aws:iam/role:Role": rules("name", "namePrefix", "path"),
    "aws:iam/rolePolicy:RolePolicy": rules("name", "namePrefix", "role"),
    "aws:iam/instanceProfile:InstanceProfile": rules("name", "namePrefix", "path"),
    # google/services/storage/resource_storage_bucket.go
    "gcp:storage/bucket:Bucket": rules(
        *("customPlacementConfig", "enableObjectRetention", "hierarchicalNamespace", "location", "name", "project")
    ),
    # google/tpgiamresource/resource_iam_member.go: all of it
    "gcp:storage/bucketIAMMember:BucketIAMMember": rules("bucket", "condition", "member", "role"),
    # google/services/resourcemanager/resource_google_service_account.go
    "gcp:serviceaccount/account:Account": rules("accountId", "project"),
    # internal/service/route53/record.go: another type in place, by an upsert of both
    "aws:route53/record:Record": rules("name", "zoneId"),
    # google/services/dns/resource_dns_record_set.go
    "gcp:dns/recordSet:RecordSet": rules("managedZone", "name", replaces_if={"project": _is_another}),
    # internal/service/cloudwatch/metric_alarm.go
    "aws:cloudwatch/metricAlarm:MetricAlarm": rules("name"),
}
