# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Checks who could change a path: owners and modes of every directory and link on the way, as sshd does for keys.

Where nobody but root (and this user) can change any of them, a path leads tomorrow where it leads now. Reads only.
Access lists need no look of their own: what they give to others at the most is in the bits of the group (acl(5)).
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import stat
from collections.abc import Sequence

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._linux.syscalls import in_user_namespace

OWN_SPACE = "STRATA_NAMESPACES"
"""Variable of the environment of processes in the namespaces of an ordinary user."""

_MOST_LINKS = 40
"""As many as the kernel follows (path_resolution(7))."""

_OVERFLOW = 65534
"""Who has no id in this user namespace: outside of it, so nobody in it acts as this user."""


def untrusted(path: str, whole: bool = True) -> str:
    """The first thing on the way to a path by which somebody else could change where it leads, in words; "" for none.

    A directory that all may write to is no such thing while its sticky bit keeps others from renaming what is in it.
    What does not exist is nobody's: it will be made by this user in the directory before it.

    :param path: absolute. Links in it are judged, and then followed.
    :param whole: nobody else may own the end of the path or write to it either. Else only the way to it counts.
    :returns: such as "/srv belongs to user deploy (1000)".
    """
    trusted = _trusted()
    pending: list[str] = [part for part in path.split("/") if part]
    here, links, shared = "/", 0, False
    fault = _fault("/", os.lstat("/"), trusted, last=whole and not pending)
    while pending and not fault:
        part = pending.pop(0)
        here = os.path.dirname(here) if part == ".." else os.path.join(here, part)
        try:
            facts = os.lstat(here)
        except (FileNotFoundError, NotADirectoryError):
            return ""
        if stat.S_ISLNK(facts.st_mode):
            fault = _belongs(here, facts, trusted)
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            target = os.readlink(here)
            pending = [part for part in target.split("/") if part] + pending
            here = "/" if target.startswith("/") else os.path.dirname(here)
        elif not pending and not whole:
            # Its owner can rename it only where the directory before it lets all do so.
            fault = _belongs(here, facts, trusted) if shared else ""
        else:
            fault = _fault(here, facts, trusted, last=not pending)
            shared = bool(stat.S_IMODE(facts.st_mode) & 0o022)
    return fault


def refuse_untrusted(root: str, parts: Sequence[str]) -> None:
    """Root works in no store that somebody else owns, may write to or may put another in the place of.

    An ordinary user's store is the user's own matter: nobody gets rights by it that the user has not.

    :param root: the store's directory, as it was written. :param parts: directories in it, without links.
    :raises StrataError: who it is, and what to do.
    """
    if os.geteuid() != 0 or (OWN_SPACE in os.environ and in_user_namespace()):
        return
    trusted = _trusted()
    fault = untrusted(root) or next(filter(None, (_untrusted_itself(part, trusted) for part in parts)), "")
    if fault:
        raise StrataError(
            f"option 'root': root does not work in the store {root}: {fault}, and could change what root mounts. "
            "Nothing was changed. Give that directory to root and to nobody else (chown root:root; chmod go-w), or "
            "choose another place. Where others had the store, strata.overlay.store_check with deep: true says what "
            "they have changed."
        )


def _untrusted_itself(path: str, trusted: frozenset[int]) -> str:
    try:
        facts = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    if stat.S_ISLNK(facts.st_mode):
        return ""  # reported elsewhere: it is not a directory of the store
    return _fault(path, facts, trusted, last=True)


def _trusted() -> frozenset[int]:
    return frozenset({0, os.geteuid(), *([_OVERFLOW] if in_user_namespace() else [])})


def _fault(path: str, facts: os.stat_result, trusted: frozenset[int], last: bool) -> str:
    return _belongs(path, facts, trusted) or _open_to(path, facts, last)


def _belongs(path: str, facts: os.stat_result, trusted: frozenset[int]) -> str:
    return "" if facts.st_uid in trusted else f"{path} belongs to user {_user(facts.st_uid)}"


def _open_to(path: str, facts: os.stat_result, last: bool) -> str:
    """Who else can put, rename or remove entries of a directory, or write to a file."""
    if facts.st_mode & stat.S_ISVTX and stat.S_ISDIR(facts.st_mode) and not last:
        return ""
    if facts.st_mode & stat.S_IWOTH:
        return f"everybody may write to {path}"
    # Who is in the group of root has been made so by root.
    if facts.st_mode & stat.S_IWGRP and facts.st_gid != 0:
        return f"group {_group(facts.st_gid)} may write to {path}"
    return ""


def _user(uid: int) -> str:
    with contextlib.suppress(KeyError):
        return f"{pwd.getpwuid(uid).pw_name} ({uid})"
    return str(uid)


def _group(gid: int) -> str:
    with contextlib.suppress(KeyError):
        return f"{grp.getgrgid(gid).gr_name} ({gid})"
    return str(gid)
