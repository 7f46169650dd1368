# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.
"""Probes what a store's file system can do. Writes nothing."""

from __future__ import annotations

import errno
import os
from typing import Any

from ansible_collections.strata.overlay.plugins.module_utils._linux.abilities import Abilities
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import existing_above
from ansible_collections.strata.overlay.plugins.module_utils._linux.idmap import idmap_fault
from ansible_collections.strata.overlay.plugins.module_utils._linux.quota import quota_fault
from ansible_collections.strata.overlay.plugins.module_utils._store.faults import find_store_faults, tells_types


def store_abilities(root: str, abilities: Abilities) -> dict[str, Any]:
    """What kernel and file system can do for a store at ``root``, which need not exist yet."""
    directory = existing_above(root)
    faults = find_store_faults(root, abilities)
    return {
        "d_type": tells_types(directory),
        "xattrs": _has_attributes(directory, "user" if abilities.userxattr else "trusted"),
        "native_diff": abilities.overlay and _keeps_whole_differences(abilities),
        "idmap": not idmap_fault(directory),
        "project_quota": not quota_fault(directory),
        "faults": list(dict.fromkeys(f"{fault.why}; {fault.cure}" for fault in faults if fault.why)),
    }


def _has_attributes(directory: str, space: str) -> bool:
    """Whether overlayfs can keep its marks there."""
    try:
        os.getxattr(directory, f"{space}.overlay.opaque")
    except OSError as error:
        return error.errno == errno.ENODATA
    return True


def _keeps_whole_differences(abilities: Abilities) -> bool:
    """Whether a writable layer holds all of a change: redirects and bare metadata can be switched off, as we do it."""
    if abilities.userxattr:
        return True
    return all(os.path.exists(f"/sys/module/overlay/parameters/{name}") for name in ("redirect_dir", "metacopy"))
