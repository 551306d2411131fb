"""Defines the etcd server's settings under `etcd`, by their own names: which release reads which, and as what type.

etcd ignores a key that it does not know without a message, and refuses to start over a value of the wrong type. So a
key that is not in these tables is refused here, and values become exactly what the configuration file takes.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Final, cast
from urllib.parse import urlsplit

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.etcd.versions import Version, within
from etcd_cluster.names import is_host, is_one_line, nearest

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
    if isinstance(value, str) and value and is_one_line(value):
        return value
    raise ValueError


def _strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [_string(item.strip()) for item in value.split(",")]
    if isinstance(value, list | tuple) and value:
        return [_string(item) for item in cast(Iterable[object], value)]
    raise ValueError


def _origins(value: object) -> str:
    """Reads what `types.NewURLs` takes: a port always, a path never. etcd panics over anything else."""
    origins = _strings(value)
    for origin in origins if origins != ["*"] else []:
        scheme, _, host_and_port = origin.partition("://")
        if scheme not in ("http", "https"):
            raise ValueError
        _host_and_port(host_and_port)
    return ",".join(origins)


def _host_and_port(value: object) -> str:
    text = _string(value)
    parts = urlsplit(f"//{text}")
    if parts.netloc != text or "@" in text or not parts.port or not is_host(parts.hostname or ""):
        raise ValueError
    return text


def _hosts(value: object) -> str:
    hosts = _strings(value)
    if hosts != ["*"] and not all(map(is_host, hosts)):
        raise ValueError
    return ",".join(hosts)


LOG_STREAMS: Final = ("default", "stderr", "stdout", "systemd/journal")


def _outputs(value: object) -> list[str]:
    """Reads streams, and absolute paths of files. Two of etcd's streams stand alone."""
    outputs = _strings(value)
    alone = {"default", "systemd/journal"}.intersection(outputs)
    if len(set(outputs)) != len(outputs) or (alone and len(outputs) > 1):
        raise ValueError
    for file in set(outputs).difference(LOG_STREAMS):
        if not file.startswith("/") or ".." in PurePosixPath(file).parts or re.search(r"[\s%?#]", file):
            raise ValueError
    return outputs


# Of lumberjack.Logger, as setupLogRotation reads it; the file's name comes from log-outputs.
_ROTATION: Final[Mapping[str, type]] = {
    "maxsize": int,
    "maxage": int,
    "maxbackups": int,
    "localtime": bool,
    "compress": bool,
}


def _rotation(value: object) -> str:
    text = _string(value)
    read: object = json.loads(text)  # its error is a ValueError
    if not isinstance(read, dict):
        raise ValueError
    for name, item in cast("dict[str, object]", read).items():
        if type(item) is not _ROTATION.get(name) or (isinstance(item, int) and not 0 <= item < 2**31):
            raise ValueError
    return text


_SIGNED: Final = re.compile(r"(RS|PS|ES|HS)(256|384|512)|EdDSA")


def _token(value: object) -> str:
    """Reads what `NewTokenProvider` takes. Without a private key no member could sign, so nobody could log in."""
    text = _string(value)
    kind, *options = text.split(",")
    if kind == "simple" and not options:
        return text
    pairs = [option.partition("=") for option in options]
    given = {name: content for name, _, content in pairs}
    keys = [given[name] for name in ("priv-key", "pub-key") if name in given]
    if (
        kind != "jwt"
        or len(given) != len(pairs)
        or not {"sign-method", "priv-key"} <= given.keys() <= {"sign-method", "priv-key", "pub-key", "ttl"}
        or not _SIGNED.fullmatch(given["sign-method"])
        or not all(key.startswith("/") and "=" not in key for key in keys)
        or not re.fullmatch(_DURATION, given.get("ttl", "5m"))
        or not SECOND <= _nanoseconds(given.get("ttl", "5m")) <= 10 * 365 * 24 * HOUR
    ):
        raise ValueError
    return text


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
    """What a value must be.

    Attributes:
        expected: The same in words.
        read: Reads it, and raises `ValueError` for anything else.
        most: The largest number of this kind, unless the setting has a limit of its own.
    """

    expected: str
    read: Callable[[object], Value]
    most: int | None = None


SECOND: Final = 10**9
HOUR: Final = 3600 * SECOND

