"""The script that exposes a machine's metrics, with a systemd that is played."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from etcd_cluster.member import render
from etcd_cluster.member.layout import Layout
from etcd_cluster.monitoring.endpoints_lifecycle import variables_of
from tests.unit.test_monitoring import props


class Host:
    """A machine whose metrics are exposed already."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def set_up(
        self, *, textfile_folder: str = "", taken_by: str = "", **plays: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs the step.

        Args:
            textfile_folder: Folder of node_exporter's textfile collector; "" for none.
            taken_by: Process that listens on the port; "" for nginx of our own, which does from its start or reload on.
            plays: Functions of the script -> what they do instead.
        """
        own = Path(Layout.below(str(self.folder)).configuration, "monitoring")
        own.parent.mkdir(exist_ok=True)
        paths = {"monitoring_path": str(own), "hook_path": f"{own}/on-failure"}
        variables = variables_of(props(textfile_folder=textfile_folder), "etcd-1") | paths
        script = render.script("monitoring_setup", Layout.below(str(self.folder)), variables)
        functions, call, _ = script.rpartition('\nanswer "$@"')
        assert call
        calls = shlex.quote(str(self.folder / "calls"))
        played = {
            "lock": "true",
            "install_nginx": "true",
            "systemctl": f'printf "%s\\n" "$*" >>{calls}',
            "listening": f"[[ -n '{taken_by}' ]] || grep -qE '^(reload|restart) etcd-cluster-monitoring' {calls}",
            "ss": f"echo 'users:((\"x\",pid={taken_by},fd=3))'",
            **plays,
        }
        stubs = "\n".join(f"{name}() {{ {body}; }}" for name, body in played.items())
        (self.folder / "units").mkdir(exist_ok=True)
        (self.folder / "calls").write_text("")
        tail = f"UNITS_PATH={shlex.quote(str(self.folder / 'units'))}\nmonitoring_setup monitoring_setup\nexit"
        return subprocess.run(
            ["bash"], input=f"{functions}\n{stubs}\n{tail}", text=True, capture_output=True, check=False
        )

    def did(self, call: str) -> bool:
        return call in (self.folder / "calls").read_text().splitlines()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_port_of_another_program_is_refused_also_while_metrics_are_served_at_another(host: Host) -> None:
    """nginx would go on with the port that it has, and nobody would hear of it."""
    with subprocess.Popen(["sleep", "60"]) as other:
        done = host.set_up(taken_by=str(other.pid))
        other.kill()
    assert f"monitoring.port: port 2382 is taken by process {other.pid}" in done.stderr
    assert not (host.folder / "configuration" / "monitoring").exists()


def test_what_an_earlier_step_has_placed_is_served_although_it_was_cut_off(host: Host) -> None:
    cut_off = host.set_up(systemctl="[[ $1 != daemon-reload ]] || exit 70")
    assert cut_off.returncode == 70
    assert host.set_up().returncode == 0
    assert host.did("daemon-reload")
    assert host.did("reload etcd-cluster-monitoring.service")


def test_a_port_that_is_not_served_in_the_end_fails_the_step(host: Host) -> None:
    done = host.set_up(listening="false", wait_until='shift; "$@"')
    assert done.returncode == 70
    assert "port 2382 is not served" in done.stderr


def test_another_folder_for_node_exporter_leaves_no_figures_in_the_one_before(host: Host) -> None:
    """They would stay the newest ones that node_exporter serves of this host, and raise EtcdHostMetricsOld for ever."""
    before, after = host.folder / "it's $one", host.folder / "two"
    for folder in (before, after):
        folder.mkdir()
        (folder / "etcd-cluster.prom").write_text("figures")
        (folder / "other.prom").write_text("of others")
    for given in (before, after):
        assert host.set_up(textfile_folder=str(given)).returncode == 0
    assert [path.name for path in before.iterdir()] == ["other.prom"]
    assert (after / "etcd-cluster.prom").exists()
    assert host.set_up().returncode == 0
    assert [path.name for path in after.iterdir()] == ["other.prom"]
