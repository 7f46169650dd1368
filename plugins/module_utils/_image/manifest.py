# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Parses and checks manifests, indexes and configs. Pure.

Sources: OCI image-spec descriptor.md, manifest.md, image-index.md, config.md; Docker's "Image Manifest V 2, Schema 2".
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional, Union

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import DIFF_ID, SHA256
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.platform import Platform, platform_of

MAX_MANIFEST = 1 << 22
"""Bytes of a manifest or index; the limit of the registries themselves."""

MAX_CONFIG = 1 << 23
"""Bytes of a config."""

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"

INDEXES = (OCI_INDEX, DOCKER_LIST)
MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)

_CONFIGS = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
_NAMED = "application/vnd."
"""How types begin that say what something is. Old registries serve octet-stream, JSON, HTML or no type at all for
anything (moby distribution/pull_v2.go): there the bytes say it."""

_LAYERS = (
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
)
_ANY_LAYERS = (
    "",
    "application/octet-stream",
    "application/x-tar",
    "application/tar",
    "application/gzip",
    "application/x-gzip",
)
"""Types that say no more of a layer than that it has bytes. How it is compressed, these say in every case."""

_FOREIGN = ("application/vnd.docker.image.rootfs.foreign.", "application/vnd.oci.image.layer.nondistributable.")
_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+"
_MAX_BYTES = 2**63
_MAX_DIGITS = 100
_NO_DIGEST = "its digest {!r:.100} is not 'sha256:' and 64 lower-case hexadecimal digits"


@dataclass(frozen=True)
class Descriptor:
    """What a document says of another piece: where it is to be found and how it is known to be whole.

    :ivar size: bytes, as the piece lies there.
    :ivar platform: None if not given.
    :ivar artifact_type: its type if it is not an image, such as a signature; "" if not given.
    """

    media_type: str
    digest: str
    size: int
    platform: Optional[Platform] = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str = ""

    @property
    def may_be_image(self) -> bool:
        """Whether it may lead to an image. What is of a type that nobody here knows does not (image-index.md)."""
        is_known = self.media_type in INDEXES + MANIFESTS or not self.media_type.startswith(_NAMED)
        return is_known and self.artifact_type in ("", *_CONFIGS) and not self.is_attestation

    @property
    def is_attestation(self) -> bool:
        """Whether it describes an image, such as an attestation, and is not one itself."""
        about = self.annotations.get("vnd.docker.reference.type") == "attestation-manifest"
        return about or (self.platform is not None and not self.platform.is_known)


@dataclass(frozen=True)
class Index:
    """A list of images, of one for each platform mostly; entries may be indexes again.

    :ivar passed: why other entries cannot be used.
    """

    entries: tuple[Descriptor, ...]
    passed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """An image: its config and its layers, bottom first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True)
class Config:
    """An image's config. ``image_id`` is the digest of ``body``, which is kept to the byte."""

    image_id: str
    body: bytes
    diff_ids: tuple[str, ...]
    platform: Platform


def sha256(body: bytes) -> str:
    """``sha256:`` and the hexadecimal digest."""
    return SHA256 + hashlib.sha256(body).hexdigest()


def verify(body: bytes, descriptor: Descriptor, what: str) -> bytes:
    """The body, when it is what the descriptor says.

    :raises StrataError: size or digest differ.
    """
    if len(body) != descriptor.size:
        raise StrataError(f"{what} has {len(body)} bytes and should have {descriptor.size}; it is damaged or cut short")
    if sha256(body) != descriptor.digest:
        raise StrataError(f"{what} has digest {sha256(body)} and should have {descriptor.digest}; it is damaged")
    return body


def read_document(body: bytes, media_type: str, what: str) -> Union[Index, Manifest]:
    """An index or a manifest.

    :param media_type: what the descriptor or the server says that it is; anything unknown, such as
        ``application/json``, says nothing.
    :param what: it, for messages, such as ``manifest sha256:…``.
    :raises StrataError: it is neither, or something in it cannot be used.
    """
    data = read_object(body, what)
    kind = _kind(data, media_type, what)
    if kind in INDEXES:
        return _index(_list(data, "manifests", what), what)
    config = _descriptor(data.get("config"), f"{what}: config")
    if config.media_type.startswith(_NAMED) and config.media_type not in _CONFIGS:
        raise StrataError(f"{what} is no container image: its config is of type {config.media_type!r}")
    layers = [
        _descriptor(item, f"{what}: layer {number}") for number, item in enumerate(_list(data, "layers", what), 1)
    ]
    for number, layer in enumerate(layers, 1):
        _check_layer(layer, f"{what}: layer {number}")
    return Manifest(config, tuple(layers))


