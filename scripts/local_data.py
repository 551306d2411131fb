"""The data that members on this machine leave behind: says where it is, or deletes it."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from etcd_cluster import EtcdClusterError
from scripts.stack_file import StackFile


class LocalDataError(EtcdClusterError):
    """The data is not ours to delete, or still in use. Nothing was deleted."""


def delete(folder: Path, cluster: str) -> bool:
    """Deletes `folder` with all members of `cluster` in it; False if there is none.

    Preconditions: no member runs, and no disk carries the name of another cluster. Raises `LocalDataError`.
    """
    if not folder.is_dir():
        return False
    for member in sorted(folder.iterdir()):
        _require_stopped(member)
        _require_ours(member, cluster)
    shutil.rmtree(folder)
    return True


def _require_stopped(member: Path) -> None:
    try:
        process = (member / "state" / "etcd.pid").read_text().strip()
        command = Path("/proc", process, "cmdline").read_bytes()
    except OSError:
        return
    if str(member / "configuration" / "etcd.yaml").encode() in command:
        raise LocalDataError(f"{member.name} still runs (process {process}): stop it, then run this again")


def _require_ours(member: Path, cluster: str) -> None:
    marker, data = member / "volume" / "etcd-cluster.json", member / "volume" / "data" / "member"
    owner = json.loads(marker.read_text()).get("cluster") if marker.is_file() else None
    if owner != cluster and (owner or data.exists()):
        raise LocalDataError(
            f"{member} holds the data of {owner or 'no cluster that is known here'}, not of {cluster}: look at it, and "
            "remove it yourself if it may go"
        )


def main(action: str, stack: str) -> int:
    file = StackFile(stack, Path.cwd())
    folder = file.local_folder
    if action == "delete":
        try:
            print(f"Deleted the data in {folder}" if delete(folder, file.cluster) else f"There is no data in {folder}")
        except EtcdClusterError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    elif folder.is_dir():
        print(f"The data stays in {folder}/MEMBER/volume; scripts/down {stack} --delete-data removes it")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
