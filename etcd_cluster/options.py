"""The etcd server's settings under `etcd`, by their own names: which release reads which, and as what type.

etcd ignores a key it does not know without a word, and refuses to start over a value of the wrong type. So a key
that is not in these tables is refused here, and values are turned into exactly what the configuration file takes.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.versions import Version

KEY: Final = "etcd"
MAXIMUM_QUOTA_BYTES: Final = 8 * 1024**3  # the largest that etcd's maintenance guide suggests
MAXIMUM_ELECTION_TIMEOUT_MS: Final = 50_000  # etcd refuses more

NANOSECONDS: Final = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def _integer(value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]+", value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return value == "true"
    raise ValueError


def _string(value: object) -> str:
    if isinstance(value, str) and value:
        return value
    raise ValueError


def _strings(value: object) -> list[str]:
    items: Sequence[object] = value.split(",") if isinstance(value, str) else _sequence(value)
    return [_string(item.strip() if isinstance(item, str) else item) for item in items]


def _sequence(value: object) -> Sequence[object]:
    if isinstance(value, list | tuple) and value:
        return value
    raise ValueError


def _comma_separated(value: object) -> str:
    return ",".join(_strings(value))


def _nanoseconds(value: object) -> int:
    """A bare number counts as nanoseconds, as in etcd's own file, but not where someone must have meant seconds."""
    if isinstance(value, str) and re.fullmatch(r"([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+", value):
        parts = re.findall(r"([0-9.]+)([a-zµ]+)", value)
        return int(sum(Decimal(number) * NANOSECONDS[unit] for number, unit in parts))
    number = _integer(value)
    if number == 0 or number >= NANOSECONDS["ms"]:
        return number
    raise ValueError


def _retention(value: object) -> str:
    try:
        return str(_integer(value))
    except ValueError:
        _nanoseconds(value)
        return _string(value)


def _gates(value: object) -> str:
    """One canonical string, sorted: the order in which gates were written must not restart a member."""
    pairs = value.items() if isinstance(value, Mapping) else [_pair(item) for item in _strings(value)]
    gates = {_string(gate): _boolean(state) for gate, state in pairs}
    return ",".join(f"{gate}={str(gates[gate]).lower()}" for gate in sorted(gates))


def _pair(text: str) -> tuple[str, str]:
    gate, equals, state = text.partition("=")
    if not equals:
        raise ValueError
    return gate.strip(), state.strip()


@dataclass(frozen=True)
class Kind:
    """What a value must be, in words, and how it is read; `read` raises `ValueError` for anything else."""

    expected: str
    read: Callable[[object], object]


INTEGER: Final = Kind("a whole number, such as 100", _integer)
BOOLEAN: Final = Kind("true or false", _boolean)
STRING: Final = Kind("a string", _string)
STRINGS: Final = Kind("a list of strings", _strings)
COMMAS: Final = Kind("a list of strings", _comma_separated)
DURATION: Final = Kind('a duration with its unit, such as "500ms" or "1h30m"', _nanoseconds)
RETENTION: Final = Kind('a duration such as "1h" (mode periodic) or a number of revisions (mode revision)', _retention)
GATES: Final = Kind('feature gates, such as "InitialCorruptCheck=true"', _gates)


@dataclass(frozen=True)
class Setting:
    """One key of etcd's configuration file.

    Attributes:
        first: For each series that reads the key, its first release that does.
        now: What replaces it from 3.6 on: another setting, or a feature gate (those begin with a capital).
        choices: The values it may have, where etcd has a fixed set.
        least: The smallest number it may be; for a duration, in nanoseconds.
        most: The largest.
    """

    name: str
    kind: Kind
    first: str
    now: str = ""
    choices: tuple[str, ...] = ()
    least: int = 0
    most: int | None = None

    def read_by(self, version: Version) -> bool:
        return _reads(self.first, version)


def _reads(first: str, version: Version) -> bool:
    return any(since.series == version.series and since <= version for since in map(Version.parse, first.split()))


