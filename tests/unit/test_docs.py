"""What documentation says is so: its links lead somewhere, and its previews are what the program says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from etcd_cluster.cli import main
from etcd_cluster.cli.command import STACK_OPTIONS
from etcd_cluster.etcd import options
from etcd_cluster.etcd.versions import NEWEST_KNOWN
from etcd_cluster.rollout import changes

PROJECT = Path(__file__).parents[2]
README = PROJECT / "README.md"
PAGES = sorted((PROJECT / "docs").glob("*.md"))
ROOT_PAGES = [
    README,
    *(PROJECT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "examples/README.md")),
]
DECISIONS = [path for name in ("decisions", "development") for path in sorted((PROJECT / "docs" / name).glob("*.md"))]
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)")
LONGEST_PAGE = 120
"""Lines: a page is read before a change, not studied."""

NAMES = {name: "127.0.0.1" for name in ("etcd-1", "etcd-2", "etcd-3")}
FIVE = {**NAMES, "etcd-4": "127.0.0.1", "etcd-5": "127.0.0.1"}
BEFORE: dict[str, Any] = {
    "members": NAMES,
    "version": "3.6.16",
    "tls": True,
    "size": "small",
    "etcd": {},
    "ca_fingerprints": ["a"],
    "peer_ca_fingerprints": ["p"],
    "allow_plaintext": False,
    "desired": changes.UNKNOWN,
}
HOST_3 = {"host-3": "10.77.0.13"}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "change-settings.md": ({}, {"etcd": {"heartbeat-interval": 200, "election-timeout": 2000}}),
    "upgrade.md": ({"version": "3.5.35"}, {"version": "3.6.16"}),
    "scale.md": ({}, {"members": FIVE}),
    "certificates.md": ({}, {"ca_fingerprints": changes.UNKNOWN}),
    "move-data-to-a-device.md": (
        {"members": {"host-2": "10.77.0.12"}, "places": {"host-2": {"ports": "2379,2380,2381"}}},
        {
            "members": {"host-2": "10.77.0.12"},
            "places": {"host-2": {"device": "/dev/nvme1n1", "ports": "2379,2380,2381"}},
        },
    ),
    "certificates.md#who-is-let-in-where": ({"peer_ca_fingerprints": None}, {}),
    "plaintext-to-tls.md": ({"tls": False, "ca_fingerprints": [], "peer_ca_fingerprints": []}, {"tls": True}),
    "users.md": ({}, {"users": {"app": ["app"], "client": ["root"]}, "roles": {"app": []}}),
    "change-an-address.md": ({"members": HOST_3}, {"members": {"host-3": "10.77.0.112"}}),
}


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*ROOT_PAGES, *PAGES, *DECISIONS], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for path, anchor in LINK.findall(page.read_text()):
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {Path(path).name for path, _ in LINK.findall(README.read_text())}
    assert {page.name for page in (*PAGES, *ROOT_PAGES[1:])} <= linked | {"README.md"}


@pytest.mark.parametrize("page", [README, *PAGES, *DECISIONS], ids=lambda page: page.name)
def test_a_page_is_short(page: Path) -> None:
    assert len(page.read_text().splitlines()) <= LONGEST_PAGE


@pytest.mark.parametrize("page", CASES)
def test_a_preview_on_a_page_is_what_the_program_says(page: str) -> None:
    olds, news = CASES[page]
    text = (PROJECT / "docs" / page.partition("#")[0]).read_text()
    said = changes.steps({**BEFORE, **olds}, {**BEFORE, **news})
    assert said
    for sentence in said:
        assert sentence in text


@pytest.mark.parametrize("page", ["certificates.md", "ssh-access.md"])
def test_a_page_says_that_nothing_restarts_as_the_program_does(page: str) -> None:
    assert changes.NOTHING_RESTARTS in (PROJECT / "docs" / page).read_text()


def test_refusals_on_pages_are_what_the_program_says() -> None:
    (plaintext,) = changes.refusals(BEFORE, {**BEFORE, "tls": False})
    (skipped,) = changes.refusals({**BEFORE, "version": "3.4.9"}, {**BEFORE, "version": "3.7.3"})
    for page, refused in (("plaintext-to-tls.md", plaintext), ("upgrade.md", skipped)):
        assert str(refused.explanation) in " ".join((PROJECT / "docs" / page).read_text().split())


@pytest.mark.parametrize(
    "file", ["Pulumi.yaml", "docs/configuration.md", "docs/changes.md", "etcd_cluster/arguments.py"]
)
def test_the_newest_minor_is_named_where_versions_are(file: str) -> None:
    named = re.findall(r"3\.4\.9 to (\d+\.\d+)\b(?!\.\d)", (PROJECT / file).read_text())
    assert named == [list(NEWEST_KNOWN)[-1]]


EVERY_PAGE = [*ROOT_PAGES, *PAGES, *sorted((PROJECT / "examples").rglob("requirements.txt"))]


@pytest.mark.parametrize("page", EVERY_PAGE, ids=lambda page: str(page.relative_to(PROJECT)))
def test_no_package_index_is_promised(page: Path) -> None:
    """None has this package, and another one could take its name."""
    assert not re.search(r"pip install '?etcd-cluster(\[\w+\])?'?(?! ?\[?\w*\]? ?@)", page.read_text())


@pytest.mark.parametrize("page", ["README.md", "docs/etcd-settings.md", "docs/change-settings.md"])
def test_settings_of_etcd_on_pages_are_accepted(page: str) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (PROJECT / page).read_text(), re.DOTALL)
    found = [config["etcd-cluster:etcd"] for block in blocks if "etcd-cluster:etcd" in (config := parsed(block))]
    assert found
    for settings in found:
        assert options.validate_options(settings, "3.6.16")


def parsed(block: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(block)["config"]
    return config


def test_every_column_and_command_is_on_the_page_of_the_command() -> None:
    page = (PROJECT / "docs" / "command.md").read_text()
    for command in main.COMMANDS:
        assert f"`etcd-cluster {command.name}" in page
        for option in (*command.options, *STACK_OPTIONS):
            assert not option.name.startswith("-") or f"`{option.name}" in page
