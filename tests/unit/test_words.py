"""Words from outside are data: whatever a value holds, it comes out of every line, script and file as it went in, or is
refused before anything is touched."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from etcd_cluster import ConfigurationError, EtcdCluster, EtcdClusterArgs, LocalMachines, Machine
from etcd_cluster.machines.machine import LATER
from etcd_cluster.member import render
from etcd_cluster.member.layout import Layout
from etcd_cluster.member.render import Member, MemberSpec, Security
from etcd_cluster.names import require_cluster_name
from etcd_cluster.rollout.reports import parse_host
from etcd_cluster.settings import validate_arguments
from etcd_cluster.ssh.client import _host_block
from etcd_cluster.ssh.connection import Connection, SshError
from tests.unit.recording import record

SCRIPTS = Path(render.__file__).with_name("scripts")
COMMON = 'pki_path=x; source "$1/common.sh"; '
SHELLS = [shell for shell in ("sh", "dash", "bash", "zsh") if shutil.which(shell)]

WORDS = [
    "it's",
    'say "hello"',
    "$(touch ran)",
    "`touch ran`",
    "; touch ran;",
    "& touch ran |",
    "$HOME ${HOME} $$",
    "key=value",
    "100% %h %i",
    " a  b ",
    "-rf",
    "--",
    "*",
    "?",
    "~root",
    "#comment",
    "back\\slash \\n \\",
    "!event",
    "<in >out",
    "{a,b}",
    "[0-9]",
    "é ü 中 🙂",
    "a" * 200,
    '{"cluster": "other"}',
    "&\\1/|",
]
UNUSABLE = ["", " a", "two\nlines", "a\rb", "a\0b", "a\tb", "a\u2028b", "a\udc80b", "\x1b[31m", "a" * 101]


@pytest.fixture
def nowhere(tmp_path: Path) -> Path:
    return tmp_path


def bash(script: str, *arguments: str, folder: Path, stdin: str = "") -> str:
    done = subprocess.run(
        ["bash", "-c", script, "bash", *arguments], cwd=folder, input=stdin, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert not list(folder.glob("**/ran")), "a word ran as a command"
    return done.stdout


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("shell", SHELLS)
def test_a_line_hands_every_word_to_its_script_as_it_is(shell: str, word: str, nowhere: Path) -> None:
    line = render.command_line("step", {"member": word, "other": "x"})
    step = 'step() { read_spec "$@"; printf %s "${spec[member]}"; }; "$1" "$@"; exit\n'
    script = f"pki_path=x; source {SCRIPTS}/common.sh; {step}"
    done = subprocess.run([shell, "-c", line], input=script, cwd=nowhere, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (word, "")
    assert not list(nowhere.iterdir())


@pytest.mark.parametrize("word", WORDS)
def test_a_script_has_every_variable_as_it_is(word: str, nowhere: Path) -> None:
    layout = replace(Layout.below(f"/srv/{word}"), supervisor="process")
    script = render.script("log", layout, {"cluster": word})
    ended = script.replace('answer "$@"; exit', 'printf "%s\\n" "$cluster" "$data_path"; exit')
    assert bash("bash -s -- log member=a", folder=nowhere, stdin=ended) == f"{word}\n/srv/{word}/volume/data\n"


def test_only_what_is_not_known_yet_is_left_without_quotes() -> None:
    assert render.command_line("step", {"a": LATER, "b": "?"}) == "bash -s -- step a=? b='?'"


@pytest.mark.parametrize("word", WORDS)
def test_a_marker_is_read_back_as_it_was_written(word: str, nowhere: Path) -> None:
    (nowhere / "etcd-cluster.json").write_text(render.identity(word, "etcd-1", "the-token"))
    read = 'volume_path=.; printf "%s\\n" "$(marker_field cluster)" "$(marker_field member)" "$(data_token)"'
    assert bash(f"{COMMON}{read}", str(SCRIPTS), folder=nowhere).splitlines() == [
        json.dumps(word)[1:-1],
        "etcd-1",
        "the-token",
    ]


@pytest.mark.parametrize("word", WORDS)
def test_a_report_of_any_folder_is_json(word: str, nowhere: Path) -> None:
    text = bash(
        'pki_path=x; source "$1/common.sh"; printf \'{"machine": "%s"}\' "$(json_text "$2")"',
        str(SCRIPTS),
        word,
        folder=nowhere,
    )
    assert json.loads(text) == {"machine": word}


@pytest.mark.parametrize("word", WORDS)
def test_files_below_any_folder_are_told_apart(word: str, nowhere: Path) -> None:
    base = nowhere / word.replace("/", "-")
    paths = {name: base / "configuration" / name for name in ("etcd.yaml", "bootstrap.yaml")}
    key = base / "pki" / "server.key"
    for path in (*paths.values(), key):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{path.name}: ==\n")
    observe = 'source "$1/observe.sh"; unit_path=; configuration_path=$2/configuration pki_path=$2/pki; observe_files'
    host, _ = parse_host(bash(f"{COMMON}{observe}", str(SCRIPTS), str(base), folder=nowhere))
    assert {path: seen.content for path, seen in host.files.items() if path != str(key)} == {
        str(path): f"{path.name}: ==\n" for path in paths.values()
    }
    digest = bash('sha256sum <"$1"', str(key), folder=nowhere).split()[0]
    assert host.files[str(key)].content == digest


def spec(**changes: Any) -> MemberSpec:
    plain = MemberSpec("token", Member("etcd-1", "10.0.0.1"), Layout.system(), {}, Security.of(True))
    return replace(plain, **changes)


@pytest.mark.parametrize("word", WORDS)
def test_a_configuration_below_any_folder_names_it(word: str) -> None:
    layout = Layout.below(f"/srv/{word}")
    settings = yaml.safe_load(render.etcd_configuration(spec(layout=layout)))
    assert settings["data-dir"] == f"/srv/{word}/volume/data"
    assert settings["client-transport-security"]["key-file"] == f"/srv/{word}/pki/server.key"


@pytest.mark.parametrize("word", WORDS)
def test_a_profile_quotes_an_address(word: str, nowhere: Path) -> None:
    profile = render.administrator_profile(spec(member=Member("etcd-1", word)))
    host = f"[{word}]" if ":" in word else word
    assert bash(f'{profile}\nprintf %s "$ETCDCTL_ENDPOINTS"', folder=nowhere) == f"https://{host}:2379"


MEMBER_LIST = """\
1a2b, started, etcd-1, http://[fd00::1]:2380, http://[fd00::1]:2379, false
1e10, started, etcd-2, http://10.0.0.2:2380, http://10.0.0.2:2379, true
3c, unstarted, , http://10.0.0.3:2380, , true
"""


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (("", "http://[fd00::1]:2380", ""), True),
        (("1a2b", "http://[fd00::1]:2380", ""), True),
        (("1a2b", "", "false"), True),
        (("1a2b", "", "true"), False),
        (("1a2", "", ""), False),
        (("10000000000", "", ""), False),
        (("1e10", "http://10.0.0.3:2380", ""), False),
        (("", "http://10x0.0.3:2380", ""), False),
        (("3c", "", "true"), True),
        (("", "http://10.0.0.2:2379", ""), False),
    ],
)
def test_a_row_of_the_member_list_is_compared_as_text(asked: tuple[str, ...], found: bool, nowhere: Path) -> None:
    script = 'pki_path=x; source "$1/common.sh"; source "$1/membership.sh"; listed "${@:2}" && echo yes || echo no'
    assert (bash(script, str(SCRIPTS), *asked, folder=nowhere, stdin=MEMBER_LIST) == "yes\n") == found


# --- what cannot be used


@pytest.mark.parametrize("word", UNUSABLE)
def test_a_cluster_name_that_no_line_can_hold_is_refused(word: str) -> None:
    with pytest.raises(ConfigurationError, match="not usable as a name"):
        require_cluster_name(word, "project", "stack")
    with pytest.raises(ConfigurationError, match="not usable as a name"):
        require_cluster_name("etcd", "project", word)


@pytest.mark.parametrize("word", [word for word in WORDS if word == word.strip() and len(word) <= 100])
def test_any_other_cluster_name_is_taken(word: str) -> None:
    assert require_cluster_name(word, "project", "stack") == f"project/stack/{word}"


@pytest.mark.parametrize("word", ["two\nlines", "a\0b", "a\udc80b", "/".join(["a" * 200] * 20), "a" * 256])
def test_a_local_directory_that_cannot_be_one_is_refused(word: str) -> None:
    with pytest.raises(ConfigurationError, match=r"local\.directory"):
        validate_arguments(EtcdClusterArgs(LocalMachines(directory=f"/srv/{word}")))


def test_a_home_that_is_nobodys_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no such user"):
        LocalMachines(directory="~nobody-of-this-name/etcd").folder("etcd", "project", "stack")


class Places:
    """A platform of somebody else's."""

    platform = "elsewhere"

    def __init__(self, *names: str, **changes: Any) -> None:
        self._names = names
        self._changes: Mapping[str, Any] = changes

    def member_names(self, members: int | None) -> tuple[str, ...]:
        return self._names

    def provision(self, cluster: str, names: Sequence[str], size: object, parent: object) -> list[Machine]:
        return [replace(Machine(name, "10.0.0.1", None, directory="/srv"), **self._changes) for name in names]


