# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""What a plan asks of the host beside store and mounts: services, changes cut short, what is mounted at boot."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Dict, List, Mapping, NamedTuple, Sequence

from ansible_collections.strata.overlay.plugins.module_utils._bootfacts import BootFacts, observe_boot
from ansible_collections.strata.overlay.plugins.module_utils._desired import Desired
from ansible_collections.strata.overlay.plugins.module_utils._mountinfo import Mount
from ansible_collections.strata.overlay.plugins.module_utils._records import ChangeRecord
from ansible_collections.strata.overlay.plugins.module_utils._service import has_systemd
from ansible_collections.strata.overlay.plugins.module_utils._store import Store

if TYPE_CHECKING:
    from ansible_collections.strata.overlay.plugins.module_utils._services import UnitState


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


def observe_host(store: Store, desired: Desired, mounts: Sequence[Mount]) -> HostFacts:
    """Look; systemd is asked only where a definition names services."""
    systemd = has_systemd()
    services = [service.unit for stack in desired.stacks for service in stack.spec.services]
    services += [service.unit for group in desired.dropped_services.values() for service in group]
    found = ((stack.spec.name, store.change_record(stack.spec.name)) for stack in desired.stacks)
    changes: Dict[str, ChangeRecord] = {name: change for name, change in found if change is not None}
    return HostFacts(
        systemd=systemd,
        units=_states(services) if systemd and services else {},
        changes=changes,
        boot=observe_boot(store.root, mounts),
    )


def _states(services: List[str]) -> Mapping[str, UnitState]:
    # Loaded when it is needed: many definitions name no services.
    from ansible_collections.strata.overlay.plugins.module_utils._services import Systemd

    return Systemd().states(services)
