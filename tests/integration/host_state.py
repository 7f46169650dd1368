# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All that a killed run would leave at this moment: files with what is in them, and mounts. To tell moments apart."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from typing import Any, NamedTuple

PROBE = "/run/strata-probe"
"""The one directory outside the store in which runs work."""


class State(NamedTuple):
    """Digests of a host.

    :ivar whole: of everything. :ivar visible: the same but for what lies inside the directories of single runs, in
        ``staging/`` and ``trash/``: the next run does not read it, it deletes all of it.
    """

    whole: str
    visible: str


def state_of(top: str) -> State:
    """The host whose store is ``store`` below a directory, and whose stacks lie there too. Times of access are left
    out, and what the stacks show: it follows from the mounts and the files below them.
    """
    whole, visible = hashlib.sha256(), hashlib.sha256()
    within = tuple(f"{top}/store/{name}/" for name in ("staging", "trash"))
    for path, facts in (*_files(top), *_files(PROBE)):
        text = repr((path, facts)).encode("utf-8", "surrogateescape")
        whole.update(text)
        if not (path.startswith(within) and path[len(top) :].count("/") > 3):
            visible.update(text)
    with open("/proc/self/mountinfo", "rb") as table:
        mounts = table.read()
    whole.update(mounts)
    visible.update(mounts)
    return State(whole.hexdigest(), visible.hexdigest())


def _files(top: str) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Every file below a directory on its own file system, in an order that is the same each time."""
    waiting = [top] if os.path.isdir(top) else []
    device = os.stat(waiting[0]).st_dev if waiting else 0
    while waiting:
        directory = waiting.pop()
        for name in sorted(os.listdir(directory)):
            path = f"{directory}/{name}"
            found = os.lstat(path)
            yield path, _facts(path, found)
            if stat.S_ISDIR(found.st_mode) and found.st_dev == device:
                waiting.append(path)


def _facts(path: str, found: os.stat_result) -> tuple[Any, ...]:
    content: str | bytes = b""
    if stat.S_ISLNK(found.st_mode):
        content = os.readlink(path)
    elif stat.S_ISREG(found.st_mode):
        with open(path, "rb") as stream:
            content = stream.read()
    names = sorted(os.listxattr(path, follow_symlinks=False))
    attributes = [(name, os.getxattr(path, name, follow_symlinks=False)) for name in names]
    size = 0 if stat.S_ISDIR(found.st_mode) else found.st_size
    owner = (found.st_mode, found.st_uid, found.st_gid, found.st_rdev)
    return (*owner, found.st_ino, found.st_nlink, size, found.st_mtime_ns, content, attributes)
