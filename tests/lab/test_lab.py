"""The lab keeps its own promises: what other lab tests take for granted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab import binaries, hosts
from tests.lab.hosts import Host, Lab, LabError

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pair(lab: Lab) -> list[Host]:
    """Two hosts, for tests that leave them as they were."""
    return lab.hosts(2, disk_gib=1)


def remains(name: str) -> list[str]:
    """All that is left of a lab, anywhere on this machine."""
    mounts = [point for point in hosts._mount_points() if name in point]
    loops = subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=True).stdout.splitlines()
    commands = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [
        *mounts,
        *(line for line in [*loops, *commands] if name in line),
        *(str(path) for path in hosts._cgroups_named(name)),
        *(str(path) for path in (Path("/run/netns", name), Path("/run", name)) if path.exists()),
        *(str(path) for path in hosts.cache_dir().glob(f"runs/{name}")),
    ]


def crash(host: Host) -> None:
    """End every process at once, then boot again."""
    host.kill()
    host.start()


@pytest.mark.parametrize(
    ("user", "sudo_works"),
    [("root", True), ("admin", True), ("nosudo", False)],
    ids=["root", "admin", "nosudo"],
)
def test_each_user_logs_in_with_the_operators_key(pair: list[Host], user: str, sudo_works: bool) -> None:
    assert pair[0].run("id -un", user=user).stdout == f"{user}\n"
    assert (pair[0].run("sudo -n true", user=user, check=False).returncode == 0) is sudo_works


def test_every_host_is_a_machine_of_its_own(pair: list[Host]) -> None:
    for command in (
        "cat /etc/machine-id",
        "hostname",
        "cat /proc/sys/kernel/random/boot_id; cat /etc/ssh/*.pub",
    ):
        assert len({host.run(command).stdout for host in pair}) == 2, command
    assert [host.run("ls /etc/ssh/ssh_host_*_key").stdout for host in pair] == ["/etc/ssh/ssh_host_ed25519_key\n"] * 2
    # Cgroups, too: stopping a unit on one host must not end the same unit on another.
    for host in pair:
        host.run("systemd-run --quiet --unit=witness sleep 600")
    pair[0].run("systemctl stop witness")
    assert pair[1].run("systemctl is-active witness").stdout == "active\n"
    pair[1].run("systemctl stop witness")


def test_systemd_and_chrony_run_and_nothing_failed(pair: list[Host]) -> None:
    assert pair[0].run("systemctl is-system-running --wait").stdout == "running\n"
    assert pair[0].run("systemctl is-active chrony").stdout == "active\n"
    assert "Leap status     : Normal" in pair[0].run("chronyc tracking").stdout


def test_hosts_reach_each_other_and_the_operator_and_nothing_else(pair: list[Host]) -> None:
    one, two = pair
    connect = "timeout 3 bash -c ': > /dev/tcp/{}/22'"
    assert one.run(connect.format(two.address), check=False).returncode == 0
    assert one.run("ip route show default").stdout == ""


def test_a_wrong_host_key_is_refused(pair: list[Host], lab: Lab, tmp_path: Path) -> None:
    swapped = tmp_path / "known_hosts"
    swapped.write_text(f"{pair[0].address} {pair[1].host_key}\n")
    options = [f"-F{lab.ssh_config_file}", "-o", f"UserKnownHostsFile={swapped}"]
    assert (
        "Host key verification failed"
        in lab.run(["ssh", *options, f"root@{pair[0].address}", "true"], check=False).stderr
    )


def test_standard_input_reaches_a_command_and_failure_is_told(pair: list[Host]) -> None:
    assert pair[0].run("cat", stdin="a\nb\n").stdout == "a\nb\n"
    with pytest.raises(LabError, match=r"host-1.*exited 3: no such luck"):
        pair[0].run("echo no such luck >&2; exit 3")


def test_disk_and_root_survive_reboot_and_crash(pair: list[Host]) -> None:
    host = pair[0]
    unit = f"[Mount]\nWhat={host.device}\nWhere=/data\nType=xfs\n[Install]\nWantedBy=local-fs.target\n"
    host.run(f"mkfs.xfs -q {host.device} && cat > /etc/systemd/system/data.mount", stdin=unit)
    host.run("systemctl enable --quiet --now data.mount; echo one > /data/proof; echo two > /root/proof; sync")
    stamps = set()
    for again in (Host.reboot, crash):
        stamps.add(host.run("systemctl show -P UserspaceTimestampMonotonic").stdout)
        again(host)
        assert host.run("findmnt -no FSTYPE /data").stdout == "xfs\n"
        assert host.read("/data/proof") + host.read("/root/proof") == "one\ntwo\n"
    assert host.run("systemctl show -P UserspaceTimestampMonotonic").stdout not in stamps


def test_a_host_is_ready_while_a_service_of_its_own_waits(pair: list[Host]) -> None:
    """As an enabled etcd does, after a power cut of the whole cluster."""
    unit = "[Service]\nType=notify\nExecStart=sleep infinity\nTimeoutStartSec=infinity\n"
    pair[1].run(
        "cat > /etc/systemd/system/waits.service && systemctl add-wants --quiet multi-user.target waits.service",
        stdin=unit,
    )
    pair[1].reboot()
    assert pair[1].run("systemctl is-system-running", check=False).stdout == "starting\n"
    assert pair[1].run("id -un", user="admin").stdout == "admin\n"
    pair[1].run("systemctl disable --quiet waits.service; systemctl stop waits.service")


def test_a_killed_host_is_down_until_started(pair: list[Host]) -> None:
    pair[1].kill()
    assert not pair[1].running
    with pytest.raises(LabError, match="host-2 is down"):
        pair[1].run("true")
    pair[1].start()
    assert pair[1].run("true").returncode == 0


def test_traffic_can_be_dropped_whole_or_between_two_hosts(pair: list[Host]) -> None:
    one, two = pair
    probe = f"timeout 2 bash -c ': > /dev/tcp/{two.address}/22'"
    one.run(probe)
    two.drop_traffic(one)
    assert one.run(probe, check=False).returncode == 124
    two.run("true")  # the operator still gets through
    two.drop_traffic()
    assert one.run(probe, check=False).returncode == 124
    assert two.run("true", check=False).returncode == 255
    two.restore_traffic()
    one.run(probe)
    two.run("true")


def test_a_paused_host_keeps_its_connections_and_goes_on(pair: list[Host]) -> None:
    two = pair[1]
    two.run("true")
    two.pause()
    with pytest.raises(subprocess.TimeoutExpired):
        two.run("true", timeout=1)
    two.resume()
    two.run("true")


def test_a_replaced_machine_can_take_over_name_address_and_disk(lab: Lab) -> None:
    old = lab.host("replaced", disk_gib=1, address="10.77.0.100")
    old.run(f"mkfs.xfs -q {old.device}; mount {old.device} /mnt; echo kept > /mnt/proof; echo gone > /root/proof")
    old.kill()
    old.remove()
    new = lab.host("replaced", disk=old.disk, address="10.77.0.100")
    assert new.host_key != old.host_key
    assert new.run(f"mount {new.device} /mnt; cat /mnt/proof; ls /root").stdout == "kept\n"
    new.remove()
    bare = lab.host("replaced", disk_gib=None, address="10.77.0.100")
    assert bare.device is None
    assert bare.run("test -e /dev/xvdf", check=False).returncode == 1
    bare.remove()


def test_a_mirror_is_reached_from_a_host(pair: list[Host], lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content\n")
    url = lab.mirror(tmp_path)
    assert pair[0].run(f"curl -fsS {url}/file").stdout == "content\n"


def test_the_release_mirror_holds_what_the_official_one_does(pair: list[Host], mirror_url: str) -> None:
    name = f"etcd-v3.6.16-linux-{binaries.architecture()}"
    done = pair[1].run(
        f"cd $(mktemp -d) && curl -fsS --remote-name-all {mirror_url}/v3.6.16/{{{name}.tar.gz,SHA256SUMS}}"
        f" && sha256sum -c SHA256SUMS && tar -xzf {name}.tar.gz && ls {name} && {name}/etcd --version"
    )
    assert done.stdout.startswith(f"{name}.tar.gz: OK\netcd\netcdctl\netcdutl\netcd Version: 3.6.16\n")


@pytest.mark.parametrize("version", ["v3.6.16", "3.6", "3.4.27"])
def test_a_version_that_cannot_be_built_is_refused_by_name(version: str) -> None:
    with pytest.raises(binaries.BuildError, match=version):
        binaries.ensure(version)


def test_close_leaves_nothing_behind(tmp_path: Path) -> None:
    with Lab() as lab:
        host = lab.host("host-1", disk_gib=1)
        host.run(f"mkfs.xfs -q {host.device} && mount {host.device} /mnt")
        host.pause()
        lab.mirror(tmp_path)
        assert remains(lab.name)
    assert remains(lab.name) == []
    lab.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_nothing_is_left_of_a_lab_whose_process_was_ended(number: signal.Signals) -> None:
    """SIGTERM and Ctrl-C clean up at once; after SIGKILL the next lab does."""
    program = (
        "import json, signal, time\n"
        "from tests.lab.hosts import Lab\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it\n"
        "with Lab() as lab:\n"
        "    host = lab.host('host-1', disk_gib=1)\n"
        "    print(json.dumps([lab.name, host.pid]), flush=True)\n"
        "    time.sleep(300)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout
        name, nspawn = json.loads(owner.stdout.readline())
        owner.send_signal(number)
        owner.wait(30)
    if number is signal.SIGKILL:
        assert Path(f"/proc/{nspawn}").exists()
        hosts.remove_leftovers()
    assert remains(name) == []
