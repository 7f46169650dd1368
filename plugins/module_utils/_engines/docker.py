# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Reads a Docker root (`/var/lib/docker`, overlay2).

Format: moby daemon/graphdriver/overlay2, daemon/internal/layer/filestore.go, daemon/internal/image/fs.go.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import DIFF_ID, HEX_ID, SHA256, chain_ids
from ansible_collections.strata.overlay.plugins.module_utils._engines.model import (
    Damage,
    EngineRoot,
    Orphan,
    RootContainer,
    RootImage,
    RootLayer,
)
from ansible_collections.strata.overlay.plugins.module_utils._engines.records import Foreign

HOME = "overlay2"
RECORDS = "image/overlay2"

_LAYER_ID = re.compile(r"^[0-9a-f]{64}(-init)?\Z")
_SIZE = re.compile(r"^[0-9]{1,20}\Z")
_REMOVING = re.compile(r"^([0-9a-f]{64})-[0-9a-f]+-removing\Z")
_LARGEST_DATABASE = 256 << 20
_BUILDKIT_ID = re.compile(rb"[0-9a-z]{25}|[0-9a-f]{64}")


def read_docker_root(root: str, files: Foreign) -> EngineRoot:
    """Read the records and list the directories.

    :param root: how results name it.
    :param files: what is in it; records that are not read are among its faults.
    """
    return _Reader(root, files).read()


class _Reader:
    def __init__(self, root: str, files: Foreign) -> None:
        self._root = root
        self._files = files
        self._damages: list[Damage] = []

    def read(self) -> EngineRoot:
        layers = self._layers()
        images = self._images()
        containers = self._containers()
        known = {layer.layer_id for layer in layers}
        known |= {layer_id for container in containers for layer_id in container.layer_ids}
        orphans = self._orphans(known)
        return EngineRoot(
            "docker",
            self._root,
            HOME,
            tuple(layers),
            tuple(images),
            tuple(containers),
            tuple(orphans),
            tuple(self._damages),
        )

    def _damaged(self, path: str, message: str) -> None:
        self._damages.append(Damage(path, message))

    def _word(self, path: str, pattern: re.Pattern[str]) -> str:
        """A record of one word; if missing or malformed it is reported and read as ``""``."""
        text = self._files.word(path)
        if path in self._files.faults:
            return ""
        if text is None or not pattern.match(text):
            self._damaged(path, "it is missing" if text is None else "it is empty" if not text else "it is malformed")
            return ""
        return text

    # Layers.

    def _layers(self) -> list[RootLayer]:
        top = f"{RECORDS}/layerdb/sha256"
        found = []
        for name in self._files.names(top):
            removing = _REMOVING.match(name)
            if removing or HEX_ID.match(name):
                found.append(self._layer(f"{top}/{name}", removing.group(1) if removing else name))
            else:
                self._damaged(f"{top}/{name}", "it is no layer's record")
        return found

    def _layer(self, path: str, name: str) -> RootLayer:
        size = self._files.word(f"{path}/size") or ""
        parent = f"{path}/parent"
        has_parent = self._files.word(parent) is not None
        return RootLayer(
            layer_id=self._word(f"{path}/cache-id", _LAYER_ID),
            record_id=SHA256 + name,
            diff_id=self._word(f"{path}/diff", DIFF_ID),
            parent=self._word(parent, DIFF_ID) if has_parent else "",
            size=int(size) if _SIZE.match(size) else -1,
        )

    # Images.

    def _images(self) -> list[RootImage]:
        names = self._names()
        top = f"{RECORDS}/imagedb/content/sha256"
        found = []
        for name in self._files.names(top):
            config = self._required(f"{top}/{name}")
            diff_ids = _diff_ids(config)
            if diff_ids is None:
                if config is not None:
                    self._damaged(f"{top}/{name}", "it has no list of DiffIDs")
                diff_ids = []
            found.append(
                RootImage(
                    image_id=SHA256 + name,
                    names=tuple(names.get(SHA256 + name, ())),
                    top=chain_ids(diff_ids)[-1] if diff_ids else "",
                )
            )
        return found

    def _names(self) -> dict[str, list[str]]:
        """Tags by image id, from repositories.json; digests are no names that people use."""
        table = self._files.json(f"{RECORDS}/repositories.json")
        repositories = table.get("Repositories") if isinstance(table, dict) else None
        found: dict[str, list[str]] = {}
        for references in (repositories if isinstance(repositories, dict) else {}).values():
            for reference, image_id in (references if isinstance(references, dict) else {}).items():
                if "@" not in reference and isinstance(image_id, str):
                    found.setdefault(image_id, []).append(reference)
        return found

    def _required(self, path: str) -> Any:
        """What a file of JSON says that has to be there."""
        found = self._files.json(path)
        if found is None and path not in self._files.faults:
            self._damaged(path, "it is missing")
        return found

    # Containers.

    def _containers(self) -> list[RootContainer]:
        top = f"{RECORDS}/layerdb/mounts"
        return [self._container(f"{top}/{name}", name) for name in self._files.names(top)]

    def _container(self, path: str, container_id: str) -> RootContainer:
        ids = [self._word(f"{path}/mount-id", _LAYER_ID)]
        if self._files.word(f"{path}/init-id") is not None:
            ids.append(self._word(f"{path}/init-id", _LAYER_ID))
        config = self._files.json(f"containers/{container_id}/config.v2.json")
        settings: Mapping[str, Any] = config if isinstance(config, dict) else {}
        return RootContainer(
            container_id=container_id,
            name=str(settings.get("Name") or "").lstrip("/"),
            image_id=str(settings.get("Image") or ""),
            layer_ids=tuple(filter(None, ids)),
            parent=self._files.word(f"{path}/parent") or "",
        )

    # What no record knows.

    def _orphans(self, known: set[str]) -> list[Orphan]:
        unknown = [
            name
            for name in self._files.names(HOME)
            if name != "l" and name not in known and self._files.is_directory(f"{HOME}/{name}")
        ]
        ids = {name: name.split("-", 1)[0].encode() for name in unknown}
        cached = self._build_cache(set(ids.values()))
        found = [Orphan("build_cache" if ids[name] in cached else "layer", name, f"{HOME}/{name}") for name in unknown]
        transactions = f"{RECORDS}/layerdb/tmp"
        found += [Orphan("leftover", name, f"{transactions}/{name}") for name in self._files.names(transactions)]
        return found

    def _build_cache(self, wanted: set[bytes]) -> set[bytes]:
        """Which of these words are in BuildKit's databases: it has layers that layerdb does not know."""
        found: set[bytes] = set()
        for name in self._files.names("buildkit") if wanted else []:
            if name.endswith(".db"):
                data = self._files.read(f"buildkit/{name}", _LARGEST_DATABASE) or b""
                found.update(match.group() for match in _BUILDKIT_ID.finditer(data) if match.group() in wanted)
        return found


def _diff_ids(config: Any) -> Sequence[str] | None:
    """DiffIDs of an image's config; None where it has no proper list of them."""
    rootfs = config.get("rootfs") if isinstance(config, dict) else None
    if not isinstance(rootfs, dict):
        return None
    diff_ids = rootfs.get("diff_ids") or []
    if not isinstance(diff_ids, list) or not all(isinstance(item, str) and DIFF_ID.match(item) for item in diff_ids):
        return None
    return diff_ids
