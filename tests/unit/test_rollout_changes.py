"""What a change of the stack is refused for, and what a reviewer reads of one that is not. No machine is asked."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Any

import pytest
from pulumi.output import Unknown
from pulumi.runtime.rpc import UNKNOWN

from etcd_cluster.etcd.versions import UnsupportedChange
from etcd_cluster.rollout import changes
from etcd_cluster.rollout.planner.actions import Refusal
from etcd_cluster.rollout.planner.messages import Reason

MEMBERS = {f"host-{number}": f"10.0.0.{number}" for number in (1, 2, 3)}
FOUR, FIVE = {"host-4": "10.0.0.4"}, {"host-4": "10.0.0.4", "host-5": "10.0.0.5"}
ALL = "host-1, host-2, host-3"


def desired(**changes: Any) -> str:
    """The part of it that is compared."""
    member = {"ports": {"client": 2379}, "layout": {"data": "/data"}, "device": "/dev/nvme1n1"}
    whole = {"options": {"snapshot-count": 10_000}, "members": {name: member for name in MEMBERS}}
    return json.dumps({**whole, **changes})


def placed(**places: dict[str, Any]) -> dict[str, Any]:
    """Input: where members' data are, by the last letters of their names; the others have no device."""
    usual = {"ports": "2379,2380,2381"}
    return {name: {**usual, **places.get(name.replace("-", "_"), {})} for name in MEMBERS}


DISK = {"device": "/dev/nvme1n1"}
ALL_ON_DISKS = placed(host_1=DISK, host_2=DISK, host_3=DISK)
LOCAL = {f"etcd-{number}": "127.0.0.1" for number in (1, 2, 3)}


def local(base: int, directory: str = "/srv/etcd") -> dict[str, Any]:
    ports = {name: base + 10 * index for index, name in enumerate(LOCAL)}
    places = {
        name: {"directory": f"{directory}/{name}", "ports": f"{first},{first + 1},{first + 2}"}
        for name, first in ports.items()
    }
    return {"members": LOCAL, "places": places}


BASE: dict[str, Any] = {
    "version": "3.6.15",
    "tls": True,
    "size": "small",
    "etcd": {},
    "members": MEMBERS,
    "places": placed(),
    "ca_fingerprints": ["aaaa"],
    "peer_ca_fingerprints": ["pppp"],
    "allow_plaintext": False,
    "delete_data": False,
    "desired": desired(),
    "connections": {},
}
PLAINTEXT = {"tls": False, "ca_fingerprints": [], "peer_ca_fingerprints": [], "allow_plaintext": True}
EARLIER = {"peer_ca_fingerprints": None}
"""A state from before members had a CA of their own."""
BOTH = [
    ("ca_fingerprints", ["bbbb"], ["bbbb", "aaaa"]),
    ("peer_ca_fingerprints", ["qqqq"], ["qqqq", "pppp"]),
]


IN_PLACE = {"key": "restoreInPlace", "cluster": "c1", "from": "latest", "lost": []}
RECOVER = {"key": "recover", "cluster": "c1", "from": "", "lost": []}


def restoring(asked: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"restoration": {**asked, **changes}}


@pytest.mark.parametrize(
    ("news", "keys"),
    [
        ({"restore_from": "", "restoration": None}, set[str]()),
        ({"restore_from": "latest", **restoring(IN_PLACE, **{"from": "./x"})}, {"restoreFrom"}),
        ({"restore_from": "", **restoring(IN_PLACE)}, {"restoreInPlace.from"}),
        ({"restore_from": "latest", **restoring(RECOVER, **{"from": "latest"})}, {"restoreFrom", "recover.from"}),
    ],
)
def test_the_keys_that_say_latest_are_known_by_what_the_user_set(news: dict[str, Any], keys: set[str]) -> None:
    assert changes.keys_of_latest(news) == keys


def without(*names: str) -> dict[str, str]:
    return {name: address for name, address in MEMBERS.items() if name not in names}


# --- refused ---


