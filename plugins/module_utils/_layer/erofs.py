# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""The EROFS format as bytes: superblock, inodes, attributes, directory blocks, chunk tables. Pure.

Sources: Linux fs/erofs/erofs_fs.h, whose names are given; Documentation/filesystems/erofs.rst.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable, Iterator

BLOCK_BITS = 9
BLOCK = 1 << BLOCK_BITS
"""Bytes of a block (blkszbits): that of a tar, so that a file's data is addressed where it lies in the archive."""

HEAD = 4096
"""Bytes before the archive: a page, of which only the superblock is used."""

_SUPER_OFFSET = 1024
"""EROFS_SUPER_OFFSET."""

_MAGIC = 0xE0F5E1E2
"""EROFS_SUPER_MAGIC_V1."""

_COMPAT = 0x1 | 0x2
"""EROFS_FEATURE_COMPAT_SB_CHKSUM, EROFS_FEATURE_COMPAT_MTIME."""

CHUNKED_FILE = 0x4
"""EROFS_FEATURE_INCOMPAT_CHUNKED_FILE."""

FLAT_PLAIN, FLAT_INLINE, CHUNK_BASED = 0, 2, 4
"""EROFS_INODE_FLAT_PLAIN, EROFS_INODE_FLAT_INLINE, EROFS_INODE_CHUNK_BASED: i_format's data layout."""

_EXTENDED = 1
"""EROFS_INODE_LAYOUT_EXTENDED: i_format's lowest bit."""

SLOT = 32
"""Bytes in which nids count (iloc: meta_blkaddr and nid * 32)."""

INODE = struct.Struct("<HHHHQIIIIQIIQII")
"""struct erofs_inode_extended: i_format, i_xattr_icount, i_mode, i_reserved, i_size, i_u, i_ino, i_uid, i_gid, i_mtime,
i_mtime_nsec, i_nlink, and i_reserved2 as three numbers.
"""

DIRENT = struct.Struct("<QHBx")
"""struct erofs_dirent: nid, nameoff, file_type, reserved."""

_SUPER = struct.Struct("<IIIBBHQQIIII16s16sIHHHBBIQB23x")
"""struct erofs_super_block."""

_XATTR_HEADER = bytes(12)
"""struct erofs_xattr_ibody_header: no name filter, no shared attributes."""

_XATTR_ENTRY = struct.Struct("<BBH")
"""struct erofs_xattr_entry: e_name_len, e_name_index, e_value_size."""

_PREFIXES = ((b"user.", 1), (b"trusted.", 4), (b"security.", 6))
_WHOLE = {b"system.posix_acl_access": 2, b"system.posix_acl_default": 3}
"""EROFS_XATTR_INDEX_…: what the name of an attribute begins with, or is."""

MAX_VALUE = 0xFFFF
"""Bytes of an attribute's value that e_value_size can say; one less than Linux takes."""

MAX_XATTRS = 12 + 4 * 0xFFFE
"""Bytes of a file's attributes that i_xattr_icount can say."""

NULL_ADDRESS = 0xFFFFFFFF
"""EROFS_NULL_ADDR: a chunk that is a hole."""

MAX_BLOCKS = NULL_ADDRESS
"""Blocks that a 32-bit address can tell apart."""

MAX_CHUNK_BITS = 31
"""EROFS_CHUNK_FORMAT_BLKBITS_MASK: blocks of a chunk, as a power of two."""

_FILE_TYPES = {0x8: 1, 0x4: 2, 0x2: 3, 0x6: 4, 0x1: 5, 0xA: 7}
"""Kind of a file (st_mode >> 12) -> file_type, as linux/fs_types.h has it."""


def i_format(layout: int) -> int:
    return layout << 1 | _EXTENDED


def file_type(mode: int) -> int:
    return _FILE_TYPES[mode >> 12]


def device(major: int, minor: int) -> int:
    """i_u.rdev, as the kernel's new_encode_dev has it."""
    return minor & 0xFF | major << 8 | (minor & ~0xFF) << 12


