"""Pulumi.yaml and Pulumi.STACK.yaml are read as Pulumi reads them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from embedded_engine.passphrase import Crypter
from embedded_engine.project import Configuration, ProjectError, configuration, read_project, read_stack
from embedded_engine.provider import UnsupportedFeatureError


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
        ("config: {a: {type: boolean, default: false}}", "", {"proj:a": "false"}),
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
        ("config: {a: {type: boolean}}", "config: {proj:a: maybe}", "'a' of stack 'dev' must be of type 'boolean'"),
        ("config: {a: {type: string}}", "config: {proj:a: [x]}", "'a' of stack 'dev' must be of type 'string'"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_its_key(
    tmp_path: Path, crypter: Crypter, project: str, stack: str, message: str
) -> None:
    with pytest.raises(ProjectError, match=message):
        read(tmp_path, project, stack, crypter)


@pytest.mark.parametrize(
    ("declared", "feature"),
    [
        ("a: shorthand", "'a' declares more than `type`, `default` and `description`"),
        ("a: {type: string, secret: true}", "'a' declares more"),
        ("a: {type: array, items: {type: string}}", "'a' declares more"),
        ("ssh.user: {type: string}", "'ssh.user' declares more"),
        ("'aws:region': {value: here}", "'aws:region' declares more"),
        ("a: {type: integer}", "'a' of type 'integer'"),
        ("a: {type: object}", "'a' of type 'object'"),
    ],
)
def test_declarations_that_this_project_does_not_use_are_refused(
    tmp_path: Path, crypter: Crypter, declared: str, feature: str
) -> None:
    with pytest.raises(UnsupportedFeatureError, match=rf"Pulumi\.yaml: {feature}.*Install the CLI"):
        read(tmp_path, f"config: {{{declared}}}", "config: {proj:a: 1}", crypter)


def test_secure_values_are_decrypted_and_their_keys_known_as_secret(tmp_path: Path, crypter: Crypter) -> None:
    ciphertext = crypter.encrypt("hunter2")
    stack = {
        "config": {
            "proj:open": "x",
            "proj:top": {"secure": ciphertext},
            "proj:deep": {"a": {"secure": ciphertext}, "b": "x"},
        }
    }
    config = read(tmp_path, "config: {top: {type: string}}", json.dumps(stack), crypter)
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
