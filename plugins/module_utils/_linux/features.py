# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.
"""Probes what this kernel and user namespace can do with mounts. Mounts and writes nothing."""

from __future__ import annotations

import errno
import os
import re

from ansible_collections.strata.overlay.plugins.module_utils._linux.abilities import FUSE_DEVICE, Abilities
from ansible_collections.strata.overlay.plugins.module_utils._linux.mountapi import (
    MOVE_MOUNT_BENEATH,
    MOVE_MOUNT_F_EMPTY_PATH,
    FsContext,
)
from ansible_collections.strata.overlay.plugins.module_utils._linux.overlay_mounts import FUSE_OVERLAYFS
from ansible_collections.strata.overlay.plugins.module_utils._linux.syscalls import (
    AT_FDCWD,
    MOVE_MOUNT,
    in_user_namespace,
    page_size,
    syscall,
)

_PLACES = ("/usr/local/bin", "/usr/bin", "/bin")
"""Where programs are also looked for: at boot, and over some connections, PATH is short."""

_FOR_NAMESPACES = (5, 11)


def find_abilities() -> Abilities:
    """Try what this kernel can do."""
    overlay = appends = False
    userxattr = in_user_namespace()
    try:
        with FsContext("overlay") as context:
            overlay = True
            context.set("lowerdir+", "/")
            appends = _reads_options_at_once()
    except OSError as error:
        # ENODEV alone says that there is none. Any other answer is about this call: an old kernel, a policy, no memory.
        if error.errno != errno.ENODEV and not overlay:
            overlay = _listed_in_proc_filesystems()
    return Abilities(
        os.uname().release,
        overlay and (not userxattr or _is_for_namespaces()),
        appends,
        userxattr,
        page_size(),
        beneath=_can_go_beneath(),
        selinux=os.path.exists("/sys/fs/selinux/enforce"),
        fuse_overlayfs=bool(find_fuse_overlayfs()),
    )


def find_fuse_overlayfs() -> str:
    """Where the program is; "" where it is not installed, or /dev/fuse is not for us to use."""
    if not os.access(FUSE_DEVICE, os.R_OK | os.W_OK):
        return ""
    places = [*os.environ.get("PATH", "").split(":"), *_PLACES]
    programs = [f"{place}/{FUSE_OVERLAYFS}" for place in places if place.startswith("/")]
    return next((program for program in programs if os.access(program, os.X_OK)), "")


def _is_for_namespaces() -> bool:
    """Linux 5.11 lets a user namespace mount overlays; some distributions let it before. It has to be tried: nothing
    is mounted, since no layer is named.
    """
    if tuple(int(part) for part in re.findall("[0-9]+", os.uname().release)[:2]) >= _FOR_NAMESPACES:
        return True
    try:
        with FsContext("overlay") as context:
            context.tree(0)
    except OSError as error:
        return error.errno != errno.EPERM
    return True


def _reads_options_at_once() -> bool:
    """Before Linux 6.5 an overlay's options are only noted, and refused when it is mounted.

    Until then the kernel takes any, also one that it does not know (legacy_parse_param in fs/fs_context.c).
    """
    try:
        with FsContext("overlay") as context:
            context.set("strata-knows-no-such-option", "1")
    except OSError:
        return True
    return False


def _listed_in_proc_filesystems() -> bool:
    with open("/proc/filesystems", encoding="ascii") as table:
        return "overlay" in table.read().split()


def _can_go_beneath() -> bool:
    """The kernel looks at the flags before it looks at the descriptor: a flag that it does not know is EINVAL."""
    try:
        syscall(MOVE_MOUNT, -1, b"", AT_FDCWD, b"/", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_BENEATH)
    except OSError as error:
        return error.errno == errno.EBADF
    return False
