# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Adjusts file times of a new layer, so that tools that compare size and time notice changed files.

Whoever goes by size and time (Python's bytecode, web servers and browsers, rsync) takes two files with the same of both
for one. So a file with other bytes than before gets a later time where size and time would stay the same. Inline files
have no times where they come from: those with the same bytes as before keep the time that they had.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Optional

from ansible_collections.strata.overlay.plugins.module_utils._archive.limits import UNLESS_SET, Limits
from ansible_collections.strata.overlay.plugins.module_utils._layer.pack import ChunkReader
from ansible_collections.strata.overlay.plugins.module_utils._layer.pack_overlay import pack_content
from ansible_collections.strata.overlay.plugins.module_utils._layer.rootdir import RootDirectory
from ansible_collections.strata.overlay.plugins.module_utils._layer.tree_digest import tree_digest
from ansible_collections.strata.overlay.plugins.module_utils._layer.unpack import Unpacked, digest
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import READ_FILE
from ansible_collections.strata.overlay.plugins.module_utils._linux.holes import same_bytes

_SECOND = 10**9


def settle_times(
    tree: str,
    unpacked: Unpacked,
    before: Sequence[str],
    inline: bool = False,
    userxattr: bool = False,
    limits: Limits = UNLESS_SET,
) -> Unpacked:
    """Set times in a tree that nobody uses yet. Time grows with the files that are as they were, which are read twice.

    :param before: trees that it replaces, the latest first; nothing in them is changed or followed out of them.
    :param inline: files with the same bytes as in one of these keep the time that they have there.
    :param userxattr, limits: as for ``unpack``.
    :returns: what the tree is now: with another DiffID where times were set.
    """
    with contextlib.ExitStack() as stack:
        roots = [stack.enter_context(RootDirectory(path)) for path in before]
        if not sum([_settle_directory(*level, roots, inline) for level in _directories(tree)]):
            return unpacked
    found = digest(ChunkReader(pack_content(tree, userxattr)).read, limits)
    return replace(unpacked, diff_id=found.diff_id, digest=tree_digest(tree).digest)


def _directories(tree: str) -> Iterator[tuple[bytes, int, list[bytes]]]:
    """Each directory: its path below the top, its descriptor, and the names in it that are no directories."""
    top = os.fsencode(tree)
    for path, _directories_in_it, names, descriptor in os.fwalk(top, follow_symlinks=False):
        yield path[len(top) + 1 :], descriptor, sorted(names)


def _settle_directory(
    path: bytes, descriptor: int, names: Sequence[bytes], roots: Sequence[RootDirectory], inline: bool
) -> int:
    """How many times were set."""
    with contextlib.ExitStack() as stack:
        older: list[int] = []
        for root in roots:
            with contextlib.suppress(OSError):  # it has no such directory
                older.append(root.open(path) if path else os.dup(root.fd))
                stack.callback(os.close, older[-1])
        return sum(_settle(descriptor, name, older, inline) for name in names) if older else 0


def _settle(descriptor: int, name: bytes, older: Sequence[int], inline: bool) -> bool:
    facts = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
    if not stat.S_ISREG(facts.st_mode):
        return False
    rivals = [(place, status) for place, status in ((place, _status(place, name)) for place in older) if status]
    rivals = [(place, status) for place, status in rivals if status.st_size == facts.st_size]
    wanted = facts.st_mtime_ns
    if inline and rivals and _is_same(descriptor, rivals[0][0], name):
        wanted = rivals[0][1].st_mtime_ns
    else:
        # Whole seconds: that is how they are compared by most.
        seconds: dict[int, list[int]] = {}
        for place, status in rivals:
            seconds.setdefault(status.st_mtime_ns // _SECOND, []).append(place)
        while wanted // _SECOND in seconds:
            if any(_is_same(descriptor, place, name) for place in seconds[wanted // _SECOND]):
                break
            wanted += _SECOND
    if wanted == facts.st_mtime_ns:
        return False
    os.utime(name, ns=(wanted, wanted), dir_fd=descriptor, follow_symlinks=False)
    return True


def _status(directory: int, name: bytes) -> Optional[os.stat_result]:
    try:
        facts = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return None
    return facts if stat.S_ISREG(facts.st_mode) else None


def _is_same(directory: int, other: int, name: bytes) -> bool:
    """Whether two regular files have the same bytes."""
    flags = READ_FILE
    with contextlib.ExitStack() as stack:
        pair: list[int] = []
        for place in (directory, other):
            pair.append(os.open(name, flags, dir_fd=place))
            stack.callback(os.close, pair[-1])
        return same_bytes(*pair)
