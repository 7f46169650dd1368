# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Applies mount steps, with the service stops before them."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Sequence
from typing import Optional

from ansible_collections.strata.overlay.plugins.module_utils._apply.host import Batches
from ansible_collections.strata.overlay.plugins.module_utils._apply.outcome import Outcome
from ansible_collections.strata.overlay.plugins.module_utils._apply.stacks import StackApplier
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import (
    BusyError,
    StrataError,
    advice,
    error_text,
)
from ansible_collections.strata.overlay.plugins.module_utils._linux.holders import busy_message, holders
from ansible_collections.strata.overlay.plugins.module_utils._linux.mountinfo import read
from ansible_collections.strata.overlay.plugins.module_utils._linux.mounts import by_path
from ansible_collections.strata.overlay.plugins.module_utils._mount.mount_point import (
    mount_point,
    unmount_line,
)
from ansible_collections.strata.overlay.plugins.module_utils._mount.mounter import Mounter, set_top
from ansible_collections.strata.overlay.plugins.module_utils._mount.request import driver_at, root_on_device
from ansible_collections.strata.overlay.plugins.module_utils._mount.upper_use import left_by_all
from ansible_collections.strata.overlay.plugins.module_utils._plan.steps import (
    Mount,
    SetAside,
    SetTop,
    Step,
    Switch,
    Unmount,
)
from ansible_collections.strata.overlay.plugins.module_utils._store.records import StackRecord
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store


class MountApplier:
    """Unmounts, mounts and switches. Where that fails, the tree that was there before comes back."""

    def __init__(self, store: Store, stacks: StackApplier, mounter: Mounter, outcome: Outcome) -> None:
        self._store = store
        self._stacks = stacks
        self._mounter = mounter
        self._outcome = outcome
        self._unmounted: dict[str, tuple[str, float]] = {}
        self._given_up: set[str] = set()
        self._again: set[str] = set()

    def batches(self) -> Batches:
        """What does the steps of each kind."""
        return {
            Unmount: self._unmount_all,
            Mount: self._mount_all,
            Switch: self._switch_all,
            SetTop: self._set_tops,
        }

    def begin(self, steps: Sequence[Step]) -> None:
        """Note what happens later in the run to what is unmounted. Call it before the first step."""
        self._again = {
            step.stack.spec.name
            for step in steps
            if isinstance(step, Mount) and step.stack.spec.writable == "persistent"
        }
        self._given_up = {step.record.stack_id for step in steps if isinstance(step, SetAside)}

    def _set_tops(self, steps: list[SetTop]) -> None:
        for step in steps:
            with mount_point(step.stack.spec.path) as place:
                set_top(place.at, step.stack.spec.style)

    def _unmount_all(self, steps: list[Unmount]) -> None:
        for step in steps:
            started = time.monotonic()
            path = os.path.realpath(step.path)
            held = holders(path) if step.detach else []
            record = self._stacks.before.get(step.name) or self._store.stack_record(step.name)
            try:
                with left_by_all(self._store.root, None if self._keeps_layer(step, record) else record, path):
                    for mount_id in reversed(step.mount_ids):
                        self._unmount(step, path, mount_id)
            except BusyError:
                self._stacks.put_record_back(step.name)
                raise
            if held:
                self._outcome.held_by[step.name] = held
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
            self._stacks.put_record_back(step.name)
            raise StrataError(f"stack {step.name}: cannot unmount {path}: {error}") from error
        except OSError as error:
            self._stacks.put_record_back(step.name)
            if error.errno == errno.EBUSY:
                again = step.name in self._again
                raise BusyError(busy_message(step.name, path, holders(path), again)) from error
            message = f"cannot unmount {path}: {error.strerror}. It stays mounted.{then(error)}"
            raise StrataError(f"stack {step.name}: {message}") from error

    def _mount_all(self, steps: list[Mount]) -> None:
        for step in steps:
            name = step.stack.spec.name
            record = self._stacks.recorded(name)
            path = os.path.realpath(record.path)
            try:
                self._mounter.mount(record)
            except (OSError, StrataError) as error:
                back = self._mount_again(name, path)
                if isinstance(error, BusyError):
                    raise BusyError(f"{error} {back}") from error
                raise StrataError(
                    f"stack {name}: cannot mount {path}: {error_text(error)}. {back}{then(error)}"
                ) from error
            if path in self._unmounted:
                self._outcome.gaps[name] = round((time.monotonic() - self._unmounted[path][1]) * 1000, 1)
            # Also where it was mounted at another path: it is there again.
            self._unmounted = {path: left for path, left in self._unmounted.items() if left[0] != name}

    def _mount_again(self, name: str, path: str) -> str:
        """After a failure: the old tree comes back where there was one. Says what is there now."""
        before = self._stacks.before.get(name) or self._store.stack_record(name)
        if self._unmounted.pop(path, None) is None or before is None or os.path.realpath(before.path) != path:
            return "Nothing is mounted there."
        try:
            self._stacks.put_record_back(name)
            self._mounter.mount(before)
        except (OSError, StrataError) as error:
            return f"The tree that was there could not be mounted again either: {error_text(error)}."
        return "The tree that was there before is mounted again."

    def bring_back(self) -> list[str]:
        """After a failure: stacks that were unmounted, and are to be mounted, show their old trees. Says which."""
        back: list[str] = []
        for path, (name, _since) in list(self._unmounted.items()):
            record = self._store.stack_record(name)
            if record is not None and record.mounted:
                back.append(f"stack {name}: {self._mount_again(name, path)}")
        return back

    def _switch_all(self, steps: list[Switch]) -> None:
        for step in steps:
            name = step.stack.spec.name
            record = self._stacks.recorded(name)
            path = os.path.realpath(record.path)
            held = holders(path)
            mounts = read()
            place = root_on_device(mounts, self._store.root)
            devices = [line.device for line in by_path(mounts).get(path, []) if driver_at(line, place)]
            try:
                switched = self._mounter.switch(step.before, record, step.count)
            except (OSError, StrataError) as error:
                self._stacks.put_record_back(name)
                message = (
                    f"cannot switch {path}: {error_text(error)}. It shows the tree that was there before.{then(error)}"
                )
                raise StrataError(f"stack {name}: {message}") from error
            self._outcome.gaps[name] = switched.gap_ms
            if switched.remark:
                self._outcome.warnings.append(f"stack {name}: {switched.remark}; it was unmounted and mounted instead")
            if held:
                self._outcome.held_by[name] = held
                self._stacks.remember_left(record, devices)


def then(error: Exception) -> str:
    """What to do about it, as the end of a message."""
    message = advice(error) if isinstance(error, OSError) else ""
    return f" {message}" if message else ""
