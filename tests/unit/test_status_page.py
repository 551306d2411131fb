"""The status as one HTML page. How a real Chromium shows it is in tests/browser."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

from etcd_cluster.rollout.status import ClusterStatus, State, cluster_status
from etcd_cluster.rollout.status_page import HEADINGS, as_html
from tests.unit.test_status import DESIRED, NOW, SCHEDULES, observation

LONG = "a-name-that-is-as-long-as-a-name-of-a-host-may-be-in-production-01"


def well() -> ClusterStatus:
    return cluster_status(DESIRED, observation(), SCHEDULES, NOW)


def ailing() -> ClusterStatus:
    """Everything that can be long or wrong at once."""
    status = well()
    members = [
        replace(status.members[0], name=LONG, drift=["/etc/systemd/system/etcd-cluster.service differs"] * 2),
        replace(status.members[1], state=State.DOWN, version=None, database_bytes=None, share_of_quota=None, disk=None),
        replace(
            status.members[2], state=State.UNREACHABLE, unreachable="ssh: connect to host 10.0.0.3 port 22: " + "x" * 90
        ),
    ]
    members[0] = replace(members[0], share_of_quota=0.97, behind=123_456, certificates_due=True)
    return replace(
        status,
        cluster=f"{'shop' * 12}/{'production' * 5}/{'orders' * 8}",
        members=members,
        alarms=["NOSPACE on etcd-1"],
        next=["refused: <script>alert('no')</script> & more"],
    )


def test_it_needs_no_other_file_and_runs_nothing() -> None:
    page = as_html(ailing())
    assert not re.search(r"<script|<link|<img|@import|url\(|https?://(?!192\.0\.2)", page)
    assert "&lt;script&gt;alert" in page


def test_its_tags_are_closed() -> None:
    open_tags: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta",):
                open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

    Tags().feed(as_html(ailing()))
    assert open_tags == []


def test_it_says_whether_all_is_well_and_what_the_table_says() -> None:
    assert "All is well" in as_html(replace(well(), backups=None))
    page = as_html(ailing())
    assert "Something needs attention" in page
    for text in (*HEADINGS, LONG, "down", "97% of the quota", "123456 entries", ", due", "NOSPACE on etcd-1"):
        assert text in page
