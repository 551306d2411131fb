"""A real S3 server beside the hosts: versitygw, which is strict, and keeps each object as a plain file."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.lab import binaries
from tests.lab.clusters import eventually
from tests.lab.hosts import OPERATOR_ADDRESS, Lab, cache_dir, locked

MODULE, VERSION = "github.com/versity/versitygw/cmd/versitygw", "v1.8.0"
PORT = 7070
ACCESS_KEY, SECRET_KEY = "lab-access-key", "lab-secret-key-5f1e"


def program() -> Path:
    """Builds it once."""
    target = cache_dir() / "versitygw" / f"{VERSION}-{binaries.architecture()}"
    with locked(target):
        if not target.is_dir():
            binaries.go_install(f"{MODULE}@{VERSION}", target)
    return target / "versitygw"


class ObjectStore:
    """One server, with one bucket. A folder is a bucket, and a file an object."""

    def __init__(self, lab: Lab, folder: Path, bucket: str = "backups") -> None:
        self.lab, self.folder, self.bucket = lab, folder, bucket
        self.url = f"http://{OPERATOR_ADDRESS}:{PORT}"
        (folder / bucket).mkdir(parents=True)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command: list[str | Path] = ["env", f"ROOT_ACCESS_KEY={ACCESS_KEY}", f"ROOT_SECRET_KEY={SECRET_KEY}", program()]
        command += ["--port", f"{OPERATOR_ADDRESS}:{PORT}", "--region", "us-east-1", "posix", self.folder]
        log = (self.folder.parent / "store.log").open("a")
        self.process = self.lab.popen(command, stdout=log, stderr=log)
        eventually(self._answers, "the store answers")

    def stop(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def objects(self, ending: str = "") -> list[Path]:
        return sorted(path for path in (self.folder / self.bucket).rglob(f"*{ending}") if path.is_file())

    def _answers(self) -> bool:
        done = self.lab.run(["curl", "-s", "-o", "/dev/null", self.url], check=False)
        return done.returncode == 0
