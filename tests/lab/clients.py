"""Clients of etcd that others wrote, as somebody who has a stack's outputs configures them.

Each runs beside the hosts, and reads the files that `etcd-cluster kubeadm --write` leaves. What this machine lacks is
made where `go` or `pip` can make it, and cached with the lab's other programs.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from tests.lab.binaries import build_main
from tests.lab.hosts import OPERATOR_ADDRESS, Lab, cache_dir, locked

POSTGRES = Path("/usr/lib/postgresql/15/bin")
KUBERNETES = "1.34.3"
PYTHON_CLIENT_PACKAGES = ("etcd3==0.12.0", "protobuf==3.20.3")
"""python-etcd3 needs protobuf below 4. aetcd 1.0.0 has no TLS at all."""
COREDNS = """\
package main

import (
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/etcd"

	"github.com/coredns/coredns/coremain"
)

func main() { coremain.Run() }
"""
PYTHON_CLIENT = """
import sys
import etcd3

ca, key, certificate, *addresses = sys.argv[1:]
clients = [
    etcd3.client(*address.rsplit(":", 1), ca_cert=ca, cert_key=key, cert_cert=certificate, timeout=5)
    for address in addresses
]
for line in sys.stdin:
    try:
        clients[0].put("python", line.strip())
        print(clients[0].get("python")[0].decode(), flush=True)
    except etcd3.Etcd3Exception as error:
        print(repr(error), flush=True)
        clients.append(clients.pop(0))
"""


@dataclass(frozen=True)
class Files:
    """Where a client finds the cluster, and the files of `etcd-cluster kubeadm --write`."""

    endpoints: Sequence[str]
    folder: Path

    @property
    def ca(self) -> Path:
        return self.folder / "etcd/ca.crt"

    @property
    def certificate(self) -> Path:
        return self.folder / "apiserver-etcd-client.crt"

    @property
    def key(self) -> Path:
        return self.folder / "apiserver-etcd-client.key"

    @property
    def addresses(self) -> list[str]:
        return [urlsplit(each).netloc for each in self.endpoints]


class Client(ABC):
    """One client. `start` begins it, or begins it anew."""

    def __init__(self, lab: Lab, folder: Path, etcdctl: Callable[..., str]) -> None:
        self._lab, self._folder, self._etcdctl = lab, folder, etcdctl
        folder.mkdir(mode=0o755)
        self._process: subprocess.Popen[Any] | None = None
        self._number = 0

    @staticmethod
    def missing() -> str:
        """What this machine lacks for it; empty if nothing."""
        return ""

    @abstractmethod
    def start(self, files: Files) -> None:
        """Starts it with these files."""

    @abstractmethod
    def works(self) -> bool:
        """Whether it writes to the cluster, and reads what it wrote."""

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(60)

    def log(self) -> str:
        """The end of what it said."""
        log = self._folder / "log"
        return log.read_text(errors="replace")[-3000:] if log.exists() else ""

    def _run(self, command: Sequence[str | Path], **options: Any) -> None:
        self.stop()
        with (self._folder / "log").open("a") as log:
            self._process = self._lab.popen(command, stdout=log, stderr=log, cwd=self._folder, **options)

    def _ask(self, *arguments: str) -> str:
        """What curl prints; nothing if there is no answer within ten seconds."""
        done = self._lab.run(["curl", "-sk", "-m", "10", *arguments], check=False)
        return done.stdout if done.returncode == 0 else ""

    def _next(self) -> int:
        self._number += 1
        return self._number


class CoreDns(Client):
    """Its plugin etcd, with etcd's own client in Go: answers with what is below /skydns."""

    @staticmethod
    def missing() -> str:
        return "" if shutil.which("go") else "go"

    def start(self, files: Files) -> None:
        program = build_main("coredns", COREDNS, "github.com/coredns/coredns@v1.14.7")
        endpoints = " ".join(files.endpoints)
        (self._folder / "Corefile").write_text(
            f"skydns.test {{\n errors\n etcd {{\n  path /skydns\n  endpoint {endpoints}\n"
            f"  tls {files.certificate} {files.key} {files.ca}\n }}\n}}\n"
        )
        self._resolver = self._folder / "resolv.conf"
        self._resolver.write_text(f"nameserver {OPERATOR_ADDRESS}\noptions timeout:1\n")
        self._run([program, "-conf", "Corefile"])

    def works(self) -> bool:
        number = self._next()
        self._etcdctl("put", f"/skydns/test/skydns/n{number}", json.dumps({"host": f"10.9.9.{number}", "ttl": 5}))
        script = f'mount --bind "$0" /etc/resolv.conf && getent ahostsv4 n{number}.skydns.test'
        asked = self._lab.run(["unshare", "--mount", "sh", "-c", script, self._resolver], check=False)
        return f"10.9.9.{number} " in asked.stdout


class PythonClient(Client):
    """python-etcd3, on Python's gRPC: it knows one endpoint, so the program has a client for each."""

    def start(self, files: Files) -> None:
        self.stop()
        command: list[str | Path] = [
            venv() / "bin/python",
            "-c",
            PYTHON_CLIENT,
            files.ca,
            files.key,
            files.certificate,
            *files.addresses,
        ]
        with (self._folder / "log").open("a") as log:
            self._process = self._lab.popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, bufsize=1
            )

    def works(self) -> bool:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        value = f"value {self._next()}"
        self._process.stdin.write(f"{value}\n")
        return bool(self._process.stdout.readline().strip() == value)


