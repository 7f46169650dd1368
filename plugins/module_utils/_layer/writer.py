# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Applies a layer's entries, whatever its form: what each entry does, and what waits for the archive's end.

What must not depend on the archive's order waits: metadata of directories (writing into one changes its time, and needs
rights that its mode may not give), hard links to what comes later, whiteouts and opaque marks. The forms, which are
files below a directory and the image of a file system, give the steps.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from typing import Callable, Generic, NamedTuple, TypeVar

from ansible_collections.strata.overlay.plugins.module_utils._archive.header import Entry, show
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._layer.deferred_directories import PendingDirectories
from ansible_collections.strata.overlay.plugins.module_utils._layer.deferred_links import LateLinks
from ansible_collections.strata.overlay.plugins.module_utils._layer.metadata import naming
from ansible_collections.strata.overlay.plugins.module_utils._layer.names import Place, join, link_target, split

_MARK = 300
"""Bytes that a whiteout takes in memory beside the bytes of its name."""

NODE_TYPES = {"symlink": stat.S_IFLNK, "char": stat.S_IFCHR, "block": stat.S_IFBLK, "fifo": stat.S_IFIFO}
"""What ``make_node`` makes."""

_Handle = TypeVar("_Handle")


class Member(NamedTuple):
    """One entry of a stream with its place.

    :ivar position: bytes of the stream before its data. :ivar stored: bytes of its data in the stream.
    :ivar data: gives these once, as they come.
    """

    entry: Entry
    place: Place
    position: int
    stored: int
    data: Iterator[memoryview]


