"""What a machine's disks hold decides what is formatted and mounted: real block devices, file systems and mounts, and
the functions of the member's scripts that look at them. No host is booted: each case has a mount namespace of its own.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from etcd_cluster.member import render
from etcd_cluster.member.layout import Layout
from tests.lab.hosts import _attach, _detach

MIB = 1024**2
UUID = "0f0e0d0c-0b0a-4908-8706-050403020100"
MARK = f"etcd-cluster: formatting {UUID}"
MARKER = '{"cluster": "p/s/etcd", "member": "etcd-1", "token": "4711"}'

STUBS = """
require_no_other_data_disk() { :; } # it looks at all disks of this machine, and labs have some
service_pid() { echo "$running"; }
put_unit() { base64 -d <<<"$2" >"$MOUNT_UNIT"; }
systemctl() { mount -t xfs "$(sed -n 's/^What=//p' "$MOUNT_UNIT")" "$volume_path"; }
prepare_disk() {
  require_clear_volume
  mkdir -p "$volume_path" "$state_path"
  mount_device
}
tell_problems() {
  check_device
  check_mount
  printf '%s\\n' "${problems[@]}"
}
"""


class Machine:
    """What the scripts see as the machine; its system's own folders are in `folder`."""

    def __init__(self, folder: Path, *disks: str) -> None:
        self.folder = folder
        self.disks = disks
        self.device = disks[0]
        self.running = ""
        self.layout = Layout(**{**vars(Layout.below(str(folder))), "supervisor": "systemd"})
        self.volume = Path(self.layout.volume)
        Path(self.layout.state).mkdir()

    @property
    def disk(self) -> str:
        return self.disks[0]

    def run(self, commands: str, before: str = "") -> str:
        """What the commands print or fail with, in a mount namespace where `before` has been done."""
        variables = {
            **render.layout_variables(self.layout),
            **{"running": self.running, "cluster": "p/s/etcd", "token": "4711"},
            "file_mount_unit": render.encode(render.mount_unit(self.layout)),
        }
        assignments = "\n".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
        sources = "\n".join(render._source(name) for name in ("common", "systemd", "machine", "prepare", "check"))
        own = f"""
        MOUNT_UNIT={self.folder}/data-etcd.mount unit_path={self.folder}/etcd.service
        spec[member]=etcd-1 spec[device]={self.device} spec[disk-gib]=0
        """
        script = "\n".join([assignments, sources, STUBS, own, before, commands])
        command = ["unshare", "--mount", "--propagation", "private", "bash", "-s"]
        done = subprocess.run(command, input=script, capture_output=True, text=True, check=False, timeout=600)
        return (done.stdout + done.stderr).strip()

    def content(self, disk: str = "") -> str:
        return self.run(f"device_content {disk or self.disk}")

    def note_formatting(self, text: str = UUID) -> None:
        Path(self.layout.state, "formatting").write_text(f"{text}\n")

    def write(self, data: bytes, offset: int, disk: str = "") -> None:
        with open(disk or self.disk, "r+b") as file:
            file.seek(offset)
            file.write(data)
            os.fsync(file.fileno())

    def start_of(self, disk: str = "") -> bytes:
        with open(disk or self.disk, "rb") as file:
            return file.read(2 * MIB)

    def put(self, name: str) -> None:
        path = self.volume / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("kept")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """With two blank disks without serial numbers, alike but for what is on them."""
    images = [tmp_path / f"disk-{number}" for number in (1, 2)]
    for image in images:
        image.touch()
        os.truncate(image, 400 * MIB)
    disks = [_attach(image) for image in images]
    folder = tmp_path / "machine"
    folder.mkdir()
    try:
        yield Machine(folder, *disks)
    finally:
        for disk in disks:
            with suppress(OSError):
                _detach(disk)


# --- a formatting that was cut short ---


def test_another_disk_without_a_serial_number_is_never_taken_for_the_one_whose_formatting_was_cut_short(
    machine: Machine,
) -> None:
    """It has the name, the number and the size of that one; and raw data, in which nothing is recognised."""
    numbers = machine.run(f"lsblk -ndo MAJ:MIN {machine.disk}").strip()
    size = machine.run(f"blockdev --getsize64 {machine.disk}")
    machine.write(b"precious", 700_000)
    before = machine.start_of()
    for noted in (UUID, f"{UUID} {numbers} {size}", f"{UUID} {numbers}  {size}"):
        machine.note_formatting(noted)
        assert machine.content() == "its first MiB is not empty"
        assert "only a blank device is formatted" in machine.run("prepare_disk")
    assert machine.start_of() == before


@pytest.mark.parametrize("noted", ["", "another-uuid"])
def test_a_mark_alone_or_of_another_formatting_proves_nothing(machine: Machine, noted: str) -> None:
    machine.write(MARK.encode(), 255 * 4096)
    if noted:
        machine.note_formatting(noted)
    assert machine.content() == "its first MiB is not empty"


