"""Stories of what a cluster's machines have only if it was chosen, and of what the caller brings."""

from __future__ import annotations

import email
from typing import Any

import pulumi
import pytest

from etcd_cluster import ConfigurationError, GcpMachines, ProxyCommand
from tests.clouds.simulator import (
    ALARM,
    DISK,
    FIREWALL,
    GROUP,
    INGRESS,
    INSTANCE,
    INTERFACE,
    PLACEMENT_GROUP,
    POLICY,
    VM,
    VOLUME,
    Account,
    Stack,
)
from tests.clouds.test_stories import CLOUDS, MACHINE, given, machine_of, program, pytestmark, up

__all__ = ["pytestmark"]

ALIAS = "arn:aws:kms:eu-central-1:111122223333:alias/etcd"
KEY = "arn:aws:kms:eu-central-1:111122223333:key"
SCRIPT = "#!/bin/sh\necho é >/root/here\n"
EMAIL = "etcd@project.iam.gserviceaccount.com"


def inputs_of(account: Account, type_: str) -> list[dict[str, Any]]:
    return [each.inputs for each in account.of_type(type_)]


def parts_of(user_data: str) -> list[str]:
    parts = [part for part in email.message_from_string(user_data).walk() if not part.is_multipart()]
    return [bytes(part.get_payload(decode=True)).decode() for part in parts]


def machines_of(account: Account, cloud: str) -> dict[str, dict[str, Any]]:
    return {each.id: each.inputs for each in account.of_type(MACHINE[cloud])}


# --- what fails, and where machines are ---


def test_hardware_that_fails_is_left_by_itself(account: Account, stack: Stack) -> None:
    up(stack, given("aws"))
    assert [each["maintenanceOptions"] for each in inputs_of(account, INSTANCE)] == [{"autoRecovery": "default"}] * 3
    assert inputs_of(account, ALARM) == []
    google = Stack(Account())
    up(google, given("gcp"))
    expected = {"automaticRestart": True, "onHostMaintenance": "MIGRATE"}
    assert [each["scheduling"] for each in inputs_of(google.account, VM)] == [expected] * 3


def test_a_recovery_alarm_comes_and_goes_beside_machines_that_stand(account: Account, stack: Stack) -> None:
    up(stack, given("aws"))
    added = up(stack, given("aws", recovery_alarm=True))
    assert {done for done, _ in added.steps} == {"create"}
    alarms = inputs_of(account, ALARM)
    assert {each["dimensions"]["InstanceId"] for each in alarms} == set(machines_of(account, "aws"))
    assert {tuple(each["alarmActions"]) for each in alarms} == {("arn:aws-cn:automate:cn-north-1:ec2:recover",)}
    up(stack, given("aws", recovery_alarm=True, replace_member="etcd-2"))
    alarms = inputs_of(account, ALARM)
    assert {each["dimensions"]["InstanceId"] for each in alarms} == set(machines_of(account, "aws"))
    before = set(machines_of(account, "aws"))
    assert up(stack, given("aws")).of("delete") >= {f"etcd-etcd-{number}-recovery" for number in (1, 2, 3)}
    assert set(machines_of(account, "aws")) == before


@CLOUDS
def test_a_cluster_can_be_spread_from_its_start(account: Account, stack: Stack, cloud: str) -> None:
    up(stack, given(cloud, spread=True))
    (where,) = inputs_of(account, PLACEMENT_GROUP if cloud == "aws" else POLICY)
    assert where.get("strategy", "spread") == "spread"
    place = "placementGroup" if cloud == "aws" else "resourcePolicies"
    expected = where["name"] if cloud == "aws" else where["selfLink"]
    assert [each[place] for each in machines_of(account, cloud).values()] == [expected] * 3
    assert up(stack, given(cloud, spread=True)).steps == []
    assert stack.destroy().ok
    assert {each.type for each in account.standing.values()} == {VOLUME if cloud == "aws" else DISK}


@CLOUDS
def test_spreading_moves_only_members_that_are_replaced_and_can_be_taken_back(
    account: Account, stack: Stack, cloud: str
) -> None:
    place = "placementGroup" if cloud == "aws" else "resourcePolicies"
    up(stack, given(cloud))
    before = machines_of(account, cloud)
    assert {done for done, _ in up(stack, given(cloud, spread=True)).steps} == {"create"}
    assert machines_of(account, cloud) == before
    up(stack, given(cloud, spread=True, replace_member="etcd-2"))
    assert place in account.standing[machine_of(account, cloud, "etcd-2")].inputs
    assert place not in account.standing[machine_of(account, cloud, "etcd-1")].inputs
    refused = stack.up(program(given(cloud)))
    assert not refused.ok
    assert "is in use by" in refused.text
    up(stack, given(cloud, spread=False, replace_member="etcd-2"))
    assert place not in account.standing[machine_of(account, cloud, "etcd-2")].inputs
    up(stack, given(cloud))
    assert inputs_of(account, PLACEMENT_GROUP if cloud == "aws" else POLICY) == []


