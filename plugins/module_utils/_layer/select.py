# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Selects and renames members of an archive and writes them as a layer's tar stream.

Decided as GNU tar does when it extracts: patterns are held against the names in the archive, then components are
stripped, of the targets of hard links too. What tar would lose or fail on half-way is refused. The stream is the same
for the same members on any machine. Source: GNU tar, list.c (read_and, decode_header) and misc.c (stripped_prefix_len).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from re import Pattern
from typing import Callable, Optional

from ansible_collections.strata.overlay.plugins.module_utils._archive.header import Entry, show
from ansible_collections.strata.overlay.plugins.module_utils._archive.limits import Limits
from ansible_collections.strata.overlay.plugins.module_utils._archive.meter import Meter
from ansible_collections.strata.overlay.plugins.module_utils._archive.reader import TarReader
from ansible_collections.strata.overlay.plugins.module_utils._archive.writer import END, header, padding, sparse_map
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.selection import Selection
from ansible_collections.strata.overlay.plugins.module_utils._layer.names import (
    OPAQUE,
    WHITEOUT,
    Place,
    join,
    link_target,
    place,
)
from ansible_collections.strata.overlay.plugins.module_utils._layer.pack import EPOCH
from ansible_collections.strata.overlay.plugins.module_utils._layer.patterns import compiled

# What is written here decides the bytes: when it changes, raise PACKING in `_source/digest_cache`.
_AT_ONCE = 1 << 18

Piece = tuple[Entry, Iterator[bytes]]
"""An entry and the bytes of its file; of a sparse one, its extents."""


class Choice:
    """Which members are taken, for one reading of one source."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._prefix = selection.prefix.encode("utf-8", "surrogateescape")
        self._include = [compiled(pattern, anchored=True) for pattern in selection.include]
        self._exclude = [compiled(pattern, anchored=False) for pattern in selection.exclude]
        self._matched = [False] * len(self._include)
        self._seen = self._taken = self._deepest = 0

    def excludes(self, path: bytes) -> bool:
        """Whether what lies at a path, and so all below it, is not taken."""
        return self._matches(self._exclude, path)

    def takes(self, path: bytes) -> bool:
        """Whether patterns take what lies at a path."""
        if self._include:
            text = path.decode("utf-8", "surrogateescape")
            matches = [pattern.fullmatch(text) is not None for pattern in self._include]
            self._matched = [before or now for before, now in zip(self._matched, matches)]
            if not any(matches):
                return False
        return not self.excludes(path)

    def takes_name(self, name: bytes) -> bool:
        """The same of a name in an archive, which may be that of a whiteout."""
        return self._takes_entry(place(Entry(name, "file")))

    def apply(self, entry: Entry) -> Optional[Entry]:
        """The entry as it is in the layer; None for one that is not taken.

        :raises StrataError: it cannot be had without another that is not taken, or its name leads out.
        """
        placed = place(entry)
        self._seen += 1
        if not self._takes_entry(placed):
            return None
        name = self._renamed(entry.name)
        if name is None:
            if placed.role in ("whiteout", "opaque"):
                raise StrataError(
                    f"entry {show(entry.name)}: it says what is hidden of layers below, and option 'strip_components' "
                    "would take its name away; strip fewer, or name it in 'exclude'"
                )
            return None
        self._taken += 1
        target = self._link_target(entry) if entry.kind == "hardlink" and placed.role == "entry" else entry.target
        return replace(entry, name=name + b"/" if entry.kind == "directory" else name, target=target)

    def finish(self) -> None:
        """To be called when all members have been seen.

        :raises StrataError: nothing was taken, or a pattern of ``include`` has matched nothing.
        """
        missed = [pattern for pattern, matched in zip(self._selection.include, self._matched) if not matched]
        if missed:
            raise StrataError(
                f"option 'include': nothing in it matches {', '.join(map(repr, missed))}; patterns are held against "
                "whole names as they are in the archive, before strip_components"
            )
        if self._seen and not self._taken:
            deepest = f"; its names have {self._deepest} components at the most" if self._selection.strip else ""
            raise StrataError(f"nothing of it is left by its options ({self._selection}){deepest}")

    def _takes_entry(self, placed: Place) -> bool:
        """A whiteout is named by what it hides, or as it stands in the archive."""
        if placed.role != "whiteout":
            return self.takes(join(placed.path, OPAQUE) if placed.role == "opaque" else placed.path)
        marked = join(placed.parent, WHITEOUT + placed.name)
        taken = [self.takes(placed.path), self.takes(marked)]
        return any(taken) and not self.excludes(placed.path) and not self.excludes(marked)

    def _renamed(self, name: bytes) -> Optional[bytes]:
        """A name in the layer; None where stripping leaves none. "." counts where it is written, as for tar."""
        parts = [part for part in name.split(b"/") if part]
        self._deepest = max(self._deepest, len(parts))
        if self._selection.strip and len(parts) <= self._selection.strip:
            return None
        rest = [part for part in parts[self._selection.strip :] if part != b"."]
        return join(self._prefix, b"/".join(rest)) or b"."

    def _link_target(self, entry: Entry) -> bytes:
        target = link_target(entry)
        name = self._renamed(entry.target) if self._takes_entry(target) else None
        if name is None:
            raise StrataError(
                f"entry {show(entry.name)}: it is another name (a hard link) of {show(entry.target)}, which the "
                f"layer's options leave out ({self._selection}); take both or neither"
            )
        return name

    @staticmethod
    def _matches(patterns: Sequence[Pattern[str]], path: bytes) -> bool:
        if not patterns:
            return False
        text = path.decode("utf-8", "surrogateescape")
        return any(pattern.fullmatch(text) for pattern in patterns)


def tar_members(read: Callable[[int], bytes], limits: Limits, pinned: bool) -> Iterator[Piece]:
    """The members of a tar stream, which is read to its end and bounded as when it is unpacked.

    :param pinned: as for ``TarReader``.
    :raises StrataError: damage, or it is beyond a limit.
    """
    meter = Meter(limits)
    reader = TarReader(meter.bounded(read), pinned=pinned)
    for entry in reader:
        meter.count(entry, reader.position)
        meter.check_depth(place(entry).depth)
        yield entry, map(bytes, reader.data())


def chosen(members: Iterable[Piece], choice: Choice) -> Iterator[Piece]:
    """Those that are taken, as they are in the layer.

    :raises StrataError: as for ``Choice``.
    """
    for entry, data in members:
        taken = choice.apply(entry)
        if taken is not None:
            yield taken, data
    choice.finish()


def written(members: Iterable[Piece], update: Optional[Callable[[bytes], object]] = None) -> Iterator[bytes]:
    """The tar stream of members, in large pieces.

    :param update: given the same stream with fixed times.
    """
    waiting: list[bytes] = []
    size = 0
    for piece in _pieces(members, update):
        waiting.append(piece)
        size += len(piece)
        if size >= _AT_ONCE:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)


def _pieces(members: Iterable[Piece], update: Optional[Callable[[bytes], object]]) -> Iterator[bytes]:
    for entry, data in members:
        yield header(entry)
        if update is not None:
            update(header(replace(entry, mtime_ns=EPOCH * 10**9)))
        if entry.kind == "file":
            for piece in _file(entry, data):
                if update is not None:
                    update(piece)
                yield piece
    if update is not None:
        update(END)
    yield END


def _file(entry: Entry, data: Iterator[bytes]) -> Iterator[bytes]:
    """What follows the header of a file."""
    stored = 0
    yield sparse_map(entry)
    for piece in data:
        stored += len(piece)
        yield piece
    yield padding(stored)
