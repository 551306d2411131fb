"""Registers a bucket on S3, and the role of machines that write to it. Imports the AWS SDK."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_aws as aws
from pulumi_aws import iam, resourcegroupstaggingapi, s3

from etcd_cluster.machines.buckets import OLD_VERSION_DAYS, UNFINISHED_DAYS, Bucket, Owner, unanswered

Tags = Mapping[str, pulumi.Input[str]]


def register_bucket(cluster: str, bucket: Bucket, tags: Tags, parent: pulumi.Resource) -> list[pulumi.Resource]:
    """Registers the bucket: private, encrypted, versioned, over TLS alone. `destroy` leaves all of it as it is."""
    name = f"{cluster}-backup-bucket"
    made = s3.Bucket(
        name,
        bucket=bucket.name,
        force_destroy=False,
        tags={**tags, "Name": name, **tags_of(bucket.owners[0])},
        opts=_kept(parent, import_=kept_bucket(bucket, pulumi.InvokeOptions(parent=parent))),
    )
    closed = s3.BucketPublicAccessBlock(
        f"{name}-private",
        bucket=made.id,
        block_public_acls=True,
        block_public_policy=True,
        ignore_public_acls=True,
        restrict_public_buckets=True,
        opts=_kept(parent),
    )
    # One after the other: S3 refuses two changes of a bucket at once (OperationAborted).
    versioned = s3.BucketVersioning(
        f"{name}-versions",
        bucket=made.id,
        versioning_configuration=s3.BucketVersioningVersioningConfigurationArgs(status="Enabled"),
        opts=_kept(parent, depends_on=[closed]),
    )
    encrypted = s3.BucketServerSideEncryptionConfiguration(
        f"{name}-encryption",
        bucket=made.id,
        rules=[
            s3.BucketServerSideEncryptionConfigurationRuleArgs(
                apply_server_side_encryption_by_default=s3.BucketServerSideEncryptionConfigurationRuleApplyServerSideEncryptionByDefaultArgs(
                    sse_algorithm="AES256"
                )
            )
        ],
        opts=_kept(parent, depends_on=[versioned]),
    )
    expiring = s3.BucketLifecycleConfiguration(
        f"{name}-lifecycle",
        bucket=made.id,
        rules=[
            s3.BucketLifecycleConfigurationRuleArgs(
                id="old-versions-and-unfinished-uploads",
                status="Enabled",
                filter=s3.BucketLifecycleConfigurationRuleFilterArgs(prefix=""),
                noncurrent_version_expiration=s3.BucketLifecycleConfigurationRuleNoncurrentVersionExpirationArgs(
                    noncurrent_days=OLD_VERSION_DAYS
                ),
                expiration=s3.BucketLifecycleConfigurationRuleExpirationArgs(expired_object_delete_marker=True),
                abort_incomplete_multipart_upload=s3.BucketLifecycleConfigurationRuleAbortIncompleteMultipartUploadArgs(
                    days_after_initiation=UNFINISHED_DAYS
                ),
            )
        ],
        opts=_kept(parent, depends_on=[encrypted]),
    )
    policy = s3.BucketPolicy(
        f"{name}-tls",
        bucket=made.id,
        policy=_partition(parent).apply(lambda partition: _tls_only(partition, bucket.name)),
        opts=_kept(parent, depends_on=[expiring]),
    )
    return [made, closed, versioned, encrypted, expiring, policy]


def register_role(
    cluster: str, rights: pulumi.Output[str], tags: Tags, parent: pulumi.Resource
) -> tuple[pulumi.Output[str], list[pulumi.Resource]]:
    """Registers a role with those rights; returns the name of its instance profile, and what it is made of."""
    name = f"{cluster}-backup-role"
    opts, own = pulumi.ResourceOptions(parent=parent), {**tags, "Name": name}
    suffix = aws.get_partition_output(opts=pulumi.InvokeOptions(parent=parent)).dns_suffix
    role = iam.Role(
        name,
        description=f"Machines of etcd cluster {cluster}: backups",
        assume_role_policy=suffix.apply(
            lambda known: _document(
                {"Effect": "Allow", "Principal": {"Service": f"ec2.{known}"}, "Action": "sts:AssumeRole"}
            )
        ),
        tags=own,
        opts=opts,
    )
    attached = iam.RolePolicy(f"{name}-rights", role=role.id, policy=rights, opts=opts)
    profile = iam.InstanceProfile(f"{name}-profile", role=role.name, tags=own, opts=opts)
    return profile.name, [attached, profile]


def rights_in(bucket: Bucket, parent: pulumi.Resource) -> pulumi.Output[str]:
    """Returns the policy document of a role that writes to the bucket: the least that backups need."""
    return _partition(parent).apply(lambda partition: rights_document(partition, bucket))


def rights_document(partition: str, bucket: Bucket) -> str:
    """Returns the same for a known partition of AWS, such as aws or aws-cn. Pure."""
    arn, below = f"arn:{partition}:s3:::{bucket.name}", f"{bucket.prefix}/*" if bucket.prefix else "*"
    objects = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"]
    return _document(
        {
            "Effect": "Allow",
            "Action": "s3:ListBucket",
            "Resource": arn,
            **({"Condition": {"StringLike": {"s3:prefix": below}}} if bucket.prefix else {}),
        },
        {
            "Effect": "Allow",
            "Action": [*objects, *(["s3:DeleteObject"] if bucket.may_delete else [])],
            "Resource": f"{arn}/{below}",
        },
    )


def _tls_only(partition: str, bucket: str) -> str:
    arn = f"arn:{partition}:s3:::{bucket}"
    return _document(
        {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [arn, f"{arn}/*"],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
    )


def _document(*statements: Mapping[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def _partition(parent: pulumi.Resource) -> pulumi.Output[str]:
    return aws.get_partition_output(opts=pulumi.InvokeOptions(parent=parent)).partition


def tags_of(owner: Owner) -> dict[str, str]:
    """Returns the tags by which a bucket of before is known."""
    return {"pulumi:project": owner.project, "pulumi:stack": owner.stack, "etcd:cluster": owner.cluster}


def kept_bucket(bucket: Bucket, lookup: pulumi.InvokeOptions) -> str | None:
    """Returns the bucket's name if it stands already and was made for one of its owners.

    One of anybody else is not taken up: S3 then refuses to make it.
    """
    clusters = sorted({owner.cluster for owner in bucket.owners})
    by_cluster = resourcegroupstaggingapi.GetResourcesTagFilterArgs(key="etcd:cluster", values=clusters)
    try:
        found = resourcegroupstaggingapi.get_resources(
            resource_type_filters=["s3:bucket"], tag_filters=[by_cluster], opts=lookup
        )
    except Exception as error:  # Pulumi has no narrower one
        raise unanswered(bucket, error, "tag:GetResources") from None
    for each in found.resource_tag_mapping_lists or ():
        tags = each.tags or {}
        if each.resource_arn.rpartition(":")[2] == bucket.name and any(
            tags_of(owner).items() <= tags.items() for owner in bucket.owners
        ):
            return bucket.name
    return None


def _kept(parent: pulumi.Resource, **options: Any) -> pulumi.ResourceOptions:
    return pulumi.ResourceOptions(parent=parent, retain_on_delete=True, **options)
