"""The cloud SDKs are optional: each platform's comes with an extra of this package."""

from __future__ import annotations

import importlib
from types import ModuleType

from etcd_cluster.errors import EtcdClusterError


class MissingExtraError(EtcdClusterError):
    """A platform is used whose SDK is not installed."""


def require_extra(module: str, extra: str) -> ModuleType:
    """The SDK's module; raises `MissingExtraError` naming the extra to install."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise MissingExtraError(
            f"platform {extra} needs {module}, which is not installed: pip install 'etcd-cluster[{extra}]'"
        ) from None
