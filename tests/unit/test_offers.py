"""Types that a zone lacks: what is refused, what is named in their place, and that no answer stops nothing."""

from __future__ import annotations

import pytest

from etcd_cluster import SIZES, ConfigurationError
from etcd_cluster.etcd.sizes import Size
from etcd_cluster.machines.aws import instance_types
from etcd_cluster.machines.aws.limits import capacity
from etcd_cluster.machines.gcp import machine_types
from etcd_cluster.machines.offers import Question

ASKED = Question("aws.instanceType", "m4.large", ["m7i.large", "m5.large"], "2 vCPUs and 8 GiB", "aws.subnetIds")


@pytest.mark.parametrize(
    ("offers", "new"),
    [
        ({}, ["a"]),
        ({"m4.large": ["a", "b"]}, ["a", "b"]),
        ({"m4.large": ["a"]}, ["a"]),  # b has a machine that stands
        ({"m5.large": ["a"]}, []),
    ],
)
def test_these_pass(offers: dict[str, list[str]], new: list[str]) -> None:
    ASKED.require_offered(offers, new, ["a", "b"])


@pytest.mark.parametrize(
    ("offers", "fix"),
    [
        ({"m7i.large": ["a", "b"], "m5.large": ["a", "b"]}, "use m7i.large, which has 2 vCPUs and 8 GiB"),
        ({"m7i.large": ["a"], "m5.large": ["a", "b"]}, "use m5.large, which has 2 vCPUs and 8 GiB"),
        ({"m7i.large": ["a"]}, "use a type that is offered in a, b, or other aws.subnetIds"),
    ],
)
def test_the_nearest_type_that_all_zones_offer_is_named(offers: dict[str, list[str]], fix: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        ASKED.require_offered(offers, ["b"], ["a", "b"])
    assert error.value.key == "aws.instanceType"
    assert "not offered in b" in str(error.value)
    assert error.value.fix.startswith(fix)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
@pytest.mark.parametrize("arm", [False, True])
def test_what_is_named_in_its_place_has_what_the_row_has(size: Size, arm: bool) -> None:
    asked = instance_types.question("m7g.large" if arm else size.aws.instance_type, size)
    assert {capacity(each) for each in asked.alternatives} == {(size.aws.vcpus, size.aws.memory_gb)}
    of_google = machine_types.question(size.gce.machine_type, size)
    for each in of_google.alternatives:
        assert machine_types.is_sufficient(each, size)
        machine_types.require_ssd_and_secure_boot(each, size)


@pytest.mark.parametrize(
    "machine_type", ["e2-micro", "e2-small", "e2-medium", "f1-micro", "g1-small", "e2-custom-2-4096"]
)
def test_google_types_that_burst_or_are_custom_and_too_small_are_refused(machine_type: str) -> None:
    with pytest.raises(ConfigurationError, match="size small needs 2 vCPUs"):
        machine_types.require_large_enough(machine_type, SIZES["small"])


@pytest.mark.parametrize("instance_type", ["t2.micro", "t3.medium", "t3a.small", "t4g.medium"])
def test_aws_types_that_burst_and_are_too_small_are_refused(instance_type: str) -> None:
    with pytest.raises(ConfigurationError, match="size small needs 2 and 8"):
        instance_types.require_large_enough(instance_type, SIZES["small"])
