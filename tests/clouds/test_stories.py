"""Stories of clusters' machines in simulated clouds: create, change, replace, destroy, create again."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import pulumi
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from etcd_cluster import SIZES, AwsMachines, GcpMachines
from etcd_cluster.ssh import login_key_lifecycle
from etcd_cluster.ssh.connection import Connection, SshAuthenticationError
from etcd_cluster.ssh.keys import public_half
from etcd_cluster.ssh.missing_key import MissingKey, with_keys_kept
from etcd_cluster.ssh.processes import Completed
from tests.clouds.simulator import DISK, INGRESS, INSTANCE, VM, VOLUME, Account, Run, Stack

pytestmark = pytest.mark.skipif(
    find_spec("pulumi_aws") is None or find_spec("pulumi_gcp") is None, reason="the clouds' SDKs are not installed"
)
SUBNETS = ("subnet-a", "subnet-b", "subnet-c")
ZONES = ("europe-west1-b", "europe-west1-c", "europe-west1-d")
MACHINE = {"aws": INSTANCE, "gcp": VM}
DATA = {"aws": VOLUME, "gcp": DISK}
Given = AwsMachines | GcpMachines
CLOUDS = pytest.mark.parametrize("cloud", ["aws", "gcp"])


def given(cloud: str, **changes: Any) -> Given:
    if cloud == "aws":
        return AwsMachines(**{"subnet_ids": SUBNETS, "ssh_cidrs": ["10.0.0.8/32"], **changes})
    own = {"network": "main", "subnetwork": "private", "zones": ZONES, "ssh_ranges": ["10.0.0.8/32"]}
    return GcpMachines(**{**own, **changes})


def program(machines: Given, members: int = 3, size: str = "small") -> Callable[[], None]:
    def register() -> None:
        parent = pulumi.ComponentResource("test:index:Machines", "etcd", None, with_keys_kept(machines, None))
        machines.provision("etcd", machines.member_names(members), SIZES[size], parent)

    return register


def up(stack: Stack, machines: Given, **more: Any) -> Run:
    ran = stack.up(program(machines, **more))
    assert ran.ok, ran.text
    return ran


def machine_of(account: Account, cloud: str, member: str) -> str:
    (found,) = (
        each.id
        for each in account.of_type(MACHINE[cloud])
        if member in (each.tags.get("etcd:member"), each.tags.get("etcd-member"))
    )
    return found


@CLOUDS
def test_nothing_changed_means_nothing_is_done(account: Account, stack: Stack, cloud: str) -> None:
    first = up(stack, given(cloud))
    assert first.of("create")
    assert len(account.of_type(MACHINE[cloud])) == len(account.of_type(DATA[cloud])) == 3
    assert up(stack, given(cloud)).steps == []
    assert stack.preview(program(given(cloud))).steps == []


@CLOUDS
def test_a_newer_image_another_type_and_other_places_replace_nobody(account: Account, stack: Stack, cloud: str) -> None:
    up(stack, given(cloud))
    before = dict(account.standing)
    account.image = "image-2"
    place: dict[str, Any] = {"subnet_ids": SUBNETS[::-1]} if cloud == "aws" else {"zones": ZONES[::-1]}
    changed = up(stack, given(cloud, **place), size="medium")
    assert not changed.of("replace") | changed.of("create") | changed.of("delete")
    assert account.standing.keys() == before.keys()


@CLOUDS
def test_destroyed_data_stays_and_fewer_members_leave_theirs(account: Account, stack: Stack, cloud: str) -> None:
    up(stack, given(cloud))
    data = {each.id for each in account.of_type(DATA[cloud])}
    up(stack, given(cloud), members=1)
    assert len(account.of_type(MACHINE[cloud])) == 1
    assert stack.destroy().ok
    assert set(account.standing) == data


# --- where members are ---


@CLOUDS
@pytest.mark.parametrize("places", [1, 2, 3])
def test_a_cluster_that_one_zone_can_take_down_is_warned_of(
    account: Account, stack: Stack, cloud: str, places: int
) -> None:
    where: dict[str, Any] = {"subnet_ids": SUBNETS[:places]} if cloud == "aws" else {"zones": ZONES[:places]}
    previewed = stack.preview(program(given(cloud, **where)))
    assert previewed.ok
    assert ("loses its quorum with that zone" in previewed.text) == (places < 3)
    assert "quorum" not in Stack(Account()).preview(program(given(cloud, **where), members=1)).text


# --- who may come in ---


def letting_in(*names: str, listed_after: str = "") -> Callable[[], None]:
    """A program that makes groups of its own, and lets those of `names` in: by name, or listed after another one."""

    def register() -> None:
        import pulumi_aws as aws

        groups = {name: aws.ec2.SecurityGroup(name, vpc_id="vpc-1").id for name in ("apps", "jobs")}
        allowed = [listed_after, groups[names[0]]] if listed_after else {name: groups[name] for name in names}
        program(given("aws", client_security_group_ids=allowed))()

    return register


def sources(account: Account) -> set[str]:
    rules = [each.inputs for each in account.of_type(INGRESS) if each.inputs["description"] == "clients"]
    return {rule["referencedSecurityGroupId"] for rule in rules}


def test_the_first_group_of_two_can_go(account: Account, stack: Stack) -> None:
    assert stack.up(letting_in("apps", "jobs")).ok
    before = sources(account)
    changed = stack.up(letting_in("jobs"))
    assert changed.ok, changed.text
    assert changed.steps == [("delete", "etcd-clients-apps")]
    assert len(before) == 2
    assert len(sources(account)) == 1


def test_a_listed_group_of_the_program_keeps_its_rule_when_others_come_and_go(account: Account, stack: Stack) -> None:
    assert stack.up(letting_in("apps", listed_after="sg-0first")).ok
    changed = stack.up(letting_in("apps", listed_after="sg-0second"))
    assert changed.ok, changed.text
    assert changed.steps == [("create", "etcd-clients-sg-0second"), ("delete", "etcd-clients-sg-0first")]


def test_a_rule_by_its_former_name_is_taken_over(account: Account, stack: Stack) -> None:
    """Rules of groups that are known only later were named by their place in the list."""
    before, after = "etcd-clients-group-0", "etcd-clients-apps"
    assert stack.up(letting_in("apps", "jobs")).ok
    for urn, resource in list(stack.state.current.items()):
        if urn.endswith(f"::{after}"):
            del stack.state.current[urn]
            former = urn.replace(after, before)
            stack.state.current[former] = replace(resource, urn=former)
    rules = sources(account)
    changed = stack.up(letting_in("apps", "jobs"))
    assert changed.ok, changed.text
    assert changed.steps == []
    assert sources(account) == rules


# --- another key to log in with ---


class Logins:
    """Stands in for OpenSSH: a machine lets in the keys of its user data, and those that were added on it."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.let_in: dict[str, set[str]] = {}

    def __call__(self) -> Logins:
        return self

    def __enter__(self) -> Logins:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def keys(self, address: str) -> set[str]:
        (machine,) = (
            each
            for each in (*self.account.of_type(INSTANCE), *self.account.of_type(VM))
            if self.address(each) == address
        )
        inputs = machine.inputs
        given = yaml.safe_load(inputs["metadata"]["user-data"] if machine.type == VM else inputs["userData"])
        return self.let_in.setdefault(machine.id, set(given["users"][0]["ssh_authorized_keys"]))

    def address(self, machine: Any) -> str:
        if machine.type == VM:
            return str(machine.inputs["networkInterfaces"][0]["networkIp"])
        interface = machine.inputs["primaryNetworkInterface"]["networkInterfaceId"]
        return str(self.account.standing[interface].inputs["privateIp"])

    def run(self, connection: Connection, command: str, *, stdin: str, **_: Any) -> Completed:
        keys = self.keys(connection.host)
        if public_half(str(connection.private_key)) not in keys:
            raise SshAuthenticationError(f"{connection.host} refused the key")
        if stdin:
            (added,) = set(re.findall("ssh-ed25519 [A-Za-z0-9+/]+", stdin))
            keys.add(added)
        return Completed(0, "", "", "")


