# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Whether a stack may be mounted at a path: what lies there, and what is wrong with it in words."""

from __future__ import annotations

import errno
import os
import stat
from typing import List, NamedTuple, Sequence

from ansible_collections.strata.overlay.plugins.module_utils._mountinfo import Mount


class PathFacts(NamedTuple):
    """What lies at a stack's path.

    :ivar resolved: the path without links: how the mount table names it.
    :ivar kind: ``missing``, ``directory`` or ``other``.
    :ivar empty: of a directory: nothing is in it.
    :ivar ended: as ``ended`` tells of it.
    :ivar unsafe: a link on the way that someone other than root could change, or "".
    """

    resolved: str
    kind: str
    empty: bool
    unsafe: str
    ended: str = ""


def path_facts(path: str) -> PathFacts:
    """Look at a mount point and at every directory on the way to it."""
    resolved = os.path.realpath(path)
    unsafe = _unsafe_link(path)
    gone = ended(path)
    try:
        kind = "directory" if gone or stat.S_ISDIR(os.stat(path).st_mode) else "other"
    except FileNotFoundError:
        kind = "missing"
    except OSError:
        # A file on the way, or links in a circle.
        kind = "other"
    empty = kind == "directory" and not gone and not has_entries(path)
    return PathFacts(resolved, kind, empty, unsafe, gone)


def ended(path: str) -> str:
    """Whether what is mounted at a path has lost the program that served it, so that nothing in it can be reached: in
    words, "" where it has not. The kernel may know enough of the file system to answer stat(2) by itself.
    """
    try:
        os.statvfs(path)
    except OSError as error:
        return "the program that served it has ended" if error.errno == errno.ENOTCONN else ""
    return ""


def has_entries(path: str) -> bool:
    """Whether anything is in a directory."""
    with os.scandir(path) as entries:
        return next(iter(entries), None) is not None


def _unsafe_link(path: str) -> str:
    """The first symbolic link on the way that anyone but root (or this user, in a user namespace) could replace."""
    trusted = {0, os.geteuid()}
    above = "/"
    for part in path.strip("/").split("/"):
        here = os.path.join(above, part)
        try:
            facts = os.lstat(here)
        except OSError:
            return ""
        if stat.S_ISLNK(facts.st_mode):
            holder = os.stat(above)
            open_to_others = holder.st_mode & 0o022 and not holder.st_mode & stat.S_ISVTX
            if facts.st_uid not in trusted or holder.st_uid not in trusted or open_to_others:
                return here
            target = os.path.realpath(here)
            # Links in a circle have no end to follow.
            deeper = "" if os.path.islink(target) else _unsafe_link(target)
            if deeper:
                return deeper
        above = here
    return ""


def foreign_over(where: str, path: str, foreign: Mount) -> str:
    """The message for what someone else has mounted over a stack."""
    return (
        f"{where}: option 'path': another file system ({foreign.fstype} {foreign.source}) is mounted over the stack "
        f"at {path}; unmount it"
    )


def path_problems(
    where: str, path: str, cover: bool, facts: PathFacts, mounts: Sequence[Mount], ours: Sequence[Mount]
) -> List[str]:
    """Everything that speaks against mounting a stack at its path. Pure.

    :param mounts: the mounts at the path, lowest first; ``ours`` are those among them that show layers of the store.
    """
    tell = f"{where}: option 'path': "
    problems: List[str] = []
    if facts.unsafe:
        problems.append(
            f"{tell}on the way to {path}, {facts.unsafe} is a symbolic link that someone other than root could "
            "change; name the directory itself"
        )
    top = mounts[-1] if mounts else None
    foreign = top if top not in ours else None
    if facts.kind == "other":
        problems.append(f"{tell}{path} is not a directory; move it away or choose another path")
    elif foreign and ours:
        problems.append(foreign_over(where, path, foreign))
    elif foreign and not cover:
        problems.append(
            f"{tell}{path} is the mount point of another file system ({foreign.fstype} {foreign.source}); "
            "unmount it, or set cover: true to mount over it"
        )
    elif facts.kind == "directory" and not (facts.empty or ours or cover):
        problems.append(f"{tell}the directory {path} is not empty; empty it, or set cover: true to hide what is in it")
    return problems
