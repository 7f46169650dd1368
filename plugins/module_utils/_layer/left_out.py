# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Collects what a layer cannot hold of its source, or holds as something else, for warnings."""

from __future__ import annotations

from ansible_collections.strata.overlay.plugins.module_utils._archive.header import show

SOCKETS = "sockets"
PROTECTION = "protection"
ATTRIBUTES = "attributes"
OVERLAY = "overlay"
FOREIGN = "foreign"
TYPES = "types"

_NAMED = 10
"""Names of a kind that a warning has; of all others it has the number."""

_TEXTS = {
    SOCKETS: ("1 socket was left out, which no layer can hold", "{} sockets were left out, which no layer can hold"),
    PROTECTION: (
        "1 path is immutable or append-only (chattr +i, +a), and no layer can hold that",
        "{} paths are immutable or append-only (chattr +i, +a), and no layer can hold that",
    ),
    ATTRIBUTES: (
        "1 attribute was left out, which belongs to the file system that the archive was made on",
        "{} attributes were left out, which belong to the file system that the archive was made on",
    ),
    OVERLAY: (
        "1 attribute of overlayfs was left out, which means something in a writable layer only",
        "{} attributes of overlayfs were left out, which mean something in a writable layer only",
    ),
    FOREIGN: (
        "1 attribute was left out, which no Linux file system can hold",
        "{} attributes were left out, which no Linux file system can hold",
    ),
    TYPES: (
        "1 entry has a type that is not known here and was taken as a file",
        "{} entries have types that are not known here and were taken as files",
    ),
}


class LeftOut:
    """Collects names, of each kind a few and the number of all."""

    def __init__(self) -> None:
        self._named: dict[str, dict[bytes, None]] = {}
        self._more: dict[str, int] = {}

    def add(self, kind: str, name: bytes) -> None:
        """
        :param kind: one of the constants above.
        """
        named = self._named.setdefault(kind, {})
        if name in named:
            return
        if len(named) < _NAMED:
            named[name] = None
        else:
            self._more[kind] = self._more.get(kind, 0) + 1

    def warnings(self) -> tuple[str, ...]:
        """A sentence for each kind, without a full stop."""
        return tuple(self._warning(kind) for kind in _TEXTS if kind in self._named)

    def _warning(self, kind: str) -> str:
        names, more = self._named[kind], self._more.get(kind, 0)
        count = len(names) + more
        text = _TEXTS[kind][count > 1].format(count)
        return f"{text}: {', '.join(map(show, names))}{f' and {more} more' if more else ''}"
