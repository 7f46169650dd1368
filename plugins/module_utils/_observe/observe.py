# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Observes the host as far as a definition concerns it. Reads only."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import (
    TYPE_CHECKING,
    Optional,
)

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import SHA256
from ansible_collections.strata.overlay.plugins.module_utils._linux.abilities import Abilities
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import existing_above
from ansible_collections.strata.overlay.plugins.module_utils._linux.idmap import idmap_fault
from ansible_collections.strata.overlay.plugins.module_utils._linux.mountinfo import named_from, read_near
from ansible_collections.strata.overlay.plugins.module_utils._linux.mounts import by_path
from ansible_collections.strata.overlay.plugins.module_utils._mount.path_check import has_entries, path_facts
from ansible_collections.strata.overlay.plugins.module_utils._observe.host import observe_host
from ansible_collections.strata.overlay.plugins.module_utils._plan.desired import Desired, Known
from ansible_collections.strata.overlay.plugins.module_utils._plan.state import Observed
from ansible_collections.strata.overlay.plugins.module_utils._store.faults import find_places_apart
from ansible_collections.strata.overlay.plugins.module_utils._store.inspect_layout import (
    inspect_layer,
    inspect_writable,
)
from ansible_collections.strata.overlay.plugins.module_utils._store.layout import LayerLink, layer_links
from ansible_collections.strata.overlay.plugins.module_utils._store.records import NameRecord, StackRecord
from ansible_collections.strata.overlay.plugins.module_utils._store.removals import journaled_paths
from ansible_collections.strata.overlay.plugins.module_utils._store.store import DIRECTORIES, Store

if TYPE_CHECKING:
    from ansible_collections.strata.overlay.plugins.module_utils._observe.hidden_paths import Shadowed


