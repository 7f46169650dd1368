# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Verifies an image: its archive by digest, its metadata against what the archive gives.

Nothing of this mounts the image, nor believes what it says of itself: the archive is read again, and the metadata that
it asks for are compared with those that are there. So every byte of the file counts.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from ansible_collections.strata.overlay.plugins.module_utils._archive.limits import Limits
from ansible_collections.strata.overlay.plugins.module_utils._archive.slice import Blob
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._layer.erofs import HEAD
from ansible_collections.strata.overlay.plugins.module_utils._layer.image import read_layer
from ansible_collections.strata.overlay.plugins.module_utils._layer.image_metadata import Tail
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import READ_FILE

_ANY = Limits(entries=1 << 62, bytes=1 << 62, depth=1 << 30, memory=1 << 62, reserve=0)
"""What was imported within limits of its own is no more than it was then."""


class ImageState(NamedTuple):
    """An image as it is.

    :ivar diff_id: of the archive in it; "" where that cannot be read to its end.
    :ivar fault: what is wrong with all that is not the archive, or why that cannot be read; "" for nothing.
    :ivar digest: of the metadata that belong to the archive, as ``make_image`` gives it.
    """

    diff_id: str
    fault: str
    digest: str = ""


def image_state(path: str, length: int, beside: str) -> ImageState:
    """Read an image, every byte of it.

    :param length: bytes of the archive in it.
    :param beside: a directory on whose file system files without a name may lie meanwhile.
    :raises OSError: it is not there, or cannot be read.
    """
    descriptor = os.open(path, READ_FILE)
    try:
        size = os.fstat(descriptor).st_size
        archive = archive_of(f"/proc/self/fd/{descriptor}", length)
        try:
            with archive.open() as stream, read_layer(stream.read, beside, _ANY, pinned=True) as layer:
                tail = _Comparison(descriptor, HEAD + length)
                digest = layer.write(tail)
                diff_id = layer.unpacked.diff_id
        except StrataError as error:
            return ImageState("", f"the archive in it cannot be read: {error}")
        if tail.different >= 0:
            return ImageState(diff_id, f"its metadata are other ones from byte {tail.different} on", digest)
        if size != tail.end:
            return ImageState(diff_id, f"it has {size} bytes and should have {tail.end}", digest)
        return ImageState(diff_id, "", digest)
    finally:
        os.close(descriptor)


def archive_of(path: str, length: int) -> Blob:
    """The archive in an image, to be read as it came.

    :param length: bytes of it.
    """
    return Blob(path, HEAD, length)


class _Comparison(Tail):
    """Holds what would be written against what is there. :ivar different: the first byte that is not so, or -1."""

    different = -1

    def put(self, piece: bytes, at: int) -> None:
        found = os.pread(self._descriptor, len(piece), at)
        if found != piece and self.different < 0:
            pairs = enumerate(zip(found, piece))
            self.different = at + next((place for place, (one, other) in pairs if one != other), len(found))
