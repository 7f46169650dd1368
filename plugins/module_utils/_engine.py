# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""One run: definition in, host brought to it, result out. Every module that changes anything is this, given a
definition.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, NoReturn, Optional

from ansible_collections.strata.overlay.plugins.module_utils._apply import (
    Applier,
    Outcome,
    busy_message,
    stage_contents,
)
from ansible_collections.strata.overlay.plugins.module_utils._chain import chain_ids
from ansible_collections.strata.overlay.plugins.module_utils._definition import normalise
from ansible_collections.strata.overlay.plugins.module_utils._desired import Desired, desire
from ansible_collections.strata.overlay.plugins.module_utils._errors import BusyError, DefinitionError, StrataError
from ansible_collections.strata.overlay.plugins.module_utils._holders import holders
from ansible_collections.strata.overlay.plugins.module_utils._module import guarded
from ansible_collections.strata.overlay.plugins.module_utils._observe import Observed, observe, remember
from ansible_collections.strata.overlay.plugins.module_utils._plan import plan
from ansible_collections.strata.overlay.plugins.module_utils._records import StackRecord
from ansible_collections.strata.overlay.plugins.module_utils._resolve import Resolver
from ansible_collections.strata.overlay.plugins.module_utils._sketch import sketch_problems
from ansible_collections.strata.overlay.plugins.module_utils._steps import ImportContent, Plan, Unmount
from ansible_collections.strata.overlay.plugins.module_utils._store import Store

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


@dataclass(frozen=True)
class _View:
    """The host held against the definition at one moment."""

    desired: Desired
    observed: Observed
    plan: Plan
    difference: Mapping[str, Any]


class Run:
    """One module call."""

    def __init__(self, module: str, parameters: Mapping[str, Any], check_mode: bool) -> None:
        self._controller: Mapping[str, Any] = parameters.get("_controller") or {}
        self._provided: Mapping[str, Mapping[str, Any]] = self._controller.get("layers") or {}
        self._module = module
        self._definition, problems = normalise(module, parameters, tuple(self._provided))
        # What the controller told was found in the definition as written; what came here may be cut down to its
        # sound parts.
        told = self._controller.get("problems")
        self._problems: List[str] = list(told) if told else problems
        self._check_mode = check_mode
        self._timeout = float(parameters.get("lock_timeout") or 0)
        self._store = Store(self._definition.root)
        self._resolver = Resolver(self._store, self._provided, keep=not check_mode)

    def execute(self) -> Dict[str, Any]:
        """Bring the host to the definition, or in check mode say what that would take; the module's result."""
        problems = list(self._problems)
        if self._controller.get("problems"):
            with self._store.reading(self._timeout):
                raise DefinitionError([*problems, *sketch_problems(self._store, self._controller)])
        origins = self._resolver.resolve(self._definition, problems)

        def look() -> _View:
            found = list(problems)
            known = remember(self._store)
            desired = desire(self._definition, origins, known, found)
            observed = observe(self._store, desired, known)
            planned = plan(desired, observed)
            if found or planned.problems:
                raise DefinitionError([*found, *planned.problems])
            # The difference is taken now: names are read when they are asked for, and later they are others.
            return _View(desired, observed, planned, _difference(desired, observed, planned))

        with self._store.reading(self._timeout):
            view = look()
        _refuse_busy(view.plan)
        awaited = [
            step.origin.diff_id for step in view.plan.steps if isinstance(step, ImportContent) and step.origin.awaited
        ]
        if awaited and not self._check_mode:
            return {"changed": False, "missing": awaited}
        outcome = Outcome()
        if view.plan.steps and not self._check_mode:
            outcome = self._change(view, look)
        elif self._store.exists():
            self._resolver.cache.flush()
        return self._result(view, outcome)

    def _change(self, view: _View, look: Callable[[], _View]) -> Outcome:
        store = self._store
        store.prepare()
        abilities = view.observed.abilities
        try:
            with store.workspace() as workspace:
                staged = stage_contents(store, workspace, view.plan.steps, abilities)
                with store.changing(self._timeout):
                    store.sweep()
                    # Others may have changed the host while this run was unpacking: what counts is what it needs now.
                    steps = look().plan.steps
                    for step in steps:
                        if isinstance(step, ImportContent) and step.origin.diff_id not in staged:
                            raise StrataError(f"{step.words()}: it was removed while this ran; run again")
                    outcome = Applier(store, workspace, staged, abilities).run(steps)
                    self._resolver.cache.flush()
        finally:
            store.empty_trash()
        return outcome

    def _result(self, view: _View, outcome: Outcome) -> Dict[str, Any]:
        steps = view.plan.steps
        diff_ids = [diff_id for record in view.desired.names.values() for diff_id in record.diff_ids]
        diff_ids += [diff_id for stack in view.desired.stacks for diff_id in stack.diff_ids]
        records = {} if self._check_mode else self._store.stacks()
        return {
            **self._only_chain(view.desired),
            "changed": bool(steps),
            "plan": view.plan.results(),
            "bytes": sum(step.bytes for step in steps),
            "diff_ids": list(dict.fromkeys(diff_ids)),
            "layers": [
                {"name": record.name, "diff_ids": list(record.diff_ids)} for record in view.desired.names.values()
            ],
            "stacks": [
                _stack_result(view, index, records.get(stack.spec.name), outcome)
                for index, stack in enumerate(view.desired.stacks)
            ],
            "diff": view.difference,
        }

    def _only_chain(self, desired: Desired) -> Dict[str, str]:
        """The ChainID of the one thing that `layer` or `stack` is about, where it is not taken away."""
        chains = [record.diff_ids for record in desired.names.values()]
        chains += [stack.diff_ids for stack in desired.stacks]
        return {"chain_id": chain_ids(chains[0])[-1]} if self._module != "apply" and chains else {}


