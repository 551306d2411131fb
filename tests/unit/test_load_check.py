"""Load checks: what is asked of a cluster, what is read of the answers, and what is said of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from etcd_cluster.arguments import EtcdClusterArgs
from etcd_cluster.errors import ConfigurationError
from etcd_cluster.etcd.sizes import GIB, MIB, SIZES
from etcd_cluster.load_check import text
from etcd_cluster.load_check.generator import Requests, Second
from etcd_cluster.load_check.load import Load, disk_problem, quota_problem
from etcd_cluster.load_check.page import page
from etcd_cluster.load_check.samples import (
    COMMIT,
    DATABASE,
    FSYNC,
    HISTOGRAMS,
    LEADER_CHANGES,
    NUMBERS,
    PUT,
    RANGE,
    REQUESTS,
    ROUND_TRIP,
    Interval,
    Sample,
)
from etcd_cluster.load_check.verdict import CheckPerf, Limits, Quantity, Verdict, as_json, judge
from etcd_cluster.load_generator import LoadGenerator, validate_load_generator
from etcd_cluster.machines.local import LocalMachines
from etcd_cluster.settings import validate_arguments
from tests.unit.load_check_model import BEGAN, measured, requests, sample

METRICS = Path(__file__).parent / "golden" / "metrics"
REPORT = """\
bench with linearizable range

Summary:
  Total:\t10.01056 secs.
  Slowest:\t0.054717382 secs.
  Fastest:\t0.000624059 secs.
  Average:\t0.0030001292540000014 secs.
  Stddev:\t0.005333438044801765 secs.
  Requests/sec:\t99.8

Response time histogram:
  0.000624059 [1]\t|
  0.0060333913 [899]\t|∎∎∎∎∎∎

Latency distribution:
  10% in 0.000854229 secs.
  50% in 0.001288234 secs.
  90% in 0.006075047 secs.
  99% in 0.033594941 secs.
  99.9% in 0.054717382 secs.

Sample in one second (unix latency throughput):
UNIX-SECOND,MIN-LATENCY-MS,AVG-LATENCY-MS,MAX-LATENCY-MS,AVG-THROUGHPUT
1795753501,624.059µs,1.338394ms,1m2.5s,76
1795753502,0s,0s,0s,0
1795753503,735.433µs,1.69179ms,13.390507ms,100


Error distribution:
  [3]\tetcdserver: request timed out
  [1]\trpc error: code = Unavailable desc = [0] no