ALL: Final = "3.4.9 3.5.0 3.6.0 3.7.0"
TO_3_6: Final = "3.4.9 3.5.0 3.6.0"
ONLY_3_5_AND_3_6: Final = "3.5.0 3.6.0"
FROM_3_5: Final = "3.5.0 3.6.0 3.7.0"
FROM_3_6: Final = "3.6.0 3.7.0"

TLS_VERSIONS: Final = ("TLS1.2", "TLS1.3")
# TLS 1.2 only: etcd refuses the names of TLS 1.3 suites. The other names that it knows are broken ciphers.
CIPHER_SUITES: Final = (
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
)
LOG_LEVELS: Final = ("debug", "info", "warn", "error", "dpanic", "panic", "fatal")

# From the `json` tags in embed/config.go (server/embed/config.go since 3.5) at every release tag.
SETTINGS: Final = (
    # Raft and membership
    Setting("heartbeat-interval", INTEGER, ALL, least=1),
    Setting("election-timeout", INTEGER, ALL, least=1, most=MAXIMUM_ELECTION_TIMEOUT_MS),
    Setting("initial-election-tick-advance", BOOLEAN, ALL),
    Setting("pre-vote", BOOLEAN, ALL),
    Setting("strict-reconfig-check", BOOLEAN, ALL),
    Setting("max-learners", INTEGER, FROM_3_6, least=1),
    Setting("next-cluster-version-compatible", BOOLEAN, "3.4.31"),
    Setting("snapshot-count", INTEGER, ALL, least=1),
    Setting("snapshot-catchup-entries", INTEGER, FROM_3_6, least=1),
    Setting("experimental-snapshot-catch-up-entries", INTEGER, "3.5.14 3.6.0", now="snapshot-catchup-entries", least=1),
    Setting("max-snapshots", INTEGER, ALL),
    Setting("max-wals", INTEGER, ALL),

    # Requests and connections
    Setting("max-request-bytes", INTEGER, ALL, least=1),
    Setting("max-txn-ops", INTEGER, ALL, least=1),
    Setting("max-concurrent-streams", INTEGER, "3.4.20 3.5.5 3.6.0 3.7.0", least=1, most=2**32 - 1),
    Setting("grpc-keepalive-min-time", DURATION, ALL),
    Setting("grpc-keepalive-interval", DURATION, ALL),
    Setting("grpc-keepalive-timeout", DURATION, ALL),
    Setting("enable-grpc-gateway", BOOLEAN, ALL),
    Setting("cors", COMMAS, ALL),
    Setting("host-whitelist", COMMAS, ALL),
    Setting("tls-min-version", STRING, "3.4.25 3.5.8 3.6.0 3.7.0", choices=TLS_VERSIONS),
    Setting("tls-max-version", STRING, "3.4.25 3.5.8 3.6.0 3.7.0", choices=TLS_VERSIONS),
    Setting("cipher-suites", STRINGS, ALL, choices=CIPHER_SUITES),

    # Users
    Setting("auth-token", STRING, ALL),
    Setting("auth-token-ttl", INTEGER, "3.4.10 3.5.0 3.6.0 3.7.0", least=1),
    Setting("bcrypt-cost", INTEGER, ALL, least=4, most=31),

    # Storage
    Setting("quota-backend-bytes", INTEGER, ALL, most=MAXIMUM_QUOTA_BYTES),
    Setting("backend-batch-interval", DURATION, ALL),
    Setting("backend-batch-limit", INTEGER, ALL),
    Setting("backend-bbolt-freelist-type", STRING, FROM_3_5, choices=("array", "map")),
    Setting("experimental-backend-bbolt-freelist-type", STRING, "3.4.9",
            now="backend-bbolt-freelist-type", choices=("array", "map")),
    Setting("memory-mlock", BOOLEAN, FROM_3_6),
    Setting("experimental-memory-mlock", BOOLEAN, ONLY_3_5_AND_3_6, now="memory-mlock"),
    Setting("bootstrap-defrag-threshold-megabytes", INTEGER, FROM_3_6),
    Setting("experimental-bootstrap-defrag-threshold-megabytes", INTEGER, ONLY_3_5_AND_3_6,
            now="bootstrap-defrag-threshold-megabytes"),
    Setting("experimental-stop-grpc-service-on-defrag", BOOLEAN, "3.5.14 3.6.0", now="StopGRPCServiceOnDefrag"),
    Setting("experimental-txn-mode-write-with-shared-buffer", BOOLEAN, ONLY_3_5_AND_3_6,
            now="TxnModeWriteWithSharedBuffer"),

    # Compaction and leases
    Setting("auto-compaction-mode", STRING, ALL, choices=("periodic", "revision")),
    Setting("auto-compaction-retention", RETENTION, ALL),
    Setting("compaction-batch-limit", INTEGER, FROM_3_6, least=1),
    Setting("experimental-compaction-batch-limit", INTEGER, TO_3_6, now="compaction-batch-limit", least=1),
    Setting("compaction-sleep-interval", DURATION, FROM_3_6),
    Setting("experimental-compaction-sleep-interval", DURATION, "3.5.16 3.6.0", now="compaction-sleep-interval"),
    Setting("experimental-enable-lease-checkpoint", BOOLEAN, TO_3_6, now="LeaseCheckpoint"),
    Setting("experimental-enable-lease-checkpoint-persist", BOOLEAN, "3.4.20 3.5.2 3.6.0", now="LeaseCheckpointPersist"),

    # Checks for corruption
    Setting("experimental-initial-corrupt-check", BOOLEAN, TO_3_6, now="InitialCorruptCheck"),
    Setting("corrupt-check-time", DURATION, FROM_3_6),
    Setting("experimental-corrupt-check-time", DURATION, TO_3_6, now="corrupt-check-time"),
    Setting("experimental-compact-hash-check-enabled", BOOLEAN, "3.5.5 3.6.0", now="CompactHashCheck"),
    Setting("compact-hash-check-time", DURATION, FROM_3_6, least=1),
    Setting("experimental-compact-hash-check-time", DURATION, "3.5.5 3.6.0", now="compact-hash-check-time", least=1),

    # What is logged and measured
    Setting("logger", STRING, ALL, choices=("zap", "capnslog")),
    Setting("log-level", STRING, ALL, choices=LOG_LEVELS),
    Setting("log-outputs", STRINGS, ALL),
    Setting("log-format", STRING, FROM_3_6, choices=("json", "console")),
    Setting("enable-log-rotation", BOOLEAN, FROM_3_5),
    Setting("log-rotation-config-json", STRING, FROM_3_5),
    Setting("metrics", STRING, ALL, choices=("basic", "extensive")),
    Setting("enable-pprof", BOOLEAN, "3.4.34 3.5.0 3.6.0 3.7.0"),  # older ones panic on it when built with Go 1.22
    Setting("warning-apply-duration", DURATION, FROM_3_6),
    Setting("experimental-warning-apply-duration", DURATION, "3.4.16 3.5.0 3.6.0", now="warning-apply-duration"),
    Setting("warning-unary-request-duration", DURATION, FROM_3_6),
    Setting("experimental-warning-unary-request-duration", DURATION, "3.6.0", now="warning-unary-request-duration"),
    Setting("watch-progress-notify-interval", DURATION, FROM_3_6),
    Setting("experimental-watch-progress-notify-interval", DURATION, "3.4.11 3.5.0 3.6.0",
            now="watch-progress-notify-interval"),
    Setting("downgrade-check-time", DURATION, FROM_3_6),
    Setting("experimental-downgrade-check-time", DURATION, ONLY_3_5_AND_3_6, now="downgrade-check-time"),
    Setting("enable-distributed-tracing", BOOLEAN, FROM_3_6),
    Setting("experimental-enable-distributed-tracing", BOOLEAN, ONLY_3_5_AND_3_6, now="enable-distributed-tracing"),
    Setting("distributed-tracing-address", STRING, FROM_3_6),
    Setting("experimental-distributed-tracing-address", STRING, ONLY_3_5_AND_3_6, now="distributed-tracing-address"),
    Setting("distributed-tracing-service-name", STRING, FROM_3_6),
    Setting("experimental-distributed-tracing-service-name", STRING, ONLY_3_5_AND_3_6,
            now="distributed-tracing-service-name"),
    Setting("distributed-tracing-instance-id", STRING, FROM_3_6),
    Setting("experimental-distributed-tracing-instance-id", STRING, ONLY_3_5_AND_3_6,
            now="distributed-tracing-instance-id"),
    Setting("distributed-tracing-sampling-rate", INTEGER, FROM_3_6, most=10**6),
    Setting("experimental-distributed-tracing-sampling-rate", INTEGER, "3.5.11 3.6.0",
            now="distributed-tracing-sampling-rate", most=10**6),

    Setting("feature-gates", GATES, FROM_3_6),
)  # fmt: skip

