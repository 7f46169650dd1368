# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""One run: definition in, host brought to it, result out. Modules that change anything are this, given a definition."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, NoReturn, Optional, Sequence, Tuple, Union

from ansible_collections.strata.overlay.plugins.module_utils._abilities import Abilities
from ansible_collections.strata.overlay.plugins.module_utils._apply import Applier
from ansible_collections.strata.overlay.plugins.module_utils._definition import told
from ansible_collections.strata.overlay.plugins.module_utils._errors import StrataError, UnhealthyError
from ansible_collections.strata.overlay.plugins.module_utils._module import exit_module, guarded
from ansible_collections.strata.overlay.plugins.module_utils._origin import Origin
from ansible_collections.strata.overlay.plugins.module_utils._progressfile import progress_file
from ansible_collections.strata.overlay.plugins.module_utils._prunespec import PruneSpec
from ansible_collections.strata.overlay.plugins.module_utils._readahead import (
    NOTHING,
    ReadAhead,
    look_ahead,
    read_ahead,
)
from ansible_collections.strata.overlay.plugins.module_utils._removal import PrunePlan
from ansible_collections.strata.overlay.plugins.module_utils._resolve import Resolver
from ansible_collections.strata.overlay.plugins.module_utils._result import (
    Outcome,
    View,
    difference,
    result_of,
)
from ansible_collections.strata.overlay.plugins.module_utils._stage import stage_contents
from ansible_collections.strata.overlay.plugins.module_utils._steps import CopyLayers, CreateStore, ImportContent, Step
from ansible_collections.strata.overlay.plugins.module_utils._survey import Survey, awaited
from ansible_collections.strata.overlay.plugins.module_utils._sweep import sweep
from ansible_collections.strata.overlay.plugins.module_utils._workers import Report

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule
    from ansible_collections.strata.overlay.plugins.module_utils._definition import Definition
    from ansible_collections.strata.overlay.plugins.module_utils._image import ImageOrigin

_TRIES = 3
"""As often a content that others remove meanwhile is unpacked before the lock is taken; then with the lock held."""


