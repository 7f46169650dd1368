# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""The second half of a run: stage what is missing, take the lock, look again, apply the plan."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Optional, Union

from ansible_collections.strata.overlay.plugins.module_utils._apply.outcome import Outcome
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import NO_ROOM, StrataError, UnhealthyError
from ansible_collections.strata.overlay.plugins.module_utils._definition.prune import PruneSpec
from ansible_collections.strata.overlay.plugins.module_utils._linux.abilities import Abilities
from ansible_collections.strata.overlay.plugins.module_utils._linux.workers import Report
from ansible_collections.strata.overlay.plugins.module_utils._plan.steps import (
    CopyLayers,
    CreateStore,
    ImportContent,
    Step,
    origins_of,
    staging,
)
from ansible_collections.strata.overlay.plugins.module_utils._prune.model import PrunePlan
from ansible_collections.strata.overlay.plugins.module_utils._prune.sweep import sweep
from ansible_collections.strata.overlay.plugins.module_utils._run.inspect import Inspection, awaited
from ansible_collections.strata.overlay.plugins.module_utils._run.prefetch import ReadAhead
from ansible_collections.strata.overlay.plugins.module_utils._run.request import Request
from ansible_collections.strata.overlay.plugins.module_utils._run.resolve import Resolver
from ansible_collections.strata.overlay.plugins.module_utils._run.result import View, difference, result_of
from ansible_collections.strata.overlay.plugins.module_utils._run.stage import stage_contents
from ansible_collections.strata.overlay.plugins.module_utils._source.digest_cache import DigestCache
from ansible_collections.strata.overlay.plugins.module_utils._source.origin import Origin
from ansible_collections.strata.overlay.plugins.module_utils._store.records import ContentRecord

if TYPE_CHECKING:
    from ansible_collections.strata.overlay.plugins.module_utils._apply.apply import Applier
    from ansible_collections.strata.overlay.plugins.module_utils._image.image import ImageOrigin

_TRIES = 3
"""As often a content that others remove meanwhile is unpacked before the lock is taken; then with the lock held."""


