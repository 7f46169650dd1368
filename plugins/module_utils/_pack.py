# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""A directory, or files written in a definition -> a layer's tar stream, always the same bytes for the same input.

What differs from machine to machine or from day to day is left out: times are fixed, what a directory holds belongs to
0:0, names of users are not written, the order is that of the bytes. Source: OCI image-spec layer.md.
"""

from __future__ import annotations

import os
import stat
from typing import Dict, Iterator, List, Sequence, Tuple

from ansible_collections.strata.overlay.plugins.module_utils._errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._inline import InlineFile
from ansible_collections.strata.overlay.plugins.module_utils._tar import END, Entry, header, padding, show

# What follows decides the bytes: when it changes, raise PACKING in _digestcache.
EPOCH = 315532800
"""Seconds since 1970 of 1980-01-01, the time of every packed file: the oldest that zip can hold."""

_EPOCH_NS = EPOCH * 10**9
_CHUNK = 1 << 20
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


def pack_files(files: Sequence[InlineFile]) -> Iterator[bytes]:
    """The tar stream of files written in a definition, in the order of their paths' components.

    Directories above them are not written; unpacking makes them (0755, owner 0:0).
    """
    for file in sorted(files, key=lambda file: _encode(file.path).split(b"/")):
        yield from _pack_inline(file)
    yield END


def _pack_inline(file: InlineFile) -> Iterator[bytes]:
    path = _encode(file.path)
    mode = _DEFAULT_MODES[file.state] if file.mode is None else file.mode
    entry = Entry(path, "file", mode=mode, uid=file.uid, gid=file.gid, mtime_ns=_EPOCH_NS)
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
            yield _mark(path + b"/.wh..wh..opq")
    else:
        parent, slash, name = path.rpartition(b"/")
        yield _mark(parent + slash + b".wh." + name)


def _mark(name: bytes) -> bytes:
    return header(Entry(name, "file", mode=_MARK_MODE, mtime_ns=_EPOCH_NS))


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def pack_directory(path: str) -> Iterator[bytes]:
    """The tar stream of all that lies in a directory: each directory before its contents, names in order of bytes.

    The top itself has no entry, so a layer says nothing about the place it is unpacked to. Owner is 0:0 and the time is
    EPOCH; permission bits, hard links, devices, user attributes and file capabilities are kept, other attributes
    dropped, overlayfs's own among them. Names beginning with .wh. pass: they are OCI whiteouts.

    :raises StrataError: a socket, which no archive can hold; a file that changes meanwhile.
    :raises OSError: something cannot be read.
    """
    root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        packer = _Packer(root, os.fsencode(path))
        waiting: List[Iterator[bytes]] = [packer.names(b"")]
        while waiting:
            name = next(waiting[-1], None)
            if name is None:
                waiting.pop()
                continue
            if packer.is_directory(name):
                waiting.append(packer.names(name))
            yield from packer.pack(name)
    finally:
        os.close(root)
    yield END


class _Packer:
    """Names here are bytes relative to the directory that is packed."""

    def __init__(self, root: int, path: bytes) -> None:
        self._root = root
        self._path = path
        self._links: Dict[Tuple[int, int], bytes] = {}

    def names(self, directory: bytes) -> Iterator[bytes]:
        descriptor = self._open(directory or b".", os.O_DIRECTORY)
        try:
            found = sorted(map(os.fsencode, os.listdir(descriptor)))
        finally:
            os.close(descriptor)
        return iter([directory + b"/" + name if directory else name for name in found])

    def is_directory(self, name: bytes) -> bool:
        return stat.S_ISDIR(self._status(name).st_mode)

    def pack(self, name: bytes) -> Iterator[bytes]:
        status = self._status(name)
        entry = self._entry(name, status)
        if entry.kind == "file":
            yield from self._pack_file(name, entry)
        else:
            yield header(entry)

    def _entry(self, name: bytes, status: os.stat_result) -> Entry:
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            raise StrataError(f"{show(name)} is a socket; a layer cannot hold it: remove it from the directory")
        entry = Entry(name, kind, mode=stat.S_IMODE(status.st_mode), mtime_ns=_EPOCH_NS)
        if kind == "directory":
            entry.name += b"/"
        elif status.st_nlink > 1:
            first = self._links.setdefault((status.st_dev, status.st_ino), name)
            if first != name:
                entry.kind, entry.target = "hardlink", first
                return entry
        if kind == "symlink":
            entry.target = os.readlink(name, dir_fd=self._root)
        elif kind in ("char", "block"):
            entry.device = (os.major(status.st_rdev), os.minor(status.st_rdev))
        entry.xattrs = _kept_xattrs(os.path.join(self._path, name))
        return entry

    def _pack_file(self, name: bytes, entry: Entry) -> Iterator[bytes]:
        descriptor = self._open(name, os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise _changed(name)
            entry.size = left = status.st_size
            yield header(entry)
            while left:
                chunk = os.read(descriptor, min(left, _CHUNK))
                if not chunk:
                    raise _changed(name)
                left -= len(chunk)
                yield chunk
            if os.read(descriptor, 1):
                raise _changed(name)
            yield padding(entry.size)
        finally:
            os.close(descriptor)

    def _status(self, name: bytes) -> os.stat_result:
        return os.stat(name, dir_fd=self._root, follow_symlinks=False)

    def _open(self, name: bytes, flags: int) -> int:
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=self._root)


def _changed(name: bytes) -> StrataError:
    return StrataError(f"{show(name)} changed while it was read; try again when nothing writes to the directory")


def _kept_xattrs(path: bytes) -> Dict[str, bytes]:
    # A controller may be a Mac, whose Python has no such functions.
    if not hasattr(os, "listxattr"):
        return {}
    kept = [name for name in os.listxattr(path, follow_symlinks=False) if _is_kept(name)]
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in kept}


def _is_kept(name: str) -> bool:
    return name == "security.capability" or (name.startswith("user.") and not name.startswith("user.overlay."))
