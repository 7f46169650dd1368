# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""System calls that Python's standard library lacks: numbers, structures, errno as OSError.

Numbers are those of the unified table: all architectures number the calls that Linux has gained since 5.1 alike, from
424 up. Calls that are older go by their name in libc.
Sources: mount(2), umount2(2), syncfs(2), openat2(2), quotactl(2), ioctl_iflags(2); include/uapi/asm-generic/unistd.h.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import sys
from typing import Optional

from ansible_collections.strata.overlay.plugins.module_utils._linux.files import READ

MNT_DETACH = 0x2

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_IN_ROOT = 0x10

OPEN_TREE = 428
MOVE_MOUNT = 429
FSOPEN = 430
FSCONFIG = 431
FSMOUNT = 432
OPENAT2 = 437
MOUNT_SETATTR = 442

AT_FDCWD = -100

_PR_SET_PDEATHSIG = 1
_CLONE_NEWNS = 0x20000

_GETFLAGS = 0x80006601 | ctypes.sizeof(ctypes.c_long) << 16
"""FS_IOC_GETFLAGS, which counts in longs and is answered in an int."""

_IMMUTABLE = 0x10
_APPEND_ONLY = 0x20


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


class _Libc:
    """libc with errno turned into OSError; loaded on first use, so that importing this file costs nothing."""

    _loaded: Optional[ctypes.CDLL] = None

    @classmethod
    def _get(cls) -> ctypes.CDLL:
        if cls._loaded is None:
            cls._loaded = ctypes.CDLL(None, use_errno=True)
        return cls._loaded

    @classmethod
    def call(cls, name: str, *arguments: object) -> int:
        """Call a libc function that answers a negative number on error."""
        result = int(getattr(cls._get(), name)(*arguments))
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result


def syscall(number: int, *arguments: object) -> int:
    """Call a system call by number; Python ints are passed as C longs. OSError as the kernel says."""
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return _Libc.call("syscall", ctypes.c_long(number), *words)


def libc(name: str, *arguments: object) -> int:
    """Call a libc function that answers a negative number on error, its arguments as ctypes takes them."""
    return _Libc.call(name, *arguments)


def openat2(dir_fd: int, path: bytes, flags: int, resolve: int) -> int:
    """Open ``path`` below ``dir_fd`` under the RESOLVE_* rules of openat2(2); OSError as the kernel says."""
    how = _OpenHow(flags | os.O_CLOEXEC, 0, resolve)
    return syscall(OPENAT2, dir_fd, path, ctypes.byref(how), ctypes.sizeof(how))


def mount(source: str, target: str, fstype: Optional[str], flags: int, data: str = "") -> None:
    """mount(2). ``data`` must be shorter than a page: the kernel cuts longer text without a word."""
    text = os.fsencode(data)
    if len(text) >= page_size():
        raise OSError(errno.E2BIG, f"mount options of {len(text)} bytes do not fit in a page")
    _Libc.call(
        "mount",
        os.fsencode(source),
        os.fsencode(target),
        fstype.encode() if fstype else None,
        ctypes.c_ulong(flags),
        text or None,
    )


def umount(target: str, flags: int = 0) -> None:
    """umount2(2), never following a symbolic link at the end of ``target``."""
    umount_nofollow = 0x8
    _Libc.call("umount2", os.fsencode(target), ctypes.c_int(flags | umount_nofollow))


def syncfs(path: str, descriptor: int = -1) -> None:
    """Everything written to the file system that holds ``path`` is on disk when this returns (syncfs(2)).

    :param descriptor: of a directory there. The kernel tells what it could not write since that was opened, also what
        it has tried long ago by itself.
    """
    if descriptor < 0:
        opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            syncfs(path, opened)
        finally:
            os.close(opened)
        return
    try:
        _Libc.call("syncfs", ctypes.c_int(descriptor))
    except OSError as error:
        error.filename = path
        raise


def exchange(one: str, other: str) -> bool:
    """Let two paths change places in one step (renameat2(2)); False where libc or the file system cannot do that."""
    exchange_both = 2
    at = ctypes.c_int(AT_FDCWD)
    try:
        _Libc.call("renameat2", at, os.fsencode(one), at, os.fsencode(other), ctypes.c_uint(exchange_both))
    except AttributeError:
        return False
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EINVAL):
            return False
        error.filename = one
        raise
    return True


def is_protected(descriptor: int) -> bool:
    """Whether an open file or directory is immutable or append-only, as chattr(1) makes it (ioctl_iflags(2)); False
    where its file system has no such thing.
    """
    flags = bytearray(ctypes.sizeof(ctypes.c_long))
    try:
        fcntl.ioctl(descriptor, _GETFLAGS, flags)
    except OSError:
        return False
    return bool(int.from_bytes(flags[:4], sys.byteorder) & (_IMMUTABLE | _APPEND_ONLY))


def die_with_parent() -> None:
    """Let the kernel kill this process as soon as the one that forked it has ended (prctl(2))."""
    _Libc.call("prctl", ctypes.c_int(_PR_SET_PDEATHSIG), ctypes.c_ulong(signal.SIGKILL))


def enter_mount_namespace(path: str) -> None:
    """Move this process into the mount namespace that ``path`` stands for (setns(2)); it cannot have threads."""
    descriptor = os.open(path, READ)
    try:
        _Libc.call("setns", ctypes.c_int(descriptor), ctypes.c_int(_CLONE_NEWNS))
    finally:
        os.close(descriptor)


def leave_mount_namespace() -> None:
    """Move this process into a mount namespace of its own, a copy of the one that it is in (unshare(2))."""
    _Libc.call("unshare", ctypes.c_int(_CLONE_NEWNS))


def page_size() -> int:
    """Bytes of a page: the longest option string of mount(2), its final zero included."""
    return os.sysconf("SC_PAGE_SIZE")


def in_user_namespace() -> bool:
    """Whether this process lives in a user namespace other than the first one (user_namespaces(7))."""
    with open("/proc/self/uid_map", encoding="ascii") as table:
        return table.read().split() != ["0", "0", "4294967295"]
