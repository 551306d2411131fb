"""Remembers the sizes of data disks, and refuses a smaller one: Google replaces such a disk by an empty one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pulumi.dynamic import CheckFailure, CheckResult, CreateResult, DiffResult, UpdateResult

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.lifecycle import Lifecycle, Properties


class DiskSizesLifecycle(Lifecycle):
    """Stores member -> size in GB (`sizes_gb`), in place of what the program gives."""

    def check(self, olds: Properties, news: Properties) -> CheckResult:
        """Takes up the size for new disks and that of the member to replace, and refuses a smaller one."""
        stored: Mapping[str, float] = olds.get("sizes_gb") or {}
        known = {member: int(size) for member, size in stored.items()}
        size, replaced = int(news["size_gb"]), news.get("replace_member")
        members: Sequence[str] = news["members"]
        sizes = {member: size if member == replaced else known.get(member, size) for member in members}
        failures: list[CheckFailure] = []
        if replaced and replaced not in known:
            refused = ConfigurationError(
                "gcp.replaceMember",
                replaced,
                "the size of that member's disk was not recorded yet, and a smaller one would be another, empty disk",
                "leave it out of one `pulumi up` first, with gcp.diskGb as large as the largest data disk",
            )
            failures.append(CheckFailure("", str(refused)))
        elif replaced and size < known[replaced]:
            refused = ConfigurationError(
                "gcp.diskGb",
                size,
                f"the disk of {replaced} has {known[replaced]} GB, and a smaller one would be another, empty disk",
                f"give gcp.diskGb: {known[replaced]} or more, whatever the size of the cluster",
            )
            failures.append(CheckFailure("", str(refused)))
        return CheckResult({"sizes_gb": sizes}, failures)

    def create(self, props: Properties) -> CreateResult:
        """Stores the sizes."""
        return CreateResult("disk-sizes", props)

    def diff(self, id_: str, olds: Properties, news: Properties) -> DiffResult:
        """Reports a change if a size differs, or a member came or went."""
        return DiffResult(changes=olds.get("sizes_gb") != news.get("sizes_gb"))

    def update(self, id_: str, olds: Properties, news: Properties) -> UpdateResult:
        """Stores the sizes."""
        return UpdateResult(news)