"""

SAMPLE = """\
etcd_disk_backend_commit_duration_seconds_bucket{le="0.001"} 10
etcd_disk_backend_commit_duration_seconds_bucket{le="0.002"} 20
etcd_disk_backend_commit_duration_seconds_bucket{le="+Inf"} 20
etcd_disk_backend_commit_duration_seconds_sum 0.02
etcd_disk_backend_commit_duration_seconds_count 20
etcd_mvcc_db_total_size_in_bytes 1.048576e+06
etcd_network_peer_round_trip_time_seconds_bucket{To="a1",le="0.001"} 4
etcd_network_peer_round_trip_time_seconds_bucket{To="a1",le="+Inf"} 5
etcd_network_peer_round_trip_time_seconds_bucket{To="b2",le="0.001"} 2
etcd_network_peer_round_trip_time_seconds_bucket{To="b2",le="+Inf"} 2
etcd_server_is_leader 1
etcd_server_leader_changes_seen_total 2
etcd_server_request_duration_seconds_bucket{success="false",type="Put",le="0.001"} 1
etcd_server_request_duration_seconds_bucket{success="false",type="Put",le="+Inf"} 1
etcd_server_request_duration_seconds_bucket{success="true",type="Put",le="0.001"} 5
etcd_server_request_duration_seconds_bucket{success="true",type="Put",le="+Inf"} 8
etcd_server_request_duration_seconds_bucket{success="true",type="Range",le="0.001"} 7
etcd_server_request_duration_seconds_bucket{success="true",type="Range",le="+Inf"} 7
etcd_server_version{server_version="3.5.35"} 1
grpc_server_handling_seconds_bucket{grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary",le="0.005"} 9
grpc_server_handling_seconds_bucket{grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary",le="+Inf"} 9
process_resident_memory_bytes 4e+07
clock 1795753501500
cpu  100 10 50 800 40 0 5 0 0 0
disk 7 80 9 1000 2500
processors 4
free_mib 5000
"""


# --- the load ---


def test_a_row_of_the_table_is_the_load() -> None:
    assert {
        name: (load := Load.of(size)).requests == size.requests_per_second and load.clients
        for name, size in SIZES.items()
    } == {
        "small": 100,
        "medium": 500,
        "large": 1_500,
        "xlarge": 1_500,
    }
    assert Load.of(SIZES["small"]).text == (
        "100 clients, 100 writes and 100 reads a second, values of 1 KiB, for 60 seconds"
    )


@pytest.mark.parametrize("name", SIZES)
def test_an_empty_cluster_of_each_size_bears_its_load(name: str) -> None:
    size = SIZES[name]
    assert quota_problem(Load.of(size), 25_000, size.quota_bytes) is None
    assert disk_problem(Load.of(size), "etcd-1", size.minimum_disk_gib * 1024 * 0.9) is None


def test_a_quota_that_would_not_bear_it_is_named() -> None:
    load = Load.of(SIZES["large"])
    assert quota_problem(load, 5 * GIB, 8 * GIB) is None
    assert str(quota_problem(load, 6 * GIB, 8 * GIB)) == (
        "the load of large could leave 1.1 GiB in a database of 6 GiB, and etcd's quota is 8 GiB. Expected: 6.4 GiB at "
        "most afterwards: etcd stops all writes at its quota. Defragment the members (docs/load-check.md), raise "
        "etcd.quota-backend-bytes, or check a smaller --size."
    )
    assert str(disk_problem(load, "etcd-2", 900)).startswith("etcd-2 has 900 MiB free for its data. Expected: 1427 MiB")


def test_a_quota_bears_etcds_own_check_as_well_or_it_is_refused() -> None:
    both = Load.of(SIZES["large"], with_check_perf=True)
    assert (both.check_perf, both.growth_bytes) == ("l", (5_000 + 8_000) * 60 * 4096)
    assert {name: Load.of(size, with_check_perf=True).check_perf for name, size in SIZES.items()} == {
        "small": "s",
        "medium": "m",
        "large": "l",
        "xlarge": "xl",
    }
    assert quota_problem(Load.of(SIZES["large"]), 4 * GIB, 8 * GIB) is None
    problem = quota_problem(both, 4 * GIB, 8 * GIB)
    assert problem is not None
    assert problem.fix.endswith("or check a smaller --size, or without --check-perf")


@pytest.mark.parametrize("name", SIZES)
def test_an_empty_cluster_of_each_size_bears_etcds_own_check(name: str) -> None:
    size = SIZES[name]
    assert quota_problem(Load.of(size, with_check_perf=True), 25_000, size.quota_bytes) is None


def test_what_etcds_own_check_says_stands_beside_the_verdict_and_decides_nothing() -> None:
    said = CheckPerf("l", passed=False, lines=["FAIL: Throughput too low: 5005 <writes>/s", "FAIL"])
    found = measured(check_perf=said)
    verdict = judge(found, Limits())
    assert verdict.passed
    assert as_json(found, verdict)["checkPerf"] == {"load": "l", "passed": False, "lines": list(said.lines)}
    assert as_json(measured(), verdict)["checkPerf"] is None
    html = page(found, verdict, "shop/prod/orders")
    assert "FAIL: Throughput too low: 5005 &lt;writes&gt;/s" in html
    assert "known to fail on clusters that pass xl" in html
    assert "known to fail" not in text.check_perf(CheckPerf("s", passed=True, lines=["PASS"]))
    assert "check perf" not in page(measured(), verdict, "shop/prod/orders")


# --- what is read ---


def test_a_report_of_benchmark_is_read() -> None:
    found = Requests.parse(REPORT, 1000, ended=True)
    assert found.percentiles == {10: 0.000854229, 50: 0.001288234, 90: 0.006075047, 99: 0.033594941, 99.9: 0.054717382}
    assert (found.done, found.total_seconds, found.slowest) == (176, 10.01056, 0.054717382)
    assert found.by_second[:2] == [Second(1795753501, 0.001338394, 62.5, 76), Second(1795753502, 0.0, 0.0, 0)]
    assert found.errors == {"etcdserver: request timed out": 3, "rpc error: code = Unavailable desc = [0] no": 1}
    assert found.error_count == 4
    assert found.per_second == pytest.approx(17.58, abs=0.01)


def test_a_benchmark_that_was_ended_has_reported_nothing() -> None:
    found = Requests.parse("", 1000, ended=False)
    assert (found.done, found.per_second, found.percentiles, found.by_second) == (0, 0.0, {}, [])


def test_a_sample_is_read() -> None:
    found = Sample.parse(SAMPLE, 99.0)
    assert (found.seconds, found.clock, found.version, found.processors) == (99.0, 1795753501.5, "3.5.35", 4)
    assert found.histograms[ROUND_TRIP] == {0.001: 6, float("inf"): 7}, "of all peers together"
    own, of_grpc = REQUESTS
    assert found.histograms[f"{own} {PUT}"] == {0.001: 6, float("inf"): 9}
    assert found.histograms[f"{own} {RANGE}"] == {0.001: 7, float("inf"): 7}
    assert found.histograms[f"{of_grpc} {PUT}"] == {0.005: 9, float("inf"): 9}
    assert (found.numbers[DATABASE], found.numbers[LEADER_CHANGES]) == (MIB, 2)
    assert (found.cpu_busy, found.cpu_total) == (165, 1005)
    assert (found.reads, found.bytes_read, found.writes, found.bytes_written, found.disk_busy) == (
        7,
        40_960,
        9,
        512_000,
        2.5,
    )


def test_a_kernel_that_does_not_count_the_disk_leaves_it_out() -> None:
    lines = [line for line in SAMPLE.splitlines() if not line.startswith("disk ")]
    found = Sample.parse("\n".join(lines), 0.0)
    interval = Interval(found, found)
    assert (found.writes, interval.disk_share, interval.writes_per_second) == (None, None, None)


@pytest.mark.parametrize(
    ("after", "quantile", "expected"),
    [
        ({0.001: 100.0, 0.002: 100.0, float("inf"): 100.0}, 0.99, 0.00099),
        ({0.001: 50.0, 0.002: 100.0, float("inf"): 100.0}, 0.75, 0.0015),
        ({0.001: 98.0, 0.002: 98.0, float("inf"): 100.0}, 0.99, float("inf")),
        ({0.001: 0.0, 0.002: 0.0, float("inf"): 0.0}, 0.99, None),
        ({}, 0.99, None),
    ],
    ids=["in the first bucket", "between", "beyond the last", "no events", "no such metric"],
)
def test_a_quantile_is_what_prometheus_would_say(after: dict[float, float], quantile: float, expected: Any) -> None:
    interval = Interval(sample(0, histograms={}), sample(5, histograms={FSYNC: after}))
    found = interval.quantile(FSYNC, quantile)
    assert found == (None if expected is None else pytest.approx(expected))


def test_only_what_happened_in_an_interval_counts() -> None:
    before = {0.001: 0.0, 1.0: 1000.0, float("inf"): 1000.0}
    after = {0.001: 100.0, 1.0: 1100.0, float("inf"): 1100.0}
    interval = Interval(sample(0, histograms={FSYNC: before}), sample(5, histograms={FSYNC: after}))
    assert interval.quantile(FSYNC, 0.99) == pytest.approx(0.00099)
    assert interval.count(FSYNC) == 100


def test_percentiles_over_time_are_of_all_members_together() -> None:
    """One member of three is slow, from the 30th second on: a third of the writes are, and none of the reads."""
    found = measured(slow={"etcd-2": 30})
    for quantile in (0.5, 0.9, 0.99):
        assert [at for at, _ in found.served(PUT, quantile)] == list(range(0, 65, 5))
    slow = dict(found.served(PUT, 0.99))
    assert max(slow[at] for at in range(0, 35, 5)) < 0.002
    assert min(slow[at] for at in range(40, 65, 5)) > 0.016
    assert max(seconds for _, seconds in found.served(PUT, 0.5)) < 0.002
    assert max(seconds for _, seconds in found.served(RANGE, 0.99)) < 0.002
    document = as_json(found, judge(found, Limits()))
    assert document["writes"]["served"]["99"][-1] == [60.0, pytest.approx(slow[60])]


def test_a_member_that_gave_no_sample_once_loses_no_request() -> None:
    found = measured(slow={"etcd-2": 30})
    whole = found.samples["etcd-2"]
    fewer = measured(samples={**found.samples, "etcd-2": [each for each in whole if each is not whole[5]]})
    assert [at for at, _ in fewer.served(PUT, 0.99)] == [at for at, _ in found.served(PUT, 0.99)]


def test_what_etcd_does_not_count_is_not_drawn() -> None:
    without = {
        name: [replace(each, histograms={FSYNC: each.histograms[FSYNC]}) for each in samples]
        for name, samples in measured().samples.items()
    }
    found = measured(samples=without)
    assert found.served(PUT, 0.99) == []
    verdict = judge(found, Limits())
    assert "Counted by etcd 3.7, and before it with etcd: {metrics: extensive}." in page(found, verdict, "a/b/c")
    assert as_json(found, verdict)["reads"]["served"] == {"50": [], "90": [], "99": []}


@pytest.mark.parametrize("series", ["3.4", "3.5", "3.6", "3.7"])
def test_every_metric_that_is_read_is_one_of_the_minors(series: str) -> None:
    """Of REQUESTS the first came with 3.7, which docs/load-check.md says as well."""
    recorded = set((METRICS / f"{series}.txt").read_text().split())
    assert recorded >= {*HISTOGRAMS, *NUMBERS, REQUESTS[1]}
    assert (REQUESTS[0] in recorded) == (series == "3.7")


# --- the verdict ---


def broken(verdict: Verdict) -> list[tuple[Quantity, str, float | None]]:
    return [(each.quantity, each.member, each.first_broken) for each in verdict.broken]


@pytest.mark.parametrize("name", SIZES)
def test_a_cluster_that_does_what_the_row_promises_passes(name: str) -> None:
    verdict = judge(measured(name), Limits())
    assert verdict.passed, broken(verdict)
    assert len(verdict.judgements) == 6 + 2 * 3 + 1


def test_the_disk_that_became_slow_first_is_named_first() -> None:
    found = measured(slow={"etcd-3": 40, "etcd-2": 20})
    verdict = judge(found, Limits())
    assert broken(verdict) == [(Quantity.FSYNC, "etcd-2", 20), (Quantity.FSYNC, "etcd-3", 40)]
    why = text.failure(found, verdict)
    assert "99 % of the log's syncs of etcd-2: within 31 ms, first after 20 s; then" in why.problem
    assert why.expected == "99 % of the log's syncs less than 10 ms"
    assert "faster disk" in why.fix


def test_the_row_is_judged() -> None:
    slow = [Second(int(BEGAN) + at, 0.3, 0.9, 100 if at < 30 else 20) for at in range(60)]
    writes = requests(100, by_second=slow, total_seconds=90.0, percentiles={99.0: 0.8}, errors={"timed out": 2})
    verdict = judge(measured(writes=writes), Limits())
    assert {each[0]: each[2] for each in broken(verdict)} == {
        Quantity.WRITES: 31.0,
        Quantity.WRITE_LATENCY: 6.0,
        Quantity.SLOWEST: 6.0,
        Quantity.ERRORS: None,
    }


def test_slow_requests_while_clients_connect_are_no_fault() -> None:
    connecting = [Second(int(BEGAN) + at, 0.01, 2.0 if at < 5 else 0.02, 100) for at in range(60)]
    assert judge(measured(reads=requests(100, by_second=connecting, slowest=2.0)), Limits()).passed


def test_requests_that_were_not_done_in_time_fail_the_row() -> None:
    writes = Requests.parse("", 6000, ended=False)
    verdict = judge(measured(writes=writes), Limits())
    assert {Quantity.WRITES, Quantity.WRITE_LATENCY} <= {each[0] for each in broken(verdict)}
    problem = text.failure(measured(writes=writes), verdict).problem
    assert "writes a second: not all were answered in time; then 99 % of the writes: not measured" in problem


def test_a_leader_that_changed_and_processors_that_were_busy_are_told() -> None:
    found = measured()
    changed = [
        sample(at, numbers={LEADER_CHANGES: 1.0 + (at >= 30)}, cpu_busy=195.0 * (at + 5)) for at in range(-5, 65, 5)
    ]
    found = measured(samples={**found.samples, "etcd-1": changed})
    verdict = judge(found, Limits())
    assert broken(verdict) == [(Quantity.LEADER_CHANGES, "", 25)]
    assert verdict.busy == {"etcd-1": ["processors"]}
    assert "At work nearly all of the time: processors of etcd-1" in text.failure(found, verdict).problem


def test_a_client_whose_processors_were_the_limit_is_named_and_judged_by_no_other_limit() -> None:
    busy = [sample(at, histograms={}, cpu_busy=198.0 * (at + 5)) for at in range(-5, 65, 5)]
    slow = requests(100, percentiles={99.0: 0.8})
    found = measured(generator="client app-1", of_client=busy, writes=slow)
    verdict = judge(found, Limits())
    assert broken(verdict) == [(Quantity.WRITE_LATENCY, "", None)]
    assert verdict.busy == {"client app-1": ["processors"]}
    why = text.failure(found, verdict)
    assert "At work nearly all of the time: processors of client app-1" in why.problem
    assert why.fix.startswith("load from a machine with more processors")
    document = as_json(found, verdict)
    assert document["client"]["cpu"] == pytest.approx(0.99, abs=0.02)
    assert document["members"].keys() == {"etcd-1", "etcd-2", "etcd-3"}
    html = page(found, verdict, "a/b/c")
    assert "client app-1, whose 2 processors were at work 99 %" in html
    assert html.count("client app-1</li>") == 1, "in the plot of processors alone"


def test_a_slow_disk_is_blamed_before_the_client() -> None:
    busy = [sample(at, histograms={}, cpu_busy=198.0 * (at + 5)) for at in range(-5, 65, 5)]
    found = measured(slow={"etcd-3": 0}, generator="client app-1", of_client=busy)
    assert "faster disk" in text.failure(found, judge(found, Limits())).fix


def test_without_any_sync_the_disk_is_not_proven() -> None:
    idle = [sample(at, histograms={}) for at in (-5, 60)]
    verdict = judge(measured(samples={"etcd-1": idle}), Limits())
    assert {each.quantity: each.measured for each in verdict.broken} == {Quantity.FSYNC: None, Quantity.COMMIT: None}


def test_programs_get_numbers_that_json_has() -> None:
    import json

    found = measured()
    endless = sample(65, histograms={FSYNC: {0.001: 0.0, float("inf"): 9.0}, COMMIT: {}})
    found = measured(samples={**found.samples, "etcd-1": [*found.samples["etcd-1"][:1], endless]})
    document = as_json(found, judge(found, Limits()))
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert (document["passed"], document["members"]["etcd-2"]["version"]) == (False, "3.6.16")


# --- what users write ---


def arguments(**given: Any) -> EtcdClusterArgs:
    return EtcdClusterArgs(machines=LocalMachines(), **given)


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"load_check": "yes"}, "loadCheck"),
        ({"load_check": "require", "restore_from": "latest"}, "loadCheck"),
        ({"load_generator": LoadGenerator("archive", "/x")}, "loadGenerator"),
        ({"load_check": "report", "load_generator": LoadGenerator("release")}, "loadGenerator.from"),  # type: ignore[arg-type]
        ({"load_check": "report", "load_generator": LoadGenerator("archive")}, "loadGenerator.archive"),
        ({"load_check": "report", "load_generator": LoadGenerator(archive="/x")}, "loadGenerator.archive"),
        (
            {"load_check": "report", "load_generator": LoadGenerator("archive", "/x", go_proxy="direct")},
            "loadGenerator.goProxy",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_its_key(given: dict[str, Any], key: str) -> None:
    from etcd_cluster.backup.arguments import Backup

    with pytest.raises(ConfigurationError) as refused:
        validate_arguments(arguments(backup=Backup("/mnt/backups"), **given))
    assert refused.value.key == key


def test_a_load_generator_of_the_users_is_taken() -> None:
    assert validate_load_generator(LoadGenerator("archive", "/opt/benchmark")).archive == "/opt/benchmark"
