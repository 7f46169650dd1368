# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Remembers what an image archive contains for as long as it is unchanged. Reads no archive."""

from __future__ import annotations

import hashlib
import json
from typing import Optional

from ansible_collections.strata.overlay.plugins.module_utils._definition.layer import Source
from ansible_collections.strata.overlay.plugins.module_utils._image.image import Image, dump_image, load_image
from ansible_collections.strata.overlay.plugins.module_utils._image.image_list import Wanted
from ansible_collections.strata.overlay.plugins.module_utils._source.digest_cache import DigestCache, source_key

_READING = 2
"""Part of every key; one more whenever the same archive reads otherwise."""


def archive_key(path: str, wanted: Wanted) -> str:
    """A key that changes when the archive does, or what is wanted of it; "" where it may not be relied on."""
    key = source_key(Source("src", path))
    platform = "every" if wanted.every else str(wanted.platform or "")
    text = f"image\0{_READING}\0{key}\0{wanted.reference}\0{wanted.digest}\0{platform}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest() if key else ""


def recall_images(key: str, cache: DigestCache) -> Optional[tuple[list[Image], bool]]:
    """What ``remember_images`` has put there. Of a compressed archive, where its layers lie is not known any more."""
    known = cache.get(key) if key else None
    try:
        if not known:
            return None
        return [load_image(each) for each in json.loads(known["images"])], known["packed"] == "True"
    except (KeyError, TypeError, ValueError):
        return None


def remember_images(key: str, images: list[Image], packed: bool, cache: DigestCache) -> None:
    """Keep what was read, without the layers' places where they are in a file that goes with the process."""
    dumped = [dump_image(image, with_config=True) for image in images]
    if packed:
        for image in dumped:
            image["layers"] = [{"diff_id": layer["diff_id"], "size": layer["size"]} for layer in image["layers"]]
    if key:
        cache.put(key, {"images": json.dumps(dumped), "packed": str(packed)})
