"""What goes wrong during a roll. The run repairs it, or stops there and names the cause; the next `up` finishes.

Whatever it is: in the end there is one cluster, the same as before, all members are healthy, and nothing was lost.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count

import pytest

from tests.lab import faults
from tests.lab.changes import changing, configure, started, steps
from tests.lab.clusters import Cluster
from tests.lab.faults import followers, leader
from tests.lab.hosts import Host, Lab
from tests.lab.operator import Operator
from tests.lab.stack import Run, Stack, host_config

LOST_CONNECTION_SECONDS = 300
"""ssh gives a silent machine 15 seconds; the rest is the run's end, and a busy test machine."""
REFUSAL_SECONDS = 300

_settings = count(1000)


@pytest.fixture(scope="module")
def three(lab: Lab, mirror_url: str, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    return formed(lab, mirror_url, tmp_path_factory, 3)


@pytest.fixture(scope="module")
def five(lab: Lab, mirror_url: str, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    return formed(lab, mirror_url, tmp_path_factory, 5)


def formed(lab: Lab, mirror_url: str, folders: pytest.TempPathFactory, members: int) -> Cluster:
    hosts = lab.hosts(members, disk_gib=1)
    config = host_config(hosts, mirror_url, allowUndersized=True)
    cluster = Cluster(lab, hosts, Stack(lab, folders.mktemp("faults"), config))
    cluster.up()
    return cluster


def ask_for_a_roll(cluster: Cluster) -> None:
    """A setting that every member is restarted for."""
    configure(cluster, etcd={"max-txn-ops": next(_settings)})


def restarts(run: Run) -> list[str]:
    """Members in the order in which the run restarted them."""
    return [step.partition(":")[0] for step in steps(run) if ": restarting" in step]


@contextmanager
def down(host: Host) -> Iterator[None]:
    """The whole machine is off."""
    host.stop()
    try:
        yield
    finally:
        host.start()


# --- before the roll begins ---


@pytest.mark.exhaustive
def test_a_follower_whose_machine_is_down_stops_the_roll_before_anybody_restarts(three: Cluster) -> None:
    host = followers(three)[-1]
    ask_for_a_roll(three)
    with changing(three):
        before = started(three)
        with down(host):
            run = three.stack.up(check=False)
            others = Cluster(three.lab, [each for each in three.hosts if each is not host], three.stack)
            after = started(others)
        assert run.returncode != 0
        assert run.seconds < REFUSAL_SECONDS
        assert re.search(rf"{host.name}: cannot reach {host.address}:22 .*Nothing more was changed", run.output)
        assert after == {name: before[name] for name in after}
        three.up()


def test_a_follower_that_hangs_has_its_turn_first(three: Cluster) -> None:
    host = followers(three)[-1]
    ask_for_a_roll(three)
    with changing(three), faults.frozen(host):
        run = three.up()
    assert restarts(run)[0] == host.name


@pytest.mark.exhaustive
def test_a_clock_that_is_off_stops_the_roll_before_anybody_restarts(three: Cluster) -> None:
    host = followers(three)[0]
    ask_for_a_roll(three)
    with changing(three):
        before = started(three)
        with faults.clock_ahead(host, 7):
            run = three.stack.up(check=False)
        assert run.returncode != 0
        assert re.search(rf"clock of {host.name} is 4\d\d s ahead .*chronyc makestep", run.output), run.output
        assert started(three) == before
        three.up()


def test_a_full_data_disk_stops_the_roll_with_its_name(three: Cluster) -> None:
    """Under writes, etcd soon ends there by itself; it is started, or restarted, once there is room again."""
    host = followers(three)[-1]
    ask_for_a_roll(three)
    with changing(three):
        with faults.full_disk(host):
            run = three.stack.up(check=False)
        assert run.returncode != 0
        assert re.search(rf"{host.name}: /data/etcd: 0 MiB free, but \d+ MiB are needed", run.output), run.output
        three.up()


# --- in its middle ---


def test_settings_that_only_a_start_refuses_are_put_back_on_the_one_member_that_tried_them(three: Cluster) -> None:
    """Nobody knows from here whether a file on the hosts is a key."""
    earlier = three.stack.config.get("etcd")
    restarted: list[str] = []
    token = "jwt,sign-method=RS256,pub-key=/etc/etcd/none.pem,priv-key=/etc/etcd/none.pem"
    configure(three, etcd={"auth-token": token})
    with changing(three, restarts=restarted):
        before = started(three)
        run = three.stack.up(check=False)
        assert run.returncode != 0
        restarted += restarts(run)
        (name,) = restarted
        assert f"{name}: its earlier settings are back, and it runs with them" in run.output, run.output
        assert "none.pem" in run.output, "etcd's own words"
        assert three.healthy()
        after = started(three)
        assert {each for each in after if after[each] != before[each]} == {name}
        configure(three, etcd=earlier)
        three.up()
        assert started(three) == after, "nobody has the bad settings"


def test_the_leader_dies_in_the_middle_of_another_members_turn(five: Cluster) -> None:
    ask_for_a_roll(five)
    with changing(five):
        led = leader(five)
        operator = Operator(five.stack)
        operator.wait_for(": restarting")
        faults.kill_etcd(led)
        operator.wait()
        five.up()


@pytest.mark.exhaustive
def test_of_three_members_the_leader_dies_in_the_middle_of_another_ones_turn(three: Cluster) -> None:
    ask_for_a_roll(three)
    with changing(three):
        led = leader(three)
        operator = Operator(three.stack)
        operator.wait_for(": restarting")
        faults.kill_etcd(led)
        operator.wait()
        three.up()


def test_a_member_that_is_cut_off_from_the_others_is_waited_for(three: Cluster) -> None:
    """The partition comes in its turn, and passes."""
    ask_for_a_roll(three)
    with changing(three):
        operator = Operator(three.stack)
        operator.wait_for(": restarting")
        host = next(host for host in three.hosts if f"{host.name}: restarting" in operator.output)
        others = [each for each in three.hosts if each is not host]
        with faults.partitioned(host, *others):
            time.sleep(5)  # the roll is to see it
            assert len(turns_of(operator)) == 1, operator.output
        assert operator.wait().returncode == 0, operator.output


def turns_of(operator: Operator) -> list[str]:
    return restarts(Run(0, operator.output, 0.0))


@pytest.mark.exhaustive
def test_sshd_is_restarted_in_the_middle_of_a_turn(three: Cluster) -> None:
    ask_for_a_roll(three)
    with changing(three):
        operator = Operator(three.stack)
        operator.wait_for(": restarting")
        host = next(host for host in three.hosts if f"{host.name}: restarting" in operator.output)
        faults.restart_sshd(host)
        run = operator.wait(LOST_CONNECTION_SECONDS)
        assert run.returncode != 0
        assert f"the connection to {host.address}:22 was lost" in run.output
        assert len(restarts(run)) == 1
        three.up()


@contextmanager
def hangs(host: Host) -> Iterator[None]:
    host.pause()
    try:
        yield
    finally:
        host.resume()


@contextmanager
def unreachable(host: Host) -> Iterator[None]:
    host.drop_traffic()
    try:
        yield
    finally:
        host.restore_traffic()


@pytest.mark.parametrize(
    "fault",
    [pytest.param(hangs, id="hangs", marks=pytest.mark.exhaustive), pytest.param(unreachable, id="cannot be reached")],
)
def test_a_machine_hangs_or_cannot_be_reached_in_the_middle_of_its_turn(
    three: Cluster, fault: Callable[[Host], AbstractContextManager[None]]
) -> None:
    ask_for_a_roll(three)
    with changing(three):
        operator = Operator(three.stack)
        operator.wait_for(": restarting")
        host = next(host for host in three.hosts if f"{host.name}: restarting" in operator.output)
        with fault(host):
            run = operator.wait(LOST_CONNECTION_SECONDS)
        assert run.returncode != 0
        assert f"the connection to {host.address}:22 was lost" in run.output
        assert restarts(run) == [host.name]
        three.up()
