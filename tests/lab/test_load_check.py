"""A new cluster is loaded as its size promises, by etcd's own `benchmark` on a real host, before clients get it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from etcd_cluster.install.load_generator import benchmark_for
from etcd_cluster.install.sources import this_architecture
from tests.lab.clusters import Cluster, changes_nothing, eventually, traces, watched_processes
from tests.lab.faults import clock_ahead, frozen
from tests.lab.hosts import Host, Lab, LabError
from tests.lab.stack import STACK, UP_TIMEOUT_SECONDS, Engine, Stack, host_config
from tests.lab.writes import Access, writing

PROGRAM = Path(__file__).with_name("patient_program.py")
MIRROR_VERSIONS = ["3.4.9", "3.6.16"]
SLOW = 15
"""Writes a second that pass to a throttled disk: each of etcd's syncs is at least one."""


@pytest.fixture(scope="module")
def cluster(lab: Lab, mirror_url: str, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    benchmark_for(this_architecture())  # into the cache: where the program runs, there is no way out
    hosts = lab.hosts(3, disk_gib=2)
    given = {"loadCheck": "require", "etcd": {"metrics": "extensive"}}
    config = host_config(hosts, mirror_url, allowUndersized=True, **given)
    return Cluster(lab, hosts, Stack(lab, tmp_path_factory.mktemp("load"), config, program=PROGRAM))


def page(cluster: Cluster) -> Path:
    (file,) = cluster.stack.state.glob("*/load-checks/*.html")
    return file


def result(cluster: Cluster) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(page(cluster).with_suffix(".json").read_text())
    return found


def keys(cluster: Cluster) -> str:
    """All keys, asked for at a member with its own certificate: nothing is exported yet."""
    command = ". /etc/profile.d/etcd.sh && etcdctl get '' --from-key --keys-only | LC_ALL=C tr -cd '\\12\\40-\\176'"
    return cluster.hosts[0].run(f"bash -c {json.dumps(command)}").stdout


def generators(hosts: Sequence[Host]) -> list[Host]:
    """Those on which `benchmark` runs."""
    return [host for host in hosts if host.run("pgrep -x benchmark", check=False).stdout]


def is_clean(cluster: Cluster, held: str = "") -> bool:
    """Whether no load check has left anything, where those are the keys of others."""
    left = "ls -A /var/lib/etcd-cluster/load-check 2>/dev/null"
    return keys(cluster).split() == held.split() and not (
        generators(cluster.hosts) or any(cluster.each_host(f"{left} || true").values())
    )


def healthy_members(cluster: Cluster) -> int:
    """As one member tells: nothing is exported yet."""
    health = ". /etc/profile.d/etcd.sh && etcdctl endpoint health --cluster"
    return cluster.hosts[1].run(f"bash -c '{health}' 2>&1", check=False).stdout.count("is healthy")


def started(cluster: Cluster) -> subprocess.Popen[str]:
    return cluster.stack.popen(cluster.stack.up_command())


def await_load(cluster: Cluster, run: subprocess.Popen[str], by: Sequence[Host] = ()) -> None:
    """Waits until `benchmark` runs on one of these hosts, default the members'. Shows why a run ended before."""
    hosts = by or cluster.hosts
    eventually(lambda: run.poll() is not None or generators(hosts), "the cluster is loaded")
    if run.poll() is not None:
        pytest.fail(f"it ended before it loaded: {run.communicate()}")


def kill(run: subprocess.Popen[str]) -> None:
    """SIGKILL for everything that the run consists of on this machine."""
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()


def test_a_slow_disk_ends_the_up_before_anything_is_exported(cluster: Cluster) -> None:
    host = cluster.hosts[1]
    run = started(cluster)
    await_load(cluster, run)
    try:
        host.throttle_disk(SLOW)
    except LabError as error:
        kill(run)
        pytest.skip(str(error))
    output, _ = run.communicate()
    host.throttle_disk(0)
    assert run.returncode != 0, output
    assert re.search(rf"(log's syncs|database's commits) of {host.name}: within .*Expected: ", output), output
    assert "give the members a faster disk" in output.lower()
    assert "endpoints" not in cluster.stack.outputs()
    assert result(cluster)["passed"] is False
    assert is_clean(cluster)
    assert healthy_members(cluster) == len(cluster.hosts)


@pytest.mark.parametrize(
    "when",
    [
        "the run, while it loads",
        pytest.param("the run, before it loads", marks=pytest.mark.exhaustive),
        pytest.param("the step, while it loads", marks=pytest.mark.exhaustive),
        pytest.param("the step, while it cleans up", marks=pytest.mark.exhaustive),
        pytest.param("the generators, while they load", marks=pytest.mark.exhaustive),
    ],
)
def test_a_killed_one_leaves_nothing(when: str, cluster: Cluster) -> None:
    run = started(cluster)
    eventually(
        lambda: run.poll() is not None or "load-check" in keys(cluster) or generators(cluster.hosts), "it begins"
    )
    who, _, what = when.partition(", ")
    if what != "before it loads":
        await_load(cluster, run)
    if who == "the run":
        kill(run)
        eventually(lambda: is_clean(cluster), "the step cleans up by itself")
        return
    # The brackets keep the pattern from the shell that has it.
    step, benchmark = "-f '[b]ash -s -- load_check'", "-x benchmark"
    with ExitStack() as faults:
        if what == "while it cleans up":
            (at_work,) = generators(cluster.hosts)
            for host in cluster.hosts:
                if host is not at_work:
                    faults.enter_context(frozen(host))
            at_work.run(f"pkill -KILL {benchmark}")  # without a quorum the step has to clean up until it is killed
            eventually(lambda: not generators(cluster.hosts), "the load ends")
        for host in cluster.hosts:
            host.run(f"pkill -KILL {benchmark if who == 'the generators' else step}", check=False)
        output, _ = run.communicate()
    assert run.returncode != 0, output
    eventually(lambda: healthy_members(cluster) == len(cluster.hosts), "every member healthy")
    eventually(lambda: not generators(cluster.hosts), "what the step had started ends")
    again = started(cluster)
    await_load(cluster, again)
    kill(again)
    eventually(lambda: is_clean(cluster), "the step cleans up by itself")


def test_the_next_up_judges_anew_and_a_verdict_is_kept(cluster: Cluster) -> None:
    """Whether it is passed is for this machine to say: in the lab three members share it with all other tests."""
    page(cluster).unlink()
    run = cluster.stack.up(check=False)
    assert (run.returncode == 0) == result(cluster)["passed"], run.output
    cluster.stack.config["loadCheck"] = "report"
    cluster.up()
    assert cluster.healthy()
    found = result(cluster)
    assert found["writes"]["answered"]
    assert found["reads"]["answered"]
    for kind in ("writes", "reads"):
        over_time = found[kind]["served"]
        assert over_time["50"]
        assert all(one <= other for (_, one), (_, other) in zip(over_time["50"], over_time["99"], strict=True))
    assert found["members"].keys() == {host.name for host in cluster.hosts}
    assert {each["version"] for each in found["members"].values()} == {"3.6.16"}
    assert all(each["fsync99"] and each["commit99"] and each["cpu"] for each in found["members"].values())
    assert page(cluster).read_text().count("<figure") == 10
    assert is_clean(cluster)
    before = page(cluster).stat().st_mtime_ns
    assert changes_nothing(cluster.up())
    assert page(cluster).stat().st_mtime_ns == before


def test_a_cluster_with_keys_is_loaded_by_the_command_alone(cluster: Cluster) -> None:
    cluster.etcdctl("put", "kept", "value")
    assert load_check(cluster).returncode == 2, "nobody has agreed"
    with writing(cluster.lab, Access.of(cluster.outputs)) as writes:
        done = load_check(cluster, "--yes", "--seconds", "10", "--check-perf")
    writes.assert_nothing_lost(expect_downtime=False)
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout)
    assert 0 < found["writes"]["answered"] <= 10 * 100
    assert found["checkPerf"]["load"] == "s"
    assert found["checkPerf"]["lines"][-1] == ("PASS" if found["checkPerf"]["passed"] else "FAIL")
    assert not cluster.etcdctl("get", "/etcd-cluster/", "--prefix", "--keys-only")
    assert cluster.etcdctl("get", "kept", "--print-value-only") == "value\n"
    assert not any("\0" in key for key in cluster.etcdctl("get", "", "--from-key", "--keys-only").splitlines())