def refused(machines: Any, name: str = "etcd") -> str:
    """What is said. Nothing but the component itself may be registered by then."""
    said: list[str] = []

    def program() -> None:
        with pytest.raises(ConfigurationError) as error:
            EtcdCluster(name, EtcdClusterArgs(machines=machines))
        said.append(str(error.value))

    assert set(record(program).resources) <= {name}
    return said[0]


@pytest.mark.parametrize("word", [*WORDS, *UNUSABLE])
def test_a_member_name_of_any_platform_is_plain(word: str) -> None:
    if word != "--":
        assert "not usable as a member's name" in refused(Places(word))


@pytest.mark.parametrize("word", [word for word in (*WORDS, *UNUSABLE, "host,b=http://c", "a b", "-x")])
def test_an_address_of_any_platform_is_an_address(word: str) -> None:
    if set(word) != {"a"}:
        assert "neither an IP address nor a DNS name" in refused(Places("etcd-1", address=word))


@pytest.mark.parametrize("word", ["/dev/*", "/dev/a b", "/dev/sda,relative", "/dev/$(x)", "/dev/a\n/dev/b"])
def test_a_device_of_any_platform_is_a_device(word: str) -> None:
    assert "not the path of a block device" in refused(Places("etcd-1", device=word))


def test_a_platform_yields_the_machines_that_it_named() -> None:
    assert "not the machines of etcd-1" in refused(Places("etcd-1", name="etcd-2"))
    assert "two members have one name" in refused(Places("etcd-1", "etcd-1", "etcd-1"))


