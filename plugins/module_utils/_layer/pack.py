# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Packs a directory or inline files into a layer's tar stream, reproducibly.

What differs from machine to machine is left out: what a directory holds belongs to 0:0, names of users are not written,
the order is that of the bytes. Times are kept or fixed. Where they are kept, the source digest is the digest of the
archive as it would be with fixed ones. Source: OCI image-spec layer.md; what BuildKit's COPY takes for a change.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Callable, NamedTuple, Optional

from ansible_collections.strata.overlay.plugins.module_utils._archive.reader import END, Entry, header, padding, show
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.files import InlineFile
from ansible_collections.strata.overlay.plugins.module_utils._layer.left_out import SOCKETS, LeftOut
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import LISTED_BY_LINK
from ansible_collections.strata.overlay.plugins.module_utils._linux.holes import read_file

# What follows decides the bytes: when it changes, raise PACKING in `_source/digest_cache`.
EPOCH = 315532800
"""Seconds since 1970 of 1980-01-01, the fixed time of packed files: the oldest that zip can hold."""

_EPOCH_NS = EPOCH * 10**9
_MARK_MODE = 0o600
_DEFAULT_MODES = {"file": 0o644, "directory": 0o755, "link": 0o777, "absent": _MARK_MODE}
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFLNK: "symlink",
    stat.S_IFDIR: "directory",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
}


Digest = Callable[[bytes], object]
"""Told, piece by piece, the archive as it would be with fixed times."""


def _undigested(_piece: bytes) -> None:
    pass


class ChunkReader:
    """Read chunks as if they were a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        """Between 1 and ``size`` bytes, none at the end; all that is left for a negative size."""
        if size < 0:
            everything, self._rest = self._rest + b"".join(self._chunks), b""
            return everything
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._rest = chunk
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece


def pack_files(files: Sequence[InlineFile], digest: Digest = _undigested) -> Iterator[bytes]:
    """The tar stream of files written in a definition, in the order of their paths' components.

    Directories above them are not written; unpacking makes them (0755, owner 0:0).

    :param digest: given the archive as it would be if none of the files had a time.
    """
    for file in sorted(files, key=lambda file: _encode(file.path).split(b"/")):
        yield from _pack_inline(file)
        if digest is not _undigested:
            for piece in _pack_inline(file._replace(time=None)):
                digest(piece)
    digest(END)
    yield END


def _pack_inline(file: InlineFile) -> Iterator[bytes]:
    path = _encode(file.path)
    mode = _DEFAULT_MODES[file.state] if file.mode is None else file.mode
    time_ns = _EPOCH_NS if file.time is None else file.time * 10**9
    entry = Entry(path, "file", mode=mode, uid=file.uid, gid=file.gid, mtime_ns=time_ns)
    if file.state == "file":
        entry.size = len(file.content)
        yield header(entry) + file.content + padding(entry.size)
    elif file.state == "link":
        entry.kind, entry.target = "symlink", _encode(file.target)
        yield header(entry)
    elif file.state == "directory":
        entry.kind, entry.name = "directory", path + b"/"
        yield header(entry)
        if file.opaque:
            yield mark(path + b"/.wh..wh..opq")
    else:
        parent, slash, name = path.rpartition(b"/")
        yield mark(parent + slash + b".wh." + name)


def mark(name: bytes) -> bytes:
    """A whiteout or an opaque mark: an empty file whose name says it all."""
    return header(Entry(name, "file", mode=_MARK_MODE, mtime_ns=_EPOCH_NS))


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def pack_directory(
    path: str, keep_times: bool = False, digest: Digest = _undigested, left_out: Optional[LeftOut] = None
) -> Iterator[bytes]:
    """The tar stream of all that lies in a directory: each directory before its contents, names in order of bytes.

    The top itself has no entry, so a layer says nothing about the place it is unpacked to. Owner is 0:0;
    permission bits, hard links, devices, user attributes and file capabilities are kept, other attributes
    dropped, overlayfs's own among them. Names beginning with .wh. pass: they are OCI whiteouts. Sockets are left out,
    which no archive can hold.

    :param keep_times: of modification, to the nanosecond; otherwise all are EPOCH.
    :param digest: given the archive as it would be with EPOCH.
    :param left_out: where sockets are noted.
    :raises StrataError: a file that changes meanwhile.
    :raises OSError: something cannot be read.
    """
    yield from TreePacker(keep_times, digest, left_out).pack_tree(path)
    digest(END)
    yield END


class Directory(NamedTuple):
    """A directory that is being packed. Everything in it is reached through its descriptor: no link on the way to it
    is followed, whatever somebody does to the tree meanwhile.

    :ivar path: relative to the top, b"" for the top.
    """

    descriptor: int
    path: bytes

    def name(self, base: bytes) -> bytes:
        """The name in the archive of what lies in it."""
        return self.path + b"/" + base if self.path else base

    def status(self, base: bytes) -> os.stat_result:
        """As lstat(2)."""
        return os.stat(base, dir_fd=self.descriptor, follow_symlinks=False)

    def open(self, base: bytes, flags: int) -> int:
        """A descriptor of what lies in it, and of no link's target."""
        return os.open(base, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=self.descriptor)

    def place(self, base: bytes) -> bytes:
        """A path for the calls that take no descriptor of a directory. Linux only."""
        return b"/proc/self/fd/%d/%s" % (self.descriptor, base)

    def listed(self) -> list[bytes]:
        """What lies in it, in the order of bytes."""
        return sorted(map(os.fsencode, os.listdir(self.descriptor)))


