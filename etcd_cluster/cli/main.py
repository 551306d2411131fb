"""Entry point of the command `etcd-cluster`: the table of commands, and what all of them share."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Iterator, Sequence

from etcd_cluster.cli import backup, completion, dns, env, kubeadm, load_check, members, monitoring, restore, status
from etcd_cluster.cli.command import STACK_OPTIONS, Command, CommandGroup, ExitCode
from etcd_cluster.errors import EtcdClusterError

PROGRAM = "etcd-cluster"
COMMANDS: Sequence[Command | CommandGroup] = (
    status.COMMAND,
    env.COMMAND,
    members.COMMAND,
    dns.COMMAND,
    kubeadm.COMMAND,
    backup.COMMANDS,
    restore.COMMAND,
    load_check.COMMAND,
    monitoring.COMMANDS,
    completion.command(PROGRAM, lambda: COMMANDS),
)
"""The commands in the order of `--help`. Each is a module with a `Command` or a `CommandGroup`, and a line here."""

DESCRIPTION = """\
Answers questions about the etcd clusters of a Pulumi stack, and looks after their backups. No command changes
a cluster; `load-check` loads one for a minute.

Clusters are found in the stack's state by their type: in this project's own program, and in any program
that uses the component EtcdCluster. The state is read through the Pulumi CLI, with the backend and the
passphrase, or key, that the CLI itself uses."""
EPILOG = """\
exit codes:
  0  answered; for `status`, all is well
  1  `status`: drift, an alarm, a member that is not healthy, late backups, or anything that the next `up` would do;
     `backup`, `restore`: none could be made, one differs from what was stored, or does not restore;
     `load-check`: the cluster does not bear its load
  2  no answer: a wrong option, several clusters and no --cluster, no such stack, a state that cannot be read

examples:
  etcd-cluster status --stack prod
  etcd-cluster status --stack prod --cluster blue --output json
  eval "$(etcd-cluster env --stack prod)" && etcdctl endpoint health --cluster
  etcd-cluster COMMAND --help"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: The command line without the program's name; default that of the process.

    Returns:
        The exit code.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        options = parser().parse_args(words)
    except SystemExit as end:
        if end.code and env.COMMAND.name in words:
            print(env.FAILURE)
        raise
    command: Command = options.command
    try:
        return command.run(options)
    except EtcdClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return ExitCode.NO_ANSWER
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader has ended (`| head`): nothing is left to print, nor to flush at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.NO_ANSWER
    except Exception:
        # Python would end with 1, which says that the cluster is not well.
        traceback.print_exc()
        return ExitCode.NO_ANSWER


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the whole command line."""
    # No abbreviations: a later option may not change what an old script means.
    whole = argparse.ArgumentParser(
        prog=PROGRAM,
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for option in STACK_OPTIONS:
        option.add_to(whole)
    _add(whole, COMMANDS)
    return whole


def _add(parser: argparse.ArgumentParser, commands: Sequence[Command | CommandGroup]) -> None:
    parsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in commands:
        one = parsers.add_parser(
            command.name,
            help=command.summary,
            description=command.description,
            epilog="\n".join(_examples(command)),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        for option in STACK_OPTIONS if isinstance(command, CommandGroup) or command.takes_stack else ():
            # An option before the command's name counts, unless it is given again after it.
            option.add_to(one, default=argparse.SUPPRESS)
        if isinstance(command, CommandGroup):
            _add(one, command.commands)
            continue
        for option in command.options:
            option.add_to(one)
        one.set_defaults(command=command)


def _examples(command: Command | CommandGroup) -> Iterator[str]:
    yield "examples:"
    width = max(len(line) for line, _ in command.examples)
    for line, purpose in command.examples:
        yield f"  {line:<{width}}  {purpose}"
