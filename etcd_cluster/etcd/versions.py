"""Holds what is known of etcd's releases: which are supported, lose data, lack security fixes; which may follow which.

The settings a release takes are in `options`; the steps that bring a running cluster to another one are in `rollout`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from etcd_cluster.errors import ConfigurationError

DEFAULT_VERSION: Final = "3.6.16"

# The newest patch of each series that this project was tried with (3.4.45 is the last of its series).
NEWEST_KNOWN: Final = {"3.4": "3.4.45", "3.5": "3.5.35", "3.6": "3.6.16", "3.7": "3.7.3"}


@dataclass(frozen=True, order=True)
class Version:
    """A release of etcd, ordered as releases are."""

    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> Version:
        """Reads "3.6.16"; raises `ValueError` for anything else, pre-releases and other spellings included."""
        number = "(0|[1-9][0-9]{0,5})"
        match = re.fullmatch(rf"{number}\.{number}\.{number}(-\S+)?", text)
        if match is None:
            raise ValueError("no version of etcd, which is three numbers without a v and without leading zeros")
        if match[4]:
            raise ValueError("a pre-release of etcd, made for testing only")
        return cls(int(match[1]), int(match[2]), int(match[3]))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    @property
    def series(self) -> str:
        """The minor version that it belongs to: "3.6" for 3.6.16."""
        return f"{self.major}.{self.minor}"


_NEWEST: Final = max(Version.parse(newest) for newest in NEWEST_KNOWN.values())


class Verdict(Enum):
    """The consequence of a finding."""

    UNSUPPORTED = "refused"
    CORRUPTS = "refused, unless explicitly allowed"
    WARN = "allowed, with a warning"


@dataclass(frozen=True)
class Finding:
    """A known problem of some releases. `affected`: ranges, as `within` reads them."""

    verdict: Verdict
    affected: str
    why: str
    source: str
    instead: str = ""

    def covers(self, version: Version) -> bool:
        """Returns whether a version has the problem."""
        return within(version, self.affected)

    def problem(self) -> str:
        """The problem with its source, as an error shows it."""
        return f"{self.why} ({self.source})"

    def fix(self, version: Version) -> str:
        """Returns what to use in place of this release."""
        return f"use {self.instead or NEWEST_KNOWN.get(version.series, DEFAULT_VERSION)}"


# CORRUPTS: a regression of these very releases makes members disagree about data, and later patches are free of
# it. Flaws that every release before a fix shares only warn: to refuse those would be to refuse all of 3.4.
# In `source`, #N is an issue or pull request of etcd-io/etcd, and CHANGELOG is a file or folder in it.
FINDINGS: Final = (
    Finding(Verdict.UNSUPPORTED, "0.0.0..3.4.9", "etcd-cluster supports 3.4.9 and later",
            "3.4.8 cannot restart once its log was purged: #11918", "3.6.16"),
    Finding(Verdict.UNSUPPORTED, f"{_NEWEST.major}.{_NEWEST.minor + 1}.0..", "etcd-cluster does not know its settings",
            f"{_NEWEST.series} is the newest supported series", f"{DEFAULT_VERSION} or {_NEWEST}"),

    Finding(Verdict.CORRUPTS, "3.5.0..3.5.3",
            "a member killed under load loses transactions that the others keep", "#13766, CHANGELOG/README"),
    Finding(Verdict.CORRUPTS, "3.5.0..3.5.6",
            "a member that crashes while it defragments applies entries twice", "#14685, CHANGELOG/README"),
    Finding(Verdict.CORRUPTS, "3.4.20..3.4.22 3.5.5..3.5.6",
            "with authentication on, a new member drops writes that the others apply", "#14571"),

    Finding(Verdict.WARN, "3.4.0..3.5.0",
            "upstream support of 3.4 ended on 2026-06-01, with this left open: half-open TLS handshakes exhaust "
            "a member, and a watch can read past the keys its user may",
            "CHANGELOG-3.4, GHSA-6vch-q96h-7gc3, GHSA-xg4h-6gfc-h4m8", "3.6.16"),
    Finding(Verdict.WARN, "3.5.0..3.5.33 3.6.0..3.6.14 3.7.0..3.7.1",
            "half-open TLS handshakes exhaust a member, and a watch can read past the keys its user may",
            "GHSA-6vch-q96h-7gc3, GHSA-xg4h-6gfc-h4m8"),
    Finding(Verdict.WARN, "3.4.0..3.4.44 3.5.0..3.5.30 3.6.0..3.6.11",
            "some requests get past etcd's own authentication",
            "CVE-2026-33413, CVE-2026-33343, CVE-2026-44283"),

    Finding(Verdict.WARN, "3.4.0..3.4.21 3.5.0..3.5.5",
            "a cluster of one member can lose acknowledged writes when it crashes", "#14370"),
    Finding(Verdict.WARN, "3.4.0..3.4.32 3.5.0..3.5.14",
            "a crash during compaction can set the revision back", "#17780"),
    Finding(Verdict.WARN, "3.5.0..3.5.17",
            "a transaction that fails half-way can leave its first half behind", "#18679"),
    Finding(Verdict.WARN, "3.4.0..3.4.38 3.5.0..3.5.23 3.6.0..3.6.5",
            "a defragmentation while a member receives a snapshot can corrupt that member", "#20271"),
    Finding(Verdict.WARN, "3.6.0..3.6.4",
            "a member can fail to restart after a learner was promoted", "#20340"),
)  # fmt: skip


class UnsupportedChange(Enum):
    """Why etcd does not support the change from one version to another."""

    OLDER_PATCH = auto()
    OLDER_MINOR = auto()
    MINOR_SKIPPED = auto()
    PATCH_TOO_OLD = auto()


@dataclass(frozen=True)
class Floor:
    """The oldest patch of a series that the next series may follow."""

    patch: str
    why: str
    source: str


# By the series that is left. Any 3.4 that is supported may be followed by 3.5. In `source` here and below, upgrade_3_N
# is the guide at etcd.io/docs/latest/upgrades.
FLOORS: Final = {
    "3.5": Floor("3.5.32", "an older one can carry removed members and demoted voters into 3.6, and cannot tell "
                 "whether its log stops 3.6", "#19557, #20793, #20995, #21889, upgrade_3_6"),
    "3.6": Floor("3.6.11", "an older one may not work beside 3.7", "upgrade_3_7"),
}  # fmt: skip


@dataclass(frozen=True)
class Hazard:
    """What users should know of an allowed change. `leaving`, `reaching`: ranges, as `within` reads them."""

    leaving: str
    reaching: str
    why: str
    source: str
    fix: str

    def covers(self, running: Version, desired: Version) -> bool:
        """Returns whether the hazard applies to a change."""
        return within(running, self.leaving) and within(desired, self.reaching)


# Only what the release alone does not show: the findings of the desired release are shown as well.
HAZARDS: Final = (
    Hazard("3.4.0..3.5.0", "3.5.0..3.6.0",
           "etcd does not support this member by member with its own authentication on: a password that is set "
           "halfway is stored as an empty one by members that still run 3.4",
           "#11943, upgrade_3_5", "add no user and change no password until every member runs 3.5"),
    Hazard("3.5.0..3.6.0", "3.6.0..3.6.3",
           "a member whose old store ever held users of the v2 API does not start, even if they were removed",
           "#20351", f"use {NEWEST_KNOWN['3.6']}"),
)  # fmt: skip


def require_usable(version: str, *, allow_unsafe: bool) -> tuple[str, list[str]]:
    """Returns the release in its plain form ("3.6.16"), and the warnings that its user should read.

    Args:
        version: The release.
        allow_unsafe: Let a release pass that is known to corrupt data, or is newer than what is known here.

    Raises:
        ConfigurationError: It is no release, an unsupported or unknown one, or one known to corrupt data.
    """
    try:
        parsed = Version.parse(version)
    except ValueError as error:
        quotes = ", in quotes, since YAML reads 3.10 as 3.1" if re.fullmatch(r"[0-9]+(\.[0-9]+)?", version) else ""
        raise ConfigurationError("version", version, str(error), f"use {DEFAULT_VERSION}{quotes}") from None
    found = [finding for finding in FINDINGS if finding.covers(parsed)]
    for finding in found:
        if finding.verdict is Verdict.UNSUPPORTED:
            raise ConfigurationError("version", version, finding.problem(), finding.fix(parsed))
        if finding.verdict is Verdict.CORRUPTS and not allow_unsafe:
            fix = f"{finding.fix(parsed)}, or set allowUnsafeVersion to run it all the same"
            raise ConfigurationError("version", version, finding.problem(), fix)
    newest = NEWEST_KNOWN[parsed.series]
    if parsed > Version.parse(newest) and not allow_unsafe:
        raise ConfigurationError(
            "version",
            version,
            f"of {parsed.series}, this release of etcd-cluster knows the versions up to {newest}",
            f"use {newest}, or a newer etcd-cluster, or set allowUnsafeVersion to run a version that is not known",
        )
    return str(parsed), [f"etcd {parsed}: {finding.problem()}; {finding.fix(parsed)}" for finding in found]


def unsupported_change(running: str, desired: str) -> tuple[UnsupportedChange, Mapping[str, str]] | None:
    """Returns why a cluster cannot go from `running` to `desired` in one change; None if it can.

    `require_usable` decides whether `desired` may run at all: both are in the form that it returns.

    Returns:
        The kind, and name -> value in its text.
    """
    before, after = Version.parse(running), Version.parse(desired)
    details = {"running": running, "desired": desired, "series": before.series, "desired_series": after.series}
    if after < before:
        is_patch = after.series == before.series
        return UnsupportedChange.OLDER_PATCH if is_patch else UnsupportedChange.OLDER_MINOR, details
    steps = upgrade_path(running, desired)
    if len(steps) < 2:
        return None
    details |= {"first": steps[0], "later": ", then ".join(steps[1:])}
    if after.minor - before.minor > 1:
        return UnsupportedChange.MINOR_SKIPPED, details
    floor = FLOORS[before.series]
    return UnsupportedChange.PATCH_TOO_OLD, {**details, "floor": floor.patch, "why": floor.why, "source": floor.source}


def change_warnings(running: str, desired: str) -> list[str]:
    """Returns the warnings for a change that `unsupported_change` allows, besides the warnings of `require_usable`."""
    before, after = Version.parse(running), Version.parse(desired)
    return [
        f"etcd {running} to {desired}: {hazard.why} ({hazard.source}); {hazard.fix}"
        for hazard in HAZARDS
        if hazard.covers(before, after)
    ]


def upgrade_path(running: str, desired: str) -> list[str]:
    """Returns the versions to set one after the other, each allowed after the one before.

    It is empty unless `desired` is newer.
    """
    before, after = Version.parse(running), Version.parse(desired)
    if after <= before:
        return []
    steps = [NEWEST_KNOWN[f"{before.major}.{minor}"] for minor in range(before.minor, after.minor)]
    floor = FLOORS.get(before.series)
    if steps and (floor is None or before >= Version.parse(floor.patch)):
        del steps[0]
    return [*steps, desired]


def within(version: Version, ranges: str) -> bool:
    """Returns whether a release is in one of several ranges.

    Args:
        version: The release.
        ranges: Separated by spaces: "A..B" from A on, and B is the first outside; "A.." from A on.
    """
    parts = (part.split("..") for part in ranges.split())
    return any(
        Version.parse(since) <= version and (not until or version < Version.parse(until)) for since, until in parts
    )
