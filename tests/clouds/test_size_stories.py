"""Stories of docs/change-the-size.md: a cluster gets another row of the table, one replaced machine after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pulumi
import pytest

from etcd_cluster import SIZES
from tests.clouds.simulator import Account, Run, Stack
from tests.clouds.test_stories import CLOUDS, DATA, MACHINE, given, machine_of, pytestmark

__all__ = ["pytestmark"]
MEMBERS = ("etcd-1", "etcd-2", "etcd-3")
TYPES = {
    "aws": {"medium": "m4.xlarge", "large": "m4.2xlarge"},
    "gcp": {"medium": "n1-standard-4", "large": "n1-standard-8"},
}
TYPE_KEY = {"aws": "instanceType", "gcp": "machineType"}
OWN_TYPE = {"aws": "instance_type", "gcp": "machine_type"}


class Cluster:
    """A cluster's machines over an account, and what they report to the rest of the component."""

    def __init__(self, cloud: str) -> None:
        self.account = Account()
        self.stack = Stack(self.account)
        self.cloud = cloud
        self.fitting: dict[str, str] = {}

    def program(self, size: str, **changes: Any) -> Callable[[], None]:
        def register() -> None:
            parent = pulumi.ComponentResource("test:index:Machines", "etcd")
            made = given(self.cloud, **changes)
            for machine in made.provision("etcd", made.member_names(3), SIZES[size], parent):
                pulumi.Output.all(machine.name, machine.size).apply(lambda both: self.fitting.update([tuple(both)]))

        return register

    def up(self, size: str, **changes: Any) -> Run:
        ran = self.stack.up(self.program(size, **changes))
        assert ran.ok, ran.text
        return ran

    def preview(self, size: str, **changes: Any) -> Run:
        ran = self.stack.preview(self.program(size, **changes))
        assert ran.ok, ran.text
        return ran

    def types(self) -> list[str]:
        return [self.type_of(member) for member in MEMBERS]

    def type_of(self, member: str) -> str:
        return str(self.account.standing[machine_of(self.account, self.cloud, member)].inputs[TYPE_KEY[self.cloud]])

    def disks(self) -> list[int]:
        return [each.inputs["size"] for each in self.account.of_type(DATA[self.cloud])]

    def data(self) -> set[str]:
        return {each.id for each in self.account.of_type(DATA[self.cloud])}


@CLOUDS
@pytest.mark.parametrize(("old", "new"), [("medium", "large"), ("large", "medium")])
def test_another_size_is_reached_by_one_replaced_machine_a_run(cloud: str, old: str, new: str) -> None:
    cluster, key = Cluster(cloud), f"{cloud}.replaceMember"
    before, after = TYPES[cloud][old], TYPES[cloud][new]
    smaller = "medium"
    cluster.up(old)
    data = cluster.data()

    previewed = cluster.preview(new)
    all_left = f"etcd-1, etcd-2, etcd-3 on {before}. Expected is {after} for all, for size {new}. Set {key}: etcd-1"
    assert all_left in previewed.text
    assert "3 runs are left" in previewed.text
    changed = cluster.up(new)
    assert all_left in changed.text
    assert not changed.of("replace") | changed.of("create") | changed.of("delete")
    assert cluster.types() == [before] * 3
    assert cluster.fitting == dict.fromkeys(MEMBERS, smaller), (
        "the quota stays one that all machines are large enough for"
    )

    for number, member in enumerate(MEMBERS, 1):
        previewed = cluster.preview(new, replace_member=member)
        replaced = cluster.up(new, replace_member=member)
        machines = {f"etcd-{each}" for each in MEMBERS}
        assert previewed.of("replace") & machines == replaced.of("replace") & machines == {f"etcd-{member}"}
        assert cluster.types() == [after] * number + [before] * (3 - number)
        left = {
            1: "Set {}: etcd-2 and run `pulumi up`; 2 runs are left",
            2: "Set {}: etcd-3 and run `pulumi up`; 1 run is left",
        }
        for run in (previewed, replaced):
            assert left[number].format(key) in run.text if number < 3 else "left" not in run.text
        expected = {each: new if each in MEMBERS[:number] else smaller for each in MEMBERS}
        assert cluster.fitting == (expected if new == "large" else dict.fromkeys(MEMBERS, smaller))
    assert cluster.data() == data
    if cloud == "gcp":
        assert cluster.disks() == [SIZES["large"].gce.disk_gb] * 3, "they grow, and never shrink"
    assert not cluster.up(new).of("replace")
    assert cluster.up(new).steps == []


