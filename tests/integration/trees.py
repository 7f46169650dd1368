# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All that a user can tell of a tree, to compare two of them file by file."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import stat
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Facts:
    """All that a user can tell of one file.

    :ivar size: of files and symbolic links; that of a directory depends on the file system.
    :ivar twins: the other names of the same file in this tree.
    :ivar mtime_ns: not of directories: writing into one changes it, whatever writes.
    """

    kind: int
    mode: int
    owner: tuple[int, int]
    size: int = 0
    digest: str = ""
    xattrs: tuple[tuple[str, bytes], ...] = ()
    target: bytes = b""
    device: tuple[int, int] = (0, 0)
    twins: tuple[bytes, ...] = ()
    mtime_ns: int = 0


Tree = dict[bytes, Facts]


def tree_of(top: Path) -> Tree:
    """Every file below a directory, and the directory, by relative path."""
    start = os.fsencode(top)
    names: dict[tuple[int, int], list[bytes]] = defaultdict(list)
    found: Tree = {b".": facts_of(start)}
    for directory, directories, files in os.walk(start):
        for name in directories + files:
            path = os.path.join(directory, name)
            relative = os.path.relpath(path, start)
            found[relative] = facts_of(path)
            status = os.lstat(path)
            if not stat.S_ISDIR(status.st_mode):
                names[status.st_dev, status.st_ino].append(relative)
    for group in names.values():
        for name in group:
            twins = tuple(sorted(other for other in group if other != name))
            found[name] = dataclasses.replace(found[name], twins=twins)
    return found


def facts_of(path: bytes) -> Facts:
    status = os.lstat(path)
    kind = stat.S_IFMT(status.st_mode)
    xattrs = {
        name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)
    }
    device = status.st_rdev if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0
    return Facts(
        kind=kind,
        mode=stat.S_IMODE(status.st_mode),
        owner=(status.st_uid, status.st_gid),
        size=status.st_size if kind in (stat.S_IFREG, stat.S_IFLNK) else 0,
        digest=digest_of(path) if kind == stat.S_IFREG else "",
        xattrs=tuple(sorted(item for item in xattrs.items() if ".overlay." not in item[0])),
        target=os.readlink(path) if kind == stat.S_IFLNK else b"",
        device=(os.major(device), os.minor(device)),
        mtime_ns=0 if kind == stat.S_IFDIR else status.st_mtime_ns,
    )


def digest_of(path: bytes) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def assert_same(found: Tree, expected: Tree) -> None:
    errors = [f"missing: {name!r}" for name in sorted(expected.keys() - found.keys())]
    errors += [f"not expected: {name!r}" for name in sorted(found.keys() - expected.keys())]
    for name in sorted(expected.keys() & found.keys()):
        have, want = dataclasses.asdict(found[name]), dataclasses.asdict(expected[name])
        errors += [f"{name!r}: {key}: {have[key]!r}, not {want[key]!r}" for key in want if have[key] != want[key]]
    assert not errors, f"{len(errors)} differences:\n" + "\n".join(errors[:30])
