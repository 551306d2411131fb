"""Describes a bucket that a platform makes, and the rights of machines in it. Nothing here knows a cloud."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import pulumi

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.machines.machine import Machines

OLD_VERSION_DAYS = 30
"""What is deleted or overwritten can be brought back for so long."""
UNFINISHED_DAYS = 7
"""An upload that was cut off takes space for so long."""


@dataclass(frozen=True)
class Owner:
    """The cluster that a bucket was made for, as its tags say.

    Args:
        project: Pulumi project.
        stack: Stack.
        cluster: Name of the component.
    """

    project: str
    stack: str
    cluster: str

    @staticmethod
    def parse(identity: str) -> Owner:
        """Reads PROJECT/STACK/NAME."""
        return Owner(*identity.split("/", 2))


@dataclass(frozen=True)
class Bucket:
    """A bucket to be made.

    Args:
        name: Its name.
        prefix: Objects of machines are below it; "" for the whole bucket.
        may_delete: Machines may delete objects.
        owners: The cluster that it is made for, then the cluster's names before. A bucket of theirs is taken up.
    """

    name: str
    prefix: str
    may_delete: bool
    owners: Sequence[Owner]


def unanswered(bucket: Bucket, error: Exception, right: str) -> ConfigurationError:
    """Returns the error of a cloud that does not say whether a bucket stands: one of before would be passed over."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
    return ConfigurationError(
        "backup.makeBucket",
        bucket.name,
        f"nobody can say whether there is such a bucket from before: {reason}",
        f"grant {right} where Pulumi runs, or make the bucket yourself",
    )


@dataclass(frozen=True)
class MadeBucket:
    """What came of it.

    Args:
        machines: The platform, whose machines have the rights, unless a role of the caller's is given.
        rights: What a role needs to write there, as the cloud's own documents write it (JSON).
        resources: What has to exist before a machine writes.
    """

    machines: Machines
    rights: pulumi.Output[str]
    resources: Sequence[pulumi.Resource]


@runtime_checkable
class BucketMaker(Protocol):
    """A platform that makes buckets."""

    @property
    def bucket_scheme(self) -> str:
        """What URLs of its buckets begin with: s3 or gs."""
        ...

    def make_bucket(self, cluster: str, bucket: Bucket, parent: pulumi.Resource) -> MadeBucket:
        """Registers the bucket, and a role for the machines if they have none."""
        ...
