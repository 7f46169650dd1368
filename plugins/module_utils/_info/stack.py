# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.
"""Builds `stack_info`: record, mount, changes, and who still uses old trees. Reads only."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import chain_ids
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.validate import nearest
from ansible_collections.strata.overlay.plugins.module_utils._layer.changes import Change, find_changes
from ansible_collections.strata.overlay.plugins.module_utils._linux import mountinfo, syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.holders import holders_of_devices
from ansible_collections.strata.overlay.plugins.module_utils._linux.mounts import Mount
from ansible_collections.strata.overlay.plugins.module_utils._module import exit_module, guarded
from ansible_collections.strata.overlay.plugins.module_utils._mount.path_check import ended
from ansible_collections.strata.overlay.plugins.module_utils._mount.request import (
    mismatch,
    mount_request,
    of_store_at,
    root_on_device,
    shown_content,
)
from ansible_collections.strata.overlay.plugins.module_utils._store.layout import lower_trees, upper_tree
from ansible_collections.strata.overlay.plugins.module_utils._store.records import StackRecord, record_data
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store, open_store

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


def stack_info(store: Store, name: str, changes: bool = False) -> dict[str, Any]:
    """What the module ``stack_info`` returns; StrataError where the store knows no such stack."""
    record = known_stack(store, name)
    mounts = mountinfo.read(store.home)
    ours = of_store_at(mounts, os.path.realpath(record.path), store.root)
    seen = {line.device for line in mounts}
    changed = {"changes": [change._asdict() for change in stack_changes(store, record)]} if changes else {}
    return {
        "name": name,
        "record": record_data(record),
        "mounted": bool(ours),
        "drift": stack_drift(store, record, mounts, ours),
        **recorded(record),
        "hidden": stack_hidden(store, record),
        "held_by": [holder.result() for holder in holders_of_devices(set(record.left) - seen)],
        **changed,
    }


def stack_drift(store: Store, record: StackRecord, mounts: Sequence[Mount], ours: Sequence[Mount]) -> str:
    """How what is mounted differs from a stack's record, in words; "" where it does not.

    :param ours: those of all mounts that are the store's at the stack's path.
    """
    if not ours:
        return "it is not mounted" if record.mounted else ""
    request = mount_request(store.home, record)
    content = root_on_device(mounts, shown_content(store.root, record))
    wrong = [mismatch(line, request, content) or ended(line.path) for line in ours]
    if not record.mounted:
        return "it is mounted, and is not to be"
    return "it is mounted more than once" if len(wrong) > 1 else wrong[0]


def known_stack(store: Store, name: str) -> StackRecord:
    """The record of a stack; StrataError where the store knows none of this name."""
    record = store.stack_record(name)
    if record is None:
        known = sorted(store.stacks())
        hint = nearest(name, known) or (f"; there are {', '.join(known)}" if known else "; it has none")
        raise StrataError(f"stack {name}: the store {store.root} knows no stack of this name{hint}")
    return record


def stack_hidden(store: Store, record: StackRecord) -> list[str]:
    """Paths that differ between a generation that is kept and the present one, and that the persistent writable layer
    hides. What is not in the store any more cannot be compared.
    """
    if record.writable != "persistent" or record.whole or not os.path.isdir(upper_tree(store, record)):
        return []
    from ansible_collections.strata.overlay.plugins.module_utils._observe.hidden_paths import look_for_shadowed

    found: dict[str, None] = {}
    for diff_ids in dict.fromkeys(generation.diff_ids for generation in record.history[1:]):
        if diff_ids != record.diff_ids:
            found.update(dict.fromkeys(look_for_shadowed(store, record, diff_ids, record.diff_ids).paths))
    return sorted(found, key=lambda path: path.replace("/", "\0"))


def stack_changes(store: Store, record: StackRecord) -> list[Change]:
    """What a stack's writable layer holds against the layers below it; nothing where it has none (now)."""
    if not record.stack_id:
        return []
    upper = upper_tree(store, record)
    if record.writable == "volatile" and not os.path.isdir(upper):
        return []  # it goes with the mount
    lowers = lower_trees(store, record.diff_ids)
    missing = next((path for path in (upper, *lowers) if not os.path.isdir(path)), None)
    if missing:
        raise StrataError(
            f"stack {record.name}: its changes are unknown because {missing} is missing; run strata.overlay.store_check"
        )
    # What is written into a whole tree comes there through the map, and is written into a union above it.
    owners = record.style.shown_owner if record.style.idmapped and not record.whole else None
    return find_changes(upper, lowers, syscalls.in_user_namespace(), owners, record.fuse, record.whole)


def recorded(record: StackRecord) -> dict[str, Any]:
    """What a stack's record says, as ``stack_info`` and ``store_info`` return it."""
    return {
        "path": record.path,
        "writable": record.writable,
        "driver": record.driver,
        "layers": list(record.layers),
        "diff_ids": list(record.diff_ids),
        "chain_id": chain_ids(record.diff_ids)[-1],
        "generation": record.generation,
        "generations": [
            {
                "number": generation.number,
                "diff_ids": list(generation.diff_ids),
                "layers": list(generation.layers),
                "time": generation.time,
                "back_to": generation.back_to,
            }
            for generation in record.history
        ],
    }


def run_stack_info(module: AnsibleModule) -> NoReturn:
    """Describe the stack of a module's parameters and end the module."""

    def look() -> dict[str, Any]:
        store = open_store(module.params["root"])
        with store.reading(module.params["lock_timeout"]):
            return stack_info(store, module.params["name"], module.params["changes"])

    exit_module(module, {"changed": False, **guarded(module, look)})
