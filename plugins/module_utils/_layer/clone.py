# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Makes an exact second copy of a layer's tree, by reflink where the file system can.

For a DiffID that stands twice in one chain: overlayfs refuses one directory as two lowers. Source: ioctl_ficlone(2).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from typing import Callable, Optional

from ansible_collections.strata.overlay.plugins.module_utils._layer.reserve import ENTRY, Reserve
from ansible_collections.strata.overlay.plugins.module_utils._linux.attributes import is_file_systems
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import HANDLE, LISTED
from ansible_collections.strata.overlay.plugins.module_utils._linux.holes import data_ranges

_FICLONE = 0x40049409
_CHUNK = 1 << 20
_AT_ONCE = 64 << 20
"""Bytes that are copied before free space is checked again."""
_LONG_PATH = 3072
"""Bytes, far enough below those of the longest path (PATH_MAX, 4096): a name has 255 at most."""
_CANNOT = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTTY, errno.EPERM, errno.EBADF)


def clone_tree(source: str, target: str) -> None:
    """Copy a directory tree to ``target``, which must not exist.

    Kept are hard links, owners, modes, times to the nanosecond, every attribute but the file system's own, devices,
    fifos and holes. Links are
    never followed. After an error the target is incomplete, for ``remove_tree``.

    :raises OSError: as the kernel says; FileExistsError when the target exists.
    """
    os.mkdir(target, 0o700)
    from_root = os.open(source, LISTED)
    try:
        to_root = os.open(target, LISTED)
        try:
            _clone(from_root, Copier(to_root))
        finally:
            os.close(to_root)
    finally:
        os.close(from_root)


def _clone(source: int, copier: Copier) -> None:
    directories: list[bytes] = []
    waiting = [b"."]
    while waiting:
        directory = waiting.pop()
        directories.append(directory)
        for name in names_in(source, directory):
            status = status_at(source, name)
            if stat.S_ISDIR(status.st_mode):
                copier.make_directory(name)
                waiting.append(name)
            else:
                copier.copy(source, name, status)
    # A directory's time changes with everything made in it, so its own metadata is last, the top's the very last.
    for directory in reversed(directories):
        copier.copy_metadata(source, directory, status_at(source, directory))


def names_in(root: int, directory: bytes) -> list[bytes]:
    """What lies in a directory, each name relative to the root, as the directory's is."""
    descriptor = open_at(root, directory, LISTED)
    try:
        return [directory + b"/" + os.fsencode(name) for name in os.listdir(descriptor)]
    finally:
        os.close(descriptor)


