# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Finds the file system below a path and what it lacks."""

from __future__ import annotations

import ctypes
import os

from ansible_collections.strata.overlay.plugins.module_utils._linux import syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.abilities import NO_FAULT, Fault

_STATFS_BYTES = 256


OVERLAYFS = 0x794C7630


def file_system_of(directory: str) -> int:
    """The file system type number of statfs(2); 0 if there is none."""
    buffer = ctypes.create_string_buffer(_STATFS_BYTES)
    try:
        syscalls.libc("statfs", os.fsencode(directory), buffer)
    except OSError:
        return 0
    return ctypes.c_long.from_buffer(buffer).value & 0xFFFFFFFF


def whiteout_fault(directory: int) -> Fault:
    """Why nothing can be marked as deleted in a directory, after the kernel has refused it.

    :param directory: a descriptor.
    """
    if file_system_of(f"/proc/self/fd/{directory}") != OVERLAYFS:
        return NO_FAULT
    return Fault(
        "the file system of the store is an overlay itself, as the root of a container is, and nobody can make the "
        "mark of a deleted file (a device 0:0) on one",
        "put the store on ext4, xfs or btrfs (a volume of the container, mounted at the store's root)",
    )
