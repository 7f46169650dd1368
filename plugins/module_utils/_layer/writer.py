# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""The entries of a layer -> files below a root directory.

What must not depend on the archive's order waits for the end: metadata of directories (writing into one changes its
time, and needs rights that its mode may not give), hard links to what comes later, whiteouts and opaque marks.
"""

from __future__ import annotations

import os
import stat
from typing import Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Set, Tuple

from ansible_collections.strata.overlay.plugins.module_utils._archive.header import Entry, Extents, show
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._layer.deferred_directories import PendingDirectories
from ansible_collections.strata.overlay.plugins.module_utils._layer.deferred_links import LateLinks
from ansible_collections.strata.overlay.plugins.module_utils._layer.metadata import (
    apply_to_descriptor,
    apply_to_name,
    naming,
)
from ansible_collections.strata.overlay.plugins.module_utils._layer.names import Place, join, link_target, split
from ansible_collections.strata.overlay.plugins.module_utils._layer.rootdir import RootDirectory
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import CREATE, LISTED, write_all
from ansible_collections.strata.overlay.plugins.module_utils._linux.holes import HoleWriter
from ansible_collections.strata.overlay.plugins.module_utils._linux.rmtree import remove_at

_PRIVATE = 0o600
_MOST_CHECKSUMS = 200_000
"""For the sake of memory; files beyond these are read once more when the tree's digest is made."""
_MARK = 300
"""Bytes that a whiteout takes in memory beside the bytes of its name."""
_DEVICE_TYPES = {"char": stat.S_IFCHR, "block": stat.S_IFBLK, "fifo": stat.S_IFIFO}


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


