"""Makes the HTML page of a cluster's status."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from etcd_cluster.etcd.sizes import size_text
from etcd_cluster.page import Html, document, table
from etcd_cluster.rollout.planner.quorum import CAUGHT_UP_ENTRIES
from etcd_cluster.rollout.status import ClusterStatus, MemberStatus, State, drift_texts, headline, notes

NEARLY_FULL = 0.8
"""Share of a quota or a disk from which its bar warns."""

HEADINGS = ("Member", "State", "etcd", "Database", "Lag", "Disk", "Certificates", "Drift")


def as_html(status: ClusterStatus) -> str:
    """Returns the page."""
    verdict, colour = ("All is well", "good") if status.ok else ("Something needs attention", "bad")
    parts = [
        f"<h1>{escape(status.cluster)}</h1>",
        f'<p class="faint">As of {status.now:%Y-%m-%d %H:%M} UTC. The page does not update itself.</p>',
        f'<div class="verdict {colour}"><p><strong>{escape(verdict)}</strong></p>'
        f"<p>{escape(headline(status).partition(': ')[2])}</p></div>",
        "<section><h2>Members</h2>",
        table(HEADINGS, [_row(member, status) for member in status.members]),
        "</section>",
        "<section><h2>Cluster</h2>",
        f'<dl class="notes">\n{"".join(_notes(status))}</dl>',
        "</section>",
    ]
    return document(f"{status.cluster}: {verdict.lower()}", "\n".join(parts))


def _row(member: MemberStatus, status: ClusterStatus) -> tuple[str, ...]:
    cells = (
        f'<span class="long">{escape(member.name)}</span>',
        f'<span class="state {_colour(member.state)}">{escape(member.state.value)}</span>',
        f'<span class="version">{escape(member.version or "-")}</span>',
        _database(member),
        "-" if member.behind is None else "none" if member.behind <= CAUGHT_UP_ENTRIES else f"{member.behind} entries",
        _disk(member),
        _certificates(member, status),
        _drift(member),
    )
    return tuple(Html(f"<span>{cell}</span>") for cell in cells)


def _database(member: MemberStatus) -> str:
    if member.database_bytes is None or member.share_of_quota is None:
        return "-"
    text = f"{size_text(member.database_bytes)}, {member.share_of_quota:.0%} of the quota"
    return escape(text) + _bar(member.share_of_quota)


def _disk(member: MemberStatus) -> str:
    if member.disk is None:
        return "-"
    used, size = member.disk
    return escape(f"{used / size:.0%} of {size_text(size)}") + _bar(used / size)


def _bar(share: float) -> str:
    part = min(max(share, 0.0), 1.0)
    full = " full" if share >= NEARLY_FULL else ""
    return f'<span class="bar{full}" aria-hidden="true"><i style="width:{part:.0%}"></i></span>'


def _certificates(member: MemberStatus, status: ClusterStatus) -> str:
    if member.certificates_until is None:
        return "-"
    days = (member.certificates_until - status.now).days
    text = f"until {member.certificates_until:%Y-%m-%d}"
    if days < 0:
        return f'<span class="bad">{escape(text)}, expired</span>'
    due = '<span class="warn">, due</span>' if member.certificates_due else ""
    return f"{escape(text)} ({days} days){due}"


def _drift(member: MemberStatus) -> str:
    if member.state is State.UNREACHABLE or not member.drift:
        return "unknown" if member.state is State.UNREACHABLE else "none"
    return "".join(f'<p class="long warn">{escape(each)}</p>' for each in drift_texts(member))


def _colour(state: State) -> str:
    if state in (State.LEADER, State.FOLLOWER):
        return "good"
    return "warn" if state is State.LEARNER else "bad"


def _notes(status: ClusterStatus) -> Iterator[str]:
    wrong = _wrong(status)
    for label, texts in notes(status).items():
        colour = ' class="bad"' if label in wrong else ""
        paragraphs = "".join(f"<p{colour}>{escape(text)}</p>" for text in texts)
        yield f"<dt>{escape(label)}</dt><dd>{paragraphs}</dd>\n"


def _wrong(status: ClusterStatus) -> Sequence[str]:
    """Returns the labels of notes that tell of something to do."""
    found = ["unreachable", "peers"]
    if status.alarms:
        found.append("alarms")
    if status.backups is None or status.backups.problems:
        found.append("backups")
    if status.locked_out:
        found.append("users")
    if status.next:
        found.append("next up")
    return found