class Patroni(Client):
    """One PostgreSQL, whose leader key is in etcd: without etcd, Patroni makes it read-only within its ttl."""

    @staticmethod
    def missing() -> str:
        found = shutil.which("patroni") and POSTGRES.is_dir()
        return "" if found else "Debian's packages patroni, python3-idna, python3-psycopg2, postgresql-15"

    def start(self, files: Files) -> None:
        own = self._folder / "pki"
        shutil.rmtree(own, ignore_errors=True)
        shutil.copytree(files.folder, own)  # for its own user, as its documentation has it
        mine = Files(files.endpoints, own)
        login = {"superuser": {"username": "postgres", "password": "one"}}
        document = {
            "scope": "lab",
            "name": "postgres-1",
            "restapi": {"listen": f"{OPERATOR_ADDRESS}:8088", "connect_address": f"{OPERATOR_ADDRESS}:8088"},
            "etcd3": {
                "hosts": list(files.addresses),
                "protocol": "https",
                "cacert": str(mine.ca),
                "cert": str(mine.certificate),
                "key": str(mine.key),
            },
            "bootstrap": {"dcs": {"ttl": 60, "loop_wait": 2, "retry_timeout": 20}, "initdb": [{"encoding": "UTF8"}]},
            "postgresql": {
                "listen": f"{OPERATOR_ADDRESS}:5432",
                "connect_address": f"{OPERATOR_ADDRESS}:5432",
                "data_dir": str(self._folder / "data"),
                "bin_dir": str(POSTGRES),
                "pgpass": str(self._folder / "pgpass"),
                "authentication": {**login, "replication": {"username": "replicator", "password": "two"}},
                "parameters": {"unix_socket_directories": str(self._folder)},
                "pg_hba": [f"host {database} all {OPERATOR_ADDRESS}/32 md5" for database in ("all", "replication")],
            },
        }
        (self._folder / "patroni.yml").write_text(yaml.safe_dump(document))
        (self._folder / "log").touch()
        subprocess.run(["chown", "-R", "postgres:", self._folder], check=True)
        as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        self._run([*as_postgres, "patroni", "patroni.yml"])

    def works(self) -> bool:
        """It is the primary by the key in etcd, and goes on to reach etcd: it says when it last did."""
        last = self._reached()
        key = self._etcdctl("get", "/service/lab/leader", "--print-value-only").strip()
        deadline = time.monotonic() + 60
        while last and key == "postgres-1" and time.monotonic() < deadline:
            if self._reached() > last:
                return True
            time.sleep(0.5)
        return False

    def _reached(self) -> int:
        """When the primary last reached etcd; 0 if it is not the primary."""
        status = json.loads(self._ask(f"http://{OPERATOR_ADDRESS}:8088/patroni") or "{}")
        return int(status["dcs_last_seen"]) if status.get("role") in ("master", "primary") else 0


class ApiServer(Client):
    """kube-apiserver, with the flags that kubeadm makes of its configuration."""

    program = cache_dir() / f"kube-apiserver-{KUBERNETES}"

    @staticmethod
    def missing() -> str:
        return "" if ApiServer.program.exists() else "what `python3 -m tests.lab.kube_apiserver` builds"

    def start(self, files: Files) -> None:
        key = self._folder / "accounts.key"
        if not key.exists():
            subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        (self._folder / "tokens").write_text("secret,admin,1,system:masters\n")
        self._run(
            [
                self.program,
                f"--etcd-servers={','.join(files.endpoints)}",
                f"--etcd-cafile={files.ca}",
                f"--etcd-certfile={files.certificate}",
                f"--etcd-keyfile={files.key}",
                f"--bind-address={OPERATOR_ADDRESS}",
                f"--cert-dir={self._folder}/own",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={key}",
                f"--service-account-signing-key-file={key}",
                "--service-cluster-ip-range=10.96.0.0/24",
                f"--token-auth-file={self._folder}/tokens",
                "--authorization-mode=AlwaysAllow",
                "--disable-admission-plugins=ServiceAccount",
            ]
        )

    def works(self) -> bool:
        number = self._next()
        at = f"https://{OPERATOR_ADDRESS}:6443/api/v1/namespaces/default/configmaps"
        token = ("-H", "Authorization: Bearer secret")
        made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"made-{number}"}, "data": {"a": "b"}}
        self._ask(*token, "-H", "Content-Type: application/json", "-d", json.dumps(made), at)
        found = self._ask(*token, f"{at}/made-{number}")
        return bool(found) and json.loads(found).get("data") == {"a": "b"}


def venv() -> Path:
    """A virtual environment with the client in Python, made if the cache lacks it."""
    target = cache_dir() / "python-client"
    if not target.is_dir():
        with locked(target):
            if not target.is_dir():
                partial = target.with_name(".python-client")
                subprocess.run([sys.executable, "-m", "venv", "--clear", partial], check=True)
                pip = [str(partial / "bin/python"), "-m", "pip", "install", "-q"]
                subprocess.run([*pip, *PYTHON_CLIENT_PACKAGES], check=True, timeout=600)
                partial.rename(target)
    return target