class TreePacker:
    """A tree -> the entries of an archive. What is kept of each is for subclasses to change."""

    def __init__(
        self, keep_times: bool = False, digest: Digest = _undigested, left_out: Optional[LeftOut] = None
    ) -> None:
        self.left_out = left_out or LeftOut()
        self._links: dict[tuple[int, int], bytes] = {}
        self._keep_times = keep_times
        self._digest = digest

    def pack_tree(self, path: str) -> Iterator[bytes]:
        """All that lies in a directory. Memory and descriptors grow with its depth and its longest listing only."""
        top = Directory(os.open(path, LISTED_BY_LINK), b"")
        waiting = [(top, self.names(top))]
        try:
            yield from self.pack_top(top)
            while waiting:
                directory, names = waiting[-1]
                base = next(names, None)
                if base is None:
                    os.close(directory.descriptor)
                    waiting.pop()
                    continue
                with _noticing(directory.name(base)):
                    status = directory.status(base)
                    yield from self.pack(directory, base, status)
                    if stat.S_ISDIR(status.st_mode):
                        below = Directory(directory.open(base, os.O_DIRECTORY), directory.name(base))
                        waiting.append((below, self.names(below)))
        finally:
            for directory, _names in waiting:
                os.close(directory.descriptor)

    def pack_top(self, top: Directory) -> Iterator[bytes]:
        """The entry of the top itself: none."""
        return iter(())

    def names(self, directory: Directory) -> Iterator[bytes]:
        """What lies in a directory, in the order in which it is packed."""
        return iter(directory.listed())

    def pack(self, directory: Directory, base: bytes, status: os.stat_result) -> Iterator[bytes]:
        """One entry, with the file's bytes; none for a socket: it is the door of a running program."""
        if stat.S_ISSOCK(status.st_mode):
            self.left_out.add(SOCKETS, directory.name(base))
            return
        entry = self.entry(directory, base, status)
        if entry.kind == "file":
            yield from self._pack_file(directory, base, entry)
        else:
            yield self._header(entry)

    def _header(self, entry: Entry) -> bytes:
        if self._digest is not _undigested:
            self._digest(header(replace(entry, mtime_ns=_EPOCH_NS)))
        return header(entry)

    def entry(self, directory: Directory, base: bytes, status: os.stat_result) -> Entry:
        """An entry with everything but its owner, which is nobody."""
        name = directory.name(base)
        kind = _KINDS[stat.S_IFMT(status.st_mode)]
        time_ns = status.st_mtime_ns if self._keep_times else _EPOCH_NS
        entry = Entry(name, kind, mode=stat.S_IMODE(status.st_mode), mtime_ns=time_ns)
        if kind == "directory":
            entry.name += b"/"
        elif status.st_nlink > 1:
            first = self._links.setdefault((status.st_dev, status.st_ino), name)
            if first != name:
                entry.kind, entry.target = "hardlink", first
                return entry
        if kind == "symlink":
            entry.target = os.readlink(base, dir_fd=directory.descriptor)
        elif kind in ("char", "block"):
            entry.device = (os.major(status.st_rdev), os.minor(status.st_rdev))
        # A controller may be a Mac, whose Python has no such functions.
        if hasattr(os, "listxattr"):
            entry.xattrs = self.xattrs(directory, base)
        return entry

    def xattrs(self, directory: Directory, base: bytes) -> dict[str, bytes]:
        """The attributes that are packed."""
        place = directory.place(base)
        kept = [name for name in os.listxattr(place, follow_symlinks=False) if _is_kept(name)]
        return {name: os.getxattr(place, name, follow_symlinks=False) for name in kept}

    def look_at(self, name: bytes, descriptor: int) -> None:
        """Note what cannot be packed of a file that is open."""

    def _pack_file(self, directory: Directory, base: bytes, entry: Entry) -> Iterator[bytes]:
        descriptor = directory.open(base, os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise changed(entry.name)
            self.look_at(entry.name, descriptor)
            entry.size = left = status.st_size
            yield self._header(entry)
            for chunk in read_file(descriptor, status):
                left -= len(chunk)
                self._digest(chunk)
                yield chunk
            if left or os.fstat(descriptor).st_size != entry.size:
                raise changed(entry.name)
            self._digest(padding(entry.size))
            yield padding(entry.size)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _noticing(name: bytes) -> Iterator[None]:
    """What is gone, or of another type than a moment ago, has been changed by somebody."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
            raise changed(name) from error
        raise


def changed(name: bytes) -> StrataError:
    """The error for what is not what it was when it began to be read."""
    return StrataError(f"{show(name)} changed while it was read; try again when nothing writes to the directory")


def _is_kept(name: str) -> bool:
    return name == "security.capability" or (name.startswith("user.") and not name.startswith("user.overlay."))
