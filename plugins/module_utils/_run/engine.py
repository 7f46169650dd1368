# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Runs one module call: takes a definition, brings the host to it, returns the result.

New archives are unpacked first, see `_run/prefetch`. To compile the rest of the code, `_run/reconcile`, takes longer on
a host than all that the rest does, so this process does it while its workers unpack.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn, Optional

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.definition import controller_facts
from ansible_collections.strata.overlay.plugins.module_utils._definition.layer import Source
from ansible_collections.strata.overlay.plugins.module_utils._linux.workers import Report
from ansible_collections.strata.overlay.plugins.module_utils._module import exit_module, guarded
from ansible_collections.strata.overlay.plugins.module_utils._run.prefetch import (
    ReadAhead,
    look_ahead,
    read_ahead,
)
from ansible_collections.strata.overlay.plugins.module_utils._run.progress import progress_file
from ansible_collections.strata.overlay.plugins.module_utils._run.request import Request
from ansible_collections.strata.overlay.plugins.module_utils._source.digest_cache import DigestCache, Digested
from ansible_collections.strata.overlay.plugins.module_utils._source.source import Unread

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule
    from ansible_collections.strata.overlay.plugins.module_utils._definition.definition import Definition


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
        :param report: called with the progress of unpacking, at most twice a second.
        :param definition: as for ``Request``.
        """
        self._request = Request(module, parameters, definition)
        self._check_mode = check_mode or self._request.only_plan
        self._cache = DigestCache(self._request.store.sources, keep=not self._check_mode)
        self._report = report

    def execute(self) -> dict[str, Any]:
        """Bring the host to the definition, or in check mode say what that would take; the module's result."""
        with contextlib.ExitStack() as resources:
            known, sources = self._look_ahead()
            lacking = self._request.lacking() if sources else []
            if lacking:
                # Archives are read once, by the call that is given all the rest.
                return {"changed": False, "missing": lacking}
            ahead = self._read_ahead(resources, known, sources)
            # Imported only when needed, so mostly by `_load_all`.
            from ansible_collections.strata.overlay.plugins.module_utils._run.reconcile import Reconciliation

            reconciliation = Reconciliation(self._request, self._cache, self._check_mode, self._report)
            return reconciliation.run(resources.pop_all(), ahead)

    def secrets(self) -> set[str]:
        """What no message and no log may show."""
        return self._request.definition.secrets()

    def _look_ahead(self) -> tuple[dict[Source, Digested], list[Unread]]:
        request = self._request
        if self._check_mode or request.errors:
            return {}, []
        return look_ahead(request.definition, request.controller_layers, request.store, self._cache)

    def _read_ahead(
        self, resources: contextlib.ExitStack, known: Mapping[Source, Digested], sources: Sequence[Unread]
    ) -> ReadAhead:
        """Unpack what has to be read anyway for the plan to be made.

        :param resources: holds what was unpacked.
        """
        store, without = self._request.store, ReadAhead(known, {})
        if not sources:
            return without
        with contextlib.ExitStack() as own:
            workspace = own.enter_context(store.first_workspace())
            # Failures are not reported here: resolving reads them all again and reports all mistakes together.
            with contextlib.suppress(StrataError, OSError):
                ahead = read_ahead(workspace, sources, store, self._cache, self._report, _load_all)
                resources.enter_context(own.pop_all())
                return replace(ahead, digests={**known, **ahead.digests})
        # Should the others be there the next time, the times of these have to be settled all the same.
        settled = [item for item in sources if item.before]
        return self._read_ahead(resources, known, settled) if len(settled) < len(sources) else without


def _load_all() -> object:
    """What a run needs that changes something."""
    from ansible_collections.strata.overlay.plugins.module_utils._run.reconcile import Reconciliation, applier

    return Reconciliation, applier()


def run_module(module: AnsibleModule, name: str) -> NoReturn:
    """Bring the host to a module's parameters and end the module."""

    def run() -> dict[str, Any]:
        with progress_file(str(controller_facts(module.params).get("progress", ""))) as report:
            call = Run(name, module.params, module.check_mode, report)
            # AnsibleModule knows only of those in its options, and some came in the controller's words.
            module.no_log_values |= call.secrets()
            return call.execute()

    exit_module(module, guarded(module, run, changes=True, keep=not module.check_mode))