class Run:
    """One module call."""

    def __init__(
        self,
        module: str,
        parameters: Mapping[str, Any],
        check_mode: bool,
        report: Optional[Report] = None,
        definition: Optional[Definition] = None,
    ) -> None:
        """
        :param report: told how far the unpacking is, at most twice a second.
        :param definition: as for ``Survey``.
        """
        self._survey = Survey(module, parameters, definition)
        self._check_mode = check_mode or self._survey.only_plan
        self._store = self._survey.store
        self._resolver = Resolver(self._store, self._survey.provided, keep=not self._check_mode)
        self._report = report

    def execute(self) -> Dict[str, Any]:
        """Bring the host to the definition, or in check mode say what that would take; the module's result."""
        left: List[str] = []
        with contextlib.ExitStack() as room:
            workspace, ahead = self._read_ahead(room)
            origins = self._resolver.resolve(self._survey.definition, self._survey.problems, ahead.digests)
            self._survey.images = self._resolve_images()
            view = self._survey.first_look(origins, self._with_prune)
            missing = awaited(view.plan)
            outcome = Outcome()
            if missing and not self._check_mode:
                return {"changed": False, "missing": missing}
            if view.has_changes and not self._check_mode:
                self._store.prepare()
                room.callback(lambda: left.append(self._store.tidy()))
                workspace = workspace or room.enter_context(self._store.workspace())
                outcome, view = self._change(view, origins, workspace, ahead)
            elif self._store.exists():
                self._resolver.cache.flush()
        outcome.warnings += [words for words in left if words]
        if not self._check_mode:
            self._survey.note_use(view)
            if view.pruned is not None:
                outcome.pruned = self._prune(view)
        return result_of(self._survey.module, view, outcome, {} if self._check_mode else self._store.stacks())

    def _resolve_images(self) -> Mapping[str, ImageOrigin]:
        survey = self._survey
        if not survey.definition.images:
            return {}
        # Loaded when it is needed, as all that is about images: many definitions have none.
        from ansible_collections.strata.overlay.plugins.module_utils._resolveimage import ImageResolver

        resolver = ImageResolver(self._store, survey.provided_images, self._resolver.cache)
        return resolver.resolve(survey.definition, survey.problems)

    def _with_prune(self, view: View) -> View:
        """With what the definition's ``prune`` would remove once the plan is carried out; the store is locked."""
        spec = self._survey.definition.prune
        if spec is None:
            return view
        from ansible_collections.strata.overlay.plugins.module_utils._pruneview import choose_after

        chosen, planned = choose_after(self._store, view.plan, view.observed, spec, set(view.desired.names))
        shown = difference(view.desired, view.observed, planned)
        return view._replace(plan=planned, difference=shown, pruned=chosen)

    def _prune(self, view: View) -> PrunePlan:
        """The last part of the plan, with looks and a lock of its own: deleting takes long, others need not wait."""
        from ansible_collections.strata.overlay.plugins.module_utils._pruning import Pruning

        spec = self._survey.definition.prune or PruneSpec()
        return Pruning(self._store, spec, self._survey.timeout, set(view.desired.names)).run().plan

    def _read_ahead(self, room: contextlib.ExitStack) -> Tuple[str, ReadAhead]:
        """Unpack what has to be read anyway for the plan to be made; the workspace, "" where there is nothing to do.

        :param room: closed at the end of the run, with the workspace.
        """
        survey, cache = self._survey, self._resolver.cache
        if self._check_mode or survey.problems:
            return "", NOTHING
        known, sources = look_ahead(survey.definition, survey.provided, self._store, cache)
        without = ReadAhead(known, {})
        if not sources:
            return "", without
        with contextlib.ExitStack() as own:
            workspace = own.enter_context(self._store.first_workspace())
            try:
                ahead = read_ahead(workspace, sources, self._store, cache, self._report)
            except (StrataError, OSError):
                # Not told here: resolving reads them all once more, and tells all mistakes of all layers together.
                return "", without
            room.enter_context(own.pop_all())
            return workspace, replace(ahead, digests={**known, **ahead.digests})

    def _change(
        self, view: View, origins: Mapping[str, Origin], workspace: str, ahead: ReadAhead
    ) -> Tuple[Outcome, View]:
        """Do what is to be done by now, which may be other than it was; what that came to, and what it was."""
        store, abilities = self._store, view.observed.abilities
        staged, steps, tries = ahead.staged, view.plan.steps, 0
        while True:
            staged = stage_contents(workspace, steps, abilities, staged, self._report, store.content)
            tries += 1
            with store.changing(self._survey.timeout):
                sweep(store)
                # Others may have changed the host while this run was unpacking: what counts is what it needs now.
                now = self._survey.look(origins)
                steps = now.plan.steps
                lost = [
                    step for step in steps if isinstance(step, (ImportContent, CopyLayers)) and _is_lost(step, staged)
                ]
                if lost and tries < _TRIES:
                    continue  # without the lock: it takes long
                staged = stage_contents(workspace, lost, abilities, staged, self._report, store.content)
                try:
                    outcome = Applier(store, workspace, staged, abilities).run(steps)
                except UnhealthyError as failure:
                    from ansible_collections.strata.overlay.plugins.module_utils._goback import go_back

                    raise go_back(store, now.desired, failure, self._again(workspace, abilities)) from failure
                self._resolver.cache.flush()
            return outcome, _as_done(view, now)

    def _again(self, workspace: str, abilities: Abilities) -> Callable[[Sequence[Step]], object]:
        """What does the steps of a way back, with the store locked as it is."""

        def run(steps: Sequence[Step]) -> object:
            staged = stage_contents(workspace, steps, abilities, content=self._store.content)
            return Applier(self._store, workspace, staged, abilities).run(steps)

        return run


def _is_lost(step: Union[ImportContent, CopyLayers], staged: Mapping[str, Any]) -> bool:
    """Whether a content was in the store when this run began, and is no more."""
    if step.origin.awaited:
        raise StrataError(f"{step.words()}: it was removed while this ran; run again")
    return step.origin.diff_id not in staged


def _as_done(view: View, now: View) -> View:
    """The view whose plan was carried out: another run may have done part of it in between, and told so."""
    made = tuple(step for step in view.plan.steps if isinstance(step, CreateStore))  # which it has done by now
    removals = len(view.pruned.removals) if view.pruned else 0
    planned = len(view.plan.steps) - removals
    if (*made, *now.plan.steps) == view.plan.steps[:planned]:
        return view
    done = now.plan._replace(steps=(*made, *now.plan.steps, *view.plan.steps[planned:]))
    return now._replace(plan=done, pruned=view.pruned, difference=difference(now.desired, now.observed, done))


def run_module(module: AnsibleModule, name: str) -> NoReturn:
    """Bring the host to a module's parameters and end the module."""

    def run() -> Dict[str, Any]:
        with progress_file(str(told(module.params).get("progress", ""))) as report:
            return Run(name, module.params, module.check_mode, report).execute()

    exit_module(module, guarded(module, run, changes=True, keep=not module.check_mode))
