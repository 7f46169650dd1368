# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Writes the entries of a layer as files below a root directory."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from typing import Callable, Optional

from ansible_collections.strata.overlay.plugins.module_utils._archive.header import Entry, Extents, show
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._layer.deferred_directories import PendingDirectories
from ansible_collections.strata.overlay.plugins.module_utils._layer.metadata import (
    apply_to_descriptor,
    apply_to_name,
)
from ansible_collections.strata.overlay.plugins.module_utils._layer.names import Place, split
from ansible_collections.strata.overlay.plugins.module_utils._layer.rootdir import RootDirectory
from ansible_collections.strata.overlay.plugins.module_utils._layer.writer import (
    NODE_TYPES,
    LayerWriter,
    refuse_directory,
)
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import CREATE, LISTED, write_all
from ansible_collections.strata.overlay.plugins.module_utils._linux.holes import HoleWriter
from ansible_collections.strata.overlay.plugins.module_utils._linux.rmtree import remove_at

_PRIVATE = 0o600
_MOST_CHECKSUMS = 200_000
"""For the sake of memory; files beyond these are read once more when the tree's digest is made."""


class TreeWriter(LayerWriter[int]):
    """A layer as files; handles are descriptors. The umask has to be 0 meanwhile.

    :param opaque_xattr: the attribute that marks a directory as hiding all that lower layers have there.
    :param directories, keep: as for ``LayerWriter``.
    :ivar checksums: CRC-32 of files by inode; of those that are still there it is right.
    """

    def __init__(
        self,
        root: RootDirectory,
        opaque_xattr: str,
        directories: PendingDirectories,
        keep: Callable[[int], None] = lambda size: None,
    ) -> None:
        super().__init__(directories, keep)
        self._root = root
        self._roots_own = _new_files_are_roots(root.fd)
        self._opaque_xattr = opaque_xattr
        self.checksums: dict[int, int] = {}

    def parent(self, path: bytes) -> int:
        return self._root.parent(path)

    def exists(self, parent: int, name: bytes) -> bool:
        return _status(parent, name) is not None

    def is_directory(self, parent: int, name: bytes) -> bool:
        status = _status(parent, name)
        return status is not None and stat.S_ISDIR(status.st_mode)

    def make_directory(self, parent: int, name: bytes) -> None:
        os.mkdir(name, 0o700, dir_fd=parent)

    def remove(self, place: Place) -> None:
        remove_at(self._root.parent(place.parent), place.name)
        self._root.forget()

    def make_file(self, entry: Entry, place: Place, data: Iterable[memoryview], position: int) -> None:
        parent = self._root.parent(place.parent)
        # Nearly all files of nearly all layers. Created with the right mode, they need no chown and chmod, which saves
        # a seventh of the time.
        plain = self._roots_own and not (entry.uid or entry.gid or entry.mode & 0o7000 or entry.xattrs)
        mode = entry.mode if plain else _PRIVATE
        try:
            descriptor = os.open(place.name, CREATE, mode, dir_fd=parent)
        except FileExistsError:
            parent = self.clear(place)
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

    def make_node(self, entry: Entry, place: Place) -> None:
        """A symbolic link, device or fifo."""

        def make(parent: int) -> None:
            if entry.kind == "symlink":
                os.symlink(entry.target, place.name, dir_fd=parent)
            else:
                os.mknod(place.name, NODE_TYPES[entry.kind] | _PRIVATE, os.makedev(*entry.device), dir_fd=parent)

        apply_to_name(self._make(place, make), place.name, entry)

    def _make(self, place: Place, make: Callable[[int], None]) -> int:
        """Call ``make`` with the parent's descriptor, once more after clearing what stood there; the descriptor."""
        parent = self._root.parent(place.parent)
        try:
            make(parent)
        except FileExistsError:
            parent = self.clear(place)
            make(parent)
        return parent

    def make_link(self, entry: Entry, place: Place, target: Place) -> bool:
        parent = self._root.parent(place.parent)
        try:
            source = self._root.open(target.parent)
        except FileNotFoundError:
            return False
        try:
            found = os.stat(target.name, dir_fd=source, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                raise refuse_directory(entry)
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

    def make_whiteout(self, parent: int, name: bytes, path: bytes) -> None:
        try:
            os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent)
        except PermissionError as error:
            # Imported only when needed, which is next to never.
            from ansible_collections.strata.overlay.plugins.module_utils._linux.file_system import whiteout_fault

            fault = whiteout_fault(parent)
            if not fault.why:
                raise
            raise StrataError(f"{show(path)} is deleted in it: {fault.why}; {fault.cure}") from error

    def set_opaque(self, path: bytes) -> None:
        descriptor = self._open_directory(path)
        try:
            os.setxattr(descriptor, self._opaque_xattr, b"y")
        finally:
            os.close(descriptor)

    def finish_directory(self, path: bytes, entry: Entry) -> None:
        descriptor = self._open_directory(path)
        try:
            apply_to_descriptor(descriptor, entry)
        finally:
            os.close(descriptor)

    def _open_directory(self, path: bytes) -> int:
        above, name = split(path)
        return os.open(name or b".", LISTED, dir_fd=self._root.parent(above))


def _new_files_are_roots(top: int) -> bool:
    """Whether a file made anywhere below has owner 0:0 and exactly the mode that it is made with, the umask being 0.

    Directories get their own modes and access lists at the end, and the top was made plain, so nothing but the user or
    the mount (mapped ids) can choose otherwise, and what is seen at the top is true of all below it.
    """
    status = os.fstat(top)
    return not (status.st_uid or status.st_gid or os.geteuid() or os.getegid())


def _status(parent: int, name: bytes) -> Optional[os.stat_result]:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


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
