# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Reads somebody else's tree without changing anything in it, access times included.

Where the host lets us, the tree is seen through a mount of its own that the kernel keeps read-only and without access
times, which no path leads to and which ends with the reading (open_tree(2), mount_setattr(2); kernel 5.12). Elsewhere
files and directories are opened with O_NOATIME, which the kernel grants to their owner and to root; then the time of
access of symbolic links alone may change.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from functools import partial

from ansible_collections.strata.overlay.plugins.module_utils._linux import mountapi
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import READ
from ansible_collections.strata.overlay.plugins.module_utils._linux.walk import walk

_NOATIME = getattr(os, "O_NOATIME", 0)


@contextlib.contextmanager
def untouched(root: str) -> Iterator[str]:
    """A path by which the tree at ``root`` can be read, ``root`` itself where the host gives no better.

    File systems mounted in the tree are not seen through it: where one lies at ``overlay2/`` or so, ``root`` is given.
    """
    try:
        view = mountapi.read_only_view(root)
    except OSError:
        yield root
        return
    with view:
        path = f"/proc/self/fd/{view.fd}"
        yield path if _same_devices(root, path) else root


def _same_devices(root: str, view: str) -> bool:
    """Whether the view shows the same directories at its top: another file system may be mounted on one of them."""
    return all(
        os.lstat(f"{root}/{name}").st_dev == os.lstat(f"{view}/{name}").st_dev
        for name in entries(view)
        if os.path.lexists(f"{root}/{name}")
    )


def open_noatime(path: str, flags: int) -> int:
    """Open for reading without a change of the time of access, where the kernel allows that."""
    try:
        return os.open(path, flags | READ | os.O_NOFOLLOW | _NOATIME)
    except PermissionError:
        return os.open(path, flags | READ | os.O_NOFOLLOW)


def entries(path: str) -> list[str]:
    """Names in a directory, sorted; none where there is no such directory."""
    try:
        descriptor = open_noatime(path, os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return []
    try:
        return sorted(os.listdir(descriptor))
    finally:
        os.close(descriptor)


def allocated(facts: os.stat_result) -> int:
    """Bytes on its file system."""
    return facts.st_blocks * 512  # stat(2): whatever the file system's blocks are


class Measure:
    """Bytes that trees take on their file system (``st_blocks``, directories too), each file counted once however many
    hard links lead to it and however many trees of this measure it is in.

    :ivar missed: what could not be measured and is not counted, in words.
    """

    def __init__(self) -> None:
        self._seen: set[tuple[int, int]] = set()
        self.missed: list[str] = []

    def alone(self, path: str) -> int:
        """Bytes of one file or directory without what is in it; 0 where there is nothing."""
        try:
            return self._one(os.lstat(path))
        except FileNotFoundError:
            return 0
        except OSError as error:
            self._miss(path, str(error.strerror))
            return 0

    def tree(self, top: str) -> int:
        """Bytes of a tree or file, without what is mounted in it; 0 where there is nothing."""
        try:
            facts = os.lstat(top)
            total = self._one(facts)
            if not stat.S_ISDIR(facts.st_mode):
                return total
            descriptor = open_noatime(top, os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            return 0
        except OSError as error:
            self._miss(top, str(error.strerror))
            return 0
        try:
            return total + sum(self._one(item.facts) for item in walk(descriptor, partial(self._miss_below, top)))
        finally:
            os.close(descriptor)

    def _miss_below(self, top: str, path: str, why: str) -> None:
        self._miss(f"{top}/{path}", why)

    def _miss(self, path: str, why: str) -> None:
        self.missed.append(f"{path} is not measured: {why}")

    def is_new(self, facts: os.stat_result) -> bool:
        """Whether no other hard link to it has been counted; from now on it has."""
        if facts.st_nlink == 1 or stat.S_ISDIR(facts.st_mode):
            return True
        key = (facts.st_dev, facts.st_ino)
        if key in self._seen:
            return False
        self._seen.add(key)
        return True

    def _one(self, facts: os.stat_result) -> int:
        return allocated(facts) if self.is_new(facts) else 0