@pytest.mark.parametrize(
    ("before", "after", "reason", "details"),
    [
        ({}, {"members": FIVE}, Refusal.NO_MEMBER_STAYS, {"new": ["host-4", "host-5"], "old": [*MEMBERS]}),
        ({}, {"tls": False}, Refusal.TLS_TURNED_OFF, {}),
        ({}, {"version": "3.7.3", "tls": False}, Refusal.TLS_TURNED_OFF, {}),
        (
            {},
            {**PLAINTEXT, "members": MEMBERS | FIVE},
            Refusal.TLS_TURNED_OFF_AND_MEMBERS_CHANGED,
            {"members": ["host-4", "host-5"]},
        ),
        (
            {},
            {**PLAINTEXT, "members": MEMBERS | {"host-2": "10.0.9.2"}},
            Refusal.TLS_TURNED_OFF_AND_MEMBERS_CHANGED,
            {"members": ["host-2"]},
        ),
        *(
            (
                {},
                {which: [new], "members": MEMBERS | changed},
                Refusal.CA_REPLACED_AND_MEMBERS_CHANGED,
                {"members": [name]},
            )
            for which, new in (("ca_fingerprints", "bbbb"), ("peer_ca_fingerprints", "qqqq"))
            for name, changed in (("host-4", FOUR), ("host-1", {"host-1": "::1"}))
        ),
        ({}, {"version": "3.6.14"}, UnsupportedChange.OLDER_PATCH, {"running": "3.6.15", "desired": "3.6.14"}),
        ({}, {"version": "3.5.35"}, UnsupportedChange.OLDER_MINOR, {"running": "3.6.15", "desired": "3.5.35"}),
        ({"version": "3.4.9"}, {"version": "3.6.16"}, UnsupportedChange.MINOR_SKIPPED, {"first": "3.5.35"}),
        ({"version": "3.5.9"}, {"version": "3.6.16"}, UnsupportedChange.PATCH_TOO_OLD, {"floor": "3.5.32"}),
        ({}, {"places": ALL_ON_DISKS}, Refusal.SEVERAL_DEVICES_CHANGED, {"members": [*MEMBERS]}),
        (
            {"places": ALL_ON_DISKS},
            {"places": placed(host_2=DISK)},
            Refusal.SEVERAL_DEVICES_CHANGED,
            {"members": ["host-1", "host-3"]},
        ),
        (
            local(2379),
            local(2379, "/srv/new"),
            Refusal.DIRECTORY_CHANGED_WITH_CLUSTER,
            {"members": [*LOCAL], "old": "/srv/etcd/etcd-1", "new": "/srv/new/etcd-1"},
        ),
        (
            local(2379, "/srv/dev/etcd"),
            local(2379, "/srv/production/etcd"),
            Refusal.DIRECTORY_CHANGED_WITH_STACK,
            {"directory": PurePath("/srv/dev")},
        ),
        (
            local(2379, "/srv/dev/etcd"),
            local(2379, "/srv/dev/database"),
            Refusal.DIRECTORY_CHANGED_WITH_CLUSTER,
            {"cluster": "etcd", "renamed": "database"},
        ),
        # Of a platform of the caller's own.
        (
            {"places": placed(host_1={"directory": "/etcd-1"})},
            {"places": placed(host_1={"directory": "/data"})},
            Refusal.DIRECTORY_CHANGED,
            {"old": "/etcd-1", "new": "/data"},
        ),
        (
            {},
            {"places": placed(host_1={"directory": "/x"})},
            Refusal.DIRECTORY_CHANGED,
            {"old": "the system's own directories", "new": "/x"},
        ),
        (
            local(2379),
            local(2389),
            Refusal.PORT_OF_ANOTHER_MEMBER,
            {"member": "etcd-1", "ports": ["2389", "2390", "2391"], "address": "127.0.0.1", "other": "etcd-2"},
        ),
        ({}, {"restore_from": "latest"}, Refusal.RESTORE_OF_RUNNING_CLUSTER, {"backup": "latest"}),
        ({"restore_from": "a"}, {"restore_from": "b"}, Refusal.RESTORE_OF_RUNNING_CLUSTER, {"backup": "b"}),
        *(
            (
                {},
                {**restoring(asked), **changed},
                Refusal.RESTORE_WITH_OTHER_CHANGES,
                {"key": asked["key"], "changed": [*changed]},
            )
            for asked, changed in (
                (IN_PLACE, {"version": "3.6.16"}),
                (IN_PLACE, {"version": "3.6.16", "etcd": {"heartbeat-interval": 200}}),
                *((asked, {"size": "medium"}) for asked in (IN_PLACE, RECOVER)),
                *((asked, {"etcd": {"heartbeat-interval": 200}}) for asked in (IN_PLACE, RECOVER)),
            )
        ),
        *(
            (
                {},
                {**restoring(IN_PLACE), "members": members},
                Refusal.RESTORE_WITH_OTHER_CHANGES,
                {"changed": [f"the list of members (it was {ALL})"]},
            )
            for members in (MEMBERS | FOUR, without("host-2"), without("host-2") | FOUR)
        ),
        (
            {},
            {**restoring(IN_PLACE), "members": MEMBERS | {"host-2": "10.0.9.2"}},
            Refusal.RESTORE_WITH_OTHER_CHANGES,
            {"changed": ["the machine of host-2"]},
        ),
        (restoring(IN_PLACE), restoring(IN_PLACE, **{"from": "t/b"}), Refusal.RESTORE_DONE, {"cluster": "c1"}),
        *(
            ({"given_up": ["c0", "c1"]}, restoring(asked), Refusal.RESTORE_DONE, {"cluster": "c1"})
            for asked in (IN_PLACE, RECOVER)
        ),
        (
            {"given_up": ["c1", "c2"], **restoring(IN_PLACE, cluster="c2")},
            restoring(IN_PLACE),
            Refusal.RESTORE_DONE,
            {"cluster": "c1"},
        ),
        (restoring(RECOVER), restoring(RECOVER, **{"from": "host-2"}), Refusal.RESTORE_DONE, {"key": "recover"}),
    ],
)
def test_what_cannot_be_done_safely_is_refused(
    before: dict[str, Any], after: dict[str, Any], reason: Reason, details: dict[str, object]
) -> None:
    (refused,) = changes.refusals({**BASE, **before}, {**BASE, **before, **after})
    assert (refused.kind, {**refused.details, **details}) == (reason, refused.details)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {}),
        ({}, {"version": "3.6.16"}),
        ({}, {"version": "3.7.3"}),
        ({}, {"members": MEMBERS | FIVE}),
        ({}, {"members": without("host-1", "host-2")}),
        ({}, {"members": MEMBERS | {"host-2": "10.0.9.2"}}),
        ({}, PLAINTEXT),
        (
            PLAINTEXT,
            {"tls": True, "ca_fingerprints": ["aaaa"], "peer_ca_fingerprints": ["p"], "members": MEMBERS | FIVE},
        ),
        ({}, {**PLAINTEXT, "members": without("host-3")}),
        ({}, {"ca_fingerprints": ["bbbb", "aaaa"], "members": MEMBERS | FIVE}),
        ({"ca_fingerprints": ["bbbb", "aaaa"]}, {"ca_fingerprints": ["bbbb"], "members": MEMBERS | FIVE}),
        ({}, {"ca_fingerprints": ["bbbb"]}),
        ({}, {"places": placed(host_2=DISK)}),
        ({"places": ALL_ON_DISKS}, {"places": placed(host_1=DISK, host_2=DISK)}),
        ({"places": ALL_ON_DISKS}, {"places": placed(**{f"host_{n}": {"device": "/dev/sdb"} for n in (1, 2, 3)})}),
        ({}, {"places": {**placed(), "host-4": {**DISK, "ports": "2379,2380,2381"}}, "members": MEMBERS | FOUR}),
        (local(2379), local(2479)),
        ({"members": LOCAL, "places": placed()}, local(2479)),
        ({}, {"peer_ca_fingerprints": ["qqqq", "pppp"], "members": MEMBERS | FIVE}),
        ({}, {"peer_ca_fingerprints": ["qqqq"]}),
        (EARLIER, {"peer_ca_fingerprints": ["pppp"], "members": MEMBERS | FIVE}),
        (EARLIER, {"peer_ca_fingerprints": ["pppp"], "members": MEMBERS | {"host-2": "10.0.9.2"}}),
        (EARLIER, {"peer_ca_fingerprints": UNKNOWN, "members": MEMBERS | {"host-2": "10.0.9.2"}}),
        ({"restore_from": "latest"}, {"restore_from": None}),
        ({}, restoring(IN_PLACE)),
        ({}, restoring(RECOVER, lost=["host-3"])),
        ({}, {**restoring(RECOVER), "members": without("host-3") | FOUR}),
        ({}, {**restoring(RECOVER), "members": MEMBERS | {"host-2": "10.0.9.2"}}),  # as `up` asks for then
        ({}, {**restoring(RECOVER), "version": "3.7.3"}),  # which its data are of, after an upgrade that was cut off
        (restoring(IN_PLACE), {"restoration": None}),
        (restoring(IN_PLACE), {"version": "3.6.16"}),
        (restoring(IN_PLACE), restoring(IN_PLACE, cluster="c2", **{"from": "t/b"})),
    ],
)
def test_what_can_be_done_passes(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert changes.refusals({**BASE, **before}, {**BASE, **before, **after}) == []


@pytest.mark.parametrize("unknown", [Unknown(), UNKNOWN])
def test_what_is_not_known_yet_passes(unknown: object) -> None:
    later = {
        "members": {name: unknown for name in MEMBERS},
        "ca_fingerprints": unknown,
        "desired": unknown,
        "places": unknown,
    }
    assert changes.refusals(BASE, {**BASE, **later}) == []
    assert changes.refusals(BASE, {**BASE, **later, **PLAINTEXT, "ca_fingerprints": unknown}) == []


@pytest.mark.parametrize("unknown", [Unknown(), UNKNOWN])
def test_a_device_that_is_not_known_yet_is_a_device(unknown: object) -> None:
    later = placed(**{f"host_{number}": {"device": unknown} for number in (1, 2, 3)})
    assert changes.refusals({**BASE, "places": ALL_ON_DISKS}, {**BASE, "places": later}) == []
    (refusal,) = changes.refusals(BASE, {**BASE, "places": later})
    assert (refusal.kind, refusal.details) == (Refusal.SEVERAL_DEVICES_CHANGED, {"members": [*MEMBERS]})


def test_a_state_that_does_not_show_places_is_compared_by_what_it_keeps() -> None:
    ports = {"client": 2379.0, "peer": 2380.0, "metrics": 2381.0}
    system = {"supervisor": "systemd", "binaries": "/opt/etcd/bin"}
    before = {name: {"ports": ports, "layout": system, "device": None} for name in MEMBERS}
    olds = {key: value for key, value in BASE.items() if key != "places"}
    olds["desired"] = desired(members=before)
    assert changes.places(olds) == placed()
    assert changes.refusals(olds, BASE) == []
    (refusal,) = changes.refusals(olds, {**BASE, "places": ALL_ON_DISKS})
    assert (refusal.kind, refusal.details) == (Refusal.SEVERAL_DEVICES_CHANGED, {"members": [*MEMBERS]})
    process = {"supervisor": "process", "binaries": "/srv/etcd/bin"}
    olds["desired"] = desired(members={name: {"ports": ports, "layout": process} for name in MEMBERS})
    assert changes.places(olds)["host-1"] == {"directory": "/srv/etcd", "ports": "2379,2380,2381"}


# --- what will be done ---


def test_the_first_one_forms() -> None:
    assert changes.first_steps(BASE) == [f"a new cluster of etcd 3.6.15 is formed: {ALL}"]
    assert changes.first_refusals(BASE) == []


def test_the_first_one_forms_out_of_a_backup() -> None:
    assert changes.first_steps({**BASE, "restore_from": "latest"}) == [
        "host-1 starts with backup latest of etcd's data, once its restore is proven",
        "host-2 joins as a learner, gets all data, and is promoted",
        "host-3 joins as a learner, gets all data, and is promoted",
    ]


@pytest.mark.parametrize("asked", [IN_PLACE, RECOVER])
def test_what_takes_the_place_of_data_needs_some(asked: dict[str, Any]) -> None:
    (refused,) = changes.first_refusals({**BASE, **restoring(asked)})
    assert (refused.kind, refused.details) == (Refusal.RESTORE_OF_NEW_CLUSTER, {"key": asked["key"]})


ROLL = "one at a time, followers first, the leader last"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {}, []),
        ({}, {"allow_plaintext": True, "delete_data": True, "connections": {"host-1": {}}}, []),
        ({}, {"etcd": {"heartbeat-interval": 200}}, [f"{ALL}: restarted for heartbeat-interval, {ROLL}"]),
        (
            {"etcd": {"log-level": "debug"}},
            {"etcd": {"heartbeat-interval": 200}, "size": "medium"},
            [f"{ALL}: restarted for heartbeat-interval, log-level, the quota of the size, {ROLL}"],
        ),
        (
            {},
            {"version": "3.6.16"},
            ["a snapshot is taken and checked before the first member moves", f"{ALL}: 3.6.15 -> 3.6.16, {ROLL}"],
        ),
        (
            {"version": "3.5.35"},
            {"version": "3.6.16", "etcd": {"log-level": "debug"}},
            [
                "a snapshot is taken and checked before the first member moves",
                f"{ALL}: restarted once before, where their log could not be read by 3.6 (one at a time)",
                f"{ALL}: checked for data of etcd's old v2 API",
                f"{ALL}: 3.5.35 -> 3.6.16, {ROLL}",
            ],
        ),
        (
            {},
            {"members": without("host-3") | FOUR},
            [
                "host-3 leaves the cluster (leadership moves away first), and is stopped; its data stays",
                "host-4 joins as a learner, gets all data, and is promoted",
            ],
        ),
        (
            {},
            {"members": MEMBERS | {"host-2": "10.0.9.2"}},
            ["host-2 moves to another address: its peer URL is updated in the cluster first, then it is restarted"],
        ),
        (
            {},
            {"places": placed(host_2=DISK)},
            [
                "host-2: its data move to its device: it joins anew as a learner, once its old data were moved away "
                "there by hand (docs/move-data-to-a-device.md); before that, nothing is done"
            ],
        ),
        (
            {},
            {"places": placed(host_2={"ports": "3379,3380,3381"})},
            [
                "host-2 moves from ports 2379,2380,2381 to 3379,3380,3381: its peer URL is updated in "
                "the cluster first, then it is restarted, one at a time; clients change their endpoints"
            ],
        ),
        *(
            case
            for begun, over in (
                ({which: overlap for which, _, overlap in changed}, {which: new for which, new, _ in changed})
                for changed in (BOTH[:1], BOTH[1:], BOTH)
            )
            for case in (
                (
                    {},
                    begun,
                    ["every member trusts the new CA as well as the old one, and is restarted (one at a time)"],
                ),
                (
                    begun,
                    over,
                    [
                        "every member shows a certificate by the new CA, without a restart",
                        "every member ceases to trust the old CA, and is restarted (one at a time)",
                    ],
                ),
            )
        ),
    ],
)
def test_a_change_reads_as_the_steps_that_it_takes(
    before: dict[str, Any], after: dict[str, Any], expected: list[str]
) -> None:
    assert changes.steps({**BASE, **before}, {**BASE, **before, **after}) == expected


