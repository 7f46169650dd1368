# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Probes which kinds of stacks a store's file system cannot support. No mount becomes visible.

Nothing is written, but on file systems of which it is not known whether they take a writable layer: there a directory
is made and removed, if no mount shows it already.
Sources: Documentation/filesystems/overlayfs.rst ("Upper and Lower", d_type); getdents64(2), statfs(2), mount(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
from collections.abc import Iterable, Iterator
from typing import Optional

from ansible_collections.strata.overlay.plugins.module_utils._linux import mount_flags, mountinfo, syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.abilities import NO_FAULT, Abilities, Fault
from ansible_collections.strata.overlay.plugins.module_utils._linux.file_system import OVERLAYFS, file_system_of
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import (
    HANDLE_BY_LINK,
    LISTED_BY_LINK,
    existing_above,
)
from ansible_collections.strata.overlay.plugins.module_utils._linux.mountapi import FsContext
from ansible_collections.strata.overlay.plugins.module_utils._linux.mounts import Mount
from ansible_collections.strata.overlay.plugins.module_utils._store.limits import StoreFaults

_FIRST_OF_NAME = struct.Struct("=QqHB")
"""struct linux_dirent64 up to its name: inode, offset, length of the entry, type."""
_BUFFER = 1 << 15
_GETDENTS64 = {"x86_64": 217, "aarch64": 61, "riscv64": 61, "ppc64le": 202, "s390x": 220}
"""For libc without a function of this name (glibc before 2.30)."""

_FIT = frozenset((0xEF53, 0x58465342, 0x9123683E, 0x01021994))
"""ext2 to ext4, xfs, btrfs, tmpfs, which overlays can be made of: to try it would take each run milliseconds."""


_SAYS_NOTHING = frozenset(
    (errno.ENOSYS, errno.EPERM, errno.EACCES, errno.ENOENT, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOMEM)
)
"""Answers that are not about the kind of file system: a kernel before 5.2, no right to mount, a full disk."""


def find_store_faults(root: str, abilities: Abilities, uppers: bool = False) -> StoreFaults:
    """Try what stacks of a store need; where the store is yet to be made, in the nearest directory above it.

    :param uppers: a writable layer may be tried by making one.
    """
    layers = upper = NO_FAULT
    if abilities.overlay:
        layers = types_fault(root)
        kind = file_system_of(existing_above(root))
        if not layers.why:
            layers = _layers_fault(root, kind, abilities)
        upper = _upper_fault(root, kind)
        if uppers and not (upper.why or layers.why or kind in _FIT or _has_upper(root)):
            upper = _tried_upper(root, abilities)
    return StoreFaults(_mount_fault(), layers, upper, _served_fault(root))


def find_places_apart(root: str, names: Iterable[str], mounts: Iterable[Mount]) -> tuple[str, ...]:
    """Directories of a store on which something else is mounted, or that are another subvolume: nothing can be renamed
    into them or out of them.

    :param names: of the directories, relative to the root.
    :param mounts: those of the mount table that lie within the root.
    """
    points = {mount.path for mount in mounts}
    found = []
    with contextlib.suppress(OSError):
        device = os.stat(root).st_dev
        for name in filter(None, names):
            path = f"{root}/{name}"
            with contextlib.suppress(OSError):
                if path in points or os.lstat(path).st_dev != device:
                    found.append(name)
    # What lies below one of them is not reported again.
    return tuple(name for name in found if not any(name.startswith(f"{above}/") for above in found))


def _served_fault(root: str) -> Fault:
    """fuse-overlayfs takes the name of a writable layer apart at colons, whatever comes before them."""
    if ":" not in root:
        return NO_FAULT
    return Fault(
        f"fuse-overlayfs can write to no directory whose path has a colon, as {root} has",
        "name a directory without one as root, or use another driver",
    )


def _mount_fault() -> Fault:
    """mount(2) looks at rights before it looks at what is to be mounted, and here that is nothing, or an overlay of no
    layers. A profile of AppArmor may allow file systems of some types only.
    """
    answer = _answer_of_mount(None)
    if answer.errno == errno.EACCES:
        answer = _answer_of_mount("overlay")
    if answer.errno not in (errno.EPERM, errno.EACCES):
        return NO_FAULT
    return Fault(
        f"this process may not mount ({answer.strerror})",
        "run it as root (become: true); give a container CAP_SYS_ADMIN and a profile that allows mount "
        "(docker run --privileged, or --cap-add SYS_ADMIN --security-opt apparmor=unconfined)",
    )


def _answer_of_mount(fstype: Optional[str]) -> OSError:
    """The kernel's answer to a mount that cannot be."""
    try:
        syscalls.mount("none", "/", fstype, mount_flags.MS_RDONLY)
    except OSError as error:
        return error
    return OSError(0, "")


def tells_types(directory: str) -> bool:
    """Whether directories say of each entry what it is (getdents64(2)): overlayfs finds whiteouts by that."""
    descriptor = os.open(directory, LISTED_BY_LINK)
    buffer = ctypes.create_string_buffer(_BUFFER)
    try:
        filled = _getdents(descriptor, buffer)
    finally:
        os.close(descriptor)
    offset, kinds = 0, []
    while offset < filled:
        _inode, _next, length, kind = _FIRST_OF_NAME.unpack_from(buffer.raw, offset)
        kinds.append(kind)
        offset += length
    return all(kinds)


def _getdents(descriptor: int, buffer: ctypes.Array[ctypes.c_char]) -> int:
    try:
        return syscalls.libc("getdents64", ctypes.c_int(descriptor), buffer, ctypes.c_size_t(_BUFFER))
    except AttributeError:
        number = _GETDENTS64.get(os.uname().machine)
        return syscalls.syscall(number, descriptor, buffer, _BUFFER) if number else 0


def types_fault(root: str) -> Fault:
    """Why layers in a store would show what is deleted in them."""
    try:
        reported = tells_types(existing_above(root))
    except OSError:
        return NO_FAULT  # it cannot be listed: others say so
    if reported:
        return NO_FAULT
    return Fault(
        f"the file system of {root} has no d_type (it does not say in a directory what an entry is), so the "
        "kernel's overlay would go on listing what is deleted",
        "make it anew with d_type (mkfs.xfs -n ftype=1, mkfs.ext4 -O filetype) or put the store on another one; "
        "driver: copy and fuse-overlayfs do without",
    )


def _layers_fault(root: str, kind: int, abilities: Abilities) -> Fault:
    """Why the kernel takes nothing of a store as a layer; with an empty tmpfs as the other one."""
    try:
        with _opened(existing_above(root)) as path, FsContext("overlay") as context:
            if kind in _FIT:
                context.set("lowerdir", path)  # Linux 6.5 and later look at it now
                return NO_FAULT
            with FsContext("tmpfs") as scratch, scratch.tree(0) as other:
                if abilities.userxattr:
                    context.flag("userxattr")
                context.set("lowerdir", f"{path}:/proc/self/fd/{other.fd}")
                os.close(context.tree(0).fd)
    except OSError as error:
        if error.errno in _SAYS_NOTHING:
            return NO_FAULT
        note = " (it is an overlay itself, as the root of a container is)" if kind == OVERLAYFS else ""
        return Fault(
            f"the kernel takes nothing on the file system of {root}{note} as a layer of an overlay: {_answer(error)}",
            _ELSEWHERE,
        )
    return NO_FAULT


def _upper_fault(root: str, kind: int) -> Fault:
    """Why the kernel puts no writable layer into a store."""
    if kind == OVERLAYFS:
        return Fault(
            f"the file system of {root} is an overlay itself, as the root of a container is, and the kernel puts "
            "no writable layer on one",
            _ELSEWHERE,
        )
    try:
        with _opened(existing_above(root)) as path, FsContext("overlay") as context:
            context.set("upperdir", path)  # Linux 6.5 and later look at it now
    except OSError as error:
        if error.errno not in _SAYS_NOTHING:
            message = f"the kernel puts no writable layer on the file system of {root}: {_answer(error)}"
            return Fault(message, _ELSEWHERE)
    return NO_FAULT


def _has_upper(root: str) -> bool:
    """Whether an overlay with a writable layer in the store is mounted: then they can be."""
    home = f"{root}/overlay2"
    overlays = (mount for mount in mountinfo.read(home) if mount.fstype == "overlay")
    return any(mount.option("upperdir").startswith(f"{home}/") for mount in overlays)


def _tried_upper(root: str, abilities: Abilities) -> Fault:
    """Why an overlay cannot write to a directory that is made for this; no fault where none can be made."""
    staging = f"{root}/staging"
    place = f"{staging if os.path.isdir(staging) else existing_above(root)}/.strata-{os.urandom(8).hex()}"
    try:
        for name in ("", "/upper", "/work"):
            os.mkdir(f"{place}{name}", 0o700)
        with _opened(f"{place}/upper") as upper, _opened(f"{place}/work") as work:
            return _refusal(root, upper, work, abilities)
    except OSError:
        return NO_FAULT
    finally:
        for name in ("/work/work", "/work/index", "/work", "/upper", ""):
            with contextlib.suppress(OSError):
                os.rmdir(f"{place}{name}")


def _refusal(root: str, upper: str, work: str, abilities: Abilities) -> Fault:
    with FsContext("tmpfs") as scratch, scratch.tree(0) as lower, FsContext("overlay") as context:
        try:
            if abilities.userxattr:
                context.flag("userxattr")
            for key in ("index", "metacopy") if abilities.userxattr else ("index", "metacopy", "redirect_dir"):
                context.set(key, "off")
            context.set("lowerdir", f"/proc/self/fd/{lower.fd}")
            context.set("upperdir", upper)
            context.set("workdir", work)
            os.close(context.tree(0).fd)
        except OSError as error:
            if error.errno in _SAYS_NOTHING:
                return NO_FAULT
            message = f"the kernel puts no writable layer on the file system of {root}: {_answer(error)}"
            return Fault(message, _ELSEWHERE)
    return NO_FAULT


_ELSEWHERE = (
    "put the store on ext4, xfs or btrfs (a volume of the container, mounted at the store's root), or leave 'driver' "
    "out, so that one is taken which works here"
)


@contextlib.contextmanager
def _opened(directory: str) -> Iterator[str]:
    """A name for a directory that has no letters which mount options give a meaning to, and fits in one."""
    descriptor = os.open(directory, HANDLE_BY_LINK)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _answer(error: OSError) -> str:
    return (error.strerror or str(error)).rstrip(":' ")