CUTS = {
    "before the mark": "dd() { kill -9 $$; }",
    "before mkfs": "mkfs.xfs() { kill -9 $$; }",
    "in mkfs, which has cleared what was there": (
        "mkfs.xfs() { dd if=/dev/zero of=$device bs=1K count=128 conv=notrunc,fsync status=none; kill -9 $$; }"
    ),
    "in mkfs, which has written more": (
        'mkfs.xfs() { command mkfs.xfs "$@"; dd if=/dev/zero of=$device bs=4K count=1 conv=notrunc,fsync status=none;'
        " kill -9 $$; }"
    ),
    "after mkfs": "rm() { kill -9 $$; }",
}


@pytest.mark.parametrize("cut", CUTS)
def test_a_formatting_that_is_cut_short_anywhere_is_begun_anew_on_the_same_disk(machine: Machine, cut: str) -> None:
    machine.run("prepare_disk", before=CUTS[cut])
    assert Path(machine.layout.state, "formatting").exists()
    assert machine.content() in (("blank",) if cut == "before the mark" else ("unfinished",))
    done = machine.run("prepare_disk && findmnt -no FSTYPE $volume_path")
    assert done.startswith("xfs"), done
    assert machine.content() == "ours"
    assert not Path(machine.layout.state, "formatting").exists()


def test_a_disk_that_comes_in_between_is_not_formatted_and_the_right_one_is_once_it_is_back(machine: Machine) -> None:
    machine.run("prepare_disk", before=CUTS["before mkfs"])
    other = machine.disks[1]
    machine.write(b"precious", 300_000, other)
    before = machine.start_of(other)
    machine.device = other
    assert "its first MiB is not empty; only a blank device is formatted" in machine.run("prepare_disk")
    assert machine.start_of(other) == before
    machine.device = machine.disk
    machine.run("prepare_disk")
    assert machine.content() == "ours"


# --- nothing is mounted over data ---


@pytest.mark.parametrize(
    "held",
    ["data/member/wal/0.wal", "data.removed-20300101T000000Z/member/x", "data.before/x", "history", "snapshots/x"],
)
def test_a_disk_is_not_formatted_where_it_would_be_mounted_over_what_etcd_keeps(machine: Machine, held: str) -> None:
    machine.put(held)
    for said in (machine.run("prepare_disk"), machine.run("tell_problems")):
        assert f"holds etcd's files ({held.partition('/')[0]})" in said
        assert "nothing is ever mounted over data" in said
        assert "docs/move-data-to-a-device.md" in said
    assert machine.content() == "blank"
    assert not Path(machine.layout.state, "formatting").exists()


def test_a_marker_without_data_and_an_empty_folder_are_nothing_to_lose(machine: Machine) -> None:
    machine.put("etcd-cluster.json")
    (machine.volume / "data").mkdir()
    assert machine.run("tell_problems") == ""
    machine.run("prepare_disk")
    assert machine.content() == "ours"


def test_a_disk_is_not_mounted_over_data_either_when_it_is_ours_already(machine: Machine) -> None:
    machine.run("prepare_disk")
    machine.put("data/member/wal/0.wal")
    assert "nothing is ever mounted over data" in machine.run("prepare_disk")


def test_a_blank_disk_is_not_formatted_below_a_member_that_runs_from_elsewhere(machine: Machine) -> None:
    machine.running = "4711"
    assert "etcd runs here, and its data are not on device" in machine.run("prepare_disk")
    assert machine.content() == "blank"


def test_a_disk_that_was_unmounted_below_a_member_that_runs_is_mounted_again(machine: Machine) -> None:
    machine.run("prepare_disk")
    machine.running = "4711"
    assert machine.run("tell_problems") == ""
    assert machine.run("prepare_disk && findmnt -no FSTYPE $volume_path") == "xfs"


def test_a_path_behind_a_symbolic_link_is_no_place_for_a_mount(machine: Machine) -> None:
    (machine.folder / "elsewhere").mkdir()
    machine.volume.symlink_to(machine.folder / "elsewhere")
    assert "is behind a symbolic link" in machine.run("prepare_disk")
    assert "is behind a symbolic link" in machine.run("tell_problems")
    assert machine.content() == "blank"
    machine.device = ""
    assert machine.run("volume_obstacle") == ""


