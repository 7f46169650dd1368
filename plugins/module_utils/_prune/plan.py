# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""plan_prune(inventory, spec) returns the removals. Pure: check mode shows them, a run does them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Callable

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import (
    chain_ids,
    copy_id,
    hex_of,
    link_id,
    short,
)
from ansible_collections.strata.overlay.plugins.module_utils._definition.prune import PruneSpec
from ansible_collections.strata.overlay.plugins.module_utils._image.db_paths import config_file, metadata_directory
from ansible_collections.strata.overlay.plugins.module_utils._prune.model import Inventory, Key, PrunePlan, Removal
from ansible_collections.strata.overlay.plugins.module_utils._store.paths import StorePaths
from ansible_collections.strata.overlay.plugins.module_utils._store.records import NameRecord

KINDS = ("name", "image", "layer", "content", "upper", "source", "leftover")
"""The order of removal: first what refers, then what is referred to."""


@dataclass(frozen=True)
class Measured:
    """Bytes of the whole store and of what could go, for ``max_bytes``."""

    total: int
    sizes: Mapping[Key, int]


def removable(store: StorePaths, inventory: Inventory, spec: PruneSpec, protected: AbstractSet[str]) -> list[Removal]:
    """Everything that a prune could ever remove, whatever its age: what ``max_bytes`` needs measured."""
    everything = replace(spec, unused_for=0, max_bytes=None)
    return list(_Planner(store, inventory, everything, protected, 0.0).plan(None).removals)


def plan_prune(
    store: StorePaths,
    inventory: Inventory,
    spec: PruneSpec,
    protected: AbstractSet[str],
    now: float,
    measured: Measured | None = None,
) -> PrunePlan:
    """What goes.

    :param store: for its paths alone.
    :param protected: names that stay because the definition at hand has them.
    :param measured: needed where the spec has ``max_bytes``.
    """
    limit = now - (spec.unused_for or 0)
    return _Planner(store, inventory, spec, protected, limit).plan(measured)


