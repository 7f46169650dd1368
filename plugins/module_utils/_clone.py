# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""An exact second copy of a layer's tree, sharing its blocks where the file system can.

For a DiffID that stands twice in one chain: overlayfs refuses one directory as two lowers. Source: ioctl_ficlone(2).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import Dict, List, Tuple

from ansible_collections.strata.overlay.plugins.module_utils._attributes import is_file_systems
from ansible_collections.strata.overlay.plugins.module_utils._holes import data_ranges

_FICLONE = 0x40049409
_CHUNK = 1 << 20
LISTED = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
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
    directories: List[bytes] = []
    waiting = [b"."]
    while waiting:
        directory = waiting.pop()
        directories.append(directory)
        for name in names_in(source, directory):
            status = os.stat(name, dir_fd=source, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                copier.make_directory(name)
                waiting.append(name)
            else:
                copier.copy(source, name, status)
    # A directory's time changes with everything made in it, so its own metadata is last, the top's the very last.
    for directory in reversed(directories):
        copier.copy_metadata(source, directory, os.stat(directory, dir_fd=source, follow_symlinks=False))


def names_in(root: int, directory: bytes) -> List[bytes]:
    """What lies in a directory, each name relative to the root, as the directory's is."""
    descriptor = os.open(directory, LISTED, dir_fd=root)
    try:
        return [directory + b"/" + os.fsencode(name) for name in os.listdir(descriptor)]
    finally:
        os.close(descriptor)


class Copier:
    """Copies entries into one tree, from below roots on one file system. Names are bytes relative to all roots."""

    def __init__(self, target: int, left_out: Tuple[str, ...] = ()) -> None:
        """
        :param target: descriptor of the tree's top directory.
        :param left_out: attributes whose names begin so are not copied.
        """
        self._target = target
        self._left_out = left_out
        self._links: Dict[Tuple[int, int], bytes] = {}

    def make_directory(self, name: bytes) -> None:
        """Make a directory, as yet without what ``copy_metadata`` brings."""
        os.mkdir(name, 0o700, dir_fd=self._target)

    def copy(self, source: int, name: bytes, status: os.stat_result) -> None:
        """Copy what is no directory.

        :param source: descriptor of the root below which it lies.
        """
        if status.st_nlink > 1:
            first = self._links.setdefault((status.st_dev, status.st_ino), name)
            if first != name:
                os.link(first, name, src_dir_fd=self._target, dst_dir_fd=self._target, follow_symlinks=False)
                return
        if stat.S_ISREG(status.st_mode):
            self._copy_file(source, name)
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=self._target)
        else:
            os.mknod(name, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev, dir_fd=self._target)
        self.copy_metadata(source, name, status)

    def _copy_file(self, root: int, name: bytes) -> None:
        flags = os.O_NOFOLLOW | os.O_CLOEXEC
        source = os.open(name, os.O_RDONLY | flags, dir_fd=root)
        try:
            target = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags, 0o600, dir_fd=self._target)
            try:
                _copy_content(source, target)
            finally:
                os.close(target)
        finally:
            os.close(source)

    def copy_metadata(self, source: int, name: bytes, status: os.stat_result) -> None:
        """Owner, mode, attributes and times, in the order that keeps them all: chown(2) clears setuid bits and
        capabilities.
        """
        os.chown(name, status.st_uid, status.st_gid, dir_fd=self._target, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=self._target)
        # By way of /proc, because a link or device must not be opened and these calls take no directory descriptor.
        from_path = b"/proc/self/fd/%d/%s" % (source, name)
        to_path = b"/proc/self/fd/%d/%s" % (self._target, name)
        for attribute in os.listxattr(from_path, follow_symlinks=False):
            if not (attribute.startswith(self._left_out) or is_file_systems(attribute)):
                value = os.getxattr(from_path, attribute, follow_symlinks=False)
                os.setxattr(to_path, attribute, value, follow_symlinks=False)
        times = (status.st_atime_ns, status.st_mtime_ns)
        os.utime(name, ns=times, dir_fd=self._target, follow_symlinks=False)


def _copy_content(source: int, target: int) -> None:
    try:
        fcntl.ioctl(target, _FICLONE, source)
        return
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    status = os.fstat(source)
    os.ftruncate(target, status.st_size)
    for start, end in data_ranges(source, status):
        _copy_range(source, target, start, end)


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
