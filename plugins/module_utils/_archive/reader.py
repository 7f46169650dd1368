# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Reads tar archives as streams. Damage is an error, never the end of the archive.

Python's tarfile stops without a word at a damaged header in the middle of an archive, which in a layer is a lost
file; so the archive is read here. Understood: v7, ustar, PAX (x and g), GNU long names, base-256 numbers, sparse files.

Sources: POSIX.1-2017 pax; GNU tar manual, "Tar Internals"; libarchive tar(5).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Callable, Optional

from ansible_collections.strata.overlay.plugins.module_utils._archive.byte_source import CHUNK, ByteSource
from ansible_collections.strata.overlay.plugins.module_utils._archive.entries import (
    apply_records,
    for_all,
    from_header,
)
from ansible_collections.strata.overlay.plugins.module_utils._archive.header import (
    BLOCK,
    MAX_SIZE,
    Entry,
    Record,
    check_ranges,
    checksum_matches,
    parse_records,
    read_number,
    read_text,
    show,
)
from ansible_collections.strata.overlay.plugins.module_utils._archive.sparse import (
    SparseMap,
    check_extents,
    is_sparse,
    old_gnu_map,
    pax_map,
)
from ansible_collections.strata.overlay.plugins.module_utils._archive.writer import END, header, padding
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError

__all__ = ["END", "Entry", "TarReader", "header", "padding", "show"]

_MAX_EXTENDED = 1 << 24
"""Bytes of all PAX headers and long names before one entry; more is a trap for memory."""

_ZEROS = bytes(BLOCK)
_CONTINUED = b"M"
"""GNU tar's type for what did not fit into the volume before."""

_SOLARIS_ACL = b"A"
"""Solaris's access list of the entry behind it. Left out, more users could read that entry than its owner allowed."""

_DUMP = b"D"
"""A directory of GNU tar's incremental archives: its data is the list of what was in it."""


@dataclass
class _Extension:
    """What preceding headers give for an entry."""

    records: list[Record] = field(default_factory=list)
    long_name: Optional[bytes] = None
    long_target: Optional[bytes] = None
    seen: bool = False
    size: int = 0


