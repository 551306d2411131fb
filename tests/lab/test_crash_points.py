"""Every step of every change is killed once, and `up` is run again: on the operator's side, and on the hosts.

One cluster goes through all changes of its life, under continuous writes. A run is killed at the first step that was
not killed before, and then run again, until one comes to its end. After each change there is one cluster, the same as
before, all members are healthy, nothing was lost, and another `up` has nothing to do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from tests.lab.changes import assert_converged, configure
from tests.lab.clusters import Cluster
from tests.lab.hosts import Host, Lab
from tests.lab.operator import Operator
from tests.lab.stack import Stack, host_config
from tests.lab.writes import Access, Writes, writing

MIRROR_VERSIONS = ["3.5.35", "3.6.16", "3.7.3"]
MOST_RUNS = 60
STEP = re.compile(r"(?:^|\s)(host-\d+: (?:snapshot checked|archived the data|[^\n]+))")
"""What a run says of a step, without what is different each time."""
SECOND_ADDRESS = "10.77.0.72"

Kill = Callable[[Mapping[str, Host], Operator, str], None]


def kill_the_operator(_: Mapping[str, Host], operator: Operator, __: str) -> None:
    """The run, its ssh clients and all: scripts on hosts lose their connection."""
    operator.kill()


def kill_the_step(hosts: Mapping[str, Host], _: Operator, step: str) -> None:
    """The script on the host that said so; the run then fails, or was faster and goes on to the next step."""
    hosts[step.partition(":")[0]].run("pkill -9 -f '^bash -s -- '", check=False)


@dataclass
class Scene:
    """A cluster in the middle of its life."""

    cluster: Cluster
    spare: list[Host]
    kill: Kill

    @property
    def hosts(self) -> Mapping[str, Host]:
        return {host.name: host for host in [*self.cluster.hosts, *self.spare]}

    def blocks(self, *names: str) -> dict[str, Any]:
        """Config of these hosts, as the stack has it, or as a host that is not listed would have it."""
        listed = self.cluster.stack.config["hosts"]
        new = host_config([self.hosts[name] for name in names], "")["hosts"]
        return {name: listed.get(name, new[name]) for name in names}

    def kill_every_step(self) -> set[str]:
        """Runs `up` until it comes to its end, killing each step once. Returns what was killed."""
        done: set[str] = set()
        for _ in range(MOST_RUNS):
            operator = Operator(self.cluster.stack)
            killed = False
            while (step := operator.first_new(STEP, done)) is not None:
                done.add(step)
                self.kill(self.hosts, operator, step)
                killed = True
            run = operator.wait()
            if run.returncode == 0:
                return done
            assert killed, run.output
        raise AssertionError(f"not at its end after {MOST_RUNS} runs: {sorted(done)}")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(kill_the_operator, id="kill_the_operator"),
        pytest.param(kill_the_step, id="kill_the_step", marks=pytest.mark.exhaustive),
    ],
)
def scene(lab: Lab, mirror_url: str, tmp_path_factory: pytest.TempPathFactory, request: Any) -> Iterator[Scene]:
    """Three members in plaintext on the oldest version here, and two hosts besides."""
    hosts = lab.hosts(5)
    config = host_config(hosts[:3], mirror_url, version="3.5.35", tls=False, allowUndersized=True)
    cluster = Cluster(lab, hosts[:3], Stack(lab, tmp_path_factory.mktemp("crashes"), config))
    cluster.up()
    yield Scene(cluster, hosts[3:], request.param)
    for host in hosts:
        host.remove()


def _settings(scene: Scene) -> None:
    configure(scene.cluster, etcd={"max-txn-ops": 300})


def _to_3_6(scene: Scene) -> None:
    configure(scene.cluster, version="3.6.16")


def _to_3_7(scene: Scene) -> None:
    configure(scene.cluster, version="3.7.3")


def _to_tls(scene: Scene) -> None:
    configure(scene.cluster, tls=True)


def _new_ca(scene: Scene) -> None:
    configure(scene.cluster, caRotation=1, caOverlapHours=0)


def _five_members(scene: Scene) -> None:
    configure(scene.cluster, hosts=scene.blocks("host-1", "host-2", "host-3", "host-4", "host-5"))


def _other_three_members(scene: Scene) -> None:
    configure(scene.cluster, hosts=scene.blocks("host-2", "host-3", "host-5"))


def _lost_data(scene: Scene) -> None:
    scene.hosts["host-2"].run("systemctl stop etcd-cluster && rm -rf /data/etcd/data")


def _by_hand(scene: Scene) -> None:
    scene.hosts["host-3"].run("echo '# by hand' >> /etc/etcd/etcd.yaml; chmod 644 /etc/etcd/pki/server.key")
    scene.hosts["host-5"].run("systemctl stop etcd-cluster")


def _another_address(scene: Scene) -> None:
    host = scene.hosts["host-2"]
    host.run(f"ip address add {SECOND_ADDRESS}/24 dev host0")
    blocks = scene.blocks("host-2", "host-3", "host-5")
    blocks["host-2"] = {**blocks["host-2"], "address": SECOND_ADDRESS, "sshAddress": host.address}
    configure(scene.cluster, hosts=blocks)


@dataclass(frozen=True)
class Row:
    """A change, and at least how many steps of it there are to kill."""

    prepare: Callable[[Scene], None]
    steps: int


CHANGES = {
    "settings": Row(_settings, 3),
    "the next minor": Row(_to_3_6, 7),
    "3 to 5 members": Row(_five_members, 6),
    "5 to 3 members": Row(_other_three_members, 2),
    "data lost": Row(_lost_data, 4),
    "plaintext to TLS": Row(_to_tls, 12),
    "another CA": Row(_new_ca, 6),
    "changed by hand": Row(_by_hand, 2),
    "another address": Row(_another_address, 2),
    "the minor after": Row(_to_3_7, 7),
}


@pytest.mark.parametrize("row", CHANGES.values(), ids=list(CHANGES))
def test_killed_at_every_step(scene: Scene, row: Row) -> None:
    """Rows build on one another."""
    cluster = scene.cluster
    identity = cluster.cluster_ids()
    row.prepare(scene)
    with writing(cluster.lab, _any_way_in(scene), give_up_seconds=120) as writes:
        killed = scene.kill_every_step()
        _follow(scene, writes)
    writes.assert_nothing_lost()
    assert cluster.healthy()
    assert cluster.cluster_ids() == identity
    assert len(killed) >= row.steps, killed
    assert_converged(cluster)


def _any_way_in(scene: Scene) -> Access:
    """Clients that know every host's address, in both schemes, and have the certificate that was exported last."""
    names = [*scene.hosts.values()]
    addresses = [host.address for host in names] + [SECOND_ADDRESS]
    known = Access.of(scene.cluster.outputs)
    schemes = ("https", "http") if known.key else ("http",)
    return Access(
        tuple(f"{scheme}://{address}:2379" for scheme in schemes for address in addresses),
        known.ca,
        known.certificate,
        known.key,
    )


def _follow(scene: Scene, writes: Writes) -> None:
    """As clients do after a change of the stack: they take up what it exports now."""
    scene.cluster.outputs = {}
    scene.cluster.up()
    listed = set(scene.cluster.stack.config["hosts"])
    everyone = scene.hosts
    scene.cluster.hosts[:] = [everyone[name] for name in sorted(listed)]
    scene.spare[:] = [host for name, host in everyone.items() if name not in listed]
    writes.use(Access.of(scene.cluster.outputs))
