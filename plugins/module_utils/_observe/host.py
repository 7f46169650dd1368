# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Observes services, interrupted changes and boot files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ansible_collections.strata.overlay.plugins.module_utils._boot.facts import observe_boot
from ansible_collections.strata.overlay.plugins.module_utils._linux.init_system import has_systemd
from ansible_collections.strata.overlay.plugins.module_utils._linux.mounts import Mount
from ansible_collections.strata.overlay.plugins.module_utils._plan.desired import Desired
from ansible_collections.strata.overlay.plugins.module_utils._plan.state import HostFacts
from ansible_collections.strata.overlay.plugins.module_utils._store.records import ChangeRecord
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store

if TYPE_CHECKING:
    from ansible_collections.strata.overlay.plugins.module_utils._services.units import UnitState


def observe_host(store: Store, desired: Desired, mounts: Sequence[Mount]) -> HostFacts:
    """Look; systemd is asked only where a definition names services."""
    systemd = has_systemd()
    services = [service.unit for stack in desired.stacks for service in stack.spec.services]
    services += [service.unit for group in desired.dropped_services.values() for service in group]
    found = ((stack.spec.name, store.change_record(stack.spec.name)) for stack in desired.stacks)
    changes: dict[str, ChangeRecord] = {name: change for name, change in found if change is not None}
    return HostFacts(
        systemd=systemd,
        units=_states(services) if systemd and services else {},
        changes=changes,
        boot=observe_boot(store.root, mounts),
    )


def _states(services: list[str]) -> Mapping[str, UnitState]:
    # Imported only when needed: many definitions name no services.
    from ansible_collections.strata.overlay.plugins.module_utils._services.systemd import Systemd

    return Systemd().states(services)
