# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Step types for services, health checks and boot files. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.strata.overlay.plugins.module_utils._boot.model import BootEntry
from ansible_collections.strata.overlay.plugins.module_utils._definition.health import HealthSpec
from ansible_collections.strata.overlay.plugins.module_utils._plan.steps import Step
from ansible_collections.strata.overlay.plugins.module_utils._store.records import ChangeRecord


@dataclass(frozen=True)
class ServiceStep(Step):
    """A service or health step around a change of a stack.

    :ivar change: what the host was like before it, kept on record until all of it is done.
    """

    change: ChangeRecord

    @property
    def object(self) -> str:
        return f"stack {self.change.name}"


@dataclass(frozen=True)
class StopServices(ServiceStep):
    """Stop running units before their tree goes away."""

    units: tuple[str, ...]

    def describe(self) -> str:
        return f"stop {', '.join(self.units)}"


@dataclass(frozen=True)
class StartServices(ServiceStep):
    """Start units again, or let running ones see the new tree.

    :ivar jobs: verb (``start``, ``restart`` or ``reload``) and unit, in order.
    """

    jobs: tuple[tuple[str, str], ...]

    def describe(self) -> str:
        return ", ".join(f"{verb} {unit}" for verb, unit in self.jobs)


@dataclass(frozen=True)
class CheckHealth(ServiceStep):
    """Check that what uses the stack works with the new tree."""

    health: HealthSpec

    def describe(self) -> str:
        tries = self.health.retries + 1
        return f"check the health of stack {self.change.name}: {self.health.describe()}" + (
            f", at most {tries} times" if tries > 1 else ""
        )


@dataclass(frozen=True)
class WriteUnit(Step):
    """Write what mounts a stack at boot: a mount unit with its links, or a line of fstab.

    :ivar stale: links that go away.
    """

    entry: BootEntry
    stale: frozenset[str]

    @property
    def object(self) -> str:
        return f"stack {self.entry.stack}"

    def describe(self) -> str:
        if self.entry.is_unit:
            return f"write {self.entry.name}, which mounts stack {self.entry.stack} at boot"
        return f"write the line of stack {self.entry.stack} into {self.entry.name}"


@dataclass(frozen=True)
class RemoveUnit(Step):
    """Remove what would mount a stack at boot."""

    entry: BootEntry

    @property
    def object(self) -> str:
        return f"stack {self.entry.stack}"

    def describe(self) -> str:
        if self.entry.is_unit:
            return f"remove {self.entry.name}: stack {self.entry.stack} is not mounted there at boot"
        return f"remove the line of stack {self.entry.stack} from {self.entry.name}"