# From server/features/etcd_features.go.
FEATURE_GATES: Final = {
    "CompactHashCheck": FROM_3_6,
    "FastLeaseKeepAlive": "3.7.0",
    "InitialCorruptCheck": FROM_3_6,
    "LeaseCheckpoint": FROM_3_6,
    "LeaseCheckpointPersist": FROM_3_6,
    "PriorityRequest": "3.7.0",
    "SetMemberLocalAddr": FROM_3_6,
    "StopGRPCServiceOnDefrag": FROM_3_6,
    "TxnModeWriteWithSharedBuffer": FROM_3_6,
}


@dataclass(frozen=True)
class Reserved:
    """Settings, as patterns, that are not the user's to give: why, and what to do about it."""

    names: str
    why: str
    fix: str


_ADDRESSES = "etcd-cluster writes each member's own addresses there"
_UNSAFE = "it gives up data that etcd has acknowledged"
_V2 = "v2 data keeps a cluster from ever moving beyond 3.5"
RESERVED: Final = (
    Reserved("name", "members are named by etcd-cluster", "name them under hosts, or leave it out"),
    Reserved("data-dir wal-dir", "etcd-cluster keeps both on the data volume", "choose the volume: hosts.NAME.device"),
    Reserved("listen-*-urls advertise-*-urls", _ADDRESSES, "use hosts.NAME.address"),
    Reserved("initial-advertise-*", _ADDRESSES, "use hosts.NAME.address"),
    Reserved("initial-cluster*", "etcd-cluster forms the cluster, once", "use members, or hosts"),
    Reserved("discovery* proxy*", "etcd-cluster tells members of one another", "use members, or hosts"),
    Reserved("client-* peer-* experimental-peer-*", "etcd-cluster makes the certificates", "use tls"),
    Reserved("*ca-file cert-file key-file *auto-tls self-signed-*", "etcd-cluster makes the certificates", "use tls"),
    Reserved("force-new-cluster unsafe-no-fsync", _UNSAFE, "leave it out"),
    Reserved("enable-v2 experimental-enable-v2v3 v2-deprecation", _V2, "leave it out, and move v2 clients to v3"),
    Reserved("socket-options socket-reuse-*", "a second etcd could take a member's ports", "leave it out"),
    Reserved("debug log-package-levels", "it is gone since 3.5", "use log-level"),
    Reserved("log-output", "it is gone since 3.5", "use log-outputs"),
    Reserved("config-file version", "it is an argument, not a setting", "leave it out"),
)