ALL_STOP = [
    "all members stop; their data are renamed (data.removed-TIME), and none are deleted",
    "one member starts with the restored data, as a new cluster that no member of the old one can join; revisions are "
    "raised, so that watches start anew",
    "the others join it as learners, get all data, and are promoted",
]
GIVEN_UP = "GIVEN UP: the data of cluster c1, if that is this cluster's id: "
OF_THE_LEFT = (
    "the member that is left and has the highest revision, is asked for a snapshot of its data, running "
    "alone; the restore of that is tested there"
)


@pytest.mark.parametrize(
    ("asked", "begin"),
    [
        *(
            (
                restoring(asked, **{"from": source}),
                [
                    f"{GIVEN_UP}every write since {source} was made",
                    f"a restore of {source} is tested beside the data of a follower; if that fails, nothing is stopped",
                    "what is there is backed up, if a member answers",
                ],
            )
            for asked, source in ((IN_PLACE, "latest"), (IN_PLACE, "./backup.db"), (RECOVER, "latest"))
        ),
        (restoring(RECOVER), [f"{GIVEN_UP}the data of all others", OF_THE_LEFT]),
        (
            restoring(RECOVER, **{"from": "host-2"}, lost=["host-3"]),
            [
                f"{GIVEN_UP}the data of all others: host-1, host-3",
                "GIVEN UP: whatever host-3 holds, which gives no answer and may not come back unwiped",
                "host-2 is asked for a snapshot of its data, running alone; the restore of that is tested there",
            ],
        ),
    ],
)
def test_what_a_restore_gives_up_is_told_first(asked: dict[str, Any], begin: list[str]) -> None:
    assert changes.steps(BASE, {**BASE, **asked}) == [*begin, *ALL_STOP]
    assert changes.given_up(BASE, {**BASE, **asked}) == ["c1"]


