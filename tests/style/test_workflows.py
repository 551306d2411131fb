"""The workflows give away nothing: pinned actions, least permissions, no credentials for code from forks."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).parents[2]
OWN = PROJECT / ".github" / "workflows"
TEMPLATES = PROJECT / "examples" / "pull_requests"
"""For users of the project to copy."""
WORKFLOWS = {path.name: path for folder in (OWN, TEMPLATES) for path in sorted(folder.glob("*.y*ml"))}
FOR_FORKS = {"checks.yml"}
MOST_MINUTES = {"checks.yml": 60, "nightly.yml": 120}
USES = re.compile(r"^\s*-?\s*uses:\s*(\S+)(.*)$", re.MULTILINE)
PINNED = re.compile(r"([\w.-]+/[\w./-]+)@([0-9a-f]{40})")
VERSION = re.compile(r" # v\d+\.\d+\.\d+")
READ, WRITE = "read", "write"
ALLOWED = {
    "checks.yml": {"contents": READ},
    "nightly.yml": {"contents": READ},
    "preview.yml": {"contents": READ, "id-token": WRITE, "pull-requests": WRITE},
    "drift.yml": {"contents": READ, "id-token": WRITE, "issues": WRITE},
    "release.yml": {"contents": WRITE, "id-token": WRITE, "attestations": WRITE},
}


def parsed(name: str) -> dict[Any, Any]:
    loaded: dict[Any, Any] = yaml.safe_load(WORKFLOWS[name].read_text())
    return loaded


def triggers(name: str) -> dict[str, Any]:
    found: dict[str, Any] = parsed(name)[True]  # YAML 1.1 reads `on` as true
    return found


def jobs(name: str) -> list[dict[str, Any]]:
    return list(parsed(name)["jobs"].values())


def steps(name: str) -> Iterator[dict[str, Any]]:
    for job in jobs(name):
        yield from job["steps"]


def test_these_are_all() -> None:
    assert set(WORKFLOWS) == set(ALLOWED)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_actions_are_pinned_by_commit_with_their_version_beside(name: str) -> None:
    found = USES.findall(WORKFLOWS[name].read_text())
    assert len(found) == sum("uses" in step for step in steps(name))
    for action, comment in found:
        assert PINNED.fullmatch(action), action
        assert VERSION.fullmatch(comment), f"{action}{comment}"


def test_an_action_is_the_same_everywhere() -> None:
    pins: dict[str, set[str]] = {}
    for path in WORKFLOWS.values():
        for action, comment in USES.findall(path.read_text()):
            pins.setdefault(action.partition("@")[0], set()).add(action + comment)
    assert {action: len(versions) for action, versions in pins.items()} == dict.fromkeys(pins, 1)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_permissions_are_none_but_what_a_job_needs(name: str) -> None:
    assert parsed(name)["permissions"] == {}
    for job in jobs(name):
        assert job["permissions"].items() <= ALLOWED[name].items()


@pytest.mark.parametrize("name", WORKFLOWS)
def test_nothing_runs_foreign_code_with_this_repositorys_rights(name: str) -> None:
    assert not {"pull_request_target", "workflow_run", "issue_comment"} & set(triggers(name))


@pytest.mark.parametrize("name", sorted(FOR_FORKS))
def test_forks_get_no_credentials(name: str) -> None:
    text = WORKFLOWS[name].read_text()
    for word in ("${{ secrets", "${{ vars", "id-token", "environment:", "write"):
        assert word not in text


@pytest.mark.parametrize("name", [path.name for path in sorted(TEMPLATES.iterdir()) if path.suffix == ".yml"])
def test_credentials_are_for_branches_of_this_repository_and_come_from_no_stored_secret(name: str) -> None:
    assert "secrets" not in WORKFLOWS[name].read_text()
    for job in jobs(name):
        kind = name.removesuffix(".yml")  # reviewers of preview-STACK would keep drift waiting for a person
        assert job["environment"] == f"{kind}-${{{{ matrix.stack }}}}"
        if "pull_request" in triggers(name):
            assert "github.event.pull_request.head.repo.full_name == github.repository" in job["if"]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_no_shell_reads_what_somebody_else_wrote(name: str) -> None:
    assert not [step["run"] for step in steps(name) if "${{" in step.get("run", "")]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_repositorys_token_is_not_left_behind(name: str) -> None:
    checkouts = [step for step in steps(name) if step.get("uses", "").startswith("actions/checkout@")]
    assert len(checkouts) == len(jobs(name))
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_jobs_end_by_themselves(name: str) -> None:
    assert all(job["timeout-minutes"] <= MOST_MINUTES.get(name, 30) for job in jobs(name))


def test_only_a_tag_makes_a_release_and_no_stored_secret_signs_it() -> None:
    assert triggers("release.yml") == {"push": {"tags": ["v*.*.*"]}}
    assert "secrets" not in WORKFLOWS["release.yml"].read_text()
    assert any(step.get("uses", "").startswith("actions/attest-build-provenance@") for step in steps("release.yml"))


def test_ci_tests_every_dependency_and_extra_at_its_lowest_and_newest_version() -> None:
    declared = (PROJECT / "pyproject.toml").read_text()
    extras = re.findall(r'^(\w+) = \["pulumi-', declared, re.MULTILINE)
    job = parsed("checks.yml")["jobs"]["versions"]
    assert {each["resolution"] for each in job["strategy"]["matrix"]["include"]} == {"lowest-direct", "highest"}
    scripts = "".join(step.get("run", "") for step in job["steps"])
    assert f'--resolution "$RESOLUTION" ".[{",".join(extras)}]"' in scripts
    assert "requirements" not in scripts, "a lock would decide"


def test_ci_runs_the_lab_and_every_night_all_of_it() -> None:
    assert "sudo .ci/run" in [step.get("run") for step in steps("checks.yml")]
    assert "sudo .ci/run --exhaustive" in [step.get("run") for step in steps("nightly.yml")]
    assert "schedule" in triggers("nightly.yml")


TEMPLATE = pytest.mark.parametrize("name", ["preview.yml", "drift.yml"])


@TEMPLATE
def test_beside_credentials_nothing_is_installed_without_its_hash(name: str) -> None:
    lines = " ".join(step.get("run", "") for step in steps(name)).replace("\\\n", " ").splitlines()
    installing = [line for line in lines if "pip install" in line]
    assert installing
    assert all("--require-hashes" in line for line in installing)
    for lock in re.findall(r"--requirement (\S+)", " ".join(installing)):
        assert "--hash=sha256:" in (PROJECT / lock).read_text(), lock


@TEMPLATE
def test_pulumi_is_the_locked_version_and_only_previews_without_outputs(name: str) -> None:
    locked = re.search(r"^pulumi==(\S+)", (PROJECT / "requirements.txt").read_text(), re.MULTILINE)
    assert locked
    (inputs,) = [step["with"] for step in steps(name) if step.get("uses", "").startswith("pulumi/actions@")]
    assert inputs == {"pulumi-version": locked[1]}, "the action installs, and runs nothing"
    commands = [step["run"] for step in steps(name) if "pulumi " in step.get("run", "")]
    assert len(commands) == 1
    assert re.findall(r"^ *pulumi (\w+) .*--suppress-outputs", commands[0], re.MULTILINE) == ["preview"]


def run(name: str, step: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a step's script as GitHub does, with what is in `folder` before all other programs."""
    (script,) = [each["run"] for each in steps(name) if each.get("name") == step]
    given = {"PATH": f"{folder}:/usr/bin:/bin", "STACK": "prod", "GITHUB_STEP_SUMMARY": str(folder / "summary.md")}
    github = {"GITHUB_REPOSITORY": "shop/etcd", "GITHUB_SERVER_URL": "https://github.com", "GITHUB_RUN_ID": "7"}
    command = ["bash", "-e", "-c", script]
    return subprocess.run(
        command, cwd=folder, env={**given, **github, **environment}, check=False, capture_output=True, text=True
    )


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


