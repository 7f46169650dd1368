# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Steps -> effects. The one place that changes a host.

Long work (unpacking) is done before the store is locked; what it made is published under the lock. Runs of steps
of one kind
are done as one transaction, so five hundred layers cost one sync and not five hundred.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from dataclasses import replace
from itertools import groupby
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Set, Tuple, Type

from ansible_collections.strata.overlay.plugins.module_utils._apply.host import HostApplier
from ansible_collections.strata.overlay.plugins.module_utils._apply.outcome import Outcome
from ansible_collections.strata.overlay.plugins.module_utils._common.clock import now
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import hex_of
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import (
    NO_ROOM,
    BusyError,
    StrataError,
    advice,
    said,
)
from ansible_collections.strata.overlay.plugins.module_utils._linux.abilities import Abilities
from ansible_collections.strata.overlay.plugins.module_utils._linux.holders import busy_message, holders
from ansible_collections.strata.overlay.plugins.module_utils._linux.mountinfo import read
from ansible_collections.strata.overlay.plugins.module_utils._linux.mounts import by_path
from ansible_collections.strata.overlay.plugins.module_utils._mount.mount_point import (
    mount_point,
    remove_mount_point,
    unmount_line,
)
from ansible_collections.strata.overlay.plugins.module_utils._mount.mounter import Mounter, set_top
from ansible_collections.strata.overlay.plugins.module_utils._mount.request import driver_at, root_on_device
from ansible_collections.strata.overlay.plugins.module_utils._mount.upper_use import left_by_all, refuse_uses
from ansible_collections.strata.overlay.plugins.module_utils._plan.desired import DesiredStack, copied
from ansible_collections.strata.overlay.plugins.module_utils._plan.host_steps import RemoveUnit, StopServices
from ansible_collections.strata.overlay.plugins.module_utils._plan.steps import (
    CompareUpper,
    DropName,
    ForgetStack,
    ImportContent,
    LinkLayer,
    Mount,
    SetAside,
    SetName,
    SetTop,
    Step,
    StoreImage,
    Switch,
    Unmount,
    WriteStack,
)
from ansible_collections.strata.overlay.plugins.module_utils._store.inspect_layout import discard_writable
from ansible_collections.strata.overlay.plugins.module_utils._store.last_use import chain_was_used, names_were_used
from ansible_collections.strata.overlay.plugins.module_utils._store.layout import upper_tree
from ansible_collections.strata.overlay.plugins.module_utils._store.records import ContentRecord, StackRecord, dump
from ansible_collections.strata.overlay.plugins.module_utils._store.stage_layout import (
    stage_layer,
    stage_whole,
    stage_writable,
)
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store, new_id
from ansible_collections.strata.overlay.plugins.module_utils._store.transaction import Transaction

_MOST_LEFT = 20

TAKING_AWAY = (Unmount, SetAside, ForgetStack, DropName, StopServices, RemoveUnit)
"""Steps that need no new file: they are done also where the file system has no room for any."""


