# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Finishes and discards what interrupted runs left, before the next change.

Call it with the store locked for changes. Most of it lies in ``staging/``; but a writable layer gets its directory
before the stack's record has it, and its record of having been left before the stack has another one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import HEX_ID
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import is_directory, read_text
from ansible_collections.strata.overlay.plugins.module_utils._source.digest_cache import is_record
from ansible_collections.strata.overlay.plugins.module_utils._store.inspect_layout import discard_writable
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store


def sweep(store: Store) -> None:
    """Sweep everything but what a user wrote and what a mount uses."""
    store.sweep()
    sources = f"{store.root}/strata/sources"
    for name in os.listdir(sources) if is_directory(sources) else []:
        if not is_record(name):
            store.discard(f"{sources}/{name}")  # half-written
    with contextlib.suppress(StrataError):  # an unreadable record could belong to anything
        _sweep_detached_uppers(store)
        lost = list(_lost_writables(store))
        used = _used_layers(store) if lost else set()
        for stack_id in lost:
            if stack_id not in used:
                discard_writable(store, stack_id)


def _sweep_detached_uppers(store: Store) -> None:
    """Delete records of detached uppers whose stack kept them after all, or that are gone."""
    present = {record.stack_id for record in store.stacks().values()}
    for record in store.detached_uppers():
        if record.stack_id in present or not os.path.lexists(store.layer(record.stack_id)):
            store.discard(store.detached_file(record.stack_id))


def _lost_writables(store: Store) -> Iterator[str]:
    """Writable layers that no stack ever used, found by their records in layerdb."""
    known = {record.stack_id for record in [*store.stacks().values(), *store.detached_uppers()]}
    place = os.path.dirname(store.mountdb("x"))
    for name in sorted(os.listdir(place)) if is_directory(place) else []:
        # Of Docker's own containers the record has another name than the layer.
        ours = HEX_ID.match(name) and read_text(f"{store.mountdb(name)}/mount-id") == name
        if ours and name not in known and not _holds_anything(store.layer(name)):
            yield name


def _holds_anything(directory: str) -> bool:
    """Whether somebody may have written into a writable layer. A volatile one has its diff elsewhere, in memory."""
    try:
        return not os.path.islink(f"{directory}/diff") and bool(os.listdir(f"{directory}/diff"))
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _used_layers(store: Store) -> set[str]:
    # Imported only when needed: hardly ever.
    from ansible_collections.strata.overlay.plugins.module_utils._mount.namespaces import (
        mounts_everywhere,
        used_by_mounts,
    )

    return used_by_mounts(mounts_everywhere(), store.root).layers
