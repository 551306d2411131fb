"""What the entry points say and decide before anything runs. Whole runs are in tests/local."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from etcd_cluster.state_folder import state_folder
from scripts.local_data import LocalDataError, delete
from scripts.release_notes import notes
from scripts.stack_file import StackFile
from scripts.summary import summary
from tests.local.checkout import NOT_SET_UP, SET_UP, Checkout

needs_set_up = pytest.mark.skipif(not SET_UP, reason=NOT_SET_UP)
SHELLS = [shell for shell in ("sh", "dash", "bash", "zsh") if shutil.which(shell)]
NASTY = '/home/o\'neil $HOME `id`/"a b"'
OUTPUTS = {
    "endpoints": ["https://127.0.0.1:2379", "https://127.0.0.1:2389"],
    "members": {"etcd-2": {}, "etcd-1": {}},
    "caCertificate": "CA\n",
    "clientCertificate": "certificate\n",
    "clientKey": "key\n",
    "version": "3.6.16",
}
CLUSTER = "etcd-cluster/dev/etcd"


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "a b")


@pytest.mark.parametrize(("script", "code"), [("up", 1), ("down", 1), ("env", 2), ("status", 2)])
def test_an_unknown_stack_is_named_with_those_that_exist(script: str, code: int, checkout: Checkout) -> None:
    (checkout.project / "Pulumi.prod.yaml").touch()
    done = checkout.script(script, "staging", check=False)
    assert done.returncode == code
    assert "stack staging: there is no Pulumi.staging.yaml" in done.stderr
    assert "Stacks that exist: dev prod" in done.stderr


@pytest.mark.parametrize("stack", ["a b", "-x", ".hidden", "a;b", "é", "a/b", "two\nlines"])
def test_a_stack_is_a_plain_name(stack: str, checkout: Checkout) -> None:
    (checkout.project / f"Pulumi.{stack.replace('/', '-')}.yaml").touch()
    done = checkout.script("env", stack, check=False)
    assert (done.returncode, done.stdout) == (2, "false\n")
    assert "a name has letters, digits, dots, dashes and underscores only" in done.stderr


@pytest.mark.parametrize("script", ["up", "down"])
def test_an_unknown_option_is_named(script: str, checkout: Checkout) -> None:
    done = checkout.script(script, "--force", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "option --force: unknown; usage: scripts/" in done.stderr


@pytest.mark.parametrize("words", [["--forget"], ["--forget", "--yes"], ["prod", "--forget", ""]])
def test_down_asks_for_the_name_of_whom_to_forget(words: list[str], checkout: Checkout) -> None:
    done = checkout.script("down", *words, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "option --forget: expected is the name of a member after it, such as: --forget host-1" in done.stderr


def test_env_fails_inside_eval_as_well(checkout: Checkout) -> None:
    checkout.stack_file.unlink()
    done = checkout.shell("echo went on", check=False)
    assert (done.returncode, done.stdout) == (1, "")


@needs_set_up
@pytest.mark.parametrize(
    "variables",
    [{}, {"XDG_STATE_HOME": "/tmp/xdg"}, {"ETCD_CLUSTER_STATE_DIR": "own folder"}, {"ETCD_CLUSTER_STATE_DIR": "~/own"}],
)
def test_scripts_keep_state_where_the_command_and_the_embedded_engine_do(
    variables: dict[str, str], checkout: Checkout
) -> None:
    script = '. scripts/lib.sh; cd "$HOME"; enter "$OLDPWD"; mkdir() { :; }; chmod() { :; }; find_state; echo "$state"'
    environment = checkout.environment | variables
    done = subprocess.run(
        ["sh", "-c", script], cwd=checkout.project, env=environment, capture_output=True, text=True, check=True
    )
    expected = variables.get("ETCD_CLUSTER_STATE_DIR", "").replace("~", str(checkout.home))
    expected = str(checkout.home / expected) if expected else ""
    home = {"XDG_STATE_HOME": variables.get("XDG_STATE_HOME", str(checkout.home / ".local/state"))}
    assert Path(done.stdout.strip()) == state_folder({**home, "ETCD_CLUSTER_STATE_DIR": expected}, "etcd-cluster")


@needs_set_up
def test_a_stack_of_the_pulumi_cli_never_goes_to_the_embedded_engine(checkout: Checkout) -> None:
    checkout.state.mkdir(parents=True)
    (checkout.state / "dev.backend").write_text("file:///elsewhere\n")
    checkout.environment["PATH"] = "/usr/bin:/bin"
    done = checkout.script("up", check=False)
    assert done.returncode == 1
    assert "stack dev was made with the Pulumi CLI, and only the CLI has its state" in done.stderr


@needs_set_up
def test_a_stack_of_the_embedded_engine_never_goes_to_the_pulumi_cli(checkout: Checkout) -> None:
    checkout.state.mkdir(parents=True)
    (checkout.state / "dev.json").write_text('{"version":1,"encryptionsalt":"","resources":[{}]}')
    checkout.environment["ETCD_CLUSTER_ENGINE"] = "pulumi"
    done = checkout.script("up", check=False)
    assert done.returncode == 1
    assert "stack dev belongs to engine embedded, not pulumi: run scripts/down dev first" in done.stderr


@pytest.mark.parametrize(
    ("version", "accepted"),
    [
        ("3.260.0", True),
        ("3.259.9", False),
        ("4.0.0", True),
        ("2.999.0", False),
        ("3.300.1-dev", True),
        ("unknown", False),
    ],
)
def test_a_pulumi_cli_before_3_260_is_too_old(version: str, accepted: bool, checkout: Checkout) -> None:
    command = ["sh", "-c", '. scripts/lib.sh; new_enough "$1"', "sh", version]
    done = subprocess.run(command, cwd=checkout.project, check=False, capture_output=True)
    assert (done.returncode == 0) == accepted


@needs_set_up
def test_down_never_deletes_data_on_hosts_that_the_stack_file_does_not_give_up(checkout: Checkout) -> None:
    (checkout.project / "Pulumi.prod.yaml").write_text("config:\n  etcd-cluster:platform: hosts\n")
    done = checkout.script("down", "prod", "--delete-data", "--yes", check=False)
    assert done.returncode == 1
    assert "only if `etcd-cluster:deleteData: true` stands under `config:` in Pulumi.prod.yaml" in done.stderr


@needs_set_up
def test_down_of_a_stack_that_matters_needs_a_yes(checkout: Checkout) -> None:
    (checkout.project / "Pulumi.prod.yaml").write_text("config:\n  etcd-cluster:platform: hosts\n")
    done = checkout.script("down", "prod", check=False)
    assert done.returncode == 1
    assert "stack prod: taking it down needs --yes" in done.stderr


def stack_file(folder: Path, **config: object) -> StackFile:
    (folder / "Pulumi.yaml").write_text("name: etcd-cluster\nruntime: python\n")
    values = {f"etcd-cluster:{key}": value for key, value in config.items()}
    (folder / "Pulumi.dev.yaml").write_text(json.dumps({"config": values}))
    return StackFile("dev", folder)


def test_the_summary_says_endpoints_next_step_and_where_things_are(tmp_path: Path) -> None:
    text = summary(
        stack_file(tmp_path, platform="local", local={"directory": "/srv"}), OUTPUTS, "dev", "/my project/scripts"
    )
    assert "etcd 3.6.16 is up, all 2 members healthy" in text
    assert f'eval "$({shlex.quote("/my project/scripts/env")})" && etcdctl endpoint health --cluster' in text
    assert "/srv/etcd/MEMBER/volume" in text
    assert "/srv/etcd/MEMBER/logs/etcd.log" in text


def make_member(folder: Path, cluster: str | None) -> Path:
    (folder / "volume" / "data" / "member").mkdir(parents=True)
    if cluster:
        (folder / "volume" / "etcd-cluster.json").write_text(json.dumps({"cluster": cluster}))
    return folder


def test_local_data_of_this_cluster_is_deleted(tmp_path: Path) -> None:
    make_member(tmp_path / "etcd" / "etcd-1", CLUSTER)
    (tmp_path / "etcd" / "etcd-2").mkdir()
    assert delete(tmp_path / "etcd", CLUSTER)
    assert not (tmp_path / "etcd").exists()
    assert not delete(tmp_path / "etcd", CLUSTER)


@pytest.mark.parametrize(("owner", "named"), [("other/dev/etcd", "other/dev/etcd"), (None, "no cluster that is known")])
def test_local_data_of_others_is_never_deleted(owner: str | None, named: str, tmp_path: Path) -> None:
    make_member(tmp_path / "etcd" / "etcd-1", CLUSTER)
    make_member(tmp_path / "etcd" / "etcd-2", owner)
    with pytest.raises(LocalDataError, match=named):
        delete(tmp_path / "etcd", CLUSTER)
    assert (tmp_path / "etcd" / "etcd-1" / "volume" / "data" / "member").is_dir()


def test_local_data_under_a_running_member_is_never_deleted(tmp_path: Path) -> None:
    member = make_member(tmp_path / "etcd" / "etcd-1", CLUSTER)
    (member / "state").mkdir()
    program = "import sys, time; print('ready', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", program, str(member / "configuration" / "etcd.yaml")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        (member / "state" / "etcd.pid").write_text(f"{process.pid}\n")
        try:
            with pytest.raises(LocalDataError, match=f"etcd-1 still runs \\(process {process.pid}\\)"):
                delete(tmp_path / "etcd", CLUSTER)
        finally:
            process.kill()


CHANGELOG = """# Changelog

## [Unreleased]

## [0.2.0] - 2030-01-01

### Added

- A thing.

## [0.1.0] - 2029-01-01

- The first.
"""


def test_the_notes_of_a_release_are_its_part_of_the_changelog() -> None:
    assert notes("v0.2.0", CHANGELOG, 'version = "0.2.0"\n') == "### Added\n\n- A thing."
    assert notes("v0.1.0", CHANGELOG, 'version = "0.1.0"\n') == "- The first."


@pytest.mark.parametrize(
    ("tag", "version", "problem"),
    [("v0.2.0", "0.1.0", "pyproject.toml has 0.1.0"), ("v0.3.0", "0.3.0", "CHANGELOG.md has nothing on 0.3.0")],
)
def test_a_tag_that_does_not_fit_makes_no_release(tag: str, version: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        notes(tag, CHANGELOG, f'version = "{version}"\n')
