# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Keeps free space on the file system during an import, so that no archive fills the disk.

What counts is what ordinary users have free (``f_bavail``): the blocks that ext4 keeps back are root's alone, and an
import by root would take them from it. Inodes are kept as well, for they can be used up by empty files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError

UNLESS_SET = -1
"""Stands for the default reserve."""

_SHARE = 20
_MOST = 1 << 30
"""The reserve: a twentieth of the file system, and no more than so many bytes."""

_MOST_INODES = 100_000

ENTRY = 8192
"""Bytes that an entry may take beside its data: a block of its own, and one for its attributes."""

_OFTEN = 64 << 20
_AT_LEAST = 64 << 10
"""Bytes after which the file system is asked again: a quarter of what is left, between these."""

LARGE = 1 << 20
"""Bytes of a file from which on it is asked while the file is written."""


class Reserve:
    """What one import may still write.

    :param descriptor: of a file or directory on the file system; stays the caller's.
    :param wanted: bytes to be left free; 0: none, `UNLESS_SET`: a twentieth, at most 1 GiB, and as many of the inodes.
    :param option: the option that lowers it, for the message; "" where there is none.
    """

    def __init__(self, descriptor: int, wanted: int = UNLESS_SET, option: str = "limits.reserve") -> None:
        self._descriptor = descriptor
        self._wanted = wanted
        self._option = option
        self._left = 0

    def wrote(self, count: int) -> None:
        """So many bytes more are about to be written.

        :raises StrataError: the file system would have less left than is to be kept.
        """
        self._left -= count
        if self._left <= 0 and self._wanted:
            self._ask(count)

    def watched(self, pieces: Iterable[memoryview]) -> Iterator[memoryview]:
        """The pieces of a file, each counted before it is given."""
        for piece in pieces:
            self.wrote(len(piece))
            yield piece

    def _ask(self, count: int) -> None:
        facts = os.fstatvfs(self._descriptor)
        free = facts.f_bavail * facts.f_frsize
        keep = min(facts.f_blocks * facts.f_frsize // _SHARE, _MOST) if self._wanted < 0 else self._wanted
        if free - count < keep:
            raise self._refusal(f"{free} bytes are free, {count} more are to be written, and {keep}", "df -h")
        step = (free - count - keep) // 4
        if facts.f_files and self._wanted < 0:  # where inodes are made as they are needed, none are counted
            inodes = min(facts.f_files // _SHARE, _MOST_INODES)
            if facts.f_favail < inodes:
                raise self._refusal(f"{facts.f_favail} inodes are free, and {inodes}", "df -i")
            step = min(step, (facts.f_favail - inodes) // 4 * ENTRY)
        self._left = max(_AT_LEAST, min(_OFTEN, step))

    def _refusal(self, message: str, command: str) -> StrataError:
        lower = f", or lower the option '{self._option}' (0: keep none free)" if self._option else ""
        return StrataError(
            f"the file system is nearly full: {message} are kept for all else that writes there. Make room ({command}; "
            f"strata.overlay.prune frees what nothing uses){lower}, and run again"
        )
