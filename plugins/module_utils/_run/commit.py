# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Commits a stack's writable layer as a named layer, by the same engine as every change."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn, Optional

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import chain_ids
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import DefinitionError
from ansible_collections.strata.overlay.plugins.module_utils._definition.argspec import commit_module_spec, stack_spec
from ansible_collections.strata.overlay.plugins.module_utils._definition.definition import Definition, check_root
from ansible_collections.strata.overlay.plugins.module_utils._definition.layer import LayerSpec, Source, check_name
from ansible_collections.strata.overlay.plugins.module_utils._definition.service import recorded_services
from ansible_collections.strata.overlay.plugins.module_utils._definition.stack import Restack, StackSpec, read_stack
from ansible_collections.strata.overlay.plugins.module_utils._definition.validate import check_options
from ansible_collections.strata.overlay.plugins.module_utils._info.stack import known_stack
from ansible_collections.strata.overlay.plugins.module_utils._layer.pack_overlay import snapshot
from ansible_collections.strata.overlay.plugins.module_utils._linux.init_system import has_systemd
from ansible_collections.strata.overlay.plugins.module_utils._module import exit_module, guarded
from ansible_collections.strata.overlay.plugins.module_utils._run.engine import Run
from ansible_collections.strata.overlay.plugins.module_utils._services.freeze import (
    ServiceFreeze,
    plan_freeze,
    services_frozen,
)
from ansible_collections.strata.overlay.plugins.module_utils._services.systemd import ServiceManager, Systemd
from ansible_collections.strata.overlay.plugins.module_utils._store.layout import NO_DIFFERENCE, upper_tree
from ansible_collections.strata.overlay.plugins.module_utils._store.records import StackRecord
from ansible_collections.strata.overlay.plugins.module_utils._store.store import open_store

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


_ENGINE_S = ("stop_services", "start_services")


@dataclass(frozen=True)
class CommitSpec:
    """What a commit is asked to do.

    :ivar services: ``run``, ``freeze`` or ``stop``: what becomes of the stack's services while it is read.
    :ivar restack: the stack goes on above the new layer.
    """

    root: str
    timeout: float
    stack: str
    name: str
    labels: Mapping[str, str]
    services: str
    restack: bool


def read_commit(parameters: Mapping[str, Any]) -> CommitSpec:
    """Parse the options. DefinitionError lists every mistake."""
    errors: list[str] = []
    options = check_options("", parameters, commit_module_spec(), errors)
    root = check_root(options["root"], errors)
    stack = check_name(f"commit of stack {options['stack']}", options["stack"], errors)
    name = check_name(f"commit of stack {options['stack']}", options["name"], errors)
    if errors:
        raise DefinitionError(errors)
    labels = {str(key): str(value) for key, value in (options["labels"] or {}).items()}
    timeout = float(options["lock_timeout"])
    return CommitSpec(root, timeout, stack, name, labels, options["services"], options["restack"])


