# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Finds who uses a persistent upper: one upper in two mounts is undefined, so it is never mounted while in use.

A tree can be mounted elsewhere too, in this mount namespace or in one of its own, as `docker run -v` does it. What is
mounted nowhere any more and still open (`umount -l`) is in no table: the kernel itself is asked about that.
Sources: Linux Documentation/filesystems/overlayfs.rst, "Sharing and copying layers"; mount_namespaces(7).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple, Optional

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import link_id
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import BusyError
from ansible_collections.strata.overlay.plugins.module_utils._linux import mountinfo, syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.holders import (
    command_of,
    describe_holders,
    holders_of_unmounted,
)
from ansible_collections.strata.overlay.plugins.module_utils._linux.mountapi import FsContext, Tree, clone_mount
from ansible_collections.strata.overlay.plugins.module_utils._linux.mounts import Mount
from ansible_collections.strata.overlay.plugins.module_utils._linux.overlay_mounts import FUSE, served
from ansible_collections.strata.overlay.plugins.module_utils._linux.rmtree import remove_tree
from ansible_collections.strata.overlay.plugins.module_utils._mount.mount_point import mount_point
from ansible_collections.strata.overlay.plugins.module_utils._mount.namespaces import (
    Everywhere,
    SameDirectory,
    mounts_everywhere,
    namespace_of,
    path_of_name,
)
from ansible_collections.strata.overlay.plugins.module_utils._mount.request import path_in_store, root_on_device
from ansible_collections.strata.overlay.plugins.module_utils._store.records import StackRecord

_SCRATCH = "/run/strata-probe"
_PATIENCE = 0.5
"""Seconds: the kernel takes down what the last process of a namespace has left a moment after that has ended."""
_MOST_SHOWN = 10


class Use(NamedTuple):
    """One mount of a persistent layer.

    :ivar namespace: the name of the mount namespace. :ivar pid: a process that lives in it, 0 where none does.
    """

    mount: Mount
    namespace: str
    pid: int

    @property
    def is_elsewhere(self) -> bool:
        """Whether it is in another mount namespace than this process."""
        return self.namespace != namespace_of("self")

    def describe(self) -> str:
        """Who has it mounted, and where."""
        if not self.is_elsewhere:
            return f"it is mounted at {self.mount.path} too (in this mount namespace, {self.namespace})"
        place = f"at {self.mount.path} in mount namespace {self.namespace}"
        if not self.pid:
            return f"it is mounted {place}, in which no process lives"
        return f"{command_of(self.pid)} (process {self.pid}) has it mounted {place}"


def look_everywhere(stack_ids: Iterable[str]) -> Everywhere:
    """All mounts of this host, as far as they may be of these persistent layers."""
    names = [name for stack_id in stack_ids for name in (stack_id, link_id(stack_id))]
    return mounts_everywhere(names)


def uses(everywhere: Everywhere, root: str, stack_id: str) -> list[Use]:
    """Every mount that writes into a persistent layer, or shows it as it is, each once.

    :param root: the store's directory.
    """
    found: dict[int, Use] = {}
    place = root_on_device(mountinfo.read(), root)
    for namespace in everywhere.namespaces:
        same = SameDirectory(namespace.root, f"{root}/overlay2", known=True)
        for mount in namespace.mounts:
            if _writes_into(mount, stack_id, same, place):
                found.setdefault(mount.mount_id, Use(mount, namespace.name, namespace.pid))
    return list(found.values())


def _writes_into(mount: Mount, stack_id: str, same: SameDirectory, place: tuple[str, str]) -> bool:
    if mount.fstype == "overlay":
        path = path_of_name(mount.option("upperdir"), same)
        return path.split("/")[:2] == ["overlay2", stack_id] or path == f"overlay2/l/{link_id(stack_id)}"
    if mount.fstype == FUSE:
        shown = served(mount)
        return shown is not None and shown.writable == stack_id
    return path_in_store(place, mount.device, mount.root).split("/")[:3] == ["overlay2", stack_id, "diff"]


def remaining(everywhere: Everywhere, found: Sequence[Use], path: str) -> list[Use]:
    """Those that are still there when what is mounted at a path of this mount namespace has been unmounted.

    An unmount takes with it what came by propagation from the mount point: the same place in every mount that is shared
    with the one around it, or is its slave.
    """
    here = namespace_of("self")
    going = [use.mount for use in found if use.namespace == here and use.mount.path == path]
    gone = {mount.mount_id for mount in going}
    by_id = {mount.mount_id: mount for namespace in everywhere.namespaces for mount in namespace.mounts}
    for mount in going:
        parent = by_id.get(mount.parent_id)
        groups = _receiving(by_id.values(), parent)
        for use in found:
            around = by_id.get(use.mount.parent_id)
            if parent and around and _peers(around) & groups and _spot(use.mount, around) == _spot(mount, parent):
                gone.add(use.mount.mount_id)
    return [use for use in found if use.mount.mount_id not in gone]


def _receiving(mounts: Collection[Mount], parent: Optional[Mount]) -> set[str]:
    """The peer groups that an unmount below a mount reaches: its own, and those of its slaves and theirs."""
    groups = {_field(parent, "shared")} - {""} if parent else set()
    while True:
        more = {_field(mount, "shared") for mount in mounts if _field(mount, "master") in groups} - {"", *groups}
        if not more:
            return groups
        groups |= more


def _peers(mount: Mount) -> set[str]:
    return {_field(mount, "shared"), _field(mount, "master")} - {""}


def _field(mount: Mount, name: str) -> str:
    return next((text.partition(":")[2] for text in mount.optional if text.startswith(f"{name}:")), "")