class _Planner:
    """Counts references; what has none left may go.

    :param limit: what was used after it stays; 0 in ``removable`` stands for no limit.
    """

    def __init__(
        self, store: StorePaths, inventory: Inventory, spec: PruneSpec, protected: AbstractSet[str], limit: float
    ) -> None:
        self._store = store
        self._inventory = inventory
        self._spec = spec
        self._limit = limit
        self._stack_names, chains = _of_stacks(inventory)
        self._pinned_contents = {d for chain in chains for d in chain} | inventory.mounted_contents
        self._pinned_layers = {layer for chain in chains for layer in chain_ids(chain)}
        self._chains = chains
        self._protected = protected
        self._content_names: Counter[str] = Counter()
        self._layer_names: Counter[str] = Counter()
        self._image_names = Counter(record.image_id for record in inventory.names.values())
        for record in inventory.names.values():
            self._content_names.update(set(record.diff_ids))
            self._layer_names.update(chain_ids(record.diff_ids))
        self._freed: dict[Key, float] = {}
        """What belonged to names that go, with the last use of the last of these."""
        self._chosen: dict[Key, Removal] = {}

    def plan(self, measured: Measured | None) -> PrunePlan:
        """Choose by age and labels, then by size."""
        by_name = self._spec.unused_for is not None or (bool(self._spec.labels) and self._spec.max_bytes is None)
        for name in self._candidates() if by_name else []:
            if self._is_old(self._inventory.name_use[name]):
                self._drop_name(name)
        for removal in self._unreferenced():
            if self._is_old(removal.used):
                self._choose(removal)
        notes = list(self._notes())
        if self._spec.max_bytes is not None and measured is not None:
            notes += self._shrink(self._spec.max_bytes, measured)
        for removal in self._sources():
            self._choose(removal)
        for path in self._inventory.leftovers:
            self._choose(_leftover(self._store, path))
        ordered = sorted(self._chosen.values(), key=lambda removal: (KINDS.index(removal.kind), removal.id))
        return PrunePlan(tuple(ordered), tuple(notes))

    def _is_old(self, used: float) -> bool:
        # Without unused_for age does not matter, and a clock that was set back must not either.
        return self._spec.unused_for is None or not self._limit or used <= self._limit

    def _choose(self, removal: Removal) -> None:
        self._chosen[removal.key] = removal

    # Names.

    def _candidates(self) -> list[str]:
        """Names that may go if they are old enough."""
        wanted = set(self._spec.labels)
        return [
            name
            for name, record in self._inventory.names.items()
            if name not in self._protected
            and not self._spec.keeps(name)
            and name not in self._stack_names
            and wanted <= set(record.labels.items())
            and not any(_is_part(record.diff_ids, chain) for chain in self._chains)
        ]

    def _drop_name(self, name: str) -> list[Key]:
        """Choose a name; returns what it was the last one to refer to."""
        record = self._inventory.names[name]
        used = self._inventory.name_use[name]
        self._choose(_name(self._store, record, used))
        freed: list[Key] = []
        for kind, ids, counts in (
            ("content", set(record.diff_ids), self._content_names),
            ("layer", set(chain_ids(record.diff_ids)), self._layer_names),
            ("image", {record.image_id} - {""}, self._image_names),
        ):
            for item in sorted(ids):
                counts[item] -= 1
                key = (kind, item)
                self._freed[key] = max(self._freed.get(key, 0.0), used)
                if counts[item] == 0:
                    freed.append(key)
        return freed

    # Contents, layers, detached uppers.

    def _unreferenced(self) -> list[Removal]:
        """Everything without references; with labels, only what belonged to a name that goes."""
        if self._inventory.unreadable:
            return []
        found: list[Removal] = []
        keys = [("image", item) for item in self._inventory.images if not self._image_names[item]]
        keys += [("layer", item) for item in self._inventory.layers if not self._layer_names[item]]
        keys += [("content", item) for item in self._inventory.contents if not self._content_names[item]]
        for key in keys:
            if not self._spec.labels or key in self._freed:
                found += self._removal(key)
        return found if self._spec.labels else [*found, *self._detached_uppers()]

    def _removal(self, key: Key) -> list[Removal]:
        """The removal of an image, content or layer that no name refers to; none where a stack or a mount needs it."""
        kind, item = key
        if kind == "content":
            if item not in self._inventory.contents or item in self._pinned_contents:
                return []
            used = max(self._inventory.contents[item], self._freed.get(key, 0.0))
            return [_content(self._store, item, used)]
        if kind == "image":
            images = self._inventory.images
            return [_image(self._store, item, max(images[item], self._freed.get(key, 0.0)))] if item in images else []
        pinned = item in self._pinned_layers or hex_of(item) in self._inventory.mounted_layers
        if item not in self._inventory.layers or pinned:
            return []
        return [_layer(self._store, item, max(self._inventory.layers[item], self._freed.get(key, 0.0)))]

    def _sources(self) -> list[Removal]:
        """Cache records of archives whose contents are all gone, or go with this prune."""
        needed = self._pinned_contents | {item for item, count in self._content_names.items() if count}
        gone = {item for kind, item in self._chosen if kind == "content"}
        if self._spec.labels:
            needed |= {item for ids in self._inventory.sources.values() for item in ids} - gone
        here = (set(self._inventory.contents) - gone) | needed
        return [_source(self._store, key) for key, ids in self._inventory.sources.items() if not here & set(ids)]

    def _detached_uppers(self) -> list[Removal]:
        return [
            _upper(self._store, stack_id, record.name, self._inventory.detached_use[stack_id])
            for stack_id, record in self._inventory.detached_uppers.items()
            if stack_id not in self._inventory.mounted_layers and not self._spec.keeps(record.name)
        ]

    # Size.

    def _shrink(self, most: int, measured: Measured) -> list[str]:
        """Choose more, the longest unused first, until the store fits."""

        def left() -> int:
            return measured.total - sum(measured.sizes.get(key, 0) for key in self._chosen)

        leftovers = sum(measured.sizes.get(("leftover", path), 0) for path in self._inventory.leftovers)
        remaining = left() - leftovers
        pool: list[tuple[float, Key, Callable[[], list[Key]]]] = [
            (self._inventory.name_use[name], ("name", name), self._dropper(name))
            for name in self._candidates()
            if ("name", name) not in self._chosen
        ]
        pool += [
            (removal.used, removal.key, self._chooser(removal))
            for removal in self._unreferenced()
            if removal.key not in self._chosen
        ]
        for _used, _key, take in sorted(pool, key=lambda item: item[:2]):
            if remaining <= most:
                break
            remaining -= sum(measured.sizes.get(key, 0) for key in take())
        if remaining > most:
            return [f"max_bytes: {remaining} bytes are in use or kept; the store cannot shrink to {most} bytes"]
        return []

    def _chooser(self, removal: Removal) -> Callable[[], list[Key]]:
        def take() -> list[Key]:
            self._choose(removal)
            return [removal.key]

        return take

    def _dropper(self, name: str) -> Callable[[], list[Key]]:
        def take() -> list[Key]:
            taken: list[Key] = [("name", name)]
            for key in self._drop_name(name):
                for removal in [] if self._inventory.unreadable else self._removal(key):
                    self._choose(removal)
                    taken.append(key)
            return taken

        return take

    def _notes(self) -> Sequence[str]:
        notes = [
            f"{text}; contents, layers and writable layers are kept, since it may use them"
            for text in self._inventory.unreadable
        ]
        notes += [
            f"overlay2/{name} is a writable layer that no record knows; it is kept, and store_check tells more"
            for name in self._inventory.lost_uppers
        ]
        mounted = self._inventory.mounted_layers & set(self._inventory.detached_uppers)
        return notes + [f"overlay2/{name} was set aside and is still mounted; it is kept" for name in sorted(mounted)]