@pytest.fixture
def logins(account: Account, monkeypatch: pytest.MonkeyPatch) -> Logins:
    found = Logins(account)
    monkeypatch.setattr(login_key_lifecycle, "OpenSsh", found)
    return found


def key() -> str:
    made = Ed25519PrivateKey.generate()
    return made.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()


@CLOUDS
def test_another_key_is_let_in_everywhere_beside_the_one_before(
    account: Account, stack: Stack, logins: Logins, cloud: str
) -> None:
    old, new = key(), key()
    up(stack, given(cloud, private_key=old))
    before = set(account.standing)
    changed = up(stack, given(cloud, private_key=new))
    assert changed.steps == [("update", "etcd-login-key")]
    assert set(account.standing) == before
    assert len(logins.let_in) == 3
    assert all(keys == {public_half(old), public_half(new)} for keys in logins.let_in.values())
    assert up(stack, given(cloud, private_key=new)).steps == []


@CLOUDS
def test_a_preview_without_the_key_reads_as_one_with_it(
    account: Account, stack: Stack, logins: Logins, cloud: str
) -> None:
    up(stack, given(cloud, private_key=(text := key())))
    others = {"client_cidrs" if cloud == "aws" else "client_ranges": ["10.2.0.0/16"]}
    for changes in ({}, {"replace_member": "etcd-2"}, others):
        read: list[list[str]] = []
        for login in (text, MissingKey()):
            shown = stack.preview(program(given(cloud, **{**changes, "private_key": login}))).text
            read.append(sorted(line for line in shown.splitlines() if line.startswith("  ")))
        assert read[0] == read[1]
        assert bool(read[0]) == bool(changes)


