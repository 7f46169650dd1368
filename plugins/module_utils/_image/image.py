# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""An image as values: layers bottom first, where their bytes are, and the exact config. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

from ansible_collections.strata.overlay.plugins.module_utils._archive.limits import UNLESS_SET, Limits
from ansible_collections.strata.overlay.plugins.module_utils._archive.slice import Blob
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.layer import Source
from ansible_collections.strata.overlay.plugins.module_utils._definition.platform import Platform, platform_of
from ansible_collections.strata.overlay.plugins.module_utils._image.host_platform import choose
from ansible_collections.strata.overlay.plugins.module_utils._source.origin import Opener, Origin


@dataclass(frozen=True)
class ImageLayer:
    """One layer of an image.

    :ivar size: bytes of its archive as it lies there, compressed or not.
    :ivar blob: where it lies in a file, None for one that is elsewhere.
    :ivar opener: opens one that a registry has; None where the controller has it and has not sent it.
    """

    diff_id: str
    size: int
    blob: Optional[Blob] = None
    opener: Optional[Opener] = None

    def open_by(self) -> Optional[Opener]:
        """The way to its bytes."""
        return self.blob.open if self.blob else self.opener


@dataclass(frozen=True)
class Image:
    """One image for one platform.

    :ivar image_id: the digest of its config, which is what Docker calls the image's id.
    :ivar manifest_digest: "" where its archive has no manifest of its own, as older ones of Docker.
    :ivar digests: every digest by which it may be pinned: of the indexes that lead to it, its manifest, its config.
    :ivar config: the bytes of its config; b"" where the controller has them and has not sent them.
    :ivar problem: why it cannot be taken, "" where it can. It has no layers then, and matters when it is chosen.
    """

    image_id: str
    manifest_digest: str
    digests: tuple[str, ...]
    platform: Platform
    config: bytes
    layers: tuple[ImageLayer, ...]
    problem: str = ""

    @property
    def diff_ids(self) -> tuple[str, ...]:
        return tuple(layer.diff_id for layer in self.layers)


@dataclass(frozen=True)
class ImageOrigin:
    """An image that a definition names, and where it comes from in a few words.

    :ivar label: the image as the definition names it, for messages.
    """

    image: Image
    description: str
    limits: Limits = UNLESS_SET
    label: str = ""

    def origins(self) -> list[Origin]:
        """Its layers as contents that can be imported, bottom first."""
        count = len(self.image.layers)
        return [
            Origin(
                diff_id=layer.diff_id,
                size=layer.size,
                description=f"{self.description} (layer {number} of {count})",
                source=Source("src", self.description, True, limits=self.limits),
                awaited=layer.open_by() is None,
                opener=layer.open_by(),
                remote=layer.opener is not None,
                label=self.label,
                declared=True,
                blob=layer.blob,
            )
            for number, layer in enumerate(self.image.layers, 1)
        ]


def pick(images: Sequence[Image], wanted: Optional[Platform], what: str) -> Image:
    """The one for a platform; None stands for this host's own.

    :raises StrataError: there is none, or more than one, or it is one that cannot be taken.
    """
    found = images[choose([image.platform for image in images], wanted, what)]
    if found.problem:
        raise StrataError(found.problem)
    others = [image for image in images if image.platform.normal() == found.platform.normal() and not image.problem]
    if any(image.image_id != found.image_id for image in others):
        raise StrataError(
            f"{what} has {len(others)} images for platform {found.platform}; name one of them in the option 'digest': "
            + ", ".join(image.image_id for image in others)
        )
    return found


def check_pinned(images: Sequence[Image], digest: str, what: str) -> list[Image]:
    """Those that a digest pins: by their own manifest, an index that leads to them, or their config.

    :raises StrataError: it pins none.
    """
    found = [image for image in images if not digest or digest in image.digests]
    if found:
        return found
    there = ", ".join(dict.fromkeys(each for image in images for each in image.digests))
    raise StrataError(
        f"option 'digest': expected {digest}, but {what} has {there} (manifest and image id); correct it "
        "if the image is the one you mean"
    )


def sent_image(facts: Mapping[str, Any], wanted: Optional[Platform]) -> ImageOrigin:
    """The image that the controller found.

    :param facts: ``words``, where it comes from; ``choices``, its variants as ``dump_image`` makes them, without their
        configs, and with the places of those layers that the host has been sent.
    """
    images = [load_image(each) for each in facts["choices"]]
    return ImageOrigin(pick(images, wanted, facts["words"]), facts["words"])


def dump_image(image: Image, with_config: bool) -> dict[str, Any]:
    """An image that lies in files as JSON can hold it: for the digest cache and for the way to the host."""
    layers = []
    for layer in image.layers:
        facts: dict[str, Any] = {"diff_id": layer.diff_id, "size": layer.size}
        if layer.blob:
            blob = layer.blob
            facts.update(path=blob.path, offset=blob.offset, length=blob.size, digest=blob.digest)
        layers.append(facts)
    return {
        "image_id": image.image_id,
        "manifest_digest": image.manifest_digest,
        "digests": list(image.digests),
        "platform": {
            "os": image.platform.os,
            "architecture": image.platform.architecture,
            "variant": image.platform.variant,
        },
        **({"problem": image.problem} if image.problem else {}),
        "config": base64.b64encode(image.config).decode() if with_config else "",
        "layers": layers,
    }


def load_image(data: Mapping[str, Any]) -> Image:
    """What ``dump_image`` made; ValueError, KeyError or TypeError for anything else."""
    return Image(
        image_id=data["image_id"],
        manifest_digest=data["manifest_digest"],
        digests=tuple(data["digests"]),
        platform=platform_of(data["platform"]),
        config=base64.b64decode(data["config"]),
        layers=tuple(_load_layer(layer) for layer in data["layers"]),
        problem=data.get("problem", ""),
    )


def _load_layer(data: Mapping[str, Any]) -> ImageLayer:
    blob = Blob(data["path"], int(data["offset"]), int(data["length"]), data["digest"]) if data.get("path") else None
    return ImageLayer(data["diff_id"], int(data["size"]), blob)


def placed(image: Image, places: Mapping[str, Blob]) -> Image:
    """The image with its layers where they lie now: ``places`` by DiffID; the others are awaited."""
    return replace(
        image, layers=tuple(ImageLayer(layer.diff_id, layer.size, places.get(layer.diff_id)) for layer in image.layers)
    )
