"""The real program on real hosts by the real Pulumi CLI: up, again, killed, preview, destroy; and no secret shown.

How the embedded engine compares on small programs is in tests/embedded/test_against_engine.py.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.lab.hosts import Host, Lab
from tests.lab.observed import (
    assert_converges,
    assert_nothing_changed,
    assert_one_cluster,
    file_systems,
    look,
    on_all,
    write_key,
)
from tests.lab.operator import Operator
from tests.lab.stack import Engine, Run, Stack, host_config

MEMBERS = 3


@pytest.fixture
def hosts(lab: Lab) -> Iterator[list[Host]]:
    booted = lab.hosts(MEMBERS)
    yield booted
    on_all(booted, lambda host: host.remove())


@pytest.fixture
def stack(lab: Lab, mirror_url: str, hosts: list[Host], tmp_path: Path) -> Stack:
    return Stack(lab, tmp_path, host_config(hosts, mirror_url, allowUndersized=True), Engine.PULUMI)


def test_from_first_up_to_destroy(stack: Stack, hosts: list[Host]) -> None:
    runs = [stack.preview(), stack.up()]
    assert "20 created" in runs[-1].output
    members = assert_one_cluster(stack, hosts)
    runs += [stack.preview(), stack.up()]
    assert_nothing_changed(runs[-2])
    assert_nothing_changed(runs[-1])
    assert on_all(hosts, look) == members, "a member was restarted for nothing"
    assert_no_secret(stack, hosts, runs)

    write_key(hosts[0])
    runs.append(stack.destroy())
    assert "20 deleted" in runs[-1].output
    for host in hosts:
        host.run("! systemctl is-active etcd-cluster && [ -d /data/etcd/data/member ]")
    stack.up()
    again = assert_one_cluster(stack, hosts)
    assert [(each.cluster, each.file_system, each.has_key) for each in again] == [
        (each.cluster, each.file_system, True) for each in members
    ], "the data was not taken over"


def assert_no_secret(stack: Stack, hosts: Sequence[Host], runs: Sequence[Run]) -> None:
    """Nothing of any private key, as it is or in base64 as scripts carry it, in what was said or is stored."""
    keys = [stack.outputs()["clientKey"], hosts[0].private_key_file.read_text()]
    keys += [host.read(f"/etc/etcd/pki/{side}.key") for host in hosts for side in ("server", "peer")]
    bodies = {line for key in keys for line in key.splitlines() if len(line) > 30 and "-----" not in line}
    bodies |= {base64.b64encode(key.encode()).decode()[60:120] for key in keys}
    assert len(bodies) > MEMBERS
    places = {f"output of run {number}": run.output for number, run in enumerate(runs, 1)}
    places |= {str(file): file.read_text(errors="replace") for file in stack.state.rglob("*") if file.is_file()}
    places |= {f"the journal of {host.name}": host.run("journalctl --no-pager").stdout for host in hosts}
    assert not [place for place, text in places.items() if any(body in text for body in bodies)]


KILLS = (
    ("checking", r"-check created", 1),
    ("downloading", r": downloading", 2),
    ("formatting", r": formatting", 1),
    ("starting", r": starting with etcd", 1),
    ("rolled out", r"-rollout created", 1),
)


@pytest.mark.parametrize(("pattern", "count"), [pytest.param(*kill[1:], id=kill[0]) for kill in KILLS])
def test_killed_and_run_again(stack: Stack, hosts: list[Host], pattern: str, count: int) -> None:
    operator = Operator(stack)
    operator.wait_for(pattern, count)
    operator.kill()
    before = file_systems(hosts)
    locked = stack.up(check=False)
    assert locked.returncode != 0
    assert "pulumi cancel" in locked.output
    stack.unlock()
    assert_converges(stack, hosts, before)
    # What is left of the kill is a warning, which goes when the user has said that those creations are dealt with.
    if re.search("pending operations", stack.up().output):
        stack.clear_pending()
    quiet = stack.up()
    assert "pending operations" not in quiet.output
    assert_nothing_changed(quiet)
