"""What a change of `size` does to members whose machines are still those of before."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import Any

import pytest

from etcd_cluster import SIZES, EtcdClusterArgs
from etcd_cluster.etcd.sizes import GIB, MIB
from etcd_cluster.machines.aws import instance_types
from etcd_cluster.machines.gcp import machine_types
from etcd_cluster.machines.size_change import UNKNOWN_SIZE, fitting_size, runs_left, smallest_size
from tests.unit import test_aws
from tests.unit.recording import Recorded, Recording, record

needs_sdk = pytest.mark.skipif(find_spec("pulumi_aws") is None, reason="pulumi_aws is not installed")


@pytest.mark.parametrize(
    ("machine_type", "size", "expected"),
    [
        ("m4.xlarge", "large", "medium"),
        ("m4.large", "xlarge", "small"),
        ("m4.4xlarge", "medium", "medium"),  # larger than asked for: it is large enough for what is asked for
        ("m7i.2xlarge", "large", "large"),  # another type, as large
        ("r7i.large", "large", "small"),  # enough memory for medium, but not enough processors
        ("t3.micro", "large", "small"),
        ("x2gd.large", "large", UNKNOWN_SIZE),
    ],
)
def test_a_machine_of_before_fits_the_largest_row_that_its_type_has(
    machine_type: str, size: Any, expected: str
) -> None:
    wanted = SIZES[size].aws.instance_type
    assert fitting_size(machine_type, wanted, SIZES[size], instance_types.is_sufficient) == expected


def test_a_machine_of_the_type_that_is_asked_for_fits_the_size_whatever_is_known_of_it() -> None:
    assert fitting_size("x2gd.large", "x2gd.large", SIZES["large"], instance_types.is_sufficient) == "large"


@pytest.mark.parametrize(
    ("machine_type", "expected"),
    [
        ("n1-standard-4", True),
        ("n2-highcpu-4", False),
        ("n1-standard-2", False),
        ("n2-custom-4-16384", True),
        ("custom-4-8192", False),
        ("e2-custom-2-16384", False),
        ("e2-medium", False),
        ("f1-micro", False),
        ("m1-ultramem-40", None),
    ],
)
def test_google_types_are_compared_with_a_row(machine_type: str, expected: bool | None) -> None:
    assert machine_types.is_sufficient(machine_type, SIZES["medium"]) is expected


def test_the_smallest_row_that_is_known_counts() -> None:
    assert smallest_size(["large", "medium", "large"], SIZES["large"]).name == "medium"
    assert smallest_size([UNKNOWN_SIZE, "medium"], SIZES["large"]).name == "medium"
    assert smallest_size([UNKNOWN_SIZE], SIZES["large"]).name == "large"
    assert smallest_size([], SIZES["small"]).name == "small"


def test_nothing_is_said_where_all_machines_are_alike() -> None:
    assert runs_left({"etcd-1": "m4.large"}, "m4.large", "size small", "aws.replaceMember") is None


# --- the component ---


def standing_on(types: dict[str, str]) -> Any:
    def results(resource: Recorded) -> dict[str, Any]:
        found = test_aws.results(resource)
        if resource.name[5:] in types and resource.type.endswith(":Instance"):
            return {**found, "instanceType": types[resource.name[5:]]}
        return found

    return results


def grown(types: dict[str, str], **arguments: Any) -> Recording:
    """A cluster of size large of which some machines stand on these types."""
    from etcd_cluster import EtcdCluster

    def program() -> None:
        EtcdCluster("etcd", EtcdClusterArgs(machines=test_aws.machines(), **{"size": "large", **arguments}))

    return record(program, results=standing_on(types), calls=test_aws.calls)


def quotas(recording: Recording) -> tuple[Any, ...]:
    rollout = recording.resources["etcd-rollout"]
    desired = json.loads(rollout.value("desired"))
    return rollout.value("size"), desired["quota_bytes"], desired["options"]["quota-backend-bytes"]


@needs_sdk
def test_the_quota_follows_with_the_last_machine() -> None:
    assert quotas(grown({"etcd-1": "m4.xlarge"})) == ("medium", 4 * GIB, 4 * GIB)
    assert quotas(grown({})) == ("large", 8 * GIB, 8 * GIB)


@needs_sdk
def test_a_quota_of_the_users_own_holds_as_far_as_the_memory_of_every_machine_does() -> None:
    own = {"etcd": {"quota-backend-bytes": 6 * GIB}}
    assert quotas(grown({"etcd-1": "m4.xlarge"}, **own))[2] == 6 * GIB
    most = SIZES["small"].minimum_memory_mib * MIB
    recording = grown({"etcd-1": "m4.large"}, etcd={"quota-backend-bytes": 8 * GIB})
    assert quotas(recording)[2] == most
    assert json.loads(recording.resources["etcd-rollout"].value("desired"))["user_options"] == {
        "quota-backend-bytes": most
    }


@needs_sdk
def test_a_machine_that_waits_for_its_replacement_is_not_refused_and_a_new_one_is_measured() -> None:
    recording = grown({"etcd-1": "m4.xlarge"})
    lines = {name: recording.resources[f"etcd-{name}-check"].value("create") for name in test_aws.NAMES}
    assert {name: line.partition("undersized=")[2].split()[0] for name, line in lines.items()} == {
        "etcd-1": "allow",
        "etcd-2": "refuse",
        "etcd-3": "refuse",
    }


@needs_sdk
def test_who_allows_undersized_machines_has_the_quota_that_is_asked_for() -> None:
    assert quotas(grown({"etcd-1": "m4.xlarge"}, allow_undersized=True))[2] == 8 * GIB


@needs_sdk
def test_a_preview_of_new_machines_counts_them_as_those_that_are_asked_for() -> None:
    recording = test_aws.build(preview=True, size="large")
    assert recording.resources["etcd-rollout"].value("size") == "large"
    assert "undersized=refuse" in recording.resources["etcd-etcd-1-check"].value("create")
    assert [each for each in recording.warnings if "after this run" in each] == []
