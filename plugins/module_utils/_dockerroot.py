# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""The root of a Docker daemon (``/var/lib/docker``) with the storage driver overlay2 -> what it holds. Reads only.

Format: moby daemon/graphdriver/overlay2, daemon/internal/layer/filestore.go, daemon/internal/image/fs.go.
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict, List, Mapping, Sequence, Set

from ansible_collections.strata.overlay.plugins.module_utils._chain import DIFF_ID, HEX_ID, SHA256, chain_ids
from ansible_collections.strata.overlay.plugins.module_utils._engineroot import (
    Damage,
    EngineRoot,
    Orphan,
    RootContainer,
    RootImage,
    RootLayer,
)
from ansible_collections.strata.overlay.plugins.module_utils._store import is_directory
from ansible_collections.strata.overlay.plugins.module_utils._untouched import (
    entries,
    read_bytes,
    read_word,
)

HOME = "overlay2"
RECORDS = "image/overlay2"

_LAYER_ID = re.compile(r"^[0-9a-f]{64}(-init)?\Z")
_REMOVING = re.compile(r"^([0-9a-f]{64})-[0-9a-f]+-removing\Z")
_BUILDKIT_ID = re.compile(rb"[0-9a-z]{25}|[0-9a-f]{64}")


def read_docker_root(root: str, view: str) -> EngineRoot:
    """Read the records and list the directories.

    :param root: how results name it.
    :param view: a path by which it is read, see ``_untouched.untouched``.
    """
    return _Reader(root, view).read()


class _Reader:
    def __init__(self, root: str, view: str) -> None:
        self._root = root
        self._view = view
        self._damages: List[Damage] = []

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

    def _damaged(self, path: str, words: str) -> None:
        self._damages.append(Damage(path, words))

    def _word(self, path: str, pattern: re.Pattern[str]) -> str:
        """A record of one word; what is missing or malformed is told, and read as ``""``."""
        text = read_word(f"{self._view}/{path}")
        if text is None or not pattern.match(text):
            self._damaged(path, "it is missing" if text is None else "it is empty" if not text else "it is malformed")
            return ""
        return text

    # Layers.

    def _layers(self) -> List[RootLayer]:
        top = f"{RECORDS}/layerdb/sha256"
        found = []
        for name in entries(f"{self._view}/{top}"):
            removing = _REMOVING.match(name)
            if removing or HEX_ID.match(name):
                found.append(self._layer(f"{top}/{name}", removing.group(1) if removing else name))
            else:
                self._damaged(f"{top}/{name}", "it is no layer's record")
        return found

    def _layer(self, path: str, name: str) -> RootLayer:
        size = read_word(f"{self._view}/{path}/size") or ""
        parent = f"{path}/parent"
        has_parent = read_bytes(f"{self._view}/{parent}") is not None
        return RootLayer(
            layer_id=self._word(f"{path}/cache-id", _LAYER_ID),
            record_id=SHA256 + name,
            diff_id=self._word(f"{path}/diff", DIFF_ID),
            parent=self._word(parent, DIFF_ID) if has_parent else "",
            size=int(size) if size.isdigit() else -1,
        )

    # Images.

    def _images(self) -> List[RootImage]:
        names = self._names()
        top = f"{RECORDS}/imagedb/content/sha256"
        found = []
        for name in entries(f"{self._view}/{top}"):
            config = self._json(f"{top}/{name}")
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

    def _names(self) -> Dict[str, List[str]]:
        """Tags by image id, from repositories.json; digests are no names that people use."""
        path = f"{RECORDS}/repositories.json"
        table = self._json(path) if read_bytes(f"{self._view}/{path}") is not None else {}
        repositories = table.get("Repositories") if isinstance(table, dict) else None
        found: Dict[str, List[str]] = {}
        for references in (repositories if isinstance(repositories, dict) else {}).values():
            for reference, image_id in (references if isinstance(references, dict) else {}).items():
                if "@" not in reference and isinstance(image_id, str):
                    found.setdefault(image_id, []).append(reference)
        return found

    def _json(self, path: str) -> Any:
        try:
            return json.loads(read_bytes(f"{self._view}/{path}") or b"")
        except (ValueError, RecursionError) as error:
            self._damaged(path, f"it is no JSON ({error})")
            return None

    # Containers.

    def _containers(self) -> List[RootContainer]:
        top = f"{RECORDS}/layerdb/mounts"
        return [self._container(f"{top}/{name}", name) for name in entries(f"{self._view}/{top}")]

    def _container(self, path: str, container_id: str) -> RootContainer:
        ids = [self._word(f"{path}/mount-id", _LAYER_ID)]
        if read_bytes(f"{self._view}/{path}/init-id") is not None:
            ids.append(self._word(f"{path}/init-id", _LAYER_ID))
        config_path = f"containers/{container_id}/config.v2.json"
        config = self._json(config_path) if read_bytes(f"{self._view}/{config_path}") is not None else None
        said: Mapping[str, Any] = config if isinstance(config, dict) else {}
        return RootContainer(
            container_id=container_id,
            name=str(said.get("Name") or "").lstrip("/"),
            image_id=str(said.get("Image") or ""),
            layer_ids=tuple(filter(None, ids)),
            parent=read_word(f"{self._view}/{path}/parent") or "",
        )

    # What no record knows.

    def _orphans(self, known: Set[str]) -> List[Orphan]:
        cached = self._build_cache()
        found = []
        for name in entries(f"{self._view}/{HOME}"):
            path = f"{HOME}/{name}"
            if name == "l" or name in known or not is_directory(f"{self._view}/{path}"):
                continue
            kind = "build_cache" if name.split("-", 1)[0].encode() in cached else "layer"
            found.append(Orphan(kind, name, path))
        transactions = f"{RECORDS}/layerdb/tmp"
        found += [
            Orphan("leftover", name, f"{transactions}/{name}") for name in entries(f"{self._view}/{transactions}")
        ]
        return found

    def _build_cache(self) -> Set[bytes]:
        """Every word in BuildKit's databases that could name a directory: it has layers that layerdb does not know."""
        found: Set[bytes] = set()
        for name in entries(f"{self._view}/buildkit"):
            if name.endswith(".db"):
                found.update(_BUILDKIT_ID.findall(read_bytes(f"{self._view}/buildkit/{name}") or b""))
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
