"""`etcd-cluster load-check --from`: the machine that loads the cluster as its clients will, and how it is reached."""

from __future__ import annotations

import argparse
import urllib.parse
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etcd_cluster.cli.clusters import DIAL_ATTEMPTS, Cluster
from etcd_cluster.cli.command import CommandError, Option
from etcd_cluster.errors import ConfigurationError, Explanation

if TYPE_CHECKING:
    from etcd_cluster.load_check.client import Issuer, LoadClient, ProgramOfMember


@dataclass(frozen=True)
class ClientAddress:
    """Where that machine is.

    Args:
        host: Its address or name.
        user: Whom to log in as; "" for the user of the members' machines.
        port: Its SSH port.
    """

    host: str
    user: str
    port: int


def client_address(text: str) -> ClientAddress:
    """Returns the value of `--from`.

    Raises:
        argparse.ArgumentTypeError: It is not [USER@]HOST[:PORT].
    """
    from etcd_cluster.names import USER, is_host

    try:
        parsed = urllib.parse.urlsplit(f"//{text}")
        host, user, port = parsed.hostname or "", parsed.username or "", parsed.port
    except ValueError:
        host, user, port = "", "", None
    rest = text.removeprefix(f"{user}@") if user else text
    is_whole = rest.lower() in (f"{spelling}{end}" for spelling in (host, f"[{host}]") for end in ("", f":{port}"))
    if not is_whole or not is_host(host) or (user and not USER.fullmatch(user)) or port == 0:
        raise argparse.ArgumentTypeError(
            f"{text.rpartition('@')[2]}: not a machine to log in to. Write [USER@]HOST[:PORT], IPv6 in brackets"
        )
    return ClientAddress(host, user, port or 22)


OPTIONS = (
    Option(
        "--from",
        "machine that loads the cluster as a client; logged in to as to the members (default: a follower's machine)",
        {"metavar": "[USER@]HOST[:PORT]", "dest": "client", "type": client_address, "default": None},
    ),
    Option(
        "--host-key",
        "with --from: its public SSH host key (default: the one in your known_hosts)",
        {"metavar": "KEY", "default": None},
    ),
    Option(
        "--identity",
        "with --from: file of the private key to log in with (default: that of the members, or the SSH agent)",
        {"metavar": "FILE", "type": Path, "default": None},
    ),
)


def require_use(options: argparse.Namespace) -> None:
    """Raises `CommandError` for options of a client that nothing uses."""
    if options.clean and options.client is not None:
        raise CommandError("--clean: a member removes what is left, wherever the load came from. Take --from out")
    for name in ("host_key", "identity"):
        if options.client is None and getattr(options, name) is not None:
            raise CommandError(
                f"--{name.replace('_', '-')}: nothing uses it without --from. Add --from, or take it out"
            )


def client_of(options: argparse.Namespace, cluster: Cluster) -> AbstractContextManager[LoadClient | None]:
    """Returns the machine that `--from` names, which is not asked for anything yet; None without.

    Args:
        options: With `client`, `host_key` and `identity`.
        cluster: The cluster, whose stack was read with its secrets.

    Raises:
        CommandError: Its host key is unknown, or a file cannot be read.
    """
    if options.client is None:
        return nullcontext()
    from etcd_cluster.load_check.client import load_client

    return load_client(_connection(options, cluster), _program(cluster), _issuer(cluster))


def _connection(options: argparse.Namespace, cluster: Cluster) -> dict[str, Any]:
    """Returns how to reach it: as the members, with what the options say."""
    from etcd_cluster.ssh.connection import Connection, parse_connection

    address: ClientAddress = options.client
    of_member = next(iter(cluster.connections.values()), None)
    usual = parse_connection(of_member) if of_member else Connection(address.host)
    key = _private_key(options.identity) if options.identity else usual.private_key
    connection = replace(
        usual,
        host=address.host,
        port=address.port,
        user=address.user or usual.user,
        private_key=key,
        host_key=_host_key(options),
        dial_error_limit=DIAL_ATTEMPTS,
    )
    return asdict(connection)


def _host_key(options: argparse.Namespace) -> str:
    from etcd_cluster.ssh.key_texts import require_host_key
    from etcd_cluster.ssh.known_hosts import known_host_key

    address: ClientAddress = options.client
    if options.host_key is not None:
        return require_host_key("--host-key", options.host_key)
    found = known_host_key(address.host, address.port)
    if found is None:
        raise CommandError(
            str(
                Explanation(
                    f"--from: no host key is known for {address.host}",
                    "one in ~/.ssh/known_hosts, of a machine that was logged in to before",
                    f"log in to it once by `ssh -p {address.port} {address.host}`, or add --host-key with its public "
                    "key (/etc/ssh/ssh_host_ed25519_key.pub there)",
                )
            )
        )
    return found


def _private_key(file: Path) -> str:
    from etcd_cluster.ssh.key_texts import require_private_key

    try:
        text = file.expanduser().read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            "--identity", str(file), f"cannot be read ({error})", "name the file of a private key"
        ) from None
    return require_private_key("--identity", text)


def _program(cluster: Cluster) -> ProgramOfMember:
    from etcd_cluster.load_check.client import ProgramOfMember

    desired = cluster.desired()
    return ProgramOfMember.of_first(desired.members, cluster.connections, desired.version)


def _issuer(cluster: Cluster) -> Issuer | None:
    """Returns the CA that signed the exported client's certificate, or with users that of the user root."""
    from etcd_cluster.load_check.client import Issuer
    from etcd_cluster.pki.x509 import KeyPair
    from etcd_cluster.users import CLIENT, ROOT

    desired = cluster.desired()
    if not desired.tls:
        return None
    name = ROOT if desired.users else CLIENT
    of_clients = (each for each in cluster.certificates if each["profile"] == "client")
    signed = next((each for each in of_clients if each["common_name"] == name), None)
    if signed is None:
        problem = f"--from: stack {cluster.stack.name} has no certificate of {name}, whose CA would sign the client's"
        expected, fix = "the certificates that `pulumi up` makes", "run `pulumi up`, or leave --from out"
        raise CommandError(str(Explanation(problem, expected, fix)))
    ca = KeyPair(signed["ca_certificate_pem"], signed["ca_private_key_pem"])
    return Issuer(ca, name, "".join(desired.trusted))
