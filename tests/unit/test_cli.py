"""The command `etcd-cluster`: its options, the clusters that it finds in a state, what it prints. No machine is asked.

Real clusters are in tests/local, tests/lab and tests/engine.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from etcd_cluster.cli import backup, clusters, completion, env, main, stacks, status
from etcd_cluster.cli.command import CommandError, ExitCode
from etcd_cluster.cli.stacks import HIDDEN, Project, Stack, StackResource
from etcd_cluster.member.render import Transport
from etcd_cluster.rollout.machines import ClusterMachines
from etcd_cluster.state_folder import state_folder
from tests.unit.test_cluster import build
from tests.unit.test_status import INPUTS, NAMES, desired_json, observation

KEY = "-----BEGIN PRIVATE KEY-----\nno eye sees this\n-----END PRIVATE KEY-----\n"
NASTY = '/home/o\'neil $HOME `id`/"a b"'
SHELLS = [shell for shell in ("sh", "dash", "bash", "zsh") if shutil.which(shell)]
MEMBERS = {
    name: {"address": f"192.0.2.{n}", "clientUrl": f"https://192.0.2.{n}:2379", "peerUrl": f"https://192.0.2.{n}:2380"}
    for n, name in enumerate(NAMES, 1)
}
OUTPUTS = {
    "endpoints": [member["clientUrl"] for member in MEMBERS.values()],
    "members": MEMBERS,
    "caCertificate": "CA\n",
    "clientCertificate": "certificate\n",
    "clientKey": KEY,
    "version": "3.6.16",
}


def secret(value: object) -> dict[str, str]:
    """As `pulumi stack export --show-secrets` gives it."""
    return {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "plaintext": json.dumps(value)}


def urn(type_: str, name: str) -> str:
    return f"urn:pulumi:prod::shop::{type_}::{name}"


def component(name: str) -> list[dict[str, Any]]:
    """What a state holds of one cluster of a program that exports nothing under the names of this project."""
    above = urn(clusters.CLUSTER_TYPE, name)
    connections = {
        name: {"host": each["address"], "user": "admin", "privateKey": KEY} for name, each in MEMBERS.items()
    }
    return [
        {
            "type": clusters.CLUSTER_TYPE,
            "urn": above,
            "outputs": {**OUTPUTS, "clientKey": secret(KEY)},
        },
        {
            "type": clusters.CA_TYPE,
            "urn": urn(clusters.CA_TYPE, f"{name}-ca"),
            "parent": above,
            "inputs": {"rotate_after": f"2036-09-01T00:00:00Z {name}", "drop_after": None},
        },
        {
            "type": clusters.ROLLOUT_TYPE,
            "urn": urn(clusters.ROLLOUT_TYPE, f"{name}-rollout"),
            "parent": above,
            "inputs": {"desired": secret(INPUTS), "connections": secret(connections)},
        },
    ]


STACK = {"type": "pulumi:pulumi:Stack", "urn": urn("pulumi:pulumi:Stack", "shop-prod"), "outputs": {"url": "x"}}
ONE = [STACK, *component("orders")]
TWO = [*ONE, *component("stock")]


class Cli:
    """A project `shop` with a Pulumi CLI that prints a state, and notes how it was called."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._patch = folder, monkeypatch
        self.project, self.state = folder / "shop", folder / "state" / "shop"
        self.project.mkdir()
        (self.project / "Pulumi.yaml").write_text("name: shop\nruntime: python\n")
        for name in ("PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE", "PULUMI_HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", str(folder))
        monkeypatch.setenv("PATH", "/usr/bin:/bin")
        monkeypatch.setenv("ETCD_CLUSTER_STATE_DIR", str(folder / "state"))
        monkeypatch.setattr(ClusterMachines, "observe", lambda _self, **_asked: observation())

    def install(self, resources: Sequence[Mapping[str, Any]], selected: str = "") -> Cli:
        programs = self.folder / "programs"
        programs.mkdir(exist_ok=True)
        deployment = {"version": 3, "deployment": {"resources": resources}}
        (self.folder / "revealed.json").write_text(json.dumps(deployment))
        hidden = json.dumps(deployment, default=str)
        for each in (json.dumps(value)[1:-1] for value in _plaintexts(resources)):
            hidden = hidden.replace(f'"plaintext": "{each}"', '"ciphertext": "v1:x"')
        (self.folder / "hidden.json").write_text(hidden)
        stack_list = [{"name": selected, "current": True}] if selected else []
        (self.folder / "list.json").write_text(json.dumps(stack_list))
        (programs / "pulumi").write_text(
            f"""#!/bin/sh
            cd {shlex.quote(str(self.folder))}
            echo "$@" >>calls
            env >>environment
            case $* in
              version) echo v3.260.0 ;;
              *'stack ls'*) cat list.json ;;
              *'--stack missing'*) echo "error: no stack named 'missing' found" >&2; exit 255 ;;
              *--show-secrets*) cat revealed.json ;;
              *) cat hidden.json ;;
            esac
            """
        )
        (programs / "pulumi").chmod(0o755)
        self._patch.setenv("PATH", f"{programs}:/usr/bin:/bin")
        return self

    def run(self, *words: str) -> int:
        return main.main(["--cwd", str(self.project), *words])

    @property
    def calls(self) -> list[str]:
        lines = (self.folder / "calls").read_text().splitlines()
        return [line.removeprefix("--non-interactive ") for line in lines if line != "version"]