def test_what_is_known_later_is_checked_when_it_is_known() -> None:
    later = pulumi.Output.from_input("a b")
    with pytest.raises(ConfigurationError, match=r"etcd-1\.address: .* neither an IP address nor a DNS name"):
        record(lambda: EtcdCluster("etcd", EtcdClusterArgs(machines=Places("etcd-1", address=later))))


@pytest.mark.parametrize("setting", ["host", "user", "agent_socket"])
@pytest.mark.parametrize("word", ["a b", 'a"b', "a\nProxyCommand touch ran", "-oProxyCommand=x", "%h", "${HOME}"])
def test_no_word_becomes_a_setting_of_ssh(setting: str, word: str, tmp_path: Path) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43
    connection = replace(Connection("10.0.0.1", host_key=key), **{setting: word})
    files = [tmp_path / name for name in ("c0", "k0", "h0", "p0")]
    try:
        block = _host_block(connection, "target0", *files)
    except SshError:
        return
    settings = [line.split(None, 1) for line in block.splitlines()[1:]]
    name = {"host": "HostName", "agent_socket": "IdentityAgent"}[setting]
    plain = replace(connection, **{setting: "plain"})
    expected = _host_block(plain, "target0", *files).splitlines()[1:]
    assert [each[0] for each in settings] == [line.split()[0] for line in expected]
    (value,) = (value for each, value in settings if each == name)
    assert value in (f'"{word}"', f'"{word.replace("%", "%%")}"', "none", "%%h")


@pytest.mark.parametrize("name", ["..", ".", "a/b", "../../etc"])
def test_on_this_machine_a_cluster_name_is_one_folder(name: str) -> None:
    assert "not usable as the name of a folder" in refused(LocalMachines(directory="/srv"), name)
