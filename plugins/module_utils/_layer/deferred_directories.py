# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Sets owners, modes, attributes and times of directories after everything inside them is written.

An archive chooses how many there are and how large their attributes, so only names stay in memory, and are counted:
the rest goes to a file without a name once it is more than a mebibyte.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator
from typing import Callable

from ansible_collections.strata.overlay.plugins.module_utils._archive.header import (
    NANOSECONDS,
    Entry,
    format_record,
    parse_records,
    read_xattrs,
    xattr_key,
)

IN_MEMORY = 1 << 20
"""Bytes that are kept before they go to a file."""

_ITEM = 200
"""Bytes that one of them takes in memory beside the bytes of its name."""

_FACTS = struct.Struct("<HIIqII")
"""Mode, uid, gid, seconds, nanoseconds, bytes of the attributes that follow as PAX records."""


class PendingDirectories:
    """Metadata of directories by path, kept until the end. A context manager.

    :param beside: a directory on whose file system the file may lie.
    :param keep: is called with the bytes that are kept in memory, and may refuse.
    """

    def __init__(self, beside: str, keep: Callable[[int], None] = lambda size: None) -> None:
        self._keep = keep
        self._offsets: dict[bytes, int] = {}
        self._removed: dict[bytes, int] = {}
        self._end = 0
        self._kept = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY, dir=beside)  # noqa: SIM115 closed on exit

    def __enter__(self) -> PendingDirectories:
        return self

    def __exit__(self, *_error: object) -> None:
        self._kept.close()

    def add(self, path: bytes, entry: Entry) -> None:
        """The entry of a directory; of two for one path the later counts. :raises OSError: the disk is full."""
        attributes = b"".join(format_record(xattr_key(name), value) for name, value in entry.xattrs.items())
        seconds, nanoseconds = divmod(entry.mtime_ns, NANOSECONDS)
        facts = _FACTS.pack(entry.mode, entry.uid, entry.gid, seconds, nanoseconds, len(attributes))
        self._kept.write(facts + attributes)
        if path not in self._offsets:
            self._keep(_ITEM + len(path))
        self._offsets[path] = self._end
        self._end += len(facts) + len(attributes)

    def remove(self, path: bytes) -> None:
        """Forget what is kept for this path and all below it."""
        # Remembered by when it was, not looked for: an archive can replace things as often as it has directories.
        if path not in self._removed:
            self._keep(_ITEM + len(path))
        self._removed[path] = self._end

    def __iter__(self) -> Iterator[tuple[bytes, Entry]]:
        """Children before their parents. Nothing can be added any more."""
        for path in sorted(self._offsets, reverse=True):
            offset = self._offsets[path]
            if not self._is_removed(path, offset):
                yield path, self._read(path, offset)

    def _is_removed(self, path: bytes, offset: int) -> bool:
        return bool(self._removed) and any(self._removed.get(above, 0) > offset for above in _above(path))

    def _read(self, path: bytes, offset: int) -> Entry:
        self._kept.seek(offset)
        mode, uid, gid, seconds, nanoseconds, length = _FACTS.unpack(self._kept.read(_FACTS.size))
        attributes = read_xattrs(dict(parse_records(self._kept.read(length)))) if length else {}
        mtime_ns = seconds * NANOSECONDS + nanoseconds
        return Entry(path, "directory", mode, uid, gid, mtime_ns=mtime_ns, xattrs=attributes)


def _above(path: bytes) -> list[bytes]:
    """b"a/b" -> [b"a/b", b"a"]."""
    found = [path]
    while b"/" in path:
        path = path.rpartition(b"/")[0]
        found.append(path)
    return found
