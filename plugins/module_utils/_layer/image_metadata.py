# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Writes an image's metadata behind the archive: directories, long attributes, inodes.

Inodes come last and are numbered directory by directory, in the order of names: a directory's blocks can be written as
soon as its entries have their numbers, so nothing of any size is kept in memory.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from array import array
from collections.abc import Iterator
from typing import Callable

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._layer.erofs import (
    BLOCK,
    CHUNK_BASED,
    CHUNKED_FILE,
    FLAT_INLINE,
    FLAT_PLAIN,
    INODE,
    MAX_BLOCKS,
    NULL_ADDRESS,
    SLOT,
    directory_blocks,
    file_type,
    i_format,
    superblock,
    xattr_count,
)
from ansible_collections.strata.overlay.plugins.module_utils._layer.image_index import (
    ROOT,
    Index,
    Node,
    unpack_extents,
)
from ansible_collections.strata.overlay.plugins.module_utils._layer.image_sparse import (
    COPIES,
    HOLES,
    chunk_bits,
    chunk_count,
    copied_chunks,
    pieces,
    runs,
)

_PIECE = 1 << 20
_ADDRESSES_AT_ONCE = 1 << 16


class Tail:
    """Bytes on their way to the end of a file.

    :param descriptor: of the image.
    :param wrote: is called with the bytes that are about to be written, and may refuse.
    """

    def __init__(self, descriptor: int, end: int, wrote: Callable[[int], None] = lambda size: None) -> None:
        self.end = end
        self._descriptor = descriptor
        self._digest = hashlib.sha256()
        self._waiting: list[bytes] = []
        self._size = 0
        self._wrote = wrote

    def write(self, piece: bytes) -> None:
        self._waiting.append(piece)
        self._size += len(piece)
        self.end += len(piece)
        if self._size >= _PIECE:
            self.flush()

    def fill(self, size: int) -> None:
        """So many zeros."""
        while size > 0:
            step = min(size, _PIECE)
            self.write(bytes(step))
            size -= step

    def block(self) -> int:
        """The address of the block that comes next; the present one is filled up."""
        self.fill(-self.end % BLOCK)
        if self.end // BLOCK >= MAX_BLOCKS:
            raise StrataError(
                f"it takes more than the {MAX_BLOCKS * BLOCK} bytes that an image can address; only a store in the "
                "form 'tree' can hold this layer"
            )
        return self.end // BLOCK

    def copy(self, start: int, size: int) -> None:
        """Bytes that lie in the file already."""
        while size:
            piece = os.pread(self._descriptor, min(size, _PIECE), start)
            self.write(piece or bytes(size))
            start, size = start + len(piece), size - (len(piece) or size)

    def flush(self) -> None:
        piece = b"".join(self._waiting)
        self._waiting, self._size = [], 0
        self._wrote(len(piece))
        self._digest.update(piece)
        self.put(piece, self.end - len(piece))

    def put(self, piece: bytes, at: int) -> None:
        """Bytes come to lie in the file."""
        while piece:
            done = os.pwrite(self._descriptor, piece, at)
            piece, at = piece[done:], at + done

    def finish(self, head: bytes) -> str:
        """The file's first bytes; the digest of all that was not the archive, these last."""
        self.flush()
        self._digest.update(head)
        self.put(head, 0)
        return self._digest.hexdigest()


def write_metadata(index: Index, tail: Tail, sparse: bool) -> str:
    """Everything behind the archive, and the superblock; the digest of these.

    :param sparse: whether a file in it has holes.
    """
    layout = _Layout(index, tail)
    layout.write_directories()
    first = tail.block()
    layout.write_inodes()
    blocks = tail.block()
    return tail.finish(superblock(0, len(layout.order), blocks, first, CHUNKED_FILE if sparse else 0))


