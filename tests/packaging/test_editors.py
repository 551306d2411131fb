"""What a user's editor shows of the installed package."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
from pathlib import Path

import pytest

import etcd_cluster
from etcd_cluster.typed import argument_texts
from tests.packaging.installed import Environment
from tests.packaging.language_server import LanguageServer

CLASSES = [
    value
    for name in etcd_cluster.__all__
    if inspect.isclass(value := getattr(etcd_cluster, name)) and dataclasses.is_dataclass(value)
]


def test_every_argument_shows_its_type_its_text_with_unit_and_default(plain: Environment, tmp_path: Path) -> None:
    if importlib.util.find_spec("pyright") is None:
        pytest.skip("pyright is not installed")
    rows = [(each, field.name) for each in CLASSES for field in dataclasses.fields(each)]
    lines = [f"etcd_cluster.{each.__name__}({name}=None)" for each, name in rows]
    with LanguageServer(tmp_path, plain.programs / "python") as server:
        server.open("\n".join(["import etcd_cluster", *lines]))
        for number, (each, name) in enumerate(rows, 1):
            shown = " ".join(server.hover(number, lines[number - 1].index("(") + 1).split())
            assert f"{name}: " in shown, each
            assert argument_texts(each)[name] in shown, f"{each.__name__}.{name}"
