"""How writes under a change are judged: what counts as a stall and as lost, and the messages they travel in."""

from __future__ import annotations

import dataclasses
import json

import pytest

from tests.lab import wire
from tests.lab.writes import Access, Failure, Result, Write, longest_stall, lost_writes, percentile


def write(started: float, ended: float, error: str | None = None) -> Write:
    return Write(key=f"key-{started}", value=f"value-{started}", started=started, ended=ended, attempts=1, error=error)


STALLS = {
    "none were written": ([], (0.0, 0.0)),
    "one write's own time": ([write(1.0, 1.2)], (0.2, 1.0)),
    "idle clients do not stall": ([write(1.0, 1.1), write(5.0, 5.2)], (0.2, 5.0)),
    "one client waits while another writes on": (
        [write(1.0, 4.0), write(1.5, 2.0), write(2.0, 3.25), write(3.25, 3.5)],
        (1.25, 2.0),
    ),
    "all wait": ([write(1.0, 1.1), write(1.2, 4.2), write(1.5, 4.3)], (3.0, 1.2)),
    "what began before the block counts from its start": ([write(-5.0, 1.0)], (1.0, 0.0)),
    "what ended before it does not count": ([write(-5.0, -1.0), write(0.5, 0.6)], (0.1, 0.5)),
    "a write that was given up waited, too": ([write(1.0, 3.0, "gone"), write(3.1, 3.2), write(3.3, 3.4)], (2.2, 1.0)),
    "also as the last one": ([write(1.0, 1.1), write(1.2, 3.0, "gone")], (1.8, 1.2)),
}


@pytest.mark.parametrize("case", STALLS)
def test_the_longest_stall(case: str) -> None:
    writes, (seconds, began) = STALLS[case]
    assert longest_stall(writes, since=0.0) == pytest.approx((seconds, began))


def test_a_write_is_lost_where_any_member_lacks_it_or_has_another_value() -> None:
    writes = [write(1.0, 2.0), write(2.0, 3.0), write(3.0, 4.0)]
    complete = {each.key: each.value for each in writes}
    behind = {"key-1.0": "value-1.0", "key-2.0": "older"}
    assert lost_writes(writes, {"a": complete, "b": complete}, began=0.5) == ()
    assert lost_writes(writes, {"a": complete, "b": behind}, began=0.5) == (
        Failure("key-2.0", 1.5, "b has older, not value-2.0"),
        Failure("key-3.0", 2.5, "b does not have it"),
    )


def test_a_result_survives_the_way_from_the_process_of_the_clients() -> None:
    failure = Failure("key", 1.5, "gone")
    result = Result(
        acknowledged=1,
        lost=(failure,),
        failed=(failure, failure),
        retried=3,
        retry_errors={"UNAVAILABLE": 2},
        seconds=1.0,
        longest_stall_seconds=0.5,
        stall_at_seconds=0.1,
        longest_write_seconds=0.6,
        p99_write_seconds=0.4,
        own_delay_seconds=0.0,
        first_revision=2,
        last_revision=9,
        read_revision=9,
        read_through=("http://a", "http://b"),
        cluster_ids=(7,),
    )
    assert Result.read(json.loads(json.dumps(dataclasses.asdict(result)))) == result
    for said in ("1 lost", "2 failed", "lost: key, 1.50 s after the start: gone", "2 times: UNAVAILABLE"):
        assert said in str(result)


def test_a_private_key_is_not_shown() -> None:
    outputs = {"endpoints": ["https://a"], "caCertificate": "CA", "clientCertificate": "OURS", "clientKey": "SECRET"}
    access = Access.of(outputs)
    assert access.key == "SECRET"
    assert "SECRET" not in repr(access)


# --- messages ---


def test_a_put_is_as_any_client_sends_it() -> None:
    assert wire.put_request("key", "v" * 200) == b"\n\x03key\x12\xc8\x01" + b"v" * 200


def test_a_page_of_keys_is_asked_for() -> None:
    assert wire.range_request("a/", wire.prefix_end("a/"), limit=1000) == b"\n\x02a/\x12\x02a0\x18\xe8\x07"
    assert wire.range_request("a", "b", limit=1, revision=300).endswith(b"\x18\x01\x20\xac\x02")


def test_answers_are_read_with_fields_that_are_not_known_here() -> None:
    header = wire.encode({1: 2**64 - 1, 2: 5, 3: 300, 4: 2})
    pairs = [wire.encode({1: key, 2: 3, 3: 4, 5: value, 99: b"new"}) for key, value in ((b"a", b"1"), (b"b", b"2"))]
    message = wire.encode({1: header}) + b"".join(wire.encode({2: pair}) for pair in pairs) + wire.encode({3: 1, 4: 9})
    assert wire.put_answer(wire.encode({1: header})) == wire.Header(2**64 - 1, 5, 300)
    page = wire.range_answer(message + b"\x55\x00\x00\x00\x00" + b"\x51" + bytes(8))  # and two of fixed size
    assert page == wire.Page(wire.Header(2**64 - 1, 5, 300), {"a": "1", "b": "2"}, more=True)
    assert wire.range_answer(b"") == wire.Page(wire.Header(0, 0, 0), {}, more=False)


@pytest.mark.parametrize("message", [b"\n\x05abc", b"\n", b"\x80", b"\x0c", b"\x09\x00"])
def test_what_is_no_message_is_refused(message: bytes) -> None:
    with pytest.raises(ValueError, match=r"field|number"):
        list(wire.decode(message))


def test_ninety_nine_of_a_hundred_values_do_not_pass_it() -> None:
    assert percentile([float(number) for number in range(100, 0, -1)], 0.99) == 99
    assert percentile([3.0], 0.99) == 3