class Commit:
    """One commit."""

    def __init__(self, spec: CommitSpec, check_mode: bool, manager: Optional[ServiceManager] = None) -> None:
        self._spec = spec
        self._check_mode = check_mode
        self._manager: ServiceManager = manager or Systemd()
        self._store = open_store(spec.root)

    def execute(self) -> dict[str, Any]:
        """The module's result."""
        with self._store.reading(self._spec.timeout):
            record = known_stack(self._store, self._spec.stack)
            errors = self._problems(record)
        if errors:
            raise DefinitionError(errors)
        if self._is_done(record):
            # A run that was killed may have left it unmounted.
            finished = self._run(Definition(self._spec.root, (), (_as_recorded(record),)))
            return self._result(finished, record, ServiceFreeze(), record.diff_ids)
        freeze = self._plan_freeze(record)
        with services_frozen(record.name, ServiceFreeze() if self._check_mode else freeze, self._manager):
            result = self._run(self._definition(record))
        return self._result(result, record, freeze, (*record.diff_ids, *result["layers"][self._spec.name]))

    def _run(self, definition: Definition) -> dict[str, Any]:
        parameters = {"lock_timeout": self._spec.timeout}
        return Run("commit", parameters, self._check_mode, definition=definition).execute()

    def _problems(self, record: StackRecord) -> list[str]:
        label = f"commit of stack {record.name}"
        spec = self._spec
        found: list[str] = []
        if not record.stack_id:
            return [f"{label}: the stack is read-only, so it holds no changes; nothing can be made of them"]
        if record.whole:
            return [f"{label}: the stack {NO_DIFFERENCE}; a layer can be made of its directory (dir)"]
        if record.style.idmapped:
            found.append(
                f"{label}: the stack shows its layers with mapped owners (idmap); what is written in it has those "
                "owners, and as a layer of it they would be mapped once more"
            )
        if not os.path.isdir(upper_tree(self._store, record)):
            why = (
                "it is volatile and not mounted" if record.writable == "volatile" else "run strata.overlay.store_check"
            )
            found.append(f"{label}: its writable layer is not there: {why}")
        if spec.restack and record.writable == "volatile":
            found.append(f"{label}: option 'restack' needs a stack with writable: persistent; this one is volatile")
        if spec.restack and spec.services == "freeze":
            found.append(
                f"{label}: option 'restack' unmounts the stack, and what is frozen keeps it busy; use services: stop"
            )
        if spec.restack and spec.name in record.layers and not self._is_done(record):
            found.append(
                f"{label}: option 'name': layer {spec.name} is among the layers of the stack already, and would "
                "be lost from them; choose another name"
            )
        known = self._store.name_record(spec.name)
        if known is not None and known.kind == "image":
            found.append(f"{label}: option 'name': {spec.name} is the name of an image; choose another")
        if spec.services != "run" and record.services and not has_systemd():
            found.append(
                f"{label}: option 'services' needs systemd, which does not run this host or does not obey this user; "
                "leave it out"
            )
        return found

    def _is_done(self, record: StackRecord) -> bool:
        """Whether the stack goes on above this very layer already, and nothing has been written since."""
        if not self._spec.restack or record.layers[-1] != self._spec.name:
            return False
        known = self._store.name_record(self._spec.name)
        upper = upper_tree(self._store, record)
        return known is not None and known.diff_ids == record.diff_ids[-1:] and not os.listdir(upper)

    def _plan_freeze(self, record: StackRecord) -> ServiceFreeze:
        if self._spec.services == "run" or not record.services:
            return ServiceFreeze()
        units = [service.unit for service in recorded_services(record.services)]
        states = self._manager.states(units)
        return plan_freeze(self._spec.services, [unit for unit in units if states[unit].running])

    def _definition(self, record: StackRecord) -> Definition:
        """Look at the writable layer, when its services are still, and say what the commit comes to."""
        upper = upper_tree(self._store, record)
        source = Source("upper", upper, on_host=True, stack=record.name, fuse=record.fuse)
        layer = LayerSpec(f"commit of stack {record.name}", self._spec.name, source, labels=self._spec.labels)
        if not self._spec.restack:
            return Definition(self._spec.root, (layer,), ())
        restack = Restack(self._spec.name, upper, snapshot(upper))
        stack = replace(_as_recorded(record), on_change="reset", restack=restack)
        return Definition(self._spec.root, (layer,), (stack,))

    def _result(
        self, result: dict[str, Any], record: StackRecord, freeze: ServiceFreeze, diff_ids: Any
    ) -> dict[str, Any]:
        # Check mode finds services running that a run has stopped by then.
        steps = [step for step in result["plan"] if not freeze.jobs or step["action"] not in _ENGINE_S]
        if steps:
            steps = [*_shown(record.name, freeze.jobs), *steps, *_shown(record.name, freeze.back)]
        warnings = list(result.get("warnings") or [])
        if self._spec.services != "run" and not record.services:
            warnings.append(f"stack {record.name} has no services on record, so none was kept still")
        return {
            **{key: result[key] for key in ("changed", "bytes", "diff", "stacks") if key in result},
            **({"warnings": warnings} if warnings else {}),
            "plan": steps,
            "diff_id": diff_ids[-1],
            "diff_ids": list(diff_ids),
            "chain_id": chain_ids(diff_ids)[-1],
        }


def _as_recorded(record: StackRecord) -> StackSpec:
    """The stack as it is on record, wherever it lies already."""
    options = check_options("", {"name": record.name}, stack_spec(), [])
    stack = read_stack(options, f"stack {record.name}", (), [])
    return replace(stack, state="mounted" if record.mounted else "unmounted", cover=True)


def _shown(stack: str, jobs: Any) -> list[dict[str, Any]]:
    """Services as steps of the plan."""
    if not jobs:
        return []
    text = ", ".join(f"{verb} {unit}" for verb, unit in jobs)
    return [{"action": f"{jobs[0][0]}_services", "object": f"stack {stack}", "text": text, "bytes": 0}]


def commit(parameters: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Run the module ``commit``. DefinitionError lists every mistake."""
    return Commit(read_commit(parameters), check_mode).execute()


def run_commit(module: AnsibleModule) -> NoReturn:
    """Commit by a module's parameters and end the module."""
    keep = not module.check_mode
    exit_module(module, guarded(module, lambda: commit(module.params, module.check_mode), changes=True, keep=keep))
