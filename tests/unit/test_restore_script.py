"""Which revisions clients have seen, where a restore takes the place of a cluster's data."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from etcd_cluster.member import render
from etcd_cluster.member.layout import Layout

RUNS, STOPPED = "service_pid() { echo 7; }", "service_pid() { true; }"


@pytest.mark.parametrize(
    ("stubs", "expected"),
    [
        (
            f"{RUNS}; ask_metrics() {{ measured=([debugging_mvcc_current_revision]=1.000000012e+09 "
            "[server_proposals_applied_total]=9); }",
            "1000000012",
        ),
        (f"{STOPPED}; snapshot_status() {{ echo 'hash 1, revision 1000000009, 5 keys'; }}", "1000000009"),
        (f"{STOPPED}; snapshot_status() {{ echo broken; return 1; }}", "0"),
    ],
    ids=["runs", "stopped", "unreadable"],
)
def test_the_revision_that_clients_have_seen(tmp_path: Path, stubs: str, expected: str) -> None:
    assert live_revision(tmp_path, stubs) == f"{expected}\n"


def test_without_data_clients_have_seen_none(tmp_path: Path) -> None:
    assert live_revision(tmp_path, STOPPED, has_data=False) == "0\n"


def test_a_member_that_runs_and_does_not_tell_is_no_member_without_revisions(tmp_path: Path) -> None:
    """Revisions would be used twice, and watches would not start anew."""
    with pytest.raises(subprocess.CalledProcessError) as failed:
        live_revision(tmp_path, f"{RUNS}; ask_metrics() {{ return 1; }}; sleep() {{ SECONDS=$((SECONDS + 9)); }}")
    assert "etcd runs here and gives no metrics" in failed.value.stderr


def live_revision(folder: Path, stubs: str, *, has_data: bool = True) -> str:
    layout = Layout.below(str(folder))
    database = Path(layout.data, "member/snap/db")
    if has_data:
        database.parent.mkdir(parents=True)
        database.touch()
    functions, call, _ = render.script("restore", layout, {}).rpartition('\nanswer "$@"')
    assert call
    script = f"{functions}\n{stubs}\nspec[version]=3.6.16\ndeclare -gA measured=()\nseen=$(live_revision)\necho $seen"
    done = subprocess.run(["bash"], input=script, text=True, capture_output=True, check=True)
    return done.stdout


OFF = "--user*) echo app ;;"
ON = "--user*) echo authentication failed; return 1 ;;"
LISTS = """
    'user list'*) echo '{"header":{},"users":["app"]}' ;; 'role list'*) echo '{"header":{},"roles":["app"]}' ;;
    *' get '*) echo '{}' ;;
"""
DENIED = '*) [[ $credentials == client ]] || { echo permission denied; return 1; }; case "$*" in ' + LISTS + " esac ;;"


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (f"{OFF} {LISTS}", "off"),
        (f"{ON} {LISTS}", "on"),
        (f"{ON} {DENIED}", "on"),
        (f"{ON} *) echo permission denied; return 1 ;;", "the users in it could not be read (permission denied)"),
        ("*) echo no answer; return 1 ;;", "gave no answer about its users in time"),
    ],
    ids=["off", "on", "asked as root", "denied", "silent"],
)
def test_the_users_in_a_snapshot_are_read_or_nothing_is_restored(tmp_path: Path, answers: str, expected: str) -> None:
    """Its member asks first; a member of another name is no user in it, and the user root is."""
    functions, call, _ = render.script("prepare_restore", Layout.below(str(tmp_path)), {}).rpartition('\nanswer "$@"')
    assert call
    played = f"""
        etcdctl_at() {{ shift; case "$*" in {answers} esac; }}
        act_as_client() {{ credentials=client; }}
        credentials='' scheme=https scratch_client_port=61000
    """
    script = f"{functions}\n{played}\nreport_users_of_data"
    done = subprocess.run(["bash"], input=script, text=True, capture_output=True, check=False)
    if expected not in ("on", "off"):
        assert (done.returncode, done.stdout) == (70, "")
        assert expected in done.stderr
        return
    assert done.returncode == 0, done.stderr
    assert done.stdout == f'{expected}\nuser\t"app"\t{{}}\nrole\t"app"\t{{}}\nasked\n'
