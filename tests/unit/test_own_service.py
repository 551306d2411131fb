"""What of a machine reaches a member, variables and units: the scripts' functions, with a systemd made up here."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from etcd_cluster.member import render
from etcd_cluster.member.layout import Layout
from etcd_cluster.rollout.reports import parse_host

OURS = "# etcd-cluster: the-token\n[Unit]\n"
ENVIRONMENT = {
    **{
        name: "http://proxy:3128"
        for each in ("http_proxy", "https_proxy", "all_proxy")
        for name in (each, each.upper())
    },
    "ETCD_NAME": "theirs",
    "ETCDCTL_ENDPOINTS": "http://theirs:2379",
    "GODEBUG": "gctrace=1",
    "SSL_CERT_FILE": "/their/ca",
    "CURL_HOME": "/theirs",
    "HOME": "/theirs",
    "anything": "else",
    "BASH_FUNC_cat%%": "() { echo theirs; }",
}


@pytest.mark.parametrize("layout", [Layout.system(), Layout.below("/tmp/folder")], ids=["hosts", "local"])
@pytest.mark.parametrize("step", render.STEPS)
def test_nothing_of_a_log_in_s_environment_reaches_a_step(layout: Layout, step: str) -> None:
    functions, call, _ = render.script(step, layout).rpartition('\nanswer "$@"')
    assert call
    elevated = functions if os.geteuid() == 0 or layout.supervisor == "process" else functions.replace("sudo -n", "")
    done = subprocess.run(
        ["bash", "-s", "--", "a step", "key=a value"],
        input=f"{elevated}\nenv; type -t cat; printf '%s|' \"$@\"; exit\n",
        env={**ENVIRONMENT, "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    *lines, words = done.stdout.splitlines()
    assert lines.pop() == "file", "no function of the log-in's"
    assert {line.partition("=")[0] for line in lines} - {"PWD", "OLDPWD", "SHLVL", "_"} == {"LC_ALL", "PATH"}
    assert words == "a step|key=a value|"


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("proxy", ["", "http://proxy:3128"])
def test_a_download_goes_through_the_proxy_that_was_given_and_no_other(
    tmp_path: Path, proxy: str, hidden: bool
) -> None:
    """Without an argument that shows it, and without the settings of whoever logs in."""
    functions = render.script("prepare", Layout.below(str(tmp_path))).rpartition('\nanswer "$@"')[0]
    asked = tmp_path / "asked"
    name = "proxy" if hidden else "spec[proxy]"
    given = f"spec[mirror]=https://mirror version=3.6.16 {name}={proxy} spec[no-proxy]=.lan"
    fake = f"curl() {{ {{ echo \"$@\"; cat; }} >'{asked}'; false; }}"
    script = f"{functions}\n{fake}\n{given}\nfetch file /dev/null\n"
    subprocess.run(
        ["bash", "-s"], input=script, env={**ENVIRONMENT, "PATH": os.environ["PATH"]}, text=True, check=False
    )
    arguments, *lines = asked.read_text().splitlines()
    assert arguments.startswith("-q --config - ")
    assert "proxy:" not in arguments
    assert lines == ['url = "https://mirror/v3.6.16/file"', f'proxy = "{proxy}"', 'noproxy = ".lan"']


@dataclass
class Machine:
    """Folders of systemd below a path, and its answers: (unit, property) -> value."""

    root: Path
    answers: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])

    def write(self, path: str, content: str = "[Service]\nRestart=no\n") -> str:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        return str(file)

    def run(self, function: str) -> Sequence[str]:
        folders = " ".join(str(self.root / folder) for folder in ("system.control", "etc", "run", "lib"))
        rows = {**self.answers, ("", "UnitPath"): folders}
        cases = "\n".join(
            f"{shlex.quote(f'{unit} {name}')}) value={shlex.quote(value)} ;;" for (unit, name), value in rows.items()
        )
        fake = f"""
        systemctl() {{
          local unit='' name names=() value shown=
          while (($#)); do
            case $1 in
              --property) IFS=, read -ra names < <(echo "$2"); shift ;;
              --value) shown=no ;;
              *.service) unit=$1 ;;
            esac
            shift
          done
          for name in "${{names[@]}}"; do
            value=
            case "$unit $name" in {cases or "-) ;;"}
            esac
            if [[ $shown == no ]]; then echo "$value"; else echo "$name=$value"; fi
          done
        }}
        unit_path={self.root}/etc/etcd-cluster.service package_unit={self.root}/etc/etcd.service
        """
        # Without its begin, which becomes root.
        functions = render.script("observe", Layout.below(str(self.root))).rpartition('\nanswer "$@"')[0]
        functions = f"{functions}\n{render._source('systemd')}\n{fake}\n{function}\n"
        done = subprocess.run(["bash", "-s"], input=functions, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    machine.write("etc/etcd-cluster.service", OURS)
    return machine


FOREIGN: Mapping[str, tuple[str, str, bool]] = {
    "a drop-in": ("etc/etcd-cluster.service.d/a.conf", "[Service]\nNice=5\n", True),
    "by systemctl set-property": ("system.control/etcd-cluster.service.d/50-MemoryMax.conf", "", True),
    "at run time": ("run/etcd-cluster.service.d/a.conf", "", True),
    "for all names that begin so": ("lib/etcd-.service.d/a.conf", "", True),
    "no network for all": ("etc/service.d/a.conf", "[Service]\n PrivateNetwork = yes\n", True),
    "little memory for all": ("etc/service.d/a.conf", "[Service]\nMemoryMax=64M\n", True),
    "few open files for all": ("etc/service.d/a.conf", "[Service]\nLimitNOFILE=64\n", True),
    "an environment for all, which etcd does not get": ("etc/service.d/a.conf", "[Service]\nEnvironment=x=y\n", False),
    "as LXC has it since systemd 254": (
        "run/service.d/a.conf",
        "[Service]\nPrivateNetwork=no\nProtectSystem=no\nReadWritePaths=\n",
        False,
    ),
    "a watchdog for all": ("etc/service.d/a.conf", "[Service]\nWatchdogSec=10s\n", True),
    "no core files for all": ("etc/service.d/a.conf", "[Service]\nLimitCORE=0\nUMask=0027\n", False),
    "another program for all": ("lib/service.d/a.conf", "[Service]\nExecStartPre=/their/program\n", True),
    "another user for all": ("run/service.d/a.conf", "[Service]\nDynamicUser=yes\n", True),
    "another root for all": ("run/service.d/a.conf", "[Service]\nRootImage=/their/image\n", True),
    "other files for all": ("etc/service.d/a.conf", "[Service]\nReadOnlyPaths=/data\n", True),
    "no restart for all": ("etc/service.d/a.conf", "[Service]\nRestartSec=1h\n", True),
    "as Fedora has it": ("lib/service.d/10-timeout-abort.conf", "[Service]\nTimeoutStopFailureMode=abort\n", False),
    "files that etcd itself may not read": ("etc/service.d/a.conf", "[Service]\nUMask=0777\n", True),
    "a failure handler for all, as systemd.unit(5) shows it": (
        "etc/service.d/10-all.conf",
        "[Unit]\nOnFailure=failure-handler@%N.service\n",
        False,
    ),
    "accounting for all": ("etc/service.d/a.conf", "[Service]\nCPUAccounting=yes\nIOAccounting=true\n", False),
    "hardening that a member has or does not feel": (
        "etc/service.d/a.conf",
        "[Service]\nProtectClock=yes\nProtectKernelLogs=yes\nPrivateTmp=yes\nNoNewPrivileges=yes\n",
        False,
    ),
    "more than a member asks for": (
        "etc/service.d/a.conf",
        "[Service]\nLimitNOFILE=1048576\nLimitMEMLOCK=infinity\nTasksMax=infinity\n",
        False,
    ),
    "for other sections": ("etc/service.d/a.conf", "[Install]\nWantedBy=x\n[X-Theirs]\nExecStart=x\n", False),
    "the sandbox as LXC takes it off": (
        "run/service.d/zzz-lxc-service.conf",
        "[Service]\nProcSubset=all\nPrivateDevices=no\nProtectProc=default\nProtectControlGroups=no\nProtectKernelTunables=no\n"
        "NoNewPrivileges=no\nLoadCredential=\nPrivateNetwork=no\nProtectSystem=no\nReadWritePaths=\n",
        False,
    ),
    "an environment that may be missing": ("etc/service.d/a.conf", "[Service]\nEnvironmentFile=-/x\n", False),
    "an environment that is missing": ("etc/service.d/a.conf", "[Service]\nEnvironmentFile=/x\n", True),
    "no place to write to": ("etc/service.d/a.conf", "[Service]\nReadWritePaths=\n", True),
    "least priority for all": ("etc/service.d/a.conf", "[Service]\nCPUSchedulingPolicy=idle\nNice=19\n", True),
    "the first to be killed": ("etc/service.d/a.conf", "[Service]\nOOMScoreAdjust=1000\n", True),
    "killed when memory is short": ("etc/service.d/a.conf", "[Service]\nManagedOOMMemoryPressure=kill\n", True),
    "another slice for all": ("etc/service.d/a.conf", "[Service]\nSlice=small.slice\n", True),
    "output to nowhere": ("etc/service.d/a.conf", "[Service]\nStandardError=null\n", True),
    "a slow disk for all": ("etc/service.d/a.conf", "[Service]\nIOWriteBandwidthMax=/dev/sda 1M\n", True),
    "an older limit of memory": ("etc/service.d/a.conf", "[Service]\nMemorySwapMax=0\nStartupMemoryMax=1G\n", True),
    "bound to another unit": ("etc/service.d/a.conf", "[Unit]\nBindsTo=theirs.service\n", True),
    "no start again after two": ("etc/service.d/a.conf", "[Unit]\nStartLimitBurst=2\n", True),
    "a key of a systemd that does not exist yet": ("etc/service.d/a.conf", "[Service]\nNewInThe2030s=1\n", True),
    "on two lines": ("etc/service.d/a.conf", "[Service]\nExecStartPre=\\\n/their/program\n", True),
    "before a comment in the line": ("etc/service.d/a.conf", "[Service]\nPrivateNetwork=\\\n# no\nyes\n", True),
    "text on more lines": ("etc/service.d/a.conf", "[Unit]\nDescription=a\\\nExecStart=b\n", False),
    "a comment": ("etc/service.d/a.conf", "# PrivateNetwork=yes\n", False),
    "of another service": ("etc/etcd.service.d/a.conf", "[Service]\nRestart=no\n", False),
    "another unit of the name": ("system.control/etcd-cluster.service", "", True),
    "a unit that ours hides": ("lib/etcd-cluster.service", "", False),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_what_changes_the_unit_is_found_where_systemd_looks(machine: Machine, what: str) -> None:
    path, content, changes = FOREIGN[what]
    file = machine.write(path, content)
    assert machine.run("foreign_unit_files") == ([file] if changes else [])


def test_a_drop_in_that_cannot_be_read_is_named(machine: Machine) -> None:
    (machine.root / "etc/service.d/a.conf").mkdir(parents=True)
    assert machine.run("foreign_unit_files") == [str(machine.root / "etc/service.d/a.conf")]


def test_a_drop_in_that_hides_another_is_the_one_that_counts(machine: Machine) -> None:
    machine.write("lib/service.d/a.conf", "[Service]\nPrivateNetwork=yes\n")
    machine.write("etc/service.d/a.conf", "")
    assert machine.run("foreign_unit_files") == []


def test_what_systemd_has_loaded_counts_also_if_the_file_is_gone(machine: Machine) -> None:
    gone = str(machine.root / "etc/etcd-cluster.service.d/gone.conf")
    machine.answers["etcd-cluster.service", "DropInPaths"] = gone
    machine.answers["etcd-cluster.service", "FragmentPath"] = str(machine.root / "etc/etcd-cluster.service")
    assert machine.run("foreign_unit_files") == [gone]


THEIRS = "/usr/lib/systemd/system/etcd.service"
OTHERS: Mapping[str, tuple[dict[str, str], str]] = {
    "none": ({"LoadState": "not-found", "ActiveState": "inactive"}, ""),
    "masked": ({"LoadState": "masked", "ActiveState": "inactive", "FragmentPath": "/dev/null"}, ""),
    "disabled": ({"ActiveState": "inactive", "FragmentPath": THEIRS, "UnitFileState": "disabled"}, ""),
    "static": ({"ActiveState": "failed", "FragmentPath": THEIRS, "UnitFileState": "static"}, ""),
    "enabled": ({"ActiveState": "inactive", "FragmentPath": THEIRS, "UnitFileState": "enabled"}, "starts on boot"),
    "an alias": ({"ActiveState": "inactive", "FragmentPath": THEIRS, "UnitFileState": "alias"}, "starts on boot"),
    "of SysV": ({"ActiveState": "inactive", "FragmentPath": "/run/x", "UnitFileState": "generated"}, "starts on boot"),
    "running": ({"ActiveState": "active", "FragmentPath": THEIRS, "UnitFileState": "disabled"}, "runs"),
    "starting": ({"ActiveState": "activating", "FragmentPath": THEIRS, "UnitFileState": "disabled"}, "runs"),
    "running, and masked": ({"ActiveState": "active", "LoadState": "masked", "FragmentPath": "/dev/null"}, "runs"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_another_etcd_service_counts_if_it_runs_or_may_start(machine: Machine, what: str) -> None:
    answers, state = OTHERS[what]
    machine.answers = {("etcd.service", name): value for name, value in answers.items()}
    found = "\n".join(machine.run("other_service"))
    assert found.startswith("etcd.service here is not of this cluster: it is from ") if state else found == ""
    assert state in found


def test_a_unit_of_etcd_service_by_hand_counts_also_while_it_is_disabled(machine: Machine) -> None:
    file = machine.write("etc/etcd.service", "[Unit]\nDescription=theirs\n")
    answers = {"ActiveState": "inactive", "FragmentPath": file, "UnitFileState": "disabled"}
    machine.answers = {("etcd.service", name): value for name, value in answers.items()}
    assert machine.run("other_service") == [f"etcd.service here is not of this cluster: it is from {file}"]


def test_a_member_of_an_earlier_version_is_ours_as_etcd_service(machine: Machine) -> None:
    machine.write("etc/etcd.service", OURS)
    machine.answers["etcd.service", "ActiveState"] = "active"
    assert machine.run("other_service; service") == ["etcd.service"]


def test_a_systemd_that_does_not_answer_is_no_yes(machine: Machine) -> None:
    said = machine.run("systemctl() { return 1; }; other_service; foreign_unit_files")
    assert len(said) == 2


def test_all_of_it_is_reported() -> None:
    host, _ = parse_host("masked=no\nunit_file=/a\nunit_file=/b c\nother_service=theirs\n")
    assert (host.masked, host.foreign_unit_files, host.other_service) == (False, ["/a", "/b c"], "theirs")
    host, _ = parse_host("")
    assert (host.masked, host.foreign_unit_files, host.other_service) == (True, [], "")
