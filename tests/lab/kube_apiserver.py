"""Builds kube-apiserver from its Go modules, for tests/lab/test_clients.py: `nice python3 -m tests.lab.kube_apiserver`.

It takes a quarter of an hour on two processors, so no test does it.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from tests.lab.binaries import go
from tests.lab.clients import KUBERNETES, ApiServer


def main() -> None:
    """Requires k8s.io/kubernetes, with its staging modules at their own releases: it names them by folders."""
    kubernetes, staging = f"v{KUBERNETES}", f"v0.{KUBERNETES.partition('.')[2]}"
    ApiServer.program.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=ApiServer.program.parent) as name:
        folder = Path(name)
        go(folder, "mod", "init", "lab.invalid/kube")
        go(folder, "mod", "edit", "-require", f"k8s.io/kubernetes@{kubernetes}")
        go(folder, "mod", "download", f"k8s.io/kubernetes@{kubernetes}")
        module = Path(go(folder, "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes").strip())
        named = set(re.findall(r"(k8s\.io/[a-z-]+) => \./staging/", (module / "go.mod").read_text()))
        for each in sorted(named):
            go(folder, "mod", "edit", "-replace", f"{each}={each}@{staging}")
        go(folder, "get", f"k8s.io/kubernetes/cmd/kube-apiserver@{kubernetes}")
        made = folder / "kube-apiserver"
        go(folder, "build", "-trimpath", "-ldflags", "-s -w", "-o", str(made), "k8s.io/kubernetes/cmd/kube-apiserver")
        made.rename(ApiServer.program)
    print(ApiServer.program, file=sys.stderr)


if __name__ == "__main__":
    main()
