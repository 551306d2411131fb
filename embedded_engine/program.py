"""Runs a Pulumi program from its files to its outputs: `up`, `preview`, `destroy` and `outputs` as functions."""

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
from typing import TextIO

from embedded_engine.contract import StepError
from embedded_engine.deployment import Deployment, StoppedError
from embedded_engine.display import Display
from embedded_engine.hooks import Hooks
from embedded_engine.passphrase import Crypter, passphrase
from embedded_engine.project import (
    Configuration,
    Project,
    ProjectError,
    configuration,
    read_project,
    read_stack,
)
from embedded_engine.providers import Providers
from embedded_engine.state import Resource, StackLock, State, StateError, read_document, state_folder
from embedded_engine.values import Values
from etcd_cluster.errors import EtcdClusterError
from etcd_cluster.openssh import ChildProcesses, InterruptedRunError

# Steps block a thread each while they wait for a machine.
_THREADS = 64
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class Result:
    """What a run did. operations: (operation, URN) in the order of completion. outputs: as the stack has them now."""

    ok: bool
    interrupted: bool
    operations: list[tuple[str, str]]
    outputs: Values


class _Stack:
    """The files of one stack, opened."""

    def __init__(self, directory: Path, stack: str, say: Callable[[str], None]) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", stack) or stack.startswith("."):
            raise ProjectError(f"{stack!r} is not a name for a stack: use letters, digits, `-`, `_` and `.`")
        self.name = stack
        self.project = read_project(directory.absolute())
        self.folder = state_folder(os.environ, self.project.name)
        self.path = self.folder / f"{stack}.json"
        self._document = read_stack(self.project, stack)
        self._say = say
        salt = str(self._document.get("encryptionsalt") or "")
        self._config_crypter = self._crypter(salt, f"Pulumi.{stack}.yaml")

    def configuration(self) -> Configuration:
        return configuration(self.project, self.name, self._document, self._config_crypter)

    def state(self, *, writable: bool, runs: bool = True) -> State:
        """The state as it is on disk. runs: the SDK will be needed as well."""
        document = read_document(self.path)
        salt = document["encryptionsalt"]
        # One salt for both where possible: the key is then derived once.
        same = salt in ("", self._config_crypter.state)
        crypter = self._config_crypter if same else self._crypter(salt, f"the state of stack {self.name} ({self.path})")
        if salt:
            crypter.derive_ahead()
        if runs:
            # Takes as long as deriving the key: both at once.
            import pulumi.runtime  # noqa: F401
        state = State(self.path, crypter, writable)
        state.load(document)
        return state

    def other_outputs(self, name: str) -> Values:
        """The outputs of another stack of this project: `other`, `project/other` or `organization/project/other`."""
        *before, stack = name.split("/")
        path = self.folder / f"{stack}.json"
        if (before and before[-1] != self.project.name) or not path.exists():
            raise StateError(
                f"stack reference {name!r}: there is no such stack in {self.folder}. Without the Pulumi CLI only "
                f"stacks of the same project ({self.project.name}) can be referred to"
            )
        document = read_document(path)
        state = State(path, self._crypter(document["encryptionsalt"], f"the state of stack {stack} ({path})"), False)
        state.load(document)
        return state.outputs()

    def _crypter(self, salt: str, where: str) -> Crypter:
        own = self.folder / "passphrase"
        return Crypter(lambda: passphrase(os.environ, own, self._say, make=not salt), salt, where)


def up(stack: str = "dev", directory: str | Path = ".", *, stream: TextIO | None = None) -> Result:
    """Brings the stack to what the program describes. Raises EtcdClusterError if it cannot even begin."""
    return _run(stack, Path(directory), stream, dry_run=False)


def preview(stack: str = "dev", directory: str | Path = ".", *, stream: TextIO | None = None) -> Result:
    """Shows what `up` would do. Runs no command, touches no network, changes no file."""
    return _run(stack, Path(directory), stream, dry_run=True)


def destroy(stack: str = "dev", directory: str | Path = ".", *, stream: TextIO | None = None) -> Result:
    """Deletes every resource of the stack. The program is not run."""
    display = Display(stream)
    opened = _Stack(Path(directory), stack, display.heading)
    with StackLock(opened.path, stack):
        state = opened.state(writable=True)
        config = opened.configuration()
        _make_importable(opened.project)
        with _deployment(opened, config, state, display, dry_run=False) as (deployment, _):
            display.heading(f"Destroying stack {stack} of {opened.project.name}")
            began = time.monotonic()
            deployment.destroy()
            deployment.close()
            return _result(deployment, display, state, began)


def outputs(stack: str = "dev", directory: str | Path = ".") -> Values:
    """The outputs of the stack, as the last run left them."""
    return _recorded(stack, directory).outputs()


def resources(stack: str = "dev", directory: str | Path = ".") -> list[Resource]:
    """Every resource of the stack, as the last run left it. Their secrets are marked, and can be read."""
    return list(_recorded(stack, directory).current.values())


def _recorded(stack: str, directory: str | Path) -> State:
    opened = _Stack(Path(directory), stack, lambda text: print(text, file=sys.stderr))
    if not opened.path.exists():
        raise StateError(f"stack {stack} has no outputs: there is no state at {opened.path}. Run `up` first")
    return opened.state(writable=False, runs=False)


