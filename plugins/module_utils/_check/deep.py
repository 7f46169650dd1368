# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Rereads every content and finds those that are no longer what was imported.

It reads every byte, so it is slow, and takes no lock: contents never change, and one that goes meanwhile is skipped.
"""

from __future__ import annotations

import os
from typing import Optional

from ansible_collections.strata.overlay.plugins.module_utils._check.snapshot import Changed
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import DIFF_ID, SHA256
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError, error_text
from ansible_collections.strata.overlay.plugins.module_utils._layer.tree_digest import TreeDigest, tree_digest
from ansible_collections.strata.overlay.plugins.module_utils._store.records import ContentRecord
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store


def changed_contents(store: Store) -> dict[str, Changed]:
    """Contents that are not what their records say of their trees, by DiffID."""
    changed: dict[str, Changed] = {}
    if not store.is_own("content/sha256"):
        return changed
    for name in sorted(_listed(os.path.dirname(store.content(f"{SHA256}x")))):
        diff_id = SHA256 + name
        if DIFF_ID.match(diff_id):
            found = _content(store, diff_id)
            if found is not None:
                changed[diff_id] = found
    return changed


def _content(store: Store, diff_id: str) -> Optional[Changed]:
    path = store.content(diff_id)
    record = _sound_record(store, diff_id)
    try:
        now = tree_digest(path, record.imported if record else "")
    except (FileNotFoundError, NotADirectoryError):
        return None  # pruned meanwhile, or `_check/scan` reports it
    except OSError as error:
        return Changed(f"it cannot be read: {error_text(error)}", os.lstat(path).st_ino)
    if record is None or not record.has_digest or record.digest in (now.digest, now.with_all):
        return None  # `_check/scan` reports a record without a digest
    return Changed(f"its tree is another one than when it was imported{_which(now)}", now.inode)


def _sound_record(store: Store, diff_id: str) -> Optional[ContentRecord]:
    try:
        return store.content_record(diff_id)
    except StrataError:
        return None  # `_check/scan` reports it


def _which(now: TreeDigest) -> str:
    return f"; changed since then: {', '.join(repr(name) for name in now.later)}" if now.later else ""


def _listed(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
