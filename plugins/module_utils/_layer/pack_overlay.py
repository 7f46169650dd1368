# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Packs a layer in overlayfs form into its OCI tar stream, reproducibly.

The way back from `_layer/unpack`: char devices 0:0 become whiteouts, opaque directories their mark. Owners, modes,
times to the nanosecond, attributes, devices and hard links are the tree's own. It reads stored contents and writable
layers alike; what changes in a writable layer meanwhile is noticed and refused, never packed half old and half new.
Sources: OCI image-spec layer.md, "Whiteouts"; kernel Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from functools import partial
from typing import Optional

from ansible_collections.strata.overlay.plugins.module_utils._archive.reader import END, Entry, header, show
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._layer.left_out import PROTECTION, LeftOut
from ansible_collections.strata.overlay.plugins.module_utils._layer.names import OPAQUE, WHITEOUT
from ansible_collections.strata.overlay.plugins.module_utils._layer.pack import Directory, TreePacker, changed, mark
from ansible_collections.strata.overlay.plugins.module_utils._linux import syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.attributes import is_files
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import LISTED_BY_LINK
from ansible_collections.strata.overlay.plugins.module_utils._linux.overlay_marks import (
    FUSE_OPAQUES,
    FUSE_PREFIX,
    OVERLAY_PREFIXES,
    is_whiteout,
    opaque_xattrs,
    own_prefix,
)
from ansible_collections.strata.overlay.plugins.module_utils._linux.walk import walk

_ELSEWHERE = {
    "redirect": "it is a renamed directory whose files are in a layer below (redirect_dir)",
    "metacopy": "its bytes are in a layer below (metacopy)",
}
"""Marks of overlayfs that say that a file is not whole here."""

_FUSE_OPAQUES = tuple(map(os.fsencode, FUSE_OPAQUES))
_ROOT_MODE = 0o755

Stamp = tuple[int, int, int]


def pack_content(
    path: str, userxattr: bool, live: bool = False, fuse: bool = False, left_out: Optional[LeftOut] = None
) -> Iterator[bytes]:
    """The tar stream of a layer's tree: each directory before its contents, whiteouts before their siblings.

    The top has an entry only where it is not 0755 of 0:0 without attributes, and no time: unpacking gives it its own.

    :param path: the directory that is a lower or an upper of a mount. Nothing in it is followed out of it.
    :param userxattr: opaque directories are marked by user.overlay.opaque, as for ``unpack``.
    :param live: others may write to the tree. Then the whole of it is looked at before and after, and the last thing
        that this gives is an error where it is not the same; what has been read until then is worth nothing. Sockets
        are left out.
    :param left_out: of a live tree, where sockets are noted and what chattr(1) has protected.
    :param fuse: fuse-overlayfs has written the tree, whose own marks are no part of it.
    :raises StrataError: a socket; a name that means a whiteout; a file that overlayfs keeps partly elsewhere; a file or
        directory that changes meanwhile. :raises OSError: something cannot be read.
    """
    before = snapshot(path) if live else b""
    yield from _ContentPacker(userxattr, live, fuse, left_out).pack_tree(path)
    if live and snapshot(path) != before:
        raise StrataError(f"{path} changed while it was read; freeze or stop what writes there, or try again later")
    yield END


def snapshot(top: str) -> bytes:
    """What stays the same as long as nobody changes anything in a tree: a digest."""
    total = hashlib.sha256()
    descriptor = os.open(top, LISTED_BY_LINK)
    try:
        total.update(repr(_stamp(os.fstat(descriptor))).encode())
        for item in walk(descriptor, partial(_fail, top)):
            total.update(repr((item.name, item.depth, _stamp(item.facts))).encode())
    finally:
        os.close(descriptor)
    return total.digest()


def _fail(top: str, path: str, why: str) -> None:
    raise StrataError(f"{top}/{path} cannot be read: {why}; what is below it is unknown")


