"""Which buckets a platform is asked to make, and what a program with one registers."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pulumi
import pytest

from etcd_cluster import AwsMachines, Backup, ConfigurationError, EtcdCluster, EtcdClusterArgs, GcpMachines
from etcd_cluster.errors import SecretText
from etcd_cluster.machines.buckets import Owner
from etcd_cluster.machines.local import LocalMachines
from etcd_cluster.settings import validate_arguments
from tests.unit import test_aws
from tests.unit.recording import Recorded, Recording, record

needs_sdk = pytest.mark.skipif(
    find_spec("pulumi_aws") is None or find_spec("pulumi_gcp") is None, reason="the clouds' SDKs are not installed"
)
AWS = AwsMachines(("subnet-a",), ssh_cidrs=["10.0.0.8/32"])
GCP = GcpMachines("main", "private", ("europe-west1-b",), ssh_ranges=["10.0.0.8/32"])


@pytest.mark.parametrize(
    ("machines", "backup", "key", "fix"),
    [
        (LocalMachines(), {"to": "s3://bucket/etcd"}, "backup.makeBucket", "make the bucket yourself"),
        (AWS, {"to": "gs://bucket/etcd"}, "backup.to", "write s3://BUCKET/PREFIX"),
        (GCP, {"to": "s3://bucket/etcd"}, "backup.to", "write gs://BUCKET/PREFIX"),
        (AWS, {"to": "/mnt/backups"}, "backup.to", "write s3://BUCKET/PREFIX"),
        (AWS, {"to": SecretText("s3://bucket/etcd")}, "backup.makeBucket", "as plain text"),
        (AWS, {"to": "s3://bucket/etcd", "endpoint": "https://s3.example.net"}, "backup.endpoint", "one of the two"),
        (AWS, {"to": "s3://b-1/etcd", "access_key": "A", "secret_key": "S"}, "backup.accessKey", "one of the two"),
        (GCP, {"to": "gs://bucket/etcd", "secret_key": "{}"}, "backup.secretKey", "one of the two"),
    ],
)
@needs_sdk
def test_a_bucket_that_nobody_can_make_is_refused(machines: Any, backup: dict[str, Any], key: str, fix: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        validate_arguments(EtcdClusterArgs(machines=machines, backup=Backup(**backup, make_bucket=True)))
    assert refused.value.key == key
    assert fix in refused.value.fix


def test_a_cluster_is_known_by_its_identity() -> None:
    assert Owner.parse("shop/prod/etcd") == Owner("shop", "prod", "etcd")
    assert Owner.parse("shop/prod/team/etcd") == Owner("shop", "prod", "team/etcd")


def build(preview: bool, **backup: Any) -> Recording:
    def program() -> None:
        given = Backup("s3://bucket/etcd", **backup)
        cluster = EtcdCluster("etcd", EtcdClusterArgs(machines=test_aws.machines(), backup=given))
        if cluster.backup_policy is not None:
            pulumi.export("backupPolicy", cluster.backup_policy)

    known = (lambda _: {}) if preview else results
    return record(program, preview=preview, results=known, calls=calls)


def results(resource: Recorded) -> dict[str, Any]:
    named = {"name": resource.name} if resource.type.startswith("aws:iam/") else {}
    return {**test_aws.results(resource), **named}


def calls(token: str, arguments: dict[str, Any]) -> dict[str, Any]:
    if token == "aws:index/getPartition:getPartition":
        return {"partition": "aws", "dnsSuffix": "amazonaws.com"}
    if token == "aws:resourcegroupstaggingapi/getResources:getResources":
        return {"resourceTagMappingLists": []}
    return test_aws.calls(token, arguments)


@needs_sdk
@pytest.mark.parametrize("preview", [True, False])
def test_machines_are_tried_once_the_bucket_and_its_rights_stand(preview: bool) -> None:
    recording = build(preview, make_bucket=True)
    schedule = recording.resources["etcd-backups"]
    waited = {urn.rpartition("::")[2] for urn in schedule.request.dependencies}
    assert {"etcd-rollout", "etcd-backup-bucket", "etcd-backup-bucket-tls", "etcd-backup-role-rights"} <= waited
    assert schedule.value("make_bucket") is True
    instance = recording.resources["etcd-etcd-1"]
    assert "etcd-backup-role-profile" in str(instance.request.propertyDependencies["iamInstanceProfile"])


@needs_sdk
def test_without_it_nothing_is_made_and_nothing_is_exported() -> None:
    recording = build(preview=False)
    assert not [name for name in recording.resources if "backup-" in name]
    assert "backupPolicy" not in recording.outputs["etcd"]
    assert recording.outputs["etcd-cluster-test"] == {}
