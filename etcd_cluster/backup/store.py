"""Describes a store of backups, and configures rclone for it. Pure."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import unquote, urlsplit

from etcd_cluster.errors import HIDDEN, ConfigurationError, is_private_key
from etcd_cluster.names import is_host, is_one_line

REMOTE = "store"
"""rclone's name for the store; with encryption, for what it holds, decrypted."""
ENCRYPTED_REMOTE = "encrypted"
"""rclone's name for the store as others see it, if backups are encrypted."""
SHORTEST_PASSWORD = 16
OBSCURING_KEY = bytes.fromhex("9c935b48730a554d6bfd7c63c886a92bd390198eb8128afbf4de162b8b95f638")
"""rclone's own, the same everywhere, so it hides nothing: https://rclone.org/commands/rclone_obscure/"""
EXAMPLES = (
    "s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, azure://ACCOUNT/CONTAINER/PREFIX, sftp://USER@HOST/FOLDER or /FOLDER"
)
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html,
# https://cloud.google.com/storage/docs/buckets#naming and
# https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules
BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")
UNREADABLE = re.compile(r"^\s*`|%\([^)]+\)")
"""What the file means otherwise: text over several lines, and the value of another option. Nothing escapes it."""
KEYS = {
    "access_key_id": "accessKey",
    "secret_access_key": "secretKey",
    "service_account_credentials": "secretKey",
    "key": "secretKey",
    "endpoint": "endpoint",
    "region": "region",
    "key_pem": "privateKey",
    "password": "encryptionPassword",
}
"""Option of rclone -> key of the config."""
ACCOUNT = re.compile(r"[a-z0-9]{3,24}")


@dataclass(frozen=True)
class StoreUrl:
    """The place of backups.

    Args:
        scheme: s3, gs, azure, sftp or file.
        account: Account of Azure, or user of sftp; else "".
        host: Server of sftp; else "".
        port: Port of sftp, default 22.
        path: BUCKET/PREFIX, or a folder's path.
        encrypted: Backups are encrypted before they leave a machine.
    """

    scheme: str
    path: str
    account: str = ""
    host: str = ""
    port: int = 22
    encrypted: bool = False

    @staticmethod
    def parse(to: str) -> StoreUrl:
        """Reads `backup.to`; raises `ConfigurationError` for a text that names no store."""
        return require_store("backup.to", to)

    @staticmethod
    def of(to: str, given: Mapping[str, str]) -> StoreUrl:
        """Reads `backup.to`, for a store with these credentials."""
        return replace(StoreUrl.parse(to), encrypted=bool(given.get("encryption_password")))

    def folder(self, token: str) -> str:
        """Returns rclone's name for the folder of one cluster."""
        return f"{self.root}/{token}"

    @property
    def needs_rclone(self) -> bool:
        """False for a folder that is not encrypted: members and the command read and write its files themselves."""
        return self.scheme != "file" or self.encrypted

    @property
    def root(self) -> str:
        """The folder that holds those of all clusters, as rclone names it."""
        path = self.path.rstrip("/")
        return f"{REMOTE}:{path}" if self.needs_rclone else path


def require_store(key: str, to: str) -> StoreUrl:
    """Returns the store that a text names; raises `ConfigurationError` for any other text."""
    if not to or not is_one_line(to) or to != to.strip():
        raise ConfigurationError(key, to, "not the name of a store", f"write one of {EXAMPLES}")
    if to.startswith("/"):
        if ".." in to.split("/") or to.strip("/") == "":
            raise ConfigurationError(key, to, "not a folder for backups", "write an absolute path without ..")
        return StoreUrl("file", to)
    try:
        parts = urlsplit(to)
        port = parts.port
    except ValueError:
        raise ConfigurationError(key, HIDDEN, "not a URL", f"write one of {EXAMPLES}") from None
    if parts.password or parts.query or parts.fragment:
        raise ConfigurationError(
            key,
            HIDDEN,
            "it holds a password or a query",
            "leave it out, and give credentials by accessKey and secretKey",
        )
    path, user = unquote(parts.path).strip("/"), unquote(parts.username or "")
    if not is_one_line(path + user) or ".." in path.split("/"):
        raise ConfigurationError(key, to, "it holds .. or a control character", f"write one of {EXAMPLES}")
    if parts.scheme in ("s3", "gs"):
        if not BUCKET.fullmatch(parts.netloc):
            raise ConfigurationError(key, to, "its bucket is not usable as a bucket's name", f"write {EXAMPLES}")
        return StoreUrl(parts.scheme, f"{parts.netloc}/{path}".rstrip("/"))
    if parts.scheme == "azure":
        if not ACCOUNT.fullmatch(parts.netloc) or not BUCKET.fullmatch(path.partition("/")[0]):
            raise ConfigurationError(
                key, to, "not an account and a container", "write azure://ACCOUNT/CONTAINER/PREFIX"
            )
        return StoreUrl("azure", path, account=parts.netloc)
    if parts.scheme == "sftp":
        if not user or not is_host(parts.hostname or "") or not path:
            raise ConfigurationError(key, to, "lacks a user, a host or a folder", "write sftp://USER@HOST:PORT/FOLDER")
        return StoreUrl("sftp", f"/{path}", user, parts.hostname or "", port or 22)
    raise ConfigurationError(key, to, f"{parts.scheme or 'nothing'}:// is no kind of store", f"write one of {EXAMPLES}")