@CLOUDS
def test_a_key_made_by_the_stack_gives_way_to_one_of_the_callers(
    account: Account, stack: Stack, logins: Logins, cloud: str
) -> None:
    up(stack, given(cloud))
    up(stack, given(cloud, private_key=(new := key())))
    assert [public_half(new) in keys for keys in logins.let_in.values()] == [True] * 3


@CLOUDS
def test_a_machine_that_lets_neither_key_in_ends_the_run_and_is_asked_again(
    account: Account, stack: Stack, logins: Logins, cloud: str
) -> None:
    old, new = key(), key()
    up(stack, given(cloud, private_key=old))
    logins.let_in[machine_of(account, cloud, "etcd-2")] = set()
    refused = stack.up(program(given(cloud, private_key=new)))
    assert not refused.ok
    assert "etcd-2: the new login key was not let in" in refused.text
    logins.let_in[machine_of(account, cloud, "etcd-2")] = {public_half(old)}
    up(stack, given(cloud, private_key=new))
    assert [public_half(new) in keys for keys in logins.let_in.values()] == [True] * 3


@CLOUDS
def test_a_machine_that_is_replaced_meanwhile_has_the_new_key_from_its_start(
    account: Account, stack: Stack, logins: Logins, cloud: str
) -> None:
    up(stack, given(cloud, private_key=key()))
    logins.let_in[machine_of(account, cloud, "etcd-2")] = set()
    up(stack, given(cloud, private_key=(new := key()), replace_dead_member="etcd-2"))
    address = logins.address(account.standing[machine_of(account, cloud, "etcd-2")])
    assert logins.keys(address) == {public_half(new)}


# --- one machine replaced ---


@CLOUDS
@pytest.mark.parametrize("key", ["replace_member", "replace_dead_member"])
def test_a_machine_is_replaced_though_nothing_else_changed(
    account: Account, stack: Stack, cloud: str, key: str
) -> None:
    up(stack, given(cloud))
    before = {member: machine_of(account, cloud, member) for member in ("etcd-1", "etcd-2", "etcd-3")}
    data = {each.id for each in account.of_type(DATA[cloud])}

    assert "etcd-etcd-2" in stack.preview(program(given(cloud, **{key: "etcd-2"}))).of("replace")
    replaced = up(stack, given(cloud, **{key: "etcd-2"}))
    assert [name for name in replaced.of("replace") if name in {"etcd-etcd-1", "etcd-etcd-3"}] == []
    after = {member: machine_of(account, cloud, member) for member in before}
    assert {member for member in before if before[member] != after[member]} == {"etcd-2"}
    assert {each.id for each in account.of_type(DATA[cloud])} == data

    assert stack.preview(program(given(cloud, **{key: "etcd-2"}))).of("replace") == set(), "once is enough"
    up(stack, given(cloud, **{key: "etcd-2"}))
    up(stack, given(cloud))
    assert {member: machine_of(account, cloud, member) for member in before} == after
    assert up(stack, given(cloud)).steps == []

    up(stack, given(cloud, **{key: "etcd-2"}))
    assert machine_of(account, cloud, "etcd-2") != after["etcd-2"], "asked for again"
    up(stack, given(cloud, **{key: "etcd-3"}))
    assert machine_of(account, cloud, "etcd-3") != after["etcd-3"], "the next one, without a pause"


