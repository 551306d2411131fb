"""What is promised of a user's etcd settings: right names, right types, for the very release they are meant for."""

from __future__ import annotations

import fnmatch
import re

import pytest

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.etcd.options import (
    DURATION,
    FEATURE_GATES,
    KNOWN,
    RESERVED,
    SETTINGS,
    Setting,
    defaults,
    validate_options,
)
from etcd_cluster.etcd.versions import NEWEST_KNOWN, Version, within

EVERY_MINOR = list({**NEWEST_KNOWN, "3.4": "3.4.9"}.values())
SECOND = 10**9


def refusal(options: dict[str, object], version: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        validate_options(options, version)
    return caught.value


# Values


@pytest.mark.parametrize("version", EVERY_MINOR)
@pytest.mark.parametrize(
    ("name", "given", "written"),
    [
        ("heartbeat-interval", 100, 100),
        ("heartbeat-interval", 100.0, 100),
        ("heartbeat-interval", "100", 100),
        ("pre-vote", True, True),
        ("pre-vote", "false", False),
        ("log-level", "debug", "debug"),
        ("log-outputs", "stderr", ["stderr"]),
        ("log-outputs", ["stderr", "/var/log/etcd.log"], ["stderr", "/var/log/etcd.log"]),
        ("cors", ["https://a:1", "https://b:2"], "https://a:1,https://b:2"),
        ("cors", "https://a:1, https://b:2", "https://a:1,https://b:2"),
        ("grpc-keepalive-interval", "2h", 7200 * SECOND),
        ("grpc-keepalive-interval", "1h30m", 5400 * SECOND),
        ("grpc-keepalive-interval", "1.5s", 1_500_000_000),
        ("grpc-keepalive-interval", 7200 * SECOND, 7200 * SECOND),
        ("grpc-keepalive-interval", 0, 0),
        ("backend-batch-interval", "100ms", 100_000_000),
        ("auto-compaction-retention", 5.0, "5"),
        ("auto-compaction-retention", "30m", "30m"),
        ("max-request-bytes", "1572864", 1572864),
        ("quota-backend-bytes", 8 * 1024**3, 8 * 1024**3),
    ],
)
def test_a_value_is_written_in_the_type_that_etcd_takes(
    version: str, name: str, given: object, written: object
) -> None:
    result = validate_options({name: given}, version)
    assert result == {name: written}
    assert type(result[name]) is type(written)


@pytest.mark.parametrize("version", EVERY_MINOR)
@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("heartbeat-interval", "fast", "whole number"),
        ("heartbeat-interval", 99.5, "whole number"),
        ("heartbeat-interval", True, "whole number"),
        ("heartbeat-interval", 0, "at least 10"),
        ("election-timeout", 50_001, "at most 50000"),
        ("quota-backend-bytes", 8 * 1024**3 + 1, "at most 8589934592"),
        ("quota-backend-bytes", -1, "at least 16777216"),
        ("max-request-bytes", None, "whole number"),
        ("pre-vote", "yes", "true or false"),
        ("pre-vote", 1, "true or false"),
        ("log-level", "loud", "debug, info"),
        ("log-outputs", [], "stderr"),
        ("log-outputs", [7], "stderr"),
        ("metrics", "all", "basic or extensive"),
        ("logger", "logrus", "zap"),
        ("auto-compaction-mode", "hourly", "periodic or revision"),
        ("auto-compaction-retention", "-1", "duration"),
        ("auto-compaction-retention", "1 hour", "duration"),
        ("grpc-keepalive-timeout", 20, "unit"),
        ("grpc-keepalive-timeout", "20", "unit"),
        ("grpc-keepalive-timeout", "20 seconds", "unit"),
        ("bcrypt-cost", 3, "at least 4"),
        ("auth-token", "simpel", "jwt"),
        ("cipher-suites", ["TLS_AES_128_GCM_SHA256"], "TLS_ECDHE_"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_right(version: str, name: str, value: object, expected: str) -> None:
    error = refusal({name: value}, version)
    assert (error.key, error.value) == (f"etcd.{name}", value)
    assert expected in error.fix


def test_an_error_names_key_value_release_and_what_to_write() -> None:
    assert str(refusal({"heartbeat-interval": "fast"}, "3.6.16")) == (
        'etcd.heartbeat-interval: "fast": etcd 3.6.16 does not take this. Write a whole number, such as 100.'
    )


@pytest.mark.parametrize("version", EVERY_MINOR)
def test_what_has_been_validated_is_valid(version: str) -> None:
    given = {
        "grpc-keepalive-interval": "2h",
        "cors": ["https://a:1", "https://[::1]:2"],
        "auto-compaction-retention": 5,
        "log-outputs": "stdout",
    }
    once = validate_options(given, version)
    assert validate_options(once, version) == once


# Names


@pytest.mark.parametrize("version", EVERY_MINOR)
@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("heartbeat-intervall", "heartbeat-interval"),
        ("--election-timeout", "election-timeout"),
        ("quota_backend_bytes", "quota-backend-bytes"),
        ("max-requests-bytes", "max-request-bytes"),
    ],
)
def test_a_misspelt_name_is_refused_with_the_nearest_right_one(version: str, name: str, near: str) -> None:
    assert refusal({name: 1}, version).fix == f"use {near}"


