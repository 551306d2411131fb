"""What is promised of etcd releases: which may be run, which are refused, and what their users are told."""

from __future__ import annotations

import pytest

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.etcd.versions import (
    DEFAULT_VERSION,
    FINDINGS,
    FLOORS,
    HAZARDS,
    NEWEST_KNOWN,
    UnsupportedChange,
    Verdict,
    Version,
    change_warnings,
    require_usable,
    unsupported_change,
    upgrade_path,
)

# For each version that runs, all that it may be changed to in one step: itself, newer patches, and from a patch that
# etcd allows to leave its minor, the next minor.
ALLOWED = {
    "3.4.9": "3.4.9 3.4.44 3.5.9 3.5.32 3.5.35",
    "3.4.44": "3.4.44 3.5.9 3.5.32 3.5.35",
    "3.5.9": "3.5.9 3.5.32 3.5.35",
    "3.5.32": "3.5.32 3.5.35 3.6.0 3.6.10 3.6.11 3.6.16",
    "3.5.35": "3.5.35 3.6.0 3.6.10 3.6.11 3.6.16",
    "3.6.0": "3.6.0 3.6.10 3.6.11 3.6.16",
    "3.6.10": "3.6.10 3.6.11 3.6.16",
    "3.6.11": "3.6.11 3.6.16 3.7.0 3.7.3",
    "3.6.16": "3.6.16 3.7.0 3.7.3",
    "3.7.0": "3.7.0 3.7.3",
    "3.7.3": "3.7.3",
}
NEWEST = max(Version.parse(newest) for newest in NEWEST_KNOWN.values())
AFTER_THE_NEWEST = str(Version(NEWEST.major, NEWEST.minor + 1, 0))
PAIRS = [(running, desired) for running in ALLOWED for desired in ALLOWED]


def test_a_release_is_three_numbers() -> None:
    version = Version.parse("3.6.16")
    assert (version.major, version.minor, version.patch) == (3, 6, 16)
    assert str(version) == "3.6.16"
    assert version.series == "3.6"


@pytest.mark.parametrize(
    "text",
    ["", "v3.6.16", "03.6.16", "3.6", "3.6.16.1", "latest", "3.6.x", " 3.6.16", "٣.٦.١٦", "3.6.16+git", "3.6.0-rc.1"],
)
def test_anything_else_is_no_release(text: str) -> None:
    with pytest.raises(ValueError, match="etcd"):
        Version.parse(text)


def test_releases_are_ordered_by_number_and_not_by_letter() -> None:
    assert Version.parse("3.4.9") < Version.parse("3.4.10") < Version.parse("3.5.0") < Version.parse("3.10.0")


@pytest.mark.parametrize("version", [DEFAULT_VERSION, "3.5.35", "3.6.14", "3.7.1", "3.7.3"])
def test_a_supported_release_above_its_security_floor_draws_no_warning(version: str) -> None:
    assert require_usable(version, allow_unsafe=False) == (version, [])


def test_a_patch_that_is_not_known_yet_is_refused_by_what_is_known_and_may_be_allowed_by_name() -> None:
    with pytest.raises(ConfigurationError, match=r"knows the versions up to 3\.6\.16.*allowUnsafeVersion"):
        require_usable("3.6.99", allow_unsafe=False)
    assert require_usable("3.6.99", allow_unsafe=True) == ("3.6.99", [])


def test_a_version_that_yaml_shortened_is_to_be_quoted() -> None:
    with pytest.raises(ConfigurationError, match=r"in quotes, since YAML reads 3\.10 as 3\.1"):
        require_usable("3.1", allow_unsafe=False)


def test_3_4_9_is_usable_and_its_user_is_told_why_to_leave_it() -> None:
    version, warnings = require_usable("3.4.9", allow_unsafe=False)
    assert version == "3.4.9"
    assert all(warning.startswith("etcd 3.4.9: ") for warning in warnings)
    for source in ("CHANGELOG-3.4", "CVE-2026-33413", "#14370", "#17780", "#20271"):
        assert any(source in warning for warning in warnings), source


