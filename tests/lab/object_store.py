"""Stores beside the hosts. S3: versitygw, which is strict; Google: fake-gcs-server. An object is a file."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.lab import binaries
from tests.lab.clusters import eventually
from tests.lab.hosts import OPERATOR_ADDRESS, Lab, cache_dir, locked

MODULE, VERSION = "github.com/versity/versitygw/cmd/versitygw", "v1.8.0"
PORT = 7070
REGION = "us-east-1"
ACCESS_KEY, SECRET_KEY = "lab-access-key", "lab-secret-key-5f1e"


GOOGLE_MODULE, GOOGLE_VERSION = "github.com/fsouza/fake-gcs-server", "v1.56.0"
GOOGLE_PORT, TOKEN_PORT = 7071, 7072
# What Google's token service answers to a request that the key of a service account has signed.
TOKENS = """
import http.server, json, sys
class Tokens(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps({"access_token": "token", "token_type": "Bearer", "expires_in": 3600}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Tokens).serve_forever()
"""


def program(module: str = MODULE, version: str = VERSION) -> Path:
    """Builds a server once."""
    name = module.rpartition("/")[2]
    target = cache_dir() / name / f"{version}-{binaries.architecture()}"
    with locked(target):
        if not target.is_dir():
            binaries.go_install(f"{module}@{version}", target)
    return target / name


class ObjectStore:
    """One server, with one bucket. A folder is a bucket, and a file an object. Its root user may do everything; what
    others may is for `allow` to say, and counts at once."""

    def __init__(self, lab: Lab, folder: Path, bucket: str = "backups") -> None:
        self.lab, self.folder, self.bucket = lab, folder, bucket
        self.url = f"http://{OPERATOR_ADDRESS}:{PORT}"
        (folder / bucket).mkdir(parents=True)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        users = self.folder.parent / "users"
        users.mkdir(exist_ok=True)
        command: list[str | Path] = ["env", f"ROOT_ACCESS_KEY={ACCESS_KEY}", f"ROOT_SECRET_KEY={SECRET_KEY}", program()]
        command += ["--port", f"{OPERATOR_ADDRESS}:{PORT}", "--region", REGION]
        command += ["--iam-dir", users, "--iam-cache-disable", "posix", self.folder]
        log = (self.folder.parent / "store.log").open("a")
        self.process = self.lab.popen(command, stdout=log, stderr=log)
        eventually(self._answers, "the store answers")

    def stop(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """It takes connections, and neither reads nor answers any more (SIGSTOP)."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def admin(self, *arguments: str) -> None:
        """Runs the server's own command for its users."""
        root = {"ADMIN_ACCESS_KEY": ACCESS_KEY, "ADMIN_SECRET_KEY": SECRET_KEY}
        where = {"ADMIN_ENDPOINT_URL": self.url, "ADMIN_REGION": REGION}
        self.lab.run([program(), "admin", *arguments], env={**os.environ, **root, **where})

    def allow(self, user: str, *actions: str) -> None:
        """From now on, the user may do these to the bucket and the objects in it."""
        resources = [f"arn:aws:s3:::{self.bucket}", f"arn:aws:s3:::{self.bucket}/*"]
        statement = {"Effect": "Allow", "Principal": {"AWS": [user]}, "Action": actions, "Resource": resources}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        command = ["curl", "-fsS", "--aws-sigv4", f"aws:amz:{REGION}:s3", "--user", f"{ACCESS_KEY}:{SECRET_KEY}"]
        command += ["-H", f"x-amz-content-sha256: {hashlib.sha256(policy.encode()).hexdigest()}"]
        self.lab.run([*command, "-X", "PUT", "--data-binary", policy, f"{self.url}/{self.bucket}?policy="])

    def objects(self, ending: str = "") -> list[Path]:
        return sorted(path for path in (self.folder / self.bucket).rglob(f"*{ending}") if path.is_file())

    def _answers(self) -> bool:
        done = self.lab.run(["curl", "-s", "-o", "/dev/null", self.url], check=False)
        return done.returncode == 0


class GoogleStore:
    """One emulator of Google Cloud Storage with one bucket, and what gives tokens for the key of a service account."""

    def __init__(self, lab: Lab, folder: Path, bucket: str = "backups") -> None:
        self.lab, self.folder, self.bucket = lab, folder, bucket
        self.url = f"http://{OPERATOR_ADDRESS}:{GOOGLE_PORT}/storage/v1/"
        (folder / bucket).mkdir(parents=True)

    @property
    def key(self) -> str:
        """The JSON of a service account's key."""
        private = rsa.generate_private_key(65537, 2048)
        pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        known = {"type": "service_account", "project_id": "lab", "private_key_id": "1", "client_id": "1"}
        email = "etcd@lab.iam.gserviceaccount.com"
        token_uri = f"http://{OPERATOR_ADDRESS}:{TOKEN_PORT}/token"
        return json.dumps({**known, "client_email": email, "private_key": pem, "token_uri": token_uri})

    def start(self) -> None:
        address = f"{OPERATOR_ADDRESS}:{GOOGLE_PORT}"
        command: list[str | Path] = [program(GOOGLE_MODULE, GOOGLE_VERSION), "-scheme", "http"]
        command += ["-host", OPERATOR_ADDRESS, "-port", str(GOOGLE_PORT), "-public-host", address]
        command += ["-external-url", f"http://{address}", "-backend", "filesystem", "-filesystem-root", self.folder]
        log = (self.folder.parent / "google.log").open("a")
        self.lab.popen(command, stdout=log, stderr=log)
        self.lab.popen([sys.executable, "-c", TOKENS, OPERATOR_ADDRESS, str(TOKEN_PORT)], stdout=log, stderr=log)
        eventually(self._answers, "the emulator answers")

    def _answers(self) -> bool:
        tokens = ["curl", "-s", "-d", "x", "-o", "/dev/null", f"http://{OPERATOR_ADDRESS}:{TOKEN_PORT}/"]
        done = self.lab.run(["curl", "-s", "-o", "/dev/null", self.url], check=False)
        return done.returncode == 0 and self.lab.run(tokens, check=False).returncode == 0
