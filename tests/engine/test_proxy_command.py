"""A cluster behind a command, by the real Pulumi CLI and its command provider, which knows no commands."""

from __future__ import annotations

from pathlib import Path

from tests.lab.hosts import Lab
from tests.lab.stack import Engine
from tests.lab.test_proxy_command import lives_through_its_tunnel, tunnelled


def test_a_cluster_lives_behind_a_command(lab: Lab, mirror_url: str, tmp_path: Path) -> None:
    lives_through_its_tunnel(*tunnelled(lab, mirror_url, tmp_path, Engine.PULUMI))
