# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Predicts the inventory after a plan's steps, to preview the prune that follows them. Pure.

Of stacks it predicts names, chains and writable layers: all that a prune looks at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import chain_ids
from ansible_collections.strata.overlay.plugins.module_utils._plan.state import Observed
from ansible_collections.strata.overlay.plugins.module_utils._plan.steps import (
    DropName,
    ForgetStack,
    SetAside,
    SetName,
    Step,
    StoreImage,
    Switch,
    Unmount,
    WriteStack,
)
from ansible_collections.strata.overlay.plugins.module_utils._prune.model import Inventory
from ansible_collections.strata.overlay.plugins.module_utils._store.records import NameRecord, StackRecord


def leaving(steps: Iterable[Step], observed: Observed) -> set[str]:
    """Paths whose mounts will be gone or replaced."""
    paths: set[str] = set()
    for step in steps:
        if isinstance(step, (Unmount, Switch)):
            path = step.path if isinstance(step, Unmount) else step.stack.spec.path
            paths.update(mount.path for mount in observed.mounts_of(path))
    return paths


def after(inventory: Inventory, steps: Sequence[Step], now: float) -> Inventory:
    """The inventory when the steps are done, all of them at the time ``now``."""
    return _PreviewState(inventory, now).take(steps)


class _PreviewState:
    def __init__(self, inventory: Inventory, now: float) -> None:
        self._inventory = inventory
        self._now = now
        self._names: dict[str, NameRecord] = dict(inventory.names)
        self._name_use = dict(inventory.name_use)
        self._stacks: dict[str, StackRecord] = dict(inventory.stacks)
        self._detached_uppers: dict[str, StackRecord] = dict(inventory.detached_uppers)
        self._detached_use = dict(inventory.detached_use)
        self._contents = dict(inventory.contents)
        self._layers = dict(inventory.layers)
        self._images = dict(inventory.images)

    def take(self, steps: Sequence[Step]) -> Inventory:
        for step in steps:
            if isinstance(step, StoreImage):
                self._images[step.origin.image.image_id] = self._now
            elif isinstance(step, SetName):
                self._release_name(step.record.name)
                self._names[step.record.name] = step.record
                self._name_use[step.record.name] = self._now
            elif isinstance(step, DropName):
                self._release_name(step.name)
                self._names.pop(step.name, None)
                self._name_use.pop(step.name, None)
            elif isinstance(step, WriteStack):
                self._write_stack(step)
            elif isinstance(step, ForgetStack):
                self._release_stack(self._stacks.pop(step.record.name, None))
            elif isinstance(step, SetAside) and step.written:
                self._detached_uppers[step.record.stack_id] = step.record
                self._detached_use[step.record.stack_id] = self._now
        return replace(
            self._inventory,
            names=self._names,
            name_use=self._name_use,
            stacks=self._stacks,
            detached_uppers=self._detached_uppers,
            detached_use=self._detached_use,
            contents=self._contents,
            layers=self._layers,
            images=self._images,
        )

    def _write_stack(self, step: WriteStack) -> None:
        self._release_stack(step.before)
        record = step.record("", lambda: "", makes_path=False)
        self._stacks[record.name] = record

    def _release_name(self, name: str) -> None:
        if name in self._names:
            self._release(self._names[name].diff_ids)

    def _release_stack(self, record: StackRecord | None) -> None:
        self._release(record.shown if record else ())
        for generation in record.history if record else ():
            self._release(generation.diff_ids)
            for name in generation.layers:
                if name in self._name_use:
                    self._name_use[name] = self._now

    def _release(self, diff_ids: Sequence[str]) -> None:
        for diff_id in diff_ids:
            if diff_id in self._contents:
                self._contents[diff_id] = self._now
        for chain_id in chain_ids(diff_ids):
            if chain_id in self._layers:
                self._layers[chain_id] = self._now