def test_a_name_like_no_other_is_refused_too() -> None:
    assert refusal({"colour": "blue"}, "3.6.16").fix == "leave it out"


@pytest.mark.parametrize(
    ("name", "version", "instead"),
    [
        ("experimental-corrupt-check-time", "3.7.3", "corrupt-check-time"),
        ("corrupt-check-time", "3.5.35", "experimental-corrupt-check-time"),
        ("corrupt-check-time", "3.4.9", "experimental-corrupt-check-time"),
        ("experimental-initial-corrupt-check", "3.7.3", "feature-gates with InitialCorruptCheck"),
        ("experimental-compact-hash-check-enabled", "3.7.3", "feature-gates with CompactHashCheck"),
        ("experimental-compact-hash-check-enabled", "3.5.4", "etcd 3.5.5 or later"),
        ("experimental-backend-bbolt-freelist-type", "3.5.35", "backend-bbolt-freelist-type"),
        ("backend-bbolt-freelist-type", "3.4.9", "experimental-backend-bbolt-freelist-type"),
        ("snapshot-catchup-entries", "3.5.35", "experimental-snapshot-catch-up-entries"),
        ("tls-min-version", "3.4.9", "etcd 3.4.25 or later"),
        ("auth-token-ttl", "3.4.9", "etcd 3.4.10 or later"),
        ("feature-gates", "3.5.35", "experimental-initial-corrupt-check"),
        ("max-learners", "3.5.35", "leave it out"),
        ("enable-pprof", "3.4.9", "etcd 3.4.34 or later"),
    ],
)
def test_a_name_of_another_release_is_refused_with_the_one_to_use(name: str, version: str, instead: str) -> None:
    error = refusal({name: 1}, version)
    assert error.problem == f"etcd {version} does not read it"
    assert instead in error.fix


