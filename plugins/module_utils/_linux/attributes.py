# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Extended attributes that belong to a file system or host and are never part of a layer. Pure.

They are no part of a layer: another file system lists others for the same file, and another host sets others.
Sources: Linux fs/xfs/xfs_xattr.c (every access list is listed a second time), fs/btrfs/props.c, fs/nfs/nfs4proc.c,
fs/smb/client/xattr.c, fs/ntfs3/xattr.c, fs/ceph/xattr.c; xattr(7); fs/overlayfs/overlayfs.h.
"""

from __future__ import annotations

from ansible_collections.strata.overlay.plugins.module_utils._linux.overlay_marks import OVERLAY_PREFIXES

_OF_FILE_SYSTEMS = (
    "trusted.SGI_",
    "btrfs.",
    "ceph.",
    "glusterfs.",
    "lustre.",
    "system.cifs_",
    "system.dos_",
    "system.nfs4_",
    "system.ntfs_",
    "system.smb3_",
)
_OF_HOSTS = ("security.selinux", "security.ima", "security.evm")
"""A host's policy and its keys."""

SECOND_LISTS = {
    "trusted.SGI_ACL_FILE": "system.posix_acl_access",
    "trusted.SGI_ACL_DEFAULT": "system.posix_acl_default",
}
"""What XFS lists once more -> under which name it is the file's."""


_NAMESPACES = ("user.", "trusted.", "security.", "system.posix_acl_")
"""Linux has no others for all file systems; macOS's ``com.apple.*``, and names without a namespace, cannot be set."""

_OF_WRITABLE_LAYERS = ("impure", "nlink", "origin", "protattr", "upper", "uuid")
"""overlayfs reads these in a writable layer or an index only. In a layer below they say nothing, and what they refer to
is on the host that wrote them.
"""


def is_foreign(name: str) -> bool:
    """Whether it is in no namespace that Linux has for all file systems, or has no name there: it cannot be set."""
    return not name.startswith(_NAMESPACES) or name in _NAMESPACES


def is_of_writable_layer(name: str) -> bool:
    """Whether it is one of overlayfs's own that means nothing in a layer, as opaque, redirect and others do."""
    prefix = next((prefix for prefix in OVERLAY_PREFIXES if name.startswith(prefix)), None)
    return prefix is not None and name[len(prefix) :] in _OF_WRITABLE_LAYERS


def is_file_systems(name: str) -> bool:
    """Whether an attribute belongs to one file system, so that it is redundant or useless elsewhere."""
    return name.startswith(_OF_FILE_SYSTEMS)


def is_files(name: str) -> bool:
    """Whether the attribute is the file's, wherever that lies."""
    return name not in _OF_HOSTS and not name.startswith(_OF_FILE_SYSTEMS)
