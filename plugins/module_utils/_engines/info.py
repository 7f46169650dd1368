# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Builds `store_info` for an engine's root: layers, images, containers, disk usage.

Bytes are those on disk, each counted once: a layer that two images share is in none of their own bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ansible_collections.strata.overlay.plugins.module_utils._engines.detect import read_engine_root
from ansible_collections.strata.overlay.plugins.module_utils._engines.model import EngineRoot, RootLayer, chain_of
from ansible_collections.strata.overlay.plugins.module_utils._linux.noatime import Measure, untouched


def engine_info(root: str, size: bool) -> dict[str, Any]:
    """Read the root without a trace and describe it.

    :param size: measure directories; without it bytes are None.
    """
    with untouched(root) as view:
        found = read_engine_root(root, view)
        return _Description(found, view, size).result()


class _Description:
    def __init__(self, found: EngineRoot, view: str, size: bool) -> None:
        self._found = found
        self._view = view
        self._measure = Measure() if size else None
        records = found.by_record()
        self._chains: dict[str, list[RootLayer]] = {
            top: chain_of(records, top)
            for top in [image.top for image in found.images] + [held.parent for held in found.containers]
        }
        self._bytes = {
            layer.record_id: self._tree(f"{found.home}/{layer.layer_id}") if layer.layer_id else None
            for layer in found.layers
        }

    def _tree(self, path: str) -> Optional[int]:
        return None if self._measure is None else self._measure.tree(f"{self._view}/{path}")

    def result(self) -> dict[str, Any]:
        """As the RETURN of ``store_info`` says."""
        orphans = [
            {"kind": orphan.kind, "path": orphan.path, "bytes": self._tree(orphan.path)}
            for orphan in self._found.orphans
        ]
        containers = self._containers()
        usage = self._usage(containers, orphans)
        missed = self._missed()
        return {
            "exists": True,
            "engine": self._found.engine,
            "layers": self._layers(),
            "images": self._images(),
            "containers": containers,
            "orphans": orphans,
            "damages": [{"path": damage.path, "text": damage.description} for damage in self._found.damages],
            "usage": usage,
            "unmeasured": missed,
            "warnings": missed,
        }

    def _missed(self) -> list[str]:
        """What could not be measured, by its path in the root."""
        missed = self._measure.missed if self._measure else []
        prefix = f"{self._view}/"
        inside = (message[len(prefix) :] if message.startswith(prefix) else message for message in missed)
        return list(dict.fromkeys(message[2:] if message.startswith("./") else message for message in inside))

    def _layers(self) -> list[dict[str, Any]]:
        images: dict[str, list[str]] = {}
        for image in self._found.images:
            for layer in self._chains[image.top]:
                images.setdefault(layer.record_id, []).append(next(iter(image.names), image.image_id))
        containers: dict[str, list[str]] = {}
        for held in self._found.containers:
            for layer in self._chains[held.parent]:
                containers.setdefault(layer.record_id, []).append(held.name or held.container_id)
        return [
            {
                "chain_id": layer.record_id if self._found.engine == "docker" else "",
                "layer_id": layer.layer_id,
                "diff_id": layer.diff_id,
                "parent": layer.parent,
                "size": max(layer.size, 0),
                "bytes": self._bytes[layer.record_id],
                "names": images.get(layer.record_id, []),
                "containers": containers.get(layer.record_id, []),
            }
            for layer in self._found.layers
        ]

    def _images(self) -> list[dict[str, Any]]:
        uses = self._uses()
        held_by: dict[str, list[str]] = {}
        for held in self._found.containers:
            held_by.setdefault(held.image_id, []).append(held.name or held.container_id)
        found = []
        for image in self._found.images:
            chain = [layer.record_id for layer in self._chains[image.top]]
            alone = {layer for layer in chain if uses.get(layer) == {image.image_id}}
            found.append(
                {
                    "image_id": image.image_id,
                    "names": list(image.names),
                    "layers": len(chain),
                    "bytes": self._sum(set(chain)),
                    "unique_bytes": self._sum(alone),
                    "containers": held_by.get(image.image_id, []),
                }
            )
        return found

    def _uses(self) -> dict[str, set[str]]:
        uses: dict[str, set[str]] = {}
        for image in self._found.images:
            for layer in self._chains[image.top]:
                uses.setdefault(layer.record_id, set()).add(image.image_id)
        return uses

    def _containers(self) -> list[dict[str, Any]]:
        return [
            {
                "container_id": held.container_id,
                "name": held.name,
                "image_id": held.image_id,
                "writable_bytes": self._total([self._tree(f"{self._found.home}/{name}") for name in held.layer_ids]),
            }
            for held in self._found.containers
        ]

    def _usage(
        self, containers: Sequence[Mapping[str, Any]], orphans: Sequence[Mapping[str, Any]]
    ) -> dict[str, Optional[int]]:
        everything = {layer.record_id for layer in self._found.layers}
        held = {layer.record_id for item in self._found.containers for layer in self._chains[item.parent]}
        shared = {layer for layer, images in self._uses().items() if len(images) > 1}
        layers = self._sum(everything)
        writable = self._total([item["writable_bytes"] for item in containers])
        lost = self._total([item["bytes"] for item in orphans if item["kind"] != "build_cache"])
        cache = self._total([item["bytes"] for item in orphans if item["kind"] == "build_cache"])
        return {
            "content_bytes": layers,
            "used_bytes": self._sum(held),
            "shared_bytes": self._sum(shared),
            "reclaimable_bytes": self._sum(everything - held),
            "writable_bytes": writable,
            "orphaned_bytes": lost,
            "build_cache_bytes": cache,
            "total_bytes": None if self._measure is None else self._whole(self._measure),
        }

    def _whole(self, parts: Measure) -> int:
        """Bytes of the root, by a measure of its own: that of the parts takes files with several links for counted."""
        whole = Measure()
        found = whole.tree(f"{self._view}/.")
        parts.missed += whole.missed
        return found

    def _sum(self, layers: set[str]) -> Optional[int]:
        return self._total([self._bytes[layer] for layer in layers if layer in self._bytes])

    def _total(self, values: list[Optional[int]]) -> Optional[int]:
        return None if self._measure is None else sum(value or 0 for value in values)