@CLOUDS
def test_a_request_that_is_left_in_the_program_replaces_once_whatever_changes_later(
    account: Account, stack: Stack, cloud: str
) -> None:
    up(stack, given(cloud))
    up(stack, given(cloud, replace_member="etcd-2"))
    machine = machine_of(account, cloud, "etcd-2")
    account.image = "image-2"
    for own in ("first", "second"):
        image: dict[str, Any] = {"image_id": f"ami-{own}"} if cloud == "aws" else {"image": own}
        later = up(stack, given(cloud, replace_member="etcd-2", **image), size="medium")
        assert not later.of("replace")
        assert later.of("update") <= {f"etcd-etcd-{number}-data" for number in (1, 2, 3)}
    assert machine_of(account, cloud, "etcd-2") == machine
    up(stack, given(cloud), size="medium")
    up(stack, given(cloud, replace_member="etcd-2"), size="medium")
    assert machine_of(account, cloud, "etcd-2") != machine, "asked for again"


@CLOUDS
def test_a_replaced_machine_has_the_newest_image(account: Account, stack: Stack, cloud: str) -> None:
    up(stack, given(cloud))
    account.image = "image-2"
    up(stack, given(cloud, replace_member="etcd-2"))
    machine = account.standing[machine_of(account, cloud, "etcd-2")].inputs
    assert (machine["ami"] if cloud == "aws" else machine["bootImage"]).endswith("image-2")


@CLOUDS
def test_a_replaced_machine_stays_where_its_disk_and_address_are(account: Account, stack: Stack, cloud: str) -> None:
    up(stack, given(cloud))
    if cloud == "aws":
        elsewhere = given(cloud, subnet_ids=["subnet-x", *SUBNETS], replace_member="etcd-2")
    else:
        elsewhere = given(cloud, zones=ZONES[::-1][:2], subnetwork="another", replace_member="etcd-1")
    assert up(stack, elsewhere).of("replace")


@CLOUDS
def test_a_run_that_ends_before_the_new_machine_stands_is_taken_up(account: Account, stack: Stack, cloud: str) -> None:
    up(stack, given(cloud))
    data = {each.id for each in account.of_type(DATA[cloud])}
    account.refuses_new = MACHINE[cloud]
    assert not stack.up(program(given(cloud, replace_member="etcd-2"))).ok
    account.refuses_new = None
    up(stack, given(cloud, replace_member="etcd-2"))
    assert machine_of(account, cloud, "etcd-2")
    assert {each.id for each in account.of_type(DATA[cloud])} == data
    assert len(account.of_type(MACHINE[cloud])) == 3


# --- docs/grow-a-disk.md ---


def sizes(account: Account, cloud: str) -> list[int]:
    return [int(each.inputs["size"]) for each in account.of_type(DATA[cloud])]


def test_aws_grows_every_volume_at_once_and_no_machine_goes(account: Account, stack: Stack) -> None:
    up(stack, given("aws"))
    before = set(account.standing)
    assert up(stack, given("aws", volume_gib=64)).of("update") == {f"etcd-etcd-{number}-data" for number in (1, 2, 3)}
    assert sizes(account, "aws") == [64] * 3
    assert set(account.standing) == before
    assert "cannot be smaller" in stack.up(program(given("aws", volume_gib=32))).text


def test_google_grows_one_disk_a_replaced_member(account: Account, stack: Stack) -> None:
    up(stack, given("gcp"))
    disks = {each.id for each in account.of_type(DISK)}
    (size,) = set(sizes(account, "gcp"))
    up(stack, given("gcp", disk_gb=2 * size))
    assert sizes(account, "gcp") == [size] * 3
    for number in (1, 2, 3):
        machine = machine_of(account, "gcp", f"etcd-{number}")
        up(stack, given("gcp", disk_gb=2 * size, replace_member=f"etcd-{number}"))
        assert machine_of(account, "gcp", f"etcd-{number}") != machine
        assert sorted(sizes(account, "gcp")) == [size] * (3 - number) + [2 * size] * number
    assert {each.id for each in account.of_type(DISK)} == disks


