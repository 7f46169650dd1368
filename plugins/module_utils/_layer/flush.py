# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Starts writeback during an import, so that the final sync has little left to do."""

from __future__ import annotations

import contextlib
import threading
from typing import Callable, Optional

_PIECE = 64 << 20
"""Bytes after which the kernel is asked to write; by itself it waits for some seconds, or for a tenth of the memory."""

_WORTH_IT = 8 << 20
"""Bytes at the end below which it is not asked once more: the files of many small layers are best written together."""


class WriteBack:
    """A thread that asks; a context manager, which waits for it.

    Write errors are not reported here but by the sync before anything becomes visible: see
    ``Store.sync``.
    """

    def __init__(self, flush: Callable[[], object]) -> None:
        """
        :param flush: has what was written so far go to the disk.
        """
        self._flush = flush
        self._asked = threading.Event()
        self._over = False
        self._done = 0
        self._thread: Optional[threading.Thread] = None

    def __enter__(self) -> WriteBack:
        return self

    def __exit__(self, *_error: object) -> None:
        self._over = True
        if self._thread is not None:
            self._asked.set()
            self._thread.join()

    def at(self, position: int) -> None:
        """So many bytes have been read by now."""
        if position - self._done >= _PIECE:
            self._ask(position)

    def last(self, position: int) -> None:
        """No more will come."""
        if position - self._done >= _WORTH_IT:
            self._ask(position)

    def _ask(self, position: int) -> None:
        self._done = position
        self._asked.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="strata-write", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while True:
            self._asked.wait()
            self._asked.clear()
            if self._over:
                return
            with contextlib.suppress(OSError):
                self._flush()
