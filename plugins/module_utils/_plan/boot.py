# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Plans the files that mount stacks at boot. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ansible_collections.strata.overlay.plugins.module_utils._boot.entries import (
    boot_changes,
    boot_entry,
    boot_problems,
)
from ansible_collections.strata.overlay.plugins.module_utils._boot.model import BootEntry
from ansible_collections.strata.overlay.plugins.module_utils._mount.request import of_store_at
from ansible_collections.strata.overlay.plugins.module_utils._plan.desired import Desired
from ansible_collections.strata.overlay.plugins.module_utils._plan.steps import Step

if TYPE_CHECKING:
    from ansible_collections.strata.overlay.plugins.module_utils._plan.state import Observed


class BootPlan(NamedTuple):
    """Removals come before stacks go away, so that no boot in between finds a unit without its stack; what is written
    comes last, when the stack is there and well.
    """

    removals: tuple[Step, ...]
    writes: tuple[Step, ...]
    errors: tuple[str, ...]


def plan_boot(desired: Desired, observed: Observed) -> BootPlan:
    """Every stack of the definition, and what stacks that have gone left behind."""
    facts = observed.host.boot
    wanted: dict[str, BootEntry] = {}
    errors: list[str] = []
    for stack in desired.stacks:
        spec = stack.spec
        # Where no helper could mount it at boot there is nothing to write, and no mistake either.
        if spec.boot and spec.state == "mounted" and facts.helper:
            path = observed.paths[spec.path].resolved
            services = [service.unit for service in spec.services]
            entry = boot_entry(facts, spec.name, path, observed.root, services)
            errors += boot_problems(spec.label, entry, path, observed.root, facts)
            errors += _two_at_one_path(spec.label, path, entry, observed)
            wanted[spec.name] = entry
    decided = {stack.spec.name for stack in desired.stacks} | set(desired.dropped_stacks)
    changes = boot_changes(wanted, decided, observed.known.stacks, facts)
    if not (changes.removed or changes.written):
        return BootPlan((), (), tuple(errors))
    # Imported only when needed, as all that a host which is right does without.
    from ansible_collections.strata.overlay.plugins.module_utils._plan.host_steps import RemoveUnit, WriteUnit

    return BootPlan(
        tuple(RemoveUnit(entry) for entry in changes.removed),
        tuple(WriteUnit(entry, stale) for entry, stale in changes.written),
        tuple(errors),
    )


def _two_at_one_path(label: str, path: str, entry: BootEntry, observed: Observed) -> list[str]:
    """systemd has one mount unit for one path: a stack that covers another file system cannot have its own."""
    ours = of_store_at(observed.mounts, path, observed.root) if observed.exists else []
    others = [mount for mount in observed.mounts_of(path) if mount not in ours]
    if not entry.is_unit or not others:
        return []
    what = f"{others[0].fstype} {others[0].source}"
    return [
        (
            f"{label}: option 'boot': at {path}, {what} is mounted too, and systemd mounts one thing at a path; "
            "set boot: false, or choose another path"
        )
    ]
