# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Applies a plan's steps: the only code that changes a host.

Long work (unpacking) is done before the store is locked; what it made is published under the lock. Runs of steps
of one kind
are done as one transaction, so five hundred layers cost one sync and not five hundred.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from ansible_collections.strata.overlay.plugins.module_utils._apply.contents import ContentApplier
from ansible_collections.strata.overlay.plugins.module_utils._apply.host import Batches, HostApplier
from ansible_collections.strata.overlay.plugins.module_utils._apply.mounts import MountApplier, then
from ansible_collections.strata.overlay.plugins.module_utils._apply.outcome import Outcome
from ansible_collections.strata.overlay.plugins.module_utils._apply.stacks import StackApplier
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import (
    StrataError,
    error_text,
)
from ansible_collections.strata.overlay.plugins.module_utils._linux.abilities import Abilities
from ansible_collections.strata.overlay.plugins.module_utils._mount.mounter import Mounter
from ansible_collections.strata.overlay.plugins.module_utils._plan.host_steps import RemoveUnit, StopServices
from ansible_collections.strata.overlay.plugins.module_utils._plan.steps import (
    DropName,
    ForgetStack,
    SetAside,
    Step,
    Unmount,
)
from ansible_collections.strata.overlay.plugins.module_utils._store.records import ContentRecord
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store

TAKING_AWAY = (Unmount, SetAside, ForgetStack, DropName, StopServices, RemoveUnit)
"""Steps that need no new file: they are done also where the file system has no room for any."""


class Applier:
    """Does the steps of a plan, in order. Call it with the store locked for changes."""

    def __init__(self, store: Store, workspace: str, staged: Mapping[str, ContentRecord], abilities: Abilities) -> None:
        mounter = Mounter(store, workspace, abilities)
        self.outcome = Outcome()
        self._contents = ContentApplier(store, workspace, staged)
        self._stacks = StackApplier(store, workspace, staged, mounter)
        self._mounts = MountApplier(store, self._stacks, mounter, self.outcome)
        self._host = HostApplier(store, workspace)

    def run(self, steps: Sequence[Step]) -> Outcome:
        """All steps; StrataError says which could not be done. Those done before it stay done."""
        batches: Batches = {
            **self._contents.batches(),
            **self._stacks.batches(),
            **self._mounts.batches(),
            **self._host.batches(),
            StopServices: self._stop_services,
        }
        self._host.begin(steps)
        self._stacks.begin(steps)
        self._mounts.begin(steps)
        try:
            for kind, group in groupby(steps, key=type):
                if kind in batches:
                    batches[kind](list(group))
        except (StrataError, OSError) as error:
            after = " ".join([*self._mounts.bring_back(), *filter(None, [self._host.recover()])])
            if after and isinstance(error, OSError):
                raise StrataError(f"The host refused: {error_text(error)}. {after}{then(error)}") from error
            if after:
                error.args = (f"{error} {after}",)
            raise
        finally:
            self._host.end()
        self.outcome.health.update(self._host.checked)
        return self.outcome

    def _stop_services(self, steps: list[StopServices]) -> None:
        for step in steps:
            try:
                self._host.stop(step)
            except StrataError:
                self._stacks.put_record_back(step.change.name)
                raise
