"""A cluster with users of etcd on this machine: backups, load checks, restores and remedies go on as without them.

The exported client certificate has one role, so nothing of the product's own may use it.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import binaries
from tests.local.checkout import NOT_SET_UP, SET_UP, Checkout

pytestmark = pytest.mark.skipif(not SET_UP, reason=NOT_SET_UP)

USERS = {"client": {"roles": ["app"]}, "admin": {"roles": ["root"]}}
ROLES = {"app": [{"prefix": "app/", "access": "readwrite"}]}
QUOTA_MIB = 64
MIB = 1024**2
FILL = """
head -c 900000 /dev/urandom | base64 -w 0 | head -c 900000 > "$HOME/value"
for number in $(seq 200); do etcdctl put app/filling < "$HOME/value" > /dev/null 2>&1 || break; done
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    if reasons := binaries.requirements():
        pytest.skip(reasons[0])
    checkout = Checkout(tmp_path_factory.mktemp("users") / "here")
    checkout.use_free_ports()
    install = {"from": "archive", "archive": str(binaries.archive("3.6.16"))}
    configure(
        checkout,
        version="3.6.16",
        install=install,
        users=USERS,
        roles=ROLES,
        etcd={"quota-backend-bytes": QUOTA_MIB * MIB},
    )
    checkout.script("up")
    checkout.shell("etcdctl put app/kept value")
    yield checkout
    checkout.script("down", "--delete-data")


def configure(checkout: Checkout, **values: object) -> None:
    """Sets keys of the stack file; None takes one out."""
    lines = checkout.stack_file.read_text().splitlines()
    kept = [line for line in lines if not re.match(rf"\s*etcd-cluster:({'|'.join(values)}):", line)]
    kept += [f"  etcd-cluster:{key}: {json.dumps(value)}" for key, value in values.items() if value is not None]
    checkout.stack_file.write_text("\n".join(kept) + "\n")


def up(checkout: Checkout) -> str:
    done = checkout.script("up")
    return done.stdout + done.stderr


def as_admin(checkout: Checkout, command: str) -> str:
    return checkout.shell(f'eval "$("$1/scripts/env" --user admin)"; {command}').stdout


def command(checkout: Checkout, *words: str) -> str:
    """What `etcd-cluster` prints, as scripts run it."""
    script = checkout.project / "scripts" / "asked"
    script.write_text((script.parent / "status").read_text().replace("ask_command status", "ask_command"))
    script.chmod(0o755)
    done = checkout.script("asked", *words, check=False)
    return done.stdout + done.stderr


def cluster_id(checkout: Checkout) -> str:
    (status, *_) = json.loads(checkout.shell("etcdctl endpoint status -w json").stdout)
    return f"{status['Status']['header']['cluster_id']:x}"


def require_users(checkout: Checkout) -> None:
    """The exported certificate reaches its keys and nothing else, and the cluster is as the stack says."""
    assert checkout.shell("etcdctl get app/kept --print-value-only").stdout == "value\n"
    assert checkout.shell("etcdctl get other", check=False).returncode != 0
    assert as_admin(checkout, "etcdctl user list").split() == ["admin", "client", "etcd-1", "etcd-2", "etcd-3", "root"]
    assert "3 members, all healthy, no drift" in checkout.script("status").stdout


def test_backups_load_checks_and_status_go_on(checkout: Checkout) -> None:
    said = checkout.script("backup", "now", "--test").stdout
    assert "it passed a restore" in said, said
    (manifest,) = (checkout.home / ".local" / "share" / "etcd-cluster-backups").rglob("*.json")
    assert json.loads(manifest.read_text())["hash"]["members"].count(",") == 2, "all members told their hash"
    said = command(checkout, "load-check", "--yes", "--seconds", "10")
    assert re.search(r"failed requests +none +0 +kept", said), said  # how fast it is, is not asked here
    assert as_admin(checkout, "etcdctl get '' --from-key --keys-only").split() == ["app/kept"]
    require_users(checkout)


