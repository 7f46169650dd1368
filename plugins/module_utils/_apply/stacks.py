# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Applies steps on stack records and writable layers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Optional

from ansible_collections.strata.overlay.plugins.module_utils._apply.host import Batches
from ansible_collections.strata.overlay.plugins.module_utils._common.clock import now
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import hex_of
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import (
    NO_ROOM,
    StrataError,
)
from ansible_collections.strata.overlay.plugins.module_utils._mount.mount_point import (
    remove_mount_point,
)
from ansible_collections.strata.overlay.plugins.module_utils._mount.mounter import Mounter
from ansible_collections.strata.overlay.plugins.module_utils._mount.upper_use import refuse_uses
from ansible_collections.strata.overlay.plugins.module_utils._plan.desired import DesiredStack, copied
from ansible_collections.strata.overlay.plugins.module_utils._plan.steps import (
    CompareUpper,
    ForgetStack,
    SetAside,
    Step,
    WriteStack,
)
from ansible_collections.strata.overlay.plugins.module_utils._store.inspect_layout import discard_writable
from ansible_collections.strata.overlay.plugins.module_utils._store.last_use import chain_was_used, names_were_used
from ansible_collections.strata.overlay.plugins.module_utils._store.layout import upper_tree
from ansible_collections.strata.overlay.plugins.module_utils._store.records import ContentRecord, StackRecord, dump
from ansible_collections.strata.overlay.plugins.module_utils._store.stage_layout import (
    stage_whole,
    stage_writable,
)
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store, new_id
from ansible_collections.strata.overlay.plugins.module_utils._store.transaction import transaction

_MOST_LEFT = 20


