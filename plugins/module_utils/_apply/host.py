# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Applies service, health and boot steps, and records interrupted changes for the next run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Callable, Optional

from ansible_collections.strata.overlay.plugins.module_utils._boot.files import remove_entries, write_entries
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError, UnhealthyError
from ansible_collections.strata.overlay.plugins.module_utils._linux import mountinfo
from ansible_collections.strata.overlay.plugins.module_utils._linux.init_system import has_systemd
from ansible_collections.strata.overlay.plugins.module_utils._mount.request import of_store_at
from ansible_collections.strata.overlay.plugins.module_utils._plan.host_steps import (
    CheckHealth,
    RemoveUnit,
    ServiceStep,
    StartServices,
    StopServices,
    WriteUnit,
)
from ansible_collections.strata.overlay.plugins.module_utils._plan.steps import Step
from ansible_collections.strata.overlay.plugins.module_utils._services.systemd import ServiceManager, Systemd
from ansible_collections.strata.overlay.plugins.module_utils._store.records import dump
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store
from ansible_collections.strata.overlay.plugins.module_utils._store.transaction import transaction

Batches = Mapping[type[Step], Callable[[list[Any]], None]]
"""What does the steps of each kind, several at once."""


class HostApplier:
    """Does what a plan asks of the host beside store and mounts."""

    def __init__(self, store: Store, workspace: str, manager: Optional[ServiceManager] = None) -> None:
        self._store = store
        self._workspace = workspace
        self._manager: ServiceManager = manager or Systemd()
        self._last: dict[str, Step] = {}
        self._stopped: dict[str, tuple[str, ...]] = {}
        self._reread = False
        self.checked: dict[str, str] = {}

    def batches(self) -> Batches:
        """What does the steps of each kind; for units that stop, the caller has to know what to do when they do not."""
        return {
            StartServices: self._start,
            CheckHealth: self._check,
            WriteUnit: self._write_units,
            RemoveUnit: self._remove_units,
        }

    def begin(self, steps: Sequence[Step]) -> None:
        """Note what the host is like before anything is stopped. Call it before the first step."""
        with transaction(self._store, self._workspace) as new:
            for step in steps:
                if isinstance(step, ServiceStep):
                    # Without a workspace stacks are only taken away, and there is nothing to go back to.
                    if step.change.name not in self._last and self._workspace:
                        new.write(self._store.change_file(step.change.name), dump(step.change))
                    self._last[step.change.name] = step

    def end(self) -> None:
        """Let systemd read the units that were written or removed, once. Call it in any case."""
        if self._reread and has_systemd():
            self._reread = False
            self._manager.reread()

    def recover(self) -> str:
        """After a failure: services that were stopped run again where their tree is there. Says what came of it."""
        messages: list[str] = []
        for name, units in self._stopped.items():
            if not self._is_mounted(name):
                messages.append(f"Its services stay stopped, for the tree is not there: {', '.join(units)}.")
                continue
            failed = [text for text in (self._attempt("start", unit) for unit in units) if text]
            messages.append("; ".join(failed) + "." if failed else f"Running again: {', '.join(units)}.")
            if not failed:
                self._forget_if_undone(name)
        self._stopped = {}
        return " ".join(messages)

    def _forget_if_undone(self, name: str) -> None:
        """Where the old chain is on record again, the next run has nothing to finish."""
        change, record = self._store.change_record(name), self._store.stack_record(name)
        if change is not None and record is not None and change.back in ((), record.diff_ids):
            self._store.discard(self._store.change_file(name))

    def _is_mounted(self, name: str) -> bool:
        record = self._store.stack_record(name)
        mounts = mountinfo.read(self._store.home)
        return record is not None and bool(of_store_at(mounts, os.path.realpath(record.path), self._store.root))

    def _attempt(self, verb: str, unit: str) -> str:
        try:
            self._manager.act(verb, unit)
        except StrataError as error:
            return str(error)
        return ""

    def stop(self, step: StopServices) -> None:
        """Stop units, those that are named first before the others; StrataError where one does not stop."""
        done: list[str] = []
        for unit in step.units:
            # Also the one that fails to stop: it may be half down.
            done.insert(0, unit)
            self._stopped[step.change.name] = tuple(done)
            try:
                self._manager.act("stop", unit)
            except StrataError as error:
                raise StrataError(f"stack {step.change.name}: {error}. It stays mounted.") from error
        self._done(step)

    def _start(self, steps: list[StartServices]) -> None:
        for step in steps:
            self._stopped.pop(step.change.name, None)
            for verb, unit in step.jobs:
                messages = self._attempt(verb, unit)
                if messages:
                    raise UnhealthyError(step.change.name, messages)
            self._done(step)

    def _check(self, steps: list[CheckHealth]) -> None:
        # Imported only when needed: few stacks have a health check.
        from ansible_collections.strata.overlay.plugins.module_utils._services.health import check_health

        for step in steps:
            name = step.change.name
            verdict = check_health(step.health)
            tries = f"{verdict.tries} {'try' if verdict.tries == 1 else 'tries'}"
            if not verdict.healthy:
                raise UnhealthyError(name, f"the health check failed: {verdict.description} ({tries})")
            self.checked[name] = f"{verdict.description}: right after {tries}"
            self._done(step)

    def _done(self, step: ServiceStep) -> None:
        """Forget the change when its last step is done."""
        if self._last.get(step.change.name) is step:
            self._store.discard(self._store.change_file(step.change.name))

    def _write_units(self, steps: list[WriteUnit]) -> None:
        self._note_units([step.entry.is_unit for step in steps])
        write_entries([(step.entry, step.stale) for step in steps], self._store.root)

    def _remove_units(self, steps: list[RemoveUnit]) -> None:
        self._note_units([step.entry.is_unit for step in steps])
        remove_entries([step.entry for step in steps], self._store.root)

    def _note_units(self, units: Sequence[bool]) -> None:
        self._reread = self._reread or any(units)
