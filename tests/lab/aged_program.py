"""The program, with certificates that were issued a while ago: AGED_HOURS in its environment says how long."""

from __future__ import annotations

import os
import runpy
from datetime import datetime, timedelta, timezone
from pathlib import Path

from etcd_cluster.pki import lifecycles

age = timedelta(hours=float(os.environ.get("AGED_HOURS", "0")))
lifecycles.current_time = lambda: datetime.now(timezone.utc) - age
runpy.run_path(str(Path(__file__).resolve().parents[2] / "__main__.py"))