@pytest.fixture(scope="module")
def of_others(checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A snapshot in which no member has a user, as in one of a cluster whose members had other names."""
    file = tmp_path_factory.mktemp("snapshot") / "backup.db"
    as_admin(checkout, "for name in 1 2 3; do etcdctl user delete etcd-$name; done")
    as_admin(checkout, f"ETCDCTL_ENDPOINTS=${{ETCDCTL_ENDPOINTS%%,*}} etcdctl snapshot save '{file}'")
    said = up(checkout)
    assert "reading etcd's users and roles as the user root" in said
    assert "setting etcd's users and roles: etcd-1, etcd-2, etcd-3\n" in said
    require_users(checkout)
    return file


def test_a_snapshot_in_which_members_have_no_users_takes_the_place_of_the_data(
    checkout: Checkout, of_others: Path
) -> None:
    old = cluster_id(checkout)
    checkout.shell("etcdctl put app/later value")
    configure(checkout, restoreInPlace={"from": str(of_others), "cluster": old})
    assert "setting etcd's users and roles" in up(checkout)
    assert cluster_id(checkout) != old
    assert checkout.shell("etcdctl get app/later").stdout == ""
    configure(checkout, restoreInPlace=None)
    up(checkout)
    require_users(checkout)


@pytest.mark.exhaustive
def test_a_lost_quorum_is_recovered_with_the_users(checkout: Checkout) -> None:
    old = cluster_id(checkout)
    for name in ("etcd-2", "etcd-3"):
        subprocess.run(["kill", "-KILL", checkout.processes()[name]], check=True)
        shutil.rmtree(checkout.members / name / "volume")
        (checkout.members / name / "state" / "formed").unlink(missing_ok=True)
    configure(checkout, recover={"cluster": old})
    up(checkout)
    assert cluster_id(checkout) != old
    configure(checkout, recover=None)
    up(checkout)
    require_users(checkout)


@pytest.mark.exhaustive
def test_a_full_database_takes_writes_again(checkout: Checkout) -> None:
    """In one or two rounds: the first defragmentation may make room enough."""
    said = ""
    while "compacting the whole history" not in said:
        checkout.shell(FILL)
        assert "NOSPACE" in as_admin(checkout, "etcdctl alarm list")
        said += up(checkout)
        assert as_admin(checkout, "etcdctl alarm list") == ""
        assert said.count("ending the alarm NOSPACE") < 3
    assert "to defragment its database" in said
    checkout.shell("etcdctl put app/after value")
    require_users(checkout)


def test_without_users_in_the_stack_such_a_snapshot_is_refused_before_anything_stops(
    checkout: Checkout, of_others: Path
) -> None:
    configure(checkout, users=None, roles=None)
    assert "turning etcd's authentication off" in up(checkout)
    before, old = checkout.processes(), cluster_id(checkout)
    configure(checkout, restoreInPlace={"from": str(of_others), "cluster": old})
    refused = checkout.script("up", check=False)
    assert refused.returncode != 0
    assert "etcd's authentication is on in it, and the member" in refused.stdout + refused.stderr
    assert checkout.processes() == before
    configure(checkout, restoreInPlace=None)
    up(checkout)
    assert checkout.processes() == before
    assert cluster_id(checkout) == old


def as_if_cut_off(checkout: Checkout) -> None:
    """What a run leaves that turned users on and ended before it was noted: here by hand, in the same order."""
    members = ("etcd-1", "etcd-2", "etcd-3")
    users = [("root", "root"), ("client", "root"), *((name, "root") for name in members)]
    added = [f"etcdctl user add {name} --no-password; etcdctl user grant-role {name} etcd-cluster" for name, _ in users]
    granted = [f"etcdctl user grant-role {name} {role}" for name, role in users]
    checkout.shell("; ".join(["etcdctl role add etcd-cluster", *added, "etcdctl role add root", *granted]))
    checkout.shell("etcdctl auth enable")


def test_what_a_run_that_was_cut_off_began_is_told_and_goes_once_authentication_is_off(checkout: Checkout) -> None:
    """Nothing in the stack tells of it: etcd's users do. Data of a backup look the same, so nothing is opened."""
    configure(checkout, users=None, roles=None)
    up(checkout)
    as_if_cut_off(checkout)
    before = checkout.processes()
    assert "authentication is on, and this stack names no users" in checkout.script("status", check=False).stdout
    assert "authentication is on, and this stack names no users" in up(checkout)
    assert "Status: true" in checkout.shell("etcdctl auth status").stdout
    checkout.shell("etcdctl auth disable")
    assert "setting etcd's users and roles" in up(checkout)
    assert checkout.shell("etcdctl auth status; etcdctl user list; etcdctl role list").stdout.splitlines() == [
        "Authentication Status: false",
        "AuthRevision: " + checkout.shell("etcdctl auth status").stdout.rpartition(" ")[2].strip(),
    ]
    assert "no drift" in checkout.script("status").stdout
    assert checkout.processes() == before


def test_authentication_that_somebody_else_turned_on_stays_and_is_told(checkout: Checkout) -> None:
    names = ("root", "client", "etcd-1", "etcd-2", "etcd-3")
    added = [f"etcdctl user add {name} --no-password; etcdctl user grant-role {name} root" for name in names]
    checkout.shell("; ".join(["etcdctl role add root", *added, "etcdctl auth enable"]))
    said = up(checkout)
    assert "warning: etcd's authentication is on, and this stack names no users" in said
    assert "setting" not in said
    assert "authentication is on, and this stack names no users" in checkout.script("status").stdout
    checkout.shell("etcdctl user revoke-role etcd-2 root")
    locked_out = "etcd's authentication is on, and etcd-2 may not change the cluster"
    assert f"warning: {locked_out}" in up(checkout)
    status = checkout.script("status", check=False)
    assert (status.returncode, locked_out in " ".join(status.stdout.split())) == (1, True)
    assert "Status: true" in checkout.shell("etcdctl auth status").stdout


def test_a_user_of_somebody_else_is_refused_until_it_is_handed_over(checkout: Checkout) -> None:
    """Users of role root with the names of the cluster's certificates are taken."""
    checkout.shell("etcdctl user grant-role etcd-2 root; etcdctl user add app --no-password; etcdctl role add theirs")
    checkout.shell("etcdctl role grant-permission theirs read theirs; etcdctl user grant-role app theirs")
    configure(checkout, users={"app": {"roles": ["app"]}, "client": {"roles": ["root"]}}, roles=ROLES)
    refused = checkout.script("up", check=False)
    assert refused.returncode != 0
    said = " ".join(f"{refused.stdout}{refused.stderr}".split())
    assert "did not make them: app (roles: theirs)" in said
    assert checkout.shell("etcdctl user get app").stdout.split() == ["User:", "app", "Roles:", "theirs"]
    require_refused_in_data(checkout)
    (commands,) = set(re.findall(r"run `(etcdctl role add [^`]*)`", said))
    checkout.shell(commands)
    up(checkout)
    assert checkout.shell("etcdctl user get app").stdout.split() == ["User:", "app", "Roles:", "app", "etcd-cluster"]
    assert "no drift" in checkout.script("status").stdout
    configure(checkout, users=None, roles=None)
    up(checkout)
    assert checkout.shell("etcdctl user list").stdout.split() == ["root"]


def require_refused_in_data(checkout: Checkout) -> None:
    """A restore would end with one member, which serves alone."""
    file, before = checkout.home / "theirs.db", checkout.processes()
    checkout.shell(f"ETCDCTL_ENDPOINTS=${{ETCDCTL_ENDPOINTS%%,*}} etcdctl snapshot save '{file}'")
    configure(checkout, restoreInPlace={"from": str(file), "cluster": cluster_id(checkout)})
    refused = checkout.script("up", check=False)
    assert refused.returncode != 0
    said = " ".join(f"{refused.stdout}{refused.stderr}".split())
    assert "did not make them: app (roles: theirs)" in said
    assert "That is in the data that are to be restored; nothing was stopped for them" in said
    assert checkout.processes() == before
    configure(checkout, restoreInPlace=None)
