# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Builds the module's result and diff."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from ansible_collections.strata.overlay.plugins.module_utils._apply.outcome import Outcome
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import chain_ids
from ansible_collections.strata.overlay.plugins.module_utils._common.readable import one_line
from ansible_collections.strata.overlay.plugins.module_utils._plan.desired import Desired
from ansible_collections.strata.overlay.plugins.module_utils._plan.state import Observed
from ansible_collections.strata.overlay.plugins.module_utils._plan.steps import Plan
from ansible_collections.strata.overlay.plugins.module_utils._store.records import NameRecord, StackRecord

if TYPE_CHECKING:
    from ansible_collections.strata.overlay.plugins.module_utils._prune.model import PrunePlan


class View(NamedTuple):
    """The host held against the definition at one moment."""

    desired: Desired
    observed: Observed
    plan: Plan
    difference: Mapping[str, Any]
    pruned: Optional[PrunePlan] = None

    @property
    def has_changes(self) -> bool:
        """Whether there is anything to do but to prune, which is done by itself at the end."""
        return len(self.plan.steps) > len(self.pruned.removals if self.pruned else ())


def result_of(module: str, view: View, outcome: Outcome, records: Mapping[str, StackRecord]) -> dict[str, Any]:
    """A module's result, as its RETURN says.

    :param records: stacks as they are on record now; none in check mode, where they are predicted.
    """
    steps = view.plan.steps
    pruned = outcome.pruned or view.pruned
    warnings = [*_shadow_warnings(view), *outcome.warnings, *(pruned.incomplete if pruned else ())]
    diff_ids = [diff_id for record in view.desired.names.values() for diff_id in record.diff_ids]
    diff_ids += [diff_id for stack in view.desired.stacks for diff_id in stack.diff_ids]
    return {
        **_only_chain(module, view.desired),
        "changed": bool(steps),
        "plan": view.plan.results(),
        "bytes": sum(step.bytes for step in steps),
        "diff_ids": list(dict.fromkeys(diff_ids)),
        "layers": {
            name: list(record.diff_ids) for name, record in view.desired.names.items() if record.kind == "layer"
        },
        "images": {
            name: {
                "image_id": record.image_id,
                "manifest_digest": record.manifest_digest,
                "diff_ids": list(record.diff_ids),
            }
            for name, record in view.desired.names.items()
            if record.kind == "image"
        },
        "stacks": [
            _stack_result(view, index, records.get(stack.spec.name), outcome)
            for index, stack in enumerate(() if view.desired.stage else view.desired.stacks)
        ],
        **({"staged": view.desired.stage} if module == "apply" else {}),
        **(pruned.result() if pruned else {}),
        "diff": view.difference,
        **({"warnings": warnings} if warnings else {}),
    }


def _shadow_warnings(view: View) -> list[str]:
    """What upgrades do not show, and where that is not known."""
    found = ((f"stack {name}: {each.describe(name)}", each) for name, each in view.observed.shadowed.items())
    cure = "; it goes on showing them as they are there, and on_change: reset would begin a new one"
    return [f"{text}{'' if each.unknown else cure}" for text, each in found if each.paths or each.unknown]


def _only_chain(module: str, desired: Desired) -> dict[str, str]:
    """The ChainID of the one thing that ``layer`` or ``stack`` is about, where it is not taken away."""
    chains = [record.diff_ids for record in desired.names.values()]
    chains += [stack.diff_ids for stack in desired.stacks]
    return {"chain_id": chain_ids(chains[0])[-1]} if module != "apply" and chains else {}


def _stack_result(view: View, index: int, record: Optional[StackRecord], outcome: Outcome) -> dict[str, Any]:
    stack = view.desired.stacks[index]
    before = view.observed.known.stacks.get(stack.spec.name)
    shadowed = view.observed.shadowed.get(stack.spec.name)
    generation = record.generation if record else before.generation if before else 1
    if record is None and before is not None and before.diff_ids != stack.diff_ids:
        generation += 1
    return {
        "name": stack.spec.name,
        "path": stack.spec.path,
        "state": stack.spec.state,
        "writable": stack.spec.writable,
        "driver": stack.driver,
        "driver_reason": stack.driver_reason,
        "generation": generation,
        "chain_id": chain_ids(stack.diff_ids)[-1],
        "gap_ms": outcome.gaps.get(stack.spec.name, 0),
        "held_by": [holder.result() for holder in outcome.held_by.get(stack.spec.name, [])],
        "hidden": list(shadowed.paths) if shadowed else [],
        "health": outcome.health.get(stack.spec.name, ""),
        "boot": view.observed.host.boot.means(stack.spec.boot and stack.spec.state == "mounted"),
    }


def difference(desired: Desired, observed: Observed, planned: Plan) -> dict[str, Any]:
    """Names and stacks before and after, only those that the plan changes; and the plan, as text for a person."""
    touched = {step.object for step in planned.steps}
    before: dict[str, Any] = {"layers": {}, "stacks": {}}
    after: dict[str, Any] = {"layers": {}, "stacks": {}}
    known = observed.known
    for name in [*desired.names, *desired.dropped_names]:
        if not touched & {f"layer {name}", f"image {name}"}:
            continue  # before its record is read once more
        for side, record in ((before, known.names.get(name)), (after, desired.names.get(name))):
            if record:
                side.setdefault(f"{record.kind}s", {})[name] = _name_result(record)
    stacks = {stack.spec.name: stack for stack in desired.stacks}
    for name in [*stacks, *desired.dropped_stacks]:
        if f"stack {name}" not in touched:
            continue
        if name in known.stacks:
            before["stacks"][name] = _stack_before(observed, known.stacks[name])
        if name in stacks:
            stack = stacks[name]
            after["stacks"][name] = {
                "path": stack.spec.path,
                "layers": list(stack.layers),
                "diff_ids": list(stack.diff_ids),
                "writable": stack.spec.writable,
                "state": stack.spec.state,
            }
    steps = "".join(f"# {number}. {one_line(step.describe())}\n" for number, step in enumerate(planned.steps, 1))
    return {"before": before, "after": after, **({"prepared": steps} if steps else {})}


def _name_result(record: NameRecord) -> dict[str, Any]:
    image = {"image_id": record.image_id} if record.image_id else {}
    return {**image, "diff_ids": list(record.diff_ids), "labels": dict(record.labels)}


def _stack_before(observed: Observed, record: StackRecord) -> dict[str, Any]:
    return {
        "path": record.path,
        "layers": list(record.layers),
        "diff_ids": list(record.diff_ids),
        "writable": record.writable,
        "state": "mounted" if observed.mounts_of(record.path) else "unmounted",
    }
