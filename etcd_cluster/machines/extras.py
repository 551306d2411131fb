"""Imports the cloud SDKs, which are optional: each platform's comes with an extra of this package."""

from __future__ import annotations

import importlib
from types import ModuleType

from etcd_cluster.errors import EtcdClusterError

SDKS = {"aws": "pulumi-aws>=7.6,<8", "gcp": "pulumi-gcp>=10,<11"}
"""As the package's extras of the same names require them."""


class MissingExtraError(EtcdClusterError):
    """The SDK of the platform is not installed."""


def require_extra(module: str, extra: str) -> ModuleType:
    """Returns the SDK's module; raises `MissingExtraError` naming what to install.

    That is the SDK, not this package's extra: no package index has this package, and another one could take its name.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise MissingExtraError(
            f"platform {extra} needs {module}, which is not installed: pip install '{SDKS[extra]}'"
        ) from None