@dataclass(frozen=True)
class Default:
    """What every member is given unless the user says otherwise, and the releases it is given to."""

    name: str
    value: object
    first: str


DEFAULTS: Final = (
    # Regular compaction, which the compact hash check also needs: etcd itself never compacts unless told to.
    Default("auto-compaction-mode", "periodic", ALL),
    Default("auto-compaction-retention", "1h", ALL),
    # 3.4 and 3.5 would wait for 100000 entries. Their next minor cannot start from what stays in the log until then.
    # 3.6 has 10000 by itself, and before 3.6.8 warns when told so.
    Default("snapshot-count", 10_000, "3.4.9 3.5.0 3.6.8 3.7.0"),
    # The cheap checks. The periodic one (corrupt-check-time) reads the whole database: the user's to choose.
    Default("experimental-initial-corrupt-check", True, "3.4.9 3.5.0"),
    Default("experimental-compact-hash-check-enabled", True, "3.5.5"),
    Default("feature-gates", "CompactHashCheck=true,InitialCorruptCheck=true", FROM_3_6),
    # What 3.5 and later do by themselves, so that all releases behave as one.
    Default("pre-vote", True, ALL),
    Default("strict-reconfig-check", True, ALL),
    Default("enable-grpc-gateway", True, "3.4.9"),  # off in 3.4 when it reads a file, on when it reads flags
    Default("logger", "zap", ALL),
    Default("log-outputs", ["stderr"], ALL),
    Default("log-level", "info", ALL),
)