@pytest.mark.parametrize("version", EVERY_MINOR)
@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("name", "hosts"),
        ("data-dir", "hosts.NAME.device"),
        ("wal-dir", "hosts.NAME.device"),
        ("listen-client-urls", "hosts.NAME.address"),
        ("listen-peer-urls", "hosts.NAME.address"),
        ("listen-metrics-urls", "hosts.NAME.address"),
        ("listen-client-http-urls", "hosts.NAME.address"),
        ("advertise-client-urls", "hosts.NAME.address"),
        ("initial-advertise-peer-urls", "hosts.NAME.address"),
        ("initial-cluster", "members"),
        ("initial-cluster-state", "members"),
        ("initial-cluster-token", "members"),
        ("discovery", "members"),
        ("discovery-srv", "members"),
        ("proxy", "members"),
        ("client-transport-security", "tls"),
        ("peer-transport-security", "tls"),
        ("cert-file", "tls"),
        ("peer-key-file", "tls"),
        ("trusted-ca-file", "tls"),
        ("peer-trusted-ca-file", "tls"),
        ("client-cert-auth", "tls"),
        ("auto-tls", "tls"),
        ("self-signed-cert-validity", "tls"),
        ("force-new-cluster", "leave it out"),
        ("unsafe-no-fsync", "leave it out"),
        ("enable-v2", "v3"),
        ("debug", "log-level"),
    ],
)
def test_what_etcd_cluster_sets_itself_is_refused_with_the_key_that_does_it(
    version: str, name: str, instead: str
) -> None:
    error = refusal({name: "x"}, version)
    assert error.key == f"etcd.{name}"
    assert instead in error.fix


def test_no_setting_is_both_the_users_and_reserved() -> None:
    patterns = [pattern for reserved in RESERVED for pattern in reserved.names.split()]
    assert [name for name in KNOWN if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)] == []


def test_every_older_name_leads_to_one_that_exists() -> None:
    gates = {gate.name for gate in FEATURE_GATES}
    assert [name for name, setting in KNOWN.items() if setting.now and setting.now not in {*KNOWN, *gates}] == []


@pytest.mark.parametrize("setting", [each for each in SETTINGS if each.kind is DURATION], ids=lambda each: each.name)
def test_a_duration_has_a_smallest_value_of_use(setting: Setting) -> None:
    """Without it, "1ns" would pass: what etcd does in that time, it does without end."""
    assert setting.least >= SECOND // 1000


def test_nothing_experimental_is_left_in_3_7() -> None:
    read = [name for name, row in KNOWN.items() if within(Version(3, 7, 0), row.releases)]
    assert [name for name in read if name.startswith("experimental-")] == []


# Settings together


@pytest.mark.parametrize(
    ("options", "version", "key"),
    [
        ({"heartbeat-interval": 201}, "3.6.16", "etcd.election-timeout"),
        ({"heartbeat-interval": 500, "election-timeout": 2400}, "3.4.9", "etcd.election-timeout"),
        ({"auto-compaction-mode": "revision"}, "3.5.35", "etcd.auto-compaction-retention"),
        ({"tls-min-version": "TLS1.3", "tls-max-version": "TLS1.2"}, "3.6.16", "etcd.tls-min-version"),
        (
            {"tls-min-version": "TLS1.3", "cipher-suites": ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]},
            "3.5.35",
            "etcd.cipher-suites",
        ),
        ({"logger": "capnslog"}, "3.5.35", "etcd.logger"),
        ({"enable-log-rotation": True}, "3.6.16", "etcd.enable-log-rotation"),
        (
            {"corrupt-check-time": "4h", "experimental-corrupt-check-time": "4h"},
            "3.6.16",
            "etcd.experimental-corrupt-check-time",
        ),
        ({"experimental-initial-corrupt-check": True}, "3.6.16", "etcd.experimental-initial-corrupt-check"),
        (
            {"experimental-enable-lease-checkpoint-persist": True},
            "3.5.35",
            "etcd.experimental-enable-lease-checkpoint-persist",
        ),
        ({"feature-gates": "LeaseCheckpointPersist=true"}, "3.7.3", "etcd.feature-gates"),
    ],
)
def test_settings_that_are_wrong_only_together_are_refused(options: dict[str, object], version: str, key: str) -> None:
    assert refusal(options, version).key == key


