"""Runs a Pulumi program from its files to its outputs, and reads what the last run left."""

from __future__ import annotations

import contextlib
import contextvars
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO

from embedded_engine.commands import LocalCommand, RemoteCommand
from embedded_engine.deployment import DYNAMIC_TYPE, Deployment, StoppedError
from embedded_engine.display import Display
from embedded_engine.dynamic import Dynamic
from embedded_engine.passphrase import Crypter, passphrase
from embedded_engine.project import Configuration, ProjectError, configuration, read_project, read_stack
from embedded_engine.provider import Provider, StepError
from embedded_engine.state import Resource, State, StateError, read_document, stack_lock
from embedded_engine.values import Values
from etcd_cluster.errors import EtcdClusterError
from etcd_cluster.ssh.client import OpenSsh
from etcd_cluster.ssh.processes import ChildProcesses, InterruptedRunError
from etcd_cluster.state_folder import state_folder

# Steps block a thread each while they wait for a machine.
_THREADS = 64
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Parts of paths whose frames say nothing to the author of a program.
_NOT_THE_PROGRAM = (
    "/site-packages/pulumi/",
    "/embedded_engine/",
    "/asyncio/",
    "<frozen",
    "/runpy.py",
    "/concurrent/",
)
_DOING = {"up": "Updating", "preview": "Previewing", "destroy": "Destroying"}


@dataclass
class Result:
    """What a run did. operations: (operation, URN) in the order of completion. outputs: as the stack has them now."""

    ok: bool
    interrupted: bool
    operations: list[tuple[str, str]]
    outputs: Values


def run(
    operation: Literal["up", "preview", "destroy"],
    stack: str = "dev",
    directory: str | Path = ".",
    *,
    stream: TextIO | None = None,
) -> Result:
    """Runs one operation.

    Args:
        operation: `up` brings the stack to what the program describes. `preview` shows what `up` would do: it runs no
            command, touches no network, changes no file. `destroy` deletes every resource, without the program.
        stack: The name of the stack.
        directory: Where Pulumi.yaml is.
        stream: Where the steps are shown; default standard output.

    Returns:
        What was done; its `ok` is False if a step failed.

    Raises:
        EtcdClusterError: The run cannot even begin.
    """
    dry_run = operation == "preview"
    display = Display(stream, dry_run=dry_run)
    files = _StackFiles(Path(directory), stack, display.heading)
    with contextlib.nullcontext() if dry_run else stack_lock(files.path, stack):
        state = files.state(writable=not dry_run, with_sdk=True)
        config = files.configuration()
        for text in config.secrets:
            display.hide_text(text)
        if str(files.project.program) not in sys.path:
            sys.path.insert(0, str(files.project.program))
        processes = ChildProcesses()
        with OpenSsh(processes).keep() as ssh:
            providers: dict[str, Provider] = {
                "command:local:Command": LocalCommand(processes),
                "command:remote:Command": RemoteCommand(ssh),
                DYNAMIC_TYPE: Dynamic(files.project.name, config.values),
            }
            deployment = Deployment(state, providers, display, dry_run=dry_run)
            with _interruptible(deployment):
                display.heading(f"{_DOING[operation]} stack {stack} of {files.project.name}")
                began = time.monotonic()
                if operation == "destroy":
                    deployment.destroy()
                    deployment.close()
                else:
                    # A context of its own: the SDK keeps its settings in context variables.
                    contextvars.copy_context().run(_run_program, files, config, deployment, display, dry_run)
                display.outputs(state.outputs())
                display.summary(deployment.ok, time.monotonic() - began)
                if deployment.interrupted:
                    display.note("error", "interrupted; completed steps are recorded: run again to continue")
                return Result(deployment.ok, deployment.interrupted, display.operations, state.outputs())


def outputs(stack: str = "dev", directory: str | Path = ".") -> Values:
    """The outputs of the stack, as the last run left them.

    Raises:
        StateError: There is no such stack, or its state cannot be read.
    """
    return _recorded(stack, directory).outputs()


def resources(stack: str = "dev", directory: str | Path = ".") -> list[Resource]:
    """Every resource of the stack, as the last run left it, its secrets decrypted and marked.

    Raises:
        StateError: There is no such stack, or its state cannot be read.
    """
    return list(_recorded(stack, directory).current.values())


def _recorded(stack: str, directory: str | Path) -> State:
    files = _StackFiles(Path(directory), stack, lambda text: print(text, file=sys.stderr))
    if not files.path.exists():
        raise StateError(f"stack {stack} has no outputs: there is no state at {files.path}. Run `up` first")
    return files.state(writable=False)