def _spot(mount: Mount, parent: Mount) -> tuple[str, str]:
    """Where a mount hangs: device and directory of the file system around it."""
    return parent.device, os.path.normpath(os.path.join(parent.root, os.path.relpath(mount.path, parent.path)))


def in_use_message(record: StackRecord, found: Sequence[Use], done: str) -> str:
    """Why a persistent layer is neither mounted nor given up, and what to do.

    :param done: what is at the path now, as a sentence.
    """
    listed = "; ".join(use.describe() for use in found[:_MOST_SHOWN])
    rest = f"; and {len(found) - _MOST_SHOWN} more" if len(found) > _MOST_SHOWN else ""
    return (
        f"stack {record.name}: its writable layer is in use by another mount than that at {record.path}: "
        f"{listed}{rest}. "
        f"One writable layer in two mounts is undefined, and changes would be lost. {done} Stop the containers and "
        "services that use the tree, or unmount it there, and run again."
    )


def refuse_uses(root: str, record: StackRecord, path: str = "", done: str = "Nothing was unmounted.") -> None:
    """Nothing, or BusyError where a mount in any mount namespace uses a stack's persistent layer.

    :param path: what is mounted there, and goes with it, does not count.
    """
    if record.writable != "persistent" or not record.stack_id:
        return
    everywhere = look_everywhere([record.stack_id])
    found = uses(everywhere, root, record.stack_id)
    left = remaining(everywhere, found, path) if path else found
    if left:
        raise BusyError(in_use_message(record, left, done))


@contextlib.contextmanager
def left_by_all(root: str, record: Optional[StackRecord], path: str) -> Iterator[None]:
    """An unmount after which no mount in any namespace uses the persistent layer that was mounted at a path.

    Where one would, BusyError comes before the unmount. Where one has come meanwhile, the tree is there again after it:
    the very mount, and no second one of the layer.

    :param record: None where that does not matter.
    """
    if record is None:
        yield
        return
    refuse_uses(root, record, path)
    with _kept(path) as kept:
        yield
        try:
            refuse_uses(root, record, done="Its tree is mounted there again." if kept else "Nothing is mounted there.")
        except BusyError:
            if kept:
                with mount_point(path) as place:
                    kept.attach(place.at)
            raise


@contextlib.contextmanager
def _kept(path: str) -> Iterator[Optional[Tree]]:
    """A second mount of what is mounted at a path, which hangs nowhere; None where the kernel has no such thing."""
    try:
        kept = clone_mount(path)
    except OSError:
        yield None
        return
    with kept:
        yield kept


def refuse_second(root: str, record: StackRecord) -> None:
    """Nothing, or BusyError where a persistent layer that is to be mounted is in use, by a mount or what was one."""
    refuse_uses(root, record, done="It was not mounted.")
    refuse_open(root, record)


def refuse_open(root: str, record: StackRecord) -> None:
    """Nothing, or BusyError where a persistent layer is in use by what was a mount, and is none any more."""
    if record.writable != "persistent" or record.whole or record.fuse:
        return
    until = time.monotonic() + _PATIENCE
    while in_use(f"{root}/overlay2/{record.stack_id}/diff"):
        if time.monotonic() > until:
            raise BusyError(
                f"stack {record.name}: its writable layer is in use by a tree that was unmounted while it was open "
                f"(umount -l, or on_busy: detach): {_who_is_left()}. One writable layer in two mounts is undefined, "
                "and changes would be lost. It was not mounted. Stop what holds the old tree, and run again."
            )
        time.sleep(_PATIENCE / 20)


def in_use(upper: str) -> bool:
    """Whether the kernel has an overlay that writes into a directory, be it mounted or only held open.

    The kernel answers EBUSY when a directory that is in use is to be a layer of an overlay with an index. That overlay
    is mounted nowhere and has a writable layer of its own, so nothing happens to the directory. False also where the
    kernel cannot be asked: before Linux 5.2, in user namespaces, and where /run is no place for an overlay.
    """
    if syscalls.in_user_namespace():
        return False
    try:
        with _scratch() as scratch, _descriptor(upper) as opened, FsContext("overlay") as context:
            for key, value in (
                ("source", "strata"),
                ("index", "on"),
                # The path may hold what the kernel takes for a separator.
                ("lowerdir", f"/proc/self/fd/{opened}"),
                ("upperdir", f"{scratch}/upper"),
                ("workdir", f"{scratch}/work"),
            ):
                context.set(key, value)
            context.create()
    except OSError as error:
        return error.errno == errno.EBUSY
    return False


@contextlib.contextmanager
def _scratch() -> Iterator[str]:
    """One directory for all runs, one run at a time: what a run that was killed has left goes with the next."""
    while True:
        with contextlib.suppress(FileExistsError):
            os.mkdir(_SCRATCH, 0o700)
        with _descriptor(_SCRATCH, os.O_RDONLY | os.O_NOFOLLOW) as opened:
            fcntl.flock(opened, fcntl.LOCK_EX)
            if os.path.isdir(_SCRATCH) and os.path.samestat(os.stat(_SCRATCH), os.fstat(opened)):
                try:
                    for name in ("upper", "work"):
                        remove_tree(f"{_SCRATCH}/{name}")
                        os.mkdir(f"{_SCRATCH}/{name}")
                    yield _SCRATCH
                finally:
                    remove_tree(_SCRATCH)
                return


@contextlib.contextmanager
def _descriptor(path: str, flags: int = os.O_PATH) -> Iterator[int]:
    opened = os.open(path, flags | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield opened
    finally:
        os.close(opened)


def _who_is_left() -> str:
    mounted = {mount.device for namespace in mounts_everywhere().namespaces for mount in namespace.mounts}
    return describe_holders(holders_of_unmounted(mounted))