@pytest.mark.parametrize(
    ("options", "version"),
    [
        ({"heartbeat-interval": 200}, "3.6.16"),
        ({"heartbeat-interval": 500, "election-timeout": 5000}, "3.4.9"),
        ({"auto-compaction-mode": "revision", "auto-compaction-retention": "1000"}, "3.5.35"),
        ({"tls-min-version": "TLS1.3"}, "3.4.25"),
        ({"logger": "capnslog"}, "3.4.9"),
        ({"enable-log-rotation": True, "log-outputs": ["/var/log/etcd.log"]}, "3.6.16"),
        ({"experimental-corrupt-check-time": "4h"}, "3.6.16"),
        ({"auth-token": "jwt,pub-key=/a.pub,priv-key=/a.key,sign-method=RS256"}, "3.7.3"),
        ({"feature-gates": "LeaseCheckpoint=true,LeaseCheckpointPersist=true"}, "3.6.16"),
    ],
)
def test_settings_that_go_together_pass(options: dict[str, object], version: str) -> None:
    assert validate_options(options, version).keys() == options.keys()


# Feature gates


@pytest.mark.parametrize("given", ["LeaseCheckpoint=true", {"LeaseCheckpoint": True}, {"LeaseCheckpoint": "true"}])
@pytest.mark.parametrize("version", ["3.6.16", "3.7.3"])
def test_a_users_feature_gates_do_not_switch_the_corruption_checks_off(given: object, version: str) -> None:
    gates = validate_options({"feature-gates": given}, version)["feature-gates"]
    assert gates == "CompactHashCheck=true,InitialCorruptCheck=true,LeaseCheckpoint=true"


def test_a_user_may_switch_a_corruption_check_off_by_name() -> None:
    gates = validate_options({"feature-gates": "InitialCorruptCheck=false"}, "3.6.16")["feature-gates"]
    assert gates == "CompactHashCheck=true,InitialCorruptCheck=false"


@pytest.mark.parametrize(
    ("gates", "version", "expected"),
    [
        ("InitialCorruptCheks=true", "3.6.16", "InitialCorruptCheck"),
        ("PriorityRequest=true", "3.6.16", "use"),
        ("InitialCorruptCheck", "3.6.16", "feature gates, such as"),
        ("InitialCorruptCheck=on", "3.7.3", "feature gates, such as"),
    ],
)
def test_a_feature_gate_that_etcd_would_refuse_is_refused(gates: str, version: str, expected: str) -> None:
    error = refusal({"feature-gates": gates}, version)
    assert error.key == "etcd.feature-gates"
    assert expected in error.fix


# Defaults


@pytest.mark.parametrize("version", [*EVERY_MINOR, "3.4.45", "3.5.6", "3.6.0", "3.7.0"])
def test_every_default_is_a_setting_that_this_release_reads(version: str) -> None:
    assert validate_options(defaults(version), version) == defaults(version)


@pytest.mark.parametrize(
    ("version", "checks"),
    [
        ("3.4.9", {"experimental-initial-corrupt-check": True}),
        ("3.5.4", {"experimental-initial-corrupt-check": True}),
        (
            "3.5.35",
            {"experimental-initial-corrupt-check": True, "experimental-compact-hash-check-enabled": True},
        ),
        ("3.6.16", {"feature-gates": "CompactHashCheck=true,InitialCorruptCheck=true"}),
        ("3.7.3", {"feature-gates": "CompactHashCheck=true,InitialCorruptCheck=true"}),
    ],
)
def test_every_member_checks_for_corruption_by_the_names_of_its_release(
    version: str, checks: dict[str, object]
) -> None:
    given = defaults(version)
    assert {name: value for name, value in given.items() if re.search("check-|-check$|gates", name)} == {
        **checks,
        "strict-reconfig-check": True,
    }


def test_a_release_that_warns_of_a_low_snapshot_count_is_left_to_its_own_equal_default() -> None:
    assert "snapshot-count" not in defaults("3.6.7")
    assert "snapshot-count" in defaults("3.6.8")


def test_defaults_are_nobodys_to_change_for_others() -> None:
    outputs = defaults("3.6.16")["log-outputs"]
    assert isinstance(outputs, list)
    outputs.append("/tmp/elsewhere")
    assert defaults("3.6.16")["log-outputs"] == ["stderr"]
