"""Makes the page of a load check: verdict, limits, facts, and what was measured over time. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from html import escape

from etcd_cluster.etcd.sizes import MIB, size_named, size_text
from etcd_cluster.load_check import text
from etcd_cluster.load_check.generator import PERCENTILES, Requests, Second
from etcd_cluster.load_check.plots import Line, Plot
from etcd_cluster.load_check.samples import COMMIT, DATABASE, FSYNC, PUT, QUOTA, RANGE, ROUND_TRIP, Interval
from etcd_cluster.load_check.verdict import SERVED, Judgement, Limits, Measured, Quantity, Verdict
from etcd_cluster.page import Html, document, facts, table


def page(measured: Measured, verdict: Verdict, cluster: str) -> str:
    """Returns the page.

    Args:
        measured: What was measured.
        verdict: The verdict.
        cluster: PROJECT/STACK/NAME.
    """
    load = measured.load
    title = f"Load check of {cluster}"
    when = datetime.fromtimestamp(measured.began - measured.clock_ahead, timezone.utc)
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="faint">{when:%Y-%m-%d %H:%M} UTC. Size {escape(load.size)}: {escape(load.text)}.</p>',
        _verdict(measured, verdict),
        "<section><h2>Limits</h2>",
        table(
            ("What", "Limit", "Measured", "Result"),
            [_limit_row(each) for each in (*verdict.broken, *verdict.kept)],
            numbers=(1, 2),
        ),
        "</section>",
        '<h2>Over time</h2>\n<div class="plots">',
        *(plot.html(_length(measured)) for plot in _plots(measured, verdict)),
        "</div>",
        "<section><h2>Requests</h2>",
        table(
            ("", "Answered", "A second", *(f"{each:g} %" for each in PERCENTILES), "Slowest"),
            [_requests_row("Writes", measured.writes), _requests_row("Reads", measured.reads)],
            numbers=range(1, len(PERCENTILES) + 4),
        ),
        '<p class="faint">Latencies as clients saw them. The slowest may have waited for its connection.</p>',
        "</section>",
        "<section><h2>Members</h2>",
        table(
            ("Member", "etcd", "Processors", "Log sync 99 %", "Commit 99 %", "Round trip 99 %", "Processor", "Disk"),
            [_member_row(name, measured.whole(name)) for name in measured.samples],
            numbers=range(2, 8),
        ),
        "</section>",
        *_check_perf(measured),
        f"<section><h2>Facts</h2>\n{facts(_facts(measured))}</section>",
    ]
    return document(title, "\n".join(parts))


def _verdict(measured: Measured, verdict: Verdict) -> str:
    if verdict.passed:
        line = escape(f"{text.success(measured)}.")
        return f'<div class="verdict good"><p><strong>Passed</strong></p><p>{line[:1].upper()}{line[1:]}</p></div>'
    why = text.failure(measured, verdict)
    lines = [f"{each[:1].upper()}{each[1:]}." for each in (why.problem, f"expected: {why.expected}", why.fix)]
    return (
        '<div class="verdict bad"><p><strong>Failed</strong></p>'
        f"{''.join(f'<p>{escape(line)}</p>' for line in lines)}</div>"
    )


def _check_perf(measured: Measured) -> list[str]:
    found = measured.check_perf
    if found is None:
        return []
    line = text.check_perf(found)
    return [
        "<section><h2>etcd's own check</h2>",
        f'<p class="faint">{escape(f"{line[:1].upper()}{line[1:]}")}</p>',
        table(("It printed",), [(each,) for each in found.lines]),
        "</section>",
    ]


def _limit_row(each: Judgement) -> tuple[str, ...]:
    of = f" of {each.member}" if each.member else ""
    if each.kept:
        result = Html('<span class="good">kept</span>')
    else:
        when = "" if each.first_broken is None else f", {text.when_text(each.first_broken)}"
        result = Html(f'<span class="bad">broken{escape(when)}</span>')
    what = each.quantity.value
    return (f"{what[:1].upper()}{what[1:]}{of}", text.limit_text(each), text.measured_text(each), result)


def _requests_row(name: str, requests: Requests) -> tuple[str, ...]:
    if not requests.ended:
        return (name, "not all in time", *("-" for _ in range(len(PERCENTILES) + 2)))
    latencies = [text.seconds_text(requests.percentiles.get(each)) for each in PERCENTILES]
    return (
        name,
        text.number_text(requests.done),
        text.number_text(requests.per_second),
        *latencies,
        text.seconds_text(requests.slowest),
    )


def _member_row(name: str, whole: Interval) -> tuple[str, ...]:
    disk = whole.disk_share
    round_trip = whole.quantile(ROUND_TRIP, 0.99)
    return (
        name,
        whole.end.version,
        str(whole.end.processors),
        text.seconds_text(whole.quantile(FSYNC, 0.99)),
        text.seconds_text(whole.quantile(COMMIT, 0.99)),
        "-" if round_trip is None else text.seconds_text(round_trip),
        _share_text(whole.cpu_share),
        "not counted" if disk is None else _share_text(disk),
    )


def _facts(measured: Measured) -> list[tuple[str, str]]:
    size = size_named(measured.load.size)
    ends = [samples[-1].numbers for samples in measured.samples.values()]
    begins = [samples[0].numbers for samples in measured.samples.values()]
    grown = max(
        after.get(DATABASE, 0.0) - before.get(DATABASE, 0.0) for before, after in zip(begins, ends, strict=True)
    )
    return [
        ("Size", f"{size.name}: {size.clients:,} clients, {size.requests_per_second:,} requests a second"),
        ("Members", str(len(measured.samples))),
        ("Load generated on", _generated_on(measured)),
        ("Clients", f"{measured.load.clients:,}, each with its own connection"),
        ("Value", size_text(measured.load.value_bytes)),
        ("Time", f"{measured.ended - measured.began:.0f} s"),
        ("Database before", size_text(int(max(each.get(DATABASE, 0.0) for each in begins)))),
        ("Database grew by", size_text(int(grown))),
        ("Quota", size_text(int(min(each.get(QUOTA, 0.0) for each in ends)))),
        ("Least free disk", size_text(int(min(each[-1].free_mib for each in measured.samples.values()) * MIB))),
    ]


def _generated_on(measured: Measured) -> str:
    if not measured.of_client:
        return measured.generator
    whole = measured.whole(measured.generator)
    return f"{measured.generator}, whose {whole.end.processors} processors were at work {_share_text(whole.cpu_share)}"


def _length(measured: Measured) -> float:
    return max(measured.ended - measured.began, 1.0)


def _plots(measured: Measured, verdict: Verdict) -> list[Plot]:
    load, limits = measured.load, {each.quantity: each.limit for each in verdict.judgements}
    usual = Limits()
    return [
        Plot(
            "Requests answered",
            "in each second",
            _by_second(measured, lambda each: float(each.count)),
            text.number_text,
            limit=float(load.writes),
            limit_text=f"{text.number_text(load.writes)} of each are sent" if load.writes == load.reads else "sent",
        ),
        Plot(
            "Latency of the slowest request",
            "in each second",
            _by_second(measured, lambda each: each.slowest or None),
            text.mark_text,
            limit=limits.get(Quantity.SLOWEST, usual.slowest_seconds),
            limit_text="limit",
            logarithmic=True,
        ),
        Plot(
            "Average latency",
            "in each second",
            _by_second(measured, lambda each: each.average or None),
            text.mark_text,
            logarithmic=True,
        ),
        *(
            Plot(
                f"Latency of {name} at the members",
                "so many take at most; every 5 seconds",
                [Line(f"{each:g} %", measured.served(kind, each / 100)) for each in SERVED],
                text.mark_text,
                limit=limits.get(quantity, usual.latency_seconds),
                limit_text="limit of 99 %",
                logarithmic=True,
                without="Counted by etcd 3.7, and before it with etcd: {metrics: extensive}.",
            )
            for name, kind, quantity in (
                ("writes", PUT, Quantity.WRITE_LATENCY),
                ("reads", RANGE, Quantity.READ_LATENCY),
            )
        ),
        Plot(
            "Syncs of the write-ahead log",
            "99 % take at most; every 5 seconds",
            _by_member(measured, lambda each: each.quantile(FSYNC, 0.99)),
            text.mark_text,
            limit=limits.get(Quantity.FSYNC, usual.fsync_seconds),
            limit_text="limit",
            logarithmic=True,
        ),
        Plot(
            "Commits of the database",
            "99 % take at most; every 5 seconds",
            _by_member(measured, lambda each: each.quantile(COMMIT, 0.99)),
            text.mark_text,
            limit=limits.get(Quantity.COMMIT, usual.commit_seconds),
            limit_text="limit",
            logarithmic=True,
        ),
        Plot(
            "Processors",
            "part of their time at work; all of the machine",
            _by_machine(measured, lambda each: each.cpu_share),
            _share_text,
            most=1.0,
        ),
        Plot(
            "Disk of the data",
            "part of the time at work",
            _by_member(measured, lambda each: each.disk_share),
            _share_text,
            most=1.0,
        ),
        Plot(
            "Written to the disk of the data",
            "MiB a second",
            _by_member(measured, lambda each: _mib(each.bytes_written_per_second)),
            text.number_text,
        ),
    ]


def _by_second(measured: Measured, value: Callable[[Second], float | None]) -> list[Line]:
    """Returns a line of the writes, and one of the reads; the first second and the last are not whole ones."""
    return [
        Line(
            name,
            [
                (each.at + 0.5 - measured.began, found)
                for each in requests.by_second[1:-1]
                if (found := value(each)) is not None
            ],
        )
        for name, requests in (("writes", measured.writes), ("reads", measured.reads))
    ]


def _by_member(measured: Measured, value: Callable[[Interval], float | None]) -> list[Line]:
    return _lines(measured, list(measured.samples), value)


def _by_machine(measured: Measured, value: Callable[[Interval], float | None]) -> list[Line]:
    return _lines(measured, list(measured.machines), value)


def _lines(measured: Measured, names: Sequence[str], value: Callable[[Interval], float | None]) -> list[Line]:
    lines: list[Line] = []
    for name in names:
        points = [(at, found) for at, each in measured.intervals(name) if (found := value(each)) is not None]
        lines.append(Line(name, points))
    return lines


def _mib(number: float | None) -> float | None:
    return None if number is None else number / MIB


def _share_text(share: float) -> str:
    return f"{share * 100:.0f} %"
