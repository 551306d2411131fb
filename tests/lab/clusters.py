"""A cluster that the program formed on hosts of the lab, as tests ask it. Hosts are in hosts.py, runs in stack.py."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from embedded_engine.passphrase import Crypter
from embedded_engine.state import State, read_document
from embedded_engine.values import plain_values
from tests.lab import binaries
from tests.lab.hosts import Host, Lab, LabError
from tests.lab.stack import Engine, Run, Stack

CLIENT_VERSION = "3.6.16"
HEALTHY_SECONDS = 600.0
PRIVATE_KEY = re.compile(r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----[^-]+-----END (?:[A-Z]+ )?PRIVATE KEY-----")
CHANGES = re.compile(r"\b(created?|updated?|replaced?|deleted?)\b")


def eventually(condition: Callable[[], object], what: str, seconds: float = HEALTHY_SECONDS) -> None:
    """Waits for a condition; after the limit, fails by the name of what did not happen."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not after {seconds:.0f} s"
        time.sleep(0.05)


def changes_nothing(run: Run) -> bool:
    """Whether a run said that there was nothing to do. Holds for both engines."""
    return "unchanged" in run.output and not CHANGES.search(run.output.rpartition("Outputs:")[0])


class Cluster:
    """A formed cluster, its stack and its hosts; acts as a client beside the hosts."""

    def __init__(self, lab: Lab, hosts: list[Host], stack: Stack, engine: Engine = Engine.EMBEDDED) -> None:
        self.lab = lab
        self.hosts = hosts
        self.stack = stack
        self.engine = engine
        self.outputs: dict[str, Any] = {}
        self._etcdctl = binaries.ensure(CLIENT_VERSION) / "etcdctl"

    def up(self) -> Run:
        """`up`, then the outputs and the client's files anew."""
        run = self.stack.up()
        self.read_outputs()
        return run

    def read_outputs(self) -> None:
        """Also into the client's files."""
        self.outputs = self.stack.outputs()
        for name in ("caCertificate", "clientCertificate", "clientKey"):
            self.file(name).write_text(self.outputs[name])

    def file(self, output: str) -> Path:
        """The file with an exported certificate or key."""
        return self.stack.folder.parent / f"{output}.pem"

    def state_files(self) -> list[Path]:
        return [path for path in self.stack.state.rglob("*") if path.is_file()]

    def private_keys_in_state(self) -> set[str]:
        """Every private key that the state holds, decrypted."""
        if self.engine is Engine.PULUMI:
            command = ["pulumi", "stack", "export", "--show-secrets", "--stack", self.stack.name]
            done = self.lab.run(command, cwd=self.stack.folder, env=self.stack.environment)
            return {key for text in _texts(json.loads(done.stdout)) for key in private_keys(text)}
        values = [plain_values(resource.outputs) for resource in self._state().current.values()]
        return {key for text in _texts(values) for key in private_keys(text)}

    def in_state(self, name: str) -> dict[str, Any]:
        """Outputs of the resource of that name, secrets in the clear, as the embedded engine's state has them now."""
        resources = self._state().current.values()
        (found,) = (each for each in resources if each.urn.endswith(f"::{name}"))
        outputs: dict[str, Any] = plain_values(found.outputs)
        return outputs

    def _state(self) -> State:
        files = (path for path in self.state_files() if path.suffix == ".json")
        (file,) = (path for path in files if path.parent.name != "load-checks")
        document = read_document(file)
        passphrase = self.stack.environment["PULUMI_CONFIG_PASSPHRASE"]
        state = State(file, Crypter(lambda: passphrase, document["encryptionsalt"], str(file)), writable=False)
        state.load(document)
        return state

    def etcdctl(self, *arguments: str, check: bool = True) -> str:
        """What etcdctl prints, as a client with the exported certificate that knows every endpoint."""
        return self.lab.run([*self.etcdctl_command(), *arguments], check=check).stdout

    def etcdctl_command(self, endpoints: Sequence[str] = ()) -> list[str]:
        """etcdctl, with that certificate and these endpoints; by default all of them."""
        asked = ",".join(endpoints or self.outputs["endpoints"])
        command = [str(self._etcdctl), "--endpoints", asked, "--command-timeout", "5s"]
        if self.outputs["clientKey"]:
            for flag, name in (("cacert", "caCertificate"), ("cert", "clientCertificate"), ("key", "clientKey")):
                command += [f"--{flag}", str(self.file(name))]
        return command

    def healthy(self) -> bool:
        """Whether every endpoint is."""
        try:
            self.etcdctl("endpoint", "health")
        except LabError:
            return False
        return True

    def await_health(self) -> None:
        eventually(self.healthy, "every endpoint healthy")

    def cluster_ids(self) -> set[str]:
        """What every endpoint says it belongs to."""
        return self._status("ClusterID")

    def versions(self) -> set[str]:
        return self._status("Version")

    def database_bytes(self) -> list[int]:
        """Sizes of the endpoints' databases, free pages included."""
        answers = json.loads(self.etcdctl("endpoint", "status", "--write-out", "json"))
        return [int(each["Status"]["dbSize"]) for each in answers]

    def pids(self) -> dict[str, str]:
        """Host name -> process of its etcd; "0" where none runs."""
        return {host.name: host.run("systemctl show -P MainPID etcd-cluster").stdout.strip() for host in self.hosts}

    def each_host(self, command: str) -> dict[str, str]:
        """What a command prints on every host, all at once."""
        with ThreadPoolExecutor(len(self.hosts)) as pool:
            printed = pool.map(lambda host: host.run(command).stdout, self.hosts)
            return dict(zip([host.name for host in self.hosts], printed, strict=True))

    def _status(self, field: str) -> set[str]:
        printed = self.etcdctl("endpoint", "status", "--write-out", "fields")
        found = re.findall(rf'^"{field}" : (.*)$', printed, re.MULTILINE)
        assert len(found) == len(self.outputs["endpoints"]), printed
        return set(found)


@contextmanager
def watched_processes() -> Iterator[set[bytes]]:
    """Collects arguments and environments of all processes while the block lasts: those of the hosts show here too."""
    seen: set[bytes] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            for process in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    try:
                        seen.add((process / name).read_bytes())
                    except OSError:
                        continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def _texts(value: object) -> Iterator[str]:
    """Every text in a JSON value; Pulumi keeps secrets as JSON inside of it."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
    elif isinstance(value, str):
        try:
            inner = json.loads(value)
        except ValueError:
            inner = None
        if isinstance(inner, str | dict | list):
            yield from _texts(inner)
        else:
            yield value


def private_keys(text: str) -> set[str]:
    """Every private key in a text, as PEM."""
    return {f"{key}\n" for key in PRIVATE_KEY.findall(text)}


def traces(private_key_pem: str) -> list[str]:
    """Texts by which a private key is recognised: lines of its body, and a piece of it as the scripts carry it."""
    header, *body = [line for line in private_key_pem.splitlines() if len(line) > 30]
    if "OPENSSH" in header:
        body = body[2:]  # all such keys begin alike
    assert body, "not a private key"
    carried = base64.b64encode(private_key_pem.encode()).decode()
    return [*(line for line in body if "-----" not in line), carried[150:250]]
