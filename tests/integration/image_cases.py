# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images as they are in the wild: each with what is right, whichever way it comes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.strata.overlay.plugins.module_utils._archive.reader import END
from ansible_collections.strata.overlay.tests.integration.images import MANIFEST, Layer, Layout, layer_tar, sha256
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.archives import member

CONFIG = "application/vnd.oci.image.config.v1+json"
GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
PLAIN = "application/vnd.oci.image.layer.v1.tar"
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
SOCI = "application/vnd.amazon.soci.index.v1+json"
COSIGN = "application/vnd.dev.cosign.simplesigning.v1+json"
ARCHIVES = ("directory", "tar")
EVERYWHERE = (*ARCHIVES, "registry")
AMD = {"app": "amd64"}
ARM = {"app": "arm64"}


@dataclass(frozen=True)
class Case:
    """An image, and what becomes of it.

    :ivar make: writes it into a layout; its descriptor, without a platform.
    :ivar tree: what a stack of it shows; None where it is refused.
    :ivar reason: part of the message then, a pattern.
    :ivar options: of the image.
    :ivar ways: by which it can come.
    """

    make: Callable[[Written], dict[str, Any]]
    tree: Mapping[str, str] | None = None
    reason: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    ways: tuple[str, ...] = EVERYWHERE


