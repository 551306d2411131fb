"""Stories of the bucket that backups go to, where the stack makes it: it outlives the stack, and is taken up again."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pulumi
import pytest

from etcd_cluster import SIZES
from etcd_cluster.backup.arguments import Backup
from etcd_cluster.backup.bucket import make_bucket
from tests.clouds.simulator import BUCKET, GOOGLE_BUCKET, PROJECT, STACK, Account, Run, Stack
from tests.clouds.test_stories import CLOUDS, DATA, Given, given, machine_of, pytestmark

__all__ = ["pytestmark"]

NAME = "shop-etcd-backups"
BUCKET_OF = {"aws": BUCKET, "gcp": GOOGLE_BUCKET}
SCHEME = {"aws": "s3", "gcp": "gs"}
ROLE = {"aws": "iamInstanceProfile", "gcp": "serviceAccount"}


def program(cloud: str, machines: Given | None = None, stack: str = STACK, **changes: Any) -> Callable[[], None]:
    """The machines and their bucket, as the component registers them. `None` for `make`: no bucket."""
    platform = machines or given(cloud)
    before: str | None = changes.pop("before", None)
    backup = Backup(**{"to": f"{SCHEME[cloud]}://{NAME}/etcd", "make_bucket": True, **changes})

    def register() -> None:
        parent = pulumi.ComponentResource("test:index:Machines", "etcd")
        made = make_bucket("etcd", backup, platform, f"{PROJECT}/{stack}/etcd", before, parent)
        used = made.machines if made else platform
        used.provision("etcd", used.member_names(3), SIZES["small"], parent)
        if made:
            pulumi.export("rights", made.rights)

    return register


def up(stack: Stack, run: Callable[[], None]) -> Run:
    ran = stack.up(run)
    assert ran.ok, ran.text
    return ran


def of_bucket(account: Account, cloud: str) -> dict[str, dict[str, Any]]:
    """What stands of the bucket, by type."""
    kinds = ("aws:s3/",) if cloud == "aws" else ("gcp:storage/bucket:",)
    return {each.type: each.inputs for each in account.standing.values() if each.type.startswith(kinds)}


@CLOUDS
def test_a_bucket_is_made_once_and_its_machines_may_write_to_it(account: Account, stack: Stack, cloud: str) -> None:
    up(stack, program(cloud))
    (bucket,) = account.of_type(BUCKET_OF[cloud])
    assert bucket.id == NAME
    assert bucket.inputs["forceDestroy"] is False
    for member in ("etcd-1", "etcd-2", "etcd-3"):
        assert account.standing[machine_of(account, cloud, member)].inputs[ROLE[cloud]]
    assert up(stack, program(cloud)).steps == []
    assert stack.preview(program(cloud)).steps == []


@CLOUDS
def test_a_bucket_outlives_the_stack_with_all_that_guards_it_and_is_taken_up_again(
    account: Account, stack: Stack, cloud: str
) -> None:
    up(stack, program(cloud))
    before = of_bucket(account, cloud)
    assert stack.destroy().ok
    assert of_bucket(account, cloud) == before
    assert {each.type for each in account.standing.values()} == {*before, DATA[cloud]}
    again = up(stack, program(cloud))
    assert ("import", "etcd-backup-bucket") in again.steps
    assert of_bucket(account, cloud) == before
    assert up(stack, program(cloud)).steps == []


@CLOUDS
def test_a_bucket_of_another_stack_is_not_taken_up(account: Account, stack: Stack, cloud: str) -> None:
    up(stack, program(cloud))
    other = Stack(account, "other")
    refused = other.up(program(cloud, stack="other"))
    assert not refused.ok
    assert "already" in refused.text.lower()


@CLOUDS
def test_a_cluster_that_moved_takes_its_bucket_along(account: Account, stack: Stack, cloud: str) -> None:
    up(stack, program(cloud))
    assert stack.destroy().ok
    other = Stack(account, "other")
    moved = up(other, program(cloud, stack="other", before=f"{PROJECT}/{STACK}/etcd"))
    assert ("import", "etcd-backup-bucket") in moved.steps
    tags = account.standing[NAME].tags
    assert "other" in (tags.get("pulumi:stack"), tags.get("pulumi-stack"))
    assert up(other, program(cloud, stack="other")).steps == []


@CLOUDS
def test_without_make_bucket_the_bucket_stays_with_its_backups(account: Account, stack: Stack, cloud: str) -> None:
    up(stack, program(cloud))
    before = of_bucket(account, cloud)
    up(stack, program(cloud, make_bucket=False))
    assert of_bucket(account, cloud) == before


@CLOUDS
def test_a_bucket_of_another_name_leaves_the_one_before(account: Account, stack: Stack, cloud: str) -> None:
    up(stack, program(cloud))
    up(stack, program(cloud, to=f"{SCHEME[cloud]}://another-name/etcd"))
    assert {each.id for each in account.of_type(BUCKET_OF[cloud])} == {NAME, "another-name"}


@CLOUDS
def test_a_role_of_the_callers_stays_and_is_told_what_it_needs(account: Account, stack: Stack, cloud: str) -> None:
    email = "etcd@project.iam.gserviceaccount.com"
    own: dict[str, Any] = {"instance_profile": "mine"} if cloud == "aws" else {"service_account": email}
    up(stack, program(cloud, given(cloud, **own)))
    kinds = {each.type for each in account.standing.values()}
    assert not [kind for kind in kinds if kind.startswith(("aws:iam/", "gcp:serviceaccount/"))]
    used = account.standing[machine_of(account, cloud, "etcd-1")].inputs[ROLE[cloud]]
    assert "mine" in str(used) or email in str(used)


@pytest.mark.parametrize("append_only", [False, True])
def test_rights_on_aws_are_the_least(account: Account, stack: Stack, append_only: bool) -> None:
    up(stack, program("aws", append_only=append_only))
    (attached,) = account.of_type("aws:iam/rolePolicy:RolePolicy")
    listing, objects = json.loads(attached.inputs["policy"])["Statement"]
    assert listing["Condition"] == {"StringLike": {"s3:prefix": "etcd/*"}}
    assert (listing["Action"], listing["Resource"]) == ("s3:ListBucket", f"arn:aws-cn:s3:::{NAME}")
    expected = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"]
    assert objects["Action"] == [*expected, *([] if append_only else ["s3:DeleteObject"])]
    assert objects["Resource"] == f"arn:aws-cn:s3:::{NAME}/etcd/*"
    (role,) = account.of_type("aws:iam/role:Role")
    assert json.loads(role.inputs["assumeRolePolicy"])["Statement"][0]["Principal"] == {
        "Service": "ec2.amazonaws.com.cn"
    }


@pytest.mark.parametrize(
    ("append_only", "roles"),
    [
        (False, ["roles/storage.objectUser"]),
        (True, ["roles/storage.objectCreator", "roles/storage.objectViewer"]),
    ],
)
def test_rights_on_google_cloud_are_the_least(
    account: Account, stack: Stack, append_only: bool, roles: Sequence[str]
) -> None:
    up(stack, program("gcp", append_only=append_only))
    granted = account.of_type("gcp:storage/bucketIAMMember:BucketIAMMember")
    assert sorted(each.inputs["role"] for each in granted) == roles
    (made,) = account.of_type("gcp:serviceaccount/account:Account")
    assert {each.inputs["member"] for each in granted} == {f"serviceAccount:{made.inputs['email']}"}
    assert 6 <= len(made.inputs["accountId"]) <= 30


@CLOUDS
def test_without_the_right_to_look_nothing_is_made(account: Account, stack: Stack, cloud: str) -> None:
    """Else a bucket of before would be passed over."""
    account.denied = {
        "aws": "aws:resourcegroupstaggingapi/getResources:getResources",
        "gcp": "gcp:storage/getBuckets:getBuckets",
    }[cloud]
    refused = stack.up(program(cloud))
    assert not refused.ok
    assert "nobody can say whether there is such a bucket from before" in refused.text
    assert account.standing == {}
