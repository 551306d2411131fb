"""An `up` ends well only where the cluster serves: behind a firewall that lets only clients to 2379, with a quota that
the database passes, and with etcd's own authentication on. Three members, formed behind that firewall."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.lab import faults
from tests.lab.changes import assert_converged, change, changing, configure, started
from tests.lab.clusters import Cluster, changes_nothing
from tests.lab.faults import followers, leader
from tests.lab.hosts import Host, Lab
from tests.lab.stack import Run, Stack, host_config
from tests.lab.writes import Access


@pytest.fixture(scope="module")
def hosts(lab: Lab) -> list[Host]:
    return lab.hosts(4, disk_gib=1)


@pytest.fixture(scope="module")
def cluster(
    lab: Lab, hosts: list[Host], mirror_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    config = host_config(hosts[:3], mirror_url, allowUndersized=True)
    cluster = Cluster(lab, hosts[:3], Stack(lab, tmp_path_factory.mktemp("serving"), config))
    with faults.clients_only(*hosts):
        cluster.up()
        yield cluster


# --- 2379 for clients only ---


def test_members_never_ask_one_another_at_the_client_port(cluster: Cluster, hosts: list[Host]) -> None:
    reach = "timeout 1 bash -c ': > /dev/tcp/{}/2379'"
    assert hosts[0].run(reach.format(hosts[1].address), check=False).returncode
    assert_converged(cluster)
    change(cluster, etcd={"max-txn-ops": 200})


def test_a_host_is_swapped_for_another_behind_that_firewall(cluster: Cluster, hosts: list[Host]) -> None:
    old = followers(cluster)[-1]
    together = [host for host in hosts if host is not old]
    with changing(cluster, restarts=()):
        configure(cluster, hosts=host_config(together, "")["hosts"])
        cluster.hosts = together
        cluster.up()


# --- the size ---


def test_a_size_that_these_hosts_are_too_small_for_is_refused_before_anything_is_touched(cluster: Cluster) -> None:
    """docs/change-the-size.md: each of them is measured first."""
    configure(cluster, size="xlarge", allowUndersized=False)
    refused(cluster, "but size xlarge needs")
    configure(cluster, size="small", allowUndersized=True)
    assert_converged(cluster)


# --- the quota and the database ---

MIB = 1024**2
FILL = """
. /etc/profile.d/etcd.sh
head -c 1000000 /dev/urandom | base64 -w 0 | head -c 1000000 > /tmp/value
for number in $(seq {count}); do etcdctl put {key}/$number < /tmp/value > /dev/null 2>&1 || break; done
"""


def quota(cluster: Cluster, mib: int) -> None:
    configure(cluster, etcd={"quota-backend-bytes": mib * MIB})


def refused(cluster: Cluster, *texts: str) -> Run:
    """An `up` that fails, says why in one line, and restarts nobody."""
    before = started(cluster)
    run = cluster.stack.up(check=False)
    assert run.returncode != 0, run.output
    assert re.search(".*".join(texts), run.output), run.output
    assert started(cluster) == before
    return run


def test_a_quota_that_the_database_has_passed_is_refused_before_anybody_restarts(cluster: Cluster) -> None:
    cluster.hosts[0].run(FILL.format(count=30, key="filling"), timeout=120)
    with changing(cluster, restarts=()):
        quota(cluster, 16)
        refused(
            cluster,
            "quota-backend-bytes: 16777216",
            "the database of host-",
            "quota of at least",
            "Nothing more was changed",
        )
        configure(cluster, etcd={"max-txn-ops": 200})


@pytest.mark.exhaustive
def test_keys_that_fill_the_quota_fail_every_up_until_a_larger_quota_ends_the_alarm(cluster: Cluster) -> None:
    quota(cluster, 64)
    cluster.up()
    for number in range(3):  # what was free pages is room again, for some more keys
        cluster.hosts[0].run(FILL.format(count=100, key=f"full-{number}"), timeout=120)
        assert "NOSPACE" in cluster.etcdctl("alarm", "list")
        if cluster.stack.up(check=False).returncode:
            break
    refused(cluster, "alarm NOSPACE stands", "of a quota of 64 MiB", "quota-backend-bytes to 134217728")
    configure(cluster, etcd={"quota-backend-bytes": 64 * MIB, "max-txn-ops": 300})
    run = cluster.stack.up(check=False)
    assert run.returncode != 0, run.output
    assert "alarm NOSPACE stands" in run.output
    quota(cluster, 256)
    run = cluster.up()
    assert "ending the alarm NOSPACE" in run.output
    assert cluster.etcdctl("alarm", "list") == ""
    cluster.etcdctl("put", "again", "writable")
    assert cluster.etcdctl("lease", "list").split() == ["found", "0", "leases"], "the probe leaves nothing behind"
    assert_converged(cluster)


# --- etcd's own authentication ---


def test_authentication_that_a_user_turned_on_is_found_before_the_first_step(cluster: Cluster) -> None:
    for line in ("user add root --no-password", "user grant-role root root", "user add client --no-password"):
        cluster.etcdctl(*line.split(), check=False)
    cluster.etcdctl("user", "grant-role", "client", "root")
    cluster.etcdctl("auth", "enable")
    run = cluster.stack.up()
    assert changes_nothing(run), run.output
    assert "warning: etcd's authentication is on, and" in run.output
    settings = cluster.stack.config["etcd"]
    configure(cluster, etcd={**settings, "max-txn-ops": 400})
    names = [host.name for host in cluster.hosts]
    with changing(cluster, restarts=()):
        refused(cluster, "authentication is on", f"etcdctl user add {names[0]} --no-password", f"{names[2]} root")
        configure(cluster, etcd=settings)


@pytest.mark.exhaustive
def test_with_a_root_user_for_each_member_everything_works(cluster: Cluster, hosts: list[Host]) -> None:
    """A member that is to join needs one as well, and is named before it does."""
    for host in cluster.hosts:
        cluster.etcdctl("user", "add", host.name, "--no-password")
        cluster.etcdctl("user", "grant-role", host.name, "root")
    change(cluster, etcd={"quota-backend-bytes": 256 * MIB, "max-txn-ops": 500})
    old = leader(cluster)
    coming = next(host for host in hosts if host not in cluster.hosts)
    together = [coming if host is old else host for host in cluster.hosts]
    with changing(cluster, restarts=()) as judged:
        configure(cluster, hosts=host_config(together, "")["hosts"])
        refused(cluster, "authentication is on", f"etcdctl user add {coming.name} --no-password")
        cluster.etcdctl("user", "add", coming.name, "--no-password")
        cluster.etcdctl("user", "grant-role", coming.name, "root")
        cluster.hosts = together
        cluster.up()
        judged.writes.use(Access.of(cluster.outputs))


def test_who_names_users_gets_out_of_it_by_the_certificate_of_root(cluster: Cluster) -> None:
    """Somebody's user whose name takes two lines is told, and left alone."""
    for name in {*cluster.etcdctl("user", "list").split()} - {"root", "client"}:
        cluster.etcdctl("user", "delete", name)
    cluster.etcdctl("user", "add", "theirs\nroot", "--no-password")
    cluster.etcdctl("role", "add", "app\n")
    cluster.etcdctl("user", "grant-role", "theirs\nroot", "app\n")
    roles = {"app": [{"prefix": "/app/", "access": "read"}]}
    with changing(cluster, restarts=()):
        configure(cluster, users={"app": {"roles": ["app"]}}, roles=roles)
        run = cluster.up()
        cluster.etcdctl("user", "delete", "theirs\nroot")
        cluster.etcdctl("role", "delete", "app\n")
    assert "reading etcd's users and roles as the user root" in run.output
    assert r'etcd has users that this stack does not name: "theirs\nroot"' in run.output
    configure(cluster, users=None, roles=None)
    cluster.up()
    assert cluster.etcdctl("user", "list").split() == ["root"]
    assert cluster.etcdctl("role", "list").split() == ["root"]