class StackApplier:
    """Writes records of stacks, and remembers those that they had, so that a failure can put them back.

    :ivar before: records as they were before this run, by the stack's name.
    """

    def __init__(self, store: Store, workspace: str, staged: Mapping[str, ContentRecord], mounter: Mounter) -> None:
        self._store = store
        self._workspace = workspace
        self._staged = staged
        self._mounter = mounter
        self._forgotten: set[str] = set()
        self.before: dict[str, StackRecord] = {}

    def batches(self) -> Batches:
        """What does the steps of each kind."""
        return {
            WriteStack: self._write_stacks,
            SetAside: self._set_aside,
            CompareUpper: self._compare_uppers,
            ForgetStack: self._forget_stacks,
        }

    def begin(self, steps: Sequence[Step]) -> None:
        """Note which stacks go. Call it before the first step."""
        self._forgotten = {step.record.name for step in steps if isinstance(step, ForgetStack)}

    def _write_stacks(self, steps: list[WriteStack]) -> None:
        written: list[StackRecord] = []
        for step in steps:
            self._stack_was_used(step.before)
        with transaction(self._store, self._workspace) as new:
            for step in steps:
                makes_path = not os.path.lexists(step.stack.spec.path)
                record = self._with_project(step.record(now(), new_id, makes_path), step.before, written)
                if step.before is not None:
                    self.before[record.name] = step.before
                if step.before and self._is_left(step.before, record):
                    # Should this run be killed, nobody else remembers it.
                    new.write(self._store.detached_file(step.before.stack_id), dump(step.before))
                if record.stack_id:
                    stage_writable(self._store, new, record)
                # From now on the stack is what the record says.
                new.write(self._store.stack_file(record.name), dump(record))
                copy = self._copy_of(step.stack)
                if copy:
                    stage_whole(self._store, new, record, copy)
                written.append(record)
        for record in written:
            self._limit(record)
        for step in steps:
            if step.before is not None and step.before.path != step.stack.spec.path and step.before.made_path:
                remove_mount_point(step.before.path)

    def _copy_of(self, stack: DesiredStack) -> str:
        """Where the copy of a stack's layers lies that is to be its writable layer; "" if there is none."""
        diff_id = copied(stack).diff_id if stack.whole else ""
        return f"{self._workspace}/{hex_of(diff_id)}" if diff_id in self._staged else ""

    def _is_left(self, before: StackRecord, record: StackRecord) -> bool:
        """Whether a writable layer that is still there is no longer the stack's."""
        return before.stack_id not in ("", record.stack_id) and os.path.isdir(self._store.layer(before.stack_id))

    def _with_project(
        self, record: StackRecord, before: Optional[StackRecord], written: Sequence[StackRecord]
    ) -> StackRecord:
        """The record with the project of its quota: the one that its layer has, or a new one.

        :param written: records of the same transaction, which the store does not show yet.
        """
        if before is not None and before.project and before.stack_id == record.stack_id:
            return replace(record, project=before.project)
        if record.writable != "persistent" or not record.size:
            return record
        from ansible_collections.strata.overlay.plugins.module_utils._linux.quota import free_project

        taken = {known.project for known in [*self._store.stacks().values(), *self._store.detached_uppers(), *written]}
        return replace(record, project=free_project(taken))

    def _limit(self, record: StackRecord) -> None:
        """Limit a persistent layer to its size; a project that is left has no limit any more."""
        if record.writable == "persistent" and record.project:
            from ansible_collections.strata.overlay.plugins.module_utils._linux.quota import limit

            for part in ("work", "diff"):
                limit(f"{self._store.layer(record.stack_id)}/{part}", record.project, record.size)

    def _set_aside(self, steps: list[SetAside]) -> None:
        for step in steps:
            # It may be used though nothing is mounted at the stack's path.
            refuse_uses(self._store.root, step.record)
            if step.written:
                self._note_detached(step.record)
            else:
                self._discard_writable(step.record)

    def _note_detached(self, record: StackRecord) -> None:
        try:
            with transaction(self._store, self._workspace) as new:
                new.write(self._store.detached_file(record.stack_id), dump(record))
        except OSError as error:
            if error.errno not in NO_ROOM or record.name not in self._forgotten:
                raise
            # Its layer itself may have taken the last room there was: its record is renamed, as it goes anyway.
            self._store.rename_record(self._store.stack_file(record.name), self._store.detached_file(record.stack_id))

    def _compare_uppers(self, steps: list[CompareUpper]) -> None:
        from ansible_collections.strata.overlay.plugins.module_utils._layer.pack_overlay import snapshot

        for step in steps:
            record = self.recorded(step.name)
            upper = upper_tree(self._store, record)
            if upper == step.restack.upper and snapshot(upper) == step.restack.snapshot:
                continue
            raise StrataError(
                f"stack {step.name}: its writable layer has changed since it was read, so the stack keeps it; layer "
                f"'{step.restack.layer}' is what was read. Stop what writes there (services: stop), and run again."
            )

    def _discard_writable(self, record: StackRecord) -> None:
        if record.writable == "volatile":
            self._mounter.unmount_volatile(record.stack_id)
        discard_writable(self._store, record.stack_id)

    def _stack_was_used(self, record: Optional[StackRecord]) -> None:
        """Note the last use of all that a stack needed, before it needs something else."""
        if record is not None:
            chain_was_used(self._store, record.shown)
        for generation in record.history if record else ():
            chain_was_used(self._store, generation.diff_ids)
            names_were_used(self._store, generation.layers)

    def _forget_stacks(self, steps: list[ForgetStack]) -> None:
        for step in steps:
            self._stack_was_used(step.record)
            self._store.discard(self._store.stack_file(step.record.name))
            self._store.discard(self._store.change_file(step.record.name))
            if step.record.made_path:
                remove_mount_point(step.record.path)

    def put_record_back(self, name: str) -> None:
        before = self.before.pop(name, None)
        if before is None:
            return
        given_up = self.recorded(name)
        with transaction(self._store, self._workspace) as new:
            if before.stack_id:
                stage_writable(self._store, new, before)
            new.write(self._store.stack_file(name), dump(before))
        if before.stack_id:
            self._store.discard(self._store.detached_file(before.stack_id))
        if given_up.stack_id not in ("", before.stack_id):
            self._discard_writable(given_up)

    def recorded(self, name: str) -> StackRecord:
        record = self._store.stack_record(name)
        if record is None:
            raise StrataError(f"stack {name}: its record has gone while it was to be mounted; run again")
        return record

    def remember_left(self, record: StackRecord, devices: Sequence[str]) -> None:
        """Record it so that stack_info can find who still uses the old tree; a few are enough."""
        left = tuple(dict.fromkeys([*devices, *record.left]))[:_MOST_LEFT]
        with transaction(self._store, self._workspace) as new:
            new.write(self._store.stack_file(record.name), dump(replace(record, left=left)))
