# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Compares a definition with this host: observed, desired, and the plan between them. Reads only.

It is all that a host which is right already needs, so the module `plan` is this and nothing more: Ansible packs what
a module imports, and the other half of the code stays on the controller.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Callable, NoReturn, Optional

from ansible_collections.strata.overlay.plugins.module_utils._apply.outcome import Outcome
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import DefinitionError
from ansible_collections.strata.overlay.plugins.module_utils._linux.abilities import Abilities
from ansible_collections.strata.overlay.plugins.module_utils._linux.features import find_abilities
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import existing_above
from ansible_collections.strata.overlay.plugins.module_utils._module import exit_module, guarded
from ansible_collections.strata.overlay.plugins.module_utils._observe.observe import observe, remember
from ansible_collections.strata.overlay.plugins.module_utils._plan.desired import desire
from ansible_collections.strata.overlay.plugins.module_utils._plan.driver import Drivers
from ansible_collections.strata.overlay.plugins.module_utils._plan.plan import plan
from ansible_collections.strata.overlay.plugins.module_utils._plan.steps import (
    ImportContent,
    Mount,
    Plan,
    SetAside,
    StoreImage,
    Switch,
    Unmount,
)
from ansible_collections.strata.overlay.plugins.module_utils._run.request import Request
from ansible_collections.strata.overlay.plugins.module_utils._run.result import View, difference, result_of
from ansible_collections.strata.overlay.plugins.module_utils._source.origin import Origin
from ansible_collections.strata.overlay.plugins.module_utils._store.faults import find_store_faults
from ansible_collections.strata.overlay.plugins.module_utils._store.last_use import names_are_used
from ansible_collections.strata.overlay.plugins.module_utils._store.limits import StoreFaults

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule
    from ansible_collections.strata.overlay.plugins.module_utils._image.image import ImageOrigin


def _as_it_is(view: View) -> View:
    return view


class Inspection:
    """A request held against this host."""

    def __init__(self, request: Request, images: Mapping[str, ImageOrigin]) -> None:
        """
        :param images: those of the definition, by their ``label``.
        """
        self._request = request
        self._store = request.store
        self._images = images
        self._abilities: Optional[Abilities] = None
        self._faults: dict[int, StoreFaults] = {}

    def look(self, origins: Mapping[str, Origin], workspace: str = "") -> View:
        """The host now. Call it with the store locked; DefinitionError lists every mistake."""
        errors = list(self._request.errors)
        known = remember(self._store)
        abilities = self._abilities = self._abilities or find_abilities()
        faults = StoreFaults()
        stacks = [stack for stack in self._request.definition.stacks if stack.state != "absent"]
        if stacks:
            uppers = any(stack.writable == "persistent" and stack.driver in ("auto", "overlay") for stack in stacks)
            faults = self._store_faults(abilities, uppers)
        drivers = Drivers(abilities, faults)
        desired = desire(self._request.definition, origins, known, errors, self._images, drivers)
        observed = observe(self._store, desired, known, abilities, workspace)._replace(faults=faults)
        planned = plan(desired, observed)
        if errors or planned.errors:
            raise DefinitionError([*errors, *planned.errors])
        # The difference is taken now: names are read when they are asked for, and later they are others.
        return View(desired, observed, planned, difference(desired, observed, planned))

    def _store_faults(self, abilities: Abilities, uppers: bool) -> StoreFaults:
        """What the store's file system cannot do: tried once in a run for each that the store lies on meanwhile."""
        device = os.stat(existing_above(self._store.root)).st_dev
        if device not in self._faults:
            self._faults[device] = find_store_faults(self._store.root, abilities, uppers)
        return self._faults[device]

    def first_look(self, origins: Mapping[str, Origin], complete: Callable[[View], View] = _as_it_is) -> View:
        """Lock the store, look at the host, and refuse a plan that would have to unmount what is in use.

        :param complete: adds to the view what needs another look at the store while it is still locked.
        """
        with self._store.reading(self._request.timeout):
            view = complete(self.look(origins))
        if any(isinstance(step, (Unmount, Switch, Mount, SetAside)) for step in view.plan.steps):
            # Imported only when needed, as all that a host which is right does without.
            from ansible_collections.strata.overlay.plugins.module_utils._run.busy import refuse_busy

            refuse_busy(view.plan, view.observed)
        return view

    def note_use(self, view: View) -> None:
        """Let the store remember that this run needs what the definition names: a prune asks for it."""
        written = [name for stack in view.desired.stacks for name in stack.layers]
        names_are_used(self._store, {*view.desired.names, *written})


def awaited(planned: Plan) -> list[str]:
    """What a plan needs and the controller has not sent: DiffIDs of contents, ids of images whose config it is."""
    contents = [
        step.origin.diff_id for step in planned.steps if isinstance(step, ImportContent) and step.origin.awaited
    ]
    return contents + [
        step.origin.image.image_id
        for step in planned.steps
        if isinstance(step, StoreImage) and step.needs_config and not step.origin.image.config
    ]


def run_plan(module: AnsibleModule) -> NoReturn:
    """Say what a definition would change and end the module."""

    def look() -> dict[str, Any]:
        request = Request("apply", module.params)
        # AnsibleModule knows only of those in its options, and here the definition is in the controller's words.
        module.no_log_values |= request.definition.secrets()
        inspection = Inspection(request, request.sent_images())
        view = inspection.first_look(request.sent_origins())
        if request.notes_use and not module.check_mode:
            inspection.note_use(view)
        return {**result_of(request.module, view, Outcome(), {}), "missing": awaited(view.plan)}

    exit_module(module, guarded(module, look, changes=True))
