"""A secret is in no output, no error and no plain state; and whoever has another passphrase gets nothing."""

from __future__ import annotations

import json

import pytest

from embedded_engine.passphrase import Crypter, PassphraseError
from tests.embedded.conftest import Project
from tests.embedded.test_run import LOCAL

SECRETS = ("hunter2-in-stdin", "hunter2-in-config", "hunter2-generated", "hunter2-exported")

VAULT = """
    import pulumi
    from pulumi.dynamic import CreateResult, Resource, ResourceProvider, UpdateResult

    class Provider(ResourceProvider):
        serialize_as_secret_always = False
        def create(self, props):
            return CreateResult("vault", {**props, "generated": "hunter2-generated", "plain": "p"})
        def update(self, id_, olds, news):
            raise ValueError("cannot update hunter2-generated")

    class Vault(Resource, module="test", name="Vault"):
        generated: pulumi.Output[str]
        plain: pulumi.Output[str]
        def __init__(self, name, props, opts=None):
            opts = pulumi.ResourceOptions.merge(
                opts, pulumi.ResourceOptions(additional_secret_outputs=["generated"]))
            super().__init__(Provider(), name, {**props, "generated": None, "plain": None}, opts)
"""

PROGRAM = """
    from vault import Vault
    config = pulumi.Config()
    vault = Vault("vault", {"password": config.require_secret("password"), "n": 1})
    given = local.Command("given", create="cat >/dev/null", stdin=pulumi.Output.secret("hunter2-in-stdin"))
    leaky = local.Command("leaky", create="echo hunter2-in-stdin leaks >&2; echo fine",
                          opts=Options(depends_on=[given], additional_secret_outputs=["stderr"]))
    loud = local.Command("loud", create="echo hunter2-in-stdin is loud >&2; cat >/dev/null",
                         opts=Options(depends_on=[leaky]), stdin=pulumi.Output.secret("hunter2-in-stdin"))
    pulumi.export("exported", pulumi.Output.secret("hunter2-exported"))
    pulumi.export("generated", vault.generated)
    pulumi.export("password", vault.password)
    pulumi.export("derived", vault.generated.apply(lambda text: text.upper()))
    pulumi.export("plain", vault.plain)
"""


@pytest.fixture
def secretive(project: Project) -> Project:
    crypter = Crypter(lambda: "correct horse", "", "here")
    ciphertext = crypter.encrypt("hunter2-in-config")
    (project.folder / "Pulumi.dev.yaml").write_text(
        json.dumps({"encryptionsalt": crypter.state, "config": {"project:password": {"secure": ciphertext}}})
    )
    project.write(LOCAL, PROGRAM.replace("is loud >&2", ">/dev/null"), vault=VAULT)
    return project


def test_no_secret_is_in_what_is_printed_or_kept(secretive: Project) -> None:
    texts = [secretive.preview().text]
    ran = secretive.up()
    texts += [ran.text, secretive.state_file.read_text()]
    secretive.write(LOCAL, PROGRAM.replace('"n": 1', '"n": 2'), vault=VAULT)
    texts += [secretive.preview().text, secretive.up().text, secretive.destroy().text]
    assert ran.ok, ran.text
    for text in texts:
        for each in SECRETS:
            # The command lines of this test's own program name one of them, and are no secret.
            assert each not in text.replace("echo hunter2-in-stdin", "")
    assert ran.outputs == {
        "exported": "hunter2-exported",
        "generated": "hunter2-generated",
        "password": "hunter2-in-config",
        "derived": "HUNTER2-GENERATED",
        "plain": "p",
    }


def test_secrets_are_masked_in_progress_and_errors(secretive: Project) -> None:
    secretive.write(LOCAL, PROGRAM, vault=VAULT)
    ran = secretive.up()
    assert "loud: [secret] is loud" in ran.text
    assert "leaks" not in ran.text
    secretive.write(LOCAL, PROGRAM.replace('"n": 1', '"n": 2'), vault=VAULT)
    failed = secretive.up()
    assert not failed.ok
    assert "cannot update [secret]" in failed.text


def test_outputs_are_as_secret_as_they_should_be(secretive: Project) -> None:
    secretive.up()
    code, text = secretive.command("outputs", "--json")
    assert code == 0
    assert json.loads(text) == {
        "exported": "[secret]",
        "generated": "[secret]",
        "password": "[secret]",
        "derived": "[secret]",
        "plain": "p",
    }
    code, text = secretive.command("outputs", "--json", "--show-secrets")
    assert json.loads(text)["generated"] == "hunter2-generated"


def test_a_wrong_passphrase_is_an_error_before_anything_is_done(
    secretive: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    secretive.up()
    before = secretive.state_file.read_bytes()
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "wrong")
    for run in (secretive.up, secretive.preview, secretive.destroy):
        with pytest.raises(PassphraseError, match="incorrect passphrase"):
            run()
    assert secretive.state_file.read_bytes() == before
    code, text = secretive.command("outputs")
    assert code == 1
    assert "incorrect passphrase" in text
    assert "Traceback" not in text


def test_the_state_is_private(secretive: Project) -> None:
    secretive.up()
    assert secretive.state_file.stat().st_mode & 0o777 == 0o600
    assert secretive.state_file.parent.stat().st_mode & 0o777 == 0o700


def test_a_key_is_masked_line_by_line(project: Project) -> None:
    project.write(
        LOCAL,
        """
    KEY = "-----BEGIN PRIVATE KEY-----\\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49\\n-----END PRIVATE KEY-----\\n"
    local.Command("a", create="cat >&2", stdin=pulumi.Output.secret(KEY))
    """,
    )
    text = project.up().text
    assert "MIGHAgEAMBMG" not in text
    assert "[secret]" in text


def test_a_program_without_secrets_needs_no_passphrase(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE")
    project.write(LOCAL, 'command("a")')
    assert "passphrase" not in project.up().text
    project.write(LOCAL, 'command("a", stdin=pulumi.Output.secret("x"))')
    assert project.up().text.count("made a passphrase of our own") == 1
    assert "passphrase" not in project.up().text