INTEGER: Final = Kind("a whole number, such as 100", _integer, most=2**31 - 1)
BOOLEAN: Final = Kind("true or false", _boolean)
STRING: Final = Kind("text in one line", _string)
STRINGS: Final = Kind("a list of texts", _strings)
ORIGINS: Final = Kind('"*", or origins with their ports, such as "https://app.example:443"', _origins)
HOSTS: Final = Kind('"*", or host names and IP addresses without ports', _hosts)
HOST_AND_PORT: Final = Kind('a host and its port, such as "localhost:4317"', _host_and_port)
OUTPUTS: Final = Kind("stderr or stdout, the absolute paths of files, or default or systemd/journal alone", _outputs)
ROTATION: Final = Kind('JSON with whole numbers, such as {"maxsize": 100, "maxage": 7, "maxbackups": 5}', _rotation)
TOKEN: Final = Kind(
    "simple, or jwt with its key files, method and time (from 1s): "
    "jwt,pub-key=/FILE,priv-key=/FILE,sign-method=RS256,ttl=10m",
    _token,
)
DURATION: Final = Kind('a duration with its unit, such as "500ms" or "1h30m"', _nanoseconds, most=10 * 365 * 24 * HOUR)
RETENTION: Final = Kind('a duration or a number of revisions, such as "1h" or 1000', _retention)
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
        most: The largest number it may be; None for the limit of its kind.
        or_zero: 0 is taken although it is below `least`: etcd reads it as "off", or as its own default.
        too_small: Why a number below `least` is refused.
        too_large: Why a number above `most` is refused.
    """

    name: str
    kind: Kind
    releases: str
    experimental: str = ""
    now: str = ""
    choices: tuple[str, ...] = ()
    least: int = 0
    most: int | None = None
    or_zero: bool = False
    too_small: str = "this is too small"
    too_large: str = "this is too large"


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
ELECTION_LEAST_MS: Final = 100
HEARTBEAT_LEAST_MS: Final = 10
"""Etcd's own tests run with these two, on loopback: with less, a slow write to disk costs the leader its place."""
REVISIONS_LIMIT: Final = 2**31 - 1
REQUEST_LEAST_BYTES: Final = 64 * 1024
REQUEST_LIMIT_BYTES: Final = 511 * 1024**2
"""rafthttp reads no message over 512 MiB (`readBytesLimit`), and a request is in one."""
ENTRIES_LIMIT: Final = 1_000_000
"""etcd keeps these entries of its log in memory, each of up to max-request-bytes."""
BCRYPT_LIMIT: Final = 14  # about a second
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
HTTP_2: Final = "AES_128_GCM_SHA256"  # Go's HTTP/2 server does not start without one
LOG_LEVELS: Final = ("debug", "info", "warn", "error", "dpanic", "panic", "fatal")

