# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Reads an image archive's files by name, from a directory or a tar, without copying."""

from __future__ import annotations

import os
import posixpath
import tempfile
from typing import IO, Optional, Protocol, Union

from ansible_collections.strata.overlay.plugins.module_utils._archive.compression import open_stream
from ansible_collections.strata.overlay.plugins.module_utils._archive.limits import UNLESS_SET, Limits
from ansible_collections.strata.overlay.plugins.module_utils._archive.reader import Entry, TarReader
from ansible_collections.strata.overlay.plugins.module_utils._archive.slice import Blob
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._layer.reserve import Reserve

_ITEM = 200
_MOST_KEPT = 64 << 20
"""Bytes in memory that the names of an archive's entries may take; an image has two or three files for each layer."""

_MAX_MEMBERS = 200_000
_MAX_LINKS = 16
_CHUNK = 1 << 20


class Files(Protocol):
    """What can be found in an archive."""

    what: str
    """The archive, for messages."""

    packed: bool
    """The archive was compressed as a whole: its blobs lie in a file that goes with this process."""

    def find(self, name: str) -> Optional[Blob]:
        """The file of this name, None where there is none."""


class DirectoryFiles:
    """An archive that is a directory."""

    packed = False

    def __init__(self, directory: str) -> None:
        self.what = directory
        self._directory = directory

    def find(self, name: str) -> Optional[Blob]:
        path = os.path.realpath(f"{self._directory}/{_inside(name)}")
        if not os.path.isfile(path):
            return None
        if not path.startswith(os.path.realpath(self._directory) + "/"):
            # What an archive leads to must be in it: the same image as a tar would not have it either.
            raise StrataError(
                f"{self.what}: {name!r} is a link out of the directory, to {path!r}; put the file itself there"
            )
        return Blob(path, 0, os.path.getsize(path))


class TarFiles:
    """An archive that is a tar, on disk and not compressed."""

    def __init__(self, what: str, path: str, keeper: Optional[IO[bytes]] = None) -> None:
        """
        :param path: of the plain tar; ``keeper`` holds it open where it has no name.
        """
        self.what = what
        self.packed = keeper is not None
        self._path = path
        self._keeper = keeper
        self._members: dict[str, Union[str, tuple[int, int]]] = {}
        self._kept = 0
        self._index()

    def find(self, name: str) -> Optional[Blob]:
        for _link in range(_MAX_LINKS):
            found = self._members.get(_inside(name))
            if found is None:
                return None
            if isinstance(found, tuple):
                return Blob(self._path, *found, keeper=self._keeper)
            name = found
        raise StrataError(f"{self.what}: {name!r} is a link in a circle of links")

    def _index(self) -> None:
        """Walk the headers; data is leapt over."""
        with open(self._path, "rb", buffering=0) as stream:
            reader = TarReader(stream.read, lambda length: stream.seek(length, os.SEEK_CUR))
            try:
                for entry in reader:
                    self._add(entry, reader.position)
            except StrataError as error:
                raise StrataError(
                    f"{self.what} is no image's archive: it is neither a directory nor a tar that can be read: {error}"
                ) from error

    def _add(self, entry: Entry, position: int) -> None:
        name, target = _inside(os.fsdecode(entry.name)), os.fsdecode(entry.target)
        if len(self._members) >= _MAX_MEMBERS:
            raise StrataError(f"it has more than {_MAX_MEMBERS} entries")
        self._kept += _ITEM + len(name) + len(target)
        if self._kept > _MOST_KEPT:
            raise StrataError(f"the names of its entries take more than {_MOST_KEPT} bytes")
        if entry.kind == "symlink":
            self._members[name] = posixpath.join(posixpath.dirname(name), target)
        elif entry.kind == "hardlink":
            self._members[name] = target
        elif entry.kind == "file" and entry.sparse is None:
            self._members[name] = (position, entry.size)
        else:
            self._members.pop(name, None)  # the last of a name counts, as when the archive is unpacked


def _inside(name: str) -> str:
    """A name with nothing left in it that could lead out of the archive."""
    return posixpath.normpath("/" + name).lstrip("/")


def open_files(path: str, directory: str, limits: Limits = UNLESS_SET) -> Files:
    """The files of the archive at a path.

    :param directory: where a compressed archive is unpacked, to a file without a name that goes with the process.
    :param limits: how much it may be then.
    """
    if os.path.isdir(path):
        return DirectoryFiles(path)
    with open(path, "rb") as raw, open_stream(raw) as plain:
        if plain.format == "plain":
            return TarFiles(path, path)
    stream = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - the blobs keep it
    try:
        unpack_archive(path, stream, limits)
    except BaseException:
        stream.close()
        raise
    return TarFiles(path, f"/proc/self/fd/{stream.fileno()}", stream)


def unpack_archive(path: str, target: IO[bytes], limits: Limits = UNLESS_SET) -> None:
    """Decompress an archive as a whole into a file.

    :raises StrataError: it has more bytes than the limits say, or would leave less of the file system free.
    """
    size = 0
    reserve = Reserve(target.fileno(), limits.reserve)
    with open(path, "rb") as raw, open_stream(raw) as plain:
        for piece in iter(lambda: plain.read(_CHUNK), b""):
            size += len(piece)
            if size > limits.bytes:
                raise StrataError(
                    f"{path} unpacks to more than the limit of {limits.bytes} bytes; if you trust where it comes from, "
                    "raise the option 'limits.bytes', or give the archive uncompressed"
                )
            try:
                reserve.wrote(len(piece))
            except StrataError as error:
                raise StrataError(f"{path} cannot be decompressed: {error}") from error
            target.write(piece)
    target.flush()
