# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""The images in an archive, each with its names and a function that reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Callable, NamedTuple, Optional

from ansible_collections.strata.overlay.plugins.module_utils._archive.slice import Blob
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.image_name import is_same
from ansible_collections.strata.overlay.plugins.module_utils._definition.platform import Platform
from ansible_collections.strata.overlay.plugins.module_utils._image.image import Image, ImageLayer, check_pinned
from ansible_collections.strata.overlay.plugins.module_utils._image.manifest import Config

_SHOWN = 30
_LONG = 200


class Wanted(NamedTuple):
    """Which image of an archive is meant.

    :ivar reference: a tag or name, "" where none is given; then there may be only one image, or one that is pinned.
    :ivar digest: by which it is pinned, "" for any.
    :ivar platform: None for this host's own.
    :ivar every: all platforms are wanted, for hosts that choose themselves.
    """

    reference: str = ""
    digest: str = ""
    platform: Optional[Platform] = None
    every: bool = False


@dataclass(frozen=True)
class Listed:
    """An image that an archive lists, in one variant or one for each of several platforms.

    :ivar load: reads manifests and configs, not the layers, and only those of the platform that is wanted.
    :ivar is_image: whether it is one, and not a signature or whatever else lies in a layout beside images.
    """

    names: tuple[str, ...]
    load: Callable[[Wanted], list[Image]]
    is_image: Callable[[], bool] = lambda: True


def assemble(config: Config, blobs: Sequence[Blob], digests: Sequence[str], manifest_digest: str) -> Image:
    """An image from its parts; the numbers of blobs and DiffIDs agree.

    :param digests: by which it may be pinned beside its id.
    """
    return Image(
        image_id=config.image_id,
        manifest_digest=manifest_digest,
        digests=(*digests, config.image_id),
        platform=config.platform,
        config=config.body,
        # The digest of a plain tar is its DiffID, which is held against it anyway.
        layers=tuple(
            ImageLayer(diff_id, blob.size, replace(blob, digest="") if blob.digest == diff_id else blob)
            for diff_id, blob in zip(config.diff_ids, blobs)
        ),
    )


def unusable(platform: Platform, digests: Sequence[str], problem: str) -> Image:
    """What stands for an image that matters only when it is chosen."""
    digests = tuple(digests)
    return Image("", digests[-1] if digests else "", digests, platform, b"", (), problem)


def select(listed: Sequence[Listed], wanted: Wanted, what: str) -> list[Image]:
    """The variants of the one image that is meant: one where a platform is chosen here.

    :raises StrataError: there is none or more than one; the message lists those there are.
    """
    reference, digest = wanted.reference, wanted.digest
    if not listed:
        raise StrataError(f"{what} lists no image")
    found = [entry for entry in listed if not reference or any(is_same(reference, name) for name in entry.names)]
    if not found:
        raise StrataError(f"option 'reference': {what} has no image {reference!r}; it has: {_names(listed)}")
    if len(found) > 1:
        found = [entry for entry in found if entry.is_image()] or found
    if len(found) > 1 and not digest:
        raise StrataError(f"{what} has {len(found)} images; name one in the option 'reference': {_names(found)}")
    images: list[Image] = []
    errors: list[StrataError] = []
    for entry in found:
        try:
            images += entry.load(wanted)
        except StrataError as error:
            errors.append(error)
    if not images:
        raise errors[0]
    unique = {(image.image_id, image.manifest_digest): image for image in images}
    return check_pinned(list(unique.values()), digest, what)


def _names(listed: Sequence[Listed]) -> str:
    names = [" or ".join(map(_shown, entry.names)) or "one without a name" for entry in listed[: _SHOWN + 1]]
    more = [f"and {len(listed) - _SHOWN} more"] if len(listed) > _SHOWN else []
    return ", ".join(names[:_SHOWN] + more) or "none"


def _shown(name: str) -> str:
    """A name as an archive gives it, fit for a message."""
    return name if name.isprintable() and len(name) < _LONG else f"{name!r:.{_LONG}}"
