# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""A registry's answers -> an image: index, platform, manifest, config. Layers are opened when they are unpacked.

Source: OCI distribution-spec, "Pull". How a registry is spoken to is another room's business.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, List, Optional, Protocol, Tuple

from ansible_collections.strata.overlay.plugins.module_utils._errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._image import Image, ImageLayer
from ansible_collections.strata.overlay.plugins.module_utils._manifest import (
    MAX_CONFIG,
    Config,
    Descriptor,
    Index,
    Manifest,
    check_count,
    read_config,
    read_document,
    sha256,
    verify,
)
from ansible_collections.strata.overlay.plugins.module_utils._origin import Opener
from ansible_collections.strata.overlay.plugins.module_utils._platform import Platform, choose

_MAX_DEPTH = 8


class Served(Protocol):
    """A manifest or index as a registry has served it."""

    @property
    def body(self) -> bytes: ...

    @property
    def media_type(self) -> str: ...


class Source(Protocol):
    """A repository in a registry."""

    def manifest(self, wanted: str) -> Served:
        """By its tag or digest."""

    def opener(self, digest: str, size: int) -> Opener:
        """Opens a blob, verified while it is read."""


def pull(
    source: Source,
    wanted: str,
    platform: Optional[Platform],
    what: str,
    known: Callable[[str], Optional[Image]],
    stored: Callable[[str], Optional[Config]],
) -> Image:
    """The image that a registry has under a tag or digest, for a platform (None: this host's own).

    :param what: the image, for messages.
    :param known: an image by its manifest's digest, where nothing more need be asked of it.
    :param stored: a config by its digest, where it is here already.
    :raises StrataError: what the registry said, or what is wrong with what it served.
    """
    path: List[str] = []
    told: Optional[Platform] = None
    while len(path) < _MAX_DEPTH:
        served = source.manifest(wanted)
        digest = sha256(served.body)
        if ":" in wanted and digest != wanted:
            raise StrataError(f"{what}: the registry served {digest} for manifest {wanted}; it is damaged")
        path.append(digest)
        image = known(digest)
        if image is not None:
            return image
        document = read_document(served.body, served.media_type, f"{what}: manifest {digest}")
        if isinstance(document, Manifest):
            image = _image(source, document, tuple(path), what, stored)
            # An index tells the variant, which old configs leave out.
            return replace(image, platform=told or image.platform)
        entry = _choose(document, platform, what)
        wanted, told = entry.digest, entry.platform
        image = known(wanted)
        if image is not None:
            return image
    raise StrataError(f"{what}: indexes lie in indexes more than {_MAX_DEPTH} deep")


def _choose(index: Index, platform: Optional[Platform], what: str) -> Descriptor:
    entries = [entry for entry in index.entries if not entry.is_attestation]
    return entries[choose([entry.platform or Platform("", "") for entry in entries], platform, what)]


def _image(
    source: Source, manifest: Manifest, path: Tuple[str, ...], what: str, stored: Callable[[str], Optional[Config]]
) -> Image:
    config = stored(manifest.config.digest) or _fetch_config(source, manifest.config, what)
    check_count(len(manifest.layers), config, f"{what}: manifest {path[-1]}")
    return Image(
        image_id=config.image_id,
        manifest_digest=path[-1],
        digests=(*path, config.image_id),
        platform=config.platform,
        config=config.body,
        layers=tuple(
            ImageLayer(diff_id, layer.size, opener=source.opener(layer.digest, layer.size))
            for diff_id, layer in zip(config.diff_ids, manifest.layers)
        ),
    )


def _fetch_config(source: Source, descriptor: Descriptor, what: str) -> Config:
    name = f"{what}: config {descriptor.digest}"
    if descriptor.size > MAX_CONFIG:
        raise StrataError(f"{name} has {descriptor.size} bytes; more than {MAX_CONFIG} are not read")
    with source.opener(descriptor.digest, descriptor.size)() as stream:
        body = b"".join(iter(lambda: stream.read(1 << 20), b""))
    return read_config(verify(body, descriptor, name), name)
