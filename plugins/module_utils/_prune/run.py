# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Runs one prune: look, plan, commit, delete. The module `prune`, and the last part of `apply`."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import DefinitionError
from ansible_collections.strata.overlay.plugins.module_utils._definition.argspec import prune_module_spec
from ansible_collections.strata.overlay.plugins.module_utils._definition.definition import check_root
from ansible_collections.strata.overlay.plugins.module_utils._definition.prune import PruneSpec, read_prune
from ansible_collections.strata.overlay.plugins.module_utils._definition.validate import check_options
from ansible_collections.strata.overlay.plugins.module_utils._image.db_stage import stage_repositories
from ansible_collections.strata.overlay.plugins.module_utils._module import exit_module, guarded
from ansible_collections.strata.overlay.plugins.module_utils._mount.namespaces import mounts_everywhere, used_by_mounts
from ansible_collections.strata.overlay.plugins.module_utils._prune.inventory import take_inventory
from ansible_collections.strata.overlay.plugins.module_utils._prune.model import Inventory, PrunePlan, Removal
from ansible_collections.strata.overlay.plugins.module_utils._prune.preview import Freed, choose
from ansible_collections.strata.overlay.plugins.module_utils._store.removals import removal_journal
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store, open_store
from ansible_collections.strata.overlay.plugins.module_utils._store.transaction import Transaction

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

_TRIES = 4
_TICK = 0.02
"""Seconds; longer than a tick of the clock of file systems (4 or 10 ms)."""

_WATCHED = (
    "content/sha256",
    "overlay2",
    "overlay2/l",
    "image/overlay2/layerdb/sha256",
    "image/overlay2/layerdb/mounts",
    "strata/names",
    "strata/contents",
    "strata/stacks",
    "strata/aside",
)


@dataclass(frozen=True)
class Pruned:
    """What was removed, and for how many seconds the store was locked."""

    plan: PrunePlan
    locked: float = 0.0


@dataclass(frozen=True)
class _Sight:
    """A plan, and what was seen for it."""

    plan: PrunePlan
    inventory: Inventory
    stamp: tuple[object, ...]


class Pruning:
    """A prune of one store.

    :param protected: names that stay because the definition at hand has them.
    """

    def __init__(
        self, store: Store, spec: PruneSpec, timeout: float, protected: AbstractSet[str] = frozenset()
    ) -> None:
        self._store = store
        self._spec = spec
        self._timeout = timeout
        self._protected = protected

    def plan(self) -> PrunePlan:
        """What a run would remove now. Changes nothing."""
        with self._store.reading(self._timeout):
            return self._choose(take_inventory(self._store))

    def _choose(self, inventory: Inventory) -> PrunePlan:
        return choose(self._store, inventory, self._spec, self._protected)

    def run(self) -> Pruned:
        """Remove it. If something came into use meanwhile, it is kept and the run looks again."""
        if not self._store.exists():
            return Pruned(PrunePlan((), ()))
        self._store.prepare()
        if self._store.removal_journals():
            with self._store.changing(self._timeout):
                pass  # every change first finishes what a killed prune began
        try:
            return self._run()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            made = self._make_space()
            if not made.removals:
                raise
            rest = self._run()
            return replace(rest, plan=replace(rest.plan, removals=(*made.removals, *rest.plan.removals)))

    def _run(self) -> Pruned:
        for attempt in range(_TRIES):
            sight = self._look()
            if not sight.plan.removals:
                return Pruned(sight.plan)
            locked = self._remove(sight, last=attempt == _TRIES - 1)
            if locked is not None:
                return locked
        return Pruned(PrunePlan((), ()))

    def _make_space(self) -> PrunePlan:
        """On a disk so full that no list of what goes can be written: what nothing refers to goes one by one, under the
        lock, with nothing written at all. Names stay for the prune that comes after.
        """
        store = self._store
        with store.changing(self._timeout):
            inventory = take_inventory(store)
            names = frozenset(inventory.names) | self._protected
            plan = choose(store, inventory, replace(self._spec, max_bytes=None), names)
            store.tidy()
            for removal in plan.removals:
                for path in _moved(store, removal):
                    store.discard(path)
                store.tidy()
        return _settled(store, plan, [])

    def _look(self) -> _Sight:
        with self._store.reading(self._timeout):
            stamp, newest = _stamp(self._store)
            if 0 <= time.time() - newest < _TICK:
                # A change within the same tick of the clock would look like the one that was seen.
                time.sleep(_TICK)
            inventory = take_inventory(self._store)
            return _Sight(self._choose(inventory), inventory, stamp)

    def _remove(self, sight: _Sight, last: bool) -> Pruned | None:
        """Commit, move, delete; None if the store has changed since it was seen.

        :param last: look again under the lock then, rather than give up.
        """
        store = self._store
        done: Pruned | None = None
        try:
            with store.workspace() as workspace, removal_journal(store, workspace, _paths(store, sight.plan)) as made:
                tags = self._tags_without(sight.plan, workspace)
                with store.changing(self._timeout):
                    started = time.monotonic()
                    same = self._is_as_seen(sight)
                    if same:
                        # First the tags: one without its name would be known to Docker only.
                        tags.commit()
                        made.commit()
                        locked = time.monotonic() - started
                    elif last:
                        done = self._remove_locked(workspace)
                if same:
                    done = Pruned(_with_left(sight.plan, made.execute()), locked)
        except BaseException:
            store.tidy()
            raise
        left = store.empty_trash()
        return replace(done, plan=_settled(store, done.plan, left)) if done else None

    def _remove_locked(self, workspace: str) -> Pruned:
        """Prune a store that is in constant use: everything but deleting happens under its lock."""
        started = time.monotonic()
        plan = self._choose(take_inventory(self._store))
        with removal_journal(self._store, workspace, _paths(self._store, plan)) as made:
            self._tags_without(plan, workspace).commit()
            made.commit()
            plan = _with_left(plan, made.execute())
        return Pruned(plan, time.monotonic() - started)

    def _tags_without(self, plan: PrunePlan, workspace: str) -> Transaction:
        """The new repositories.json, staged; nothing if no image loses a name."""
        transaction = Transaction(self._store, workspace)
        gone = [removal.id for removal in plan.removals if removal.kind == "name"]
        records = (self._store.name_record(name) for name in gone)
        if any(record is not None and record.image_id for record in records):
            stage_repositories(self._store, transaction, dict.fromkeys(gone))
            self._store.sync(workspace)  # now, so that there is little to sync under the lock
        return transaction

    def _is_as_seen(self, sight: _Sight) -> bool:
        return (
            _stamp(self._store)[0] == sight.stamp
            and self._names_unused(sight)
            and self._mounts_are_as_seen(sight.inventory)
        )

    def _names_unused(self, sight: _Sight) -> bool:
        """Whether no run has recorded since that it needs a name that is to go."""
        return all(
            os.stat(removal.paths[0]).st_mtime == removal.used
            for removal in sight.plan.removals
            if removal.kind == "name"
        )

    def _mounts_are_as_seen(self, inventory: Inventory) -> bool:
        everywhere = mounts_everywhere()
        used = used_by_mounts(everywhere, self._store.root)
        return (
            used.contents <= inventory.mounts.contents
            and used.layers <= inventory.mounts.layers
            and used.links <= inventory.mounts.links
            and everywhere.unreadable == inventory.unreadable
        )


