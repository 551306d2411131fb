"""The workflows give away nothing: pinned actions, least permissions, no credentials for code from forks."""

from __future__ import annotations

import re
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
    "drift.yml": {"contents": READ, "id-token": WRITE},
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
        assert job["environment"] == "preview-${{ matrix.stack }}"
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


def test_ci_runs_the_lab_and_every_night_all_of_it() -> None:
    assert "sudo .ci/run" in [step.get("run") for step in steps("checks.yml")]
    assert "sudo .ci/run --exhaustive" in [step.get("run") for step in steps("nightly.yml")]
    assert "schedule" in triggers("nightly.yml")


def pulumi_inputs(name: str) -> list[dict[str, Any]]:
    return [step["with"] for step in steps(name) if step.get("uses", "").startswith("pulumi/actions@")]


@pytest.mark.parametrize("name", ["preview.yml", "drift.yml"])
def test_pulumi_only_previews_shows_no_outputs_and_is_the_locked_version(name: str) -> None:
    locked = re.search(r"^pulumi==(\S+)", (PROJECT / "requirements.txt").read_text(), re.MULTILINE)
    assert locked
    (inputs,) = pulumi_inputs(name)
    assert inputs["command"] == "preview"
    assert inputs["suppress-outputs"] is True
    assert inputs["pulumi-version"] == locked[1]


def test_a_pull_request_gets_a_comment_and_the_policies_and_drift_is_an_error() -> None:
    assert pulumi_inputs("preview.yml")[0].items() >= {"comment-on-pr": True, "policyPacks": "policy"}.items()
    assert pulumi_inputs("drift.yml")[0].items() >= {"refresh": True, "expect-no-changes": True}.items()
