"""What a run costs that changes nothing: three members, without and with backups, against a program with one Command.

    python -m benchmarks.no_op [--rounds 10] [--engine embedded|pulumi ...]

Target: within 1.25 times the program with one resource.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from pathlib import Path

from benchmarks.engines import NAMES, add_engines, chosen_engines, clean_stack
from benchmarks.forming import MEMBERS, USER, VERSION
from benchmarks.ratios import table
from tests.lab import binaries
from tests.lab.hosts import Lab
from tests.lab.object_store import ObjectStore
from tests.lab.stack import Engine, Stack, host_config
from tests.lab.test_backup import backup_config

WANTED = 1.25
OPERATIONS = ("up", "preview")
ONE_RESOURCE = "one resource"
CLUSTER = "three members"
BACKED_UP = "with backups"
PROGRAM = """\
import pulumi
from pulumi_command import local

command = local.Command("one", local.CommandArgs(create="true"))
pulumi.export("out", command.stdout)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help="how often each is measured (default: 10)")
    add_engines(parser)
    options = parser.parse_args()
    for engine in chosen_engines(options):
        for operation, seconds in measure(engine, options.rounds).items():
            print(f"\n{NAMES[engine]}: {operation} with nothing to do, {options.rounds} rounds")
            print(table(seconds, ONE_RESOURCE, {CLUSTER: WANTED}), flush=True)


def measure(engine: Engine, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Operation -> program -> seconds of each round."""
    with tempfile.TemporaryDirectory() as folder, Lab() as lab, contextlib.ExitStack() as stacks:
        mirror_url = lab.mirror(binaries.mirror(Path(folder, "mirror"), [VERSION]))
        config, others = (
            host_config(lab.hosts(MEMBERS), mirror_url, user=USER, version=VERSION, allowUndersized=True)
            for _ in range(2)
        )
        store = ObjectStore(lab, Path(folder, "objects"))
        store.start()
        programs = {
            ONE_RESOURCE: stacks.enter_context(clean_stack(lab, config, engine)),
            CLUSTER: stacks.enter_context(clean_stack(lab, config, engine)),
            BACKED_UP: stacks.enter_context(clean_stack(lab, {**others, "backup": backup_config(store)}, engine)),
        }
        _write_program(programs[ONE_RESOURCE])
        for stack in programs.values():
            stack.up()
        seconds: dict[str, dict[str, list[float]]] = {each: {name: [] for name in programs} for each in OPERATIONS}
        for _ in range(rounds):
            for operation in OPERATIONS:
                for name, stack in programs.items():
                    run = stack.up() if operation == "up" else stack.preview()
                    seconds[operation][name].append(run.seconds)
    return seconds


def _write_program(stack: Stack) -> None:
    program = stack.folder / "__main__.py"
    program.unlink()
    program.write_text(PROGRAM)


if __name__ == "__main__":
    main()
