"""What people see when they hover over a public class: every argument is explained, with its default."""

from __future__ import annotations

import dataclasses
import inspect
import re

import pytest

import etcd_cluster

DATACLASSES = [
    value
    for name in etcd_cluster.__all__
    if inspect.isclass(value := getattr(etcd_cluster, name)) and dataclasses.is_dataclass(value)
]
PUBLIC = [getattr(etcd_cluster, name) for name in etcd_cluster.__all__]


@pytest.mark.parametrize("public", DATACLASSES, ids=lambda public: public.__name__)
def test_every_argument_is_named_in_the_docstring(public: type) -> None:
    text = inspect.getdoc(public) or ""
    fields = [field.name for field in dataclasses.fields(public) if not field.name.startswith("_")]
    missing = [name for name in fields if not re.search(rf"\b{name}\b[^\n]*:|`{name}`", text)]
    assert missing == []


@pytest.mark.parametrize("public", DATACLASSES, ids=lambda public: public.__name__)
def test_every_default_that_is_a_value_is_told(public: type) -> None:
    """A docstring that says nothing of defaults leaves the reader with the source."""
    told = "default" in (inspect.getdoc(public) or "").lower()
    has_defaults = any(
        field.default not in (dataclasses.MISSING, None, (), False) for field in dataclasses.fields(public)
    )
    assert told or not has_defaults


def test_the_list_is_of_what_callers_write() -> None:
    names = {public.__name__ for public in DATACLASSES}
    assert names >= {
        "AwsMachines",
        "CA",
        "Bastion",
        "EtcdClusterArgs",
        "GcpMachines",
        "Host",
        "HostMachines",
        "Install",
        "LocalMachines",
        "Machine",
        "Ports",
        "Size",
        "Ssh",
    }


@pytest.mark.parametrize("public", [each for each in PUBLIC if callable(each)], ids=lambda public: public.__name__)
def test_every_public_class_and_method_has_a_docstring(public: type) -> None:
    """Platforms are described, not called: what `Machines` asks of them is told there."""
    assert inspect.getdoc(public)
    if public is not etcd_cluster.Machines and hasattr(public, "provision"):
        return
    for name, member in vars(public).items():
        if inspect.isfunction(member) and not name.startswith("_"):
            assert inspect.getdoc(getattr(public, name)), name
