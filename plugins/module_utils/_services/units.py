# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""State of systemd units, and mistakes in what a definition asks of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ansible_collections.strata.overlay.plugins.module_utils._definition.service import Service
from ansible_collections.strata.overlay.plugins.module_utils._definition.validate import nearest


class UnitState(NamedTuple):
    """A unit as systemd sees it: LoadState, ActiveState and UnitFileState of org.freedesktop.systemd1(5)."""

    load: str
    active: str
    file: str = ""

    @property
    def running(self) -> bool:
        """It works, or is about to: what a change must bring back."""
        return self.active in ("active", "activating", "reloading", "refreshing")

    @property
    def enabled(self) -> bool:
        """The next boot would start it."""
        return self.file in ("enabled", "enabled-runtime")

    @property
    def fault(self) -> str:
        """Why nothing can be done with it, "" when nothing speaks against it."""
        if self.load == "not-found":
            return "systemd knows no such unit"
        return f"systemd cannot load it ({self.load})" if self.load in ("bad-setting", "error") else ""


def service_problems(
    label: str, services: Sequence[Service], systemd: bool, states: Mapping[str, UnitState]
) -> list[str]:
    """What speaks against using these services on this host. Pure.

    :param systemd: whether systemd runs this host.
    """
    if services and not systemd:
        message = "needs systemd, which does not run this host or does not obey this user; leave the option out"
        return [f"{label}: option 'services' {message}"]
    errors = []
    for service in services:
        state = states.get(service.unit)
        if state is not None and state.fault:
            known = [unit for unit, other in states.items() if not other.fault]
            errors.append(
                f"{label}: option 'services': {service.unit}: {state.fault}{nearest(service.unit, known)}; "
                "install the unit first, or leave it out"
            )
    return errors
