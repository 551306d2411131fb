"""Defines which names, addresses and paths are allowed. They are checked once, before anything is touched.

Every allowed text is quoted wherever it is used, so a rule here is only for texts that no quoting could make work.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

from etcd_cluster.errors import ConfigurationError

MEMBER_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
DNS_LABEL = re.compile(r"[0-9A-Za-z_]([0-9A-Za-z_-]{0,61}[0-9A-Za-z_])?")
HOST_LABEL = re.compile(r"[0-9A-Za-z]([0-9A-Za-z-]{0,61}[0-9A-Za-z])?")
"""A label of a host's name, by RFC 1123: without the underscores that other names in DNS may have."""
NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
LONGEST_DNS_NAME = 253
DEVICE = re.compile(r"/dev(/(?!\.{1,2}(/|$))([\w.+:=@#-]|\\x[0-9a-f]{2})+)+")
"""What udev makes of names and labels: it writes any other byte as \\xNN."""
NOT_DEVICES = re.compile(
    r"/dev/((null|zero|full|u?random|console|ptmx|k?mem|kmsg|port|[kf]use|cuse|kvm|loop-control|mapper/control|std(in|out|err))"
    r"|(tty|sg|nvme|rtc|watchdog|hidraw|ram|zram|sr|fd)\d*|tty(S|AMA|USB)\d+|cdrom|dvd|floppy"
    r"|(fd|pts|shm|mqueue|hugepages|bus|char|cpu|dri|input|net|snd|vfio)/.*)"
)
"""What is no block device, or none that keeps data: of memory, or to be taken out."""
LOOPBACK_NAME = re.compile(r"localhost\d*|localdomain\d*|ip6-(localhost|loopback)")
"""The last label of a name that Linux distributions give to loopback."""
USER = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.@\\-]*\$?")
LONGEST_CLUSTER_NAME = 100
LONGEST_FILE_NAME_BYTES = 255
LONGEST_PATH_BYTES = 3500
"""Linux allows 4,096; etcd's own files have names, too."""

BREAKS = {"Cc", "Cs", "Zl", "Zp"}
"""Categories of Unicode that no line of text can hold: control characters, half characters, ends of lines."""


def is_one_line(text: str) -> bool:
    """Returns whether the text can stand in a line of a file, whatever reads the file."""
    return not any(unicodedata.category(character) in BREAKS for character in text)


def require_cluster_name(name: str, project: str, stack: str) -> str:
    """Returns the cluster's identity, PROJECT/STACK/NAME; raises `ConfigurationError` if the name cannot be in one."""
    named: dict[str, object] = {"project": project, "stack": stack, "name": name}
    for key, text in named.items():
        is_text = isinstance(text, str) and text == text.strip() and is_one_line(text)
        if not is_text or not 1 <= len(str(text)) <= LONGEST_CLUSTER_NAME:
            raise ConfigurationError(
                key,
                text,
                "not usable as a name",
                f"use 1 to {LONGEST_CLUSTER_NAME} characters in one line, without a space at either end",
            )
    return f"{project}/{stack}/{name}"


def require_identity(key: str, text: str) -> None:
    """Raises `ConfigurationError` for a text that is no cluster's identity."""
    if text.count("/") != 2 or not all(text.split("/")) or not is_one_line(text):
        raise ConfigurationError(key, text, "not the name of a cluster", "write it like PROJECT/STACK/NAME")


def shortened(text: str, longest: int) -> str:
    """Returns a text of at most `longest` characters: the text, or its beginning and a sum of all of it."""
    if len(text) <= longest:
        return text
    unique = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{text[: longest - len(unique) - 1].rstrip('-')}-{unique}"