class TreeWriter:
    """Write one layer; ``add`` each entry in the archive's order, then ``finish``. The umask has to be 0 meanwhile.

    :param opaque_xattr: the attribute that marks a directory as hiding all that lower layers have there.
    :param directories: where what entries say about directories waits for the end.
    :param keep: is called with the bytes that are kept in memory until then, and may refuse.
    :ivar checksums: CRC-32 of files by inode; of those that are still there it is right.
    """

    def __init__(
        self,
        root: RootDirectory,
        opaque_xattr: str,
        directories: PendingDirectories,
        keep: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._keep = keep
        self._root = root
        self._roots_own = _new_files_are_roots(root.fd)
        self._opaque_xattr = opaque_xattr
        self._directories = directories
        self.checksums: Dict[int, int] = {}
        self._late_links = LateLinks(keep)
        self._whiteouts: Set[bytes] = set()
        self._opaque: Set[bytes] = set()

    def add(self, entry: Entry, place: Place, data: Iterable[memoryview]) -> None:
        """Write one entry.

        :param data: the stored bytes of a file.
        :raises OSError: as the kernel says; StrataError for what the kernel does not know to be wrong.
        """
        if place.role == "whiteout":
            self._remember(self._whiteouts, place.path)
        elif place.role == "opaque":
            self._remember(self._opaque, place.parent)
        elif place.role == "entry":
            self._late_links.replaced(place.path)
            self._write(entry, place, data)

    def _remember(self, marked: Set[bytes], path: bytes) -> None:
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
                self._finish_directory(path, entry)

    def _write(self, entry: Entry, place: Place, data: Iterable[memoryview]) -> None:
        if entry.kind == "directory":
            self._make_directory(entry, place)
        elif entry.kind == "hardlink":
            self._link_now_or_late(entry, place)
        elif entry.kind == "file":
            self._write_file(entry, place, data)
        else:
            self._make_node(entry, place)

    def _write_file(self, entry: Entry, place: Place, data: Iterable[memoryview]) -> None:
        parent = self._root.parent(place.parent)
        # Nearly all files of nearly all layers: made as they shall be, they need no chown and chmod, a seventh of all
        # the time.
        plain = self._roots_own and not (entry.uid or entry.gid or entry.mode & 0o7000 or entry.xattrs)
        mode = entry.mode if plain else _PRIVATE
        try:
            descriptor = os.open(place.name, CREATE, mode, dir_fd=parent)
        except FileExistsError:
            parent = self._clear(place)
            descriptor = os.open(place.name, CREATE, mode, dir_fd=parent)
        try:
            if entry.sparse is None:
                self._write_plain(descriptor, data)
            else:
                # It may have the number of a file that was there and went.
                self.checksums.pop(os.fstat(descriptor).st_ino, None)
                _write_sparse(descriptor, entry.sparse, iter(data))
                os.ftruncate(descriptor, entry.size)
            if plain:
                os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
            else:
                apply_to_descriptor(descriptor, entry)
        finally:
            os.close(descriptor)

    def _write_plain(self, descriptor: int, data: Iterable[memoryview]) -> None:
        writer = HoleWriter(descriptor)
        for chunk in data:
            writer.write(chunk)
        writer.finish()
        number = os.fstat(descriptor).st_ino
        if number in self.checksums or len(self.checksums) < _MOST_CHECKSUMS:
            self.checksums[number] = writer.checksum

    def _make_node(self, entry: Entry, place: Place) -> None:
        """A symbolic link, device or fifo."""

        def make(parent: int) -> None:
            if entry.kind == "symlink":
                os.symlink(entry.target, place.name, dir_fd=parent)
            else:
                os.mknod(place.name, _DEVICE_TYPES[entry.kind] | _PRIVATE, os.makedev(*entry.device), dir_fd=parent)

        apply_to_name(self._make(place, make), place.name, entry)

    def _make(self, place: Place, make: Callable[[int], None]) -> int:
        """Call ``make`` with the parent's descriptor, once more after clearing what stood there; the descriptor."""
        parent = self._root.parent(place.parent)
        try:
            make(parent)
        except FileExistsError:
            parent = self._clear(place)
            make(parent)
        return parent

    def _make_directory(self, entry: Entry, place: Place) -> None:
        path = place.path
        if path:
            parent = self._root.parent(place.parent)
            try:
                os.mkdir(place.name, 0o700, dir_fd=parent)
            except FileExistsError:
                if not _is_directory(parent, place.name):
                    os.mkdir(place.name, 0o700, dir_fd=self._clear(place))
        self._directories.add(path, entry)

    def _clear(self, place: Place) -> int:
        """Remove what an earlier entry has put where this one goes; the parent's descriptor."""
        remove_at(self._root.parent(place.parent), place.name)
        self._root.forget()
        self._directories.remove(place.path)
        return self._root.parent(place.parent)

    def _link_now_or_late(self, entry: Entry, place: Place) -> None:
        if not self._link(entry, place):
            if _exists(self._root.parent(place.parent), place.name):
                self._clear(place)  # now, so that what stands there at the end is known to have come later
            self._late_links.add(place.path, entry)

    def _link_late(self, entry: Entry, place: Place) -> bool:
        if _is_directory(self._root.parent(place.parent), place.name):
            raise StrataError(
                f"entry {show(entry.name)}: hard link to {show(entry.target)}, and the archive has entries below it; "
                "it cannot be both a file and a directory"
            )
        return self._link(entry, place)

    def _link(self, entry: Entry, place: Place) -> bool:
        """Make a hard link; False where its target is not there (yet)."""
        target = link_target(entry)
        parent = self._root.parent(place.parent)
        try:
            source = self._root.open(target.parent)
        except FileNotFoundError:
            return False
        try:
            found = os.stat(target.name, dir_fd=source, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                raise StrataError(f"entry {show(entry.name)}: hard link to {show(entry.target)}: that is a directory")
            if _same_inode(parent, place.name, found):
                return True  # GNU tar writes a file named twice as a link to itself

            def make(parent: int) -> None:
                os.link(target.name, place.name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)

            self._make(place, make)
        except FileNotFoundError:
            return False
        finally:
            os.close(source)
        return True

    def _mark_opaque(self) -> None:
        for path in sorted(self._opaque):
            with naming(join(path, b".wh..wh..opq")):
                parent, name = self._split(path)
                if path and not _exists(parent, name):
                    self._root.parent(path)
                self._set_opaque(path)

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
        try:
            parent, name = self._split(path)
        except NotADirectoryError:
            return False
        if not _exists(parent, name):
            try:
                os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent)
            except PermissionError as error:
                # Loaded when it is needed, which is next to never.
                from ansible_collections.strata.overlay.plugins.module_utils._linux.file_system import whiteout_fault

                fault = whiteout_fault(parent)
                if not fault.why:
                    raise
                raise StrataError(f"{show(path)} is deleted in it: {fault.why}; {fault.cure}") from error
            return True
        if _is_directory(parent, name):
            self._set_opaque(path)
            return True
        return False

    def _set_opaque(self, path: bytes) -> None:
        descriptor = self._open_directory(path)
        try:
            os.setxattr(descriptor, self._opaque_xattr, b"y")
        finally:
            os.close(descriptor)

    def _finish_directory(self, path: bytes, entry: Entry) -> None:
        descriptor = self._open_directory(path)
        try:
            apply_to_descriptor(descriptor, entry)
        finally:
            os.close(descriptor)

    def _open_directory(self, path: bytes) -> int:
        parent, name = self._split(path)
        return os.open(name or b".", LISTED, dir_fd=parent)

    def _split(self, path: bytes) -> Tuple[int, bytes]:
        parent, name = split(path)
        return self._root.parent(parent), name


def _new_files_are_roots(top: int) -> bool:
    """Whether a file made anywhere below has owner 0:0 and exactly the mode that it is made with, the umask being 0.

    Directories get their own modes and access lists at the end, and the top was made plain, so nothing but the user or
    the mount (mapped ids) can choose otherwise, and what is seen at the top is true of all below it.
    """
    status = os.fstat(top)
    return not (status.st_uid or status.st_gid or os.geteuid() or os.getegid())


def _ancestors(path: bytes) -> List[bytes]:
    """b"a/b/c" -> [b"a", b"a/b"]; not the top, in which overlayfs heeds no opaque mark (measured on Linux 6.18)."""
    parts = path.split(b"/")
    return [b"/".join(parts[:depth]) for depth in range(1, len(parts))]


def _status(parent: int, name: bytes) -> Optional[os.stat_result]:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _exists(parent: int, name: bytes) -> bool:
    return _status(parent, name) is not None


def _is_directory(parent: int, name: bytes) -> bool:
    status = _status(parent, name)
    return status is not None and stat.S_ISDIR(status.st_mode)


def _same_inode(parent: int, name: bytes, other: os.stat_result) -> bool:
    status = _status(parent, name)
    return status is not None and (status.st_dev, status.st_ino) == (other.st_dev, other.st_ino)


def _write_sparse(descriptor: int, extents: Extents, chunks: Iterator[memoryview]) -> None:
    """Lay the stored bytes out over the extents; what is between them is never written and stays a hole."""
    piece = memoryview(b"")
    for offset, length in extents:
        os.lseek(descriptor, offset, os.SEEK_SET)
        left = length
        while left:
            piece = piece or next(chunks)
            write_all(descriptor, piece[:left])
            left, piece = left - len(piece[:left]), piece[left:]