def test_the_last_3_4_warns_only_that_nobody_mends_it_any_more() -> None:
    _, warnings = require_usable("3.4.45", allow_unsafe=False)
    assert len(warnings) == 1
    assert "ended on 2026-06-01" in warnings[0]
    assert warnings[0].endswith("use 3.6.16")


@pytest.mark.parametrize(
    ("version", "floor"), [("3.5.32", "3.5.33"), ("3.6.13", "3.6.14"), ("3.7.0", "3.7.1"), ("3.4.43", "3.4.44")]
)
def test_below_the_security_floor_the_advisories_are_named(version: str, floor: str) -> None:
    _, below = require_usable(version, allow_unsafe=False)
    _, at_floor = require_usable(floor, allow_unsafe=False)
    gone = set(map(_source, below)) - set(map(_source, at_floor))
    assert any("GHSA-" in source or "CVE-" in source for source in gone)


@pytest.mark.parametrize(
    ("version", "source"),
    [
        ("3.5.0", "#13766"),
        ("3.5.1", "#13766"),
        ("3.5.2", "#13766"),
        ("3.5.3", "#14685"),
        ("3.5.4", "#14685"),
        ("3.5.5", "#14685"),
        ("3.4.20", "#14571"),
        ("3.4.21", "#14571"),
    ],
)
def test_a_release_known_to_corrupt_data_is_refused_unless_explicitly_allowed(version: str, source: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        require_usable(version, allow_unsafe=False)
    assert (refusal.value.key, refusal.value.value) == ("version", version)
    assert source in refusal.value.problem
    assert "allowUnsafeVersion" in refusal.value.fix
    assert NEWEST_KNOWN[Version.parse(version).series] in refusal.value.fix

    allowed, warnings = require_usable(version, allow_unsafe=True)
    assert allowed == version
    assert any(source in warning for warning in warnings)


@pytest.mark.parametrize("version", ["3.4.19", "3.4.22", "3.5.6"])
def test_the_neighbours_of_a_corrupting_release_are_not_refused(version: str) -> None:
    require_usable(version, allow_unsafe=False)


@pytest.mark.parametrize(
    "version", ["2.3.8", "3.3.27", "3.4.8", AFTER_THE_NEWEST, "4.0.0", "3.6.0-rc.1", "3.6", "latest"]
)
@pytest.mark.parametrize("allow_unsafe", [False, True])
def test_nothing_makes_an_unsupported_release_acceptable(version: str, allow_unsafe: bool) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        require_usable(version, allow_unsafe=allow_unsafe)
    assert refusal.value.key == "version"
    assert DEFAULT_VERSION in refusal.value.fix


def test_a_refusal_reads_as_one_sentence_with_its_way_out() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        require_usable("3.5.1", allow_unsafe=False)
    assert str(refusal.value) == (
        'version: "3.5.1": a member killed under load loses transactions that the others keep '
        "(#13766, CHANGELOG/README). Use 3.5.35, or set allowUnsafeVersion to run it all the same."
    )


def test_no_release_that_is_recommended_has_a_finding_beyond_the_end_of_its_series() -> None:
    for series, version in NEWEST_KNOWN.items():
        findings = [finding for finding in FINDINGS if finding.covers(Version.parse(version))]
        assert all(finding.verdict is Verdict.WARN for finding in findings)
        assert bool(findings) == (series == "3.4")


def test_every_finding_names_its_source() -> None:
    assert all(known.source and known.why for known in (*FINDINGS, *FLOORS.values(), *HAZARDS))


@pytest.mark.parametrize(("running", "desired"), PAIRS)
def test_a_running_cluster_takes_only_what_etcd_supports(running: str, desired: str) -> None:
    refusal = unsupported_change(running, desired)
    assert (refusal is None) == (desired in ALLOWED[running].split()), refusal


@pytest.mark.parametrize(("running", "desired"), PAIRS)
def test_a_refused_upgrade_names_a_path_whose_every_step_is_allowed(running: str, desired: str) -> None:
    steps = upgrade_path(running, desired)
    if Version.parse(desired) <= Version.parse(running):
        assert steps == []
        return
    assert steps[-1] == desired
    assert all(unsupported_change(*pair) is None for pair in zip([running, *steps], steps, strict=False))
    for step in steps[:-1]:
        require_usable(step, allow_unsafe=False)
        unsupported = unsupported_change(running, desired)
        assert unsupported is not None
        assert step in (unsupported[1]["first"], *unsupported[1]["later"].split(", then "))


@pytest.mark.parametrize(
    ("running", "desired", "steps"),
    [
        ("3.4.9", "3.7.3", "3.5.35 3.6.16 3.7.3"),
        ("3.4.9", "3.6.0", "3.5.35 3.6.0"),
        ("3.5.9", "3.7.3", "3.5.35 3.6.16 3.7.3"),
        ("3.5.32", "3.7.3", "3.6.16 3.7.3"),
        ("3.5.31", "3.6.16", "3.5.35 3.6.16"),
        ("3.5.99", "3.6.16", "3.6.16"),
        ("3.6.10", "3.7.0", "3.6.16 3.7.0"),
        ("3.6.11", "3.7.0", "3.7.0"),
        ("3.6.0", "3.6.16", "3.6.16"),
    ],
)
def test_the_path_goes_by_the_newest_patch_of_each_minor_and_no_further_than_it_must(
    running: str, desired: str, steps: str
) -> None:
    assert upgrade_path(running, desired) == steps.split()


@pytest.mark.parametrize(
    ("running", "desired", "kind"),
    [
        ("3.4.9", "3.7.3", UnsupportedChange.MINOR_SKIPPED),
        ("3.5.9", "3.6.16", UnsupportedChange.PATCH_TOO_OLD),
        ("3.6.0", "3.7.3", UnsupportedChange.PATCH_TOO_OLD),
        ("3.6.16", "3.5.35", UnsupportedChange.OLDER_MINOR),
        ("3.6.16", "3.6.11", UnsupportedChange.OLDER_PATCH),
    ],
)
def test_an_unsupported_change_says_why(running: str, desired: str, kind: UnsupportedChange) -> None:
    found = unsupported_change(running, desired)
    assert found is not None
    assert (found[0], found[1]["running"], found[1]["desired"]) == (kind, running, desired)


def test_every_floor_is_below_the_newest_patch_that_leads_past_it() -> None:
    for series, floor in FLOORS.items():
        assert Version.parse(floor.patch).series == series
        assert Version.parse(floor.patch) <= Version.parse(NEWEST_KNOWN[series])


@pytest.mark.parametrize(
    ("running", "desired", "source"),
    [("3.4.9", "3.5.35", "#11943"), ("3.4.45", "3.5.9", "#11943"), ("3.5.32", "3.6.2", "#20351")],
)
def test_an_allowed_change_with_a_known_hazard_is_warned_of(running: str, desired: str, source: str) -> None:
    (warning,) = change_warnings(running, desired)
    assert warning.startswith(f"etcd {running} to {desired}: ")
    assert source in warning


@pytest.mark.parametrize(
    ("running", "desired"),
    [("3.5.35", "3.6.16"), ("3.5.32", "3.6.3"), ("3.6.16", "3.7.3"), ("3.4.9", "3.4.45"), ("3.6.0", "3.6.2")],
)
def test_a_change_without_a_known_hazard_draws_no_warning(running: str, desired: str) -> None:
    assert change_warnings(running, desired) == []


def _source(warning: str) -> str:
    return warning.rpartition("(")[2]