class Written:
    """A layout that is being written, with what is not in every one.

    :ivar lost: digests of blobs that are taken away when all is written.
    :ivar beside: files beside index.json.
    :ivar digest: that the image is pinned by.
    """

    def __init__(self, directory: Path) -> None:
        self.layout = Layout(directory)
        self.lost: list[str] = []
        self.beside: dict[str, bytes] = {}
        self.digest = ""

    def image(
        self,
        *tars: bytes,
        arch: str = "amd64",
        config: Mapping[str, Any] | None = None,
        config_type: str = CONFIG,
        layer_type: str = GZIP,
        packed: bool = True,
        **more: Any,
    ) -> dict[str, Any]:
        """An image of layers given as tars; its descriptor."""
        rootfs = {"type": "layers", "diff_ids": [sha256(tar) for tar in tars]}
        body = {"architecture": arch, "os": "linux", "rootfs": rootfs, **(config or {})}
        blobs = [gzip.compress(tar, 1, mtime=0) if packed else tar for tar in tars]
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.layout.blob(json.dumps(body).encode(), config_type),
            "layers": [self.layout.blob(blob, layer_type) for blob in blobs],
            **more,
        }
        return self.manifest({key: value for key, value in manifest.items() if value != "-"})

    def manifest(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return self.layout.blob(json.dumps(body).encode(), MANIFEST)

    def of(self, descriptor: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.layout.path(descriptor["digest"]).read_text())
        return found

    def artifact(self, kind: str) -> dict[str, Any]:
        """A manifest that is no image."""
        empty = self.layout.blob(b"{}", "application/vnd.oci.empty.v1+json")
        return self.manifest(
            {"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": kind, "config": empty, "layers": [empty]}
        )

    def signature(self) -> dict[str, Any]:
        """As cosign writes it: an image by its config, with a layer that is none."""
        return self.image(b'{"critical": {}}', layer_type=COSIGN, packed=False, config={"architecture": "", "os": ""})

    def lose(self, descriptor: Mapping[str, Any], part: str = "") -> dict[str, Any]:
        """Take away a manifest, its config or its layers when all is written."""
        parts = {"": [descriptor], "config": [self.of(descriptor)["config"]], "layers": self.of(descriptor)["layers"]}
        self.lost += [each["digest"] for each in parts[part]]
        return dict(descriptor)


def on(descriptor: Mapping[str, Any], arch: str, system: str = "linux", **more: str) -> dict[str, Any]:
    """A descriptor with a platform."""
    return {**descriptor, "platform": {"architecture": arch, "os": system, **more}}


def tar(layer: Layer) -> bytes:
    return layer_tar(layer)


AMD_TAR, ARM_TAR = layer_tar({"app": "amd64"}), layer_tar({"app": "arm64"})
UNENDED = AMD_TAR[: -(len(AMD_TAR) - 1024)]


def with_attributes(*names: str) -> bytes:
    return member(b"app", b"amd64", mode=0o644, xattrs=dict.fromkeys(names, b"y")) + END


def beside(make: Callable[[Written], list[dict[str, Any]]]) -> Callable[[Written], dict[str, Any]]:
    """An index of others, then of the image for amd64 with its platform."""
    return lambda made: made.layout.index(*make(made), on(made.image(AMD_TAR), "amd64"))


def windows(made: Written) -> dict[str, Any]:
    return made.image(tar({"Files": "x"}), config={"os": "windows"}, layer_type=FOREIGN)


def pinned(make: Callable[[Written], dict[str, Any]], which: Callable[[Written], str]) -> Callable[[Written], Any]:
    """The option ``digest`` is found when the image is written."""

    def write(made: Written) -> dict[str, Any]:
        top = make(made)
        made.digest = which(made)
        return top

    return write


def both(made: Written, platforms: bool = True) -> dict[str, Any]:
    images = [made.image(ARM_TAR, arch="arm64"), made.image(AMD_TAR)]
    return made.layout.index(*([on(images[0], "arm64"), on(images[1], "amd64")] if platforms else images))


def arm_manifest(made: Written) -> str:
    return str(made.image(ARM_TAR, arch="arm64")["digest"])


def arm_config(made: Written) -> str:
    return str(made.of(made.image(ARM_TAR, arch="arm64"))["config"]["digest"])


def sha512(made: Written) -> list[dict[str, Any]]:
    return [on({**made.image(ARM_TAR, arch="arm64"), "digest": "sha512:" + "a" * 128}, "arm64")]


def saved_by_25(made: Written) -> dict[str, Any]:
    """``docker save`` of Docker 25.0.0: no layers in the manifest, and a manifest.json that is right."""
    whole = made.of(made.image(AMD_TAR))
    made.beside["manifest.json"] = json.dumps([saved(whole, "app:1")]).encode()
    return made.manifest({**whole, "layers": None})


def saved(manifest: Mapping[str, Any], tag: str) -> dict[str, Any]:
    def name(entry: Mapping[str, Any]) -> str:
        return f"blobs/{entry['digest']}".replace(":", "/")

    return {
        "Config": name(manifest["config"]),
        "RepoTags": [tag],
        "Layers": [name(each) for each in manifest["layers"]],
    }


def two_images(made: Written) -> dict[str, Any]:
    """One of them without layers, which ``docker save`` writes as null."""
    first = made.image(AMD_TAR)
    none = made.of(made.image())
    entries = [saved(made.of(first), "app:1"), {**saved(none, "none:1"), "Layers": None}]
    made.beside["manifest.json"] = json.dumps(entries).encode()
    return first


CASES: dict[str, Case] = {
    "plain image": Case(lambda made: made.image(AMD_TAR), AMD),
    "image for another platform, the only one": Case(
        lambda made: made.image(ARM_TAR, arch="s390x"), ARM, options={"platform": None}
    ),
    "two platforms": Case(both, AMD),
    "index without platforms": Case(lambda made: both(made, platforms=False), AMD),
    "index without platforms, the other one": Case(
        lambda made: both(made, platforms=False), ARM, options={"platform": "linux/arm64"}
    ),
    "index with empty platforms": Case(
        lambda made: made.layout.index(
            *(on(each, "", "") for each in (made.image(ARM_TAR, arch="arm64"), made.image(AMD_TAR)))
        ),
        AMD,
    ),
    "indexes in indexes": Case(lambda made: made.layout.index(made.layout.index(both(made))), AMD),
    "indexes in indexes without platforms": Case(
        lambda made: made.layout.index(
            made.layout.index(made.image(ARM_TAR, arch="arm64")), made.layout.index(made.image(AMD_TAR))
        ),
        AMD,
    ),
    "index with a platform": Case(
        lambda made: made.layout.index(
            on(made.layout.index(made.image(ARM_TAR, arch="arm64")), "arm64"),
            on(made.layout.index(made.image(AMD_TAR)), "amd64"),
        ),
        AMD,
    ),
    "first of two for one platform": Case(
        lambda made: made.layout.index(on(made.image(AMD_TAR), "amd64"), on(made.image(ARM_TAR), "amd64")), AMD
    ),
    "variant 8 is v8": Case(
        lambda made: made.layout.index(on(made.image(AMD_TAR), "amd64"), on(made.image(ARM_TAR), "arm64", variant="8")),
        ARM,
        options={"platform": "linux/arm64/v8"},
    ),
    "variant 7 is v7": Case(
        lambda made: made.layout.index(on(made.image(AMD_TAR), "amd64"), on(made.image(ARM_TAR), "arm", variant="7")),
        ARM,
        options={"platform": "linux/arm"},
    ),
    "machine by the kernel's name": Case(
        lambda made: made.layout.index(on(made.image(ARM_TAR), "aarch64"), on(made.image(AMD_TAR), "x86_64", "Linux")),
        AMD,
    ),
    "windows beside it": Case(beside(lambda made: [on(windows(made), "amd64", "windows")]), AMD),
    "windows beside it, without platforms": Case(
        lambda made: made.layout.index(windows(made), made.image(AMD_TAR)), AMD
    ),
    "windows, chosen": Case(
        beside(lambda made: [on(windows(made), "amd64", "windows")]),
        reason="its bytes are not part of the image",
        options={"platform": "windows/amd64"},
    ),
    "SOCI index beside it": Case(beside(lambda made: [{**made.artifact(SOCI), "artifactType": SOCI}]), AMD),
    "SOCI index for a platform beside it": Case(
        beside(lambda made: [on({**made.artifact(SOCI), "artifactType": SOCI}, "amd64")]), AMD
    ),
    "referrer without artifactType in its entry": Case(
        lambda made: made.layout.index(made.artifact(SOCI), made.image(AMD_TAR)), AMD
    ),
    "cosign signature beside it": Case(lambda made: made.layout.index(made.signature(), made.image(AMD_TAR)), AMD),
    "attestation beside it": Case(beside(lambda made: [on(made.artifact("in-toto"), "unknown", "unknown")]), AMD),
    "entry of an unknown type": Case(
        beside(lambda made: [on({**made.layout.blob(b"x", "application/vnd.example.thing")}, "amd64")]), AMD
    ),
    "entry with a digest of another algorithm": Case(beside(sha512), AMD, ways=ARCHIVES),
    "image without layers beside it": Case(beside(lambda made: [on(made.image(arch="arm64"), "arm64")]), AMD),
    "image without layers beside it, without platforms": Case(
        lambda made: made.layout.index(made.image(arch="arm64"), made.image(AMD_TAR)), AMD
    ),
    "image without layers, chosen": Case(
        beside(lambda made: [on(made.image(arch="arm64"), "arm64")]),
        reason="has no layers",
        options={"platform": "linux/arm64"},
    ),
    "only an artifact": Case(lambda made: made.artifact(SOCI), reason="is no container image"),
    "saved for one platform": Case(
        beside(lambda made: [on(made.lose(made.image(ARM_TAR, arch="arm64"), "layers"), "arm64")]), AMD
    ),
    "saved for one platform, the other one": Case(
        beside(lambda made: [on(made.lose(made.image(ARM_TAR, arch="arm64"), "layers"), "arm64")]),
        reason=r"(?i)blob sha256:\w+.*(missing|unknown)",
        options={"platform": "linux/arm64"},
    ),
    "saved for one platform, manifest and all": Case(
        beside(lambda made: [on(made.lose(made.image(ARM_TAR, arch="arm64")), "arm64")]), AMD
    ),
    "config lost of another platform": Case(
        lambda made: made.layout.index(made.lose(made.image(ARM_TAR, arch="arm64"), "config"), made.image(AMD_TAR)), AMD
    ),
    "config as octet-stream": Case(lambda made: made.image(AMD_TAR, config_type="application/octet-stream"), AMD),
    "config as JSON": Case(lambda made: made.image(AMD_TAR, config_type="application/json"), AMD),
    "config as HTML": Case(lambda made: made.image(AMD_TAR, config_type="text/html"), AMD),
    "config of a chart": Case(
        lambda made: made.image(AMD_TAR, config_type="application/vnd.cncf.helm.config.v1+json"),
        reason="is no container image",
    ),
    "manifest without a type": Case(lambda made: made.image(AMD_TAR, mediaType="-"), AMD),
    "gzip labelled plain": Case(lambda made: made.image(AMD_TAR, layer_type=PLAIN), AMD),
    "plain labelled gzip": Case(lambda made: made.image(AMD_TAR, packed=False), AMD),
    "layer as octet-stream": Case(lambda made: made.image(AMD_TAR, layer_type="application/octet-stream"), AMD),
    "layer without end marker": Case(lambda made: made.image(UNENDED), AMD),
    "layer of zero bytes": Case(lambda made: made.image(b"", AMD_TAR), AMD),
    "layer of zero bytes as it lies there": Case(lambda made: made.image(b"", AMD_TAR, packed=False), AMD),
    "layer with bytes after its end": Case(lambda made: made.image(AMD_TAR + b"more" * 100), AMD),
    "attributes that mean nothing": Case(
        lambda made: made.image(
            with_attributes("trusted.overlay.origin", "user.overlay.impure", "com.apple.provenance")
        ),
        AMD,
    ),
    "attribute with a meaning": Case(
        lambda made: made.image(with_attributes("trusted.overlay.redirect")), reason="is overlayfs's own and is refused"
    ),
    "layer cut in a file": Case(lambda made: made.image(AMD_TAR[:514]), reason="cut short"),
    "pinned by the manifest of another platform": Case(pinned(both, arm_manifest), ARM, options={"platform": None}),
    "pinned by the id of another platform's image": Case(pinned(both, arm_config), ARM, options={"platform": None}),
    "pinned by what it is not": Case(
        pinned(both, lambda made: "sha256:" + "0" * 64), reason="option 'digest': expected"
    ),
    "platform that it does not have": Case(
        both, reason="nothing for platform linux/s390x; it has: ", options={"platform": "linux/s390x"}
    ),
    "saved by Docker 25.0.0": Case(saved_by_25, AMD, ways=ARCHIVES),
    "two images, one without layers": Case(two_images, AMD, options={"reference": "app:1"}, ways=ARCHIVES),
    "two images, the one without layers": Case(
        two_images, reason="image 'none:1': .*has no layers", options={"reference": "none:1"}, ways=ARCHIVES
    ),
}