def _refuse_busy(planned: Plan) -> None:
    """Before anything changes: a stack that is held and may not be detached."""
    for step in planned.steps:
        if isinstance(step, Unmount) and not step.detach:
            found = holders(os.path.realpath(step.path))
            if found:
                raise BusyError(busy_message(step, found))


def _stack_result(view: _View, index: int, record: Optional[StackRecord], outcome: Outcome) -> Dict[str, Any]:
    stack = view.desired.stacks[index]
    before = view.observed.known.stacks.get(stack.spec.name)
    generation = record.generation if record else before.generation if before else 1
    if record is None and before is not None and before.diff_ids != stack.diff_ids:
        generation += 1
    return {
        "name": stack.spec.name,
        "path": stack.spec.path,
        "state": stack.spec.state,
        "writable": stack.spec.writable,
        "generation": generation,
        "chain_id": chain_ids(stack.diff_ids)[-1],
        "diff_ids": list(stack.diff_ids),
        "gap_ms": outcome.gaps.get(stack.spec.name, 0),
        "held_by": [holder.result() for holder in outcome.held_by.get(stack.spec.name, [])],
    }


def _difference(desired: Desired, observed: Observed, planned: Plan) -> Dict[str, Any]:
    """Names and stacks before and after, only those that the plan changes; and the plan, as text for a person."""
    touched = {step.object for step in planned.steps}
    before: Dict[str, Any] = {"layers": {}, "stacks": {}}
    after: Dict[str, Any] = {"layers": {}, "stacks": {}}
    known = observed.known
    for name in [*desired.names, *desired.dropped_names]:
        if f"layer {name}" in touched:
            old, new = known.names.get(name), desired.names.get(name)
            if old:
                before["layers"][name] = {"diff_ids": list(old.diff_ids), "labels": dict(old.labels)}
            if new:
                after["layers"][name] = {"diff_ids": list(new.diff_ids), "labels": dict(new.labels)}
    stacks = {stack.spec.name: stack for stack in desired.stacks}
    for name in [*stacks, *desired.dropped_stacks]:
        if f"stack {name}" not in touched:
            continue
        if name in known.stacks:
            before["stacks"][name] = _stack_before(observed, known.stacks[name])
        if name in stacks:
            stack = stacks[name]
            after["stacks"][name] = {
                "path": stack.spec.path,
                "layers": list(stack.layers),
                "diff_ids": list(stack.diff_ids),
                "writable": stack.spec.writable,
                "state": stack.spec.state,
            }
    steps = "".join(f"# {number}. {step.words()}\n" for number, step in enumerate(planned.steps, 1))
    return {"before": before, "after": after, **({"prepared": steps} if steps else {})}


def _stack_before(observed: Observed, record: StackRecord) -> Dict[str, Any]:
    return {
        "path": record.path,
        "layers": list(record.layers),
        "diff_ids": list(record.diff_ids),
        "writable": record.writable,
        "state": "mounted" if observed.mounts_of(record.path) else "unmounted",
    }


def run_module(module: AnsibleModule, name: str) -> NoReturn:
    """Bring the host to a module's parameters and end the module."""
    result = guarded(module, lambda: Run(name, module.params, module.check_mode).execute())
    difference = result.pop("diff", None)
    if module._diff and difference is not None:
        result["diff"] = difference
    module.exit_json(**result)
