# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Turns a layer's tar stream into a DiffID and one file: the tar unchanged, with EROFS metadata behind it.

The same archive gives the same file on any machine: what no entry says, owners and times of directories that no entry
stands for, is fixed. The kernel is only ever given metadata that was made here.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Callable, NamedTuple

from ansible_collections.strata.overlay.plugins.module_utils._archive.limits import UNLESS_SET, Limits
from ansible_collections.strata.overlay.plugins.module_utils._archive.meter import Meter
from ansible_collections.strata.overlay.plugins.module_utils._archive.reader import TarReader, show
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._common.hashing import HashingReader
from ansible_collections.strata.overlay.plugins.module_utils._layer.deferred_directories import PendingDirectories
from ansible_collections.strata.overlay.plugins.module_utils._layer.erofs import HEAD
from ansible_collections.strata.overlay.plugins.module_utils._layer.flush import WriteBack
from ansible_collections.strata.overlay.plugins.module_utils._layer.image_index import Index
from ansible_collections.strata.overlay.plugins.module_utils._layer.image_metadata import Tail, write_metadata
from ansible_collections.strata.overlay.plugins.module_utils._layer.image_writer import ImageWriter
from ansible_collections.strata.overlay.plugins.module_utils._layer.metadata import explain
from ansible_collections.strata.overlay.plugins.module_utils._layer.reserve import Reserve
from ansible_collections.strata.overlay.plugins.module_utils._layer.unpack import Unpacked, Walk
from ansible_collections.strata.overlay.plugins.module_utils._linux.holes import HoleWriter
from ansible_collections.strata.overlay.plugins.module_utils._linux.overlay_marks import opaque_xattr

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def make_image(
    read: Callable[[int], bytes], path: str, limits: Limits = UNLESS_SET, *, pinned: bool = False
) -> Unpacked:
    """Write a layer's tar stream into a new file, as an image that the kernel can mount.

    Limits and refusals are those of ``unpack``; what an image cannot hold beyond that is refused by name. After an
    error the file is half written, for the caller to remove. Nothing is synced.

    :param read, limits, pinned: as for ``unpack``.
    :returns: ``digest`` is the SHA-256 of all that is not the archive, ``allocated`` what the file takes on disk.
    :raises StrataError: damage, or a refused entry, naming it. :raises OSError: as the file system says.
    """
    with contextlib.ExitStack() as opened:
        descriptor = os.open(path, _CREATE, 0o600)
        opened.callback(os.close, descriptor)
        os.lseek(descriptor, HEAD, os.SEEK_SET)
        reserve = Reserve(descriptor, limits.reserve)
        disk = opened.enter_context(WriteBack(lambda: os.fdatasync(descriptor)))
        archive = _Copy(read, descriptor, reserve, disk)
        beside = os.path.dirname(os.path.abspath(path))
        layer = opened.enter_context(read_layer(archive.read, beside, limits, pinned=pinned))
        archive.finish()
        digest = layer.write(Tail(descriptor, HEAD + archive.length, reserve.wrote))
        facts = os.fstat(descriptor)
        return replace(layer.unpacked, allocated=facts.st_blocks * 512, digest=digest, archive=archive.length)


class Layer(NamedTuple):
    """A layer that was read to its end. :ivar unpacked: what it is, less what only a file has."""

    unpacked: Unpacked
    inodes: Index
    sparse: bool

    def write(self, tail: Tail) -> str:
        """Its metadata, once; the digest of them."""
        return write_metadata(self.inodes, tail, self.sparse)


@contextlib.contextmanager
def read_layer(
    read: Callable[[int], bytes], beside: str, limits: Limits = UNLESS_SET, *, pinned: bool = False
) -> Iterator[Layer]:
    """Read a layer's tar stream; parameters and errors as for ``make_image``.

    :param beside: a directory on whose file system files without a name may lie meanwhile.
    """
    with contextlib.ExitStack() as opened:
        meter = Meter(limits)
        source = opened.enter_context(HashingReader(read))
        index = opened.enter_context(Index(beside, meter.count_implied))
        directories = opened.enter_context(PendingDirectories(beside, meter.keep))
        writer = ImageWriter(index, opaque_xattr(False), directories, meter.keep)
        walk = Walk(TarReader(meter.bounded(source.read), pinned=pinned), meter)
        for entry, target, position, _stored, data in walk:
            try:
                writer.add(entry, target, data, position)
            except OSError as error:
                raise StrataError(f"entry {show(entry.name)}: {explain(error)}") from error
        writer.finish()
        unpacked = Unpacked(source.digest(), walk.size, meter.members, left_out=walk.left_out)
        yield Layer(unpacked, index, writer.sparse)


class _Copy:
    """What is read goes into the image as well. :ivar length: bytes so far."""

    def __init__(self, read: Callable[[int], bytes], descriptor: int, reserve: Reserve, disk: WriteBack) -> None:
        self.length = 0
        self._read = read
        self._reserve = reserve
        self._disk = disk
        self._writer = HoleWriter(descriptor, summed=False)

    def read(self, size: int) -> bytes:
        chunk = self._read(size)
        self._reserve.wrote(len(chunk))
        self._writer.write(memoryview(chunk))
        self.length += len(chunk)
        self._disk.at(self.length)
        return chunk

    def finish(self) -> None:
        self._writer.finish()
        self._disk.last(self.length)
