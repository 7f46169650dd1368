# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Counts an archive while it is read and refuses it as soon as it exceeds a limit."""

from __future__ import annotations

from typing import Callable, Optional

from ansible_collections.strata.overlay.plugins.module_utils._archive.header import Entry, show
from ansible_collections.strata.overlay.plugins.module_utils._archive.limits import Limits
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError


class Meter:
    """Counts one archive while it is read.

    :ivar entry: the one that is being read, for messages; None before the first.
    """

    def __init__(self, limits: Limits) -> None:
        self.entry: Optional[Entry] = None
        self._limits = limits
        self._members = 0
        self._implied = 0
        self._read = 0
        self._holes = 0
        self._kept = 0

    @property
    def members(self) -> int:
        """Entries so far, without implied directories."""
        return self._members

    def bounded(self, read: Callable[[int], bytes]) -> Callable[[int], bytes]:
        """``read`` that gives no more bytes than the limit leaves: what announces nothing is bounded by this."""

        def read_within(size: int) -> bytes:
            left = max(0, self._limits.bytes - self._read - self._holes)
            piece = read(min(size, left) or 1)
            self._read += len(piece)
            if piece and not left:
                raise self._refusal("bytes", "the archive goes on beyond")
            return piece

        return read_within

    def count(self, entry: Entry, position: int) -> None:
        """One more member.

        :param position: bytes of the archive before its data.
        :raises StrataError: with it the archive is, or announces to be, beyond a limit.
        """
        self.entry = entry
        self._members += 1
        self._check_entries()
        if position + self._holes + entry.size > self._limits.bytes:
            raise self._refusal("bytes", f"with its {entry.size} bytes the archive has more than")
        if entry.sparse is not None:
            self._holes += entry.size - sum(length for _offset, length in entry.sparse)

    def check_depth(self, depth: int) -> None:
        """:raises StrataError: the present entry's name has too many components."""
        if depth > self._limits.depth:
            raise self._refusal("depth", f"it lies {depth} directories deep, and no deeper is allowed than")

    def count_implied(self) -> None:
        """One more directory that no entry of its own asks for.

        :raises StrataError: it is one too many.
        """
        self._implied += 1
        self._check_entries()

    def keep(self, size: int) -> None:
        """So many bytes more are kept until the archive's end; less than none where some are not needed any more.

        :raises StrataError: it is too much.
        """
        self._kept += size
        if self._kept > self._limits.memory:
            message = (
                "the names of directories, whiteouts and late hard links that have to be remembered take more than"
            )
            raise self._refusal("memory", message)

    def _check_entries(self) -> None:
        if self._members + self._implied > self._limits.entries:
            message = "the archive, with the directories that its names imply, has more entries than"
            raise self._refusal("entries", message)

    def _refusal(self, name: str, message: str) -> StrataError:
        at = f"entry {show(self.entry.name)}" if self.entry else "before the first entry"
        return StrataError(
            f"{at}: {message} the limit of {getattr(self._limits, name)}; if you trust where the archive comes from, "
            f"raise the option 'limits.{name}'"
        )