def require_endpoint(key: str, endpoint: str) -> str:
    """Returns the URL of a store; raises `ConfigurationError` for what is none, or shows a password."""
    try:
        parts = urlsplit(endpoint)
        is_whole = is_one_line(endpoint) and parts.port != 0  # reading a port checks it
    except ValueError:
        raise ConfigurationError(key, HIDDEN, "not a URL", "write it like https://s3.example.net") from None
    is_web = parts.scheme in ("http", "https") and is_host(parts.hostname or "")
    if not is_whole or not is_web or parts.username or parts.query:
        raise ConfigurationError(
            key,
            HIDDEN if "@" in endpoint else endpoint,
            "not the URL of a store",
            "write it like https://s3.example.net",
        )
    return endpoint


def require_ca(key: str, pem: str) -> str:
    """Returns certificates of CAs; raises `ConfigurationError` for a text that holds none, or a private key."""
    if "BEGIN CERTIFICATE" not in pem or is_private_key(pem):
        raise ConfigurationError(key, HIDDEN, "not a CA certificate in PEM", "give the text of the CA's certificate")
    return pem


def require_encryption_password(key: str, password: str) -> str:
    """Returns the password; raises `ConfigurationError` for one that can be guessed, or is no line."""
    if len(password) < SHORTEST_PASSWORD or not is_one_line(password) or password != password.strip():
        raise ConfigurationError(
            key,
            HIDDEN,
            f"shorter than {SHORTEST_PASSWORD} characters, or not one line without blanks at its ends",
            "take a random one (openssl rand -base64 32), and keep it where the cluster is not",
        )
    return password


def rclone_configuration(store: StoreUrl, given: Mapping[str, str], known_hosts: str) -> str:
    """Returns rclone's configuration file, with the credentials in it.

    Args:
        store: The store.
        given: "endpoint", "region", "access_key", "secret_key", "private_key" and "encryption_password", each if it is
            given.
        known_hosts: Path on the machine of the file with the sftp server's host key.

    Raises:
        ConfigurationError: A value cannot be in that file.
    """
    options = _options(store, given, known_hosts)
    password = given.get("encryption_password")
    sections = {ENCRYPTED_REMOTE: options, REMOTE: _encryption(password)} if password else {REMOTE: options}
    return "\n".join(_section(name, section) for name, section in sections.items())


def _section(remote: str, options: Mapping[str, str]) -> str:
    for name, value in options.items():
        if UNREADABLE.search(_one_line(value)):
            key = KEYS.get(name, "to")
            raise ConfigurationError(
                f"backup.{key}",
                HIDDEN,
                "rclone cannot read it from its configuration: it begins with ` or holds %(...)",
                "choose another value",
            )
    return "".join([f"[{remote}]\n", *(f"{name} = {_one_line(value)}\n" for name, value in options.items())])


def _encryption(password: str) -> dict[str, str]:
    """Returns the options of rclone's encryption. Names stay readable: they are what retention and people go by."""
    return {
        "type": "crypt",
        "remote": f"{ENCRYPTED_REMOTE}:",
        "filename_encryption": "off",
        "directory_name_encryption": "false",
        "suffix": "none",
        "password": obscured(password),
    }


def obscured(password: str) -> str:
    """Returns a password as `rclone obscure` writes it, the only form in which rclone reads one from its configuration.

    Always the same for the same password, so that the file changes only with what is in it.
    """
    from cryptography.hazmat.primitives.ciphers import (
        Cipher,
        algorithms,
        modes,
    )  # lazily: no program needs it to preview

    start = hashlib.sha256(b"etcd-cluster " + password.encode()).digest()[:16]
    encryptor = Cipher(algorithms.AES(OBSCURING_KEY), modes.CTR(start)).encryptor()
    hidden = start + encryptor.update(password.encode()) + encryptor.finalize()
    return base64.urlsafe_b64encode(hidden).rstrip(b"=").decode()


def _options(store: StoreUrl, given: Mapping[str, str], known_hosts: str) -> dict[str, str]:
    secret = given.get("secret_key") or ""
    endpoint = {"endpoint": url} if (url := given.get("endpoint")) else {}
    if store.scheme == "s3":
        region = given.get("region") or ("us-east-1" if endpoint else "")
        return {
            "type": "s3",
            "provider": "Other" if endpoint else "AWS",
            **(
                {"access_key_id": given.get("access_key", ""), "secret_access_key": secret}
                if secret
                else {"env_auth": "true"}
            ),
            **({**endpoint, "force_path_style": "true"} if endpoint else {}),
            **({"region": region} if region else {}),
            "no_check_bucket": "true",
        }
    if store.scheme == "gs":
        credentials = {"service_account_credentials": secret} if secret else {"env_auth": "true"}
        fixed = {"bucket_policy_only": "true", "no_check_bucket": "true"}
        return {"type": "google cloud storage", **credentials, **fixed, **endpoint}
    if store.scheme == "azure":
        credentials = {"key": secret} if secret else {"env_auth": "true"}
        return {"type": "azureblob", "account": store.account, **credentials, **endpoint}
    if store.scheme == "sftp":
        return {
            "type": "sftp",
            "host": store.host,
            "port": str(store.port),
            "user": store.account,
            "key_pem": (given.get("private_key") or "").strip().replace("\n", "\\n"),
            "known_hosts_file": known_hosts,
            "shell_type": "none",
        }
    return {"type": "local"}


def _one_line(value: str) -> str:
    """Returns a value as one line of the file: a service account's key is JSON, whose line ends mean nothing."""
    return " ".join(value.split("\n"))
