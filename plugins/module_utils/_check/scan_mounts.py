# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Scans mounts for a check: at stacks' paths, of the store, and uppers in two mounts. Reads only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from ansible_collections.strata.overlay.plugins.module_utils._check.snapshot import MountState
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import link_id
from ansible_collections.strata.overlay.plugins.module_utils._common.paths import is_inside
from ansible_collections.strata.overlay.plugins.module_utils._linux.mountinfo import read as read_mounts
from ansible_collections.strata.overlay.plugins.module_utils._linux.mounts import Mount, split_name
from ansible_collections.strata.overlay.plugins.module_utils._linux.overlay_mounts import upper_of
from ansible_collections.strata.overlay.plugins.module_utils._mount.namespaces import (
    Everywhere,
    SameDirectory,
    mounts_everywhere,
    used_by_mounts,
)
from ansible_collections.strata.overlay.plugins.module_utils._mount.path_check import ended
from ansible_collections.strata.overlay.plugins.module_utils._mount.request import (
    driver_at,
    is_of_store,
    mismatch,
    mount_request,
    of_store_at,
    root_on_device,
    shown_content,
)
from ansible_collections.strata.overlay.plugins.module_utils._store.faults import find_places_apart
from ansible_collections.strata.overlay.plugins.module_utils._store.records import StackRecord
from ansible_collections.strata.overlay.plugins.module_utils._store.store import DIRECTORIES, Store


class MountsSeen(NamedTuple):
    """As the snapshot has it."""

    states: dict[str, MountState]
    unknown: tuple[Mount, ...]
    shared: dict[str, tuple[str, ...]]
    layers: set[str]
    contents: set[str]
    apart: tuple[str, ...]


def look_at_mounts(store: Store, stacks: Mapping[str, StackRecord], layers: AbstractSet[str]) -> MountsSeen:
    """Look at the mount tables of every namespace.

    :param layers: names of the directories in overlay2/.
    """
    everywhere = mounts_everywhere()
    used = used_by_mounts(everywhere, store.root)
    by_link = {link_id(name): name for name in layers} if used.links else {}
    used_layers = used.layers | {by_link[link] for link in used.links if link in by_link}
    contents = {os.path.basename(_target(store, name)) for name in used_layers} | used.contents
    mounts = read_mounts(store.home)
    states = {name: _state(store, record, mounts) for name, record in stacks.items()}
    unknown = _unknown(store, stacks, mounts)
    apart = find_places_apart(store.root, (name for name, _mode in DIRECTORIES), mounts)
    return MountsSeen(states, unknown, _shared(store, everywhere), used_layers, contents, apart)


def _target(store: Store, layer_id: str) -> str:
    try:
        return os.readlink(f"{store.layer(layer_id)}/diff")
    except OSError:
        return ""


def _state(store: Store, record: StackRecord, mounts: list[Mount]) -> MountState:
    found = of_store_at(mounts, os.path.realpath(record.path), store.root)
    if not found:
        return MountState(0, "")
    bind_root = root_on_device(mounts, shown_content(store.root, record))
    request = mount_request(store.home, record)
    return MountState(len(found), mismatch(found[-1], request, bind_root) or ended(found[-1].path))


def _unknown(store: Store, stacks: Mapping[str, StackRecord], mounts: list[Mount]) -> tuple[Mount, ...]:
    """Mounts of the store that are neither at a stack's path nor show the same as one that is; and those that name the
    store by a path that leads nowhere any more, wherever they are.
    """
    paths = {os.path.realpath(record.path) for record in stacks.values()}
    place = root_on_device(mounts, store.root)
    ours = [mount for mount in mounts if is_of_store(mount, store.home, place)]
    known = [mount for mount in ours if mount.path in paths]
    unions = {mount.device for mount in known if driver_at(mount, place)}
    bound = [mount.root for mount in known if not driver_at(mount, place)]

    def is_known(mount: Mount) -> bool:
        if driver_at(mount, place):
            return mount.device in unions
        return any(is_inside(mount.root, root) for root in bound)

    left = [mount for mount in ours if mount.path not in paths and not is_known(mount)]
    return (*left, *(mount for mount in mounts if _named_before(mount, store, place)))


def _named_before(mount: Mount, store: Store, place: tuple[str, str]) -> bool:
    """Whether an overlay has layers that this store has, from a directory that is not there: it has been renamed."""
    if driver_at(mount, place) != "overlay":
        return False
    names = [split_name(name) for name in filter(None, (*mount.lowers(), mount.option("upperdir")))]
    if not names or any(name is None or os.path.lexists(name[0]) for name in names):
        return False
    return all(name is not None and os.path.lexists(f"{store.home}/{name[1]}") for name in names)


def _shared(store: Store, everywhere: Everywhere) -> dict[str, tuple[str, ...]]:
    """Uppers of the store that more than one union writes into. A copy of a mount in another namespace is the same
    one: it has the same device. What another namespace has at the path of the store may be another store.
    """
    found: dict[str, set[str]] = {}
    links: dict[str, str] = {}
    for namespace in everywhere.namespaces:
        is_ours = SameDirectory(namespace.root, store.home, known=False)
        for mount in namespace.mounts:
            upper = upper_of(mount, store.home)
            if upper and (not upper.startswith("/") or (is_ours(store.home) and not is_ours.ended())):
                path = os.path.normpath(os.path.join(store.home, upper))
                if path.startswith(f"{store.home}/"):
                    path = links.setdefault(path, os.path.realpath(path))
                    found.setdefault(os.path.relpath(path, store.root), set()).add(mount.device)
    return {path: tuple(sorted(devices)) for path, devices in found.items() if len(devices) > 1}
