"""Every file that reaches a machine, against a golden copy. `UPDATE_GOLDEN=1 scripts/test tests/unit` writes them."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from etcd_cluster.etcd import options
from etcd_cluster.etcd.sizes import SIZES
from etcd_cluster.etcd.versions import NEWEST_KNOWN
from etcd_cluster.machines.machine import Ports
from etcd_cluster.member import render
from etcd_cluster.member.layout import Layout
from etcd_cluster.member.render import PeerSecurity, Security

GOLDEN = Path(__file__).with_name("golden")
CLUSTER, TOKEN = "etcd-cluster/prod/etcd", "ea8cfe2bfe85b7e6c66fe190f9225838"


def spec(version: str = "3.6.16") -> render.MemberSpec:
    return render.MemberSpec(
        token=TOKEN,
        member=render.Member("host-1", "10.0.0.1"),
        layout=Layout.system(),
        options={**options.defaults(version), "quota-backend-bytes": SIZES["small"].quota_bytes},
        security=Security.of(True),
        dedicated_disk=True,
    )


PLAINTEXT = replace(spec(), security=Security.of(False), dedicated_disk=False)
READY = replace(spec(), security=Security(clients_tls=False, peers=PeerSecurity.READY))
LOCAL = replace(
    spec(),
    member=render.Member("etcd-2", "127.0.0.1", Ports(2389, 2390, 2391)),
    layout=Layout.below("/home/user/etcd-2"),
)
FORMING = {
    "initial-cluster": ",".join(f"host-{number}=https://10.0.0.{number}:2380" for number in (1, 2, 3)),
    "initial-cluster-state": "new",
}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(
            (f"etcd-{series}.yaml", render.etcd_configuration(spec(version)))
            for series, version in {**NEWEST_KNOWN, "3.4": "3.4.9"}.items()
        ),
        ("etcd-plaintext.yaml", render.etcd_configuration(PLAINTEXT)),
        ("etcd-ready.yaml", render.etcd_configuration(READY)),
        ("etcd-local.yaml", render.etcd_configuration(LOCAL)),
        ("bootstrap.yaml", render.etcd_configuration(spec(), FORMING)),
        ("etcd-cluster.service", render.systemd_unit(spec())),
        ("etcd-without-disk.service", render.systemd_unit(PLAINTEXT)),
        ("data-etcd.mount", render.mount_unit(Layout.system())),
        ("profile.sh", render.administrator_profile(spec())),
        ("profile-plaintext.sh", render.administrator_profile(PLAINTEXT)),
        ("etcd-cluster.json", render.identity(CLUSTER, "host-1", TOKEN)),
    ],
)
def test_rendered_file_is_as_reviewed(name: str, text: str) -> None:
    golden = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize(
    ("address", "version", "gates", "is_set"),
    [
        ("10.0.0.1", "3.6.16", "A=true", True),
        ("10.0.0.1", "3.7.3", "A=true", True),
        ("10.0.0.1", "3.6.16", "SetMemberLocalAddr=false", False),
        ("10.0.0.1", "3.5.35", None, False),
        ("fd00::1", "3.6.16", "A=true", False),
        ("etcd-1.example.org", "3.6.16", "A=true", False),
        ("127.0.0.1", "3.6.16", "A=true", False),
    ],
)
def test_members_connect_to_one_another_from_the_address_in_their_certificates(
    address: str, version: str, gates: str | None, is_set: bool
) -> None:
    """etcd 3.6 and 3.7 fail to start with an IPv6 address there, and find none in a name."""
    changed = replace(spec(version), member=render.Member("host-1", address))
    if gates:
        changed = replace(changed, options={**changed.options, "feature-gates": gates})
    found = yaml.safe_load(render.etcd_configuration(changed)).get("feature-gates", "")
    assert ("SetMemberLocalAddr=true" in found) == is_set


def test_only_a_member_that_forms_or_joins_is_told_of_the_others() -> None:
    """With data, etcd needs no list, and without data it refuses to start from a file that has none."""
    settings = yaml.safe_load(render.etcd_configuration(spec()))
    assert "initial-cluster" not in settings
    assert settings["initial-cluster-state"] == "existing"
    bootstrap = yaml.safe_load(render.etcd_configuration(spec(), FORMING))
    assert {key: value for key, value in bootstrap.items() if settings.get(key) != value} == FORMING


@pytest.mark.parametrize(
    ("security", "schemes", "certificates"),
    [
        (Security.of(False), ("http", "http"), set()),
        (Security(False, PeerSecurity.READY), ("http", "http"), {"peer"}),
        (Security(False, PeerSecurity.TLS), ("http", "https"), {"peer"}),
        (Security.of(True), ("https", "https"), {"client", "peer"}),
    ],
)
def test_each_step_towards_tls_is_a_configuration_of_its_own(
    security: Security, schemes: tuple[str, str], certificates: set[str]
) -> None:
    settings = yaml.safe_load(render.etcd_configuration(replace(spec(), security=security)))
    urls = (settings["advertise-client-urls"], settings["initial-advertise-peer-urls"])
    assert tuple(url.partition(":")[0] for url in urls) == schemes
    assert tuple(settings[f"listen-{side}-urls"].partition(":")[0] for side in ("client", "peer")) == schemes
    assert {side for side in ("client", "peer") if f"{side}-transport-security" in settings} == certificates


def test_an_emptied_member_does_not_start_unless_it_was_told_to_join() -> None:
    unit = render.systemd_unit(spec())
    assert "AssertPathExists=|/data/etcd/data/member/wal\nAssertPathExists=|/etc/etcd/bootstrap.yaml\n" in unit


@pytest.mark.parametrize(
    ("address", "client", "peer"),
    [
        ("10.0.0.1", "https://10.0.0.1:2379,https://127.0.0.1:2379", "https://10.0.0.1:2380"),
        ("fd00::1", "https://[fd00::1]:2379,https://127.0.0.1:2379", "https://[fd00::1]:2380"),
        ("etcd-1.example.net", "https://0.0.0.0:2379", "https://0.0.0.0:2380"),
        ("127.0.0.1", "https://127.0.0.1:2379", "https://127.0.0.1:2380"),
    ],
)
def test_etcd_listens_on_its_own_address_and_clients_on_loopback_too(address: str, client: str, peer: str) -> None:
    member = render.Member("host-1", address)
    settings = yaml.safe_load(render.etcd_configuration(replace(spec(), member=member)))
    assert settings["listen-client-urls"] == client
    assert settings["listen-peer-urls"] == peer


@pytest.mark.parametrize("step", render.STEPS)
@pytest.mark.parametrize("layout", [Layout.system(), Layout.below("/tmp/it's a folder")])
def test_every_script_is_valid_shell_whatever_its_values(step: str, layout: Layout) -> None:
    variables = {"cluster": 'it\'s $(not) `run`\n"quoted"', "token": "$HOME"}
    text = render.script(step, layout, variables)
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    assert not re.search(r"^\s*#", text, re.MULTILINE), "a comment that changes would be a change of every machine"
    echo = text.partition("set -euo pipefail")[0] if layout.supervisor == "process" else ""
    if echo:
        shown = subprocess.run(
            ["bash", "-s"],
            input=f'{echo}\nprintf \'%s|%s\' "$cluster" "$token"',
            text=True,
            capture_output=True,
            check=True,
        )
        assert shown.stdout == f"{variables['cluster']}|{variables['token']}"


def test_no_text_passes_through_a_temporary_file_of_the_shell() -> None:
    """Bash before 5.1 writes here-documents and here-strings to /tmp: secrets, too, and nothing where that is full."""
    for source in (Path(render.__file__).parent / "scripts").glob("*.sh"):
        assert not re.search(r"<<(?!\()", source.read_text()), source.name
