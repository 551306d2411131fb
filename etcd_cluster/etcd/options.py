"""Defines the etcd server's settings under `etcd`, by their own names: which release reads which, and as what type.

etcd ignores a key that it does not know without a message, and refuses to start over a value of the wrong type. So a
key that is not in these tables is refused here, and values become exactly what the configuration file takes.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final, cast

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.etcd.versions import Version, within

Value = str | int | bool | list[str]  # as it stands in the configuration file


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
    if isinstance(value, str):
        return [_string(item.strip()) for item in value.split(",")]
    if isinstance(value, list | tuple) and value:
        return [_string(item) for item in cast(Iterable[object], value)]
    raise ValueError


def _comma_separated(value: object) -> str:
    return ",".join(_strings(value))


_DURATION: Final = r"([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+"
_NANOSECONDS: Final = {"ns": 1, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9, "m": 60e9, "h": 3600e9}


def _nanoseconds(value: object) -> int:
    """Reads a duration. A bare number is nanoseconds, as in etcd's own file, unless it can only mean seconds."""
    if isinstance(value, str) and re.fullmatch(_DURATION, value):
        parts = re.findall(r"([0-9.]+)([a-zµ]+)", value)
        return int(sum(Decimal(number) * int(_NANOSECONDS[unit]) for number, unit in parts))
    number = _integer(value)
    if 0 < number < _NANOSECONDS["ms"]:
        raise ValueError
    return number


def _retention(value: object) -> str:
    text = _string(value) if isinstance(value, str) else str(_integer(value))
    if re.fullmatch(rf"[0-9]+|{_DURATION}", text):
        return text
    raise ValueError


def _gates(value: object) -> str:
    """Returns the gates as one sorted string: the order in which they were written must not restart a member."""
    if isinstance(value, Mapping):
        pairs = list(cast(Mapping[object, object], value).items())
    else:
        parts = [item.partition("=") for item in _strings(value)]
        pairs = [(gate.strip(), state.strip()) for gate, _, state in parts]
    states = {_string(gate): _boolean(state) for gate, state in pairs}
    return ",".join(f"{gate}={str(state).lower()}" for gate, state in sorted(states.items()))


@dataclass(frozen=True)
class Kind:
    """What a value must be, in words, and the function that reads it; `read` raises `ValueError` for anything else."""

    expected: str
    read: Callable[[object], Value]


INTEGER: Final = Kind("a whole number, such as 100", _integer)
BOOLEAN: Final = Kind("true or false", _boolean)
STRING: Final = Kind("text", _string)
STRINGS: Final = Kind("a list of texts", _strings)
COMMAS: Final = Kind("a list of texts", _comma_separated)
DURATION: Final = Kind('a duration with its unit, such as "500ms" or "1h30m"', _nanoseconds)
RETENTION: Final = Kind('a duration, such as "1h", or a number of revisions', _retention)
GATES: Final = Kind('feature gates, such as "LeaseCheckpoint=true"', _gates)


@dataclass(frozen=True)
class Setting:
    """One key of etcd's configuration file.

    Attributes:
        releases: The releases that read the key, as ranges that `versions.within` reads: "3.5.0.." is 3.5.0 and later.
        experimental: The same for "experimental-" and the key, its older name.
        now: For an older name: the setting or feature gate that replaced it in 3.6.
        choices: The values it may have, if etcd has a fixed set.
        least: The smallest number it may be; for a duration in nanoseconds.
        most: The largest number it may be.
        too_small: Why a number below `least` is refused.
    """

    name: str
    kind: Kind
    releases: str
    experimental: str = ""
    now: str = ""
    choices: tuple[str, ...] = ()
    least: int = 0
    most: int | None = None
    too_small: str = "this is too small"


@dataclass(frozen=True)
class Gate:
    """One feature gate of 3.6 and later, and the setting that was its older form."""

    name: str
    releases: str
    was: str = ""
    was_releases: str = ""


ALL: Final = "3.4.9.."
TO_3_6: Final = "3.4.9..3.7.0"
FROM_3_5: Final = "3.5.0.."
FROM_3_6: Final = "3.6.0.."

QUOTA_LIMIT_BYTES: Final = 8 * 1024**3  # the largest that etcd's maintenance guide suggests
QUOTA_LEAST_BYTES: Final = 16 * 1024**2
"""The quota with which etcd's maintenance guide shows how a cluster fills up: it calls this one very small."""
ELECTION_LIMIT_MS: Final = 50_000  # etcd refuses more
TLS_VERSIONS: Final = ("TLS1.2", "TLS1.3")
# For TLS 1.2. Those of TLS 1.3 cannot be chosen, and the others that etcd knows are weak.
CIPHER_SUITES: Final = (
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
)
LOG_LEVELS: Final = ("debug", "info", "warn", "error", "dpanic", "panic", "fatal")

