"""`etcd-cluster completion`: prints what a shell needs to complete command lines. Made from the table of commands."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterator, Sequence

from etcd_cluster.cli.command import STACK_OPTIONS, Command, ExitCode, Option

SHELLS = ("bash", "zsh", "fish")
# The stacks of the project here, by their files.
_STACKS = "ls Pulumi.*.yaml 2>/dev/null | sed -n 's/^Pulumi\\.\\(.*\\)\\.yaml$/\\1/p'"

DESCRIPTION = """\
Prints a script that completes commands, options, and the names of stacks that have a file here."""


def command(program: str, commands: Callable[[], Sequence[Command]]) -> Command:
    """Returns the command that completes all commands, itself included.

    Args:
        program: The name that the user types.
        commands: Returns the table of commands.
    """

    def run(options: argparse.Namespace) -> ExitCode:
        writers = {"bash": _bash, "zsh": _zsh, "fish": _fish}
        print("\n".join(writers[options.shell](program, commands())))
        return ExitCode.SUCCESS

    return Command(
        name="completion",
        summary="a script that completes command lines in bash, zsh or fish",
        description=DESCRIPTION,
        examples=(
            (f'eval "$({program} completion bash)"', "in ~/.bashrc"),
            (f'eval "$({program} completion zsh)"', "in ~/.zshrc, after compinit"),
            (f"{program} completion fish | source", "in ~/.config/fish/config.fish"),
        ),
        options=(Option("shell", "which shell", {"choices": SHELLS}),),
        run=run,
        takes_stack=False,
    )


def _words(command: Command) -> list[str]:
    words: list[str] = []
    for option in (*command.options, *(STACK_OPTIONS if command.takes_stack else ())):
        words += [option.name] if option.name.startswith("-") else option.choices
    return [*words, "--help"]


def _bash(program: str, commands: Sequence[Command]) -> Iterator[str]:
    function = f"_{program.replace('-', '_')}"
    names = [each.name for each in commands]
    yield f"{function}() {{"
    yield '  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} command="" word words'
    yield '  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do'
    yield f"    case $word in {'|'.join(names)}) command=$word; break ;; esac"
    yield "  done"
    yield "  case $command in"
    for each in commands:
        yield f"    {each.name}) words={shlex.quote(' '.join(_words(each)))} ;;"
    yield f"    *) words={shlex.quote(' '.join([*names, *(each.name for each in STACK_OPTIONS), '--help']))} ;;"
    yield "  esac"
    yield "  case $previous in"
    yield f"    --stack) words=$({_STACKS}) ;;"
    yield "    --cluster|--watch) words= ;;"
    yield '    --cwd) COMPREPLY=($(compgen -d -- "$current")); return ;;'
    yield "    --output) words='table json' ;;"
    yield "  esac"
    yield '  COMPREPLY=($(compgen -W "$words" -- "$current"))'
    yield "}"
    yield f"complete -F {function} {program}"


def _zsh(program: str, commands: Sequence[Command]) -> Iterator[str]:
    """Returns the script for zsh, which runs the script of bash."""
    yield "autoload -U +X bashcompinit && bashcompinit"
    yield from _bash(program, commands)


def _fish(program: str, commands: Sequence[Command]) -> Iterator[str]:
    names = " ".join(each.name for each in commands)
    yield f"complete -c {program} -f"
    for option in STACK_OPTIONS:
        yield _fish_option(program, option)
    for each in commands:
        condition = shlex.quote(f"not __fish_seen_subcommand_from {names}")
        yield f"complete -c {program} -n {condition} -a {each.name} -d {shlex.quote(each.summary)}"
        seen = f" -n {shlex.quote(f'__fish_seen_subcommand_from {each.name}')}"
        for option in each.options:
            if option.name.startswith("-"):
                yield _fish_option(program, option, seen)
            else:
                yield f"complete -c {program}{seen} -a {shlex.quote(' '.join(option.choices))}"


def _fish_option(program: str, option: Option, condition: str = "") -> str:
    what = f"-l {option.name[2:]}{_fish_argument(option)} -d {shlex.quote(option.help)}"
    return f"complete -c {program}{condition} {what}"


def _fish_argument(option: Option) -> str:
    if option.name == "--stack":
        return f" -x -a {shlex.quote(f'({_STACKS})')}"
    if option.name == "--cwd":
        return " -x -a '(__fish_complete_directories)'"
    if option.choices:
        return f" -x -a {shlex.quote(' '.join(option.choices))}"
    return "" if "nargs" in option.settings else " -x"
