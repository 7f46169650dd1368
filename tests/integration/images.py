# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images as tests write them: OCI layouts by hand, and what the real skopeo and umoci make of them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.tests.integration.isolation import apart

Layer = dict[str, str | bytes | None]
"""Content by path; None is a whiteout."""

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def layer_tar(layer: Layer) -> bytes:
    """A layer's tar, the same whenever it is written."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, content in layer.items():
            directory, _slash, name = path.rpartition("/")
            member = tarfile.TarInfo(path if content is not None else f"{directory}/.wh.{name}".lstrip("/"))
            data = content.encode() if isinstance(content, str) else content or b""
            member.size = len(data)
            member.mode = 0o644
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


@dataclass
class Layout:
    """An OCI layout in a directory."""

    directory: Path
    entries: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.directory / "blobs/sha256").mkdir(parents=True)
        (self.directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    def blob(self, data: bytes, media_type: str) -> dict[str, Any]:
        """Write a blob; its descriptor."""
        self.path(sha256(data)).write_bytes(data)
        return {"mediaType": media_type, "digest": sha256(data), "size": len(data)}

    def path(self, digest: str) -> Path:
        return self.directory / "blobs/sha256" / digest[7:]

    def image(self, *layers: Layer, platform: str = "linux/amd64", label: str = "") -> dict[str, Any]:
        """Write an image of gzip'd layers; its descriptor."""
        tars = [layer_tar(layer) for layer in layers]
        names = platform.split("/")
        words = dict(zip(("os", "architecture", "variant"), names, strict=False))
        rootfs = {"type": "layers", "diff_ids": [sha256(data) for data in tars]}
        config = json.dumps({**words, "config": {"Labels": {"label": label}}, "rootfs": rootfs}).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.blob(config, "application/vnd.oci.image.config.v1+json"),
            "layers": [
                self.blob(gzip.compress(data, 1, mtime=0), "application/vnd.oci.image.layer.v1.tar+gzip")
                for data in tars
            ],
        }
        return {**self.blob(json.dumps(manifest).encode(), MANIFEST), "platform": words}

    def index(self, *images: dict[str, Any]) -> dict[str, Any]:
        """Write an index; its descriptor."""
        media_type = "application/vnd.oci.image.index.v1+json"
        body = json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": images}).encode()
        return self.blob(body, media_type)

    def list(self, name: str, descriptor: dict[str, Any]) -> None:
        """Put an image or an index into index.json under a name."""
        entry = {key: value for key, value in descriptor.items() if key != "platform"}
        annotations = {"org.opencontainers.image.ref.name": name} if name else {}
        self.entries.append({**entry, "annotations": annotations})
        (self.directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": self.entries}))

    def manifest(self, descriptor: dict[str, Any]) -> dict[str, Any]:
        """An image's manifest."""
        found: dict[str, Any] = json.loads(self.path(descriptor["digest"]).read_text())
        return found


def simple_layout(directory: Path, *layers: Layer) -> Layout:
    """A layout of one image with the name 1.0."""
    layout = Layout(directory)
    layout.list("1.0", layout.image(*layers))
    return layout


def skopeo(*arguments: str, enter: Sequence[str] = ()) -> None:
    """``skopeo copy``.

    :param enter: the command that runs another one where it is to run.
    """
    if shutil.which("skopeo") is None:
        pytest.skip("the Debian package skopeo is missing")
    command = ["skopeo", "--insecure-policy", "copy", "--quiet", *arguments]
    subprocess.run([*enter, *apart(command)], check=True)


def tar_of(directory: Path, path: Path, *options: str) -> Path:
    """A directory as a tar, by GNU tar."""
    subprocess.run(["tar", *options, "-cf", path, "-C", directory, "."], check=True)
    return path
