"""What users may ask for: good values pass, bad ones are refused by key, value and fix."""

from __future__ import annotations

from typing import Any, cast

import pytest

from etcd_cluster import CA, ConfigurationError, EtcdClusterArgs, Host, HostMachines, Install, LocalMachines
from etcd_cluster.etcd.sizes import GIB, MIB, SIZES, Size, size_named
from etcd_cluster.machines.machine import Machines
from etcd_cluster.settings import validate_arguments
from tests.unit.keys import host_key

HOST_KEY = host_key(4)
OWN_CA = CA(cast(Any, "certificate"), cast(Any, "key"))


def hosts(**changes: Any) -> HostMachines:
    listed = {f"host-{n}": Host(f"10.0.0.{n}", host_key(n)) for n in (1, 2, 3)}
    return HostMachines({**listed, **changes})


def arguments(machines: Machines | None = None, **changes: Any) -> EtcdClusterArgs:
    return EtcdClusterArgs(machines=machines or hosts(), **changes)


def test_defaults_are_three_small_members_with_tls_on_the_newest_known_patch() -> None:
    settings = validate_arguments(arguments(LocalMachines()))
    assert (len(settings.names), settings.size.name, settings.tls) == (3, "small", True)
    assert settings.version == "3.6.16"
    assert (settings.ca_rotation, settings.ca_overlap_hours) == (0, 720)
    assert settings.warnings == []


def test_the_size_sets_the_quota_and_the_user_may_lower_it() -> None:
    assert validate_arguments(arguments(size="medium")).options["quota-backend-bytes"] == 4 * GIB
    assert validate_arguments(arguments(etcd={"quota-backend-bytes": str(GIB)})).options["quota-backend-bytes"] == GIB


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"size": "tiny"}, "size", "small, medium, large"),
    ({"version": "3.6"}, "version", "3.6.16"),
    ({"version": "3.3.27"}, "version", "3.6.16"),
    ({"version": "3.5.1"}, "version", "allowUnsafeVersion"),
    ({"members": 2}, "members", "1, 3, 5 or 7"),
    ({"members": 0}, "members", "1, 3, 5 or 7"),
    ({"members": 9}, "members", "1, 3, 5 or 7"),
    ({"members": 5}, "members", "3 hosts are listed"),
    ({"machines": HostMachines({})}, "hosts", "list 1, 3, 5 or 7 hosts"),
    ({"machines": hosts(four=Host("10.0.0.4", HOST_KEY))}, "hosts", "1, 3, 5 or 7"),
    ({"machines": hosts(**{"host-2": Host("10.0.0.1", HOST_KEY)})}, "hosts.host-2.address", "host host-1 has the same"),
    (
        {
            "machines": hosts(
                **{"host-2": Host("a", host_key(2), "10.9.9.9"), "host-3": Host("b", host_key(3), "10.9.9.9")}
            )
        },
        "hosts.host-3.sshAddress",
        "host host-2 has the same",
    ),
    ({"machines": hosts(**{"host-2": Host("https://b:2379", HOST_KEY)})}, "hosts.host-2.address", "leave scheme"),
    ({"machines": hosts(**{"host-2": Host("b", "ssh-rsa AAAA")})}, "hosts.host-2.hostKey", "ssh-keyscan -t ed25519"),
    ({"machines": hosts(**{"host-2": Host("b", HOST_KEY, device="nvme1n1")})}, "hosts.host-2.device", "/dev/nvme1n1"),
    ({"machines": HostMachines({"Host_1": Host("a", HOST_KEY)})}, "hosts.Host_1", "lower-case"),
    ({"machines": LocalMachines(base_port=80)}, "local.basePort", "from 1024 to 65465"),
    ({"machines": LocalMachines(base_port=65530)}, "local.basePort", "from 1024 to 65465"),
    ({"install": Install("auto")}, "install.from", "release, archive or build"),
    ({"install": Install("git")}, "install.from", "release, archive or build"),  # type: ignore[arg-type]
    ({"install": Install("archive")}, "install.archive", "tarball"),
    ({"install": Install(mirror="ftp://mirror")}, "install.mirror", "http(s)"),
    ({"install": Install(proxy="proxy:3128")}, "install.proxy", "http://proxy.example.net:3128"),
    ({"install": Install(proxy="socks5://proxy")}, "install.proxy", "http://proxy.example.net:3128"),
    ({"install": Install(proxy='http://proxy"')}, "install.proxy", "http://proxy.example.net:3128"),
    ({"install": Install(proxy="http://proxy/path")}, "install.proxy", "http://proxy.example.net:3128"),
    ({"install": Install(proxy="http://me:pass@proxy:3128")}, "install.proxy", "make it a secret"),
    ({"install": Install(proxy="http://proxy:3128", no_proxy=["http://m"])}, "install.noProxy[0]", "write it like"),
    ({"install": Install(proxy="http://proxy:3128", no_proxy=["10.0.0.0/8"])}, "install.noProxy[0]", "write it like"),
    ({"install": Install(no_proxy=["mirror.lan"])}, "install.noProxy", "install.proxy as well"),
    ({"install": Install(sha256="abc")}, "install.sha256", "64 hexadecimal digits"),
    ({"ca_rotation": -1}, "caRotation", "0 to 1000000"),
    ({"ca_overlap_hours": -1}, "caOverlapHours", "0 to 8760"),
    ({"ca_overlap_hours": 8_761}, "caOverlapHours", "0 to 8760"),
    ({"etcd": {"heartbeat-intervall": 100}}, "etcd.heartbeat-intervall", "heartbeat-interval"),
    ({"etcd": {"data-dir": "/tmp"}}, "etcd.data-dir", ""),
    ({"etcd": {"quota-backend-bytes": 9 * GIB}}, "etcd.quota-backend-bytes", ""),
    ({"etcd": {"quota-backend-bytes": 7 * GIB}}, "etcd.quota-backend-bytes", "choose a larger size"),
]