class Copier:
    """Copies entries into one tree, from below roots on one file system. Names are bytes relative to all roots."""

    def __init__(self, target: int, left_out: tuple[str, ...] = (), reserve: Optional[Reserve] = None) -> None:
        """
        :param reserve: what is left free on the file system; None for the default.
        :param target: descriptor of the tree's top directory.
        :param left_out: attributes whose names begin so are not copied.
        """
        self._target = target
        self._left_out = left_out
        self._reserve = reserve or Reserve(target, option="")
        self._links: dict[tuple[int, int], bytes] = {}

    def make_directory(self, name: bytes) -> None:
        """Make a directory, as yet without what ``copy_metadata`` brings."""
        with near(self._target, name) as (target, base):
            self._reserve.wrote(ENTRY)
            os.mkdir(base, 0o700, dir_fd=target)

    def copy(self, source: int, name: bytes, status: os.stat_result) -> None:
        """Copy what is no directory.

        :param source: descriptor of the root below which it lies.
        """
        if status.st_nlink > 1:
            first = self._links.setdefault((status.st_dev, status.st_ino), name)
            if first != name:
                with near(self._target, first) as (old, old_base), near(self._target, name) as (new, base):
                    os.link(old_base, base, src_dir_fd=old, dst_dir_fd=new, follow_symlinks=False)
                return
        with near(source, name) as (place, base), near(self._target, name) as (target, _base):
            self._reserve.wrote(ENTRY)
            if stat.S_ISREG(status.st_mode):
                _copy_file(place, target, base, self._reserve.wrote)
            elif stat.S_ISLNK(status.st_mode):
                os.symlink(os.readlink(base, dir_fd=place), base, dir_fd=target)
            else:
                os.mknod(base, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev, dir_fd=target)
            self._copy_metadata(place, target, base, status)

    def copy_metadata(self, source: int, name: bytes, status: os.stat_result) -> None:
        """Owner, mode, attributes and times, in the order that keeps them all: chown(2) clears setuid bits and
        capabilities.
        """
        with near(source, name) as (place, base), near(self._target, name) as (target, _base):
            self._copy_metadata(place, target, base, status)

    def _copy_metadata(self, source: int, target: int, name: bytes, status: os.stat_result) -> None:
        os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=target)
        # By way of /proc, because a link or device must not be opened and these calls take no directory descriptor.
        from_path = b"/proc/self/fd/%d/%s" % (source, name)
        to_path = b"/proc/self/fd/%d/%s" % (target, name)
        for attribute in os.listxattr(from_path, follow_symlinks=False):
            if not (attribute.startswith(self._left_out) or is_file_systems(attribute)):
                value = os.getxattr(from_path, attribute, follow_symlinks=False)
                os.setxattr(to_path, attribute, value, follow_symlinks=False)
        times = (status.st_atime_ns, status.st_mtime_ns)
        os.utime(name, ns=times, dir_fd=target, follow_symlinks=False)


def _copy_file(place: int, there: int, name: bytes, wrote: Callable[[int], None]) -> None:
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    source = os.open(name, os.O_RDONLY | flags, dir_fd=place)
    try:
        target = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags, 0o600, dir_fd=there)
        try:
            _copy_content(source, target, wrote)
        finally:
            os.close(target)
    finally:
        os.close(source)


@contextlib.contextmanager
def near(root: int, name: bytes) -> Iterator[tuple[int, bytes]]:
    """A descriptor and a name that lead to what ``name`` leads to below ``root``: others where a call, by way of /proc
    too, does not take a path that long.
    """
    descriptor = -1
    try:
        while len(name) > _LONG_PATH:
            end = name.rfind(b"/", 0, _LONG_PATH)
            below = os.open(name[:end], HANDLE, dir_fd=root)
            if descriptor >= 0:
                os.close(descriptor)
            root = descriptor = below
            name = name[end + 1 :]
        yield root, name
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def open_at(root: int, name: bytes, flags: int) -> int:
    """open(2) below a root, whatever the length of the name."""
    with near(root, name) as (place, base):
        return os.open(base, flags, dir_fd=place)


def status_at(root: int, name: bytes) -> os.stat_result:
    """lstat(2) below a root, whatever the length of the name."""
    with near(root, name) as (place, base):
        return os.stat(base, dir_fd=place, follow_symlinks=False)


def _copy_content(source: int, target: int, wrote: Callable[[int], None]) -> None:
    try:
        fcntl.ioctl(target, _FICLONE, source)
        return
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    status = os.fstat(source)
    os.ftruncate(target, status.st_size)
    for start, end in data_ranges(source, status):
        for at in range(start, end, _AT_ONCE):
            upto = min(end, at + _AT_ONCE)
            wrote(upto - at)
            _copy_range(source, target, at, upto)


def _copy_range(source: int, target: int, start: int, end: int) -> None:
    """Inside the kernel where it can, else through memory."""
    at = start
    try:
        while at < end:
            copied = os.copy_file_range(source, target, end - at, at, at)
            if not copied:
                break
            at += copied
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    while at < end:
        chunk = os.pread(source, min(_CHUNK, end - at), at)
        if not chunk:
            raise OSError(errno.EIO, "the file was cut short while it was copied")
        at += os.pwrite(target, chunk, at)