def _paths(store: Store, plan: PrunePlan) -> list[str]:
    return [path for removal in plan.removals for path in _moved(store, removal)]


def _moved(store: Store, removal: Removal) -> list[str]:
    """The paths of a removal that must move to trash/ before they are deleted."""
    return [path for path in removal.paths if not path.startswith(f"{store.root}/trash/")]


def _with_left(plan: PrunePlan, left: Sequence[str]) -> PrunePlan:
    """The plan as carried out, with a note on what could not be moved."""
    if not left:
        return plan
    there = {item.key for item in plan.removals if any(os.path.lexists(path) for path in item.paths)}
    gone = tuple(item for item in plan.removals if item.key not in there)
    return replace(plan, removals=gone, incomplete=(*plan.incomplete, *left))


def _settled(store: Store, plan: PrunePlan, left: Sequence[str]) -> PrunePlan:
    """A plan as it was carried out: what lay in trash/ and still lies there was not removed.

    :param left: what could not be deleted and why, in words.
    """
    gone = [item for item in plan.removals if _moved(store, item) or not os.path.lexists(item.paths[0])]
    kept = Freed().tree(f"{store.root}/trash") - Freed().alone(f"{store.root}/trash") if left else 0
    kept -= sum(item.bytes for item in plan.removals if item not in gone)
    return replace(plan, removals=tuple(gone), incomplete=(*plan.incomplete, *left), kept_bytes=max(0, kept))


def _stamp(store: Store) -> tuple[tuple[object, ...], float]:
    """A mark that differs after any change of the store's records, and the time of the newest record."""
    facts = []
    for name in _WATCHED:
        try:
            found = os.stat(f"{store.root}/{name}")
        except FileNotFoundError:
            continue
        facts.append((name, found.st_ino, found.st_nlink, found.st_mtime_ns))
    return tuple(facts), max((fact[3] for fact in facts), default=0) / 1e9


def prune_result(pruned: Pruned) -> dict[str, Any]:
    """A module's result, as the RETURN of ``prune`` says."""
    plan = pruned.plan
    return {
        "changed": bool(plan.removals),
        **plan.result(),
        **({"warnings": list(plan.incomplete)} if plan.incomplete else {}),
        "locked_ms": round(pruned.locked * 1000, 1),
        "diff": _difference(plan),
    }


def _difference(plan: PrunePlan) -> dict[str, str]:
    listed = "".join(f"{removal.kind} {removal.id} ({removal.bytes} bytes)\n" for removal in plan.removals)
    return {"before": listed, "after": ""}


def prune(parameters: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Run the module ``prune``. DefinitionError lists every mistake."""
    errors: list[str] = []
    options = check_options("", parameters, prune_module_spec(), errors)
    root = check_root(options["root"], errors)
    spec = read_prune(options, "", errors)
    if errors:
        raise DefinitionError(errors)
    pruning = Pruning(open_store(root), spec, float(options["lock_timeout"]))
    return prune_result(Pruned(pruning.plan()) if check_mode else pruning.run())


def run_prune(module: AnsibleModule) -> NoReturn:
    """Prune by a module's parameters and end the module."""
    exit_module(module, guarded(module, lambda: prune(module.params, module.check_mode), changes=True))
