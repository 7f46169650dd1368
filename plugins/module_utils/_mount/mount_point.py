# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""A mount point resolved once and held by a descriptor, so that what was checked is what gets mounted.

Held is the directory around it. The name in it leads to whatever is mounted on top there, and cannot be renamed while
anything is mounted on it (rename(2), EBUSY) nor, where nobody else may write around it, at any other time.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._linux import mountinfo, syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import HANDLE
from ansible_collections.strata.overlay.plugins.module_utils._linux.mounts import Mount
from ansible_collections.strata.overlay.plugins.module_utils._mount.path_check import (
    open_parent,
    others_may_change,
    trusted,
)


@dataclass(frozen=True)
class MountPoint:
    """
    :ivar path: without links, as the mount table has it. :ivar name: its last part.
    :ivar parent: descriptor of the directory around it.
    """

    path: str
    name: str
    parent: int

    @property
    def at(self) -> str:
        """The path by which system calls reach what is on top there."""
        return f"/proc/self/fd/{self.parent}/{self.name}"

    def top_id(self) -> int:
        """The id of the mount that is on top there, or around it where nothing is mounted."""
        opened = os.open(self.name, HANDLE, dir_fd=self.parent)
        try:
            return _mount_id(opened)
        finally:
            os.close(opened)

    def top(self) -> Optional[Mount]:
        """The line of the mount table for what is mounted on top there; None where nothing is."""
        number = self.top_id()
        if number == _mount_id(self.parent):
            return None
        return next((line for line in mountinfo.read() if line.mount_id == number), None)


def _mount_id(descriptor: int) -> int:
    """proc(5), /proc/pid/fdinfo: Linux 3.15."""
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as facts:
        return next(int(line.split()[1]) for line in facts if line.startswith("mnt_id:"))


@contextlib.contextmanager
def mount_point(path: str) -> Iterator[MountPoint]:
    """The directory at a path, made where it is missing, for a mount.

    :raises StrataError: someone else could lead the path elsewhere. :raises OSError: as the kernel says.
    """
    link, directory = open_parent(path)
    if link or directory:
        raise StrataError(f"{link or directory} on the way to {path} could be changed by others than root")
    with _held(os.path.realpath(path), make=True) as place:
        yield place


@contextlib.contextmanager
def _held(resolved: str, make: bool) -> Iterator[MountPoint]:
    """Every part of a path without links is opened in the one before it, and where a mount comes there, checked."""
    *above, name = resolved.strip("/").split("/")
    if not name:
        raise StrataError("nothing is mounted at /")
    known = trusted()
    parent = os.open("/", HANDLE)
    try:
        for part in (*above, ""):
            entry = part or name
            if make:
                facts = _made(parent, entry)
                if others_may_change(os.fstat(parent), facts, f"/proc/self/fd/{parent}", known):
                    raise StrataError(
                        f"{os.readlink(f'/proc/self/fd/{parent}')} on the way to {resolved} could be changed by others "
                        "than root"
                    )
            if part:
                below = os.open(part, HANDLE, dir_fd=parent)
                os.close(parent)
                parent = below
        yield MountPoint(resolved, name, parent)
    except OSError as error:
        if error.filename in ("/", name, *above):
            error.filename = resolved
        raise
    finally:
        os.close(parent)


def _made(parent: int, name: str) -> Optional[os.stat_result]:
    """What a directory holds by a name, which is made where it is missing. None where what is mounted there has lost
    the program that served it: nobody can rename a mount point.
    """
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=parent)
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            return None
        raise


def unmount_line(mount_id: int, detach: bool) -> str:
    """Unmount one mount of this namespace, wherever it is by now, and no other. Returns its path.

    :raises StrataError: it is not there, or something else is mounted over it. :raises OSError: as the kernel says.
    """
    line = next((line for line in mountinfo.read() if line.mount_id == mount_id), None)
    if line is None:
        raise StrataError("what was mounted there has been unmounted by others meanwhile; run again")
    with _held(line.path, make=False) as place:
        if place.top_id() != mount_id:
            raise StrataError(f"something else has been mounted over {line.path} meanwhile; unmount it and run again")
        syscalls.umount(place.at, syscalls.MNT_DETACH if detach else 0)
    return line.path


def remove_mount_point(path: str) -> None:
    """Remove an empty directory where a stack was mounted; one that is not empty stays."""
    if open_parent(path) != ("", ""):
        return
    with contextlib.suppress(OSError, StrataError), _held(os.path.realpath(path), make=False) as place:
        os.rmdir(place.name, dir_fd=place.parent)