@pytest.mark.parametrize(("change", "key", "fix"), BAD, ids=[f"{key}-{n}" for n, (_, key, _) in enumerate(BAD)])
def test_a_bad_value_is_refused_by_key_and_fix(change: dict[str, Any], key: str, fix: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        validate_arguments(arguments(**change))
    assert refused.value.key == key
    assert fix in refused.value.problem + refused.value.fix


def test_a_ca_of_ones_own_is_taken_while_nothing_asks_for_its_rotation() -> None:
    assert validate_arguments(arguments(ca=OWN_CA)).ca_rotation == 0
    settings = validate_arguments(arguments(ca_rotation=2, ca_overlap_hours=0))
    assert (settings.ca_rotation, settings.ca_overlap_hours) == (2, 0)


def test_a_password_in_the_mirror_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigurationError) as refused:
        validate_arguments(arguments(install=Install(mirror="https://user:hunter2@mirror.example")))
    assert refused.value.key == "install.mirror"
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"version": "3.4.9"}, "3.4.9"),
        ({"tls": False}, "tls: false"),
        ({"version": "3.5.1", "allow_unsafe_version": True}, "3.5.1"),
    ],
)
def test_what_works_but_should_not_be_used_is_warned_about(change: dict[str, Any], word: str) -> None:
    assert any(word in warning for warning in validate_arguments(arguments(**change)).warnings)


# The table of etcd's hardware guide, written out once more: a slip in sizes.py shows here.
@pytest.mark.parametrize(
    ("name", "load", "aws", "gce"),
    [
        ("small", (100, 200, 100, 50), ("m4.large", 2, 8, 3600, 56.25), ("n1-standard-2", 50, 2, 7.5, 1500, 25)),
        ("medium", (500, 1000, 500, 250), ("m4.xlarge", 4, 16, 6000, 93.75), ("n1-standard-4", 150, 4, 15, 4500, 75)),
        (
            "large",
            (1500, 10000, 1000, 1000),
            ("m4.2xlarge", 8, 32, 8000, 125),
            ("n1-standard-8", 250, 8, 30, 7500, 125),
        ),
        (
            "xlarge",
            (1500, 10000, 1000, 3000),
            ("m4.4xlarge", 16, 64, 16000, 250),
            ("n1-standard-16", 500, 16, 60, 15000, 250),
        ),
    ],
)
def test_the_hardware_table_is_the_guides(
    name: str, load: tuple[int, ...], aws: tuple[Any, ...], gce: tuple[Any, ...]
) -> None:
    size = size_named(name)
    assert (size.clients, size.requests_per_second, size.data_mb, size.kubernetes_nodes) == load
    assert tuple(vars(size.aws).values()) == aws
    assert tuple(vars(size.gce).values()) == gce


@pytest.mark.parametrize("size", SIZES.values(), ids=list(SIZES))
def test_a_quota_is_never_over_8_gib_nor_over_memory_nor_over_half_the_disk(size: Size) -> None:
    assert size.quota_bytes <= 8 * GIB
    assert size.quota_bytes <= size.minimum_memory_mib * MIB
    assert 2 * size.quota_gib <= size.minimum_disk_gib


@pytest.mark.parametrize(
    ("written", "used"),
    [("FD00:0::0001", "fd00::1"), ("10.0.0.1", "10.0.0.1"), ("DB-1.Example.Net", "db-1.example.net")],
)
def test_another_spelling_of_an_address_is_the_same_address(written: str, used: str) -> None:
    """Members would be restarted for it: their URLs hold the text."""
    machines = HostMachines({"host-1": Host(written, host_key(1))})
    (machine,) = machines.provision("etcd", ["host-1"], size_named("small"), cast(Any, None))
    assert machine.address == used