class _Layout:
    """:ivar order: the inodes, in the order of their nids."""

    def __init__(self, index: Index, tail: Tail) -> None:
        self.order = array("I")
        self._index = index
        self._tail = tail
        self._nids = array("Q", bytes(8 * index.count))
        self._end = 0
        tail.block()

    def write_directories(self) -> None:
        """From the top down; each entry gets its nid before its directory's blocks are written."""
        self._number(ROOT)
        pending = [(ROOT, ROOT)]
        while pending:
            directory, above = pending.pop()
            children = self._index.children.pop(directory, {})
            names = sorted([*children, b".", b".."])
            below = []
            for name in names:
                number = children.get(name, ROOT)
                if number and not self._nids[number]:
                    self._number(number)
                    if self._index.is_directory(number):
                        below.append((number, directory))
            children[b"."], children[b".."] = directory, above
            start = self._tail.block()
            size = 0
            for block, used in directory_blocks(self._entries(names, children)):
                size = self._tail.end - start * BLOCK + used
                self._tail.write(block)
            self._index.set_directory(directory, size, start, 2 + len(below))
            pending += reversed(below)

    def _entries(self, names: list[bytes], numbers: dict[bytes, int]) -> Iterator[tuple[bytes, int, int]]:
        for name in names:
            number = numbers[name]
            yield name, self._nids[number], file_type(self._index.mode(number))

    def _number(self, number: int) -> None:
        """Give an inode its place."""
        need = INODE.size
        if not self._index.is_plain(number):
            node = self._index.node(number)
            need += len(node.xattrs)
            if stat.S_ISLNK(node.mode):
                need = self._place_target(number, node, need)
            elif node.rest:
                need += self._place_copies(number, node)
        self._nids[number] = self._end // SLOT
        self.order.append(number)
        self._end += need
        self._end += -self._end % SLOT

    def _place_target(self, number: int, node: Node, need: int) -> int:
        """A link's target stands behind its inode, in the same block, or else in a block of its own."""
        if not _is_inline(node):
            self._index.set_elsewhere(number, self._tail.block())
            self._tail.write(node.rest)
            return need
        need += len(node.rest)
        if self._end % BLOCK + need > BLOCK:
            self._end += -self._end % BLOCK
        return need

    def _place_copies(self, number: int, node: Node) -> int:
        """Chunks of a sparse file that cannot stay where they are; bytes of its table."""
        extents, bits = _chunks(node)
        copied = copied_chunks(node.size, extents, bits)
        if copied:
            base = self._tail.block()
            self._index.set_elsewhere(number, base)
            begun = self._tail.end
            for at, stored, length in pieces(node.size, extents, bits):
                self._tail.fill(begun + at - self._tail.end)
                self._tail.copy(node.block * BLOCK + stored, length)
            self._tail.fill(begun + copied * (BLOCK << bits) - self._tail.end)
        return 4 * chunk_count(node.size, bits)

    def write_inodes(self) -> None:
        written = 0
        for ino, number in enumerate(self.order, 1):
            start = self._nids[number] * SLOT
            self._tail.fill(start - written)
            written = start
            for piece in self._inode(number, ino):
                self._tail.write(piece)
                written += len(piece)

    def _inode(self, number: int, ino: int) -> Iterator[bytes]:
        node = self._index.node(number)
        layout, block = FLAT_PLAIN, node.block
        addresses: Iterator[bytes] = iter(())
        if stat.S_ISLNK(node.mode):
            inline = _is_inline(node)
            layout, block = (FLAT_INLINE, 0) if inline else (FLAT_PLAIN, self._index.elsewhere(number))
            addresses = iter([node.rest] if inline else [])
        elif node.rest:
            extents, bits = _chunks(node)
            layout, block = CHUNK_BASED, bits
            addresses = _addresses(node, extents, bits, self._index.elsewhere(number))
        yield INODE.pack(
            *(i_format(layout), xattr_count(node.xattrs), node.mode, 0, node.size, block, ino, node.uid, node.gid),
            *(node.seconds, node.nanoseconds, node.links, 0, 0, 0),
        )
        if node.xattrs:
            yield node.xattrs
        yield from addresses


def _is_inline(node: Node) -> bool:
    return INODE.size + len(node.xattrs) + len(node.rest) <= BLOCK


def _chunks(node: Node) -> tuple[list[tuple[int, int]], int]:
    """A sparse file's extents that hold bytes, and how large its chunks are."""
    extents = [extent for extent in unpack_extents(node.rest) if extent[1]]
    return extents, chunk_bits(node.size, extents)


def _addresses(node: Node, extents: list[tuple[int, int]], bits: int, base: int) -> Iterator[bytes]:
    """The chunk table of a sparse file."""
    step = 1 << bits
    for count, stored in runs(node.size, extents, bits):
        if stored == HOLES:
            yield from _packed(NULL_ADDRESS, 0, count)
        elif stored == COPIES:
            yield from _packed(base, step, count)
            base += step * count
        else:
            yield from _packed(node.block + stored // BLOCK, step, count)


def _packed(first: int, step: int, count: int) -> Iterator[bytes]:
    """So many addresses, each by a step after the one before."""
    for begin in range(0, count, _ADDRESSES_AT_ONCE):
        part = min(count - begin, _ADDRESSES_AT_ONCE)
        start = first + begin * step
        numbers = [start] * part if step == 0 else range(start, start + part * step, step)
        yield struct.pack(f"<{part}I", *numbers)
