"""Finds backups in their store, from this machine, for the commands that read them."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etcd_cluster.cli.clusters import recorded_backups
from etcd_cluster.cli.command import CommandError, Option
from etcd_cluster.cli.signals import interruptible
from etcd_cluster.cli.stacks import read_stack
from etcd_cluster.clocks import current_time
from etcd_cluster.errors import Explanation
from etcd_cluster.etcd.sizes import size_text

if TYPE_CHECKING:
    from etcd_cluster.backup.catalog import StoredBackup
    from etcd_cluster.backup.files import Schedule
    from etcd_cluster.backup.transport import StoreFolder

LATEST = "latest"
PROGRESS_SECONDS = 10.0
"""Between two lines of progress, where they do not go to a terminal."""
IN_THE_STORE = """\
It asks the store from this machine, with rclone, and no machine of the cluster. Where the store is, and its
credentials, come from the stack's state; with --to URL from the command line and from the environment (for S3
AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or the machine's role; for the others likewise), as when
the stack is gone."""
STORE_OPTIONS = (
    Option(
        "--to",
        "the store, where the stack does not know it: s3://BUCKET/PREFIX, as in backup.to (default: the stack's)",
        {"metavar": "URL", "default": None},
    ),
    Option("--endpoint", "with --to: URL of a store that speaks S3's protocol", {"metavar": "URL", "default": None}),
    Option("--region", "with --to: region of the bucket", {"metavar": "REGION", "default": None}),
    Option(
        "--encryption-password-file",
        "with --to: a file with backup.encryptionPassword, if backups are encrypted",
        {"metavar": "FILE", "default": None},
    ),
)


@dataclass(frozen=True)
class Source:
    """Where backups are, and by which rule they are kept.

    Attributes:
        to: The store, as the user named it.
        given: Credentials, and what else rclone is configured with.
        token: The folder of the cluster there; None if it is not known.
        schedule: What is kept; None if it is not known.
        rclone: Where rclone comes from, as `backup.rclone` says.
    """

    to: str
    given: Mapping[str, str] = field(repr=False)
    token: str | None
    schedule: Schedule | None
    rclone: Mapping[str, Any] = field(default_factory=dict[str, Any])


def recorded(options: argparse.Namespace) -> Mapping[str, Any]:
    """Returns the properties of the stack's BackupSchedule; raises `CommandError` if there is none."""
    stack = read_stack(options.stack, options.cwd, secrets=True)
    props = recorded_backups(stack, options.cluster)
    if props is None:
        raise CommandError(
            str(
                Explanation(
                    f"stack {stack.name} has no backups" + (f" of {options.cluster}" if options.cluster else ""),
                    "backup.to in the stack's config, and an `up` since",
                    "set it and run `pulumi up`; for backups of a cluster that is gone, name the store with --to URL",
                )
            )
        )
    return props


def source(options: argparse.Namespace) -> Source:
    """Returns where backups are, by the options or the stack's state.

    Args:
        options: The global ones, and `to`, `endpoint`, `region` and `encryption_password_file`.

    Raises:
        CommandError: The stack has no backups.
        ConfigurationError: An option cannot be used.
    """
    from etcd_cluster.backup.store import require_endpoint, require_store

    if options.to is None:
        return recorded_source(recorded(options))
    require_store("--to", options.to)
    given = {"region": options.region} if options.region else {}
    if options.endpoint:
        given["endpoint"] = require_endpoint("--endpoint", options.endpoint)
    if options.encryption_password_file:
        given["encryption_password"] = _password_in(options.encryption_password_file)
    return Source(options.to, given, None, None)


def _password_in(path: str) -> str:
    """Returns what is in the file; raises `CommandError` if it cannot be read."""
    try:
        return Path(path).expanduser().read_text().rstrip("\n")
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or "it is no text"
        raise CommandError(
            f"--encryption-password-file: {path}: {problem}. Expected: the value of backup.encryptionPassword in a file"
        ) from None


def recorded_source(props: Mapping[str, Any]) -> Source:
    """Returns where the backups of a BackupSchedule are."""
    from etcd_cluster.backup.files import schedule_of

    given: Mapping[str, str] = props["credentials"] or {}
    rclone: Mapping[str, Any] = props["rclone"] or {}
    return Source(props["to"], given, props["token"], schedule_of(props), rclone)


def rclone_program(where: Source) -> str:
    """Returns rclone on this machine: it comes from where the machines' own comes from."""
    from etcd_cluster.install.rclone import place_rclone
    from etcd_cluster.member.machines import say

    return place_rclone(None, where.rclone, say)


@contextmanager
def opened(where: Source) -> Generator[StoreFolder]:
    """Opens the store from this machine. A signal to end removes what was written for it, like Ctrl-C."""
    from etcd_cluster.backup.plain_folder import PlainFolder
    from etcd_cluster.backup.store import StoreUrl
    from etcd_cluster.backup.transport import StoreFolder

    store = StoreUrl.of(where.to, where.given)
    with interruptible():
        if store.needs_rclone:
            opening = StoreFolder(store, where.to, where.given, rclone_program(where))
        else:
            opening = PlainFolder(store, where.to)
        with opening as folder:
            yield folder


def find(folder: StoreFolder, where: Source, chosen: str) -> StoredBackup:
    """Returns one backup.

    Args:
        folder: The store.
        where: Whose backups are meant, if `chosen` does not say.
        chosen: NAME, `latest`, TOKEN/NAME or TOKEN/latest.

    Raises:
        CommandError: There is none, or there are several clusters and none was named.
        StoreError: The store cannot be read.
    """
    from etcd_cluster.backup.catalog import CLOCK_SLACK, read_catalogs
    from etcd_cluster.backup.transport import TOKEN

    token, has_token, name = chosen.rpartition("/")
    is_usable = not has_token or TOKEN.fullmatch(token)
    catalogs = read_catalogs(folder, token or where.token) if is_usable else []
    found = [each for catalog in catalogs for each in catalog.backups if name in (LATEST, each.name)]
    tokens = {each.token for each in found}
    if len(tokens) > 1:
        names = ", ".join(f"{each.token} ({each.cluster})" for each in catalogs if each.token in tokens)
        raise CommandError(
            f"{where.to} has backups of {len(tokens)} clusters: {names}. Expected: one cluster. Write TOKEN/{name}"
        )
    if found:
        # One of the future is of a clock that was ahead.
        latest = current_time() + CLOCK_SLACK
        return next((each for each in found if each.slot <= latest), found[0])
    what = "no backup of this cluster" if chosen == LATEST else f"no backup {chosen}"
    raise CommandError(
        str(
            Explanation(
                f"{where.to} has {what}", "a name that `etcd-cluster backup list` shows", "run it; --all shows all"
            )
        )
    )


def reading_progress(name: str, size: int) -> Callable[[int], None]:
    """Returns a function that shows how many bytes were read: in one line of a terminal, else in a line at times."""
    on_terminal = sys.stderr.isatty()
    shown = time.monotonic()

    def show(count: int) -> None:
        nonlocal shown
        if time.monotonic() - shown < (0.2 if on_terminal else PROGRESS_SECONDS) and count != size:
            return
        shown = time.monotonic()
        line = f"{name}: {size_text(count)} of {size_text(size) if size >= 0 else 'unknown size'}"
        if on_terminal:
            print(f"\r{line}\x1b[K" + ("\n" if count == size else ""), end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    return show
