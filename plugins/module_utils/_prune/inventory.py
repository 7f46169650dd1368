# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Lists everything in a store that could be pruned, and when it was last needed. Reads only.

The time of last use is the time of modification of a record: a name's file, a content's file, a layer's directory in
layerdb, the record of a detached upper. `_store/last_use` sets it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import HEX_ID, SHA256, link_id
from ansible_collections.strata.overlay.plugins.module_utils._image.db import stored_images
from ansible_collections.strata.overlay.plugins.module_utils._image.db_paths import config_file
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import read_text
from ansible_collections.strata.overlay.plugins.module_utils._mount.in_use import InMounts
from ansible_collections.strata.overlay.plugins.module_utils._mount.namespaces import (
    Everywhere,
    mounts_everywhere,
    used_by_mounts,
)
from ansible_collections.strata.overlay.plugins.module_utils._prune.model import Inventory
from ansible_collections.strata.overlay.plugins.module_utils._source.digest_cache import is_record, told_of
from ansible_collections.strata.overlay.plugins.module_utils._store.records import StackRecord, load
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store


def take_inventory(store: Store, leaving: AbstractSet[str] = frozenset()) -> Inventory:
    """Look at the whole store and at every mount. A store that does not exist holds nothing.

    :param leaving: mount points that are going to be left; what is mounted there does not count.
    """
    return _Taker(store, mounts_everywhere(), leaving).take()


class _Taker:
    def __init__(self, store: Store, everywhere: Everywhere, leaving: AbstractSet[str]) -> None:
        self._store = store
        self._everywhere = everywhere
        self._leaving = leaving

    def take(self) -> Inventory:
        store = self._store
        stacks = store.stacks()
        # An interrupted run may have written the record before the stack got its new layer.
        present = {record.stack_id for record in stacks.values()}
        detached_uppers = {
            stack_id: record for stack_id, record in self._detached_uppers().items() if stack_id not in present
        }
        names = {name: record for name, record in ((n, store.name_record(n)) for n in store.names()) if record}
        writable = {record.stack_id for record in [*stacks.values(), *detached_uppers.values()] if record.stack_id}
        directories = [name for name in _names_in(store.home) if HEX_ID.match(name) and name not in writable]
        recorded = set(_names_in(store.layerdb("").rstrip("/")))
        lost = tuple(name for name in directories if name not in recorded and self._is_writable(name))
        layer_ids = (set(directories) | {name for name in recorded if HEX_ID.match(name)}) - set(lost)
        used = used_by_mounts(self._everywhere, store.root, self._leaving)
        mounted_layers, mounted_contents = self._resolve(used, directories)
        return Inventory(
            names=names,
            name_use={name: _modified(store.name_file(name)) for name in names},
            stacks=stacks,
            detached_uppers=detached_uppers,
            detached_use={stack_id: _modified(store.detached_file(stack_id)) for stack_id in detached_uppers},
            contents=self._contents(),
            layers={SHA256 + name: _modified(store.layerdb(SHA256 + name)) for name in layer_ids},
            images={image_id: _modified(config_file(store, image_id)) for image_id in stored_images(store)},
            leftovers=tuple(leftovers(self._store)),
            lost_uppers=lost,
            mounts=used,
            mounted_contents=mounted_contents,
            mounted_layers=mounted_layers,
            unreadable=self._everywhere.unreadable,
            returns=tuple(self._returns(stacks)),
            sources=self._sources(),
        )

    def _sources(self) -> dict[str, tuple[str, ...]]:
        place = f"{self._store.root}/strata/sources"
        texts = ((name, read_text(f"{place}/{name}")) for name in _names_in(place) if is_record(name))
        return {name[: -len(".json")]: told_of(text) for name, text in texts if text is not None}

    def _returns(self, stacks: Mapping[str, StackRecord]) -> Iterator[tuple[str, ...]]:
        for name in stacks:
            change = self._store.change_record(name)
            if change is not None and change.back:
                yield change.back

    def _detached_uppers(self) -> dict[str, StackRecord]:
        found = {}
        for name in _names_in(f"{self._store.root}/strata/aside"):
            path = f"{self._store.root}/strata/aside/{name}"
            text = read_text(path) if name.endswith(".json") else None
            if text is not None:
                found[name[: -len(".json")]] = load(StackRecord, text, path)
        return found

    def _contents(self) -> dict[str, float]:
        directory = os.path.dirname(self._store.content(f"{SHA256}x"))
        found = {}
        for name in _names_in(directory):
            if HEX_ID.match(name):
                diff_id = SHA256 + name
                found[diff_id] = _modified(self._store.content_file(diff_id)) or _modified(f"{directory}/{name}")
        return found

    def _is_writable(self, name: str) -> bool:
        directory = self._store.layer(name)
        return os.path.lexists(f"{directory}/upper") or os.path.isdir(self._store.mountdb(name))

    def _resolve(self, used: InMounts, directories: list[str]) -> tuple[set[str], set[str]]:
        """Directories in overlay2/ and DiffIDs that mounts use."""
        by_link = {link_id(name): name for name in directories} if used.links else {}
        layers = used.layers | {by_link[link] for link in used.links if link in by_link}
        contents = {SHA256 + name for name in used.contents}
        return layers, contents | {self._diff_of(name) for name in layers}

    def _diff_of(self, layer_id: str) -> str:
        """The DiffID of a layer: as its record says, else as its link into content/ does."""
        text = read_text(f"{self._store.layerdb(SHA256 + layer_id)}/diff")
        if text:
            return text.strip()
        try:
            return SHA256 + os.path.basename(os.readlink(f"{self._store.layer(layer_id)}/diff"))
        except OSError:
            return ""


def leftovers(store: Store) -> Iterator[str]:
    """Paths in the store that killed runs left: staging without an owner, trash."""
    for name in store.abandoned():
        yield f"staging/{name}"
    for name in _names_in(f"{store.root}/trash"):
        yield f"trash/{name}"
    for name in _names_in(f"{store.root}/strata/sources") if store.is_own("strata/sources") else []:
        if not is_record(name):
            yield f"strata/sources/{name}"


def _names_in(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _modified(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0