def _run(stack: str, directory: Path, stream: TextIO | None, *, dry_run: bool) -> Result:
    display = Display(stream, dry_run=dry_run)
    opened = _Stack(directory, stack, display.heading)
    if not dry_run:
        with StackLock(opened.path, stack):
            return _run_program(opened, display, dry_run=False)
    return _run_program(opened, display, dry_run=True)


def _run_program(opened: _Stack, display: Display, *, dry_run: bool) -> Result:
    state = opened.state(writable=not dry_run)
    config = opened.configuration()
    for text in config.secrets:
        display.hide_text(text)
    _make_importable(opened.project)
    with _deployment(opened, config, state, display, dry_run=dry_run) as (deployment, hooks):
        display.heading(f"{'Previewing' if dry_run else 'Updating'} stack {opened.name} of {opened.project.name}")
        began = time.monotonic()
        # A context of its own: the SDK keeps its settings in context variables.
        context = contextvars.copy_context()
        context.run(_execute, opened, config, deployment, hooks, display, dry_run)
        return _result(deployment, display, state, began)


def _result(deployment: Deployment, display: Display, state: State, began: float) -> Result:
    ok = deployment.ok
    outputs = state.outputs()
    display.outputs(outputs)
    display.summary(ok, time.monotonic() - began)
    if deployment.interrupted:
        display.note("error", "interrupted; what was done is remembered: run again to go on")
    return Result(ok, deployment.interrupted, display.operations, outputs)


@contextlib.contextmanager
def _deployment(
    opened: _Stack, config: Configuration, state: State, display: Display, *, dry_run: bool
) -> Generator[tuple[Deployment, Hooks]]:
    providers = Providers(opened.project.name, config.values)
    hooks = Hooks(dry_run, lambda resource, text: display.note("warning", text, resource))
    deployment = Deployment(state, providers, display, hooks, dry_run=dry_run)
    try:
        with _interruptible(deployment):
            yield deployment, hooks
    finally:
        providers.close()


@contextlib.contextmanager
def _interruptible(deployment: Deployment) -> Generator[None]:
    """On Ctrl-C or SIGTERM the children are told to end and nothing new begins; the second time they are killed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        if not deployment.interrupted:
            deployment.interrupt()
            ChildProcesses.stop_all()
            # Not through the display, which this handler may have interrupted.
            os.write(2, b"Interrupted: ending what runs. Once more to kill it.\n")
        else:
            ChildProcesses.stop_all(signal.SIGKILL)
            os._exit(130)

    before = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _make_importable(project: Project) -> None:
    if str(project.program) not in sys.path:
        sys.path.insert(0, str(project.program))


def _execute(
    opened: _Stack, config: Configuration, deployment: Deployment, hooks: Hooks, display: Display, dry_run: bool
) -> None:
    import asyncio
    import logging
    import runpy

    import pulumi.runtime
    from pulumi.runtime import settings
    from pulumi.runtime.stack import run_in_stack

    from embedded_engine.monitor import Engine, Monitor

    monitor = Monitor(opened.name, opened.project.name, deployment, hooks, display, opened.other_outputs)
    settings.ROOT.set(None)
    settings.configure(
        settings.Settings(
            project=opened.project.name,
            stack=opened.name,
            monitor=monitor,
            engine=Engine(display),
            dry_run=dry_run,
            organization="organization",
            root_directory=str(opened.project.directory),
        )
    )
    pulumi.runtime.set_all_config(config.values, config.secret_keys)
    # Tasks that a failure leaves behind are no news.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    loop = asyncio.new_event_loop()
    executor = ThreadPoolExecutor(_THREADS)
    loop.set_default_executor(executor)
    arguments, directory = sys.argv, os.getcwd()
    sys.argv = [str(opened.project.program)]
    os.chdir(opened.project.program)
    try:
        loop.run_until_complete(
            run_in_stack(lambda: _without_result(runpy.run_path(str(opened.project.program), run_name="__main__")))
        )
    except (StepError, StoppedError, InterruptedRunError):
        # Shown when it happened.
        deployment.failed = True
    except (EtcdClusterError, pulumi.RunError) as error:
        deployment.failed = True
        display.note("error", str(error))
    except BaseException as error:
        deployment.failed = True
        display.note("error", f"the program failed: {_program_trace(error)}")
    finally:
        # The loop goes on meanwhile: steps under way may call hooks on it.
        loop.run_until_complete(loop.run_in_executor(None, deployment.close))
        executor.shutdown(wait=True, cancel_futures=True)
        os.chdir(directory)
        sys.argv = arguments
        loop.close()


def _without_result(_: object) -> None:
    return None


def _program_trace(error: BaseException) -> str:
    """An error of the program with the frames that are the program's: neither ours nor the SDK's nor asyncio's."""
    if isinstance(error, SystemExit):
        return f"it called sys.exit({error.code!r})"
    others = ("/site-packages/pulumi/", "/embedded_engine/", "/asyncio/", "<frozen", "/runpy.py", "/concurrent/")
    frames = [
        each for each in traceback.extract_tb(error.__traceback__) if not any(part in each.filename for part in others)
    ]
    return "".join([*traceback.format_exception_only(error), *traceback.format_list(frames)]).rstrip()