def defaults(version: str) -> dict[str, object]:
    """The settings every member of this release is given, in the file's own types."""
    release = Version.parse(version)
    return {default.name: default.value for default in DEFAULTS if _reads(default.first, release)}


def validate(options: Mapping[str, object], version: str) -> dict[str, object]:
    """A user's settings, in the types that etcd's configuration file takes.

    They are judged together with `defaults(version)`, which they are to be laid over. Feature gates come back
    complete: the default ones, and the user's over them.

    Args:
        options: Settings by their etcd names. Numbers and booleans may be strings or floats; durations have a unit.
        version: A supported release, such as "3.6.16".

    Raises:
        ConfigurationError: For the first setting that this release would ignore, refuse, or be harmed by.
    """
    release = Version.parse(version)
    chosen = {name: _value(_setting(name, value, release), value, release) for name, value in options.items()}
    given = defaults(version)
    if "feature-gates" in chosen:
        chosen["feature-gates"] = _gates({**_states(given["feature-gates"]), **_states(chosen["feature-gates"])})
    _check_together({**given, **chosen}, release)
    return chosen


def _setting(name: str, value: object, release: Version) -> Setting:
    """The row of a key that this release reads and a user may give."""
    setting = next((setting for setting in SETTINGS if setting.name == name), None)
    if setting is not None and setting.read_by(release):
        return setting
    if setting is not None:
        raise _error(name, value, f"etcd {release} does not read it", _replacement(setting, release))
    for reserved in RESERVED:
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in reserved.names.split()):
            raise _error(name, value, reserved.why, reserved.fix)
    known = [setting.name for setting in SETTINGS if setting.read_by(release)]
    near = difflib.get_close_matches(name.lstrip("-").replace("_", "-").lower(), known, n=1)
    raise _error(name, value, f"etcd {release} has no such setting", f"use {near[0]}" if near else "leave it out")


def _replacement(setting: Setting, release: Version) -> str:
    """What to do about a setting that another release reads, but not this one."""
    if release.series in FROM_3_6 and setting.now[:1].isupper():
        return f"use feature-gates: {setting.now}=true or false"
    names = {setting.now, *(other.name for other in SETTINGS if other.now == setting.name)}
    readable = [other.name for other in SETTINGS if other.name in names and other.read_by(release)]
    if readable:
        return f"use {readable[0]}"
    later = [first for first in setting.first.split() if Version.parse(first).series == release.series]
    return f"use etcd {later[0]} or later, or leave it out" if later else "leave it out"


def _value(setting: Setting, value: object, release: Version) -> object:
    """The value in the file's own type, within its limits."""
    wrong = f"etcd {release} does not take this"
    try:
        converted = setting.kind.read(value)
    except ValueError:
        raise _error(setting.name, value, wrong, f"write {setting.kind.expected}") from None
    for item in converted if isinstance(converted, list) else [converted]:
        if setting.choices and item not in setting.choices:
            raise _error(setting.name, value, wrong, f"write one of {', '.join(setting.choices)}")
    if isinstance(converted, int) and not isinstance(converted, bool):
        if converted < setting.least:
            raise _error(setting.name, value, "this is too small", f"write at least {setting.least}")
        if setting.most is not None and converted > setting.most:
            raise _error(setting.name, value, "this is too large", f"write at most {setting.most}")
    if setting.kind is GATES:
        _check_gates(value, str(converted), release)
    return converted


