# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""On the controller: what the images in archives here consist of, and the bytes of those layers that a host lacks."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ansible import constants
from ansible_collections.strata.overlay.plugins.module_utils._blob import Blob
from ansible_collections.strata.overlay.plugins.module_utils._chain import hex_of
from ansible_collections.strata.overlay.plugins.module_utils._digestcache import DigestCache
from ansible_collections.strata.overlay.plugins.module_utils._image import Image, check_pinned, dump_image, placed
from ansible_collections.strata.overlay.plugins.module_utils._imagecache import (
    archive_key,
    recall_images,
    remember_images,
)
from ansible_collections.strata.overlay.plugins.module_utils._imagespec import ImageSpec
from ansible_collections.strata.overlay.plugins.module_utils._lock import locked

_LONGEST_READING = 24 * 3600


@dataclass(frozen=True)
class LocalImage:
    """An image whose archive is on the controller.

    :ivar path: of the archive.
    :ivar images: its variants, one for each platform that the archive has.
    :ivar packed: the archive is compressed as a whole, so that where its layers lie is not known yet.
    """

    spec: ImageSpec
    path: str
    images: tuple[Image, ...]
    packed: bool

    def facts(self, places: Mapping[str, Blob] | None = None) -> dict[str, Any]:
        """What the module is told of it.

        :param places: where the host finds the layers that it has been sent, by DiffID; None when it is only asked
            what it lacks, for which it needs no config.
        """
        choices = [dump_image(placed(image, places or {}), with_config=places is not None) for image in self.images]
        return {"words": self.spec.location, "choices": choices}

    def blobs(self) -> dict[str, Blob]:
        """Where its layers lie on the controller, by DiffID."""
        images = self._unpacked() if self.packed else self.images
        return {layer.diff_id: layer.blob for image in images for layer in image.layers if layer.blob}

    def _unpacked(self) -> tuple[Image, ...]:
        """The images again, from an unpacked copy: one for all hosts, gone with the run."""
        from ansible_collections.strata.overlay.plugins.module_utils._imagearchive import read_archive
        from ansible_collections.strata.overlay.plugins.module_utils._imagefiles import unpack_archive

        name = archive_key(self.path, "", "") or os.urandom(16).hex()
        copy = os.path.join(constants.DEFAULT_LOCAL_TMP, f"strata-{name}.tar")
        with locked(f"{copy}.lock", exclusive=True, timeout=_LONGEST_READING):
            if not os.path.exists(copy):
                with open(f"{copy}.part", "wb") as target:
                    unpack_archive(self.path, target)
                os.rename(f"{copy}.part", copy)
        images, _packed = read_archive(copy, self.spec.reference, self.spec.digest, constants.DEFAULT_LOCAL_TMP)
        return tuple(images)


def read_local_image(spec: ImageSpec, path: str, cache: DigestCache, directory: str) -> LocalImage:
    """Read manifests and configs of an archive; of many hosts that are served at once only the first one does.

    :param directory: of the cache.
    :raises StrataError: what is wrong with the archive.
    """
    key = archive_key(path, spec.reference, spec.digest)
    found = recall_images(key, cache)
    if found is None:
        # Loaded when something has to be read: Ansible compiles its plugins anew in every run.
        from ansible_collections.strata.overlay.plugins.module_utils._imagearchive import read_archive

        os.makedirs(directory, 0o700, exist_ok=True)
        with locked(os.path.join(directory, "lock"), exclusive=True, timeout=_LONGEST_READING):
            found = recall_images(key, cache)
            if found is None:
                found = read_archive(path, spec.reference, spec.digest, constants.DEFAULT_LOCAL_TMP)
                if key == archive_key(path, spec.reference, spec.digest):
                    remember_images(key, *found, cache)
                    cache.flush()
    images, packed = found
    return LocalImage(spec, path, tuple(check_pinned(images, spec.digest, path)), packed)


@contextlib.contextmanager
def as_file(blob: Blob) -> Iterator[str]:
    """A file of exactly the blob's bytes, for as long as it is sent."""
    if blob.offset == 0 and blob.size == os.path.getsize(blob.path):
        yield blob.path
        return
    descriptor, path = tempfile.mkstemp(dir=constants.DEFAULT_LOCAL_TMP, suffix=".blob")
    try:
        with os.fdopen(descriptor, "wb") as target, blob.open() as source:
            shutil.copyfileobj(source, target, 1 << 20)
        yield path
    finally:
        os.unlink(path)


def sent_name(diff_id: str) -> str:
    """What a layer's blob is called on the host, compressed or not."""
    return f"{hex_of(diff_id)}.tar"