class _StackFiles:
    """The files of one stack. log: shows where a new passphrase is kept."""

    def __init__(self, directory: Path, stack: str, log: Callable[[str], None]) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", stack) or stack.startswith("."):
            raise ProjectError(f"{stack!r} is not a name for a stack: use letters, digits, `-`, `_` and `.`")
        self.name = stack
        self.project = read_project(directory.absolute())
        self._folder = state_folder(os.environ, self.project.name)
        self.path = self._folder / f"{stack}.json"
        self._document = read_stack(self.project, stack)
        self._log = log
        salt = str(self._document.get("encryptionsalt") or "")
        self._config_crypter = self._crypter(salt, f"Pulumi.{stack}.yaml")

    def configuration(self) -> Configuration:
        return configuration(self.project, self.name, self._document, self._config_crypter)

    def state(self, *, writable: bool, with_sdk: bool = False) -> State:
        """The state as it is on disk. with_sdk: imports the SDK meanwhile."""
        document = read_document(self.path)
        salt = document["encryptionsalt"]
        # One salt for both where possible: the key is then derived once.
        same = salt in ("", self._config_crypter.state)
        crypter = self._config_crypter if same else self._crypter(salt, f"the state of stack {self.name} ({self.path})")
        if salt:
            crypter.derive_ahead()
        if with_sdk:
            # Takes as long as deriving the key: both at once.
            import pulumi.runtime  # noqa: F401
        state = State(self.path, crypter, writable)
        state.load(document)
        own = f"urn:pulumi:{self.name}::{self.project.name}::"
        if other := next((each for each in state.resources() if not each.urn.startswith(own)), None):
            stack, project = other.urn.split(":")[2], other.urn.split("::")[1]
            raise StateError(
                f"{self.path} is the state of stack {stack} of project {project}, and not of stack {self.name} of "
                f"{self.project.name}. Only the Pulumi CLI renames stacks. Give the file its name again: {stack}.json"
            )
        return state

    def _crypter(self, salt: str, where: str) -> Crypter:
        own = self._folder / "passphrase"
        return Crypter(lambda: passphrase(os.environ, own, self._log, make=not salt), salt, where)


@contextlib.contextmanager
def _interruptible(deployment: Deployment) -> Generator[None]:
    """On Ctrl-C or SIGTERM children get SIGTERM and no further step begins; the second time children are killed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        if not deployment.interrupted:
            deployment.interrupt()
            ChildProcesses.stop_all()
            # Not through the display, which this handler may have interrupted.
            os.write(2, b"Interrupted: stopping running commands. Interrupt again to kill them.\n")
        else:
            ChildProcesses.stop_all(signal.SIGKILL)
            os._exit(130)

    before = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run_program(
    files: _StackFiles, config: Configuration, deployment: Deployment, display: Display, dry_run: bool
) -> None:
    import asyncio
    import logging
    import runpy

    import pulumi.runtime
    from pulumi.runtime import settings
    from pulumi.runtime.stack import run_in_stack

    from embedded_engine.monitor import Engine, Monitor

    project = files.project
    settings.ROOT.set(None)
    settings.configure(
        settings.Settings(
            project=project.name,
            stack=files.name,
            monitor=Monitor(files.name, project.name, deployment),
            engine=Engine(display),
            dry_run=dry_run,
            organization="organization",
            root_directory=str(project.directory),
        )
    )
    pulumi.runtime.set_all_config(config.values, config.secret_keys)
    # The display has shown the failure that ended these tasks.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    loop = asyncio.new_event_loop()
    executor = ThreadPoolExecutor(_THREADS)
    loop.set_default_executor(executor)
    arguments, directory = sys.argv, os.getcwd()
    sys.argv = [str(project.program)]
    os.chdir(project.program)

    def main() -> None:
        runpy.run_path(str(project.program), run_name="__main__")

    try:
        loop.run_until_complete(run_in_stack(main))
    except (StepError, StoppedError, InterruptedRunError):
        # The display has shown it.
        deployment.failed = True
    except (EtcdClusterError, pulumi.RunError) as error:
        deployment.failed = True
        display.note("error", str(error))
    except BaseException as error:
        deployment.failed = True
        display.note("error", f"the program failed: {_program_trace(error)}")
    finally:
        # The loop goes on meanwhile, for the steps under way.
        loop.run_until_complete(loop.run_in_executor(None, deployment.close))
        executor.shutdown(wait=True, cancel_futures=True)
        os.chdir(directory)
        sys.argv = arguments
        loop.close()


def _program_trace(error: BaseException) -> str:
    """An error of the program with the frames that are the program's: no engine's, SDK's or asyncio's."""
    if isinstance(error, SystemExit):
        return f"it called sys.exit({error.code!r})"
    frames = [
        each
        for each in traceback.extract_tb(error.__traceback__)
        if not any(part in each.filename for part in _NOT_THE_PROGRAM)
    ]
    return "".join([*traceback.format_exception_only(error), *traceback.format_list(frames)]).rstrip()
