"""Registers a bucket on Google Cloud Storage, and the account of machines that write to it. Imports Google's SDK."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi_gcp import serviceaccount, storage

from etcd_cluster.machines.buckets import OLD_VERSION_DAYS, UNFINISHED_DAYS, Bucket, Owner, unanswered
from etcd_cluster.machines.gcp.limits import label, service_account_id

DAY_SECONDS = 86_400
SOFT_DELETE_DAYS = 7
"""Google's own default, said here: also what is deleted with all its versions can be brought back for so long."""

Labels = Mapping[str, pulumi.Input[str]]


def register_bucket(
    cluster: str, bucket: Bucket, region: str, labels: Labels, parent: pulumi.Resource
) -> storage.Bucket:
    """Registers the bucket: private, versioned, with rights by IAM alone. Google encrypts. `destroy` leaves it."""
    return storage.Bucket(
        f"{cluster}-backup-bucket",
        name=bucket.name,
        location=region.upper(),
        uniform_bucket_level_access=True,
        public_access_prevention="enforced",
        versioning=storage.BucketVersioningArgs(enabled=True),
        soft_delete_policy=storage.BucketSoftDeletePolicyArgs(
            retention_duration_seconds=SOFT_DELETE_DAYS * DAY_SECONDS
        ),
        lifecycle_rules=[
            storage.BucketLifecycleRuleArgs(
                action=storage.BucketLifecycleRuleActionArgs(type="Delete"),
                condition=storage.BucketLifecycleRuleConditionArgs(days_since_noncurrent_time=OLD_VERSION_DAYS),
            ),
            storage.BucketLifecycleRuleArgs(
                action=storage.BucketLifecycleRuleActionArgs(type="AbortIncompleteMultipartUpload"),
                condition=storage.BucketLifecycleRuleConditionArgs(age=UNFINISHED_DAYS),
            ),
        ],
        force_destroy=False,
        labels={**labels, **labels_of(bucket.owners[0])},
        opts=pulumi.ResourceOptions(
            parent=parent,
            import_=kept_bucket(bucket, pulumi.InvokeOptions(parent=parent)),
            retain_on_delete=True,
            # Another region would be another bucket.
            ignore_changes=["location"],
        ),
    )


def register_account(cluster: str, owner: Owner, parent: pulumi.Resource) -> pulumi.Output[str]:
    """Registers a service account without any right; returns its e-mail address."""
    return serviceaccount.Account(
        f"{cluster}-backup-account",
        account_id=service_account_id(owner.project, owner.stack, owner.cluster),
        display_name=f"Machines of etcd cluster {cluster}"[:100],
        opts=pulumi.ResourceOptions(parent=parent),
    ).email


def grant(
    cluster: str, bucket: Bucket, made: storage.Bucket, account: pulumi.Input[str], parent: pulumi.Resource
) -> list[pulumi.Resource]:
    """Registers the rights of a service account in the bucket."""
    member = pulumi.Output.format("serviceAccount:{0}", account)
    return [
        storage.BucketIAMMember(
            f"{cluster}-backup-{role.rpartition('.')[2]}",
            bucket=made.name,
            role=role,
            member=member,
            opts=pulumi.ResourceOptions(parent=parent),
        )
        for role in roles(bucket)
    ]


def roles(bucket: Bucket) -> list[str]:
    """Returns the least roles that backups need, on the bucket alone.

    https://cloud.google.com/storage/docs/access-control/iam-roles
    """
    if bucket.may_delete:
        return ["roles/storage.objectUser"]
    return ["roles/storage.objectCreator", "roles/storage.objectViewer"]


def rights_document(bucket: Bucket, account: str) -> str:
    """Returns the bindings of a bucket's IAM policy."""
    return json.dumps(
        {"bindings": [{"role": role, "members": [f"serviceAccount:{account}"]} for role in roles(bucket)]}
    )


def labels_of(owner: Owner) -> dict[str, str]:
    """Returns the labels by which a bucket of before is known."""
    return {
        "pulumi-project": label(owner.project),
        "pulumi-stack": label(owner.stack),
        "etcd-cluster": label(owner.cluster),
    }


def kept_bucket(bucket: Bucket, lookup: pulumi.InvokeOptions) -> str | None:
    """Returns the bucket's name if it stands already and was made for one of its owners.

    One of anybody else is not taken up: Google then refuses to make it.
    """
    try:
        found = storage.get_buckets(prefix=bucket.name, opts=lookup)
    except Exception as error:  # Pulumi has no narrower one
        raise unanswered(bucket, error, "storage.buckets.list") from None
    for each in found.buckets or ():
        known: Mapping[str, Any] = each.labels or {}
        if each.name == bucket.name and any(labels_of(owner).items() <= known.items() for owner in bucket.owners):
            return bucket.name
    return None
