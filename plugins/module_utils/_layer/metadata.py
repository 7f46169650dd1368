# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Sets an entry's owner, mode, attributes and time on a new file, in the order that preserves all of them.

chown(2) clears setuid bits and capabilities, so the owner is first; attributes can hold an access list that belongs to
the mode, so they follow it; the time is last.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Optional

from ansible_collections.strata.overlay.plugins.module_utils._archive.header import Entry, show
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError, advice

IMPLIED_MODE = 0o755
"""Of directories that no entry stands for."""

_ADVICE = {
    errno.ENOSPC: "the file system is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.ENOTDIR: "its path leads through something that is not a directory",
    errno.ENOENT: "its path leads through a symbolic link whose target the layer does not have",
    errno.EEXIST: "its path leads through a symbolic link whose target the layer does not have",
    errno.ELOOP: "its path leads through a loop of symbolic links, or ends in one",
    errno.EMLINK: "the file system allows no more hard links to this file",
    errno.EFBIG: "the file system takes no file of this size",
}


def explain(error: OSError) -> str:
    """What the kernel answered while an entry was unpacked, in words that fit an entry."""
    message = _ADVICE.get(error.errno or 0) or error.strerror or str(error)
    then = advice(error)
    return f"{message}. {then}" if then else message


@contextlib.contextmanager
def naming(name: bytes) -> Iterator[None]:
    """Turn the kernel's errors into one that names the entry."""
    try:
        yield
    except OSError as error:
        raise StrataError(f"entry {show(name)}: {explain(error)}") from error


def make_plain(directory: int) -> None:
    """An open directory, made a moment ago, gets owner 0:0 and mode 0755, and no access list.

    What lies above it may have given it others, and it would hand an access list on to all that is made in it.
    """
    for name in ("system.posix_acl_default", "system.posix_acl_access"):
        try:
            os.removexattr(directory, name)
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
                raise
    os.fchown(directory, 0, 0)
    os.fchmod(directory, IMPLIED_MODE)


def apply_to_descriptor(descriptor: int, entry: Entry) -> None:
    """For files and directories.

    :raises StrataError: owner or attribute cannot be set here. :raises OSError: anything else.
    """
    try:
        os.fchown(descriptor, entry.uid, entry.gid)
    except OSError as error:
        raise _owner_error(entry, error) from error
    os.fchmod(descriptor, entry.mode)
    if entry.xattrs:
        _set_xattrs(entry, descriptor=descriptor)
    os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))


def apply_to_name(parent: int, name: bytes, entry: Entry) -> None:
    """For links, devices and fifos, which must not be opened; errors as above."""
    try:
        os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
    except OSError as error:
        raise _owner_error(entry, error) from error
    if entry.kind != "symlink":
        os.chmod(name, entry.mode, dir_fd=parent)  # no link to follow: the name was made a moment ago
    if entry.xattrs:
        _set_xattrs(entry, path=b"/proc/self/fd/%d/%s" % (parent, name))
    os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)


def _set_xattrs(entry: Entry, descriptor: Optional[int] = None, path: bytes = b"") -> None:
    for name, value in entry.xattrs.items():
        attribute = name.encode("utf-8", "surrogateescape")
        try:
            if descriptor is not None:
                os.setxattr(descriptor, attribute, value)
            else:
                os.setxattr(path, attribute, value, follow_symlinks=False)
        except OSError as error:
            raise attribute_error(entry, name, error) from error


def attribute_error(entry: Entry, name: str, error: OSError) -> StrataError:
    """An attribute that the kernel refuses, or would."""
    return StrataError(
        f"entry {show(entry.name)}: the attribute {name} cannot be set on this file system or by this user: "
        f"{error.strerror}"
    )


def _owner_error(entry: Entry, error: OSError) -> StrataError:
    owner = f"entry {show(entry.name)}: owner {entry.uid}:{entry.gid} cannot be set: "
    if error.errno == errno.EINVAL:
        return StrataError(
            owner + "this user namespace has no such ids; run as root, or map more ids (see subuid(5) and subgid(5))"
        )
    return StrataError(owner + f"{error.strerror}; layers are unpacked as root, or as root of a user namespace")
