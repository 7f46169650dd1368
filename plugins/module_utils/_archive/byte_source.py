# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""The archive reader's input: reads exact amounts, skips, and keeps the position."""

from __future__ import annotations

from typing import Callable, Optional

from ansible_collections.strata.overlay.plugins.module_utils._archive.header import show
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError

CHUNK = 1 << 20


class ByteSource:
    """The stream, in pieces of any length; ``position`` is how many bytes were used.

    :ivar entry: the name of the last one whose header was read, for messages.
    """

    def __init__(self, read: Callable[[int], bytes], leap: Optional[Callable[[int], object]]) -> None:
        self._leap = leap
        self.entry: Optional[bytes] = None
        self._read = read
        self._buffer = b""
        self._at = 0
        self._before = 0

    @property
    def position(self) -> int:
        return self._before + self._at

    def _refill(self) -> bool:
        """Fetch the next chunk once the last is used up; False at the end of the stream."""
        self._before += len(self._buffer)
        self._buffer, self._at = self._read(CHUNK), 0
        return bool(self._buffer)

    def _take(self, limit: int) -> slice:
        """Where in the buffer the next bytes are: between 1 and ``limit``, none at the end of the stream."""
        if self._at == len(self._buffer) and not self._refill():
            return slice(0)
        start = self._at
        self._at = min(start + limit, len(self._buffer))
        return slice(start, self._at)

    def up_to(self, limit: int) -> bytes:
        """Between 1 and ``limit`` bytes, none at the end of the stream."""
        part = self._take(limit)  # before the buffer is looked at: it may be another one afterwards
        return self._buffer[part]

    def view_up_to(self, limit: int) -> memoryview:
        """The same without a copy."""
        start = self._at
        end = start + limit
        if start < len(self._buffer) and end <= len(self._buffer):
            self._at = end
            return memoryview(self._buffer)[start:end]
        part = self._take(limit)
        return memoryview(self._buffer)[part]

    def at_most(self, length: int) -> bytes:
        """``length`` bytes, or fewer where the stream ends."""
        end = self._at + length
        if end <= len(self._buffer):
            piece = self._buffer[self._at : end]
            self._at = end
            return piece
        pieces = []
        while length:
            piece = self.up_to(length)
            if not piece:
                break
            pieces.append(piece)
            length -= len(piece)
        return b"".join(pieces)

    def exactly(self, length: int) -> bytes:
        piece = self.at_most(length)
        if len(piece) < length:
            raise self.cut_short()
        return piece

    def skip(self, length: int) -> None:
        beyond = length - (len(self._buffer) - self._at)
        if beyond <= 0:
            self._at += length
            return
        if self._leap is not None:
            self._leap(beyond)
            self._before += len(self._buffer) + beyond
            self._buffer, self._at = b"", 0
            return
        while length:
            part = self._take(length)
            if part.stop == 0:
                raise self.cut_short()
            length -= part.stop - part.start

    def cut_short(self) -> StrataError:
        return StrataError(f"the archive is cut short: it ends in the middle, at byte {self.position}{self.near()}")

    def near(self) -> str:
        """Where an error was found."""
        return "" if self.entry is None else f", in entry {show(self.entry)} or right behind it"