def _of_stacks(inventory: Inventory) -> tuple[set[str], set[tuple[str, ...]]]:
    """Names that kept generations were written with, and their chains; also those of unfinished changes."""
    generations = [generation for record in inventory.stacks.values() for generation in record.history]
    names = {name for generation in generations for name in generation.layers}
    return names, {
        *(generation.diff_ids for generation in generations),
        *(record.shown for record in inventory.stacks.values()),
        *inventory.returns,
        *((copy_id(chain),) for chain in inventory.returns),
    }


def _is_part(part: Sequence[str], chain: Sequence[str]) -> bool:
    """Whether a chain contains another one as a contiguous part."""
    length = len(part)
    return any(tuple(chain[start : start + length]) == tuple(part) for start in range(len(chain) - length + 1))


# The paths of each removal.


def _since(used: float) -> str:
    """The day alone: what a run lets go was last used by that run, a moment later than its check mode says."""
    if not used:
        return ""
    return datetime.fromtimestamp(used, timezone.utc).strftime(", last used %Y-%m-%d")


def _name(store: StorePaths, record: NameRecord, used: float) -> Removal:
    message = f"forget the name '{record.name}'{_since(used)}"
    return Removal("name", record.name, (store.name_file(record.name),), used, message)


def _image(store: StorePaths, image_id: str, used: float) -> Removal:
    config = config_file(store, image_id)
    paths = (config, metadata_directory(store, image_id))
    return Removal("image", image_id, paths, used, f"delete the config of image {short(image_id)}{_since(used)}")


def _content(store: StorePaths, diff_id: str, used: float) -> Removal:
    # The record last: a content without its record looks like damage; a record without its content is harmless.
    paths = (store.content(diff_id), store.content_file(diff_id))
    return Removal("content", diff_id, paths, used, f"delete content {short(diff_id)}{_since(used)}")


def _layer(store: StorePaths, chain_id: str, used: float) -> Removal:
    layer_id = hex_of(chain_id)
    paths = (store.layerdb(chain_id), store.layer(layer_id), store.link(link_id(layer_id)))
    return Removal("layer", chain_id, paths, used, f"delete layer {short(chain_id)}{_since(used)}")


def _upper(store: StorePaths, stack_id: str, stack: str, used: float) -> Removal:
    paths = (
        store.detached_file(stack_id),
        store.mountdb(stack_id),
        store.layer(stack_id),
        store.link(link_id(stack_id)),
    )
    message = f"delete the writable layer {stack_id[:12]} that stack {stack} has left{_since(used)}"
    return Removal("upper", stack_id, paths, used, message)


def _source(store: StorePaths, key: str) -> Removal:
    message = f"forget what archive {key[:12]} was found to be: nothing of it is in the store"
    return Removal("source", key, (store.source_file(key),), 0.0, message)


def _leftover(store: StorePaths, path: str) -> Removal:
    return Removal("leftover", path, (f"{store.root}/{path}",), 0.0, f"delete {path}, left by a run that was ended")
