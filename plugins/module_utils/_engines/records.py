# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Reads untrusted records: regular files only, no links, never blocking, of bounded size.

Whoever owns such a root can put into the place of a record a FIFO, a device, a link, or a file of gigabytes. All of it
is opened below one descriptor (openat2(2)), looked at before it is opened for reading, and read up to a limit.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import stat
from typing import Any, Optional

from ansible_collections.strata.overlay.plugins.module_utils._linux import syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import HANDLE_BY_LINK, READ

RECORD = 64 << 20
"""Bytes of the largest record: Podman has one file for all layers, some 600 bytes each."""

_WORD = 64 << 10
_MOST_VALUES = 2_000_000
"""In one file of JSON: each takes far more memory than its byte or two in the file."""

_MOST_DIGITS = 30
_MOST_NAMES = 250_000

_HANDLE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_RESOLVE_BENEATH = 0x08
_RESOLVE_NO_SYMLINKS = 0x04
_NO_LINKS = _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Foreign:
    """The files below one directory; paths are relative to it, without "..". A context manager.

    :ivar faults: path -> in words why it is not read. What does not exist is no fault.
    """

    def __init__(self, view: str) -> None:
        self._top = os.open(view, HANDLE_BY_LINK)
        self.faults: dict[str, str] = {}

    def __enter__(self) -> Foreign:
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self._top)

    def read(self, path: str, most: int = RECORD) -> Optional[bytes]:
        """A regular file's bytes; None where there is none, or a fault."""
        handle, facts = self._find(path)
        if facts is None:
            return None
        data = None
        try:
            if not stat.S_ISREG(facts.st_mode):
                self._fault(path, f"it is {_kind(facts)} and no regular file")
            elif facts.st_size > most:
                self._fault(path, f"it has {facts.st_size} bytes; more than {most} are not read")
            else:
                data = _read(handle, most)
                if data is None:
                    self._fault(path, f"it grows while it is read; more than {most} bytes are not read")
        except OSError as error:
            self._fault(path, f"it cannot be read: {error.strerror}")
        finally:
            os.close(handle)
        return data

    def word(self, path: str) -> Optional[str]:
        """A small file's text without white space around it; None where there is none, or a fault."""
        data = self.read(path, _WORD)
        return None if data is None else data.decode("utf-8", "surrogateescape").strip()

    def json(self, path: str) -> Any:
        """What a file of JSON says; None where there is none, or a fault."""
        data = self.read(path)
        if data is None:
            return None
        if not data.strip():
            self._fault(path, "it is empty")
        elif data.count(b",") + data.count(b"[") + data.count(b"{") > _MOST_VALUES:
            self._fault(path, f"it has more than {_MOST_VALUES} values; it is not read")
        else:
            try:
                return json.loads(data, parse_int=_number)
            except (ValueError, RecursionError) as error:
                self._fault(path, f"it is no JSON ({error})")
        return None

    def names(self, path: str) -> list[str]:
        """Names in a directory, sorted; none where there is no such directory, or a fault."""
        handle, facts = self._find(path)
        if facts is None:
            return []
        try:
            if not stat.S_ISDIR(facts.st_mode):
                if not stat.S_ISREG(facts.st_mode):
                    self._fault(path, f"it is {_kind(facts)} and no directory")
                return []
            descriptor = _reopen(handle, os.O_DIRECTORY)
            try:
                with os.scandir(descriptor) as listing:
                    found = [entry.name for entry in itertools.islice(listing, _MOST_NAMES + 1)]
            finally:
                os.close(descriptor)
        except OSError as error:
            self._fault(path, f"it cannot be read: {error.strerror}")
            return []
        finally:
            os.close(handle)
        if len(found) > _MOST_NAMES:
            self._fault(path, f"it has more than {_MOST_NAMES} entries; the rest is not looked at")
        return sorted(found[:_MOST_NAMES])

    def is_directory(self, path: str) -> bool:
        """Whether it is a directory, and nothing on the way to it a link."""
        handle, facts = self._find(path)
        if facts is None:
            return False
        os.close(handle)
        return stat.S_ISDIR(facts.st_mode)

    def link(self, path: str) -> str:
        """Where a symbolic link points, "" for what is none."""
        handle, facts = self._find(path)
        if facts is None:
            return ""
        try:
            return os.readlink("", dir_fd=handle) if stat.S_ISLNK(facts.st_mode) else ""
        except OSError:
            return ""
        finally:
            os.close(handle)

    def _find(self, path: str) -> tuple[int, Optional[os.stat_result]]:
        """A handle of what is there, for the caller to close, and what it is; None where nothing is, or a fault."""
        try:
            handle = self._open(path)
        except (FileNotFoundError, NotADirectoryError):
            return -1, None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EXDEV):
                self._fault(path, "a part of its path is a symbolic link, and none is followed")
            else:
                self._fault(path, f"it cannot be read: {error.strerror}")
            return -1, None
        return handle, os.fstat(handle)

    def _open(self, path: str) -> int:
        try:
            return syscalls.openat2(self._top, os.fsencode(path), _HANDLE, _NO_LINKS)
        except OSError as error:
            # Before Linux 5.6, and in containers whose seccomp profile does not know the call.
            if error.errno not in (errno.ENOSYS, errno.EPERM):
                raise
        return self._open_by_hand(path)

    def _open_by_hand(self, path: str) -> int:
        here = os.open(".", _HANDLE, dir_fd=self._top)
        for part in path.split("/"):
            above = here
            try:
                if stat.S_ISLNK(os.fstat(above).st_mode):
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                here = os.open(part, _HANDLE, dir_fd=above)
            finally:
                os.close(above)
        return here

    def _fault(self, path: str, message: str) -> None:
        self.faults.setdefault(path, message)


def _read(handle: int, most: int) -> Optional[bytes]:
    """Up to so many bytes; None where there are more."""
    # By way of the handle, so that it is the very file that was looked at.
    descriptor = _reopen(handle, os.O_NONBLOCK)
    try:
        pieces: list[bytes] = []
        left = most + 1
        while left:
            piece = os.read(descriptor, min(left, 1 << 20))
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)
            left -= len(piece)
    finally:
        os.close(descriptor)
    return None


def _reopen(handle: int, flags: int) -> int:
    path = f"/proc/self/fd/{handle}"
    try:
        return os.open(path, READ | os.O_NOATIME | flags)
    except PermissionError:
        return os.open(path, READ | flags)


def _kind(facts: os.stat_result) -> str:
    return _KINDS.get(stat.S_IFMT(facts.st_mode), "something else")


def _number(digits: str) -> int:
    """Reading a number takes a time that grows with the square of its digits."""
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)
