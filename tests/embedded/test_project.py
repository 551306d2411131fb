"""Pulumi.yaml and Pulumi.STACK.yaml are read as Pulumi reads them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from embedded_engine.passphrase import Crypter
from embedded_engine.project import Configuration, ProjectError, configuration, read_project, read_stack


@pytest.fixture
def crypter() -> Crypter:
    return Crypter(lambda: "p", "", "there")


def read(folder: Path, project: str, stack: str, crypter: Crypter) -> Configuration:
    (folder / "Pulumi.yaml").write_text("name: proj\nruntime: python\n" + project)
    (folder / "Pulumi.dev.yaml").write_text(stack)
    opened = read_project(folder)
    return configuration(opened, "dev", read_stack(opened, "dev"), crypter)


@pytest.mark.parametrize(
    ("project", "stack", "expected"),
    [
        ("", "", {}),
        ("", "config: {proj:a: x}", {"proj:a": "x"}),
        ("", "config: {proj:a: 3, proj:b: true, proj:c: 1.5}", {"proj:a": "3", "proj:b": "true", "proj:c": "1.5"}),
        ("", "config: {proj:a: {b: [1, x, true]}}", {"proj:a": '{"b":[1,"x",true]}'}),
        ("config: {a: {type: string, default: d}}", "", {"proj:a": "d"}),
        ("config: {a: {type: string, default: d}}", "config: {proj:a: x}", {"proj:a": "x"}),
        ("config: {a: {type: integer, default: 5}}", "", {"proj:a": "5"}),
        ("config: {a: {type: boolean, default: false}}", "", {"proj:a": "false"}),
        ("config: {a: shorthand}", "", {"proj:a": "shorthand"}),
        ("config: {'other:region': {value: here}}", "", {"other:region": "here"}),
        ("config: {'other:region': here}", "config: {other:region: there}", {"other:region": "there"}),
        ("config: {'proj:a': {default: d}}", "", {"proj:a": "d"}),
        ("config: {ssh.user: {type: string, default: root}}", "", {"proj:ssh": '{"user":"root"}'}),
        (
            "config: {ssh.user: {default: root}, ssh.port: {type: integer, default: 22}}",
            "config: {proj:ssh: {user: ops}}",
            {"proj:ssh": '{"user":"ops","port":22}'},
        ),
        ("config: {a: {type: array, items: {type: string}}}", "config: {proj:a: [x]}", {"proj:a": '["x"]'}),
        ("config: {a: {type: integer}}", "config: {proj:a: '7'}", {"proj:a": "7"}),
        ("config: {a: {type: object, default: {b: c}}}", "", {"proj:a": '{"b":"c"}'}),
    ],
)
def test_values_of_a_stack(
    tmp_path: Path, crypter: Crypter, project: str, stack: str, expected: dict[str, str]
) -> None:
    assert read(tmp_path, project, stack or "{}", crypter).values == expected


@pytest.mark.parametrize(
    ("project", "stack", "message"),
    [
        ("config: {a: {type: string}}", "{}", r"missing configuration value 'a'.*Pulumi\.dev\.yaml"),
        ("config: {a: {}, b: {description: x}}", "{}", "missing configuration values 'a', 'b'"),
        ("config: {ssh.user: {type: string}}", "config: {proj:ssh: {}}", "'ssh.user'"),
        ("config: {a: {type: integer}}", "config: {proj:a: many}", "'a' of stack 'dev' must be of type 'integer'"),
        ("config: {a: {type: boolean}}", "config: {proj:a: maybe}", "'boolean'"),
        ("config: {a: {type: object}}", "config: {proj:a: [x]}", "'object'"),
        ("config: {a: {type: array, items: {type: integer}}}", "config: {proj:a: [x]}", "'array<integer>'"),
        ("config: {a: {type: string, secret: true}}", "config: {proj:a: open}", "'a'.*must be encrypted"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_its_key(
    tmp_path: Path, crypter: Crypter, project: str, stack: str, message: str
) -> None:
    with pytest.raises(ProjectError, match=message):
        read(tmp_path, project, stack, crypter)


def test_secure_values_are_decrypted_and_their_keys_known_as_secret(tmp_path: Path, crypter: Crypter) -> None:
    ciphertext = crypter.encrypt("hunter2")
    stack = {
        "config": {
            "proj:open": "x",
            "proj:top": {"secure": ciphertext},
            "proj:deep": {"a": {"secure": ciphertext}, "b": "x"},
        }
    }
    config = read(tmp_path, "config: {top: {type: string, secret: true}}", json.dumps(stack), crypter)
    assert config.values == {"proj:open": "x", "proj:top": "hunter2", "proj:deep": '{"a":"hunter2","b":"x"}'}
    assert config.secret_keys == ["proj:deep", "proj:top"]
    assert config.secrets == ["hunter2", "hunter2"]


def test_a_folder_without_a_project_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=rf"no Pulumi.yaml in {tmp_path}"):
        read_project(tmp_path)


def test_broken_yaml_is_named(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.yaml").write_text("name: [")
    with pytest.raises(ProjectError, match=r"Pulumi.yaml is not valid YAML"):
        read_project(tmp_path)
