# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a registry serves, made an image. The registry is played here; integration tests ask the real one."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import IO, Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.platform import parse_platform
from ansible_collections.strata.overlay.plugins.module_utils._image.image import Image
from ansible_collections.strata.overlay.plugins.module_utils._image.manifest import (
    OCI_INDEX,
    OCI_MANIFEST,
    Config,
    read_config,
    sha256,
)
from ansible_collections.strata.overlay.plugins.module_utils._registry.pull import pull

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


@dataclass(frozen=True)
class Answer:
    body: bytes
    media_type: str


@dataclass
class Played:
    """Manifests by tag and digest, blobs by digest; keeps what it was asked for."""

    manifests: dict[str, Answer] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def manifest(self, wanted: str) -> Answer:
        self.asked.append(wanted)
        return self.manifests[wanted]

    def opener(self, digest: str, size: int) -> Callable[[], AbstractContextManager[IO[bytes]]]:
        def opened() -> AbstractContextManager[IO[bytes]]:
            self.asked.append(digest)
            return contextlib.closing(io.BytesIO(self.blobs[digest][:size]))

        return opened

    def put(self, data: Any, media_type: str, tag: str = "") -> dict[str, Any]:
        body = json.dumps(data).encode()
        self.manifests[sha256(body)] = Answer(body, media_type)
        if tag:
            self.manifests[tag] = Answer(body, media_type)
        return {"mediaType": media_type, "digest": sha256(body), "size": len(body)}

    def image(self, architecture: str, tag: str = "", layers: int = 2) -> dict[str, Any]:
        rootfs = {"type": "layers", "diff_ids": [A, B]}
        config = json.dumps({"os": "linux", "architecture": architecture, "rootfs": rootfs}).encode()
        self.blobs[sha256(config)] = config
        described = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha256(config)}
        layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "size": 7, "digest": B}
        manifest = {"config": {**described, "size": len(config)}, "layers": [layer] * layers}
        platform = {"os": "linux", "architecture": architecture}
        return {**self.put(manifest, OCI_MANIFEST, tag), "platform": platform}


def pulled(
    played: Played,
    wanted: str,
    platform: str = "linux/arm64",
    known: Callable[[str], Image | None] = lambda digest: None,
    stored: Callable[[str], Config | None] = lambda digest: None,
) -> Image:
    return pull(played, wanted, parse_platform(platform), "r.example/app", known, stored)


def test_manifest_is_pulled_without_opening_layers() -> None:
    played = Played()
    described = played.image("arm64", "1.0")
    image = pulled(played, "1.0")
    assert (image.manifest_digest, image.diff_ids) == (described["digest"], (A, B))
    assert image.digests == (described["digest"], image.image_id)
    assert [layer.size for layer in image.layers] == [7, 7]
    assert played.asked == ["1.0", image.image_id], "layers are opened when they are unpacked"


def test_nested_index_is_followed_to_the_image_of_the_platform() -> None:
    played = Played()
    arm = played.image("arm64")
    inner = played.put({"manifests": [played.image("amd64"), arm]}, OCI_INDEX)
    outer = played.put({"manifests": [{**inner, "platform": arm["platform"]}]}, OCI_INDEX, "1.0")
    image = pulled(played, "1.0")
    assert image.platform == parse_platform("linux/arm64")
    assert image.digests == (outer["digest"], inner["digest"], arm["digest"], image.image_id)
    with pytest.raises(StrataError, match="r.example/app has nothing for platform linux/s390x; it has: linux/arm64"):
        pulled(played, "1.0", "linux/s390x")


def test_index_gives_the_variant_missing_in_a_config() -> None:
    played = Played()
    described = played.image("arm")
    old = {**described, "platform": {**described["platform"], "variant": "v6"}}
    played.put({"manifests": [old, played.image("amd64")]}, OCI_INDEX, "1.0")
    assert pulled(played, "1.0", "linux/arm/v7").platform == parse_platform("linux/arm/v6")


def test_known_image_needs_no_request_beyond_the_index() -> None:
    played = Played()
    arm = played.image("arm64")
    played.put({"manifests": [arm]}, OCI_INDEX, "1.0")
    image = pulled(played, "1.0")
    played.asked.clear()
    assert pulled(played, "1.0", known=lambda digest: image if digest == arm["digest"] else None) is image
    assert played.asked == ["1.0"]


def test_stored_config_is_not_fetched() -> None:
    played = Played()
    played.image("arm64", "1.0")
    pulled(
        played,
        "1.0",
        stored=lambda digest: read_config(played.blobs[digest], "config"),
    )
    assert played.asked == ["1.0"]


def test_manifest_or_config_with_another_digest_is_refused() -> None:
    played = Played()
    digest = played.image("arm64")["digest"]
    played.manifests[digest] = Answer(b"{}", OCI_MANIFEST)
    with pytest.raises(StrataError, match=f"the registry served {sha256(b'{}')} for manifest {digest}"):
        pulled(played, digest)
    played.image("arm64", "1.0")
    for config in played.blobs:
        played.blobs[config] = b"x" * len(played.blobs[config])
    with pytest.raises(StrataError, match="config sha256:.* has digest .* it is damaged"):
        pulled(played, "1.0")


def test_layer_count_other_than_in_the_config_is_refused() -> None:
    played = Played()
    played.image("arm64", "1.0", layers=3)
    with pytest.raises(StrataError, match="has 3 layers, and its config lists 2"):
        pulled(played, "1.0")


def test_indexes_nested_too_deep_are_refused() -> None:
    played = Played()
    described = played.image("arm64")
    for _depth in range(9):
        described = {**played.put({"manifests": [described]}, OCI_INDEX, "1.0"), "platform": described["platform"]}
    with pytest.raises(StrataError, match="indexes lie in indexes more than 8 deep"):
        pulled(played, "1.0")
