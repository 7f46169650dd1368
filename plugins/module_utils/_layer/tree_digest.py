# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Detects changes in a content after import by a digest of its whole tree.

The digest is a SHA-256 of names, types, modes, owners, sizes, times of modification, link targets, devices, attributes
and a CRC-32 of every file. It is made by the import, from bytes that the import has at hand anyway, and kept in the
content's record. It detects failing disks and accidental edits; whoever forges a CRC could write the record as well.

Which files are other ones is told by the kernel's own mark: no file of a content is ever changed, so none has a time of
change (ctime) after the import, unless all of them have, as in a store that was copied.
"""

from __future__ import annotations

import calendar
import hashlib
import os
import stat
import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple, Optional

from ansible_collections.strata.overlay.plugins.module_utils._linux.attributes import is_files
from ansible_collections.strata.overlay.plugins.module_utils._linux.holes import file_crc32
from ansible_collections.strata.overlay.plugins.module_utils._linux.noatime import Measure, allocated, open_noatime

_LONG_PATH = 2048
"""Bytes, far enough below those of the longest path (PATH_MAX, 4096): a name has 255 at most."""

_SLACK = 5
"""Seconds between clocks: the one that files take their times from is some milliseconds behind."""


class TreeDigest(NamedTuple):
    """A tree as it is now.

    :ivar with_all: the digest with all attributes, also those of file system and host, as records had it before.
    :ivar inode: of its top directory.
    :ivar size: bytes of its regular files, hard links counted once.
    :ivar entries: below the top directory.
    :ivar allocated: bytes that it takes on disk, as `_linux/noatime.Measure` counts them.
    :ivar later: names of up to three entries that were changed after a given moment; empty where all were.
    """

    digest: str
    with_all: str
    inode: int
    size: int
    entries: int
    allocated: int
    later: tuple[str, ...]


def tree_digest(top: str, imported: str = "", checksums: Mapping[int, int] = MappingProxyType({})) -> TreeDigest:
    """Read a whole tree.

    :param imported: when it was imported, as records write it; ``""`` where that is not known.
    :param checksums: of files whose bytes are known to whoever has just written them, by inode.
    :raises OSError: as the kernel says; FileNotFoundError where something went while it was read.
    """
    limit = _seconds(imported)
    total = _Total()
    first = os.lstat(top)
    total.add(*_text("", top, first, checksums))
    measure = Measure()
    on_disk = allocated(first)
    size = entries = late_entries = 0
    late: list[str] = []
    for name, path, facts in _walk(top, first.st_dev):
        entries += 1
        total.add(*_text(name, path, facts, checksums))
        if measure.is_new(facts):
            on_disk += allocated(facts)
            size += facts.st_size if stat.S_ISREG(facts.st_mode) else 0
        if limit is not None and facts.st_ctime > limit + _SLACK:
            late_entries += 1
            late += [name] if len(late) < 3 else []
    later = () if late_entries == entries else tuple(late)
    return TreeDigest(*total.digests(), first.st_ino, size, entries, on_disk, later)


class _Total:
    """The digest, and the other one from the first entry on for which they differ: nearly no tree has such."""

    def __init__(self) -> None:
        self._files = hashlib.sha256()
        self._all = self._files

    def add(self, text: bytes, with_all: bytes) -> None:
        """
        :param with_all: the same with all attributes; the very same object where the entry has no others.
        """
        if with_all is not text and self._all is self._files:
            self._all = self._files.copy()
        self._files.update(text)
        if self._all is not self._files:
            self._all.update(with_all)

    def digests(self) -> tuple[str, str]:
        return self._files.hexdigest(), self._all.hexdigest()


def _seconds(moment: str) -> Optional[float]:
    try:
        return float(calendar.timegm(time.strptime(moment, "%Y-%m-%dT%H:%M:%SZ")))
    except ValueError:
        return None


class _Level(NamedTuple):
    """A directory on the way down.

    :ivar path: by which the kernel finds it. :ivar name: of what is in it, less its own name.
    :ivar descriptor: that ``path`` leads through, -1 for none.
    """

    names: Iterator[str]
    path: str
    name: str
    descriptor: int


def _walk(top: str, device: int) -> Iterator[tuple[str, str, os.stat_result]]:
    """Everything below a directory in the order of names, without what is mounted there: its name, and the path by
    which it can be read now, which is another one where names are as long as paths may be.
    """
    levels = [_level(top, "")]
    try:
        while levels:
            names, inside, before, _descriptor = levels[-1]
            for each in names:
                path = f"{inside}/{each}"
                facts = os.lstat(path)
                if facts.st_dev != device:
                    continue
                yield f"{before}{each}", path, facts
                if stat.S_ISDIR(facts.st_mode):
                    levels.append(_level(path, f"{before}{each}/"))
                    break
            else:
                _leave(levels.pop())
    finally:
        for level in levels:
            _leave(level)


def _level(path: str, name: str) -> _Level:
    descriptor = open_noatime(path, os.O_DIRECTORY)
    kept = -1
    try:
        names = iter(sorted(os.listdir(descriptor)))
        if len(os.fsencode(path)) > _LONG_PATH:
            kept = descriptor
            path = f"/proc/self/fd/{descriptor}"
    finally:
        if kept < 0:
            os.close(descriptor)
    return _Level(names, path, name, kept)


def _leave(level: _Level) -> None:
    if level.descriptor >= 0:
        os.close(level.descriptor)


def _text(name: str, path: str, facts: os.stat_result, checksums: Mapping[int, int]) -> tuple[bytes, bytes]:
    """All that is to be digested of one entry, without and with what is the file system's or the host's."""
    mode, size, device, content = facts.st_mode, facts.st_size, 0, b""
    if stat.S_ISREG(mode):
        known = checksums.get(facts.st_ino)
        content = b"%08x" % (_checksum(path) if known is None else known)
    elif stat.S_ISDIR(mode):
        size = 0
    elif stat.S_ISLNK(mode):
        content = os.fsencode(os.readlink(path))
    elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        device = facts.st_rdev
    raw = os.fsencode(name)
    numbers = b"%d %d %d %d %d %d" % (mode, facts.st_uid, facts.st_gid, size, facts.st_mtime_ns, device)
    # Each part with its length, so that no two lists read the same.
    parts = b"%d:%b%d:%b%d:%b" % (len(raw), raw, len(numbers), numbers, len(content), content)
    attributes = _attributes(path)
    own = [text for name, text in attributes if is_files(name)]
    text = b"%d\n" % (3 + len(own)) + parts + b"".join(own)
    if len(own) == len(attributes):
        return text, text
    return text, b"%d\n" % (3 + len(attributes)) + parts + b"".join([each for _name, each in attributes])


def _attributes(path: str) -> list[tuple[str, bytes]]:
    """The name of each attribute, and what is digested of it."""
    try:
        names = sorted(os.listxattr(path, follow_symlinks=False))
    except OSError:
        return []
    texts = [os.fsencode(name) + b"=" + os.getxattr(path, name, follow_symlinks=False) for name in names]
    return [(name, b"%d:%b" % (len(text), text)) for name, text in zip(names, texts)]


def _checksum(path: str) -> int:
    descriptor = open_noatime(path, 0)
    try:
        return file_crc32(descriptor)
    finally:
        os.close(descriptor)
