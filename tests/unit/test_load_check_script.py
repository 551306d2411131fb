"""The load check's script: what it makes of answers that etcd does not give."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from etcd_cluster.member import render
from etcd_cluster.member.layout import Layout


@pytest.mark.parametrize(
    ("answer", "is_over"),
    [("return 1", False), ("echo etcd-2", False), ("true", True)],
    ids=["no answer", "at work", "none"],
)
def test_only_an_answer_says_that_no_other_load_check_is_at_work(tmp_path: Path, answer: str, is_over: bool) -> None:
    """Its keys would be removed while it is at work."""
    functions, call, _ = render.script("load_check", Layout.below(str(tmp_path)), {}).rpartition('\nanswer "$@"')
    assert call
    script = f"{functions}\netcdctl_at() {{ {answer}; }}\nurl=x\nif nobody_runs; then echo over; fi; exit"
    done = subprocess.run(["bash"], input=script, text=True, capture_output=True, check=True)
    assert done.stdout == ("over\n" if is_over else "")
