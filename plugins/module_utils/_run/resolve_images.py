# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Resolves every image to its chain and the way to its bytes, on the managed host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Optional

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.definition import Definition
from ansible_collections.strata.overlay.plugins.module_utils._definition.image import ImageSpec
from ansible_collections.strata.overlay.plugins.module_utils._image.archive import read_archive
from ansible_collections.strata.overlay.plugins.module_utils._image.cache import (
    archive_key,
    recall_images,
    remember_images,
)
from ansible_collections.strata.overlay.plugins.module_utils._image.image import (
    Image,
    ImageOrigin,
    pick,
    sent_image,
)
from ansible_collections.strata.overlay.plugins.module_utils._image.image_list import Wanted
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import existing_above
from ansible_collections.strata.overlay.plugins.module_utils._source.digest_cache import DigestCache
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store

if TYPE_CHECKING:
    from ansible_collections.strata.overlay.plugins.module_utils._run.resolve_registry import RegistryImages


class ImageResolver:
    """Finds all images of a definition, each mistake and not only the first."""

    def __init__(self, store: Store, controller_images: Mapping[str, Mapping[str, Any]], cache: DigestCache) -> None:
        """
        :param controller_images: what the controller found out, by the image's ``label``; see ``sent_image``.
        """
        self._store = store
        self._controller_images = controller_images
        self._cache = cache
        self._registries: Optional[RegistryImages] = None

    def resolve(self, definition: Definition, errors: list[str]) -> dict[str, ImageOrigin]:
        """By the image's ``label``; one that is not usable is left out and reported in ``errors``."""
        found: dict[str, ImageOrigin] = {}
        for spec in definition.images:
            try:
                if spec.label in self._controller_images:
                    found[spec.label] = _with_config(self._controller_images[spec.label], spec)
                elif spec.kind == "src":
                    found[spec.label] = self._from_archive(spec)
                elif spec.kind == "registry":
                    found[spec.label] = self._from_registry(spec)
                if spec.label in found:
                    found[spec.label] = replace(found[spec.label], limits=spec.limits, label=spec.label)
            except StrataError as error:
                errors.append(f"{spec.label}: {error}")
            except OSError as error:
                errors.append(f"{spec.label}: cannot read {spec.location}: {error.strerror or error}")
        return found

    def _from_registry(self, spec: ImageSpec) -> ImageOrigin:
        if self._registries is None:
            # Imported only when needed: archives need nothing that speaks HTTP.
            from ansible_collections.strata.overlay.plugins.module_utils._run.resolve_registry import RegistryImages

            self._registries = RegistryImages(self._store, self._cache)
        return self._registries.resolve(spec)

    def _from_archive(self, spec: ImageSpec) -> ImageOrigin:
        path = spec.location
        wanted = Wanted(spec.reference, spec.digest, spec.platform)
        key = archive_key(path, wanted)
        recalled = recall_images(key, self._cache)
        if recalled:
            image = pick(recalled[0], spec.platform, path)
            if not recalled[1] or self._has_all(image):
                return ImageOrigin(image, path)
        images, packed = read_archive(path, wanted, existing_above(self._store.root), spec.limits)
        if key == archive_key(path, wanted):
            remember_images(key, images, packed, self._cache)
        return ImageOrigin(pick(images, spec.platform, path), path)

    def _has_all(self, image: Image) -> bool:
        return all(map(self._store.has_content, image.diff_ids))


def _with_config(facts: Mapping[str, Any], spec: ImageSpec) -> ImageOrigin:
    """An image found by the controller, with its config if that was sent."""
    origin = sent_image(facts, spec.platform)
    path = facts["configs"].get(origin.image.image_id)
    if not path:
        return origin
    with open(path, "rb") as stream:
        return replace(origin, image=replace(origin.image, config=stream.read()))
