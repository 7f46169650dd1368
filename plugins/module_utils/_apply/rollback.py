# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Rolls a stack back after a failed change, by the same plan and steps as any change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Callable, Optional

from ansible_collections.strata.overlay.plugins.module_utils._archive.limits import UNLESS_SET
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError, UnhealthyError
from ansible_collections.strata.overlay.plugins.module_utils._linux.features import find_abilities
from ansible_collections.strata.overlay.plugins.module_utils._observe.observe import observe, remember
from ansible_collections.strata.overlay.plugins.module_utils._plan.desired import Desired, DesiredStack, copied
from ansible_collections.strata.overlay.plugins.module_utils._plan.plan import plan
from ansible_collections.strata.overlay.plugins.module_utils._plan.steps import Step
from ansible_collections.strata.overlay.plugins.module_utils._store.records import ChangeRecord
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store


def go_back(
    store: Store, desired: Desired, failure: UnhealthyError, run: Callable[[Sequence[Step]], object]
) -> UnhealthyError:
    """Bring one stack back and say all that happened. Call it with the store locked for changes.

    :param desired: what the run that failed was to bring about.
    :param run: does steps.
    """
    head = f"stack {failure.name}: {failure}."
    target, done = _target(store, desired, failure.name)
    if target is None:
        return UnhealthyError(failure.name, f"{head} {done}")
    try:
        run(_steps(store, target))
    except UnhealthyError as second:
        return UnhealthyError(failure.name, f"{head} {done} But that does not work either: {second}.")
    except (StrataError, OSError) as second:
        return UnhealthyError(failure.name, f"{head} It could not go back to what was there before: {second}")
    store.discard(store.change_file(failure.name))
    well = " The health check passes again." if target.spec.health and target.spec.state == "mounted" else ""
    return UnhealthyError(failure.name, f"{head} {done}{well}")


def _target(store: Store, desired: Desired, name: str) -> tuple[Optional[DesiredStack], str]:
    """What the stack goes back to, and in words that it did; None where there is nothing."""
    change = store.change_record(name) or ChangeRecord(name)
    stack = next((stack for stack in desired.stacks if stack.spec.name == name), None)
    running = f", and running as before: {', '.join(change.running)}" if change.running else ""
    if stack is not None and change.back:
        layers = ", ".join(change.back_layers)
        message = f"The stack went back to the generation before ({layers}){running}."
        # A writable layer that began anew with the change has nothing in it that would have to begin anew again, but
        # where it is a copy of what the change brought, or processes may keep the tree that is detached.
        anew = stack.whole or stack.spec.on_busy == "detach"
        spec = replace(stack.spec, on_change="reset" if anew else "keep")
        number = _generation(store, change)
        target = stack._replace(spec=spec, diff_ids=change.back, layers=change.back_layers, back_to=number)
        return target, message
    if stack is not None and not change.was_mounted:
        message = f"Nothing was mounted at {stack.spec.path} before, so it was unmounted again{running}."
        return stack._replace(spec=replace(stack.spec, state="unmounted")), message
    return None, "Its layers are those that it had before, so there is nothing to go back to; it stays mounted."


def _generation(store: Store, change: ChangeRecord) -> int:
    """The number of the generation that had this chain, 0 where it is kept no more."""
    record = store.stack_record(change.name)
    history = record.history if record else ()
    return next((generation.number for generation in history if generation.diff_ids == change.back), 0)


def _steps(store: Store, target: DesiredStack) -> Sequence[Step]:
    # A way back must not fail because the disk is nearly full.
    target = target._replace(limits=UNLESS_SET._replace(reserve=0))
    back = Desired(
        names={},
        dropped_names=(),
        stacks=(target,),
        dropped_stacks={},
        # Of layers that were mounted a moment ago without one there need not be a copy now.
        origins={target.shown[0]: copied(target)} if target.shown != target.diff_ids else {},
        returning=frozenset({target.spec.name}),
    )
    planned = plan(back, observe(store, back, remember(store), find_abilities()))
    if planned.errors:
        raise StrataError("; ".join(planned.errors))
    return planned.steps
