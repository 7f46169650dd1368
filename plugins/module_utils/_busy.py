# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Plans that would unmount what processes or other mounts use are refused before anything is done."""

from __future__ import annotations

import os

from ansible_collections.strata.overlay.plugins.module_utils._around import stopped_units
from ansible_collections.strata.overlay.plugins.module_utils._errors import BusyError
from ansible_collections.strata.overlay.plugins.module_utils._holders import busy_message, holders, mounts_inside
from ansible_collections.strata.overlay.plugins.module_utils._services import runs_in_unit
from ansible_collections.strata.overlay.plugins.module_utils._steps import Plan, Switch, Unmount


def refuse_busy(planned: Plan) -> None:
    """Nothing, or BusyError with what is in the way: before the first step, since later ones cannot be taken back."""
    stopped = stopped_units(planned.steps)
    for step in planned.steps:
        if isinstance(step, Unmount) and not step.detach:
            units = stopped.get(step.name, ())
            found = [one for one in holders(os.path.realpath(step.path)) if not runs_in_unit(one.pid, units)]
            if found:
                raise BusyError(busy_message(step.name, step.path, found))
        if isinstance(step, Switch) and step.stack.spec.on_busy == "fail":
            # Processes keep the old tree; but what is mounted in it would be seen by nobody any more.
            inside = mounts_inside(os.path.realpath(step.stack.spec.path))
            if inside:
                raise BusyError(busy_message(step.stack.spec.name, step.stack.spec.path, inside))
