"""Stories of the guard: no machine goes unless the other members were asked in that very run, right before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pulumi
import pytest

from etcd_cluster import SIZES
from etcd_cluster.etcd.sizes import GIB
from etcd_cluster.rollout import MachineReplacement, machine_replacement_lifecycle
from etcd_cluster.rollout.planner.actions import Refusal
from etcd_cluster.rollout.planner.refusals import RefusedError
from tests.clouds.simulator import Account, Stack
from tests.clouds.test_stories import CLOUDS, DATA, MACHINE, given, pytestmark

__all__ = ["pytestmark"]
GUARD = "etcd-machine-replacement"


class Members:
    """Stand in for the members: they are asked, and may refuse."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.refuse = False

    def prepare_replacement(self, member: str, *_: object, **__: object) -> None:
        self.asked.append(member)
        if self.refuse:
            raise RefusedError(Refusal.REPLACEMENT_OTHERS_UNHEALTHY, {"member": member, "down": ["etcd-3"]})


@pytest.fixture
def members(monkeypatch: pytest.MonkeyPatch) -> Members:
    found = Members()
    monkeypatch.setattr(machine_replacement_lifecycle, "prepare_replacement", found.prepare_replacement)
    return found


def program(cloud: str, size: str = "small", **changes: Any) -> Callable[[], None]:
    """As EtcdCluster asks for machines."""

    def register() -> None:
        parent = pulumi.ComponentResource("test:index:Machines", "etcd")

        def guard(
            replace_member: str | None,
            connections: Mapping[str, Any],
            *,
            is_dead: bool = False,
            after: Sequence[pulumi.Resource] = (),
        ) -> pulumi.Input[pulumi.Resource]:
            return MachineReplacement(
                GUARD,
                replace_member=replace_member,
                is_dead=is_dead,
                connections=connections,
                quota_bytes=2 * GIB,
                opts=pulumi.ResourceOptions(parent=parent, depends_on=[*after]),
            ).once_asked()

        made = given(cloud, **changes)
        made.provision("etcd", made.member_names(3), SIZES[size], parent, guard)

    return register


def machines(account: Account, cloud: str) -> set[str]:
    return {each.id for each in account.of_type(MACHINE[cloud])}


CHANGES: dict[str, Callable[[str], dict[str, Any]]] = {
    "nothing else": lambda cloud: {},
    "another size": lambda cloud: {"size": "medium"},
    "another image": lambda cloud: {"image_id": "ami-2"} if cloud == "aws" else {"image": "debian-cloud/other"},
    "other places": lambda cloud: {"subnet_ids": ["subnet-z"]} if cloud == "aws" else {"zones": ["europe-west1-d"]},
    "named as dead": lambda cloud: {"replace_member": None, "replace_dead_member": "etcd-2"},
}


@CLOUDS
@pytest.mark.parametrize("change", CHANGES)
def test_a_refusal_keeps_every_machine_whatever_else_has_changed(
    account: Account, stack: Stack, members: Members, cloud: str, change: str
) -> None:
    assert stack.up(program(cloud)).ok
    before = machines(account, cloud)
    members.refuse = True
    changed = program(cloud, **{"replace_member": "etcd-2", **CHANGES[change](cloud)})
    for _ in range(2):
        refused = stack.up(changed)
        assert not refused.ok
        assert "etcd-3 is not healthy" in refused.text
        assert machines(account, cloud) == before
    assert members.asked == ["etcd-2"] * 2, "asked again by the next run"
    members.refuse = False
    allowed = stack.up(changed)
    assert allowed.ok, allowed.text
    assert len(machines(account, cloud) & before) == 2


@CLOUDS
def test_a_preview_asks_nobody(stack: Stack, members: Members, cloud: str) -> None:
    assert stack.up(program(cloud)).ok
    assert stack.preview(program(cloud, replace_member="etcd-2")).ok
    assert members.asked == []


@CLOUDS
def test_without_a_request_no_change_replaces_a_machine(
    account: Account, stack: Stack, members: Members, cloud: str
) -> None:
    assert stack.up(program(cloud)).ok
    before = machines(account, cloud)
    for change in (each for name, each in CHANGES.items() if name != "named as dead"):
        ran = stack.up(program(cloud, **change(cloud)))
        assert ran.ok, ran.text
        assert not ran.of("replace")
    assert machines(account, cloud) == before
    assert members.asked == []


@CLOUDS
def test_members_are_asked_once_disks_have_changed(stack: Stack, members: Members, cloud: str) -> None:
    """That may take minutes, in which another member may fail."""
    assert stack.up(program(cloud)).ok
    ran = stack.up(program(cloud, size="medium", replace_member="etcd-2"))
    assert ran.ok, ran.text
    names = [name for _, name in ran.steps]
    assert names.index("etcd-etcd-2-data") < names.index(GUARD) < names.index("etcd-etcd-2")


@CLOUDS
def test_a_run_that_leaves_the_guard_out_replaces_nothing(
    account: Account, stack: Stack, members: Members, cloud: str
) -> None:
    """`pulumi up --target`, also where an earlier run had asked for the same member."""
    assert stack.up(program(cloud)).ok
    request = program(cloud, replace_member="etcd-2")
    before = machines(account, cloud)
    assert not stack.up(request, leaving_out={GUARD}).ok
    assert machines(account, cloud) == before
    assert stack.up(request).ok
    before = machines(account, cloud)
    refused = stack.up(program(cloud, size="medium", replace_member="etcd-2"), leaving_out={GUARD})
    assert not refused.ok
    assert "leaves out the resource that asks the other members" in refused.text
    assert machines(account, cloud) == before


@CLOUDS
def test_two_members_one_after_the_other_are_two_questions(
    account: Account, stack: Stack, members: Members, cloud: str
) -> None:
    assert stack.up(program(cloud)).ok
    data = {each.id for each in account.of_type(DATA[cloud])}
    for member in ("etcd-1", "etcd-2"):
        assert stack.up(program(cloud, replace_member=member)).ok
    assert members.asked == ["etcd-1", "etcd-2"]
    members.refuse = True
    before = machines(account, cloud)
    assert not stack.up(program(cloud, replace_member="etcd-3")).ok
    assert machines(account, cloud) == before
    assert {each.id for each in account.of_type(DATA[cloud])} == data
