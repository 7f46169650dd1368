# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Deletes a tree that may be hostile: follows no link, enters no mount, handles any depth with few descriptors.

Directories are entered one after the other, as long as few of them are open. What lies deeper is first renamed to the
top of the rest under a name of its own, then emptied there: so depth never grows and paths never get too long. A mount
point is met before it is entered: the kernel refuses to open it for us, and to rename it.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import secrets
import stat
from collections.abc import Iterator

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._linux import syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import HANDLE, LISTED

_OPEN_AT_ONCE = 16
_WORTH_SHARING = 512
_RESOLVE_NO_XDEV = 0x01
"""openat2(2): fail with EXDEV rather than enter another mount, also one of the same file system."""


def remove_tree(path: str) -> None:
    """Delete what is at ``path``, a whole tree or a single file or link. Nothing there is no error.

    What cannot be deleted does not keep the rest of the tree: the first error is raised when all else is gone.

    :raises StrataError: something is mounted in the tree.
    :raises OSError: as the kernel says, with the path.
    """
    parent, name = os.path.split(os.path.abspath(path))
    try:
        descriptor = os.open(parent, LISTED)
    except FileNotFoundError:
        return
    try:
        remove_at(descriptor, os.fsencode(name))
    except FileNotFoundError:
        return
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        os.close(descriptor)


def remove_at(parent: int, name: bytes) -> None:
    """The same for one name in an open directory.

    :raises FileNotFoundError: there is nothing of that name.
    """
    if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=parent)
        return
    _remove_directory(parent, name, 0)


def _remove_directory(parent: int, name: bytes, depth: int) -> None:
    directory = _open_directory(parent, name)
    try:
        if depth < _OPEN_AT_ONCE:
            failed: list[Exception] = []
            below = _unlink_all_files(directory, failed)
            if depth == 0 and len(below) >= _WORTH_SHARING:
                below = _share(directory, below)
            for inner in below:
                try:
                    _remove_directory(directory, inner, depth + 1)
                except FileNotFoundError:
                    continue  # another run is deleting the same
                except (OSError, StrataError) as error:
                    failed.append(error)
            if failed:
                raise failed[0]
        else:
            _empty(directory)
    finally:
        os.close(directory)
    os.rmdir(name, dir_fd=parent)


def _share(directory: int, names: list[bytes]) -> list[bytes]:
    """Delete half of many directories here and the other half in a second process; returns those that are still there.

    What keeps them is not reported: another attempt finds the same.
    """
    if len(os.sched_getaffinity(0)) < 2:
        return names
    theirs = names[1::2]
    helper = os.fork()
    if helper == 0:
        try:
            syscalls.die_with_parent()
            for name in theirs:
                with contextlib.suppress(OSError, StrataError):
                    _remove_directory(directory, name, 1)
        finally:
            os._exit(0)
    try:
        for name in names[::2]:
            with contextlib.suppress(OSError, StrataError):
                _remove_directory(directory, name, 1)
    finally:
        os.waitpid(helper, 0)
    left = {os.fsencode(name) for name in os.listdir(directory)}
    return [name for name in names if name in left]


def _unlink_all_files(directory: int, failed: list[Exception]) -> list[bytes]:
    """Unlink all that is not a directory; returns the directories."""
    with os.scandir(directory) as listing:
        found = [(item.name, item.is_dir(follow_symlinks=False)) for item in listing]
    for name, is_directory in found:
        if not is_directory:
            try:
                os.unlink(name, dir_fd=directory)
            except OSError as error:
                failed += [] if isinstance(error, FileNotFoundError) else [error]
    return [os.fsencode(name) for name, is_directory in found if is_directory]


def _empty(top: int) -> None:
    prefix = b".removing-" + secrets.token_hex(8).encode() + b"-"
    fresh = (prefix + b"%d" % number for number in itertools.count())
    waiting = _unlink_files(top, top, fresh)
    while waiting:
        name = waiting.pop()
        directory = _open_directory(top, name)
        try:
            waiting += _unlink_files(directory, top, fresh)
        finally:
            os.close(directory)
        os.rmdir(name, dir_fd=top)


def _unlink_files(directory: int, top: int, fresh: Iterator[bytes]) -> list[bytes]:
    """Unlink all that is not a directory; move the directories to the top and give their names there."""
    with os.scandir(directory) as listing:
        found = [(os.fsencode(item.name), item.is_dir(follow_symlinks=False)) for item in listing]
    moved = []
    for name, is_directory in found:
        if not is_directory:
            os.unlink(name, dir_fd=directory)
            continue
        new_name = next(fresh)
        _move_up(directory, name, top, new_name)
        moved.append(new_name)
    return moved


def _move_up(directory: int, name: bytes, top: int, new_name: bytes) -> None:
    try:
        try:
            os.rename(name, new_name, src_dir_fd=directory, dst_dir_fd=top)
        except PermissionError:
            _grant(directory, name)  # an owner who is not root may move only what is writable
            os.rename(name, new_name, src_dir_fd=directory, dst_dir_fd=top)
    except OSError as error:
        if error.errno in (errno.EBUSY, errno.EXDEV):
            raise _mounted(name) from error
        raise


def _open_directory(parent: int, name: bytes) -> int:
    """Open a directory for listing and emptying, unless it is a mount point or a link."""
    try:
        descriptor = _open_same_mount(parent, name)
    except PermissionError:
        _grant(parent, name)
        descriptor = _open_same_mount(parent, name)
    status = os.fstat(descriptor)
    if status.st_dev != os.fstat(parent).st_dev:
        os.close(descriptor)
        raise _mounted(name)
    if status.st_mode & stat.S_IRWXU != stat.S_IRWXU:
        os.fchmod(descriptor, stat.S_IRWXU)
    return descriptor


def _open_same_mount(parent: int, name: bytes) -> int:
    try:
        return syscalls.openat2(parent, name, LISTED, _RESOLVE_NO_XDEV)
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise _mounted(name) from error
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise
    # An old kernel, or a filter of system calls: only renaming reveals a mount of the same file system.
    renamed = b".removing-" + secrets.token_hex(8).encode()
    _move_up(parent, name, parent, renamed)
    os.rename(renamed, name, src_dir_fd=parent, dst_dir_fd=parent)
    return os.open(name, LISTED, dir_fd=parent)


def _grant(parent: int, name: bytes) -> None:
    """Give the owner all rights to a directory, never to what a link points at."""
    handle = os.open(name, HANDLE, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{handle}", stat.S_IRWXU)
    finally:
        os.close(handle)


def _mounted(name: bytes) -> StrataError:
    shown = repr(os.fsdecode(name))
    return StrataError(f"the tree is not deleted: something is mounted at its directory {shown}; unmount it first")
