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
from ansible_collections.strata.overlay.plugins.module_utils._archive.slice import Blob
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import hex_of
from ansible_collections.strata.overlay.plugins.module_utils._definition.image import ImageSpec
from ansible_collections.strata.overlay.plugins.module_utils._image.cache import (
    archive_key,
    recall_images,
    remember_images,
)
from ansible_collections.strata.overlay.plugins.module_utils._image.image import Image, check_pinned, dump_image, placed
from ansible_collections.strata.overlay.plugins.module_utils._image.image_list import Wanted
from ansible_collections.strata.overlay.plugins.module_utils._source.digest_cache import DigestCache
from ansible_collections.strata.overlay.plugins.module_utils._store.lock import locked

CONFIG = ".json"
"""How the names of configs end, on the controller and on the host."""

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

    def facts(self, places: Mapping[str, Blob]) -> dict[str, Any]:
        """What the module is told of it.

        :param places: where the host finds the layers and configs that it has been sent, by DiffID and image id.
        """
        ids = [image.image_id for image in self.images]
        return {
            "words": self.spec.location,
            "choices": [dump_image(placed(image, places), with_config=False) for image in self.images],
            "configs": {image_id: places[image_id].path for image_id in ids if image_id in places},
        }

    def locate(self, wanted: set[str]) -> dict[str, Blob]:
        """Where layers and configs that are wanted lie on the controller, by DiffID and image id."""
        found = {image.image_id: _config_file(image) for image in self.images if image.image_id in wanted}
        if wanted & {diff_id for image in self.images for diff_id in image.diff_ids}:
            images = self._unpacked() if self.packed else self.images
            layers = [layer for image in images for layer in image.layers]
            found.update({layer.diff_id: layer.blob for layer in layers if layer.diff_id in wanted and layer.blob})
        return found

    def _unpacked(self) -> tuple[Image, ...]:
        """The images again, from an unpacked copy: one for all hosts, gone with the run."""
        from ansible_collections.strata.overlay.plugins.module_utils._image.archive import read_archive
        from ansible_collections.strata.overlay.plugins.module_utils._image.archive_files import unpack_archive

        name = archive_key(self.path, Wanted()) or os.urandom(16).hex()
        copy = os.path.join(constants.DEFAULT_LOCAL_TMP, f"strata-{name}.tar")
        with locked(f"{copy}.lock", exclusive=True, timeout=_LONGEST_READING):
            if not os.path.exists(copy):
                with open(f"{copy}.part", "wb") as target:
                    unpack_archive(self.path, target, self.spec.limits)
                os.rename(f"{copy}.part", copy)
        return tuple(read_archive(copy, _wanted(self.spec), constants.DEFAULT_LOCAL_TMP).images)


def _wanted(spec: ImageSpec) -> Wanted:
    """Every platform, where each host takes its own."""
    return Wanted(spec.reference, spec.digest, spec.platform, every=spec.platform is None)


def read_local_image(spec: ImageSpec, path: str, cache: DigestCache, directory: str) -> LocalImage:
    """Read manifests and configs of an archive; of many hosts that are served at once only the first one does.

    :param directory: of the cache.
    :raises StrataError: what is wrong with the archive.
    """
    wanted = _wanted(spec)
    key = archive_key(path, wanted)
    found = recall_images(key, cache)
    if found is None:
        # Loaded when something has to be read: Ansible compiles its plugins anew in every run.
        from ansible_collections.strata.overlay.plugins.module_utils._image.archive import read_archive

        os.makedirs(directory, 0o700, exist_ok=True)
        with locked(os.path.join(directory, "lock"), exclusive=True, timeout=_LONGEST_READING):
            found = recall_images(key, cache)
            if found is None:
                found = read_archive(path, wanted, constants.DEFAULT_LOCAL_TMP, spec.limits)
                if key == archive_key(path, wanted):
                    remember_images(key, *found, cache)
                    cache.flush()
    images, packed = found
    return LocalImage(spec, path, tuple(check_pinned(images, spec.digest, path)), packed)


def _config_file(image: Image) -> Blob:
    """A config in a file of its own, gone with the run: it may hold what does not belong into a log of arguments."""
    descriptor, path = tempfile.mkstemp(dir=constants.DEFAULT_LOCAL_TMP, suffix=CONFIG)
    with os.fdopen(descriptor, "wb") as target:
        target.write(image.config)
    return Blob(path, 0, len(image.config))


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


def sent_name(digest: str, blob: Blob) -> str:
    """What a layer's blob, compressed or not, or a config is called on the host."""
    return hex_of(digest) + (CONFIG if blob.path.endswith(CONFIG) else ".tar")