# From the json tags in embed/config.go (3.4) and server/embed/config.go at every release since 3.4.9.
SETTINGS: Final = (
    # Raft and membership
    Setting("heartbeat-interval", INTEGER, ALL, least=HEARTBEAT_LEAST_MS, most=ELECTION_LIMIT_MS // 5,
            too_small="in fewer milliseconds no follower answers reliably"),
    Setting("election-timeout", INTEGER, ALL, least=ELECTION_LEAST_MS, most=ELECTION_LIMIT_MS,
            too_small="in fewer milliseconds a slow write to disk costs the leader its place"),
    Setting("initial-election-tick-advance", BOOLEAN, ALL),
    Setting("pre-vote", BOOLEAN, ALL),
    Setting("strict-reconfig-check", BOOLEAN, ALL),
    Setting("max-learners", INTEGER, FROM_3_6, least=1),
    Setting("next-cluster-version-compatible", BOOLEAN, "3.4.31..3.5.0"),
    Setting("snapshot-count", INTEGER, ALL, least=1, most=ENTRIES_LIMIT,
            too_large="etcd keeps that many entries of its log in memory"),
    Setting("snapshot-catchup-entries", INTEGER, FROM_3_6, least=1, most=ENTRIES_LIMIT,
            too_large="etcd keeps that many entries of its log in memory"),
    Setting("experimental-snapshot-catch-up-entries", INTEGER, "3.5.14..3.7.0",
            now="snapshot-catchup-entries", least=1, most=ENTRIES_LIMIT,
            too_large="etcd keeps that many entries of its log in memory"),
    Setting("max-snapshots", INTEGER, ALL),
    Setting("max-wals", INTEGER, ALL),
    Setting("downgrade-check-time", DURATION, FROM_3_6, experimental="3.5.0..3.7.0", least=SECOND, or_zero=True),

    # Requests and connections
    Setting("max-request-bytes", INTEGER, ALL, least=REQUEST_LEAST_BYTES, most=REQUEST_LIMIT_BYTES,
            too_small="etcd refuses every larger request, and ordinary ones are larger",
            too_large="members read no such message from one another"),
    Setting("max-txn-ops", INTEGER, ALL, least=1, most=1_000_000,
            too_large="one transaction would hold every member up for seconds"),
    Setting("max-concurrent-streams", INTEGER, "3.4.20..3.5.0 3.5.5..", least=1, most=2**32 - 1),
    Setting("grpc-keepalive-min-time", DURATION, ALL, least=SECOND, most=60 * SECOND, or_zero=True,
            too_large="etcd disconnects clients that ask more often, as most do"),
    Setting("grpc-keepalive-interval", DURATION, ALL, least=SECOND, most=24 * HOUR, or_zero=True,
            too_small="gRPC asks no client more often than each second"),
    Setting("grpc-keepalive-timeout", DURATION, ALL, least=SECOND, most=HOUR, or_zero=True,
            too_small="a client that answers a little late is disconnected"),
    Setting("enable-grpc-gateway", BOOLEAN, ALL),
    Setting("watch-progress-notify-interval", DURATION, FROM_3_6, experimental="3.4.11..3.7.0",
            least=SECOND // 10, or_zero=True),
    Setting("cors", ORIGINS, ALL),
    Setting("host-whitelist", HOSTS, ALL),
    Setting("tls-min-version", STRING, "3.4.25..3.5.0 3.5.8..", choices=TLS_VERSIONS),
    Setting("tls-max-version", STRING, "3.4.25..3.5.0 3.5.8..", choices=TLS_VERSIONS),
    Setting("cipher-suites", STRINGS, ALL, choices=CIPHER_SUITES),

    # Users
    Setting("auth-token", TOKEN, ALL),
    Setting("auth-token-ttl", INTEGER, "3.4.10..", least=1, most=10 * 365 * 24 * 3600),
    Setting("bcrypt-cost", INTEGER, ALL, least=4, most=BCRYPT_LIMIT,
            too_large="each step doubles the time of a log-in, and etcd gives a request 5 seconds"),

    # Storage and compaction
    Setting("quota-backend-bytes", INTEGER, ALL, least=QUOTA_LEAST_BYTES, most=QUOTA_LIMIT_BYTES,
            too_small="etcd takes 0 as its own 2 GiB and less as no limit, and a quota this small is full at once"),
    Setting("backend-batch-interval", DURATION, ALL, least=SECOND // 1000, most=10 * SECOND, or_zero=True),
    Setting("backend-batch-limit", INTEGER, ALL, most=1_000_000),
    Setting("backend-bbolt-freelist-type", STRING, FROM_3_5, experimental="3.4.9..3.5.0", choices=("array", "map")),
    Setting("bootstrap-defrag-threshold-megabytes", INTEGER, FROM_3_6, experimental="3.5.0..3.7.0"),
    Setting("memory-mlock", BOOLEAN, FROM_3_6, experimental="3.5.0..3.7.0"),
    Setting("auto-compaction-mode", STRING, ALL, choices=("periodic", "revision")),
    Setting("auto-compaction-retention", RETENTION, ALL),
    Setting("compaction-batch-limit", INTEGER, FROM_3_6, experimental=TO_3_6, least=1, most=1_000_000),
    Setting("compaction-sleep-interval", DURATION, FROM_3_6, experimental="3.5.16..3.7.0",
            least=SECOND // 1000, most=10 * SECOND, or_zero=True),
    Setting("corrupt-check-time", DURATION, FROM_3_6, experimental=TO_3_6, least=60 * SECOND, or_zero=True,
            too_small="each check reads the whole database"),
    Setting("compact-hash-check-time", DURATION, FROM_3_6, experimental="3.5.5..3.7.0", least=SECOND),

    # What is logged and measured
    Setting("logger", STRING, ALL, choices=("zap", "capnslog")),
    Setting("log-level", STRING, ALL, choices=LOG_LEVELS),
    Setting("log-outputs", OUTPUTS, ALL),
    Setting("log-format", STRING, FROM_3_6, choices=("json", "console")),
    Setting("enable-log-rotation", BOOLEAN, FROM_3_5),
    Setting("log-rotation-config-json", ROTATION, FROM_3_5),
    Setting("warning-apply-duration", DURATION, FROM_3_6, experimental="3.4.16..3.7.0",
            least=SECOND // 1000, too_small="every request would be in the log"),
    Setting("warning-unary-request-duration", DURATION, FROM_3_6, experimental="3.6.0..3.7.0",
            least=SECOND // 1000, too_small="every request would be in the log"),
    Setting("metrics", STRING, ALL, choices=("basic", "extensive")),
    Setting("enable-pprof", BOOLEAN, "3.4.34.."),  # before, it panics when built with Go 1.22
    Setting("enable-distributed-tracing", BOOLEAN, FROM_3_6, experimental="3.5.0..3.7.0"),
    Setting("distributed-tracing-address", HOST_AND_PORT, FROM_3_6, experimental="3.5.0..3.7.0"),
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


def with_feature_gate(gates: str, gate: str) -> str:
    """Returns the value of `feature-gates` with one more gate that is on, unless the value names that gate already."""
    return _gates({gate: True, **_states({"feature-gates": gates})})


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
        _check_memory,
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
    near = nearest(name.lstrip("-").replace("_", "-").lower(), names, least=0.7)
    raise _error(name, value, f"etcd {release} has no such setting", f"use {near}" if near else "leave it out")


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
    if isinstance(read, int) and not isinstance(read, bool):
        _check_limits(name, value, read, setting)
    if setting.kind is GATES:
        known = [gate.name for gate in FEATURE_GATES if within(release, gate.releases)]
        for gate in _states({name: read}):
            if gate not in known:
                fix = f"use {nearest(gate, known) or ', '.join(known)}"
                raise _error(name, value, f"etcd {release} has no feature gate {gate}", fix)
    return read


def _check_limits(name: str, value: object, number: int, setting: Setting) -> None:
    most = setting.kind.most if setting.most is None else setting.most
    if number < setting.least and not (number == 0 and setting.or_zero):
        off = ", or 0 for etcd's own default" if setting.or_zero else ""
        raise _error(name, value, setting.too_small, f"write at least {_limit(setting, setting.least)}{off}")
    if most is not None and number > most:
        raise _error(name, value, setting.too_large, f"write at most {_limit(setting, most)}")


def bounds(setting: Setting) -> str:
    """Returns the limits of a setting's numbers, in words; "" for other kinds."""
    if setting.kind not in (INTEGER, DURATION):
        return ""
    most = setting.kind.most if setting.most is None else setting.most
    off = "0, or " if setting.or_zero else ""
    return f"{off}{_limit(setting, setting.least)} to {_limit(setting, cast(int, most))}"


def _limit(setting: Setting, number: int) -> str:
    """Returns a limit as a user writes it: nanoseconds in the largest unit that fits."""
    if setting.kind is not DURATION or not number:
        return str(number)
    unit = max((unit for unit in _NANOSECONDS if number % _NANOSECONDS[unit] == 0), key=lambda unit: _NANOSECONDS[unit])
    return f"{number // int(_NANOSECONDS[unit])}{unit}"


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
    if settings["auto-compaction-mode"] == "revision":
        if not retention.isdigit() or int(retention) > REVISIONS_LIMIT:
            problem = "auto-compaction-mode revision needs a number of revisions"
            fix = f"write a whole number up to {REVISIONS_LIMIT}, such as 1000"
            raise _error("auto-compaction-retention", retention, problem, fix)
        return
    nanoseconds = int(retention) * HOUR if retention.isdigit() else _nanoseconds(retention)
    if nanoseconds and not SECOND <= nanoseconds <= cast(int, DURATION.most):  # by retention / 10, etcd looks again
        problem = "auto-compaction-mode periodic needs a time in which compacting is worth while"
        fix = 'write a duration from "1s" to "87600h", such as "1h" (a bare number is hours), or 0 for no compaction'
        raise _error("auto-compaction-retention", retention, problem, fix)


def _check_tls(settings: Mapping[str, object], _: Version) -> None:
    suites = cast("list[str]", settings.get("cipher-suites", CIPHER_SUITES))
    if not any("_ECDSA_" in suite for suite in suites) or not any(suite.endswith(HTTP_2) for suite in suites):
        problem = f"members have ECDSA certificates, and HTTP/2 needs a suite with {HTTP_2}"
        raise _error("cipher-suites", suites, problem, f"add {CIPHER_SUITES[0]}")
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


def log_files(settings: Mapping[str, object]) -> set[str]:
    """Returns the paths of the files that etcd writes its log to."""
    return set(_strings(settings["log-outputs"])).difference(LOG_STREAMS)


def _check_logs(settings: Mapping[str, object], release: Version) -> None:
    if settings["logger"] == "capnslog" and release.series != "3.4":
        raise _error("logger", "capnslog", "it is gone since 3.5", "write zap")
    files = log_files(settings)
    if settings.get("enable-log-rotation") and len(files) != 1:
        problem = "etcd rotates one log file, no more and no less"
        raise _error("enable-log-rotation", True, problem, "write that file's path in log-outputs")


def _check_memory(settings: Mapping[str, object], _: Version) -> None:
    for name in ("memory-mlock", "experimental-memory-mlock"):
        if settings.get(name):
            problem = "etcd's unit may not lock memory, and etcd would not start"
            raise _error(name, True, problem, "leave it out, and switch swap off on the machines")


def _error(name: str, value: object, problem: str, fix: str) -> ConfigurationError:
    return ConfigurationError(f"etcd.{name}", value, problem, fix)