# --- what the caller brings ---


def test_groups_of_the_caller_s_can_be_all_there_are(account: Account, stack: Stack) -> None:
    own: dict[str, Any] = {"make_security_group": False, "security_group_ids": ["sg-own"], "ssh_cidrs": ()}
    up(stack, given("aws", **own))
    assert not account.of_type(GROUP) + account.of_type(INGRESS)
    assert [each["securityGroups"] for each in inputs_of(account, INTERFACE)] == [["sg-own"]] * 3


def test_a_cluster_changes_to_groups_of_the_caller_s_and_back_in_place(account: Account, stack: Stack) -> None:
    own: dict[str, Any] = {"make_security_group": False, "security_group_ids": ["sg-own"], "ssh_cidrs": ()}
    up(stack, given("aws", security_group_ids=["sg-own"]))
    before = set(machines_of(account, "aws"))
    up(stack, given("aws", **own))
    assert not account.of_type(GROUP) + account.of_type(INGRESS)
    up(stack, given("aws", security_group_ids=["sg-own"]))
    assert len(account.of_type(GROUP)) == 1
    assert set(machines_of(account, "aws")) == before


def test_a_firewall_of_the_caller_s_can_be_all_there_is(account: Account, stack: Stack) -> None:
    up(stack, given("gcp"))
    assert len(account.of_type(FIREWALL)) == 3
    before = set(machines_of(account, "gcp"))
    up(stack, given("gcp", make_firewall=False, network_tags=["etcd-own"], ssh_ranges=()))
    assert account.of_type(FIREWALL) == []
    assert set(machines_of(account, "gcp")) == before
    assert all("etcd-own" in each["tags"] for each in inputs_of(account, VM))