def _check_gates(value: object, gates: str, release: Version) -> None:
    known = [gate for gate, first in FEATURE_GATES.items() if _reads(first, release)]
    for gate in _states(gates):
        if gate not in known:
            near = difflib.get_close_matches(gate, known, n=1) or known
            problem = f"etcd {release} has no feature gate {gate}"
            raise _error("feature-gates", value, problem, f"use {', '.join(near)}")


def _states(gates: object) -> dict[str, str]:
    """The states of feature gates by name, from their canonical string."""
    return dict(pair.split("=") for pair in str(gates).split(","))


def _check_together(settings: Mapping[str, object], release: Version) -> None:
    """Raises for settings that are right one by one, but not together. `settings` holds the defaults too."""
    # 100 and 1000 ms are etcd's own defaults.
    heartbeat = _integer(settings.get("heartbeat-interval", 100))
    election = _integer(settings.get("election-timeout", 1000))
    if election < 5 * heartbeat:
        problem = f"this is less than five times the heartbeat-interval of {heartbeat} ms"
        raise _error("election-timeout", election, problem, f"write {10 * heartbeat} or more")

    mode, retention = settings["auto-compaction-mode"], str(settings["auto-compaction-retention"])
    if mode == "revision" and not retention.isdigit():
        problem = "this is no number of revisions, which auto-compaction-mode revision counts by"
        raise _error("auto-compaction-retention", retention, problem, "write a whole number, such as 1000")

    tls_min, tls_max = settings.get("tls-min-version"), settings.get("tls-max-version")
    if tls_min == "TLS1.3" and tls_max == "TLS1.2":
        raise _error("tls-min-version", tls_min, "this is above tls-max-version", "lower it, or leave one out")
    if tls_min == "TLS1.3" and "cipher-suites" in settings:
        problem = "with nothing below TLS 1.3, cipher suites cannot be chosen"
        raise _error("cipher-suites", settings["cipher-suites"], problem, "leave it out")

    if settings["logger"] == "capnslog" and release.series != "3.4":
        raise _error("logger", "capnslog", "it is gone since 3.5", "write zap")

    token = str(settings.get("auth-token", "simple"))
    if token.split(",")[0] not in ("simple", "jwt"):
        raise _error("auth-token", token, "this kind of token is not known", 'write simple, or "jwt,..."')

    gates = str(settings.get("feature-gates", ""))
    for setting in SETTINGS:
        if setting.name in settings and setting.now and (setting.now in settings or setting.now in gates):
            use = f"feature-gates: {setting.now}=true or false" if setting.now[0].isupper() else setting.now
            problem = f"{setting.now} is set too, which is what it is called now"
            raise _error(setting.name, settings[setting.name], problem, f"use {use}")

    persist = settings.get("experimental-enable-lease-checkpoint-persist") or "LeaseCheckpointPersist=true" in gates
    checkpoint = settings.get("experimental-enable-lease-checkpoint") or "LeaseCheckpoint=true" in gates
    if persist and not checkpoint:
        name = "feature-gates" if gates else "experimental-enable-lease-checkpoint-persist"
        problem = "to persist lease checkpoints, etcd must take them"
        raise _error(name, settings[name], problem, "enable lease checkpoints as well")

    paths = [output for output in _strings(settings["log-outputs"]) if output not in ("default", "stderr", "stdout")]
    if settings.get("enable-log-rotation") and len(paths) != 1:
        problem = "only a log file can be rotated, and only one"
        raise _error("enable-log-rotation", True, problem, "give log-outputs the path of one file")


def _error(name: str, value: object, problem: str, fix: str) -> ConfigurationError:
    return ConfigurationError(f"{KEY}.{name}", value, problem, fix)