FOREIGN = {
    "memory": ("mount -t tmpfs memory $volume_path", "memory at "),
    "someone's disk": ("mkfs.ext4 -q {other} && mount {other} $volume_path", "{other} at "),
    "a folder of the data disk itself": (
        "mkdir /mnt/all && mount {disk} /mnt/all && mkdir -p /mnt/all/x && mount --bind /mnt/all/x $volume_path",
        "{disk}[/x] at ",
    ),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_mounted_where_the_disk_belongs_is_named_and_nothing_is_put_into_it(
    machine: Machine, kind: str
) -> None:
    machine.run("prepare_disk")
    command, named = (each.format(disk=machine.disk, other=machine.disks[1]) for each in FOREIGN[kind])
    before = f"mkdir -p $volume_path; mount -t tmpfs mnt /mnt; {command}"
    for step in ("prepare_disk", "tell_problems", "mounted_over"):
        assert f"{named}{machine.volume}" in machine.run(step, before), step
    over = f"mount {machine.disk} $volume_path; {command}"
    if "bind" not in command:
        assert f"{named}{machine.volume}" in machine.run("mounted_over", over), "over the disk itself"


def test_another_disk_than_the_one_that_is_mounted_is_refused_and_another_name_of_it_is_not(machine: Machine) -> None:
    machine.run("prepare_disk")
    mounted = f"mount {machine.disk} $volume_path"
    machine.device = machine.disks[1]
    said = machine.run("tell_problems", mounted)
    assert f"device {machine.disks[1]} is another disk than {machine.disk}, which is mounted" in said
    name = machine.folder / "by-another-name"
    name.symlink_to(machine.disk)
    for device in (str(name), f"{machine.disks[1]},{name}", machine.disk):
        machine.device = device
        assert machine.run("tell_problems", mounted) == "", device


def test_a_disk_that_holds_the_data_is_not_left_out(machine: Machine) -> None:
    machine.run("prepare_disk")
    (machine.folder / "etcd.service").write_text("AssertPathIsMountPoint=/data/etcd\n")
    machine.device = ""
    said = machine.run("check_mount; printf '%s\n' \"${problems[@]}\"", f"mount {machine.disk} $volume_path")
    assert f"no device is given, but the data of this member are on a disk of their own ({machine.disk}" in said
    (machine.folder / "etcd.service").write_text("# made when that was not refused yet\n")
    assert machine.run("check_mount; printf '%s' \"${problems[@]}\"") == ""


# --- without a device ---

PREPARE = "require_clear_volume; mkdir -p $data_path; note_file_system"

NOTED = {
    "the same": ("true", ""),
    "memory over the volume": ("mount -t tmpfs memory $volume_path", "memory at {volume}"),
    "an empty disk over the volume": ("mkfs.ext4 -q {other} && mount {other} $volume_path", "{other} at {volume}"),
    "something over a folder above": (
        "mount -t tmpfs memory $(dirname $volume_path) && mkdir -p $state_path && echo / > $state_path/mounted-at",
        "memory at {folder}",
    ),
}


@pytest.mark.parametrize("case", NOTED)
def test_without_a_device_what_was_mounted_since_data_were_put_there_may_hide_them(machine: Machine, case: str) -> None:
    command, named = NOTED[case]
    named = named.format(other=machine.disks[1], volume=machine.volume, folder=machine.folder)
    machine.device = ""
    assert machine.run(PREPARE) == ""
    before = command.format(other=machine.disks[1])
    assert machine.run("mounted_over", before) == named
    assert (named in machine.run(PREPARE, before)) if named else (machine.run(PREPARE, before) == "")
    assert machine.run("mounted_over", f"{before}; mkdir -p $data_path/member/wal") == "", "data are there"


def test_without_a_device_a_file_system_that_is_not_mounted_any_more_is_missed(machine: Machine) -> None:
    mounted = f"mkdir -p $volume_path; mount {machine.disks[1]} $volume_path"
    machine.run(f"mkfs.ext4 -q {machine.disks[1]}")
    machine.device = ""
    assert machine.run(PREPARE, mounted) == ""
    assert machine.run("unmounted_from") == str(machine.volume)
    assert f"that held the data of this member at {machine.volume} is not mounted; mount it" in machine.run(PREPARE)
    assert machine.run("unmounted_from; mounted_over", mounted) == ""
    machine.device = machine.disk
    machine.run("prepare_disk && note_file_system")
    assert not Path(machine.layout.state, "mounted-at").exists(), "a disk of our own is known without that"


WITHOUT_A_DEVICE = {
    "nothing": ("true", ""),
    "a disk of theirs, empty": ("mkfs.ext4 -q {other} && mount {other} $volume_path", ""),
    "a disk of theirs with the data": (
        "mkfs.ext4 -q {other} && mount {other} $volume_path && mkdir -p $data_path/member/wal",
        "",
    ),
    "memory": ("mount -t tmpfs memory $volume_path", "memory at {volume}"),
    "somebody's files": (
        "mkfs.ext4 -q {other} && mount {other} $volume_path && touch $volume_path/photos",
        "{other} at {volume}",
    ),
    "something in the data folder": (
        "mkdir -p $data_path && mount -t tmpfs memory $data_path",
        "memory at {volume}/data",
    ),
}


@pytest.mark.parametrize("case", WITHOUT_A_DEVICE)
def test_without_a_device_only_what_may_hide_data_or_is_no_place_for_them_is_named(machine: Machine, case: str) -> None:
    command, named = (each.format(other=machine.disks[1], volume=machine.volume) for each in WITHOUT_A_DEVICE[case])
    machine.device = ""
    assert machine.run("mounted_over", f"mkdir -p $volume_path; {command}") == named
