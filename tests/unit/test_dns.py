"""DNS names: which certificates hold them, which records make them work, and what the stack exports."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from ipaddress import ip_address
from typing import Any, TypeVar

import pytest

from etcd_cluster import Dns, EtcdCluster, EtcdClusterArgs, dns_lookup
from etcd_cluster.dns import ClusterNames, validate_dns
from etcd_cluster.dns_lookup import compared
from etcd_cluster.errors import ConfigurationError
from etcd_cluster.machines.records import documents, in_zone
from etcd_cluster.rollout import changes
from tests.unit.recording import Recording, event_loop, record
from tests.unit.test_cluster import HOSTS, MEMBERS, build, results

Result = TypeVar("Result")
DNS = Dns("Etcd.Example.com", member_names={"host-3": "db-3.example.com"}, other_names=["old.example.org"])
CLIENT_PORTS: dict[str, int] = dict.fromkeys(MEMBERS, 2379)
ADDRESSES = {name: f"10.0.0.{number}" for number, name in enumerate(MEMBERS, 1)}


def names(**changed: Any) -> ClusterNames:
    given = {"name": DNS.name, "member_names": DNS.member_names, "other_names": DNS.other_names, **changed}
    return validate_dns(Dns(**given), MEMBERS, "hosts")


def records(addresses: dict[str, str] | None = None, **changed: Any) -> dict[tuple[str, str], list[str]]:
    found = names(**changed)
    made = documents(addresses or ADDRESSES, found.address_records(), found.service_records(CLIENT_PORTS, tls=True))
    return {(each["name"], each["type"]): each["values"] for each in made}


@pytest.fixture(scope="module")
def named() -> Recording:
    return build(dns=DNS)


def test_a_server_certificate_holds_the_names_of_the_cluster_and_of_its_own_member(named: Recording) -> None:
    usual = {"10.0.0.3", "127.0.0.1", "::1", "host-3", "localhost"}
    assert set(named.resources["etcd-host-3-server"].value("hosts")) == usual | {
        *("etcd.example.com", "old.example.org", "db-3.example.com", "host-3.old.example.org"),
    }
    assert set(named.resources["etcd-host-3-peer"].value("hosts")) == usual


def test_without_names_nothing_differs() -> None:
    plain = build()
    assert "names" not in plain.resources["etcd-rollout"].inputs
    assert "dnsRecords" not in plain.outputs["etcd"]
    assert set(plain.resources["etcd-host-3-server"].value("hosts")) == {
        *("10.0.0.3", "127.0.0.1", "::1", "host-3", "localhost")
    }


def test_endpoints_have_addresses_unless_names_are_asked_for(named: Recording) -> None:
    assert named.outputs["etcd"]["endpoints"] == [f"https://10.0.0.{number}:2379" for number in (1, 2, 3)]
    by_name = build(dns=Dns(DNS.name, member_names=DNS.member_names, endpoints="name"))
    assert by_name.outputs["etcd"]["endpoints"] == [
        *("https://host-1.etcd.example.com:2379", "https://host-2.etcd.example.com:2379"),
        "https://db-3.example.com:2379",
    ]
    assert by_name.outputs["etcd"]["members"]["host-3"] == {
        "address": "10.0.0.3",
        "clientUrl": "https://db-3.example.com:2379",
        "peerUrl": "https://10.0.0.3:2380",
    }


def test_every_name_has_its_record() -> None:
    everyone = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    assert records() == {
        ("etcd.example.com", "A"): everyone,
        ("host-1.etcd.example.com", "A"): ["10.0.0.1"],
        ("host-2.etcd.example.com", "A"): ["10.0.0.2"],
        ("db-3.example.com", "A"): ["10.0.0.3"],
        ("_etcd-client-ssl._tcp.etcd.example.com", "SRV"): [
            "0 0 2379 host-1.etcd.example.com.",
            "0 0 2379 host-2.etcd.example.com.",
            "0 0 2379 db-3.example.com.",
        ],
        ("old.example.org", "A"): everyone,
        **{(f"host-{number}.old.example.org", "A"): [f"10.0.0.{number}"] for number in (1, 2, 3)},
        ("_etcd-client-ssl._tcp.old.example.org", "SRV"): [
            f"0 0 2379 host-{number}.old.example.org." for number in (1, 2, 3)
        ],
    }


def test_in_plaintext_clients_look_for_another_service() -> None:
    (record, _) = names().service_records(CLIENT_PORTS, tls=False)
    assert record.name == "_etcd-client._tcp.etcd.example.com"


def test_addresses_of_ipv6_and_hosts_that_have_names_get_records_of_their_kind() -> None:
    found = records({"host-1": "fd00::1", "host-2": "10.0.0.2", "host-3": "db-3.example.com"}, other_names=())
    assert found["etcd.example.com", "AAAA"] == ["fd00::1"]
    assert found["etcd.example.com", "A"] == ["10.0.0.2"]
    assert found["host-1.etcd.example.com", "AAAA"] == ["fd00::1"]
    assert ("db-3.example.com", "CNAME") not in found  # it is its own address
    elsewhere = records({**ADDRESSES, "host-3": "db-3.internal"}, other_names=())
    assert elsewhere["db-3.example.com", "CNAME"] == ["db-3.internal."]
    assert ("etcd.example.com", "CNAME") not in elsewhere


def test_a_name_outside_of_the_zone_is_refused() -> None:
    check = in_zone("aws.hostedZoneId", ["etcd.example.com", "example.com"])
    assert check(["Z1", "example.com."]) == "Z1"
    assert check(["Z1", None]) == "Z1"  # Pulumi's mocks
    for zone in ("example.org.", "ample.com.", "etcd.example.com."):
        with pytest.raises(ConfigurationError, match="not in the zone"):
            check(["Z1", zone])


def rollout(**changed: Any) -> dict[str, Any]:
    return {"members": ADDRESSES, "tls": True, "names": dict(names(**changed).owners)}


def test_the_preview_says_which_names_clients_lose() -> None:
    assert changes.dropped_names(rollout(), rollout()) == []
    assert changes.dropped_names({**rollout(), "names": None}, rollout()) == []
    (renamed,) = changes.dropped_names(rollout(other_names=()), rollout(name="new.example.com", other_names=()))
    assert renamed.startswith("etcd.example.com, host-1.etcd.example.com, host-2.etcd.example.com: ")
    assert "fail when they next connect" in renamed
    kept = rollout(name="new.example.com", other_names=["etcd.example.com"], member_names={})
    assert changes.dropped_names(rollout(other_names=(), member_names={}), kept) == []
    (removed,) = changes.dropped_names(rollout(), {**rollout(), "names": None})
    assert "db-3.example.com" in removed
    fewer = {**rollout(), "members": {"host-1": "10.0.0.1"}, "names": {}}
    assert "host-2" not in changes.dropped_names(rollout(), fewer)[0]


def test_the_stack_says_which_records_there_are(named: Recording) -> None:
    found = named.outputs["etcd"]["dnsRecords"]
    assert {"name": "db-3.example.com", "type": "A", "ttl": 60, "values": ["10.0.0.3"]} in found


def resolved(**changed: Any) -> dict[str, list[str]]:
    """What names stand for once the records are made; changed: label of a name -> its addresses instead."""
    found: dict[str, list[str]] = {}
    for (name, kind), values in records().items():
        if kind != "SRV":
            found[name] = values
    return found | {f"{label.replace('_', '-')}.etcd.example.com": values for label, values in changed.items()}


def of_names(resolves: dict[str, list[str]], **changed: Any) -> list[str]:
    program = lambda: EtcdCluster("etcd", EtcdClusterArgs(machines=HOSTS, dns=DNS))  # noqa: E731
    recorded = record(program, results=results, resolves=resolves, **changed)
    return [each for each in recorded.warnings if each.startswith("dns: ")]


def test_an_up_warns_of_names_that_lead_elsewhere_or_nowhere() -> None:
    assert of_names(resolved()) == []
    moved = ["10.0.0.2", "10.0.0.7"]
    missing = {name: values for name, values in resolved(host_2=moved).items() if name != "old.example.org"}
    assert of_names(missing) == [
        "dns: as this machine resolves them, names do not lead to their members: host-2.etcd.example.com (10.0.0.2, "
        "10.0.0.7, not 10.0.0.2), old.example.org (no address, not 10.0.0.1, 10.0.0.2, 10.0.0.3). Expected: the "
        "addresses of the members, for clients that use these names. Make the records that `etcd-cluster dns` prints "
        "(docs/names.md)."
    ]
    (partly,) = of_names({**resolved(), "etcd.example.com": ["10.0.0.1", "10.0.0.3"]})
    assert "members: etcd.example.com (10.0.0.1, 10.0.0.3, not 10.0.0.1, 10.0.0.2, 10.0.0.3)" in partly
    (of_another,) = of_names(resolved(host_1=["10.0.0.2"]))
    assert "host-1.etcd.example.com (10.0.0.2, not 10.0.0.1)" in of_another


def test_a_preview_asks_no_resolver() -> None:
    assert of_names({}, preview=True) == []


def test_a_name_of_a_host_that_has_a_name_leads_where_that_leads() -> None:
    wanted = {"etcd.example.com": ["10.0.0.1"], "etcd-2.example.com": ["db.internal"]}
    one, two, other = (frozenset([ip_address(f"10.0.0.{number}")]) for number in (1, 2, 3))
    found = {"10.0.0.1": one, "db.internal": two, "etcd.example.com": one | two, "etcd-2.example.com": two}
    assert compared(wanted, found) is None
    wrong = compared(wanted, {**found, "etcd-2.example.com": other})
    assert wrong is not None
    assert "etcd-2.example.com (10.0.0.3, not db.internal)" in wrong.problem


def finished(task: Coroutine[Any, Any, Result]) -> Result:
    with event_loop() as loop:
        return loop.run_until_complete(task)


def test_a_resolver_without_an_answer_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def endless(name: str) -> Any:
        await asyncio.sleep(3600)

    monkeypatch.setattr(dns_lookup, "addresses_of", endless)
    monkeypatch.setattr(dns_lookup, "LOOKUP_SECONDS", 0.05)
    found = finished(dns_lookup.wrong_names([{"name": "etcd.test", "type": "A", "values": ["10.0.0.1"]}]))
    assert found is not None
    assert "etcd.test (no address, not 10.0.0.1)" in found.problem


def test_names_are_resolved_as_the_machine_does_it() -> None:
    assert finished(dns_lookup.addresses_of("127.0.0.1")) == frozenset([ip_address("127.0.0.1")])
    assert finished(dns_lookup.addresses_of("a" * 64 + ".test")) == dns_lookup.NONE
