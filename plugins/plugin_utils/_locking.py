# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""The digest that a source outside this controller has now: of what a URL gives, of what a registry has under a tag."""

from __future__ import annotations

from ansible_collections.strata.overlay.plugins.module_utils._definition.image import ImageSpec
from ansible_collections.strata.overlay.plugins.module_utils._definition.layer import Source
from ansible_collections.strata.overlay.plugins.module_utils._image.image import Image
from ansible_collections.strata.overlay.plugins.module_utils._image.manifest import sha256
from ansible_collections.strata.overlay.plugins.module_utils._registry.client import Registry, parse_reference
from ansible_collections.strata.overlay.plugins.module_utils._run.resolve_registry import access_of
from ansible_collections.strata.overlay.plugins.module_utils._source.source import digest_tar, open_tar
from ansible_collections.strata.overlay.plugins.module_utils._source.url import Download


def digest_of_url(source: Source) -> str:
    """DiffID of a layer's archive, which is read and not kept.

    :raises StrataError: what the server said, or what is wrong with the archive.
    """
    with open_tar(source, Download(source)) as read:
        return digest_tar(read, source.limits, source.pinned).diff_id


def digest_in_registry(spec: ImageSpec) -> str:
    """Digest of the index or manifest that a reference means now.

    :raises StrataError: what the registry said.
    """
    reference = parse_reference(spec.location, spec.name)
    return reference.digest or sha256(Registry(reference, access_of(spec)).manifest(reference.tag).body)


def digest_of_images(images: tuple[Image, ...]) -> str:
    """The digest by which an archive's image can be pinned: of what leads to all its variants, else of its config."""
    shared = set.intersection(*(set(image.digests) for image in images))
    return next((digest for digest in images[0].digests if digest in shared), _first_id(images))


def _first_id(images: tuple[Image, ...]) -> str:
    """Of an image that can be taken."""
    return next((image.image_id for image in images if image.image_id), "")