# From the json tags in embed/config.go (3.4) and server/embed/config.go at every release since 3.4.9.
SETTINGS: Final = (
    # Raft and membership
    Setting("heartbeat-interval", INTEGER, ALL, least=1, most=ELECTION_LIMIT_MS // 5),
    Setting("election-timeout", INTEGER, ALL, least=1, most=ELECTION_LIMIT_MS),
    Setting("initial-election-tick-advance", BOOLEAN, ALL),
    Setting("pre-vote", BOOLEAN, ALL),
    Setting("strict-reconfig-check", BOOLEAN, ALL),
    Setting("max-learners", INTEGER, FROM_3_6, least=1),
    Setting("next-cluster-version-compatible", BOOLEAN, "3.4.31..3.5.0"),
    Setting("snapshot-count", INTEGER, ALL, least=1),
    Setting("snapshot-catchup-entries", INTEGER, FROM_3_6, least=1),
    Setting("experimental-snapshot-catch-up-entries", INTEGER, "3.5.14..3.7.0",
            now="snapshot-catchup-entries", least=1),
    Setting("max-snapshots", INTEGER, ALL),
    Setting("max-wals", INTEGER, ALL),
    Setting("downgrade-check-time", DURATION, FROM_3_6, experimental="3.5.0..3.7.0"),

    # Requests and connections
    Setting("max-request-bytes", INTEGER, ALL, least=1),
    Setting("max-txn-ops", INTEGER, ALL, least=1),
    Setting("max-concurrent-streams", INTEGER, "3.4.20..3.5.0 3.5.5..", least=1, most=2**32 - 1),
    Setting("grpc-keepalive-min-time", DURATION, ALL),
    Setting("grpc-keepalive-interval", DURATION, ALL),
    Setting("grpc-keepalive-timeout", DURATION, ALL),
    Setting("enable-grpc-gateway", BOOLEAN, ALL),
    Setting("watch-progress-notify-interval", DURATION, FROM_3_6, experimental="3.4.11..3.7.0"),
    Setting("cors", COMMAS, ALL),
    Setting("host-whitelist", COMMAS, ALL),
    Setting("tls-min-version", STRING, "3.4.25..3.5.0 3.5.8..", choices=TLS_VERSIONS),
    Setting("tls-max-version", STRING, "3.4.25..3.5.0 3.5.8..", choices=TLS_VERSIONS),
    Setting("cipher-suites", STRINGS, ALL, choices=CIPHER_SUITES),

    # Users
    Setting("auth-token", STRING, ALL),
    Setting("auth-token-ttl", INTEGER, "3.4.10..", least=1),
    Setting("bcrypt-cost", INTEGER, ALL, least=4, most=31),

    # Storage and compaction
    Setting("quota-backend-bytes", INTEGER, ALL, least=QUOTA_LEAST_BYTES, most=QUOTA_LIMIT_BYTES,
            too_small="etcd takes 0 as its own 2 GiB and less as no limit, and a quota this small is full at once"),
    Setting("backend-batch-interval", DURATION, ALL),
    Setting("backend-batch-limit", INTEGER, ALL),
    Setting("backend-bbolt-freelist-type", STRING, FROM_3_5, experimental="3.4.9..3.5.0", choices=("array", "map")),
    Setting("bootstrap-defrag-threshold-megabytes", INTEGER, FROM_3_6, experimental="3.5.0..3.7.0"),
    Setting("memory-mlock", BOOLEAN, FROM_3_6, experimental="3.5.0..3.7.0"),
    Setting("auto-compaction-mode", STRING, ALL, choices=("periodic", "revision")),
    Setting("auto-compaction-retention", RETENTION, ALL),
    Setting("compaction-batch-limit", INTEGER, FROM_3_6, experimental=TO_3_6, least=1),
    Setting("compaction-sleep-interval", DURATION, FROM_3_6, experimental="3.5.16..3.7.0"),
    Setting("corrupt-check-time", DURATION, FROM_3_6, experimental=TO_3_6),
    Setting("compact-hash-check-time", DURATION, FROM_3_6, experimental="3.5.5..3.7.0", least=1),

    # What is logged and measured
    Setting("logger", STRING, ALL, choices=("zap", "capnslog")),
    Setting("log-level", STRING, ALL, choices=LOG_LEVELS),
    Setting("log-outputs", STRINGS, ALL),
    Setting("log-format", STRING, FROM_3_6, choices=("json", "console")),
    Setting("enable-log-rotation", BOOLEAN, FROM_3_5),
    Setting("log-rotation-config-json", STRING, FROM_3_5),
    Setting("warning-apply-duration", DURATION, FROM_3_6, experimental="3.4.16..3.7.0"),
    Setting("warning-unary-request-duration", DURATION, FROM_3_6, experimental="3.6.0..3.7.0"),
    Setting("metrics", STRING, ALL, choices=("basic", "extensive")),
    Setting("enable-pprof", BOOLEAN, "3.4.34.."),  # before, it panics when built with Go 1.22
    Setting("enable-distributed-tracing", BOOLEAN, FROM_3_6, experimental="3.5.0..3.7.0"),
    Setting("distributed-tracing-address", STRING, FROM_3_6, experimental="3.5.0..3.7.0"),
    Setting("distributed-tracing-service-name", STRING, FROM_3_6, experimental="3.5.0..3.7.0"),
    Setting("distributed-tracing-instance-id", STRING, FROM_3_6, experimental="3.5.0..3.7.0"),
    Setting("distributed-tracing-sampling-rate", INTEGER, FROM_3_6, experimental="3.5.11..3.7.0", most=10**6),

    Setting("feature-gates", GATES, FROM_3_6),
)  # fmt: skip

# From server/features/etcd_features.go.
FEATURE_GATES: Final = (
    Gate("CompactHashCheck", FROM_3_6, "experimental-compact-hash-check-enabled", "3.5.5..3.7.0"),
    Gate("FastLeaseKeepAlive", "3.7.0.."),
    Gate("InitialCorruptCheck", FROM_3_6, "experimental-initial-corrupt-check", TO_3_6),
    Gate("LeaseCheckpoint", FROM_3_6, "experimental-enable-lease-checkpoint", TO_3_6),
    Gate("LeaseCheckpointPersist", FROM_3_6,
         "experimental-enable-lease-checkpoint-persist", "3.4.20..3.5.0 3.5.2..3.7.0"),
    Gate("PriorityRequest", "3.7.0.."),
    Gate("SetMemberLocalAddr", FROM_3_6),
    Gate("StopGRPCServiceOnDefrag", FROM_3_6, "experimental-stop-grpc-service-on-defrag", "3.5.14..3.7.0"),
    Gate("TxnModeWriteWithSharedBuffer", FROM_3_6,
         "experimental-txn-mode-write-with-shared-buffer", "3.5.0..3.7.0"),
)  # fmt: skip

# Every key of the two tables by its name, older names included.
KNOWN: Final = {
    **{setting.name: setting for setting in SETTINGS},
    **{
        f"experimental-{setting.name}": replace(setting, releases=setting.experimental, now=setting.name)
        for setting in SETTINGS
        if setting.experimental
    },
    **{gate.was: Setting(gate.was, BOOLEAN, gate.was_releases, now=gate.name) for gate in FEATURE_GATES if gate.was},
}


@dataclass(frozen=True)
class Reserved:
    """Settings, as patterns, that users may not set: why, and what to do about it."""

    names: str
    why: str
    fix: str


RESERVED: Final = (
    Reserved("name", "etcd-cluster names the members", "leave it out, or name them under hosts"),
    Reserved("data-dir wal-dir", "both are on the data volume", "use hosts.NAME.device to choose that volume"),
    Reserved("listen-*-urls initial-advertise-* advertise-*-urls", "etcd-cluster knows every member's addresses",
             "use hosts.NAME.address"),
    Reserved("initial-cluster* discovery* proxy*", "etcd-cluster tells members of one another",
             "use members, or hosts"),
    Reserved("client-* peer-* experimental-peer-* cert-file key-file *ca-file *auto-tls self-signed-*",
             "etcd-cluster makes the certificates and says where they are", "use tls"),
    Reserved("force-new-cluster unsafe-no-fsync", "it gives up data that etcd acknowledged", "leave it out"),
    Reserved("enable-v2 experimental-enable-v2v3 v2-deprecation", "a cluster with v2 data is stuck on 3.5",
             "leave it out, and move v2 clients to v3"),
    Reserved("socket-options socket-reuse-*", "a second etcd could take a member's ports", "leave it out"),
    Reserved("debug log-package-levels", "it is gone since 3.5", "use log-level"),
    Reserved("log-output", "it is gone since 3.5", "use log-outputs"),
)  # fmt: skip


@dataclass(frozen=True)
class Default:
    """A setting that every member has unless the user sets it, and the releases that it is for."""

    name: str
    value: str | int | bool | tuple[str, ...]
    releases: str


DEFAULTS: Final = (
    # Left alone, etcd never compacts; and the compact hash check compares what compactions leave.
    Default("auto-compaction-mode", "periodic", ALL),
    Default("auto-compaction-retention", "1h", ALL),
    # 3.4 and 3.5 would wait for 100000 entries, and the next minor cannot start from what their log holds until
    # then. 3.6 has 10000 by default; before 3.6.8 it warns if that is set.
    Default("snapshot-count", 10_000, "3.4.9..3.6.0 3.6.8.."),
    # The cheap checks. The third, corrupt-check-time, reads the whole database: the user's to choose.
    Default("experimental-initial-corrupt-check", True, "3.4.9..3.6.0"),
    Default("experimental-compact-hash-check-enabled", True, "3.5.5..3.6.0"),
    Default("feature-gates", "CompactHashCheck=true,InitialCorruptCheck=true", FROM_3_6),
    # Later releases do this by default. 3.4 has no gateway when it reads a file, but one when it reads flags.
    Default("pre-vote", True, ALL),
    Default("strict-reconfig-check", True, ALL),
    Default("enable-grpc-gateway", True, ALL),
    Default("logger", "zap", ALL),
    Default("log-outputs", ("stderr",), ALL),
    Default("log-level", "info", ALL),
)


def defaults(version: str) -> dict[str, object]:
    """Returns the settings that every member of this release has, in the file's own types."""
    release = Version.parse(version)
    return {
        default.name: list(default.value) if isinstance(default.value, tuple) else default.value
        for default in DEFAULTS
        if within(release, default.releases)
    }


def validate_options(options: Mapping[str, object], version: str) -> dict[str, object]:
    """Returns a user's settings, in the types that etcd's configuration file takes.

    They are validated on top of `defaults(version)`, which is how they are used. Feature gates come back complete, the
    default ones included.

    Args:
        options: Settings by their etcd names. Numbers and booleans may be strings or floats.
        version: A supported release, such as "3.6.16".

    Raises:
        ConfigurationError: For the first setting that this release would ignore or refuse, or that does harm.
    """
    release = Version.parse(version)
    chosen: dict[str, object] = {}
    for name, value in options.items():
        setting = _find(name, value, release)
        chosen[name] = _read(name, value, setting, release)
    settings = defaults(version)
    if "feature-gates" in chosen:
        chosen["feature-gates"] = _gates({**_states(settings), **_states(chosen)})
    settings.update(chosen)
    for check in (
        _check_raft,
        _check_compaction,
        _check_tls,
        _check_names,
        _check_leases,
        _check_logs,
        _check_token,
    ):
        check(settings, release)
    return chosen


def _find(name: str, value: object, release: Version) -> Setting:
    """Returns the setting of that name, if this release reads it and a user may set it."""
    if name in KNOWN and within(release, KNOWN[name].releases):
        return KNOWN[name]
    if name in KNOWN:
        raise _error(name, value, f"etcd {release} does not read it", _replacement(name, release))
    for reserved in RESERVED:
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in reserved.names.split()):
            raise _error(name, value, reserved.why, reserved.fix)
    names = [known for known, setting in KNOWN.items() if within(release, setting.releases)]
    near = difflib.get_close_matches(name.lstrip("-").replace("_", "-").lower(), names, n=1, cutoff=0.7)
    raise _error(name, value, f"etcd {release} has no such setting", f"use {near[0]}" if near else "leave it out")


