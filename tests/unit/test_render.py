"""Every file that reaches a machine, against a golden copy. `UPDATE_GOLDEN=1 scripts/test tests/unit` writes them."""

from __future__ import annotations

import base64
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from etcd_cluster import options
from etcd_cluster.machines import Ports
from etcd_cluster.member import render
from etcd_cluster.member.layout import Layout
from etcd_cluster.sizes import SIZES

GOLDEN = Path(__file__).with_name("golden")
MEMBERS = tuple(render.Member(f"host-{number}", f"10.0.0.{number}") for number in (1, 2, 3))
SERVER_KEY, PEER_KEY = "-----server key-----\n", "-----peer key-----\n"


def spec(version: str = "3.6.16") -> render.MemberSpec:
    return render.MemberSpec(
        cluster="etcd-cluster/prod/etcd",
        token="ea8cfe2bfe85b7e6c66fe190f9225838",
        member=MEMBERS[0],
        members=MEMBERS,
        layout=Layout.system(),
        options={**options.defaults(version), "quota-backend-bytes": SIZES["small"].quota_bytes},
        dedicated_disk=True,
        authority="-----authority-----\n",
        server=render.Leaf("-----server-----\n", SERVER_KEY),
        peer=render.Leaf("-----peer-----\n", PEER_KEY),
    )


PLAINTEXT = replace(spec(), authority=None, server=None, peer=None, dedicated_disk=False)
LOCAL = replace(
    spec(),
    member=render.Member("etcd-2", "127.0.0.1", Ports(2389, 2390, 2391)),
    members=tuple(
        render.Member(f"etcd-{n}", "127.0.0.1", Ports(p, p + 1, p + 2)) for n, p in ((1, 2379), (2, 2389), (3, 2399))
    ),
    layout=Layout.below("/home/user/etcd-2"),
)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(
            (f"etcd-{version}.yaml", render.etcd_configuration(spec(version)))
            for version in ("3.4.9", "3.5.35", "3.6.16", "3.7.3")
        ),
        ("etcd-plaintext.yaml", render.etcd_configuration(PLAINTEXT)),
        ("etcd-local.yaml", render.etcd_configuration(LOCAL)),
        ("etcd.service", render.systemd_unit(spec())),
        ("etcd-without-disk.service", render.systemd_unit(PLAINTEXT)),
        ("data-etcd.mount", render.mount_unit(Layout.system())),
        ("profile.sh", render.administrator_profile(spec())),
        ("profile-plaintext.sh", render.administrator_profile(PLAINTEXT)),
        ("etcd-cluster.json", render.identity(spec())),
    ],
)
def test_rendered_file_is_as_reviewed(name: str, text: str) -> None:
    golden = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


def test_no_rendered_file_but_the_keys_holds_a_key() -> None:
    variables = render.member_variables(spec())
    holders = {name for name, value in variables.items() if name.startswith("file_") and _holds_key(value)}
    assert holders == {"file_server_key", "file_peer_key"}


def _holds_key(encoded: str) -> bool:
    content = base64.b64decode(encoded).decode()
    return SERVER_KEY in content or PEER_KEY in content


def test_a_key_does_not_show_when_a_spec_is_printed() -> None:
    assert "key-----" not in repr(spec())


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
    echo = f"{text.split('# shellcheck')[0]}" if layout.supervisor == "process" else ""
    if echo:
        shown = subprocess.run(
            ["bash", "-s"],
            input=f'{echo}\nprintf \'%s|%s\' "$cluster" "$token"',
            text=True,
            capture_output=True,
            check=True,
        )
        assert shown.stdout == f"{variables['cluster']}|{variables['token']}"


def test_secrets_never_pass_through_a_temporary_file_of_the_shell() -> None:
    """A here-document or here-string may be written to /tmp by bash: variables with keys must not meet one."""
    for source in (Path(render.__file__).parent / "scripts").glob("*.sh"):
        assert "<<EOF" not in source.read_text()
        for line in source.read_text().splitlines():
            assert not ("<<<" in line and "key" in line), f"{source.name}: {line}"
