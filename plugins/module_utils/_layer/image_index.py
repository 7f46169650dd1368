# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Holds an image's entries while its archive is read: a file system in memory, about 200 bytes an entry.

It answers as the kernel does below a root directory (`_layer/rootdir`), with the same errors. An inode is kept as the
64 bytes that it will be on disk; what is of any length, attributes, targets of links and maps of sparse files, goes to
a file without a name once it is more than a mebibyte.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import tempfile
from typing import Callable, NamedTuple

from ansible_collections.strata.overlay.plugins.module_utils._archive.header import NANOSECONDS, Entry, Extents
from ansible_collections.strata.overlay.plugins.module_utils._layer.erofs import INODE
from ansible_collections.strata.overlay.plugins.module_utils._layer.metadata import IMPLIED_MODE
from ansible_collections.strata.overlay.plugins.module_utils._layer.names import MAX_NAME

ROOT = 0
_IN_MEMORY = 1 << 20
_MAX_LINKS = 40
_PAIR = struct.Struct("<QQ")
_EXTRA = struct.Struct("<QII")
"""Where an inode's last 16 bytes, which are zeros on disk, say meanwhile that more of it is kept: offset, bytes of its
attributes, bytes of its target or map.
"""
_MODE_AT, _SIZE_AT, _INO_AT, _LINKS_AT, _EXTRA_AT = 4, 8, 20, 44, 48
_SIZE_AND_BLOCK = struct.Struct("<QI")
_LINKS = struct.Struct("<I")
_MODE = struct.Struct("<H")
_WORDS = (1 << 64) - 1


class Node(NamedTuple):
    """An inode. :ivar block: i_u, of a file the first block of its data. :ivar rest: a link's target, a file's map."""

    mode: int
    size: int
    block: int
    uid: int
    gid: int
    seconds: int
    nanoseconds: int
    links: int
    xattrs: bytes
    rest: bytes


