"""Bad input, all of it, is refused before anything is touched: by key, value, what is expected and what to do.

Every row goes through the stack's config and, as the same classes in a program, through arguments.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

import pulumi
import pytest

from etcd_cluster import (
    AwsMachines,
    Backup,
    Bastion,
    ConfigurationError,
    Dns,
    EtcdClusterArgs,
    GcpMachines,
    Host,
    HostMachines,
    Install,
    LocalMachines,
    Recover,
    RestoreInPlace,
    Ssh,
)
from etcd_cluster.settings import Settings, validate_arguments
from etcd_cluster.stack_config import NAMESPACE, args_from_stack_config
from etcd_cluster.users import Permission, User
from tests.unit.keys import host_key, private_key

Config = dict[str, Any]
WORLD = [f"{first}.0.0.0/8" for first in range(256)]
ECDSA_256, RSA_128 = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
JWT = "jwt,pub-key=/etc/etcd/jwt.pub,priv-key=/etc/etcd/jwt.key"


def hosts(**changes: Any) -> Config:
    """Three hosts; `h2={"address": ...}` changes one of them."""
    listed = {f"h{n}": {"address": f"10.0.0.{n}", "hostKey": host_key(n)} for n in (1, 2, 3)}
    ssh = changes.pop("ssh", None)
    merged = {name: {**listed.get(name, {}), **changes.get(name, {})} for name in {**listed, **changes}}
    return {"platform": "hosts", "hosts": merged, **({"ssh": ssh} if ssh is not None else {})}


def ssh(**block: Any) -> Config:
    return hosts(ssh=block)


def bastion(**block: Any) -> Config:
    return ssh(bastion={"address": "10.9.0.1", "hostKey": host_key(9), **block})


def local(**values: Any) -> Config:
    return {"platform": "local", **values}


def etcd(**settings: Any) -> Config:
    return hosts() | {"etcd": {name.replace("_", "-"): value for name, value in settings.items()}}


def install(**block: Any) -> Config:
    return hosts() | {"install": {name.rstrip("_"): value for name, value in block.items()}}


DISK = "projects/p/zones/europe-west1-b/disks/d"


def aws(**block: Any) -> Config:
    return {"platform": "aws", "aws": {"subnetIds": ["subnet-a"], "sshCidrs": ["10.0.0.0/16"], **block}}


def gcp(**block: Any) -> Config:
    given = {"network": "n", "subnetwork": "s", "zones": ["europe-west1-b"], "sshRanges": ["10.0.0.0/16"]}
    return {"platform": "gcp", "gcp": {**given, **block}}


def dns(**block: Any) -> Config:
    return hosts() | {"dns": block}


def rows(key: str, build: Any, name: str, *values: Any) -> list[tuple[str, Config]]:
    return [(key, build(**{name: value})) for value in values]


def each(key: str, build: Callable[[Any], Config], *values: Any) -> list[tuple[str, Config]]:
    return [(key, build(value)) for value in values]


def of_etcd(name: str, *values: Any) -> list[tuple[str, Config]]:
    return [(f"etcd.{name}", etcd(**{name: value})) for value in values]


def of_host(name: str, *values: Any) -> list[tuple[str, Config]]:
    return [(f"hosts.h2.{name}", hosts(h2={name: value})) for value in values]


ETCD = [
    *of_etcd("heartbeat-interval", 0, 1, 9, -1, 10_001, 2**70, "1s", 1.5, True),
    ("etcd.heartbeat-interval", etcd(heartbeat_interval=1, election_timeout=5)),
    ("etcd.election-timeout", etcd(heartbeat_interval=10, election_timeout=50)),
    *of_etcd("election-timeout", 0, 5, 99, 50_001),
    *of_etcd("quota-backend-bytes", 0, 1, -1, 2**62, 2**70),
    *of_etcd("max-request-bytes", 0, 1, 1000, 2**30, 2**40, 2**62, 2**70),
    *of_etcd("snapshot-count", 0, -1, 2**31, 2**40, 2**70),
    *of_etcd("experimental-snapshot-catch-up-entries", 2**40),
    *of_etcd("snapshot-catchup-entries", 0, 2**40, 2**70),
    *of_etcd("max-txn-ops", 0, 2**31, 2**40, 2**70),
    *of_etcd("max-concurrent-streams", 0, 2**32),
    *of_etcd("max-snapshots", 2**31, 2**70),
    *of_etcd("max-wals", 2**31, 2**70),
    *of_etcd("max-learners", 0, 2**40),
    *of_etcd("bcrypt-cost", 0, 3, 20, 31, 32),
    *of_etcd("auth-token-ttl", 0, 2**40, 2**63),
    *of_etcd("backend-batch-limit", 2**40, 2**70),
    *of_etcd("compaction-batch-limit", 0, 2**40),
    *of_etcd("bootstrap-defrag-threshold-megabytes", 2**40),
    *of_etcd("distributed-tracing-sampling-rate", -1, 10**6 + 1),
    *of_etcd("grpc-keepalive-interval", "9999999h", "-1s", "99999999999999999999h", 10**30),
    *of_etcd("grpc-keepalive-interval", "1ns", "999ms", "25h"),
    *of_etcd("grpc-keepalive-timeout", "1ns", "1ms", "25h"),
    *of_etcd("grpc-keepalive-min-time", "1ns", "1ms", "61s", "25h"),
    *of_etcd("warning-apply-duration", "1ns"),
    *of_etcd("backend-batch-interval", "1ns", "1h"),
    *of_etcd("compact-hash-check-time", 0, "1ns", "1ms"),
    *of_etcd("corrupt-check-time", "1ns", "1ms"),
    *of_etcd("downgrade-check-time", "1ns"),
    *of_etcd("watch-progress-notify-interval", "1ns"),
    *of_etcd("compaction-sleep-interval", "1h", "1ns"),
    *of_etcd("auto-compaction-retention", "1ns", "1ms", "9999999h", 10**9, "10000000000"),
    ("etcd.auto-compaction-retention", etcd(auto_compaction_mode="revision", auto_compaction_retention=2**70)),
    ("etcd.cipher-suites", etcd(cipher_suites=[RSA_128])),
    ("etcd.cipher-suites", etcd(cipher_suites=RSA_128)),
    ("etcd.cipher-suites", etcd(cipher_suites=[ECDSA_256])),
    *of_etcd("cipher-suites", "", [], ["TLS_RSA_WITH_RC4_128_SHA"], [5]),
    *of_etcd(
        "auth-token",
        *("jwt", "jwt,", "jwt,sign-method=RS256", "jwt,priv-key=/a", f"{JWT},sign-method=RS1", f"{JWT},sign-method"),
        *(f"{JWT},sign-method=RS256,ttl=soon", f"{JWT},sign-method=RS256,sign-method=RS256", "simple,a", "simple,a=b"),
        *("jwt,pub-key=/a,sign-method=RS256", "jwt,pub-key=a,priv-key=b,sign-method=RS256", f"{JWT},sign-method=none"),
        f"{JWT},sign-method=RS256,colour=blue",
        *(f"{JWT},sign-method=RS256,ttl={ttl}" for ttl in ("0s", "0h0m", "1ns", "999ms", "99999999h", "300", "-5m")),
    ),
    *of_etcd(
        "log-outputs",
        "/var/log/etcd.log",
        "etcd.log",
        "./etcd.log",
        "/tmp/etcd.log",
        "/root/etcd.log",
        "a b",
        "/data/etcd/data/member/snap/db",
    ),
    *of_etcd("log-outputs", "/data/etcd/data/../etcd.log", "/data/etcd/database.log", "file:///tmp/a", "/dev/null"),
    *of_etcd("log-outputs", ["default", "stdout"], ["systemd/journal", "stderr"], ["stderr", "stderr"]),
    *of_etcd("memory-mlock", True, "true"),
    *of_etcd("cors", "nonsense", "a,b", "https://", "https://a/b", "ftp://a:1", "https://a:port", "https://a:99999"),
    *of_etcd("cors", "*,https://a:1", "https://a b:1", "https://a", ["https://u:p@a:1"]),
    *of_etcd("host-whitelist", "https://a", "a b", "a/b", "a:port", "*.example.com"),
    *of_etcd("log-rotation-config-json", "{", "[]", "5", '{"maxsize": "a"}', '{"maxage": -1}', '{"colour": 1}'),
    *of_etcd("distributed-tracing-address", "a", "https://a:4317", "a:0", "a:99999", "a b:4317"),
    *of_etcd("distributed-tracing-service-name", "", "a\nb", "a\0b"),
    *of_etcd("feature-gates", "a", "=", "CompactHashCheck", "CompactHashCheck=maybe", {"CompactHashCheck": 5}, 5),
    *of_etcd("log-level", "", None, 5, "INFO", ["info"], {}),
    *of_etcd("pre-vote", None, "yes", 1, [], {}),
]

ADDRESSES: tuple[Any, ...] = (
    *("127.0.0.1", "127.8.9.1", "::1", "localhost", "LOCALHOST", "db.localhost", "::ffff:127.0.0.1", "[::1]"),
    *("localhost6", "localhost4", "localhost.localdomain", "localhost6.localdomain6", "ip6-localhost", "ip6-loopback"),
    *("fd00::1%eth0", "2001:db8::1%1", "fd00::1%", "10.0.0.1%eth0"),
    *("0.0.0.0", "::", "255.255.255.255", "224.0.0.1", "239.1.2.3", "ff02::1", "240.0.0.1", "0.1.2.3"),
    *("10.78", "10.78.0", "10.78.0.011", "10.78.0.256", "10.78.0.1.2", "10", "0x0a4e0001", "167772161"),
    *("host.example.", "10.0.0.2.", "-a", "a-", "a..b", ".a", "a b", " a", "a ", "a\n", "a,b", "", "ä.example", "*"),
    *("fe80::1", "fe80::1%eth0", "[fd00::2]", "fd00::2/64", "10.0.0.2/24", "10.0.0.2:2379", "https://a", "user@a"),
    *("fd00:::2", "fd00::g", "1::2::3", "a:b", ":", "a" * 64, ".".join(["a" * 60] * 5), "::ffff:10.0.0.2", 5, None, []),
)
SAME_HOST = ("10.0.0.1", "::ffff:10.0.0.1")

HOSTS = [
    *of_host("address", *ADDRESSES, *SAME_HOST),
    *of_host("sshAddress", *(each for each in ADDRESSES if each is not None and "127." not in str(each)
                             and "localhost" not in str(each).lower() and each not in ("::1", "ip6-loopback")),
             *SAME_HOST),
    ("hosts.h2.address", hosts(h1={"address": "db.example"}, h2={"address": "DB.Example"})),
    ("hosts.h2.address", hosts(h1={"address": "fd00::1"}, h2={"address": "FD00:0:0::0001"})),
    ("hosts.h2.address", hosts(h1={"address": "fd00::1"}, h2={"address": "fd00:0:0:0:0:0:0:1"})),
    ("hosts.h2.address", hosts(h1={"sshAddress": "10.0.0.2"})),
    ("hosts.h2.sshAddress", hosts(h2={"sshAddress": "10.0.0.1"})),
    ("hosts.h3.sshAddress", hosts(h2={"sshAddress": "db.example"}, h3={"sshAddress": "DB.EXAMPLE"})),
    ("hosts.h3.sshAddress", hosts(h2={"sshAddress": "fd00::1"}, h3={"sshAddress": "fd00:0::1"})),
    *of_host("hostKey", host_key(1), f"{host_key(1)} root@h1", f"{host_key(1)}  other"),
    *of_host("hostKey", "", "ssh-ed25519", "ssh-ed25519 ", "ssh-ed25519 AAAA", "ssh-ed25519 !!", "garbage", None, 5),
    *of_host("hostKey", host_key(2)[:-4], host_key(2) + "AAAA", f"h2 {host_key(2)}", host_key(2).split()[1]),
    *of_host("hostKey", host_key(2, "ssh-rsa"), host_key(2).replace("ssh-ed25519", "ecdsa-sha2-nistp256"), "a\nb"),
    *of_host("hostKey", f"{host_key(2)}\n{host_key(3)}", "SHA256:abcdef", "-----BEGIN OPENSSH PRIVATE KEY-----", []),
    *of_host("device", "", "nvme1n1", "/dev/", "/etc/passwd", "/dev/../etc/passwd", "/dev/a b", "/dev/a,", 5),
    *of_host("device", "/dev/null", "/dev/a,/dev/a", "/dev/a/../b", "/dev/./a", "/dev//a"),
    *of_host("device", "/dev/stdin", "/dev/stderr", "/dev/fd/0", "/dev/tty0", "/dev/pts/0", "/dev/shm/a", "/dev/nvme0"),
    *of_host("device", "/dev/console", "/dev/kmsg", "/dev/mem", "/dev/loop-control", "/dev/mapper/control", "/dev/sg0"),
    *of_host("device", "/dev/ram0", "/dev/zram1", "/dev/sr0", "/dev/cdrom", "/dev/a\\b", "/dev/a\\x2", "/dev/a\\xZZ"),
    *[(f"hosts.{name}", hosts(**{name: {"address": "10.0.0.4", "hostKey": host_key(4)}}))
      for name in ("H4", "h_4", "-h4", "h4-", "a" * 64, "h 4", "", "h.4", "é")],
    ("hosts", {"platform": "hosts"}),
    ("hosts", {"platform": "hosts", "hosts": {}}),
    ("hosts", hosts(h4={"address": "10.0.0.4", "hostKey": host_key(4)})),
    ("members", hosts() | {"members": 5}),
]  # fmt: skip

KEYS: tuple[Any, ...] = (
    *("", " ", "\n", "garbage", "\0\1\2", host_key(1), "ssh-rsa AAAA", "-----BEGIN OPENSSH PRIVATE KEY-----"),
    *("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "~/.ssh/id_ed25519", private_key(b"aes256-ctr")),
    *("-----BEGIN OPENSSH PRIVATE KEY-----\n-----END OPENSSH PRIVATE KEY-----", private_key()[:-60]),
    "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----",
    "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIB\n-----END RSA PRIVATE KEY-----",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    *(5, [], {}),
)
PORTS: tuple[Any, ...] = (0, -1, -22, 65_536, 99_999, 2**40, "", 22.5, True, [], {}, "ssh", "0x16", "2_2", " 22")

SSH = [
    *rows("ssh.port", ssh, "port", *PORTS),
    *rows("ssh.user", ssh, "user", "", " ", "a b", "-a", "a:b", "a\n", "a/b", 5, []),
    *rows("ssh.privateKey", ssh, "privateKey", *KEYS),
    *rows("ssh.bastion.port", bastion, "port", *PORTS),
    *rows("ssh.bastion.user", bastion, "user", "", "a b", "-a", 5),
    *rows("ssh.bastion.privateKey", bastion, "privateKey", *KEYS),
    *rows("ssh.bastion.hostKey", bastion, "hostKey", host_key(9, "ssh-rsa"), "", "ssh-ed25519 AAAA", host_key(2), 5),
    *rows("ssh.bastion.address", bastion, "address", *SAME_HOST, "", "10.78", "a.", "a b", "0.0.0.0", 5),
    ("ssh.bastion.address", {**hosts(h2={"sshAddress": "db.example"}), "ssh": {
        "bastion": {"address": "DB.example", "hostKey": host_key(9)}}}),
    *each("ssh.bastion", lambda value: ssh(bastion=value), "10.9.0.1", [], 5),
    *each("ssh", lambda value: hosts() | {"ssh": value}, "root", [], 5),
    ("ssh.bastion.address", ssh(bastion={"hostKey": host_key(9)})),
    ("ssh.bastion.hostKey", ssh(bastion={"address": "10.9.0.1"})),
]  # fmt: skip
INSTALL = [
    ("install.archive", install(archive="etcd.tar.gz")),
    ("install.archive", install(from_="release", archive="etcd.tar.gz")),
    ("install.archive", install(from_="build", archive="etcd.tar.gz")),
    ("install.archive", install(from_="archive")),
    *each("install.archive", lambda value: install(from_="archive", archive=value), "", "~nosuchuser/a", "a\nb", 5, []),
    *rows("install.from", install, "from_", "", "auto", "git", "Release", 5, []),
    *rows("install.mirror", install, "mirror", "", "https://", "http://", "https:///a", "m.example", "https://m\n"),
    *rows("install.mirror", install, "mirror", "https://m/a\nb", "https://m/?token=a", "https://u:p@m", "https://m/#a"),
    *rows("install.mirror", install, "mirror", "https://m:port", "https://m:99999", "https://:443", "https://m m"),
    *rows("install.mirror", install, "mirror", "ftp://m", 5, []),
    *rows("install.mirror", install, "mirror", "https://m..example", "https://-", "http://m.example", "file:///srv"),
    *rows("install.sha256", install, "sha256", "", "abc", "g" * 64, {}, {"a": "b"}, {"etcd.tar.gz": "ab" * 32}, 5, []),
    *each("install.goProxy", lambda value: install(from_="build", goProxy=value), "", "https://", "nonsense", 5),
    *each("install.goProxy", lambda value: install(from_="build", goProxy=value), "https://u:p@m", "https://m/?a=b"),
    *each("install.goProxy", lambda value: install(from_="build", goProxy=value), "a\nb", "https://a b", "ftp://m"),
    ("install.goProxy", install(goProxy="https://go.example")),
    ("install", install(goproxy="direct")),
    *each("install", lambda value: hosts() | {"install": value}, "release", [], 5),
]  # fmt: skip

VERSIONS = [
    *rows("version", local, "version", "v3.6.16", "V3.6.16", "03.06.16", "3.06.16", "3.6.016", "3.6.99", "3.5.99"),
    *rows("version", local, "version", "3.10", "3.1", "3.6", "3", "", " 3.6.16", "3.6.16 ", "3.6.16\n", "3.6.16-rc.0"),
    *rows("version", local, "version", "3.6.x", "latest", "3.6.16.1", "2.3.8", "3.4.8", "3.8.0", "4.0.0", "٣.٦.١٦"),
    *rows("version", local, "version", "3.6.99999999999999999999", "-3.6.16", "3..16", "3.5.0"),
]

REST = [
    *rows("platform", lambda platform: {"platform": platform}, "platform", "", "mars", "AWS", " aws"),
    *rows("size", local, "size", "", "tiny", "Small", " small"),
    *rows("members", local, "members", 0, -1, 2, 9, 4, 2**40, 10**400, 3.5, True, [], {}, "three", "3_0"),
    *rows("tls", local, "tls", "", "maybe", "yes", "True", 1, 0, [], {}),
    *rows("allowUndersized", local, "allowUndersized", "yes", 1, []),
    *rows("deleteData", local, "deleteData", "yes", "TRUE", 1, []),
    *rows("movedFrom", local, "movedFrom", "prod", "a/b/", "a/b/c/d", "a/b/c\nd", 5, True),
    *rows("caRotation", local, "caRotation", -1, 1.5, 10**7, True, "", "one"),
    *rows("caOverlapHours", local, "caOverlapHours", -1, 8_761, "", "1h"),
    *each("etcd", lambda value: local(etcd=value), "a", [], 5),
    *each("local", lambda value: local(local=value), "a", [], 5),
    *each("local.basePort", lambda value: local(local={"basePort": value}), 0, 80, -1, 65_530, 99_999, 2**40, "", True),
    *each("local.directory", lambda value: local(local={"directory": value}), "", "a\nb", "a\0b", "~nosuchuser/a", 5),
]

BACKED_UP = {"backup": {"to": "/mnt/backups"}}


def in_place(**block: Any) -> Config:
    return local(restoreInPlace={"from": "./backup.db", "cluster": "8211f1d0f64f3269", **block})


def recover(**block: Any) -> Config:
    return local(recover={"cluster": "8211f1d0f64f3269", **block})


NO_STORE = hosts()
RESTORE = [
    *rows("restoreFrom", local, "restoreFrom", "", "a", "backup.db", "etcd-1", 5, []),
    *each("restoreFrom", lambda value: NO_STORE | {"restoreFrom": value}, "latest", "20261127T000000Z-5-etcd-1"),
    *rows("restoreInPlace.cluster", in_place, "cluster", "", "8211F1D0F64F3269", "0x8211", "8" * 17, "latest", 5, None),
    *rows("restoreInPlace.from", in_place, "from", "", "etcd-1", "a b", "backup.db", "~nosuchuser/a", 5, None),
    ("restoreInPlace.from", NO_STORE | {"restoreInPlace": {"cluster": "8211", "from": "latest"}}),
    *rows("recover.cluster", recover, "cluster", "", "etcd-1", "g", 5, None),
    *rows("recover.from", recover, "from", "", "etcd-9", "a b", "a\nb", 5),
    ("recover.from", NO_STORE | {"recover": {"cluster": "8211", "from": "latest"}}),
    *rows("recover.lost", recover, "lost", ["etcd-9"], [""], "etcd-1", [5]),
    ("recover.from", recover(**{"from": "etcd-1", "lost": ["etcd-1"]})),
    ("recover", in_place() | {"recover": {"cluster": "8211f1d0f64f3269"}}),
    *each("recover", lambda value: local(recover=value), "a", [], 5),
]

RANGES: tuple[Any, ...] = (
    *(
        WORLD,
        ["0.0.0.0/0"],
        ["0.0.0.0/1", "128.0.0.0/1"],
        WORLD[11:13],
        ["224.0.0.0/8"],
        ["10.0.0.1/8"],
        ["10.0.0.0/33"],
    ),
    *(["10.78"], [""], ["a"], ["10.0.0.0/16", "10.0.0.0/16"], "10.0.0.0/8", [5]),
)
RANGES_6: tuple[Any, ...] = (*(["::/0"], ["2000::/3"], ["2000::/7"], ["fd00::/16", "FD00:0::/16"], ["::ffff:0:0/96"]),)

CLOUDS = [
    *rows("aws.subnetIds", aws, "subnetIds", [], ["subnet-a", "subnet-a"], [""], ["a b"], "subnet-a", [5], ["sg-a"]),
    *[row for name in ("clientSecurityGroupIds", "sshSecurityGroupIds", "securityGroupIds") for row in rows(
      f"aws.{name}", aws, name, [""], [" "], ["sg-a", "sg-a"], ["a b"], "sg-a", [5], ["subnet-a"])],
    *[row for name in ("clientCidrs", "sshCidrs") for row in rows(f"aws.{name}", aws, name, *RANGES, *RANGES_6)],
    *rows("aws.volumeGib", aws, "volumeGib", 0, -1, 1, 10**9, 2**40, 7.5, True, "big"),
    *rows("aws.instanceType", aws, "instanceType", "", "m7i", "m7i large", "M7I.large", 5),
    *rows("aws.imageId", aws, "imageId", "", " ", "debian", "a b", 5),
    *rows("aws.kmsKeyId", aws, "kmsKeyId", "", "alias/a", "arn:", "arn:aws:s3:::bucket", 5),
    *rows("aws.replaceMember", aws, "replaceMember", "", "etcd-9", "ETCD-1", 5),
    *rows("aws.instanceProfile", aws, "instanceProfile", "", "a b", "arn:aws:iam::1:instance-profile/a", 5),
    *rows("aws.userData", aws, "userData", "", "echo", "#cloud-config\nusers: []", "#!" + "a" * 10_000, 5),
    *rows("aws.spread", aws, "spread", "", "yes", 5),
    *rows("gcp.serviceAccount", gcp, "serviceAccount", "", "etcd", "a@example.com", 5),
    *rows("gcp.serviceAccountScopes", gcp, "serviceAccountScopes", ["cloud-platform"], [""], "a", [5]),
    *rows("gcp.networkTags", gcp, "networkTags", ["a", "a"], ["A"], [""], "a", [5]),
    *rows("gcp.userData", gcp, "userData", "", "echo", "#cloud-config\nfs_setup: []", 5),
    *rows("aws.tags", aws, "tags", {"": "a"}, {"Name": "a"}, {"aws:a": "b"}, {"a" * 129: "b"}, {"a": "b" * 257}),
    *rows("aws.tags", aws, "tags", {"a": 5}, {"a": None}, {f"k{n}": "v" for n in range(60)}, [], "a"),
    *rows("gcp.zones", gcp, "zones", [], [""], ["europe"], ["europe-west1-b"] * 2, ["europe-west1-b", "us-east1-b"]),
    *[row for name in ("clientTags", "sshTags") for row in rows(
      f"gcp.{name}", gcp, name, [""], ["A"], ["a b"], ["a" * 64], ["a", "a"], "a", [5])],
    *[row for name in ("clientRanges", "sshRanges") for row in rows(f"gcp.{name}", gcp, name, *RANGES, ["fd00::/16"])],
    *rows("gcp.disks", gcp, "disks", {"etcd-1": "disk"}, {"etcd-9": DISK}, {"etcd-1": DISK, "etcd-2": DISK}, "a"),
    *rows("gcp.addresses", gcp, "addresses", {"etcd-1": "fd00::1"}, {"etcd-1": "host"}, {"a": "10.0.0.5"}, []),
    *rows("aws.volumes", aws, "volumes", {"etcd-1": "eni-1"}, {"etcd-9": "vol-1"}, {"etcd-1": 5}),
    *rows("aws.networkInterfaces", aws, "networkInterfaces", {"etcd-1": "vol-1"}, {"etcd-9": "eni-1"}, "eni-1"),
    *rows("aws.addresses", aws, "addresses", {"etcd-1": "10.0.0.0/24"}, {"etcd-1": ""}, {"etcd-0": "10.0.0.5"}),
    *rows("gcp.diskGb", gcp, "diskGb", 0, -1, 10, 10**9, 7.5, True),
    *rows("gcp.network", gcp, "network", "", " ", "a b", 5, None),
    *rows("gcp.subnetwork", gcp, "subnetwork", "", " ", "a b", 5, None),
    *rows("gcp.image", gcp, "image", "", "a b", 5),
    *rows("gcp.machineType", gcp, "machineType", "", "n1 standard", "N1", 5, "n4-standard-4"),
    *rows("gcp.kmsKey", gcp, "kmsKey", "", "a", "projects/a", 5),
    *rows("gcp.labels", gcp, "labels", {"": "a"}, {"A": "b"}, {"a": "B"}, {"goog-a": "b"}, {"a": 5}, {"a": "b" * 64}),
    *rows("gcp.labels", gcp, "labels", [], {"a": None}, {f"k{n}": "v" for n in range(70)}),
]  # fmt: skip

NO_NAMES: tuple[Any, ...] = (
    *("", " ", "etcd", "*.example.com", "etcd.*", "etcd_1.example.com", "-a.example.com", "a-.example.com", "a..b"),
    *("etcd.example.com.", "10.0.0.1", "fd00::1", "example.1", "a.0x1", "etcd.localhost", "a b.example", "a.b\n", "."),
    *("é.example", "https://etcd.example", "etcd.example:2379", f"{'a' * 64}.example", ".".join(["a" * 60] * 5), 5, []),
    ".".join(["a" * 58] * 4),  # the SRV record's name is too long
)
NAMED = "etcd.example.com"

DNS = [
    *rows("dns.name", dns, "name", *NO_NAMES, None),
    *each("dns.otherNames", lambda value: dns(name=NAMED, otherNames=[value]), *NO_NAMES, NAMED, "ETCD.example.com"),
    *each("dns.memberNames.h2", lambda value: dns(name=NAMED, memberNames={"h2": value}), *NO_NAMES[:-1]),
    *each("dns.memberNames.h2", lambda value: dns(name=NAMED, memberNames={"h2": value}), f"H1.{NAMED}"),
    ("dns.memberNames.h2", dns(name=NAMED, memberNames={"h2": NAMED})),
    ("dns.memberNames.h9", dns(name=NAMED, memberNames={"h9": "h9.example.com"})),
    ("dns.memberNames.h2", dns(name=NAMED, memberNames={"h1": "a.example", "h2": "A.example"})),
    ("dns.memberNames.h1", dns(name=NAMED, otherNames=["old.example"], memberNames={"h1": "old.example"})),
    ("dns.memberNames.h1", dns(name=NAMED, otherNames=["old.example"], memberNames={"h2": "h1.old.example"})),
    *each("dns.endpoints", lambda value: dns(name=NAMED, endpoints=value), "", "names", "Name", 5, []),
    *each("dns.ttlSeconds", lambda value: dns(name=NAMED, ttlSeconds=value), 0, -1, 86_401, "", True, "1m"),
    ("dns.name", local(dns={"name": NAMED})),
    ("dns", local(dns="etcd.example.com")),
    ("aws.hostedZoneId", aws(hostedZoneId="Z0123")),
    ("gcp.managedZone", gcp(managedZone="zone")),
    *each("aws.hostedZoneId", lambda value: aws(hostedZoneId=value) | {"dns": {"name": NAMED}},
          "", "example.com", "/hostedzone/Z1", "z123", "Z1 2", 5, []),
    *each("gcp.managedZone", lambda value: gcp(managedZone=value) | {"dns": {"name": NAMED}},
          "", "example.com", "Zone", "projects/p/zones/z", "projects//managedZones/z", 5, []),
]  # fmt: skip

APP = {"app": {"roles": ["app"]}}
MAY = {"app": [{"prefix": "/app/", "access": "readwrite"}]}


def users(users: Any = APP, roles: Any = MAY, **changes: Any) -> Config:
    return hosts() | {"users": users, "roles": roles, **changes}


def role(*permissions: Any) -> Config:
    return users(roles={"app": list(permissions)})


USERS = [
    *each("users", lambda name: users({name: {"roles": ["app"]}, **APP}), "root", "etcd-cluster", "h1", "a b", "a:b",
          "", "-a", "a/b", "é", "a" * 65),
    *each("users.app.roles", lambda roles: users({"app": {"roles": roles}}), [], ["nobody"], ["app", "nobody"]),
    *each("roles", lambda name: users({"app": {"roles": ["app", name]}}, {**MAY, name: MAY["app"]}), "root", "a b"),
    ("users.a\nb", users({"a\nb": {"roles": ["app"]}, **APP})),
    ("users.a\u009b31m", users({"a\N{CONTROL SEQUENCE INTRODUCER}31m": {"roles": ["app"]}, **APP})),
    ("roles.a\nb", users({"app": {"roles": ["app", "a\nb"]}}, {**MAY, "a\nb": MAY["app"]})),
    *each("roles.app[0]", role, {"access": "read", "prefix": "/a\n"}, {"access": "read", "key": "/a\u2028b"}),
    *each("roles.app[0].access", role, {"access": "read\x1b[31m", "prefix": "/a"}),
    ("roles.other", users(roles={**MAY, "other": MAY["app"]})),
    ("roles", hosts() | {"roles": MAY}),
    ("users", users(tls=False)),
    *each("version", lambda version: users(version=version), "3.4.9", "3.4.43", "3.5.32", "3.6.13", "3.7.0"),
    ("users", users({f"u{n}": {"roles": ["app"]} for n in range(101)})),
    *each("roles.app[0]", role, {"access": "read"}, {"access": "read", "prefix": "/a", "key": "/a"},
          {"access": "read", "prefix": "/a\nb"}, {"access": "read", "key": "a\0"}),
    *each("roles.app[0].access", role, {"access": "all", "prefix": "/a"}, {"access": "", "prefix": "/a"}),
    ("roles.app[0].key", role({"access": "read", "key": ""})),
    ("roles.app[0]", role({"access": "read", "prefix": "/" * 65_537})),
    ("roles.app[0]", role({"access": "read", "key": "\N{EURO SIGN}" * 22_000})),
    ("roles.app[1]", role({"access": "read", "prefix": "/a"}, {"access": "write", "prefix": "/a"})),
    ("roles.app", role()),
]  # fmt: skip

ROWS = [*USERS, *ETCD, *HOSTS, *SSH, *INSTALL, *VERSIONS, *REST, *RESTORE, *CLOUDS, *DNS]


GOOD: list[Config] = [
    users(),
    users({"a.b@c": {"roles": ["app", "root"]}, "client": {"roles": ["app"]}, "_x": {"roles": ["root"]}}),
    role({"access": "read", "prefix": ""}, {"access": "write", "key": "/a"}, {"access": "readwrite", "prefix": "/ä/"}),
    *(users(version=version) for version in ("3.4.44", "3.5.33", "3.6.14", "3.7.1")),
    *(hosts(h2={"address": each}) for each in (
      *("10.0.0.9", "db-1.example", "DB.Example", "a", "fd00::2", "FD00:0:0::2", "2001:db8::1", "1.example", "x_1"),)),
    *(hosts(h2={"sshAddress": each}) for each in ("10.9.9.9", "127.0.0.1", "localhost", "fd00::2", "10.0.0.2")),
    *(hosts(h2={"hostKey": each}) for each in (
      host_key(7), f"{host_key(7)} root@h2", host_key(7, "ecdsa-sha2-nistp256"))),
    *(hosts(h2={"device": each}) for each in ("/dev/vdb", "/dev/disk/by-id/a:b=c@1", "/dev/a,/dev/b", "/dev/vg/lv",
      r"/dev/disk/by-label/my\x20disk", r"/dev/disk/by-id/usb-A_B\x2fC#1-0:0", "/dev/disk/by-label/dätä",
      "/dev/ttydisk", "/dev/nvme0n1",
      "/dev/sda", "/dev/srv", "/dev/md/md0", "/dev/mapper/a-b", "/dev/loop0", "/dev/xvdf")),
    *(ssh(user=each) for each in ("root", "admin", "ec2-user", "first.last@corp.example", "CORP\\user", "svc$")),
    *(ssh(port=each) for each in (1, 22, 65_535, "2222", 22.0)),
    *(local(restoreFrom=each) for each in ("./backup.db", "~/a b.db", "/srv/db")),
    in_place(),
    recover(),
    recover(lost=["etcd-2", "etcd-3"], **{"from": "etcd-1"}),
    recover(**{"from": "latest"}) | BACKED_UP,
    in_place(**{"from": "latest"}) | BACKED_UP,
    ssh(privateKey=private_key()),
    ssh(privateKey=private_key().replace("\n", "\r\n")),
    ssh(),
    bastion(user="jump", port=2222, privateKey=private_key()),
    ssh(dialAttempts=10, dialTimeoutSeconds=30),
    *(install(mirror=each) for each in ("https://m", "https://m:8443/a/", "https://10.0.0.1", "https://[fd00::1]:1/a")),
    install(mirror="http://m", sha256="ab" * 32),
    install(sha256={"etcd-v3.6.16-linux-amd64.tar.gz": "AB" * 32}),
    install(from_="archive", archive="~/etcd.tar.gz"),
    *(install(from_="build", goProxy=each) for each in (
      "direct", "off", "https://go.example,direct", "https://a|direct", "file:///srv/goproxy")),
    local(install={"goProxy": "direct"}),
    *(local(local={"directory": each}) for each in ("~/etcd", "/srv/a b", "relative")),
    *(local(local={"basePort": each}) for each in (1024, "2379", 65_465)),
    *(local(members=each) for each in (1, "3", 5.0, 7)),
    *(local(version=each) for each in ("3.4.9", "3.6.16", "3.7.3")),
    *(aws(clientCidrs=each) for each in (
      ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"], ["203.0.113.7"], ["2001:db8::/32"])),
    aws(securityGroupIds=["sg-a", "sg-b"], volumeGib=16_384, imageId="ami-0a1", tags={"a b": "", "é": "c" * 256}),
    aws(makeSecurityGroup=False, securityGroupIds=["sg-a"], sshCidrs=[], userData="#!/bin/sh\ndate", spread=False),
    gcp(makeFirewall=False, networkTags=["a"], sshRanges=[], spread=True, serviceAccount="a@p.iam.gserviceaccount.com"),
    dns(name="Etcd.Example.com"),
    dns(name="a.b", memberNames={"h1": "db-1.example"}, otherNames=["b.c", "c.d"], endpoints="name", ttlSeconds=5),
    dns(name="xn--tcd-9la.example"),
    aws(hostedZoneId="Z0123456789ABCDEFGHIJ") | {"dns": {"name": "a.b"}},
    gcp(managedZone="projects/p/managedZones/a-b") | {"dns": {"name": "a.b"}},
    gcp(managedZone="zone") | {"dns": {"name": "a.b"}},
    aws(kmsKeyId="arn:aws-cn:kms:cn-north-1:111122223333:key/1-2", instanceType="m7i-flex.2xlarge"),
    gcp(clientTags=["a", "b"], diskGb=65_536, labels={"a": ""}, image="projects/p/global/images/i"),
    *(etcd(**settings) for settings in (
      {"heartbeat_interval": 10, "election_timeout": 100}, {"cipher_suites": [RSA_128, ECDSA_256]},
      {"auth_token": f"{JWT},sign-method=RS256,ttl=10m"}, {"auth_token": "jwt,priv-key=/a,sign-method=HS256"},
      {"auth_token": "simple"}, {"log_outputs": ["stderr", "/data/etcd/data/etcd.log"]}, {"pre_vote": False},
      {"log_outputs": "systemd/journal"}, {"memory_mlock": False}, {"cors": "*"}, {"host_whitelist": "*"},
      {"cors": "https://a.example:443,http://[::1]:1"},
      {"host_whitelist": "a.example,10.0.0.1"}, {"log_rotation_config_json": '{"maxsize": 100, "compress": true}'},
      {"distributed_tracing_address": "localhost:4317"}, {"bcrypt_cost": 12}, {"max_request_bytes": 32 * 1024**2},
      {"corrupt_check_time": "4h"}, {"corrupt_check_time": 0}, {"compact_hash_check_time": "1s"},
      {"auto_compaction_retention": 0}, {"auto_compaction_retention": "24"}, {"max_txn_ops": 10_000},
      {"snapshot_count": 100_000}, {"grpc_keepalive_min_time": "5s"},
      {"grpc_keepalive_interval": 0}, {"grpc_keepalive_interval": "2h"}, {"grpc_keepalive_timeout": "20s"},
      {"auth_token": f"{JWT},sign-method=RS256,ttl=1h30m"},
      {"max_concurrent_streams": 2**32 - 1})),
]  # fmt: skip


# --- the two ways in


def from_config(values: Config) -> Settings:
    texts = {f"{NAMESPACE}:{key}": each if isinstance(each, str) else json.dumps(each) for key, each in values.items()}
    pulumi.runtime.set_all_config(texts)
    return validate_arguments(args_from_stack_config())


def from_program(values: Config) -> Settings:
    """Builds the arguments with the same values, as a program does."""
    rest = dict(values)
    platform, blocks = (
        rest.pop("platform"),
        {name: rest.pop(name, {}) for name in ("ssh", "hosts", "aws", "gcp", "local")},
    )
    login = blocks["ssh"]
    if isinstance(login, Mapping):
        login = dict(login)
        if isinstance(login.get("bastion"), Mapping):
            login["bastion"] = built(Bastion, login["bastion"], address=None, hostKey=None)
        login = built(Ssh, login)
    if platform == "hosts":
        listed = {name: built(Host, host, address=None, hostKey=None) for name, host in blocks["hosts"].items()}
        machines: Any = HostMachines(cast(Any, listed), cast(Any, login))
    else:
        kind = {"aws": AwsMachines, "gcp": GcpMachines, "local": LocalMachines}.get(platform)
        machines = built(kind, blocks[platform]) if kind else platform
    if "users" in rest:
        rest["users"] = {name: built(User, user) for name, user in rest["users"].items()}
    if "roles" in rest:
        rest["roles"] = {name: [built(Permission, it) for it in listed] for name, listed in rest["roles"].items()}
    if isinstance(rest.get("install"), Mapping):
        rest["install"] = built(
            Install, {{"from": "source"}.get(name, name): each for name, each in rest["install"].items()}
        )
    if isinstance(rest.get("dns"), Mapping):
        rest["dns"] = built(Dns, rest["dns"], name=None)
    for block, known, needed in (
        ("restoreInPlace", RestoreInPlace, {"from": None, "cluster": None}),
        ("recover", Recover, {"cluster": None}),
        ("backup", Backup, {}),
    ):
        if isinstance(rest.get(block), Mapping):
            given = {**needed, **rest[block]}
            rest[block] = built(known, {{"from": "source"}.get(name, name): each for name, each in given.items()})
    return validate_arguments(built(EtcdClusterArgs, rest, machines=machines))


def built(kind: Any, values: Any, **required: Any) -> Any:
    if not isinstance(values, Mapping):
        return values
    return kind(**{snake_case(name): value for name, value in {**required, **values}.items()})


def snake_case(name: str) -> str:
    return re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name)


def named(rows: list[tuple[str, Config]]) -> list[Any]:
    return [pytest.param(key, values, id=f"{key}-{number}") for number, (key, values) in enumerate(rows)]


ONLY_IN_CONFIG = ("platform", "install", "dns", "local")  # to a program, these are other classes


@pytest.mark.parametrize(("key", "values"), named(ROWS))
def test_the_config_refuses(key: str, values: Config) -> None:
    refused(key, lambda: from_config(values))


@pytest.mark.parametrize(("key", "values"), named([row for row in ROWS if row[0] not in ONLY_IN_CONFIG]))
def test_a_program_is_refused_the_same(key: str, values: Config) -> None:
    refused(key, lambda: from_program(values))


@pytest.mark.parametrize("way", [from_config, from_program])
@pytest.mark.parametrize("values", GOOD, ids=map(str, range(len(GOOD))))
def test_what_can_work_is_taken(way: Any, values: Config) -> None:
    if way is from_program:
        values = json.loads(json.dumps(values), parse_float=lambda text: int(float(text)))
        values = {name: int(each) if name == "members" else each for name, each in values.items()}
        for block, key in (("ssh", "port"), ("local", "basePort")):
            if key in values.get(block, {}):
                values[block] = {**values[block], key: int(values[block][key])}
    assert way(values).names


def refused(key: str, run: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        run()
    error = caught.value
    assert error.key == key or error.key.startswith((f"{key}.", f"{key}["))
    assert error.problem
    assert error.fix
    assert str(error).isprintable()