def test_a_restore_that_was_done_is_told_no_more_and_its_cluster_stays_given_up() -> None:
    done = {**BASE, **restoring(IN_PLACE), "given_up": ["c1"]}
    assert changes.steps(done, done) == []
    assert changes.steps(done, {**done, "version": "3.6.16"})[-1] == f"{ALL}: 3.6.15 -> 3.6.16, {ROLL}"
    without_key = {**done, "restoration": None}
    assert changes.steps(done, without_key) == []
    assert changes.given_up(done, without_key) == ["c1"]
    assert changes.given_up(without_key, {**BASE, **restoring(RECOVER, cluster="c2")}) == ["c1", "c2"]
    assert changes.given_up(BASE, BASE) is None


def test_what_a_user_of_a_new_version_should_know_stands_below_its_steps() -> None:
    steps = changes.steps({**BASE, "version": "3.4.9"}, {**BASE, "version": "3.5.35"})
    assert steps[-1].startswith("note: etcd 3.4.9 to 3.5.35: ")
    assert steps[-2] == f"{ALL}: 3.4.9 -> 3.5.35, {ROLL}"


def test_all_of_a_large_change_is_told_in_the_order_in_which_it_is_done() -> None:
    after = {
        "version": "3.7.3",
        "members": without("host-3") | FOUR | {"host-2": "10.0.9.2"},
        "ca_fingerprints": ["bbbb", "aaaa"],
    }
    found = changes.steps(BASE, {**BASE, **after})
    words = ["host-3 leaves", "host-4 joins", "host-2 moves", "trusts the new CA", "a snapshot", "-> 3.7.3"]
    positions = [next(number for number, step in enumerate(found) if word in step) for word in words]
    assert positions == sorted(positions)


