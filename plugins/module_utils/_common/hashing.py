# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Hashes a stream in a thread while the caller works on it; hashlib releases the GIL."""

from __future__ import annotations

import hashlib
import queue
import threading
from typing import Callable, Optional

_AHEAD = 8
"""Chunks that may wait for the hash; with chunks of a mebibyte that bounds the memory."""


class HashingReader:
    """Pass on what ``read`` gives and hash it in a thread of its own; a context manager, which ends the thread.

    :ivar failure: the error that ``read`` raised, to distinguish it from errors of the writer.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self.failure: Optional[BaseException] = None
        self._read = read
        self._hash = hashlib.sha256()
        self._waiting: queue.Queue[bytes] = queue.Queue(_AHEAD)
        self._thread = threading.Thread(target=self._work, name="strata-hash", daemon=True)
        self._thread.start()

    def __enter__(self) -> HashingReader:
        return self

    def __exit__(self, *_error: object) -> None:
        self._finish()

    def read(self, size: int) -> bytes:
        try:
            chunk = self._read(size)
        except BaseException as error:
            self.failure = error
            raise
        if chunk:
            self._waiting.put(chunk)
        return chunk

    def digest(self) -> str:
        """ "sha256:" and the hexadecimal digest of all that was read; nothing can be read after it."""
        self._finish()
        return "sha256:" + self._hash.hexdigest()

    def _finish(self) -> None:
        if self._thread.is_alive():
            self._waiting.put(b"")
            self._thread.join()

    def _work(self) -> None:
        for chunk in iter(self._waiting.get, b""):
            self._hash.update(chunk)
