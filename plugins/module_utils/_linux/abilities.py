# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""What a kernel can do with mounts, as a value, with the reason for what it cannot. Pure: `_linux/features` probes."""

from __future__ import annotations

from typing import NamedTuple

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import MAX_LAYERS

_LINK = "l/" + "A" * 26


_PAGE_OPTIONS = f"index=off,metacopy=off,redirect_dir=off,lowerdir=,upperdir={_LINK},workdir={'0' * 64}/volatile/work"
"""What a page holds beside the names of the lowers; see _overlay.option_text."""


FUSE_DEVICE = "/dev/fuse"


class Fault(NamedTuple):
    """Why something cannot be had, in words, and what to do about it; both "" where it can be had."""

    why: str = ""
    cure: str = ""


NO_FAULT = Fault()


class Abilities(NamedTuple):
    """What can be done here.

    :ivar overlay: the overlay file system is there, and may be mounted by whom this process is.
    :ivar lowerdir_append: lowers can be given one by one (``lowerdir+``, Linux 6.8), so their names need no page.
    :ivar userxattr: marks are kept in ``user.overlay.*``, as an unprivileged user namespace needs it.
    :ivar selinux: labels are in force, so a mount can have a context.
    :ivar fuse_overlayfs: the program of this name can take its place.
    :ivar beneath: a mount can be put beneath another one (Linux 6.5), so a stack is switched without a gap.
    """

    release: str
    overlay: bool
    lowerdir_append: bool
    userxattr: bool
    page_size: int
    beneath: bool = False
    selinux: bool = False
    fuse_overlayfs: bool = False

    def layer_limit(self, context: str = "") -> int:
        """The most layers one stack can have here: 500, or what fits in a page of ``l/<26>`` (see DESIGN, rule 1).

        :param context: the stack's SELinux label, which goes into the same page.
        """
        if self.lowerdir_append:
            return MAX_LAYERS
        others = _PAGE_OPTIONS + (",userxattr" if self.userxattr else "") + (f',context="{context}"' if context else "")
        # The last link has no colon after it.
        return (self.page_size - 1 - len(others) + 1) // len(_LINK + ":")
