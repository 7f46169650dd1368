# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Builds an entry from a tar header and its PAX records. Pure."""

from __future__ import annotations

from ansible_collections.strata.overlay.plugins.module_utils._archive.acl import take_access_lists
from ansible_collections.strata.overlay.plugins.module_utils._archive.header import (
    HEADER,
    NANOSECONDS,
    POSIX_MAGIC,
    Entry,
    Record,
    is_attribute,
    read_decimal,
    read_number,
    read_time,
    read_xattrs,
)

_FOR_ALL = (b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime")
"""What is taken from global headers. They cost time with every entry, so there must not be many of them."""


_KINDS = {
    b"\0": "file",
    b"0": "file",
    b"7": "file",
    b"S": "file",
    b"1": "hardlink",
    b"2": "symlink",
    b"3": "char",
    b"4": "block",
    b"5": "directory",
    b"D": "directory",
    b"6": "fifo",
}


def for_all(records: list[Record]) -> dict[bytes, bytes]:
    """What a global header says about all entries that follow."""
    for key, _value in records:
        # Docker takes none from there either; some megabytes of them on each of many small entries fill any disk.
        if is_attribute(key):
            raise ValueError(
                "a global header with extended attributes for all entries is refused; write them per entry"
            )
    return {key: value for key, value in records if key in _FOR_ALL}


def from_header(block: bytes, flag: bytes) -> Entry:
    """What the header alone says. A type that is not known is a file's (POSIX ustar, "typeflag"), as GNU tar has it."""
    kind = _KINDS.get(flag, "file")
    text, mode, uid, gid, size, mtime, target, magic, major, minor, prefix = HEADER.unpack(block)
    name: bytes = text.split(b"\0", 1)[0]
    if magic == POSIX_MAGIC and prefix[0]:
        name = prefix.split(b"\0", 1)[0] + b"/" + name
    return Entry(
        name,
        kind,
        read_number(mode) & 0o7777,
        read_number(uid),
        read_number(gid),
        read_number(size),
        read_number(mtime) * NANOSECONDS,
        target.split(b"\0", 1)[0] if kind in ("hardlink", "symlink") else b"",
        (read_number(major), read_number(minor)) if kind in ("char", "block") else (0, 0),
        unknown_type="" if flag in _KINDS else flag.decode("latin-1"),
    )


def apply_records(entry: Entry, records: dict[bytes, bytes]) -> None:
    """PAX records override the header; an empty one cancels a global header's."""
    entry.name = records.get(b"GNU.sparse.name") or records.get(b"path") or entry.name
    if entry.kind in ("hardlink", "symlink"):
        entry.target = records.get(b"linkpath") or entry.target
    if records.get(b"size"):
        entry.size = read_decimal(records[b"size"])
    if records.get(b"uid"):
        entry.uid = read_decimal(records[b"uid"])
    if records.get(b"gid"):
        entry.gid = read_decimal(records[b"gid"])
    if records.get(b"mtime"):
        entry.mtime_ns = read_time(records[b"mtime"])
    entry.xattrs = read_xattrs(records)
    if entry.kind not in ("hardlink", "symlink"):
        take_access_lists(records, entry)
