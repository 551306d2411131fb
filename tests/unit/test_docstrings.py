"""What people see when they hover over a public class: every argument is explained, with its default."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

import etcd_cluster
from etcd_cluster.typed import argument_texts

DATACLASSES = [
    value
    for name in etcd_cluster.__all__
    if inspect.isclass(value := getattr(etcd_cluster, name)) and dataclasses.is_dataclass(value)
]
PUBLIC = [getattr(etcd_cluster, name) for name in etcd_cluster.__all__]


ARGUMENTS = [(public, field) for public in DATACLASSES for field in dataclasses.fields(public)]
NOTHING = (dataclasses.MISSING, None, (), "")


@pytest.mark.parametrize("public", DATACLASSES, ids=lambda public: public.__name__)
def test_every_argument_has_its_docstring_below_it_where_editors_find_it(public: type) -> None:
    fields = [field.name for field in dataclasses.fields(public) if not field.name.startswith("_")]
    assert [name for name in fields if not argument_texts(public).get(name)] == []
    assert "Args:" not in (inspect.getdoc(public) or "")


def test_every_default_that_is_a_value_is_told() -> None:
    untold = [
        f"{public.__name__}.{field.name}"
        for public, field in ARGUMENTS
        if field.default not in NOTHING and "default" not in argument_texts(public)[field.name].lower()
    ]
    assert untold == []


def test_every_unit_in_a_name_is_in_the_text() -> None:
    units = {"_gib": "GiB", "_gb": "GB", "_hours": "hours", "_seconds": "econds"}
    untold = [
        f"{public.__name__}.{field.name}"
        for public, field in ARGUMENTS
        for end, unit in units.items()
        if field.name.endswith(end) and unit not in argument_texts(public)[field.name]
    ]
    assert untold == []


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
