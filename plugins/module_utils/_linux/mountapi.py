# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.
"""The mount API of Linux 5.2 and later: fsopen, fsconfig, fsmount, open_tree, move_mount.

Sources: fsopen(2), fsconfig(2), fsmount(2), open_tree(2), move_mount(2), mount_setattr(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from typing import Optional

from ansible_collections.strata.overlay.plugins.module_utils._linux.mount_flags import (
    ATTR_NOATIME,
    ATTR_NODIRATIME,
    ATTR_RDONLY,
    ATTR_TIMES,
)
from ansible_collections.strata.overlay.plugins.module_utils._linux.syscalls import (
    AT_FDCWD,
    FSCONFIG,
    FSMOUNT,
    FSOPEN,
    MOUNT_SETATTR,
    MOVE_MOUNT,
    OPEN_TREE,
    syscall,
)

MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_BENEATH = 0x200

_AT_EMPTY_PATH = 0x1000
_CLOEXEC = 0x1
_OPEN_TREE_CLONE = 0x1
_SET_FLAG = 0
_SET_STRING = 1
_CMD_CREATE = 6
VALUE_MAX = 255
"""fs/fsopen.c copies at most 256 bytes of a value, the terminating zero included."""


class _MountAttributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


class Tree:
    """A mount that hangs nowhere yet; it goes when it is closed before it is attached. A context manager.

    :ivar fd: its descriptor.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self.fd)

    def set(self, attributes: int = 0, clear: int = 0, propagation: int = 0, user_namespace: int = 0) -> None:
        """mount_setattr(2), Linux 5.12.

        :param propagation: MS_PRIVATE, MS_SLAVE, MS_SHARED or MS_UNBINDABLE; 0 leaves it.
        :param user_namespace: descriptor of the namespace whose maps ATTR_IDMAP takes.
        """
        change = _MountAttributes(attributes, clear, propagation, user_namespace)
        syscall(MOUNT_SETATTR, self.fd, b"", _AT_EMPTY_PATH, ctypes.byref(change), ctypes.sizeof(change))

    def attach(self, target: str, beneath: bool = False) -> None:
        """Hang it at a path without links, on top of what is there or directly beneath the uppermost mount there.

        Beneath (Linux 6.5) the kernel answers EINVAL where nothing is mounted at the path, where what is mounted there
        came from the first user namespace into another one, and where the mount above would be mounted over by
        propagation of its own parent.
        """
        flags = MOVE_MOUNT_F_EMPTY_PATH | (MOVE_MOUNT_BENEATH if beneath else 0)
        syscall(MOVE_MOUNT, self.fd, b"", AT_FDCWD, os.fsencode(target), flags)


def clone_mount(path: str) -> Tree:
    """What is seen at a directory, and nothing that is mounted below it, as a tree of its own: a bind mount."""
    return Tree(syscall(OPEN_TREE, AT_FDCWD, os.fsencode(path), _OPEN_TREE_CLONE | os.O_CLOEXEC))


def read_only_view(path: str) -> Tree:
    """The tree at a directory without what is mounted in it, read-only and without access times, reached by no path.

    :raises OSError: as the kernel says; ENOSYS before Linux 5.12, EPERM where mounting is not allowed.
    """
    view = clone_mount(path)
    try:
        view.set(ATTR_RDONLY | ATTR_NOATIME | ATTR_NODIRATIME, clear=ATTR_TIMES)
    except OSError:
        os.close(view.fd)
        raise
    return view


class FsContext:
    """A file system being configured: fsopen(2), fsconfig(2), fsmount(2)."""

    def __init__(self, fstype: str) -> None:
        self._fd = syscall(FSOPEN, fstype.encode(), _CLOEXEC)

    def __enter__(self) -> FsContext:
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self._fd)

    def messages(self) -> str:
        """What the kernel has written into the context's log, without its class letters, joined by "; "."""
        lines: list[str] = []
        with contextlib.suppress(OSError):
            while True:
                lines.append(os.read(self._fd, 4096).decode(errors="replace").strip())
        return "; ".join(line[2:] if line[1:2] == " " else line for line in lines)

    def _config(self, command: int, key: Optional[str], value: Optional[str]) -> None:
        try:
            syscall(
                FSCONFIG,
                self._fd,
                command,
                key.encode() if key else None,
                os.fsencode(value) if value is not None else None,
                0,
            )
        except OSError as error:
            messages = self.messages()
            what = value if value is None or value.startswith("/") else f"{key}={value}"
            raise OSError(error.errno, f"{error.strerror}{': ' + messages if messages else ''}", what) from error

    def set(self, key: str, value: str) -> None:
        """One option with a value of at most 255 bytes."""
        if len(os.fsencode(value)) > VALUE_MAX:
            raise OSError(errno.ENAMETOOLONG, f"the value of mount option {key} is longer than 255 bytes", value)
        self._config(_SET_STRING, key, value)

    def flag(self, key: str) -> None:
        """One option without a value."""
        self._config(_SET_FLAG, key, None)

    def create(self) -> None:
        """Create the super block; it goes with the context where no mount of it is made."""
        self._config(_CMD_CREATE, None, None)

    def tree(self, attributes: int) -> Tree:
        """Create the super block; a mount of it with these ATTR_* bits that hangs nowhere yet."""
        self.create()
        return Tree(syscall(FSMOUNT, self._fd, _CLOEXEC, attributes))
