# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Whether a content is still what was imported: a digest of its whole tree, and how it is told what changed first.

The digest covers names, types, modes, owners, sizes, times of modification, link targets, devices, attributes and the
bytes of every file. It is made by the first deep check of a content and kept beside its record; that an import makes it
would cost it a tenth. What changed between import and that check is told by the kernel's own mark: no file of a content
is ever changed, so none has a time of change (ctime, which nothing but the clock can forge) after the import, unless
all of them have, as in a store that was copied.
"""

from __future__ import annotations

import calendar
import hashlib
import os
import stat
import time
from dataclasses import dataclass
from typing import Iterator, List, Optional, Tuple

from ansible_collections.strata.overlay.plugins.module_utils._untouched import Measure, open_quietly

_PIECE = 1 << 20
_SLACK = 5
"""Seconds between clocks: the one that files take their times from is some milliseconds behind."""


@dataclass(frozen=True)
class TreeFacts:
    """What the record of a content says of its tree."""

    size: int
    entries: int
    allocated: int


@dataclass(frozen=True)
class TreeDigest:
    """A tree as it is now.

    :ivar inode: of its top directory.
    :ivar size: bytes of its regular files, hard links counted once.
    :ivar later: names of up to three entries that were changed after a given moment; empty where all were.
    """

    digest: str
    inode: int
    size: int
    later: Tuple[str, ...]


def tree_facts(top: str) -> TreeFacts:
    """Size, number of entries and bytes on disk of a tree."""
    entries = size = 0
    seen = set()
    for _path, facts in _walk(top):
        entries += 1
        if stat.S_ISREG(facts.st_mode) and (facts.st_dev, facts.st_ino) not in seen:
            seen.add((facts.st_dev, facts.st_ino))
            size += facts.st_size
    return TreeFacts(size, entries, Measure().tree(top))


def tree_digest(top: str, imported: str) -> TreeDigest:
    """Read a whole tree.

    :param imported: when it was imported, as records write it; ``""`` where that is not known.
    :raises OSError: as the kernel says; FileNotFoundError where something went while it was read.
    """
    limit = _seconds(imported)
    total = hashlib.sha256()
    first = os.lstat(top)
    _add(total, b"", top, first)
    size = entries = 0
    late: List[str] = []
    count_late = 0
    seen = set()
    for path, facts in _walk(top):
        entries += 1
        name = path[len(top) + 1 :]
        _add(total, os.fsencode(name), path, facts)
        if stat.S_ISREG(facts.st_mode) and facts.st_ino not in seen:
            seen.add(facts.st_ino)
            size += facts.st_size
        if limit is not None and facts.st_ctime > limit + _SLACK:
            count_late += 1
            late += [name] if len(late) < 3 else []
    return TreeDigest(total.hexdigest(), first.st_ino, size, () if count_late == entries else tuple(late))


def _seconds(moment: str) -> Optional[float]:
    try:
        return float(calendar.timegm(time.strptime(moment, "%Y-%m-%dT%H:%M:%SZ")))
    except ValueError:
        return None


def _walk(top: str) -> Iterator[Tuple[str, os.stat_result]]:
    """Everything below a directory in the order of names, without what is mounted there."""
    descriptor = open_quietly(top, os.O_DIRECTORY)
    try:
        with os.scandir(descriptor) as listing:
            found = sorted((item.name, item.stat(follow_symlinks=False)) for item in listing)
    finally:
        os.close(descriptor)
    for name, facts in found:
        path = f"{top}/{name}"
        yield path, facts
        if stat.S_ISDIR(facts.st_mode):
            yield from _walk(path)


def _add(total: hashlib._Hash, name: bytes, path: str, facts: os.stat_result) -> None:
    kind = stat.S_IFMT(facts.st_mode)
    size = 0 if kind == stat.S_IFDIR else facts.st_size
    device = facts.st_rdev if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0
    numbers = (facts.st_mode, facts.st_uid, facts.st_gid, size, facts.st_mtime_ns, device)
    parts = [name, repr(numbers).encode(), *_attributes(path)]
    if kind == stat.S_IFLNK:
        parts.append(os.fsencode(os.readlink(path)))
    elif kind == stat.S_IFREG:
        parts.append(_file_digest(path))
    # Each with its length, so that no two lists read the same.
    total.update(b"".join(b"%d:%s" % (len(part), part) for part in [b"%d" % len(parts), *parts]))


def _attributes(path: str) -> List[bytes]:
    try:
        names = sorted(os.listxattr(path, follow_symlinks=False))
    except OSError:
        return []
    return [os.fsencode(name) + b"=" + os.getxattr(path, name, follow_symlinks=False) for name in names]


def _file_digest(path: str) -> bytes:
    digest = hashlib.sha256()
    descriptor = open_quietly(path, 0)
    try:
        for piece in iter(lambda: os.read(descriptor, _PIECE), b""):
            digest.update(piece)
    finally:
        os.close(descriptor)
    return digest.digest()
