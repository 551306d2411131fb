"""`python -m etcd_cluster.cli`: the command `etcd-cluster`, where the package is not installed."""

from __future__ import annotations

import sys

from etcd_cluster.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
