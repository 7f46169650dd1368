# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Resolves an image from a registry with as few requests as possible."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import replace
from typing import Optional

from ansible_collections.strata.overlay.plugins.module_utils._definition.image import ImageSpec
from ansible_collections.strata.overlay.plugins.module_utils._image.db import read_stored
from ansible_collections.strata.overlay.plugins.module_utils._image.image import (
    Image,
    ImageOrigin,
    check_pinned,
    dump_image,
    load_image,
    pick,
)
from ansible_collections.strata.overlay.plugins.module_utils._registry.client import Access, Registry, parse_reference
from ansible_collections.strata.overlay.plugins.module_utils._registry.pull import pull
from ansible_collections.strata.overlay.plugins.module_utils._source.digest_cache import DigestCache
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store

_TIMEOUT = 60


class RegistryImages:
    """Images from registries, as far as this host's store has them and as far as it has not."""

    def __init__(self, store: Store, cache: DigestCache) -> None:
        self._store = store
        self._cache = cache

    def resolve(self, spec: ImageSpec) -> ImageOrigin:
        """Of one that is pinned and here nothing is asked; of one that is here, only its manifest.

        :raises StrataError: the registry refused, or what is wrong with the image.
        """
        reference = parse_reference(spec.location, spec.name)
        pinned = reference.digest or spec.digest
        wanted = reference.digest or reference.tag
        what = f"{reference.host}/{reference.repository}" + ("@" if ":" in wanted else ":") + wanted
        image = self._known(pinned, spec) if pinned else None
        if image is None:
            image = pull(
                Registry(reference, access_of(spec)),
                wanted,
                spec.platform,
                what,
                known=lambda digest: self._known(digest, spec),
                stored=lambda image_id: read_stored(self._store, image_id),
                pinned=spec.digest,
            )
            self._remember(image, spec)
        check_pinned([image], spec.digest, what)
        return ImageOrigin(pick([image], spec.platform, what), what)

    def _known(self, digest: str, spec: ImageSpec) -> Optional[Image]:
        """The image that a digest of any of its parts leads to, when the store has all of it."""
        facts = self._cache.get(_key(digest, spec)) or {}
        with contextlib.suppress(ValueError, KeyError, TypeError):
            image = load_image(json.loads(facts["image"]))
            config = read_stored(self._store, image.image_id)
            if config is not None and self._has_all(image):
                return replace(image, config=config.body)
        return None

    def _remember(self, image: Image, spec: ImageSpec) -> None:
        for digest in image.digests:
            self._cache.put(_key(digest, spec), {"image": json.dumps(dump_image(image, with_config=False))})

    def _has_all(self, image: Image) -> bool:
        return all(map(self._store.has_content, image.diff_ids))


def _key(digest: str, spec: ImageSpec) -> str:
    return hashlib.sha256(f"manifest\0{digest}\0{spec.platform or ''}".encode()).hexdigest()


def access_of(spec: ImageSpec) -> Access:
    """How a registry is to be spoken to, as the user wrote it."""
    access = spec.access
    return Access(
        access.username,
        access.password,
        access.auth_file,
        access.ca_path,
        access.validate_certs,
        access.mirrors,
        _TIMEOUT,
        access.ca,
    )
