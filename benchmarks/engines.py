"""What runs the program in a benchmark: the engines that this machine has, each with stacks of its own."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.lab.hosts import Lab
from tests.lab.stack import Engine, Stack

NAMES = {Engine.EMBEDDED: "embedded", Engine.PULUMI: "pulumi"}


def add_engines(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--engine",
        action="append",
        choices=[engine.value for engine in Engine],
        help="may be given twice (default: embedded, and pulumi where that is on PATH)",
    )


def chosen_engines(options: argparse.Namespace) -> list[Engine]:
    """Those asked for; by default those that are here."""
    if options.engine:
        return [Engine(value) for value in options.engine]
    if shutil.which("pulumi"):
        return [Engine.EMBEDDED, Engine.PULUMI]
    print("pulumi is not on PATH: measured without it", flush=True)
    return [Engine.EMBEDDED]


@contextmanager
def clean_stack(lab: Lab, config: Mapping[str, Any], engine: Engine) -> Generator[Stack]:
    """A stack without resources, run as a user's is: Python keeps what it compiled."""
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(lab, Path(folder, "stack"), config, engine)
        stack.environment.pop("PYTHONDONTWRITEBYTECODE", None)
        yield stack
