"""Host keys that were accepted before, as OpenSSH itself finds them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from etcd_cluster.ssh.connection import SshConfigurationError
from etcd_cluster.ssh.known_hosts import known_host_key
from tests.unit.keys import host_key

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
ONE, OTHER = host_key(1), host_key(2)


@pytest.mark.parametrize(
    ("lines", "port", "expected"),
    [
        ([f"app-1 {ONE}"], 22, ONE),
        ([f"app-1,10.0.0.1 {ONE} a comment"], 22, ONE),
        ([f"app-2 {ONE}"], 22, None),
        ([f"app-1 {ONE}"], 2222, None),
        ([f"[app-1]:2222 {ONE}"], 2222, ONE),
        (["app-1 ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ==", f"app-1 {ONE}"], 22, ONE),
        ([f"@cert-authority app-1 {ONE}"], 22, None),
        ([f"@revoked app-1 {ONE}", f"app-1 {ONE}", f"app-1 {OTHER}"], 22, OTHER),
        ([f"app-1 {ONE}", f"@revoked * {ONE}"], 22, None),
        (["# nothing"], 22, None),
        ([f"app-1\t{ONE.replace(' ', chr(9), 1)}"], 22, ONE),
        ([f"app-1  {ONE}  M\xfcller"], 22, ONE),
    ],
    ids=[
        *("name", "list", "another", "another port", "port", "another kind", "authority", "revoked", "for all", "none"),
        *("tabs", "a comment in another encoding"),
    ],
)
@pytest.mark.parametrize("hashed", [False, True], ids=["plain", "hashed"])
def test_a_known_key_is_found(lines: list[str], port: int, expected: str | None, hashed: bool, tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_bytes("".join(f"{line}\n" for line in lines).encode("latin-1"))
    if hashed:
        subprocess.run(["ssh-keygen", "-H", "-f", str(file)], check=True, capture_output=True)
    assert known_host_key("app-1", port, [str(tmp_path / "absent"), str(file)]) == expected


def test_without_the_program_that_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "known_hosts").write_text(f"app-1 {ONE}\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SshConfigurationError, match="ssh-keygen is not installed"):
        known_host_key("app-1", files=[str(tmp_path / "known_hosts")])