def superblock(root_nid: int, inodes: int, blocks: int, meta_block: int, incompatible: int) -> bytes:
    """The first page of an image, with a superblock whose checksum is right."""

    def packed(checksum: int) -> bytes:
        return _SUPER.pack(
            *(_MAGIC, checksum, _COMPAT, BLOCK_BITS, 0, root_nid, inodes, 0, 0, blocks, meta_block, 0),
            *(b"", b"", incompatible, 0, 0, 0, 0, 0, 0, 0, 0),
        )

    # Of the superblock's whole block, which is all that lies behind it where blocks are smaller than its offset.
    checksum = _crc32c(packed(0).ljust(BLOCK, b"\0"))
    return (bytes(_SUPER_OFFSET) + packed(checksum)).ljust(HEAD, b"\0")


def pack_xattrs(attributes: dict[bytes, bytes]) -> bytes:
    """A file's attributes, as they stand behind its inode; empty for none.

    :raises ValueError: saying what EROFS cannot hold.
    """
    if not attributes:
        return b""
    parts = [_XATTR_HEADER]
    for name, value in sorted(attributes.items()):
        index, rest = _name_index(name)
        if len(value) > MAX_VALUE:
            raise ValueError(f"the attribute {name!r} has {len(value)} bytes; an image takes {MAX_VALUE}")
        entry = _XATTR_ENTRY.pack(len(rest), index, len(value)) + rest + value
        parts += [entry, bytes(-len(entry) % 4)]
    body = b"".join(parts)
    if len(body) > MAX_XATTRS:
        raise ValueError(f"its attributes have {len(body)} bytes in all; an image takes {MAX_XATTRS}")
    return body


def unpack_xattrs(body: bytes) -> dict[bytes, bytes]:
    """What ``pack_xattrs`` has packed."""
    prefixes = {index: name for name, index in [*_PREFIXES, *_WHOLE.items()]}
    found: dict[bytes, bytes] = {}
    at = len(_XATTR_HEADER)
    while at < len(body):
        length, index, size = _XATTR_ENTRY.unpack_from(body, at)
        at += _XATTR_ENTRY.size
        found[prefixes[index] + body[at : at + length]] = body[at + length : at + length + size]
        at += length + size
        at += -at % 4
    return found


def xattr_count(body: bytes) -> int:
    """i_xattr_icount."""
    return (len(body) - len(_XATTR_HEADER)) // 4 + 1 if body else 0


def _name_index(name: bytes) -> tuple[int, bytes]:
    if name in _WHOLE:
        return _WHOLE[name], b""
    for prefix, index in _PREFIXES:
        if name.startswith(prefix):
            return index, name[len(prefix) :]
    raise ValueError(f"the attribute {name!r} is of no namespace that an image can hold")


def directory_blocks(entries: Iterable[tuple[bytes, int, int]]) -> Iterator[tuple[bytes, int]]:
    """The blocks of a directory, and how many bytes of each are used.

    :param entries: name, nid and file type of each, sorted by name; "." and ".." among them.
    """
    heads: list[tuple[int, int]] = []
    names: list[bytes] = []
    used = 0
    for name, nid, kind in entries:
        need = DIRENT.size + len(name)
        if used + need > BLOCK:
            yield _directory_block(heads, names)
            heads, names, used = [], [], 0
        heads.append((nid, kind))
        names.append(name)
        used += need
    yield _directory_block(heads, names)


def _directory_block(heads: list[tuple[int, int]], names: list[bytes]) -> tuple[bytes, int]:
    at = DIRENT.size * len(heads)
    parts = []
    for (nid, kind), name in zip(heads, names):
        parts.append(DIRENT.pack(nid, at, kind))
        at += len(name)
    return b"".join(parts + names).ljust(BLOCK, b"\0"), at


@functools.lru_cache(maxsize=1)
def _crc32c_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte
        for _bit in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


def _crc32c(data: bytes) -> int:
    """The CRC-32C that the kernel makes of data: begun with all ones, and not inverted at the end."""
    table = _crc32c_table()
    found = 0xFFFFFFFF
    for byte in data:
        found = found >> 8 ^ table[(found ^ byte) & 0xFF]
    return found
