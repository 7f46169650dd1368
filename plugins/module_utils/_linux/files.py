# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Reads, inspects and syncs small files and directories."""

from __future__ import annotations

import os
import stat
from typing import Optional, Union

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import about

READ = os.O_RDONLY | os.O_CLOEXEC
READ_FILE = READ | os.O_NOFOLLOW | os.O_NONBLOCK
"""What may be anything: no link is followed, and no fifo waited for."""
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
"""A file that is not there yet; no link is followed (open(2), O_EXCL)."""

LISTED = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""A directory, to list it."""
HANDLE = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""A directory, to open what is in it."""
LISTED_BY_LINK = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
HANDLE_BY_LINK = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
"""The same, also through links."""


def is_roots(path: str) -> bool:
    """Whether something is there that belongs to root, as this process sees users: of an ordinary user's namespaces
    the host's root is no part.
    """
    try:
        return os.stat(path).st_uid == 0
    except OSError:
        return False


_PIECE = 1 << 16


def read_text(path: str) -> Optional[str]:
    """A small file's text, None where it is missing (or is no file)."""
    try:
        descriptor = os.open(path, READ)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        # Bare calls: a run over 500 layers reads 3,500 such files. A file gives less than is asked for at its end only.
        text = piece = os.read(descriptor, _PIECE)
        while len(piece) == _PIECE:
            piece = os.read(descriptor, _PIECE)
            text += piece
        return text.decode("utf-8", "surrogateescape")
    except IsADirectoryError:
        return None
    finally:
        os.close(descriptor)


def is_directory(path: str) -> bool:
    """Whether a directory is there. A link to one does not count: what is built there would be built where it leads."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def existing_above(path: str) -> str:
    """The nearest directory that exists: the file system that a store which is yet to be made will lie on."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def sync_directory(path: str) -> None:
    """What has been renamed in a directory stays so, also after a power cut."""
    descriptor = os.open(path, LISTED_BY_LINK)
    try:
        with about(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, chunk: Union[bytes, memoryview]) -> None:
    """All of a chunk, however often the kernel takes less.

    :raises OSError: as the kernel says.
    """
    written = os.write(descriptor, chunk)
    while written < len(chunk):
        written += os.write(descriptor, chunk[written:])
