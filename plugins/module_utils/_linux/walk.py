# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Walks a tree of any depth by directory descriptors, following no link.

Whoever may write in a tree can make a path longer than PATH_MAX in it, or move a directory while it is read. So no path
is ever put together to be opened: directories are entered one by one, and the way back up is ``..``, which is only
believed where it leads to the very directory that was left. A few descriptors are open at once, whatever the depth.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Callable, NamedTuple

from ansible_collections.strata.overlay.plugins.module_utils._linux.files import LISTED

_NOATIME = getattr(os, "O_NOATIME", 0)
_OPEN_AT_ONCE = 16
_SHOWN = 160
"""Characters of a path in a message, at its beginning and at its end."""

Unread = Callable[[str, str], None]
"""Is called with a path within the tree that cannot be read, and with why."""


class Item(NamedTuple):
    """One entry of the tree.

    :ivar directory: a descriptor of what it lies in, until the next entry is asked for.
    :ivar depth: 1 for what lies in the top.
    """

    directory: int
    name: str
    facts: os.stat_result
    depth: int


class _Level:
    """A directory on the way down. :ivar descriptor: -1 while it is closed."""

    def __init__(self, descriptor: int, name: str) -> None:
        self.descriptor = descriptor
        self.name = name
        self.identity = _identity(descriptor)
        self.below: list[str] = []


def walk(top: int, unread: Unread, mounts: bool = False) -> Iterator[Item]:
    """All that lies below an open directory, sorted by name within each, and directories before what is in them.

    What goes while this reads is as if it had gone before; whatever else
    cannot be read is reported, and the rest is still yielded.

    :param top: stays the caller's.
    :param mounts: go into what is mounted in the tree too; else it is left out.
    """
    levels = [_Level(os.dup(top), "")]
    device = -1 if mounts else os.fstat(top).st_dev
    try:
        yield from _list(levels, device, unread)
        while levels:
            level = levels[-1]
            if not level.below:
                _leave(levels, unread)
                continue
            name = level.below.pop()
            below = _enter(levels, name, unread)
            if below < 0:
                continue
            if device not in (-1, os.fstat(below).st_dev):  # mounted in this moment
                os.close(below)
                continue
            levels.append(_Level(below, name))
            if len(levels) > _OPEN_AT_ONCE:
                os.close(level.descriptor)
                level.descriptor = -1
            yield from _list(levels, device, unread)
    finally:
        for level in levels:
            if level.descriptor >= 0:
                os.close(level.descriptor)


def _list(levels: list[_Level], device: int, unread: Unread) -> Iterator[Item]:
    """What lies in the last of the levels."""
    level = levels[-1]
    try:
        with os.scandir(level.descriptor) as listing:
            found = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        unread(shown_path(_names(levels)), str(error.strerror))
        return
    for entry in found:
        try:
            facts = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue  # deleted in this moment, as runs do with what lies in staging/ and trash/
        except OSError as error:
            unread(shown_path([*_names(levels), entry.name]), str(error.strerror))
            continue
        if device not in (-1, facts.st_dev):
            continue
        if stat.S_ISDIR(facts.st_mode):
            level.below.append(entry.name)
        yield Item(level.descriptor, entry.name, facts, len(levels))
    level.below.reverse()


def _enter(levels: list[_Level], name: str, unread: Unread) -> int:
    """A descriptor of a directory in the last of the levels, -1 where it cannot be entered."""
    try:
        return open_directory(name, levels[-1].descriptor)
    except (FileNotFoundError, NotADirectoryError):
        return -1
    except OSError as error:
        unread(shown_path([*_names(levels), name]), str(error.strerror))
        return -1


def open_directory(name: str, directory: int) -> int:
    """Open a directory for listing, never a link, and where the kernel allows that, without a new time of access."""
    try:
        return os.open(name, LISTED | _NOATIME, dir_fd=directory)
    except PermissionError:
        return os.open(name, LISTED, dir_fd=directory)


def _leave(levels: list[_Level], unread: Unread) -> None:
    """Go back up, to the next level that can still be reached."""
    left = levels.pop().descriptor
    while levels and levels[-1].descriptor < 0:
        level = levels[-1]
        if left >= 0:
            level.descriptor = _step_up(left, level)
            os.close(left)
            left = -1
        if level.descriptor < 0:
            level.descriptor = _from_above(levels)
        if level.descriptor >= 0:
            return
        if level.below:
            unread(shown_path(_names(levels)), "it was moved while it was read")
        levels.pop()
    if left >= 0:
        os.close(left)


def _step_up(directory: int, level: _Level) -> int:
    """The directory above, where that is still the one that it was; else -1."""
    try:
        above = open_directory("..", directory)
    except OSError:
        return -1
    if _identity(above) == level.identity:
        return above
    os.close(above)
    return -1


def _from_above(levels: list[_Level]) -> int:
    """The last of the levels once more, from the last one above it that is open; -1 where that is another one now."""
    start = max(number for number, level in enumerate(levels) if level.descriptor >= 0)
    here = os.dup(levels[start].descriptor)
    for level in levels[start + 1 :]:
        above = here
        try:
            here = open_directory(level.name, above)
        except OSError:
            return -1
        finally:
            os.close(above)
        if _identity(here) != level.identity:
            os.close(here)
            return -1
    return here


def _identity(descriptor: int) -> tuple[int, int]:
    facts = os.fstat(descriptor)
    return facts.st_dev, facts.st_ino


def _names(levels: list[_Level]) -> list[str]:
    return [level.name for level in levels[1:]]


def shown_path(names: list[str]) -> str:
    """A path for a message: the middle of a very long one is left out."""
    path = "/".join(names)
    if len(path) <= 3 * _SHOWN:
        return path or "."
    return f"{path[:_SHOWN]}[…]{path[-_SHOWN:]} (a path of {len(os.fsencode(path))} bytes)"