class LayerWriter(Generic[_Handle]):
    """Write one layer; ``add`` each entry in the archive's order, then ``finish``.

    A form says how directories are found: ``parent`` gives a handle of one, made with its parents where missing, by
    the rules of `_layer/rootdir`. All its steps raise OSError as the kernel would, and StrataError for what the kernel
    does not know to be wrong.

    :param directories: where what entries say about directories waits for the end.
    :param keep: is called with the bytes that are kept in memory until then, and may refuse.
    """

    def __init__(self, directories: PendingDirectories, keep: Callable[[int], None] = lambda size: None) -> None:
        self._keep = keep
        self._directories = directories
        self._late_links = LateLinks(keep)
        self._whiteouts: set[bytes] = set()
        self._opaque: set[bytes] = set()

    # What a form gives.

    def parent(self, path: bytes) -> _Handle:
        """The handle of a directory, made with its parents where missing; valid until the next call."""
        raise NotImplementedError

    def exists(self, parent: _Handle, name: bytes) -> bool:
        """Whether the layer has anything there."""
        raise NotImplementedError

    def is_directory(self, parent: _Handle, name: bytes) -> bool:
        """Whether it has a directory there, and no link to one."""
        raise NotImplementedError

    def make_directory(self, parent: _Handle, name: bytes) -> None:
        """:raises FileExistsError: there is something."""
        raise NotImplementedError

    def make_file(self, entry: Entry, place: Place, data: Iterable[memoryview], position: int) -> None:
        """A regular file, in the place of whatever is there."""
        raise NotImplementedError

    def make_node(self, entry: Entry, place: Place) -> None:
        """A symbolic link, device or fifo, in the place of whatever is there."""
        raise NotImplementedError

    def make_link(self, entry: Entry, place: Place, target: Place) -> bool:
        """A hard link, in the place of whatever else is there; False where its target is not there (yet)."""
        raise NotImplementedError

    def make_whiteout(self, parent: _Handle, name: bytes, path: bytes) -> None:
        """A device 0:0 where nothing is."""
        raise NotImplementedError

    def set_opaque(self, path: bytes) -> None:
        """Mark a directory as hiding all that lower layers have there."""
        raise NotImplementedError

    def finish_directory(self, path: bytes, entry: Entry) -> None:
        """Give a directory its owner, mode, attributes and time."""
        raise NotImplementedError

    def remove(self, place: Place) -> None:
        """Whatever is there, with all below it."""
        raise NotImplementedError

    # What all forms have in common.

    def add(self, entry: Entry, place: Place, data: Iterable[memoryview], position: int = 0) -> None:
        """Write one entry.

        :param data: the stored bytes of a file. :param position: bytes of the archive before them.
        """
        if place.role == "whiteout":
            self._remember(self._whiteouts, place.path)
        elif place.role == "opaque":
            self._remember(self._opaque, place.parent)
        elif place.role == "entry":
            self._late_links.replaced(place.path)
            if entry.kind == "file":
                self.make_file(entry, place, data, position)
            elif entry.kind == "directory":
                self._add_directory(entry, place)
            elif entry.kind == "hardlink":
                self._link_now_or_late(entry, place)
            else:
                self.make_node(entry, place)

    def _remember(self, marked: set[bytes], path: bytes) -> None:
        if path not in marked:
            self._keep(_MARK + len(path))
            marked.add(path)

    def finish(self) -> None:
        """Do what had to wait for the archive's end."""
        self._late_links.make(self._link_late)
        self._mark_opaque()
        self._make_whiteouts()
        # Children before parents, because times and modes of the parents have to be the last word.
        for path, entry in self._directories:
            with naming(path):
                self.finish_directory(path, entry)

    def _add_directory(self, entry: Entry, place: Place) -> None:
        path = place.path
        if path:
            parent = self.parent(place.parent)
            try:
                self.make_directory(parent, place.name)
            except FileExistsError:
                if not self.is_directory(parent, place.name):
                    self.make_directory(self.clear(place), place.name)
        self._directories.add(path, entry)

    def clear(self, place: Place) -> _Handle:
        """Remove what an earlier entry has put where this one goes; the parent's handle."""
        self.remove(place)
        self._directories.remove(place.path)
        return self.parent(place.parent)

    def _link_now_or_late(self, entry: Entry, place: Place) -> None:
        if not self._link(entry, place):
            if self.exists(self.parent(place.parent), place.name):
                self.clear(place)  # now, so that what stands there at the end is known to have come later
            self._late_links.add(place.path, entry)

    def _link_late(self, entry: Entry, place: Place) -> bool:
        if self.is_directory(self.parent(place.parent), place.name):
            raise StrataError(
                f"entry {show(entry.name)}: hard link to {show(entry.target)}, and the archive has entries below it; "
                "it cannot be both a file and a directory"
            )
        return self._link(entry, place)

    def _link(self, entry: Entry, place: Place) -> bool:
        """Make a hard link; False where its target is not there (yet)."""
        return self.make_link(entry, place, link_target(entry))

    def _mark_opaque(self) -> None:
        for path in sorted(self._opaque):
            with naming(join(path, b".wh..wh..opq")):
                above, name = split(path)
                parent = self.parent(above)
                if path and not self.exists(parent, name):
                    self.parent(path)
                self.set_opaque(path)

    def _make_whiteouts(self) -> None:
        """Hide what lower layers have, where this layer does not hide it already.

        Parents come first in the order, so that a whiteout below a hidden or opaque directory is seen to say nothing.
        It must not be made then: overlayfs lists such a device as a broken file.
        """
        hidden = set(self._opaque)
        for path in sorted(self._whiteouts):
            if not hidden.isdisjoint(_ancestors(path)):
                continue
            with naming(path):
                if self._hide(path):
                    hidden.add(path)

    def _hide(self, path: bytes) -> bool:
        """Make one whiteout; False where a file of this layer has the place and hides by being there."""
        above, name = split(path)
        try:
            parent = self.parent(above)
        except NotADirectoryError:
            return False
        if not self.exists(parent, name):
            self.make_whiteout(parent, name, path)
            return True
        if self.is_directory(parent, name):
            self.set_opaque(path)
            return True
        return False


def refuse_directory(entry: Entry) -> StrataError:
    """A hard link's target turned out to be a directory."""
    return StrataError(f"entry {show(entry.name)}: hard link to {show(entry.target)}: that is a directory")


def _ancestors(path: bytes) -> list[bytes]:
    """b"a/b/c" -> [b"a", b"a/b"]; not the top, in which overlayfs heeds no opaque mark (measured on Linux 6.18)."""
    parts = path.split(b"/")
    return [b"/".join(parts[:depth]) for depth in range(1, len(parts))]