@pytest.mark.parametrize(
    ("cloud", "changes", "key"),
    [
        ("aws", {"make_security_group": False}, "aws.securityGroupIds"),
        ("aws", {"make_security_group": False, "security_group_ids": ["sg-a"]}, "aws.sshCidrs"),
        ("gcp", {"make_firewall": False}, "gcp.sshRanges"),
        ("gcp", {"subnetwork": "projects/a/regions/europe-west4/subnetworks/s"}, "gcp.subnetwork"),
        (
            "gcp",
            {
                "network": "projects/host/global/networks/n",
                "subnetwork": "projects/service/regions/europe-west1/subnetworks/s",
            },
            "gcp.subnetwork",
        ),
    ],
)
def test_what_nothing_uses_or_does_not_fit_is_refused(cloud: str, changes: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        given(cloud, **changes).member_names(3)
    assert refused.value.key == key


def test_an_instance_profile_comes_to_machines_that_stand(account: Account, stack: Stack) -> None:
    up(stack, given("aws"))
    before = set(machines_of(account, "aws"))
    changed = up(stack, given("aws", instance_profile="etcd"))
    assert {done for done, _ in changed.steps} == {"update"}
    assert {each["iamInstanceProfile"] for each in machines_of(account, "aws").values()} == {"etcd"}
    assert set(machines_of(account, "aws")) == before


def test_a_service_account_comes_with_new_machines_alone(account: Account, stack: Stack) -> None:
    """A running machine cannot change it."""
    up(stack, given("gcp"))
    assert up(stack, given("gcp", service_account=EMAIL)).steps == []
    up(stack, given("gcp", service_account=EMAIL, replace_member="etcd-3"))
    assert account.standing[machine_of(account, "gcp", "etcd-3")].inputs["serviceAccount"] == {
        "email": EMAIL,
        "scopes": ["https://www.googleapis.com/auth/cloud-platform"],
    }
    assert "serviceAccount" not in account.standing[machine_of(account, "gcp", "etcd-1")].inputs


@CLOUDS
def test_user_data_of_the_caller_s_comes_with_new_machines_behind_the_cluster_s_own(
    account: Account, stack: Stack, cloud: str
) -> None:
    up(stack, given(cloud))
    assert up(stack, given(cloud, user_data=SCRIPT)).steps == []
    up(stack, given(cloud, user_data=SCRIPT, replace_member="etcd-1"))
    inputs = account.standing[machine_of(account, cloud, "etcd-1")].inputs
    text = inputs["userData"] if cloud == "aws" else inputs["metadata"]["user-data"]
    own, theirs = parts_of(text)
    assert own.startswith("#cloud-config\nusers:")
    assert theirs == SCRIPT
    assert len(text) < 16 * 1024


def test_user_data_that_is_known_late_is_checked_then(account: Account, stack: Stack) -> None:
    ran = stack.up(program(given("aws", user_data=pulumi.Output.from_input("#cloud-config\nusers: []\n"))))
    assert not ran.ok
    assert "the cluster sets this key itself" in ran.text
    assert account.of_type(INSTANCE) == []


# --- organizations ---


def test_a_key_by_alias_is_its_key_and_another_one_behind_it_replaces_nobody(account: Account, stack: Stack) -> None:
    up(stack, given("aws", kms_key_id=ALIAS))
    keys = {each["kmsKeyId"] for each in inputs_of(account, VOLUME)}
    assert keys | {each["rootBlockDevice"]["kmsKeyId"] for each in inputs_of(account, INSTANCE)} == {f"{KEY}/key-1"}
    account.key_of_aliases = "key-2"
    assert up(stack, given("aws", kms_key_id=ALIAS)).steps == []
    up(stack, given("aws", kms_key_id=pulumi.Output.from_input(ALIAS), replace_member="etcd-1"))
    machine = account.standing[machine_of(account, "aws", "etcd-1")].inputs
    assert machine["rootBlockDevice"]["kmsKeyId"] == f"{KEY}/key-2"
    assert {each["kmsKeyId"] for each in inputs_of(account, VOLUME)} == {f"{KEY}/key-1"}


@pytest.mark.parametrize("late", [False, True])
def test_in_a_shared_vpc_the_firewall_is_in_the_network_s_project(account: Account, stack: Stack, late: bool) -> None:
    network, subnetwork = "projects/host/global/networks/n", "projects/host/regions/europe-west1/subnetworks/s"

    def shared() -> GcpMachines:
        given_network: Any = pulumi.Output.from_input(network) if late else network
        machines = given("gcp", network=given_network, subnetwork=subnetwork)
        assert isinstance(machines, GcpMachines)
        return machines

    up(stack, shared())
    assert {each["project"] for each in inputs_of(account, FIREWALL)} == {"host"}
    assert {each["networkInterfaces"][0]["subnetwork"] for each in inputs_of(account, VM)} == {subnetwork}
    assert up(stack, shared()).steps == []


def test_os_login_is_as_an_organization_s_policy_asks_on_new_machines(account: Account, stack: Stack) -> None:
    up(stack, given("gcp"))
    assert {each["metadata"]["enable-oslogin"] for each in inputs_of(account, VM)} == {"false"}
    assert up(stack, given("gcp", os_login=True)).steps == []
    up(stack, given("gcp", os_login=True, replace_member="etcd-1"))
    replaced = account.standing[machine_of(account, "gcp", "etcd-1")].inputs
    assert replaced["metadata"]["enable-oslogin"] == "true"


@CLOUDS
def test_a_cluster_behind_a_command_needs_no_port_for_ssh_from_outside(
    account: Account, stack: Stack, cloud: str
) -> None:
    way = {"ssh_cidrs" if cloud == "aws" else "ssh_ranges": (), "proxy_command": ProxyCommand("tunnel %h %p")}
    up(stack, given(cloud, **way))
    open_to = [each["fromPort"] for each in inputs_of(account, INGRESS)]
    open_to += [port for each in inputs_of(account, FIREWALL) for port in each["allows"][0]["ports"]]
    assert open_to
    assert not {22, "22"} & set(open_to)
    assert up(stack, given(cloud, **way)).steps == []


@pytest.mark.parametrize(
    "ways",
    [
        [["10.1.0.0/16"], {"office": "10.1.0.0/16"}, {"bureau": "10.1.0.0/16"}, ["10.1.0.0/16"]],
        [{"office": "10.1.0.0/16"}, {"bureau": "10.1.0.0/16", "office": "10.2.0.0/16"}],
    ],
)
def test_another_key_of_a_range_makes_no_other_rule(account: Account, stack: Stack, ways: list[Any]) -> None:
    """AWS refuses a second rule for one source, and the old one goes last."""
    for ssh_cidrs in ways:
        up(stack, given("aws", ssh_cidrs=ssh_cidrs))
    ranges = [each.inputs["cidrIpv4"] for each in account.of_type(INGRESS) if each.inputs["description"] == "ssh"]
    wanted = ways[-1].values() if isinstance(ways[-1], dict) else ways[-1]
    assert sorted(ranges) == sorted(wanted)
