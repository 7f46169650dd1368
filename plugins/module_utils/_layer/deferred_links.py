# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Creates hard links whose targets come later in the archive."""

from __future__ import annotations

from collections import deque
from typing import Callable

from ansible_collections.strata.overlay.plugins.module_utils._archive.header import Entry, show
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._layer.metadata import naming
from ansible_collections.strata.overlay.plugins.module_utils._layer.names import Place, link_target, split

_ROUNDS = 100
"""Each further round is for links that name their targets through a symbolic link which is itself a late hard link."""

_ITEM = 400
"""Bytes that one of them takes in memory beside the bytes of its names."""


class LateLinks:
    """Links that wait, by path. Of their entries only the names are kept: the rest is that of the target."""

    def __init__(self, keep: Callable[[int], None] = lambda size: None) -> None:
        """
        :param keep: is called with the bytes that are kept, and may refuse.
        """
        self._keep = keep
        self._waiting: dict[bytes, tuple[bytes, bytes]] = {}

    def add(self, path: bytes, entry: Entry) -> None:
        if path not in self._waiting:
            # Where it waits for another one, that one's name is kept once more.
            self._keep(_ITEM + len(path) + len(entry.name) + 2 * len(entry.target))
        self._waiting[path] = (entry.name, entry.target)

    def replaced(self, path: bytes) -> None:
        """Another entry has this path now: of two with one name the later counts."""
        if self._waiting:
            known = self._waiting.pop(path, None)
            if known is not None:
                self._keep(-(_ITEM + len(path) + len(known[0]) + 2 * len(known[1])))

    def make(self, link: Callable[[Entry, Place], bool]) -> None:
        """Make all of them.

        :param link: makes one; False where its target is not there (yet).
        :raises StrataError: some of them can never be made.
        """
        reason = "found neither at once nor later: the hard links of this archive wait for each other too often"
        for _round in range(_ROUNDS):
            before = len(self._waiting)
            self._round(link)
            if not self._waiting:
                return
            if len(self._waiting) == before:
                reason = "the layer has no such file; a link to a file of another layer cannot be kept"
                break
        entry = self._entry(next(iter(self._waiting)))
        raise StrataError(f"entry {show(entry.name)}: hard link to {show(entry.target)}: {reason}")

    def _round(self, link: Callable[[Entry, Place], bool]) -> None:
        """Each link once, and again when the one that it waits for has been made: time grows with their number only."""
        queue: deque[bytes] = deque(self._waiting)
        behind: dict[bytes, list[bytes]] = {}
        while queue:
            path = queue.popleft()
            entry = self._entry(path)
            with naming(entry.name):
                made = link(entry, Place(*split(path), "entry"))
            if made:
                del self._waiting[path]
                queue.extend(behind.pop(path, ()))
            else:
                behind.setdefault(link_target(entry).path, []).append(path)

    def _entry(self, path: bytes) -> Entry:
        name, target = self._waiting[path]
        return Entry(name, "hardlink", target=target)
