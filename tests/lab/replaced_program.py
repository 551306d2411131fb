"""The program, in which a changed REPLACED in the environment replaces the resources named in REPLACES, as
`pulumi up --replace` does: the new one is created, then the old one is deleted."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import pulumi

REPLACES = tuple(os.environ.get("REPLACES", "").split())


def replaced(args: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
    if args.type_.rpartition("/")[2] not in REPLACES:
        return None
    trigger = pulumi.ResourceOptions(replacement_trigger=os.environ["REPLACED"])
    return pulumi.ResourceTransformationResult(args.props, pulumi.ResourceOptions.merge(args.opts, trigger))


pulumi.runtime.register_stack_transformation(replaced)
runpy.run_path(str(Path(__file__).resolve().parents[2] / "__main__.py"))
