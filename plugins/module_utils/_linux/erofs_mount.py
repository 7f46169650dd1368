# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Mounts a layer image: from the file itself if the kernel can, else by a loop device.

Linux 6.12 and later mount EROFS from a file. Earlier ones answer ENOTBLK, and so do these where it lies on tmpfs or
overlay, which have no blocks of their own. The loop device is read-only and goes with the mount.

Sources: Linux fs/erofs/super.c; loop(4), linux/loop.h (LOOP_CONFIGURE, Linux 5.8).
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from ansible_collections.strata.overlay.plugins.module_utils._linux.files import READ, READ_FILE
from ansible_collections.strata.overlay.plugins.module_utils._linux.mount_flags import ATTR_RDONLY
from ansible_collections.strata.overlay.plugins.module_utils._linux.mountapi import VALUE_MAX, FsContext, Tree

FROM_FILE, BY_LOOP = "file", "loop"
"""How an image is mounted."""

_CONTROL = "/dev/loop-control"
_GET_FREE = 0x4C82
_CONFIGURE = 0x4C0A
_READ_ONLY, _AUTOCLEAR = 1, 4
_LOOP_CONFIG = struct.Struct("<II 40x 12x I 64s 64x 32x 16x 64x")
"""struct loop_config: fd and block_size, lo_flags and lo_file_name of its loop_info64, and reserved zeros."""

_ATTEMPTS = 64
"""Others may take the free device that the kernel has named."""


def image_tree(path: str) -> tuple[Tree, str]:
    """An image as a mount that hangs nowhere yet, and how it was mounted.

    :raises OSError: as the kernel says; EPERM in a user namespace, ENODEV where there is no EROFS.
    """
    descriptor = os.open(path, READ_FILE)
    try:
        try:
            # The mount table shows the source; a path may be longer than an option's value.
            fits = len(os.fsencode(path)) <= VALUE_MAX
            return _mounted(path if fits else f"/proc/self/fd/{descriptor}"), FROM_FILE
        except OSError as error:
            if error.errno != errno.ENOTBLK:
                raise
        return _by_loop(descriptor, path), BY_LOOP
    finally:
        os.close(descriptor)


def _mounted(source: str) -> Tree:
    with FsContext("erofs") as context:
        context.set("source", source)
        context.flag("ro")
        return context.tree(ATTR_RDONLY)


def _by_loop(descriptor: int, path: str) -> Tree:
    for _attempt in range(_ATTEMPTS):
        control = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
        try:
            device = f"/dev/loop{fcntl.ioctl(control, _GET_FREE)}"
        finally:
            os.close(control)
        loop = os.open(device, READ)
        try:
            name = os.fsencode(path)[-63:]
            fcntl.ioctl(loop, _CONFIGURE, _LOOP_CONFIG.pack(descriptor, 512, _READ_ONLY | _AUTOCLEAR, name))
            return _mounted(device)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
        finally:
            os.close(loop)
    raise OSError(errno.EBUSY, "no loop device stays free", path)
