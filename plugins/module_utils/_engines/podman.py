# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Reads a containers/storage root (Podman, Buildah, CRI-O; overlay).

Format: containers/storage layers.go, images.go, containers.go, drivers/overlay.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.strata.overlay.plugins.module_utils._engines.model import (
    Damage,
    EngineRoot,
    Orphan,
    RootContainer,
    RootImage,
    RootLayer,
)
from ansible_collections.strata.overlay.plugins.module_utils._engines.records import Foreign

HOME = "overlay"
RECORDS = "overlay-layers"

_LAYER_ID = re.compile(r"^[0-9A-Za-z][0-9A-Za-z_.-]*\Z")
_OF_THE_DRIVER = ("l", "staging", "tempdirs")


def read_podman_root(root: str, files: Foreign) -> EngineRoot:
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
        layers = [_layer(item) for item in self._records("overlay-layers/layers.json")]
        layers += [_layer(item) for item in self._records("overlay-layers/volatile-layers.json")]
        images = [_image(item) for item in self._records("overlay-images/images.json")]
        parents = {layer.record_id: layer.parent for layer in layers}
        containers = [
            _container(item, parents)
            for name in ("containers.json", "volatile-containers.json")
            for item in self._records(f"overlay-containers/{name}")
        ]
        # A container's writable layer is a layer like any other in these records; one value has it in one place.
        own = {layer_id for container in containers for layer_id in container.layer_ids}
        orphans = self._orphans({layer.layer_id for layer in layers} | own)
        return EngineRoot(
            "podman",
            self._root,
            HOME,
            tuple(layer for layer in layers if layer.layer_id not in own),
            tuple(images),
            tuple(containers),
            tuple(orphans),
            tuple(self._damages),
        )

    def _records(self, path: str) -> list[Mapping[str, Any]]:
        """The items of one file of records that have an id; a file that does not exist has none."""
        items = self._files.json(path)
        if items is None:
            return []
        listed = items if isinstance(items, list) else [items]
        sound: list[Mapping[str, Any]] = [item for item in listed if _is_record(item)]
        if len(sound) != len(listed):
            self._damages.append(Damage(path, "it has items that are no records"))
        return sound

    def _orphans(self, known: set[str]) -> list[Orphan]:
        found = []
        for name in self._files.names(HOME):
            path = f"{HOME}/{name}"
            if name not in _OF_THE_DRIVER and name not in known and self._files.is_directory(path):
                found.append(Orphan("layer", name, path))
        for place in _OF_THE_DRIVER[1:]:
            names = self._files.names(f"{HOME}/{place}")
            found += [Orphan("leftover", name, f"{HOME}/{place}/{name}") for name in names]
        return found


def _is_record(item: Any) -> bool:
    return isinstance(item, dict) and bool(_LAYER_ID.match(str(item.get("id") or "")))


def _text(item: Mapping[str, Any], key: str) -> str:
    value = item.get(key)
    return value if isinstance(value, str) else ""


def _names(item: Mapping[str, Any]) -> list[str]:
    names = item.get("names")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _layer(item: Mapping[str, Any]) -> RootLayer:
    size = item.get("diff-size")
    return RootLayer(
        layer_id=_text(item, "id"),
        record_id=_text(item, "id"),
        diff_id=_text(item, "diff-digest"),
        parent=_text(item, "parent"),
        size=size if isinstance(size, int) else -1,
    )


def _image(item: Mapping[str, Any]) -> RootImage:
    return RootImage(_text(item, "id"), tuple(_names(item)), _text(item, "layer"))


def _container(item: Mapping[str, Any], parents: dict[str, str]) -> RootContainer:
    layer_id = _text(item, "layer")
    return RootContainer(
        container_id=_text(item, "id"),
        name=next(iter(_names(item)), ""),
        image_id=_text(item, "image"),
        layer_ids=(layer_id,) if layer_id else (),
        parent=parents.get(layer_id, ""),
    )