def _replacement(name: str, release: Version) -> str:
    """Returns what to do about a setting that other releases read, but not this one."""
    setting = KNOWN[name]
    if _is_gate(setting.now) and release >= Version(3, 6, 0):
        return f"use feature-gates with {setting.now}"
    if setting.kind is GATES:
        return "use settings such as experimental-initial-corrupt-check"
    others = [setting.now, *(older for older, row in KNOWN.items() if row.now == name)]
    for other in others:
        if other in KNOWN and within(release, KNOWN[other].releases):
            return f"use {other}"
    since = [part.split("..")[0] for part in setting.releases.split()]
    later = [first for first in since if Version.parse(first).series == release.series]
    return f"use etcd {later[0]} or later, or leave it out" if later else "leave it out"


def _read(name: str, value: object, setting: Setting, release: Version) -> Value:
    """Returns the value in the file's own type, within its limits."""
    wrong = f"etcd {release} does not take this"
    try:
        read = setting.kind.read(value)
    except ValueError:
        raise _error(name, value, wrong, f"write {setting.kind.expected}") from None
    items = read if isinstance(read, list) else [read]
    if setting.choices and not all(item in setting.choices for item in items):
        raise _error(name, value, wrong, f"write {', '.join(setting.choices[:-1])} or {setting.choices[-1]}")
    if isinstance(read, int) and read < setting.least:
        raise _error(name, value, setting.too_small, f"write at least {setting.least}")
    if isinstance(read, int) and setting.most is not None and read > setting.most:
        raise _error(name, value, "this is too large", f"write at most {setting.most}")
    if setting.kind is GATES:
        known = [gate.name for gate in FEATURE_GATES if within(release, gate.releases)]
        for gate in _states({name: read}):
            if gate not in known:
                near = difflib.get_close_matches(gate, known, n=1) or known
                raise _error(name, value, f"etcd {release} has no feature gate {gate}", f"use {', '.join(near)}")
    return read