class _ContentPacker(TreePacker):
    def __init__(self, userxattr: bool, live: bool, fuse: bool, left_out: Optional[LeftOut]) -> None:
        super().__init__(left_out=left_out)
        self._prefix = own_prefix(userxattr)
        self._opaque = opaque_xattrs(userxattr, fuse)
        self._live = live
        self._fuse = fuse

    def pack_top(self, top: Directory) -> Iterator[bytes]:
        entry = self.entry(top, b".", os.fstat(top.descriptor))
        if (entry.mode, entry.uid, entry.gid, entry.xattrs) != (_ROOT_MODE, 0, 0, {}):
            entry.mtime_ns = 0
            yield header(entry)
        if self._is_opaque(top, b"."):
            yield mark(OPAQUE)

    def names(self, directory: Directory) -> Iterator[bytes]:
        before = _stamp(os.fstat(directory.descriptor))
        others: list[bytes] = []
        self.look_at(directory.path or b".", directory.descriptor)
        for base in directory.listed():
            status = directory.status(base)
            if self._fuse and base in _FUSE_OPAQUES:
                continue  # the attribute says the same
            if self._is_whiteout(base, status):
                yield base
            else:
                others.append(base)
        yield from others
        # By now everything below has been read. A name that came or went has given the directory another time.
        if _stamp(os.fstat(directory.descriptor)) != before:
            raise changed(directory.path or b".")

    def _is_whiteout(self, base: bytes, status: os.stat_result) -> bool:
        return is_whiteout(status) or (self._fuse and base.startswith(WHITEOUT))

    def pack(self, directory: Directory, base: bytes, status: os.stat_result) -> Iterator[bytes]:
        name = directory.name(base)
        if self._is_whiteout(base, status):
            yield mark(name if base.startswith(WHITEOUT) else directory.name(WHITEOUT + base))
            return
        is_socket = stat.S_ISSOCK(status.st_mode)
        if is_socket and not self._live:
            raise StrataError(f"{show(name)} is a socket, which no layer has; run strata.overlay.store_check with deep")
        if base.startswith(WHITEOUT) and not is_socket:
            raise StrataError(f"{show(name)}: in a layer this name would hide another file; rename it")
        yield from super().pack(directory, base, status)
        if stat.S_ISDIR(status.st_mode):
            if self._is_opaque(directory, base):
                yield mark(name + b"/" + OPAQUE)
        elif _stamp(directory.status(base)) != _stamp(status):
            raise changed(name)

    def entry(self, directory: Directory, base: bytes, status: os.stat_result) -> Entry:
        entry = super().entry(directory, base, status)
        entry.uid, entry.gid, entry.mtime_ns = status.st_uid, status.st_gid, status.st_mtime_ns
        return entry

    def xattrs(self, directory: Directory, base: bytes) -> dict[str, bytes]:
        place = directory.place(base)
        kept: dict[str, bytes] = {}
        for attribute in sorted(os.listxattr(place, follow_symlinks=False)):
            if attribute.startswith(OVERLAY_PREFIXES):
                self._check_own(directory.name(base), attribute)
                if self._live and attribute == f"{self._prefix}protattr":
                    self.left_out.add(PROTECTION, directory.name(base))
            elif is_files(attribute) and not (self._fuse and attribute.startswith(FUSE_PREFIX)):
                kept[attribute] = os.getxattr(place, attribute, follow_symlinks=False)
        return kept

    def look_at(self, name: bytes, descriptor: int) -> None:
        """Linux before 5.14 protects the file of the writable layer itself; later ones keep it in an attribute."""
        if self._live and syscalls.is_protected(descriptor):
            self.left_out.add(PROTECTION, name)

    def _check_own(self, name: bytes, attribute: str) -> None:
        """Attributes of this overlay are left out, since the kernel makes them; :raises StrataError: all others."""
        mark_of = attribute[len(self._prefix) :] if attribute.startswith(self._prefix) else ""
        if mark_of in _ELSEWHERE:
            raise StrataError(
                f"{show(name)}: {_ELSEWHERE[mark_of]}; make it whole, for example by copying it to a new name and back"
            )
        if not mark_of or "." in mark_of or mark_of == "whiteout":
            raise StrataError(
                f"{show(name)}: its attribute {attribute} is that of an overlay inside this one, and no archive can "
                "hold it; keep such storage outside the layer"
            )

    def _is_opaque(self, directory: Directory, base: bytes) -> bool:
        return any(self._has_mark(directory.place(base), attribute) for attribute in self._opaque)

    def _has_mark(self, place: bytes, attribute: str) -> bool:
        try:
            return os.getxattr(place, attribute, follow_symlinks=False) == b"y"
        except OSError:
            return False


def _stamp(status: os.stat_result) -> Stamp:
    """What no change leaves as it was: nobody can set a ctime back."""
    return status.st_ino, status.st_size, status.st_ctime_ns