# --- a machine that runs no member ---

KEY_ON_CLIENT = "/run/etcd-cluster-client/load-check/client.key"


@pytest.fixture(scope="module")
def client(cluster: Cluster) -> Host:
    return cluster.lab.host("client", disk_gib=None)


def from_client(client: Host, *options: str) -> list[str]:
    return ["--from", client.address, "--host-key", client.host_key, "--yes", "--seconds", "10", *options]


def client_is_clean(client: Host) -> bool:
    left = "find /run/etcd-cluster-client/load-check /run/*/client.key /dev/shm/* 2>/dev/null; pgrep -x benchmark"
    return not client.run(left, check=False).stdout


def test_a_machine_that_runs_no_member_loads_the_cluster_as_a_client(cluster: Cluster, client: Host) -> None:
    cluster.etcdctl("put", "kept", "value")
    with watched_processes() as processes:
        run = started_check(cluster, *from_client(client, "--check-perf"))
        await_load(cluster, run, [client])
        assert not generators(cluster.hosts)
        key = client.read(KEY_ON_CLIENT)
        assert client.run(f"stat -c '%a %U' {KEY_ON_CLIENT}; stat -f -c %T {KEY_ON_CLIENT}").stdout == (
            "400 root\ntmpfs\n"
        )
        output, errors = run.communicate()
    assert run.returncode in (0, 1), errors
    found = json.loads(output)
    assert found["generatedOn"] == f"client {client.address}"
    assert found["client"]["processors"]
    assert found["writes"]["answered"]
    assert found["checkPerf"]["lines"]
    assert f"client {client.address}" in Path(found["page"]).read_text()
    assert not cluster.etcdctl("get", "/etcd-cluster/", "--prefix", "--keys-only")
    assert cluster.etcdctl("get", "kept", "--print-value-only") == "value\n"
    assert client_is_clean(client)
    for trace in traces(key):
        assert not [seen for seen in processes if trace.encode() in seen]
        assert trace not in output + errors + Path(found["page"]).read_text()
        assert not client.run(f"grep -rlF -- {trace} /etc /opt /root /home /tmp /var", check=False).stdout