def test_google_replaces_no_disk_by_a_smaller_one(account: Account, stack: Stack) -> None:
    up(stack, given("gcp", disk_gb=500))
    disks = {each.id for each in account.of_type(DISK)}
    up(stack, given("gcp", disk_gb=400))
    refused = stack.up(program(given("gcp", disk_gb=400, replace_member="etcd-1")))
    assert not refused.ok
    assert "the disk of etcd-1 has 500 GB" in refused.text
    assert not stack.preview(program(given("gcp", disk_gb=400, replace_member="etcd-1"))).ok
    assert {each.id for each in account.of_type(DISK)} == disks


def test_a_disk_that_did_not_grow_locks_nobody_out(account: Account, stack: Stack) -> None:
    """The size is the disk's own, and not one that a run meant to give it."""
    up(stack, given("gcp", disk_gb=400))
    account.refuses_growth = True
    assert not stack.up(program(given("gcp", disk_gb=4000, replace_member="etcd-1"))).ok
    account.refuses_growth = False
    up(stack, given("gcp", disk_gb=500, replace_member="etcd-1"))
    assert sorted(sizes(account, "gcp")) == [400, 400, 500]


def test_a_disk_that_was_grown_by_hand_is_not_replaced_by_a_smaller_one(account: Account, stack: Stack) -> None:
    up(stack, given("gcp", disk_gb=400))
    (disk,) = (each for each in account.of_type(DISK) if each.tags["etcd-member"] == "etcd-1")
    disk.inputs["size"] = 600
    refused = stack.up(program(given("gcp", disk_gb=500, replace_member="etcd-1")))
    assert "the disk of etcd-1 has 600 GB" in refused.text
    up(stack, given("gcp", disk_gb=600, replace_member="etcd-1"))


def test_a_disk_of_another_name_is_never_resized(account: Account, stack: Stack) -> None:
    """As disks are that were made before they had names by which they are found."""
    up(stack, given("gcp", disk_gb=400))
    for urn, resource in list(stack.state.current.items()):
        if urn.endswith("::etcd-etcd-1-data"):
            standing = account.standing.pop(resource.id)
            standing.id = standing.id.rpartition("-")[0] + "-0a1b2c3"
            standing.inputs["name"] = standing.id.rpartition("/")[2]
            account.standing[standing.id] = standing
            inputs = {**resource.inputs, "name": standing.inputs["name"]}
            stack.state.current[urn] = replace(resource, id=standing.id, inputs=inputs, outputs=dict(standing.inputs))
    before = {each.id for each in account.of_type(DISK)}
    up(stack, given("gcp", disk_gb=300, replace_member="etcd-1"))
    up(stack, given("gcp", disk_gb=300))
    up(stack, given("gcp", disk_gb=500, replace_member="etcd-1"))
    assert {each.id for each in account.of_type(DISK)} == before
    assert sizes(account, "gcp") == [400] * 3


@CLOUDS
def test_another_key_never_replaces_a_machine_whose_request_is_still_in_the_program(
    account: Account, stack: Stack, logins: Logins, cloud: str
) -> None:
    old, new = key(), key()
    up(stack, given(cloud, private_key=old))
    up(stack, given(cloud, private_key=old, replace_member="etcd-2"))
    had = {each.id for each in account.of_type(MACHINE[cloud])}
    up(stack, given(cloud, private_key=new, replace_member="etcd-2"))
    assert {each.id for each in account.of_type(MACHINE[cloud])} == had
    for machine in account.of_type(MACHINE[cloud]):
        assert len(logins.keys(logins.address(machine))) == 2
    assert up(stack, given(cloud, private_key=new, replace_member="etcd-2")).steps == []
    assert up(stack, given(cloud, private_key=new)).of("replace") == set()


@CLOUDS
def test_other_user_data_never_replace_a_machine_whose_request_is_still_in_the_program(
    account: Account, stack: Stack, cloud: str
) -> None:
    up(stack, given(cloud))
    up(stack, given(cloud, replace_member="etcd-2"))
    had = {each.id for each in account.of_type(MACHINE[cloud])}
    up(stack, given(cloud, user_data="#!/bin/sh\n", replace_member="etcd-2"))
    assert {each.id for each in account.of_type(MACHINE[cloud])} == had
    up(stack, given(cloud, user_data="#!/bin/sh\n"))
    up(stack, given(cloud, user_data="#!/bin/sh\n", replace_member="etcd-2"))
    assert {each.id for each in account.of_type(MACHINE[cloud])} != had
