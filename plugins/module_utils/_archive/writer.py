# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Writes tar headers: the same entry gives the same bytes on any machine and Python.

Sources: POSIX.1-2017 pax, "ustar Interchange Format" and "pax Header Block".
"""

from __future__ import annotations

import dataclasses
from typing import Optional

from ansible_collections.strata.overlay.plugins.module_utils._archive.header import (
    BLOCK,
    NANOSECONDS,
    POSIX_MAGIC,
    Entry,
    checksum,
    format_record,
    is_utf8,
    xattr_key,
)

END = bytes(2 * BLOCK)
"""The end-of-archive marker: two blocks of zeros."""

_FLAGS = {
    "file": b"0",
    "hardlink": b"1",
    "symlink": b"2",
    "char": b"3",
    "block": b"4",
    "directory": b"5",
    "fifo": b"6",
}
_MAX_OCTAL_7 = 8**7 - 1
_MAX_OCTAL_11 = 8**11 - 1


def padding(size: int) -> bytes:
    """The zeros that follow ``size`` bytes of data up to a whole block."""
    return bytes(-size % BLOCK)


def header(entry: Entry) -> bytes:
    """The header of an entry: one ustar block where everything fits, else a PAX header (records sorted) before it.

    Names that are not UTF-8 are marked hdrcharset=BINARY, as POSIX wants it.

    Behind that of a sparse file come ``sparse_map`` and the bytes of its extents (GNU tar's format 1.0).
    """
    records: dict[bytes, bytes] = {xattr_key(name): value for name, value in entry.xattrs.items()}
    stored = entry.size
    if entry.sparse is not None:
        records.update(
            {
                b"GNU.sparse.major": b"1",
                b"GNU.sparse.minor": b"0",
                b"GNU.sparse.name": entry.name,
                b"GNU.sparse.realsize": b"%d" % entry.size,
            }
        )
        stored = len(sparse_map(entry)) + sum(length for _offset, length in entry.sparse)
    split = _split_name(entry.name)
    if split is None:
        records[b"path"] = entry.name
        split = (b"", entry.name[:100])
    if len(entry.target) > 100:
        records[b"linkpath"] = entry.target
    seconds = _fitting(records, b"mtime", entry.mtime_ns // NANOSECONDS, _MAX_OCTAL_11)
    if entry.mtime_ns % NANOSECONDS:
        records[b"mtime"] = _time_text(entry.mtime_ns)
    fields = dataclasses.replace(
        entry,
        name=split[1],
        target=entry.target[:100],
        uid=_fitting(records, b"uid", entry.uid, _MAX_OCTAL_7),
        gid=_fitting(records, b"gid", entry.gid, _MAX_OCTAL_7),
        size=_fitting(records, b"size", stored, _MAX_OCTAL_11),
        mtime_ns=seconds * NANOSECONDS,
    )
    block = _block(fields, _FLAGS[entry.kind], split[0])
    if any(not is_utf8(records.get(key, b"")) for key in (b"path", b"linkpath", b"GNU.sparse.name")):
        records[b"hdrcharset"] = b"BINARY"
    return _pax_header(entry.name, records) + block if records else block


def sparse_map(entry: Entry) -> bytes:
    """Where the data of a sparse file lies, in whole blocks; nothing for a file that is stored whole."""
    if entry.sparse is None:
        return b""
    extents = [*entry.sparse, (entry.size, 0)]  # the last as GNU tar has it, for a hole at the end
    text = b"%d\n" % len(extents) + b"".join(b"%d\n%d\n" % extent for extent in extents)
    return text + padding(len(text))


def _fitting(records: dict[bytes, bytes], key: bytes, value: int, limit: int) -> int:
    """The value for the ustar field; one that does not fit becomes a PAX record and leaves zero."""
    if 0 <= value <= limit:
        return value
    records[key] = b"%d" % value
    return 0


def _time_text(mtime_ns: int) -> bytes:
    seconds, nanoseconds = divmod(abs(mtime_ns), NANOSECONDS)
    return b"%s%d.%s" % (b"-" if mtime_ns < 0 else b"", seconds, b"%09d" % nanoseconds)


def _split_name(name: bytes) -> Optional[tuple[bytes, bytes]]:
    """Prefix and name fields (155 and 100 bytes, joined by a slash); None where the name fits no split."""
    if len(name) <= 100:
        return b"", name
    cut = name.find(b"/", max(0, len(name) - 101))
    if 0 < cut <= 155 and cut < len(name) - 1:
        return name[:cut], name[cut + 1 :]
    return None


def _pax_header(name: bytes, records: dict[bytes, bytes]) -> bytes:
    payload = b"".join(format_record(key, records[key]) for key in sorted(records))
    last = name.rstrip(b"/").rsplit(b"/", 1)[-1]
    block = _block(Entry(b"PaxHeaders/" + last[:80], "file", mode=0o644, size=len(payload)), b"x", b"")
    return block + payload + padding(len(payload))


def _block(entry: Entry, flag: bytes, prefix: bytes) -> bytes:
    """One ustar block; all values fit. User and group names stay empty: they mean nothing on another machine."""
    raw = b"".join(
        (
            entry.name.ljust(100, b"\0"),
            b"%07o\0%07o\0%07o\0" % (entry.mode, entry.uid, entry.gid),
            b"%011o\0%011o\0" % (entry.size, entry.mtime_ns // NANOSECONDS),
            b" " * 8,
            flag,
            entry.target.ljust(100, b"\0"),
            POSIX_MAGIC + b"00" + bytes(64),
            b"%07o\0%07o\0" % entry.device,
            prefix.ljust(155, b"\0"),
            bytes(12),
        )
    )
    return raw[:148] + b"%06o\0 " % checksum(raw) + raw[156:]
