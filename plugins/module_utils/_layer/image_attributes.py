# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Which of an entry's attributes an image holds, by the kernel's own rules for setting them. Pure.

A tree's attributes pass through the kernel, an image's do not: what it refuses is refused here, and what an access list
does to a mode is done here.

Sources: Linux fs/xattr.c (xattr_permission), fs/posix_acl.c (posix_acl_valid, posix_acl_equiv_mode,
posix_acl_update_mode), security/commoncap.c (validheader); linux/posix_acl_xattr.h.
"""

from __future__ import annotations

import errno
import os
import struct
from typing import Optional

from ansible_collections.strata.overlay.plugins.module_utils._archive.acl import (
    GROUP,
    ITEM,
    MASK,
    NOBODY,
    OTHER,
    OWNER,
    OWNING_GROUP,
    USER,
    VERSION,
)
from ansible_collections.strata.overlay.plugins.module_utils._archive.header import Entry, show
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._layer.erofs import pack_xattrs
from ansible_collections.strata.overlay.plugins.module_utils._layer.metadata import attribute_error

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
_CAPABILITY_SIZES = {2: 20, 3: 24}
"""Revision of the capabilities of a file -> their bytes (XATTR_CAPS_SZ_2 and _3)."""


def packed_attributes(entry: Entry, more: Optional[dict[bytes, bytes]] = None) -> tuple[int, bytes]:
    """The mode that an entry's file has in the end, and its attributes as EROFS holds them.

    :param more: attributes beside those of the entry.
    :raises StrataError: the kernel would refuse one, or an image cannot hold it.
    """
    mode, kept = entry.mode, dict(more or {})
    for name, value in entry.xattrs.items():
        number = _refusal(entry.kind, name, value)
        if number:
            raise attribute_error(entry, name, OSError(number, os.strerror(number)))
        if name in (ACCESS, DEFAULT):
            items = list(ITEM.iter_unpack(value[4:]))
            if name == ACCESS:
                mode = _mode(mode, items)
            if not items or (name == ACCESS and len(items) == 3):
                continue  # it says no more than the mode
        kept[name.encode("utf-8", "surrogateescape")] = value
    try:
        return mode, pack_xattrs(kept)
    except ValueError as error:
        raise StrataError(
            f"entry {show(entry.name)}: {error}. Only a store in the form 'tree' can hold this layer"
        ) from error


def _refusal(kind: str, name: str, value: bytes) -> int:
    """What the kernel answers who sets the attribute; 0 where it does."""
    if name in (ACCESS, DEFAULT):
        return _access_list_refusal(kind, name, value)
    namespace, _dot, rest = name.partition(".")
    if namespace not in ("user", "trusted", "security") or not _dot:
        return errno.EOPNOTSUPP
    if not rest:
        return errno.EINVAL
    if namespace == "user" and kind not in ("file", "directory"):
        return errno.EPERM
    if name == "security.capability":
        size = _CAPABILITY_SIZES.get(value[3]) if len(value) > 3 else None
        return 0 if len(value) == size else errno.EINVAL
    return 0


def _access_list_refusal(kind: str, name: str, value: bytes) -> int:
    if kind == "symlink":
        return errno.EOPNOTSUPP
    if name == DEFAULT and kind != "directory":
        return errno.EACCES
    if len(value) < 4 or (len(value) - 4) % ITEM.size:
        return errno.EINVAL
    if struct.unpack_from("<I", value) != (VERSION,):
        return errno.EOPNOTSUPP
    items = list(ITEM.iter_unpack(value[4:]))
    return 0 if not items or _is_valid(items) else errno.EINVAL


def _is_valid(items: list[tuple[int, int, int]]) -> bool:
    tags = [tag for tag, _bits, _number in items]
    known = (OWNER, USER, OWNING_GROUP, GROUP, MASK, OTHER)
    if any(tag not in known or bits & ~7 for tag, bits, _number in items) or tags != sorted(tags):
        return False
    if any(number == NOBODY for tag, _bits, number in items if tag in (USER, GROUP)):
        return False
    if any(tags.count(tag) != 1 for tag in (OWNER, OWNING_GROUP, OTHER)) or tags.count(MASK) > 1:
        return False
    return MASK in tags or not (USER in tags or GROUP in tags)


def _mode(mode: int, items: list[tuple[int, int, int]]) -> int:
    """What an access list makes of the permission bits."""
    bits = {tag: each for tag, each, _number in items if tag not in (USER, GROUP)}
    if not bits:
        return mode
    group = bits.get(MASK, bits[OWNING_GROUP])
    return mode & ~0o777 | bits[OWNER] << 6 | group << 3 | bits[OTHER]
