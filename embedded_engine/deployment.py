"""Carries out what a program asks for, one registration at a time or many at once, and records each step."""

from __future__ import annotations

import contextlib
import threading
import traceback
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from embedded_engine.diff import (
    Decision,
    Difference,
    Operation,
    decide,
    deletion_order,
    dependents,
    difference_of_inputs,
    keep_ignored,
    mark_secret_outputs,
    replacing_inputs,
    why_not_deleted,
)
from embedded_engine.display import Display
from embedded_engine.provider import Provider, Step, StepError, UnsupportedFeatureError
from embedded_engine.state import STACK_TYPE, Resource, State
from embedded_engine.values import UNKNOWN, Values
from etcd_cluster.errors import EtcdClusterError
from etcd_cluster.ssh.processes import InterruptedRunError

DYNAMIC_TYPE = "pulumi-python:dynamic"

_PARALLEL_DELETIONS = 16
_UNPROTECT = "Remove `protect` from it in the program and run"


class StoppedError(EtcdClusterError):
    """A step that was not begun, because an earlier one failed or the run was interrupted."""


class Deployment:
    """One run of a program over a state. Registrations come from many threads; decisions are made one after the other.

    After the first failure no step is begun; the steps under way end, and are recorded.
    """

    def __init__(self, state: State, providers: Mapping[str, Provider], display: Display, *, dry_run: bool) -> None:
        """Begins a run.

        Args:
            state: What the last run left; every step changes it.
            providers: By type of resource; `DYNAMIC_TYPE` stands for all types of Python dynamic resources.
            display: Shows each step.
            dry_run: Previews: no provider creates, updates or deletes.
        """
        self.failed = False
        self.interrupted = False
        # By a preview: what `up` would refuse to do.
        self._refused = False
        self._state = state
        self._providers = providers
        self._display = display
        self._dry_run = dry_run
        self._olds = dict(state.current)
        self._registered: set[str] = set()
        self._replaced: set[str] = set()
        # URNs, deleted or about to be: a resource that is `deleted_with` one of these needs no call of its own.
        self._deleting: set[str] = set()
        # URNs, deleted ahead of a replaced resource that they depend on; each is created again when it is registered.
        self._deleted_early: set[str] = set()
        self._stack_outputs: Values | None = None
        self._deciding = threading.RLock()
        self._in_flight = 0
        self._idle = threading.Condition()
        for resource in state.resources():
            display.hide(resource)

    @property
    def ok(self) -> bool:
        """Whether every step so far went well, or, in a preview, would be allowed."""
        return not (self.failed or self.interrupted or self._refused)

    def interrupt(self) -> None:
        """Begins no further step."""
        self.interrupted = True

    # What the program asks for

    def register(self, goal: Resource) -> Resource:
        """Brings one resource to its goal.

        Args:
            goal: The resource as the program asks for it.

        Returns:
            The resource with its id and outputs; in a preview, with the outputs that are known.

        Raises:
            StepError: The step failed. The display has shown it.
            StoppedError: The run is over.
        """
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
            self._record(replace(resource, outputs=outputs))

    def finish(self) -> None:
        """Deletes what the program no longer has. Called when the program has run to its end."""
        with self._under_way():
            self._stop_if_over()
            self._delete_all(
                [each for each in self._state.resources() if each.pending_deletion or each.urn not in self._registered]
            )

    def destroy(self) -> None:
        """Deletes everything."""
        with self._under_way():
            self._delete_all(self._state.resources())

    def close(self) -> None:
        """Waits for the steps under way, then records the outputs of the stack."""
        with self._idle:
            self._idle.wait_for(lambda: self._in_flight == 0)
        stack = self._state.stack()
        if stack is None or self._stack_outputs is None:
            return
        # After a failure, a missing output is not a removed one.
        kept = stack.outputs if self.failed or self.interrupted else {}
        self._record(replace(stack, outputs={**kept, **self._stack_outputs}))

    # Deciding

    def _decide(self, goal: Resource) -> tuple[Decision, Resource | None, Resource, list[Resource]]:
        """The step for a goal, the old resource, the goal with checked inputs, and what has to be deleted before."""
        if goal.urn in self._registered:
            raise StepError(f"two resources of the program have the URN {goal.urn}: give one of them another name")
        self._registered.add(goal.urn)
        old = self._olds.get(goal.urn)
        provider = self._provider(goal)
        if old is not None and old.custom != goal.custom:
            raise StepError(f"{goal.urn} was {'custom' if old.custom else 'a component'} and cannot change that")
        if goal.urn in self._deleted_early:
            self._replaced.add(goal.urn)
            self._deleting.discard(goal.urn)
            return Decision(Operation.REPLACE, delete_first=True), old, self._checked(provider, goal, None), []
        asked = goal
        if old is not None:
            goal = replace(goal, inputs=keep_ignored(old.inputs, goal.inputs, goal.ignore_changes))
        goal = self._checked(provider, goal, old)
        decision = decide(old, goal, _difference(provider, old, goal), self._replaced)
        if old is None or decision.operation is not Operation.REPLACE:
            return decision, old, goal, []
        if old.protect and goal.protect:
            problem = StepError(f"{goal.urn} has to be replaced, and is protected. {_UNPROTECT} again")
            if not self._dry_run:
                raise problem
            # A preview goes on, to show all there is.
            self._refused = True
            self._display.failed(decision.operation.value, goal, str(problem))
        self._replaced.add(goal.urn)
        goal = self._checked(provider, asked, None)
        return decision, old, goal, self._to_delete_before(old) if decision.delete_first else []

    def _provider(self, resource: Resource) -> Provider | None:
        """None for a component. Raises UnsupportedFeatureError for a type that only the Pulumi CLI can manage."""
        if not resource.custom:
            return None
        key = DYNAMIC_TYPE if resource.type.startswith(DYNAMIC_TYPE) else resource.type
        if key not in self._providers:
            raise UnsupportedFeatureError(f"resource type {resource.type}")
        return self._providers[key]

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

    def _to_delete_before(self, root: Resource) -> list[Resource]:
        """What has to be deleted before the root, because the replacement of the root replaces it. Root last."""
        chosen: dict[str, Resource] = {root.urn: root}
        others = [each for each in self._state.resources() if not each.pending_deletion]
        for candidate in dependents(root, others):
            if candidate.urn not in self._registered and self._is_replaced_with(candidate, chosen):
                chosen[candidate.urn] = candidate
        for resource in chosen.values():
            if resource.protect and resource is not root:
                raise StepError(
                    f"{resource.urn} has to be replaced together with {root.urn}, and is protected. {_UNPROTECT} again"
                )
        self._deleting.update(chosen)
        self._deleted_early.update(chosen.keys() - {root.urn})
        return [each for group in deletion_order(list(chosen.values())) for each in group]

    def _is_replaced_with(self, resource: Resource, others: Mapping[str, Resource]) -> bool:
        """Whether the deletion of the others forces a replacement of the resource, as their outputs become unknown."""
        if resource.deleted_with in others:
            return resource.custom
        inputs = dict(resource.inputs)
        for key, urns in resource.property_dependencies.items():
            if key in inputs and any(urn in others for urn in urns):
                inputs[key] = UNKNOWN
        provider = self._provider(resource)
        if provider is None or inputs == resource.inputs:
            return False
        difference = provider.diff(resource, replace(resource, inputs=inputs))
        return difference.changed and bool(replacing_inputs(difference, resource.replace_on_changes))

    # Carrying out

    def _carry_out(self, decision: Decision, old: Resource | None, goal: Resource, first: list[Resource]) -> Resource:
        operation = decision.operation
        if old is not None and operation is Operation.SAME:
            new = mark_secret_outputs(replace(goal, id=old.id, outputs=old.outputs))
            self._state.put(new)
            self._display.unchanged(new)
            return new
        if self._dry_run:
            self._display.previewed(decision, old, goal)
        else:
            self._display.started(operation, goal, decision.reasons)
        try:
            for each in first:
                if not each.pending_replacement:
                    self._delete(each, keep_for_replacement=True)
            new = self._apply(decision, old, goal)
        except InterruptedRunError:
            raise
        except EtcdClusterError as error:
            raise self._fail(operation.value, goal, error) from error
        if not self._dry_run:
            self._display.finished(operation, goal)
        return new

    def _apply(self, decision: Decision, old: Resource | None, goal: Resource) -> Resource:
        """Creates, replaces or updates the resource, and records it."""
        provider = self._provider(goal)
        updated = old if decision.operation is Operation.UPDATE else None
        if updated is not None:
            goal = replace(goal, id=updated.id)
        if provider is None:
            return self._record(replace(goal, outputs=updated.outputs if updated is not None else {}))
        if self._dry_run:
            new = replace(goal, outputs=goal.inputs)
        elif updated is not None:
            new = replace(goal, outputs=provider.update(updated, goal, self._step(goal, "update")))
        else:
            id_, outputs = provider.create(goal, self._step(goal, "create"))
            new = replace(goal, id=id_, outputs=outputs)
        # Unless it is gone already, the old half of a replacement is deleted when the program has run to its end.
        is_left = decision.operation is Operation.REPLACE and not decision.delete_first
        left = old if is_left and old is not None and not old.pending_replacement else None
        return self._record(mark_secret_outputs(new), replaces=left)

    def _record(self, new: Resource, *, replaces: Resource | None = None) -> Resource:
        self._display.hide(new)
        self._state.put(new, replaces=replaces)
        return new

    def _delete_all(self, resources: list[Resource]) -> None:
        self._deleting.update(each.urn for each in resources)
        for resource in resources:
            if not resource.protect or resource.pending_deletion:
                continue
            self._refused = True
            problem = f"{resource.urn} is protected: nothing is deleted. {_UNPROTECT} `up` first"
            self._display.failed("delete", resource, problem)
        if self._refused and not self._dry_run:
            return
        with ThreadPoolExecutor(_PARALLEL_DELETIONS) as pool:
            for group in deletion_order(resources):
                if self.failed or self.interrupted:
                    return
                list(pool.map(self._delete_one, group))

    def _delete_one(self, resource: Resource) -> None:
        if self.failed or self.interrupted:
            return
        try:
            if resource.pending_replacement:
                # An earlier run deleted it.
                self._state.remove(resource)
            else:
                self._delete(resource)
        except InterruptedRunError:
            pass
        except Exception as error:
            self._fail("delete", resource, error)

    def _delete(self, resource: Resource, *, keep_for_replacement: bool = False) -> None:
        reason = why_not_deleted(resource, self._deleting)
        operation = Operation.FORGET if resource.retain_on_delete else Operation.DELETE
        # The old half of a replacement is counted with the new one.
        counts = not keep_for_replacement and not resource.pending_deletion
        if self._dry_run:
            if counts:
                self._display.previewed(Decision(operation), None, resource)
            return
        if reason is None and (provider := self._provider(resource)) is not None:
            self._display.started(operation, resource)
            provider.delete(resource, self._step(resource, "delete"))
        if keep_for_replacement:
            self._state.put(replace(resource, pending_replacement=True))
        else:
            self._state.remove(resource)
        self._display.finished(operation, resource, reason or "", counts=counts)

    def _step(self, resource: Resource, operation: str) -> Step:
        return Step(lambda line: self._display.progress(resource, line), resource.custom_timeouts.get(operation))

    # How it goes

    def _stop_if_over(self) -> None:
        if self.interrupted:
            raise StoppedError("not begun: the run was interrupted")
        if self.failed:
            raise StoppedError("not begun: an earlier step failed")

    def _fail(self, operation: str, resource: Resource, error: Exception) -> StepError:
        """Shows that a step failed, once, and lets no further step begin."""
        if isinstance(error, _ReportedError):
            return error
        self.failed = True
        text = str(error)
        if not isinstance(error, EtcdClusterError):
            # A defect of this engine: say where.
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


def _difference(provider: Provider | None, old: Resource | None, goal: Resource) -> Difference:
    if old is None:
        return Difference(True)
    if provider is None:
        return difference_of_inputs(old.inputs, goal.inputs, secrecy_counts=True)
    return provider.diff(old, goal)


class _ReportedError(StepError):
    """A failure that the display has shown."""