class TarReader:
    """Iterate over the entries of a tar stream; ``data()`` gives the present one's stored bytes.

    :param read: gives up to so many bytes, none only at the end of the stream. It is called until it gives none, so
        that a digest made in it covers every byte.
    :param leap: goes forward by so many bytes without giving them, also beyond the end.
    :param pinned: the digest of all bytes is held against one that is known, so what is there was not cut: the
        end-of-archive marker may be missing, and anything may follow it, as Docker and GNU tar have it.
    :raises StrataError: on any damage, and when the stream ends before the end-of-archive marker.
    """

    def __init__(
        self, read: Callable[[int], bytes], leap: Optional[Callable[[int], object]] = None, pinned: bool = False
    ) -> None:
        self._source = ByteSource(read, leap)
        self._pinned = pinned
        self._globals: dict[bytes, bytes] = {}
        self._left = 0
        self._padding = 0
        self._done = False

    @property
    def position(self) -> int:
        """Bytes of the stream that were used: after an entry was given, those before its data."""
        return self._source.position

    @property
    def left(self) -> int:
        """Stored bytes of the present entry that were not given yet."""
        return self._left

    def __iter__(self) -> TarReader:
        return self

    def __next__(self) -> Entry:
        if self._done:
            raise StopIteration
        if self._left or self._padding:
            self._source.skip(self._left + self._padding)
            self._left = self._padding = 0
        entry = self._read_entry()
        if entry is None:
            self._done = True
            raise StopIteration
        return entry

    def data(self) -> Iterator[memoryview]:
        """The stored bytes of the present entry that were not given yet: of a sparse file, its extents in order."""
        while self._left:
            piece = self._source.view_up_to(self._left)
            if not piece:
                raise self._source.cut_short()
            self._left -= len(piece)
            yield piece

    def _read_entry(self) -> Optional[Entry]:
        extension = _Extension()
        while True:
            start = self._source.position
            block = self._read_header_block(extension)
            if block is None:
                return None
            flag = block[156:157]
            try:
                if flag in (b"x", b"X", b"g", b"L", b"K"):
                    self._extend(extension, flag, self._payload(block))
                elif flag == b"V":
                    continue  # the name of a volume: says nothing about files
                elif flag == _CONTINUED:
                    raise ValueError("it is the rest of a file that begins in another volume; join the volumes first")
                elif flag == _SOLARIS_ACL:
                    raise ValueError(
                        "it is an access list in the form of Solaris, whose users are names of another machine; "
                        "pack the files without access lists"
                    )
                else:
                    return self._entry(block, flag, extension)
            except ValueError as error:
                name = show(extension.long_name or read_text(block, 0, 100))
                raise StrataError(
                    f"the archive is damaged: the header of entry {name} at byte {start}: {error}"
                ) from error

    def _read_header_block(self, extension: _Extension) -> Optional[bytes]:
        """The next header with a right checksum, None at the end-of-archive marker."""
        start = self._source.position
        block = self._source.at_most(BLOCK)
        if not block and self._pinned and not extension.seen:
            return None
        if not block:
            raise StrataError(
                f"the archive is cut short: it ends at byte {start}{self._source.near()}, without an "
                "end-of-archive marker"
            )
        if len(block) < BLOCK:
            error = self._source.cut_short()
            raise StrataError(f"{error}{_instead(block)}") if start == 0 else error
        if block == _ZEROS:
            if extension.seen:
                raise StrataError(f"the archive is damaged: at byte {start} it ends where an entry was announced")
            self._read_end()
            return None
        if not checksum_matches(block):
            raise StrataError(
                f"this is no tar archive, or it is damaged: no valid header at byte {start}{self._source.near()}"
                f"{_instead(block) if start == 0 else ''}"
            )
        return block

    def _read_end(self) -> None:
        """After the first block of zeros only zeros may follow, to the end of the stream."""
        if self._pinned:
            start = self._source.position
            block = self._source.at_most(BLOCK)
            if block == _ZEROS:
                while self._source.up_to(CHUNK):
                    pass
                return
            _check_zeros(block, start)
        while True:
            start = self._source.position
            piece = self._source.up_to(CHUNK)
            if not piece:
                return
            _check_zeros(piece, start)

    def _payload(self, block: bytes) -> bytes:
        size = read_number(block[124:136])
        if not 0 <= size <= _MAX_EXTENDED:
            raise ValueError(f"an extended header of {size} bytes is not believable")
        payload = self._source.exactly(size)
        self._source.skip(-size % BLOCK)
        return payload

    def _extend(self, extension: _Extension, flag: bytes, payload: bytes) -> None:
        if flag == b"g":
            self._globals.update(for_all(parse_records(payload)))
            return
        extension.seen = True
        extension.size += len(payload)
        _believable(extension.size)
        if flag == b"L":
            extension.long_name = payload.split(b"\0", 1)[0]
        elif flag == b"K":
            extension.long_target = payload.split(b"\0", 1)[0]
        else:
            extension.records = parse_records(payload)  # a second header replaces the first, as in GNU tar and bsdtar

    def _entry(self, block: bytes, flag: bytes, extension: _Extension) -> Entry:
        """Put header, long names and records together; leaves the stream at the first byte of data."""
        entry = from_header(block, flag)
        if extension.long_name is not None:
            entry.name = extension.long_name
        if extension.long_target is not None:
            entry.target = extension.long_target
        if self._globals or extension.records:
            apply_records(entry, {**self._globals, **dict(extension.records)})
        if entry.kind == "file" and entry.name.endswith(b"/"):
            entry.kind = "directory"  # how tar marked it before there was a type for it
        # What it is comes before how much of it there is: directories, links, devices and fifos have no data, whatever
        # the header or a record says (as GNU tar and Go have it; of old directories bsdtar and Python say the same).
        stored = entry.size if entry.kind == "file" or flag == _DUMP else 0
        if not 0 <= stored < MAX_SIZE:
            raise ValueError(f"a size of {stored} bytes is out of range")
        if entry.kind != "file":
            entry.size = 0
        check_ranges(entry)
        sparse = self._sparse_map(entry, block, flag, extension.records)
        if sparse is not None:
            entry.size, entry.sparse = check_extents(sparse, stored)
        self._source.entry = entry.name
        self._left = stored - (sparse.used if sparse else 0)
        self._padding = -stored % BLOCK
        return entry

    def _sparse_map(self, entry: Entry, block: bytes, flag: bytes, records: list[Record]) -> Optional[SparseMap]:
        if flag != b"S" and not (records and is_sparse(records)):
            return None
        if entry.kind != "file":
            raise ValueError("it has the map of a sparse file but is not one")
        take = self._source.exactly
        return old_gnu_map(block, take) if flag == b"S" else pax_map(records, take, entry.size)


def _instead(head: bytes) -> str:
    """What is there in place of an archive, where its first bytes say it."""
    # Imported only when needed: nearly everything is a tar.
    from ansible_collections.strata.overlay.plugins.module_utils._archive.magic import not_a_tar

    message = not_a_tar(head)
    return f"; {message}" if message else ""


def _check_zeros(piece: bytes, start: int) -> None:
    if piece.count(0) != len(piece):
        raise StrataError(
            f"the archive is damaged: after the end-of-archive marker, from byte {start} on, there is more than zeros"
        )


def _believable(size: int) -> None:
    if size > _MAX_EXTENDED:
        raise ValueError(f"extended headers of {size} bytes in all are not believable")
