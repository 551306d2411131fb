"""What a machine is asked about its clock: any time service that systemd knows, the port, the host, the kernel."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from etcd_cluster.member import render

SCRIPTS = Path(render.__file__).with_name("scripts")
FULL, WITHOUT_SYS_TIME = "000001ffffffffff", "000001fffdffffff"
# Answers in place of the machine's.
ANSWERS = """
awk() {{ echo {capabilities}; }}
ss() {{ printf '%s' '{socket}'; }}
timedatectl() {{ echo {synchronised}; }}
systemctl() {{
  if [[ $1 == show ]]; then echo '{conflicting}'; return; fi
  for unit in "${{@:3}}"; do [[ $unit != '{active}' ]] || return 0; done
  return 3
}}
source {scripts}/needs.sh
if clock_kept; then echo yes; else echo no; fi
"""


@pytest.mark.parametrize(
    ("found", "kept"),
    [
        ({}, "no"),
        ({"active": "chrony.service"}, "yes"),
        ({"active": "openntpd.service"}, "no"),
        ({"active": "openntpd.service", "conflicting": "chrony.service openntpd.service"}, "yes"),
        ({"conflicting": "chrony.service openntpd.service"}, "no"),
        ({"socket": "UNCONN 0 0 0.0.0.0:123 0.0.0.0:*"}, "yes"),
        ({"capabilities": WITHOUT_SYS_TIME}, "yes"),
        ({"synchronised": "yes"}, "yes"),
    ],
)
def test_any_sign_that_the_clock_is_kept_counts_and_a_name_that_is_not_on_a_list_does(
    found: dict[str, str], kept: str
) -> None:
    usual = {"capabilities": FULL, "socket": "", "synchronised": "no", "conflicting": "", "active": "none"}
    script = ANSWERS.format(**{**usual, **found}, scripts=SCRIPTS)
    done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"{kept}\n", "")