CALLS = """printf '%s\\n' "$*" >>calls.txt; case "$*" in *--jq*) cat found.txt 2>/dev/null || true;; esac"""


@pytest.mark.parametrize("found", ["", "41\n42\n"])
@pytest.mark.parametrize("code", [0, 255])
def test_a_preview_and_a_refused_one_leave_one_comment(code: int, found: str, tmp_path: Path) -> None:
    program(tmp_path, "pulumi", f"echo 'error: size large needs 20 GiB' >&2; exit {code}")
    program(tmp_path, "gh", CALLS)
    (tmp_path / "found.txt").write_text(found)
    assert run("preview.yml", "Preview", tmp_path).returncode == code
    comment = (tmp_path / "comment.md").read_text()
    assert "size large needs 20 GiB" in comment
    assert ("is refused" in comment) == bool(code)
    assert (tmp_path / "summary.md").read_text() == comment
    said = run("preview.yml", "Comment on the pull request", tmp_path, NUMBER="7", GH_TOKEN="")
    assert said.returncode == 0, said.stderr
    asked, sent = (tmp_path / "calls.txt").read_text().splitlines()
    assert "<!-- preview of prod -->" in asked
    assert "<!-- preview of prod -->" in comment
    where = "--method PATCH repos/shop/etcd/issues/comments/42" if found else "repos/shop/etcd/issues/7/comments"
    assert sent == f"api --silent {where} --field body=@comment.md"


@pytest.mark.parametrize(
    ("code", "found", "done"),
    [
        (0, "", []),
        (0, "9\n", ["issue close 9"]),
        (255, "", ["issue create --title Drift of prod"]),
        (255, "9\n", ["issue edit 9"]),
    ],
)
def test_drift_is_an_issue_until_there_is_none(code: int, found: str, done: list[str], tmp_path: Path) -> None:
    program(tmp_path, "pulumi", f"echo '~ aws:ec2/instance:Instance etcd-1'; exit {code}")
    program(tmp_path, "gh", CALLS)
    (tmp_path / "found.txt").write_text(found)
    assert run("drift.yml", "Refresh and preview", tmp_path).returncode == code
    assert "etcd-1" in (tmp_path / "issue.md").read_text()
    differs = "true" if code else "false"
    last = "Open an issue with what differs, or close it"
    said = run("drift.yml", last, tmp_path, TITLE="Drift of prod", DIFFERS=differs)
    assert said.returncode == 0, said.stderr
    _, *calls = (tmp_path / "calls.txt").read_text().splitlines()
    assert [call.partition(" --")[0] if "create" not in call else call[: len(done[0])] for call in calls] == done


def test_drift_is_looked_for_without_a_person() -> None:
    assert "schedule" in triggers("drift.yml")
    (command,) = [step["run"] for step in steps("drift.yml") if "pulumi " in step.get("run", "")]
    assert "--refresh" in command
    assert "--expect-no-changes" in command
    assert "--policy-pack policy" in str(parsed("preview.yml"))


@pytest.mark.parametrize("name", WORKFLOWS)
def test_actionlint_finds_nothing(name: str) -> None:
    if shutil.which("actionlint") is None:
        pytest.skip("actionlint is not on PATH (go install github.com/rhysd/actionlint/cmd/actionlint@v1.7.7)")
    done = subprocess.run(["actionlint", str(WORKFLOWS[name])], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
