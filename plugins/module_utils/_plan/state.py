# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""The observed state that a plan starts from, as values. Pure: `_observe` looks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import (
    TYPE_CHECKING,
    NamedTuple,
)

from ansible_collections.strata.overlay.plugins.module_utils._linux.abilities import Abilities
from ansible_collections.strata.overlay.plugins.module_utils._linux.mounts import Mount
from ansible_collections.strata.overlay.plugins.module_utils._mount.path_facts import PathFacts
from ansible_collections.strata.overlay.plugins.module_utils._plan.desired import Known
from ansible_collections.strata.overlay.plugins.module_utils._store.limits import StoreFaults

if TYPE_CHECKING:
    from ansible_collections.strata.overlay.plugins.module_utils._observe.hidden_paths import Shadowed

from typing import TYPE_CHECKING

from ansible_collections.strata.overlay.plugins.module_utils._boot.model import BootFacts
from ansible_collections.strata.overlay.plugins.module_utils._store.records import ChangeRecord

if TYPE_CHECKING:
    from ansible_collections.strata.overlay.plugins.module_utils._services.units import UnitState


class HostFacts(NamedTuple):
    """What is on the host now.

    :ivar systemd: systemd runs the host, so services can be stopped and started.
    :ivar units: every service that the definition names.
    :ivar changes: stacks whose last change was cut short between its services or before its health was known.
    """

    systemd: bool = False
    units: Mapping[str, UnitState] = MappingProxyType({})
    changes: Mapping[str, ChangeRecord] = MappingProxyType({})
    boot: BootFacts = BootFacts()

    def runs(self, unit: str) -> bool:
        state = self.units.get(unit)
        return state is not None and state.running


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
    contents: set[str]
    layer_faults: Mapping[str, str]
    writable_faults: Mapping[str, str]
    written_uppers: set[str]
    paths: Mapping[str, PathFacts]
    mounts: tuple[Mount, ...]
    mounts_at: Mapping[str, list[Mount]]
    sizes: Mapping[str, int]
    image_faults: Mapping[str, str] = MappingProxyType({})
    host: HostFacts = HostFacts()
    tops: Mapping[str, tuple[int, int, int]] = MappingProxyType({})
    quota_fault: str = ""
    idmap_fault: str = ""
    shadowed: Mapping[str, Shadowed] = MappingProxyType({})
    faults: StoreFaults = StoreFaults()
    apart: tuple[str, ...] = ()
    read_only: bool = False
    unmakeable: Collection[str] = ()

    def mounts_of(self, path: str) -> list[Mount]:
        """Mounts at a stack's path, lowest first."""
        facts = self.paths.get(path)
        return self.mounts_at.get(facts.resolved if facts else path, [])
