"""The cloud SDKs are optional: each platform's comes with an extra of this package."""

from __future__ import annotations

import importlib
from types import ModuleType

from etcd_cluster.errors import EtcdClusterError

SDKS = {"aws": "pulumi-aws>=7,<8", "gcp": "pulumi-gcp>=10,<11"}
"""As the package's extras of the same names require them."""


class MissingExtraError(EtcdClusterError):
    """A platform is used whose SDK is not installed."""


def require_extra(module: str, extra: str) -> ModuleType:
    """The SDK's module; raises `MissingExtraError` naming what to install.

    The SDK, not this package's extra: no package index has this package, and another one could take its name.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise MissingExtraError(
            f"platform {extra} needs {module}, which is not installed: pip install '{SDKS[extra]}'"
        ) from None
