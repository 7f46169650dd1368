# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Whether a stack may be mounted at a path: what lies there, and what is wrong with it in words."""

from __future__ import annotations

import errno
import os
import stat
from typing import FrozenSet, List, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.strata.overlay.plugins.module_utils._kernel import in_user_namespace
from ansible_collections.strata.overlay.plugins.module_utils._mountinfo import Mount


class PathFacts(NamedTuple):
    """What lies at a stack's path.

    :ivar resolved: the path without links: how the mount table names it.
    :ivar kind: ``missing``, ``directory`` or ``other``.
    :ivar empty: of a directory: nothing is in it.
    :ivar ended: as ``ended`` tells of it.
    :ivar unsafe: a link on the way that someone other than root could change, or "".
    :ivar open_parent: the same of a directory.
    """

    resolved: str
    kind: str
    empty: bool
    unsafe: str
    ended: str = ""
    open_parent: str = ""


def path_facts(path: str) -> PathFacts:
    """Look at a mount point and at every directory on the way to it."""
    resolved = os.path.realpath(path)
    unsafe, directory = open_parent(path)
    gone = ended(path)
    try:
        kind = "directory" if gone or stat.S_ISDIR(os.stat(path).st_mode) else "other"
    except FileNotFoundError:
        kind = "missing"
    except OSError:
        # A file on the way, or links in a circle.
        kind = "other"
    empty = kind == "directory" and not gone and not has_entries(path)
    return PathFacts(resolved, kind, empty, unsafe, gone, directory)


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


def open_parent(path: str) -> Tuple[str, str]:
    """What on the way to a path someone other than root (or this user, in a user namespace) could change, to lead it
    elsewhere: the first symbolic link, else the first directory; "" where there is none.
    """
    above, holder, known = "/", os.stat("/"), trusted()
    directory = ""
    for part in path.strip("/").split("/"):
        here = os.path.join(above, part)
        try:
            facts: Optional[os.stat_result] = os.lstat(here)
        except OSError:
            facts = None
        is_open = others_may_change(holder, facts, above, known)
        if facts is None:
            return "", directory or (os.path.realpath(above) if is_open else "")
        if stat.S_ISLNK(facts.st_mode):
            if is_open or facts.st_uid not in known.users:
                return here, ""
            target = os.path.realpath(here)
            # Links in a circle have no end to follow.
            link, behind = ("", "") if os.path.islink(target) else open_parent(target)
            if link:
                return link, ""
            directory = directory or behind
            try:
                facts = os.stat(here)
            except OSError:
                return "", directory
        elif is_open:
            directory = directory or os.path.realpath(above)
        above, holder = here, facts
    return "", directory


def open_file(path: str) -> str:
    """The file or directory, or what is on the way to it, that someone other than root could change; "" where nobody
    can. One that is missing cannot be changed.
    """
    link, directory = open_parent(path)
    if link or directory:
        return link or directory
    try:
        facts = os.stat(path)
    except OSError:
        return ""
    return path if facts.st_uid not in trusted().users or facts.st_mode & 0o022 else ""


class Trusted(NamedTuple):
    """Numbers of users and groups who may own what is on the way to a mount."""

    users: FrozenSet[int]
    groups: FrozenSet[int]


def trusted() -> Trusted:
    """Root and this user. In a user namespace that is the user whose namespace it is, with a group of its own as many
    distributions give one; root of the host is nobody there, as all other users are who have no number in it.
    """
    users = frozenset({0, os.geteuid()})
    if not in_user_namespace():
        return Trusted(users, frozenset())
    with open("/proc/sys/kernel/overflowuid", encoding="ascii") as number:
        return Trusted(users | {int(number.read())}, frozenset({0}))


def others_may_change(holder: os.stat_result, entry: Optional[os.stat_result], path: str, known: Trusted) -> bool:
    """Whether anyone but the trusted could put something else in the place of an entry of a directory.

    In a sticky one, such as /tmp, only the owner of an entry may; one that is missing is made, and checked then.

    :param path: of the directory: an access list may give rights to others that its group bits stand for.
    :param known: as of ``trusted``.
    """
    if holder.st_uid not in known.users:
        return True
    mode = holder.st_mode
    by_group = mode & stat.S_IWGRP and (holder.st_gid not in known.groups or _has_acl(path))
    if not (mode & stat.S_IWOTH or by_group):
        return False
    return not mode & stat.S_ISVTX or (entry is not None and entry.st_uid not in known.users)


def _has_acl(path: str) -> bool:
    try:
        return "system.posix_acl_access" in os.listxattr(path)
    except OSError:
        return False


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
    if facts.open_parent:
        problems.append(
            f"{tell}on the way to {path}, the directory {facts.open_parent} belongs to someone other than root, "
            "or can be written by others, who could lead the mount elsewhere; give it to root alone (chown root, "
            "chmod go-w), or choose another path"
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
