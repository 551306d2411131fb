"""Stories of data volumes that outlive their machines and their stack, and of what is the caller's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pulumi
import pytest

from etcd_cluster import SIZES
from tests.clouds.simulator import (
    ADDRESS,
    ATTACHMENT,
    INSTANCE,
    INTERFACE,
    VM,
    VOLUME,
    Account,
    Run,
    Stack,
    Standing,
)
from tests.clouds.test_stories import CLOUDS, DATA, MACHINE, ZONES, Given, given, machine_of, program, pytestmark, up

__all__ = ["pytestmark"]
MEMBERS = ("etcd-1", "etcd-2", "etcd-3")
TAG = {"aws": "etcd:member", "gcp": "etcd-member"}


def volumes(account: Account, cloud: str) -> dict[str, str]:
    """Member -> id of its data volume. Fails if a member has two."""
    found = [(each.tags[TAG[cloud]], each.id) for each in account.of_type(DATA[cloud])]
    assert len(dict(found)) == len(found), found
    return dict(sorted(found))


def addresses(account: Account, cloud: str) -> dict[str, str]:
    """Member -> the address of its machine."""
    found: dict[str, str] = {}
    for each in account.of_type(MACHINE[cloud]):
        if cloud == "aws":
            interface = account.standing[each.inputs["primaryNetworkInterface"]["networkInterfaceId"]]
            found[each.tags["etcd:member"]] = interface.inputs["privateIp"]
        else:
            found[each.tags["etcd-member"]] = each.inputs["networkInterfaces"][0]["networkIp"]
    return dict(sorted(found.items()))


def attached(account: Account, cloud: str) -> dict[str, str]:
    """Member -> id of the volume that its machine has."""
    if cloud == "gcp":
        return {each.tags["etcd-member"]: each.inputs["attachedDisks"][0]["source"] for each in account.of_type(VM)}
    members = {each.id: each.tags["etcd:member"] for each in account.of_type(INSTANCE)}
    return {members[each.inputs["instanceId"]]: each.inputs["volumeId"] for each in account.of_type(ATTACHMENT)}


def volume_of(account: Account, cloud: str, member: str) -> Standing:
    return account.standing[volumes(account, cloud)[member]]


def by_name(run: Run, *operations: str) -> set[str]:
    return {name for done, name in run.steps if done in operations and name.endswith("-data")}


def data_of(*members: str) -> set[str]:
    return {f"etcd-{member}-data" for member in members}


def another_address(account: Account, cloud: str) -> None:
    """Somebody else takes the address that etcd-1 had."""
    had = volume_of(account, cloud, "etcd-1").tags["etcd:address" if cloud == "aws" else "etcd-address"]
    if cloud == "aws":
        account.create(INTERFACE, {"subnetId": "subnet-a", "privateIps": [had], "securityGroups": []})
    else:
        address = {
            "name": "others",
            "region": "europe-west1",
            "address": had.replace("-", "."),
            "subnetwork": "private",
        }
        account.create(ADDRESS, address)


# --- found again: docs/destroy.md ---


@CLOUDS
def test_what_was_destroyed_comes_back_with_its_volumes_and_addresses(
    account: Account, stack: Stack, cloud: str
) -> None:
    up(stack, given(cloud))
    had, at = volumes(account, cloud), addresses(account, cloud)
    assert stack.destroy().ok
    assert {each.id for each in account.standing.values()} == set(had.values())

    previewed = stack.preview(program(given(cloud)))
    assert by_name(previewed, "import") == data_of(*MEMBERS)
    assert by_name(previewed, "create", "replace", "import-replacement") == set()
    again = up(stack, given(cloud))
    assert by_name(again, "create", "replace", "import-replacement") == set()
    assert volumes(account, cloud) == had == dict(sorted(attached(account, cloud).items()))
    assert addresses(account, cloud) == at
    assert stack.preview(program(given(cloud))).steps == []
    assert up(stack, given(cloud)).steps == []
    assert stack.destroy().ok
    assert volumes(account, cloud) == had


@CLOUDS
def test_it_comes_back_where_its_volumes_are_whatever_the_order_of_places(
    account: Account, stack: Stack, cloud: str
) -> None:
    up(stack, given(cloud))
    had, at = volumes(account, cloud), addresses(account, cloud)
    assert stack.destroy().ok
    if cloud == "aws":
        elsewhere = given(cloud, subnet_ids=["subnet-x", "subnet-c", "subnet-b", "subnet-a"])
    else:
        elsewhere = given(cloud, zones=["europe-west1-f", ZONES[2]])
    up(stack, elsewhere)
    assert (volumes(account, cloud), addresses(account, cloud)) == (had, at)


def test_a_volume_without_a_subnet_in_its_zone_is_refused_before_anything_is_made(
    account: Account, stack: Stack
) -> None:
    up(stack, given("aws"))
    had = volumes(account, "aws")
    assert stack.destroy().ok
    elsewhere = program(given("aws", subnet_ids=["subnet-a", "subnet-b"]))
    for refused in (stack.preview(elsewhere), stack.up(elsewhere)):
        assert not refused.ok
        assert "the data volume of etcd-3 is in zone-of-subnet-c, and no subnet is there" in refused.text
    assert volumes(account, "aws") == had
    up(stack, given("aws"))
    assert volumes(account, "aws") == had


@CLOUDS
def test_only_the_members_whose_volumes_are_left_get_theirs(account: Account, stack: Stack, cloud: str) -> None:
    up(stack, given(cloud))
    had = volumes(account, cloud)
    assert stack.destroy().ok
    if cloud == "aws":
        account.delete(had["etcd-2"])
    else:
        del account.standing[had["etcd-2"]]
    again = up(stack, given(cloud))
    assert (by_name(again, "import"), by_name(again, "create")) == (data_of("etcd-1", "etcd-3"), data_of("etcd-2"))


@CLOUDS
def test_a_member_that_is_added_again_gets_its_volume(account: Account, stack: Stack, cloud: str) -> None:
    up(stack, given(cloud))
    had, at = volumes(account, cloud), addresses(account, cloud)
    up(stack, given(cloud), members=1)
    again = up(stack, given(cloud))
    assert by_name(again, "import") == data_of("etcd-2", "etcd-3")
    assert (volumes(account, cloud), addresses(account, cloud)) == (had, at)
    assert up(stack, given(cloud)).steps == []


@CLOUDS
def test_a_taken_address_is_refused_and_asked_for_again(account: Account, stack: Stack, cloud: str) -> None:
    up(stack, given(cloud))
    had, at = volumes(account, cloud), addresses(account, cloud)
    assert stack.destroy().ok
    another_address(account, cloud)
    refused = stack.up(program(given(cloud)))
    assert not refused.ok
    assert at["etcd-1"] in refused.text
    (others,) = (each for each in account.standing.values() if not each.tags and each.type in (INTERFACE, ADDRESS))
    account.delete(others.id)
    up(stack, given(cloud))
    assert (volumes(account, cloud), addresses(account, cloud)) == (had, at)


@CLOUDS
@pytest.mark.parametrize("ended_at", ["machine", "volume"])
def test_a_run_that_ends_early_is_taken_up(account: Account, stack: Stack, cloud: str, ended_at: str) -> None:
    up(stack, given(cloud))
    had, at = volumes(account, cloud), addresses(account, cloud)
    assert stack.destroy().ok
    account.refuses_new = MACHINE[cloud] if ended_at == "machine" else {"aws": INTERFACE, "gcp": ADDRESS}[cloud]
    assert not stack.up(program(given(cloud))).ok
    account.refuses_new = None
    up(stack, given(cloud))
    assert (volumes(account, cloud), addresses(account, cloud)) == (had, at)


@CLOUDS
def test_a_volume_that_was_made_and_not_recorded_is_taken_up(account: Account, stack: Stack, cloud: str) -> None:
    account.refuses_new = MACHINE[cloud]
    assert not stack.up(program(given(cloud))).ok
    account.refuses_new = None
    had = volumes(account, cloud)
    assert had
    for urn in [urn for urn in stack.state.current if urn.endswith("-data")]:
        del stack.state.current[urn]
    up(stack, given(cloud))
    assert {member: volumes(account, cloud)[member] for member in had} == had


# --- refused ---


def test_two_volumes_of_a_member_are_refused_until_one_is_left(account: Account, stack: Stack) -> None:
    up(stack, given("aws"))
    had = volumes(account, "aws")
    assert stack.destroy().ok
    former = volume_of(account, "aws", "etcd-2")
    other, _ = account.create(VOLUME, dict(former.inputs))
    for refused in (stack.preview(program(given("aws"))), stack.up(program(given("aws")))):
        assert not refused.ok
        assert f'aws.volumes: ["{had["etcd-2"]}", "{other}"]: these volumes carry the names of etcd-2' in refused.text
        assert by_name(refused, "create", "import-replacement") == set()
    account.standing[other].inputs["tags"] = {"Name": "kept for inspection"}
    up(stack, given("aws"))
    assert attached(account, "aws") == had


def test_of_two_volumes_one_can_be_given(account: Account, stack: Stack) -> None:
    up(stack, given("aws"))
    had, at = volumes(account, "aws"), addresses(account, "aws")
    assert stack.destroy().ok
    account.create(VOLUME, dict(volume_of(account, "aws", "etcd-2").inputs))
    up(stack, given("aws", volumes={"etcd-2": had["etcd-2"]}))
    assert (attached(account, "aws"), addresses(account, "aws")) == (had, at)
    assert up(stack, given("aws", volumes={"etcd-2": had["etcd-2"]})).steps == []


@CLOUDS
def test_a_volume_that_another_machine_has_is_refused(account: Account, stack: Stack, cloud: str) -> None:
    up(stack, given(cloud))
    had = volumes(account, cloud)
    assert stack.destroy().ok
    if cloud == "aws":
        eni, _ = account.create(INTERFACE, {"subnetId": "subnet-b", "securityGroups": []})
        machine, _ = account.create(INSTANCE, {"primaryNetworkInterface": {"networkInterfaceId": eni}})
        account.create(ATTACHMENT, {"instanceId": machine, "volumeId": had["etcd-2"]})
    else:
        inputs = {"name": "rescue", "zone": ZONES[1], "attachedDisks": [{"source": had["etcd-2"]}]}
        inputs["networkInterfaces"] = [{"subnetwork": "private", "networkIp": "10.0.0.250"}]
        account.create(VM, inputs)
    for refused in (stack.preview(program(given(cloud))), stack.up(program(given(cloud)))):
        assert not refused.ok
        assert "it carries the names of etcd-2, and another machine has it" in refused.text
    assert volumes(account, cloud) == had


def test_where_nobody_can_say_whether_a_disk_is_there_none_is_made(account: Account, stack: Stack) -> None:
    """An empty disk beside the kept one would form a second cluster."""
    up(stack, given("gcp"))
    had = volumes(account, "gcp")
    assert stack.destroy().ok
    account.denied = "gcp:compute/getDisk:getDisk"
    for zones in (ZONES, ZONES[::-1]):
        for refused in (
            stack.preview(program(given("gcp", zones=zones))),
            stack.up(program(given("gcp", zones=zones))),
        ):
            assert not refused.ok
            assert "nobody can say whether etcd-1 has a disk" in refused.text
            assert "AccessDenied" in refused.text
    account.denied = ""
    up(stack, given("gcp"))
    assert attached(account, "gcp") == had


@CLOUDS
def test_a_volume_without_an_owner_that_another_machine_has_is_refused_as_well(
    account: Account, stack: Stack, cloud: str
) -> None:
    up(stack, given(cloud))
    had = volumes(account, cloud)
    assert stack.destroy().ok
    for id_ in had.values():
        key = "tags" if cloud == "aws" else "labels"
        tags = account.standing[id_].tags
        account.standing[id_].inputs[key] = {name: each for name, each in tags.items() if not name.endswith("owner")}
    if cloud == "aws":
        eni, _ = account.create(INTERFACE, {"subnetId": "subnet-b", "securityGroups": []})
        machine, _ = account.create(INSTANCE, {"primaryNetworkInterface": {"networkInterfaceId": eni}})
        account.create(ATTACHMENT, {"instanceId": machine, "volumeId": had["etcd-2"]})
    else:
        inputs: dict[str, Any] = {"name": "rescue", "zone": ZONES[1], "attachedDisks": [{"source": had["etcd-2"]}]}
        inputs["networkInterfaces"] = [{"subnetwork": "private", "networkIp": "10.0.0.250"}]
        account.create(VM, inputs)
    refused = stack.up(program(given(cloud)))
    assert not refused.ok
    assert "it carries the names of etcd-2, and another machine has it" in refused.text
    assert volumes(account, cloud) == had


def renamed(stack: Stack, name: str) -> Stack:
    """As `pulumi stack rename` does: the same state, under another name."""
    state = stack.state
    before, after = f"urn:pulumi:{stack.name}::", f"urn:pulumi:{name}::"

    def urn(text: str) -> str:
        return text.replace(before, after)

    state.current = {
        urn(key): replace(
            each,
            urn=urn(key),
            parent=urn(each.parent),
            dependencies=[urn(one) for one in each.dependencies],
            deleted_with=urn(each.deleted_with),
            property_dependencies={
                name: [urn(one) for one in urns] for name, urns in each.property_dependencies.items()
            },
        )
        for key, each in state.current.items()
    }
    return Stack(stack.account, name, state)


@CLOUDS
def test_volumes_of_a_former_stack_never_replace_those_of_one_that_gets_its_name(account: Account, cloud: str) -> None:
    former = Stack(account, "prod")
    up(former, given(cloud))
    assert former.destroy().ok
    left = {each.id for each in account.of_type(DATA[cloud])}
    staging = Stack(account, "staging")
    up(staging, given(cloud))
    own = attached(account, cloud)
    assert not left & set(own.values())

    prod = renamed(staging, "prod")
    # One of its machines is gone, so that nothing but the state says whose volume is whose.
    account.delete(machine_of(account, cloud, "etcd-1"))
    for refused in (prod.preview(program(given(cloud))), prod.up(program(given(cloud)))):
        assert not refused.ok
        assert "whose volume in this stack is another one" in refused.text
        assert "import-replacement" not in {done for done, name in refused.steps if name.endswith("-data")}
    assert left | set(own.values()) == {each.id for each in account.of_type(DATA[cloud])}


@CLOUDS
def test_members_that_a_run_failed_to_remove_can_stay(account: Account, stack: Stack, cloud: str) -> None:
    """Their volumes are in use by their own machines. Nobody is told to detach one."""
    up(stack, given(cloud, deletion_protection=True))
    had = attached(account, cloud)
    assert not stack.up(program(given(cloud, deletion_protection=True), members=1)).ok
    assert attached(account, cloud) == had
    for run in (stack.preview(program(given(cloud))), stack.up(program(given(cloud)))):
        assert run.ok, run.text
        assert by_name(run, "create", "replace", "import-replacement") == set()
    assert attached(account, cloud) == had
    assert up(stack, given(cloud)).steps == []


# --- a machine that is gone ---


@CLOUDS
def test_a_machine_that_was_deleted_by_hand_comes_back_with_its_volume(
    account: Account, stack: Stack, cloud: str
) -> None:
    up(stack, given(cloud))
    had, at = volumes(account, cloud), addresses(account, cloud)
    account.delete(machine_of(account, cloud, "etcd-2"))
    places: dict[str, Any] = {"subnet_ids": ["subnet-x"]} if cloud == "aws" else {"zones": ["europe-west1-f"]}
    up(stack, given(cloud, replace_dead_member="etcd-2", **places))
    assert dict(sorted(attached(account, cloud).items())) == had == volumes(account, cloud)
    assert addresses(account, cloud) == at


# --- the caller's own: docs/using-from-a-program.md ---


def named(cloud: str, own: dict[str, str], **more: Any) -> Given:
    return given(cloud, **{"volumes" if cloud == "aws" else "disks": own}, **more)


@CLOUDS
def test_another_stack_takes_the_cluster_over_by_the_names_of_its_volumes(account: Account, cloud: str) -> None:
    before = Stack(account, "before")
    up(before, given(cloud))
    had, at = volumes(account, cloud), addresses(account, cloud)
    assert before.destroy().ok
    after = Stack(account, "after")
    up(after, named(cloud, had))
    assert dict(sorted(attached(account, cloud).items())) == had == volumes(account, cloud)
    assert addresses(account, cloud) == at
    assert after.preview(program(named(cloud, had))).steps == []
    assert after.destroy().ok
    assert volumes(account, cloud) == had


@CLOUDS
def test_a_volume_in_use_is_not_taken_over_by_name(account: Account, cloud: str) -> None:
    running = Stack(account, "running")
    up(running, given(cloud))
    had = attached(account, cloud)
    thief = Stack(account, "thief")
    assert not thief.up(program(named(cloud, {"etcd-1": had["etcd-1"]}))).ok
    assert running.preview(program(given(cloud))).steps == []


@CLOUDS
def test_what_a_member_stands_on_is_not_given_or_taken_away_later(account: Account, stack: Stack, cloud: str) -> None:
    own, _ = account.create(DATA[cloud], own_volume(cloud))
    up(stack, given(cloud))
    had = attached(account, cloud)
    refused = stack.up(program(named(cloud, {"etcd-1": own})))
    assert "etcd-1 has one of this stack already, and would lose it" in refused.text
    assert attached(account, cloud) == had

    another = Stack(account, "another")
    up(another, named(cloud, {"etcd-1": own}), members=1)
    refused = another.up(program(given(cloud), members=1))
    assert "etcd-1 runs with what was given here, and would get a new one in its place" in refused.text
    assert own in attached(account, cloud).values()


def own_volume(cloud: str) -> dict[str, Any]:
    if cloud == "aws":
        return {"availabilityZone": "zone-of-subnet-b", "size": 32, "tags": {"etcd:member": "mine"}}
    return {"name": "mine", "zone": ZONES[1], "size": 100, "labels": {"etcd-member": "mine"}}


@CLOUDS
def test_a_volume_of_the_same_program_is_attached_as_it_is(account: Account, stack: Stack, cloud: str) -> None:
    def with_volume(size: int) -> Callable[[], None]:
        def register() -> None:
            if cloud == "aws":
                import pulumi_aws as aws

                own = aws.ebs.Volume(
                    "mine", availability_zone="zone-of-subnet-b", size=size, tags={"etcd:member": "me"}
                )
                machines = given("aws", volumes={"etcd-1": own.id})
            else:
                from pulumi_gcp import compute

                disk = compute.Disk("mine", zone=ZONES[1], size=size, labels={"etcd-member": "me"})
                machines = given("gcp", disks={"etcd-1": disk.id})
            parent = pulumi.ComponentResource("test:index:Machines", "etcd")
            machines.provision("etcd", machines.member_names(1), SIZES["small"], parent)

        return register

    assert stack.preview(with_volume(100)).ok
    first = stack.up(with_volume(100))
    assert first.ok, first.text
    (own,) = account.of_type(DATA[cloud])
    assert list(attached(account, cloud).values()) == [own.id]
    grown = stack.up(with_volume(200))
    assert grown.steps == [("update", "mine")], grown.text


def test_an_interface_of_the_callers_is_used_with_its_address(account: Account, stack: Stack) -> None:
    eni, _ = account.create(INTERFACE, {"subnetId": "subnet-c", "privateIps": ["10.0.99.77"], "securityGroups": []})
    mine = given("aws", network_interfaces={"etcd-1": eni})
    up(stack, mine)
    assert addresses(account, "aws")["etcd-1"] == "10.0.99.77"
    assert volume_of(account, "aws", "etcd-1").inputs["availabilityZone"] == "zone-of-subnet-c"
    assert up(stack, mine).steps == []
    assert "runs with what was given here" in stack.up(program(given("aws"))).text
    assert stack.destroy().ok
    assert eni in account.standing


def test_an_address_is_asked_for_by_member_on_aws(account: Account, stack: Stack) -> None:
    up(stack, given("aws", addresses={"etcd-2": "10.0.98.50"}))
    assert addresses(account, "aws")["etcd-2"] == "10.0.98.50"
    assert up(stack, given("aws")).steps == []


def test_an_address_that_the_caller_reserved_is_used_on_google(account: Account, stack: Stack) -> None:
    reserved = {"name": "mine", "region": "europe-west1", "address": "10.0.0.200", "subnetwork": "private"}
    own, _ = account.create(ADDRESS, reserved)
    mine = given("gcp", addresses={"etcd-2": "10.0.0.200"})
    up(stack, mine)
    assert addresses(account, "gcp")["etcd-2"] == "10.0.0.200"
    assert len(account.of_type(ADDRESS)) == 3
    assert up(stack, mine).steps == []
    assert "runs with what was given here" in stack.up(program(given("gcp"))).text
    assert stack.destroy().ok
    assert own in account.standing


def own_interfaces(account: Account, last: int) -> dict[str, str]:
    addresses = {member: f"10.0.{ord('a')}.{number}{last}" for number, member in enumerate(MEMBERS, 1)}
    inputs = {
        member: {"subnetId": "subnet-a", "privateIps": [at], "securityGroups": []} for member, at in addresses.items()
    }
    return {member: account.create(INTERFACE, each)[0] for member, each in inputs.items()}


def test_other_interfaces_of_the_callers_replace_no_machine(account: Account, stack: Stack) -> None:
    """Each would be another machine, all of them at once, and no member would be asked."""
    before, after = own_interfaces(account, 1), own_interfaces(account, 2)
    up(stack, given("aws", network_interfaces=before))
    machines = {each.id for each in account.of_type(INSTANCE)}
    changed = program(given("aws", network_interfaces=after))
    for refused in (stack.preview(changed), stack.up(changed)):
        assert not refused.ok
        assert f"etcd-1 runs with {before['etcd-1']}, and another one needs another machine" in refused.text
        assert not refused.of("replace")
    assert {each.id for each in account.of_type(INSTANCE)} == machines
    assert up(stack, given("aws", network_interfaces=before)).steps == []
    one = {**before, "etcd-2": after["etcd-2"]}
    up(stack, given("aws", network_interfaces=one, replace_member="etcd-2"))
    assert len({each.id for each in account.of_type(INSTANCE)} & machines) == 2
    assert addresses(account, "aws")["etcd-2"].endswith(".22")
    up(stack, given("aws", network_interfaces=one))
    assert up(stack, given("aws", network_interfaces=one)).steps == []


def test_interfaces_that_are_known_late_replace_no_machine(account: Account, stack: Stack) -> None:
    def late(own: dict[str, str]) -> Callable[[], None]:
        return lambda: program(
            given("aws", network_interfaces={key: pulumi.Output.from_input(each) for key, each in own.items()})
        )()

    assert stack.up(late(own_interfaces(account, 1))).ok
    refused = stack.up(late(own_interfaces(account, 2)))
    assert "another one needs another machine" in refused.text
    assert not refused.of("replace")


@CLOUDS
def test_another_volume_of_the_callers_comes_with_another_machine_alone(
    account: Account, stack: Stack, cloud: str
) -> None:
    def own(name: str) -> dict[str, str]:
        place = {"availabilityZone": "zone-of-subnet-a"} if cloud == "aws" else {"name": name, "zone": ZONES[0]}
        return {"etcd-1": account.create(DATA[cloud], {**place, "size": 100})[0]}

    before, after = own("before"), own("after")
    up(stack, named(cloud, before))
    for refused in (stack.preview(program(named(cloud, after))), stack.up(program(named(cloud, after)))):
        assert not refused.ok
        assert f"Give {before['etcd-1']} again" in refused.text
    assert attached(account, cloud)["etcd-1"] == before["etcd-1"]
    up(stack, named(cloud, after, replace_member="etcd-1"))
    assert attached(account, cloud)["etcd-1"] == after["etcd-1"]
    up(stack, named(cloud, after))
    assert up(stack, named(cloud, after)).steps == []


def test_another_reserved_address_is_not_taken_for_the_machine_s(account: Account, stack: Stack) -> None:
    """Every later run would look for the member where it is not."""
    up(stack, given("gcp", addresses={"etcd-2": "10.0.0.200"}))
    refused = stack.up(program(given("gcp", addresses={"etcd-2": "10.0.0.201"})))
    assert "etcd-2 runs with 10.0.0.200" in refused.text
    assert not refused.of("update")
    up(stack, given("gcp", addresses={"etcd-2": "10.0.0.201"}, replace_member="etcd-2"))
    assert addresses(account, "gcp")["etcd-2"] == "10.0.0.201"


# --- stacks of before ---


@CLOUDS
def test_a_stack_of_before_gets_the_record_and_its_tags_and_nothing_else(
    account: Account, stack: Stack, cloud: str
) -> None:
    up(stack, given(cloud))
    for urn, resource in list(stack.state.current.items()):
        if urn.endswith("-data-volumes"):
            del stack.state.current[urn]
        elif urn.endswith("-data"):
            key = "tags" if cloud == "aws" else "labels"
            standing = account.standing[resource.id]
            tags: Any = {name: each for name, each in standing.tags.items() if name[5:] not in ("owner", "address")}
            standing.inputs[key] = tags
            stack.state.current[urn] = replace(resource, inputs={**resource.inputs, key: tags})
    had = attached(account, cloud)
    upgraded = up(stack, given(cloud))
    assert upgraded.of("update") == data_of(*MEMBERS)
    assert upgraded.of("create") == {"etcd-data-volumes"}
    assert attached(account, cloud) == had
    assert up(stack, given(cloud)).steps == []
