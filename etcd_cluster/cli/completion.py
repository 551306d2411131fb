"""`etcd-cluster completion`: prints what a shell needs to complete command lines. Made from the table of commands."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence

from etcd_cluster.cli.command import STACK_OPTIONS, Command, CommandGroup, ExitCode, Option

SHELLS = ("bash", "zsh", "fish")
# The stacks of the project here, by their files.
_STACKS = "ls Pulumi.*.yaml 2>/dev/null | sed -n 's/^Pulumi\\.\\(.*\\)\\.yaml$/\\1/p'"

DESCRIPTION = """\
Prints a script that completes commands, options, and the names of stacks that have a file here."""


def command(program: str, commands: Callable[[], Sequence[Command | CommandGroup]]) -> Command:
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


def _words(command: Command | CommandGroup) -> list[str]:
    if isinstance(command, CommandGroup):
        return [*(each.name for each in command.commands), *(each.name for each in STACK_OPTIONS), "--help"]
    words: list[str] = []
    for option in (*command.options, *(STACK_OPTIONS if command.takes_stack else ())):
        words += [option.name] if option.name.startswith("-") else option.choices
    return [*words, "--help"]


def _with_groups(commands: Sequence[Command | CommandGroup]) -> dict[str, Command | CommandGroup]:
    """Returns "NAME", or "GROUP/NAME" -> each command."""
    found: dict[str, Command | CommandGroup] = {}
    for each in commands:
        found[each.name] = each
        if isinstance(each, CommandGroup):
            found |= {f"{each.name}/{one.name}": one for one in each.commands}
    return found


def _bash(program: str, commands: Sequence[Command | CommandGroup]) -> Iterator[str]:
    function = f"_{program.replace('-', '_')}"
    names, paths = [each.name for each in commands], _with_groups(commands)
    yield f"{function}() {{"
    yield '  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} command="" word words'
    yield '  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do'
    yield "    case $command/$word in"
    for path in paths:
        yield f"      {'' if '/' in path else '/'}{path}) command={path} ;;"
    yield "    esac"
    yield "  done"
    yield "  case $command in"
    for path, each in paths.items():
        yield f"    {path}) words={shlex.quote(' '.join(_words(each)))} ;;"
    yield f"    *) words={shlex.quote(' '.join([*names, *(each.name for each in STACK_OPTIONS), '--help']))} ;;"
    yield "  esac"
    yield "  case $previous in"
    yield f"    --stack) words=$({_STACKS}) ;;"
    yield f"    {'|'.join(_taking_any_value(paths.values()))}) words= ;;"
    yield '    --cwd) COMPREPLY=($(compgen -d -- "$current")); return ;;'
    yield "    --output) words='table json' ;;"
    yield "  esac"
    yield '  COMPREPLY=($(compgen -W "$words" -- "$current"))'
    yield "}"
    yield f"complete -F {function} {program}"


def _taking_any_value(commands: Iterable[Command | CommandGroup]) -> list[str]:
    """Returns the options after which a word of the user's own comes."""
    options = [*STACK_OPTIONS, *(option for each in commands for option in each.options)]
    named = {
        option.name
        for option in options
        if option.name.startswith("-") and "metavar" in option.settings and option.name not in ("--stack", "--cwd")
    }
    return sorted(named)


def _zsh(program: str, commands: Sequence[Command | CommandGroup]) -> Iterator[str]:
    """Returns the script for zsh, which runs the script of bash."""
    yield "autoload -U +X bashcompinit && bashcompinit"
    yield from _bash(program, commands)


def _fish(program: str, commands: Sequence[Command | CommandGroup]) -> Iterator[str]:
    yield f"complete -c {program} -f"
    for option in STACK_OPTIONS:
        yield _fish_option(program, option)
    yield from _fish_commands(program, commands, "")


def _fish_commands(program: str, commands: Sequence[Command | CommandGroup], before: str) -> Iterator[str]:
    """Yields the lines of commands.

    Args:
        program: The name that the user types.
        commands: The commands.
        before: Condition under which they are meant, with "; and " at its end; "" for none.
    """
    names = " ".join(each.name for each in commands)
    for each in commands:
        condition = shlex.quote(f"{before}not __fish_seen_subcommand_from {names}")
        yield f"complete -c {program} -n {condition} -a {each.name} -d {shlex.quote(each.summary)}"
        named = f"{before}__fish_seen_subcommand_from {each.name}"
        if isinstance(each, CommandGroup):
            yield from _fish_commands(program, each.commands, f"{named}; and ")
            continue
        seen = f" -n {shlex.quote(named)}"
        for option in each.options:
            if option.name.startswith("-"):
                yield _fish_option(program, option, seen)
            elif option.choices:
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
    return "" if "nargs" in option.settings or option.settings.get("action") == "store_true" else " -x"
