"""Stories of a cluster's DNS records in simulated clouds, and on a moto server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pulumi

from etcd_cluster import SIZES, Dns
from etcd_cluster.dns import validate_dns
from etcd_cluster.ssh.missing_key import with_keys_kept
from tests.clouds.simulator import RECORD, RECORD_SET, Account, Run, Stack
from tests.clouds.test_stories import CLOUDS, given, pytestmark

__all__ = ["pytestmark"]

TYPE = {"aws": RECORD, "gcp": RECORD_SET}
ZONE: dict[str, dict[str, Any]] = {
    "aws": {"hosted_zone_id": "Z0123456789ABCDEFGHIJ"},
    "gcp": {"managed_zone": "projects/p/managedZones/private"},
}
NAME = "etcd.example.com"


def program(cloud: str, dns: Dns, members: int = 3, **changes: Any) -> Callable[[], None]:
    """Machines and records of a cluster whose members are up at once."""

    def register() -> None:
        platform = given(cloud, **ZONE[cloud], **changes)
        parent = pulumi.ComponentResource("test:index:Machines", "etcd", None, with_keys_kept(platform, None))
        names = platform.member_names(members)
        made = platform.provision("etcd", names, SIZES["small"], parent)
        found = validate_dns(dns, names, cloud)
        platform.publish(
            "etcd",
            {machine.name: machine.address for machine in made},
            found.address_records(),
            found.service_records({machine.name: machine.ports.client for machine in made}, tls=True),
            pulumi.ResourceOptions(parent=parent),
        )

    return register


def up(stack: Stack, cloud: str, dns: Dns, **more: Any) -> Run:
    ran = stack.up(program(cloud, dns, **more))
    assert ran.ok, ran.text
    return ran


def of_records(run: Run) -> set[tuple[str, str]]:
    """(what is done, name of the resource), of records alone."""
    return {(done, name) for done, name in run.steps if NAME.partition(".")[2] in name}


def records(account: Account, cloud: str) -> dict[tuple[str, str], list[str]]:
    found = [each.inputs for each in account.of_type(TYPE[cloud])]
    return {(each["name"], each["type"]): each.get("records") or each["rrdatas"] for each in found}


def named(cloud: str, name: str) -> str:
    """As the cloud has it."""
    return f"{name}." if cloud == "gcp" else name


@CLOUDS
def test_names_and_services_stand_in_the_zone(account: Account, stack: Stack, cloud: str) -> None:
    up(stack, cloud, Dns(NAME))
    found = records(account, cloud)
    members = [f"etcd-{number}.{NAME}" for number in (1, 2, 3)]
    assert found.keys() == {
        (named(cloud, NAME), "A"),
        *((named(cloud, member), "A") for member in members),
        (named(cloud, f"_etcd-client-ssl._tcp.{NAME}"), "SRV"),
    }
    assert found[named(cloud, f"_etcd-client-ssl._tcp.{NAME}"), "SRV"] == [
        f"0 0 2379 {named(cloud, member)}" for member in members
    ]
    addresses = found[named(cloud, NAME), "A"]
    assert [found[named(cloud, member), "A"] for member in members] == [[address] for address in addresses]
    assert len(set(addresses)) == 3
    assert up(stack, cloud, Dns(NAME)).steps == []
    assert stack.destroy().ok
    assert records(account, cloud) == {}


@CLOUDS
def test_members_come_and_go_with_their_names(account: Account, stack: Stack, cloud: str) -> None:
    up(stack, cloud, Dns(NAME))
    lists = {("update", f"etcd-{NAME}-a"), ("update", f"etcd-_etcd-client-ssl._tcp.{NAME}-srv")}
    grown = up(stack, cloud, Dns(NAME), members=5)
    assert of_records(grown) == {*lists, *(("create", f"etcd-etcd-{number}.{NAME}-a") for number in (4, 5))}
    shrunk = up(stack, cloud, Dns(NAME))
    assert of_records(shrunk) == {*lists, *(("delete", f"etcd-etcd-{number}.{NAME}-a") for number in (4, 5))}
    assert len(records(account, cloud)[named(cloud, NAME), "A"]) == 3


@CLOUDS
def test_another_name_takes_the_place_of_one_unless_that_is_kept(account: Account, stack: Stack, cloud: str) -> None:
    up(stack, cloud, Dns(NAME))
    before = records(account, cloud)
    both = up(stack, cloud, Dns("new.example.com", other_names=[NAME]))
    assert {done for done, _ in both.steps} == {"create"}
    assert records(account, cloud).items() >= before.items()
    alone = up(stack, cloud, Dns("new.example.com"))
    assert {done for done, _ in alone.steps} == {"delete"}
    assert not records(account, cloud).keys() & before.keys()


@CLOUDS
def test_another_machine_has_the_same_records(account: Account, stack: Stack, cloud: str) -> None:
    up(stack, cloud, Dns(NAME))
    before = records(account, cloud)
    replaced = up(stack, cloud, Dns(NAME), replace_member="etcd-2")
    assert replaced.of("replace")
    assert not of_records(replaced)
    assert records(account, cloud) == before


@CLOUDS
def test_a_zone_of_another_domain_is_refused_in_the_preview(account: Account, stack: Stack, cloud: str) -> None:
    account.domain = "example.org"
    refused = stack.preview(program(cloud, Dns(NAME)))
    assert not refused.ok
    assert "not in the zone, which is example.org" in refused.text
    assert not account.standing


def test_route_53_keeps_a_record_of_somebody_elses(account: Account, stack: Stack) -> None:
    account.create(RECORD, {**{"zoneId": "Z0123456789ABCDEFGHIJ", "name": NAME, "type": "A"}, "records": ["10.9.9.9"]})
    failed = stack.up(program("aws", Dns(NAME)))
    assert not failed.ok
    assert "already exists" in failed.text
    assert records(account, "aws")[NAME, "A"] == ["10.9.9.9"]
