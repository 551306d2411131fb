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
    script = f"{functions(tmp_path)}\netcdctl_at() {{ {answer}; }}\nurl=x\nif nobody_runs; then echo over; fi; exit"
    done = subprocess.run(["bash"], input=script, text=True, capture_output=True, check=True)
    assert done.stdout == ("over\n" if is_over else "")


@pytest.mark.parametrize("lease", ["return 1", "true", """echo '"Lease" : 0'"""], ids=["no answer", "gone", "none"])
def test_a_lock_is_waited_for_where_etcd_does_not_tell_for_how_long_it_lasts(tmp_path: Path, lease: str) -> None:
    answers = f'[[ $* != *fields* ]] || {{ {lease}; return; }}; [[ $* == *" lease "* ]] || echo "etcd-9 0123"'
    script = (
        f"{functions(tmp_path)}\netcdctl_at() {{ {answers}; }}\nurl=x own_name=etcd-1 AWAIT_SECONDS=1\nawait_others"
    )
    done = subprocess.run(["bash"], input=script, text=True, capture_output=True, check=False)
    assert "waits for a load check on etcd-9, for 1 s at most\n" in done.stderr
    assert (
        "a load check on etcd-9 is at work, or its machine was lost, and etcd does not tell for how long" in done.stderr
    )


def test_no_answer_is_not_a_cluster_without_keys(tmp_path: Path) -> None:
    script = (
        f"{functions(tmp_path)}\netcdctl_at() {{ echo refused; return 1; }}\nspec[only-without-keys]=yes\n"
        "url=x; if print_other_keys 1; then echo some; else echo none; fi; exit"
    )
    done = subprocess.run(["bash"], input=script, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (70, "")
    assert "error: cluster: etcd refuses what the load check needs (etcdctl get): refused" in done.stderr


def functions(folder: Path) -> str:
    """The script without its last line, which runs the step."""
    text, call, _ = render.script("load_check", Layout.below(str(folder)), {}).rpartition('\nanswer "$@"')
    assert call
    return text
