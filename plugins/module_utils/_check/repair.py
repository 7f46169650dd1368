# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Repairs a store, by the same transactions as every change."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TypeVar

from ansible_collections.strata.overlay.plugins.module_utils._check.model import (
    Discard,
    Finding,
    Fix,
    Keep,
    MakeDirectories,
    RebuildLayer,
    RebuildWritable,
    RecordContent,
    Sweep,
    WriteTags,
)
from ansible_collections.strata.overlay.plugins.module_utils._common.clock import now
from ansible_collections.strata.overlay.plugins.module_utils._image.db_stage import stage_repositories
from ansible_collections.strata.overlay.plugins.module_utils._layer.tree_digest import tree_digest
from ansible_collections.strata.overlay.plugins.module_utils._linux import syscalls
from ansible_collections.strata.overlay.plugins.module_utils._prune.sweep import sweep
from ansible_collections.strata.overlay.plugins.module_utils._store.records import ContentRecord, dump
from ansible_collections.strata.overlay.plugins.module_utils._store.stage_layout import stage_layer, stage_writable
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store
from ansible_collections.strata.overlay.plugins.module_utils._store.transaction import transaction

_AnyFix = TypeVar("_AnyFix", bound=Fix)

ORIGIN = "found in the store by store_check"
"""What a rebuilt record says of where its content came from."""


def fix_places(store: Store, findings: Sequence[Finding]) -> None:
    """What has to be right before anything else can be done: the store's own directories."""
    fixes = _distinct(findings)
    for fix in _of(Keep, fixes):
        if fix.path in {finding.object for finding in findings if finding.kind in PLACES}:
            _keep(store, fix)
    store.prepare()


PLACES = ("directory_wrong", "short_links_replaced")


class Repairer:
    """Does what findings say. Call it with the store locked for changes; every step may be cut short."""

    def __init__(self, store: Store, workspace: str) -> None:
        self._store = store
        self._workspace = workspace

    def run(self, findings: Sequence[Finding]) -> None:
        """First what is in the way goes, then what is missing is made, from what it is derived from upwards."""
        fixes = _distinct(findings)
        for keep in _of(Keep, fixes):
            _keep(self._store, keep)
        for discard in _of(Discard, fixes):
            for path in discard.paths:
                if is_inside_store(self._store, path):
                    self._store.discard(f"{self._store.root}/{path}")
        if _of(MakeDirectories, fixes):
            self._store.prepare()
        self._record_contents(_of(RecordContent, fixes))
        self._rebuild(_of(RebuildLayer, fixes), _of(RebuildWritable, fixes))
        if _of(WriteTags, fixes):
            with transaction(self._store, self._workspace) as new:
                stage_repositories(self._store, new, {})
        if _of(Sweep, fixes):
            sweep(self._store)

    def _record_contents(self, fixes: Sequence[RecordContent]) -> None:
        with transaction(self._store, self._workspace) as new:
            for fix in fixes:
                tree = tree_digest(self._store.content(fix.diff_id))
                record = ContentRecord(fix.diff_id, tree.size, tree.entries, ORIGIN, now(), tree.allocated, tree.digest)
                new.write(self._store.content_file(fix.diff_id), dump(record))

    def _rebuild(self, layers: Sequence[RebuildLayer], writables: Sequence[RebuildWritable]) -> None:
        with transaction(self._store, self._workspace) as new:
            # Those with fewer below them first: each marks the one below as committed.
            for fix in sorted(layers, key=lambda fix: len(fix.layer.lower)):
                link = fix.layer
                if os.path.islink(self._store.layer(link.layer_id)):
                    continue  # it would be built wherever that leads
                record = self._store.content_record(link.diff_id)
                size = record.size if record else 0
                stage_layer(self._store, new, link, size, self._store.content(link.diff_id))
        with transaction(self._store, self._workspace) as new:
            for writable in writables:
                if os.path.islink(self._store.layer(writable.record.stack_id)):
                    continue
                stage_writable(self._store, new, writable.record)


def _distinct(findings: Sequence[Finding]) -> list[Fix]:
    """One fix may serve many findings."""
    return list(dict.fromkeys(finding.fix for finding in findings if finding.fix is not None))


def _of(kind: type[_AnyFix], fixes: Sequence[Fix]) -> list[_AnyFix]:
    return [fix for fix in fixes if isinstance(fix, kind)]


def is_inside_store(store: Store, path: str) -> bool:
    """Whether a path within the store can be moved: no directory on the way to it is a symbolic link."""
    parent = os.path.dirname(path)
    return not parent or store.is_own(parent)


def _keep(store: Store, fix: Keep) -> None:
    """Rename into strata/lost/, under the time and the name that it had; a link itself, not what it leads to."""
    path = f"{store.root}/{fix.path}"
    if not is_inside_store(store, fix.path) or not os.path.lexists(path):
        return
    if fix.inode and os.lstat(path).st_ino != fix.inode:
        return
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    name = f"{stamp}-{os.urandom(3).hex()}-{fix.path.replace('/', '-')}"[:200]
    os.rename(path, f"{_lost(store)}{name}")
    syscalls.syncfs(store.root)


def _lost(store: Store) -> str:
    """Where things are kept; beside the store's own directories where strata/ itself is what has to go."""
    if not store.is_own("strata"):
        return f"{store.root}/lost-"
    with contextlib.suppress(FileExistsError):
        os.mkdir(f"{store.root}/strata/lost", 0o700)
    return f"{store.root}/strata/lost/" if store.is_own("strata/lost") else f"{store.root}/lost-"
