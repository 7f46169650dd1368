# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Marks of whiteouts and opaque directories in overlayfs and fuse-overlayfs layers. Pure.

fuse-overlayfs uses the kernel's marks and adds its own. Sources: kernel overlayfs.rst; fuse-overlayfs main.c,
set_fd_opaque, set_fd_origin.
"""

from __future__ import annotations

import os
import stat

OVERLAY_PREFIXES = ("trusted.overlay.", "user.overlay.")
"""With which the names of its own attributes begin, whoever has mounted it."""

FUSE_OPAQUES = (".wh..wh..opq", ".wh..opq")
"""An empty file and a whiteout that fuse-overlayfs leaves in each directory that hides all below it."""

FUSE_OPAQUE_XATTR = "user.fuseoverlayfs.opaque"
"""What it gives such a directory where it may not set the kernel's attribute."""

FUSE_PREFIX = "user.fuseoverlayfs."
FUSE_WHITEOUT = ".wh."
"""With which the name of a whiteout begins where it may make no devices (Linux before 5.8 in a user namespace). Nobody
else can make such a name in what it shows.
"""


def own_prefix(userxattr: bool) -> str:
    """The one of them that a mount heeds: the second in an unprivileged user namespace."""
    return OVERLAY_PREFIXES[userxattr]


def opaque_xattr(userxattr: bool) -> str:
    """The attribute of a directory, ``y``, that hides what lower layers have there."""
    return f"{own_prefix(userxattr)}opaque"


def opaque_xattrs(userxattr: bool, fuse: bool) -> tuple[str, ...]:
    """The same of a writable layer, which fuse-overlayfs may have written."""
    return (opaque_xattr(userxattr), FUSE_OPAQUE_XATTR) if fuse else (opaque_xattr(userxattr),)


def is_whiteout(facts: os.stat_result) -> bool:
    """Whether this entry of a layer says that there is nothing."""
    return stat.S_ISCHR(facts.st_mode) and facts.st_rdev == 0
