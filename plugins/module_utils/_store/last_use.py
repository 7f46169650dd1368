# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Records when objects were last needed, as modification times of their records."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Sequence

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import chain_ids
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store

_DAY = 86400


def names_are_used(store: Store, names: Iterable[str]) -> None:
    """Record that a run needs these names, at most once a day, so that unchanged runs only stat them."""
    yesterday = time.time() - _DAY
    for name in names:
        path = store.name_file(name)
        # A host that cannot be written to, or a name that is not there yet: nothing that this run is about.
        with contextlib.suppress(OSError):
            if os.stat(path).st_mtime < yesterday:
                os.utime(path)


def chain_was_used(store: Store, diff_ids: Sequence[str]) -> None:
    """Record that this chain was needed until now."""
    for diff_id in set(diff_ids):
        _touch(store.content_file(diff_id))
    for chain_id in chain_ids(diff_ids):
        _touch(store.layerdb(chain_id))


def names_were_used(store: Store, names: Iterable[str]) -> None:
    """Record that a stack needed these names until now."""
    for name in names:
        _touch(store.name_file(name))


def _touch(path: str) -> None:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.utime(path)
