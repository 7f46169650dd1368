# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Plans service stops before a change, and starts and health checks after it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Optional

from ansible_collections.strata.overlay.plugins.module_utils._definition.health import HealthSpec
from ansible_collections.strata.overlay.plugins.module_utils._definition.service import Service
from ansible_collections.strata.overlay.plugins.module_utils._plan.desired import Desired
from ansible_collections.strata.overlay.plugins.module_utils._plan.host_steps import (
    CheckHealth,
    StartServices,
    StopServices,
)
from ansible_collections.strata.overlay.plugins.module_utils._plan.state import HostFacts
from ansible_collections.strata.overlay.plugins.module_utils._plan.steps import Mount, Step, Switch, Unmount, WriteStack
from ansible_collections.strata.overlay.plugins.module_utils._services.units import service_problems
from ansible_collections.strata.overlay.plugins.module_utils._store.records import ChangeRecord

_CHANGING = (Unmount, Switch, Mount)
"""Steps that change or remove the tree that processes see."""


class _Around(NamedTuple):
    """What one stack needs around its change, and the steps that make it up."""

    name: str
    services: tuple[Service, ...]
    health: Optional[HealthSpec]
    facts: HostFacts
    returning: bool
    steps: tuple[Step, ...]

    @property
    def takes_down(self) -> bool:
        """Whether nothing is mounted at some moment."""
        return any(isinstance(step, Unmount) or (isinstance(step, Switch) and not step.gapless) for step in self.steps)

    @property
    def comes_up(self) -> bool:
        """The stack is mounted in the end."""
        return not isinstance(self.steps[-1], Unmount) if self.steps else True

    def change(self) -> ChangeRecord:
        """The state before the change, including what an interrupted run recorded."""
        cut_short = self.facts.changes.get(self.name)
        if self.returning and cut_short is not None:
            return replace(cut_short, back=(), back_layers=())
        running = {service.unit for service in self.services if self.facts.runs(service.unit)}
        if cut_short is not None:
            running |= set(cut_short.running)
            return replace(cut_short, running=tuple(sorted(running)))
        return ChangeRecord(self.name, tuple(sorted(running)), not self.is_first)

    @property
    def is_first(self) -> bool:
        """Nothing was mounted before."""
        return bool(self.steps) and all(isinstance(step, Mount) for step in self.steps)

    def wanted(self, change: ChangeRecord) -> list[Service]:
        """Services that run in the end, in order.

        Where nothing was mounted before: also those that the host starts at boot, which had no tree to start on.
        """
        if not self.comes_up and not self.returning:
            return []
        first = not change.was_mounted and self.comes_up and not self.returning
        return [
            service
            for service in self.services
            if service.unit in change.running or (first and self._would_start(service.unit))
        ]

    def _would_start(self, unit: str) -> bool:
        state = self.facts.units.get(unit)
        return state is not None and state.enabled

    def before(self, change: ChangeRecord) -> list[Step]:
        kept = {service.unit for service in self.wanted(change)}
        stopped = [
            service.unit
            for service in reversed(self.services)
            if self.facts.runs(service.unit)
            and ((self.takes_down and service.action == "restart") or (self.returning and service.unit not in kept))
        ]
        return [StopServices(change, tuple(stopped))] if stopped else []

    def after(self, change: ChangeRecord) -> list[Step]:
        steps: list[Step] = []
        jobs = tuple((self._verb(service), service.unit) for service in self.wanted(change))
        if jobs:
            steps.append(StartServices(change, jobs))
        if self.health is not None and self.comes_up:
            steps.append(CheckHealth(change, self.health))
        return steps

    def _verb(self, service: Service) -> str:
        if not self.facts.runs(service.unit) or (self.takes_down and service.action == "restart"):
            return "start"
        return service.action


def with_services(steps: Sequence[Step], desired: Desired, facts: HostFacts) -> list[Step]:
    """Add service steps around the steps. An unchanged stack gets none, unless a run was interrupted there."""
    before: dict[int, list[Step]] = {}
    after: dict[int, list[Step]] = {}
    end = len(steps)
    changing: list[tuple[int, _Around]] = []
    for around in _arounds(steps, desired, facts):
        if around.steps:
            places = [index for index, step in enumerate(steps) if step in around.steps]
            before[places[0]] = around.before(_with_way_back(around.change(), steps, desired))
            changing.append((places[-1], around))
        elif around.name in facts.changes:
            changing.append((end, around))
    for place, around in changing:
        # Services that several stacks share start when the last of these is there.
        last = max(other for other, group in changing if other == place or _share(group, around))
        after.setdefault(last, []).extend(around.after(_with_way_back(around.change(), steps, desired)))
    bracketed: list[Step] = []
    for index, step in enumerate(steps):
        bracketed += [*before.get(index, ()), step, *_once(after.get(index, []))]
    return bracketed + _once(after.get(end, []))


def _share(one: _Around, other: _Around) -> bool:
    return bool({service.unit for service in one.services} & {service.unit for service in other.services})


def _once(steps: Sequence[Step]) -> list[Step]:
    """Start every service once, then check health when all of them run."""
    started: set[str] = set()
    found: list[Step] = []
    for step in steps:
        if isinstance(step, StartServices):
            jobs = tuple((verb, unit) for verb, unit in step.jobs if unit not in started)
            started |= {unit for _verb, unit in jobs}
            found += [replace(step, jobs=jobs)] if jobs else []
    return found + [step for step in steps if not isinstance(step, StartServices)]


def _arounds(steps: Sequence[Step], desired: Desired, facts: HostFacts) -> list[_Around]:
    changing: dict[str, list[Step]] = {}
    for step in steps:
        if isinstance(step, _CHANGING):
            changing.setdefault(step.object, []).append(step)

    def around(name: str, services: tuple[Service, ...], health: Optional[HealthSpec]) -> _Around:
        mine = tuple(changing.get(f"stack {name}", ()))
        return _Around(name, services, health, facts, name in desired.returning, mine)

    found = [
        around(stack.spec.name, stack.spec.services, stack.spec.health)
        for stack in desired.stacks
        if stack.spec.state == "mounted" or f"stack {stack.spec.name}" in changing
    ]
    found += [around(name, services, None) for name, services in desired.dropped_services.items()]
    return [one for one in found if one.services or one.health]


def _with_way_back(change: ChangeRecord, steps: Sequence[Step], desired: Desired) -> ChangeRecord:
    """The chain to roll back to: the one before this change, or before the interrupted one."""
    chain = next((stack.diff_ids for stack in desired.stacks if stack.spec.name == change.name), ())
    if change.was_mounted and not change.back and change.name not in desired.returning:
        for step in steps:
            if isinstance(step, WriteStack) and step.before is not None and step.before.name == change.name:
                change = replace(change, back=step.before.diff_ids, back_layers=step.before.layers)
    return replace(change, back=(), back_layers=()) if change.back == chain else change


def services_notified(desired: Desired, facts: HostFacts) -> list[str]:
    """Errors for services that this host cannot stop and start."""
    errors: list[str] = []
    for stack in desired.stacks:
        errors += service_problems(stack.spec.label, stack.spec.services, facts.systemd, facts.units)
    return errors


def stopped_units(steps: Sequence[Step]) -> Mapping[str, tuple[str, ...]]:
    """Units that a plan stops, by stack: what they hold does not block an unmount."""
    return {step.change.name: step.units for step in steps if isinstance(step, StopServices)}