@pytest.mark.parametrize(
    "who",
    [
        "the command",
        pytest.param("the step", marks=pytest.mark.exhaustive),
        pytest.param("the machine", marks=pytest.mark.exhaustive),
    ],
)
def test_whatever_is_lost_a_client_leaves_nothing(who: str, cluster: Cluster, client: Host) -> None:
    held = keys(cluster)
    run = started_check(cluster, *from_client(client))
    await_load(cluster, run, [client])
    if who == "the command":
        kill(run)
        eventually(lambda: client_is_clean(client) and is_clean(cluster, held), "the step cleans up by itself")
        return
    if who == "the step":
        client.run("pkill -KILL -f '[b]ash -s -- load_check'", check=False)
    else:
        client.kill()
    _, errors = run.communicate()
    assert run.returncode == 2, errors
    if who == "the machine":
        client.start()
        assert load_check(cluster, "--clean").returncode == 0, "once the lease of the lost one has expired"
    else:
        eventually(lambda: client_is_clean(client), "the load ends by itself, and then its key is removed")
        again = load_check(cluster, *from_client(client))
        assert again.returncode in (0, 1), again.stderr
    assert is_clean(cluster, held)
    assert client_is_clean(client)


def test_a_client_that_cannot_reach_a_member_is_told_which(cluster: Cluster, client: Host) -> None:
    held = keys(cluster)
    client.drop_traffic(cluster.hosts[2])
    try:
        done = load_check(cluster, *from_client(client))
    finally:
        client.restore_traffic()
    assert done.returncode == 2
    assert re.search(
        rf"client {client.address}: no answer from https://{cluster.hosts[2].address}:2379.*Expected: a machine that",
        done.stderr,
    )
    assert client_is_clean(client)
    assert is_clean(cluster, held)


@contextmanager
def reached_by_ipv6(client: Host) -> Iterator[str]:
    client.lab.run(["ip", "address", "replace", "fd77::1/64", "dev", "br0", "nodad"])
    client.run("sysctl -qw net.ipv6.conf.host0.disable_ipv6=0 && ip address replace fd77::12/64 dev host0 nodad")
    yield "[fd77::12]"


@contextmanager
def two_hours_off(client: Host, hours: int) -> Iterator[str]:
    with clock_ahead(client, 60 * hours):
        yield client.address


UNLIKE: dict[str, Callable[[Host], AbstractContextManager[str]]] = {
    "reached by IPv6": reached_by_ipv6,
    "clock ahead": lambda client: two_hours_off(client, 2),
    "clock behind": lambda client: two_hours_off(client, -2),
}


