# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Resolves names inside a directory without ever leaving it, whatever links an archive contains.

Safe by the way files are opened: openat2(2) with RESOLVE_IN_ROOT takes links as if the directory were "/". Where kernel
or policy lack openat2, each component is opened by hand, and links are followed by the same rule.
"""

from __future__ import annotations

import errno
import os
from typing import Callable, Optional

from ansible_collections.strata.overlay.plugins.module_utils._layer.metadata import IMPLIED_MODE
from ansible_collections.strata.overlay.plugins.module_utils._linux import syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import HANDLE_BY_LINK, LISTED

_CONFINED = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
_MAX_LINKS = 40
"""Links on one path; the kernel's own number (path_resolution(7))."""

_ATTEMPTS = 64
"""openat2(2) asks to try again when a rename or mount anywhere on the machine comes in between."""


class RootDirectory:
    """One directory and what lies below; paths are bytes relative to it, without "..", b"" is the directory itself.

    A context manager. :ivar fd: its descriptor.
    """

    def __init__(self, path: str, on_make: Callable[[], None] = lambda: None) -> None:
        """
        :param on_make: called before a directory is made that was missing; may refuse it.
        """
        self.fd = os.open(path, LISTED)
        self._cached: Optional[tuple[bytes, int]] = None
        self._on_make = on_make
        self._has_openat2 = self._try_openat2()

    def __enter__(self) -> RootDirectory:
        return self

    def __exit__(self, *_error: object) -> None:
        self.forget()
        os.close(self.fd)

    def parent(self, path: bytes) -> int:
        """The descriptor of a directory, made with its parents where missing (0755, owner 0:0).

        It stays valid until the next call: archives are ordered, so the last directory is mostly the next as well.
        """
        if not path:
            return self.fd
        if self._cached is not None and self._cached[0] == path:
            return self._cached[1]
        self.forget()
        try:
            descriptor = self.open(path)
        except FileNotFoundError:
            descriptor = self._make(path)
        self._cached = (path, descriptor)
        return descriptor

    def forget(self) -> None:
        """Look the next parent up anew; to be called when something that may have been a directory was replaced."""
        if self._cached is not None:
            os.close(self._cached[1])
            self._cached = None

    def open(self, path: bytes) -> int:
        """A new O_PATH descriptor of an existing directory, for the caller to close.

        :raises OSError: there is none, or there are too many links on the way.
        """
        if not self._has_openat2:
            return self._open_by_hand(path)
        for _attempt in range(_ATTEMPTS):
            try:
                return syscalls.openat2(self.fd, path or b".", HANDLE_BY_LINK, _CONFINED)
            except BlockingIOError:
                continue
        raise BlockingIOError(errno.EAGAIN, "directories are being renamed all the time")

    def _try_openat2(self) -> bool:
        try:
            os.close(syscalls.openat2(self.fd, b".", HANDLE_BY_LINK, _CONFINED))
        except OSError as error:
            # Before Linux 5.6, and in containers whose seccomp profile does not know the call.
            if error.errno in (errno.ENOSYS, errno.EPERM):
                return False
            raise
        return True

    def _open_by_hand(self, path: bytes) -> int:
        """What openat2 does with RESOLVE_IN_ROOT. Nobody else may rename directories in the tree meanwhile."""
        waiting = path.split(b"/")[::-1]
        links = 0
        descriptor = os.open(b".", HANDLE_BY_LINK, dir_fd=self.fd)
        while waiting:
            part = waiting.pop()
            above = descriptor
            try:
                descriptor = self._step(above, part)
            except NotADirectoryError:
                target = _read_link(above, part)
                links += 1
                if links > _MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None
                waiting += target.split(b"/")[::-1]
                descriptor = os.open(b".", HANDLE_BY_LINK, dir_fd=self.fd if target.startswith(b"/") else above)
            finally:
                os.close(above)
        return descriptor

    def _step(self, directory: int, part: bytes) -> int:
        """One component further, where it is no link; above the root is the root."""
        if part in (b"", b".") or (part == b".." and os.path.samestat(os.fstat(directory), os.fstat(self.fd))):
            part = b"."
        return os.open(part, HANDLE_BY_LINK | os.O_NOFOLLOW, dir_fd=directory)

    def _make(self, path: bytes) -> int:
        """Make what is missing of a path, from the top down, and open its end."""
        parts = path.split(b"/")
        above = self.open(b"")
        for depth, part in enumerate(parts, 1):
            try:
                prefix = b"/".join(parts[:depth])
                try:
                    below = self.open(prefix)
                except FileNotFoundError:
                    self._on_make()
                    _make_implied(above, part)
                    below = self.open(prefix)
            finally:
                os.close(above)
            above = below
        return above


def _read_link(directory: int, name: bytes) -> bytes:
    """:raises NotADirectoryError: it is no link."""
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None


def _make_implied(parent: int, name: bytes) -> None:
    os.mkdir(name, 0o700, dir_fd=parent)
    # Said again, because mkdir obeys the umask and a setgid directory above.
    os.chown(name, 0, 0, dir_fd=parent, follow_symlinks=False)
    os.chmod(name, IMPLIED_MODE, dir_fd=parent)
