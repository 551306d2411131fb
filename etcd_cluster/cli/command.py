"""Defines what every command of `etcd-cluster` consists of: its options, its exit codes, and its errors."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

from etcd_cluster.errors import EtcdClusterError


class ExitCode(IntEnum):
    """The exit codes of a command.

    Attributes:
        SUCCESS: The answer is printed; for `status`, all is well.
        NOT_HEALTHY: For `status`, something is not well, or `up` has something to do; for `backup`, one could not be
            made, differs from what was stored, or does not restore; for `load-check`, a limit was broken.
        NO_ANSWER: The command line is wrong, or the stack's state or the machines cannot be asked.
        INTERRUPTED: Ctrl-C, or a signal to end.
    """

    SUCCESS = 0
    NOT_HEALTHY = 1
    NO_ANSWER = 2
    INTERRUPTED = 130


class CommandError(EtcdClusterError):
    """A question that cannot be answered. The text is meant for a person."""


@dataclass(frozen=True)
class Option:
    """One option, or one positional argument, of a command.

    Attributes:
        name: As the user types it: `--output`, or `shell` for a positional argument.
        help: One line for `--help`.
        settings: Further arguments of `argparse.ArgumentParser.add_argument`.
    """

    name: str
    help: str
    settings: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def choices(self) -> Sequence[str]:
        """The words that it takes, if there is a list of them."""
        return tuple(self.settings.get("choices", ()))

    def add_to(self, parser: argparse.ArgumentParser, **changes: Any) -> None:
        """Adds the option to a parser.

        Args:
            parser: The parser of one command, or of the whole command line.
            changes: Settings that differ there.
        """
        parser.add_argument(self.name, help=self.help, **{**self.settings, **changes})


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        name: As the user types it.
        summary: One line for the list of commands.
        description: What `COMMAND --help` explains: the answer, its columns, exit codes.
        examples: Command lines with their purposes.
        options: The options of this command, besides the global ones.
        run: Answers; gets the result of `argparse`.
        takes_stack: Whether it asks a stack, so that the global options make sense.
    """

    name: str
    summary: str
    description: str
    examples: Sequence[tuple[str, str]]
    options: Sequence[Option]
    run: Callable[[argparse.Namespace], ExitCode]
    takes_stack: bool = True


@dataclass(frozen=True)
class CommandGroup:
    """Commands that share their first word.

    Attributes:
        name: That word.
        summary: One line for the list of commands.
        description: What `NAME --help` explains.
        commands: The commands, by their second words.
    """

    name: str
    summary: str
    description: str
    commands: Sequence[Command]

    @property
    def examples(self) -> Sequence[tuple[str, str]]:
        """The first example of each command."""
        return [each.examples[0] for each in self.commands]

    @property
    def options(self) -> Sequence[Option]:
        """The options of all commands."""
        return [option for each in self.commands for option in each.options]


def existing_folder(text: str) -> Path:
    """Returns the value of `--cwd`.

    Raises:
        argparse.ArgumentTypeError: There is no such folder.
    """
    path = Path(text).expanduser()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: there is no such folder")
    return path.absolute()


STACK_OPTIONS = (
    Option(
        "--stack",
        "the stack (default: the one that `pulumi stack select` chose here, else dev)",
        {"metavar": "STACK", "default": None},
    ),
    Option(
        "--cluster",
        "the cluster, by the name that the program gave it (default: the only one)",
        {"metavar": "NAME", "default": None},
    ),
    Option(
        "--cwd",
        "the folder of the Pulumi project (default: here)",
        {"metavar": "FOLDER", "type": existing_folder, "default": Path()},
    ),
)
"""Before or after the command's name."""

OUTPUT = Option(
    "--output",
    "a table for people, or JSON for programs (default: table)",
    {"choices": ("table", "json"), "default": "table"},
)