def _is_gate(now: str) -> bool:
    return now[:1].isupper()


def _states(settings: Mapping[str, object]) -> dict[str, str]:
    """Returns feature gate -> its state."""
    gates = str(settings.get("feature-gates", ""))
    return dict(pair.split("=") for pair in gates.split(",")) if gates else {}


def _check_raft(settings: Mapping[str, object], _: Version) -> None:
    heartbeat = _integer(settings.get("heartbeat-interval", 100))  # etcd's own default, as is 1000
    election = _integer(settings.get("election-timeout", 1000))
    if election < 5 * heartbeat:
        problem = f"etcd needs at least five times the heartbeat-interval, which is {heartbeat} ms"
        raise _error("election-timeout", election, problem, f"write {5 * heartbeat} or more")


def _check_compaction(settings: Mapping[str, object], _: Version) -> None:
    retention = str(settings["auto-compaction-retention"])
    if settings["auto-compaction-mode"] == "revision" and not retention.isdigit():
        problem = "auto-compaction-mode revision needs a number of revisions"
        raise _error("auto-compaction-retention", retention, problem, "write a whole number, such as 1000")


def _check_tls(settings: Mapping[str, object], _: Version) -> None:
    if settings.get("tls-min-version") != "TLS1.3":
        return
    if settings.get("tls-max-version") == "TLS1.2":
        raise _error("tls-min-version", "TLS1.3", "tls-max-version is below it", "leave one of them out")
    if "cipher-suites" in settings:
        problem = "cipher suites cannot be chosen when tls-min-version is TLS1.3"
        raise _error("cipher-suites", settings["cipher-suites"], problem, "leave one of them out")


