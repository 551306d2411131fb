"""The page about a stack: what Pulumi Cloud shows of the cluster."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pulumi
import pytest

from etcd_cluster.backup.arguments import Backup, Keep
from etcd_cluster.stack_readme import stack_readme
from tests.unit.recording import record

MEMBERS = {"a": {"clientUrl": "https://a:2379", "peerUrl": "https://a:2380"}}


def page(certificates: Any = None, backup: Backup | None = None) -> str:
    found: list[str] = []

    def program() -> None:
        stack_readme(pulumi.Output.from_input("3.6.16"), MEMBERS, certificates, backup).apply(found.append)

    record(program)
    return found[0]


def certificates(drop_after: str | None = "") -> Any:
    issued = [
        SimpleNamespace(not_after=f"203{n}-01-02T00:00:00Z", renew_after=f"202{n}-03-04T00:00:00Z") for n in (9, 8)
    ]
    clients = SimpleNamespace(
        not_after="2040-01-01T00:00:00Z", rotate_after="2035-01-01T00:00:00Z", drop_after=drop_after
    )
    return SimpleNamespace(all=issued, authorities={"clients": clients})


def test_members_certificates_and_backups_stand_in_tables() -> None:
    shown = page(certificates(), Backup(to="s3://b/p", every="15m", keep=Keep(last=3), test="weekly"))
    assert shown.startswith("# etcd 3.6.16\n")
    assert "\n| a | https://a:2379 | https://a:2380 |\n" in shown
    assert "\n| CA of clients | 2040-01-01 | rotated by the first `up` after 2035-01-01 |\n" in shown
    assert "\n| first of the others | 2038-01-02 | renewed by the first `up` after 2028-03-04 |\n" in shown
    assert "Every 15m into s3://b/p, tested weekly by a restore. Kept: the newest 3, and" in shown


def test_an_old_ca_that_is_still_trusted_is_named() -> None:
    assert "after 2035-01-01; the one before it is trusted until 2034-05-06 |" in page(
        certificates("2034-05-06T07:08:09Z")
    )


@pytest.mark.parametrize("absent", ["", None])
def test_what_a_users_mocks_leave_out_is_unknown(absent: str | None) -> None:
    nothing = SimpleNamespace(not_after=absent, renew_after=absent, rotate_after=absent, drop_after=absent)
    shown = page(SimpleNamespace(all=[nothing], authorities={"members": nothing}))
    assert "\n| first of the others | unknown | renewed by the first `up` after unknown |\n" in shown


def test_without_tls_and_backups_it_says_so() -> None:
    shown = page()
    assert "without TLS" in shown
    assert "set `backup.to`" in shown
