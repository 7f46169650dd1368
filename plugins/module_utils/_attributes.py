# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Extended attributes that belong to a file system or to a host and not to a file: the one list of them. Pure.

They are no part of a layer: another file system lists others for the same file, and another host sets others.
Sources: Linux fs/xfs/xfs_xattr.c (every access list is listed a second time), fs/btrfs/props.c, fs/nfs/nfs4proc.c,
fs/smb/client/xattr.c, fs/ntfs3/xattr.c, fs/ceph/xattr.c; xattr(7).
"""

from __future__ import annotations

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


def is_file_systems(name: str) -> bool:
    """Whether a file system has the attribute for itself: what it says is said by others too, or is of no use there."""
    return name.startswith(_OF_FILE_SYSTEMS)


def is_files(name: str) -> bool:
    """Whether the attribute is the file's, wherever that lies."""
    return name not in _OF_HOSTS and not name.startswith(_OF_FILE_SYSTEMS)
