# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""What a prune removes, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.strata.overlay.plugins.module_utils._mount.in_use import InMounts
from ansible_collections.strata.overlay.plugins.module_utils._store.records import NameRecord, StackRecord

Key = tuple[str, str]
"""Kind and id of something in a store."""


@dataclass(frozen=True)
class Removal:
    """One object to remove.

    :ivar id: a name, a ChainID, a DiffID, a writable layer's directory, a path in the store.
    :ivar paths: absolute, in the order in which they go.
    :ivar used: its last use, seconds since 1970.
    :ivar bytes: what the file system has more when it is gone.
    """

    kind: str
    id: str
    paths: tuple[str, ...]
    used: float
    description: str
    bytes: int = 0

    @property
    def key(self) -> Key:
        return self.kind, self.id

    def result(self) -> dict[str, Any]:
        """As modules return it."""
        return {"kind": self.kind, "id": self.id, "bytes": self.bytes, "text": self.description}


@dataclass(frozen=True)
class PrunePlan:
    """What goes, and in words what could not be decided or reached.

    :ivar incomplete: what could not be measured or deleted, in words; all else was.
    :ivar kept_bytes: of what was to go and could not be deleted.
    """

    removals: tuple[Removal, ...]
    notes: tuple[str, ...]
    incomplete: tuple[str, ...] = ()
    kept_bytes: int = 0

    @property
    def bytes(self) -> int:
        return max(0, sum(removal.bytes for removal in self.removals) - self.kept_bytes)

    def result(self) -> dict[str, Any]:
        """As ``prune``, and ``apply`` where it prunes, return it."""
        removed = [removal.result() for removal in self.removals]
        return {"removed": removed, "reclaimed_bytes": self.bytes, "notes": [*self.notes, *self.incomplete]}


@dataclass(frozen=True)
class Inventory:
    """What is in a store; times are seconds since 1970.

    :ivar names: every name, with its last use in ``name_use``.
    :ivar stacks: every stack on record.
    :ivar detached_uppers: detached uppers, by their directory's name; with last use in ``detached_use``.
    :ivar contents: DiffID -> last use.
    :ivar layers: ChainID -> last use.
    :ivar images: id of an image -> last use.
    :ivar leftovers: paths within the store: staging of dead runs, trash, records half-written.
    :ivar lost_uppers: directories in overlay2/ that are writable layers and that no record knows.
    :ivar mounts: what mounts use, as they name it.
    :ivar mounted_contents: DiffIDs that mounts use, by whatever name; ``mounted_layers`` are directories in overlay2/.
    :ivar unreadable: mount namespaces that could not be read, in words.
    :ivar sources: what archives were found to be: DiffIDs, by the name of the record.
    :ivar returns: chains that stacks go back to should the change that is under way not work.
    """

    names: Mapping[str, NameRecord]
    name_use: Mapping[str, float]
    stacks: Mapping[str, StackRecord]
    detached_uppers: Mapping[str, StackRecord]
    detached_use: Mapping[str, float]
    contents: Mapping[str, float]
    layers: Mapping[str, float]
    images: Mapping[str, float]
    leftovers: tuple[str, ...]
    lost_uppers: tuple[str, ...]
    mounts: InMounts
    mounted_contents: set[str]
    mounted_layers: set[str]
    unreadable: tuple[str, ...]
    returns: tuple[tuple[str, ...], ...] = ()
    sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
