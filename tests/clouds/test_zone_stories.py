"""Stories of zones: who is warned is told by where members stand, whatever the lists of places say by now."""

from __future__ import annotations

from typing import Any

from tests.clouds.simulator import Stack
from tests.clouds.test_stories import CLOUDS, SUBNETS, ZONES, given, program, pytestmark, up

__all__ = ["pytestmark"]
WARNING = "loses its quorum with that zone"
ZONE = {"aws": "zone-of-subnet-a", "gcp": "europe-west1-b"}


def places(cloud: str, count: int) -> dict[str, Any]:
    return {"subnet_ids": SUBNETS[:count]} if cloud == "aws" else {"zones": ZONES[:count]}


@CLOUDS
def test_a_shorter_list_warns_of_nobody_who_stands_and_of_members_that_come(stack: Stack, cloud: str) -> None:
    up(stack, given(cloud))
    shorter = places(cloud, 1)
    for run in (stack.preview(program(given(cloud, **shorter))), up(stack, given(cloud, **shorter))):
        assert WARNING not in run.text
    for run in (
        stack.preview(program(given(cloud, **shorter), members=5)),
        up(stack, given(cloud, **shorter), members=5),
    ):
        assert f"etcd-1, etcd-4, etcd-5 are in zone {ZONE[cloud]}, 3 of 5 members" in run.text


@CLOUDS
def test_a_longer_list_moves_nobody_and_the_warning_stays(stack: Stack, cloud: str) -> None:
    up(stack, given(cloud, **places(cloud, 1)))
    for request in ({}, {"replace_member": "etcd-2"}):
        for run in (stack.preview(program(given(cloud, **request))), up(stack, given(cloud, **request))):
            assert f"etcd-1, etcd-2, etcd-3 are in zone {ZONE[cloud]}, 3 of 3 members" in run.text


@CLOUDS
def test_fewer_members_may_bring_the_warning(stack: Stack, cloud: str) -> None:
    """Five in two zones lose the quorum with the first one; of three, two are there."""
    up(stack, given(cloud, **places(cloud, 2)), members=5)
    fewer = stack.preview(program(given(cloud, **places(cloud, 2)), members=3))
    assert f"etcd-1, etcd-3 are in zone {ZONE[cloud]}, 2 of 3 members" in fewer.text
    assert WARNING not in stack.preview(program(given(cloud, **places(cloud, 2)), members=1)).text