def _check_names(settings: Mapping[str, object], _: Version) -> None:
    gates = str(settings.get("feature-gates", ""))
    for name, value in settings.items():
        now = KNOWN[name].now
        if _is_gate(now) and now in gates:  # as etcd does, this looks for the name anywhere in the string
            problem = f"feature gate {now} took its place and is set as well"
            raise _error(name, value, problem, f"use feature-gates with {now}")
        if now in settings:
            raise _error(name, value, f"{now} is its name now and is set as well", f"use {now}")


def _check_leases(settings: Mapping[str, object], _: Version) -> None:
    problem, fix = "lease checkpoints cannot be persisted when none are taken", "enable lease checkpoints as well"
    states = _states(settings)
    if states.get("LeaseCheckpointPersist") == "true" and states.get("LeaseCheckpoint") != "true":
        raise _error("feature-gates", settings["feature-gates"], problem, fix)
    persist, take = "experimental-enable-lease-checkpoint-persist", "experimental-enable-lease-checkpoint"
    if settings.get(persist) and not settings.get(take):
        raise _error(persist, True, problem, fix)


def _check_logs(settings: Mapping[str, object], release: Version) -> None:
    if settings["logger"] == "capnslog" and release.series != "3.4":
        raise _error("logger", "capnslog", "it is gone since 3.5", "write zap")
    files = set(_strings(settings["log-outputs"])) - {"default", "stderr", "stdout"}
    if settings.get("enable-log-rotation") and len(files) != 1:
        problem = "etcd rotates one log file, no more and no less"
        raise _error("enable-log-rotation", True, problem, "write that file's path in log-outputs")


def _check_token(settings: Mapping[str, object], _: Version) -> None:
    token = str(settings.get("auth-token", "simple"))
    if token.partition(",")[0] not in ("simple", "jwt"):
        raise _error("auth-token", token, "etcd knows no such token", "write simple, or jwt with its options")


def _error(name: str, value: object, problem: str, fix: str) -> ConfigurationError:
    return ConfigurationError(f"etcd.{name}", value, problem, fix)
