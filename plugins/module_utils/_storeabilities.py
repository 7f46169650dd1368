# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.
"""What the file system of a store can do, found by trying. Nothing is written: attributes are asked for, not set."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import Any, Dict

from ansible_collections.strata.overlay.plugins.module_utils import _kernel
from ansible_collections.strata.overlay.plugins.module_utils._abilities import Abilities
from ansible_collections.strata.overlay.plugins.module_utils._idmap import idmap_fault
from ansible_collections.strata.overlay.plugins.module_utils._quota import quota_fault
from ansible_collections.strata.overlay.plugins.module_utils._store import existing_above

_FIRST_OF_NAME = struct.Struct("=QqHB")
"""struct linux_dirent64 up to its name: inode, offset, length of the entry, type."""
_BUFFER = 1 << 15


def store_abilities(root: str, abilities: Abilities) -> Dict[str, Any]:
    """What kernel and file system can do for a store at ``root``, which need not exist yet."""
    directory = existing_above(root)
    return {
        "d_type": _tells_types(directory),
        "xattrs": _has_attributes(directory, "user" if abilities.userxattr else "trusted"),
        "native_diff": abilities.overlay and _keeps_whole_differences(abilities),
        "idmap": not idmap_fault(directory),
        "project_quota": not quota_fault(directory),
    }


def _tells_types(directory: str) -> bool:
    """Whether directories say of each entry what it is (getdents64(2)): overlayfs needs that of a writable layer."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    buffer = ctypes.create_string_buffer(_BUFFER)
    try:
        filled = _kernel.libc("getdents64", ctypes.c_int(descriptor), buffer, ctypes.c_size_t(_BUFFER))
    finally:
        os.close(descriptor)
    offset, kinds = 0, []
    while offset < filled:
        _inode, _next, length, kind = _FIRST_OF_NAME.unpack_from(buffer.raw, offset)
        kinds.append(kind)
        offset += length
    return bool(kinds) and all(kinds)


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
