"""Stories of types of machines that a zone lacks: known before anything is made, or an old machine is gone."""

from __future__ import annotations

from typing import Any

from tests.clouds.simulator import MACHINE_TYPES, OFFERINGS, Account, Stack
from tests.clouds.test_stories import CLOUDS, MACHINE, ZONES, given, machine_of, program, pytestmark, up

__all__ = ["pytestmark"]
PLACES = {"aws": ("zone-of-subnet-a", "zone-of-subnet-b", "zone-of-subnet-c"), "gcp": ZONES}
OFFERS = {"aws": OFFERINGS, "gcp": MACHINE_TYPES}
DEFAULT = {"aws": "m4.large", "gcp": "n1-standard-2"}
NEAREST = {"aws": ("m7i.large", "m6i.large"), "gcp": ("n2-standard-2", "n2d-standard-2")}
KEY = {"aws": "aws.instanceType", "gcp": "gcp.machineType"}
OWN_TYPE = {"aws": "instance_type", "gcp": "machine_type"}


@CLOUDS
def test_a_type_that_the_region_lacks_is_refused_with_the_nearest_one(
    account: Account, stack: Stack, cloud: str
) -> None:
    places = PLACES[cloud]
    first, second = NEAREST[cloud]
    account.offered = {first: places[:2], second: places}
    previewed = stack.preview(program(given(cloud)))
    assert not previewed.ok
    everywhere = ", ".join(places)
    assert f'{KEY[cloud]}: "{DEFAULT[cloud]}": not offered in {everywhere}' in previewed.text
    assert f"Use {second}, which has 2 vCPUs and" in previewed.text
    assert f"offered in {everywhere}" in previewed.text
    assert account.standing == {}
    assert stack.preview(program(given(cloud, **{OWN_TYPE[cloud]: second}))).ok


@CLOUDS
def test_a_type_that_one_zone_lacks_names_that_zone(account: Account, stack: Stack, cloud: str) -> None:
    places = PLACES[cloud]
    account.offered = {DEFAULT[cloud]: places[:2], NEAREST[cloud][0]: places}
    text = stack.preview(program(given(cloud))).text
    assert f'"{DEFAULT[cloud]}": not offered in {places[2]}. Use {NEAREST[cloud][0]}' in text


@CLOUDS
def test_where_no_type_is_everywhere_other_places_are_named(account: Account, stack: Stack, cloud: str) -> None:
    places = PLACES[cloud]
    account.offered = {DEFAULT[cloud]: places[:1]}
    text = stack.preview(program(given(cloud))).text
    assert {"aws": "or other aws.subnetIds", "gcp": "or other gcp.zones"}[cloud] in text


@CLOUDS
def test_who_may_not_ask_is_not_kept_from_a_preview_or_an_up(account: Account, stack: Stack, cloud: str) -> None:
    account.denied = OFFERS[cloud]
    previewed = stack.preview(program(given(cloud)))
    assert previewed.ok, previewed.text
    assert "AccessDenied" in previewed.text
    up(stack, given(cloud))
    up(stack, given(cloud, replace_member="etcd-2"))


@CLOUDS
def test_only_new_machines_are_asked_for(account: Account, stack: Stack, cloud: str) -> None:
    calls = {"aws": 1, "gcp": len(ZONES)}[cloud]
    assert stack.preview(program(given(cloud))).ok
    assert account.asked.count(OFFERS[cloud]) == calls
    up(stack, given(cloud))
    account.asked.clear()
    account.offered = {}
    up(stack, given(cloud))
    assert stack.preview(program(given(cloud))).ok
    assert OFFERS[cloud] not in account.asked, "a type that is no longer offered keeps its machines"


@CLOUDS
def test_no_machine_goes_whose_zone_lacks_the_next_type(account: Account, stack: Stack, cloud: str) -> None:
    up(stack, given(cloud))
    before = machine_of(account, cloud, "etcd-2")
    places = PLACES[cloud]
    account.offered = {DEFAULT[cloud]: (places[0], places[2]), NEAREST[cloud][0]: places}
    request: dict[str, Any] = {"replace_member": "etcd-2"}
    for run in (stack.preview(program(given(cloud, **request))), stack.up(program(given(cloud, **request)))):
        assert not run.ok
        assert f"not offered in {places[1]}. Use {NEAREST[cloud][0]}" in run.text
    assert machine_of(account, cloud, "etcd-2") == before
    assert len(account.of_type(MACHINE[cloud])) == 3
    up(stack, given(cloud, replace_member="etcd-1"))


@CLOUDS
def test_a_member_more_is_asked_for_its_own_zone(account: Account, stack: Stack, cloud: str) -> None:
    up(stack, given(cloud), members=1)
    places = PLACES[cloud]
    account.offered = {DEFAULT[cloud]: places[1:]}
    assert stack.preview(program(given(cloud), members=3)).ok, "the first one stands"
    account.offered = {DEFAULT[cloud]: places[:2]}
    assert f"not offered in {places[2]}" in stack.preview(program(given(cloud), members=3)).text


@CLOUDS
def test_a_preview_refuses_what_up_refuses_while_a_served_request_is_left(
    account: Account, stack: Stack, cloud: str
) -> None:
    up(stack, given(cloud))
    up(stack, given(cloud, replace_member="etcd-2"))
    account.offered = {"m5.large": account._zones, "n2-standard-2": ZONES}
    request = program(given(cloud, replace_member="etcd-2"))
    for refused in (stack.preview(request), stack.up(request)):
        assert not refused.ok
        assert "not offered in" in refused.text
    up(stack, given(cloud))
