"""Carries out what a program asks for, one registration at a time or many at once, and remembers each step."""

from __future__ import annotations

import contextlib
import threading
import traceback
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from embedded_engine import hooks as hook
from embedded_engine.contract import Provider, Step, StepError
from embedded_engine.display import Display
from embedded_engine.hooks import Hooks
from embedded_engine.plan import (
    Decision,
    Difference,
    Operation,
    decide,
    deletion_order,
    dependents,
    difference_of_inputs,
    keep_ignored,
    marked_outputs,
    protected,
    skipped_by,
    with_replace_on_changes,
)
from embedded_engine.providers import Providers
from embedded_engine.state import STACK_TYPE, Resource, State
from embedded_engine.values import UNKNOWN, Values
from etcd_cluster.errors import EtcdClusterError
from etcd_cluster.openssh import InterruptedRunError

_PARALLEL_DELETIONS = 16
_Result = TypeVar("_Result")


class StoppedError(EtcdClusterError):
    """A step that was not begun, because an earlier one failed or the run was interrupted."""


class Deployment:
    """One run of a program over a state. Registrations come from many threads; decisions are made one after the other.

    After the first failure nothing new is begun; what is under way ends, and is remembered.
    """

    def __init__(self, state: State, providers: Providers, display: Display, hooks: Hooks, *, dry_run: bool) -> None:
        self.failed = False
        self.interrupted = False
        # By a preview: what `up` would refuse to do.
        self._refused = False
        self._state = state
        self._providers = providers
        self._display = display
        self._hooks = hooks
        self._dry_run = dry_run
        self._olds = dict(state.current)
        self._registered: set[str] = set()
        self._replaced: set[str] = set()
        # Deleted, or about to be: what is `deleted_with` one of these needs no call of its own.
        self._condemned: set[str] = set()
        # Deleted ahead of a replaced resource that they depend on; each is created again when it is registered.
        self._deleted_early: set[str] = set()
        self._components: dict[str, tuple[str, Resource | None]] = {}
        self._stack_outputs: Values | None = None
        self._deciding = threading.RLock()
        self._in_flight = 0
        self._idle = threading.Condition()
        for resource in state.resources():
            display.hide(resource)

    # What the program asks for

    def is_new(self, urn: str) -> bool:
        return bool(self._olds) and urn not in self._olds

    def register(self, goal: Resource) -> Resource:
        """Brings one resource to its goal. Raises StepError if that fails, after saying so."""
        with self._under_way():
            try:
                with self._deciding:
                    self._stop_if_over()
                    decision, old, goal, first = self._decide(goal)
                return self._carry_out(decision, old, goal, first)
            except (StoppedError, InterruptedRunError):
                raise
            except Exception as error:
                raise self._fail("registration", goal, error) from error

    def register_outputs(self, urn: str, outputs: Values) -> None:
        """Takes the outputs of a component, or, to be kept until the end, of the stack."""
        with self._under_way():
            resource = self._state.current.get(urn)
            if resource is None:
                raise StepError(f"{urn} has outputs but was not registered")
            if resource.type == STACK_TYPE:
                self._stack_outputs = outputs
                return
            new = replace(resource, outputs=outputs)
            self._display.hide(new)
            self._state.put(new)
            kind, old = self._components.pop(urn, ("", None))
            if kind:
                try:
                    self._hooks.run(kind, new, new=new, old=old, done=True)
                except EtcdClusterError as error:
                    raise self._fail("hook", new, error) from error

    def finish(self) -> None:
        """Deletes what the program no longer has. Called when the program has run to its end."""
        with self._under_way():
            self._stop_if_over()
            gone = [
                each for each in self._state.resources() if each.pending_deletion or each.urn not in self._registered
            ]
            self._delete_all(gone)

    def destroy(self) -> None:
        """Deletes everything."""
        with self._under_way():
            self._delete_all(self._state.resources())

    def close(self) -> None:
        """Waits for what is under way, then records the outputs of the stack."""
        with self._idle:
            self._idle.wait_for(lambda: self._in_flight == 0)
        stack = self._state.stack()
        if stack is None or self._stack_outputs is None:
            return
        # After a failure, a missing output is not a removed one.
        kept = stack.outputs if self.failed or self.interrupted else {}
        new = replace(stack, outputs={**kept, **self._stack_outputs})
        self._display.hide(new)
        self._state.put(new)

    @property
    def ok(self) -> bool:
        return not (self.failed or self.interrupted or self._refused)

    def interrupt(self) -> None:
        """Begins nothing more."""
        self.interrupted = True

    # Deciding

    def _decide(self, goal: Resource) -> tuple[Decision, Resource | None, Resource, list[Resource]]:
        """The step for a goal, the old resource, the goal with checked inputs, and what has to be deleted before."""
        if goal.urn in self._registered:
            raise StepError(f"two resources of the program have the URN {goal.urn}: give one of them another name")
        self._registered.add(goal.urn)
        old = self._olds.get(goal.urn)
        provider = self._providers.of(goal.type) if goal.custom else None
        if old is not None and old.custom != goal.custom:
            raise StepError(f"{goal.urn} was {'custom' if old.custom else 'a component'} and cannot change that")
        if goal.urn in self._deleted_early:
            self._replaced.add(goal.urn)
            self._condemned.discard(goal.urn)
            return Decision(Operation.REPLACE, delete_first=True), old, self._checked(provider, goal, None), []
        asked = goal
        if old is not None:
            goal = replace(goal, inputs=keep_ignored(old.inputs, goal.inputs, goal.ignore_changes))
        goal = self._checked(provider, goal, old)
        decision = decide(old, goal, self._difference(provider, old, goal), self._replaced)
        if old is None or decision.operation is not Operation.REPLACE:
            return decision, old, goal, []
        if old.protect and goal.protect:
            problem = StepError(
                f"{goal.urn} has to be replaced, and is protected. Remove `protect` from it in the program and run "
                "again"
            )
            if not self._dry_run:
                raise problem
            # A preview goes on, to show all there is.
            self._refused = True
            self._display.failed(decision.operation.value, goal, str(problem))
        self._replaced.add(goal.urn)
        goal = self._checked(provider, asked, None)
        first = self._deleted_before(old) if decision.delete_first else []
        return decision, old, goal, first

    def _checked(self, provider: Provider | None, goal: Resource, old: Resource | None) -> Resource:
        self._display.hide(goal)
        if provider is None:
            return goal
        inputs, failures = provider.check(goal, old)
        if failures:
            raise StepError(
                "; ".join(f"{each.property}: {each.reason}" if each.property else each.reason for each in failures)
            )
        checked = replace(goal, inputs=inputs)
        self._display.hide(checked)
        return checked

    def _difference(self, provider: Provider | None, old: Resource | None, goal: Resource) -> Difference:
        if old is None:
            return Difference(True)
        if provider is None:
            return difference_of_inputs(old.inputs, goal.inputs, secrecy_counts=True)
        return provider.diff(old, goal)

    def _deleted_before(self, root: Resource) -> list[Resource]:
        """What has to be deleted before the root is, because the replacement of the root will replace it. Root last."""
        condemned: dict[str, Resource] = {root.urn: root}
        others = [each for each in self._state.resources() if not each.pending_deletion]
        for candidate in dependents(root, others):
            if candidate.urn not in self._registered and self._falls_with(candidate, condemned):
                condemned[candidate.urn] = candidate
        for resource in condemned.values():
            if resource.protect and resource is not root:
                raise StepError(
                    f"{resource.urn} has to be replaced together with {root.urn}, and is protected. Remove `protect` "
                    "from it in the program and run again"
                )
        self._condemned.update(condemned)
        self._deleted_early.update(condemned.keys() - {root.urn})
        return [each for group in deletion_order(list(condemned.values())) for each in group]

    def _falls_with(self, resource: Resource, condemned: dict[str, Resource]) -> bool:
        if not resource.custom:
            return False
        if resource.deleted_with in condemned or any(urn in condemned for urn in resource.replace_with):
            return True
        inputs = dict(resource.inputs)
        for key, urns in resource.property_dependencies.items():
            if key in inputs and any(urn in condemned for urn in urns):
                inputs[key] = UNKNOWN
        if inputs == resource.inputs:
            return False
        difference = self._providers.of(resource.type).diff(resource, replace(resource, inputs=inputs))
        return difference.changed and bool(with_replace_on_changes(difference, resource.replace_on_changes))

    # Carrying out

    def _carry_out(self, decision: Decision, old: Resource | None, goal: Resource, first: list[Resource]) -> Resource:
        operation = decision.operation
        if old is not None and operation is Operation.SAME:
            new = marked_outputs(replace(goal, id=old.id, outputs=old.outputs))
            self._state.put(new)
            self._display.unchanged(new)
            return new
        if self._dry_run:
            self._display.planned(decision, old, goal)
        else:
            self._display.started(operation, goal, decision.reasons)
        try:
            for each in first:
                if not each.pending_replacement:
                    self._delete(each, keep_for_replacement=True)
            if old is not None and operation is Operation.UPDATE:
                new = self._update(old, goal)
            else:
                replaces = operation is Operation.REPLACE and not decision.delete_first
                # What was deleted already, by an earlier run, is not deleted again.
                displaced = old if replaces and old is not None and not old.pending_replacement else None
                new = self._create(goal, displaced)
        except InterruptedRunError:
            raise
        except EtcdClusterError as error:
            raise self._fail(operation.value, goal, error) from error
        if not self._dry_run:
            self._display.finished(operation, goal)
        return new

    def _create(self, goal: Resource, displaced: Resource | None) -> Resource:
        self._hooks.run(hook.BEFORE_CREATE, goal, new=goal)
        if not goal.custom:
            self._components[goal.urn] = (hook.AFTER_CREATE, None)
            self._state.put(goal)
            return goal
        if self._dry_run:
            new = replace(goal, outputs=goal.inputs)
        else:
            provider, step = self._providers.of(goal.type), self._step(goal, "create")
            id_, outputs = self._attempt("create", goal, goal, None, lambda: provider.create(goal, step))
            new = replace(goal, id=id_, outputs=outputs)
        return self._completed(hook.AFTER_CREATE, marked_outputs(new), None, displaced)

    def _update(self, old: Resource, goal: Resource) -> Resource:
        goal = replace(goal, id=old.id, outputs=old.outputs if not goal.custom else {})
        self._hooks.run(hook.BEFORE_UPDATE, goal, new=goal, old=old)
        if not goal.custom:
            self._components[goal.urn] = (hook.AFTER_UPDATE, old)
            self._state.put(goal)
            return goal
        if self._dry_run:
            new = replace(goal, outputs=goal.inputs)
        else:
            provider, step = self._providers.of(goal.type), self._step(goal, "update")
            outputs = self._attempt("update", goal, goal, old, lambda: provider.update(old, goal, step))
            new = replace(goal, outputs=outputs)
        return self._completed(hook.AFTER_UPDATE, marked_outputs(new), old, None)

    def _completed(self, kind: str, new: Resource, old: Resource | None, displaced: Resource | None) -> Resource:
        self._display.hide(new)
        # As in the engine: when a hook after a step fails, the run fails, but the step is done.
        self._state.put(new, replaces=displaced)
        self._hooks.run(kind, new, new=new, old=old, done=True)
        return new

    def _delete_all(self, condemned: list[Resource]) -> None:
        self._condemned.update(each.urn for each in condemned)
        for resource in protected(condemned):
            self._refused = True
            problem = (
                f"{resource.urn} is protected: nothing is deleted. Remove `protect` from it in the program and run "
            )
            self._display.failed("delete", resource, problem + "`up` first")
        if self._refused and not self._dry_run:
            return
        with ThreadPoolExecutor(_PARALLEL_DELETIONS) as pool:
            for group in deletion_order(condemned):
                if self.failed or self.interrupted:
                    return
                list(pool.map(self._delete_one, group))

    def _delete_one(self, resource: Resource) -> None:
        if self.failed or self.interrupted:
            return
        try:
            if resource.pending_replacement:
                # Its deletion was done by an earlier run.
                self._state.remove(resource)
            else:
                self._delete(resource)
        except InterruptedRunError:
            pass
        except Exception as error:
            self._fail("delete", resource, error)

    def _delete(self, resource: Resource, *, keep_for_replacement: bool = False) -> None:
        skipped = skipped_by(resource, self._condemned)
        operation = Operation.FORGET if resource.retain_on_delete else Operation.DELETE
        # The old half of a replacement is counted with the new one.
        counts = not keep_for_replacement and not resource.pending_deletion
        if self._dry_run:
            if counts:
                self._display.planned(Decision(operation), None, resource)
            return
        self._hooks.run(hook.BEFORE_DELETE, resource, old=resource)
        if skipped is None and resource.custom:
            self._display.started(operation, resource)
            provider, step = self._providers.of(resource.type), self._step(resource, "delete")
            self._attempt("delete", resource, None, resource, lambda: provider.delete(resource, step))
        if keep_for_replacement:
            self._state.put(replace(resource, pending_replacement=True))
        else:
            self._state.remove(resource)
        self._display.finished(operation, resource, skipped or "", counts=counts)
        self._hooks.run(hook.AFTER_DELETE, resource, old=resource)

    def _attempt(
        self,
        operation: str,
        resource: Resource,
        new: Resource | None,
        old: Resource | None,
        call: Callable[[], _Result],
    ) -> _Result:
        """Calls a provider, and calls it again as long as a hook for errors asks for that."""
        errors: list[str] = []
        while True:
            try:
                return call()
            except InterruptedRunError:
                raise
            except EtcdClusterError as error:
                errors.insert(0, str(error))
                if len(errors) >= hook.RETRY_LIMIT:
                    raise StepError(
                        f"maximum number of error hook retries ({hook.RETRY_LIMIT}) reached: {error}"
                    ) from error
                if self.interrupted or not self._hooks.wants_retry(operation, resource, new, old, errors):
                    raise
                times = f"({len(errors)}/{hook.RETRY_LIMIT})"
                self._display.note("warning", f"retrying {operation} due to on-error hook request {times}", resource)

    def _step(self, resource: Resource, operation: str) -> Step:
        def say(line: str) -> None:
            self._display.progress(resource, line)

        return Step(say, resource.custom_timeouts.get(operation))

    # How it goes

    def _stop_if_over(self) -> None:
        if self.interrupted:
            raise StoppedError("not begun: the run was interrupted")
        if self.failed:
            raise StoppedError("not begun: an earlier step failed")

    def _fail(self, operation: str, resource: Resource, error: Exception) -> StepError:
        """Says that a step failed, once, and lets nothing new begin."""
        if isinstance(error, _ReportedError):
            return error
        self.failed = True
        text = str(error)
        if not isinstance(error, EtcdClusterError):
            # A defect of this package: say where.
            text = "".join([f"unexpected: {error}\n", *traceback.format_tb(error.__traceback__)[-4:]]).rstrip()
        text = self._display.masked(text)
        self._display.failed(operation, resource, text)
        return _ReportedError(f"{resource.name}: {text}")

    @contextlib.contextmanager
    def _under_way(self) -> Generator[None]:
        with self._idle:
            self._in_flight += 1
        try:
            yield
        finally:
            with self._idle:
                self._in_flight -= 1
                self._idle.notify_all()


class _ReportedError(StepError):
    """A failure that was shown already."""
