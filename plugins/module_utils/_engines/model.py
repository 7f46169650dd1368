# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""A container engine's root as one value, whichever engine it is. Pure.

`_engines/docker` and `_engines/podman` make it; `store_info` and `store_check` read it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

LONGEST_CHAIN = 500
"""Layers of one chain that are looked at: Docker mounts 128, Podman and the kernel 500."""


@dataclass(frozen=True)
class RootLayer:
    """One layer on record.

    :ivar layer_id: its directory in the driver's home: Docker's cache-id, Podman's layer id; ``""`` where the record
        has lost it.
    :ivar record_id: how other records name it: Docker's ChainID, Podman's layer id.
    :ivar parent: ``record_id`` of the layer below, ``""`` for a base layer.
    :ivar size: bytes of file contents as the engine recorded them, -1 where it did not.
    """

    layer_id: str
    record_id: str
    diff_id: str
    parent: str
    size: int


@dataclass(frozen=True)
class RootImage:
    """One image on record; ``top`` is the ``record_id`` of its uppermost layer, ``""`` for an image without layers."""

    image_id: str
    names: tuple[str, ...]
    top: str


@dataclass(frozen=True)
class RootContainer:
    """One container on record.

    :ivar layer_ids: directories of its own in the driver's home: its writable layer first, then Docker's init layer.
    :ivar parent: ``record_id`` of the image's uppermost layer.
    """

    container_id: str
    name: str
    image_id: str
    layer_ids: tuple[str, ...]
    parent: str


@dataclass(frozen=True)
class Orphan:
    """A directory in the driver's home that no record knows.

    :ivar kind: ``layer`` for what looks like a layer; ``leftover`` for what an interrupted import or removal left;
        ``build_cache`` for one that BuildKit's own database, which cannot be read from here, speaks of.
    :ivar path: relative to the root.
    """

    kind: str
    name: str
    path: str


@dataclass(frozen=True)
class Damage:
    """A record that cannot be read: ``path`` relative to the root, and what is wrong with it."""

    path: str
    description: str


@dataclass(frozen=True)
class EngineRoot:
    """Everything that a root's records say, and what in it no record knows.

    :ivar engine: ``docker`` or ``podman``.
    :ivar root: the directory, as the user gave it.
    :ivar home: the driver's directory, relative to the root: ``overlay2`` or ``overlay``.
    """

    engine: str
    root: str
    home: str
    layers: tuple[RootLayer, ...]
    images: tuple[RootImage, ...]
    containers: tuple[RootContainer, ...]
    orphans: tuple[Orphan, ...]
    damages: tuple[Damage, ...]

    def by_record(self) -> dict[str, RootLayer]:
        """Layers by ``record_id``."""
        return {layer.record_id: layer for layer in self.layers}

    def chain(self, top: str) -> list[RootLayer]:
        """A layer and all those below it, uppermost first, as far as records go."""
        return chain_of(self.by_record(), top)

    def missing(self, present: set[str]) -> list[str]:
        """Directories that records speak of and that are not among those present."""
        known = [layer.layer_id for layer in self.layers]
        known += [layer_id for container in self.containers for layer_id in container.layer_ids]
        return [layer_id for layer_id in dict.fromkeys(known) if layer_id and layer_id not in present]


def with_faults(found: EngineRoot, faults: Mapping[str, str]) -> EngineRoot:
    """A copy with more unreadable records, path -> reason."""
    known = {damage.path for damage in found.damages}
    more = [Damage(path, message) for path, message in faults.items() if path not in known]
    return replace(found, damages=(*found.damages, *more)) if more else found


def deep_chains(layers: Sequence[RootLayer], path: str) -> dict[str, str]:
    """What is wrong with chains that are too long to be looked at: ``path`` -> in words; nothing where none is.

    :param path: of the records that say so.
    """
    records = {layer.record_id: layer for layer in layers}
    depths: dict[str, int] = {}
    for layer in layers:
        way: list[str] = []
        at = layer.record_id
        while at in records and at not in depths:
            depths[at] = 0  # whoever leads back here ends the chain
            way.append(at)
            at = records[at].parent
        depth = depths.get(at, 0)
        for above in reversed(way):
            depth += 1
            depths[above] = depth
    count = sum(depth > LONGEST_CHAIN for depth in depths.values())
    if not count:
        return {}
    return {
        path: f"{count} layers lie on {LONGEST_CHAIN} or more others, which nothing can mount; of each chain that many "
        "are looked at"
    }


def chain_of(layers: Mapping[str, RootLayer], top: str) -> list[RootLayer]:
    """As ``EngineRoot.chain``, for who asks often; a record that leads back to one above it ends the chain, and so does
    its length.
    """
    found: dict[str, RootLayer] = {}
    while top in layers and top not in found and len(found) < LONGEST_CHAIN:
        found[top] = layers[top]
        top = layers[top].parent
    return list(found.values())
