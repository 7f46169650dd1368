# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Pulls an image: index, platform, manifest, config. Layers are opened when they are unpacked.

Source: OCI distribution-spec, "Pull". `_registry/client` talks to the registry.
"""

from __future__ import annotations

from typing import Callable, Optional, Protocol

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.platform import Platform
from ansible_collections.strata.overlay.plugins.module_utils._image.choice import Choosing, Chosen, Document
from ansible_collections.strata.overlay.plugins.module_utils._image.image import Image, ImageLayer
from ansible_collections.strata.overlay.plugins.module_utils._image.manifest import (
    MAX_CONFIG,
    Config,
    Descriptor,
    Manifest,
    check_count,
    read_config,
    read_document,
    sha256,
    verify,
)
from ansible_collections.strata.overlay.plugins.module_utils._source.origin import Opener


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
    *,
    pinned: str = "",
) -> Image:
    """The image that a registry has under a tag or digest, for a platform (None: this host's own).

    :param what: the image, for messages.
    :param known: an image by its manifest's digest, where nothing more need be asked of it.
    :param stored: a config by its digest, where it is here already.
    :param pinned: the digest of the image that is meant, "" for any.
    :raises StrataError: the registry refused, or served something wrong.
    """
    repository = _Repository(source, what, stored)

    def end_where_known(entry: Descriptor) -> None:
        image = known(entry.digest)
        if image is not None:
            raise _IsKnownError(image)

    try:
        top = repository.top(wanted)
        end_where_known(top)
        found = Choosing(repository, end_where_known).choose([top], platform, pinned)
    except _IsKnownError as known_here:
        return known_here.image
    return _image(source, found, what)


class _IsKnownError(Exception):
    """A manifest or index that was about to be asked for leads to an image that is here."""

    def __init__(self, image: Image) -> None:
        super().__init__()
        self.image = image


class _Repository:
    """The documents that a registry has of one image."""

    def __init__(self, source: Source, what: str, stored: Callable[[str], Optional[Config]]) -> None:
        self.what = what
        self._source = source
        self._stored = stored
        self._read: dict[str, Served] = {}

    def top(self, wanted: str) -> Descriptor:
        """Whatever has a tag or digest."""
        served = self._fetch(wanted)
        digest = sha256(served.body)
        self._read[digest] = served
        return Descriptor("", digest, len(served.body))

    def document(self, entry: Descriptor) -> Document:
        served = self._read.get(entry.digest) or self._fetch(entry.digest)
        return read_document(served.body, served.media_type, f"{self.what}: manifest {entry.digest}")

    def config(self, manifest: Manifest) -> Config:
        descriptor = manifest.config
        return self._stored(descriptor.digest) or self._fetch_config(descriptor)

    def _fetch(self, wanted: str) -> Served:
        served = self._source.manifest(wanted)
        digest = sha256(served.body)
        if ":" in wanted and digest != wanted:
            raise StrataError(f"{self.what}: the registry served {digest} for manifest {wanted}; it is damaged")
        return served

    def _fetch_config(self, descriptor: Descriptor) -> Config:
        name = f"{self.what}: config {descriptor.digest}"
        if descriptor.size > MAX_CONFIG:
            raise StrataError(f"{name} has {descriptor.size} bytes; more than {MAX_CONFIG} are not read")
        with self._source.opener(descriptor.digest, descriptor.size)() as stream:
            body = b"".join(iter(lambda: stream.read(1 << 20), b""))
        return read_config(verify(body, descriptor, name), name)


def _image(source: Source, found: Chosen, what: str) -> Image:
    manifest, config = found.manifest, found.config
    check_count(len(manifest.layers), config, f"{what}: manifest {found.path[-1]}")
    return Image(
        image_id=config.image_id,
        manifest_digest=found.path[-1],
        digests=(*found.path, config.image_id),
        platform=found.platform,
        config=config.body,
        layers=tuple(
            ImageLayer(diff_id, layer.size, opener=source.opener(layer.digest, layer.size))
            for diff_id, layer in zip(config.diff_ids, manifest.layers)
        ),
    )
