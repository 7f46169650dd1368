# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Builds `store_info`: layers, names, stacks, disk usage, host features. Reads only."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Optional

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import HEX_ID, SHA256, chain_ids
from ansible_collections.strata.overlay.plugins.module_utils._engines.detect import engine_of
from ansible_collections.strata.overlay.plugins.module_utils._engines.info import engine_info
from ansible_collections.strata.overlay.plugins.module_utils._image.db import read_stored, stored_images
from ansible_collections.strata.overlay.plugins.module_utils._info.features import store_abilities
from ansible_collections.strata.overlay.plugins.module_utils._info.stack import recorded, stack_drift
from ansible_collections.strata.overlay.plugins.module_utils._info.usage import Usage
from ansible_collections.strata.overlay.plugins.module_utils._linux import mountinfo
from ansible_collections.strata.overlay.plugins.module_utils._linux.features import find_abilities
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import read_text
from ansible_collections.strata.overlay.plugins.module_utils._linux.mounts import Mount
from ansible_collections.strata.overlay.plugins.module_utils._linux.overlay_mounts import served
from ansible_collections.strata.overlay.plugins.module_utils._module import exit_module, guarded
from ansible_collections.strata.overlay.plugins.module_utils._mount.request import (
    driver_at,
    is_of_store,
    of_store_at,
    root_on_device,
)
from ansible_collections.strata.overlay.plugins.module_utils._source.source_digest import SourceDigests
from ansible_collections.strata.overlay.plugins.module_utils._store.recorded import lower_links
from ansible_collections.strata.overlay.plugins.module_utils._store.records import KEYS, NameRecord, StackRecord
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store, open_store

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


def store_info(store: Store, size: bool = True) -> dict[str, Any]:
    """What the module ``store_info`` returns. A store that does not exist is an empty one.

    :param size: measure what no record has the size of; without it such bytes are None.
    """
    records = ((name, store.name_record(name)) for name in store.names())
    names = {name: record for name, record in records if record is not None}
    stacks = store.stacks()
    sources = SourceDigests(store)
    usage = Usage(store, names, stacks, size)
    mounts = mountinfo.read(store.home)
    totals = usage.totals()
    return {
        "exists": store.exists(),
        "engine": "strata",
        "layers": _layers(store, names, stacks, sources),
        "images": _images(store, names),
        "names": [{**_name_facts(record), **usage.of_name(name)} for name, record in sorted(names.items())],
        "stacks": _stacks(store, stacks, mounts, usage.uppers, sources),
        "mounts": _mounts(store, stacks, mounts),
        "usage": totals,
        "unmeasured": usage.missed(),
        "warnings": usage.missed(),
        "abilities": _abilities(store.root),
    }


def _name_facts(record: NameRecord) -> dict[str, Any]:
    """What is returned of a name: its own facts, and nothing that a later release has added to the record."""
    return {attribute: getattr(record, attribute) for attribute in KEYS[NameRecord]}


def _abilities(root: str) -> dict[str, Any]:
    abilities = find_abilities()
    return {**abilities._asdict(), "max_layers": abilities.layer_limit(), **store_abilities(root, abilities)}


def _directories(path: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(path) if HEX_ID.match(name))
    except FileNotFoundError:
        return []


def _layers(
    store: Store, names: Mapping[str, NameRecord], stacks: Mapping[str, StackRecord], sources: SourceDigests
) -> list[dict[str, Any]]:
    """Every layer in layerdb, and who uses it."""
    used_by: dict[str, list[str]] = {}
    for name, record in sorted(stacks.items()):
        for chain_id in dict.fromkeys((*chain_ids(record.diff_ids), *chain_ids(record.shown))):
            used_by.setdefault(chain_id, []).append(name)
    named: dict[str, list[str]] = {}
    for name, label in sorted(names.items()):
        named.setdefault(chain_ids(label.diff_ids)[-1], []).append(name)
    layers = []
    for layer_id in _directories(store.layerdb("").rstrip("/")):
        chain_id = SHA256 + layer_id
        files = {key: read_text(f"{store.layerdb(chain_id)}/{key}") for key in ("diff", "parent", "size")}
        size = files["size"] or ""
        layers.append(
            {
                "chain_id": chain_id,
                "diff_id": files["diff"] or "",
                "source_digest": sources.of(files["diff"] or ""),
                "parent": files["parent"] or "",
                "size": int(size) if size.isdigit() else 0,
                "names": named.get(chain_id, []),
                "stacks": used_by.get(chain_id, []),
            }
        )
    return layers


def _images(store: Store, names: Mapping[str, NameRecord]) -> list[dict[str, Any]]:
    """Every image whose config is there, and its names."""
    found = []
    for image_id in stored_images(store):
        config = read_stored(store, image_id)
        if config is not None:
            found.append(
                {
                    "image_id": image_id,
                    "platform": str(config.platform),
                    "diff_ids": list(config.diff_ids),
                    "chain_id": chain_ids(config.diff_ids)[-1],
                    "names": sorted(name for name, record in names.items() if record.image_id == image_id),
                }
            )
    return found


def _stacks(
    store: Store,
    stacks: Mapping[str, StackRecord],
    mounts: Sequence[Mount],
    uppers: Mapping[str, Optional[int]],
    sources: SourceDigests,
) -> list[dict[str, Any]]:
    found = []
    for name, record in sorted(stacks.items()):
        ours = of_store_at(mounts, os.path.realpath(record.path), store.root)
        found.append(
            {
                "name": name,
                "state": "mounted" if ours else "unmounted",
                "drift": stack_drift(store, record, mounts, ours),
                **recorded(record),
                "source_chain_id": chain_ids(tuple(map(sources.of, record.diff_ids)))[-1],
                "writable_bytes": uppers[name],
            }
        )
    return found


def _mounts(store: Store, stacks: Mapping[str, StackRecord], mounts: Sequence[Mount]) -> list[dict[str, Any]]:
    """Every mount of this store that this mount namespace has, on record or not."""
    if not store.exists():
        return []
    names = {os.path.realpath(record.path): name for name, record in stacks.items()}
    place = root_on_device(mounts, store.root)
    return [
        {
            "path": mount.path,
            "stack": names.get(mount.path, ""),
            "type": driver_at(mount, place) or "bind",
            "read_only": mount.read_only,
            "layers": _layer_count(store, mount) if driver_at(mount, place) else 1,
        }
        for mount in mounts
        if is_of_store(mount, store.home, place)
    ]


def _layer_count(store: Store, mount: Mount) -> int:
    """How many layers a mount of this store shows."""
    shown = served(mount)
    if shown is None:
        return len(mount.lowers()) or 1
    return 1 + len(lower_links(store.layer(shown.top)))


def run_info(module: AnsibleModule) -> NoReturn:
    """Describe the root of a module's parameters and end the module."""

    def look() -> dict[str, Any]:
        root, size = module.params["root"], module.params["size"]
        if engine_of(root):
            return {**engine_info(root, size), "abilities": _abilities(root)}
        store = open_store(root)
        with store.reading(module.params["lock_timeout"]):
            return store_info(store, size)

    exit_module(module, {"changed": False, **guarded(module, look)})