class Index:
    """Directories and what lies in them, by numbers. A context manager.

    :param beside: a directory on whose file system a file may lie.
    :param on_make: called before a directory is made that was missing; may refuse it.
    :ivar children: of each directory that has any, by name.
    """

    def __init__(self, beside: str, on_make: Callable[[], None] = lambda: None) -> None:
        self.children: dict[int, dict[bytes, int]] = {}
        self._on_make = on_make
        self._inodes = bytearray()
        self._kept = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY, dir=beside)  # noqa: SIM115 closed on exit
        self._end = 0
        self._cached: tuple[bytes, int] = (b"", ROOT)
        self.add_directory()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_error: object) -> None:
        self._kept.close()

    # Inodes.

    @property
    def count(self) -> int:
        """Of all that were ever made."""
        return len(self._inodes) // INODE.size

    def add(self, entry: Entry, kind: int, size: int, block: int, xattrs: bytes = b"", rest: bytes = b"") -> int:
        """A new inode that has no name yet."""
        seconds, nanoseconds = divmod(entry.mtime_ns, NANOSECONDS)
        extra = self._keep(xattrs, rest) if xattrs or rest else (0, 0, 0)
        number = len(self._inodes) // INODE.size
        self._inodes += INODE.pack(
            *(0, 0, entry.mode | kind, 0, size, block, 0, entry.uid, entry.gid, seconds & _WORDS, nanoseconds, 0),
            *extra,
        )
        return number

    def add_directory(self) -> int:
        """One that no entry stands for: owner 0:0, 0755, and made in 1970, so that an image depends on nothing else."""
        return self.add(Entry(b"", "directory", IMPLIED_MODE), stat.S_IFDIR, 0, 0)

    def describe(self, number: int, entry: Entry, xattrs: bytes) -> None:
        """What an entry says of a directory."""
        links = self.links(number)
        seconds, nanoseconds = divmod(entry.mtime_ns, NANOSECONDS)
        extra = self._keep(xattrs, b"") if xattrs else (0, 0, 0)
        INODE.pack_into(
            *(self._inodes, number * INODE.size, 0, 0, entry.mode | stat.S_IFDIR, 0, 0, 0, 0, entry.uid, entry.gid),
            *(seconds & _WORDS, nanoseconds, links, *extra),
        )

    def set_xattrs(self, number: int, xattrs: bytes) -> None:
        """Of a directory."""
        _EXTRA.pack_into(self._inodes, number * INODE.size + _EXTRA_AT, *self._keep(xattrs, b""))

    def node(self, number: int) -> Node:
        found = INODE.unpack_from(self._inodes, number * INODE.size)[2:]
        mode, _reserved, size, block, _ino, uid, gid, seconds, nanoseconds, links, at, first, then = found
        kept = self._read(at, first + then) if first or then else b""
        return Node(mode, size, block, uid, gid, seconds, nanoseconds, links, kept[:first], kept[first:])

    def mode(self, number: int) -> int:
        return int(_MODE.unpack_from(self._inodes, number * INODE.size + _MODE_AT)[0])

    def links(self, number: int) -> int:
        """Names that an inode has."""
        return int(_LINKS.unpack_from(self._inodes, number * INODE.size + _LINKS_AT)[0])

    def _keep(self, xattrs: bytes, rest: bytes) -> tuple[int, int, int]:
        at = self._end
        self._kept.seek(at)
        self._kept.write(xattrs + rest)
        self._end += len(xattrs) + len(rest)
        return at, len(xattrs), len(rest)

    def _read(self, at: int, length: int) -> bytes:
        self._kept.seek(at)
        return self._kept.read(length)

    # What the end finds out.

    def is_plain(self, number: int) -> bool:
        """Whether an inode is its 64 bytes and no more."""
        return not any(_EXTRA.unpack_from(self._inodes, number * INODE.size + _EXTRA_AT)[1:])

    def set_directory(self, number: int, size: int, block: int, links: int) -> None:
        at = number * INODE.size
        _SIZE_AND_BLOCK.pack_into(self._inodes, at + _SIZE_AT, size, block)
        _LINKS.pack_into(self._inodes, at + _LINKS_AT, links)

    def set_elsewhere(self, number: int, block: int) -> None:
        """Where what is kept of an inode, or copied, lies in the image."""
        _LINKS.pack_into(self._inodes, number * INODE.size + _INO_AT, block)

    def elsewhere(self, number: int) -> int:
        return int(_LINKS.unpack_from(self._inodes, number * INODE.size + _INO_AT)[0])

    # Names.

    def is_directory(self, number: int) -> bool:
        return self._inodes[number * INODE.size + _MODE_AT + 1] & 0xF0 == 0x40

    def _is_link(self, number: int) -> bool:
        return self._inodes[number * INODE.size + _MODE_AT + 1] & 0xF0 == 0xA0

    def lookup(self, directory: int, name: bytes) -> int:
        """What lies there; -1 for nothing. The root for no name."""
        if not name:
            return directory
        children = self.children.get(directory)
        return -1 if children is None else children.get(name, -1)

    def enter(self, directory: int, name: bytes, number: int) -> None:
        """Give an inode a name, where nothing has it."""
        children = self.children.get(directory)
        if children is None:
            children = self.children[directory] = {}
        children[name] = number
        at = number * INODE.size + _LINKS_AT
        _LINKS.pack_into(self._inodes, at, _LINKS.unpack_from(self._inodes, at)[0] + 1)

    def remove(self, directory: int, name: bytes) -> None:
        """A name, with all below it."""
        pending = [self.children[directory].pop(name)]
        while pending:
            number = pending.pop()
            at = number * INODE.size + _LINKS_AT
            _LINKS.pack_into(self._inodes, at, _LINKS.unpack_from(self._inodes, at)[0] - 1)
            pending += self.children.pop(number, {}).values()
        self._cached = (b"", ROOT)

    def parent(self, path: bytes) -> int:
        """A directory, made with its parents where missing. The last one asked for is remembered."""
        cached, number = self._cached
        if path == cached:
            return number
        try:
            number = self.open(path)
        except FileNotFoundError:
            number = self._make(path)
        self._cached = path, number
        return number

    def open(self, path: bytes) -> int:
        """An existing directory; links are followed as if the root were "/".

        :raises OSError: there is none, or there are too many links on the way.
        """
        above = [ROOT]
        waiting = path.split(b"/")[::-1]
        links = 0
        while waiting:
            part = waiting.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                if len(above) > 1:
                    above.pop()
                continue
            if len(part) > MAX_NAME:
                raise _error(errno.ENAMETOOLONG)
            number = self.lookup(above[-1], part)
            if number < 0:
                raise _error(errno.ENOENT)
            if self.is_directory(number):
                above.append(number)
            elif self._is_link(number):
                links += 1
                if links > _MAX_LINKS:
                    raise _error(errno.ELOOP)
                target = self.node(number).rest
                waiting += target.split(b"/")[::-1]
                if target.startswith(b"/"):
                    above = [ROOT]
            else:
                raise _error(errno.ENOTDIR)
        return above[-1]

    def _make(self, path: bytes) -> int:
        """Make what is missing of a path, from the top down."""
        parts = path.split(b"/")
        above = ROOT
        for depth, part in enumerate(parts, 1):
            prefix = b"/".join(parts[:depth])
            try:
                above = self.open(prefix)
            except FileNotFoundError:
                if self.lookup(above, part) >= 0:  # a link to nothing
                    raise _error(errno.EEXIST) from None
                self._on_make()
                self.enter(above, part, self.add_directory())
                above = self.open(prefix)
        return above


def pack_extents(extents: Extents) -> bytes:
    """A sparse file's map, as an inode keeps it."""
    return b"".join(_PAIR.pack(offset, length) for offset, length in extents)


def unpack_extents(packed: bytes) -> Extents:
    return list(_PAIR.iter_unpack(packed))


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
