"""How a machine's packages are installed while another program installs some: functions of packages.sh, run here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from etcd_cluster.member import render
from etcd_cluster.member.layout import Layout

WITHIN_SECONDS = 30


class Machine:
    """Its apt-get fails as long as somebody has the lock, as the real one does."""

    def __init__(self, folder: Path) -> None:
        self.lock = folder / "lock-frontend"
        self.installed = folder / "installed"
        self.pids = folder / "zypp.pid"
        self.proxies = folder / "proxies"
        tools = folder / "tools"
        tools.mkdir()
        apt = tools / "apt-get"
        apt.write_text(f"""#!/bin/bash
        echo "$http_proxy|$https_proxy|$no_proxy" >'{self.proxies}'
        [[ $2 == -y ]] || exit 0
        python3 -c 'import fcntl; fcntl.lockf(open("{self.lock}", "w"), fcntl.LOCK_EX | fcntl.LOCK_NB)' 2>/dev/null ||
          {{ echo "E: Could not get lock"; exit 100; }} >&2
        touch '{self.installed}'
        """)
        apt.chmod(0o755)
        self._folder, self._tools = folder, tools

    def install(self, wait_seconds: int = WITHIN_SECONDS, more: str = "") -> subprocess.CompletedProcess[str]:
        functions = render.script("prepare", Layout.below(str(self._folder))).rpartition('\nanswer "$@"')[0]
        script = f"""{functions}
        spec[member]=etcd-1 PATH='{self._tools}':$PATH
        missing_packages() {{ [[ -e '{self.installed}' ]] || echo xfsprogs; }}
        PACKAGE_LOCKS=('{self.lock}') PACKAGE_PIDS='{self.pids}' package_wait_seconds={wait_seconds}
        {more}
        install_packages
        """
        return subprocess.run(["bash", "-s"], input=script, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@contextmanager
def holder(machine: Machine, seconds: float) -> Iterator[int]:
    """A process that has the lock for so long, as apt has it."""
    code = f"import fcntl, time; f = open({str(machine.lock)!r}, 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", f"{code}; time.sleep({seconds})"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.kill()


def test_another_program_that_installs_packages_is_waited_for_and_named(machine: Machine) -> None:
    with holder(machine, 3) as pid:
        done = machine.install()
    assert done.returncode == 0, done.stderr
    assert machine.installed.exists()
    assert re.search(rf"etcd-1: waiting: python\S*, process {pid} \(.*\), holds {machine.lock}\n", done.stderr)
    assert done.stderr.count("waiting:") == 1


def test_the_wait_has_an_end_that_names_who_holds_the_lock(machine: Machine) -> None:
    with holder(machine, 60) as pid:
        done = machine.install(wait_seconds=3)
    assert done.returncode == 70
    assert re.search(rf"error: etcd-1: cannot install xfsprogs: python\S*, process {pid} ", done.stderr)
    assert f"holds {machine.lock}, and still does after 3 s; wait until it has ended" in done.stderr


def test_a_process_that_is_noted_in_a_file_is_waited_for_and_one_that_has_ended_is_not(machine: Machine) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    machine.pids.write_text(f"{ended.pid}\n")
    assert machine.install().returncode == 0
    machine.installed.unlink()
    machine.pids.write_text(f"{os.getpid()}\n")
    assert f"process {os.getpid()}" in machine.install(wait_seconds=2).stderr


def test_what_the_package_manager_says_of_another_problem_is_passed_on_at_once(machine: Machine) -> None:
    done = machine.install(more="run_package_manager() { echo 'E: no such package' >&2; false; }")
    assert "cannot install xfsprogs: apt-get says: E: no such package; install them by hand" in done.stderr
    assert "waiting" not in done.stderr


def test_the_proxy_is_for_the_package_manager_too_and_hosts_past_it_are_told(machine: Machine) -> None:
    assert machine.install(more="spec[proxy]=http://proxy:3128 spec[no-proxy]=.lan,10.0.0.5").returncode == 0
    assert machine.proxies.read_text() == "http://proxy:3128|http://proxy:3128|.lan,10.0.0.5\n"
