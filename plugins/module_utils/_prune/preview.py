# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Plans a prune of the store as it is, or as it will be after a run. Reads only.

It is what check mode needs, and all of `_prune/run` that the module `plan` has in it.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.prune import PruneSpec
from ansible_collections.strata.overlay.plugins.module_utils._linux import mountinfo
from ansible_collections.strata.overlay.plugins.module_utils._linux.noatime import Measure
from ansible_collections.strata.overlay.plugins.module_utils._plan.state import Observed
from ansible_collections.strata.overlay.plugins.module_utils._plan.steps import Plan, Step
from ansible_collections.strata.overlay.plugins.module_utils._prune.inventory import take_inventory
from ansible_collections.strata.overlay.plugins.module_utils._prune.model import Inventory, Key, PrunePlan, Removal
from ansible_collections.strata.overlay.plugins.module_utils._prune.plan import Measured, plan_prune, removable
from ansible_collections.strata.overlay.plugins.module_utils._prune.preview_state import after, leaving
from ansible_collections.strata.overlay.plugins.module_utils._store.faults import find_places_apart
from ansible_collections.strata.overlay.plugins.module_utils._store.limits import apart_text
from ansible_collections.strata.overlay.plugins.module_utils._store.store import DIRECTORIES, Store


class Freed(Measure):
    """Bytes freed when trees are deleted. A file with hard links counts once all of its links are deleted."""

    def __init__(self) -> None:
        super().__init__()
        self._links: dict[tuple[int, int], int] = {}

    def _one(self, facts: os.stat_result) -> int:
        if facts.st_nlink > 1 and not stat.S_ISDIR(facts.st_mode):
            key = (facts.st_dev, facts.st_ino)
            self._links[key] = self._links.get(key, 0) + 1
            if self._links[key] < facts.st_nlink:
                return 0
        return facts.st_blocks * 512


@dataclass(frozen=True)
class Prune(Step):
    """One removal as a step of a plan."""

    removal: Removal

    @property
    def object(self) -> str:
        return f"{self.removal.kind} {self.removal.id}"

    def describe(self) -> str:
        return f"prune: {self.removal.description} ({self.removal.bytes} bytes)"


def choose(store: Store, inventory: Inventory, spec: PruneSpec, protected: AbstractSet[str]) -> PrunePlan:
    """What goes of an inventory, with the bytes that each removal frees. Call it with the store locked.

    :param protected: names that stay because the definition at hand has them.
    """
    measured = None
    missed: list[str] = []
    if spec.max_bytes is not None:
        whole = Measure()
        measured = Measured(whole.tree(store.root), _sizes(removable(store, inventory, spec, protected), Freed()))
        missed += whole.missed
    plan = plan_prune(store, inventory, spec, protected, time.time(), measured)
    if plan.removals:
        _refuse_apart(store)
    freed = Freed()
    sizes = _sizes(plan.removals, freed)
    missed += freed.missed
    removals = tuple(replace(item, bytes=sizes[item.key]) for item in plan.removals)
    return replace(plan, removals=removals, incomplete=tuple(dict.fromkeys(missed)))


def _refuse_apart(store: Store) -> None:
    """StrataError where a directory of the store is a mount point: nothing could be moved to ``trash/``, and a list of
    what goes would hold up every later change.
    """
    apart = find_places_apart(store.root, (name for name, _mode in DIRECTORIES), mountinfo.read())
    if apart:
        raise StrataError(f"Nothing was removed: {apart_text(store.root, apart)}.")


def choose_after(
    store: Store, planned: Plan, observed: Observed, spec: PruneSpec, protected: AbstractSet[str]
) -> tuple[PrunePlan, Plan]:
    """What a prune removes after a plan's steps, and the plan with those removals added.

    Call it with the store locked.
    """
    inventory = take_inventory(store, leaving(planned.steps, observed))
    chosen = choose(store, after(inventory, planned.steps, time.time()), spec, protected)
    removals: list[Step] = [Prune(removal) for removal in chosen.removals]
    return chosen, planned._replace(steps=(*planned.steps, *removals))


def _sizes(removals: Sequence[Removal], freed: Freed) -> Mapping[Key, int]:
    return {removal.key: sum(freed.tree(path) for path in removal.paths) for removal in removals}
