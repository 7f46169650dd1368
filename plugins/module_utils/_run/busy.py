# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Refuses plans that would unmount trees in use, before anything changes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import BusyError
from ansible_collections.strata.overlay.plugins.module_utils._linux.holders import busy_message, holders, mounts_inside
from ansible_collections.strata.overlay.plugins.module_utils._mount.namespaces import processes_in
from ansible_collections.strata.overlay.plugins.module_utils._mount.upper_use import (
    Use,
    in_use_message,
    look_everywhere,
    refuse_open,
    remaining,
    uses,
)
from ansible_collections.strata.overlay.plugins.module_utils._plan.services import stopped_units
from ansible_collections.strata.overlay.plugins.module_utils._plan.state import Observed
from ansible_collections.strata.overlay.plugins.module_utils._plan.steps import (
    Mount,
    Plan,
    SetAside,
    Step,
    Switch,
    Unmount,
)
from ansible_collections.strata.overlay.plugins.module_utils._services.systemd import runs_in_unit
from ansible_collections.strata.overlay.plugins.module_utils._store.records import StackRecord


def refuse_busy(planned: Plan, observed: Observed) -> None:
    """Nothing, or BusyError with what is in the way: before the first step, since later ones cannot be taken back."""
    stopped = stopped_units(planned.steps)
    for step in planned.steps:
        if isinstance(step, Unmount) and not step.detach:
            units = stopped.get(step.name, ())
            found = [one for one in holders(os.path.realpath(step.path)) if not runs_in_unit(one.pid, units)]
            if found:
                raise BusyError(busy_message(step.name, step.path, found, _again(planned.steps, step.name)))
        if isinstance(step, Switch) and step.stack.spec.on_busy == "fail":
            # Processes keep the old tree; but what is mounted in it would be seen by nobody any more.
            inside = mounts_inside(os.path.realpath(step.stack.spec.path))
            if inside:
                raise BusyError(busy_message(step.stack.spec.name, step.stack.spec.path, inside))
    _refuse_shared_layers(planned.steps, observed, stopped)


def _refuse_shared_layers(steps: Sequence[Step], observed: Observed, stopped: Mapping[str, Sequence[str]]) -> None:
    """Refuse to remount or detach a persistent layer that other mounts still use."""
    records = _handed_on(steps, observed)
    if not records:
        return
    everywhere = look_everywhere(record.stack_id for record in records)
    for record in records:
        found = uses(everywhere, observed.root, record.stack_id)
        left = remaining(everywhere, found, os.path.realpath(record.path)) if found else []
        units = stopped.get(record.name, ())
        left = [use for use in left if not _ends(use, units)]
        if left:
            raise BusyError(in_use_message(record, left, "Nothing was unmounted."))
        if not found and _again(steps, record.name):
            refuse_open(observed.root, record)


def _handed_on(steps: Sequence[Step], observed: Observed) -> list[StackRecord]:
    """Stacks whose persistent layer may be used by no mount when these steps are done: for each but what is only
    detached.
    """
    names: set[str] = set()
    for step in steps:
        if isinstance(step, Mount):
            names.add(step.stack.spec.name)
        elif isinstance(step, SetAside):
            names.add(step.record.name)
        elif isinstance(step, Unmount) and not step.detach:
            names.add(step.name)
    known: dict[str, StackRecord] = {name: observed.known.stacks[name] for name in names & set(observed.known.stacks)}
    return [record for record in known.values() if record.writable == "persistent" and record.stack_id]


def _ends(use: Use, units: Sequence[str]) -> bool:
    """Whether a mount goes with the services that are stopped: nobody else lives in its namespace."""
    return use.is_elsewhere and all(runs_in_unit(pid, units) for pid in processes_in(use.namespace)) and bool(use.pid)


def _again(steps: Sequence[Step], name: str) -> bool:
    """Whether a stack is mounted with the writable layer that it had."""
    return not any(isinstance(step, SetAside) and step.record.name == name for step in steps) and any(
        isinstance(step, Mount) and step.stack.spec.name == name for step in steps
    )