@pytest.mark.parametrize("known", [["pppp"], UNKNOWN, Unknown()], ids=["known", "unknown", "Unknown"])
def test_a_cluster_of_an_earlier_release_is_told_how_its_peer_port_is_closed(known: object) -> None:
    before, after = {**BASE, **EARLIER}, {**BASE, "peer_ca_fingerprints": known}
    steps = changes.steps(before, after)
    assert steps[0].startswith(
        "the peer port gets a CA of its own, so that only members are let in there: every member"
    )
    assert [step.endswith("and is restarted (one at a time)") for step in steps] == [True, False, True]
    assert changes.steps(before, {**after, **PLAINTEXT})[0].startswith("every member leaves TLS towards clients")
    assert not any("peer port" in step for step in changes.steps({**before, **PLAINTEXT, **EARLIER}, after))


@pytest.mark.parametrize("tls", [True, False])
def test_tls_says_when_clients_have_to_follow(tls: bool) -> None:
    with_tls, plaintext = BASE, {**BASE, **PLAINTEXT}
    steps = changes.steps(plaintext, with_tls) if tls else changes.steps(with_tls, plaintext)
    assert len(steps) == 3
    assert all("one at a time" in step for step in steps)
    clients = [number for number, step in enumerate(steps) if "clients change their endpoints to" in step]
    assert clients == ([2] if tls else [0])
    assert f"to {'https' if tls else 'http'} now" in steps[clients[0]]


@pytest.mark.parametrize("unknown", [Unknown(), UNKNOWN])
def test_in_a_preview_of_things_that_are_not_known_yet_their_kind_is_told(unknown: object) -> None:
    steps = changes.steps(BASE, {**BASE, "ca_fingerprints": unknown, "members": MEMBERS | {"host-2": unknown}})
    assert steps[0].startswith("host-2 moves to another address")
    assert steps[1].startswith("where the CA changes, every member comes to trust the new one before the old")


@pytest.mark.parametrize(
    ("after", "restarts"),
    [
        (desired(delete_data=True), []),
        (UNKNOWN, []),
        (desired(options={"snapshot-count": 50_000}), list(MEMBERS)),
        (
            desired(members={name: json.loads(desired())["members"][name] | {"ports": {}} for name in ["host-2"]}),
            ["host-2"],
        ),
    ],
)
def test_of_what_no_input_shows_it_is_told_whether_anybody_restarts(after: str, restarts: list[str]) -> None:
    (step,) = changes.steps_of_the_rest(BASE, {**BASE, "desired": after})
    assert step == (f"{', '.join(restarts)}: restarted, {ROLL}" if restarts else changes.NOTHING_RESTARTS)
