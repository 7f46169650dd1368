# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.
"""Limits the size of a directory by project quotas (ext4 and xfs).

Sources: quotactl(2), ioctl_xfs_fsgetxattr(2), Linux include/uapi/linux/{fs,quota,dqblk_xfs}.h. The kernel translates
Q_SETQUOTA for xfs and Q_XGETQSTAT for ext4 (fs/quota/quota.c), so one way does for both.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
from collections.abc import Collection, Iterator
from functools import partial
from typing import Optional

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._linux import syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import LISTED, LISTED_BY_LINK, READ_FILE
from ansible_collections.strata.overlay.plugins.module_utils._linux.walk import Item, walk

FIRST_PROJECT = 0x53540000
"""Our own range of project ids, far from those that people give by hand (from 1 on)."""
_PROJECTS = 0x10000

_QUOTACTL_FD = 443
_PRJQUOTA = 2
_GETQUOTA = 0x800007
_SETQUOTA = 0x800008
_XGETQSTAT = 0x5805
_ENFORCED = 1 << 5
_BLOCK_LIMITS = 1
_BLOCK = 1024

_GETXATTR = 0x801C581F
_SETXATTR = 0x401C5820
_PROJECT_INHERIT = 0x200


class _Quota(ctypes.Structure):
    """struct if_dqblk: limits in blocks of 1024 bytes."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in ("hard", "soft", "space", "inode_hard", "inode_soft", "inodes", "block_time", "inode_time")
    ] + [("valid", ctypes.c_uint32)]


class _Status(ctypes.Structure):
    """struct fs_quota_stat, as far as it is read here; the kernel writes 80 bytes."""

    _fields_ = [("version", ctypes.c_int8), ("flags", ctypes.c_uint16), ("rest", ctypes.c_uint8 * 96)]


class _Attributes(ctypes.Structure):
    """struct fsxattr."""

    _fields_ = [(name, ctypes.c_uint32) for name in ("flags", "extent", "extents", "project", "cow")] + [
        ("pad", ctypes.c_uint8 * 8)
    ]


def _control(directory: str, command: int, project: int, answer: ctypes.Structure) -> None:
    """quotactl_fd(2), Linux 5.14; before that quotactl(2) on the block device of the file system."""
    request = (command << 8) | _PRJQUOTA
    descriptor = os.open(directory, LISTED_BY_LINK)
    try:
        syscalls.syscall(_QUOTACTL_FD, descriptor, request, project, ctypes.byref(answer))
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        device = os.fstat(descriptor).st_dev
        block = os.fsencode(os.path.realpath(f"/dev/block/{os.major(device)}:{os.minor(device)}"))
        syscalls.libc("quotactl", ctypes.c_int(request), block, ctypes.c_int(project), ctypes.byref(answer))
    finally:
        os.close(descriptor)


def quota_fault(directory: str) -> str:
    """Why a directory cannot be limited, in words; "" where it can. Found by asking."""
    status = _Status(version=1)
    try:
        _control(directory, _XGETQSTAT, 0, status)
    except OSError as error:
        return f"its file system has no project quota ({error.strerror})"
    return "" if status.flags & _ENFORCED else "project quota is not enforced on its file system"


def free_project(taken: Collection[int]) -> int:
    """A project id of our range that nobody has."""
    return next(number for number in range(FIRST_PROJECT, FIRST_PROJECT + _PROJECTS) if number not in taken)


def is_limited(directory: str, project: int, size: int) -> bool:
    """Whether what is made in a directory counts for a project of this limit in bytes."""
    quota = _Quota()
    try:
        _control(directory, _GETQUOTA, project, quota)
        found = _attributes(directory)
    except OSError:
        return False
    marked = found.project == project and bool(found.flags & _PROJECT_INHERIT)
    return marked and quota.hard == _blocks(directory, size)


def limit(directory: str, project: int, size: int) -> None:
    """Let all that is in a directory, now and later, count for a project, and limit that to so many bytes (0: not).

    Files may not be renamed from one project to another, so the work directory of an overlay belongs in the same one.
    """
    descriptor = os.open(directory, LISTED)
    try:
        _mark(descriptor, project)
        for item in _everything(descriptor, directory):
            _mark_entry(item, project)
    finally:
        os.close(descriptor)
    quota = _Quota(hard=_blocks(directory, size), soft=0, valid=_BLOCK_LIMITS)
    _control(directory, _SETQUOTA, project, quota)


def _blocks(directory: str, size: int) -> int:
    """A size as a limit: whole blocks of the file system, because xfs rounds up to them."""
    unit = max(os.statvfs(directory).f_frsize, _BLOCK)
    return (size + unit - 1) // unit * (unit // _BLOCK)


def _everything(descriptor: int, directory: str) -> Iterator[Item]:
    """Every directory and regular file below a directory: others have no project of their own."""
    for item in walk(descriptor, partial(_fail, directory)):
        if stat.S_ISDIR(item.facts.st_mode) or stat.S_ISREG(item.facts.st_mode):
            yield item


def _fail(directory: str, path: str, why: str) -> None:
    """What is not marked would not be limited."""
    raise StrataError(f"{directory}/{path} cannot be limited in size: {why}")


def _open(path: str, directory: Optional[int] = None) -> int:
    return os.open(path, READ_FILE, dir_fd=directory)


def _attributes(path: str) -> _Attributes:
    descriptor = _open(path)
    try:
        found = _Attributes()
        fcntl.ioctl(descriptor, _GETXATTR, found)
        return found
    finally:
        os.close(descriptor)


def _mark_entry(item: Item, project: int) -> None:
    try:
        descriptor = _open(item.name, item.directory)
    except FileNotFoundError:
        return  # deleted in this moment
    try:
        _mark(descriptor, project)
    finally:
        os.close(descriptor)


def _mark(descriptor: int, project: int) -> None:
    found = _Attributes()
    fcntl.ioctl(descriptor, _GETXATTR, found)
    found.project = project
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        found.flags |= _PROJECT_INHERIT
    fcntl.ioctl(descriptor, _SETXATTR, found)
