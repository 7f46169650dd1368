# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""plan(desired, observed) returns the steps. Pure: check mode shows them, a run applies them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Optional

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import chain_ids, short
from ansible_collections.strata.overlay.plugins.module_utils._image.db_paths import WRONG_TAG
from ansible_collections.strata.overlay.plugins.module_utils._mount.path_facts import (
    foreign_over,
)
from ansible_collections.strata.overlay.plugins.module_utils._plan.desired import Desired
from ansible_collections.strata.overlay.plugins.module_utils._plan.limits import place_problems
from ansible_collections.strata.overlay.plugins.module_utils._plan.stack import (
    StackPlanner,
    drop_stack,
    leave_old_path,
    lost_volatiles,
    ours_at,
)
from ansible_collections.strata.overlay.plugins.module_utils._plan.state import Observed
from ansible_collections.strata.overlay.plugins.module_utils._plan.steps import (
    CreateStore,
    DropName,
    ImportContent,
    LinkLayer,
    Mount,
    Plan,
    SetAside,
    SetName,
    Step,
    StoreImage,
    Switch,
    Unmount,
)
from ansible_collections.strata.overlay.plugins.module_utils._store.layout import layer_links
from ansible_collections.strata.overlay.plugins.module_utils._store.records import NameRecord


def plan(desired: Desired, observed: Observed) -> Plan:
    """The steps in the order in which they are safe: bytes, layers, names, records, then one stack after the other."""
    errors: list[str] = []
    steps: list[Step] = [
        *_contents(desired, observed, errors),
        *_layers(desired, observed),
        *_images(desired, observed),
        *_names(desired, observed),
    ]
    records: list[Step] = []
    mounts: list[Step] = []
    takedown = [step for name, detach in desired.dropped_stacks.items() for step in drop_stack(name, detach, observed)]
    moves = [move for stack in desired.stacks for move in leave_old_path(stack, observed)]
    vacated = {step.path for step in [*takedown, *moves] if isinstance(step, Unmount)}
    for stack in desired.stacks:
        StackPlanner(stack, observed, vacated, errors).plan(records, mounts)
    planned = {step.record.stack_id for step in [*takedown, *records, *mounts] if isinstance(step, SetAside)}
    of_names = {*(stack.spec.name for stack in desired.stacks), *desired.dropped_stacks}
    mounts += [SetAside(record, written=False) for record in lost_volatiles(observed.known, of_names, planned)]
    removals, writes = _boot(desired, observed, errors)
    # Free paths before using them: one stack may want the path of another.
    changes = [*takedown, *moves, *records, *mounts]
    if desired.has_services():
        # Imported only when needed: many definitions have no services.
        from ansible_collections.strata.overlay.plugins.module_utils._plan.services import (
            services_notified,
            with_services,
        )

        errors += services_notified(desired, observed.host)
        changes = with_services(changes, desired, observed.host)
    steps += [*removals, *changes, *writes]
    errors += _detached_again(steps, observed)
    errors += [text for text in _covered(steps, observed) if text not in errors]
    if desired.stage:
        steps = [step for step in steps if isinstance(step, (ImportContent, LinkLayer))]
    errors += place_problems(steps, observed)
    if not observed.exists and steps:
        steps.insert(0, CreateStore(observed.root))
    return Plan(tuple(steps), tuple(errors))


def _boot(desired: Desired, observed: Observed, errors: list[str]) -> tuple[Sequence[Step], Sequence[Step]]:
    """What is removed before stacks go away, and what is written when they are there."""
    if not observed.host.boot.matters:
        return (), ()
    # Imported only when needed: many hosts mount no stack at boot.
    from ansible_collections.strata.overlay.plugins.module_utils._plan.boot import plan_boot

    boot = plan_boot(desired, observed)
    errors += boot.errors
    return boot.removals, boot.writes