@pytest.mark.parametrize(
    "how", ["reached by IPv6", *(pytest.param(each, marks=pytest.mark.exhaustive) for each in list(UNLIKE)[1:])]
)
def test_a_client_that_is_unlike_members_loads_the_cluster(how: str, cluster: Cluster, client: Host) -> None:
    held = keys(cluster)
    with UNLIKE[how](client) as address:
        done = load_check(cluster, "--from", address, *from_client(client)[2:])
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout)
    assert found["generatedOn"] == f"client {address.strip('[]')}"
    assert found["writes"]["answered"]
    for each in (found["client"], *found["members"].values()):
        times = [interval["until"] for interval in each["over"]]
        assert times == sorted(times)
        assert 0 < times[-1] < 600, "by the load's own time"
    assert client_is_clean(client)
    assert is_clean(cluster, held)


@contextmanager
def full_memory(client: Host) -> Iterator[None]:
    """Not a byte is left in /run."""
    options = client.run("findmnt --noheadings --output OPTIONS /run").stdout.strip()
    used = "$(df --output=used --block-size=1K /run | tail -n 1)"
    client.run(
        f"mount -o remount,size=$(({used} + 256))K /run; dd if=/dev/zero of=/run/filling bs=4K 2>/dev/null || true"
    )
    try:
        yield
    finally:
        client.run(f"rm /run/filling; mount -o remount,{options} /run")


def test_a_client_whose_memory_is_full_gets_nothing(cluster: Cluster, client: Host) -> None:
    client.run("rm -rf /opt/etcd")
    with full_memory(client):
        done = load_check(cluster, *from_client(client))
    assert done.returncode == 2
    assert f"not loaded: client {client.address} has 0 MiB free in /run. Expected: 1 MiB, for" in done.stderr
    assert not client.run("ls -A /opt/etcd", check=False).stdout
    assert client_is_clean(client)


@pytest.mark.exhaustive
def test_a_client_whose_memory_fills_up_gives_no_verdict_of_half_a_report(cluster: Cluster, client: Host) -> None:
    held = keys(cluster)
    run = started_check(cluster, *from_client(client))
    await_load(cluster, run, [client])
    with full_memory(client):
        _, errors = run.communicate()
    assert run.returncode == 2, errors
    assert f"client {client.address}: no room in /run/etcd-cluster-client/load-check" in errors
    assert client_is_clean(client)
    assert is_clean(cluster, held)


def loaded_by_an_up(lab: Lab, mirror_url: str, tmp_path: Path, engine: Engine, **config_of_stack: str) -> None:
    """A cluster of one member, whose stack names the machine that loads it."""
    benchmark_for(this_architecture())
    (host,) = lab.hosts(1)
    client = lab.host(f"client-of-{host.name}", disk_gib=None)
    named = {"address": client.address, "hostKey": client.host_key}
    given = {"loadCheck": "report", "loadGenerator": {"client": named}, **config_of_stack}
    config = host_config([host], mirror_url, allowUndersized=True, **given)
    cluster = Cluster(lab, [host], Stack(lab, tmp_path, config, engine), engine)
    cluster.up()
    found = result(cluster)
    assert found["generatedOn"] == f"client {client.address}"
    assert found["writes"]["answered"]
    assert client_is_clean(client)
    assert is_clean(cluster)
    kept = "".join(file.read_text(errors="replace") for file in cluster.state_files())
    for key in cluster.private_keys_in_state():
        assert not [trace for trace in traces(key) if trace in kept]
    assert changes_nothing(cluster.stack.up())


@pytest.mark.parametrize("version", ["3.6.16", pytest.param("3.4.9", marks=pytest.mark.exhaustive)])
def test_an_up_loads_from_the_machine_that_the_stack_names(
    version: str, lab: Lab, mirror_url: str, tmp_path: Path
) -> None:
    loaded_by_an_up(lab, mirror_url, tmp_path, Engine.EMBEDDED, version=version)


def started_check(cluster: Cluster, *options: str) -> subprocess.Popen[str]:
    return cluster.lab.popen(
        check_command(*options),
        cwd=cluster.stack.folder,
        env=cluster.stack.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def check_command(*options: str) -> list[str]:
    return [sys.executable, "-m", "etcd_cluster.cli", "--stack", STACK, "load-check", "--output", "json", *options]


def load_check(cluster: Cluster, *options: str) -> subprocess.CompletedProcess[str]:
    return cluster.lab.run(
        check_command(*options),
        cwd=cluster.stack.folder,
        env=cluster.stack.environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=UP_TIMEOUT_SECONDS,
    )
