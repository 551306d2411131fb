"""What Pulumi.STACK.yaml says that the scripts need: the platform, and where members on this machine live."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from embedded_engine.project import read_project, read_stack
from etcd_cluster import LocalMachines

# As __main__.py names it.
CLUSTER = "etcd"


class StackFile:
    """The stack's file in `directory`, as it stands there: secrets stay closed."""

    def __init__(self, stack: str, directory: Path) -> None:
        self._project = read_project(directory)
        self._stack = stack
        self._config: dict[str, Any] = read_stack(self._project, stack).get("config") or {}

    @property
    def cluster(self) -> str:
        """The cluster's name, as its members' disks carry it."""
        return f"{self._project.name}/{self._stack}/{CLUSTER}"

    @property
    def platform(self) -> str:
        return str(self._value("platform") or "")

    @property
    def delete_data(self) -> bool:
        return self._value("deleteData") in (True, "true")

    @property
    def local_folder(self) -> Path:
        """Holds one folder a member, where the platform is `local`."""
        block: Any = self._value("local") or "{}"
        local: dict[str, Any] = json.loads(block) if isinstance(block, str) else block
        return LocalMachines(directory=local.get("directory")).folder(CLUSTER, self._project.name, self._stack)

    def _value(self, key: str) -> Any:
        return self._config.get(f"{self._project.name}:{key}", self._config.get(key))


if __name__ == "__main__":
    asked, of_stack = sys.argv[1:]
    file = StackFile(of_stack, Path.cwd())
    print({"platform": file.platform, "delete-data": str(file.delete_data).lower()}[asked])
