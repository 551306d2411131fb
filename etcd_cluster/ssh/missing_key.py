"""Lets a preview without the file of a private key show what it shows with the key of the last `up`."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

import pulumi

KEYS = ("privateKey", "proxy.privateKey")
KEPT = {
    "connection": [f"connection.{key}" for key in KEYS],
    "connections": [f"connections.*.{key}" for key in KEYS],
    "public_key": ["public_key"],
}
"""Input of a resource -> where a key is in it, in the form of `ignore_changes`."""


class MissingKey(str):
    """Stands for a private key whose file is not here, in a preview. It is empty."""

    __slots__ = ()


def is_key_missing(description: object) -> bool:
    """Returns whether a private key in the description of machines is a `MissingKey`."""
    if is_dataclass(description):
        return any(is_key_missing(getattr(description, field.name)) for field in fields(description))
    return isinstance(description, MissingKey)


def with_keys_kept(description: object, opts: pulumi.ResourceOptions | None) -> pulumi.ResourceOptions | None:
    """Returns the options of a component whose machines are so described, with keys kept below it if one is missing."""
    if not is_key_missing(description):
        return opts
    return pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(transformations=[_keep_keys]))


def _keep_keys(args: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
    """Leaves the keys of a resource as its state has them; a transformation of Pulumi's."""
    kept = [path for name, paths in KEPT.items() if name in args.props for path in paths]
    if not kept:
        return None
    opts = pulumi.ResourceOptions.merge(args.opts, pulumi.ResourceOptions(ignore_changes=kept))
    return pulumi.ResourceTransformationResult(args.props, opts)
