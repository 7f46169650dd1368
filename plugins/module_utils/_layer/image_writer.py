# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Builds an image's index from a layer's entries: what `_layer/tree_writer` does on a disk, in memory."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from typing import Callable

from ansible_collections.strata.overlay.plugins.module_utils._archive.header import Entry, show
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._layer.deferred_directories import PendingDirectories
from ansible_collections.strata.overlay.plugins.module_utils._layer.erofs import (
    BLOCK,
    HEAD,
    MAX_BLOCKS,
    device,
    pack_xattrs,
    unpack_xattrs,
)
from ansible_collections.strata.overlay.plugins.module_utils._layer.image_attributes import packed_attributes
from ansible_collections.strata.overlay.plugins.module_utils._layer.image_index import Index, pack_extents
from ansible_collections.strata.overlay.plugins.module_utils._layer.names import Place, split
from ansible_collections.strata.overlay.plugins.module_utils._layer.writer import (
    NODE_TYPES,
    LayerWriter,
    refuse_directory,
)


class ImageWriter(LayerWriter[int]):
    """A layer as an index; handles are its numbers. What it has to say of the bytes is where they lie in the archive.

    :param opaque_xattr: the attribute that marks a directory as hiding all that lower layers have there.
    :param directories, keep: as for ``LayerWriter``.
    :ivar sparse: whether one of the files has holes.
    """

    def __init__(
        self,
        index: Index,
        opaque_xattr: str,
        directories: PendingDirectories,
        keep: Callable[[int], None] = lambda size: None,
    ) -> None:
        super().__init__(directories, keep)
        self.sparse = False
        self._index = index
        self._opaque_mark = {opaque_xattr.encode(): b"y"}
        self._described: set[int] = set()
        """Directories that have attributes already, from a mark or from another name through a link."""

    def parent(self, path: bytes) -> int:
        return self._index.parent(path)

    def exists(self, parent: int, name: bytes) -> bool:
        return self._index.lookup(parent, name) >= 0

    def is_directory(self, parent: int, name: bytes) -> bool:
        number = self._index.lookup(parent, name)
        return number >= 0 and self._index.is_directory(number)

    def make_directory(self, parent: int, name: bytes) -> None:
        if self._index.lookup(parent, name) >= 0:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        self._index.enter(parent, name, self._index.add_directory())

    def remove(self, place: Place) -> None:
        self._index.remove(self._index.parent(place.parent), place.name)

    def make_file(self, entry: Entry, place: Place, data: Iterable[memoryview], position: int) -> None:
        xattrs = self._attributes(entry) if entry.xattrs else b""
        block = (HEAD + position) // BLOCK
        if block + entry.size // BLOCK >= MAX_BLOCKS and entry.sparse is None:
            raise StrataError(
                f"entry {show(entry.name)}: it lies beyond the {MAX_BLOCKS * BLOCK} bytes that an image can address; "
                "only a store in the form 'tree' can hold this layer"
            )
        rest = b""
        if entry.sparse is not None and entry.sparse != [(0, entry.size)] and entry.size:
            rest = pack_extents(entry.sparse) or pack_extents([(entry.size, 0)])
            self.sparse = True
        self._put(place, self._index.add(entry, stat.S_IFREG, entry.size, block, xattrs, rest))

    def make_node(self, entry: Entry, place: Place) -> None:
        xattrs = self._attributes(entry) if entry.xattrs else b""
        block = device(*entry.device) if entry.kind in ("char", "block") else 0
        if entry.kind == "symlink":
            entry.mode = 0o777
        target = entry.target if entry.kind == "symlink" else b""
        self._put(place, self._index.add(entry, NODE_TYPES[entry.kind], len(target), block, xattrs, target))

    def make_link(self, entry: Entry, place: Place, target: Place) -> bool:
        index = self._index
        parent = index.parent(place.parent)
        try:
            source = index.open(target.parent)
        except FileNotFoundError:
            return False
        number = index.lookup(source, target.name)
        if number < 0:
            return False
        if index.is_directory(number):
            raise refuse_directory(entry)
        found = index.lookup(parent, place.name)
        if found == number:
            return True  # GNU tar writes a file named twice as a link to itself
        if found >= 0:
            parent = self.clear(place)
            if index.lookup(source, target.name) < 0:
                return False  # it lay below what stood here
        index.enter(parent, place.name, number)
        return True

    def make_whiteout(self, parent: int, name: bytes, path: bytes) -> None:
        self._index.enter(parent, name, self._index.add(Entry(b"", "char"), stat.S_IFCHR, 0, 0))

    def set_opaque(self, path: bytes) -> None:
        number = self._directory(path)
        self._described.add(number)
        self._index.set_xattrs(number, pack_xattrs(self._opaque_mark))

    def finish_directory(self, path: bytes, entry: Entry) -> None:
        number = self._directory(path)
        more = unpack_xattrs(self._index.node(number).xattrs) if number in self._described else {}
        entry.mode, xattrs = packed_attributes(entry, more)
        if xattrs:
            self._described.add(number)
        self._index.describe(number, entry, xattrs)

    def _directory(self, path: bytes) -> int:
        """One that is there; the last part of the path is not taken for a link."""
        above, name = split(path)
        number = self._index.lookup(self._index.parent(above), name)
        if number < 0 or not self._index.is_directory(number):
            answer = errno.ENOENT if number < 0 else errno.ENOTDIR
            raise OSError(answer, os.strerror(answer))
        return number

    def _attributes(self, entry: Entry) -> bytes:
        entry.mode, xattrs = packed_attributes(entry)
        return xattrs

    def _put(self, place: Place, number: int) -> None:
        parent = self._index.parent(place.parent)
        if self._index.lookup(parent, place.name) >= 0:
            parent = self.clear(place)
        self._index.enter(parent, place.name, number)
