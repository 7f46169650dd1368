# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""The host as it is, as far as a definition asks about it. Reads only."""

from __future__ import annotations

import os
import stat
from types import MappingProxyType
from typing import (
    TYPE_CHECKING,
    Collection,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from ansible_collections.strata.overlay.plugins.module_utils._abilities import Abilities
from ansible_collections.strata.overlay.plugins.module_utils._chain import SHA256
from ansible_collections.strata.overlay.plugins.module_utils._desired import Desired, Known
from ansible_collections.strata.overlay.plugins.module_utils._hostfacts import HostFacts, observe_host
from ansible_collections.strata.overlay.plugins.module_utils._layout import (
    LayerLink,
    inspect_layer,
    inspect_writable,
    layer_links,
)
from ansible_collections.strata.overlay.plugins.module_utils._mountinfo import Mount, by_path, named_from, read_near
from ansible_collections.strata.overlay.plugins.module_utils._pathcheck import PathFacts, has_entries, path_facts
from ansible_collections.strata.overlay.plugins.module_utils._records import NameRecord, StackRecord
from ansible_collections.strata.overlay.plugins.module_utils._store import DIRECTORIES, Store, existing_above
from ansible_collections.strata.overlay.plugins.module_utils._storefaults import StoreFaults, find_places_apart

if TYPE_CHECKING:
    from ansible_collections.strata.overlay.plugins.module_utils._shadowed import Shadowed


class Observed(NamedTuple):
    """What is on the host now.

    :ivar layer_faults: by ChainID: what is wrong with a layer, "missing" where it is not there; the sound ones are
        left out.
    :ivar writable_faults: the same for the writable layer of a stack, by the stack's name.
    :ivar contents: DiffIDs that are in the store.
    :ivar written_uppers: names of the stacks whose persistent layer holds anything.
    :ivar mounts: those on the stacks' paths, above these, and above or within the store, in the order of the table;
        ``mounts_at``: the same by their paths.
    :ivar sizes: bytes of contents, by DiffID, as far as new layers need them.
    :ivar image_faults: by name: what is wrong with what Docker reads of an image, "missing" where it is not there.
    :ivar tops: owner, group and mode of what lies at a stack's path, by the stack's name, where the definition sets
        them.
    :ivar quota_fault: why a persistent layer's size cannot be limited, where the definition does; "" where it can.
    :ivar shadowed: by stack, what its writable layer hides of a change of the layers below it.
    :ivar idmap_fault: why owners cannot be mapped, where the definition does; "" where they can.
    :ivar faults: what the store cannot have where it lies.
    :ivar apart: directories of the store that lie on another file system, see ``find_places_apart``.
    :ivar read_only: nothing can be written where the store lies.
    :ivar unmakeable: paths of stacks that are missing and cannot be made, since their file system is read-only.
    """

    root: str
    home: str
    exists: bool
    abilities: Abilities
    known: Known
    contents: Set[str]
    layer_faults: Mapping[str, str]
    writable_faults: Mapping[str, str]
    written_uppers: Set[str]
    paths: Mapping[str, PathFacts]
    mounts: Tuple[Mount, ...]
    mounts_at: Mapping[str, List[Mount]]
    sizes: Mapping[str, int]
    image_faults: Mapping[str, str] = MappingProxyType({})
    host: HostFacts = HostFacts()
    tops: Mapping[str, Tuple[int, int, int]] = MappingProxyType({})
    quota_fault: str = ""
    idmap_fault: str = ""
    shadowed: Mapping[str, Shadowed] = MappingProxyType({})
    faults: StoreFaults = StoreFaults()
    apart: Tuple[str, ...] = ()
    read_only: bool = False
    unmakeable: Collection[str] = ()

    def mounts_of(self, path: str) -> List[Mount]:
        """Mounts at a stack's path, lowest first."""
        facts = self.paths.get(path)
        return self.mounts_at.get(facts.resolved if facts else path, [])


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
    return Known(_Names(store), store.stacks(), tuple(store.set_aside()))


def observe(store: Store, desired: Desired, known: Known, abilities: Abilities, workspace: str = "") -> Observed:
    """Look at everything that the desired state names, and at nothing else: cost does not grow with the store.

    :param workspace: where contents lie that the store has not yet; "" for nowhere.
    """
    links = _distinct_links(desired.chains())
    diff_ids = {diff_id for stack in desired.stacks for diff_id in (*stack.diff_ids, *stack.shown)}
    diff_ids |= {diff_id for name in desired.names.values() for diff_id in name.diff_ids}
    contents = set(filter(store.has_content, diff_ids)) - _condemned_contents(store)
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
    from ansible_collections.strata.overlay.plugins.module_utils._imagedb import inspect_image

    return _faults({name: inspect_image(store, desired.names[name], known.names) for name in desired.images})


def _condemned_contents(store: Store) -> Set[str]:
    """Contents that a prune has removed, though it has not come to moving them away yet."""
    if not store.condemnations():
        return set()
    # Loaded when it is needed, which is next to never.
    from ansible_collections.strata.overlay.plugins.module_utils._condemned import condemned

    place = os.path.dirname(store.content(f"{SHA256}x"))
    return {SHA256 + os.path.basename(path) for path in condemned(store) if os.path.dirname(path) == place}


def _writable_fault(store: Store, record: StackRecord) -> Optional[str]:
    fault = inspect_writable(store, record)
    if fault is None and record.project:
        from ansible_collections.strata.overlay.plugins.module_utils._quota import is_limited

        if not is_limited(f"{store.layer(record.stack_id)}/diff", record.project, record.size):
            return "its size limit is missing or wrong"
    return fault


def _tops(desired: Desired) -> Iterator[Tuple[str, Tuple[int, int, int]]]:
    for stack in desired.stacks:
        if stack.spec.style.sets_top and os.path.isdir(stack.spec.path):
            facts = os.stat(stack.spec.path)
            yield stack.spec.name, (facts.st_uid, facts.st_gid, stat.S_IMODE(facts.st_mode))


def _quota_fault(store: Store, desired: Desired) -> str:
    if not any(stack.spec.writable == "persistent" and stack.spec.size for stack in desired.stacks):
        return ""
    from ansible_collections.strata.overlay.plugins.module_utils._quota import quota_fault

    return quota_fault(existing_above(store.home))


def _idmap_fault(store: Store, desired: Desired) -> str:
    if not any(stack.spec.style.idmapped for stack in desired.stacks):
        return ""
    from ansible_collections.strata.overlay.plugins.module_utils._idmap import idmap_fault

    return idmap_fault(existing_above(store.home))


def _shadowed(
    store: Store, desired: Desired, known: Known, written: Set[str], workspace: str
) -> Iterator[Tuple[str, Shadowed]]:
    """Of the stacks whose layers change below a persistent layer that holds anything and stays."""
    for stack in () if desired.stage else desired.stacks:
        record = known.stacks.get(stack.spec.name) if stack.spec.name in written else None
        if record is None or record.diff_ids == stack.diff_ids or stack.spec.restack or record.whole or stack.whole:
            continue
        if stack.spec.writable != "persistent" or stack.spec.on_change == "reset":
            continue
        # Loaded when it is needed: of all runs, few change such a stack.
        from ansible_collections.strata.overlay.plugins.module_utils._shadowed import look_for_shadowed

        yield record.name, look_for_shadowed(store, record, record.diff_ids, stack.diff_ids, workspace)


def _is_written(store: Store, record: StackRecord) -> bool:
    upper = f"{store.layer(record.stack_id)}/diff"
    return record.writable == "persistent" and os.path.isdir(upper) and has_entries(upper)


def _distinct_links(chains: Iterable[Sequence[str]]) -> List[LayerLink]:
    found: Dict[str, LayerLink] = {}
    for diff_ids in set(chains):
        for link in layer_links(diff_ids):
            found[link.chain_id] = link
    return list(found.values())


def _needing_size(links: Sequence[LayerLink], store: Store) -> Set[str]:
    return {link.diff_id for link in links if not os.path.isdir(store.layerdb(link.chain_id))}


def _size(store: Store, diff_id: str) -> int:
    record = store.content_record(diff_id)
    return record.size if record else 0


def _faults(inspected: Mapping[str, Optional[str]]) -> Dict[str, str]:
    return {key: fault for key, fault in inspected.items() if fault is not None}