def require_member_names(names: Sequence[str]) -> None:
    """Raises `ConfigurationError` for member names that are not unique, or not usable.

    They have to fit etcd's `initial-cluster`, certificates and file names.
    """
    for name in names:
        if not MEMBER_NAME.fullmatch(name):
            raise ConfigurationError(
                "machines",
                name,
                "not usable as a member's name",
                "use up to 63 letters (a to z), digits, dots, hyphens and underscores; at the ends letters or digits",
            )
    if len(set(names)) != len(names):
        raise ConfigurationError("machines", list(names), "two members have one name", "give each a name of its own")


def require_directory(key: str, directory: str) -> str:
    """Returns the path; raises `ConfigurationError` if no line can hold it, or if it is too long for a file system."""
    parts = directory.split("/")
    if not is_one_line(directory):
        raise ConfigurationError(
            key, directory, "it holds a control character or the end of a line", "choose a folder whose name has none"
        )
    if len(os.fsencode(directory)) > LONGEST_PATH_BYTES or any(
        len(os.fsencode(part)) > LONGEST_FILE_NAME_BYTES for part in parts
    ):
        raise ConfigurationError(key, directory, "longer than a path may be", "choose a shorter one")
    return directory


IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def ip_address(text: str) -> IpAddress | None:
    """Returns the IP address that a text is, an IPv4 address in IPv6 as what it stands for; None for any other text."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if "%" in text:  # a zone is a network interface of one machine, and others have it under another name, or not
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def same_host(text: str) -> str:
    """Returns one spelling for all spellings of an IP address or DNS name: those are compared, never the texts."""
    return str(ip_address(text) or text.lower())


def is_host(text: str) -> bool:
    """Returns whether a text is an IP address or a DNS name. What only resembles an address is neither."""
    labels = text.split(".")
    # The C library takes 10.78, 0x0a4e0001 and 10.78.0.011 for addresses: no DNS name ends in a number.
    is_name = len(text) <= LONGEST_DNS_NAME and all(map(DNS_LABEL.fullmatch, labels))
    return ip_address(text) is not None or (is_name and not NUMBER.fullmatch(labels[-1]))


def require_host(key: str, address: str) -> str:
    """Returns an IP address or DNS name; raises `ConfigurationError` for what no machine can have, or with a port."""
    if not is_host(address):
        fix = "leave scheme and port out"
        for end, what in ((".", "its last dot"), (f"%{address.partition('%')[2]}", "its zone")):
            fix = f"leave {what} out" if address.endswith(end) and is_host(address.removesuffix(end)) else fix
        raise ConfigurationError(
            key, address, "neither an IP address nor a DNS name", f"write it like 10.0.0.1 or db-1.example, and {fix}"
        )
    ip = ip_address(address)
    problem = _of_no_machine(ip) if ip else ""
    if problem:
        raise ConfigurationError(key, address, problem, "give an address that the machine has")
    if ip and ip.version == 4 and ":" in address:
        raise ConfigurationError(key, address, "an IPv4 address written as IPv6", "write it like 10.0.0.1")
    return address


def _of_no_machine(ip: IpAddress) -> str:
    if ip.is_unspecified or ip in ipaddress.ip_network("0.0.0.0/8" if ip.version == 4 else "::/128"):
        return "it means no address"
    if ip.is_multicast:
        return "a multicast address, which no single machine has"
    if str(ip) == "255.255.255.255":
        return "the broadcast address, which no single machine has"
    if ip.version == 4 and ip.is_reserved:
        return "a reserved address, which no machine has"
    if ip.is_link_local:
        return "a link-local address, which means another machine on every link"
    return ""


def require_address(key: str, address: str) -> str:
    """Returns an address at which other machines reach this one, in one spelling for all; see `require_host`."""
    ip = ip_address(address)
    labels = address.lower().split(".")
    if ip.is_loopback if ip else LOOPBACK_NAME.fullmatch(labels[-1]):
        raise ConfigurationError(
            key,
            address,
            "every machine has this address for itself",
            "give the address at which the other members reach it",
        )
    return same_host(require_host(key, address))


def require_dns_name(key: str, name: str) -> str:
    """Returns a DNS name that clients can use, in lower case; raises `ConfigurationError` for one that is none.

    It is in full, by RFC 1123: certificates, URLs and SRV records take no other.
    """
    labels = name.split(".")
    problem, fix = "", "write it in full, like etcd.example.com"
    if ip_address(name) or NUMBER.fullmatch(labels[-1]):
        problem = "an address, and not a name"
    elif "*" in name:
        problem, fix = "a wildcard, which would stand for every name there", "write the one name that clients use"
    elif name.endswith(".") and len(labels) > 2:
        problem, fix = "it ends in a dot", "leave its last dot out"
    elif len(name) > LONGEST_DNS_NAME:
        problem, fix = f"longer than {LONGEST_DNS_NAME} characters", "choose a shorter one"
    elif not name.isascii():
        problem, fix = "not in ASCII", "write it as DNS has it, with xn-- before each such label"
    elif not all(map(HOST_LABEL.fullmatch, labels)):
        problem = (
            "not a host's name by RFC 1123: labels of letters, digits and hyphens, up to 63 each, with dots between"
        )
    elif LOOPBACK_NAME.fullmatch(labels[-1].lower()):
        problem, fix = "every machine has this name for itself", "choose a name in a zone of yours"
    elif len(labels) < 2:
        problem = "in no zone"
    if problem:
        raise ConfigurationError(key, name, problem, fix)
    return name.lower()


def require_devices(key: str, devices: str) -> str:
    """Returns paths of block devices, one or several with commas between; raises `ConfigurationError` for all else."""
    listed = devices.split(",")
    if not all(DEVICE.fullmatch(device) and not NOT_DEVICES.fullmatch(device) for device in listed):
        raise ConfigurationError(
            key, devices, "not the path of a block device that keeps data", "write it like /dev/nvme1n1"
        )
    if len(set(listed)) != len(listed):
        raise ConfigurationError(key, devices, "one device is listed twice", "list each device once")
    return devices


def require_user(key: str, user: str) -> str:
    """Returns the name of a user to log in as; raises `ConfigurationError` for a text that is none."""
    if not USER.fullmatch(user):
        raise ConfigurationError(key, user, "not the name of a user", "write it like root or admin")
    return user


def require_file(key: str, path: str) -> str:
    """Returns the path of a file or folder on this machine; raises `ConfigurationError` if it can be none."""
    if not path.strip():
        raise ConfigurationError(key, path, "empty", "give a path, or leave it out")
    require_directory(key, path)
    try:
        Path(path).expanduser()
    except RuntimeError:
        raise ConfigurationError(key, path, "there is no such user", "write the path without ~") from None
    return path


def require_line(key: str, text: str) -> str:
    """Returns a text in one line; raises `ConfigurationError` if it is empty, or has a space at an end."""
    if not text or text != text.strip() or not is_one_line(text):
        raise ConfigurationError(
            key, text, "not a text in one line, without a space at either end", "write it so, or leave it out"
        )
    return text


def require_word(key: str, text: str) -> str:
    """Returns a text without spaces; raises `ConfigurationError` if it is empty or has one."""
    if not text or re.search(r"\s", text) or not is_one_line(text):
        raise ConfigurationError(key, text, "empty, or with a space in it", "write it without, or leave it out")
    return text


MachineAddress = Annotated[str, require_address]
HostAddress = Annotated[str, require_host]
DnsName = Annotated[str, require_dns_name]
Devices = Annotated[str, require_devices]
UserName = Annotated[str, require_user]
FilePath = Annotated[str, require_file]
Line = Annotated[str, require_line]
Word = Annotated[str, require_word]


def nearest(name: str, known: Iterable[str], least: float = 0.6) -> str | None:
    """Returns the known name that a misspelt one is closest to; None if none is.

    Args:
        name: The misspelt name.
        known: The names.
        least: How close it has to be, from 0 to 1.
    """
    import difflib  # lazily: a program without mistakes has no need of it

    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=least)), None)
