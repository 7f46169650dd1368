# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Looks at a stack's path and checks whether the stack may be mounted there."""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple, Optional

from ansible_collections.strata.overlay.plugins.module_utils._linux.syscalls import in_user_namespace
from ansible_collections.strata.overlay.plugins.module_utils._mount.path_facts import PathFacts


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


def open_parent(path: str) -> tuple[str, str]:
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

    users: frozenset[int]
    groups: frozenset[int]


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
