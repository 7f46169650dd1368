# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""OCI image layouts, as directories and in tars: what index.json leads to. New archives of Docker are such layouts too.

Source: OCI image-spec image-layout.md.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, Iterator, List, Sequence, Tuple, Union

from ansible_collections.strata.overlay.plugins.module_utils._blob import Blob
from ansible_collections.strata.overlay.plugins.module_utils._chain import hex_of
from ansible_collections.strata.overlay.plugins.module_utils._dockerarchive import read_tags
from ansible_collections.strata.overlay.plugins.module_utils._errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._image import Image
from ansible_collections.strata.overlay.plugins.module_utils._imagefiles import Files
from ansible_collections.strata.overlay.plugins.module_utils._imagelist import Listed, assemble
from ansible_collections.strata.overlay.plugins.module_utils._manifest import (
    MAX_CONFIG,
    MAX_MANIFEST,
    OCI_INDEX,
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
_MAX_DEPTH = 8
_MAX_DOCUMENTS = 1 << 25
"""Bytes of manifests and indexes that are read for one image; with indexes that list each other's entries, a few can
stand for more than anybody can read."""

_EACH = 1 << 12
"""What one of them counts for at least."""

_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
_BLOBS = "blobs/sha256"


def list_layout(files: Files) -> List[Listed]:
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
    tags = dict(read_tags(files))
    images: Dict[Tuple[str, ...], List[Descriptor]] = {}
    for entry in _once(index.entries):
        images.setdefault(_names(files, index.entries, entry, tags), []).append(entry)
    return [
        Listed(names, lambda entries=entries: _load(files, entries))  # type: ignore[misc]
        for names, entries in images.items()
    ]


def _check_version(files: Files) -> None:
    found = files.find(LAYOUT)
    if found is None:
        raise StrataError(f"{files.what}: {LAYOUT} is missing; this is no OCI layout")
    version = read_object(found.read(MAX_MANIFEST, LAYOUT), f"{files.what}: {LAYOUT}").get("imageLayoutVersion")
    if not isinstance(version, str) or version.split(".")[0] != "1":
        raise StrataError(f"{files.what}: the layout is of version {version!r}; known is 1.0.0")


def _once(entries: Sequence[Descriptor]) -> List[Descriptor]:
    """Each thing that is listed once, whatever the number of its names; attestations are no images."""
    return list({entry.digest: entry for entry in reversed(entries) if not entry.is_attestation}.values())[::-1]


def _names(
    files: Files, entries: Sequence[Descriptor], entry: Descriptor, tags: Dict[str, Tuple[str, ...]]
) -> Tuple[str, ...]:
    """Every name of a thing in the index, from annotations and from a manifest.json beside it."""
    same = [each.annotations for each in entries if each.digest == entry.digest]
    names = [annotations[key] for annotations in same for key in _NAMES if annotations.get(key)]
    if tags:
        with_tags = [
            tags.get(f"{_BLOBS}/{hex_of(manifest.config.digest)}") or () for manifest in _manifests(files, entry)
        ]
        names += [tag for each in with_tags for tag in each]
    return tuple(dict.fromkeys(names))


def _manifests(files: Files, entry: Descriptor) -> Iterator[Manifest]:
    for _entry, _path, manifest in _walk(files, entry):
        yield manifest


def _walk(files: Files, top: Descriptor) -> Iterator[Tuple[Descriptor, Tuple[str, ...], Manifest]]:
    """Every manifest below a descriptor, with the digests that lead to it; what the layout lacks is left out."""
    left = _MAX_DOCUMENTS
    waiting: List[Tuple[Descriptor, Tuple[str, ...]]] = [(top, ())]
    while waiting:
        entry, above = waiting.pop()
        path = (*above, entry.digest)
        left -= max(_EACH, entry.size)
        if left < 0:
            raise StrataError(f"{files.what}: the indexes below {top.digest} list more than any image has")
        document = _document(files, entry, path)
        if isinstance(document, Manifest):
            yield entry, path, document
        elif document is not None:
            waiting += [(below, path) for below in _once(document.entries)[::-1]]


def _document(files: Files, entry: Descriptor, path: Tuple[str, ...]) -> Union[Index, Manifest, None]:
    if len(path) > _MAX_DEPTH:
        raise StrataError(f"{files.what}: indexes lie in indexes more than {_MAX_DEPTH} deep")
    found = _find(files, entry)
    if found is None:
        return None
    what = f"{files.what}: manifest {entry.digest}"
    return read_document(verify(found.read(MAX_MANIFEST, what), entry, what), entry.media_type, what)


def _load(files: Files, entries: Sequence[Descriptor]) -> List[Image]:
    images = [
        _image(files, descriptor, path, manifest)
        for entry in entries
        for descriptor, path, manifest in _walk(files, entry)
        if _find(files, manifest.config) is not None
    ]
    if not images:
        raise StrataError(f"{files.what}: manifest {entries[0].digest} is missing; the layout is incomplete")
    return images


def _image(files: Files, entry: Descriptor, path: Tuple[str, ...], manifest: Manifest) -> Image:
    what = f"{files.what}: config {manifest.config.digest}"
    body = _blob(files, manifest.config).read(MAX_CONFIG, what)
    config = read_config(verify(body, manifest.config, what), what)
    check_count(len(manifest.layers), config, f"{files.what}: manifest {path[-1]}")
    if entry.platform is not None:
        # An index tells the variant, which old configs leave out.
        config = replace(config, platform=entry.platform)
    return assemble(config, [_blob(files, layer) for layer in manifest.layers], path, path[-1])


def _find(files: Files, entry: Descriptor) -> Blob | None:
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
