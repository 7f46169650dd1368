# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Runs one check, and a repair on request. The module `store_check`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from ansible_collections.strata.overlay.plugins.module_utils._check.deep import changed_contents
from ansible_collections.strata.overlay.plugins.module_utils._check.engines import check_engine
from ansible_collections.strata.overlay.plugins.module_utils._check.judge import find
from ansible_collections.strata.overlay.plugins.module_utils._check.model import Finding
from ansible_collections.strata.overlay.plugins.module_utils._check.repair import PLACES, Repairer, fix_places
from ansible_collections.strata.overlay.plugins.module_utils._check.scan import look
from ansible_collections.strata.overlay.plugins.module_utils._check.snapshot import Changed
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import DefinitionError, StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.argspec import store_check_module_spec
from ansible_collections.strata.overlay.plugins.module_utils._definition.definition import check_root
from ansible_collections.strata.overlay.plugins.module_utils._definition.validate import check_options
from ansible_collections.strata.overlay.plugins.module_utils._engines.detect import engine_of
from ansible_collections.strata.overlay.plugins.module_utils._module import exit_module, guarded
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store, open_store

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

_ROUNDS = 4
"""What repair makes anew can show what else is missing; more rounds than kinds of things that build on each other."""


class Checking:
    """A check of one store.

    :param deep: read every content too.
    """

    def __init__(self, store: Store, deep: bool, timeout: float) -> None:
        self._store = store
        self._deep = deep
        self._timeout = timeout

    def find(self) -> list[Finding]:
        """What is wrong now. Changes nothing."""
        if not _is_there(self._store):
            return []
        changed = changed_contents(self._store) if self._deep else {}
        with self._store.reading(self._timeout, damaged=True):
            return find(look(self._store, changed))

    def repair(self) -> list[Finding]:
        """Repair what can be repaired; returns every finding, before and in between."""
        store = self._store
        if not _is_there(store):
            return []
        changed: Mapping[str, Changed] = changed_contents(store) if self._deep else {}
        with store.reading(self._timeout, damaged=True):
            found = find(look(store, changed))
        if not _repairable(found):
            return found
        with store.changing(self._timeout, damaged=True):
            first = find(look(store, changed))
            fix_places(store, first)
            with store.workspace() as workspace:
                seen = self._rounds(Repairer(store, workspace), changed, first)
        left = store.tidy()
        if left:
            raise StrataError(f"What was found is repaired. {left}")
        return seen

    def _rounds(self, repairer: Repairer, changed: Mapping[str, Changed], first: Sequence[Finding]) -> list[Finding]:
        """Repair until nothing repairable is left; returns every finding."""
        seen = dict.fromkeys(first)
        found = find(look(self._store, changed))
        for _round in range(_ROUNDS):
            if not _repairable(found) or any(finding.kind in PLACES for finding in found):
                break
            repairer.run(found)
            # What this run itself has thrown away is no rest of a run that was ended.
            found = [finding for finding in find(look(self._store, changed)) if finding.kind != "leftover"]
            seen.update(dict.fromkeys(found))
        return list(seen)


def _is_there(store: Store) -> bool:
    """Whether there is anything of a store, be it ever so damaged."""
    return any(os.path.lexists(f"{store.root}/{name}") for name in ("overlay2", "content", "strata"))


def _repairable(findings: Sequence[Finding]) -> bool:
    return any(finding.fix is not None for finding in findings)


def check(parameters: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Run the module ``store_check``. DefinitionError lists every mistake."""
    errors: list[str] = []
    options = check_options("", parameters, store_check_module_spec(), errors)
    root = check_root(options["root"], errors)
    engine = engine_of(root)
    if engine and options["repair"]:
        errors.append(
            f"option 'repair': {root} is a root of {engine.capitalize()}, which is never changed; repair it with "
            f"{engine.capitalize()}'s own means, docs/recovery.md names them"
        )
    if engine and options["deep"]:
        errors.append(f"option 'deep': {root} is a root of {engine.capitalize()}, of which no digests are known")
    if errors:
        raise DefinitionError(errors)
    if engine:
        return check_result(check_engine(root), repair=False)
    checking = Checking(open_store(root), options["deep"], float(options["lock_timeout"]))
    if options["repair"] and not check_mode:
        return check_result(checking.repair(), repair=True)
    return check_result(checking.find(), repair=options["repair"])


def check_result(findings: Sequence[Finding], repair: bool) -> dict[str, Any]:
    """A module's result, as the RETURN of ``store_check`` says."""
    shown = [finding.result() for finding in findings]
    fixed = [finding for finding in findings if finding.fix is not None] if repair else []
    listed = "".join(f"{finding.kind} {finding.object}\n" for finding in fixed)
    return {"changed": bool(fixed), "findings": shown, "diff": {"before": listed, "after": ""}}


def run_check(module: AnsibleModule) -> NoReturn:
    """Check by a module's parameters and end the module."""
    exit_module(module, guarded(module, lambda: check(module.params, module.check_mode), changes=True))
