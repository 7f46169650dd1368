# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""A picture of a whole store: layers, names, stacks, disk use and what the host can do. Reads only."""

from __future__ import annotations

import os
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Mapping, NoReturn, Set, Tuple

from ansible_collections.strata.overlay.plugins.module_utils import _mountinfo
from ansible_collections.strata.overlay.plugins.module_utils._abilities import find_abilities
from ansible_collections.strata.overlay.plugins.module_utils._chain import SHA256, chain_ids
from ansible_collections.strata.overlay.plugins.module_utils._module import guarded
from ansible_collections.strata.overlay.plugins.module_utils._mounts import of_store_at
from ansible_collections.strata.overlay.plugins.module_utils._records import NameRecord, StackRecord
from ansible_collections.strata.overlay.plugins.module_utils._store import Store, read_text
from ansible_collections.strata.overlay.plugins.module_utils._storeabilities import store_abilities

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

_HEX = re.compile(r"^[0-9a-f]{64}$")


def store_info(store: Store) -> Dict[str, Any]:
    """What the module ``store_info`` returns. A store that does not exist is an empty one."""
    records = ((name, store.name_record(name)) for name in store.names())
    names = {name: record for name, record in records if record is not None}
    stacks = store.stacks()
    sizes = _content_sizes(store)
    abilities = find_abilities()
    return {
        "exists": store.exists(),
        "layers": _layers(store, names, stacks),
        "names": [asdict(record) for _name, record in sorted(names.items())],
        "stacks": _stacks(store, stacks),
        "usage": _usage(store, names, stacks, sizes),
        "abilities": {
            **asdict(abilities),
            "max_layers": abilities.layer_limit(),
            **store_abilities(store.root, abilities),
        },
    }


def _directories(path: str) -> List[str]:
    try:
        return sorted(name for name in os.listdir(path) if _HEX.match(name))
    except FileNotFoundError:
        return []


def _layers(store: Store, names: Mapping[str, NameRecord], stacks: Mapping[str, StackRecord]) -> List[Dict[str, Any]]:
    """Every layer in layerdb, and who uses it."""
    used_by: Dict[str, List[str]] = {}
    for name, record in sorted(stacks.items()):
        for chain_id in chain_ids(record.diff_ids):
            used_by.setdefault(chain_id, []).append(name)
    named: Dict[str, List[str]] = {}
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
                "parent": files["parent"] or "",
                "size": int(size) if size.isdigit() else 0,
                "names": named.get(chain_id, []),
                "stacks": used_by.get(chain_id, []),
            }
        )
    return layers


def _stacks(store: Store, stacks: Mapping[str, StackRecord]) -> List[Dict[str, Any]]:
    mounts = _mountinfo.read()
    found = []
    for name, record in sorted(stacks.items()):
        mounted = bool(of_store_at(mounts, os.path.realpath(record.path), store.root)) if store.exists() else False
        found.append(
            {
                "name": name,
                "path": record.path,
                "state": "mounted" if mounted else "unmounted",
                "writable": record.writable,
                "layers": list(record.layers),
                "diff_ids": list(record.diff_ids),
                "chain_id": chain_ids(record.diff_ids)[-1],
                "generation": record.generation,
                "generations": [asdict(generation) for generation in record.history],
                "writable_bytes": allocated(_upper(store, record)) if record.stack_id else 0,
            }
        )
    return found


def _upper(store: Store, record: StackRecord) -> str:
    return os.path.realpath(f"{store.layer(record.stack_id)}/diff")


def _content_sizes(store: Store) -> Dict[str, int]:
    """Bytes on disk of every content, by DiffID."""
    directory = os.path.dirname(store.content("sha256:x"))
    return {SHA256 + name: allocated(f"{directory}/{name}") for name in _directories(directory)}


def _usage(
    store: Store,
    names: Mapping[str, NameRecord],
    stacks: Mapping[str, StackRecord],
    sizes: Mapping[str, int],
) -> Dict[str, int]:
    """Bytes on disk, each counted once."""
    users = [set(record.diff_ids) for record in stacks.values()]
    in_stacks = _union(users)
    kept = _union(set(generation.diff_ids) for record in stacks.values() for generation in record.history)
    referred = kept | _union(set(record.diff_ids) for record in names.values())
    uppers = [
        _upper(store, record) for record in stacks.values() if record.stack_id and record.writable == "persistent"
    ]
    shared = {diff_id for diff_id in in_stacks if sum(diff_id in user for user in users) > 1}
    return {
        "content_bytes": sum(sizes.values()),
        "used_bytes": _sum(sizes, in_stacks),
        "shared_bytes": _sum(sizes, shared),
        "reclaimable_bytes": _sum(sizes, set(sizes) - referred),
        "writable_bytes": sum(allocated(upper) for upper in uppers),
        "total_bytes": allocated(store.root),
    }


def _union(sets: Iterable[Set[str]]) -> Set[str]:
    return set().union(*sets)


def _sum(sizes: Mapping[str, int], chosen: Set[str]) -> int:
    return sum(size for diff_id, size in sizes.items() if diff_id in chosen)


def allocated(top: str) -> int:
    """Bytes that a tree takes on its file system, hard links once, nothing of other file systems mounted in it."""
    seen: Set[Tuple[int, int]] = set()
    total = 0
    pending = [top]
    try:
        device = os.lstat(top).st_dev
    except FileNotFoundError:
        return 0
    while pending:
        path = pending.pop()
        facts = os.lstat(path)
        if facts.st_dev != device or (facts.st_dev, facts.st_ino) in seen:
            continue
        seen.add((facts.st_dev, facts.st_ino))
        total += facts.st_blocks * 512
        if os.path.isdir(path) and not os.path.islink(path):
            pending.extend(entry.path for entry in os.scandir(path))
    return total


def run_info(module: AnsibleModule) -> NoReturn:
    """Describe the store of a module's parameters and end the module."""

    def look() -> Dict[str, Any]:
        store = Store(module.params["root"])
        with store.reading(module.params["lock_timeout"]):
            return store_info(store)

    module.exit_json(changed=False, **guarded(module, look))
