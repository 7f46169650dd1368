# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""One run: definition in, host brought to it, result out. Modules that change anything are this, given a definition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Mapping, NoReturn

from ansible_collections.strata.overlay.plugins.module_utils._apply import Applier
from ansible_collections.strata.overlay.plugins.module_utils._errors import StrataError, UnhealthyError
from ansible_collections.strata.overlay.plugins.module_utils._goback import go_back
from ansible_collections.strata.overlay.plugins.module_utils._module import guarded
from ansible_collections.strata.overlay.plugins.module_utils._origin import Origin
from ansible_collections.strata.overlay.plugins.module_utils._resolve import Resolver
from ansible_collections.strata.overlay.plugins.module_utils._result import Outcome, View, result_of
from ansible_collections.strata.overlay.plugins.module_utils._stage import stage_contents
from ansible_collections.strata.overlay.plugins.module_utils._steps import ImportContent
from ansible_collections.strata.overlay.plugins.module_utils._survey import Survey, awaited, exit_module

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


class Run:
    """One module call."""

    def __init__(self, module: str, parameters: Mapping[str, Any], check_mode: bool) -> None:
        self._survey = Survey(module, parameters)
        self._check_mode = check_mode or self._survey.only_plan
        self._store = self._survey.store
        self._resolver = Resolver(self._store, self._survey.provided, keep=not self._check_mode)

    def execute(self) -> Dict[str, Any]:
        """Bring the host to the definition, or in check mode say what that would take; the module's result."""
        origins = self._resolver.resolve(self._survey.definition, self._survey.problems)
        view = self._survey.first_look(origins)
        missing = awaited(view.plan)
        outcome = Outcome()
        if missing and not self._check_mode:
            return {"changed": False, "missing": missing}
        if view.plan.steps and not self._check_mode:
            outcome = self._change(view, origins)
        elif self._store.exists():
            self._resolver.cache.flush()
        return result_of(self._survey.module, view, outcome, {} if self._check_mode else self._store.stacks())

    def _change(self, view: View, origins: Mapping[str, Origin]) -> Outcome:
        store = self._store
        store.prepare()
        abilities = view.observed.abilities
        try:
            with store.workspace() as workspace:
                staged = stage_contents(workspace, view.plan.steps, abilities)
                with store.changing(self._survey.timeout):
                    store.sweep()
                    # Others may have changed the host while this run was unpacking: what counts is what it needs now.
                    now = self._survey.look(origins)
                    steps = now.plan.steps
                    for step in steps:
                        if isinstance(step, ImportContent) and step.origin.diff_id not in staged:
                            raise StrataError(f"{step.words()}: it was removed while this ran; run again")
                    try:
                        outcome = Applier(store, workspace, staged, abilities).run(steps)
                    except UnhealthyError as failure:
                        again = Applier(store, workspace, {}, abilities)
                        raise go_back(store, now.desired, failure, again.run) from failure
                    self._resolver.cache.flush()
        finally:
            store.empty_trash()
        return outcome


def run_module(module: AnsibleModule, name: str) -> NoReturn:
    """Bring the host to a module's parameters and end the module."""
    exit_module(module, guarded(module, lambda: Run(name, module.params, module.check_mode).execute()))
