"""Makes one self-contained HTML page of a cluster's status: light and dark, for small screens, and for print."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from etcd_cluster.etcd.sizes import size_text
from etcd_cluster.rollout.planner.quorum import CAUGHT_UP_ENTRIES
from etcd_cluster.rollout.status import ClusterStatus, MemberStatus, State, drift_texts, headline, notes

NEARLY_FULL = 0.8
"""Share of a quota or a disk from which its bar warns."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #fff; --text: #1c2430; --soft: #596273; --line: #d9dee6;
  --good: #14713b; --warn: #8a5a00; --bad: #b3261e; --bar: #2c6fbb; --track: #e3e7ee;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12161c; --card: #1b2129; --text: #e6eaf0; --soft: #a3adbb; --line: #333c48;
    --good: #63c98b; --warn: #e6b450; --bad: #ff8a80; --bar: #6aa9f0; --track: #2b333e;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 24px 16px 40px; }
h1 { font-size: 22px; margin: 0 0 2px; overflow-wrap: anywhere; }
h2 { font-size: 15px; margin: 0 0 10px; color: var(--soft); font-weight: 600; }
p { margin: 0; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 16px; margin-top: 16px; }
.soft { color: var(--soft); }
.good { color: var(--good); } .warn { color: var(--warn); } .bad { color: var(--bad); }
.verdict { font-size: 18px; font-weight: 600; margin-top: 8px; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: 13px; white-space: nowrap; }
th, td { padding: 8px 12px 8px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td { overflow-wrap: anywhere; }
tr:last-child td { border-bottom: 0; }
.state { font-weight: 600; }
.state, .version { white-space: nowrap; }
.bar { display: block; height: 6px; min-width: 60px; margin-top: 4px; border-radius: 3px; background: var(--track); }
.bar i { display: block; height: 100%; border-radius: 3px; background: var(--bar); print-color-adjust: exact; }
.bar.full i { background: var(--bad); }
dl { display: grid; grid-template-columns: 130px minmax(0, 1fr); gap: 6px 12px; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
dd p + p { margin-top: 4px; }
@media (max-width: 720px) {
  thead { position: absolute; left: -9999px; }
  table, tbody { display: block; }
  tr { display: block; padding: 10px 0; border-bottom: 1px solid var(--line); }
  tr:last-child { border-bottom: 0; }
  td { display: grid; grid-template-columns: 110px minmax(0, 1fr); padding: 2px 0; border: 0; }
  td::before { content: attr(data-label); color: var(--soft); }
  dl { grid-template-columns: minmax(0, 1fr); gap: 2px; } dd { margin-bottom: 8px; }
}
@media print {
  :root {
    color-scheme: light;
    --page: #fff; --card: #fff; --text: #000; --soft: #444; --line: #bbb;
    --good: #14713b; --warn: #8a5a00; --bad: #b3261e; --bar: #2c6fbb; --track: #ddd;
  }
  main { padding: 0; max-width: none; }
  section { break-inside: avoid; }
}
"""

HEADINGS = ("Member", "State", "etcd", "Database", "Lag", "Disk", "Certificates", "Drift")


def as_html(status: ClusterStatus) -> str:
    """Returns the page."""
    verdict, colour = ("All is well", "good") if status.ok else ("Something needs attention", "bad")
    return f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{escape(status.cluster)}: {escape(verdict.lower())}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>{escape(status.cluster)}</h1>
<p class="soft">As of {status.now:%Y-%m-%d %H:%M} UTC. It does not renew itself.</p>
<p class="verdict {colour}">{escape(verdict)}</p>
<p>{escape(headline(status).partition(": ")[2])}</p>
<section>
<h2>Members</h2>
<table>
<thead><tr>{"".join(f'<th scope="col">{escape(each)}</th>' for each in HEADINGS)}</tr></thead>
<tbody>
{"".join(_row(member, status) for member in status.members)}</tbody>
</table>
</section>
<section>
<h2>Cluster</h2>
<dl>
{"".join(_notes(status))}</dl>
</section>
</main>
</body>
</html>
"""


def _row(member: MemberStatus, status: ClusterStatus) -> str:
    cells = (
        escape(member.name),
        f'<span class="state {_colour(member.state)}">{escape(member.state.value)}</span>',
        f'<span class="version">{escape(member.version or "-")}</span>',
        _database(member),
        "-" if member.behind is None else "none" if member.behind <= CAUGHT_UP_ENTRIES else f"{member.behind} entries",
        _disk(member),
        _certificates(member, status),
        _drift(member),
    )
    return (
        "<tr>"
        + "".join(
            f'<td data-label="{escape(label)}"><span>{cell}</span></td>'
            for label, cell in zip(HEADINGS, cells, strict=True)
        )
        + "</tr>\n"
    )


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
    return "".join(f'<p class="warn">{escape(each)}</p>' for each in drift_texts(member))


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
    if status.next:
        found.append("next up")
    return found
