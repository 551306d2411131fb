"""Has the platform make the bucket that `backup.to` names, if `backup.makeBucket` asks for it."""

from __future__ import annotations

import pulumi

from etcd_cluster.backup.arguments import Backup
from etcd_cluster.backup.store import StoreUrl
from etcd_cluster.errors import ConfigurationError, SecretText
from etcd_cluster.machines.buckets import Bucket, BucketMaker, MadeBucket, Owner
from etcd_cluster.machines.machine import Machines

KEY = "backup.makeBucket"


def require_bucket(backup: Backup, machines: Machines) -> None:
    """Refuses a bucket that nobody can make, or whose credentials are the caller's.

    Raises:
        ConfigurationError: It names the key, and what to do.
    """
    if not backup.make_bucket:
        return
    if not isinstance(machines, BucketMaker):
        raise ConfigurationError(
            KEY, True, f"platform {machines.platform} makes no buckets", "make the bucket yourself, and leave it out"
        )
    scheme, to = machines.bucket_scheme, backup.to
    if not isinstance(to, str) or isinstance(to, SecretText):
        raise ConfigurationError(
            KEY,
            True,
            "backup.to is a secret, or known only later",
            "write the bucket's name in backup.to as plain text",
        )
    if StoreUrl.parse(to).scheme != scheme:
        raise ConfigurationError(
            "backup.to", to, f"platform {machines.platform} makes no such bucket", f"write {scheme}://BUCKET/PREFIX"
        )
    given = {"endpoint": backup.endpoint, "accessKey": backup.access_key, "secretKey": backup.secret_key}
    for name, value in given.items():
        if value is not None:
            raise ConfigurationError(
                f"backup.{name}",
                None if name == "endpoint" else True,
                "backup.makeBucket makes a bucket of the platform's, which machines reach by their role",
                "take one of the two out",
            )


def make_bucket(
    name: str, backup: Backup | None, machines: Machines, identity: str, before: str | None, parent: pulumi.Resource
) -> MadeBucket | None:
    """Registers the bucket; None if none is asked for.

    Args:
        name: The component's name.
        backup: The arguments, which `require_bucket` has accepted.
        machines: The platform.
        identity: PROJECT/STACK/NAME of the cluster.
        before: The same in the stack that it was moved from; None for none.
        parent: The component.
    """
    if backup is None or not backup.make_bucket or not isinstance(machines, BucketMaker):
        return None
    bucket, _, prefix = StoreUrl.parse(str(backup.to)).path.partition("/")
    owners = [Owner.parse(each) for each in (identity, before) if each]
    return machines.make_bucket(name, Bucket(bucket, prefix, not backup.append_only, owners), parent)