class _Names(Mapping[str, NameRecord]):
    """Names read when they are asked for: a store may have many thousand, and a run asks for a few."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getitem__(self, name: str) -> NameRecord:
        record = self._store.name_record(name)
        if record is None:
            raise KeyError(name)
        return record

    def __iter__(self) -> Iterator[str]:
        return iter(self._store.names())

    def __len__(self) -> int:
        return len(self._store.names())


def remember(store: Store) -> Known:
    """The names and stack records of the store; StrataError where one that is asked for is damaged."""
    return Known(_Names(store), store.stacks(), tuple(store.detached_uppers()))


def observe(store: Store, desired: Desired, known: Known, abilities: Abilities, workspace: str = "") -> Observed:
    """Look at everything that the desired state names, and at nothing else: cost does not grow with the store.

    :param workspace: where contents lie that the store has not yet; "" for nowhere.
    """
    links = _distinct_links(desired.chains())
    diff_ids = {diff_id for stack in desired.stacks for diff_id in (*stack.diff_ids, *stack.shown)}
    diff_ids |= {diff_id for name in desired.names.values() for diff_id in name.diff_ids}
    contents = set(filter(store.has_content, diff_ids)) - _contents_being_removed(store)
    stacks = [known.stacks[stack.spec.name] for stack in desired.stacks if stack.spec.name in known.stacks]
    dropped = [known.stacks[name] for name in desired.dropped_stacks]
    paths = {
        path: path_facts(path)
        for path in {stack.spec.path for stack in desired.stacks} | {record.path for record in stacks + dropped}
    }
    mounts = named_from(read_near([facts.resolved for facts in paths.values()], store.root), store.home)
    written = {record.name for record in stacks + dropped if _is_written(store, record)}
    return Observed(
        root=store.root,
        home=store.home,
        exists=store.exists(),
        abilities=abilities,
        known=known,
        contents=contents,
        layer_faults=_faults({link.chain_id: inspect_layer(store, link) for link in links}),
        writable_faults=_faults({record.name: _writable_fault(store, record) for record in stacks}),
        written_uppers=written,
        paths=paths,
        mounts=tuple(mounts),
        mounts_at=by_path(mounts),
        sizes={diff_id: _size(store, diff_id) for diff_id in contents & _needing_size(links, store)},
        image_faults=_image_faults(store, desired, known),
        host=observe_host(store, desired, mounts),
        tops=dict(_tops(desired)),
        quota_fault=_quota_fault(store, desired),
        idmap_fault=_idmap_fault(store, desired),
        shadowed=dict(_shadowed(store, desired, known, written, workspace)),
        apart=find_places_apart(store.root, (name for name, _mode in DIRECTORIES), mounts),
        read_only=_is_read_only(store.root),
        unmakeable={path for path, facts in paths.items() if facts.kind == "missing" and _is_read_only(facts.resolved)},
    )


def _is_read_only(path: str) -> bool:
    """Whether nothing can be written where a path lies, or would lie."""
    return bool(os.statvfs(existing_above(path)).f_flag & os.ST_RDONLY)


def _image_faults(store: Store, desired: Desired, known: Known) -> Mapping[str, str]:
    if not desired.images:
        return {}
    # Loaded when it is needed, as all that is about images: many definitions have none.
    from ansible_collections.strata.overlay.plugins.module_utils._image.db import inspect_image

    return _faults({name: inspect_image(store, desired.names[name], known.names) for name in desired.images})


def _contents_being_removed(store: Store) -> set[str]:
    """Contents that a prune has removed, though it has not come to moving them away yet."""
    if not store.removal_journals():
        return set()
    place = os.path.dirname(store.content(f"{SHA256}x"))
    return {SHA256 + os.path.basename(path) for path in journaled_paths(store) if os.path.dirname(path) == place}


def _writable_fault(store: Store, record: StackRecord) -> Optional[str]:
    fault = inspect_writable(store, record)
    if fault is None and record.project:
        from ansible_collections.strata.overlay.plugins.module_utils._linux.quota import is_limited

        if not is_limited(f"{store.layer(record.stack_id)}/diff", record.project, record.size):
            return "its size limit is missing or wrong"
    return fault


def _tops(desired: Desired) -> Iterator[tuple[str, tuple[int, int, int]]]:
    for stack in desired.stacks:
        if stack.spec.style.sets_top and os.path.isdir(stack.spec.path):
            facts = os.stat(stack.spec.path)
            yield stack.spec.name, (facts.st_uid, facts.st_gid, stat.S_IMODE(facts.st_mode))


def _quota_fault(store: Store, desired: Desired) -> str:
    if not any(stack.spec.writable == "persistent" and stack.spec.size for stack in desired.stacks):
        return ""
    from ansible_collections.strata.overlay.plugins.module_utils._linux.quota import quota_fault

    return quota_fault(existing_above(store.home))


def _idmap_fault(store: Store, desired: Desired) -> str:
    if not any(stack.spec.style.idmapped for stack in desired.stacks):
        return ""
    return idmap_fault(existing_above(store.home))


def _shadowed(
    store: Store, desired: Desired, known: Known, written: set[str], workspace: str
) -> Iterator[tuple[str, Shadowed]]:
    """Of the stacks whose layers change below a persistent layer that holds anything and stays."""
    for stack in () if desired.stage else desired.stacks:
        record = known.stacks.get(stack.spec.name) if stack.spec.name in written else None
        if record is None or record.diff_ids == stack.diff_ids or stack.spec.restack or record.whole or stack.whole:
            continue
        if stack.spec.writable != "persistent" or stack.spec.on_change == "reset":
            continue
        # Loaded when it is needed: of all runs, few change such a stack.
        from ansible_collections.strata.overlay.plugins.module_utils._observe.hidden_paths import look_for_shadowed

        yield record.name, look_for_shadowed(store, record, record.diff_ids, stack.diff_ids, workspace)


def _is_written(store: Store, record: StackRecord) -> bool:
    upper = f"{store.layer(record.stack_id)}/diff"
    return record.writable == "persistent" and os.path.isdir(upper) and has_entries(upper)


def _distinct_links(chains: Iterable[Sequence[str]]) -> list[LayerLink]:
    found: dict[str, LayerLink] = {}
    for diff_ids in set(chains):
        for link in layer_links(diff_ids):
            found[link.chain_id] = link
    return list(found.values())


def _needing_size(links: Sequence[LayerLink], store: Store) -> set[str]:
    return {link.diff_id for link in links if not os.path.isdir(store.layerdb(link.chain_id))}


def _size(store: Store, diff_id: str) -> int:
    record = store.content_record(diff_id)
    return record.size if record else 0


def _faults(inspected: Mapping[str, Optional[str]]) -> dict[str, str]:
    return {key: fault for key, fault in inspected.items() if fault is not None}
