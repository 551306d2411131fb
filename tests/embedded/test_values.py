"""Values on the wire and at rest, and the passphrase format that is shared with Pulumi."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import struct_pb2

from embedded_engine.passphrase import Crypter, PassphraseError, passphrase
from embedded_engine.values import (
    UNKNOWN,
    Secret,
    decode,
    encode,
    from_struct,
    holds_secret,
    holds_unknown,
    plain,
    shown,
    to_struct,
    with_secrecy_of,
)

EVERYTHING: dict[str, Any] = {
    "text": "x",
    "number": 3.5,
    "yes": True,
    "nothing": None,
    "list": [1.0, "a", Secret("s"), [], {}],
    "map": {"secret": Secret({"a": [1.0, None]}), "plain": "p"},
    "unknown": UNKNOWN,
}


def test_values_survive_the_wire() -> None:
    assert from_struct(to_struct(EVERYTHING)) == EVERYTHING


def test_a_secret_within_a_secret_is_one_secret() -> None:
    from pulumi.runtime import rpc

    assert (rpc._special_sig_key, rpc._special_secret_sig, rpc.UNKNOWN) == (
        "4dabf18193072939515e22adb298388d",
        "1b47061264138c4ac30d75fd1eb44270",
        UNKNOWN,
    ), "the marks of the SDK are the ones used here"
    inner = {rpc._special_sig_key: rpc._special_secret_sig, "value": "x"}
    outer = {rpc._special_sig_key: rpc._special_secret_sig, "value": {"a": inner}}
    struct = struct_pb2.Struct()
    struct.update({"key": outer})
    assert from_struct(struct) == {"key": Secret({"a": "x"})}


def test_values_survive_rest_and_only_secrets_are_encrypted() -> None:
    stored = encode(EVERYTHING, lambda text: f"<{text}>")
    assert decode(stored, lambda text: text[1:-1]) == EVERYTHING
    assert stored["list"][2]["ciphertext"] == '<"s">'  # type: ignore[index,call-overload]


def test_what_is_shown_has_neither_secrets_nor_unknowns() -> None:
    assert shown(EVERYTHING) == {
        **EVERYTHING,
        "list": [1, "a", "[secret]", [], {}],
        "map": {"secret": "[secret]", "plain": "p"},
        "unknown": "[unknown]",
    }
    assert "hunter2" not in repr(Secret("hunter2"))


def test_plain_removes_all_marks() -> None:
    assert holds_secret(EVERYTHING)
    assert not holds_secret(plain(EVERYTHING))
    assert holds_unknown(EVERYTHING)
    assert holds_unknown(Secret([UNKNOWN]))


@pytest.mark.parametrize(
    ("outputs", "inputs", "expected"),
    [
        ({"a": "x"}, {"a": Secret("x")}, {"a": Secret("x")}),
        ({"a": "x", "b": "y"}, {"a": "x"}, {"a": "x", "b": "y"}),
        ({"a": {"b": "x", "c": "y"}}, {"a": {"b": Secret("x")}}, {"a": {"b": Secret("x"), "c": "y"}}),
        ({"a": ["x"]}, {"a": [Secret("x")]}, {"a": Secret(["x"])}),
        ({}, {"a": Secret("x")}, {}),
    ],
)
def test_outputs_become_as_secret_as_the_inputs_they_are_named_like(outputs: Any, inputs: Any, expected: Any) -> None:
    assert with_secrecy_of(outputs, inputs) == expected


def test_the_format_is_read_back_with_the_right_passphrase_only() -> None:
    crypter = Crypter(lambda: "right", "", "there")
    ciphertext = crypter.encrypt("hunter2")
    assert ciphertext.startswith("v1:")
    assert crypter.state.startswith("v1:")
    assert crypter.state.count(":") == 4
    assert Crypter(lambda: "right", crypter.state, "there").decrypt(ciphertext) == "hunter2"
    with pytest.raises(PassphraseError, match=r"there: incorrect passphrase.*PULUMI_CONFIG_PASSPHRASE"):
        Crypter(lambda: "wrong", crypter.state, "there").decrypt(ciphertext)
    with pytest.raises(PassphraseError, match="damaged"):
        Crypter(lambda: "right", crypter.state, "there").decrypt(ciphertext[:-8] + "AAAAAAA=")


def test_an_unchanged_secret_keeps_its_ciphertext_and_equal_salts_differ() -> None:
    one, other = Crypter(lambda: "p", "", "there"), Crypter(lambda: "p", "", "there")
    assert one.encrypt("x") == one.encrypt("x")
    assert one.encrypt("x") != other.encrypt("x")
    again = Crypter(lambda: "p", one.state, "there")
    assert again.encrypt(again.decrypt(one.encrypt("x"))) == one.encrypt("x")


def test_the_passphrase_is_that_of_the_environment_or_one_made_once(tmp_path: Path) -> None:
    said: list[str] = []
    own = tmp_path / "folder" / "passphrase"
    file = tmp_path / "given"
    file.write_text("from file\n")
    assert passphrase({"PULUMI_CONFIG_PASSPHRASE": ""}, own, said.append, make=True) == ""
    assert passphrase({"PULUMI_CONFIG_PASSPHRASE_FILE": str(file)}, own, said.append, make=True) == "from file"
    with pytest.raises(PassphraseError, match="no passphrase: set PULUMI_CONFIG_PASSPHRASE"):
        passphrase({}, own, said.append, make=False)
    assert said == []
    made = passphrase({}, own, said.append, make=True)
    assert passphrase({}, own, said.append, make=False) == made
    assert len(made) >= 32
    assert len(said) == 1
    assert str(own) in said[0]
    assert made not in said[0]
    assert own.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in own.parent.iterdir()] == ["passphrase"]
    with pytest.raises(PassphraseError, match="cannot read"):
        passphrase({"PULUMI_CONFIG_PASSPHRASE_FILE": str(tmp_path / "absent")}, own, said.append, make=True)