@CLOUDS
def test_the_first_machine_may_go_in_the_run_that_changes_the_size(cloud: str) -> None:
    cluster = Cluster(cloud)
    cluster.up("medium")
    cluster.up("large", replace_member="etcd-2")
    assert cluster.types() == [TYPES[cloud]["medium"], TYPES[cloud]["large"], TYPES[cloud]["medium"]]
    assert cluster.fitting == {"etcd-1": "medium", "etcd-2": "large", "etcd-3": "medium"}


@CLOUDS
def test_a_run_that_ends_before_the_new_machine_stands_leaves_the_order_as_it_was(cloud: str) -> None:
    cluster = Cluster(cloud)
    cluster.up("medium")
    cluster.account.refuses_new = MACHINE[cloud]
    assert not cluster.stack.up(cluster.program("large", replace_member="etcd-1")).ok
    cluster.account.refuses_new = None
    cluster.up("large", replace_member="etcd-1")
    assert cluster.types() == [TYPES[cloud]["large"], *[TYPES[cloud]["medium"]] * 2]
    assert f"Set {cloud}.replaceMember: etcd-2" in cluster.up("large").text


@CLOUDS
def test_going_back_half_way_names_the_members_that_were_replaced(cloud: str) -> None:
    cluster = Cluster(cloud)
    cluster.up("medium")
    cluster.up("large", replace_member="etcd-1")
    back = cluster.up("medium")
    assert f"etcd-1 on {TYPES[cloud]['large']}; etcd-2, etcd-3 on {TYPES[cloud]['medium']}" in back.text
    assert f"Set {cloud}.replaceMember: etcd-1 and run `pulumi up`; 1 run is left" in back.text
    assert cluster.fitting == dict.fromkeys(MEMBERS, "medium")


@CLOUDS
def test_a_request_that_was_served_before_is_made_again(cloud: str) -> None:
    """It was left in the config: another type alone replaces nobody."""
    cluster, key = Cluster(cloud), f"{cloud}.replaceMember"
    cluster.up("medium")
    cluster.up("medium", replace_member="etcd-1")
    run = cluster.up("large", replace_member="etcd-1")
    assert cluster.types() == [TYPES[cloud]["medium"]] * 3
    assert f"Set {key}: etcd-2 and run `pulumi up`; 3 runs are left" in run.text
    for member in ("etcd-2", "etcd-3"):
        cluster.up("large", replace_member=member)
    assert f"Set {key}: etcd-1" in cluster.up("large", replace_member="etcd-3").text
    assert cluster.up("large", replace_member="etcd-1").of("replace")
    cluster.up("medium", replace_member="etcd-3")
    text = cluster.up("large", replace_member="etcd-3").text
    assert f"{key}: etcd-3 was served before: take it out" in text
    cluster.up("large")
    cluster.up("large", replace_member="etcd-3")
    assert cluster.types() == [TYPES[cloud]["large"]] * 3


@CLOUDS
def test_another_type_of_ones_own_has_the_same_order(cloud: str) -> None:
    cluster = Cluster(cloud)
    cluster.up("medium")
    own = {"aws": "m7i.xlarge", "gcp": "n2-standard-4"}[cloud]
    said = cluster.up("medium", **{OWN_TYPE[cloud]: own}).text
    assert f"Expected is {own} for all, for {cloud}.{TYPE_KEY[cloud]}. Set {cloud}.replaceMember: etcd-1" in said
    assert cluster.fitting == dict.fromkeys(MEMBERS, "medium")


def test_a_larger_size_makes_aws_volumes_faster_at_once_and_never_smaller() -> None:
    cluster = Cluster("aws")
    cluster.up("medium")
    assert cluster.up("large").of("update") == {f"etcd-{each}-data" for each in MEMBERS}
    assert cluster.up("medium").of("update") == {f"etcd-{each}-data" for each in MEMBERS}
    assert {each.inputs["size"] for each in cluster.account.of_type(DATA["aws"])} == {32}
