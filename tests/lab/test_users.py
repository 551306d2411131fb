"""Users and roles of etcd on a live cluster: whom each certificate lets do what, and that everything else goes on.

One cluster's story, under continuous writes: users, settings, members, upgrades to two minor versions, a rotation of
the CA, then users off and on again. A user reaches its own keys alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from etcd_cluster.install.load_generator import benchmark_for
from etcd_cluster.install.sources import this_architecture
from tests.lab import binaries
from tests.lab.changes import change, changing, configure, steps
from tests.lab.clusters import CLIENT_VERSION, Cluster, eventually
from tests.lab.faults import leader
from tests.lab.hosts import Lab
from tests.lab.operator import Operator
from tests.lab.stack import Stack, host_config
from tests.lab.test_load_check import from_client, load_check

MIRROR_VERSIONS = ["3.5.35", "3.6.14", "3.6.16", "3.7.3"]
USERS = {"app": {"roles": ["app"]}, "reader": {"roles": ["reader"]}}
ROLES = {
    "app": [{"prefix": "/app/", "access": "readwrite"}],
    "reader": [{"prefix": "/app/", "access": "read"}, {"key": "one", "access": "write"}],
}
DENIED = re.compile("permission denied|user name not found|user not found")


@pytest.fixture(scope="module")
def cluster(lab: Lab, mirror_url: str, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """Three members on the first of four hosts, with TLS, formed with etcd 3.5.35 and without users."""
    hosts = lab.hosts(4)
    config = host_config(hosts[:3], mirror_url, version="3.5.35", allowUndersized=True, monitoring={})
    cluster = Cluster(lab, hosts[:3], Stack(lab, tmp_path_factory.mktemp("users"), config))
    cluster.up()
    cluster.hosts = hosts
    return cluster


def as_user(cluster: Cluster, user: str, *arguments: str) -> str:
    """What etcdctl prints, errors as well, with the certificate that the stack exports for a user."""
    folder, exported = cluster.stack.folder.parent, cluster.outputs["users"][user]
    files = {"cacert": cluster.outputs["caCertificate"], "cert": exported["certificate"], "key": exported["key"]}
    flags: list[str] = []
    for name, text in files.items():
        file = folder / f"{user}.{name}"
        file.write_text(text)
        flags += [f"--{name}", str(file)]
    etcdctl = str(binaries.ensure(CLIENT_VERSION) / "etcdctl")
    endpoints = ["--endpoints", ",".join(cluster.outputs["endpoints"]), "--command-timeout", "5s"]
    done = cluster.lab.run([etcdctl, *endpoints, *flags, *arguments], check=False)
    return f"{done.stdout}{done.stderr}"


def users_of(cluster: Cluster) -> Mapping[str, set[str]]:
    """User -> roles, as etcd has them."""
    names = cluster.etcdctl("user", "list").split()
    return {
        name: set(json.loads(cluster.etcdctl("user", "get", name, "-w", "json")).get("roles", ())) for name in names
    }


def require_users(cluster: Cluster, *named: str) -> None:
    """etcd has these users, one for each member, root and client, and nobody else; each reaches its own keys alone."""
    found = users_of(cluster)
    members = {*cluster.outputs["members"]}
    assert found.keys() == {*members, *named, "root", "client"}
    assert {name for name, roles in found.items() if "root" in roles} >= {*members, "root"}
    assert "OK" in as_user(cluster, "app", "put", "/app/a", "1")
    for arguments in (["put", "/other", "1"], ["get", "", "--prefix"], ["get", "/app"], ["del", "/app", "--from-key"]):
        assert DENIED.search(as_user(cluster, "app", *arguments)), arguments
    for administration in (["user", "list"], ["member", "remove", "1"], ["compact", "1"], ["defrag"]):
        assert DENIED.search(as_user(cluster, "app", *administration)), administration


def test_users_are_turned_on_under_writes_and_nobody_restarts(cluster: Cluster) -> None:
    configure(cluster, users=USERS, roles=ROLES)
    preview = cluster.stack.preview().output
    assert "etcd's authentication is turned on, without a restart" in preview
    assert "the exported clientCertificate is that of user client, with root" in preview
    done = change(cluster, restarts=())
    said = steps(done.run)
    assert [line.partition(": ")[2] for line in said if "turning etcd" in line] == ["turning etcd's authentication on"]
    require_users(cluster, "app", "reader")
    assert DENIED.search(as_user(cluster, "reader", "put", "/app/a", "2"))
    assert "OK" in as_user(cluster, "reader", "put", "one", "2")


def test_a_users_certificate_opens_neither_the_peer_port_nor_the_gateway(cluster: Cluster) -> None:
    as_user(cluster, "app", "get", "/app/a")
    folder, host = cluster.stack.folder.parent, cluster.hosts[0]
    curl = ["curl", "-sS", "--max-time", "10", "--cert", folder / "app.cert", "--key", folder / "app.key", "-k"]
    peer = cluster.lab.run([*curl, f"https://{host.address}:2380/members"], check=False)
    # By an alert, or by the end of the connection, whichever curl sees first.
    assert (peer.returncode != 0, peer.stdout) == (True, ""), peer.stderr
    body = '{"key": "L2FwcC9h"}'
    gateway = cluster.lab.run([*curl, "-w", "%{http_code}", f"https://{host.address}:2379/v3/kv/range", "-d", body])
    assert gateway.stdout.endswith("400"), gateway.stdout


def test_a_member_tells_monitoring_its_alarms_as_the_user_that_it_is(cluster: Cluster) -> None:
    for host in cluster.hosts[:3]:
        host.run("systemctl start etcd-cluster-metrics.service")
        told = host.run("grep -h ^etcd_cluster_alarms_answered /run/etcd-cluster/metrics.prom").stdout
        assert told.endswith(" 1\n"), told


@pytest.mark.exhaustive
def test_settings_roll_and_certificates_are_renewed(cluster: Cluster) -> None:
    change(cluster, etcd={"max-txn-ops": 300})
    require_users(cluster, "app", "reader")


@pytest.mark.exhaustive
@pytest.mark.parametrize("who", ["a member", "a client"])
def test_a_load_check_may_do_all_that_it_needs(who: str, cluster: Cluster) -> None:
    benchmark_for(this_architecture())
    options = (
        ["--yes", "--seconds", "10"]
        if who == "a member"
        else from_client(cluster.lab.host("client-of-users", disk_gib=None))
    )
    done = load_check(cluster, *options, "--check-perf")
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout)
    assert min(found["writes"]["answered"], found["reads"]["answered"]) > 0
    assert found["writes"]["failed"] == 0, found["writes"]["errors"]
    assert not [line for line in found["checkPerf"]["lines"] if "rror" in line]
    assert cluster.etcdctl("get", "/etcd-cluster/", "--prefix", "--keys-only") == ""


def test_users_and_an_upgrade_at_once_are_refused(cluster: Cluster) -> None:
    kept = cluster.stack.config
    configure(cluster, version="3.6.14", users={"app": USERS["app"]}, roles={"app": ROLES["app"]})
    refused = cluster.stack.preview(check=False)
    cluster.stack.config = kept
    assert refused.returncode != 0
    assert "users: changed together with version (3.5.35 -> 3.6.14)" in refused.output


@pytest.mark.parametrize("version", ["3.6.14", pytest.param("3.6.16", marks=pytest.mark.exhaustive)])
def test_upgrades(cluster: Cluster, version: str) -> None:
    change(cluster, version=version)
    require_users(cluster, "app", "reader")


def test_a_member_is_replaced_by_one_with_another_name(cluster: Cluster) -> None:
    """It gets a user before it joins, and the one that leaves loses its own."""
    block = host_config(cluster.hosts, "")["hosts"]
    hosts = {name: block[name] for name in ("host-1", "host-2", "host-4")}
    with changing(cluster, restarts=()):
        configure(cluster, hosts=hosts)
        run = cluster.up()
    cluster.hosts = [host for host in cluster.hosts if host.name in hosts]
    said = [line.partition(": ")[2] for line in steps(run)]
    assert said.index("setting etcd's users and roles: host-4") < said.index("adding host-4 as a learner")
    assert said.index("removing host-3") < said.index("setting etcd's users and roles: host-3")
    require_users(cluster, "app", "reader")


def test_what_somebody_changed_by_hand_is_put_right(cluster: Cluster) -> None:
    """Users that others made are left alone, and told."""
    first = leader(cluster).name
    for command in (
        ["user", "add", "theirs", "--no-password"],
        ["role", "grant-permission", "app", "read", "", "--prefix"],
        ["user", "revoke-role", "reader", "reader"],
        ["user", "revoke-role", first, "root"],
    ):
        cluster.etcdctl(*command)
    run = cluster.up()
    assert "etcd has users that this stack does not name: theirs" in run.output
    cluster.etcdctl("user", "delete", "theirs")
    require_users(cluster, "app", "reader")
    assert "root" in users_of(cluster)[first]


@pytest.mark.exhaustive
def test_the_ca_is_rotated(cluster: Cluster) -> None:
    configure(cluster, caRotation=1)
    with changing(cluster) as judged:
        cluster.up()
        judged.writes.use(_access(cluster))
        judged.writes.await_more()
    require_users(cluster, "app", "reader")


def _access(cluster: Cluster) -> Any:
    from tests.lab.writes import Access

    return Access.of(cluster.outputs)


def test_roles_change_and_a_user_goes(cluster: Cluster) -> None:
    roles = {"app": [{"prefix": "/app/", "access": "read"}, {"prefix": "/app/own/", "access": "readwrite"}]}
    change(cluster, restarts=(), users={"app": USERS["app"]}, roles=roles)
    assert users_of(cluster).keys() == {*cluster.outputs["members"], "app", "root", "client"}
    assert cluster.etcdctl("role", "list").split() == ["app", "etcd-cluster", "root"]
    assert DENIED.search(as_user(cluster, "app", "put", "/app/a", "3"))
    assert "OK" in as_user(cluster, "app", "put", "/app/own/a", "3")


@pytest.mark.exhaustive
def test_the_next_minor_version(cluster: Cluster) -> None:
    change(cluster, version="3.7.3", users={"app": USERS["app"]})
    assert "OK" in as_user(cluster, "app", "put", "/app/own/a", "4")


def test_users_go_and_come_again_wherever_it_is_cut_off(cluster: Cluster) -> None:
    configure(cluster, users=None, roles=None)
    assert "authentication is turned off" in cluster.stack.preview().output
    with changing(cluster, restarts=()):
        _killed_at(cluster, "turning etcd's authentication off")
        cluster.up()
        assert cluster.etcdctl("user", "list").split() == []
        assert cluster.etcdctl("role", "list").split() == []
        configure(cluster, users=USERS, roles=ROLES)
        _killed_at(cluster, "setting etcd's users and roles")
        _killed_at(cluster, "turning etcd's authentication on")
        cluster.up()
    eventually(lambda: "OK" in as_user(cluster, "app", "put", "/app/a", "5"), "the user may write")
    require_users(cluster, "app", "reader")


def _killed_at(cluster: Cluster, line: str) -> None:
    operator = Operator(cluster.stack)
    operator.wait_for(re.escape(line))
    operator.kill()
