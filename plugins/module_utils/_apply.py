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
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Type

from ansible_collections.strata.overlay.plugins.module_utils import _kernel, _mountinfo
from ansible_collections.strata.overlay.plugins.module_utils._chain import hex_of, link_id
from ansible_collections.strata.overlay.plugins.module_utils._errors import BusyError, StrataError
from ansible_collections.strata.overlay.plugins.module_utils._holders import busy_message, holders
from ansible_collections.strata.overlay.plugins.module_utils._imagedb import stage_config, stage_repositories
from ansible_collections.strata.overlay.plugins.module_utils._kernel import Abilities
from ansible_collections.strata.overlay.plugins.module_utils._lastuse import chain_was_used, names_were_used
from ansible_collections.strata.overlay.plugins.module_utils._layout import stage_layer, stage_writable
from ansible_collections.strata.overlay.plugins.module_utils._mounts import fulfils, mount_request, root_on_device
from ansible_collections.strata.overlay.plugins.module_utils._records import (
    ContentRecord,
    Generation,
    StackRecord,
    dump,
    now,
)
from ansible_collections.strata.overlay.plugins.module_utils._result import Outcome
from ansible_collections.strata.overlay.plugins.module_utils._steps import (
    DropName,
    ForgetStack,
    ImportContent,
    LinkLayer,
    Mount,
    SetAside,
    SetName,
    Step,
    StoreImage,
    Unmount,
    WriteStack,
)
from ansible_collections.strata.overlay.plugins.module_utils._store import Store, Transaction, new_id


