# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""A definition held against this host: what is, what shall be, and the plan between them. Reads only.

It is all that a host which is right already needs, so the module `plan` is this and nothing more: Ansible packs what
a module imports, and the other half of the code stays on the controller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, NoReturn, Optional

from ansible_collections.strata.overlay.plugins.module_utils._abilities import find_abilities
from ansible_collections.strata.overlay.plugins.module_utils._definition import normalise, told
from ansible_collections.strata.overlay.plugins.module_utils._desired import desire
from ansible_collections.strata.overlay.plugins.module_utils._driver import usable_drivers
from ansible_collections.strata.overlay.plugins.module_utils._errors import DefinitionError, StrataError
from ansible_collections.strata.overlay.plugins.module_utils._lastuse import names_are_used
from ansible_collections.strata.overlay.plugins.module_utils._module import exit_module, guarded
from ansible_collections.strata.overlay.plugins.module_utils._observe import observe, remember
from ansible_collections.strata.overlay.plugins.module_utils._origin import Origin, sent
from ansible_collections.strata.overlay.plugins.module_utils._plan import plan
from ansible_collections.strata.overlay.plugins.module_utils._result import Outcome, View, difference, result_of
from ansible_collections.strata.overlay.plugins.module_utils._steps import (
    ImportContent,
    Plan,
    StoreImage,
    Switch,
    Unmount,
)
from ansible_collections.strata.overlay.plugins.module_utils._store import Store

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule
    from ansible_collections.strata.overlay.plugins.module_utils._definition import Definition
    from ansible_collections.strata.overlay.plugins.module_utils._image import ImageOrigin


def _as_it_is(view: View) -> View:
    return view


class Survey:
    """What one module call is about.

    :ivar module: whose result it is, such as ``stack``.
    :ivar provided: what the controller found out of its layers, by their ``where``.
    :ivar images: the images of the definition, by their ``where``; found out before the host is looked at.
    :ivar problems: mistakes found so far; more are found on the way, and all are told together.
    """

    def __init__(self, module: str, parameters: Mapping[str, Any], definition: Optional[Definition] = None) -> None:
        """
        :param definition: what the parameters come to, where they are not those of a definition or one item of it.
        """
        controller = told(parameters)
        self.module: str = controller.get("module") or module
        self.provided: Mapping[str, Mapping[str, Any]] = controller.get("layers") or {}
        self.notes_use = bool(controller.get("notes_use"))
        self.images: Mapping[str, ImageOrigin] = {}
        self.provided_images: Mapping[str, Mapping[str, Any]] = controller.get("images") or {}
        resolved = (*self.provided, *self.provided_images)
        self.definition, self.problems = (
            (definition, []) if definition else normalise(module, controller.get("definition", parameters), resolved)
        )
        self.only_plan = bool(controller.get("only_plan"))
        self.timeout = float(parameters.get("lock_timeout") or 0)
        self.store = Store(self.definition.root)
        if controller.get("problems"):
            # Told by the controller, of the definition as it was written; what came here is only its outline.
            from ansible_collections.strata.overlay.plugins.module_utils._sketch import sketch_problems

            with self.store.reading(self.timeout):
                raise DefinitionError([*controller["problems"], *sketch_problems(self.store, controller)])

    def sent_origins(self) -> Dict[str, Origin]:
        """The layers that the controller told of, by their ``where``."""
        return {where: sent(facts) for where, facts in self.provided.items()}

    def sent_images(self) -> Dict[str, ImageOrigin]:
        """The images that the controller told of, by their ``where``."""
        found: Dict[str, ImageOrigin] = {}
        if not self.provided_images:
            return found
        # Loaded when it is needed, as all that is about images: many definitions have none.
        from ansible_collections.strata.overlay.plugins.module_utils._image import sent_image

        for spec in self.definition.images:
            if spec.where in self.provided_images:
                try:
                    found[spec.where] = sent_image(self.provided_images[spec.where], spec.platform)
                except StrataError as error:
                    self.problems.append(f"{spec.where}: {error}")
        return found

    def look(self, origins: Mapping[str, Origin]) -> View:
        """The host now. Call it with the store locked; DefinitionError tells every mistake."""
        problems = list(self.problems)
        known = remember(self.store)
        abilities = find_abilities()
        desired = desire(self.definition, origins, known, problems, self.images, usable_drivers(abilities))
        observed = observe(self.store, desired, known, abilities)
        planned = plan(desired, observed)
        if problems or planned.problems:
            raise DefinitionError([*problems, *planned.problems])
        # The difference is taken now: names are read when they are asked for, and later they are others.
        return View(desired, observed, planned, difference(desired, observed, planned))

    def first_look(self, origins: Mapping[str, Origin], complete: Callable[[View], View] = _as_it_is) -> View:
        """The same, locking the store itself, and refusing a plan that would have to unmount what is in use.

        :param complete: adds to the view what only another look at the store can tell, while it is still locked.
        """
        with self.store.reading(self.timeout):
            view = complete(self.look(origins))
        if any(isinstance(step, (Unmount, Switch)) for step in view.plan.steps):
            # Loaded when it is needed, as all that a host which is right does without.
            from ansible_collections.strata.overlay.plugins.module_utils._busy import refuse_busy

            refuse_busy(view.plan)
        return view

    def note_use(self, view: View) -> None:
        """Let the store remember that this run needs what the definition names: a prune asks for it."""
        written = [name for stack in view.desired.stacks for name in stack.layers]
        names_are_used(self.store, {*view.desired.names, *written})


def awaited(planned: Plan) -> List[str]:
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

    def look() -> Dict[str, Any]:
        survey = Survey("apply", module.params)
        # AnsibleModule knows only of those in its options, and here the definition is in the controller's words.
        module.no_log_values |= survey.definition.secrets()
        survey.images = survey.sent_images()
        view = survey.first_look(survey.sent_origins())
        if survey.notes_use and not module.check_mode:
            survey.note_use(view)
        return {**result_of(survey.module, view, Outcome(), {}), "missing": awaited(view.plan)}

    exit_module(module, guarded(module, look, changes=True))
