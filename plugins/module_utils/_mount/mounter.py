# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.
"""Mounts, switches and unmounts stacks: the only code that does.

Nothing is believed but the mount table: after each mount it is compared with what was asked for.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.mount_options import MountStyle
from ansible_collections.strata.overlay.plugins.module_utils._linux import mount_flags, mountinfo, mounts, syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.abilities import Abilities
from ansible_collections.strata.overlay.plugins.module_utils._linux.mountapi import clone_mount
from ansible_collections.strata.overlay.plugins.module_utils._mount import overlay as overlay_module
from ansible_collections.strata.overlay.plugins.module_utils._mount.mount_point import MountPoint, mount_point
from ansible_collections.strata.overlay.plugins.module_utils._mount.request import (
    MountRequest,
    mismatch,
    mount_request,
    root_on_device,
    shown_content,
)
from ansible_collections.strata.overlay.plugins.module_utils._mount.upper_use import refuse_second
from ansible_collections.strata.overlay.plugins.module_utils._store.records import StackRecord
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store


@dataclass(frozen=True)
class Switched:
    """How a switch went.

    :ivar gap_ms: milliseconds in which nothing was mounted; 0 where the new tree went beneath the old one.
    :ivar remark: why there was a gap where there need not be one, or "".
    """

    gap_ms: float = 0
    remark: str = ""


class Mounter:
    """Mounts the stacks of one store.

    :ivar scratch: an existing directory of the caller's own where a mount may lie for a moment.
    """

    def __init__(self, store: Store, scratch: str, abilities: Abilities) -> None:
        self._store = store
        self._scratch = scratch
        self._abilities = abilities

    def mount(self, record: StackRecord) -> None:
        """Mount a stack at its path, which is made where it is missing, on top of what is there; with
        a new, empty file system where it is volatile.

        OSError or StrataError says what the kernel answered; then nothing has been mounted.
        """
        request = mount_request(self._store.home, record)
        with mount_point(record.path) as place, self._writable_layer(record):
            overlay_module.mount_at(request, place.at, self._abilities)
            try:
                overlay_module.propagate(place.at, request.style.propagation)
                self._verify(request, record, _top(place))
            except (OSError, StrataError):
                syscalls.umount(place.at, syscalls.MNT_DETACH)
                raise

    def switch(self, before: StackRecord, record: StackRecord, count: int) -> Switched:
        """Show a stack's new tree where an old one is mounted; whoever uses the old one keeps it.

        The new tree is mounted detached and moved beneath the old one, which is then detached: a path that is looked up
        meanwhile leads to one or the other. Where the kernel cannot do that, there is a gap.

        OSError or StrataError says what the kernel answered; then the old tree is still there, or there again.

        :param before: what the old tree is meant to be, should it have to be mounted again.
        :param count: mounts of the store at the path; all of them go.
        """
        with mount_point(record.path) as place:
            return self._switch(before, record, count, place)

    def _switch(self, before: StackRecord, record: StackRecord, count: int, place: MountPoint) -> Switched:
        path = place.at
        if not self._abilities.beneath:
            return self._replace(before, record, path, count, "")
        request = mount_request(self._store.home, record)
        scratch = self._scratch_directory()
        with self._writable_layer(record), overlay_module.build(request, scratch, self._abilities) as tree:
            for _covering in range(count - 1):
                syscalls.umount(path, syscalls.MNT_DETACH)
            try:
                tree.attach(path, beneath=True)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                refused = f"the kernel put nothing beneath what was mounted at {place.path} ({error.strerror})"
            else:
                self._uncover(request, record, place)
                return Switched()
        return self._replace(before, record, path, 1, refused)

    def unmount_volatile(self, stack_id: str) -> None:
        """Take the file system of a volatile layer away. An overlay that still uses it keeps it."""
        place = self._volatile_place(stack_id)
        if place in mounts.by_path(mountinfo.read()):
            syscalls.umount(place, syscalls.MNT_DETACH)

    def _uncover(self, request: MountRequest, record: StackRecord, place: MountPoint) -> None:
        """The new tree lies beneath the old one: take the old one off, if the new one is what was asked for."""
        # How it propagates is set last: the old mount goes from other namespaces only while both are shared alike.
        path = place.at
        asked = replace(request, style=replace(request.style, propagation=""))
        try:
            self._verify(asked, record, mounts.by_path(mountinfo.read())[place.path][-2])
        except (OSError, StrataError):
            # Nothing can be taken from beneath, so a copy of the old mount comes beneath before that goes.
            with clone_mount(path) as old:
                syscalls.umount(path, syscalls.MNT_DETACH)
                old.attach(path, beneath=True)
                syscalls.umount(path, syscalls.MNT_DETACH)
            raise
        syscalls.umount(path, syscalls.MNT_DETACH)
        overlay_module.propagate(path, request.style.propagation)

    def _replace(self, before: StackRecord, record: StackRecord, path: str, count: int, remark: str) -> Switched:
        """The way with a gap, for kernels that put nothing beneath."""
        started = time.monotonic()
        for _mount in range(count):
            syscalls.umount(path, syscalls.MNT_DETACH)
        try:
            self.mount(record)
        except (OSError, StrataError):
            self.mount(before)
            raise
        return Switched(round((time.monotonic() - started) * 1000, 1), remark)

    def _verify(self, request: MountRequest, record: StackRecord, line: mounts.Mount) -> None:
        content = ("", "")
        if request.is_bind:
            content = root_on_device(mountinfo.read(), shown_content(self._store.root, record))
        wrong = mismatch(line, request, content)
        if wrong:
            raise StrataError(f"the kernel mounted something else than it was asked for: {wrong}")

    def _scratch_directory(self) -> str:
        path = f"{self._scratch}/mount"
        os.makedirs(path, 0o700, exist_ok=True)
        return path

    # Volatile layers.

    def _volatile_place(self, stack_id: str) -> str:
        return f"{self._store.layer(stack_id)}/volatile"

    @contextlib.contextmanager
    def _writable_layer(self, record: StackRecord) -> Iterator[None]:
        """What a stack writes into, ready to be mounted: a volatile one gets a file system of its own, with the two
        directories that overlayfs wants on one file system.
        """
        if record.writable == "persistent":
            refuse_second(self._store.root, record)
            set_top(f"{self._store.layer(record.stack_id)}/diff", record.style)
        if record.writable != "volatile":
            yield
            return
        self.unmount_volatile(record.stack_id)
        place = self._volatile_place(record.stack_id)
        options = "mode=0700" + (f",size={record.size}" if record.size else "")
        syscalls.mount("strata", place, "tmpfs", mount_flags.MS_NODEV, options)
        try:
            os.mkdir(f"{place}/diff", 0o755)
            os.chmod(f"{place}/diff", 0o755)
            os.mkdir(f"{place}/work", 0o700)
            set_top(f"{place}/diff", record.style)
            yield
        except BaseException:
            syscalls.umount(place, syscalls.MNT_DETACH)
            raise


def set_top(path: str, style: MountStyle) -> None:
    """Give a top directory the owner and the mode that were asked for; the mode last, since chown takes bits away."""
    if style.owner is not None or style.group is not None:
        os.chown(path, -1 if style.owner is None else style.owner, -1 if style.group is None else style.group)
    if style.mode is not None:
        os.chmod(path, style.mode)


def _top(place: MountPoint) -> mounts.Mount:
    line = place.top()
    if line is None:
        raise StrataError("mount succeeded but is not in mountinfo")
    return line