class Applier:
    """Does the steps of a plan, in order. Call it with the store locked for changes."""

    def __init__(self, store: Store, workspace: str, staged: Mapping[str, ContentRecord], abilities: Abilities) -> None:
        self._store = store
        self._workspace = workspace
        self._staged = staged
        self._abilities = abilities
        self._before: Dict[str, StackRecord] = {}
        self._unmounted_at: Dict[str, float] = {}
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
            Unmount: self._unmount_all,
            Mount: self._mount_all,
            ForgetStack: self._forget_stacks,
        }
        for kind, group in groupby(steps, key=type):
            if kind in batches:
                batches[kind](list(group))
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
                self._store.discard(self._store.digest_file(diff_id))  # of a tree that was lost
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
                stage_repositories(self._store, transaction, {step.record.name: step.record for step in steps})

    def _drop_names(self, steps: List[DropName]) -> None:
        if any(step.kind == "image" for step in steps):
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
        for step in steps:
            self._stack_was_used(step.before)
        with self._transaction() as transaction:
            for step in steps:
                record = _stack_record(step, now())
                if step.before is not None:
                    self._before[record.name] = step.before
                if record.stack_id:
                    stage_writable(self._store, transaction, record)
                # Last: from now on the stack is what the record says.
                transaction.write(self._store.stack_file(record.name), dump(record))
        for step in steps:
            if step.before is not None and step.before.path != step.stack.spec.path:
                _remove_mount_point(step.before)

    def _set_aside(self, steps: List[SetAside]) -> None:
        for step in steps:
            stack_id = step.record.stack_id
            if step.written:
                with self._transaction() as transaction:
                    transaction.write(self._store.aside_file(stack_id), dump(step.record))
            else:
                self._store.discard(self._store.link(link_id(stack_id)))
                self._store.discard(self._store.mountdb(stack_id))
                self._store.discard(self._store.layer(stack_id))

    def _stack_was_used(self, record: Optional[StackRecord]) -> None:
        """Note the last use of all that a stack needed, before it needs something else."""
        for generation in record.history if record else ():
            chain_was_used(self._store, generation.diff_ids)
            names_were_used(self._store, generation.layers)

    def _forget_stacks(self, steps: List[ForgetStack]) -> None:
        for step in steps:
            self._stack_was_used(step.record)
            self._store.discard(self._store.stack_file(step.record.name))
            _remove_mount_point(step.record)

    # Mounts.

    def _unmount_all(self, steps: List[Unmount]) -> None:
        for step in steps:
            started = time.monotonic()
            path = os.path.realpath(step.path)
            held = holders(path) if step.detach else []
            for _mount in range(step.count):
                self._unmount(step, path)
            if held:
                self.outcome.held_by[step.name] = held
            self._unmounted_at[path] = started
            record = self._before.get(step.name) or self._store.stack_record(step.name)
            if record is not None and record.writable == "volatile":
                self._unmount_tmpfs(record)

    def _unmount(self, step: Unmount, path: str) -> None:
        try:
            _kernel.umount(path, _kernel.MNT_DETACH if step.detach else 0)
        except OSError as error:
            self._put_record_back(step.name)
            if error.errno == errno.EBUSY:
                raise BusyError(busy_message(step.name, path, holders(path))) from error
            raise StrataError(
                f"stack {step.name}: cannot unmount {path}: {error.strerror}. It stays mounted."
            ) from error

    def _put_record_back(self, name: str) -> None:
        before = self._before.pop(name, None)
        if before is None:
            return
        with self._transaction() as transaction:
            if before.stack_id:
                stage_writable(self._store, transaction, before)
            transaction.write(self._store.stack_file(name), dump(before))

    def _mount_all(self, steps: List[Mount]) -> None:
        for step in steps:
            name = step.stack.spec.name
            record = self._store.stack_record(name)
            if record is None:
                raise StrataError(f"stack {name}: its record has gone while it was to be mounted; run again")
            path = os.path.realpath(record.path)
            os.makedirs(path, 0o755, exist_ok=True)
            try:
                self._mount(record, path)
            except (OSError, StrataError) as error:
                back = self._mount_again(name, path)
                raise StrataError(f"stack {name}: cannot mount {path}: {_said(error)}. {back}") from error
            if path in self._unmounted_at:
                self.outcome.gaps[name] = round((time.monotonic() - self._unmounted_at.pop(path)) * 1000, 1)

    def _mount(self, record: StackRecord, path: str) -> None:
        if record.writable == "volatile":
            self._mount_tmpfs(record)
        request = mount_request(self._store.home, record)
        content = self._store.content(record.diff_ids[0])
        if request.is_bind:
            _kernel.bind_read_only(content, path)
        else:
            overlay = _kernel.OverlayMount(
                request.home, request.lowers, request.upper, request.work, path, request.short_upper
            )
            _kernel.mount_overlay(overlay, self._abilities)
        # Believe the mount table and nothing else: a kernel has been seen to mount fewer layers than it was given.
        mounts = _mountinfo.read()
        line = _mountinfo.by_path(mounts).get(path, [None])[-1]
        if line is None or not fulfils(line, request, root_on_device(mounts, content)):
            _kernel.umount(path, _kernel.MNT_DETACH)
            raise StrataError("the kernel mounted something else than it was asked for")

    def _mount_again(self, name: str, path: str) -> str:
        """After a failure: the old tree comes back where there was one. Says what is there now."""
        before = self._before.get(name)
        if before is None or path not in self._unmounted_at or os.path.realpath(before.path) != path:
            return "Nothing is mounted there."
        self._put_record_back(name)
        try:
            self._mount(before, path)
        except (OSError, StrataError) as error:
            return f"The tree that was there could not be mounted again either: {_said(error)}."
        return "The tree that was there before is mounted again."

    def _mount_tmpfs(self, record: StackRecord) -> None:
        """The file system of a volatile layer, with the two directories that overlayfs wants on one file system."""
        place = f"{self._store.layer(record.stack_id)}/volatile"
        if place in _mountinfo.by_path(_mountinfo.read()):
            _kernel.umount(place, _kernel.MNT_DETACH)
        options = "mode=0700" + (f",size={record.size}" if record.size else "")
        _kernel.mount("strata", place, "tmpfs", _kernel.MS_NODEV, options)
        os.mkdir(f"{place}/diff", 0o755)
        os.chmod(f"{place}/diff", 0o755)
        os.mkdir(f"{place}/work", 0o700)

    def _unmount_tmpfs(self, record: StackRecord) -> None:
        place = f"{self._store.layer(record.stack_id)}/volatile"
        if place in _mountinfo.by_path(_mountinfo.read()):
            _kernel.umount(place, _kernel.MNT_DETACH)


def _remove_mount_point(record: StackRecord) -> None:
    """Where it was made for the stack; one that is not empty stays."""
    if record.made_path:
        with contextlib.suppress(OSError):
            os.rmdir(record.path)


def _said(error: Exception) -> str:
    """The kernel's words, with the layer that they are about."""
    if isinstance(error, OSError):
        return f"{error.strerror}{' (' + str(error.filename) + ')' if error.filename else ''}"
    return str(error)


def _stack_record(step: WriteStack, now: str) -> StackRecord:
    spec = step.stack.spec
    before = step.before
    history = before.history if before else ()
    if step.fresh_generation:
        number = history[0].number + 1 if history else 1
        history = (Generation(number, step.stack.diff_ids, step.stack.layers, now), *history)
    else:
        history = (replace(history[0], layers=step.stack.layers), *history[1:])
    stack_id = step.stack_id or (new_id() if spec.writable != "none" else "")
    return StackRecord(
        name=spec.name,
        path=spec.path,
        writable=spec.writable,
        size=spec.size,
        stack_id=stack_id if spec.writable != "none" else "",
        mounted=spec.state == "mounted",
        made_path=before.made_path if before and before.path == spec.path else not os.path.lexists(spec.path),
        history=history[: spec.generations],
    )