class Reconciliation:
    """All of a run but what `_run/engine` has read ahead."""

    def __init__(self, request: Request, cache: DigestCache, check_mode: bool, report: Optional[Report]) -> None:
        """
        :param cache: the store's.
        :param report: as for ``run_jobs``.
        """
        self._request = request
        self._store = request.store
        self._cache = cache
        self._check_mode = check_mode
        self._report = report

    def run(self, resources: contextlib.ExitStack, ahead: ReadAhead) -> dict[str, Any]:
        """Bring the host to the definition, or in check mode say what that would take; the module's result.

        :param resources: where ``ahead`` lies, if anywhere; closed as soon as nothing in it is needed any more.
        """
        request = self._request
        left: list[str] = []
        with resources:
            resolver = Resolver(self._store, request.controller_layers, self._cache)
            origins = resolver.resolve(request.definition, request.errors, ahead.digests)
            warnings = resolver.warnings
            inspection = Inspection(request, self._resolve_images())
            view = inspection.first_look(origins, self._with_prune)
            missing = awaited(view.plan)
            outcome = Outcome()
            if missing and not self._check_mode:
                self._keep_digests()
                return {"changed": False, "missing": missing}
            if view.has_changes and not self._check_mode:
                self._store.prepare()
                resources.callback(lambda: left.append(self._store.tidy()))
                workspace = ahead.workspace or self._workspace(resources, view.plan.steps)
                outcome, view = self._change(inspection, view, origins, workspace, ahead.staged, warnings)
            else:
                self._keep_digests()
        outcome.warnings += [*dict.fromkeys(warnings), *[message for message in left if message]]
        if not self._check_mode:
            inspection.note_use(view)
            if view.pruned is not None:
                outcome.pruned = self._prune(view)
        return result_of(request.module, view, outcome, {} if self._check_mode else self._store.stacks())

    def _workspace(self, resources: contextlib.ExitStack, steps: Sequence[Step]) -> str:
        """Where this run builds; "" where stacks are only removed, so that a full disk needs no new file."""
        try:
            return resources.enter_context(self._store.workspace())
        except OSError as error:
            if error.errno not in NO_ROOM or not _only_takes_away(steps):
                raise
            return ""

    def _keep_digests(self) -> None:
        """What was read needs not be read again, though nothing was changed."""
        if self._store.exists():
            self._cache.flush()

    def _resolve_images(self) -> Mapping[str, ImageOrigin]:
        request = self._request
        if not request.definition.images:
            return {}
        # Imported only when needed, as all that is about images: many definitions have none.
        from ansible_collections.strata.overlay.plugins.module_utils._run.resolve_images import ImageResolver

        resolver = ImageResolver(self._store, request.controller_images, self._cache)
        return resolver.resolve(request.definition, request.errors)

    def _with_prune(self, view: View) -> View:
        """With what the definition's ``prune`` would remove once the plan is carried out; the store is locked."""
        spec = self._request.definition.prune
        if spec is None:
            return view
        from ansible_collections.strata.overlay.plugins.module_utils._prune.preview import choose_after

        chosen, planned = choose_after(self._store, view.plan, view.observed, spec, set(view.desired.names))
        shown = difference(view.desired, view.observed, planned)
        return view._replace(plan=planned, difference=shown, pruned=chosen)

    def _prune(self, view: View) -> PrunePlan:
        """The last part of the plan, with looks and a lock of its own: deleting takes long, others need not wait."""
        from ansible_collections.strata.overlay.plugins.module_utils._prune.run import Pruning

        spec = self._request.definition.prune or PruneSpec()
        return Pruning(self._store, spec, self._request.timeout, set(view.desired.names)).run().plan

    def _change(
        self,
        inspection: Inspection,
        view: View,
        origins: Mapping[str, Origin],
        workspace: str,
        staged: Mapping[str, ContentRecord],
        warnings: list[str],
    ) -> tuple[Outcome, View]:
        """Do what is to be done by now, which may be other than it was; what that came to, and what it was.

        :param staged: what lies in the workspace already.
        :param warnings: as for ``stage_contents``.
        """
        store, abilities = self._store, view.observed.abilities
        stage = partial(
            stage_contents,
            workspace,
            abilities=abilities,
            report=self._report,
            content=store.content,
            warnings=warnings,
        )
        steps, tries = view.plan.steps, 0
        while True:
            staged = stage(origins_of(steps), staged=staged, meanwhile=applier)
            apply = applier()  # loaded by now, not while others wait for the lock
            tries += 1
            with store.changing(self._request.timeout):
                sweep(store)
                # Others may have changed the host while this run was unpacking: what counts is what it needs now.
                now = inspection.look(origins, workspace)
                steps = now.plan.steps
                if not workspace and not _only_takes_away(steps):
                    raise StrataError(
                        f"{self._store.root} has no space for another file, and steps are left; free space, run again"
                    )
                lost = [step for step in staging(steps) if _is_lost(step, staged)]
                if lost and tries < _TRIES:
                    continue  # without the lock: it takes long
                staged = stage(origins_of(lost), staged=staged)
                # Names are read on demand, so the state before is recorded before it changes.
                done = _as_done(view, now)
                try:
                    outcome = apply(store, workspace, staged, abilities).run(steps)
                except UnhealthyError as failure:
                    from ansible_collections.strata.overlay.plugins.module_utils._apply.rollback import go_back

                    raise go_back(store, now.desired, failure, self._again(workspace, abilities)) from failure
                if workspace:
                    self._cache.flush()
            return outcome, done

    def _again(self, workspace: str, abilities: Abilities) -> Callable[[Sequence[Step]], object]:
        """What does the steps of a way back, with the store locked as it is."""

        def run(steps: Sequence[Step]) -> object:
            staged = stage_contents(workspace, origins_of(steps), abilities, content=self._store.content)
            return applier()(self._store, workspace, staged, abilities).run(steps)

        return run


def _only_takes_away(steps: Sequence[Step]) -> bool:
    from ansible_collections.strata.overlay.plugins.module_utils._apply.apply import TAKING_AWAY

    return all(isinstance(step, TAKING_AWAY) for step in steps)


def applier() -> type[Applier]:
    """Loaded when it is needed, so mostly while workers unpack."""
    from ansible_collections.strata.overlay.plugins.module_utils._apply.apply import Applier

    return Applier


def _is_lost(step: Union[ImportContent, CopyLayers], staged: Mapping[str, Any]) -> bool:
    """Whether a content was in the store when this run began, and is no more."""
    if step.origin.awaited:
        raise StrataError(f"{step.describe()}: it was removed while this ran; run again")
    return step.origin.diff_id not in staged


def _as_done(view: View, now: View) -> View:
    """The view whose plan is carried out: another run may have done, and reported, part of it in between."""
    made = tuple(step for step in view.plan.steps if isinstance(step, CreateStore))  # which it has done by now
    removals = len(view.pruned.removals) if view.pruned else 0
    planned = len(view.plan.steps) - removals
    same = now.observed.shadowed == view.observed.shadowed
    if same and (*made, *now.plan.steps) == view.plan.steps[:planned]:
        return view
    done = now.plan._replace(steps=(*made, *now.plan.steps, *view.plan.steps[planned:]))
    return now._replace(plan=done, pruned=view.pruned, difference=difference(now.desired, now.observed, done))
