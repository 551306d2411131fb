"""Puts a verdict into words, for `up`, the command and the page. Nothing decides by them."""

from __future__ import annotations

from etcd_cluster.errors import Explanation
from etcd_cluster.load_check.verdict import CheckPerf, Judgement, Measured, Quantity, Verdict

LATENCIES = (
    Quantity.WRITE_LATENCY,
    Quantity.READ_LATENCY,
    Quantity.SLOWEST,
    Quantity.FSYNC,
    Quantity.COMMIT,
)
RATES = (Quantity.WRITES, Quantity.READS)
DISK = (Quantity.FSYNC, Quantity.COMMIT)
PLACE = "docs/load-check.md"
SHOWN = 2
"""Further broken limits that an error names: the page has all of them."""


def seconds_text(seconds: float | None) -> str:
    """Returns a latency for people: 1.23 ms, 45 ms, 1.2 s."""
    if seconds is None:
        return "nothing"
    if seconds == float("inf"):
        return "more than 8 s"
    if seconds >= 1:
        return f"{seconds:.1f} s"
    milliseconds = seconds * 1000
    return f"{milliseconds:.2f} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"


def mark_text(seconds: float) -> str:
    """Returns a latency at an axis: 0.1 ms, 10 ms, 1 s."""
    return f"{seconds:g} s" if seconds >= 1 else f"{seconds * 1000:g} ms"


def number_text(number: float) -> str:
    """Returns a rate or a count for people."""
    return f"{number:,.0f}" if number >= 100 or number == int(number) else f"{number:.1f}"


def measured_text(each: Judgement) -> str:
    """Returns what was measured."""
    if each.measured is None:
        return "not all were answered in time" if each.quantity in RATES else "not measured"
    return seconds_text(each.measured) if each.quantity in LATENCIES else number_text(each.measured)


def limit_text(each: Judgement) -> str:
    """Returns what was to be kept."""
    if each.quantity in RATES:
        return f"at least {number_text(each.limit)}"
    if each.quantity in DISK:
        return f"less than {seconds_text(each.limit)}"
    return f"at most {seconds_text(each.limit)}" if each.quantity in LATENCIES else "none"


def when_text(seconds: float) -> str:
    """Returns when a limit was broken for the first time."""
    return "from the beginning" if seconds < 1 else f"first after {seconds:.0f} s"


def _sentence(each: Judgement) -> str:
    of = f" of {each.member}" if each.member else ""
    when = "" if each.first_broken is None else f", {when_text(each.first_broken)}"
    is_part = each.quantity in LATENCIES and each.quantity is not Quantity.SLOWEST
    within = "within " if is_part and each.measured is not None else ""
    return f"{each.quantity.value}{of}: {within}{measured_text(each)}{when}"


def failure(measured: Measured, verdict: Verdict) -> Explanation:
    """Returns why a check failed: the limit that broke first, then the others."""
    broken = verdict.broken
    first, *others = broken
    more = f"; {len(others) - SHOWN} more" if len(others) > SHOWN else ""
    also = f"; then {'; '.join(map(_sentence, others[:SHOWN]))}{more}" if others else ""
    busy = ", ".join(f"{' and '.join(found)} of {name}" for name, found in verdict.busy.items())
    client_busy = bool(measured.of_client) and measured.generator in verdict.busy
    return Explanation(
        f"the cluster does not bear the load of size {measured.load.size} ({measured.load.text}): "
        f"{_sentence(first)}{also}{f'. At work nearly all of the time: {busy}' if busy else ''}",
        f"{first.quantity.value} {limit_text(first)}",
        f"{_advice(first, client_busy=client_busy)} ({PLACE})",
    )


def _advice(first: Judgement, *, client_busy: bool) -> str:
    if first.quantity in DISK:
        return "give the members a faster disk, for etcd alone"
    if client_busy:
        return "load from a machine with more processors: those of the client were the limit"
    return "see on the page what was busy, and give the machines what the size asks for"


def check_perf(found: CheckPerf) -> str:
    """Returns what etcd's own check said, in a line."""
    fault = " Its workload l is known to fail on clusters that pass xl." if found.load == "l" else ""
    return (
        f"for comparison, `etcdctl check perf --load={found.load}` {'passed' if found.passed else 'failed'}. It "
        f"decides nothing here: it only writes, and one request over 500 ms fails it.{fault}"
    )


def success(measured: Measured) -> str:
    """Returns the line of a check that was passed."""
    writes, reads = measured.writes, measured.reads
    return (
        f"the cluster bears the load of size {measured.load.size}: {number_text(writes.per_second + reads.per_second)} "
        f"requests a second of {measured.load.clients:,} clients; 99 % of the writes within "
        f"{seconds_text(writes.percentiles.get(99.0))}, of the reads within {seconds_text(reads.percentiles.get(99.0))}"
    )