def _plaintexts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [value["plaintext"]] if "plaintext" in value else _plaintexts(list(value.values()))
    return [text for each in value for text in _plaintexts(each)] if isinstance(value, list) else []


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    return Cli(tmp_path, monkeypatch)


# --- status ---


def test_status_is_a_table_with_its_columns_explained(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.install(ONE).run("status", "--stack", "prod") == ExitCode.SUCCESS
    said = capsys.readouterr()
    assert "etcd 3.6.16, 3 members, all healthy, no drift" in said.out
    assert "legend      LAG: log entries not applied yet" in said.out
    assert "DISK: used part of the file system" in said.out.splitlines()[-1]
    assert max(map(len, said.out.splitlines())) <= 120
    assert "PRIVATE" not in said.out + said.err


def test_status_as_json_is_for_programs(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.install(ONE).run("status", "--stack", "prod", "--output", "json") == ExitCode.SUCCESS
    document = json.loads(capsys.readouterr().out)
    assert (document["ok"], document["leader"], sorted(document["members"])) == (True, "etcd-2", list(NAMES))


def test_a_cluster_that_is_not_well_has_an_exit_code_of_its_own(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    sick = replace(observation(), healthy=frozenset("12"))
    monkeypatch.setattr(ClusterMachines, "observe", lambda _self, **_asked: sick)
    assert cli.install(ONE).run("status", "--stack", "prod") == ExitCode.NOT_HEALTHY


def test_the_cli_exports_and_nothing_else(cli: Cli) -> None:
    """`stack select` would change what a user's next `pulumi up` works on."""
    cli.install(ONE).run("status", "--stack", "prod")
    assert cli.calls == ["stack export --show-secrets --stack prod"]


def test_watch_answers_again_until_a_signal_and_ends_with_the_last_answer(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looks: list[int] = []

    def observe(_self: ClusterMachines, **_asked: str) -> Any:
        looks.append(1)
        if len(looks) == 2:
            raise CommandError("a state that cannot be read for a moment")
        if len(looks) == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return observation()

    monkeypatch.setattr(ClusterMachines, "observe", observe)
    before = signal.getsignal(signal.SIGINT)
    options = parsed("--cwd", str(cli.install(ONE).project), "--stack", "prod", "status", "--output", "json")
    options.watch = 0.01
    assert status.run(options) == ExitCode.SUCCESS
    first, second, third = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["ok"], third["ok"], list(second)) == (True, True, ["error"])
    assert signal.getsignal(signal.SIGINT) is before


def test_schedules_are_of_the_clusters_own_ca() -> None:
    of_stock = clusters.select(stack(TWO), "stock")
    assert status.schedules(of_stock)[Transport.CLIENT].rotate_after == "2036-09-01T00:00:00Z stock"
    without_own = [each for each in TWO if not each["urn"].endswith("stock-ca")]
    of_stock = clusters.select(stack(without_own), "stock")
    assert status.schedules(of_stock)[Transport.CLIENT].rotate_after == "", "of another cluster"
    shared = {**ONE[2], "urn": urn(clusters.CA_TYPE, "company"), "parent": STACK["urn"]}
    of_stock = clusters.select(stack([*without_own, shared]), "stock")
    assert status.schedules(of_stock)[Transport.CLIENT].rotate_after == "2036-09-01T00:00:00Z orders"


def test_a_machine_that_does_not_answer_is_not_waited_for_long(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    dialled: list[Mapping[str, Any]] = []

    class Machines(ClusterMachines):
        def __init__(self, members: Any, connections: Mapping[str, Mapping[str, Any]]) -> None:
            dialled.extend(connections.values())
            super().__init__(members, connections)

    monkeypatch.setattr("etcd_cluster.rollout.machines.ClusterMachines", Machines)
    cli.install(ONE).run("status", "--stack", "prod")
    assert [each["dialErrorLimit"] for each in dialled] == [clusters.DIAL_ATTEMPTS] * 3


# --- members ---


def test_members_are_listed_without_decrypting_anything(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.install(ONE).run("members", "--stack", "prod") == ExitCode.SUCCESS
    assert cli.calls == ["stack export --stack prod"]
    assert (
        capsys.readouterr().out
        == """\
MEMBER  ADDRESS    CLIENT URL              PEER URL
etcd-1  192.0.2.1  https://192.0.2.1:2379  https://192.0.2.1:2380
etcd-2  192.0.2.2  https://192.0.2.2:2379  https://192.0.2.2:2380
etcd-3  192.0.2.3  https://192.0.2.3:2379  https://192.0.2.3:2380
"""
    )


def test_members_as_json_are_in_order_and_name_the_cluster(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    cli.install(ONE).run("members", "--stack", "prod", "--output", "json")
    document = json.loads(capsys.readouterr().out)
    assert document["cluster"] == "orders"
    assert document["members"][1] == {"name": "etcd-2", **MEMBERS["etcd-2"]}


def test_secret_addresses_are_not_shown_by_members(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    hidden = json.loads(json.dumps(ONE))
    hidden[1]["outputs"]["members"]["etcd-1"] = secret(MEMBERS["etcd-1"])
    assert cli.install(hidden).run("members", "--stack", "prod") == ExitCode.SUCCESS
    assert f"etcd-1  {HIDDEN}" in capsys.readouterr().out
    hidden[1]["outputs"]["members"] = secret(MEMBERS)
    assert cli.install(hidden).run("members", "--stack", "prod") == ExitCode.NO_ANSWER
    assert "are secret" in capsys.readouterr().err


# --- dns, kubeadm ---


RECORDS = [
    {"name": "etcd.example.com", "type": "A", "ttl": 60, "values": ["192.0.2.1", "192.0.2.2"]},
    {"name": "_etcd-client-ssl._tcp.etcd.example.com", "type": "SRV", "ttl": 60.0, "values": ["0 0 2379 a.example."]},
]


def with_outputs(**outputs: Any) -> list[Any]:
    changed = json.loads(json.dumps(ONE))
    changed[1]["outputs"].update(outputs)
    return changed


def test_dns_prints_lines_for_a_zone_file_without_decrypting_anything(
    cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.install(with_outputs(dnsRecords=RECORDS))
    assert cli.run("dns", "--stack", "prod") == ExitCode.SUCCESS
    assert capsys.readouterr().out.splitlines() == [
        "etcd.example.com. 60 IN A 192.0.2.1",
        "etcd.example.com. 60 IN A 192.0.2.2",
        "_etcd-client-ssl._tcp.etcd.example.com. 60 IN SRV 0 0 2379 a.example.",
    ]
    assert not [call for call in cli.calls if "--show-secrets" in call]
    assert cli.run("dns", "--stack", "prod", "--output", "json") == ExitCode.SUCCESS
    assert json.loads(capsys.readouterr().out) == RECORDS


def test_dns_says_where_there_are_no_names_or_they_are_secret(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.install(ONE).run("dns", "--stack", "prod") == ExitCode.NO_ANSWER
    assert "has no DNS names" in capsys.readouterr().err
    assert cli.install(with_outputs(dnsRecords=secret(RECORDS))).run("dns", "--stack", "prod") == ExitCode.NO_ANSWER
    assert "secret" in capsys.readouterr().err


def test_kubeadm_prints_the_configuration_and_no_secret(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    cli.install(ONE)
    assert cli.run("kubeadm", "--stack", "prod") == ExitCode.SUCCESS
    assert yaml.safe_load(capsys.readouterr().out) == {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "etcd": {
            "external": {
                "endpoints": OUTPUTS["endpoints"],
                "caFile": "/etc/kubernetes/pki/etcd/ca.crt",
                "certFile": "/etc/kubernetes/pki/apiserver-etcd-client.crt",
                "keyFile": "/etc/kubernetes/pki/apiserver-etcd-client.key",
            }
        },
    }
    assert not [call for call in cli.calls if "--show-secrets" in call]
    assert cli.run("kubeadm", "--stack", "prod", "--api-version", "v1beta3") == ExitCode.SUCCESS
    assert "kubeadm.k8s.io/v1beta3" in capsys.readouterr().out


def test_kubeadm_writes_the_files_for_the_caller_only(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    folder = cli.folder / "new" / "pki"
    assert cli.install(ONE).run("kubeadm", "--stack", "prod", "--write", str(folder)) == ExitCode.SUCCESS
    said = capsys.readouterr()
    assert "PRIVATE KEY" not in said.out + said.err
    found = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert found == {
        "etcd/ca.crt": "CA\n",
        "apiserver-etcd-client.crt": "certificate\n",
        "apiserver-etcd-client.key": KEY,
    }
    assert {stat.S_IMODE((folder / path).stat().st_mode) for path in found} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_kubeadm_says_what_it_cannot_do(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    hidden = with_outputs(endpoints=secret(OUTPUTS["endpoints"]))
    assert cli.install(hidden).run("kubeadm", "--stack", "prod") == ExitCode.NO_ANSWER
    assert "--write" in capsys.readouterr().err
    file = cli.folder / "file"
    file.write_text("")
    assert cli.install(ONE).run("kubeadm", "--stack", "prod", "--write", str(file)) == ExitCode.NO_ANSWER
    assert "--write" in capsys.readouterr().err
    plain = with_outputs(endpoints=["http://192.0.2.1:2379"], caCertificate="", clientCertificate="", clientKey="")
    assert cli.install(plain).run("kubeadm", "--stack", "prod", "--write", str(cli.folder / "k")) == ExitCode.SUCCESS
    said = capsys.readouterr()
    assert "no files" in said.err
    assert yaml.safe_load(said.out)["etcd"]["external"] == {"endpoints": ["http://192.0.2.1:2379"]}
    assert not (cli.folder / "k").exists()


# --- env ---


def test_env_writes_files_for_the_caller_only_and_prints_no_key(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.install(ONE).run("env", "--stack", "prod") == ExitCode.SUCCESS
    said = capsys.readouterr()
    folder = cli.state / "client" / "prod" / "orders"
    assert f"export ETCDCTL_KEY={folder / 'client.key'}" in said.out
    assert f"export ETCDCTL_ENDPOINTS={','.join(OUTPUTS['endpoints'])}" in said.out
    assert (folder / "client.key").read_text() == KEY
    assert stat.S_IMODE((folder / "client.key").stat().st_mode) == 0o600
    assert "PRIVATE" not in said.out + said.err


def test_env_keeps_clusters_and_stacks_apart(cli: Cli) -> None:
    cli.install(TWO).run("env", "--stack", "acme/shop/prod", "--cluster", "stock")
    cli.run("env", "--stack", "prod", "--cluster", "orders")
    found = {path.relative_to(cli.state / "client").parent for path in cli.state.rglob("client.key")}
    assert found == {Path("acme%2Fshop%2Fprod/stock"), Path("prod/orders")}


@pytest.mark.parametrize(
    "words", [["env", "--stack", "missing"], ["env", "--nope"], ["env", "--stack", "prod", "--cluster", "nope"]]
)
def test_env_fails_inside_eval_as_well(words: list[str], cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    cli.install(ONE)
    try:
        code: object = cli.run(*words)
    except SystemExit as end:
        code = end.code
    assert (code, capsys.readouterr().out) == (2, "false\n")


@pytest.mark.parametrize("shell", SHELLS)
def test_exports_are_quoted_for_every_shell(shell: str) -> None:
    credentials = dict.fromkeys(env.CREDENTIALS, NASTY)
    lines = env.exports(OUTPUTS, credentials, Path(NASTY))
    # Twice: the second time PATH does not grow.
    script = f'{lines}\n{lines}\nprintf "%s\\n" "$ETCDCTL_KEY" "$ETCDCTL_ENDPOINTS" "$PATH"'
    done = subprocess.run(
        [shutil.which(shell) or shell, "-c", script], env={"PATH": "/bin"}, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [NASTY, ",".join(OUTPUTS["endpoints"]), f"{NASTY}:/bin"]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("proxies", "without"),
    [
        ({}, ""),
        ({"https_proxy": "http://proxy"}, ",127.0.0.1,10.0.0.1"),
        ({"ALL_PROXY": "http://proxy", "no_proxy": "a,b"}, "a,b,127.0.0.1,10.0.0.1"),
        ({"HTTP_PROXY": "http://proxy", "no_proxy": "a", "NO_PROXY": "b"}, "b,127.0.0.1,10.0.0.1"),
    ],
)
def test_etcdctl_goes_past_the_proxies_of_the_shell(
    shell: str, proxies: dict[str, str], without: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name, value in proxies.items():
        monkeypatch.setenv(name, value)
    endpoints = ["https://127.0.0.1:2379", "https://127.0.0.1:2389", "https://10.0.0.1:2379"]
    lines = env.exports({**OUTPUTS, "endpoints": endpoints}, {}, None)
    script = f'{lines}\nprintf "%s\n" "${{NO_PROXY:-}}" "${{no_proxy:-}}"'
    done = subprocess.run([shutil.which(shell) or shell, "-uc", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [without, without]


def test_without_tls_no_credentials_are_exported(tmp_path: Path) -> None:
    credentials = env.write_credentials({**OUTPUTS, "clientKey": ""}, tmp_path / "client")
    assert env.exports(OUTPUTS, credentials, None).splitlines()[1:] == [f"unset {name}" for name in env.CREDENTIALS]
    assert not (tmp_path / "client").exists()


def test_a_folder_that_others_could_read_is_closed(tmp_path: Path) -> None:
    (tmp_path / "client").mkdir(mode=0o755)
    credentials = env.write_credentials(OUTPUTS, tmp_path / "client")
    assert stat.S_IMODE((tmp_path / "client").stat().st_mode) == 0o700
    assert {stat.S_IMODE(Path(path).stat().st_mode) for path in credentials.values()} == {0o600}
    assert sorted(path.name for path in (tmp_path / "client").iterdir()) == ["ca.crt", "client.crt", "client.key"]


def test_on_this_machine_etcdctl_is_that_of_a_member(tmp_path: Path) -> None:
    inputs = desired_json()
    inputs["members"]["etcd-1"]["layout"]["binaries"] = str(tmp_path)
    here = [ONE[0], ONE[1], {**ONE[3], "inputs": {"desired": json.dumps(inputs), "connections": {}}}]
    (tmp_path / "etcdctl").touch(mode=0o755)
    assert env.find_programs(clusters.select(stack(here), None)) == tmp_path


def test_for_hosts_etcdctl_comes_from_path_else_the_cache_else_it_is_said_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = clusters.select(stack(ONE), None)
    monkeypatch.setenv("ETCD_CLUSTER_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert env.find_programs(cluster) is None
    assert "https://github.com/etcd-io/etcd/releases/tag/v3.6.16" in capsys.readouterr().err
    cached = tmp_path / "cache" / "binaries" / "3.6.16-0123456789ab"
    for folder in (cached, tmp_path / "bin"):
        folder.mkdir(parents=True)
        (folder / "etcdctl").touch(mode=0o755)
    assert env.find_programs(cluster) is None
    monkeypatch.setenv("PATH", "")
    assert env.find_programs(cluster) == cached


# --- which cluster ---


def stack(resources: Sequence[Mapping[str, Any]]) -> Stack:
    """As it is read with its secrets."""
    found = [
        StackResource(
            each["type"],
            each["urn"],
            each.get("parent", ""),
            stacks.without_marks(each.get("inputs", {})),
            stacks.without_marks(each.get("outputs", {})),
        )
        for each in resources
    ]
    return Stack("prod", Project("shop", Path("/shop")), found)


def test_a_program_registers_what_is_looked_for() -> None:
    registered = {resource.type for resource in build().resources.values()}
    assert {clusters.CLUSTER_TYPE, clusters.ROLLOUT_TYPE, clusters.CA_TYPE} <= registered


@pytest.mark.parametrize("command", ["status", "env", "members", "kubeadm"])
def test_of_several_clusters_none_is_taken_unasked(command: str, cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.install(TWO).run(command, "--stack", "prod") == ExitCode.NO_ANSWER
    assert "stack prod has 2 clusters: orders, stock. Choose one with --cluster NAME" in capsys.readouterr().err
    assert cli.run(command, "--stack", "prod", "--cluster", "stock") == ExitCode.SUCCESS


def test_a_cluster_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(CommandError, match=r"--cluster nope: .* It has: orders, stock"):
        clusters.select(stack(TWO), "nope")


@pytest.mark.parametrize(
    ("resources", "problem"),
    [
        ([], "stack prod has no cluster that is up"),
        (ONE[:1], "stack prod has no cluster that is up"),
        (ONE[:3], "stack prod: cluster orders is not up"),
        ([ONE[0], {**ONE[1], "outputs": {}}, *ONE[2:]], "stack prod: cluster orders is not up"),
        ([*ONE[:3], {**ONE[3], "inputs": {}}], "stack prod: cluster orders is not up"),
    ],
    ids=["nothing", "no component", "no rollout", "no outputs", "never rolled out"],
)
def test_a_stack_without_a_cluster_is_not_up(resources: Sequence[Mapping[str, Any]], problem: str) -> None:
    with pytest.raises(CommandError, match=problem):
        clusters.select(stack(resources), None)


def test_what_waits_to_be_deleted_is_no_cluster(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    cli.install([*ONE, *({**each, "delete": True} for each in component("stock"))])
    assert cli.run("members", "--stack", "prod") == ExitCode.SUCCESS


def test_secrets_are_read_at_any_depth_or_not_at_all() -> None:
    assert stacks.without_marks({"a": [secret({"b": secret(1)})], "c": None}) == {"a": [{"b": 1}], "c": None}
    hidden = {**secret(1), "ciphertext": "v1:x"}
    del hidden["plaintext"]
    assert stacks.without_marks([hidden]) == [HIDDEN]


# --- which stack ---


def test_without_a_name_the_selected_stack_is_meant_else_dev(cli: Cli) -> None:
    cli.install(ONE, selected="staging").run("members")
    cli.install(ONE).run("members")
    exports = [call for call in cli.calls if "export" in call]
    assert exports == ["stack export --stack staging", "stack export --stack dev"]


def test_a_stack_that_does_not_exist_is_said_as_the_cli_says_it(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.install(ONE).run("status", "--stack", "missing") == ExitCode.NO_ANSWER
    said = capsys.readouterr()
    assert said.out == ""
    assert "stack missing is not up, or its state cannot be read. The Pulumi CLI says: no stack named" in said.err


def test_without_a_cli_it_says_how_to_get_one(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run("status", "--stack", "prod") == ExitCode.NO_ANSWER
    assert "stack prod is not up, or only the Pulumi CLI knows it" in capsys.readouterr().err


def test_backend_and_passphrase_of_the_scripts_are_used_but_the_callers_come_first(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.state.mkdir(parents=True)
    (cli.state / "prod.backend").write_text("file:///of/scripts\n")
    (cli.state / "passphrase").write_text("of scripts\n")
    cli.install(ONE).run("status", "--stack", "prod")
    handed = (cli.folder / "environment").read_text()
    assert "PULUMI_BACKEND_URL=file:///of/scripts\n" in handed
    assert f"PULUMI_CONFIG_PASSPHRASE_FILE={cli.state / 'passphrase'}\n" in handed
    (cli.folder / "environment").unlink()
    monkeypatch.setenv("PULUMI_BACKEND_URL", "file:///of/caller")
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "")
    cli.run("status", "--stack", "prod")
    handed = (cli.folder / "environment").read_text()
    assert "of/scripts" not in handed
    assert "PASSPHRASE_FILE" not in handed


@pytest.mark.parametrize("command", ["status", "env", "members", "kubeadm"])
def test_a_defect_of_ours_is_no_answer(
    command: str, cli: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """1 would say that the cluster is not well."""
    monkeypatch.setattr(clusters, "select", lambda *_: {}["what no state has"])
    assert cli.install(ONE).run(command, "--stack", "prod") == ExitCode.NO_ANSWER
    said = capsys.readouterr()
    assert said.out == ("false\n" if command == "env" else "")
    assert "KeyError" in said.err


@pytest.mark.parametrize("command", ["status", "env"])
def test_a_state_of_a_newer_release_is_refused(command: str, cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    newer = {**ONE[3], "inputs": {**ONE[3]["inputs"], "schema": 99.0}}
    assert cli.install([*ONE[:3], newer]).run(command, "--stack", "prod") == ExitCode.NO_ANSWER
    assert "made by a newer etcd-cluster: its state has schema 99" in capsys.readouterr().err


def test_a_state_of_before_the_first_release_is_read(cli: Cli) -> None:
    older = {**ONE[3], "inputs": {"desired": ONE[3]["inputs"]["desired"]}}
    assert "schema" not in older["inputs"]
    cluster = clusters.select(stack([*ONE[:3], older]), None)
    assert (list(cluster.desired().members), dict(cluster.connections)) == (list(NAMES), {})


def test_an_old_cli_does_not_hide_a_stack_of_the_engine_in_process(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.install(ONE)
    program = cli.folder / "programs" / "pulumi"
    program.write_text(program.read_text().replace("v3.260.0", "v3.0.0"))
    monkeypatch.setattr(stacks, "_embedded_resources", lambda *_, **__: list(stack(ONE).resources))
    assert cli.run("status", "--stack", "prod") == ExitCode.SUCCESS
    assert cli.run("status") == ExitCode.SUCCESS
    monkeypatch.setattr(stacks, "_embedded_resources", lambda *_, **__: None)
    assert cli.run("status", "--stack", "prod") == ExitCode.NO_ANSWER
    assert "Minimum version requirement failed" in capsys.readouterr().err


def test_the_project_is_found_from_a_folder_inside(cli: Cli) -> None:
    (cli.project / "a" / "b").mkdir(parents=True)
    assert stacks.find_project(cli.project / "a" / "b") == Project("shop", cli.project)


@pytest.mark.parametrize(
    ("content", "problem"), [(None, "there is no Pulumi.yaml"), ("runtime: python\n", "has no `name`"), ("{", "YAML")]
)
def test_a_folder_that_is_no_project_is_refused(content: str | None, problem: str, tmp_path: Path) -> None:
    if content:
        (tmp_path / "Pulumi.yaml").write_text(content)
    with pytest.raises(CommandError, match=problem):
        stacks.find_project(tmp_path)


def test_a_stack_of_the_engine_in_process_needs_that_engine(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is in a checkout, and not in the wheel."""
    cli.state.mkdir(parents=True)
    (cli.state / "prod.json").write_text('{"version":1,"encryptionsalt":"","resources":[{}]}')
    monkeypatch.setattr(stacks, "EMBEDDED_ENGINE", "no_such_engine")
    assert cli.install(ONE).run("status", "--stack", "prod") == ExitCode.NO_ANSWER
    assert "stack prod was made without the Pulumi CLI" in capsys.readouterr().err
    (cli.state / "prod.json").write_text('{"version":1,"encryptionsalt":"","resources":[]}')
    assert cli.run("status", "--stack", "prod") == ExitCode.SUCCESS, "a stack that was taken down is nobody's"


# --- the command line ---


def parsed(*words: str) -> argparse.Namespace:
    return main.parser().parse_args(words)


def test_global_options_may_stand_before_the_command_or_after_it(tmp_path: Path) -> None:
    for line in ("--stack prod status", "status --stack prod", "--stack other env --stack prod"):
        assert parsed(*line.split()).stack == "prod"
    for line in ("--stack prod backup now", "backup --stack prod now", "backup now --stack prod"):
        assert parsed(*line.split()).stack == "prod"
    assert parsed("--cwd", str(tmp_path), "members", "--cluster", "etcd").cwd == tmp_path
    assert (parsed("status").stack, parsed("status").cluster, parsed("status").watch) == (None, None, None)
    assert (parsed("status", "--watch").watch, parsed("status", "--watch", "60").watch) == (5, 60)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["stauts"], "invalid choice: 'stauts'"),
        (["status", "--output", "yaml"], "invalid choice: 'yaml'"),
        (["status", "--out", "json"], "unrecognized arguments: --out json"),
        (["status", "--watch", "0"], "0: not a number of seconds from 1 to 86400"),
        (["status", "--watch", "soon"], "soon: not a number of seconds"),
        (["status", "--cwd", "/no/such"], "/no/such: there is no such folder"),
        (["completion", "powershell"], "invalid choice: 'powershell'"),
        (["completion", "bash", "--stack", "prod"], "unrecognized arguments: --stack prod"),
        (["backup"], "the following arguments are required: COMMAND"),
        (["backup", "restore"], "invalid choice: 'restore'"),
        (["backup", "keep"], "the following arguments are required: NAME"),
    ],
)
def test_a_wrong_command_line_ends_with_code_2(
    words: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main.main(words)
    assert end.value.code == ExitCode.NO_ANSWER
    said = capsys.readouterr()
    assert (said.out, problem in said.err) == ("", True), said.err


HELP = {
    **{each.name: each for each in main.COMMANDS},
    **{f"backup {each.name}": each for each in backup.COMMANDS.commands},
}


@pytest.mark.parametrize("words", HELP)
def test_help_has_examples_that_parse_and_fits_a_page(
    words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = HELP[words]
    monkeypatch.setenv("COLUMNS", "110")
    with pytest.raises(SystemExit) as end:
        main.main([*words.split(), "--help"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 120
    assert "examples:" in said
    for line, _ in command.examples:
        assert line in said
        for typed in (part.strip('$()"') for part in line.split('"') if "etcd-cluster" in part):
            parsed(*shlex.split(typed.split("|")[0].split(">")[0])[1:])


def test_status_explains_its_columns_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.main(["status", "--help"])
    said = capsys.readouterr().out
    for word in ("STATE", "ETCD", "DATABASE", "LAG", "DISK", "CERTIFICATES", "DRIFT", "next up", "exit codes:"):
        assert word in said


def test_it_runs_as_a_module(tmp_path: Path) -> None:
    project = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "etcd_cluster.cli", "--help"], cwd=project, check=True, capture_output=True, text=True
    )
    assert done.stdout.startswith("usage: etcd-cluster")


# --- completion ---

CASES = {
    "st": ["status"],
    "status --w": ["--watch"],
    "status --output ": ["json", "table"],
    "--stack ": ["dev", "prod"],
    "--stack prod env --cl": ["--cluster"],
    "completion z": ["zsh"],
    "backup v": ["verify"],
    "backup --stack prod l": ["list"],
    "backup list --al": ["--all"],
    "--stack prod backup keep --u": ["--undo"],
    "backup list --output ": ["json", "table"],
}


def complete_in_bash(script: str, line: str) -> str:
    words = ["etcd-cluster", *line.split(" ")]
    quoted = " ".join(map(shlex.quote, words))
    position = f"COMP_WORDS=({quoted}) COMP_CWORD={len(words) - 1}"
    return f'{script}\n{position}; _etcd_cluster; printf "%s\\n" "${{COMPREPLY[@]}}"'


def complete_in_fish(script: str, line: str) -> str:
    return f"{script}\ncomplete -C {shlex.quote('etcd-cluster ' + line)}"


@pytest.mark.parametrize("line", CASES)
@pytest.mark.parametrize(("shell", "complete"), [("bash", complete_in_bash), ("fish", complete_in_fish)])
def test_a_shell_completes(
    shell: str, complete: Any, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    for name in ("dev", "prod"):
        (tmp_path / f"Pulumi.{name}.yaml").touch()
    main.main(["completion", shell])
    command = [shell, "-c", complete(capsys.readouterr().out, line)]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert sorted(found.split("\t")[0] for found in done.stdout.split("\n") if found) == CASES[line]


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_a_shell_takes_what_is_printed_for_it(shell: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    main.main(["completion", shell])
    before = "autoload -U compinit && compinit -D\n" if shell == "zsh" else ""
    done = subprocess.run(
        [shell, "-c", before + capsys.readouterr().out],
        check=False,
        capture_output=True,
        text=True,
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_folder_of_state_is_that_of_the_scripts() -> None:
    """scripts/lib.sh is compared with it in test_scripts.py."""
    assert state_folder({"ETCD_CLUSTER_STATE_DIR": "/own"}, "p") == Path("/own/p")
    assert state_folder({"XDG_STATE_HOME": "/xdg"}, "p") == Path("/xdg/etcd-cluster/p")


def test_every_cluster_of_a_stack_is_found() -> None:
    assert [each.name for each in clusters.every(stack(TWO))] == ["orders", "stock"]
    assert [each.name for each in clusters.every(stack(ONE))] == [clusters.select(stack(ONE), None).name]
    with pytest.raises(CommandError, match="has no cluster that is up"):
        clusters.every(stack([]))