def _contents(desired: Desired, observed: Observed, errors: list[str]) -> list[Step]:
    wanted: dict[str, str] = {}
    for record in desired.names.values():
        wanted.update(dict.fromkeys(record.diff_ids, f"{record.kind} {record.name}"))
    for stack in desired.stacks:
        for diff_id in (*stack.diff_ids, *stack.shown):
            wanted.setdefault(diff_id, stack.spec.label)
    steps: list[Step] = []
    for diff_id, label in wanted.items():
        if diff_id in observed.contents:
            continue
        if diff_id in desired.origins:
            steps.append(ImportContent(desired.origins[diff_id]))
        else:
            errors.append(
                f"{label}: the content {short(diff_id)} is missing from the store; define its layer with a source again"
            )
    return steps


def _layers(desired: Desired, observed: Observed) -> list[Step]:
    steps: dict[str, Step] = {}
    for diff_ids in desired.chains():
        if not any(chain_id in observed.layer_faults for chain_id in chain_ids(diff_ids)):
            continue
        for layer in layer_links(diff_ids):
            fault = observed.layer_faults.get(layer.chain_id)
            if fault is not None:
                origin = desired.origins.get(layer.diff_id)
                size = observed.sizes.get(layer.diff_id) or (origin.size if origin else 0)
                steps.setdefault(layer.chain_id, LinkLayer(layer, fault, size))
    return list(steps.values())


def _images(desired: Desired, observed: Observed) -> list[Step]:
    """What Docker reads of images. A name that is set brings its tag with it; then only a config has to be there."""
    if not desired.images:
        return []
    steps: dict[str, Step] = {}
    for name, origin in desired.images.items():
        fault = observed.image_faults.get(name)
        set_anyway = fault == WRONG_TAG and _differs(desired.names[name], observed.known.names.get(name))
        if fault and not set_anyway:
            steps.setdefault(origin.image.image_id, StoreImage(name, origin, fault, fault != WRONG_TAG))
    return list(steps.values())


def _names(desired: Desired, observed: Observed) -> list[Step]:
    names = observed.known.names
    steps: list[Step] = [
        SetName(_with_unknown(record, names.get(name)), names.get(name))
        for name, record in desired.names.items()
        if _differs(record, names.get(name))
    ]
    dropped = [names[name] for name in desired.dropped_names]
    return steps + [DropName(record.name, record.kind) for record in dropped]


def _with_unknown(record: NameRecord, before: Optional[NameRecord]) -> NameRecord:
    """Keep what a later release has put on record."""
    return replace(record, unknown=before.unknown) if before else record


def _differs(record: NameRecord, before: Optional[NameRecord]) -> bool:
    """Ignores the source: the same bytes from another file are no change."""
    if before is None:
        return True
    old = (before.diff_ids, before.image_id, dict(before.labels))
    return old != (record.diff_ids, record.image_id, dict(record.labels))


def _covered(steps: list[Step], observed: Observed) -> list[str]:
    """Foreign mounts over ours that are to go: umount(2) would remove the foreign ones first."""
    errors: list[str] = []
    for step in steps:
        if isinstance(step, (Unmount, Switch)):
            path = step.path if isinstance(step, Unmount) else step.stack.spec.path
            lines = observed.mounts_of(path)
            ours = ours_at(observed, path)
            foreign = [line for line in lines[lines.index(ours[0]) :] if line not in ours]
            if foreign:
                errors.append(foreign_over(step.object, path, foreign[-1]))
    return errors


def _detached_again(steps: list[Step], observed: Observed) -> list[str]:
    """Persistent layers that would be remounted while processes keep the old tree: one layer in two mounts. The
    kernel leaves that undefined, and processes on the old tree lose write access.
    """
    mounted = {step.stack.spec.name for step in steps if isinstance(step, Mount)}
    given_up = {step.record.stack_id for step in steps if isinstance(step, SetAside)}
    errors: list[str] = []
    for step in steps:
        before = observed.known.stacks.get(step.name) if isinstance(step, Unmount) and step.detach else None
        if before and before.writable == "persistent" and before.name in mounted and before.stack_id not in given_up:
            errors.append(
                f"{step.object}: option 'on_busy': detach cannot be used here: {before.path} has to be unmounted, and "
                "its persistent layer mounted again, while processes of the old tree may still write to it. Use "
                "on_busy: fail and name what uses the stack in services, so that it is stopped meanwhile; or "
                "on_change: reset, which begins with a new writable layer and sets the old one aside"
            )
    return errors