class Applier:
    """Does the steps of a plan, in order. Call it with the store locked for changes."""

    def __init__(self, store: Store, workspace: str, staged: Mapping[str, ContentRecord], abilities: Abilities) -> None:
        self._store = store
        self._workspace = workspace
        self._staged = staged
        self._mounter = Mounter(store, workspace, abilities)
        self._before: Dict[str, StackRecord] = {}
        self._unmounted: Dict[str, Tuple[str, float]] = {}
        self._given_up: Set[str] = set()
        self._forgotten: Set[str] = set()
        self._again: Set[str] = set()
        self._host = HostApplier(store, workspace)
        self.outcome = Outcome()

    def run(self, steps: Sequence[Step]) -> Outcome:
        """All steps; StrataError says which could not be done. Those done before it stay done."""
        batches: Mapping[Type[Step], Callable[[List[Any]], None]] = {
            ImportContent: self._import_contents,
            LinkLayer: self._link_layers,
            StoreImage: self._store_images,
            SetName: self._set_names,
            DropName: self._drop_names,
            WriteStack: self._write_stacks,
            SetAside: self._set_aside,
            CompareUpper: self._compare_uppers,
            Unmount: self._unmount_all,
            Mount: self._mount_all,
            Switch: self._switch_all,
            SetTop: self._set_tops,
            ForgetStack: self._forget_stacks,
            **self._host.batches(),
            StopServices: self._stop_services,
        }
        self._host.begin(steps)
        self._again = {
            step.stack.spec.name
            for step in steps
            if isinstance(step, Mount) and step.stack.spec.writable == "persistent"
        }
        self._forgotten = {step.record.name for step in steps if isinstance(step, ForgetStack)}
        self._given_up = {step.record.stack_id for step in steps if isinstance(step, SetAside)}
        try:
            for kind, group in groupby(steps, key=type):
                if kind in batches:
                    batches[kind](list(group))
        except (StrataError, OSError) as error:
            after = " ".join([*self._bring_back(), *filter(None, [self._host.recover()])])
            if after and isinstance(error, OSError):
                raise StrataError(f"The host refused: {said(error)}. {after}{_then(error)}") from error
            if after:
                error.args = (f"{error} {after}",)
            raise
        finally:
            self._host.end()
        self.outcome.health.update(self._host.checked)
        return self.outcome

    @contextlib.contextmanager
    def _transaction(self) -> Any:
        transaction = Transaction(self._store, self._workspace)
        yield transaction
        transaction.commit()

    # Contents, layers, names.

    def _import_contents(self, steps: List[ImportContent]) -> None:
        with self._transaction() as transaction:
            for diff_id in dict.fromkeys(step.origin.diff_id for step in steps):
                # The record first: a record without its content means nothing, the other way round something is lost.
                transaction.write(self._store.content_file(diff_id), dump(self._staged[diff_id]))
                transaction.adopt(f"{self._workspace}/{hex_of(diff_id)}", self._store.content(diff_id))

    def _link_layers(self, steps: List[LinkLayer]) -> None:
        with self._transaction() as transaction:
            for step in steps:
                layer = step.layer
                # Of what has just been unpacked the size is known for certain.
                imported = self._staged.get(layer.diff_id)
                size = imported.size if imported else step.size
                stage_layer(self._store, transaction, layer, size, self._store.content(layer.diff_id))

    def _store_images(self, steps: List[StoreImage]) -> None:
        from ansible_collections.strata.overlay.plugins.module_utils._image.db import stage_config, stage_repositories

        with self._transaction() as transaction:
            for image in [step.origin.image for step in steps if step.needs_config]:
                stage_config(self._store, transaction, image.image_id, image.config)
            stage_repositories(self._store, transaction, {})

    def _set_names(self, steps: List[SetName]) -> None:
        with self._transaction() as transaction:
            for step in steps:
                if step.before is not None:
                    chain_was_used(self._store, step.before.diff_ids)
                transaction.write(self._store.name_file(step.record.name), dump(step.record))
            if any(step.record.image_id or (step.before and step.before.image_id) for step in steps):
                from ansible_collections.strata.overlay.plugins.module_utils._image.db import stage_repositories

                stage_repositories(self._store, transaction, {step.record.name: step.record for step in steps})

    def _drop_names(self, steps: List[DropName]) -> None:
        if any(step.kind == "image" for step in steps):
            from ansible_collections.strata.overlay.plugins.module_utils._image.db import stage_repositories

            # First the tags: one that has lost its name would be Docker's only.
            with self._transaction() as transaction:
                stage_repositories(self._store, transaction, {step.name: None for step in steps})
        for step in steps:
            record = self._store.name_record(step.name)
            if record is not None:
                chain_was_used(self._store, record.diff_ids)
            self._store.discard(self._store.name_file(step.name))

    # Records of stacks.

    def _write_stacks(self, steps: List[WriteStack]) -> None:
        written: List[StackRecord] = []
        for step in steps:
            self._stack_was_used(step.before)
        with self._transaction() as transaction:
            for step in steps:
                record = self._with_project(step.record(now(), new_id), step.before, written)
                if step.before is not None:
                    self._before[record.name] = step.before
                if step.before and self._is_left(step.before, record):
                    # Should this run be killed, nobody else remembers it.
                    transaction.write(self._store.aside_file(step.before.stack_id), dump(step.before))
                if record.stack_id:
                    stage_writable(self._store, transaction, record)
                # From now on the stack is what the record says.
                transaction.write(self._store.stack_file(record.name), dump(record))
                copy = self._copy_of(step.stack)
                if copy:
                    stage_whole(self._store, transaction, record, copy)
                written.append(record)
        for record in written:
            self._limit(record)
        for step in steps:
            if step.before is not None and step.before.path != step.stack.spec.path and step.before.made_path:
                remove_mount_point(step.before.path)

    def _copy_of(self, stack: DesiredStack) -> str:
        """Where the copy of a stack's layers lies that is to be its writable layer; "" where there is none."""
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

        taken = {known.project for known in [*self._store.stacks().values(), *self._store.set_aside(), *written]}
        return replace(record, project=free_project(taken))

    def _limit(self, record: StackRecord) -> None:
        """Limit a persistent layer to its size; a project that is left has no limit any more."""
        if record.writable == "persistent" and record.project:
            from ansible_collections.strata.overlay.plugins.module_utils._linux.quota import limit

            for part in ("work", "diff"):
                limit(f"{self._store.layer(record.stack_id)}/{part}", record.project, record.size)

    def _set_tops(self, steps: List[SetTop]) -> None:
        for step in steps:
            with mount_point(step.stack.spec.path) as place:
                set_top(place.at, step.stack.spec.style)

    def _set_aside(self, steps: List[SetAside]) -> None:
        for step in steps:
            # It may be used though nothing is mounted at the stack's path.
            refuse_uses(self._store.root, step.record)
            if step.written:
                self._note_aside(step.record)
            else:
                self._discard_writable(step.record)

    def _note_aside(self, record: StackRecord) -> None:
        try:
            with self._transaction() as transaction:
                transaction.write(self._store.aside_file(record.stack_id), dump(record))
        except OSError as error:
            if error.errno not in NO_ROOM or record.name not in self._forgotten:
                raise
            # Its layer itself may have taken the last room there was: its record is renamed, as it goes anyway.
            self._store.rename_record(self._store.stack_file(record.name), self._store.aside_file(record.stack_id))

    def _compare_uppers(self, steps: List[CompareUpper]) -> None:
        from ansible_collections.strata.overlay.plugins.module_utils._layer.pack_overlay import picture

        for step in steps:
            record = self._recorded(step.name)
            upper = upper_tree(self._store, record)
            if upper == step.restack.upper and picture(upper) == step.restack.picture:
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

    def _forget_stacks(self, steps: List[ForgetStack]) -> None:
        for step in steps:
            self._stack_was_used(step.record)
            self._store.discard(self._store.stack_file(step.record.name))
            self._store.discard(self._store.change_file(step.record.name))
            if step.record.made_path:
                remove_mount_point(step.record.path)

    # Mounts, and the services that have to stop before.

    def _stop_services(self, steps: List[StopServices]) -> None:
        for step in steps:
            try:
                self._host.stop(step)
            except StrataError:
                self._put_record_back(step.change.name)
                raise

    def _unmount_all(self, steps: List[Unmount]) -> None:
        for step in steps:
            started = time.monotonic()
            path = os.path.realpath(step.path)
            held = holders(path) if step.detach else []
            record = self._before.get(step.name) or self._store.stack_record(step.name)
            try:
                with left_by_all(self._store.root, None if self._keeps_layer(step, record) else record, path):
                    for mount_id in reversed(step.mount_ids):
                        self._unmount(step, path, mount_id)
            except BusyError:
                self._put_record_back(step.name)
                raise
            if held:
                self.outcome.held_by[step.name] = held
            self._unmounted[path] = (step.name, started)
            if record is not None and record.writable == "volatile":
                self._mounter.unmount_volatile(record.stack_id)

    def _keeps_layer(self, step: Unmount, record: Optional[StackRecord]) -> bool:
        """Whether nobody minds who uses a stack's layer after an unmount: it is no persistent one, or stays the stack's
        and is not mounted again.
        """
        if record is None or record.writable != "persistent":
            return True
        return step.detach and record.stack_id not in self._given_up

    def _unmount(self, step: Unmount, path: str, mount_id: int) -> None:
        try:
            unmount_line(mount_id, step.detach)
        except StrataError as error:
            self._put_record_back(step.name)
            raise StrataError(f"stack {step.name}: cannot unmount {path}: {error}") from error
        except OSError as error:
            self._put_record_back(step.name)
            if error.errno == errno.EBUSY:
                again = step.name in self._again
                raise BusyError(busy_message(step.name, path, holders(path), again)) from error
            words = f"cannot unmount {path}: {error.strerror}. It stays mounted.{_then(error)}"
            raise StrataError(f"stack {step.name}: {words}") from error

    def _put_record_back(self, name: str) -> None:
        before = self._before.pop(name, None)
        if before is None:
            return
        given_up = self._recorded(name)
        with self._transaction() as transaction:
            if before.stack_id:
                stage_writable(self._store, transaction, before)
            transaction.write(self._store.stack_file(name), dump(before))
        if before.stack_id:
            self._store.discard(self._store.aside_file(before.stack_id))
        if given_up.stack_id not in ("", before.stack_id):
            self._discard_writable(given_up)

    def _mount_all(self, steps: List[Mount]) -> None:
        for step in steps:
            name = step.stack.spec.name
            record = self._recorded(name)
            path = os.path.realpath(record.path)
            try:
                self._mounter.mount(record)
            except (OSError, StrataError) as error:
                back = self._mount_again(name, path)
                if isinstance(error, BusyError):
                    raise BusyError(f"{error} {back}") from error
                raise StrataError(f"stack {name}: cannot mount {path}: {said(error)}. {back}{_then(error)}") from error
            if path in self._unmounted:
                self.outcome.gaps[name] = round((time.monotonic() - self._unmounted[path][1]) * 1000, 1)
            # Also where it was mounted at another path: it is there again.
            self._unmounted = {path: left for path, left in self._unmounted.items() if left[0] != name}

    def _recorded(self, name: str) -> StackRecord:
        record = self._store.stack_record(name)
        if record is None:
            raise StrataError(f"stack {name}: its record has gone while it was to be mounted; run again")
        return record

    def _mount_again(self, name: str, path: str) -> str:
        """After a failure: the old tree comes back where there was one. Says what is there now."""
        before = self._before.get(name) or self._store.stack_record(name)
        if self._unmounted.pop(path, None) is None or before is None or os.path.realpath(before.path) != path:
            return "Nothing is mounted there."
        try:
            self._put_record_back(name)
            self._mounter.mount(before)
        except (OSError, StrataError) as error:
            return f"The tree that was there could not be mounted again either: {said(error)}."
        return "The tree that was there before is mounted again."

    def _bring_back(self) -> List[str]:
        """After a failure: stacks that were unmounted, and are to be mounted, show their old trees. Says which."""
        back: List[str] = []
        for path, (name, _since) in list(self._unmounted.items()):
            record = self._store.stack_record(name)
            if record is not None and record.mounted:
                back.append(f"stack {name}: {self._mount_again(name, path)}")
        return back

    def _switch_all(self, steps: List[Switch]) -> None:
        for step in steps:
            name = step.stack.spec.name
            record = self._recorded(name)
            path = os.path.realpath(record.path)
            held = holders(path)
            mounts = read()
            place = root_on_device(mounts, self._store.root)
            devices = [line.device for line in by_path(mounts).get(path, []) if driver_at(line, place)]
            try:
                switched = self._mounter.switch(step.before, record, step.count)
            except (OSError, StrataError) as error:
                self._put_record_back(name)
                words = f"cannot switch {path}: {said(error)}. It shows the tree that was there before.{_then(error)}"
                raise StrataError(f"stack {name}: {words}") from error
            self.outcome.gaps[name] = switched.gap_ms
            if switched.remark:
                self.outcome.warnings.append(f"stack {name}: {switched.remark}; it was unmounted and mounted instead")
            if held:
                self.outcome.held_by[name] = held
                self._remember_left(record, devices)

    def _remember_left(self, record: StackRecord, devices: Sequence[str]) -> None:
        """So that stack_info can tell later who still uses the old tree; a few of them are enough."""
        left = tuple(dict.fromkeys([*devices, *record.left]))[:_MOST_LEFT]
        with self._transaction() as transaction:
            transaction.write(self._store.stack_file(record.name), dump(replace(record, left=left)))


def _then(error: Exception) -> str:
    """What to do about it, as the end of a message."""
    words = advice(error) if isinstance(error, OSError) else ""
    return f" {words}" if words else ""