def _index(items: Sequence[Any], what: str) -> Index:
    """An index. An entry that cannot be used, such as one with a digest of another algorithm, spoils no other."""
    entries: list[Descriptor] = []
    passed: list[str] = []
    for number, item in enumerate(items, 1):
        try:
            entries.append(_descriptor(item, f"{what}: entry {number}"))
        except StrataError as error:
            passed.append(str(error))
    return Index(tuple(entries), tuple(passed))


def read_config(body: bytes, what: str) -> Config:
    """An image's config.

    :raises StrataError: it is none, or it has no layers.
    """
    data = read_object(body, what)
    rootfs = data.get("rootfs")
    if not isinstance(rootfs, dict) or rootfs.get("type") != "layers":
        raise StrataError(f"{what} is no image's config: it has no 'rootfs' of type 'layers'")
    diff_ids = _list(rootfs, "diff_ids", what)
    for number, diff_id in enumerate(diff_ids, 1):
        if not isinstance(diff_id, str) or not DIFF_ID.match(diff_id):
            raise StrataError(f"{what}: diff_id {number}: {_NO_DIGEST.format(diff_id)}")
    if not diff_ids:
        raise StrataError(f"{what} has no layers; there is nothing to import")
    return Config(sha256(body), body, tuple(diff_ids), platform_of(data))


def check_count(count: int, config: Config, what: str) -> None:
    """One layer for each DiffID, or nobody knows which is which.

    :raises StrataError: the numbers differ.
    """
    if count != len(config.diff_ids):
        raise StrataError(f"{what} has {count} layers, and its config lists {len(config.diff_ids)}; it is damaged")


def read_object(body: bytes, what: str) -> dict[str, Any]:
    """A JSON object.

    :raises StrataError: it is something else.
    """
    data = read_json(body, what)
    if not isinstance(data, dict):
        raise StrataError(f"{what} is no JSON object")
    return data


def read_json(body: bytes, what: str) -> Any:
    """Any JSON.

    :raises StrataError: it is none.
    """
    try:
        return json.loads(body.decode("utf-8"), parse_int=_number)
    except (ValueError, RecursionError) as error:
        raise StrataError(f"{what} is no JSON: {error}") from error


def _number(digits: str) -> int:
    """Megabytes of digits would keep Python busy for minutes; nothing here has more than a size in bytes."""
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _kind(data: Mapping[str, Any], declared: str, what: str) -> str:
    """The document's media type. One that could be read in two ways is refused (CVE-2021-41190)."""
    own = data.get("mediaType") or ""
    if data.get("schemaVersion") == 1 or str(own or declared).startswith(_SCHEMA_1):
        raise StrataError(f"{what} is in Docker's old schema 1, which has no digests of layers; push the image again")
    known = [kind for kind in (own, declared) if kind in INDEXES + MANIFESTS]
    if own and own not in INDEXES + MANIFESTS:
        raise StrataError(f"{what} is neither manifest nor index: its type is {own!r}")
    is_index, is_manifest = "manifests" in data, "layers" in data or "config" in data
    if is_index == is_manifest or any((kind in INDEXES) != is_index for kind in known):
        raise StrataError(f"{what} is neither clearly a manifest nor clearly an index")
    return str(known[0]) if known else OCI_INDEX if is_index else OCI_MANIFEST


def _list(data: Mapping[str, Any], key: str, what: str) -> list[Any]:
    value = data.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise StrataError(f"{what}: {key!r} is no list")
    return value


def _descriptor(data: Any, what: str) -> Descriptor:
    if not isinstance(data, dict):
        raise StrataError(f"{what} is no descriptor")
    media_type, digest, size = data.get("mediaType"), data.get("digest"), data.get("size")
    if not isinstance(digest, str) or not DIFF_ID.match(digest):
        raise StrataError(f"{what}: {_NO_DIGEST.format(digest)}")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < _MAX_BYTES:
        raise StrataError(f"{what}: its size {size!r} is no number of bytes")
    annotations, artifact_type = data.get("annotations"), data.get("artifactType")
    platform = platform_of(data["platform"]) if isinstance(data.get("platform"), dict) else None
    return Descriptor(
        media_type if isinstance(media_type, str) else "",
        digest,
        size,
        platform if platform and platform.os and platform.architecture else None,
        {key: str(value) for key, value in annotations.items()} if isinstance(annotations, dict) else {},
        artifact_type if isinstance(artifact_type, str) else "",
    )


def _check_layer(layer: Descriptor, what: str) -> None:
    if layer.media_type.startswith(_FOREIGN):
        raise StrataError(
            f"{what} is of type {layer.media_type!r}: its bytes are not part of the image, only its address"
        )
    if layer.media_type not in _LAYERS + _ANY_LAYERS:
        known: Sequence[str] = [kind.rpartition(".v1.")[2] for kind in _LAYERS[:3]]
        raise StrataError(
            f"{what} is of type {layer.media_type!r}, which is no layer that can be read ({', '.join(known)})"
        )
