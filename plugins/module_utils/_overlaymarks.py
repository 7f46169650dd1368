# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""How overlayfs marks in a layer what is gone and what hides all below it (kernel overlayfs.rst)."""

from __future__ import annotations

import os
import stat

OVERLAY_PREFIXES = ("trusted.overlay.", "user.overlay.")
"""With which the names of its own attributes begin, whoever has mounted it."""


def own_prefix(userxattr: bool) -> str:
    """The one of them that a mount heeds: the second in an unprivileged user namespace."""
    return OVERLAY_PREFIXES[userxattr]


def opaque_xattr(userxattr: bool) -> str:
    """The attribute of a directory, ``y``, that hides what lower layers have there."""
    return f"{own_prefix(userxattr)}opaque"


def is_whiteout(facts: os.stat_result) -> bool:
    """Whether this entry of a layer says that there is nothing."""
    return stat.S_ISCHR(facts.st_mode) and facts.st_rdev == 0
