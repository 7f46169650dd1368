# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Manifests, indexes and configs: what is read from them, and everything that is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.platform import Platform
from ansible_collections.strata.overlay.plugins.module_utils._image.manifest import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    check_count,
    read_config,
    read_document,
    sha256,
    verify,
)

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"


def descriptor(media_type: str, digest: Any = A, size: Any = 3, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size, **more}


def manifest(*layers: Any, config: Any = None, **more: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "config": config or descriptor(OCI_CONFIG, B), "layers": list(layers), **more}


def read(data: Any, media_type: str = "") -> Index | Manifest:
    return read_document(json.dumps(data).encode(), media_type, "app")


def refused(data: Any, media_type: str = "") -> str:
    with pytest.raises(StrataError) as failure:
        read(data, media_type)
    return str(failure.value)


@pytest.mark.parametrize("suffix", ["", "+gzip", "+zstd"])
def test_oci_manifest_is_read_with_each_layer_compression(suffix: str) -> None:
    found = read(manifest(descriptor(OCI_LAYER + suffix, A, 5)), OCI_MANIFEST)
    assert found == Manifest(Descriptor(OCI_CONFIG, B, 3), (Descriptor(OCI_LAYER + suffix, A, 5),))


def test_docker_manifest_is_read() -> None:
    config = descriptor(DOCKER_CONFIG, B)
    found = read(manifest(descriptor(DOCKER_LAYER), config=config, mediaType=DOCKER_MANIFEST), DOCKER_MANIFEST)
    assert isinstance(found, Manifest)
    assert found.layers[0].digest == A


@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_LIST])
def test_index_is_read_with_platforms_and_annotations(media_type: str) -> None:
    platform = {"os": "linux", "architecture": "arm", "variant": "v7"}
    entry = descriptor(OCI_MANIFEST, platform=platform, annotations={"a": "b"})
    nested = descriptor(OCI_INDEX, B)
    found = read({"schemaVersion": 2, "mediaType": media_type, "manifests": [entry, nested]}, media_type)
    assert isinstance(found, Index)
    assert found.entries[0].platform == Platform("linux", "arm", "v7")
    assert found.entries[0].annotations == {"a": "b"}
    assert found.entries[1].platform is None


def test_document_without_a_known_media_type_is_recognised() -> None:
    assert isinstance(read(manifest(descriptor(OCI_LAYER)), "application/json"), Manifest)
    assert isinstance(read({"manifests": []}), Index)


def test_attestations_are_distinguished_from_images() -> None:
    unknown = {"os": "unknown", "architecture": "unknown"}
    about = {"vnd.docker.reference.type": "attestation-manifest"}
    entries = [
        descriptor(OCI_MANIFEST, platform=unknown),
        descriptor(OCI_MANIFEST, annotations=about),
        descriptor(OCI_MANIFEST),
    ]
    found = read({"manifests": entries})
    assert isinstance(found, Index)
    assert [entry.is_attestation for entry in found.entries] == [True, True, False]


@pytest.mark.parametrize(
    ("data", "media_type", "words"),
    [
        ([], "", "app is no JSON object"),
        ({}, "", "neither clearly a manifest nor clearly an index"),
        ({"layers": [], "manifests": []}, "", "neither clearly"),
        (manifest(), OCI_INDEX, "neither clearly"),
        (manifest(mediaType=OCI_INDEX), "", "neither clearly"),
        ({"manifests": [], "mediaType": OCI_MANIFEST}, "", "neither clearly"),
        ({"manifests": {}}, "", "'manifests' is no list"),
        ({"schemaVersion": 1, "fsLayers": []}, "", "old schema 1"),
        ({"x": 1}, "application/vnd.docker.distribution.manifest.v1+prettyjws", "old schema 1"),
        (manifest(mediaType="text/plain"), "", "neither manifest nor index: its type is 'text/plain'"),
        (manifest(config=descriptor("application/vnd.cncf.helm.config.v1+json")), "", "is no container image"),
        (manifest(config=descriptor("application/vnd.oci.empty.v1+json")), "", "is no container image"),
        (manifest("x"), "", "layer 1 is no descriptor"),
        (
            manifest(descriptor(OCI_LAYER), descriptor(OCI_LAYER, "sha256:1")),
            "",
            "layer 2: its digest 'sha256:1' is not",
        ),
        (manifest(descriptor(OCI_LAYER, "sha512:" + "a" * 128)), "", "is not 'sha256:' and 64"),
        (manifest(descriptor(OCI_LAYER, None)), "", "its digest None is not"),
        (manifest(descriptor(OCI_LAYER, A + "\n")), "", "is not 'sha256:' and 64"),
        (manifest(descriptor(OCI_LAYER, A, -1)), "", "its size -1 is no number of bytes"),
        (manifest(descriptor(OCI_LAYER, A, "3")), "", "its size '3' is no number of bytes"),
        (manifest(descriptor(OCI_LAYER, A, True)), "", "its size True is no number"),
        (manifest(descriptor(OCI_LAYER, A, 2**63)), "", "is no number of bytes"),
        (
            manifest(descriptor("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")),
            "",
            "layer 1 is of type 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip': its bytes are not part",
        ),
        (
            manifest(descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar")),
            "",
            "its bytes are not part of the image",
        ),
        (
            manifest(descriptor(OCI_LAYER + "+encrypted")),
            "",
            "which is no layer that can be read (tar, tar+gzip, tar+zstd)",
        ),
    ],
)
def test_malformed_or_unsupported_document_is_refused(data: Any, media_type: str, words: str) -> None:
    assert words in refused(data, media_type)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"\xef\xbb\xbf{}"])
def test_document_that_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(StrataError, match="app is no JSON"):
        read_document(body, "", "app")


def test_document_with_another_size_or_digest_is_refused() -> None:
    body = b"abc"
    assert verify(body, Descriptor("", sha256(body), 3), "app") is body
    with pytest.raises(StrataError, match="app has 3 bytes and should have 4; it is damaged or cut short"):
        verify(body, Descriptor("", sha256(body), 4), "app")
    with pytest.raises(StrataError, match=f"app has digest {sha256(body)} and should have {A}"):
        verify(body, Descriptor("", A, 3), "app")


def config(**rootfs: Any) -> bytes:
    return json.dumps({"os": "linux", "architecture": "arm64", "rootfs": {"type": "layers", **rootfs}}).encode()


def test_config_is_read_and_its_layer_count_checked() -> None:
    body = config(diff_ids=[A, B, A])
    found = read_config(body, "config")
    assert (found.image_id, found.body) == (sha256(body), body)
    assert found.diff_ids == (A, B, A)
    assert found.platform == Platform("linux", "arm64")
    check_count(3, found, "app")
    with pytest.raises(StrataError, match="app has 2 layers, and its config lists 3; it is damaged"):
        check_count(2, found, "app")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{}", "no 'rootfs' of type 'layers'"),
        (json.dumps({"rootfs": {"type": "other", "diff_ids": [A]}}).encode(), "no 'rootfs' of type 'layers'"),
        (config(), "config has no layers"),
        (config(diff_ids=[]), "config has no layers"),
        (config(diff_ids="x"), "'diff_ids' is no list"),
        (config(diff_ids=[A, "x"]), "diff_id 2: its digest 'x' is not"),
        (config(diff_ids=[{}]), "diff_id 1: its digest {} is not"),
    ],
)
def test_malformed_config_is_refused(body: bytes, words: str) -> None:
    with pytest.raises(StrataError) as failure:
        read_config(body, "config")
    assert words in str(failure.value)
