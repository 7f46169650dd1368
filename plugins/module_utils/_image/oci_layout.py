# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Reads OCI image layouts, as directories and in tars (recent `docker save` writes these too).

Source: OCI image-spec image-layout.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Optional

from ansible_collections.strata.overlay.plugins.module_utils._archive.slice import Blob
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import hex_of
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._image.archive_files import Files
from ansible_collections.strata.overlay.plugins.module_utils._image.choice import (
    Choosing,
    Chosen,
    Document,
    Unusable,
)
from ansible_collections.strata.overlay.plugins.module_utils._image.docker_archive import Saved, list_saved, read_saved
from ansible_collections.strata.overlay.plugins.module_utils._image.image import Image
from ansible_collections.strata.overlay.plugins.module_utils._image.image_list import Listed, Wanted, assemble, unusable
from ansible_collections.strata.overlay.plugins.module_utils._image.manifest import (
    MAX_CONFIG,
    MAX_MANIFEST,
    OCI_INDEX,
    Config,
    Descriptor,
    Index,
    Manifest,
    check_count,
    read_config,
    read_document,
    read_object,
    verify,
)

LAYOUT = "oci-layout"
INDEX = "index.json"
_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
_BLOBS = "blobs/sha256"
_SHOWN = 3


def list_layout(files: Files) -> list[Listed]:
    """The images that index.json lists; entries under the same names are variants of one image.

    :raises StrataError: this is no OCI layout of a version that is known.
    """
    _check_version(files)
    found = files.find(INDEX)
    if found is None:
        raise StrataError(f"{files.what}: {INDEX} is missing; the layout is incomplete")
    what = f"{files.what}: {INDEX}"
    index = read_document(found.read(MAX_MANIFEST, what), OCI_INDEX, what)
    if not isinstance(index, Index):
        raise StrataError(f"{what} is no index")
    layout = _Layout(files, {saved.config: saved for saved in read_saved(files)})
    images: dict[tuple[str, ...], list[Descriptor]] = {}
    for entry in _once(index.entries):
        images.setdefault(layout.names(index.entries, entry), []).append(entry)
    listed = [
        Listed(names, lambda wanted, tops=tops: layout.load(tops, wanted), lambda tops=tops: layout.is_image(tops))  # type: ignore[misc]
        for names, tops in images.items()
    ]
    if not listed and index.passed:
        raise StrataError(f"{what} lists no image that can be used: {'; '.join(index.passed[:_SHOWN])}")
    return listed + list_saved(files, layout.left_over())


def _check_version(files: Files) -> None:
    found = files.find(LAYOUT)
    if found is None:
        raise StrataError(f"{files.what}: {LAYOUT} is missing; this is no OCI layout")
    version = read_object(found.read(MAX_MANIFEST, LAYOUT), f"{files.what}: {LAYOUT}").get("imageLayoutVersion")
    if not isinstance(version, str) or version.split(".")[0] != "1":
        raise StrataError(f"{files.what}: the layout is of version {version!r}; known is 1.0.0")


def _once(entries: Sequence[Descriptor]) -> list[Descriptor]:
    """Each thing that may be an image once, whatever the number of its names."""
    return list({entry.digest: entry for entry in reversed(entries) if entry.may_be_image}.values())[::-1]


class _Layout:
    """The documents of a layout, and the images that they make."""

    def __init__(self, files: Files, saved: Mapping[str, Saved]) -> None:
        """
        :param saved: what a manifest.json beside index.json says, by the config's name.
        """
        self.what = files.what
        self._files = files
        self._saved = saved
        self._met: dict[str, Saved] = {}

    def document(self, entry: Descriptor) -> Document:
        found = _find(self._files, entry)
        what = f"{self.what}: manifest {entry.digest}"
        if found is None:
            raise StrataError(f"{what} is missing; the layout is incomplete")
        return read_document(verify(found.read(MAX_MANIFEST, what), entry, what), entry.media_type, what)

    def config(self, manifest: Manifest) -> Config:
        what = f"{self.what}: config {manifest.config.digest}"
        body = _blob(self._files, manifest.config).read(MAX_CONFIG, what)
        return read_config(verify(body, manifest.config, what), what)

    def names(self, entries: Sequence[Descriptor], entry: Descriptor) -> tuple[str, ...]:
        """Every name of a thing in the index, from annotations and from a manifest.json beside it."""
        same = [each.annotations for each in entries if each.digest == entry.digest]
        names = [annotations[key] for annotations in same for key in _NAMES if annotations.get(key)]
        if self._saved:
            for image_id in Choosing(self).image_ids([entry]):
                name = f"{_BLOBS}/{hex_of(image_id)}"
                if name in self._saved:
                    self._met[name] = self._saved[name]
                    names += self._saved[name].tags
        return tuple(dict.fromkeys(names))

    def left_over(self) -> list[Saved]:
        """The images that manifest.json lists and index.json does not."""
        return [saved for name, saved in self._saved.items() if name not in self._met]

    def is_image(self, tops: Sequence[Descriptor]) -> bool:
        return any(Choosing(self).is_image(top) for top in tops)

    def load(self, tops: Sequence[Descriptor], wanted: Wanted) -> list[Image]:
        if not wanted.every:
            return [self._image(Choosing(self).choose(tops, wanted.platform, wanted.digest))]
        images = [self._image_or_problem(each) for each in Choosing(self).every(tops, wanted.digest)]
        if len(images) == 1 and images[0].problem:
            raise StrataError(images[0].problem)
        return images

    def _image_or_problem(self, found: Chosen | Unusable) -> Image:
        if isinstance(found, Unusable):
            return unusable(found.platform, found.path, found.reason)
        try:
            return self._image(found)
        except StrataError as error:
            return unusable(found.platform, found.path, str(error))

    def _image(self, found: Chosen) -> Image:
        config = replace(found.config, platform=found.platform)
        saved = self._saved.get(f"{_BLOBS}/{hex_of(config.image_id)}")
        if saved and not found.manifest.layers:
            # Docker 25.0.0 wrote manifests without layers, beside a manifest.json that is right (moby 47200).
            return assemble(config, saved.layers(self._files, config), found.path, found.path[-1])
        check_count(len(found.manifest.layers), config, f"{self.what}: manifest {found.path[-1]}")
        blobs = [_blob(self._files, layer) for layer in found.manifest.layers]
        return assemble(config, blobs, found.path, found.path[-1])


def _find(files: Files, entry: Descriptor) -> Optional[Blob]:
    return files.find(f"{_BLOBS}/{hex_of(entry.digest)}")


def _blob(files: Files, entry: Descriptor) -> Blob:
    """The blob of a descriptor, with its digest to be held against it when it is read."""
    blob = _find(files, entry)
    if blob is None:
        raise StrataError(f"{files.what}: blob {entry.digest} is missing; the layout is incomplete")
    if blob.size != entry.size:
        raise StrataError(
            f"{files.what}: blob {entry.digest} has {blob.size} bytes and should have {entry.size}; it is damaged"
        )
    return replace(blob, digest=entry.digest)
